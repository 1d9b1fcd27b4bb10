//! `tritbench kernels`: what can run here, and why not the rest.

use clap::Args;
use serde_json::Value;

use crate::args::FormatArg;
use crate::exit::{Exit, Outcome};
use crate::out::{Out, Table};
use crate::probe::{self, Entry, Verdict};

/// Lists every kernel and baseline, and why this machine cannot run some of them
#[derive(Args, Debug)]
#[command(
    long_about = "Lists every kernel and baseline, and why this machine cannot run some of them.\n\n\
                  Each kernel is opened in a process beside this one, where it computes a small product: an instruction that the \
                  CPU reports and the hypervisor traps shows up as `unavailable`. TRIT_ISA caps the instruction sets, for example \
                  TRIT_ISA=avx2.",
    after_help = "Examples:
  tritbench kernels
  tritbench kernels --format json
  TRIT_ISA=scalar tritbench kernels"
)]
pub(crate) struct KernelsArgs {
    #[command(flatten)]
    format: FormatArg,
}

pub(crate) fn run(args: &KernelsArgs) -> Outcome {
    // Before any child is started: a malformed TRIT_ISA is our error and not that of every kernel.
    probe::cpu()?;
    let mut table = Table::new(&["id", "family", "weight_bits", "layout", "status", "reason"]);
    let ids: Vec<&str> = Entry::all().map(Entry::id).collect();
    let verdicts = probe::in_child(&ids)?;
    for (entry, (_, verdict)) in Entry::all().zip(verdicts) {
        let (family, bits, layout) = match entry {
            Entry::Ternary(entry) => (
                entry.info.family,
                entry.info.weight_bits(),
                entry.info.accepts[0].name(),
            ),
            Entry::Dense(entry) => (
                entry.info.family(),
                entry.info.format.weight_bits(),
                entry.info.format.name(),
            ),
        };
        let (status, reason) = match verdict {
            Verdict::Available => ("available", Value::Null),
            Verdict::Unavailable(reason) | Verdict::Trapped(reason) => {
                ("unavailable", reason.into())
            }
        };
        table.row([
            entry.id().into(),
            family.to_string().into(),
            // A third of a bit has no end; four places tell all layouts apart.
            ((bits * 1e4).round() / 1e4).into(),
            layout.into(),
            status.into(),
            reason,
        ]);
    }
    Out::new().text(&table.render(args.format.format))?;
    Ok(Exit::Done)
}
