//! Results in the formats of other tools, against files that those tools wrote.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use common::{KERNELS, session, session_rows};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;
use trit_core::{Cell, Limits, Measurement, RunDir, Status, SummaryRow, Workload};
use trit_report::{
    ExportFormat, ImportFacts, ImportFormat, Question, Source, contrast, export, gate_unpaired,
    import, read_summaries, summarize,
};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden/exchange")
        .join(name)
}

fn golden_text(name: &str) -> String {
    fs::read_to_string(golden(name)).unwrap()
}

/// A run with kernels, models, and cells that went wrong.
fn made(dir: &Path) -> RunDir {
    let run = RunDir::create(&dir.join("run")).unwrap();
    let rows = session_rows(&KERNELS[..3], &[1, 2], 4);
    run.write_session(&session()).unwrap();
    run.write(&rows.cells).unwrap();
    run.write(&rows.measurements).unwrap();
    run.write(&rows.tokens).unwrap();
    run
}

fn text(run: &RunDir, format: ExportFormat) -> String {
    String::from_utf8(export(run, format).unwrap()).unwrap()
}

fn facts() -> ImportFacts {
    ImportFacts {
        argv: vec!["tritbench".into(), "import".into()],
        sha256: "ab".repeat(32),
        written_utc: "2026-01-02T03:04:05Z".into(),
    }
}

fn imported(dir: &Path, name: &str, file: &Path, format: ImportFormat) -> RunDir {
    let out = RunDir::create(&dir.join(name)).unwrap();
    import(file, format, &facts(), &out).unwrap();
    out
}

/// The keys of an object, in order.
fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

/// A word for the kind of a value; what may be missing is either.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "truth",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// The names of the fields of a line of JSON, in its order.
fn order(line: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(line).unwrap();
    let mut names: Vec<(usize, String)> = keys(&value)
        .into_iter()
        .map(|name| (line.find(&format!("\"{name}\":")).unwrap(), name))
        .collect();
    names.sort();
    names.into_iter().map(|(_, name)| name).collect()
}

#[test]
fn llama_bench_has_the_fields_of_the_original_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let run = made(dir.path());
    let ours = text(&run, ExportFormat::LlamaJsonl);
    let theirs = golden_text("llama-bench.jsonl");
    let (our_line, their_line) = (ours.lines().next().unwrap(), theirs.lines().next().unwrap());
    assert_eq!(order(our_line), order(their_line));
    let (our, their): (Value, Value) = (
        serde_json::from_str(our_line).unwrap(),
        serde_json::from_str(their_line).unwrap(),
    );
    for name in keys(&their) {
        let kinds = (kind(&our[&name]), kind(&their[&name]));
        assert!(kinds.0 == kinds.1 || kinds.0 == "null", "{name}: {kinds:?}");
    }
    let (csv, their_csv) = (
        text(&run, ExportFormat::LlamaCsv),
        golden_text("llama-bench.csv"),
    );
    assert_eq!(csv.lines().next(), their_csv.lines().next());
    assert!(
        csv.lines()
            .skip(1)
            .all(|line| line.starts_with('"') && line.ends_with('"'))
    );
    let (sql, their_sql) = (
        text(&run, ExportFormat::LlamaSql),
        golden_text("llama-bench.sql"),
    );
    let table = |text: &str| text.split(");").next().unwrap().to_owned();
    assert_eq!(table(&sql), table(&their_sql), "the same table");

    // What the numbers are: a prompt of 64 tokens, and sixteen tokens after it.
    assert_eq!(our["n_prompt"], 64);
    let tests: Vec<Value> = ours
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let decode = tests.iter().find(|test| test["n_gen"] == 16).unwrap();
    assert_eq!(
        (&decode["n_prompt"], &decode["n_depth"]),
        (&0.into(), &64.into())
    );
    let samples: Vec<f64> = decode["samples_ns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ns| ns.as_f64().unwrap())
        .collect();
    assert_eq!(samples.len(), 8);
    let mean = samples.iter().sum::<f64>() / 8.0;
    assert!((decode["avg_ns"].as_f64().unwrap() - mean).abs() <= 1.0);
    let rate = samples.iter().map(|ns| 16e9 / ns).sum::<f64>() / 8.0;
    assert!((decode["avg_ts"].as_f64().unwrap() / rate - 1.0).abs() < 1e-12);
}

