//! The trend of a cell over sessions.

use std::path::Path;

use super::axis::linear_ticks;
use super::figure::{Axis, Figure, Lines, Panel, Series};
use super::{Heading, limited, save_as};
use crate::ReportError;
use crate::history::Trend;

const NAME: &str = "history";

/// The label of the axis, and what its values are multiplied by. `most` is the largest of them.
fn unit(measure: &str, most: f64) -> (String, f64) {
    let what = match measure {
        "tokens_per_s" => return ("tokens a second".to_owned(), 1.0),
        "gops" => return ("GOPS (billion operations a second)".to_owned(), 1.0),
        "gb_per_s" => return ("GB/s (billion bytes a second)".to_owned(), 1.0),
        "peak_rss_bytes" => return ("MiB (1024 x 1024 bytes)".to_owned(), 1.0 / 1_048_576.0),
        "gross_j_per_token" => return ("joules a token, gross".to_owned(), 1.0),
        "n" => return ("samples".to_owned(), 1.0),
        "ttft_ns" => "time to the first token",
        "load_ns" => "time to load the model",
        "p90_ns" => "90th percentile of a call",
        "p99_ns" => "99th percentile of a call",
        "lo_ns" | "hi_ns" => "end of the interval of the median",
        _ => "median time of a call",
    };
    // One unit for the whole axis: numbers that are short enough to stand beside it.
    let (scale, unit) = [(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")]
        .into_iter()
        .find(|(scale, _)| most >= *scale)
        .unwrap_or((1.0, "ns"));
    (format!("{what} in {unit}"), 1.0 / scale)
}

fn panel(trend: &Trend) -> Option<Panel> {
    let points = trend.points();
    let most = points
        .iter()
        .map(|(point, ..)| point.value)
        .fold(0.0, f64::max);
    let (label, scale) = unit(&trend.series.measure, most);
    let (first, last) = (points.first()?, points.last()?);
    let x = |i: usize| (i + 1) as f64;
    let mut values = Series {
        label: "session".to_owned(),
        points: Vec::new(),
        marks: points.len() <= 120,
        ..Series::default()
    };
    let mut levels = Series {
        label: "median between changes".to_owned(),
        points: Vec::new(),
        marks: false,
        ..Series::default()
    };
    let mut bars = Vec::new();
    let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
    for (i, (point, level, change)) in points.iter().enumerate() {
        let value = point.value * scale;
        low = low.min(value);
        high = high.max(value);
        values.points.push((x(i), value));
        if let Some((lo, hi)) = point.interval.filter(|(lo, _)| *lo > 0.0) {
            low = low.min(lo * scale);
            high = high.max(hi * scale);
            if points.len() <= 120 {
                values.intervals.push((x(i), lo * scale, hi * scale));
            }
        }
        if change.is_some() {
            // A number that is none ends one stretch before the next.
            levels.points.push((x(i), f64::NAN));
            bars.push(x(i) - 0.5);
        }
        levels.points.push((x(i), level * scale));
    }
    let (from, to) = (low / 1.03, high * 1.03);
    let reference: Vec<(f64, f64)> = bars
        .into_iter()
        .flat_map(|at| [(at, from), (at, to), (at, from)])
        .collect();
    let day = |text: &str| text.chars().take(10).collect::<String>();
    Some(Panel::Lines(Lines {
        title: trend.series.cell.clone(),
        x: Axis {
            label: format!(
                "session, in the order of time: {} to {}",
                day(&first.0.started_utc),
                day(&last.0.started_utc)
            ),
            log: false,
            time: false,
            ticks: Some(
                linear_ticks(x(points.len() - 1), 8)
                    .into_iter()
                    .filter(|tick| (x(0)..=x(points.len() - 1)).contains(tick))
                    .collect(),
            ),
            from: x(0) - 0.5,
            to: x(points.len() - 1) + 0.5,
        },
        y: Axis {
            label: format!("{label}, logarithmic"),
            log: true,
            time: false,
            ticks: None,
            from,
            to,
        },
        series: vec![values, levels],
        reference: (!reference.is_empty()).then(|| ("change".to_owned(), reference)),
    }))
}

/// The figure of trends on one machine.
pub(crate) fn figure(trends: &[Trend]) -> Option<Figure> {
    let first = trends.first()?;
    let mut notes = vec![
        "Whiskers are the 95 % intervals within each session. A change is a place where the distribution differs before and after, by E-Divisive with a permutation test on logarithms; it says when, and not why.".to_owned(),
    ];
    let panels: Vec<Panel> = trends.iter().filter_map(panel).collect();
    if let Some(left_out) = trends
        .iter()
        .map(|trend| trend.left_out)
        .max()
        .filter(|n| *n > 0)
    {
        notes.push(format!("{left_out} earlier sessions are left out."));
    }
    let panels = limited(panels, &mut notes);
    let heading = Heading {
        session: format!("fingerprint {}", first.series.machine),
        machine: first.series.description.clone(),
        when: String::new(),
    };
    (!panels.is_empty()).then(|| Figure {
        title: "History".to_owned(),
        subtitle: heading.line(),
        panels,
        notes,
    })
}

/// Draws trends of cells on one machine into an SVG file, or a PNG when the name ends so. Gives `false` when there is nothing to
/// draw. At most a dozen cells are drawn.
///
/// # Errors
/// When the chart cannot be written.
pub fn write_history(trends: &[Trend], path: &Path) -> Result<bool, ReportError> {
    let Some(figure) = figure(trends) else {
        return Ok(false);
    };
    save_as(NAME, &figure, path)?;
    Ok(true)
}
