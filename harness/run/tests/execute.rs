//! Runs with a worker that does what the test wants: every way to fail becomes a row, and the run goes on.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell as Counter;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use trit_core::{
    Cell, Measurement, Plan, RunDir, SCHEMA, Session, Side, Status, Suite, UNFINISHED,
};
use trit_measure::FakeClock;
use trit_run::{
    EnergyPass, Outcome, PlanContext, RunOptions, Silent, Timeouts, WorkerCommand, execute, plan,
    survey,
};

fn fake(mode: &str) -> WorkerCommand {
    WorkerCommand {
        program: env!("CARGO_BIN_EXE_trit-fake-worker").into(),
        args: vec![mode.to_owned()],
        env: vec![],
    }
}

const TIMEOUTS: Timeouts = Timeouts {
    start: Duration::from_secs(20),
    setup: Duration::from_secs(20),
    slice: Duration::from_secs(20),
};

fn plan_of(suite: &str) -> Plan {
    let suite = Suite::parse("test.toml", &format!("[suite]\nname = \"test\"\n{suite}")).unwrap();
    let survey = survey(&fake("fake"), &[], TIMEOUTS.start, &|| false).unwrap();
    let context = PlanContext {
        threads: survey.threads,
        kernels: survey.kernels,
        memory_bytes: 1 << 34,
        l3_bytes: 1 << 20,
        ..PlanContext::default()
    };
    plan(&suite, &context).unwrap()
}

struct Run<'a> {
    plan: Plan,
    mode: &'a str,
    timeouts: Timeouts,
    /// The run is interrupted at this look at the flag.
    stop_at: u64,
}

impl Run<'_> {
    fn new(suite: &str) -> Self {
        Self {
            plan: plan_of(suite),
            mode: "fake",
            timeouts: TIMEOUTS,
            stop_at: u64::MAX,
        }
    }

    fn go(&self, dir: &Path) -> Outcome {
        let session = Session {
            schema: SCHEMA,
            plan: self.plan.clone(),
            ..Session::default()
        };
        let run_dir = RunDir::create(dir).or_else(|_| RunDir::open(dir)).unwrap();
        let looks = Counter::new(0);
        let interrupted = || {
            looks.set(looks.get() + 1);
            looks.get() > self.stop_at
        };
        // Every reading of the clock is a millisecond later: budgets end after the same number of visits everywhere.
        let clock = FakeClock::stepping(0, 1_000_000);
        let options = RunOptions {
            session,
            dir: run_dir,
            worker: fake(self.mode),
            timeouts: self.timeouts,
            interrupted: &interrupted,
            clock: &clock,
            energy: EnergyPass::default(),
        };
        execute(options, &mut Silent).unwrap()
    }
}

fn by_kernel(outcome: &Outcome) -> BTreeMap<&str, &Cell> {
    let rows = outcome.cells.iter();
    rows.map(|cell| (cell.kernel.as_str(), cell)).collect()
}

fn measurements(dir: &Path) -> Vec<Measurement> {
    RunDir::open(dir).unwrap().measurements().unwrap()
}

