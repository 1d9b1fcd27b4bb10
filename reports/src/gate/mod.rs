//! Verdicts on a comparison of two builds: every cell, their geometric mean, and absolute budgets.

mod findings;
mod output;
mod replay;
mod unpaired;

use std::collections::BTreeMap;

use trit_core::{
    Cell, Comparison, Limits, MEAN, Observed, PairedBlock, RunDir, RunDirError, Session, Status,
    SummaryRow, Violation, Workload, paired_blocks,
};
use trit_stats::judge::{
    CellBlocks, Estimate, Judgement, Judgements, Look, PairBlocks, Rule, Verdict, Why, by_process,
    judge,
};
use trit_stats::median;

pub use findings::{Finding, alarm_finding, alarms_explained, replay_findings};
pub use output::{gate_csv, gate_json, gate_junit, gate_markdown, gate_table};
pub use replay::{Replay, ReplayRow, replay};
pub(crate) use unpaired::check_measured;
pub use unpaired::{UnpairedError, gate_unpaired, read_summaries};

/// What is said about one cell. Effects are in percent of the base's time, above zero when the head is slower.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct GateCell {
    /// The cell, or [`MEAN`].
    pub cell: String,
    /// The verdict.
    #[serde(serialize_with = "name")]
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub why: String,
    /// The difference.
    pub change_percent: Option<f64>,
    /// Lower end of its interval.
    pub lo_percent: Option<f64>,
    /// Upper end.
    pub hi_percent: Option<f64>,
    /// The difference that the confirmation found.
    pub confirmed_percent: Option<f64>,
    /// One-sided p-value of "not slower", after Holm.
    pub p: Option<f64>,
    /// Smallest slowdown that would have been found with probability 0.9.
    pub detectable_percent: Option<f64>,
    /// Pairs of processes.
    pub processes: usize,
    /// Blocks that count.
    pub blocks: usize,
    /// Blocks that do not.
    pub discarded: usize,
    /// How many independent blocks they are worth.
    pub effective_blocks: Option<f64>,
    /// Median time of one call of the base.
    pub base_ns: Option<f64>,
    /// Of the head.
    pub head_ns: Option<f64>,
    /// Largest resident set of a process of the base that has only this cell open.
    pub base_rss_bytes: Option<u64>,
    /// Of the head.
    pub head_rss_bytes: Option<u64>,
    /// CPU time of the base, in percent of what the allowed CPUs offered.
    pub base_cpu_percent: Option<f64>,
    /// Of the head.
    pub head_cpu_percent: Option<f64>,
    /// Minimum effect.
    pub min_effect_percent: f64,
    /// Allowed slowdown.
    pub allowed_percent: f64,
}

// The signature is the one that serde asks for.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
fn name<S: serde::Serializer>(verdict: &Verdict, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(verdict.name())
}

/// A budget that was not kept.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct GateViolation {
    /// The cell.
    pub cell: String,
    /// The sentence.
    pub message: String,
}

/// Everything that a gate says.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct GateReport {
    /// What the base is.
    pub base: String,
    /// What the head is.
    pub head: String,
    /// Whether blocks of both were measured in turns.
    pub paired: bool,
    /// The cells, in the order of the record.
    pub cells: Vec<GateCell>,
    /// Their geometric mean.
    pub mean: Option<GateCell>,
    /// Budgets that were not kept.
    pub violations: Vec<GateViolation>,
    /// What the reader should know, a sentence each.
    pub notes: Vec<String>,
}

/// How a gate ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateEnd {
    /// Nothing to object to.
    Pass,
    /// A regression, or a limit that was not kept.
    Regression,
    /// Something is inconclusive, and that is not good enough.
    Inconclusive,
    /// A cell cannot be judged, or there is none.
    Invalid,
}

impl GateReport {
    /// Everything that has a verdict.
    pub fn judged(&self) -> impl Iterator<Item = &GateCell> {
        self.cells.iter().chain(&self.mean)
    }

    /// How the gate ends: a regression first, then what is invalid.
    pub fn end(&self, strict: bool) -> GateEnd {
        let any = |verdict| self.judged().any(|cell| cell.verdict == verdict);
        if any(Verdict::Regressed) || !self.violations.is_empty() {
            GateEnd::Regression
        } else if any(Verdict::Invalid) || self.cells.is_empty() {
            GateEnd::Invalid
        } else if strict && any(Verdict::Inconclusive) {
            GateEnd::Inconclusive
        } else {
            GateEnd::Pass
        }
    }
}

