//! From a prompt to text, with the times of every token.

use trit_measure::Clock;

use crate::error::EngineError;
use crate::sampler::Sampler;
use crate::session::Session;

/// What happened to one generated token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The token.
    pub token: u32,
    /// Time since the previous token; of the first, since [`generate`] was called.
    pub time_ns: u64,
}

/// How a generation went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The tokens, a stop token (which ends the generation) among them.
    pub tokens: Vec<Generated>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// From the call to the logits of the last prompt token.
    pub prefill_ns: u64,
    /// From the call to the first token.
    pub ttft_ns: u64,
    /// Whether a stop token ended it.
    pub stopped: bool,
}

impl Generation {
    /// Prompt tokens a second.
    pub fn prefill_tokens_per_s(&self) -> Option<f64> {
        rate(self.prompt_tokens, self.prefill_ns)
    }

    /// Generated tokens a second after the first, which belongs to the prompt's time.
    pub fn decode_tokens_per_s(&self) -> Option<f64> {
        let after = self.tokens.get(1..)?;
        rate(after.len(), after.iter().map(|token| token.time_ns).sum())
    }
}

fn rate(tokens: usize, time_ns: u64) -> Option<f64> {
    (tokens > 0 && time_ns > 0).then(|| tokens as f64 * 1e9 / time_ns as f64)
}

/// Appends `prompt` to the session and generates up to `max_tokens` tokens, each handed to `each` as soon as it is known;
/// ends early at a token of `stop`, or when `each` returns false. `each` is outside of the times.
///
/// # Errors
/// When the prompt is empty or does not fit, `max_tokens` is 0, or the logits are not numbers. What was generated before went to `each`.
pub fn generate(
    session: &mut Session<'_>,
    sampler: &mut Sampler,
    prompt: &[u32],
    max_tokens: usize,
    stop: &[u32],
    clock: &dyn Clock,
    mut each: impl FnMut(Generated) -> bool,
) -> Result<Generation, EngineError> {
    if max_tokens == 0 {
        return Err(EngineError::Option {
            option: "--max-tokens",
            value: max_tokens.to_string(),
            want: "a number above 0",
        });
    }
    let start = clock.now_ns();
    let mut history = prompt.to_vec();
    let mut logits = session.prefill(prompt)?;
    let prefill_ns = clock.now_ns() - start;
    let mut result = Generation {
        tokens: Vec::with_capacity(max_tokens.min(1 << 20)),
        prompt_tokens: prompt.len(),
        prefill_ns,
        ttft_ns: 0,
        stopped: false,
    };
    let mut before = start;
    while result.tokens.len() < max_tokens {
        let token = sampler.sample(logits, &history)?;
        let generated = Generated {
            token,
            time_ns: clock.now_ns() - before,
        };
        if result.tokens.is_empty() {
            result.ttft_ns = generated.time_ns;
        }
        result.tokens.push(generated);
        history.push(token);
        result.stopped = stop.contains(&token);
        if result.stopped || !each(generated) || result.tokens.len() == max_tokens {
            break;
        }
        before = clock.now_ns();
        logits = session.decode(token)?;
    }
    Ok(result)
}
