//! Small models against what other people's software computes, and every configuration against every other, to the bit.
//!
//! `tests/golden/README.md` says where the expectations come from and how close is close.
#![expect(
    clippy::unwrap_used,
    reason = "a test says by panicking what went wrong"
)]

use std::path::PathBuf;

use serde::Deserialize;
use trit_engine::{Engine, EngineOptions, HeadType, KvType};
use trit_kernel::{Cpu, Isa};

#[derive(Deserialize)]
struct Case {
    tokens: Vec<u32>,
    last_logits: Vec<f32>,
    top8: Vec<u32>,
    nll: f64,
    greedy24: Vec<u32>,
}

#[derive(Deserialize)]
struct Expected {
    cases: Vec<Case>,
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(name)
}

fn expected(model: &str) -> Vec<Case> {
    let text = std::fs::read(golden(model).join("expected.json")).unwrap();
    let cases = serde_json::from_slice::<Expected>(&text).unwrap().cases;
    assert_eq!(
        cases
            .iter()
            .map(|case| case.tokens.len())
            .collect::<Vec<_>>(),
        [2, 8, 32, 97]
    );
    cases
}

fn options() -> EngineOptions {
    EngineOptions::new(1, Cpu::uncapped())
}

fn open(model: &str, options: &EngineOptions) -> Engine {
    Engine::open(&golden(model), options).unwrap()
}

/// Logits of every position.
fn logits(engine: &Engine, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut all = Vec::new();
    let mut session = engine.session(tokens.len()).unwrap();
    session
        .prefill_all(tokens, |position, logits| {
            assert_eq!(position, all.len());
            all.push(logits.to_vec());
        })
        .unwrap();
    all
}

