//! The speed-up report.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use trit_core::{SummaryRow, Workload};
use trit_stats::geometric_mean;

use super::{Basis, Findings, Line, UnknownBaseline, charts, find};
use crate::chart::Figure;
use crate::compose::dense_format;
use crate::document::table;
use crate::facts;
use crate::labels;
use crate::record::Record;
use crate::sheet::{Paper, Sheet, number, text, whole};
use crate::summary::LEVEL;
use crate::units::{show_ns, show_rate, three};

/// Holds every kernel and engine configuration of a run against baselines: formats (`f16 f32 i8 q4`) or kernel ids; an empty list
/// takes every format that the run has. The same rows give the same bytes.
///
/// # Errors
/// When the run has no measured cell of a baseline that was asked for.
pub fn speedup_paper(record: &Record, baselines: &[String]) -> Result<Paper, UnknownBaseline> {
    let findings = find(record, baselines)?;
    let figures = charts::figures(&findings, record);
    Ok(Paper {
        name: "speedup",
        markdown: markdown(&findings, record, &figures),
        sheet: sheet(&findings.lines),
        short: short(&findings.lines),
        below: advice(&findings)
            .into_iter()
            .map(|line| line.replace('`', ""))
            .collect(),
        figures,
    })
}

fn ends_text(line: &Line<'_>) -> String {
    line.ends.map_or_else(String::new, |(lo, hi)| {
        format!("{} to {}", three(lo), three(hi))
    })
}

fn count(n: Option<u64>) -> String {
    n.map_or_else(String::new, |n| n.to_string())
}

fn share(line: &Line<'_>) -> String {
    line.roof.map_or_else(String::new, |roof| {
        format!(
            "{:.0} % of {}",
            roof.share * 100.0,
            if roof.memory { "bandwidth" } else { "peak" }
        )
    })
}

fn short(lines: &[Line<'_>]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let rows = lines
        .iter()
        .map(|line| {
            vec![
                line.subject.clone(),
                line.baseline.clone(),
                line.what.clone(),
                line.shape.clone(),
                count(line.threads),
                format!("{}x", three(line.ratio)),
                ends_text(line),
            ]
        })
        .collect();
    let header = vec![
        "subject", "against", "what", "shape", "thr:", "ratio:", "95 %:",
    ];
    (header, rows)
}

fn sheet(lines: &[Line<'_>]) -> Sheet {
    let rows = lines.iter().map(|line| {
        let cell = line.row.map(|row| &row.cell);
        let results = line.row.map(|row| &row.results);
        vec![
            line.what.as_str().into(),
            text(&line.shape),
            whole(cell.and_then(|cell| cell.rows)),
            whole(cell.and_then(|cell| cell.k)),
            whole(cell.and_then(|cell| cell.tokens)),
            text(cell.map_or("", |cell| cell.model.as_str())),
            whole(line.threads),
            line.subject.as_str().into(),
            line.baseline.as_str().into(),
            line.against.as_str().into(),
            number(Some(line.ratio)),
            number(line.ends.map(|ends| ends.0)),
            number(line.ends.map(|ends| ends.1)),
            line.basis.name().into(),
            number(Some(line.subject_ns)),
            number(Some(line.baseline_ns)),
            number(results.and_then(|results| results.tokens_per_s)),
            number(line.roof.map(|roof| roof.gops)),
            number(line.roof.map(|roof| roof.intensity)),
            number(line.roof.map(|roof| roof.limit_gops)),
            number(line.roof.map(|roof| roof.share)),
            text(
                line.roof
                    .map_or("", |roof| match (roof.memory, roof.paired) {
                        (true, true) => "bandwidth, pair",
                        (true, false) => "bandwidth, separate probe",
                        (false, true) => "peak, pair",
                        (false, false) => "peak, separate probe",
                    }),
            ),
        ]
    });
    Sheet {
        header: vec![
            "what",
            "shape",
            "rows",
            "k",
            "tokens",
            "model",
            "threads",
            "subject",
            "baseline",
            "baseline_kernel",
            "ratio",
            "lo",
            "hi",
            "basis",
            "subject_ns",
            "baseline_ns",
            "tokens_per_s",
            "gops",
            "ops_per_byte",
            "roof_gops",
            "roof_share",
            "roof",
        ],
        rows: rows.collect(),
    }
}

fn apart(first: &SummaryRow, second: &SummaryRow) -> bool {
    match (first.results.hi_ns, second.results.lo_ns) {
        (Some(hi), Some(lo)) => hi < lo,
        _ => false,
    }
}

fn is_ternary(row: &SummaryRow) -> bool {
    !row.cell.kernel.is_empty() && dense_format(&row.cell.kernel).is_none()
}

/// The ternary rows of each race, the fastest first.
fn ternary<'a>(findings: &Findings<'a>) -> Vec<Vec<&'a SummaryRow>> {
    let races = findings.races.iter().map(|race| {
        let rows = race.iter().copied().filter(|row| is_ternary(row));
        rows.collect::<Vec<_>>()
    });
    races.filter(|race| !race.is_empty()).collect()
}

