//! Products with packed blocks: the layout bit by bit, the stated order word by word, and how far it all is from the product of the
//! numbers that files hold.
#![expect(
    clippy::unwrap_used,
    reason = "a test says by panicking what went wrong"
)]

mod common;

use half::f16;
use trit_kernel::Cpu;
use trit_ops::{BlockType, Blocks, Digits, all};

use common::Rng;

const KINDS: [BlockType; 2] = [BlockType::Q6K, BlockType::Q4_0];

/// Where the scale `d` of a block is in a file.
fn scale_at(kind: BlockType) -> usize {
    match kind {
        BlockType::Q4_0 => 0,
        BlockType::Q6K => 208,
    }
}

/// Code of number `i` of a block in a file, the offset of codes, and what its sixteen are scaled with beside `d`.
fn number(kind: BlockType, block: &[u8], i: usize) -> (u8, i64, i8) {
    match kind {
        BlockType::Q4_0 => {
            let byte = block[2 + i % 16];
            (if i < 16 { byte & 15 } else { byte >> 4 }, 8, 1)
        }
        BlockType::Q6K => {
            // ggml's numbering: in each half of 128, l in 0..32 has the elements l, l + 32, l + 64 and l + 96.
            let (half, l, quarter) = (i / 128, i % 32, i % 128 / 32);
            let low = block[64 * half + l + [0, 32, 0, 32][quarter]];
            let low = if quarter < 2 { low & 15 } else { low >> 4 };
            let high = block[128 + 32 * half + l] >> [0, 2, 4, 6][quarter] & 3;
            let scale = block[192 + 8 * half + l / 16 + 2 * quarter] as i8;
            (low | high << 4, 32, scale)
        }
    }
}

