//! Every implementation gives the bits of a reference that follows the definitions word by word and shares no code with
//! the crate, over lengths around the width of a vector and over every kind of number.

mod common;

use half::f16;
use trit_kernel::{Cpu, Isa};
use trit_ops::{Attention, Floats, Ops, all};

use common::Rng;

fn lengths() -> Vec<usize> {
    (0..=70).chain([127, 128, 129, 2560, 6912]).collect()
}

/// What numbers are made of.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// −1..1.
    Unit,
    /// Like the activations of a model: −8..8.
    Wide,
    /// Any finite bits: huge, small, denormal, both zeros.
    Finite,
    /// Denormals and zeros of both signs.
    Tiny,
    /// Any bits, quiet NaN and infinities among them.
    Any,
    /// All −0.
    MinusZero,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Unit,
        Self::Wide,
        Self::Finite,
        Self::Tiny,
        Self::Any,
        Self::MinusZero,
    ];

    fn one(self, rng: &mut Rng) -> f32 {
        let bits = (rng.next() >> 32) as u32;
        match self {
            Self::Unit => rng.unit(),
            Self::Wide => 8.0 * rng.unit(),
            Self::Finite => match f32::from_bits(bits) {
                x if x.is_finite() => x,
                _ => -0.0,
            },
            Self::Tiny => f32::from_bits(bits & 0x8000_0FFF),
            Self::Any => match bits % 16 {
                0 => f32::NAN,
                1 => f32::INFINITY,
                2 => f32::NEG_INFINITY,
                3 => f32::from_bits(0xFFC1_2345),
                // Arithmetic never makes a signalling NaN, and compilers may take one for a quiet one (the maximum of one and 0 is
                // 0 on x86 and NaN on AArch64).
                _ if f32::from_bits(bits).is_nan() => f32::from_bits(bits | 0x0040_0000),
                _ => f32::from_bits(bits),
            },
            Self::MinusZero => -0.0,
        }
    }

    fn vec(self, len: usize, rng: &mut Rng) -> Vec<f32> {
        (0..len).map(|_| self.one(rng)).collect()
    }
}

#[track_caller]
fn assert_same(got: f32, want: f32, what: &dyn std::fmt::Display) {
    assert!(
        got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
        "{what}: {got:e} ({:08x}) instead of {want:e} ({:08x})",
        got.to_bits(),
        want.to_bits()
    );
}

#[track_caller]
fn assert_all_same(got: &[f32], want: &[f32], what: &dyn std::fmt::Display) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert_same(*got, *want, &format!("{what}, element {i}"));
    }
}

/// Runs a check on every implementation, length and kind of number.
fn each(mut check: impl FnMut(&dyn Ops, usize, Kind, &mut Rng, &str)) {
    let all = all(Cpu::uncapped());
    assert_eq!(all[0].isa(), Isa::Scalar);
    for ops in all {
        for len in lengths() {
            for kind in Kind::ALL {
                let mut rng = Rng(len as u64);
                let what = format!("{} {kind:?} n={len}", ops.isa());
                check(ops, len, kind, &mut rng, &what);
            }
        }
    }
}

/// The tree over sixteen lanes.
fn tree(lanes: [f32; 16]) -> f32 {
    let eight: Vec<f32> = (0..8).map(|j| lanes[j] + lanes[j + 8]).collect();
    let four: Vec<f32> = (0..4).map(|j| eight[j] + eight[j + 4]).collect();
    let two = [four[0] + four[2], four[1] + four[3]];
    two[0] + two[1]
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    for i in 0..a.len().next_multiple_of(16) {
        let (a, b) = if i < a.len() {
            (a[i], b[i])
        } else {
            (0.0, 0.0)
        };
        lanes[i % 16] = a.mul_add(b, lanes[i % 16]);
    }
    tree(lanes)
}

fn scalar_exp(x: f32) -> f32 {
    let mut one = [x];
    all(Cpu::capped(Isa::Scalar))[0].exp(&mut one);
    one[0]
}

fn softmax(x: &[f32]) -> Vec<f32> {
    let max = x
        .iter()
        .fold(f32::NEG_INFINITY, |max, x| if *x > max { *x } else { max });
    let e: Vec<f32> = x.iter().map(|x| scalar_exp(x - max)).collect();
    let sum = dot(&e, &vec![1.0; e.len()]);
    e.iter().map(|e| e / sum).collect()
}

