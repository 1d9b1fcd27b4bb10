//! The commands, one file each.

use std::fmt::Write as _;

use clap::{CommandFactory, Parser, Subcommand};

use crate::exit::Outcome;

mod ab;
mod compare;
mod energy;
mod eval;
mod export;
mod gate;
mod generate;
mod history;
mod import;
mod kernels;
mod load;
mod logits;
mod machine;
mod model;
#[cfg(target_os = "linux")]
mod monitor;
mod profile;
mod report;
mod run;
mod selftest;
mod setup;
mod tune;
mod worker;

pub(crate) use model::file_failure;

/// Measures ternary (1.58-bit) LLM inference on CPUs
#[derive(Parser, Debug)]
#[command(
    name = "tritbench",
    version,
    after_help = "Examples:
  tritbench run                                   measure this machine with the quick suite
  tritbench run --model model.gguf --out results  measure a model of your own
  tritbench kernels                               what this machine can run, and why not the rest
  tritbench generate --model model.gguf --chat --prompt 'What is 1.58 bits?'

Every command explains itself with --help. Results go to stdout, everything else to stderr.
Exit codes: 0 done, 1 input or output failed or a cell failed, 2 wrong value on the command line,
3 a regression (gate) or a limit exceeded, 4 inconclusive (gate --strict),
5 unusable file or environment, 6 energy required but no meter, 7 wrong results, 130 interrupted."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(run::RunArgs),
    #[cfg(target_os = "linux")]
    Monitor(monitor::MonitorArgs),
    Ab(ab::AbArgs),
    Eval(eval::EvalArgs),
    Profile(profile::ProfileArgs),
    Compare(compare::CompareArgs),
    Load(load::LoadArgs),
    Gate(gate::GateArgs),
    Selftest(selftest::SelftestArgs),
    History(history::HistoryArgs),
    Report(report::ReportArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    Kernels(kernels::KernelsArgs),
    Machine(machine::MachineArgs),
    Energy(energy::EnergyArgs),
    Tune(tune::TuneArgs),
    Generate(generate::GenerateArgs),
    Logits(logits::LogitsArgs),
    Model(model::ModelArgs),
    Completions(setup::CompletionsArgs),
    Man(setup::ManArgs),
    Worker(worker::WorkerArgs),
}

/// The groups of the overview, in order.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "Measure",
        &["run", "ab", "eval", "profile", "monitor", "load"],
    ),
    (
        "Judge",
        &[
            "compare", "gate", "selftest", "history", "report", "export", "import",
        ],
    ),
    ("Know", &["kernels", "machine", "energy", "tune"]),
    ("Models", &["generate", "logits", "model"]),
    ("Set up", &["completions", "man"]),
];

/// The overview with commands in groups; clap itself can only list them in one.
pub(crate) fn help_template() -> String {
    let cli = Cli::command();
    let mut template = "{about}\n\n{usage-heading} {usage}\n".to_owned();
    for (group, names) in GROUPS {
        let _ = write!(template, "\n{group}:\n");
        for name in *names {
            let about = cli
                .find_subcommand(name)
                .and_then(|command| command.get_about())
                .map(ToString::to_string)
                .unwrap_or_default();
            let _ = writeln!(template, "  {name:<13}{about}");
        }
    }
    template + "\nOptions:\n{options}{after-help}"
}

/// Runs what the command line asks for.
pub(crate) fn run(cli: Cli) -> Outcome {
    match cli.command {
        Command::Run(args) => run::run(&args),
        #[cfg(target_os = "linux")]
        Command::Monitor(args) => monitor::run(&args),
        Command::Ab(args) => ab::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Gate(args) => gate::run(&args),
        Command::Selftest(args) => selftest::run(&args),
        Command::History(args) => history::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Kernels(args) => kernels::run(&args),
        Command::Machine(args) => machine::run(&args),
        Command::Energy(args) => energy::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Logits(args) => logits::run(&args),
        Command::Model(args) => model::run(&args),
        Command::Completions(args) => setup::completions(&args),
        Command::Man(args) => setup::man(&args),
        Command::Worker(args) => worker::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group_and_the_definition_holds() {
        let cli = Cli::command();
        cli.clone().debug_assert();
        let mut grouped: Vec<&str> = GROUPS
            .iter()
            .flat_map(|(_, names)| *names)
            .copied()
            .collect();
        let mut visible: Vec<&str> = cli
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
            .map(clap::Command::get_name)
            .collect();
        grouped.sort_unstable();
        visible.sort_unstable();
        assert_eq!(grouped, visible);
    }

    #[test]
    fn every_command_and_flag_explains_itself() {
        fn check(command: &clap::Command) {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            if command.get_subcommands().next().is_none() {
                let after = command.get_after_help().map(ToString::to_string);
                assert!(
                    after.is_some_and(|text| text.contains("Example")),
                    "{name} has no example"
                );
            }
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{name} {}",
                    argument.get_id()
                );
            }
            for inner in command
                .get_subcommands()
                .filter(|inner| !inner.is_hide_set())
            {
                check(inner);
            }
        }
        check(&Cli::command());
    }
}
