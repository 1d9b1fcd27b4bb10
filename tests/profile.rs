//! `tritbench profile`: its parts add up to the whole, in every form of its output.

mod common;

use std::ffi::OsStr;
use std::fs;

use common::{refused, run, stderr, stdout};
use serde_json::Value;

const ARGUMENTS: [&str; 9] = [
    "profile",
    "--model",
    "synth:tiny",
    "--prompt-tokens",
    "9",
    "--gen-tokens",
    "5",
    "--no-limits",
    "--threads",
];

fn sum(rows: &[Value], column: &str) -> f64 {
    rows.iter().filter_map(|row| row[column].as_f64()).sum()
}

#[test]
fn parts_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("profile");
    for threads in ["1", "2"] {
        let out = out.join(threads);
        let more = [threads, "--format", "json", "--out"].map(OsStr::new);
        let arguments = ARGUMENTS.map(OsStr::new).into_iter().chain(more);
        let output = run(arguments.chain([out.as_os_str()]));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let rows: Vec<Value> = serde_json::from_str(&stdout(&output)).unwrap();
        for phase in ["prefill", "decode"] {
            let of_phase = |all: bool| -> Vec<Value> {
                let of = rows.iter().filter(|row| row["phase"] == phase);
                of.filter(|row| (row["role"] == "all") == all)
                    .cloned()
                    .collect()
            };
            let (parts, all) = (of_phase(false), of_phase(true));
            assert_eq!(all.len(), 1, "{phase}");
            for column in [
                "us_per_token",
                "wait_us_per_token",
                "mb_per_token",
                "percent",
            ] {
                let (parts, all) = (sum(&parts, column), sum(&all, column));
                // Every number is rounded to three digits behind the point.
                assert!(
                    (parts - all).abs() <= 0.01,
                    "{phase} {column}: {parts} {all}"
                );
            }
            assert!(sum(&all, "us_per_token") > 0.0, "{phase}");
            let roles: Vec<&str> = parts
                .iter()
                .map(|row| row["role"].as_str().unwrap())
                .collect();
            for role in [
                "qkv",
                "attention",
                "output",
                "gate-up",
                "down",
                "head",
                "norms",
            ] {
                assert!(roles.contains(&role), "{phase} has no {role}");
            }
            assert_eq!(roles.contains(&"sampling"), phase == "decode");
            if threads == "1" {
                let waited = sum(&all, "wait_us_per_token") / sum(&all, "us_per_token");
                // One thread waits for nobody; what is left is the way into a region and back.
                assert!(waited < 0.5, "{phase}: {waited}");
            }
        }
        // The same numbers layer by layer, and as stacks.
        let csv = fs::read_to_string(out.join("profile.csv")).unwrap();
        let mut kept = 0u64;
        for line in csv.lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            kept += fields[4].parse::<u64>().unwrap() + fields[5].parse::<u64>().unwrap();
        }
        let folded = fs::read_to_string(out.join("profile.folded")).unwrap();
        let stacks: u64 = folded
            .lines()
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
            .sum();
        assert_eq!(kept, stacks);
        assert!(folded.contains("decode;layer 00;down;work "), "{folded}");
        assert!(
            fs::read_to_string(out.join("profile.svg"))
                .unwrap()
                .contains("gate-up")
        );
        assert!(out.join("profile.png").is_file());
        zeros_add_up(&fs::read_to_string(out.join("zeros.csv")).unwrap());
        memory_adds_up(&fs::read_to_string(out.join("memory.csv")).unwrap());
        assert!(stderr(&output).contains("KV cache"), "{}", stderr(&output));
    }
    let taken = out.to_str().unwrap();
    let arguments = ARGUMENTS.into_iter().chain(["1", "--out", taken]);
    refused(arguments, 2, &["not empty", "--out"]);
}

