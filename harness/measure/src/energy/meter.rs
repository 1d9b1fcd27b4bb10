//! Reading a source over windows of time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::external::MAX_GAP_NS;
use super::load::Load;
use super::probe::{self, EnergyProbe};
use super::{
    Domain, DomainEnergy, DomainKind, Energy, EnergyStatus, Quantity, ReadError, Reading, Source,
};
use crate::{Clock, MonotonicClock, Roots};

/// Shorter windows are refused. The counters move about once a millisecond, with jitter: over a second that is an
/// uncertainty of 0.1 to 0.2 %.
pub const MIN_WINDOW_NS: u64 = 1_000_000_000;

/// No package takes up more than this: 2 kW, in microjoules a nanosecond. Where a counter claims so, it was reset or
/// the machine slept.
const MAX_UJ_PER_NS: f64 = 2.0;

/// A counter may be as late as this: drivers that count in software do so ten times a second.
const UPDATE_SLACK_NS: u64 = 100_000_000;

/// Counters that differ by no more than this share count the same thing.
const MIRROR_SHARE: f64 = 0.001;

/// RAPL counters are updated about this often, and not at the moment of reading.
const UPDATE_NS: f64 = 1_000_000.0;

/// Shorter stretches do not show whether two dies count the same thing.
const MIN_MIRROR_NS: u64 = 200_000_000;

/// Nor does less energy.
const MIN_MIRROR_UJ: u64 = 100_000;

/// Two steps of the coarsest counter: a reading before and one after an update.
const STEPS_UJ: f64 = 2.0 * 61.04;

/// How long the processor is kept busy at most when a meter is opened, to see its counters move.
const BUSY_NS: u64 = 1_000_000_000;

/// A power that was not read for longer than this cannot be integrated.
const MAX_POWER_GAP_NS: u64 = 2_500_000_000;

/// Other processes may use this share of a CPU, see [`Energy::others_cpu_share`].
pub const MAX_OTHERS_SHARE: f64 = 0.02;

/// Which meter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SourceChoice {
    /// The first that has readable packages, of perf, powercap and hwmon in this order.
    #[default]
    Auto,
    /// The `power` PMU of the kernel.
    Perf,
    /// `/sys/class/powercap`.
    Powercap,
    /// `/sys/class/hwmon`, also where it knows no package.
    Hwmon,
    /// A record that another program writes: for merging after the run.
    External(PathBuf),
    /// A meter outside of the machine whose record comes when the run is over: windows have edges and no amounts.
    Later,
}

/// How to measure.
#[derive(Clone)]
pub struct MeterOptions {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Which meter.
    pub source: SourceChoice,
    /// The process whose descendants are ours; everybody else is other load. `None`: this process.
    pub own_process: Option<u32>,
    /// Other processes may use this share of a CPU in a window, else it is `mixed_load`; `None`: as much as they like.
    pub max_others_share: Option<f64>,
    /// Keep a CPU busy until all package counters have moved, up to a second, when the meter is opened. Usually a few
    /// milliseconds; half a second where dies have meters.
    pub busy_probe: bool,
    /// How long the end of a window waits for a recorded meter to reach it: its record is a sample or a buffer late.
    pub record_wait_ns: u64,
}

impl Default for MeterOptions {
    fn default() -> Self {
        Self {
            clock: Arc::new(MonotonicClock::new()),
            source: SourceChoice::Auto,
            own_process: None,
            max_others_share: Some(MAX_OTHERS_SHARE),
            busy_probe: true,
            record_wait_ns: MAX_GAP_NS,
        }
    }
}

impl std::fmt::Debug for MeterOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeterOptions")
            .field("source", &self.source)
            .field("own_process", &self.own_process)
            .field("max_others_share", &self.max_others_share)
            .field("busy_probe", &self.busy_probe)
            .field("record_wait_ns", &self.record_wait_ns)
            .finish_non_exhaustive()
    }
}

/// A status other than `ok`, and the reason.
pub(super) type Fault = (EnergyStatus, String);

/// Reads a source over windows of time, one after the other, and in between for a live picture.
///
/// A counter starts again at 0 after some minutes under full load (about 160 s at 400 W in the worst case known): call
/// [`Meter::tick`] or [`Meter::sample`] once a second, which also notices a counter that was reset.
pub struct Meter {
    source: Box<dyn Source>,
    clock: Arc<dyn Clock>,
    roots: Roots,
    own_process: Option<u32>,
    max_others_share: Option<f64>,
    record_wait_ns: u64,
    tracks: Vec<Track>,
    read_ns: u64,
    unix_ns: u64,
    /// Packages with several meters: whether these mirror each other.
    mirrored: BTreeMap<u32, bool>,
    window: Mark,
    window_load: Option<Load>,
    sample: Mark,
}

