//! Numbers that are stored as codes: dot products and attention are those of a reference that decodes first, on every
//! instruction set, and blocks give the bits of the floats they stand for.

use half::f16;
use trit_kernel::Cpu;
use trit_ops::{Attention, Blocks, Floats, all};

/// `SplitMix64`.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn floats(&mut self, len: usize) -> Vec<f32> {
        let unit = |rng: &mut Self| (rng.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        (0..len).map(|_| unit(self)).collect()
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 56) as u8).collect()
    }

    fn codes(&mut self, len: usize) -> Vec<i8> {
        self.bytes(len).into_iter().map(|b| b as i8).collect()
    }
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
            let (codes, x, scales) = (rng.codes(rows * k), rng.floats(k), rng.floats(rows));
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

/// A block format: numbers and bytes of a block, where its f16 scale is, and number `i` of a block whose scale is `d`.
struct Format {
    numbers: usize,
    bytes: usize,
    scale_at: usize,
    number: fn(&[u8], f32, usize) -> f32,
}

fn q4_0(block: &[u8], d: f32, i: usize) -> f32 {
    let byte = block[2 + i % 16];
    let nibble = if i < 16 { byte & 15 } else { byte >> 4 };
    d * (f32::from(nibble) - 8.0)
}

fn q6_k(block: &[u8], d: f32, i: usize) -> f32 {
    // ggml's numbering: in each half of 128, l in 0..32 has the elements l, l + 32, l + 64 and l + 96.
    let (half, l, quarter) = (i / 128, i % 32, i % 128 / 32);
    let low = block[64 * half + l + [0, 32, 0, 32][quarter]];
    let low = if quarter < 2 { low & 15 } else { low >> 4 };
    let high = block[128 + 32 * half + l] >> [0, 2, 4, 6][quarter] & 3;
    let scale = block[192 + 8 * half + l / 16 + 2 * quarter] as i8;
    d * f32::from(scale) * (f32::from(low | high << 4) - 32.0)
}

#[test]
fn blocks_give_the_bits_of_their_floats() {
    let formats = [
        Format {
            numbers: 32,
            bytes: 18,
            scale_at: 0,
            number: q4_0,
        },
        Format {
            numbers: 256,
            bytes: 210,
            scale_at: 208,
            number: q6_k,
        },
    ];
    let mut rng = Rng(2);
    for format in formats {
        for blocks in [1, 2, 5, 10] {
            for rows in [0, 1, 3, 4, 7, 13] {
                let k = format.numbers * blocks;
                let mut bytes = rng.bytes(rows * blocks * format.bytes);
                let mut floats = Vec::new();
                for block in bytes.chunks_exact_mut(format.bytes) {
                    let d = f16::from_f32(rng.floats(1)[0] / 16.0);
                    block[format.scale_at..format.scale_at + 2].copy_from_slice(&d.to_le_bytes());
                    let numbers =
                        (0..format.numbers).map(|i| (format.number)(block, d.to_f32(), i));
                    floats.extend(numbers);
                }
                let x = rng.floats(k);
                let want: Vec<f32> = floats.chunks_exact(k).map(|row| dot(row, &x)).collect();
                let weights = match format.numbers {
                    32 => Blocks::Q4_0(&bytes),
                    _ => Blocks::Q6K(&bytes),
                };
                for ops in all(Cpu::uncapped()) {
                    let mut got = vec![f32::NAN; rows];
                    ops.rows_dot_blocks(weights, &x, &mut got);
                    let what = format!("{} {} k={k} rows={rows}", ops.isa(), format.numbers);
                    assert_eq!(bits(&got), bits(&want), "{what}");
                }
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
                let (keys, values) = (rng.codes(whole * dim), rng.codes(whole * dim));
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

#[test]
#[should_panic(expected = "whole blocks")]
fn rows_of_broken_blocks_panic() {
    all(Cpu::uncapped())[0].rows_dot_blocks(Blocks::Q4_0(&[0; 18]), &[0.0; 31], &mut [0.0]);
}
