//! Generation: which tokens, in which order, with which times, and what ends it.
#![expect(
    clippy::unwrap_used,
    reason = "a test says by panicking what went wrong"
)]

use std::path::PathBuf;

use trit_engine::{
    Engine, EngineError, EngineOptions, Generated, Sampler, SamplerOptions, generate,
};
use trit_kernel::Cpu;
use trit_measure::FakeClock;

fn engine() -> Engine {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/bitnet-tiny");
    Engine::open(&path, &EngineOptions::new(1, Cpu::uncapped())).unwrap()
}

fn greedy() -> Sampler {
    Sampler::new(SamplerOptions::default()).unwrap()
}

const PROMPT: [u32; 3] = [0, 207, 5];

/// What greedy decoding gives without `generate`.
fn by_hand(engine: &Engine, count: usize) -> Vec<u32> {
    let best = |logits: &[f32]| -> u32 {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        logits
            .iter()
            .position(|logit| logit.total_cmp(&largest).is_eq())
            .unwrap() as u32
    };
    let mut session = engine.session(PROMPT.len() + count).unwrap();
    let mut token = best(session.prefill(&PROMPT).unwrap());
    let mut tokens = vec![token];
    while tokens.len() < count {
        token = best(session.decode(token).unwrap());
        tokens.push(token);
    }
    tokens
}

#[test]
fn tokens_come_in_order_and_their_times_leave_the_callback_out() {
    let engine = engine();
    let want = by_hand(&engine, 5);
    let mut session = engine.session(PROMPT.len() + 5).unwrap();
    // Every reading of the clock is 10 ns after the one before, and the callback takes a second.
    let clock = FakeClock::stepping(1_000, 10);
    let mut seen = Vec::new();
    let result = generate(
        &mut session,
        &mut greedy(),
        &PROMPT,
        5,
        &[],
        &clock,
        |generated| {
            clock.advance(1_000_000_000);
            seen.push(generated.token);
            true
        },
    )
    .unwrap();
    assert_eq!(seen, want);
    assert_eq!(
        result.tokens.iter().map(|t| t.token).collect::<Vec<_>>(),
        want
    );
    assert!(!result.stopped);
    assert_eq!(result.prompt_tokens, 3);
    // Start, end of prefill, first token; then a reading before and one after each token.
    assert_eq!((result.prefill_ns, result.ttft_ns), (10, 20));
    assert_eq!(
        result.tokens.iter().map(|t| t.time_ns).collect::<Vec<_>>(),
        [20, 10, 10, 10, 10]
    );
    assert_eq!(result.prefill_tokens_per_s(), Some(3e9 / 10.0));
    assert_eq!(result.decode_tokens_per_s(), Some(4e9 / 40.0));
    // The last token is not put through the model: nobody asked for what follows it.
    assert_eq!(session.position(), PROMPT.len() + 4);
}

#[test]
fn a_stop_token_or_the_callback_ends_it() {
    let engine = engine();
    let tokens = by_hand(&engine, 6);
    let run = |stop: &[u32], each: &mut dyn FnMut(Generated) -> bool| {
        let mut session = engine.session(PROMPT.len() + 6).unwrap();
        generate(
            &mut session,
            &mut greedy(),
            &PROMPT,
            6,
            stop,
            &FakeClock::new(0),
            each,
        )
        .unwrap()
    };
    // The stop token is recorded and not handed out.
    let at = tokens.iter().position(|token| *token == tokens[2]).unwrap();
    let mut handed = 0;
    let stopped = run(&[tokens[2]], &mut |_| {
        handed += 1;
        true
    });
    assert!(stopped.stopped);
    assert_eq!((stopped.tokens.len(), handed), (at + 1, at));
    assert_eq!(stopped.tokens.last().unwrap().token, tokens[2]);

    let mut left = 2;
    let ended = run(&[], &mut |_| {
        left -= 1;
        left > 0
    });
    assert!(!ended.stopped);
    assert_eq!(ended.tokens.len(), 2);
    // A clock that stands still has no rate.
    assert_eq!(ended.decode_tokens_per_s(), None);
}

#[test]
fn nothing_to_do_is_an_error() {
    let engine = engine();
    let mut session = engine.session(4).unwrap();
    let mut run = |prompt: &[u32], max_tokens| {
        generate(
            &mut session,
            &mut greedy(),
            prompt,
            max_tokens,
            &[],
            &FakeClock::new(0),
            |_| true,
        )
        .unwrap_err()
    };
    assert!(matches!(run(&[], 1), EngineError::NoTokens));
    assert!(run(&PROMPT, 0).to_string().contains("--max-tokens"));
    // Three tokens fit and one more; the second new one has no place.
    assert!(matches!(
        run(&PROMPT, 9),
        EngineError::Positions { want: 5, have: 4 }
    ));
}
