//! `cargo bench -p trit-benches [-- FILTER]`: every kernel of the registry at 2560 x 2560, weights warm, one thread.
//! Names are `<workload>/<kernel>`; elements are weights times tokens, activations or packed weights.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use trit_benches::{Dense, Ternary, weights};
use trit_kernel::{Codes, Cpu, LayoutId, Packed, Scales};
use trit_ops::probe::issue_loops;

const ROWS: usize = 2560;
const K: usize = 2560;

fn group<'a>(
    criterion: &'a mut Criterion,
    name: &str,
    elements: usize,
) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10);
    group.warm_up_time(Duration::from_millis(200));
    group.measurement_time(Duration::from_millis(800));
    group.throughput(Throughput::Elements(elements as u64));
    group
}

#[expect(
    clippy::print_stderr,
    reason = "a bench talks on stderr; criterion owns stdout"
)]
fn skip(id: &str, reason: &dyn std::fmt::Display) {
    eprintln!("skipped {id}: {reason}");
}

fn gemm(criterion: &mut Criterion) {
    for (name, tokens) in [("gemv", 1), ("gemm-32", 32), ("gemm-128", 128)] {
        let mut group = group(criterion, name, ROWS * K * tokens);
        for entry in trit_kernels::kernels() {
            match Ternary::open(entry, ROWS, K, tokens) {
                Ok(mut case) => {
                    group.bench_function(entry.info.id, |b| b.iter(|| black_box(case.gemm())[0]));
                }
                Err(reason) => skip(entry.info.id, &reason),
            }
        }
        for entry in trit_kernels::dense() {
            match Dense::open(entry, ROWS, K, tokens) {
                Ok(mut case) => {
                    group.bench_function(entry.info.id, |b| b.iter(|| black_box(case.gemm())[0]));
                }
                Err(reason) => skip(entry.info.id, &reason),
            }
        }
    }
}

fn prepare(criterion: &mut Criterion) {
    let tokens = 32;
    let mut group = group(criterion, "prepare-32", tokens * K);
    for entry in trit_kernels::kernels() {
        match Ternary::open(entry, 64, K, tokens) {
            Ok(mut case) => {
                group.bench_function(entry.info.id, |b| b.iter(|| case.prepare()));
            }
            Err(reason) => skip(entry.info.id, &reason),
        }
    }
    for entry in trit_kernels::dense() {
        match Dense::open(entry, 64, K, tokens) {
            Ok(mut case) => {
                group.bench_function(entry.info.id, |b| b.iter(|| case.prepare()));
            }
            Err(reason) => skip(entry.info.id, &reason),
        }
    }
}

fn pack(criterion: &mut Criterion) {
    let data = weights(ROWS * K, 1);
    let codes = Codes::new(&data, ROWS, K).expect("a valid matrix");
    let mut group = group(criterion, "pack", ROWS * K);
    for layout in LayoutId::ALL {
        let size = layout.matrix_bytes(ROWS, K).expect("a small matrix");
        let mut out = vec![0; size];
        group.bench_function(layout.name(), |b| {
            b.iter(|| Packed::pack_into(codes, layout, &mut out));
        });
        let packed = Packed::pack(codes, layout, Scales::Tensor(1.0)).expect("a valid matrix");
        // A filter may have left the bench out.
        Packed::pack_into(codes, layout, &mut out);
        assert!(packed.bytes() == out, "packing twice gives the same bytes");
    }
}

/// Register-only loops: elements are instructions, or the weights of a look-up kernel's steps.
fn issue(criterion: &mut Criterion) {
    const ITERATIONS: u64 = 4096;
    let mut group = group(criterion, "issue", 0);
    for one in issue_loops(Cpu::uncapped()) {
        let weights = one.weights_per_step().max(1);
        let elements = ITERATIONS * one.steps_per_iteration() * weights;
        group.throughput(Throughput::Elements(elements));
        group.bench_function(one.name(), |b| b.iter(|| one.run(black_box(ITERATIONS))));
    }
}

criterion_group!(benches, gemm, prepare, pack, issue);
criterion_main!(benches);
