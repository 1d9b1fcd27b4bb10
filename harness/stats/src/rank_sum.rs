//! Two unpaired samples: the Mann-Whitney test and the Hodges-Lehmann shift. For paired data use the signed-rank family:
//! an unpaired comparison of two runs mistakes drift for a difference.

use crate::Alternative;
use crate::distribution::normal_cdf;
use crate::order::sorted;
use crate::signed_rank::{double_ranks, select};

/// Up to this many values in both samples together the distribution is exact; beyond, normal.
const EXACT: usize = 60;

/// The result of a Mann-Whitney test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankSum {
    /// U of the first sample: pairs in which its value is the larger, ties counting one half.
    pub u: f64,
    /// The p-value.
    pub p: f64,
}

/// Tests that a value of `first` is as likely above as below one of `second`.
///
/// Ties share their mean rank. Up to 60 values together the distribution is that of all ways to split the ranks, exact
/// with ties too; beyond, normal with the variance corrected for ties and half a step of continuity correction.
pub fn mann_whitney(first: &[f64], second: &[f64], alternative: Alternative) -> Option<RankSum> {
    let all: Vec<f64> = first.iter().chain(second).copied().collect();
    if first.is_empty() || second.is_empty() || all.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let (n1, n2) = (first.len(), second.len());
    let (ranks, ties) = double_ranks(&all);
    let observed: usize = ranks[..n1].iter().sum();
    // Twice the rank sum less its minimum n1 (n1 + 1) / 2 is twice U.
    let u = (observed - n1 * (n1 + 1)) as f64 / 2.0;
    let (at_most, at_least) = if n1 + n2 <= EXACT {
        tails(&ranks, n1, observed)
    } else {
        let (a, b, n) = (n1 as f64, n2 as f64, (n1 + n2) as f64);
        let tied: f64 = ties.iter().map(|&t| (t as f64).powi(3) - t as f64).sum();
        let spread = (a * b / 12.0 * (n + 1.0 - tied / (n * (n - 1.0)))).sqrt();
        if spread == 0.0 {
            (1.0, 1.0)
        } else {
            let centred = u - a * b / 2.0;
            (
                normal_cdf((centred + 0.5) / spread),
                normal_cdf(-(centred - 0.5) / spread),
            )
        }
    };
    Some(RankSum {
        u,
        p: alternative.combine(at_most, at_least),
    })
}

/// Shares of the subsets of `size` ranks with a sum of at most, and of at least, `observed`.
fn tails(ranks: &[usize], size: usize, observed: usize) -> (f64, f64) {
    let total: usize = ranks.iter().sum();
    // ways[j][s]: subsets of j ranks that sum to s.
    let mut ways = vec![vec![0.0_f64; total + 1]; size + 1];
    ways[0][0] = 1.0;
    for &rank in ranks {
        for j in (1..=size).rev() {
            let (fewer, more) = ways.split_at_mut(j);
            for s in rank..=total {
                more[0][s] += fewer[j - 1][s - rank];
            }
        }
    }
    let all: f64 = ways[size].iter().sum();
    let at_most: f64 = ways[size][..=observed].iter().sum();
    let at_least: f64 = ways[size][observed..].iter().sum();
    (at_most / all, at_least / all)
}

/// The Hodges-Lehmann estimate of how far `first` lies above `second`: the median of all differences, exact, O((n + m) log).
pub fn hodges_lehmann_shift(first: &[f64], second: &[f64]) -> Option<f64> {
    let (first, second) = (sorted(first)?, sorted(second)?);
    let at_most = |t: f64| {
        // Ascending first values need ascending second values: one staircase.
        let mut start = 0;
        first
            .iter()
            .map(|x| {
                while start < second.len() && x - second[start] > t {
                    start += 1;
                }
                (second.len() - start) as u64
            })
            .sum()
    };
    let low = first[0] - second[second.len() - 1];
    let high = first[first.len() - 1] - second[0];
    let count = first.len() as u64 * second.len() as u64;
    let upper = select(low, high, count / 2 + 1, at_most);
    if count % 2 == 1 {
        return Some(upper);
    }
    Some(0.5 * (select(low, high, count / 2, at_most) + upper))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "small whole and half numbers are exact")]
mod tests {
    use super::*;
    use crate::{Rng, median};
    use proptest::prelude::*;

