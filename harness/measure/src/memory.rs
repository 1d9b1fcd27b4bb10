//! How much memory a process has, and of which kind.

use std::collections::BTreeMap;
use std::fs;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::Roots;
use crate::cgroup::MemoryPeak;
use crate::roots::text;

/// The resident set of a process, from `/proc/<pid>/status`. Every part may be missing: other systems, kernels
/// before 4.5 (the parts) and sandboxes do not have all of them.
///
/// The kernel keeps these counts a CPU and sums them up now and then, so they can be off by some dozens of pages a
/// CPU; [`pss`] is exact, and slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The largest resident set so far, since the start or the last [`reset_peak_rss`] (`VmHWM`).
    pub peak_rss_bytes: Option<u64>,
    /// The resident set now (`VmRSS`): the sum of the three below.
    pub rss_bytes: Option<u64>,
    /// Its anonymous part (`RssAnon`): heap, stacks, packed weights.
    pub rss_anon_bytes: Option<u64>,
    /// Its file-backed part (`RssFile`): mapped model files and the program itself. The page cache holds it
    /// anyway, and other processes may share it.
    pub rss_file_bytes: Option<u64>,
    /// Its shared-memory part (`RssShmem`).
    pub rss_shmem_bytes: Option<u64>,
    /// What was swapped out (`VmSwap`): a timed program should have none.
    pub swap_bytes: Option<u64>,
}

/// The memory of this process.
pub fn memory() -> Memory {
    Memory::read(&Roots::default(), None)
}

/// Memory of the machine that new allocations can take without swapping (`MemAvailable`). A control group may allow less.
pub fn available_bytes() -> Option<u64> {
    available_bytes_of(&Roots::default())
}

fn available_bytes_of(roots: &Roots) -> Option<u64> {
    kib_field(&text(&roots.proc.join("meminfo"))?, "MemAvailable")
}

impl Memory {
    /// The memory of the process `pid`, or of this one. All parts are missing when there is no such process.
    pub fn read(roots: &Roots, pid: Option<u32>) -> Self {
        text(&process(roots, pid).join("status"))
            .map_or_else(Self::default, |status| Self::parse(&status))
    }

    pub(crate) fn parse(status: &str) -> Self {
        Self {
            peak_rss_bytes: kib_field(status, "VmHWM"),
            rss_bytes: kib_field(status, "VmRSS"),
            rss_anon_bytes: kib_field(status, "RssAnon"),
            rss_file_bytes: kib_field(status, "RssFile"),
            rss_shmem_bytes: kib_field(status, "RssShmem"),
            swap_bytes: kib_field(status, "VmSwap"),
        }
    }
}

/// The proportional set size of a process: each page divided by the number of processes that map it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pss {
    /// All of it.
    pub pss_bytes: Option<u64>,
    /// The anonymous part.
    pub pss_anon_bytes: Option<u64>,
    /// The file-backed part.
    pub pss_file_bytes: Option<u64>,
    /// Anonymous memory on transparent huge pages (not divided: such pages are not shared).
    pub anon_huge_bytes: Option<u64>,
}

/// The proportional set size of this process. The kernel walks all page tables for it: milliseconds a gigabyte, so
/// never while something is timed.
pub fn pss() -> Pss {
    Pss::read(&Roots::default(), None)
}

impl Pss {
    /// The proportional set size of the process `pid`, or of this one.
    pub fn read(roots: &Roots, pid: Option<u32>) -> Self {
        text(&process(roots, pid).join("smaps_rollup"))
            .map_or_else(Self::default, |rollup| Self::parse(&rollup))
    }

    fn parse(rollup: &str) -> Self {
        Self {
            pss_bytes: kib_field(rollup, "Pss"),
            pss_anon_bytes: kib_field(rollup, "Pss_Anon"),
            pss_file_bytes: kib_field(rollup, "Pss_File"),
            anon_huge_bytes: kib_field(rollup, "AnonHugePages"),
        }
    }
}

/// The most memory that the control group of this process had at once ([`crate::Cgroup::memory_peak_bytes`]).
pub fn cgroup_peak_bytes() -> Option<u64> {
    static FILE: OnceLock<MemoryPeak> = OnceLock::new();
    FILE.get_or_init(|| MemoryPeak::find(&Roots::default()))
        .read()
}

/// The resident pages of a process by the NUMA node that they lie on, in bytes. The kernel walks all page tables for it,
/// as for [`pss`]. `None` where it does not tell.
pub fn numa_bytes(roots: &Roots, pid: Option<u32>) -> Option<BTreeMap<u32, u64>> {
    numa(&text(&process(roots, pid).join("numa_maps"))?)
}

/// Lines are `<address> <policy> <key>=<value> ...`, see proc(5), `numa_maps`: `N<node>=<pages>` of `kernelpagesize_kB`.
fn numa(maps: &str) -> Option<BTreeMap<u32, u64>> {
    let mut nodes = BTreeMap::new();
    for line in maps.lines() {
        let values = || {
            line.split_ascii_whitespace()
                .filter_map(|word| word.split_once('='))
        };
        let kib = values().find(|(key, _)| *key == "kernelpagesize_kB");
        // Lines of mappings without pages have no size.
        let Some(kib) = kib.and_then(|(_, kib)| kib.parse::<u64>().ok()) else {
            continue;
        };
        for (key, pages) in values() {
            let Some(Ok(node)) = key.strip_prefix('N').map(str::parse::<u32>) else {
                continue;
            };
            let bytes = pages
                .parse::<u64>()
                .ok()?
                .checked_mul(kib)?
                .checked_mul(1024)?;
            let sum = nodes.entry(node).or_insert(0u64);
            *sum = sum.checked_add(bytes)?;
        }
    }
    (!nodes.is_empty()).then_some(nodes)
}

