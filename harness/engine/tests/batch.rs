//! Sequences that are decoded together: each gets the logits that it gets by itself, to the bit.
#![expect(
    clippy::unwrap_used,
    reason = "a test says by panicking what went wrong"
)]

use std::path::PathBuf;

use trit_engine::{Engine, EngineOptions, HeadType, KvType};
use trit_kernel::{Cpu, Isa};

/// Sequences of different lengths; with the chunk of three tokens that some engines have, of several chunks as well.
const PROMPTS: [&[u32]; 5] = [
    &[3],
    &[7, 1, 300, 12, 500, 9, 2],
    &[511, 4],
    &[8, 8, 8, 8],
    &[40, 41, 42, 43, 44],
];
/// What each is continued with: a row a step.
const STEPS: [[u32; 5]; 4] = [
    [1, 2, 3, 4, 5],
    [500, 400, 300, 200, 100],
    [9, 9, 9, 9, 9],
    [0, 17, 511, 256, 33],
];

fn open(model: &str, options: &EngineOptions) -> Engine {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(model);
    Engine::open(&path, options).unwrap()
}

fn options() -> EngineOptions {
    EngineOptions::new(1, Cpu::uncapped())
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

/// Logits of every step of every sequence, each decoded by itself: `[step][sequence]`.
fn alone(engine: &Engine, sequences: usize) -> Vec<Vec<Vec<u32>>> {
    let mut all = vec![Vec::new(); STEPS.len()];
    for sequence in 0..sequences {
        let mut session = engine.session(16).unwrap();
        session.prefill(PROMPTS[sequence]).unwrap();
        for (step, all) in STEPS.iter().zip(&mut all) {
            all.push(bits(session.decode(step[sequence]).unwrap()));
        }
    }
    all
}

/// The same with all sequences in each step.
fn together(engine: &Engine, sequences: usize) -> Vec<Vec<Vec<u32>>> {
    let mut batch = engine.batch(sequences, 16).unwrap();
    assert_eq!(batch.sequences(), sequences);
    // In another order than that of the sequences: they have nothing to do with one another.
    for sequence in (0..sequences).rev() {
        batch.prefill(sequence, PROMPTS[sequence]).unwrap();
    }
    let steps = STEPS.iter().map(|step| {
        let logits = batch.decode(&step[..sequences]).unwrap();
        logits.map(bits).collect()
    });
    let all = steps.collect();
    for (sequence, prompt) in PROMPTS.iter().enumerate().take(sequences) {
        assert_eq!(batch.position(sequence), prompt.len() + STEPS.len());
    }
    all
}

#[test]
fn every_configuration_gives_each_sequence_the_bits_it_gets_alone() {
    for model in ["bitnet-tiny", "llama-bitlinear-tiny"] {
        let naive = EngineOptions {
            kernel: Some("w2a8-naive-scalar".to_owned()),
            cpu: Cpu::capped(Isa::Scalar),
            ..options()
        };
        let want = alone(&open(model, &naive), 5);
        // Different sequences have different logits, so that a mix-up would show.
        assert!(want[0].iter().all(|logits| *logits != want[1][0]));
        let check = |options: &EngineOptions, what: &str| {
            let engine = open(model, options);
            for sequences in [1, 2, 5] {
                let got = together(&engine, sequences);
                for (got, want) in got.iter().zip(&want) {
                    assert!(
                        got[..] == want[..sequences],
                        "{model}, {what}: {sequences} sequences"
                    );
                }
            }
        };
        let mut kernels = 0;
        for entry in trit_kernels::kernels() {
            if let Err(reason) = (entry.open)(Cpu::uncapped()) {
                eprintln!("SKIPPED {}: {reason}", entry.info.id);
                continue;
            }
            for threads in [1, 2] {
                let kernel = Some(entry.info.id.to_owned());
                let options = EngineOptions {
                    kernel,
                    threads,
                    ..options()
                };
                check(&options, entry.info.id);
            }
            kernels += 1;
        }
        assert!(kernels >= 2, "at least the scalar kernels run anywhere");
        for isa in Cpu::uncapped().levels() {
            let cpu = Cpu::capped(isa);
            check(&EngineOptions { cpu, ..options() }, isa.name());
        }
        for (ubatch, threads) in [(1, 3), (3, 2)] {
            let options = EngineOptions {
                ubatch,
                threads,
                ..options()
            };
            check(&options, "small chunks");
        }
    }
}

#[test]
fn heads_and_caches_of_every_type_serve_sequences_as_they_serve_one() {
    for (head, kv) in [
        (HeadType::F32, KvType::F32),
        (HeadType::I8, KvType::I8),
        (HeadType::Q6K, KvType::F16),
        (HeadType::Q4_0, KvType::I8),
    ] {
        for threads in [1, 2] {
            let options = EngineOptions {
                head,
                kv,
                threads,
                ..options()
            };
            let engine = open("bitnet-tiny", &options);
            assert!(
                together(&engine, 5) == alone(&engine, 5),
                "{head} {kv} on {threads} threads"
            );
        }
    }
}

#[test]
fn going_back_in_one_sequence_leaves_the_others_alone() {
    let engine = open("bitnet-tiny", &options());
    let want = alone(&engine, 2);
    let mut batch = engine.batch(2, 16).unwrap();
    batch.prefill(0, PROMPTS[0]).unwrap();
    batch.prefill(1, PROMPTS[1]).unwrap();
    drop(batch.decode(&STEPS[0][..2]).unwrap());
    batch.truncate(1, PROMPTS[1].len());
    // The first sequence goes on, the second one does its first step again.
    let mixed = [STEPS[1][0], STEPS[0][1]];
    let got: Vec<Vec<u32>> = batch.decode(&mixed).unwrap().map(bits).collect();
    assert!(got == [want[1][0].clone(), want[0][1].clone()]);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let engine = open("bitnet-tiny", &options());
    let refused = |result: Result<_, trit_engine::EngineError>| match result {
        Ok(()) => panic!("it was taken"),
        Err(error) => error.to_string(),
    };
    assert!(refused(engine.batch(0, 4).map(drop)).contains("batch: `0`"));
    assert!(refused(engine.batch(2, 513).map(drop)).contains("context"));
    let memory = refused(engine.batch(usize::MAX, 512).map(drop));
    assert!(memory.contains("KV cache"), "{memory}");
    let mut batch = engine.batch(2, 4).unwrap();
    batch.prefill(0, &[1, 2, 3]).unwrap();
    batch.prefill(1, &[4]).unwrap();
    for (tokens, want) in [
        (&[1][..], "1 tokens for 2 sequences"),
        (&[1, 2, 3], "3 tokens for 2 sequences"),
        (&[1, 512], "512"),
    ] {
        let error = refused(batch.decode(tokens).map(drop));
        assert!(error.contains(want), "{error}");
    }
    drop(batch.decode(&[5, 6]).unwrap());
    assert!(refused(batch.decode(&[7, 8]).map(drop)).contains("5 positions"));
    assert_eq!((batch.position(0), batch.position(1)), (4, 2));
}

#[test]
fn a_step_reads_the_weights_once() {
    let engine = open("bitnet-tiny", &options());
    // 256 features of the embedding in halves of twelve bits, and keys and values of ten positions: 4 layers, 128 wide.
    let (row, kv) = (256 / 2 * 3, 10 * 4 * 2 * 128 * 2);
    let one = engine.bytes_per_token(9);
    assert_eq!(engine.bytes_per_step(1, 9), one);
    assert_eq!(engine.bytes_per_step(8, 9), one + 7 * (row + kv));
}
