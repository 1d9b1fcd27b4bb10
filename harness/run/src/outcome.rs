//! What came of a run.

use std::path::PathBuf;

use trit_core::{Cell, Status, is_final};

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The run directory.
    pub dir: PathBuf,
    /// The last row of every cell.
    pub cells: Vec<Cell>,
    /// Whether it was interrupted; the rows so far are kept.
    pub interrupted: bool,
    /// Whether a cell failed because the content of a file is not usable.
    pub unusable_content: bool,
    /// Energy was required and no meter gave it.
    pub energy_missing: bool,
}

impl Outcome {
    /// Number of cells of one status.
    pub fn count(&self, status: Status) -> usize {
        let of_status =
            |cell: &&Cell| cell.status == status && (status == Status::Ok || is_final(cell));
        self.cells.iter().filter(of_status).count()
    }

    /// The exit code: 130 when interrupted, else the first that applies of 7 (wrong results), 6 (energy required but
    /// missing), 5 (content of a file not usable), 1 (crashed, failed, timed out), 0.
    pub fn exit_code(&self) -> u8 {
        let any = |statuses: &[Status]| statuses.iter().any(|status| self.count(*status) > 0);
        if self.interrupted {
            130
        } else if any(&[Status::Wrong]) {
            7
        } else if self.energy_missing {
            6
        } else if self.unusable_content {
            5
        } else {
            u8::from(any(&[Status::Crashed, Status::Failed, Status::Timeout]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_code_wins() {
        let outcome = |statuses: &[Status]| Outcome {
            cells: statuses
                .iter()
                .map(|status| Cell {
                    status: *status,
                    ..Cell::default()
                })
                .collect(),
            ..Outcome::default()
        };
        assert_eq!(outcome(&[]).exit_code(), 0);
        assert_eq!(
            outcome(&[Status::Ok, Status::Skipped, Status::OverLimit]).exit_code(),
            0
        );
        for status in [Status::Crashed, Status::Failed, Status::Timeout] {
            assert_eq!(outcome(&[Status::Ok, status]).exit_code(), 1);
        }
        let mut all = outcome(&[Status::Crashed, Status::Wrong]);
        all.unusable_content = true;
        all.energy_missing = true;
        assert_eq!(all.exit_code(), 7);
        all.cells.pop();
        assert_eq!(all.exit_code(), 6);
        all.energy_missing = false;
        assert_eq!(all.exit_code(), 5);
        all.interrupted = true;
        assert_eq!(all.exit_code(), 130);
    }
}
