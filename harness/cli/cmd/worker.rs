//! `tritbench worker`: the other end of a run. Hidden, because people have no use for it.

use clap::Args;

use crate::exit::{Exit, Failure, Outcome};
use crate::out::Out;
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
}

pub(crate) fn run(args: &WorkerArgs) -> Outcome {
    match &args.probe {
        Some(id) => probe_kernel(id),
        None => Err(Failure::usage(anyhow::anyhow!("nothing to do"))),
    }
}

fn probe_kernel(id: &str) -> Outcome {
    let entry = Entry::all()
        .find(|entry| entry.id() == id)
        .ok_or_else(|| Failure::usage(anyhow::anyhow!("unknown kernel `{id}`")))?;
    let reason = entry.open(probe::cpu()?).err().unwrap_or_default();
    Out::new().text(&format!("{reason}\n"))?;
    Ok(Exit::Done)
}
