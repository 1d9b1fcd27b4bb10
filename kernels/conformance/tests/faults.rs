//! The tests must be able to fail: a plain kernel passes them all, and each way of being wrong is caught.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use trit_kernel::{
    Accuracy, Activations, DenseArgs, DenseFormat, DenseInfo, DenseKernel, DenseWeights, Family,
    GemmArgs, Isa, Kernel, KernelInfo, LayoutId,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    IgnoresRowStart,
    IgnoresTokenStart,
    DropsLastColumn,
    DropsLastRow,
    DropsLastToken,
    Clamps128,
    Sums16Bits,
    ReadsScratch,
    SplitsPrepare,
    LeavesPadding,
    ReadsPlanesWrong,
    WrongFromSixteenTokens,
    SkipsTheCheck,
}

const FAULTS: [Fault; 13] = [
    Fault::IgnoresRowStart,
    Fault::IgnoresTokenStart,
    Fault::DropsLastColumn,
    Fault::DropsLastRow,
    Fault::DropsLastToken,
    Fault::Clamps128,
    Fault::Sums16Bits,
    Fault::ReadsScratch,
    Fault::SplitsPrepare,
    Fault::LeavesPadding,
    Fault::ReadsPlanesWrong,
    Fault::WrongFromSixteenTokens,
    Fault::SkipsTheCheck,
];

static INFO: KernelInfo = KernelInfo {
    id: "w2a8-plain-scalar",
    family: Family::Naive,
    isa: Isa::Scalar,
    accepts: &[LayoutId::I2S, LayoutId::R16],
    accuracy: Accuracy::Exact,
    min_tokens: 1,
    summary: "a kernel to test the tests",
};

/// Groups of two tokens, so that padding of the last group matters.
struct Plain(Fault);

impl Kernel for Plain {
    fn info(&self) -> &'static KernelInfo {
        &INFO
    }

    fn row_step(&self) -> usize {
        4
    }

    fn token_step(&self) -> usize {
        2
    }

    fn prepared_group_bytes(&self, k: usize) -> usize {
        2 * k.next_multiple_of(64)
    }

    fn prepare(&self, activations: Activations<'_>, groups: Range<usize>, out: &mut [u8]) {
        let half = activations.k().next_multiple_of(64);
        assert_eq!(out.len(), groups.len() * 2 * half);
        let first = if self.0 == Fault::SplitsPrepare {
            0
        } else {
            groups.start * 2
        };
        if self.0 != Fault::LeavesPadding {
            out.fill(0);
        }
        for (i, out) in out.chunks_exact_mut(half).enumerate() {
            if first + i < activations.tokens() {
                for (out, a) in out.iter_mut().zip(activations.row(first + i)) {
                    *out = match self.0 {
                        Fault::Clamps128 => (*a).max(-127) as u8,
                        _ => *a as u8,
                    };
                }
            }
        }
    }

    fn scratch_bytes(&self, k: usize, _rows: usize, _tokens: usize) -> usize {
        k
    }

    fn gemm(&self, args: GemmArgs<'_>) {
        let k = args.weights.k();
        if self.0 == Fault::SkipsTheCheck {
            if args.out.len() != args.rows.len() * args.tokens.len() {
                return;
            }
        } else {
            args.check(&INFO, k);
        }
        let half = k.next_multiple_of(64);
        let width = args.rows.len();
        let mut row = vec![0i8; k];
        for (column, r) in args.rows.clone().enumerate() {
            if self.0 == Fault::DropsLastRow && r + 1 == args.rows.end && width % 4 == 1 {
                continue;
            }
            let r = if self.0 == Fault::IgnoresRowStart {
                column
            } else {
                r
            };
            args.weights.unpack_row(r, &mut row);
            if self.0 == Fault::ReadsPlanesWrong && args.weights.layout() == LayoutId::R16 {
                row.swap(0, k / 2);
            }
            if self.0 == Fault::ReadsScratch {
                row[0] = (args.scratch[0] as i8).signum();
            }
            for (line, t) in args.tokens.clone().enumerate() {
                if self.0 == Fault::DropsLastToken && line + 1 == args.tokens.len() && line > 1 {
                    continue;
                }
                let t = if self.0 == Fault::IgnoresTokenStart {
                    line
                } else {
                    t
                };
                let a = &args.prepared.bytes()[t * half..(t + 1) * half];
                let padded = if self.0 == Fault::LeavesPadding {
                    half
                } else {
                    k
                };
                let mut sum = 0i32;
                for (column, a) in a[..padded].iter().enumerate() {
                    if self.0 == Fault::DropsLastColumn && column == 127 {
                        continue;
                    }
                    let w = row.get(column).copied().unwrap_or(1);
                    sum += i32::from(w) * i32::from(*a as i8);
                }
                if self.0 == Fault::Sums16Bits {
                    sum = i32::from(sum as i16);
                }
                if self.0 == Fault::WrongFromSixteenTokens && args.tokens.len() >= 16 {
                    sum ^= 1;
                }
                args.out[line * width + column] = sum;
            }
        }
    }
}

