//! Dense baselines: what a user would have without ternary weights.
//!
//! | id | weights | activations |
//! | --- | --- | --- |
//! | `f32-dense-scalar`, `-avx2`, `-avx512`, `-neon` | f32 | f32 |
//! | `f16-dense-avx2`, `-avx512`, `-neon` | f16, converted when loaded | f32 |
//! | `i8-dense-avx2`, `-avxvnni`, `-avx512vnni`, `-neon`, `-dot` | int8, a scale a row | int8, a scale a token |
//! | `q4-dense-avx2`, `-avxvnni`, `-avx512vnni`, `-neon`, `-dot` | 4 bits, an f16 scale a block of 32 | int8, a scale a token |
//!
//! The crate may import `trit-kernel` alone. Every kernel is listed on every architecture; those of another one are
//! unavailable.
#![expect(
    clippy::inline_always,
    reason = "the generic loops must become part of the function that enables the instruction set"
)]

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod bytes;
mod driver;
mod float;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod int8;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod intrinsics;
mod methods;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod q4;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

use trit_kernel::{DenseEntry, DenseFormat, DenseInfo, Isa};

/// The facts of a kernel, its entry, and the function that opens it.
macro_rules! entries {
    ($($entry:ident, $info:ident, $open:ident, $id:literal, $format:ident, $isa:ident,
       $summary:literal;)*) => {
        $(
            static $info: DenseInfo = DenseInfo {
                id: $id,
                format: DenseFormat::$format,
                isa: Isa::$isa,
                summary: $summary,
            };

            #[doc = concat!("`", $id, "`.")]
            pub const $entry: DenseEntry = DenseEntry {
                info: &$info,
                open: methods::$open,
            };
        )*

        /// The kernels of this crate, slow to fast within a format.
        pub const ENTRIES: &[DenseEntry] = &[$($entry),*];
    };
}

entries! {
    F32_SCALAR_ENTRY, F32_SCALAR, f32_scalar, "f32-dense-scalar", F32, Scalar, "portable f32";
    F32_AVX2_ENTRY, F32_AVX2, f32_avx2, "f32-dense-avx2", F32, Avx2, "f32, 24 rows x 4 tokens in registers";
    F32_AVX512_ENTRY, F32_AVX512, f32_avx512, "f32-dense-avx512", F32, Avx512,
        "f32, 32 rows x 12 tokens in registers";
    F16_AVX2_ENTRY, F16_AVX2, f16_avx2, "f16-dense-avx2", F16, Avx2, "f16 weights, f32 arithmetic, 24 rows x 4 tokens";
    F16_AVX512_ENTRY, F16_AVX512, f16_avx512, "f16-dense-avx512", F16, Avx512,
        "f16 weights, f32 arithmetic, 32 rows x 12 tokens";
    I8_AVX2_ENTRY, I8_AVX2, i8_avx2, "i8-dense-avx2", I8, Avx2, "int8 by vpmaddubsw, 16 rows x 4 tokens";
    I8_AVXVNNI_ENTRY, I8_AVXVNNI, i8_avxvnni, "i8-dense-avxvnni", I8, AvxVnni,
        "int8 by 256-bit vpdpbusd, 24 rows x 4 tokens";
    I8_AVX512_ENTRY, I8_AVX512, i8_avx512, "i8-dense-avx512vnni", I8, Avx512Vnni,
        "int8 by 512-bit vpdpbusd, 32 rows x 12 tokens";
    Q4_AVX2_ENTRY, Q4_AVX2, q4_avx2, "q4-dense-avx2", Q4, Avx2, "4-bit blocks by vpmaddubsw, 16 rows x 4 tokens";
    Q4_AVXVNNI_ENTRY, Q4_AVXVNNI, q4_avxvnni, "q4-dense-avxvnni", Q4, AvxVnni,
        "4-bit blocks by 256-bit vpdpbusd, 16 rows x 4 tokens";
    Q4_AVX512_ENTRY, Q4_AVX512, q4_avx512, "q4-dense-avx512vnni", Q4, Avx512Vnni,
        "4-bit blocks by 512-bit vpdpbusd, 32 rows x 4 tokens";
    F32_NEON_ENTRY, F32_NEON, f32_neon, "f32-dense-neon", F32, Neon, "f32, 16 rows x 12 tokens, half the rows in registers";
    F16_NEON_ENTRY, F16_NEON, f16_neon, "f16-dense-neon", F16, Neon,
        "f16 weights, f32 arithmetic, 16 rows x 12 tokens, half the rows in registers";
    I8_NEON_ENTRY, I8_NEON, i8_neon, "i8-dense-neon", I8, Neon, "int8 by smull and sadalp, 16 rows x 4 tokens";
    I8_DOT_ENTRY, I8_DOT, i8_dot, "i8-dense-dot", I8, NeonDot, "int8 by sdot, 16 rows x 12 tokens, half the rows in registers";
    Q4_NEON_ENTRY, Q4_NEON, q4_neon, "q4-dense-neon", Q4, Neon, "4-bit blocks by smull, 8 rows x 4 tokens";
    Q4_DOT_ENTRY, Q4_DOT, q4_dot, "q4-dense-dot", Q4, NeonDot, "4-bit blocks by sdot, 8 rows x 4 tokens";
}
