//! The resident set of a worker through load, prefill and decode.
//!
//! A thread looks every tenth of a second while a phase lasts (17 us each time, on whichever CPU the system gives it),
//! and the worker itself at the beginning and end of phases, outside of what is timed.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use trit_core::TimelineRow;
use trit_measure::{
    Clock, MonotonicClock, Roots, cgroup_peak_bytes, cpu_times, memory, numa_bytes, pss,
};

use crate::schedule::Schedule;

/// From one look to the next.
const INTERVAL_NS: u64 = 100_000_000;
/// Looks of one request that are kept: an hour.
const MOST: usize = 36_000;

/// What a worker does to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Load,
    Prefill,
    Decode,
}

impl Phase {
    const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }
}

#[derive(Debug, Default)]
struct State {
    phase: Option<Phase>,
    rows: Vec<TimelineRow>,
}

impl State {
    fn keep(&mut self, row: TimelineRow) {
        if self.rows.len() < MOST {
            self.rows.push(row);
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Records while a phase lasts.
#[derive(Clone, Debug)]
pub(super) struct Timeline(Arc<Shared>);

impl Timeline {
    /// Starts the thread. Where the system has none to give, only the ends of phases are recorded.
    pub(super) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let name = thread::Builder::new().name("timeline".to_owned());
        let _ = name.spawn(move || watch(&theirs));
        Self(shared)
    }

    /// A phase begins, after whatever was before.
    pub(super) fn begin(&self, phase: Phase) {
        let row = look(phase);
        let mut state = self.state();
        state.phase = Some(phase);
        state.keep(row);
        drop(state);
        self.0.changed.notify_all();
    }

    /// The phase ends: the page tables are walked as well. Nothing may be timed now.
    pub(super) fn end(&self) {
        let Some(phase) = self.state().phase.take() else {
            return;
        };
        let walked = pss();
        let nodes = numa_bytes(&Roots::default(), None).unwrap_or_default();
        let nodes: Vec<String> = nodes
            .into_iter()
            .map(|(node, bytes)| format!("{node}={bytes}"))
            .collect();
        let row = TimelineRow {
            pss_bytes: walked.pss_bytes,
            anon_huge_bytes: walked.anon_huge_bytes,
            numa_bytes: nodes.join(" "),
            cgroup_peak_bytes: cgroup_peak_bytes(),
            ..look(phase)
        };
        self.state().keep(row);
    }

    /// What was recorded since the last call.
    pub(super) fn take(&self) -> Vec<TimelineRow> {
        std::mem::take(&mut self.state().rows)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread: it ends with the process.
fn watch(shared: &Shared) {
    // Its maker may be tied to one CPU. Where the system refuses, it shares that one.
    let _ = trit_measure::sys::affinity::unpin_thread();
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let Some(phase) = state.phase else {
            state = shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let mut schedule = Schedule::new(MonotonicClock.now_ns(), INTERVAL_NS);
        schedule.done(MonotonicClock.now_ns());
        while state.phase == Some(phase) {
            let now = MonotonicClock.now_ns();
            if now < schedule.due_ns() {
                let rest = Duration::from_nanos(schedule.due_ns() - now);
                state = shared
                    .changed
                    .wait_timeout(state, rest)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
                continue;
            }
            // Not while others wait for the lock.
            drop(state);
            let row = look(phase);
            schedule.done(MonotonicClock.now_ns());
            state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.phase == Some(phase) {
                state.keep(row);
            }
        }
    }
}

/// This process now.
fn look(phase: Phase) -> TimelineRow {
    let memory = memory();
    let used = cpu_times();
    TimelineRow {
        phase: phase.name().to_owned(),
        unix_ns: MonotonicClock.unix_ns(),
        monotonic_ns: MonotonicClock.now_ns(),
        rss_bytes: memory.rss_bytes,
        rss_anon_bytes: memory.rss_anon_bytes,
        rss_file_bytes: memory.rss_file_bytes,
        rss_shmem_bytes: memory.rss_shmem_bytes,
        peak_rss_bytes: memory.peak_rss_bytes,
        user_ns: Some(used.user_ns),
        system_ns: Some(used.system_ns),
        minor_faults: Some(used.minor_faults),
        major_faults: Some(used.major_faults),
        voluntary_switches: Some(used.voluntary_switches),
        involuntary_switches: Some(used.involuntary_switches),
        ..TimelineRow::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_have_both_ends_and_what_lies_between() {
        let timeline = Timeline::start();
        timeline.begin(Phase::Load);
        timeline.end();
        let rows = timeline.take();
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().all(|row| row.phase == "load"));
        assert!(rows[0].monotonic_ns <= rows[1].monotonic_ns);
        if cfg!(target_os = "linux") {
            assert!(rows[1].rss_bytes.is_some() && rows[1].peak_rss_bytes.is_some());
        }
        // A phase lasts until the thread has looked at it; nothing here waits for a time.
        timeline.begin(Phase::Prefill);
        while timeline.state().rows.len() < 2 {
            thread::yield_now();
        }
        timeline.begin(Phase::Decode);
        timeline.end();
        timeline.end();
        let rows = timeline.take();
        let decode = rows.iter().filter(|row| row.phase == "decode").count();
        assert!(decode >= 2 && rows.len() >= decode + 2, "{rows:?}");
        assert!(timeline.take().is_empty(), "nothing lasts");
    }
}