#[test]
fn dot_and_sum_of_squares() {
    each(|ops, len, kind, rng, what| {
        let (a, b) = (kind.vec(len, rng), kind.vec(len, rng));
        assert_same(ops.dot(&a, &b), dot(&a, &b), &what);
        assert_same(ops.sum_squares(&a), dot(&a, &a), &what);
    });
}

#[test]
fn rms_norm() {
    each(|ops, len, kind, rng, what| {
        let (x, w) = (kind.vec(len, rng), kind.vec(len, rng));
        let mut out = vec![7.0; len];
        ops.rms_norm(&x, &w, 1e-5, &mut out);
        let inverse = 1.0 / (dot(&x, &x) / len as f32 + 1e-5).sqrt();
        let want: Vec<f32> = x.iter().zip(&w).map(|(x, w)| x * inverse * w).collect();
        assert_all_same(&out, &want, &what);
    });
}

#[test]
fn quantize_is_the_reference_quantizer() {
    each(|ops, len, kind, rng, what| {
        let x = kind.vec(len, rng);
        let (mut got, mut want) = (vec![99; len], vec![77; len]);
        let got_scale = ops.quantize(&x, &mut got);
        let want_scale = trit_kernel::quantize_row(&x, &mut want);
        assert_same(got_scale, want_scale, &what);
        assert_eq!(got, want, "{what}");
    });
}

#[test]
fn quantize_rounds_half_to_even() {
    for ops in all(Cpu::uncapped()) {
        let x: Vec<f32> = (-254..=254).map(|i| i as f32 / 2.0).collect();
        let (mut got, mut want) = (vec![0; x.len()], vec![0; x.len()]);
        ops.quantize(&x, &mut got);
        trit_kernel::quantize_row(&x, &mut want);
        assert_eq!(got, want);
        assert_eq!(got[254..260], [0, 0, 1, 2, 2, 2]);
    }
}

#[test]
fn dequantize() {
    each(|ops, len, kind, rng, what| {
        let sums: Vec<i32> = (0..len)
            .map(|i| (rng.next() >> (i % 32 + 32)) as i32)
            .collect();
        let (act, weight) = (kind.one(rng), kind.one(rng));
        let mut out = vec![0.0; len];
        ops.dequantize(&sums, act, weight, &mut out);
        let want: Vec<f32> = sums.iter().map(|s| *s as f32 / act * weight).collect();
        assert_all_same(&out, &want, &what);
    });
}

#[test]
fn element_wise() {
    each(|ops, len, kind, rng, what| {
        let (a, b) = (kind.vec(len, rng), kind.vec(len, rng));
        let expect = |f: fn(f32, f32) -> f32| -> Vec<f32> {
            a.iter().zip(&b).map(|(a, b)| f(*a, *b)).collect()
        };
        let mut got = a.clone();
        ops.add(&mut got, &b);
        assert_all_same(&got, &expect(|a, b| a + b), &format!("add {what}"));
        got.clone_from(&a);
        ops.relu2_mul(&mut got, &b);
        let relu2 = |a: f32, b: f32| if a > 0.0 { a * a * b } else { 0.0 * b };
        assert_all_same(&got, &expect(relu2), &format!("relu2 {what}"));
        got.clone_from(&a);
        ops.silu_mul(&mut got, &b);
        let silu = |a: f32, b: f32| a / (1.0 + scalar_exp(-a)) * b;
        assert_all_same(&got, &expect(silu), &format!("silu {what}"));
        got.clone_from(&a);
        ops.exp(&mut got);
        assert_all_same(&got, &expect(|a, _| scalar_exp(a)), &format!("exp {what}"));
    });
}

#[test]
fn to_f16() {
    each(|ops, len, kind, rng, what| {
        let x = kind.vec(len, rng);
        let mut out = vec![f16::ONE; len];
        ops.to_f16(&x, &mut out);
        for (x, got) in x.iter().zip(&out) {
            assert_same(got.to_f32(), f16::from_f32_const(*x).to_f32(), &what);
        }
    });
}

