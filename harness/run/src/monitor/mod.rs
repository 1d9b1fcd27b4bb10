//! Watching any program: its memory, its time and what it says about its progress, on a fixed schedule, with alerts.
//!
//! [`watch`] decides when to look and what to make of it; a [`World`] is what it looks at, so that tests have worlds of
//! their own. [`Live`] is the real one.

mod lines;
mod live;
mod summary;

use std::io;

use trit_core::{Budget, CellLimits, Observed, TimelineRow, Violation};
pub use trit_measure::sys::child::{Ended, Event};

use crate::schedule::{Schedule, Window};
use lines::Lines;
pub use live::{Live, LiveOptions};
use summary::Tally;
pub use summary::{MonitorSummary, Overrun};

/// How to watch.
#[derive(Clone, Debug)]
pub struct MonitorOptions {
    /// What the rows are called: `program:<name>`.
    pub cell: String,
    /// From one look to the next.
    pub interval_ns: u64,
    /// CPU use, rates and errors are judged over this stretch of time.
    pub window_ns: u64,
    /// What the program may take.
    pub limits: CellLimits,
    /// CPUs that the program may use: the whole of CPU use.
    pub cpus: usize,
}

impl MonitorOptions {
    /// Whether a limit needs what only the program can tell.
    pub fn needs_lines(&self) -> bool {
        let told = [
            Budget::Latency,
            Budget::Rate,
            Budget::Errors,
            Budget::Energy,
        ];
        told.iter()
            .any(|budget| self.limits.limit(*budget).is_some())
    }
}

/// What is known about energy at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnergyEnd {
    /// `ok`, or why there is none.
    pub status: String,
    /// The same in a sentence, with the remedy.
    pub reason: String,
    /// Which meter.
    pub source: String,
    /// Of the packages, over the life of the program.
    pub package_uj: Option<u64>,
    /// Of memory.
    pub dram_uj: Option<u64>,
}

/// A program, and the time by which it is watched.
pub trait World {
    /// Nanoseconds that never go back.
    fn now_ns(&self) -> u64;

    /// Nanoseconds since 1970.
    fn unix_ns(&self) -> u64;

    /// Waits until something happens, at most `timeout_ns`.
    ///
    /// # Errors
    /// When the system refuses.
    fn wait(&mut self, timeout_ns: u64) -> io::Result<Event>;

    /// Passes a signal on.
    ///
    /// # Errors
    /// When the system refuses.
    fn send(&mut self, signal: i32) -> io::Result<()>;

    /// What the program has and used now; the caller fills in name, phase, times and tokens.
    fn look(&mut self) -> TimelineRow;

    /// CPU time that watching took so far.
    fn own_cpu_ns(&self) -> u64;

    /// The energy since the start.
    fn energy(&mut self) -> EnergyEnd;
}

/// Where the results go as they come.
pub trait Sink {
    /// A look.
    ///
    /// # Errors
    /// When it cannot be kept: watching ends, and the program is left to itself.
    fn row(&mut self, row: &TimelineRow) -> io::Result<()>;

    /// A limit is exceeded since now, `at_ns` after the start.
    fn alert(&mut self, violation: &Violation, at_ns: u64);

