//! `tritbench monitor` with real programs: exit codes, signals, where output goes, and what is kept.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{Talking, check_refused, refused, run, stderr, stdout, tritbench};
use serde_json::{Value, json};
use trit_core::{RunDir, TimelineRow};

/// Watches a shell script.
fn watch(flags: &[&str], script: &str) -> Output {
    let all = [&["monitor"], flags, &["--", "sh", "-c", script]].concat();
    run(all)
}

fn limits(dir: &tempfile::TempDir, text: &str) -> String {
    let path = dir.path().join("limits.toml");
    fs::write(&path, format!("[limits]\n{text}\n")).unwrap();
    path.display().to_string()
}

#[test]
fn a_program_that_does_well_is_code_0_and_its_output_is_its_own() {
    let output = watch(&[], "echo data; echo talk >&2");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "data\n");
    let talk = stderr(&output);
    for word in [
        "talk\n",
        "program:sh",
        "peak RSS",
        "monitor_cpu_share",
        "energy",
    ] {
        assert!(talk.contains(word), "no `{word}` in {talk}");
    }
    assert!(!talk.contains("error"), "{talk}");
}

#[test]
fn the_programs_failure_is_code_1_and_names_its_own() {
    for (script, words) in [
        ("exit 7", "exit code 7"),
        ("kill -s KILL $$", "SIGKILL"),
        ("kill -s TERM $$", "SIGTERM"),
    ] {
        let output = watch(&[], script);
        assert_eq!(output.status.code(), Some(1), "{script}");
        let talk = stderr(&output);
        let error = talk.lines().last().unwrap();
        assert!(
            error.starts_with("error: `sh`") && error.contains(words),
            "{talk}"
        );
    }
}

#[test]
fn wrong_command_lines_are_refused() {
    refused(["monitor"], 2, &["COMMAND"]);
    refused(["monitor", "true"], 2, &["true"]);
    for interval in ["0s", "5ms", "fast", "-1s", "100"] {
        let given = format!("--interval={interval}");
        refused(
            ["monitor", &given, "--", "true"],
            2,
            &["--interval", "10ms"],
        );
    }
    refused(
        ["monitor", "--format", "md", "--", "true"],
        2,
        &["md", "json"],
    );
    refused(
        ["monitor", "--format", "csv", "--out", "x", "--", "true"],
        2,
        &["--out"],
    );
    refused(
        ["monitor", "--sysfs-root", "no/such", "--", "true"],
        2,
        &["no/such", "--sysfs-root"],
    );
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("precious"), "x").unwrap();
    let out = dir.path().to_str().unwrap();
    refused(["monitor", "--out", out, "--", "true"], 2, &[out, "empty"]);
    refused(
        ["monitor", "--", "no-such-program"],
        1,
        &["no-such-program", "No such file"],
    );
    refused(
        ["monitor", "--out", "/proc/no/dir", "--", "true"],
        1,
        &["/proc/no"],
    );
}

#[test]
fn limits_that_cannot_be_used_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    refused(
        ["monitor", "--limits", "no/such.toml", "--", "true"],
        1,
        &["no/such.toml", "No such file"],
    );
    for (text, words) in [
        (
            "max_ram_mb = 5",
            &["limits.toml:2:", "max_ram_mb", "max_rss_mb"][..],
        ),
        (
            "max_rss_mb = -5",
            &["limits.toml", "limits.max_rss_mb", "negative", "hint"],
        ),
        (
            "max_rss_mb = nan",
            &["limits.toml", "limits.max_rss_mb", "finite", "hint"],
        ),
    ] {
        let file = limits(&dir, text);
        refused(["monitor", "--limits", &file, "--", "true"], 5, words);
    }
    let binary = dir.path().join("binary.toml");
    fs::write(&binary, [0xff, 0xfe]).unwrap();
    check_refused(
        tritbench(["monitor", "--limits"])
            .arg(&binary)
            .args(["--", "true"]),
        5,
        &["binary.toml", "UTF-8"],
    );
}

