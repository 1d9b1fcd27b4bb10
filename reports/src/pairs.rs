//! Pairs: two subjects that took turns in ABBA slices of one worker. Every ratio that has to hold comes from here.

use std::collections::BTreeMap;

use trit_core::{Cell, EnergyRow, Measurement, PairQuantity, PairRow, Side, SummaryRow, Workload};
use trit_stats::{
    Interval, autocorrelation, hodges_lehmann, hodges_lehmann_interval, merge_adjacent,
};

use crate::beside;
use crate::document::Table;
use crate::labels;
use crate::summary::{LEVEL, bytes_per_call, ops_per_call, timed};
use crate::units::three;

/// Neighbouring blocks that agree more than this do not count as independent: they are merged.
const DEPENDENT: f64 = 0.2;
/// Merging ends here: fewer blocks carry no interval.
const FEWEST: usize = 8;

/// One ratio with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) value: f64,
    pub(crate) interval: Option<Interval>,
}

impl Ratio {
    /// From log ratios of blocks in the order of time: Hodges-Lehmann, with the interval of the Walsh averages. Blocks that
    /// repeat their neighbours (first autocorrelation above 0.2) are merged two by two until they no longer do.
    fn of(logs: &[f64]) -> Option<Self> {
        let value = hodges_lehmann(logs)?.exp();
        let interval =
            hodges_lehmann_interval(&independent(logs), LEVEL).map(|interval| Interval {
                lo: interval.lo.exp(),
                hi: interval.hi.exp(),
                level: interval.level,
            });
        Some(Self { value, interval })
    }
}

/// Values in the order of time, neighbours merged two by two as long as they repeat one another and enough are left.
pub(crate) fn independent(logs: &[f64]) -> Vec<f64> {
    let mut merged = logs.to_vec();
    while merged.len() >= 2 * FEWEST
        && autocorrelation(&merged, 1).is_some_and(|rho| rho > DEPENDENT)
    {
        merged = merge_adjacent(&merged, 2);
    }
    merged
}

/// Log rates (or joules) of one ABBA block, without what a call does: that is the same for all blocks.
#[derive(Default)]
struct Block {
    a: Vec<f64>,
    b: Vec<f64>,
}

impl Block {
    /// The log of the ratio; nothing for a block that was cut short.
    fn log_ratio(&self) -> Option<f64> {
        let whole = self.a.len() == self.b.len() && !self.a.is_empty();
        whole.then(|| {
            (self.a.iter().sum::<f64>() - self.b.iter().sum::<f64>()) / self.a.len() as f64
        })
    }
}

/// One pair with all its blocks.
pub(crate) struct Paired<'a> {
    a: &'a Cell,
    b: &'a Cell,
    /// Log ratios of calls a second, or of joules a call, in the order of time.
    logs: Vec<f64>,
    energy: bool,
}

/// One slice or window of a side.
struct Taken<'r> {
    cell: &'r str,
    pair: &'r str,
    side: Side,
    block: (u64, u64),
    /// Logarithm of what is compared, of one call.
    log: f64,
}

impl<'a> Paired<'a> {
    /// All pairs of a session, in the order of the cells of side A.
    pub(crate) fn all(cells: &'a [Cell], measurements: &'a [Measurement]) -> Vec<Self> {
        let slices = measurements
            .iter()
            .filter(|row| row.iterations > 0 && row.time_ns > 0);
        let taken = slices.map(|row| Taken {
            cell: &row.cell,
            pair: &row.pair,
            side: row.side,
            block: (row.round, row.block),
            log: (row.iterations as f64 / row.time_ns as f64).ln(),
        });
        Self::of(cells, taken, false)
    }

    /// All pairs that have energy windows.
    fn of_energy(cells: &'a [Cell], rows: &'a [EnergyRow]) -> Vec<Self> {
        let taken = rows
            .iter()
            .filter(|row| row.status == "ok")
            .filter_map(|row| {
                let (_, uj) = row.headline().filter(|(_, uj)| *uj > 0)?;
                let calls = row.iterations.filter(|calls| *calls > 0)?;
                Some(Taken {
                    cell: &row.cell,
                    pair: &row.pair,
                    side: row.side,
                    block: (row.round, row.block),
                    log: (uj as f64 / calls as f64).ln(),
                })
            });
        Self::of(cells, taken, true)
    }

