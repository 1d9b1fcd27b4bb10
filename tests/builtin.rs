//! The trained model inside of the program: what it computes is pinned, and it has learned its text.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::process::Output;

use common::{path, refused, run, stderr, stdout};
use serde_json::Value;

/// The tokens of `PROMPT`, the one that starts a text in front.
const TOKENS: &str = "0,50,47,45,37,47,269,41,70,296,293,377,70,305,69";
const PROMPT: &str = "ROMEO:\nIf I profane";

fn golden(name: &str) -> String {
    fs::read_to_string(path("tests/golden/shakespeare").join(name)).unwrap()
}

/// Ids of the ternary kernels that run here.
fn kernels() -> Vec<String> {
    let output = run(["kernels", "--format", "json"]);
    let rows: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let ids: Vec<String> = rows
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["status"] == "available" && row["family"] != "dense")
        .map(|row| row["id"].as_str().unwrap().to_owned())
        .collect();
    assert!(ids.len() >= 2, "{rows}");
    ids
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    stdout(output)
}

#[test]
fn logits_are_the_pinned_ones_on_every_kernel() {
    let pinned = golden("logits.csv");
    for kernel in kernels() {
        let got = run(["logits", "--tokens", TOKENS, "--kernel", &kernel]);
        assert!(done(&got) == pinned, "logits of {kernel} differ");
    }
}

#[test]
fn every_kernel_writes_the_pinned_text() {
    let pinned = golden("greedy.txt");
    for kernel in kernels() {
        let got = run([
            "generate",
            "--prompt",
            PROMPT,
            "--max-tokens",
            "60",
            "--kernel",
            &kernel,
        ]);
        assert_eq!(done(&got), pinned, "{kernel}");
    }
}

#[test]
fn the_prompt_has_the_pinned_tokens() {
    let by_text = run(["generate", "--prompt", PROMPT, "--max-tokens", "8"]);
    let by_ids = run(["generate", "--tokens", TOKENS, "--max-tokens", "8"]);
    assert_eq!(done(&by_text), done(&by_ids));
}

/// Mean negative log-likelihood of a prompt of ids, in nats a token.
fn loss(tokens: &[usize]) -> f64 {
    let ids: Vec<String> = tokens.iter().map(ToString::to_string).collect();
    let output = run(["logits", "--all-positions", "--tokens", &ids.join(",")]);
    let mut logits: Vec<Vec<f64>> = vec![Vec::new(); tokens.len()];
    for line in done(&output).lines().skip(1) {
        let mut fields = line.split(',');
        let position: usize = fields.next().unwrap().parse().unwrap();
        logits[position].push(fields.nth(1).unwrap().parse().unwrap());
    }
    let nll = |(logits, next): (&Vec<f64>, &usize)| {
        logits.iter().map(|logit| logit.exp()).sum::<f64>().ln() - logits[*next]
    };
    logits.iter().zip(&tokens[1..]).map(nll).sum::<f64>() / (tokens.len() - 1) as f64
}

#[test]
fn it_has_learned_its_text() {
    let tokens: Vec<usize> = TOKENS.split(',').map(|id| id.parse().unwrap()).collect();
    let mut backwards = tokens.clone();
    backwards[1..].reverse();
    let (forwards, backwards) = (loss(&tokens), loss(&backwards));
    // A model that knows nothing needs ln 512 = 6.24 nats a token.
    assert!(forwards < 4.5, "{forwards}");
    assert!(backwards > forwards + 1.5, "{backwards} {forwards}");
}

#[test]
fn samples_depend_on_the_seed_alone_and_look_like_a_play() {
    let sample = |seed: &str, threads: &str| {
        done(&run([
            "generate",
            "--prompt",
            "ROMEO:",
            "--temperature",
            "0.8",
            "--max-tokens",
            "200",
            "--seed",
            seed,
            "--threads",
            threads,
        ]))
    };
    let one = sample("1", "1");
    assert_eq!(one, sample("1", "2"));
    assert_ne!(one, sample("2", "1"));
    let lines: Vec<&str> = one.lines().collect();
    assert!(lines.len() >= 4, "{one}");
    let common = ["the", "and", "to", "of", "I", "my", "you", "is", "a", "in"];
    let hits = one
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| common.contains(word))
        .count();
    assert!(hits >= 5, "{one}");
}

#[test]
fn it_is_a_model_like_any_other() {
    let output = run([
        "model",
        "inspect",
        "builtin:shakespeare",
        "--format",
        "json",
    ]);
    let seen: Value = serde_json::from_str(&done(&output)).unwrap();
    let digest = seen["sha256"].as_str().unwrap();
    let card = fs::read_to_string(path("harness/engine/assets/README.md")).unwrap();
    assert!(card.contains(digest), "the card is of another model");
    let file = path("harness/engine/assets/shakespeare.gguf");
    let file = file.to_str().unwrap();
    let by_file = run(["logits", "--model", file, "--tokens", TOKENS]);
    assert_eq!(done(&by_file), golden("logits.csv"));
    refused(
        ["logits", "--model", "builtin:milton", "--tokens", "1"],
        2,
        &["builtin:milton", "builtin:shakespeare"],
    );
    // Longer than its context of 256 tokens.
    refused(
        ["generate", "--prompt", PROMPT, "--max-tokens", "300"],
        2,
        &["256"],
    );
}

#[test]
fn packed_weights_are_kept_and_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("packed");
    let mut kept = 0;
    for kernel in kernels() {
        let once = || {
            let model = path("harness/engine/assets/shakespeare.gguf");
            let cache = ["--packed-cache", cache.to_str().unwrap()];
            let asked = ["logits", "--model", model.to_str().unwrap()];
            let given = ["--tokens", TOKENS, "--kernel", &kernel];
            run(asked.into_iter().chain(cache).chain(given))
        };
        let (first, second) = (once(), once());
        assert!(done(&first) == done(&second), "logits of {kernel} differ");
        kept += usize::from(stderr(&first).contains("kept the packed weights"));
        assert!(
            !stderr(&second).contains("packed weights"),
            "{kernel}: {}",
            stderr(&second)
        );
    }
    let files = fs::read_dir(&cache).map_or(0, Iterator::count);
    assert_eq!(
        files, kept,
        "a file for each layout that is not the file's own"
    );
}
