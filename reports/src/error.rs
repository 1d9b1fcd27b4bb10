//! Errors of reports.

use std::io;
use std::path::PathBuf;

use trit_core::RunDirError;

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The run directory cannot be read or written.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A chart could not be drawn.
    #[error("chart `{name}`: {message}")]
    Chart {
        /// Its name, without an ending.
        name: String,
        /// What the drawing library said.
        message: String,
    },
}

impl ReportError {
    /// Whether the content of a file is at fault, and not the system.
    pub fn is_content(&self) -> bool {
        matches!(self, Self::RunDir(error) if error.is_content())
    }
}