/// Why a record cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The record cannot be read.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// It holds no comparison.
    #[error(
        "`{0}` holds no comparison of two builds; hint: make one with `tritbench ab`, or compare two records with --baseline and --candidate"
    )]
    NoComparison(String),
    /// It is a recording.
    #[error(
        "`{0}` is a recording of {1} comparisons of the same build; hint: `tritbench selftest --from` judges it"
    )]
    Recording(String, u64),
}

/// A difference of logarithms in percent.
pub(crate) fn percent(log: f64) -> f64 {
    100.0 * log.exp_m1()
}

/// A percentage that went through logarithms, as it was written.
fn round(percent: f64) -> f64 {
    (percent * 1e6).round() / 1e6
}

/// The limits of a cell for the decision.
fn bounds(limits: &Limits, cell: &str) -> CellBlocks {
    let limits = limits.of(cell);
    CellBlocks {
        min_effect: (limits.min_effect_percent / 100.0).ln_1p(),
        allowed: (limits.allowed_slowdown_percent / 100.0).ln_1p(),
        ..CellBlocks::default()
    }
}

/// The blocks of one cell and round by their pair of processes.
pub(crate) fn pairs_of(blocks: &[PairedBlock], cell: &str, round: u64) -> Vec<PairBlocks> {
    let wanted = blocks
        .iter()
        .filter(|block| block.cell == cell && block.round == round);
    by_process(wanted.map(|block| (block.process as usize, block.ratios())))
}

/// The looks that were fixed.
fn plan(comparison: &Comparison) -> Vec<Look> {
    let look = |(pairs, share): &(u64, f64)| Look {
        pairs: *pairs as usize,
        share: *share,
    };
    comparison.looks.iter().map(look).collect()
}

/// Judges the record of a comparison.
///
/// # Errors
/// When it cannot be read, or is none.
pub fn gate_record(dir: &RunDir, limits: &Limits) -> Result<GateReport, GateError> {
    let session = dir.session()?;
    let path = || dir.path().display().to_string();
    let Some(comparison) = &session.comparison else {
        return Err(GateError::NoComparison(path()));
    };
    if comparison.pieces > 0 {
        return Err(GateError::Recording(path(), comparison.pieces));
    }
    let blocks = paired_blocks(&dir.measurements()?);
    let rows = dir.cells()?;
    Ok(gate_rows(&session, comparison, &rows, &blocks, limits))
}

/// Judges blocks.
fn gate_rows(
    session: &Session,
    comparison: &Comparison,
    rows: &[Cell],
    blocks: &[PairedBlock],
    limits: &Limits,
) -> GateReport {
    // A cell that was stopped with Ctrl-C has blocks and no final row.
    let has_blocks = |row: &Cell| blocks.iter().any(|block| block.cell == row.cell);
    let (measured, others): (Vec<&Cell>, Vec<&Cell>) = rows
        .iter()
        .filter(|row| row.workload != Workload::Control)
        .partition(|row| {
            has_blocks(row) && (row.status == Status::Ok || row.reason == trit_core::NOT_MEASURED)
        });
    let cells: Vec<CellBlocks> = measured
        .iter()
        .map(|row| CellBlocks {
            first: pairs_of(blocks, &row.cell, 0),
            second: pairs_of(blocks, &row.cell, 1),
            ..bounds(limits, &row.cell)
        })
        .collect();
    let mean = bounds(limits, MEAN);
    let control = pairs_of(blocks, &comparison.control, 0);
    let rule = Rule::default();
    let judged = judge(&cells, &mean, &control, &plan(comparison), &rule);
    let times = medians(blocks);
    let mut report = GateReport {
        base: build_name(&comparison.builds[0]),
        head: build_name(&comparison.builds[1]),
        paired: true,
        ..GateReport::default()
    };
    for ((row, judgement), limits) in measured.iter().zip(&judged.cells).zip(&cells) {
        let times = times.get(&row.cell).copied();
        report
            .cells
            .push(gate_cell(&row.cell, judgement, limits, times));
    }
    for row in others {
        // A cell that one build lacks is no fault; one that went wrong cannot be judged.
        if matches!(row.status, Status::Skipped | Status::OverLimit) {
            report
                .notes
                .push(format!("{}: {}: {}", row.status, row.cell, row.reason));
        } else {
            report.cells.push(invalid(
                &row.cell,
                format!("{}: {}", row.status, row.reason),
                limits,
            ));
        }
    }
    if cells.len() > 1 {
        report.mean = Some(gate_cell(MEAN, &judged.mean, &mean, None));
    }
    notes(session, comparison, &judged, &mut report);
    take(session, comparison, &mut report);
    budgets(&measured, limits, &mut report);
    report
}

