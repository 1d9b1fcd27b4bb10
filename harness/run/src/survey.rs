//! A first look before planning: which kernels run here, and about how fast.

use std::time::Duration;

use crate::limits::call_ns;
use crate::pairing::iterations_for;
use crate::process::{Worker, WorkerCommand, WorkerError};
use crate::protocol::{Job, KernelFacts, Reply, Request, Task};

/// The shape that is looked at: the most frequent one of BitNet b1.58 2B4T.
const SIDE: u64 = 2560;
/// Tokens of the call of many tokens.
const TOKENS: u64 = 32;
/// Through which single-token calls rotate: more than most caches, and still made in a moment.
const WORKING_SET: u64 = 96 << 20;
/// Length of one look.
const LOOK_NS: u64 = 2_000_000;
/// Calls above this are not repeated.
const SLOW_NS: u64 = 50_000_000;

/// What the survey found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// Threads that this process may use.
    pub threads: usize,
    /// Every kernel and baseline, with estimates for those that run.
    pub kernels: Vec<KernelFacts>,
}

/// Time of one call of `task`, or `None` when it cannot be had.
fn look(
    worker: &mut Worker,
    task: &Task,
    timeout: Duration,
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<f64>, WorkerError> {
    let mut ask = |request: &Request| worker.ask(request, timeout, interrupted);
    let open = Request::Open {
        slot: 0,
        task: task.clone(),
    };
    if !matches!(ask(&open)?, Reply::Opened(_)) {
        return Ok(None);
    }
    let mut slice = |iterations, warm_up| call_ns(iterations, warm_up, &mut ask);
    let mut best = slice(1, 1)?;
    if let Some(first) = best.filter(|first| *first < SLOW_NS as f64) {
        // The fastest of three: a look is about the kernel, not about its neighbours.
        for _ in 0..3 {
            let next = slice(iterations_for(LOOK_NS, first), 0)?;
            best = best.zip(next).map(|(a, b)| a.min(b)).or(next);
        }
    }
    ask(&Request::Close { slot: 0 })?;
    Ok(best)
}

/// Asks a worker what it can run, and measures each kernel for some milliseconds. A worker that dies over one kernel is
/// replaced; that kernel stays without estimates. Answers are not verified here, and nothing of it is a result.
///
/// `only` are the ids to look at; none: all. The others are listed without estimates.
///
/// # Errors
/// When no worker can be started, or the run is interrupted.
pub fn survey(
    command: &WorkerCommand,
    only: &[String],
    timeout: Duration,
    interrupted: &dyn Fn() -> bool,
) -> Result<Survey, WorkerError> {
    let mut worker = Worker::start(command, timeout, interrupted)?;
    let mut kernels = worker.hello.kernels.clone();
    let threads = usize::try_from(worker.hello.threads).unwrap_or(1).max(1);
    for facts in &mut kernels {
        let wanted = only.is_empty() || only.contains(&facts.id);
        if !facts.unavailable.is_empty() || !wanted {
            continue;
        }
        let gemv = Task {
            job: Job::Multiply,
            kernel: facts.id.clone(),
            rows: SIDE,
            k: SIDE,
            tokens: 1,
            threads: 1,
            working_set_bytes: WORKING_SET,
            seed: 1,
            symmetric: facts.dense,
            ..Task::default()
        };
        let gemm = Task {
            tokens: TOKENS,
            working_set_bytes: 0,
            ..gemv.clone()
        };
        let looked = look(&mut worker, &gemv, timeout, interrupted).and_then(|gemv| {
            look(&mut worker, &gemm, timeout, interrupted).map(|gemm| (gemv, gemm))
        });
        let weights = (SIDE * SIDE) as f64;
        match looked {
            Ok((gemv, gemm)) => {
                facts.gemv_ns_per_weight = gemv.map(|ns| ns / weights);
                facts.gemm_ns_per_weight = gemm.map(|ns| ns / weights / TOKENS as f64);
            }
            Err(WorkerError::Interrupted) => return Err(WorkerError::Interrupted),
            Err(_) => worker = Worker::start(command, timeout, interrupted)?,
        }
    }
    worker.stop(timeout);
    Ok(Survey { threads, kernels })
}
