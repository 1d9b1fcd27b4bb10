//! The energy pass with a worker, a clock and a meter that do what the test wants.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell as Counter;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use trit_core::{
    EnergyFacts, EnergyMode, EnergyRow, EnergyWindow, Plan, PowerRow, RunDir, SCHEMA, Session,
    Side, Status, Suite,
};
use trit_measure::{Clock, FakeClock};
use trit_run::{
    Counts, EnergyMeans, EnergyMeter, EnergyPass, Outcome, Overrides, PlanContext, Reading,
    RunOptions, Silent, Timeouts, WorkerCommand, execute, plan, survey,
};

const TIMEOUTS: Timeouts = Timeouts {
    start: Duration::from_secs(20),
    setup: Duration::from_secs(20),
    slice: Duration::from_secs(20),
};

fn fake() -> WorkerCommand {
    WorkerCommand {
        program: env!("CARGO_BIN_EXE_trit-fake-worker").into(),
        args: vec!["fake".to_owned()],
        env: vec![],
    }
}

fn plan_with(suite: &str, overrides: Overrides) -> Plan {
    let text = format!("[suite]\nname = \"test\"\nbudget = \"200ms\"\n{suite}");
    let suite = Suite::parse("test.toml", &text).unwrap();
    let survey = survey(&fake(), &[], TIMEOUTS.start, &|| false).unwrap();
    let context = PlanContext {
        threads: survey.threads,
        kernels: survey.kernels,
        memory_bytes: 1 << 34,
        l3_bytes: 1 << 20,
        overrides,
        ..PlanContext::default()
    };
    plan(&suite, &context).unwrap()
}

fn plan_of(suite: &str) -> Plan {
    plan_with(suite, Overrides::default())
}

/// A machine that takes 40 W in its packages and 5 W in its memory, by the clock of the test.
struct Steady<'a> {
    clock: &'a FakeClock,
    start_ns: u64,
    look_ns: u64,
    windows: Rc<Counter<u64>>,
    /// The status of this window and all later ones.
    broken_from: u64,
}

impl Steady<'_> {
    fn counts(ns: u64) -> Counts {
        Counts {
            pkg_uj: Some(ns / 25),
            dram_uj: Some(ns / 200),
            ..Counts::default()
        }
    }
}

impl EnergyMeter for Steady<'_> {
    fn start(&mut self) {
        self.start_ns = self.clock.now_ns();
        self.look_ns = self.start_ns;
    }

    fn tick(&mut self) -> Option<(u64, Counts)> {
        let now = self.clock.now_ns();
        let length = now - self.look_ns;
        self.look_ns = now;
        Some((length, Self::counts(length)))
    }

    fn stop(&mut self) -> Reading {
        let window = self.windows.get();
        self.windows.set(window + 1);
        let window_ns = self.clock.now_ns() - self.start_ns;
        let broken = window >= self.broken_from;
        Reading {
            status: if broken { "stale_counter" } else { "ok" }.to_owned(),
            reason: if broken {
                "the counter did not move"
            } else {
                ""
            }
            .to_owned(),
            window_ns,
            counts: if broken {
                Counts::default()
            } else {
                Self::counts(window_ns)
            },
            ..Reading::default()
        }
    }
}

struct Run {
    plan: Plan,
    meter: bool,
    broken_from: u64,
    required: bool,
    /// The run is interrupted once that many windows were taken.
    stop_after: u64,
}

impl Run {
    fn new(plan: Plan) -> Self {
        Self {
            plan,
            meter: true,
            broken_from: u64::MAX,
            required: false,
            stop_after: u64::MAX,
        }
    }

