//! Exit codes, and how an error becomes one line and a code.

use std::process::ExitCode;

/// How the process ends. Where several apply, the caller takes the first of [`Exit::Wrong`], [`Exit::EnergyMissing`],
/// [`Exit::Unusable`], [`Exit::Failed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; skipped and over-limit rows included.
    Done,
    /// Input or output failed, or a cell crashed, failed or timed out.
    Failed,
    /// A value on the command line is wrong.
    Usage,
    /// A regression, or a limit exceeded: of commands that judge.
    OverLimit,
    /// Something could not be decided, and that was asked to matter.
    Inconclusive,
    /// The content of a file, or the environment, is not usable.
    Unusable,
    /// Energy was required and there is no meter.
    EnergyMissing,
    /// A result differs from the reference.
    Wrong,
    /// Ctrl-C.
    Interrupted,
}

impl Exit {
    /// The code the shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::OverLimit => 3,
            Self::Inconclusive => 4,
            Self::Unusable => 5,
            Self::EnergyMissing => 6,
            Self::Wrong => 7,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command stopped early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Whoever read stdout has closed it: stop quietly, it is no error.
    StdoutClosed,
    /// An error to tell, and the code to leave with.
    Error(Exit, anyhow::Error),
}

/// What every command returns.
pub(crate) type Outcome = Result<Exit, Failure>;

impl Failure {
    /// A wrong value on the command line.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Error(Exit::Usage, error.into())
    }

    /// Unusable content or environment.
    pub(crate) fn unusable(error: impl Into<anyhow::Error>) -> Self {
        Self::Error(Exit::Unusable, error.into())
    }

    /// Input or output failed.
    pub(crate) fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self::Error(Exit::Failed, error.into())
    }
}

/// One line of an error and its causes. A cause that its parent already repeats is told once, and a hint stays at the end.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let mut hints = Vec::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        let mut parts = cause.split("; hint: ");
        let message = parts
            .next()
            .unwrap_or_default()
            .trim()
            .trim_end_matches('.');
        hints.extend(parts.map(|hint| hint.trim().to_owned()));
        if text.contains(message) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(message);
    }
    hints.dedup();
    for hint in hints {
        text.push_str("; hint: ");
        text.push_str(&hint);
    }
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_joined_once_and_hints_come_last() {
        let error = anyhow::anyhow!("field `eps` is 0; hint: convert the file again")
            .context("cannot read `m.gguf`");
        assert_eq!(
            one_line(&error),
            "cannot read `m.gguf`: field `eps` is 0; hint: convert the file again"
        );
        let repeated = anyhow::anyhow!("no such file").context("cannot open `x`: no such file");
        assert_eq!(one_line(&repeated), "cannot open `x`: no such file");
        assert_eq!(one_line(&anyhow::anyhow!("two\nlines.")), "two lines");
    }

    #[test]
    fn codes_are_those_of_the_contract() {
        let codes = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::OverLimit,
            Exit::Inconclusive,
            Exit::Unusable,
            Exit::Wrong,
            Exit::Interrupted,
        ]
        .map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 7, 130]);
    }
}
