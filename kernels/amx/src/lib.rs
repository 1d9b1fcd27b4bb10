//! A ternary kernel on AMX tiles, for many tokens.
//!
//! | id | layout | what it is |
//! | --- | --- | --- |
//! | `w2a8-tile-amx` | [`LayoutId::R16`] | `tdpbsud`: 16 tokens x 64 activations times 64 codes x 16 rows an instruction |
//!
//! It reads the layout of `w2a8-mad-avx512vnni`, so that a model is held once: that kernel decodes, this one takes prompts.
//! `gemm.rs` has the blocking, `tiles.rs` what it asks of tile registers, `hardware.rs` the registers of the CPU, and `model.rs`
//! (tests) the same registers in plain Rust. The crate may import `trit-kernel` alone.

#[cfg(any(test, all(target_arch = "x86_64", target_os = "linux")))]
mod gemm;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod hardware;
#[cfg(test)]
mod model;
#[cfg(any(test, all(target_arch = "x86_64", target_os = "linux")))]
mod tiles;

use trit_kernel::{Accuracy, Family, Isa, KernelEntry, KernelInfo, LayoutId};

/// The kernels of this crate.
pub const ENTRIES: &[KernelEntry] = &[TILE_ENTRY];

/// `w2a8-tile-amx`.
pub const TILE_ENTRY: KernelEntry = KernelEntry {
    info: &TILE,
    open: open::tile,
};

static TILE: KernelInfo = KernelInfo {
    id: "w2a8-tile-amx",
    family: Family::Amx,
    isa: Isa::Amx,
    accepts: &[LayoutId::R16],
    accuracy: Accuracy::Exact,
    min_tokens: 16,
    summary: "tdpbsud on tiles of 16 tokens x 16 rows; codes are unpacked once for all tokens, while the tiles work",
};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod open {
    pub(crate) use crate::hardware::open as tile;
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod open {
    use trit_kernel::{Cpu, Isa, Kernel, Unavailable};

    pub(crate) fn tile(cpu: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
        cpu.check(Isa::Amx)?;
        let reason = "tile registers are asked for on Linux only".to_owned();
        Err(Unavailable::Refused(reason))
    }
}

#[cfg(test)]
mod tests {
    mod hardware {
        trit_conformance::kernel_tests!(crate::TILE_ENTRY);
    }

    mod model {
        trit_conformance::kernel_tests!(crate::model::MODEL_ENTRY);
    }
}
