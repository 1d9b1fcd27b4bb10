//! Clock, memory, energy, counters, machine facts and the pinned thread team.
//!
//! This crate reads the machine; it decides nothing about what a reading means. Everything that a machine may refuse
//! to tell is an `Option` or a result: a missing quantity stays missing and is never 0. It may import `trit-core`
//! only. The system calls, and all unsafe code of the crate, are in [`sys`].
#![deny(unsafe_code)]

mod cgroup;
mod clock;
mod counters;
mod cpuinfo;
pub mod energy;
mod evidence;
mod machine;
mod memory;
mod roots;
mod sample;
#[expect(
    unsafe_code,
    reason = "system calls and the two disjointness proofs (team, columns) live here"
)]
pub mod sys;
mod team;
mod thermal;
mod threads;
mod topology;
mod tree;

pub use cgroup::{Cgroup, cgroup};
pub use clock::{Clock, ClockFacts, FakeClock, MonotonicClock, clock_facts};
pub use counters::{Counters, Counts, NoCounters};
pub use evidence::{
    CpuTimes, Evidence, MachineEvidence, SystemTimes, children_times, cpu_ns, cpu_times,
    frequency_khz, load_average, steal_ns, throttle_count,
};
pub use machine::{
    Build, Cache, CpuFacts, Host, Limits, Machine, MemoryFacts, Virtualization, machine,
};
pub use memory::{
    Memory, Pss, available_bytes, cgroup_peak_bytes, memory, numa_bytes, pss, reset_peak_rss,
};
pub use roots::Roots;
pub use sample::{ProcessSample, ProcessSampler};
pub use sys::columns::ColumnsMut;
pub use sys::team::Team;
pub use team::{MAX_THREADS, TeamError, TeamOptions, share};
pub use threads::default_threads;
pub use topology::cpu_order;
pub use tree::{ProcessTree, TreeSample};
