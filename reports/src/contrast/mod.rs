//! Several sources side by side: rows by some keys, columns by another, ratios against the first column.
//!
//! Cells are matched by every key that is neither row nor column. A key that would be averaged away without anybody having
//! asked for it is told.

mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use trit_core::{Cell, Columns, Results, RunDir, SummaryRow};
use trit_stats::{Geometric, geometric_mean};

use crate::compare::log_ends;
use crate::facts;
use crate::gate::{UnpairedError, read_summaries};
use crate::labels;
use crate::markdown::ranked;
use crate::summary::LEVEL;

pub use text::contrast_text;

/// Keys of a cell by which cells are matched.
pub(crate) const MATCHED: [&str; 18] = [
    "kernel",
    "workload",
    "model",
    "rows",
    "k",
    "tokens",
    "threads",
    "cache",
    "head",
    "kv",
    "prompt",
    "prompt_tokens",
    "gen_tokens",
    "depth",
    "batch",
    "ubatch",
    "page_cache",
    "packed_cache",
];
/// Keys that follow from the kernel.
const OF_KERNEL: [&str; 3] = ["layout", "weight_bits", "isa"];
/// Keys that are not of the cell.
const OF_SOURCE: [&str; 3] = ["run", "machine", "host"];

/// What is compared: a run directory, a CSV file, or a machine of a history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// What it is called in the comparison; the key `run`.
    pub name: String,
    /// The machine in a line; the key `machine`. Empty when unknown.
    pub machine: String,
    /// Name of the host; the key `host`.
    pub host: String,
    /// A row a cell.
    pub rows: Vec<SummaryRow>,
}

impl Source {
    /// Reads a run directory, or a file like `summary.csv`.
    ///
    /// # Errors
    /// When it cannot be read, or holds no measured cell.
    pub fn read(path: &Path) -> Result<Self, UnpairedError> {
        let rows = read_summaries(path)?;
        let name = path.display().to_string().trim_end_matches('/').to_owned();
        let (machine, host) = if path.is_dir() {
            let session = RunDir::open(path)?.session()?;
            (facts::machine_line(&session), session.host)
        } else {
            (String::new(), String::new())
        };
        Ok(Self {
            name,
            machine,
            host,
            rows,
        })
    }
}

/// Cells whose key has one of these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The key.
    pub key: String,
    /// The values.
    pub values: Vec<String>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Keys of the rows; empty for a row a cell.
    pub rows: Vec<String>,
    /// Key of the columns.
    pub col: String,
    /// The column that the others are compared with; the first where none is named.
    pub base: Option<String>,
    /// Which cells.
    pub filters: Vec<Filter>,
    /// The column of `summary.csv` that is compared.
    pub measure: String,
}

impl Default for Question {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            col: "run".to_owned(),
            base: None,
            filters: Vec::new(),
            measure: "median_ns".to_owned(),
        }
    }
}

/// Why there is no comparison.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContrastError {
    /// There is no such key.
    #[error("there is no key `{0}`; hint: one of {list}", list = contrast_keys().join(" "))]
    UnknownKey(String),
    /// There is no such quantity.
    #[error("`{0}` is no quantity; hint: one of {list}", list = contrast_measures().join(" "))]
    UnknownMeasure(String),
    /// There is no such column.
    #[error("no {col} is `{base}`; hint: one of {}", found.join(", "))]
    UnknownBase {
        /// The key of the columns.
        col: String,
        /// What was asked for.
        base: String,
        /// What there is.
        found: Vec<String>,
    },
    /// Nothing is left.
    #[error(
        "no measured cell is left; hint: see the keys and values with --format csv, or leave a --filter out"
    )]
    Nothing,
    /// There is nothing to compare with.
    #[error("every cell has the same {col}, `{value}`; hint: another source, or another --col")]
    OneColumn {
        /// The key of the columns.
        col: String,
        /// Its only value.
        value: String,
    },
    /// No cell of the base is elsewhere.
    #[error("the columns have no cell in common{}; hint: --filter, or that key as --row", if differ.is_empty() { String::new() } else { format!(": they differ in {}", differ.join(", ")) })]
    NothingInCommon {
        /// Keys whose values differ between the columns.
        differ: Vec<String>,
    },
}

