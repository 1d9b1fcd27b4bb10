//! The command line: exit codes, the split of stdout and stderr, closed pipes, Ctrl-C, resuming.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use common::{TINY, Talking, check_refused, path, refused, run, stderr, stdout, tritbench};
use serde_json::Value;
use trit_core::{RunDir, Status, is_final};

const MODEL: &str = "tests/golden/bitnet-tiny/model-i2_s.gguf";

fn model() -> String {
    path(MODEL).display().to_string()
}

#[test]
fn help_and_version_are_data() {
    for arguments in [
        &["--help"][..],
        &["-h"],
        &["--version"],
        &["run", "--help"],
        &["worker", "--help"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(
            output.stderr.is_empty(),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(stdout(&output).contains("tritbench"), "{arguments:?}");
        assert!(
            !stdout(&output).contains('\x1b'),
            "{arguments:?} is coloured"
        );
    }
    assert!(
        !stdout(&run(["--help"])).contains("worker"),
        "the worker is hidden"
    );
}

#[test]
fn a_wrong_command_line_is_code_2() {
    let output = run::<&str>([]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    refused(["dance"], 2, &["dance"]);
    refused(["kernels", "--fast"], 2, &["--fast"]);
    refused(["kernels", "--format", "xml"], 2, &["xml", "--format"]);
    let model = model();
    for threads in ["0", "-1", "two", "100000"] {
        let given = format!("--threads={threads}");
        refused(["run", &given], 2, &["--threads"]);
        refused(
            ["generate", "--model", &model, "--tokens", "1", &given],
            2,
            &["--threads"],
        );
        refused(
            ["logits", "--model", &model, "--tokens", "1", &given],
            2,
            &["--threads"],
        );
    }
    for kernel in ["w2a8-mad-avx3", ""] {
        let near = "w2a8-mad-avx2";
        refused(
            [
                "logits", "--model", &model, "--tokens", "1", "--kernel", kernel,
            ],
            2,
            &["unknown kernel", near],
        );
        refused(
            [
                "generate", "--model", &model, "--tokens", "1", "--kernel", kernel,
            ],
            2,
            &["unknown kernel", near],
        );
        refused(
            ["run", "--allow-debug", "--list", "--kernel", kernel],
            2,
            &["unknown kernel", near],
        );
    }
    refused(
        ["run", "--allow-debug", "--budget", "soon"],
        2,
        &["--budget", "90s"],
    );
    refused(
        ["run", "--allow-debug", "slow"],
        2,
        &["unknown suite `slow`", "quick"],
    );
    refused(
        ["run", "--allow-debug", "--resume", "x", "--seed", "1"],
        2,
        &["--resume"],
    );
    refused(["generate", "--model", &model], 2, &["--prompt"]);
    refused(
        ["generate", "--model", "synth:9x", "--prompt", "x"],
        2,
        &["no shape `9x`", "2b4t"],
    );
    refused(
        [
            "generate", "--model", &model, "--prompt", "x", "--top-p", "0",
        ],
        2,
        &["--top-p"],
    );
    refused(
        [
            "generate",
            "--model",
            &model,
            "--prompt",
            "x",
            "--temperature",
            "NaN",
        ],
        2,
        &["--temperature"],
    );
    refused(
        ["logits", "--model", &model, "--tokens", ""],
        2,
        &["--tokens"],
    );
    refused(
        ["logits", "--model", &model, "--tokens", "1,x"],
        2,
        &["--tokens"],
    );
    refused(
        ["logits", "--model", &model, "--tokens", "1", "--kv", "f8"],
        2,
        &["--kv", "f16"],
    );
    refused(
        ["model", "synth", "--shape", "9x", "--out", "/dev/null"],
        2,
        &["no shape `9x`"],
    );
}

#[test]
fn a_token_beyond_the_vocabulary_is_refused() {
    refused(
        ["logits", "--model", &model(), "--tokens", "0,4000000000"],
        2,
        &["4000000000"],
    );
    refused(
        ["generate", "--model", &model(), "--tokens", "4000000000"],
        2,
        &["4000000000"],
    );
}

#[test]
fn a_file_that_is_not_there_or_cannot_be_written_is_code_1() {
    for command in [
        &["model", "inspect", "no/such.gguf"][..],
        &["logits", "--model", "no/such.gguf", "--tokens", "1"],
        &["generate", "--model", "no/such.gguf", "--prompt", "x"],
        &["run", "--allow-debug", "--model", "no/such.gguf"],
        &["run", "--allow-debug", "no/such.toml"],
    ] {
        refused(command, 1, &["no/such", "No such file"]);
    }
    refused(
        [
            "model",
            "synth",
            "--shape",
            "tiny",
            "--out",
            "/proc/no/x.gguf",
        ],
        1,
        &["/proc/no/x.gguf"],
    );
    refused(
        ["run", "--allow-debug", "--out", "/proc/no/run"],
        1,
        &["/proc/no"],
    );
}

#[test]
fn unusable_content_is_code_5_and_names_file_and_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let whole = fs::read(path(MODEL)).unwrap();
    for (name, bytes) in [
        ("empty.gguf", &[][..]),
        ("text.gguf", b"this is no model"),
        ("torn.gguf", &whole[..whole.len() / 2]),
        ("head.gguf", &whole[..20]),
    ] {
        let model = file(name, bytes);
        refused(["model", "inspect", &model], 5, &[name]);
        refused(["logits", "--model", &model, "--tokens", "1"], 5, &[name]);
        refused(["generate", "--model", &model, "--prompt", "x"], 5, &[name]);
        refused(["run", "--allow-debug", "--model", &model], 5, &[name]);
    }
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("config.json"), "{").unwrap();
    let folder = folder.display().to_string();
    let output = run(["model", "inspect", &folder]);
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));

    for (name, text, words) in [
        (
            "key.toml",
            TINY.replace("threads", "treads"),
            &["key.toml", "treads"][..],
        ),
        ("torn.toml", "[suite".to_owned(), &["torn.toml"]),
        (
            "shape.toml",
            TINY.replace("64x256", "0x256"),
            &["shape.toml", "0x256"],
        ),
        (
            "thread.toml",
            TINY.replace("threads = [1]", "threads = [0]"),
            &["thread.toml:12:", "thread count"],
        ),
    ] {
        refused(
            ["run", "--allow-debug", &file(name, text.as_bytes())],
            5,
            words,
        );
    }
    refused(
        ["run", "--allow-debug", &file("binary.toml", &[0xff, 0xfe])],
        5,
        &["binary.toml", "UTF-8"],
    );
    refused(
        ["report", &dir.path().display().to_string()],
        5,
        &["session.json"],
    );
    check_refused(
        tritbench(["kernels"]).env("TRIT_ISA", "sse9"),
        5,
        &["TRIT_ISA", "sse9", "avx2"],
    );
}

