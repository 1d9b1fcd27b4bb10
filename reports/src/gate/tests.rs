use super::*;
use trit_core::{Build, PlannedCell};
use trit_stats::Rng;

const CELLS: [&str; 3] = [
    "k/gemv-warm/64x64/t1",
    "k/gemm/64x64/m8/t1",
    "engine:k/decode/synth:125m/p4/g4/t1",
];

/// A record of 16 pairs of processes and a confirmation, with a change in percent of each cell.
fn record(changes: [f64; 3]) -> (Session, Vec<Cell>, Vec<PairedBlock>) {
    let mut rng = Rng::new(5);
    let mut blocks = Vec::new();
    for (cell, change) in CELLS.iter().zip(changes).chain([(&"control/t1", 0.0)]) {
        for (round, processes) in [(0, 16), (1, 8)] {
            for process in 0..processes {
                let place = 0.005 * rng.normal();
                for block in 0..10 {
                    let mut time = |log: f64| 2e6 * (log + 0.01 * rng.normal()).exp();
                    let head = (change / 100.0f64).ln_1p() + place;
                    blocks.push(PairedBlock {
                        cell: (*cell).to_owned(),
                        round,
                        process,
                        block,
                        base_ns: [time(0.0), time(0.0)],
                        head_ns: [time(head), time(head)],
                        discard: None,
                    });
                }
            }
        }
    }
    let rows: Vec<Cell> = CELLS
        .iter()
        .map(|cell| Cell {
            cell: (*cell).to_owned(),
            workload: if cell.contains("decode") {
                Workload::Decode
            } else {
                Workload::Gemm
            },
            ..Cell::default()
        })
        .collect();
    let build = |label: &str| Build {
        label: label.to_owned(),
        revision: String::new(),
        sha256: format!("{label:x<64}"),
        version: "0.1.0".to_owned(),
    };
    let session = Session {
        comparison: Some(Comparison {
            builds: [build("main"), build("change")],
            control: "control/t1".to_owned(),
            looks: vec![(4, 0.2), (8, 0.3), (16, 0.5)],
            ..Comparison::default()
        }),
        plan: trit_core::Plan {
            cells: rows
                .iter()
                .map(|cell| PlannedCell {
                    cell: cell.clone(),
                    ..PlannedCell::default()
                })
                .collect(),
            ..trit_core::Plan::default()
        },
        ..Session::default()
    };
    (session, rows, blocks)
}

fn gate(changes: [f64; 3], limits: &Limits) -> GateReport {
    let (session, rows, blocks) = record(changes);
    let comparison = session.comparison.clone().unwrap();
    gate_rows(&session, &comparison, &rows, &blocks, limits)
}

#[test]
fn a_slowdown_fails_the_gate_and_everything_says_so() {
    let report = gate([0.0, 10.0, 0.0], &Limits::default());
    let verdicts: Vec<&str> = report
        .cells
        .iter()
        .map(|cell| cell.verdict.name())
        .collect();
    assert_eq!(verdicts, ["passed", "regressed", "passed"]);
    assert_eq!(report.end(false), GateEnd::Regression);
    let slow = &report.cells[1];
    assert!((slow.change_percent.unwrap() - 10.0).abs() < 1.0);
    assert!((slow.confirmed_percent.unwrap() - 10.0).abs() < 1.0);
    assert!(slow.detectable_percent.unwrap() < 5.0);
    let table = gate_table(&report);
    assert!(
        table.contains("regressed") && table.contains("minimum effect 2 %, allowed slowdown 5 %"),
        "{table}"
    );
    let markdown = gate_markdown(&report);
    assert!(
        markdown.starts_with(
            "### Performance: look at this\n\n`change (changexxxxxx)` against `main (mainxxxxxxxx)`"
        ),
        "{markdown}"
    );
    assert!(
        markdown.contains("| k/gemm/64x64/m8/t1 | regressed | +"),
        "{markdown}"
    );
    let junit = gate_junit(&report);
    assert!(
        junit.contains("tests=\"4\" failures=\"1\" errors=\"0\"")
            || junit.contains("failures=\"1\""),
        "{junit}"
    );
    assert!(
        junit.contains("<failure") && junit.contains("type=\"regressed\""),
        "{junit}"
    );
    let json: serde_json::Value = serde_json::from_str(&gate_json(&report)).unwrap();
    assert_eq!(json["cells"][1]["verdict"], "regressed");
    let csv = gate_csv(&report);
    assert_eq!(csv.lines().count(), 5, "{csv}");
}

#[test]
fn an_unchanged_build_passes_and_an_improvement_is_told() {
    let report = gate([0.0, 0.0, -8.0], &Limits::default());
    assert_eq!(report.end(true), GateEnd::Pass);
    assert_eq!(report.cells[2].verdict, Verdict::Improved);
    assert!(gate_markdown(&report).starts_with("### Performance\n"));
    assert!(!gate_junit(&report).contains("<failure"));
}

#[test]
fn budgets_of_the_head_are_limits() {
    let limits = Limits::parse("l.toml", "[limits]\nmax_latency_ms = 1000\n[[limits.cell]]\nmatch = \"decode/*\"\nmin_tokens_per_s = 600\nmax_rss_mb = 10\n[[limits.cell]]\nmatch = \"nothing\"\nmax_rss_mb = 10\n").unwrap();
    let report = gate([0.0; 3], &limits);
    // 2 ms a token are 500 tokens/s.
    assert_eq!(report.violations.len(), 1, "{:?}", report.violations);
    assert!(report.violations[0].message.contains("min_tokens_per_s"));
    assert_eq!(report.end(false), GateEnd::Regression);
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("max_rss_mb is not judged"))
    );
    assert!(report.notes.iter().any(|note| note.contains("`nothing`")));
}

