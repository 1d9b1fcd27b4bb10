//! Seeded rows that look like a session: times with tails and steps, pairs, tokens, and cells that went wrong.
#![allow(dead_code, reason = "each test binary uses a part")]

use trit_core::{
    Cell, Measurement, Probe, Results, Session, Side, Status, SummaryRow, TokenRow, Workload,
};
use trit_stats::Rng;

/// The rows of a made-up session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) cells: Vec<Cell>,
    pub(crate) measurements: Vec<Measurement>,
    pub(crate) tokens: Vec<TokenRow>,
}

/// Kernel ids with the nanoseconds one of them takes for a 2560x2560 GEMV on one thread.
pub(crate) const KERNELS: [(&str, &str, f64); 9] = [
    ("w1.6a8-mad-avx512vbmi", "avx512vbmi", 1.6),
    ("w2a8-mad-avx512vnni", "avx512vnni", 2.0),
    ("w2a8-mad-avx2", "avx2", 2.0),
    ("w1.67a8-lut3-avx2", "avx2", 1.67),
    ("w2a8-lut2-avx2", "avx2", 2.0),
    ("f16-dense-avx2", "avx2", 16.0),
    ("f32-dense-avx2", "avx2", 32.0),
    ("w2a8-scalar-portable", "scalar", 2.0),
    ("w2a8-naive-scalar", "scalar", 8.0),
];

fn cell(id: String, subject: &str, isa: &str, bits: f64, workload: Workload, threads: u64) -> Cell {
    Cell {
        cell: id,
        subject: subject.to_owned(),
        kernel: subject.trim_start_matches("engine:").to_owned(),
        isa: isa.to_owned(),
        layout: "x86-2bit-128".to_owned(),
        weight_bits: Some(bits),
        workload,
        threads: Some(threads),
        ..Cell::default()
    }
}

impl Rows {
    /// Slices of a cell around `median_ns` a call, with a heavy right tail and slow steps.
    fn slices(&mut self, rng: &mut Rng, cell: &str, median_ns: f64, count: u64) {
        let mut slow = 0.0;
        for sample in 0..count {
            if rng.below(40) == 0 {
                slow = 0.12 - slow;
            }
            let tail = if rng.below(30) == 0 {
                rng.uniform() * 1.5
            } else {
                0.0
            };
            let ns = median_ns * (1.0 + slow + tail) * (0.02 * rng.normal()).exp();
            let iterations = (1e6 / median_ns).ceil() as u64;
            self.measurements.push(Measurement {
                cell: cell.to_owned(),
                round: sample / 10,
                block: sample,
                sample: 0,
                iterations,
                time_ns: (ns * iterations as f64) as u64,
                user_ns: Some((ns * iterations as f64) as u64),
                system_ns: Some(1000),
                load_ns: None,
                peak_rss_bytes: Some(90_000_000 + 1000 * sample),
                rss_anon_bytes: Some(60_000_000),
                rss_file_bytes: Some(12_000_000),
                ..Measurement::default()
            });
        }
    }

    /// ABBA blocks of a cell and its probe, each with the bytes of a call; `share` is the true share of the probe's rate.
    fn blocks(
        &mut self,
        rng: &mut Rng,
        cell: (&Cell, f64),
        probe: (&Cell, f64),
        share: f64,
        count: u64,
    ) {
        let ((cell, bytes), (probe, probe_bytes)) = (cell, probe);
        for block in 0..count {
            let speed = 20.0 * (1.0 + 0.1 * (block as f64 / 7.0).sin());
            for (sample, side) in [Side::A, Side::B, Side::B, Side::A].into_iter().enumerate() {
                let (own, other, ns) = match side {
                    Side::B => (&probe.cell, &cell.cell, probe_bytes / speed),
                    _ => (&cell.cell, &probe.cell, bytes / (speed * share)),
                };
                self.measurements.push(Measurement {
                    cell: own.clone(),
                    round: block / 4,
                    block,
                    side,
                    sample: sample as u64,
                    pair: other.clone(),
                    iterations: 10,
                    time_ns: (10.0 * ns * (0.01 * rng.normal()).exp()) as u64,
                    ..Measurement::default()
                });
            }
        }
    }
}

