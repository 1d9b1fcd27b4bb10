//! The zones of `/sys/class/powercap`.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Roots;
use crate::roots::{number, text};

/// What a zone measures, from its `name`. A psys zone contains the packages, a package contains core and uncore;
/// dram is outside of the package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Domain {
    /// `package-0`, or one die of it: `package-0-die-1`.
    Package {
        /// Number of the package.
        package: u32,
        /// Number of the die, on processors that have a meter for each.
        die: Option<u32>,
    },
    /// The whole platform.
    Psys,
    /// The cores of a package.
    Core,
    /// The rest of a package, such as graphics.
    Uncore,
    /// Memory.
    Dram,
    /// A name that RAPL does not have.
    Other(String),
}

impl Domain {
    fn parse(name: &str) -> Self {
        let package = |rest: &str| {
            let (package, die) = match rest.split_once("-die-") {
                Some((package, die)) => (package, Some(die.parse().ok()?)),
                None => (rest, None),
            };
            Some(Self::Package {
                package: package.parse().ok()?,
                die,
            })
        };
        match name {
            "psys" => Self::Psys,
            "core" => Self::Core,
            "uncore" => Self::Uncore,
            "dram" => Self::Dram,
            _ => name
                .strip_prefix("package-")
                .and_then(package)
                .unwrap_or_else(|| Self::Other(name.to_owned())),
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package { package, die: None } => write!(f, "package-{package}"),
            Self::Package {
                package,
                die: Some(die),
            } => write!(f, "package-{package}-die-{die}"),
            Self::Psys => f.write_str("psys"),
            Self::Core => f.write_str("core"),
            Self::Uncore => f.write_str("uncore"),
            Self::Dram => f.write_str("dram"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// Why a counter could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// Not for this user.
    #[error("permission denied")]
    Denied,
    /// There is no such file (any more).
    #[error("no such file")]
    Missing,
    /// The driver reports an error.
    #[error("{0}")]
    Failed(String),
    /// What it holds is no number.
    #[error("`{0}` is no number of microjoules")]
    Malformed(String),
}

/// One zone with its counter as it was when the zone was listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The directory's name: `intel-rapl:0`, `intel-rapl:0:1`, `intel-rapl-mmio:0`.
    pub id: String,
    /// What it measures.
    pub domain: Domain,
    /// The file with the counter.
    pub energy_path: PathBuf,
    /// The counter in microjoules, since some moment in the past.
    pub energy_uj: Result<u64, ZoneError>,
    /// The value after which the counter starts again at 0; without it a wrap cannot be corrected.
    pub max_uj: Option<u64>,
}

/// The directory with the zones, when there is one.
pub(super) fn directory(roots: &Roots) -> Option<PathBuf> {
    let places = ["class/powercap", "devices/virtual/powercap"];
    places
        .iter()
        .map(|place| roots.sys.join(place))
        .find(|place| place.is_dir())
}

/// The RAPL zones under `roots`, by id. The memory-mapped interface shows the package meters a second time: its
/// zones are left out where the other interface has one of the same name.
pub fn zones(roots: &Roots) -> Vec<Zone> {
    let Some(directory) = directory(roots) else {
        return Vec::new();
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    // `intel-rapl` is the control type on AMD too; its own directory has no colon.
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| control_type(path).is_some())
        .collect();
    paths.sort();
    let zones: Vec<Zone> = paths.iter().filter_map(|path| zone(path)).collect();
    let direct: BTreeSet<Domain> = zones
        .iter()
        .filter(|zone| zone.id.starts_with("intel-rapl:"))
        .map(|zone| zone.domain.clone())
        .collect();
    let again =
        |zone: &Zone| zone.id.starts_with("intel-rapl-mmio:") && direct.contains(&zone.domain);
    zones.into_iter().filter(|zone| !again(zone)).collect()
}

/// The zones whose sum is the energy of the processor: the packages, and of a package with a meter for each die
/// either the whole one or the dies. Never psys, which contains them, nor core, uncore and dram.
pub fn headline(zones: &[Zone]) -> Vec<&Zone> {
    let whole: BTreeSet<u32> = zones
        .iter()
        .filter_map(|zone| match zone.domain {
            Domain::Package { package, die: None } => Some(package),
            _ => None,
        })
        .collect();
    let counts = |zone: &&Zone| match zone.domain {
        Domain::Package { die: None, .. } => true,
        Domain::Package {
            package,
            die: Some(_),
        } => !whole.contains(&package),
        _ => false,
    };
    zones.iter().filter(counts).collect()
}

fn control_type(path: &Path) -> Option<&str> {
    let (kind, _) = path.file_name()?.to_str()?.split_once(':')?;
    matches!(kind, "intel-rapl" | "intel-rapl-mmio").then_some(kind)
}

fn zone(path: &Path) -> Option<Zone> {
    let energy_path = path.join("energy_uj");
    Some(Zone {
        id: path.file_name()?.to_str()?.to_owned(),
        domain: Domain::parse(&text(&path.join("name"))?),
        energy_uj: read_energy(&energy_path),
        max_uj: number(&path.join("max_energy_range_uj")).filter(|&max| max > 0),
        energy_path,
    })
}

/// Reads a counter. An error is an error: read as 0 it would look like a wrap.
pub(super) fn read_energy(path: &Path) -> Result<u64, ZoneError> {
    let text = fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => ZoneError::Denied,
        io::ErrorKind::NotFound => ZoneError::Missing,
        _ => ZoneError::Failed(error.to_string()),
    })?;
    let text = text.trim();
    text.parse()
        .map_err(|_| ZoneError::Malformed(text.chars().take(40).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let package = |package, die| Domain::Package { package, die };
        let cases = [
            ("package-0", package(0, None)),
            ("package-12", package(12, None)),
            ("package-0-die-1", package(0, Some(1))),
            ("psys", Domain::Psys),
            ("core", Domain::Core),
            ("uncore", Domain::Uncore),
            ("dram", Domain::Dram),
            ("package-x", Domain::Other("package-x".to_owned())),
            ("package-0-die-", Domain::Other("package-0-die-".to_owned())),
            ("cores", Domain::Other("cores".to_owned())),
        ];
        for (name, want) in cases {
            assert_eq!(Domain::parse(name), want);
            assert_eq!(want.to_string(), name);
        }
    }
}