    fn go(&self, dir: &Path) -> Outcome {
        let session = Session {
            schema: SCHEMA,
            plan: self.plan.clone(),
            ..Session::default()
        };
        let run_dir = RunDir::create(dir).or_else(|_| RunDir::open(dir)).unwrap();
        // Every reading of the clock is a millisecond later.
        let clock = FakeClock::stepping(0, 1_000_000);
        let windows = Rc::new(Counter::new(0));
        let wait = |time: Duration| clock.advance(time.as_nanos() as u64);
        let means = EnergyMeans {
            meter: Box::new(Steady {
                clock: &clock,
                start_ns: 0,
                look_ns: 0,
                windows: Rc::clone(&windows),
                broken_from: self.broken_from,
            }),
            wait: &wait,
        };
        let facts = if self.meter {
            EnergyFacts {
                status: "ok".into(),
                source: "fake".into(),
                domains: vec!["package-0".into(), "dram".into()],
                ..EnergyFacts::default()
            }
        } else {
            EnergyFacts {
                status: "vm_no_rapl".into(),
                reason: "this is a virtual machine".into(),
                remedy: "measure on the host".into(),
                ..EnergyFacts::default()
            }
        };
        let interrupted = || windows.get() >= self.stop_after;
        let options = RunOptions {
            session,
            dir: run_dir,
            worker: fake(),
            timeouts: TIMEOUTS,
            interrupted: &interrupted,
            clock: &clock,
            energy: EnergyPass {
                facts,
                means: self.meter.then_some(means),
                log: None,
                required: self.required,
            },
        };
        execute(options, &mut Silent).unwrap()
    }
}

fn rows(dir: &Path) -> Vec<EnergyRow> {
    RunDir::open(dir).unwrap().read().unwrap()
}

const SUITE: &str = r#"
[run]
energy = true
[energy]
window = "1s"
windows = 3
idle = "2s"
[[micro]]
workloads = ["gemv-warm"]
kernels = ["fake-ok", "fake-wrong"]
shapes = ["16x128"]
threads = [1]
[[generate]]
workloads = ["prefill", "decode"]
models = ["synth:tiny"]
kernels = ["fake-ok"]
threads = [1]
prompt_tokens = 7
gen_tokens = 5
[[pair]]
workload = "gemm"
subject = "fake-ok"
against = "fake-ok-slow"
shapes = ["32x128"]
tokens = [3]
threads = [1]
[[pair]]
workload = "gemv-warm"
subject = "fake-ok-other"
against = "probe:read"
shapes = ["16x128"]
threads = [1]
"#;

#[test]
fn windows_hold_what_the_meter_counted_and_what_the_worker_did() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::new(plan_of(SUITE));
    assert_eq!(run.plan.energy.pairs, [0]);
    assert_eq!(run.plan.energy.cells.len(), 4);
    let outcome = run.go(dir.path());
    assert!(!outcome.energy_missing);
    let rows = rows(dir.path());
    let idle: Vec<&EnergyRow> = rows.iter().filter(|row| row.cell.is_empty()).collect();
    assert_eq!(
        idle.iter().map(|row| row.window).collect::<Vec<_>>(),
        [EnergyWindow::IdleBefore, EnergyWindow::IdleAfter]
    );
    assert!(idle.iter().all(|row| row.window_ns >= Some(2_000_000_000)));
    let taken: Vec<&EnergyRow> = rows
        .iter()
        .filter(|row| row.window == EnergyWindow::Cell)
        .collect();
    for row in &taken {
        let window_ns = row.window_ns.unwrap();
        assert_eq!(row.pkg_uj, Some(window_ns / 25), "{row:?}");
        assert_eq!(row.dram_uj, Some(window_ns / 200), "{row:?}");
        assert_eq!((row.psys_uj, row.wall_uj), (None, None));
        assert_eq!(row.status, "ok", "{row:?}");
        assert_eq!(
            (row.source.as_str(), row.domains.as_str()),
            ("fake", "package-0 dram")
        );
        let idle_w = row.idle_w.unwrap();
        assert!((idle_w - 40.0).abs() < 0.01, "{idle_w}");
        // The worker was asked for a second: a call takes it 1 us, on the slow side 2 us.
        assert_eq!(row.time_ns, Some(1_000_000_000));
        let calls = if row.cell.starts_with("fake-ok-slow") {
            500_000
        } else {
            1_000_000
        };
        assert_eq!(row.iterations, Some(calls));
        let tokens = if row.cell.contains("/prefill/") {
            7
        } else if row.cell.contains("/gemm/") {
            3
        } else {
            1
        };
        assert_eq!(row.tokens, Some(calls * tokens), "{}", row.cell);
    }
    let of = |part: &str| {
        taken
            .iter()
            .filter(|row| row.cell.starts_with(part))
            .count()
    };
    assert_eq!(of("fake-ok/gemv-warm/"), 3);
    assert_eq!(of("engine:fake-ok/prefill/"), 3);
    assert_eq!(of("engine:fake-ok/decode/"), 3);
    // Three blocks of two windows a side.
    assert_eq!((of("fake-ok/gemm/"), of("fake-ok-slow/gemm/")), (6, 6));
    for block in 0..3 {
        let order: String = taken
            .iter()
            .filter(|row| !row.pair.is_empty() && row.block == block)
            .map(|row| row.side.name())
            .collect();
        assert!(["ABBA", "BAAB"].contains(&order.as_str()), "{order}");
    }
    // What is wrong gets no window, and what is a limit says that it gets none.
    assert_eq!(of("fake-wrong"), 0);
    let untaken: BTreeSet<(&str, &str)> = rows
        .iter()
        .filter(|row| row.window == EnergyWindow::None)
        .map(|row| (row.cell.split('/').next().unwrap(), row.status.as_str()))
        .collect();
    assert_eq!(
        untaken,
        BTreeSet::from([
            ("probe:read", "not_selected"),
            ("fake-ok-other", "not_selected")
        ])
        .into_iter()
        .filter(|(cell, _)| *cell == "probe:read" || of(cell) == 0)
        .collect()
    );
    let power: Vec<PowerRow> = RunDir::open(dir.path()).unwrap().read().unwrap();
    assert!(power.iter().any(|row| row.phase == "idle"));
    assert!(
        power
            .iter()
            .all(|row| row.length_ns >= 100_000_000 && row.pkg_uj == Some(row.length_ns / 25))
    );
    let session = RunDir::open(dir.path()).unwrap().session().unwrap();
    assert_eq!(session.energy.status, "ok");
}

