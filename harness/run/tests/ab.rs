//! Comparisons of two builds with workers that do what the test wants.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell as Counter;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use trit_core::{
    Comparison, Limits, Measurement, Plan, RunDir, SCHEMA, Session, Side, Status, Suite,
    paired_blocks,
};
use trit_measure::FakeClock;
use trit_run::{
    AbOptions, AbOutcome, Extent, PlanContext, Silent, Timeouts, WorkerCommand, compare_builds,
    plan, survey,
};
use trit_stats::judge::Verdict;

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

fn plan_of(kernels: &str) -> Plan {
    let text = format!(
        "[suite]\nname = \"test\"\nbudget = \"20s\"\n[[micro]]\nworkloads = [\"gemv-warm\"]\nkernels = [{kernels}]\nshapes = [\"64x64\"]\nthreads = [1]\n"
    );
    let suite = Suite::parse("test.toml", &text).unwrap();
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

struct Ab<'a> {
    plan: Plan,
    head: &'a str,
    added: BTreeMap<String, [f64; 2]>,
    extent: Extent,
    stop_at: u64,
}

impl Ab<'_> {
    fn new(kernels: &str) -> Self {
        Self {
            plan: plan_of(kernels),
            head: "fake",
            added: BTreeMap::new(),
            extent: Extent::Once,
            stop_at: u64::MAX,
        }
    }

    fn go(&self, dir: &Path) -> AbOutcome {
        let session = Session {
            schema: SCHEMA,
            plan: self.plan.clone(),
            comparison: Some(Comparison {
                added: self.added.clone(),
                ..Comparison::default()
            }),
            ..Session::default()
        };
        let looks = Counter::new(0);
        let interrupted = || {
            looks.set(looks.get() + 1);
            looks.get() > self.stop_at
        };
        // Every reading is a millisecond later: the budget ends after the same number of visits everywhere.
        let clock = FakeClock::stepping(0, 1_000_000);
        compare_builds(
            AbOptions {
                session,
                dir: RunDir::create(dir).or_else(|_| RunDir::open(dir)).unwrap(),
                workers: [fake("fake"), fake(self.head)],
                reference: fake("fake"),
                timeouts: TIMEOUTS,
                limits: Limits::default(),
                extent: self.extent,
                l3_bytes: 1 << 20,
                interrupted: &interrupted,
                clock: &clock,
            },
            &mut Silent,
        )
        .unwrap()
    }
}

fn rows(dir: &Path) -> Vec<Measurement> {
    RunDir::open(dir).unwrap().measurements().unwrap()
}

const OK: &str = "fake-ok/gemv-warm/64x64/t1";
const OTHER: &str = "fake-ok-other/gemv-warm/64x64/t1";

#[test]
fn the_same_build_passes_at_the_first_look() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = Ab::new("\"fake-ok\", \"fake-ok-other\"").go(dir.path());
    let judged = outcome.judgements.unwrap();
    assert!(
        judged
            .cells
            .iter()
            .all(|cell| cell.verdict == Verdict::Passed)
    );
    assert_eq!(outcome.outcome.exit_code(), 0);
    let session = RunDir::open(dir.path()).unwrap().session().unwrap();
    let comparison = session.comparison.unwrap();
    assert_eq!(comparison.ended, "every cell was decided");
    // Both sides work all the time on one CPU; by itself, a cell takes a megabyte.
    for cell in [OK, OTHER] {
        for side in comparison.taken[cell] {
            assert_eq!(side.peak_rss_bytes, Some(1_000_000));
            assert_eq!(side.cpu_percent(2), Some(50.0));
        }
    }
    assert!(comparison.looks.len() >= 2, "{:?}", comparison.looks);
    let blocks = paired_blocks(&rows(dir.path()));
    // Four pairs of processes, the control among the cells, and no second phase.
    let processes: std::collections::BTreeSet<u64> =
        blocks.iter().map(|block| block.process).collect();
    assert_eq!(processes.len(), 4);
    assert!(blocks.iter().all(|block| block.round == 0));
    assert!(blocks.iter().any(|block| block.cell == comparison.control));
    // Slices are short, and both orders occur.
    let first: Vec<Side> = rows(dir.path())
        .iter()
        .filter(|row| row.sample == 0)
        .map(|row| row.side)
        .collect();
    assert!(first.contains(&Side::A) && first.contains(&Side::B));
}

