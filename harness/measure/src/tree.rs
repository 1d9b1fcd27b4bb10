//! A process and everything it started, watched from outside through `/proc`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::roots::text;
use crate::sys::usage::ticks_per_second;
use crate::{Clock, Memory, Pss, Roots};

/// More new process ids than this since the last look: looking through all processes costs less.
const NEW_IDS: u64 = 256;
/// What costs more than a few files is repeated only after this many times its own duration, so that it takes no more
/// than 0.05 % of a CPU: proportional sets, and switches of all threads.
const REST: u64 = 2000;
/// The same for looking for new processes, where others start many: 0.2 %.
const FINDING_REST: u64 = 500;
/// Proportional sets are not looked at more often than this.
const PSS_PAUSE_NS: u64 = 1_000_000_000;

/// When something costly may be done again.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    next_ns: u64,
}

impl Pace {
    fn is_due(self, now_ns: u64) -> bool {
        now_ns >= self.next_ns
    }

    /// It cost this much CPU time, and is over now.
    fn rest(&mut self, times: u64, cost_ns: u64, now_ns: u64, least_ns: u64) {
        let rest = cost_ns.saturating_mul(times).max(least_ns);
        self.next_ns = now_ns.saturating_add(rest);
    }
}

/// When it is, and what it costs.
#[derive(Clone, Copy)]
struct Clocks<'c> {
    wall: &'c dyn Clock,
    cpu_ns: &'c dyn Fn() -> u64,
}

/// What a tree of processes had and used when it was looked at. Amounts of several processes are added up; a page that
/// two of them map is in both, but for the proportional set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeSample {
    /// Processes that live.
    pub processes: u64,
    /// Their threads.
    pub threads: u64,
    /// Their resident sets; the peak is the largest of any one of them so far (`VmHWM`).
    pub memory: Memory,
    /// Their proportional sets, when it was time for a look.
    pub pss: Option<Pss>,
    /// CPU time so far in the program, of those that ended too; counted in ticks of usually 10 ms.
    pub user_ns: u64,
    /// The same in the kernel.
    pub system_ns: u64,
    /// Page faults so far that read nothing.
    pub minor_faults: u64,
    /// Page faults so far that had to read.
    pub major_faults: u64,
    /// Voluntary context switches of the threads that live, when it was time for a look.
    pub voluntary_switches: Option<u64>,
    /// Involuntary ones.
    pub involuntary_switches: Option<u64>,
}

/// A process and its descendants.
///
/// New processes are found by the last process id that the kernel gave away (`/proc/loadavg`): only when that moved, the
/// ids since then are looked at. Where others start hundreds of processes a second that takes long, and is done less
/// often: then a new process may be seen a second or two late, with all that it used until then. Who once belonged to the tree stays in it, whoever inherits it.
#[derive(Debug)]
pub struct ProcessTree {
    roots: Roots,
    /// Who inherits orphans of the tree: this process, where it asked for them.
    heir: u32,
    /// Process id and start, in ticks since the machine was started: the id alone may be given away again.
    members: BTreeMap<u32, u64>,
    last_id: Option<u64>,
    finding: Pace,
    switching: Pace,
    walking: Pace,
    /// What nobody shows any more: of orphans that ended.
    ended: Totals,
    /// The largest totals so far: what a process used goes to its parent only when that waits for it.
    largest: Totals,
    peak_rss_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    user_ns: u64,
    system_ns: u64,
    minor_faults: u64,
    major_faults: u64,
}

impl Totals {
    fn both(self, other: Self, join: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            user_ns: join(self.user_ns, other.user_ns),
            system_ns: join(self.system_ns, other.system_ns),
            minor_faults: join(self.minor_faults, other.minor_faults),
            major_faults: join(self.major_faults, other.major_faults),
        }
    }
}

/// What `/proc/<pid>/stat` says, see proc(5).
struct Stat {
    zombie: bool,
    parent: u32,
    start: u64,
    threads: u64,
    totals: Totals,
}

impl Stat {
    fn parse(stat: &str, ticks: u64) -> Option<Self> {
        // The name is in parentheses, and may have some itself.
        let (_, rest) = stat.rsplit_once(") ")?;
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Fields are numbered from 1 in the manual; the state, first after the name, is 3.
        let field = |number: usize| words.get(number - 3)?.parse::<u64>().ok();
        // The times of children that were waited for may be told as negative by broken kernels.
        let ns = |own: usize, children: usize| {
            field(own)?
                .checked_add(field(children)?)?
                .checked_mul(1_000_000_000 / ticks)
        };
        Some(Self {
            // It has ended, and its parent did not ask yet.
            zombie: words.first() == Some(&"Z"),
            parent: u32::try_from(field(4)?).ok()?,
            start: field(22)?,
            threads: field(20)?,
            totals: Totals {
                user_ns: ns(14, 16)?,
                system_ns: ns(15, 17)?,
                minor_faults: field(10)?.checked_add(field(11)?)?,
                major_faults: field(12)?.checked_add(field(13)?)?,
            },
        })
    }
}

