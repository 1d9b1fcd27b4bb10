//! How fast kernels are: rates as bars, and how many times as fast more threads are.

use std::collections::{BTreeMap, BTreeSet};

use trit_core::{SummaryRow, Workload};

use super::canvas::shade;
use super::figure::{Axis, Bar, Bars, Figure, Lines, Panel, Series};
use super::{ChartData, describe, grouped, limited, rows_of, shape_title};
use crate::labels;
use crate::units::{show_rate, three};

/// A rate of a row with its interval and its unit.
pub(crate) struct Rate {
    pub(crate) value: f64,
    pub(crate) interval: Option<(f64, f64)>,
}

/// Operations a second for kernels, tokens a second for models, calls a second where neither is counted.
pub(crate) fn rate(row: &SummaryRow) -> Option<(Rate, &'static str)> {
    let results = &row.results;
    let median = results.median_ns.filter(|ns| *ns > 0.0)?;
    let operations = results.gops.filter(|_| row.cell.model.is_empty());
    let (value, unit) = match (operations, results.tokens_per_s) {
        (Some(gops), _) => (
            gops,
            "GOPS (billion operations a second; a multiply and an add are two)",
        ),
        (None, Some(tokens)) => (tokens, "tokens a second"),
        (None, None) => (1e9 / median, "calls a second"),
    };
    let interval = interval_of_rate(row, value);
    Some((Rate { value, interval }, unit))
}

/// The 95 % interval of a rate at the median time of a row.
pub(crate) fn interval_of_rate(row: &SummaryRow, value: f64) -> Option<(f64, f64)> {
    let results = &row.results;
    let median = results.median_ns?;
    let ends = results.lo_ns.zip(results.hi_ns).filter(|(lo, _)| *lo > 0.0);
    // The rate is high where the time is low.
    ends.map(|(lo, hi)| (value * median / hi, value * median / lo))
}

pub(super) const INTERVALS: &str = "Whiskers are 95 % intervals of the median; they allow for samples that repeat their neighbours. No whisker: too few independent samples.";

/// Rows by their shapes.
fn by_shape<'a>(rows: &[&'a SummaryRow]) -> Vec<(String, Vec<&'a SummaryRow>)> {
    grouped(rows.iter().map(|row| (labels::shape(&row.cell), *row)))
}

/// Throughput by kernel and threads: a figure a workload, a panel a shape.
pub(super) fn throughput(data: &ChartData<'_>, workload: Workload) -> Option<Figure> {
    let rows = rows_of(data, workload);
    let threads: Vec<u64> = rows
        .iter()
        .filter_map(|row| row.cell.threads)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let mut panels = Vec::new();
    for (shape, here) in by_shape(&rows) {
        let mut unit = "";
        let mut kernels: BTreeMap<&str, Vec<(u64, Rate)>> = BTreeMap::new();
        for row in here {
            if let Some((rate, its_unit)) = rate(row) {
                unit = its_unit;
                kernels
                    .entry(labels::subject(&row.cell))
                    .or_default()
                    .push((row.cell.threads.unwrap_or(1), rate));
            }
        }
        let best =
            |bars: &[(u64, Rate)]| bars.iter().map(|(_, rate)| rate.value).fold(0.0, f64::max);
        let mut kernels: Vec<(&str, Vec<(u64, Rate)>)> = kernels.into_iter().collect();
        kernels.sort_by(|a, b| best(&b.1).total_cmp(&best(&a.1)).then(a.0.cmp(b.0)));
        let groups: Vec<(String, Vec<Bar>)> = kernels
            .into_iter()
            .map(|(kernel, mut bars)| {
                bars.sort_by_key(|(count, _)| *count);
                let bars = bars
                    .into_iter()
                    .map(|(count, rate)| Bar {
                        segments: vec![(
                            rate.value,
                            shade(
                                threads.iter().position(|t| *t == count).unwrap_or(0),
                                threads.len(),
                            ),
                        )],
                        interval: rate.interval,
                        mark: None,
                        text: if rate.value >= 1e6 {
                            show_rate(rate.value)
                        } else {
                            three(rate.value)
                        },
                    })
                    .collect();
                (kernel.to_owned(), bars)
            })
            .collect();
        if groups.is_empty() {
            continue;
        }
        let legend = threads
            .iter()
            .enumerate()
            .map(|(i, &count)| (labels::threads(count), shade(i, threads.len())))
            .collect();
        panels.push(Panel::Bars(Bars {
            title: shape_title(shape, workload),
            unit: unit.to_owned(),
            legend,
            groups,
        }));
    }
    let mut notes = vec![format!("Rate at the median time of a call. {INTERVALS}")];
    let panels = limited(panels, &mut notes);
    (!panels.is_empty()).then(|| Figure {
        title: format!("Throughput by kernel: {}", describe(workload)),
        subtitle: data.record.heading.line(),
        panels,
        notes,
    })
}