/// A domain over time.
struct Track {
    last: Option<u64>,
    /// Since the meter was opened: microjoules, ticks, or microwatts times nanoseconds.
    total: u128,
}

/// Where a window or a live sample began.
#[derive(Clone)]
struct Mark {
    at_ns: u64,
    unix_ns: u64,
    totals: Vec<u128>,
    /// The first thing that went wrong with a domain since then.
    faults: Vec<Option<Fault>>,
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter")
            .field("source", &self.source.name())
            .field("domains", &self.source.domains())
            .finish_non_exhaustive()
    }
}

impl Meter {
    /// Opens the meter that `options` ask for. Keeps a CPU busy for up to a second, see [`MeterOptions::busy_probe`].
    ///
    /// # Errors
    /// The probe that says why there is none, and what helps. It is about the last source that was tried where all fail.
    pub fn open(roots: &Roots, options: &MeterOptions) -> Result<Self, Box<EnergyProbe>> {
        let (sources, failed) = probe::open(roots, &options.source);
        let mut stuck = None;
        for source in sources {
            let mut meter = Self::over(source, roots, options);
            let clock = Arc::clone(&options.clock);
            let probed = if options.busy_probe {
                meter.busy_probe(&mut || spin(clock.as_ref()))
            } else {
                Ok(())
            };
            match probed {
                Ok(()) => return Ok(meter),
                Err(fault) => stuck = Some(fault),
            }
        }
        Err(Box::new(stuck.map_or(failed, EnergyProbe::from)))
    }

    /// A meter over a source, with one reading of it.
    pub(super) fn over(source: Box<dyn Source>, roots: &Roots, options: &MeterOptions) -> Self {
        let tracks = source.domains().iter().map(|_| Track {
            last: None,
            total: 0,
        });
        let mut meter = Self {
            tracks: tracks.collect(),
            source,
            clock: Arc::clone(&options.clock),
            roots: roots.clone(),
            own_process: options.own_process,
            max_others_share: options.max_others_share,
            record_wait_ns: options.record_wait_ns,
            read_ns: 0,
            unix_ns: 0,
            mirrored: BTreeMap::new(),
            window: Mark::empty(),
            window_load: None,
            sample: Mark::empty(),
        };
        let reading = meter.source.read(meter.clock.as_ref());
        meter.take(&reading);
        meter.window = meter.mark(&reading);
        meter.sample = meter.window.clone();
        meter
    }

