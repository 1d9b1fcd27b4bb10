//! Meters made of files.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::powercap::{Files, System};
use super::probe::{Candidate, Seen};
use super::*;
use crate::machine::Virtualization;
use crate::{FakeClock, Roots};

pub(super) struct Tree {
    pub(super) dir: tempfile::TempDir,
    pub(super) roots: Roots,
}

impl Tree {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::under(dir.path());
        Self { dir, roots }
    }

    pub(super) fn file(self, path: impl AsRef<Path>, text: &str) -> Self {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    pub(super) fn zone(self, id: &str, name: &str, energy: &str) -> Self {
        let zone = format!("sys/class/powercap/{id}");
        self.file(format!("{zone}/name"), &format!("{name}\n"))
            .file(format!("{zone}/energy_uj"), &format!("{energy}\n"))
            .file(format!("{zone}/max_energy_range_uj"), "262143328850\n")
    }

    /// Changes what a counter shows.
    pub(super) fn set(&self, id: &str, energy: impl ToString + Copy) {
        let path = self.roots.sys.join("class/powercap").join(id);
        // Without emptying the file first, which makes some file systems write to the disk.
        let mut file = fs::File::options()
            .write(true)
            .open(path.join("energy_uj"))
            .unwrap();
        let text = energy.to_string();
        file.write_all(text.as_bytes()).unwrap();
        file.set_len(text.len() as u64).unwrap();
    }

    fn headline(&self) -> Vec<String> {
        let powercap = Powercap::find(&self.roots);
        let domains = powercap.domains().iter().filter(|domain| domain.counts);
        domains.map(|domain| domain.name.clone()).collect()
    }

    fn domains(&self) -> Vec<String> {
        let powercap = Powercap::find(&self.roots);
        powercap.domains().iter().map(|d| d.name.clone()).collect()
    }
}

/// Files of which those whose path contains a word give an error.
struct Faulty {
    word: &'static str,
    error: fn() -> io::Error,
}

impl Files for Faulty {
    fn read(&self, path: &Path) -> io::Result<String> {
        if path.to_str().is_some_and(|path| path.contains(self.word)) {
            return Err((self.error)());
        }
        System.read(path)
    }
}

#[test]
fn a_desktop() {
    let tree = Tree::new()
        .file("sys/class/powercap/intel-rapl/enabled", "1")
        .zone("intel-rapl:0", "package-0", "123456789")
        .zone("intel-rapl:0:0", "core", "5")
        .zone("intel-rapl:0:1", "uncore", "6")
        .zone("intel-rapl:0:2", "dram", "7")
        .zone("intel-rapl:1", "psys", "999999999")
        .zone("intel-rapl-mmio:0", "package-0", "123456789")
        .zone("dtpm:0", "something", "1");
    assert_eq!(tree.headline(), ["package-0"]);
    let mut powercap = Powercap::find(&tree.roots);
    let names = [
        "dtpm:0/something",
        "package-0",
        "package-0/core",
        "package-0/uncore",
        "package-0/dram",
        "psys",
    ];
    // The second view of the package is left out.
    assert_eq!(tree.domains(), names);
    let package = &powercap.domains()[1];
    assert_eq!(
        (package.kind, package.package),
        (DomainKind::Package, Some(0))
    );
    let range_uj = Some(262_143_328_850);
    assert_eq!(package.quantity, Quantity::Microjoules { range_uj });
    assert_eq!(powercap.domains()[4].package, Some(0));
    let reading = powercap.read(&FakeClock::new(3));
    assert_eq!(reading.values[1], Ok(123_456_789));
    assert_eq!(
        (reading.at_ns, reading.unix_ns),
        (3, 1_700_000_000_000_000_003)
    );
    let probe = probe(&tree.roots);
    assert_eq!(probe.status, EnergyStatus::Ok);
    assert_eq!(probe.source.as_deref(), Some("powercap"));
    assert_eq!(probe.method.as_deref(), Some("counter"));
    assert_eq!(probe.domains, names);
    assert_eq!(probe.remedy, None);
}

