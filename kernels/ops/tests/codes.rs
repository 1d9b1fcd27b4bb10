//! Numbers that are stored as codes: dot products and attention are those of a reference that decodes first, on every
//! instruction set.

mod common;

use trit_kernel::Cpu;
use trit_ops::{Attention, Floats, all};

use common::Rng;

fn codes(rng: &mut Rng, len: usize) -> Vec<i8> {
    (0..len).map(|_| (rng.next() >> 56) as i8).collect()
}

/// Sixteen lanes and one tree, word by word.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        lanes[i % 16] = a.mul_add(*b, lanes[i % 16]);
    }
    for half in [8, 4, 2, 1] {
        for j in 0..half {
            lanes[j] += lanes[j + half];
        }
    }
    lanes[0]
}

fn widen(codes: &[i8]) -> Vec<f32> {
    codes.iter().map(|c| f32::from(*c)).collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn int8_rows_are_summed_as_codes_and_scaled() {
    let mut rng = Rng(1);
    for k in [1, 15, 16, 17, 64, 65, 256, 2560] {
        for rows in [0, 1, 3, 4, 5, 13] {
            let (codes, x, scales) = (codes(&mut rng, rows * k), rng.floats(k), rng.floats(rows));
            let want: Vec<f32> = (0..rows)
                .map(|r| dot(&widen(&codes[r * k..(r + 1) * k]), &x) * scales[r])
                .collect();
            for ops in all(Cpu::uncapped()) {
                let mut got = vec![f32::NAN; rows];
                ops.rows_dot(Floats::I8(&codes, &scales), &x, &mut got);
                assert_eq!(bits(&got), bits(&want), "{} k={k} rows={rows}", ops.isa());
            }
        }
    }
}

#[test]
fn attention_over_int8_keys_and_values() {
    let mut rng = Rng(3);
    for dim in [16, 17, 64, 128] {
        for heads in [1, 2, 4, 5, 8] {
            for positions in [1, 2, 5, 16, 33] {
                let queries = rng.floats(heads * dim);
                // Whole blocks: what is behind the positions is not used.
                let whole = usize::next_multiple_of(positions, 16);
                let (keys, values) = (codes(&mut rng, whole * dim), codes(&mut rng, whole * dim));
                let scale_of = |rng: &mut Rng| -> Vec<f32> {
                    rng.floats(whole).iter().map(|x| x.abs() / 64.0).collect()
                };
                let (key_scales, value_scales) = (scale_of(&mut rng), scale_of(&mut rng));
                let scale = 1.0 / (dim as f32).sqrt();
                let scalar = all(Cpu::uncapped())[0];
                let key = |position: usize, feature: usize| {
                    f32::from(keys[(position / 16 * dim + feature) * 16 + position % 16])
                };
                let mut want = Vec::new();
                for q in queries.chunks_exact(dim) {
                    let score = |p: usize| {
                        let sum = (0..dim).fold(0.0f32, |sum, i| q[i].mul_add(key(p, i), sum));
                        sum * key_scales[p] * scale
                    };
                    let mut weights: Vec<f32> = (0..positions).map(score).collect();
                    let max = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    for x in &mut weights {
                        *x -= max;
                    }
                    // The exponential has tests of its own.
                    scalar.exp(&mut weights);
                    let sum = dot(&weights, &vec![1.0; positions]);
                    for column in 0..dim {
                        let mut out = 0.0f32;
                        for (p, value) in values.chunks_exact(dim).take(positions).enumerate() {
                            let weight = weights[p] * value_scales[p];
                            out = weight.mul_add(f32::from(value[column]), out);
                        }
                        want.push(out / sum);
                    }
                }
                for ops in all(Cpu::uncapped()) {
                    let call = Attention {
                        queries: &[&queries],
                        positions,
                        keys: Floats::I8(&keys, &key_scales),
                        values: Floats::I8(&values, &value_scales),
                        dim,
                        scale,
                    };
                    let mut scratch = vec![0.0; Attention::scratch(heads, positions)];
                    let mut got = vec![f32::NAN; heads * dim];
                    ops.attention(call, &mut scratch, &mut [&mut got]);
                    let what = format!("{} {dim} {heads} {positions}", ops.isa());
                    assert_eq!(bits(&got), bits(&want), "{what}");
                }
            }
        }
    }
}
