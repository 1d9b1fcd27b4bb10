//! The record of a session: what is written is read back, whatever the text, and a torn line costs itself alone.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use proptest::prelude::*;
use trit_core::{
    Cell, Columns, Measurement, Results, RunDir, RunDirError, Session, Side, Status, SummaryRow,
    Table, TokenRow, Workload,
};

/// Text with everything that hurts a CSV file.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just(String::from("a,b")),
        Just(String::from("he said \"no\"")),
        Just(String::from("\"")),
        Just(String::from("two\nlines\r\nthree")),
        Just(String::from(" spaces ")),
        Just(String::from("größer, 三进制")),
        "\\PC{0,20}",
    ]
}

fn cell() -> impl Strategy<Value = Cell> {
    let statuses = proptest::sample::select(Status::ALL);
    let workloads = proptest::sample::select(Workload::ALL);
    (
        (text(), text(), text(), statuses, workloads),
        proptest::option::of(any::<u64>()),
        proptest::option::of(-1e300f64..1e300),
    )
        .prop_map(
            |((cell, reason, model, status, workload), number, bits)| Cell {
                cell,
                status,
                reason,
                model,
                workload,
                weight_bits: bits,
                rows: number,
                threads: number,
                ..Cell::default()
            },
        )
}

fn measurement() -> impl Strategy<Value = Measurement> {
    let sides = proptest::sample::select(Side::ALL);
    (
        text(),
        any::<u64>(),
        sides,
        proptest::option::of(any::<u64>()),
    )
        .prop_map(|(cell, number, side, maybe)| Measurement {
            pair: cell.clone(),
            cell,
            time_ns: number,
            side,
            prepare_ns: maybe,
            frequency_khz: maybe,
            ..Measurement::default()
        })
}

fn summary() -> impl Strategy<Value = SummaryRow> {
    (
        cell(),
        proptest::option::of(any::<f64>().prop_filter("finite", |v| v.is_finite())),
    )
        .prop_map(|(cell, number)| SummaryRow {
            results: Results {
                median_ns: number,
                energy_status: cell.reason.clone(),
                ..Results::default()
            },
            cell,
        })
}

fn round_trip<R: Table + PartialEq + std::fmt::Debug>(rows: &[R]) {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(dir.path()).unwrap();
    // Appended in two openings and two blocks.
    let (first, second) = rows.split_at(rows.len() / 2);
    run.append::<R>().unwrap().rows(first).unwrap();
    run.append::<R>().unwrap().rows(second).unwrap();
    assert_eq!(run.read::<R>().unwrap(), rows);
    run.write(rows).unwrap();
    assert_eq!(run.read::<R>().unwrap(), rows);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn cells_round_trip(rows in proptest::collection::vec(cell(), 0..6)) {
        round_trip(&rows);
    }

    #[test]
    fn measurements_round_trip(rows in proptest::collection::vec(measurement(), 0..6)) {
        round_trip(&rows);
    }

    #[test]
    fn summaries_round_trip(rows in proptest::collection::vec(summary(), 0..6)) {
        round_trip(&rows);
    }

    #[test]
    fn tokens_round_trip(rows in proptest::collection::vec((text(), any::<u64>()), 0..6)) {
        let rows: Vec<TokenRow> = rows
            .into_iter()
            .map(|(cell, n)| TokenRow { cell, round: 1, request: 2, index: 3, token: n, time_ns: n / 2 })
            .collect();
        round_trip(&rows);
    }
}

fn sample_rows() -> Vec<Cell> {
    [
        "plain",
        "with, comma",
        "with \"quotes\"",
        "with\nline\nfeeds",
        "last",
    ]
    .into_iter()
    .map(|text| Cell {
        cell: text.into(),
        reason: text.into(),
        rows: Some(7),
        ..Cell::default()
    })
    .collect()
}

#[test]
fn a_line_torn_at_any_byte_is_dropped_and_then_overwritten() {
    let rows = sample_rows();
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(dir.path()).unwrap();
    run.append::<Cell>().unwrap().rows(&rows).unwrap();
    let path = dir.path().join(Cell::FILE);
    let bytes = fs::read(&path).unwrap();
    // The end of each record: what is left of the file when the records after it are not written.
    let ends: Vec<usize> = (0..=rows.len())
        .map(|count| {
            let dir = tempfile::tempdir().unwrap();
            let run = RunDir::create(dir.path()).unwrap();
            run.append::<Cell>().unwrap().rows(&rows[..count]).unwrap();
            fs::metadata(dir.path().join(Cell::FILE)).unwrap().len() as usize
        })
        .collect();
    assert_eq!(ends[rows.len()], bytes.len());
    for cut in 0..=bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        let whole = ends
            .iter()
            .filter(|end| **end <= cut)
            .count()
            .saturating_sub(1);
        assert_eq!(run.read::<Cell>().unwrap(), rows[..whole], "cut at {cut}");
        // Resuming cuts the torn part off and goes on.
        run.append::<Cell>().unwrap().rows(&rows[whole..]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes, "cut at {cut}");
    }
}

