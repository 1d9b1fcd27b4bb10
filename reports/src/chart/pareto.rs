//! Speed against what it costs: who is faster at the same cost, and who is cheaper at the same speed.

use std::collections::BTreeMap;

use trit_core::{SummaryRow, Workload};

use super::figure::{Axis, Figure, Lines, Panel, Series};
use super::memory::resident;
use super::speed::rate;
use super::{describe, limited, shape_title};
use crate::labels;
use crate::markdown::ranked;
use crate::record::Record;
use crate::units::joule_unit;

/// Name of the files of the chart.
pub(crate) const NAME: &str = "pareto";
const MIB: f64 = 1024.0 * 1024.0;
/// Costs that are nearer to one another than this factor are one cost: there is nothing to choose between.
const LEAST_SPREAD: f64 = 1.02;

/// Which of these are on the front: no other is at most as large in both and smaller in one.
pub(crate) fn front(points: &[(f64, f64)]) -> Vec<bool> {
    let beats = |a: (f64, f64), b: (f64, f64)| a.0 <= b.0 && a.1 <= b.1 && (a.0 < b.0 || a.1 < b.1);
    let on_front = |point: &(f64, f64)| !points.iter().any(|other| beats(*other, *point));
    points.iter().map(on_front).collect()
}

/// What speed is paid with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cost {
    /// Gross energy of a token, where a meter was read.
    Joules,
    /// The most memory that the worker of a model took.
    Memory,
    /// Bits that a kernel stores for a weight.
    Bits,
}

impl Cost {
    /// The cost of a row with its interval, and nothing where it is not known.
    fn of(self, row: &SummaryRow) -> Option<(f64, Option<(f64, f64)>)> {
        let results = &row.results;
        let (value, interval) = match self {
            Self::Joules => {
                let ends = results
                    .gross_j_per_token_lo
                    .zip(results.gross_j_per_token_hi);
                (results.gross_j_per_token?, ends)
            }
            Self::Memory => (resident(row)? as f64 / MIB, None),
            Self::Bits => (row.cell.weight_bits?, None),
        };
        (value > 0.0).then_some((value, interval))
    }

    /// What the rows of a place have: joules where two of them do, else memory of models and bits of kernels.
    fn at(workload: Workload, rows: &[&SummaryRow]) -> Option<Self> {
        let metered = rows.iter().filter(|row| Self::Joules.of(row).is_some());
        if metered.count() > 1 {
            return Some(Self::Joules);
        }
        match workload {
            Workload::Prefill | Workload::Decode | Workload::Chat => Some(Self::Memory),
            Workload::GemvCold | Workload::GemvWarm | Workload::Gemm => Some(Self::Bits),
            _ => None,
        }
    }
}

/// A row at its cost and its speed.
struct Point<'a> {
    row: &'a SummaryRow,
    cost: f64,
    cost_ends: Option<(f64, f64)>,
    rate: f64,
    rate_ends: Option<(f64, f64)>,
}

