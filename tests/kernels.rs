//! Every kernel of the registry against the definition, through the public interface alone, and the caps of `TRIT_ISA`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use trit_kernel::{
    Accuracy, Activations, AlignedBuf, Codes, Cpu, DenseArgs, DenseFormat, DenseKernel, GemmArgs,
    Isa, Kernel, LayoutId, Packed, PreparedBuf, Scales,
};

/// Rows, K, tokens: below, at and beyond the tiles of the kernels, and one matrix of BitNet b1.58 2B4T.
const SHAPES: &[(usize, usize, usize)] = &[
    (1, 1, 1),
    (3, 5, 2),
    (16, 128, 1),
    (17, 127, 3),
    (33, 129, 5),
    (64, 640, 16),
    (100, 1000, 7),
    (640, 2560, 2),
];

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Weights and activations of one case.
struct Case {
    rows: usize,
    k: usize,
    tokens: usize,
    weights: Vec<i8>,
    activations: Vec<i8>,
}

impl Case {
    fn new(&(rows, k, tokens): &(usize, usize, usize)) -> Self {
        let mut random = Random((rows * 1_000_003 + k * 1009 + tokens) as u64);
        Self {
            rows,
            k,
            tokens,
            weights: (0..rows * k)
                .map(|_| (random.next() % 3) as i8 - 1)
                .collect(),
            activations: (0..tokens * k)
                .map(|i| match i % 97 {
                    0 => -128,
                    1 => 127,
                    _ => random.next() as i8,
                })
                .collect(),
        }
    }

    /// The definition, token-major.
    fn expected(&self) -> Vec<i32> {
        let mut sums = Vec::new();
        for t in 0..self.tokens {
            for r in 0..self.rows {
                sums.push(
                    (0..self.k)
                        .map(|k| {
                            i32::from(self.activations[t * self.k + k])
                                * i32::from(self.weights[r * self.k + k])
                        })
                        .sum(),
                );
            }
        }
        sums
    }

    fn ternary(&self, kernel: &dyn Kernel, layout: LayoutId) -> Vec<i32> {
        let codes = Codes::new(&self.weights, self.rows, self.k).unwrap();
        let packed = Packed::pack(codes, layout, Scales::Tensor(1.0)).unwrap();
        let mut prepared = PreparedBuf::new();
        let view = prepared.fill(
            kernel,
            Activations::new(&self.activations, self.tokens, self.k),
        );
        let mut scratch = AlignedBuf::zeroed(kernel.scratch_bytes(self.k, self.rows, self.tokens));
        // A value that no sum of these shapes can have.
        let mut out = vec![i32::MIN; self.rows * self.tokens];
        kernel.gemm(GemmArgs {
            weights: &packed,
            prepared: view,
            rows: 0..self.rows,
            tokens: 0..self.tokens,
            scratch: scratch.bytes_mut(),
            out: &mut out,
        });
        out
    }

    fn dense(&self, kernel: &dyn DenseKernel) -> Vec<f32> {
        let weights: Vec<f32> = self.weights.iter().map(|&w| f32::from(w)).collect();
        // Baselines in int8 hold -127..=127 and need each token to reach 127 for a scale of exactly 1.
        let activations: Vec<f32> = self.symmetric().iter().map(|&a| f32::from(a)).collect();
        let packed = kernel.pack(&weights, self.rows, self.k);
        let groups = self.tokens.div_ceil(kernel.token_step());
        let mut prepared = AlignedBuf::zeroed(groups * kernel.prepared_group_bytes(self.k));
        kernel.prepare(
            &activations,
            self.tokens,
            self.k,
            0..groups,
            prepared.bytes_mut(),
        );
        let mut scratch = AlignedBuf::zeroed(kernel.scratch_bytes(self.k, self.rows, self.tokens));
        let mut out = vec![f32::NAN; self.rows * self.tokens];
        kernel.gemm(DenseArgs {
            weights: &packed,
            prepared: prepared.bytes(),
            rows: 0..self.rows,
            tokens: 0..self.tokens,
            scratch: scratch.bytes_mut(),
            out: &mut out,
        });
        out
    }

