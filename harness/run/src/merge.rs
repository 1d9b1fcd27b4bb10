//! The log of a meter outside of the machine, merged into the windows of a run by time.

use std::collections::BTreeMap;

use trit_core::{EnergyRow, EnergyWindow, RunDir, RunDirError, Session};
use trit_measure::energy::{EnergyStatus, External};

use crate::meter::Counts;

/// The source of windows that wait for a log.
const OUTSIDE: &str = "external";

/// Why a log could not be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The run directory.
    #[error(transparent)]
    Record(#[from] RunDirError),
    /// The run has no windows.
    #[error(
        "the run in `{0}` has no energy windows that a log could fill; hint: measure with --energy true --energy-source external"
    )]
    NoWindows(String),
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Windows that have an amount now.
    pub filled: u64,
    /// Windows that have none.
    pub empty: u64,
    /// Why, of the last of them.
    pub reason: String,
}

/// Fills windows from a log by their times, UTC. Those that were taken for a meter outside of the machine get all its amounts;
/// those of another meter keep theirs and get what was measured at the plug beside them. It can be done again with a longer log.
///
/// `session` is told about the meter, and not written.
///
/// # Errors
/// When the rows cannot be read or written, or there is no window.
pub fn merge_log(
    dir: &RunDir,
    session: &mut Session,
    log: &External,
) -> Result<Merged, MergeError> {
    let mut rows: Vec<EnergyRow> = dir.read()?;
    let domains = log.domain_names();
    let (mut merged, mut outside) = (Merged::default(), false);
    let mut idle: BTreeMap<u64, f64> = BTreeMap::new();
    for row in &mut rows {
        let edges = row.start_unix_ns.zip(row.end_unix_ns);
        let Some((start, end)) = edges.filter(|_| row.window != EnergyWindow::None) else {
            continue;
        };
        let energy = log.energy(start, end);
        let ok = |status| status == EnergyStatus::Ok;
        if row.source == OUTSIDE {
            outside = true;
            if row.status == EnergyStatus::MixedLoad.name() {
                merged.empty += 1;
                merged.reason.clone_from(&row.reason);
                continue;
            }
            let counts = if ok(energy.status) {
                Counts::of(&energy)
            } else {
                Counts::default()
            };
            counts.put(row);
            row.status = energy.status.to_string();
            row.reason.clone_from(&energy.reason);
            row.domains = domains.join(" ");
            let uj = row.headline().map(|(_, uj)| uj);
            if row.window == EnergyWindow::IdleBefore
                && let Some(watts) = energy.watts(uj)
            {
                idle.insert(row.part, watts);
            }
            if row.window == EnergyWindow::Cell {
                row.idle_w = idle.get(&row.part).copied();
            }
        } else {
            row.wall_uj = Counts::of(&energy).wall_uj.filter(|_| ok(energy.status));
        }
        if ok(energy.status) {
            merged.filled += 1;
        } else {
            merged.empty += 1;
            merged.reason = energy.reason;
        }
    }
    if merged.filled + merged.empty == 0 {
        return Err(MergeError::NoWindows(dir.path().display().to_string()));
    }
    dir.write(&rows)?;
    if outside {
        let facts = &mut session.energy;
        let path = log.path().display();
        OUTSIDE.clone_into(&mut facts.source);
        facts.domains = domains;
        facts.remedy.clear();
        if merged.filled > 0 {
            EnergyStatus::Ok.name().clone_into(&mut facts.status);
            facts.reason = format!("merged from `{path}` by time");
        } else {
            EnergyStatus::Absent.name().clone_into(&mut facts.status);
            facts.reason = format!(
                "`{path}` fills no window, the last because: {}",
                merged.reason
            );
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::path::Path;

    use trit_measure::energy::MAX_GAP_NS;

    use super::*;

    fn row(window: EnergyWindow, start_s: u64, end_s: u64) -> EnergyRow {
        let of_cell = window == EnergyWindow::Cell;
        EnergyRow {
            cell: if of_cell { "x" } else { "" }.to_owned(),
            window,
            start_unix_ns: Some(start_s * 1_000_000_000),
            end_unix_ns: Some(end_s * 1_000_000_000),
            window_ns: Some((end_s - start_s) * 1_000_000_000),
            source: "external".into(),
            status: "absent".into(),
            reason: "not merged yet".into(),
            ..EnergyRow::default()
        }
    }

    /// A record of 20 W until 111 s, then 50 W.
    fn record(path: &Path, seconds: std::ops::RangeInclusive<u64>) -> External {
        let mut text = "unix_s,watts\n".to_owned();
        for second in seconds {
            writeln!(text, "{second},{}", if second <= 111 { 20 } else { 50 }).unwrap();
        }
        std::fs::write(path, text).unwrap();
        External::open(path, MAX_GAP_NS).unwrap()
    }

    fn session() -> Session {
        let mut session = Session::default();
        session.energy.status = "absent".into();
        session
    }

    #[test]
    fn windows_are_filled_as_far_as_the_log_reaches() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(&dir.path().join("run")).unwrap();
        let busy = EnergyRow {
            status: "mixed_load".into(),
            ..row(EnergyWindow::Cell, 113, 115)
        };
        run.write(&[
            row(EnergyWindow::IdleBefore, 100, 110),
            row(EnergyWindow::Cell, 112, 114),
            busy,
            row(EnergyWindow::Cell, 115, 118),
            row(EnergyWindow::IdleAfter, 130, 140),
        ])
        .unwrap();
        let path = dir.path().join("plug.csv");
        let mut session = session();
        let merged = merge_log(&run, &mut session, &record(&path, 95..=116)).unwrap();
        assert_eq!((merged.filled, merged.empty), (2, 3), "{merged:?}");
        assert!(merged.reason.contains("ends"), "{merged:?}");
        assert_eq!(session.energy.status, "ok");
        assert_eq!(session.energy.domains, ["psys"]);
        let rows: Vec<EnergyRow> = run.read().unwrap();
        assert_eq!(rows[0].wall_uj, Some(200_000_000));
        assert_eq!(
            (rows[1].wall_uj, rows[1].status.as_str()),
            (Some(100_000_000), "ok")
        );
        assert_eq!((rows[1].pkg_uj, rows[1].psys_uj), (None, None));
        assert_eq!(rows[1].idle_w, Some(20.0));
        assert_eq!(
            (rows[2].wall_uj, rows[2].status.as_str()),
            (None, "mixed_load")
        );
        assert_eq!((rows[3].wall_uj, rows[3].status.as_str()), (None, "absent"));

        // The rest of the log came later.
        let merged = merge_log(&run, &mut session, &record(&path, 95..=150)).unwrap();
        assert_eq!((merged.filled, merged.empty), (4, 1), "{merged:?}");
        let rows: Vec<EnergyRow> = run.read().unwrap();
        assert_eq!(rows[3].wall_uj, Some(150_000_000));
        assert_eq!(rows[4].wall_uj, Some(500_000_000));
    }

    #[test]
    fn another_meter_keeps_its_amounts_and_gets_the_plug_beside_them() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(&dir.path().join("run")).unwrap();
        let measured = EnergyRow {
            source: "powercap".into(),
            status: "ok".into(),
            reason: String::new(),
            pkg_uj: Some(7),
            ..row(EnergyWindow::Cell, 100, 102)
        };
        let none = EnergyRow {
            window: EnergyWindow::None,
            ..measured.clone()
        };
        run.write(&[measured.clone(), none.clone()]).unwrap();
        let mut session = session();
        let log = record(&dir.path().join("plug.csv"), 90..=111);
        merge_log(&run, &mut session, &log).unwrap();
        let want = EnergyRow {
            wall_uj: Some(40_000_000),
            ..measured
        };
        assert_eq!(run.read::<EnergyRow>().unwrap(), [want, none.clone()]);
        assert_eq!(session.energy.status, "absent", "its meter is another one");

        run.write(&[none]).unwrap();
        let error = merge_log(&run, &mut session, &log).unwrap_err();
        assert!(matches!(error, MergeError::NoWindows(_)), "{error}");
    }
}