#[test]
fn sql_is_taken_by_sqlite_with_a_quote_in_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let run = made(dir.path());
    let mut cells = run.cells().unwrap();
    for cell in cells.iter_mut().filter(|cell| cell.model == "synth:125m") {
        cell.model = "/models/it's.gguf".into();
    }
    run.write(&cells).unwrap();
    let db = rusqlite::Connection::open_in_memory().unwrap();
    db.execute_batch(&text(&run, ExportFormat::LlamaSql))
        .unwrap();
    let tests: i64 = db
        .query_row("SELECT count(*) FROM llama_bench WHERE model_filename = '/models/it''s.gguf' AND build_number IS NULL AND avg_ts > 0", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tests, 12);
    // The original's own file makes the same table.
    db.execute_batch(&golden_text("llama-bench.sql")).unwrap();
}

#[test]
fn a_file_of_llama_bench_is_read_and_written_back() {
    let dir = tempfile::tempdir().unwrap();
    let run = imported(
        dir.path(),
        "a",
        &golden("llama-bench.jsonl"),
        ImportFormat::Llama,
    );
    let session = run.session().unwrap();
    assert_eq!(session.suite, "llama-bench");
    assert!(session.git_revision.is_some() && session.started_utc.starts_with("2026-"));
    assert!(session.plan.notes[0].contains("not checked"));
    let rows = summarize(&run).unwrap();
    assert_eq!(rows.len(), 4);
    let theirs: Vec<Value> = golden_text("llama-bench.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (row, test) in rows.iter().zip(&theirs) {
        assert_eq!(row.cell.threads, test["n_threads"].as_u64());
        let decode = test["n_gen"].as_u64().unwrap() > 0;
        assert_eq!(
            row.cell.workload,
            if decode {
                Workload::Decode
            } else {
                Workload::Prefill
            }
        );
        // The median of three.
        let mut samples: Vec<u64> = test["samples_ns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|ns| ns.as_u64().unwrap())
            .collect();
        samples.sort_unstable();
        let tokens = test["n_gen"].as_u64().unwrap() + test["n_prompt"].as_u64().unwrap();
        let rate = tokens as f64 * 1e9 / samples[1] as f64;
        assert!((row.results.tokens_per_s.unwrap() / rate - 1.0).abs() < 1e-12);
    }
    // Written back: what a run directory has a place for is the same.
    for (line, test) in text(&run, ExportFormat::LlamaJsonl).lines().zip(&theirs) {
        let back: Value = serde_json::from_str(line).unwrap();
        for name in [
            "build_commit",
            "cpu_info",
            "backends",
            "model_filename",
            "n_ubatch",
            "n_threads",
            "type_k",
            "n_prompt",
            "n_gen",
            "n_depth",
            "samples_ns",
        ] {
            assert_eq!(back[name], test[name], "{name}");
        }
        let (ours, original) = (
            back["avg_ns"].as_f64().unwrap(),
            test["avg_ns"].as_f64().unwrap(),
        );
        assert!((ours - original).abs() <= 1.0, "{ours} {original}");
        let (ours, original) = (
            back["stddev_ns"].as_f64().unwrap(),
            test["stddev_ns"].as_f64().unwrap(),
        );
        // The original computes it in whole numbers, from a mean that it cut off.
        assert!((ours / original - 1.0).abs() < 0.02, "{ours} {original}");
    }
}

#[test]
fn options_that_vary_tell_tests_apart() {
    let dir = tempfile::tempdir().unwrap();
    let line = golden_text("llama-bench.jsonl")
        .lines()
        .next()
        .unwrap()
        .to_owned();
    let file = dir.path().join("two.json");
    let other = line
        .replace("\"poll\": 50", "\"poll\": 0")
        .replace("\"n_batch\": 2048", "\"n_batch\": 64");
    assert_ne!(line, other);
    fs::write(&file, format!("[{line},{other}]")).unwrap();
    let run = imported(dir.path(), "out", &file, ImportFormat::Llama);
    let subjects: Vec<String> = run
        .cells()
        .unwrap()
        .into_iter()
        .map(|cell| cell.subject)
        .collect();
    assert_eq!(
        subjects,
        [
            "program:llama-bench n_batch=2048 poll=50",
            "program:llama-bench n_batch=64 poll=0"
        ]
    );
}

#[test]
fn what_was_imported_is_exported_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let run = made(dir.path());
    for (export_format, import_format) in [
        (ExportFormat::LlamaJsonl, ImportFormat::Llama),
        (ExportFormat::Google, ImportFormat::Google),
    ] {
        let once = text(&run, export_format);
        assert_eq!(
            once,
            text(&run, export_format),
            "the same rows, the same bytes"
        );
        let file = dir.path().join("once");
        fs::write(&file, &once).unwrap();
        let back = imported(
            dir.path(),
            &format!("{export_format:?}"),
            &file,
            import_format,
        );
        let again = text(&back, export_format);
        for (first, second) in once.lines().zip(again.lines()) {
            assert_eq!(first, second);
        }
        assert_eq!(once, again);
    }
    for (name, format) in ExportFormat::ALL {
        assert_eq!(
            export(&run, format).unwrap(),
            export(&run, format).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn google_benchmark_has_the_fields_of_the_original() {
    let dir = tempfile::tempdir().unwrap();
    let ours: Value = serde_json::from_str(&text(&made(dir.path()), ExportFormat::Google)).unwrap();
    let theirs: Value = serde_json::from_str(&golden_text("google-benchmark.json")).unwrap();
    let known = keys(&theirs["benchmarks"][0]);
    for row in ours["benchmarks"].as_array().unwrap() {
        for (name, value) in row.as_object().unwrap() {
            assert!(known.contains(name), "{name}");
            assert_eq!(kind(value), kind(&theirs["benchmarks"][0][name]), "{name}");
        }
        // What compare.py of the original reads.
        for name in [
            "name",
            "run_name",
            "run_type",
            "real_time",
            "time_unit",
            "repetition_index",
        ] {
            assert!(row.get(name).is_some(), "{name}");
        }
    }
    let context = keys(&theirs["context"]);
    // Later versions of the library tell these two as well.
    let later = ["library_version", "json_schema_version"];
    for name in keys(&ours["context"]) {
        assert!(
            context.contains(&name) || later.contains(&name.as_str()),
            "{name}"
        );
    }
}

#[test]
fn a_file_of_google_benchmark_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let run = imported(
        dir.path(),
        "a",
        &golden("google-benchmark.json"),
        ImportFormat::Google,
    );
    let rows = summarize(&run).unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row.cell.cell.as_str()).collect();
    assert_eq!(names, ["sum/64", "sum/1024", "refuses"]);
    assert_eq!(rows[2].cell.status, Status::Failed);
    assert_eq!(rows[2].cell.reason, "no such thing here");
    let theirs: Value = serde_json::from_str(&golden_text("google-benchmark.json")).unwrap();
    let median = theirs["benchmarks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "sum/64_median")
        .unwrap();
    let want = median["real_time"].as_f64().unwrap() * 1e3;
    // Rounded to whole nanoseconds a repetition, of which each has thousands of iterations.
    assert!((rows[0].results.median_ns.unwrap() / want - 1.0).abs() < 1e-6);
    assert_eq!(rows[0].cell.tokens, Some(64));
    assert_eq!(rows[1].cell.bytes_per_call, Some(4096));
    assert_eq!(rows[0].results.n, Some(9));
    let session = run.session().unwrap();
    assert!(
        session.started_utc.ends_with('Z'),
        "{}",
        session.started_utc
    );
    assert_eq!(session.machine["cpu"]["threads"], 2);
}

#[test]
fn a_directory_of_criterion_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let run = imported(
        dir.path(),
        "a",
        &golden("criterion"),
        ImportFormat::Criterion,
    );
    let rows = summarize(&run).unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row.cell.cell.as_str()).collect();
    assert_eq!(names, ["sum/plain/1024", "sum/plain/64"]);
    assert_eq!(rows[1].cell.tokens, Some(64));
    assert_eq!(rows[0].results.n, Some(10));
    let estimates: Value =
        serde_json::from_str(&golden_text("criterion/sum/plain/1024/new/estimates.json")).unwrap();
    let theirs = estimates["median"]["point_estimate"].as_f64().unwrap();
    assert!((rows[0].results.median_ns.unwrap() / theirs - 1.0).abs() < 1e-3);
    assert_eq!(
        run.session().unwrap().started_utc,
        "2026-01-02T03:04:05Z",
        "when the file was written"
    );
}

