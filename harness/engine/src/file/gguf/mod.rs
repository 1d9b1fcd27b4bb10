//! GGUF files as checkpoints.

mod header;
mod types;
pub(crate) mod write;

use header::{Header, TensorHeader, kind};
use types::{Claim, TensorType};

pub use types::id as type_id;
pub use write::HeaderWriter;

use super::config::MAX_VOCAB;
use super::float::FloatType;
use super::ternary::tl::{Tl, TlTile};
use super::ternary::{self, I2S_TAIL, TQ_BLOCK, TQ1_BYTES, TQ2_BYTES, iq_bn};
use super::{
    Activation, Backend, Bytes, Checkpoint, Codes, Config, Field, FileError, FileName, FileOptions,
    FloatMatrix, I2sForm, Linear, LinearScale, LinearSource, Norm, RawConfig, Role, TensorInfo,
    TokenizerSource,
};

/// Most merges that are believed; Llama 3 has 280,147.
const MAX_MERGES: usize = 1 << 22;
/// Texts of tokens that end a turn of a chat, in the families that this engine runs.
const TURN_ENDS: [&str; 3] = ["<|eot_id|>", "<|im_end|>", "<|end_of_turn|>"];

const EMBEDDING: &str = "token_embd.weight";
const HEAD: &str = "output.weight";

struct Gguf {
    file: FileName,
    bytes: Bytes,
    config: Config,
    options: FileOptions,
    tensors: std::collections::BTreeMap<String, Tensor>,
}

/// A tensor whose type is known and whose bytes are in the file.
struct Tensor {
    header: TensorHeader,
    dtype: TensorType,
    bytes: usize,
}

/// The stem of a linear's tensors, between `blk.N.` and `.weight`.
pub const fn stem(linear: Linear) -> &'static str {
    match linear {
        Linear::Q => "attn_q",
        Linear::K => "attn_k",
        Linear::V => "attn_v",
        Linear::O => "attn_output",
        Linear::Gate => "ffn_gate",
        Linear::Up => "ffn_up",
        Linear::Down => "ffn_down",
    }
}

/// The name of a norm's tensor; the layer does not matter to the last one.
pub fn norm_name(layer: usize, norm: Norm) -> String {
    let stem = match norm {
        Norm::Attn => "attn_norm",
        Norm::AttnSub => "attn_sub_norm",
        Norm::Ffn => "ffn_norm",
        Norm::FfnSub => "ffn_sub_norm",
        Norm::Final => return "output_norm.weight".to_owned(),
    };
    format!("blk.{layer}.{stem}.weight")
}

/// Reads a GGUF file: header, types, configuration and the presence and shape of every tensor that the model needs.
pub(crate) fn open(
    bytes: &Bytes,
    file: &FileName,
    options: FileOptions,
) -> Result<Checkpoint, FileError> {
    let gguf = {
        let header = Header::parse(file, bytes.get())?;
        let architecture = header
            .text("general.architecture")?
            .ok_or_else(|| file.invalid("general.architecture", "is missing"))?
            .to_owned();
        let tensors = typed_tensors(&header, file)?;
        let config = config(&header, file, &architecture, &tensors)?;
        check_vocabulary(&header, file, &config)?;
        Gguf {
            file: file.clone(),
            bytes: bytes.clone(),
            config,
            options,
            tensors,
        }
    };
    gguf.check_tensors()?;
    let config = gguf.config.clone();
    Ok(Checkpoint::new(config, "gguf", Box::new(gguf)))
}

/// Finds the type and size of every tensor and checks that it ends before the next one begins.
fn typed_tensors(
    header: &Header<'_>,
    file: &FileName,
) -> Result<std::collections::BTreeMap<String, Tensor>, FileError> {
    let file_type = header.unsigned("general.file_type")?;
    let mut tensors = std::collections::BTreeMap::new();
    for (name, info) in &header.tensors {
        let claim = Claim {
            type_id: info.type_id,
            elements: info.elements,
            row: info.dims[0],
            room: info.room.len() as u64,
            file_type,
        };
        let (dtype, bytes) = claim.resolve().map_err(|refusal| match refusal {
            types::Refusal::Invalid(problem) => file.invalid(name, problem),
            types::Refusal::Unsupported(problem, hint) => file.unsupported(name, problem, hint),
        })?;
        tensors.insert(
            name.clone(),
            Tensor {
                header: info.clone(),
                dtype,
                bytes: bytes as usize,
            },
        );
    }
    Ok(tensors)
}