/// Every token has the inputs of its layer counted, and a squared rectifier makes many of them zero.
fn zeros_add_up(csv: &str) {
    let rows: Vec<Vec<&str>> = csv
        .lines()
        .skip(1)
        .map(|line| line.split(',').collect())
        .collect();
    let number = |row: &[&str], column: usize| -> u64 {
        let number = row[column].parse();
        number.unwrap_or_else(|_| panic!("no number in column {column} of {row:?}"))
    };
    let codes = |phase: &str| -> Vec<u64> {
        let of_phase = rows.iter().filter(|row| row[0] == phase);
        of_phase.map(|row| number(row, 2)).collect()
    };
    let (prefill, decode) = (codes("prefill"), codes("decode"));
    assert!(
        !prefill.is_empty() && prefill.len() == decode.len(),
        "{csv}"
    );
    for (prefill, decode) in prefill.iter().zip(&decode) {
        assert_eq!(prefill * 5, decode * 9, "{csv}");
    }
    for row in &rows {
        assert!(number(row, 3) > number(row, 2) / 4, "{csv}");
        assert!(number(row, 5) <= number(row, 4), "{csv}");
    }
}

/// The sums of `memory.csv` are those of its parts, and what is needed is resident.
fn memory_adds_up(csv: &str) {
    let bytes = |wanted: &dyn Fn(&str, &str) -> bool| -> u64 {
        let of_line = |line: &str| {
            let fields: Vec<&str> = line.split(',').collect();
            wanted(fields[0], fields[1]).then(|| fields[2].parse::<u64>().unwrap_or(0))
        };
        csv.lines().skip(1).filter_map(of_line).sum()
    };
    let needed = bytes(&|kind, part| kind == "needed" && part == "all");
    assert_eq!(
        needed,
        bytes(&|kind, part| kind == "needed" && part != "all")
    );
    for part in [
        "qkv",
        "output",
        "gate-up",
        "down",
        "norms",
        "embedding",
        "KV cache",
        "buffers",
    ] {
        assert!(bytes(&|_, name| name == part) > 0, "{part}: {csv}");
    }
    let resident = bytes(&|kind, part| kind == "resident" && part == "all");
    let parts = ["anonymous", "of files", "shared"];
    let sum = bytes(&|kind, part| kind == "resident" && parts.contains(&part));
    assert_eq!(resident, sum, "{csv}");
    assert!(resident > needed, "{csv}");
}

#[test]
fn a_model_above_the_limit_is_refused_with_the_sum() {
    let with = |mb: &'static str| ARGUMENTS.into_iter().chain(["1", "--max-memory", mb]);
    refused(
        ["profile", "--model", "synth:125m", "--max-memory", "20"],
        5,
        &[
            "needs",
            "may have 20.0 MB",
            "gate-up",
            "embedding and head",
            "--max-memory",
        ],
    );
    // The whole model fits, with its cache and buffers.
    let output = run(with("100"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    refused(with("0"), 2, &["--max-memory"]);
}

#[test]
fn a_chunk_reads_the_weights_once() {
    let dir = tempfile::tempdir().unwrap();
    let read = |ubatch: &'static str| -> u64 {
        let out = dir.path().join(ubatch);
        let more = ["1", "--ubatch", ubatch, "--out", out.to_str().unwrap()];
        let output = run(ARGUMENTS.into_iter().chain(more));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let csv = fs::read_to_string(out.join("profile.csv")).unwrap();
        let rows = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
        rows.filter(|row| row[0] == "prefill" && row[3] == "qkv")
            .map(|row| row[6].parse::<u64>().unwrap())
            .sum()
    };
    // Nine tokens are chunks of 4, 4 and 1.
    let once = read("512");
    assert!(once > 0);
    assert_eq!(read("4"), 3 * once);
    refused(
        ARGUMENTS.into_iter().chain(["1", "--ubatch", "0"]),
        2,
        &["--ubatch"],
    );
}

#[test]
fn wrong_requests_are_refused() {
    refused(
        ["profile", "--model", "synth:none"],
        2,
        &["no shape `none`"],
    );
    refused(["profile", "--model", "no.gguf"], 1, &["no.gguf"]);
    refused(
        [
            "profile",
            "--model",
            "synth:tiny",
            "--gen-tokens",
            "9999999",
        ],
        2,
        &["context"],
    );
}
