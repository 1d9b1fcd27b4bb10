//! Tiny models built in memory, byte by byte, so that tests can break them in one place.

#![allow(
    dead_code,
    reason = "every test file that includes this module uses another part of it"
)]

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use trit_engine::file::{Checkpoint, FileError, Linear, Norm};

/// Sizes of the tiny model: one layer, two query heads, one key and value head.
pub(crate) const HIDDEN: usize = 128;
pub(crate) const FFN: usize = 256;
pub(crate) const KV: usize = 64;
pub(crate) const VOCAB: usize = 5;

/// A GGUF value with its type.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    U32(u32),
    I32(i32),
    U64(u64),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
    /// A type number and the bytes that follow it.
    Raw(u32, Vec<u8>),
}

impl Value {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    fn write(&self, out: &mut Vec<u8>) {
        fn array(out: &mut Vec<u8>, kind: u32, len: usize) {
            out.extend(9u32.to_le_bytes());
            out.extend(kind.to_le_bytes());
            out.extend((len as u64).to_le_bytes());
        }
        fn plain(out: &mut Vec<u8>, kind: u32, bytes: &[u8]) {
            out.extend(kind.to_le_bytes());
            out.extend(bytes);
        }
        match self {
            Self::U32(v) => plain(out, 4, &v.to_le_bytes()),
            Self::I32(v) => plain(out, 5, &v.to_le_bytes()),
            Self::U64(v) => plain(out, 10, &v.to_le_bytes()),
            Self::F32(v) => plain(out, 6, &v.to_le_bytes()),
            Self::Bool(v) => plain(out, 7, &[u8::from(*v)]),
            Self::Raw(kind, bytes) => plain(out, *kind, bytes),
            Self::Text(text) => {
                out.extend(8u32.to_le_bytes());
                push_text(out, text);
            }
            Self::Texts(texts) => {
                array(out, 8, texts.len());
                for text in texts {
                    push_text(out, text);
                }
            }
            Self::F32s(values) => {
                array(out, 6, values.len());
                out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            }
            Self::I32s(values) => {
                array(out, 5, values.len());
                out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            }
        }
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A tensor of a GGUF file.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dims: Vec<u64>,
    pub(crate) type_id: u32,
    pub(crate) data: Vec<u8>,
    /// Instead of the offset where the data really is.
    pub(crate) offset: Option<u64>,
}

/// A GGUF file in parts. Public fields can lie.
#[derive(Clone, Debug)]
pub(crate) struct Gguf {
    pub(crate) magic: [u8; 4],
    pub(crate) version: u32,
    pub(crate) keys: Vec<(String, Value)>,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) tensor_count: Option<u64>,
    pub(crate) key_count: Option<u64>,
}

/// Number types of GGUF.
pub(crate) const F32: u32 = 0;
pub(crate) const F16: u32 = 1;
pub(crate) const TQ1: u32 = 34;
pub(crate) const TQ2: u32 = 35;
pub(crate) const I2S: u32 = 36;
pub(crate) const TL1: u32 = 38;
pub(crate) const TL2: u32 = 39;
pub(crate) const IQ1_BN: u32 = 134;
pub(crate) const IQ2_BN: u32 = 135;
pub(crate) const IQ2_BN_R4: u32 = 335;

/// The weight at a place: any pattern with all three values that is not the same in every row.
pub(crate) fn weight(r: usize, c: usize) -> i8 {
    ((31 * r + 17 * c + (r * c) % 7) % 3) as i8 - 1
}

/// `IQ2_BN`: a scale and blocks of 64 in each row.
pub(crate) fn iq2(rows: usize, k: usize, scale: f32) -> Vec<u8> {
    let mut out = Vec::new();
    for r in 0..rows {
        out.extend(scale.to_le_bytes());
        for at in (0..k).step_by(64) {
            out.extend((0..16).map(|j| {
                (0..4).fold(0u8, |byte, l| {
                    byte | ((weight(r, at + j + 16 * l) + 1) as u8) << (2 * l)
                })
            }));
        }
    }
    out
}

/// `TL1` or `TL2` of the down projection in bytes `byte`, and a scale.
pub(crate) fn tl(type_id: u32, byte: u8, scale: f32) -> Vec<u8> {
    // Both formats take the same here: `TL2` has no columns but the 256 that ggml counts as pairs.
    assert!(type_id == TL1 || type_id == TL2);
    let mut out = vec![byte; HIDDEN * FFN / 4];
    out.extend(scale.to_le_bytes());
    out.extend([0; 28]);
    out
}

