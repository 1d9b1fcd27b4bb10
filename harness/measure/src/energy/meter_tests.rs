//! Windows over meters made of files, with a clock that the test moves: each case that is known to go wrong has a name here.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::powercap::{Files, System};
use super::tests::Tree;
use super::*;
use crate::{Clock, FakeClock};

pub(super) const SECOND: u64 = 1_000_000_000;
const MAX: u64 = 262_143_328_850;

/// No busy probe: nothing moves here but what a test moves.
pub(super) fn options(clock: &Arc<FakeClock>) -> MeterOptions {
    MeterOptions {
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        busy_probe: false,
        ..MeterOptions::default()
    }
}

pub(super) struct Bench {
    pub(super) tree: Tree,
    pub(super) clock: Arc<FakeClock>,
    pub(super) meter: Meter,
}

impl Bench {
    pub(super) fn new(tree: Tree) -> Self {
        let clock = Arc::new(FakeClock::new(5));
        let meter = Meter::open(&tree.roots, &options(&clock)).unwrap();
        Self { tree, clock, meter }
    }

    /// Top-level zones of these names, all at 1 J.
    pub(super) fn of(names: &[&str]) -> Self {
        let mut tree = Tree::new();
        for (i, name) in names.iter().enumerate() {
            tree = tree.zone(&format!("intel-rapl:{i}"), name, "1000000");
        }
        Self::new(tree)
    }

    pub(super) fn set(&self, id: &str, energy: impl ToString + Copy) {
        self.tree.set(id, energy);
    }

    pub(super) fn end_after(&mut self, ns: u64) -> Energy {
        self.clock.advance(ns);
        self.meter.end()
    }

    /// A window of a second at whose end the zones show these values.
    fn window(&mut self, ends: &[(&str, u64)]) -> Energy {
        self.meter.begin();
        for (id, energy) in ends {
            self.set(id, *energy);
        }
        self.end_after(SECOND)
    }
}

fn amounts(energy: &Energy) -> [Option<u64>; 3] {
    [energy.package_uj, energy.dram_uj, energy.psys_uj]
}

#[test]
fn one_package() {
    let energy = Bench::of(&["package-0"]).window(&[("intel-rapl:0", 31_000_000)]);
    let want = Energy {
        source: "powercap".to_owned(),
        window_ns: SECOND,
        start_unix_ns: 1_700_000_000_000_000_005,
        end_unix_ns: 1_700_000_001_000_000_005,
        package_uj: Some(30_000_000),
        domains: vec![DomainEnergy {
            name: "package-0".to_owned(),
            kind: DomainKind::Package,
            energy_uj: Some(30_000_000),
        }],
        ..Energy::without(EnergyStatus::Ok, "")
    };
    assert_eq!(energy, want);
    assert!((energy.package_watts().unwrap() - 30.0).abs() < 1e-9);
}

#[test]
fn two_sockets_add_up() {
    let mut bench = Bench::of(&["package-0", "package-1"]);
    let energy = bench.window(&[("intel-rapl:0", 31_000_000), ("intel-rapl:1", 21_000_000)]);
    assert_eq!(amounts(&energy), [Some(50_000_000), None, None]);
}

#[test]
fn parts_of_a_package_are_not_added_and_memory_is_apart() {
    let tree = Tree::new()
        .zone("intel-rapl:0", "package-0", "1000000")
        .zone("intel-rapl:0:0", "core", "10")
        .zone("intel-rapl:0:1", "uncore", "0")
        .zone("intel-rapl:0:2", "dram", "70");
    let energy = Bench::new(tree).window(&[
        ("intel-rapl:0", 31_000_000),
        ("intel-rapl:0:0", 20_000_010),
        ("intel-rapl:0:1", 5_000_000),
        ("intel-rapl:0:2", 2_000_070),
    ]);
    assert_eq!(amounts(&energy), [Some(30_000_000), Some(2_000_000), None]);
    let parts: Vec<_> = energy
        .domains
        .iter()
        .map(|d| d.energy_uj.unwrap())
        .collect();
    assert_eq!(parts, [30_000_000, 20_000_000, 5_000_000, 2_000_000]);
}

