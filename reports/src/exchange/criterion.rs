//! Directories of criterion 0.5 and later: `<group>/<function>/<value>/new/{benchmark,sample}.json`. Its authors call these files
//! private, so everything that is not needed is left alone.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use trit_core::{Cell, Measurement, Workload};

use super::{ExchangeError, Imported, content, text, whole_ns};

/// Groups, functions and values make four levels with `new`.
const DEEPEST: usize = 8;
/// More entries than any project has.
const MOST_ENTRIES: usize = 1_000_000;

#[derive(Deserialize)]
struct Benchmark {
    full_id: String,
    #[serde(default)]
    throughput: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Sample {
    iters: Vec<f64>,
    times: Vec<f64>,
}

/// Directories named `new` with a sample in them, in the order of their names.
fn samples(path: &Path) -> Result<Vec<PathBuf>, ExchangeError> {
    let mut found = Vec::new();
    let mut open = vec![(path.to_owned(), 0)];
    let mut seen = 0;
    while let Some((dir, depth)) = open.pop() {
        let io = |source| ExchangeError::Io {
            path: dir.clone(),
            source,
        };
        if dir.file_name().is_some_and(|name| name == "new") && dir.join("sample.json").is_file() {
            found.push(dir);
            continue;
        }
        for entry in fs::read_dir(&dir).map_err(io)? {
            let entry = entry.map_err(io)?;
            seen += 1;
            if seen > MOST_ENTRIES {
                return Err(content(
                    path,
                    "holds too many files; hint: name target/criterion",
                ));
            }
            // Links are not followed: they could go round in circles.
            if depth < DEEPEST && entry.file_type().map_err(io)?.is_dir() {
                open.push((entry.path(), depth + 1));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn parse<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, ExchangeError> {
    serde_json::from_str(&text(path)?).map_err(|error| {
        content(
            path,
            format!("cannot be read: {error}; hint: files of criterion 0.5 to 0.8 are known"),
        )
    })
}

/// Reads the latest samples of every benchmark under a directory.
pub(super) fn read(path: &Path) -> Result<Imported, ExchangeError> {
    let mut found = Imported::default();
    for dir in samples(path)? {
        let benchmark: Benchmark = parse(&dir.join("benchmark.json"))?;
        let place = dir.join("sample.json");
        let sample: Sample = parse(&place)?;
        if sample.iters.len() != sample.times.len() || sample.iters.is_empty() {
            return Err(content(
                &place,
                format!(
                    "has {} iters and {} times",
                    sample.iters.len(),
                    sample.times.len()
                ),
            ));
        }
        let mut slices = Vec::new();
        for (i, (iterations, time)) in sample.iters.iter().zip(&sample.times).enumerate() {
            let (Some(iterations), Some(time_ns)) = (whole_ns(*iterations), whole_ns(*time)) else {
                return Err(content(
                    &place,
                    format!("sample {i} takes {time} ns for {iterations} iterations"),
                ));
            };
            slices.push(Measurement {
                round: i as u64,
                block: i as u64,
                iterations,
                time_ns,
                ..Measurement::default()
            });
        }
        let amount = |name: &str| benchmark.throughput.as_ref()?.get(name)?.as_u64();
        let both = |name: &str| {
            let both = benchmark.throughput.as_ref()?.get("ElementsAndBytes")?;
            both.get(name)?.as_u64()
        };
        let cell = Cell {
            cell: benchmark.full_id.clone(),
            subject: format!("program:{}", benchmark.full_id),
            workload: Workload::Bench,
            tokens: amount("Elements").or_else(|| both("elements")),
            bytes_per_call: amount("Bytes")
                .or_else(|| amount("BytesDecimal"))
                .or_else(|| both("bytes")),
            ..Cell::default()
        };
        found.add(cell, slices);
    }
    if found.cells.is_empty() {
        return Err(content(
            path,
            "has no directory new/ with a sample.json; hint: target/criterion after cargo bench",
        ));
    }
    Ok(found)
}
