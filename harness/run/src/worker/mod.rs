//! A worker: the process in which subjects run. It does what the master asks, one request at a time, and decides
//! nothing: which answers are right, how often and in which order to measure is the master's matter.

mod catalog;
mod control;
mod dispatch;
mod engine;
mod inside;
mod multiply;
mod pack;
mod probe;
mod program;
mod startup;
mod timeline;
mod weights;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{BufRead, Write};
use std::rc::Rc;

use trit_core::TimelineRow;
use trit_kernel::Cpu;
use trit_measure::{
    Clock, Counters, CpuTimes, MachineEvidence, Memory, MonotonicClock, Roots, Team,
    default_threads, memory, reset_peak_rss,
};

use crate::pairing::iterations_for;
use crate::protocol::{
    Answer, FailureKind, Hello, Job, Opened, PROTOCOL, Reply, Request, Sample, Task, Token,
};
use engine::Engines;
pub(crate) use inside::Inside;
use probe::Arenas;
use weights::WeightStore;

/// Calls of a loop between two looks at the clock take about this long.
const LOOP_SLICE_NS: u64 = 50_000_000;
/// No loop is longer.
const MAX_LOOP_NS: u64 = 3_600_000_000_000;

/// Why a request could not be met.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What kind of failure.
    pub kind: FailureKind,
    /// One sentence.
    pub message: String,
}

/// The sentence of a fault, from a text or an error.
struct Message(String);

impl<T: Display> From<T> for Message {
    fn from(value: T) -> Self {
        Self(value.to_string())
    }
}

impl Fault {
    fn failed(message: impl Into<Message>) -> Self {
        Self::new(FailureKind::Failed, message)
    }

    fn unsupported(message: impl Into<Message>) -> Self {
        Self::new(FailureKind::Unsupported, message)
    }

    fn over_limit(message: impl Into<Message>) -> Self {
        Self::new(FailureKind::OverLimit, message)
    }

    fn new(kind: FailureKind, message: impl Into<Message>) -> Self {
        Self {
            kind,
            message: message.into().0,
        }
    }
}

/// What a subject did in a slice.
#[derive(Clone, Debug, Default, PartialEq)]
struct Done {
    /// Calls that were timed: those asked for, or the tokens that a request generated.
    calls: u64,
    /// Wall time of the timed calls.
    time_ns: u64,
    /// Part of it spent preparing.
    prepare_ns: Option<u64>,
    /// Tokens generated.
    tokens: Vec<Token>,
    /// The memory of the worker meanwhile.
    timeline: Vec<TimelineRow>,
    /// What processes outside of the worker used, where the work was theirs.
    outside: Option<Outside>,
}

/// What a program that is not ours used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Outside {
    /// Until it ended; `None` where the system does not tell.
    cpu: Option<CpuTimes>,
    /// At the look at which it was largest.
    memory: Memory,
}

impl Outside {
    /// Of two runs: everything that they used, and the memory of the larger.
    fn and(&self, other: &Self) -> Self {
        let larger = self.memory.peak_rss_bytes > other.memory.peak_rss_bytes;
        Self {
            cpu: match (self.cpu, other.cpu) {
                (Some(one), Some(other)) => Some(one.plus(&other)),
                (one, other) => one.or(other),
            },
            memory: if larger { self.memory } else { other.memory },
        }
    }
}

/// Something that is measured.
trait Subject {
    /// What it turned out to be.
    fn opened(&self) -> Opened;

    /// Takes the exact sums of its input sets.
    fn expect(&mut self, _sums: Vec<Vec<i32>>) -> Result<(), Fault> {
        Err(Fault::unsupported("answers of this subject are exact"))
    }

    /// Runs calls whose time and answers do not count.
    fn warm_up(&mut self, calls: u64) -> Result<(), Fault>;

    /// Makes every place of an answer hold something that is no answer. Not timed.
    fn poison(&mut self);

    /// Runs `iterations` calls.
    fn slice(&mut self, iterations: u64) -> Result<Done, Fault>;