    /// Bytes of the program's standard output, to be passed on.
    ///
    /// # Errors
    /// When they cannot be passed on.
    fn output(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Watches a program from its start to its end.
///
/// # Errors
/// When waiting or keeping what was seen fails.
pub fn watch(
    world: &mut dyn World,
    options: &MonitorOptions,
    sink: &mut dyn Sink,
) -> io::Result<MonitorSummary> {
    let start_ns = world.now_ns();
    let mut watch = Watch {
        options,
        start_ns,
        own_cpu_ns: world.own_cpu_ns(),
        schedule: Schedule::new(start_ns, options.interval_ns.max(1)),
        lines: Lines::default(),
        cpu: Window::new(options.window_ns),
        tokens: Window::new(options.window_ns),
        token_time: Window::new(options.window_ns),
        requests: Window::new(options.window_ns),
        errors: Window::new(options.window_ns),
        exceeded: Vec::new(),
        tally: Tally::default(),
        last: TimelineRow::default(),
    };
    let ended = loop {
        let now = world.now_ns();
        let due = watch.schedule.due_ns();
        if now >= due {
            watch.look(world, sink)?;
            continue;
        }
        match world.wait(due - now)? {
            Event::Due => {}
            Event::Output(bytes) => {
                watch.listen(&bytes, world.now_ns(), sink);
                sink.output(&bytes)?;
            }
            Event::Signal {
                number,
                from_terminal,
            } => {
                watch.tally.signal = Some(number);
                if !from_terminal {
                    world.send(number)?;
                }
            }
            Event::Ended(ended) => break ended,
        }
    };
    watch.end(world, &ended, sink)
}

struct Watch<'o> {
    options: &'o MonitorOptions,
    start_ns: u64,
    own_cpu_ns: u64,
    schedule: Schedule,
    lines: Lines,
    cpu: Window,
    tokens: Window,
    token_time: Window,
    requests: Window,
    errors: Window,
    /// The limits that are exceeded now.
    exceeded: Vec<Budget>,
    tally: Tally,
    last: TimelineRow,
}

/// Nanoseconds of CPU time as a percentage of what `cpus` offered in `wall_ns`.
fn cpu_percent(cpu_ns: u64, wall_ns: u64, cpus: usize) -> f64 {
    cpu_ns as f64 / (wall_ns as f64 * cpus.max(1) as f64) * 100.0
}

/// Tokens a second.
fn rate(tokens: u64, time_ns: u64) -> Option<f64> {
    (time_ns > 0).then(|| tokens as f64 * 1e9 / time_ns as f64)
}

impl Watch<'_> {
    /// One look on the schedule.
    fn look(&mut self, world: &mut dyn World, sink: &mut dyn Sink) -> io::Result<()> {
        let now = world.now_ns();
        let unix_ns = world.unix_ns();
        let mut row = world.look();
        self.name(&mut row, "run", unix_ns, now);
        let mut observed = Observed {
            rss_bytes: row.peak_rss_bytes.max(row.rss_bytes),
            ..Observed::default()
        };
        let used = row
            .user_ns
            .zip(row.system_ns)
            .map(|(user, system)| user + system);
        if let Some((added, length)) = used.and_then(|used| self.cpu.push(now, used)) {
            observed.cpu_percent = Some(cpu_percent(added, length, self.options.cpus));
        }
        let told = &self.tally;
        let tokens = self.tokens.push(now, told.tokens);
        let token_time = self.token_time.push(now, told.tokens_ns);
        if let (Some((tokens, _)), Some((time_ns, _))) = (tokens, token_time) {
            observed.tokens_per_s = rate(tokens, time_ns);
        }
        let requests = self.requests.push(now, told.requests);
        let errors = self.errors.push(now, told.errors);
        if let (Some((requests, _)), Some((errors, _))) = (requests, errors)
            && requests > 0
        {
            observed.error_percent = Some(errors as f64 / requests as f64 * 100.0);
        }
        self.tally.row(&row, &observed);
        self.judge(&observed, now, sink);
        sink.row(&row)?;
        self.last = row;
        self.schedule.done(world.now_ns());
        Ok(())
    }

    fn name(&self, row: &mut TimelineRow, phase: &str, unix_ns: u64, now: u64) {
        row.cell.clone_from(&self.options.cell);
        phase.clone_into(&mut row.phase);
        row.unix_ns = unix_ns;
        row.monotonic_ns = now.saturating_sub(self.start_ns);
        if self.tally.requests > 0 {
            row.tokens = Some(self.tally.tokens);
            row.tokens_ns = Some(self.tally.tokens_ns);
            row.requests = Some(self.tally.requests);
            row.errors = Some(self.tally.errors);
        }
    }

    /// What the program says about its progress. Each time is judged alone.
    fn listen(&mut self, bytes: &[u8], now: u64, sink: &mut dyn Sink) {
        for told in self.lines.push(bytes) {
            self.tally.told(&told);
            let observed = Observed {
                latency_ms: Some(told.time_ns as f64 / 1e6),
                ..Observed::default()
            };
            self.judge(&observed, now, sink);
        }
    }

