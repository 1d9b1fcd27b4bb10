//! What a worker process asks of the system for itself.

use std::io;
use std::process::Command;

/// From now on this process is killed when the thread that started it ends, so that no worker outlives a parent
/// that was killed. Call it first thing in the worker, with the parent's process id as the parent told it: a parent
/// that died before is noticed by that.
///
/// # Errors
/// When the parent is gone already, or the system refuses. On other systems than Linux nothing happens; a worker
/// notices the end of its input there.
pub fn die_with_parent(parent: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: this option takes a signal number and changes only what happens when the parent ends.
        let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    if std::os::unix::process::parent_id() != parent {
        return Err(io::Error::new(
            io::ErrorKind::BrokenPipe,
            "the parent process is gone",
        ));
    }
    Ok(())
}

/// From now on a crash of this process writes no core file: a worker holds gigabytes of weights, and writing them
/// would disturb what is measured next.
///
/// # Errors
/// When the system refuses.
pub fn no_core_files() -> io::Result<()> {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a complete `rlimit` that outlives the call.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A program that is started with `command` is killed when the thread that started it ends, so that nobody is left behind by a
/// process that was killed itself. On other systems than Linux nothing happens.
pub fn dies_with_us(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt;
        // SAFETY: between fork and exec only calls that are allowed in signal handlers may be made: this is one, which changes
        // nothing but what happens when the parent ends.
        unsafe {
            command.pre_exec(|| {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 {
                    Ok(())
                } else {
                    Err(io::Error::last_os_error())
                }
            });
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}
