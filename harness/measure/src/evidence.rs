//! What happened to this process and its machine besides the work: the evidence by which a sample is trusted or not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::cgroup::ThrottledTime;
use crate::roots::{cpu_list, number, text};
use crate::sys::affinity;
use crate::sys::usage::{Whose, ticks_per_second, usage};
use crate::thermal::Thermometers;
use crate::{Roots, cpuinfo};

/// CPU time, context switches and page faults of all threads of a process.
///
/// The sum of both times is exact to the microsecond; on kernels without full accounting how it divides into user and
/// system time is extrapolated from timer ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuTimes {
    /// In the program.
    pub user_ns: u64,
    /// In the kernel on behalf of it.
    pub system_ns: u64,
    /// It waited for something.
    pub voluntary_switches: u64,
    /// Somebody else got the CPU.
    pub involuntary_switches: u64,
    /// Pages that became present without reading anything.
    pub minor_faults: u64,
    /// Pages that had to be read.
    pub major_faults: u64,
}

impl CpuTimes {
    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            user_ns: self.user_ns.saturating_add(other.user_ns),
            system_ns: self.system_ns.saturating_add(other.system_ns),
            voluntary_switches: self
                .voluntary_switches
                .saturating_add(other.voluntary_switches),
            involuntary_switches: self
                .involuntary_switches
                .saturating_add(other.involuntary_switches),
            minor_faults: self.minor_faults.saturating_add(other.minor_faults),
            major_faults: self.major_faults.saturating_add(other.major_faults),
        }
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        // The kernel's extrapolation may take a few microseconds from one kind of time and give them to the other.
        Self {
            user_ns: self.user_ns.saturating_sub(earlier.user_ns),
            system_ns: self.system_ns.saturating_sub(earlier.system_ns),
            voluntary_switches: self
                .voluntary_switches
                .saturating_sub(earlier.voluntary_switches),
            involuntary_switches: self
                .involuntary_switches
                .saturating_sub(earlier.involuntary_switches),
            minor_faults: self.minor_faults.saturating_sub(earlier.minor_faults),
            major_faults: self.major_faults.saturating_sub(earlier.major_faults),
        }
    }
}

/// CPU time and switches of this process so far, from `getrusage`.
///
/// # Panics
/// Never on a POSIX system: the call has no way to fail there.
pub fn cpu_times() -> CpuTimes {
    usage(Whose::Process).expect("getrusage of the own process cannot fail")
}

/// CPU time of this process so far, all threads, user and system: what something costs, whoever else wants the CPU.
pub fn cpu_ns() -> u64 {
    let used = cpu_times();
    used.user_ns.saturating_add(used.system_ns)
}

/// CPU time and switches of all children that have ended; for programs that are measured from outside.
pub fn children_times() -> Option<CpuTimes> {
    usage(Whose::Children)
}

/// How all CPUs of the machine spent their time since it was started, from `/proc/stat`. Counted in ticks: usually
/// 10 ms, so a shorter slice shows 0 or 10 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemTimes {
    /// Any process or the kernel ran.
    pub busy_ns: u64,
    /// Nothing to do, waiting for a disk included.
    pub idle_ns: u64,
    /// We could have run, but the hypervisor ran somebody else.
    pub steal_ns: u64,
}

impl SystemTimes {
    /// The times as files under `roots` tell.
    pub fn read(roots: &Roots) -> Option<Self> {
        Self::parse(&text(&roots.proc.join("stat"))?, ticks_per_second())
    }

