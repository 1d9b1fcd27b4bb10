//! A worker: the process in which subjects run. It does what the master asks, one request at a time, and decides
//! nothing: which answers are right, how often and in which order to measure is the master's matter.

mod catalog;
mod control;
mod dispatch;
mod engine;
mod multiply;
mod pack;
mod probe;
mod program;
mod timeline;
mod weights;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{BufRead, Write};
use std::rc::Rc;

use trit_core::TimelineRow;
use trit_kernel::Cpu;
use trit_measure::{
    Clock, Counters, CpuTimes, Evidence, Memory, MonotonicClock, Team, default_threads, memory,
    reset_peak_rss,
};

use crate::pairing::iterations_for;
use crate::protocol::{
    Answer, FailureKind, Hello, Job, Opened, PROTOCOL, Reply, Request, Sample, Task, Token,
};
use engine::Engines;
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

/// The state of a worker.
struct Floor {
    shop: Shop,
    /// Where the system permits them.
    counters: Option<Counters>,
    subjects: BTreeMap<u64, Box<dyn Subject>>,
}

impl Floor {
    fn subject(&mut self, slot: u64) -> Result<&mut Box<dyn Subject>, Fault> {
        self.counted(slot).map(|(_, subject)| subject)
    }

    /// A subject, and what counts while it runs.
    fn counted(&mut self, slot: u64) -> Result<(Option<&Counters>, &mut Box<dyn Subject>), Fault> {
        let subject = self.subjects.get_mut(&slot);
        let subject = subject.ok_or_else(|| Fault::failed(format!("slot {slot} is not open")))?;
        Ok((self.counters.as_ref(), subject))
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
            } => {
                let was_reset = reset_peak && reset_peak_rss();
                let (counters, subject) = self.counted(slot)?;
                let (sample, tokens) =
                    slice(subject.as_mut(), iterations, warm_up, was_reset, counters)?;
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
                let (counters, subject) = self.counted(slot)?;
                let calls = || subject.run_loop(at_least_ns.min(MAX_LOOP_NS));
                let (sample, _) = sample(counters, calls, true)?;
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
    counters: Option<&Counters>,
) -> Result<(Sample, Vec<Token>), Fault> {
    if iterations == 0 {
        return Err(Fault::failed("a slice of 0 iterations"));
    }
    subject.poison();
    subject.warm_up(warm_up)?;
    subject.poison();
    sample(counters, || subject.slice(iterations), was_reset)
}

/// What `calls` did, and what the system says about it.
fn sample(
    counters: Option<&Counters>,
    calls: impl FnOnce() -> Result<Done, Fault>,
    was_reset: bool,
) -> Result<(Sample, Vec<Token>), Fault> {
    let before = Evidence::before();
    let counted = counters.map(Counters::read);
    let done = calls()?;
    // The counters are those of this process.
    let counted = counters
        .zip(counted)
        .filter(|_| done.outside.is_none())
        .map(|(counters, before)| counters.read().since(&before))
        .unwrap_or_default();
    let evidence = Evidence::after().since(&before);
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
    let counters = Counters::open().ok();
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
    let mut floor = Floor {
        shop: Shop {
            cpu,
            teams: BTreeMap::new(),
            weights: WeightStore::default(),
            engines: Engines::default(),
            arenas: Arenas::default(),
        },
        counters,
        subjects: BTreeMap::new(),
    };
    for line in input.lines() {
        let line = line?;
        let request: Result<Request, _> = serde_json::from_str(&line);
        let last = matches!(request, Ok(Request::Exit));
        let reply = match request {
            Ok(request) => floor.answer(request),
            Err(error) => Err(Fault::failed(format!("malformed request: {error}"))),
        };
        let reply = reply.unwrap_or_else(|fault| Reply::Failure {
            kind: fault.kind,
            message: fault.message,
        });
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
