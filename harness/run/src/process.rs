//! The master's end of a worker process: start it, ask, wait no longer than allowed, and tell how it ended.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use trit_measure::{Clock, Memory, MonotonicClock, Roots};

use crate::protocol::{Hello, Reply, Request};

/// Longest line that a worker may send: the sums of one large call fit.
const MAX_LINE: u64 = 256 << 20;
/// How long a worker that closed its output may take to end.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often a wait looks whether the run was interrupted.
const POLL: Duration = Duration::from_millis(50);
/// How often it looks at the memory of a worker that has a limit.
const WATCH: Duration = Duration::from_millis(10);

/// How a worker is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment variables set for it, beside the inherited ones.
    pub env: Vec<(String, String)>,
}

impl WorkerCommand {
    /// This program as a worker: `<current executable> worker`.
    ///
    /// # Errors
    /// When the system does not say which file is running.
    pub fn current() -> std::io::Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            args: vec!["worker".to_owned()],
            env: Vec::new(),
        })
    }
}

/// How a request to a worker ended, other than with a reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkerError {
    /// The program could not be started.
    #[error("cannot start worker `{program}`: {message}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        message: String,
    },
    /// It ended or closed its output.
    #[error("the worker died ({how}){}", said(.stderr))]
    Died {
        /// Exit code or signal.
        how: String,
        /// The last lines it wrote to stderr.
        stderr: String,
    },
    /// It did not answer in time and was killed.
    #[error("no answer within {} s; the worker was killed", .0.as_secs_f64())]
    Timeout(Duration),
    /// It sent something that is not the protocol.
    #[error("the worker does not speak the protocol: {0}")]
    Protocol(String),
    /// It took more memory than it may, and was killed.
    #[error(
        "its resident set grew to {} MB, {} MB are allowed; the worker was killed",
        .rss_bytes / 1_000_000,
        .max_bytes / 1_000_000
    )]
    OverLimit {
        /// The resident set when that was seen.
        rss_bytes: u64,
        /// What is allowed.
        max_bytes: u64,
    },
    /// The run was interrupted.
    #[error("interrupted")]
    Interrupted,
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() {
        String::new()
    } else {
        format!(": {stderr}")
    }
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Result<String, String>>,
    stderr: Arc<Mutex<VecDeque<String>>>,
    /// Disconnected when the worker has closed its stderr: when it has ended.
    stderr_end: Option<Receiver<()>>,
    /// What it said first.
    pub hello: Hello,
    /// From before it was started until it had said that.
    pub startup_ns: u64,
    /// The largest resident set that it may have.
    max_rss_bytes: Option<u64>,
}

/// Reads lines of bounded length.
fn read_lines(input: impl Read, mut put: impl FnMut(Result<String, String>) -> bool) {
    let mut input = BufReader::new(input);
    loop {
        let mut line = Vec::new();
        match input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) if line.last() != Some(&b'\n') && line.len() as u64 == MAX_LINE => {
                put(Err(format!("a line is longer than {MAX_LINE} bytes")));
                return;
            }
            // A line without its end: the worker died while it wrote.
            Ok(_) if line.last() != Some(&b'\n') => return,
            Ok(_) => {
                let text = String::from_utf8(line).map_err(|_| "a line is not UTF-8".to_owned());
                if !put(text) {
                    return;
                }
            }
            Err(error) => {
                put(Err(error.to_string()));
                return;
            }
        }
    }
}

impl Worker {
    /// Starts a worker and waits for its first line.
    ///
    /// # Errors
    /// When it cannot be started, does not say hello in time, or speaks another protocol.
    pub fn start(
        command: &WorkerCommand,
        timeout: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Self, WorkerError> {
        let begun = MonotonicClock.now_ns();
        let mut child = Command::new(&command.program)
            .args(&command.args)
            .envs(command.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| WorkerError::Start {
                program: command.program.display().to_string(),
                message: error.to_string(),
            })?;
        let stdin = child.stdin.take();
        let (stdout, errors) = (child.stdout.take(), child.stderr.take());
        let (sender, lines) = sync_channel(4);
        if let Some(stdout) = stdout {
            thread::spawn(move || read_lines(stdout, |line| sender.send(line).is_ok()));
        }
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&stderr);
        let stderr_end = errors.map(|errors| {
            let (open, end) = sync_channel::<()>(0);
            thread::spawn(move || {
                let _open = open;
                read_lines(errors, |line| {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    // The first lines say what happened, so they stay; a backtrace does not fit.
                    if let Ok(line) = line
                        && kept.len() < 8
                    {
                        kept.push_back(line.trim().to_owned());
                    }
                    true
                });
            });
            end
        });
        let mut worker = Self {
            child,
            stdin,
            lines,
            stderr,
            stderr_end,
            hello: Hello::default(),
            startup_ns: 0,
            max_rss_bytes: None,
        };
        let line = worker.line(timeout, interrupted, &mut || {})?;
        worker.startup_ns = MonotonicClock.now_ns().saturating_sub(begun);
        worker.hello = serde_json::from_str(&line)
            .map_err(|error| worker.protocol_error(&line, &error.to_string()))?;
        if worker.hello.protocol == 0 {
            return Err(worker.protocol_error(&line, "the first line has no protocol number"));
        }
        // Later protocols only add: whatever their number, they understand ours.
        Ok(worker)
    }

