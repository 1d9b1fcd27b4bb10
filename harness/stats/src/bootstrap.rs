//! The bootstrap: an interval for any statistic, from resampled data. A cross-check and a tool for percentiles; where an
//! exact interval exists, use that.

use crate::Rng;
use crate::distribution::{normal_cdf, normal_quantile};
use crate::order::{Interval, quantile_of_sorted};

/// What is drawn again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resampling<'a> {
    /// Single values: they must be independent.
    Values,
    /// Runs of this many consecutive values, wrapping around at the end (circular block bootstrap): for values that repeat their
    /// neighbours. Longer than the memory of the series, much shorter than the series.
    Blocks(usize),
    /// Groups first (processes, builds), then values within each drawn group. Lengths of consecutive groups; they sum to the number of values.
    Groups(&'a [usize]),
}

/// A seeded bootstrap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    /// How many resamples; 2000 or more for a 95 % interval.
    pub resamples: usize,
    /// Confidence level.
    pub level: f64,
    /// Seed: the same seed gives the same interval.
    pub seed: u64,
}

impl Bootstrap {
    /// The percentile interval of `statistic`: simple, too short for skewed statistics of few values.
    pub fn percentile(
        &self,
        values: &[f64],
        resampling: Resampling<'_>,
        statistic: impl Fn(&[f64]) -> f64,
    ) -> Option<Interval> {
        let replicates = self.replicates(values, resampling, &statistic)?;
        let side = (1.0 - self.level) / 2.0;
        self.between(&replicates, side, 1.0 - side)
    }

    /// The bias-corrected and accelerated interval (Efron 1987): the percentile interval at levels shifted by the bias of the
    /// replicates and by the skewness that leaving out one unit (value, block or group) at a time shows.
    ///
    /// `None` also when the correction is not defined, as for a statistic that never varies or always does in one direction.
    pub fn bca(
        &self,
        values: &[f64],
        resampling: Resampling<'_>,
        statistic: impl Fn(&[f64]) -> f64,
    ) -> Option<Interval> {
        let replicates = self.replicates(values, resampling, &statistic)?;
        let observed = statistic(values);
        // Replicates equal to the observed value count one half: discrete statistics repeat it often.
        let below: f64 = replicates
            .iter()
            .map(|r| match r.total_cmp(&observed) {
                std::cmp::Ordering::Less => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Greater => 0.0,
            })
            .sum();
        let bias = normal_quantile(below / replicates.len() as f64);
        let acceleration = acceleration(values, resampling, &statistic)?;
        let shifted = |p: f64| {
            let z = bias + normal_quantile(p);
            normal_cdf(bias + z / (1.0 - acceleration * z))
        };
        let side = (1.0 - self.level) / 2.0;
        let (low, high) = (shifted(side), shifted(1.0 - side));
        self.between(&replicates, low, high)
    }

    fn between(&self, replicates: &[f64], low: f64, high: f64) -> Option<Interval> {
        Some(Interval {
            lo: quantile_of_sorted(replicates, low)?,
            hi: quantile_of_sorted(replicates, high)?,
            level: self.level,
        })
    }

    /// The statistic of every resample, ascending.
    fn replicates(
        &self,
        values: &[f64],
        resampling: Resampling<'_>,
        statistic: &impl Fn(&[f64]) -> f64,
    ) -> Option<Vec<f64>> {
        let usable = !values.is_empty()
            && values.iter().all(|v| v.is_finite())
            && self.resamples > 0
            && self.level > 0.0
            && self.level < 1.0;
        if !usable {
            return None;
        }
        let spans = spans(values.len(), resampling)?;
        let mut rng = Rng::new(self.seed);
        let mut sample = Vec::with_capacity(values.len());
        let mut replicates = Vec::with_capacity(self.resamples);
        for _ in 0..self.resamples {
            sample.clear();
            match resampling {
                Resampling::Values => {
                    sample.extend((0..values.len()).map(|_| values[rng.below(values.len())]));
                }
                Resampling::Blocks(length) => {
                    while sample.len() < values.len() {
                        let start = rng.below(values.len());
                        let take = length.min(values.len() - sample.len());
                        sample.extend((start..start + take).map(|i| values[i % values.len()]));
                    }
                }
                Resampling::Groups(_) => {
                    for _ in 0..spans.len() {
                        let (start, end) = spans[rng.below(spans.len())];
                        sample.extend((start..end).map(|_| values[start + rng.below(end - start)]));
                    }
                }
            }
            replicates.push(statistic(&sample));
        }
        if replicates.iter().any(|r| !r.is_finite()) {
            return None;
        }
        replicates.sort_unstable_by(f64::total_cmp);
        Some(replicates)
    }
}

