//! Writes a model as others read it: GGUF (`I2_S`, architecture `bitnet-b1.58`), and a Hugging Face folder (packed safetensors).
//!
//! Both hold the same numbers: ternary codes with one f32 scale a matrix, norms in f32, and the embedding rounded to f16.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use candle_core::Tensor;
use half::f16;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use tokenizers::Tokenizer;
use trit_engine::file::{
    GgufHeader, Linear, Norm, gguf_norm_name, gguf_stem, gguf_type, token_type,
};
use trit_kernel::{AbsmeanWeights, Codes, LayoutId, Packed, absmean_codes};

use crate::checkpoint::{Blob, f32_blob, write_atomically, write_tensors};
use crate::data::{BOS, BOS_ID};
use crate::model::{EMBEDDING, FINAL_NORM, LINEARS, Model, NORMS, name};
use crate::ops::with_floats;

const ARCHITECTURE: &str = "bitnet-b1.58";
/// Bytes behind the codes of an `I2_S` tensor; the first four are the scale.
const I2S_TAIL: usize = 32;
/// Alignment of tensors in GGUF.
const ALIGNMENT: usize = 32;

/// Rounds the embedding to f16, as it is exported. Figures of an exported model are made after this.
///
/// # Errors
/// When a tensor cannot be set.
pub fn round_embedding(model: &Model) -> Result<()> {
    let var = &model.params[EMBEDDING];
    let rounded = with_floats(var, |w| {
        Ok(w.iter()
            .map(|w| f16::from_f32(*w).to_f32())
            .collect::<Vec<_>>())
    })?;
    Ok(var.set(&Tensor::from_vec(rounded, var.shape(), var.device())?)?)
}

fn values(model: &Model, name: &str) -> Result<Vec<f32>> {
    Ok(with_floats(&model.params[name], |w| Ok(w.to_vec()))?)
}

fn quantized(model: &Model, layer: usize, linear: &str) -> Result<AbsmeanWeights> {
    Ok(absmean_codes(&values(model, &name(layer, linear))?))
}

fn half_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|v| f16::from_f32(*v).to_le_bytes())
        .collect()
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn check(model: &Model) -> Result<()> {
    ensure!(
        model.config.ternary,
        "this is a float twin; hint: the exported formats hold ternary models"
    );
    ensure!(
        model.adapters.is_none(),
        "the model has adapters; hint: merge them first"
    );
    Ok(())
}

/// Tokens in byte-level spelling by id, and merges, best first.
fn vocabulary(tokenizer: &Tokenizer) -> Result<(Vec<String>, Vec<String>)> {
    let ids: BTreeMap<u32, String> = tokenizer
        .get_vocab(true)
        .into_iter()
        .map(|(token, id)| (id, token))
        .collect();
    let json = tokenizer
        .to_string(false)
        .map_err(|error| anyhow!("tokenizer: {error}"))?;
    let json: Value = serde_json::from_str(&json).context("tokenizer")?;
    let merges = json["model"]["merges"]
        .as_array()
        .context("the tokenizer has no merges")?
        .iter()
        .map(|merge| match merge {
            Value::String(pair) => Ok(pair.clone()),
            Value::Array(pair) => match &pair[..] {
                [Value::String(left), Value::String(right)] => Ok(format!("{left} {right}")),
                _ => Err(anyhow!("merge {merge} is not two tokens")),
            },
            _ => Err(anyhow!("merge {merge} is not two tokens")),
        })
        .collect::<Result<_>>()?;
    Ok((ids.into_values().collect(), merges))
}

/// Writes a GGUF file.
///
/// # Errors
/// When the model is not ternary, or the system refuses.
pub fn gguf(model: &Model, tokenizer: &Tokenizer, title: &str, path: &Path) -> Result<()> {
    check(model)?;
    let config = &model.config;
    let mut tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)> = vec![(
        "token_embd.weight".to_owned(),
        vec![config.hidden as u64, config.vocab as u64],
        gguf_type::F16,
        half_bytes(&values(model, EMBEDDING)?),
    )];
    let norm = |gguf: String, name: &str| -> Result<_> {
        let weights = values(model, name)?;
        Ok((
            gguf,
            vec![weights.len() as u64],
            gguf_type::F32,
            f32_bytes(&weights),
        ))
    };
    tensors.push(norm(gguf_norm_name(0, Norm::Final), FINAL_NORM)?);
    for layer in 0..config.layers {
        let kinds = [Norm::Attn, Norm::AttnSub, Norm::Ffn, Norm::FfnSub];
        for (kind, part) in kinds.into_iter().zip(NORMS) {
            tensors.push(norm(gguf_norm_name(layer, kind), &name(layer, part))?);
        }
        for (kind, linear) in Linear::ALL.into_iter().zip(LINEARS) {
            let (rows, k) = config.linear_shape(linear);
            let weights = quantized(model, layer, linear)?;
            let codes = Codes::new(&weights.codes, rows, k)?;
            let mut bytes = vec![0; rows * k / 4];
            Packed::pack_into(codes, LayoutId::I2S, &mut bytes);
            bytes.extend(weights.scale.to_le_bytes());
            bytes.resize(rows * k / 4 + I2S_TAIL, 0);
            tensors.push((
                format!("blk.{layer}.{}.weight", gguf_stem(kind)),
                vec![k as u64, rows as u64],
                gguf_type::I2_S,
                bytes,
            ));
        }
    }

    let (tokens, merges) = vocabulary(tokenizer)?;
    let types: Vec<i32> = tokens
        .iter()
        .map(|token| {
            if token == BOS {
                token_type::CONTROL
            } else {
                token_type::NORMAL
            }
        })
        .collect();
    let mut header = GgufHeader::default();
    let key = |suffix: &str| format!("{ARCHITECTURE}.{suffix}");
    header.text("general.architecture", ARCHITECTURE);
    header.text("general.name", title);
    // I2_S, in bitnet.cpp's numbering.
    header.u32("general.file_type", 40);
    header.u32("general.quantization_version", 2);
    for (suffix, value) in [
        ("vocab_size", config.vocab),
        ("context_length", config.context),
        ("embedding_length", config.hidden),
        ("block_count", config.layers),
        ("feed_forward_length", config.ffn),
        ("rope.dimension_count", config.head_dim()),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
    ] {
        header.u32(&key(suffix), u32::try_from(value)?);
    }
    header.f32(&key("attention.layer_norm_rms_epsilon"), config.rms_eps);
    header.f32(&key("rope.freq_base"), config.rope_base);
    header.text("tokenizer.ggml.model", "gpt2");
    header.text("tokenizer.ggml.pre", "llama-bpe");
    header.texts("tokenizer.ggml.tokens", &tokens);
    header.i32s("tokenizer.ggml.token_type", &types);
    header.texts("tokenizer.ggml.merges", &merges);
    header.u32("tokenizer.ggml.bos_token_id", BOS_ID);
    header.u32("tokenizer.ggml.eos_token_id", BOS_ID);
    header.bool("tokenizer.ggml.add_bos_token", true);
    for (name, dims, kind, bytes) in &tensors {
        header.tensor(name, dims, *kind, bytes.len() as u64);
    }
    let mut file = header.finish();
    for (_, _, _, bytes) in &tensors {
        file.extend(bytes);
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    }
    write_atomically(path, &file)
}

