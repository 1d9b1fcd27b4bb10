//! A gate on two records that were not measured in turns. The speed of a machine between two runs differs by more than
//! the changes one looks for, so this says much less, and says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use trit_core::{Limits, RunDir, RunDirError, Status, SummaryRow, Workload, read_rows};
use trit_stats::judge::Verdict;

use super::{GateCell, GateReport, invalid, keep, observed, percent};
use crate::ReportError;
use crate::compare::{key, ratio};
use crate::record::Record;

/// How much the speed of a shared machine may differ between two runs without any change: on the virtual machine of
/// `METHODOLOGY.md` it stepped by 15 to 25 % within seconds to minutes.
const DRIFT: f64 = 0.25;

/// Why two records cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum UnpairedError {
    /// A file cannot be read.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// A run directory cannot be read.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// It holds nothing that could be compared.
    #[error("`{}` holds no measured cell; hint: a run directory, or its summary.csv", .0.display())]
    Empty(PathBuf),
    /// A number that no measurement gives.
    #[error("`{}`: cell `{cell}`: median_ns is {value}; hint: a measured time is a number above 0", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The cell.
        cell: String,
        /// What stands there.
        value: f64,
    },
    /// No cell of one is in the other.
    #[error("`{}` and `{}` have no cell in common; hint: run the same suite for both", .0.display(), .1.display())]
    NothingInCommon(PathBuf, PathBuf),
}

impl UnpairedError {
    /// Whether the content of a file is at fault, and not the system.
    pub fn is_content(&self) -> bool {
        match self {
            Self::RunDir(error) => error.is_content(),
            Self::Report(error) => error.is_content(),
            _ => true,
        }
    }
}

/// Reads the summary of a run directory or of a CSV file.
///
/// # Errors
/// When it cannot be read, holds no measured cell, or a time that is none.
pub fn read_summaries(path: &Path) -> Result<Vec<SummaryRow>, UnpairedError> {
    let rows = if path.is_dir() {
        Record::read(&RunDir::open(path)?)?.rows
    } else {
        read_rows::<SummaryRow>(path)?
    };
    check_measured(path, &rows)?;
    Ok(rows)
}

/// Whether the rows of a file hold something measured, and no time that is none.
pub(crate) fn check_measured(path: &Path, rows: &[SummaryRow]) -> Result<(), UnpairedError> {
    for row in rows {
        if let Some(value) = row.results.median_ns.filter(|ns| ns.is_nan() || *ns <= 0.0) {
            return Err(UnpairedError::Value {
                path: path.to_owned(),
                cell: row.cell.cell.clone(),
                value,
            });
        }
    }
    if !rows.iter().any(measured) {
        return Err(UnpairedError::Empty(path.to_owned()));
    }
    Ok(())
}

fn measured(row: &SummaryRow) -> bool {
    row.cell.status == Status::Ok
        && row.results.median_ns.is_some()
        && !matches!(row.cell.workload, Workload::Read | Workload::Peak)
}

/// Judges a candidate by a baseline, both as read from the named files.
///
/// # Errors
/// When they have no cell in common.
pub fn gate_unpaired(
    (base_path, base): (&Path, &[SummaryRow]),
    (head_path, head): (&Path, &[SummaryRow]),
    limits: &Limits,
) -> Result<GateReport, UnpairedError> {
    let mut report = GateReport {
        base: base_path.display().to_string(),
        head: head_path.display().to_string(),
        ..GateReport::default()
    };
    let mut common = 0;
    // Of several rows with the same keys the last counts.
    let of_head: BTreeMap<Vec<String>, &SummaryRow> =
        head.iter().map(|row| (key(&row.cell), row)).collect();
    for row in base.iter().filter(|row| measured(row)) {
        let other = of_head.get(&key(&row.cell)).copied();
        let id = &row.cell.cell;
        match other {
            Some(other) if measured(other) => {
                common += 1;
                report.cells.push(judged(row, other, limits));
                keep(limits, id, &observed(other), &mut report);
            }
            Some(other) => {
                let why = format!(
                    "{} in the candidate: {}",
                    other.cell.status, other.cell.reason
                );
                report.cells.push(invalid(id, why, limits));
            }
            None => report.cells.push(invalid(
                id,
                "the candidate has no such cell".to_owned(),
                limits,
            )),
        }
    }
    if common == 0 {
        return Err(UnpairedError::NothingInCommon(
            base_path.to_owned(),
            head_path.to_owned(),
        ));
    }
    let of_base: BTreeSet<Vec<String>> = base.iter().map(|row| key(&row.cell)).collect();
    for row in head.iter().filter(|row| measured(row)) {
        if !of_base.contains(&key(&row.cell)) {
            report
                .notes
                .push(format!("the baseline lacks {}", row.cell.cell));
        }
    }
    report.notes.push(format!(
        "not paired: both ran at different times, between which an unchanged program may differ by {:.0} % on a shared machine; \
         only `tritbench ab` can tell smaller changes from that",
        100.0 * DRIFT
    ));
    Ok(report)
}

/// Slower only beyond any drift; passed only when even the interval within the sessions is below what is allowed and no drift
/// upward is seen that could hide a slowdown.
fn judged(base: &SummaryRow, head: &SummaryRow, limits: &Limits) -> GateCell {
    let id = &base.cell.cell;
    let mut cell = invalid(id, String::new(), limits);
    cell.base_ns = base.results.median_ns;
    cell.head_ns = head.results.median_ns;
    cell.blocks = head.results.n.unwrap_or(0).min(base.results.n.unwrap_or(0)) as usize;
    let Some(found) = ratio(base, head) else {
        "a median is missing".clone_into(&mut cell.why);
        return cell;
    };
    cell.change_percent = Some(percent(found.ratio.ln()));
    let Some((lo, hi)) = found.interval else {
        cell.verdict = Verdict::Inconclusive;
        "too few samples for an interval".clone_into(&mut cell.why);
        return cell;
    };
    cell.lo_percent = Some(percent(lo.ln()));
    cell.hi_percent = Some(percent(hi.ln()));
    cell.detectable_percent =
        Some(100.0 * ((1.0 + cell.allowed_percent / 100.0) * (1.0 + DRIFT) - 1.0));
    let allowed = 1.0 + cell.allowed_percent / 100.0;
    (cell.verdict, cell.why) = if lo > allowed * (1.0 + DRIFT) {
        (
            Verdict::Regressed,
            "slower by more than drift between runs explains".to_owned(),
        )
    } else if hi * (1.0 + DRIFT) < 1.0 - cell.min_effect_percent / 100.0 {
        (
            Verdict::Improved,
            "faster by more than drift between runs explains".to_owned(),
        )
    } else if hi < allowed && lo > 1.0 / allowed {
        (
            Verdict::Passed,
            "within the allowed slowdown, as far as two runs can tell".to_owned(),
        )
    } else {
        (
            Verdict::Inconclusive,
            "drift between the runs may be the reason".to_owned(),
        )
    };
    cell
}
