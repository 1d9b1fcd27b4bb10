//! From the slices of a comparison of two builds to blocks.

use std::collections::BTreeMap;

use crate::{Measurement, Side};

/// The name under which the geometric mean over all cells is judged and has its limits.
pub const MEAN: &str = "geometric-mean";
/// Steal above this share of a slice's time discards its block.
const MOST_STEAL: f64 = 0.01;
/// Involuntary switches that a slice may have, and one more for each [`SWITCH_NS`]: the timer of the system and its own
/// threads take a CPU for microseconds, a neighbour for milliseconds.
const MOST_SWITCHES: u64 = 1;
/// See [`MOST_SWITCHES`].
const SWITCH_NS: u64 = 10_000_000;
/// Largest distance of the clock rate from the median of its cell.
const MOST_FREQUENCY: f64 = 0.03;

/// Why a block does not count. None of these looks at the time that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Discard {
    /// The hypervisor ran somebody else.
    Steal,
    /// The control group was kept from running, or the processor was too hot.
    Throttled,
    /// Other threads took the CPU.
    Switches,
    /// The clock rate was not the usual one.
    Frequency,
    /// The clock saw no time pass.
    NoTime,
}

impl Discard {
    /// The word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steal => "steal",
            Self::Throttled => "throttled",
            Self::Switches => "switches",
            Self::Frequency => "frequency",
            Self::NoTime => "no-time",
        }
    }
}

/// Four slices of two builds.
#[derive(Clone, Debug, PartialEq)]
pub struct PairedBlock {
    /// The cell.
    pub cell: String,
    /// Phase, or piece of a recording.
    pub round: u64,
    /// Pair of processes within the round.
    pub process: u64,
    /// Position within the pair of processes.
    pub block: u64,
    /// Time of one call of the base, in both slices.
    pub base_ns: [f64; 2],
    /// Time of one call of the head.
    pub head_ns: [f64; 2],
    /// Why it does not count.
    pub discard: Option<Discard>,
}

/// `ln xᵢ − ln yⱼ` of two times each; `None` when one of them is no time.
pub fn log_ratios(x_ns: [f64; 2], y_ns: [f64; 2]) -> Option<[f64; 4]> {
    let ratios = [0, 1, 2, 3].map(|at: usize| x_ns[at / 2].ln() - y_ns[at % 2].ln());
    let finite = ratios.iter().all(|ratio| ratio.is_finite());
    finite.then_some(ratios)
}

impl PairedBlock {
    /// `ln Bᵢ − ln Aⱼ` of each slice of the head (B) and each of the base (A): above zero when the head is slower. `None` when the
    /// block does not count, or a slice took no time by the clock.
    pub fn ratios(&self) -> Option<[f64; 4]> {
        log_ratios(self.head_ns, self.base_ns).filter(|_| self.discard.is_none())
    }
}

/// The blocks of a comparison, in the order in which they ran. Groups that are not complete are left out: a run that was stopped
/// in the middle of one.
pub fn paired_blocks(rows: &[Measurement]) -> Vec<PairedBlock> {
    let clocks = usual_frequencies(rows);
    let key = |row: &Measurement| (row.cell.clone(), row.round, row.process, row.block);
    rows.chunk_by(|one, next| key(one) == key(next))
        .filter_map(|group| block(group, clocks.get(&group[0].cell).copied()))
        .collect()
}

fn usual_frequencies(rows: &[Measurement]) -> BTreeMap<String, u64> {
    let mut all: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for row in rows {
        if let Some(frequency) = row.frequency_khz {
            all.entry(row.cell.clone()).or_default().push(frequency);
        }
    }
    all.into_iter()
        .map(|(cell, mut values)| {
            values.sort_unstable();
            (cell, values[values.len() / 2])
        })
        .collect()
}

fn block(group: &[Measurement], usual_khz: Option<u64>) -> Option<PairedBlock> {
    let times = |side: Side| -> Option<[f64; 2]> {
        let mut of_side = group.iter().filter(|row| row.side == side);
        let call = |row: &Measurement| row.time_ns as f64 / row.iterations.max(1) as f64;
        let both = [call(of_side.next()?), call(of_side.next()?)];
        of_side.next().is_none().then_some(both)
    };
    let first = group.first()?;
    let mut block = PairedBlock {
        cell: first.cell.clone(),
        round: first.round,
        process: first.process?,
        block: first.block,
        base_ns: times(Side::A)?,
        head_ns: times(Side::B)?,
        discard: group.iter().find_map(|row| disturbed(row, usual_khz)),
    };
    if block.discard.is_none() && block.ratios().is_none() {
        block.discard = Some(Discard::NoTime);
    }
    Some(block)
}