pub(crate) fn i2s(rows: usize, k: usize, scale: f32) -> Vec<u8> {
    let mut out = Vec::new();
    for at in (0..rows * k).step_by(128) {
        for p in 0..32 {
            out.push((0..4).fold(0u8, |byte, plane| {
                let i = at + plane * 32 + p;
                byte << 2 | (weight(i / k, i % k) + 1) as u8
            }));
        }
    }
    out.extend(scale.to_le_bytes());
    out.extend([0; 28]);
    out
}

/// `TQ2_0`, every block with the scale `d` (bits of a half).
pub(crate) fn tq2(rows: usize, k: usize, d: u16) -> Vec<u8> {
    let mut out = Vec::new();
    for at in (0..rows * k).step_by(256) {
        for half in 0..2 {
            for m in 0..32 {
                out.push((0..4).fold(0u8, |byte, l| {
                    let i = at + 128 * half + m + 32 * l;
                    byte | ((weight(i / k, i % k) + 1) as u8) << (2 * l)
                }));
            }
        }
        out.extend(d.to_le_bytes());
    }
    out
}

pub(crate) fn f32s(count: usize, value: f32) -> Vec<u8> {
    (0..count).flat_map(|_| value.to_le_bytes()).collect()
}

/// F16 values, small and all kinds of them.
pub(crate) fn f16s(count: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|i| ((i * 37 % 1024) as u16 | 0x2c00 | ((i % 2) as u16) << 15).to_le_bytes())
        .collect()
}

/// The linears of the tiny model: GGUF stem, transformers' stem, rows, K.
pub(crate) const LINEARS: [(&str, &str, usize, usize); 7] = [
    ("attn_q", "self_attn.q_proj", HIDDEN, HIDDEN),
    ("attn_k", "self_attn.k_proj", KV, HIDDEN),
    ("attn_v", "self_attn.v_proj", KV, HIDDEN),
    ("attn_output", "self_attn.o_proj", HIDDEN, HIDDEN),
    ("ffn_gate", "mlp.gate_proj", FFN, HIDDEN),
    ("ffn_up", "mlp.up_proj", FFN, HIDDEN),
    ("ffn_down", "mlp.down_proj", HIDDEN, FFN),
];