    /// Brings the subject to where a loop can start.
    fn ready(&mut self) -> Result<(), Fault> {
        self.warm_up(1)?;
        self.poison();
        Ok(())
    }

    /// Runs calls until `at_least_ns` are over. Nothing but the calls takes time worth speaking of.
    fn run_loop(&mut self, at_least_ns: u64) -> Result<Done, Fault> {
        let mut all = Done::default();
        let mut iterations = 1;
        while all.time_ns < at_least_ns {
            let done = self.slice(iterations)?;
            if done.calls == 0 {
                return Err(Fault::failed("a loop without calls"));
            }
            all.calls += done.calls;
            all.time_ns += done.time_ns;
            // Long slices, the last of which ends soon after the time is over.
            let left_ns = at_least_ns.saturating_sub(all.time_ns);
            let call_ns = all.time_ns as f64 / all.calls as f64;
            iterations = iterations_for(left_ns.min(LOOP_SLICE_NS), call_ns);
        }
        Ok(all)
    }

    /// The answers of the input sets that the last slice, or the last calls of the loop, used. Not timed.
    fn answers(&mut self) -> Result<Vec<Answer>, Fault>;
}

/// What subjects share in one worker.
struct Shop {
    cpu: Cpu,
    teams: BTreeMap<usize, Rc<Team>>,
    weights: WeightStore,
    engines: Engines,
    arenas: Arenas,
}

impl Shop {
    /// The team of `threads`.
    fn team(&mut self, threads: u64) -> Result<Rc<Team>, Fault> {
        let threads = usize::try_from(threads).unwrap_or(usize::MAX);
        if let Some(team) = self.teams.get(&threads) {
            return Ok(Rc::clone(team));
        }
        let team = Rc::new(Team::new(threads).map_err(Fault::failed)?);
        self.teams.insert(threads, Rc::clone(&team));
        Ok(team)
    }

    fn open(&mut self, task: &Task) -> Result<Box<dyn Subject>, Fault> {
        Ok(match task.job {
            Job::Multiply | Job::Prepare => multiply::open(self, task)?,
            Job::Pack => Box::new(pack::Pack::open(task)?),
            Job::DispatchTeam => Box::new(dispatch::TeamRegion::open(self.team(task.threads)?)),
            Job::DispatchRayon => Box::new(dispatch::RayonRegion::open(task.threads)?),
            Job::Read => Box::new(probe::Read::open(self, task)?),
            Job::Peak => Box::new(probe::Peak::open(self, task)?),
            Job::Prefill | Job::Decode => self.engines.open(task, self.cpu)?,
            Job::Control => Box::new(control::Control::new()),
            Job::Program => Box::new(program::Program::open(task)?),
            Job::Unknown => {
                return Err(Fault::unsupported("this version does not know the job"));
            }
        })
    }

    /// The answers of `task` as its kernel computes them, every input set once.
    fn reference(&mut self, task: &Task, sums: bool) -> Result<Reply, Fault> {
        match task.job {
            Job::Multiply | Job::Prepare => {
                let (answers, sums) = multiply::reference(self, task, sums)?;
                Ok(Reply::Reference {
                    answers,
                    sums,
                    check: None,
                })
            }
            Job::Pack => Ok(Reply::Reference {
                answers: pack::reference(task)?,
                sums: Vec::new(),
                check: None,
            }),
            Job::Prefill | Job::Decode => Ok(Reply::Reference {
                answers: Vec::new(),
                sums: Vec::new(),
                check: Some(engine::reference(task, self.cpu)?),
            }),
            Job::Program => Ok(Reply::Reference {
                answers: Vec::new(),
                sums: Vec::new(),
                check: Some(engine::continued(task, self.cpu)?),
            }),
            Job::DispatchTeam
            | Job::DispatchRayon
            | Job::Read
            | Job::Peak
            | Job::Control
            | Job::Unknown => Err(Fault::unsupported("this job has no reference")),
        }
    }
}

/// What is read around a slice.
struct Looks {
    /// Where the system permits them.
    counters: Option<Counters>,
    /// What the machine counts.
    evidence: MachineEvidence,
}

