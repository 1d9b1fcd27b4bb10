//! Several sources side by side.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use trit_core::{Cell, Results, SummaryRow, Workload};
use trit_report::{
    Contrast, ContrastError, Filter, Format, Question, Source, contrast, contrast_text,
};

fn row(kernel: &str, isa: &str, threads: u64, rows: u64, ns: f64) -> SummaryRow {
    SummaryRow {
        cell: Cell {
            cell: format!("{kernel}/{rows}/t{threads}"),
            subject: kernel.into(),
            kernel: kernel.into(),
            isa: isa.into(),
            workload: Workload::GemvCold,
            rows: Some(rows),
            k: Some(256),
            tokens: Some(1),
            threads: Some(threads),
            ..Cell::default()
        },
        results: Results {
            n: Some(20),
            median_ns: Some(ns),
            lo_ns: Some(ns * 0.98),
            hi_ns: Some(ns * 1.02),
            tokens_per_s: Some(1e9 / ns),
            ..Results::default()
        },
    }
}

fn source(name: &str, machine: &str, rows: Vec<SummaryRow>) -> Source {
    Source {
        name: name.into(),
        machine: machine.into(),
        host: "h".into(),
        rows,
    }
}

fn two() -> [Source; 2] {
    let rows = |factor: f64| {
        vec![
            row("fast", "avx2", 1, 64, 100.0 * factor),
            row("fast", "avx2", 2, 64, 60.0 * factor),
            row("slow", "avx512", 1, 64, 200.0 * factor),
            row("slow", "avx512", 2, 64, 90.0 * factor),
        ]
    };
    [source("a", "one", rows(1.0)), source("b", "two", rows(1.1))]
}

fn ask(change: impl FnOnce(&mut Question)) -> Result<Contrast, ContrastError> {
    let mut question = Question::default();
    change(&mut question);
    contrast(&two(), &question)
}

fn ratio(contrast: &Contrast, row: usize, col: usize) -> f64 {
    contrast.rows[row].entries[col]
        .as_ref()
        .unwrap()
        .ratio
        .unwrap()
}

fn close(a: f64, b: f64) {
    assert!((a / b - 1.0).abs() < 1e-12, "{a} {b}");
}

#[test]
fn a_row_a_cell_and_a_column_a_run() {
    let got = ask(|_| ()).unwrap();
    assert_eq!(got.cols, ["a", "b"]);
    assert_eq!(got.rows.len(), 4);
    assert_eq!(got.rows[0].label, "fast, gemv-cold, 64x256, threads 1");
    for i in 0..4 {
        close(ratio(&got, i, 1), 1.1);
    }
    close(got.means[1].unwrap().mean, 1.1);
    assert!(
        got.notes
            .iter()
            .any(|note| note.contains("machines differ: one; two"))
    );
    assert!(!got.notes.iter().any(|note| note.contains("averaged")));
}

#[test]
fn kernels_as_columns_stay_within_a_run() {
    let got = ask(|question| {
        question.col = "kernel".into();
        question.base = Some("slow".into());
    })
    .unwrap();
    assert_eq!(got.cols, ["slow", "fast"]);
    // Two runs and two thread counts: each row compares within one of them.
    assert_eq!(got.rows.len(), 4);
    close(ratio(&got, 0, 1), 0.5);
    close(ratio(&got, 1, 1), 60.0 / 90.0);
    assert!(got.rows[0].label.contains("threads 1") && got.rows[0].label.contains('a'));
}

#[test]
fn a_key_that_is_averaged_away_is_told() {
    let got = ask(|question| question.rows = vec!["kernel".into()]).unwrap();
    assert_eq!(got.rows.len(), 2);
    close(ratio(&got, 0, 1), 1.1);
    assert_eq!(got.rows[0].entries[0].as_ref().unwrap().cells, 2);
    close(
        got.rows[0].entries[0].as_ref().unwrap().value,
        (100.0_f64 * 60.0).sqrt(),
    );
    let warning = got.notes.iter().find(|note| note.contains("`threads`"));
    let warning = warning.unwrap_or_else(|| panic!("{:?}", got.notes));
    assert!(warning.contains("averaged away: it is 1, 2"), "{warning}");
    // Asked for, it is not told.
    let got = ask(|question| question.rows = vec!["kernel".into(), "threads".into()]).unwrap();
    assert!(
        !got.notes.iter().any(|note| note.contains("averaged")),
        "{:?}",
        got.notes
    );
    let got = ask(|question| {
        question.rows = vec!["kernel".into()];
        question.filters = vec![Filter {
            key: "threads".into(),
            values: vec!["2".into()],
        }];
    })
    .unwrap();
    assert!(
        !got.notes.iter().any(|note| note.contains("averaged")),
        "{:?}",
        got.notes
    );
    close(got.rows[0].entries[0].as_ref().unwrap().value, 60.0);
}