    fn parse(stat: &str, ticks: u64) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks_of: Vec<u64> = line
            .split_ascii_whitespace()
            .map(|word| word.parse().ok())
            .collect::<Option<_>>()?;
        // user nice system idle iowait irq softirq steal guest guest_nice, see proc(5). Guests are part of user.
        let [user, nice, system, idle, iowait, irq, softirq, steal] = *ticks_of.get(..8)? else {
            return None;
        };
        let ns = |parts: &[u64]| -> Option<u64> {
            let sum = parts
                .iter()
                .try_fold(0u64, |sum, &part| sum.checked_add(part))?;
            sum.checked_mul(1_000_000_000 / ticks)
        };
        Some(Self {
            busy_ns: ns(&[user, nice, system, irq, softirq])?,
            idle_ns: ns(&[idle, iowait])?,
            steal_ns: ns(&[steal])?,
        })
    }
}

/// The counters of [`Evidence`] that belong to the machine, looked up once: for watching others, and for machines that are not this one.
pub struct MachineEvidence(Sources);

impl MachineEvidence {
    /// Finds them under `roots`.
    pub fn find(roots: &Roots) -> Self {
        Self(Sources::find(roots, Sources::first_cpu()))
    }

    /// The counters now; the times of a process are left at 0.
    pub fn read(&self) -> Evidence {
        self.0.of_machine()
    }

    /// As [`Evidence::before`], with the counters that were found here.
    pub fn before(&self) -> Evidence {
        self.0.before()
    }

    /// As [`Evidence::after`], likewise.
    pub fn after(&self) -> Evidence {
        self.0.after()
    }

    /// As [`Evidence::facts`].
    pub fn facts(&self) -> BTreeMap<&'static str, String> {
        self.0.facts()
    }
}

impl std::fmt::Debug for MachineEvidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MachineEvidence")
            .field(&self.facts())
            .finish()
    }
}

/// Where the counters of [`Evidence`] are on this machine: looked up once, since most of the time of a reading would
/// go into looking for files that are not there.
struct Sources {
    stat: PathBuf,
    throttled: ThrottledTime,
    throttles: Vec<PathBuf>,
    frequency: Option<Frequency>,
    thermometers: Thermometers,
}

/// Where the clock rate of a CPU is told.
enum Frequency {
    /// A file with kHz.
    Cpufreq(PathBuf),
    /// `/proc/cpuinfo`, for this CPU.
    Cpuinfo(PathBuf, usize),
}

impl Sources {
    fn find(roots: &Roots, cpu: usize) -> Self {
        let cpus = roots.sys.join("devices/system/cpu");
        let online = text(&cpus.join("online"))
            .and_then(|list| cpu_list(&list))
            .unwrap_or_default();
        let throttles = online.iter().flat_map(|cpu| {
            ["core_throttle_count", "package_throttle_count"]
                .map(|name| cpus.join(format!("cpu{cpu}/thermal_throttle/{name}")))
        });
        let mut sources = Self {
            stat: roots.proc.join("stat"),
            throttled: ThrottledTime::find(roots),
            throttles: throttles
                .filter(|path| number::<u64>(path).is_some())
                .collect(),
            frequency: None,
            thermometers: Thermometers::find(roots),
        };
        let possible = [
            Frequency::Cpufreq(cpus.join(format!("cpu{cpu}/cpufreq/scaling_cur_freq"))),
            Frequency::Cpuinfo(roots.proc.join("cpuinfo"), cpu),
        ];
        sources.frequency = possible.into_iter().find(|source| source.khz().is_some());
        sources
    }