fn config(
    header: &Header<'_>,
    file: &FileName,
    architecture: &str,
    tensors: &std::collections::BTreeMap<String, Tensor>,
) -> Result<Config, FileError> {
    let (sub_norms, interleaved, default_activation) = match architecture {
        "bitnet-b1.58" | "bitnet-25" => (true, false, Activation::Relu2),
        "bitnet" => (true, false, Activation::Silu),
        "llama" => (false, true, Activation::Silu),
        other => {
            return Err(file.unsupported(
                "general.architecture",
                format!("is `{other}`"),
                "this engine runs bitnet-b1.58, bitnet-25, bitnet and llama",
            ));
        }
    };
    let key = |suffix: &str| format!("{architecture}.{suffix}");
    let required = |suffix: &str| -> Result<Field<u64>, FileError> {
        let name = key(suffix);
        match header.unsigned(&name)? {
            Some(value) => Ok(Field::new(name, value)),
            None => Err(file.invalid(name, "is missing")),
        }
    };
    let optional = |name: String| -> Result<Option<Field<u64>>, FileError> {
        Ok(header.unsigned(&name)?.map(|value| Field::new(name, value)))
    };
    let hidden = required("embedding_length")?;
    let heads = required("attention.head_count")?;
    let embedding = tensors
        .get(EMBEDDING)
        .ok_or_else(|| file.invalid(EMBEDDING, "is missing"))?;
    let rows = embedding.header.dims.get(1).copied().unwrap_or(0);
    let vocab = match optional(key("vocab_size"))? {
        Some(field) if field.value != rows => {
            return Err(file.invalid(
                &field.name,
                format!("is {}, and `{EMBEDDING}` has {rows} rows", field.value),
            ));
        }
        Some(field) => field,
        None => Field::new(EMBEDDING, rows),
    };
    let rms_eps = {
        let name = key("attention.layer_norm_rms_epsilon");
        let value = header
            .float(&name)?
            .ok_or_else(|| file.invalid(&name, "is missing"))?;
        Field::new(name, value)
    };
    let rope_base = {
        let name = key("rope.freq_base");
        // 10,000 where it is missing, as in ggml.
        let value = header.float(&name)?.unwrap_or(10_000.0);
        Field::new(name, value)
    };
    if let Some(scaling) = header.text(&key("rope.scaling.type"))?
        && scaling != "none"
    {
        return Err(file.unsupported(
            key("rope.scaling.type"),
            format!("is `{scaling}`"),
            "only models without rotary scaling run",
        ));
    }
    let head_dim = optional(key("attention.key_length"))?;
    let rope = optional(key("rope.dimension_count"))?;
    let activation = match header.text(&key("hidden_activation"))? {
        None => default_activation,
        Some("relu2" | "relu_sqr" | "relusqr") => Activation::Relu2,
        Some("silu" | "swish") => Activation::Silu,
        Some(other) => {
            return Err(file.unsupported(
                key("hidden_activation"),
                format!("is `{other}`"),
                "this engine runs relu2 and silu",
            ));
        }
    };
    let id = |name: &str| optional(format!("tokenizer.ggml.{name}_token_id"));
    let mut stop: Vec<_> = id("eot")?.into_iter().collect();
    if let Some(texts) = header.texts("tokenizer.ggml.tokens")? {
        for (index, text) in texts.enumerate() {
            if TURN_ENDS.contains(&text?) {
                stop.push(Field::new("tokenizer.ggml.tokens", index as u64));
            }
        }
    }
    let kv_heads = optional(key("attention.head_count_kv"))?.unwrap_or_else(|| heads.clone());
    let config = RawConfig {
        architecture: architecture.to_owned(),
        hidden,
        ffn: required("feed_forward_length")?,
        layers: required("block_count")?,
        heads,
        kv_heads,
        head_dim,
        vocab,
        context: required("context_length")?,
        rms_eps,
        rope_base,
        activation,
        sub_norms,
        tied_head: !tensors.contains_key(HEAD),
        bos: id("bos")?,
        eos: id("eos")?,
        stop,
        add_bos: header.bool("tokenizer.ggml.add_bos_token")?,
        rope_interleaved: interleaved,
    }
    .check(file)?;
    if let Some(rope) = rope
        && rope.value != config.head_dim as u64
    {
        return Err(file.unsupported(
            &rope.name,
            format!(
                "is {}, and heads have {} values",
                rope.value, config.head_dim
            ),
            "only models that rotate whole heads run",
        ));
    }
    Ok(config)
}

