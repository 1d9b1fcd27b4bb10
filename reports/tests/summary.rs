//! Summaries of hand-made rows with results worked out by hand.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{KERNELS, session, session_rows};
use proptest::prelude::*;
use trit_core::{
    Cell, Measurement, PairQuantity, RunDir, Side, Status, SummaryRow, TokenRow, Workload,
};
use trit_report::{
    Format, Question, Source, Tables, contrast, contrast_text, render, samples, summarize,
    summarize_rows, terminal_table,
};
use trit_stats::Rng;

fn gemv(id: &str, kernel: &str, bits: f64) -> Cell {
    Cell {
        cell: id.into(),
        subject: kernel.into(),
        kernel: kernel.into(),
        weight_bits: Some(bits),
        rows: Some(1000),
        k: Some(2000),
        workload: Workload::GemvCold,
        threads: Some(2),
        ..Cell::default()
    }
}

fn slice(cell: &str, block: u64, iterations: u64, time_ns: u64) -> Measurement {
    Measurement {
        cell: cell.into(),
        block,
        iterations,
        time_ns,
        ..Measurement::default()
    }
}

fn paired(
    cell: &str,
    pair: &str,
    side: Side,
    block: u64,
    sample: u64,
    time_ns: u64,
) -> Measurement {
    Measurement {
        pair: pair.into(),
        side,
        sample,
        ..slice(cell, block, 1, time_ns)
    }
}

fn rows(cells: &[Cell], measurements: &[Measurement], tokens: &[TokenRow]) -> Vec<SummaryRow> {
    summarize_rows(&Tables {
        cells,
        measurements,
        tokens,
        energy: &[],
    })
}

fn close(got: Option<f64>, want: f64) {
    let got = got.unwrap();
    assert!((got / want - 1.0).abs() < 1e-9, "got {got}, want {want}");
}

#[test]
fn a_gemv_by_hand() {
    // Ten slices of four calls: 100, 200, ... 1000 ns a call, in an order without any trend.
    let order = [10, 1, 9, 2, 8, 3, 7, 4, 6, 5];
    let slices: Vec<Measurement> = order
        .iter()
        .enumerate()
        .map(|(i, &step)| slice("a", i as u64, 4, 400 * step))
        .collect();
    let got = &rows(&[gemv("a", "w2a8-mad-avx2", 2.0)], &slices, &[])[0].results;
    assert_eq!(got.n, Some(10));
    close(got.median_ns, 550.0);
    // Ranks 2 and 9 of 10.
    close(got.lo_ns, 200.0);
    close(got.hi_ns, 900.0);
    assert_eq!((got.p50_ns, got.p90_ns, got.p99_ns), (None, None, None));
    close(got.tokens_per_s, 1e9 / 550.0);
    close(got.gops, 2.0 * 2e6 / 550.0);
    close(got.gb_per_s, 2e6 * 2.0 / 8.0 / 550.0);
    assert_eq!(
        (
            got.bandwidth_share,
            got.peak_share,
            got.ttft_ns,
            got.load_ns
        ),
        (None, None, None, None)
    );
    assert_eq!(
        (got.peak_rss_bytes, got.rss_anon_bytes, got.user_ns),
        (None, None, None)
    );
    assert_eq!(
        (got.energy_status.as_str(), got.energy_pkg_uj),
        ("not_measured", None)
    );
}

