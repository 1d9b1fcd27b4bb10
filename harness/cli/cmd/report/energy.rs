//! `tritbench report energy`: joules of a run.

use std::path::PathBuf;

use clap::Args;

use super::{PaperArgs, record};
use crate::exit::Outcome;

/// Says what a run knows of energy: joules a token against dense baselines, watts, EDP, Pareto; without a meter, why
#[derive(Args, Debug)]
#[command(
    long_about = "Says what a run knows of energy: joules a token, gross and net, against dense baselines, watts, energy-delay product and \
                  Pareto front. Without a meter it says why there was none and what helps, and shows what is left.",
    after_help = "Examples:
  tritbench report energy runs/20260101T120000Z-host-quick
  tritbench report energy results --format md --out energy"
)]
pub(crate) struct EnergyArgs {
    /// The directory of a run
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    #[command(flatten)]
    paper: PaperArgs,
}

pub(crate) fn run(args: &EnergyArgs) -> Outcome {
    let record = record(&args.dir)?;
    args.paper.give(&trit_report::energy_paper(&record))
}
