//! Watching in worlds of a test's own: time passes only as the test says.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::VecDeque;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use trit_core::{Limits, TimelineRow, Violation};
use trit_measure::CpuTimes;
use trit_run::monitor::{
    Ended, EnergyEnd, Event, MonitorOptions, MonitorSummary, Sink, World, watch,
};

const MS: u64 = 1_000_000;

/// Time that passes with waits and looks, things that happen at given times, and a program that uses half of two CPUs.
#[derive(Default)]
struct Fake {
    now_ns: u64,
    /// What happens when; the last is the end.
    events: VecDeque<(u64, Event)>,
    /// How long looks take, in turn; afterwards none takes any time.
    looks_ns: VecDeque<u64>,
    rss_bytes: Vec<u64>,
    cpu_share: f64,
    looks: usize,
    sent: Vec<i32>,
    package_uj: Option<u64>,
}

fn end(at_ms: u64) -> (u64, Event) {
    let ended = Ended {
        status: ExitStatus::from_raw(0),
        cpu: CpuTimes {
            user_ns: 77,
            voluntary_switches: 5,
            ..CpuTimes::default()
        },
        peak_rss_bytes: Some(900_000_000),
    };
    (at_ms * MS, Event::Ended(ended))
}

impl World for Fake {
    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn unix_ns(&self) -> u64 {
        1_000_000_000_000 + self.now_ns
    }

    fn wait(&mut self, timeout_ns: u64) -> io::Result<Event> {
        assert!(timeout_ns > 0, "waits for what is due already");
        let due = self.now_ns + timeout_ns;
        match self.events.front() {
            Some((at, _)) if *at <= due => {
                let (at, event) = self.events.pop_front().unwrap();
                self.now_ns = self.now_ns.max(at);
                Ok(event)
            }
            _ => {
                self.now_ns = due;
                Ok(Event::Due)
            }
        }
    }

    fn send(&mut self, signal: i32) -> io::Result<()> {
        self.sent.push(signal);
        Ok(())
    }

    fn look(&mut self) -> TimelineRow {
        let rss = self.rss_bytes.get(self.looks).or(self.rss_bytes.last());
        let rss_bytes = rss.copied();
        self.looks += 1;
        let row = TimelineRow {
            processes: Some(1),
            rss_bytes,
            user_ns: Some((self.now_ns as f64 * self.cpu_share) as u64),
            system_ns: Some(0),
            ..TimelineRow::default()
        };
        self.now_ns += self.looks_ns.pop_front().unwrap_or(0);
        row
    }

    fn own_cpu_ns(&self) -> u64 {
        self.looks as u64 * 100_000
    }

    fn energy(&mut self) -> EnergyEnd {
        EnergyEnd {
            status: if self.package_uj.is_some() {
                "ok"
            } else {
                "absent"
            }
            .into(),
            package_uj: self.package_uj,
            ..EnergyEnd::default()
        }
    }
}

#[derive(Default)]
struct Kept {
    rows: Vec<TimelineRow>,
    alerts: Vec<(u64, String)>,
    output: Vec<u8>,
}

impl Sink for Kept {
    fn row(&mut self, row: &TimelineRow) -> io::Result<()> {
        self.rows.push(row.clone());
        Ok(())
    }

    fn alert(&mut self, violation: &Violation, at_ns: u64) {
        self.alerts
            .push((at_ns / MS, violation.budget.key().to_owned()));
    }

    fn output(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.extend_from_slice(bytes);
        Ok(())
    }
}

fn run(mut world: Fake, limits: &str) -> (Fake, Kept, MonitorSummary) {
    let options = MonitorOptions {
        cell: "program:x".into(),
        interval_ns: 100 * MS,
        window_ns: 500 * MS,
        limits: Limits::parse("l.toml", &format!("[limits]\n{limits}"))
            .unwrap()
            .of("program:x"),
        cpus: 2,
    };
    let mut kept = Kept::default();
    let summary = watch(&mut world, &options, &mut kept).unwrap();
    (world, kept, summary)
}

fn output(at_ms: u64, text: &str) -> (u64, Event) {
    (at_ms * MS, Event::Output(text.as_bytes().to_vec()))
}

#[test]
fn looks_keep_to_the_schedule_however_long_they_take() {
    let world = Fake {
        events: [end(1050)].into(),
        // The third look takes so long that the next two are missed.
        looks_ns: [10 * MS, 30 * MS, 250 * MS, 99 * MS].into(),
        ..Fake::default()
    };
    let (_, kept, summary) = run(world, "");
    let at: Vec<u64> = kept.rows.iter().map(|row| row.monotonic_ns / MS).collect();
    assert_eq!(at, [0, 100, 200, 500, 600, 700, 800, 900, 1000, 1050]);
    assert_eq!(kept.rows[3].unix_ns, 1_000_500_000_000);
    assert_eq!((summary.samples, summary.missed), (9, 2));
    assert_eq!(summary.wall_ns, 1050 * MS);
    assert_eq!(summary.monitor_cpu_ns, 900_000);
    let share = summary.monitor_cpu_share.unwrap();
    assert!((share - 0.9 / 1050.0).abs() < 1e-12, "{share}");
    let phases: Vec<&str> = kept.rows.iter().map(|row| row.phase.as_str()).collect();
    assert_eq!(phases[8..], ["run", "end"]);
}

