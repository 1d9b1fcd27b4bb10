//! `tritbench history` and `tritbench compare`, on run directories that are made here.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Talking, check_refused, refused, run, stderr, stdout, tritbench};
use serde_json::{Value, json};
use trit_core::{Cell, Measurement, RunDir, Session, Table, Workload};

/// Cells of each run.
const CELLS: usize = 6;

/// A finished run of `day` in which every call takes `factor` times as long.
fn make_run(parent: &Path, day: u32, factor: f64) -> PathBuf {
    let path = parent.join(format!("run-{day:03}"));
    let dir = RunDir::create(&path).unwrap();
    let cells: Vec<Cell> = (0..CELLS)
        .map(|i| Cell {
            cell: format!("gemv-cold/k{i}/64x256/t1"),
            subject: format!("k{i}"),
            kernel: format!("k{i}"),
            weight_bits: Some(2.0),
            rows: Some(64),
            k: Some(256),
            tokens: Some(1),
            threads: Some(1),
            workload: Workload::GemvCold,
            ..Cell::default()
        })
        .collect();
    let session = Session {
        schema: 1,
        version: "0.1.0".into(),
        git_revision: Some(format!("{day:040x}")),
        started_utc: format!("2026-{:02}-{:02}T12:00:00Z", 1 + day / 28, 1 + day % 28),
        host: "bench".into(),
        suite: "quick".into(),
        machine: json!({"cpu": {"model": "A processor", "cores": 2, "threads": 2}}),
        ..Session::default()
    };
    dir.write_session(&session).unwrap();
    dir.write(&cells).unwrap();
    let mut rows = Vec::new();
    for (i, cell) in cells.iter().enumerate() {
        for sample in 0..12_u64 {
            // Noise that is the same in every run of the suite of tests.
            let noise = 1.0 + 0.01 * f64::from((day * 7 + sample as u32 * 3) % 11);
            rows.push(Measurement {
                cell: cell.cell.clone(),
                round: sample,
                block: sample,
                iterations: 10,
                time_ns: (1e4 * (i + 1) as f64 * factor * noise) as u64,
                ..Measurement::default()
            });
        }
    }
    dir.write(&rows).unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_slowdown_is_found_where_it_began() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("history.sqlite");
    let runs: Vec<PathBuf> = (0..24)
        .map(|day| make_run(dir.path(), day, if day < 12 { 1.0 } else { 1.2 }))
        .collect();
    let mut arguments = vec!["history", "add", "--store", text(&store)];
    arguments.extend(runs.iter().map(|path| text(path)));
    let added = run(&arguments);
    assert_eq!(added.status.code(), Some(0), "{}", stderr(&added));
    assert!(added.stdout.is_empty());
    let again = run(["history", "add", "--store", text(&store), text(&runs[3])]);
    assert!(stderr(&again).contains("already"), "{}", stderr(&again));

    let list = stdout(&run([
        "history",
        "list",
        "--store",
        text(&store),
        "--format",
        "csv",
    ]));
    assert_eq!(list.lines().count(), 25, "{list}");
    assert!(list.contains("A processor, 2 cores, 2 threads"));

    let chart = dir.path().join("trend.svg");
    let shown = run([
        "history",
        "show",
        "gemv-cold/k1/64x256/t1",
        "--store",
        text(&store),
        "--chart",
        text(&chart),
        "--format",
        "json",
    ]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    assert!(
        stderr(&shown).contains("1 change in 24 sessions"),
        "{}",
        stderr(&shown)
    );
    let rows: Value = serde_json::from_str(&stdout(&shown)).unwrap();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 24);
    let at: Vec<usize> = (0..24)
        .filter(|i| !rows[*i]["change_percent"].is_null())
        .collect();
    assert_eq!(at, [12]);
    let percent = rows[12]["change_percent"].as_f64().unwrap();
    assert!((percent - 20.0).abs() < 3.0, "{percent}");
    let svg = fs::read_to_string(&chart).unwrap();
    for part in [
        "History",
        "gemv-cold/k1/64x256/t1",
        "change",
        "2026-01-01",
        "A processor",
    ] {
        assert!(svg.contains(part), "the chart lacks {part}");
    }
    // The same store gives the same bytes.
    let again = dir.path().join("again.svg");
    run([
        "history",
        "show",
        "gemv-cold/k1/64x256/t1",
        "--store",
        text(&store),
        "--chart",
        text(&again),
    ]);
    assert_eq!(svg, fs::read_to_string(&again).unwrap());

    // The latest results of the machine can be compared.
    let machine = rows[0]["machine"].as_str().unwrap();
    let compared = tritbench([
        "compare",
        text(&runs[0]),
        &format!("machine:{machine}"),
        "--store",
        text(&store),
        "--format",
        "json",
    ])
    .output()
    .unwrap();
    assert_eq!(compared.status.code(), Some(0), "{}", stderr(&compared));
    let compared: Value = serde_json::from_str(&stdout(&compared)).unwrap();
    let mean = &compared["geometric_mean"][format!("machine:{machine}")];
    assert!(
        (mean["ratio"].as_f64().unwrap() - 1.2).abs() < 0.05,
        "{mean}"
    );
    refused(
        [
            "compare",
            text(&runs[0]),
            "machine:none",
            "--store",
            text(&store),
        ],
        2,
        &["`none`", "history list"],
    );
}

