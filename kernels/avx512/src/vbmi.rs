//! `vpdpbusd` over [`LayoutId::T5R16`], five weights a byte, decoded in registers.
//!
//! A table of 128 bytes in two registers turns the lower seven bits of a byte into the four 2-bit codes of the weights `w0..w3`, for
//! which one `vpermi2b` is enough since the top bit is but their sign: where it is set, codes `u` become `2 - u`, all four in one masked
//! subtraction. The fifth weight depends on the lower six bits alone (the layout sees to both): one `vpermb`. From there on it is the
//! kernel of [`crate::vnni`] with five planes of four columns.
//!
//! A block costs 13 instructions for 320 weights where two bits cost 8 for 256: it pays where memory is the limit.

use std::arch::x86_64::{
    __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_and_si512, _mm512_dpbusd_epi32, _mm512_loadu_si512,
    _mm512_mask_sub_epi8, _mm512_movepi8_mask, _mm512_permutex2var_epi8, _mm512_permutexvar_epi8,
    _mm512_set1_epi8, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_srli_epi16, _mm512_sub_epi32,
};
use trit_kernel::{Cpu, Isa, Kernel, KernelInfo, PaddedToken, Unavailable};

use crate::rows16::{self, AHEAD, Body, Call, TILE_TOKENS, broadcast, plane_masks};

/// `DECODE[byte & 127]`: the codes of the first four weights at bits 0, 2, 4, 6, if they are not negative.
static DECODE: [u8; 128] = decode_table();
/// `FIFTH[byte & 63]`: the code of the fifth weight.
static FIFTH: [u8; 64] = fifth_table();

const fn decode_table() -> [u8; 128] {
    let mut table = [0; 128];
    let mut byte = 0;
    while byte < 128 {
        // Bytes that mean nothing are refused when weights are adopted; any entry will do for them.
        let u = 40 + byte % 64 % 21 * 2 + byte / 64;
        table[byte] =
            ((u % 3) | ((u / 3 % 3) << 2) | ((u / 9 % 3) << 4) | ((u / 27 % 3) << 6)) as u8;
        byte += 1;
    }
    table
}

const fn fifth_table() -> [u8; 64] {
    let mut table = [0; 64];
    let mut low = 0;
    while low < 64 {
        table[low] = (low / 21) as u8;
        low += 1;
    }
    table
}

/// Proof that the CPU has AVX-512 VBMI and VNNI: made by [`open`] alone.
struct Vbmi(());

pub(crate) fn open(cpu: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
    cpu.check(Isa::Avx512Vbmi)?;
    rows16::open(Vbmi(()))
}

impl Body for Vbmi {
    const INFO: &'static KernelInfo = &crate::VBMI;
    const TILE_GROUPS: usize = 2;

    fn gemv(&self, call: &mut Call<'_>) {
        // SAFETY: `self` exists, so `open` saw AVX-512 VBMI.
        unsafe { gemv(call) }
    }

    fn tile<const G: usize>(&self, call: &mut Call<'_>, group: usize, token: usize, tokens: usize) {
        // SAFETY: `self` exists, so `open` saw AVX-512 VBMI.
        unsafe { tile_of::<G>(call, group, token, tokens) }
    }
}

/// The tables in registers.
struct Tables {
    decode: [__m512i; 2],
    fifth: __m512i,
    /// Four codes 2.
    twos: __m512i,
}

impl Tables {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn load() -> Self {
        // SAFETY: the tables have 128 and 64 bytes.
        let [low, high, fifth] = unsafe {
            [
                _mm512_loadu_si512(DECODE.as_ptr().cast()),
                _mm512_loadu_si512(DECODE.as_ptr().add(64).cast()),
                _mm512_loadu_si512(FIFTH.as_ptr().cast()),
            ]
        };
        Self {
            decode: [low, high],
            fifth,
            twos: _mm512_set1_epi8(0xaau8 as i8),
        }
    }

    /// The four lower codes packed in a byte, and the fifth code.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn decode(&self, w: __m512i) -> (__m512i, __m512i) {
        let [low, high] = self.decode;
        let four = _mm512_permutex2var_epi8(low, w, high);
        let negative = _mm512_movepi8_mask(w);
        (
            _mm512_mask_sub_epi8(four, negative, self.twos, four),
            _mm512_permutexvar_epi8(w, self.fifth),
        )
    }
}

// Decoding takes so long that the eight sums of two blocks hide the latency of `vpdpbusd`.
rows16::gemv!(
    "avx512f,avx512bw,avx512vnni,avx512vbmi",
    20 columns,
    2 apart,
    (Tables::load(), plane_masks()),
    add_block
);

