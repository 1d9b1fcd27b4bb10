//! The `power` PMU of the kernel: `/sys/bus/event_source/devices/power`. It counts RAPL to 64 bits, so nothing starts again
//! at 0; and it needs the permission to watch whole CPUs (root, `cap_perfmon`, or `perf_event_paranoid` of 0).

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::{Domain, DomainKind, Quantity, ReadError, Source};
use crate::Roots;
use crate::roots::{cpu_list, number, text};
use crate::sys::perf::{Counter, Event, Scope};

/// Lower numbers are not those of a PMU that registered itself: there, `power` events would count something else.
const FIRST_DYNAMIC_TYPE: u32 = 6;

/// The events that the kernel has for energy, and what they are.
const EVENTS: [(&str, DomainKind); 5] = [
    ("energy-pkg", DomainKind::Package),
    ("energy-cores", DomainKind::Core),
    ("energy-gpu", DomainKind::Gpu),
    ("energy-ram", DomainKind::Dram),
    ("energy-psys", DomainKind::Psys),
];

/// How counters are opened; tests count without a kernel.
pub(super) trait Pmu {
    fn open(&self, event: Event, cpu: u32) -> io::Result<Box<dyn Ticks>>;
}

/// An open counter of energy.
pub(super) trait Ticks: Send {
    fn read(&self) -> io::Result<u64>;
}

/// The PMU of the kernel.
struct Kernel;

impl Pmu for Kernel {
    fn open(&self, event: Event, cpu: u32) -> io::Result<Box<dyn Ticks>> {
        Ok(Box::new(Counter::open(event, Scope::Cpu(cpu))?))
    }
}

impl Ticks for Counter {
    fn read(&self) -> io::Result<u64> {
        self.read().map(|count| count.value)
    }
}

/// The energy events of perf.
pub struct Perf {
    domains: Vec<Domain>,
    counters: Vec<Box<dyn Ticks>>,
}

impl std::fmt::Debug for Perf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Perf").field(&self.domains).finish()
    }
}

impl Perf {
    /// Opens a counter for each event and each CPU of the PMU's `cpumask`, one a package (or die).
    ///
    /// # Errors
    /// The package that could not be opened, or the file that makes no sense. A machine without the PMU is no error: it has no
    /// domains.
    pub fn open(roots: &Roots) -> Result<Self, (String, ReadError)> {
        Self::open_with(roots, &Kernel)
    }

    pub(super) fn open_with(roots: &Roots, pmu: &dyn Pmu) -> Result<Self, (String, ReadError)> {
        let mut perf = Self {
            domains: Vec::new(),
            counters: Vec::new(),
        };
        for (domain, event, cpu) in events(roots)? {
            match pmu.open(event, cpu) {
                Ok(counter) => {
                    perf.domains.push(domain);
                    perf.counters.push(counter);
                }
                // Without a package there is nothing; without another domain only that is missing.
                Err(error) if domain.counts => {
                    let error = match error.kind() {
                        io::ErrorKind::PermissionDenied => ReadError::Denied,
                        _ => ReadError::Failed(error.to_string()),
                    };
                    return Err((domain.place, error));
                }
                Err(_) => {}
            }
        }
        Ok(perf)
    }
}

impl Source for Perf {
    fn name(&self) -> &'static str {
        "perf"
    }

    fn domains(&self) -> &[Domain] {
        &self.domains
    }

    fn values(&mut self) -> Vec<Result<u64, ReadError>> {
        let values = self.counters.iter().map(|counter| {
            counter
                .read()
                .map_err(|error| ReadError::Failed(error.to_string()))
        });
        values.collect()
    }
}

/// Whether the kernel counts the energy of packages for perf.
pub(super) fn exists(roots: &Roots) -> bool {
    directory(roots).join("events/energy-pkg").exists()
}

fn directory(roots: &Roots) -> std::path::PathBuf {
    roots.sys.join("bus/event_source/devices/power")
}

/// A domain, and the event and CPU that count it.
type ToOpen = (Domain, Event, u32);

