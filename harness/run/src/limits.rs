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
        for (job, kernel) in [(Job::Read, ""), (Job::Peak, "int8"), (Job::Peak, "f32")] {
            let task = Task {
                job,
                kernel: kernel.to_owned(),
                threads: *threads as u64,
                working_set_bytes,
                bytes_per_call: READ_BYTES,
                ..Task::default()
            };
            probes.extend(limit(&mut worker, &task, timeout, interrupted)?);
        }
    }
    worker.stop(timeout);
    Ok(probes)
}

fn limit(
    worker: &mut Worker,
    task: &Task,
    timeout: Duration,
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<Probe>, WorkerError> {
    let open = Request::Open {
        slot: 0,
        task: task.clone(),
    };
    let Reply::Opened(opened) = worker.ask(&open, timeout, interrupted)? else {
        return Ok(None);
    };
    let call_ns = opened.call_ns.unwrap_or(1e6);
    let mut best = call_ns;
    for _ in 0..20 {
        let request = Request::Slice {
            slot: 0,
            iterations: iterations_for(crate::estimate::SLICE_NS, call_ns),
            warm_up: 0,
            reset_peak: false,
            bare: false,
        };
        if let Reply::Sliced { sample, .. } = worker.ask(&request, timeout, interrupted)? {
            best = best.min(sample.time_ns as f64 / sample.iterations.max(1) as f64);
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
        amount_per_iteration: opened.bytes_per_call.or(opened.ops_per_call).unwrap_or(0),
        time_ns: best,
    }))
}
