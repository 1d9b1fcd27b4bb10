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
    __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_add_epi32, _mm512_and_si512, _mm512_dpbusd_epi32,
    _mm512_loadu_si512, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_srai_epi32, _mm512_srli_epi16, _mm512_storeu_si512, _mm512_sub_epi32,
};
use std::ops::Range;

use trit_kernel::{
    Activations, Codes, Cpu, GemmArgs, Isa, Kernel, KernelInfo, LayoutId, Packed, PreparedBuf,
    Scales, Unavailable,
};

/// Rows that share a 64-byte block.
const LANES: usize = 16;
/// Row groups that GEMV walks at once: sixteen accumulators, and four streams for the prefetchers.
const STREAMS: usize = 4;
/// Tokens of a full GEMM tile. Two groups share a broadcast, so a block costs 14 instructions of unpacking for 64 products. Tiles of
/// 10 and 12 tokens fit the registers too, but ran at 70 % and 48 % of this speed on Zen 5 (tiles of 6: 97 %).
const TILE_TOKENS: usize = 8;
/// How far ahead GEMV asks for weights, in bytes of one stream.
const AHEAD: usize = 2048;

/// Proof that the CPU has AVX-512 VNNI: made by [`open`] alone.
struct Vnni(());

pub(crate) fn open(cpu: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
    cpu.check(Isa::Avx512Vnni)?;
    let kernel = Vnni(());
    if probe(&kernel) {
        Ok(Box::new(kernel))
    } else {
        Err(Unavailable::Probe(Isa::Avx512Vnni))
    }
}

/// Multiplies one small matrix whose sums are known: row `r` of all ones gives `Σ a`, of all minus ones `−Σ a`.
fn probe(kernel: &Vnni) -> bool {
    let (rows, k) = (17, 65);
    let codes: Vec<i8> = (0..rows * k).map(|i| 1 - (i / k % 3) as i8).collect();
    let acts: Vec<i8> = (0..2 * k).map(|i| (i % 251) as u8 as i8).collect();
    let Ok(codes) = Codes::new(&codes, rows, k) else {
        return false;
    };
    let Ok(weights) = Packed::pack(codes, LayoutId::R16, Scales::Tensor(1.0)) else {
        return false;
    };
    let mut prepared = PreparedBuf::new();
    let mut out = vec![0; 2 * rows];
    kernel.gemm(GemmArgs {
        weights: &weights,
        prepared: prepared.fill(kernel, Activations::new(&acts, 2, k)),
        rows: 0..rows,
        tokens: 0..2,
        scratch: &mut [],
        out: &mut out,
    });
    (0..2 * rows).all(|i| {
        let sum: i32 = acts[i / rows * k..][..k]
            .iter()
            .map(|a| i32::from(*a))
            .sum();
        out[i] == sum * (1 - (i % rows % 3) as i32)
    })
}

impl Kernel for Vnni {
    fn info(&self) -> &'static KernelInfo {
        &crate::VNNI
    }

    fn row_step(&self) -> usize {
        2 * LANES
    }

    fn token_step(&self) -> usize {
        1
    }

    /// The activations padded with zeros to a multiple of 64, then their sum as an i32 in a line of its own.
    fn prepared_group_bytes(&self, k: usize) -> usize {
        LayoutId::R16.padded_k(k) + 64
    }

    fn prepare(&self, activations: Activations<'_>, groups: Range<usize>, out: &mut [u8]) {
        let k = activations.k();
        let size = self.prepared_group_bytes(k);
        assert_eq!(out.len(), groups.len() * size, "prepared size");
        for (token, out) in groups.zip(out.chunks_exact_mut(size)) {
            let row = activations.row(token);
            let (acts, tail) = out.split_at_mut(size - 64);
            let mut sum = 0i32;
            for (out, act) in acts.iter_mut().zip(row) {
                *out = *act as u8;
                sum += i32::from(*act);
            }
            acts[k..].fill(0);
            tail.fill(0);
            tail[..4].copy_from_slice(&sum.to_ne_bytes());
        }
    }

    fn scratch_bytes(&self, _k: usize, _rows: usize, _tokens: usize) -> usize {
        0
    }

    fn gemm(&self, args: GemmArgs<'_>) {
        args.check(self.info(), 0);
        if args.out.is_empty() {
            return;
        }
        // SAFETY: `self` exists, so `open` saw AVX-512 VNNI.
        unsafe { gemm(args) }
    }
}

