//! Meters under `/sys/class/hwmon`: energies that drivers add up (`energyN_input`, microjoules: `amd_energy` and others), and
//! powers (`powerN_input`, microwatts), which have to be integrated over time here. See the kernel's description of the
//! sysfs interface of hwmon.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::powercap::{Files, System, read_number};
use super::{Domain, DomainKind, Quantity, ReadError, Source};
use crate::Roots;
use crate::roots::text;

/// The meters under hwmon.
pub struct Hwmon {
    files: Box<dyn Files>,
    domains: Vec<Domain>,
    paths: Vec<PathBuf>,
}

impl std::fmt::Debug for Hwmon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hwmon").field(&self.paths).finish()
    }
}

impl Hwmon {
    /// The meters under `roots`, by chip and number; none of them has to be readable.
    pub fn find(roots: &Roots) -> Self {
        let chips = numbered(&roots.sys.join("class/hwmon"), "hwmon", "");
        let mut found: Vec<(Domain, PathBuf)> = chips
            .iter()
            .flat_map(|(_, dir)| meters(dir).unwrap_or_default())
            .collect();
        // A socket with an energy is not measured by a power as well.
        let counted = |(domain, _): &(Domain, PathBuf)| {
            domain.counts && domain.quantity != Quantity::Microwatts
        };
        if found.iter().any(counted) {
            for (domain, _) in &mut found {
                domain.counts &= domain.quantity != Quantity::Microwatts;
            }
        }
        let (domains, paths) = found.into_iter().unzip();
        Self {
            files: Box::new(System),
            domains,
            paths,
        }
    }
}

impl Source for Hwmon {
    fn name(&self) -> &'static str {
        "hwmon"
    }

    fn domains(&self) -> &[Domain] {
        &self.domains
    }

    fn values(&mut self) -> Vec<Result<u64, ReadError>> {
        let values = self.paths.iter().zip(&self.domains).map(|(path, domain)| {
            let unit = match domain.quantity {
                Quantity::Microwatts => "microwatts",
                _ => "microjoules",
            };
            read_number(self.files.as_ref(), path, unit)
        });
        values.collect()
    }
}

/// The entries `<before><number><after>` of a directory, by number.
fn numbered(dir: &Path, before: &str, after: &str) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let middle = name.to_str()?.strip_prefix(before)?.strip_suffix(after)?;
            Some((middle.parse().ok()?, entry.path()))
        })
        .collect();
    found.sort();
    found
}

/// The meters of a chip; `None` for one without a name.
fn meters(dir: &Path) -> Option<Vec<(Domain, PathBuf)>> {
    let chip = text(&dir.join("name"))?;
    let label = |number: u32, what: &str| text(&dir.join(format!("{what}{number}_label")));
    let mut found = Vec::new();
    for (number, path) in numbered(dir, "energy", "_input") {
        let label = label(number, "energy").unwrap_or_else(|| format!("energy{number}"));
        // `amd_energy`: sockets, and the cores in them.
        let of = |prefix: &str| -> Option<u32> { label.strip_prefix(prefix)?.parse().ok() };
        let (kind, package) = match (of("Esocket"), of("Ecore")) {
            (Some(socket), _) => (DomainKind::Package, Some(socket)),
            (None, Some(_)) => (DomainKind::Core, None),
            (None, None) => (kind_of_chip(&chip), None),
        };
        let name = match package {
            Some(package) => format!("package-{package}"),
            None => format!("{chip}/{label}"),
        };
        found.push((
            Domain {
                name,
                kind,
                package,
                counts: kind == DomainKind::Package,
                quantity: Quantity::Microjoules { range_uj: None },
                place: path.display().to_string(),
            },
            path,
        ));
    }
    // Where a driver gives both the power of the moment and that of the last interval, the mean is the better one.
    let mut powers = numbered(dir, "power", "_average");
    let averaged: BTreeSet<u32> = powers.iter().map(|(number, _)| *number).collect();
    let inputs = numbered(dir, "power", "_input");
    powers.extend(inputs.into_iter().filter(|(n, _)| !averaged.contains(n)));
    powers.sort();
    for (number, path) in powers {
        let label = label(number, "power");
        let kind = match label.as_deref() {
            // `xgene_hwmon`.
            Some("CPU power") => DomainKind::Package,
            _ => kind_of_chip(&chip),
        };
        let label = label.unwrap_or_else(|| format!("power{number}"));
        let index = dir.file_name()?.to_str()?.to_owned();
        found.push((
            Domain {
                name: format!("{index}-{chip}/{label}"),
                kind,
                package: None,
                counts: kind == DomainKind::Package,
                quantity: Quantity::Microwatts,
                place: path.display().to_string(),
            },
            path,
        ));
    }
    Some(found)
}

