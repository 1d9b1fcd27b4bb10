//! Pure statistics for timing data: skewed, heavy-tailed, drifting, and never as long as one would like.
//!
//! No dependencies, no input or output, no clock, no global state: the same values and the same seed give the same
//! answer on every machine. Wherever an exact distribution is affordable it is used, and the size beyond which an
//! approximation takes over is a named constant.
//!
//! Conventions:
//! - A function gives `None` when its values are empty, hold a NaN or an infinity, or are too few for the question
//!   (five values cannot carry a 95 % interval of their median). It never gives a guess.
//! - `level` is a confidence level such as 0.95; a level outside of (0, 1) gives `None`.
//! - Logarithms are natural. A paired comparison is made on log ratios, where slower and faster are symmetric.
#![forbid(unsafe_code)]

mod bootstrap;
mod change;
mod distribution;
pub mod judge;
mod mean;
mod multiple;
mod order;
mod power;
mod proportion;
mod rank_sum;
mod rng;
mod series;
mod sign_flip;
mod signed_rank;
mod uniformity;

pub use bootstrap::{Bootstrap, Resampling};
pub use change::{ChangePoint, ChangePoints};
pub use distribution::{
    binomial_cdf, normal_cdf, normal_quantile, student_t_cdf, student_t_quantile,
};
pub use mean::{Geometric, WelchTest, geometric_mean, mean, standard_deviation, welch};
pub use multiple::holm;
pub use order::{
    Interval, ecdf, mad, median, median_interval, quantile, quantile_interval, quantile_of_sorted,
    sorted,
};
pub use power::{blocks_needed, minimal_detectable_effect};
pub use proportion::{binomial_interval, binomial_upper_bound, wilson};
pub use rank_sum::{RankSum, hodges_lehmann_shift, mann_whitney};
pub use rng::Rng;
pub use series::{
    autocorrelation, dependent_median_interval, effective_n, effective_n_of_median, merge_adjacent,
};
pub use sign_flip::sign_flip;
pub use signed_rank::{
    SIGNED_RANK_EXACT, hodges_lehmann, hodges_lehmann_interval, signed_rank, signed_rank_critical,
};
pub use uniformity::{KsTest, ks_uniform};

/// Which departure from the null hypothesis a test looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alternative {
    /// Values tend to be above zero, or the first sample above the second.
    Greater,
    /// Values tend to be below zero, or the first sample below the second.
    Less,
    /// Either.
    TwoSided,
}

impl Alternative {
    /// Combines the probability of a statistic at most and at least as large as the one observed.
    fn combine(self, at_most: f64, at_least: f64) -> f64 {
        match self {
            Self::Greater => at_least.min(1.0),
            Self::Less => at_most.min(1.0),
            Self::TwoSided => (2.0 * at_most.min(at_least)).min(1.0),
        }
    }
}