#[test]
fn a_limit_that_is_exceeded_alerts_and_is_code_3() {
    let dir = tempfile::tempdir().unwrap();
    // Any program has more than a kilobyte. The first look may come before it has any.
    let rss = limits(&dir, "max_rss_mb = 0.001");
    let output = watch(
        &["--limits", &rss, "--interval", "10ms"],
        "read x < /dev/null; sleep 0.2",
    );
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let talk = stderr(&output);
    let alert = talk.find("alert after").unwrap();
    assert!(
        alert < talk.find("watched").unwrap(),
        "as it happens: {talk}"
    );
    assert!(
        talk.contains("max_rss_mb") && talk.contains("exceeded"),
        "{talk}"
    );

    // Lines: one is too slow, all together are too slow, and half of them failed. The program's failure matters less.
    let told = limits(
        &dir,
        "max_latency_ms = 100\nmin_tokens_per_s = 5\nmax_error_percent = 5\nmax_j_per_token = 1",
    );
    let output = watch(
        &["--limits", &told],
        "echo 1000000000,2; echo words; echo 50000000,error; exit 9",
    );
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert_eq!(stdout(&output), "1000000000,2\nwords\n50000000,error\n");
    let talk = stderr(&output);
    for word in [
        "latency 1000 ms is above the limit of 100 ms",
        "rate 2 tokens/s is below the limit of 5 tokens/s",
        "error rate 50 % is above the limit of 5 %",
    ] {
        assert!(talk.contains(word), "no `{word}` in {talk}");
    }
    // A program that keeps the limits, and one that tells nothing.
    let output = watch(&["--limits", &told], "echo 1000000,2");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = watch(&["--limits", &told], "echo quiet");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("not judged max_latency_ms"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn rows_and_summary_are_exported() {
    let json = watch(
        &["--format", "json", "--lines", "--interval", "20ms"],
        "echo 5,6; sleep 0.1",
    );
    assert_eq!(json.status.code(), Some(0), "{}", stderr(&json));
    assert!(
        stderr(&json).starts_with("5,6\n"),
        "the program's output is no data"
    );
    let value: Value = serde_json::from_str(&stdout(&json)).unwrap();
    let rows = value["rows"].as_array().unwrap();
    assert!(rows.len() >= 2);
    assert_eq!(rows.last().unwrap()["phase"], "end");
    assert_eq!(rows.last().unwrap()["tokens"], 6);
    let summary = &value["summary"];
    assert_eq!(summary["cell"], "program:sh");
    assert_eq!(summary["exit_code"], 0);
    assert_eq!(
        summary["samples"].as_u64().unwrap() as usize,
        rows.len() - 1
    );
    assert!(summary["rss_bytes_peak"].as_u64().unwrap() > 0);
    assert!(summary["monitor_cpu_share"].as_f64().unwrap() > 0.0);
    if summary["energy_status"] != "ok" {
        assert_eq!(summary["energy_pkg_uj"], Value::Null, "never 0");
        assert!(!summary["energy_reason"].as_str().unwrap().is_empty());
    }

    let csv = watch(&["--format", "csv"], "echo not data");
    let text = stdout(&csv);
    assert!(
        text.starts_with("cell,round,phase,unix_ns,monotonic_ns,"),
        "{text}"
    );
    assert!(!text.contains("not data"));
    let fields: Vec<usize> = text.lines().map(|line| line.split(',').count()).collect();
    assert!(fields.len() >= 3 && fields.iter().all(|count| *count == fields[0]));

    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let output = watch(
        &["--out", out.to_str().unwrap(), "--interval", "20ms"],
        "echo data; sleep 0.2",
    );
    assert_eq!(stdout(&output), "data\n");
    let rows: Vec<TimelineRow> = trit_core::read_rows(&out.join("timeline.csv")).unwrap();
    assert_eq!(rows.last().unwrap().phase, "end");
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(out.join("monitor.json")).unwrap()).unwrap();
    assert_eq!(
        summary["samples"].as_u64().unwrap() as usize,
        rows.len() - 1
    );
    assert!(out.join("timeline.svg").is_file() && out.join("timeline.png").is_file());
    assert!(RunDir::open(&out).is_err(), "it is no session");
}

/// Waits until the program is there, sends the monitor a signal and gives how it ended.
fn signalled(signal: &str, script: &str) -> (Option<i32>, String, Vec<TimelineRow>) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut running = Talking::start(tritbench([
        "monitor",
        "--out",
        out.to_str().unwrap(),
        "--",
        "sh",
        "-c",
        script,
    ]));
    running.wait_for("ready");
    running.signal(signal);
    let (status, talk) = running.end();
    let rows = trit_core::read_rows(&out.join("timeline.csv")).unwrap();
    (status.code(), talk, rows)
}

