//! An interpolated Kneser-Ney trigram: what counting alone predicts.
//!
//! Kneser and Ney 1995, in the interpolated form of Chen and Goodman 1998 (section 3): each order takes one discount
//! `D = n1 / (n1 + 2 n2)` from its counts, where `n1` and `n2` are how many n-grams were counted once and twice; the lower orders
//! count in how many contexts a token was seen instead of how often. The unigram is interpolated with a uniform distribution.

use std::collections::{BTreeMap, BTreeSet};

use crate::data::BOS_ID;
use crate::eval::Likelihood;

/// Counts after one context.
#[derive(Clone, Debug, Default)]
struct After {
    counts: BTreeMap<u32, u32>,
    total: u32,
}

impl After {
    fn add(&mut self, token: u32) {
        *self.counts.entry(token).or_default() += 1;
        self.total += 1;
    }
}

/// One order of the model.
#[derive(Clone, Debug)]
struct Order<C> {
    after: BTreeMap<C, After>,
    discount: f64,
}

impl<C: Ord> Order<C> {
    fn new(grams: impl Iterator<Item = (C, u32)>) -> Self {
        let mut after: BTreeMap<C, After> = BTreeMap::new();
        for (context, token) in grams {
            after.entry(context).or_default().add(token);
        }
        let (mut once, mut twice) = (0u32, 0u32);
        for count in after.values().flat_map(|after| after.counts.values()) {
            once += u32::from(*count == 1);
            twice += u32::from(*count == 2);
        }
        let discount = if once + twice == 0 {
            0.5
        } else {
            f64::from(once) / f64::from(once + 2 * twice)
        };
        Self { after, discount }
    }

    /// Probability of `token`, where `lower` is what the next lower order gives it.
    fn probability(&self, context: &C, token: u32, lower: f64) -> f64 {
        let Some(after) = self.after.get(context) else {
            return lower;
        };
        let count = f64::from(after.counts.get(&token).copied().unwrap_or(0));
        let total = f64::from(after.total);
        let taken = self.discount * after.counts.len() as f64;
        ((count - self.discount).max(0.0) + taken * lower) / total
    }
}

/// The model.
#[derive(Clone, Debug)]
pub struct Trigram {
    vocab: usize,
    three: Order<(u32, u32)>,
    two: Order<u32>,
    one: Order<()>,
}

impl Trigram {
    /// Counts a text.
    pub fn new(tokens: &[u32], vocab: usize) -> Self {
        let mut padded = vec![BOS_ID; 2];
        padded.extend(tokens);
        let grams = || padded.windows(3).map(|g| (g[0], g[1], g[2]));
        let distinct: BTreeSet<_> = grams().collect();
        let pairs: BTreeSet<_> = distinct.iter().map(|(_, b, c)| (*b, *c)).collect();
        Self {
            vocab,
            three: Order::new(grams().map(|(a, b, c)| ((a, b), c))),
            two: Order::new(distinct.iter().map(|(_, b, c)| (*b, *c))),
            one: Order::new(pairs.iter().map(|(_, c)| ((), *c))),
        }
    }

    /// Probability of `token` after two others.
    pub fn probability(&self, (a, b): (u32, u32), token: u32) -> f64 {
        let uniform = 1.0 / self.vocab as f64;
        let one = self.one.probability(&(), token, uniform);
        let two = self.two.probability(&b, token, one);
        self.three.probability(&(a, b), token, two)
    }

    /// How well it predicts a text.
    pub fn evaluate(&self, tokens: &[u32], bytes: usize) -> Likelihood {
        let mut padded = vec![BOS_ID; 2];
        padded.extend(tokens);
        let nll = padded
            .windows(3)
            .map(|g| -self.probability((g[0], g[1]), g[2]).ln())
            .sum();
        Likelihood {
            nll,
            tokens: tokens.len(),
            bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn text() -> Vec<u32> {
        let mut rng = Rng::new(3);
        let mut last = 1;
        (0..4000)
            .map(|_| {
                last = 1 + (last * 3 + rng.below(4) as u32) % 19;
                last
            })
            .collect()
    }

    #[test]
    fn probabilities_sum_to_one_after_any_context() {
        let model = Trigram::new(&text(), 20);
        for context in [(1, 2), (5, 17), (0, 0), (19, 19), (3, 0)] {
            let total: f64 = (0..20).map(|t| model.probability(context, t)).sum();
            assert!((total - 1.0).abs() < 1e-12, "{context:?}: {total}");
        }
    }

    #[test]
    fn a_text_worked_by_hand() {
        // 1 2 1 2 1 3: trigrams, with two starts in front: 001 012 121 212 121 213.
        let model = Trigram::new(&[1, 2, 1, 2, 1, 3], 4);
        // Once: 001 012 212 213; twice: 121. D3 = 4/6.
        assert!((model.three.discount - 4.0 / 6.0).abs() < 1e-12);
        // Distinct trigrams give pairs 01 12 21 12 13: 12 twice, the others once. D2 = 3/5.
        assert!((model.two.discount - 3.0 / 5.0).abs() < 1e-12);
        // Distinct pairs 01 12 13 21: token 1 twice, 2 and 3 once. D1 = 2/4.
        assert!((model.one.discount - 0.5).abs() < 1e-12);
        let uniform = 0.25;
        let one = (1.0 - 0.5 + 1.5 * uniform) / 4.0;
        let two = (1.0 - 0.6 + 0.6 * 2.0 * one) / 3.0;
        let d = 4.0 / 6.0;
        let three = f64::midpoint(1.0 - d, d * 2.0 * two);
        assert!((model.probability((2, 1), 3) - three).abs() < 1e-12);
    }

    #[test]
    fn structure_is_found() {
        let text = text();
        let (train, rest) = text.split_at(3000);
        let loss = Trigram::new(train, 20).evaluate(rest, rest.len()).loss();
        // Four equally likely successors: ln 4 = 1.386.
        assert!((1.38..1.45).contains(&loss), "{loss}");
    }
}