#[test]
fn to_f16_of_every_rounding() {
    // Every half, and what lies on and beside the middle between it and the next.
    let mut x = Vec::new();
    for bits in 0..0x7C00u16 {
        let (low, high) = (f16::from_bits(bits), f16::from_bits(bits + 1));
        let middle = if high.is_infinite() {
            65_520.0
        } else {
            f32::midpoint(low.to_f32_const(), high.to_f32_const())
        };
        for value in [
            low.to_f32_const(),
            middle.next_down(),
            middle,
            middle.next_up(),
        ] {
            x.extend([value, -value]);
        }
    }
    for ops in all(Cpu::uncapped()) {
        let mut out = vec![f16::ZERO; x.len()];
        ops.to_f16(&x, &mut out);
        for (x, got) in x.iter().zip(&out) {
            assert_eq!(
                got.to_bits(),
                f16::from_f32_const(*x).to_bits(),
                "{} {x:e}",
                ops.isa()
            );
        }
    }
}

#[test]
fn rope() {
    each(|ops, half, kind, rng, what| {
        if half == 0 || half > 2560 {
            return;
        }
        let x = kind.vec(2 * half * 3, rng);
        let (cos, sin) = (kind.vec(half, rng), kind.vec(half, rng));
        let mut got = x.clone();
        ops.rope(&mut got, &cos, &sin);
        let mut want = x.clone();
        for head in 0..3 {
            for i in 0..half {
                let (p, q) = (head * 2 * half + i, head * 2 * half + half + i);
                want[p] = x[p].mul_add(cos[i], -(x[q] * sin[i]));
                want[q] = x[q].mul_add(cos[i], x[p] * sin[i]);
            }
        }
        assert_all_same(&got, &want, &what);
    });
}

#[test]
fn softmax_of_each_length() {
    each(|ops, len, kind, rng, what| {
        let x = kind.vec(len, rng);
        let mut got = x.clone();
        ops.softmax(&mut got);
        assert_all_same(&got, &softmax(&x), &what);
        if matches!(kind, Kind::Unit | Kind::Wide) && len > 0 {
            let sum: f64 = got.iter().map(|p| f64::from(*p)).sum();
            assert!((sum - 1.0).abs() < 1e-5, "{what}: {sum}");
        }
    });
}

#[test]
fn rows_dot() {
    each(|ops, k, kind, rng, what| {
        let counts: &[usize] = if k < 40 {
            &[0, 1, 3, 4, 7, 8, 9, 12, 21]
        } else {
            &[13]
        };
        for rows in counts {
            let (w, x) = (kind.vec(rows * k, rng), kind.vec(k, rng));
            let mut out = vec![f32::NAN; *rows];
            ops.rows_dot(Floats::F32(&w), &x, &mut out);
            let want: Vec<f32> = (0..*rows)
                .map(|r| dot(&w[r * k..(r + 1) * k], &x))
                .collect();
            assert_all_same(&out, &want, &format!("f32 {what} rows={rows}"));
            let w: Vec<f16> = w.into_iter().map(f16::from_f32_const).collect();
            out.fill(f32::NAN);
            ops.rows_dot(Floats::F16(&w), &x, &mut out);
            let w: Vec<f32> = w.into_iter().map(f16::to_f32_const).collect();
            let want: Vec<f32> = (0..*rows)
                .map(|r| dot(&w[r * k..(r + 1) * k], &x))
                .collect();
            assert_all_same(&out, &want, &format!("f16 {what} rows={rows}"));
        }
    });
}

#[test]
fn rows_dot_all() {
    each(|ops, k, kind, rng, what| {
        let counts: &[(usize, usize)] = if k < 40 {
            &[(0, 3), (1, 1), (2, 3), (4, 4), (7, 2), (9, 5), (13, 0)]
        } else {
            &[(6, 7)]
        };
        for (rows, tokens) in counts.iter().copied() {
            let (w, xs) = (kind.vec(rows * k, rng), kind.vec(tokens * k, rng));
            let want = |w: &[f32]| -> Vec<f32> {
                let of = |token: usize, row: usize| {
                    dot(&w[row * k..(row + 1) * k], &xs[token * k..(token + 1) * k])
                };
                (0..tokens)
                    .flat_map(|token| (0..rows).map(move |row| (token, row)))
                    .map(|(token, row)| of(token, row))
                    .collect()
            };
            let mut out = vec![f32::NAN; rows * tokens];
            if rows > 0 {
                ops.rows_dot_all(Floats::F32(&w), rows, &xs, &mut out);
                assert_all_same(&out, &want(&w), &format!("f32 {what} {rows} x {tokens}"));
                let w: Vec<f16> = w.into_iter().map(f16::from_f32_const).collect();
                out.fill(f32::NAN);
                ops.rows_dot_all(Floats::F16(&w), rows, &xs, &mut out);
                let w: Vec<f32> = w.into_iter().map(f16::to_f32_const).collect();
                assert_all_same(&out, &want(&w), &format!("f16 {what} {rows} x {tokens}"));
                let codes: Vec<i8> = (0..rows * k).map(|_| (rng.next() >> 56) as i8).collect();
                let scales: Vec<f32> = (0..rows).map(|_| rng.unit()).collect();
                let mut each = vec![f32::NAN; rows * tokens];
                let inputs = xs.chunks_exact(k.max(1)).zip(each.chunks_exact_mut(rows));
                for (x, out) in inputs.filter(|_| k > 0) {
                    ops.rows_dot(Floats::I8(&codes, &scales), x, out);
                }
                if k > 0 {
                    ops.rows_dot_all(Floats::I8(&codes, &scales), rows, &xs, &mut out);
                    assert_all_same(&out, &each, &format!("i8 {what} {rows} x {tokens}"));
                }
            }
        }
    });
}

