//! GGUF files that must be refused.

use super::Cases;
use super::common::{
    self, F16, FFN, Gguf, HIDDEN, I2S, IQ1_BN, IQ2_BN, IQ2_BN_R4, KV, TL1, TL2, TQ2, VOCAB, Value,
    iq2, tl, tq2,
};

const EPS: &str = "attention.layer_norm_rms_epsilon";
const DOWN: &str = "blk.0.ffn_down.weight";

pub(crate) fn cases(cases: &mut Cases) {
    cases.raw_gguf("an empty file", Vec::new(), &["magic"]);
    cases.gguf("another magic", &["magic"], |g| g.magic = *b"GGML");
    cases.gguf("version 2", &["version", "is 2"], |g| g.version = 2);
    cases.gguf("a big-endian file", &["version", "big-endian"], |g| {
        g.version = 3 << 24;
    });
    cases.gguf("a count of tensors beyond reason", &["tensor_count"], |g| {
        g.tensor_count = Some(u64::MAX);
    });
    cases.gguf(
        "a count of keys beyond reason",
        &["metadata_kv_count"],
        |g| {
            g.key_count = Some(1 << 40);
        },
    );
    cases.gguf("more tensors than there are", &["tensor"], |g| {
        g.tensor_count = Some(g.tensors.len() as u64 + 40);
    });
    cases.gguf("fewer keys than there are", &["dimensions"], |g| {
        g.key_count = Some(3);
    });
    cases.gguf("more keys than there are", &[""], |g| {
        g.key_count = Some(40);
    });
    let whole = Gguf::tiny();
    let header = whole.header().len();
    let bytes = whole.bytes();
    for (what, len, names) in [
        ("cut in the magic", 3, "magic"),
        ("cut in the version", 6, "version"),
        ("cut in the counts", 12, "tensor_count"),
        ("cut behind the counts", 24, "key 0"),
        ("cut in the first value", 60, "general.architecture"),
        ("cut in the tensor infos", header - 9, DOWN),
        ("cut behind the header", header, "beyond the end"),
        ("cut in the last tensor", bytes.len() - 33, DOWN),
    ] {
        cases.raw_gguf(what, bytes[..len].to_vec(), &[names]);
    }
    cases.key(
        "a string longer than the file",
        "tokenizer.ggml.model",
        Value::Raw(8, (1u64 << 50).to_le_bytes().to_vec()),
        &["needs 1125899906842624 bytes"],
    );
    cases.gguf("a key longer than any", &["key", "bytes long"], |g| {
        g.keys[1].0 = "k".repeat(100_000);
    });
    cases.gguf("an empty key", &["key 1", "0 bytes long"], |g| {
        g.keys[1].0.clear();
    });
    let count = |kind: u32, count: u64| {
        let mut out = kind.to_le_bytes().to_vec();
        out.extend(count.to_le_bytes());
        Value::Raw(9, out)
    };
    cases.key(
        "an array of arrays",
        "tokenizer.ggml.scores",
        count(9, 1),
        &["array of arrays"],
    );
    cases.key(
        "an array of very many strings",
        "tokenizer.ggml.merges",
        count(8, 1 << 60),
        &["strings"],
    );
    cases.key(
        "an array whose size overflows",
        "tokenizer.ggml.scores",
        count(12, u64::MAX / 4),
        &["elements"],
    );
    cases.key(
        "an array longer than the file",
        "tokenizer.ggml.scores",
        count(6, 1 << 40),
        &["needs"],
    );
    cases.key(
        "an array of an unknown type",
        "tokenizer.ggml.scores",
        count(77, 1),
        &["unknown type 77"],
    );
    cases.key(
        "a value of an unknown type",
        "general.file_type",
        Value::Raw(13, vec![0; 8]),
        &["unknown value type 13"],
    );
    cases.key(
        "a boolean of 7",
        "general.file_type",
        Value::Raw(7, vec![7]),
        &["boolean of value 7"],
    );
    cases.gguf("a key twice", &["general.file_type", "twice"], |g| {
        g.keys.push(g.keys[1].clone());
    });
    cases.gguf("a tensor twice", &[DOWN, "twice"], |g| {
        let again = g.tensor(DOWN).clone();
        g.tensors.push(again);
    });
    cases.gguf("two tensors at one place", &["starts where"], |g| {
        let len = g.tensors.len();
        g.tensors[len - 1].offset = Some(0);
    });
    cases.gguf(
        "tensors that overlap",
        &["token_embd.weight", "only 640 bytes"],
        |g| {
            g.tensor("output_norm").offset = Some(640);
        },
    );
    cases.gguf("an offset off the alignment", &[DOWN, "alignment"], |g| {
        g.tensor(DOWN).offset = Some(33);
    });
    cases.gguf(
        "an offset beyond the file",
        &[DOWN, "beyond the end"],
        |g| {
            g.tensor(DOWN).offset = Some(1 << 40);
        },
    );
    cases.gguf("an offset that overflows", &[DOWN, "beyond the end"], |g| {
        g.tensor(DOWN).offset = Some(u64::MAX - 31);
    });
    for (what, value) in [
        ("alignment 0", 0),
        ("alignment 24", 24),
        ("a huge alignment", 1 << 31),
    ] {
        cases.gguf(what, &["general.alignment"], |g| {
            g.keys
                .push(("general.alignment".to_owned(), Value::U32(value)));
        });
    }
    cases.gguf(
        "an alignment that is text",
        &["general.alignment", "want an integer"],
        |g| {
            g.keys
                .push(("general.alignment".to_owned(), Value::text("32")));
        },
    );
    cases.gguf("a dimension of 0", &[DOWN, "dimensions"], |g| {
        g.tensor(DOWN).dims[1] = 0;
    });
    cases.gguf("dimensions that overflow", &[DOWN, "dimensions"], |g| {
        g.tensor(DOWN).dims = vec![1 << 32, 1 << 32];
    });
    cases.gguf("no dimensions", &[DOWN, "0 dimensions"], |g| {
        g.tensor(DOWN).dims.clear();
    });
    cases.gguf("too many dimensions", &[DOWN, "5 dimensions"], |g| {
        g.tensor(DOWN).dims = vec![FFN as u64, HIDDEN as u64, 1, 1, 1];
    });
    let mut bytes = Gguf::tiny().bytes();
    let name = DOWN.as_bytes();
    let at = bytes
        .windows(name.len())
        .position(|window| window == name)
        .expect("it is there");
    bytes[at + name.len()..at + name.len() + 4].fill(0xff);
    cases.raw_gguf(
        "dimensions beyond reason",
        bytes,
        &[DOWN, "4294967295 dimensions"],
    );
    cases.gguf(
        "another shape than configured",
        &[DOWN, "dimensions"],
        |g| {
            g.tensor(DOWN).dims = vec![HIDDEN as u64, FFN as u64];
        },
    );
    cases.gguf("an unknown type", &[DOWN, "unknown type 4711"], |g| {
        g.tensor(DOWN).type_id = 4711;
    });
    cases.gguf("a type that is not read", &[DOWN, "MXFP4", "hint"], |g| {
        let tensor = g.tensor(DOWN);
        tensor.type_id = TL2;
        tensor.data = vec![0; HIDDEN * FFN / 32 * 17];
    });
    for (what, type_id, file_type) in [
        ("TL1 of a shape that nobody tiled", TL1, 38),
        ("TL2 of a shape that nobody tiled", TL2, 39),
    ] {
        cases.gguf(
            what,
            &[DOWN, "128 x 256", "--tl-tiles 128x256=BM/BK/bm"],
            |g| {
                g.set("general.file_type", Value::U32(file_type));
                let tensor = g.tensor(DOWN);
                tensor.type_id = type_id;
                tensor.data = tl(type_id, 0, 0.5);
            },
        );
    }
    cases.gguf("TL2 that is too narrow", &["ffn_up", "at least 256"], |g| {
        g.set("general.file_type", Value::U32(39));
        g.tensor("ffn_up").type_id = TL2;
    });
    cases.gguf("TL1 without room", &[DOWN, "TL1", "only"], |g| {
        let tensor = g.tensor(DOWN);
        tensor.type_id = TL1;
        tensor.data = tl(TL1, 0, 0.5);
        tensor.data.truncate(4096);
    });
    cases.gguf(
        "rows of IQ2_BN with different scales",
        &[DOWN, "0.5, and 0.25 in row 3"],
        |g| {
            let tensor = g.tensor(DOWN);
            tensor.type_id = IQ2_BN;
            tensor.data = iq2(HIDDEN, FFN, 0.5);
            let row = 4 + FFN / 4;
            tensor.data[3 * row..3 * row + 4].copy_from_slice(&0.25f32.to_le_bytes());
        },
    );
    cases.gguf("IQ1_BN without room", &[DOWN, "IQ1_BN", "only"], |g| {
        let tensor = g.tensor(DOWN);
        tensor.type_id = IQ1_BN;
        tensor.data = vec![0; HIDDEN * (2 + FFN / 64 * 13) - 32];
    });
    cases.gguf(
        "IQ2_BN_R4 with rows left over",
        &["token_embd", "whole groups of 4"],
        |g| {
            let tensor = g.tensor("token_embd");
            tensor.type_id = IQ2_BN_R4;
        },
    );
    cases.gguf(
        "rows that are no whole blocks",
        &["ffn_sub_norm", "whole blocks"],
        |g| {
            let tensor = g.tensor("ffn_sub_norm");
            tensor.type_id = TQ2;
            tensor.dims = vec![100];
        },
    );
    cases.gguf("a linear in a type for embeddings", &[DOWN, "Q8_0"], |g| {
        let tensor = g.tensor(DOWN);
        tensor.type_id = 8;
        tensor.data = vec![0; HIDDEN * FFN / 32 * 34];
    });
    cases.gguf("norms in F16", &["output_norm.weight", "F16"], |g| {
        g.tensor("output_norm").type_id = F16;
    });
    cases.gguf("as many tensors as are read", &["no_such", "biases"], |g| {
        for i in 0..32_700 {
            let name = format!("{}{i:05}.weight", "x".repeat(230));
            g.push(&name, &[1], 0, vec![0; 4]);
        }
        g.push("no_such.bias", &[1], 0, vec![0; 4]);
    });
    cases.gguf("one key more than are read", &["metadata_kv_count"], |g| {
        for i in 0..4_096 {
            g.keys
                .push((format!("{}{i}", "k".repeat(240)), Value::U32(1)));
        }
    });
    cases.gguf("a bias", &["blk.0.attn_q.bias"], |g| {
        g.push("blk.0.attn_q.bias", &[HIDDEN], 0, common::f32s(HIDDEN, 0.0));
    });
    for (what, name) in [
        ("no embedding", "token_embd.weight"),
        ("no final norm", "output_norm.weight"),
        ("no sub-norm", "blk.0.attn_sub_norm.weight"),
        ("no linear", "blk.0.attn_k.weight"),
    ] {
        cases.gguf(what, &[name, "missing"], |g| g.remove(name));
    }
    for (what, key) in [
        ("no architecture", "general.architecture"),
        ("no hidden size", "embedding_length"),
        ("no layers", "block_count"),
        ("no feed-forward size", "feed_forward_length"),
        ("no heads", "attention.head_count"),
        ("no context", "context_length"),
        ("no epsilon", EPS),
    ] {
        cases.gguf(what, &[key, "missing"], |g| g.unset(key));
    }
    cases.key(
        "an unknown architecture",
        "general.architecture",
        Value::text("mamba"),
        &["mamba"],
    );
    cases.key(
        "an architecture that is no text",
        "general.architecture",
        Value::U32(1),
        &["want a string"],
    );
    cases.key(
        "a hidden size in floats",
        "embedding_length",
        Value::F32(128.0),
        &["want an integer"],
    );
    cases.key(
        "a negative hidden size",
        "embedding_length",
        Value::I32(-128),
        &["-128"],
    );
    cases.key(
        "a hidden size of 0",
        "embedding_length",
        Value::U32(0),
        &["is not in 1..="],
    );
    cases.key(
        "a huge feed-forward size",
        "feed_forward_length",
        Value::U64(u64::MAX),
        &["is not in 1..="],
    );
    cases.key(
        "a huge number of layers",
        "block_count",
        Value::U32(u32::MAX),
        &["is not in 1..="],
    );
    cases.key(
        "no heads at all",
        "attention.head_count",
        Value::U32(0),
        &["is not in 1..="],
    );
    cases.key(
        "heads that do not divide",
        "attention.head_count",
        Value::U32(3),
        &["are not the hidden size"],
    );
    cases.key(
        "key heads that do not divide",
        "attention.head_count_kv",
        Value::U32(3),
        &["does not divide"],
    );
    cases.key(
        "part of a head rotated",
        "rope.dimension_count",
        Value::U32(32),
        &["is 32"],
    );
    cases.gguf("scaled rotation", &["rope.scaling.type", "yarn"], |g| {
        g.keys.push((
            "bitnet-b1.58.rope.scaling.type".to_owned(),
            Value::text("yarn"),
        ));
    });
    for (what, value) in [
        ("an epsilon of 0", 0.0),
        ("a negative epsilon", -1e-5),
        ("an epsilon that is no number", f32::NAN),
        ("an endless epsilon", f32::INFINITY),
    ] {
        cases.key(what, EPS, Value::F32(value), &["positive finite"]);
    }
    for (what, value) in [
        ("a rope base of 0", 0.0),
        ("a negative rope base", -1.0),
        ("a rope base that is no number", f32::NAN),
        ("an endless rope base", f32::NEG_INFINITY),
    ] {
        cases.key(
            what,
            "rope.freq_base",
            Value::F32(value),
            &["positive finite"],
        );
    }
    cases.key(
        "an epsilon in integers",
        EPS,
        Value::U32(1),
        &["want a float"],
    );
    cases.key(
        "another vocabulary than embedded",
        "vocab_size",
        Value::U32(6),
        &["5 rows"],
    );
    cases.key(
        "fewer tokens than embedded",
        "tokenizer.ggml.tokens",
        Value::Texts(vec!["a".to_owned()]),
        &["1 entries"],
    );
    cases.key(
        "fewer token types than tokens",
        "tokenizer.ggml.token_type",
        Value::I32s(vec![1; 4]),
        &["4 entries"],
    );
    cases.key(
        "scores of another number",
        "tokenizer.ggml.scores",
        Value::F32s(vec![0.0; 6]),
        &["6 entries"],
    );
    cases.key(
        "tokens that are numbers",
        "tokenizer.ggml.tokens",
        Value::I32s(vec![1; 5]),
        &["array of i32"],
    );
    cases.key(
        "a first token outside",
        "tokenizer.ggml.bos_token_id",
        Value::U32(VOCAB as u32),
        &["token 5"],
    );
    cases.key(
        "an end outside",
        "tokenizer.ggml.eos_token_id",
        Value::U32(u32::MAX),
        &["token 4294967295"],
    );
    cases.key(
        "an unknown vocabulary",
        "tokenizer.ggml.model",
        Value::text("rwkv"),
        &["rwkv"],
    );
    cases.gguf("no merges", &["tokenizer.ggml.merges", "missing"], |g| {
        g.unset("tokenizer.ggml.merges");
    });
    cases.gguf(
        "a token that is not UTF-8",
        &["tokenizer.ggml.tokens", "UTF-8"],
        |g| {
            let mut raw = 8u32.to_le_bytes().to_vec();
            raw.extend(5u64.to_le_bytes());
            for byte in [b'a', b'b', 0xff, b'd', b'e'] {
                raw.extend(1u64.to_le_bytes());
                raw.push(byte);
            }
            g.set("tokenizer.ggml.tokens", Value::Raw(9, raw));
        },
    );
    for (what, scale) in [
        ("a scale that is no number", f32::NAN),
        ("an endless scale", f32::INFINITY),
        ("a scale of 0", 0.0),
    ] {
        cases.gguf(what, &[DOWN, "scale"], |g| {
            let data = &mut g.tensor(DOWN).data;
            let at = data.len() - 32;
            data[at..at + 4].copy_from_slice(&scale.to_le_bytes());
        });
    }
    cases.gguf("code 3", &[DOWN, "row 1, column 32"], |g| {
        g.tensor(DOWN).data[FFN / 4] |= 0b11_0000;
    });
    cases.gguf(
        "an extra scale that is no number",
        &["blk.0.ffn_down.scale"],
        |g| {
            g.push("blk.0.ffn_down.scale", &[1], 0, common::f32s(1, f32::NAN));
        },
    );
    cases.gguf(
        "a norm that is no number",
        &["blk.0.ffn_norm.weight", "element 7"],
        |g| {
            g.tensor("ffn_norm").data[28..32].copy_from_slice(&f32::NAN.to_le_bytes());
        },
    );
    cases.gguf(
        "TQ blocks of different scales",
        &[DOWN, "different scales"],
        |g| {
            let tensor = g.tensor(DOWN);
            tensor.type_id = TQ2;
            tensor.data = tq2(HIDDEN, FFN, 0x3800);
            let at = tensor.data.len() - 1;
            tensor.data[at] = 0x34;
        },
    );
    cases.gguf("a TQ scale that is no number", &[DOWN, "block 0"], |g| {
        let tensor = g.tensor(DOWN);
        tensor.type_id = TQ2;
        tensor.data = tq2(HIDDEN, FFN, 0x7e00);
    });
    cases.gguf(
        "a master weight that is no number",
        &["attn_k", "finite"],
        |g| {
            let tensor = g.tensor("attn_k");
            tensor.type_id = F16;
            tensor.data = common::f16s(KV * HIDDEN);
            tensor.data[101] = 0x7f;
        },
    );
    cases.gguf(
        "rows of I2_S that are no whole blocks",
        &[DOWN, "192"],
        |g| {
            // ffn 192 = 128 + 64: the down projection cannot be I2_S, and the configuration says 192 for all.
            g.set("feed_forward_length", Value::U32(192));
            for name in ["ffn_gate", "ffn_up"] {
                let tensor = g.tensor(name);
                tensor.dims = vec![HIDDEN as u64, 192];
                tensor.data = common::i2s(192, HIDDEN, 0.5);
            }
            let tensor = g.tensor("ffn_sub_norm");
            tensor.dims = vec![192];
            tensor.data = common::f32s(192, 1.0);
            let tensor = g.tensor("ffn_down");
            tensor.dims = vec![192, HIDDEN as u64];
            assert_eq!(tensor.type_id, I2S);
            tensor.data = vec![0x55; 192 * HIDDEN / 4 + 32];
        },
    );
}
