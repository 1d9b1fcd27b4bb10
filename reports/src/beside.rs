//! Our engine beside programs that are not ours: both were visited once a round, so that a ratio of each round cancels what the
//! machine did meanwhile.

use std::collections::BTreeMap;

use trit_core::{Measurement, PairQuantity, PairRow, Side, SummaryRow, Workload};
use trit_stats::{Interval, median, median_interval};

use crate::document::Table;
use crate::labels;
use crate::markdown::ranked;
use crate::pairs::independent;
use crate::summary::LEVEL;
use crate::units::{show_bytes, show_rate, three};

/// Heads that keep all of what an f16 head says (`f16-top`: of greedy text, which is what is generated here); nothing is said of a program
/// whose head is not known, and files come with f16.
const EXACT_HEADS: [&str; 5] = ["", "f16", "f16-plain", "f16-top", "f32"];
/// Where a program begins to generate may be off by so many positions: it begins with an empty cache, ours behind one token.
const APART: u64 = 1;

fn is_program(row: &SummaryRow) -> bool {
    row.cell.subject.starts_with("program:")
}

/// Whether both do the same work: model, lengths and threads are the same, and both heads are exact or both small.
fn comparable(ours: &SummaryRow, theirs: &SummaryRow) -> bool {
    let (a, b) = (&ours.cell, &theirs.cell);
    let exact = |head: &str| EXACT_HEADS.contains(&head);
    let work = match a.workload {
        Workload::Prefill => a.prompt_tokens == b.prompt_tokens && a.depth == b.depth,
        Workload::Decode => {
            let start = a.depth.unwrap_or(0) + a.prompt_tokens.unwrap_or(0);
            a.gen_tokens == b.gen_tokens && start.abs_diff(b.depth.unwrap_or(0)) <= APART
        }
        _ => false,
    };
    work && a.workload == b.workload
        && a.model == b.model
        && a.threads == b.threads
        && a.batch.unwrap_or(1) == b.batch.unwrap_or(1)
        && a.prompt.is_empty()
        && exact(&a.head) == exact(&b.head)
}

/// Mean time of a call in each round of each cell, for cells that are measured by themselves.
fn by_round(measurements: &[Measurement]) -> BTreeMap<&str, BTreeMap<u64, f64>> {
    let mut sums: BTreeMap<&str, BTreeMap<u64, (f64, f64)>> = BTreeMap::new();
    let alone = |row: &&Measurement| row.side == Side::Alone && row.iterations > 0;
    for row in measurements.iter().filter(alone) {
        let rounds = sums.entry(&row.cell).or_default();
        let sum = rounds.entry(row.round).or_default();
        sum.0 += row.time_ns as f64;
        sum.1 += row.iterations as f64;
    }
    let mean = |rounds: BTreeMap<u64, (f64, f64)>| {
        let means = rounds.into_iter().filter(|(_, (ns, _))| *ns > 0.0);
        means.map(|(round, (ns, calls))| (round, ns / calls))
    };
    sums.into_iter()
        .map(|(cell, rounds)| (cell, mean(rounds).collect()))
        .collect()
}

/// A row for each of our cells and each program that did the same work; ours is side A.
pub(crate) fn rows(rows: &[SummaryRow], measurements: &[Measurement]) -> Vec<PairRow> {
    if !rows.iter().any(is_program) {
        return Vec::new();
    }
    let times = by_round(measurements);
    let mut found = Vec::new();
    for ours in rows.iter().filter(|row| ranked(row) && !is_program(row)) {
        for theirs in rows.iter().filter(|row| ranked(row) && is_program(row)) {
            if !comparable(ours, theirs) {
                continue;
            }
            let (id, other) = (ours.cell.cell.as_str(), theirs.cell.cell.as_str());
            let Some((a, b)) = times.get(id).zip(times.get(other)) else {
                continue;
            };
            let rounds = a.iter().filter_map(|(round, ns)| Some((ns, b.get(round)?)));
            let logs: Vec<f64> = rounds.map(|(ours, theirs)| (theirs / ours).ln()).collect();
            let Some(middle) = median(&logs) else {
                continue;
            };
            let interval: Option<Interval> = median_interval(&independent(&logs), LEVEL);
            found.push(PairRow {
                a: id.to_owned(),
                b: other.to_owned(),
                subject: labels::subject(&ours.cell).to_owned(),
                against: theirs.cell.subject.clone(),
                workload: ours.cell.workload,
                threads: ours.cell.threads,
                quantity: PairQuantity::Program,
                blocks: logs.len() as u64,
                ratio: Some(middle.exp()),
                lo: interval.map(|interval| interval.lo.exp()),
                hi: interval.map(|interval| interval.hi.exp()),
                ..PairRow::default()
            });
        }
    }
    found
}

