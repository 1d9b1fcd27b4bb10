//! How much of the processor other processes used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::roots::text;
use crate::sys::usage::ticks_per_second;
use crate::{Roots, SystemTimes};

/// CPU time of the machine and of our processes at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Load {
    busy_ns: u64,
    own_ns: u64,
    cpus: u64,
}

/// What other processes used between two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Others {
    /// As a share of the time, or of our CPU time where that is more: on a machine that we keep busy with many threads
    /// the same work of others matters less.
    pub(super) share: f64,
    /// What the ticks of the kernel's accounting leave open: one for each CPU.
    pub(super) resolution: f64,
}

impl Load {
    /// The load as files under `roots` tell; ours are the process `own` (`None`: this one) and all its descendants.
    pub(super) fn read(roots: &Roots, own: Option<u32>) -> Option<Self> {
        // By `self`, since a process has another number for each PID namespace that it is seen from.
        let own = match own {
            Some(own) => own,
            None => Process::parse(&text(&roots.proc.join("self/stat"))?)?.pid,
        };
        let processes = fs::read_dir(&roots.proc)
            .ok()?
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                name.to_str()?.parse::<u32>().ok()?;
                // A process that ended meanwhile: its time is that of its parent now.
                Process::parse(&text(&entry.path().join("stat"))?)
            });
        let processes: BTreeMap<u32, Process> =
            processes.map(|process| (process.pid, process)).collect();
        let mut family = BTreeSet::from([processes.get(&own)?.pid]);
        loop {
            let before = family.len();
            let children = processes.values().filter(|p| family.contains(&p.parent));
            family.extend(children.map(|p| p.pid).collect::<Vec<_>>());
            if family.len() == before {
                break;
            }
        }
        let own_ticks = family
            .iter()
            .filter_map(|pid| processes.get(pid))
            .fold(0u64, |sum, process| sum.saturating_add(process.ticks));
        let stat = text(&roots.proc.join("stat"))?;
        let is_cpu = |line: &&str| {
            line.strip_prefix("cpu")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        Some(Self {
            busy_ns: SystemTimes::read(roots)?.busy_ns,
            own_ns: own_ticks.checked_mul(1_000_000_000 / ticks_per_second())?,
            cpus: stat.lines().filter(is_cpu).count().max(1) as u64,
        })
    }

    /// What others used since `earlier`, `passed_ns` ago.
    pub(super) fn others_since(&self, earlier: &Self, passed_ns: u64) -> Option<Others> {
        let own_ns = self.own_ns.saturating_sub(earlier.own_ns);
        let busy_ns = self.busy_ns.checked_sub(earlier.busy_ns)?;
        let whole_ns = passed_ns.max(own_ns);
        if whole_ns == 0 {
            return None;
        }
        let tick_ns = 1_000_000_000 / ticks_per_second();
        Some(Others {
            share: busy_ns.saturating_sub(own_ns) as f64 / whole_ns as f64,
            resolution: (self.cpus * tick_ns) as f64 / whole_ns as f64,
        })
    }
}

/// A line of `/proc/PID/stat`, see proc(5).
struct Process {
    pid: u32,
    parent: u32,
    /// Its own time and that of its children that ended.
    ticks: u64,
}

impl Process {
    fn parse(stat: &str) -> Option<Self> {
        // The second field is the name in parentheses; it may contain anything.
        let (pid, rest) = stat.split_once(" (")?;
        let (_, rest) = rest.rsplit_once(") ")?;
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        // From the third field, the state, on: the parent is the 4th, and the 14th to 17th are user and system time of the
        // process and of its children.
        let ticks = words
            .get(11..15)?
            .iter()
            .try_fold(0u64, |sum, word| sum.checked_add(word.parse::<u64>().ok()?))?;
        Some(Self {
            pid: pid.trim().parse().ok()?,
            parent: words.get(1)?.parse().ok()?,
            ticks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Tree;
    use super::*;

    fn process(tree: Tree, dir: &str, pid: u32, parent: u32, ticks: u64) -> Tree {
        tree.file(
            format!("proc/{dir}/stat"),
            &format!(
                "{pid} (a) R (b) S {parent} 1 1 0 -1 4194560 9 9 0 0 {ticks} 1 2 3 20 0 1 0 77 1 1"
            ),
        )
    }

    fn family(busy: u64, own: u64) -> Tree {
        let tree = Tree::new().file(
            "proc/stat",
            &format!(
                "cpu {busy} 0 0 1000 0 0 0 0 0 0\ncpu0 1 0 0 0 0 0 0 0\ncpu1 1 0 0 0 0 0 0 0\n"
            ),
        );
        // Ours is 40, with a child 50 and a grandchild 7; 60 is somebody else.
        let tree = process(tree, "self", 40, 1, own);
        let tree = process(tree, "40", 40, 1, own);
        let tree = process(tree, "50", 50, 40, 100);
        let tree = process(tree, "7", 7, 50, 200);
        process(tree, "60", 60, 1, 5000)
    }

    #[test]
    fn our_processes_are_not_others() {
        let before = Load::read(&family(10_000, 10).roots, None).unwrap();
        let want = Load {
            busy_ns: 100_000_000_000,
            own_ns: (16 + 106 + 206) * 10_000_000,
            cpus: 2,
        };
        assert_eq!(before, want);
        // In 2 s: we 150 ticks, all 160.
        let after = Load::read(&family(10_160, 160).roots, Some(40)).unwrap();
        let others = after.others_since(&before, 2_000_000_000).unwrap();
        assert!((others.share - 0.05).abs() < 1e-12, "{others:?}");
        assert!((others.resolution - 0.01).abs() < 1e-12, "{others:?}");
        // In 1 s, with 1.5 s of CPU time: of that.
        let others = after.others_since(&before, 1_000_000_000).unwrap();
        assert!((others.share - 0.1 / 1.5).abs() < 1e-12, "{others:?}");
        // A child alone is ours when asked for.
        let child = Load::read(&family(10_160, 160).roots, Some(50)).unwrap();
        assert_eq!(child.own_ns, (106 + 206) * 10_000_000);
    }

    #[test]
    fn without_knowledge_there_is_no_share() {
        assert_eq!(Load::read(&Tree::new().roots, None), None);
        let tree = family(1, 1);
        assert_eq!(Load::read(&tree.roots, Some(99)), None, "no such process");
        let tree = tree.file("proc/stat", "cpu 1 2\n");
        assert_eq!(Load::read(&tree.roots, None), None);
        let load = Load::read(&family(100, 1).roots, None).unwrap();
        let later = Load::read(&family(90, 1).roots, None).unwrap();
        assert_eq!(later.others_since(&load, 10), None, "time went back");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_found() {
        let load = Load::read(&Roots::default(), None).unwrap();
        assert!(load.cpus > 0 && load.busy_ns > 0);
    }
}
