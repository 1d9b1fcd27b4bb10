//! From logits to the next token.

use std::collections::BTreeSet;

use crate::error::EngineError;

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerOptions {
    /// 0 is greedy; otherwise logits are divided by it.
    pub temperature: f32,
    /// Only the best so many tokens are drawn from; 0 is all.
    pub top_k: usize,
    /// Only the best tokens whose probabilities reach this sum are drawn from; 1 is all.
    pub top_p: f32,
    /// Logits of tokens that were seen are divided by it where positive and multiplied where negative (arXiv 1909.05858,
    /// section 4.1); 1 is off.
    pub repeat_penalty: f32,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for SamplerOptions {
    /// Greedy.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            repeat_penalty: 1.0,
            seed: 0,
        }
    }
}

/// How many of the last tokens the repetition penalty looks at.
const PENALTY_WINDOW: usize = 64;

/// Chooses tokens. The same options, logits and history give the same tokens on every machine.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplerOptions,
    state: u64,
    scratch: Vec<f32>,
    order: Vec<u32>,
}

impl Sampler {
    /// A sampler.
    ///
    /// # Errors
    /// When an option is outside of its range.
    pub fn new(options: SamplerOptions) -> Result<Self, EngineError> {
        let check = |option, value: f32, ok: bool, want| {
            if ok {
                Ok(())
            } else {
                Err(EngineError::Option {
                    option,
                    value: value.to_string(),
                    want,
                })
            }
        };
        let SamplerOptions {
            temperature,
            top_p,
            repeat_penalty,
            seed,
            ..
        } = options;
        check(
            "--temperature",
            temperature,
            temperature.is_finite() && temperature >= 0.0,
            "a finite number of at least 0",
        )?;
        check(
            "--top-p",
            top_p,
            top_p > 0.0 && top_p <= 1.0,
            "a number above 0 and at most 1",
        )?;
        check(
            "--repeat-penalty",
            repeat_penalty,
            repeat_penalty.is_finite() && repeat_penalty > 0.0,
            "a finite number above 0",
        )?;
        Ok(Self {
            options,
            state: seed,
            scratch: Vec::new(),
            order: Vec::new(),
        })
    }