/// Ours against each program, the one that comes nearest first.
pub(crate) fn table(rows: &[SummaryRow], pairs: &[PairRow]) -> Option<Table> {
    let by_id: BTreeMap<&str, &SummaryRow> = rows
        .iter()
        .map(|row| (row.cell.cell.as_str(), row))
        .collect();
    let mut lines = Vec::new();
    for ours in rows {
        let mut held: Vec<(&PairRow, &SummaryRow)> = pairs
            .iter()
            .filter(|pair| pair.quantity == PairQuantity::Program && pair.a == ours.cell.cell)
            .filter_map(|pair| Some((pair, *by_id.get(pair.b.as_str())?)))
            .collect();
        held.sort_by(|(a, _), (b, _)| {
            let ratio = |pair: &PairRow| pair.ratio.unwrap_or(f64::INFINITY);
            ratio(a).total_cmp(&ratio(b))
        });
        lines.extend(
            held.into_iter()
                .map(|(pair, theirs)| line(ours, theirs, pair)),
        );
    }
    let header = [
        "workload",
        "ours",
        "threads:",
        "program",
        "answer",
        "tokens/s:",
        "its:",
        "ratio:",
        "95 %:",
        "rounds:",
        "peak RSS:",
        "its:",
        "ratio:",
    ];
    Table::unless_empty(&header, lines)
}

fn line(ours: &SummaryRow, theirs: &SummaryRow, pair: &PairRow) -> Vec<String> {
    let times = |value: f64| format!("{}x", three(value));
    let rate = |row: &SummaryRow| row.results.tokens_per_s.map_or_else(String::new, show_rate);
    let peak = |row: &SummaryRow| row.results.peak_rss_bytes.map(|bytes| bytes as f64);
    let bytes = |row: &SummaryRow| peak(row).map_or_else(String::new, show_bytes);
    let memory = peak(ours).zip(peak(theirs).filter(|bytes| *bytes > 0.0));
    let head = &theirs.cell.head;
    let program = &theirs.cell.subject;
    vec![
        ours.cell.workload.name().to_owned(),
        format!(
            "`{}`, {}",
            labels::subject(&ours.cell),
            labels::shape(&ours.cell)
        ),
        ours.cell
            .threads
            .map_or_else(String::new, |count| count.to_string()),
        if head.is_empty() {
            format!("`{program}`")
        } else {
            format!("`{program}`, head {head}")
        },
        theirs.cell.answer.clone(),
        rate(ours),
        rate(theirs),
        pair.ratio.map_or_else(String::new, times),
        pair.lo.zip(pair.hi).map_or_else(String::new, |(lo, hi)| {
            format!("{} to {}", times(lo), times(hi))
        }),
        pair.blocks.to_string(),
        bytes(ours),
        bytes(theirs),
        memory.map_or_else(String::new, |(a, b)| times(a / b)),
    ]
}

#[cfg(test)]
mod tests {
    use trit_core::{Cell, Results, Status};

    use super::*;

    fn row(subject: &str, threads: u64, head: &str, median_ns: f64) -> SummaryRow {
        let program = subject.starts_with("program:");
        SummaryRow {
            cell: Cell {
                cell: format!("{subject}/{head}/t{threads}"),
                subject: subject.into(),
                kernel: subject.strip_prefix("engine:").unwrap_or_default().into(),
                model: "m.gguf".into(),
                workload: Workload::Decode,
                threads: Some(threads),
                head: head.into(),
                prompt_tokens: (!program).then_some(1),
                gen_tokens: Some(128),
                depth: Some(0),
                batch: Some(1),
                answer: if program { "checked" } else { "" }.into(),
                ..Cell::default()
            },
            results: Results {
                median_ns: Some(median_ns),
                tokens_per_s: Some(1e9 / median_ns),
                peak_rss_bytes: Some(median_ns as u64),
                ..Results::default()
            },
        }
    }

