//! The resident set of the workers of whole models, over time.

use std::path::PathBuf;

use trit_core::{RunDir, Table, TimelineRow};

use super::axis::linear_ticks;
use super::figure::{Axis, Figure, Lines, Panel, Series};
use super::{Heading, in_order, limited, save_one};
use crate::ReportError;

/// Name of the files of the chart.
pub(super) const NAME: &str = "timeline";
/// Its title.
const TITLE: &str = "Resident memory over time";
const MIB: f64 = 1024.0 * 1024.0;

/// A moment of a panel: nanoseconds since its beginning.
struct Moment<'a> {
    at_ns: f64,
    row: &'a TimelineRow,
}

/// The load of a cell's model, where the cell was the one that loaded it, and the first visit right behind it: workers of
/// several cells take turns, and the pauses say nothing.
fn moments<'a>(rows: &[&'a TimelineRow]) -> Vec<Moment<'a>> {
    let first_round = rows.iter().filter_map(|row| row.round).min();
    let mut moments: Vec<Moment<'a>> = Vec::new();
    for round in [None, first_round]
        .into_iter()
        .take(1 + usize::from(first_round.is_some()))
    {
        let begin = moments.last().map_or(0.0, |last| last.at_ns);
        let mut of_round: Vec<&TimelineRow> = rows
            .iter()
            .filter(|row| row.round == round)
            .copied()
            .collect();
        of_round.sort_by_key(|row| row.monotonic_ns);
        let zero = of_round.first().map_or(0, |row| row.monotonic_ns);
        moments.extend(of_round.into_iter().map(|row| Moment {
            at_ns: begin + row.monotonic_ns.saturating_sub(zero) as f64,
            row,
        }));
    }
    moments
}

fn panel(cell: &str, rows: &[&TimelineRow]) -> Option<(u64, Panel)> {
    let moments = moments(rows);
    let end = moments.last()?.at_ns;
    let peak = moments
        .iter()
        .filter_map(|moment| moment.row.peak_rss_bytes.max(moment.row.rss_bytes))
        .max()?;
    if end <= 0.0 {
        return None;
    }
    let series = |label: &str, value: fn(&TimelineRow) -> Option<u64>| {
        let points: Vec<(f64, f64)> = moments
            .iter()
            .filter_map(|moment| Some((moment.at_ns, value(moment.row)? as f64 / MIB)))
            .collect();
        (points.len() > 1).then(|| Series {
            label: label.to_owned(),
            points,
            marks: false,
            ..Series::default()
        })
    };
    let all = [
        series("resident set", |row| row.rss_bytes),
        series("anonymous", |row| row.rss_anon_bytes),
        series("file-backed", |row| row.rss_file_bytes),
        series("high-water mark", |row| row.peak_rss_bytes),
    ];
    let top = peak as f64 / MIB;
    let phases = in_order(moments.iter().map(|moment| moment.row.phase.clone()));
    // One line that goes up and down where a phase begins, and along the axis in between.
    let begins = moments
        .windows(2)
        .filter(|pair| pair[0].row.phase != pair[1].row.phase)
        .map(|pair| pair[1].at_ns);
    let bars: Vec<(f64, f64)> = begins
        .flat_map(|at| [(at, 0.0), (at, top), (at, 0.0)])
        .collect();
    let lines = Lines {
        title: format!("{cell}: {}", phases.join(", ")),
        x: Axis {
            label: "time since the first phase, pauses left out".to_owned(),
            log: false,
            time: true,
            ticks: None,
            from: 0.0,
            // Up to a tick, for the scale ends at its edge.
            to: linear_ticks(end, 8).last().copied().unwrap_or(end),
        },
        y: Axis {
            label: "MiB (1024 x 1024 bytes)".to_owned(),
            log: false,
            time: false,
            ticks: None,
            from: 0.0,
            to: top,
        },
        series: all.into_iter().flatten().collect(),
        reference: (!bars.is_empty()).then(|| ("a phase begins".to_owned(), bars)),
    };
    (!lines.series.is_empty()).then_some((peak, Panel::Lines(lines)))
}

