//! Cells of two sessions: what makes them the same, and the ratio of their times.

use trit_core::{Cell, Columns, SummaryRow};

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

/// Whether a column of a cell is part of what it is compared by.
pub(crate) fn is_key(column: &str) -> bool {
    !NOT_KEYS.contains(&column)
}

/// What a cell is compared by.
pub(crate) fn key(cell: &Cell) -> Vec<String> {
    Cell::columns()
        .iter()
        .filter(|column| is_key(column.name))
        .map(|column| (column.write)(cell))
        .collect()
}

/// The ratio of two cells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio {
    /// Second over first: above 1 the second is slower.
    pub(crate) ratio: f64,
    /// 95 % interval of the ratio from the two intervals of the medians, combined in quadrature on the log scale; absent unless both have
    /// one. It covers the noise within each session, and nothing between them.
    pub(crate) interval: Option<(f64, f64)>,
}

/// How far an interval reaches below and above its value, on the log scale.
pub(crate) fn log_ends(value: f64, (lo, hi): (f64, f64)) -> Option<(f64, f64)> {
    (lo > 0.0).then(|| ((value / lo).ln(), (hi / value).ln()))
}

/// The ratio of two rows; `None` where a median is missing.
pub(crate) fn ratio(a: &SummaryRow, b: &SummaryRow) -> Option<Ratio> {
    let (a_ns, b_ns) = (a.results.median_ns?, b.results.median_ns?);
    let ratio = b_ns / a_ns;
    let ends = |row: &SummaryRow| {
        log_ends(
            row.results.median_ns?,
            row.results.lo_ns.zip(row.results.hi_ns)?,
        )
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
    Some(Ratio { ratio, interval })
}
