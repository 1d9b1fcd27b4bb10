//! The processor: what it is, how it is put together, what it can do, how it is clocked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::roots::{cpu_list, number, text};
use crate::{Roots, cpuinfo};

/// The processor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuFacts {
    /// Architecture of this program: `x86_64`, `aarch64`.
    pub architecture: Option<String>,
    /// `AuthenticAMD`, `GenuineIntel`, or the name of the Arm implementer.
    pub vendor: Option<String>,
    /// The name that it gives itself; on Arm the name of the core.
    pub model: Option<String>,
    /// Family (x86).
    pub family: Option<u32>,
    /// Model number (x86).
    pub model_number: Option<u32>,
    /// Stepping (x86), or variant and revision as in `r3p1` (Arm).
    pub stepping: Option<String>,
    /// Revision of the microcode.
    pub microcode: Option<String>,
    /// Packages.
    pub sockets: Option<u32>,
    /// Physical cores that are online.
    pub cores: Option<u32>,
    /// Hardware threads that are online.
    pub threads: Option<u32>,
    /// Whether cores run several threads.
    pub smt: Option<bool>,
    /// The instruction sets that matter to kernels, as far as the system shows them, by their names in Linux.
    pub isa: Vec<String>,
    /// Lowest clock rate that can be set.
    pub min_khz: Option<u64>,
    /// Highest clock rate, boost included.
    pub max_khz: Option<u64>,
    /// Frequency governor; several when CPUs differ.
    pub governor: Option<String>,
    /// Frequency driver.
    pub driver: Option<String>,
    /// Whether clock rates above the nominal one are allowed.
    pub boost: Option<bool>,
}

/// Caches of one level, kind and size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cache {
    /// 1 is the nearest.
    pub level: u32,
    /// `Data`, `Instruction` or `Unified`.
    pub kind: String,
    /// Of one of them.
    pub size_bytes: u64,
    /// Bytes of a line.
    pub line_bytes: Option<u32>,
    /// Hardware threads that share one.
    pub cpus: u32,
    /// How many there are.
    pub instances: u32,
}

/// The instruction sets that change how a kernel can be written.
const RELEVANT: &[&str] = &[
    // x86, in the order of their age
    "sse2",
    "ssse3",
    "sse4_1",
    "popcnt",
    "f16c",
    "fma",
    "avx",
    "avx2",
    "bmi2",
    "gfni",
    "avx_vnni",
    "avx_vnni_int8",
    "avx_vnni_int16",
    "avx_ifma",
    "avx_ne_convert",
    "avx512f",
    "avx512bw",
    "avx512dq",
    "avx512vl",
    "avx512_vnni",
    "avx512vbmi",
    "avx512_vbmi2",
    "avx512_bitalg",
    "avx512_vpopcntdq",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "amx_fp16",
    "avx10",
    // Arm
    "asimd",
    "fphp",
    "asimdhp",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "svei8mm",
    "sve2",
    "sme",
    "sme2",
];

/// Arm cores by implementer and part (`MIDR_EL1`), those that are found in servers and small boards.
const ARM_CORES: &[(u32, u32, &str)] = &[
    (0x41, 0xd03, "Cortex-A53"),
    (0x41, 0xd05, "Cortex-A55"),
    (0x41, 0xd08, "Cortex-A72"),
    (0x41, 0xd0b, "Cortex-A76"),
    (0x41, 0xd0c, "Neoverse-N1"),
    (0x41, 0xd40, "Neoverse-V1"),
    (0x41, 0xd49, "Neoverse-N2"),
    (0x41, 0xd4f, "Neoverse-V2"),
    (0xc0, 0xac3, "Ampere-1"),
    (0xc0, 0xac4, "Ampere-1a"),
];

const ARM_IMPLEMENTERS: &[(u32, &str)] = &[
    (0x41, "Arm"),
    (0x46, "Fujitsu"),
    (0x48, "HiSilicon"),
    (0x4e, "NVIDIA"),
    (0x51, "Qualcomm"),
    (0x61, "Apple"),
    (0xc0, "Ampere"),
];

impl CpuFacts {
    pub(super) fn read(roots: &Roots) -> Self {
        let info = text(&roots.proc.join("cpuinfo")).unwrap_or_default();
        let first = info.split("\n\n").next().unwrap_or_default();
        let field = |name: &str| cpuinfo::field(first, name).map(str::to_owned);
        let present: BTreeSet<&str> = cpuinfo::flags(first).collect();
        let (cores, sockets, threads) = topology(roots);
        let cpus = roots.sys.join("devices/system/cpu");
        let cpufreq = cpus.join("cpu0/cpufreq");
        let smt = text(&cpus.join("smt/active")).and_then(|flag| match flag.as_str() {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        });
        let mut facts = Self {
            architecture: Some(std::env::consts::ARCH.to_owned()),
            vendor: field("vendor_id"),
            model: field("model name"),
            family: cpuinfo::field(first, "cpu family").and_then(|number| number.parse().ok()),
            model_number: cpuinfo::field(first, "model").and_then(|number| number.parse().ok()),
            stepping: field("stepping"),
            microcode: field("microcode"),
            sockets,
            cores,
            threads,
            smt: smt.or_else(|| Some(threads? > cores?)),
            isa: RELEVANT
                .iter()
                .filter(|&&name| present.contains(name))
                .map(|&name| name.to_owned())
                .collect(),
            min_khz: number(&cpufreq.join("cpuinfo_min_freq")),
            max_khz: number(&cpufreq.join("cpuinfo_max_freq")),
            governor: governors(&cpus),
            driver: text(&cpufreq.join("scaling_driver")),
            boost: boost(&cpus),
        };
        facts.read_arm(first);
        facts
    }

