//! Seeded damage to good files of every reader: whatever it does, reading ends with a value or an error, never with a panic,
//! and never with more memory than a small file can be worth.
//!
//! `TRIT_MUTATIONS` sets how many there are (2,000 where it is not set); the seed is fixed, so that a failure repeats.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{
    FFN, Gguf, HIDDEN, Hf, IQ1_BN, IQ2_BN, IQ2_BN_R4, KV, TL1, TL2, TQ1, TQ2, Value,
    peak_address_space, read_all, tl,
};
use trit_engine::file::{Checkpoint, FileError, FileOptions, I2sForm};

const DEFAULT: u64 = 2_000;
const SEED: u64 = 0x7472_6974;

/// `xorshift64*`: enough for damage.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Numbers at the edges of what readers compute with.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    3,
    7,
    31,
    33,
    127,
    255,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    1 << 40,
    i64::MAX as u64,
    u64::MAX,
];

/// Words that mean something in one of the JSON files.
const WORDS: [&str; 18] = [
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "-1e-5",
    "18446744073709551615",
    "18446744073709551616",
    "128.5",
    "\"\"",
    "[]",
    "{}",
    "[[[[",
    "\"U8\"",
    "\"BF16\"",
    "\"llama\"",
    "\\u0000",
    ",",
];

/// Damages `bytes` once; most damage is done within the first `header` bytes.
fn damage(random: &mut Random, bytes: &mut Vec<u8>, header: usize, text: bool) {
    let end = if random.below(10) < 8 {
        header.min(bytes.len())
    } else {
        bytes.len()
    };
    let at = random.below(end);
    if bytes.is_empty() {
        return;
    }
    match random.below(if text { 10 } else { 8 }) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.next() as u8,
        2 => {
            let edge = random.pick(&EDGES).to_le_bytes();
            let len = random.pick(&[1, 2, 4, 8]).min(bytes.len() - at);
            bytes[at..at + len].copy_from_slice(&edge[..len]);
        }
        3 => bytes.truncate(at),
        4 => {
            let len = random.below(40).min(bytes.len() - at);
            bytes.drain(at..at + len);
        }
        5 => {
            let len = random.below(200).min(bytes.len() - at);
            let copy = bytes[at..at + len].to_vec();
            let to = random.below(end + 1);
            bytes.splice(to..to, copy);
        }
        6 => {
            let len = random.below(64).min(bytes.len() - at);
            let from = random.below(bytes.len() - len + 1);
            bytes.copy_within(from..from + len, at);
        }
        7 => {
            let edge = random.pick(&EDGES).to_le_bytes();
            bytes.splice(at..at, edge);
        }
        _ => {
            // Replaces a number or a word of the text.
            let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'.' || *b == b'-';
            let start = bytes[..at]
                .iter()
                .rposition(|b| !word(b))
                .map_or(0, |p| p + 1);
            let stop = at + bytes[at..].iter().position(|b| !word(b)).unwrap_or(0);
            bytes.splice(start..stop.max(start), random.pick(&WORDS).bytes());
        }
    }
}

/// A good file and how it is read.
enum Base {
    Gguf(Vec<u8>, FileOptions),
    Hf(Vec<u8>, Vec<u8>),
}

impl Base {
    /// Damages a copy one to four times and reads it.
    fn mutate(&self, random: &mut Random) -> Result<(), FileError> {
        let times = 1 + random.below(4);
        let checkpoint = match self {
            Self::Gguf(bytes, options) => {
                let mut bytes = bytes.clone();
                for _ in 0..times {
                    damage(random, &mut bytes, 2_048, false);
                }
                Checkpoint::from_gguf_bytes("damaged", bytes, options)?
            }
            Self::Hf(config, weights) => {
                let (mut config, mut weights) = (config.clone(), weights.clone());
                let both = random.below(3);
                for _ in 0..times {
                    if both != 0 {
                        damage(random, &mut config, usize::MAX, true);
                    }
                    if both != 1 {
                        damage(random, &mut weights, 2_048, true);
                    }
                }
                Checkpoint::from_hf_bytes("damaged", &config, weights, &FileOptions::default())?
            }
        };
        read_all(&checkpoint, Some(2)).map(|_| ())
    }
}

fn tq(type_id: u32, block: usize) -> Vec<u8> {
    let mut gguf = Gguf::tiny();
    let tensor = gguf.tensor("ffn_down");
    tensor.type_id = type_id;
    tensor.data = vec![0; HIDDEN * FFN / 256 * block];
    gguf.push("blk.0.ffn_down.scale", &[1], 0, common::f32s(1, 2.0));
    gguf.bytes()
}