    fn of_this_machine() -> &'static Self {
        static SOURCES: OnceLock<Sources> = OnceLock::new();
        SOURCES.get_or_init(|| Self::find(&Roots::default(), Self::first_cpu()))
    }

    fn first_cpu() -> usize {
        let first = affinity::process_cpus().and_then(|cpus| cpus.first().copied());
        first.unwrap_or(0)
    }

    fn steal_ns(&self) -> Option<u64> {
        SystemTimes::parse(&text(&self.stat)?, ticks_per_second()).map(|times| times.steal_ns)
    }

    fn throttle_count(&self) -> Option<u64> {
        let counts: Option<Vec<u64>> = self.throttles.iter().map(|path| number(path)).collect();
        counts?.into_iter().reduce(u64::saturating_add)
    }

    fn frequency_khz(&self) -> Option<u64> {
        self.frequency.as_ref()?.khz()
    }

    /// The time of the process last, so that reading the rest is not charged to it.
    fn before(&self) -> Evidence {
        let machine = self.of_machine();
        Evidence {
            cpu: cpu_times(),
            ..machine
        }
    }

    /// The time of the process first.
    fn after(&self) -> Evidence {
        let cpu = cpu_times();
        Evidence {
            cpu,
            ..self.of_machine()
        }
    }

    /// Everything but the time of the process.
    fn of_machine(&self) -> Evidence {
        Evidence {
            cpu: CpuTimes::default(),
            steal_ns: self.steal_ns(),
            throttled_ns: self.throttled.read(),
            throttle_count: self.throttle_count(),
            frequency_khz: self.frequency_khz(),
            temperature_mc: self.thermometers.hottest_mc(),
        }
    }

    fn facts(&self) -> BTreeMap<&'static str, String> {
        let paths = |paths: &[PathBuf]| {
            let more = match paths.len() {
                0 | 1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            paths
                .first()
                .map(|path| format!("{}{more}", path.display()))
        };
        let fact = |found: Option<String>, reason: &str| {
            found.unwrap_or_else(|| format!("empty: {reason}"))
        };
        let frequency = self.frequency.as_ref().map(|source| match source {
            Frequency::Cpufreq(path) | Frequency::Cpuinfo(path, _) => path.display().to_string(),
        });
        BTreeMap::from([
            (
                "steal_ns",
                fact(
                    self.steal_ns().map(|_| self.stat.display().to_string()),
                    "/proc/stat does not tell it",
                ),
            ),
            (
                "throttled_ns",
                fact(
                    paths(self.throttled.paths()),
                    "no control group of ours counts throttled time",
                ),
            ),
            (
                "throttle_count",
                fact(
                    paths(&self.throttles),
                    "no CPU has thermal_throttle counters (virtual machines and AMD have none)",
                ),
            ),
            (
                "frequency_khz",
                fact(
                    frequency,
                    "there is no cpufreq, and without cycle counters /proc/cpuinfo shows a constant",
                ),
            ),
            (
                "temperature_mc",
                fact(
                    paths(self.thermometers.paths()),
                    "neither hwmon nor the thermal zones have a sensor of the processor",
                ),
            ),
        ])
    }
}

impl Frequency {
    fn khz(&self) -> Option<u64> {
        match self {
            Self::Cpufreq(path) => number(path).filter(|&khz| khz > 0),
            Self::Cpuinfo(path, cpu) => {
                let info = text(path)?;
                let block = cpuinfo::processor(&info, *cpu)?;
                cpuinfo::flags(block)
                    .any(|flag| flag == "aperfmperf")
                    .then_some(())?;
                let mhz: f64 = cpuinfo::field(block, "cpu MHz")?.parse().ok()?;
                (mhz.is_finite() && mhz > 0.0).then(|| (mhz * 1000.0).round() as u64)
            }
        }
    }
}

/// Time that the hypervisor took from all CPUs of this machine so far; `None` where it is not told. On a machine
/// that is not virtual it is 0.
pub fn steal_ns() -> Option<u64> {
    Sources::of_this_machine().steal_ns()
}

/// The present clock rate of the first CPU that this process may use.
///
/// From `cpufreq`, else from `/proc/cpuinfo` where the processor counts its cycles (`aperfmperf`). In most virtual
/// machines neither exists; what `/proc/cpuinfo` says there is a constant and no measurement, so it is `None`.
pub fn frequency_khz() -> Option<u64> {
    Sources::of_this_machine().frequency_khz()
}

/// How often a core or a package was slowed down for its temperature, all of them together, since the machine was
/// started; `None` where nobody counts (virtual machines, AMD).
pub fn throttle_count() -> Option<u64> {
    Sources::of_this_machine().throttle_count()
}

