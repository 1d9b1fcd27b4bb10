//! Ternary kernels by table look-up: a byte shuffle answers "what is the sum of these two (or up to five) activations under
//! these weights?" for 32 or 64 rows at once.
//!
//! | id | layout | what it is |
//! | --- | --- | --- |
//! | `w2a8-lut2-avx2` | [`LayoutId::L2R64`] | pairs, 9 sums a table, `vpshufb` |
//! | `w1.67a8-lut3-avx2` | [`LayoutId::L3R64`] | triplets, 14 sums a table and a sign, `vpshufb` |
//! | `w2a8-lut2-avx512` | [`LayoutId::L2R64`] | the same on 512 bits |
//! | `w1.67a8-lut3-avx512` | [`LayoutId::L3R64`] | the same on 512 bits |
//! | `w2a8-lut2-neon` | [`LayoutId::L2R64`] | the same on 128 bits, `tbl` |
//! | `w1.67a8-lut3-neon` | [`LayoutId::L3R64`] | the same on 128 bits, `tbl` |
//! | `w1.6a8-lut5-avx512` | [`LayoutId::L5R64`] | quints, 122 sums a table and a sign, `vpermt2w` |
//! | `w2a8-lut4-avx512vbmi` | [`LayoutId::L4R64`] | quads, 81 sums a table, `vpermi2b` |
//! | `w1.6a8-lut5-avx512vbmi` | [`LayoutId::L5R64`] | quints, 122 sums a table and a sign, `vpermi2b` |
//!
//! All are exact for any shape: see the modules `tables` and `vbmi` for how a sum of ten bits and more goes through bytes.
//! The crate may import `trit-kernel` alone. On other architectures every kernel is listed and unavailable.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod groups;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod nibble;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tables;
#[cfg(target_arch = "x86_64")]
mod vbmi;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod view;
#[cfg(target_arch = "x86_64")]
mod wide;
#[cfg(target_arch = "x86_64")]
mod words;
#[cfg(target_arch = "x86_64")]
mod x86;

use trit_kernel::{
    Accuracy, Cpu, Family, Isa, Kernel, KernelEntry, KernelInfo, LayoutId, Unavailable,
};

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

static LUT5_AVX512: KernelInfo = info(
    "w1.6a8-lut5-avx512",
    Isa::Avx512,
    &[LayoutId::L5R64],
    "table look-up of quints and a sign by vpermt2w, 32 rows a register",
);
static LUT4_VBMI: KernelInfo = info(
    "w2a8-lut4-avx512vbmi",
    Isa::Avx512Vbmi,
    &[LayoutId::L4R64],
    "table look-up of quads by vpermi2b, 64 rows a register",
);
static LUT5_VBMI: KernelInfo = info(
    "w1.6a8-lut5-avx512vbmi",
    Isa::Avx512Vbmi,
    &[LayoutId::L5R64],
    "table look-up of quints and a sign by vpermi2b, 64 rows a register",
);

