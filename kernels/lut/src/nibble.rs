//! Look-ups of four bits on any vector width: the inner loop of pairs and triplets.

#![expect(
    clippy::inline_always,
    reason = "the loop must be inlined into a function that enables the instruction set"
)]

use std::hint::black_box;

use trit_kernel::{Cpu, Isa};

use crate::tables::{ENTRIES, MAX_BLOCKS, START, TRIPLETS, Tables, block_bytes, widen};
use crate::view::{LANES, Sums};

/// How far ahead of its reads a GEMV asks for its weights.
const AHEAD: usize = 4096;

/// One register of bytes on one instruction set. A value of the implementing type is the proof that the instructions can be
/// executed, so most methods are safe; they are to be inlined into a function that enables the instruction set.
pub(crate) trait Bytes: Copy + Send + Sync + 'static {
    /// A register.
    type V: Copy;
    /// The level this proves.
    const ISA: Isa;
    /// Bytes of a register: rows of a group that are looked up at once.
    const ROWS: usize;

    /// The proof, if `cpu` has the instruction set.
    fn open(cpu: Cpu) -> Option<Self>;

    fn splat(self, byte: u8) -> Self::V;
    /// # Safety
    /// [`Bytes::ROWS`] bytes must be readable.
    unsafe fn load(self, at: *const u8) -> Self::V;
    /// The same sixteen bytes in every sixteen.
    fn table(self, from: &[u8; 16]) -> Self::V;
    /// Bits 0 to 3 of each byte.
    fn low(self, v: Self::V) -> Self::V;
    /// Bits 4 to 7 of each byte.
    fn high(self, v: Self::V) -> Self::V;
    /// The byte of the table that each index below 16 names.
    fn look(self, table: Self::V, index: Self::V) -> Self::V;
    /// Minus each byte of `v` whose byte of `signs` has bit `7 − entry` set.
    fn negate(self, v: Self::V, signs: Self::V, entry: usize) -> Self::V;
    fn add_bytes(self, a: Self::V, b: Self::V) -> Self::V;
    fn add_words(self, a: Self::V, b: Self::V) -> Self::V;
    /// The upper byte of each 16-bit lane.
    fn odd(self, v: Self::V) -> Self::V;
    /// The 16-bit lanes; the rest of `to` is left alone.
    fn words(self, v: Self::V, to: &mut [u16; LANES / 2]);
    /// Asks for the cache line at `at`, which may be any address: nothing is read.
    fn prefetch(self, at: *const u8);

    /// Writes the tables of one token; what is missing of the last block is 0.
    ///
    /// # Panics
    /// When `out` is shorter than the activations.
    fn build<const W: usize>(self, acts: &[i8], out: &mut [Tables]);

    /// Calls [`pass`] where the instruction set is enabled, with as many registers of a row group at once as sums and operands
    /// allow.
    fn pass<const W: usize, const T: usize, const G: usize>(
        self,
        weights: [&[u8]; G],
        tokens: [&[Tables]; T],
        sums: &mut [Sums],
    );
}

/// Methods of [`Bytes`] that are one expression of intrinsics.
macro_rules! intrinsics {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? = $body:expr;)*) => {
        $(
            #[inline(always)]
            fn $name(self, $($arg: $type),*) $(-> $out)? {
                // SAFETY: the value exists only where `open` saw the instruction set; arrays have the size that is read or
                // written, and the instructions ask for no alignment.
                unsafe { $body }
            }
        )*
    };
}
pub(crate) use intrinsics;

/// [`Bytes::pass`] with some registers at once for one token, and some for several.
macro_rules! passes {
    ($features:literal, alone $alone:literal, several $several:literal) => {
        fn pass<const W: usize, const T: usize, const G: usize>(
            self,
            weights: [&[u8]; G],
            tokens: [&[Tables]; T],
            sums: &mut [Sums],
        ) {
            #[target_feature(enable = $features)]
            fn inner<const W: usize, const T: usize, const G: usize>(
                b: impl Bytes,
                weights: [&[u8]; G],
                tokens: [&[Tables]; T],
                sums: &mut [Sums],
            ) {
                if T == 1 {
                    pass::<_, W, $alone, T, G>(b, weights, tokens, sums);
                } else {
                    pass::<_, W, $several, T, G>(b, weights, tokens, sums);
                }
            }
            // SAFETY: the value exists only where `open` saw the instruction set.
            unsafe { inner::<W, T, G>(self, weights, tokens, sums) }
        }
    };
}
pub(crate) use passes;

