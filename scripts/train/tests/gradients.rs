//! Gradients against finite differences, and the quantizers against the project's reference.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use trit_train::model::{DropoutPlan, Model, ModelConfig};
use trit_train::ops::{
    CausalSoftmax, CrossEntropy, Dropout, Heads, MergeHeads, QuantizeActivations, QuantizeWeights,
    Relu2Mul, RmsNorm, SplitHeads, rotation,
};
use trit_train::rng::Rng;

fn random(rng: &mut Rng, shape: &[usize], unit: f64) -> Tensor {
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| (rng.normal() * unit) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// A scalar that weighs every output differently.
fn weigh(out: &Tensor) -> Tensor {
    let weights = random(&mut Rng::new(99), out.dims(), 1.0);
    (out * weights).unwrap().sum_all().unwrap()
}

/// Compares the gradients of `inputs` with central differences along `directions` random directions.
fn check(inputs: &[Var], step: f32, tolerance: f64, scalar: impl Fn() -> Tensor) {
    let grads = scalar().backward().unwrap();
    let mut rng = Rng::new(5);
    for (number, input) in inputs.iter().enumerate() {
        let grad = grads.get(input).unwrap();
        let norm = values(grad)
            .iter()
            .map(|g| f64::from(*g).powi(2))
            .sum::<f64>()
            .sqrt();
        assert!(norm > 0.0, "input {number} has no gradient");
        let original = input.as_tensor().copy().unwrap();
        for _ in 0..8 {
            let direction = random(&mut rng, input.dims(), 1.0);
            let at = |distance: f32| {
                let moved = (&original + (&direction * f64::from(distance)).unwrap()).unwrap();
                input.set(&moved).unwrap();
                // Sums in f64 would be finer; a step that is large enough is enough.
                f64::from(scalar().to_scalar::<f32>().unwrap())
            };
            let numeric = (at(step) - at(-step)) / (2.0 * f64::from(step));
            input.set(&original).unwrap();
            let analytic = f64::from(
                (grad * &direction)
                    .unwrap()
                    .sum_all()
                    .unwrap()
                    .to_scalar::<f32>()
                    .unwrap(),
            );
            let error = (numeric - analytic).abs() / norm.max(analytic.abs());
            assert!(
                error < tolerance,
                "input {number}: difference {numeric}, gradient {analytic}, norm {norm}"
            );
        }
    }
}

fn var(rng: &mut Rng, shape: &[usize]) -> Var {
    Var::from_tensor(&random(rng, shape, 1.0)).unwrap()
}

#[test]
fn rms_norm() {
    let mut rng = Rng::new(1);
    // More rows than one block of the weight's sum.
    let (x, w) = (var(&mut rng, &[150, 24]), var(&mut rng, &[24]));
    check(&[x.clone(), w.clone()], 1e-2, 2e-3, || {
        weigh(&x.apply_op2(&w, RmsNorm { eps: 1e-5 }).unwrap())
    });
}

#[test]
fn squared_relu() {
    let x = var(&mut Rng::new(2), &[9, 32]);
    check(std::slice::from_ref(&x), 1e-3, 5e-3, || {
        weigh(&x.apply_op1(Relu2Mul).unwrap())
    });
}

#[test]
fn heads_are_split_rotated_and_merged() {
    let heads = Heads {
        positions: 5,
        heads: 4,
        kv_heads: 2,
        dim: 6,
    };
    let x = var(&mut Rng::new(3), &[10, heads.width()]);
    let table = Arc::new(rotation(5, 6, 100.0));
    let split = || {
        x.apply_op1(SplitHeads {
            heads,
            rotation: table.clone(),
        })
        .unwrap()
    };
    check(std::slice::from_ref(&x), 1e-2, 1e-3, || weigh(&split()));

    // Position 0 is not rotated, so that merging gives back the queries of the first token of each sequence.
    let queries = split().narrow(0, 0, 10 * 24).unwrap();
    let merged = queries.apply_op1(MergeHeads { heads }).unwrap();
    for row in [0, 5] {
        let want = values(&x.get(row).unwrap())[..24].to_vec();
        assert_eq!(values(&merged.get(row).unwrap()), want);
    }
    // A rotation keeps lengths, and a score depends on the distance of two positions alone.
    let same = Tensor::ones((10, heads.width()), candle_core::DType::F32, &Device::Cpu).unwrap();
    let split = values(
        &same
            .apply_op1(SplitHeads {
                heads,
                rotation: table.clone(),
            })
            .unwrap(),
    );
    let at = |position: usize| &split[position * 6..][..6];
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    assert!((dot(at(3), at(1)) - dot(at(4), at(2))).abs() < 1e-5);
    assert!((dot(at(3), at(3)) - 6.0).abs() < 1e-5);

    let y = var(&mut Rng::new(4), &[10 * 24]);
    check(std::slice::from_ref(&y), 1e-2, 1e-3, || {
        weigh(&y.apply_op1(MergeHeads { heads }).unwrap())
    });
}

#[test]
fn causal_softmax() {
    let x = var(&mut Rng::new(6), &[2, 14, 7]);
    let softmax = || {
        x.apply_op1(CausalSoftmax {
            positions: 7,
            scale: 0.7,
        })
        .unwrap()
    };
    for (row, p) in values(&softmax()).chunks(7).enumerate() {
        assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!(p[row % 7 + 1..].iter().all(|p| *p == 0.0), "row {row}");
    }
    check(std::slice::from_ref(&x), 1e-2, 2e-3, || weigh(&softmax()));
}

#[test]
fn cross_entropy() {
    let x = var(&mut Rng::new(7), &[6, 11]);
    let targets = Arc::new(vec![0, 10, 3, 3, 7, 5]);
    let loss = || {
        x.apply_op1(CrossEntropy {
            targets: targets.clone(),
        })
        .unwrap()
    };
    check(std::slice::from_ref(&x), 1e-2, 2e-3, loss);
    x.set(&x.zeros_like().unwrap()).unwrap();
    assert!((loss().to_scalar::<f32>().unwrap() - 11f32.ln()).abs() < 1e-6);
}

#[test]
fn dropout_drops_its_share_and_the_same_places_on_the_way_back() {
    let x = Var::ones((64, 512), candle_core::DType::F32, &Device::Cpu).unwrap();
    let drop = |seed| x.apply_op1(Dropout { share: 0.25, seed }).unwrap();
    let out = values(&drop(1));
    let zeroes = out.iter().filter(|v| **v == 0.0).count() as f64 / out.len() as f64;
    assert!((zeroes - 0.25).abs() < 0.01, "{zeroes}");
    assert!(
        out.iter()
            .all(|v| *v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6)
    );
    assert_ne!(out, values(&drop(2)));
    let grads = drop(1).sum_all().unwrap().backward().unwrap();
    assert_eq!(out, values(grads.get(&x).unwrap()));
}

#[test]
fn quantizers_are_those_of_the_kernels() {
    let mut rng = Rng::new(8);
    for (rows, k) in [(1, 128), (7, 384), (64, 256)] {
        let x = random(&mut rng, &[rows, k], 3.0);
        let got = values(&x.apply_op1(QuantizeActivations).unwrap());
        for (x, got) in values(&x).chunks(k).zip(got.chunks(k)) {
            let mut q = vec![0i8; k];
            let scale = trit_kernel::quantize_row(x, &mut q);
            let want: Vec<f32> = q.iter().map(|q| f32::from(*q) / scale).collect();
            assert_eq!(got, want);
        }
        let got = values(&x.apply_op1(QuantizeWeights).unwrap());
        let want = trit_kernel::absmean_codes(&values(&x));
        let want: Vec<f32> = want
            .codes
            .iter()
            .map(|code| f32::from(*code) * want.scale)
            .collect();
        assert_eq!(got, want);
    }
    // Halves, and rows without a value.
    let x = Tensor::new(
        &[[127.0f32, 0.5, 1.5, 2.5, -0.5, -1.5], [0.0; 6]],
        &Device::Cpu,
    )
    .unwrap();
    let got = values(&x.apply_op1(QuantizeActivations).unwrap());
    assert_eq!(got[..6], [127.0, 0.0, 2.0, 2.0, 0.0, -2.0]);
    assert_eq!(got[6..], [0.0; 6]);
}

#[test]
fn gradients_pass_straight_through_the_quantizers() {
    let mut rng = Rng::new(9);
    let (x, w) = (var(&mut rng, &[5, 128]), var(&mut rng, &[8, 128]));
    let xq = x.apply_op1(QuantizeActivations).unwrap();
    let wq = w.apply_op1(QuantizeWeights).unwrap();
    let g = random(&mut Rng::new(99), &[5, 8], 1.0);
    let grads = weigh(&xq.matmul(&wq.t().unwrap()).unwrap())
        .backward()
        .unwrap();
    // y = xq · wqᵀ, so that dx = g · wq and dw = gᵀ · xq.
    let close = |got: &Tensor, want: Tensor| {
        for (got, want) in values(got).iter().zip(values(&want)) {
            assert!((got - want).abs() < 1e-4, "{got} {want}");
        }
    };
    close(grads.get(&x).unwrap(), g.matmul(&wq).unwrap());
    close(grads.get(&w).unwrap(), g.t().unwrap().matmul(&xq).unwrap());
}

fn config(ternary: bool) -> ModelConfig {
    ModelConfig {
        vocab: 19,
        hidden: 128,
        ffn: 256,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        context: 16,
        rope_base: 10_000.0,
        rms_eps: 1e-5,
        ternary,
    }
}

/// Loss of two fixed sequences of 16 tokens.
fn loss(model: &Model, dropout: Option<DropoutPlan>) -> Tensor {
    let tokens: Vec<u32> = (0..33).map(|i| (i * i + 3 * i) % 19).collect();
    model
        .logits(&tokens[..32], 16, dropout)
        .unwrap()
        .apply_op1(CrossEntropy {
            targets: Arc::new(tokens[1..].to_vec()),
        })
        .unwrap()
}

#[test]
fn the_whole_float_model() {
    let model = Model::random(config(false), 11).unwrap();
    // Larger weights than at the start of a training: their gradients stand out from the rounding of f32.
    for (name, var) in &model.params {
        let scale = if name.contains("norm") { 1.0 } else { 5.0 };
        var.set(&(var.as_tensor() * scale).unwrap()).unwrap();
    }
    let inputs: Vec<Var> = model.params.values().cloned().collect();
    check(&inputs, 3e-4, 1e-2, || loss(&model, None));
}

#[test]
fn what_comes_later_changes_nothing_before() {
    let model = Model::random(config(true), 12).unwrap();
    let logits = |last: u32| {
        let mut tokens: Vec<u32> = (0..16).collect();
        tokens[15] = last;
        values(&model.logits(&tokens, 16, None).unwrap())
    };
    let (a, b) = (logits(1), logits(2));
    assert_eq!(a[..15 * 19], b[..15 * 19]);
    assert_ne!(a[15 * 19..], b[15 * 19..]);
}

#[test]
fn sequences_of_a_batch_do_not_see_each_other() {
    let model = Model::random(config(true), 13).unwrap();
    let tokens: Vec<u32> = (0..32).map(|i| i * 7 % 19).collect();
    let both = values(&model.logits(&tokens, 16, None).unwrap());
    let second = values(&model.logits(&tokens[16..], 16, None).unwrap());
    assert_eq!(both[16 * 19..], second);
}

#[test]
fn threads_change_nothing() {
    let model = Model::random(config(true), 14).unwrap();
    let plan = DropoutPlan {
        share: 0.2,
        seed: 3,
    };
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let loss = loss(&model, Some(plan));
            let grads = loss.backward().unwrap();
            let mut out = values(&loss);
            for var in model.params.values() {
                out.extend(values(grads.get(var).unwrap()));
            }
            out
        })
    };
    assert_eq!(run(1), run(3));
}
