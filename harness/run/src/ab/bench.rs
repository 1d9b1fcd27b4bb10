//! One pair of processes, one of each build, and the cells that are open in both.

use std::collections::BTreeMap;

use trit_core::{Rng, Side, Status};

use super::Settings;
use crate::execute::verify::{FirstAnswers, against_truth, check};
use crate::pairing::{Contest, iterations_for};
use crate::process::{Worker, WorkerError};
use crate::protocol::{FailureKind, Job, Opened, Reply, Request, Sample, Task};
use crate::reference::Truth;

/// What ends the measurement of a cell, or of everything.
#[derive(Debug)]
pub(super) enum Stop {
    /// The cell is over; `process` says whether its process is, too.
    Cell {
        status: Status,
        reason: String,
        content: bool,
        process: bool,
    },
    /// Somebody wants it to end.
    Interrupted,
}

fn stop(status: Status, reason: impl Into<String>) -> Stop {
    Stop::Cell {
        status,
        reason: reason.into(),
        content: false,
        process: false,
    }
}

fn of_worker(error: &WorkerError) -> Stop {
    let status = match error {
        WorkerError::Interrupted => return Stop::Interrupted,
        WorkerError::Died { .. } => Status::Crashed,
        WorkerError::Timeout(_) => Status::Timeout,
        WorkerError::OverLimit { .. } => Status::OverLimit,
        WorkerError::Start { .. } | WorkerError::Protocol(_) => Status::Failed,
    };
    Stop::Cell {
        status,
        reason: error.to_string(),
        content: false,
        process: true,
    }
}

fn of_failure(kind: FailureKind, message: String) -> Stop {
    let status = match kind {
        FailureKind::Unsupported => Status::Skipped,
        FailureKind::OverLimit => Status::OverLimit,
        FailureKind::Wrong => Status::Wrong,
        FailureKind::Failed | FailureKind::Content | FailureKind::Other => Status::Failed,
    };
    Stop::Cell {
        status,
        reason: message,
        content: kind == FailureKind::Content,
        process: false,
    }
}

/// A cell as one pair of processes sees it.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    /// Its id.
    pub(super) id: String,
    /// Its task, without added work and with any page seed.
    pub(super) task: Task,
    /// What is right.
    pub(super) truth: Option<Truth>,
    /// Percent of work that is added to the base and to the head.
    pub(super) added: [f64; 2],
}

/// The two processes.
pub(super) struct Bench<'a> {
    settings: &'a Settings<'a>,
    workers: [Worker; 2],
    /// The slots of each cell, one for each placement of its memory.
    slots: BTreeMap<String, Vec<u64>>,
    /// The last slot that was given away.
    last_slot: u64,
}

/// Weights beyond which a matrix is not held several times.
const MOST_PLACED: u64 = 64 << 20;
/// Most placements of one cell in a process.
const MOST_PLACEMENTS: u64 = 8;

/// How many times each process holds a cell, every time in other memory. Where a matrix lies decides about a percent or two of the
/// time when it fits in a cache nearly, and placing a small one takes as long as a slice: several of them in every process tell
/// builds from places for next to nothing. What takes long to set up is held once, and fresh processes alone place it anew.
fn placements(task: &Task) -> u64 {
    match task.job {
        Job::Control => MOST_PLACEMENTS,
        Job::Multiply | Job::Prepare if task.working_set_bytes == 0 => {
            let weights = task.rows.saturating_mul(task.k).max(1);
            (MOST_PLACED / weights).clamp(1, MOST_PLACEMENTS)
        }
        _ => 1,
    }
}

pub(super) const SIDES: [&str; 2] = ["base", "head"];

impl<'a> Bench<'a> {
    /// Starts both, in an order that a coin decides.
    pub(super) fn start(settings: &'a Settings<'a>, rng: &mut Rng) -> Result<Self, (usize, Stop)> {
        let start = |side: usize| {
            Worker::start(
                &settings.workers[side],
                settings.timeouts.start,
                settings.interrupted,
            )
            .map_err(|error| (side, of_worker(&error)))
        };
        let workers = if rng.below(2) == 0 {
            let base = start(0)?;
            [base, start(1)?]
        } else {
            let head = start(1)?;
            [start(0)?, head]
        };
        Ok(Self {
            settings,
            workers,
            slots: BTreeMap::new(),
            last_slot: 0,
        })
    }

    /// The versions that they name.
    pub(super) fn versions(&self) -> [String; 2] {
        [0, 1].map(|side| self.workers[side].hello.version.clone())
    }

    fn ask(&mut self, side: usize, request: &Request) -> Result<Reply, Stop> {
        let settings = self.settings;
        let timeout = match request {
            Request::Slice { .. } => settings.timeouts.slice,
            _ => settings.timeouts.setup,
        };
        match self.workers[side].ask(request, timeout, settings.interrupted) {
            Ok(Reply::Failure { kind, message }) => Err(of_failure(kind, message)),
            Ok(reply) => Ok(reply),
            Err(error) => Err(of_worker(&error)),
        }
    }

    /// Opens a cell on both sides, as often as it is placed anew, each time with allocations of their own at random page offsets,
    /// and verifies it. The failure says on which side.
    pub(super) fn open(
        &mut self,
        subject: &Subject,
        rng: &mut Rng,
    ) -> Result<Opened, (usize, Stop)> {
        let facts = self.place(subject, rng)?;
        for _ in 1..placements(&subject.task) {
            self.place(subject, rng)?;
        }
        Ok(facts)
    }