/// The load averages of the last 1, 5 and 15 minutes.
pub fn load_average() -> Option<[f64; 3]> {
    load(&Roots::default())
}

fn load(roots: &Roots) -> Option<[f64; 3]> {
    let line = text(&roots.proc.join("loadavg"))?;
    let mut words = line
        .split_ascii_whitespace()
        .map(|word| word.parse::<f64>().ok());
    let mut next = || words.next().flatten().filter(|load| load.is_finite());
    Some([next()?, next()?, next()?])
}

/// Everything that is recorded about a sample besides its time. Read once before and once after, outside of the
/// time: a reading takes some 20 to 100 microseconds (`examples/overhead.rs` tells).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Of this process.
    pub cpu: CpuTimes,
    /// Of the machine ([`steal_ns`]).
    pub steal_ns: Option<u64>,
    /// Of the control group ([`crate::Cgroup::throttled_ns`]).
    pub throttled_ns: Option<u64>,
    /// Of the machine ([`throttle_count`]).
    pub throttle_count: Option<u64>,
    /// The clock rate when this was read ([`frequency_khz`]).
    pub frequency_khz: Option<u64>,
    /// The hottest sensor of the processor when this was read, in 1/1000 degrees Celsius.
    pub temperature_mc: Option<i64>,
}

impl Evidence {
    /// The counters before a slice: the time of the process last, so that reading the rest is not charged to it.
    pub fn before() -> Self {
        Sources::of_this_machine().before()
    }

    /// The counters after a slice: the time of the process first.
    pub fn after() -> Self {
        Sources::of_this_machine().after()
    }

