//! JSON of Google Benchmark, schema version 1: a row a repetition, so that its `compare.py` can test the difference of two files.

use std::path::Path;

use serde_json::{Value, json};
use trit_core::{Cell, Measurement, Session, Status, Workload};

use super::{ExchangeError, Imported, Record, content, grouped, object, whole_ns};
use crate::markdown::ranked;
use crate::summary::{bytes_per_call, tokens_per_call};

fn context(session: &Session) -> Vec<(&'static str, Value)> {
    let at = |pointer: &str| session.machine.pointer(pointer).cloned();
    let caches: Vec<Value> = at("/caches")
        .as_ref()
        .and_then(Value::as_array)
        .map(|caches| {
            caches
                .iter()
                // The format has no word for "unknown".
                .filter_map(|cache| {
                    Some(json!({
                        "type": cache.get("kind")?,
                        "level": cache.get("level")?,
                        "size": cache.get("size_bytes")?,
                        "num_sharing": cache.get("cpus")?,
                    }))
                })
                .collect()
        })
        .unwrap_or_default();
    let mut fields = vec![
        ("date", json!(session.started_utc)),
        ("host_name", json!(session.host)),
        ("executable", json!("tritbench")),
    ];
    fields.extend(at("/cpu/threads").map(|threads| ("num_cpus", threads)));
    let mhz = at("/cpu/max_khz").and_then(|khz| khz.as_u64());
    fields.extend(mhz.map(|khz| ("mhz_per_cpu", json!(khz / 1000))));
    fields.extend([
        ("caches", json!(caches)),
        ("load_avg", json!([])),
        (
            "library_version",
            json!(format!("tritbench {}", session.version)),
        ),
        ("library_build_type", json!("release")),
        ("json_schema_version", json!(1)),
    ]);
    fields
}

/// A rate as its reader shows it: of a call that takes this long.
fn per_second(amount: f64, ns: f64) -> Value {
    json!(amount * 1e9 / ns)
}

pub(super) fn text(record: &Record<'_>) -> Option<String> {
    let mut lines = Vec::new();
    for (family, row) in record.rows.iter().filter(|row| ranked(row)).enumerate() {
        let cell = &row.cell;
        let slices = record.slices(cell);
        let tokens = tokens_per_call(cell);
        let bytes = bytes_per_call(cell).map(f64::round);
        for (i, slice) in slices.iter().enumerate() {
            let calls = slice.iterations as f64;
            let ns = slice.time_ns as f64 / calls;
            let mut fields = vec![
                ("name", json!(cell.cell)),
                ("family_index", json!(family)),
                ("per_family_instance_index", json!(0)),
                ("run_name", json!(cell.cell)),
                ("run_type", json!("iteration")),
                ("repetitions", json!(slices.len())),
                ("repetition_index", json!(i)),
                ("threads", json!(cell.threads.unwrap_or(1))),
                ("iterations", json!(slice.iterations)),
                ("real_time", json!(ns)),
            ];
            if let Some(user) = slice.user_ns {
                let cpu = user.saturating_add(slice.system_ns.unwrap_or(0));
                fields.push(("cpu_time", json!(cpu as f64 / calls)));
            }
            fields.push(("time_unit", json!("ns")));
            fields.extend(bytes.map(|bytes| ("bytes_per_second", per_second(bytes, ns))));
            fields.extend(tokens.map(|tokens| ("items_per_second", per_second(tokens, ns))));
            lines.push(format!("    {}", object(fields)));
        }
    }
    if lines.is_empty() {
        return None;
    }
    Some(format!(
        "{{\n  \"context\": {},\n  \"benchmarks\": [\n{}\n  ]\n}}\n",
        object(context(record.session)),
        lines.join(",\n")
    ))
}

/// Nanoseconds of a unit of time.
fn unit(name: &str) -> Option<f64> {
    match name {
        "ns" => Some(1.0),
        "us" => Some(1e3),
        "ms" => Some(1e6),
        "s" => Some(1e9),
        _ => None,
    }
}

fn session(context: &Value) -> Session {
    let text = |name: &str| context.get(name).and_then(Value::as_str).unwrap_or("");
    let number = |name: &str| context.get(name).and_then(Value::as_u64);
    let caches: Vec<Value> = context
        .get("caches")
        .and_then(Value::as_array)
        .map(|caches| {
            caches
                .iter()
                .filter(|cache| {
                    ["level", "size", "num_sharing"]
                        .iter()
                        .all(|name| cache.get(name).is_some_and(Value::is_u64))
                })
                .map(|cache| {
                    json!({
                        "kind": cache.get("type").and_then(Value::as_str).unwrap_or(""),
                        "level": cache.get("level"),
                        "size_bytes": cache.get("size"),
                        "cpus": cache.get("num_sharing"),
                    })
                })
                .collect()
        })
        .unwrap_or_default();
    let mut cpu = serde_json::Map::new();
    if let Some(threads) = number("num_cpus") {
        cpu.insert("threads".to_owned(), json!(threads));
    }
    if let Some(khz) = number("mhz_per_cpu").and_then(|mhz| mhz.checked_mul(1000)) {
        cpu.insert("max_khz".to_owned(), json!(khz));
    }
    let mut session = Session {
        host: text("host_name").to_owned(),
        // It writes the offset of UTC as +00:00.
        started_utc: text("date").replace("+00:00", "Z"),
        machine: json!({"cpu": cpu, "caches": caches}),
        ..Session::default()
    };
    for (name, what) in [
        ("library_build_type", "The library was built as"),
        ("library_version", "The version of the library is"),
        ("executable", "The program was"),
    ] {
        if !text(name).is_empty() {
            session.plan.notes.push(format!("{what} `{}`.", text(name)));
        }
    }
    if context.get("cpu_scaling_enabled") == Some(&json!(true)) {
        session
            .plan
            .notes
            .push("The clock of the processor was scaled while it was measured.".to_owned());
    }
    session
}

