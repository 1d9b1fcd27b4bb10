//! Scalar kernels: the definition that all others are compared with, and a portable fallback.
//!
//! | id | layouts | what it is |
//! | --- | --- | --- |
//! | `w2a8-naive-scalar` | all | unpacks a row, then multiplies and adds |
//! | `w2a8-swar-scalar` | [`LayoutId::I2S`] | four products a 64-bit multiplication |
//!
//! The crate imports `trit-kernel` alone and has no unsafe code.
#![forbid(unsafe_code)]

mod naive;
mod swar;

use trit_kernel::{Accuracy, Family, Isa, KernelEntry, KernelInfo, LayoutId};

/// The facts of `w2a8-naive-scalar`.
static NAIVE: KernelInfo = KernelInfo {
    id: "w2a8-naive-scalar",
    family: Family::Naive,
    isa: Isa::Scalar,
    accepts: &LayoutId::ALL,
    accuracy: Accuracy::Exact,
    min_tokens: 1,
    summary: "the definition: unpacks a row, then multiplies and adds",
};

/// The facts of `w2a8-swar-scalar`.
static SWAR: KernelInfo = KernelInfo {
    id: "w2a8-swar-scalar",
    family: Family::Naive,
    isa: Isa::Scalar,
    accepts: &[LayoutId::I2S],
    accuracy: Accuracy::Exact,
    min_tokens: 1,
    summary: "four products a 64-bit multiplication: the portable fallback",
};

/// `w2a8-naive-scalar`.
pub const NAIVE_ENTRY: KernelEntry = KernelEntry {
    info: &NAIVE,
    open: |cpu| {
        cpu.check(Isa::Scalar)?;
        Ok(Box::new(naive::Naive))
    },
};

/// `w2a8-swar-scalar`.
pub const SWAR_ENTRY: KernelEntry = KernelEntry {
    info: &SWAR,
    open: |cpu| {
        cpu.check(Isa::Scalar)?;
        Ok(Box::new(swar::Swar))
    },
};

/// The kernels of this crate.
pub const ENTRIES: &[KernelEntry] = &[NAIVE_ENTRY, SWAR_ENTRY];
