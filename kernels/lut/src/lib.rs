//! Ternary kernels by table look-up: a byte shuffle answers "what is the sum of these two (or three) activations under
//! these weights?" for 32 or 64 rows at once.
//!
//! | id | layout | what it is |
//! | --- | --- | --- |
//! | `w2a8-lut2-avx2` | [`LayoutId::L2R64`] | pairs, 9 sums a table, `vpshufb` |
//! | `w1.67a8-lut3-avx2` | [`LayoutId::L3R64`] | triplets, 14 sums a table and a sign, `vpshufb` |
//! | `w2a8-lut2-avx512` | [`LayoutId::L2R64`] | the same on 512 bits |
//! | `w1.67a8-lut3-avx512` | [`LayoutId::L3R64`] | the same on 512 bits |
//!
//! All are exact for any shape: see the module `tables` for how a sum of ten bits goes through bytes.
//! The crate may import `trit-kernel` alone. On other architectures every kernel is listed and unavailable.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod groups;
#[cfg(target_arch = "x86_64")]
mod tables;

use trit_kernel::{Accuracy, Family, Isa, KernelEntry, KernelInfo, LayoutId};

const fn info(
    id: &'static str,
    isa: Isa,
    accepts: &'static [LayoutId],
    summary: &'static str,
) -> KernelInfo {
    KernelInfo {
        id,
        family: Family::Lut,
        isa,
        accepts,
        accuracy: Accuracy::Exact,
        min_tokens: 1,
        summary,
    }
}

static LUT2_AVX2: KernelInfo = info(
    "w2a8-lut2-avx2",
    Isa::Avx2,
    &[LayoutId::L2R64],
    "table look-up of pairs by vpshufb",
);
static LUT3_AVX2: KernelInfo = info(
    "w1.67a8-lut3-avx2",
    Isa::Avx2,
    &[LayoutId::L3R64],
    "table look-up of triplets and a sign by vpshufb",
);
static LUT2_AVX512: KernelInfo = info(
    "w2a8-lut2-avx512",
    Isa::Avx512,
    &[LayoutId::L2R64],
    "table look-up of pairs by vpshufb, 64 rows a register",
);
static LUT3_AVX512: KernelInfo = info(
    "w1.67a8-lut3-avx512",
    Isa::Avx512,
    &[LayoutId::L3R64],
    "table look-up of triplets and a sign by vpshufb, 64 rows a register",
);

/// `w2a8-lut2-avx2`.
pub const LUT2_AVX2_ENTRY: KernelEntry = KernelEntry {
    info: &LUT2_AVX2,
    open: open::lut2_avx2,
};

/// `w1.67a8-lut3-avx2`.
pub const LUT3_AVX2_ENTRY: KernelEntry = KernelEntry {
    info: &LUT3_AVX2,
    open: open::lut3_avx2,
};

/// `w2a8-lut2-avx512`.
pub const LUT2_AVX512_ENTRY: KernelEntry = KernelEntry {
    info: &LUT2_AVX512,
    open: open::lut2_avx512,
};

/// `w1.67a8-lut3-avx512`.
pub const LUT3_AVX512_ENTRY: KernelEntry = KernelEntry {
    info: &LUT3_AVX512,
    open: open::lut3_avx512,
};

/// The kernels of this crate.
pub const ENTRIES: &[KernelEntry] = &[
    LUT2_AVX2_ENTRY,
    LUT3_AVX2_ENTRY,
    LUT2_AVX512_ENTRY,
    LUT3_AVX512_ENTRY,
];

#[cfg(target_arch = "x86_64")]
mod open {
    use trit_kernel::{Cpu, Kernel, Unavailable};

    use crate::avx2::Avx2;
    use crate::avx512::Avx512;
    use crate::groups::open;
    use crate::tables::{PAIRS, TRIPLETS};

    type Opened = Result<Box<dyn Kernel>, Unavailable>;

    pub(super) fn lut2_avx2(cpu: Cpu) -> Opened {
        open::<Avx2, PAIRS>(Avx2::detect(cpu)?, &crate::LUT2_AVX2)
    }

    pub(super) fn lut3_avx2(cpu: Cpu) -> Opened {
        open::<Avx2, TRIPLETS>(Avx2::detect(cpu)?, &crate::LUT3_AVX2)
    }

    pub(super) fn lut2_avx512(cpu: Cpu) -> Opened {
        open::<Avx512, PAIRS>(Avx512::detect(cpu)?, &crate::LUT2_AVX512)
    }

    pub(super) fn lut3_avx512(cpu: Cpu) -> Opened {
        open::<Avx512, TRIPLETS>(Avx512::detect(cpu)?, &crate::LUT3_AVX512)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod open {
    use trit_kernel::{Cpu, Kernel, Unavailable};

    type Opened = Result<Box<dyn Kernel>, Unavailable>;

    pub(super) fn lut2_avx2(_: Cpu) -> Opened {
        Err(Unavailable::Architecture)
    }

    pub(super) use lut2_avx2 as lut3_avx2;
    pub(super) use lut2_avx2 as lut2_avx512;
    pub(super) use lut2_avx2 as lut3_avx512;
}
