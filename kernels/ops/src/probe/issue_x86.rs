//! Issue loops of x86-64.

use std::arch::asm;
use std::arch::x86_64::{
    __m512i, _mm512_add_epi8, _mm512_loadu_si512, _mm512_mask_sub_epi8, _mm512_movepi8_mask,
    _mm512_permutex2var_epi8, _mm512_permutex2var_epi16, _mm512_setzero_si512, _mm512_shuffle_epi8,
    _mm512_storeu_si512,
};
use std::hint::black_box;

use trit_kernel::Isa;

use super::issue::IssueLoop;

/// Independent registers of a loop.
const CHAINS: usize = 16;

/// A register's bytes, or two registers' one after the other.
type Line = [u8; 64];

/// `start + i` for byte `i`.
const fn bytes(start: u8) -> Line {
    let mut out = [0; 64];
    let mut i = 0;
    while i < 64 {
        out[i] = start.wrapping_add(i as u8);
        i += 1;
    }
    out
}

/// `start + i` for 16-bit lane `i`.
const fn words(start: u8) -> Line {
    let mut out = [0; 64];
    let mut i = 0;
    while i < 32 {
        out[2 * i] = start + i as u8;
        i += 1;
    }
    out
}

/// `i mod 16` for byte `i`.
const fn sixteens() -> Line {
    let mut out = bytes(0);
    let mut i = 0;
    while i < 64 {
        out[i] %= 16;
        i += 1;
    }
    out
}

fn sum(line: &Line) -> u64 {
    line.iter().map(|byte| u64::from(*byte)).sum()
}

/// A loop of one instruction on [`CHAINS`] registers, from `$first` on; `$low` and `$high` are unknown to the compiler.
macro_rules! issue {
    ($name:ident, $features:literal, $first:expr, [$($line:expr),*], |$r:ident, $low:ident, $high:ident| $step:expr) => {
        fn $name(iterations: u64) -> u64 {
            #[target_feature(enable = $features)]
            unsafe fn inner(iterations: u64) -> u64 {
                // SAFETY: a line is 64 readable bytes.
                let load = |line: Line| unsafe { _mm512_loadu_si512(black_box(&line).as_ptr().cast()) };
                let [$low, $high] = [$($line),*].map(load);
                let mut registers = [$first; CHAINS].map(load);
                for _ in 0..iterations {
                    for $r in &mut registers {
                        *$r = $step;
                    }
                }
                total(&registers)
            }
            // SAFETY: this loop is listed, and can be called, only where `issue_loops` saw the instruction set.
            unsafe { inner(iterations) }
        }
    };
}

/// The sum of all bytes.
#[target_feature(enable = "avx512f")]
fn total(registers: &[__m512i]) -> u64 {
    let mut line = [0; 64];
    registers
        .iter()
        .map(|register| {
            // SAFETY: a line is 64 writable bytes.
            unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), *register) }
            sum(&line)
        })
        .sum()
}

// Tables that give back the index, so that the registers stay what they are.
issue!(
    vpermi2b,
    "avx512f,avx512bw,avx512vbmi",
    bytes(32),
    [bytes(0), bytes(64)],
    |r, low, high| _mm512_permutex2var_epi8(low, *r, high)
);
issue!(
    vpermt2w,
    "avx512f,avx512bw",
    words(16),
    [words(0), words(32)],
    |r, low, high| _mm512_permutex2var_epi16(low, *r, high)
);
issue!(
    vpshufb,
    "avx512f,avx512bw",
    sixteens(),
    [sixteens(), [0; 64]],
    |r, low, _high| _mm512_shuffle_epi8(low, *r)
);
issue!(
    vpaddb,
    "avx512f,avx512bw",
    bytes(0),
    [[1; 64], [0; 64]],
    |r, low, _high| _mm512_add_epi8(*r, low)
);
// Each register changes its sign in every byte.
issue!(
    vpsubb_masked,
    "avx512f,avx512bw",
    bytes(0),
    [[0x80; 64], [0; 64]],
    |r, low, _high| _mm512_mask_sub_epi8(*r, _mm512_movepi8_mask(low), _mm512_setzero_si512(), *r)
);

fn negated(iterations: u64) -> u64 {
    let line = bytes(0);
    let flipped = line.map(|byte| {
        if iterations % 2 == 1 {
            byte.wrapping_neg()
        } else {
            byte
        }
    });
    CHAINS as u64 * sum(&flipped)
}

