//! Time. The only place of the project that asks the system what time it is.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A clock that never goes back.
pub trait Clock: Send + Sync {
    /// Nanoseconds since an arbitrary start that stays the same for the life of the clock.
    fn now_ns(&self) -> u64;

    /// Nanoseconds since 1970 in UTC: what other devices write into their records. It may be set and so go back; only
    /// to be used to find a moment of this clock in such a record.
    fn unix_ns(&self) -> u64;
}

impl<C: Clock + ?Sized> Clock for &C {
    fn now_ns(&self) -> u64 {
        (**self).now_ns()
    }

    fn unix_ns(&self) -> u64 {
        (**self).unix_ns()
    }
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now_ns(&self) -> u64 {
        (**self).now_ns()
    }

    fn unix_ns(&self) -> u64 {
        (**self).unix_ns()
    }
}

/// The system's monotonic clock. All values of this type share one start (the first reading of the process), so
/// their readings may be subtracted from each other.
#[derive(Clone, Copy, Debug, Default)]
pub struct MonotonicClock;

impl MonotonicClock {
    /// The clock.
    pub const fn new() -> Self {
        Self
    }
}

/// The one reading of the system clock in the project.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the clock that everything else has to use"
)]
fn system_now() -> Instant {
    Instant::now()
}

impl Clock for MonotonicClock {
    fn now_ns(&self) -> u64 {
        static START: OnceLock<Instant> = OnceLock::new();
        let start = *START.get_or_init(system_now);
        // 2^64 ns are 584 years.
        system_now().duration_since(start).as_nanos() as u64
    }

    fn unix_ns(&self) -> u64 {
        // A system that believes to be before 1970 has no time to tell.
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_nanos() as u64)
    }
}

/// A clock for tests: it shows what it was told, and may advance by itself at each reading.
#[derive(Debug, Default)]
pub struct FakeClock {
    now_ns: AtomicU64,
    step_ns: AtomicU64,
}

impl FakeClock {
    /// A clock that stands at `now_ns`.
    pub const fn new(now_ns: u64) -> Self {
        Self {
            now_ns: AtomicU64::new(now_ns),
            step_ns: AtomicU64::new(0),
        }
    }

    /// A clock whose readings are `now_ns`, `now_ns + step_ns`, `now_ns + 2 step_ns`, ...
    pub const fn stepping(now_ns: u64, step_ns: u64) -> Self {
        Self {
            now_ns: AtomicU64::new(now_ns),
            step_ns: AtomicU64::new(step_ns),
        }
    }

    /// Sets the next reading.
    ///
    /// # Panics
    /// When that would turn the clock back.
    pub fn set(&self, now_ns: u64) {
        let before = self.now_ns.swap(now_ns, Ordering::SeqCst);
        assert!(
            before <= now_ns,
            "a clock must not go back from {before} to {now_ns}"
        );
    }

    /// Moves the clock forward.
    pub fn advance(&self, by_ns: u64) {
        self.now_ns.fetch_add(by_ns, Ordering::SeqCst);
    }

    /// Changes the time by which each reading moves the clock.
    pub fn set_step(&self, step_ns: u64) {
        self.step_ns.store(step_ns, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now_ns(&self) -> u64 {
        self.now_ns
            .fetch_add(self.step_ns.load(Ordering::SeqCst), Ordering::SeqCst)
    }

    fn unix_ns(&self) -> u64 {
        FAKE_EPOCH_NS + self.now_ns.load(Ordering::SeqCst)
    }
}

/// The moment at which a [`FakeClock`] shows 0: 2023-11-14T22:13:20Z.
const FAKE_EPOCH_NS: u64 = 1_700_000_000_000_000_000;

/// What a clock costs and how finely it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ClockFacts {
    /// Time of one reading. A slice is timed with two, so about this much is in every measured time.
    pub overhead_ns: f64,
    /// The smallest step between two readings that differ; missing when no two did.
    pub resolution_ns: Option<u64>,
}

/// Looks at `clock` by reading it some thousand times (a fraction of a millisecond).
pub fn clock_facts(clock: &dyn Clock) -> ClockFacts {
    const READINGS: usize = 1000;
    const ROUNDS: usize = 7;
    let mut fastest = u64::MAX;
    let mut resolution = None;
    let mut readings = vec![0u64; READINGS];
    for _ in 0..ROUNDS {
        for reading in &mut readings {
            *reading = clock.now_ns();
        }
        // The fastest round: the others may have been interrupted.
        fastest = fastest.min(readings[READINGS - 1] - readings[0]);
        let steps = readings
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .filter(|&step| step > 0);
        resolution = steps.chain(resolution).min();
    }
    ClockFacts {
        overhead_ns: fastest as f64 / (READINGS - 1) as f64,
        resolution_ns: resolution,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_about_clocks() {
        let facts = clock_facts(&FakeClock::stepping(3, 25));
        assert_eq!(
            facts,
            ClockFacts {
                overhead_ns: 25.0,
                resolution_ns: Some(25)
            }
        );
        let facts = clock_facts(&FakeClock::new(3));
        assert_eq!(
            facts,
            ClockFacts {
                overhead_ns: 0.0,
                resolution_ns: None
            }
        );
        assert!(clock_facts(&MonotonicClock).resolution_ns.is_some());
    }

    #[test]
    fn the_system_clock_does_not_go_back() {
        let clock = MonotonicClock::new();
        let mut last = clock.now_ns();
        for _ in 0..10_000 {
            let now = clock.now_ns();
            assert!(now >= last);
            last = now;
        }
        // Another value continues the same scale.
        assert!(MonotonicClock.now_ns() >= last);
    }

    #[test]
    fn the_fake_clock_shows_what_it_was_told() {
        let clock = FakeClock::new(5);
        assert_eq!((clock.now_ns(), clock.now_ns()), (5, 5));
        clock.advance(10);
        assert_eq!(clock.now_ns(), 15);
        clock.set(100);
        assert_eq!(clock.now_ns(), 100);
        clock.set_step(3);
        assert_eq!(
            (clock.now_ns(), clock.now_ns(), clock.now_ns()),
            (100, 103, 106)
        );
        let stepping = FakeClock::stepping(1, 2);
        let dynamic: &dyn Clock = &stepping;
        assert_eq!((dynamic.now_ns(), dynamic.now_ns()), (1, 3));
    }

    #[test]
    #[should_panic(expected = "must not go back")]
    fn the_fake_clock_refuses_to_go_back() {
        FakeClock::new(5).set(4);
    }
}
