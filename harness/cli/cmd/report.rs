//! `tritbench report`: everything that is derived from the rows of a run, made again, and reports about one question each.

mod claims;
mod energy;
mod machines;
mod speedup;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use trit_core::{RunDir, RunDirError, SummaryRow};
use trit_measure::energy::{External, ExternalError, MAX_GAP_NS};
use trit_report::{Paper, Record, ReportError};
use trit_run::{MergeError, merge_log};

use crate::args::FormatArg;
use crate::exit::{Exit, Failure, Outcome};
use crate::out::{Out, say};

/// Makes summary, charts and report of a run directory again, and prints the summary
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    long_about = "Makes summary, charts and report of a run directory again, and prints the summary.\n\n\
                  Only the rows of the directory are read, so it works for runs of other machines, and for runs that were stopped. \
                  The commands below answer one question each about a run or several.",
    after_help = "Examples:
  tritbench report runs/20260101T120000Z-host-quick
  tritbench report results --format csv > summary.csv
  tritbench report results --energy-log plug.csv     joules by the log of a wall plug"
)]
pub(crate) struct ReportArgs {
    /// The directory of a run
    #[arg(value_name = "DIR", required = true)]
    dir: Option<PathBuf>,

    /// Fill the energy windows of the run from the log of a meter outside of the machine, by time: a CSV with times in UTC
    /// and watts or joules
    #[arg(long, value_name = "FILE")]
    energy_log: Option<PathBuf>,

    #[command(flatten)]
    format: FormatArg,

    #[command(subcommand)]
    about: Option<About>,
}

#[derive(Subcommand, Debug)]
enum About {
    Speedup(speedup::SpeedupArgs),
    Energy(energy::EnergyArgs),
    Machines(machines::MachinesArgs),
    Claims(claims::ClaimsArgs),
}

/// How a report is printed and where it is kept.
#[derive(Args, Debug)]
struct PaperArgs {
    #[command(flatten)]
    format: FormatArg,

    /// Also writes the report as Markdown and CSV, and its charts, into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl PaperArgs {
    /// Prints a report, and keeps it where that was asked for.
    fn give(&self, paper: &Paper) -> Outcome {
        if let Some(directory) = &self.out {
            let files = paper
                .write(directory)
                .map_err(|error| report_failure(&error))?;
            say(&format!(
                "wrote {} files in {}",
                files.len(),
                directory.display()
            ));
        }
        Out::new().text(&paper.render(self.format.format.into()))?;
        Ok(Exit::Done)
    }
}

/// Reads a run directory for a report.
fn record(path: &Path) -> Result<Record, Failure> {
    let dir = RunDir::open(path).map_err(|error| record_failure(&error))?;
    Record::read(&dir).map_err(|error| report_failure(&error))
}

pub(crate) fn run(args: &ReportArgs) -> Outcome {
    match &args.about {
        Some(About::Speedup(args)) => speedup::run(args),
        Some(About::Energy(args)) => energy::run(args),
        Some(About::Machines(args)) => machines::run(args),
        Some(About::Claims(args)) => claims::run(args),
        None => again(args),
    }
}

/// Everything of one run, made again.
fn again(args: &ReportArgs) -> Outcome {
    let Some(path) = &args.dir else {
        return Err(Failure::usage(anyhow::anyhow!(
            "no directory of a run; hint: tritbench report DIR"
        )));
    };
    let dir = RunDir::open(path).map_err(|error| record_failure(&error))?;
    if let Some(log) = &args.energy_log {
        merge(&dir, log)?;
    }
    let (rows, charts) = write_reports(&dir)?;
    say(&format!(
        "wrote report.md, report.html, summary.csv and {} charts in {}",
        charts.len(),
        dir.path().display()
    ));
    Out::new().text(&trit_report::render(&rows, args.format.format.into()))?;
    Ok(Exit::Done)
}

/// Merges the log of a meter into the rows of a run.
fn merge(dir: &RunDir, log: &Path) -> Result<(), Failure> {
    let log = External::open(log, MAX_GAP_NS).map_err(|error| match error {
        ExternalError::Io { .. } => Failure::failed(error),
        error => Failure::unusable(error),
    })?;
    let mut session = dir.session().map_err(|error| record_failure(&error))?;
    let merged = merge_log(dir, &mut session, &log).map_err(|error| match error {
        MergeError::Record(error) => record_failure(&error),
        error @ MergeError::NoWindows(_) => Failure::unusable(error),
    })?;
    dir.write_session(&session)
        .map_err(|error| record_failure(&error))?;
    say(&format!("{} energy windows are in the log", merged.filled));
    if merged.empty > 0 {
        say(&format!(
            "note: {} are not, the last because: {}",
            merged.empty, merged.reason
        ));
    }
    Ok(())
}

/// Writes summary, charts and report; gives the rows and the charts.
pub(crate) fn write_reports(dir: &RunDir) -> Result<(Vec<SummaryRow>, Vec<PathBuf>), Failure> {
    trit_report::write_all(dir).map_err(|error| report_failure(&error))
}

/// Errors of reports: what the system refused is code 1, what a file holds is code 5.
pub(crate) fn report_failure(error: &ReportError) -> Failure {
    let told = anyhow::anyhow!("{error}");
    if error.is_content() {
        Failure::unusable(told)
    } else {
        Failure::failed(told)
    }
}

/// Errors of run directories: what the system refused is code 1, what a file holds is code 5.
pub(crate) fn record_failure(error: &RunDirError) -> Failure {
    let told = anyhow::anyhow!("{error}");
    if error.is_content() {
        Failure::unusable(told)
    } else {
        Failure::failed(told)
    }
}