impl Looks {
    fn open() -> Self {
        Self {
            counters: Counters::open().ok(),
            evidence: MachineEvidence::find(&Roots::default()),
        }
    }
}

/// The state of a worker.
struct Floor {
    shop: Shop,
    looks: Looks,
    subjects: BTreeMap<u64, Box<dyn Subject>>,
}

impl Floor {
    /// Without any cell.
    fn new(cpu: Cpu, looks: Looks) -> Self {
        Self {
            shop: Shop {
                cpu,
                teams: BTreeMap::new(),
                weights: WeightStore::default(),
                engines: Engines::default(),
                arenas: Arenas::default(),
            },
            looks,
            subjects: BTreeMap::new(),
        }
    }

    /// The answer to any request.
    fn reply(&mut self, request: Request) -> Reply {
        self.answer(request).unwrap_or_else(|fault| Reply::Failure {
            kind: fault.kind,
            message: fault.message,
        })
    }

    fn subject(&mut self, slot: u64) -> Result<&mut Box<dyn Subject>, Fault> {
        self.counted(slot).map(|(_, subject)| subject)
    }

    /// A subject, and what is read around its slices.
    fn counted(&mut self, slot: u64) -> Result<(&Looks, &mut Box<dyn Subject>), Fault> {
        let subject = self.subjects.get_mut(&slot);
        let subject = subject.ok_or_else(|| Fault::failed(format!("slot {slot} is not open")))?;
        Ok((&self.looks, subject))
    }

    fn answer(&mut self, request: Request) -> Result<Reply, Fault> {
        match request {
            Request::Open { slot, task } => {
                self.subjects.remove(&slot);
                let subject = self.shop.open(&task)?;
                let opened = subject.opened();
                self.subjects.insert(slot, subject);
                Ok(Reply::Opened(opened))
            }
            Request::Expect { slot, sums } => {
                self.subject(slot)?.expect(sums)?;
                Ok(Reply::Done)
            }
            Request::Slice {
                slot,
                iterations,
                warm_up,
                reset_peak,
                bare,
            } => {
                let was_reset = reset_peak && reset_peak_rss();
                let (looks, subject) = self.counted(slot)?;
                let looks = Some(looks).filter(|_| !bare);
                let (sample, tokens) =
                    slice(subject.as_mut(), iterations, warm_up, was_reset, looks)?;
                Ok(Reply::Sliced {
                    sample,
                    answers: subject.answers()?,
                    tokens,
                })
            }
            Request::Ready { slot } => {
                self.subject(slot)?.ready()?;
                Ok(Reply::Done)
            }
            Request::Loop { slot, at_least_ns } => {
                let (looks, subject) = self.counted(slot)?;
                let calls = || subject.run_loop(at_least_ns.min(MAX_LOOP_NS));
                let (sample, _) = sample(Some(looks), calls, true)?;
                Ok(Reply::Looped { sample })
            }
            Request::EndLoop { slot } => Ok(Reply::Answers {
                answers: self.subject(slot)?.answers()?,
            }),
            Request::Close { slot } => {
                self.subjects.remove(&slot);
                self.shop.weights.release();
                self.shop.arenas.release();
                Ok(Reply::Done)
            }
            Request::Reference { task, sums } => {
                let reply = self.shop.reference(&task, sums)?;
                self.shop.weights.release();
                Ok(reply)
            }
            Request::Exit => Ok(Reply::Done),
            Request::Unknown => Err(Fault::unsupported("this version does not know the request")),
        }
    }
}

/// One slice with everything around it that is not timed.
fn slice(
    subject: &mut dyn Subject,
    iterations: u64,
    warm_up: u64,
    was_reset: bool,
    looks: Option<&Looks>,
) -> Result<(Sample, Vec<Token>), Fault> {
    if iterations == 0 {
        return Err(Fault::failed("a slice of 0 iterations"));
    }
    subject.poison();
    subject.warm_up(warm_up)?;
    subject.poison();
    sample(looks, || subject.slice(iterations), was_reset)
}