    /// Opens a cell on both sides once more.
    pub(super) fn place(
        &mut self,
        subject: &Subject,
        rng: &mut Rng,
    ) -> Result<Opened, (usize, Stop)> {
        self.last_slot += 1;
        let slot = self.last_slot;
        let first = rng.below(2) as usize;
        let mut facts = Opened::default();
        for side in [first, 1 - first] {
            let task = Task {
                page_seed: rng.next_u64(),
                added_work: subject.added[side] / 100.0,
                ..subject.task.clone()
            };
            let opened = self
                .open_side(side, slot, task, subject)
                .map_err(|stop| (side, stop))?;
            if side == 1 {
                facts = opened;
            }
        }
        self.slots.entry(subject.id.clone()).or_default().push(slot);
        Ok(facts)
    }

    fn open_side(
        &mut self,
        side: usize,
        slot: u64,
        task: Task,
        subject: &Subject,
    ) -> Result<Opened, Stop> {
        let job = task.job;
        let opened = match self.ask(side, &Request::Open { slot, task })? {
            Reply::Opened(opened) => opened,
            other => return Err(unexpected(&other)),
        };
        if let Some(truth) = &subject.truth {
            if opened.bounded {
                let request = Request::Expect {
                    slot,
                    sums: truth.sums.clone(),
                };
                self.ask(side, &request)?;
            }
            if matches!(job, Job::Prefill | Job::Decode) {
                check(opened.check.as_deref(), truth).map_err(|why| stop(Status::Wrong, why))?;
            }
        }
        Ok(opened)
    }

    /// How many calls of the base make a slice. Both sides get the same number.
    pub(super) fn calibrate(
        &mut self,
        subject: &Subject,
        slice_ns: u64,
        first: &mut FirstAnswers,
    ) -> Result<u64, (usize, Stop)> {
        if matches!(subject.task.job, Job::Prefill | Job::Decode) {
            return Ok(1);
        }
        let mut iterations = 1;
        for part in [10, 1] {
            let mut taking = Taking {
                bench: self,
                subject,
                first,
                visit: 0,
                reset_peak: false,
            };
            let sample = taking
                .slice(Side::A, iterations)
                .map_err(|stop| (0, stop))?;
            let call_ns = sample.time_ns as f64 / sample.iterations.max(1) as f64;
            iterations = iterations_for(slice_ns / part, call_ns);
        }
        Ok(iterations)
    }

    /// Ends both.
    pub(super) fn stop(self) {
        let timeout = self.settings.timeouts.start;
        for worker in self.workers {
            worker.stop(timeout);
        }
    }
}

/// Slices of one cell.
pub(super) struct Taking<'b, 'a> {
    pub(super) bench: &'b mut Bench<'a>,
    pub(super) subject: &'b Subject,
    pub(super) first: &'b mut FirstAnswers,
    /// Number of the block, which decides about the placement: the same one on both sides.
    pub(super) visit: u64,
    /// Whether the peak of the resident set starts anew.
    pub(super) reset_peak: bool,
}

impl Contest for Taking<'_, '_> {
    type Error = Stop;

    fn slice(&mut self, side: Side, iterations: u64) -> Result<Sample, Stop> {
        let at = usize::from(side == Side::B);
        let slots = self.bench.slots.get(&self.subject.id);
        let Some(slot) =
            slots.and_then(|slots| slots.get(self.visit as usize % slots.len()).copied())
        else {
            return Err(stop(Status::Failed, "the cell is not open"));
        };
        let engine = matches!(self.subject.task.job, Job::Prefill | Job::Decode);
        let request = Request::Slice {
            slot,
            iterations,
            warm_up: u64::from(!engine),
            reset_peak: self.reset_peak,
            bare: false,
        };
        match self.bench.ask(at, &request)? {
            Reply::Sliced {
                sample, answers, ..
            } => {
                let task = &self.subject.task;
                let right = match (&self.subject.truth, engine) {
                    (_, true) => self.first.compare(SIDES[at], task, &answers),
                    (Some(truth), false) => against_truth(&answers, truth),
                    // The control verifies itself.
                    (None, false) => Ok(()),
                };
                right.map_err(|why| stop(Status::Wrong, why))?;
                if sample.iterations == 0 {
                    return Err(stop(Status::Failed, "the worker timed no call"));
                }
                Ok(sample)
            }
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(reply: &Reply) -> Stop {
    stop(
        Status::Failed,
        format!("the worker answered something else: {reply:?}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_matrices_are_placed_often_and_slow_set_ups_once() {
        let task = |job, rows, working_set_bytes| Task {
            job,
            rows,
            k: 2560,
            working_set_bytes,
            ..Task::default()
        };
        assert_eq!(placements(&task(Job::Multiply, 2560, 0)), 8);
        assert_eq!(placements(&task(Job::Multiply, 6912, 0)), 3);
        assert_eq!(placements(&task(Job::Multiply, 128_256, 0)), 1);
        assert_eq!(placements(&task(Job::Multiply, 2560, 1 << 30)), 1);
        assert_eq!(placements(&task(Job::Prepare, 0, 0)), 8);
        assert_eq!(placements(&task(Job::Decode, 0, 0)), 1);
        assert_eq!(placements(&task(Job::Control, 0, 0)), 8);
    }
}
