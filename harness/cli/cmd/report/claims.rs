//! `tritbench report claims`: published figures against a run.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use trit_core::{Claim, embedded_claims, parse_claims};

use super::{PaperArgs, record};
use crate::exit::{Failure, Outcome};

/// Holds published figures about BitNet b1.58 against a run: reproduced, not reproduced, or not measurable here and why
#[derive(Args, Debug)]
#[command(
    long_about = "Holds published figures about BitNet b1.58 against a run: reproduced, not reproduced, or not measurable here and why.\n\n\
                  The figures, their sources and setups are those of suites/claims.toml, which the program carries; --claims takes a file of \
                  the same form. `tritbench run claims-run` measures what a small machine can. Without a run nothing is measurable.",
    after_help = "Examples:
  tritbench report claims runs/20260101T120000Z-host-claims-run
  tritbench report claims results --format md > claims.md
  tritbench report claims results --claims mine.toml --out claims"
)]
pub(crate) struct ClaimsArgs {
    /// The directory of a run
    #[arg(value_name = "RUN")]
    run: Option<PathBuf>,

    /// Claims of your own, in the form of suites/claims.toml
    #[arg(long, value_name = "FILE")]
    claims: Option<PathBuf>,

    #[command(flatten)]
    paper: PaperArgs,
}

pub(crate) fn run(args: &ClaimsArgs) -> Outcome {
    let claims = claims(args)?;
    let run = args.run.as_deref().map(record).transpose()?;
    let paper = trit_report::claims_paper(&claims, run.as_ref());
    args.paper.give(&paper)
}

fn claims(args: &ClaimsArgs) -> Result<Vec<Claim>, Failure> {
    let Some(file) = &args.claims else {
        return embedded_claims().map_err(Failure::unusable);
    };
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::failed(anyhow::anyhow!("{}: {error}", file.display())))?;
    parse_claims(&file.display().to_string(), &text).map_err(Failure::unusable)
}
