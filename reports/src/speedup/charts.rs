//! Charts of the speed-up report: ratios as bars, and rows under the roof.

use std::collections::{BTreeMap, BTreeSet};

use trit_core::Workload;

use super::{Basis, Findings, Line};
use crate::chart::{Axis, Bar, Bars, Figure, Lines, MOST_PANELS, Panel, Series, shade};
use crate::labels;
use crate::record::Record;
use crate::units::three;

/// Every chart with its name.
pub(super) fn figures(findings: &Findings<'_>, record: &Record) -> Vec<(String, Figure)> {
    let mut figures = Vec::new();
    let mut keys: Vec<(&str, Workload)> = Vec::new();
    for line in findings.lines.iter().filter(|line| single(line)) {
        let key = (line.baseline.as_str(), line.workload);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    for (baseline, workload) in keys {
        let here: Vec<&Line<'_>> = findings
            .lines
            .iter()
            .filter(|line| single(line) && line.baseline == baseline && line.workload == workload)
            .collect();
        let title = format!("Times as fast as {baseline}: {workload}");
        let note = "Whiskers are 95 % intervals, from pairs where both took turns, else from two separate medians. The stroke is 1: as fast as the baseline, which is the fastest kernel of its format at each place.";
        let name = format!("against-{baseline}-{workload}");
        figures.extend(bars(&here, &title, note, record).map(|figure| (name, figure)));
    }
    let models: Vec<&Line<'_>> = findings.lines.iter().filter(|line| !single(line)).collect();
    let baselines: BTreeSet<&str> = models.iter().map(|line| line.baseline.as_str()).collect();
    for baseline in baselines {
        let here: Vec<&Line<'_>> = models
            .iter()
            .copied()
            .filter(|line| line.baseline == baseline && line.basis != Basis::Bound)
            .collect();
        let title =
            format!("Times as fast as {baseline}: the matrices of one token, by model size");
        let note = "Matrices of one token from memory, with the half-precision head on both sides where it was measured. Whiskers are 95 % intervals.";
        let name = format!("against-{baseline}-models");
        figures.extend(bars(&here, &title, note, record).map(|figure| (name, figure)));
    }
    figures.extend(roofs(findings, record).map(|figure| ("roofline".to_owned(), figure)));
    figures
}

/// One matrix, or one whole model: not put together from matrices.
fn single(line: &Line<'_>) -> bool {
    matches!(line.basis, Basis::Pair | Basis::Medians)
}

fn bars(lines: &[&Line<'_>], title: &str, note: &str, record: &Record) -> Option<Figure> {
    let threads: Vec<u64> = lines
        .iter()
        .filter_map(|line| line.threads)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let mut shapes: Vec<&str> = Vec::new();
    for line in lines {
        if !shapes.contains(&line.shape.as_str()) {
            shapes.push(&line.shape);
        }
    }
    let mut notes = vec![note.to_owned()];
    if shapes.len() > MOST_PANELS {
        notes.push(format!(
            "{} further shapes are left out; their rows are in speedup.csv.",
            shapes.len() - MOST_PANELS
        ));
    }
    let panels: Vec<Panel> = shapes
        .into_iter()
        .take(MOST_PANELS)
        .map(|shape| {
            let mut groups: BTreeMap<&str, Vec<(u64, f64, Bar)>> = BTreeMap::new();
            for line in lines.iter().filter(|line| line.shape == shape) {
                let team = line.threads.unwrap_or(1);
                let at = threads.iter().position(|t| *t == team).unwrap_or(0);
                let bar = Bar {
                    segments: vec![(line.ratio, shade(at, threads.len()))],
                    interval: line.ends,
                    mark: Some(1.0),
                    text: format!("{}x", three(line.ratio)),
                };
                let bars = groups.entry(&line.subject).or_default();
                bars.push((team, line.ratio, bar));
            }
            let best = |bars: &[(u64, f64, Bar)]| bars.iter().map(|bar| bar.1).fold(0.0, f64::max);
            let mut groups: Vec<_> = groups.into_iter().collect();
            groups.sort_by(|a, b| best(&b.1).total_cmp(&best(&a.1)).then(a.0.cmp(b.0)));
            Panel::Bars(Bars {
                title: shape.to_owned(),
                unit: "times as fast as the baseline".to_owned(),
                legend: threads
                    .iter()
                    .enumerate()
                    .map(|(at, count)| (labels::threads(*count), shade(at, threads.len())))
                    .collect(),
                groups: groups
                    .into_iter()
                    .map(|(name, mut bars)| {
                        bars.sort_by_key(|bar| bar.0);
                        (name.to_owned(), bars.into_iter().map(|bar| bar.2).collect())
                    })
                    .collect(),
            })
        })
        .collect();
    (!panels.is_empty()).then(|| Figure {
        title: title.to_owned(),
        subtitle: record.heading.line(),
        panels,
        notes,
    })
}

/// GOPS over operations a byte, both logarithmic, under the roof of each thread count. Of several shapes the one with the most rows.
fn roofs(findings: &Findings<'_>, record: &Record) -> Option<Figure> {
    let rows = || findings.races.iter().flatten().copied();
    let matrix = |cell: &trit_core::Cell| cell.rows.zip(cell.k);
    let mut shapes: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    for row in rows().filter(|row| findings.roofline.of(row).is_some()) {
        if let Some(shape) = matrix(&row.cell) {
            *shapes.entry(shape).or_default() += 1;
        }
    }
    let (shape, _) = shapes
        .into_iter()
        .max_by_key(|(shape, count)| (*count, *shape))?;
    let mut panels = Vec::new();
    for threads in findings.roofline.threads() {
        let Some((read, peak)) = findings.roofline.limits(threads) else {
            continue;
        };
        let mut kernels: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
        for row in rows() {
            if row.cell.threads != Some(threads) || matrix(&row.cell) != Some(shape) {
                continue;
            }
            if let Some(roof) = findings.roofline.of(row) {
                let points = kernels.entry(labels::subject(&row.cell)).or_default();
                points.push((roof.intensity, roof.gops));
            }
        }
        let all = || kernels.values().flatten();
        let least = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(f64::INFINITY, f64::min);
        let most = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(0.0, f64::max);
        if kernels.is_empty() {
            continue;
        }
        let ridge = peak / read;
        let (from, to) = (
            least(|point| point.0).min(ridge) / 2.0,
            most(|point| point.0).max(ridge) * 2.0,
        );
        let mut series: Vec<Series> = kernels
            .into_iter()
            .map(|(kernel, mut points)| {
                points.sort_by(|a, b| a.0.total_cmp(&b.0));
                Series {
                    label: kernel.to_owned(),
                    points,
                    intervals: Vec::new(),
                    marks: true,
                }
            })
            .collect();
        let best = |series: &Series| series.points.iter().map(|p| p.1).fold(0.0, f64::max);
        series.sort_by(|a, b| {
            best(b)
                .total_cmp(&best(a))
                .then_with(|| a.label.cmp(&b.label))
        });
        let highest = series.iter().map(best).fold(peak, f64::max);
        let lowest = series
            .iter()
            .flat_map(|series| series.points.iter().map(|point| point.1))
            .fold(from * read, f64::min);
        panels.push(Panel::Lines(Lines {
            title: format!("{}x{}, {}", shape.0, shape.1, labels::threads(threads)),
            x: Axis {
                label: "operations a byte of weights, logarithmic".to_owned(),
                log: true,
                time: false,
                ticks: None,
                from,
                to,
            },
            y: Axis {
                label: "GOPS, logarithmic".to_owned(),
                log: true,
                time: false,
                ticks: None,
                from: lowest / 1.5,
                to: highest * 1.5,
            },
            series,
            reference: Some((
                "roof".to_owned(),
                vec![(from, from * read), (ridge, peak), (to, peak)],
            )),
        }));
    }
    (!panels.is_empty()).then(|| Figure {
        title: "Roofline: operations a second over operations a byte".to_owned(),
        subtitle: record.heading.line(),
        panels,
        notes: vec![
            "Dashed: the fastest read probe times operations a byte, up to the fastest probe of 8-bit arithmetic; both are limits of the machine and not of one kernel's instruction set. A line joins one kernel at growing numbers of tokens. Marks of one place stand side by side.".to_owned(),
        ],
    })
}
