//! Formats with a few numbers a cell: Bencher, github-action-benchmark, hyperfine, `JUnit`, `OpenMetrics`.

use std::fmt::Write as _;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde_json::{Map, Value, json};
use trit_core::{Results, Session, Status, SummaryRow};

use super::{ExchangeError, Record, cpu_model, mean};
use crate::labels;
use crate::markdown::ranked;

/// Names are cut at what Bencher takes.
const MOST_NAME: usize = 1024;

fn name(row: &SummaryRow) -> String {
    row.cell.cell.chars().take(MOST_NAME).collect()
}

/// The interval of a rate that is as much of the median's reciprocal.
fn rate_ends(results: &Results, rate: f64) -> Option<(f64, f64)> {
    let median = results.median_ns?;
    let (lo, hi) = results
        .lo_ns
        .zip(results.hi_ns)
        .filter(|(lo, _)| *lo > 0.0)?;
    Some((rate * median / hi, rate * median / lo))
}

/// `{benchmark: {measure: {value, lower_value?, upper_value?}}}`; latency in nanoseconds, throughput in tokens a second.
pub(super) fn bencher(record: &Record<'_>) -> Option<String> {
    let measure = |value: f64, ends: Option<(f64, f64)>| match ends {
        Some((lo, hi)) => json!({"value": value, "lower_value": lo, "upper_value": hi}),
        None => json!({ "value": value }),
    };
    let mut all = Map::new();
    for row in record.rows.iter().filter(|row| ranked(row)) {
        let results = &row.results;
        let mut of_cell = Map::new();
        let mut put = |slug: &str, value: Option<Value>| {
            of_cell.extend(value.map(|value| (slug.to_owned(), value)));
        };
        put(
            "latency",
            results
                .median_ns
                .map(|ns| measure(ns, results.lo_ns.zip(results.hi_ns))),
        );
        put(
            "throughput",
            results
                .tokens_per_s
                .map(|rate| measure(rate, rate_ends(results, rate))),
        );
        put("ttft", results.ttft_ns.map(|ns| measure(ns, None)));
        put(
            "peak-rss",
            results
                .peak_rss_bytes
                .map(|bytes| measure(bytes as f64, None)),
        );
        put(
            "energy-per-token",
            results.gross_j_per_token.map(|joules| {
                measure(
                    joules,
                    results
                        .gross_j_per_token_lo
                        .zip(results.gross_j_per_token_hi),
                )
            }),
        );
        all.insert(name(row), Value::Object(of_cell));
    }
    (!all.is_empty()).then(|| format!("{:#}\n", Value::Object(all)))
}

/// A list of `{name, unit, value, range?, extra?}`. A file has one direction, so there are two of them.
pub(super) fn github(record: &Record<'_>, bigger: bool) -> Option<String> {
    let mut all = Vec::new();
    for row in record.rows.iter().filter(|row| ranked(row)) {
        let results = &row.results;
        let mut put = |what: &str, unit: &str, value: Option<f64>, ends: Option<(f64, f64)>| {
            let Some(value) = value else { return };
            let mut entry = json!({
                "name": format!("{} {what}", name(row)).trim_end(),
                "unit": unit,
                "value": value,
                "extra": extra(record.session, row),
            });
            if let Some((lo, hi)) = ends {
                entry["range"] = json!(format!("{lo} to {hi}"));
            }
            all.push(entry);
        };
        if bigger {
            let rate = results.tokens_per_s;
            let ends = rate.and_then(|rate| rate_ends(results, rate));
            put("", "tokens/s", rate, ends);
        } else {
            put(
                "",
                "ns",
                results.median_ns,
                results.lo_ns.zip(results.hi_ns),
            );
            put("ttft", "ns", results.ttft_ns, None);
            let rss = results.peak_rss_bytes.map(|bytes| bytes as f64);
            put("peak RSS", "bytes", rss, None);
            put(
                "energy",
                "J/token",
                results.gross_j_per_token,
                results
                    .gross_j_per_token_lo
                    .zip(results.gross_j_per_token_hi),
            );
        }
    }
    (!all.is_empty()).then(|| format!("{:#}\n", Value::Array(all)))
}

fn extra(session: &Session, row: &SummaryRow) -> String {
    let mut parts = Vec::new();
    parts.extend(cpu_model(session).map(str::to_owned));
    parts.extend(row.cell.threads.map(labels::threads));
    parts.extend(row.results.n.map(|n| format!("{n} samples")));
    parts.join(", ")
}

/// `{results: [...]}` in seconds, a run a slice, divided by its calls.
pub(super) fn hyperfine(record: &Record<'_>) -> Option<String> {
    let mut all = Vec::new();
    for row in record.rows.iter().filter(|row| ranked(row)) {
        let slices = record.slices(&row.cell);
        let seconds: Vec<f64> = slices
            .iter()
            .map(|slice| slice.time_ns as f64 / slice.iterations as f64 / 1e9)
            .collect();
        let cpu = |ns: fn(&trit_core::Measurement) -> Option<u64>| -> Option<f64> {
            let times: Option<Vec<f64>> = slices
                .iter()
                .map(|slice| Some(ns(slice)? as f64 / slice.iterations as f64 / 1e9))
                .collect();
            mean(&times?)
        };
        let mut entry = json!({
            "command": name(row),
            "mean": mean(&seconds),
            "stddev": trit_stats::standard_deviation(&seconds),
            "median": trit_stats::median(&seconds),
            "user": cpu(|slice| slice.user_ns),
            "system": cpu(|slice| slice.system_ns),
            "min": seconds.iter().copied().reduce(f64::min),
            "max": seconds.iter().copied().reduce(f64::max),
            "times": seconds,
            "exit_codes": vec![0; slices.len()],
        });
        let memory: Option<Vec<u64>> = slices.iter().map(|slice| slice.peak_rss_bytes).collect();
        if let Some(memory) = memory {
            entry["memory_usage_byte"] = json!(memory);
        }
        all.push(entry);
    }
    (!all.is_empty()).then(|| format!("{:#}\n", json!({ "results": all })))
}

