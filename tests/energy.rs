//! Joules from a meter to a report, with the whole program: a tree of counters that advance by known watts in real time, and
//! what the report makes of them. Where there is no meter, that nothing stands in for it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{run, stderr, stdout, tritbench};
use serde_json::Value;
use tempfile::TempDir;
use trit_core::{
    EnergyRow, EnergyWindow, PairQuantity, PairRow, PowerRow, RunDir, Side, SummaryRow, Workload,
    is_final,
};
use trit_measure::energy::fake::{self, FakeDomain, FakeTree};
use trit_measure::{Clock, MonotonicClock};
use trit_stats::hodges_lehmann;

/// Watts of the packages at rest and at work, of memory, and of the platform, which contains the packages.
const REST_W: f64 = 12.0;
const WORK_W: f64 = 40.0;
const DRAM_W: f64 = 5.0;
const PSYS_W: f64 = 90.0;

/// The largest difference between what was injected and what is reported, as a share.
const TOLERANCE: f64 = 0.005;

const WHOLE_MODEL: &str = r#"
[suite]
name = "joules"
description = "Prompts and tokens of a small model"
seed = 5
budget = "2s"

[run]
energy = true
[energy]
source = "powercap"
window = "2s"
windows = 2
idle = "1s"

[[generate]]
workloads = ["prefill", "decode"]
models = ["synth:tiny"]
kernels = ["w2a8-swar-scalar"]
threads = [1]
prompt_tokens = 9
gen_tokens = 5
"#;

const PAIR: &str = r#"
[suite]
name = "joules-of-pairs"
description = "One cell by itself and one pair"
seed = 6
budget = "2s"

[run]
energy = true
[energy]
source = "powercap"
window = "1s"
windows = 2
idle = "1s"

[[micro]]
workloads = ["gemv-warm"]
kernels = ["w2a8-naive-scalar"]
shapes = ["32x128"]
threads = [1]

[[pair]]
workload = "gemv-warm"
subject = "w2a8-swar-scalar"
against = "w2a8-naive-scalar"
shapes = ["64x256"]
threads = [1]
"#;

/// A machine with a meter, a suite and a place for results.
struct Bench {
    tree: FakeTree,
    meter: TempDir,
    dir: TempDir,
}

impl Bench {
    fn new(suite: &str) -> Self {
        let meter = tempfile::tempdir_in(fake::place()).unwrap();
        let domains = vec![
            FakeDomain {
                // It starts again at 0 some seconds into the run.
                start_uj: fake::RANGE_UJ - 100_000_000,
                ..FakeDomain::new("package-0", REST_W)
            },
            FakeDomain::new("package-0/dram", DRAM_W),
            FakeDomain::new("psys", PSYS_W),
        ];
        let tree = FakeTree::start(meter.path(), domains).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("suite.toml"), suite).unwrap();
        Self { tree, meter, dir }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn command(&self, what: &[&str]) -> Command {
        let mut command = tritbench(["run", "--allow-debug", "--sysfs-root"]);
        command.arg(self.meter.path()).args(what);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn fresh(&self) -> Command {
        let (suite, out) = (self.dir.path().join("suite.toml"), self.out());
        self.command(&[suite.to_str().unwrap(), "--out", out.to_str().unwrap()])
    }

    fn resumed(&self) -> Command {
        self.command(&["--resume", self.out().to_str().unwrap()])
    }

    /// The rows so far; the last one may be half written.
    fn rows(&self) -> Vec<EnergyRow> {
        let run = RunDir::open(&self.out());
        run.and_then(|run| run.read()).unwrap_or_default()
    }

    /// Runs to the end and makes the machine behave like one: it takes more while cells loop, that is after the idle window
    /// before and until `last` windows of cells are there. At `stop` windows the run is interrupted.
    fn go(&self, mut command: Command, last: usize, stop: Option<usize>) -> Child {
        let parts = self
            .rows()
            .iter()
            .filter(|row| row.window == EnergyWindow::IdleBefore)
            .count();
        let mut child = command.spawn().unwrap();
        let mut stopped = false;
        loop {
            let rows = self.rows();
            let of = |window| rows.iter().filter(|row| row.window == window).count();
            let works = of(EnergyWindow::IdleBefore) > parts && of(EnergyWindow::Cell) < last;
            self.tree.set_watts(0, if works { WORK_W } else { REST_W });
            if stop.is_some_and(|at| of(EnergyWindow::Cell) >= at) && !stopped {
                let id = child.id().to_string();
                let sent = Command::new("kill").args(["-s", "INT", &id]).status();
                assert!(sent.unwrap().success());
                stopped = true;
            }
            if child.try_wait().unwrap().is_some() {
                return child;
            }
            std::thread::park_timeout(Duration::from_millis(3));
        }
    }
}

fn ended(child: Child, code: i32) -> String {
    let output = child.wait_with_output().unwrap();
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{told}");
    told
}

fn near(value: f64, expected: f64, share: f64, what: &str) {
    assert!(
        (value / expected - 1.0).abs() <= share,
        "{what}: {value} is not within {} % of {expected}",
        100.0 * share
    );
}

fn windows<'a>(rows: &'a [EnergyRow], cell: &str) -> Vec<&'a EnergyRow> {
    let of = |row: &&EnergyRow| row.cell == cell && row.window == EnergyWindow::Cell;
    rows.iter().filter(of).collect()
}

