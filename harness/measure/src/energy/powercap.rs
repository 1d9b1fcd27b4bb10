//! The zones of `/sys/class/powercap`: RAPL on Intel and AMD.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::domain::rapl;
use super::{Domain, DomainKind, Quantity, ReadError, Source};
use crate::Roots;
use crate::roots::{number, text};

/// A counter file is a line with one number.
const MAX_COUNTER_BYTES: u64 = 4096;

/// How small files with counters are read; tests put errors here that no file system of theirs can make.
pub(super) trait Files: Send {
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// The files of the system.
pub(super) struct System;

impl Files for System {
    fn read(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?
            .take(MAX_COUNTER_BYTES)
            .read_to_string(&mut text)?;
        Ok(text)
    }
}

/// The number in a file, as `unit`.
pub(super) fn read_number(
    files: &dyn Files,
    path: &Path,
    unit: &'static str,
) -> Result<u64, ReadError> {
    let text = files.read(path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => ReadError::Denied,
        io::ErrorKind::NotFound => ReadError::Missing,
        _ => ReadError::Failed(error.to_string()),
    })?;
    let text = text.trim();
    text.parse()
        .map_err(|_| ReadError::Malformed(text.chars().take(40).collect(), unit))
}

/// The meters under powercap.
pub struct Powercap {
    files: Box<dyn Files>,
    domains: Vec<Domain>,
    paths: Vec<PathBuf>,
}

impl std::fmt::Debug for Powercap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Powercap").field(&self.paths).finish()
    }
}

impl Powercap {
    /// The zones under `roots`, in the order of their ids; none of them has to be readable.
    ///
    /// The memory-mapped interface shows the package meters a second time: its zones are left out where the other
    /// interface has one of the same name. Zones of other drivers than RAPL are listed and never part of a sum.
    pub fn find(roots: &Roots) -> Self {
        Self::find_with(roots, Box::new(System))
    }

    pub(super) fn find_with(roots: &Roots, files: Box<dyn Files>) -> Self {
        let mut zones: Vec<Zone> = zone_paths(roots).iter().filter_map(|p| zone(p)).collect();
        let direct: BTreeSet<String> = zones
            .iter()
            .filter(|zone| zone.control == "intel-rapl")
            .map(|zone| zone.domain.name.clone())
            .collect();
        zones.retain(|zone| {
            zone.control != "intel-rapl-mmio" || !direct.contains(&zone.domain.name)
        });
        // Of a package that has a meter for the whole and one for each die, the whole one counts.
        let whole: BTreeSet<u32> = zones
            .iter()
            .filter(|zone| zone.domain.counts && zone.die.is_none())
            .filter_map(|zone| zone.domain.package)
            .collect();
        for zone in &mut zones {
            let in_whole = zone
                .domain
                .package
                .is_some_and(|package| whole.contains(&package));
            zone.domain.counts &= zone.die.is_none() || !in_whole;
        }
        Self {
            files,
            paths: zones.iter().map(|zone| zone.energy_path.clone()).collect(),
            domains: zones.into_iter().map(|zone| zone.domain).collect(),
        }
    }

    /// The files with the counters, in the order of the domains.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }
}

impl Source for Powercap {
    fn name(&self) -> &'static str {
        "powercap"
    }

    fn domains(&self) -> &[Domain] {
        &self.domains
    }

    fn values(&mut self) -> Vec<Result<u64, ReadError>> {
        let values = self.paths.iter().zip(&self.domains).map(|(path, domain)| {
            let value = read_number(self.files.as_ref(), path, "microjoules")?;
            match domain.quantity {
                Quantity::Microjoules {
                    range_uj: Some(range),
                } if value > range => Err(ReadError::BeyondRange { value, range }),
                _ => Ok(value),
            }
        });
        values.collect()
    }
}

struct Zone {
    /// `intel-rapl` is the control type on AMD too.
    control: String,
    die: Option<u32>,
    energy_path: PathBuf,
    domain: Domain,
}

/// The places where powercap may be: the class has a link to every zone; the other is the tree of the devices.
const PLACES: [&str; 2] = ["class/powercap", "devices/virtual/powercap"];

/// Whether there is a powercap directory at all.
pub(super) fn exists(roots: &Roots) -> bool {
    PLACES.iter().any(|place| roots.sys.join(place).is_dir())
}

/// The directories of all zones, by id. A container may show the class without the devices that its links point to, or
/// the devices without the class.
fn zone_paths(roots: &Roots) -> Vec<PathBuf> {
    let [class, devices] = PLACES.map(|place| roots.sys.join(place));
    let mut paths: Vec<PathBuf> = entries(&class).filter(|path| path.is_dir()).collect();
    paths.retain(|path| is_zone(path));
    if paths.is_empty() {
        // Control type, zone, sub-zone.
        let mut level: Vec<PathBuf> = vec![devices];
        for _ in 0..3 {
            level = level.iter().flat_map(|dir| entries(dir)).collect();
            level.retain(|path| path.is_dir());
            paths.extend(level.iter().filter(|path| is_zone(path)).cloned());
        }
    }
    paths.sort_by_key(|path| id(path));
    paths
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// `intel-rapl:0:1`: the control type, then numbers in hex.
fn is_zone(path: &Path) -> bool {
    id(path).is_some_and(|(_, numbers)| !numbers.is_empty())
}

fn id(path: &Path) -> Option<(String, Vec<u32>)> {
    let name = path.file_name()?.to_str()?;
    let mut words = name.split(':');
    let control = words.next()?.to_owned();
    let numbers: Result<Vec<u32>, _> = words.map(|word| u32::from_str_radix(word, 16)).collect();
    Some((control, numbers.ok()?))
}

fn zone(path: &Path) -> Option<Zone> {
    let (control, numbers) = id(path)?;
    let energy_path = path.join("energy_uj");
    let is_rapl = matches!(control.as_str(), "intel-rapl" | "intel-rapl-mmio");
    // Zones of other drivers may have a power and no energy.
    if !is_rapl && !energy_path.exists() {
        return None;
    }
    let own = text(&path.join("name"))?;
    let (mut kind, mut package, die) = rapl(&own);
    let mut name = own;
    if !is_rapl {
        let id = path.file_name()?.to_str()?;
        (name, kind, package) = (format!("{id}/{name}"), DomainKind::Other, None);
    } else if numbers.len() > 1 {
        // A part of the zone above it, whose name says of which package.
        let above = parent_name(path).unwrap_or_else(|| "?".to_owned());
        package = rapl(&above).1;
        name = format!("{above}/{name}");
    }
    Some(Zone {
        domain: Domain {
            name,
            kind,
            package,
            counts: is_rapl && kind == DomainKind::Package && numbers.len() == 1,
            quantity: Quantity::Microjoules {
                range_uj: number(&path.join("max_energy_range_uj")).filter(|&max| max > 0),
            },
            place: energy_path.display().to_string(),
        },
        control,
        die,
        energy_path,
    })
}

/// The name of the zone that contains this one: beside it in the class, above it in the tree of the devices.
fn parent_name(path: &Path) -> Option<String> {
    let (parent, _) = path.file_name()?.to_str()?.rsplit_once(':')?;
    let beside = path.with_file_name(parent).join("name");
    text(&beside).or_else(|| text(&path.parent()?.join("name")))
}
