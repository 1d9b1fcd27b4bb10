//! What a watched program amounts to: peaks, means, and the limits that it did not keep.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;

use serde::Serialize;
use trit_core::{Budget, Observed, TimelineRow, Violation};

use super::lines::Told;
use super::{Ended, EnergyEnd, MonitorOptions, cpu_percent, rate};

/// A limit that was exceeded, at its worst.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overrun {
    /// Its key in `[limits]`.
    pub limit_key: &'static str,
    /// What was allowed, in the unit of the key.
    pub limit: f64,
    /// The worst that was seen.
    pub observed: f64,
    /// When it was exceeded first, since the start.
    pub first_at_ns: u64,
    /// The same in a sentence.
    pub text: String,
}

/// Peaks and means of a watched program. What could not be seen is missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MonitorSummary {
    /// `program:<name>`.
    pub cell: String,
    /// Its exit code; missing when a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub exit_signal: Option<i32>,
    /// The last signal that was sent to the monitor.
    pub signal: Option<i32>,
    /// From its start to its end.
    pub wall_ns: u64,
    /// From one look to the next.
    pub interval_ns: u64,
    /// CPU use, rates and errors were judged over this stretch.
    pub window_ns: u64,
    /// Looks at it.
    pub samples: u64,
    /// Looks that were left out, because the one before took too long or the machine was busy.
    pub missed: u64,
    /// CPUs that it could use.
    pub cpus: usize,
    /// Most processes at once.
    pub processes_peak: Option<u64>,
    /// Most threads at once.
    pub threads_peak: Option<u64>,
    /// Largest resident set of any one process: kept by the kernel, nothing between two looks is missed.
    pub peak_rss_bytes: Option<u64>,
    /// Largest sum over all processes that was seen.
    pub rss_bytes_peak: Option<u64>,
    /// Mean of that sum.
    pub rss_bytes_mean: Option<f64>,
    /// Largest anonymous part that was seen.
    pub rss_anon_bytes_peak: Option<u64>,
    /// Largest file-backed part that was seen.
    pub rss_file_bytes_peak: Option<u64>,
    /// Largest proportional set that was seen.
    pub pss_bytes_peak: Option<u64>,
    /// Most anonymous memory on huge pages that was seen.
    pub anon_huge_bytes_peak: Option<u64>,
    /// Largest memory of the control group, others in it included.
    pub cgroup_peak_bytes: Option<u64>,
    /// User CPU time.
    pub user_ns: Option<u64>,
    /// System CPU time.
    pub system_ns: Option<u64>,
    /// CPU time as a percentage of what the CPUs offered, over its life.
    pub cpu_percent_mean: Option<f64>,
    /// The most of it over a window; missing when it ended before one was full.
    pub cpu_percent_peak: Option<f64>,
    /// Page faults that read nothing.
    pub minor_faults: Option<u64>,
    /// Page faults that had to read.
    pub major_faults: Option<u64>,
    /// Voluntary context switches.
    pub voluntary_switches: Option<u64>,
    /// Involuntary context switches.
    pub involuntary_switches: Option<u64>,
    /// Time that the hypervisor took.
    pub steal_ns: Option<u64>,
    /// Time for which the control group was kept from running.
    pub throttled_ns: Option<u64>,
    /// How often the processor was slowed down for its temperature.
    pub throttle_count: Option<u64>,
    /// Mean clock of the first CPU.
    pub frequency_khz_mean: Option<f64>,
    /// Its lowest.
    pub frequency_khz_low: Option<u64>,
    /// Hottest sensor of the processor.
    pub temperature_mc_peak: Option<i64>,
    /// Requests that it told of.
    pub requests: Option<u64>,
    /// Those that failed.
    pub errors: Option<u64>,
    /// Tokens that it told of.
    pub tokens: Option<u64>,
    /// Tokens a second of the time that it told.
    pub tokens_per_s_mean: Option<f64>,
    /// The least over a window.
    pub tokens_per_s_low: Option<f64>,
    /// Mean time of what it told.
    pub latency_ns_mean: Option<f64>,
    /// The longest.
    pub latency_ns_peak: Option<u64>,
    /// `ok`, or why there is no energy.
    pub energy_status: String,
    /// The same in a sentence.
    pub energy_reason: String,
    /// Which meter.
    pub energy_source: String,
    /// Of the packages over its life: whatever ran on them.
    pub energy_pkg_uj: Option<u64>,
    /// Of memory.
    pub energy_dram_uj: Option<u64>,
    /// Mean power of the packages.
    pub package_w_mean: Option<f64>,
    /// Joules of the packages for one token that it told of.
    pub j_per_token: Option<f64>,
    /// CPU time that watching took.
    pub monitor_cpu_ns: u64,
    /// The same as a share of one core.
    pub monitor_cpu_share: Option<f64>,
    /// The limits that it did not keep.
    pub violations: Vec<Overrun>,
    /// Keys of limits for which nothing was seen.
    pub not_judged: Vec<&'static str>,
}

/// About the monitor itself.
pub(super) struct Own {
    pub(super) wall_ns: u64,
    pub(super) cpu_ns: u64,
    pub(super) missed: u64,
}

/// A mean that grows.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    count: u64,
    sum: f64,
}

impl Mean {
    fn add(&mut self, value: Option<u64>) {
        if let Some(value) = value {
            self.count += 1;
            self.sum += value as f64;
        }
    }

    fn mean(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// What was seen so far; constant in size, however long it takes.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) signal: Option<i32>,
    pub(super) tokens: u64,
    pub(super) tokens_ns: u64,
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) judged: BTreeSet<Budget>,
    latency: Mean,
    overruns: Vec<(Budget, Overrun)>,
    rss: Mean,
    frequency: Mean,
    summary: MonitorSummary,
}