/// What `calls` did, and what the system says about it; with nothing to look at, the time alone.
fn sample(
    looks: Option<&Looks>,
    calls: impl FnOnce() -> Result<Done, Fault>,
    was_reset: bool,
) -> Result<(Sample, Vec<Token>), Fault> {
    let Some(looks) = looks else {
        let done = calls()?;
        let sample = Sample {
            iterations: done.calls,
            time_ns: done.time_ns,
            prepare_ns: done.prepare_ns,
            ..Sample::default()
        };
        return Ok((sample, done.tokens));
    };
    let counters = looks.counters.as_ref();
    let before = looks.evidence.before();
    let counted = counters.map(Counters::read);
    let start_ns = MonotonicClock.now_ns();
    let done = calls()?;
    let evidence_ns = MonotonicClock.now_ns().saturating_sub(start_ns);
    // The counters are those of this process.
    let counted = counters
        .zip(counted)
        .filter(|_| done.outside.is_none())
        .map(|(counters, before)| counters.read().since(&before))
        .unwrap_or_default();
    let evidence = looks.evidence.after().since(&before);
    let (cpu, memory) = if let Some(outside) = done.outside {
        (outside.cpu, outside.memory)
    } else {
        let mut own = memory();
        // A peak of before is not that of the calls.
        own.peak_rss_bytes = own.peak_rss_bytes.filter(|_| was_reset);
        (Some(evidence.cpu), own)
    };
    let sample = Sample {
        iterations: done.calls,
        time_ns: done.time_ns,
        prepare_ns: done.prepare_ns,
        user_ns: cpu.map(|cpu| cpu.user_ns),
        system_ns: cpu.map(|cpu| cpu.system_ns),
        steal_ns: evidence.steal_ns,
        involuntary_switches: cpu.map(|cpu| cpu.involuntary_switches),
        frequency_khz: evidence.frequency_khz,
        voluntary_switches: cpu.map(|cpu| cpu.voluntary_switches),
        minor_faults: cpu.map(|cpu| cpu.minor_faults),
        major_faults: cpu.map(|cpu| cpu.major_faults),
        throttled_ns: evidence.throttled_ns,
        throttle_count: evidence.throttle_count,
        temperature_mc: evidence.temperature_mc,
        cycles: counted.cycles,
        instructions: counted.instructions,
        llc_misses: counted.llc_misses,
        evidence_ns: Some(evidence_ns),
        peak_rss_bytes: memory.peak_rss_bytes,
        rss_anon_bytes: memory.rss_anon_bytes,
        rss_file_bytes: memory.rss_file_bytes,
        rss_shmem_bytes: memory.rss_shmem_bytes,
        timeline: done.timeline,
    };
    Ok((sample, done.tokens))
}

/// Serves requests until the input ends or the master says so.
///
/// # Errors
/// When the output cannot be written: the master is gone.
pub fn serve(input: impl BufRead, mut output: impl Write) -> std::io::Result<()> {
    // Before there is another thread: those that are started later are counted with it. Why there are none is in the record
    // of the session.
    let looks = Looks::open();
    // Before any thread is tied to a CPU: the pool's threads inherit the affinity of the thread that makes them.
    let threads = default_threads();
    // Fails only when the pool exists already, which serves as well.
    let _pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global();
    // The first reading makes the clock.
    let _start = MonotonicClock.now_ns();
    let mut put = |value: &str| -> std::io::Result<()> {
        output.write_all(value.as_bytes())?;
        output.write_all(b"\n")?;
        output.flush()
    };
    let cpu = match Cpu::from_env() {
        Ok(cpu) => cpu,
        Err(error) => {
            let failure = Reply::Failure {
                kind: FailureKind::Unsupported,
                message: error.to_string(),
            };
            return put(&serde_json::to_string(&failure)?);
        }
    };
    let hello = Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        threads: threads as u64,
        kernels: catalog::kernels(cpu),
    };
    put(&serde_json::to_string(&hello)?)?;
    let mut floor = Floor::new(cpu, looks);
    for line in input.lines() {
        let line = line?;
        let request: Result<Request, _> = serde_json::from_str(&line);
        let last = matches!(request, Ok(Request::Exit));
        let reply = match request {
            Ok(request) => floor.reply(request),
            Err(error) => Reply::Failure {
                kind: FailureKind::Failed,
                message: format!("malformed request: {error}"),
            },
        };
        put(&serde_json::to_string(&reply)?)?;
        if last {
            break;
        }
    }
    Ok(())
}

