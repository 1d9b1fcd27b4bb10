//! The tree of a process in made-up `/proc` trees, and in the real one.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs;
use std::path::PathBuf;

use trit_measure::{Clock, CpuTimes, FakeClock, MonotonicClock, ProcessTree, Roots, cpu_ns};

/// A `/proc` that tests write.
struct Proc {
    dir: tempfile::TempDir,
}

/// A process of it.
#[derive(Clone, Copy)]
struct Fake {
    pid: u32,
    parent: u32,
    start: u64,
    ticks: u64,
    faults: u64,
    rss_kib: u64,
}

impl Proc {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("proc")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("proc").join(name)
    }

    fn last_id(&self, id: u32) {
        fs::write(self.path("loadavg"), format!("0.1 0.2 0.3 1/99 {id}\n")).unwrap();
    }

    fn put(&self, fake: Fake) {
        let Fake {
            pid,
            parent,
            start,
            ticks,
            faults,
            rss_kib,
        } = fake;
        let dir = self.path(&pid.to_string());
        fs::create_dir_all(&dir).unwrap();
        // A name with everything that a careless parser trips over.
        let stat = format!(
            "{pid} (a) b (c) S {parent} 1 1 0 -1 4194304 {faults} 1 2 0 {ticks} 1 2 1 20 0 1 0 {start} 99 9 0\n"
        );
        fs::write(dir.join("stat"), stat).unwrap();
        let status = format!(
            "Name:\tx\nTgid:\t{pid}\nVmHWM:\t{} kB\nVmRSS:\t{rss_kib} kB\nRssAnon:\t{rss_kib} kB\nRssFile:\t0 kB\n\
             RssShmem:\t0 kB\nvoluntary_ctxt_switches:\t{ticks}\nnonvoluntary_ctxt_switches:\t3\n",
            2 * rss_kib
        );
        fs::write(dir.join("status"), status).unwrap();
    }

    fn remove(&self, pid: u32) {
        fs::remove_dir_all(self.path(&pid.to_string())).unwrap();
    }

    fn tree(&self, root: u32) -> ProcessTree {
        ProcessTree::new(Roots::under(self.dir.path()), root, 7)
    }
}

const ROOT: Fake = Fake {
    pid: 100,
    parent: 7,
    start: 1000,
    ticks: 10,
    faults: 5,
    rss_kib: 1000,
};
/// What the fixed children's times in `stat` add to each process: 2 + 1 ticks of 10 ms.
const CHILD_USER_NS: u64 = 20_000_000;

#[test]
fn descendants_are_added_up_and_strangers_are_not() {
    let proc = Proc::new();
    proc.last_id(50);
    proc.put(ROOT);
    let child = |pid, parent| Fake {
        pid,
        parent,
        ..ROOT
    };
    proc.put(child(101, 100));
    proc.put(child(102, 101));
    proc.put(child(103, 1));
    // A child of ours with a lower id than its parent, after ids began again.
    proc.put(child(50, 102));
    // A thread has a directory as well, and says whose it is.
    proc.put(child(104, 100));
    let status = fs::read_to_string(proc.path("104/status")).unwrap();
    fs::write(
        proc.path("104/status"),
        status.replace("Tgid:\t104", "Tgid:\t100"),
    )
    .unwrap();

    let clock = FakeClock::new(0);
    let mut tree = proc.tree(100);
    let sample = tree.sample(&clock, &|| clock.now_ns());
    assert_eq!((sample.processes, sample.threads), (4, 4));
    assert_eq!(sample.memory.rss_bytes, Some(4000 << 10));
    assert_eq!(sample.memory.peak_rss_bytes, Some(2000 << 10), "of one");
    assert_eq!(sample.user_ns, 4 * (100_000_000 + CHILD_USER_NS));
    assert_eq!(sample.minor_faults, 4 * 6);
    assert_eq!(sample.voluntary_switches, Some(40));
    assert_eq!(sample.pss, None, "there is no smaps_rollup");
}

#[test]
fn new_processes_are_found_when_the_last_id_moves() {
    let proc = Proc::new();
    proc.last_id(100);
    proc.put(ROOT);
    let clock = FakeClock::new(0);
    let mut tree = proc.tree(100);
    assert_eq!(tree.sample(&clock, &|| clock.now_ns()).processes, 1);
    let child = Fake {
        pid: 110,
        parent: 100,
        ..ROOT
    };
    proc.put(child);
    assert_eq!(
        tree.sample(&clock, &|| clock.now_ns()).processes,
        1,
        "no id was given away"
    );
    proc.last_id(111);
    assert_eq!(tree.sample(&clock, &|| clock.now_ns()).processes, 2);
    // Its parent ended, and its own child was inherited by whoever asked for orphans.
    proc.put(Fake {
        pid: 112,
        parent: 7,
        ..ROOT
    });
    proc.put(Fake { parent: 1, ..child });
    proc.last_id(112);
    assert_eq!(
        tree.sample(&clock, &|| clock.now_ns()).processes,
        3,
        "who belongs to us stays"
    );
    // Ids began again: everybody is looked at.
    proc.put(Fake {
        pid: 3,
        parent: 110,
        ..ROOT
    });
    proc.last_id(3);
    assert_eq!(tree.sample(&clock, &|| clock.now_ns()).processes, 4);
}