    /// Where each quantity comes from, or `empty: ` and the reason, by the names of the fields.
    pub fn facts() -> BTreeMap<&'static str, String> {
        Sources::of_this_machine().facts()
    }

    /// What was added since `earlier`; clock rate and temperature are the later ones. A counter that went back (it was
    /// reset, or the process moved to another group) is missing.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let added = |now: Option<u64>, then: Option<u64>| now?.checked_sub(then?);
        Self {
            cpu: self.cpu.since(&earlier.cpu),
            steal_ns: added(self.steal_ns, earlier.steal_ns),
            throttled_ns: added(self.throttled_ns, earlier.throttled_ns),
            throttle_count: added(self.throttle_count, earlier.throttle_count),
            frequency_khz: self.frequency_khz,
            temperature_mc: self.temperature_mc,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(roots: &Roots, path: &str, text: &str) {
        let path = roots.proc.parent().unwrap().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn frequency(roots: &Roots, cpu: usize) -> Option<u64> {
        Sources::find(roots, cpu).frequency_khz()
    }

    fn throttles(roots: &Roots) -> Option<u64> {
        Sources::find(roots, 0).throttle_count()
    }

    #[test]
    fn stat_is_read() {
        let stat = "cpu  2651 1 2461 437235 408 2 39 9 700 0\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 5\n";
        let times = SystemTimes::parse(stat, 100).unwrap();
        assert_eq!(times.steal_ns, 90_000_000);
        assert_eq!(times.busy_ns, (2651 + 1 + 2461 + 2 + 39) * 10_000_000);
        assert_eq!(times.idle_ns, (437_235 + 408) * 10_000_000);
        for bad in [
            "",
            "cpu 1 2 3 4 5 6 7\n",
            "cpu 1 2 3 4 5 6 7 x\n",
            "cpu0 1 2 3 4 5 6 7 8\n",
            "cpu 1 2 3 4 5 6 7 -8",
        ] {
            assert_eq!(SystemTimes::parse(bad, 100), None, "{bad}");
        }
        assert_eq!(
            SystemTimes::parse("cpu 18446744073709551615 1 1 1 1 1 1 1", 100),
            None
        );
    }

    #[test]
    fn frequency_is_measured_or_missing() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::under(dir.path());
        assert_eq!(frequency(&roots, 0), None);
        write(
            &roots,
            "proc/cpuinfo",
            "processor : 0\ncpu MHz : 2596.098\nflags : fpu hypervisor\n",
        );
        assert_eq!(frequency(&roots, 0), None, "a constant is no measurement");
        write(
            &roots,
            "proc/cpuinfo",
            "processor : 0\ncpu MHz : 800.0\nflags : aperfmperf\n\nprocessor : 1\ncpu MHz : 3456.789\nflags : fpu aperfmperf\n",
        );
        assert_eq!(frequency(&roots, 1), Some(3_456_789));
        assert_eq!(frequency(&roots, 2), None);
        write(
            &roots,
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq",
            "3400000\n",
        );
        assert_eq!(frequency(&roots, 1), Some(3_400_000));
    }

    #[test]
    fn throttles_are_added_up() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::under(dir.path());
        assert_eq!(throttles(&roots), None);
        write(&roots, "sys/devices/system/cpu/online", "0-1\n");
        assert_eq!(throttles(&roots), None);
        write(
            &roots,
            "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count",
            "3\n",
        );
        write(
            &roots,
            "sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count",
            "4\n",
        );
        assert_eq!(throttles(&roots), Some(7));
    }

    #[test]
    fn loads() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::under(dir.path());
        assert_eq!(load(&roots), None);
        write(&roots, "proc/loadavg", "0.25 1.00 12.5 1/123 4567\n");
        assert_eq!(load(&roots), Some([0.25, 1.0, 12.5]));
        write(&roots, "proc/loadavg", "0.25 nan 12.5\n");
        assert_eq!(load(&roots), None);
    }

    #[test]
    fn what_was_added() {
        let at = |n: u64| Evidence {
            cpu: CpuTimes {
                user_ns: n,
                involuntary_switches: 2 * n,
                ..CpuTimes::default()
            },
            steal_ns: Some(3 * n),
            throttled_ns: None,
            throttle_count: Some(100 - n),
            frequency_khz: Some(n),
            temperature_mc: Some(1000 * n as i64),
        };
        let added = at(9).since(&at(5));
        assert_eq!((added.cpu.user_ns, added.cpu.involuntary_switches), (4, 8));
        assert_eq!((added.steal_ns, added.throttled_ns), (Some(12), None));
        assert_eq!(added.throttle_count, None, "went back");
        assert_eq!(added.frequency_khz, Some(9));
        assert_eq!(added.temperature_mc, Some(9000));
    }

    #[test]
    fn work_costs_cpu_time() {
        let before = Evidence::before();
        let mut x = 1u64;
        while cpu_times().since(&before.cpu).user_ns + cpu_times().since(&before.cpu).system_ns
            < 2_000_000
        {
            for _ in 0..10_000 {
                x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
            }
        }
        let after = Evidence::after().since(&before);
        assert!(after.cpu.user_ns + after.cpu.system_ns >= 2_000_000);
        assert_eq!(after.steal_ns.is_some(), steal_ns().is_some());
    }

    #[test]
    fn facts_name_a_source_or_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::under(dir.path());
        let facts = Sources::find(&roots, 0).facts();
        assert_eq!(facts.len(), 5);
        for (name, fact) in &facts {
            assert!(fact.starts_with("empty: "), "{name}: {fact}");
        }
        write(&roots, "proc/stat", "cpu 1 2 3 4 5 6 7 8\n");
        write(&roots, "sys/class/hwmon/hwmon3/name", "k10temp\n");
        write(&roots, "sys/class/hwmon/hwmon3/temp1_input", "51250\n");
        let sources = Sources::find(&roots, 0);
        let facts = sources.facts();
        assert!(facts["steal_ns"].ends_with("proc/stat"));
        assert!(facts["temperature_mc"].ends_with("hwmon3/temp1_input"));
        assert_eq!(sources.of_machine().temperature_mc, Some(51_250));
        assert_eq!(sources.of_machine().throttle_count, None);
    }
}
