//! Narrow halves are the halves they were made of, and their products those of the halves, to the bit, on every implementation.

mod common;

use half::{bf16, f16};
use trit_kernel::Cpu;
use trit_ops::narrow::{GROUP, GROUP_BYTES, Narrow};
use trit_ops::{Floats, Ops, all};

use common::Rng;

/// A matrix of narrow halves.
#[derive(Debug, Default, PartialEq)]
struct Matrix {
    groups: Vec<u8>,
    bases: Vec<u8>,
    starts: Vec<u32>,
    misfits: Vec<(u16, f16)>,
}

impl Matrix {
    fn pack(ops: &dyn Ops, halves: &[f16], k: usize) -> Self {
        let mut made = Self::default();
        for row in halves.chunks_exact(k) {
            let mut groups = vec![0xaa; k / GROUP * GROUP_BYTES];
            made.starts.push(made.misfits.len() as u32);
            made.bases
                .push(ops.narrow_row(row, &mut groups, &mut made.misfits));
            made.groups.extend(groups);
        }
        made.starts.push(made.misfits.len() as u32);
        made
    }

    fn view(&self) -> Narrow<'_> {
        Narrow {
            groups: &self.groups,
            bases: &self.bases,
            starts: &self.starts,
            misfits: &self.misfits,
        }
    }
}

/// A sum of four uniform numbers, as a half that was a bf16 number.
fn trained(state: &mut Rng, unit: f32) -> f16 {
    let bits = state.next();
    let sum: i64 = (0..4).map(|j| (bits >> (12 * j) & 0xfff) as i64).sum();
    f16::from_f32(bf16::from_f32((sum - 8190) as f32 * unit).to_f32())
}

/// Rows of every kind, for a seed and a row length.
fn rows(seed: u64, k: usize) -> Vec<Vec<f16>> {
    let mut state = Rng(seed);
    let all = |value: f16| vec![value; k];
    let ordinary =
        |state: &mut Rng, unit| -> Vec<f16> { (0..k).map(|_| trained(state, unit)).collect() };
    let mut rows = vec![
        ordinary(&mut state, 1e-3),
        // Below the smallest normal half, where halves have fewer bits.
        ordinary(&mut state, 1e-7),
        ordinary(&mut state, 10.0),
        all(f16::ZERO),
        all(f16::NEG_ZERO),
        all(f16::MAX),
        all(f16::from_f32(-1.0)),
        all(f16::from_bits(1)),
        // Ten bits of fraction: nothing fits.
        (0..k)
            .map(|_| f16::from_bits(0x3001 | (state.next() & 0x87fe) as u16))
            .collect(),
        // Every binade of sixteen, and the one below.
        (0..k)
            .map(|i| f16::from_f32(2.0f32.powi(3 - (i % 16) as i32)))
            .collect(),
        (0..k)
            .map(|i| f16::from_f32(2.0f32.powi(3 - (i % 17) as i32)))
            .collect(),
    ];
    // A number in the way, in the first group, the last, and several.
    for (at, value) in [
        (0, f16::from_bits(0x3c01)),
        (k - 1, f16::ZERO),
        (k / 2, f16::NEG_ZERO),
    ] {
        let mut row = ordinary(&mut state, 1e-3);
        row[at] = value;
        rows.push(row);
    }
    let mut row = ordinary(&mut state, 1e-3);
    for at in (0..k).step_by(GROUP) {
        row[at + 5] = f16::from_bits(0x2fff);
    }
    rows.push(row);
    rows
}