#[test]
fn every_way_to_fail_is_a_row_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::new(
        r#"budget = "1s"
[[micro]]
workloads = ["gemv-warm"]
kernels = ["fake-wrong", "fake-late", "fake-silent", "fake-crash-open", "fake-crash", "fake-garbage", "fake-unsupported",
  "fake-large", "fake-broken", "fake-content", "fake-differs", "fake-missing", "fake-bounded", "fake-ok"]
shapes = ["16x128"]
threads = [1]
"#,
    );
    let outcome = run.go(dir.path());
    let cells = by_kernel(&outcome);
    for (kernel, status, reason) in [
        (
            "fake-wrong",
            Status::Wrong,
            "input set 0: the answer wrong 0 differs from the reference right 0",
        ),
        ("fake-late", Status::Wrong, "differs from the reference"),
        ("fake-silent", Status::Wrong, "gave no answer"),
        ("fake-crash-open", Status::Crashed, "SIGABRT"),
        ("fake-crash", Status::Crashed, "a bad instruction"),
        ("fake-garbage", Status::Failed, "`not json`"),
        (
            "fake-unsupported",
            Status::Skipped,
            "Unsupported on purpose",
        ),
        ("fake-large", Status::OverLimit, "OverLimit on purpose"),
        ("fake-broken", Status::Failed, "Failed on purpose"),
        ("fake-content", Status::Failed, "Content on purpose"),
        ("fake-differs", Status::Wrong, "Wrong on purpose"),
        ("fake-missing", Status::Skipped, "does not report fake"),
        ("fake-bounded", Status::Ok, ""),
        ("fake-ok", Status::Ok, ""),
    ] {
        let row = cells[kernel];
        assert_eq!(row.status, status, "{kernel}: {}", row.reason);
        assert!(
            row.reason.contains(reason) && !row.reason.contains('\n'),
            "{kernel}: {}",
            row.reason
        );
        assert_eq!(
            reason.is_empty(),
            row.reason.is_empty(),
            "{kernel}: {}",
            row.reason
        );
    }
    assert!(outcome.unusable_content);
    assert_eq!(outcome.exit_code(), 7);
    let rows = measurements(dir.path());
    // No time without a right answer: two of the slices of `fake-late` were calibration, two were samples.
    let count = |kernel: &str| {
        rows.iter()
            .filter(|row| row.cell.starts_with(kernel))
            .count()
    };
    assert_eq!(count("fake-late/"), 2);
    for kernel in [
        "fake-wrong",
        "fake-silent",
        "fake-crash",
        "fake-garbage",
        "fake-broken",
    ] {
        assert_eq!(count(kernel), 0, "{kernel}");
    }
    let own: Vec<_> = rows
        .iter()
        .filter(|row| row.cell.starts_with("fake-ok/"))
        .collect();
    assert!(own.len() >= 3);
    for (round, row) in (0..).zip(own) {
        assert_eq!((row.round, row.block, row.sample), (round, round, 0));
        // 1,000 ns a call: 3,000 calls make a slice of 3 ms.
        assert_eq!((row.iterations, row.time_ns), (3_000, 3_000_000));
        assert_eq!((row.side, row.pair.as_str()), (Side::Alone, ""));
        assert_eq!(row.load_ns.is_some(), round == 0);
    }
    assert_eq!(cells["fake-ok"].layout, "fake");
}

#[test]
fn a_worker_that_hangs_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::new(
        r#"budget = "100ms"
[[micro]]
workloads = ["gemv-warm"]
kernels = ["fake-hang", "fake-ok"]
shapes = ["16x128"]
threads = [1]
"#,
    );
    // What is expected of it decides how long it may take, and here that is next to nothing.
    for planned in &mut run.plan.cells {
        planned.visit_ns = 1_000_000;
    }
    run.timeouts.slice = Duration::from_millis(200);
    let outcome = run.go(dir.path());
    let cells = by_kernel(&outcome);
    assert_eq!(cells["fake-hang"].status, Status::Timeout);
    assert!(
        cells["fake-hang"].reason.contains("no answer within 0.2 s"),
        "{}",
        cells["fake-hang"].reason
    );
    assert_eq!(cells["fake-ok"].status, Status::Ok);
    assert_eq!(outcome.exit_code(), 1);
}

#[test]
fn other_cells_of_a_crashed_worker_are_measured_in_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::new(
        r#"budget = "500ms"
[[micro]]
workloads = ["gemv-warm"]
kernels = ["fake-picky"]
shapes = ["16x128", "64x128", "32x128", "128x128"]
threads = [1, 2]
"#,
    );
    let outcome = run.go(dir.path());
    assert_eq!(outcome.cells.len(), 8);
    for cell in &outcome.cells {
        let want = if cell.rows == Some(64) {
            Status::Crashed
        } else {
            Status::Ok
        };
        assert_eq!(cell.status, want, "{}: {}", cell.cell, cell.reason);
    }
    assert_eq!(outcome.exit_code(), 1);
}

const THREE: &str = r#"budget = "300ms"
seed = 5
[[micro]]
workloads = ["gemv-warm", "gemm"]
kernels = ["fake-ok", "fake-ok-slow", "fake-ok-other"]
shapes = ["16x128"]
tokens = [8]
threads = [1]
"#;