/// What one head of one token attends to.
fn attention_reference(
    q: &[f32],
    keys: &[f32],
    values: &[f32],
    dim: usize,
    scale: f32,
) -> Vec<f32> {
    let in_order = |a: &mut dyn Iterator<Item = (f32, f32)>| -> f32 {
        a.fold(0.0, |sum, (a, b)| a.mul_add(b, sum))
    };
    let score = |key: &[f32]| in_order(&mut q.iter().copied().zip(key.iter().copied())) * scale;
    let scores: Vec<f32> = keys.chunks_exact(dim).map(score).collect();
    let max = scores
        .iter()
        .fold(f32::NEG_INFINITY, |max, x| if *x > max { *x } else { max });
    let weights: Vec<f32> = scores.iter().map(|x| scalar_exp(x - max)).collect();
    let sum = dot(&weights, &vec![1.0; weights.len()]);
    let column = |column: usize| {
        let column = values.chunks_exact(dim).map(|value| value[column]);
        in_order(&mut weights.iter().copied().zip(column)) / sum
    };
    match weights.len() {
        0 => vec![0.0; dim],
        _ => (0..dim).map(column).collect(),
    }
}

/// Keys of positions, and junk up to a whole block, as attention wants them.
fn in_blocks(keys: &[f32], dim: usize, junk: f32) -> Vec<f32> {
    let positions = keys.len() / dim;
    let mut out = vec![junk; positions.next_multiple_of(16) * dim];
    for position in 0..positions {
        for feature in 0..dim {
            let at = (position / 16 * dim + feature) * 16 + position % 16;
            out[at] = keys[position * dim + feature];
        }
    }
    out
}

#[test]
fn attention() {
    for ops in all(Cpu::uncapped()) {
        for dim in [1, 16, 17, 40, 64, 128, 130] {
            for (tokens, heads) in [
                (1, 1),
                (1, 2),
                (1, 3),
                (1, 4),
                (1, 5),
                (1, 9),
                (2, 4),
                (8, 1),
                (3, 5),
            ] {
                for positions in [0, 1, 2, 5, 15, 16, 33, 83] {
                    for kind in [Kind::Unit, Kind::Wide, Kind::Tiny, Kind::Any] {
                        let mut rng = Rng((dim * heads + positions) as u64);
                        let what = format!(
                            "{} {kind:?} dim={dim} tokens={tokens} heads={heads} positions={positions}",
                            ops.isa()
                        );
                        let shape = [dim, tokens, heads, positions];
                        check_attention(ops, shape, kind, &mut rng, &what);
                    }
                }
            }
        }
    }
}

