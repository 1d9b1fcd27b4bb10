//! The words for what became of an energy.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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