#[test]
fn without_a_meter_every_cell_says_why_and_nothing_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::new(plan_of(SUITE));
    run.meter = false;
    let outcome = run.go(dir.path());
    assert!(!outcome.energy_missing);
    let rows = rows(dir.path());
    assert_eq!(rows.len(), run.plan.cells.len());
    for row in &rows {
        assert_eq!(row.window, EnergyWindow::None);
        assert_eq!(
            (row.status.as_str(), row.reason.as_str()),
            ("vm_no_rapl", "this is a virtual machine")
        );
        let amounts = [
            row.pkg_uj,
            row.dram_uj,
            row.psys_uj,
            row.wall_uj,
            row.window_ns,
        ];
        assert_eq!(amounts, [None; 5]);
    }
    assert!(!dir.path().join("power.csv").exists());
    let session = RunDir::open(dir.path()).unwrap().session().unwrap();
    assert_eq!(session.energy.remedy, "measure on the host");
    // Required, and not there.
    let dir = tempfile::tempdir().unwrap();
    run.required = true;
    let outcome = run.go(dir.path());
    assert!(outcome.energy_missing);
}

#[test]
fn a_meter_that_breaks_leaves_reasons_and_no_amounts() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::new(plan_of(SUITE));
    // The idle window before is the only good one.
    run.broken_from = 1;
    run.required = true;
    let outcome = run.go(dir.path());
    assert!(outcome.energy_missing);
    for row in rows(dir.path())
        .iter()
        .filter(|row| row.window == EnergyWindow::Cell)
    {
        assert_eq!(row.status, "stale_counter");
        assert_eq!((row.pkg_uj, row.dram_uj), (None, None));
        assert!(row.window_ns.is_some());
    }
}

