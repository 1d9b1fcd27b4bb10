//! All files of a report from one reading of the rows.

use std::path::PathBuf;

use trit_core::{RunDir, SummaryRow};

use crate::ReportError;
use crate::chart::{self, Album};
use crate::{html, markdown, summary};

/// Writes everything that is derived from the rows of a run directory: `summary.csv`, `pairs.csv`, the charts, `report.md` and
/// `report.html`. Gives the summary and the paths of the SVG files. The rows are read once.
///
/// # Errors
/// When a file of the directory cannot be read or is malformed, or one cannot be written.
pub fn write_all(run: &RunDir) -> Result<(Vec<SummaryRow>, Vec<PathBuf>), ReportError> {
    let album = Album::read(run)?;
    summary::write(run, &album.record.rows, &album.record.pairs)?;
    let charts = chart::save(&album.figures, &run.path().join("charts"))?;
    markdown::write(run, &album)?;
    html::write(run, &album)?;
    Ok((album.record.rows, charts))
}