/// Adds the products of a block, codes where they stand in a decoded byte, a sum a plane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx512vbmi")]
fn add_block(
    acc: &mut [__m512i; 4],
    weights: &[u8; 64],
    acts: &[u8; 20],
    (tables, masks): &(Tables, [__m512i; 4]),
) {
    // SAFETY: the block is the 64 bytes that are loaded. A prefetch may name any address.
    let w = unsafe {
        _mm_prefetch::<_MM_HINT_T0>(weights.as_ptr().wrapping_add(AHEAD).cast());
        _mm512_loadu_si512(weights.as_ptr().cast())
    };
    let (four, fifth) = tables.decode(w);
    for p in 0..4 {
        // SAFETY: there are 20 activations.
        let act = unsafe { broadcast(acts.as_ptr().add(4 * p)) };
        acc[p] = _mm512_dpbusd_epi32(acc[p], _mm512_and_si512(four, masks[p]), act);
    }
    // SAFETY: as above.
    let act = unsafe { broadcast(acts.as_ptr().add(16)) };
    // The fifth code stands at bit 0, as those of the first plane do.
    acc[0] = _mm512_dpbusd_epi32(acc[0], fifth, act);
}

/// Adds the products of plane `$p` for all tokens of a tile; `$codes` are its codes, one register a row group.
macro_rules! plane {
    ($p:literal, $codes:ident, $groups:ident, [$($t:literal)+], $tokens:ident, $block:ident, $acc:ident) => {
        $(
            // SAFETY: `$block` is below the number of blocks, and each token has 20 bytes a block (checked by the tile).
            let act = unsafe { broadcast($tokens[$t].acts.as_ptr().add($block * 20 + $p * 4)) };
            for g in 0..$groups {
                $acc[$t][g] = _mm512_dpbusd_epi32($acc[$t][g], $codes[g], act);
            }
        )+
    };
}

/// Shifts plane `$p` of the packed codes `$four` down and masks it.
macro_rules! codes {
    ($p:literal, $four:ident, $groups:ident, $mask:ident) => {{
        let mut codes = $four;
        for g in 0..$groups {
            let shifted = if $p == 0 {
                $four[g]
            } else {
                _mm512_srli_epi16::<{ 2 * $p }>($four[g])
            };
            codes[g] = _mm512_and_si512(shifted, $mask);
        }
        codes
    }};
}

/// Tiles with the token indices written out, as in [`crate::vnni`].
macro_rules! tiles {
    ($($name:ident: $count:literal = $($t:literal)+;)+) => {
        /// A tile of `G` row groups and `tokens` tokens, 1 to [`TILE_TOKENS`], and as many sums as there are registers for.
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx512vbmi")]
        fn tile_of<const G: usize>(call: &mut Call<'_>, group: usize, token: usize, tokens: usize) {
            match tokens {
                $($count if G * $count <= 2 * TILE_TOKENS => $name::<G>(call, group, token),)+
                _ => unreachable!("no tile of {G} row groups has {tokens} tokens"),
            }
        }

        $(
            #[inline(never)]
            #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx512vbmi")]
            fn $name<const G: usize>(call: &mut Call<'_>, group: usize, token: usize) {
                let mut weights: [&[u8]; G] = [&[]; G];
                for g in 0..G {
                    weights[g] = call.group(group + g);
                    assert!(weights[g].len() == call.blocks * 64);
                }
                let tokens: [PaddedToken<'_>; $count] = [$(call.token(token + $t)),+];
                assert!(tokens.iter().all(|token| token.acts.len() >= call.blocks * 20));
                let ahead = call.ahead(G, token);
                let mask = _mm512_set1_epi8(3);
                let tables = Tables::load();
                let mut acc = [[_mm512_setzero_si512(); G]; $count];
                let mut four = [_mm512_setzero_si512(); G];
                let mut fifth = [_mm512_setzero_si512(); G];
                for block in 0..call.blocks {
                    for g in 0..G {
                        // SAFETY: `block < blocks`, and each group has 64 bytes a block (checked above). A prefetch may name any address.
                        let w = unsafe {
                            let at = weights[g].as_ptr().add(block * 64);
                            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(ahead).cast());
                            _mm512_loadu_si512(at.cast())
                        };
                        (four[g], fifth[g]) = tables.decode(w);
                    }
                    let codes = codes!(0, four, G, mask);
                    plane!(0, codes, G, [$($t)+], tokens, block, acc);
                    let codes = codes!(1, four, G, mask);
                    plane!(1, codes, G, [$($t)+], tokens, block, acc);
                    let codes = codes!(2, four, G, mask);
                    plane!(2, codes, G, [$($t)+], tokens, block, acc);
                    let codes = codes!(3, four, G, mask);
                    plane!(3, codes, G, [$($t)+], tokens, block, acc);
                    plane!(4, fifth, G, [$($t)+], tokens, block, acc);
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