#[test]
fn bytes_that_count() {
    let time = [slice("a", 0, 1, 1000)];
    let gb = |cell: Cell| {
        rows(
            &[Cell {
                cell: "a".into(),
                ..cell
            }],
            &time,
            &[],
        )[0]
        .results
        .gb_per_s
    };
    // Ternary weights: what the layout takes, at most 2 bits each.
    close(
        gb(gemv("a", "w1.6a8-mad-avx512vbmi", 1.6)),
        2e6 * 1.6 / 8.0 / 1000.0,
    );
    close(
        gb(gemv("a", "w2a8-naive-scalar", 8.0)),
        2e6 * 2.0 / 8.0 / 1000.0,
    );
    // A dense baseline has to read all of its weights, and a probe all of its bytes.
    close(
        gb(gemv("a", "f16-dense-avx2", 16.0)),
        2e6 * 16.0 / 8.0 / 1000.0,
    );
    let probe = Cell {
        workload: Workload::Read,
        kernel: String::new(),
        ..gemv("a", "probe:read", 8.0)
    };
    close(gb(probe), 2e6 / 1000.0);
    // A model says it itself.
    let model = Cell {
        bytes_per_call: Some(5000),
        workload: Workload::Decode,
        ..gemv("a", "w2a8-mad-avx2", 2.0)
    };
    close(gb(model), 5.0);
    assert_eq!(
        gb(Cell {
            weight_bits: None,
            ..gemv("a", "w2a8-mad-avx2", 2.0)
        }),
        None
    );
    assert_eq!(
        gb(Cell {
            workload: Workload::Pack,
            ..gemv("a", "w2a8-mad-avx2", 2.0)
        }),
        None
    );
}

#[test]
fn a_gemm_counts_its_tokens() {
    let cell = Cell {
        workload: Workload::Gemm,
        tokens: Some(32),
        ..gemv("a", "w2a8-mad-avx2", 2.0)
    };
    let got = &rows(&[cell], &[slice("a", 0, 1, 4000)], &[])[0].results;
    close(got.gops, 2.0 * 2e6 * 32.0 / 4000.0);
    close(got.tokens_per_s, 32.0 * 1e9 / 4000.0);
    assert_eq!(got.lo_ns, None, "one sample carries no interval");
}

#[test]
fn quantiles_start_at_a_hundred_samples() {
    let mut times: Vec<u64> = (1..=101).collect();
    Rng::new(5).shuffle(&mut times);
    let slices: Vec<Measurement> = times
        .iter()
        .enumerate()
        .map(|(i, &time)| slice("a", i as u64, 1, time))
        .collect();
    let cells = [gemv("a", "w2a8-mad-avx2", 2.0)];
    let got = &rows(&cells, &slices, &[])[0].results;
    assert_eq!(
        (got.p50_ns, got.p90_ns, got.p99_ns),
        (Some(51.0), Some(91.0), Some(100.0))
    );
    assert!(got.lo_ns.unwrap() < 51.0 && got.hi_ns.unwrap() > 51.0);
    assert_eq!(rows(&cells, &slices[..99], &[])[0].results.p90_ns, None);
}

#[test]
fn decode_rests_on_its_tokens() {
    let cell = Cell {
        workload: Workload::Decode,
        model: "synth:125m".into(),
        ops_per_call: Some(1_000_000),
        ..gemv("d", "w2a8-mad-avx2", 2.0)
    };
    let token = |round, index, time_ns| TokenRow {
        cell: "d".into(),
        round,
        index,
        time_ns,
        ..TokenRow::default()
    };
    let tokens = [
        token(0, 0, 5000),
        token(0, 1, 100),
        token(0, 2, 300),
        token(1, 0, 7000),
        token(1, 1, 200),
        token(1, 2, 400),
        token(2, 0, 6000),
    ];
    let visit = |round, load_ns, anon: u64, file: u64, peak| Measurement {
        round,
        load_ns,
        peak_rss_bytes: Some(peak),
        rss_anon_bytes: Some(anon),
        rss_file_bytes: Some(file),
        user_ns: Some(11),
        system_ns: (round == 0).then_some(1),
        ..slice("d", round, 2, 999)
    };
    let slices = [
        visit(0, Some(80), 10, 20, 35),
        visit(1, None, 15, 25, 45),
        visit(2, Some(60), 30, 5, 40),
    ];
    let got = &rows(&[cell], &slices, &tokens)[0].results;
    assert_eq!(got.n, Some(4));
    close(got.median_ns, 250.0);
    close(got.itl_p50_ns, 250.0);
    close(got.ttft_ns, 6000.0);
    close(got.tokens_per_s, 4e6);
    close(got.gops, 4000.0);
    close(got.load_ns, 70.0);
    assert_eq!(got.peak_rss_bytes, Some(45));
    // Parts of one visit: 15 + 25 is the most.
    assert_eq!(
        (got.rss_anon_bytes, got.rss_file_bytes),
        (Some(15), Some(25))
    );
    // A sum over some slices only would look like one over all.
    assert_eq!((got.user_ns, got.system_ns), (Some(33), None));
}

