//! `tritbench worker`: the other end of a run. Hidden, because people have no use for it.

use std::io;

use clap::Args;
use trit_measure::sys::{interrupt, process};

use crate::exit::{Exit, Failure, Outcome};
use crate::out::{Out, stdout_failure};
use crate::probe::{self, Entry};

/// Serves requests of a run as JSON lines, or probes one kernel
#[derive(Args, Debug)]
#[command(
    hide = true,
    after_help = "Example:\n  tritbench worker --probe w2a8-mad-avx2"
)]
pub(crate) struct WorkerArgs {
    /// Open this kernel, execute its probe, print why it cannot be used (nothing when it can), and end
    #[arg(long, value_name = "ID")]
    probe: Option<String>,

    /// The process that started this one: end when it ends
    #[arg(long, value_name = "PID")]
    parent: Option<u32>,
}

pub(crate) fn run(args: &WorkerArgs) -> Outcome {
    match &args.probe {
        Some(id) => probe_kernel(id),
        None => serve(args.parent),
    }
}

fn serve(parent: Option<u32>) -> Outcome {
    // A terminal sends Ctrl-C to all of us; the run decides what becomes of its workers.
    interrupt::ignore().map_err(Failure::failed)?;
    process::no_core_files().map_err(Failure::failed)?;
    if let Some(parent) = parent {
        process::die_with_parent(parent).map_err(Failure::failed)?;
    }
    let mut out = Out::new();
    trit_run::worker::serve(io::stdin().lock(), out.raw())
        .map_err(|error| stdout_failure(&error))?;
    Ok(Exit::Done)
}

fn probe_kernel(id: &str) -> Outcome {
    let entry = Entry::all()
        .find(|entry| entry.id() == id)
        .ok_or_else(|| Failure::usage(anyhow::anyhow!("unknown kernel `{id}`")))?;
    let reason = entry.open(probe::cpu()?).err().unwrap_or_default();
    Out::new().text(&format!("{reason}\n"))?;
    Ok(Exit::Done)
}