/// The keys of a comparison.
pub fn contrast_keys() -> Vec<&'static str> {
    let mut keys = OF_SOURCE.to_vec();
    keys.extend(MATCHED);
    keys.extend(OF_KERNEL);
    keys.extend(["subject", "shape"]);
    keys
}

/// The quantities that can be compared: the columns of results that hold numbers.
pub fn contrast_measures() -> Vec<&'static str> {
    Results::columns()
        .iter()
        .filter(|column| (column.read)(&mut Results::default(), "word").is_err())
        .map(|column| column.name)
        .collect()
}

/// A value with its ratio to the base.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The quantity: the geometric mean of all cells that are in it.
    pub value: f64,
    /// Its 95 % interval, where it is of one cell.
    pub interval: Option<(f64, f64)>,
    /// Over the value of the base; nothing for the base itself.
    pub ratio: Option<f64>,
    /// Of one cell: from both intervals, combined in quadrature on the log scale. Of several: Student's t on the logarithms of their ratios.
    pub ratio_interval: Option<(f64, f64)>,
    /// Cells that are in it.
    pub cells: usize,
}

/// A row of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct ContrastRow {
    /// Its name.
    pub label: String,
    /// Its keys with their values.
    pub keys: Vec<(String, String)>,
    /// A value a column.
    pub entries: Vec<Option<Entry>>,
}

/// Several sources side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Contrast {
    /// The quantity.
    pub measure: String,
    /// The key of the columns.
    pub col: String,
    /// The columns; the first is what the others are compared with.
    pub cols: Vec<String>,
    /// The rows.
    pub rows: Vec<ContrastRow>,
    /// The geometric mean of the ratios of a column over all rows; nothing for the base.
    pub means: Vec<Option<Geometric>>,
    /// What a reader has to know.
    pub notes: Vec<String>,
}

/// A cell with what it is compared by.
struct Item<'a> {
    source: &'a Source,
    row: &'a SummaryRow,
    value: f64,
    interval: Option<(f64, f64)>,
}

/// The value of a key of a cell.
pub(crate) fn cell_key(cell: &Cell, key: &str, columns: &[trit_core::Column<Cell>]) -> String {
    match key {
        "kernel" => labels::subject(cell).to_owned(),
        "model" => labels::model(cell),
        "shape" => labels::shape(cell),
        other => columns
            .iter()
            .find(|column| column.name == other)
            .map_or_else(String::new, |column| (column.write)(cell)),
    }
}

impl Item<'_> {
    fn key(&self, key: &str, columns: &[trit_core::Column<Cell>]) -> String {
        match key {
            "run" => self.source.name.clone(),
            "machine" => self.source.machine.clone(),
            "host" => self.source.host.clone(),
            key => cell_key(&self.row.cell, key, columns),
        }
    }
}

/// The interval of a quantity, where the row has one.
fn interval(results: &Results, measure: &str, value: f64) -> Option<(f64, f64)> {
    match measure {
        "median_ns" => results.lo_ns.zip(results.hi_ns),
        "tokens_per_s" | "gops" | "gb_per_s" => {
            let (lo, hi) = results.lo_ns.zip(results.hi_ns)?;
            let median = results.median_ns?;
            (lo > 0.0).then(|| (value * median / hi, value * median / lo))
        }
        "bandwidth_share" => results.bandwidth_share_lo.zip(results.bandwidth_share_hi),
        "peak_share" => results.peak_share_lo.zip(results.peak_share_hi),
        "gross_w" => results.gross_w_lo.zip(results.gross_w_hi),
        "gross_j_per_token" => results
            .gross_j_per_token_lo
            .zip(results.gross_j_per_token_hi),
        "net_j_per_token" => results.net_j_per_token_lo.zip(results.net_j_per_token_hi),
        "gross_j_per_request" => results
            .gross_j_per_request_lo
            .zip(results.gross_j_per_request_hi),
        "edp_js" => results.edp_js_lo.zip(results.edp_js_hi),
        _ => None,
    }
}

