//! Run directories: the record of one session.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use crate::columns::Columns;
use crate::session::SCHEMA;
use crate::{
    Cell, ChunkRow, EnergyRow, EvalRow, FieldError, Measurement, PairRow, PowerRow, RequestRow,
    Session, SummaryRow, TimelineRow, TokenRow,
};

/// Name of the session record.
pub const SESSION_FILE: &str = "session.json";

/// Why a run directory could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory for a new run holds something.
    #[error("{}: is not empty; hint: name another directory, or continue it with --resume", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// There is no session record.
    #[error("{}: is not a run directory: it has no {SESSION_FILE}", path.display())]
    NoSession {
        /// The directory.
        path: PathBuf,
    },
    /// The session record cannot be read.
    #[error("{}: {message}", path.display())]
    Session {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A header lacks columns.
    #[error("{}: column {} is missing", path.display(), names.join(", "))]
    MissingColumns {
        /// The file.
        path: PathBuf,
        /// The columns.
        names: Vec<&'static str>,
    },
    /// A column stands twice in a header.
    #[error("{}: column `{name}` stands twice", path.display())]
    DuplicateColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        name: String,
    },
    /// A line is malformed.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line from 1.
        line: u64,
        /// What is wrong.
        message: String,
    },
}

impl RunDirError {
    /// Whether the content of a file is at fault, and not the system: exit code 5 and not 1.
    pub fn is_content(&self) -> bool {
        !matches!(self, Self::Io { .. } | Self::NotEmpty { .. })
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> RunDirError + '_ {
    move |source| RunDirError::Io {
        path: path.to_owned(),
        source,
    }
}

/// A row type with its file.
pub trait Table: Columns {
    /// The name of the file in a run directory.
    const FILE: &'static str;
}

impl Table for Cell {
    const FILE: &'static str = "cells.csv";
}
impl Table for Measurement {
    const FILE: &'static str = "measurements.csv";
}
impl Table for TokenRow {
    const FILE: &'static str = "tokens.csv";
}
impl Table for TimelineRow {
    const FILE: &'static str = "timeline.csv";
}
impl Table for EvalRow {
    const FILE: &'static str = "eval.csv";
}
impl Table for PairRow {
    const FILE: &'static str = "pairs.csv";
}
impl Table for EnergyRow {
    const FILE: &'static str = "energy.csv";
}
impl Table for PowerRow {
    const FILE: &'static str = "power.csv";
}
impl Table for RequestRow {
    const FILE: &'static str = "requests.csv";
}
impl Table for ChunkRow {
    const FILE: &'static str = "chunks.csv";
}
impl Table for SummaryRow {
    const FILE: &'static str = "summary.csv";
}

/// The record of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes the directory, with its parents, or takes an empty one.
    ///
    /// # Errors
    /// When it holds something, or the system refuses.
    pub fn create(path: &Path) -> Result<Self, RunDirError> {
        fs::create_dir_all(path).map_err(io_error(path))?;
        if fs::read_dir(path).map_err(io_error(path))?.next().is_some() {
            return Err(RunDirError::NotEmpty {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Makes `<parent>/<utc>-<host>-<suite>/`; a number is added while the name is taken. `utc` is
    /// `YYYYMMDDThhmmssZ`: this crate reads no clock.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn create_in(
        parent: &Path,
        utc: &str,
        host: &str,
        suite: &str,
    ) -> Result<Self, RunDirError> {
        fs::create_dir_all(parent).map_err(io_error(parent))?;
        let safe = |text: &str| -> String {
            text.chars()
                .map(|c| {
                    if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
                        c
                    } else {
                        '_'
                    }
                })
                .take(64)
                .collect()
        };
        let name = format!("{}-{}-{}", safe(utc), safe(host), safe(suite));
        let mut path = parent.join(&name);
        for again in 2.. {
            match fs::create_dir(&path) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    path = parent.join(format!("{name}-{again}"));
                }
                Err(source) => return Err(RunDirError::Io { path, source }),
            }
        }
        Ok(Self { path })
    }

