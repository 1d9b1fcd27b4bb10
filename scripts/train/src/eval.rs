//! Likelihood of held-out text.

use anyhow::{Result, ensure};

use crate::data::BOS_ID;
use crate::model::Model;
use crate::ops::{negative_log_likelihood, with_floats};

/// How well a model predicts a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likelihood {
    /// Sum over all tokens, natural logarithm.
    pub nll: f64,
    /// Tokens that were predicted: all of the text.
    pub tokens: usize,
    /// Bytes of the text.
    pub bytes: usize,
}

impl Likelihood {
    /// Mean over tokens, natural logarithm.
    pub fn loss(&self) -> f64 {
        self.nll / self.tokens as f64
    }

    /// Perplexity of a token.
    pub fn perplexity(&self) -> f64 {
        self.loss().exp()
    }

    /// Bits a byte of text.
    pub fn bits_per_byte(&self) -> f64 {
        self.nll / std::f64::consts::LN_2 / self.bytes as f64
    }
}

/// Predicts every token of a text once. Windows of the model's context advance by `stride` tokens; each begins with the token that
/// starts a text and counts its last `stride` predictions (the first window all of them).
///
/// # Errors
/// When the stride is not between 1 and the context, or the model refuses.
pub fn evaluate(model: &Model, tokens: &[u32], bytes: usize, stride: usize) -> Result<Likelihood> {
    /// Windows of one forward pass.
    const WINDOWS: usize = 16;
    let context = model.config.context;
    ensure!(
        (1..=context).contains(&stride),
        "`--stride` is {stride}, want 1 to {context}"
    );
    // Where a window's targets start, and how many of its predictions were counted before.
    let mut windows = Vec::new();
    let mut counted = 0;
    while counted < tokens.len() {
        let end = if counted == 0 {
            context.min(tokens.len())
        } else {
            (counted + stride).min(tokens.len())
        };
        let start = end.saturating_sub(context);
        windows.push((start, end, counted));
        counted = end;
    }
    let mut nll = 0.0;
    let mut at = 0;
    while at < windows.len() {
        let length = windows[at].1 - windows[at].0;
        let count = windows[at..]
            .iter()
            .take(WINDOWS)
            .take_while(|(start, end, _)| end - start == length)
            .count();
        let mut inputs = Vec::with_capacity(count * length);
        let mut targets = Vec::with_capacity(count * length);
        for (start, end, _) in &windows[at..at + count] {
            inputs.push(BOS_ID);
            inputs.extend(&tokens[*start..end - 1]);
            targets.extend(&tokens[*start..*end]);
        }
        let logits = model.logits(&inputs, length, None)?;
        let losses = with_floats(&logits, |logits| {
            Ok(negative_log_likelihood(logits, &targets))
        })?;
        for ((start, _, counted), losses) in windows[at..].iter().zip(losses.chunks_exact(length)) {
            nll += losses[counted - start..]
                .iter()
                .map(|loss| f64::from(*loss))
                .sum::<f64>();
        }
        at += count;
    }
    Ok(Likelihood {
        nll,
        tokens: tokens.len(),
        bytes,
    })
}
