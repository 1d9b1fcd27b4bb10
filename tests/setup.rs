//! Exports and imports at the command line, completions, manual pages, digests, advice.

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::{path, refused, run, stderr, stdout, tritbench};
use serde_json::Value;

const MODEL: &str = "tests/golden/bitnet-tiny/model-i2_s.gguf";

fn text(relative: &str) -> String {
    path(relative).display().to_string()
}

#[test]
fn imports_are_runs_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    for (file, format) in [
        ("llama-bench.jsonl", "llama-bench"),
        ("google-benchmark.json", "google-benchmark"),
        ("criterion", "criterion"),
    ] {
        let out = at(format);
        let file = text(&format!("tests/golden/exchange/{file}"));
        let imported = run(["import", &file, "--as", format, "--out", &out]);
        assert_eq!(imported.status.code(), Some(0), "{}", stderr(&imported));
        assert!(imported.stdout.is_empty() && stderr(&imported).contains("imported"));
        let report = fs::read_to_string(dir.path().join(format).join("report.md")).unwrap();
        assert!(report.contains("not checked"), "{report}");
        refused(
            ["import", &file, "--as", format, "--out", &out],
            2,
            &["not empty"],
        );
        // The same against itself: nothing changed.
        let gate = run(["gate", "--baseline", &out, "--candidate", &out]);
        assert_eq!(gate.status.code(), Some(0), "{}", stderr(&gate));
        let compared = run([
            "compare",
            &out,
            &format!("{out}/summary.csv"),
            "--format",
            "json",
        ]);
        assert_eq!(compared.status.code(), Some(0), "{}", stderr(&compared));
        let compared: Value = serde_json::from_str(&stdout(&compared)).unwrap();
        let mean = &compared["geometric_mean"][format!("{out}/summary.csv")]["ratio"];
        assert!((mean.as_f64().unwrap() - 1.0).abs() < 1e-12, "{mean}");
        let exported = run(["export", &out, "--as", "bencher"]);
        assert_eq!(exported.status.code(), Some(0), "{}", stderr(&exported));
        let exported: Value = serde_json::from_str(&stdout(&exported)).unwrap();
        assert!(!exported.as_object().unwrap().is_empty());
        let store = at("history.sqlite");
        let mut add = vec!["history", "add", &out, "--store", &store];
        if format == "criterion" {
            // Its files do not say on which machine they were made.
            refused(&add, 5, &["--machine NAME"]);
            add.extend(["--machine", "laptop"]);
        }
        let added = run(&add);
        assert_eq!(added.status.code(), Some(0), "{}", stderr(&added));
    }
    let list = stdout(&run([
        "history",
        "list",
        "--store",
        &at("history.sqlite"),
        "--format",
        "csv",
    ]));
    assert_eq!(list.lines().count(), 4, "{list}");
}

#[test]
fn exports_go_to_stdout_or_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("in").display().to_string();
    let file = text("tests/golden/exchange/llama-bench.jsonl");
    run(["import", &file, "--as", "llama-bench", "--out", &out]);
    let printed = run(["export", &out, "--as", "llama-bench-jsonl"]);
    assert_eq!(stdout(&printed).lines().count(), 4);
    let written = dir.path().join("out.jsonl");
    let quiet = run([
        "export",
        &out,
        "--as",
        "llama-bench-jsonl",
        "--out",
        written.to_str().unwrap(),
    ]);
    assert!(quiet.stdout.is_empty());
    assert_eq!(fs::read(&written).unwrap(), printed.stdout);
    let parquet = run(["export", &out, "--as", "parquet"]);
    assert!(parquet.stdout.starts_with(b"PAR1") && parquet.stdout.ends_with(b"PAR1"));
    refused(["export", &out, "--as", "xml"], 2, &["--as", "openmetrics"]);
    refused(["export", "no/such", "--as", "junit"], 5, &["no/such"]);
    refused(
        ["export", &out, "--as", "junit", "--out", "/proc/no/x"],
        1,
        &["/proc/no/x"],
    );
    refused(
        [
            "import",
            "no/such",
            "--as",
            "criterion",
            "--out",
            &format!("{out}2"),
        ],
        1,
        &["no/such"],
    );
    let empty = dir.path().join("empty.jsonl");
    fs::write(&empty, "").unwrap();
    let refused_out = format!("{out}3");
    refused(
        [
            "import",
            empty.to_str().unwrap(),
            "--as",
            "llama-bench",
            "--out",
            &refused_out,
        ],
        5,
        &["holds no test"],
    );
    assert!(
        !std::path::Path::new(&refused_out).exists(),
        "nothing is left behind"
    );
}