fn check_attention(
    ops: &dyn Ops,
    [dim, tokens, heads, positions]: [usize; 4],
    kind: Kind,
    rng: &mut Rng,
    what: &str,
) {
    let width = heads * dim;
    let queries = kind.vec(tokens * width, rng);
    let queries: Vec<&[f32]> = queries.chunks_exact(width).collect();
    let last = positions + tokens - 1;
    let mut half = || -> Vec<f32> {
        let x = kind.vec(last * dim, rng);
        x.into_iter()
            .map(|x| f16::from_f32_const(x).to_f32_const())
            .collect()
    };
    let (keys, mut values) = (half(), half());
    let scale = 1.0 / (dim as f32).sqrt();
    let mut want = Vec::new();
    for (token, queries) in queries.iter().enumerate() {
        let seen = (positions + token) * dim;
        for q in queries.chunks_exact(dim) {
            let (keys, values) = (&keys[..seen], &values[..seen]);
            want.extend(attention_reference(q, keys, values, dim, scale));
        }
    }
    let narrow = |x: &[f32]| -> Vec<f16> { x.iter().map(|x| f16::from_f32_const(*x)).collect() };
    for junk in [60_000.0, f32::NAN] {
        let keys = in_blocks(&keys, dim, junk);
        values.resize(keys.len(), junk);
        let (half_keys, half_values) = (narrow(&keys), narrow(&values));
        for (keys, values) in [
            (Floats::F16(&half_keys), Floats::F16(&half_values)),
            (Floats::F32(&keys), Floats::F32(&values)),
        ] {
            let call = Attention {
                queries: &queries,
                positions,
                keys,
                values,
                dim,
                scale,
            };
            // Room for more than is needed; what is beyond stays.
            let room = Attention::scratch(tokens * heads, last);
            let mut scratch = vec![5.0; room + 3];
            let mut out = vec![f32::NAN; tokens * width];
            let mut outputs: Vec<&mut [f32]> = out.chunks_exact_mut(width).collect();
            ops.attention(call, &mut scratch, &mut outputs);
            assert_all_same(&out, &want, &what);
            assert_all_same(&scratch[room..], &[5.0; 3], &what);
        }
        values.truncate(last * dim);
    }
}

#[test]
fn exp_is_close_to_exp() {
    let exp = |x: f32| scalar_exp(x);
    // Every 397th float from −88 to 89.
    let (mut worst, mut at) = (0.0f64, 0.0);
    let negative = (0x8000_0000u32..(-88.0f32).to_bits()).step_by(397);
    let positive = (0..89.0f32.to_bits()).step_by(397);
    for bits in negative.chain(positive) {
        let x = f32::from_bits(bits);
        let (got, want) = (exp(x), f64::from(x).exp());
        if x < -87.3365 {
            assert_same(got, 0.0, &format!("exp({x:e})"));
        } else if x > 88.722_83 {
            assert_same(got, f32::INFINITY, &format!("exp({x:e})"));
        } else {
            let rounded = want as f32;
            let ulp = f64::from(rounded.next_up()) - f64::from(rounded);
            let ulp = if ulp.is_finite() { ulp } else { 2f64.powi(104) };
            let error = (f64::from(got) - want).abs() / ulp;
            if error > worst {
                (worst, at) = (error, x);
            }
        }
    }
    assert!(worst < 1.1, "{worst} ulp at {at:e}");
}

#[test]
fn exp_of_special_numbers() {
    for ops in all(Cpu::uncapped()) {
        let mut x = [
            0.0,
            -0.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            f32::MAX,
            f32::MIN,
            1e-45,
            -1e-45,
            -87.3365,
            88.722_83,
        ];
        ops.exp(&mut x);
        assert_eq!(x[..4], [1.0, 1.0, f32::INFINITY, 0.0]);
        assert!(x[4].is_nan());
        assert_eq!(x[5..9], [f32::INFINITY, 0.0, 1.0, 1.0]);
        assert!(x[9].is_normal() && x[10].is_finite());
    }
}

#[test]
fn a_cap_removes_implementations() {
    let isas = |cpu| -> Vec<Isa> { all(cpu).iter().map(|ops| ops.isa()).collect() };
    assert_eq!(isas(Cpu::capped(Isa::Scalar)), [Isa::Scalar]);
    assert!(
        isas(Cpu::capped(Isa::Avx2))
            .iter()
            .all(|isa| *isa <= Isa::Avx2)
    );
    let every = isas(Cpu::uncapped());
    for isa in [Isa::Avx2, Isa::Avx512, Isa::Neon] {
        assert_eq!(every.contains(&isa), Cpu::uncapped().has(isa), "{isa}");
    }
    assert!(every.is_sorted());
    assert_eq!(
        trit_ops::best(Cpu::uncapped()).isa(),
        every[every.len() - 1]
    );
}

#[test]
#[should_panic(expected = "rows_dot: rows x k")]
fn sizes_that_do_not_fit_panic() {
    all(Cpu::uncapped())[0].rows_dot(Floats::F32(&[0.0; 7]), &[0.0; 4], &mut [0.0; 2]);
}