#[test]
fn psys_beside_one_package_is_not_added() {
    let mut bench = Bench::of(&["package-0", "psys"]);
    let energy = bench.window(&[("intel-rapl:0", 31_000_000), ("intel-rapl:1", 61_000_000)]);
    assert_eq!(amounts(&energy), [Some(30_000_000), None, Some(60_000_000)]);
}

#[test]
fn psys_beside_two_packages_is_not_added() {
    let mut bench = Bench::of(&["package-0", "package-1", "psys"]);
    let ends = [
        ("intel-rapl:0", 31_000_000),
        ("intel-rapl:1", 41_000_000),
        ("intel-rapl:2", 91_000_000),
    ];
    let energy = bench.window(&ends);
    assert_eq!(amounts(&energy), [Some(70_000_000), None, Some(90_000_000)]);
}

#[test]
fn psys_below_its_packages_is_not_believed() {
    let mut bench = Bench::of(&["package-0", "psys"]);
    let energy = bench.window(&[("intel-rapl:0", 31_000_000), ("intel-rapl:1", 11_000_000)]);
    assert_eq!(amounts(&energy), [Some(30_000_000), None, None]);
    assert!(
        energy.notes[0].contains("not believed"),
        "{:?}",
        energy.notes
    );
}

#[test]
fn mirrored_dies_count_once() {
    let mut bench = Bench::of(&["package-0-die-0", "package-0-die-1"]);
    let energy = bench.window(&[("intel-rapl:0", 69_000_000), ("intel-rapl:1", 69_030_000)]);
    assert_eq!(energy.package_uj, Some(68_030_000));
    assert!(energy.mirrored_dies);
    // Once found it stays.
    let energy = bench.window(&[("intel-rapl:0", 69_000_050), ("intel-rapl:1", 69_030_060)]);
    assert_eq!((energy.package_uj, energy.mirrored_dies), (Some(60), true));
    // Until it is plain that they are two: then neither value is right.
    let energy = bench.window(&[("intel-rapl:0", 79_000_050), ("intel-rapl:1", 99_030_060)]);
    assert_eq!(
        (energy.status, energy.package_uj),
        (EnergyStatus::Implausible, None)
    );
    let energy = bench.window(&[("intel-rapl:0", 80_000_050), ("intel-rapl:1", 101_030_060)]);
    assert_eq!(
        (energy.package_uj, energy.mirrored_dies),
        (Some(3_000_000), false)
    );
}

#[test]
fn distinct_dies_add_up() {
    let mut bench = Bench::of(&["package-0-die-0", "package-0-die-1"]);
    let energy = bench.window(&[("intel-rapl:0", 69_000_000), ("intel-rapl:1", 41_000_000)]);
    assert_eq!(energy.package_uj, Some(108_000_000));
    assert!(!energy.mirrored_dies);
    // It stays, when both happen to use the same.
    let energy = bench.window(&[("intel-rapl:0", 70_000_000), ("intel-rapl:1", 42_000_000)]);
    assert_eq!(energy.package_uj, Some(2_000_000));
}

#[test]
fn the_second_view_of_a_package_is_not_added() {
    let tree = Tree::new()
        .zone("intel-rapl:0", "package-0", "1000000")
        .zone("intel-rapl:0:0", "dram", "1000000")
        .zone("intel-rapl-mmio:0", "package-0", "1000000")
        .zone("intel-rapl-mmio:0:0", "dram", "1000000");
    let energy = Bench::new(tree).window(&[
        ("intel-rapl:0", 31_000_000),
        ("intel-rapl:0:0", 3_000_000),
        ("intel-rapl-mmio:0", 31_000_000),
        ("intel-rapl-mmio:0:0", 3_000_000),
    ]);
    assert_eq!(amounts(&energy), [Some(30_000_000), Some(2_000_000), None]);
    assert_eq!(energy.domains.len(), 2);
}

#[test]
fn memory_at_the_top_is_apart_too() {
    let mut bench = Bench::of(&["package-0", "package-1", "dram"]);
    let ends = [
        ("intel-rapl:0", 31_000_000),
        ("intel-rapl:1", 41_000_000),
        ("intel-rapl:2", 6_000_000),
    ];
    let energy = bench.window(&ends);
    assert_eq!(amounts(&energy), [Some(70_000_000), Some(5_000_000), None]);
}