/// The figure of these rows.
pub(crate) fn figure(heading: &Heading, rows: &[TimelineRow]) -> Option<Figure> {
    let cells = in_order(rows.iter().map(|row| row.cell.as_str()));
    let mut panels: Vec<(u64, Panel)> = cells
        .into_iter()
        .filter_map(|cell| {
            let of_cell: Vec<&TimelineRow> = rows.iter().filter(|row| row.cell == cell).collect();
            panel(cell, &of_cell)
        })
        .collect();
    panels.sort_by_key(|(peak, _)| std::cmp::Reverse(*peak));
    let mut notes = vec![
        "Resident set; file-backed pages can be dropped by the system, anonymous ones cannot. The high-water mark (VmHWM) is kept by the kernel.".to_owned(),
    ];
    if rows.iter().any(|row| row.round.is_some()) {
        notes.push("Ten looks a second, and one at each end of a phase; the mark is set back before each visit. First visit of each cell; the cell that loaded a model shows that too.".to_owned());
    }
    let panels = limited(
        panels.into_iter().map(|(_, panel)| panel).collect(),
        &mut notes,
    );
    (!panels.is_empty()).then(|| Figure {
        title: TITLE.to_owned(),
        subtitle: heading.line(),
        panels,
        notes,
    })
}

/// Draws the `timeline.csv` of a monitored program into its directory; gives the path of the SVG file, when there was enough to
/// see. `watched` stands under the title.
///
/// # Errors
/// When the rows cannot be read, or the chart cannot be written.
pub fn write_timeline(run: &RunDir, watched: &str) -> Result<Option<PathBuf>, ReportError> {
    let heading = Heading {
        session: watched.to_owned(),
        ..Heading::default()
    };
    let figure = read(run, &heading)?;
    figure
        .map(|figure| save_one(NAME, figure, run.path()))
        .transpose()
}

/// The figure of a run directory; runs of earlier versions have none.
pub(super) fn read(run: &RunDir, heading: &Heading) -> Result<Option<Figure>, ReportError> {
    if !run.path().join(TimelineRow::FILE).is_file() {
        return Ok(None);
    }
    Ok(figure(heading, &run.read()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(round: Option<u64>, phase: &str, at_ms: u64, mib: u64) -> TimelineRow {
        TimelineRow {
            cell: "engine:k/decode/m".into(),
            round,
            phase: phase.into(),
            monotonic_ns: at_ms * 1_000_000,
            rss_bytes: Some(mib << 20),
            peak_rss_bytes: Some((mib + 10) << 20),
            ..TimelineRow::default()
        }
    }

    #[test]
    fn the_first_visit_follows_the_load() {
        let rows = [
            row(None, "load", 100, 10),
            row(None, "load", 300, 90),
            row(Some(3), "prefill", 9000, 95),
            row(Some(3), "decode", 9100, 96),
            row(Some(3), "decode", 9200, 96),
            row(Some(4), "decode", 20_000, 99),
        ];
        let some: Vec<&TimelineRow> = rows.iter().collect();
        let at: Vec<u64> = moments(&some)
            .iter()
            .map(|moment| moment.at_ns as u64 / 1_000_000)
            .collect();
        assert_eq!(at, [0, 200, 200, 300, 400]);
        let figure = figure(&Heading::default(), &rows).unwrap();
        let Panel::Lines(lines) = &figure.panels[0] else {
            panic!("lines are drawn");
        };
        assert_eq!(lines.title, "engine:k/decode/m: load, prefill, decode");
        let labels: Vec<&str> = lines.series.iter().map(|one| one.label.as_str()).collect();
        assert_eq!(labels, ["resident set", "high-water mark"], "what is known");
        assert_eq!(lines.series[0].points[1], (200e6, 90.0));
        let bars = &lines.reference.as_ref().unwrap().1;
        assert_eq!(bars.len(), 6, "two phases begin");
        assert_eq!(bars[4], (300e6, 106.0));
    }

    #[test]
    fn nothing_seen_is_no_chart() {
        assert_eq!(figure(&Heading::default(), &[]), None);
        let mut blind = row(Some(0), "decode", 5, 1);
        blind.rss_bytes = None;
        blind.peak_rss_bytes = None;
        assert_eq!(figure(&Heading::default(), &[blind.clone(), blind]), None);
        assert_eq!(
            figure(&Heading::default(), &[row(None, "load", 5, 1)]),
            None
        );
    }
}