#[test]
fn two_runs_of_one_machine_are_told() {
    let [one, mut other] = two();
    other.machine = "one".into();
    let third = Source {
        name: "c".into(),
        machine: "two".into(),
        ..one.clone()
    };
    let question = Question {
        col: "machine".into(),
        ..Question::default()
    };
    let got = contrast(&[one, other, third], &question).unwrap();
    close(ratio(&got, 0, 1), 1.0 / 1.1_f64.sqrt());
    assert!(
        got.notes
            .iter()
            .any(|note| note.contains("`run` is averaged away: it is a, b"))
    );
}

#[test]
fn only_what_every_column_has_is_averaged() {
    let [one, mut other] = two();
    other.rows.retain(|row| row.cell.threads == Some(2));
    let question = Question {
        rows: vec!["kernel".into()],
        ..Question::default()
    };
    let got = contrast(&[one.clone(), other.clone()], &question).unwrap();
    close(got.rows[0].entries[0].as_ref().unwrap().value, 60.0);
    assert!(
        got.notes
            .iter()
            .any(|note| note.starts_with("2 cells are left out"))
    );
    // Nothing in common is an error that names the key, and never a ratio of unlike things.
    let mut first = one;
    first.rows.retain(|row| row.cell.threads == Some(1));
    let error = contrast(&[first, other], &question).unwrap_err();
    assert_eq!(
        error,
        ContrastError::NothingInCommon {
            differ: vec!["threads".into()]
        }
    );
    assert!(
        error.to_string().contains("they differ in threads"),
        "{error}"
    );
}

#[test]
fn rates_have_the_interval_of_their_time() {
    let got = ask(|question| question.measure = "tokens_per_s".into()).unwrap();
    let entry = got.rows[0].entries[0].as_ref().unwrap();
    let (lo, hi) = entry.interval.unwrap();
    close(lo, 1e9 / 102.0);
    close(hi, 1e9 / 98.0);
    close(ratio(&got, 0, 1), 1.0 / 1.1);
}

#[test]
fn what_cannot_be_answered_is_refused() {
    let wrong = |change: fn(&mut Question)| ask(change).unwrap_err().to_string();
    let unknown = wrong(|question| question.col = "colour".into());
    assert!(unknown.contains("`colour`") && unknown.contains("threads"));
    assert!(wrong(|q| q.rows = vec!["x".into()]).contains("`x`"));
    assert!(wrong(|q| q.measure = "energy_status".into()).contains("median_ns"));
    assert!(wrong(|q| q.base = Some("c".into())).contains("a, b"));
    assert!(wrong(|q| q.measure = "ttft_ns".into()).contains("no measured cell"));
    let one = contrast(&two()[..1], &Question::default()).unwrap_err();
    assert!(one.to_string().contains("same run, `a`"), "{one}");
}

#[test]
fn every_format_says_the_same() {
    let got = ask(|_| ()).unwrap();
    let csv = contrast_text(&got, Format::Csv);
    assert_eq!(csv.lines().count(), 1 + 8);
    assert!(
        csv.lines()
            .next()
            .unwrap()
            .ends_with("run,measure,value,lo,hi,cells,base,ratio,ratio_lo,ratio_hi")
    );
    let json: serde_json::Value = serde_json::from_str(&contrast_text(&got, Format::Json)).unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), 4);
    assert_eq!(
        json["rows"][0]["columns"]["b"]["ratio"].as_f64(),
        got.rows[0].entries[1].as_ref().unwrap().ratio
    );
    let table = contrast_text(&got, Format::Table);
    assert!(table.starts_with("cell ") && table.contains("b / a") && table.contains("1.10"));
    assert_eq!(
        contrast_text(&got, Format::Md),
        contrast_text(&ask(|_| ()).unwrap(), Format::Md)
    );
}