/// The vocabulary must be as long as the embedding; its parts as long as each other.
fn check_vocabulary(
    header: &Header<'_>,
    file: &FileName,
    config: &Config,
) -> Result<(), FileError> {
    for (key, kinds) in [
        ("tokenizer.ggml.tokens", &[kind::STRING][..]),
        ("tokenizer.ggml.scores", &[kind::F32]),
        ("tokenizer.ggml.token_type", &[kind::I32, kind::U32]),
    ] {
        // The error of the first kind is the one to show.
        let mut found = header.array_len(key, kinds[0]);
        if found.is_err() && kinds.len() > 1 {
            found = header.array_len(key, kinds[1]).or(found);
        }
        if let Some(len) = found?
            && len != config.vocab
        {
            return Err(file.invalid(
                key,
                format!("has {len} entries, and the embedding has {}", config.vocab),
            ));
        }
    }
    if let Some(len) = header.array_len("tokenizer.ggml.merges", kind::STRING)?
        && len > MAX_MERGES
    {
        return Err(file.invalid(
            "tokenizer.ggml.merges",
            format!("has {len} entries, want at most {MAX_MERGES}"),
        ));
    }
    header.text("tokenizer.ggml.model")?;
    header.text("tokenizer.ggml.pre")?;
    header.bool("tokenizer.ggml.add_space_prefix")?;
    if let Some(unknown) = header.unsigned("tokenizer.ggml.unknown_token_id")?
        && unknown >= config.vocab as u64
    {
        return Err(file.invalid(
            "tokenizer.ggml.unknown_token_id",
            format!(
                "token {unknown} is outside the vocabulary of {}",
                config.vocab
            ),
        ));
    }
    Ok(())
}

impl Gguf {
    /// Checks that every tensor the model needs is there with its shape and a type that can be read, and that none is
    /// there that would change the result.
    fn check_tensors(&self) -> Result<(), FileError> {
        for name in self.tensors.keys() {
            if name
                .rsplit_once('.')
                .is_some_and(|(_, last)| last == "bias")
                || name.starts_with("rope_freqs")
            {
                return Err(self.file.unsupported(
                    name,
                    "this engine does not read it, and leaving it out would change the result",
                    "only models without biases and rotary factors run",
                ));
            }
        }
        self.embedding()?;
        self.head()?;
        self.norm_tensor(0, Norm::Final)?;
        for layer in 0..self.config.layers {
            let mut norms = vec![Norm::Attn, Norm::Ffn];
            if self.config.sub_norms {
                norms.extend([Norm::AttnSub, Norm::FfnSub]);
            }
            for norm in norms {
                self.norm_tensor(layer, norm)?;
            }
            for linear in Linear::ALL {
                let tensor = self.linear_tensor(layer, linear)?.1;
                if matches!(
                    tensor.dtype,
                    TensorType::I2S | TensorType::Tl1 | TensorType::Tl2
                ) {
                    self.tail_scale(layer, linear)?;
                }
                self.extra_scale(layer, linear)?;
            }
        }
        Ok(())
    }

    fn tensor(&self, name: &str, dims: &[u64]) -> Result<&Tensor, FileError> {
        let tensor = self
            .tensors
            .get(name)
            .ok_or_else(|| self.file.invalid(name, "is missing"))?;
        // Trailing dimensions of 1 say nothing.
        let significant = tensor.header.dims.iter().rposition(|dim| *dim != 1);
        let got = &tensor.header.dims[..significant.map_or(1, |last| last + 1)];
        let want = dims.iter().rposition(|dim| *dim != 1);
        if got != &dims[..want.map_or(1, |last| last + 1)] {
            return Err(self.file.invalid(
                name,
                format!(
                    "has the dimensions {:?}, and the configuration asks for {dims:?}",
                    tensor.header.dims
                ),
            ));
        }
        Ok(tensor)
    }

    fn slice(&self, tensor: &Tensor) -> Bytes {
        let start = tensor.header.room.start;
        self.bytes
            .slice(start..start + tensor.bytes)
            .expect("sizes were checked against the file when it was opened")
    }