#[test]
fn columns_are_found_by_name_and_unknown_ones_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(dir.path()).unwrap();
    let mut names: Vec<&str> = TokenRow::header();
    names.reverse();
    let text = format!("future,{}\nx,9,8,7,6,5,c\n", names.join(","));
    fs::write(dir.path().join(TokenRow::FILE), text).unwrap();
    let rows = run.tokens().unwrap();
    assert_eq!(
        rows,
        [TokenRow {
            cell: "c".into(),
            round: 5,
            request: 6,
            index: 7,
            token: 8,
            time_ns: 9
        }]
    );
}

/// Writes a row as a version before some columns did, and reads it: they are empty, and the others are what they were.
fn older<R: Table>(row: &R) {
    let columns = R::columns();
    let kept = |fields: Vec<String>| -> String {
        let pairs = fields.into_iter().zip(&columns);
        let kept = pairs.filter(|(_, column)| !column.later);
        kept.map(|(field, _)| field).collect::<Vec<_>>().join(",")
    };
    let header = kept(R::header().into_iter().map(str::to_owned).collect());
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(dir.path()).unwrap();
    let text = format!("{header}\n{}\n", kept(row.record()));
    fs::write(dir.path().join(R::FILE), text).unwrap();
    let rows = run.read::<R>().unwrap();
    assert_eq!(rows.len(), 1);
    for column in &columns {
        let wrote = (column.write)(row);
        let want = if column.later { "" } else { &wrote };
        assert_eq!((column.write)(&rows[0]), want, "{}", column.name);
    }
    // And a run of another version is not gone on with.
    let refused = run.append::<R>().map(drop).unwrap_err();
    assert!(refused.to_string().contains("start a new run"), "{refused}");
}

#[test]
fn columns_that_came_later_are_empty_in_older_records() {
    let cell = Cell {
        cell: "c".into(),
        model: "m".into(),
        threads: Some(2),
        linear_weights: Some(5),
        answer: "checked".into(),
        ..Cell::default()
    };
    let results = Results {
        median_ns: Some(1.5),
        bandwidth_share: Some(0.5),
        bandwidth_share_lo: Some(0.4),
        energy_domain: "package".into(),
        ..Results::default()
    };
    older(&cell);
    older(&Measurement {
        cell: "c".into(),
        side: Side::A,
        time_ns: 7,
        process: Some(1),
        cycles: Some(9),
        ..Measurement::default()
    });
    older(&SummaryRow { cell, results });
}

#[test]
fn a_column_that_came_later_can_be_empty() {
    fn check<R: Columns>() -> usize {
        let row = R::default();
        let later: Vec<_> = R::columns().into_iter().filter(|c| c.later).collect();
        for column in &later {
            assert_eq!((column.write)(&row), "", "{}", column.name);
        }
        later.len()
    }
    assert!(check::<Cell>() >= 3 && check::<Measurement>() >= 11);
    assert!(check::<SummaryRow>() > check::<Results>());
    // What makes a row what it is was always there.
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(dir.path()).unwrap();
    fs::write(dir.path().join(Cell::FILE), "cell,status\nc,ok\n").unwrap();
    let error = run.cells().unwrap_err().to_string();
    assert!(
        error.contains("column reason, subject, kernel") && !error.contains("answer"),
        "{error}"
    );
}

