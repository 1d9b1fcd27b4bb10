//! Sequences that are decoded together: throughput against latency.

use std::collections::{BTreeMap, BTreeSet};

use trit_core::{SummaryRow, Workload};

use crate::document::Table;
use crate::labels;
use crate::markdown::ranked;
use crate::table::{percent, spread};
use crate::units::{show_ns, show_rate, three};

/// Cells that differ in the number of sequences alone, the fewest first.
#[derive(Clone, Debug)]
pub(crate) struct Course<'a> {
    /// The model and what is not usual about its request.
    pub(crate) model: String,
    /// The kernel and the threads.
    pub(crate) label: String,
    /// A row a number of sequences, two at least.
    pub(crate) rows: Vec<(u64, &'a SummaryRow)>,
}

/// Everything that was decoded with more than one number of sequences, in the order of the rows.
pub(crate) fn courses(rows: &[SummaryRow]) -> Vec<Course<'_>> {
    let mut order: BTreeMap<String, usize> = BTreeMap::new();
    let mut courses: Vec<Course<'_>> = Vec::new();
    for row in rows.iter().filter(|row| ranked(row)) {
        let cell = &row.cell;
        if cell.workload != Workload::Decode || cell.model.is_empty() {
            continue;
        }
        let mut alone = cell.clone();
        alone.batch = None;
        let model = labels::shape(&alone);
        let threads = cell.threads.map_or_else(String::new, labels::threads);
        let label = format!("{}, {threads}", labels::subject(cell));
        let key = format!(
            "{model}/{label}/{} {:?} {:?} {:?}",
            cell.model, cell.prompt_tokens, cell.gen_tokens, cell.ubatch
        );
        let next = courses.len();
        let at = *order.entry(key).or_insert(next);
        if at == next {
            courses.push(Course {
                model,
                label,
                rows: Vec::new(),
            });
        }
        courses[at].rows.push((cell.batch.unwrap_or(1), row));
    }
    for course in &mut courses {
        course.rows.sort_by_key(|(batch, _)| *batch);
    }
    courses.retain(|course| {
        let batches: BTreeSet<u64> = course.rows.iter().map(|(batch, _)| *batch).collect();
        batches.len() > 1
    });
    courses
}

/// Throughput and latency of every number of sequences.
pub(crate) fn table(rows: &[SummaryRow]) -> Option<Table> {
    let mut lines = Vec::new();
    for course in courses(rows) {
        let rate = |row: &SummaryRow| row.results.tokens_per_s;
        let one = course
            .rows
            .iter()
            .find(|(batch, _)| *batch == 1)
            .and_then(|(_, row)| rate(row));
        for (batch, row) in &course.rows {
            let times = rate(row).zip(one).map(|(rate, one)| rate / one);
            lines.push(vec![
                course.model.clone(),
                course.label.clone(),
                batch.to_string(),
                row.results.median_ns.map_or_else(String::new, show_ns),
                spread(row).map_or_else(String::new, percent),
                rate(row).map_or_else(String::new, show_rate),
                times.map_or_else(String::new, |times| format!("{}x", three(times))),
            ]);
        }
    }
    let header = [
        "model",
        "kernel",
        "sequences:",
        "step:",
        "±:",
        "tokens/s:",
        "against one:",
    ];
    Table::unless_empty(&header, lines)
}

#[cfg(test)]
mod tests {
    use trit_core::{Cell, Results};

    use super::*;

    fn row(threads: u64, batch: u64, median_ns: f64) -> SummaryRow {
        SummaryRow {
            cell: Cell {
                kernel: "k".into(),
                model: "synth:125m".into(),
                workload: Workload::Decode,
                threads: Some(threads),
                batch: Some(batch),
                ..Cell::default()
            },
            results: Results {
                median_ns: Some(median_ns),
                tokens_per_s: Some(batch as f64 * 1e9 / median_ns),
                ..Results::default()
            },
        }
    }

    #[test]
    fn a_course_has_the_rows_that_differ_in_sequences_alone() {
        let rows = [
            row(1, 8, 4e6),
            row(1, 1, 1e6),
            row(2, 1, 1e6),
            row(1, 2, 1.5e6),
        ];
        let courses = courses(&rows);
        // Two threads have one number of sequences: nothing to see.
        assert_eq!(courses.len(), 1);
        assert_eq!(courses[0].label, "k, 1 thread");
        assert_eq!(courses[0].model, "synth:125m");
        let batches: Vec<u64> = courses[0].rows.iter().map(|row| row.0).collect();
        assert_eq!(batches, [1, 2, 8]);
        let text = table(&rows).unwrap().markdown();
        assert!(text.contains("| 8 |") && text.contains("2.00x"), "{text}");
        assert!(table(&rows[..1]).is_none());
    }
}
