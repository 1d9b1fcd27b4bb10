//! Ctrl-C: the first one asks, the second one ends.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code of a program that was ended by SIGINT: 128 + 2.
pub const EXIT_CODE: i32 = 130;

static ASKED: AtomicBool = AtomicBool::new(false);

/// From now on the first SIGINT raises the flag that is returned, and a second one ends the process at once with
/// exit code 130. The program looks at the flag between pieces of work, writes what it has and exits with
/// [`EXIT_CODE`]. System calls that were interrupted are continued. Installing it again changes nothing.
///
/// # Errors
/// When the system refuses, which POSIX does not foresee.
pub fn install() -> io::Result<&'static AtomicBool> {
    set(on_interrupt as *const () as libc::sighandler_t)?;
    Ok(&ASKED)
}

/// From now on SIGINT does nothing. For workers: a terminal sends Ctrl-C to the whole group of processes, and it is
/// the parent's to decide what becomes of them.
///
/// # Errors
/// When the system refuses, which POSIX does not foresee.
pub fn ignore() -> io::Result<()> {
    set(libc::SIG_IGN)
}

extern "C" fn on_interrupt(_signal: libc::c_int) {
    // Only what is allowed in a signal handler: an atomic, and `_exit`.
    if ASKED.swap(true, Ordering::SeqCst) {
        // SAFETY: `_exit` may be called at any time, from signal handlers too.
        unsafe { libc::_exit(EXIT_CODE) }
    }
}

fn set(handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: all bytes zero are a valid `sigaction`: no flags, no handler, and a mask that is set below.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the mask belongs to `action`.
    unsafe { libc::sigemptyset(&raw mut action.sa_mask) };
    // SAFETY: `action` is complete and outlives the call; its handler does only what a handler may; the old action
    // is not asked for.
    let result = unsafe { libc::sigaction(libc::SIGINT, &raw const action, std::ptr::null_mut()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