/// Joules of a token as injected: watts for the time that the windows took, over the tokens in them.
fn injected(windows: &[&EnergyRow], watts: f64) -> f64 {
    let of =
        |row: &&EnergyRow| watts * row.window_ns.unwrap() as f64 / 1e9 / row.tokens.unwrap() as f64;
    hodges_lehmann(&windows.iter().map(of).collect::<Vec<_>>()).unwrap()
}

#[test]
fn the_report_has_the_joules_that_were_injected() {
    let bench = Bench::new(WHOLE_MODEL);
    ended(bench.go(bench.fresh(), 4, None), 0);
    let run_dir = RunDir::open(&bench.out()).unwrap();
    let rows = bench.rows();

    // What the counters were told, and nothing of psys or memory in it.
    let summary = run_dir.summary().unwrap();
    assert_eq!(summary.len(), 2);
    for row in &summary {
        let (cell, results) = (&row.cell, &row.results);
        let id = cell.cell.as_str();
        let windows = windows(&rows, id);
        assert_eq!(windows.len(), 2, "{id}");
        for window in &windows {
            assert_eq!(window.status, "ok", "{id}: {}", window.reason);
            let (time_ns, window_ns) = (window.time_ns.unwrap(), window.window_ns.unwrap());
            // The window holds the calls, and little else.
            assert!(time_ns <= window_ns && time_ns >= 2_000_000_000, "{id}");
            near(window_ns as f64, time_ns as f64, 0.05, id);
        }
        let gross = results.gross_j_per_token.unwrap();
        near(gross, injected(&windows, WORK_W), TOLERANCE, id);
        near(results.gross_w.unwrap(), WORK_W, TOLERANCE, id);
        let length_s = results.energy_window_ns.unwrap() as f64 / 1e9;
        for (uj, watts) in [
            (results.energy_pkg_uj, WORK_W),
            (results.energy_dram_uj, DRAM_W),
            (results.energy_psys_uj, PSYS_W),
        ] {
            near(uj.unwrap() as f64 / 1e6, watts * length_s, TOLERANCE, id);
        }
        assert_eq!(results.energy_domain, "package");
        assert_eq!(results.energy_source, "powercap");
        assert_eq!(results.energy_wall_uj, None);

        // Net of what the machine takes at rest, by the idle windows before and after.
        near(results.energy_idle_w.unwrap(), REST_W, 0.02, id);
        assert_eq!(results.energy_net_status, "ok");
        let net = injected(&windows, WORK_W - REST_W);
        near(results.net_j_per_token.unwrap(), net, 0.02, id);
        // Six windows are the fewest that carry an interval of 95 %.
        assert_eq!(results.gross_j_per_token_lo, None, "{id}");
        assert!(results.edp_js.unwrap() > 0.0);
    }
    prompts_and_tokens_are_apart(&summary);

    // What was drawn: watts over time, and joules by phase.
    let power: Vec<PowerRow> = run_dir.read().unwrap();
    let phases: BTreeSet<&str> = power.iter().map(|row| row.phase.as_str()).collect();
    assert_eq!(phases, BTreeSet::from(["decode", "idle", "prefill"]));
    for chart in ["energy", "power"] {
        for ending in ["svg", "png"] {
            let file = bench.out().join(format!("charts/{chart}.{ending}"));
            assert!(file.is_file(), "{}", file.display());
        }
    }
    let report = fs::read_to_string(bench.out().join("report.md")).unwrap();
    for words in ["## Energy", "J/token", "package-0", "charts/power"] {
        assert!(report.contains(words), "no `{words}` in the report");
    }
    let session = run_dir.session().unwrap();
    assert_eq!(session.energy.status, "ok");
    assert_eq!(
        session.energy.domains,
        ["package-0", "package-0/dram", "psys"]
    );
    energy_report(&bench, &rows);
}

