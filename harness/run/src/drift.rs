//! What a machine whose speed changes does to a ratio, on a fake clock: the blocks of [`crate::pairing`] beside one side after
//! the other.

use trit_core::Side;
use trit_measure::{Clock, FakeClock};
use trit_stats::judge::{Ratios, centre};
use trit_stats::{Rng, median};

use crate::pairing::{Contest, Pairing};
use crate::protocol::Sample;

/// Time of a call of A and of B at full speed: A is slower by 1 %.
const COST_NS: [f64; 2] = [30_300.0, 30_000.0];
/// Calls of a slice: 3 ms.
const CALLS: u64 = 100;
/// Blocks of a case, about five seconds.
const BLOCKS: u64 = 400;
/// Spread of the time of a slice, so that there is something to rank.
const NOISE: f64 = 0.001;
const SECOND: f64 = 1e9;

/// What one kind of drift did.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    /// Which kind.
    pub name: &'static str,
    /// Estimated minus true log ratio: Hodges-Lehmann over ABBA blocks.
    pub bias: f64,
    /// The same for the ratio of the medians of two runs, A first and then B.
    pub sequential_bias: f64,
}

/// How many times longer a call takes: by the side, the number of the side's slice from 1, and the time.
type Slowness = fn(Side, u64, f64) -> f64;

/// Every kind of drift.
const CASES: [(&str, Slowness); 7] = [
    ("none", |_, _, _| 1.0),
    ("ramp of 50 % in 5 s", |_, _, t| 1.0 + 0.1 * t / SECOND),
    ("step of 25 % after 2 s", |_, _, t| {
        if t > 2.0 * SECOND { 1.25 } else { 1.0 }
    }),
    ("sawtooth of 20 % in 0.7 s", |_, _, t| {
        1.0 + 0.2 * (t / (0.7 * SECOND)).fract()
    }),
    ("steps of 20 % each 0.1 s", |_, _, t| {
        if (t / (0.2 * SECOND)).fract() < 0.5 {
            1.0
        } else {
            1.2
        }
    }),
    ("spike in each 12th slice of A", |side, slice, _| {
        if side == Side::A && slice.is_multiple_of(12) {
            3.0
        } else {
            1.0
        }
    }),
    ("one spike of a second in A", |side, slice, _| {
        if side == Side::A && slice == 100 {
            300.0
        } else {
            1.0
        }
    }),
];

/// Two subjects on a machine whose speed changes.
struct Drifting {
    clock: FakeClock,
    slowness: Slowness,
    slices: [u64; 2],
    rng: Rng,
}

impl Drifting {
    fn new(slowness: Slowness) -> Self {
        Self {
            clock: FakeClock::new(0),
            slowness,
            slices: [0; 2],
            rng: Rng::new(1),
        }
    }
}

impl Contest for Drifting {
    type Error = std::convert::Infallible;

    fn slice(&mut self, side: Side, iterations: u64) -> Result<Sample, Self::Error> {
        let at = usize::from(side == Side::B);
        self.slices[at] += 1;
        let noise = 1.0 + NOISE * self.rng.normal();
        let start = self.clock.now_ns();
        for _ in 0..iterations {
            let now = self.clock.now_ns() as f64;
            let slowness = (self.slowness)(side, self.slices[at], now);
            self.clock
                .advance((COST_NS[at] * noise * slowness).round() as u64);
        }
        Ok(Sample {
            iterations,
            time_ns: self.clock.now_ns() - start,
            ..Sample::default()
        })
    }
}

/// Measures a pair with a known ratio under every kind of drift. No time passes.
pub fn drifts() -> Vec<Drift> {
    let truth = (COST_NS[0] / COST_NS[1]).ln();
    let of_case = |(name, slowness): &(&'static str, Slowness)| {
        let mut contest = Drifting::new(*slowness);
        let mut pairing = Pairing::new(3, "drift", 0, [CALLS; 2]);
        let blocks: Vec<Ratios> = (0..BLOCKS)
            .filter_map(|_| {
                let Ok(block) = pairing.block(&mut contest);
                block.ratios()
            })
            .collect();
        let mut later = Drifting::new(*slowness);
        let mut run = |side| {
            let times: Vec<f64> = (0..2 * BLOCKS)
                .map(|_| {
                    let Ok(sample) = later.slice(side, CALLS);
                    sample.time_ns as f64
                })
                .collect();
            median(&times).map_or(f64::NAN, f64::ln)
        };
        let (a, b) = (run(Side::A), run(Side::B));
        Drift {
            name,
            bias: centre(&blocks).map_or(f64::NAN, |ratio| ratio - truth),
            sequential_bias: a - b - truth,
        }
    };
    CASES.iter().map(of_case).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_does_not_reach_the_ratio_of_blocks() {
        let all = drifts();
        assert_eq!(all.len(), CASES.len());
        for Drift { name, bias, .. } in &all {
            assert!(bias.abs() < 0.001, "{name}: bias {bias}");
        }
        // The control: of two runs one after the other the ramp and the step are the result.
        for name in ["ramp of 50 % in 5 s", "step of 25 % after 2 s"] {
            let drift = all.iter().find(|drift| drift.name == name).unwrap();
            assert!(drift.sequential_bias.abs() > 0.1, "{drift:?}");
        }
        assert!(all[0].sequential_bias.abs() < 0.001);
    }

    #[test]
    fn blocks_have_their_spikes() {
        // What the estimate does not show has been there: one block in six, and each by half a logarithm of three.
        let (_, slowness) = CASES[5];
        let mut contest = Drifting::new(slowness);
        let mut pairing = Pairing::new(3, "drift", 0, [CALLS; 2]);
        let high = (0..BLOCKS)
            .filter(|_| {
                let Ok(block) = pairing.block(&mut contest);
                // Of both sides' means.
                block.ratios().unwrap().iter().sum::<f64>() / 4.0 > 0.5
            })
            .count();
        assert!((50..90).contains(&high), "{high}");
    }
}