#[test]
fn shares_come_from_blocks_alone() {
    let kernel = gemv("a", "w2a8-mad-avx2", 2.0);
    let probe = Cell {
        cell: "p".into(),
        subject: "probe:read".into(),
        weight_bits: Some(8.0),
        rows: Some(1),
        k: Some(1_000_000),
        workload: Workload::Read,
        ..Cell::default()
    };
    let cells = [kernel, probe];
    // The kernel reads 0.5 MB, the probe 1 MB. Rates in block 0: geometric mean of 500 and 500 against 1000, a share of a half; blocks 1 and 2
    // are twice as slow on both sides; block 3 lacks a slice of the probe; block 4 is of another pair.
    let mut slices = Vec::new();
    for (block, factor) in [(0, 1), (1, 2), (2, 2), (3, 1)] {
        slices.push(paired("a", "p", Side::A, block, 0, 800 * factor));
        slices.push(paired("p", "a", Side::B, block, 1, 1000 * factor));
        if block != 3 {
            slices.push(paired("p", "a", Side::B, block, 2, 1000 * factor));
        }
        slices.push(paired("a", "p", Side::A, block, 3, 1250 * factor));
    }
    slices.push(paired("a", "q", Side::A, 4, 0, 1));
    let got = rows(&cells, &slices, &[]);
    close(got[0].results.bandwidth_share, 0.5);
    assert_eq!(got[0].results.peak_share, None);
    assert_eq!(
        got[1].results.bandwidth_share, None,
        "a probe has no share of itself"
    );
    // Its slices take 1000, 1000, 2000 four times, and 1000 ns.
    close(got[1].results.gb_per_s, 1e6 / 2000.0);
    assert_eq!(got[0].cell.status, Status::Ok);
    // Without pairs two medians give no share, whatever they say.
    let alone = [slice("a", 0, 1, 1000), slice("p", 0, 1, 1000)];
    assert_eq!(rows(&cells, &alone, &[])[0].results.bandwidth_share, None);
    // Slices taken alone stand for the cell when there are some.
    let mut both = slices.clone();
    both.push(slice("a", 9, 1, 123));
    assert_eq!(rows(&cells, &both, &[])[0].results.median_ns, Some(123.0));
}

#[test]
fn pairs_have_ratios_with_intervals() {
    let cells = [
        gemv("a", "w2a8-mad-avx2", 2.0),
        gemv("b", "w2a8-lut2-avx2", 2.0),
        gemv("c", "w2a8-mad-avxvnni", 2.0),
    ];
    // Block i: A takes 100 + i on both sides, B twice that but for the last, where it takes as long as A. C has one half of a block.
    let mut slices = Vec::new();
    for block in 0..12 {
        let a = 100 + block;
        let b = if block == 11 { a } else { 2 * a };
        slices.push(paired("a", "b", Side::A, block, 0, a));
        slices.push(paired("b", "a", Side::B, block, 1, b));
        slices.push(paired("b", "a", Side::B, block, 2, b));
        slices.push(paired("a", "b", Side::A, block, 3, a));
    }
    slices.push(paired("a", "c", Side::A, 0, 0, 100));
    let rows_of = |cells: &[Cell]| trit_report::pair_rows(&rows(cells, &slices, &[]), &slices, &[]);
    let got = rows_of(&cells);
    assert_eq!(got.len(), 2);
    assert_eq!(
        (got[0].a.as_str(), got[0].b.as_str(), got[0].blocks),
        ("a", "b", 12)
    );
    assert_eq!(got[0].quantity, PairQuantity::SpeedUp);
    assert_eq!(got[0].against, "w2a8-lut2-avx2");
    close(got[0].ratio, 2.0);
    // One block in twelve cannot move the interval to 1, but the ends are not both at 2 either.
    assert!(got[0].lo.unwrap() > 1.4 && got[0].lo.unwrap() < 2.0);
    close(got[0].hi, 2.0);
    assert_eq!((got[1].blocks, got[1].ratio, got[1].lo), (0, None, None));
    // A wrong side takes its pairs with it.
    let mut wrong = cells.clone();
    wrong[1].status = Status::Wrong;
    assert_eq!(rows_of(&wrong).len(), 1);
}

