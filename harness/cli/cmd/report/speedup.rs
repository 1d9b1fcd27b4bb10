//! `tritbench report speedup`: kernels and engines against baselines.

use std::path::PathBuf;

use clap::Args;

use super::{PaperArgs, record};
use crate::exit::{Failure, Outcome};

/// Holds every kernel and engine configuration of a run against dense baselines, and says what to take on this machine
#[derive(Args, Debug)]
#[command(
    long_about = "Holds every kernel and engine configuration of a run against dense baselines, and says what to take on this machine.\n\n\
                  Ratios by workload, shape, threads and model size, with 95 % intervals: from pairs where the run has them, else from separate \
                  medians, and each says which. The position under the roof, where each kernel is first, and a recommendation.",
    after_help = "Examples:
  tritbench report speedup runs/20260101T120000Z-host-quick
  tritbench report speedup results --baseline f16,q4 --out speedup
  tritbench report speedup results --baseline w2a8-mad-avx2 --format csv"
)]
pub(crate) struct SpeedupArgs {
    /// The directory of a run
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// What to compare with: formats (f16, f32, i8, q4: the fastest kernel of each) or kernel ids [default: every format that the run has]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    baseline: Vec<String>,

    #[command(flatten)]
    paper: PaperArgs,
}

pub(crate) fn run(args: &SpeedupArgs) -> Outcome {
    let record = record(&args.dir)?;
    let paper = trit_report::speedup_paper(&record, &args.baseline).map_err(Failure::usage)?;
    args.paper.give(&paper)
}