/// Races by the ternary kernel that is first in them: alone, or not told apart from the next.
fn wins(findings: &Findings<'_>) -> Vec<Vec<String>> {
    // Alone, not told apart, and where.
    type Firsts = (usize, usize, BTreeMap<Workload, Vec<String>>);
    let mut kernels: BTreeMap<&str, Firsts> = BTreeMap::new();
    let races = ternary(findings);
    for race in races.iter().filter(|race| race.len() > 1) {
        let (Some(&first), Some(&second)) = (race.first(), race.get(1)) else {
            continue;
        };
        let entry = kernels.entry(labels::subject(&first.cell)).or_default();
        if apart(first, second) {
            entry.0 += 1;
        } else {
            entry.1 += 1;
        }
        let threads = first
            .cell
            .threads
            .map_or_else(String::new, |n| format!(" t{n}"));
        let place = format!("{}{threads}", labels::shape(&first.cell));
        entry.2.entry(first.cell.workload).or_default().push(place);
    }
    let mut kernels: Vec<_> = kernels.into_iter().collect();
    kernels.sort_by(|a, b| (b.1.0 + b.1.1).cmp(&(a.1.0 + a.1.1)).then(a.0.cmp(b.0)));
    kernels
        .into_iter()
        .map(|(kernel, (alone, shared, places))| {
            let places: Vec<String> = places
                .into_iter()
                .map(|(workload, places)| {
                    let shown = places
                        .iter()
                        .take(6)
                        .cloned()
                        .collect::<Vec<_>>()
                        .join(", ");
                    let more = places.len().saturating_sub(6);
                    let rest = if more > 0 {
                        format!(" and {more} more")
                    } else {
                        String::new()
                    };
                    format!("{workload}: {shown}{rest}")
                })
                .collect();
            vec![
                format!("`{kernel}`"),
                alone.to_string(),
                shared.to_string(),
                places.join("; "),
            ]
        })
        .collect()
}

/// The ternary kernel that is nearest to the fastest over all races of a workload on the most threads: the geometric mean of its
/// time over the fastest decides, among kernels that took part in all of them.
fn pick<'a>(findings: &Findings<'a>, workload: Workload) -> Option<(&'a str, f64, usize, u64)> {
    let races: Vec<Vec<&SummaryRow>> = ternary(findings)
        .into_iter()
        .filter(|race| race[0].cell.workload == workload && race[0].cell.threads.is_some())
        .collect();
    let threads = races.iter().filter_map(|race| race[0].cell.threads).max()?;
    let races: Vec<_> = races
        .into_iter()
        .filter(|race| race[0].cell.threads == Some(threads) && race.len() > 1)
        .collect();
    let mut behind: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for race in &races {
        let best = race[0].results.median_ns?;
        for row in race {
            let times = behind.entry(labels::subject(&row.cell)).or_default();
            times.push(row.results.median_ns? / best);
        }
    }
    let (kernel, mean) = behind
        .into_iter()
        .filter(|(_, times)| times.len() == races.len())
        .filter_map(|(kernel, times)| Some((kernel, geometric_mean(&times, LEVEL)?.mean)))
        .min_by(|a, b| a.1.total_cmp(&b.1))?;
    Some((kernel, mean, races.len(), threads))
}

/// What to take on this machine, in sentences that follow from the rows.
fn advice(findings: &Findings<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for (workload, when) in [
        (Workload::GemvCold, "One token at a time (gemv-cold)"),
        (Workload::Gemm, "Several tokens (gemm)"),
        (Workload::Decode, "Whole models, decode"),
        (Workload::Prefill, "Whole models, prefill"),
    ] {
        let Some((kernel, mean, races, threads)) = pick(findings, workload) else {
            continue;
        };
        let of = if races == 1 {
            "the one comparison".to_owned()
        } else {
            format!("the geometric mean of {races} comparisons")
        };
        let behind = (mean - 1.0) * 100.0;
        let how = if behind < 0.05 {
            "the fastest".to_owned()
        } else {
            format!("within {} % of the fastest", three(behind))
        };
        lines.push(format!(
            "{when}: `{kernel}` on {}, {how} in {of}.",
            labels::threads(threads)
        ));
    }
    for workload in [Workload::GemvCold, Workload::Gemm, Workload::Decode] {
        lines.extend(scaling(findings, workload));
    }
    if lines.is_empty() {
        lines.push("The run has fewer than two ternary kernels for each workload: there is nothing to choose between.".to_owned());
    }
    lines
}

