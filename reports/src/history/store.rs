//! The store: an `SQLite` file. A session is one transaction, so that a crash leaves all of it or nothing, and several writers
//! wait for one another. Nothing is changed or deleted once it is in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params};
use trit_core::{Cell, Columns, Results, Session, Status, SummaryRow};

use crate::compare::is_key;
use crate::facts;

/// `TRIT` in ASCII: tells the file from any other `SQLite` file.
const APPLICATION_ID: i32 = 0x5452_4954;
/// The form of the tables below.
const FORM: i32 = 1;
/// How long a writer waits for another one; a session is written within milliseconds.
const WAIT: Duration = Duration::from_secs(20);
/// The smallest page of `SQLite`.
const SHORTEST_BYTES: u64 = 512;
/// The longest text and the longest statement that a file may make us hold.
const MAX_BYTES: i32 = 1 << 20;

/// The quantities that the store keeps of a cell: columns of `summary.csv`.
pub const MEASURES: [&str; 13] = [
    "median_ns",
    "lo_ns",
    "hi_ns",
    "n",
    "p90_ns",
    "p99_ns",
    "tokens_per_s",
    "gops",
    "gb_per_s",
    "ttft_ns",
    "load_ns",
    "peak_rss_bytes",
    "gross_j_per_token",
];

/// The tables, exactly as a store has them: a file with anything else in it is not read.
const TABLES: [(&str, &str); 4] = [
    (
        "cells",
        "CREATE TABLE cells(id INTEGER PRIMARY KEY, keys TEXT NOT NULL UNIQUE, name TEXT NOT NULL) STRICT",
    ),
    (
        "results",
        "CREATE TABLE results(session INTEGER NOT NULL REFERENCES sessions(id), cell INTEGER NOT NULL REFERENCES cells(id), \
         median_ns REAL NOT NULL, lo_ns REAL, hi_ns REAL, n REAL, p90_ns REAL, p99_ns REAL, tokens_per_s REAL, gops REAL, \
         gb_per_s REAL, ttft_ns REAL, load_ns REAL, peak_rss_bytes REAL, gross_j_per_token REAL, \
         PRIMARY KEY(session, cell)) STRICT, WITHOUT ROWID",
    ),
    (
        "results_by_cell",
        "CREATE INDEX results_by_cell ON results(cell, session)",
    ),
    (
        "sessions",
        "CREATE TABLE sessions(id INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE, machine TEXT NOT NULL, description TEXT NOT NULL, \
         host TEXT NOT NULL, started_utc TEXT NOT NULL, suite TEXT NOT NULL, version TEXT NOT NULL, revision TEXT, source TEXT NOT NULL, \
         cells INTEGER NOT NULL) STRICT",
    ),
];

/// Why a store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is none.
    #[error("`{}`: there is no history yet; hint: tritbench history add DIR", .0.display())]
    Missing(PathBuf),
    /// It is no store, a damaged one, or one of another version.
    #[error("`{}`: {message}; hint: name another file with --store", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Another program keeps it locked.
    #[error("`{}`: another program keeps the history locked; hint: try again when it is done", .0.display())]
    Busy(PathBuf),
    /// The system refused.
    #[error("`{}`: {message}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// What it said.
        message: String,
    },
    /// A session that cannot go in.
    #[error("`{}`: {message}", source_dir.display())]
    Session {
        /// Its directory.
        source_dir: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}

impl StoreError {
    /// Whether the content of a file is at fault, and not the system: exit code 5 and not 1.
    pub fn is_content(&self) -> bool {
        matches!(self, Self::Content { .. } | Self::Session { .. })
    }
}

/// A session in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// Number in the order in which sessions were added.
    pub id: i64,
    /// Fingerprint of the machine.
    pub machine: String,
    /// The machine in a line.
    pub description: String,
    /// Name of the host.
    pub host: String,
    /// Start, UTC.
    pub started_utc: String,
    /// The suite.
    pub suite: String,
    /// Version of the program.
    pub version: String,
    /// Revision of its source.
    pub revision: Option<String>,
    /// Where it was when it was added.
    pub source: String,
    /// Cells that it has results of.
    pub cells: i64,
}

/// A result of a cell in a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The session.
    pub session: i64,
    /// Its start, UTC.
    pub started_utc: String,
    /// Version of the program.
    pub version: String,
    /// Revision of its source.
    pub revision: Option<String>,
    /// The quantity.
    pub value: f64,
    /// The 95 % interval, for the median time.
    pub interval: Option<(f64, f64)>,
}

/// The results of a cell on a machine, in the order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Fingerprint of the machine.
    pub machine: String,
    /// The machine in a line.
    pub description: String,
    /// The cell.
    pub cell: String,
    /// One of [`MEASURES`].
    pub measure: String,
    /// The results.
    pub points: Vec<Point>,
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    path: PathBuf,
}

