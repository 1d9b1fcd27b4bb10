//! What the harness costs, measured with the real worker: every part is there, and on and off are what they say.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use trit_core::{RunDir, Suite};
use trit_measure::FakeClock;
use trit_run::overhead::{OverheadError, OverheadOptions, Part, overheads};
use trit_run::{PlanContext, Silent, Timeouts, WorkerCommand, plan, survey};

const TIMEOUT: Duration = Duration::from_mins(1);
const TIMEOUTS: Timeouts = Timeouts {
    start: TIMEOUT,
    setup: TIMEOUT,
    slice: TIMEOUT,
};

fn options<'a>(
    dir: &RunDir,
    mode: &str,
    kernel: &str,
    clock: &'a FakeClock,
) -> OverheadOptions<'a> {
    let worker = WorkerCommand {
        program: env!("CARGO_BIN_EXE_trit-fake-worker").into(),
        args: vec![mode.to_owned()],
        env: vec![],
    };
    let text = format!(
        "[suite]\nname = \"test\"\nbudget = \"1s\"\n[[micro]]\nworkloads = [\"gemv-warm\"]\nkernels = [\"{kernel}\"]\nshapes = [\"64x256\"]\nthreads = [1]\n"
    );
    let suite = Suite::parse("test.toml", &text).unwrap();
    let only = [kernel.to_owned()];
    let survey = survey(&worker, &only, TIMEOUT, &|| false).unwrap();
    let context = PlanContext {
        threads: survey.threads,
        kernels: survey.kernels,
        memory_bytes: 1 << 34,
        l3_bytes: 1 << 20,
        ..PlanContext::default()
    };
    OverheadOptions {
        plan: plan(&suite, &context).unwrap(),
        worker,
        timeouts: TIMEOUTS,
        dir: dir.clone(),
        l3_bytes: 1 << 20,
        interrupted: &|| false,
        clock,
    }
}

#[test]
fn every_part_has_an_interval_from_several_processes() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(dir.path()).unwrap();
    // A second a reading: the budget is over after the fewest pairs.
    let clock = FakeClock::stepping(0, 1_000_000_000);
    let all = overheads(
        options(&run, "serve", "w2a8-swar-scalar", &clock),
        &mut Silent,
    )
    .unwrap();
    let parts: Vec<Part> = all.iter().map(|overhead| overhead.part).collect();
    assert_eq!(parts, Part::ALL);
    for overhead in &all {
        let estimate = overhead.estimate.as_ref().unwrap();
        assert_eq!((estimate.pairs, estimate.blocks), (4, 48));
        assert!(estimate.interval.lo <= estimate.interval.hi);
    }
    // Two of the four parts record two slices of each block: 13 visits with 4 pairs of processes. In one of them the slices
    // before them were looked at; the first of a block stands for none.
    let rows = run.measurements().unwrap();
    assert_eq!(rows.len(), 2 * 2 * 13 * 4);
    assert!(rows.iter().any(|row| row.user_ns.is_some()));
}

#[test]
fn answers_that_change_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(dir.path()).unwrap();
    let clock = FakeClock::stepping(0, 1_000_000_000);
    // The worker process is a fake one, and what it answers is not what a kernel computes; the thread does not know the kernel.
    let options = options(&run, "fake", "fake-ok", &clock);
    let error = overheads(options, &mut Silent).unwrap_err();
    assert!(
        matches!(&error, OverheadError::Cell { cell, why } if cell.contains("fake-ok") && why.contains("unknown kernel")),
        "{error}"
    );
}