#[test]
fn cells_take_turns_in_a_seeded_order() {
    let order = |seed: u64| {
        let dir = tempfile::tempdir().unwrap();
        let mut run = Run::new(THREE);
        run.plan.seed = seed;
        run.go(dir.path());
        let rows = measurements(dir.path());
        rows.into_iter().map(|row| row.cell).collect::<Vec<_>>()
    };
    let first = order(5);
    assert_eq!(first, order(5));
    assert_ne!(first, order(6));
    // Round by round: each cell once before any comes again.
    let rounds: Vec<Vec<&String>> = first
        .chunks_exact(6)
        .take(3)
        .map(|round| {
            let mut round: Vec<_> = round.iter().collect();
            round.sort();
            round
        })
        .collect();
    assert_eq!(rounds.len(), 3);
    for round in &rounds {
        assert_eq!(round, &rounds[0]);
        assert!(round.windows(2).all(|pair| pair[0] != pair[1]));
    }
    // And not the same order each time.
    assert!(first[..6] != first[6..12] || first[6..12] != first[12..18]);
}

#[test]
fn an_interrupted_run_keeps_its_rows_and_goes_on() {
    let whole = tempfile::tempdir().unwrap();
    let run = Run::new(THREE);
    assert_eq!(run.go(whole.path()).exit_code(), 0);
    let all = measurements(whole.path());
    assert!(all.len() > 18);
    for stop_at in [0, 1, 5, 9, 17] {
        let dir = tempfile::tempdir().unwrap();
        let stopped = Run {
            stop_at,
            ..Run::new(THREE)
        };
        let outcome = stopped.go(dir.path());
        assert!(outcome.interrupted);
        assert_eq!(outcome.exit_code(), 130);
        assert_eq!(outcome.cells.len(), 6);
        let kept = measurements(dir.path());
        assert_eq!(kept.len() as u64, stop_at);
        assert_eq!(kept, all[..kept.len()]);
        let unfinished = outcome
            .cells
            .iter()
            .filter(|cell| cell.reason == UNFINISHED)
            .count();
        assert_eq!(unfinished, kept.len().min(6));
        // A line that was torn when the process was killed costs itself alone.
        let path = dir.path().join("measurements.csv");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend(b"fake-ok/gemv");
        std::fs::write(&path, bytes).unwrap();
        let outcome = run.go(dir.path());
        assert_eq!(outcome.exit_code(), 0);
        assert!(
            outcome
                .cells
                .iter()
                .all(|cell| cell.status == Status::Ok && cell.reason.is_empty())
        );
        assert_eq!(
            RunDir::open(dir.path()).unwrap().session().unwrap().resumed,
            1
        );
        let rows = measurements(dir.path());
        assert_eq!(rows[..kept.len()], kept);
        for cell in &outcome.cells {
            let rounds: Vec<u64> = rows
                .iter()
                .filter(|row| row.cell == cell.cell)
                .map(|row| row.round)
                .collect();
            assert_eq!(
                rounds,
                (0..rounds.len() as u64).collect::<Vec<_>>(),
                "{}",
                cell.cell
            );
            assert!(rounds.len() >= 3);
        }
    }
    // A finished run has nothing to go on with.
    let before = measurements(whole.path());
    assert_eq!(run.go(whole.path()).exit_code(), 0);
    assert_eq!(measurements(whole.path()), before);
}

#[test]
fn pairs_are_recorded_in_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::new(
        r#"budget = "400ms"
[[pair]]
workload = "gemv-warm"
subject = "fake-ok-slow"
against = "fake-ok"
shapes = ["16x128"]
threads = [1]
"#,
    );
    let outcome = run.go(dir.path());
    assert_eq!(outcome.exit_code(), 0, "{:?}", outcome.cells);
    let ids: Vec<&str> = outcome
        .cells
        .iter()
        .map(|cell| cell.cell.as_str())
        .collect();
    assert_eq!(
        ids,
        [
            "fake-ok-slow/gemv-warm/16x128/t1",
            "fake-ok/gemv-warm/16x128/t1"
        ]
    );
    let rows = measurements(dir.path());
    assert!(rows.len() >= 16 && rows.len().is_multiple_of(4));
    for (block, four) in (0..).zip(rows.chunks_exact(4)) {
        let sides: String = four.iter().map(|row| row.side.name()).collect();
        assert!(sides == "ABBA" || sides == "BAAB", "{sides}");
        for (sample, row) in (0..).zip(four) {
            let at = usize::from(row.side == Side::B);
            assert_eq!(
                (row.cell.as_str(), row.pair.as_str()),
                (ids[at], ids[1 - at])
            );
            assert_eq!((row.block, row.round, row.sample), (block, block, sample));
            assert_eq!(row.time_ns, row.iterations * [2_000, 1_000][at]);
        }
    }
    let orders: Vec<Side> = rows.chunks_exact(4).map(|four| four[0].side).collect();
    assert!(orders.contains(&Side::A) && orders.contains(&Side::B));
}