    #[test]
    fn complete_separation_gives_one_over_the_binomial() {
        // The smallest two-sided p is 2 / C(2n, n): .0286, .0079, .0022 for n = 4, 5, 6.
        for (n, want) in [(4_u32, 2.0 / 70.0), (5, 2.0 / 252.0), (6, 2.0 / 924.0)] {
            let low: Vec<f64> = (0..n).map(f64::from).collect();
            let high: Vec<f64> = (n..2 * n).map(f64::from).collect();
            let got = mann_whitney(&low, &high, Alternative::TwoSided).unwrap();
            assert!((got.p - want).abs() < 1e-12 && got.u == 0.0, "{got:?}");
            assert!(
                (mann_whitney(&high, &low, Alternative::Greater).unwrap().p - want / 2.0).abs()
                    < 1e-12
            );
        }
    }

    #[test]
    fn a_published_example() {
        // Hollander and Wolfe, permeability of the chorioamnion: W = 35, one-sided p = 0.1272.
        let x = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46];
        let y = [1.15, 0.88, 0.90, 0.74, 1.21];
        let got = mann_whitney(&x, &y, Alternative::Greater).unwrap();
        assert_eq!(got.u, 35.0);
        assert!((got.p - 0.1272).abs() < 5e-5, "{}", got.p);
        assert!((hodges_lehmann_shift(&x, &y).unwrap() - 0.305).abs() < 1e-9);
    }

    #[test]
    fn ties_equal_enumeration() {
        let (x, y) = ([1.0, 2.0, 2.0, 3.0], [2.0, 3.0, 3.0, 4.0, 0.0]);
        let all: Vec<f64> = x.iter().chain(&y).copied().collect();
        let (ranks, _) = double_ranks(&all);
        let observed: usize = ranks[..4].iter().sum();
        let subsets: Vec<usize> = (0..1_u32 << 9)
            .filter(|s| s.count_ones() == 4)
            .map(|s| (0..9).filter(|i| s >> i & 1 == 1).map(|i| ranks[i]).sum())
            .collect();
        let want = subsets.iter().filter(|s| **s <= observed).count() as f64 / subsets.len() as f64;
        assert!((mann_whitney(&x, &y, Alternative::Less).unwrap().p - want).abs() < 1e-12);
        assert_eq!(
            mann_whitney(&[1.0; 40], &[1.0; 40], Alternative::TwoSided)
                .unwrap()
                .p,
            1.0
        );
        assert_eq!(mann_whitney(&[], &[1.0], Alternative::Less), None);
    }

    #[test]
    fn the_normal_approximation_continues_the_exact_one() {
        let mut rng = Rng::new(4);
        let x: Vec<f64> = (0..30).map(|_| rng.normal() + 0.7).collect();
        let y: Vec<f64> = (0..30).map(|_| rng.normal()).collect();
        let exact = mann_whitney(&x, &y, Alternative::Greater).unwrap();
        let (a, n) = (30.0_f64, 60.0_f64);
        let spread = (a * a / 12.0 * (n + 1.0)).sqrt();
        let normal = normal_cdf(-(exact.u - a * a / 2.0 - 0.5) / spread);
        assert!((exact.p / normal - 1.0).abs() < 0.1, "{exact:?} {normal}");
        // One more value, tied with a middle one, crosses to the approximation and hardly moves the answer.
        let mut longer = x.clone();
        longer.push(median(&x).unwrap());
        let beyond = mann_whitney(&longer, &y, Alternative::Greater).unwrap();
        assert!(
            (beyond.p / exact.p - 1.0).abs() < 0.2,
            "{exact:?} {beyond:?}"
        );
    }

    proptest! {
        #[test]
        fn the_shift_is_the_median_of_all_differences(x in prop::collection::vec(-1e3..1e3f64, 1..20), y in prop::collection::vec(-1e3..1e3f64, 1..20)) {
            let differences: Vec<f64> = x.iter().flat_map(|a| y.iter().map(move |b| a - b)).collect();
            let want = median(&differences).unwrap();
            prop_assert!((hodges_lehmann_shift(&x, &y).unwrap() - want).abs() < 1e-9);
        }

        #[test]
        fn u_of_both_sides_adds_up(x in prop::collection::vec(-9.0..9.0f64, 1..12), y in prop::collection::vec(-9.0..9.0f64, 1..12)) {
            let a = mann_whitney(&x, &y, Alternative::TwoSided).unwrap();
            let b = mann_whitney(&y, &x, Alternative::TwoSided).unwrap();
            prop_assert_eq!(a.u + b.u, (x.len() * y.len()) as f64);
            prop_assert!((a.p - b.p).abs() < 1e-9);
        }
    }
}
