//! Why a model file is refused.

use std::fmt::Display;
use std::path::Path;

/// Why a model file could not be read.
///
/// Every message names the file and what in it (a key, a tensor, a header field) is at fault.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("`{file}`: cannot {action}: {source}")]
    Io {
        /// The path as given.
        file: String,
        /// What was tried: `open`, `map`, `read`, `write`.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The content breaks the rules of its format, or contradicts itself.
    #[error("`{file}`: `{field}`: {problem}")]
    Invalid {
        /// The path as given.
        file: String,
        /// Key, tensor or header field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The content is well formed but is nothing this engine runs.
    #[error("`{file}`: `{field}`: {problem}; hint: {hint}")]
    Unsupported {
        /// The path as given.
        file: String,
        /// Key, tensor or header field.
        field: String,
        /// What is not supported.
        problem: String,
        /// What to do instead.
        hint: String,
    },
}

impl FileError {
    /// Whether the system refused (exit code 1), rather than the content being unusable (exit code 5).
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Io { .. })
    }
}

/// The name of one file, for errors. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct FileName(std::sync::Arc<str>);

impl FileName {
    pub(crate) fn new(name: impl Into<std::sync::Arc<str>>) -> Self {
        Self(name.into())
    }

    pub(crate) fn of(path: &Path) -> Self {
        Self::new(path.display().to_string())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn io(&self, action: &'static str, source: std::io::Error) -> FileError {
        FileError::Io {
            file: self.0.to_string(),
            action,
            source,
        }
    }

    pub(crate) fn invalid(&self, field: impl Display, problem: impl Display) -> FileError {
        FileError::Invalid {
            file: self.0.to_string(),
            field: shorten(&field.to_string()),
            problem: shorten(&problem.to_string()),
        }
    }

    pub(crate) fn unsupported(
        &self,
        field: impl Display,
        problem: impl Display,
        hint: impl Display,
    ) -> FileError {
        FileError::Unsupported {
            file: self.0.to_string(),
            field: shorten(&field.to_string()),
            problem: shorten(&problem.to_string()),
            hint: hint.to_string(),
        }
    }
}

/// Text from a file, fit for one line of a terminal: control characters are escaped and the middle of long text is left
/// out.
fn shorten(text: &str) -> String {
    const MOST: usize = 160;
    let clean: String = text
        .chars()
        .take(4 * MOST)
        .flat_map(|c| {
            let escaped = c.is_control();
            escaped
                .then(|| c.escape_default())
                .into_iter()
                .flatten()
                .chain((!escaped).then_some(c))
        })
        .collect();
    if clean.chars().count() <= MOST {
        return clean;
    }
    let head: String = clean.chars().take(MOST * 3 / 4).collect();
    format!("{head}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_a_file_stays_on_one_short_line() {
        assert_eq!(shorten("a\nb\u{1b}[0m"), "a\\nb\\u{1b}[0m");
        assert_eq!(shorten(&"x".repeat(1000)).len(), 123);
        assert_eq!(shorten("blk.0.attn_q.weight"), "blk.0.attn_q.weight");
    }

    #[test]
    fn only_the_system_is_an_io_error() {
        let name = FileName::new("m.gguf");
        assert!(name.io("open", std::io::Error::other("no")).is_io());
        let err = name.unsupported("type", "no", "convert it");
        assert!(!err.is_io());
        assert_eq!(err.to_string(), "`m.gguf`: `type`: no; hint: convert it");
    }
}
