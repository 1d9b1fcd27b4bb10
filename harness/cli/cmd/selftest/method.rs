//! Parts of the test that are about the method and not about two builds: drift, a busy neighbour, what the harness costs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use serde_json::Value;
use trit_core::RunDir;
use trit_measure::{MonotonicClock, cpu_order, sys::affinity};
use trit_report::Finding;
use trit_run::overhead::{Overhead, OverheadError, OverheadOptions, Part, overheads};
use trit_run::{Timeouts, WorkerError, drift};

use crate::cmd::ab::{Wanted, planned};
use crate::cmd::report::record_failure;
use crate::exit::Failure;
use crate::out::Table;
use crate::probe;
use crate::progress::Bar;

/// The largest bias that drift may leave, in percent.
const MOST_BIAS: f64 = 0.1;
/// The most that a part of the harness may cost, in percent of the time of a call.
const MOST_OVERHEAD: f64 = 1.0;

fn percent(log: f64) -> f64 {
    100.0 * log.exp_m1()
}

fn rounded(value: f64) -> Value {
    // Of -0.0 and 0.0 this makes 0.0.
    Value::from((value * 1e4).round() / 1e4 + 0.0)
}

/// A loop that keeps one CPU busy, the last in the order of the team: the subjects of one thread run on the first.
pub(super) struct Busy {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Busy {
    /// Starts it.
    pub(super) fn start() -> Result<Self, Failure> {
        // Known before any thread is tied to a CPU.
        let cpus = cpu_order().unwrap_or_default();
        let Some(cpu) = cpus.last().copied().filter(|_| cpus.len() > 1) else {
            return Err(Failure::unusable(anyhow::anyhow!(
                "there is no second CPU to keep busy; hint: leave the part `busy` out"
            )));
        };
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let run = move || {
            // Where the system refuses, the loop is busy all the same.
            let _ = affinity::pin_thread(&[cpu]);
            while !asked.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        };
        let thread = thread::Builder::new()
            .name("busy".to_owned())
            .spawn(run)
            .map_err(|error| {
                Failure::failed(anyhow::Error::new(error).context("cannot start a thread"))
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Drift of the machine's speed on a fake clock.
pub(super) fn drift_table() -> (Table, Finding) {
    let all = drift::drifts();
    let mut table = Table::new(&["drift", "bias_percent", "one_after_the_other_percent"]);
    for drift in &all {
        table.row([
            drift.name.into(),
            rounded(percent(drift.bias)),
            rounded(percent(drift.sequential_bias)),
        ]);
    }
    let worst = all
        .iter()
        .map(|drift| percent(drift.bias).abs())
        .fold(0.0, f64::max);
    let finding = Finding::new(
        "bias under drift by a fake clock",
        format!("below {MOST_BIAS} %"),
        format!("at most {worst:.3} % in {} kinds of drift", all.len()),
        Some(worst < MOST_BIAS),
    );
    (table, finding)
}

/// What parts of the harness cost; `None` when it was interrupted.
pub(super) fn overhead(
    wanted: &Wanted,
    dir: &Path,
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<Vec<Overhead>>, Failure> {
    let worker = probe::worker_command()?;
    let Some(planned) = planned(wanted, &worker, interrupted)? else {
        return Ok(None);
    };
    let dir = RunDir::create(dir).map_err(|error| record_failure(&error))?;
    let mut bar = Bar::new();
    let measured = overheads(
        OverheadOptions {
            plan: planned.plan,
            worker,
            timeouts: Timeouts::default(),
            dir,
            l3_bytes: planned.machine.last_level_cache_bytes().unwrap_or(0),
            interrupted,
            clock: &MonotonicClock,
        },
        &mut bar,
    );
    bar.clear();
    match measured {
        Ok(measured) => Ok(Some(measured)),
        Err(OverheadError::Worker(WorkerError::Interrupted)) => Ok(None),
        Err(error) => Err(Failure::failed(error)),
    }
}

/// The table of [`overhead`], and what is to be said about each part.
pub(super) fn overhead_table(all: &[Overhead]) -> (Table, Vec<Finding>) {
    let mut table = Table::new(&[
        "part",
        "cell",
        "overhead_percent",
        "lo_percent",
        "hi_percent",
        "processes",
        "blocks",
    ]);
    for overhead in all {
        let of = |get: fn(&trit_stats::judge::Estimate) -> f64| {
            let value = overhead.estimate.as_ref().map(get);
            value.map_or(Value::Null, |value| rounded(percent(value)))
        };
        let count = |get: fn(&trit_stats::judge::Estimate) -> usize| {
            overhead
                .estimate
                .as_ref()
                .map(get)
                .map_or(Value::Null, Value::from)
        };
        table.row([
            overhead.part.name().into(),
            overhead.cell.as_str().into(),
            of(|estimate| estimate.effect),
            of(|estimate| estimate.interval.lo),
            of(|estimate| estimate.interval.hi),
            count(|estimate| estimate.pairs),
            count(|estimate| estimate.blocks),
        ]);
    }
    let findings = Part::ALL.map(|part| {
        let of_part = all.iter().filter(|overhead| overhead.part == part);
        let highest: Option<Vec<f64>> = of_part
            .map(|overhead| Some(percent(overhead.estimate.as_ref()?.interval.hi)))
            .collect();
        let worst = highest
            .filter(|bounds| !bounds.is_empty())
            .map(|bounds| bounds.into_iter().fold(f64::NEG_INFINITY, f64::max));
        Finding::new(
            &format!("what {} costs", part.name()),
            format!("upper bound below {MOST_OVERHEAD} % of the time of every cell's call"),
            worst.map_or_else(
                || "not measured".to_owned(),
                |worst| format!("{worst:.2} % in the worst cell (95 % intervals)"),
            ),
            worst.map(|worst| worst < MOST_OVERHEAD),
        )
    });
    (table, findings.to_vec())
}
