//! Which meter this machine has that we may read, and if none, why not and what helps.

use serde::{Deserialize, Serialize};

use super::external::{Later, MAX_GAP_NS, NOT_MERGED};
use super::meter::{Fault, SourceChoice};
use super::{EnergyStatus, External, Hwmon, Perf, Powercap, Quantity, ReadError, Source, powercap};
use crate::machine::Virtualization;
use crate::{Roots, roots};

/// What one kind of meter offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceProbe {
    /// Its word: `perf`, `powercap`, `hwmon`, `external`.
    pub source: String,
    /// `ok`, or why it is of no use.
    pub status: EnergyStatus,
    /// The domains that can be read.
    pub domains: Vec<String>,
    /// `counter`, or `integrated_power` where a power is read and summed up over time.
    pub method: Option<String>,
    /// What was seen, in a sentence.
    pub reason: String,
}

/// Whether energy can be measured here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnergyProbe {
    /// `ok`, or why not.
    pub status: EnergyStatus,
    /// The meter that will be read; missing without one.
    pub source: Option<String>,
    /// How: `counter`, or `integrated_power`.
    pub method: Option<String>,
    /// The domains that can be read.
    pub domains: Vec<String>,
    /// What was seen, in a sentence.
    pub reason: String,
    /// What to do about it; missing when nothing helps or nothing has to.
    pub remedy: Option<String>,
    /// Every kind of meter that was looked for, best first.
    pub sources: Vec<SourceProbe>,
}

/// Looks for a meter under `roots`. It reads each counter once and changes nothing.
pub fn probe(roots: &Roots) -> EnergyProbe {
    probe_of(roots, &SourceChoice::Auto)
}

/// Looks for the meter that `choice` names.
pub fn probe_of(roots: &Roots, choice: &SourceChoice) -> EnergyProbe {
    let candidates = candidates(roots, choice);
    Seen::of(roots, &candidates).judge()
}

/// The usable sources, best first, and what to say when none of them does in the end.
pub(super) fn open(roots: &Roots, choice: &SourceChoice) -> (Vec<Box<dyn Source>>, EnergyProbe) {
    let candidates = candidates(roots, choice);
    let probe = Seen::of(roots, &candidates).judge();
    let usable = candidates.into_iter().filter(|candidate| {
        // Whether a counter that shows 0 will move is for the busy probe to say.
        matches!(
            candidate.probe.status,
            EnergyStatus::Ok | EnergyStatus::ZeroCounter
        )
    });
    (
        usable.filter_map(|candidate| candidate.source).collect(),
        probe,
    )
}

/// A source that was looked for.
pub(super) struct Candidate {
    source: Option<Box<dyn Source>>,
    probe: SourceProbe,
}

fn candidates(roots: &Roots, choice: &SourceChoice) -> Vec<Candidate> {
    match choice {
        SourceChoice::Auto => vec![
            perf(roots),
            Candidate::try_out(Box::new(Powercap::find(roots)), true),
            Candidate::try_out(Box::new(Hwmon::find(roots)), true),
        ],
        SourceChoice::Perf => vec![perf(roots)],
        SourceChoice::Powercap => vec![Candidate::try_out(Box::new(Powercap::find(roots)), true)],
        SourceChoice::Hwmon => vec![Candidate::try_out(Box::new(Hwmon::find(roots)), false)],
        SourceChoice::External(path) => vec![match External::open(path, MAX_GAP_NS) {
            Ok(record) => Candidate::try_out(Box::new(record), false),
            Err(error) => Candidate::failed("external", EnergyStatus::Absent, error.to_string()),
        }],
        SourceChoice::Later => vec![Candidate::later()],
    }
}

fn perf(roots: &Roots) -> Candidate {
    match Perf::open(roots) {
        Ok(perf) => Candidate::try_out(Box::new(perf), true),
        Err((place, ReadError::Denied)) => Candidate::denied("perf", &place),
        Err((place, error)) => Candidate::broken("perf", &place, &error),
    }
}

impl Candidate {
    /// A source that could not even be opened.
    fn failed(source: &str, status: EnergyStatus, reason: String) -> Self {
        let probe = SourceProbe {
            source: source.to_owned(),
            status,
            domains: Vec::new(),
            method: None,
            reason,
        };
        Self {
            source: None,
            probe,
        }
    }

    pub(super) fn denied(source: &str, place: &str) -> Self {
        Self::failed(source, EnergyStatus::PermissionDenied, denied(place))
    }

    pub(super) fn broken(source: &str, place: &str, error: &ReadError) -> Self {
        Self::failed(source, error.status(), broken(place, error))
    }

