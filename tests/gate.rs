//! Comparing two builds and judging them, with the program itself on both sides.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{path, refused, run, stderr, stdout, tritbench};
use serde_json::Value;
use trit_core::{RunDir, SummaryRow};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tritbench");

const SUITE: &str = r#"
[suite]
name = "small"
description = "Two scalar kernels at one small shape"
seed = 3
budget = "2s"

[[micro]]
workloads = ["gemv-warm", "gemm"]
kernels = ["w2a8-swar-scalar"]
shapes = ["64x256"]
tokens = [3]
threads = [1]
"#;

fn suite(dir: &Path) -> String {
    let file = dir.join("small.toml");
    fs::write(&file, SUITE).unwrap();
    file.display().to_string()
}

#[test]
fn a_comparison_is_recorded_and_judged() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path());
    let out = dir.path().join("record").display().to_string();
    let measured = run([
        "ab",
        "--base",
        PROGRAM,
        "--head",
        PROGRAM,
        &suite,
        "--out",
        &out,
        "--allow-debug",
        "--add-work",
        "gemm=100",
        "--budget",
        "2s",
    ]);
    // However slow the head is, measuring it is no failure.
    assert_eq!(measured.status.code(), Some(0), "{}", stderr(&measured));
    assert!(stdout(&measured).contains("w2a8-swar-scalar/gemm/64x256/m3/t1"));
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (junit, json, markdown) = (file("g.xml"), file("g.json"), file("g.md"));
    let judged = run([
        "gate",
        &out,
        "--junit",
        &junit,
        "--json",
        &json,
        "--markdown",
        &markdown,
    ]);
    let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let verdict = |cell: &str| -> String {
        let cells = report["cells"].as_array().unwrap();
        let found = cells
            .iter()
            .find(|row| row["cell"].as_str().unwrap().contains(cell));
        found.unwrap()["verdict"].as_str().unwrap().to_owned()
    };
    // Twice the work: shown, or not decided on a machine that is busy with other tests; never passed.
    let slow = verdict("gemm");
    assert!(
        ["regressed", "inconclusive"].contains(&slow.as_str()),
        "{report}"
    );
    let any_slow = report["cells"]
        .as_array()
        .unwrap()
        .iter()
        .chain([&report["mean"]])
        .any(|row| row["verdict"] == "regressed");
    assert_eq!(
        judged.status.code(),
        Some(if any_slow { 3 } else { 0 }),
        "{}",
        stdout(&judged)
    );
    assert!(
        fs::read_to_string(&junit)
            .unwrap()
            .contains("<testsuite name=\"tritbench gate\"")
    );
    assert!(
        fs::read_to_string(&markdown)
            .unwrap()
            .contains("| cell | verdict |")
    );
    // The summary of a job is appended to, unless another file was named.
    let summary = dir.path().join("summary.md");
    fs::write(&summary, "before\n").unwrap();
    let mut gate = tritbench(["gate", &out]);
    gate.env("GITHUB_STEP_SUMMARY", &summary).output().unwrap();
    let text = fs::read_to_string(&summary).unwrap();
    assert!(text.starts_with("before\n### Performance"), "{text}");
    // A budget of nothing is not kept.
    let limits = file("limits.toml");
    fs::write(&limits, "[limits]\nmax_latency_ms = 0\n").unwrap();
    let judged = run(["gate", &out, "--limits", &limits]);
    assert_eq!(judged.status.code(), Some(3));
    assert!(stdout(&judged).contains("max_latency_ms"));
    // The directory is taken.
    refused(
        [
            "ab",
            "--base",
            PROGRAM,
            "--head",
            PROGRAM,
            "--out",
            &out,
            "--allow-debug",
        ],
        2,
        &["not empty"],
    );
}