impl Store {
    /// Opens a store that is there.
    ///
    /// # Errors
    /// When there is none, or the file is something else.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing(path.to_owned()));
        }
        // For writing too where that is allowed: a crash of a writer is cleaned up by whoever comes next.
        let store = Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        store.check()?;
        Ok(store)
    }

    /// Opens a store, or makes an empty one with the directories above it.
    ///
    /// # Errors
    /// When the file is something else, or the system refuses.
    pub fn open_or_create(path: &Path) -> Result<Self, StoreError> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| StoreError::System {
                path: parent.to_owned(),
                message: error.to_string(),
            })?;
        }
        let mut store = Self::connect(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        )?;
        store.create()?;
        store.check()?;
        Ok(store)
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self, StoreError> {
        let fail = |error: &rusqlite::Error| store_error(path, error);
        // SQLite takes a file that is shorter than its header for an empty one, and would write over it.
        let length = std::fs::metadata(path).map_or(0, |file| file.len());
        if path.is_dir() || (1..SHORTEST_BYTES).contains(&length) {
            return Err(StoreError::Content {
                path: path.to_owned(),
                message: "is not a history of tritbench".to_owned(),
            });
        }
        let db = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(|error| fail(&error))?;
        let prepare = || -> rusqlite::Result<()> {
            db.busy_timeout(WAIT)?;
            // A file from elsewhere must not make us run what stands in its schema.
            db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
            db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
            db.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_LENGTH, MAX_BYTES)?;
            db.pragma_update(None, "cell_size_check", true)?;
            db.pragma_update(None, "foreign_keys", true)?;
            Ok(())
        };
        prepare().map_err(|error| fail(&error))?;
        Ok(Self {
            db,
            path: path.to_owned(),
        })
    }

    fn error(&self, error: &rusqlite::Error) -> StoreError {
        store_error(&self.path, error)
    }

    /// Makes the tables in a file that is empty. Of two writers the second finds them.
    fn create(&mut self) -> Result<(), StoreError> {
        let path = self.path.clone();
        let mut make = || -> rusqlite::Result<()> {
            let tx = self
                .db
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let things: i64 =
                tx.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            let id: i32 = tx.pragma_query_value(None, "application_id", |row| row.get(0))?;
            if things == 0 && id == 0 {
                // An index comes after its table.
                for name in ["sessions", "cells", "results", "results_by_cell"] {
                    let sql = TABLES.iter().find(|(table, _)| *table == name);
                    tx.execute_batch(sql.map_or("", |(_, sql)| sql))?;
                }
                tx.pragma_update(None, "application_id", APPLICATION_ID)?;
                tx.pragma_update(None, "user_version", FORM)?;
            }
            tx.commit()
        };
        make().map_err(|error| store_error(&path, &error))
    }

    /// Refuses every file that is not exactly a store.
    fn check(&self) -> Result<(), StoreError> {
        let content = |message: String| StoreError::Content {
            path: self.path.clone(),
            message,
        };
        let number = |name: &str| -> Result<i32, StoreError> {
            self.db
                .pragma_query_value(None, name, |row| row.get(0))
                .map_err(|error| self.error(&error))
        };
        if number("application_id")? != APPLICATION_ID {
            return Err(content("is not a history of tritbench".to_owned()));
        }
        let form = number("user_version")?;
        if form != FORM {
            return Err(content(format!(
                "has form {form}, this version reads {FORM}"
            )));
        }
        let read = || -> rusqlite::Result<Vec<(String, String)>> {
            self.db
                .prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        };
        let found = read().map_err(|error| self.error(&error))?;
        let same = found.len() == TABLES.len()
            && found
                .iter()
                .zip(TABLES)
                .all(|((name, sql), (want, want_sql))| name == want && sql == want_sql);
        if !same {
            return Err(content("its tables are not those of a history".to_owned()));
        }
        Ok(())
    }

    /// Adds a session: all of its measured cells, or nothing. `false` when it is in the store already.
    ///
    /// # Errors
    /// When it has no measured cell or no start time, or the store cannot be written.
    pub fn add(
        &mut self,
        session: &Session,
        machine: &str,
        source: &Path,
        rows: &[SummaryRow],
    ) -> Result<bool, StoreError> {
        let wrong = |message: &str| StoreError::Session {
            source_dir: source.to_owned(),
            message: message.to_owned(),
        };
        if session.started_utc.is_empty() {
            return Err(wrong("the session does not say when it began"));
        }
        let rows: BTreeMap<String, &SummaryRow> = rows
            .iter()
            .filter(|row| {
                row.cell.status == Status::Ok && row.results.median_ns.is_some_and(|ns| ns > 0.0)
            })
            .map(|row| (keys(&row.cell), row))
            .collect();
        if rows.is_empty() {
            return Err(wrong("holds no measured cell"));
        }
        let path = self.path.clone();
        let mut write = || -> rusqlite::Result<bool> {
            let tx = self
                .db
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let added = tx.execute(
                "INSERT INTO sessions(identity, machine, description, host, started_utc, suite, version, revision, source, cells) \
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT(identity) DO NOTHING",
                params![
                    identity(session, machine),
                    machine,
                    facts::machine_line(session),
                    session.host,
                    session.started_utc,
                    session.suite,
                    session.version,
                    session.git_revision,
                    source.display().to_string(),
                    i64::try_from(rows.len()).unwrap_or(i64::MAX),
                ],
            )?;
            if added == 0 {
                return Ok(false);
            }
            let id = tx.last_insert_rowid();
            {
                let mut cell = tx.prepare(
                    "INSERT INTO cells(keys, name) VALUES(?1, ?2) ON CONFLICT(keys) DO NOTHING",
                )?;
                let mut place = tx.prepare("SELECT id FROM cells WHERE keys = ?1")?;
                let marks: Vec<String> =
                    (1..=MEASURES.len() + 2).map(|i| format!("?{i}")).collect();
                let mut result = tx.prepare(&format!(
                    "INSERT INTO results(session, cell, {}) VALUES({})",
                    MEASURES.join(", "),
                    marks.join(", ")
                ))?;
                let measures = measures();
                for (keys, row) in &rows {
                    cell.execute(params![keys, row.cell.cell])?;
                    let at: i64 = place.query_row([keys], |row| row.get(0))?;
                    result.raw_bind_parameter(1, id)?;
                    result.raw_bind_parameter(2, at)?;
                    for (i, read) in measures.iter().enumerate() {
                        result.raw_bind_parameter(i + 3, read(&row.results))?;
                    }
                    result.raw_execute()?;
                }
            }
            tx.commit()?;
            Ok(true)
        };
        write().map_err(|error| store_error(&path, &error))
    }

    /// The sessions in the order of time; of one machine if it is named.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn sessions(&self, machine: Option<&str>) -> Result<Vec<StoredSession>, StoreError> {
        let read = || -> rusqlite::Result<Vec<StoredSession>> {
            self.db
                .prepare(
                    "SELECT id, machine, description, host, started_utc, suite, version, revision, source, cells FROM sessions \
                     WHERE ?1 IS NULL OR machine = ?1 ORDER BY started_utc, id",
                )?
                .query_map([machine], |row| {
                    Ok(StoredSession {
                        id: row.get(0)?,
                        machine: row.get(1)?,
                        description: row.get(2)?,
                        host: row.get(3)?,
                        started_utc: row.get(4)?,
                        suite: row.get(5)?,
                        version: row.get(6)?,
                        revision: row.get(7)?,
                        source: row.get(8)?,
                        cells: row.get(9)?,
                    })
                })?
                .collect()
        };
        read().map_err(|error| self.error(&error))
    }

    /// The cells whose name is `text`; when there is none, those whose name contains it.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn cells(&self, text: &str) -> Result<Vec<(i64, String)>, StoreError> {
        let read = |sql: &str| -> rusqlite::Result<Vec<(i64, String)>> {
            self.db
                .prepare(sql)?
                .query_map([text], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        };
        let exact = read("SELECT id, name FROM cells WHERE name = ?1 ORDER BY id")
            .map_err(|error| self.error(&error))?;
        if !exact.is_empty() {
            return Ok(exact);
        }
        read("SELECT id, name FROM cells WHERE instr(name, ?1) > 0 ORDER BY name, id")
            .map_err(|error| self.error(&error))
    }

    /// The results of a cell, a series a machine, each in the order of time. `measure` is one of [`MEASURES`].
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn series(
        &self,
        (cell, name): (i64, &str),
        measure: &str,
        machine: Option<&str>,
    ) -> Result<Vec<Series>, StoreError> {
        // Only names of the list get into the statement.
        let column = MEASURES.iter().find(|known| **known == measure);
        let column = column.copied().unwrap_or("median_ns");
        let read = || -> rusqlite::Result<Vec<(String, String, Point)>> {
            self.db
                .prepare(&format!(
                    "SELECT s.machine, s.description, s.id, s.started_utc, s.version, s.revision, r.{column}, r.lo_ns, r.hi_ns \
                     FROM results r JOIN sessions s ON s.id = r.session \
                     WHERE r.cell = ?1 AND (?2 IS NULL OR s.machine = ?2) AND r.{column} > 0 \
                     ORDER BY s.machine, s.started_utc, s.id"
                ))?
                .query_map(params![cell, machine], |row| {
                    let (lo, hi): (Option<f64>, Option<f64>) = (row.get(7)?, row.get(8)?);
                    Ok((
                        row.get(0)?,
                        row.get(1)?,
                        Point {
                            session: row.get(2)?,
                            started_utc: row.get(3)?,
                            version: row.get(4)?,
                            revision: row.get(5)?,
                            value: row.get(6)?,
                            interval: lo.zip(hi).filter(|_| column == "median_ns"),
                        },
                    ))
                })?
                .collect()
        };
        let mut all: Vec<Series> = Vec::new();
        for (machine, description, point) in read().map_err(|error| self.error(&error))? {
            if !point.value.is_finite() {
                return Err(StoreError::Content {
                    path: self.path.clone(),
                    message: format!("session {} has a {column} that is no number", point.session),
                });
            }
            match all.last_mut().filter(|series| series.machine == machine) {
                Some(series) => series.points.push(point),
                None => all.push(Series {
                    machine,
                    description,
                    cell: name.to_owned(),
                    measure: column.to_owned(),
                    points: vec![point],
                }),
            }
        }
        Ok(all)
    }

    /// The latest result of every cell that a machine has, as rows of a summary.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn latest(&self, machine: &str) -> Result<Vec<SummaryRow>, StoreError> {
        let read = || -> rusqlite::Result<BTreeMap<i64, (String, String, Results)>> {
            let mut latest = BTreeMap::new();
            let mut statement = self.db.prepare(&format!(
                "SELECT r.cell, c.name, c.keys, {} FROM results r JOIN sessions s ON s.id = r.session JOIN cells c ON c.id = r.cell \
                 WHERE s.machine = ?1 ORDER BY s.started_utc, s.id",
                MEASURES.map(|name| format!("r.{name}")).join(", ")
            ))?;
            let mut rows = statement.query([machine])?;
            let mut columns = Results::columns();
            columns.retain(|column| MEASURES.contains(&column.name));
            while let Some(row) = rows.next()? {
                let mut results = Results::default();
                for (i, name) in MEASURES.iter().enumerate() {
                    let value: Option<f64> = row.get(i + 3)?;
                    let column = columns.iter().find(|column| column.name == *name);
                    if let Some((value, column)) = value.zip(column) {
                        // What is out of the range of its column was not written by this program: it stays missing.
                        let _ = (column.read)(&mut results, &value.to_string());
                    }
                }
                latest.insert(row.get(0)?, (row.get(1)?, row.get(2)?, results));
            }
            Ok(latest)
        };
        read()
            .map_err(|error| self.error(&error))?
            .into_values()
            .map(|(name, keys, results)| {
                let mut cell = cell_of(&keys).ok_or_else(|| StoreError::Content {
                    path: self.path.clone(),
                    message: format!("the keys of cell `{name}` cannot be read"),
                })?;
                cell.cell = name;
                Ok(SummaryRow { cell, results })
            })
            .collect()
    }
}

