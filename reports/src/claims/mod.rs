//! Published figures against a run: what it reproduces, what it does not, and what it cannot say.

mod judge;
mod paper;

use trit_core::{Claim, Published};
use trit_stats::Interval;

pub use paper::claims_paper;

/// What a run says about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimVerdict {
    /// It reaches the figure.
    Reproduced,
    /// It falls short of it.
    NotReproduced,
    /// It cannot say, for a reason.
    NotMeasurable,
}

impl ClaimVerdict {
    /// Every verdict, in the order of the report.
    pub const ALL: [Self; 3] = [Self::Reproduced, Self::NotReproduced, Self::NotMeasurable];

    /// The words of reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reproduced => "reproduced",
            Self::NotReproduced => "not reproduced",
            Self::NotMeasurable => "not measurable",
        }
    }
}

/// What a run has of the quantity of a claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ours {
    pub(crate) value: f64,
    pub(crate) interval: Option<Interval>,
    /// What it was taken from.
    pub(crate) basis: String,
    /// Put together from parts where the claim is about a whole.
    pub(crate) projected: bool,
}

/// A claim and its verdict.
#[derive(Clone, Debug)]
pub(crate) struct Judged<'a> {
    pub(crate) claim: &'a Claim,
    /// What the run has of it, by model; the least and the most of them count for a range.
    pub(crate) ours: Vec<(&'a str, Ours)>,
    pub(crate) verdict: ClaimVerdict,
    pub(crate) reason: String,
}

impl Judged<'_> {
    /// The least and the most of ours.
    pub(crate) fn ends(&self) -> Option<(&Ours, &Ours)> {
        let by = |a: &&Ours, b: &&Ours| a.value.total_cmp(&b.value);
        let all = || self.ours.iter().map(|(_, ours)| ours);
        all().min_by(by).zip(all().max_by(by))
    }
}

/// Ends of what is published.
pub(crate) fn published(claim: &Claim) -> (f64, Option<f64>) {
    match claim.published {
        Published::Value(value) => (value, None),
        Published::Range(from, to) => (from, Some(to)),
    }
}
