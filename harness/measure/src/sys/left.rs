//! What is left of a thread's share of a region: taken from its start by the thread itself, from its end by others.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// One in so many of the steps that are left is what a thread leaves to others while it works on the rest: with two threads, a third
/// of a share is just what the other one can take over from one of half its speed. Pieces of halves cost one token some 2 % of its
/// time, since each call of a kernel begins with memory that nobody asked for ahead; thirds cost too little to be measured.
const KEPT: u32 = 3;

/// A range of steps that gets smaller from both ends: its first step in the upper half of the word, its end in the lower.
#[derive(Debug, Default)]
pub(super) struct Left(AtomicU64);

impl Left {
    /// Begins a region. Nobody takes anything meanwhile.
    ///
    /// # Panics
    /// When the range does not fit into 32 bits.
    pub(super) fn set(&self, steps: &Range<usize>) {
        let half = |step: usize| u32::try_from(step).expect("a region of less than 2^32 steps");
        self.0
            .store(word(half(steps.start), half(steps.end)), Ordering::Relaxed);
    }

    /// The next piece for the thread that has the share: all of it, or most of it first and then most of what nobody else took.
    pub(super) fn take(&self, others: bool) -> Option<Range<usize>> {
        self.shrink(|first, end| {
            let kept = if others { (end - first) / KEPT } else { 0 };
            let middle = end - kept;
            (first..middle, middle..end)
        })
    }

    /// The next piece for a thread that has done its own: the last half.
    pub(super) fn take_end(&self) -> Option<Range<usize>> {
        self.shrink(|first, end| {
            let middle = first + (end - first) / 2;
            (middle..end, first..middle)
        })
    }

    /// Replaces what is left by the second part of the cut, and gives the first.
    fn shrink(&self, cut: impl Fn(u32, u32) -> (Range<u32>, Range<u32>)) -> Option<Range<usize>> {
        // Every number handed out follows from one word that nobody else could replace meanwhile, so no order between it and other
        // memory is needed: what the pieces work on is published with the region, and seen when it ends.
        let mut old = self.0.load(Ordering::Relaxed);
        loop {
            let (first, end) = ((old >> 32) as u32, old as u32);
            if first == end {
                return None;
            }
            let (taken, rest) = cut(first, end);
            match self.0.compare_exchange_weak(
                old,
                word(rest.start, rest.end),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(taken.start as usize..taken.end as usize),
                Err(now) => old = now,
            }
        }
    }
}

fn word(first: u32, end: u32) -> u64 {
    u64::from(first) << 32 | u64::from(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_without_neighbours_takes_all_at_once() {
        let left = Left::default();
        assert_eq!(left.take(false), None);
        left.set(&(3..40));
        assert_eq!(left.take(false), Some(3..40));
        assert_eq!(left.take(false), None);
        assert_eq!(left.take_end(), None);
    }

    #[test]
    fn most_of_a_share_is_its_first_piece() {
        let left = Left::default();
        left.set(&(0..60));
        assert_eq!(left.take(true), Some(0..40));
        assert_eq!(left.take_end(), Some(50..60));
        assert_eq!(left.take(true), Some(40..47));
        assert_eq!(left.take_end(), Some(48..50));
        assert_eq!(left.take_end(), Some(47..48));
        assert_eq!(left.take(true), None);
    }

    #[test]
    fn whoever_takes_every_step_is_taken_once() {
        for steps in [0..0, 0..1, 5..7, 0..100, 4_294_967_000..4_294_967_295] {
            for turns in 0..64u32 {
                let left = Left::default();
                left.set(&steps);
                let (mut first, mut end) = (steps.start, steps.end);
                for turn in 0.. {
                    let own = turns >> (turn % 6) & 1 == 0;
                    let piece = if own {
                        left.take(true)
                    } else {
                        left.take_end()
                    };
                    let Some(piece) = piece else { break };
                    assert!(!piece.is_empty());
                    if own {
                        assert_eq!(piece.start, first);
                        first = piece.end;
                    } else {
                        assert_eq!(piece.end, end);
                        end = piece.start;
                    }
                }
                assert_eq!(first, end, "{steps:?}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "less than 2^32 steps")]
    fn more_steps_than_a_half_word_holds_are_refused() {
        Left::default().set(&(0..1 << 32));
    }
}
