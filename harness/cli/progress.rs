//! How far a run is, on stderr: a bar on a terminal, a line now and then elsewhere. A few lines of our own: the work is done by other
//! processes, so there is nothing to draw at the same time, and nothing may draw while a sample is taken.

use std::io::{self, Write};

use trit_core::{Cell, NOT_MEASURED, Plan};
use trit_run::Progress;

use crate::out::{say, stderr_is_terminal};

/// Width of the bar itself.
const WIDTH: usize = 24;

/// Listens to a run and tells how far it is.
pub(crate) struct Bar {
    terminal: bool,
    cells: usize,
    done: usize,
    drawn: bool,
    /// Tenths of the expected time that were told.
    tenths: usize,
}

impl Bar {
    /// Nothing is drawn yet.
    pub(crate) fn new() -> Self {
        Self {
            terminal: stderr_is_terminal(),
            cells: 0,
            done: 0,
            drawn: false,
            tenths: 0,
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&mut self) {
        if self.drawn {
            let _ = write!(io::stderr(), "\r\x1b[K");
            self.drawn = false;
        }
    }
}

/// The line of a terminal: never longer than the usual 80 columns, so that it stays one line.
fn line(fraction: f64, done: usize, cells: usize, what: &str) -> String {
    let fraction = fraction.clamp(0.0, 1.0);
    let full = (fraction * WIDTH as f64) as usize;
    let start = format!(
        "[{}{}] {:3.0} %  {done}/{cells}  ",
        "#".repeat(full),
        ".".repeat(WIDTH - full),
        100.0 * fraction
    );
    let room = 79usize.saturating_sub(start.len());
    start + &what.chars().take(room).collect::<String>()
}

impl Progress for Bar {
    fn begin(&mut self, plan: &Plan, done: usize) {
        self.cells = plan.cells.len();
        let hopeless = plan
            .cells
            .iter()
            .filter(|planned| planned.cell.reason != NOT_MEASURED);
        // Of a new run only cells that cannot run are done, and those are told one by one.
        if done > hopeless.count() {
            self.done = done;
            say(&format!("{done} of {} cells are done already", self.cells));
        }
    }

    fn working(&mut self, what: &str, fraction: f64) {
        if self.terminal {
            let _ = write!(
                io::stderr(),
                "\r\x1b[K{}",
                line(fraction, self.done, self.cells, what)
            );
            self.drawn = true;
            return;
        }
        let tenths = (10.0 * fraction.clamp(0.0, 1.0)) as usize;
        if tenths > self.tenths {
            self.tenths = tenths;
            say(&format!("{} % of the expected time: {what}", 10 * tenths));
        }
    }

    fn finished(&mut self, cell: &Cell) {
        self.done += 1;
        if !self.terminal {
            say(&format!(
                "{}/{} {}: {}",
                self.done, self.cells, cell.cell, cell.status
            ));
        }
    }

    fn note(&mut self, text: &str) {
        self.clear();
        say(&format!("note: {text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_stays_on_one_line() {
        assert_eq!(
            line(0.5, 3, 9, "cell"),
            "[############............]  50 %  3/9  cell"
        );
        assert_eq!(line(7.0, 9, 9, &"x".repeat(200)).len(), 79);
        assert!(line(f64::NAN, 0, 0, "").starts_with("[...."));
    }
}
