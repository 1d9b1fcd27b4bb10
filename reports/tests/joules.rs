//! The energy report: ratios of joules from pairs and from windows, Pareto, and what it says without a meter.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::session;
use serde_json::Value;
use trit_core::{Cell, PairQuantity, PairRow, Results, SummaryRow, Workload};
use trit_report::{Format, Record, energy_paper};

/// A GEMV that takes `ns` and `joules` a token, each give or take 1 %.
fn row(kernel: &str, threads: u64, ns: f64, joules: Option<f64>) -> SummaryRow {
    SummaryRow {
        cell: Cell {
            cell: format!("{kernel}/gemv-cold/2560x2560/t{threads}"),
            subject: kernel.to_owned(),
            kernel: kernel.to_owned(),
            workload: Workload::GemvCold,
            rows: Some(2560),
            k: Some(2560),
            threads: Some(threads),
            ..Cell::default()
        },
        results: Results {
            median_ns: Some(ns),
            lo_ns: Some(ns * 0.99),
            hi_ns: Some(ns * 1.01),
            energy_status: if joules.is_some() {
                "ok"
            } else {
                "window_too_short"
            }
            .to_owned(),
            energy_source: "powercap".to_owned(),
            energy_domain: "package".to_owned(),
            gross_j_per_token: joules,
            gross_j_per_token_lo: joules.map(|j| j * 0.99),
            gross_j_per_token_hi: joules.map(|j| j * 1.01),
            net_j_per_token: joules.map(|j| j * 0.6),
            gross_w: joules.map(|j| j * 1e9 / ns),
            edp_js: joules.map(|j| j * ns / 1e9),
            ..Results::default()
        },
    }
}

fn metered(rows: Vec<SummaryRow>) -> Record {
    let mut session = session();
    "ok".clone_into(&mut session.energy.status);
    "powercap".clone_into(&mut session.energy.source);
    Record {
        session,
        rows,
        ..Record::default()
    }
}

fn lines(record: &Record) -> Vec<Value> {
    serde_json::from_str(&energy_paper(record).render(Format::Json)).unwrap()
}

#[test]
fn joules_stand_beside_those_of_the_baselines() {
    let mut record = metered(vec![
        row("w2a8-mad-avx2", 1, 100.0, Some(1e-6)),
        row("w2a8-lut2-avx2", 1, 150.0, Some(1.5e-6)),
        row("w2a8-mad-avx2", 2, 60.0, Some(1.2e-6)),
        row("f16-dense-avx2", 1, 700.0, Some(8e-6)),
        row("q4-dense-avx2", 1, 250.0, Some(3e-6)),
        row("f32-dense-avx2", 1, 900.0, None),
    ]);
    let all = lines(&record);
    assert_eq!(all.len(), 6);
    let of = |all: &[Value], at: usize, name: &str| all[at].get(name).and_then(Value::as_f64);
    assert_eq!(of(&all, 0, "f16_joules_ratio"), Some(8e-6 / 1e-6));
    assert_eq!(of(&all, 0, "q4_joules_ratio"), Some(3e-6 / 1e-6));
    assert_eq!(of(&all, 0, "net_j_per_token"), Some(0.6e-6));
    // Nothing without joules, nothing on other threads, nothing against itself.
    assert_eq!(of(&all, 0, "f32_joules_ratio"), None);
    assert_eq!(of(&all, 2, "f16_joules_ratio"), None);
    assert_eq!(of(&all, 3, "f16_joules_ratio"), None);
    assert_eq!(all[5]["energy_status"], "window_too_short");
    assert_eq!(all[5].get("gross_j_per_token"), None);
    // The cheapest and the fastest are on the front, what is behind in both is not.
    let front: Vec<bool> = all[..5]
        .iter()
        .map(|l| l["pareto"].as_bool().unwrap())
        .collect();
    assert_eq!(front, [true, false, true, false, false]);
    // A pair says more than two windows: joules of side A, the baseline, over those of side B.
    record.pairs.push(PairRow {
        a: record.rows[3].cell.cell.clone(),
        b: record.rows[0].cell.cell.clone(),
        quantity: PairQuantity::Energy,
        ratio: Some(7.5),
        lo: Some(7.4),
        hi: Some(7.6),
        ..PairRow::default()
    });
    assert_eq!(of(&lines(&record), 0, "f16_joules_ratio"), Some(7.5));
    let text = energy_paper(&record).render(Format::Md);
    assert!(
        text.contains("f16 7.50x (7.40 to 7.60), pair; q4 3.00x"),
        "{text}"
    );
    let turned = PairRow {
        a: record.rows[0].cell.cell.clone(),
        b: record.rows[3].cell.cell.clone(),
        ratio: Some(0.125),
        lo: None,
        ..record.pairs[0].clone()
    };
    record.pairs = vec![turned];
    assert_eq!(of(&lines(&record), 0, "f16_joules_ratio"), Some(8.0));
}

#[test]
fn without_a_meter_it_says_why_and_claims_nothing() {
    let mut record = metered(vec![row("w2a8-mad-avx2", 1, 100.0, None)]);
    "vm_no_rapl".clone_into(&mut record.session.energy.status);
    "the hypervisor passes no meter on".clone_into(&mut record.session.energy.reason);
    "measure on the host".clone_into(&mut record.session.energy.remedy);
    "synth:700m".clone_into(&mut record.rows[0].cell.model);
    record.rows[0].results.model_uj = Some(4.2);
    let paper = energy_paper(&record);
    let text = paper.render(Format::Md);
    for part in [
        "## No joules",
        "Not measured: the hypervisor passes no meter on (`vm_no_rapl`)",
        "What helps: measure on the host.",
        "an estimate, no measurement",
        "4.20",
    ] {
        assert!(text.contains(part), "lacks {part}:\n{text}");
    }
    assert!(!text.contains("## Joules a token") && !text.contains("## Charts"));
    let table = paper.render(Format::Table);
    assert!(table.starts_with("Not measured:"), "{table}");
    assert_eq!(lines(&record)[0].get("gross_j_per_token"), None);
}

#[test]
fn the_same_rows_give_the_same_bytes_and_a_picture() {
    let record = metered(vec![
        row("w2a8-mad-avx2", 1, 100.0, Some(1e-6)),
        row("w2a8-mad-avx2", 2, 60.0, Some(1.2e-6)),
        row("f16-dense-avx2", 1, 700.0, Some(8e-6)),
    ]);
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("energy");
    let written = || {
        let paths = energy_paper(&record).write(&directory).unwrap();
        let files: Vec<Vec<u8>> = paths.iter().map(|p| std::fs::read(p).unwrap()).collect();
        files
    };
    let first = written();
    assert_eq!(first.len(), 4, "Markdown, CSV, bars, Pareto");
    assert_eq!(first, written());
}