impl ProcessTree {
    /// The tree under `root`; `heir` inherits its orphans, see [`crate::sys::child::Watched`].
    pub fn new(roots: Roots, root: u32, heir: u32) -> Self {
        let mut tree = Self {
            roots,
            heir,
            members: BTreeMap::new(),
            // Its descendants are younger: their ids were given away after its own.
            last_id: Some(u64::from(root)),
            finding: Pace::default(),
            switching: Pace::default(),
            walking: Pace::default(),
            ended: Totals::default(),
            largest: Totals::default(),
            peak_rss_bytes: None,
        };
        if let Some(stat) = tree.stat(root) {
            tree.members.insert(root, stat.start);
        }
        tree
    }

    /// What a process used that ended as a child of ours instead of its parent's: nobody in the tree shows it.
    pub fn orphan_ended(&mut self, used: &crate::CpuTimes) {
        let used = Totals {
            user_ns: used.user_ns,
            system_ns: used.system_ns,
            minor_faults: used.minor_faults,
            major_faults: used.major_faults,
        };
        self.ended = self.ended.both(used, u64::saturating_add);
    }

    /// Looks at all of them. `cpu_ns` tells the CPU time of this process ([`crate::cpu_ns`]): what costs much is done less
    /// often.
    pub fn sample(&mut self, wall: &dyn Clock, cpu_ns: &dyn Fn() -> u64) -> TreeSample {
        let clocks = Clocks { wall, cpu_ns };
        self.find_new(clocks);
        let mut sample = TreeSample::default();
        let mut totals = self.ended;
        let mut single = Some((0u64, 0u64));
        let mut members = Vec::with_capacity(self.members.len());
        let mut gone = Vec::new();
        for (&pid, &start) in &self.members {
            let Some(stat) = self.stat(pid).filter(|stat| stat.start == start) else {
                gone.push(pid);
                continue;
            };
            let status = text(&self.process(pid).join("status")).unwrap_or_default();
            let memory = Memory::parse(&status);
            sample.memory.rss_bytes = add(sample.memory.rss_bytes, memory.rss_bytes);
            sample.memory.rss_anon_bytes = add(sample.memory.rss_anon_bytes, memory.rss_anon_bytes);
            sample.memory.rss_file_bytes = add(sample.memory.rss_file_bytes, memory.rss_file_bytes);
            sample.memory.rss_shmem_bytes =
                add(sample.memory.rss_shmem_bytes, memory.rss_shmem_bytes);
            sample.memory.swap_bytes = add(sample.memory.swap_bytes, memory.swap_bytes);
            self.peak_rss_bytes = self.peak_rss_bytes.max(memory.peak_rss_bytes);
            totals = totals.both(stat.totals, u64::saturating_add);
            if stat.zombie {
                continue;
            }
            sample.processes += 1;
            sample.threads = sample.threads.saturating_add(stat.threads);
            // Its own status has the switches of the first thread.
            single = single
                .filter(|_| stat.threads == 1)
                .and_then(|sum| Some(sum_of(sum, switches_of(&status)?)));
            members.push(pid);
        }
        for pid in gone {
            self.members.remove(&pid);
        }
        self.largest = self.largest.both(totals, u64::max);
        sample.user_ns = self.largest.user_ns;
        sample.system_ns = self.largest.system_ns;
        sample.minor_faults = self.largest.minor_faults;
        sample.major_faults = self.largest.major_faults;
        if sample.processes > 0 {
            let switches = single.or_else(|| self.switches(&members, clocks));
            (sample.voluntary_switches, sample.involuntary_switches) = switches.unzip();
        }
        sample.memory.peak_rss_bytes = self.peak_rss_bytes;
        sample.pss = self.pss(&members, clocks);
        sample
    }

    fn process(&self, pid: u32) -> PathBuf {
        self.roots.proc.join(pid.to_string())
    }

    fn stat(&self, pid: u32) -> Option<Stat> {
        Stat::parse(&text(&self.process(pid).join("stat"))?, ticks_per_second())
    }

