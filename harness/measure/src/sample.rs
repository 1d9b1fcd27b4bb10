//! Watching another process from outside.

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::{Memory, Roots};

/// What a process used when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessSample {
    /// Resident set now.
    pub rss_bytes: u64,
    /// CPU time so far, user and system, of all threads; counted in milliseconds.
    pub cpu_ns: u64,
    /// Resident set at its largest so far, where the system keeps that (Linux): no peak between two samples is missed.
    pub peak_rss_bytes: Option<u64>,
}

/// Watches one process, such as an external program that is measured. Its children are not included.
#[derive(Debug)]
pub struct ProcessSampler {
    system: System,
    pid: u32,
}

impl ProcessSampler {
    /// Watches `pid`; `None` where the system does not show processes.
    pub fn new(pid: u32) -> Option<Self> {
        Some(Self {
            system: System::new().ok()?,
            pid,
        })
    }

    /// Looks at the process; `None` once it has ended.
    pub fn sample(&mut self) -> Option<ProcessSample> {
        let pid = Pid::from_u32(self.pid);
        let kind = ProcessRefreshKind::nothing()
            .with_memory()
            .with_cpu()
            .without_tasks();
        self.system
            .refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
        let process = self.system.process(pid)?;
        // A process that has ended and was not waited for has no memory.
        (process.memory() > 0).then(|| ProcessSample {
            rss_bytes: process.memory(),
            cpu_ns: process.accumulated_cpu_time().saturating_mul(1_000_000),
            peak_rss_bytes: Memory::read(&Roots::default(), Some(self.pid)).peak_rss_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_seen_until_it_ends() {
        let mut child = Command::new("sh")
            .args(["-c", "echo ready; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut [0; 6])
            .unwrap();
        let mut sampler = ProcessSampler::new(child.id()).unwrap();
        let sample = sampler.sample().unwrap();
        assert!(sample.rss_bytes > 0);
        if let Some(peak) = sample.peak_rss_bytes {
            assert!(peak >= sample.rss_bytes / 2, "{sample:?}");
        }
        assert!(sampler.sample().unwrap().cpu_ns >= sample.cpu_ns);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(sampler.sample(), None);
    }
}
