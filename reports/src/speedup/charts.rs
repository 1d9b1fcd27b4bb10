//! Charts of the speed-up report: ratios as bars, and rows under the roof.

use std::collections::{BTreeMap, BTreeSet};

use trit_core::{SummaryRow, Workload};

use super::{Basis, Findings, Line, Roof, Roofline};
use crate::chart::{
    Axis, Bar, Bars, Figure, Lines, MOST_PANELS, Panel, ROOFLINE, Series, interval_of_rate, shade,
};
use crate::labels;
use crate::markdown::ranked;
use crate::record::Record;
use crate::units::three;

/// Every chart with its name.
pub(super) fn figures(findings: &Findings<'_>, record: &Record) -> Vec<(String, Figure)> {
    let mut figures = ratios(findings, record);
    let roofs = roofs(&findings.roofline, record);
    figures.extend(roofs.map(|figure| (ROOFLINE.to_owned(), figure)));
    figures
}

/// Bars of ratios with their names.
pub(super) fn ratios(findings: &Findings<'_>, record: &Record) -> Vec<(String, Figure)> {
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
pub(super) fn roofs(roofline: &Roofline, record: &Record) -> Option<Figure> {
    let matrix = |row: &SummaryRow| row.cell.rows.zip(row.cell.k);
    let placed: Vec<(&SummaryRow, Roof)> = record
        .rows
        .iter()
        .filter(|row| ranked(row))
        .filter_map(|row| Some((row, roofline.of(row)?)))
        .collect();
    let mut shapes: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    for shape in placed.iter().filter_map(|(row, _)| matrix(row)) {
        *shapes.entry(shape).or_default() += 1;
    }
    let (shape, _) = shapes
        .into_iter()
        .max_by_key(|(shape, count)| (*count, *shape))?;
    let panels: Vec<Panel> = roofline
        .limits()
        .filter_map(|(threads, read, peak)| {
            let here: Vec<(&SummaryRow, Roof)> = placed
                .iter()
                .copied()
                .filter(|(row, _)| row.cell.threads == Some(threads) && matrix(row) == Some(shape))
                .collect();
            let title = format!("{}x{}, {}", shape.0, shape.1, labels::threads(threads));
            (!here.is_empty()).then(|| under(title, &here, read, peak))
        })
        .collect();
    (!panels.is_empty()).then(|| Figure {
        title: "Roofline: operations a second over operations a byte".to_owned(),
        subtitle: record.heading.line(),
        panels,
        notes: vec![
            "Dashed: the fastest read probe times operations a byte, up to the fastest probe of 8-bit arithmetic where the run has one; both are limits of the machine and not of one kernel's instruction set. A line joins one kernel at growing numbers of tokens. Whiskers are 95 % intervals of the median. GOPS are billions of operations a second; a multiply and an add are two.".to_owned(),
        ],
    })
}

/// Rows under the roof of one number of threads: bytes a nanosecond, and operations a nanosecond where they were measured.
fn under(title: String, rows: &[(&SummaryRow, Roof)], read: f64, peak: Option<f64>) -> Panel {
    let mut kernels: BTreeMap<&str, Vec<(&SummaryRow, Roof)>> = BTreeMap::new();
    for &(row, roof) in rows {
        let points = kernels.entry(labels::subject(&row.cell)).or_default();
        points.push((row, roof));
    }
    let mut series: Vec<Series> = kernels
        .into_iter()
        .map(|(kernel, mut points)| {
            points.sort_by(|a, b| a.1.intensity.total_cmp(&b.1.intensity));
            let tokens = |row: &SummaryRow| match row.cell.tokens {
                None | Some(1) => "1 token".to_owned(),
                Some(count) => format!("{count} tokens"),
            };
            Series {
                label: kernel.to_owned(),
                points: points
                    .iter()
                    .map(|(_, roof)| (roof.intensity, roof.gops))
                    .collect(),
                intervals: points
                    .iter()
                    .filter_map(|(row, roof)| {
                        let (lo, hi) = interval_of_rate(row, roof.gops)?;
                        Some((roof.intensity, lo, hi))
                    })
                    .collect(),
                names: points.iter().map(|(row, _)| tokens(row)).collect(),
                marks: true,
                ..Series::default()
            }
        })
        .collect();
    let best = |series: &Series| series.points.iter().map(|p| p.1).fold(0.0, f64::max);
    series.sort_by(|a, b| {
        best(b)
            .total_cmp(&best(a))
            .then_with(|| a.label.cmp(&b.label))
    });
    let points = || series.iter().flat_map(|series| &series.points);
    let (mut from, mut to) = points().fold((f64::INFINITY, 0.0_f64), |(from, to), point| {
        (from.min(point.0), to.max(point.0))
    });
    let mut reference = Vec::new();
    if let Some(ridge) = peak.map(|peak| peak / read) {
        (from, to) = (from.min(ridge) / 2.0, to.max(ridge) * 2.0);
        reference.push((ridge, ridge * read));
    } else {
        (from, to) = (from / 2.0, to * 2.0);
    }
    reference.insert(0, (from, from * read));
    reference.push((to, peak.unwrap_or(to * read)));
    let highest = reference.iter().chain(points()).map(|point| point.1);
    let highest = highest.fold(0.0, f64::max);
    let lowest = points().map(|point| point.1).fold(from * read, f64::min);
    let axis = |label: &str, from: f64, to: f64| Axis {
        label: label.to_owned(),
        log: true,
        time: false,
        ticks: None,
        from,
        to,
    };
    let name = if peak.is_some() {
        "roof"
    } else {
        "roof of memory"
    };
    Panel::Lines(Lines {
        title,
        x: axis("operations a byte of weights, logarithmic", from, to),
        y: axis("GOPS, logarithmic", lowest / 1.5, highest * 1.5),
        series,
        reference: Some((name.to_owned(), reference)),
    })
}
