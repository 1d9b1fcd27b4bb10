//! `tritbench import`: the results of other tools as run directories.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use clap::Args;
use trit_core::{RunDir, RunDirError};
use trit_engine::file;
use trit_report::{ImportFacts, ImportFormat};

use crate::cmd::export::exchange_failure;
use crate::cmd::file_failure;
use crate::cmd::report::{record_failure, write_reports};
use crate::exit::{Exit, Failure, Outcome};
use crate::out::say;

/// Makes a run directory of the results of another tool
#[derive(Args, Debug)]
#[command(
    long_about = "Makes a run directory of the results of another tool.\n\n\
                  Reads files of llama-bench (-o jsonl or json), the JSON of Google Benchmark, and directories target/criterion. `compare`, `gate`, \
                  `history`, `report` and `export` take the directory like any other. Its answers were not checked by this program, \
                  and the record says so.",
    after_help = "Examples:
  tritbench import results.jsonl --as llama-bench --out imported
  tritbench import target/criterion --as criterion --out imported
  tritbench import bench.json --as google-benchmark --out imported"
)]
pub(crate) struct ImportArgs {
    /// The file, or for criterion the directory
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The format
    #[arg(long = "as", value_name = "FORMAT", value_parser = names())]
    format: String,

    /// The run directory to make: new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn names() -> Vec<&'static str> {
    ImportFormat::ALL.iter().map(|(name, _)| *name).collect()
}

pub(crate) fn run(args: &ImportArgs) -> Outcome {
    let format = ImportFormat::ALL
        .into_iter()
        .find(|(name, _)| *name == args.format)
        .map(|(_, format)| format);
    // The definition of the arguments lets nothing else through.
    let format = format
        .ok_or_else(|| Failure::usage(anyhow::anyhow!("unknown format `{}`", args.format)))?;
    let facts = facts(&args.file)?;
    let dir = RunDir::create(&args.out).map_err(|error| match error {
        RunDirError::NotEmpty { .. } => Failure::usage(error),
        error => record_failure(&error),
    })?;
    let cells = match trit_report::import(&args.file, format, &facts, &dir) {
        Ok(cells) => cells,
        Err(error) => {
            // Takes back the directory when nothing was written to it; one that is not empty stays.
            let _ = fs::remove_dir(dir.path());
            return Err(exchange_failure(&error));
        }
    };
    write_reports(&dir)?;
    say(&format!(
        "imported {cells} cells into {}",
        args.out.display()
    ));
    Ok(Exit::Done)
}

fn facts(path: &Path) -> Result<ImportFacts, Failure> {
    let about = fs::metadata(path).map_err(|error| {
        let place = path.display();
        Failure::failed(anyhow::Error::new(error).context(format!("cannot read `{place}`")))
    })?;
    // A time before 1970, or none: the session does not say when it was.
    let written = about
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(ImportFacts {
        argv: std::env::args_os()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect(),
        sha256: if about.is_file() {
            file::sha256(path).map_err(file_failure)?
        } else {
            String::new()
        },
        written_utc: written.map_or_else(String::new, |time| trit_run::utc_iso(time.as_secs())),
    })
}