#[test]
fn peaks_come_from_the_kernel_and_means_from_the_looks() {
    let world = Fake {
        events: [end(350)].into(),
        rss_bytes: vec![100, 300, 200, 200],
        ..Fake::default()
    };
    let (_, kept, summary) = run(world, "");
    assert_eq!(summary.peak_rss_bytes, Some(900_000_000));
    assert_eq!(summary.rss_bytes_peak, Some(300));
    assert_eq!(summary.rss_bytes_mean, Some(200.0));
    let last = kept.rows.last().unwrap();
    assert_eq!(last.rss_bytes, None, "it is gone");
    assert_eq!(last.peak_rss_bytes, Some(900_000_000));
    assert_eq!((last.user_ns, last.voluntary_switches), (Some(77), Some(5)));
    assert_eq!(summary.energy_status, "absent");
    assert_eq!(
        (summary.energy_pkg_uj, summary.package_w_mean),
        (None, None)
    );
}

#[test]
fn a_limit_alerts_when_it_begins_to_be_exceeded() {
    let world = Fake {
        events: [end(950)].into(),
        rss_bytes: vec![
            1_000_000, 3_000_000, 4_000_000, 1_000_000, 3_500_000, 1_000_000,
        ],
        ..Fake::default()
    };
    // The end has 900 MB, from the kernel.
    let (_, kept, summary) = run(world, "max_rss_mb = 2\n");
    let rss = |at| (at, "max_rss_mb".to_owned());
    assert_eq!(kept.alerts, [rss(100), rss(400), rss(950)]);
    let overrun = &summary.violations[0];
    assert_eq!(overrun.first_at_ns, 100 * MS);
    assert_eq!((overrun.limit, overrun.observed), (2.0, 900.0));
    assert_eq!(summary.violations.len(), 1);
}

#[test]
fn cpu_use_is_judged_over_full_windows_and_else_over_the_life() {
    let world = |end_ms| Fake {
        events: [end(end_ms)].into(),
        cpu_share: 1.8,
        ..Fake::default()
    };
    let (_, kept, summary) = run(world(1000), "max_cpu_percent = 80\n");
    assert_eq!(kept.alerts, [(500, "max_cpu_percent".to_owned())]);
    assert!((summary.cpu_percent_peak.unwrap() - 90.0).abs() < 1e-9);
    // Shorter than a window: judged at its end. The last look was at 400 ms.
    let (_, kept, summary) = run(world(450), "max_cpu_percent = 79\n");
    assert_eq!(kept.alerts, [(450, "max_cpu_percent".to_owned())]);
    assert_eq!(summary.cpu_percent_peak, None);
    let (_, kept, summary) = run(world(1000), "max_cpu_percent = 95\n");
    assert!(kept.alerts.is_empty() && summary.violations.is_empty());
}

#[test]
fn lines_of_the_program_give_latency_rate_and_errors() {
    let world = Fake {
        events: [
            output(50, "hello\n1000000,10\n20"),
            output(150, "00000,10\n"),
            output(250, "3000000,error\n"),
            end(350),
        ]
        .into(),
        package_uj: Some(4_000_000),
        ..Fake::default()
    };
    let limits = "max_latency_ms = 2\nmin_tokens_per_s = 7000\nmax_error_percent = 50\nmax_j_per_token = 0.1\n";
    let (_, kept, summary) = run(world, limits);
    assert_eq!(
        kept.output,
        b"hello\n1000000,10\n2000000,10\n3000000,error\n"
    );
    assert_eq!(
        (summary.requests, summary.errors, summary.tokens),
        (Some(3), Some(1), Some(20))
    );
    assert!((summary.tokens_per_s_mean.unwrap() - 20.0 / 0.003).abs() < 1e-6);
    assert_eq!(summary.latency_ns_peak, Some(3_000_000));
    assert_eq!(summary.j_per_token, Some(0.2));
    let keys: Vec<&str> = summary
        .violations
        .iter()
        .map(|over| over.limit_key)
        .collect();
    assert_eq!(
        keys,
        ["max_latency_ms", "min_tokens_per_s", "max_j_per_token"]
    );
    assert_eq!(kept.rows[1].tokens, Some(10), "what was told by 100 ms");
    assert_eq!(kept.rows[0].tokens, None, "nothing was told yet");
}

#[test]
fn what_was_not_seen_is_not_judged() {
    let world = Fake {
        events: [end(50)].into(),
        ..Fake::default()
    };
    let limits = "max_latency_ms = 2\nmin_tokens_per_s = 1\nmax_error_percent = 0\nmax_j_per_token = 0\nmax_cpu_percent = 100\n";
    let (_, _, summary) = run(world, limits);
    assert!(summary.violations.is_empty());
    assert_eq!(
        summary.not_judged,
        [
            "max_latency_ms",
            "min_tokens_per_s",
            "max_j_per_token",
            "max_error_percent"
        ]
    );
    assert_eq!(summary.tokens, None);
}

#[test]
fn signals_are_passed_on_once() {
    let signal = |at_ms: u64, number, from_terminal| {
        let event = Event::Signal {
            number,
            from_terminal,
        };
        (at_ms * MS, event)
    };
    let world = Fake {
        events: [signal(10, 15, false), signal(20, 2, true), end(30)].into(),
        ..Fake::default()
    };
    let (world, kept, summary) = run(world, "");
    assert_eq!(world.sent, [15], "the terminal told the program itself");
    assert_eq!(summary.signal, Some(2));
    assert_eq!(kept.rows.len(), 2, "what was measured is kept");
}