/// The corners of the front from the cheapest to the edge of the plot.
fn corners(points: &[Point<'_>], right: f64) -> Vec<(f64, f64)> {
    let places: Vec<(f64, f64)> = points.iter().map(|p| (p.cost, 1.0 / p.rate)).collect();
    let mut kept: Vec<(f64, f64)> = points
        .iter()
        .zip(front(&places))
        .filter(|(_, on_front)| *on_front)
        .map(|(point, _)| (point.cost, point.rate))
        .collect();
    kept.sort_by(|a, b| a.0.total_cmp(&b.0));
    kept.dedup();
    let mut out = Vec::new();
    for (i, &(cost, rate)) in kept.iter().enumerate() {
        out.push((cost, rate));
        out.push((kept.get(i + 1).map_or(right, |next| next.0), rate));
    }
    out
}

/// The ends of values and of their intervals.
fn ends(values: impl Iterator<Item = (f64, Option<(f64, f64)>)>) -> (f64, f64) {
    values.fold((f64::INFINITY, 0.0), |(from, to), (value, interval)| {
        let (lo, hi) = interval
            .filter(|(lo, _)| *lo > 0.0)
            .unwrap_or((value, value));
        (from.min(value).min(lo), to.max(value).max(hi))
    })
}

fn panel(workload: Workload, shape: String, rows: &[&SummaryRow]) -> Option<Panel> {
    let cost = Cost::at(workload, rows)?;
    let mut unit = "";
    let mut points: Vec<Point<'_>> = Vec::new();
    for &row in rows {
        if let Some(((cost, cost_ends), (rate, its_unit))) = cost.of(row).zip(rate(row)) {
            unit = its_unit;
            points.push(Point {
                row,
                cost,
                cost_ends,
                rate: rate.value,
                rate_ends: rate.interval,
            });
        }
    }
    let (least, most) = ends(points.iter().map(|point| (point.cost, None)));
    if points.len() < 2 || most < least * LEAST_SPREAD {
        return None;
    }
    let (scale, label) = match cost {
        Cost::Joules => {
            let (scale, unit) = joule_unit(most);
            (scale, format!("{unit} a token, gross"))
        }
        Cost::Memory => (1.0, "MiB of memory at most (peak RSS)".to_owned()),
        Cost::Bits => (1.0, "bits a weight".to_owned()),
    };
    for point in &mut points {
        point.cost /= scale;
        point.cost_ends = point.cost_ends.map(|(lo, hi)| (lo / scale, hi / scale));
    }
    let axis = |label: &str, (from, to): (f64, f64)| Axis {
        label: format!("{label}, logarithmic"),
        log: true,
        time: false,
        ticks: None,
        from: from / 1.12,
        to: to * 1.12,
    };
    let mut x = axis(&label, ends(points.iter().map(|p| (p.cost, p.cost_ends))));
    if cost == Cost::Bits {
        // A few values, each of several kernels.
        let mut ticks: Vec<f64> = points.iter().map(|point| point.cost).collect();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        x.ticks = Some(ticks);
    }
    // The short form of the unit: the axis is as long as the plot is high.
    let unit = unit.split(" (").next().unwrap_or(unit);
    let y = axis(unit, ends(points.iter().map(|p| (p.rate, p.rate_ends))));
    let mut kernels: BTreeMap<&str, Vec<&Point<'_>>> = BTreeMap::new();
    for point in &points {
        let of_kernel = kernels.entry(labels::subject(&point.row.cell)).or_default();
        of_kernel.push(point);
    }
    let mut series: Vec<(f64, Series)> = kernels
        .into_iter()
        .map(|(kernel, mut of_kernel)| {
            of_kernel.sort_by_key(|point| point.row.cell.threads);
            let best = of_kernel.iter().map(|point| point.rate).fold(0.0, f64::max);
            let positive = |ends: Option<(f64, f64)>| ends.filter(|(lo, _)| *lo > 0.0);
            let one = Series {
                label: kernel.to_owned(),
                points: of_kernel.iter().map(|p| (p.cost, p.rate)).collect(),
                intervals: of_kernel
                    .iter()
                    .filter_map(|p| positive(p.rate_ends).map(|(lo, hi)| (p.cost, lo, hi)))
                    .collect(),
                across: of_kernel
                    .iter()
                    .filter_map(|p| positive(p.cost_ends).map(|(lo, hi)| (p.rate, lo, hi)))
                    .collect(),
                names: of_kernel
                    .iter()
                    .map(|p| p.row.cell.threads.map_or_else(String::new, labels::threads))
                    .collect(),
                marks: true,
            };
            (best, one)
        })
        .collect();
    series.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.label.cmp(&b.1.label)));
    let corners = corners(&points, x.to);
    Some(Panel::Lines(Lines {
        title: format!("{}: {}", shape_title(shape, workload), describe(workload)),
        x,
        y,
        series: series.into_iter().map(|(_, one)| one).collect(),
        reference: Some(("front".to_owned(), corners)),
    }))
}

