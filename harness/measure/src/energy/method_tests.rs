//! What surrounds a window: the busy probe and other load.

use std::sync::Arc;

use super::meter_tests::{Bench, SECOND, options};
use super::tests::Tree;
use super::*;
use crate::{Clock, FakeClock};

const MILLISECOND: u64 = 1_000_000;

/// A busy probe of `bench` in which `work` is told the number of milliseconds that passed.
fn busy(bench: &mut Bench, work: impl Fn(&Tree, u64)) -> (Result<(), meter::Fault>, u64) {
    let Bench { tree, clock, meter } = bench;
    let mut ms = 0;
    let result = meter.busy_probe(&mut || {
        ms += 1;
        clock.advance(MILLISECOND);
        work(tree, ms);
    });
    (result, ms)
}

#[test]
fn the_busy_probe_ends_when_all_packages_have_moved() {
    let mut bench = Bench::of(&["package-0", "package-1"]);
    let (result, ms) = busy(&mut bench, |tree, ms| {
        tree.set("intel-rapl:0", 1_000_000 + 30_000 * ms);
        tree.set("intel-rapl:1", 1_000_000 + 30_000 * u64::from(ms >= 4));
    });
    assert_eq!((result, ms), (Ok(()), 4));
}

#[test]
fn a_counter_that_stands_under_load_is_stale() {
    let mut bench = Bench::of(&["package-0", "package-1"]);
    let (result, ms) = busy(&mut bench, |tree, ms| {
        tree.set("intel-rapl:0", 1_000_000 + 30_000 * ms);
    });
    let (status, reason) = result.unwrap_err();
    assert_eq!((status, ms), (EnergyStatus::StaleCounter, 1000));
    assert!(
        reason.contains("package-1") && reason.contains("1000 ms"),
        "{reason}"
    );
}

#[test]
fn a_counter_that_stays_at_0_under_load_is_zero() {
    let tree = Tree::new().zone("intel-rapl:0", "package-0", "0");
    let (result, ms) = busy(&mut Bench::new(tree), |_, _| ());
    assert_eq!(
        (result.unwrap_err().0, ms),
        (EnergyStatus::ZeroCounter, 1000)
    );
    // It may be that it only stands at 0 at the first look.
    let tree = Tree::new().zone("intel-rapl:0", "package-0", "0");
    let (result, _) = busy(&mut Bench::new(tree), |tree, ms| {
        tree.set("intel-rapl:0", ms);
    });
    assert_eq!(result, Ok(()));
}

#[test]
fn work_on_one_die_tells_dies_apart() {
    for (second_watts, mirrored) in [(60, true), (10, false)] {
        let mut bench = Bench::of(&["package-0-die-0", "package-0-die-1"]);
        let (result, ms) = busy(&mut bench, |tree, ms| {
            tree.set("intel-rapl:0", 1_000_000 + 60_000 * ms);
            tree.set("intel-rapl:1", 1_000_000 + 1000 * second_watts * ms);
        });
        assert_eq!((result, ms), (Ok(()), 500));
        // Later both use the same: that says nothing any more.
        bench.meter.begin();
        bench.set("intel-rapl:0", 31_000_000 + 60_000_000);
        bench.set(
            "intel-rapl:1",
            1_000_000 + 500_000 * second_watts + 60_000_000,
        );
        let energy = bench.end_after(SECOND);
        assert_eq!(energy.mirrored_dies, mirrored);
        let want = if mirrored { 60_000_000 } else { 120_000_000 };
        assert_eq!(energy.package_uj, Some(want));
    }
}

#[test]
fn a_stuck_meter_gives_way_to_the_next_source() {
    let tree = Tree::new().zone("intel-rapl:0", "package-0", "1000000");
    // The clock moves by itself, so that the real work of the probe ends; the counter does not.
    let clock = Arc::new(FakeClock::stepping(0, 100_000));
    let options = MeterOptions {
        busy_probe: true,
        ..options(&clock)
    };
    let probe = Meter::open(&tree.roots, &options).unwrap_err();
    assert_eq!(probe.status, EnergyStatus::StaleCounter);
    assert!(probe.remedy.is_some() && probe.reason.contains("did not move"));
    let tree = tree
        .file("sys/class/hwmon/hwmon0/name", "fam15h_power")
        .file("sys/class/hwmon/hwmon0/power1_input", "30000000");
    let meter = Meter::open(&tree.roots, &options).unwrap();
    assert_eq!(meter.source(), "hwmon");
}

/// A tree with a package, two CPUs and ourselves.
fn with_load(busy: u64, own: u64) -> Tree {
    load(
        Tree::new().zone("intel-rapl:0", "package-0", "1000000"),
        busy,
        own,
    )
}

/// CPU time in ticks of 10 ms.
fn load(tree: Tree, busy: u64, own: u64) -> Tree {
    let own = format!("40 (us) R 1 1 1 0 -1 0 9 9 0 0 {own} 0 0 0 20 0 1 0 77 1 1");
    tree.file("proc/self/stat", &own)
        .file("proc/40/stat", &own)
        .file(
            "proc/stat",
            &format!("cpu {busy} 0 0 9 0 0 0 0 0 0\ncpu0 1 0 0 9 0 0 0 0\ncpu1 1 0 0 9 0 0 0 0\n"),
        )
}

#[test]
fn work_of_others_makes_a_window_mixed() {
    // In 10 s: we 1 s, others 0.2 s (2 %, and the ticks leave 0.2 % open) or 0.23 s.
    for (others, status) in [(20, EnergyStatus::Ok), (23, EnergyStatus::MixedLoad)] {
        let mut bench = Bench::new(with_load(5000, 300));
        bench.meter.begin();
        bench.set("intel-rapl:0", 31_000_000);
        bench.tree = load(bench.tree, 5000 + 100 + others, 300 + 100);
        let energy = bench.end_after(10 * SECOND);
        assert_eq!(energy.status, status, "{energy:?}");
        let share = others as f64 / 1000.0;
        assert!((energy.others_cpu_share.unwrap() - share).abs() < 1e-9);
        assert_eq!(energy.package_uj.is_some(), status == EnergyStatus::Ok);
        // What the meter showed is still there, by domain.
        assert_eq!(energy.domains[0].energy_uj, Some(30_000_000));
    }
    // Whoever does not mind says so.
    let tree = with_load(5000, 300);
    let clock = Arc::new(FakeClock::new(0));
    let options = MeterOptions {
        max_others_share: None,
        ..options(&clock)
    };
    let meter = Meter::open(&tree.roots, &options).unwrap();
    let mut bench = Bench { tree, clock, meter };
    bench.meter.begin();
    bench.set("intel-rapl:0", 31_000_000);
    bench.tree = load(bench.tree, 9000, 300);
    let energy = bench.end_after(10 * SECOND);
    assert_eq!(
        (energy.status, energy.others_cpu_share),
        (EnergyStatus::Ok, Some(4.0))
    );
}

#[test]
fn an_energy_goes_through_json() {
    let mut bench = Bench::of(&["package-0", "psys"]);
    bench.meter.begin();
    bench.set("intel-rapl:0", 31_000_000);
    let energy = bench.end_after(SECOND);
    let text = serde_json::to_string(&energy).unwrap();
    assert_eq!(serde_json::from_str::<Energy>(&text).unwrap(), energy);
    let probe = probe(&bench.tree.roots);
    let text = serde_json::to_string(&probe).unwrap();
    assert_eq!(serde_json::from_str::<EnergyProbe>(&text).unwrap(), probe);
    assert!(bench.clock.now_ns() > 0);
}