#[test]
fn a_pair_without_one_side_is_no_pair() {
    for (against, status) in [
        ("fake-wrong", Status::Wrong),
        ("fake-crash", Status::Crashed),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::new(&format!(
            r#"budget = "400ms"
[[pair]]
workload = "gemv-warm"
subject = "fake-ok"
against = "{against}"
shapes = ["16x128"]
threads = [1]
"#
        ));
        let outcome = run.go(dir.path());
        let cells = by_kernel(&outcome);
        assert_eq!(cells[against].status, status);
        assert_eq!(cells["fake-ok"].status, Status::Skipped);
        assert!(
            cells["fake-ok"]
                .reason
                .contains("the other side of its pair"),
            "{}",
            cells["fake-ok"].reason
        );
        assert!(measurements(dir.path()).is_empty());
    }
}

#[test]
fn without_a_reference_nothing_is_timed() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run {
        mode: "no-reference",
        ..Run::new(THREE)
    };
    let outcome = run.go(dir.path());
    for cell in &outcome.cells {
        assert_eq!(cell.status, Status::Failed);
        assert!(
            cell.reason.contains("no reference to verify with"),
            "{}",
            cell.reason
        );
    }
    assert!(measurements(dir.path()).is_empty());
    assert_eq!(outcome.exit_code(), 1);
}

#[test]
fn a_program_that_is_no_worker_fails_every_cell() {
    for (mode, status, reason) in [
        ("absent", Status::Failed, "the worker died"),
        (
            "rude",
            Status::Failed,
            "the first line has no protocol number",
        ),
        ("mute", Status::Failed, "no answer within"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut run = Run {
            mode,
            ..Run::new(THREE)
        };
        run.plan.cells.truncate(1);
        run.timeouts.start = Duration::from_millis(300);
        let outcome = run.go(dir.path());
        assert_eq!(
            outcome.cells[0].status, status,
            "{mode}: {}",
            outcome.cells[0].reason
        );
        assert!(
            outcome.cells[0].reason.contains(reason),
            "{mode}: {}",
            outcome.cells[0].reason
        );
    }
}

#[test]
fn models_leave_tokens_and_their_load_time() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::new(
        r#"budget = "200ms"
[[generate]]
workloads = ["decode", "prefill"]
models = ["synth:125m"]
kernels = ["fake-ok"]
threads = [1]
prompt_tokens = 4
gen_tokens = 3
"#,
    );
    let outcome = run.go(dir.path());
    assert!(
        outcome.cells.iter().all(|cell| cell.status == Status::Ok),
        "{:?}",
        outcome.cells
    );
    let tokens = RunDir::open(dir.path()).unwrap().tokens().unwrap();
    let of_first: Vec<_> = tokens.iter().filter(|row| row.round == 0).collect();
    assert_eq!(of_first.len(), 3);
    for (index, row) in (0..).zip(of_first) {
        assert_eq!(
            (row.index, row.token, row.time_ns),
            (index, index, 10 + index)
        );
        assert!(
            row.cell.contains("/decode/synth:125m/p4/g3/t1"),
            "{}",
            row.cell
        );
    }
    let loads = measurements(dir.path())
        .iter()
        .filter(|row| row.load_ns == Some(77))
        .count();
    assert_eq!(loads, 2);
}

#[test]
fn models_that_disagree_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::new(
        r#"budget = "200ms"
[[generate]]
workloads = ["prefill"]
models = ["synth:125m"]
kernels = ["fake-ok", "fake-wrong"]
threads = [1]
prompt_tokens = 4
"#,
    );
    let outcome = run.go(dir.path());
    // Four tokens agreed with the reference, whole prompts do not agree with each other: whoever comes second is told.
    let wrong: Vec<&Cell> = outcome
        .cells
        .iter()
        .filter(|cell| cell.status == Status::Wrong)
        .collect();
    assert_eq!(wrong.len(), 1, "{:?}", outcome.cells);
    assert!(
        wrong[0].reason.contains("differs from"),
        "{}",
        wrong[0].reason
    );
    assert_eq!(outcome.exit_code(), 7);
}
