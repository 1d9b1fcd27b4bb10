//! How many times as fast ternary weights are as dense ones on a machine, where each kernel wins, and what to take.

mod charts;
mod paper;
pub(crate) mod roof;

use std::collections::BTreeMap;

use trit_core::{
    ModelShape, PairQuantity, PairRow, SummaryRow, Workload, embedded_shape, shape_names,
};

pub use paper::speedup_paper;

use self::roof::{Roof, Roofline};
use crate::chart::Figure;
use crate::compare;
use crate::compose::{Linears, Token, dense_format, paired};
use crate::labels;
use crate::markdown::{races, ranked};
use crate::record::Record;

/// Formats that kernels are held against unless a user says otherwise.
const BASELINES: [&str; 4] = ["f16", "f32", "i8", "q4"];

/// Why there is no report about baselines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no measured cell of the run is by the baseline `{baseline}`; hint: the run has {}",
    if known.is_empty() { "no kernels".to_owned() } else { known.join(" ") }
)]
pub struct UnknownBaseline {
    baseline: String,
    known: Vec<String>,
}

/// What a ratio was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    /// ABBA blocks of one worker.
    Pair,
    /// Two separate medians.
    Medians,
    /// The matrices of a token, each from pairs.
    LinearPairs,
    /// The matrices of a token, some from separate medians.
    LinearMedians,
    /// A whole model against the matrices of the baseline alone: at least this much.
    Bound,
}

impl Basis {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Medians => "separate medians",
            Self::LinearPairs => "linears, pairs",
            Self::LinearMedians => "linears, separate medians",
            Self::Bound => "whole model against linears: at least",
        }
    }
}

/// One subject against one baseline.
#[derive(Clone, Debug)]
pub(crate) struct Line<'a> {
    /// What was done, in words: the workload, or `linears of a token`.
    pub(crate) what: String,
    pub(crate) workload: Workload,
    /// The shape, or the model.
    pub(crate) shape: String,
    pub(crate) threads: Option<u64>,
    pub(crate) subject: String,
    /// What was asked for: a format or a kernel.
    pub(crate) baseline: String,
    /// The kernel that stands for it.
    pub(crate) against: String,
    pub(crate) ratio: f64,
    pub(crate) ends: Option<(f64, f64)>,
    pub(crate) basis: Basis,
    pub(crate) subject_ns: f64,
    pub(crate) baseline_ns: f64,
    /// The row of the subject; nothing for a token put together.
    pub(crate) row: Option<&'a SummaryRow>,
    pub(crate) roof: Option<Roof>,
}

/// Everything that the report tells.
pub(crate) struct Findings<'a> {
    pub(crate) lines: Vec<Line<'a>>,
    pub(crate) races: Vec<Vec<&'a SummaryRow>>,
    pub(crate) roofline: Roofline,
}

/// Whether a row is by a baseline: a format, or a kernel by its id.
fn is_by(row: &SummaryRow, baseline: &str) -> bool {
    row.cell.kernel == baseline || dense_format(&row.cell.kernel) == Some(baseline)
}

fn known(rows: &[SummaryRow]) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    for row in rows.iter().filter(|row| ranked(row)) {
        let kernel = &row.cell.kernel;
        if let Some(format) = dense_format(kernel).map(str::to_owned)
            && !known.contains(&format)
        {
            known.push(format);
        }
        if !kernel.is_empty() && !known.contains(kernel) {
            known.push(kernel.clone());
        }
    }
    known
}

/// The charts of ratios that the report of a session has: against the first of the usual formats that was measured.
pub(crate) fn bars_of_session(record: &Record) -> Vec<(String, Figure)> {
    let found: Vec<&str> = BASELINES
        .into_iter()
        .filter(|format| has(record, format))
        .collect();
    let Some((first, others)) = found.split_first() else {
        return Vec::new();
    };
    let findings = hold(record, &[first]);
    let mut figures = charts::ratios(&findings, record);
    if !others.is_empty() {
        for (_, figure) in &mut figures {
            figure.notes.push(format!(
                "tritbench report speedup has the same against {}.",
                others.join(", ")
            ));
        }
    }
    figures
}

/// Rows under the roof of the machine; nothing without a read probe on as many threads as a kernel.
pub(crate) fn roofline(record: &Record) -> Option<Figure> {
    charts::roofs(&Roofline::new(&record.session), record)
}

/// Holds the rows of a session against baselines; without a choice against every dense format there is.
pub(crate) fn find<'a>(
    record: &'a Record,
    chosen: &[String],
) -> Result<Findings<'a>, UnknownBaseline> {
    if let Some(unknown) = chosen.iter().find(|baseline| !has(record, baseline)) {
        return Err(UnknownBaseline {
            baseline: unknown.clone(),
            known: known(&record.rows),
        });
    }
    let baselines: Vec<&str> = if chosen.is_empty() {
        BASELINES
            .into_iter()
            .filter(|name| has(record, name))
            .collect()
    } else {
        chosen.iter().map(String::as_str).collect()
    };
    Ok(hold(record, &baselines))
}

fn has(record: &Record, baseline: &str) -> bool {
    let mut rows = record.rows.iter();
    rows.any(|row| ranked(row) && is_by(row, baseline))
}

