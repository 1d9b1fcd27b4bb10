//! Facts about the machine, recorded once a session. What cannot be learned is missing.

mod cpu;
mod limits;
mod virtualization;

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use cpu::{Cache, CpuFacts};
pub use limits::Limits;
pub use virtualization::Virtualization;

use crate::Roots;
use crate::roots::text;

/// The machine. The names of the fields are those in `session.json` and stay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Name and system.
    pub host: Host,
    /// The processor.
    pub cpu: CpuFacts,
    /// Its caches, from the nearest to the farthest.
    pub caches: Vec<Cache>,
    /// Its memory.
    pub memory: MemoryFacts,
    /// What lies between it and us.
    pub virtualization: Virtualization,
    /// What this process may use of it.
    pub limits: Limits,
    /// How this program was built.
    pub build: Build,
}

/// The name of the machine and what runs on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Host name.
    pub hostname: Option<String>,
    /// Operating system with its version.
    pub os: Option<String>,
    /// Version of the kernel.
    pub kernel: Option<String>,
}

/// The memory of the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryFacts {
    /// What the kernel manages.
    pub total_bytes: Option<u64>,
    /// What could be used without swapping when this was read.
    pub available_bytes: Option<u64>,
    /// Size of the swap space.
    pub swap_bytes: Option<u64>,
    /// Base page.
    pub page_bytes: Option<u64>,
    /// The setting of transparent huge pages: `always`, `madvise` or `never`.
    pub transparent_huge_pages: Option<String>,
    /// NUMA nodes that have memory.
    pub numa_nodes: Option<u32>,
}

/// How this program was built.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// The compiler.
    pub rustc: Option<String>,
    /// The target triple.
    pub target: Option<String>,
    /// `release` or `debug`: which of the two the profile is derived from.
    pub profile: Option<String>,
    /// Optimisation level.
    pub opt_level: Option<String>,
    /// Further flags of the compiler.
    pub rustflags: Option<String>,
    /// Whether debug assertions (and overflow checks, by default) are in: such a program must not be timed.
    pub debug_assertions: Option<bool>,
}

/// The facts about this machine. Takes some milliseconds.
pub fn machine() -> Machine {
    let mut machine = Machine::read(&Roots::default());
    machine.host = Host::of_system();
    machine.memory.read_system();
    machine.memory.page_bytes = Some(crate::sys::page_bytes() as u64);
    machine.limits.read_process();
    if machine.virtualization.virtual_machine == Some(true) {
        let signature = crate::sys::hypervisor_signature();
        if let Some(name) = signature.as_deref().map(virtualization::hypervisor_name) {
            machine.virtualization.hypervisor = Some(name);
        }
    }
    if machine.cpu.cores.is_none() {
        machine.cpu.cores = sysinfo::System::physical_core_count()
            .ok()
            .and_then(|cores| u32::try_from(cores).ok());
    }
    machine
}

impl Machine {
    /// The facts that are in files under `roots`, and those about the build. The rest ([`Host`], the amounts of
    /// [`MemoryFacts`], the allowed CPUs) needs system calls and is added by [`machine`].
    pub fn read(roots: &Roots) -> Self {
        Self {
            host: Host::default(),
            cpu: CpuFacts::read(roots),
            caches: cpu::caches(roots),
            memory: MemoryFacts::read(roots),
            virtualization: Virtualization::read(roots),
            limits: Limits::read(roots),
            build: Build::of_this_program(),
        }
    }

    /// All caches of the last level together; `None` when no cache is known.
    pub fn last_level_cache_bytes(&self) -> Option<u64> {
        let last = self
            .caches
            .iter()
            .filter(|cache| cache.kind != "Instruction")
            .map(|cache| cache.level)
            .max()?;
        let of_last = self
            .caches
            .iter()
            .filter(|cache| cache.level == last && cache.kind != "Instruction");
        let sizes =
            of_last.map(|cache| cache.size_bytes.saturating_mul(u64::from(cache.instances)));
        sizes.reduce(u64::saturating_add)
    }

