//! Quality of configurations against their speed and their bytes.

use std::path::PathBuf;

use trit_core::{EvalRow, RunDir, Table};

use super::figure::{Axis, Figure, Lines, Panel, Series};
use super::{Heading, in_order, limited, save_one};
use crate::ReportError;

/// Name of the files of the chart.
pub(super) const NAME: &str = "quality";
/// Its title.
const TITLE: &str = "What lossy configurations cost";
const MB: f64 = 1e6;

/// A configuration in a panel.
struct Point {
    label: String,
    x: f64,
    /// Perplexity over that of the reference, in percent.
    y: f64,
    interval: Option<(f64, f64)>,
}

/// About five ticks at round numbers that enclose both ends.
fn ticks(from: f64, to: f64) -> Vec<f64> {
    let span = (to - from).max(1e-3);
    let power = 10f64.powf((span / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| span / step <= 6.0)
        .unwrap_or(10.0 * power);
    let (first, last) = ((from / step).floor() as i64, (to / step).ceil() as i64);
    (first..=last.max(first + 1))
        .map(|tick| tick as f64 * step)
        .collect()
}

/// What a configuration is drawn at.
type Place = fn(&EvalRow, &[EvalRow]) -> Option<f64>;

fn speed(row: &EvalRow, rows: &[EvalRow]) -> Option<f64> {
    rows.iter()
        .rev()
        .find(|other| {
            other.metric == "decode_tokens_per_s"
                && other.config == row.config
                && other.model == row.model
        })?
        .value
}

fn bytes(row: &EvalRow, _: &[EvalRow]) -> Option<f64> {
    row.token_bytes.map(|bytes| bytes as f64 / MB)
}

fn points(rows: &[EvalRow], model: &str, task: &str, place: Place) -> Vec<Point> {
    let of_task = |row: &&EvalRow| row.model == model && row.task == task;
    // Of a directory that was evaluated twice the last rows count.
    let last = |config: &str, metric: &str| {
        rows.iter()
            .filter(of_task)
            .rfind(|row| row.config == config && row.metric == metric)
    };
    let percent = |difference: f64| 100.0 * difference.exp_m1();
    let configs = in_order(rows.iter().filter(of_task).map(|row| row.config.clone()));
    configs
        .into_iter()
        .filter_map(|config| {
            let loss = last(&config, "nll")?;
            let difference = last(&config, "nll_difference");
            Some(Point {
                x: place(loss, rows)?,
                // The reference differs from itself by nothing.
                y: difference.map_or(Some(0.0), |row| row.value.map(percent))?,
                interval: difference.and_then(|row| Some((percent(row.lo?), percent(row.hi?)))),
                label: config,
            })
        })
        .collect()
}

fn panel(title: String, x_label: &str, points: &[Point]) -> Option<Panel> {
    let ends = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), value| {
            (lo.min(value), hi.max(value))
        })
    };
    if points.len() < 2 {
        return None;
    }
    let axis = |label: &str, (from, to): (f64, f64)| {
        let ticks = ticks(from, to);
        Axis {
            label: label.to_owned(),
            log: false,
            time: false,
            from: ticks[0],
            to: ticks[ticks.len() - 1],
            ticks: Some(ticks),
        }
    };
    let x = ends(&mut points.iter().map(|point| point.x));
    let y = ends(&mut points.iter().flat_map(|point| {
        let (lo, hi) = point.interval.unwrap_or((point.y, point.y));
        [point.y, lo, hi]
    }));
    let series = points.iter().map(|point| Series {
        label: point.label.clone(),
        points: vec![(point.x, point.y)],
        intervals: point
            .interval
            .map(|(lo, hi)| (point.x, lo, hi))
            .into_iter()
            .collect(),
        marks: true,
        ..Series::default()
    });
    Some(Panel::Lines(Lines {
        title,
        x: axis(x_label, x),
        y: axis("perplexity over that of the reference, %", y),
        series: series.collect(),
        reference: None,
    }))
}

