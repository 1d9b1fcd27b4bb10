//! The records of llama-bench: one object a test, with the fields of `llama-bench -o jsonl` in its order (llama.cpp of late 2026).
//!
//! A test is a prompt (`n_prompt`), a generation (`n_gen`) or both. What llama-bench says about its own options and this program
//! does not know is null. `backends` holds the kernel, so that the kernels of one model stay apart.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use trit_core::{Cell, Measurement, Session, Workload};

use super::{ExchangeError, Imported, Record, content, cpu_model, mean, object, whole_ns};
use crate::labels;
use crate::markdown::ranked;

/// What an imported test is called.
const SUBJECT: &str = "program:llama-bench";

/// Fields that only JSON has.
const SAMPLES: [&str; 2] = ["samples_ns", "samples_ts"];

/// A test with its fields in order.
type Test = Vec<(&'static str, Value)>;

/// Prompt tokens, generated tokens and the tokens before them, of one call; and calls of one slice for that.
fn shape(cell: &Cell, slices: &[&Measurement]) -> Option<(u64, u64, u64)> {
    let depth = cell.depth.unwrap_or(0);
    match cell.workload {
        Workload::Prefill => Some((cell.prompt_tokens?, 0, depth)),
        // The tokens of a slice: the first one of a request belongs to its prompt.
        Workload::Decode => Some((
            0,
            slices.first()?.iterations,
            depth.checked_add(cell.prompt_tokens.unwrap_or(0))?,
        )),
        Workload::Chat => Some((cell.prompt_tokens?, cell.gen_tokens?, depth)),
        _ => None,
    }
}

fn tests(record: &Record<'_>) -> Option<Vec<Test>> {
    let tests: Vec<Test> = record
        .rows
        .iter()
        // It has no test of several sequences.
        .filter(|row| ranked(row) && !row.cell.model.is_empty() && row.cell.batch.unwrap_or(1) == 1)
        .filter_map(|row| test(record, &row.cell))
        .collect();
    (!tests.is_empty()).then_some(tests)
}

fn test(record: &Record<'_>, cell: &Cell) -> Option<Test> {
    let slices = record.slices(cell);
    let (prompt, generated, depth) = shape(cell, &slices)?;
    let tokens = prompt + generated;
    let samples: Vec<u64> = slices
        .iter()
        .filter(|slice| slice.iterations > 0)
        .filter_map(|slice| {
            // A slice of decode is as many calls as it has tokens; all others are whole tests.
            let calls = if cell.workload == Workload::Decode {
                slice.iterations as f64 / generated as f64
            } else {
                slice.iterations as f64
            };
            whole_ns(slice.time_ns as f64 / calls)
        })
        .collect();
    let times: Vec<f64> = samples.iter().map(|ns| *ns as f64).collect();
    let rates: Vec<f64> = times.iter().map(|ns| tokens as f64 * 1e9 / ns).collect();
    let deviation = |values: &[f64]| trit_stats::standard_deviation(values);
    let whole = |value: Option<f64>| value.map(|ns| ns.round() as u64);
    let text = |text: &str| {
        Some(text)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let backends = match cell.subject.strip_prefix(SUBJECT) {
        Some(rest) => text(rest.trim_start_matches(':')).unwrap_or_else(|| "CPU".to_owned()),
        None => labels::subject(cell).to_owned(),
    };
    Some(vec![
        (
            "build_commit",
            json!(record.session.git_revision.as_deref().unwrap_or("unknown")),
        ),
        ("build_number", Value::Null),
        ("cpu_info", json!(cpu_model(record.session).unwrap_or(""))),
        ("gpu_info", json!("")),
        ("backends", json!(backends)),
        ("model_filename", json!(cell.model)),
        ("model_type", json!(labels::model(cell))),
        ("model_size", Value::Null),
        ("model_n_params", Value::Null),
        ("n_batch", json!(cell.ubatch)),
        ("n_ubatch", json!(cell.ubatch)),
        ("n_threads", json!(cell.threads)),
        ("cpu_mask", json!("0x0")),
        ("cpu_strict", json!(false)),
        ("poll", Value::Null),
        ("type_k", json!(text(&cell.kv))),
        ("type_v", json!(text(&cell.kv))),
        ("n_gpu_layers", json!(0)),
        ("n_cpu_moe", json!(0)),
        ("split_mode", json!("none")),
        ("main_gpu", json!(0)),
        ("no_kv_offload", json!(false)),
        ("flash_attn", Value::Null),
        ("devices", json!("none")),
        ("tensor_split", json!("0.00")),
        ("tensor_buft_overrides", json!("none")),
        ("load_mode", Value::Null),
        ("lazy_mode", Value::Null),
        ("embeddings", json!(false)),
        ("no_op_offload", json!(0)),
        ("no_host", json!(false)),
        ("repack", Value::Null),
        ("fit_target", json!(0)),
        ("fit_min_ctx", json!(0)),
        ("n_prompt", json!(prompt)),
        ("n_gen", json!(generated)),
        ("n_depth", json!(depth)),
        ("test_time", json!(record.session.started_utc)),
        ("avg_ns", json!(whole(mean(&times)))),
        ("stddev_ns", json!(whole(deviation(&times)))),
        ("avg_ts", json!(mean(&rates))),
        ("stddev_ts", json!(deviation(&rates))),
        ("samples_ns", json!(samples)),
        ("samples_ts", json!(rates)),
    ])
}

/// One object a line.
pub(super) fn jsonl(record: &Record<'_>) -> Option<String> {
    Some(
        tests(record)?
            .into_iter()
            .map(|test| object(test) + "\n")
            .collect(),
    )
}

fn without_samples(tests: Vec<Test>) -> Vec<Test> {
    tests
        .into_iter()
        .map(|test| {
            test.into_iter()
                .filter(|(name, _)| !SAMPLES.contains(name))
                .collect()
        })
        .collect()
}

/// The text of a value in CSV and SQL: truth is 0 or 1 there.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(is) => u8::from(*is).to_string(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A head, then every value in quotes.
pub(super) fn csv(record: &Record<'_>) -> Option<String> {
    let tests = without_samples(tests(record)?);
    let head: Vec<&str> = tests.first()?.iter().map(|(name, _)| *name).collect();
    let lines = tests.iter().map(|test| {
        let fields: Vec<String> = test
            .iter()
            .map(|(_, value)| format!("\"{}\"", plain(value).replace('"', "\"\"")))
            .collect();
        fields.join(",") + "\n"
    });
    Some(head.join(",") + "\n" + &lines.collect::<String>())
}

/// A table and a row a test. Quotes in names are doubled, which the original leaves out, and what is missing is NULL.
pub(super) fn sql(record: &Record<'_>) -> Option<String> {
    let tests = without_samples(tests(record)?);
    let kind = |name: &str| match name {
        "avg_ts" | "stddev_ts" => "REAL",
        "build_number" | "model_size" | "model_n_params" | "n_batch" | "n_ubatch" | "n_threads"
        | "cpu_strict" | "poll" | "n_gpu_layers" | "n_cpu_moe" | "main_gpu" | "no_kv_offload"
        | "flash_attn" | "embeddings" | "no_op_offload" | "no_host" | "repack" | "fit_target"
        | "fit_min_ctx" | "n_prompt" | "n_gen" | "n_depth" | "avg_ns" | "stddev_ns" => "INTEGER",
        _ => "TEXT",
    };
    let names: Vec<&str> = tests.first()?.iter().map(|(name, _)| *name).collect();
    let columns: Vec<String> = names
        .iter()
        .map(|name| format!("  {name} {}", kind(name)))
        .collect();
    let rows = tests.iter().map(|test| {
        let values: Vec<String> = test
            .iter()
            .map(|(_, value)| match value {
                Value::Null => "NULL".to_owned(),
                value => format!("'{}'", plain(value).replace('\'', "''")),
            })
            .collect();
        format!(
            "INSERT INTO llama_bench ({}) VALUES ({});\n",
            names.join(", "),
            values.join(", ")
        )
    });
    Some(format!(
        "CREATE TABLE IF NOT EXISTS llama_bench (\n{}\n);\n\n{}",
        columns.join(",\n"),
        rows.collect::<String>()
    ))
}

/// Fields that are keys of a cell, outcomes, or say who and when; all others are options, which tell tests apart where they vary.
const KNOWN: [&str; 22] = [
    "build_commit",
    "build_number",
    "cpu_info",
    "gpu_info",
    "backends",
    "model_filename",
    "model_type",
    "model_size",
    "model_n_params",
    "n_ubatch",
    "n_threads",
    "type_k",
    "n_prompt",
    "n_gen",
    "n_depth",
    "test_time",
    "avg_ns",
    "stddev_ns",
    "avg_ts",
    "stddev_ts",
    "samples_ns",
    "samples_ts",
];

/// Reads lines of objects, or an array of them.
pub(super) fn read(path: &Path, text: &str) -> Result<Imported, ExchangeError> {
    let tests: Vec<(usize, Value)> = if text.trim_start().starts_with('[') {
        let all: Vec<Value> = serde_json::from_str(text)
            .map_err(|error| content(path, format!("is not JSON of llama-bench: {error}")))?;
        all.into_iter().map(|test| (1, test)).collect()
    } else {
        text.lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(i, line)| match serde_json::from_str(line) {
                Ok(test) => Ok((i + 1, test)),
                Err(error) => Err(content(
                    path,
                    format!("line {}: is not a JSON object: {error}; hint: a file of llama-bench -o jsonl", i + 1),
                )),
            })
            .collect::<Result<_, _>>()?
    };
    if tests.is_empty() {
        return Err(content(
            path,
            "holds no test; hint: a file of llama-bench -o jsonl",
        ));
    }
    let options = varying(&tests);
    let mut found = Imported {
        session: session(&tests),
        ..Imported::default()
    };
    for (line, test) in &tests {
        let (cell, slices) = cell(path, *line, test, &options)?;
        found.add(cell, slices);
    }
    Ok(found)
}

fn text_of<'a>(test: &'a Value, name: &str) -> &'a str {
    test.get(name).and_then(Value::as_str).unwrap_or("")
}

