//! Charts of a session, as SVG and as PNG from the same drawing code. Deterministic: the same rows give the same bytes.

mod axis;
mod canvas;
mod energy;
mod figure;
mod history;
mod phases;
pub(crate) mod quality;
pub(crate) mod timeline;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use plotters::prelude::*;
use trit_core::{Cell, PowerRow, RunDir, Session, SummaryRow, Workload};
use trit_stats::ecdf;

use self::canvas::Canvas;
pub(crate) use self::canvas::{PALETTE, shade};
pub use self::history::write_history;
pub use self::phases::{PartKind, Phase, PhasePart, write_phases};
pub use self::quality::write_quality;
pub use self::timeline::write_timeline;

pub(crate) use self::figure::{Axis, Bar, Bars, Figure, Lines, Panel, Series};
use crate::ReportError;
use crate::facts;
use crate::labels;
use crate::markdown::ranked;
use crate::summary::{Loaded, Samples, samples, summarize_rows};
use crate::units::{show_bytes, show_rate, three};

/// Pixels of a PNG for one of the SVG: sharp on dense screens.
const PNG_SCALE: f64 = 2.0;
/// Panels of one figure; more would be a scroll, not a chart.
pub(crate) const MOST_PANELS: usize = 12;
/// Steps of one distribution function that are drawn: about two a pixel.
const ECDF_POINTS: usize = 1000;

/// What every chart says about itself, so that it can be read alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heading {
    /// Name of the session.
    pub session: String,
    /// The machine in a line.
    pub machine: String,
    /// When it started, UTC.
    pub when: String,
}

impl Heading {
    /// The heading of a session that is kept in `directory`.
    pub fn new(session: &Session, directory: &Path) -> Self {
        let name = directory
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let session_name = [name, session.suite.clone()]
            .into_iter()
            .find(|name| !name.is_empty() && name != ".");
        Self {
            session: session_name.unwrap_or_else(|| "session".to_owned()),
            machine: facts::machine_line(session),
            when: session.started_utc.clone(),
        }
    }

    pub(crate) fn line(&self) -> String {
        let parts = [
            self.machine.as_str(),
            self.when.as_str(),
            self.session.as_str(),
        ];
        parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("  ·  ")
    }
}

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub struct ChartData<'a> {
    /// Who, where, when.
    pub heading: &'a Heading,
    /// A row a cell.
    pub rows: &'a [SummaryRow],
    /// The samples of the cells, for distributions.
    pub samples: &'a [Samples<'a>],
    /// What the energy meter counted between two looks.
    pub power: &'a [PowerRow],
}

/// Values in the order in which they are first seen.
fn in_order<T: Ord + Clone>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    values.filter(|value| seen.insert(value.clone())).collect()
}

fn workloads(data: &ChartData<'_>) -> Vec<Workload> {
    in_order(
        data.rows
            .iter()
            .filter(|row| ranked(row))
            .map(|row| row.cell.workload),
    )
}

fn rows_of<'a>(data: &ChartData<'a>, workload: Workload) -> Vec<&'a SummaryRow> {
    data.rows
        .iter()
        .filter(|row| ranked(row) && row.cell.workload == workload)
        .collect()
}

fn describe(workload: Workload) -> &'static str {
    match workload {
        Workload::GemvCold => "one token, weights not in cache (gemv-cold)",
        Workload::GemvWarm => "one token, weights in cache (gemv-warm)",
        Workload::Gemm => "several tokens (gemm)",
        Workload::Pack => "packing weights (pack)",
        Workload::Prepare => "preparing activations (prepare)",
        Workload::Dispatch => "an empty parallel region (dispatch)",
        Workload::Prefill => "processing a prompt (prefill)",
        Workload::Decode => "generating token by token (decode)",
        Workload::Chat => "prompt and answer (chat)",
        Workload::Read => "reading memory (read)",
        Workload::Peak => "arithmetic in registers (peak)",
        Workload::Control => "fixed work that is the same in every build",
        Workload::Bench => "an imported benchmark (bench)",
    }
}

/// The title of a panel: the shape, or the workload where there is none.
fn shape_title(shape: String, workload: Workload) -> String {
    if shape.is_empty() {
        workload.name().to_owned()
    } else {
        shape
    }
}

fn panel_title(shape: &str, rest: &str) -> String {
    [shape, rest]
        .iter()
        .filter(|part| !part.is_empty())
        .copied()
        .collect::<Vec<_>>()
        .join(", ")
}

