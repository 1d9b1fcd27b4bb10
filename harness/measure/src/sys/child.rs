//! A program that is watched from outside: started, waited for, and told the signals that were meant for both.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStdout, Command, ExitStatus, Stdio};

use super::usage::{CpuUsage, from_rusage};
use crate::CpuTimes;

/// The signals that a watched program gets passed on. Those that stop and continue (Ctrl-Z) keep their usual meaning.
const PASSED_ON: [libc::c_int; 6] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
];
/// Most bytes of output that are taken at once.
const OUTPUT_BYTES: usize = 1 << 16;

/// How a watched program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// What it used, with those of its children that it waited for: exact, from `wait4`.
    pub cpu: CpuTimes,
    /// The largest resident set that it, or one of those children, ever had (`ru_maxrss`): what `time -v` prints. The
    /// kernel counts the moment before the program replaces the image of whoever started it, so that this is missing
    /// where it is not above what this process had then.
    pub peak_rss_bytes: Option<u64>,
}

/// What happened while waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The time is over.
    Due,
    /// This process got a signal.
    Signal {
        /// Its number.
        number: i32,
        /// It came from the terminal, which sends it to the watched program as well.
        from_terminal: bool,
    },
    /// Bytes that the program wrote to its standard output.
    Output(Vec<u8>),
    /// The program ended.
    Ended(Ended),
}

/// A program that was started, and everything that can happen to it.
#[derive(Debug)]
pub struct Watched {
    pid: libc::pid_t,
    signals: OwnedFd,
    output: Option<ChildStdout>,
    /// Our own resident set at most when it was started.
    image_bytes: u64,
    ended: Option<Ended>,
    orphans: CpuTimes,
}

impl Watched {
    /// Starts the program. From now on signals of this process are events of [`Watched::wait`], and processes that the
    /// program leaves behind become children of this one, so that they are still seen. Call it while this process has one
    /// thread: others would get the signals.
    ///
    /// With `pipe`, standard output becomes events too; the bytes still have to be passed on.
    ///
    /// # Errors
    /// When the program cannot be started, or the system refuses.
    pub fn start(command: &mut Command, pipe: bool) -> io::Result<Self> {
        // SAFETY: this option takes a flag and changes only who inherits orphans.
        let adopted = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
        if adopted != 0 {
            return Err(io::Error::last_os_error());
        }
        // Before the start: its end must not come before we wait for it.
        let set = watched_signals();
        let signals = block(&set)?;
        // A program inherits what is blocked here, and could not be ended by what it is passed.
        // SAFETY: between fork and exec only calls that are allowed in signal handlers may be made: this is one, and it
        // touches nothing but the set that the closure owns.
        unsafe {
            command.pre_exec(move || {
                let freed =
                    libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
                if freed == 0 {
                    Ok(())
                } else {
                    Err(io::Error::from_raw_os_error(freed))
                }
            });
        }
        if pipe {
            command.stdout(Stdio::piped());
        }
        let mut child = command.spawn()?;
        let output = child.stdout.take();
        if let Some(output) = &output {
            // At the end its children may hold the pipe, and reading must not wait for them.
            unblock(output.as_raw_fd())?;
        }
        let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
        Ok(Self {
            pid,
            signals,
            output,
            // Counts lag behind by some pages a CPU.
            image_bytes: crate::memory()
                .peak_rss_bytes
                .map_or(u64::MAX, |peak| peak + peak / 8),
            ended: None,
            orphans: CpuTimes::default(),
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Waits until something happens, at most `timeout_ns`. After the end of the program come its last outputs, then
    /// [`Event::Ended`], again and again.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn wait(&mut self, timeout_ns: u64) -> io::Result<Event> {
        loop {
            if self.ended.is_some()
                && let Some(bytes) = self.read()?
            {
                return Ok(Event::Output(bytes));
            }
            if let Some(ended) = self.ended {
                return Ok(Event::Ended(ended));
            }
            let output = self.output.as_ref().map_or(-1, AsRawFd::as_raw_fd);
            let (signal, output) = poll([self.signals.as_raw_fd(), output], timeout_ns)?;
            if signal {
                match self.signal()? {
                    Some((libc::SIGCHLD, _)) => self.reap()?,
                    Some((number, from_terminal)) => {
                        return Ok(Event::Signal {
                            number,
                            from_terminal,
                        });
                    }
                    None => {}
                }
                // What is due is due, whoever dies meanwhile: the caller looks at its clock and comes back.
                if self.ended.is_none() {
                    return Ok(Event::Due);
                }
            } else if output {
                if let Some(bytes) = self.read()? {
                    return Ok(Event::Output(bytes));
                }
            } else {
                return Ok(Event::Due);
            }
        }
    }

    /// Sends the program a signal, unless it has ended.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn send(&self, signal: i32) -> io::Result<()> {
        if self.ended.is_some() {
            return Ok(());
        }
        // SAFETY: the process was not waited for, so its id still is its own; the signal changes no memory of ours.
        let sent = unsafe { libc::kill(self.pid, signal) };
        if sent == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// What processes used that the program had left behind and that ended since the last call.
    pub fn take_orphans(&mut self) -> CpuTimes {
        std::mem::take(&mut self.orphans)
    }

    /// What the program wrote; `None` when there is nothing now, or nothing any more.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(output) = &mut self.output else {
            return Ok(None);
        };
        let mut bytes = vec![0; OUTPUT_BYTES];
        match output.read(&mut bytes) {
            Ok(0) => self.output = None,
            Ok(count) => {
                bytes.truncate(count);
                return Ok(Some(bytes));
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    /// The next signal, and whether the terminal sent it.
    fn signal(&self) -> io::Result<Option<(libc::c_int, bool)>> {
        // SAFETY: all bytes zero are a valid `signalfd_siginfo` of integers.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        // SAFETY: the pointer is to memory of that size, which outlives the call.
        let read = unsafe { libc::read(self.signals.as_raw_fd(), (&raw mut info).cast(), size) };
        if read < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock {
                Ok(None)
            } else {
                Err(error)
            };
        }
        // The kernel alone sends with a positive code; of the signals here these are the keys of a terminal.
        let number = libc::c_int::try_from(info.ssi_signo).map_err(io::Error::other)?;
        Ok(Some((number, info.ssi_code > 0)))
    }

    /// Takes everybody who ended: several ends may be one signal.
    fn reap(&mut self) -> io::Result<()> {
        loop {
            let mut status = 0;
            // SAFETY: all bytes zero are a valid `rusage` of integers.
            let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
            // SAFETY: both pointers are to memory of the right types, which outlives the call.
            let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) };
            if pid == 0 {
                return Ok(());
            }
            if pid < 0 {
                let error = io::Error::last_os_error();
                return match error.raw_os_error() {
                    // Nobody is left.
                    Some(libc::ECHILD) => Ok(()),
                    Some(libc::EINTR) => continue,
                    _ => Err(error),
                };
            }
            let CpuUsage { cpu, max_rss_bytes } = from_rusage(&usage);
            if pid == self.pid {
                self.ended = Some(Ended {
                    status: ExitStatus::from_raw(status),
                    cpu,
                    peak_rss_bytes: max_rss_bytes.filter(|&peak| peak > self.image_bytes),
                });
            } else {
                self.orphans = self.orphans.plus(&cpu);
            }
        }
    }
}