impl Tally {
    /// A look.
    pub(super) fn row(&mut self, row: &TimelineRow, observed: &Observed) {
        let to = &mut self.summary;
        to.samples += 1;
        to.processes_peak = to.processes_peak.max(row.processes);
        to.threads_peak = to.threads_peak.max(row.threads);
        to.rss_bytes_peak = to.rss_bytes_peak.max(row.rss_bytes);
        to.rss_anon_bytes_peak = to.rss_anon_bytes_peak.max(row.rss_anon_bytes);
        to.rss_file_bytes_peak = to.rss_file_bytes_peak.max(row.rss_file_bytes);
        to.pss_bytes_peak = to.pss_bytes_peak.max(row.pss_bytes);
        to.anon_huge_bytes_peak = to.anon_huge_bytes_peak.max(row.anon_huge_bytes);
        to.temperature_mc_peak = to.temperature_mc_peak.max(row.temperature_mc);
        to.frequency_khz_low = match (to.frequency_khz_low, row.frequency_khz) {
            (Some(low), Some(now)) => Some(low.min(now)),
            (low, now) => low.or(now),
        };
        let high = to.cpu_percent_peak.into_iter().chain(observed.cpu_percent);
        to.cpu_percent_peak = high.reduce(f64::max);
        let low = to.tokens_per_s_low.into_iter().chain(observed.tokens_per_s);
        to.tokens_per_s_low = low.reduce(f64::min);
        self.rss.add(row.rss_bytes);
        self.frequency.add(row.frequency_khz);
    }

    /// A line of the program.
    pub(super) fn told(&mut self, told: &Told) {
        self.requests += 1;
        self.latency.add(Some(told.time_ns));
        self.summary.latency_ns_peak = self.summary.latency_ns_peak.max(Some(told.time_ns));
        match told.tokens {
            Some(tokens) => {
                self.tokens = self.tokens.saturating_add(tokens);
                self.tokens_ns = self.tokens_ns.saturating_add(told.time_ns);
            }
            None => self.errors += 1,
        }
    }

    /// A limit that is exceeded; the worst is kept, and when it was first.
    pub(super) fn violation(&mut self, violation: &Violation, at_ns: u64) {
        let overrun = Overrun {
            limit_key: violation.budget.key(),
            limit: violation.limit,
            observed: violation.observed,
            first_at_ns: at_ns,
            text: violation.to_string(),
        };
        let known = self
            .overruns
            .iter_mut()
            .find(|(budget, _)| *budget == violation.budget);
        match known {
            None => self.overruns.push((violation.budget, overrun)),
            Some((budget, worst)) => {
                let worse = if budget.is_minimum() {
                    violation.observed < worst.observed
                } else {
                    violation.observed > worst.observed
                };
                if worse {
                    let first_at_ns = worst.first_at_ns;
                    *worst = Overrun {
                        first_at_ns,
                        ..overrun
                    };
                }
            }
        }
    }

    pub(super) fn summary(
        self,
        options: &MonitorOptions,
        last: &TimelineRow,
        ended: &Ended,
        energy: EnergyEnd,
        own: &Own,
    ) -> MonitorSummary {
        let told = |value: u64| (self.requests > 0).then_some(value);
        let cpu_ns = last.user_ns.unwrap_or(0) + last.system_ns.unwrap_or(0);
        let some_time = own.wall_ns > 0;
        let limited = Budget::ALL
            .into_iter()
            .filter(|budget| options.limits.limit(*budget).is_some());
        MonitorSummary {
            cell: options.cell.clone(),
            exit_code: ended.status.code(),
            exit_signal: ended.status.signal(),
            signal: self.signal,
            wall_ns: own.wall_ns,
            interval_ns: options.interval_ns,
            window_ns: options.window_ns,
            missed: own.missed,
            cpus: options.cpus,
            peak_rss_bytes: last.peak_rss_bytes,
            rss_bytes_mean: self.rss.mean(),
            cgroup_peak_bytes: last.cgroup_peak_bytes,
            user_ns: last.user_ns,
            system_ns: last.system_ns,
            cpu_percent_mean: some_time.then(|| cpu_percent(cpu_ns, own.wall_ns, options.cpus)),
            minor_faults: last.minor_faults,
            major_faults: last.major_faults,
            voluntary_switches: last.voluntary_switches,
            involuntary_switches: last.involuntary_switches,
            steal_ns: last.steal_ns,
            throttled_ns: last.throttled_ns,
            throttle_count: last.throttle_count,
            frequency_khz_mean: self.frequency.mean(),
            requests: told(self.requests),
            errors: told(self.errors),
            tokens: told(self.tokens),
            tokens_per_s_mean: rate(self.tokens, self.tokens_ns),
            latency_ns_mean: self.latency.mean(),
            package_w_mean: energy
                .package_uj
                .filter(|_| some_time)
                .map(|uj| uj as f64 * 1e3 / own.wall_ns as f64),
            j_per_token: energy
                .package_uj
                .filter(|_| self.tokens > 0)
                .map(|uj| uj as f64 / 1e6 / self.tokens as f64),
            energy_pkg_uj: energy.package_uj,
            energy_dram_uj: energy.dram_uj,
            energy_status: energy.status,
            energy_reason: energy.reason,
            energy_source: energy.source,
            monitor_cpu_ns: own.cpu_ns,
            monitor_cpu_share: some_time.then(|| own.cpu_ns as f64 / own.wall_ns as f64),
            violations: self
                .overruns
                .into_iter()
                .map(|(_, overrun)| overrun)
                .collect(),
            not_judged: limited
                .filter(|budget| !self.judged.contains(budget))
                .map(Budget::key)
                .collect(),
            ..self.summary
        }
    }
}
