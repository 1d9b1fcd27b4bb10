//! What the kernels over sixteen interleaved rows share: all of [`Kernel`] but the inner loops, which are a [`Body`].

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_srai_epi32,
    _mm512_storeu_si512, _mm512_sub_epi32,
};
use std::ops::Range;

use trit_kernel::{
    Activations, GemmArgs, Kernel, KernelInfo, LayoutId, PaddedToken, Prepared, Unavailable,
};

/// Rows that share a 64-byte block.
pub(crate) const LANES: usize = 16;
/// Tokens of the largest GEMM tile, which has two groups: a block of two bits costs 14 instructions of unpacking for 64 products.
/// Tiles of 10 and 12 tokens fit the registers too, but ran at 70 % and 48 % of this speed on Zen 5 (tiles of 6: 97 %).
pub(crate) const TILE_TOKENS: usize = 8;
/// How many bytes ahead GEMV asks for weights. It reads a row group after the other, in the order of memory: one stream that is far
/// ahead gets more of the bandwidth of a core than four of which each is 2 KiB ahead.
pub(crate) const AHEAD: usize = 6144;

/// The inner loops of a kernel. A value is the proof that the instruction set is there.
pub(crate) trait Body: Send + Sync + 'static {
    /// The constant facts; the first layout is the one that is read.
    const INFO: &'static KernelInfo;

    /// Row groups of a tile where tokens are many, 2 or 4. A tile has sixteen accumulators: with four groups it unpacks twice as
    /// often as with two, and loads half as many activations.
    const TILE_GROUPS: usize;

    /// Stores the sums of the call's only token, a row group after the other.
    fn gemv(&self, call: &mut Call<'_>);

    /// Stores the sums of `tokens` tokens from `token` for `G` row groups from `group`: 1 to [`TILE_TOKENS`] tokens, with four
    /// groups up to half as many.
    fn tile<const G: usize>(&self, call: &mut Call<'_>, group: usize, token: usize, tokens: usize);
}

/// A kernel made of a body.
struct Rows16<B>(B);

impl<B: Body> Rows16<B> {
    const LAYOUT: LayoutId = B::INFO.accepts[0];
}

/// The kernel, if a small product comes out right.
pub(crate) fn open<B: Body>(body: B) -> Result<Box<dyn Kernel>, Unavailable> {
    let kernel = Rows16(body);
    if trit_kernel::probe(&kernel, 33, 85, 3) {
        Ok(Box::new(kernel))
    } else {
        Err(Unavailable::Probe(B::INFO.isa))
    }
}

impl<B: Body> Kernel for Rows16<B> {
    fn info(&self) -> &'static KernelInfo {
        B::INFO
    }

    fn row_step(&self) -> usize {
        2 * LANES
    }

    fn token_step(&self) -> usize {
        1
    }

    fn prepared_group_bytes(&self, k: usize) -> usize {
        PaddedToken::bytes(Self::LAYOUT.padded_k(k))
    }

    fn prepare(&self, activations: Activations<'_>, groups: Range<usize>, out: &mut [u8]) {
        let padded_k = Self::LAYOUT.padded_k(activations.k());
        PaddedToken::prepare(activations, padded_k, groups, out);
    }

    fn scratch_bytes(&self, _k: usize, _rows: usize, _tokens: usize) -> usize {
        0
    }

    fn gemm(&self, args: GemmArgs<'_>) {
        args.check(B::INFO, 0);
        let mut call = Call::new(Self::LAYOUT, args);
        let tokens = call.tokens();
        if tokens.len() == 1 {
            self.0.gemv(&mut call);
        } else {
            tiles(
                B::TILE_GROUPS,
                call.groups(),
                &tokens,
                |group, groups, token, tokens| match groups {
                    4 => self.0.tile::<4>(&mut call, group, token, tokens),
                    2 => self.0.tile::<2>(&mut call, group, token, tokens),
                    _ => self.0.tile::<1>(&mut call, group, token, tokens),
                },
            );
        }
    }
}

/// One call, split into what the tiles need.
pub(crate) struct Call<'a> {
    weights: &'a [u8],
    group_bytes: usize,
    /// 64-byte blocks of a row group.
    pub(crate) blocks: usize,
    prepared: Prepared<'a>,
    rows: Range<usize>,
    tokens: Range<usize>,
    out: &'a mut [i32],
}

impl<'a> Call<'a> {
    fn new(layout: LayoutId, args: GemmArgs<'a>) -> Self {
        let k = args.weights.k();
        Self {
            weights: args.weights.bytes(),
            group_bytes: layout.group_bytes(k),
            blocks: layout.group_bytes(k) / 64,
            prepared: args.prepared,
            rows: args.rows,
            tokens: args.tokens,
            out: args.out,
        }
    }

    /// The row groups of the call, the first and last of them perhaps in part.
    pub(crate) fn groups(&self) -> Range<usize> {
        self.rows.start / LANES..self.rows.end.div_ceil(LANES)
    }

    /// The tokens of the call.
    pub(crate) fn tokens(&self) -> Range<usize> {
        self.tokens.clone()
    }

