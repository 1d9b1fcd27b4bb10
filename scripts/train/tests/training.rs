//! Training, resuming, adapting and exporting, with a model that is small enough to do all of it in seconds.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tokenizers::Tokenizer;
use trit_engine::{Engine, EngineOptions, KvType};
use trit_kernel::Cpu;
use trit_train::adapt::{MERGED, adapt};
use trit_train::checkpoint;
use trit_train::data::{BOS_ID, Text, encode};
use trit_train::eval::evaluate;
use trit_train::export::{folder, gguf, round_embedding};
use trit_train::model::{Adapters, Model, ModelConfig};
use trit_train::ops::{negative_log_likelihood, with_floats};
use trit_train::optim::Schedule;
use trit_train::train::{BEST, LAST, Place, Recipe, Tokens, Training, tokenizer_in};

fn config(ternary: bool) -> ModelConfig {
    ModelConfig {
        vocab: 320,
        hidden: 128,
        ffn: 256,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        context: 64,
        rope_base: 10_000.0,
        rms_eps: 1e-5,
        ternary,
    }
}

fn recipe(steps: usize) -> Recipe {
    Recipe {
        batch: 8,
        schedule: Schedule {
            steps,
            warmup: 10,
            rate: 4e-3,
            second: 2.0 / 3.0,
            decay: 0.1,
        },
        dropout: 0.1,
        seed: 5,
        eval_every: 20,
        patience: 100,
    }
}

/// Text that every checkout has.
fn corpus(dir: &Path) -> (Text, Tokenizer, Tokens) {
    let path = dir.join("text");
    let text = [
        include_str!("../../../harness/METHODOLOGY.md"),
        include_str!("../../../kernels/README.md"),
        include_str!("../../../suites/FORMAT.md"),
    ]
    .concat();
    std::fs::write(&path, text).unwrap();
    let text = Text::read(&path).unwrap();
    let tokenizer = tokenizer_in(dir, &text, config(true).vocab).unwrap();
    let tokens = Tokens::new(&text, &tokenizer).unwrap();
    (text, tokenizer, tokens)
}

/// Runs a training until it ends, or stops at the first line of progress that contains `stop_at`.
fn run(training: &mut Training, tokens: &Tokens, out: &Path, stop_at: &str) -> bool {
    let stop = AtomicBool::new(false);
    let mut say = |line: &str| {
        if line.starts_with(stop_at) && !stop_at.is_empty() {
            stop.store(true, Ordering::SeqCst);
        }
    };
    let mut place = Place {
        out,
        save_every: 1000,
        say: &mut say,
        stop: &stop,
    };
    training.run(tokens, &mut place).unwrap()
}

fn held_out_losses(out: &Path) -> Vec<f64> {
    trit_train::curve::read(&out.join("curve.csv"))
        .unwrap()
        .iter()
        .filter_map(|row| row.2)
        .collect()
}

#[test]
fn loss_falls_in_both_twins_and_nothing_else_changes_between_two_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (text, _, tokens) = corpus(dir.path());
    for ternary in [true, false] {
        let train = |name: &str| {
            let out = dir.path().join(name);
            std::fs::create_dir(&out).unwrap();
            let model = Model::random(config(ternary), 5).unwrap();
            let mut training = Training::new(model, recipe(120));
            assert!(run(&mut training, &tokens, &out, ""));
            (
                held_out_losses(&out),
                std::fs::read(out.join(LAST)).unwrap(),
            )
        };
        let (losses, bytes) = train(&format!("one-{ternary}"));
        // Before the first step a token costs ln 320 = 5.77 nats.
        assert!(losses[0] < 5.0, "{losses:?}");
        // The text is what the project says about itself, which changes: how far it falls in the end does too.
        assert!(losses[losses.len() - 1] < losses[0] - 0.1, "{losses:?}");
        if ternary {
            let again = train("two");
            assert_eq!(losses, again.0);
            assert_eq!(bytes, again.1);
        }
    }
    assert!(text.held_out.len() > 1000);
}

