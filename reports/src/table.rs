//! The table on a terminal: aligned, plain text without colour, at most 100 columns wide.

use trit_core::{Status, SummaryRow};

use crate::labels;
use crate::units::{show_ns, show_rate, three};

/// The widest line.
const WIDTH: usize = 100;
/// Columns in the order in which they are given up when a line is too wide.
const EXPENDABLE: [&str; 4] = ["GOPS", "peak", "GB/s", "±"];

/// A column: heading, whether it is text (left-aligned), and its fields.
struct Column {
    name: &'static str,
    text: bool,
    fields: Vec<String>,
}

impl Column {
    fn width(&self) -> usize {
        self.fields
            .iter()
            .map(|field| width(field))
            .max()
            .unwrap_or(0)
            .max(width(self.name))
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Half of the interval as a share of the median.
pub(crate) fn spread(row: &SummaryRow) -> Option<f64> {
    let results = &row.results;
    let median = results.median_ns.filter(|ns| *ns > 0.0)?;
    Some((results.hi_ns? - results.lo_ns?) / 2.0 / median)
}

pub(crate) fn percent(share: f64) -> String {
    format!("{} %", three(share * 100.0))
}

/// The rows that have results as a table, then a line for each row that is not `ok`, with its reason.
pub fn terminal_table(rows: &[SummaryRow]) -> String {
    let shown: Vec<&SummaryRow> = rows
        .iter()
        .filter(|row| row.results.median_ns.is_some())
        .collect();
    let mut out = String::new();
    if !shown.is_empty() {
        out.push_str(&aligned(columns(&shown)));
    }
    let rest: Vec<&SummaryRow> = rows
        .iter()
        .filter(|row| row.cell.status != Status::Ok)
        .collect();
    if !rest.is_empty() && !out.is_empty() {
        out.push('\n');
    }
    for row in rest {
        let parts = [
            row.cell.status.name(),
            &labels::full(&row.cell),
            &row.cell.reason,
        ];
        out.push_str(&parts.join(": "));
        out.push('\n');
    }
    out
}

fn columns(rows: &[&SummaryRow]) -> Vec<Column> {
    let column = |name, text, field: &dyn Fn(&SummaryRow) -> Option<String>| Column {
        name,
        text,
        fields: rows
            .iter()
            .map(|row| field(row).unwrap_or_default())
            .collect(),
    };
    let rate = |value: Option<f64>| value.map(show_rate);
    let short = |value: Option<f64>| value.map(three);
    let share = |value: Option<f64>| value.map(|share| format!("{:.0} %", share * 100.0));
    vec![
        column("kernel", true, &|row| {
            Some(labels::subject(&row.cell).to_owned())
        }),
        column("workload", true, &|row| {
            Some(row.cell.workload.name().to_owned())
        }),
        column("shape", true, &|row| {
            Some(labels::shape(&row.cell).replace(" tokens", " tok"))
        }),
        column("thr", false, &|row| {
            row.cell.threads.map(|threads| threads.to_string())
        }),
        column("median", false, &|row| row.results.median_ns.map(show_ns)),
        column("±", false, &|row| spread(row).map(percent)),
        column("tok/s", false, &|row| rate(row.results.tokens_per_s)),
        column("GOPS", false, &|row| short(row.results.gops)),
        column("GB/s", false, &|row| short(row.results.gb_per_s)),
        column("bw", false, &|row| share(row.results.bandwidth_share)),
        column("peak", false, &|row| share(row.results.peak_share)),
        column("status", true, &|row| {
            (row.cell.status != Status::Ok).then(|| row.cell.status.name().to_owned())
        }),
    ]
}

/// Rows of text as an aligned table; numbers are to the right where the heading ends with `:`.
pub(crate) fn aligned_rows(header: &[&'static str], rows: &[Vec<String>]) -> String {
    let columns = header.iter().enumerate().map(|(at, name)| Column {
        name: name.trim_end_matches(':'),
        text: !name.ends_with(':'),
        fields: rows.iter().map(|row| row[at].clone()).collect(),
    });
    aligned(columns.collect())
}

fn aligned(mut columns: Vec<Column>) -> String {
    columns.retain(|column| column.fields.iter().any(|field| !field.is_empty()));
    let total = |columns: &[Column]| {
        columns.iter().map(Column::width).sum::<usize>() + 2 * columns.len().saturating_sub(1)
    };
    for name in EXPENDABLE {
        if total(&columns) > WIDTH {
            columns.retain(|column| column.name != name);
        }
    }
    // Still too wide: shorten the widest text, in the middle, where names differ least.
    while total(&columns) > WIDTH {
        let Some(widest) = columns
            .iter_mut()
            .filter(|column| column.text)
            .max_by_key(|column| column.width())
        else {
            break;
        };
        let limit = widest.width() - 1;
        if limit < 8 {
            break;
        }
        for field in &mut widest.fields {
            *field = shorten(field, limit);
        }
    }
    let widths: Vec<usize> = columns.iter().map(Column::width).collect();
    let line = |cells: Vec<&str>| {
        let cells: Vec<String> = cells
            .iter()
            .zip(&columns)
            .zip(&widths)
            .map(|((cell, column), &wide)| {
                if column.text {
                    format!("{cell:<wide$}")
                } else {
                    format!("{cell:>wide$}")
                }
            })
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    let mut out = line(columns.iter().map(|column| column.name).collect());
    for i in 0..columns.first().map_or(0, |column| column.fields.len()) {
        out.push_str(&line(
            columns
                .iter()
                .map(|column| column.fields[i].as_str())
                .collect(),
        ));
    }
    out
}

/// A text of at most `limit` characters, the middle replaced by an ellipsis.
fn shorten(text: &str, limit: usize) -> String {
    let chars: Vec<char> = text.chars().filter(|c| *c != '…').collect();
    if width(text) <= limit {
        return text.to_owned();
    }
    let head = limit / 2;
    let tail = limit - head - 1;
    chars[..head]
        .iter()
        .chain(&['…'])
        .chain(&chars[chars.len() - tail..])
        .collect()
}

/// Any rows aligned for a terminal; a heading that ends with a colon is one of numbers, and loses the colon.
pub(crate) fn plain_table(header: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = header
        .iter()
        .map(|name| name.trim_end_matches(':').to_owned())
        .collect();
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            std::iter::once(&head)
                .chain(rows)
                .map(|row| width(&row[column]))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for ((field, name), wide) in row.iter().zip(header).zip(&widths) {
            let pad = " ".repeat(wide - width(field));
            if name.ends_with(':') {
                line.push_str(&pad);
                line.push_str(field);
            } else {
                line.push_str(field);
                line.push_str(&pad);
            }
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
