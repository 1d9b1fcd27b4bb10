//! What surrounds a window: the busy probe, other load, idle windows and net energy, the background thread, the time line.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

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

fn window(watts: f64, dram_watts: Option<f64>, seconds: f64) -> Energy {
    Energy {
        package_uj: Some((watts * seconds * 1e6) as u64),
        dram_uj: dram_watts.map(|watts| (watts * seconds * 1e6) as u64),
        window_ns: (seconds * 1e9) as u64,
        ..Energy::without(EnergyStatus::Ok, "")
    }
}

#[test]
fn net_is_gross_without_the_idle_power() {
    let gross = window(50.0, Some(5.0), 4.0);
    let net_of = |before, after| {
        net(
            &gross,
            &window(before, Some(2.0), 10.0),
            &window(after, Some(2.0), 10.0),
        )
        .unwrap()
    };
    let want = NetEnergy {
        package_uj: 158_000_000,
        dram_uj: Some(12_000_000),
        idle_before_watts: 10.0,
        idle_after_watts: 11.0,
        reliable: false,
        reason: "idle power was 10.00 W before and 11.00 W after: they differ by more than 5 %"
            .to_owned(),
    };
    assert_eq!(net_of(10.0, 11.0), want);
    // 5 % of the larger one is the limit.
    for (before, reliable) in [(9.5, true), (9.49, false), (10.5, true), (10.53, false)] {
        assert_eq!(net_of(before, 10.0).reliable, reliable, "{before}");
    }
    // Less than idle: a baseline that is none.
    let less = net_of(60.0, 60.0);
    assert_eq!((less.package_uj, less.reliable), (-40_000_000, false));
    // Without one of the three there is no net.
    let none = Energy::without(EnergyStatus::MixedLoad, "others");
    let idle = window(10.0, None, 10.0);
    assert_eq!(net(&none, &idle, &idle), None);
    assert_eq!(net(&gross, &none, &idle), None);
    assert_eq!(net(&gross, &idle, &none), None);
    assert_eq!(net(&gross, &idle, &idle).unwrap().dram_uj, None);
}

#[test]
fn the_time_line_has_a_point_a_reading() {
    let mut bench = Bench::of(&["package-0", "psys"]);
    bench.meter.take_points();
    bench.meter.begin();
    bench.set("intel-rapl:0", 31_000_000);
    bench.clock.advance(SECOND);
    bench.meter.tick();
    bench.set("intel-rapl:1", 3_000_000);
    bench.clock.advance(SECOND);
    bench.meter.end();
    let points = bench.meter.take_points();
    let seen: Vec<(u64, &[u64])> = points
        .iter()
        .map(|p| (p.at_ns, p.energy_uj.as_slice()))
        .collect();
    let want: [(u64, &[u64]); 3] = [
        (5, &[0, 0]),
        (5 + SECOND, &[30_000_000, 0]),
        (5 + 2 * SECOND, &[30_000_000, 2_000_000]),
    ];
    assert_eq!(seen, want);
    assert!(bench.meter.take_points().is_empty());
}

/// A counter that moves with each reading.
struct Counting {
    domains: Vec<Domain>,
    reads: Arc<AtomicUsize>,
}

impl Source for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn domains(&self) -> &[Domain] {
        &self.domains
    }

    fn values(&mut self) -> Vec<Result<u64, ReadError>> {
        vec![Ok(self.reads.fetch_add(1, Ordering::SeqCst) as u64)]
    }
}

#[test]
fn the_background_thread_reads_and_ends() {
    let reads = Arc::new(AtomicUsize::new(0));
    let source = Counting {
        domains: vec![Domain {
            name: "package-0".to_owned(),
            kind: DomainKind::Package,
            package: Some(0),
            counts: true,
            quantity: Quantity::Microjoules { range_uj: None },
            place: "here".to_owned(),
        }],
        reads: Arc::clone(&reads),
    };
    let clock = Arc::new(FakeClock::stepping(0, MILLISECOND / 10));
    let meter = Meter::over(Box::new(source), &Tree::new().roots, &options(&clock));
    let sampler = Sampler::every(meter, Duration::from_micros(100)).unwrap();
    sampler.begin();
    while reads.load(Ordering::SeqCst) < 20 {
        std::thread::yield_now();
    }
    clock.advance(SECOND);
    let energy = sampler.end();
    assert_eq!(energy.status, EnergyStatus::Ok, "{energy:?}");
    // Opening and beginning are two of the readings; each one since then added one.
    let used = energy.package_uj.unwrap() as usize;
    assert!(
        (17..=reads.load(Ordering::SeqCst)).contains(&used),
        "{used}"
    );
    assert!(sampler.sample().package_uj.unwrap() as usize >= used);
    assert!(sampler.take_points().len() >= 20);
    // Nobody lets it go on: the idle window ends at once, too short.
    clock.set_step(0);
    let idle = sampler.idle(Duration::from_secs(100), &|| false);
    assert_eq!(idle.status, EnergyStatus::WindowTooShort);
    drop(sampler);
    let after = reads.load(Ordering::SeqCst);
    assert_eq!(Arc::strong_count(&reads), 1, "the thread is gone");
    assert_eq!(reads.load(Ordering::SeqCst), after);
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
