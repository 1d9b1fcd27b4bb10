//! What a window or a live sample of a meter amounts to.

use serde::{Deserialize, Serialize};

use super::{DomainKind, EnergyStatus, MIN_WINDOW_NS};

/// The energy of one domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainEnergy {
    /// Its name, see [`Domain::name`](super::Domain::name).
    pub name: String,
    /// What it covers.
    pub kind: DomainKind,
    /// What it used; missing when it could not be read all the time.
    pub energy_uj: Option<u64>,
}

/// The energy of a stretch of time, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Energy {
    /// `ok`, or why the three amounts are missing.
    pub status: EnergyStatus,
    /// What was seen, when it is not `ok`; else empty.
    pub reason: String,
    /// The word of the source: `perf`, `powercap`, `hwmon`, `external`.
    pub source: String,
    /// From the middle of the first reading to the middle of the last one.
    pub window_ns: u64,
    /// The middle of the first reading, UTC: by it a recorded meter is merged afterwards.
    pub start_unix_ns: u64,
    /// The middle of the last reading, UTC.
    pub end_unix_ns: u64,
    /// All packages together, gross: whatever ran on them. Missing where a source has no package.
    pub package_uj: Option<u64>,
    /// All memory that has meters; outside of the packages, and not in `package_uj`.
    pub dram_uj: Option<u64>,
    /// The whole platform, where it has a meter; contains the packages.
    pub psys_uj: Option<u64>,
    /// Each domain as it was read, also where something else than reading makes the three amounts above untrustworthy.
    /// Domains contain each other: they must not be added up.
    pub domains: Vec<DomainEnergy>,
    /// The dies of a package showed the same counter, and only one of them was counted.
    pub mirrored_dies: bool,
    /// CPU time of other processes as a share of the time of the window, or of the CPU time of our processes where that is
    /// more; missing where `/proc/stat` does not tell, and for live samples.
    pub others_cpu_share: Option<f64>,
    /// What a reader should know besides.
    pub notes: Vec<String>,
}

impl Energy {
    /// A window without amounts.
    pub fn without(status: EnergyStatus, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
            source: String::new(),
            window_ns: 0,
            start_unix_ns: 0,
            end_unix_ns: 0,
            package_uj: None,
            dram_uj: None,
            psys_uj: None,
            domains: Vec::new(),
            mirrored_dies: false,
            others_cpu_share: None,
            notes: Vec::new(),
        }
    }

    /// Mean power of the packages in watts.
    pub fn package_watts(&self) -> Option<f64> {
        self.watts(self.package_uj)
    }

    /// Mean power in watts of an amount of this window.
    pub fn watts(&self, uj: Option<u64>) -> Option<f64> {
        // Microjoules a nanosecond are kilowatts.
        Some(uj? as f64 / self.window_ns as f64 * 1000.0).filter(|_| self.window_ns > 0)
    }

    /// Takes the amounts away.
    pub(super) fn refuse(&mut self, status: EnergyStatus, reason: String) {
        (self.status, self.reason) = (status, reason);
        (self.package_uj, self.dram_uj, self.psys_uj) = (None, None, None);
    }

    /// All domains of a kind together; `None` when there is none, or one of them has no amount.
    pub fn sum_of(&self, kind: DomainKind) -> Option<u64> {
        let mut of_kind = self.domains.iter().filter(|d| d.kind == kind).peekable();
        of_kind.peek()?;
        of_kind.try_fold(0u64, |sum, domain| sum.checked_add(domain.energy_uj?))
    }

    /// Fills in what is not the headline, from the domains.
    pub(super) fn add_memory_and_platform(&mut self) {
        self.dram_uj = self.sum_of(DomainKind::Dram);
        self.psys_uj = self.sum_of(DomainKind::Psys);
        // Longer than what the counters' steps can explain.
        if self.window_ns >= MIN_WINDOW_NS
            && let (Some(package_uj), Some(psys_uj)) = (self.package_uj, self.psys_uj)
            && psys_uj < package_uj
        {
            self.notes.push(format!(
                "psys shows {psys_uj} uJ, less than the packages in it ({package_uj} uJ): it is not believed"
            ));
            self.psys_uj = None;
        }
    }
}
