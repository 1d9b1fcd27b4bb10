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

/// The ids of the ternary kernels.
pub(crate) fn ternary() -> Vec<&'static str> {
    let kernels = trit_kernels::kernels().iter();
    kernels.map(|entry| entry.info.id).collect()
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
    let ids: Vec<&str> = Entry::all().map(Entry::id).collect();
    let mut traps = in_child(&ids)?;
    traps.retain(|(_, verdict)| matches!(verdict, Verdict::Trapped(_)));
    let traps: Vec<&str> = traps.into_iter().map(|(id, _)| id).collect();
    if !traps.is_empty() {
        command.env.push(("TRIT_AVOID".to_owned(), traps.join(",")));
    }
    Ok(command)
}

/// Opens kernels in a child process, and after one that killed it in another. An error is ours: no child could be started.
pub(crate) fn in_child<'i>(ids: &[&'i str]) -> Result<Vec<(&'i str, Verdict)>, Failure> {
    let start = |error: std::io::Error| {
        Failure::failed(
            anyhow::Error::new(error).context("cannot start a process that probes kernels"),
        )
    };
    let mut found = Vec::with_capacity(ids.len());
    while found.len() < ids.len() {
        let left = &ids[found.len()..];
        let output = Command::new(std::env::current_exe().map_err(start)?)
            .args(["worker", "--probe", &left.join(",")])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .map_err(start)?;
        let said = String::from_utf8_lossy(&output.stdout);
        found.extend(
            left.iter()
                .copied()
                .zip(verdicts(output.status, &said, left.len())),
        );
    }
    Ok(found)
}

/// Opens one kernel in a child process.
pub(crate) fn one_in_child(id: &str) -> Result<Verdict, Failure> {
    let mut found = in_child(&[id])?;
    Ok(found.remove(0).1)
}

/// What the lines and the end of a process that probed up to `most` kernels mean, at least one verdict: an empty line that a kernel is
/// available, a text why it is not, and an end that is no success that the probe behind the last whole line killed the process.
fn verdicts(status: ExitStatus, said: &str, most: usize) -> Vec<Verdict> {
    let whole = said
        .split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'));
    let mut found: Vec<Verdict> = whole
        .take(most)
        .map(|line| match line.trim() {
            "" => Verdict::Available,
            reason => Verdict::Unavailable(reason.to_owned()),
        })
        .collect();
    if found.len() < most && (found.is_empty() || !status.success()) {
        found.push(Verdict::Trapped(how(status)));
    }
    found
}

/// How a process that did not say everything ended.
fn how(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        // Illegal instruction, as on all architectures of Linux.
        return if signal == 4 {
            "the CPU reports the instruction set, but its instructions trap (SIGILL)".to_owned()
        } else {
            format!("its probe was killed by signal {signal}")
        };
    }
    format!("its probe failed ({status})")
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_trap_is_a_reason_and_not_an_error() {
        let ended = |raw, text| verdicts(ExitStatus::from_raw(raw), text, 1);
        assert_eq!(ended(0, "\n"), [Verdict::Available]);
        assert_eq!(ended(0, "no\n"), [Verdict::Unavailable("no".to_owned())]);
        for (raw, says) in [(4, "SIGILL"), (9, "signal 9"), (256, "probe failed")] {
            let [Verdict::Trapped(reason)] = &ended(raw, "")[..] else {
                panic!("{raw} is no trap");
            };
            assert!(reason.contains(says), "{reason}");
        }
        // Nothing said is nothing found out, however it ended.
        assert!(matches!(ended(0, "")[..], [Verdict::Trapped(_)]));
    }

    #[test]
    fn the_kernel_behind_the_last_line_trapped() {
        let found = verdicts(ExitStatus::from_raw(4), "\nno\n", 4);
        assert!(
            matches!(
                &found[..],
                [
                    Verdict::Available,
                    Verdict::Unavailable(_),
                    Verdict::Trapped(_)
                ]
            ),
            "{found:?}"
        );
        // Half a line is the end too, and one that came after all were told is nobody's.
        assert_eq!(verdicts(ExitStatus::from_raw(4), "\nn", 3).len(), 2);
        assert_eq!(
            verdicts(ExitStatus::from_raw(4), "\n\n", 2),
            [Verdict::Available, Verdict::Available]
        );
    }
}