    fn symmetric(&self) -> Vec<i8> {
        self.activations
            .iter()
            .enumerate()
            .map(|(i, &a)| if i % self.k == 0 { 127 } else { a.max(-127) })
            .collect()
    }
}

#[test]
fn every_ternary_kernel_computes_the_definition() {
    let cpu = Cpu::from_env().unwrap();
    let mut run = 0;
    for entry in trit_kernels::kernels() {
        let kernel = match (entry.open)(cpu) {
            Ok(kernel) => kernel,
            Err(why) => {
                println!("skipped {}: {why}", entry.info.id);
                continue;
            }
        };
        run += 1;
        for shape in SHAPES {
            let case = Case::new(shape);
            let expected = case.expected();
            for &layout in entry.info.accepts {
                let got = case.ternary(kernel.as_ref(), layout);
                match entry.info.accuracy {
                    Accuracy::Exact => assert_eq!(
                        got,
                        expected,
                        "{} {shape:?} {}",
                        entry.info.id,
                        layout.name()
                    ),
                    Accuracy::BoundedPerFeature(bound) => {
                        let bound = i64::from(bound) * case.k as i64;
                        for (got, want) in got.iter().zip(&expected) {
                            let error = (i64::from(*got) - i64::from(*want)).abs();
                            assert!(
                                error <= bound,
                                "{} {shape:?}: off by {error}",
                                entry.info.id
                            );
                        }
                    }
                }
            }
        }
    }
    assert!(run > 0, "not even the scalar kernels ran");
}

#[test]
fn every_baseline_computes_the_definition() {
    let cpu = Cpu::from_env().unwrap();
    assert!(
        !trit_kernels::dense().is_empty(),
        "there is nothing to compare with"
    );
    for entry in trit_kernels::dense() {
        let kernel = match (entry.open)(cpu) {
            Ok(kernel) => kernel,
            Err(why) => {
                println!("skipped {}: {why}", entry.info.id);
                continue;
            }
        };
        for shape in SHAPES {
            let mut case = Case::new(shape);
            case.activations = case.symmetric();
            let got = case.dense(kernel.as_ref());
            for (i, (got, want)) in got.iter().zip(case.expected()).enumerate() {
                let token = i / case.rows;
                let total: f32 = case.activations[token * case.k..(token + 1) * case.k]
                    .iter()
                    .map(|&a| f32::from(a).abs())
                    .sum();
                // The bound of the contract; the other formats are exact.
                let bound = if entry.info.format == DenseFormat::Q4 {
                    total / 1024.0
                } else {
                    0.0
                };
                assert!(
                    (got - want as f32).abs() <= bound,
                    "{} {shape:?}: {got}, want {want}",
                    entry.info.id
                );
            }
        }
    }
}

/// Id and status of every kernel, as the command prints them under a cap.
fn listed(cap: &str) -> BTreeMap<String, (String, String)> {
    let output = Command::new(env!("CARGO_BIN_EXE_tritbench"))
        .args(["kernels", "--format", "json"])
        .env("TRIT_ISA", cap)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    rows.as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                text(&row["id"]),
                (text(&row["status"]), text(&row["reason"])),
            )
        })
        .collect()
}

#[test]
fn a_cap_takes_away_what_is_above_it_and_says_so() {
    for cap in [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Neon] {
        let rows = listed(cap.name());
        assert_eq!(
            rows.len(),
            trit_kernels::kernels().len() + trit_kernels::dense().len()
        );
        let ternary = trit_kernels::kernels()
            .iter()
            .map(|entry| (entry.info.id, entry.info.isa));
        let dense = trit_kernels::dense()
            .iter()
            .map(|entry| (entry.info.id, entry.info.isa));
        for (id, isa) in ternary.chain(dense) {
            let (status, reason) = &rows[id];
            if isa == Isa::Scalar {
                assert_eq!(status, "available", "{id}");
            } else if isa > cap && isa.is_native() {
                assert_eq!(status, "unavailable", "{id} under {cap}");
                assert!(reason.contains("TRIT_ISA"), "{id}: {reason}");
            }
            assert_eq!(status == "available", reason.is_empty(), "{id}: {reason}");
        }
    }
}
