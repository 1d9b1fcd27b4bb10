//! The contract of ternary kernels.
//!
//! A kernel multiplies int8 activations with ternary weights and returns the exact int32 sums:
//! `out[t, r] = Σ_k act[t, k] · weight[r, k]` with `weight ∈ {−1, 0, 1}` and `act ∈ −128..=127`.
//! Everything that several kernels share lives here: the [`Kernel`] and [`DenseKernel`] traits, the packed
//! [`LayoutId`]s with their packing, the views that calls take, the errors, and the reference quantizers.
//! This crate has no unsafe code and imports no other crate of the project.
//!
//! ```
//! use trit_kernel::{Codes, LayoutId, Packed, Scales};
//! let codes = [1i8, 0, -1, 1, 1, -1, 0, 0];
//! let packed = Packed::pack(Codes::new(&codes, 2, 4)?, LayoutId::I2S, Scales::Tensor(0.5))?;
//! let mut row = [0i8; 4];
//! packed.unpack_row(1, &mut row);
//! assert_eq!(row, [1, -1, 0, 0]);
//! # Ok::<(), trit_kernel::PackError>(())
//! ```
#![forbid(unsafe_code)]

mod buffer;
mod call;
mod cpu;
mod dense;
mod kernel;
mod layout;
mod packed;
mod padded;
mod probe;
mod quant;

pub use buffer::AlignedBuf;
pub use call::{Activations, GemmArgs, Prepared, PreparedBuf};
pub use cpu::{Cpu, Isa, ParseIsaError, Unavailable};
pub use dense::{DenseArgs, DenseEntry, DenseFormat, DenseInfo, DenseKernel, DenseWeights};
pub use kernel::{Accuracy, Family, Kernel, KernelEntry, KernelInfo};
pub use layout::{LayoutId, LayoutSpec, MAX_K};
pub use packed::{ByteOwner, Codes, PackError, Packed, Scales, Storage};
pub use padded::PaddedToken;
pub use probe::probe;
pub use quant::{
    ABSMAX_FLOOR, AbsmeanWeights, absmean_codes, activation_scale, quantize_activations,
    quantize_row,
};