/// Sets the peak of this process back to its present resident set. `false` where that is refused; then the peak
/// stays that of the whole life of the process, and no shorter period has one.
pub fn reset_peak_rss() -> bool {
    reset_peak(&Roots::default())
}

fn reset_peak(roots: &Roots) -> bool {
    // 5 resets VmHWM, see proc(5), `clear_refs`; since Linux 4.0. The file must exist: nothing is created.
    let file = fs::OpenOptions::new()
        .write(true)
        .open(process(roots, None).join("clear_refs"));
    file.and_then(|mut file| std::io::Write::write_all(&mut file, b"5"))
        .is_ok()
}

fn process(roots: &Roots, pid: Option<u32>) -> std::path::PathBuf {
    roots
        .proc
        .join(pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string()))
}

/// The bytes of a line such as `VmHWM:     1760 kB`.
pub(crate) fn kib_field(text: &str, name: &str) -> Option<u64> {
    let mut words = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?
        .split_ascii_whitespace();
    let amount: u64 = words.next()?.parse().ok()?;
    (words.next()? == "kB").then_some(amount.checked_mul(1024)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tVmHWM: 7 kB\nVmPeak:\t    9999 kB\nVmHWM:\t    1760 kB\nVmRSS:\t    1700 kB\n\
        RssAnon:\t     112 kB\nRssFile:\t    1584 kB\nRssShmem:\t       4 kB\nVmSwap:\t       0 kB\nThreads:\t1\n";

    #[test]
    fn status_is_read() {
        let memory = Memory::parse(STATUS);
        assert_eq!(memory.peak_rss_bytes, Some(1760 << 10));
        assert_eq!(memory.rss_bytes, Some(1700 << 10));
        assert_eq!(memory.rss_anon_bytes, Some(112 << 10));
        assert_eq!(memory.rss_file_bytes, Some(1584 << 10));
        assert_eq!(memory.rss_shmem_bytes, Some(4 << 10));
        assert_eq!(memory.swap_bytes, Some(0));
    }

    #[test]
    fn what_is_missing_or_malformed_is_none() {
        assert_eq!(Memory::parse(""), Memory::default());
        for line in [
            "VmHWM:",
            "VmHWM: x kB",
            "VmHWM: 5",
            "VmHWM: 5 MB",
            "VmHWM: -5 kB",
            "VmHWMX: 5 kB",
        ] {
            assert_eq!(Memory::parse(line), Memory::default(), "{line}");
        }
        // More kilobytes than there are bytes.
        assert_eq!(
            Memory::parse("VmHWM: 18446744073709551615 kB"),
            Memory::default()
        );
    }

    #[test]
    fn rollup_is_read() {
        let pss = Pss::parse(
            "55bee6d41000-7ffcbc01e000 ---p 00000000 00:00 0   [rollup]\nRss:    1764 kB\nPss:     381 kB\n\
             Pss_Dirty:   112 kB\nPss_Anon:    112 kB\nPss_File:    269 kB\nAnonHugePages:  2048 kB\n",
        );
        assert_eq!(pss.pss_bytes, Some(381 << 10));
        assert_eq!(pss.pss_anon_bytes, Some(112 << 10));
        assert_eq!(pss.pss_file_bytes, Some(269 << 10));
        assert_eq!(pss.anon_huge_bytes, Some(2 << 20));
    }

    #[test]
    fn pages_are_added_up_by_node() {
        let maps = "55bc2f8ca000 default file=/usr/bin/cat mapped=2 N0=2 kernelpagesize_kB=4\n\
                    7f0000000000 default anon=3 dirty=3 N0=1 N1=2 kernelpagesize_kB=2048\n\
                    7ffd00000000 default stack\n";
        let nodes = numa(maps).unwrap();
        assert_eq!(nodes[&0], (2 * 4 + 2048) << 10);
        assert_eq!(nodes[&1], (2 * 2048) << 10);
        assert_eq!(numa(""), None);
        assert_eq!(numa("1 default N0=x kernelpagesize_kB=4"), None);
        assert_eq!(
            numa("1 default N0=18446744073709551615 kernelpagesize_kB=4"),
            None
        );
        assert_eq!(numa("1 default Nx=5 kernelpagesize_kB=4"), None);
    }

    #[test]
    fn other_roots_and_processes() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::under(dir.path());
        assert_eq!(Memory::read(&roots, None), Memory::default());
        assert!(!reset_peak(&roots));
        fs::create_dir_all(roots.proc.join("77")).unwrap();
        fs::create_dir_all(roots.proc.join("self")).unwrap();
        fs::write(roots.proc.join("77/status"), STATUS).unwrap();
        assert_eq!(Memory::read(&roots, Some(77)).rss_bytes, Some(1700 << 10));
        // Nothing is created where the file does not exist.
        assert!(!reset_peak(&roots));
        fs::write(roots.proc.join("self/clear_refs"), "").unwrap();
        assert!(reset_peak(&roots));
        assert_eq!(
            fs::read_to_string(roots.proc.join("self/clear_refs")).unwrap(),
            "5"
        );
    }
}