#[test]
fn signals_reach_the_program_and_what_was_measured_is_kept() {
    // The program decides: it cleans up and ends well.
    let trap = "trap 'echo cleaned >&2; exit 0' TERM USR1; echo ready >&2; i=0; while [ $i -lt 9000000 ]; do i=$((i+1)); done; exit 9";
    for signal in ["TERM", "USR1"] {
        let (code, talk, rows) = signalled(signal, trap);
        assert_eq!(code, Some(0), "{talk}");
        assert!(
            talk.contains("cleaned") && talk.contains("watched"),
            "{talk}"
        );
        assert_eq!(rows.last().unwrap().phase, "end");
    }
    // Both scripts end some time, so that a signal that gets lost fails the test and does not hang it.
    let spin = "echo ready >&2; i=0; while [ $i -lt 9000000 ]; do i=$((i+1)); done; exit 9";
    let (code, talk, rows) = signalled("INT", spin);
    assert_eq!(code, Some(130), "{talk}");
    assert!(rows.len() >= 2);
    let (code, talk, _) = signalled("TERM", spin);
    assert_eq!(code, Some(1), "{talk}");
    assert!(talk.contains("SIGTERM"), "{talk}");
}

#[test]
fn everything_that_a_program_starts_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    // A process whose parent is gone spins until the script has counted, and is then ended by it.
    let script = format!(
        "sh -c 'while :; do :; done & echo $! > {0}'; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; kill $(cat {0})",
        dir.path().join("id").display()
    );
    let json = watch(&["--format", "json", "--interval", "10ms"], &script);
    assert_eq!(json.status.code(), Some(0), "{}", stderr(&json));
    let value: Value = serde_json::from_str(&stdout(&json)).unwrap();
    let summary = &value["summary"];
    assert!(
        summary["processes_peak"].as_u64().unwrap() >= 2,
        "{summary}"
    );
}

/// The arguments that put `time -v` before a command, where it is installed; it writes what it saw to `report`.
fn timed(report: &Path) -> Vec<String> {
    let time = "/usr/bin/time";
    if !Path::new(time).is_file() {
        let note =
            "there is no time -v: compared with the same count of the kernel, from wait4, alone";
        let _ = writeln!(std::io::stderr(), "{note}");
        return Vec::new();
    }
    let report = report.display().to_string();
    [time, "-v", "-o", &report].map(str::to_owned).to_vec()
}

/// The largest resident set that `time -v` reported.
fn maximum(report: &Path) -> Option<u64> {
    let text = fs::read_to_string(report).ok()?;
    let kib = text.lines().find_map(|line| {
        line.trim()
            .strip_prefix("Maximum resident set size (kbytes): ")
    })?;
    Some(kib.parse::<u64>().unwrap() << 10)
}

fn within_2_percent(ours: u64, theirs: u64) {
    let ratio = ours as f64 / theirs as f64;
    assert!((0.98..=1.02).contains(&ratio), "{ours} is not {theirs}");
}

