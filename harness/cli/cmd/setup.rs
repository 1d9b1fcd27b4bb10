//! `tritbench completions` and `tritbench man`: what a shell and a reader of manuals want.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cmd::Cli;
use crate::exit::{Exit, Failure, Outcome};
use crate::out::{Out, say};

/// Prints the completions of a shell
#[derive(Args, Debug)]
#[command(
    long_about = "Prints the completions of a shell, of the commands and flags of this version.",
    after_help = "Examples:
  tritbench completions bash > ~/.local/share/bash-completion/completions/tritbench
  tritbench completions zsh > ~/.zfunc/_tritbench
  tritbench completions fish > ~/.config/fish/completions/tritbench.fish"
)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

pub(crate) fn completions(args: &CompletionsArgs) -> Outcome {
    let mut bytes = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tritbench", &mut bytes);
    Out::new().text(&String::from_utf8_lossy(&bytes))?;
    Ok(Exit::Done)
}

/// Prints the manual page, or writes the pages of all commands
#[derive(Args, Debug)]
#[command(
    long_about = "Prints the manual page, or writes the pages of all commands.\n\nA command has a page of its own, \
                  as with git: man tritbench-run.",
    after_help = "Examples:
  tritbench man > tritbench.1
  tritbench man --out ~/.local/share/man/man1"
)]
pub(crate) struct ManArgs {
    /// The directory for the pages of all commands
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn man(args: &ManArgs) -> Outcome {
    let mut cli = Cli::command();
    // So that every page knows its whole name.
    cli.build();
    let Some(dir) = &args.out else {
        Out::new().text(&page(&cli, "tritbench")?)?;
        return Ok(Exit::Done);
    };
    fs::create_dir_all(dir).map_err(|error| write_failure(dir, error))?;
    let mut pages = 0;
    let mut open = vec![("tritbench".to_owned(), &cli)];
    while let Some((name, command)) = open.pop() {
        let path = dir.join(format!("{name}.1"));
        fs::write(&path, page(command, &name)?).map_err(|error| write_failure(&path, error))?;
        pages += 1;
        open.extend(
            command
                .get_subcommands()
                .filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
                .map(|inner| (format!("{name}-{}", inner.get_name()), inner)),
        );
    }
    say(&format!("wrote {pages} pages into {}", dir.display()));
    Ok(Exit::Done)
}

/// A page in the language of manuals.
fn page(command: &clap::Command, name: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name)
        .render(&mut bytes)
        .map_err(Failure::failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn write_failure(path: &Path, error: std::io::Error) -> Failure {
    let place = path.display();
    Failure::failed(anyhow::Error::new(error).context(format!("cannot write `{place}`")))
}