#[test]
fn a_stopped_pass_keeps_its_windows_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::new(plan_of(SUITE));
    run.stop_after = 5;
    let outcome = run.go(dir.path());
    assert!(outcome.interrupted);
    let first = rows(dir.path());
    let cells = |rows: &[EnergyRow]| {
        rows.iter()
            .filter(|row| row.window == EnergyWindow::Cell)
            .count()
    };
    assert!((1..=8).contains(&cells(&first)), "{}", cells(&first));
    run.stop_after = u64::MAX;
    let outcome = run.go(dir.path());
    assert!(!outcome.interrupted);
    let all = rows(dir.path());
    assert_eq!(all[..first.len()], first, "what was recorded stays");
    assert_eq!(cells(&all), 3 * 3 + 3 * 4);
    // Each window of a cell by itself is there once.
    let alone: Vec<(&str, u64)> = all
        .iter()
        .filter(|row| row.window == EnergyWindow::Cell && row.side == Side::Alone)
        .map(|row| (row.cell.as_str(), row.round))
        .collect();
    assert_eq!(alone.iter().collect::<BTreeSet<_>>().len(), alone.len());
    // Both parts have idle windows of their own; the first was stopped before its second.
    let idle: Vec<(u64, EnergyWindow)> = all
        .iter()
        .filter(|row| row.cell.is_empty())
        .map(|row| (row.part, row.window))
        .collect();
    assert_eq!(
        idle,
        [
            (0, EnergyWindow::IdleBefore),
            (1, EnergyWindow::IdleBefore),
            (1, EnergyWindow::IdleAfter)
        ]
    );
    // A third time there is nothing left to do.
    run.go(dir.path());
    assert_eq!(rows(dir.path()), all);
}

#[test]
fn what_goes_wrong_in_a_loop_is_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::new(plan_of(
        r#"
[run]
energy = true
[energy]
window = "1s"
windows = 2
idle = "1s"
[[micro]]
workloads = ["gemv-warm"]
kernels = ["fake-loop-wrong", "fake-loop-crash", "fake-ok"]
shapes = ["16x128"]
threads = [1]
"#,
    ));
    let outcome = run.go(dir.path());
    let status = |kernel: &str| {
        let cell = outcome.cells.iter().find(|cell| cell.kernel == kernel);
        cell.unwrap().status
    };
    assert_eq!(status("fake-loop-wrong"), Status::Wrong);
    assert_eq!(status("fake-loop-crash"), Status::Crashed);
    assert_eq!(status("fake-ok"), Status::Ok);
    assert_eq!(outcome.exit_code(), 7);
    let rows = rows(dir.path());
    let cells: BTreeSet<&str> = rows
        .iter()
        .filter(|row| row.window == EnergyWindow::Cell)
        .map(|row| row.cell.split('/').next().unwrap())
        .collect();
    assert_eq!(
        cells,
        BTreeSet::from(["fake-ok"]),
        "no energy without a right answer"
    );
}

#[test]
fn the_budget_chooses_whole_models_first() {
    let suite = |mode: &str, budget: &str| {
        SUITE
            .replace("energy = true", &format!("energy = {mode}"))
            .replace(
                "idle = \"2s\"",
                &format!("idle = \"2s\"\nbudget = \"{budget}\""),
            )
    };
    // Three windows of a second a cell, twelve a pair.
    let chosen = plan_of(&suite("\"auto\"", "3s")).energy;
    assert_eq!(chosen.cells.len(), 1);
    assert!(chosen.cells[0].starts_with("engine:"), "{:?}", chosen.cells);
    assert_eq!(chosen.expected_ns, 7_000_000_000);
    let chosen = plan_of(&suite("\"auto\"", "18s")).energy;
    assert_eq!((chosen.cells.len(), chosen.pairs.len()), (2, 1));
    let chosen = plan_of(&suite("\"auto\"", "1s")).energy;
    assert_eq!((chosen.cells.len(), chosen.expected_ns), (0, 0));
    let chosen = plan_of(&suite("true", "1s")).energy;
    assert_eq!((chosen.cells.len(), chosen.pairs.len()), (4, 1));
    let chosen = plan_of(&suite("false", "1h")).energy;
    assert_eq!(
        (chosen.mode, chosen.cells.len(), chosen.pairs.len()),
        (EnergyMode::Off, 0, 0)
    );
    // The command line has the last word.
    let chosen = plan_with(
        &suite("false", "1s"),
        Overrides {
            energy: Some(EnergyMode::All),
            ..Overrides::default()
        },
    );
    assert_eq!(chosen.energy.cells.len(), 4);
}