    /// The word of the source.
    pub fn source(&self) -> &'static str {
        self.source.name()
    }

    /// What it measures.
    pub fn domains(&self) -> &[Domain] {
        self.source.domains()
    }

    /// Begins a window.
    pub fn begin(&mut self) {
        self.window_load = Load::read(&self.roots, self.own_process);
        let reading = self.advance();
        self.window = self.mark(&reading);
        if self.source.lags() {
            // The values are those of an earlier moment; the window begins now all the same.
            self.window.unix_ns = self.clock.unix_ns();
        }
    }

    /// Reads the counters within a window, so that none starts again at 0 twice between two readings.
    pub fn tick(&mut self) {
        self.advance();
    }

    /// Ends the window that [`Meter::begin`] began; without one, it began when the meter was opened. Over a recorded meter
    /// it waits for the record, see [`MeterOptions::record_wait_ns`].
    pub fn end(&mut self) -> Energy {
        self.advance();
        let load = Load::read(&self.roots, self.own_process);
        let mut energy = if self.source.lags() {
            self.recorded()
        } else {
            self.since(&self.window.clone())
        };
        let fault = self.window_fault(load.as_ref(), &mut energy);
        if let Some((status, reason)) = fault {
            energy.refuse(status, reason);
        }
        energy
    }

    /// The energy since the last call, or since the meter was opened: a live picture, with no word about precision. Short
    /// stretches show the steps of the counters. Windows and live samples do not disturb each other.
    pub fn sample(&mut self) -> Energy {
        let reading = self.advance();
        let energy = self.since(&self.sample.clone());
        self.sample = self.mark(&reading);
        energy
    }

    /// Keeps a CPU busy with `work` (about a millisecond a call) until the counters of all packages have moved, and where
    /// dies have meters until it is plain whether these mirror each other: work on one CPU heats one die.
    pub(super) fn busy_probe(&mut self, work: &mut dyn FnMut()) -> Result<(), Fault> {
        if self.source.lags() {
            return Ok(());
        }
        let start = self.window.clone();
        let dies = self.groups().values().any(|group| group.len() > 1);
        let least_ns = if dies { BUSY_NS / 2 } else { 0 };
        loop {
            work();
            self.advance();
            let passed_ns = self.read_ns - start.at_ns;
            let energy = self.since(&start);
            let moved = energy.status == EnergyStatus::Ok && self.still(&start).is_none();
            if moved && passed_ns >= least_ns {
                break;
            }
            if passed_ns >= BUSY_NS {
                let fault = (energy.status, energy.reason);
                return Err(self
                    .still(&start)
                    .filter(|_| fault.0 == EnergyStatus::Ok)
                    .unwrap_or(fault));
            }
        }
        self.window = self.now();
        self.sample = self.window.clone();
        Ok(())
    }

    /// The window until now by a record that comes late.
    fn recorded(&mut self) -> Energy {
        const STEP_NS: u64 = 50_000_000;
        let (start_unix_ns, end_unix_ns) = (self.window.unix_ns, self.clock.unix_ns());
        let mut waited_ns = 0;
        let mut energy = loop {
            if let Some(energy) = self.source.window(start_unix_ns, end_unix_ns) {
                break energy;
            }
            if waited_ns >= self.record_wait_ns {
                let reason = format!(
                    "the record did not reach the end of the window within {} ms",
                    waited_ns / 1_000_000
                );
                break Energy::without(EnergyStatus::Absent, reason);
            }
            std::thread::park_timeout(Duration::from_nanos(STEP_NS));
            waited_ns += STEP_NS;
        };
        self.source.name().clone_into(&mut energy.source);
        (energy.start_unix_ns, energy.end_unix_ns) = (start_unix_ns, end_unix_ns);
        energy.window_ns = end_unix_ns.saturating_sub(start_unix_ns);
        energy
    }

    /// What makes a window with amounts unfit for results. `load` is that at its end.
    fn window_fault(&self, load: Option<&Load>, energy: &mut Energy) -> Option<Fault> {
        let window_ns = energy.window_ns;
        let good = energy.status == EnergyStatus::Ok;
        if good && window_ns < MIN_WINDOW_NS {
            let reason = format!(
                "a window of {window_ns} ns is shorter than the {MIN_WINDOW_NS} ns that the meter needs"
            );
            return Some((EnergyStatus::WindowTooShort, reason));
        }
        if good
            && !self.source.lags()
            && let Some(fault) = self.still(&self.window)
        {
            return Some(fault);
        }
        let others = load?.others_since(self.window_load.as_ref()?, window_ns)?;
        energy.others_cpu_share = Some(others.share);
        let limit = self.max_others_share?;
        // A source without domains has no amount yet, and other load speaks against what it will have.
        let open = good || self.source.domains().is_empty();
        if open && others.share > limit + others.resolution {
            let reason = format!(
                "other processes used {:.1} % of a CPU, more than the {:.1} % allowed",
                100.0 * others.share,
                100.0 * limit
            );
            return Some((EnergyStatus::MixedLoad, reason));
        }
        None
    }

    /// A package whose counter did not move since `mark`.
    fn still(&self, mark: &Mark) -> Option<Fault> {
        let still = |group: &&Vec<usize>| {
            let moved = |&i: &usize| self.tracks[i].total > mark.totals[i];
            !group.iter().any(moved)
        };
        let groups = self.groups();
        let domain = &self.source.domains()[groups.values().find(still)?[0]];
        let at_zero = groups
            .values()
            .flatten()
            .all(|&i| self.tracks[i].last == Some(0));
        let (status, what) = if at_zero {
            (EnergyStatus::ZeroCounter, "shows 0")
        } else {
            (EnergyStatus::StaleCounter, "did not move")
        };
        let ms = (self.read_ns - mark.at_ns) / 1_000_000;
        Some((
            status,
            format!("`{}` ({}) {what} after {ms} ms", domain.name, domain.place),
        ))
    }

    /// The domains that count, by package; a domain without a number is a package of its own.
    fn groups(&self) -> BTreeMap<(Option<u32>, usize), Vec<usize>> {
        let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (i, domain) in self.source.domains().iter().enumerate() {
            if domain.counts {
                let own = if domain.package.is_some() { 0 } else { i };
                groups.entry((domain.package, own)).or_default().push(i);
            }
        }
        groups
    }

    /// Reads the source and adds what was used since the last reading.
    fn advance(&mut self) -> Reading {
        let reading = self.source.read(self.clock.as_ref());
        self.take(&reading);
        reading
    }

    /// Adds a reading, domain by domain: a sum of counters does not start again at 0 like one.
    fn take(&mut self, reading: &Reading) {
        let passed_ns = reading.at_ns.saturating_sub(self.read_ns);
        let domains = self.source.domains();
        let packages = domains.iter().filter(|domain| domain.counts).count();
        for (i, (track, domain)) in self.tracks.iter_mut().zip(domains).enumerate() {
            let fault = match &reading.values[i] {
                Err(error) => Some((
                    error.status(),
                    format!("the meter `{}` cannot be read: {error}", domain.place),
                )),
                Ok(value) => {
                    let used = match track.last {
                        Some(last) => used(domain, last, *value, passed_ns, packages),
                        None => Ok(0),
                    };
                    track.last = Some(*value);
                    match used {
                        Ok(used) => {
                            track.total = track.total.saturating_add(used);
                            None
                        }
                        Err(fault) => Some(fault),
                    }
                }
            };
            for mark in [&mut self.window, &mut self.sample] {
                if let Some(slot) = mark.faults.get_mut(i)
                    && slot.is_none()
                {
                    slot.clone_from(&fault);
                }
            }
        }
        (self.read_ns, self.unix_ns) = (reading.at_ns, reading.unix_ns);
    }

    /// A mark at the present reading, with its errors.
    fn mark(&self, reading: &Reading) -> Mark {
        let fault = |(value, domain): (&Result<u64, ReadError>, &Domain)| {
            let error = value.as_ref().err()?;
            Some((
                error.status(),
                format!("the meter `{}` cannot be read: {error}", domain.place),
            ))
        };
        let mut mark = self.now();
        mark.faults = reading
            .values
            .iter()
            .zip(self.domains())
            .map(fault)
            .collect();
        mark
    }

    fn now(&self) -> Mark {
        Mark {
            at_ns: self.read_ns,
            unix_ns: self.unix_ns,
            totals: self.tracks.iter().map(|track| track.total).collect(),
            faults: vec![None; self.tracks.len()],
        }
    }

    /// The energy since `mark`.
    fn since(&mut self, mark: &Mark) -> Energy {
        let window_ns = self.read_ns.saturating_sub(mark.at_ns);
        let domains = self.source.domains().iter().enumerate();
        let domains: Vec<DomainEnergy> = domains
            .map(|(i, domain)| DomainEnergy {
                name: domain.name.clone(),
                kind: domain.kind,
                energy_uj: mark.faults[i]
                    .is_none()
                    .then(|| microjoules(domain, self.tracks[i].total - mark.totals[i])),
            })
            .collect();
        let mut energy = Energy::without(EnergyStatus::Ok, "");
        self.source.name().clone_into(&mut energy.source);
        (energy.window_ns, energy.start_unix_ns, energy.end_unix_ns) =
            (window_ns, mark.unix_ns, self.unix_ns);
        energy.domains = domains;
        for (i, fault) in mark.faults.iter().enumerate() {
            let Some((status, reason)) = fault else {
                continue;
            };
            let counts = self.source.domains()[i].counts;
            // A source without packages has nothing else to offer.
            if counts || self.groups().is_empty() {
                energy.refuse(*status, reason.clone());
                return energy;
            }
            energy.notes.push(reason.clone());
        }
        match self.packages(&energy.domains, window_ns) {
            Ok((package_uj, mirrored)) => {
                (energy.package_uj, energy.mirrored_dies) = (package_uj, mirrored);
            }
            Err((status, reason)) => {
                energy.refuse(status, reason);
                return energy;
            }
        }
        energy.add_memory_and_platform();
        energy
    }

    /// The energy of all packages, and whether dies were found to mirror each other.
    fn packages(
        &mut self,
        energies: &[DomainEnergy],
        window_ns: u64,
    ) -> Result<(Option<u64>, bool), Fault> {
        let (mut sum, mut any) = (None, false);
        for ((package, _), group) in self.groups() {
            let of_group: Vec<u64> = group
                .iter()
                .filter_map(|&i| energies[i].energy_uj)
                .collect();
            let least = of_group.iter().copied().min().unwrap_or(0);
            let most = of_group.iter().copied().max().unwrap_or(0);
            let mut used = of_group
                .iter()
                .fold(0u64, |sum, uj| sum.saturating_add(*uj));
            if let (Some(package), true) = (package, group.len() > 1) {
                let enough = window_ns >= MIN_MIRROR_NS && most >= MIN_MIRROR_UJ;
                // One of two readings may have come before an update of the counters, and the other one after it.
                let tolerance = MIRROR_SHARE + UPDATE_NS / window_ns.max(1) as f64;
                let same = (most - least) as f64 <= tolerance * most as f64 + STEPS_UJ;
                let mirrored = match self.mirrored.get(&package) {
                    None if enough => {
                        self.mirrored.insert(package, same);
                        same
                    }
                    None => {
                        let reason = format!(
                            "the meters of the dies of package {package} may show the same counter, which {window_ns} ns do not tell"
                        );
                        return Err((EnergyStatus::WindowTooShort, reason));
                    }
                    Some(true) if enough && window_ns >= MIN_WINDOW_NS && !same => {
                        self.mirrored.insert(package, false);
                        let reason = format!(
                            "the meters of the dies of package {package} showed the same counter until now, and differ: {least} and {most} uJ"
                        );
                        return Err((EnergyStatus::Implausible, reason));
                    }
                    Some(&mirrored) => mirrored,
                };
                if mirrored {
                    (used, any) = (most, true);
                }
            }
            sum = Some(sum.unwrap_or(0u64).saturating_add(used));
        }
        Ok((sum, any))
    }
}

