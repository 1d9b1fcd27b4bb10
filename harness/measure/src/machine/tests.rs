//! Facts from trees made by the test.

use std::fs;

use super::*;

fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Roots) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let roots = Roots::under(dir.path());
    (dir, roots)
}

const CPU: &str = "sys/devices/system/cpu";

/// Two sockets, two cores each, two threads a core, as a server would show them.
fn server() -> (tempfile::TempDir, Roots) {
    let block = "vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 207\nmodel name\t: Some Xeon\nstepping\t: 2\n\
        microcode\t: 0x21000161\nflags\t\t: fpu sse2 avx2 avx512f avx512_vnni amx_int8 aperfmperf\n";
    let blocks: Vec<String> = (0..8)
        .map(|i| format!("processor\t: {i}\n{block}"))
        .collect();
    let info = blocks.join("\n");
    let mut files = vec![
        ("proc/cpuinfo".to_owned(), info),
        (format!("{CPU}/online"), "0-7\n".to_owned()),
        (format!("{CPU}/smt/active"), "1\n".to_owned()),
        (format!("{CPU}/intel_pstate/no_turbo"), "1\n".to_owned()),
        (
            "sys/devices/system/node/has_memory".to_owned(),
            "0-1\n".to_owned(),
        ),
        (
            "sys/kernel/mm/transparent_hugepage/enabled".to_owned(),
            "always [madvise] never\n".to_owned(),
        ),
        (
            "proc/sys/kernel/perf_event_paranoid".to_owned(),
            "-1\n".to_owned(),
        ),
        (
            "proc/self/cgroup".to_owned(),
            "0::/system.slice/docker-0a1b.scope\n".to_owned(),
        ),
        (
            "sys/fs/cgroup/cpu.max".to_owned(),
            "350000 100000\n".to_owned(),
        ),
        (
            "sys/class/dmi/id/sys_vendor".to_owned(),
            "Maker\n".to_owned(),
        ),
        (
            "sys/class/dmi/id/product_name".to_owned(),
            "Box 1\n".to_owned(),
        ),
    ];
    for i in 0..8 {
        let of = |path: &str| format!("{CPU}/cpu{i}/{path}");
        let core = format!("{},{}\n", i % 4, i % 4 + 4);
        let socket = if i % 2 == 0 { "0,2,4,6\n" } else { "1,3,5,7\n" };
        files.extend([
            (of("topology/thread_siblings_list"), core.clone()),
            (of("topology/physical_package_id"), format!("{}\n", i % 2)),
            (of("cpufreq/scaling_governor"), "performance\n".to_owned()),
            (of("cpufreq/cpuinfo_max_freq"), "3800000\n".to_owned()),
        ]);
        let caches = [
            ("1", "Data", "48K", &*core),
            ("1", "Instruction", "32K", &*core),
            ("3", "Unified", "60M", socket),
        ];
        for (index, (level, kind, size, shared)) in caches.into_iter().enumerate() {
            let of = |name: &str| format!("{CPU}/cpu{i}/cache/index{index}/{name}");
            files.extend([
                (of("level"), level.to_owned()),
                (of("type"), kind.to_owned()),
                (of("size"), size.to_owned()),
                (of("shared_cpu_list"), shared.to_owned()),
                (of("coherency_line_size"), "64".to_owned()),
            ]);
        }
    }
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (&**path, &**text))
        .collect();
    tree(&files)
}

