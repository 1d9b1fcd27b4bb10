//! What a self-test leaves: each table as CSV, and all of them as one page of Markdown.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;
use trit_report::Finding;
use trit_stats::wilson;

use crate::args::Format;
use crate::exit::Failure;
use crate::out::{Table, say};

/// The page and its tables.
pub(super) struct Record {
    page: String,
    tables: Vec<(&'static str, String)>,
}

impl Record {
    /// A record of this program on a machine.
    pub(super) fn new(title: &str, machine: &str, started_utc: &str) -> Self {
        let revision = env!("TRIT_REVISION");
        let revision = if revision.is_empty() {
            String::new()
        } else {
            format!(" ({revision})")
        };
        Self {
            page: format!(
                "# {title}\n\ntritbench {}{revision}, {started_utc}, {machine}.\n",
                env!("CARGO_PKG_VERSION")
            ),
            tables: Vec::new(),
        }
    }

    /// Adds a table: `name` is that of its file.
    #[expect(clippy::needless_pass_by_value, reason = "the table is done")]
    pub(super) fn table(&mut self, name: &'static str, title: &str, table: Table) {
        let _ = write!(self.page, "\n## {title}\n\n{}", table.render(Format::Md));
        self.tables.push((name, table.render(Format::Csv)));
    }

    /// Writes `selftest.md` and a CSV file a table into a directory, which may have been there before.
    pub(super) fn write(&self, dir: &Path) -> Result<(), Failure> {
        let failed = |path: &Path, error| {
            let place = path.display().to_string();
            Failure::failed(anyhow::Error::new(error).context(format!("cannot write `{place}`")))
        };
        fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
        let csv = self
            .tables
            .iter()
            .map(|(name, text)| (format!("{name}.csv"), text));
        for (name, text) in csv.chain([("selftest.md".to_owned(), &self.page)]) {
            let path = dir.join(name);
            fs::write(&path, text).map_err(|error| failed(&path, error))?;
        }
        say(&format!("the record is in {}", dir.display()));
        Ok(())
    }
}

/// Claims, and whether they were met.
pub(super) fn finding_table(findings: &[Finding]) -> Table {
    let mut table = Table::new(&["question", "wanted", "found", "met"]);
    for finding in findings {
        let met = match finding.met {
            Some(true) => "yes",
            Some(false) => "no",
            None => "",
        };
        table.row([
            finding.question.as_str().into(),
            finding.wanted.as_str().into(),
            finding.found.as_str().into(),
            met.into(),
        ]);
    }
    table
}

/// Counts with intervals.
pub(super) fn rate_table() -> Table {
    Table::new(&[
        "method",
        "question",
        "applied_percent",
        "hits",
        "trials",
        "rate",
        "lo",
        "hi",
    ])
}

/// One count; the interval is Wilson's at 95 %.
pub(super) fn rate_row(
    table: &mut Table,
    method: &str,
    question: &str,
    percent: f64,
    hits: u64,
    trials: u64,
) {
    let round = |value: f64| Value::from((value * 1e4).round() / 1e4);
    let interval = wilson(hits, trials, 0.95);
    table.row([
        method.into(),
        question.into(),
        percent.into(),
        hits.into(),
        trials.into(),
        round(hits as f64 / trials.max(1) as f64),
        interval.map_or(Value::Null, |interval| round(interval.lo)),
        interval.map_or(Value::Null, |interval| round(interval.hi)),
    ]);
}
