//! The limits of the machine by themselves, for those who want to know them without a subject.

use std::time::Duration;

use trit_core::Probe;

use crate::pairing::iterations_for;
use crate::process::{Worker, WorkerCommand, WorkerError};
use crate::protocol::{Job, Reply, Request, Task};

/// Bytes of one call of the read probe.
const READ_BYTES: u64 = 16 << 20;

/// Measures read bandwidth over `working_set_bytes` and the arithmetic peaks, on each of `threads`. A limit that cannot
/// be had is left out. The time is the fastest slice's: a limit is what the machine can do, not what it did on average.
///
/// # Errors
/// When no worker can be started, or it dies, or the run is interrupted.
pub fn measure_limits(
    command: &WorkerCommand,
    threads: &[usize],
    working_set_bytes: u64,
    timeout: Duration,
    interrupted: &dyn Fn() -> bool,
) -> Result<Vec<Probe>, WorkerError> {
    let mut worker = Worker::start(command, timeout, interrupted)?;
    let mut probes = Vec::new();
    for threads in threads {
        let read = read_task(*threads, working_set_bytes);
        let peaks = ["int8", "f32"].map(|kernel| Task {
            job: Job::Peak,
            kernel: kernel.to_owned(),
            ..read.clone()
        });
        for task in [read].iter().chain(&peaks) {
            probes.extend(limit(&mut worker, task, timeout, interrupted)?);
        }
    }
    worker.stop(timeout);
    Ok(probes)
}

fn read_task(threads: usize, working_set_bytes: u64) -> Task {
    Task {
        job: Job::Read,
        threads: threads as u64,
        working_set_bytes,
        bytes_per_call: READ_BYTES,
        ..Task::default()
    }
}

/// A probe that a worker holds open.
struct Open {
    variant: String,
    amount_per_iteration: u64,
    call_ns: f64,
}

/// `None` when the worker cannot run it.
fn open(
    worker: &mut Worker,
    task: &Task,
    timeout: Duration,
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<Open>, WorkerError> {
    let open = Request::Open {
        slot: 0,
        task: task.clone(),
    };
    let Reply::Opened(opened) = worker.ask(&open, timeout, interrupted)? else {
        return Ok(None);
    };
    Ok(Some(Open {
        amount_per_iteration: opened.bytes_per_call.or(opened.ops_per_call).unwrap_or(0),
        call_ns: opened.call_ns.unwrap_or(1e6),
        variant: opened.variant,
    }))
}

impl Open {
    /// Nanoseconds of a call in one slice; `None` when the worker has no answer.
    fn slice(
        &self,
        worker: &mut Worker,
        timeout: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Option<f64>, WorkerError> {
        let iterations = iterations_for(crate::estimate::SLICE_NS, self.call_ns);
        call_ns(iterations, 1, &mut |request| {
            worker.ask(request, timeout, interrupted)
        })
    }
}

/// Nanoseconds of a call of what `ask` holds open in slot 0, in a slice of `iterations` after `warm_up`; `None` without an answer.
pub(crate) fn call_ns(
    iterations: u64,
    warm_up: u64,
    ask: &mut dyn FnMut(&Request) -> Result<Reply, WorkerError>,
) -> Result<Option<f64>, WorkerError> {
    let request = Request::Slice {
        slot: 0,
        iterations,
        warm_up,
        reset_peak: false,
        bare: false,
    };
    Ok(match ask(&request)? {
        Reply::Sliced { sample, .. } => {
            Some(sample.time_ns as f64 / sample.iterations.max(1) as f64)
        }
        _ => None,
    })
}

fn limit(
    worker: &mut Worker,
    task: &Task,
    timeout: Duration,
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<Probe>, WorkerError> {
    let Some(opened) = open(worker, task, timeout, interrupted)? else {
        return Ok(None);
    };
    let mut best = opened.call_ns;
    for _ in 0..20 {
        if let Some(call_ns) = opened.slice(worker, timeout, interrupted)? {
            best = best.min(call_ns);
        }
    }
    worker.ask(&Request::Close { slot: 0 }, timeout, interrupted)?;
    let read = task.job == Job::Read;
    Ok(Some(Probe {
        subject: if read {
            "probe:read".to_owned()
        } else {
            format!("probe:peak:{}", task.kernel)
        },
        variant: opened.variant,
        threads: task.threads,
        working_set_bytes: if read { task.working_set_bytes } else { 0 },
        amount_per_iteration: opened.amount_per_iteration,
        time_ns: best,
    }))
}

/// The read probe in a process of its own, for slices between pieces of other work: what memory gives changes from one moment to the
/// next where a machine is shared, so that a share of it has to be taken from neighbours in time.
pub struct ReadProbe {
    worker: Worker,
    opened: Open,
    timeout: Duration,
}

impl ReadProbe {
    /// Starts it with `threads` threads over `working_set_bytes`; `None` when it cannot be had.
    ///
    /// # Errors
    /// As [`measure_limits`].
    pub fn start(
        command: &WorkerCommand,
        threads: usize,
        working_set_bytes: u64,
        timeout: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Option<Self>, WorkerError> {
        let mut worker = Worker::start(command, timeout, interrupted)?;
        let task = read_task(threads, working_set_bytes);
        let opened = open(&mut worker, &task, timeout, interrupted)?;
        Ok(opened.map(|opened| Self {
            worker,
            opened,
            timeout,
        }))
    }

    /// Bytes a nanosecond in a slice of some milliseconds, now.
    ///
    /// # Errors
    /// As [`measure_limits`].
    pub fn slice(&mut self, interrupted: &dyn Fn() -> bool) -> Result<Option<f64>, WorkerError> {
        let call_ns = self
            .opened
            .slice(&mut self.worker, self.timeout, interrupted)?;
        Ok(call_ns.map(|call_ns| self.opened.amount_per_iteration as f64 / call_ns))
    }
}
