//! The vocabulary of the thread team: its options and errors, and the static split of work. The team itself is
//! [`crate::Team`].

use std::io;
use std::ops::Range;

/// More threads than this are a mistake in a command line and not a machine.
pub const MAX_THREADS: usize = 1024;

/// Why there is no team.
#[derive(Debug, thiserror::Error)]
pub enum TeamError {
    /// Nobody would do the work.
    #[error("a team of 0 threads cannot work; hint: give at least 1 thread")]
    NoThreads,
    /// Beyond [`MAX_THREADS`].
    #[error(
        "`{threads}` threads are more than the {MAX_THREADS} a team may have; hint: use at most one thread a CPU"
    )]
    TooManyThreads {
        /// The number asked for.
        threads: usize,
    },
    /// The system refused a thread.
    #[error(
        "cannot start thread {index} of {threads}: {source}; hint: look at `ulimit -u` and the pids limit of the cgroup"
    )]
    Spawn {
        /// Which thread.
        index: usize,
        /// Of how many.
        threads: usize,
        /// What the system said.
        source: io::Error,
    },
}

/// How a team is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TeamOptions {
    /// Threads, the caller included.
    pub threads: usize,
    /// Tie thread `i` to the i-th allowed CPU. Ignored when there are more threads than allowed CPUs, because two
    /// threads tied to one CPU would wait for each other while another CPU idles.
    pub pin: bool,
    /// How long a thread that waits spins before it parks. 0 when there are more threads than allowed CPUs: then
    /// a spinning thread keeps the one it waits for from running.
    pub spin_ns: u64,
}

impl TeamOptions {
    /// 100 us bridge the gaps between the parallel regions of a token (one to ten microseconds) and the sampling
    /// between tokens, and are too short to matter for idle power.
    pub const SPIN_NS: u64 = 100_000;

    /// Pinned, with the usual spin time.
    pub const fn new(threads: usize) -> Self {
        Self {
            threads,
            pin: true,
            spin_ns: Self::SPIN_NS,
        }
    }
}

/// The part of `0..len` that belongs to `thread` of `threads`: contiguous, starting and ending at multiples of
/// `step` (the last one at `len`), in order, together exactly `0..len`. Counted in steps, no share is more than one
/// larger than another; the larger ones come first. A share is empty when there are fewer steps than threads.
///
/// # Panics
/// When `step` or `threads` is 0, or `thread` is not below `threads`.
pub fn share(len: usize, step: usize, thread: usize, threads: usize) -> Range<usize> {
    assert!(step > 0, "a step of 0 splits nothing");
    assert!(
        thread < threads,
        "thread {thread} of {threads} does not exist"
    );
    let steps = len.div_ceil(step);
    let (each, more) = (steps / threads, steps % threads);
    let first = thread * each + thread.min(more);
    let last = first + each + usize::from(thread < more);
    // Only the very last step can be cut short, so a saturated product is above `len` as well.
    first.saturating_mul(step).min(len)..last.saturating_mul(step).min(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once_at_multiples_of_the_step() {
        for len in (0..70).chain([127, 128, 129, 2560, 6912]) {
            for step in [1, 2, 3, 8, 16, 64, 100] {
                for threads in 1..9 {
                    let mut next = 0;
                    let mut sizes = Vec::new();
                    for thread in 0..threads {
                        let range = share(len, step, thread, threads);
                        assert_eq!(range.start, next, "{len} {step} {thread}/{threads}");
                        assert!(range.start.is_multiple_of(step) || range.start == len);
                        assert!(range.end.is_multiple_of(step) || range.end == len);
                        sizes.push(range.len().div_ceil(step));
                        next = range.end;
                    }
                    assert_eq!(next, len);
                    let (min, max) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
                    assert!(max - min <= 1, "{len} {step} {threads}: {sizes:?}");
                    assert!(sizes.is_sorted_by(|a, b| a >= b));
                }
            }
        }
    }

    #[test]
    fn huge_lengths_do_not_overflow() {
        let threads = 7;
        let mut next = 0;
        for thread in 0..threads {
            let range = share(usize::MAX, 1 << 40, thread, threads);
            assert_eq!(range.start, next);
            next = range.end;
        }
        assert_eq!(next, usize::MAX);
    }

    #[test]
    #[should_panic(expected = "does not exist")]
    fn a_thread_outside_the_team_has_no_share() {
        share(10, 1, 2, 2);
    }
}