/// Keeps the first panels and says how many were left out.
fn limited(panels: Vec<Panel>, notes: &mut Vec<String>) -> Vec<Panel> {
    let all = panels.len();
    let kept: Vec<Panel> = panels.into_iter().take(MOST_PANELS).collect();
    if all > kept.len() {
        notes.push(format!(
            "{} further panels are left out; their rows are in summary.csv.",
            all - kept.len()
        ));
    }
    kept
}

/// A rate of a row with its interval and its unit.
struct Rate {
    value: f64,
    interval: Option<(f64, f64)>,
}

/// Operations a second for kernels, tokens a second for models, calls a second where neither is counted.
fn rate(row: &SummaryRow) -> Option<(Rate, &'static str)> {
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
    let ends = results.lo_ns.zip(results.hi_ns).filter(|(lo, _)| *lo > 0.0);
    // The rate is high where the time is low.
    let interval = ends.map(|(lo, hi)| (value * median / hi, value * median / lo));
    Some((Rate { value, interval }, unit))
}

const INTERVALS: &str = "Whiskers are 95 % intervals of the median; they allow for samples that repeat their neighbours. No whisker: too few independent samples.";

/// Throughput by kernel and threads: a figure a workload, a panel a shape.
fn throughput(data: &ChartData<'_>, workload: Workload) -> Option<Figure> {
    let rows = rows_of(data, workload);
    let threads: Vec<u64> = rows
        .iter()
        .filter_map(|row| row.cell.threads)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let mut panels = Vec::new();
    for shape in in_order(rows.iter().map(|row| labels::shape(&row.cell))) {
        let here: Vec<&SummaryRow> = rows
            .iter()
            .copied()
            .filter(|row| labels::shape(&row.cell) == shape)
            .collect();
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
        subtitle: data.heading.line(),
        panels,
        notes,
    })
}

/// Speed-up against the fewest threads measured, with the ideal line.
fn speedup(data: &ChartData<'_>, workload: Workload) -> Option<Figure> {
    let rows = rows_of(data, workload);
    let mut panels = Vec::new();
    for shape in in_order(rows.iter().map(|row| labels::shape(&row.cell))) {
        let mut kernels: BTreeMap<&str, BTreeMap<u64, &SummaryRow>> = BTreeMap::new();
        for row in rows.iter().filter(|row| labels::shape(&row.cell) == shape) {
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
        subtitle: data.heading.line(),
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
    })
}

/// Distribution of the time of a call on a logarithmic axis.
fn latency(data: &ChartData<'_>, workload: Workload) -> Option<Figure> {
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
    for key in in_order(of_workload.iter().map(|samples| panel_of(samples.cell))) {
        let mut here: Vec<(f64, Series, f64, f64)> = of_workload
            .iter()
            .filter(|samples| panel_of(samples.cell) == key)
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
                        intervals: Vec::new(),
                        marks: false,
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
            "A sample is one generated token after the first, where tokens were recorded."
        }
        Workload::Prefill => "A sample is one prompt.",
        _ => "A sample is one slice of calls, divided by their number.",
    };
    let mut notes = vec![format!(
        "Empirical distribution of all samples, none discarded. {per} The fastest median comes first; a steep line is a steady kernel."
    )];
    let panels = limited(panels, &mut notes);
    (!panels.is_empty()).then(|| Figure {
        title: format!("Latency: {}", describe(workload)),
        subtitle: data.heading.line(),
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

/// Resident memory, anonymous and file-backed.
fn memory(data: &ChartData<'_>) -> Option<Figure> {
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
        subtitle: data.heading.line(),
        panels,
        notes,
    })
}

/// The most memory that a row is known to have taken.
fn resident(row: &SummaryRow) -> Option<u64> {
    let results = &row.results;
    let parts = results
        .rss_anon_bytes
        .zip(results.rss_file_bytes)
        .map(|(anon, file)| anon.saturating_add(file));
    results.peak_rss_bytes.max(parts)
}

/// The figures of a session with their file names, without an ending.
fn figures(data: &ChartData<'_>) -> Vec<(String, Figure)> {
    let mut figures = Vec::new();
    let mut put =
        |name: String, figure: Option<Figure>| figures.extend(figure.map(|figure| (name, figure)));
    let workloads = workloads(data);
    for workload in &workloads {
        put(
            format!("throughput-{workload}"),
            throughput(data, *workload),
        );
    }
    for workload in &workloads {
        put(format!("speedup-{workload}"), speedup(data, *workload));
    }
    for workload in &workloads {
        put(format!("latency-{workload}"), latency(data, *workload));
    }
    put("memory".to_owned(), memory(data));
    put("energy".to_owned(), energy::energy(data));
    put("power".to_owned(), energy::power(data));
    figures
}

