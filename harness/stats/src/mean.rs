//! Means: arithmetic, geometric with its interval, and Welch's comparison of two.

use crate::distribution::{student_t_cdf, student_t_quantile};
use crate::order::Interval;

fn usable(values: &[f64]) -> bool {
    !values.is_empty() && values.iter().all(|v| v.is_finite())
}

/// The arithmetic mean.
pub fn mean(values: &[f64]) -> Option<f64> {
    usable(values).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The standard deviation of a sample (denominator n - 1); `None` below two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let centre = mean(values)?;
    let squares: f64 = values.iter().map(|v| (v - centre).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// A geometric mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometric {
    /// The mean.
    pub mean: f64,
    /// Its interval (Student's t on the logarithms); `None` for a single value.
    pub interval: Option<Interval>,
}

/// The geometric mean of positive values, such as ratios over cells; `None` when one is not positive.
///
/// The interval treats the values as a sample of what could have been measured: it speaks of other cells like these, not of
/// the noise within one.
pub fn geometric_mean(values: &[f64], level: f64) -> Option<Geometric> {
    if values.iter().any(|v| *v <= 0.0) || !(level > 0.0 && level < 1.0) {
        return None;
    }
    let logs: Vec<f64> = values.iter().map(|v| v.ln()).collect();
    let centre = mean(&logs)?;
    let interval = standard_deviation(&logs).map(|deviation| {
        let n = logs.len() as f64;
        let half = student_t_quantile(0.5 + level / 2.0, n - 1.0) * deviation / n.sqrt();
        Interval {
            lo: (centre - half).exp(),
            hi: (centre + half).exp(),
            level,
        }
    });
    Some(Geometric {
        mean: centre.exp(),
        interval,
    })
}

/// The result of Welch's test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WelchTest {
    /// The statistic: positive when the first mean is the larger.
    pub t: f64,
    /// Degrees of freedom (Welch and Satterthwaite).
    pub freedom: f64,
    /// Two-sided p-value.
    pub p: f64,
}

/// Welch's t-test that two means are equal, without equal variances; `None` below two values a side or without any spread.
pub fn welch(first: &[f64], second: &[f64]) -> Option<WelchTest> {
    let (m1, m2) = (mean(first)?, mean(second)?);
    let v1 = standard_deviation(first)?.powi(2) / first.len() as f64;
    let v2 = standard_deviation(second)?.powi(2) / second.len() as f64;
    if v1 + v2 == 0.0 {
        return None;
    }
    let t = (m1 - m2) / (v1 + v2).sqrt();
    let freedom = (v1 + v2).powi(2)
        / (v1.powi(2) / (first.len() - 1) as f64 + v2.powi(2) / (second.len() - 1) as f64);
    Some(WelchTest {
        t,
        freedom,
        p: 2.0 * student_t_cdf(-t.abs(), freedom),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn means_by_hand() {
        assert_eq!(mean(&[1.0, 2.0, 6.0]), Some(3.0));
        assert_eq!(
            standard_deviation(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
                .map(|s| (s * s * 7.0).round()),
            Some(32.0)
        );
        assert_eq!(standard_deviation(&[1.0]), None);
        let got = geometric_mean(&[1.0, 4.0, 16.0], 0.95).unwrap();
        assert!((got.mean - 4.0).abs() < 1e-12);
        // Logs are -d, 0, d about ln 4 with d = ln 4: deviation d, half width 4.302653 d / sqrt 3.
        let half = 4.302_652_73 * 4.0_f64.ln() / 3.0_f64.sqrt();
        let interval = got.interval.unwrap();
        assert!(
            (interval.hi / (4.0 * half.exp()) - 1.0).abs() < 1e-6,
            "{interval:?}"
        );
        assert!((interval.lo * interval.hi - 16.0).abs() < 1e-9);
        assert_eq!(geometric_mean(&[2.0], 0.95).unwrap().interval, None);
        assert_eq!(geometric_mean(&[2.0, 0.0], 0.95), None);
        assert_eq!(geometric_mean(&[], 0.95), None);
    }

    #[test]
    fn coverage_of_the_geometric_mean() {
        let mut rng = Rng::new(21);
        let hits = (0..2000)
            .filter(|_| {
                let values: Vec<f64> = (0..8).map(|_| (0.3 + 0.2 * rng.normal()).exp()).collect();
                geometric_mean(&values, 0.95)
                    .unwrap()
                    .interval
                    .unwrap()
                    .contains(0.3_f64.exp())
            })
            .count();
        assert!((1871..=1929).contains(&hits), "{hits}");
    }

    #[test]
    fn welch_matches_a_published_example() {
        // Student's sleep data, drugs 1 and 2: t = -1.8608, 17.776 degrees, p = 0.07939.
        let one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
        let two = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
        let got = welch(&one, &two).unwrap();
        assert!(
            (got.t + 1.8608).abs() < 1e-4
                && (got.freedom - 17.776).abs() < 1e-3
                && (got.p - 0.079_39).abs() < 1e-5
        );
        assert_eq!(welch(&[1.0, 1.0], &[2.0, 2.0]), None);
    }
}