/// The signals that become events.
fn watched_signals() -> libc::sigset_t {
    // SAFETY: all bytes zero are a valid `sigset_t`, and it is emptied next.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is memory of ours.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in PASSED_ON.into_iter().chain([libc::SIGCHLD]) {
        // SAFETY: the set is initialised and the signal is one that exists.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// Blocks the signals and gives the file they are read from.
fn block(set: &libc::sigset_t) -> io::Result<OwnedFd> {
    // SAFETY: the set is complete and outlives the call; the old mask is not asked for.
    let blocked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set, std::ptr::null_mut()) };
    if blocked != 0 {
        return Err(io::Error::from_raw_os_error(blocked));
    }
    // SAFETY: the set is complete and outlives the call; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn unblock(fd: RawFd) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as its owner lives, who calls this; the flags are integers.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    // SAFETY: as above.
    if flags < 0 || unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Waits until one of the descriptors can be read; a negative one never can.
fn poll(fds: [RawFd; 2], timeout_ns: u64) -> io::Result<(bool, bool)> {
    let mut fds = fds.map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout_ns / 1_000_000_000).unwrap_or(libc::time_t::MAX),
        // Below 10^9, which fits every `c_long`.
        tv_nsec: (timeout_ns % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: the descriptors and the time outlive the call, the count is that of the array; no mask is given.
    let ready = unsafe {
        libc::ppoll(
            fds.as_mut_ptr(),
            fds.len() as libc::nfds_t,
            &raw const timeout,
            std::ptr::null(),
        )
    };
    if ready < 0 {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::Interrupted => Ok((false, false)),
            _ => Err(error),
        };
    }
    // The end of a pipe is `POLLHUP`, which reading tells as well.
    Ok((fds[0].revents != 0, fds[1].revents != 0))
}