/// `sums[g · T + t][r] += Σ weight · act` of `G` row groups, block by block in turn, and `T` tokens, with `H` registers of a row
/// group at once.
///
/// # Panics
/// When the lengths do not fit, or there are more than [`MAX_BLOCKS`] blocks.
#[inline(always)]
pub(crate) fn pass<B: Bytes, const W: usize, const H: usize, const T: usize, const G: usize>(
    b: B,
    weights: [&[u8]; G],
    tokens: [&[Tables]; T],
    sums: &mut [Sums],
) {
    let blocks = tokens[0].len();
    assert!(tokens.iter().all(|tables| tables.len() == blocks));
    assert!(
        weights
            .iter()
            .all(|w| w.len() == blocks * block_bytes::<W>())
    );
    assert!(blocks <= MAX_BLOCKS && sums.len() == G * T);
    for first in (0..LANES / B::ROWS).step_by(H) {
        // Indexed by group, register, token, and lower or upper part: sums of both rows of a 16-bit lane, and of the odd row.
        let mut all = [[[[b.splat(0); 2]; T]; H]; G];
        let mut odd = [[[[b.splat(0); 2]; T]; H]; G];
        for block in 0..blocks {
            for g in 0..G {
                // SAFETY: `block` is below the number of blocks, and each group holds all of them (checked above).
                let bytes = unsafe {
                    let at = weights[g]
                        .as_ptr()
                        .add(block * block_bytes::<W>() + first * B::ROWS);
                    run::<B, W, H, T>(b, at, tokens.map(|tables| tables.get_unchecked(block)))
                };
                // Where there are more sums than registers, memory it is: the compiler would move each there and back twice.
                let (all, odd) = if G * H * T > 4 {
                    (black_box(&mut all), black_box(&mut odd))
                } else {
                    (&mut all, &mut odd)
                };
                for h in 0..H {
                    for t in 0..T {
                        for part in 0..2 {
                            let bytes = bytes[h][t][part];
                            all[g][h][t][part] = b.add_words(all[g][h][t][part], bytes);
                            odd[g][h][t][part] = b.add_words(odd[g][h][t][part], b.odd(bytes));
                        }
                    }
                }
            }
        }
        for g in 0..G {
            for h in 0..H {
                for t in 0..T {
                    let words = |v: B::V| {
                        let mut words = [0; LANES / 2];
                        b.words(v, &mut words);
                        words
                    };
                    let [all, odd] = [all[g][h][t].map(words), odd[g][h][t].map(words)];
                    let lanes = ..B::ROWS / 2;
                    let start = (first + h) * B::ROWS;
                    widen(
                        [&all[0][lanes], &all[1][lanes]],
                        [&odd[0][lanes], &odd[1][lanes]],
                        blocks,
                        &mut sums[g * T + t][start..start + B::ROWS],
                    );
                }
            }
        }
    }
}

/// Adds up the look-ups of one block as bytes, lower and upper parts.
///
/// # Safety
/// `at` must be the first of `H` registers of rows in a block.
#[inline(always)]
unsafe fn run<B: Bytes, const W: usize, const H: usize, const T: usize>(
    b: B,
    at: *const u8,
    tokens: [&Tables; T],
) -> [[[B::V; 2]; T]; H] {
    let mut bytes = [[[b.splat(START); 2]; T]; H];
    let mut signs = [b.splat(0); H];
    if W == TRIPLETS {
        for (h, signs) in signs.iter_mut().enumerate() {
            // SAFETY: the fifth 64 bytes of the block.
            *signs = unsafe { b.load(at.add(4 * LANES + h * B::ROWS)) };
        }
    }
    if T == 1 {
        for line in 0..block_bytes::<W>() / 64 {
            b.prefetch(at.wrapping_add(AHEAD + line * 64));
        }
    }
    for i in 0..ENTRIES / 2 {
        let mut packed = signs;
        for (h, packed) in packed.iter_mut().enumerate() {
            // SAFETY: the `i`-th 64 bytes of the block.
            *packed = unsafe { b.load(at.add(i * LANES + h * B::ROWS)) };
        }
        for upper in 0..2 {
            let entry = 2 * i + upper;
            let index = packed.map(|packed| {
                if upper == 1 {
                    b.high(packed)
                } else {
                    b.low(packed)
                }
            });
            for t in 0..T {
                let (parts, _) = tokens[t][entry].as_chunks::<16>();
                for part in 0..2 {
                    let table = b.table(&parts[part]);
                    for h in 0..H {
                        let mut found = b.look(table, index[h]);
                        if W == TRIPLETS {
                            found = b.negate(found, signs[h], entry);
                        }
                        bytes[h][t][part] = b.add_bytes(bytes[h][t][part], found);
                    }
                }
            }
        }
    }
    bytes
}
