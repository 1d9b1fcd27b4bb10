//! What a store has to survive.

use super::*;
use std::fs;
use std::io::{Seek, SeekFrom, Write};

fn row(name: &str, kernel: &str, ns: f64) -> SummaryRow {
    SummaryRow {
        cell: Cell {
            cell: name.into(),
            subject: kernel.into(),
            kernel: kernel.into(),
            rows: Some(64),
            k: Some(256),
            threads: Some(1),
            ..Cell::default()
        },
        results: Results {
            n: Some(12),
            median_ns: Some(ns),
            lo_ns: Some(ns * 0.99),
            hi_ns: Some(ns * 1.01),
            peak_rss_bytes: Some(1 << 30),
            ..Results::default()
        },
    }
}

fn session(day: u32) -> Session {
    Session {
        schema: 1,
        version: "0.1.0".into(),
        started_utc: format!("2026-{:02}-{:02}T00:00:00Z", 1 + day / 28, 1 + day % 28),
        host: "h".into(),
        suite: "quick".into(),
        ..Session::default()
    }
}

fn add(store: &mut Store, day: u32, rows: &[SummaryRow]) -> bool {
    store
        .add(&session(day), "m1", Path::new("runs/x"), rows)
        .unwrap()
}

#[test]
fn what_went_in_comes_out_and_goes_in_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/history.sqlite");
    assert!(matches!(Store::open(&path), Err(StoreError::Missing(_))));
    let mut store = Store::open_or_create(&path).unwrap();
    let rows = [row("a/b", "one", 100.5), row("a/c", "two", 200.0)];
    assert!(add(&mut store, 1, &rows));
    assert!(!add(&mut store, 1, &rows), "it is there already");
    assert!(add(&mut store, 0, &rows[..1]));
    let mut skipped = rows[0].clone();
    skipped.cell.status = Status::Skipped;
    let refused = store.add(&session(3), "m1", Path::new("x"), &[skipped]);
    assert!(matches!(refused, Err(StoreError::Session { .. })));
    drop(store);

    let store = Store::open(&path).unwrap();
    let sessions = store.sessions(None).unwrap();
    assert_eq!(sessions.len(), 2);
    assert_eq!(sessions[0].cells, 1, "the earlier one comes first");
    assert_eq!(store.sessions(Some("m2")).unwrap(), []);
    assert_eq!(store.cells("a/").unwrap().len(), 2);
    let cell = store.cells("a/b").unwrap();
    assert_eq!(cell.len(), 1);
    let series = store
        .series((cell[0].0, &cell[0].1), "median_ns", None)
        .unwrap();
    assert_eq!(series.len(), 1);
    assert_eq!(series[0].points.len(), 2);
    assert_eq!(series[0].points[1].value.to_string(), "100.5");
    assert_eq!(
        series[0].points[1].interval,
        Some((100.5 * 0.99, 100.5 * 1.01))
    );
    let memory = store
        .series((cell[0].0, "a/b"), "peak_rss_bytes", None)
        .unwrap();
    assert_eq!(memory[0].points[0].value.to_string(), "1073741824");
    assert_eq!(memory[0].points[0].interval, None);
    assert_eq!(store.latest("m1").unwrap(), rows);
}

#[test]
fn several_writers_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.sqlite");
    std::thread::scope(|scope| {
        for writer in 0..4_u32 {
            let path = &path;
            scope.spawn(move || {
                // Opened anew for each session, as programs would: the first ones race to make the tables.
                for i in 0..10 {
                    let mut store = Store::open_or_create(path).unwrap();
                    assert!(add(&mut store, writer * 10 + i, &[row("a", "one", 1.0)]));
                }
            });
        }
    });
    let store = Store::open(&path).unwrap();
    assert_eq!(store.sessions(None).unwrap().len(), 40);
    let cells = store.cells("a").unwrap();
    assert_eq!(cells.len(), 1);
    let series = store.series((cells[0].0, "a"), "median_ns", None).unwrap();
    assert_eq!(series[0].points.len(), 40);
}