#[test]
fn other_drivers_are_listed_and_not_added() {
    let tree = Tree::new()
        .zone("intel-rapl:0", "package-0", "1000000")
        .zone("arm-scmi:0", "package-7", "1000000")
        .zone("dtpm:0", "soc", "1000000")
        // A driver with a power limit and no energy.
        .file("sys/class/powercap/dtpm:1/name", "pkg");
    let ends = [
        ("intel-rapl:0", 31_000_000),
        ("arm-scmi:0", 41_000_000),
        ("dtpm:0", 2_000_000),
    ];
    let energy = Bench::new(tree).window(&ends);
    assert_eq!(energy.package_uj, Some(30_000_000));
    let seen = energy
        .domains
        .iter()
        .map(|d| (d.name.as_str(), d.energy_uj.unwrap()));
    let want = [
        ("arm-scmi:0/package-7", 40_000_000),
        ("dtpm:0/soc", 1_000_000),
        ("package-0", 30_000_000),
    ];
    assert_eq!(seen.collect::<Vec<_>>(), want);
}

#[test]
fn a_tree_of_devices_without_the_class() {
    let dir = "sys/devices/virtual/powercap/intel-rapl/intel-rapl:0";
    let tree = Tree::new()
        .file(format!("{dir}/name"), "package-0\n")
        .file(format!("{dir}/energy_uj"), "1000000\n")
        .file(format!("{dir}/intel-rapl:0:0/name"), "dram\n")
        .file(format!("{dir}/intel-rapl:0:0/energy_uj"), "5\n");
    let bench = Bench::new(tree);
    let names: Vec<&str> = bench
        .meter
        .domains()
        .iter()
        .map(|d| d.name.as_str())
        .collect();
    assert_eq!(names, ["package-0", "package-0/dram"]);
}

#[test]
fn one_zone_starts_again_alone() {
    let tree = Tree::new()
        .zone("intel-rapl:0", "package-0", &(MAX - 10).to_string())
        .zone("intel-rapl:1", "package-1", "100");
    let energy = Bench::new(tree).window(&[("intel-rapl:0", 15), ("intel-rapl:1", 400)]);
    assert_eq!(energy.package_uj, Some(25 + 300));
}

#[test]
fn two_zones_start_again_at_different_readings() {
    let tree = Tree::new()
        .zone("intel-rapl:0", "package-0", &(MAX - 10).to_string())
        .zone("intel-rapl:1", "package-1", &(MAX - 200).to_string());
    let mut bench = Bench::new(tree);
    bench.meter.begin();
    bench.set("intel-rapl:0", 15);
    bench.set("intel-rapl:1", MAX - 50);
    bench.clock.advance(SECOND);
    bench.meter.tick();
    bench.set("intel-rapl:0", 20);
    bench.set("intel-rapl:1", 1);
    assert_eq!(bench.end_after(SECOND).package_uj, Some(30 + 201));
}

#[test]
fn a_counter_starts_again_exactly_at_0() {
    let tree = Tree::new().zone("intel-rapl:0", "package-0", &(MAX - 7).to_string());
    let mut bench = Bench::new(tree);
    assert_eq!(bench.window(&[("intel-rapl:0", 0)]).package_uj, Some(7));
    // From its largest value, too.
    let tree = Tree::new().zone("intel-rapl:0", "package-0", &MAX.to_string());
    let mut bench = Bench::new(tree);
    assert_eq!(bench.window(&[("intel-rapl:0", 3)]).package_uj, Some(3));
}

#[test]
fn a_range_of_one_server_memory() {
    // 15.26 uJ a step: the range is 65.5 kJ. Ten minutes at 400 W pass it three times, read once a second.
    let range: u64 = 65_532_610_987;
    let tree = Tree::new().zone("intel-rapl:0", "package-0", "0").file(
        "sys/class/powercap/intel-rapl:0/max_energy_range_uj",
        &range.to_string(),
    );
    let mut bench = Bench::new(tree);
    bench.meter.begin();
    for second in 1..=600u64 {
        bench.set("intel-rapl:0", second * 400_000_000 % range);
        bench.clock.advance(SECOND);
        bench.meter.tick();
    }
    assert_eq!(bench.meter.end().package_uj, Some(600 * 400_000_000));
}

