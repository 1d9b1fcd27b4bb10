//! What the common tests leave out: that splits change nothing, the bound of the 4-bit format, and misuse.

use std::ops::Range;
use std::sync::Arc;

use trit_kernel::{
    AlignedBuf, ByteOwner, Cpu, DenseArgs, DenseFormat, DenseKernel, DenseWeights, Isa, Storage,
};
use trit_kernel_dense::ENTRIES;

fn kernels() -> Vec<Box<dyn DenseKernel>> {
    let open: Vec<_> = ENTRIES
        .iter()
        .filter_map(|entry| (entry.open)(Cpu::uncapped()).ok())
        .collect();
    assert!(!open.is_empty(), "the portable kernel is always there");
    open
}

/// Numbers in −1..1 that look random.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect()
}

fn prepare(kernel: &dyn DenseKernel, acts: &[f32], tokens: usize, k: usize) -> AlignedBuf {
    let groups = tokens.div_ceil(kernel.token_step());
    let mut out = AlignedBuf::zeroed(groups * kernel.prepared_group_bytes(k));
    kernel.prepare(acts, tokens, k, 0..groups, out.bytes_mut());
    out
}

fn gemm(
    kernel: &dyn DenseKernel,
    weights: &DenseWeights,
    prepared: &AlignedBuf,
    rows: Range<usize>,
    tokens: Range<usize>,
) -> Vec<f32> {
    let mut out = vec![f32::NAN; rows.len() * tokens.len()];
    let mut scratch = AlignedBuf::zeroed(kernel.scratch_bytes(weights.k, rows.len(), tokens.len()));
    kernel.gemm(DenseArgs {
        weights,
        prepared: prepared.bytes(),
        rows,
        tokens,
        scratch: scratch.bytes_mut(),
        out: &mut out,
    });
    out
}

#[test]
fn a_split_changes_no_bit() {
    let (rows, k, tokens) = (75, 1100, 29);
    let (w, x) = (noise(rows * k, 1), noise(tokens * k, 2));
    for kernel in kernels() {
        let kernel = &*kernel;
        let weights = kernel.pack(&w, rows, k);
        let prepared = prepare(kernel, &x, tokens, k);
        let whole = gemm(kernel, &weights, &prepared, 0..rows, 0..tokens);
        let singles: Vec<f32> = (0..tokens)
            .flat_map(|t| gemm(kernel, &weights, &prepared, 0..rows, t..t + 1))
            .collect();
        for (row_window, token_window) in [
            (0..1, 0..tokens),
            (31..33, 3..5),
            (7..75, 11..29),
            (24..48, 4..16),
            (74..75, 27..29),
            (10..60, 6..7),
        ] {
            // One token is summed in another order than several.
            let want = if token_window.len() == 1 {
                &singles
            } else {
                &whole
            };
            let got = gemm(
                kernel,
                &weights,
                &prepared,
                row_window.clone(),
                token_window.clone(),
            );
            let mut got = got.iter();
            for t in token_window {
                for r in row_window.clone() {
                    let got = got.next().unwrap().to_bits();
                    assert_eq!(
                        got,
                        want[t * rows + r].to_bits(),
                        "{} {t} {r}",
                        kernel.info().id
                    );
                }
            }
        }
        for (one, several) in singles.iter().zip(&whole) {
            assert!(
                (one - several).abs() < 1e-3,
                "{}: {one} {several}",
                kernel.info().id
            );
        }
    }
}

