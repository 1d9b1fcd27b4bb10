//! Tests that every kernel must pass, with an oracle of their own.
//!
//! The oracle works straight from the i8 weights and sums in i64; it shares no code with the scalar kernels or with
//! the unpacking of `trit-kernel`, so that a mistake has to be made twice to stay hidden.
//!
//! A family plugs its entries in from its own tests, one module each:
//!
//! ```text
//! mod mad_avx2 {
//!     trit_conformance::kernel_tests!(trit_kernel_avx2::MAD_ENTRY);
//! }
//! mod f32_avx2 {
//!     trit_conformance::dense_tests!(trit_kernel_dense::F32_AVX2_ENTRY);
//! }
//! ```
//!
//! # Skips
//! A kernel that this machine cannot run is skipped with a line on stderr that the test harness does not capture.
//! `TRIT_REQUIRE` holds names of kernels, instruction sets or families, separated by commas; a skip of one of those is
//! a failure. `TRIT_ISA` caps dispatch as it does everywhere.
#![forbid(unsafe_code)]

mod data;
mod dense;
mod oracle;
mod require;
mod suite;
mod ternary;

pub use data::{Activation, Rng, Weight};
pub use dense::{DenseCase, real_numbers, ternary_is_exact};
pub use oracle::exact_sum;
pub use require::{open, open_dense};
pub use suite::{
    adversarial, all_activations, edge_shapes, largest_k, misuse, model_shapes, prepare_splits,
    random_shapes, token_counts, unaligned, windows,
};
pub use ternary::Case;

/// The tests of one ternary kernel; the argument is its [`trit_kernel::KernelEntry`].
#[macro_export]
macro_rules! kernel_tests {
    ($entry:expr) => {
        $crate::kernel_tests!(@ $entry, all_activations, edge_shapes, token_counts, model_shapes, largest_k,
            adversarial, windows, unaligned, prepare_splits, random_shapes, misuse);
    };
    (@ $entry:expr, $($name:ident),+) => {
        $(
            #[test]
            fn $name() {
                if let Some(kernel) = $crate::open(&$entry) {
                    $crate::$name(&*kernel);
                }
            }
        )+
    };
}

/// The tests of one dense kernel; the argument is its [`trit_kernel::DenseEntry`].
#[macro_export]
macro_rules! dense_tests {
    ($entry:expr) => {
        $crate::dense_tests!(@ $entry, ternary_is_exact, real_numbers);
    };
    (@ $entry:expr, $($name:ident),+) => {
        $(
            #[test]
            fn $name() {
                if let Some(kernel) = $crate::open_dense(&$entry) {
                    $crate::$name(&*kernel);
                }
            }
        )+
    };
}
