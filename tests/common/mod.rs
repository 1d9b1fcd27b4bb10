//! What tests of the whole program share.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "every test takes what it needs")]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

/// A suite of two small cells that fills its budget.
pub(crate) const TINY: &str = r#"
[suite]
name = "tiny"
description = "Two scalar kernels at one small shape"
seed = 3
budget = "6s"

[[micro]]
workloads = ["gemv-warm"]
kernels = ["w2a8-naive-scalar", "w2a8-swar-scalar"]
shapes = ["64x256"]
threads = [1]
"#;

/// The program, with arguments; nothing of the caller's environment changes what it does.
pub(crate) fn tritbench<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tritbench"));
    command
        .args(arguments)
        .env_remove("TRIT_ISA")
        .env("XDG_CACHE_HOME", cache())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

/// A cache directory that holds nothing: what this machine was tuned for is no test's business.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-cache")
}

/// Runs it to its end.
pub(crate) fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    tritbench(arguments).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs it, expects this exit code, nothing on stdout and one line of an error that contains all of `words`.
pub(crate) fn refused<S: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = S>,
    code: i32,
    words: &[&str],
) {
    let mut command = tritbench(arguments);
    check_refused(&mut command, code, words);
}

/// The same for a prepared command.
pub(crate) fn check_refused(command: &mut Command, code: i32, words: &[&str]) {
    let output = command.output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{command:?}: {text}");
    assert!(
        output.stdout.is_empty(),
        "{command:?}: data beside an error"
    );
    let at = text.find("error: ");
    let error = &text[at.unwrap_or_else(|| panic!("{command:?} says no error: {text}"))..];
    for word in words {
        assert!(error.contains(word), "{command:?}: no `{word}` in: {error}");
    }
    // The command line is explained with its usage; everything else is one line.
    if code != 2 {
        assert_eq!(error.trim_end().lines().count(), 1, "{command:?}: {error}");
    }
    for never in ["panicked", "internal error", "RUST_BACKTRACE"] {
        assert!(!text.contains(never), "{command:?}: {text}");
    }
}

/// A file of the repository.
pub(crate) fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// A child whose stderr is read line by line.
pub(crate) struct Talking {
    pub(crate) child: Child,
    lines: std::io::Lines<BufReader<ChildStderr>>,
}

impl Talking {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits for a line of stderr that contains `text`.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let mut seen = String::new();
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            if line.contains(text) {
                return;
            }
            seen.push_str(&line);
            seen.push('\n');
        }
        panic!("stderr ended without `{text}`:\n{seen}");
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &id])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Reads stderr to its end and waits.
    pub(crate) fn end(mut self) -> (std::process::ExitStatus, String) {
        let rest: Vec<String> = self.lines.by_ref().map(Result::unwrap).collect();
        (self.child.wait().unwrap(), rest.join("\n"))
    }
}
