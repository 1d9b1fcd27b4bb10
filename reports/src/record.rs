//! A session as the reports about sessions read it.

use std::fs;

use trit_core::{PairRow, RunDir, Session, SummaryRow};

use crate::ReportError;
use crate::chart::Heading;
use crate::pairs::pair_rows;
use crate::summary::{Loaded, if_there, summarize_rows};

/// A session with its summary and its pairs.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// What stands on charts.
    pub heading: Heading,
    /// What was run, where, and with what.
    pub session: Session,
    /// A row a cell.
    pub rows: Vec<SummaryRow>,
    /// A row a pair.
    pub pairs: Vec<PairRow>,
}

impl Record {
    /// Reads a run directory. One that keeps no measurements, as a record may, is taken by its `summary.csv` and `pairs.csv`.
    ///
    /// # Errors
    /// When the session or a file of rows cannot be read, or is malformed.
    pub fn read(run: &RunDir) -> Result<Self, ReportError> {
        let session = run.session()?;
        let heading = Heading::new(&session, run.path());
        let has = |name: &str| fs::exists(run.path().join(name)).unwrap_or(false);
        let (rows, pairs) = if has("summary.csv") && !has("measurements.csv") {
            (run.read()?, if_there(run.read())?)
        } else {
            let loaded = Loaded::read(run)?;
            let rows = summarize_rows(&loaded.tables());
            let pairs = pair_rows(&rows, &loaded.measurements, &loaded.energy);
            (rows, pairs)
        };
        Ok(Self {
            heading,
            session,
            rows,
            pairs,
        })
    }
}
