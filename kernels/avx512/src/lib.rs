//! Ternary kernels for AVX-512.
//!
//! | id | layout | what it is |
//! | --- | --- | --- |
//! | `w2a8-mad-avx512vnni` | [`LayoutId::R16`] | `vpdpbusd` on sixteen interleaved rows, GEMV and GEMM |
//!
//! The crate may import `trit-kernel` alone. On other architectures every kernel is listed and unavailable.

#[cfg(target_arch = "x86_64")]
mod vnni;

use trit_kernel::{Accuracy, Family, Isa, KernelEntry, KernelInfo, LayoutId};

/// The facts of `w2a8-mad-avx512vnni`.
static VNNI: KernelInfo = KernelInfo {
    id: "w2a8-mad-avx512vnni",
    family: Family::Avx512,
    isa: Isa::Avx512Vnni,
    accepts: &[LayoutId::R16],
    accuracy: Accuracy::Exact,
    min_tokens: 1,
    summary: "vpdpbusd over sixteen interleaved rows; register-blocked for several tokens",
};

/// The kernels of this crate.
pub const ENTRIES: &[KernelEntry] = &[VNNI_ENTRY];

/// `w2a8-mad-avx512vnni`.
pub const VNNI_ENTRY: KernelEntry = KernelEntry {
    info: &VNNI,
    open: open_vnni,
};

#[cfg(target_arch = "x86_64")]
fn open_vnni(
    cpu: trit_kernel::Cpu,
) -> Result<Box<dyn trit_kernel::Kernel>, trit_kernel::Unavailable> {
    vnni::open(cpu)
}

#[cfg(not(target_arch = "x86_64"))]
fn open_vnni(
    _cpu: trit_kernel::Cpu,
) -> Result<Box<dyn trit_kernel::Kernel>, trit_kernel::Unavailable> {
    Err(trit_kernel::Unavailable::Architecture)
}