    /// Alerts when a limit begins to be exceeded, and remembers the worst.
    fn judge(&mut self, observed: &Observed, now: u64, sink: &mut dyn Sink) {
        let at_ns = now.saturating_sub(self.start_ns);
        let violated = self.options.limits.violated(&self.options.cell, observed);
        for budget in Budget::ALL {
            if observed.value(budget).is_none() {
                continue;
            }
            self.tally.judged.insert(budget);
            match violated.iter().find(|violation| violation.budget == budget) {
                None => self.exceeded.retain(|exceeded| *exceeded != budget),
                Some(violation) => {
                    if !self.exceeded.contains(&budget) {
                        self.exceeded.push(budget);
                        sink.alert(violation, at_ns);
                    }
                    self.tally.violation(violation, at_ns);
                }
            }
        }
    }

    /// The last row, from what the kernel says about the whole life, and the summary. A program that ended before a window
    /// was full is judged over its life.
    fn end(
        mut self,
        world: &mut dyn World,
        ended: &Ended,
        sink: &mut dyn Sink,
    ) -> io::Result<MonitorSummary> {
        let now = world.now_ns();
        let unix_ns = world.unix_ns();
        let wall_ns = now.saturating_sub(self.start_ns);
        let last = &self.last;
        let largest = |sampled: Option<u64>, exact: u64| Some(sampled.unwrap_or(0).max(exact));
        let energy = world.energy();
        let mut row = TimelineRow {
            peak_rss_bytes: last.peak_rss_bytes.max(ended.peak_rss_bytes),
            cgroup_peak_bytes: last.cgroup_peak_bytes,
            user_ns: largest(last.user_ns, ended.cpu.user_ns),
            system_ns: largest(last.system_ns, ended.cpu.system_ns),
            minor_faults: largest(last.minor_faults, ended.cpu.minor_faults),
            major_faults: largest(last.major_faults, ended.cpu.major_faults),
            voluntary_switches: Some(ended.cpu.voluntary_switches),
            involuntary_switches: Some(ended.cpu.involuntary_switches),
            steal_ns: last.steal_ns,
            throttled_ns: last.throttled_ns,
            throttle_count: last.throttle_count,
            energy_pkg_uj: energy.package_uj,
            energy_dram_uj: energy.dram_uj,
            ..TimelineRow::default()
        };
        // Ticks and the exact times divide time differently; the sum is what the kernel knows.
        let exact = ended.cpu.user_ns.saturating_add(ended.cpu.system_ns);
        if last.user_ns.unwrap_or(0) + last.system_ns.unwrap_or(0) <= exact {
            row.user_ns = Some(ended.cpu.user_ns);
            row.system_ns = Some(ended.cpu.system_ns);
        }
        self.name(&mut row, "end", unix_ns, now);
        let cpu_ns = row.user_ns.unwrap_or(0) + row.system_ns.unwrap_or(0);
        let told = &self.tally;
        let j_per_token = energy
            .package_uj
            .filter(|_| told.tokens > 0)
            .map(|uj| uj as f64 / 1e6 / told.tokens as f64);
        let unless = |budget: Budget, value: Option<f64>| {
            value.filter(|_| !self.tally.judged.contains(&budget))
        };
        let observed = Observed {
            rss_bytes: row.peak_rss_bytes,
            cpu_percent: unless(
                Budget::Cpu,
                (wall_ns > 0).then(|| cpu_percent(cpu_ns, wall_ns, self.options.cpus)),
            ),
            tokens_per_s: unless(
                Budget::Rate,
                rate(told.tokens, told.tokens_ns).filter(|_| told.requests > 0),
            ),
            error_percent: unless(
                Budget::Errors,
                (told.requests > 0).then(|| told.errors as f64 / told.requests as f64 * 100.0),
            ),
            latency_ms: None,
            j_per_token,
        };
        self.judge(&observed, now, sink);
        sink.row(&row)?;
        let own_cpu_ns = world.own_cpu_ns().saturating_sub(self.own_cpu_ns);
        Ok(self.tally.summary(
            self.options,
            &row,
            ended,
            energy,
            &summary::Own {
                wall_ns,
                cpu_ns: own_cpu_ns,
                missed: self.schedule.missed(),
            },
        ))
    }
}