/// The matched tuple, then the items that share it.
type Boxed<'a> = BTreeMap<Vec<String>, Vec<&'a Item<'a>>>;

/// Sets sources side by side.
///
/// # Errors
/// When a key or quantity does not exist, or nothing can be compared.
pub fn contrast(sources: &[Source], question: &Question) -> Result<Contrast, ContrastError> {
    let known = contrast_keys();
    let asked = question.rows.iter().chain([&question.col]);
    for key in asked.chain(question.filters.iter().map(|filter| &filter.key)) {
        if !known.contains(&key.as_str()) {
            return Err(ContrastError::UnknownKey(key.clone()));
        }
    }
    if !contrast_measures().contains(&question.measure.as_str()) {
        return Err(ContrastError::UnknownMeasure(question.measure.clone()));
    }
    let measure = Results::columns()
        .into_iter()
        .find(|column| column.name == question.measure)
        .ok_or_else(|| ContrastError::UnknownMeasure(question.measure.clone()))?;
    let columns = Cell::columns();
    let items: Vec<Item<'_>> = sources
        .iter()
        .flat_map(|source| source.rows.iter().map(move |row| (source, row)))
        .filter(|(_, row)| ranked(row))
        .filter_map(|(source, row)| {
            let value: f64 = (measure.write)(&row.results).parse().ok()?;
            (value > 0.0).then(|| Item {
                source,
                row,
                value,
                interval: interval(&row.results, &question.measure, value),
            })
        })
        .filter(|item| {
            question.filters.iter().all(|filter| {
                let value = item.key(&filter.key, &columns);
                filter.values.contains(&value)
            })
        })
        .collect();
    let cols = column_names(&items, question, &columns)?;

    let given: BTreeSet<&str> = question
        .rows
        .iter()
        .chain([&question.col])
        .map(String::as_str)
        .collect();
    let matched = matched_keys(&given);
    let row_keys: Vec<&str> = if question.rows.is_empty() {
        matched.clone()
    } else {
        question.rows.iter().map(String::as_str).collect()
    };
    let hidden: Vec<&str> = matched
        .iter()
        .copied()
        .filter(|key| !row_keys.contains(key))
        .collect();

    let mut order: Vec<Vec<String>> = Vec::new();
    let mut boxes: BTreeMap<Vec<String>, BTreeMap<&str, Boxed<'_>>> = BTreeMap::new();
    for item in &items {
        let tuple = |keys: &[&str]| -> Vec<String> {
            keys.iter().map(|key| item.key(key, &columns)).collect()
        };
        let col = item.key(&question.col, &columns);
        let Some(col) = cols.iter().find(|name| **name == col) else {
            continue;
        };
        let row = tuple(&row_keys);
        let of_row = boxes.entry(row.clone()).or_insert_with(|| {
            order.push(row);
            BTreeMap::new()
        });
        let of_box = of_row.entry(col).or_default();
        of_box.entry(tuple(&hidden)).or_default().push(item);
    }

    let mut rows = Vec::new();
    let mut keys_of_rows = Vec::new();
    let mut averaged: BTreeSet<&str> = BTreeSet::new();
    let mut dropped = 0;
    let mut alone: BTreeMap<&str, usize> = BTreeMap::new();
    for key in order {
        let Some(of_row) = boxes.get_mut(&key) else {
            continue;
        };
        if of_row.len() < 2 {
            for (col, of_box) in of_row.iter() {
                *alone.entry(col).or_default() += of_box.len();
            }
            continue;
        }
        for item in of_row.values_mut().flat_map(BTreeMap::values_mut) {
            averaged.extend(one_of_each(item, &columns));
        }
        let common = common_tuples(of_row);
        dropped += of_row
            .values()
            .map(|of_box| of_box.len() - common.len())
            .sum::<usize>();
        for (i, name) in hidden.iter().enumerate() {
            let values: BTreeSet<&String> = common.iter().map(|tuple| &tuple[i]).collect();
            if values.len() > 1 {
                averaged.insert(name);
            }
        }
        let entries = entries(of_row, &cols, &common);
        if !common.is_empty() {
            rows.push(entries);
            keys_of_rows.push(key);
        }
    }
    if rows.is_empty() {
        return Err(ContrastError::NothingInCommon {
            differ: differing(&items, &cols, &question.col, &matched, &columns),
        });
    }
    let labels = row_labels(&row_keys, &keys_of_rows);
    let rows: Vec<ContrastRow> = rows
        .into_iter()
        .zip(keys_of_rows)
        .zip(labels)
        .map(|((entries, values), label)| ContrastRow {
            label,
            keys: row_keys
                .iter()
                .map(|key| (*key).to_owned())
                .zip(values)
                .collect(),
            entries,
        })
        .collect();
    let means = (0..cols.len())
        .map(|i| {
            let ratios: Vec<f64> = rows
                .iter()
                .filter_map(|row| row.entries[i].as_ref()?.ratio)
                .collect();
            geometric_mean(&ratios, LEVEL)
        })
        .collect();
    let notes = notes(
        sources, &items, &columns, question, &averaged, dropped, &alone,
    );
    Ok(Contrast {
        measure: question.measure.clone(),
        col: question.col.clone(),
        cols,
        rows,
        means,
        notes,
    })
}