    /// Opens the directory of an earlier session.
    ///
    /// # Errors
    /// When it has no session record.
    pub fn open(path: &Path) -> Result<Self, RunDirError> {
        if !path.join(SESSION_FILE).is_file() {
            return Err(RunDirError::NoSession {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the session record; a reader never sees half of it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write_session(&self, session: &Session) -> Result<(), RunDirError> {
        let path = self.path.join(SESSION_FILE);
        let text = serde_json::to_string_pretty(session).map_err(|error| RunDirError::Session {
            path: path.clone(),
            message: error.to_string(),
        })?;
        self.replace(SESSION_FILE, format!("{text}\n").as_bytes())
    }

    /// Reads the session record.
    ///
    /// # Errors
    /// When it is missing, malformed, or written by a newer version.
    pub fn session(&self) -> Result<Session, RunDirError> {
        let path = self.path.join(SESSION_FILE);
        let text = fs::read_to_string(&path).map_err(io_error(&path))?;
        let session: Session =
            serde_json::from_str(&text).map_err(|error| RunDirError::Session {
                path: path.clone(),
                message: error.to_string(),
            })?;
        if session.schema == 0 || session.schema > SCHEMA {
            return Err(RunDirError::Session {
                path,
                message: format!(
                    "schema {} is not known, this version reads 1..={SCHEMA}; hint: use the version that wrote it ({})",
                    session.schema, session.version
                ),
            });
        }
        Ok(session)
    }

    /// The cells in the order of their first rows; the last row of a cell counts.
    ///
    /// # Errors
    /// When the file is missing or malformed.
    pub fn cells(&self) -> Result<Vec<Cell>, RunDirError> {
        let mut cells: Vec<Cell> = Vec::new();
        let mut index = std::collections::BTreeMap::new();
        for row in self.read::<Cell>()? {
            let next = cells.len();
            let at = *index.entry(row.cell.clone()).or_insert(next);
            if at == next {
                cells.push(row);
            } else {
                cells[at] = row;
            }
        }
        Ok(cells)
    }

    /// All measurements in the order of the file.
    ///
    /// # Errors
    /// When the file is missing or malformed.
    pub fn measurements(&self) -> Result<Vec<Measurement>, RunDirError> {
        self.read()
    }

    /// All tokens in the order of the file.
    ///
    /// # Errors
    /// When the file is missing or malformed.
    pub fn tokens(&self) -> Result<Vec<TokenRow>, RunDirError> {
        self.read()
    }

    /// The summary.
    ///
    /// # Errors
    /// When the file is missing or malformed.
    pub fn summary(&self) -> Result<Vec<SummaryRow>, RunDirError> {
        self.read()
    }

    /// Reads a file of rows. Columns are found by name, unknown ones are left alone, those that came later than the file are empty,
    /// and a torn last line is dropped.
    ///
    /// # Errors
    /// When the file is missing, lacks columns, or a field is malformed.
    pub fn read<R: Table>(&self) -> Result<Vec<R>, RunDirError> {
        read_rows(&self.path.join(R::FILE))
    }

    /// Opens a file of rows to append; it starts with the header when it is new. A torn last line is cut off first.
    ///
    /// # Errors
    /// When the system refuses, or the file has another header.
    pub fn append<R: Table>(&self) -> Result<Appender<R>, RunDirError> {
        Appender::open(&self.path.join(R::FILE))
    }

    /// Writes a whole file of rows; a reader never sees half of it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write<R: Table>(&self, rows: &[R]) -> Result<(), RunDirError> {
        let path = self.path.join(R::FILE);
        let mut bytes = line(&R::header(), &path)?;
        for row in rows {
            bytes.extend(line(&row.record(), &path)?);
        }
        self.replace(R::FILE, &bytes)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), RunDirError> {
        let path = self.path.join(name);
        let part = self.path.join(format!("{name}.part"));
        let write = || {
            fs::write(&part, bytes)?;
            fs::rename(&part, &path)
        };
        write().map_err(io_error(&path))
    }
}

/// One CSV line with its newline.
fn line<T: AsRef<[u8]>>(fields: &[T], path: &Path) -> Result<Vec<u8>, RunDirError> {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    let wrong = |message: String| RunDirError::Line {
        path: path.to_owned(),
        line: 0,
        message,
    };
    writer
        .write_record(fields)
        .map_err(|error| wrong(error.to_string()))?;
    writer
        .into_inner()
        .map_err(|error| wrong(error.to_string()))
}

/// Appends rows a block at a time.
#[derive(Debug)]
pub struct Appender<R> {
    path: PathBuf,
    file: BufWriter<File>,
    rows: PhantomData<fn(&R)>,
}

impl<R: Columns> Appender<R> {
    /// Opens or makes the file; see [`RunDir::append`].
    ///
    /// # Errors
    /// When the system refuses, or the file has another header.
    pub fn open(path: &Path) -> Result<Self, RunDirError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io_error(path))?;
        let whole = complete_prefix(BufReader::new(&file)).map_err(io_error(path))?;
        file.set_len(whole).map_err(io_error(path))?;
        if whole > 0 {
            let header = read_header(&mut csv_reader(&mut file, whole, path)?, path)?;
            if header != R::header() {
                return Err(RunDirError::Line {
                    path: path.to_owned(),
                    line: 1,
                    message: "has other columns than this version writes; hint: start a new run"
                        .into(),
                });
            }
        }
        file.seek(SeekFrom::End(0)).map_err(io_error(path))?;
        let mut appender = Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            rows: PhantomData,
        };
        if whole == 0 {
            let header = line(&R::header(), path)?;
            appender.put(&header)?;
        }
        Ok(appender)
    }

