//! `tritbench report machines` over three sessions: this machine as it is, the same under a lower `TRIT_ISA`, and the fixture of another
//! machine (`tests/golden/machines`), which nobody measured.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::path::Path;

use common::{path, refused, run, stderr, stdout, tritbench};
use serde_json::Value;

/// Kernels that every machine has among others, at the shape of the fixture.
const SUITE: &str = r#"
[suite]
name = "machines"
description = "One shape, with the limits beside it"
seed = 5
budget = "6s"

[[micro]]
workloads = ["gemv-warm", "gemm"]
kernels = ["available"]
shapes = ["64x256"]
tokens = [4]
threads = [1]

[[pair]]
workload = "gemm"
subject = "w2a8-swar-scalar"
against = "probe:peak"
shapes = ["64x256"]
tokens = [4]
threads = [1]
"#;

/// A level that every machine can be capped to and that leaves something out on most.
const CAP: &str = if cfg!(target_arch = "x86_64") {
    "avx2"
} else {
    "scalar"
};

fn measured(dir: &Path, name: &str, cap: Option<&str>) -> String {
    let suite = dir.join("machines.toml");
    fs::write(&suite, SUITE).unwrap();
    let out = dir.join(name).display().to_string();
    let mut command = tritbench([
        "run",
        suite.to_str().unwrap(),
        "--allow-debug",
        "--out",
        &out,
    ]);
    if let Some(cap) = cap {
        command.env("TRIT_ISA", cap);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    out
}

fn report(arguments: &[&str]) -> String {
    let output = run([&["report", "machines"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output)
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "lacks `{part}`:\n{text}");
    }
}

#[test]
fn three_sessions_are_three_subjects() {
    let dir = tempfile::tempdir().unwrap();
    let full = measured(dir.path(), "full", None);
    let capped = measured(dir.path(), "capped", Some(CAP));
    let fixture = path("tests/golden/machines/aarch64-fixture")
        .display()
        .to_string();
    let three = [full.as_str(), &capped, &fixture];

    let rows: Value =
        serde_json::from_str(&report(&[&three[..], &["--format", "json"]].concat())).unwrap();
    let rows = rows.as_array().unwrap();
    let of = |machine: &str| -> Vec<&Value> {
        let here = rows.iter().filter(|row| row["machine"] == machine);
        here.collect()
    };
    let [a, b, c] = ["A", "B", "C"].map(of);
    assert!(rows.len() == a.len() + b.len() + c.len() && !c.is_empty());
    // One machine, two subjects; what the cap forbids is not there.
    assert_eq!(a[0]["fingerprint"], b[0]["fingerprint"]);
    assert_ne!(a[0]["fingerprint"], c[0]["fingerprint"]);
    assert!(a.iter().all(|row| row.get("isa_cap").is_none()));
    assert!(b.iter().all(|row| row["isa_cap"] == CAP));
    assert!(b.iter().all(|row| {
        let isa = row["isa"].as_str().unwrap();
        isa == "scalar" || isa == CAP
    }));
    // By its own probe: paired where the suite says so, else by the probe of the session.
    for subject in [&a, &b, &c] {
        let swar = subject
            .iter()
            .find(|row| row["subject"] == "w2a8-swar-scalar" && row["workload"] == "gemm")
            .unwrap();
        let share = swar["peak_share"].as_f64().unwrap();
        assert!(share > 0.0 && share <= 1.05, "{swar}");
        assert_eq!(swar["peak_basis"], "pair");
        let naive = subject
            .iter()
            .find(|row| row["subject"] == "w2a8-naive-scalar" && row["workload"] == "gemm")
            .unwrap();
        assert!(naive["gops"].as_f64().unwrap() > 0.0);
        assert_eq!(naive["peak_basis"], "separate probe", "{naive}");
    }
    // Every cell that A has too is held against it, and no other.
    for row in b.iter().chain(&c) {
        let known = a.iter().any(|other| {
            ["subject", "workload", "tokens", "threads"]
                .iter()
                .all(|key| other[key] == row[key])
        });
        assert_eq!(row.get("as_fast_as_first").is_some(), known, "{row}");
    }

    let text = report(&[&three[..], &["--format", "md"]].concat());
    has(
        &text,
        &[
            &format!(", TRIT_ISA={CAP}: `{capped}`"),
            "A and B are one machine (fingerprint ",
            &format!("`TRIT_ISA` is none in A and {CAP} in B"),
            "No mean ratio of C to A: `isa` is ",
            "`compiler` is rustc ",
            "and rustc 1.89.0 (fixture) in C",
            "warning: `governor` differs and is no key: ",
            "warning: `suite` differs and is no key: ",
            "further cell",
            "not paired: drift",
            "## The same kernel: gemm",
            "w2a8-dot-neon",
            "Fixture, not a machine",
        ],
    );
    assert!(!text.contains("## Means by instruction set"), "{text}");

    // The same rows give the same bytes; what is written is what is printed.
    let out = dir.path().join("out");
    let written = [
        &three[..],
        &["--format", "md", "--out", out.to_str().unwrap()],
    ]
    .concat();
    assert_eq!(report(&written), text);
    assert_eq!(fs::read_to_string(out.join("machines.md")).unwrap(), text);
    let svg = fs::read(out.join("charts/machines-gemm.svg")).unwrap();
    report(&written);
    assert!(svg == fs::read(out.join("charts/machines-gemm.svg")).unwrap());

    // A second session of the same machine is averaged with the first, and that is told.
    let again = dir.path().join("again").display().to_string();
    let copied = std::process::Command::new("cp")
        .args(["-r", &full, &again])
        .status()
        .unwrap();
    assert!(copied.success());
    let text = report(&[&full, &again, &capped, "--format", "md"]);
    has(&text, &["`run` is averaged away: it is "]);
    assert!(!text.contains("- **C**"), "{text}");

    // Rows alone are an unknown machine.
    let summary = format!("{capped}/summary.csv");
    let text = report(&[&full, &summary, "--format", "md"]);
    has(
        &text,
        &[
            "unknown machine (",
            "No mean ratio of B to A: ",
            " and unknown in B",
        ],
    );
    let table = report(&[&full, &fixture]);
    assert!(table.starts_with("workload "), "{table}");
    has(
        &table,
        &["\nB: Fixture, not a machine", "No mean ratio of B to A"],
    );

    // A run goes on under the same cap alone.
    refused(
        ["run", "--allow-debug", "--resume", &capped],
        5,
        &[&format!("TRIT_ISA={CAP}"), "hint:"],
    );
}

#[test]
fn imports_stand_beside_runs() {
    let dir = tempfile::tempdir().unwrap();
    let imported = dir.path().join("imported").display().to_string();
    let file = path("tests/golden/exchange/llama-bench.jsonl");
    let made = run([
        "import",
        file.to_str().unwrap(),
        "--as",
        "llama-bench",
        "--out",
        &imported,
    ]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    let fixture = path("tests/golden/machines/aarch64-fixture");
    let text = report(&[fixture.to_str().unwrap(), &imported, "--format", "md"]);
    has(&text, &["no cell is on two machines", "`compiler` is "]);
}

#[test]
fn what_cannot_be_read_or_compared_is_refused() {
    let fixture = path("tests/golden/machines/aarch64-fixture")
        .display()
        .to_string();
    refused(["report", "machines"], 2, &["SOURCE"]);
    refused(["report", "machines", &fixture], 2, &["2"]);
    refused(
        ["report", "machines", &fixture, &fixture],
        2,
        &["stands twice"],
    );
    refused(["report", "machines", &fixture, "no/such"], 1, &["no/such"]);
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store.sqlite").display().to_string();
    let added = run(["history", "add", &fixture, "--store", &store]);
    assert_eq!(added.status.code(), Some(0), "{}", stderr(&added));
    refused(
        [
            "report",
            "machines",
            &fixture,
            "machine:none",
            "--store",
            &store,
        ],
        2,
        &["machine `none`"],
    );
}
