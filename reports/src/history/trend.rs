//! The trend of a cell on a machine, and where it changed.

use trit_stats::{ChangePoints, median};

use super::{Point, Series};

/// A place from which on a cell is slower or faster than before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The first point after it.
    pub index: usize,
    /// The median before it, back to the change before.
    pub before: f64,
    /// The median from it on, up to the next change.
    pub after: f64,
    /// The p-value by permutation.
    pub p: f64,
}

impl Change {
    /// How much larger the quantity became, in percent.
    pub fn percent(&self) -> f64 {
        100.0 * (self.after / self.before - 1.0)
    }
}

/// The trend of a cell on a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Trend {
    /// Where it was measured, and what.
    pub series: Series,
    /// Earlier points that were left out.
    pub left_out: usize,
    /// Its changes in the order of time.
    pub changes: Vec<Change>,
}

impl Trend {
    /// The changes among the last `last` points of a series, searched for on logarithms: a step of 5 % is the same step for a
    /// fast and for a slow cell.
    pub fn new(mut series: Series, last: usize, search: &ChangePoints) -> Self {
        let left_out = series.points.len().saturating_sub(last);
        series.points.drain(..left_out);
        let values: Vec<f64> = series.points.iter().map(|point| point.value).collect();
        let logs: Vec<f64> = values.iter().map(|value| value.ln()).collect();
        // The store gives positive finite numbers alone, whose logarithms are finite.
        let found = search.find(&logs).unwrap_or_default();
        let mut ends: Vec<usize> = found.iter().map(|change| change.index).collect();
        ends.push(values.len());
        let mut changes = Vec::new();
        let mut start = 0;
        for (i, change) in found.iter().enumerate() {
            let before = median(&values[start..change.index]);
            let after = median(&values[change.index..ends[i + 1]]);
            changes.extend(before.zip(after).map(|(before, after)| Change {
                index: change.index,
                before,
                after,
                p: change.p,
            }));
            start = change.index;
        }
        Self {
            series,
            left_out,
            changes,
        }
    }

    /// Each point with the median of its stretch, and the change that it begins.
    pub fn points(&self) -> Vec<(&Point, f64, Option<&Change>)> {
        let mut bounds: Vec<usize> = vec![0];
        bounds.extend(self.changes.iter().map(|change| change.index));
        bounds.push(self.series.points.len());
        let mut all = Vec::new();
        for stretch in bounds.windows(2) {
            let points = &self.series.points[stretch[0]..stretch[1]];
            let values: Vec<f64> = points.iter().map(|point| point.value).collect();
            let level = median(&values).unwrap_or(f64::NAN);
            for (i, point) in points.iter().enumerate() {
                let change = self
                    .changes
                    .iter()
                    .find(|change| i == 0 && change.index == stretch[0]);
                all.push((point, level, change));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn stepped(n: usize) -> Series {
        let mut rng = trit_stats::Rng::new(8);
        Series {
            machine: "m".into(),
            description: "a machine".into(),
            cell: "a".into(),
            measure: "median_ns".into(),
            points: (0..n)
                .map(|i| Point {
                    session: i as i64,
                    started_utc: format!("2026-01-{:02}T00:00:00Z", i % 28 + 1),
                    version: "0.1.0".into(),
                    revision: None,
                    value: (if i < n / 2 { 100.0 } else { 110.0 }) * (1.0 + 0.01 * rng.normal()),
                    interval: None,
                })
                .collect(),
        }
    }

    #[test]
    fn a_step_is_found_with_its_size() {
        let trend = Trend::new(stepped(60), 500, &ChangePoints::default());
        assert_eq!(trend.changes.len(), 1, "{:?}", trend.changes);
        let change = trend.changes[0];
        assert!(change.index.abs_diff(30) <= 1 && change.p <= 0.01);
        assert!((change.percent() - 10.0).abs() < 1.5, "{change:?}");
        let points = trend.points();
        assert_eq!(points.len(), 60);
        assert_eq!(points.iter().filter(|point| point.2.is_some()).count(), 1);
        assert_eq!(points[change.index].2, Some(&change));
        assert_eq!(points[0].1.to_bits(), change.before.to_bits());
        assert_eq!(points[59].1.to_bits(), change.after.to_bits());
    }

    #[test]
    fn the_last_points_alone() {
        let trend = Trend::new(stepped(60), 20, &ChangePoints::default());
        assert_eq!((trend.left_out, trend.series.points.len()), (40, 20));
        assert_eq!(trend.changes, []);
        let none = Trend::new(stepped(0), 20, &ChangePoints::default());
        assert_eq!(none.points(), []);
    }
}
