//! Two sessions side by side, cell by cell. Their samples were not paired: drift between the sessions is part of every
//! ratio, and the result says so.

use std::collections::BTreeMap;

use trit_core::{Cell, Columns, SummaryRow};
use trit_stats::{Geometric, geometric_mean};

use crate::labels;
use crate::markdown::{ranked, table};
use crate::units::{show_ns, three};

/// Columns that name an outcome or a file and not what was measured.
const NOT_KEYS: [&str; 7] = [
    "cell",
    "status",
    "reason",
    "model_sha256",
    "bytes_per_call",
    "ops_per_call",
    "weight_bits",
];

/// Which session a cell without a counterpart is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

/// A cell that both sessions measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// Its keys, as in the first session.
    pub cell: Cell,
    /// Median in the first session.
    pub a_ns: f64,
    /// Median in the second.
    pub b_ns: f64,
    /// `b_ns / a_ns`: above 1 the second is slower.
    pub ratio: f64,
    /// 95 % interval of the ratio from the two intervals of the medians, combined in quadrature on the log scale; absent unless both have
    /// one. It covers the noise within each session, and nothing between them.
    pub interval: Option<(f64, f64)>,
}

/// Two sessions, joined by the keys of their cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Cells in both, in the order of the first.
    pub matches: Vec<Match>,
    /// Cells that only one side measured.
    pub unmatched: Vec<(Side, Cell)>,
    /// The geometric mean of the ratios; absent without matches.
    pub mean: Option<Geometric>,
}

/// What a cell is compared by.
pub(crate) fn key(cell: &Cell) -> Vec<String> {
    Cell::columns()
        .iter()
        .filter(|column| !NOT_KEYS.contains(&column.name))
        .map(|column| (column.write)(cell))
        .collect()
}

/// Joins two sessions by their keys. Rows that are not `ok` have no counterpart; of several rows with the same keys the last counts.
pub fn compare(a: &[SummaryRow], b: &[SummaryRow]) -> Comparison {
    let index = |rows: &[SummaryRow]| -> BTreeMap<Vec<String>, usize> {
        rows.iter()
            .enumerate()
            .filter(|(_, row)| ranked(row))
            .map(|(i, row)| (key(&row.cell), i))
            .collect()
    };
    let (in_a, in_b) = (index(a), index(b));
    let mut matches = Vec::new();
    let mut unmatched = Vec::new();
    for (i, row) in a.iter().enumerate() {
        let key = key(&row.cell);
        if in_a.get(&key) != Some(&i) {
            continue;
        }
        match in_b.get(&key) {
            Some(&other) => matches.extend(ratio(row, &b[other])),
            None => unmatched.push((Side::A, row.cell.clone())),
        }
    }
    for (i, row) in b.iter().enumerate() {
        let key = key(&row.cell);
        if in_b.get(&key) == Some(&i) && !in_a.contains_key(&key) {
            unmatched.push((Side::B, row.cell.clone()));
        }
    }
    let ratios: Vec<f64> = matches.iter().map(|pair| pair.ratio).collect();
    Comparison {
        mean: geometric_mean(&ratios, 0.95),
        matches,
        unmatched,
    }
}

/// The ratio of two rows; `None` where a median is missing.
pub(crate) fn ratio(a: &SummaryRow, b: &SummaryRow) -> Option<Match> {
    let (a_ns, b_ns) = (a.results.median_ns?, b.results.median_ns?);
    let ratio = b_ns / a_ns;
    let ends = |row: &SummaryRow| {
        let (lo, hi) = (row.results.lo_ns?, row.results.hi_ns?);
        let median = row.results.median_ns?;
        (lo > 0.0).then(|| ((median / lo).ln(), (hi / median).ln()))
    };
    let interval = ends(a)
        .zip(ends(b))
        .map(|((a_below, a_above), (b_below, b_above))| {
            // The ratio is low when b is low and a is high.
            (
                ratio * (-b_below.hypot(a_above)).exp(),
                ratio * b_above.hypot(a_below).exp(),
            )
        });
    Some(Match {
        cell: a.cell.clone(),
        a_ns,
        b_ns,
        ratio,
        interval,
    })
}

/// A comparison as Markdown.
pub fn comparison_markdown(comparison: &Comparison) -> String {
    let rows: Vec<Vec<String>> = comparison
        .matches
        .iter()
        .map(|pair| {
            let interval = pair.interval.map_or_else(String::new, |(lo, hi)| {
                format!("{} to {}", three(lo), three(hi))
            });
            vec![
                labels::full(&pair.cell),
                show_ns(pair.a_ns),
                show_ns(pair.b_ns),
                three(pair.ratio),
                interval,
            ]
        })
        .collect();
    let mut parts = vec![table(&["cell", "A:", "B:", "B / A:", "95 %:"], &rows)];
    if let Some(mean) = comparison.mean {
        let interval = mean.interval.map_or_else(String::new, |i| {
            format!(", 95 % {} to {}", three(i.lo), three(i.hi))
        });
        parts.push(format!(
            "Geometric mean over {} cells: {}{interval}.\n",
            comparison.matches.len(),
            three(mean.mean)
        ));
    }
    parts.push(
        "Unpaired: the sessions ran at different times, and drift between them is part of every ratio.\n".to_owned(),
    );
    if !comparison.unmatched.is_empty() {
        let lines: Vec<String> = comparison
            .unmatched
            .iter()
            .map(|(side, cell)| {
                let side = match side {
                    Side::A => "A",
                    Side::B => "B",
                };
                format!("- {side}: {}\n", labels::full(cell))
            })
            .collect();
        parts.push("Measured on one side only:\n".to_owned());
        parts.push(lines.concat());
    }
    parts.join("\n")
}
