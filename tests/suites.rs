//! Shipped suites are tests too: every cell is verified, however little time there is.

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::{path, run, stderr};
use trit_core::{RunDir, Status, Suite, is_final};

#[test]
fn the_quick_suite_verifies_every_cell() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("quick");
    // The budget is far below the need: each cell gets its fewest samples, each of them checked.
    let output = run([
        "run",
        "quick",
        "--allow-debug",
        "--budget",
        "1s",
        "--out",
        out.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let cells = RunDir::open(&out).unwrap().cells().unwrap();
    for cell in &cells {
        assert!(is_final(cell), "{} is not finished", cell.cell);
        assert_eq!(cell.status, Status::Ok, "{}: {}", cell.cell, cell.reason);
    }
    let subjects: BTreeSet<&str> = cells.iter().map(|cell| cell.kernel.as_str()).collect();
    let opened = trit_kernels::kernels()
        .iter()
        .filter(|entry| (entry.open)(trit_kernel::Cpu::uncapped()).is_ok());
    for entry in opened {
        assert!(
            subjects.contains(entry.info.id),
            "{} has no row",
            entry.info.id
        );
    }
}

#[test]
fn every_shipped_suite_can_be_read() {
    let mut seen = 0;
    for entry in fs::read_dir(path("suites")).unwrap() {
        let file = entry.unwrap().path();
        if file
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            let suite = Suite::parse(&name, &fs::read_to_string(&file).unwrap()).unwrap();
            assert_eq!(
                format!("{}.toml", suite.name),
                name,
                "a suite has the name of its file"
            );
            seen += 1;
        }
    }
    assert_eq!(
        seen,
        trit_core::suite_names().len(),
        "every suite is embedded, and none twice"
    );
}