/// The report that is made for others has the joules that were injected, and draws them.
fn energy_report(bench: &Bench, rows: &[EnergyRow]) {
    let (out, paper) = (bench.out(), bench.dir.path().join("paper"));
    let [out, paper_text] = [&out, &paper].map(|path| path.to_str().unwrap());
    let given = run([
        "report", "energy", out, "--format", "json", "--out", paper_text,
    ]);
    assert_eq!(given.status.code(), Some(0), "{}", stderr(&given));
    let lines: Vec<Value> = serde_json::from_str(&stdout(&given)).unwrap();
    let summary = RunDir::open(&bench.out()).unwrap().summary().unwrap();
    assert_eq!(lines.len(), summary.len());
    for (line, row) in lines.iter().zip(&summary) {
        let id = row.cell.cell.as_str();
        assert_eq!(line["workload"], row.cell.workload.name());
        assert_eq!(line["energy_source"], "powercap");
        assert_eq!(line["pareto"], true, "{id} is the only one of its kind");
        let number = |column: &str| line[column].as_f64().unwrap();
        let windows = windows(rows, id);
        let gross = injected(&windows, WORK_W);
        near(number("gross_j_per_token"), gross, TOLERANCE, id);
        near(number("gross_w"), WORK_W, TOLERANCE, id);
        let net = injected(&windows, WORK_W - REST_W);
        near(number("net_j_per_token"), net, 0.02, id);
    }
    let words = fs::read_to_string(paper.join("energy.md")).unwrap();
    assert!(
        words.contains("J/token") && words.contains("| 40.0 |"),
        "{words}"
    );
    let drawn = fs::read_dir(&paper)
        .unwrap()
        .chain(fs::read_dir(paper.join("charts")).into_iter().flatten());
    let pictures = drawn.filter(|file| {
        let name = file.as_ref().unwrap().file_name();
        Path::new(&name)
            .extension()
            .is_some_and(|ending| ending == "svg")
    });
    assert!(pictures.count() > 0, "no chart");
}

/// A prompt has its own joules; a request is a prompt and the tokens after the first.
fn prompts_and_tokens_are_apart(summary: &[SummaryRow]) {
    let of = |workload| {
        let row = summary.iter().find(|row| row.cell.workload == workload);
        &row.unwrap().results
    };
    let (prefill, decode) = (of(Workload::Prefill), of(Workload::Decode));
    let prompt = prefill.gross_j_per_request.unwrap();
    near(
        prompt,
        9.0 * prefill.gross_j_per_token.unwrap(),
        1e-9,
        "nine tokens of a prompt",
    );
    near(
        decode.gross_j_per_request.unwrap(),
        prompt + 4.0 * decode.gross_j_per_token.unwrap(),
        1e-9,
        "a prompt and four tokens",
    );
    // At equal power joules go with time, and the two take different times.
    near(
        prefill.gross_j_per_token.unwrap() / decode.gross_j_per_token.unwrap(),
        prefill.median_ns.unwrap() / 9.0 / decode.median_ns.unwrap(),
        0.5,
        "joules of both phases",
    );
}

