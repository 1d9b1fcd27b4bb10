//! `tritbench report`: everything that is derived from the rows of a run, made again.

use std::path::PathBuf;

use clap::Args;
use trit_core::{RunDir, RunDirError, SummaryRow};
use trit_report::ReportError;

use crate::args::FormatArg;
use crate::exit::{Exit, Failure, Outcome};
use crate::out::{Out, say};

/// Makes summary, charts and report of a run directory again, and prints the summary
#[derive(Args, Debug)]
#[command(
    long_about = "Makes summary, charts and report of a run directory again, and prints the summary.\n\n\
                  Only the rows of the directory are read, so it works for runs of other machines, and for runs that were stopped.",
    after_help = "Examples:
  tritbench report runs/20260101T120000Z-host-quick
  tritbench report results --format csv > summary.csv"
)]
pub(crate) struct ReportArgs {
    /// The directory of a run
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    #[command(flatten)]
    format: FormatArg,
}

pub(crate) fn run(args: &ReportArgs) -> Outcome {
    let dir = RunDir::open(&args.dir).map_err(|error| record_failure(&error))?;
    let (rows, charts) = write_reports(&dir)?;
    say(&format!(
        "wrote report.md, summary.csv and {} charts in {}",
        charts.len(),
        dir.path().display()
    ));
    Out::new().text(&trit_report::render(&rows, args.format.format.into()))?;
    Ok(Exit::Done)
}

/// Writes summary, charts and report; gives the rows and the charts.
pub(crate) fn write_reports(dir: &RunDir) -> Result<(Vec<SummaryRow>, Vec<PathBuf>), Failure> {
    let failure = |error| report_failure(&error);
    let rows = trit_report::summarize(dir).map_err(failure)?;
    let charts = trit_report::write_charts(dir).map_err(failure)?;
    trit_report::write_report_md(dir).map_err(failure)?;
    Ok((rows, charts))
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
