//! Virtual machines and containers.

use serde::{Deserialize, Serialize};

use crate::roots::text;
use crate::{Roots, cpuinfo};

/// What lies between the machine and this process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Virtualization {
    /// Whether this is a virtual machine; missing where nothing tells (Arm without firmware tables).
    pub virtual_machine: Option<bool>,
    /// The hypervisor, by the name that it gives itself.
    pub hypervisor: Option<String>,
    /// What the firmware calls the machine: maker and product.
    pub product: Option<String>,
    /// The kind of container this process is in, as far as it can be told.
    pub container: Option<String>,
}

impl Virtualization {
    pub(crate) fn read(roots: &Roots) -> Self {
        let dmi = |name: &str| text(&roots.sys.join("class/dmi/id").join(name));
        let product = match (dmi("sys_vendor"), dmi("product_name")) {
            (Some(maker), Some(name)) => Some(format!("{maker} {name}")),
            (maker, name) => maker.or(name),
        };
        let kind = text(&roots.sys.join("hypervisor/type"));
        let by_product = product.as_deref().and_then(of_product).map(str::to_owned);
        let hypervisor = kind.or(by_product);
        let info = text(&roots.proc.join("cpuinfo")).unwrap_or_default();
        let first = info.split("\n\n").next().unwrap_or_default();
        // x86 has a flag for it; elsewhere only a positive answer is one.
        let is_x86 = cpuinfo::field(first, "flags").is_some();
        let flagged = cpuinfo::flags(first).any(|flag| flag == "hypervisor");
        Self {
            virtual_machine: if flagged || hypervisor.is_some() {
                Some(true)
            } else {
                is_x86.then_some(false)
            },
            hypervisor,
            product,
            container: container(roots),
        }
    }
}

/// The hypervisor behind a product name of the firmware. Clouds sell bare machines under their own name too, so only
/// names that are used for virtual machines alone count.
fn of_product(product: &str) -> Option<&'static str> {
    const NAMES: &[(&str, &str)] = &[
        ("QEMU", "QEMU"),
        ("KVM", "KVM"),
        ("VMware", "VMware"),
        ("VirtualBox", "VirtualBox"),
        ("Google Compute Engine", "KVM"),
        ("Microsoft Corporation Virtual Machine", "Hyper-V"),
        ("HVM domU", "Xen"),
        ("Bochs", "Bochs"),
        ("Parallels", "Parallels"),
    ];
    NAMES
        .iter()
        .find(|(part, _)| product.contains(part))
        .map(|(_, name)| *name)
}

/// A readable name for the signature in CPUID leaf `0x4000_0000`; unknown ones stay as they are.
pub(super) fn hypervisor_name(signature: &str) -> String {
    let name = match signature {
        "KVMKVMKVM" => "KVM",
        "Microsoft Hv" => "Hyper-V",
        "VMwareVMware" => "VMware",
        "XenVMMXenVMM" => "Xen",
        "TCGTCGTCGTCG" => "QEMU (emulated)",
        "bhyve bhyve " => "bhyve",
        "VBoxVBoxVBox" => "VirtualBox",
        "ACRNACRNACRN" => "ACRN",
        other => other.trim(),
    };
    name.to_owned()
}

/// The kind of container, from the control group's path or the root file system.
fn container(roots: &Roots) -> Option<String> {
    const KINDS: &[&str] = &["kubepods", "docker", "libpod", "containerd", "lxc"];
    let groups = text(&roots.proc.join("self/cgroup")).unwrap_or_default();
    if let Some(kind) = KINDS.iter().find(|kind| groups.contains(**kind)) {
        return Some((*kind).to_owned());
    }
    // `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`, see proc(5): the fifth word is the mount
    // point, the type follows the dash. A stacked root is that of a container, or of a live system.
    let mounts = text(&roots.proc.join("self/mountinfo"))?;
    let stacked = mounts.lines().any(|line| {
        let root = line.split(' ').nth(4) == Some("/");
        let kind = line
            .split_once(" - ")
            .and_then(|(_, rest)| rest.split(' ').next());
        root && matches!(kind, Some("overlay" | "fuse-overlayfs" | "aufs"))
    });
    stacked.then(|| "overlay root".to_owned())
}