#[test]
fn imports_are_compared_and_judged() {
    let dir = tempfile::tempdir().unwrap();
    let slower: Value = serde_json::from_str(&golden_text("google-benchmark.json")).unwrap();
    let mut slower = slower;
    for row in slower["benchmarks"].as_array_mut().unwrap() {
        if let Some(ns) = row["real_time"].as_f64() {
            row["real_time"] = (ns * 3.0).into();
        }
    }
    let file = dir.path().join("slower.json");
    fs::write(&file, slower.to_string()).unwrap();
    let before = imported(
        dir.path(),
        "before",
        &golden("google-benchmark.json"),
        ImportFormat::Google,
    );
    let after = imported(dir.path(), "after", &file, ImportFormat::Google);
    let sources = [
        Source::read(before.path()).unwrap(),
        Source::read(after.path()).unwrap(),
    ];
    let got = contrast(&sources, &Question::default()).unwrap();
    assert_eq!(got.rows.len(), 2);
    for row in &got.rows {
        let ratio = row.entries[1].as_ref().unwrap().ratio.unwrap();
        assert!((ratio - 3.0).abs() < 1e-3, "{ratio}");
    }
    let (base, head) = (
        read_summaries(before.path()).unwrap(),
        read_summaries(after.path()).unwrap(),
    );
    let report = gate_unpaired(
        (before.path(), &base),
        (after.path(), &head),
        &Limits::default(),
    )
    .unwrap();
    assert_eq!(report.end(false), trit_report::GateEnd::Regression);
    let same = gate_unpaired(
        (before.path(), &base),
        (before.path(), &base),
        &Limits::default(),
    )
    .unwrap();
    assert_eq!(same.end(false), trit_report::GateEnd::Pass);
}

