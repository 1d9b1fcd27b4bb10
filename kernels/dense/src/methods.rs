//! The methods: each format on each instruction set, with the size of its tiles.

use std::ops::Range;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use half::f16;
use trit_kernel::{Cpu, DenseInfo, DenseKernel, Unavailable};

use crate::driver::{self, Method, Panel};
use crate::float;
#[cfg(target_arch = "aarch64")]
use crate::neon::{Neon, NeonDot};
use crate::scalar::Scalar;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::{bytes::Bytes, int8, q4};
#[cfg(target_arch = "x86_64")]
use crate::{
    x86::avx2::{Avx2, AvxVnni},
    x86::avx512::{Avx512, Vnni},
};

/// A method: `$vectors` times `$lanes` rows and `$groups` groups of tokens. `$attr` enables the instruction set, and the
/// functions of the format are inlined into functions with it.
macro_rules! method {
    ($open:ident, $name:ident, $info:ident, $lanes:expr, $vectors:literal x $groups:literal, $streams:literal, $k_block:expr, $attr:meta,
     panel_bytes |$pb_rows:ident, $pb_k:ident| $panel_bytes:expr,
     group_bytes $group_bytes:expr,
     pack |$p_rows:ident, $p_weights:ident, $p_k:ident, $p_panel:ident, $p_scales:ident| $pack:expr,
     prepare $prepare:expr,
     tile |$t_panel:ident, $t_groups:ident, $t_k:ident, $t_out:ident| $tile:expr,
     gemv $gemv:expr) => {
        /// The proof that the instruction set is there.
        #[derive(Clone, Copy)]
        struct $name(());

        impl Method for $name {
            const INFO: &'static DenseInfo = &crate::$info;
            const ROWS: usize = $vectors * $lanes;
            const GROUPS: usize = $groups;
            const STREAMS: usize = $streams;
            const K_BLOCK: usize = $k_block;

            fn panel_bytes($pb_k: usize) -> usize {
                let $pb_rows = Self::ROWS;
                $panel_bytes
            }

            fn group_bytes(k: usize) -> usize {
                $group_bytes(k)
            }

            fn pack_panel(
                self,
                $p_weights: &[f32],
                $p_k: usize,
                $p_panel: &mut [u8],
                $p_scales: &mut Vec<f32>,
            ) {
                let $p_rows = Self::ROWS;
                $pack;
            }

            fn prepare_group(self, tokens: &[f32], k: usize, group: &mut [u8]) {
                #[$attr]
                unsafe fn run(tokens: &[f32], k: usize, group: &mut [u8]) {
                    $prepare(tokens, k, group);
                }
                // SAFETY: a value of this type exists only where `open` saw the instruction set.
                unsafe { run(tokens, k, group) }
            }

            fn tile(self, panel: Panel<'_>, groups: &[&[u8]], k: Range<usize>, out: &mut [f32]) {
                #[$attr]
                unsafe fn run(
                    $t_panel: Panel<'_>,
                    $t_groups: &[&[u8]],
                    $t_k: Range<usize>,
                    $t_out: &mut [f32],
                ) {
                    $tile;
                }
                // SAFETY: as above.
                unsafe { run(panel, groups, k, out) }
            }

            fn gemv(self, panels: &[Panel<'_>], group: &[u8], token: usize, out: &mut [f32]) {
                #[$attr]
                unsafe fn run(panels: &[Panel<'_>], group: &[u8], token: usize, out: &mut [f32]) {
                    if let Ok(panels) = <[_; $streams]>::try_from(panels) {
                        $gemv(panels, group, token, out);
                    } else {
                        $gemv([panels[0]], group, token, out);
                    }
                }
                // SAFETY: as above.
                unsafe { run(panels, group, token, out) }
            }
        }

        pub(crate) fn $open(cpu: Cpu) -> Result<Box<dyn DenseKernel>, Unavailable> {
            cpu.check(crate::$info.isa)?;
            driver::open($name(()))
        }
    };
}

/// [`method!`] for f32 and f16 weights.
macro_rules! float_method {
    ($open:ident, $name:ident, $info:ident, $lanes:ty, $weight:ty, $vectors:literal by $pass:literal x $groups:literal, $attr:meta) => {
        method!(
            $open, $name, $info, <$lanes as float::Lanes>::N, $vectors x $groups, 2, 1024, $attr,
            panel_bytes |rows, k| float::panel_bytes::<$weight>(rows, k),
            group_bytes float::group_bytes,
            pack |rows, weights, k, panel, _scales| float::pack_panel::<$weight>(rows, weights, k, panel),
            prepare float::prepare_group,
            tile |panel, groups, k, out| float::tile::<$lanes, $weight, $vectors, $pass, $groups>(panel, groups, k, out),
            gemv float::gemv::<$lanes, $weight, $vectors, _>
        );
    };
}

/// [`method!`] for int8 weights.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! int8_method {
    ($open:ident, $name:ident, $info:ident, $bytes:ty, $vectors:literal by $pass:literal x $groups:literal, $attr:meta) => {
        method!(
            $open, $name, $info, <<$bytes as Bytes>::F as float::Lanes>::N, $vectors x $groups, 2, usize::MAX, $attr,
            panel_bytes |rows, k| int8::panel_bytes(rows, k),
            group_bytes int8::group_bytes,
            pack |rows, weights, k, panel, scales| int8::pack_panel::<$bytes>(rows, weights, k, panel, scales),
            prepare int8::prepare_group::<$bytes>,
            tile |panel, groups, _k, out| int8::tile::<$bytes, $vectors, $pass, $groups>(panel, groups, out),
            gemv int8::gemv::<$bytes, $vectors, _>
        );
    };
}

/// [`method!`] for 4-bit weights; a GEMV reads `$streams` panels and asks for bytes `$ahead` ahead.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! q4_method {
    ($open:ident, $name:ident, $info:ident, $bytes:ty, $vectors:literal x $groups:literal, $streams:literal ahead $ahead:literal, $attr:meta) => {
        method!(
            $open, $name, $info, <<$bytes as Bytes>::F as float::Lanes>::N, $vectors x $groups, $streams, usize::MAX, $attr,
            panel_bytes |rows, k| q4::panel_bytes(rows, k),
            group_bytes q4::group_bytes,
            pack |rows, weights, k, panel, _scales| q4::pack_panel(rows, weights, k, panel),
            prepare q4::prepare_group,
            tile |panel, groups, _k, out| q4::tile::<$bytes, $vectors>(panel, groups, out),
            gemv q4::gemv::<$bytes, $vectors, $ahead, _>
        );
    };
}