    /// A meter that nobody can try out now.
    fn later() -> Self {
        let probe = SourceProbe {
            source: Later.name().to_owned(),
            status: EnergyStatus::Ok,
            domains: Vec::new(),
            method: None,
            reason: NOT_MERGED.to_owned(),
        };
        Self {
            source: Some(Box::new(Later)),
            probe,
        }
    }

    /// Reads each domain once.
    pub(super) fn try_out(mut source: Box<dyn Source>, needs_package: bool) -> Self {
        let values = source.values();
        let domains = source.domains();
        let readable = domains.iter().zip(&values).filter(|(_, v)| v.is_ok());
        let method = domains.first().map(|domain| {
            let power = domain.quantity == Quantity::Microwatts;
            if power { "integrated_power" } else { "counter" }.to_owned()
        });
        let mut probe = SourceProbe {
            source: source.name().to_owned(),
            status: EnergyStatus::Ok,
            domains: readable.map(|(domain, _)| domain.name.clone()).collect(),
            method,
            reason: String::new(),
        };
        let wanted: Vec<_> = domains
            .iter()
            .zip(&values)
            .filter(|(domain, _)| domain.counts || !needs_package)
            .collect();
        let failed = |wanted: &(&super::Domain, &Result<u64, ReadError>)| {
            Some((wanted.0.place.clone(), wanted.1.as_ref().err()?.clone()))
        };
        let errors: Vec<(String, ReadError)> = wanted.iter().filter_map(failed).collect();
        let forbidden = errors.iter().find(|(_, error)| *error == ReadError::Denied);
        let name = source.name();
        (probe.status, probe.reason) = if domains.is_empty() {
            (EnergyStatus::Absent, format!("{name} has no meter"))
        } else if wanted.is_empty() {
            let names: Vec<&str> = domains.iter().map(|domain| domain.name.as_str()).collect();
            let names = names.join(", ");
            let reason = format!("{name} has meters, but none of a package: {names}");
            (EnergyStatus::Absent, reason)
        } else if let Some((place, _)) = forbidden {
            (EnergyStatus::PermissionDenied, denied(place))
        } else if let Some((place, error)) = errors.first() {
            (error.status(), broken(place, error))
        } else if wanted.iter().all(|(domain, value)| {
            matches!(domain.quantity, Quantity::Microjoules { .. }) && **value == Ok(0)
        }) {
            let reason = "the package meters exist and show 0: nothing counts behind them";
            (EnergyStatus::ZeroCounter, reason.to_owned())
        } else {
            let reason = format!("{} package meter(s) of {name} can be read", wanted.len());
            (EnergyStatus::Ok, reason)
        };
        Self {
            source: Some(source),
            probe,
        }
    }
}

fn denied(place: &str) -> String {
    format!("the meter `{place}` exists, but this user may not read it")
}

fn broken(place: &str, error: &ReadError) -> String {
    format!("the meter `{place}` {CANNOT_BE_READ}: {error}")
}

const CANNOT_BE_READ: &str = "cannot be read";

/// Everything that the judgement rests on.
pub(super) struct Seen {
    pub(super) sources: Vec<SourceProbe>,
    /// There is a `powercap` directory.
    pub(super) directory: bool,
    /// Something is mounted over it.
    pub(super) masked: bool,
    /// The kernel counts package energy for perf.
    pub(super) perf: bool,
    pub(super) virtualization: Virtualization,
}

impl Seen {
    pub(super) fn of(roots: &Roots, candidates: &[Candidate]) -> Self {
        Self {
            sources: candidates.iter().map(|c| c.probe.clone()).collect(),
            directory: powercap::exists(roots),
            masked: masked(roots),
            perf: super::perf::exists(roots),
            virtualization: Virtualization::read(roots),
        }
    }

    pub(super) fn judge(&self) -> EnergyProbe {
        let mut probe = self.best();
        probe.sources.clone_from(&self.sources);
        probe
    }

    fn best(&self) -> EnergyProbe {
        let with = |status| {
            self.sources
                .iter()
                .find(move |probe| probe.status == status)
        };
        if let Some(found) = with(EnergyStatus::Ok) {
            return EnergyProbe {
                status: EnergyStatus::Ok,
                source: Some(found.source.clone()),
                method: found.method.clone(),
                domains: found.domains.clone(),
                reason: found.reason.clone(),
                remedy: None,
                sources: Vec::new(),
            };
        }
        if let Some(denied) = with(EnergyStatus::PermissionDenied) {
            return EnergyProbe::failed(
                EnergyStatus::PermissionDenied,
                denied.reason.clone(),
                Some(self.permission_remedy()),
            );
        }
        if let Some(zero) = with(EnergyStatus::ZeroCounter) {
            return EnergyProbe::stuck(EnergyStatus::ZeroCounter, zero.reason.clone());
        }
        let broken = self
            .sources
            .iter()
            .find(|probe| probe.reason.contains(CANNOT_BE_READ));
        if let Some(broken) = broken {
            return EnergyProbe::failed(
                broken.status,
                broken.reason.clone(),
                Some("look at `dmesg` for messages of intel_rapl".to_owned()),
            );
        }
        match self.sources.as_slice() {
            // It was asked for by name.
            [one] if ["external", "hwmon"].contains(&one.source.as_str()) => EnergyProbe::failed(
                one.status,
                one.reason.clone(),
                Some(format!(
                    "leave out the choice of `{}`, or see what it has to offer in harness/METHODOLOGY.md",
                    one.source
                )),
            ),
            _ => self.nothing(),
        }
    }