#[test]
fn what_cannot_be_compared_is_code_5() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| {
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    // A summary as `run` writes it, of which one thing at a time is broken.
    let mut row = SummaryRow::default();
    row.cell.cell = "a".to_owned();
    row.cell.subject = "a".to_owned();
    row.results.median_ns = Some(1234.0);
    let whole = RunDir::create(&dir.path().join("whole")).unwrap();
    whole.write(&[row]).unwrap();
    let text = fs::read_to_string(whole.path().join("summary.csv")).unwrap();
    let broken = |from: &str, to: &str| {
        assert!(text.contains(from), "{text}");
        text.replace(from, to)
    };
    let good = at("good.csv", &text);
    let missing = dir.path().join("missing").display().to_string();
    for (base, word) in [
        (missing.clone(), "missing"),
        (at("empty.json", "{}\n"), "empty.json"),
        (at("nan.csv", &broken("1234", "NaN")), "NaN"),
        (at("zero.csv", &broken("1234", "0")), "median_ns is 0"),
        (
            at("other.csv", &broken("a,ok,,a,", "b,ok,,b,")),
            "in common",
        ),
    ] {
        refused(
            ["gate", "--baseline", &base, "--candidate", &good],
            5,
            &[word],
        );
    }
    refused(["gate", &missing], 5, &["missing"]);
    let fine = run(["gate", "--baseline", &good, "--candidate", &good]);
    // Without intervals nothing is decided, and that matters when it is asked to.
    assert_eq!(fine.status.code(), Some(0), "{}", stderr(&fine));
    assert!(stdout(&fine).contains("not paired"));
    let strict = run([
        "gate",
        "--baseline",
        &good,
        "--candidate",
        &good,
        "--strict",
    ]);
    assert_eq!(strict.status.code(), Some(4));
    // A record of one build is no comparison.
    refused(
        [
            "gate",
            &path("reports/tests/fixtures/session").display().to_string(),
        ],
        5,
        &["no comparison"],
    );
    refused(
        [
            "ab",
            "--base",
            "/bin/true",
            "--head",
            PROGRAM,
            "--allow-debug",
        ],
        5,
        &["the base is no usable tritbench"],
    );
    refused(
        [
            "ab",
            "--base",
            "no-such-revision",
            "--head",
            PROGRAM,
            "--allow-debug",
        ],
        5,
        &["no-such-revision"],
    );
    refused(
        ["ab", "--base", PROGRAM, "--head", PROGRAM],
        5,
        &["debug build"],
    );
}

#[test]
fn the_test_of_the_gate_refuses_broken_baselines() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out").display().to_string();
    let tested = run([
        "selftest",
        "--part",
        "broken",
        "--allow-debug",
        "--out",
        &out,
        "--format",
        "csv",
    ]);
    assert_eq!(tested.status.code(), Some(0), "{}", stderr(&tested));
    assert_eq!(stdout(&tested).matches(",refused,yes,").count(), 6);
}

#[test]
fn drift_by_a_fake_clock_does_not_reach_the_verdicts() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let place = out.display().to_string();
    let tested = run([
        "selftest",
        "--part",
        "drift",
        "--allow-debug",
        "--out",
        &place,
    ]);
    assert_eq!(tested.status.code(), Some(0), "{}", stderr(&tested));
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    let findings = read("findings.csv");
    assert!(
        findings.contains("bias under drift by a fake clock,below 0.1 %,")
            && findings.ends_with(",yes\n"),
        "{findings}"
    );
    let drift = read("drift.csv");
    assert_eq!(drift.lines().count(), 8, "{drift}");
    assert!(read("selftest.md").contains("| ramp of 50 % in 5 s"));
}

fn gate_pr(dir: &Path, base: &str, head: &str, out: &str) -> Command {
    let mut command = Command::new(path("scripts/gate-pr"));
    command
        .args([base, head])
        .current_dir(dir)
        .env("TRITBENCH", PROGRAM)
        .env("XDG_CACHE_HOME", dir.join("cache"))
        .env("GATE_SUITE", suite(dir))
        .env("GATE_BUDGET", "1s")
        .env("GATE_OUT", dir.join(out))
        .env("GATE_AB_FLAGS", "--allow-debug")
        .env_remove("GITHUB_STEP_SUMMARY")
        .env_remove("TRIT_ISA");
    command
}

#[test]
fn the_script_for_pull_requests_gates() {
    let dir = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args([
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@example.org",
                "-c",
                "init.defaultBranch=main",
            ])
            .args(arguments)
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    git(&["init", "-q"]);
    fs::write(dir.path().join("Cargo.toml"), "[package]\n").unwrap();
    git(&["add", "Cargo.toml"]);
    git(&["commit", "-q", "-m", "does not build"]);
    // A base that does not build, and one that does not exist.
    for base in ["main", "nowhere"] {
        let output = gate_pr(dir.path(), base, PROGRAM, "broken")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(5), "{base}: {}", stderr(&output));
        let summary = fs::read_to_string(dir.path().join("broken/gate.md")).unwrap();
        assert!(
            summary.starts_with("### Performance: not judged"),
            "{summary}"
        );
        fs::remove_dir_all(dir.path().join("broken")).unwrap();
    }
    // An unchanged program: whatever the machine is busy with, it does not regress.
    let summary = dir.path().join("summary.md");
    let output = gate_pr(dir.path(), PROGRAM, PROGRAM, "same")
        .env("GITHUB_STEP_SUMMARY", &summary)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        fs::read_to_string(&summary)
            .unwrap()
            .contains("### Performance")
    );
    for file in [
        "gate.xml",
        "gate.json",
        "gate.md",
        "measurements.csv",
        "session.json",
    ] {
        assert!(dir.path().join("same").join(file).exists(), "{file}");
    }
    let usage = Command::new(path("scripts/gate-pr")).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}
