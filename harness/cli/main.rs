//! The tritbench binary: it reads the command line, calls the crates that do the work, and turns results into stdout, stderr and an
//! exit code. Nothing is measured or judged here.
#![forbid(unsafe_code)]

mod advice;
mod args;
mod built;
mod cmd;
mod engine;
mod exit;
mod files;
mod meter;
mod out;
mod probe;
mod progress;
mod tuned;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use trit_measure::{Clock, MonotonicClock};

use crate::exit::{Exit, Failure};
use crate::out::{Out, say};

/// Where the last panic happened and what it said; the hook fills it on whichever thread panics.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

fn main() -> ExitCode {
    // The first reading is where this clock begins: from now on it tells how long the program runs.
    let _start = MonotonicClock.now_ns();
    panic::set_hook(Box::new(|info| {
        let message = info
            .payload()
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| info.payload().downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        let place = info
            .location()
            .map_or_else(String::new, |at| format!(" at {at}"));
        // The first panic is the cause; those of other threads follow from it.
        PANIC
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(format!("{message}{place}"));
    }));
    let outcome = panic::catch_unwind(AssertUnwindSafe(real_main));
    match outcome {
        Ok(Ok(exit)) => exit.into(),
        Ok(Err(Failure::StdoutClosed)) => Exit::Done.into(),
        Ok(Err(Failure::Error(exit, error))) => {
            say(&format!("error: {}", exit::one_line(&error)));
            exit.into()
        }
        Err(_) => {
            let message = PANIC
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()
                .unwrap_or_default()
                .replace('\n', " ");
            say(&format!(
                "error: internal error: {message}; hint: this is a bug in tritbench, please report it with the command line"
            ));
            Exit::Failed.into()
        }
    }
}

fn real_main() -> exit::Outcome {
    let cli = match cmd::Cli::command()
        .help_template(cmd::help_template())
        .try_get_matches()
        .and_then(|matches| cmd::Cli::from_arg_matches(&matches))
    {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    cmd::run(cli)
}

/// Help and version are data and go to stdout; everything else is an error.
fn usage(error: &clap::Error) -> exit::Outcome {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // clap prints with colours where the terminal takes them and NO_COLOR is not set.
            error.print().map_err(|error| out::stdout_failure(&error))?;
            Out::new().text("")?;
            Ok(Exit::Done)
        }
        _ => {
            let _ = error.print();
            Ok(Exit::Usage)
        }
    }
}