fn figure(heading: &Heading, rows: &[EvalRow]) -> Option<Figure> {
    let tasks = in_order(
        rows.iter()
            .filter(|row| row.metric == "nll_difference")
            .map(|row| (row.model.clone(), row.task.clone())),
    );
    let places: [(&str, Place); 2] = [
        ("decoded tokens/s", speed),
        ("MB that decoding a token reads", bytes),
    ];
    let panels: Vec<Panel> = tasks
        .iter()
        .flat_map(|(model, task)| {
            places.map(|(label, place)| {
                panel(
                    format!("{model}, {task}"),
                    label,
                    &points(rows, model, task, place),
                )
            })
        })
        .flatten()
        .collect();
    let mut notes = vec![
        "The first configuration is the reference. Intervals are of the paired difference, 95 %, from runs of tokens drawn again; marks at one x stand a little aside.".to_owned(),
    ];
    let panels = limited(panels, &mut notes);
    (!panels.is_empty()).then(|| Figure {
        title: TITLE.to_owned(),
        subtitle: heading.line(),
        panels,
        notes,
    })
}

/// Draws the `eval.csv` of a run directory into its charts, where it has one with more than one configuration; gives the path of the
/// SVG file.
///
/// # Errors
/// When the rows cannot be read, or the chart cannot be written.
pub fn write_quality(run: &RunDir) -> Result<Option<PathBuf>, ReportError> {
    let heading = Heading::new(&run.session()?, run.path());
    let figure = read(run, &heading)?;
    figure
        .map(|figure| save_one(NAME, figure, &run.path().join("charts")))
        .transpose()
}

/// The figure of a run directory that holds an evaluation.
pub(super) fn read(run: &RunDir, heading: &Heading) -> Result<Option<Figure>, ReportError> {
    if !run.path().join(EvalRow::FILE).is_file() {
        return Ok(None);
    }
    Ok(figure(heading, &run.read()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(config: &str, metric: &str, value: f64) -> EvalRow {
        let speed = metric == "decode_tokens_per_s";
        EvalRow {
            config: config.into(),
            model: "m".into(),
            task: if speed { "speed" } else { "text:t" }.into(),
            metric: metric.into(),
            value: Some(value),
            lo: Some(value - 0.01),
            hi: Some(value + 0.01),
            token_bytes: Some(2_000_000),
            ..EvalRow::default()
        }
    }

    #[test]
    fn configurations_stand_at_their_speed_and_their_bytes() {
        let rows = [
            row("a", "nll", 3.0),
            row("b", "nll", 3.1),
            row("b", "nll_difference", 0.1),
            row("a", "decode_tokens_per_s", 100.0),
            row("b", "decode_tokens_per_s", 150.0),
        ];
        let figure = figure(&Heading::default(), &rows).unwrap();
        assert_eq!(figure.panels.len(), 2);
        let [Panel::Lines(speed), Panel::Lines(bytes)] = &figure.panels[..] else {
            panic!("lines are drawn");
        };
        assert_eq!(speed.series[0].points, [(100.0, 0.0)]);
        let (x, y) = speed.series[1].points[0];
        assert!(
            (x - 150.0).abs() < 1e-9 && (y - 10.517).abs() < 1e-3,
            "{x} {y}"
        );
        assert_eq!(bytes.series[1].points[0], (2.0, y));
        assert!(speed.y.from <= 0.0 && speed.y.to >= y);
    }

    #[test]
    fn one_configuration_is_no_chart() {
        assert_eq!(figure(&Heading::default(), &[row("a", "nll", 3.0)]), None);
    }

    #[test]
    fn ticks_enclose_what_they_are_for() {
        for (from, to) in [(0.0, 0.0), (-0.3, 7.2), (1e5, 1.2e5), (-4.0, -1.0)] {
            let ticks = ticks(from, to);
            assert!(ticks[0] <= from && ticks[ticks.len() - 1] >= to);
            assert!((2..=9).contains(&ticks.len()), "{ticks:?}");
        }
    }
}