#[test]
fn a_server() {
    let (_dir, roots) = server();
    let machine = Machine::read(&roots);
    let cpu = &machine.cpu;
    assert_eq!(cpu.vendor.as_deref(), Some("GenuineIntel"));
    assert_eq!(cpu.model.as_deref(), Some("Some Xeon"));
    assert_eq!((cpu.family, cpu.model_number), (Some(6), Some(207)));
    assert_eq!(
        (cpu.stepping.as_deref(), cpu.microcode.as_deref()),
        (Some("2"), Some("0x21000161"))
    );
    assert_eq!(
        (cpu.sockets, cpu.cores, cpu.threads),
        (Some(2), Some(4), Some(8))
    );
    assert_eq!((cpu.smt, cpu.boost), (Some(true), Some(false)));
    assert_eq!(
        cpu.isa,
        ["sse2", "avx2", "avx512f", "avx512_vnni", "amx_int8"]
    );
    assert_eq!(
        (cpu.governor.as_deref(), cpu.max_khz),
        (Some("performance"), Some(3_800_000))
    );
    assert_eq!(cpu.min_khz, None);
    let cache = |level, kind: &str, size_bytes, cpus, instances| Cache {
        level,
        kind: kind.to_owned(),
        size_bytes,
        line_bytes: Some(64),
        cpus,
        instances,
    };
    let want = [
        cache(1, "Data", 48 << 10, 2, 4),
        cache(1, "Instruction", 32 << 10, 2, 4),
        cache(3, "Unified", 60 << 20, 4, 2),
    ];
    assert_eq!(machine.caches, want);
    assert_eq!(machine.last_level_cache_bytes(), Some(120 << 20));
    assert_eq!(machine.memory.numa_nodes, Some(2));
    assert_eq!(
        machine.memory.transparent_huge_pages.as_deref(),
        Some("madvise")
    );
    assert_eq!(machine.limits.cpu_quota, Some(3.5));
    assert_eq!(machine.limits.perf_event_paranoid, Some(-1));
    let virtualization = &machine.virtualization;
    assert_eq!(virtualization.virtual_machine, Some(false));
    assert_eq!(virtualization.product.as_deref(), Some("Maker Box 1"));
    assert_eq!(virtualization.container.as_deref(), Some("docker"));
    assert_eq!(
        machine.summary(),
        "Some Xeon, 2 sockets, 4 cores, 8 threads, L3 120 MiB"
    );
}

#[test]
fn an_arm_board() {
    let block = "BogoMIPS\t: 50.00\nFeatures\t: fp asimd asimddp i8mm\nCPU implementer\t: 0x41\nCPU architecture: 8\n\
        CPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n";
    let (_dir, roots) = tree(&[
        ("proc/cpuinfo", &format!("processor\t: 0\n{block}")),
        (&format!("{CPU}/online"), "0"),
        (&format!("{CPU}/cpu0/topology/thread_siblings_list"), "0"),
        (&format!("{CPU}/cpu0/topology/physical_package_id"), "-1"),
    ]);
    let machine = Machine::read(&roots);
    assert_eq!(machine.cpu.vendor.as_deref(), Some("Arm"));
    assert_eq!(machine.cpu.model.as_deref(), Some("Neoverse-N1"));
    assert_eq!(machine.cpu.stepping.as_deref(), Some("r3p1"));
    assert_eq!(machine.cpu.isa, ["asimd", "asimddp", "i8mm"]);
    assert_eq!(
        (machine.cpu.sockets, machine.cpu.cores, machine.cpu.smt),
        (None, Some(1), Some(false))
    );
    assert_eq!(
        machine.virtualization.virtual_machine, None,
        "nothing tells"
    );
}

#[test]
fn virtual_machines() {
    let hypervisor = |files: &[(&str, &str)]| {
        let (_dir, roots) = tree(files);
        let facts = Virtualization::read(&roots);
        (facts.virtual_machine, facts.hypervisor)
    };
    let flagged = ("proc/cpuinfo", "processor : 0\nflags : fpu hypervisor\n");
    assert_eq!(hypervisor(&[flagged]), (Some(true), None));
    assert_eq!(
        hypervisor(&[flagged, ("sys/hypervisor/type", "xen\n")]),
        (Some(true), Some("xen".into()))
    );
    assert_eq!(
        hypervisor(&[("sys/class/dmi/id/sys_vendor", "QEMU\n")]),
        (Some(true), Some("QEMU".into()))
    );
    assert_eq!(virtualization::hypervisor_name("KVMKVMKVM"), "KVM");
    assert_eq!(virtualization::hypervisor_name("Something"), "Something");
    let (_dir, roots) = tree(&[(
        "proc/self/mountinfo",
        "22 1 0:2 / /x rw - overlay o rw\n23 1 0:1 / / rw,noatime - overlay overlay rw\n",
    )]);
    assert_eq!(
        Virtualization::read(&roots).container.as_deref(),
        Some("overlay root")
    );
    let (_dir, roots) = tree(&[(
        "proc/self/mountinfo",
        "22 1 0:2 / /x rw - overlay o rw\n23 1 0:1 / / rw - ext4 d rw\n",
    )]);
    assert_eq!(Virtualization::read(&roots).container, None);
}