/// Masks of eight steps; the result is the sum of the last ones.
fn vpmovb2m(iterations: u64) -> u64 {
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn inner(iterations: u64) -> u64 {
        // SAFETY: 64 readable bytes.
        let v = unsafe { _mm512_loadu_si512(black_box(&bytes(100)).as_ptr().cast()) };
        let mut masks = [0u64; 4];
        for _ in 0..iterations {
            for _ in 0..2 {
                let (a, b, c, d): (u64, u64, u64, u64);
                // SAFETY: writes four mask registers and nothing else.
                unsafe {
                    asm!(
                        "vpmovb2m {a}, {v}", "vpmovb2m {b}, {v}", "vpmovb2m {c}, {v}", "vpmovb2m {d}, {v}",
                        a = out(kreg) a, b = out(kreg) b, c = out(kreg) c, d = out(kreg) d, v = in(zmm_reg) v,
                        options(nomem, nostack, preserves_flags)
                    );
                }
                masks = [a, b, c, d];
            }
        }
        masks.iter().map(|mask| u64::from(mask.count_ones())).sum()
    }
    // SAFETY: this loop is listed, and can be called, only where `issue_loops` saw the instruction set.
    unsafe { inner(iterations) }
}

/// Row groups of a step's loop.
const GROUPS: usize = 8;
/// Two halves of a table of 128 sums.
const TABLES: [[Line; 2]; 2] = [[bytes(3), bytes(67)], [bytes(5), bytes(69)]];
/// The indices, and what a sign would be in bit 7.
const INDICES: Line = bytes(77);

/// The steps of `lut4` and, with a sign, of `lut5`: see `kernels/lut/src/wide.rs`.
fn wide<const SIGN: bool>(iterations: u64) -> u64 {
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    unsafe fn inner<const SIGN: bool>(iterations: u64) -> u64 {
        // SAFETY: a line is 64 readable bytes.
        let load = |line: Line| unsafe { _mm512_loadu_si512(black_box(&line).as_ptr().cast()) };
        let tables = TABLES.map(|table| table.map(load));
        let mut w = load(INDICES);
        let zero = _mm512_setzero_si512();
        let mut sums = [[zero; 2]; GROUPS];
        for _ in 0..iterations {
            for sums in &mut sums {
                // SAFETY: no instruction; the register comes out as it went in.
                unsafe {
                    asm!("/* {0} */", inout(zmm_reg) w, options(pure, nomem, nostack, preserves_flags));
                }
                let negative = _mm512_movepi8_mask(w);
                for (sum, [low, high]) in sums.iter_mut().zip(tables) {
                    let mut found = _mm512_permutex2var_epi8(low, w, high);
                    if SIGN {
                        found = _mm512_mask_sub_epi8(found, negative, zero, found);
                    }
                    *sum = _mm512_add_epi8(*sum, found);
                }
            }
        }
        total(sums.as_flattened())
    }
    // SAFETY: this loop is listed, and can be called, only where `issue_loops` saw the instruction set.
    unsafe { inner::<SIGN>(iterations) }
}

fn wide_sum<const SIGN: bool>(iterations: u64) -> u64 {
    let lane = |start: u8, index: u8| {
        let found = start.wrapping_add(index & 0x7f);
        let found = if SIGN && index > 0x7f {
            found.wrapping_neg()
        } else {
            found
        };
        u64::from(found.wrapping_mul(iterations as u8))
    };
    let lanes = INDICES.map(|index| lane(3, index) + lane(5, index));
    GROUPS as u64 * lanes.iter().sum::<u64>()
}

/// A line of the list for one instruction.
const fn line(
    (name, isa): (&'static str, Isa),
    run: fn(u64) -> u64,
    expected: fn(u64) -> u64,
    steps_per_iteration: usize,
    weights_per_step: u64,
) -> IssueLoop {
    IssueLoop {
        name,
        isa,
        steps_per_iteration: steps_per_iteration as u64,
        weights_per_step,
        run,
        expected,
    }
}

#[rustfmt::skip]
pub(super) static LOOPS: [IssueLoop; 8] = [
    line(("vpermi2b-512", Isa::Avx512Vbmi), vpermi2b, |_| CHAINS as u64 * sum(&bytes(32)), CHAINS, 0),
    line(("vpermt2w-512", Isa::Avx512), vpermt2w, |_| CHAINS as u64 * sum(&words(16)), CHAINS, 0),
    line(("vpshufb-512", Isa::Avx512), vpshufb, |_| CHAINS as u64 * sum(&sixteens()), CHAINS, 0),
    line(("vpaddb-512", Isa::Avx512), vpaddb, |n| CHAINS as u64 * sum(&bytes(n as u8)), CHAINS, 0),
    line(("vpsubb-masked-512", Isa::Avx512), vpsubb_masked, negated, CHAINS, 0),
    // Bytes 28 to 63 of those that start at 100 have bit 7 set.
    line(("vpmovb2m-512", Isa::Avx512), vpmovb2m, |_| 4 * 36, 8, 0),
    line(("lut4-step-512", Isa::Avx512Vbmi), wide::<false>, wide_sum::<false>, GROUPS, 256),
    line(("lut5-step-512", Isa::Avx512Vbmi), wide::<true>, wide_sum::<true>, GROUPS, 320),
];
