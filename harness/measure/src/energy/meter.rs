//! Reading the meter over a window of time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::powercap::read_energy;
use super::{Domain, EnergyProbe, EnergyStatus, Zone, ZoneError, headline, probe, zones};
use crate::{Clock, Roots};

/// Shorter windows are refused. The counters move about once a millisecond, with jitter: over a second that is an
/// uncertainty of 0.1 to 0.2 %.
pub const MIN_WINDOW_NS: u64 = 1_000_000_000;

/// No package takes up more than this: 2 kW, in microjoules a nanosecond. Where a counter claims so, it was reset or
/// the machine slept.
const MAX_UJ_PER_NS: u64 = 2;

/// A reading of all counters that takes longer than this was interrupted, and is repeated.
const MAX_READING_NS: u64 = 1_000_000;

/// Counters that differ by no more than one part in this many count the same thing.
const MIRROR_PARTS: u64 = 1000;

/// Shorter windows do not show whether two dies count the same thing.
const MIN_MIRROR_WINDOW_NS: u64 = 200_000_000;

/// The energy of one window, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Energy {
    /// `ok`, or why the amounts are missing.
    pub status: EnergyStatus,
    /// What was seen, when it is not `ok`.
    pub reason: String,
    /// From the middle of the first reading to the middle of the last one.
    pub window_ns: u64,
    /// All packages together.
    pub package_uj: Option<u64>,
    /// All memory that has meters; outside of the packages, and not in `package_uj`.
    pub dram_uj: Option<u64>,
    /// The whole platform, where it has a meter; contains the packages.
    pub psys_uj: Option<u64>,
    /// The dies of a package showed the same counter, and only one of them was counted.
    pub mirrored_dies: bool,
}

/// Reads the zones of powercap over windows of time, one window after the other.
///
/// A counter starts again at 0 after some minutes under full load (about 160 s at 400 W in the worst case known): call
/// [`Meter::tick`] once a second in longer windows, which also notices a counter that was reset.
#[derive(Debug)]
pub struct Meter<C> {
    clock: C,
    counters: Vec<Counter>,
    /// Packages that have die zones alone: whether these mirror each other, decided once.
    mirrored: BTreeMap<u32, bool>,
    started_ns: u64,
    read_ns: u64,
    fault: Option<(EnergyStatus, String)>,
}

#[derive(Debug)]
struct Counter {
    zone: Zone,
    counts: bool,
    last_uj: u64,
    window_uj: u64,
}

impl<C: Clock> Meter<C> {
    /// Opens the meter under `roots`.
    ///
    /// # Errors
    /// The probe that says why there is none.
    pub fn open(roots: &Roots, clock: C) -> Result<Self, EnergyProbe> {
        let probe = probe(roots);
        if probe.status != EnergyStatus::Ok {
            return Err(probe);
        }
        let zones = zones(roots);
        let packages: Vec<String> = headline(&zones)
            .iter()
            .map(|zone| zone.id.clone())
            .collect();
        let counter = |zone: Zone| {
            let last_uj = zone.energy_uj.clone().ok()?;
            let counts = packages.contains(&zone.id);
            Some(Counter {
                zone,
                counts,
                last_uj,
                window_uj: 0,
            })
        };
        let mut meter = Self {
            clock,
            counters: zones.into_iter().filter_map(counter).collect(),
            mirrored: BTreeMap::new(),
            started_ns: 0,
            read_ns: 0,
            fault: None,
        };
        meter.start();
        Ok(meter)
    }

    /// Begins a window.
    pub fn start(&mut self) {
        self.fault = None;
        match self.read() {
            Ok((at_ns, values)) => {
                (self.started_ns, self.read_ns) = (at_ns, at_ns);
                for (counter, value) in self.counters.iter_mut().zip(values) {
                    (counter.last_uj, counter.window_uj) = (value, 0);
                }
            }
            Err(fault) => self.fault = Some(fault),
        }
    }

    /// Reads the counters within a window, so that none starts again at 0 twice between two readings.
    pub fn tick(&mut self) {
        if self.fault.is_some() {
            return;
        }
        let added = self
            .read()
            .and_then(|(at_ns, values)| self.add(at_ns, &values));
        self.fault = added.err();
    }

    /// Ends the window that [`Meter::start`] began.
    pub fn stop(&mut self) -> Energy {
        self.tick();
        let window_ns = self.read_ns - self.started_ns;
        let without = |status, reason| Energy {
            status,
            reason,
            window_ns,
            package_uj: None,
            dram_uj: None,
            psys_uj: None,
            mirrored_dies: false,
        };
        if let Some((status, reason)) = self.fault.clone() {
            return without(status, reason);
        }
        let (package_uj, mirrored_dies) = self.packages(window_ns);
        if window_ns < MIN_WINDOW_NS {
            let reason = format!(
                "a window of {window_ns} ns is shorter than the {MIN_WINDOW_NS} ns that the meter needs"
            );
            return without(EnergyStatus::WindowTooShort, reason);
        }
        if package_uj == 0 {
            let reason = "the package counters did not move during the window".to_owned();
            return without(EnergyStatus::StaleCounter, reason);
        }
        let sum = |domain: &Domain| {
            let of_domain = self
                .counters
                .iter()
                .filter(|counter| counter.zone.domain == *domain);
            of_domain
                .map(|counter| counter.window_uj)
                .reduce(u64::saturating_add)
        };
        Energy {
            status: EnergyStatus::Ok,
            reason: String::new(),
            window_ns,
            package_uj: Some(package_uj),
            dram_uj: sum(&Domain::Dram),
            psys_uj: sum(&Domain::Psys),
            mirrored_dies,
        }
    }