/// Options whose values differ within the file.
fn varying(tests: &[(usize, Value)]) -> Vec<String> {
    let names: BTreeSet<&String> = tests
        .iter()
        .filter_map(|(_, test)| test.as_object())
        .flat_map(|test| test.keys())
        .filter(|name| !KNOWN.contains(&name.as_str()))
        .collect();
    names
        .into_iter()
        .filter(|name| {
            let values: BTreeSet<String> = tests
                .iter()
                .map(|(_, test)| test.get(name.as_str()).map_or_else(String::new, plain))
                .collect();
            values.len() > 1
        })
        .cloned()
        .collect()
}

fn session(tests: &[(usize, Value)]) -> Session {
    let of = |name: &str| -> Vec<&str> {
        let mut values: Vec<&str> = tests
            .iter()
            .map(|(_, test)| text_of(test, name))
            .filter(|text| !text.is_empty())
            .collect();
        values.sort_unstable();
        values.dedup();
        values
    };
    // One revision and one processor, or none that could be told.
    let only = |values: Vec<&str>| match values.as_slice() {
        [one] => Some((*one).to_owned()),
        _ => None,
    };
    Session {
        git_revision: only(of("build_commit")).filter(|commit| commit != "unknown"),
        started_utc: of("test_time")
            .first()
            .map_or_else(String::new, |time| (*time).to_owned()),
        machine: only(of("cpu_info")).map_or(Value::Null, |model| json!({"cpu": {"model": model}})),
        ..Session::default()
    }
}