/// Four output rows a byte: bits `2 i` of row `r` are the code of row `i · rows / 4 + r`, plus 1.
fn pack_rows(codes: &[i8], rows: usize, k: usize) -> Vec<u8> {
    let quarter = rows / 4 * k;
    let mut out = vec![0u8; quarter];
    for (i, part) in codes.chunks_exact(quarter).enumerate() {
        for (out, code) in out.iter_mut().zip(part) {
            *out |= ((code + 1) as u8) << (2 * i);
        }
    }
    out
}

/// Writes a Hugging Face folder: `config.json`, `model.safetensors`, `tokenizer.json`, `tokenizer_config.json`.
///
/// # Errors
/// When the model is not ternary, or the system refuses.
pub fn folder(model: &Model, tokenizer: &Tokenizer, dir: &Path) -> Result<()> {
    check(model)?;
    let config = &model.config;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create `{}`", dir.display()))?;
    let mut tensors = BTreeMap::new();
    tensors.insert(
        EMBEDDING.to_owned(),
        Blob {
            dtype: Dtype::F16,
            shape: vec![config.vocab, config.hidden],
            bytes: half_bytes(&values(model, EMBEDDING)?),
        },
    );
    let mut norm = |name: String| -> Result<()> {
        let weights = values(model, &name)?;
        tensors.insert(name, f32_blob(vec![weights.len()], &weights));
        Ok(())
    };
    norm(FINAL_NORM.to_owned())?;
    for layer in 0..config.layers {
        for part in NORMS {
            norm(name(layer, part))?;
        }
    }
    for layer in 0..config.layers {
        for linear in LINEARS {
            let (rows, k) = config.linear_shape(linear);
            let weights = quantized(model, layer, linear)?;
            let name = name(layer, linear);
            tensors.insert(format!("{name}_scale"), f32_blob(vec![1], &[weights.scale]));
            tensors.insert(
                name,
                Blob {
                    dtype: Dtype::U8,
                    shape: vec![rows / 4, k],
                    bytes: pack_rows(&weights.codes, rows, k),
                },
            );
        }
    }
    write_tensors(
        &dir.join("model.safetensors"),
        &tensors,
        ("format", "pt".to_owned()),
    )?;
    let write = |file: &str, value: &Value| {
        let text = format!("{value:#}\n");
        write_atomically(&dir.join(file), text.as_bytes())
    };
    write(
        "config.json",
        &json!({
            "architectures": ["BitNetForCausalLM"],
            "model_type": "bitnet",
            "vocab_size": config.vocab,
            "hidden_size": config.hidden,
            "intermediate_size": config.ffn,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "num_key_value_heads": config.kv_heads,
            "hidden_act": "relu2",
            "max_position_embeddings": config.context,
            "rms_norm_eps": 1e-5,
            "rope_theta": config.rope_base,
            "tie_word_embeddings": true,
            "bos_token_id": BOS_ID,
            "eos_token_id": BOS_ID,
            "torch_dtype": "float32",
            "quantization_config": {
                "quant_method": "bitnet",
                "linear_class": "autobitlinear",
                "quantization_mode": "offline",
            },
        }),
    )?;
    write(
        "tokenizer_config.json",
        &json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": BOS,
            "add_bos_token": true,
            "model_max_length": config.context,
            "clean_up_tokenization_spaces": false,
        }),
    )?;
    let json = tokenizer
        .to_string(true)
        .map_err(|error| anyhow!("tokenizer: {error}"))?;
    write_atomically(&dir.join("tokenizer.json"), json.as_bytes())
}
