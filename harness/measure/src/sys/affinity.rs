//! Which CPUs a thread may run on.

use std::cell::Cell;
use std::io;
use std::sync::OnceLock;

/// The CPUs that the calling thread may run on now, ascending.
///
/// # Errors
/// When the system does not tell (other systems than Linux never do).
pub fn thread_cpus() -> io::Result<Vec<usize>> {
    imp::get()
}

/// Ties the calling thread to `cpus`. Threads that it starts later inherit that.
///
/// # Errors
/// When none of the CPUs is available, or the system refuses.
pub fn pin_thread(cpus: &[usize]) -> io::Result<()> {
    imp::set(cpus)?;
    TIED.set(if let [cpu] = cpus { Some(*cpu) } else { None });
    Ok(())
}

thread_local! {
    /// The one CPU that this thread was tied to.
    static TIED: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The one CPU that [`pin_thread`] tied the calling thread to.
pub(super) fn tied_to() -> Option<usize> {
    TIED.get()
}

/// The CPUs that the process was allowed when this was first asked, ascending; `None` where the system does not
/// tell. It is asked once, before any thread of a team is pinned, because a pinned thread would only see its own CPU.
pub fn process_cpus() -> Option<&'static [usize]> {
    static CPUS: OnceLock<Option<Vec<usize>>> = OnceLock::new();
    CPUS.get_or_init(|| thread_cpus().ok().filter(|cpus| !cpus.is_empty()))
        .as_deref()
}

/// Lets the calling thread run on all CPUs of the process again. For the start handler of other pools: threads that
/// are started by a pinned thread would all share its CPU.
///
/// # Errors
/// When the system refuses.
pub fn unpin_thread() -> io::Result<()> {
    match process_cpus() {
        Some(cpus) => pin_thread(cpus),
        None => Ok(()),
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use std::io;

    const BITS: usize = u64::BITS as usize;
    /// Linux can be built for at most 8192 CPUs on x86-64; larger masks are not tried.
    const MAX_WORDS: usize = 8192 / BITS;

    pub(super) fn get() -> io::Result<Vec<usize>> {
        // The kernel refuses masks that are shorter than its own with EINVAL.
        let mut words = 1024 / BITS;
        loop {
            let mut mask = vec![0u64; words];
            // SAFETY: the pointer and the size in bytes describe `mask`, which outlives the call; thread 0 is the
            // calling one.
            let result = unsafe {
                libc::sched_getaffinity(0, size_of_val(&mask[..]), mask.as_mut_ptr().cast())
            };
            if result >= 0 {
                let bit = |cpu: &usize| mask[cpu / BITS] >> (cpu % BITS) & 1 == 1;
                return Ok((0..words * BITS).filter(bit).collect());
            }
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINVAL) || words >= MAX_WORDS {
                return Err(error);
            }
            words *= 2;
        }
    }

    pub(super) fn set(cpus: &[usize]) -> io::Result<()> {
        let words = cpus.iter().max().map_or(0, |cpu| cpu / BITS + 1);
        if words == 0 || words > MAX_WORDS {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let mut mask = vec![0u64; words];
        for cpu in cpus {
            mask[cpu / BITS] |= 1 << (cpu % BITS);
        }
        // SAFETY: the pointer and the size in bytes describe `mask`, which outlives the call; thread 0 is the
        // calling one.
        let result =
            unsafe { libc::sched_setaffinity(0, size_of_val(&mask[..]), mask.as_ptr().cast()) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::io;

    pub(super) fn get() -> io::Result<Vec<usize>> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    pub(super) fn set(_cpus: &[usize]) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_be_pinned_and_freed() {
        std::thread::spawn(|| {
            let all = process_cpus().unwrap();
            assert!(!all.is_empty() && all.is_sorted());
            for &cpu in all {
                pin_thread(&[cpu]).unwrap();
                assert_eq!(thread_cpus().unwrap(), [cpu]);
            }
            assert_eq!(process_cpus().unwrap(), all);
            unpin_thread().unwrap();
            assert_eq!(thread_cpus().unwrap(), all);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn impossible_sets_are_errors() {
        assert!(pin_thread(&[]).is_err());
        assert!(pin_thread(&[8191]).is_err());
        assert!(pin_thread(&[usize::MAX]).is_err());
    }
}
