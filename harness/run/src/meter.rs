//! What the energy pass asks of a meter, and the meter of this machine.

use trit_core::{EnergyFacts, EnergyRow};
use trit_measure::Roots;
use trit_measure::energy::{DomainKind, Energy, EnergyProbe, Meter, MeterOptions};

/// Energy by kind of domain, in microjoules. What has no meter is missing, and not 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All processor packages.
    pub pkg_uj: Option<u64>,
    /// All memory with meters; outside of the packages.
    pub dram_uj: Option<u64>,
    /// The platform; contains the packages.
    pub psys_uj: Option<u64>,
    /// All cores; part of the packages.
    pub core_uj: Option<u64>,
    /// Graphics and the like; part of the packages.
    pub uncore_uj: Option<u64>,
    /// By a meter outside of the machine.
    pub wall_uj: Option<u64>,
}

impl Counts {
    /// What rates are computed of: the packages, else the platform, else what was measured outside.
    pub fn headline(&self) -> Option<u64> {
        self.pkg_uj.or(self.psys_uj).or(self.wall_uj)
    }
}

/// What the meter says about one window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// `ok`, or the word that says why the amounts are missing.
    pub status: String,
    /// The same in a sentence.
    pub reason: String,
    /// Start of the window, nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// Its end.
    pub end_unix_ns: u64,
    /// Length of the window by the meter's own readings.
    pub window_ns: u64,
    /// The amounts; all missing when the status is not `ok`.
    pub counts: Counts,
    /// Dies showed one counter, and one of them was counted.
    pub mirrored_dies: bool,
    /// CPU time of other processes as a share of the time of one CPU.
    pub others_cpu_share: Option<f64>,
}

impl Reading {
    /// Mean power of the headline domain, in watts.
    pub fn watts(&self) -> Option<f64> {
        let uj = self.counts.headline().filter(|_| self.window_ns > 0)?;
        // A microjoule a nanosecond is a kilowatt.
        Some(uj as f64 * 1e3 / self.window_ns as f64)
    }
}

/// Reads energy over windows of time, one after the other.
pub trait EnergyMeter {
    /// Begins a window.
    fn start(&mut self);

    /// Looks at the counters within a window; gives the length of the interval since the look before, in nanoseconds, and what was
    /// counted in it. `None` when the meter cannot say.
    fn tick(&mut self) -> Option<(u64, Counts)>;

    /// Ends the window.
    fn stop(&mut self) -> Reading;
}

/// The meter of this machine.
#[derive(Debug)]
pub struct MachineMeter(Meter);

impl MachineMeter {
    /// Opens it, with what is known about it. Takes up to a second, in which a CPU is kept busy.
    ///
    /// # Errors
    /// Why there is none, and what helps.
    pub fn open(roots: &Roots, options: &MeterOptions) -> Result<(Self, EnergyFacts), EnergyFacts> {
        let meter = Meter::open(roots, options).map_err(|probe| facts(&probe))?;
        let domains = meter.domains().iter();
        let facts = EnergyFacts {
            status: "ok".to_owned(),
            source: meter.source().to_owned(),
            domains: domains.map(|domain| domain.name.clone()).collect(),
            reason: format!("read from {}", meter.source()),
            remedy: String::new(),
        };
        Ok((Self(meter), facts))
    }
}

/// What a probe found, for the record of a session.
pub fn facts(probe: &EnergyProbe) -> EnergyFacts {
    EnergyFacts {
        status: probe.status.to_string(),
        source: probe.source.clone().unwrap_or_default(),
        domains: probe.domains.clone(),
        reason: probe.reason.clone(),
        remedy: probe.remedy.clone().unwrap_or_default(),
    }
}

impl Counts {
    /// Into a row.
    pub(crate) fn put(self, row: &mut EnergyRow) {
        row.pkg_uj = self.pkg_uj;
        row.dram_uj = self.dram_uj;
        row.psys_uj = self.psys_uj;
        row.core_uj = self.core_uj;
        row.uncore_uj = self.uncore_uj;
        row.wall_uj = self.wall_uj;
    }

    /// The amounts of a window or a live sample.
    pub fn of(energy: &Energy) -> Self {
        // A meter outside of the machine has one domain for everything that goes through its plug.
        let outside = energy.source == "external";
        Self {
            pkg_uj: energy.package_uj,
            dram_uj: energy.dram_uj,
            psys_uj: energy.psys_uj.filter(|_| !outside),
            core_uj: energy.sum_of(DomainKind::Core),
            uncore_uj: energy.sum_of(DomainKind::Uncore),
            wall_uj: energy.psys_uj.filter(|_| outside),
        }
    }
}

impl EnergyMeter for MachineMeter {
    fn start(&mut self) {
        // What was counted before belongs to no look of this window.
        self.0.sample();
        self.0.begin();
    }

    fn tick(&mut self) -> Option<(u64, Counts)> {
        let energy = self.0.sample();
        let counts = Counts::of(&energy);
        // A log lags behind: it is merged when the run is over.
        let known =
            energy.window_ns > 0 && energy.source != "external" && counts != Counts::default();
        known.then_some((energy.window_ns, counts))
    }

    fn stop(&mut self) -> Reading {
        let energy = self.0.end();
        let status = energy.status.to_string();
        let good = status == "ok";
        Reading {
            counts: if good {
                Counts::of(&energy)
            } else {
                Counts::default()
            },
            status,
            reason: energy.reason,
            start_unix_ns: energy.start_unix_ns,
            end_unix_ns: energy.end_unix_ns,
            window_ns: energy.window_ns,
            mirrored_dies: energy.mirrored_dies,
            others_cpu_share: energy.others_cpu_share,
        }
    }
}