    /// A user that may not read what is there.
    fn permission_remedy(&self) -> String {
        let mut ways = vec![
            "run as root".to_owned(),
            format!(
                "put this line into /etc/udev/rules.d/70-energy.rules: {UDEV_RULE} (then: {UDEV_RELOAD})"
            ),
            "until the next start of the machine: sudo chmod a+r /sys/class/powercap/*/energy_uj"
                .to_owned(),
        ];
        if self.perf {
            ways.push(
                "or let perf do it: sudo setcap cap_perfmon+ep \"$(command -v tritbench)\", or sudo sysctl kernel.perf_event_paranoid=0"
                    .to_owned(),
            );
        }
        if self.virtualization.container.is_some() {
            ways.push("in a container: start it with --cap-add PERFMON, or as root".to_owned());
        }
        ways.join("; ")
    }

    fn nothing(&self) -> EnergyProbe {
        let facts = &self.virtualization;
        if self.masked {
            return EnergyProbe::failed(
                EnergyStatus::ContainerMasked,
                "something is mounted over the powercap directory, as container engines do"
                    .to_owned(),
                Some(format!(
                    "start the container with {MOUNTS} and give --sysfs-root /host/sys"
                )),
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
                Some(format!(
                    "see whether the host has /sys/class/powercap/intel-rapl:0; if so, start the container with \
                     {MOUNTS} and give --sysfs-root /host/sys"
                )),
            );
        }
        let without = self
            .sources
            .iter()
            .find(|probe| probe.reason.contains("none of a package"));
        let (reason, remedy) = match (self.perf, without, self.directory) {
            (true, _, _) => (
                "the kernel has energy events for perf, but they cannot be used, and there is no package meter under powercap",
                "sudo modprobe intel_rapl_msr",
            ),
            (false, Some(probe), _) => (probe.reason.as_str(), "sudo modprobe intel_rapl_msr"),
            (false, None, true) => (
                "powercap is there, but no RAPL driver has registered a meter with it",
                "sudo modprobe intel_rapl_msr (Intel since Sandy Bridge, AMD since Zen; Linux 5.11 for AMD)",
            ),
            (false, None, false) => (
                "there is no powercap directory: the kernel lacks it, or the processor has no energy meter",
                "try: sudo modprobe intel_rapl_msr; most Arm machines have no meter that Linux can read: record an \
                 external one",
            ),
        };
        EnergyProbe::failed(
            EnergyStatus::Absent,
            reason.to_owned(),
            Some(remedy.to_owned()),
        )
    }
}

/// Makes the counters readable whenever their driver is loaded.
const UDEV_RULE: &str = r#"SUBSYSTEM=="powercap", KERNEL=="intel-rapl*:*", ACTION=="add", RUN+="/bin/chmod a+r /sys%p/energy_uj""#;

/// Applies the rule now.
const UDEV_RELOAD: &str =
    "sudo udevadm control --reload && sudo udevadm trigger --subsystem-match=powercap --action=add";

/// The links of the class lead to the devices, so a container needs both.
const MOUNTS: &str = "-v /sys/class/powercap:/host/sys/class/powercap:ro \
                      -v /sys/devices/virtual/powercap:/host/sys/devices/virtual/powercap:ro";

impl EnergyProbe {
    fn failed(status: EnergyStatus, reason: String, remedy: Option<String>) -> Self {
        Self {
            status,
            source: None,
            method: None,
            domains: Vec::new(),
            reason,
            remedy,
            sources: Vec::new(),
        }
    }

    /// A meter that is there and does not count.
    pub(super) fn stuck(status: EnergyStatus, reason: String) -> Self {
        let remedy = match status {
            EnergyStatus::ZeroCounter | EnergyStatus::StaleCounter => {
                "measure on the machine itself instead of a virtual one"
            }
            _ => "look at `dmesg` for messages of intel_rapl",
        };
        Self::failed(status, reason, Some(remedy.to_owned()))
    }
}

impl From<Fault> for EnergyProbe {
    fn from((status, reason): Fault) -> Self {
        Self::stuck(status, reason)
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
