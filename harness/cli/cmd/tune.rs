//! `tritbench tune`: measures which kernel is fastest where, and leaves that for the engine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use trit_core::{RunDir, Status, SummaryRow, Workload};
use trit_kernels::{TUNE_SCHEMA, TuneTable, TunedTime};
use trit_measure::Machine;

use crate::args::{FormatArg, budget};
use crate::cmd::report::record_failure;
use crate::cmd::run::{RunArgs, measure};
use crate::exit::{Exit, Failure, Outcome};
use crate::out::{Out, Table, say};
use crate::tuned;

/// Measures which kernel is fastest for which shape, tokens and threads, and leaves a table that the engine reads
#[derive(Args, Debug)]
#[command(
    long_about = "Measures which kernel is fastest for which shape, tokens and threads, and leaves a table that the engine reads.\n\n\
                  The measurement is a run of the suite `tune`, with a run directory of its own: every answer is verified. The table is kept for \
                  this machine under $XDG_CACHE_HOME/tritbench (or ~/.cache/tritbench); `generate` and `logits` choose their kernels by it \
                  unless --kernel or `--tune off` is given.",
    after_help = "Examples:
  tritbench tune                           measure, keep the table, and print who won where
  tritbench tune --from runs/X-tune        make the table from a run that is there
  tritbench tune --show                    print the table of this machine
  tritbench tune --file t.json             keep it elsewhere, for generate --tune t.json"
)]
pub(crate) struct TuneArgs {
    /// The suite to run; only its gemv-cold and gemm cells count
    #[arg(value_name = "SUITE", default_value = "tune")]
    suite: String,

    /// Time that measuring may take [default: the suite's]
    #[arg(long, value_name = "TIME", value_parser = budget)]
    budget: Option<Duration>,

    /// The directory for the results: new or empty [default: one under runs/]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Measure nothing: take the times of this run directory, which has to be of this machine and version
    #[arg(long, value_name = "DIR", conflicts_with_all = ["suite", "budget", "out"])]
    from: Option<PathBuf>,

    /// Where the table is kept [default: the file of this machine in the cache directory]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Measure nothing and print the table that is there
    #[arg(long, conflicts_with_all = ["suite", "budget", "out", "from"])]
    show: bool,

    /// Record although this build has debug assertions; its times mean nothing
    #[arg(long)]
    allow_debug: bool,

    #[command(flatten)]
    format: FormatArg,
}

pub(crate) fn run(args: &TuneArgs) -> Outcome {
    let machine = trit_measure::machine();
    let path = args
        .file
        .clone()
        .or_else(|| tuned::default_file(&machine.fingerprint()))
        .ok_or_else(|| {
            Failure::unusable(anyhow::anyhow!(
                "there is no place for the table: neither XDG_CACHE_HOME nor HOME is an absolute path; hint: --file FILE"
            ))
        })?;
    if args.show {
        let table = tuned::read(&path)?;
        Out::new().text(&winners(&table).render(args.format.format))?;
        return Ok(Exit::Done);
    }
    let (exit, dir) = if let Some(dir) = &args.from {
        let dir = RunDir::open(dir).map_err(|error| record_failure(&error))?;
        check_origin(&dir, &machine)?;
        (Exit::Done, dir)
    } else {
        let run = RunArgs::of_suite(
            &args.suite,
            args.budget,
            args.out.clone(),
            args.allow_debug,
            args.format.clone(),
        );
        match measure(&run)? {
            (exit @ (Exit::Done | Exit::Failed), Some(dir)) => (exit, dir),
            (exit, _) => return Ok(exit),
        }
    };
    let table = TuneTable {
        schema: TUNE_SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        machine: machine.fingerprint(),
        times: times(
            &trit_report::summarize(&dir)
                .map_err(|error| Failure::unusable(anyhow::anyhow!("{error}")))?,
        ),
    };
    if table.times.is_empty() {
        return Err(Failure::unusable(anyhow::anyhow!(
            "`{}` has no verified gemv-cold or gemm cell of a ternary kernel; hint: `tritbench tune` without arguments measures some",
            dir.path().display()
        )));
    }
    write(&path, &table)?;
    say(&format!("the table is in {}", path.display()));
    Out::new().text(&winners(&table).render(args.format.format))?;
    Ok(exit)
}

/// Times of another machine or version would be wrong for this one.
fn check_origin(dir: &RunDir, machine: &Machine) -> Result<(), Failure> {
    let session = dir.session().map_err(|error| record_failure(&error))?;
    let recorded: Option<Machine> = serde_json::from_value(session.machine).ok();
    let same = recorded.is_some_and(|recorded| recorded.fingerprint() == machine.fingerprint());
    if same && session.version == env!("CARGO_PKG_VERSION") {
        return Ok(());
    }
    Err(Failure::unusable(anyhow::anyhow!(
        "`{}` was recorded on another machine, under other limits or by another version; hint: run `tritbench tune` here",
        dir.path().display()
    )))
}

/// The times that count.
fn times(rows: &[SummaryRow]) -> Vec<TunedTime> {
    rows.iter()
        .filter(|row| row.cell.status == Status::Ok)
        .filter(|row| matches!(row.cell.workload, Workload::GemvCold | Workload::Gemm))
        .filter(|row| trit_kernels::find(&row.cell.kernel).is_ok())
        .filter_map(|row| {
            Some(TunedTime {
                kernel: row.cell.kernel.clone(),
                rows: row.cell.rows?,
                k: row.cell.k?,
                tokens: row.cell.tokens?,
                threads: row.cell.threads?,
                time_ns: row.results.median_ns?,
            })
        })
        .collect()
}

/// Writes the whole file or nothing: another process may read it now.
fn write(path: &Path, table: &TuneTable) -> Result<(), Failure> {
    let failure = |error: std::io::Error| {
        Failure::failed(
            anyhow::Error::new(error).context(format!("cannot write `{}`", path.display())),
        )
    };
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        fs::create_dir_all(parent).map_err(failure)?;
    }
    let text = serde_json::to_string_pretty(table).map_err(|error| failure(error.into()))?;
    let part = path.with_extension(format!("part{}", std::process::id()));
    fs::write(&part, text + "\n")
        .and_then(|()| fs::rename(&part, path))
        .map_err(|error| {
            // What is left of it is nobody's; that it may be gone already is all that can go wrong.
            let _ = fs::remove_file(&part);
            failure(error)
        })
}

/// Who is fastest where, and by how much.
fn winners(table: &TuneTable) -> Table {
    let mut places: BTreeMap<(u64, u64, u64, u64), Vec<&TunedTime>> = BTreeMap::new();
    for time in &table.times {
        let place = (time.tokens, time.threads, time.rows, time.k);
        places.entry(place).or_default().push(time);
    }
    let mut out = Table::new(&[
        "rows",
        "k",
        "tokens",
        "threads",
        "fastest",
        "time_ns",
        "next",
        "times_slower",
    ]);
    for ((tokens, threads, rows, k), mut times) in places {
        times.sort_by(|a, b| a.time_ns.total_cmp(&b.time_ns));
        let next = times.get(1);
        let round = |value: f64| Value::from((value * 1e3).round() / 1e3);
        out.row([
            rows.into(),
            k.into(),
            tokens.into(),
            threads.into(),
            times[0].kernel.as_str().into(),
            times[0].time_ns.round().into(),
            next.map_or(Value::Null, |next| next.kernel.as_str().into()),
            next.map_or(Value::Null, |next| round(next.time_ns / times[0].time_ns)),
        ]);
    }
    out
}
