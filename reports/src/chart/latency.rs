//! Distributions of the time of a call.

use trit_core::{Cell, Workload};
use trit_stats::ecdf;

use super::figure::{Axis, Figure, Lines, Panel, Series};
use super::{ChartData, MOST_PANELS, describe, grouped, say_left_out};
use crate::labels;
use crate::summary::Samples;

/// Steps of one distribution function that are drawn: about two a pixel.
const ECDF_POINTS: usize = 1000;

fn panel_title(shape: &str, rest: &str) -> String {
    [shape, rest]
        .iter()
        .filter(|part| !part.is_empty())
        .copied()
        .collect::<Vec<_>>()
        .join(", ")
}

/// Distribution of the time of a call on a logarithmic axis.
pub(super) fn latency(data: &ChartData<'_>, workload: Workload) -> Option<Figure> {
    let of_workload: Vec<&Samples<'_>> = data
        .samples
        .iter()
        .filter(|samples| {
            samples.cell.workload == workload && !samples.cell.subject.starts_with("probe:")
        })
        .filter(|samples| samples.ns.iter().all(|ns| *ns > 0.0) && samples.ns.len() > 1)
        .collect();
    let panel_of = |cell: &Cell| (labels::shape(cell), cell.threads);
    let mut panels = Vec::new();
    let of_panel = |samples: &&'_ Samples<'_>| panel_of(samples.cell);
    let groups = grouped(of_workload.into_iter().map(|one| (of_panel(&one), one)));
    let left_out = groups.len().saturating_sub(MOST_PANELS);
    // Every group has a panel: those that are not shown are not made, since each has thousands of points.
    for (key, samples) in groups.into_iter().take(MOST_PANELS) {
        let mut here: Vec<(f64, Series, f64, f64)> = samples
            .into_iter()
            .filter_map(|samples| {
                let steps = ecdf(&samples.ns)?;
                let middle = trit_stats::median(&samples.ns)?;
                let (low, high) = (steps.first()?.0, steps.last()?.0);
                let label = format!(
                    "{} (n = {})",
                    labels::subject(samples.cell),
                    samples.ns.len()
                );
                let points = staircase(&thin(&steps));
                Some((
                    middle,
                    Series {
                        label,
                        points,
                        marks: false,
                        ..Series::default()
                    },
                    low,
                    high,
                ))
            })
            .collect();
        here.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.label.cmp(&b.1.label)));
        let low = here
            .iter()
            .map(|entry| entry.2)
            .fold(f64::INFINITY, f64::min);
        let high = here.iter().map(|entry| entry.3).fold(0.0, f64::max);
        if here.is_empty() {
            continue;
        }
        let threads = key.1.map_or_else(String::new, labels::threads);
        panels.push(Panel::Lines(Lines {
            title: panel_title(&key.0, &threads),
            x: Axis {
                label: "time of one call, logarithmic".to_owned(),
                log: true,
                time: true,
                ticks: None,
                from: low / 1.05,
                to: high * 1.05,
            },
            y: Axis {
                label: "share of samples at most as long".to_owned(),
                log: false,
                time: false,
                ticks: Some(vec![0.0, 0.25, 0.5, 0.75, 0.9, 1.0]),
                from: 0.0,
                to: 1.0,
            },
            series: here.into_iter().map(|entry| entry.1).collect(),
            reference: None,
        }));
    }
    let per = match workload {
        Workload::Decode => {
            "A sample is one generated token after the first (a step of all sequences), where tokens were recorded."
        }
        Workload::Prefill => "A sample is one prompt.",
        _ => "A sample is one slice of calls, divided by their number.",
    };
    let mut notes = vec![format!(
        "Empirical distribution of all samples, none discarded. {per} The fastest median comes first; a steep line is a steady kernel."
    )];
    say_left_out(left_out, &mut notes);
    (!panels.is_empty()).then(|| Figure {
        title: format!("Distribution of latency (ECDF): {}", describe(workload)),
        subtitle: data.record.heading.line(),
        panels,
        notes,
    })
}

/// At most [`ECDF_POINTS`] steps, the first and the last among them.
fn thin(steps: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if steps.len() <= ECDF_POINTS {
        return steps.to_vec();
    }
    let last = steps.len() - 1;
    (0..ECDF_POINTS)
        .map(|i| steps[i * last / (ECDF_POINTS - 1)])
        .collect()
}

/// The corners of a step function that starts at 0.
fn staircase(steps: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut corners = Vec::with_capacity(2 * steps.len());
    let mut level = 0.0;
    for &(value, share) in steps {
        corners.push((value, level));
        corners.push((value, share));
        level = share;
    }
    corners
}