#[test]
fn other_files_and_damaged_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    fs::write(
        file("text"),
        "this is no database, and longer than its header",
    )
    .unwrap();
    fs::write(file("short"), "x").unwrap();
    for name in ["text", "short"] {
        for refused in [Store::open(&file(name)), Store::open_or_create(&file(name))] {
            assert!(refused.unwrap_err().is_content(), "{name}");
        }
    }
    // An SQLite file of somebody else is neither read nor written.
    let other = Connection::open(file("other")).unwrap();
    other.execute_batch("CREATE TABLE t(x)").unwrap();
    drop(other);
    let before = fs::read(file("other")).unwrap();
    let refused = Store::open_or_create(&file("other")).unwrap_err();
    assert!(refused.to_string().contains("not a history"), "{refused}");
    assert_eq!(fs::read(file("other")).unwrap(), before);
    // A trigger or a view that somebody put in.
    drop(Store::open_or_create(&file("tampered")).unwrap());
    let tampered = Connection::open(file("tampered")).unwrap();
    tampered
        .execute_batch("CREATE TRIGGER t AFTER INSERT ON sessions BEGIN DELETE FROM sessions; END")
        .unwrap();
    drop(tampered);
    let refused = Store::open(&file("tampered")).unwrap_err();
    assert!(refused.to_string().contains("tables"), "{refused}");
    // A later version.
    drop(Store::open_or_create(&file("later")).unwrap());
    let later = Connection::open(file("later")).unwrap();
    later.pragma_update(None, "user_version", 2).unwrap();
    drop(later);
    let refused = Store::open(&file("later")).unwrap_err();
    assert!(refused.to_string().contains("form 2"), "{refused}");
}

#[test]
fn damage_anywhere_is_an_error_or_harmless_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.sqlite");
    let mut store = Store::open_or_create(&path).unwrap();
    for day in 0..40 {
        add(
            &mut store,
            day,
            &[row("a/b", "one", 100.0), row("a/c", "two", 200.0)],
        );
    }
    drop(store);
    let whole = fs::read(&path).unwrap();
    let read_all = |path: &Path| -> Result<usize, StoreError> {
        let store = Store::open(path)?;
        let mut seen = store.sessions(None)?.len();
        for (id, name) in store.cells("a")? {
            for series in store.series((id, &name), "median_ns", None)? {
                seen += series.points.len();
            }
        }
        store.latest("m1")?;
        Ok(seen)
    };
    assert_eq!(read_all(&path).unwrap(), 120);
    let broken = dir.path().join("broken.sqlite");
    let mut rng = trit_stats::Rng::new(5);
    let mut refused = 0;
    for turn in 0..300 {
        fs::write(&broken, &whole).unwrap();
        let mut file = fs::OpenOptions::new().write(true).open(&broken).unwrap();
        if turn % 5 == 0 {
            file.set_len(rng.below(whole.len()) as u64).unwrap();
        } else {
            for _ in 0..=rng.below(8) {
                file.seek(SeekFrom::Start(rng.below(whole.len()) as u64))
                    .unwrap();
                file.write_all(&[rng.below(256) as u8]).unwrap();
            }
        }
        drop(file);
        refused += usize::from(read_all(&broken).is_err());
    }
    assert!(refused > 30, "only {refused} of 300 were refused");
}

#[test]
fn a_session_whose_writer_died_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.sqlite");
    let mut store = Store::open_or_create(&path).unwrap();
    add(&mut store, 0, &[row("a", "one", 1.0)]);
    // As the system leaves it when the process is gone: pages and journal on disk, nothing committed.
    store.db.pragma_update(None, "cache_spill", 1).unwrap();
    store.db.pragma_update(None, "cache_size", 2).unwrap();
    store.db.execute_batch("BEGIN IMMEDIATE").unwrap();
    for i in 0..2000 {
        store
            .db
            .execute(
                "INSERT INTO cells(keys, name) VALUES(?1, ?1)",
                [format!("k{i}")],
            )
            .unwrap();
    }
    let journal = dir.path().join("history.sqlite-journal");
    assert!(fs::metadata(&journal).unwrap().len() > 0);
    let (left, left_journal) = (
        dir.path().join("left.sqlite"),
        dir.path().join("left.sqlite-journal"),
    );
    fs::copy(&path, &left).unwrap();
    fs::copy(&journal, &left_journal).unwrap();
    let mut store = Store::open(&left).unwrap();
    assert_eq!(store.cells("k").unwrap(), []);
    assert_eq!(store.sessions(None).unwrap().len(), 1);
    assert!(add(&mut store, 1, &[row("a", "one", 2.0)]));
}
