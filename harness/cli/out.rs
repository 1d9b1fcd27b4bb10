//! Data goes to stdout through a writer that can fail; talk goes to stderr.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::args::Format;
use crate::exit::Failure;

/// Standard output. A closed pipe becomes [`Failure::StdoutClosed`].
pub(crate) struct Out {
    stdout: io::StdoutLock<'static>,
}

impl Out {
    /// Locks standard output.
    pub(crate) fn new() -> Self {
        Self {
            stdout: io::stdout().lock(),
        }
    }

    /// Writes text and hands it on at once.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.stdout
            .write_all(text.as_bytes())
            .and_then(|()| self.stdout.flush())
            .map_err(|error| stdout_failure(&error))
    }

    /// A buffered writer for long data; pass its errors to [`stdout_failure`].
    pub(crate) fn writer(&mut self) -> io::BufWriter<&mut io::StdoutLock<'static>> {
        io::BufWriter::new(&mut self.stdout)
    }

    /// The writer itself; pass its errors to [`stdout_failure`].
    pub(crate) fn raw(&mut self) -> &mut io::StdoutLock<'static> {
        &mut self.stdout
    }
}

/// What an error of a write to stdout means.
pub(crate) fn stdout_failure(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::StdoutClosed
    } else {
        Failure::failed(anyhow::anyhow!("cannot write to standard output: {error}"))
    }
}

/// Says something on stderr. A closed stderr is nobody's loss.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether stderr is a terminal that may be redrawn.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Rows with named columns, printed in any [`Format`]. A missing value is `null`, an empty field or an empty cell.
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, one value a column.
    pub(crate) fn row(&mut self, values: impl IntoIterator<Item = Value>) {
        let row: Vec<Value> = values.into_iter().collect();
        debug_assert_eq!(row.len(), self.header.len(), "one value a column");
        self.rows.push(row);
    }

    /// The whole table as text that ends with a line end.
    pub(crate) fn render(&self, format: Format) -> String {
        match format {
            Format::Csv => self.csv(),
            Format::Json => self.json(),
            Format::Md => self.aligned("| ", " | ", " |", true),
            Format::Table => self.aligned("", "  ", "", false),
        }
    }

    fn csv(&self) -> String {
        let mut text = String::new();
        let mut line = |fields: &mut dyn Iterator<Item = String>| {
            let fields: Vec<String> = fields.map(|field| csv_field(&field)).collect();
            text.push_str(&fields.join(","));
            text.push('\n');
        };
        line(&mut self.header.iter().map(|&name| name.to_owned()));
        for row in &self.rows {
            line(&mut row.iter().map(plain));
        }
        text
    }

    /// The rows as JSON objects.
    pub(crate) fn json_rows(&self) -> Value {
        self.rows
            .iter()
            .map(|row| {
                Value::Object(
                    self.header
                        .iter()
                        .map(|&name| name.to_owned())
                        .zip(row.iter().cloned())
                        .collect(),
                )
            })
            .collect()
    }

    fn json(&self) -> String {
        format!("{:#}\n", self.json_rows())
    }

    fn aligned(&self, open: &str, between: &str, close: &str, rule: bool) -> String {
        let cells: Vec<Vec<String>> = std::iter::once(
            self.header
                .iter()
                .map(|&name| name.to_owned())
                .collect::<Vec<_>>(),
        )
        .chain(self.rows.iter().map(|row| {
            row.iter()
                .map(|value| {
                    let text = plain(value);
                    if rule { text.replace('|', "\\|") } else { text }
                })
                .collect()
        }))
        .collect();
        let widths: Vec<usize> = (0..self.header.len())
            .map(|column| {
                cells
                    .iter()
                    .map(|row| row[column].chars().count())
                    .max()
                    .unwrap_or(0)
                    .max(3)
            })
            .collect();
        let right: Vec<bool> = (0..self.header.len())
            .map(|column| {
                self.rows.iter().any(|row| row[column].is_number())
                    && self
                        .rows
                        .iter()
                        .all(|row| row[column].is_number() || row[column].is_null())
            })
            .collect();
        let mut text = String::new();
        for (index, row) in cells.iter().enumerate() {
            let mut line = open.to_owned();
            for (column, cell) in row.iter().enumerate() {
                if column > 0 {
                    line.push_str(between);
                }
                let width = widths[column];
                let _ = if right[column] {
                    write!(line, "{cell:>width$}")
                } else {
                    write!(line, "{cell:<width$}")
                };
            }
            line.push_str(close);
            text.push_str(line.trim_end());
            text.push('\n');
            if rule && index == 0 {
                let dashes: Vec<String> = widths
                    .iter()
                    .zip(&right)
                    .map(|(&width, &right)| {
                        let dashes = "-".repeat(width - usize::from(right));
                        if right { dashes + ":" } else { dashes }
                    })
                    .collect();
                let _ = writeln!(text, "| {} |", dashes.join(" | "));
            }
        }
        text
    }
}

/// The text of a value in a table.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Quotes a CSV field where it must be (RFC 4180).
pub(crate) fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// Bytes with a unit, for people.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// Nanoseconds with a unit, for people.
pub(crate) fn human_ns(ns: u64) -> String {
    let value = ns as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", value / 1e6),
        1_000_000_000..120_000_000_000 => format!("{:.1} s", value / 1e9),
        _ => format!("{:.1} min", value / 60e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["id", "bits"]);
        table.row(["a,\"b\"|".into(), 2.5.into()]);
        table.row(["c".into(), Value::Null]);
        table
    }

    #[test]
    fn csv_quotes_and_leaves_missing_values_empty() {
        assert_eq!(
            table().render(Format::Csv),
            "id,bits\n\"a,\"\"b\"\"|\",2.5\nc,\n"
        );
    }

    #[test]
    fn json_keeps_types() {
        let rows: Value = serde_json::from_str(&table().render(Format::Json)).unwrap();
        assert_eq!(rows[0]["bits"], 2.5);
        assert_eq!(rows[1]["bits"], Value::Null);
    }

    #[test]
    fn markdown_aligns_numbers_and_escapes_bars() {
        assert_eq!(
            table().render(Format::Md),
            "| id      | bits |\n| ------- | ---: |\n| a,\"b\"\\| |  2.5 |\n| c       |      |\n"
        );
        assert_eq!(
            table().render(Format::Table),
            "id      bits\na,\"b\"|   2.5\nc\n"
        );
    }

    #[test]
    fn units_are_readable() {
        assert_eq!(human_bytes(1023), "1023 B");
        assert_eq!(human_bytes(3 << 29), "1.5 GiB");
        assert_eq!(human_ns(1_500_000), "1.5 ms");
        assert_eq!(human_ns(180_000_000_000), "3.0 min");
    }
}