#[test]
fn hyperfine_has_the_fields_of_the_original() {
    let dir = tempfile::tempdir().unwrap();
    let ours: Value =
        serde_json::from_str(&text(&made(dir.path()), ExportFormat::Hyperfine)).unwrap();
    let theirs: Value = serde_json::from_str(&golden_text("hyperfine.json")).unwrap();
    let their = &theirs["results"][0];
    for our in ours["results"].as_array().unwrap() {
        for name in keys(their) {
            let kinds = (kind(&our[&name]), kind(&their[&name]));
            // Not every cell has its CPU time.
            let may_be_missing = ["user", "system", "stddev"].contains(&name.as_str());
            assert!(
                kinds.0 == kinds.1 || may_be_missing && kinds.0 == "null",
                "{name}: {kinds:?}"
            );
        }
        let times: Vec<f64> = our["times"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s.as_f64().unwrap())
            .collect();
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        assert!((our["mean"].as_f64().unwrap() / mean - 1.0).abs() < 1e-12);
        let further: Vec<String> = keys(our).difference(&keys(their)).cloned().collect();
        assert!(
            further.is_empty() || further == ["memory_usage_byte"],
            "{further:?}"
        );
    }
}

#[test]
fn bencher_and_github_have_their_fields() {
    let dir = tempfile::tempdir().unwrap();
    let run = made(dir.path());
    let bencher: Value = serde_json::from_str(&text(&run, ExportFormat::Bencher)).unwrap();
    for (name, measures) in bencher.as_object().unwrap() {
        assert!(name.chars().count() <= 1024);
        let latency = &measures["latency"];
        assert!(latency["value"].as_f64().unwrap() > 0.0, "{name}");
        for (slug, measure) in measures.as_object().unwrap() {
            assert!(slug.len() <= 64);
            for (field, value) in measure.as_object().unwrap() {
                assert!(
                    ["value", "lower_value", "upper_value"].contains(&field.as_str())
                        && value.is_f64(),
                    "{name} {slug} {field}"
                );
            }
        }
    }
    for (format, unit) in [
        (ExportFormat::GithubSmaller, "ns"),
        (ExportFormat::GithubBigger, "tokens/s"),
    ] {
        let list: Value = serde_json::from_str(&text(&run, format)).unwrap();
        let list = list.as_array().unwrap();
        let names: BTreeSet<&str> = list
            .iter()
            .map(|entry| entry["name"].as_str().unwrap())
            .collect();
        assert_eq!(names.len(), list.len(), "names are unique");
        assert!(list.iter().any(|entry| entry["unit"] == unit));
        for entry in list {
            assert!(entry["value"].as_f64().unwrap() > 0.0);
            assert!(
                keys(entry)
                    .iter()
                    .all(|key| ["name", "unit", "value", "range", "extra"].contains(&key.as_str()))
            );
        }
    }
}