#[test]
fn a_share_above_the_limit_makes_the_row_invalid() {
    let probe = Cell {
        cell: "p".into(),
        subject: "probe:peak".into(),
        rows: Some(1),
        k: Some(1_000_000),
        workload: Workload::Peak,
        ..Cell::default()
    };
    let pair = |kernel_ns| {
        let slices = [
            paired("a", "p", Side::A, 0, 0, kernel_ns),
            paired("p", "a", Side::B, 0, 1, 1000),
        ];
        rows(
            &[gemv("a", "w2a8-mad-avx2", 2.0), probe.clone()],
            &slices,
            &[],
        )
        .remove(0)
    };
    // 4e6 operations against 2e6: equal rates at 2000 ns.
    let fair = pair(2000);
    close(fair.results.peak_share, 1.0);
    assert_eq!(fair.cell.status, Status::Ok);
    let high = pair(1800);
    close(high.results.peak_share, 2000.0 / 1800.0);
    assert_eq!(high.cell.status, Status::Invalid);
    assert_eq!(
        high.cell.reason,
        "peak share 1.111 is above 1.05: the peak probe does not reach the limit of the machine"
    );
    assert_eq!(
        high.results.median_ns,
        Some(1800.0),
        "the measurement is kept"
    );
}

#[test]
fn cells_that_went_wrong_have_no_results() {
    for &status in Status::ALL {
        let cell = Cell {
            status,
            reason: "why".into(),
            ..gemv("a", "w2a8-mad-avx2", 2.0)
        };
        let slices = [slice("a", 0, 1, 1000)];
        // One that is projected from nothing has no results either, and says why.
        if status == Status::Projected {
            continue;
        }
        let timed = [Status::Ok, Status::OverLimit, Status::Invalid].contains(&status);
        let got = rows(std::slice::from_ref(&cell), &slices, &[]).remove(0);
        assert_eq!(got.results.median_ns.is_some(), timed, "{status}");
        assert_eq!(got.results.n.is_some(), timed, "{status}");
        assert_eq!((got.cell.status, got.cell.reason.as_str()), (status, "why"));
        let tables = Tables {
            cells: &[cell],
            measurements: &slices,
            tokens: &[],
            energy: &[],
        };
        assert_eq!(samples(&tables).len(), usize::from(timed));
    }
    // No samples at all, and slices without calls.
    let empty = rows(
        &[gemv("a", "w2a8-mad-avx2", 2.0)],
        &[slice("a", 0, 0, 1000)],
        &[],
    )
    .remove(0);
    assert_eq!(
        (
            empty.results.n,
            empty.results.median_ns,
            empty.results.user_ns
        ),
        (Some(0), None, None)
    );
}

