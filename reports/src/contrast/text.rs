//! A comparison as text.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Contrast;
use crate::Format;
use crate::document::table;
use crate::table::plain_table;
use crate::units::{show_bytes, show_ns, three};

fn show(measure: &str, value: f64) -> String {
    if measure.ends_with("_ns") {
        show_ns(value)
    } else if measure.ends_with("_bytes") {
        show_bytes(value)
    } else {
        three(value)
    }
}

/// A comparison in a format, ending with a newline. Notes are part of it only for people.
pub fn contrast_text(contrast: &Contrast, format: Format) -> String {
    match format {
        Format::Csv => csv_text(contrast),
        Format::Json => {
            // Strings, numbers and objects of them always serialise.
            serde_json::to_string_pretty(&json_value(contrast)).unwrap_or_default() + "\n"
        }
        Format::Table | Format::Md => for_people(contrast, format),
    }
}

fn for_people(contrast: &Contrast, format: Format) -> String {
    let between = |(lo, hi): (f64, f64)| format!("{} to {}", three(lo), three(hi));
    // Names of columns may be as long as paths: short ones stand in the head, and are told below.
    let long = contrast.cols.iter().any(|name| name.chars().count() > 24);
    let name = |i: usize| {
        if long {
            // Letters, then numbers for whoever compares more than 26.
            u8::try_from(i)
                .ok()
                .filter(|i| *i < 26)
                .map_or_else(|| format!("#{i}"), |i| char::from(b'A' + i).to_string())
        } else {
            contrast.cols[i].clone()
        }
    };
    let mut header = vec!["cell".to_owned()];
    for i in 0..contrast.cols.len() {
        header.push(format!("{}:", name(i)));
        if i > 0 {
            header.push(format!("{} / {}:", name(i), name(0)));
            header.push("95 %:".to_owned());
        }
    }
    let mut rows: Vec<Vec<String>> = contrast
        .rows
        .iter()
        .map(|row| {
            let mut fields = vec![row.label.clone()];
            for (i, entry) in row.entries.iter().enumerate() {
                let entry = entry.as_ref();
                fields.push(
                    entry.map_or_else(String::new, |entry| show(&contrast.measure, entry.value)),
                );
                if i > 0 {
                    let ratio = entry.and_then(|entry| entry.ratio);
                    fields.push(ratio.map_or_else(String::new, three));
                    let interval = entry.and_then(|entry| entry.ratio_interval);
                    fields.push(interval.map_or_else(String::new, between));
                }
            }
            fields
        })
        .collect();
    if contrast.rows.len() > 1 {
        let mut fields = vec!["geometric mean".to_owned()];
        for (i, mean) in contrast.means.iter().enumerate() {
            fields.push(String::new());
            if i > 0 {
                fields.push(mean.map_or_else(String::new, |mean| three(mean.mean)));
                let interval = mean.and_then(|mean| mean.interval);
                fields.push(interval.map_or_else(String::new, |i| between((i.lo, i.hi))));
            }
        }
        rows.push(fields);
    }
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut text = if format == Format::Md {
        table(&header, &rows)
    } else {
        plain_table(&header, &rows)
    };
    text.push('\n');
    let mut lines = Vec::new();
    if long {
        for (i, col) in contrast.cols.iter().enumerate() {
            lines.push(format!("{}: {} {col}", name(i), contrast.col));
        }
    }
    lines.push(format!("compared: {}", contrast.measure));
    lines.extend(contrast.notes.iter().cloned());
    for line in lines {
        let _infallible = writeln!(text, "- {}", line.replace(['\n', '\r'], " "));
    }
    text
}

fn csv_text(contrast: &Contrast) -> String {
    let keys: Vec<&str> = contrast
        .rows
        .first()
        .map(|row| row.keys.iter().map(|(key, _)| key.as_str()).collect())
        .unwrap_or_default();
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut header: Vec<&str> = keys.clone();
    header.extend([
        contrast.col.as_str(),
        "measure",
        "value",
        "lo",
        "hi",
        "cells",
        "base",
        "ratio",
        "ratio_lo",
        "ratio_hi",
    ]);
    // Writing into memory cannot fail, and every record has the fields of the header.
    let _ = writer.write_record(&header);
    for row in &contrast.rows {
        for (col, entry) in contrast.cols.iter().zip(&row.entries) {
            let Some(entry) = entry else { continue };
            let mut fields: Vec<String> = row.keys.iter().map(|(_, value)| value.clone()).collect();
            fields.extend([
                col.clone(),
                contrast.measure.clone(),
                number(Some(entry.value)),
                number(entry.interval.map(|i| i.0)),
                number(entry.interval.map(|i| i.1)),
                entry.cells.to_string(),
                contrast.cols[0].clone(),
                number(entry.ratio),
                number(entry.ratio_interval.map(|i| i.0)),
                number(entry.ratio_interval.map(|i| i.1)),
            ]);
            let _ = writer.write_record(&fields);
        }
    }
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn json_value(contrast: &Contrast) -> Value {
    let pair = |interval: Option<(f64, f64)>| interval.map(|(lo, hi)| json!([lo, hi]));
    let rows: Vec<Value> = contrast
        .rows
        .iter()
        .map(|row| {
            let keys: serde_json::Map<String, Value> = row
                .keys
                .iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(key, value)| (key.clone(), json!(value)))
                .collect();
            let entries: serde_json::Map<String, Value> = contrast
                .cols
                .iter()
                .zip(&row.entries)
                .filter_map(|(col, entry)| {
                    let entry = entry.as_ref()?;
                    Some((
                        col.clone(),
                        json!({
                            "value": entry.value,
                            "interval": pair(entry.interval),
                            "cells": entry.cells,
                            "ratio": entry.ratio,
                            "ratio_interval": pair(entry.ratio_interval),
                        }),
                    ))
                })
                .collect();
            json!({"label": row.label, "keys": keys, "columns": entries})
        })
        .collect();
    let means: serde_json::Map<String, Value> = contrast
        .cols
        .iter()
        .zip(&contrast.means)
        .filter_map(|(col, mean)| {
            let mean = mean.as_ref()?;
            let interval = pair(mean.interval.map(|i| (i.lo, i.hi)));
            Some((
                col.clone(),
                json!({"ratio": mean.mean, "interval": interval}),
            ))
        })
        .collect();
    json!({
        "measure": contrast.measure,
        "column": contrast.col,
        "base": contrast.cols[0],
        "rows": rows,
        "geometric_mean": means,
        "notes": contrast.notes,
    })
}