static LUT2_NEON: KernelInfo = info(
    "w2a8-lut2-neon",
    Isa::Neon,
    &[LayoutId::L2R64],
    "table look-up of pairs by tbl",
);
static LUT3_NEON: KernelInfo = info(
    "w1.67a8-lut3-neon",
    Isa::Neon,
    &[LayoutId::L3R64],
    "table look-up of triplets and a sign by tbl",
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

/// `w1.6a8-lut5-avx512`.
pub const LUT5_AVX512_ENTRY: KernelEntry = KernelEntry {
    info: &LUT5_AVX512,
    open: open::lut5_avx512,
};

/// `w2a8-lut4-avx512vbmi`.
pub const LUT4_VBMI_ENTRY: KernelEntry = KernelEntry {
    info: &LUT4_VBMI,
    open: open::lut4_vbmi,
};

/// `w1.6a8-lut5-avx512vbmi`.
pub const LUT5_VBMI_ENTRY: KernelEntry = KernelEntry {
    info: &LUT5_VBMI,
    open: open::lut5_vbmi,
};

/// `w2a8-lut2-neon`.
pub const LUT2_NEON_ENTRY: KernelEntry = KernelEntry {
    info: &LUT2_NEON,
    open: open::lut2_neon,
};

/// `w1.67a8-lut3-neon`.
pub const LUT3_NEON_ENTRY: KernelEntry = KernelEntry {
    info: &LUT3_NEON,
    open: open::lut3_neon,
};

/// The kernels of this crate.
pub const ENTRIES: &[KernelEntry] = &[
    LUT2_AVX2_ENTRY,
    LUT3_AVX2_ENTRY,
    LUT2_AVX512_ENTRY,
    LUT3_AVX512_ENTRY,
    LUT5_AVX512_ENTRY,
    LUT4_VBMI_ENTRY,
    LUT5_VBMI_ENTRY,
    LUT2_NEON_ENTRY,
    LUT3_NEON_ENTRY,
];

#[cfg(target_arch = "x86_64")]
mod open {
    use trit_kernel::{Cpu, Kernel, Unavailable};

    use crate::groups::open;
    use crate::tables::{PAIRS, TRIPLETS};
    use crate::vbmi::Vbmi;
    use crate::wide::{self, QUADS, QUINTS};
    use crate::words::Bw;
    use crate::x86::{Avx2, Avx512};

    type Opened = Result<Box<dyn Kernel>, Unavailable>;

    pub(super) fn lut2_avx2(cpu: Cpu) -> Opened {
        open::<Avx2, PAIRS>(cpu, &crate::LUT2_AVX2)
    }

    pub(super) fn lut3_avx2(cpu: Cpu) -> Opened {
        open::<Avx2, TRIPLETS>(cpu, &crate::LUT3_AVX2)
    }

    pub(super) fn lut2_avx512(cpu: Cpu) -> Opened {
        open::<Avx512, PAIRS>(cpu, &crate::LUT2_AVX512)
    }

    pub(super) fn lut3_avx512(cpu: Cpu) -> Opened {
        open::<Avx512, TRIPLETS>(cpu, &crate::LUT3_AVX512)
    }

    pub(super) fn lut5_avx512(cpu: Cpu) -> Opened {
        wide::open::<Bw, QUINTS>(cpu, &crate::LUT5_AVX512)
    }

    pub(super) fn lut4_vbmi(cpu: Cpu) -> Opened {
        wide::open::<Vbmi, QUADS>(cpu, &crate::LUT4_VBMI)
    }

    pub(super) fn lut5_vbmi(cpu: Cpu) -> Opened {
        wide::open::<Vbmi, QUINTS>(cpu, &crate::LUT5_VBMI)
    }

    pub(super) use super::elsewhere as lut2_neon;
    pub(super) use super::elsewhere as lut3_neon;
}

#[cfg(target_arch = "aarch64")]
mod open {
    use trit_kernel::{Cpu, Kernel, Unavailable};

    use crate::groups::open;
    use crate::neon::Neon;
    use crate::tables::{PAIRS, TRIPLETS};

    type Opened = Result<Box<dyn Kernel>, Unavailable>;

    pub(super) fn lut2_neon(cpu: Cpu) -> Opened {
        open::<Neon, PAIRS>(cpu, &crate::LUT2_NEON)
    }

    pub(super) fn lut3_neon(cpu: Cpu) -> Opened {
        open::<Neon, TRIPLETS>(cpu, &crate::LUT3_NEON)
    }

    pub(super) use super::elsewhere as lut2_avx2;
    pub(super) use super::elsewhere as lut3_avx2;
    pub(super) use super::elsewhere as lut2_avx512;
    pub(super) use super::elsewhere as lut3_avx512;
    pub(super) use super::elsewhere as lut5_avx512;
    pub(super) use super::elsewhere as lut4_vbmi;
    pub(super) use super::elsewhere as lut5_vbmi;
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod open {
    pub(super) use super::elsewhere as lut2_avx2;
    pub(super) use super::elsewhere as lut3_avx2;
    pub(super) use super::elsewhere as lut2_avx512;
    pub(super) use super::elsewhere as lut3_avx512;
    pub(super) use super::elsewhere as lut5_avx512;
    pub(super) use super::elsewhere as lut4_vbmi;
    pub(super) use super::elsewhere as lut5_vbmi;
    pub(super) use super::elsewhere as lut2_neon;
    pub(super) use super::elsewhere as lut3_neon;
}

/// Opens a kernel of another architecture: not at all.
fn elsewhere(_: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
    Err(Unavailable::Architecture)
}