#[test]
fn numbers_and_products_are_those_of_the_halves() {
    for ops in all(Cpu::uncapped()) {
        for k in [128, 256, 512, 640, 2560] {
            let mut kinds = rows(k as u64, k);
            // Streams have rows of every kind side by side.
            for count in [1, 3, 4, 7, 8, 15, 16, 17, 33] {
                kinds.rotate_left(3);
                let halves: Vec<f16> = kinds
                    .iter()
                    .cycle()
                    .take(count)
                    .flatten()
                    .copied()
                    .collect();
                let matrix = Matrix::pack(ops, &halves, k);
                let what = format!("{} k={k} rows={count}", ops.isa());
                let mut row = vec![f32::NAN; k];
                for (r, halves) in halves.chunks_exact(k).enumerate() {
                    matrix.view().row(r, &mut row);
                    for (got, want) in row.iter().zip(halves) {
                        assert_eq!(got.to_bits(), want.to_f32().to_bits(), "{what} row {r}");
                    }
                }
                let inputs = 9;
                let mut state = Rng(count as u64);
                let xs: Vec<f32> = (0..inputs * k)
                    .map(|_| (state.next() % 20_001) as f32 / 1e3 - 10.0)
                    .collect();
                let mut want = vec![f32::NAN; inputs * count];
                for (x, out) in xs.chunks_exact(k).zip(want.chunks_exact_mut(count)) {
                    ops.rows_dot(Floats::F16(&halves), x, out);
                }
                let mut got = vec![f32::NAN; inputs * count];
                for (x, out) in xs.chunks_exact(k).zip(got.chunks_exact_mut(count)) {
                    ops.rows_dot_narrow(matrix.view(), x, out);
                }
                let bits = |sums: &[f32]| sums.iter().map(|sum| sum.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&got), bits(&want), "{what}");
                got.fill(f32::NAN);
                ops.rows_dot_all_narrow(matrix.view(), &xs, &mut got);
                assert_eq!(bits(&got), bits(&want), "{what}, several inputs");
            }
        }
    }
}

#[test]
fn every_implementation_packs_alike() {
    let k = 384;
    let halves: Vec<f16> = rows(7, k).concat();
    let all = all(Cpu::uncapped());
    let want = Matrix::pack(all[0], &halves, k);
    for ops in all {
        assert!(Matrix::pack(ops, &halves, k) == want, "{}", ops.isa());
    }
}

#[test]
fn trained_numbers_fit_and_others_are_kept_apart() {
    let ops = trit_ops::best(Cpu::uncapped());
    let (k, mut state) = (2560, Rng(1));
    let halves: Vec<f16> = (0..200 * k).map(|_| trained(&mut state, 1e-3)).collect();
    let share =
        |halves: &[f16]| Matrix::pack(ops, halves, k).misfits.len() as f64 / halves.len() as f64;
    // What is left over is nearer to 0 than 2^-15 of the largest of its row.
    let misfits = share(&halves);
    assert!(misfits > 0.0 && misfits < 5e-4, "{misfits}");
    let exact: Vec<f16> = (0..200 * k)
        .map(|_| f16::from_f32(trained(&mut state, 1e-3).to_f32() * 1.1))
        .collect();
    assert!(share(&exact) > 0.7);
}

#[test]
fn bits_of_a_group() {
    let ops = trit_ops::best(Cpu::uncapped());
    let mut row = [f16::ONE; GROUP];
    // −2^-15 · 1.5 has code 0 above a base of 127 − 15, 1 has code 15.
    row[0] = f16::from_f32(-1.5 * 2.0f32.powi(-15));
    row[16] = f16::from_f32(1.0 + 1.0 / 128.0);
    row[96] = f16::from_f32(-1.5 * 2.0f32.powi(-14));
    // The number before it in size, and one with another bit, do not fit.
    row[1] = f16::from_f32(2.0f32.powi(-16));
    row[127] = f16::from_f32(1.0 + 1.0 / 256.0);
    let (mut group, mut misfits) = ([0; GROUP_BYTES], vec![(7, f16::ZERO)]);
    assert_eq!(ops.narrow_row(&row, &mut group, &mut misfits), 112);
    assert_eq!(misfits, [(7, f16::ZERO), (1, row[1]), (127, row[127])]);
    let word = |register: usize, at: usize| {
        u16::from_le_bytes([
            group[64 * register + 2 * at],
            group[64 * register + 2 * at + 1],
        ])
    };
    // Number 96 is 1 0001 1000000, whose nibbles lie in bits 14 to 11: 1000, 1100, 0000.
    assert_eq!(word(0, 0), 0x8000 | 0b1000 << 11 | 0b100_0000);
    assert_eq!(word(1, 0), 0b1100 << 11 | 15 << 7);
    assert_eq!(word(2, 0), 15 << 7);
    // Number 16, and number 112, which is 0 1111 0000000.
    assert_eq!(word(0, 1), 0b0111 << 11 | 15 << 7 | 1);
    assert_eq!(word(1, 1), 0b1000 << 11 | 15 << 7);
}