    /// One visit a round: `ns[round]` for each of 100 calls.
    fn visits(cell: &SummaryRow, ns: &[u64]) -> Vec<Measurement> {
        (0..)
            .zip(ns)
            .map(|(round, ns)| Measurement {
                cell: cell.cell.cell.clone(),
                round,
                block: round,
                iterations: 100,
                time_ns: 100 * ns,
                ..Measurement::default()
            })
            .collect()
    }

    #[test]
    fn ratios_are_of_rounds() {
        let ours = row("engine:k", 1, "f16", 1000.0);
        let near = row("program:near", 1, "", 2000.0);
        let far = row("program:far", 1, "f16", 4000.0);
        // The machine is three times as slow in every other round; the ratio is 2, but for one round of 1 and one of 9.
        let machine = [1, 3, 1, 3, 1, 3, 1, 3, 1];
        let mut factor = [2; 9];
        (factor[3], factor[6]) = (1, 9);
        let of = |factor: &[u64]| -> Vec<u64> {
            machine
                .iter()
                .zip(factor)
                .map(|(m, f)| 1000 * m * f)
                .collect()
        };
        let mut slices = visits(&ours, &of(&[1; 9]));
        slices.extend(visits(&near, &of(&factor)));
        // It was stopped after four rounds: too few for an interval.
        slices.extend(visits(&far, &of(&[4; 4])));
        let all = [far.clone(), ours.clone(), near.clone()];
        let pairs = rows(&all, &slices);
        assert_eq!(pairs.len(), 2);
        let of = |name: &str| pairs.iter().find(|pair| pair.against == name).unwrap();
        let (close, gone) = (of("program:near"), of("program:far"));
        assert_eq!(
            (close.quantity, close.blocks, close.a.as_str()),
            (PairQuantity::Program, 9, ours.cell.cell.as_str())
        );
        assert!((close.ratio.unwrap() - 2.0).abs() < 1e-9, "{close:?}");
        // Of nine values the interval of the median leaves out one at each end.
        assert!((close.lo.unwrap() - 2.0).abs() < 1e-9, "{close:?}");
        assert!((close.hi.unwrap() - 2.0).abs() < 1e-9, "{close:?}");
        assert_eq!((gone.blocks, gone.lo, gone.hi), (4, None, None));
        assert!((gone.ratio.unwrap() - 4.0).abs() < 1e-9);
        let text = table(&all, &pairs).unwrap().markdown();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("program:near"), "{text}");
        assert!(
            lines[0].contains("| 2.00x | 2.00x to 2.00x | 9 |"),
            "{text}"
        );
        // Memory: half of it, and a quarter.
        assert!(lines[0].ends_with("| 0.500x |"), "{text}");
        assert!(
            lines[1].contains("head f16") && lines[1].ends_with("| 0.250x |"),
            "{text}"
        );
        assert!(table(&all, &[]).is_none());
    }

    #[test]
    fn only_the_same_work_is_held_against_another() {
        let ours = row("engine:k", 1, "f16", 1000.0);
        let held = |change: &dyn Fn(&mut SummaryRow)| {
            let mut theirs = row("program:p", 1, "", 2000.0);
            change(&mut theirs);
            let mut slices = visits(&ours, &[1000; 7]);
            slices.extend(visits(&theirs, &[2000; 7]));
            rows(&[ours.clone(), theirs], &slices).len()
        };
        assert_eq!(held(&|_| ()), 1);
        assert_eq!(held(&|row| row.cell.head = "f32".into()), 1);
        assert_eq!(held(&|row| row.cell.head = "q6_k".into()), 0);
        assert_eq!(held(&|row| row.cell.threads = Some(2)), 0);
        assert_eq!(held(&|row| row.cell.model = "other.gguf".into()), 0);
        assert_eq!(held(&|row| row.cell.gen_tokens = Some(64)), 0);
        assert_eq!(held(&|row| row.cell.depth = Some(512)), 0);
        assert_eq!(held(&|row| row.cell.workload = Workload::Prefill), 0);
        assert_eq!(held(&|row| row.cell.status = Status::Wrong), 0);
        // Small heads are held against small ones, whichever they are.
        let small = row("engine:k", 1, "i8", 1000.0);
        let theirs = row("program:p", 1, "q6_k", 2000.0);
        let mut slices = visits(&small, &[1000; 7]);
        slices.extend(visits(&theirs, &[2000; 7]));
        assert_eq!(rows(&[small, theirs], &slices).len(), 1);
    }
}
