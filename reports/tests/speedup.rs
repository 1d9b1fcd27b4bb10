//! The speed-up report: ratios from pairs and from medians, the roof, who is first, what to take; the same bytes, and quickly.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{KERNELS, row, session, session_rows};
use serde_json::Value;
use trit_core::{PairQuantity, PairRow, Probe, SummaryRow, Workload, embedded_shape};
use trit_report::{Format, Record, Tables, speedup_paper, summarize_rows};

fn record(rows: Vec<SummaryRow>) -> Record {
    Record {
        session: session(),
        rows,
        ..Record::default()
    }
}

fn lines(record: &Record, baselines: &[&str]) -> Vec<Value> {
    let baselines: Vec<String> = baselines.iter().map(|name| (*name).to_owned()).collect();
    let paper = speedup_paper(record, &baselines).unwrap();
    serde_json::from_str(&paper.render(Format::Json)).unwrap()
}

const COLD: Workload = Workload::GemvCold;

#[test]
fn ratios_come_from_pairs_where_there_are_any() {
    let shape = (2560, 2560);
    let mut record = record(vec![
        row("w2a8-mad-avx2", COLD, shape, 1, 100.0),
        row("w2a8-lut2-avx2", COLD, shape, 1, 200.0),
        row("f16-dense-avx2", COLD, shape, 1, 700.0),
        row("f16-dense-scalar", COLD, shape, 1, 9000.0),
        row("q4-dense-avx2", COLD, shape, 1, 300.0),
    ]);
    record.pairs.push(PairRow {
        a: record.rows[0].cell.cell.clone(),
        b: record.rows[2].cell.cell.clone(),
        quantity: PairQuantity::SpeedUp,
        ratio: Some(6.5),
        lo: Some(6.4),
        hi: Some(6.6),
        ..PairRow::default()
    });
    let all = lines(&record, &[]);
    let find = |subject: &str, baseline: &str| {
        let mut here = all.iter().filter(|line| line["what"] == "gemv-cold");
        let found = here.find(|line| line["subject"] == subject && line["baseline"] == baseline);
        found.unwrap_or_else(|| panic!("{subject} {baseline}"))
    };
    let paired = find("w2a8-mad-avx2", "f16");
    assert_eq!(paired["basis"], "pair");
    assert_eq!(
        (&paired["ratio"], &paired["lo"], &paired["hi"]),
        (&6.5.into(), &6.4.into(), &6.6.into())
    );
    let apart = find("w2a8-lut2-avx2", "f16");
    assert_eq!(apart["basis"], "separate medians");
    assert_eq!(apart["ratio"], 3.5);
    // Of two kernels of a format the faster one stands for it; baselines are subjects of one another.
    assert_eq!(apart["baseline_kernel"], "f16-dense-avx2");
    assert_eq!(find("q4-dense-avx2", "f16")["ratio"], 700.0 / 300.0);
    let by_id = lines(&record, &["w2a8-lut2-avx2"]);
    assert!(
        by_id
            .iter()
            .all(|line| line["baseline"] == "w2a8-lut2-avx2")
    );
    assert_eq!(by_id[0]["ratio"], 2.0);
    let error = speedup_paper(&record, &["i8".to_owned()])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`i8`; hint: the run has w2a8-mad-avx2"),
        "{error}"
    );
}

#[test]
fn a_model_is_its_matrices_and_a_whole_one_at_least_that_fast() {
    let shape = embedded_shape("700m").unwrap();
    let mut rows = Vec::new();
    for matrix in shape.distinct() {
        let ns = (matrix.0 * matrix.1) as f64 * 0.01;
        rows.push(row("w2a8-mad-avx2", COLD, matrix, 2, ns));
        rows.push(row("f16-dense-avx2", COLD, matrix, 2, 5.0 * ns));
    }
    let token_ns = shape.linear_weights() as f64 * 0.01;
    let mut whole = row(
        "w2a8-mad-avx2",
        Workload::Decode,
        (1, 1),
        2,
        1.25 * token_ns,
    );
    (whole.cell.rows, whole.cell.k) = (None, None);
    "synth:700m".clone_into(&mut whole.cell.model);
    whole.cell.linear_weights = Some(shape.linear_weights());
    rows.push(whole);
    let all = lines(&record(rows), &["f16"]);
    let of = |what: &str| {
        let mut found = all.iter().filter(|line| line["what"] == what);
        let line = found.next().unwrap_or_else(|| panic!("no {what}"));
        assert!(found.next().is_none(), "{what}");
        line
    };
    let linears = of("linears of a token");
    assert!((linears["ratio"].as_f64().unwrap() - 5.0).abs() < 1e-9);
    assert_eq!(linears["shape"], "700m");
    let decode = of("decode");
    assert!((decode["ratio"].as_f64().unwrap() - 4.0).abs() < 1e-9);
    assert!(decode["basis"].as_str().unwrap().contains("at least"));
    assert!(decode["lo"].as_f64().unwrap() < 4.0 && decode["hi"].as_f64().unwrap() > 4.0);
}