/// A tiny model whose down projection has another type.
fn down(type_id: u32, data: Vec<u8>) -> Vec<u8> {
    let mut gguf = Gguf::tiny();
    let tensor = gguf.tensor("ffn_down");
    (tensor.type_id, tensor.data) = (type_id, data);
    gguf.bytes()
}

fn bases() -> Vec<Base> {
    let x86 = FileOptions::default();
    let arm = FileOptions {
        i2s: I2sForm::Arm,
        ..x86
    };
    let tiled = |tiles: &str| FileOptions {
        tl_tiles: tiles.parse().expect("a list of tiles"),
        ..x86
    };
    let iq1 = [vec![0, 0x38], vec![7; FFN / 64 * 13]]
        .concat()
        .repeat(HIDDEN);
    let scales = 0.5f32.to_le_bytes().repeat(4);
    let iq2_r4 = [scales, vec![0x45; FFN]].concat().repeat(HIDDEN / 4);
    let mut llama = Gguf::tiny().rename("llama");
    llama.remove("sub_norm");
    let tensor = llama.tensor("attn_k");
    tensor.type_id = common::F16;
    tensor.data = common::f16s(KV * HIDDEN);
    llama.set("tokenizer.ggml.model", Value::text("llama"));
    llama.set("tokenizer.ggml.scores", Value::F32s(vec![0.0; 5]));
    let packed = Hf::tiny();
    let mut masters = Hf::tiny();
    masters.remove("model.layers.0.mlp.up_proj.weight_scale");
    let tensor = masters.tensor("model.layers.0.mlp.up_proj.weight");
    (tensor.1, tensor.2, tensor.3) = ("F16", vec![FFN, HIDDEN], common::f16s(FFN * HIDDEN));
    vec![
        Base::Gguf(Gguf::tiny().bytes(), x86),
        Base::Gguf(Gguf::tiny().bytes(), arm),
        Base::Gguf(tq(TQ1, 54), x86),
        Base::Gguf(tq(TQ2, 66), x86),
        Base::Gguf(llama.bytes(), x86),
        Base::Gguf(down(IQ1_BN, iq1), x86),
        Base::Gguf(down(IQ2_BN, common::iq2(HIDDEN, FFN, 0.5)), x86),
        Base::Gguf(down(IQ2_BN_R4, iq2_r4), x86),
        Base::Gguf(down(TL1, tl(TL1, 0x35, 0.5)), tiled("128x256=64/128/32")),
        Base::Gguf(down(TL2, tl(TL2, 0x35, 0.5)), tiled("128x256=64/96")),
        Base::Hf(packed.config_text(), packed.bytes()),
        Base::Hf(masters.config_text(), masters.bytes()),
    ]
}

#[test]
fn damaged_files_never_panic_and_stay_small() {
    let count: u64 = match std::env::var("TRIT_MUTATIONS") {
        Ok(text) => text.parse().expect("TRIT_MUTATIONS is a number"),
        Err(_) => DEFAULT,
    };
    let bases = bases();
    for base in &bases {
        let read = match base {
            Base::Gguf(bytes, options) => {
                Checkpoint::from_gguf_bytes("good", bytes.clone(), options)
            }
            Base::Hf(config, weights) => {
                Checkpoint::from_hf_bytes("good", config, weights.clone(), &FileOptions::default())
            }
        };
        read.and_then(|checkpoint| read_all(&checkpoint, None))
            .expect("what is damaged was good");
    }
    let before = peak_address_space();
    let (mut refused, mut read) = (0u64, 0u64);
    for number in 0..count {
        // A stream for each, so that one that fails can be repeated alone.
        let mut random = Random((SEED ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        let base = &bases[(number % bases.len() as u64) as usize];
        let result = catch_unwind(AssertUnwindSafe(|| base.mutate(&mut random)));
        assert!(result.is_ok(), "mutation {number} panics");
        match result {
            Ok(Err(error)) => {
                refused += 1;
                assert!(error.to_string().contains("`damaged"), "{error}");
            }
            _ => read += 1,
        }
    }
    // Damage that never got past the first check, or never mattered, would test nothing.
    if count >= DEFAULT {
        assert!(
            refused > count / 3 && read > count / 50,
            "{refused} refused, {read} read"
        );
    }
    // Allocators reserve address space in pieces of 64 MB; what is wild is a number from a file taken for a size.
    if let Some((after, before)) = peak_address_space().zip(before) {
        assert!(
            after - before < 256 << 20,
            "{before} bytes before, {after} after"
        );
    }
    println!("{count} mutations: {refused} refused, {read} read");
}
