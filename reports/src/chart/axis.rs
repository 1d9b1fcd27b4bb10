//! Axes: scales and round tick values.

use crate::units::three;

/// A linear or logarithmic map from values to pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    pub(crate) log: bool,
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// Pixels of `from` and `to`.
    pub(crate) pixels: (f64, f64),
}

impl Scale {
    pub(crate) fn at(&self, value: f64) -> f64 {
        let part = if self.log {
            (value / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        self.pixels.0 + (self.pixels.1 - self.pixels.0) * part.clamp(0.0, 1.0)
    }
}

/// The largest of 1, 2, 2.5 or 5 times a power of ten that gives at most `count` steps up to `span`.
fn step(span: f64, count: usize) -> f64 {
    let raw = span / count.max(1) as f64;
    let power = 10_f64.powf(raw.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= raw * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

/// Round values from 0 to at least `max`, in about `count` steps.
pub(crate) fn linear_ticks(max: f64, count: usize) -> Vec<f64> {
    if !(max.is_finite() && max > 0.0) {
        return vec![0.0, 1.0];
    }
    let step = step(max, count);
    let last = (max / step * (1.0 - 1e-9)).ceil() as usize;
    (0..=last).map(|i| i as f64 * step).collect()
}

/// Round values within `[from, to]` for a logarithmic axis: 1, 2, 5 of each decade, or powers of ten when there are many; a
/// narrow range gets linear steps.
pub(crate) fn log_ticks(from: f64, to: f64) -> Vec<f64> {
    let within = |value: &f64| (from * (1.0 - 1e-9)..=to * (1.0 + 1e-9)).contains(value);
    let decades = from.log10().floor() as i32..=to.log10().ceil() as i32;
    let factors: &[f64] = if to / from > 2000.0 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    let ticks: Vec<f64> = decades
        .flat_map(|decade| {
            factors
                .iter()
                .map(move |factor| factor * 10_f64.powi(decade))
        })
        .filter(within)
        .collect();
    if ticks.len() >= 3 {
        return ticks;
    }
    let step = step(to - from, 5);
    let first = (from / step).ceil();
    // Five steps make at most six ticks.
    (0..6)
        .map(|i| (first + f64::from(i)) * step)
        .filter(within)
        .collect()
}

/// A tick's text: as few digits as tell it from its neighbours.
pub(crate) fn tick_text(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 {
        return crate::units::show_rate(value);
    }
    let text = if size == 0.0 || size >= 100.0 {
        format!("{value:.0}")
    } else {
        three(value)
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_ticks_are_round_and_reach_the_maximum() {
        assert_eq!(linear_ticks(9.3, 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(linear_ticks(10.0, 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(linear_ticks(0.0, 5), [0.0, 1.0]);
        for max in [0.001, 0.7, 1.0, 3.3, 77.0, 123_456.0] {
            let ticks = linear_ticks(max, 6);
            assert!(
                ticks.len() <= 8 && *ticks.last().unwrap() >= max * (1.0 - 1e-9),
                "{max}: {ticks:?}"
            );
        }
    }

    #[test]
    fn log_ticks_lie_within() {
        assert_eq!(log_ticks(10.0, 100.0), [10.0, 20.0, 50.0, 100.0]);
        assert_eq!(log_ticks(1.0, 1e6).len(), 7);
        let narrow = log_ticks(103.0, 117.0);
        assert!(
            narrow.len() >= 3 && narrow.iter().all(|t| (103.0..=117.1).contains(t)),
            "{narrow:?}"
        );
    }

    #[test]
    fn tick_texts() {
        for (value, want) in [
            (0.0, "0"),
            (2.5, "2.5"),
            (20.0, "20"),
            (0.05, "0.05"),
            (1500.0, "1500"),
            (2e6, "2.00 M"),
        ] {
            assert_eq!(tick_text(value), want);
        }
    }

    #[test]
    fn scales_map_both_ways() {
        let log = Scale {
            log: true,
            from: 1.0,
            to: 100.0,
            pixels: (0.0, 200.0),
        };
        assert!((log.at(10.0) - 100.0).abs() < 1e-9);
        let down = Scale {
            log: false,
            from: 0.0,
            to: 4.0,
            pixels: (100.0, 0.0),
        };
        assert!((down.at(1.0) - 75.0).abs() < 1e-9 && down.at(9.0) == 0.0);
    }
}