#[test]
fn without_a_range_a_new_start_is_no_amount() {
    let tree = Tree::new().zone("intel-rapl:0", "package-0", "1000");
    let zone = tree.roots.sys.join("class/powercap/intel-rapl:0");
    fs::remove_file(zone.join("max_energy_range_uj")).unwrap();
    let mut bench = Bench::new(tree);
    assert_eq!(
        bench.window(&[("intel-rapl:0", 1500)]).package_uj,
        Some(500)
    );
    let energy = bench.window(&[("intel-rapl:0", 3)]);
    assert_eq!(energy.status, EnergyStatus::WrapUncorrectable);
    assert_eq!(amounts(&energy), [None; 3]);
    // The next window begins anew.
    assert_eq!(bench.window(&[("intel-rapl:0", 10)]).package_uj, Some(7));
}

/// Files that give an error once a switch is turned.
struct Switched {
    broken: Arc<AtomicBool>,
    word: &'static str,
    error: fn() -> io::Error,
}

impl Files for Switched {
    fn read(&self, path: &Path) -> io::Result<String> {
        let concerned = path.to_str().is_some_and(|path| path.contains(self.word));
        if concerned && self.broken.load(Ordering::SeqCst) {
            return Err((self.error)());
        }
        System.read(path)
    }
}

/// Windows before, during and after an error of the files whose path contains `word`.
fn broken_window(word: &'static str, error: fn() -> io::Error) -> [Energy; 3] {
    let tree = Tree::new()
        .zone("intel-rapl:0", "package-0", "1000000")
        .zone("intel-rapl:0:0", "dram", "1000000");
    let broken = Arc::new(AtomicBool::new(false));
    let files = Switched {
        broken: Arc::clone(&broken),
        word,
        error,
    };
    let clock = Arc::new(FakeClock::new(5));
    let source = Box::new(Powercap::find_with(&tree.roots, Box::new(files)));
    let meter = Meter::over(source, &tree.roots, &options(&clock));
    let mut bench = Bench { tree, clock, meter };
    let before = bench.window(&[("intel-rapl:0", 2_000_000), ("intel-rapl:0:0", 1_500_000)]);
    bench.meter.begin();
    broken.store(true, Ordering::SeqCst);
    bench.clock.advance(SECOND);
    bench.meter.tick();
    broken.store(false, Ordering::SeqCst);
    bench.set("intel-rapl:0", 4_000_000);
    bench.set("intel-rapl:0:0", 2_000_000);
    let during = bench.end_after(SECOND);
    let after = bench.window(&[("intel-rapl:0", 7_000_000), ("intel-rapl:0:0", 2_100_000)]);
    [before, during, after]
}

#[test]
fn a_permission_that_is_taken_away() {
    let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
    let [before, during, after] = broken_window("intel-rapl:0/", denied);
    assert_eq!(before.package_uj, Some(1_000_000));
    assert_eq!(during.status, EnergyStatus::PermissionDenied);
    assert_eq!(amounts(&during), [None; 3]);
    assert_eq!(after.package_uj, Some(3_000_000));
}

#[test]
fn a_file_for_nobody() {
    let tree = Tree::new().zone("intel-rapl:0", "package-0", "1000000");
    let path = tree.roots.sys.join("class/powercap/intel-rapl:0/energy_uj");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_ok() {
        eprintln!("SKIPPED: a_file_for_nobody: this user may read everything");
        return;
    }
    let clock = Arc::new(FakeClock::new(5));
    let probe = Meter::open(&tree.roots, &options(&clock)).unwrap_err();
    assert_eq!(probe.status, EnergyStatus::PermissionDenied);
}

#[test]
fn a_driver_without_data_in_the_middle() {
    // ENODATA. The second reading is fine, and the window is none all the same: an error is never 0.
    let [before, during, after] =
        broken_window("intel-rapl:0/", || io::Error::from_raw_os_error(61));
    assert_eq!(before.package_uj, Some(1_000_000));
    assert_eq!(
        (during.status, amounts(&during)),
        (EnergyStatus::Absent, [None; 3])
    );
    assert!(during.reason.contains("os error 61"), "{}", during.reason);
    assert_eq!(after.package_uj, Some(3_000_000));
}