#[test]
fn a_writer_that_is_killed_leaves_whole_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("history.sqlite");
    let runs: Vec<PathBuf> = (0..60).map(|day| make_run(dir.path(), day, 1.0)).collect();
    for stop in ["run-003", "run-017", "run-040"] {
        let mut arguments = vec!["history", "add", "--store", text(&store)];
        arguments.extend(runs.iter().map(|path| text(path)));
        let mut writer = Talking::start(tritbench(arguments));
        writer.wait_for(stop);
        writer.signal("KILL");
        assert_eq!(writer.end().0.code(), None);
        let list = run([
            "history",
            "list",
            "--store",
            text(&store),
            "--format",
            "json",
        ]);
        assert_eq!(list.status.code(), Some(0), "{}", stderr(&list));
        let sessions: Value = serde_json::from_str(&stdout(&list)).unwrap();
        let sessions = sessions.as_array().unwrap().len();
        assert!(sessions > 3);
        for cell in 0..CELLS {
            let name = format!("gemv-cold/k{cell}/64x256/t1");
            let shown = run([
                "history",
                "show",
                &name,
                "--store",
                text(&store),
                "--format",
                "csv",
            ]);
            assert_eq!(
                stdout(&shown).lines().count(),
                sessions + 1,
                "every session has every cell"
            );
        }
    }
}

#[test]
fn two_programs_add_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("history.sqlite");
    let runs: Vec<PathBuf> = (0..40).map(|day| make_run(dir.path(), day, 1.0)).collect();
    let writers: Vec<_> = [&runs[..25], &runs[15..]]
        .into_iter()
        .map(|runs| {
            let mut arguments = vec!["history", "add", "--store", text(&store)];
            arguments.extend(runs.iter().map(|path| text(path)));
            Talking::start(tritbench(arguments))
        })
        .collect();
    for writer in writers {
        let (status, talk) = writer.end();
        assert_eq!(status.code(), Some(0), "{talk}");
    }
    let list = stdout(&run([
        "history",
        "list",
        "--store",
        text(&store),
        "--format",
        "csv",
    ]));
    assert_eq!(list.lines().count(), 41, "none is lost, none is twice");
}