float_method!(f32_scalar, F32Scalar, F32_SCALAR, Scalar, f32, 2 by 2 x 1, inline);

/// Methods of one architecture; elsewhere their opening says why not.
macro_rules! methods {
    ($arch:literal, $($method:ident!($open:ident, $($rest:tt)*);)*) => {
        $(
            #[cfg(target_arch = $arch)]
            $method!($open, $($rest)*);

            #[cfg(not(target_arch = $arch))]
            pub(crate) fn $open(_: Cpu) -> Result<Box<dyn DenseKernel>, Unavailable> {
                Err(Unavailable::Architecture)
            }
        )*
    };
}

methods! { "x86_64",
    float_method!(f32_avx2, F32Avx2, F32_AVX2, Avx2, f32, 3 by 1 x 3, target_feature(enable = "avx2,fma,f16c"));
    float_method!(f16_avx2, F16Avx2, F16_AVX2, Avx2, f16, 3 by 1 x 3, target_feature(enable = "avx2,fma,f16c"));
    float_method!(f32_avx512, F32Avx512, F32_AVX512, Avx512, f32, 2 by 2 x 3,
        target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"));
    float_method!(f16_avx512, F16Avx512, F16_AVX512, Avx512, f16, 2 by 2 x 3,
        target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"));
    int8_method!(i8_avx2, I8Avx2, I8_AVX2, Avx2, 2 by 2 x 1, target_feature(enable = "avx2,fma,f16c"));
    int8_method!(i8_avxvnni, I8AvxVnni, I8_AVXVNNI, AvxVnni, 3 by 1 x 3, target_feature(enable = "avx2,fma,f16c,avxvnni"));
    int8_method!(i8_avx512, I8Avx512, I8_AVX512, Vnni, 2 by 2 x 3,
        target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"));
    q4_method!(q4_avx2, Q4Avx2, Q4_AVX2, Avx2, 2 x 1, 2 ahead 4096, target_feature(enable = "avx2,fma,f16c"));
    q4_method!(q4_avxvnni, Q4AvxVnni, Q4_AVXVNNI, AvxVnni, 2 x 1, 2 ahead 4096, target_feature(enable = "avx2,fma,f16c,avxvnni"));
    q4_method!(q4_avx512, Q4Avx512, Q4_AVX512, Vnni, 2 x 1, 2 ahead 4096,
        target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"));
}

methods! { "aarch64",
    float_method!(f32_neon, F32Neon, F32_NEON, Neon, f32, 4 by 2 x 3, target_feature(enable = "neon"));
    float_method!(f16_neon, F16Neon, F16_NEON, Neon, f16, 4 by 2 x 3, target_feature(enable = "neon"));
    int8_method!(i8_neon, I8Neon, I8_NEON, Neon, 4 by 4 x 1, target_feature(enable = "neon"));
    int8_method!(i8_dot, I8Dot, I8_DOT, NeonDot, 4 by 2 x 3, target_feature(enable = "neon,dotprod"));
    q4_method!(q4_neon, Q4Neon, Q4_NEON, Neon, 2 x 1, 4 ahead 2048, target_feature(enable = "neon"));
    q4_method!(q4_dot, Q4Dot, Q4_DOT, NeonDot, 2 x 1, 4 ahead 2048, target_feature(enable = "neon,dotprod"));
}