#[test]
fn a_resumed_training_is_the_uninterrupted_one() {
    let dir = tempfile::tempdir().unwrap();
    let (_, _, tokens) = corpus(dir.path());
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    std::fs::create_dir(&whole).unwrap();
    std::fs::create_dir(&parts).unwrap();
    let start = || Training::new(Model::random(config(true), 5).unwrap(), recipe(60));
    assert!(run(&mut start(), &tokens, &whole, ""));
    assert!(!run(&mut start(), &tokens, &parts, "step 40/60"));
    let resume = |recipe| Training::resume(&parts, &config(true), recipe, &tokens.sha256);
    let mut second = resume(recipe(60)).unwrap();
    assert_eq!(second.steps_made(), 40);
    assert!(run(&mut second, &tokens, &parts, ""));
    for file in [LAST, BEST, "curve.csv"] {
        let read = |dir: &Path| std::fs::read(dir.join(file)).unwrap();
        assert!(read(&whole) == read(&parts), "`{file}` differs");
    }
    // Another training is refused.
    let error = resume(recipe(61)).err().unwrap().to_string();
    assert!(error.contains("another options"), "{error}");
    // A torn checkpoint too, with its name.
    let bytes = std::fs::read(parts.join(LAST)).unwrap();
    std::fs::write(parts.join(LAST), &bytes[..bytes.len() / 2]).unwrap();
    let error = format!("{:#}", resume(recipe(60)).err().unwrap());
    assert!(error.contains(LAST), "{error}");
}

/// A model after some steps: weights at random would hide mistakes behind symmetry.
fn trained(dir: &Path, tokens: &Tokens) -> Model {
    let mut training = Training::new(Model::random(config(true), 5).unwrap(), recipe(60));
    run(&mut training, tokens, dir, "");
    checkpoint::load(&dir.join(BEST)).unwrap().model
}

/// Logits of every position by the engine.
fn engine_logits(path: &Path, tokens: &[u32]) -> Vec<f32> {
    let mut options = EngineOptions::new(1, Cpu::uncapped());
    options.kv = KvType::F32;
    let engine = Engine::open(path, &options).unwrap();
    let mut session = engine.session(tokens.len()).unwrap();
    let mut out = Vec::new();
    session
        .prefill_all(tokens, |_, logits| out.extend_from_slice(logits))
        .unwrap();
    out
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn exports_compute_what_the_trainer_computes() {
    let dir = tempfile::tempdir().unwrap();
    let (text, tokenizer, tokens) = corpus(dir.path());
    let model = trained(dir.path(), &tokens);
    round_embedding(&model).unwrap();
    let (file, hf) = (dir.path().join("m.gguf"), dir.path().join("hf"));
    gguf(&model, &tokenizer, "a test", &file).unwrap();
    folder(&model, &tokenizer, &hf).unwrap();

    let mut ids = vec![BOS_ID];
    ids.extend(&tokens.held_out[..63]);
    let ours = with_floats(&model.logits(&ids, 64, None).unwrap(), |x| Ok(x.to_vec())).unwrap();
    let theirs = engine_logits(&file, &ids);
    // Both containers hold the same numbers.
    assert_eq!(theirs, engine_logits(&hf, &ids));
    let vocab = model.config.vocab;
    for (position, (a, b)) in ours.chunks(vocab).zip(theirs.chunks(vocab)).enumerate() {
        let cosine = cosine(a, b);
        assert!(cosine > 0.9999, "position {position}: cosine {cosine}");
    }
    let mean = |logits: &[f32]| {
        let nll = negative_log_likelihood(logits, &tokens.held_out[..64]);
        f64::from(nll.iter().sum::<f32>()) / 64.0
    };
    assert!((mean(&ours) - mean(&theirs)).abs() < 1e-3);

    // Both tokenizers spell as the trainer's does, with the first token in front.
    for path in [&file, &hf] {
        let options = EngineOptions::new(1, Cpu::uncapped());
        let engine = Engine::open(path, &options).unwrap();
        let got = engine
            .tokenizer()
            .unwrap()
            .encode_plain(&text.held_out)
            .unwrap();
        assert_eq!(got, tokens.held_out);
    }
    let engine = Engine::open(&file, &EngineOptions::new(1, Cpu::uncapped())).unwrap();
    let got = engine.tokenizer().unwrap().encode("a kernel").unwrap();
    assert_eq!(got[0], BOS_ID);
    assert_eq!(got[1..], encode(&tokenizer, "a kernel").unwrap());

    // A float twin has no ternary form.
    let twin = Model::random(config(false), 1).unwrap();
    assert!(gguf(&twin, &tokenizer, "twin", &file).is_err());
}

#[test]
fn adapters_learn_over_a_frozen_base_and_merge_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let (_, tokenizer, tokens) = corpus(dir.path());
    let mut model = trained(dir.path(), &tokens);
    let ids = &tokens.held_out[..64];
    let logits = |model: &Model| {
        with_floats(&model.logits(ids, 64, None).unwrap(), |x| Ok(x.to_vec())).unwrap()
    };
    let before = logits(&model);
    model.adapters = Some(Adapters::new(&model.config, 4, 2.0, 1).unwrap());
    assert_eq!(logits(&model), before, "new adapters change nothing");
    model.adapters = None;

    // Another language: the same letters in another order.
    let path = dir.path().join("other");
    let other: String = "gate the wide kernel before token seven counts, then count it twice; "
        .repeat(120)
        .split_inclusive(' ')
        .enumerate()
        .flat_map(|(i, word)| {
            if i % 3 == 0 {
                [word, "and "]
            } else {
                [word, ""]
            }
        })
        .collect();
    std::fs::write(&path, other).unwrap();
    let other = Tokens::new(&Text::read(&path).unwrap(), &tokenizer).unwrap();
    let out = dir.path().join("adapted");
    std::fs::create_dir(&out).unwrap();
    let frozen: Vec<Vec<f32>> = model
        .params
        .values()
        .map(|var| with_floats(var, |w| Ok(w.to_vec())).unwrap())
        .collect();
    let stop = AtomicBool::new(false);
    let mut say = |_: &str| {};
    let mut place = Place {
        out: &out,
        save_every: 1000,
        say: &mut say,
        stop: &stop,
    };
    let mut options = recipe(80);
    options.batch = 4;
    let adapted = adapt(model, (4, 2.0), options, &other, &mut place, false)
        .unwrap()
        .unwrap();
    assert!(
        adapted.after.loss() < adapted.before.loss() - 0.3,
        "{adapted:?}"
    );
    let best = checkpoint::load(&out.join(BEST)).unwrap().model;
    for (var, frozen) in best.params.values().zip(frozen) {
        assert_eq!(with_floats(var, |w| Ok(w.to_vec())).unwrap(), frozen);
    }
    let merged = checkpoint::load(&out.join(MERGED)).unwrap().model;
    assert!(merged.adapters.is_none());
    assert_eq!(logits(&best), logits(&merged));
    let file = dir.path().join("merged.gguf");
    gguf(&merged, &tokenizer, "merged", &file).unwrap();
    round_embedding(&merged).unwrap();
    assert!(cosine(&logits(&merged), &engine_logits(&file, ids)) > 0.9999);
}