    /// The `64 · blocks` bytes of row group `group`.
    pub(crate) fn group(&self, group: usize) -> &'a [u8] {
        &self.weights[group * self.group_bytes..(group + 1) * self.group_bytes]
    }

    /// How far ahead of its weights a tile of `groups` row groups asks for memory: to the next tile of rows for the first tokens,
    /// nowhere for the others, which find their weights in the cache.
    pub(crate) fn ahead(&self, groups: usize, token: usize) -> usize {
        if token == self.tokens.start {
            groups * self.group_bytes
        } else {
            0
        }
    }

    /// The activations of one token and their sum.
    pub(crate) fn token(&self, token: usize) -> PaddedToken<'a> {
        PaddedToken::read(self.prepared, token)
    }

    /// Stores the sixteen sums of `group` for `token`: straight into the output where all rows are asked for.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn store(&mut self, group: usize, token: usize, sums: __m512i) {
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
            self.store_some(first, line, &all);
        }
    }

    /// Stores those of the sums of the rows from `first` that are asked for. Apart, so that the usual store becomes part of a tile.
    #[cold]
    fn store_some(&mut self, first: usize, line: usize, sums: &[i32; LANES]) {
        let from = self.rows.start.max(first);
        let to = self.rows.end.min(first + LANES);
        let at = line + from - self.rows.start;
        self.out[at..at + to - from].copy_from_slice(&sums[from - first..to - first]);
    }
}

/// Visits the tiles of a GEMM: row groups outside, so that their weights stay in L1 while the tokens pass by, `wide` of them at a
/// time where the tokens do not fit one tile. `visit(group, groups, token, tokens)` gets `wide`, two or one groups.
fn tiles(
    wide: usize,
    groups: Range<usize>,
    tokens: &Range<usize>,
    mut visit: impl FnMut(usize, usize, usize, usize),
) {
    let wide = if tokens.len() > TILE_TOKENS { wide } else { 2 };
    let mut group = groups.start;
    while group < groups.end {
        let left = groups.end - group;
        let count = if left < wide { left.min(2) } else { wide };
        let most = (2 * TILE_TOKENS / count).min(TILE_TOKENS);
        let mut token = tokens.start;
        while token < tokens.end {
            let left = tokens.end - token;
            // A last sliver of a token or two would waste the unpacking, so the last two tiles share evenly.
            let tile = if left <= most {
                left
            } else if left < 2 * most {
                left.div_ceil(2)
            } else {
                most
            };
            visit(group, count, token, tile);
            token += tile;
        }
        group += count;
    }
}

/// A function `gemv` that stores the sums of a call's only token for all row groups. `$add` adds the products of a block and the
/// `$columns` activations that it meets to the sums of four planes, with the registers that `$tables` makes; `$unroll` blocks are added
/// up apart. A macro, since the loop has to be compiled for the instruction set of the kernel.
macro_rules! gemv {
    ($features:literal, $columns:literal columns, $unroll:literal apart, $tables:expr, $add:ident) => {
        #[target_feature(enable = $features)]
        fn gemv(call: &mut Call<'_>) {
            let token = call.tokens().start;
            let PaddedToken { acts, sum } = call.token(token);
            let tables = $tables;
            let (acts, _) = acts[..call.blocks * $columns].as_chunks::<$columns>();
            let (act_sets, act_rest) = acts.as_chunks::<$unroll>();
            for group in call.groups() {
                let mut acc = [[_mm512_setzero_si512(); 4]; $unroll];
                let (weights, _) = call.group(group).as_chunks();
                let (sets, rest) = weights.as_chunks::<$unroll>();
                for (weights, acts) in sets.iter().zip(act_sets) {
                    for u in 0..$unroll {
                        $add(&mut acc[u], &weights[u], &acts[u], &tables);
                    }
                }
                for (weights, acts) in rest.iter().zip(act_rest) {
                    $add(&mut acc[0], weights, acts, &tables);
                }
                let sums = rows16::join_planes(rows16::sum_planes(acc), sum);
                call.store(group, token, sums);
            }
        }
    };
}
pub(crate) use gemv;

/// Masks of the four planes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn plane_masks() -> [__m512i; 4] {
    [0x03, 0x0c, 0x30, 0xc0u8].map(|mask| _mm512_set1_epi8(mask as i8))
}

/// The sums of the products of each plane, where a block adds to `acc[block % U]`. With fewer sums a product would wait for the one
/// before it.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn sum_planes<const U: usize>(acc: [[__m512i; 4]; U]) -> [__m512i; 4] {
    let mut sums = acc[0];
    for acc in &acc[1..] {
        for (sum, acc) in sums.iter_mut().zip(acc) {
            *sum = _mm512_add_epi32(*sum, *acc);
        }
    }
    sums
}

/// `Σ weight · act` of sixteen rows from the sums of `code · act` of the four planes, in which codes stood where they stand in the byte,
/// plane `p` at bit `2p`, and the sum of the activations. The shifts are exact.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn join_planes([a, b, c, d]: [__m512i; 4], act_sum: i32) -> __m512i {
    let low = _mm512_add_epi32(a, _mm512_srai_epi32::<2>(b));
    let high = _mm512_add_epi32(_mm512_srai_epi32::<4>(c), _mm512_srai_epi32::<6>(d));
    _mm512_sub_epi32(_mm512_add_epi32(low, high), _mm512_set1_epi32(act_sum))
}

/// Four activations in every dword.
///
/// # Safety
/// `at` must be readable for four bytes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn broadcast(at: *const u8) -> __m512i {
    // SAFETY: the caller promises four readable bytes.
    _mm512_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() })
}
