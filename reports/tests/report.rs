//! The report of a made-up session, as a whole: `tests/fixtures/session` holds its rows, its summary and its report. After a change that is
//! meant, `TRIT_BLESS=1 cargo test -p trit-report` writes them again; read the difference.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{KERNELS, session, session_rows};
use trit_core::{RunDir, Status};
use trit_report::{render, summarize, terminal_table, write_charts, write_report_md};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/session")
}

/// Writes the rows of the session that the fixture holds.
fn write_rows(path: &Path) -> RunDir {
    let rows = session_rows(&KERNELS[..2], &[1, 2], 20);
    let run = RunDir::create(path).unwrap();
    run.write_session(&session()).unwrap();
    run.write(&rows.cells).unwrap();
    run.write(&rows.measurements).unwrap();
    run.write(&rows.tokens).unwrap();
    run
}

/// A copy of the fixture's rows in a directory of its own.
fn copy() -> (tempfile::TempDir, RunDir) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("session");
    if std::env::var_os("TRIT_BLESS").is_some() {
        write_rows(&path);
    } else {
        fs::create_dir(&path).unwrap();
        for name in [
            "session.json",
            "cells.csv",
            "measurements.csv",
            "tokens.csv",
        ] {
            fs::copy(fixture().join(name), path.join(name)).unwrap();
        }
    }
    (parent, RunDir::open(&path).unwrap())
}

#[test]
fn the_report_is_the_one_that_was_read() {
    let (_keep, run) = copy();
    let rows = summarize(&run).unwrap();
    let charts = write_charts(&run).unwrap();
    let report = write_report_md(&run).unwrap();
    fs::write(run.path().join("table.txt"), terminal_table(&rows)).unwrap();
    let names = [
        "session.json",
        "cells.csv",
        "measurements.csv",
        "tokens.csv",
        "summary.csv",
        "report.md",
        "table.txt",
    ];
    if std::env::var_os("TRIT_BLESS").is_some() {
        fs::create_dir_all(fixture()).unwrap();
        for name in names {
            fs::copy(run.path().join(name), fixture().join(name)).unwrap();
        }
    }
    for name in names {
        let (got, want) = (
            fs::read_to_string(run.path().join(name)).unwrap(),
            fs::read_to_string(fixture().join(name)).unwrap(),
        );
        let differs = got
            .lines()
            .zip(want.lines())
            .position(|(got, want)| got != want);
        assert_eq!(
            differs.map(|i| (got.lines().nth(i), want.lines().nth(i))),
            None,
            "{name}"
        );
        assert_eq!(got.len(), want.len(), "{name}");
    }
    let text = fs::read_to_string(report).unwrap();
    // Every chart is linked, and every link leads somewhere.
    for chart in &charts {
        let name = chart.file_name().unwrap().to_string_lossy();
        assert!(text.contains(&format!("(charts/{name})")), "{name}");
    }
    let links: Vec<&str> = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect();
    assert_eq!(links.len(), charts.len());
    assert!(
        links.iter().all(|link| run.path().join(link).is_file()),
        "{links:?}"
    );
}

#[test]
fn the_report_says_what_a_reader_needs() {
    let (_keep, run) = copy();
    let text = fs::read_to_string(write_report_md(&run).unwrap()).unwrap();
    for part in [
        "# quick on bench-1",
        "- Machine: AMD EPYC 9R45, 2 cores, 2 threads, virtual machine (KVM)",
        "1 skipped, 1 wrong, 1 crashed",
        "Cells that gave a wrong answer: 1 of 33.",
        "% of the measured read bandwidth",
        "## Fastest kernel by workload, shape and threads",
        "## Cells that are not ok",
        "| crashed | w2a8-tile-amx, gemm, 2560x2560, 32 tokens, 1 thread | the worker died with signal 4 (illegal instruction) |",
        "L1d 2 x 48.0 KiB, L3 32.0 MiB",
        "tritbench run quick --out 'runs/a b'",
        "revision 0123456",
        "21.5 GB/s",
    ] {
        assert!(text.contains(part), "lacks `{part}`:\n{text}");
    }
    assert!(
        !text.contains("]("),
        "charts that were not drawn are not linked"
    );
    // The summary comes first.
    assert!(text.find("- Machine").unwrap() < text.find("## ").unwrap());
}

#[test]
fn a_session_that_stopped_early_or_knows_nothing_still_has_a_report() {
    let parent = tempfile::tempdir().unwrap();
    let run = RunDir::create(&parent.path().join("run")).unwrap();
    run.write_session(&trit_core::Session {
        schema: 1,
        ..trit_core::Session::default()
    })
    .unwrap();
    run.write::<trit_core::Cell>(&[]).unwrap();
    assert_eq!(write_charts(&run).unwrap(), Vec::<PathBuf>::new());
    let text = fs::read_to_string(write_report_md(&run).unwrap()).unwrap();
    assert!(
        text.starts_with("# unknown on unknown\n") && text.contains("Cells: 0 (none)"),
        "{text}"
    );
    let mut rows = session_rows(&KERNELS[..1], &[1], 1);
    rows.cells.truncate(1);
    rows.cells[0].reason = trit_core::UNFINISHED.to_owned();
    run.write(&rows.cells).unwrap();
    let text = fs::read_to_string(write_report_md(&run).unwrap()).unwrap();
    assert!(
        text.contains("The session ended early. Unfinished cells: 1."),
        "{text}"
    );
}

#[test]
fn a_debug_build_is_named_before_anything_else() {
    let (_keep, run) = copy();
    let mut session = run.session().unwrap();
    session.machine["build"] = serde_json::json!({"debug_assertions": true});
    run.write_session(&session).unwrap();
    let text = fs::read_to_string(write_report_md(&run).unwrap()).unwrap();
    assert!(text.find("built with debug assertions").unwrap() < text.find("## Fastest").unwrap());
}

#[test]
fn pipes_and_newlines_in_reasons_keep_the_tables_whole() {
    let (_keep, run) = copy();
    let mut cells = run.cells().unwrap();
    cells[0].status = Status::Failed;
    cells[0].reason = "a | b\nc".to_owned();
    run.write(&cells).unwrap();
    let text = fs::read_to_string(write_report_md(&run).unwrap()).unwrap();
    assert!(text.contains("a \\| b c |"), "{text}");
    let rows = summarize(&run).unwrap();
    assert!(render(&rows, trit_report::Format::Table).contains("a | b"));
}