#[test]
fn a_run_directory_gets_its_summary() {
    let made = session_rows(&KERNELS, &[1, 2], 1);
    let parent = tempfile::tempdir().unwrap();
    let run = RunDir::create(&parent.path().join("run")).unwrap();
    run.write_session(&session()).unwrap();
    run.write(&made.cells).unwrap();
    // A session that was stopped before its first sample.
    assert!(
        summarize(&run)
            .unwrap()
            .iter()
            .all(|row| row.results.median_ns.is_none())
    );
    run.write(&made.measurements).unwrap();
    run.write(&made.tokens).unwrap();
    let rows = summarize(&run).unwrap();
    assert_eq!(run.summary().unwrap(), rows, "what is written is read back");
    let share = rows
        .iter()
        .find(|row| row.results.bandwidth_share.is_some())
        .unwrap();
    assert!(
        (share.results.bandwidth_share.unwrap() - 0.62).abs() < 0.01,
        "{share:?}"
    );
    std::fs::write(run.path().join("measurements.csv"), "nonsense\n1\n").unwrap();
    let error = summarize(&run).unwrap_err();
    assert!(
        error.is_content() && error.to_string().contains("measurements.csv"),
        "{error}"
    );
}

#[test]
fn the_terminal_table_fits_and_names_what_went_wrong() {
    let made = session_rows(&KERNELS, &[1, 2], 1);
    let rows = rows(&made.cells, &made.measurements, &made.tokens);
    let text = terminal_table(&rows);
    let (table, rest) = text.split_once("\n\n").unwrap();
    assert!(
        table.lines().all(|line| line.chars().count() <= 100),
        "{table}"
    );
    assert!(!text.contains('\u{1b}'), "no colour codes");
    let header = table.lines().next().unwrap();
    for name in ["kernel", "workload", "shape", "thr", "median", "tok/s"] {
        assert!(header.contains(name), "{header}");
    }
    let measured = rows
        .iter()
        .filter(|row| row.results.median_ns.is_some())
        .count();
    assert_eq!(table.lines().count(), measured + 1);
    // The columns of numbers end where their heading ends.
    let end = header.find("thr").unwrap() + 3;
    for line in table.lines().skip(1) {
        let cut: String = line.chars().take(end).collect();
        assert!(cut.ends_with(['1', '2']), "{line}");
    }
    assert!(
        rest.contains(
            "wrong: w2a8-tile-amx, gemm, 2560x2560, 32 tokens, 1 thread: digest 1f3a differs"
        ),
        "{rest}"
    );
    assert_eq!(rest.lines().count(), 3);
    assert_eq!(terminal_table(&[]), "");
}

#[test]
fn long_names_are_shortened_in_the_middle_on_a_terminal() {
    let mut row = rows(
        &[gemv("a", "w2a8-mad-avx2", 2.0)],
        &[slice("a", 0, 1, 1000)],
        &[],
    )
    .remove(0);
    row.cell.kernel = format!("w2a8-{}-avx512vnni", "x".repeat(150));
    let text = terminal_table(&[row]);
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
    assert!(
        text.contains("w2a8-x") && text.contains("…") && text.contains("-avx512vnni"),
        "{text}"
    );
}

