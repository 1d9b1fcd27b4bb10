//! Properties that hold for every input: splits cover, columns are disjoint, and whatever the system's files say,
//! reading them ends in facts or in nothing.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use trit_measure::energy::{self, EnergyStatus};
use trit_measure::{Cgroup, Machine, Memory, Pss, Roots, SystemTimes, columns, share};

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

    #[test]
    fn columns_are_written_where_they_belong(
        rows in 0usize..6,
        cuts in prop::collection::vec(0usize..40, 2..8),
        extra in 0usize..5,
        swap in any::<bool>(),
    ) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        let width = cuts[cuts.len() - 1] + extra;
        let mut shares: Vec<_> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
        if swap {
            shares.reverse();
        }
        let mut data = vec![usize::MAX; rows * width];
        for (i, part) in columns(&mut data, width, &shares).iter_mut().enumerate() {
            for row in 0..part.rows() {
                part.row_mut(row).fill(i);
            }
        }
        for (at, &value) in data.iter().enumerate() {
            let owner = shares.iter().position(|share| share.contains(&(at % width)));
            prop_assert_eq!(value, owner.unwrap_or(usize::MAX));
        }
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
