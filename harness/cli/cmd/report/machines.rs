//! `tritbench report machines`: kernels and engines across machines.

use std::path::{Path, PathBuf};

use clap::Args;
use trit_report::{Heading, MachineRun, Record};

use super::PaperArgs;
use crate::cmd::compare;
use crate::cmd::history::fingerprint;
use crate::exit::{Failure, Outcome};

/// Sets runs of several machines side by side, in absolute terms and as a share of what each machine can do
#[derive(Args, Debug)]
#[command(
    long_about = "Sets runs of several machines side by side, in absolute terms and as a share of what each machine can do.\n\n\
                  Every kernel and engine configuration with its time, its rates, and its share of the machine's own read bandwidth and arithmetic \
                  peak: from pairs with the probe where the run has them, else from the probes of its session. The first run is what the others \
                  are compared with.\n\n\
                  Runs of one machine are averaged when they agree in instruction sets, TRIT_ISA, compiler, flags, schema and version. What differs \
                  in any of them is neither averaged nor in one mean, and the report says what differs. The same machine under another TRIT_ISA is \
                  another subject.",
    after_help = "Examples:
  tritbench report machines here there
  tritbench report machines here there elsewhere/summary.csv --out machines
  tritbench report machines full avx2 --format csv
  tritbench report machines here machine:0a1b2c3d4e5f --format md"
)]
pub(crate) struct MachinesArgs {
    /// Run directories, CSV files like summary.csv, or machine:FINGERPRINT for the latest results of a machine in the history
    #[arg(value_name = "SOURCE", num_args = 2.., required = true)]
    sources: Vec<String>,

    /// The history that machine:FINGERPRINT is looked up in [default: this user's]
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,

    #[command(flatten)]
    paper: PaperArgs,
}

pub(crate) fn run(args: &MachinesArgs) -> Outcome {
    let runs: Vec<MachineRun> = args
        .sources
        .iter()
        .map(|name| source(name, args.store.as_deref()))
        .collect::<Result<_, _>>()?;
    let paper = trit_report::machines_paper(&runs).map_err(Failure::usage)?;
    args.paper.give(&paper)
}

fn source(name: &str, store: Option<&Path>) -> Result<MachineRun, Failure> {
    if let Some(machine) = name.strip_prefix("machine:") {
        let known = compare::source(name, store)?;
        return Ok(MachineRun {
            name: name.to_owned(),
            fingerprint: machine.to_owned(),
            record: Record {
                heading: Heading {
                    machine: known.machine,
                    ..Heading::default()
                },
                rows: known.rows,
                ..Record::default()
            },
        });
    }
    let mut run = MachineRun::read(Path::new(name)).map_err(compare::read_failure)?;
    run.fingerprint = fingerprint(&run.record.session).unwrap_or_default();
    Ok(run)
}
