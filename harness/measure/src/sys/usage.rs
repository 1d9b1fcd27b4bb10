//! What the system charged this process for.

use std::mem::MaybeUninit;

use crate::CpuTimes;

/// Whose usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// This process, all threads.
    Process,
    /// Its children that ended and were waited for.
    Children,
}

/// CPU time, switches and page faults so far; `None` where the system does not tell.
pub(crate) fn usage(whose: Whose) -> Option<CpuTimes> {
    let who = match whose {
        Whose::Process => libc::RUSAGE_SELF,
        Whose::Children => libc::RUSAGE_CHILDREN,
    };
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to memory of the size of an `rusage`, which outlives the call.
    let result = unsafe { libc::getrusage(who, usage.as_mut_ptr()) };
    if result != 0 {
        return None;
    }
    // SAFETY: all bytes were zero, which is a valid `rusage` of integers, and the call filled it in.
    let usage = unsafe { usage.assume_init() };
    Some(from_rusage(&usage).cpu)
}

/// What a process used.
pub(crate) struct CpuUsage {
    pub(crate) cpu: CpuTimes,
    /// The largest resident set; kept in KiB by Linux.
    pub(crate) max_rss_bytes: Option<u64>,
}

pub(crate) fn from_rusage(usage: &libc::rusage) -> CpuUsage {
    let count = |value: libc::c_long| value.max(0) as u64;
    let cpu = CpuTimes {
        user_ns: ns(usage.ru_utime),
        system_ns: ns(usage.ru_stime),
        voluntary_switches: count(usage.ru_nvcsw),
        involuntary_switches: count(usage.ru_nivcsw),
        minor_faults: count(usage.ru_minflt),
        major_faults: count(usage.ru_majflt),
    };
    let max_rss_bytes = count(usage.ru_maxrss)
        .checked_mul(1024)
        .filter(|&bytes| bytes > 0 && cfg!(target_os = "linux"));
    CpuUsage { cpu, max_rss_bytes }
}

fn ns(time: libc::timeval) -> u64 {
    time.tv_sec.max(0) as u64 * 1_000_000_000 + time.tv_usec.max(0) as u64 * 1000
}

/// Ticks a second of the times in `/proc/stat`.
pub(crate) fn ticks_per_second() -> u64 {
    // SAFETY: `sysconf` only reads a constant of the system.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    // 100 on every supported system.
    u64::try_from(ticks)
        .ok()
        .filter(|&ticks| ticks > 0)
        .unwrap_or(100)
}
