//! `tritbench eval`: kernels lose nothing, lossy options are rows with what they cost, and both are in the record.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::path::Path;

use common::{path, refused, run, stderr, stdout};
use serde_json::Value;

/// A text of the repository that the built-in model was not trained on; its beginning is enough.
fn text() -> String {
    path("harness/METHODOLOGY.md").to_str().unwrap().to_owned()
}

fn eval(dir: &Path, more: &[&str]) -> Vec<Value> {
    let dir = dir.to_str().unwrap();
    let mut arguments = vec!["eval", "--format", "json", "--threads", "2", "--out", dir];
    arguments.extend(more);
    let output = run(arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// The values of a metric, by configuration, in order.
fn values(rows: &[Value], metric: &str) -> Vec<(String, f64)> {
    rows.iter()
        .filter(|row| row["metric"] == metric)
        .map(|row| {
            let config = row["config"].as_str().unwrap().to_owned();
            (config, row["value"].as_f64().unwrap())
        })
        .collect()
}

#[test]
fn kernels_are_lossless_and_everything_else_is_a_row_with_its_price() {
    let dir = tempfile::tempdir().unwrap();
    let rows = eval(
        dir.path(),
        &[
            "--text",
            &text(),
            "--limit",
            "600",
            "--window",
            "128",
            "--sweep",
            "--no-speed",
        ],
    );
    let perplexity = values(&rows, "perplexity");
    let identical = values(&rows, "identical_logits");
    let kernels: Vec<&(String, f64)> = identical
        .iter()
        .filter(|(config, _)| config.ends_with("head f16, kv f16") && !config.starts_with("float"))
        .collect();
    assert!(kernels.len() >= 2, "{identical:?}");
    for (config, share) in kernels {
        assert!(share.to_bits() == 1f64.to_bits(), "{config} changed logits");
        let of = |name: &str| {
            perplexity
                .iter()
                .find(|(config, _)| config == name)
                .unwrap()
                .1
        };
        assert_eq!(of(config).to_bits(), perplexity[0].1.to_bits(), "{config}");
    }
    // Halves hold the head of this model exactly; the rest loses something, and less than a tenth of the perplexity.
    let divergence = values(&rows, "kl_divergence");
    for (part, lossy) in [
        ("head f32, kv f16", false),
        ("head i8,", true),
        ("head q6_k,", true),
        ("head q4_0, kv f16", true),
        ("head f16, kv i8", true),
        ("float activations", true),
    ] {
        let (config, value) = divergence
            .iter()
            .find(|(config, _)| config.contains(part))
            .unwrap();
        assert!((*value > 0.0) == lossy && *value < 0.1, "{config}: {value}");
        let own = perplexity
            .iter()
            .find(|(other, _)| other == config)
            .unwrap()
            .1;
        assert!((own / perplexity[0].1 - 1.0).abs() < 0.1, "{config}: {own}");
    }
    let of = |part: &str| {
        divergence
            .iter()
            .find(|(config, _)| config.contains(part))
            .unwrap()
            .1
    };
    assert!(of("head q6_k,") < of("head q4_0, kv f16"), "{divergence:?}");

    // The record has what was printed, and more evaluations go into the same file.
    let csv = fs::read_to_string(dir.path().join("eval.csv")).unwrap();
    assert_eq!(csv.lines().count(), rows.len() + 1);
    assert!(csv.contains("text:METHODOLOGY.md,"));
    for chart in ["charts/quality.svg", "charts/quality.png"] {
        assert!(dir.path().join(chart).is_file(), "{chart}");
    }
    let more = eval(
        dir.path(),
        &["--text", &text(), "--limit", "300", "--window", "64"],
    );
    let csv = fs::read_to_string(dir.path().join("eval.csv")).unwrap();
    assert_eq!(csv.lines().count(), rows.len() + more.len() + 1);
    assert_eq!(values(&more, "decode_tokens_per_s").len(), 1);
}

#[test]
fn questions_are_answered_by_likelihood() {
    let dir = tempfile::tempdir().unwrap();
    let questions = dir.path().join("questions.jsonl");
    // The model has read one of each pair, and the other has its words in another order.
    let records = [
        r#"{"context":"ROMEO:\n","choices":["I will not be","be not will I"],"answer":0}"#,
        r#"{"context":"First Citizen:\nBefore we","choices":["proceed any further, hear me speak.","speak me hear, further any proceed."],"answer":"A"}"#,
        r#"{"context":"KING RICHARD III:\n","choices":["lord my, thank I you","I thank you, my lord"],"answer":1}"#,
    ];
    fs::write(&questions, records.join("\n")).unwrap();
    let task = format!("choices={}", questions.display());
    let out = dir.path().join("out");
    let rows = eval(&out, &["--task", &task, "--with", "head=i8", "--no-speed"]);
    let accuracy = values(&rows, "accuracy");
    assert_eq!(accuracy.len(), 2);
    assert!(accuracy.iter().all(|(_, share)| *share > 0.99), "{rows:?}");
    assert_eq!(values(&rows, "same_answer").len(), 1);
    let row = rows.iter().find(|row| row["metric"] == "accuracy").unwrap();
    let (lo, hi) = (row["lo"].as_f64().unwrap(), row["hi"].as_f64().unwrap());
    // Wilson's interval of 3 of 3.
    assert!((lo - 0.4385).abs() < 1e-3 && hi > 0.999, "{row}");
}

#[test]
fn what_cannot_be_evaluated_is_said() {
    let text = text();
    let dir = tempfile::tempdir().unwrap();
    let bad = dir.path().join("bad.jsonl");
    fs::write(&bad, "{\"context\":\"c\"}\n").unwrap();
    let bad = bad.display();
    refused(["eval"], 2, &["--text"]);
    for (arguments, code, words) in [
        (vec!["--text", "/no/such/file"], 1, vec!["/no/such/file"]),
        (
            vec!["--text", &text, "--with", "colour=red"],
            2,
            vec!["colour"],
        ),
        (
            vec!["--text", &text, "--with", "head=q3"],
            2,
            vec!["q3", "q4_0"],
        ),
        (
            vec!["--text", &text, "--window", "257"],
            2,
            vec!["--window", "256"],
        ),
        (vec!["--task", "chess=x"], 2, vec!["chess", "arc_easy"]),
        (
            vec!["--task", &format!("choices={bad}")],
            5,
            vec!["bad.jsonl:1", "choices"],
        ),
    ] {
        let all: Vec<&str> = std::iter::once("eval").chain(arguments).collect();
        refused(all, code, &words);
    }
    let out = dir.path().join("out");
    refused(
        [
            "eval",
            "--text",
            &text,
            "--stride",
            "65",
            "--window",
            "64",
            "--out",
            out.to_str().unwrap(),
        ],
        2,
        &["--stride", "64"],
    );
}