#[test]
fn a_part_that_fails_does_not_take_the_package_with_it() {
    let [before, during, after] =
        broken_window("intel-rapl:0:0", || io::Error::from_raw_os_error(61));
    assert_eq!(amounts(&before), [Some(1_000_000), Some(500_000), None]);
    assert_eq!(amounts(&during), [Some(2_000_000), None, None]);
    assert_eq!(during.domains[1].energy_uj, None);
    assert!(
        during.notes[0].contains("os error 61"),
        "{:?}",
        during.notes
    );
    assert_eq!(amounts(&after), [Some(3_000_000), Some(100_000), None]);
}

/// A window at whose end the counter shows this text.
fn ends_with(text: &str) -> Energy {
    let mut bench = Bench::of(&["package-0"]);
    bench.meter.begin();
    bench.set("intel-rapl:0", text);
    bench.end_after(SECOND)
}

#[test]
fn an_empty_file_is_an_error() {
    let energy = ends_with("");
    assert_eq!(
        (energy.status, amounts(&energy)),
        (EnergyStatus::Absent, [None; 3])
    );
    assert!(energy.reason.contains("energy_uj"), "{}", energy.reason);
}

#[test]
fn garbage_is_an_error() {
    for text in [
        "garbage",
        "-1",
        "1.5e6",
        "99999999999999999999999",
        "1 2",
        "\0",
    ] {
        let energy = ends_with(text);
        assert_eq!(
            (energy.status, amounts(&energy)),
            (EnergyStatus::Absent, [None; 3]),
            "{text}"
        );
    }
    assert_eq!(ends_with("1000001\n").package_uj, Some(1));
}

#[test]
fn a_value_beyond_the_range_is_an_error() {
    let energy = ends_with(&(MAX + 1).to_string());
    assert_eq!(
        (energy.status, amounts(&energy)),
        (EnergyStatus::Implausible, [None; 3])
    );
    assert!(
        energy.reason.contains("beyond its range"),
        "{}",
        energy.reason
    );
}

#[test]
fn a_frozen_counter_is_no_zero() {
    let energy = Bench::of(&["package-0"]).window(&[]);
    assert_eq!(
        (energy.status, amounts(&energy)),
        (EnergyStatus::StaleCounter, [None; 3])
    );
    // One of two packages: the sum would be too small.
    let energy = Bench::of(&["package-0", "package-1"]).window(&[("intel-rapl:0", 9_000_000)]);
    assert_eq!(
        (energy.status, amounts(&energy)),
        (EnergyStatus::StaleCounter, [None; 3])
    );
    assert!(energy.reason.contains("package-1"), "{}", energy.reason);
}

#[test]
fn a_reset_does_not_add_the_range() {
    let mut bench = Bench::of(&["package-0"]);
    let energy = bench.window(&[("intel-rapl:0", 0)]);
    assert_eq!(
        (energy.status, amounts(&energy)),
        (EnergyStatus::Implausible, [None; 3])
    );
    assert!(energy.reason.contains("reset"), "{}", energy.reason);
    // The fault stays for the window, whatever follows, and goes with it.
    bench.meter.begin();
    bench.set("intel-rapl:0", 3_000_000);
    bench.clock.advance(SECOND);
    bench.meter.tick();
    bench.set("intel-rapl:0", 1_000_000);
    bench.clock.advance(SECOND);
    bench.meter.tick();
    bench.set("intel-rapl:0", 2_000_000);
    assert_eq!(bench.end_after(SECOND).status, EnergyStatus::Implausible);
    assert_eq!(
        bench.window(&[("intel-rapl:0", 2_000_007)]).package_uj,
        Some(7)
    );
}

#[test]
fn a_jump_of_more_than_two_kilowatts_is_no_energy() {
    // The limit is 2 kW for the second, and for 100 ms by which a counter may be late.
    let limit = 1_000_000 + 2_200_000_000;
    let energy = Bench::of(&["package-0"]).window(&[("intel-rapl:0", limit)]);
    assert_eq!(energy.package_uj, Some(2_200_000_000));
    let energy = Bench::of(&["package-0"]).window(&[("intel-rapl:0", limit + 1)]);
    assert_eq!(energy.status, EnergyStatus::Implausible);
}

