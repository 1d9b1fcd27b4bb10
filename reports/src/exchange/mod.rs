//! Results in the formats of other tools, and their results as run directories.
//!
//! What a format has a place for is written exactly; what it has none for is left out. A quantity that was not measured is
//! missing (null, or an empty field), never 0.

mod criterion;
mod flat;
mod google;
mod llama;
mod parquet_file;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde_json::Value;
use trit_core::{Cell, Measurement, RunDir, RunDirError, SCHEMA, Session, SummaryRow};

use crate::ReportError;
use crate::summary::{Index, Loaded, summarize_rows};

/// The longest file that is read.
const MAX_BYTES: u64 = 256 << 20;

/// What results are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExportFormat {
    /// A JSON object a line, as `llama-bench -o jsonl`.
    LlamaJsonl,
    /// As `llama-bench -o csv`.
    LlamaCsv,
    /// As `llama-bench -o sql`.
    LlamaSql,
    /// Bencher Metric Format.
    Bencher,
    /// `customSmallerIsBetter` of github-action-benchmark.
    GithubSmaller,
    /// `customBiggerIsBetter` of github-action-benchmark.
    GithubBigger,
    /// JSON of Google Benchmark, schema 1.
    Google,
    /// As `hyperfine --export-json`.
    Hyperfine,
    /// `JUnit` XML, a test a cell.
    Junit,
    /// `OpenMetrics` text.
    OpenMetrics,
    /// The summary as Parquet.
    Parquet,
    /// All samples as Parquet.
    ParquetSamples,
}

impl ExportFormat {
    /// Every format with its name.
    pub const ALL: [(&'static str, Self); 12] = [
        ("llama-bench-jsonl", Self::LlamaJsonl),
        ("llama-bench-csv", Self::LlamaCsv),
        ("llama-bench-sql", Self::LlamaSql),
        ("bencher", Self::Bencher),
        ("github-smaller", Self::GithubSmaller),
        ("github-bigger", Self::GithubBigger),
        ("google-benchmark", Self::Google),
        ("hyperfine", Self::Hyperfine),
        ("junit", Self::Junit),
        ("openmetrics", Self::OpenMetrics),
        ("parquet", Self::Parquet),
        ("parquet-samples", Self::ParquetSamples),
    ];
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImportFormat {
    /// A file of `llama-bench -o jsonl` or `-o json`.
    Llama,
    /// A directory `target/criterion`.
    Criterion,
    /// A JSON file of Google Benchmark.
    Google,
}

impl ImportFormat {
    /// Every format with its name.
    pub const ALL: [(&'static str, Self); 3] = [
        ("llama-bench", Self::Llama),
        ("criterion", Self::Criterion),
        ("google-benchmark", Self::Google),
    ];
}

/// Why something could not be exported or imported.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The run directory cannot be read or written.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// It cannot be summed up.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("`{}`: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The format has no place for any of the cells.
    #[error("`{}` has no cell that this format has a place for; hint: {hint}", path.display())]
    Nothing {
        /// The run directory.
        path: PathBuf,
        /// What it has a place for.
        hint: &'static str,
    },
    /// A library failed.
    #[error("cannot write {what}: {message}")]
    Library {
        /// What it was to make.
        what: &'static str,
        /// What it said.
        message: String,
    },
}

impl ExchangeError {
    /// Whether the content of a file is at fault, and not the system.
    pub fn is_content(&self) -> bool {
        match self {
            Self::RunDir(error) => error.is_content(),
            Self::Report(error) => error.is_content(),
            Self::Content { .. } | Self::Nothing { .. } => true,
            Self::Io { .. } | Self::Library { .. } => false,
        }
    }
}

/// A session with its rows.
struct Record<'a> {
    session: &'a Session,
    rows: &'a [SummaryRow],
    index: Index<'a>,
}

impl<'a> Record<'a> {
    /// The timed slices of a cell.
    fn slices(&self, cell: &Cell) -> Vec<&'a Measurement> {
        self.index.slices(&cell.cell)
    }
}

/// The results of a run directory in a format. The same rows give the same bytes.
///
/// # Errors
/// When the directory cannot be read, or has nothing that the format has a place for.
pub fn export(run: &RunDir, format: ExportFormat) -> Result<Vec<u8>, ExchangeError> {
    let session = run.session()?;
    let loaded = Loaded::read(run)?;
    let tables = loaded.tables();
    let rows = summarize_rows(&tables);
    let record = Record {
        session: &session,
        rows: &rows,
        index: Index::new(&tables),
    };
    let nothing = |hint| ExchangeError::Nothing {
        path: run.path().to_owned(),
        hint,
    };
    let models = "prefill and decode cells of a model";
    let measured = "a run with a measured cell";
    let text = match format {
        ExportFormat::LlamaJsonl => llama::jsonl(&record).ok_or_else(|| nothing(models))?,
        ExportFormat::LlamaCsv => llama::csv(&record).ok_or_else(|| nothing(models))?,
        ExportFormat::LlamaSql => llama::sql(&record).ok_or_else(|| nothing(models))?,
        ExportFormat::Bencher => flat::bencher(&record).ok_or_else(|| nothing(measured))?,
        ExportFormat::GithubSmaller => {
            flat::github(&record, false).ok_or_else(|| nothing(measured))?
        }
        ExportFormat::GithubBigger => {
            flat::github(&record, true).ok_or_else(|| nothing(measured))?
        }
        ExportFormat::Google => google::text(&record).ok_or_else(|| nothing(measured))?,
        ExportFormat::Hyperfine => flat::hyperfine(&record).ok_or_else(|| nothing(measured))?,
        ExportFormat::Junit => flat::junit(&record)?,
        ExportFormat::OpenMetrics => flat::open_metrics(&record),
        ExportFormat::Parquet => return parquet_file::bytes(&rows),
        ExportFormat::ParquetSamples => return parquet_file::bytes(&loaded.measurements),
    };
    Ok(text.into_bytes())
}