    fn of<'r>(
        cells: &'a [Cell],
        taken: impl Iterator<Item = Taken<'r>>,
        energy: bool,
    ) -> Vec<Self> {
        let by_id: BTreeMap<&str, usize> = cells
            .iter()
            .enumerate()
            .map(|(at, cell)| (cell.cell.as_str(), at))
            .collect();
        let mut blocks: BTreeMap<(usize, usize), BTreeMap<(u64, u64), Block>> = BTreeMap::new();
        for row in taken {
            let known = by_id.get(row.cell).zip(by_id.get(row.pair));
            let Some((&own, &other)) = known else {
                continue;
            };
            let pair = match row.side {
                Side::Alone => continue,
                Side::A => (own, other),
                Side::B => (other, own),
            };
            let block = blocks.entry(pair).or_default();
            let block = block.entry(row.block).or_default();
            if row.side == Side::A {
                &mut block.a
            } else {
                &mut block.b
            }
            .push(row.log);
        }
        blocks
            .into_iter()
            .map(|((a, b), blocks)| Self {
                a: &cells[a],
                b: &cells[b],
                logs: blocks.values().filter_map(Block::log_ratio).collect(),
                energy,
            })
            .collect()
    }

    fn quantity(&self) -> PairQuantity {
        if self.energy {
            return PairQuantity::Energy;
        }
        match self.b.workload {
            Workload::Read => PairQuantity::BandwidthShare,
            Workload::Peak => PairQuantity::PeakShare,
            _ => PairQuantity::SpeedUp,
        }
    }

    /// Rate of A over rate of B, in what the quantity counts; nothing when it is not known what a call does.
    fn ratio(&self) -> Option<Ratio> {
        let amount: fn(&Cell) -> Option<f64> = match self.quantity() {
            PairQuantity::BandwidthShare => bytes_per_call,
            PairQuantity::PeakShare => ops_per_call,
            PairQuantity::SpeedUp | PairQuantity::Energy | PairQuantity::Program => |_| Some(1.0),
        };
        let known = |cell| amount(cell).filter(|amount| *amount > 0.0);
        let factor = (known(self.a)? / known(self.b)?).ln();
        let logs: Vec<f64> = self.logs.iter().map(|log| log + factor).collect();
        Ratio::of(&logs)
    }

    fn row(&self) -> PairRow {
        let ratio = self.ratio();
        let interval = ratio.and_then(|ratio| ratio.interval);
        PairRow {
            a: self.a.cell.clone(),
            b: self.b.cell.clone(),
            subject: labels::subject(self.a).to_owned(),
            against: match self.quantity() {
                PairQuantity::SpeedUp | PairQuantity::Energy => labels::subject(self.b),
                _ => &self.b.subject,
            }
            .to_owned(),
            workload: self.a.workload,
            rows: self.a.rows,
            k: self.a.k,
            tokens: self.a.tokens,
            threads: self.a.threads,
            quantity: self.quantity(),
            blocks: self.logs.len() as u64,
            ratio: ratio.map(|ratio| ratio.value),
            lo: interval.map(|interval| interval.lo),
            hi: interval.map(|interval| interval.hi),
        }
    }
}

/// Pairs by the cell of their side A.
pub(crate) struct Shares<'p>(BTreeMap<&'p str, Vec<&'p Paired<'p>>>);

impl<'p> Shares<'p> {
    pub(crate) fn new(pairs: &'p [Paired<'p>]) -> Self {
        let mut by_cell: BTreeMap<&str, Vec<&Paired<'_>>> = BTreeMap::new();
        for pair in pairs {
            by_cell.entry(&pair.a.cell).or_default().push(pair);
        }
        Self(by_cell)
    }

    /// The share of a probe that a cell reaches: that of its pair with the probe.
    pub(crate) fn of(&self, cell: &Cell, quantity: PairQuantity) -> Option<Ratio> {
        let pairs = self.0.get(cell.cell.as_str())?.iter();
        let mut of_quantity = pairs.filter(|pair| pair.quantity() == quantity);
        of_quantity.find_map(|pair| pair.ratio())
    }
}

/// A row for every pair whose sides are both verified, and for each of our models and each program that did the same work; `rows` are those of [`crate::summarize_rows`].
pub fn pair_rows(
    rows: &[SummaryRow],
    measurements: &[Measurement],
    energy: &[EnergyRow],
) -> Vec<PairRow> {
    let cells: Vec<Cell> = rows.iter().map(|row| row.cell.clone()).collect();
    let times = Paired::all(&cells, measurements);
    times
        .iter()
        .chain(&Paired::of_energy(&cells, energy))
        .filter(|pair| timed(pair.a.status) && timed(pair.b.status))
        .map(Paired::row)
        .chain(beside::rows(rows, measurements))
        .collect()
}

/// The pairs as a Markdown table.
pub(crate) fn pairs_table(pairs: &[PairRow]) -> Option<Table> {
    let lines: Vec<Vec<String>> = pairs
        .iter()
        .filter(|pair| pair.quantity != PairQuantity::Program)
        .map(|pair| {
            let number = |count: Option<u64>| count.map_or_else(String::new, |n| n.to_string());
            let show = |value: f64| match pair.quantity {
                PairQuantity::SpeedUp => format!("{}x", three(value)),
                PairQuantity::Energy => format!("{}x the joules", three(value)),
                _ => format!("{:.1} %", value * 100.0),
            };
            let shape = match (pair.rows, pair.k, pair.tokens) {
                (Some(rows), Some(k), Some(tokens)) if tokens > 1 => {
                    format!("{rows}x{k}, {tokens} tokens")
                }
                (Some(rows), Some(k), _) => format!("{rows}x{k}"),
                _ => String::new(),
            };
            vec![
                format!("`{}`", pair.subject),
                format!("`{}`", pair.against),
                pair.workload.name().to_owned(),
                shape,
                number(pair.threads),
                pair.ratio.map_or_else(String::new, show),
                pair.lo.zip(pair.hi).map_or_else(String::new, |(lo, hi)| {
                    format!("{} to {}", show(lo), show(hi))
                }),
                pair.blocks.to_string(),
            ]
        })
        .collect();
    let header = [
        "subject", "against", "workload", "shape", "threads:", "ratio:", "95 %:", "blocks:",
    ];
    Table::unless_empty(&header, lines)
}