/// A test a cell: whether it was measured and right. Its time is the median of a call.
pub(super) fn junit(record: &Record<'_>) -> Result<String, ExchangeError> {
    let mut suite = TestSuite::new(format!("tritbench {}", record.session.suite).trim_end());
    for row in record.rows {
        let cell = &row.cell;
        let mut status = match cell.status {
            Status::Ok | Status::Projected => TestCaseStatus::success(),
            Status::Skipped | Status::OverLimit | Status::Emulated => TestCaseStatus::skipped(),
            Status::Wrong | Status::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
            Status::Crashed | Status::Timeout | Status::Invalid => {
                TestCaseStatus::non_success(NonSuccessKind::Error)
            }
        };
        if cell.status != Status::Ok {
            status.set_message(format!("{}: {}", cell.status, cell.reason));
        }
        if !matches!(
            cell.status,
            Status::Ok | Status::Projected | Status::Skipped | Status::OverLimit | Status::Emulated
        ) {
            status.set_type(cell.status.name());
        }
        let mut case = TestCase::new(cell.cell.clone(), status);
        case.set_classname(format!("tritbench.{}", cell.workload));
        if let Some(ns) = row.results.median_ns.filter(|ns| *ns > 0.0) {
            case.set_time(Duration::from_secs_f64((ns / 1e9).min(1e9)));
        }
        suite.add_test_case(case);
    }
    let mut all = Report::new("tritbench");
    all.add_test_suite(suite);
    all.to_string().map_err(|error| ExchangeError::Library {
        what: "JUnit XML",
        message: error.to_string(),
    })
}

/// A family of metrics: name, unit, what it is, and its value.
type Family = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Results) -> Option<f64>,
);

const FAMILIES: [Family; 9] = [
    (
        "tritbench_call_seconds",
        "seconds",
        "Median wall time of one call, request or token.",
        |r| r.median_ns.map(|ns| ns / 1e9),
    ),
    (
        "tritbench_call_low_seconds",
        "seconds",
        "Lower end of the 95 % interval of the median.",
        |r| r.lo_ns.map(|ns| ns / 1e9),
    ),
    (
        "tritbench_call_high_seconds",
        "seconds",
        "Upper end of the 95 % interval of the median.",
        |r| r.hi_ns.map(|ns| ns / 1e9),
    ),
    (
        "tritbench_tokens_per_second",
        "",
        "Tokens a second at the median.",
        |r| r.tokens_per_s,
    ),
    (
        "tritbench_first_token_seconds",
        "seconds",
        "Median time to the first token.",
        |r| r.ttft_ns.map(|ns| ns / 1e9),
    ),
    (
        "tritbench_bandwidth_share_ratio",
        "ratio",
        "Share of the bandwidth of the paired read probe.",
        |r| r.bandwidth_share,
    ),
    (
        "tritbench_peak_resident_bytes",
        "bytes",
        "Largest resident set of the worker.",
        |r| r.peak_rss_bytes.map(|bytes| bytes as f64),
    ),
    (
        "tritbench_token_joules",
        "joules",
        "Gross energy of one token.",
        |r| r.gross_j_per_token,
    ),
    ("tritbench_samples", "", "Samples that count.", |r| {
        r.n.map(|n| n as f64)
    }),
];

fn label(name: &str, value: &str) -> String {
    let value = value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

/// Gauges by cell, with what they are of as labels, and the session as an info metric.
pub(super) fn open_metrics(record: &Record<'_>) -> String {
    let session = record.session;
    let mut text = String::from(
        "# TYPE tritbench_session info\n# HELP tritbench_session What was run, where and when.\n",
    );
    let facts = [
        ("suite", session.suite.as_str()),
        ("version", &session.version),
        ("revision", session.git_revision.as_deref().unwrap_or("")),
        ("started", &session.started_utc),
        ("host", &session.host),
        ("cpu", cpu_model(session).unwrap_or("")),
    ];
    let facts: Vec<String> = facts
        .iter()
        .map(|(name, value)| label(name, value))
        .collect();
    let _infallible = writeln!(text, "tritbench_session_info{{{}}} 1", facts.join(","));
    for (name, unit, help, value) in FAMILIES {
        let samples: Vec<(String, f64)> = record
            .rows
            .iter()
            .filter(|row| row.cell.status == Status::Ok)
            .filter_map(|row| Some((labels_of(row), value(&row.results)?)))
            .collect();
        if samples.is_empty() {
            continue;
        }
        let _infallible = writeln!(text, "# TYPE {name} gauge");
        if !unit.is_empty() {
            let _infallible = writeln!(text, "# UNIT {name} {unit}");
        }
        let _infallible = writeln!(text, "# HELP {name} {help}");
        for (labels, value) in samples {
            let _infallible = writeln!(text, "{name}{{{labels}}} {value}");
        }
    }
    text.push_str("# EOF\n");
    text
}

fn labels_of(row: &SummaryRow) -> String {
    let cell = &row.cell;
    let threads = cell.threads.map_or_else(String::new, |n| n.to_string());
    let all = [
        ("cell", cell.cell.as_str()),
        ("kernel", labels::subject(cell)),
        ("workload", cell.workload.name()),
        ("model", &cell.model),
        ("threads", &threads),
    ];
    let shown: Vec<String> = all
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| label(name, value))
        .collect();
    shown.join(",")
}
