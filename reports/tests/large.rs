//! The whole report of a session with ten thousand cells: it is made, and what is made is bounded.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{many_cells, session};
use trit_core::RunDir;
use trit_report::{terminal_table, write_all};

const CELLS: usize = 10_000;
const MB: u64 = 1_000_000;

/// The session, written where a program that times `tritbench report` finds it.
fn large() -> RunDir {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("large");
    if path.exists() {
        fs::remove_dir_all(&path).unwrap();
    }
    let run = RunDir::create(&path).unwrap();
    let rows = many_cells(CELLS, 5);
    run.write_session(&session()).unwrap();
    run.write(&rows.cells).unwrap();
    run.write(&rows.measurements).unwrap();
    run
}

#[test]
fn ten_thousand_cells_have_a_report_of_a_bounded_size() {
    let run = large();
    let (rows, charts) = write_all(&run).unwrap();
    assert_eq!(rows.len(), CELLS + 1);
    assert!(rows.iter().any(|row| row.results.bandwidth_share.is_some()));
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    // Nothing is lost where everything is kept.
    let summary = fs::read_to_string(run.path().join("summary.csv")).unwrap();
    assert_eq!(summary.lines().count(), CELLS + 2);
    assert!(terminal_table(&rows).lines().count() > CELLS);
    // What people read is cut, and says so.
    let text = fs::read_to_string(run.path().join("report.md")).unwrap();
    let page = fs::read_to_string(run.path().join("report.html")).unwrap();
    for (name, report) in [("md", &text), ("html", &page)] {
        let said = format!("The first 2000 of {CELLS} rows; the CSV files of the run have all.");
        let measured = said.replace("10000", "10001");
        assert!(
            report.contains(&said) || report.contains(&measured),
            "{name} does not say what it leaves out"
        );
        assert!(report.contains("further panels are left out") || name == "md");
    }
    assert!((text.len() as u64) < 2 * MB, "report.md: {}", text.len());
    assert!((page.len() as u64) < 8 * MB, "report.html: {}", page.len());
    let all: Vec<PathBuf> = fs::read_dir(run.path().join("charts"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(all.len(), 2 * charts.len());
    assert!(all.len() <= 40, "{} files", all.len());
    let bytes: u64 = all.iter().map(|path| size(path)).sum();
    assert!(bytes < 40 * MB, "charts: {bytes}");
    // The same rows give the same bytes.
    write_all(&run).unwrap();
    assert!(page == fs::read_to_string(run.path().join("report.html")).unwrap());
    assert!(text == fs::read_to_string(run.path().join("report.md")).unwrap());
}
