//! A report as a whole: Markdown for people, rows for programs, figures.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::ReportError;
use crate::chart::{self, Figure};
use crate::format::Format;
use crate::table::aligned_rows;

/// Rows with named columns. A missing value is `null`: an empty field, or left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sheet {
    pub(crate) header: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<Value>>,
}

/// A number, or nothing where there is none or it is not finite.
pub(crate) fn number(value: Option<f64>) -> Value {
    value
        .and_then(serde_json::Number::from_f64)
        .map_or(Value::Null, Value::Number)
}

/// A whole number, or nothing.
pub(crate) fn whole(value: Option<u64>) -> Value {
    value.map_or(Value::Null, Value::from)
}

/// A text, or nothing where it is empty.
pub(crate) fn text(value: &str) -> Value {
    if value.is_empty() {
        Value::Null
    } else {
        value.into()
    }
}

impl Sheet {
    fn csv(&self) -> String {
        let plain = |value: &Value| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let mut writer = csv::Writer::from_writer(Vec::new());
        let written = writer.write_record(&self.header).and_then(|()| {
            self.rows
                .iter()
                .try_for_each(|row| writer.write_record(row.iter().map(plain)))
        });
        debug_assert!(written.is_ok(), "memory takes every record");
        let bytes = writer.into_inner().unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn json(&self) -> String {
        let objects: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let fields = self.header.iter().zip(row).filter(|(_, v)| !v.is_null());
                let fields: Map<String, Value> = fields
                    .map(|(name, value)| ((*name).to_owned(), value.clone()))
                    .collect();
                Value::Object(fields)
            })
            .collect();
        // Strings, numbers and objects of them always serialise.
        serde_json::to_string_pretty(&objects).unwrap_or_default() + "\n"
    }
}

/// One report: the same rows give the same bytes.
#[derive(Clone, Debug)]
pub struct Paper {
    /// Its name, and that of its files.
    pub(crate) name: &'static str,
    /// The whole of it for people.
    pub(crate) markdown: String,
    /// Its rows.
    pub(crate) sheet: Sheet,
    /// What a terminal shows: a heading and its columns of text, and the lines below.
    pub(crate) short: (Vec<&'static str>, Vec<Vec<String>>),
    pub(crate) below: Vec<String>,
    /// Charts by file name, without an ending.
    pub(crate) figures: Vec<(String, Figure)>,
}

impl Paper {
    /// The report in a format, ending with a newline: `csv` and `json` are its rows, `md` is all of it, `table` the essence.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Csv => self.sheet.csv(),
            Format::Json => self.sheet.json(),
            Format::Md => self.markdown.clone(),
            Format::Table => {
                let mut out = String::new();
                if !self.short.1.is_empty() {
                    out.push_str(&aligned_rows(&self.short.0, &self.short.1));
                }
                for line in &self.below {
                    out.push_str(line);
                    out.push('\n');
                }
                out
            }
        }
    }

    /// Writes `<name>.md`, `<name>.csv` and the charts as `charts/<chart>.svg` and `.png` into a directory, which is made if it is
    /// not there; gives their paths.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<Vec<PathBuf>, ReportError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| ReportError::Io { path, source }
        };
        fs::create_dir_all(directory).map_err(io(directory))?;
        let mut paths = Vec::new();
        for (ending, content) in [("md", self.markdown.clone()), ("csv", self.sheet.csv())] {
            let path = directory.join(format!("{}.{ending}", self.name));
            fs::write(&path, content).map_err(io(&path))?;
            paths.push(path);
        }
        if !self.figures.is_empty() {
            paths.extend(chart::save(&self.figures, &directory.join("charts"))?);
        }
        Ok(paths)
    }

    /// The charts as links for the Markdown.
    pub(crate) fn links(figures: &[(String, Figure)]) -> String {
        let links: Vec<String> = figures
            .iter()
            .map(|(name, figure)| format!("![{}](charts/{name}.svg)\n", figure.title))
            .collect();
        links.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_what_is_missing_missing() {
        let sheet = Sheet {
            header: vec!["a", "b", "c"],
            rows: vec![vec![
                number(Some(1.5)),
                number(Some(f64::NAN)),
                text("x, \"y\""),
            ]],
        };
        assert_eq!(sheet.csv(), "a,b,c\n1.5,,\"x, \"\"y\"\"\"\n");
        let json: Value = serde_json::from_str(&sheet.json()).unwrap();
        assert_eq!(json[0]["a"], 1.5);
        assert_eq!(json[0].get("b"), None);
        assert_eq!(whole(None), Value::Null);
    }
}