/// What the importing program knows and the file does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportFacts {
    /// The command line.
    pub argv: Vec<String>,
    /// SHA-256 of the file, in hex; empty for a directory.
    pub sha256: String,
    /// When the file was written, `YYYY-MM-DDThh:mm:ssZ`: the start of sessions of formats that have no time.
    pub written_utc: String,
}

/// What an importer found.
#[derive(Debug, Default)]
struct Imported {
    session: Session,
    cells: Vec<Cell>,
    measurements: Vec<Measurement>,
}

impl Imported {
    /// Adds a cell with its slices, under an id that no other has.
    fn add(&mut self, mut cell: Cell, slices: Vec<Measurement>) {
        let wanted = cell.cell.clone();
        let mut again = 1;
        while self.cells.iter().any(|other| other.cell == cell.cell) {
            again += 1;
            cell.cell = format!("{wanted}#{again}");
        }
        self.measurements
            .extend(slices.into_iter().map(|slice| Measurement {
                cell: cell.cell.clone(),
                ..slice
            }));
        self.cells.push(cell);
    }
}

/// Makes a run directory of the results of another tool. `report`, `compare`, `gate` and `history` take it like any other; its
/// cells were not verified by this program, and the session says so.
///
/// # Errors
/// When the file cannot be read or is not in the format, or the directory cannot be written.
pub fn import(
    path: &Path,
    format: ImportFormat,
    facts: &ImportFacts,
    out: &RunDir,
) -> Result<usize, ExchangeError> {
    let mut found = match format {
        ImportFormat::Llama => llama::read(path, &text(path)?)?,
        ImportFormat::Criterion => criterion::read(path)?,
        ImportFormat::Google => google::read(path, &text(path)?)?,
    };
    let (name, _) = ImportFormat::ALL
        .into_iter()
        .find(|(_, known)| *known == format)
        .unwrap_or(("import", format));
    let session = &mut found.session;
    session.schema = SCHEMA;
    env!("CARGO_PKG_VERSION").clone_into(&mut session.version);
    name.clone_into(&mut session.suite);
    session.argv.clone_from(&facts.argv);
    session.suite_sha256.clone_from(&facts.sha256);
    if session.started_utc.is_empty() {
        session.started_utc.clone_from(&facts.written_utc);
    }
    session.plan.notes.push(format!(
        "Imported from {name}: its answers were not checked by this program, and its samples were not taken by it."
    ));
    out.write_session(session)?;
    out.write(&found.cells)?;
    out.write(&found.measurements)?;
    Ok(found.cells.len())
}

fn content(path: &Path, message: impl Into<String>) -> ExchangeError {
    ExchangeError::Content {
        path: path.to_owned(),
        message: message.into(),
    }
}

/// The text of a file that is not too long.
fn text(path: &Path) -> Result<String, ExchangeError> {
    let io = |source| ExchangeError::Io {
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(io)?.is_dir() {
        return Err(content(path, "is a directory; hint: name the file"));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(io)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(content(path, format!("is longer than {MAX_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| content(path, "is not UTF-8 text"))
}

/// Whole nanoseconds of a time that a file tells.
fn whole_ns(ns: f64) -> Option<u64> {
    // Beyond 2^53 a float no longer tells nanoseconds apart; it would be a hundred days.
    (ns.is_finite() && (0.5..9.0e15).contains(&ns)).then(|| ns.round() as u64)
}

/// The processor's name in a session.
fn cpu_model(session: &Session) -> Option<&str> {
    session
        .machine
        .pointer("/cpu/model")
        .and_then(Value::as_str)
}

/// Objects in the order in which their fields are given: readers of these formats are people too.
fn object(fields: Vec<(&str, Value)>) -> String {
    let fields: Vec<String> = fields
        .into_iter()
        .map(|(name, value)| format!("{}: {value}", Value::from(name)))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

/// Mean of times; nothing for none.
fn mean(values: &[f64]) -> Option<f64> {
    trit_stats::mean(values)
}

/// Groups in the order in which their names are first seen.
fn grouped<T>(items: impl IntoIterator<Item = (String, T)>) -> Vec<(String, Vec<T>)> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut groups: Vec<(String, Vec<T>)> = Vec::new();
    for (name, item) in items {
        let next = groups.len();
        let at = *places.entry(name.clone()).or_insert(next);
        if at == next {
            groups.push((name, Vec::new()));
        }
        groups[at].1.push(item);
    }
    groups
}