#[test]
fn an_interrupted_run_goes_on_and_ends_with_ratios_of_pairs() {
    let bench = Bench::new(PAIR);
    let complete = 2 + 2 * 4;
    let told = ended(bench.go(bench.fresh(), complete, Some(2)), 130);
    assert!(told.contains("--resume"), "{told}");
    let before = bench.rows();
    let taken = |rows: &[EnergyRow]| {
        let cells = rows.iter().filter(|row| row.window == EnergyWindow::Cell);
        cells.count()
    };
    assert!((2..complete).contains(&taken(&before)), "{before:?}");

    ended(bench.go(bench.resumed(), complete, None), 0);
    let rows = bench.rows();
    assert_eq!(rows[..before.len()], before, "what was there is there");
    let keys: BTreeSet<_> = rows
        .iter()
        .filter(|row| row.window == EnergyWindow::Cell)
        .map(|row| (&row.cell, &row.pair, row.block, row.sample, row.side))
        .collect();
    assert_eq!(keys.len(), complete, "each window once");
    assert_eq!(taken(&rows), complete);
    assert_eq!(
        rows.iter().map(|row| row.part).collect::<BTreeSet<_>>(),
        BTreeSet::from([0, 1])
    );
    let run_dir = RunDir::open(&bench.out()).unwrap();
    assert!(run_dir.cells().unwrap().iter().all(is_final));

    // The joules of both sides, from blocks in which they took turns.
    let pairs: Vec<PairRow> = run_dir.read().unwrap();
    let ratio_of = |quantity| {
        let mut found = pairs.iter().filter(|row| row.quantity == quantity);
        let row = found.next().unwrap();
        assert!(found.next().is_none());
        row
    };
    let energy = ratio_of(PairQuantity::Energy);
    assert_eq!(energy.blocks, 2);
    let per_call = |block: u64, side: Side| {
        let of = rows
            .iter()
            .filter(|row| row.side == side && row.block == block);
        let logs: Vec<f64> = of
            .map(|row| {
                (WORK_W * row.window_ns.unwrap() as f64 / row.iterations.unwrap() as f64).ln()
            })
            .collect();
        assert_eq!(logs.len(), 2, "a side has two windows of a block");
        logs.iter().sum::<f64>() / 2.0
    };
    let logs = [0, 1].map(|block| per_call(block, Side::A) - per_call(block, Side::B));
    let expected = f64::midpoint(logs[0], logs[1]).exp();
    near(energy.ratio.unwrap(), expected, 0.01, "joules of a pair");
    // At equal power that is the inverse of the speed-up.
    assert!(ratio_of(PairQuantity::SpeedUp).ratio.unwrap() > 0.0);
}

const NO_METER: &str = r#"
[suite]
name = "no-meter"
description = "One small cell"
budget = "500ms"
[run]
energy = true
[energy]
window = "1s"
windows = 1
idle = "1s"
[[micro]]
workloads = ["gemv-warm"]
kernels = ["w2a8-swar-scalar"]
shapes = ["32x128"]
threads = [1]
"#;

/// The log of a plug from a minute ago until ten minutes from now, five samples a second, whose power grows by a tenth of a watt
/// a second.
fn plug(path: &Path) -> u64 {
    let start_ms = MonotonicClock.unix_ns() / 1_000_000 - 60_000;
    let mut text = "unix_ms,watts\n".to_owned();
    for sample in 0..660 * 5u32 {
        let watts = 20.0 + 0.02 * f64::from(sample);
        writeln!(text, "{},{watts}", start_ms + 200 * u64::from(sample)).unwrap();
    }
    fs::write(path, text).unwrap();
    start_ms * 1_000_000
}

/// Microjoules at that plug.
fn plugged(row: &EnergyRow, start_ns: u64) -> f64 {
    let seconds = |at: Option<u64>| (at.unwrap() - start_ns) as f64 / 1e9;
    let (from, to) = (seconds(row.start_unix_ns), seconds(row.end_unix_ns));
    (20.0 + 0.1 * f64::midpoint(from, to)) * (to - from) * 1e6
}

