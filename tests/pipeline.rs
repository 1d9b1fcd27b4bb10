//! The way of the data, from a suite to charts, on a tiny suite and the golden tiny model.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use common::{path, run, stderr, stdout};
use trit_core::{RunDir, Side, Status, SummaryRow, Workload, is_final};

const SUITE: &str = r#"
[suite]
name = "pipeline"
description = "Every station once"
seed = 11
budget = "8s"

[[micro]]
workloads = ["gemv-warm", "gemm"]
kernels = ["available", "dense"]
shapes = ["96x320"]
tokens = [5]
threads = [1]

[[micro]]
workloads = ["dispatch"]
threads = [2]

[[generate]]
workloads = ["prefill", "decode"]
models = ["synth:tiny"]
kernels = ["available"]
threads = [1]
prompt_tokens = 7
gen_tokens = 6

[[pair]]
workload = "gemv-warm"
subject = "w2a8-swar-scalar"
against = "w2a8-naive-scalar"
shapes = ["96x320"]
threads = [1]
"#;

fn available() -> BTreeSet<String> {
    let listed = stdout(&run(["kernels", "--format", "csv"]));
    let mut ids = BTreeSet::new();
    for line in listed.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        if fields[4] == "available" {
            ids.insert(fields[0].to_owned());
        }
    }
    ids
}

/// Two numbers that were computed in another order.
fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

fn derived_numbers_agree(row: &SummaryRow) {
    let (cell, results) = (&row.cell, &row.results);
    let id = &cell.cell;
    let median = results
        .median_ns
        .unwrap_or_else(|| panic!("{id} has no median"));
    assert!(median > 0.0, "{id}");
    if let (Some(lo), Some(hi)) = (results.lo_ns, results.hi_ns) {
        assert!(lo <= median && median <= hi, "{id}: {lo} {median} {hi}");
    }
    if results.n.unwrap() < 100 {
        assert_eq!(
            (results.p50_ns, results.p90_ns, results.p99_ns),
            (None, None, None),
            "{id}: too few samples for tails"
        );
    }
    if let (Some(rows), Some(k), Some(tokens), Some(gops)) =
        (cell.rows, cell.k, cell.tokens, results.gops)
    {
        assert!(
            close(gops, 2.0 * (rows * k * tokens) as f64 / median),
            "{id}: {gops} GOPS"
        );
    }
    if cell.workload == Workload::Prefill {
        let rate = results.tokens_per_s.unwrap();
        assert!(
            close(rate, 1e9 * cell.prompt_tokens.unwrap() as f64 / median),
            "{id}: {rate} tokens/s"
        );
    }
    for bytes in [results.peak_rss_bytes, results.rss_anon_bytes] {
        assert_ne!(bytes, Some(0), "{id}: what is missing is empty");
    }
    assert!(
        results.energy_pkg_uj.is_none() || results.energy_status == "ok",
        "{id}"
    );
}

#[test]
fn a_suite_becomes_rows_a_summary_charts_and_a_report() {
    let dir = tempfile::tempdir().unwrap();
    let suite = dir.path().join("pipeline.toml");
    fs::write(&suite, SUITE).unwrap();
    let out = dir.path().join("out");
    let output = run([
        "run",
        suite.to_str().unwrap(),
        "--allow-debug",
        "--out",
        out.to_str().unwrap(),
        "--model",
        path("tests/golden/bitnet-tiny/model-i2_s.gguf")
            .to_str()
            .unwrap(),
        "--format",
        "csv",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let run_dir = RunDir::open(&out).unwrap();

    let cells = run_dir.cells().unwrap();
    let kernels = available();
    let mut measured: BTreeMap<String, BTreeSet<Workload>> = BTreeMap::new();
    for cell in &cells {
        assert!(is_final(cell), "{} is not finished", cell.cell);
        assert_eq!(cell.status, Status::Ok, "{}: {}", cell.cell, cell.reason);
        measured
            .entry(cell.kernel.clone())
            .or_default()
            .insert(cell.workload);
    }
    for id in &kernels {
        let workloads = &measured[id];
        assert!(
            workloads.contains(&Workload::GemvWarm) && workloads.contains(&Workload::Gemm),
            "{id}"
        );
        if !id.contains("-dense-") {
            assert!(
                workloads.contains(&Workload::Prefill) && workloads.contains(&Workload::Decode),
                "{id}"
            );
        }
    }
    let models: Vec<_> = cells.iter().filter(|cell| !cell.model.is_empty()).collect();
    assert!(!models.is_empty());
    for cell in models {
        assert!(
            cell.model.ends_with("model-i2_s.gguf"),
            "{}: --model replaces the suite's",
            cell.cell
        );
        assert_eq!(cell.model_sha256.len(), 64, "{}", cell.cell);
    }

    let measurements = run_dir.measurements().unwrap();
    assert!(
        measurements
            .iter()
            .all(|row| row.time_ns > 0 && row.iterations > 0)
    );
    let sides: BTreeSet<Side> = measurements.iter().map(|row| row.side).collect();
    assert!(
        sides.contains(&Side::A) && sides.contains(&Side::B),
        "the pair has samples"
    );
    let tokens = run_dir.tokens().unwrap();
    assert!(
        tokens.iter().all(|row| row.index < 6),
        "6 tokens were asked for"
    );
    assert!(!tokens.is_empty());

    let summary = run_dir.summary().unwrap();
    assert_eq!(summary.len(), cells.len());
    summary.iter().for_each(derived_numbers_agree);
    let printed = stdout(&output);
    assert_eq!(
        printed,
        fs::read_to_string(out.join("summary.csv")).unwrap(),
        "what is printed is what is kept"
    );

    let session = run_dir.session().unwrap();
    assert_eq!(session.suite, "pipeline");
    assert_eq!(session.suite_text, SUITE);
    assert!(session.machine["cpu"]["isa"].is_array());
    assert!(session.argv.iter().any(|word| word == "--allow-debug"));

    let charts = charts_of(&out);
    assert!(charts.len() >= 2, "{charts:?}");
    let report = fs::read_to_string(out.join("report.md")).unwrap();
    for chart in &charts {
        let svg = fs::read_to_string(out.join("charts").join(format!("{chart}.svg"))).unwrap();
        assert!(
            svg.contains("<svg") && svg.trim_end().ends_with("</svg>"),
            "{chart}"
        );
        let png = fs::read(out.join("charts").join(format!("{chart}.png"))).unwrap();
        assert!(
            png.starts_with(b"\x89PNG\r\n\x1a\n") && png.len() > 1000,
            "{chart}"
        );
        assert!(
            report.contains(chart.as_str()),
            "report.md does not show {chart}"
        );
    }

    // The same rows give the same bytes.
    let before = fs::read(out.join("summary.csv")).unwrap();
    let again = run(["report", out.to_str().unwrap(), "--format", "csv"]);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    assert_eq!(fs::read(out.join("summary.csv")).unwrap(), before);
    assert_eq!(stdout(&again), printed);
    assert_eq!(fs::read_to_string(out.join("report.md")).unwrap(), report);
}

/// Names of the charts, each of which is there as SVG and as PNG.
fn charts_of(out: &std::path::Path) -> BTreeSet<String> {
    let mut by_ending: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in fs::read_dir(out.join("charts")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let (stem, ending) = name.rsplit_once('.').unwrap();
        by_ending
            .entry(ending.to_owned())
            .or_default()
            .insert(stem.to_owned());
    }
    assert_eq!(by_ending["svg"], by_ending["png"]);
    by_ending.remove("svg").unwrap()
}