impl Mark {
    fn empty() -> Self {
        Self {
            at_ns: 0,
            unix_ns: 0,
            totals: Vec::new(),
            faults: Vec::new(),
        }
    }
}

/// What a domain used between two readings, in the unit of [`Track::total`].
fn used(
    domain: &Domain,
    last: u64,
    value: u64,
    passed_ns: u64,
    packages: usize,
) -> Result<u128, Fault> {
    let place = &domain.place;
    let used = match domain.quantity {
        Quantity::Microjoules { .. } | Quantity::Ticks { .. } if value >= last => {
            u128::from(value - last)
        }
        // Both are inside of the range: the source refuses others.
        Quantity::Microjoules {
            range_uj: Some(range),
        } => u128::from(value) + u128::from(range.saturating_sub(last)),
        Quantity::Microjoules { range_uj: None } => {
            let reason = format!("`{place}` started again, and its range is not known");
            return Err((EnergyStatus::WrapUncorrectable, reason));
        }
        Quantity::Ticks { .. } => {
            let reason = format!("`{place}` went back from {last} to {value}");
            return Err((EnergyStatus::Implausible, reason));
        }
        Quantity::Microwatts if passed_ns > MAX_POWER_GAP_NS => {
            let reason = format!("the power of `{place}` was not read for {passed_ns} ns");
            return Err((EnergyStatus::StaleCounter, reason));
        }
        Quantity::Microwatts => (u128::from(last) + u128::from(value)) * u128::from(passed_ns) / 2,
    };
    let passed_ns = passed_ns.saturating_add(UPDATE_SLACK_NS);
    // The platform is all packages and the rest.
    let units = if domain.kind == DomainKind::Psys {
        packages + 1
    } else {
        1
    };
    if microjoules(domain, used) as f64 > passed_ns as f64 * MAX_UJ_PER_NS * units as f64 {
        let reason = format!(
            "`{place}` went from {last} to {value} within {passed_ns} ns: it was reset, or the machine slept"
        );
        return Err((EnergyStatus::Implausible, reason));
    }
    Ok(used)
}

/// A total of a domain in microjoules.
fn microjoules(domain: &Domain, total: u128) -> u64 {
    match domain.quantity {
        Quantity::Microjoules { .. } => u64::try_from(total).unwrap_or(u64::MAX),
        Quantity::Ticks { joules } => (total as f64 * joules * 1e6).round() as u64,
        // Microwatts times nanoseconds.
        Quantity::Microwatts => u64::try_from(total / 1_000_000_000).unwrap_or(u64::MAX),
    }
}

/// Keeps this CPU busy for about a millisecond.
fn spin(clock: &dyn Clock) {
    let start = clock.now_ns();
    let mut x = 1u64;
    while clock.now_ns() - start < 1_000_000 {
        for _ in 0..1000 {
            // Knuth's MMIX generator: work that nobody can leave out.
            x = std::hint::black_box(
                x.wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407),
            );
        }
    }
}
