//! Order statistics: median, quantiles, and intervals of them that hold for every continuous distribution.

use crate::distribution::binomial_cdf;

/// An interval estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
    /// The level it attains: at least what was asked for where the distribution is exact and steps are discrete.
    pub level: f64,
}

impl Interval {
    /// Whether `value` lies within, ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.lo <= value && value <= self.hi
    }
}

/// The values in ascending order; `None` when there are none or one is not finite.
pub fn sorted(values: &[f64]) -> Option<Vec<f64>> {
    if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    Some(values)
}

/// The median; the mean of the two middle values for an even number.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The median absolute deviation from the median, unscaled (1.4826 times it estimates the deviation of a normal).
pub fn mad(values: &[f64]) -> Option<f64> {
    let middle = median(values)?;
    median(
        &values
            .iter()
            .map(|v| (v - middle).abs())
            .collect::<Vec<_>>(),
    )
}

/// The `p` quantile, linear between order statistics (definition 7 of Hyndman and Fan, the default of R and `NumPy`).
pub fn quantile(values: &[f64], p: f64) -> Option<f64> {
    quantile_of_sorted(&sorted(values)?, p)
}

/// As [`quantile`], for values that are finite and already in ascending order.
pub fn quantile_of_sorted(sorted: &[f64], p: f64) -> Option<f64> {
    if sorted.is_empty() || !(0.0..=1.0).contains(&p) {
        return None;
    }
    let at = p * (sorted.len() - 1) as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let part = at - below as f64;
    Some(sorted[below] * (1.0 - part) + sorted[above] * part)
}

/// An interval of the median between two order statistics; see [`quantile_interval`].
pub fn median_interval(values: &[f64], level: f64) -> Option<Interval> {
    quantile_interval(values, 0.5, level)
}

/// An interval of the `p` quantile between two order statistics, exact for every continuous distribution.
///
/// The number of values below the quantile is binomial (n, p), so `x(l)` lies above it with probability `P(B < l)` and
/// `x(u)` below it with `P(B >= u)`: the interval takes the largest l and the smallest u that leave at most half of the error
/// on their side. `None` when even the extremes cannot carry the level: for the median at 95 % that is below six values.
pub fn quantile_interval(values: &[f64], p: f64, level: f64) -> Option<Interval> {
    let sorted = sorted(values)?;
    if !(level > 0.0 && level < 1.0 && p > 0.0 && p < 1.0) {
        return None;
    }
    let n = sorted.len() as u64;
    let side = (1.0 - level) / 2.0;
    // Rounding of the distribution function must not cost a rank where the bound is met exactly.
    let side = side * (1.0 + 1e-12);
    // Ranks from 1: largest l with P(B <= l - 1) <= side.
    let below = partition(n, |k| binomial_cdf(k, n, p) <= side);
    // Smallest u with P(B <= u - 1) >= 1 - side.
    let above = partition(n, |k| 1.0 - binomial_cdf(k, n, p) > side) + 1;
    if below == 0 || above > n {
        return None;
    }
    let level = binomial_cdf(above - 1, n, p) - binomial_cdf(below - 1, n, p);
    Some(Interval {
        lo: sorted[below as usize - 1],
        hi: sorted[above as usize - 1],
        level,
    })
}