#[test]
fn a_zone_that_vanishes() {
    let mut bench = Bench::of(&["package-0"]);
    bench.meter.begin();
    fs::remove_dir_all(bench.tree.roots.sys.join("class/powercap")).unwrap();
    let energy = bench.end_after(SECOND);
    assert_eq!(
        (energy.status, amounts(&energy)),
        (EnergyStatus::Absent, [None; 3])
    );
    assert!(energy.reason.contains("no such file"), "{}", energy.reason);
}

#[test]
fn a_short_window_has_no_amount() {
    let mut bench = Bench::of(&["package-0"]);
    bench.meter.begin();
    bench.set("intel-rapl:0", 2_000_000);
    let energy = bench.end_after(SECOND - 1);
    assert_eq!(
        (energy.status, amounts(&energy)),
        (EnergyStatus::WindowTooShort, [None; 3])
    );
}

#[test]
fn a_slow_reading_is_repeated_and_its_middle_counts() {
    let mut bench = Bench::of(&["package-0"]);
    bench.clock.set_step(500_000);
    bench.meter.begin();
    bench.set("intel-rapl:0", 3_000_000);
    let energy = bench.end_after(2 * SECOND);
    // Two readings of the clock at each edge: the middles are 2 s and two steps apart.
    assert_eq!(energy.window_ns, 2 * SECOND + 1_000_000);
    // Slower than a millisecond: three attempts, and the last one counts.
    bench.clock.set_step(2_000_000);
    let before = bench.clock.now_ns();
    bench.meter.begin();
    assert_eq!(bench.clock.now_ns() - before, 7 * 2_000_000);
}

/// Knuth's MMIX generator.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn a_hundred_random_walks_add_up_to_the_microjoule() {
    let ids = ["intel-rapl:0", "intel-rapl:1", "intel-rapl:1:0"];
    // The second package has a range of server memory; the third zone is memory.
    let ranges = [MAX, 65_532_610_987, MAX];
    let mut values = [MAX / 2, 7, MAX - 1];
    let tree = Tree::new()
        .zone(ids[0], "package-0", &values[0].to_string())
        .zone(ids[1], "package-1", &values[1].to_string())
        .zone(ids[2], "dram", &values[2].to_string())
        .file(
            "sys/class/powercap/intel-rapl:1/max_energy_range_uj",
            &ranges[1].to_string(),
        );
    let mut bench = Bench::new(tree);
    let mut random = Random(7);
    let (mut wraps, mut live) = (0, [0u64; 2]);
    let mut all = [0u64; 2];
    bench.meter.sample();
    for walk in 0..100 {
        bench.meter.begin();
        let mut injected = [0u64; 2];
        for _ in 0..=random.below(12) {
            // Up to 1.9 kW, for a second to half a minute.
            let seconds = 1 + random.below(30);
            for zone in 0..3 {
                let step = 1 + random.below(1_900 * 1_000_000) * seconds;
                injected[zone / 2] += step;
                values[zone] += step;
                if values[zone] > ranges[zone] {
                    values[zone] -= ranges[zone];
                    wraps += 1;
                }
                bench.set(ids[zone], values[zone]);
            }
            bench.clock.advance(seconds * SECOND);
            bench.meter.tick();
            if random.below(3) == 0 {
                let sample = bench.meter.sample();
                live[0] += sample.package_uj.unwrap();
                live[1] += sample.dram_uj.unwrap();
            }
        }
        let energy = bench.meter.end();
        let got = [energy.package_uj, energy.dram_uj];
        assert_eq!(got, injected.map(Some), "walk {walk}");
        all = [all[0] + injected[0], all[1] + injected[1]];
    }
    assert!(wraps > 100, "{wraps}");
    // Live samples lose nothing either, and do not disturb the windows.
    let rest = bench.meter.sample();
    live = [
        live[0] + rest.package_uj.unwrap(),
        live[1] + rest.dram_uj.unwrap(),
    ];
    assert_eq!(live, all);
}

#[test]
fn without_a_meter_there_is_a_reason() {
    let tree = Tree::new().file("proc/cpuinfo", "processor : 0\nflags : hypervisor\n");
    let clock = Arc::new(FakeClock::new(0));
    let probe = Meter::open(&tree.roots, &options(&clock)).unwrap_err();
    assert_eq!(probe.status, EnergyStatus::VmNoRapl);
}