/// One call, split into what the tiles need.
struct Call<'a> {
    weights: &'a [u8],
    /// Bytes of one group of sixteen rows.
    group_bytes: usize,
    /// 64-byte blocks of a group.
    blocks: usize,
    prepared: &'a [u8],
    /// Bytes of one prepared token.
    token_bytes: usize,
    rows: Range<usize>,
    tokens: Range<usize>,
    out: &'a mut [i32],
}

impl<'a> Call<'a> {
    /// The bytes of row group `group`.
    fn group(&self, group: usize) -> &'a [u8] {
        &self.weights[group * self.group_bytes..(group + 1) * self.group_bytes]
    }

    /// The activations of one token and their sum.
    fn token(&self, token: usize) -> (&'a [u8], i32) {
        let bytes = &self.prepared[token * self.token_bytes..(token + 1) * self.token_bytes];
        let (acts, tail) = bytes.split_at(self.token_bytes - 64);
        let sum = i32::from_ne_bytes([tail[0], tail[1], tail[2], tail[3]]);
        (acts, sum)
    }

    /// Stores the sixteen sums of `group` for `token`: straight into the output where all rows are asked for.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn store(&mut self, group: usize, token: usize, sums: __m512i) {
        let first = group * LANES;
        let line = (token - self.tokens.start) * self.rows.len();
        if first >= self.rows.start && first + LANES <= self.rows.end {
            let at = line + first - self.rows.start;
            let out = &mut self.out[at..at + LANES];
            // SAFETY: `out` holds sixteen i32, the 64 bytes that are stored.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sums) }
        } else {
            let mut all = [0i32; LANES];
            // SAFETY: `all` holds sixteen i32, the 64 bytes that are stored.
            unsafe { _mm512_storeu_si512(all.as_mut_ptr().cast(), sums) }
            let from = self.rows.start.max(first);
            let to = self.rows.end.min(first + LANES);
            let at = line + from - self.rows.start;
            self.out[at..at + to - from].copy_from_slice(&all[from - first..to - first]);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn gemm(args: GemmArgs<'_>) {
    let k = args.weights.k();
    let mut call = Call {
        weights: args.weights.bytes(),
        group_bytes: LayoutId::R16.group_bytes(k),
        blocks: LayoutId::R16.padded_k(k) / 16,
        prepared: args.prepared.bytes(),
        token_bytes: LayoutId::R16.padded_k(k) + 64,
        rows: args.rows,
        tokens: args.tokens,
        out: args.out,
    };
    let groups = call.rows.start / LANES..call.rows.end.div_ceil(LANES);
    if call.tokens.len() == 1 {
        gemv(&mut call, groups);
        return;
    }
    let mut group = groups.start;
    while group < groups.end {
        let pair = (groups.end - group).min(2);
        let mut token = call.tokens.start;
        while token < call.tokens.end {
            let left = call.tokens.end - token;
            // A last sliver of one or two tokens would waste the unpacking: the last two tiles share evenly.
            let tile = match left {
                0..=TILE_TOKENS => left,
                n if n < 2 * TILE_TOKENS => n.div_ceil(2),
                _ => TILE_TOKENS,
            };
            if pair == 2 {
                tile_of::<2>(&mut call, group, token, tile);
            } else {
                tile_of::<1>(&mut call, group, token, tile);
            }
            token += tile;
        }
        group += pair;
    }
}

/// One token: `STREAMS` row groups at a time, a quarter of the rows apart, so that each stream runs on through memory and
/// what is prefetched past the end of a group is the next group of the same stream.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn gemv(call: &mut Call<'_>, groups: Range<usize>) {
    let quarter = groups.len() / STREAMS;
    for i in 0..quarter {
        let first = groups.start + i;
        gemv_groups::<STREAMS>(call, std::array::from_fn(|s| first + s * quarter));
    }
    for group in groups.start + quarter * STREAMS..groups.end {
        gemv_groups::<1>(call, [group]);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn gemv_groups<const S: usize>(call: &mut Call<'_>, groups: [usize; S]) {
    let token = call.tokens.start;
    let (acts, act_sum) = call.token(token);
    let weights: [&[u8]; S] = groups.map(|group| call.group(group));
    let masks = [0x03, 0x0c, 0x30, 0xc0u8].map(|mask| _mm512_set1_epi8(mask as i8));
    let mut acc = [[_mm512_setzero_si512(); 4]; S];
    assert!(acts.len() == call.blocks * 16 && weights.iter().all(|w| w.len() == call.blocks * 64));
    for block in 0..call.blocks {
        // SAFETY: `block < blocks`, and the activations have 16 bytes a block (checked above).
        let act: [__m512i; 4] =
            std::array::from_fn(|p| unsafe { broadcast(acts.as_ptr().add(block * 16 + p * 4)) });
        for s in 0..S {
            // SAFETY: `block < blocks`, and each group has 64 bytes a block (checked above). A prefetch may name any address.
            let w = unsafe {
                let at = weights[s].as_ptr().add(block * 64);
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
                _mm512_loadu_si512(at.cast())
            };
            for p in 0..4 {
                acc[s][p] = _mm512_dpbusd_epi32(acc[s][p], _mm512_and_si512(w, masks[p]), act[p]);
            }
        }
    }
    let act_sum = _mm512_set1_epi32(act_sum);
    for s in 0..S {
        let [a, b, c, d] = acc[s];
        // The codes of plane p stood 2p bits too high in every product, so the shifts are exact.
        let low = _mm512_add_epi32(a, _mm512_srai_epi32::<2>(b));
        let high = _mm512_add_epi32(_mm512_srai_epi32::<4>(c), _mm512_srai_epi32::<6>(d));
        let sums = _mm512_sub_epi32(_mm512_add_epi32(low, high), act_sum);
        call.store(groups[s], token, sums);
    }
}

/// Four activations in every dword.
///
/// # Safety
/// `at` must be readable for four bytes.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn broadcast(at: *const u8) -> __m512i {
    // SAFETY: the caller promises four readable bytes.
    _mm512_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() })
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
            let act = unsafe { broadcast($tokens[$t].0.as_ptr().add($block * 16 + $p * 4)) };
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
        /// A tile of `G` row groups and `tokens` tokens, 1 to [`TILE_TOKENS`].
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
        fn tile_of<const G: usize>(call: &mut Call<'_>, group: usize, token: usize, tokens: usize) {
            match tokens {
                $($count => $name::<G>(call, group, token),)+
                _ => unreachable!("tiles have 1 to {TILE_TOKENS} tokens"),
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
                let tokens: [(&[u8], i32); $count] = [$(call.token(token + $t)),+];
                assert!(tokens.iter().all(|(acts, _)| acts.len() == call.blocks * 16));
                let mask = _mm512_set1_epi8(3);
                let mut acc = [[_mm512_setzero_si512(); G]; $count];
                let mut w = [_mm512_setzero_si512(); G];
                for block in 0..call.blocks {
                    for g in 0..G {
                        // SAFETY: `block < blocks`, and each group has 64 bytes a block (checked above).
                        w[g] = unsafe { _mm512_loadu_si512(weights[g].as_ptr().add(block * 64).cast()) };
                    }
                    plane!(0, w, G, [$($t)+], tokens, block, mask, acc);
                    plane!(1, w, G, [$($t)+], tokens, block, mask, acc);
                    plane!(2, w, G, [$($t)+], tokens, block, mask, acc);
                    plane!(3, w, G, [$($t)+], tokens, block, mask, acc);
                }
                $(
                    let act_sum = _mm512_set1_epi32(tokens[$t].1);
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