    /// From now on the worker is killed when its resident set is larger. Looked at every 10 ms while a request is under way: an
    /// address space limit would forbid what is only reserved, such as a mapped file.
    pub fn limit_rss(&mut self, max_bytes: Option<u64>) {
        self.max_rss_bytes = max_bytes;
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// When the worker dies, is too slow, or answers something else than the protocol. It is not usable afterwards.
    pub fn ask(
        &mut self,
        request: &Request,
        timeout: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Reply, WorkerError> {
        self.ask_meanwhile(request, timeout, interrupted, &mut || {})
    }

    /// The same, and does something about 20 times a second while it waits.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn ask_meanwhile(
        &mut self,
        request: &Request,
        timeout: Duration,
        interrupted: &dyn Fn() -> bool,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Reply, WorkerError> {
        let mut text = serde_json::to_string(request)
            .map_err(|error| WorkerError::Protocol(error.to_string()))?;
        text.push('\n');
        let sent = self.stdin.as_mut().is_some_and(|stdin| {
            stdin
                .write_all(text.as_bytes())
                .and_then(|()| stdin.flush())
                .is_ok()
        });
        if !sent {
            return Err(self.died());
        }
        let line = self.line(timeout, interrupted, meanwhile)?;
        match serde_json::from_str(&line) {
            Ok(Reply::Unknown) => Err(self.protocol_error(&line, "unknown reply")),
            Ok(reply) => Ok(reply),
            Err(error) => Err(self.protocol_error(&line, &error.to_string())),
        }
    }

    fn line(
        &mut self,
        timeout: Duration,
        interrupted: &dyn Fn() -> bool,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<String, WorkerError> {
        let mut left = timeout;
        let poll = if self.max_rss_bytes.is_some() {
            WATCH
        } else {
            POLL
        };
        loop {
            let wait = left.min(poll);
            match self.lines.recv_timeout(wait) {
                Ok(Ok(line)) => return Ok(line),
                Ok(Err(message)) => {
                    self.kill();
                    return Err(WorkerError::Protocol(message));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.died()),
                Err(RecvTimeoutError::Timeout) => {
                    self.check_rss()?;
                    if interrupted() {
                        self.kill();
                        return Err(WorkerError::Interrupted);
                    }
                    left = left.saturating_sub(wait);
                    if left.is_zero() {
                        self.kill();
                        return Err(WorkerError::Timeout(timeout));
                    }
                    meanwhile();
                }
            }
        }
    }

    fn check_rss(&mut self) -> Result<(), WorkerError> {
        let Some(max_bytes) = self.max_rss_bytes else {
            return Ok(());
        };
        let memory = Memory::read(&Roots::default(), Some(self.child.id()));
        match memory.rss_bytes.filter(|rss| *rss > max_bytes) {
            None => Ok(()),
            Some(rss_bytes) => {
                self.kill();
                Err(WorkerError::OverLimit {
                    rss_bytes,
                    max_bytes,
                })
            }
        }
    }

    fn protocol_error(&mut self, line: &str, why: &str) -> WorkerError {
        self.kill();
        let start: String = line.trim().chars().take(80).collect();
        WorkerError::Protocol(format!("`{start}`: {why}"))
    }

    fn kill(&mut self) {
        self.stdin = None;
        // Both fail only for a process that is gone already.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }

    /// The worker closed its output: finds out how it ended.
    fn died(&mut self) -> WorkerError {
        self.stdin = None;
        // It may have closed its output and live on: it gets the end of its input and a moment, so that its own exit
        // status is seen, and then a signal.
        if let Some(end) = self.stderr_end.take() {
            let _disconnected = end.recv_timeout(LAST_WORDS);
        }
        let _gone = self.child.kill();
        let status = self.child.wait();
        let stderr: Vec<String> = self
            .stderr
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter(|line| !line.is_empty())
            .take(3)
            .cloned()
            .collect();
        let how = match status {
            Ok(status) if interrupted_by_signal(status) => return WorkerError::Interrupted,
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        WorkerError::Died {
            how,
            stderr: stderr.join(" | "),
        }
    }

    /// Asks the worker to end, and waits until it has.
    pub fn stop(mut self, timeout: Duration) {
        // Whatever it answers, it is killed if it has not ended.
        let _reply = self.ask(&Request::Exit, timeout, &|| false);
        self.stdin = None;
        self.kill();
    }
}

#[cfg(unix)]
fn interrupted_by_signal(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    // SIGINT, from the terminal to the whole process group.
    status.signal() == Some(2)
}

#[cfg(not(unix))]
fn interrupted_by_signal(_: ExitStatus) -> bool {
    false
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}
