//! Rows as CSV, JSON, Markdown or a table: the same words for every command.

use std::str::FromStr;

use serde_json::Value;
use trit_core::{Column, Columns, SummaryRow};

use crate::markdown::table_markdown;
use crate::table::terminal_table;

/// How rows are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns for people.
    #[default]
    Table,
    /// One line a row, all columns; missing quantities are empty.
    Csv,
    /// An array of objects, all columns; missing quantities are left out.
    Json,
    /// A Markdown table.
    Md,
}

/// A word that names no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown format `{0}`; hint: one of csv json md table")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "table" => Ok(Self::Table),
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            "md" => Ok(Self::Md),
            other => Err(UnknownFormat(other.to_owned())),
        }
    }
}

/// Rows in a format, ending with a newline unless empty.
pub fn render(rows: &[SummaryRow], format: Format) -> String {
    match format {
        Format::Table => terminal_table(rows),
        Format::Csv => csv(rows),
        Format::Json => json(rows),
        Format::Md => table_markdown(rows.iter()),
    }
}

fn csv(rows: &[SummaryRow]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let written = writer.write_record(SummaryRow::header()).and_then(|()| {
        rows.iter()
            .try_for_each(|row| writer.write_record(row.record()))
    });
    debug_assert!(written.is_ok(), "memory takes every record");
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn json(rows: &[SummaryRow]) -> String {
    let columns = SummaryRow::columns();
    let objects: Vec<Value> = rows
        .iter()
        .map(|row| {
            let fields = columns.iter().filter_map(|column| {
                let text = (column.write)(row);
                (!text.is_empty()).then(|| (column.name.to_owned(), value(column, text)))
            });
            Value::Object(fields.collect())
        })
        .collect();
    // Strings, numbers and objects of them always serialise.
    let text = serde_json::to_string_pretty(&objects).unwrap_or_default();
    text + "\n"
}

/// A number where the column holds numbers, text elsewhere.
fn value(column: &Column<SummaryRow>, text: String) -> Value {
    let holds_text = (column.read)(&mut SummaryRow::default(), "word").is_ok();
    if holds_text {
        return Value::String(text);
    }
    if let Ok(whole) = text.parse::<u64>() {
        return whole.into();
    }
    match text.parse::<f64>() {
        Ok(number) => number.into(),
        Err(_) => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trit_core::{Cell, Results};

    fn rows() -> Vec<SummaryRow> {
        vec![SummaryRow {
            cell: Cell {
                cell: "c0".into(),
                reason: "said \"no\", twice".into(),
                kernel: "7".into(),
                rows: Some(2560),
                ..Cell::default()
            },
            results: Results {
                n: Some(12),
                median_ns: Some(1.5),
                ..Results::default()
            },
        }]
    }

    #[test]
    fn csv_reads_back() {
        let text = render(&rows(), Format::Csv);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header: Vec<String> = reader
            .headers()
            .unwrap()
            .iter()
            .map(str::to_owned)
            .collect();
        assert_eq!(header, SummaryRow::header());
        let record: Vec<String> = reader
            .records()
            .next()
            .unwrap()
            .unwrap()
            .iter()
            .map(str::to_owned)
            .collect();
        assert_eq!(record, rows()[0].record());
    }

    #[test]
    fn json_has_numbers_and_no_missing_quantity() {
        let value: Value = serde_json::from_str(&render(&rows(), Format::Json)).unwrap();
        assert_eq!(value[0]["rows"], 2560);
        assert_eq!(value[0]["median_ns"], 1.5);
        assert_eq!(value[0]["kernel"], "7");
        assert_eq!(value[0]["status"], "ok");
        assert_eq!(value[0]["reason"], "said \"no\", twice");
        assert_eq!(value[0].get("gops"), None);
        assert_eq!(render(&[], Format::Json), "[]\n");
    }

    #[test]
    fn words_and_formats() {
        assert_eq!("md".parse(), Ok(Format::Md));
        let error = "xml".parse::<Format>().unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown format `xml`; hint: one of csv json md table"
        );
    }
}