/// Reads the repetitions of a file; aggregates are left out.
pub(super) fn read(path: &Path, text: &str) -> Result<Imported, ExchangeError> {
    let all: Value = serde_json::from_str(text).map_err(|error| {
        content(
            path,
            format!("is not JSON: {error}; hint: a file of --benchmark_out_format=json; older versions of the library write NaN, which no JSON has"),
        )
    })?;
    let rows = all
        .get("benchmarks")
        .and_then(Value::as_array)
        .ok_or_else(|| {
            content(
                path,
                "has no list `benchmarks`; hint: a JSON file of Google Benchmark",
            )
        })?;
    let named = rows
        .iter()
        // Files before 1.5 have no run_type, and name aggregates by their ending alone.
        .filter(|row| row.get("run_type").and_then(Value::as_str) != Some("aggregate"))
        .enumerate()
        .map(|(i, row)| {
            let name = row.get("run_name").or_else(|| row.get("name"));
            let name = name.and_then(Value::as_str).filter(|name| !name.is_empty());
            name.map(|name| (name.to_owned(), row))
                .ok_or_else(|| content(path, format!("benchmark {i} has no name")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if named.is_empty() {
        return Err(content(
            path,
            "holds no repetition, only aggregates or nothing; hint: leave --benchmark_report_aggregates_only out",
        ));
    }
    let mut found = Imported {
        session: session(all.get("context").unwrap_or(&Value::Null)),
        ..Imported::default()
    };
    for (name, rows) in grouped(named) {
        let (cell, slices) = cell(path, &name, &rows)?;
        found.add(cell, slices);
    }
    Ok(found)
}

fn cell(
    path: &Path,
    name: &str,
    rows: &[&Value],
) -> Result<(Cell, Vec<Measurement>), ExchangeError> {
    let number = |row: &Value, key: &str| row.get(key).and_then(Value::as_f64);
    let mut cell = Cell {
        cell: name.to_owned(),
        subject: format!("program:{name}"),
        workload: Workload::Bench,
        threads: rows[0].get("threads").and_then(Value::as_u64),
        ..Cell::default()
    };
    let failed = rows.iter().find_map(|row| {
        let is = |key: &str| row.get(key).and_then(Value::as_bool) == Some(true);
        let message = |key: &str| {
            let text = row.get(key).and_then(Value::as_str).unwrap_or("no message");
            text.to_owned()
        };
        if is("error_occurred") {
            Some((Status::Failed, message("error_message")))
        } else if is("skipped") {
            Some((Status::Skipped, message("skip_message")))
        } else {
            None
        }
    });
    if let Some((status, reason)) = failed {
        (cell.status, cell.reason) = (status, reason);
        return Ok((cell, Vec::new()));
    }
    let mut slices = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let wrong = |key: &str, want: &str| {
            let value = row
                .get(key)
                .map_or_else(|| "missing".to_owned(), ToString::to_string);
            content(
                path,
                format!("benchmark `{name}`: `{key}` is {value}, and not {want}"),
            )
        };
        let scale = row
            .get("time_unit")
            .and_then(Value::as_str)
            .and_then(unit)
            .ok_or_else(|| wrong("time_unit", "ns, us, ms or s"))?;
        let iterations = row
            .get("iterations")
            .and_then(Value::as_u64)
            .filter(|count| *count > 0)
            .ok_or_else(|| wrong("iterations", "a whole number above 0"))?;
        let total = |key: &str| Some(number(row, key)? * scale * iterations as f64);
        let time_ns = total("real_time")
            .and_then(whole_ns)
            .ok_or_else(|| wrong("real_time", "a time above 0"))?;
        slices.push(Measurement {
            round: i as u64,
            block: i as u64,
            iterations,
            time_ns,
            user_ns: total("cpu_time").and_then(whole_ns),
            ..Measurement::default()
        });
    }
    let amount = |key: &str| amount(key, rows);
    cell.tokens = amount("items_per_second");
    cell.bytes_per_call = amount("bytes_per_second");
    Ok((cell, slices))
}

/// What one iteration processes, from a rate. Rates are over CPU time, or over real time for benchmarks that ask for it, which a
/// file does not say: the amount is the same in every repetition, so the time with which it comes out the same is the one.
fn amount(key: &str, rows: &[&Value]) -> Option<u64> {
    let number = |row: &Value, key: &str| row.get(key).and_then(Value::as_f64);
    let by = |time: &str| -> Option<(f64, f64)> {
        let amounts: Vec<f64> = rows
            .iter()
            .map(|row| {
                let scale = unit(row.get("time_unit")?.as_str()?)?;
                Some(number(row, key)? * number(row, time)? * scale / 1e9)
            })
            .collect::<Option<_>>()?;
        let (low, high) = amounts
            .iter()
            .fold((f64::INFINITY, 0.0_f64), |(low, high), amount| {
                (low.min(*amount), high.max(*amount))
            });
        let whole = low.round();
        // How far from one whole number all of them are.
        let off = (low - whole).abs().max((high - whole).abs()) / whole;
        Some((whole, off))
    };
    let (whole, off) = [by("real_time"), by("cpu_time")]
        .into_iter()
        .flatten()
        .filter(|(whole, off)| *whole >= 1.0 && off.is_finite())
        .min_by(|a, b| a.1.total_cmp(&b.1))?;
    (off < 1e-6).then_some(())?;
    whole_ns(whole)
}
