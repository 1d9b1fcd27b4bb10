//! The lists of cases behind [`crate::kernel_tests`].

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use trit_kernel::{
    Activations, AlignedBuf, Codes, GemmArgs, Kernel, LayoutId, MAX_K, Packed, PreparedBuf, Scales,
};

use crate::{Activation, Case, Weight};

fn layouts(kernel: &dyn Kernel) -> &'static [LayoutId] {
    kernel.info().accepts
}

/// Row counts around the steps of kernel and layout.
fn row_counts(kernel: &dyn Kernel, layout: LayoutId) -> BTreeSet<usize> {
    let mut rows = BTreeSet::from([1, 2, 3, 7, 13]);
    for step in [kernel.row_step(), layout.spec().row_group] {
        // A step may be large for the sake of splitting; more rows than that teach nothing.
        if step <= 256 {
            rows.extend([step - 1, step, step + 1, 2 * step + 1]);
        }
    }
    rows.remove(&0);
    rows
}

/// One row group and a ragged one.
fn ragged_rows(layout: LayoutId) -> usize {
    layout.spec().row_group + 3
}

/// K around blocks, flush periods and primes.
fn column_counts(layout: LayoutId) -> BTreeSet<usize> {
    let block = layout.spec().k_block;
    let mut ks = BTreeSet::from([
        1, 2, 3, 4, 5, 6, 7, 11, 15, 16, 17, 31, 32, 33, 61, 63, 64, 65, 97, 127, 128, 129, 131,
        191, 255, 256, 257, 383, 509, 521, 1021, 1031, 2047, 2048, 2049, 2176, 2177, 2560, 4095,
        4096, 4097, 4099, 6911, 6912,
    ]);
    for n in [1, 2, 3, 8, 16, 17] {
        ks.extend([n * block - 1, n * block, n * block + 1]);
    }
    ks.remove(&0);
    ks
}

/// Every activation value against weights of every sign.
///
/// # Panics
/// When the kernel is wrong.
pub fn all_activations(kernel: &dyn Kernel) {
    for layout in layouts(kernel) {
        for weights in [Weight::Random, Weight::All(1), Weight::All(-1)] {
            Case {
                weights,
                activations: Activation::Ramp,
                ..Case::new(*layout, 5, 129, 256)
            }
            .assert(kernel);
        }
    }
}

/// Ragged rows and K.
pub fn edge_shapes(kernel: &dyn Kernel) {
    for layout in layouts(kernel) {
        for k in column_counts(*layout) {
            for tokens in [1, 3] {
                Case::new(*layout, ragged_rows(*layout), k, tokens).assert(kernel);
            }
        }
        for rows in row_counts(kernel, *layout) {
            for tokens in [1, kernel.token_step() + 1] {
                Case::new(*layout, rows, 131, tokens).assert(kernel);
            }
        }
    }
}

/// 1 to 17, 32, 33 and 128 tokens.
pub fn token_counts(kernel: &dyn Kernel) {
    for layout in layouts(kernel) {
        let rows = 2 * layout.spec().row_group.max(4) + 1;
        for tokens in (1..=17).chain([32, 33, 128]) {
            for k in [layout.spec().k_block * 2 + 3, 384] {
                Case::new(*layout, rows, k, tokens).assert(kernel);
            }
        }
    }
}

/// The K of the published models from 125M to 8B, with few rows.
pub fn model_shapes(kernel: &dyn Kernel) {
    // Hidden and feed-forward widths of arXiv 2410.16144 (appendix A), 2B4T, Llama3-8B and Falcon3.
    let widths = [
        768, 1024, 1536, 2048, 2560, 3072, 3200, 3584, 3840, 4096, 6912, 8192, 8640, 9216, 12032,
        14336, 23040,
    ];
    for layout in layouts(kernel) {
        for k in widths {
            for tokens in [1, 4] {
                Case::new(*layout, ragged_rows(*layout), k, tokens).assert(kernel);
            }
        }
    }
}