#[test]
fn what_is_no_history_or_no_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("history.sqlite");
    let made = make_run(dir.path(), 0, 1.0);
    refused(
        ["history", "list", "--store", text(&store)],
        1,
        &["no history yet", "history add"],
    );
    fs::write(&store, "machine,cell\n".repeat(100)).unwrap();
    for command in [
        &["history", "list", "--store", text(&store)][..],
        &["history", "show", "x", "--store", text(&store)],
        &["history", "add", text(&made), "--store", text(&store)],
    ] {
        refused(command, 5, &["history.sqlite", "not a history", "--store"]);
    }
    fs::remove_file(&store).unwrap();
    refused(
        ["history", "add", text(dir.path()), "--store", text(&store)],
        5,
        &["session.json"],
    );
    // A run that says nothing about its machine needs a name for it.
    let run_dir = RunDir::open(&made).unwrap();
    let mut session = run_dir.session().unwrap();
    session.machine = Value::Null;
    run_dir.write_session(&session).unwrap();
    refused(
        ["history", "add", text(&made), "--store", text(&store)],
        5,
        &["--machine NAME"],
    );
    let named = run([
        "history",
        "add",
        text(&made),
        "--machine",
        "laptop",
        "--store",
        text(&store),
    ]);
    assert_eq!(named.status.code(), Some(0), "{}", stderr(&named));
    refused(
        ["history", "show", "nothing", "--store", text(&store)],
        2,
        &["`nothing`"],
    );
    refused(
        [
            "history",
            "show",
            "k1",
            "--measure",
            "status",
            "--store",
            text(&store),
        ],
        2,
        &["--measure", "median_ns"],
    );
    // One that is not finished.
    let mut cells = run_dir.cells().unwrap();
    trit_core::UNFINISHED.clone_into(&mut cells[0].reason);
    run_dir.write(&cells).unwrap();
    refused(
        [
            "history",
            "add",
            text(&made),
            "--machine",
            "laptop",
            "--store",
            text(&store),
        ],
        5,
        &["--resume"],
    );
    // Where the file is, without --store.
    let mut list = tritbench(["history", "list"]);
    list.env("XDG_DATA_HOME", dir.path());
    check_refused(&mut list, 1, &["tritbench/history.sqlite"]);
}

#[test]
fn runs_are_compared_by_any_key() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (make_run(dir.path(), 0, 1.0), make_run(dir.path(), 11, 1.5));
    let table = run(["compare", text(&a), text(&b)]);
    assert_eq!(table.status.code(), Some(0), "{}", stderr(&table));
    let table = stdout(&table);
    assert!(
        table.contains("geometric mean") && table.contains("1.50") && table.contains("not paired"),
        "{table}"
    );
    // A summary alone will do, and gives the same numbers.
    run(["report", text(&a)]);
    let summary = a.join(trit_core::SummaryRow::FILE);
    let csv = run(["compare", text(&summary), text(&b), "--format", "csv"]);
    assert_eq!(stdout(&csv).lines().count(), 1 + 2 * CELLS);
    assert!(stderr(&csv).contains("not paired"), "{}", stderr(&csv));
    let kernels = stdout(&run([
        "compare",
        text(&a),
        "--col",
        "kernel",
        "--base",
        "k2",
        "--format",
        "csv",
    ]));
    let last = kernels.lines().find(|line| line.contains(",k5,")).unwrap();
    assert!(
        last.contains(",k2,2,") || last.contains(",k2,1.99") || last.contains(",k2,2.00"),
        "{last}"
    );
    let md = stdout(&run([
        "compare",
        text(&a),
        text(&b),
        "--row",
        "workload",
        "--filter",
        "kernel=k0,k1",
        "--format",
        "md",
    ]));
    assert!(
        md.starts_with("| cell |") && md.contains("`kernel` is averaged away"),
        "{md}"
    );
    for (arguments, code, words) in [
        (
            &["--col", "colour"][..],
            2,
            &["no key `colour`", "threads"][..],
        ),
        (&["--measure", "speed"], 2, &["`speed`", "median_ns"]),
        (&["--filter", "threads"], 2, &["KEY=VALUE"]),
        (&["--filter", "threads=9"], 5, &["no measured cell"]),
        (&["--base", "c"], 2, &["`c`"]),
    ] {
        let all = [&["compare", text(&a), text(&b)][..], arguments].concat();
        refused(all, code, words);
    }
    refused(["compare", text(&a)], 2, &["same run"]);
    refused(["compare", text(&a), "no/such"], 1, &["no/such"]);
    refused(
        ["run", "--allow-debug", "--compare", "no/such"],
        1,
        &["no/such"],
    );
}
