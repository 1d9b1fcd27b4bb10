//! Energy: whether this machine has a meter that we may read, and if not, why not and what helps.
//!
//! An energy that no meter read is never a number here. Meters are those of `/sys/class/powercap` (RAPL, on Intel and
//! AMD).

mod meter;
mod powercap;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use meter::{Energy, MIN_WINDOW_NS, Meter};
pub use powercap::{Domain, Zone, ZoneError, headline, zones};

use crate::machine::Virtualization;
use crate::{Roots, roots};

/// What became of the energy of a measurement: the words of the column `energy_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnergyStatus {
    /// A meter was read, and the value can be trusted.
    Ok,
    /// The machine has no meter, or its driver is not loaded.
    Absent,
    /// There is a meter, and we may not read it.
    PermissionDenied,
    /// A container hides the meter.
    ContainerMasked,
    /// The hypervisor does not pass the meter on.
    VmNoRapl,
    /// The meter always shows 0.
    ZeroCounter,
    /// The meter did not move while the processor was busy.
    StaleCounter,
    /// The meter wrapped, and nothing tells at which value.
    WrapUncorrectable,
    /// More energy than the machine can take up.
    Implausible,
    /// Shorter than what the meter can resolve.
    WindowTooShort,
    /// Other processes worked meanwhile.
    MixedLoad,
}

impl EnergyStatus {
    /// Every word.
    pub const ALL: &'static [Self] = &[
        Self::Ok,
        Self::Absent,
        Self::PermissionDenied,
        Self::ContainerMasked,
        Self::VmNoRapl,
        Self::ZeroCounter,
        Self::StaleCounter,
        Self::WrapUncorrectable,
        Self::Implausible,
        Self::WindowTooShort,
        Self::MixedLoad,
    ];

    /// The word in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Absent => "absent",
            Self::PermissionDenied => "permission_denied",
            Self::ContainerMasked => "container_masked",
            Self::VmNoRapl => "vm_no_rapl",
            Self::ZeroCounter => "zero_counter",
            Self::StaleCounter => "stale_counter",
            Self::WrapUncorrectable => "wrap_uncorrectable",
            Self::Implausible => "implausible",
            Self::WindowTooShort => "window_too_short",
            Self::MixedLoad => "mixed_load",
        }
    }
}

impl fmt::Display for EnergyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that is no energy status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no energy status; hint: the words are those of `EnergyStatus::ALL`")]
pub struct UnknownEnergyStatus(String);

impl FromStr for EnergyStatus {
    type Err = UnknownEnergyStatus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL
            .iter()
            .copied()
            .find(|status| status.name() == text);
        found.ok_or_else(|| UnknownEnergyStatus(text.to_owned()))
    }
}

/// Whether energy can be measured here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnergyProbe {
    /// `ok`, or why not.
    pub status: EnergyStatus,
    /// Where the readings come from; missing without a meter.
    pub source: Option<String>,
    /// The domains that can be read.
    pub domains: Vec<String>,
    /// What was seen, in a sentence.
    pub reason: String,
    /// What to do about it; missing when nothing helps or nothing has to.
    pub remedy: Option<String>,
}

/// Looks for a meter under `roots`. It reads each counter once and changes nothing.
pub fn probe(roots: &Roots) -> EnergyProbe {
    let zones = zones(roots);
    let seen = Seen {
        directory: powercap::directory(roots).is_some(),
        masked: masked(roots),
        perf: roots
            .sys
            .join("bus/event_source/devices/power/events/energy-pkg")
            .exists(),
        virtualization: Virtualization::read(roots),
        zones,
    };
    seen.judge()
}

/// Everything that the judgement rests on.
struct Seen {
    zones: Vec<Zone>,
    /// There is a `powercap` directory.
    directory: bool,
    /// Something is mounted over it.
    masked: bool,
    /// The kernel counts package energy for perf.
    perf: bool,
    virtualization: Virtualization,
}

impl Seen {
    fn judge(&self) -> EnergyProbe {
        let packages = headline(&self.zones);
        let readable: Vec<&Zone> = packages
            .iter()
            .copied()
            .filter(|zone| zone.energy_uj.is_ok())
            .collect();
        if packages.is_empty() {
            return self.no_package();
        }
        if readable.len() == packages.len() {
            return self.readable(&readable);
        }
        let denied = packages
            .iter()
            .find(|zone| zone.energy_uj == Err(ZoneError::Denied));
        if let Some(zone) = denied {
            return EnergyProbe::failed(
                EnergyStatus::PermissionDenied,
                format!(
                    "the meter `{}` exists, but this user may not read it",
                    zone.energy_path.display()
                ),
                Some(format!(
                    "run as root, or allow it until the next start of the machine: sudo chmod a+r {}",
                    self.paths()
                )),
            );
        }
        let broken = packages
            .iter()
            .find_map(|zone| Some((zone, zone.energy_uj.as_ref().err()?)));
        let text = broken.map_or_else(String::new, |(zone, error)| {
            format!(
                "the meter `{}` cannot be read: {error}",
                zone.energy_path.display()
            )
        });
        EnergyProbe::failed(
            EnergyStatus::Absent,
            text,
            Some("look at `dmesg` for messages of intel_rapl".to_owned()),
        )
    }