/// What disturbed a slice.
fn disturbed(row: &Measurement, usual_khz: Option<u64>) -> Option<Discard> {
    if row.steal_ns.unwrap_or(0) as f64 > MOST_STEAL * row.time_ns as f64 {
        return Some(Discard::Steal);
    }
    if row.throttled_ns.unwrap_or(0) > 0 || row.throttle_count.unwrap_or(0) > 0 {
        return Some(Discard::Throttled);
    }
    let switches = MOST_SWITCHES + row.time_ns / SWITCH_NS;
    if row.involuntary_switches.unwrap_or(0) > switches {
        return Some(Discard::Switches);
    }
    let (frequency, usual) = (row.frequency_khz? as f64, usual_khz? as f64);
    ((frequency - usual).abs() > MOST_FREQUENCY * usual).then_some(Discard::Frequency)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(process: u64, block: u64, times: [u64; 4], order: [Side; 4]) -> Vec<Measurement> {
        (0..)
            .zip(times.into_iter().zip(order))
            .map(|(sample, (time_ns, side))| Measurement {
                cell: "c".into(),
                block,
                side,
                sample,
                iterations: 10,
                time_ns,
                process: Some(process),
                ..Measurement::default()
            })
            .collect()
    }

    const ABBA: [Side; 4] = [Side::A, Side::B, Side::B, Side::A];
    const BAAB: [Side; 4] = [Side::B, Side::A, Side::A, Side::B];

    #[test]
    fn a_slower_head_is_above_zero_in_either_order() {
        let mut all = rows(0, 0, [1_000_000, 1_100_000, 1_100_000, 1_000_000], ABBA);
        all.extend(rows(
            0,
            1,
            [1_100_000, 1_000_000, 1_000_000, 1_100_000],
            BAAB,
        ));
        // The same block of the next process is another block; half a block is none.
        all.extend(rows(1, 1, [1_000_000; 4], ABBA));
        all.extend(rows(1, 2, [1_000_000; 4], ABBA).into_iter().take(3));
        let blocks = paired_blocks(&all);
        assert_eq!(blocks.len(), 3);
        for block in &blocks[..2] {
            let ratios = block.ratios().unwrap();
            assert!(
                ratios
                    .iter()
                    .all(|ratio| (ratio - 1.1f64.ln()).abs() < 1e-12)
            );
        }
        assert_eq!(blocks[2].ratios(), Some([0.0; 4]));
        assert!(
            blocks[0]
                .base_ns
                .iter()
                .all(|ns| (ns - 100_000.0).abs() < 1e-6)
        );
    }

    #[test]
    fn only_reasons_beside_the_time_discard() {
        let discard = |change: &dyn Fn(&mut Measurement)| {
            let mut all: Vec<Measurement> = (0..9)
                .flat_map(|block| {
                    rows(0, block, [1_000_000, 9_000_000, 1_000_000, 1_000_000], ABBA)
                })
                .collect();
            for row in &mut all {
                row.frequency_khz = Some(3_000_000);
                row.steal_ns = Some(0);
                row.involuntary_switches = Some(1);
            }
            change(&mut all[5]);
            let blocks = paired_blocks(&all);
            let discarded: Vec<u64> = blocks
                .iter()
                .filter(|block| block.discard.is_some())
                .map(|block| block.block)
                .collect();
            assert!(discarded.is_empty() || discarded == [1]);
            blocks[1].discard
        };
        // A slice that takes nine times as long for no known reason stays.
        assert_eq!(discard(&|_| ()), None);
        assert_eq!(
            discard(&|row| row.steal_ns = Some(10_000_000)),
            Some(Discard::Steal)
        );
        assert_eq!(
            discard(&|row| row.throttled_ns = Some(1)),
            Some(Discard::Throttled)
        );
        assert_eq!(
            discard(&|row| row.throttle_count = Some(1)),
            Some(Discard::Throttled)
        );
        assert_eq!(
            discard(&|row| row.involuntary_switches = Some(2)),
            Some(Discard::Switches)
        );
        assert_eq!(
            discard(&|row| row.frequency_khz = Some(2_900_000)),
            Some(Discard::Frequency)
        );
        assert_eq!(discard(&|row| row.frequency_khz = Some(2_950_000)), None);
        assert_eq!(discard(&|row| row.frequency_khz = None), None);
        assert_eq!(discard(&|row| row.time_ns = 0), Some(Discard::NoTime));
    }
}