#[test]
fn what_is_added_up() {
    let two = Tree::new()
        .zone("intel-rapl:0", "package-0", "1")
        .zone("intel-rapl:1", "package-1", "1")
        .zone("intel-rapl:2", "dram", "1")
        .zone("intel-rapl:3", "psys", "1");
    assert_eq!(two.headline(), ["package-0", "package-1"]);
    let dies = Tree::new()
        .zone("intel-rapl:0", "package-0-die-0", "1")
        .zone("intel-rapl:1", "package-0-die-1", "1")
        .zone("intel-rapl:2", "package-1", "1")
        .zone("intel-rapl:3", "package-1-die-0", "1");
    assert_eq!(
        dies.headline(),
        ["package-0-die-0", "package-0-die-1", "package-1"]
    );
    let mapped_only = Tree::new().zone("intel-rapl-mmio:0", "package-0", "1");
    assert_eq!(mapped_only.headline(), ["package-0"]);
    assert_eq!(probe(&mapped_only.roots).status, EnergyStatus::Ok);
}

#[test]
fn counters_that_cannot_be_read_are_errors() {
    let path = "sys/class/powercap/intel-rapl:0/energy_uj";
    for (text, status) in [
        ("", EnergyStatus::Absent),
        ("garbage", EnergyStatus::Absent),
        ("-5", EnergyStatus::Absent),
        ("99999999999999999999999", EnergyStatus::Absent),
        ("0", EnergyStatus::ZeroCounter),
        ("1", EnergyStatus::Ok),
    ] {
        let tree = Tree::new()
            .zone("intel-rapl:0", "package-0", "7")
            .file(path, text);
        assert_eq!(probe(&tree.roots).status, status, "{text}");
    }
    let tree = Tree::new().zone("intel-rapl:0", "package-0", "7");
    fs::remove_file(tree.dir.path().join(path)).unwrap();
    let value = || Powercap::find(&tree.roots).values().remove(0);
    assert_eq!(value(), Err(ReadError::Missing));
    fs::create_dir(tree.dir.path().join(path)).unwrap();
    assert!(matches!(value(), Err(ReadError::Failed(_))));
    let found = probe(&tree.roots);
    assert_eq!((found.status, found.source), (EnergyStatus::Absent, None));
    assert!(found.reason.contains("energy_uj"), "{}", found.reason);
}

fn seen(virtualization: Virtualization) -> Seen {
    Seen {
        sources: Vec::new(),
        directory: false,
        masked: false,
        perf: false,
        virtualization,
    }
}

/// The probe of a tree in which some files give an error.
fn faulty(tree: &Tree, word: &'static str, error: fn() -> io::Error) -> Seen {
    let powercap = Powercap::find_with(&tree.roots, Box::new(Faulty { word, error }));
    let candidate = Candidate::try_out(Box::new(powercap), true);
    Seen::of(&tree.roots, &[candidate])
}

#[test]
fn a_meter_for_root_alone_names_the_commands() {
    // One readable package of two is no energy of the machine.
    let tree =
        Tree::new()
            .zone("intel-rapl:0", "package-0", "5")
            .zone("intel-rapl:1", "package-1", "5");
    let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
    let mut seen = faulty(&tree, "intel-rapl:1", denied);
    let probe = seen.judge();
    assert_eq!(probe.status, EnergyStatus::PermissionDenied);
    assert!(
        probe.reason.contains("intel-rapl:1/energy_uj"),
        "{}",
        probe.reason
    );
    let remedy = probe.remedy.unwrap();
    for part in [
        r#"SUBSYSTEM=="powercap", KERNEL=="intel-rapl*:*", ACTION=="add", RUN+="/bin/chmod a+r /sys%p/energy_uj""#,
        "udevadm trigger",
        "sudo chmod a+r /sys/class/powercap/*/energy_uj",
    ] {
        assert!(remedy.contains(part), "{remedy}");
    }
    assert!(
        !remedy.contains("cap_perfmon"),
        "there is no perf: {remedy}"
    );
    seen.perf = true;
    seen.virtualization.container = Some("docker".to_owned());
    let remedy = seen.judge().remedy.unwrap();
    for part in ["sudo setcap cap_perfmon+ep", "--cap-add PERFMON"] {
        assert!(remedy.contains(part), "{remedy}");
    }
}