    /// Appends rows and hands them to the system, so that they outlive this process.
    ///
    /// # Errors
    /// When the system refuses (a full disk, for example).
    pub fn rows(&mut self, rows: &[R]) -> Result<(), RunDirError> {
        let mut bytes = Vec::new();
        for row in rows {
            bytes.extend(line(&row.record(), &self.path)?);
        }
        self.put(&bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), RunDirError> {
        self.file
            .write_all(bytes)
            .and_then(|()| self.file.flush())
            .map_err(io_error(&self.path))
    }
}

/// Length of the records that end with a line feed outside of quotes: what follows is a torn line.
fn complete_prefix(mut input: impl BufRead) -> io::Result<u64> {
    let (mut at, mut whole, mut quoted) = (0u64, 0u64, false);
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(whole);
        }
        for byte in buffer {
            at += 1;
            match byte {
                b'"' => quoted = !quoted,
                b'\n' if !quoted => whole = at,
                _ => {}
            }
        }
        let length = buffer.len();
        input.consume(length);
    }
}

fn csv_reader<F: Read + Seek>(
    mut file: F,
    whole: u64,
    path: &Path,
) -> Result<csv::Reader<io::Take<BufReader<F>>>, RunDirError> {
    file.seek(SeekFrom::Start(0)).map_err(io_error(path))?;
    Ok(csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(BufReader::new(file).take(whole)))
}

fn line_error(path: &Path, error: &csv::Error) -> RunDirError {
    RunDirError::Line {
        path: path.to_owned(),
        line: error.position().map_or(0, csv::Position::line),
        message: match error.kind() {
            csv::ErrorKind::UnequalLengths {
                expected_len, len, ..
            } => format!("has {len} fields, the header has {expected_len}"),
            csv::ErrorKind::Utf8 { .. } => "is not UTF-8".to_owned(),
            _ => error.to_string(),
        },
    }
}

fn read_header<F: Read>(
    reader: &mut csv::Reader<F>,
    path: &Path,
) -> Result<Vec<String>, RunDirError> {
    let mut record = csv::StringRecord::new();
    reader
        .read_record(&mut record)
        .map_err(|error| line_error(path, &error))?;
    Ok(record.iter().map(str::to_owned).collect())
}

/// Reads a file of rows; see [`RunDir::read`].
///
/// # Errors
/// When the file is missing, lacks columns, or a field is malformed.
pub fn read_rows<R: Columns>(path: &Path) -> Result<Vec<R>, RunDirError> {
    let file = File::open(path).map_err(io_error(path))?;
    let whole = complete_prefix(BufReader::new(&file)).map_err(io_error(path))?;
    if whole == 0 {
        return Ok(Vec::new());
    }
    let mut reader = csv_reader(file, whole, path)?;
    let header = read_header(&mut reader, path)?;
    for (at, name) in header.iter().enumerate() {
        if header[..at].contains(name) {
            return Err(RunDirError::DuplicateColumn {
                path: path.to_owned(),
                name: name.clone(),
            });
        }
    }
    let columns = R::columns();
    let places: Vec<Option<usize>> = columns
        .iter()
        .map(|column| header.iter().position(|name| name == column.name))
        .collect();
    let names: Vec<&'static str> = columns
        .iter()
        .zip(&places)
        .filter(|(column, place)| place.is_none() && !column.later)
        .map(|(column, _)| column.name)
        .collect();
    if !names.is_empty() {
        return Err(RunDirError::MissingColumns {
            path: path.to_owned(),
            names,
        });
    }
    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    while reader
        .read_record(&mut record)
        .map_err(|error| line_error(path, &error))?
    {
        let mut row = R::default();
        for (column, place) in columns.iter().zip(&places) {
            // A column without a place came later than the file: its field stays empty. The reader has checked the number of fields.
            let Some(text) = place.and_then(|place| record.get(place)) else {
                continue;
            };
            (column.read)(&mut row, text).map_err(|error: FieldError| RunDirError::Line {
                path: path.to_owned(),
                line: record.position().map_or(0, csv::Position::line),
                message: error.to_string(),
            })?;
        }
        rows.push(row);
    }
    Ok(rows)
}
