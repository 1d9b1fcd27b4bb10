//! Rates: how often something happened.

use crate::distribution::{binomial_cdf, normal_quantile};
use crate::order::Interval;

fn usable(successes: u64, trials: u64, level: f64) -> bool {
    trials > 0 && successes <= trials && level > 0.0 && level < 1.0
}

/// Wilson's interval of a rate: short, close to its level on average, usable at 0 and at `trials`.
pub fn wilson(successes: u64, trials: u64, level: f64) -> Option<Interval> {
    if !usable(successes, trials, level) {
        return None;
    }
    let (n, rate) = (trials as f64, successes as f64 / trials as f64);
    let z = normal_quantile(0.5 + level / 2.0);
    let denominator = 1.0 + z * z / n;
    let centre = (rate + z * z / (2.0 * n)) / denominator;
    let half = z * (rate * (1.0 - rate) / n + z * z / (4.0 * n * n)).sqrt() / denominator;
    let lo = if successes == 0 {
        0.0
    } else {
        (centre - half).max(0.0)
    };
    let hi = if successes == trials {
        1.0
    } else {
        (centre + half).min(1.0)
    };
    Some(Interval { lo, hi, level })
}

/// The exact interval of a rate (Clopper and Pearson): never below its level.
pub fn binomial_interval(successes: u64, trials: u64, level: f64) -> Option<Interval> {
    if !usable(successes, trials, level) {
        return None;
    }
    let side = (1.0 - level) / 2.0;
    let hi = upper(successes, trials, side);
    let lo = 1.0 - upper(trials - successes, trials, side);
    Some(Interval { lo, hi, level })
}

/// The exact one-sided upper bound of a rate: without a success in n trials it is `1 - (1 - level)^(1/n)`, about 3 / n at 95 %.
pub fn binomial_upper_bound(successes: u64, trials: u64, level: f64) -> Option<f64> {
    usable(successes, trials, level).then(|| upper(successes, trials, 1.0 - level))
}

/// The rate at which at most `successes` have probability `tail`.
fn upper(successes: u64, trials: u64, tail: f64) -> f64 {
    if successes == trials {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if binomial_cdf(successes, trials, middle) > tail {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_examples() {
        // Newcombe 1998, table I: 81/263 and 0/20, Wilson and Clopper-Pearson at 95 %.
        for (s, n, wilson_lo, wilson_hi, exact_lo, exact_hi) in [
            (81, 263, 0.2553, 0.3662, 0.2527, 0.3676),
            (15, 148, 0.0624, 0.1605, 0.0578, 0.1617),
            (0, 20, 0.0, 0.1611, 0.0, 0.1684),
            (1, 29, 0.0061, 0.1718, 0.0009, 0.1776),
        ] {
            let w = wilson(s, n, 0.95).unwrap();
            let e = binomial_interval(s, n, 0.95).unwrap();
            for (got, want) in [
                (w.lo, wilson_lo),
                (w.hi, wilson_hi),
                (e.lo, exact_lo),
                (e.hi, exact_hi),
            ] {
                assert!((got - want).abs() < 5.1e-5, "{s}/{n}: {w:?} {e:?}");
            }
        }
    }

    #[test]
    fn no_failure_in_n_has_a_closed_form() {
        for n in [1, 100, 300] {
            let want = 1.0 - 0.05_f64.powf(1.0 / n as f64);
            assert!((binomial_upper_bound(0, n, 0.95).unwrap() - want).abs() < 1e-12);
        }
        assert_eq!(binomial_upper_bound(3, 3, 0.95), Some(1.0));
        assert_eq!(wilson(4, 3, 0.95), None);
        assert_eq!(wilson(0, 0, 0.95), None);
    }
}