#[test]
fn the_log_of_a_plug_is_merged_by_time_at_the_end_or_later() {
    let (root, dir) = (no_meter(), tempfile::tempdir().unwrap());
    let suite = dir.path().join("suite.toml");
    fs::write(&suite, NO_METER).unwrap();
    let log = dir.path().join("plug.csv");
    let start_ns = plug(&log);
    let (root, suite, log) = (words_of(root.path()), words_of(&suite), words_of(&log));
    let common = ["run", "--allow-debug", "--sysfs-root", &root, &suite];
    let check = |out: &Path| {
        let run_dir = RunDir::open(out).unwrap();
        let rows: Vec<EnergyRow> = run_dir.read().unwrap();
        assert_eq!(rows.len(), 3, "two idle windows and one of the cell");
        for row in &rows {
            let uj = row.wall_uj.unwrap() as f64;
            near(uj, plugged(row, start_ns), 1e-6, "joules at the plug");
            assert_eq!(
                (row.pkg_uj, row.psys_uj),
                (None, None),
                "a plug is no package"
            );
        }
        let summary = run_dir.summary().unwrap();
        let results = &summary[0].results;
        assert_eq!(
            (
                results.energy_domain.as_str(),
                results.energy_source.as_str()
            ),
            ("wall", "external")
        );
        let cell = windows(&rows, &summary[0].cell.cell);
        let joules = cell[0].wall_uj.unwrap() as f64 / 1e6 / cell[0].tokens.unwrap() as f64;
        near(results.gross_j_per_token.unwrap(), joules, 1e-9, "J/token");
        assert_eq!(run_dir.session().unwrap().energy.status, "ok");
    };

    // The log is there while the run goes on.
    let out = dir.path().join("live");
    let mut command = tritbench(common);
    command.args(["--require-energy", "--energy-log", &log, "--out"]);
    let output = command.arg(&out).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    check(&out);

    // The log comes from elsewhere when the run is over.
    let out = dir.path().join("later");
    let mut command = tritbench(common);
    command.args(["--energy-source", "external", "--out"]);
    let output = command.arg(&out).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let run_dir = RunDir::open(&out).unwrap();
    let rows: Vec<EnergyRow> = run_dir.read().unwrap();
    assert!(rows.iter().all(|row| row.headline().is_none()));
    let report = fs::read_to_string(out.join("report.md")).unwrap();
    assert!(report.contains("report DIR --energy-log FILE"), "{report}");
    let merged = run([
        "report",
        out.to_str().unwrap(),
        "--energy-log",
        &log,
        "--format",
        "csv",
    ]);
    assert_eq!(merged.status.code(), Some(0), "{}", stderr(&merged));
    assert!(stderr(&merged).contains("3 energy windows are in the log"));
    check(&out);
}

#[test]
fn a_log_that_is_none_is_told() {
    let (root, dir) = (no_meter(), tempfile::tempdir().unwrap());
    let suite = dir.path().join("suite.toml");
    fs::write(&suite, NO_METER).unwrap();
    let log = dir.path().join("plug.csv");
    fs::write(&log, "time;power\n1;2\n").unwrap();
    let (root, suite, log) = (words_of(root.path()), words_of(&suite), words_of(&log));
    let with = |more: &[&str], code, words: &[&str]| {
        let common = ["run", "--allow-debug", "--sysfs-root", &root, &suite];
        common::refused(common.iter().chain(more), code, words);
    };
    with(
        &["--require-energy", "--energy-log", &log],
        6,
        &["plug.csv", "line 1", "hint: "],
    );
    with(
        &["--require-energy", "--energy-source", "external"],
        2,
        &["--energy-log FILE"],
    );
    with(
        &["--energy-source", "powercap", "--energy-log", &log],
        2,
        &["--energy-log", "powercap"],
    );
}

/// A `/sys` and `/proc` without any meter.
fn no_meter() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("sys/class")).unwrap();
    fs::create_dir_all(root.path().join("proc")).unwrap();
    root
}

