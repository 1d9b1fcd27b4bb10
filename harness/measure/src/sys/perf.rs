//! `perf_event_open`: counters of the kernel, as numbers that only grow. See `perf_event_open(2)`.

use std::io;

/// What to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// `type` of the attributes.
    pub(crate) kind: u32,
    /// `config` of the attributes.
    pub(crate) config: u64,
}

/// Whose events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything on a CPU.
    Cpu(u32),
    /// A thread of this process, and all threads and processes that it starts later; in user mode only.
    Thread(u32),
}

/// A count, and for how much of the time it was running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) value: u64,
    pub(crate) enabled_ns: u64,
    pub(crate) running_ns: u64,
}

/// An open counter.
#[derive(Debug)]
pub(crate) struct Counter {
    #[cfg(target_os = "linux")]
    file: std::fs::File,
}

#[cfg(target_os = "linux")]
impl Counter {
    /// Begins to count.
    pub(crate) fn open(event: Event, scope: Scope) -> io::Result<Self> {
        use std::os::fd::FromRawFd;

        /// Total time enabled and running, in this order after the value.
        const READ_FORMAT: u64 = 1 | 2;
        /// Close on exec.
        const FLAG_FD_CLOEXEC: libc::c_ulong = 8;

        let (pid, cpu, flags) = match scope {
            // A PMU of a whole package refuses to exclude anything.
            Scope::Cpu(cpu) => (-1, cpu as libc::c_int, 0),
            Scope::Thread(thread) => (
                thread as libc::pid_t,
                -1,
                Attributes::INHERIT | Attributes::EXCLUDE_KERNEL | Attributes::EXCLUDE_HV,
            ),
        };
        let attributes = Attributes {
            kind: event.kind,
            size: size_of::<Attributes>() as u32,
            config: event.config,
            sample_period: 0,
            sample_type: 0,
            read_format: READ_FORMAT,
            flags,
            wakeup_events: 0,
            bp_type: 0,
            config1: 0,
        };
        // SAFETY: the pointer is to attributes of the size that they state, which the call only reads; the other
        // arguments are numbers.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                pid,
                cpu,
                -1 as libc::c_int,
                FLAG_FD_CLOEXEC,
            )
        };
        let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call returned a new descriptor, which nobody else owns.
        let file = unsafe { std::fs::File::from_raw_fd(fd) };
        Ok(Self { file })
    }

    /// The count so far.
    pub(crate) fn read(&self) -> io::Result<Count> {
        use std::io::Read;

        let mut bytes = [0; 24];
        // One call gives all of it, or nothing when the counter is in an error state.
        let got = (&self.file).read(&mut bytes)?;
        if got != bytes.len() {
            let text = format!("the kernel gave {got} bytes of a counter instead of 24");
            return Err(io::Error::other(text));
        }
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[8 * at..8 * at + 8]);
            u64::from_ne_bytes(word)
        };
        Ok(Count {
            value: word(0),
            enabled_ns: word(1),
            running_ns: word(2),
        })
    }
}

#[cfg(not(target_os = "linux"))]
impl Counter {
    pub(crate) fn open(_event: Event, _scope: Scope) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn read(&self) -> io::Result<Count> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The first version of `struct perf_event_attr`, which every kernel accepts.
#[cfg(target_os = "linux")]
#[repr(C)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
}

#[cfg(target_os = "linux")]
impl Attributes {
    // Bit fields of the word `flags`, the first one in the lowest bit on little-endian machines.
    const INHERIT: u64 = 1 << 1;
    const EXCLUDE_KERNEL: u64 = 1 << 5;
    const EXCLUDE_HV: u64 = 1 << 6;
}