#[test]
fn a_debug_build_does_not_record() {
    if cfg!(debug_assertions) {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("run").display().to_string();
        refused(["run", "--out", &out], 5, &["debug build", "--release"]);
        assert!(!Path::new(&out).exists());
    }
}

#[test]
fn data_goes_to_stdout_in_every_format() {
    let csv = run(["kernels", "--format", "csv"]);
    assert_eq!(csv.status.code(), Some(0));
    assert!(csv.stderr.is_empty());
    assert!(stdout(&csv).starts_with("id,family,weight_bits,layout,status,reason\n"));
    let json: Value = serde_json::from_str(&stdout(&run(["kernels", "--format", "json"]))).unwrap();
    assert_eq!(
        json.as_array().unwrap().len(),
        stdout(&csv).lines().count() - 1
    );
    assert!(stdout(&run(["kernels", "--format", "md"])).starts_with("| id "));

    let inspected = run(["model", "inspect", &model(), "--format", "json"]);
    assert_eq!(inspected.status.code(), Some(0), "{}", stderr(&inspected));
    let inspected: Value = serde_json::from_str(&stdout(&inspected)).unwrap();
    assert_eq!(inspected["container"], "gguf");
    assert_eq!(inspected["sha256"].as_str().unwrap().len(), 64);

    let machine = run(["machine", "--facts", "--format", "json"]);
    assert!(machine.stderr.is_empty());
    let machine: Value = serde_json::from_str(&stdout(&machine)).unwrap();
    assert_eq!(machine["fingerprint"].as_str().unwrap().len(), 12);
    assert!(machine["cpu"]["isa"].is_array());
}

