//! Empty parallel regions: what dispatching alone costs, for the team and for rayon beside it.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use trit_measure::{Clock, MonotonicClock, Team};

use super::{Done, Fault, Subject};
use crate::protocol::{Answer, Opened};

/// Runs of the region by one thread, on lines of its own: a region that counts is empty but for this.
#[derive(Default)]
#[repr(align(128))]
struct Count(AtomicU64);

impl Count {
    fn add(&self) {
        // Only one thread writes: a plain addition would do, and this compiles to nearly that.
        self.0
            .store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// Counts and checks what every kind of region has to do.
struct Counts(Vec<Count>);

impl Counts {
    fn new(threads: usize) -> Self {
        Self((0..threads).map(|_| Count::default()).collect())
    }

    fn poison(&self) {
        for count in &self.0 {
            count.0.store(0, Ordering::Relaxed);
        }
    }

    /// Every thread has run every region.
    fn check(&self, regions: u64) -> Result<(), Fault> {
        for (thread, count) in self.0.iter().enumerate() {
            let got = count.0.load(Ordering::Relaxed);
            if got != regions {
                return Err(Fault::failed(format!(
                    "thread {thread} ran {got} of {regions} regions"
                )));
            }
        }
        Ok(())
    }
}

/// Regions of the pinned team.
pub(super) struct TeamRegion {
    team: Rc<Team>,
    counts: Counts,
    regions: u64,
}

impl TeamRegion {
    pub(super) fn open(team: Rc<Team>) -> Self {
        Self {
            counts: Counts::new(team.threads()),
            team,
            regions: 0,
        }
    }
}

/// Regions of a rayon pool: a broadcast, which like a region of the team runs once on every thread.
pub(super) struct RayonRegion {
    pool: rayon::ThreadPool,
    counts: Counts,
    regions: u64,
}

impl RayonRegion {
    pub(super) fn open(threads: u64) -> Result<Self, Fault> {
        let threads = usize::try_from(threads)
            .unwrap_or(usize::MAX)
            .clamp(1, 1024);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .start_handler(super::untie)
            .build()
            .map_err(Fault::failed)?;
        Ok(Self {
            pool,
            counts: Counts::new(threads),
            regions: 0,
        })
    }
}

macro_rules! region_subject {
    ($type:ty, $name:literal, |$self:ident, $counts:ident| $region:expr) => {
        impl Subject for $type {
            fn opened(&self) -> Opened {
                Opened {
                    variant: $name.to_owned(),
                    ..Opened::default()
                }
            }

            fn warm_up(&mut self, calls: u64) -> Result<(), Fault> {
                self.slice(calls).map(|_| ())
            }

            fn poison(&mut self) {
                self.counts.poison();
                self.regions = 0;
            }

            fn slice(&mut self, iterations: u64) -> Result<Done, Fault> {
                let ($self, $counts) = (&*self, &self.counts.0);
                let start = MonotonicClock.now_ns();
                for _ in 0..iterations {
                    $region;
                }
                let time_ns = MonotonicClock.now_ns() - start;
                self.regions += iterations;
                Ok(Done {
                    calls: iterations,
                    time_ns,
                    ..Done::default()
                })
            }

            fn answers(&mut self) -> Result<Vec<Answer>, Fault> {
                self.counts.check(self.regions)?;
                Ok(Vec::new())
            }
        }
    };
}

region_subject!(TeamRegion, "team", |this, counts| this
    .team
    .run(|thread| counts[thread].add()));
region_subject!(RayonRegion, "rayon", |this, counts| this
    .pool
    .broadcast(|context| counts[context.index()].add()));