#[test]
fn a_cell_that_went_wrong_is_invalid_and_one_that_a_build_lacks_is_told() {
    let (session, mut rows, mut blocks) = record([0.0; 3]);
    blocks.retain(|block| block.cell != CELLS[0] && block.cell != CELLS[1]);
    rows[0].status = Status::Skipped;
    rows[0].reason = "base: unknown kernel".to_owned();
    let comparison = session.comparison.clone().unwrap();
    let report = gate_rows(&session, &comparison, &rows, &blocks, &Limits::default());
    // The second row says ok and has no block: something is missing.
    assert_eq!(report.end(false), GateEnd::Invalid);
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("base: unknown kernel"))
    );
    rows[1].status = Status::Wrong;
    let report = gate_rows(&session, &comparison, &rows, &blocks, &Limits::default());
    assert_eq!(report.end(false), GateEnd::Invalid);
    assert!(gate_junit(&report).contains("<error"));
    // Nothing at all is no pass.
    let report = gate_rows(&session, &comparison, &[], &[], &Limits::default());
    assert_eq!(report.end(false), GateEnd::Invalid);
}

#[test]
fn a_comparison_that_was_stopped_early_is_inconclusive() {
    let (session, rows, mut blocks) = record([20.0, 0.0, 0.0]);
    blocks.retain(|block| block.round == 0 && block.process < 3);
    let comparison = session.comparison.clone().unwrap();
    let report = gate_rows(&session, &comparison, &rows, &blocks, &Limits::default());
    assert!(
        report
            .cells
            .iter()
            .all(|cell| cell.verdict == Verdict::Inconclusive)
    );
    assert_eq!(report.end(false), GateEnd::Pass);
    assert_eq!(report.end(true), GateEnd::Inconclusive);
}

fn summary(cell: &str, median_ns: f64) -> SummaryRow {
    let mut row = SummaryRow {
        cell: Cell {
            cell: cell.to_owned(),
            subject: cell.to_owned(),
            ..Cell::default()
        },
        ..SummaryRow::default()
    };
    row.results.n = Some(50);
    row.results.median_ns = Some(median_ns);
    row.results.lo_ns = Some(median_ns * 0.99);
    row.results.hi_ns = Some(median_ns * 1.01);
    row
}

#[test]
fn two_runs_decide_little_and_say_so() {
    let paths = (std::path::Path::new("a"), std::path::Path::new("b"));
    let judged = |factor: f64| {
        let (base, head) = ([summary("c", 1000.0)], [summary("c", 1000.0 * factor)]);
        gate_unpaired((paths.0, &base), (paths.1, &head), &Limits::default()).unwrap()
    };
    for (factor, verdict) in [
        (1.0, Verdict::Passed),
        (1.1, Verdict::Inconclusive),
        (1.25, Verdict::Inconclusive),
        (1.6, Verdict::Regressed),
        (0.9, Verdict::Inconclusive),
        (0.5, Verdict::Improved),
    ] {
        let report = judged(factor);
        assert_eq!(report.cells[0].verdict, verdict, "{factor}");
        assert!(!report.paired && report.notes.iter().any(|note| note.contains("not paired")));
    }
    // A cell that the candidate lost cannot be judged; nothing in common is an error.
    let base = [summary("c", 1.0), summary("d", 1.0)];
    let report =
        gate_unpaired((paths.0, &base), (paths.1, &base[..1]), &Limits::default()).unwrap();
    assert_eq!(report.end(false), GateEnd::Invalid);
    gate_unpaired(
        (paths.0, &base[..1]),
        (paths.1, &base[1..]),
        &Limits::default(),
    )
    .unwrap_err();
}

#[test]
fn memory_and_cpu_time_of_the_head_have_budgets() {
    let (mut session, rows, blocks) = record([0.0; 3]);
    session.machine = serde_json::json!({"limits": {"default_threads": 2}});
    let mut comparison = session.comparison.clone().unwrap();
    let taken = |peak_rss_bytes, cpu_ns| trit_core::Taken {
        peak_rss_bytes: Some(peak_rss_bytes),
        cpu_ns: Some(cpu_ns),
        wall_ns: Some(1_000),
    };
    // The base is over both budgets too, and nobody's business; the second cell was looked at and keeps them.
    let sides = [taken(800_000_000, 2_000), taken(900_000_000, 1_900)];
    comparison.taken.insert(CELLS[2].to_owned(), sides);
    let kept = [taken(1_000_000, 1_000), taken(1_000_000, 1_000)];
    comparison.taken.insert(CELLS[1].to_owned(), kept);
    let text = "[limits]\nmax_rss_mb = 500\nmax_cpu_percent = 80\n";
    let limits = Limits::parse("limits.toml", text).unwrap();
    let report = gate_rows(&session, &comparison, &rows, &blocks, &limits);
    let messages: Vec<&str> = report
        .violations
        .iter()
        .map(|violation| violation.message.as_str())
        .collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].contains("900 MB is above the limit of 500 MB"));
    assert!(messages[1].contains("CPU use 95 % is above the limit of 80 %"));
    assert_eq!(report.end(false), GateEnd::Regression);
    // What was not looked at is told, and not judged.
    let untold = report
        .notes
        .iter()
        .filter(|note| note.contains("was not measured"));
    assert_eq!(untold.filter(|note| note.starts_with(CELLS[0])).count(), 2);
    let csv = gate_csv(&report);
    assert!(csv.contains(",800000000,900000000,100,95\n"), "{csv}");
    // A record of before: no budget can be judged.
    session.machine = serde_json::Value::Null;
    let report = gate_rows(&session, &Comparison::default(), &rows, &blocks, &limits);
    assert!(report.violations.is_empty());
}