#[test]
fn a_driver_without_data_is_an_error() {
    let tree = Tree::new().zone("intel-rapl:0", "package-0", "5");
    // ENODATA, which AMD machines give for energies of a core that sleeps.
    let probe = faulty(&tree, "intel-rapl:0", || io::Error::from_raw_os_error(61)).judge();
    assert_eq!(probe.status, EnergyStatus::Absent);
    assert!(probe.reason.contains("os error 61"), "{}", probe.reason);
    assert!(probe.remedy.is_some());
}

#[test]
fn why_there_is_no_meter() {
    let machine = |virtual_machine, container: Option<&str>| Virtualization {
        virtual_machine,
        container: container.map(str::to_owned),
        ..Virtualization::default()
    };
    let bare = Some(false);
    let cases = [
        (machine(Some(true), None), false, EnergyStatus::VmNoRapl),
        (
            machine(Some(true), Some("docker")),
            false,
            EnergyStatus::VmNoRapl,
        ),
        // A mask is there because there is something behind it.
        (
            machine(Some(true), Some("docker")),
            true,
            EnergyStatus::ContainerMasked,
        ),
        (
            machine(bare, Some("docker")),
            false,
            EnergyStatus::ContainerMasked,
        ),
        (machine(bare, None), false, EnergyStatus::Absent),
        (machine(None, None), false, EnergyStatus::Absent),
    ];
    for (virtualization, masked, want) in cases {
        let seen = Seen {
            masked,
            ..seen(virtualization.clone())
        };
        let probe = seen.judge();
        assert_eq!(probe.status, want, "{virtualization:?} {masked}");
        assert!(probe.source.is_none() && probe.domains.is_empty() && probe.remedy.is_some());
    }
    let reason = |directory, perf| {
        Seen {
            directory,
            perf,
            ..seen(machine(bare, None))
        }
        .judge()
        .reason
    };
    let reasons = std::collections::BTreeSet::from([
        reason(false, false),
        reason(true, false),
        reason(true, true),
    ]);
    assert_eq!(reasons.len(), 3);
}

#[test]
fn trees_without_a_meter() {
    let vm = Tree::new().file("proc/cpuinfo", "processor : 0\nflags : fpu hypervisor\n");
    assert_eq!(probe(&vm.roots).status, EnergyStatus::VmNoRapl);
    let masked = vm.file(
        "proc/self/mountinfo",
        "9 1 0:5 / /sys/devices/virtual/powercap ro - tmpfs tmpfs ro\n",
    );
    assert_eq!(probe(&masked.roots).status, EnergyStatus::ContainerMasked);
    let empty = Tree::new().file("sys/class/powercap/intel-rapl/enabled", "1");
    let found = probe(&empty.roots);
    assert_eq!(found.status, EnergyStatus::Absent);
    assert!(found.reason.contains("no RAPL driver"), "{}", found.reason);
    // psys alone is no package.
    let psys = Tree::new().zone("intel-rapl:0", "psys", "5");
    assert_eq!(probe(&psys.roots).status, EnergyStatus::Absent);
}

#[test]
fn words() {
    for &status in EnergyStatus::ALL {
        assert_eq!(status.name().parse(), Ok(status));
        assert_eq!(
            serde_json::to_string(&status).unwrap(),
            format!("\"{status}\"")
        );
    }
    assert!(
        "OK".parse::<EnergyStatus>()
            .unwrap_err()
            .to_string()
            .contains("`OK`")
    );
}