/// How many of `0..n` satisfy a condition that holds up to some point and not beyond.
fn partition(n: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, n);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// The steps of the empirical distribution function: each different value with the share of values at most as large.
pub fn ecdf(values: &[f64]) -> Option<Vec<(f64, f64)>> {
    let sorted = sorted(values)?;
    let n = sorted.len() as f64;
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for (i, &value) in sorted.iter().enumerate() {
        let share = (i + 1) as f64 / n;
        match steps.last_mut() {
            Some(last) if last.0.total_cmp(&value).is_eq() => last.1 = share,
            _ => steps.push((value, share)),
        }
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use proptest::prelude::*;

    fn counting(n: u32) -> Vec<f64> {
        (1..=n).map(f64::from).collect()
    }

    #[test]
    fn small_cases_by_hand() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(quantile(&counting(5), 0.25), Some(2.0));
        assert_eq!(quantile(&counting(4), 0.9), Some(3.7));
        assert_eq!(quantile(&counting(4), 0.0), Some(1.0));
        assert_eq!(quantile(&counting(4), 1.0), Some(4.0));
        assert_eq!(mad(&[1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0]), Some(1.0));
        assert_eq!(
            ecdf(&[2.0, 1.0, 2.0, 4.0]),
            Some(vec![(1.0, 0.25), (2.0, 0.75), (4.0, 1.0)])
        );
    }

    #[test]
    fn nothing_from_nothing() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0, f64::NAN]), None);
        assert_eq!(quantile(&[1.0], 1.1), None);
        assert_eq!(median_interval(&counting(5), 0.95), None);
        assert_eq!(median_interval(&counting(50), 1.0), None);
        assert_eq!(ecdf(&[]), None);
    }

    /// Ranks of the 95 % interval of the median, as tabulated (for example Conover, table A3, or Hollander and Wolfe).
    #[test]
    fn median_ranks_match_the_table() {
        for (n, lo, hi) in [
            (6, 1.0, 6.0),
            (8, 1.0, 8.0),
            (9, 2.0, 8.0),
            (10, 2.0, 9.0),
            (12, 3.0, 10.0),
            (15, 4.0, 12.0),
            (20, 6.0, 15.0),
            (25, 8.0, 18.0),
            (30, 10.0, 21.0),
            (40, 14.0, 27.0),
            (50, 18.0, 33.0),
            (100, 40.0, 61.0),
        ] {
            let got = median_interval(&counting(n), 0.95).unwrap();
            assert_eq!((got.lo, got.hi), (lo, hi), "n = {n}");
            assert!(got.level >= 0.95, "n = {n}: {}", got.level);
        }
        // n = 10: 1 - 2 * 11 / 1024.
        let ten = median_interval(&counting(10), 0.95).unwrap();
        assert!((ten.level - (1.0 - 22.0 / 1024.0)).abs() < 1e-12);
    }

    #[test]
    fn upper_quantile_ranks_follow_the_binomial() {
        // Slow definition: every pair of ranks, the narrowest on each side that keeps half of the error.
        for (n, p) in [(100_u64, 0.9), (500, 0.99), (73, 0.25)] {
            let values: Vec<f64> = (1..=n).map(|v| v as f64).collect();
            let lo = (1..=n)
                .filter(|&l| binomial_cdf(l - 1, n, p) <= 0.025)
                .max();
            let hi = (1..=n)
                .filter(|&u| 1.0 - binomial_cdf(u - 1, n, p) <= 0.025)
                .min();
            let got = quantile_interval(&values, p, 0.95);
            match (lo, hi) {
                (Some(lo), Some(hi)) => {
                    let got = got.unwrap();
                    assert_eq!((got.lo, got.hi), (lo as f64, hi as f64), "n = {n}, p = {p}");
                }
                _ => assert_eq!(got, None),
            }
        }
        assert_eq!(quantile_interval(&counting(100), 0.99, 0.95), None);
    }

    #[test]
    fn coverage_holds_on_skewed_and_bimodal_data() {
        let mut rng = Rng::new(11);
        let (mut skewed, mut bimodal) = (0, 0);
        let trials = 2000;
        for _ in 0..trials {
            // Log-normal with median 1.
            let values: Vec<f64> = (0..25).map(|_| (1.5 * rng.normal()).exp()).collect();
            skewed += u32::from(median_interval(&values, 0.95).unwrap().contains(1.0));
            // Two humps, 70 % at 1 and 30 % at 2: the median of the mixture solves 0.7 Φ((m - 1) / 0.1) = 0.5.
            let values: Vec<f64> = (0..25)
                .map(|_| if rng.uniform() < 0.7 { 1.0 } else { 2.0 } + 0.1 * rng.normal())
                .collect();
            let truth = 1.0 + 0.1 * crate::normal_quantile(0.5 / 0.7);
            bimodal += u32::from(median_interval(&values, 0.95).unwrap().contains(truth));
        }
        // The exact level for n = 25 is 0.9567; three standard errors of 2000 trials are 0.0137.
        for hits in [skewed, bimodal] {
            let rate = f64::from(hits) / f64::from(trials);
            assert!((rate - 0.9567).abs() < 0.0137, "{rate}");
        }
    }

    proptest! {
        #[test]
        fn quantiles_are_monotone_and_within_range(values in prop::collection::vec(-1e9..1e9f64, 1..60), a in 0.0..=1.0f64, b in 0.0..=1.0f64) {
            let (low, high) = (a.min(b), a.max(b));
            let (x, y) = (quantile(&values, low).unwrap(), quantile(&values, high).unwrap());
            prop_assert!(x <= y + 1e-6);
            let min = values.iter().copied().fold(f64::INFINITY, f64::min);
            let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(x >= min - 1e-6 && y <= max + 1e-6);
        }

        #[test]
        fn an_interval_holds_the_median_and_ignores_order(mut values in prop::collection::vec(-1e3..1e3f64, 6..60), seed: u64) {
            let interval = median_interval(&values, 0.95).unwrap();
            prop_assert!(interval.contains(median(&values).unwrap()));
            Rng::new(seed).shuffle(&mut values);
            prop_assert_eq!(median_interval(&values, 0.95).unwrap(), interval);
        }
    }
}