    /// A short digest (12 hexadecimal digits) of everything about the machine that changes how fast it is and that
    /// stays from run to run: results with equal fingerprints may be compared directly.
    ///
    /// It covers processor, microcode, topology, caches, instruction sets, governor and boost, virtualisation,
    /// memory (to the GiB, since what the kernel keeps for itself varies), page settings and the limits of this
    /// process. It does not cover the name of the host, the versions of kernel and compiler, or anything that varies
    /// from moment to moment.
    pub fn fingerprint(&self) -> String {
        let mut facts = String::new();
        let mut fact = |name: &str, value: &dyn std::fmt::Debug| {
            // Debug texts of options, strings, integers and lists of them are unambiguous.
            let _infallible = writeln!(facts, "{name}={value:?}");
        };
        let cpu = &self.cpu;
        fact("architecture", &cpu.architecture);
        fact("vendor", &cpu.vendor);
        fact("model", &cpu.model);
        fact("family", &cpu.family);
        fact("model_number", &cpu.model_number);
        fact("stepping", &cpu.stepping);
        fact("microcode", &cpu.microcode);
        fact("sockets", &cpu.sockets);
        fact("cores", &cpu.cores);
        fact("threads", &cpu.threads);
        fact("smt", &cpu.smt);
        fact("isa", &cpu.isa);
        fact("governor", &cpu.governor);
        fact("driver", &cpu.driver);
        fact("boost", &cpu.boost);
        fact("max_khz", &cpu.max_khz);
        for cache in &self.caches {
            fact(
                "cache",
                &(
                    cache.level,
                    &cache.kind,
                    cache.size_bytes,
                    cache.cpus,
                    cache.instances,
                ),
            );
        }
        fact(
            "memory_gib",
            &self
                .memory
                .total_bytes
                .map(|bytes| bytes.saturating_add(1 << 29) >> 30),
        );
        fact("page_bytes", &self.memory.page_bytes);
        fact(
            "transparent_huge_pages",
            &self.memory.transparent_huge_pages,
        );
        fact("numa_nodes", &self.memory.numa_nodes);
        fact("virtual_machine", &self.virtualization.virtual_machine);
        fact("hypervisor", &self.virtualization.hypervisor);
        fact(
            "allowed_cpus",
            &self.limits.allowed_cpus.as_ref().map(Vec::len),
        );
        // In thousandths: floats have no place in a digest.
        fact(
            "cpu_quota",
            &self
                .limits
                .cpu_quota
                .map(|cpus| (cpus * 1000.0).round() as u64),
        );
        let digest = Sha256::digest(facts.as_bytes());
        digest[..6].iter().fold(String::new(), |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        })
    }

    /// The machine in a line: `AMD EPYC, 2 cores, 2 threads, L3 32 MiB, 23.5 GiB, KVM`.
    pub fn summary(&self) -> String {
        let cpu = &self.cpu;
        let mut parts = vec![
            cpu.model
                .clone()
                .unwrap_or_else(|| "unknown processor".to_owned()),
        ];
        let mut count = |count: Option<u32>, one: &str, many: &str| {
            parts.extend(count.map(|n| format!("{n} {}", if n == 1 { one } else { many })));
        };
        count(
            cpu.sockets.filter(|&sockets| sockets > 1),
            "socket",
            "sockets",
        );
        count(cpu.cores, "core", "cores");
        count(cpu.threads, "thread", "threads");
        if let (Some(cache), Some(bytes)) = (self.caches.last(), self.last_level_cache_bytes()) {
            parts.push(format!(
                "L{} {:.0} MiB",
                cache.level,
                bytes as f64 / f64::from(1 << 20)
            ));
        }
        parts.extend(
            self.memory
                .total_bytes
                .map(|bytes| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))),
        );
        if self.virtualization.virtual_machine == Some(true) {
            parts.push(
                self.virtualization
                    .hypervisor
                    .clone()
                    .unwrap_or_else(|| "virtual machine".to_owned()),
            );
        }
        parts.join(", ")
    }
}

impl Host {
    fn of_system() -> Self {
        let known =
            |text: Result<String, sysinfo::Error>| text.ok().filter(|text| !text.is_empty());
        Self {
            hostname: known(sysinfo::System::host_name()),
            os: known(sysinfo::System::long_os_version()),
            kernel: known(sysinfo::System::kernel_version()),
        }
    }
}

impl MemoryFacts {
    fn read(roots: &Roots) -> Self {
        // The words are listed with the active one in brackets.
        let setting = text(&roots.sys.join("kernel/mm/transparent_hugepage/enabled"));
        let active =
            setting.and_then(|words| Some(words.split_once('[')?.1.split_once(']')?.0.to_owned()));
        let nodes = roots.sys.join("devices/system/node");
        let with_memory = text(&nodes.join("has_memory")).or_else(|| text(&nodes.join("online")));
        Self {
            transparent_huge_pages: active,
            numa_nodes: with_memory
                .and_then(|list| crate::roots::cpu_list(&list))
                .and_then(|nodes| u32::try_from(nodes.len()).ok()),
            ..Self::default()
        }
    }

    fn read_system(&mut self) {
        let Ok(mut system) = sysinfo::System::new() else {
            return;
        };
        system.refresh_memory();
        // No machine has none; 0 is how sysinfo says that it does not know.
        let known = |bytes: u64| Some(bytes).filter(|&bytes| bytes > 0);
        self.total_bytes = known(system.total_memory());
        self.available_bytes = known(system.available_memory());
        self.swap_bytes = self.total_bytes.map(|_| system.total_swap());
    }
}

impl Build {
    fn of_this_program() -> Self {
        let known = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Self {
            rustc: known(env!("TRIT_RUSTC")),
            target: known(env!("TRIT_TARGET")),
            profile: known(env!("TRIT_PROFILE")),
            opt_level: known(env!("TRIT_OPT_LEVEL")),
            rustflags: known(env!("TRIT_RUSTFLAGS")),
            debug_assertions: Some(cfg!(debug_assertions)),
        }
    }
}

#[cfg(test)]
mod tests;