fn hold<'a>(record: &'a Record, baselines: &[&str]) -> Findings<'a> {
    let speed = record
        .pairs
        .iter()
        .filter(|pair| pair.quantity == PairQuantity::SpeedUp);
    let pairs: BTreeMap<(&str, &str), &PairRow> = speed
        .map(|pair| ((pair.a.as_str(), pair.b.as_str()), pair))
        .collect();
    let races = races(&record.rows);
    let roofline = Roofline::new(&record.session);
    let mut lines = Vec::new();
    for race in &races {
        for baseline in baselines {
            // A race is in the order of speed: the first is the fastest of its format.
            let Some(base) = race.iter().find(|row| is_by(row, baseline)) else {
                continue;
            };
            for row in race.iter().filter(|row| !is_by(row, baseline)) {
                lines.extend(line(row, base, baseline, &pairs, &roofline));
            }
        }
    }
    let linears = Linears::new(&record.rows, &record.pairs);
    for shape in shape_names().into_iter().filter_map(embedded_shape) {
        lines.extend(tokens(&linears, shape, baselines, &record.rows));
    }
    Findings {
        lines,
        races,
        roofline,
    }
}

fn line<'a>(
    row: &'a SummaryRow,
    base: &SummaryRow,
    baseline: &str,
    pairs: &BTreeMap<(&str, &str), &PairRow>,
    roofline: &Roofline,
) -> Option<Line<'a>> {
    let (ratio, ends, basis) = if let Some((ratio, ends)) = paired(pairs, row, base) {
        (ratio, ends, Basis::Pair)
    } else {
        let found = compare::ratio(row, base)?;
        (found.ratio, found.interval, Basis::Medians)
    };
    Some(Line {
        what: row.cell.workload.name().to_owned(),
        workload: row.cell.workload,
        shape: labels::shape(&row.cell),
        threads: row.cell.threads,
        subject: labels::subject(&row.cell).to_owned(),
        baseline: baseline.to_owned(),
        against: labels::subject(&base.cell).to_owned(),
        ratio,
        ends,
        basis,
        subject_ns: row.results.median_ns?,
        baseline_ns: base.results.median_ns?,
        row: Some(row),
        roof: roofline.of(row),
    })
}

/// The matrices of one token of a model, and whole models against them.
fn tokens<'a>(
    linears: &Linears<'a>,
    shape: &ModelShape,
    baselines: &[&str],
    rows: &'a [SummaryRow],
) -> Vec<Line<'a>> {
    let tokens = linears.tokens(shape);
    let mut lines = Vec::new();
    let by = |token: &Token<'_>, baseline: &str| {
        token.kernel == baseline || dense_format(token.kernel) == Some(baseline)
    };
    for baseline in baselines {
        let mut seen: Vec<u64> = Vec::new();
        // The fastest of a format on each number of threads: tokens are in the order of speed.
        for base in tokens.iter().filter(|token| by(token, baseline)) {
            if seen.contains(&base.threads) {
                continue;
            }
            seen.push(base.threads);
            let others = tokens.iter().filter(|token| {
                token.threads == base.threads
                    && !by(token, baseline)
                    && dense_format(token.kernel).is_none()
            });
            for token in others {
                let Some(factor) = linears.speed_up(token, base) else {
                    continue;
                };
                lines.push(Line {
                    what: if token.head.is_some() {
                        "linears and head of a token"
                    } else {
                        "linears of a token"
                    }
                    .to_owned(),
                    workload: Workload::GemvCold,
                    shape: shape.name.clone(),
                    threads: Some(token.threads),
                    subject: token.kernel.to_owned(),
                    baseline: (*baseline).to_owned(),
                    against: base.kernel.to_owned(),
                    ratio: factor.value,
                    ends: factor.interval.map(|i| (i.lo, i.hi)),
                    basis: if factor.paired {
                        Basis::LinearPairs
                    } else {
                        Basis::LinearMedians
                    },
                    subject_ns: token.ns(),
                    baseline_ns: base.ns(),
                    row: None,
                    roof: None,
                });
            }
            lines.extend(whole(shape, base, baseline, rows));
        }
    }
    lines
}

/// Whole models that generate: their baseline takes at least the time of its matrices.
fn whole<'a>(
    shape: &ModelShape,
    base: &Token<'_>,
    baseline: &str,
    rows: &'a [SummaryRow],
) -> Vec<Line<'a>> {
    let of_shape = rows.iter().filter(|row| {
        ranked(row)
            && row.cell.workload == Workload::Decode
            && row.cell.linear_weights == Some(shape.linear_weights())
            && row.cell.batch.unwrap_or(1) == 1
            && row.cell.threads == Some(base.threads)
    });
    let lines = of_shape.filter_map(|row| {
        let results = &row.results;
        let (median, base_ns) = (results.median_ns?, base.ns());
        let ends = results.lo_ns.zip(results.hi_ns).filter(|(lo, _)| *lo > 0.0);
        let ends = ends.zip(base.spread()).map(|((lo, hi), (down, up))| {
            let (faster, slower) = ((median / lo).ln(), (hi / median).ln());
            let ratio = base_ns / median;
            (
                ratio * (-down.hypot(slower)).exp(),
                ratio * up.hypot(faster).exp(),
            )
        });
        Some(Line {
            what: row.cell.workload.name().to_owned(),
            workload: Workload::Decode,
            shape: labels::shape(&row.cell),
            threads: row.cell.threads,
            subject: labels::subject(&row.cell).to_owned(),
            baseline: baseline.to_owned(),
            against: base.kernel.to_owned(),
            ratio: base_ns / median,
            ends,
            basis: Basis::Bound,
            subject_ns: median,
            baseline_ns: base_ns,
            row: Some(row),
            roof: None,
        })
    });
    lines.collect()
}
