//! Ternary kernels for `AArch64`, all on [`LayoutId::I2S`]: one copy of the weights serves them all, and a GGUF file of that
//! type needs no repacking.
//!
//! | id | what it is |
//! | --- | --- |
//! | `w2a8-mad-neon` | `smlal` into int16 lanes, added to int32 before they can overflow; runs on every `AArch64` |
//! | `w2a8-dot-neon` | `sdot`, four products a lane |
//! | `w2a8-mmla-neon` | `smmla`, 2 rows x 2 tokens x 8 columns an instruction |
//!
//! `sdot` and `smmla` are written as `asm!`: their intrinsics are not stable in the pinned compiler. The crate may import
//! `trit-kernel` alone. On other architectures every kernel is listed and unavailable.

#[cfg(target_arch = "aarch64")]
mod dot;
#[cfg(target_arch = "aarch64")]
mod mad;
#[cfg(target_arch = "aarch64")]
mod mmla;
#[cfg(target_arch = "aarch64")]
mod planes;

use trit_kernel::{Accuracy, Family, Isa, KernelEntry, KernelInfo, LayoutId};

/// The kernels of this crate.
pub const ENTRIES: &[KernelEntry] = &[MAD_ENTRY, DOT_ENTRY, MMLA_ENTRY];

/// `w2a8-mad-neon`.
pub const MAD_ENTRY: KernelEntry = KernelEntry {
    info: &MAD,
    open: open::mad,
};

/// `w2a8-dot-neon`.
pub const DOT_ENTRY: KernelEntry = KernelEntry {
    info: &DOT,
    open: open::dot,
};

/// `w2a8-mmla-neon`.
pub const MMLA_ENTRY: KernelEntry = KernelEntry {
    info: &MMLA,
    open: open::mmla,
};

static MAD: KernelInfo = KernelInfo {
    id: "w2a8-mad-neon",
    family: Family::Neon,
    isa: Isa::Neon,
    accepts: &[LayoutId::I2S],
    accuracy: Accuracy::Exact,
    min_tokens: 1,
    summary: "smlal into int16, flushed to int32 before it can overflow",
};

static DOT: KernelInfo = KernelInfo {
    id: "w2a8-dot-neon",
    family: Family::Neon,
    isa: Isa::NeonDot,
    accepts: &[LayoutId::I2S],
    accuracy: Accuracy::Exact,
    min_tokens: 1,
    summary: "sdot on unpacked planes",
};

static MMLA: KernelInfo = KernelInfo {
    id: "w2a8-mmla-neon",
    family: Family::Neon,
    isa: Isa::NeonI8mm,
    accepts: &[LayoutId::I2S],
    accuracy: Accuracy::Exact,
    min_tokens: 2,
    summary: "smmla on pairs of rows and pairs of tokens",
};

#[cfg(target_arch = "aarch64")]
mod open {
    pub(crate) use crate::dot::open as dot;
    pub(crate) use crate::mad::open as mad;
    pub(crate) use crate::mmla::open as mmla;
}

#[cfg(not(target_arch = "aarch64"))]
mod open {
    use trit_kernel::{Cpu, Kernel, Unavailable};

    pub(crate) fn mad(_cpu: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
        Err(Unavailable::Architecture)
    }

    pub(crate) use mad as dot;
    pub(crate) use mad as mmla;
}

#[cfg(test)]
mod tests {
    mod mad {
        trit_conformance::kernel_tests!(crate::MAD_ENTRY);
    }

    mod dot {
        trit_conformance::kernel_tests!(crate::DOT_ENTRY);
    }

    mod mmla {
        trit_conformance::kernel_tests!(crate::MMLA_ENTRY);
    }
}
