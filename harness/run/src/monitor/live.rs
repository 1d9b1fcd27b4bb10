//! The real world: a child process, `/proc`, and the meters of the machine.

use std::io;
use std::process::Command;

use trit_core::TimelineRow;
use trit_measure::energy::{EnergyProbe, EnergyStatus, Meter, MeterOptions};
use trit_measure::sys::child::Watched;
use trit_measure::{
    Clock, Evidence, MachineEvidence, MonotonicClock, ProcessTree, Roots, cgroup_peak_bytes, cpu_ns,
};

use super::{EnergyEnd, Event, World};

/// What is started, and where the machine is looked at.
#[derive(Debug)]
pub struct LiveOptions {
    /// The program.
    pub command: Command,
    /// Whether its standard output is read, for the lines in which it tells its progress.
    pub read_output: bool,
    /// Where sensors and meters are.
    pub roots: Roots,
}

/// A child process.
#[derive(Debug)]
pub struct Live {
    child: Watched,
    tree: ProcessTree,
    machine: MachineEvidence,
    before: Evidence,
    meter: Result<Meter, Box<EnergyProbe>>,
    /// Energy that live samples told so far; missing since one of them had none.
    package_uj: Option<u64>,
    dram_uj: Option<u64>,
}

impl Live {
    /// Opens the meter, then starts the program. Call it while this process has one thread.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(options: LiveOptions) -> io::Result<Self> {
        let LiveOptions {
            mut command,
            read_output,
            roots,
        } = options;
        let metering = MeterOptions {
            max_others_share: None,
            ..MeterOptions::default()
        };
        let mut meter = Meter::open(&roots, &metering);
        let machine = MachineEvidence::find(&roots);
        if let Ok(meter) = &mut meter {
            meter.begin();
            meter.sample();
        }
        let counted = meter.is_ok().then_some(0);
        let before = machine.read();
        let child = Watched::start(&mut command, read_output)?;
        Ok(Self {
            // Processes are this system's own, wherever the sensors are.
            tree: ProcessTree::new(Roots::default(), child.id(), std::process::id()),
            child,
            machine,
            before,
            meter,
            package_uj: counted,
            dram_uj: counted,
        })
    }
}

impl World for Live {
    fn now_ns(&self) -> u64 {
        MonotonicClock.now_ns()
    }

    fn unix_ns(&self) -> u64 {
        MonotonicClock.unix_ns()
    }

    fn wait(&mut self, timeout_ns: u64) -> io::Result<Event> {
        let event = self.child.wait(timeout_ns);
        self.tree.orphan_ended(&self.child.take_orphans());
        event
    }

    fn send(&mut self, signal: i32) -> io::Result<()> {
        self.child.send(signal)
    }

    fn look(&mut self) -> TimelineRow {
        let tree = self.tree.sample(&MonotonicClock, &cpu_ns);
        let machine = self.machine.read().since(&self.before);
        if let Ok(meter) = &mut self.meter {
            let energy = meter.sample();
            let add = |sum: Option<u64>, more: Option<u64>| Some(sum?.saturating_add(more?));
            self.package_uj = add(self.package_uj, energy.package_uj);
            self.dram_uj = add(self.dram_uj, energy.dram_uj);
        }
        TimelineRow {
            processes: Some(tree.processes),
            threads: Some(tree.threads),
            rss_bytes: tree.memory.rss_bytes,
            rss_anon_bytes: tree.memory.rss_anon_bytes,
            rss_file_bytes: tree.memory.rss_file_bytes,
            rss_shmem_bytes: tree.memory.rss_shmem_bytes,
            pss_bytes: tree.pss.and_then(|pss| pss.pss_bytes),
            anon_huge_bytes: tree.pss.and_then(|pss| pss.anon_huge_bytes),
            peak_rss_bytes: tree.memory.peak_rss_bytes,
            cgroup_peak_bytes: cgroup_peak_bytes(),
            user_ns: Some(tree.user_ns),
            system_ns: Some(tree.system_ns),
            minor_faults: Some(tree.minor_faults),
            major_faults: Some(tree.major_faults),
            voluntary_switches: tree.voluntary_switches,
            involuntary_switches: tree.involuntary_switches,
            steal_ns: machine.steal_ns,
            throttled_ns: machine.throttled_ns,
            throttle_count: machine.throttle_count,
            frequency_khz: machine.frequency_khz,
            temperature_mc: machine.temperature_mc,
            energy_pkg_uj: self.package_uj,
            energy_dram_uj: self.dram_uj,
            ..TimelineRow::default()
        }
    }

    fn own_cpu_ns(&self) -> u64 {
        cpu_ns()
    }

    fn energy(&mut self) -> EnergyEnd {
        match &mut self.meter {
            Ok(meter) => {
                let energy = meter.end();
                EnergyEnd {
                    status: energy.status.to_string(),
                    reason: energy.reason,
                    source: energy.source,
                    package_uj: energy.package_uj,
                    dram_uj: energy.dram_uj,
                }
            }
            Err(probe) => {
                let remedy = probe.remedy.as_ref();
                let remedy = remedy.map_or_else(String::new, |remedy| format!("; hint: {remedy}"));
                debug_assert_ne!(
                    probe.status,
                    EnergyStatus::Ok,
                    "a probe that fails says why"
                );
                EnergyEnd {
                    status: probe.status.to_string(),
                    reason: format!("{}{remedy}", probe.reason),
                    source: probe.source.clone().unwrap_or_default(),
                    ..EnergyEnd::default()
                }
            }
        }
    }
}
