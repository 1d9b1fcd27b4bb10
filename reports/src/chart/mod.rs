//! Charts of a session, as SVG and as PNG from the same drawing code. Deterministic: the same rows give the same bytes.

mod axis;
mod batches;
mod canvas;
mod energy;
mod figure;
mod history;
mod latency;
mod memory;
pub(crate) mod pareto;
mod phases;
mod quality;
mod speed;
mod timeline;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use plotters::prelude::*;
use trit_core::{PowerRow, RunDir, Session, SummaryRow, Workload};

use self::canvas::Canvas;
pub(crate) use self::canvas::{PALETTE, shade};
pub use self::history::write_history;
pub use self::phases::{PartKind, Phase, PhasePart, write_phases};
pub use self::quality::write_quality;
pub use self::timeline::write_timeline;

pub(crate) use self::figure::{Axis, Bar, Bars, Figure, Lines, Panel, Series};
pub(crate) use self::speed::{interval_of_rate, rate};
use crate::ReportError;
use crate::facts;
use crate::markdown::ranked;
use crate::pairs::pair_rows;
use crate::record::Record;
use crate::speedup;
use crate::summary::{Loaded, Samples, samples, summarize_rows};

/// Pixels of a PNG for one of the SVG: sharp on dense screens.
const PNG_SCALE: f64 = 2.0;
/// Panels of one figure; more would be a scroll, not a chart.
pub(crate) const MOST_PANELS: usize = 12;
/// Name of the files of the roofline.
pub(crate) const ROOFLINE: &str = "roofline";

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
    /// Who, where, when; a row a cell, and a row a pair.
    pub record: &'a Record,
    /// The samples of the cells, for distributions.
    pub samples: &'a [Samples<'a>],
    /// What the energy meter counted between two looks.
    pub power: &'a [PowerRow],
}

/// Items by their keys, both in the order in which they are first seen.
fn grouped<K: Ord + Clone, T>(items: impl Iterator<Item = (K, T)>) -> Vec<(K, Vec<T>)> {
    let mut index = BTreeMap::new();
    let mut groups: Vec<(K, Vec<T>)> = Vec::new();
    for (key, item) in items {
        let at = *index.entry(key.clone()).or_insert(groups.len());
        if at == groups.len() {
            groups.push((key, Vec::new()));
        }
        groups[at].1.push(item);
    }
    groups
}

/// Values in the order in which they are first seen.
fn in_order<T: Ord + Clone>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    values.filter(|value| seen.insert(value.clone())).collect()
}

fn workloads(data: &ChartData<'_>) -> Vec<Workload> {
    in_order(
        data.record
            .rows
            .iter()
            .filter(|row| ranked(row))
            .map(|row| row.cell.workload),
    )
}

fn rows_of<'a>(data: &ChartData<'a>, workload: Workload) -> Vec<&'a SummaryRow> {
    data.record
        .rows
        .iter()
        .filter(|row| ranked(row) && row.cell.workload == workload)
        .collect()
}

pub(crate) fn describe(workload: Workload) -> &'static str {
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

/// Keeps the first panels and says how many were left out.
fn limited(mut panels: Vec<Panel>, notes: &mut Vec<String>) -> Vec<Panel> {
    say_left_out(panels.len().saturating_sub(MOST_PANELS), notes);
    panels.truncate(MOST_PANELS);
    panels
}

fn say_left_out(count: usize, notes: &mut Vec<String>) {
    if count > 0 {
        notes.push(format!(
            "{count} further panels are left out; their rows are in summary.csv."
        ));
    }
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
            speed::throughput(data, *workload),
        );
    }
    for (name, figure) in speedup::bars_of_session(data.record) {
        put(name, Some(figure));
    }
    for workload in &workloads {
        put(
            format!("speedup-{workload}"),
            speed::speedup(data, *workload),
        );
    }
    put(ROOFLINE.to_owned(), speedup::roofline(data.record));
    put(pareto::NAME.to_owned(), pareto::pareto(data.record));
    for workload in &workloads {
        put(
            format!("latency-{workload}"),
            latency::latency(data, *workload),
        );
    }
    put("batches".to_owned(), batches::batches(data));
    put("memory".to_owned(), memory::memory(data));
    put("energy".to_owned(), energy::energy(data));
    put("power".to_owned(), energy::power(data));
    figures
}

/// The kinds of chart that a reader of a session looks for, and what to say where its rows carry none.
const KINDS: [(&str, &str); 5] = [
    (
        "against-",
        "Times as fast as a dense format: no dense kernel ran in the place of another; `dense:best` among the `kernels` of a suite adds some.",
    ),
    (
        "speedup-",
        "Speed-up with threads: no kernel ran on two numbers of threads; `threads = [1, \"all\"]` in a suite asks for them.",
    ),
    (
        ROOFLINE,
        "Roofline: no kernel that reads its weights from memory ran on as many threads as the read probe; a `[[pair]]` against `probe:read` in a suite adds it.",
    ),
    (
        pareto::NAME,
        "Pareto: no workload has rows of different costs, which are joules a token where a meter was read, else peak memory of models and bits a weight of kernels.",
    ),
    (
        "latency-",
        "Distribution of latency: no cell has two samples.",
    ),
];
/// One session is no history, whatever its rows are.
const HISTORY: &str = "History: it is about many sessions; `tritbench history add` keeps them, and `tritbench history show --chart` draws them.";

