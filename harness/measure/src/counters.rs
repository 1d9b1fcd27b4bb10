//! Cycles, instructions and cache misses of this process, as evidence beside a time.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use crate::Roots;
use crate::sys::perf::{Count, Counter, Event, Scope};

/// `PERF_TYPE_HARDWARE`: 0 is cycles, 1 is instructions.
const CYCLES: Event = Event { kind: 0, config: 0 };
const INSTRUCTIONS: Event = Event { kind: 0, config: 1 };

/// `PERF_TYPE_HW_CACHE`: last level (2), reading (0), misses (1). The generic `cache-misses` is another cache on other
/// processors (the second level on AMD's); this event is missing there.
const LLC_MISSES: Event = Event {
    kind: 3,
    config: 2 | 1 << 16,
};

/// What was counted, in user mode. A value is missing where the processor does not have the event, or shared its counter
/// among several events for a part of the time: nothing is extrapolated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Cycles of the core.
    pub cycles: Option<u64>,
    /// Instructions that were retired.
    pub instructions: Option<u64>,
    /// Reads that the last level of cache did not have.
    pub llc_misses: Option<u64>,
}

impl Counts {
    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let since = |now: Option<u64>, then: Option<u64>| now?.checked_sub(then?);
        Self {
            cycles: since(self.cycles, earlier.cycles),
            instructions: since(self.instructions, earlier.instructions),
            llc_misses: since(self.llc_misses, earlier.llc_misses),
        }
    }
}

/// Why nothing can be counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCounters {
    /// The system forbids it.
    #[error(
        "the system does not let this user count cycles ({0}); hint: sudo sysctl kernel.perf_event_paranoid=2, or \
         sudo setcap cap_perfmon+ep \"$(command -v tritbench)\"; in a container also --cap-add PERFMON"
    )]
    Forbidden(String),
    /// There is nothing to count with.
    #[error(
        "the processor, or the hypervisor below it, has no counter of cycles ({0}); hint: measure on the machine itself, or \
         on a virtual one whose counters are passed on"
    )]
    Missing(String),
}

/// How counters are opened and read; tests count without a processor.
trait Opener {
    type Open: Readable;

    fn open(&self, event: Event, thread: u32) -> io::Result<Self::Open>;
}

trait Readable {
    fn count(&self) -> io::Result<Count>;
}

struct Kernel;

impl Opener for Kernel {
    type Open = Counter;

    fn open(&self, event: Event, thread: u32) -> io::Result<Counter> {
        Counter::open(event, Scope::Thread(thread))
    }
}

impl Readable for Counter {
    fn count(&self) -> io::Result<Count> {
        self.read()
    }
}

/// Open counters of this process: its threads, and those that they start later; processes that they start, too.
#[derive(Debug)]
pub struct Counters {
    events: Events<Counter>,
}

/// The three events: a counter for each thread, or none where the event does not exist.
#[derive(Debug)]
struct Events<T> {
    cycles: Vec<T>,
    instructions: Vec<T>,
    llc_misses: Vec<T>,
}

impl Counters {
    /// Begins to count. Three descriptors a thread.
    ///
    /// # Errors
    /// When not even cycles can be counted: why.
    pub fn open() -> Result<Self, NoCounters> {
        let threads = threads(&Roots::default());
        let events = Events::open(&Kernel, &threads)?;
        Ok(Self { events })
    }

    /// Where each column comes from on this machine, or `empty: ` and why it has no values.
    pub fn facts() -> BTreeMap<&'static str, String> {
        facts(&Self::open().map(|counters| counters.read()))
    }

    /// What was counted so far. It takes a system call a thread and event.
    pub fn read(&self) -> Counts {
        self.events.read()
    }
}

fn facts(seen: &Result<Counts, NoCounters>) -> BTreeMap<&'static str, String> {
    let fact = |count: fn(&Counts) -> Option<u64>| match seen {
        Ok(counts) if count(counts).is_some() => {
            "perf_event_open, all threads of the worker, user mode".to_owned()
        }
        Ok(_) => "empty: the processor does not count exactly this".to_owned(),
        Err(why) => format!("empty: {why}"),
    };
    BTreeMap::from([
        ("cycles", fact(|counts| counts.cycles)),
        ("instructions", fact(|counts| counts.instructions)),
        ("llc_misses", fact(|counts| counts.llc_misses)),
    ])
}

/// The threads of this process; by its own number when `/proc` does not tell.
fn threads(roots: &Roots) -> Vec<u32> {
    let tasks = fs::read_dir(roots.proc.join("self/task"));
    let entries = tasks.into_iter().flatten().flatten();
    let mut threads: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    threads.sort_unstable();
    if threads.is_empty() {
        threads.push(std::process::id());
    }
    threads
}

impl<T: Readable> Events<T> {
    fn open(opener: &impl Opener<Open = T>, threads: &[u32]) -> Result<Self, NoCounters> {
        let all = |event: Event| -> io::Result<Vec<T>> {
            let mut open = Vec::new();
            for &thread in threads {
                match opener.open(event, thread) {
                    Ok(counter) => open.push(counter),
                    // ESRCH: the thread ended meanwhile.
                    Err(error) if error.raw_os_error() == Some(3) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(open)
        };
        let cycles = all(CYCLES).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => NoCounters::Forbidden(error.to_string()),
            _ => NoCounters::Missing(error.to_string()),
        })?;
        Ok(Self {
            cycles,
            instructions: all(INSTRUCTIONS).unwrap_or_default(),
            llc_misses: all(LLC_MISSES).unwrap_or_default(),
        })
    }

