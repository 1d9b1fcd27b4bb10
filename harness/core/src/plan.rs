//! Plans: the ordered, seeded list of what a session does.

use serde::{Deserialize, Serialize};

use crate::{Cell, EnergyPlan, ProgramTask};

/// The reason of a cell that was planned and has no sample yet; its status is `skipped`.
pub const NOT_MEASURED: &str = "not measured yet";
/// The reason of a cell that has samples while its session goes on, or went on when it was stopped; its status is `ok`.
pub const UNFINISHED: &str = "unfinished";

/// Whether the last row of a cell says that nothing more will be measured for it.
pub fn is_final(row: &Cell) -> bool {
    row.reason != NOT_MEASURED && row.reason != UNFINISHED
}

/// What a worker has to be for a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Station {
    /// Micro cells of one kernel share a worker.
    #[default]
    Kernel,
    /// Cells of one engine configuration share a worker.
    Engine,
    /// Cells that exist only as a side of pairs: the worker of the pair holds both sides.
    Pair,
    /// Cells of one program share a worker, which starts it anew for each sample.
    Program,
}

/// A cell with what the planner knows about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlannedCell {
    /// Its keys. A status other than `ok` was decided by the planner: the cell is recorded and not run.
    pub cell: Cell,
    /// Where it runs.
    pub station: Station,
    /// Workers of one wave live at the same time; waves follow one another.
    pub wave: u64,
    /// Bytes that the cell needs in its worker, shared ones counted at their first cell.
    pub memory_bytes: u64,
    /// Expected time to set the cell up, its reference answer included.
    pub setup_ns: u64,
    /// Expected time of one visit.
    pub visit_ns: u64,
    /// Time given to its visits.
    pub budget_ns: u64,
    /// The program that is run, where it is not ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<ProgramTask>,
}

/// Two cells that are measured in ABBA slices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlannedPair {
    /// The cell of side A.
    pub a: String,
    /// The cell of side B.
    pub b: String,
    /// The wave in which it is visited.
    pub wave: u64,
    /// Expected time to set both sides up.
    pub setup_ns: u64,
    /// Expected time of one block.
    pub visit_ns: u64,
    /// Time given to its blocks.
    pub budget_ns: u64,
    /// Bytes that both sides need.
    pub memory_bytes: u64,
}

/// The ordered list of what a session does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// Seed of the inputs, of the order of visits and of the order within blocks.
    pub seed: u64,
    /// Time that the whole run may take.
    pub budget_ns: u64,
    /// Expected time of everything: set-up and visits.
    pub expected_ns: u64,
    /// Bytes of the working set of a cold cell.
    pub cold_bytes: u64,
    /// Bytes that workers of one wave may take together.
    pub memory_limit_bytes: u64,
    /// The largest resident set that a worker, or a program, may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rss_bytes: Option<u64>,
    /// Visits of each cell of a whole model or program, where the suite says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<u64>,
    /// The cells, in the order of the suite; each id once.
    pub cells: Vec<PlannedCell>,
    /// The pairs, in the order of the suite.
    pub pairs: Vec<PlannedPair>,
    /// The energy pass.
    pub energy: EnergyPlan,
    /// What the reader of the results should know about the plan, a sentence each.
    pub notes: Vec<String>,
}

impl Plan {
    /// The cell with this id.
    pub fn cell(&self, id: &str) -> Option<&PlannedCell> {
        self.cells.iter().find(|planned| planned.cell.cell == id)
    }

    /// Number of waves.
    pub fn waves(&self) -> u64 {
        let cells = self.cells.iter().map(|planned| planned.wave);
        let pairs = self.pairs.iter().map(|pair| pair.wave);
        cells.chain(pairs).max().map_or(0, |last| last + 1)
    }
}

/// A small seeded generator (splitmix64, Steele, Lea and Flood 2014): order and inputs must be the same on every
/// machine and in every version.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that starts at `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator for one purpose: `seed` and a name give its start.
    pub fn named(seed: u64, purpose: &str) -> Self {
        // FNV-1a, 64 bits.
        let hash = purpose
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        let mut rng = Self(seed ^ hash);
        rng.next_u64();
        rng
    }

    /// 64 random bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (0 when `bound` is 0), without the bias of a remainder beyond 2^-64 · bound.
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }

    /// Shuffles in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        // First outputs for seed 1234567, as listed with the reference implementation.
        let mut rng = Rng::new(1_234_567);
        assert_eq!(rng.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn a_shuffle_depends_on_the_seed_alone() {
        let order = |seed| {
            let mut items: Vec<u32> = (0..50).collect();
            Rng::named(seed, "order").shuffle(&mut items);
            items
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        let mut sorted = order(3);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn plans_survive_json() {
        let plan = Plan {
            seed: 7,
            cells: vec![PlannedCell {
                cell: Cell {
                    cell: "x".into(),
                    weight_bits: Some(1.6),
                    ..Cell::default()
                },
                wave: 3,
                ..PlannedCell::default()
            }],
            ..Plan::default()
        };
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
        assert_eq!(plan.waves(), 4);
        assert!(plan.cell("x").is_some() && plan.cell("y").is_none());
    }
}