/// What a driver measures, for those that measure one thing.
fn kind_of_chip(chip: &str) -> DomainKind {
    match chip {
        // The processor of AMD's family 15h.
        "fam15h_power" => DomainKind::Package,
        // ACPI: what the machine takes from its supply.
        "power_meter" => DomainKind::Psys,
        "amdgpu" | "i915" | "xe" | "nouveau" | "radeon" => DomainKind::Gpu,
        _ => DomainKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::Tree;
    use super::super::{EnergyStatus, Meter, MeterOptions, SourceChoice, probe, probe_of};
    use super::*;
    use crate::{Clock, FakeClock};

    const SECOND: u64 = 1_000_000_000;

    fn open(tree: &Tree, source: SourceChoice) -> (Meter, Arc<FakeClock>) {
        let clock = Arc::new(FakeClock::new(0));
        let options = MeterOptions {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            source,
            busy_probe: false,
            ..MeterOptions::default()
        };
        (Meter::open(&tree.roots, &options).unwrap(), clock)
    }

    fn set(tree: &Tree, file: &str, value: u64) {
        let path = tree.roots.sys.join("class/hwmon").join(file);
        fs::write(path, value.to_string()).unwrap();
    }

    fn amd_energy() -> Tree {
        let mut tree = Tree::new().file("sys/class/hwmon/hwmon10/name", "amd_energy\n");
        // Cores come first, then sockets, as the driver numbers them.
        for (n, label) in [
            (1, "Ecore000"),
            (2, "Ecore001"),
            (3, "Esocket0"),
            (12, "Esocket1"),
        ] {
            let file = format!("sys/class/hwmon/hwmon10/energy{n}");
            tree = tree
                .file(format!("{file}_label"), &format!("{label}\n"))
                .file(format!("{file}_input"), "1000\n");
        }
        tree
    }

    #[test]
    fn sockets_are_added_and_cores_are_not() {
        let tree = amd_energy();
        let found = probe(&tree.roots);
        assert_eq!(found.status, EnergyStatus::Ok);
        assert_eq!(found.source.as_deref(), Some("hwmon"));
        assert_eq!(found.method.as_deref(), Some("counter"));
        assert_eq!(
            found.domains,
            [
                "amd_energy/Ecore000",
                "amd_energy/Ecore001",
                "package-0",
                "package-1"
            ]
        );
        let (mut meter, clock) = open(&tree, SourceChoice::Auto);
        meter.begin();
        for (n, uj) in [
            (1, 5_000_000),
            (2, 6_000_000),
            (3, 40_001_000),
            (12, 30_001_000),
        ] {
            set(&tree, &format!("hwmon10/energy{n}_input"), uj);
        }
        clock.advance(SECOND);
        let energy = meter.end();
        assert_eq!(energy.package_uj, Some(70_000_000), "{energy:?}");
        // Nothing tells where such a counter starts again.
        meter.begin();
        set(&tree, "hwmon10/energy3_input", 5);
        clock.advance(SECOND);
        assert_eq!(meter.end().status, EnergyStatus::WrapUncorrectable);
    }

    #[test]
    fn powercap_is_preferred() {
        let tree = amd_energy().zone("intel-rapl:0", "package-0", "7");
        assert_eq!(probe(&tree.roots).source.as_deref(), Some("powercap"));
        let asked = probe_of(&tree.roots, &SourceChoice::Hwmon);
        assert_eq!(asked.source.as_deref(), Some("hwmon"));
        let names: Vec<String> = probe(&tree.roots)
            .sources
            .into_iter()
            .map(|s| s.source)
            .collect();
        assert_eq!(names, ["perf", "powercap", "hwmon"]);
    }

    #[test]
    fn a_power_is_integrated_and_says_so() {
        let tree = Tree::new()
            .file("sys/class/hwmon/hwmon0/name", "fam15h_power\n")
            .file("sys/class/hwmon/hwmon0/power1_input", "10000000\n")
            .file("sys/class/hwmon/hwmon0/power1_crit", "95000000\n");
        let found = probe(&tree.roots);
        assert_eq!(
            found.method.as_deref(),
            Some("integrated_power"),
            "{found:?}"
        );
        let (mut meter, clock) = open(&tree, SourceChoice::Auto);
        meter.begin();
        // From 10 W to 30 W in a second, and 30 W for half a second.
        set(&tree, "hwmon0/power1_input", 30_000_000);
        clock.advance(SECOND);
        meter.tick();
        clock.advance(SECOND / 2);
        let energy = meter.end();
        assert_eq!(energy.package_uj, Some(35_000_000), "{energy:?}");
        // Nobody knows what happened in a pause.
        meter.begin();
        clock.advance(3 * SECOND);
        assert_eq!(meter.end().status, EnergyStatus::StaleCounter);
    }

    #[test]
    fn a_power_does_not_count_beside_an_energy() {
        let tree = amd_energy()
            .file("sys/class/hwmon/hwmon2/name", "fam15h_power")
            .file("sys/class/hwmon/hwmon2/power1_input", "10000000");
        let hwmon = Hwmon::find(&tree.roots);
        let counted = hwmon.domains().iter().filter(|domain| domain.counts);
        let names: Vec<&str> = counted.map(|domain| domain.name.as_str()).collect();
        assert_eq!(names, ["package-0", "package-1"]);
    }

    #[test]
    fn a_platform_alone_has_to_be_asked_for() {
        let tree = Tree::new()
            .file("sys/class/hwmon/hwmon1/name", "power_meter")
            .file("sys/class/hwmon/hwmon1/power1_average", "100000000")
            .file("sys/class/hwmon/hwmon1/power1_input", "1");
        let found = probe(&tree.roots);
        assert_eq!(found.status, EnergyStatus::Absent);
        assert!(
            found.reason.contains("hwmon1-power_meter/power1"),
            "{}",
            found.reason
        );
        let (mut meter, clock) = open(&tree, SourceChoice::Hwmon);
        meter.begin();
        clock.advance(SECOND);
        let energy = meter.end();
        assert_eq!((energy.status, energy.package_uj), (EnergyStatus::Ok, None));
        assert_eq!(energy.psys_uj, Some(100_000_000));
    }
}