impl Gguf {
    /// A good model.
    pub(crate) fn tiny() -> Self {
        let mut keys = vec![
            (
                "general.architecture".to_owned(),
                Value::text("bitnet-b1.58"),
            ),
            ("general.file_type".to_owned(), Value::U32(40)),
        ];
        for (key, value) in [
            ("vocab_size", VOCAB),
            ("context_length", 64),
            ("embedding_length", HIDDEN),
            ("block_count", 1),
            ("feed_forward_length", FFN),
            ("rope.dimension_count", HIDDEN / 2),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
        ] {
            keys.push((format!("bitnet-b1.58.{key}"), Value::U32(value as u32)));
        }
        keys.extend([
            (
                "bitnet-b1.58.attention.layer_norm_rms_epsilon".to_owned(),
                Value::F32(1e-5),
            ),
            (
                "bitnet-b1.58.rope.freq_base".to_owned(),
                Value::F32(10_000.0),
            ),
            ("tokenizer.ggml.model".to_owned(), Value::text("gpt2")),
            (
                "tokenizer.ggml.tokens".to_owned(),
                Value::Texts(["a", "b", "ab", "<s>", "</s>"].map(str::to_owned).to_vec()),
            ),
            (
                "tokenizer.ggml.token_type".to_owned(),
                Value::I32s(vec![1, 1, 1, 3, 3]),
            ),
            (
                "tokenizer.ggml.merges".to_owned(),
                Value::Texts(vec!["a b".to_owned()]),
            ),
            ("tokenizer.ggml.bos_token_id".to_owned(), Value::U32(3)),
            ("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(4)),
        ]);
        let mut out = Self {
            magic: *b"GGUF",
            version: 3,
            keys,
            tensors: Vec::new(),
            tensor_count: None,
            key_count: None,
        };
        out.push(
            "token_embd.weight",
            &[HIDDEN, VOCAB],
            F16,
            f16s(VOCAB * HIDDEN),
        );
        out.push("output_norm.weight", &[HIDDEN], F32, f32s(HIDDEN, 1.0));
        for (name, width) in [
            ("attn_norm", HIDDEN),
            ("attn_sub_norm", HIDDEN),
            ("ffn_norm", HIDDEN),
            ("ffn_sub_norm", FFN),
        ] {
            out.push(
                &format!("blk.0.{name}.weight"),
                &[width],
                F32,
                f32s(width, 1.0),
            );
        }
        for (stem, _, rows, k) in LINEARS {
            out.push(
                &format!("blk.0.{stem}.weight"),
                &[k, rows],
                I2S,
                i2s(rows, k, 0.5),
            );
        }
        out
    }

    /// The same model under another architecture.
    pub(crate) fn rename(mut self, architecture: &str) -> Self {
        for (key, _) in &mut self.keys {
            *key = key.replace("bitnet-b1.58", architecture);
        }
        self.set("general.architecture", Value::text(architecture));
        self
    }

    pub(crate) fn push(&mut self, name: &str, dims: &[usize], type_id: u32, data: Vec<u8>) {
        self.tensors.push(Tensor {
            name: name.to_owned(),
            dims: dims.iter().map(|dim| *dim as u64).collect(),
            type_id,
            data,
            offset: None,
        });
    }

    /// Sets a key; `key` may leave out the architecture.
    pub(crate) fn set(&mut self, key: &str, value: Value) {
        match self.keys.iter_mut().find(|(k, _)| k.ends_with(key)) {
            Some((_, old)) => *old = value,
            None => self.keys.push((key.to_owned(), value)),
        }
    }

    pub(crate) fn unset(&mut self, key: &str) {
        self.keys.retain(|(k, _)| !k.ends_with(key));
    }

    /// The tensor whose name contains `part`.
    pub(crate) fn tensor(&mut self, part: &str) -> &mut Tensor {
        self.tensors
            .iter_mut()
            .find(|tensor| tensor.name.contains(part))
            .expect("the tiny model has it")
    }

    pub(crate) fn remove(&mut self, part: &str) {
        self.tensors.retain(|tensor| !tensor.name.contains(part));
    }

    /// Header without padding.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(
            self.tensor_count
                .unwrap_or(self.tensors.len() as u64)
                .to_le_bytes(),
        );
        out.extend(
            self.key_count
                .unwrap_or(self.keys.len() as u64)
                .to_le_bytes(),
        );
        for (key, value) in &self.keys {
            push_text(&mut out, key);
            value.write(&mut out);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            push_text(&mut out, &tensor.name);
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            out.extend(tensor.dims.iter().flat_map(|dim| dim.to_le_bytes()));
            out.extend(tensor.type_id.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(offset).to_le_bytes());
            offset += (tensor.data.len() as u64).next_multiple_of(32);
        }
        out
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = self.header();
        out.resize(out.len().next_multiple_of(32), 0);
        for tensor in &self.tensors {
            out.extend(&tensor.data);
            out.resize(out.len().next_multiple_of(32), 0);
        }
        out
    }
}

/// A safetensors file in parts, with its `config.json`.
#[derive(Clone, Debug)]
pub(crate) struct Hf {
    pub(crate) config: Json,
    /// Name, dtype, shape, data.
    pub(crate) tensors: Vec<(String, &'static str, Vec<usize>, Vec<u8>)>,
}

fn bf16s(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|v| ((v.to_bits() >> 16) as u16).to_le_bytes())
        .collect()
}

/// Four rows a byte, as transformers packs.
pub(crate) fn packed(rows: usize, k: usize) -> Vec<u8> {
    let quarter = rows / 4;
    (0..quarter * k)
        .map(|at| {
            (0..4).fold(0u8, |byte, i| {
                byte | ((weight(i * quarter + at / k, at % k) + 1) as u8) << (2 * i)
            })
        })
        .collect()
}

