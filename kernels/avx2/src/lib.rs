//! Ternary kernels for 256-bit x86, all on [`LayoutId::I2S`]: one copy of the weights serves them all, and a GGUF file of
//! that type needs no repacking.
//!
//! | id | what it is |
//! | --- | --- |
//! | `w2a8-mad-avx2` | `vpmaddubsw` into int16 lanes, added to int32 before they can overflow |
//! | `w2a8-mad-avxvnni` | `vpdpbusd` with VEX encoding, four products a lane |
//!
//! The crate may import `trit-kernel` alone. On other architectures every kernel is listed and unavailable.

#[cfg(target_arch = "x86_64")]
mod mad;
#[cfg(target_arch = "x86_64")]
mod rows;
#[cfg(target_arch = "x86_64")]
mod vnni;

use trit_kernel::{
    Accuracy, Cpu, Family, Isa, Kernel, KernelEntry, KernelInfo, LayoutId, Unavailable,
};

static MAD: KernelInfo = KernelInfo {
    id: "w2a8-mad-avx2",
    family: Family::Avx2,
    isa: Isa::Avx2,
    accepts: &[LayoutId::I2S],
    accuracy: Accuracy::Exact,
    min_tokens: 1,
    summary: "vpmaddubsw into int16, flushed to int32 before it can overflow",
};

static VNNI: KernelInfo = KernelInfo {
    id: "w2a8-mad-avxvnni",
    family: Family::Avx2,
    isa: Isa::AvxVnni,
    accepts: &[LayoutId::I2S],
    accuracy: Accuracy::Exact,
    min_tokens: 1,
    summary: "256-bit vpdpbusd, four products a lane",
};

/// `w2a8-mad-avx2`.
pub const MAD_ENTRY: KernelEntry = KernelEntry {
    info: &MAD,
    open: open_mad,
};

/// `w2a8-mad-avxvnni`.
pub const VNNI_ENTRY: KernelEntry = KernelEntry {
    info: &VNNI,
    open: open_vnni,
};

/// The kernels of this crate.
pub const ENTRIES: &[KernelEntry] = &[MAD_ENTRY, VNNI_ENTRY];

#[cfg(target_arch = "x86_64")]
fn open_mad(cpu: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
    mad::open(cpu)
}

#[cfg(target_arch = "x86_64")]
fn open_vnni(cpu: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
    vnni::open(cpu)
}

#[cfg(not(target_arch = "x86_64"))]
fn open_mad(_: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
    Err(Unavailable::Architecture)
}

#[cfg(not(target_arch = "x86_64"))]
fn open_vnni(_: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
    Err(Unavailable::Architecture)
}