/// A session of kernels at one shape and two models, at each thread count.
pub(crate) fn session_rows(kernels: &[(&str, &str, f64)], threads: &[u64], seed: u64) -> Rows {
    let mut rng = Rng::new(seed);
    let mut rows = Rows::default();
    let scaling = |threads: u64, position: usize| {
        let serial = 0.02 + 0.02 * (position % 5) as f64;
        serial + (1.0 - serial) / threads as f64
    };
    for (workload, tokens, base) in [
        (Workload::GemvCold, 1, 160_000.0),
        (Workload::GemvWarm, 1, 70_000.0),
        (Workload::Gemm, 32, 1_400_000.0),
    ] {
        for (position, (kernel, isa, bits)) in kernels.iter().enumerate() {
            let factor = 1.25_f64.powi(position as i32) * if *isa == "scalar" { 12.0 } else { 1.0 };
            for &count in threads {
                let id = format!("{workload}/{kernel}/2560x2560/t{count}");
                let mut cell = cell(id.clone(), kernel, isa, *bits, workload, count);
                (cell.rows, cell.k, cell.tokens) = (Some(2560), Some(2560), Some(tokens));
                rows.cells.push(cell);
                rows.slices(&mut rng, &id, base * factor * scaling(count, position), 120);
            }
        }
    }
    for (model, load_ns, anon, file, token_ns) in [
        ("synth:125m", 40_000_000, 80_000_000, 60_000_000, 6e6),
        (
            "/models/bitnet-2b4t-i2s.gguf",
            900_000_000,
            150_000_000,
            1_180_000_000_u64,
            55e6,
        ),
    ] {
        for (position, (kernel, isa, bits)) in kernels.iter().take(5).enumerate() {
            for &count in threads {
                for workload in [Workload::Prefill, Workload::Decode] {
                    let id = format!("{workload}/{kernel}/{model}/t{count}");
                    let mut cell = cell(
                        id.clone(),
                        &format!("engine:{kernel}"),
                        isa,
                        *bits,
                        workload,
                        count,
                    );
                    cell.model = String::from(model);
                    cell.kv = String::from("f16");
                    cell.bytes_per_call = Some((token_ns * 12.0) as u64);
                    cell.prompt_tokens = Some(64);
                    rows.cells.push(cell);
                    let ns = token_ns * 1.2_f64.powi(position as i32) * scaling(count, position);
                    for round in 0..8 {
                        let prefill = workload == Workload::Prefill;
                        let calls = if prefill { 1 } else { 16 };
                        let call = if prefill { 20.0 * ns } else { ns };
                        rows.measurements.push(Measurement {
                            cell: id.clone(),
                            round,
                            block: round,
                            iterations: calls,
                            time_ns: (call * calls as f64 * (0.02 * rng.normal()).exp()) as u64,
                            load_ns: (round == 0).then_some(load_ns),
                            peak_rss_bytes: Some(anon + file + 9_000_000),
                            rss_anon_bytes: Some(anon),
                            rss_file_bytes: Some(file),
                            ..Measurement::default()
                        });
                        for index in 0..if prefill { 1 } else { 17 } {
                            let mean = if index == 0 { 20.0 * ns } else { ns };
                            rows.tokens.push(TokenRow {
                                cell: id.clone(),
                                round,
                                request: 0,
                                index,
                                token: 7,
                                time_ns: (mean * (0.03 * rng.normal()).exp()) as u64,
                            });
                        }
                    }
                }
            }
        }
    }
    for &count in threads {
        let mut probe = cell(
            format!("read/t{count}"),
            "probe:read",
            "avx512",
            8.0,
            Workload::Read,
            count,
        );
        probe.kernel = String::new();
        (probe.rows, probe.k) = (Some(1), Some(64_000_000));
        let id = format!("gemv-cold/{}/2560x2560/t{count}", kernels[0].0);
        let subject = rows
            .cells
            .iter()
            .find(|cell| cell.cell == id)
            .cloned()
            .unwrap_or_default();
        let bytes = 2560.0 * 2560.0 * kernels[0].2 / 8.0;
        rows.blocks(&mut rng, (&subject, bytes), (&probe, 64e6), 0.62, 24);
        rows.cells.push(probe);
    }
    for (status, reason) in [
        (
            Status::Skipped,
            "no AMX: the processor does not list amx-int8",
        ),
        (Status::Wrong, "digest 1f3a differs from the reference 77c0"),
        (
            Status::Crashed,
            "the worker died with signal 4 (illegal instruction)",
        ),
    ] {
        let mut cell = cell(
            format!("gemm/w2a8-tile-amx/{status}"),
            "w2a8-tile-amx",
            "amx",
            2.0,
            Workload::Gemm,
            1,
        );
        (cell.rows, cell.k, cell.tokens) = (Some(2560), Some(2560), Some(32));
        (cell.status, cell.reason) = (status, reason.to_owned());
        rows.cells.push(cell);
    }
    rows
}