#[test]
fn completions_are_scripts_that_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = stdout(&output);
        for word in ["compare", "--expect-sha256", "history"] {
            let word = if shell == "fish" {
                word.trim_start_matches('-')
            } else {
                word
            };
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
    refused(["completions", "tcsh"], 2, &["tcsh", "bash"]);
    // Bash takes it, and completes with it.
    let check = "eval \"$(cat)\"; COMP_WORDS=(tritbench hist); COMP_CWORD=1; _tritbench tritbench hist tritbench; echo \"${COMPREPLY[*]}\"";
    let mut bash = Command::new("bash")
        .args(["--norc", "-c", check])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let script = run(["completions", "bash"]).stdout;
    std::io::Write::write_all(&mut bash.stdin.take().unwrap(), &script).unwrap();
    let output = bash.wait_with_output().unwrap();
    assert_eq!(stdout(&output).trim(), "history", "{}", stderr(&output));
}

#[test]
fn every_command_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("man1");
    let written = run(["man", "--out", out.to_str().unwrap()]);
    assert_eq!(written.status.code(), Some(0), "{}", stderr(&written));
    let page = |name: &str| fs::read_to_string(out.join(format!("{name}.1"))).unwrap();
    assert_eq!(page("tritbench"), stdout(&run(["man"])));
    let overview = stdout(&run(["--help"]));
    let commands: Vec<&str> = overview
        .lines()
        .skip_while(|line| *line != "Measure:")
        .take_while(|line| *line != "Options:")
        .filter(|line| line.starts_with("  "))
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        let text = page(&format!("tritbench-{command}"));
        assert!(
            text.contains(".TH") && text.contains(".SH NAME"),
            "{command}"
        );
        if !["history", "model"].contains(&command) {
            assert!(text.contains("Example"), "{command}");
        }
    }
    assert!(page("tritbench-history-show").contains("alpha"));
    assert!(
        !out.join("tritbench-worker.1").exists(),
        "the worker is hidden"
    );
}

#[test]
fn a_model_that_is_another_file_is_refused() {
    let model = text(MODEL);
    let inspected: Value = serde_json::from_str(&stdout(&run([
        "model", "inspect", &model, "--format", "json",
    ])))
    .unwrap();
    let digest = inspected["sha256"].as_str().unwrap().to_owned();
    let other = "0".repeat(64);
    for command in [
        &["model", "inspect", &model][..],
        &["logits", "--model", &model, "--tokens", "1"],
        &[
            "generate",
            "--model",
            &model,
            "--tokens",
            "1",
            "--max-tokens",
            "1",
        ],
        &["run", "--allow-debug", "--list", "--model", &model],
    ] {
        let with = |digest: &str| {
            [command, &["--expect-sha256", digest]]
                .concat()
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        let right = run(with(&digest.to_ascii_uppercase()));
        assert_eq!(
            right.status.code(),
            Some(0),
            "{command:?}: {}",
            stderr(&right)
        );
        refused(
            with(&other),
            5,
            &["model-i2_s.gguf", &digest, "another file"],
        );
        refused(with("12"), 2, &["--expect-sha256", "64"]);
    }
    refused(
        ["run", "--allow-debug", "--list", "--expect-sha256", &other],
        2,
        &["--model"],
    );
    refused(
        [
            "logits",
            "--model",
            "synth:tiny",
            "--tokens",
            "1",
            "--expect-sha256",
            &other,
        ],
        2,
        &["synth:tiny"],
    );
}

#[test]
fn advice_is_a_row_a_check() {
    let output = run(["machine", "--check", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(output.stderr.is_empty(), "nothing is measured");
    let rows: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let rows = rows.as_array().unwrap();
    for what in [
        "build",
        "governor",
        "smt",
        "huge pages",
        "load",
        "cpu quota",
    ] {
        let row = rows.iter().find(|row| row["check"] == what).unwrap();
        let told = row["advice"].is_string();
        assert_eq!(told, row["state"] == "look", "{row}");
    }
    refused(["machine", "--check", "--facts"], 2, &["--facts"]);
}

#[test]
fn no_color_and_no_terminal_mean_no_escapes() {
    for arguments in [
        &["--help"][..],
        &["kernels"],
        &["run", "--list", "--kernel", "w2a8-naive-scalar"],
        &["nonsense"],
    ] {
        for set in [true, false] {
            let mut command = tritbench(arguments);
            if !set {
                command.env_remove("NO_COLOR");
            }
            let output = command.output().unwrap();
            assert!(
                !stdout(&output).contains('\x1b') && !stderr(&output).contains('\x1b'),
                "{arguments:?}"
            );
        }
    }
}