#[test]
fn malformed_files_are_named_with_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(dir.path()).unwrap();
    let path = dir.path().join(TokenRow::FILE);
    for (text, want) in [
        (
            "cell,round\nc,1\n",
            "column request, index, token, time_ns is missing",
        ),
        ("cell,cell\n", "column `cell` stands twice"),
        (
            "cell,round,request,index,token,time_ns\nc,1,1,1,1,1\nc,x,1,1,1,1\n",
            ":3: column `round`: `x` is not a whole number",
        ),
        (
            "cell,round,request,index,token,time_ns\nc,1,1,1,1\n",
            ":2: has 5 fields, the header has 6",
        ),
        (
            "cell,round,request,index,token,time_ns\nc,-1,1,1,1,1\n",
            "is not a whole number",
        ),
    ] {
        fs::write(&path, text).unwrap();
        let error = run.tokens().unwrap_err();
        assert!(error.is_content());
        let error = error.to_string();
        assert!(
            error.contains(want) && error.contains("tokens.csv"),
            "{error}"
        );
    }
    fs::write(
        &path,
        b"cell,round,request,index,token,time_ns\n\xff,1,1,1,1,1\n",
    )
    .unwrap();
    assert!(run.tokens().unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn not_a_number_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(dir.path()).unwrap();
    for text in ["NaN", "inf", "-inf", "1e999"] {
        let mut fields = Cell::default().record();
        let at = Cell::header()
            .iter()
            .position(|name| *name == "weight_bits")
            .unwrap();
        fields[at] = text.into();
        let all = format!("{}\n{}\n", Cell::header().join(","), fields.join(","));
        fs::write(dir.path().join(Cell::FILE), all).unwrap();
        let error = run.cells().unwrap_err().to_string();
        assert!(
            error.contains("weight_bits") && error.contains("finite"),
            "{error}"
        );
    }
    // And it is not written: missing instead.
    let mut row = Cell {
        weight_bits: Some(f64::NAN),
        ..Cell::default()
    };
    run.write(std::slice::from_ref(&row)).unwrap();
    row.weight_bits = None;
    assert_eq!(run.cells().unwrap(), [row]);
}

#[test]
fn the_last_row_of_a_cell_counts() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(dir.path()).unwrap();
    let row = |cell: &str, status| Cell {
        cell: cell.into(),
        status,
        ..Cell::default()
    };
    let mut appender = run.append().unwrap();
    appender
        .rows(&[row("a", Status::Skipped), row("b", Status::Skipped)])
        .unwrap();
    appender.rows(&[row("a", Status::Ok)]).unwrap();
    let cells = run.cells().unwrap();
    assert_eq!(cells, [row("a", Status::Ok), row("b", Status::Skipped)]);
}

#[test]
fn another_header_is_not_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(dir.path()).unwrap();
    fs::write(dir.path().join(TokenRow::FILE), "cell,other\n").unwrap();
    let error = run.append::<TokenRow>().unwrap_err().to_string();
    assert!(error.contains("hint: start a new run"), "{error}");
}

#[test]
fn directories_are_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let first = RunDir::create_in(dir.path(), "20260102T030405Z", "my host/x", "quick").unwrap();
    assert_eq!(
        first.path().file_name().unwrap(),
        "20260102T030405Z-my_host_x-quick"
    );
    let second = RunDir::create_in(dir.path(), "20260102T030405Z", "my host/x", "quick").unwrap();
    assert!(second.path().to_string_lossy().ends_with("-quick-2"));
    // An empty directory may be taken, a full one not.
    RunDir::create(first.path()).unwrap();
    assert!(matches!(
        RunDir::open(first.path()),
        Err(RunDirError::NoSession { .. })
    ));
    first
        .write_session(&Session {
            schema: 1,
            ..Session::default()
        })
        .unwrap();
    RunDir::open(first.path()).unwrap();
    let error = RunDir::create(first.path()).unwrap_err();
    assert!(!error.is_content());
    assert!(error.to_string().contains("--resume"), "{error}");
    let file = first.path().join("session.json").join("below");
    assert!(matches!(RunDir::create(&file), Err(RunDirError::Io { .. })));
}

#[test]
fn sessions_round_trip_and_other_schemas_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(dir.path()).unwrap();
    let session = Session {
        schema: 1,
        version: "1.2.3".into(),
        git_revision: Some("abc".into()),
        argv: vec!["tritbench".into(), "run".into()],
        suite_text: "name = \"x\"\n".into(),
        machine: serde_json::json!({"cpu": "some", "caches": [1, 2]}),
        ..Session::default()
    };
    run.write_session(&session).unwrap();
    assert_eq!(run.session().unwrap(), session);
    let path = dir.path().join("session.json");
    for (text, want) in [
        ("{\"schema\": 2, \"version\": \"9\"}", "schema 2"),
        ("{}", "schema 0"),
        ("{\"schema\": \"x\"}", "session.json"),
        ("{", "session.json"),
        // A newer version's extra field is left alone.
    ] {
        fs::write(&path, text).unwrap();
        let error = run.session().unwrap_err();
        assert!(
            error.is_content() && error.to_string().contains(want),
            "{error}"
        );
    }
    fs::write(&path, "{\"schema\": 1, \"future\": [1]}").unwrap();
    assert_eq!(run.session().unwrap().schema, 1);
}