#[test]
fn junit_has_a_test_a_cell() {
    let dir = tempfile::tempdir().unwrap();
    let run = made(dir.path());
    let xml = text(&run, ExportFormat::Junit);
    let cells = run.cells().unwrap();
    assert_eq!(xml.matches("<testcase ").count(), cells.len());
    assert_eq!(xml.matches("<failure ").count(), 1, "wrong");
    assert_eq!(xml.matches("<error ").count(), 1, "crashed");
    assert_eq!(xml.matches("<skipped ").count(), 1);
    assert!(xml.contains("digest 1f3a differs"));
}

/// A line of `OpenMetrics`: name, labels, value.
fn metric(line: &str) -> (String, String, f64) {
    let (name, rest) = line.split_once('{').unwrap_or_else(|| panic!("{line}"));
    let (labels, value) = rest.rsplit_once("} ").unwrap_or_else(|| panic!("{line}"));
    (
        name.to_owned(),
        labels.to_owned(),
        value.parse().unwrap_or_else(|_| panic!("{line}")),
    )
}

#[test]
fn open_metrics_keeps_the_rules_of_the_format() {
    let dir = tempfile::tempdir().unwrap();
    let run = made(dir.path());
    let mut cells = run.cells().unwrap();
    cells[0].model = "a \"b\"\\c\nd".into();
    run.write(&cells).unwrap();
    let text = text(&run, ExportFormat::OpenMetrics);
    assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1);
    assert!(
        text.contains(r#"model="a \"b\"\\c\nd""#),
        "labels are escaped"
    );
    let mut family = (String::new(), String::new());
    let mut seen = BTreeSet::new();
    let mut families = BTreeSet::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            family = (name.to_owned(), kind.to_owned());
            assert!(families.insert(name.to_owned()), "{name} is declared twice");
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').unwrap();
            assert!(
                name == family.0 && name.ends_with(&format!("_{unit}")),
                "{line}"
            );
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.starts_with(&family.0), "{line}");
        } else {
            let (name, labels, value) = metric(line);
            let suffix = if family.1 == "info" { "_info" } else { "" };
            assert_eq!(name, format!("{}{suffix}", family.0));
            assert!(value.is_finite());
            assert!(seen.insert((name, labels)), "{line} stands twice");
        }
    }
    assert!(families.len() >= 5, "{families:?}");
}

#[test]
fn parquet_reads_back_to_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    let run = made(dir.path());
    let rows = summarize(&run).unwrap();
    for (format, header, records) in [
        (
            ExportFormat::Parquet,
            header::<SummaryRow>(),
            records(&rows),
        ),
        (
            ExportFormat::ParquetSamples,
            header::<Measurement>(),
            records(&run.measurements().unwrap()),
        ),
    ] {
        let path = dir.path().join("rows.parquet");
        fs::write(&path, export(&run, format).unwrap()).unwrap();
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let mut read = 0;
        for (row, want) in reader.get_row_iter(None).unwrap().zip(&records) {
            let row = row.unwrap();
            for (((name, field), wanted), column) in row.get_column_iter().zip(want).zip(&header) {
                assert_eq!(name, column);
                let text = match field {
                    Field::Null => String::new(),
                    Field::Str(text) => text.clone(),
                    Field::Long(value) => value.to_string(),
                    Field::Double(value) => value.to_string(),
                    other => panic!("{name}: {other:?}"),
                };
                assert_eq!(&text, wanted, "{name}");
            }
            read += 1;
        }
        assert_eq!(read, records.len());
    }
}

fn header<R: trit_core::Columns>() -> Vec<String> {
    R::header().into_iter().map(str::to_owned).collect()
}

fn records<R: trit_core::Columns>(rows: &[R]) -> Vec<Vec<String>> {
    rows.iter().map(trit_core::Columns::record).collect()
}