/// Which thread count was fastest, where the best row of a shape has several.
fn scaling(findings: &Findings<'_>, workload: Workload) -> Option<String> {
    let mut shapes: BTreeMap<String, Vec<&SummaryRow>> = BTreeMap::new();
    for race in ternary(findings) {
        if race[0].cell.workload == workload {
            shapes
                .entry(labels::shape(&race[0].cell))
                .or_default()
                .push(race[0]);
        }
    }
    let mut fastest: BTreeMap<u64, usize> = BTreeMap::new();
    for rows in shapes.values().filter(|rows| rows.len() > 1) {
        let time = |row: &SummaryRow| row.results.median_ns.unwrap_or(f64::INFINITY);
        let best = rows.iter().min_by(|a, b| time(a).total_cmp(&time(b)))?;
        *fastest.entry(best.cell.threads?).or_default() += 1;
    }
    let all: usize = fastest.values().sum();
    let (threads, often) = fastest.into_iter().max_by_key(|(_, often)| *often)?;
    Some(format!(
        "Threads for {workload}: {} fastest for {often} of {all} shapes.",
        if threads == 1 {
            "1 is".to_owned()
        } else {
            format!("{threads} are")
        }
    ))
}

fn lines_table<'l, 'a: 'l>(lines: impl Iterator<Item = &'l Line<'a>>) -> String {
    let rows: Vec<Vec<String>> = lines
        .map(|line| {
            let results = line.row.map(|row| &row.results);
            vec![
                format!("`{}`", line.subject),
                format!("`{}`", line.against),
                line.shape.clone(),
                count(line.threads),
                format!("{}x", three(line.ratio)),
                ends_text(line),
                line.basis.name().to_owned(),
                show_ns(line.subject_ns),
                show_ns(line.baseline_ns),
                results
                    .and_then(|results| results.tokens_per_s)
                    .map_or_else(String::new, show_rate),
                share(line),
            ]
        })
        .collect();
    table(
        &[
            "subject",
            "against",
            "shape",
            "threads:",
            "ratio:",
            "95 %:",
            "from",
            "subject:",
            "baseline:",
            "tokens/s:",
            "roof:",
        ],
        &rows,
    )
}

fn markdown(findings: &Findings<'_>, record: &Record, figures: &[(String, Figure)]) -> String {
    let session = &record.session;
    let mut out = String::from("# Speed-up by ternary weights\n\n");
    let _ = writeln!(out, "- Machine: {}", facts::machine_line(session));
    let _ = writeln!(out, "- When: {}", session.started_utc);
    let _ = writeln!(out, "- Session: {}", record.heading.session);
    if facts::debug_build(session) {
        out.push_str(
            "- Warning: the program was built with debug assertions, so its times mean nothing\n",
        );
    }
    if findings.lines.is_empty() {
        out.push_str("- No cell of the run has a baseline beside it: `tritbench run claims-run` and `tritbench run quick` measure some\n");
    }
    out.push_str("\n## What to take on this machine\n\n");
    for line in advice(findings) {
        let _ = writeln!(out, "- {line}");
    }
    let wins = wins(findings);
    if !wins.is_empty() {
        out.push_str("\n## Where each ternary kernel is first\n\n");
        out.push_str(&table(
            &["kernel", "alone:", "not told apart:", "where"],
            &wins,
        ));
        out.push_str("\nBy separate medians of the same workload, shape and threads; \"not told apart\" where the 95 % interval overlaps that of the next, or one is missing.\n");
    }
    let composed = |line: &&Line<'_>| {
        matches!(
            line.basis,
            Basis::LinearPairs | Basis::LinearMedians | Basis::Bound
        )
    };
    if findings.lines.iter().any(|line| composed(&line)) {
        out.push_str("\n## Model sizes\n\n");
        out.push_str(&lines_table(findings.lines.iter().filter(composed)));
        out.push_str("\nThe matrices of one token from memory, weighed by how often a token needs them, and the half-precision head on both sides where the run has it. Baselines run no whole models: a decode row is held against the matrices of the baseline alone, so that its ratio is the least that it can be.\n");
    }
    let mut workloads: Vec<Workload> = Vec::new();
    for line in findings.lines.iter().filter(|line| !composed(line)) {
        if !workloads.contains(&line.workload) {
            workloads.push(line.workload);
        }
    }
    for workload in workloads {
        let _ = write!(out, "\n## {workload}\n\n");
        let here = findings.lines.iter();
        let here = here.filter(|line| !composed(line) && line.workload == workload);
        out.push_str(&lines_table(here));
    }
    if !figures.is_empty() {
        let _ = write!(out, "\n## Charts\n\n{}", Paper::links(figures));
    }
    out.push_str("\n## How to read this\n\n");
    out.push_str("A ratio is the time of the baseline over that of the subject: above 1 the subject is faster. `pair`: both took turns in ABBA slices, Hodges-Lehmann over the blocks with its 95 % interval; such a ratio holds. `separate medians`: the cells ran at different times, and drift between them is part of the ratio; the interval joins those of the two medians in quadrature on the log scale. A format stands for its fastest kernel in the same place. The roof is the lower of the arithmetic peak and of bandwidth times operations a byte; its share comes from pairs with a probe where the run has them, else from the fastest probe of the session, and weights in cache have none.\n");
    out
}
