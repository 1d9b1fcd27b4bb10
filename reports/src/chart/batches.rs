//! Throughput of sequences that are decoded together against the time of a step.

use super::speed::{INTERVALS, interval_of_rate};
use super::{Axis, ChartData, Figure, Lines, Panel, Series, in_order, limited};
use crate::batches::{Course, courses};

/// One line: a point a number of sequences.
fn series(course: &Course<'_>) -> Series {
    let mut points = Vec::new();
    let mut intervals = Vec::new();
    let mut names = Vec::new();
    for (batch, row) in &course.rows {
        let results = &row.results;
        let (Some(ns), Some(rate)) = (results.median_ns, results.tokens_per_s) else {
            continue;
        };
        points.push((ns, rate));
        names.push(format!("{batch} sequences"));
        let interval = interval_of_rate(row, rate);
        intervals.extend(interval.map(|(lo, hi)| (ns, lo, hi)));
    }
    let batches: Vec<String> = course.rows.iter().map(|row| row.0.to_string()).collect();
    Series {
        label: format!("{}: {} sequences", course.label, batches.join(", ")),
        points,
        intervals,
        names,
        marks: true,
        ..Series::default()
    }
}

fn panel(model: String, series: Vec<Series>) -> Panel {
    let all = || series.iter().flat_map(|series| &series.points);
    let low = all().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let high = all().map(|point| point.0).fold(0.0, f64::max);
    let intervals = series.iter().flat_map(|series| &series.intervals);
    let top = intervals
        .map(|interval| interval.2)
        .chain(all().map(|point| point.1))
        .fold(0.0, f64::max);
    Panel::Lines(Lines {
        title: model,
        x: Axis {
            label: "time of a step, in which each sequence gets a token, logarithmic".to_owned(),
            log: true,
            time: true,
            ticks: None,
            from: low / 1.1,
            to: high * 1.1,
        },
        y: Axis {
            label: "tokens a second of all sequences".to_owned(),
            log: false,
            time: false,
            ticks: None,
            from: 0.0,
            to: top * 1.05,
        },
        series,
        reference: None,
    })
}

/// A panel a model and a line a kernel and number of threads; nothing where there is one number of sequences.
pub(super) fn batches(data: &ChartData<'_>) -> Option<Figure> {
    let courses = courses(&data.record.rows);
    let models = in_order(courses.iter().map(|course| course.model.clone()));
    let panels = models.into_iter().map(|model| {
        let here = courses.iter().filter(|course| course.model == model);
        let series = here.map(series).collect();
        panel(model, series)
    });
    let mut notes = vec![format!(
        "Each mark is a number of sequences, the fewest at the left: weights are read once for all of them, so a step of more takes less time a token. {INTERVALS}"
    )];
    let panels = limited(panels.collect(), &mut notes);
    (!panels.is_empty()).then(|| Figure {
        title: "Sequences decoded together: throughput against latency".to_owned(),
        subtitle: data.record.heading.line(),
        panels,
        notes,
    })
}
