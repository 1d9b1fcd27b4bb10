//! How fast the configurations decode, in turns, so that quality stands beside speed in one file.

use trit_core::EvalRow;
use trit_engine::EngineError;
use trit_measure::{Clock, MonotonicClock};
use trit_stats::{median, median_interval};

use super::{EvalError, Facts, LEVEL, Subject, with_value};

/// Slices of each configuration, in turns.
const ROUNDS: usize = 15;
/// Tokens of a slice.
const TOKENS: usize = 32;

/// Decodes slices of 32 tokens from the middle of the window on, the subjects in turns: rows of tokens a second, the median of the slices.
/// A first look at what quality costs; `tritbench run` is what measures speed.
///
/// # Errors
/// When a model refuses.
pub fn speed_rows(subjects: &[Subject<'_>], facts: &Facts) -> Result<Vec<EvalRow>, EvalError> {
    let clock = MonotonicClock::new();
    let depth = (facts.window / 2).max(1);
    let tokens = TOKENS.min(facts.window.saturating_sub(depth)).max(1);
    let mut sessions = subjects
        .iter()
        .map(|subject| {
            let mut session = subject.engine.session(depth + tokens)?;
            let vocab = subject.engine.config().vocab;
            let prompt: Vec<u32> = (0..depth).map(|i| (i * 7 % vocab) as u32).collect();
            session.prefill(&prompt)?;
            Ok(session)
        })
        .collect::<Result<Vec<_>, EngineError>>()?;
    let mut rates = vec![Vec::with_capacity(ROUNDS); subjects.len()];
    // The first round warms up.
    for round in 0..=ROUNDS {
        for (session, rates) in sessions.iter_mut().zip(&mut rates) {
            let start = clock.now_ns();
            for _ in 0..tokens {
                session.decode(0)?;
            }
            let elapsed = clock.now_ns() - start;
            session.truncate(depth);
            if round > 0 && elapsed > 0 {
                rates.push(tokens as f64 * 1e9 / elapsed as f64);
            }
        }
    }
    let rows = subjects.iter().zip(&rates).filter_map(|(subject, rates)| {
        let row = subject.row(facts, "speed", "");
        let interval = median_interval(rates, LEVEL);
        Some(with_value(
            row,
            "decode_tokens_per_s",
            rates.len(),
            median(rates)?,
            interval,
        ))
    });
    Ok(rows.collect())
}