    fn linear_tensor(&self, layer: usize, linear: Linear) -> Result<(String, &Tensor), FileError> {
        let name = format!("blk.{layer}.{}.weight", stem(linear));
        let (rows, k) = self.config.linear_shape(linear);
        let tensor = self.tensor(&name, &[k as u64, rows as u64])?;
        match tensor.dtype {
            TensorType::I2S => {
                let block = match self.options.i2s {
                    I2sForm::X86 => 128,
                    I2sForm::Arm => 64,
                };
                if !k.is_multiple_of(block) {
                    return Err(self.file.invalid(
                        &name,
                        format!("is I2_S with rows of {k}, which are no whole blocks of {block}"),
                    ));
                }
            }
            TensorType::Tl1 => {
                self.tile(Tl::One, &name, tensor, rows, k)?;
            }
            TensorType::Tl2 => {
                self.tile(Tl::Two, &name, tensor, rows, k)?;
            }
            TensorType::Tq1
            | TensorType::Tq2
            | TensorType::Iq1Bn
            | TensorType::Iq2Bn
            | TensorType::Iq2BnR4
            | TensorType::Float(FloatType::F32 | FloatType::F16 | FloatType::Bf16) => {}
            TensorType::Float(other) => {
                return Err(self.file.unsupported(
                    &name,
                    format!("is a ternary linear in {}", other.name()),
                    "convert the model with linears in I2_S, TQ1_0, TQ2_0, F16, BF16 or F32",
                ));
            }
        }
        Ok((name, tensor))
    }

    /// The tile sizes of a `TL1` or `TL2` tensor, checked against its size.
    fn tile(
        &self,
        tl: Tl,
        name: &str,
        tensor: &Tensor,
        rows: usize,
        k: usize,
    ) -> Result<TlTile, FileError> {
        let dtype = tensor.dtype.name();
        let tile = tl.tile(&self.options.tl_tiles, rows, k).ok_or_else(|| {
            self.file.unsupported(
                name,
                format!("is {dtype}, whose tile sizes are not in the file, and {rows} x {k} is no shape of bitnet.cpp's presets"),
                format!("give the sizes that it was made with: --tl-tiles {rows}x{k}=BM/BK/bm, as in its kernel_config.ini"),
            )
        })?;
        match tl.problem(&tile, tensor.bytes - I2S_TAIL) {
            None => Ok(tile),
            Some(problem) => Err(self.file.unsupported(
                name,
                format!("is {dtype}, and cannot have the tiles {tile}: {problem}"),
                "give the sizes that it was made with to --tl-tiles",
            )),
        }
    }

    /// The scale behind the codes of `I2_S`, `TL1` and `TL2`.
    fn tail_scale(&self, layer: usize, linear: Linear) -> Result<f32, FileError> {
        let (name, tensor) = self.linear_tensor(layer, linear)?;
        let bytes = self.slice(tensor);
        let tail = &bytes.get()[tensor.bytes - I2S_TAIL..];
        let scale = f32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
        usable_scale(&self.file, &name, scale)
    }

    /// `blk.N.<linear>.scale`, which multiplies what the tensor's own scale gives.
    fn extra_scale(&self, layer: usize, linear: Linear) -> Result<f32, FileError> {
        let name = format!("blk.{layer}.{}.scale", stem(linear));
        if !self.tensors.contains_key(&name) {
            return Ok(1.0);
        }
        let tensor = self.tensor(&name, &[1])?;
        if tensor.dtype != TensorType::Float(FloatType::F32) {
            return Err(self
                .file
                .invalid(&name, format!("has type {}, want F32", tensor.dtype.name())));
        }
        let mut scale = [0.0];
        FloatType::F32.decode(self.slice(tensor).get(), &mut scale);
        usable_scale(&self.file, &name, scale[0])
    }

    fn norm_tensor(&self, layer: usize, norm: Norm) -> Result<(String, Bytes), FileError> {
        let name = norm_name(layer, norm);
        let width = match norm {
            Norm::FfnSub => self.config.ffn,
            _ => self.config.hidden,
        };
        let tensor = self.tensor(&name, &[width as u64])?;
        if tensor.dtype != TensorType::Float(FloatType::F32) {
            return Err(self.file.unsupported(
                &name,
                format!("has type {}", tensor.dtype.name()),
                "norms of GGUF files are F32",
            ));
        }
        let bytes = self.slice(tensor);
        Ok((name, bytes))
    }