/// Speed against cost: a panel a model and workload, and of kernels one a workload, at the shape with the most rows.
pub(crate) fn pareto(record: &Record) -> Option<Figure> {
    let mut order: Vec<(Workload, String)> = Vec::new();
    let mut places: BTreeMap<(Workload, String), Vec<&SummaryRow>> = BTreeMap::new();
    for row in record.rows.iter().filter(|row| ranked(row)) {
        let place = (row.cell.workload, labels::shape(&row.cell));
        let rows = places.entry(place.clone()).or_default();
        if rows.is_empty() {
            order.push(place);
        }
        rows.push(row);
    }
    let mut models: Vec<Panel> = Vec::new();
    let mut kernels: BTreeMap<Workload, (usize, Panel)> = BTreeMap::new();
    for place in order {
        let here = places.remove(&place).unwrap_or_default();
        let (workload, shape) = place;
        let model = here.iter().any(|row| !row.cell.model.is_empty());
        let Some(panel) = panel(workload, shape, &here) else {
            continue;
        };
        if model {
            models.push(panel);
        } else if kernels
            .get(&workload)
            .is_none_or(|(count, _)| *count < here.len())
        {
            kernels.insert(workload, (here.len(), panel));
        }
    }
    models.extend(kernels.into_values().map(|(_, panel)| panel));
    let mut notes = vec![
        "Up and to the left is better. Dashed: the front; nothing that was measured is at most as expensive and faster than it. A line joins one kernel on growing numbers of threads. Whiskers are 95 % intervals; bits and memory have none. Kernels alone are shown at the shape with the most rows; those of as many bits stand side by side.".to_owned(),
    ];
    let panels = limited(models, &mut notes);
    (!panels.is_empty()).then(|| Figure {
        title: "Pareto: speed against what it costs".to_owned(),
        subtitle: record.heading.line(),
        panels,
        notes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use trit_core::{Cell, Results};

    #[test]
    fn the_front_is_what_nothing_beats() {
        let points = [(1.0, 5.0), (2.0, 3.0), (2.0, 4.0), (3.0, 3.0), (4.0, 1.0)];
        assert_eq!(front(&points), [true, true, false, false, true]);
        // Equals do not beat one another.
        assert_eq!(front(&[(1.0, 1.0), (1.0, 1.0)]), [true, true]);
        assert_eq!(front(&[]), Vec::<bool>::new());
    }

    fn row(kernel: &str, threads: u64, bits: f64, ns: f64, joules: Option<f64>) -> SummaryRow {
        SummaryRow {
            cell: Cell {
                cell: format!("{kernel}/t{threads}"),
                kernel: kernel.into(),
                workload: Workload::GemvCold,
                weight_bits: Some(bits),
                rows: Some(64),
                k: Some(64),
                threads: Some(threads),
                ..Cell::default()
            },
            results: Results {
                median_ns: Some(ns),
                lo_ns: Some(ns * 0.99),
                hi_ns: Some(ns * 1.01),
                gops: Some(8192.0 / ns),
                gross_j_per_token: joules,
                gross_j_per_token_lo: joules.map(|j| j * 0.9),
                gross_j_per_token_hi: joules.map(|j| j * 1.1),
                ..Results::default()
            },
        }
    }

    fn only(rows: Vec<SummaryRow>) -> Option<Lines> {
        let record = Record {
            rows,
            ..Record::default()
        };
        let mut panels = pareto(&record)?.panels;
        assert_eq!(panels.len(), 1);
        match panels.remove(0) {
            Panel::Lines(lines) => Some(lines),
            Panel::Bars(_) => panic!("lines are drawn"),
        }
    }

    #[test]
    fn kernels_stand_at_their_bits_where_there_was_no_meter() {
        let rows = vec![
            row("a", 1, 1.6, 100.0, None),
            row("a", 2, 1.6, 50.0, None),
            row("b", 1, 2.0, 80.0, None),
            row("c", 1, 16.0, 40.0, None),
        ];
        let lines = only(rows).unwrap();
        assert_eq!(lines.x.label, "bits a weight, logarithmic");
        assert_eq!(lines.y.label, "GOPS, logarithmic");
        let labels: Vec<&str> = lines.series.iter().map(|one| one.label.as_str()).collect();
        assert_eq!(labels, ["c", "a", "b"], "the fastest first");
        assert_eq!(lines.series[1].points, [(1.6, 81.92), (1.6, 163.84)]);
        assert_eq!(lines.series[1].names, ["1 thread", "2 threads"]);
        assert!(lines.series[1].across.is_empty() && lines.series[1].intervals.len() == 2);
        // From two threads of `a` over the bits of `c` to the edge: `b` is behind in both.
        let (_, corners) = lines.reference.unwrap();
        assert_eq!(
            corners,
            [
                (1.6, 163.84),
                (16.0, 163.84),
                (16.0, 204.8),
                (lines.x.to, 204.8)
            ]
        );
    }

    #[test]
    fn a_meter_makes_joules_the_cost() {
        let rows = vec![
            row("a", 1, 2.0, 100.0, Some(2e-6)),
            row("b", 1, 2.0, 80.0, Some(3e-6)),
            row("c", 1, 16.0, 40.0, None),
        ];
        let lines = only(rows).unwrap();
        assert_eq!(lines.x.label, "µJ a token, gross, logarithmic");
        let points: Vec<f64> = lines.series.iter().map(|one| one.points[0].0).collect();
        assert!((points[0] - 3.0).abs() < 1e-9 && (points[1] - 2.0).abs() < 1e-9);
        assert_eq!(lines.series.len(), 2, "who has no joules is not at 0");
        assert_eq!(lines.series[0].across.len(), 1);
    }

    #[test]
    fn one_cost_is_no_choice() {
        let same = vec![row("a", 1, 2.0, 100.0, None), row("b", 1, 2.0, 80.0, None)];
        assert!(only(same).is_none());
        assert!(only(Vec::new()).is_none());
    }
}
