//! Heads, KV caches and activations of every type: equal to the bit whatever computes them, and near one another.
#![expect(
    clippy::unwrap_used,
    reason = "a test says by panicking what went wrong"
)]

use trit_engine::file::FileOptions;
use trit_engine::{ActivationType, Engine, EngineOptions, HeadType, KvType, ModelName};
use trit_kernel::{Cpu, Isa};

const TOKENS: [u32; 12] = [0, 50, 47, 45, 37, 47, 269, 41, 70, 296, 293, 377];
const HEADS: [HeadType; 6] = [
    HeadType::F16,
    HeadType::F16Top,
    HeadType::F32,
    HeadType::I8,
    HeadType::Q6K,
    HeadType::Q4_0,
];

fn logits(options: &EngineOptions) -> Vec<f32> {
    let checkpoint = ModelName::parse("builtin:shakespeare".as_ref())
        .unwrap()
        .checkpoint(0, &FileOptions::default())
        .unwrap();
    let engine = Engine::load(&checkpoint, options).unwrap();
    let mut session = engine.session(TOKENS.len()).unwrap();
    // A prompt and single tokens behind it: both paths of the cache.
    session.prefill(&TOKENS[..9]).unwrap();
    session.decode(TOKENS[9]).unwrap();
    session.decode(TOKENS[10]).unwrap();
    session.decode(TOKENS[11]).unwrap().to_vec()
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
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
fn every_type_is_equal_to_the_bit_on_every_instruction_set_and_near_the_default() {
    let default = logits(&EngineOptions::new(1, Cpu::uncapped()));
    let types = HEADS
        .iter()
        .map(|head| (*head, KvType::F16, ActivationType::I8))
        .chain([
            (HeadType::F16, KvType::F32, ActivationType::I8),
            (HeadType::F16, KvType::I8, ActivationType::I8),
            (HeadType::Q4_0, KvType::I8, ActivationType::I8),
            (HeadType::F16, KvType::F16, ActivationType::F32),
        ]);
    for (head, kv, activations) in types {
        let what = format!("{head} {kv} {activations}");
        let of = |threads, cpu, ubatch| {
            logits(&EngineOptions {
                head,
                kv,
                activations,
                ubatch,
                ..EngineOptions::new(threads, cpu)
            })
        };
        let own = of(1, Cpu::capped(Isa::Scalar), 512);
        for (threads, cpu, ubatch) in [
            (1, Cpu::uncapped(), 512),
            (2, Cpu::uncapped(), 4),
            (3, Cpu::capped(Isa::Avx2), 512),
        ] {
            assert_eq!(bits(&of(threads, cpu, ubatch)), bits(&own), "{what}");
        }
        let near = cosine(&own, &default);
        assert!(near > 0.98, "{what}: {near}");
        // The head of this model is F16, so F32 has the same numbers.
        let same = bits(&own) == bits(&default);
        let exact = kv == KvType::F16
            && activations == ActivationType::I8
            && matches!(head, HeadType::F16 | HeadType::F32);
        assert_eq!(same, exact, "{what}");
    }
}

#[test]
fn the_best_tokens_of_f16_top_are_those_of_f16() {
    let name = ModelName::parse("builtin:shakespeare".as_ref()).unwrap();
    let checkpoint = name.checkpoint(0, &FileOptions::default()).unwrap();
    let all = |head| {
        let options = EngineOptions {
            head,
            ..EngineOptions::new(2, Cpu::uncapped())
        };
        let engine = Engine::load(&checkpoint, &options).unwrap();
        let mut session = engine.session(TOKENS.len()).unwrap();
        let mut all = Vec::new();
        session
            .prefill_all(&TOKENS, |_, logits| all.push(logits.to_vec()))
            .unwrap();
        // Sequences decoded together: products of several inputs at once.
        let mut batch = engine.batch(3, 2).unwrap();
        for (sequence, token) in TOKENS[..3].iter().enumerate() {
            batch.prefill(sequence, &[*token]).unwrap();
        }
        all.extend(batch.decode(&TOKENS[3..6]).unwrap().map(<[f32]>::to_vec));
        all
    };
    let [top, f16, q6_k] = [HeadType::F16Top, HeadType::F16, HeadType::Q6K].map(all);
    let best = |logits: &[f32]| {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        (
            logits.iter().position(|x| *x >= largest).unwrap(),
            largest.to_bits(),
        )
    };
    for ((top, f16), q6_k) in top.iter().zip(&f16).zip(&q6_k) {
        assert_eq!(best(top), best(f16));
        let exact = bits(top)
            .into_iter()
            .zip(bits(f16))
            .filter(|(a, b)| a == b)
            .count();
        let others = bits(top)
            .into_iter()
            .zip(bits(q6_k))
            .filter(|(a, b)| a == b)
            .count();
        // A few are settled, and the others remain as they were.
        assert!(
            exact >= 1 && others >= 256 && exact + others >= 512,
            "{exact} {others}"
        );
    }
}

#[test]
fn bytes_follow_the_types() {
    let load = |head, kv| {
        let options = EngineOptions {
            head,
            kv,
            ..EngineOptions::new(1, Cpu::uncapped())
        };
        let checkpoint = ModelName::parse("builtin:shakespeare".as_ref())
            .unwrap()
            .checkpoint(0, &FileOptions::default())
            .unwrap();
        Engine::load(&checkpoint, &options).unwrap()
    };
    // 512 x 256 in the head; 4 layers with keys and values of 2 heads of 64 features.
    let f16 = load(HeadType::F16, KvType::F16);
    let base = f16.bytes_per_token(0) - 2 * 512 * 256;
    for (head, bytes) in [
        (HeadType::F32, 4 * 512 * 256),
        (HeadType::I8, 512 * 256 + 4 * 512),
        (HeadType::Q6K, 512 * 210),
        (HeadType::F16Top, 512 * (210 + 4)),
        (HeadType::Q4_0, 512 * 8 * 18),
    ] {
        let engine = load(head, KvType::F16);
        assert_eq!(engine.bytes_per_token(0) - base, bytes, "{head}");
        // The F16 embedding is kept beside a head of another type.
        assert_eq!(engine.ledger().of("head"), bytes, "{head}");
    }
    assert_eq!(f16.kv_bytes(10), 4 * 2 * 2 * 64 * 2 * 10);
    assert_eq!(
        load(HeadType::F16, KvType::I8).kv_bytes(10),
        4 * 2 * 2 * (64 + 4) * 10
    );
}