fn build_name(build: &trit_core::Build) -> String {
    let short = |text: &str| text.get(..12).unwrap_or(text).to_owned();
    match (build.label.as_str(), build.revision.as_str()) {
        (label, "") => format!("{label} ({})", short(&build.sha256)),
        (label, revision) if revision.starts_with(label) => short(revision),
        (label, revision) => format!("{label} ({})", short(revision)),
    }
}

/// Median time of one call of the base and of the head.
fn medians(blocks: &[PairedBlock]) -> BTreeMap<String, [Option<f64>; 2]> {
    let mut all: BTreeMap<String, [Vec<f64>; 2]> = BTreeMap::new();
    for block in blocks.iter().filter(|block| block.discard.is_none()) {
        let [base, head] = all.entry(block.cell.clone()).or_default();
        base.extend(block.base_ns);
        head.extend(block.head_ns);
    }
    all.into_iter()
        .map(|(cell, times)| (cell, times.map(|times| median(&times))))
        .collect()
}

/// A cell that cannot be judged.
pub(crate) fn invalid(cell: &str, why: String, limits: &Limits) -> GateCell {
    let limits = limits.of(cell);
    GateCell {
        cell: cell.to_owned(),
        verdict: Verdict::Invalid,
        why,
        change_percent: None,
        lo_percent: None,
        hi_percent: None,
        confirmed_percent: None,
        p: None,
        detectable_percent: None,
        processes: 0,
        blocks: 0,
        discarded: 0,
        effective_blocks: None,
        base_ns: None,
        head_ns: None,
        base_rss_bytes: None,
        head_rss_bytes: None,
        base_cpu_percent: None,
        head_cpu_percent: None,
        min_effect_percent: limits.min_effect_percent,
        allowed_percent: limits.allowed_slowdown_percent,
    }
}

fn gate_cell(
    id: &str,
    judgement: &Judgement,
    limits: &CellBlocks,
    times: Option<[Option<f64>; 2]>,
) -> GateCell {
    let first = judgement.first.as_ref();
    let of = |get: fn(&Estimate) -> f64| first.map(get).map(percent);
    let [base_ns, head_ns] = times.unwrap_or_default();
    GateCell {
        cell: id.to_owned(),
        verdict: judgement.verdict,
        why: sentence(judgement, limits),
        change_percent: of(|estimate| estimate.effect),
        lo_percent: of(|estimate| estimate.interval.lo),
        hi_percent: of(|estimate| estimate.interval.hi),
        confirmed_percent: judgement
            .second
            .as_ref()
            .map(|second| percent(second.effect)),
        p: judgement.adjusted_p,
        detectable_percent: judgement.detectable.map(percent),
        processes: first.map_or(0, |first| first.pairs),
        blocks: first.map_or(counts(limits).0, |first| first.blocks),
        discarded: first.map_or(counts(limits).1, |first| first.discarded),
        effective_blocks: first.map(|first| first.effective_blocks),
        base_ns,
        head_ns,
        base_rss_bytes: None,
        head_rss_bytes: None,
        base_cpu_percent: None,
        head_cpu_percent: None,
        min_effect_percent: round(percent(limits.min_effect)),
        allowed_percent: round(percent(limits.allowed)),
    }
}

/// Blocks of the first phase that count, and that do not.
fn counts(cell: &CellBlocks) -> (usize, usize) {
    let kept = cell.first.iter().map(|pair| pair.kept.len()).sum();
    (kept, cell.first.iter().map(|pair| pair.discarded).sum())
}

/// Why a verdict is what it is, in words.
fn sentence(judgement: &Judgement, limits: &CellBlocks) -> String {
    let allowed = round(percent(limits.allowed));
    match judgement.why {
        Why::WithinAllowed => format!("slower by less than the allowed {allowed} %, if at all"),
        Why::Significant if judgement.verdict == Verdict::Improved => {
            "faster beyond chance".to_owned()
        }
        Why::Significant => "slower beyond chance, and again with fresh processes".to_owned(),
        Why::TooImprecise => format!(
            "a slowdown of more than {allowed} % is neither shown nor excluded; the smallest that would have been found is {:.1} %",
            judgement.detectable.map_or(f64::NAN, percent)
        ),
        Why::NotConfirmed => "slower at first, and not again with fresh processes".to_owned(),
        Why::Unconfirmed => "slower at first; it was not confirmed with fresh processes".to_owned(),
        Why::TooFewPairs => "too few pairs of processes were measured".to_owned(),
        Why::TooManyDiscarded => {
            let (kept, discarded) = counts(limits);
            format!("{discarded} of {} blocks were disturbed", kept + discarded)
        }
        Why::Control => {
            "the control cell differs between the builds, so something else does".to_owned()
        }
    }
}