/// The values of the column's key in the order in which they are seen, the base first.
fn column_names(
    items: &[Item<'_>],
    question: &Question,
    columns: &[trit_core::Column<Cell>],
) -> Result<Vec<String>, ContrastError> {
    let mut cols: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    for item in items {
        let value = item.key(&question.col, columns);
        if seen.insert(value.clone()) {
            cols.push(value);
        }
    }
    if let Some(base) = &question.base {
        let at = cols.iter().position(|name| name == base);
        let at = at.ok_or_else(|| ContrastError::UnknownBase {
            col: question.col.clone(),
            base: base.clone(),
            found: cols.clone(),
        })?;
        let name = cols.remove(at);
        cols.insert(0, name);
    }
    match cols.as_slice() {
        [] => Err(ContrastError::Nothing),
        [only] => Err(ContrastError::OneColumn {
            col: question.col.clone(),
            value: only.clone(),
        }),
        _ => Ok(cols),
    }
}

/// What cells of different columns have to share.
fn matched_keys(given: &BTreeSet<&str>) -> Vec<&'static str> {
    let by_kernel = OF_KERNEL.iter().any(|key| given.contains(key)) || given.contains("subject");
    let by_source = OF_SOURCE.iter().any(|key| given.contains(key));
    let by_shape = given.contains("shape");
    let mut matched: Vec<&str> = MATCHED
        .into_iter()
        .filter(|key| !given.contains(key))
        .filter(|key| !(by_kernel && *key == "kernel"))
        .filter(|key| {
            !(by_shape
                && [
                    "rows",
                    "k",
                    "tokens",
                    "model",
                    "prompt",
                    "prompt_tokens",
                    "head",
                    "kv",
                    "depth",
                    "batch",
                ]
                .contains(key))
        })
        .collect();
    if !by_source {
        matched.push("run");
    }
    matched
}