type Test = fn(&dyn Kernel);
const TESTS: [(&str, Test); 11] = [
    ("all_activations", trit_conformance::all_activations),
    ("edge_shapes", trit_conformance::edge_shapes),
    ("token_counts", trit_conformance::token_counts),
    ("model_shapes", trit_conformance::model_shapes),
    ("largest_k", trit_conformance::largest_k),
    ("adversarial", trit_conformance::adversarial),
    ("windows", trit_conformance::windows),
    ("unaligned", trit_conformance::unaligned),
    ("prepare_splits", trit_conformance::prepare_splits),
    ("random_shapes", trit_conformance::random_shapes),
    ("misuse", trit_conformance::misuse),
];

fn caught(fault: Fault) -> Vec<&'static str> {
    TESTS
        .iter()
        .filter(|(_, test)| catch_unwind(AssertUnwindSafe(|| test(&Plain(fault)))).is_err())
        .map(|(name, _)| *name)
        .collect()
}

#[test]
fn a_right_kernel_passes() {
    assert_eq!(caught(Fault::None), Vec::<&str>::new());
}

#[test]
fn every_fault_is_caught() {
    for fault in FAULTS {
        assert!(!caught(fault).is_empty(), "{fault:?} passes all tests");
    }
}

#[test]
fn the_smallest_case_is_shown() {
    let panic = catch_unwind(|| trit_conformance::random_shapes(&Plain(Fault::DropsLastColumn)))
        .expect_err("a column is missing");
    let text = panic.downcast_ref::<String>().expect("a message");
    assert!(
        text.contains("k: 128"),
        "not shrunk to the first wrong K: {text}"
    );
}

struct PlainDense(DenseFormat, f32);

static DENSE_INFO: [DenseInfo; 2] = [
    DenseInfo {
        id: "f32-dense-scalar",
        format: DenseFormat::F32,
        isa: Isa::Scalar,
        summary: "",
    },
    DenseInfo {
        id: "q4-dense-scalar",
        format: DenseFormat::Q4,
        isa: Isa::Scalar,
        summary: "",
    },
];

impl DenseKernel for PlainDense {
    fn info(&self) -> &'static DenseInfo {
        &DENSE_INFO[usize::from(self.0 == DenseFormat::Q4)]
    }

    fn pack(&self, weights: &[f32], rows: usize, k: usize) -> DenseWeights {
        let mut data = trit_kernel::AlignedBuf::zeroed(weights.len() * 4);
        data.as_mut_slice::<f32>().copy_from_slice(weights);
        DenseWeights {
            kernel: self.info().id,
            rows,
            k,
            data: data.into(),
            row_scales: Vec::new(),
        }
    }

    fn row_step(&self) -> usize {
        1
    }

    fn token_step(&self) -> usize {
        1
    }

    fn prepared_group_bytes(&self, k: usize) -> usize {
        (4 * k).next_multiple_of(64)
    }

    fn prepare(
        &self,
        activations: &[f32],
        _tokens: usize,
        k: usize,
        groups: Range<usize>,
        out: &mut [u8],
    ) {
        for (token, out) in groups.zip(out.chunks_exact_mut((4 * k).next_multiple_of(64))) {
            for (out, a) in out
                .as_chunks_mut::<4>()
                .0
                .iter_mut()
                .zip(&activations[token * k..][..k])
            {
                *out = a.to_ne_bytes();
            }
        }
    }

    fn scratch_bytes(&self, _k: usize, _rows: usize, _tokens: usize) -> usize {
        0
    }

    /// Adds the fault `self.1`, relative to the sum of magnitudes.
    fn gemm(&self, args: DenseArgs<'_>) {
        let k = args.weights.k;
        let group = (4 * k).next_multiple_of(64);
        let mut out = args.out.iter_mut();
        for token in args.tokens {
            let a = args.prepared[token * group..][..4 * k].as_chunks::<4>().0;
            for row in args.rows.clone() {
                let w = &args.weights.data.bytes()[4 * row * k..][..4 * k];
                let float = |bytes: &[u8; 4]| f64::from(f32::from_ne_bytes(*bytes));
                let w = w.as_chunks().0.iter();
                let products = w.zip(a).map(|(w, a)| float(w) * float(a));
                let sum: f64 = products.clone().sum();
                let size: f64 = products.map(f64::abs).sum();
                *out.next().expect("out has the size of the window") =
                    (sum + f64::from(self.1) * size) as f32;
            }
        }
    }
}

#[test]
fn dense_bounds_hold_and_bite() {
    for format in [DenseFormat::F32, DenseFormat::Q4] {
        trit_conformance::ternary_is_exact(&PlainDense(format, 0.0));
        trit_conformance::real_numbers(&PlainDense(format, 0.0));
    }
    trit_conformance::ternary_is_exact(&PlainDense(DenseFormat::Q4, 0.0009));
    let fails = |format, fault| {
        let kernel = PlainDense(format, fault);
        catch_unwind(AssertUnwindSafe(|| {
            trit_conformance::ternary_is_exact(&kernel);
        }))
        .is_err()
    };
    assert!(fails(DenseFormat::F32, 1e-4));
    assert!(fails(DenseFormat::Q4, 0.0011));
    assert!(fails(DenseFormat::F32, f32::NAN));
}
