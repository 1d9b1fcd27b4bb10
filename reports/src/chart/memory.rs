//! Memory that workers took.

use std::collections::BTreeMap;

use trit_core::SummaryRow;

use super::canvas::PALETTE;
use super::figure::{Bar, Bars, Figure, Panel};
use super::{ChartData, describe, limited, rows_of, workloads};
use crate::labels;
use crate::units::show_bytes;

/// Resident memory, anonymous and file-backed.
pub(super) fn memory(data: &ChartData<'_>) -> Option<Figure> {
    const MIB: f64 = 1024.0 * 1024.0;
    let legend = vec![
        ("anonymous".to_owned(), PALETTE[0]),
        ("file-backed".to_owned(), PALETTE[4]),
    ];
    let mut panels = Vec::new();
    for workload in workloads(data) {
        // Of several shapes and thread counts of one kernel, the one that takes the most.
        let mut most: BTreeMap<(String, &str), &SummaryRow> = BTreeMap::new();
        for row in rows_of(data, workload) {
            let Some(bytes) = resident(row) else { continue };
            let entry = most
                .entry((labels::model(&row.cell), labels::subject(&row.cell)))
                .or_insert(row);
            if resident(entry).is_some_and(|other| other < bytes) {
                *entry = row;
            }
        }
        let mut rows: Vec<&SummaryRow> = most.into_values().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(resident(row)));
        let groups: Vec<(String, Vec<Bar>)> = rows
            .iter()
            .map(|row| {
                let results = &row.results;
                let parts = results.rss_anon_bytes.zip(results.rss_file_bytes);
                let segments = parts.map_or_else(Vec::new, |(anon, file)| {
                    vec![
                        (anon as f64 / MIB, PALETTE[0]),
                        (file as f64 / MIB, PALETTE[4]),
                    ]
                });
                let text = resident(row).map_or_else(String::new, |bytes| show_bytes(bytes as f64));
                let mark = results.peak_rss_bytes.map(|bytes| bytes as f64 / MIB);
                let bar = Bar {
                    segments,
                    interval: None,
                    mark,
                    text,
                };
                let threads = row.cell.threads.map_or_else(String::new, labels::threads);
                let details: Vec<String> = [
                    labels::subject(&row.cell).to_owned(),
                    labels::shape(&row.cell),
                    threads,
                ]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect();
                (details.join(", "), vec![bar])
            })
            .collect();
        if !groups.is_empty() {
            panels.push(Panel::Bars(Bars {
                title: describe(workload).to_owned(),
                unit: "MiB (1024 x 1024 bytes)".to_owned(),
                legend: legend.clone(),
                groups,
            }));
        }
    }
    let mut notes = vec![
        "Bars: resident set at the end of a visit, the largest of all visits; file-backed pages (a mapped model) can be dropped by the system, anonymous ones cannot. Stroke and number: high-water mark (VmHWM). Of several shapes and thread counts of a kernel, the one that takes the most. Kernel cells share a worker with the other cells of their kernel. One reading each: no interval.".to_owned(),
    ];
    let panels = limited(panels, &mut notes);
    (!panels.is_empty()).then(|| Figure {
        title: "Resident memory: anonymous and file-backed".to_owned(),
        subtitle: data.record.heading.line(),
        panels,
        notes,
    })
}

/// The most memory that a row is known to have taken.
pub(super) fn resident(row: &SummaryRow) -> Option<u64> {
    let results = &row.results;
    let parts = results
        .rss_anon_bytes
        .zip(results.rss_file_bytes)
        .map(|(anon, file)| anon.saturating_add(file));
    results.peak_rss_bytes.max(parts)
}