/// Runs a command of tritbench below the monitor below `time -v`, feeds it `input`; gives its output and the peaks that the two saw.
fn measured_twice(command: &[&str], input: &str) -> (Output, u64, Option<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let (report, out) = (dir.path().join("time"), dir.path().join("out"));
    let tritbench = env!("CARGO_BIN_EXE_tritbench");
    let mut all = timed(&report);
    let out_text = out.display().to_string();
    all.extend([tritbench, "monitor", "--out", &out_text, "--", tritbench].map(str::to_owned));
    all.extend(command.iter().map(|&word| word.to_owned()));
    let mut child = Command::new(&all[0])
        .args(&all[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let summary = fs::read_to_string(out.join("monitor.json")).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    let peak = summary["peak_rss_bytes"].as_u64().unwrap();
    (output, peak, maximum(&report))
}

#[test]
fn the_peak_of_generate_agrees_with_time() {
    let (output, watched, timed) = measured_twice(
        &[
            "generate",
            "--model",
            "synth:125m",
            "--tokens",
            "1,2,3",
            "--max-tokens",
            "4",
            "--threads",
            "1",
        ],
        "",
    );
    let talk = stderr(&output);
    let (_, said) = talk.split_once("peak RSS ").unwrap();
    let mib: f64 = said.split_whitespace().next().unwrap().parse().unwrap();
    let said = (mib * f64::from(1 << 20)) as u64;
    within_2_percent(said, watched);
    if let Some(timed) = timed {
        within_2_percent(said, timed);
        within_2_percent(watched, timed);
    }
}

/// The peaks in a worker's rows: of every phase, and of the visit that was counted apart.
fn peaks_of_a_worker(reset_peak: bool) -> (Vec<u64>, Option<u64>, u64, Option<u64>) {
    let task = json!({
        "job": "decode", "kernel": "w2a8-swar-scalar", "model": "synth:125m", "threads": 1,
        "prompt_tokens": 8, "gen_tokens": 4, "seed": 1, "kv": "f16", "head": "f16",
    });
    let requests = [
        json!({"op": "open", "slot": 0, "task": task}),
        json!({"op": "slice", "slot": 0, "iterations": 1, "warm_up": 0, "reset_peak": reset_peak}),
        json!({"op": "exit"}),
    ];
    let lines: Vec<String> = requests.iter().map(Value::to_string).collect();
    let input = lines.join("\n") + "\n";
    let (output, watched, timed) = measured_twice(&["worker"], &input);
    let text = stdout(&output);
    let replies: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let timeline = |value: &Value| value["timeline"].as_array().cloned().unwrap_or_default();
    let (opened, sample) = (&replies[1], &replies[2]["sample"]);
    let rows = [timeline(opened), timeline(sample)].concat();
    let phases: BTreeSet<&str> = rows
        .iter()
        .map(|row| row["phase"].as_str().unwrap())
        .collect();
    assert_eq!(
        phases,
        BTreeSet::from(["decode", "load", "prefill"]),
        "{text}"
    );
    let peaks = rows
        .iter()
        .filter_map(|row| row["peak_rss_bytes"].as_u64())
        .collect();
    let visit = sample["peak_rss_bytes"].as_u64();
    (peaks, visit, watched, timed)
}

#[test]
fn the_peak_of_a_worker_agrees_with_time() {
    let (peaks, visit, watched, timed) = peaks_of_a_worker(false);
    assert_eq!(visit, None);
    let peak = peaks.into_iter().max().unwrap();
    within_2_percent(peak, watched);
    if let Some(timed) = timed {
        within_2_percent(peak, timed);
    }
}

#[test]
fn the_peak_of_a_visit_agrees_with_time() {
    // Once the worker forgot its peak, the kernel tells only of what came after, whoever asks. The monitor may have read
    // the one of before.
    let (_, visit, watched, timed) = peaks_of_a_worker(true);
    let visit = visit.unwrap();
    assert!(watched as f64 >= 0.98 * visit as f64, "{watched} < {visit}");
    if let Some(timed) = timed {
        within_2_percent(visit, timed);
    }
}