/// The largest K there is, with the largest sums: every intermediate must hold them.
pub fn largest_k(kernel: &dyn Kernel) {
    for layout in layouts(kernel) {
        for weight in [1, -1] {
            Case {
                weights: Weight::All(weight),
                activations: Activation::All(-128),
                ..Case::new(*layout, 2, MAX_K, 1)
            }
            .assert(kernel);
        }
    }
}

/// Every kind of weights against every kind of activations.
pub fn adversarial(kernel: &dyn Kernel) {
    for layout in layouts(kernel) {
        for k in [1, layout.spec().k_block + 1, 2560, 4223] {
            for weights in Weight::ALL {
                for activations in Activation::ALL {
                    for tokens in [1, 5, 16] {
                        Case {
                            weights,
                            activations,
                            ..Case::new(*layout, layout.spec().row_group + 1, k, tokens)
                        }
                        .assert(kernel);
                    }
                }
            }
        }
    }
}

/// Ranges of rows and tokens that fit no step, empty ones included.
pub fn windows(kernel: &dyn Kernel) {
    for layout in layouts(kernel) {
        let step = kernel.row_step().clamp(layout.spec().row_group, 64);
        let rows = 2 * step + 5;
        let tokens = 2 * kernel.token_step() + 9;
        let row_windows = [
            0..rows,
            1..rows,
            0..1,
            rows - 1..rows,
            3..step + 2,
            step - 1..step + 1,
            step..step,
            2..7,
        ];
        let token_windows = [
            0..tokens,
            1..2,
            tokens - 1..tokens,
            1..tokens - 1,
            3..8,
            2..2,
        ];
        for row_window in row_windows {
            for token_window in token_windows.clone() {
                Case {
                    row_window: row_window.clone(),
                    token_window,
                    ..Case::new(*layout, rows, 300, tokens)
                }
                .assert(kernel);
            }
        }
    }
}

/// Weights inside something shared, at offsets that fit no register.
pub fn unaligned(kernel: &dyn Kernel) {
    for layout in layouts(kernel) {
        for offset in [1, 31, 32, 63] {
            for tokens in [1, 9] {
                Case {
                    offset: Some(offset),
                    ..Case::new(*layout, ragged_rows(*layout), 389, tokens)
                }
                .assert(kernel);
            }
        }
    }
}

/// Groups prepared apart give the bytes of one call, and the sums stay right.
///
/// # Panics
/// When the kernel is wrong.
pub fn prepare_splits(kernel: &dyn Kernel) {
    let tokens = 3 * kernel.token_step() + 1;
    for layout in layouts(kernel) {
        for k in [1, 129, 640] {
            for groups_a_call in [1, 2] {
                Case {
                    groups_a_call,
                    ..Case::new(*layout, 3, k, tokens)
                }
                .assert(kernel);
            }
        }
    }
    let mut rng = crate::Rng::new(7);
    let data = Activation::Random.fill(tokens, 129, &mut rng);
    let view = Activations::new(&data, tokens, 129);
    let groups = tokens.div_ceil(kernel.token_step());
    let bytes = kernel.prepared_group_bytes(129);
    let mut whole = AlignedBuf::zeroed(groups * bytes);
    kernel.prepare(view, 0..groups, whole.bytes_mut());
    let mut parts = AlignedBuf::zeroed(groups * bytes);
    for group in (0..groups).rev() {
        let out = &mut parts.bytes_mut()[group * bytes..(group + 1) * bytes];
        kernel.prepare(view, group..group + 1, out);
    }
    assert_eq!(
        whole.bytes(),
        parts.bytes(),
        "{}: prepare depends on the split",
        kernel.info().id
    );
}

/// Random cases; a failing one is shrunk before it is shown.
///
/// # Panics
/// When the kernel is wrong.
pub fn random_shapes(kernel: &dyn Kernel) {
    let config = Config {
        cases: 96,
        max_shrink_iters: 4096,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&any_case(layouts(kernel)), |case| {
        case.check(kernel).map_err(TestCaseError::fail)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, case)) => {
            panic!("{}: {reason}\nsmallest case: {case:?}", kernel.info().id)
        }
        Err(TestError::Abort(reason)) => panic!("{}: {reason}", kernel.info().id),
    }
}

