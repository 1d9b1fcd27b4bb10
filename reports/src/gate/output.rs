//! What a gate says, for terminals, pull requests, test viewers and programs.

use std::fmt::Write as _;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use trit_stats::judge::Verdict;

use super::{GateCell, GateReport};
use crate::document::table;
use crate::table::plain_table;
use crate::units::show_ns;

/// A change with its sign.
fn signed(percent: f64) -> String {
    if percent.abs() >= 100.0 {
        format!("{percent:+.0} %")
    } else {
        format!("{percent:+.2} %")
    }
}

fn change(cell: &GateCell) -> String {
    cell.change_percent.map_or_else(String::new, signed)
}

fn interval(cell: &GateCell) -> String {
    cell.lo_percent
        .zip(cell.hi_percent)
        .map_or_else(String::new, |(lo, hi)| {
            format!("{} to {}", signed(lo), signed(hi))
        })
}

fn blocks(cell: &GateCell) -> String {
    if cell.discarded == 0 {
        cell.blocks.to_string()
    } else {
        format!("{} (-{})", cell.blocks, cell.discarded)
    }
}

fn detectable(cell: &GateCell) -> String {
    cell.detectable_percent
        .map_or_else(String::new, |percent| format!("{percent:.2} %"))
}

const HEADER: [&str; 8] = [
    "cell",
    "verdict",
    "change:",
    "99 % interval:",
    "detectable:",
    "processes:",
    "blocks:",
    "base:",
];

fn row(cell: &GateCell) -> Vec<String> {
    vec![
        cell.cell.clone(),
        cell.verdict.name().to_owned(),
        change(cell),
        interval(cell),
        detectable(cell),
        cell.processes.to_string(),
        blocks(cell),
        cell.base_ns.map_or_else(String::new, show_ns),
    ]
}

/// The limits that hold for most cells, as one sentence.
fn limits(report: &GateReport) -> String {
    let mut all: Vec<String> = report
        .judged()
        .map(|cell| {
            format!(
                "minimum effect {} %, allowed slowdown {} %",
                cell.min_effect_percent, cell.allowed_percent
            )
        })
        .collect();
    all.sort();
    all.dedup();
    all.join("; ")
}

/// How many cells of which verdict.
fn summary(report: &GateReport) -> String {
    let counts: Vec<String> = Verdict::ALL
        .iter()
        .filter_map(|verdict| {
            let of_verdict = |cell: &&GateCell| cell.verdict == *verdict;
            let count = report.cells.iter().filter(of_verdict).count();
            (count > 0).then(|| format!("{count} {}", verdict.name()))
        })
        .collect();
    if counts.is_empty() {
        "no cell was measured".to_owned()
    } else {
        counts.join(", ")
    }
}

/// The explanations of whatever is not simply fine.
fn remarks(report: &GateReport) -> Vec<String> {
    let mut lines: Vec<String> = report
        .judged()
        .filter(|cell| cell.verdict != Verdict::Passed)
        .map(|cell| {
            let confirmed = cell.confirmed_percent.map_or_else(String::new, |percent| {
                format!(" (confirmation: {})", signed(percent))
            });
            format!(
                "{}: {}: {}{confirmed}",
                cell.cell,
                cell.verdict.name(),
                cell.why
            )
        })
        .collect();
    lines.extend(
        report
            .violations
            .iter()
            .map(|violation| format!("limit exceeded: {}", violation.message)),
    );
    lines.extend(report.notes.iter().cloned());
    lines
}

/// For a terminal: a line a cell, then what there is to say.
pub fn gate_table(report: &GateReport) -> String {
    let rows: Vec<Vec<String>> = report.judged().map(row).collect();
    let mut text = plain_table(&HEADER, &rows);
    let _ = writeln!(text, "\n{}; {}", summary(report), limits(report));
    for remark in remarks(report) {
        let _ = writeln!(text, "- {remark}");
    }
    text
}