#[test]
fn a_slower_head_is_confirmed_by_fresh_processes() {
    let dir = tempfile::tempdir().unwrap();
    let mut ab = Ab::new("\"fake-ok\", \"fake-ok-other\"");
    ab.added.insert(OK.to_owned(), [0.0, 10.0]);
    let judged = ab.go(dir.path()).judgements.unwrap();
    assert_eq!(judged.cells[0].verdict, Verdict::Regressed);
    assert_eq!(judged.cells[1].verdict, Verdict::Passed);
    let effect = judged.cells[0].first.as_ref().unwrap().effect;
    assert!((effect - 1.1f64.ln()).abs() < 1e-4, "{effect}");
    // Only the doubtful cell is measured again.
    let blocks = paired_blocks(&rows(dir.path()));
    let again: Vec<&str> = blocks
        .iter()
        .filter(|block| block.round == 1)
        .map(|block| block.cell.as_str())
        .collect();
    assert!(!again.is_empty() && again.iter().all(|cell| *cell == OK));
}

#[test]
fn a_slower_base_is_an_improvement() {
    let dir = tempfile::tempdir().unwrap();
    let mut ab = Ab::new("\"fake-ok\"");
    ab.added.insert(OK.to_owned(), [5.0, 0.0]);
    let judged = ab.go(dir.path()).judgements.unwrap();
    assert_eq!(judged.cells[0].verdict, Verdict::Improved);
}

#[test]
fn what_goes_wrong_is_a_row_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let kernels =
        "\"fake-ok\", \"fake-late\", \"fake-crash\", \"fake-unsupported\", \"fake-ok-other\"";
    let outcome = Ab::new(kernels).go(dir.path());
    let status = |kernel: &str| {
        let cells = &outcome.outcome.cells;
        let cell = cells.iter().find(|cell| cell.kernel == kernel).unwrap();
        assert!(
            cell.status == Status::Ok
                || cell.reason.starts_with("base: ")
                || cell.reason.starts_with("head: "),
            "{}",
            cell.reason
        );
        cell.status
    };
    assert_eq!(status("fake-ok"), Status::Ok);
    assert_eq!(status("fake-ok-other"), Status::Ok);
    assert_eq!(status("fake-late"), Status::Wrong);
    assert_eq!(status("fake-crash"), Status::Crashed);
    assert_eq!(status("fake-unsupported"), Status::Skipped);
    assert_eq!(outcome.outcome.exit_code(), 7);
    assert_eq!(outcome.judgements.unwrap().cells.len(), 2);
}

#[test]
fn a_build_that_is_no_worker_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut ab = Ab::new("\"fake-ok\"");
    ab.head = "rude";
    let outcome = ab.go(dir.path());
    assert!(outcome.judgements.is_none());
    assert_eq!(outcome.outcome.cells[0].status, Status::Failed);
    assert!(outcome.outcome.cells[0].reason.starts_with("head: "));
}

#[test]
fn what_was_measured_before_ctrl_c_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut ab = Ab::new("\"fake-ok\", \"fake-ok-other\"");
    ab.stop_at = 40;
    let outcome = ab.go(dir.path());
    assert_eq!(outcome.outcome.exit_code(), 130);
    let blocks = paired_blocks(&rows(dir.path()));
    assert!(
        !blocks.is_empty()
            && blocks
                .iter()
                .any(|block| block.cell == OTHER || block.cell == OK)
    );
}

#[test]
fn a_recording_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let mut ab = Ab::new("\"fake-ok\"");
    ab.plan.budget_ns = 40_000_000;
    ab.extent = Extent::Pieces(2);
    assert!(ab.go(dir.path()).judgements.is_none());
    ab.extent = Extent::Pieces(1);
    ab.go(dir.path());
    let blocks = paired_blocks(&rows(dir.path()));
    let processes = [0, 1, 2].map(|round| {
        let of_round = blocks
            .iter()
            .filter(|block| block.round == round && block.cell == OK);
        of_round
            .map(|block| block.process)
            .collect::<std::collections::BTreeSet<u64>>()
            .len() as u64
    });
    let session = RunDir::open(dir.path()).unwrap().session().unwrap();
    let comparison = session.comparison.unwrap();
    assert_eq!(comparison.pieces, 3);
    // How many pairs a piece has is decided once in each call of the program, and by the record where it goes on from one.
    let [(pairs, share)] = comparison.looks[..] else {
        panic!("{:?}", comparison.looks);
    };
    assert!((share - 1.0).abs() < 1e-12);
    assert_eq!(processes[2], pairs);
    assert!(
        processes[0] == processes[1] && processes[0] >= 4,
        "{processes:?}"
    );
}