    /// All counters with the time in the middle of reading them.
    fn read(&self) -> Result<(u64, Vec<u64>), (EnergyStatus, String)> {
        const ATTEMPTS: usize = 3;
        let mut attempt = 1;
        loop {
            let before = self.clock.now_ns();
            let values: Result<Vec<u64>, _> = self.counters.iter().map(Counter::read).collect();
            let after = self.clock.now_ns();
            if after - before <= MAX_READING_NS || attempt == ATTEMPTS {
                return Ok((before + (after - before) / 2, values?));
            }
            attempt += 1;
        }
    }

    /// Adds what was used since the last reading, zone by zone: a sum of zones does not wrap like one.
    fn add(&mut self, at_ns: u64, values: &[u64]) -> Result<(), (EnergyStatus, String)> {
        // Readings are exact to about a tick of the counter at both ends.
        let passed_ns = at_ns - self.read_ns + 2 * MAX_READING_NS;
        let packages = self
            .counters
            .iter()
            .filter(|counter| counter.counts)
            .count() as u64;
        for (counter, &value) in self.counters.iter_mut().zip(values) {
            let used = counter.used(value)?;
            // The platform is all packages and the rest.
            let units = if counter.zone.domain == Domain::Psys {
                packages + 1
            } else {
                1
            };
            if used
                > passed_ns
                    .saturating_mul(MAX_UJ_PER_NS)
                    .saturating_mul(units)
            {
                let reason = format!(
                    "`{}` went from {} to {value} uJ within {passed_ns} ns: it was reset, or the machine slept",
                    counter.zone.id, counter.last_uj
                );
                return Err((EnergyStatus::Implausible, reason));
            }
            counter.last_uj = value;
            counter.window_uj = counter.window_uj.saturating_add(used);
        }
        self.read_ns = at_ns;
        Ok(())
    }

    /// The energy of all packages, and whether dies were found to mirror each other.
    fn packages(&mut self, window_ns: u64) -> (u64, bool) {
        let mut dies: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        let mut sum = 0u64;
        for counter in self.counters.iter().filter(|counter| counter.counts) {
            match counter.zone.domain {
                Domain::Package {
                    package,
                    die: Some(_),
                } => {
                    dies.entry(package).or_default().push(counter.window_uj);
                }
                _ => sum = sum.saturating_add(counter.window_uj),
            }
        }
        let mut any = false;
        for (package, energies) in dies {
            let (least, most) = (
                energies.iter().min().copied(),
                energies.iter().max().copied(),
            );
            let (least, most) = (least.unwrap_or(0), most.unwrap_or(0));
            if window_ns >= MIN_MIRROR_WINDOW_NS && most > 0 {
                let same = energies.len() > 1 && most - least <= most / MIRROR_PARTS;
                self.mirrored.entry(package).or_insert(same);
            }
            let mirrored = self.mirrored.get(&package).copied().unwrap_or(false);
            any |= mirrored;
            let of_package = if mirrored {
                most
            } else {
                energies
                    .iter()
                    .fold(0u64, |sum, uj| sum.saturating_add(*uj))
            };
            sum = sum.saturating_add(of_package);
        }
        (sum, any)
    }
}

impl Counter {
    fn read(&self) -> Result<u64, (EnergyStatus, String)> {
        let value = read_energy(&self.zone.energy_path).map_err(|error| {
            let status = match error {
                ZoneError::Denied => EnergyStatus::PermissionDenied,
                ZoneError::Missing | ZoneError::Failed(_) | ZoneError::Malformed(_) => {
                    EnergyStatus::Absent
                }
            };
            let path = self.zone.energy_path.display();
            (
                status,
                format!("the meter `{path}` cannot be read: {error}"),
            )
        })?;
        match self.zone.max_uj {
            Some(max) if value > max => {
                let id = &self.zone.id;
                let reason = format!("`{id}` shows {value} uJ, beyond its range of {max}");
                Err((EnergyStatus::Implausible, reason))
            }
            _ => Ok(value),
        }
    }

    /// What was used since the last reading.
    fn used(&self, value: u64) -> Result<u64, (EnergyStatus, String)> {
        match self.zone.max_uj {
            _ if value >= self.last_uj => Ok(value - self.last_uj),
            // Both are inside of the range: `read` refuses others.
            Some(max) => Ok(value + (max - self.last_uj)),
            None => {
                let id = &self.zone.id;
                let reason =
                    format!("`{id}` started again, and its max_energy_range_uj cannot be read");
                Err((EnergyStatus::WrapUncorrectable, reason))
            }
        }
    }
}