#[test]
fn two_sessions_compare_by_their_keys() {
    let a = gemv("cell-1", "w2a8-mad-avx2", 2.0);
    let other = Cell {
        threads: Some(1),
        ..gemv("cell-2", "w2a8-mad-avx2", 2.0)
    };
    let only = gemv("cell-3", "w2a8-lut2-avx2", 2.0);
    let times = |cell: &str, ns: u64| -> Vec<Measurement> {
        [10, 1, 9, 2, 8, 3, 7, 4, 6, 5]
            .iter()
            .enumerate()
            .map(|(i, step)| slice(cell, i as u64, 1, ns + step))
            .collect()
    };
    let first = rows(
        &[a.clone(), other.clone(), only],
        &[
            times("cell-1", 1000),
            times("cell-2", 2000),
            times("cell-3", 1),
        ]
        .concat(),
        &[],
    );
    // The ids differ between sessions, the keys do not.
    let second = rows(
        &[
            Cell {
                cell: "x".into(),
                ..other
            },
            Cell {
                cell: "y".into(),
                ..a
            },
        ],
        &[times("x", 1000), times("y", 2000)].concat(),
        &[],
    );
    let source = |name: &str, rows: &[SummaryRow]| Source {
        name: name.into(),
        rows: rows.to_vec(),
        ..Source::default()
    };
    let question = Question::default();
    let got = contrast(&[source("one", &first), source("two", &second)], &question).unwrap();
    assert_eq!(got.rows.len(), 2);
    let entry = |row: usize| got.rows[row].entries[1].clone().unwrap();
    close(entry(0).ratio, 2005.5 / 1005.5);
    close(entry(1).ratio, 1005.5 / 2005.5);
    let (lo, hi) = entry(0).ratio_interval.unwrap();
    // Medians 1005.5 within 1002..1009 and 2005.5 within 2002..2009.
    let low = f64::hypot((2005.5_f64 / 2002.0).ln(), (1009.0_f64 / 1005.5).ln());
    close(Some(lo), 2005.5 / 1005.5 * (-low).exp());
    assert!(lo < 2005.5 / 1005.5 && 2005.5 / 1005.5 < hi);
    close(got.means[1].map(|mean| mean.mean), 1.0);
    let text = contrast_text(&got, Format::Md);
    for part in [
        "not paired",
        "only `one` has 1 further cell",
        "geometric mean",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let same = contrast(&[source("one", &first), source("two", &first)], &question).unwrap();
    for row in &same.rows {
        close(row.entries[1].as_ref().and_then(|entry| entry.ratio), 1.0);
    }
}

#[test]
fn formats_hold_every_row() {
    let made = session_rows(&KERNELS[..2], &[1], 1);
    let rows = rows(&made.cells, &made.measurements, &made.tokens);
    assert_eq!(render(&rows, Format::Csv).lines().count(), rows.len() + 1);
    let json: serde_json::Value = serde_json::from_str(&render(&rows, Format::Json)).unwrap();
    assert_eq!(json.as_array().unwrap().len(), rows.len());
    let md = render(&rows, Format::Md);
    assert_eq!(md.lines().count(), rows.len() + 2);
    let bars = |line: &str| line.replace("\\|", "").matches('|').count();
    assert!(
        md.lines()
            .all(|line| bars(line) == bars(md.lines().next().unwrap())),
        "{md}"
    );
}

proptest! {
    #[test]
    fn any_rows_are_summed_up_without_a_panic(
        times in prop::collection::vec((any::<u64>(), 0..4u64, 0..3u64, 0..3usize, 0..3usize), 0..60),
        bits in prop::option::of(0.0..64.0f64),
        size in prop::option::of(any::<u64>()),
        workload in prop::sample::select(Workload::ALL),
    ) {
        let ids = ["a", "b", "c"];
        let cells: Vec<Cell> = ids.iter().map(|id| Cell {
            cell: (*id).into(),
            subject: if *id == "b" { "probe:read".into() } else { "w2a8-mad-avx2".into() },
            weight_bits: bits,
            rows: size,
            k: size,
            tokens: size,
            workload,
            ..Cell::default()
        }).collect();
        let slices: Vec<Measurement> = times.iter().map(|&(time_ns, iterations, block, cell, pair)| Measurement {
            side: Side::ALL[pair],
            pair: ids[(cell + pair) % 3].into(),
            peak_rss_bytes: Some(time_ns),
            user_ns: Some(time_ns),
            ..slice(ids[cell], block, iterations, time_ns)
        }).collect();
        for row in rows(&cells, &slices, &[]) {
            let r = &row.results;
            if let (Some(lo), Some(median), Some(hi)) = (r.lo_ns, r.median_ns, r.hi_ns) {
                prop_assert!(lo <= median && median <= hi);
            }
            for value in [r.gops, r.gb_per_s, r.tokens_per_s, r.bandwidth_share].into_iter().flatten() {
                prop_assert!(value >= 0.0 && !value.is_nan());
            }
        }
    }
}
