//! The matrices of one token of a model, put together from cells of single matrices: what a whole model would take if nothing but its
//! linears, and its head where the session has it, took time.

use std::collections::BTreeMap;

use trit_core::{ModelShape, PairQuantity, PairRow, SummaryRow, Workload};
use trit_stats::Interval;

use crate::compare::ratio;
use crate::markdown::ranked;
use crate::summary::LEVEL;

/// Rows of one token from memory by what they multiply, for a session.
pub(crate) struct Linears<'a> {
    cells: BTreeMap<(&'a str, u64, (u64, u64)), &'a SummaryRow>,
    pairs: BTreeMap<(&'a str, &'a str), &'a PairRow>,
    energy: BTreeMap<(&'a str, &'a str), &'a PairRow>,
}

/// The matrices of one token by one kernel on one number of threads.
#[derive(Clone)]
pub(crate) struct Token<'a> {
    pub(crate) kernel: &'a str,
    pub(crate) threads: u64,
    /// Each distinct matrix: how often one token needs it, and its row.
    parts: Vec<(f64, &'a SummaryRow)>,
    /// The head in half precision, where it was measured.
    pub(crate) head: Option<&'a SummaryRow>,
}

/// How many times as fast, or what share of the joules, one is of another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Factor {
    pub(crate) value: f64,
    pub(crate) interval: Option<Interval>,
    /// All of it comes from pairs.
    pub(crate) paired: bool,
}

/// Format of a dense kernel: `f32 f16 i8 q4`; nothing for ternary kernels.
pub(crate) fn dense_format(kernel: &str) -> Option<&str> {
    kernel.split_once("-dense-").map(|(format, _)| format)
}

impl<'a> Linears<'a> {
    pub(crate) fn new(rows: &'a [SummaryRow], pairs: &'a [PairRow]) -> Self {
        let of = |quantity: PairQuantity| {
            let pairs = pairs.iter().filter(move |pair| pair.quantity == quantity);
            pairs
                .map(|pair| ((pair.a.as_str(), pair.b.as_str()), pair))
                .collect()
        };
        Self {
            cells: rows
                .iter()
                .filter(|row| ranked(row) && row.cell.workload == Workload::GemvCold)
                .filter_map(|row| {
                    let cell = &row.cell;
                    let key = (cell.kernel.as_str(), cell.threads?, (cell.rows?, cell.k?));
                    Some((key, row))
                })
                .collect(),
            pairs: of(PairQuantity::SpeedUp),
            energy: of(PairQuantity::Energy),
        }
    }

    /// Kernels and thread counts that have rows.
    fn teams(&self) -> Vec<(&'a str, u64)> {
        let mut teams: Vec<(&str, u64)> = self
            .cells
            .keys()
            .map(|(kernel, threads, _)| (*kernel, *threads))
            .collect();
        teams.dedup();
        teams
    }

    /// The head of a model: the fastest half-precision kernel on as many threads.
    fn head(&self, shape: &ModelShape, threads: u64) -> Option<&'a SummaryRow> {
        let of_shape = self.cells.iter().filter(|((kernel, team, matrix), _)| {
            dense_format(kernel) == Some("f16")
                && *team == threads
                && *matrix == (shape.vocab, shape.hidden)
        });
        let time = |row: &SummaryRow| row.results.median_ns.unwrap_or(f64::INFINITY);
        of_shape
            .map(|(_, row)| *row)
            .min_by(|a, b| time(a).total_cmp(&time(b)))
    }

    /// The token of every kernel that has all matrices of a model, the fastest first.
    pub(crate) fn tokens(&self, shape: &ModelShape) -> Vec<Token<'a>> {
        let mut tokens: Vec<Token<'_>> = self
            .teams()
            .into_iter()
            .filter_map(|(kernel, threads)| {
                let mut parts: Vec<(f64, &SummaryRow)> = Vec::new();
                for matrix in &shape.matrices {
                    let row = self
                        .cells
                        .get(&(kernel, threads, (matrix.rows, matrix.k)))?;
                    let often = matrix.roles.len() as f64 * shape.layers as f64;
                    parts.push((often, row));
                }
                let head = self.head(shape, threads);
                (!parts.is_empty()).then_some(Token {
                    kernel,
                    threads,
                    parts,
                    head,
                })
            })
            .collect();
        tokens.sort_by(|a, b| a.ns().total_cmp(&b.ns()));
        tokens
    }

    /// How many times as fast `a` is as `b`: matrix by matrix from pairs where the session has them, from separate medians where not.
    /// The interval takes the matrices as independent, each weighed by its share of the time.
    pub(crate) fn speed_up(&self, a: &Token<'a>, b: &Token<'a>) -> Option<Factor> {
        let apart = |a: &SummaryRow, b: &SummaryRow| {
            let of = ratio(a, b)?;
            Some((of.ratio, of.interval))
        };
        factor(
            a,
            b,
            |row| row.results.median_ns,
            |a, b| {
                paired(&self.pairs, a, b)
                    .map_or_else(|| Some((apart(a, b)?, false)), |r| Some((r, true)))
            },
        )
    }

    /// The joules of `b` over those of `a`; nothing where no meter read them.
    pub(crate) fn joules(&self, a: &Token<'a>, b: &Token<'a>) -> Option<Factor> {
        let apart = |a: &SummaryRow, b: &SummaryRow| {
            let (a, b) = (&a.results, &b.results);
            let value = b.gross_j_per_token? / a.gross_j_per_token?;
            Some((value, joule_interval(a, b, value)))
        };
        factor(
            a,
            b,
            |row| row.results.gross_j_per_token,
            |a, b| {
                // These pairs hold the joules of side A over those of side B.
                paired(&self.energy, b, a)
                    .map_or_else(|| Some((apart(a, b)?, false)), |r| Some((r, true)))
            },
        )
    }
}