fn words_of(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn without_a_meter_cells_are_empty_and_the_report_says_why_and_what_helps() {
    let (root, dir) = (no_meter(), tempfile::tempdir().unwrap());
    let suite = dir.path().join("suite.toml");
    fs::write(&suite, NO_METER).unwrap();
    let out = dir.path().join("out");
    let (root, suite, at) = (words_of(root.path()), words_of(&suite), words_of(&out));
    let arguments = [
        "run",
        "--allow-debug",
        "--sysfs-root",
        &root,
        &suite,
        "--out",
        &at,
    ];
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let told = stderr(&output);
    assert!(told.contains("no energy: "), "{told}");

    let run_dir = RunDir::open(&out).unwrap();
    let facts = run_dir.session().unwrap().energy;
    assert!(
        !facts.status.is_empty() && facts.status != "ok",
        "{facts:?}"
    );
    assert!(
        !facts.reason.is_empty() && !facts.remedy.is_empty(),
        "{facts:?}"
    );
    let report = fs::read_to_string(out.join("report.md")).unwrap();
    for words in [&facts.status, &facts.reason] {
        assert!(
            report.contains(words.as_str()),
            "`{words}` is not in the report"
        );
    }
    assert!(
        report.contains(facts.remedy.trim_end_matches('.')),
        "{report}"
    );
    for row in run_dir.summary().unwrap() {
        let results = row.results;
        assert_eq!(results.energy_status, facts.status);
        assert_eq!(
            (
                results.energy_pkg_uj,
                results.gross_j_per_token,
                results.gross_w
            ),
            (None, None, None),
            "never 0"
        );
    }
    let rows: Vec<EnergyRow> = run_dir.read().unwrap();
    assert!(rows.iter().all(|row| row.headline().is_none()));
    assert!(!out.join("power.csv").exists());
    assert!(!out.join("charts/energy.svg").exists());

    // Who needs joules is told before anything is timed.
    let other = words_of(&dir.path().join("other"));
    common::refused(
        [
            "run",
            "--allow-debug",
            "--sysfs-root",
            &root,
            &suite,
            "--out",
            &other,
            "--require-energy",
        ],
        6,
        &["no energy meter", &facts.status, "hint: "],
    );
    assert!(
        !Path::new(&other).exists(),
        "no directory of a run that was not"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_monitored_program_has_the_joules_that_were_injected_and_is_judged_by_them() {
    let bench = Bench::new("");
    bench.tree.set_watts(0, WORK_W);
    let limits = bench.dir.path().join("limits.toml");
    fs::write(&limits, "[limits]\nmax_j_per_token = 0.5\n").unwrap();
    let before = bench.tree.injected().unwrap();
    let mut command = tritbench([
        "monitor",
        "--interval",
        "100ms",
        "--format",
        "json",
        "--lines",
    ]);
    command.arg("--sysfs-root").arg(bench.meter.path());
    command.arg("--limits").arg(&limits);
    command.args(["--", "sh", "-c", "sleep 2; echo 2000000000,10"]);
    let output = command.output().unwrap();
    let after = bench.tree.injected().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("J/token"), "{}", stderr(&output));

    let value: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let summary = &value["summary"];
    assert_eq!(summary["energy_status"], "ok", "{summary}");
    assert_eq!(summary["energy_source"], "powercap");
    let joules = summary["energy_pkg_uj"].as_f64().unwrap() / 1e6;
    let most = (after[0].energy_uj - before[0].energy_uj) / 1e6;
    assert!(
        (2.0 * WORK_W * (1.0 - TOLERANCE)..=most).contains(&joules),
        "{joules} of {most} J"
    );
    near(
        summary["package_w_mean"].as_f64().unwrap(),
        WORK_W,
        0.02,
        "mean watts",
    );
    near(
        summary["j_per_token"].as_f64().unwrap(),
        joules / 10.0,
        1e-6,
        "J/token",
    );

    // The time line has them too, growing from look to look.
    let rows = value["rows"].as_array().unwrap();
    let line: Vec<u64> = rows
        .iter()
        .filter_map(|row| row["energy_pkg_uj"].as_u64())
        .collect();
    assert!(line.len() >= 10 && line.is_sorted(), "{line:?}");
    assert!(*line.last().unwrap() as f64 / 1e6 <= most);
}
