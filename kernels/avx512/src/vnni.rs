//! `vpdpbusd` over [`LayoutId::R16`].
//!
//! A 64-byte block holds 16 rows x 16 columns. Masked to one plane it is 16 dwords of four codes, each dword one row, and
//! the four activations of these columns are one broadcast dword: `vpdpbusd` adds four products to each of 16 rows.
//! `Σ code · act − Σ act = Σ weight · act`, so the sum of the activations is stored with the prepared token.
//!
//! GEMV leaves the codes of a plane where they are in the byte (`0x03`, `0x0c`, `0x30`, `0xc0`), one accumulator a plane,
//! and shifts the four sums at the end: a mask is one instruction where shift and mask are two. GEMM shifts, since an
//! unpacked plane serves many tokens and a single accumulator a tile leaves room for more tiles.

use std::arch::x86_64::{
    __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_and_si512, _mm512_dpbusd_epi32, _mm512_loadu_si512,
    _mm512_set1_epi8, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_srli_epi16, _mm512_sub_epi32,
};
use trit_kernel::{Cpu, Isa, Kernel, KernelInfo, PaddedToken, Unavailable};

use crate::rows16::{self, AHEAD, Body, Call, TILE_TOKENS, broadcast, plane_masks};

/// Proof that the CPU has AVX-512 VNNI: made by [`open`] alone.
struct Vnni(());

pub(crate) fn open(cpu: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
    cpu.check(Isa::Avx512Vnni)?;
    rows16::open(Vnni(()))
}

impl Body for Vnni {
    const INFO: &'static KernelInfo = &crate::VNNI;
    const TILE_GROUPS: usize = 4;

    fn gemv(&self, call: &mut Call<'_>) {
        // SAFETY: `self` exists, so `open` saw AVX-512 VNNI.
        unsafe { gemv(call) }
    }

    fn tile<const G: usize>(&self, call: &mut Call<'_>, group: usize, token: usize, tokens: usize) {
        // SAFETY: `self` exists, so `open` saw AVX-512 VNNI.
        unsafe { tile_of::<G>(call, group, token, tokens) }
    }
}

// The sixteen sums of four blocks hide the latency of `vpdpbusd`.
rows16::gemv!(
    "avx512f,avx512bw,avx512vnni",
    16 columns,
    4 apart,
    plane_masks(),
    add_block
);

/// Adds the products of a block, codes where they stand in the byte, a sum a plane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn add_block(acc: &mut [__m512i; 4], weights: &[u8; 64], acts: &[u8; 16], masks: &[__m512i; 4]) {
    // SAFETY: the block is the 64 bytes that are loaded. A prefetch may name any address.
    let w = unsafe {
        _mm_prefetch::<_MM_HINT_T0>(weights.as_ptr().wrapping_add(AHEAD).cast());
        _mm512_loadu_si512(weights.as_ptr().cast())
    };
    for p in 0..4 {
        // SAFETY: there are 16 activations.
        let act = unsafe { broadcast(acts.as_ptr().add(4 * p)) };
        acc[p] = _mm512_dpbusd_epi32(acc[p], _mm512_and_si512(w, masks[p]), act);
    }
}

/// Adds the products of plane `$p` of the blocks `$w` for all tokens of a tile.
macro_rules! plane {
    ($p:literal, $w:ident, $groups:ident, [$($t:literal)+], $tokens:ident, $block:ident, $mask:ident, $acc:ident) => {
        let mut codes = $w;
        for g in 0..$groups {
            let shifted = if $p == 0 { $w[g] } else { _mm512_srli_epi16::<{ 2 * $p }>($w[g]) };
            codes[g] = _mm512_and_si512(shifted, $mask);
        }
        $(
            // SAFETY: `$block` is below the number of blocks, and each token has 16 bytes a block (checked by the tile).
            let act = unsafe { broadcast($tokens[$t].acts.as_ptr().add($block * 16 + $p * 4)) };
            for g in 0..$groups {
                $acc[$t][g] = _mm512_dpbusd_epi32($acc[$t][g], codes[g], act);
            }
        )+
    };
}

/// Tiles of `G` row groups and a fixed number of tokens. The token indices are written out: a loop over 8 tokens and 2
/// groups is more than the compiler unrolls, and the accumulators would live in memory (a third of the speed).
macro_rules! tiles {
    ($($name:ident: $count:literal = $($t:literal)+;)+) => {
        /// A tile of `G` row groups and `tokens` tokens, 1 to [`TILE_TOKENS`], and as many sums as there are registers for.
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
        fn tile_of<const G: usize>(call: &mut Call<'_>, group: usize, token: usize, tokens: usize) {
            match tokens {
                $($count if G * $count <= 2 * TILE_TOKENS => $name::<G>(call, group, token),)+
                _ => unreachable!("no tile of {G} row groups has {tokens} tokens"),
            }
        }

        $(
            #[inline(never)]
            #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
            fn $name<const G: usize>(call: &mut Call<'_>, group: usize, token: usize) {
                let mut weights: [&[u8]; G] = [&[]; G];
                for g in 0..G {
                    weights[g] = call.group(group + g);
                    assert!(weights[g].len() == call.blocks * 64);
                }
                let tokens: [PaddedToken<'_>; $count] = [$(call.token(token + $t)),+];
                assert!(tokens.iter().all(|token| token.acts.len() >= call.blocks * 16));
                let ahead = call.ahead(G, token);
                let mask = _mm512_set1_epi8(3);
                let mut acc = [[_mm512_setzero_si512(); G]; $count];
                let mut w = [_mm512_setzero_si512(); G];
                for block in 0..call.blocks {
                    for g in 0..G {
                        // SAFETY: `block < blocks`, and each group has 64 bytes a block (checked above). A prefetch may name any address.
                        w[g] = unsafe {
                            let at = weights[g].as_ptr().add(block * 64);
                            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(ahead).cast());
                            _mm512_loadu_si512(at.cast())
                        };
                    }
                    plane!(0, w, G, [$($t)+], tokens, block, mask, acc);
                    plane!(1, w, G, [$($t)+], tokens, block, mask, acc);
                    plane!(2, w, G, [$($t)+], tokens, block, mask, acc);
                    plane!(3, w, G, [$($t)+], tokens, block, mask, acc);
                }
                $(
                    let act_sum = _mm512_set1_epi32(tokens[$t].sum);
                    for g in 0..G {
                        call.store(group + g, token + $t, _mm512_sub_epi32(acc[$t][g], act_sum));
                    }
                )+
            }
        )+
    };
}

tiles! {
    tile_1: 1 = 0;
    tile_2: 2 = 0 1;
    tile_3: 3 = 0 1 2;
    tile_4: 4 = 0 1 2 3;
    tile_5: 5 = 0 1 2 3 4;
    tile_6: 6 = 0 1 2 3 4 5;
    tile_7: 7 = 0 1 2 3 4 5 6;
    tile_8: 8 = 0 1 2 3 4 5 6 7;
}
