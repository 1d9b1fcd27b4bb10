//! Records of external meters.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::Arc;

use super::tests::Tree;
use super::*;
use crate::{Clock, FakeClock};

const SECOND: u64 = 1_000_000_000;

struct Record {
    dir: tempfile::TempDir,
}

impl Record {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let record = Self { dir };
        fs::write(record.path(), text).unwrap();
        record
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("record.csv")
    }

    fn open(&self) -> External {
        External::open(&self.path(), MAX_GAP_NS).unwrap()
    }

    fn error(&self) -> String {
        External::open(&self.path(), MAX_GAP_NS)
            .unwrap_err()
            .to_string()
    }

    fn append(&self, text: &str) {
        let mut file = OpenOptions::new().append(true).open(self.path()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
}

/// Power that grows by 10 W a second, from 0 at second 100.
fn ramp() -> Record {
    let lines: Vec<String> = (0..=20)
        .map(|i| format!("{},{}\n", (100 + i) * SECOND, 10 * i))
        .collect();
    Record::new(&format!("unix_ns,watts\n{}", lines.concat()))
}

#[test]
fn a_straight_line_between_samples() {
    let record = ramp().open();
    // From 102.25 s to 105.5 s: 22.5 W to 55 W.
    let energy = record.energy(102 * SECOND + SECOND / 4, 105 * SECOND + SECOND / 2);
    let want = f64::midpoint(22.5, 55.0) * 3.25 * 1e6;
    assert_eq!(energy.status, EnergyStatus::Ok, "{energy:?}");
    assert_eq!(energy.psys_uj, Some(want as u64));
    assert_eq!((energy.package_uj, energy.dram_uj), (None, None));
    assert_eq!(
        (energy.source.as_str(), energy.window_ns),
        ("external", 3_250_000_000)
    );
    // Windows that follow each other add up to the whole, wherever they are cut.
    let cuts = [100.0, 103.1, 106.77, 111.0, 114.5, 120.0].map(|s: f64| (s * 1e9) as u64);
    let parts = cuts
        .windows(2)
        .map(|cut| record.energy(cut[0], cut[1]).psys_uj.unwrap());
    assert!(parts.sum::<u64>().abs_diff(2_000_000_000) <= cuts.len() as u64);
}

#[test]
fn joules_and_several_columns() {
    let record = Record::new(
        "\u{feff}unix_s, package0_joules ,package1_joules,dram_watts,volts\n\
         10.5,1000,5,2,12\n11.5,1010,25,2,12\n12.5,1030,45,,12\n13.5,1040,65,4,12\n14.5,1041,85,4,x\n",
    );
    let energy = record
        .open()
        .energy(10 * SECOND + SECOND / 2, 13 * SECOND + SECOND / 2);
    assert_eq!(energy.status, EnergyStatus::Ok, "{energy:?}");
    assert_eq!(energy.package_uj, Some(100_000_000));
    // Missing in between: a straight line over the hole.
    assert_eq!(energy.dram_uj, Some(2_000_000 + 6_000_000));
    assert_eq!(energy.domains.len(), 3);
}

#[test]
fn what_the_record_does_not_cover_has_no_amount() {
    let record = Record::new(
        "unix_s,joules\n10,1\n11,2\n12,3\n13,4\n19,5\n20,6\n21,7\n22,1\n23,2\n24,3\n25,4\n",
    );
    let open = record.open();
    let of = |from: u64, to: u64| open.energy(from * SECOND, to * SECOND);
    for (from, to, status, what) in [
        (10, 13, EnergyStatus::Ok, ""),
        (9, 13, EnergyStatus::Absent, "begins 1000 ms after"),
        (20, 27, EnergyStatus::Absent, "ends 2000 ms before"),
        (11, 20, EnergyStatus::Absent, "gap of 6000 ms"),
        (12, 18, EnergyStatus::Absent, "gap of 6000 ms"),
        (19, 23, EnergyStatus::WrapUncorrectable, "went back"),
        (22, 25, EnergyStatus::Ok, ""),
        (11, 12, EnergyStatus::Ok, ""),
        (11, 11, EnergyStatus::WindowTooShort, "shorter"),
        (12, 11, EnergyStatus::WindowTooShort, "shorter"),
    ] {
        let energy = of(from, to);
        assert_eq!(energy.status, status, "{from} {to} {energy:?}");
        assert!(energy.reason.contains(what), "{}", energy.reason);
        assert_eq!(energy.psys_uj.is_some(), status == EnergyStatus::Ok);
    }
    // Whole seconds between the samples, and hardly any sample in between.
    let energy = open.energy(11 * SECOND + 1, 12 * SECOND + 1);
    assert_eq!(energy.status, EnergyStatus::WindowTooShort, "{energy:?}");
    assert!(energy.reason.contains("fewer than 2"), "{energy:?}");
    // A wider limit lets the gap pass.
    let wide = External::open(&record.path(), 6 * SECOND).unwrap();
    assert_eq!(
        wide.energy(11 * SECOND, 20 * SECOND).psys_uj,
        Some(4_000_000)
    );
}

#[test]
fn wrong_records_name_the_line() {
    for (text, part) in [
        ("", "no line"),
        ("unix_ns,watts", "no line"),
        ("watts\n1\n", "line 1: there is no column of time"),
        ("unix_ns,volts\n", "no column of watts or joules"),
        ("unix_ns,unix_s,watts\n", "two columns of time"),
        ("unix_ns,watts,joules\n", "two columns for `psys`"),
        ("unix_ns,cpu_watts\n", "`cpu_watts` is none of"),
        (
            "unix_ns,watts\n1,5\n2,x\n",
            "line 3: `x` is no number of watts",
        ),
        ("unix_ns,watts\n1,-5\n", "line 2: `-5` is no number"),
        ("unix_ns,watts\n1,nan\n", "line 2: `nan` is no number"),
        ("unix_ns,watts\nx,5\n", "line 2: `x` is no time"),
        ("unix_s,watts\n99999999999999,5\n", "is no time"),
        ("unix_ns,watts\n2,5\n2,5\n", "line 3: `2` is not after"),
        ("unix_ns,watts\n,5\n", "line 2: `` is no time"),
    ] {
        let error = Record::new(text).error();
        assert!(error.contains(part), "{text:?}: {error}");
    }
    let missing = External::open(std::path::Path::new("/nonexistent.csv"), 1).unwrap_err();
    assert!(
        missing.to_string().contains("/nonexistent.csv"),
        "{missing}"
    );
}

#[test]
fn a_record_that_is_being_written() {
    let record = Record::new("unix_s,watts\n10,5\n11,5\n12,5\n13,5\n14,1");
    let mut open = record.open();
    let until = |open: &External, s: u64| open.energy(10 * SECOND, s * SECOND).psys_uj;
    assert_eq!(
        (until(&open, 13), until(&open, 14)),
        (Some(15_000_000), None)
    );
    // The last line goes on: 15 W and not 1 W.
    record.append("5\n15,15\n");
    open.refresh().unwrap();
    assert_eq!(until(&open, 15), Some(15_000_000 + 10_000_000 + 15_000_000));
    fs::write(record.path(), "unix_s,watts\n").unwrap();
    let error = open.refresh().unwrap_err().to_string();
    assert!(error.contains("became shorter"), "{error}");
}

/// A meter over a record whose time is that of the clock, which shows one second.
fn live(record_wait_ns: u64) -> (Record, Arc<FakeClock>, Meter) {
    let record = Record::new(&format!("unix_ns,watts\n{}{}", line(0, 20), line(1, 20)));
    let clock = Arc::new(FakeClock::new(SECOND));
    let options = MeterOptions {
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        source: SourceChoice::External(record.path()),
        record_wait_ns,
        ..MeterOptions::default()
    };
    let meter = Meter::open(&Tree::new().roots, &options).unwrap();
    (record, clock, meter)
}

fn line(second: u64, watts: u64) -> String {
    let unix_ns = FakeClock::new(0).unix_ns() + second * SECOND;
    format!("{unix_ns},{watts}\n")
}

#[test]
fn a_live_picture_adds_up() {
    let (record, clock, mut meter) = live(0);
    record.append(&line(2, 20));
    record.append(&line(3, 40));
    clock.advance(2 * SECOND + SECOND / 2);
    let live = meter.sample();
    assert_eq!(
        (live.psys_uj, live.window_ns),
        (Some(50_000_000), 2 * SECOND)
    );
    record.append(&line(4, 40));
    clock.advance(SECOND);
    assert_eq!(meter.sample().psys_uj, Some(40_000_000));
    // Nobody writes any more.
    clock.advance(10 * SECOND);
    assert_eq!(meter.sample().status, EnergyStatus::Absent);
}

#[test]
fn a_window_over_a_record_has_its_own_edges() {
    let (record, clock, mut meter) = live(0);
    clock.advance(SECOND / 4);
    meter.begin();
    clock.advance(3 * SECOND);
    for (second, watts) in [(2, 20), (3, 40), (4, 40)] {
        record.append(&line(second, watts));
    }
    // It does not reach the end, at 4.25 s.
    let window = meter.end();
    assert_eq!(
        (window.status, window.psys_uj),
        (EnergyStatus::Absent, None)
    );
    assert!(window.reason.contains("did not reach"), "{}", window.reason);
    assert_eq!(window.window_ns, 3 * SECOND);
    // Afterwards the same moments have an amount: from 1.25 s, 15 + 30 + 40 + 10 J.
    record.append(&line(5, 40));
    let merged = record
        .open()
        .energy(window.start_unix_ns, window.end_unix_ns);
    assert_eq!(merged.psys_uj, Some(95_000_000), "{merged:?}");
    // And where it does reach the end, at once.
    clock.advance(SECOND / 4);
    let window = meter.end();
    assert_eq!(window.status, EnergyStatus::Ok, "{window:?}");
    assert_eq!(
        (window.psys_uj, window.source.as_str()),
        (Some(105_000_000), "external")
    );
}

#[test]
fn a_window_waits_for_its_record() {
    let (record, clock, mut meter) = live(60 * SECOND);
    meter.begin();
    clock.advance(2 * SECOND);
    let writer = std::thread::spawn(move || {
        for second in 2..=4 {
            record.append(&line(second, 20));
        }
        record
    });
    let window = meter.end();
    assert_eq!(window.psys_uj, Some(40_000_000), "{window:?}");
    writer.join().unwrap();
}

#[test]
fn a_wrong_record_is_told_by_the_probe() {
    let record = Record::new("time,watts\n");
    let probe = probe_of(&Tree::new().roots, &SourceChoice::External(record.path()));
    assert_eq!(probe.status, EnergyStatus::Absent);
    assert!(probe.reason.contains("no column of time"), "{probe:?}");
}
