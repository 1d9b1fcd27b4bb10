//! Change points of a series by E-Divisive (Matteson and James 2014): energy distances between neighbouring stretches,
//! tested by permutation.

use crate::Rng;

/// A place where the distribution of a series changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChangePoint {
    /// Position of the first value after the change.
    pub index: usize,
    /// The energy statistic Q at that place.
    pub q: f64,
    /// The p-value by permutation within the stretch that it divides.
    pub p: f64,
}

/// A search for change points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChangePoints {
    /// Changes with a p-value above are not reported and not divided further.
    pub alpha: f64,
    /// Permutations of each test; the smallest p-value is `1 / (permutations + 1)`.
    pub permutations: u32,
    /// The shortest stretch between changes, at least 2.
    pub shortest: usize,
    /// Seed of the permutations.
    pub seed: u64,
}

impl Default for ChangePoints {
    fn default() -> Self {
        Self {
            alpha: 0.01,
            permutations: 499,
            shortest: 4,
            seed: 0,
        }
    }
}

impl ChangePoints {
    /// The change points of a series in time order; `None` when a value is not finite. Memory O(n), time O(n²) a permutation.
    ///
    /// The series is divided at its most prominent change, then each part again, until no change is significant.
    /// A single outlier is no change: both sides must be `shortest` long.
    pub fn find(&self, values: &[f64]) -> Option<Vec<ChangePoint>> {
        if values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let shortest = self.shortest.max(2);
        let mut rng = Rng::new(self.seed);
        let mut found = Vec::new();
        let mut open = vec![(0, values.len())];
        while let Some((start, end)) = open.pop() {
            let stretch = &values[start..end];
            let Some((at, q)) = best_split(stretch, shortest) else {
                continue;
            };
            let p = self.p_value(stretch, q, shortest, &mut rng);
            if p <= self.alpha {
                found.push(ChangePoint {
                    index: start + at,
                    q,
                    p,
                });
                open.push((start + at, end));
                open.push((start, start + at));
            }
        }
        found.sort_unstable_by_key(|change| change.index);
        Some(found)
    }

    fn p_value(&self, stretch: &[f64], observed: f64, shortest: usize, rng: &mut Rng) -> f64 {
        let mut shuffled = stretch.to_vec();
        let total = f64::from(self.permutations) + 1.0;
        let mut reached = 0.0;
        for _ in 0..self.permutations {
            rng.shuffle(&mut shuffled);
            if best_split(&shuffled, shortest).is_some_and(|(_, q)| q >= observed) {
                reached += 1.0;
            }
            // More permutations cannot make this significant any more.
            if (reached + 1.0) / total > self.alpha {
                return (reached + 1.0) / total;
            }
        }
        (reached + 1.0) / total
    }
}

/// The split `t` and end `k` with the largest `Q(X[0..t], X[t..k])`; gives `t` and Q. `None` when too short.
///
/// `Q = t (k - t) / k * E`, `E = 2 mean|X - Y| - mean|X - X'| - mean|Y - Y'|`. Ends other than that of the stretch matter when it holds
/// more than one change. For each new end the sums of distances to it extend all three means in O(n).
fn best_split(values: &[f64], shortest: usize) -> Option<(usize, f64)> {
    let n = values.len();
    if n < 2 * shortest {
        return None;
    }
    // Sums of |x - y| within values[..t], between values[..t] and values[t..k], and within values[t..k].
    let mut left = vec![0.0; n + 1];
    let mut between = vec![0.0; n + 1];
    let mut right = vec![0.0; n + 1];
    let mut best: Option<(usize, f64)> = None;
    for k in 1..=n {
        let new = values[k - 1];
        let mut to_left = 0.0;
        let all: f64 = values[..k - 1].iter().map(|v| (v - new).abs()).sum();
        left[k] = left[k - 1] + all;
        for t in 1..k {
            to_left += (values[t - 1] - new).abs();
            between[t] += to_left;
            right[t] += all - to_left;
            if t >= shortest && k - t >= shortest {
                let (a, b) = (t as f64, (k - t) as f64);
                let energy = 2.0 * between[t] / (a * b)
                    - left[t] / (0.5 * a * (a - 1.0))
                    - right[t] / (0.5 * b * (b - 1.0));
                let q = a * b / (a + b) * energy;
                if best.is_none_or(|(_, largest)| q > largest) {
                    best = Some((t, q));
                }
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow_best(values: &[f64], shortest: usize) -> (usize, f64) {
        let within = |v: &[f64]| {
            let mut sum = 0.0;
            for i in 0..v.len() {
                for j in i + 1..v.len() {
                    sum += (v[i] - v[j]).abs();
                }
            }
            sum / (0.5 * v.len() as f64 * (v.len() as f64 - 1.0))
        };
        let mut best = (0, f64::NEG_INFINITY);
        for k in 2 * shortest..=values.len() {
            for t in shortest..=k - shortest {
                let (x, y) = (&values[..t], &values[t..k]);
                let across: f64 = x
                    .iter()
                    .flat_map(|a| y.iter().map(move |b| (a - b).abs()))
                    .sum();
                let (a, b) = (t as f64, (k - t) as f64);
                let q = a * b / (a + b) * (2.0 * across / (a * b) - within(x) - within(y));
                if q > best.1 {
                    best = (t, q);
                }
            }
        }
        best
    }

    #[test]
    fn running_sums_equal_the_definition() {
        let mut rng = Rng::new(17);
        for n in [8, 13, 30] {
            let values: Vec<f64> = (0..n)
                .map(|i| rng.normal() + if i > n / 2 { 1.0 } else { 0.0 })
                .collect();
            let (t, q) = best_split(&values, 3).unwrap();
            let (slow_t, slow_q) = slow_best(&values, 3);
            assert!(
                t == slow_t && (q - slow_q).abs() < 1e-9,
                "{n}: {t} {slow_t} {q} {slow_q}"
            );
        }
        assert_eq!(best_split(&[1.0; 5], 3), None);
    }

    #[test]
    fn steps_are_found_where_they_are() {
        let mut rng = Rng::new(40);
        let values: Vec<f64> = (0..120)
            .map(|i| {
                let level = match i {
                    0..40 => 1.0,
                    40..75 => 1.05,
                    _ => 0.98,
                };
                level * (1.0 + 0.01 * rng.normal())
            })
            .collect();
        let found = ChangePoints::default().find(&values).unwrap();
        let places: Vec<usize> = found.iter().map(|c| c.index).collect();
        assert_eq!(places.len(), 2, "{found:?}");
        assert!(
            places[0].abs_diff(40) <= 1 && places[1].abs_diff(75) <= 1,
            "{places:?}"
        );
        assert!(found.iter().all(|c| c.p <= 0.01));
        assert_eq!(ChangePoints::default().find(&values), Some(found));
    }

    #[test]
    fn noise_and_a_single_outlier_are_no_change() {
        let mut rng = Rng::new(41);
        let search = ChangePoints {
            alpha: 0.05,
            permutations: 99,
            ..ChangePoints::default()
        };
        let mut alarms = 0;
        for _ in 0..200 {
            let mut values: Vec<f64> = (0..30).map(|_| rng.normal()).collect();
            values[15] += 20.0;
            alarms += usize::from(!search.find(&values).unwrap().is_empty());
        }
        // 5 % of 200, three standard errors above are 19.
        assert!(alarms <= 19, "{alarms}");
        assert_eq!(search.find(&[]), Some(vec![]));
        assert_eq!(search.find(&[f64::NAN; 30]), None);
        assert_eq!(search.find(&[2.0; 30]), Some(vec![]));
    }
}