    fn read_arm(&mut self, block: &str) {
        let id = |name: &str| {
            let value = cpuinfo::field(block, name)?;
            u32::from_str_radix(value.strip_prefix("0x")?, 16).ok()
        };
        let (Some(implementer), Some(part)) = (id("CPU implementer"), id("CPU part")) else {
            return;
        };
        let vendor = ARM_IMPLEMENTERS.iter().find(|(id, _)| *id == implementer);
        let core = ARM_CORES
            .iter()
            .find(|(maker, id, _)| (*maker, *id) == (implementer, part));
        self.vendor.get_or_insert_with(|| {
            vendor.map_or_else(
                || format!("implementer {implementer:#x}"),
                |(_, name)| (*name).to_owned(),
            )
        });
        self.model.get_or_insert_with(|| {
            core.map_or_else(
                || format!("part {part:#x}"),
                |(_, _, name)| (*name).to_owned(),
            )
        });
        if let (Some(variant), Some(revision)) =
            (id("CPU variant"), cpuinfo::field(block, "CPU revision"))
        {
            self.stepping
                .get_or_insert_with(|| format!("r{variant}p{revision}"));
        }
    }
}

/// Cores, sockets and hardware threads that are online.
fn topology(roots: &Roots) -> (Option<u32>, Option<u32>, Option<u32>) {
    let cpus = roots.sys.join("devices/system/cpu");
    let Some(online) = text(&cpus.join("online")).and_then(|list| cpu_list(&list)) else {
        return (None, None, None);
    };
    let of_each = |name: &str| -> Option<BTreeSet<String>> {
        online
            .iter()
            .map(|cpu| text(&cpus.join(format!("cpu{cpu}/topology/{name}"))))
            .collect()
    };
    let count = |set: BTreeSet<String>| u32::try_from(set.len()).ok();
    (
        // Threads of one core have the same list of siblings.
        of_each("thread_siblings_list").and_then(count),
        // -1 is how Arm firmware says that it does not know.
        of_each("physical_package_id")
            .filter(|ids| !ids.contains("-1"))
            .and_then(count),
        u32::try_from(online.len()).ok(),
    )
}

fn governors(cpus: &Path) -> Option<String> {
    let online = text(&cpus.join("online")).and_then(|list| cpu_list(&list))?;
    let names: BTreeSet<String> = online
        .iter()
        .filter_map(|cpu| text(&cpus.join(format!("cpu{cpu}/cpufreq/scaling_governor"))))
        .collect();
    (!names.is_empty()).then(|| names.into_iter().collect::<Vec<_>>().join(","))
}

fn boost(cpus: &Path) -> Option<bool> {
    let flag = |path: &str| {
        text(&cpus.join(path)).and_then(|flag| match flag.as_str() {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        })
    };
    flag("intel_pstate/no_turbo")
        .map(|off| !off)
        .or_else(|| flag("cpufreq/boost"))
}

/// The caches of all CPUs, those of one level, kind and size together.
pub(super) fn caches(roots: &Roots) -> Vec<Cache> {
    let cpus = roots.sys.join("devices/system/cpu");
    let online = text(&cpus.join("online"))
        .and_then(|list| cpu_list(&list))
        .unwrap_or_default();
    // One cache is listed by each CPU that shares it, with the same list of CPUs.
    let mut seen = BTreeSet::new();
    let mut found = BTreeMap::<_, (Option<u32>, u32)>::new();
    for cpu in online {
        // Indices are consecutive; eight is twice what any processor has.
        for index in 0..8 {
            let directory = cpus.join(format!("cpu{cpu}/cache/index{index}"));
            let read = || {
                let level: u32 = number(&directory.join("level"))?;
                let kind = text(&directory.join("type"))?;
                let size = bytes(&text(&directory.join("size"))?)?;
                let shared = text(&directory.join("shared_cpu_list"))?;
                Some((level, kind, size, shared))
            };
            let Some((level, kind, size, shared)) = read() else {
                continue;
            };
            let sharing = cpu_list(&shared).map_or(1, |list| list.len() as u32);
            if seen.insert((level, kind.clone(), shared)) {
                let line = number(&directory.join("coherency_line_size"));
                found
                    .entry((level, kind, size, sharing))
                    .or_insert((line, 0))
                    .1 += 1;
            }
        }
    }
    let cache = |((level, kind, size_bytes, cpus), (line_bytes, instances))| Cache {
        level,
        kind,
        size_bytes,
        line_bytes,
        cpus,
        instances,
    };
    found.into_iter().map(cache).collect()
}

/// `32K`, `32768K`, `1M` or a plain number.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = match text.char_indices().next_back()? {
        (last, 'K') => (&text[..last], 1 << 10),
        (last, 'M') => (&text[..last], 1 << 20),
        (last, 'G') => (&text[..last], 1 << 30),
        _ => (text, 1),
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes("48K"), Some(48 << 10));
        assert_eq!(bytes("2M"), Some(2 << 20));
        assert_eq!(bytes("7"), Some(7));
        for bad in [
            "",
            "K",
            "-1K",
            "1.5M",
            "99999999999999999999",
            "18446744073709551615G",
        ] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