/// The units of resampling as ranges of positions; `None` when they do not fit the values.
fn spans(n: usize, resampling: Resampling<'_>) -> Option<Vec<(usize, usize)>> {
    match resampling {
        Resampling::Values => Some((0..n).map(|i| (i, i + 1)).collect()),
        Resampling::Blocks(0) => None,
        Resampling::Blocks(length) => Some(
            (0..n)
                .step_by(length)
                .map(|i| (i, (i + length).min(n)))
                .collect(),
        ),
        Resampling::Groups(lengths) => {
            let mut start = 0_usize;
            let mut spans = Vec::with_capacity(lengths.len());
            for &length in lengths {
                let end = start.checked_add(length)?;
                spans.push((start, end));
                start = end;
            }
            (start == n && !lengths.contains(&0)).then_some(spans)
        }
    }
}

/// A sixth of the skewness of the statistic as each unit is left out in turn.
fn acceleration(
    values: &[f64],
    resampling: Resampling<'_>,
    statistic: &impl Fn(&[f64]) -> f64,
) -> Option<f64> {
    let spans = spans(values.len(), resampling)?;
    if spans.len() < 2 {
        return None;
    }
    let mut rest = Vec::with_capacity(values.len());
    let left_out: Vec<f64> = spans
        .iter()
        .map(|&(start, end)| {
            rest.clear();
            rest.extend_from_slice(&values[..start]);
            rest.extend_from_slice(&values[end..]);
            statistic(&rest)
        })
        .collect();
    let centre = left_out.iter().sum::<f64>() / left_out.len() as f64;
    let squares: f64 = left_out.iter().map(|v| (centre - v).powi(2)).sum();
    let cubes: f64 = left_out.iter().map(|v| (centre - v).powi(3)).sum();
    let acceleration = if squares == 0.0 {
        0.0
    } else {
        cubes / (6.0 * squares.powf(1.5))
    };
    acceleration.is_finite().then_some(acceleration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mean, median};

    const FEW: Bootstrap = Bootstrap {
        resamples: 400,
        level: 0.95,
        seed: 1,
    };

    fn average(values: &[f64]) -> f64 {
        mean(values).unwrap()
    }

    #[test]
    fn the_mean_of_normal_values_gets_the_textbook_width() {
        let mut rng = Rng::new(2);
        let values: Vec<f64> = (0..400).map(|_| 5.0 + rng.normal()).collect();
        let many = Bootstrap {
            resamples: 8000,
            ..FEW
        };
        for interval in [
            many.percentile(&values, Resampling::Values, average)
                .unwrap(),
            many.bca(&values, Resampling::Values, average).unwrap(),
        ] {
            let half = 0.5 * (interval.hi - interval.lo);
            assert!((half / (1.96 / 20.0) - 1.0).abs() < 0.1, "{interval:?}");
            assert!(interval.contains(average(&values)));
        }
        assert_eq!(
            many.percentile(&values, Resampling::Values, average),
            many.percentile(&values, Resampling::Values, average)
        );
    }

    #[test]
    fn efron_and_tibshirani_spatial_data() {
        // An Introduction to the Bootstrap, table 14.1 and 14.2: variance (divided by n) of 26 children's test A scores; 90 % intervals:
        // percentile (100.8, 233.9), BCa (115.8, 259.6), each from 2000 resamples.
        let a = [
            48.0, 36.0, 20.0, 29.0, 42.0, 42.0, 20.0, 42.0, 22.0, 41.0, 45.0, 14.0, 6.0, 0.0, 33.0,
            28.0, 34.0, 4.0, 32.0, 24.0, 47.0, 41.0, 24.0, 26.0, 30.0, 41.0,
        ];
        let variance = |v: &[f64]| {
            let m = average(v);
            v.iter().map(|x| (x - m).powi(2)).sum::<f64>() / v.len() as f64
        };
        assert!((variance(&a) - 171.5).abs() < 0.1);
        let book = Bootstrap {
            resamples: 20_000,
            level: 0.9,
            seed: 3,
        };
        let percentile = book.percentile(&a, Resampling::Values, variance).unwrap();
        assert!(
            (percentile.lo - 100.8).abs() < 4.0 && (percentile.hi - 233.9).abs() < 4.0,
            "{percentile:?}"
        );
        let bca = book.bca(&a, Resampling::Values, variance).unwrap();
        assert!(
            (bca.lo - 115.8).abs() < 4.0 && (bca.hi - 259.6).abs() < 6.0,
            "{bca:?}"
        );
        assert!((acceleration(&a, Resampling::Values, &variance).unwrap() - 0.061).abs() < 0.001);
    }

    fn coverage(resampling: Resampling<'_>, mut series: impl FnMut(&mut Rng) -> Vec<f64>) -> f64 {
        let mut rng = Rng::new(99);
        let hits = (0..400)
            .filter(|_| {
                FEW.percentile(&series(&mut rng), resampling, average)
                    .unwrap()
                    .contains(0.0)
            })
            .count();
        hits as f64 / 400.0
    }

    #[test]
    fn blocks_repair_what_dependence_breaks() {
        let series = |rng: &mut Rng| {
            let mut last = 0.0;
            (0..240)
                .map(|_| {
                    last = 0.6 * last + rng.normal();
                    last
                })
                .collect::<Vec<f64>>()
        };
        let single = coverage(Resampling::Values, series);
        let blocks = coverage(Resampling::Blocks(16), series);
        assert!(single < 0.75 && blocks > 0.86, "{single} {blocks}");
    }

    #[test]
    fn groups_carry_the_spread_between_processes() {
        // Twelve processes with an offset each, forty values in each.
        let series = |rng: &mut Rng| {
            let mut values = Vec::new();
            for _ in 0..12 {
                let offset = rng.normal();
                values.extend((0..40).map(|_| offset + 0.5 * rng.normal()));
            }
            values
        };
        let single = coverage(Resampling::Values, series);
        let groups = coverage(Resampling::Groups(&[40; 12]), series);
        assert!(single < 0.5 && groups > 0.88, "{single} {groups}");
    }

    #[test]
    fn units_that_do_not_fit_are_refused() {
        let values = [1.0, 2.0, 3.0, 4.0];
        let middle = |v: &[f64]| median(v).unwrap();
        assert_eq!(FEW.percentile(&values, Resampling::Blocks(0), middle), None);
        assert_eq!(
            FEW.percentile(&values, Resampling::Groups(&[2, 3]), middle),
            None
        );
        assert_eq!(
            FEW.percentile(&values, Resampling::Groups(&[usize::MAX, 5]), middle),
            None
        );
        assert_eq!(
            FEW.percentile(&values, Resampling::Groups(&[4, 0]), middle),
            None
        );
        assert_eq!(FEW.percentile(&[], Resampling::Values, middle), None);
        assert_eq!(FEW.bca(&[1.0], Resampling::Values, middle), None);
        let constant = FEW.bca(&[2.0; 8], Resampling::Values, middle).unwrap();
        assert_eq!((constant.lo, constant.hi), (2.0, 2.0));
    }
}