fn bits(logits: &[Vec<f32>]) -> Vec<u32> {
    logits
        .iter()
        .flatten()
        .map(|logit| logit.to_bits())
        .collect()
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

/// Mean negative log-likelihood of the tokens after the first.
fn nll(logits: &[Vec<f32>], tokens: &[u32]) -> f64 {
    let sum: f64 = logits
        .iter()
        .zip(&tokens[1..])
        .map(|(logits, token)| {
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = logits.iter().map(|x| f64::from(x - max).exp()).sum();
            f64::from(max) + sum.ln() - f64::from(logits[*token as usize])
        })
        .sum();
    sum / (tokens.len() - 1) as f64
}

/// The two best tokens and the margin between them.
fn top_two(logits: &[f32]) -> (u32, f32) {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    (order[0] as u32, logits[order[0]] - logits[order[1]])
}

/// Least cosine and largest difference of the likelihood, for short (2 and 8 tokens) and long prompts.
struct Tolerance {
    short: (f64, f64),
    long: (f64, f64),
}

fn check(model: &str, file: &str, kv: KvType, tolerance: &Tolerance) {
    let engine = open(
        &format!("{model}{file}"),
        &EngineOptions { kv, ..options() },
    );
    for case in expected(model) {
        let what = format!("{model}{file}, kv {kv}, {} tokens", case.tokens.len());
        let short = case.tokens.len() <= 8;
        let (least, most) = if short {
            tolerance.short
        } else {
            tolerance.long
        };
        let all = logits(&engine, &case.tokens);
        let last = all.last().unwrap();
        let cosine = cosine(last, &case.last_logits);
        let difference = (nll(&all, &case.tokens) - case.nll).abs();
        assert!(cosine >= least, "{what}: cosine {cosine} < {least}");
        assert!(
            difference <= most,
            "{what}: nll off by {difference} > {most}"
        );
        assert_eq!(case.top8[0], case.greedy24[0]);

        // Greedy tokens, as far as the oracle's README says they can be asked for.
        let steps = if short && kv == KvType::F32 {
            case.greedy24.len()
        } else {
            1
        };
        let mut session = engine.session(case.tokens.len() + steps).unwrap();
        let mut current = session.prefill(&case.tokens).unwrap().to_vec();
        for (step, want) in case.greedy24[..steps].iter().enumerate() {
            let (token, margin) = top_two(&current);
            if margin < 0.3 {
                break;
            }
            assert_eq!(token, *want, "{what}: greedy step {step}, margin {margin}");
            current = session.decode(token).unwrap().to_vec();
        }
    }
}

const BITNET_F32: Tolerance = Tolerance {
    short: (0.99999, 0.001),
    long: (0.999, 0.03),
};
const BITNET_F16: Tolerance = Tolerance {
    short: (0.9985, 0.1),
    long: (0.9985, 0.1),
};
const LLAMA_F32: Tolerance = Tolerance {
    short: (0.9995, 0.05),
    long: (0.998, 0.05),
};
const LLAMA_F16: Tolerance = Tolerance {
    short: (0.998, 0.15),
    long: (0.998, 0.15),
};

#[test]
fn bitnet_gguf_is_as_transformers_computes() {
    check("bitnet-tiny", "/model-i2_s.gguf", KvType::F32, &BITNET_F32);
    check("bitnet-tiny", "/model-i2_s.gguf", KvType::F16, &BITNET_F16);
}

#[test]
fn bitnet_safetensors_are_as_transformers_computes() {
    check("bitnet-tiny", "", KvType::F32, &BITNET_F32);
    check("bitnet-tiny", "", KvType::F16, &BITNET_F16);
}

#[test]
fn llama_is_as_transformers_computes() {
    check("llama-bitlinear-tiny", "", KvType::F32, &LLAMA_F32);
    check("llama-bitlinear-tiny", "", KvType::F16, &LLAMA_F16);
}

/// All positions of the longest prompt, for one configuration.
fn run(model: &str, options: &EngineOptions) -> Vec<u32> {
    let tokens = expected(model).pop().unwrap().tokens;
    bits(&logits(&open(model, options), &tokens))
}

#[test]
fn every_configuration_gives_the_same_bits() {
    for kv in [KvType::F16, KvType::F32] {
        for (first, other) in [
            ("bitnet-tiny", Some("bitnet-tiny/model-i2_s.gguf")),
            ("llama-bitlinear-tiny", None),
        ] {
            let base = EngineOptions {
                kernel: Some("w2a8-naive-scalar".to_owned()),
                kv,
                cpu: Cpu::capped(Isa::Scalar),
                ..options()
            };
            let want = run(first, &base);
            let mut kernels = 0;
            for entry in trit_kernels::kernels() {
                if let Err(reason) = (entry.open)(Cpu::uncapped()) {
                    eprintln!("SKIPPED {}: {reason}", entry.info.id);
                    continue;
                }
                for threads in [1, 2] {
                    let kernel = Some(entry.info.id.to_owned());
                    let got = run(
                        first,
                        &EngineOptions {
                            kernel,
                            kv,
                            threads,
                            ..options()
                        },
                    );
                    assert!(
                        got == want,
                        "{first}: {} on {threads} threads",
                        entry.info.id
                    );
                }
                kernels += 1;
            }
            assert!(kernels >= 2, "at least the scalar kernels run anywhere");
            for isa in Cpu::uncapped().levels() {
                let cpu = Cpu::capped(isa);
                assert!(
                    run(
                        first,
                        &EngineOptions {
                            kv,
                            cpu,
                            ..options()
                        }
                    ) == want,
                    "{first}: {isa}"
                );
            }
            for ubatch in [1, 3, 512] {
                for threads in [1, 2] {
                    let got = run(
                        first,
                        &EngineOptions {
                            kv,
                            ubatch,
                            threads,
                            ..options()
                        },
                    );
                    assert!(got == want, "{first}: ubatch {ubatch} on {threads} threads");
                }
            }
            if let Some(other) = other {
                let tokens = expected(first).pop().unwrap().tokens;
                let engine =
                    Engine::open(&golden(other), &EngineOptions { kv, ..options() }).unwrap();
                assert!(
                    bits(&logits(&engine, &tokens)) == want,
                    "{other} against {first}"
                );
            }
        }
    }
}

#[test]
fn halves_in_twelve_bits_change_nothing() {
    for model in ["bitnet-tiny", "bitnet-tiny/model-i2_s.gguf"] {
        let tokens = expected("bitnet-tiny").pop().unwrap().tokens;
        let of = |head, cpu, threads| {
            let engine = open(
                model,
                &EngineOptions {
                    head,
                    ..EngineOptions::new(threads, cpu)
                },
            );
            let all = bits(&logits(&engine, &tokens));
            // Sequences decoded together multiply the head with several inputs.
            let mut batch = engine.batch(3, 2).unwrap();
            for sequence in 0..3 {
                batch
                    .prefill(sequence, &tokens[sequence..=sequence])
                    .unwrap();
            }
            let together = batch.decode(&tokens[3..6]).unwrap();
            let together: Vec<Vec<f32>> = together.map(<[f32]>::to_vec).collect();
            (engine.bytes_per_token(0), all, bits(&together))
        };
        let (bytes, all, together) = of(HeadType::F16Plain, Cpu::uncapped(), 1);
        for isa in Cpu::uncapped().levels() {
            for threads in [1, 2, 3] {
                let narrow = of(HeadType::F16, Cpu::capped(isa), threads);
                assert!(narrow.0 < bytes, "the head has fewer bytes");
                assert!(narrow.1 == all, "{model}: {isa} on {threads} threads");
                assert!(
                    narrow.2 == together,
                    "{model}: {isa} on {threads} threads, together"
                );
            }
        }
    }
}

#[test]
fn decoding_and_going_back_change_nothing() {
    let tokens = expected("bitnet-tiny").pop().unwrap().tokens;
    for kv in [KvType::F16, KvType::F32, KvType::I8] {
        let options = EngineOptions {
            kv,
            threads: 2,
            ubatch: 16,
            ..options()
        };
        let engine = open("bitnet-tiny", &options);
        let want = logits(&engine, &tokens);

        let mut session = engine.session(tokens.len()).unwrap();
        let one_by_one: Vec<Vec<f32>> = tokens
            .iter()
            .map(|token| session.decode(*token).unwrap().to_vec())
            .collect();
        assert!(bits(&one_by_one) == bits(&want), "{kv}: token by token");

        // Within and at the ends of the blocks in which keys are stored, with other tokens behind the place.
        for back in [1, 15, 16, 17, 31, 33, 40] {
            session.truncate(back);
            session.prefill(&[500; 9]).unwrap();
            session.truncate(back);
            assert_eq!(session.position(), back);
            let next = session.decode(tokens[back]).unwrap().to_vec();
            let last = session.prefill(&tokens[back + 1..]).unwrap().to_vec();
            assert!(
                bits(&[next, last]) == bits(&[want[back].clone(), want[tokens.len() - 1].clone()]),
                "{kv}: after going back to {back}"
            );
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let engine = open("bitnet-tiny", &options());
    let mut session = engine.session(4).unwrap();
    let want = session.prefill(&[1, 2]).unwrap().to_vec();
    assert!(
        session
            .prefill(&[])
            .unwrap_err()
            .to_string()
            .contains("empty")
    );
    assert!(
        session
            .prefill(&[3, 512])
            .unwrap_err()
            .to_string()
            .contains("512")
    );
    assert!(
        session
            .prefill(&[1, 2, 3])
            .unwrap_err()
            .to_string()
            .contains('4')
    );
    assert_eq!(session.position(), 2);
    session.truncate(0);
    assert_eq!(session.prefill(&[1, 2]).unwrap(), want);
    assert!(
        engine
            .session(513)
            .unwrap_err()
            .to_string()
            .contains("context")
    );

    let refused = |options: EngineOptions| {
        Engine::open(&golden("bitnet-tiny"), &options)
            .unwrap_err()
            .to_string()
    };
    assert!(
        refused(EngineOptions {
            threads: 0,
            ..options()
        })
        .contains("--threads")
    );
    assert!(
        refused(EngineOptions {
            ubatch: 0,
            ..options()
        })
        .contains("--ubatch")
    );
    let kernel = Some("w2a8-mad-abacus".to_owned());
    assert!(
        refused(EngineOptions {
            kernel,
            ..options()
        })
        .contains("w2a8-mad-abacus")
    );
}

#[test]
fn bytes_are_those_of_the_model() {
    let plain = EngineOptions {
        head: HeadType::F16Plain,
        ..options()
    };
    let engine = open("bitnet-tiny", &plain);
    let config = engine.config();
    // 4 layers of 2·256² + 2·128·256 + 3·768·256 weights at 2 bits.
    let linears = 4 * (2 * 256 * 256 + 2 * 128 * 256 + 3 * 768 * 256) / 4;
    assert_eq!(config.linear_weights(), 4 * linears);
    let (head, row, kv) = (512 * 256 * 2, 256 * 2, 4 * 2 * 128 * 2);
    assert_eq!(engine.bytes_per_token(0), linears + head + row + kv);
    assert_eq!(engine.bytes_per_token(9), linears + head + row + 10 * kv);
    let ledger = engine.ledger();
    assert_eq!((ledger.of("embedding"), ledger.of("head")), (head, 0));
    // In twelve bits: six bytes four numbers, a base and a start a row, and the numbers that do not fit.
    let engine = open("bitnet-tiny", &options());
    let (row, head) = (row / 4 * 3, head / 4 * 3 + 512 * 5 + 4);
    let held = engine.ledger().of("embedding");
    assert!(held >= head && held < head + head / 100, "{held} {head}");
    assert_eq!(engine.ledger().of("head"), 0);
    assert_eq!(engine.bytes_per_token(0), linears + held + row + kv);
}