    fn matrix(&self, name: &str) -> Result<FloatMatrix, FileError> {
        let (vocab, hidden) = (self.config.vocab, self.config.hidden);
        let tensor = self.tensor(name, &[hidden as u64, vocab as u64])?;
        let TensorType::Float(dtype) = tensor.dtype else {
            return Err(self.file.unsupported(
                name,
                format!("has type {}", tensor.dtype.name()),
                "embedding and head are read as F32, F16, BF16, Q8_0, Q6_K and Q4_0",
            ));
        };
        FloatMatrix::new(vocab, hidden, dtype, self.slice(tensor))
            .ok_or_else(|| self.file.invalid(name, "has rows that are no whole blocks"))
    }
}

/// A scale that a result can be multiplied with or divided by.
pub(crate) fn usable_scale(file: &FileName, name: &str, scale: f32) -> Result<f32, FileError> {
    if scale.is_normal() {
        Ok(scale)
    } else {
        Err(file.invalid(
            name,
            format!("has the scale {scale}, want a finite number that is not 0"),
        ))
    }
}

impl Backend for Gguf {
    fn linear(&self, layer: usize, linear: Linear) -> Result<LinearSource, FileError> {
        let (name, tensor) = self.linear_tensor(layer, linear)?;
        let (rows, k) = self.config.linear_shape(linear);
        let bytes = self.slice(tensor);
        let (codes, scale) = match tensor.dtype {
            TensorType::I2S | TensorType::Tl1 | TensorType::Tl2 => {
                let scale = self.tail_scale(layer, linear)?;
                let bytes = bytes
                    .slice(0..bytes.len() - I2S_TAIL)
                    .expect("tensors of these types have a tail");
                let tile = |tl| self.tile(tl, &name, tensor, rows, k);
                let codes = match (tensor.dtype, self.options.i2s) {
                    (TensorType::Tl1, _) => Codes::Tl1 {
                        tile: tile(Tl::One)?,
                        bytes,
                    },
                    (TensorType::Tl2, _) => Codes::Tl2 {
                        tile: tile(Tl::Two)?,
                        bytes,
                    },
                    (_, I2sForm::X86) => Codes::I2s(bytes),
                    (_, I2sForm::Arm) => Codes::I2sArm(bytes),
                };
                (codes, scale)
            }
            TensorType::Iq1Bn | TensorType::Iq2Bn | TensorType::Iq2BnR4 => {
                let all = bytes.get();
                let scale = match tensor.dtype {
                    TensorType::Iq1Bn => ternary::one_scale(iq_bn::iq1_scales(all, k), "row"),
                    TensorType::Iq2Bn => ternary::one_scale(iq_bn::iq2_scales(all, k), "row"),
                    _ => ternary::one_scale(iq_bn::iq2_r4_scales(all, k), "row"),
                }
                .map_err(|problem| self.file.invalid(&name, problem))?;
                let codes = match tensor.dtype {
                    TensorType::Iq1Bn => Codes::Iq1Bn(bytes),
                    TensorType::Iq2Bn => Codes::Iq2Bn(bytes),
                    _ => Codes::Iq2BnR4(bytes),
                };
                (codes, scale)
            }
            TensorType::Tq1 | TensorType::Tq2 => {
                debug_assert!(k.is_multiple_of(TQ_BLOCK));
                let (block, codes) = match tensor.dtype {
                    TensorType::Tq1 => (TQ1_BYTES, Codes::Tq1(bytes.clone())),
                    _ => (TQ2_BYTES, Codes::Tq2(bytes.clone())),
                };
                let scale = ternary::tq_scale(bytes.get(), block)
                    .map_err(|problem| self.file.invalid(&name, problem))?;
                (codes, scale)
            }
            TensorType::Float(dtype) => {
                // Converters write master weights already quantized: ternary times one scale. Anything else is a
                // master matrix.
                let (factor, scale) = super::linear::quantization(dtype, bytes.get(), true)
                    .ok_or_else(|| {
                        self.file
                            .invalid(&name, "holds a weight that is not a finite number")
                    })?;
                (
                    Codes::Float {
                        dtype,
                        bytes,
                        factor,
                    },
                    scale,
                )
            }
        };
        let scale = usable_scale(&self.file, &name, scale * self.extra_scale(layer, linear)?)?;
        let interleaved = (self.config.rope_interleaved && matches!(linear, Linear::Q | Linear::K))
            .then_some(self.config.head_dim);
        Ok(LinearSource {
            file: self.file.clone(),
            name,
            rows,
            k,
            scale: LinearScale::Multiply(scale),
            codes,
            interleaved,
        })
    }

