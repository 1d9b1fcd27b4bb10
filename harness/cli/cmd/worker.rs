//! `tritbench worker`: the other end of a run. Hidden, because people have no use for it.

use std::io;

use clap::Args;
use trit_measure::sys::{interrupt, process};

use crate::exit::{Exit, Failure, Outcome};
use crate::out::{Out, stdout_failure};
use crate::probe::{self, Entry};

/// Serves requests of a run as JSON lines, or probes kernels
#[derive(Args, Debug)]
#[command(
    hide = true,
    after_help = "Example:\n  tritbench worker --probe w2a8-mad-avx2"
)]
pub(crate) struct WorkerArgs {
    /// Open these kernels one after the other, execute their probes, print a line each with why it cannot be used (an empty one when
    /// it can), and end
    #[arg(long, value_name = "ID,...", value_delimiter = ',')]
    probe: Vec<String>,

    /// The process that started this one: end when it ends
    #[arg(long, value_name = "PID")]
    parent: Option<u32>,
}

pub(crate) fn run(args: &WorkerArgs) -> Outcome {
    if args.probe.is_empty() {
        return serve(args.parent);
    }
    let mut out = Out::new();
    for id in &args.probe {
        // Each line is out before the next probe, which may be our end.
        out.text(&format!("{}\n", probe_kernel(id)?))?;
    }
    Ok(Exit::Done)
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

/// Why a kernel cannot be used; empty when it can.
fn probe_kernel(id: &str) -> Result<String, Failure> {
    let entry = Entry::all()
        .find(|entry| entry.id() == id)
        .ok_or_else(|| Failure::usage(anyhow::anyhow!("unknown kernel `{id}`")))?;
    let reason = entry.open(probe::cpu()?).err().unwrap_or_default();
    Ok(reason.replace('\n', " "))
}
