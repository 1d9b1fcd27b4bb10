//! Whether a kernel runs here, found out in a process of its own: virtual machines advertise instructions that trap, and a trap must
//! be an answer and not our end.

use std::process::{Command, ExitStatus, Stdio};

use trit_kernel::{Cpu, DenseEntry, KernelEntry};

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

/// Opens a kernel in a child process. The outer error is ours (no child could be started), the inner one is the kernel's.
pub(crate) fn in_child(id: &str) -> Result<Result<(), String>, Failure> {
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
fn verdict(status: ExitStatus, reason: &str) -> Result<(), String> {
    if status.success() {
        return if reason.is_empty() {
            Ok(())
        } else {
            Err(reason.to_owned())
        };
    }
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        // Illegal instruction, as on all architectures of Linux.
        return Err(if signal == 4 {
            "the CPU reports the instruction set, but its instructions trap (SIGILL)".to_owned()
        } else {
            format!("its probe was killed by signal {signal}")
        });
    }
    Err(format!("its probe failed ({status})"))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_trap_is_a_reason_and_not_an_error() {
        assert_eq!(verdict(ExitStatus::from_raw(0), ""), Ok(()));
        assert_eq!(verdict(ExitStatus::from_raw(0), "no"), Err("no".to_owned()));
        assert!(
            verdict(ExitStatus::from_raw(4), "")
                .unwrap_err()
                .contains("SIGILL")
        );
        assert!(
            verdict(ExitStatus::from_raw(9), "")
                .unwrap_err()
                .contains("signal 9")
        );
        assert!(
            verdict(ExitStatus::from_raw(256), "")
                .unwrap_err()
                .contains("probe failed")
        );
    }
}