fn d(kind: BlockType, block: &[u8]) -> f32 {
    let at = scale_at(kind);
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Every number of a row in a file.
fn floats(kind: BlockType, row: &[u8]) -> Vec<f64> {
    row.chunks_exact(kind.bytes())
        .flat_map(|block| {
            (0..kind.numbers()).map(move |i| {
                let (code, offset, scale) = number(kind, block, i);
                f64::from(d(kind, block)) * f64::from(scale) * (i64::from(code) - offset) as f64
            })
        })
        .collect()
}

/// Inputs as integers, and their step.
fn digits(x: &[f32]) -> (Vec<i64>, f32) {
    if x.iter().any(|x| x.is_nan()) {
        return (vec![0; x.len()], f32::NAN);
    }
    let max = x.iter().fold(1e-30f32, |max, x| max.max(x.abs()));
    let by = 16_256.0 / max;
    let a = x.iter().map(|x| {
        let a = x * by;
        if a.is_nan() {
            0
        } else {
            a.round_ties_even() as i64
        }
    });
    (a.collect(), max / 16_256.0)
}

/// The product of a row with an input, as it is defined.
fn product(kind: BlockType, row: &[u8], x: &[f32]) -> f32 {
    let (a, step) = digits(x);
    let mut sum = 0.0f32;
    let inputs = a.chunks_exact(kind.numbers());
    for (block, a) in row.chunks_exact(kind.bytes()).zip(inputs) {
        let mut of_block = 0.0f32;
        for (sixteen, a) in a.chunks_exact(16).enumerate() {
            let mut t = 0;
            for (c, a) in a.iter().enumerate() {
                let (code, offset, _) = number(kind, block, 16 * sixteen + c);
                t += (i64::from(code) - offset) * a;
            }
            assert!(t.abs() < 1 << 23, "{t}");
            let (_, _, scale) = number(kind, block, 16 * sixteen);
            of_block = (t as f32).mul_add(f32::from(scale), of_block);
        }
        sum = of_block.mul_add(d(kind, block), sum);
    }
    sum * step
}

/// What blocks are made of.
#[derive(Clone, Copy, Debug)]
enum Weights {
    Random,
    /// All codes 0, scales −128.
    Zeros,
    /// All codes the largest, scales 127.
    Ones,
    /// Rows of either in turn, with scales of either sign and the largest `d`.
    Extremes,
}

impl Weights {
    const ALL: [Self; 4] = [Self::Random, Self::Zeros, Self::Ones, Self::Extremes];

    fn rows(self, kind: BlockType, rows: usize, k: usize, rng: &mut Rng) -> Vec<u8> {
        let mut bytes = vec![0; rows * k / kind.numbers() * kind.bytes()];
        for (at, block) in bytes.chunks_exact_mut(kind.bytes()).enumerate() {
            let (codes, scale, d) = match (self, at % 3) {
                (Self::Random, _) => (None, None, rng.unit() / 16.0),
                (Self::Zeros, _) | (Self::Extremes, 0) => (Some(0), Some(-128), 0.01),
                (Self::Ones, _) => (Some(255), Some(127), -1e-6),
                (Self::Extremes, 1) => (Some(255), Some(-128), 65_504.0),
                (Self::Extremes, _) => (Some(0), Some(127), -65_504.0),
            };
            for byte in &mut *block {
                *byte = codes.unwrap_or((rng.next() >> 56) as u8);
            }
            if let (BlockType::Q6K, Some(scale)) = (kind, scale) {
                let scale: i8 = scale;
                block[192..208].fill(scale as u8);
            }
            let at = scale_at(kind);
            block[at..at + 2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
        }
        bytes
    }
}

/// Number `i` of an input.
type Input = fn(usize, &mut Rng) -> f32;

/// What inputs are made of.
const INPUTS: [(&str, Input); 13] = [
    ("random", |_, rng| rng.unit()),
    ("wide", |_, rng| rng.unit().powi(9) * 300.0),
    ("any finite", |_, rng| {
        let x = f32::from_bits((rng.next() >> 32) as u32);
        if x.is_finite() { x } else { -0.0 }
    }),
    ("equal", |_, _| 0.7),
    ("equal, below zero", |_, _| -3.0),
    ("alternating", |i, _| if i % 2 == 0 { 1.0 } else { -1.0 }),
    ("one of them", |i, _| if i == 37 { -2.5 } else { 0.0 }),
    ("zeros", |i, _| if i % 3 == 0 { 0.0 } else { -0.0 }),
    ("huge", |i, _| if i % 2 == 0 { f32::MAX } else { f32::MIN }),
    ("denormal", |i, _| f32::from_bits(1 + i as u32)),
    ("halves of a step", |i, _| {
        if i == 0 { 16_256.0 } else { i as f32 - 100.5 }
    }),
    ("one NaN", |i, _| if i == 20 { f32::NAN } else { 1.0 }),
    (
        "one infinity",
        |i, _| if i == 9 { f32::INFINITY } else { 1.0 },
    ),
];

/// Rows of a file laid out, sixteen by sixteen.
fn packed(kind: BlockType, rows: &[u8], k: usize) -> Vec<u8> {
    let size = kind.group_bytes(k).unwrap();
    let mut out = Vec::new();
    for rows in rows.chunks(k / kind.numbers() * kind.bytes() * BlockType::ROWS) {
        let mut group = vec![0xA5; size];
        kind.pack(rows, k, &mut group);
        out.extend(group);
    }
    out
}

fn same(got: f32, want: f32) -> bool {
    got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan()
}

#[test]
fn the_layout_bit_by_bit() {
    let mut rng = Rng(1);
    for kind in KINDS {
        let (blocks, rows) = (3, 13);
        let k = blocks * kind.numbers();
        let file = Weights::Random.rows(kind, rows, k, &mut rng);
        let out = packed(kind, &file, k);
        assert_eq!(out.len(), 16 * blocks * kind.bytes());
        let empty = vec![0; kind.bytes()];
        for row in 0..16 {
            for at in 0..blocks {
                let from = (row * blocks + at) * kind.bytes();
                let block = file.get(from..from + kind.bytes()).unwrap_or(&empty);
                let scale = 32 * at + 2 * row;
                assert_eq!(
                    out[scale..scale + 2],
                    block[scale_at(kind)..scale_at(kind) + 2]
                );
                for i in 0..kind.numbers() {
                    let (code, _, scale) = number(kind, block, i);
                    let (sixteen, q, byte) = (i / 16, i / 4 % 4, 4 * row + i % 4);
                    let got = match kind {
                        BlockType::Q4_0 => {
                            let lines = &out[32 * blocks + 256 * at + 128 * sixteen..];
                            lines[64 * (q % 2) + byte] >> (4 * (q / 2)) & 15
                        }
                        BlockType::Q6K => {
                            let block = &out[32 * blocks + 3328 * at..];
                            assert_eq!(block[3072 + 16 * sixteen + row] as i8, scale);
                            let line = |q: usize| block[192 * sixteen + 64 * q + byte];
                            match q {
                                3 => line(0) >> 6 << 4 | line(1) >> 6 << 2 | line(2) >> 6,
                                _ => line(q) & 63,
                            }
                        }
                    };
                    assert_eq!(got, code, "{kind:?} row {row} block {at} number {i}");
                }
            }
        }
    }
}

#[test]
fn products_are_equal_to_the_bit_on_every_instruction_set() {
    let mut rng = Rng(2);
    for kind in KINDS {
        for blocks in [1, 2, 5] {
            let k = blocks * kind.numbers().max(64);
            for weights in Weights::ALL {
                for rows in [0, 1, 15, 16, 17, 37] {
                    let file = weights.rows(kind, rows, k, &mut rng);
                    let bytes = packed(kind, &file, k);
                    // All of them as the inputs of one call, so that tiles of every size meet all kinds.
                    let xs: Vec<f32> = INPUTS
                        .iter()
                        .flat_map(|(_, one)| (0..k).map(|i| one(i, &mut rng)).collect::<Vec<_>>())
                        .collect();
                    let row_bytes = k / kind.numbers() * kind.bytes();
                    let want: Vec<f32> = xs
                        .chunks_exact(k)
                        .flat_map(|x| {
                            let rows = file.chunks_exact(row_bytes);
                            rows.map(|row| product(kind, row, x)).collect::<Vec<_>>()
                        })
                        .collect();
                    for (nth, ops) in all(Cpu::uncapped()).into_iter().enumerate() {
                        let mut digits = Digits::default();
                        ops.digits(kind, k, &xs, &mut digits);
                        let mut got = vec![7.0; want.len()];
                        ops.rows_dot_blocks(
                            Blocks {
                                kind,
                                bytes: &bytes,
                            },
                            rows,
                            &digits,
                            &mut got,
                        );
                        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                            assert!(
                                same(*got, *want),
                                "{nth} {} {kind:?} {weights:?} k={k} rows={rows}, `{}`: {got:e} for {want:e}",
                                ops.isa(),
                                INPUTS[i / rows].0,
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_number_of_inputs_gives_what_one_gives() {
    let mut rng = Rng(3);
    for kind in KINDS {
        let (k, rows) = (768, 40);
        let bytes = packed(kind, &Weights::Random.rows(kind, rows, k, &mut rng), k);
        let blocks = Blocks {
            kind,
            bytes: &bytes,
        };
        for ops in all(Cpu::uncapped()) {
            // Digits are made anew in the same place, for more and for fewer inputs.
            let mut digits = Digits::default();
            for count in [9, 0, 1, 2, 3, 4, 5, 8] {
                let xs: Vec<f32> = (0..count * k).map(|_| rng.unit()).collect();
                let mut got = vec![f32::NAN; count * rows];
                ops.digits(kind, k, &xs, &mut digits);
                assert_eq!(digits.len(), count);
                ops.rows_dot_blocks(blocks, rows, &digits, &mut got);
                for (x, got) in xs.chunks_exact(k).zip(got.chunks_exact(rows)) {
                    let mut one = vec![f32::NAN; rows];
                    ops.digits(kind, k, x, &mut digits);
                    ops.rows_dot_blocks(blocks, rows, &digits, &mut one);
                    assert_eq!(got, one, "{kind:?} {} {count}", ops.isa());
                }
            }
        }
    }
}

#[test]
fn products_are_those_of_the_numbers_but_for_half_a_step() {
    let mut rng = Rng(4);
    for kind in KINDS {
        let (k, rows) = (2560, 32);
        for weights in Weights::ALL {
            let file = weights.rows(kind, rows, k, &mut rng);
            let bytes = packed(kind, &file, k);
            for (name, one) in &INPUTS[..11] {
                let x: Vec<f32> = (0..k).map(|i| one(i, &mut rng)).collect();
                let max = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
                // Products of the largest numbers have no f32, and inputs below the floor no step.
                if !(1e-30..=1e25).contains(&max) {
                    continue;
                }
                let ops = trit_ops::best(Cpu::uncapped());
                let (mut digits, mut got) = (Digits::default(), vec![f32::NAN; rows]);
                ops.digits(kind, k, &x, &mut digits);
                ops.rows_dot_blocks(
                    Blocks {
                        kind,
                        bytes: &bytes,
                    },
                    rows,
                    &digits,
                    &mut got,
                );
                let (mut error, mut size) = (0.0, 0.0);
                for (row, got) in file.chunks_exact(bytes.len() / rows).zip(&got) {
                    let w = floats(kind, row);
                    let of = |f: fn(f64, f64) -> f64| -> f64 {
                        w.iter().zip(&x).map(|(w, x)| f(*w, f64::from(*x))).sum()
                    };
                    let exact = of(|w, x| w * x);
                    // Half a step for each number, the step itself in f32, and 90 roundings of sums.
                    let steps = of(|w, _| w.abs()) * f64::from(max) / 16_256.0 * 0.501;
                    let bound = steps + 6e-6 * of(|w, x| (w * x).abs());
                    let off = (f64::from(*got) - exact).abs();
                    assert!(
                        off <= bound,
                        "{kind:?} {weights:?} {name}: {got} {exact} {bound}"
                    );
                    error += off * off;
                    size += exact * exact;
                }
                if matches!((weights, *name), (Weights::Random, "random")) {
                    // Of the numbers a file holds: the blocks themselves are some 100 times as far from a trained matrix.
                    let relative = (error / size).sqrt();
                    assert!(relative < 1e-4, "{kind:?}: {relative:e}");
                }
            }
        }
    }
}

#[test]
fn inputs_below_the_floor_are_zeros_and_others_that_are_small_are_not() {
    let (k, kind) = (256, BlockType::Q6K);
    let bytes = packed(kind, &Weights::Ones.rows(kind, 16, k, &mut Rng(5)), k);
    for ops in all(Cpu::uncapped()) {
        for (x, zero) in [(1e-40, true), (1e-36, true), (1e-32, false), (1e-20, false)] {
            let (mut digits, mut got) = (Digits::default(), vec![f32::NAN; 16]);
            ops.digits(kind, k, &[x; 256], &mut digits);
            ops.rows_dot_blocks(
                Blocks {
                    kind,
                    bytes: &bytes,
                },
                16,
                &digits,
                &mut got,
            );
            let isa = ops.isa();
            assert!(
                got.iter().all(|y| (*y == 0.0) == zero),
                "{isa} {x:e} {got:?}"
            );
        }
    }
}

#[test]
fn sizes_are_those_of_files_and_only_of_whole_blocks() {
    assert_eq!(BlockType::Q6K.group_bytes(2560), Some(16 * 2100));
    assert_eq!(BlockType::Q4_0.group_bytes(2560), Some(16 * 1440));
    assert_eq!(BlockType::Q6K.group_bytes(128), None);
    assert_eq!(BlockType::Q4_0.group_bytes(usize::MAX - 31), None);
    let mut digits = Digits::default();
    trit_ops::best(Cpu::uncapped()).digits(BlockType::Q4_0, 32, &[1.0; 64], &mut digits);
    assert_eq!((digits.len(), digits.is_empty()), (2, false));
    assert_eq!(Digits::bytes(32), 2 * 40 + 4);
}

#[test]
#[should_panic(expected = "whole blocks")]
fn inputs_of_broken_blocks_panic() {
    let ops = all(Cpu::uncapped())[0];
    ops.digits(BlockType::Q4_0, 31, &[0.0; 31], &mut Digits::default());
}

#[test]
#[should_panic(expected = "another type")]
fn digits_of_another_type_panic() {
    let ops = all(Cpu::uncapped())[0];
    let mut digits = Digits::default();
    ops.digits(BlockType::Q4_0, 256, &[0.0; 256], &mut digits);
    let blocks = Blocks {
        kind: BlockType::Q6K,
        bytes: &[0; 16 * 210],
    };
    ops.rows_dot_blocks(blocks, 16, &digits, &mut [0.0; 16]);
}

#[test]
#[should_panic(expected = "rows x k")]
fn too_few_rows_panic() {
    let ops = all(Cpu::uncapped())[0];
    let mut digits = Digits::default();
    ops.digits(BlockType::Q6K, 256, &[0.0; 256], &mut digits);
    let blocks = Blocks {
        kind: BlockType::Q6K,
        bytes: &[0; 16 * 210],
    };
    ops.rows_dot_blocks(blocks, 17, &digits, &mut [0.0; 17]);
}

#[test]
#[should_panic(expected = "whole rows")]
fn packing_parts_of_rows_panics() {
    BlockType::Q6K.pack(&[0; 211], 256, &mut [0; 16 * 210]);
}