fn notes(session: &Session, comparison: &Comparison, judged: &Judgements, report: &mut GateReport) {
    let notes = &mut report.notes;
    if judged.control.is_none() && judged.looks > 0 {
        notes.push("there is no control cell: a build lacks it".to_owned());
    }
    if judged.disturbed {
        notes.push("the control cell is the same code in both builds, and it differs".to_owned());
    }
    if comparison.builds[0].sha256 == comparison.builds[1].sha256 {
        notes.push("base and head are the same program".to_owned());
    }
    for (cell, [base, head]) in &comparison.added {
        notes.push(format!(
            "work was added to {cell} to test the gate: {base} % to the base, {head} % to the head"
        ));
    }
    if judged.looks == 0 && !comparison.ended.is_empty() {
        notes.push(format!(
            "it ended before the first look: {}",
            comparison.ended
        ));
    }
    notes.extend(session.plan.notes.iter().cloned());
}

/// What each side takes of each cell besides time.
fn take(session: &Session, comparison: &Comparison, report: &mut GateReport) {
    let cpus = session.machine.pointer("/limits/default_threads");
    let cpus = cpus.and_then(serde_json::Value::as_u64).unwrap_or(0);
    for cell in &mut report.cells {
        let Some([base, head]) = comparison.taken.get(&cell.cell) else {
            continue;
        };
        cell.base_rss_bytes = base.peak_rss_bytes;
        cell.head_rss_bytes = head.peak_rss_bytes;
        cell.base_cpu_percent = base.cpu_percent(cpus);
        cell.head_cpu_percent = head.cpu_percent(cpus);
    }
}

/// Absolute budgets of the head.
fn budgets(measured: &[&Cell], limits: &Limits, report: &mut GateReport) {
    let ids: Vec<&str> = measured.iter().map(|row| row.cell.as_str()).collect();
    for pattern in limits.unused(&ids) {
        if pattern != MEAN {
            report
                .notes
                .push(format!("no cell matches the limits of `{pattern}`"));
        }
    }
    for row in measured {
        let judged = report.cells.iter().find(|cell| cell.cell == row.cell);
        let call_ns = judged.and_then(|cell| cell.head_ns);
        let tokens = match row.workload {
            Workload::Decode => Some(row.batch.unwrap_or(1) as f64),
            Workload::Chat => Some(1.0),
            Workload::Prefill => row.prompt_tokens.map(|tokens| tokens as f64),
            _ => None,
        };
        let observed = Observed {
            latency_ms: call_ns.map(|ns| ns / 1e6),
            tokens_per_s: call_ns.zip(tokens).map(|(ns, tokens)| 1e9 * tokens / ns),
            rss_bytes: judged.and_then(|cell| cell.head_rss_bytes),
            cpu_percent: judged.and_then(|cell| cell.head_cpu_percent),
            ..Observed::default()
        };
        keep(limits, &row.cell, &observed, report);
    }
}

/// Judges the budgets of one cell.
pub(crate) fn keep(limits: &Limits, cell: &str, observed: &Observed, report: &mut GateReport) {
    let of_cell = limits.of(cell);
    let violation = |violation: Violation| GateViolation {
        cell: violation.cell.clone(),
        message: violation.to_string(),
    };
    report
        .violations
        .extend(of_cell.violated(cell, observed).into_iter().map(violation));
    for budget in of_cell.not_judged(observed) {
        report.notes.push(format!(
            "{cell}: {} was not measured, so {} is not judged",
            budget,
            budget.key()
        ));
    }
}

/// What was observed of a summary row.
pub(crate) fn observed(row: &SummaryRow) -> Observed {
    let results = &row.results;
    Observed {
        latency_ms: results.median_ns.map(|ns| ns / 1e6),
        tokens_per_s: results.tokens_per_s,
        rss_bytes: results.peak_rss_bytes,
        j_per_token: results.gross_j_per_token,
        ..Observed::default()
    }
}

#[cfg(test)]
mod tests;
