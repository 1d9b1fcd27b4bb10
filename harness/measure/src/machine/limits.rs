//! What this process may use of the machine.

use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::sys::affinity;
use crate::{Roots, default_threads};

/// What this process may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// The CPUs that it may run on, in the order in which a team takes them.
    pub allowed_cpus: Option<Vec<usize>>,
    /// CPUs' worth of time that its control group may use; missing without a limit.
    pub cpu_quota: Option<f64>,
    /// Memory that its control group may use; missing without a limit.
    pub memory_limit_bytes: Option<u64>,
    /// Threads used when nobody says otherwise.
    pub default_threads: Option<usize>,
    /// `kernel.perf_event_paranoid`: who may use hardware counters.
    pub perf_event_paranoid: Option<i64>,
}

impl Limits {
    pub(super) fn read(roots: &Roots) -> Self {
        let cgroup = Cgroup::read(roots);
        Self {
            allowed_cpus: None,
            cpu_quota: cgroup.cpu_quota,
            memory_limit_bytes: cgroup.memory_limit_bytes,
            default_threads: None,
            perf_event_paranoid: crate::roots::number(
                &roots.proc.join("sys/kernel/perf_event_paranoid"),
            ),
        }
    }

    /// Adds what only system calls tell.
    pub(super) fn read_process(&mut self) {
        self.allowed_cpus = affinity::process_cpus().and_then(|_| crate::cpu_order());
        self.default_threads = Some(default_threads());
    }
}
