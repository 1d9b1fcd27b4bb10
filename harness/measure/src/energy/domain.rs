//! What a meter measures.

use serde::{Deserialize, Serialize};

/// The part of the machine that a domain covers. The platform contains the packages, a package contains core, uncore and
/// gpu; memory is outside of the package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DomainKind {
    /// A processor package, or one die of it.
    Package,
    /// Memory.
    Dram,
    /// The cores of a package, or one of them.
    Core,
    /// The rest of a package, such as caches and graphics.
    Uncore,
    /// Graphics: inside of a package, or a card.
    Gpu,
    /// The whole platform, or what goes through the plug.
    Psys,
    /// Something that has a meter, and of which nothing is known but its name.
    Other,
}

impl DomainKind {
    /// The word in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Dram => "dram",
            Self::Core => "core",
            Self::Uncore => "uncore",
            Self::Gpu => "gpu",
            Self::Psys => "psys",
            Self::Other => "other",
        }
    }

    /// The kind by its word.
    pub fn of(name: &str) -> Option<Self> {
        let kinds = [
            Self::Package,
            Self::Dram,
            Self::Core,
            Self::Uncore,
            Self::Gpu,
            Self::Psys,
            Self::Other,
        ];
        kinds.into_iter().find(|kind| kind.name() == name)
    }
}

/// What the numbers of a domain are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantity {
    /// A counter of microjoules, which starts again at 0 after `range_uj`; without a known range that cannot be
    /// corrected.
    Microjoules {
        /// The largest value that the counter shows.
        range_uj: Option<u64>,
    },
    /// A counter of 64 bits, which never starts again.
    Ticks {
        /// Joules of a tick.
        joules: f64,
    },
    /// No counter but the power of the moment, in microwatts: it is integrated over time by trapezoids.
    Microwatts,
}

/// One thing that a source measures.
#[derive(Clone, Debug, PartialEq)]
pub struct Domain {
    /// Unique within its source: `package-0`, `package-0-die-1`, `package-0/dram`, `psys`, or what the driver calls it.
    pub name: String,
    /// What it covers.
    pub kind: DomainKind,
    /// The package it is, or lies in, where that is known.
    pub package: Option<u32>,
    /// Whether it is part of the headline, the energy of all packages. Of domains with the same `package` that count,
    /// several may show one and the same counter (mirrored dies).
    pub counts: bool,
    /// What its numbers are.
    pub quantity: Quantity,
    /// Where it is read, for messages: the file or the event.
    pub place: String,
}

/// A name of RAPL: its kind, package and die. A package's number that is not one makes it another name.
pub(super) fn rapl(name: &str) -> (DomainKind, Option<u32>, Option<u32>) {
    let package = |rest: &str| -> Option<(u32, Option<u32>)> {
        match rest.split_once("-die-") {
            Some((package, die)) => Some((package.parse().ok()?, Some(die.parse().ok()?))),
            None => Some((rest.parse().ok()?, None)),
        }
    };
    match name {
        "psys" => (DomainKind::Psys, None, None),
        "core" => (DomainKind::Core, None, None),
        "uncore" => (DomainKind::Uncore, None, None),
        "dram" => (DomainKind::Dram, None, None),
        _ => match name.strip_prefix("package-").and_then(package) {
            Some((package, die)) => (DomainKind::Package, Some(package), die),
            None => (DomainKind::Other, None, None),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let package = |package, die| (DomainKind::Package, Some(package), die);
        let other = (DomainKind::Other, None, None);
        let cases = [
            ("package-0", package(0, None)),
            ("package-12", package(12, None)),
            ("package-0-die-1", package(0, Some(1))),
            ("psys", (DomainKind::Psys, None, None)),
            ("core", (DomainKind::Core, None, None)),
            ("uncore", (DomainKind::Uncore, None, None)),
            ("dram", (DomainKind::Dram, None, None)),
            ("package-x", other),
            ("package-0-die-", other),
            ("package--1", other),
            ("package-4294967296", other),
            ("cores", other),
        ];
        for (name, want) in cases {
            assert_eq!(rapl(name), want, "{name}");
        }
        assert_eq!(DomainKind::of("gpu"), Some(DomainKind::Gpu));
        assert_eq!(DomainKind::of("GPU"), None);
    }
}