/// Frees a new pool thread from the CPU to which a region of an earlier cell tied its maker.
fn untie(_thread: usize) {
    // Where the system refuses, the thread stays on one CPU: slower, and no less right.
    let _ = trit_measure::sys::affinity::unpin_thread();
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use trit_core::{Discard, Measurement, Side, paired_blocks};
    use trit_measure::sys::affinity::process_cpus;

    use super::*;
    use crate::execute::measurement;

    /// Heat in its fifth slice, and half the clock rate in its tenth. Its times are the same in all of them.
    struct Hot {
        throttles: PathBuf,
        clock: PathBuf,
        slices: u64,
    }

    impl Subject for Hot {
        fn opened(&self) -> Opened {
            Opened::default()
        }

        fn warm_up(&mut self, _calls: u64) -> Result<(), Fault> {
            Ok(())
        }

        fn poison(&mut self) {}

        fn slice(&mut self, iterations: u64) -> Result<Done, Fault> {
            self.slices += 1;
            if self.slices == 5 {
                fs::write(&self.throttles, "8\n").map_err(Fault::failed)?;
            }
            let khz = if self.slices == 10 {
                1_500_000
            } else {
                3_000_000
            };
            fs::write(&self.clock, format!("{khz}\n")).map_err(Fault::failed)?;
            Ok(Done {
                calls: iterations,
                time_ns: 1_000 * iterations,
                ..Done::default()
            })
        }

        fn answers(&mut self) -> Result<Vec<Answer>, Fault> {
            Ok(Vec::new())
        }
    }

    fn put(root: &Path, name: &str, text: &str) -> PathBuf {
        let path = root.join("sys/devices/system/cpu").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn heat_and_a_slower_clock_discard_blocks_whatever_their_times() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let first = process_cpus().map_or(0, |cpus| cpus[0]);
        put(root, "online", "0\n");
        let mut hot = Hot {
            throttles: put(root, "cpu0/thermal_throttle/core_throttle_count", "7\n"),
            clock: put(
                root,
                &format!("cpu{first}/cpufreq/scaling_cur_freq"),
                "3000000\n",
            ),
            slices: 0,
        };
        let looks = Looks {
            counters: None,
            evidence: MachineEvidence::find(&Roots::under(root)),
        };
        let mut rows: Vec<Measurement> = Vec::new();
        for block in 0..4 {
            for (sample, side) in (0..).zip([Side::A, Side::B, Side::B, Side::A]) {
                let (slice, _) = slice(&mut hot, 100, 0, false, Some(&looks)).unwrap();
                assert_eq!(
                    slice.frequency_khz.is_some(),
                    slice.throttle_count.is_some()
                );
                rows.push(Measurement {
                    block,
                    side,
                    sample,
                    process: Some(0),
                    // Those of whatever else this process is testing.
                    involuntary_switches: None,
                    ..measurement("hot", &slice)
                });
            }
        }
        let discards: Vec<Option<Discard>> = paired_blocks(&rows)
            .iter()
            .map(|block| block.discard)
            .collect();
        assert_eq!(
            discards,
            [
                None,
                Some(Discard::Throttled),
                Some(Discard::Frequency),
                None
            ]
        );
        // A bare slice is looked at by nobody.
        let (bare, _) = slice(&mut hot, 1, 0, false, None).unwrap();
        assert_eq!(
            (bare.user_ns, bare.throttle_count, bare.time_ns),
            (None, None, 1_000)
        );
    }
}