    /// The next token after `history`, given its logits. Of equal logits the lower token is better.
    ///
    /// # Errors
    /// When a logit is NaN, or there are none.
    pub fn sample(&mut self, logits: &[f32], history: &[u32]) -> Result<u32, EngineError> {
        let best = largest(logits).ok_or(EngineError::NanLogits)?;
        let SamplerOptions {
            temperature,
            top_k,
            top_p,
            repeat_penalty,
            ..
        } = self.options;
        let penalized = (repeat_penalty - 1.0).abs() > 0.0;
        if temperature <= 0.0 && !penalized {
            return Ok(best as u32);
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(logits);
        if penalized {
            let window = &history[history.len().saturating_sub(PENALTY_WINDOW)..];
            for token in window.iter().collect::<BTreeSet<_>>() {
                if let Some(logit) = self.scratch.get_mut(*token as usize) {
                    *logit = if *logit > 0.0 {
                        *logit / repeat_penalty
                    } else {
                        *logit * repeat_penalty
                    };
                }
            }
        }
        if temperature <= 0.0 {
            // A logit and a penalty may have overflowed, but to no NaN.
            let best = largest(&self.scratch).ok_or(EngineError::NanLogits)?;
            return Ok(best as u32);
        }

        let scratch = &mut self.scratch;
        let order = &mut self.order;
        order.clear();
        order.extend(0..scratch.len() as u32);
        let better = |a: &u32, b: &u32| {
            scratch[*b as usize]
                .total_cmp(&scratch[*a as usize])
                .then(a.cmp(b))
        };
        let keep = if top_k == 0 {
            order.len()
        } else {
            top_k.min(order.len())
        };
        if keep < order.len() {
            order.select_nth_unstable_by(keep, better);
            order.truncate(keep);
        }
        order.sort_unstable_by(better);
        // An infinite logit has all the probability, and where all are minus infinity there is none to compare.
        if scratch[order[0] as usize].is_infinite() {
            return Ok(order[0]);
        }
        // Probabilities in f64, summed from the best down: one order, so the draw is the same everywhere.
        let top = f64::from(scratch[order[0] as usize]);
        let weight = |token: &u32| {
            ((f64::from(scratch[*token as usize]) - top) / f64::from(temperature)).exp()
        };
        let total: f64 = order.iter().map(weight).sum();
        let mut kept = order.len();
        if top_p < 1.0 {
            let mut sum = 0.0;
            for (i, token) in order.iter().enumerate() {
                sum += weight(token);
                if sum >= f64::from(top_p) * total {
                    kept = i + 1;
                    break;
                }
            }
        }
        let mass: f64 = order[..kept].iter().map(weight).sum();
        let mut draw = uniform(&mut self.state) * mass;
        for token in &order[..kept] {
            draw -= weight(token);
            if draw < 0.0 {
                return Ok(*token);
            }
        }
        Ok(order[kept - 1])
    }
}

/// The place of the largest of `logits`; of equal ones the first. `None` where one is NaN, or there are none.
pub fn largest(logits: &[f32]) -> Option<usize> {
    const LANES: usize = 16;
    // A flag is as wide as a logit, so that both take the same lanes.
    let (mut max, mut unordered) = ([f32::NEG_INFINITY; LANES], [0u32; LANES]);
    let mut look = |chunk: &[f32]| {
        for ((max, unordered), logit) in max.iter_mut().zip(&mut unordered).zip(chunk) {
            *max = if *logit > *max { *logit } else { *max };
            *unordered |= u32::from(logit.is_nan());
        }
    };
    let (chunks, rest) = logits.as_chunks::<LANES>();
    for chunk in chunks {
        look(chunk);
    }
    look(rest);
    let max = max.into_iter().fold(f32::NEG_INFINITY, f32::max);
    if unordered != [0; LANES] {
        return None;
    }
    let reaches = |logit: &f32| *logit >= max;
    let has = |chunk: &[f32]| chunk.iter().fold(false, |any, logit| any | reaches(logit));
    let first = LANES * logits.chunks(LANES).position(has)?;
    let place = logits[first..].iter().position(reaches);
    place.map(|place| first + place)
}

/// A uniform number in 0..1 with 53 bits, by `SplitMix64` (Steele, Lea and Flood 2014).
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(options: SamplerOptions, logits: &[f32], n: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(options).unwrap();
        let mut counts = vec![0; logits.len()];
        for _ in 0..n {
            counts[sampler.sample(logits, &[]).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let mut sampler = Sampler::new(SamplerOptions::default()).unwrap();
        assert_eq!(sampler.sample(&[0.0, 2.0, 2.0, -1.0], &[]).unwrap(), 1);
        assert_eq!(sampler.sample(&[f32::NEG_INFINITY, -3.0], &[]).unwrap(), 1);
    }

    #[test]
    fn the_largest_has_a_place_in_any_number_of_logits() {
        for len in 1..70 {
            for at in 0..len {
                let mut logits: Vec<f32> = (0..len).map(|i| -1.0 - (i * 7 % 13) as f32).collect();
                logits[at] = -0.5;
                logits[(at + 16).min(len - 1)] = -0.5;
                assert_eq!(largest(&logits), Some(at.min(len - 1)), "{at} of {len}");
                logits[len / 2] = f32::NAN;
                assert_eq!(largest(&logits), None);
            }
        }
        assert_eq!(largest(&[]), None);
        assert_eq!(largest(&[f32::NEG_INFINITY; 20]), Some(0));
        assert_eq!(largest(&[-0.0, 0.0]), Some(0));
    }

    #[test]
    fn draws_follow_the_probabilities() {
        // exp(ln 1), exp(ln 2), exp(ln 5): one, two and five eighths.
        let logits = [1.0f32.ln(), 2.0f32.ln(), 5.0f32.ln()];
        let counts = draws(
            SamplerOptions {
                temperature: 1.0,
                ..Default::default()
            },
            &logits,
            80_000,
        );
        for (count, want) in counts.iter().zip([10_000.0, 20_000.0, 50_000.0f64]) {
            // Five standard deviations of a binomial count.
            assert!(
                (*count as f64 - want).abs() < 5.0 * want.sqrt(),
                "{counts:?}"
            );
        }
        // At half the temperature the ratios are squared: 1, 4, 25.
        let counts = draws(
            SamplerOptions {
                temperature: 0.5,
                ..Default::default()
            },
            &logits,
            30_000,
        );
        assert!(
            (counts[2] as f64 - 25_000.0).abs() < 5.0 * 160.0,
            "{counts:?}"
        );
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let logits = [4.0f32.ln(), 3.0f32.ln(), 2.0f32.ln(), 1.0f32.ln()];
        let on = SamplerOptions {
            temperature: 1.0,
            ..Default::default()
        };
        let counts = draws(
            SamplerOptions {
                top_k: 2,
                ..on.clone()
            },
            &logits,
            2_000,
        );
        assert!(
            counts[0] > 0 && counts[1] > 0 && counts[2] == 0 && counts[3] == 0,
            "{counts:?}"
        );
        // 0.4 + 0.3 reaches 0.7 with the second token; 0.71 needs the third.
        let counts = draws(
            SamplerOptions {
                top_p: 0.69,
                ..on.clone()
            },
            &logits,
            2_000,
        );
        assert!(counts[1] > 0 && counts[2] == 0, "{counts:?}");
        let counts = draws(SamplerOptions { top_p: 0.71, ..on }, &logits, 2_000);
        assert!(counts[2] > 0 && counts[3] == 0, "{counts:?}");
    }

    #[test]
    fn the_penalty_moves_both_signs_down() {
        let mut sampler = Sampler::new(SamplerOptions {
            repeat_penalty: 2.0,
            ..Default::default()
        })
        .unwrap();
        assert_eq!(sampler.sample(&[3.0, 2.0], &[0]).unwrap(), 1);
        assert_eq!(sampler.sample(&[-1.0, -1.5], &[0]).unwrap(), 1);
        // Twice in the history is still one division.
        assert_eq!(sampler.sample(&[5.0, 2.0], &[0, 0]).unwrap(), 0);
    }

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let options = |seed| SamplerOptions {
            temperature: 1.0,
            seed,
            ..Default::default()
        };
        let run = |seed| {
            let mut sampler = Sampler::new(options(seed)).unwrap();
            (0..50)
                .map(|_| sampler.sample(&[0.0; 100], &[]).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn infinite_logits_are_compared_and_not_subtracted() {
        let options = SamplerOptions {
            temperature: 1.0,
            ..Default::default()
        };
        let mut sampler = Sampler::new(options).unwrap();
        let mut draw = |logits: &[f32]| sampler.sample(logits, &[]).unwrap();
        assert_eq!(draw(&[0.0, f32::INFINITY, f32::INFINITY]), 1);
        assert_eq!(draw(&[f32::NEG_INFINITY; 3]), 0);
        assert_eq!(draw(&[f32::NEG_INFINITY, 0.0]), 1);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let bad = |options: SamplerOptions| Sampler::new(options).unwrap_err().to_string();
        assert!(
            bad(SamplerOptions {
                temperature: -1.0,
                ..Default::default()
            })
            .contains("--temperature")
        );
        assert!(
            bad(SamplerOptions {
                top_p: 0.0,
                ..Default::default()
            })
            .contains("--top-p")
        );
        assert!(
            bad(SamplerOptions {
                repeat_penalty: f32::NAN,
                ..Default::default()
            })
            .contains("--repeat")
        );
        let mut sampler = Sampler::new(SamplerOptions::default()).unwrap();
        assert!(sampler.sample(&[0.0, f32::NAN], &[]).is_err());
        assert!(sampler.sample(&[], &[]).is_err());
    }
}
