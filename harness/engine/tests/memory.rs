//! What a model needs is known before it is read, to the byte.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use trit_engine::file::{Checkpoint, FileOptions};
use trit_engine::synth::{Shape, checkpoint};
use trit_engine::{ActivationType, Engine, EngineError, EngineOptions, HeadType, KvType, Role};
use trit_kernel::Cpu;

fn options(head: HeadType, max_memory_bytes: Option<u64>) -> EngineOptions {
    EngineOptions {
        head,
        max_memory_bytes,
        ..EngineOptions::new(1, Cpu::uncapped())
    }
}

fn tiny() -> Checkpoint {
    checkpoint(&Shape::named("tiny").unwrap(), 1).unwrap()
}

#[test]
fn the_limit_counts_what_loading_takes_and_nothing_more() {
    let golden = |name: &str| {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
        Checkpoint::open(&models.join(name), &FileOptions::default()).unwrap()
    };
    let models = [
        golden("bitnet-tiny/model-i2_s.gguf"),
        golden("bitnet-tiny"),
        golden("llama-bitlinear-tiny"),
        tiny(),
    ];
    let heads = [
        HeadType::F16,
        HeadType::F16Plain,
        HeadType::F16Top,
        HeadType::F32,
        HeadType::I8,
        HeadType::Q6K,
        HeadType::Q4_0,
    ];
    for model in &models {
        for head in heads {
            let engine = Engine::load(model, &options(head, None)).unwrap();
            let ledger = engine.ledger();
            // Norms are a millionth of a model and are not looked up for that, nor are numbers that do not fit into twelve bits.
            let most = ledger.sum() - ledger.of("norms");
            Engine::load(model, &options(head, Some(most))).unwrap();
            let misfits = match head {
                HeadType::F16 => ledger.sum() / 200,
                _ => 0,
            };
            let less = most - 1 - misfits;
            let error = Engine::load(model, &options(head, Some(less))).unwrap_err();
            assert!(
                matches!(error, EngineError::MaxMemory { .. }),
                "{head}: {error}"
            );
        }
    }
}

#[test]
fn a_session_counts_its_cache_and_buffers() {
    let model = tiny();
    let engine = Engine::load(&model, &options(HeadType::F16, None)).unwrap();
    let (one, four) = (engine.memory(1, 64), engine.memory(4, 64));
    assert_eq!(one.of("KV cache"), engine.kv_bytes(64));
    assert_eq!(four.of("KV cache"), 4 * one.of("KV cache"));
    assert!(four.of("buffers") > one.of("buffers"));
    assert_eq!(
        one.sum() - one.of("KV cache") - one.of("buffers"),
        engine.ledger().sum()
    );
    let limited = Engine::load(&model, &options(HeadType::F16, Some(one.sum()))).unwrap();
    assert!(limited.session(64).is_ok());
    let error = limited.batch(4, 64).err().unwrap();
    assert!(error.to_string().contains("KV cache"), "{error}");
    let beside = engine
        .beside(&EngineOptions {
            kv: KvType::F32,
            ..options(HeadType::F16, Some(1))
        })
        .unwrap()
        .unwrap();
    assert!(beside.session(1).is_err());
}

#[test]
fn a_long_chunk_goes_through_the_ffn_in_pieces() {
    let model = tiny();
    let mut rng = trit_core::Rng::named(1, "pieces");
    let tokens: Vec<u32> = (0..601).map(|_| rng.below(200) as u32).collect();
    let engine = |ubatch, threads, activations| {
        let options = EngineOptions {
            ubatch,
            threads,
            activations,
            ..options(HeadType::F16, None)
        };
        Engine::load(&model, &options).unwrap()
    };
    for activations in [ActivationType::I8, ActivationType::F32] {
        let logits = |ubatch, threads| -> Vec<u32> {
            let engine = engine(ubatch, threads, activations);
            let mut session = engine.session(tokens.len()).unwrap();
            let logits = session.prefill(&tokens).unwrap();
            logits.iter().map(|logit| logit.to_bits()).collect()
        };
        // 128 is one piece a chunk, 257 is two, 1,000 three of 201, 201 and 199.
        let want = logits(128, 1);
        for (ubatch, threads) in [(257, 1), (1000, 1), (1000, 2)] {
            assert!(logits(ubatch, threads) == want, "{ubatch} on {threads}");
        }
    }
    let engine = engine(1000, 1, ActivationType::I8);
    let passes = |role| {
        [
            engine.passes(role, 1),
            engine.passes(role, 601),
            engine.passes(role, 1601),
        ]
    };
    assert_eq!(passes(Role::Qkv), [1, 1, 2]);
    assert_eq!(passes(Role::Down), [1, 3, 4 + 3]);
}

#[test]
fn engines_of_one_model_share_its_weights() {
    let model = tiny();
    let engine = Engine::load(&model, &options(HeadType::F16, None)).unwrap();
    let logits = |engine: &Engine| {
        let mut session = engine.session(8).unwrap();
        session.prefill(&[1, 2, 3]).unwrap().to_vec()
    };
    let want = logits(&engine);
    let mut wanted = options(HeadType::F16, None);
    wanted.threads = 2;
    wanted.ubatch = 2;
    let beside = engine.beside(&wanted).unwrap().unwrap();
    assert_eq!((beside.threads(), beside.ubatch()), (2, 2));
    assert_eq!(logits(&beside), want);
    // Another head, or a layout of another kernel, are other weights.
    assert!(
        engine
            .beside(&options(HeadType::I8, None))
            .unwrap()
            .is_none()
    );
    let other = trit_kernels::kernels()
        .iter()
        .find(|entry| {
            entry.info.accepts[0] != engine.layout() && (entry.open)(Cpu::uncapped()).is_ok()
        })
        .unwrap();
    let mut another = options(HeadType::F16, None);
    another.kernel = Some(other.info.id.to_owned());
    assert!(engine.beside(&another).unwrap().is_none());
}