/// For a comment on a pull request, or the summary of a job.
pub fn gate_markdown(report: &GateReport) -> String {
    let bad = report
        .cells
        .iter()
        .chain(&report.mean)
        .any(|cell| matches!(cell.verdict, Verdict::Regressed | Verdict::Invalid))
        || !report.violations.is_empty();
    let title = if bad {
        "Performance: look at this"
    } else {
        "Performance"
    };
    let rows: Vec<Vec<String>> = report.judged().map(row).collect();
    let mut text = format!(
        "### {title}\n\n`{}` against `{}`{}: {}. {}.\n\n{}",
        report.head,
        report.base,
        if report.paired { "" } else { " (not paired)" },
        summary(report),
        sentence_case(&limits(report)),
        table(&HEADER, &rows)
    );
    let remarks = remarks(report);
    if !remarks.is_empty() {
        text.push('\n');
        for remark in remarks {
            let _ = writeln!(text, "- {}", remark.replace(['\n', '\r'], " "));
        }
    }
    text
}

fn sentence_case(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

/// A line a cell, numbers without units.
pub fn gate_csv(report: &GateReport) -> String {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let whole = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Both cannot fail: it is written into memory, and every record has the fields of the header.
    let _ = writer.write_record([
        "cell",
        "verdict",
        "why",
        "change_percent",
        "lo_percent",
        "hi_percent",
        "confirmed_percent",
        "p",
        "detectable_percent",
        "processes",
        "blocks",
        "discarded",
        "base_ns",
        "head_ns",
        "base_rss_bytes",
        "head_rss_bytes",
        "base_cpu_percent",
        "head_cpu_percent",
    ]);
    for cell in report.judged() {
        let _ = writer.write_record([
            cell.cell.clone(),
            cell.verdict.name().to_owned(),
            cell.why.clone(),
            number(cell.change_percent),
            number(cell.lo_percent),
            number(cell.hi_percent),
            number(cell.confirmed_percent),
            number(cell.p),
            number(cell.detectable_percent),
            cell.processes.to_string(),
            cell.blocks.to_string(),
            cell.discarded.to_string(),
            number(cell.base_ns),
            number(cell.head_ns),
            whole(cell.base_rss_bytes),
            whole(cell.head_rss_bytes),
            number(cell.base_cpu_percent),
            number(cell.head_cpu_percent),
        ]);
    }
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// For programs.
pub fn gate_json(report: &GateReport) -> String {
    // Cannot fail: plain values under text keys; a number that is none becomes null.
    let mut text = serde_json::to_string_pretty(report).unwrap_or_default();
    text.push('\n');
    text
}

/// For viewers of test results: a test a cell. Inconclusive cells are skipped tests, invalid ones errors.
pub fn gate_junit(report: &GateReport) -> String {
    let mut suite = TestSuite::new("tritbench gate");
    for cell in report.judged() {
        let mut status = match cell.verdict {
            Verdict::Passed | Verdict::Improved => TestCaseStatus::success(),
            Verdict::Regressed => TestCaseStatus::non_success(NonSuccessKind::Failure),
            Verdict::Invalid => TestCaseStatus::non_success(NonSuccessKind::Error),
            Verdict::Inconclusive => TestCaseStatus::skipped(),
        };
        let text = format!("{} [{}]: {}", change(cell), interval(cell), cell.why);
        status.set_message(text.trim_start_matches(" []: ").to_owned());
        if matches!(cell.verdict, Verdict::Regressed | Verdict::Invalid) {
            status.set_type(cell.verdict.name());
        }
        let mut case = TestCase::new(cell.cell.clone(), status);
        case.set_classname("tritbench.gate");
        suite.add_test_case(case);
    }
    for violation in &report.violations {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status.set_message(violation.message.clone());
        status.set_type("limit");
        let mut case = TestCase::new(format!("{} limits", violation.cell), status);
        case.set_classname("tritbench.limits");
        suite.add_test_case(case);
    }
    let mut all = Report::new("tritbench gate");
    all.add_test_suite(suite);
    // Fails only where memory does: it is written into a string.
    all.to_string().unwrap_or_default()
}