    fn read(&self) -> Counts {
        Counts {
            cycles: sum(&self.cycles),
            instructions: sum(&self.instructions),
            llc_misses: sum(&self.llc_misses),
        }
    }
}

/// All threads together.
fn sum(counters: &[impl Readable]) -> Option<u64> {
    let mut counters = counters.iter().peekable();
    counters.peek()?;
    counters.try_fold(0u64, |sum, counter| {
        let count = counter.count().ok()?;
        (count.running_ns == count.enabled_ns).then_some(())?;
        sum.checked_add(count.value)
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    type Shared = Rc<Cell<Count>>;

    /// A processor without an event of the last level, or a system that says no.
    struct Fake {
        count: Shared,
        errno: Option<i32>,
    }

    struct FakeCounter(Shared, u64);

    impl Opener for Fake {
        type Open = FakeCounter;

        fn open(&self, event: Event, thread: u32) -> io::Result<FakeCounter> {
            if event == LLC_MISSES {
                return Err(io::Error::from_raw_os_error(2));
            }
            if thread == 99 {
                return Err(io::Error::from_raw_os_error(3));
            }
            match self.errno {
                Some(errno) => Err(io::Error::from_raw_os_error(errno)),
                None => Ok(FakeCounter(Rc::clone(&self.count), event.config + 1)),
            }
        }
    }

    impl Readable for FakeCounter {
        fn count(&self) -> io::Result<Count> {
            let count = self.0.get();
            Ok(Count {
                value: count.value * self.1,
                ..count
            })
        }
    }

    fn at(value: u64, enabled_ns: u64, running_ns: u64) -> Count {
        Count {
            value,
            enabled_ns,
            running_ns,
        }
    }

    #[test]
    fn threads_are_added_and_shares_are_not_extrapolated() {
        let fake = Fake {
            count: Shared::default(),
            errno: None,
        };
        // The last one ended before its counter was opened.
        let events = Events::open(&fake, &[7, 8, 99]).unwrap();
        fake.count.set(at(5, 10, 10));
        let first = events.read();
        let want = Counts {
            cycles: Some(10),
            instructions: Some(20),
            llc_misses: None,
        };
        assert_eq!(first, want);
        fake.count.set(at(8, 20, 20));
        let since = events.read().since(&first);
        assert_eq!((since.cycles, since.instructions), (Some(6), Some(12)));
        assert_eq!(since.llc_misses, None);
        // Another program took the counter for half of the time.
        fake.count.set(at(8, 20, 10));
        assert_eq!(events.read(), Counts::default());
    }

    #[test]
    fn reasons() {
        for (errno, forbidden) in [(13, true), (1, true), (2, false), (95, false), (38, false)] {
            let fake = Fake {
                count: Shared::default(),
                errno: Some(errno),
            };
            let error = Events::open(&fake, &[1]).map(|_| ()).unwrap_err();
            assert_eq!(
                matches!(error, NoCounters::Forbidden(_)),
                forbidden,
                "{error}"
            );
            assert!(error.to_string().contains("hint: "), "{error}");
        }
    }

    #[test]
    fn columns_say_where_they_come_from_or_why_they_are_empty() {
        let some = facts(&Ok(Counts {
            cycles: Some(0),
            instructions: Some(3),
            llc_misses: None,
        }));
        assert!(some["cycles"].starts_with("perf_event_open"));
        assert!(some["llc_misses"].starts_with("empty: "));
        let none = facts(&Err(NoCounters::Forbidden("no".to_owned())));
        assert_eq!(none.len(), 3);
        for fact in none.values() {
            assert!(
                fact.starts_with("empty: ") && fact.contains("hint: "),
                "{fact}"
            );
        }
    }

    #[test]
    fn this_machine_counts_or_says_why_not() {
        match Counters::open() {
            Ok(counters) => {
                let first = counters.read();
                let work: u64 = (0..100_000u64).map(std::hint::black_box).sum();
                assert!(work > 0);
                let counted = counters.read().since(&first);
                assert!(counted.cycles.is_none_or(|cycles| cycles > 10_000));
            }
            Err(error) => assert!(error.to_string().contains("hint: "), "{error}"),
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_counter_of_the_kernel_counts() {
        // `PERF_TYPE_SOFTWARE`, `PERF_COUNT_SW_TASK_CLOCK`: nanoseconds of the thread, on every machine that permits it.
        let clock = Event { kind: 1, config: 1 };
        let link = fs::read_link("/proc/thread-self").unwrap();
        let thread = link.file_name().unwrap().to_str().unwrap();
        let Ok(counter) = Counter::open(clock, Scope::Thread(thread.parse().unwrap())) else {
            return;
        };
        let first = counter.read().unwrap();
        let mut last = first;
        while last.value < first.value + 1_000_000 {
            last = counter.read().unwrap();
        }
        assert!(last.running_ns > first.running_ns && last.running_ns <= last.enabled_ns);
        let nothing = Event {
            kind: u32::MAX,
            config: 0,
        };
        let error = Counter::open(nothing, Scope::Thread(thread.parse().unwrap())).unwrap_err();
        assert!(error.raw_os_error().is_some(), "{error}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_threads_of_this_process() {
        let threads = threads(&Roots::default());
        assert!(threads.contains(&std::process::id()), "{threads:?}");
    }
}
