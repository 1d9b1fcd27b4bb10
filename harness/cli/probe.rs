//! Whether a kernel runs here, found out in a process of its own: virtual machines advertise instructions that trap, and a trap must
//! be an answer and not our end.

use std::process::{Command, ExitStatus, Stdio};

use trit_kernel::{Cpu, DenseEntry, KernelEntry};
use trit_run::WorkerCommand;

use crate::exit::Failure;

/// A ternary kernel or a baseline.
#[derive(Clone, Copy)]
pub(crate) enum Entry {
    /// Ternary.
    Ternary(&'static KernelEntry),
    /// Baseline.
    Dense(&'static DenseEntry),
}

impl Entry {
    /// Everything that is registered, in its order.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let ternary = trit_kernels::kernels().iter().map(Self::Ternary);
        ternary.chain(trit_kernels::dense().iter().map(Self::Dense))
    }

    /// Its id.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Ternary(entry) => entry.info.id,
            Self::Dense(entry) => entry.info.id,
        }
    }

    /// Opens it in this process, which executes its probe. The text says why it cannot be used.
    pub(crate) fn open(self, cpu: Cpu) -> Result<(), String> {
        match self {
            Self::Ternary(entry) => (entry.open)(cpu).map(drop),
            Self::Dense(entry) => (entry.open)(cpu).map(drop),
        }
        .map_err(|why| why.to_string())
    }
}

/// The instruction sets that this process may use; a malformed `TRIT_ISA` is an error of the environment.
pub(crate) fn cpu() -> Result<Cpu, Failure> {
    Cpu::from_env()
        .map_err(|error| Failure::unusable(anyhow::Error::new(error).context("TRIT_ISA")))
}

/// The cap of `TRIT_ISA` by its name; empty without one, or where it is malformed, which [`cpu`] tells.
pub(crate) fn isa_cap() -> String {
    let cap = Cpu::from_env().ok().and_then(Cpu::cap);
    cap.map_or_else(String::new, |cap| cap.to_string())
}

/// What a child process found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The kernel runs.
    Available,
    /// It does not, and says why.
    Unavailable(String),
    /// Its probe killed the process: nobody else should try.
    Trapped(String),
}

/// How workers are started: as this program, told which kernels they must not even open.
pub(crate) fn worker_command() -> Result<WorkerCommand, Failure> {
    let mut command = WorkerCommand::current().map_err(|error| {
        Failure::failed(anyhow::Error::new(error).context("cannot find this program"))
    })?;
    // The worker ends with us, even when we are killed.
    let parent = std::process::id().to_string();
    command.args.extend(["--parent".to_owned(), parent]);
    let mut traps = Vec::new();
    for entry in Entry::all() {
        if matches!(in_child(entry.id())?, Verdict::Trapped(_)) {
            traps.push(entry.id());
        }
    }
    if !traps.is_empty() {
        command.env.push(("TRIT_AVOID".to_owned(), traps.join(",")));
    }
    Ok(command)
}

/// Opens a kernel in a child process. An error is ours: no child could be started.
pub(crate) fn in_child(id: &str) -> Result<Verdict, Failure> {
    let start = |error: std::io::Error| {
        Failure::failed(
            anyhow::Error::new(error).context("cannot start a process that probes kernels"),
        )
    };
    let output = Command::new(std::env::current_exe().map_err(start)?)
        .args(["worker", "--probe", id])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(start)?;
    Ok(verdict(
        output.status,
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}

/// What the end of a probing process means: exit code 0 and an empty line say that the kernel is available, exit code 0 and a text
/// that it is not, anything else that its probe killed the process.
fn verdict(status: ExitStatus, reason: &str) -> Verdict {
    if status.success() {
        return if reason.is_empty() {
            Verdict::Available
        } else {
            Verdict::Unavailable(reason.to_owned())
        };
    }
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        // Illegal instruction, as on all architectures of Linux.
        return Verdict::Trapped(if signal == 4 {
            "the CPU reports the instruction set, but its instructions trap (SIGILL)".to_owned()
        } else {
            format!("its probe was killed by signal {signal}")
        });
    }
    Verdict::Trapped(format!("its probe failed ({status})"))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_trap_is_a_reason_and_not_an_error() {
        let ended = |raw, text| verdict(ExitStatus::from_raw(raw), text);
        assert_eq!(ended(0, ""), Verdict::Available);
        assert_eq!(ended(0, "no"), Verdict::Unavailable("no".to_owned()));
        for (raw, says) in [(4, "SIGILL"), (9, "signal 9"), (256, "probe failed")] {
            let Verdict::Trapped(reason) = ended(raw, "") else {
                panic!("{raw} is no trap");
            };
            assert!(reason.contains(says), "{reason}");
        }
    }
}