/// What is to be opened.
fn events(roots: &Roots) -> Result<Vec<ToOpen>, (String, ReadError)> {
    let dir = directory(roots);
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let wrong = |path: &Path, unit| {
        let held: String = text(path).unwrap_or_default().chars().take(40).collect();
        (path.display().to_string(), ReadError::Malformed(held, unit))
    };
    let path = dir.join("type");
    let kind: u32 = number(&path)
        .filter(|&kind| kind >= FIRST_DYNAMIC_TYPE)
        .ok_or_else(|| wrong(&path, "a PMU"))?;
    let path = dir.join("cpumask");
    let cpus: Vec<u32> = text(&path)
        .and_then(|list| cpu_list(&list))
        .map(|cpus| cpus.into_iter().map(|cpu| cpu as u32).collect())
        .filter(|cpus: &Vec<u32>| !cpus.is_empty())
        .ok_or_else(|| wrong(&path, "CPUs"))?;
    let topology = |cpu: u32, name: &str| -> Option<u32> {
        number(
            &roots
                .sys
                .join(format!("devices/system/cpu/cpu{cpu}/topology/{name}")),
        )
    };
    // One CPU a package or, where dies have meters, one a die.
    let mut of_package: BTreeMap<Option<u32>, u32> = BTreeMap::new();
    for &cpu in &cpus {
        *of_package
            .entry(topology(cpu, "physical_package_id"))
            .or_default() += 1;
    }
    let mut events = Vec::new();
    for (name, domain) in EVENTS {
        let path = dir.join("events").join(name);
        if !path.exists() {
            continue;
        }
        let config = text(&path)
            .as_deref()
            .and_then(config)
            .ok_or_else(|| wrong(&path, "an event (`event=0x02`)"))?;
        let unit = dir.join(format!("events/{name}.unit"));
        if text(&unit).as_deref() != Some("Joules") {
            return Err(wrong(&unit, "Joules"));
        }
        let scale = dir.join(format!("events/{name}.scale"));
        let joules: f64 = number(&scale)
            .filter(|joules: &f64| joules.is_finite() && *joules > 0.0)
            .ok_or_else(|| wrong(&scale, "joules a tick"))?;
        for &cpu in &cpus {
            let package = topology(cpu, "physical_package_id");
            let several = of_package[&package] > 1;
            let above = match (package, topology(cpu, "die_id")) {
                (Some(package), Some(die)) if several => format!("package-{package}-die-{die}"),
                (Some(package), None) if several => format!("package-{package}-cpu-{cpu}"),
                (Some(package), _) => format!("package-{package}"),
                (None, _) => format!("cpu-{cpu}"),
            };
            let name_of_domain = match domain {
                DomainKind::Package => above,
                DomainKind::Psys if cpus.len() == 1 => "psys".to_owned(),
                _ => format!("{above}/{}", domain.name()),
            };
            let domain = Domain {
                name: name_of_domain,
                kind: domain,
                package,
                counts: domain == DomainKind::Package,
                quantity: Quantity::Ticks { joules },
                place: format!("power/{name}/ on CPU {cpu}"),
            };
            events.push((domain, Event { kind, config }, cpu));
        }
    }
    Ok(events)
}