    /// The switches of all threads, when it is time.
    fn switches(&mut self, members: &[u32], clocks: Clocks<'_>) -> Option<(u64, u64)> {
        if !self.switching.is_due(clocks.wall.now_ns()) {
            return None;
        }
        let start = (clocks.cpu_ns)();
        let mut sum = None;
        for pid in members {
            let threads = std::fs::read_dir(self.process(*pid).join("task"));
            for entry in threads.into_iter().flatten() {
                // A thread that ended meanwhile takes its counts along.
                let status = entry
                    .ok()
                    .and_then(|entry| text(&entry.path().join("status")));
                if let Some(more) = status.and_then(|status| switches_of(&status)) {
                    sum = Some(sum_of(sum.unwrap_or_default(), more));
                }
            }
        }
        let cost = (clocks.cpu_ns)() - start;
        self.switching.rest(REST, cost, clocks.wall.now_ns(), 0);
        sum
    }

    /// The proportional sets, when it is time.
    fn pss(&mut self, members: &[u32], clocks: Clocks<'_>) -> Option<Pss> {
        if members.is_empty() || !self.walking.is_due(clocks.wall.now_ns()) {
            return None;
        }
        let start = (clocks.cpu_ns)();
        let mut sum = Pss::default();
        for pid in members {
            let pss = Pss::read(&self.roots, Some(*pid));
            sum.pss_bytes = add(sum.pss_bytes, pss.pss_bytes);
            sum.pss_anon_bytes = add(sum.pss_anon_bytes, pss.pss_anon_bytes);
            sum.pss_file_bytes = add(sum.pss_file_bytes, pss.pss_file_bytes);
            sum.anon_huge_bytes = add(sum.anon_huge_bytes, pss.anon_huge_bytes);
        }
        let cost = (clocks.cpu_ns)() - start;
        self.walking
            .rest(REST, cost, clocks.wall.now_ns(), PSS_PAUSE_NS);
        sum.pss_bytes.map(|_| sum)
    }

    /// Takes in whoever was started since the last look and descends from the tree.
    fn find_new(&mut self, clocks: Clocks<'_>) {
        if !self.finding.is_due(clocks.wall.now_ns()) {
            return;
        }
        let start = (clocks.cpu_ns)();
        self.look_for_new();
        let cost = (clocks.cpu_ns)() - start;
        self.finding
            .rest(FINDING_REST, cost, clocks.wall.now_ns(), 0);
    }

    fn look_for_new(&mut self) {
        // The last field of loadavg, see proc(5).
        let last = text(&self.roots.proc.join("loadavg"))
            .and_then(|line| line.split_ascii_whitespace().nth(4)?.parse::<u64>().ok());
        let before = std::mem::replace(&mut self.last_id, last);
        let ids: Vec<u32> = match (before, last) {
            (Some(before), Some(last)) if before == last => return,
            (Some(before), Some(last)) if before < last && last - before <= NEW_IDS => (before + 1
                ..=last)
                .filter_map(|id| u32::try_from(id).ok())
                .collect(),
            _ => self.all_ids(),
        };
        let mut candidates: Vec<(u32, Stat)> = ids
            .into_iter()
            .filter(|id| !self.members.contains_key(id))
            .filter_map(|id| Some((id, self.stat(id)?)))
            .collect();
        // Ids need not ascend from parent to child: until nobody joins any more.
        loop {
            let (joining, rest): (Vec<_>, Vec<_>) =
                candidates.into_iter().partition(|(_, stat)| {
                    stat.parent == self.heir || self.members.contains_key(&stat.parent)
                });
            if joining.is_empty() {
                return;
            }
            for (id, stat) in joining {
                // Threads have ids of the same kind, and say who they belong to.
                let status = text(&self.process(id).join("status")).unwrap_or_default();
                if field(&status, "Tgid") == Some(u64::from(id)) {
                    self.members.insert(id, stat.start);
                }
            }
            candidates = rest;
        }
    }

    fn all_ids(&self) -> Vec<u32> {
        let Ok(entries) = std::fs::read_dir(&self.roots.proc) else {
            return Vec::new();
        };
        let mut ids: Vec<u32> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        ids.sort_unstable();
        ids
    }
}

/// The sum of what is known.
fn add(sum: Option<u64>, more: Option<u64>) -> Option<u64> {
    match (sum, more) {
        (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
        (sum, more) => sum.or(more),
    }
}

/// Voluntary and involuntary switches of the thread that a status is about.
fn switches_of(status: &str) -> Option<(u64, u64)> {
    Some((
        field(status, "voluntary_ctxt_switches")?,
        field(status, "nonvoluntary_ctxt_switches")?,
    ))
}

fn sum_of(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    (a.0.saturating_add(b.0), a.1.saturating_add(b.1))
}

/// The number of a line such as `Tgid:   77`.
fn field(status: &str, name: &str) -> Option<u64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().parse().ok()
}
