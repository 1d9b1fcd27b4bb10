//! Properties that hold for every input: splits cover, and whatever the system's files say, reading them ends in facts or in
//! nothing.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use trit_measure::energy::{self, EnergyStatus, Meter, MeterOptions};
use trit_measure::{Cgroup, FakeClock, Machine, Memory, Pss, Roots, SystemTimes, share};

/// Files that are read, relative to the root of the tree.
const FILES: &[&str] = &[
    "proc/self/status",
    "proc/self/smaps_rollup",
    "proc/self/cgroup",
    "proc/self/mountinfo",
    "proc/stat",
    "proc/cpuinfo",
    "sys/fs/cgroup/cpu.max",
    "sys/fs/cgroup/cpu.stat",
    "sys/fs/cgroup/memory.max",
    "sys/devices/system/cpu/online",
    "sys/devices/system/cpu/smt/active",
    "sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
    "sys/devices/system/cpu/cpu0/topology/physical_package_id",
    "sys/devices/system/cpu/cpu0/cache/index0/level",
    "sys/devices/system/cpu/cpu0/cache/index0/type",
    "sys/devices/system/cpu/cpu0/cache/index0/size",
    "sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list",
    "sys/devices/system/node/has_memory",
    "sys/kernel/mm/transparent_hugepage/enabled",
    "sys/class/powercap/intel-rapl:0/name",
    "sys/class/powercap/intel-rapl:0/energy_uj",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj",
    "sys/class/hwmon/hwmon0/name",
    "sys/class/hwmon/hwmon0/energy1_label",
    "sys/class/hwmon/hwmon0/energy1_input",
    "sys/class/hwmon/hwmon0/power1_input",
];

/// Something like what stands in such files, or anything else.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        "[0-9]{1,25}",
        "-?[0-9]{1,6}( [0-9a-z.-]{1,9}){0,9}",
        "[0-9,-]{1,30}",
        "(VmHWM|RssAnon|Pss|VmRSS):[ \t]*[0-9]{1,22} (kB|MB)",
        "cpu ( [0-9]{1,20}){0,11}",
        "(0|3|9):(cpu|memory|):/[a-z./]{0,12}",
        "(processor|flags|model|cpu MHz|CPU part)[ \t]*:[ \ta-z0-9x.]{0,20}",
        "(throttled_usec|throttled_time) [0-9]{1,21}",
        "(package-[0-9]{1,12}(-die-[0-9]{0,12})?|psys|dram|max|always \\[madvise\\]|[0-9]{1,22}[KMG])",
        "(amd_energy|fam15h_power|E(socket|core)[0-9]{1,12})",
        "\\PC{0,20}",
    ];
    prop_oneof![
        9 => prop::collection::vec(line, 0..4).prop_map(|lines| lines.join("\n").into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..60),
    ]
}

/// The same cases in every run.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(0x7472_6974),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn shares_are_in_order_and_cover_everything(
        len in prop_oneof![0usize..5000, any::<usize>()],
        step in 1usize..300,
        threads in 1usize..40,
    ) {
        let mut next = 0;
        for thread in 0..threads {
            let range = share(len, step, thread, threads);
            prop_assert_eq!(range.start, next);
            prop_assert!(range.end >= range.start);
            prop_assert!(range.end == len || range.end.is_multiple_of(step));
            next = range.end;
        }
        prop_assert_eq!(next, len);
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn files_of_any_content_are_read(contents in prop::collection::vec(content(), FILES.len())) {
        let dir = tempfile::tempdir()?;
        for (file, content) in FILES.iter().zip(&contents) {
            let path = dir.path().join(file);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(path, content)?;
        }
        let roots = Roots::under(dir.path());
        let machine = Machine::read(&roots);
        prop_assert_eq!(machine.fingerprint().len(), 12);
        prop_assert!(!machine.summary().is_empty());
        let group = Cgroup::read(&roots);
        prop_assert!(group.cpu_quota.is_none_or(|quota| quota > 0.0 && quota.is_finite()));
        let memory = Memory::read(&roots, None);
        prop_assert!(memory.rss_bytes.is_none_or(|bytes| bytes.is_multiple_of(1024)));
        let _ = (Pss::read(&roots, None), SystemTimes::read(&roots));
        let probe = energy::probe(&roots);
        prop_assert_eq!(probe.status == EnergyStatus::Ok, probe.source.is_some());
        prop_assert!(!probe.reason.is_empty());
        prop_assert_eq!(probe.status == EnergyStatus::Ok, probe.remedy.is_none());
    }
}

/// What the domains of one package use, in microjoules: cores, the rest of it, memory.
fn package() -> impl Strategy<Value = (u64, u64, u64)> {
    (1u64..60_000_000, 0u64..40_000_000, 0u64..20_000_000)
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn the_headline_is_the_packages_and_fits_into_the_platform(
        packages in prop::collection::vec(package(), 1..5),
        rest in 0u64..50_000_000,
        starts in prop::collection::vec(0u64..262_143_328_850, 17),
        psys_first in any::<bool>(),
        twice in any::<bool>(),
    ) {
        const RANGE: u64 = 262_143_328_850;
        let dir = tempfile::tempdir()?;
        let class = dir.path().join("sys/class/powercap");
        let mut next_start = starts.iter().copied();
        let mut counters = Vec::new();
        let mut add = |id: String, name: &str, used: u64| -> std::io::Result<()> {
            let zone = class.join(id);
            let start = next_start.next().unwrap_or(0);
            std::fs::create_dir_all(&zone)?;
            std::fs::write(zone.join("name"), name)?;
            std::fs::write(zone.join("energy_uj"), start.to_string())?;
            std::fs::write(zone.join("max_energy_range_uj"), RANGE.to_string())?;
            counters.push((zone.join("energy_uj"), (start + used) % RANGE));
            Ok(())
        };
        let of_package = |&(core, uncore, _): &(u64, u64, u64)| core + uncore;
        let headline: u64 = packages.iter().map(of_package).sum();
        let dram: u64 = packages.iter().map(|used| used.2).sum();
        let platform = headline + dram + rest;
        let psys = if psys_first { 0 } else { packages.len() };
        add(format!("intel-rapl:{psys}"), "psys", platform)?;
        for (n, used) in packages.iter().enumerate() {
            let id = n + usize::from(psys_first);
            add(format!("intel-rapl:{id}"), &format!("package-{n}"), of_package(used))?;
            add(format!("intel-rapl:{id}:0"), "core", used.0)?;
            add(format!("intel-rapl:{id}:1"), "dram", used.2)?;
        }
        if twice {
            add("intel-rapl-mmio:0".to_owned(), "package-0", of_package(&packages[0]))?;
        }
        let clock = std::sync::Arc::new(FakeClock::new(0));
        let options = MeterOptions {
            clock: std::sync::Arc::clone(&clock) as std::sync::Arc<dyn trit_measure::Clock>,
            busy_probe: false,
            ..MeterOptions::default()
        };
        let mut meter = Meter::open(&Roots::under(dir.path()), &options)
            .map_err(|probe| TestCaseError::fail(probe.reason))?;
        meter.begin();
        for (path, end) in counters {
            std::fs::write(path, end.to_string())?;
        }
        clock.advance(1_000_000_000);
        let energy = meter.end();
        prop_assert_eq!(energy.status, EnergyStatus::Ok, "{:?}", energy);
        prop_assert_eq!(energy.package_uj, Some(headline));
        prop_assert_eq!(energy.dram_uj, Some(dram));
        prop_assert_eq!(energy.psys_uj, Some(platform));
        prop_assert!(energy.package_uj <= energy.psys_uj);
    }
}
