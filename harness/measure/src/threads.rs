//! How many threads to use when nobody says.

use crate::cgroup::Cgroup;
use crate::sys::affinity;
use crate::{MAX_THREADS, Roots};

/// The number of threads to use by default: one for each CPU that this process may use, and no more than the quota
/// of its control group pays for (rounded up). At least 1.
pub fn default_threads() -> usize {
    let cpus = affinity::process_cpus().map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from),
        <[usize]>::len,
    );
    threads_for(cpus, Cgroup::read(&Roots::default()).cpu_quota)
}

fn threads_for(cpus: usize, quota: Option<f64>) -> usize {
    // Float to integer saturates, so an absurd quota is no limit.
    let paid = quota.map_or(usize::MAX, |quota| quota.ceil() as usize);
    cpus.min(paid).clamp(1, MAX_THREADS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_rounded_up() {
        assert_eq!(threads_for(8, None), 8);
        assert_eq!(threads_for(8, Some(2.5)), 3);
        assert_eq!(threads_for(8, Some(2.0)), 2);
        assert_eq!(threads_for(8, Some(0.1)), 1);
        assert_eq!(threads_for(8, Some(1e300)), 8);
        assert_eq!(threads_for(0, None), 1);
        assert_eq!(threads_for(5000, None), MAX_THREADS);
        assert!(default_threads() >= 1);
    }
}