/// Names and titles of the charts that [`draw`] makes of these rows.
pub fn titles(data: &ChartData<'_>) -> Vec<(String, String)> {
    figures(data)
        .into_iter()
        .map(|(name, figure)| (name, figure.title))
        .collect()
}

fn svg(name: &str, figure: &Figure) -> Result<String, ReportError> {
    let mut text = String::new();
    let spots = {
        let area = SVGBackend::with_string(&mut text, figure.size()).into_drawing_area();
        let canvas = Canvas::vector(&area);
        figure
            .draw(&canvas)
            .map_err(|error| chart_error(name, &error))?;
        let spots = canvas.into_spots();
        area.present().map_err(|error| chart_error(name, &error))?;
        spots
    };
    Ok(told::told(name, figure, &spots, &text))
}

fn png(name: &str, figure: &Figure, path: &Path) -> Result<(), ReportError> {
    let (width, height) = figure.size();
    let size = (width * PNG_SCALE as u32, height * PNG_SCALE as u32);
    let area = BitMapBackend::new(path, size).into_drawing_area();
    figure
        .draw(&Canvas::bitmap(&area, PNG_SCALE))
        .map_err(|error| chart_error(name, &error))?;
    area.present().map_err(|error| chart_error(name, &error))
}

fn chart_error(name: &str, error: &impl std::fmt::Display) -> ReportError {
    ReportError::Chart {
        name: name.to_owned(),
        message: error.to_string(),
    }
}

/// A chart as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Drawing {
    /// Its name, without an ending.
    pub(crate) name: String,
    /// What it shows.
    pub(crate) title: String,
    /// The picture.
    pub(crate) svg: String,
}

/// A figure as text.
fn drawing(name: String, figure: &Figure) -> Result<Drawing, ReportError> {
    Ok(Drawing {
        svg: svg(&name, figure)?,
        title: figure.title.clone(),
        name,
    })
}

/// The charts of rows as text.
pub(crate) fn drawings(data: &ChartData<'_>) -> Result<Vec<Drawing>, ReportError> {
    figures(data)
        .into_iter()
        .map(|(name, figure)| drawing(name, &figure))
        .collect()
}

/// The charts as SVG text with their names, for pages that embed them.
///
/// # Errors
/// When the drawing library fails.
pub fn svgs(data: &ChartData<'_>) -> Result<Vec<(String, String)>, ReportError> {
    let drawings = drawings(data)?;
    Ok(drawings
        .into_iter()
        .map(|one| (one.name, one.svg))
        .collect())
}

/// Draws the charts into a directory, which is made if it is not there: `throughput-<workload>`, `speedup-<workload>`,
/// `latency-<workload>`, `memory`, and where a meter was read `energy` and `power`, each as `.svg` and `.png`. A chart without data is not made. Gives the paths of the SVG files.
///
/// # Errors
/// When a file cannot be written.
pub fn draw(data: &ChartData<'_>, directory: &Path) -> Result<Vec<PathBuf>, ReportError> {
    save(&figures(data), directory)
}

/// Writes figures as `<name>.svg` and `<name>.png` into a directory, which is made if it is not there; gives the paths of the SVG files.
pub(crate) fn save(
    figures: &[(String, Figure)],
    directory: &Path,
) -> Result<Vec<PathBuf>, ReportError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| ReportError::Io { path, source }
    };
    fs::create_dir_all(directory).map_err(io(directory))?;
    let mut paths = Vec::new();
    for (name, figure) in figures {
        let path = directory.join(format!("{name}.svg"));
        fs::write(&path, svg(name, figure)?).map_err(io(&path))?;
        png(name, figure, &directory.join(format!("{name}.png")))?;
        paths.push(path);
    }
    Ok(paths)
}

/// Draws the charts of a run directory into its `charts/`; gives the paths of the SVG files.
///
/// # Errors
/// When the session or a file of rows cannot be read, or a chart cannot be written.
pub fn write_charts(run: &RunDir) -> Result<Vec<PathBuf>, ReportError> {
    let session = run.session()?;
    let loaded = Loaded::read(run)?;
    let tables = loaded.tables();
    let heading = Heading::new(&session, run.path());
    let data = ChartData {
        heading: &heading,
        rows: &summarize_rows(&tables),
        samples: &samples(&tables),
        power: &loaded.power,
    };
    let directory = run.path().join("charts");
    let mut paths = draw(&data, &directory)?;
    paths.extend(timeline::write(run, &heading, &directory)?);
    paths.extend(quality::write(run, &heading, &directory)?);
    Ok(paths)
}
