//! Where the time of prefill and decode goes, by role.

use std::path::{Path, PathBuf};

use plotters::prelude::RGBColor;

use super::canvas::{GRID, PALETTE, shade};
use super::figure::{Bar, Bars, Figure, Panel};
use super::{Heading, save_one};
use crate::ReportError;
use crate::units::{show_ns, three};

/// Name of the files of the chart.
const NAME: &str = "profile";

/// What a bar of a phase stands for: this decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// A ternary linear: which of how many.
    Linear(usize, usize),
    /// Anything else: which, from 0.
    Other(usize),
}

impl PartKind {
    fn color(self) -> RGBColor {
        match self {
            Self::Linear(position, count) => shade(position, count),
            // The palette's blue is left to the linears.
            Self::Other(position) => PALETTE[1 + position % (PALETTE.len() - 1)],
        }
    }
}

/// A part of the time of a token.
#[derive(Clone, Debug, PartialEq)]
pub struct PhasePart {
    /// Its name.
    pub name: String,
    /// What it stands for.
    pub kind: PartKind,
    /// Time of a token in which threads worked.
    pub work_ns: f64,
    /// Time of a token in which they waited for one another.
    pub wait_ns: f64,
    /// What else is known, such as a bandwidth.
    pub remark: String,
}

/// Prefill or decode.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// What was done, in words.
    pub title: String,
    /// Its parts in the order of the forward pass.
    pub parts: Vec<PhasePart>,
}

impl Phase {
    fn total_ns(&self) -> f64 {
        let all = self.parts.iter().map(|part| part.work_ns + part.wait_ns);
        all.sum()
    }
}

/// Milliseconds.
fn ms(ns: f64) -> f64 {
    ns / 1e6
}

fn panel(phase: &Phase) -> Option<Panel> {
    let total_ns = phase.total_ns();
    if total_ns <= 0.0 {
        return None;
    }
    let whole = Bar {
        segments: phase
            .parts
            .iter()
            .map(|part| (ms(part.work_ns), part.kind.color()))
            .chain([(ms(phase.parts.iter().map(|part| part.wait_ns).sum()), GRID)])
            .collect(),
        interval: None,
        mark: None,
        text: show_ns(total_ns),
    };
    let mut groups = vec![("a token".to_owned(), vec![whole])];
    groups.extend(phase.parts.iter().map(|part| {
        let part_ns = part.work_ns + part.wait_ns;
        let remark = if part.remark.is_empty() {
            String::new()
        } else {
            format!(" · {}", part.remark)
        };
        let bar = Bar {
            segments: vec![
                (ms(part.work_ns), part.kind.color()),
                (ms(part.wait_ns), GRID),
            ],
            interval: None,
            mark: None,
            text: format!(
                "{} · {} %{remark}",
                show_ns(part_ns),
                three(100.0 * part_ns / total_ns)
            ),
        };
        (part.name.clone(), vec![bar])
    }));
    Some(Panel::Bars(Bars {
        title: phase.title.clone(),
        unit: "milliseconds a token".to_owned(),
        legend: vec![("threads wait".to_owned(), GRID)],
        groups,
    }))
}

/// Draws phases as `profile.svg` and `profile.png` into a directory; gives the path of the SVG file, where there is a time to
/// draw.
///
/// # Errors
/// When the chart cannot be written.
pub fn write_phases(
    heading: &Heading,
    phases: &[Phase],
    directory: &Path,
) -> Result<Option<PathBuf>, ReportError> {
    let panels: Vec<Panel> = phases.iter().filter_map(panel).collect();
    if panels.is_empty() {
        return Ok(None);
    }
    let figure = Figure {
        title: "Where the time of a token goes".to_owned(),
        subtitle: heading.line(),
        panels,
        notes: vec![
            "Time of the calling thread, divided into the work of all threads (their mean) and what they waited for one another. One run, no interval. Bytes are what has to be read: weights, keys and values; norms and activations stay in caches.".to_owned(),
        ],
    };
    save_one(NAME, figure, directory).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, work_ns: f64, wait_ns: f64) -> PhasePart {
        PhasePart {
            name: name.into(),
            kind: PartKind::Linear(0, 1),
            work_ns,
            wait_ns,
            remark: String::new(),
        }
    }

    #[test]
    fn bars_add_up() {
        let phase = Phase {
            title: "decode".into(),
            parts: vec![part("down", 3e6, 1e6), part("head", 4e6, 0.0)],
        };
        let Some(Panel::Bars(bars)) = panel(&phase) else {
            panic!("bars are drawn");
        };
        let lengths = |group: usize| -> Vec<f64> {
            let segments = &bars.groups[group].1[0].segments;
            segments.iter().map(|(length, _)| *length).collect()
        };
        assert_eq!(lengths(0), [3.0, 4.0, 1.0]);
        assert_eq!(lengths(1), [3.0, 1.0]);
        assert!(bars.groups[1].1[0].text.contains("50"), "{bars:?}");
        let nothing = Phase {
            title: String::new(),
            parts: Vec::new(),
        };
        assert_eq!(panel(&nothing), None);
    }
}