/// Leaves one item where several have the very same keys: the last. Gives the keys in which the others differ.
fn one_of_each(
    items: &mut Vec<&Item<'_>>,
    columns: &[trit_core::Column<Cell>],
) -> Vec<&'static str> {
    if items.len() < 2 {
        return Vec::new();
    }
    let keys = contrast_keys();
    let mut last: BTreeMap<Vec<String>, &Item<'_>> = BTreeMap::new();
    for item in items.iter() {
        let all = keys.iter().map(|key| item.key(key, columns)).collect();
        last.insert(all, item);
    }
    let differ = keys
        .iter()
        .enumerate()
        .filter(|(i, key)| {
            let values: BTreeSet<&String> = last.keys().map(|all| &all[*i]).collect();
            // What follows from the kernel is told by the kernel.
            values.len() > 1
                && !OF_KERNEL.contains(key)
                && !["subject", "shape", "host"].contains(key)
        })
        .map(|(_, key)| *key)
        .collect();
    items.retain(|item| last.values().any(|kept| std::ptr::eq(*kept, *item)));
    differ
}

/// The tuples that every column of a row has.
fn common_tuples(of_row: &BTreeMap<&str, Boxed<'_>>) -> Vec<Vec<String>> {
    let mut boxes = of_row.values();
    let Some(first) = boxes.next() else {
        return Vec::new();
    };
    let rest: Vec<&Boxed<'_>> = boxes.collect();
    first
        .keys()
        .filter(|tuple| rest.iter().all(|of_box| of_box.contains_key(*tuple)))
        .cloned()
        .collect()
}

/// The values of a row, a column each.
fn entries(
    of_row: &BTreeMap<&str, Boxed<'_>>,
    cols: &[String],
    common: &[Vec<String>],
) -> Vec<Option<Entry>> {
    let items = |col: &str, tuple: &Vec<String>| -> Vec<&Item<'_>> {
        of_row
            .get(col)
            .and_then(|of_box| of_box.get(tuple))
            .cloned()
            .unwrap_or_default()
    };
    let mean = |items: &[&Item<'_>]| {
        if let [one] = items {
            return Some(one.value);
        }
        let values: Vec<f64> = items.iter().map(|item| item.value).collect();
        geometric_mean(&values, LEVEL).map(|mean| mean.mean)
    };
    cols.iter()
        .enumerate()
        .map(|(i, col)| {
            let all: Vec<&Item<'_>> = common.iter().flat_map(|tuple| items(col, tuple)).collect();
            let value = mean(&all)?;
            let mut entry = Entry {
                value,
                interval: if let [one] = all.as_slice() {
                    one.interval
                } else {
                    None
                },
                ratio: None,
                ratio_interval: None,
                cells: all.len(),
            };
            if i == 0 {
                return Some(entry);
            }
            let ratios: Vec<f64> = common
                .iter()
                .filter_map(|tuple| {
                    Some(mean(&items(col, tuple))? / mean(&items(&cols[0], tuple))?)
                })
                .collect();
            let ratio = geometric_mean(&ratios, LEVEL)?;
            entry.ratio = Some(ratio.mean);
            let of_base: Vec<&Item<'_>> = common
                .iter()
                .flat_map(|tuple| items(&cols[0], tuple))
                .collect();
            entry.ratio_interval = match (of_base.as_slice(), all.as_slice()) {
                ([base], [own]) => quadrature(base, own),
                _ => ratio.interval.map(|interval| (interval.lo, interval.hi)),
            };
            Some(entry)
        })
        .collect()
}

/// The interval of the ratio of two cells.
fn quadrature(base: &Item<'_>, own: &Item<'_>) -> Option<(f64, f64)> {
    let ends = |item: &Item<'_>| log_ends(item.value, item.interval?);
    let ((base_below, base_above), (below, above)) = ends(base).zip(ends(own))?;
    let ratio = own.value / base.value;
    // The ratio is low when this one is low and the base is high.
    Some((
        ratio * (-below.hypot(base_above)).exp(),
        ratio * above.hypot(base_below).exp(),
    ))
}