#[test]
fn four_bits_are_off_by_the_rounding_of_the_scale() {
    let (rows, k, tokens) = (33, 1000, 5);
    let ternary: Vec<f32> = noise(rows * k, 3)
        .iter()
        .map(|w| (1.5 * w).round())
        .collect();
    let mut acts: Vec<f32> = noise(tokens * k, 4)
        .iter()
        .map(|x| (127.0 * x).round())
        .collect();
    acts.chunks_exact_mut(k).for_each(|x| x[9] = -127.0);
    for kernel in kernels() {
        let kernel = &*kernel;
        if kernel.info().format != DenseFormat::Q4 {
            continue;
        }
        let weights = kernel.pack(&ternary, rows, k);
        let prepared = prepare(kernel, &acts, tokens, k);
        for window in [0..tokens, 2..3] {
            let got = gemm(kernel, &weights, &prepared, 0..rows, window.clone());
            for (got, at) in got.iter().zip(window.start * rows..) {
                let (w, x) = (&ternary[at % rows * k..][..k], &acts[at / rows * k..][..k]);
                let want: f32 = w.iter().zip(x).map(|(w, x)| w * x).sum();
                let bound: f32 = x.iter().map(|x| x.abs()).sum::<f32>() / 2048.0;
                assert!(
                    (got - want).abs() < bound,
                    "{}: {got} {want}",
                    kernel.info().id
                );
            }
        }
    }
}

#[test]
fn int8_scales_follow_the_rows() {
    // A row of zeros, a huge one and a tiny one.
    let k = 40;
    let mut w = noise(3 * k, 5);
    w[..k].fill(0.0);
    w[k..2 * k].iter_mut().for_each(|w| *w *= 1e20);
    w[2 * k..].iter_mut().for_each(|w| *w *= 1e-20);
    let x = noise(k, 6);
    for kernel in kernels() {
        let kernel = &*kernel;
        if kernel.info().format != DenseFormat::I8 {
            continue;
        }
        let weights = kernel.pack(&w, 3, k);
        assert_eq!(weights.row_scales.len(), 3);
        let got = gemm(kernel, &weights, &prepare(kernel, &x, 1, k), 0..3, 0..1);
        assert_eq!(got[0].to_bits(), 0.0f32.to_bits());
        for row in 1..3 {
            let w = &w[row * k..][..k];
            let want: f64 = w.iter().zip(&x).map(|(w, x)| f64::from(w * x)).sum();
            let size: f64 = w
                .iter()
                .zip(&x)
                .map(|(w, x)| f64::from((w * x).abs()))
                .sum();
            assert!(
                (f64::from(got[row]) - want).abs() < 0.02 * size,
                "{}",
                kernel.info().id
            );
        }
    }
}

#[test]
fn capped_kernels_do_not_open() {
    for entry in ENTRIES {
        let opened = (entry.open)(Cpu::capped(Isa::Scalar)).is_ok();
        assert_eq!(opened, entry.info.isa == Isa::Scalar, "{}", entry.info.id);
    }
}

#[test]
#[should_panic(expected = "weights were packed by another kernel")]
fn weights_of_another_kernel_are_refused() {
    let kernel = (ENTRIES[0].open)(Cpu::uncapped()).unwrap();
    let mut weights = kernel.pack(&[1.0; 8], 2, 4);
    weights.kernel = "(another)";
    let prepared = prepare(&*kernel, &[1.0; 4], 1, 4);
    gemm(&*kernel, &weights, &prepared, 0..2, 0..1);
}

/// Packed bytes between others.
struct Inside(Vec<u8>);

impl ByteOwner for Inside {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[test]
#[should_panic(expected = "packed weights and prepared tokens are aligned")]
fn weights_between_two_numbers_are_refused() {
    let kernel = (ENTRIES[0].open)(Cpu::uncapped()).unwrap();
    let packed = kernel.pack(&[1.0; 8], 2, 4);
    let len = packed.data.bytes().len();
    let bytes = vec![0; len + 8];
    let odd = bytes.as_ptr().addr() % 4 + 1;
    let data = Storage::Shared(Arc::new(Inside(bytes)), odd..odd + len);
    let prepared = prepare(&*kernel, &[1.0; 4], 1, 4);
    gemm(
        &*kernel,
        &DenseWeights { data, ..packed },
        &prepared,
        0..2,
        0..1,
    );
}

#[test]
#[should_panic(expected = "tokens that are not prepared")]
fn tokens_that_were_not_prepared_are_refused() {
    let kernel = (ENTRIES[0].open)(Cpu::uncapped()).unwrap();
    let weights = kernel.pack(&[1.0; 8], 2, 4);
    let prepared = prepare(&*kernel, &[1.0; 4], 1, 4);
    gemm(&*kernel, &weights, &prepared, 0..2, 0..9);
}