/// Speed-up against the fewest threads measured, with the ideal line.
pub(super) fn speedup(data: &ChartData<'_>, workload: Workload) -> Option<Figure> {
    let rows = rows_of(data, workload);
    let mut panels = Vec::new();
    for (shape, here) in by_shape(&rows) {
        let mut kernels: BTreeMap<&str, BTreeMap<u64, &SummaryRow>> = BTreeMap::new();
        for row in here {
            if let Some(threads) = row.cell.threads {
                kernels
                    .entry(labels::subject(&row.cell))
                    .or_default()
                    .insert(threads, row);
            }
        }
        let mut series: Vec<Series> = kernels
            .iter()
            .filter_map(|(kernel, by_threads)| scaling(kernel, by_threads))
            .collect();
        if series.is_empty() {
            continue;
        }
        let last = |series: &Series| series.points.last().map_or(0.0, |point| point.1);
        series.sort_by(|a, b| {
            last(b)
                .total_cmp(&last(a))
                .then_with(|| a.label.cmp(&b.label))
        });
        let counts: BTreeSet<u64> = series
            .iter()
            .flat_map(|series| series.points.iter().map(|point| point.0 as u64))
            .collect();
        let most = counts.last().copied().unwrap_or(1) as f64;
        let fewest = counts.first().copied().unwrap_or(1) as f64;
        let top = series
            .iter()
            .flat_map(|series| series.points.iter().map(|point| point.1))
            .fold(most / fewest, f64::max);
        // One wild interval must not flatten all lines: whiskers may leave the plot.
        let whisker = series
            .iter()
            .flat_map(|series| series.intervals.iter().map(|i| i.2))
            .fold(top, f64::max);
        let highest = whisker.min(1.3 * top);
        let pad = (most - fewest) * 0.04;
        panels.push(Panel::Lines(Lines {
            title: shape_title(shape, workload),
            x: Axis {
                label: "threads".to_owned(),
                log: false,
                time: false,
                ticks: Some(counts.iter().map(|&count| count as f64).collect()),
                from: fewest - pad,
                to: most + pad,
            },
            y: Axis {
                label: format!("times as fast as on {}", labels::threads(fewest as u64)),
                log: false,
                time: false,
                ticks: None,
                from: 0.0,
                to: highest * 1.02,
            },
            series,
            reference: Some((
                "ideal".to_owned(),
                vec![(fewest, 1.0), (most, most / fewest)],
            )),
        }));
    }
    let mut notes = vec![
        "Ratio of the medians of separate cells, not of pairs; whiskers combine their 95 % intervals in quadrature on the log scale; one without a cap goes on beyond the plot. Dashed: as many times as fast as there are more threads.".to_owned(),
    ];
    let panels = limited(panels, &mut notes);
    (!panels.is_empty()).then(|| Figure {
        title: format!("Speed-up with threads: {}", describe(workload)),
        subtitle: data.record.heading.line(),
        panels,
        notes,
    })
}

/// The speed-up of one kernel; nothing for a single thread count.
fn scaling(kernel: &str, by_threads: &BTreeMap<u64, &SummaryRow>) -> Option<Series> {
    let (_, base) = by_threads.first_key_value()?;
    if by_threads.len() < 2 {
        return None;
    }
    let base_ns = base.results.median_ns?;
    let logs = |row: &SummaryRow| {
        let (lo, hi, median) = (
            row.results.lo_ns?,
            row.results.hi_ns?,
            row.results.median_ns?,
        );
        (lo > 0.0).then(|| ((median / lo).ln(), (hi / median).ln()))
    };
    let mut points = Vec::new();
    let mut intervals = Vec::new();
    for (&threads, &row) in by_threads {
        let ratio = base_ns / row.results.median_ns?;
        let x = threads as f64;
        points.push((x, ratio));
        // The base has no uncertainty against itself.
        if !std::ptr::eq(row, *base)
            && let Some((base_ends, ends)) = logs(base).zip(logs(row))
        {
            // High where the base is slow and this row is fast.
            let up = base_ends.1.hypot(ends.0).exp();
            let down = base_ends.0.hypot(ends.1).exp();
            intervals.push((x, ratio / down, ratio * up));
        }
    }
    Some(Series {
        label: kernel.to_owned(),
        points,
        intervals,
        marks: true,
        ..Series::default()
    })
}
