//! Windows over meters made of files, with a clock that the test moves.

use std::fs;
use std::sync::Arc;

use super::tests::Tree;
use super::*;
use crate::{Clock, FakeClock};

const SECOND: u64 = 1_000_000_000;
const MAX: u64 = 262_143_328_850;

/// No busy probe: nothing moves here but what a test moves.
fn options(clock: &Arc<FakeClock>) -> MeterOptions {
    MeterOptions {
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        busy_probe: false,
        ..MeterOptions::default()
    }
}

struct Bench {
    tree: Tree,
    clock: Arc<FakeClock>,
    meter: Meter,
}

impl Bench {
    fn new(tree: Tree) -> Self {
        let clock = Arc::new(FakeClock::new(5));
        let meter = Meter::open(&tree.roots, &options(&clock)).unwrap();
        Self { tree, clock, meter }
    }

    fn set(&self, id: &str, energy: impl ToString + Copy) {
        let path = self
            .tree
            .roots
            .sys
            .join("class/powercap")
            .join(id)
            .join("energy_uj");
        fs::write(path, energy.to_string()).unwrap();
    }

    fn stop_after(&mut self, ns: u64) -> Energy {
        self.clock.advance(ns);
        self.meter.end()
    }
}

fn one(energy: u64) -> Bench {
    Bench::new(Tree::new().zone("intel-rapl:0", "package-0", &energy.to_string()))
}

#[test]
fn a_window_of_a_desktop() {
    let tree = Tree::new()
        .zone("intel-rapl:0", "package-0", "1000000")
        .zone("intel-rapl:0:0", "core", "10")
        .zone("intel-rapl:0:1", "dram", "70")
        .zone("intel-rapl:1", "psys", "5000000")
        .zone("intel-rapl-mmio:0", "package-0", "1000000");
    let mut bench = Bench::new(tree);
    bench.meter.begin();
    bench.set("intel-rapl:0", 31_000_000);
    bench.set("intel-rapl:0:0", 20_000_010);
    bench.set("intel-rapl:0:1", 2_000_070);
    bench.set("intel-rapl:1", 45_000_000);
    bench.set("intel-rapl-mmio:0", 31_000_000);
    let energy = bench.stop_after(2 * SECOND);
    let want = Energy {
        source: "powercap".to_owned(),
        window_ns: 2 * SECOND,
        start_unix_ns: 1_700_000_000_000_000_005,
        end_unix_ns: 1_700_000_002_000_000_005,
        package_uj: Some(30_000_000),
        dram_uj: Some(2_000_000),
        psys_uj: Some(40_000_000),
        domains: [
            ("package-0", DomainKind::Package, 30_000_000),
            ("package-0/core", DomainKind::Core, 20_000_000),
            ("package-0/dram", DomainKind::Dram, 2_000_000),
            ("psys", DomainKind::Psys, 40_000_000),
        ]
        .map(|(name, kind, uj)| DomainEnergy {
            name: name.to_owned(),
            kind,
            energy_uj: Some(uj),
        })
        .to_vec(),
        ..Energy::without(EnergyStatus::Ok, "")
    };
    assert_eq!(energy, want);
    // The next window begins anew.
    bench.meter.begin();
    bench.set("intel-rapl:0", 31_000_001);
    let energy = bench.stop_after(SECOND);
    assert_eq!((energy.package_uj, energy.dram_uj), (Some(1), Some(0)));
}

#[test]
fn zones_wrap_alone() {
    let tree = Tree::new()
        .zone("intel-rapl:0", "package-0", &(MAX - 10).to_string())
        .zone("intel-rapl:1", "package-1", "100");
    let mut bench = Bench::new(tree);
    bench.set("intel-rapl:0", 15);
    bench.set("intel-rapl:1", 400);
    bench.clock.advance(SECOND);
    bench.meter.tick();
    // Exactly to 0, at another reading.
    bench.set("intel-rapl:0", MAX);
    bench.clock.advance(200 * SECOND);
    bench.meter.tick();
    bench.set("intel-rapl:0", 0);
    let energy = bench.stop_after(SECOND);
    assert_eq!(energy.package_uj, Some(25 + (MAX - 15) + 300));
}

#[test]
fn a_reset_is_no_wrap() {
    let mut bench = one(1_000_000);
    bench.set("intel-rapl:0", 0);
    let energy = bench.stop_after(SECOND);
    assert_eq!(
        (energy.status, energy.package_uj),
        (EnergyStatus::Implausible, None)
    );
    assert!(energy.reason.contains("reset"), "{}", energy.reason);
    // The fault stays for the window, whatever follows, and goes with it.
    bench.meter.begin();
    bench.set("intel-rapl:0", 7);
    assert_eq!(bench.stop_after(SECOND).package_uj, Some(7));
}

#[test]
fn a_fault_in_the_middle_stays() {
    let mut bench = one(1_000_000);
    bench.set("intel-rapl:0", "");
    bench.clock.advance(SECOND);
    bench.meter.tick();
    bench.set("intel-rapl:0", 2_000_000);
    let energy = bench.stop_after(SECOND);
    assert_eq!(
        (energy.status, energy.package_uj),
        (EnergyStatus::Absent, None)
    );
}