/// A ratio with the ends of its interval.
type Ends = (f64, Option<(f64, f64)>);

/// The ratio that a pair of two rows holds, whichever of them is its side A.
pub(crate) fn paired(
    pairs: &BTreeMap<(&str, &str), &PairRow>,
    a: &SummaryRow,
    b: &SummaryRow,
) -> Option<Ends> {
    let (a, b) = (a.cell.cell.as_str(), b.cell.cell.as_str());
    let found = |pair: &&PairRow| Some((pair.ratio?, pair.lo.zip(pair.hi)));
    pairs.get(&(a, b)).and_then(found).or_else(|| {
        let (value, ends) = pairs.get(&(b, a)).and_then(found)?;
        Some((1.0 / value, ends.map(|(lo, hi)| (1.0 / hi, 1.0 / lo))))
    })
}

/// The amount of `b` over that of `a`, from the ratios of their matrices; each says whether it comes from a pair.
fn factor<'a>(
    a: &Token<'a>,
    b: &Token<'a>,
    amount: impl Fn(&SummaryRow) -> Option<f64>,
    ratio: impl Fn(&SummaryRow, &SummaryRow) -> Option<(Ends, bool)>,
) -> Option<Factor> {
    let mut paired = true;
    let (mut of_a, mut of_b) = (0.0, 0.0);
    // The amount of B in each matrix, and how far its ratio may be off on the log scale.
    let mut widths: Option<Vec<(f64, f64, f64)>> = Some(Vec::new());
    for ((often, row_a), (_, row_b)) in a.parts.iter().zip(&b.parts) {
        let ((value, ends), from_pair) = ratio(row_a, row_b)?;
        paired &= from_pair;
        let mine = often * amount(row_a)?;
        of_a += mine;
        of_b += mine * value;
        widths = widths.zip(ends).map(|(mut widths, (lo, hi))| {
            widths.push((mine * value, (value / lo).ln(), (hi / value).ln()));
            widths
        });
    }
    if let Some(head) = a.head.zip(b.head).and_then(|(head, _)| amount(head)) {
        of_a += head;
        of_b += head;
    }
    let value = of_b / of_a;
    let interval = widths.map(|widths| {
        let side = |of: fn(&(f64, f64, f64)) -> f64| {
            let squares = widths
                .iter()
                .map(|width| (width.0 / of_b * of(width)).powi(2));
            squares.sum::<f64>().sqrt()
        };
        Interval {
            lo: value * (-side(|width| width.1)).exp(),
            hi: value * side(|width| width.2).exp(),
            level: LEVEL,
        }
    });
    (of_a > 0.0 && value.is_finite()).then_some(Factor {
        value,
        interval,
        paired,
    })
}

/// Joules of B over A with their intervals in quadrature on the log scale.
pub(crate) fn joule_interval(
    a: &trit_core::Results,
    b: &trit_core::Results,
    value: f64,
) -> Option<(f64, f64)> {
    let ends = |results: &trit_core::Results| {
        let (lo, hi) = (results.gross_j_per_token_lo?, results.gross_j_per_token_hi?);
        let middle = results.gross_j_per_token?;
        (lo > 0.0).then(|| ((middle / lo).ln(), (hi / middle).ln()))
    };
    let ((a_down, a_up), (b_down, b_up)) = ends(a).zip(ends(b))?;
    Some((
        value * (-b_down.hypot(a_up)).exp(),
        value * b_up.hypot(a_down).exp(),
    ))
}

impl Token<'_> {
    /// Time of the linears, and of the head where it was measured.
    pub(crate) fn ns(&self) -> f64 {
        let linears: f64 = self
            .parts
            .iter()
            .map(|(often, row)| often * row.results.median_ns.unwrap_or(f64::INFINITY))
            .sum();
        linears
            + self
                .head
                .and_then(|row| row.results.median_ns)
                .unwrap_or(0.0)
    }

    /// How far the time may be off on the log scale, down and up: the parts as independent. Nothing where a part has no interval.
    pub(crate) fn spread(&self) -> Option<(f64, f64)> {
        let whole = self.ns();
        let head = self.head.map(|row| (1.0, row));
        let (mut down, mut up) = (0.0, 0.0);
        for (often, row) in self.parts.iter().copied().chain(head) {
            let results = &row.results;
            let (median, lo) = (results.median_ns?, results.lo_ns.filter(|lo| *lo > 0.0)?);
            let weight = often * median / whole;
            down += (weight * (median / lo).ln()).powi(2);
            up += (weight * (results.hi_ns? / median).ln()).powi(2);
        }
        Some((down.sqrt(), up.sqrt()))
    }
}