/// A row that takes `ns`, give or take 1 %.
pub(crate) fn row(
    kernel: &str,
    workload: Workload,
    shape: (u64, u64),
    threads: u64,
    ns: f64,
) -> SummaryRow {
    let ops = 2.0 * (shape.0 * shape.1) as f64;
    SummaryRow {
        cell: Cell {
            cell: format!("{kernel}/{workload}/{}x{}/t{threads}", shape.0, shape.1),
            subject: kernel.to_owned(),
            kernel: kernel.to_owned(),
            weight_bits: Some(if kernel.contains("-dense-") {
                16.0
            } else {
                2.0
            }),
            workload,
            rows: Some(shape.0),
            k: Some(shape.1),
            tokens: Some(1),
            threads: Some(threads),
            ..Cell::default()
        },
        results: Results {
            n: Some(50),
            median_ns: Some(ns),
            lo_ns: Some(ns * 0.99),
            hi_ns: Some(ns * 1.01),
            gops: Some(ops / ns),
            ..Results::default()
        },
    }
}

/// The record of the made-up session.
pub(crate) fn session() -> Session {
    Session {
        schema: 1,
        version: "0.1.0".to_owned(),
        git_revision: Some("0123456".to_owned()),
        argv: ["tritbench", "run", "quick", "--out", "runs/a b"]
            .map(str::to_owned)
            .to_vec(),
        started_utc: "2026-03-01T09:30:00Z".to_owned(),
        host: "bench-1".to_owned(),
        suite: "quick".to_owned(),
        suite_sha256: "ab".repeat(32),
        machine: serde_json::json!({
            "cpu": {"model": "AMD EPYC 9R45", "cores": 2, "threads": 2, "isa": ["avx2", "avx512f"]},
            "virtualization": {"virtual_machine": true, "hypervisor": "KVM"},
            "memory": {"total_bytes": 25_769_803_776_u64},
            "caches": [
                {"level": 1, "kind": "Data", "size_bytes": 49152, "instances": 2},
                {"level": 3, "kind": "Unified", "size_bytes": 33_554_432}
            ],
        }),
        probes: vec![Probe {
            subject: "probe:read".to_owned(),
            variant: "8 streams, 64-byte loads".to_owned(),
            threads: 2,
            working_set_bytes: 1 << 30,
            amount_per_iteration: 1 << 30,
            time_ns: 5e7,
        }],
        ..Session::default()
    }
}

/// A session of `count` kernel cells at many shapes: 12 slices each, a pair with the read probe for every tenth of those from memory.
pub(crate) fn many_cells(count: usize, seed: u64) -> Rows {
    let mut rng = Rng::new(seed);
    let mut rows = Rows::default();
    let mut probe = cell(
        "read/t1".to_owned(),
        "probe:read",
        "avx512",
        8.0,
        Workload::Read,
        1,
    );
    probe.kernel = String::new();
    probe.bytes_per_call = Some(64_000_000);
    let workloads = [Workload::GemvCold, Workload::GemvWarm, Workload::Gemm];
    for at in 0..count {
        let (kernel, isa, bits) = KERNELS[at % KERNELS.len()];
        let threads = 1 + (at / KERNELS.len() % 2) as u64;
        let group = at / (2 * KERNELS.len());
        let workload = workloads[group % 3];
        let shape = (64 * (1 + group / 3) as u64, 2560);
        let id = format!("{workload}/{kernel}/{}x{}/t{threads}", shape.0, shape.1);
        let mut cell = cell(id.clone(), kernel, isa, bits, workload, threads);
        (cell.rows, cell.k) = (Some(shape.0), Some(shape.1));
        cell.tokens = Some(if workload == Workload::Gemm { 32 } else { 1 });
        let ns = (shape.0 * shape.1) as f64 * 0.05 / threads as f64 * (1.0 + at as f64 % 7.0);
        rows.slices(&mut rng, &id, ns, 12);
        if workload == Workload::GemvCold && at % 10 == 0 {
            let bytes = (shape.0 * shape.1) as f64 * bits.min(2.0) / 8.0;
            rows.blocks(&mut rng, (&cell, bytes), (&probe, 64e6), 0.7, 8);
        }
        rows.cells.push(cell);
    }
    rows.cells.push(probe);
    rows
}