/// The matched keys in which no column agrees with another.
fn differing(
    items: &[Item<'_>],
    cols: &[String],
    col: &str,
    matched: &[&str],
    columns: &[trit_core::Column<Cell>],
) -> Vec<String> {
    matched
        .iter()
        .filter(|key| {
            let of = |name: &String| -> BTreeSet<String> {
                items
                    .iter()
                    .filter(|item| item.key(col, columns) == *name)
                    .map(|item| item.key(key, columns))
                    .collect()
            };
            let sets: Vec<BTreeSet<String>> = cols.iter().map(of).collect();
            sets.iter()
                .enumerate()
                .all(|(i, set)| sets[..i].iter().all(|other| set.is_disjoint(other)))
        })
        .map(|key| (*key).to_owned())
        .collect()
}

/// Names of rows: what is the same everywhere is left out.
fn row_labels(keys: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let varies: Vec<bool> = (0..keys.len())
        .map(|i| {
            let values: BTreeSet<&String> = rows.iter().map(|row| &row[i]).collect();
            values.len() > 1
        })
        .collect();
    rows.iter()
        .map(|row| {
            let value = |key: &str| {
                let at = keys.iter().position(|known| *known == key)?;
                Some(row[at].as_str()).filter(|text| !text.is_empty())
            };
            let mut parts: Vec<String> = Vec::new();
            let mut shape_told = false;
            for (i, key) in keys.iter().enumerate() {
                let text = &row[i];
                // A reader always wants to know these.
                let always = ["kernel", "workload", "model", "rows", "k", "shape"].contains(key);
                if text.is_empty() || !(varies[i] || always) {
                    continue;
                }
                match *key {
                    "rows" | "k" if value("rows").is_some() && value("k").is_some() => {
                        if !shape_told {
                            shape_told = true;
                            parts.push(format!(
                                "{}x{}",
                                value("rows").unwrap_or_default(),
                                value("k").unwrap_or_default()
                            ));
                        }
                    }
                    "kernel" | "workload" | "model" | "shape" | "run" | "machine" | "host"
                    | "subject" | "isa" | "layout" => parts.push(text.clone()),
                    key => parts.push(format!("{key} {text}")),
                }
            }
            if parts.is_empty() {
                "all".to_owned()
            } else {
                parts.join(", ")
            }
        })
        .collect()
}

fn notes(
    sources: &[Source],
    items: &[Item<'_>],
    columns: &[trit_core::Column<Cell>],
    question: &Question,
    averaged: &BTreeSet<&str>,
    dropped: usize,
    alone: &BTreeMap<&str, usize>,
) -> Vec<String> {
    let mut notes = Vec::new();
    for key in averaged {
        let values: BTreeSet<String> = items.iter().map(|item| item.key(key, columns)).collect();
        let mut shown: Vec<&str> = values.iter().map(String::as_str).take(6).collect();
        if values.len() > shown.len() {
            shown.push("...");
        }
        notes.push(format!(
            "warning: `{key}` is averaged away: it is {}; use --row {key} or --filter {key}=VALUE to see it",
            shown.join(", ")
        ));
    }
    let machines: BTreeSet<&str> = sources
        .iter()
        .map(|source| source.machine.as_str())
        .filter(|machine| !machine.is_empty())
        .collect();
    if machines.len() > 1 && question.col != "machine" {
        let machines: Vec<&str> = machines.into_iter().collect();
        notes.push(format!(
            "warning: the machines differ: {}",
            machines.join("; ")
        ));
    }
    let mut digests: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for item in items {
        let cell = &item.row.cell;
        if !cell.model_sha256.is_empty() {
            digests
                .entry(labels::model(cell))
                .or_default()
                .insert(&cell.model_sha256);
        }
    }
    for (model, digests) in digests {
        if digests.len() > 1 {
            notes.push(format!(
                "warning: model `{model}` is not the same file everywhere: {} digests",
                digests.len()
            ));
        }
    }
    if dropped > 0 {
        notes.push(format!(
            "{dropped} cells are left out of their rows: not every column has them"
        ));
    }
    for (col, count) in alone {
        notes.push(format!(
            "only `{col}` has {count} further {}",
            if *count == 1 { "cell" } else { "cells" }
        ));
    }
    notes.push(
        "not paired: drift between the measurements is part of every ratio, and in no interval"
            .to_owned(),
    );
    notes
}