/// `event=0x02`: the number is the attribute `config`, of which the PMU's `format/event` takes the lowest byte.
fn config(text: &str) -> Option<u64> {
    let number = text.strip_prefix("event=")?.trim();
    match number.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use super::super::tests::Tree;
    use super::super::{EnergyStatus, Meter, MeterOptions};
    use super::*;
    use crate::{Clock, FakeClock};

    /// 2^-32 J, as the kernel writes it.
    const SCALE: &str = "2.3283064365386962890625e-10";

    fn tree(cpumask: &str, events: &[(&str, &str)]) -> Tree {
        let dir = "sys/bus/event_source/devices/power";
        let mut tree = Tree::new()
            .file(format!("{dir}/type"), "23\n")
            .file(format!("{dir}/cpumask"), &format!("{cpumask}\n"))
            .file(format!("{dir}/format/event"), "config:0-7\n");
        for (name, code) in events {
            tree = tree
                .file(format!("{dir}/events/{name}"), &format!("event={code}\n"))
                .file(format!("{dir}/events/{name}.unit"), "Joules\n")
                .file(format!("{dir}/events/{name}.scale"), &format!("{SCALE}\n"));
        }
        tree
    }

    fn cpu(tree: Tree, cpu: u32, package: u32, die: u32) -> Tree {
        let dir = format!("sys/devices/system/cpu/cpu{cpu}/topology");
        tree.file(format!("{dir}/physical_package_id"), &package.to_string())
            .file(format!("{dir}/die_id"), &die.to_string())
    }

    type Shared = Arc<AtomicU64>;

    /// A PMU whose counters a test moves.
    #[derive(Default)]
    struct Fake {
        opened: Mutex<Vec<(Event, u32, Shared)>>,
        errno: Option<i32>,
    }

    impl Pmu for Fake {
        fn open(&self, event: Event, cpu: u32) -> io::Result<Box<dyn Ticks>> {
            if let Some(errno) = self.errno {
                return Err(io::Error::from_raw_os_error(errno));
            }
            let count = Shared::default();
            let mut opened = self.opened.lock().unwrap();
            opened.push((event, cpu, Arc::clone(&count)));
            Ok(Box::new(FakeTicks(count)))
        }
    }

    struct FakeTicks(Shared);

    impl Ticks for FakeTicks {
        fn read(&self) -> io::Result<u64> {
            match self.0.load(Ordering::SeqCst) {
                u64::MAX => Err(io::Error::from_raw_os_error(5)),
                ticks => Ok(ticks),
            }
        }
    }

    fn meter(tree: &Tree, pmu: &Fake) -> (Meter, Arc<FakeClock>) {
        let source = Box::new(Perf::open_with(&tree.roots, pmu).unwrap());
        let clock = Arc::new(FakeClock::new(0));
        let options = MeterOptions {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            ..MeterOptions::default()
        };
        (Meter::over(source, &tree.roots, &options), clock)
    }

    #[test]
    fn ticks_become_microjoules() {
        let tree = tree(
            "0,4",
            &[
                ("energy-pkg", "0x02"),
                ("energy-ram", "0x03"),
                ("energy-psys", "0x05"),
            ],
        );
        let tree = cpu(cpu(tree, 0, 0, 0), 4, 1, 0);
        let pmu = Fake::default();
        let (mut meter, clock) = meter(&tree, &pmu);
        let names: Vec<&str> = meter.domains().iter().map(|d| d.name.as_str()).collect();
        let want = [
            "package-0",
            "package-1",
            "package-0/dram",
            "package-1/dram",
            "package-0/psys",
            "package-1/psys",
        ];
        assert_eq!(names, want);
        let opened = pmu.opened.lock().unwrap();
        let seen: Vec<(u32, u64, u32)> =
            opened.iter().map(|o| (o.0.kind, o.0.config, o.1)).collect();
        assert_eq!(
            seen,
            [
                (23, 2, 0),
                (23, 2, 4),
                (23, 3, 0),
                (23, 3, 4),
                (23, 5, 0),
                (23, 5, 4)
            ]
        );
        meter.begin();
        // 2^32 ticks are a joule: 100 J, 50.000001 J, 7 J, 8 J.
        let ticks = [
            100u64 << 32,
            (50 << 32) + 4295,
            7 << 32,
            8 << 32,
            200 << 32,
            0,
        ];
        for (open, ticks) in opened.iter().zip(ticks) {
            open.2.store(ticks, Ordering::SeqCst);
        }
        clock.advance(1_000_000_000);
        let energy = meter.end();
        assert_eq!(energy.status, EnergyStatus::Ok, "{energy:?}");
        assert_eq!(energy.source, "perf");
        assert_eq!(energy.package_uj, Some(150_000_001));
        assert_eq!(energy.dram_uj, Some(15_000_000));
        assert_eq!(energy.psys_uj, Some(200_000_000));
        // A counter that goes back is none, and an error is no 0.
        for (ticks, status) in [
            (5, EnergyStatus::Implausible),
            (u64::MAX, EnergyStatus::Absent),
        ] {
            meter.begin();
            opened[1].2.store(ticks, Ordering::SeqCst);
            clock.advance(1_000_000_000);
            let energy = meter.end();
            assert_eq!((energy.status, energy.package_uj), (status, None));
        }
    }

    #[test]
    fn dies_have_names() {
        let tree = tree("0,8", &[("energy-pkg", "0x02"), ("energy-cores", "0x01")]);
        let tree = cpu(cpu(tree, 0, 0, 0), 8, 0, 1);
        let perf = Perf::open_with(&tree.roots, &Fake::default()).unwrap();
        let names: Vec<&str> = perf.domains().iter().map(|d| d.name.as_str()).collect();
        let want = [
            "package-0-die-0",
            "package-0-die-1",
            "package-0-die-0/core",
            "package-0-die-1/core",
        ];
        assert_eq!(names, want);
        assert!(perf.domains()[1].counts && !perf.domains()[2].counts);
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        let one = || tree("0", &[("energy-pkg", "0x02")]);
        let dir = "sys/bus/event_source/devices/power";
        for (file, content) in [
            ("type", "1"),
            ("type", "x"),
            ("cpumask", ""),
            ("cpumask", "3-1"),
            ("events/energy-pkg", "config=2"),
            ("events/energy-pkg", "event=0xzz"),
            ("events/energy-pkg.unit", "Watts"),
            ("events/energy-pkg.scale", "0"),
            ("events/energy-pkg.scale", "-1"),
            ("events/energy-pkg.scale", "inf"),
        ] {
            let tree = one().file(format!("{dir}/{file}"), content);
            let error = Perf::open_with(&tree.roots, &Fake::default()).unwrap_err();
            assert!(error.0.contains(file), "{file} {content}: {error:?}");
            assert!(matches!(error.1, ReadError::Malformed(..)), "{error:?}");
        }
        // EACCES and EPERM, and a kernel without the PMU.
        for (errno, want) in [(13, true), (1, true), (2, false), (22, false)] {
            let pmu = Fake {
                errno: Some(errno),
                ..Fake::default()
            };
            let error = Perf::open_with(&one().roots, &pmu).unwrap_err().1;
            assert_eq!(error == ReadError::Denied, want, "{error}");
        }
        // Nothing is there, and nothing is wrong.
        let perf = Perf::open_with(&Tree::new().roots, &Fake::default()).unwrap();
        assert!(perf.domains().is_empty());
    }
}