/// Independent numbers, so that each shrinks alone: windows are fractions of what they are cut from.
fn any_case(layouts: &'static [LayoutId]) -> impl Strategy<Value = Case> {
    let shape = (1usize..80, 1usize..1400, 1usize..40);
    let fractions = (any::<u16>(), any::<u16>(), any::<u16>(), any::<u16>());
    let kind = (
        0..layouts.len(),
        prop::sample::select(Weight::ALL.to_vec()),
        prop::sample::select(Activation::ALL.to_vec()),
        prop::option::of(0usize..70),
        1usize..4,
        any::<u64>(),
    );
    (shape, fractions, kind).prop_map(|((rows, k, tokens), (r0, r1, t0, t1), kind)| {
        let (layout, weights, activations, offset, groups_a_call, seed) = kind;
        // The start shrinks to 0 and the end to all.
        let window = |n: usize, start: u16, end: u16| {
            let (start, end) = (
                (n * usize::from(start)) >> 16,
                n - ((n * usize::from(end)) >> 16),
            );
            start.min(end)..end.max(start)
        };
        Case {
            layout: layouts[layout],
            rows,
            k,
            tokens,
            weights,
            activations,
            row_window: window(rows, r0, r1),
            token_window: window(tokens, t0, t1),
            offset,
            groups_a_call,
            seed,
        }
    })
}

/// Arguments that do not fit panic: nothing is read or written out of bounds.
///
/// # Panics
/// When the kernel is wrong.
pub fn misuse(kernel: &dyn Kernel) {
    let layout = layouts(kernel)[0];
    let (rows, k, tokens) = (4, 70, 2);
    let codes = vec![1; rows * k];
    let codes = Codes::new(&codes, rows, k).expect("valid codes");
    let packed = Packed::pack(codes, layout, Scales::Tensor(1.0)).expect("valid matrix");
    let narrow = vec![1; tokens * (k - 1)];
    let data = vec![1; tokens * k];
    let mut prepared = PreparedBuf::new();
    let mut wrong_k = PreparedBuf::new();
    prepared.fill(kernel, Activations::new(&data, tokens, k));
    wrong_k.fill(kernel, Activations::new(&narrow, tokens, k - 1));
    let panics = |what: &str,
                  prepared: &PreparedBuf,
                  rows: std::ops::Range<usize>,
                  tokens: std::ops::Range<usize>,
                  sums: usize| {
        let mut scratch = AlignedBuf::zeroed(kernel.scratch_bytes(k, rows.len(), tokens.len()));
        let mut out = vec![0; sums];
        let result = catch_unwind(AssertUnwindSafe(|| {
            kernel.gemm(GemmArgs {
                weights: &packed,
                prepared: prepared.view(),
                rows,
                tokens,
                scratch: scratch.bytes_mut(),
                out: &mut out,
            });
        }));
        assert!(result.is_err(), "{}: {what} is accepted", kernel.info().id);
    };
    panics(
        "out that is too small",
        &prepared,
        0..rows,
        0..tokens,
        rows * tokens - 1,
    );
    panics(
        "out that is too large",
        &prepared,
        0..rows,
        0..tokens,
        rows * tokens + 1,
    );
    panics(
        "rows beyond the matrix",
        &prepared,
        1..rows + 1,
        0..tokens,
        rows * tokens,
    );
    panics(
        "tokens beyond the prepared ones",
        &prepared,
        0..rows,
        1..tokens + 1,
        rows * tokens,
    );
    panics(
        "activations of another K",
        &wrong_k,
        0..rows,
        0..tokens,
        rows * tokens,
    );
    let mut short = AlignedBuf::zeroed(kernel.prepared_group_bytes(k).saturating_sub(64));
    let result = catch_unwind(AssertUnwindSafe(|| {
        kernel.prepare(Activations::new(&data, tokens, k), 0..1, short.bytes_mut());
    }));
    assert!(
        result.is_err(),
        "{}: prepare accepts a short out",
        kernel.info().id
    );
}