#[test]
fn nothing_is_known_in_an_empty_tree() {
    let (_dir, roots) = tree(&[]);
    let machine = Machine::read(&roots);
    let want = Machine {
        cpu: CpuFacts {
            architecture: Some(std::env::consts::ARCH.to_owned()),
            ..CpuFacts::default()
        },
        build: machine.build.clone(),
        ..Machine::default()
    };
    assert_eq!(machine, want);
    assert_eq!(machine.last_level_cache_bytes(), None);
    assert_eq!(machine.summary(), "unknown processor");
}

#[test]
fn the_fingerprint_covers_what_makes_a_machine_fast() {
    let (_dir, roots) = server();
    let mut machine = Machine::read(&roots);
    machine.cpu.architecture = Some("x86_64".to_owned());
    let print = machine.fingerprint();
    // A change of this value makes all earlier records incomparable: it belongs into the change log.
    assert_eq!(print, "9b5415144f53");

    let mut same = machine.clone();
    same.host.hostname = Some("other".to_owned());
    same.host.kernel = Some("9.9".to_owned());
    same.memory.available_bytes = Some(1);
    same.build.rustc = None;
    same.virtualization.container = None;
    assert_eq!(same.fingerprint(), print);

    let changes: &[fn(&mut Machine)] = &[
        |m| m.cpu.microcode = None,
        |m| m.cpu.governor = Some("powersave".to_owned()),
        |m| m.cpu.boost = None,
        |m| drop(m.cpu.isa.pop()),
        |m| m.caches[2].instances = 1,
        |m| m.memory.total_bytes = Some(64 << 30),
        |m| m.memory.transparent_huge_pages = Some("always".to_owned()),
        |m| m.virtualization.virtual_machine = Some(true),
        |m| m.limits.cpu_quota = Some(2.0),
        |m| m.limits.allowed_cpus = Some(vec![0]),
    ];
    let mut prints = std::collections::BTreeSet::from([print]);
    for change in changes {
        let mut other = machine.clone();
        change(&mut other);
        prints.insert(other.fingerprint());
    }
    assert_eq!(
        prints.len(),
        changes.len() + 1,
        "every change gives another fingerprint"
    );

    // What the kernel keeps for itself differs from start to start.
    let with = |bytes: u64| {
        let mut other = machine.clone();
        other.memory.total_bytes = Some(bytes);
        other.fingerprint()
    };
    assert_eq!(with(64 << 30), with((64 << 30) - (100 << 20)));
}

#[test]
fn facts_survive_json_and_unknown_fields() {
    let machine = machine();
    let json = serde_json::to_string_pretty(&machine).unwrap();
    assert_eq!(serde_json::from_str::<Machine>(&json).unwrap(), machine);
    let later = r#"{"host": {"hostname": "h", "rack": 7}, "cpu": {"isa": ["avx2"]}, "moon": true}"#;
    let read: Machine = serde_json::from_str(later).unwrap();
    assert_eq!(read.host.hostname.as_deref(), Some("h"));
    assert_eq!(read.cpu.isa, ["avx2"]);
    assert_eq!(read.memory, MemoryFacts::default());
}

#[test]
fn this_machine_has_facts() {
    let machine = machine();
    assert_eq!(machine.fingerprint().len(), 12);
    assert!(machine.memory.total_bytes.unwrap() >= machine.memory.available_bytes.unwrap());
    assert!(machine.memory.page_bytes.unwrap().is_power_of_two());
    assert_eq!(machine.build.debug_assertions, Some(cfg!(debug_assertions)));
    assert!(machine.build.rustc.unwrap().starts_with("rustc "));
    assert_eq!(
        machine.limits.default_threads,
        Some(crate::default_threads())
    );
}