#[test]
fn rows_stand_under_the_roof_of_their_threads() {
    let probe = |subject: &str, variant: &str, amount: u64| Probe {
        subject: subject.to_owned(),
        variant: variant.to_owned(),
        threads: 1,
        amount_per_iteration: amount,
        time_ns: 100.0,
        ..Probe::default()
    };
    let shape = (1000, 1000);
    let mut record = record(vec![
        row("w2a8-mad-avx2", COLD, shape, 1, 50_000.0),
        row("f16-dense-avx2", COLD, shape, 1, 400_000.0),
        row("w2a8-mad-avx2", Workload::GemvWarm, shape, 1, 20_000.0),
        row("f16-dense-avx2", Workload::GemvWarm, shape, 1, 90_000.0),
    ]);
    record.session.probes = vec![
        probe("probe:read", "read-avx2-x4", 1000),
        probe("probe:peak", "int8-avx2", 50_000),
        probe("probe:peak", "f32-avx2", 10_000),
    ];
    let all = lines(&record, &["f16"]);
    // 2 operations a weight of a quarter byte: 8 a byte, times 10 bytes a nanosecond; 40 of these 80 are done.
    assert_eq!(all[0]["ops_per_byte"], 8.0);
    assert_eq!(all[0]["roof_gops"], 80.0);
    assert_eq!(all[0]["roof_share"], 0.5);
    assert_eq!(all[0]["roof"], "bandwidth, separate probe");
    // Weights in cache are under no roof of memory.
    let warm = all.iter().find(|line| line["what"] == "gemv-warm").unwrap();
    assert_eq!(warm.get("roof_share"), None);
    record.rows[0].results.bandwidth_share = Some(0.47);
    let all = lines(&record, &["f16"]);
    assert_eq!(all[0]["roof_share"], 0.47);
    assert_eq!(all[0]["roof"], "bandwidth, pair");
}

#[test]
fn the_advice_follows_from_the_rows() {
    let shape = |n: u64| (n, 2560);
    let mut rows = Vec::new();
    for (n, fast, slow) in [
        (640, 100.0, 130.0),
        (2560, 400.0, 300.0),
        (6912, 900.0, 1300.0),
    ] {
        rows.push(row("w2a8-mad-avx2", COLD, shape(n), 1, fast * 1.9));
        rows.push(row("w2a8-mad-avx2", COLD, shape(n), 2, fast));
        rows.push(row("w2a8-lut2-avx2", COLD, shape(n), 2, slow));
        rows.push(row("f16-dense-avx2", COLD, shape(n), 2, 5.0 * fast));
    }
    let paper = speedup_paper(&record(rows), &[]).unwrap();
    let text = paper.render(Format::Md);
    for part in [
        "One token at a time (gemv-cold): `w2a8-mad-avx2` on 2 threads, within 10.1 % of the fastest in the geometric mean of 3 comparisons.",
        "Threads for gemv-cold: 2 are fastest for 3 of 3 shapes.",
        "| `w2a8-mad-avx2` | 2 | 0 | gemv-cold: 640x2560 t2, 6912x2560 t2 |",
        "| `w2a8-lut2-avx2` | 1 | 0 | gemv-cold: 2560x2560 t2 |",
    ] {
        assert!(text.contains(part), "lacks {part}:\n{text}");
    }
    let none = speedup_paper(&record(Vec::new()), &[]).unwrap();
    assert!(
        none.render(Format::Md)
            .contains("No cell of the run has a baseline")
    );
}

#[test]
fn the_same_rows_give_the_same_bytes_and_pictures() {
    let made = session_rows(&KERNELS, &[1, 2], 7);
    let tables = Tables {
        cells: &made.cells,
        measurements: &made.measurements,
        tokens: &made.tokens,
        energy: &[],
    };
    let mut record = record(summarize_rows(&tables));
    for threads in [1, 2] {
        for (subject, amount) in [("probe:read", 3_000), ("probe:peak", 90_000)] {
            record.session.probes.push(Probe {
                subject: subject.to_owned(),
                threads,
                amount_per_iteration: amount * threads,
                time_ns: 100.0,
                ..Probe::default()
            });
        }
    }
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("speedup");
    let written = || {
        let paths = speedup_paper(&record, &[])
            .unwrap()
            .write(&directory)
            .unwrap();
        let read = |path: &std::path::PathBuf| (path.clone(), std::fs::read(path).unwrap());
        paths.iter().map(read).collect::<Vec<_>>()
    };
    let first = written();
    let names: Vec<String> = first
        .iter()
        .map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    for name in [
        "speedup.md",
        "speedup.csv",
        "against-f16-gemm.svg",
        "roofline.svg",
    ] {
        assert!(names.iter().any(|have| have == name), "{names:?}");
    }
    assert!(first == written());
}

#[test]
fn ten_thousand_cells_are_no_burden() {
    let mut rows = Vec::new();
    for at in 0..10_000_u64 {
        let (kernel, _, _) = KERNELS[(at % 9) as usize];
        let shape = (64 + at / 18, 2560);
        rows.push(row(
            kernel,
            COLD,
            shape,
            1 + (at / 9) % 2,
            100.0 + (at % 97) as f64,
        ));
    }
    let record = record(rows);
    let paper = speedup_paper(&record, &[]).unwrap();
    let csv = paper.render(Format::Csv);
    assert!(csv.lines().count() > 10_000, "{}", csv.lines().count());
    assert!(!paper.render(Format::Md).is_empty());
}