#[test]
fn what_is_not_the_format_is_refused_with_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let line = golden_text("llama-bench.jsonl")
        .lines()
        .next()
        .unwrap()
        .to_owned();
    let google = |row: &str| format!("{{\"context\": {{}}, \"benchmarks\": [{row}]}}");
    let cases: Vec<(ImportFormat, String, &str)> = vec![
        (ImportFormat::Llama, String::new(), "holds no test"),
        (ImportFormat::Llama, "[]".into(), "holds no test"),
        (ImportFormat::Llama, format!("{line}\n{{"), "line 2"),
        (
            ImportFormat::Llama,
            line.replace("\"n_prompt\": 16", "\"n_prompt\": -1"),
            "`n_prompt` is -1",
        ),
        (
            ImportFormat::Llama,
            line.replace("\"n_prompt\": 16", "\"n_prompt\": 0"),
            "n_gen",
        ),
        (
            ImportFormat::Llama,
            line.replace("samples_ns", "samples"),
            "samples_ns",
        ),
        (
            ImportFormat::Llama,
            line.replace("\"samples_ns\": [ ", "\"samples_ns\": [ 1e300, "),
            "samples_ns",
        ),
        (
            ImportFormat::Llama,
            line.replace("tiny-f32.gguf", ""),
            "model_filename",
        ),
        (ImportFormat::Llama, "{}".into(), "`n_prompt` is missing"),
        (ImportFormat::Google, "{".into(), "is not JSON"),
        (ImportFormat::Google, "{}".into(), "benchmarks"),
        (ImportFormat::Google, google(""), "aggregates"),
        (
            ImportFormat::Google,
            google("{\"name\": \"\"}"),
            "has no name",
        ),
        (
            ImportFormat::Google,
            google("{\"name\": \"a\", \"real_time\": NaN}"),
            "NaN",
        ),
        (
            ImportFormat::Google,
            google("{\"name\": \"a\", \"time_unit\": \"ns\", \"iterations\": 0, \"real_time\": 1}"),
            "`iterations` is 0",
        ),
        (
            ImportFormat::Google,
            google("{\"name\": \"a\", \"time_unit\": \"h\", \"iterations\": 1, \"real_time\": 1}"),
            "time_unit",
        ),
        (
            ImportFormat::Google,
            google(
                "{\"name\": \"a\", \"time_unit\": \"ns\", \"iterations\": 1, \"real_time\": -1}",
            ),
            "real_time",
        ),
    ];
    for (i, (format, text, words)) in cases.into_iter().enumerate() {
        let file = dir.path().join(format!("{i}.json"));
        fs::write(&file, &text).unwrap();
        let out = RunDir::create(&dir.path().join(format!("out{i}"))).unwrap();
        let error = import(&file, format, &facts(), &out).unwrap_err();
        assert!(error.is_content(), "{text}: {error}");
        assert!(error.to_string().contains(words), "{text}: {error}");
        assert_eq!(
            fs::read_dir(out.path()).unwrap().count(),
            0,
            "nothing is left behind"
        );
    }
    let crate_dir = dir.path().join("crit/a/new");
    fs::create_dir_all(&crate_dir).unwrap();
    let out = RunDir::create(&dir.path().join("crit-out")).unwrap();
    let refused = |words: &str| {
        let error = import(
            &dir.path().join("crit"),
            ImportFormat::Criterion,
            &facts(),
            &out,
        )
        .unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    };
    refused("no directory new/");
    fs::write(
        crate_dir.join("sample.json"),
        "{\"iters\": [1.0], \"times\": []}",
    )
    .unwrap();
    fs::write(crate_dir.join("benchmark.json"), "{\"full_id\": \"a\"}").unwrap();
    refused("1 iters and 0 times");
    fs::write(
        crate_dir.join("sample.json"),
        "{\"iters\": [1.0], \"times\": [-4.0]}",
    )
    .unwrap();
    refused("takes -4 ns");
    fs::write(crate_dir.join("benchmark.json"), "{}").unwrap();
    refused("full_id");
}

#[test]
fn a_run_without_models_has_nothing_for_llama_bench() {
    let dir = tempfile::tempdir().unwrap();
    let run = made(dir.path());
    let cells: Vec<Cell> = run
        .cells()
        .unwrap()
        .into_iter()
        .filter(|cell| cell.model.is_empty())
        .collect();
    run.write(&cells).unwrap();
    let error = export(&run, ExportFormat::LlamaSql).unwrap_err();
    assert!(
        error.is_content() && error.to_string().contains("prefill and decode"),
        "{error}"
    );
}
