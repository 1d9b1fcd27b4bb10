//! Text from a model, token by token.

use anyhow::Result;
use tokenizers::Tokenizer;

use crate::data::{BOS_ID, encode};
use crate::model::Model;
use crate::rng::Rng;

/// How tokens are chosen.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// 0 takes the most likely one.
    pub temperature: f32,
    /// Number of tokens that are considered.
    pub top_k: usize,
    /// Seed of the choices.
    pub seed: u64,
}

/// Continues a text by `count` tokens; where the context is full the oldest are forgotten.
///
/// # Errors
/// When the tokenizer or the model refuses.
pub fn continue_text(
    model: &Model,
    tokenizer: &Tokenizer,
    prompt: &str,
    count: usize,
    choice: Choice,
) -> Result<String> {
    let mut rng = Rng::new(choice.seed);
    let mut tokens = encode(tokenizer, prompt)?;
    for _ in 0..count {
        let seen = tokens.len().min(model.config.context - 1);
        let mut window = vec![BOS_ID];
        window.extend(&tokens[tokens.len() - seen..]);
        let logits = model.logits(&window, window.len(), None)?;
        let last = logits.get(window.len() - 1)?.to_vec1::<f32>()?;
        tokens.push(choose(&last, choice, &mut rng));
    }
    tokenizer
        .decode(&tokens, true)
        .map_err(|error| anyhow::anyhow!("tokenizer: {error}"))
}

fn choose(logits: &[f32], choice: Choice, rng: &mut Rng) -> u32 {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
    if choice.temperature <= 0.0 {
        return order[0];
    }
    order.truncate(choice.top_k.max(1));
    let max = logits[order[0] as usize];
    let weights: Vec<f64> = order
        .iter()
        .map(|id| f64::from((logits[*id as usize] - max) / choice.temperature).exp())
        .collect();
    let mut at = rng.uniform() * weights.iter().sum::<f64>();
    for (id, weight) in order.iter().zip(weights) {
        at -= weight;
        if at < 0.0 {
            return *id;
        }
    }
    order[0]
}