impl Hf {
    /// A good model of the same size as [`Gguf::tiny`].
    pub(crate) fn tiny() -> Self {
        let config = json!({
            "architectures": ["BitNetForCausalLM"],
            "model_type": "bitnet",
            "vocab_size": VOCAB,
            "hidden_size": HIDDEN,
            "intermediate_size": FFN,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "hidden_act": "relu2",
            "max_position_embeddings": 64,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": true,
            "bos_token_id": 3,
            "eos_token_id": [4, 2],
            "quantization_config": {
                "quant_method": "bitnet",
                "linear_class": "autobitlinear",
                "quantization_mode": "offline"
            }
        });
        let mut tensors = vec![
            (
                "model.embed_tokens.weight".to_owned(),
                "BF16",
                vec![VOCAB, HIDDEN],
                bf16s(&vec![0.25; VOCAB * HIDDEN]),
            ),
            (
                "model.norm.weight".to_owned(),
                "BF16",
                vec![HIDDEN],
                bf16s(&[1.0; HIDDEN]),
            ),
        ];
        for (name, width) in [
            ("input_layernorm", HIDDEN),
            ("self_attn.attn_sub_norm", HIDDEN),
            ("post_attention_layernorm", HIDDEN),
            ("mlp.ffn_sub_norm", FFN),
        ] {
            let name = format!("model.layers.0.{name}.weight");
            tensors.push((name, "BF16", vec![width], bf16s(&vec![1.0; width])));
        }
        for (_, stem, rows, k) in LINEARS {
            let name = format!("model.layers.0.{stem}.weight");
            tensors.push((format!("{name}_scale"), "BF16", vec![1], bf16s(&[0.5])));
            tensors.push((name, "U8", vec![rows / 4, k], packed(rows, k)));
        }
        Self { config, tensors }
    }

    /// The tensor of this name.
    pub(crate) fn tensor(
        &mut self,
        name: &str,
    ) -> &mut (String, &'static str, Vec<usize>, Vec<u8>) {
        self.tensors
            .iter_mut()
            .find(|tensor| tensor.0 == name)
            .expect("the tiny model has it")
    }

    pub(crate) fn set(&mut self, key: &str, value: Json) {
        self.config[key] = value;
    }

    pub(crate) fn unset(&mut self, key: &str) {
        if let Some(object) = self.config.as_object_mut() {
            object.remove(key);
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.tensors.retain(|tensor| tensor.0 != name);
    }

    pub(crate) fn config_text(&self) -> Vec<u8> {
        self.config.to_string().into_bytes()
    }

    /// The entries of the header and the data.
    pub(crate) fn entries(&self) -> (BTreeMap<String, Json>, Vec<u8>) {
        let mut data: Vec<u8> = Vec::new();
        let mut entries = BTreeMap::new();
        for (name, dtype, shape, bytes) in &self.tensors {
            let from = data.len();
            data.extend(bytes);
            entries.insert(
                name.clone(),
                json!({"dtype": dtype, "shape": shape, "data_offsets": [from, data.len()]}),
            );
        }
        (entries, data)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (entries, data) = self.entries();
        let header = serde_json::to_string(&entries).expect("a map of JSON is JSON");
        join(header.as_bytes(), &data)
    }
}

/// A safetensors file of any header text and data.
pub(crate) fn join(header: &[u8], data: &[u8]) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header);
    out.extend(data);
    out
}

/// Reads what an engine reads: every linear (`rows` of each matrix, all where it is `None`), every norm, the ends of
/// embedding and head, and the vocabulary. Returns the weights of the last linear.
pub(crate) fn read_all(checkpoint: &Checkpoint, rows: Option<usize>) -> Result<Vec<i8>, FileError> {
    let config = checkpoint.config();
    let mut codes = Vec::new();
    for layer in 0..config.layers {
        for linear in Linear::ALL {
            let source = checkpoint.linear(layer, linear)?;
            let rows = rows.unwrap_or(source.rows()).min(source.rows());
            codes.resize(rows * source.k(), 0);
            source.read_codes(source.rows() - rows..source.rows(), &mut codes)?;
            checkpoint.release(&source);
        }
        checkpoint.norm(Some(layer), Norm::Attn)?;
        checkpoint.norm(Some(layer), Norm::Ffn)?;
        if config.sub_norms {
            checkpoint.norm(Some(layer), Norm::AttnSub)?;
            checkpoint.norm(Some(layer), Norm::FfnSub)?;
        }
    }
    checkpoint.norm(None, Norm::Final)?;
    let mut row = vec![0.0; config.hidden];
    for matrix in [Some(checkpoint.embedding()?), checkpoint.head()?]
        .into_iter()
        .flatten()
    {
        matrix.row(0, &mut row);
        matrix.row(matrix.rows() - 1, &mut row);
    }
    checkpoint.tokenizer()?;
    Ok(codes)
}

/// The address space of this process, in bytes: every allocation counts, touched or not.
pub(crate) fn address_space() -> Option<u64> {
    status("VmSize:")
}

/// The largest address space that it ever had.
pub(crate) fn peak_address_space() -> Option<u64> {
    status("VmPeak:")
}

fn status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