#[test]
fn a_closed_stdout_ends_quietly_with_0() {
    let model = model();
    for arguments in [
        &["kernels"][..],
        &["--help"],
        &["machine", "--facts"],
        &["model", "inspect", &model],
        &[
            "logits",
            "--model",
            &model,
            "--tokens",
            "1,2",
            "--all-positions",
        ],
        &[
            "generate",
            "--model",
            &model,
            "--tokens",
            "1",
            "--max-tokens",
            "4",
        ],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = tritbench(arguments)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(
            !stderr(&output).contains("error"),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn synthetic_files_are_the_same_for_the_same_seed() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, seed: &str| {
        let out = dir.path().join(name);
        let output = run([
            "model",
            "synth",
            "--shape",
            "tiny",
            "--seed",
            seed,
            "--out",
            out.to_str().unwrap(),
        ]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(output.stdout.is_empty(), "nothing but a file is made");
        fs::read(out).unwrap()
    };
    let one = write("a.gguf", "1");
    assert_eq!(one, write("b.gguf", "1"));
    assert_ne!(one, write("c.gguf", "2"));
}

#[test]
fn converted_models_give_the_same_logits() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let logits = |model: &str| {
        let output = run([
            "logits",
            "--model",
            model,
            "--tokens",
            "1,5,7",
            "--threads",
            "1",
        ]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        output.stdout
    };
    let convert = |from: &str, flags: &[&str], to: &str| {
        let to = at(to);
        let output = run([&["model", "convert", from, "--out", &to][..], flags].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(output.stdout.is_empty(), "nothing but a file is made");
        (to, stderr(&output))
    };
    let model = model();
    let want = logits(&model);
    let (packed, talk) = convert(&model, &["--to", "packed"], "folder");
    assert!(talk.contains("architecture bitnet"), "{talk}");
    assert!(logits(&packed) == want);
    for (from, to) in [(&model, "tq1_0"), (&packed, "tq2_0"), (&packed, "f16")] {
        let (file, talk) = convert(from, &["--to", to, "--no-vocabulary"], to);
        assert!(talk.contains("architecture bitnet;"), "{talk}");
        assert!(logits(&file) == want, "{to}");
    }
    let (file, talk) = convert(&packed, &["--to", "i2_s", "--no-vocabulary"], "i2_s.gguf");
    assert!(talk.contains("architecture bitnet-b1.58;"), "{talk}");
    assert!(logits(&file) == want);

    let out = at("none.gguf");
    let no = ["model", "convert", &model, "--out", &out, "--to"];
    refused(
        [&no[..], &["i2_s", "--for", "llama.cpp"]].concat(),
        2,
        &["I2_S", "hint"],
    );
    refused(
        [&no[..], &["packed", "--for", "llama.cpp"]].concat(),
        2,
        &["--for", "hint"],
    );
    refused([&no[..], &["q4_0"]].concat(), 2, &["q4_0", "tq2_0"]);
    let into = [
        "model", "convert", &model, "--to", "packed", "--out", &packed,
    ];
    refused(into, 5, &["folder", "hint: name a new folder"]);
    let nowhere = at("no/such/m.gguf");
    refused(
        ["model", "convert", &model, "--to", "f16", "--out", &nowhere],
        1,
        &["m.gguf", "cannot create"],
    );
    assert!(!Path::new(&out).exists());
}

#[test]
fn the_plan_is_printed_and_nothing_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    let suite = dir.path().join("tiny.toml");
    fs::write(&suite, TINY).unwrap();
    let output = tritbench(["run", suite.to_str().unwrap(), "--list", "--format", "csv"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(
        text.contains("w2a8-naive-scalar") && text.contains(",planned,"),
        "{text}"
    );
    assert!(stderr(&output).contains("2 cells"), "{}", stderr(&output));
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "only the suite is there"
    );
}

/// Stops a run with `signal` once it has samples, and goes on with it.
fn stop_and_resume(signal: &str, code: Option<i32>) {
    let dir = tempfile::tempdir().unwrap();
    let suite = dir.path().join("tiny.toml");
    fs::write(&suite, TINY).unwrap();
    let out = dir.path().join("out");
    let out_text = out.to_str().unwrap();
    let mut running = Talking::start(tritbench([
        "run",
        suite.to_str().unwrap(),
        "--allow-debug",
        "--out",
        out_text,
    ]));
    running.wait_for("% of the expected time");
    running.signal(signal);
    let (status, talk) = running.end();
    assert_eq!(status.code(), code, "{talk}");

    let run_dir = RunDir::open(&out).unwrap();
    let before = run_dir.measurements().unwrap();
    let cells = run_dir.cells().unwrap();
    assert_eq!(cells.len(), 2);
    assert!(!before.is_empty(), "there were samples");
    assert!(
        !cells.iter().all(is_final),
        "it was stopped too late to tell anything"
    );
    if code.is_some() {
        assert!(talk.contains("--resume"), "{talk}");
    }

    let output = run([
        "run",
        "--allow-debug",
        "--resume",
        out_text,
        "--format",
        "csv",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let after = run_dir.measurements().unwrap();
    assert_eq!(after[..before.len()], before, "rows are kept");
    assert!(after.len() > before.len());
    let keys: BTreeSet<_> = after
        .iter()
        .map(|row| (row.cell.clone(), row.round, row.block, row.sample))
        .collect();
    assert_eq!(keys.len(), after.len(), "no visit was made twice");
    assert!(
        run_dir
            .cells()
            .unwrap()
            .iter()
            .all(|cell| is_final(cell) && cell.status == Status::Ok)
    );
    assert_eq!(stdout(&output).lines().count(), 3);
    assert_eq!(run_dir.session().unwrap().resumed, 1);
}

#[test]
fn an_interrupted_run_ends_with_130_and_goes_on() {
    stop_and_resume("INT", Some(130));
}

#[test]
fn a_killed_run_leaves_readable_rows_and_goes_on() {
    stop_and_resume("KILL", None);
}

#[test]
fn results_are_not_written_over_others() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("precious"), "x").unwrap();
    let out = dir.path().display().to_string();
    refused(["run", "--allow-debug", "--out", &out], 2, &[&out, "empty"]);
}
