//! Suites for small machines: what takes more memory than it may is ended, what needs more threads is not run.

mod common;

use std::ffi::OsStr;
use std::fs;

use common::{refused, run, stderr};
use trit_core::{Cell, Measurement, RunDir, Status};

const SUITE: &str = r#"
[suite]
name = "small"
budget = "4s"

[run]
max_rss_mb = 40

[[generate]]
workloads = ["decode"]
models = ["synth:tiny", "synth:125m"]
kernels = ["w2a8-swar-scalar"]
threads = ["all:1", 4000]
prompt_tokens = 4
gen_tokens = 4

[[program]]
name = "greedy"
workload = "decode"
command = ["sh", "-c", "x=$(head -c 90000000 /dev/zero | tr '\\0' x); i=0; while [ $i -lt 20000000 ]; do i=$((i+1)); done; echo 1,4"]
output = "nanos-tokens"
models = ["tests/golden/bitnet-tiny/model-i2_s.gguf"]
threads = [1]
gen_tokens = 4
"#;

#[test]
fn limits_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("small.toml");
    fs::write(&file, SUITE).unwrap();
    let out = dir.path().join("out");
    let arguments = [
        OsStr::new("run"),
        OsStr::new("--allow-debug"),
        file.as_ref(),
    ];
    let done = run(arguments
        .into_iter()
        .chain([OsStr::new("--out"), out.as_ref()]));
    let record = RunDir::open(&out).unwrap();
    let cells: Vec<Cell> = record.read().unwrap();
    let last = |model: &str, subject: &str, threads: u64| {
        let mut rows = cells.iter().filter(|row| {
            row.model == model && row.subject.starts_with(subject) && row.threads == Some(threads)
        });
        let row = rows
            .next_back()
            .unwrap_or_else(|| panic!("{model} {subject}: {}", stderr(&done)));
        (row.status, row.reason.clone())
    };
    assert_eq!(
        last("synth:tiny", "engine:", 1).0,
        Status::Ok,
        "{}",
        stderr(&done)
    );
    let (large, why) = last("synth:125m", "engine:", 1);
    assert_eq!(large, Status::OverLimit, "{why}");
    assert!(why.contains("40 MB are allowed"), "{why}");
    let (program, why) = last("tests/golden/bitnet-tiny/model-i2_s.gguf", "program:", 1);
    assert_eq!(program, Status::OverLimit, "{why}");
    assert!(why.contains("40 MB are allowed"), "{why}");
    let (threads, why) = last("synth:tiny", "engine:", 4000);
    assert_eq!(threads, Status::Skipped, "{why}");
    assert!(why.contains("4000 threads"), "{why}");
    // What was ended has no time.
    let rows: Vec<Measurement> = record.read().unwrap();
    assert!(
        rows.iter().all(|row| row.cell.contains("synth:tiny")),
        "{rows:?}"
    );
    assert!(!rows.is_empty());
}

#[test]
fn limits_that_are_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("small.toml");
    fs::write(&file, SUITE.replace("max_rss_mb = 40", "max_rss_mb = 0")).unwrap();
    refused(
        [
            OsStr::new("run"),
            OsStr::new("--allow-debug"),
            file.as_ref(),
        ],
        5,
        &["run.max_rss_mb"],
    );
    fs::write(&file, SUITE.replace("all:1", "all:0")).unwrap();
    refused(
        [
            OsStr::new("run"),
            OsStr::new("--allow-debug"),
            file.as_ref(),
        ],
        5,
        &["4 at most"],
    );
}
