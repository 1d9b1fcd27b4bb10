//! `tritbench export`: results in the formats of other tools.

use std::fs;
use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;

use clap::Args;
use trit_core::RunDir;
use trit_report::{ExchangeError, ExportFormat};

use crate::cmd::report::record_failure;
use crate::exit::{Exit, Failure, Outcome};
use crate::out::{Out, say, stdout_failure};

/// Writes the results of a run in the format of another tool
#[derive(Args, Debug)]
#[command(
    long_about = "Writes the results of a run in the format of another tool.\n\n\
                  llama-bench-jsonl, -csv and -sql hold the prefill and decode cells of models; github-smaller and github-bigger are the two \
                  directions of github-action-benchmark; parquet holds the summary, parquet-samples every sample. What was not measured \
                  is left out or null, never 0. The same rows give the same bytes.",
    after_help = "Examples:
  tritbench export results --as bencher --out bmf.json
  tritbench export results --as llama-bench-jsonl > results.jsonl
  tritbench export results --as google-benchmark --out results.json
  tritbench export results --as parquet --out results.parquet"
)]
pub(crate) struct ExportArgs {
    /// The directory of a run
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// The format
    #[arg(long = "as", value_name = "FORMAT", value_parser = names())]
    format: String,

    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn names() -> Vec<&'static str> {
    ExportFormat::ALL.iter().map(|(name, _)| *name).collect()
}

pub(crate) fn run(args: &ExportArgs) -> Outcome {
    let format = ExportFormat::ALL
        .into_iter()
        .find(|(name, _)| *name == args.format)
        .map(|(_, format)| format);
    // The definition of the arguments lets nothing else through.
    let format = format
        .ok_or_else(|| Failure::usage(anyhow::anyhow!("unknown format `{}`", args.format)))?;
    let dir = RunDir::open(&args.dir).map_err(|error| record_failure(&error))?;
    let bytes = trit_report::export(&dir, format).map_err(|error| exchange_failure(&error))?;
    if let Some(path) = &args.out {
        fs::write(path, &bytes).map_err(|error| {
            let place = path.display();
            Failure::failed(anyhow::Error::new(error).context(format!("cannot write `{place}`")))
        })?;
        say(&format!("wrote {}", path.display()));
        return Ok(Exit::Done);
    }
    let binary = matches!(format, ExportFormat::Parquet | ExportFormat::ParquetSamples);
    if binary && std::io::stdout().is_terminal() {
        return Err(Failure::usage(anyhow::anyhow!(
            "Parquet is no text for a terminal; hint: --out FILE"
        )));
    }
    let mut out = Out::new();
    let raw = out.raw();
    raw.write_all(&bytes)
        .and_then(|()| raw.flush())
        .map_err(|error| stdout_failure(&error))?;
    Ok(Exit::Done)
}

/// What the system refused is code 1, what a file holds is code 5.
pub(super) fn exchange_failure(error: &ExchangeError) -> Failure {
    let told = anyhow::anyhow!("{error}");
    if error.is_content() {
        Failure::unusable(told)
    } else {
        Failure::failed(told)
    }
}
