//! Ternary kernels for AVX-512.
//!
//! | id | layout | what it is |
//! | --- | --- | --- |
//! | `w2a8-mad-avx512vnni` | [`LayoutId::R16`] | `vpdpbusd` on sixteen interleaved rows, GEMV and GEMM |
//! | `w1.6a8-mad-avx512vbmi` | [`LayoutId::T5R16`] | the same on five weights a byte, decoded by `vpermi2b` |
//!
//! The crate may import `trit-kernel` alone. On other architectures every kernel is listed and unavailable.

#[cfg(target_arch = "x86_64")]
mod rows16;
#[cfg(target_arch = "x86_64")]
mod vbmi;
#[cfg(target_arch = "x86_64")]
mod vnni;

use trit_kernel::{Accuracy, Family, Isa, KernelEntry, KernelInfo, LayoutId};

/// The kernels of this crate.
pub const ENTRIES: &[KernelEntry] = &[VNNI_ENTRY, VBMI_ENTRY];

/// `w2a8-mad-avx512vnni`.
pub const VNNI_ENTRY: KernelEntry = KernelEntry {
    info: &VNNI,
    open: open::vnni,
};

/// `w1.6a8-mad-avx512vbmi`.
pub const VBMI_ENTRY: KernelEntry = KernelEntry {
    info: &VBMI,
    open: open::vbmi,
};

static VNNI: KernelInfo = KernelInfo {
    id: "w2a8-mad-avx512vnni",
    family: Family::Avx512,
    isa: Isa::Avx512Vnni,
    accepts: &[LayoutId::R16],
    accuracy: Accuracy::Exact,
    min_tokens: 1,
    summary: "vpdpbusd over sixteen interleaved rows; register-blocked for several tokens",
};

static VBMI: KernelInfo = KernelInfo {
    id: "w1.6a8-mad-avx512vbmi",
    family: Family::Avx512,
    isa: Isa::Avx512Vbmi,
    accepts: &[LayoutId::T5R16],
    accuracy: Accuracy::Exact,
    min_tokens: 1,
    summary: "five weights a byte decoded by vpermi2b, then vpdpbusd: for when bandwidth is the limit",
};

#[cfg(target_arch = "x86_64")]
mod open {
    pub(crate) use crate::vbmi::open as vbmi;
    pub(crate) use crate::vnni::open as vnni;
}

#[cfg(not(target_arch = "x86_64"))]
mod open {
    use trit_kernel::{Cpu, Kernel, Unavailable};

    pub(crate) fn vnni(_cpu: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
        Err(Unavailable::Architecture)
    }

    pub(crate) use vnni as vbmi;
}

#[cfg(test)]
mod tests {
    mod vnni {
        trit_conformance::kernel_tests!(crate::VNNI_ENTRY);
    }

    mod vbmi {
        trit_conformance::kernel_tests!(crate::VBMI_ENTRY);
    }
}