    fn readable(&self, packages: &[&Zone]) -> EnergyProbe {
        if packages.iter().all(|zone| zone.energy_uj == Ok(0)) {
            return EnergyProbe::failed(
                EnergyStatus::ZeroCounter,
                "the package meters exist and show 0: nothing counts behind them".to_owned(),
                Some("measure on the machine itself instead of a virtual one".to_owned()),
            );
        }
        let domains = self.zones.iter().filter(|zone| zone.energy_uj.is_ok());
        EnergyProbe {
            status: EnergyStatus::Ok,
            source: Some("powercap".to_owned()),
            domains: domains.map(|zone| zone.domain.to_string()).collect(),
            reason: format!(
                "{} package meter(s) under powercap can be read",
                packages.len()
            ),
            remedy: None,
        }
    }

    fn no_package(&self) -> EnergyProbe {
        let facts = &self.virtualization;
        if self.masked {
            return EnergyProbe::failed(
                EnergyStatus::ContainerMasked,
                "something is mounted over the powercap directory, as container engines do".to_owned(),
                Some(
                    "mount the host's /sys/class/powercap and /sys/devices/virtual/powercap into the container and \
                     name that place with --sysfs-root"
                        .to_owned(),
                ),
            );
        }
        if facts.virtual_machine == Some(true) {
            let name = facts.hypervisor.as_deref().unwrap_or("the hypervisor");
            return EnergyProbe::failed(
                EnergyStatus::VmNoRapl,
                format!("this is a virtual machine and {name} does not pass the energy meters on"),
                Some(
                    "measure on the host, or rent a machine without a hypervisor (`metal`)"
                        .to_owned(),
                ),
            );
        }
        if let Some(container) = &facts.container {
            return EnergyProbe::failed(
                EnergyStatus::ContainerMasked,
                format!("no meter is visible from inside of a container ({container})"),
                Some(
                    "see whether the host has /sys/class/powercap/intel-rapl:0; if so, mount it into the container \
                     and name that place with --sysfs-root"
                        .to_owned(),
                ),
            );
        }
        let (reason, remedy) = match (self.directory, self.perf, self.zones.is_empty()) {
            (_, true, _) => (
                "the kernel has energy events for perf but no package meter under powercap",
                "sudo modprobe intel_rapl_msr",
            ),
            (true, false, false) => (
                "there are meters under powercap, but none of a package",
                "sudo modprobe intel_rapl_msr",
            ),
            (true, false, true) => (
                "powercap is there, but no RAPL driver has registered a meter with it",
                "sudo modprobe intel_rapl_msr (Intel since Sandy Bridge, AMD since Zen; Linux 5.11 for AMD)",
            ),
            (false, false, _) => (
                "there is no powercap directory: the kernel lacks it, or the processor has no energy meter",
                "try: sudo modprobe intel_rapl_msr; most Arm machines have no meter that Linux can read",
            ),
        };
        EnergyProbe::failed(
            EnergyStatus::Absent,
            reason.to_owned(),
            Some(remedy.to_owned()),
        )
    }

    /// The files to be made readable.
    fn paths(&self) -> String {
        let paths: Vec<String> = self
            .zones
            .iter()
            .map(|zone| zone.energy_path.display().to_string())
            .collect();
        paths.join(" ")
    }
}

impl EnergyProbe {
    fn failed(status: EnergyStatus, reason: String, remedy: Option<String>) -> Self {
        Self {
            status,
            source: None,
            domains: Vec::new(),
            reason,
            remedy,
        }
    }
}

/// Whether something is mounted over the powercap directory: container engines hide it with an empty file system,
/// because energy readings can betray secrets.
fn masked(roots: &Roots) -> bool {
    // The fifth word is the mount point, see proc(5).
    let mounts = roots::text(&roots.proc.join("self/mountinfo")).unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .any(|point| ["/sys/devices/virtual/powercap", "/sys/class/powercap"].contains(&point))
}

#[cfg(test)]
mod meter_tests;
#[cfg(test)]
mod tests;