    fn norm(&self, layer: usize, norm: Norm) -> Result<Vec<f32>, FileError> {
        let (name, bytes) = self.norm_tensor(layer, norm)?;
        super::float::finite_vector(&self.file, &name, FloatType::F32, bytes.get())
    }

    fn embedding(&self) -> Result<FloatMatrix, FileError> {
        self.matrix(EMBEDDING)
    }

    fn head(&self) -> Result<Option<FloatMatrix>, FileError> {
        if self.config.tied_head {
            return Ok(None);
        }
        self.matrix(HEAD).map(Some)
    }

    fn tokenizer(&self) -> Result<TokenizerSource, FileError> {
        // The header was checked when the file was opened; parsing it again is cheaper than holding every token twice.
        let header = Header::parse(&self.file, self.bytes.get())?;
        let Some(tokens) = header.texts("tokenizer.ggml.tokens")? else {
            return Ok(TokenizerSource::None);
        };
        debug_assert!(self.config.vocab <= MAX_VOCAB);
        let tokens = tokens
            .map(|text| text.map(str::to_owned))
            .collect::<Result<Vec<_>, _>>()?;
        let token_types = header
            .ints("tokenizer.ggml.token_type")?
            .unwrap_or_default();
        match header.text("tokenizer.ggml.model")? {
            Some("gpt2") => {
                let merges = match header.texts("tokenizer.ggml.merges")? {
                    Some(merges) => merges
                        .map(|text| text.map(str::to_owned))
                        .collect::<Result<Vec<_>, _>>()?,
                    None => {
                        return Err(self.file.invalid("tokenizer.ggml.merges", "is missing"));
                    }
                };
                Ok(TokenizerSource::GgufBpe {
                    tokens,
                    merges,
                    token_types,
                    pre: header.text("tokenizer.ggml.pre")?.map(str::to_owned),
                })
            }
            Some("llama") => Ok(TokenizerSource::GgufSentencePiece {
                tokens,
                scores: header
                    .floats("tokenizer.ggml.scores")?
                    .ok_or_else(|| self.file.invalid("tokenizer.ggml.scores", "is missing"))?,
                token_types,
                unknown: header
                    .unsigned("tokenizer.ggml.unknown_token_id")?
                    .map(|id| id as u32),
                add_space_prefix: header
                    .bool("tokenizer.ggml.add_space_prefix")?
                    .unwrap_or(true),
            }),
            Some(other) => Err(self.file.unsupported(
                "tokenizer.ggml.model",
                format!("is `{other}`"),
                "vocabularies of type gpt2 and llama are read",
            )),
            None => Err(self.file.invalid("tokenizer.ggml.model", "is missing")),
        }
    }

    fn tensors(&self) -> Vec<TensorInfo> {
        self.tensors
            .iter()
            .map(|(name, tensor)| TensorInfo {
                name: name.clone(),
                dtype: tensor.dtype.name().to_owned(),
                shape: tensor.header.dims.iter().rev().copied().collect(),
                bytes: tensor.bytes as u64,
                role: self.role(name),
            })
            .collect()
    }
}

impl Gguf {
    fn role(&self, name: &str) -> Role {
        match name {
            EMBEDDING => return Role::Embedding,
            HEAD => return Role::Head,
            "output_norm.weight" => return Role::Norm,
            _ => {}
        }
        let Some((layer, rest)) = name
            .strip_prefix("blk.")
            .and_then(|rest| rest.split_once('.'))
        else {
            return Role::Unused;
        };
        if layer
            .parse::<usize>()
            .map_or(true, |layer| layer >= self.config.layers)
        {
            return Role::Unused;
        }
        let Some((stem_, suffix)) = rest.rsplit_once('.') else {
            return Role::Unused;
        };
        let linear = Linear::ALL.iter().any(|linear| stem(*linear) == stem_);
        match (suffix, stem_) {
            ("weight" | "scale", _) if linear => Role::Linear,
            ("weight", "attn_norm" | "ffn_norm") => Role::Norm,
            ("weight", "attn_sub_norm" | "ffn_sub_norm") if self.config.sub_norms => Role::Norm,
            _ => Role::Unused,
        }
    }
}