#[test]
fn what_cannot_be_trusted_has_no_amount() {
    // The text is what the counter shows at the end of the window.
    let cases = [
        ("1000000", EnergyStatus::StaleCounter),
        ("262143328851", EnergyStatus::Implausible),
        ("2004000001000001", EnergyStatus::Implausible),
        ("garbage", EnergyStatus::Absent),
        ("", EnergyStatus::Absent),
        ("-1", EnergyStatus::Absent),
        ("1000001", EnergyStatus::Ok),
    ];
    for (text, status) in cases {
        let mut bench = one(1_000_000);
        bench.set("intel-rapl:0", text);
        let energy = bench.stop_after(SECOND);
        assert_eq!(energy.status, status, "{text}");
        assert_eq!(
            energy.package_uj.is_some(),
            status == EnergyStatus::Ok,
            "{text}"
        );
        assert_eq!(
            energy.reason.is_empty(),
            status == EnergyStatus::Ok,
            "{text}"
        );
    }
    let mut bench = one(1_000_000);
    bench.set("intel-rapl:0", 2_000_000);
    assert_eq!(
        bench.stop_after(SECOND - 1).status,
        EnergyStatus::WindowTooShort
    );
    // The zone vanishes.
    let mut bench = one(1_000_000);
    fs::remove_dir_all(bench.tree.roots.sys.join("class/powercap")).unwrap();
    assert_eq!(bench.stop_after(SECOND).status, EnergyStatus::Absent);
}

#[test]
fn without_a_range_a_wrap_is_no_amount() {
    let tree = Tree::new().zone("intel-rapl:0", "package-0", "1000");
    fs::remove_file(
        tree.roots
            .sys
            .join("class/powercap/intel-rapl:0/max_energy_range_uj"),
    )
    .unwrap();
    let mut bench = Bench::new(tree);
    bench.set("intel-rapl:0", 1500);
    bench.clock.advance(SECOND);
    bench.meter.tick();
    bench.set("intel-rapl:0", 3);
    assert_eq!(
        bench.stop_after(SECOND).status,
        EnergyStatus::WrapUncorrectable
    );
}

#[test]
fn mirrored_dies_count_once() {
    let dies = || {
        Tree::new()
            .zone("intel-rapl:0", "package-0-die-0", "1000")
            .zone("intel-rapl:1", "package-0-die-1", "1000")
    };
    let mut bench = Bench::new(dies());
    bench.set("intel-rapl:0", 68_001_000);
    bench.set("intel-rapl:1", 68_031_000);
    let energy = bench.stop_after(SECOND);
    assert_eq!(
        (energy.package_uj, energy.mirrored_dies),
        (Some(68_030_000), true)
    );
    // Once found it stays, also where a window is too short to show it.
    bench.meter.begin();
    bench.set("intel-rapl:0", 68_001_000 + 50);
    bench.set("intel-rapl:1", 68_031_000 + 60);
    assert_eq!(bench.stop_after(SECOND).package_uj, Some(60));

    let mut bench = Bench::new(dies());
    bench.set("intel-rapl:0", 68_001_000);
    bench.set("intel-rapl:1", 40_001_000);
    let energy = bench.stop_after(SECOND);
    assert_eq!(
        (energy.package_uj, energy.mirrored_dies),
        (Some(108_000_000), false)
    );
}

#[test]
fn a_slow_reading_is_repeated_and_its_middle_counts() {
    let mut bench = one(1_000_000);
    bench.clock.set_step(500_000);
    bench.meter.begin();
    bench.set("intel-rapl:0", 3_000_000);
    let energy = bench.stop_after(2 * SECOND);
    // Two readings of the clock at each edge: the middles are 2 s and two steps apart.
    assert_eq!(energy.window_ns, 2 * SECOND + 1_000_000);
    // Slower than a millisecond: three attempts, and the last one counts.
    bench.clock.set_step(2_000_000);
    let before = bench.clock.now_ns();
    bench.meter.begin();
    assert_eq!(bench.clock.now_ns() - before, 7 * 2_000_000);
}

#[test]
fn random_walks_add_up() {
    // A fixed multiplier and increment (Knuth's MMIX) for the steps.
    let mut state = 7u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut bench = one(MAX / 2);
    let mut value = MAX / 2;
    for walk in 0..20 {
        bench.meter.begin();
        let mut injected = 0;
        for _ in 0..10 {
            // Up to 1.9 kW for a minute: wraps now and then.
            let step = 1 + random(1_900 * 60 * 1_000_000);
            injected += step;
            value = if value + step > MAX {
                value + step - MAX
            } else {
                value + step
            };
            bench.set("intel-rapl:0", value);
            bench.clock.advance(60 * SECOND);
            bench.meter.tick();
        }
        assert_eq!(bench.meter.end().package_uj, Some(injected), "walk {walk}");
    }
}

#[test]
fn without_a_meter_there_is_a_reason() {
    let tree = Tree::new().file("proc/cpuinfo", "processor : 0\nflags : hypervisor\n");
    let clock = Arc::new(FakeClock::new(0));
    let probe = Meter::open(&tree.roots, &options(&clock)).unwrap_err();
    assert_eq!(probe.status, EnergyStatus::VmNoRapl);
}