fn cell(
    path: &Path,
    line: usize,
    test: &Value,
    options: &[String],
) -> Result<(Cell, Vec<Measurement>), ExchangeError> {
    let wrong = |name: &str, want: &str| {
        let value = test
            .get(name)
            .map_or_else(|| "missing".to_owned(), ToString::to_string);
        content(
            path,
            format!("line {line}: `{name}` is {value}, and not {want}"),
        )
    };
    let count = |name: &str| {
        test.get(name)
            .and_then(Value::as_u64)
            .ok_or_else(|| wrong(name, "a whole number"))
    };
    let (prompt, generated) = (count("n_prompt")?, count("n_gen")?);
    let workload = match (prompt, generated) {
        (0, 0) => return Err(wrong("n_gen", "above 0, nor is n_prompt")),
        (_, 0) => Workload::Prefill,
        (0, _) => Workload::Decode,
        _ => Workload::Chat,
    };
    // Versions before 2025-05 had no depth.
    let depth = if test.get("n_depth").is_some() {
        count("n_depth")?
    } else {
        0
    };
    let optional = |name: &str| match test.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => count(name).map(Some),
    };
    let (threads, ubatch) = (optional("n_threads")?, optional("n_ubatch")?);
    let model = text_of(test, "model_filename");
    if model.is_empty() {
        return Err(wrong("model_filename", "a name"));
    }
    let samples = test
        .get("samples_ns")
        .and_then(Value::as_array)
        .filter(|samples| !samples.is_empty())
        .ok_or_else(|| wrong("samples_ns", "a list of times; hint: -o jsonl has them"))?;
    let mut slices = Vec::new();
    for (i, sample) in samples.iter().enumerate() {
        let time_ns = sample
            .as_f64()
            .and_then(whole_ns)
            .ok_or_else(|| wrong("samples_ns", "a list of times above 0"))?;
        slices.push(Measurement {
            round: i as u64,
            block: i as u64,
            iterations: if workload == Workload::Decode {
                generated
            } else {
                1
            },
            time_ns,
            ..Measurement::default()
        });
    }
    let mut subject = SUBJECT.to_owned();
    let backends = text_of(test, "backends");
    if !["", "CPU"].contains(&backends) {
        subject = format!("{subject}:{backends}");
    }
    let mut names = vec![subject.clone()];
    for name in options {
        let value = test.get(name.as_str()).map_or_else(String::new, plain);
        subject = format!("{subject} {name}={value}");
        names.push(format!("{name}={value}"));
    }
    names.extend([workload.to_string(), model.to_owned()]);
    for (name, value) in [("p", prompt), ("g", generated), ("d", depth)] {
        if value > 0 {
            names.push(format!("{name}{value}"));
        }
    }
    names.extend(ubatch.map(|ubatch| format!("u{ubatch}")));
    names.extend(threads.map(|threads| format!("t{threads}")));
    let cell = Cell {
        cell: names.join("/"),
        subject,
        model: model.to_owned(),
        workload,
        threads,
        kv: text_of(test, "type_k").to_owned(),
        prompt_tokens: (prompt > 0).then_some(prompt),
        gen_tokens: (generated > 0).then_some(generated),
        depth: Some(depth),
        batch: Some(1),
        ubatch,
        ..Cell::default()
    };
    Ok((cell, slices))
}
