//! `tritbench tune`, and who reads what it leaves.

mod common;

use std::fs;

use common::{check_refused, path, run, stderr, stdout, tritbench};

/// Two kernels, one of which is far slower, on one thread.
const SUITE: &str = r#"
[suite]
name = "small"
description = "Two scalar kernels"
budget = "2s"

[[micro]]
workloads = ["gemm"]
kernels = ["w2a8-naive-scalar", "w2a8-swar-scalar"]
shapes = ["64x256", "256x64"]
tokens = [2]
threads = [1]
"#;

#[test]
fn the_table_is_made_kept_shown_and_used() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(place("small.toml"), SUITE).unwrap();
    let cached = |arguments: &[&str]| {
        tritbench(arguments)
            .env("XDG_CACHE_HOME", place("cache"))
            .output()
            .unwrap()
    };
    let suite = place("small.toml");
    let out = place("run");
    let output = cached(&[
        "tune",
        &suite,
        "--allow-debug",
        "--out",
        &out,
        "--format",
        "csv",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let table = stdout(&output);
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(
        table.starts_with("rows,k,tokens,threads,fastest,time_ns,next,times_slower\n"),
        "{table}"
    );
    assert!(table.contains("\n64,256,2,1,w2a8-swar-scalar,"), "{table}");
    // What was kept is what is shown, and what is made again from the run.
    let shown = cached(&["tune", "--show", "--format", "csv"]);
    assert_eq!(stdout(&shown), table, "{}", stderr(&shown));
    let file = place("again.json");
    let again = cached(&["tune", "--from", &out, "--file", &file, "--format", "csv"]);
    assert_eq!(stdout(&again), table, "{}", stderr(&again));
    let kept = fs::read_dir(dir.path().join("cache/tritbench"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(fs::read(kept.path()).unwrap(), fs::read(&file).unwrap());

    // The engine takes the kernel that the table prefers, from the cache or from a file; `off` takes the order of the registry.
    let model = path("tests/golden/bitnet-tiny/model-i2_s.gguf");
    let generate = |more: &[&str]| {
        let mut arguments = vec![
            "generate",
            "--model",
            model.to_str().unwrap(),
            "--prompt",
            "a",
            "--max-tokens",
            "1",
        ];
        arguments.extend(more);
        let output = cached(&arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stderr(&output)
    };
    assert!(
        generate(&[]).contains("w2a8-swar-scalar"),
        "{}",
        generate(&[])
    );
    let swapped = fs::read_to_string(&file)
        .unwrap()
        .replace("w2a8-naive-scalar", "x")
        .replace("w2a8-swar-scalar", "w2a8-naive-scalar")
        .replace("\"x\"", "\"w2a8-swar-scalar\"");
    fs::write(&file, swapped).unwrap();
    assert!(generate(&["--tune", &file]).contains("w2a8-naive-scalar"));
    if trit_kernels::best(trit_kernel::Cpu::uncapped(), 1, None)
        .info
        .id
        != "w2a8-swar-scalar"
    {
        assert!(!generate(&["--tune", "off"]).contains("-scalar"));
    }

    // A broken table is not passed over in silence; one of another version is, with a word.
    let text = fs::read_to_string(kept.path()).unwrap();
    fs::write(kept.path(), text.replace("\"schema\": 1", "\"schema\": 9")).unwrap();
    check_refused(
        tritbench([
            "generate",
            "--model",
            model.to_str().unwrap(),
            "--prompt",
            "a",
        ])
        .env("XDG_CACHE_HOME", place("cache")),
        5,
        &["tune-", "schema 9", "tritbench tune"],
    );
    let other = text.replace(
        &format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION")),
        "\"version\": \"0.0.0\"",
    );
    assert_ne!(other, text);
    fs::write(kept.path(), other).unwrap();
    assert!(generate(&[]).contains("measured by another version"));
}

#[test]
fn what_cannot_be_a_table_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.json");
    let refused = |text: &[u8], words: &[&str]| {
        fs::write(&file, text).unwrap();
        check_refused(
            &mut tritbench(["tune", "--show", "--file", file.to_str().unwrap()]),
            5,
            words,
        );
    };
    refused(b"", &["t.json", "EOF"]);
    refused(b"\xff\xfe", &["t.json", "UTF-8"]);
    refused(
        br#"{"schema":1,"version":"","machine":"","times":[{"kernel":"w2a8-naive-scalar","rows":0,"k":1,"tokens":1,"threads":1,"time_ns":1.0}]}"#,
        &["times[0].rows", "0"],
    );
    refused(
        br#"{"schema":1,"version":"","machine":"","times":[{"kernel":"w2a8-naive-scalar","rows":1,"k":1,"tokens":1,"threads":1,"time_ns":-1.0}]}"#,
        &["times[0].time_ns", "-1"],
    );
    // No cell of this run counts.
    let suite = dir.path().join("warm.toml");
    fs::write(
        &suite,
        SUITE
            .replace("\"gemm\"", "\"gemv-warm\"")
            .replace("tokens = [2]\n", ""),
    )
    .unwrap();
    let out = dir.path().join("run");
    let output = run([
        "tune",
        suite.to_str().unwrap(),
        "--allow-debug",
        "--budget",
        "1s",
        "--out",
        out.to_str().unwrap(),
        "--file",
        file.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(5));
    assert!(
        stderr(&output).contains("no verified gemv-cold or gemm cell"),
        "{}",
        stderr(&output)
    );
}