/// A line for each kind of chart that is not among the figures of a session; none for a session that measured nothing.
pub(crate) fn missing(record: &Record, figures: &[(String, Figure)]) -> Vec<String> {
    if !record.rows.iter().any(ranked) {
        return Vec::new();
    }
    let lacks = |kind: &str| !figures.iter().any(|(name, _)| name.starts_with(kind));
    let lines = KINDS.iter().filter(|(kind, _)| lacks(kind));
    lines
        .map(|(_, line)| *line)
        .chain([HISTORY])
        .map(str::to_owned)
        .collect()
}

/// A figure as SVG text.
pub(crate) fn svg(name: &str, figure: &Figure) -> Result<String, ReportError> {
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

/// The charts as SVG text with their names, for pages that embed them.
///
/// # Errors
/// When the drawing library fails.
pub fn svgs(data: &ChartData<'_>) -> Result<Vec<(String, String)>, ReportError> {
    let drawn = figures(data).into_iter().map(|(name, figure)| {
        let text = svg(&name, &figure)?;
        Ok((name, text))
    });
    drawn.collect()
}

/// Draws the charts into a directory, which is made if it is not there: `throughput-<workload>`, `against-<format>-<workload>`,
/// `speedup-<workload>`, `roofline`, `pareto`, `latency-<workload>`, `batches`, `memory`, and where a meter was read `energy` and `power`, each
/// as `.svg` and `.png`. A chart without data is not made. Gives the paths of the SVG files.
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
    fs::create_dir_all(directory).map_err(|source| ReportError::Io {
        path: directory.to_owned(),
        source,
    })?;
    let mut paths = Vec::new();
    for (name, figure) in figures {
        let path = directory.join(format!("{name}.svg"));
        save_as(name, figure, &path)?;
        save_as(name, figure, &path.with_extension("png"))?;
        paths.push(path);
    }
    Ok(paths)
}

/// The same for one figure; gives the path of the SVG file.
fn save_one(name: &str, figure: Figure, directory: &Path) -> Result<PathBuf, ReportError> {
    save(&[(name.to_owned(), figure)], directory)?;
    Ok(directory.join(format!("{name}.svg")))
}

/// Writes a figure into one file: a PNG where its name ends so, else an SVG.
fn save_as(name: &str, figure: &Figure, path: &Path) -> Result<(), ReportError> {
    if path.extension().is_some_and(|ending| ending == "png") {
        return png(name, figure, path);
    }
    fs::write(path, svg(name, figure)?).map_err(|source| ReportError::Io {
        path: path.to_owned(),
        source,
    })
}

/// A run directory as its report tells it.
pub(crate) struct Album {
    /// Its rows.
    pub(crate) record: Record,
    /// Its charts with their file names, without an ending.
    pub(crate) figures: Vec<(String, Figure)>,
    /// Why charts are not there, a line each.
    pub(crate) missing: Vec<String>,
}

impl Album {
    /// Reads the rows of a run directory, and lays out its charts.
    pub(crate) fn read(run: &RunDir) -> Result<Self, ReportError> {
        let session = run.session()?;
        let loaded = Loaded::read(run)?;
        let tables = loaded.tables();
        let rows = summarize_rows(&tables);
        let record = Record {
            heading: Heading::new(&session, run.path()),
            pairs: pair_rows(&rows, &loaded.measurements, &loaded.energy),
            session,
            rows,
        };
        let mut figures = figures(&ChartData {
            record: &record,
            samples: &samples(&tables),
            power: &loaded.power,
        });
        let others = [
            (timeline::NAME, timeline::read(run, &record.heading)?),
            (quality::NAME, quality::read(run, &record.heading)?),
        ];
        for (name, figure) in others {
            figures.extend(figure.map(|figure| (name.to_owned(), figure)));
        }
        Ok(Self {
            missing: missing(&record, &figures),
            record,
            figures,
        })
    }

    /// Names and titles of the charts.
    pub(crate) fn titles(&self) -> Vec<(String, String)> {
        let figures = self.figures.iter();
        let titles = figures.map(|(name, figure)| (name.clone(), figure.title.clone()));
        titles.collect()
    }
}

/// Draws the charts of a run directory into its `charts/`; gives the paths of the SVG files.
///
/// # Errors
/// When the session or a file of rows cannot be read, or a chart cannot be written.
pub fn write_charts(run: &RunDir) -> Result<Vec<PathBuf>, ReportError> {
    save(&Album::read(run)?.figures, &run.path().join("charts"))
}