#[test]
fn every_token_of_a_text_is_predicted_once() {
    let dir = tempfile::tempdir().unwrap();
    let (_, _, tokens) = corpus(dir.path());
    let model = Model::random(config(true), 6).unwrap();
    // Windows that do not overlap: each is a sequence of its own.
    let text = &tokens.held_out[..150];
    let direct: f64 = text
        .chunks(64)
        .map(|window| {
            // The last window is filled with what came before it.
            let window = if window.len() < 64 {
                &text[86..]
            } else {
                window
            };
            let mut inputs = vec![BOS_ID];
            inputs.extend(&window[..63]);
            let logits = model.logits(&inputs, 64, None).unwrap();
            let nll = with_floats(&logits, |x| Ok(negative_log_likelihood(x, window))).unwrap();
            nll.iter().map(|x| f64::from(*x)).collect::<Vec<_>>()
        })
        .enumerate()
        .map(|(i, nll)| nll[if i == 2 { 42 } else { 0 }..].iter().sum::<f64>())
        .sum();
    let got = evaluate(&model, text, 300, 64).unwrap();
    assert!((got.nll - direct).abs() < 1e-3, "{} {direct}", got.nll);
    assert_eq!((got.tokens, got.bytes), (150, 300));
    // A constant loss a token does not depend on the stride.
    for var in model.params.values() {
        var.set(&var.zeros_like().unwrap()).unwrap();
    }
    for stride in [1, 7, 32, 64] {
        let loss = evaluate(&model, text, 300, stride).unwrap().loss();
        assert!((loss - 320f64.ln()).abs() < 1e-5, "stride {stride}: {loss}");
    }
    assert!(evaluate(&model, text, 300, 65).is_err());
}
