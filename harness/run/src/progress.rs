//! What a run tells while it goes on. The library prints nothing: whoever calls it decides what to show.

use trit_core::{Cell, Plan};

/// Listens to a run.
pub trait Progress {
    /// The run starts; `done` cells were finished by an earlier session.
    fn begin(&mut self, _plan: &Plan, _done: usize) {}

    /// Something takes a while: `what` is a cell's id or a sentence; `fraction` of the expected time is over.
    fn working(&mut self, _what: &str, _fraction: f64) {}

    /// A cell has its final row.
    fn finished(&mut self, _cell: &Cell) {}

    /// Something the reader of the results should know.
    fn note(&mut self, _text: &str) {}
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