#[test]
fn an_id_that_was_given_away_again_is_a_stranger() {
    let proc = Proc::new();
    proc.last_id(101);
    proc.put(ROOT);
    let child = Fake {
        pid: 101,
        parent: 100,
        ..ROOT
    };
    proc.put(child);
    let clock = FakeClock::new(0);
    let mut tree = proc.tree(100);
    assert_eq!(tree.sample(&clock, &|| clock.now_ns()).processes, 2);
    proc.put(Fake {
        parent: 1,
        start: 5000,
        ..child
    });
    assert_eq!(tree.sample(&clock, &|| clock.now_ns()).processes, 1);
}

#[test]
fn times_never_go_back_and_orphans_count() {
    let proc = Proc::new();
    proc.last_id(101);
    proc.put(ROOT);
    proc.put(Fake {
        pid: 101,
        parent: 100,
        ticks: 500,
        ..ROOT
    });
    let clock = FakeClock::new(0);
    let mut tree = proc.tree(100);
    let before = tree.sample(&clock, &|| clock.now_ns());
    assert_eq!(before.user_ns, 5_100_000_000 + 2 * CHILD_USER_NS);
    // It ends and nobody has its times; then whoever inherited it says so.
    proc.remove(101);
    let after = tree.sample(&clock, &|| clock.now_ns());
    assert_eq!((after.processes, after.user_ns), (1, before.user_ns));
    assert_eq!(after.memory.peak_rss_bytes, before.memory.peak_rss_bytes);
    tree.orphan_ended(&CpuTimes {
        user_ns: 6_000_000_000,
        ..CpuTimes::default()
    });
    let told = tree.sample(&clock, &|| clock.now_ns());
    assert_eq!(told.user_ns, 6_000_000_000 + 100_000_000 + CHILD_USER_NS);
    proc.remove(100);
    let gone = tree.sample(&clock, &|| clock.now_ns());
    assert_eq!((gone.processes, gone.memory.rss_bytes), (0, None));
    assert_eq!(gone.voluntary_switches, None);
    assert_eq!(gone.user_ns, told.user_ns);
}

#[test]
fn walks_rest_as_long_as_they_cost() {
    let proc = Proc::new();
    proc.last_id(100);
    proc.put(ROOT);
    fs::write(
        proc.path("100/smaps_rollup"),
        "0-1 ---p 0 0:0 0 [rollup]\nPss: 300 kB\nPss_Anon: 300 kB\nAnonHugePages: 128 kB\n",
    )
    .unwrap();
    // Every reading of the clock takes a millisecond: so does a walk.
    let clock = FakeClock::stepping(0, 1_000_000);
    let mut tree = proc.tree(100);
    let pss = tree.sample(&clock, &|| clock.now_ns()).pss.unwrap();
    assert_eq!(pss.pss_bytes, Some(300 << 10));
    assert_eq!(pss.anon_huge_bytes, Some(128 << 10));
    assert_eq!(tree.sample(&clock, &|| clock.now_ns()).pss, None);
    clock.advance(1_900_000_000);
    assert_eq!(
        tree.sample(&clock, &|| clock.now_ns()).pss,
        None,
        "2000 times a millisecond"
    );
    clock.advance(100_000_000);
    assert!(tree.sample(&clock, &|| clock.now_ns()).pss.is_some());
}

#[test]
fn broken_files_are_no_processes() {
    let proc = Proc::new();
    proc.put(ROOT);
    for stat in [
        "",
        "100",
        "100 (x S 7",
        "100 (x) S 7 1 1",
        "100 (x) S 7 1 1 0 -1 0 1 1 1 1 x 1 1 1 20 0 1 0 1000 9 9",
        "100 (x) S -7 1 1 0 -1 0 1 1 1 1 1 1 1 1 20 0 1 0 1000 9 9",
        "100 (x) S 7 1 1 0 -1 0 1 1 1 1 18446744073709551615 1 1 1 20 0 1 0 1000 9 9",
    ] {
        fs::write(proc.path("100/stat"), stat).unwrap();
        let sample = proc.tree(100).sample(&FakeClock::new(0), &|| 0);
        assert_eq!(sample.processes, 0, "{stat}");
    }
}

#[test]
fn this_process_is_seen() {
    let own = std::process::id();
    let mut tree = ProcessTree::new(Roots::default(), own, own);
    let sample = tree.sample(&MonotonicClock, &cpu_ns);
    assert!(sample.processes >= 1 && sample.threads >= 1);
    assert!(sample.memory.rss_bytes.unwrap() > 0);
    assert!(sample.minor_faults > 0);
}
