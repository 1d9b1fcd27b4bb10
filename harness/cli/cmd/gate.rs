//! `tritbench gate`: a verdict on a change.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use trit_core::{Limits, RunDir};
use trit_report::{GateEnd, GateError, GateReport, UnpairedError};

use crate::args::{Format, FormatArg};
use crate::cmd::report::record_failure;
use crate::exit::{Exit, Failure, Outcome};
use crate::files;
use crate::out::{Out, say};

/// Judges a change: regressed, improved, passed, inconclusive or invalid, for every cell
#[derive(Args, Debug)]
#[command(
    long_about = "Judges a change: regressed, improved, passed, inconclusive or invalid, for every cell.\n\n\
                  The record is a directory that `tritbench ab` left. Two records of `tritbench run`, or their summary.csv, can be compared \
                  too (--baseline, --candidate): they were not measured in turns, so all but large changes are inconclusive. [limits] in a TOML \
                  file sets the minimum effect, the allowed slowdown and absolute budgets. When GITHUB_STEP_SUMMARY is set, the summary is \
                  appended there unless --markdown names another file.\n\n\
                  Exit codes: 0 pass, 3 a regression or a budget that was not kept, 4 inconclusive and --strict, 5 not usable or invalid.",
    after_help = "Examples:
  tritbench gate change
  tritbench gate change --limits limits.toml --strict --junit gate.xml --markdown gate.md
  tritbench gate --baseline before --candidate after"
)]
pub(crate) struct GateArgs {
    /// The directory that `tritbench ab` left
    #[arg(value_name = "DIR", required_unless_present = "baseline", conflicts_with_all = ["baseline", "candidate"])]
    dir: Option<PathBuf>,

    /// A run directory or a summary.csv to compare with
    #[arg(long, value_name = "PATH", requires = "candidate")]
    baseline: Option<PathBuf>,

    /// A run directory or a summary.csv to judge
    #[arg(long, value_name = "PATH", requires = "baseline")]
    candidate: Option<PathBuf>,

    /// A TOML file with `[limits]` [default: minimum effect 2 %, allowed slowdown 5 %, no budgets]
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,

    /// Inconclusive is not good enough: exit with 4
    #[arg(long)]
    strict: bool,

    /// Write a test a cell in the XML of `JUnit`
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,

    /// Write everything as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write a summary in Markdown, for a comment on a pull request
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    #[command(flatten)]
    format: FormatArg,
}

pub(crate) fn run(args: &GateArgs) -> Outcome {
    let limits = files::limits(args.limits.as_deref())?;
    let report = match (&args.dir, &args.baseline, &args.candidate) {
        (Some(dir), ..) => {
            let dir = RunDir::open(dir).map_err(Failure::unusable)?;
            trit_report::gate_record(&dir, &limits).map_err(|error| gate_failure(&error))?
        }
        (None, Some(base), Some(head)) => unpaired(base, head, &limits)?,
        // The definition of the arguments does not let this happen.
        _ => {
            return Err(Failure::usage(anyhow::anyhow!(
                "there is nothing to judge; hint: a directory of `tritbench ab`"
            )));
        }
    };
    show(&report, args.format.format)?;
    for (path, text) in [
        (
            &args.junit,
            trit_report::gate_junit as fn(&GateReport) -> String,
        ),
        (&args.json, trit_report::gate_json),
        (&args.markdown, trit_report::gate_markdown),
    ] {
        if let Some(path) = path {
            fs::write(path, text(&report)).map_err(|error| write_failure(path, error))?;
        }
    }
    let summary = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty());
    if let (Some(path), None) = (summary, &args.markdown) {
        let path = PathBuf::from(path);
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(trit_report::gate_markdown(&report).as_bytes()))
            .map_err(|error| write_failure(&path, error))?;
    }
    Ok(match report.end(args.strict) {
        GateEnd::Pass => Exit::Done,
        GateEnd::Regression => Exit::OverLimit,
        GateEnd::Inconclusive => Exit::Inconclusive,
        GateEnd::Invalid => {
            say("error: not every cell can be judged; hint: the reasons are above");
            Exit::Unusable
        }
    })
}

fn write_failure(path: &Path, error: std::io::Error) -> Failure {
    let place = path.display();
    Failure::failed(anyhow::Error::new(error).context(format!("cannot write `{place}`")))
}

/// Prints what a gate says.
pub(crate) fn show(report: &GateReport, format: Format) -> Result<(), Failure> {
    let text = match format {
        Format::Table => trit_report::gate_table(report),
        Format::Json => trit_report::gate_json(report),
        Format::Md => trit_report::gate_markdown(report),
        Format::Csv => trit_report::gate_csv(report),
    };
    Out::new().text(&text)
}

fn unpaired(base: &Path, head: &Path, limits: &Limits) -> Result<GateReport, Failure> {
    // Whatever is wrong with a record that should be judged, there is no verdict: that is one code.
    let unusable = |error: UnpairedError| Failure::unusable(error);
    let base_rows = trit_report::read_summaries(base).map_err(unusable)?;
    let head_rows = trit_report::read_summaries(head).map_err(unusable)?;
    trit_report::gate_unpaired((base, &base_rows), (head, &head_rows), limits).map_err(unusable)
}

/// Errors of records that should be judged.
pub(crate) fn gate_failure(error: &GateError) -> Failure {
    match error {
        GateError::RunDir(error) if !error.is_content() => record_failure(error),
        error => Failure::unusable(anyhow::anyhow!("{error}")),
    }
}
