//! `AdamW`, and the two-stage schedule of BitNet b1.58.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::ops::with_floats;

/// Learning rate and weight decay over the steps.
///
/// The published recipe (the training tips of BitNet b1.58): the rate rises, then falls on a straight line; at half of the steps it
/// drops to two thirds of that line, and weight decay, 0.1 until then, stops. The second half lets latent weights settle on one
/// side of their rounding thresholds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Steps of the whole training.
    pub steps: usize,
    /// Steps of the rise.
    pub warmup: usize,
    /// Highest rate of the first stage.
    pub rate: f64,
    /// Rate of the second stage, as a share of the first one's line.
    pub second: f64,
    /// Weight decay of the first stage.
    pub decay: f64,
}

impl Schedule {
    /// Learning rate and weight decay of a step, counted from 0.
    pub fn at(&self, step: usize) -> (f64, f64) {
        let rise = ((step + 1) as f64 / self.warmup.max(1) as f64).min(1.0);
        let line = 1.0 - step as f64 / self.steps as f64;
        if 2 * step < self.steps {
            (self.rate * rise * line, self.decay)
        } else {
            (self.rate * rise * line * self.second, 0.0)
        }
    }
}

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.95;
const EPSILON: f32 = 1e-8;
/// Gradients whose norm over all parameters is larger are scaled down to it.
const MAX_NORM: f32 = 1.0;

/// First and second moments of one parameter's gradients.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Running mean.
    pub first: Vec<f32>,
    /// Running mean of squares.
    pub second: Vec<f32>,
}

/// `AdamW` with decoupled weight decay on matrices.
#[derive(Default)]
pub struct AdamW {
    /// Moments by the name of the parameter.
    pub moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// Moves `params` against their gradients; `step` counts from 0.
    ///
    /// # Errors
    /// When a tensor cannot be read or set.
    pub fn step(
        &mut self,
        params: &BTreeMap<String, Var>,
        grads: &GradStore,
        step: usize,
        (rate, decay): (f64, f64),
    ) -> Result<()> {
        let mut square = 0.0f64;
        for var in params.values() {
            if let Some(grad) = grads.get(var) {
                square += with_floats(grad, |g| {
                    Ok(g.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>())
                })?;
            }
        }
        let clip = (MAX_NORM / (square.sqrt() as f32).max(MAX_NORM)).min(1.0);
        let power = i32::try_from(step + 1).unwrap_or(i32::MAX);
        let correct1 = 1.0 / (1.0 - BETA1.powi(power));
        let correct2 = 1.0 / (1.0 - BETA2.powi(power));
        for (name, var) in params {
            let Some(grad) = grads.get(var) else { continue };
            let keep = if var.dims().len() > 1 {
                (1.0 - rate * decay) as f32
            } else {
                1.0
            };
            let count = var.elem_count();
            let moments = self.moments.entry(name.clone()).or_insert_with(|| Moments {
                first: vec![0.0; count],
                second: vec![0.0; count],
            });
            let updated = with_floats(var, |w| {
                with_floats(grad, |g| {
                    let mut out = w.to_vec();
                    out.par_iter_mut()
                        .zip(&mut moments.first)
                        .zip(&mut moments.second)
                        .zip(g)
                        .with_min_len(1 << 16)
                        .for_each(|(((w, first), second), g)| {
                            let g = g * clip;
                            *first = BETA1 * *first + (1.0 - BETA1) * g;
                            *second = BETA2 * *second + (1.0 - BETA2) * g * g;
                            let change =
                                *first * correct1 / ((*second * correct2).sqrt() + EPSILON);
                            *w = keep * *w - rate as f32 * change;
                        });
                    Ok(out)
                })
            })?;
            var.set(&Tensor::from_vec(updated, var.shape(), var.device())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_rises_falls_and_drops_once() {
        let schedule = Schedule {
            steps: 1000,
            warmup: 100,
            rate: 2e-3,
            second: 2.0 / 3.0,
            decay: 0.1,
        };
        assert!((schedule.at(0).0 - 2e-5).abs() < 1e-12);
        assert!((schedule.at(99).0 - 2e-3 * 0.901).abs() < 1e-12);
        let (before, after) = (schedule.at(499), schedule.at(500));
        assert!((after.0 / before.0 - 2.0 / 3.0).abs() < 0.002);
        assert_eq!((before.1, after.1), (0.1, 0.0));
        assert!(schedule.at(999).0 < 2e-6);
    }
}
