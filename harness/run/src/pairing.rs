//! ABBA blocks: the one loop in which two subjects take turns.
//!
//! The speed of a shared machine drifts and steps by more than the effects one looks for. Two subjects that take turns in
//! slices of a few milliseconds see the same machine: in the order A B B A a linear drift cancels within the block, and
//! a coin turns half of the blocks into B A A B, so that no side has a favourite slot. All ratios of the project come
//! from these blocks, whatever the two subjects are: kernels, a kernel and its probe, or two builds.

use trit_core::{Rng, Side, log_ratios};
use trit_stats::judge::Ratios;

use crate::protocol::Sample;

/// Two subjects of which either can run a slice.
pub trait Contest {
    /// What can go wrong.
    type Error;

    /// Runs `iterations` calls of one side, verifies them, and gives their time.
    ///
    /// # Errors
    /// When the side fails; the block is then lost.
    fn slice(&mut self, side: Side, iterations: u64) -> Result<Sample, Self::Error>;
}

/// A side that failed within a block.
#[derive(Debug)]
pub struct SideError<E> {
    /// Which one.
    pub side: Side,
    /// Why.
    pub error: E,
}

/// Four slices.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Which block of the pair, from 0.
    pub index: u64,
    /// The slices in the order in which they ran.
    pub samples: [(Side, Sample); 4],
}

impl Block {
    /// `ln Aᵢ − ln Bⱼ` of the times of one call, for each slice of A and each of B: above zero when A is slower.
    /// `None` when a slice took no time by the clock.
    pub fn ratios(&self) -> Option<Ratios> {
        let times = |wanted: Side| -> Option<[f64; 2]> {
            let of_side = self.samples.iter().filter(|(side, _)| *side == wanted);
            let mut calls =
                of_side.map(|(_, sample)| sample.time_ns as f64 / sample.iterations as f64);
            Some([calls.next()?, calls.next()?])
        };
        log_ratios(times(Side::A)?, times(Side::B)?)
    }
}

/// The blocks of one pair.
#[derive(Clone, Debug)]
pub struct Pairing {
    rng: Rng,
    next: u64,
    iterations: [u64; 2],
}

impl Pairing {
    /// Blocks whose slices have `iterations` calls of A and of B. `name` and `seed` decide the order within each block,
    /// and `first` is the index of the first one (above 0 when a session is resumed).
    pub fn new(seed: u64, name: &str, first: u64, iterations: [u64; 2]) -> Self {
        let mut rng = Rng::named(seed, name);
        for _ in 0..first {
            rng.next_u64();
        }
        Self {
            rng,
            next: first,
            iterations: iterations.map(|n| n.max(1)),
        }
    }

    /// Index of the next block.
    pub fn next_index(&self) -> u64 {
        self.next
    }

    /// Runs one block.
    ///
    /// # Errors
    /// When a side fails. The block keeps its index: the order of the others does not change.
    pub fn block<C: Contest>(&mut self, contest: &mut C) -> Result<Block, SideError<C::Error>> {
        let order = if self.rng.next_u64() >> 63 == 0 {
            [Side::A, Side::B, Side::B, Side::A]
        } else {
            [Side::B, Side::A, Side::A, Side::B]
        };
        let index = self.next;
        self.next += 1;
        let mut run = |side: Side| {
            let iterations = self.iterations[usize::from(side == Side::B)];
            contest
                .slice(side, iterations)
                .map(|sample| (side, sample))
                .map_err(|error| SideError { side, error })
        };
        let samples = [
            run(order[0])?,
            run(order[1])?,
            run(order[2])?,
            run(order[3])?,
        ];
        Ok(Block { index, samples })
    }
}

/// The number of calls that take about `slice_ns` when one takes `call_ns`; at least one.
pub fn iterations_for(slice_ns: u64, call_ns: f64) -> u64 {
    // A clock that saw nothing: many calls, so that the next calibration sees them.
    let call_ns = call_ns.max(1.0);
    ((slice_ns as f64 / call_ns).round() as u64).clamp(1, 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_abba_or_baab_by_a_seeded_coin() {
        struct Names(String);
        impl Contest for Names {
            type Error = ();
            fn slice(&mut self, side: Side, _: u64) -> Result<Sample, ()> {
                self.0.push_str(side.name());
                Ok(Sample::default())
            }
        }
        let order = |seed, first, count| {
            let mut names = Names(String::new());
            let mut pairing = Pairing::new(seed, "p", first, [1, 1]);
            for _ in 0..count {
                pairing.block(&mut names).unwrap();
            }
            names.0
        };
        let all = order(1, 0, 200);
        let blocks: Vec<&str> = (0..200).map(|i| &all[4 * i..4 * i + 4]).collect();
        let abba = blocks.iter().filter(|block| **block == "ABBA").count();
        assert_eq!(
            abba + blocks.iter().filter(|block| **block == "BAAB").count(),
            200
        );
        assert!((60..=140).contains(&abba), "{abba}");
        assert_ne!(all, order(2, 0, 200));
        // A resumed pair goes on where it stopped.
        assert_eq!(all[4 * 50..], order(1, 50, 150));
    }

    #[test]
    fn a_failing_side_is_named() {
        struct Fails;
        impl Contest for Fails {
            type Error = &'static str;
            fn slice(&mut self, side: Side, _: u64) -> Result<Sample, &'static str> {
                if side == Side::B {
                    Err("broken")
                } else {
                    Ok(Sample::default())
                }
            }
        }
        let error = Pairing::new(1, "p", 0, [1, 1])
            .block(&mut Fails)
            .unwrap_err();
        assert_eq!((error.side, error.error), (Side::B, "broken"));
    }

    #[test]
    fn slices_have_a_length() {
        assert_eq!(iterations_for(3_000_000, 100_000.0), 30);
        assert_eq!(iterations_for(3_000_000, 1e9), 1);
        assert_eq!(iterations_for(3_000_000, 0.0), 1_000_000);
    }
}
