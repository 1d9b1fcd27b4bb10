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
    slots: BTreeMap<String, u64>,
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

    /// Opens a cell on both sides, each with an allocation of its own at a random page offset, and verifies it. The failure
    /// says on which side.
    pub(super) fn open(
        &mut self,
        subject: &Subject,
        rng: &mut Rng,
    ) -> Result<Opened, (usize, Stop)> {
        let slot = self.slots.len() as u64 + 1;
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
        self.slots.insert(subject.id.clone(), slot);
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
    /// Whether the peak of the resident set starts anew.
    pub(super) reset_peak: bool,
}

impl Contest for Taking<'_, '_> {
    type Error = Stop;

    fn slice(&mut self, side: Side, iterations: u64) -> Result<Sample, Stop> {
        let at = usize::from(side == Side::B);
        let Some(slot) = self.bench.slots.get(&self.subject.id).copied() else {
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