/// What makes a session the same as another: who, where, when, what.
fn identity(session: &Session, machine: &str) -> String {
    serde_json::json!([
        machine,
        session.host,
        session.started_utc,
        session.suite,
        session.suite_sha256,
        session.plan.seed
    ])
    .to_string()
}

/// The keys of a cell as JSON: the same cell gives the same text in every session.
fn keys(cell: &Cell) -> String {
    let map: BTreeMap<&str, String> = Cell::columns()
        .iter()
        .filter(|column| is_key(column.name))
        .map(|column| (column.name, (column.write)(cell)))
        .filter(|(_, text)| !text.is_empty())
        .collect();
    // Texts under texts always serialise.
    serde_json::to_string(&map).unwrap_or_default()
}

fn cell_of(keys: &str) -> Option<Cell> {
    let map: BTreeMap<String, String> = serde_json::from_str(keys).ok()?;
    let mut cell = Cell::default();
    for column in Cell::columns() {
        if let Some(text) = map.get(column.name) {
            (column.read)(&mut cell, text).ok()?;
        }
    }
    Some(cell)
}

/// Reads a quantity of results.
type ReadMeasure = Box<dyn Fn(&Results) -> Option<f64>>;

/// Reads each of [`MEASURES`].
fn measures() -> Vec<ReadMeasure> {
    let mut columns = Results::columns();
    MEASURES
        .iter()
        .filter_map(|name| {
            let at = columns.iter().position(|column| column.name == *name)?;
            let column = columns.swap_remove(at);
            let read: ReadMeasure = Box::new(move |results| (column.write)(results).parse().ok());
            Some(read)
        })
        .collect()
}

fn store_error(path: &Path, error: &rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(path),
        Some(ErrorCode::NotADatabase) => StoreError::Content {
            path,
            message: "is not a history of tritbench".to_owned(),
        },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::TypeMismatch | ErrorCode::TooBig) | None => {
            StoreError::Content {
                path,
                message: format!("is damaged: {error}"),
            }
        }
        Some(_) => StoreError::System {
            path,
            message: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests;
