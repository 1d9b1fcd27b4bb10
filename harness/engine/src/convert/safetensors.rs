//! Folders of packed safetensors, as transformers reads them.

use std::io::Write;
use std::path::Path;

use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::{
    CHUNK_BYTES, ConvertError, Converted, matrices, multiplier, vocabulary, write_matrix,
    written_type,
};
use crate::file::{
    Activation, Checkpoint, Config, FileError, FileName, FloatMatrix, FloatType, Linear,
    LinearScale, LinearSource, Norm, TokenizerSource, hf_norm_name, hf_stem, write_file,
    write_folder,
};
use crate::tokenizer::Tokenizer;

/// One tensor of the file, in its order.
struct Tensor {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: usize,
    content: Content,
}

enum Content {
    Matrix(FloatMatrix, FloatType),
    Floats(Vec<f32>),
    Linear(Box<LinearSource>),
}

/// Writes `checkpoint` as a folder: `config.json`, `model.safetensors` with linears of four rows a byte, and `tokenizer.json` where
/// there is a vocabulary. The folder appears under its name when it is complete; one that holds something is not replaced.
///
/// # Errors
/// When the model cannot be read, a linear has rows that are no multiple of four, or the system refuses (a full disk, for
/// example); then nothing is left behind.
pub fn to_folder(
    checkpoint: &Checkpoint,
    with_vocabulary: bool,
    path: &Path,
) -> Result<Converted, ConvertError> {
    let config = checkpoint.config();
    // One rule for all scales: dividing stays dividing where every linear does it.
    let mut divide = true;
    for layer in 0..config.layers {
        for linear in Linear::ALL {
            let source = checkpoint.linear(layer, linear)?;
            divide &= matches!(source.scale(), LinearScale::Divide(_));
        }
    }
    let tensors = tensors(checkpoint, divide)?;
    let header = header(&tensors);
    let tokenizer =
        match checkpoint.tokenizer()? {
            _ if !with_vocabulary => None,
            TokenizerSource::Json(path) => Some(std::fs::read_to_string(&path).map_err(
                |error| ConvertError::Vocabulary {
                    file: path.display().to_string(),
                    problem: error.to_string(),
                },
            )?),
            source => Tokenizer::load(&source, config)?
                .map(|tokenizer| tokenizer.to_json())
                .transpose()?,
        };
    let tokenizer = tokenizer.map(|text| vocabulary::for_transformers(text, config));
    let report = Converted {
        architecture: model_type(config).to_owned(),
        bytes: header.len() as u64 + tensors.iter().map(|t| t.bytes as u64).sum::<u64>(),
        vocabulary: tokenizer.is_some(),
        ..Converted::default()
    };
    write_folder(path, |dir| {
        let text = |name: &str, text: &str| {
            write_file(&dir.join(name), |file, out| {
                out.write_all(text.as_bytes())
                    .map_err(|e| file.io("write", e))
            })
        };
        text(
            "config.json",
            &format!("{:#}\n", config_json(config, divide)),
        )?;
        if let Some((tokenizer, config)) = &tokenizer {
            text("tokenizer.json", tokenizer)?;
            text("tokenizer_config.json", &format!("{config:#}\n"))?;
        }
        write_file(&dir.join("model.safetensors"), |file, out| {
            write(checkpoint, &header, &tensors, file, out)
        })
    })?;
    Ok(report)
}

const fn model_type(config: &Config) -> &'static str {
    if config.sub_norms { "bitnet" } else { "llama" }
}

fn config_json(config: &Config, divide: bool) -> Value {
    // As short as an f32 is written: a detour over f64 would add digits.
    let short = |value: f32| value.to_string().parse::<f64>().unwrap_or(f64::from(value));
    let class = if config.sub_norms {
        "BitNetForCausalLM"
    } else {
        "LlamaForCausalLM"
    };
    let mut out = json!({
        "architectures": [class],
        "model_type": model_type(config),
        "vocab_size": config.vocab,
        "hidden_size": config.hidden,
        "intermediate_size": config.ffn,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "hidden_act": match config.activation {
            Activation::Relu2 => "relu2",
            Activation::Silu => "silu",
        },
        "max_position_embeddings": config.context,
        "rms_norm_eps": short(config.rms_eps),
        "rope_theta": short(config.rope_base),
        "tie_word_embeddings": config.tied_head,
        "attention_bias": false,
        "torch_dtype": "bfloat16",
        "quantization_config": {
            "quant_method": "bitnet",
            "linear_class": if divide { "bitlinear" } else { "autobitlinear" },
            "quantization_mode": "offline",
        },
    });
    if let Some(bos) = config.bos {
        out["bos_token_id"] = bos.into();
    }
    // The first is the one that ends a text.
    let others = config.stop.iter().filter(|id| Some(**id) != config.eos);
    let stop: Vec<u32> = config.eos.iter().chain(others).copied().collect();
    match stop[..] {
        [] => {}
        [one] => out["eos_token_id"] = one.into(),
        _ => out["eos_token_id"] = stop.into(),
    }
    out
}

fn tensors(checkpoint: &Checkpoint, divide: bool) -> Result<Vec<Tensor>, ConvertError> {
    let config = checkpoint.config();
    let matrix = |name: &str, matrix: FloatMatrix| {
        let dtype = written_type(&matrix, false);
        Tensor {
            name: name.to_owned(),
            dtype: dtype.name(),
            shape: vec![matrix.rows(), matrix.cols()],
            bytes: matrix.rows() * matrix.cols() * dtype.block().1,
            content: Content::Matrix(matrix, dtype),
        }
    };
    let floats = |name: String, values: Vec<f32>| Tensor {
        name,
        dtype: "F32",
        shape: vec![values.len()],
        bytes: 4 * values.len(),
        content: Content::Floats(values),
    };
    let (embedding, head) = matrices(checkpoint)?;
    let mut out = vec![matrix("model.embed_tokens.weight", embedding)];
    out.push(floats(
        hf_norm_name(0, Norm::Final),
        checkpoint.norm(None, Norm::Final)?,
    ));
    out.extend(head.map(|head| matrix("lm_head.weight", head)));
    for layer in 0..config.layers {
        for norm in [Norm::Attn, Norm::AttnSub, Norm::Ffn, Norm::FfnSub] {
            if config.sub_norms || !matches!(norm, Norm::AttnSub | Norm::FfnSub) {
                out.push(floats(
                    hf_norm_name(layer, norm),
                    checkpoint.norm(Some(layer), norm)?,
                ));
            }
        }
        for linear in Linear::ALL {
            let source = checkpoint.linear(layer, linear)?;
            let name = format!("model.layers.{layer}.{}.weight", hf_stem(linear));
            let (rows, k) = (source.rows(), source.k());
            if !rows.is_multiple_of(4) {
                return Err(ConvertError::Shape {
                    tensor: name,
                    k: rows,
                    block: 4,
                    dtype: "packed",
                    hint: "convert to a GGUF type",
                });
            }
            let scale = match source.scale() {
                LinearScale::Divide(scale) if divide => scale,
                _ => multiplier(&source),
            };
            out.push(floats(format!("{name}_scale"), vec![scale]));
            out.push(Tensor {
                name,
                dtype: "U8",
                shape: vec![rows / 4, k],
                bytes: rows / 4 * k,
                content: Content::Linear(Box::new(source)),
            });
        }
    }
    Ok(out)
}

/// Eight bytes of length, then JSON with the place of each tensor, blanks at its end so that the data are aligned.
fn header(tensors: &[Tensor]) -> Vec<u8> {
    let mut entries = Map::new();
    let mut at = 0;
    for tensor in tensors {
        let end = at + tensor.bytes;
        let entry = json!({
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [at, end],
        });
        entries.insert(tensor.name.clone(), entry);
        at = end;
    }
    entries.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(64), b' ');
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text);
    out
}

fn write(
    checkpoint: &Checkpoint,
    header: &[u8],
    tensors: &[Tensor],
    file: &FileName,
    out: &mut impl Write,
) -> Result<(), FileError> {
    let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(|e| file.io("write", e));
    put(header)?;
    for tensor in tensors {
        match &tensor.content {
            Content::Matrix(matrix, dtype) => write_matrix(matrix, *dtype, &mut put)?,
            Content::Floats(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                put(&bytes)?;
            }
            Content::Linear(source) => {
                write_packed(source, &mut put)?;
                checkpoint.release(source);
            }
        }
    }
    Ok(())
}

/// Byte row `r` holds the rows `r + i · rows / 4` at bits `2 · i`.
fn write_packed(
    source: &LinearSource,
    put: &mut impl FnMut(&[u8]) -> Result<(), FileError>,
) -> Result<(), FileError> {
    let (quarter, k) = (source.rows() / 4, source.k());
    let step = (CHUNK_BYTES / k).max(1);
    let mut out = vec![0; step.min(quarter) * k];
    for first in (0..quarter).step_by(step) {
        let rows = step.min(quarter - first);
        let out = &mut out[..rows * k];
        out.par_chunks_mut(k).enumerate().try_for_each_init(
            || vec![0i8; k],
            |codes, (index, out)| {
                out.fill(0);
                for i in 0..4 {
                    let row = first + index + i * quarter;
                    source.read_codes(row..row + 1, codes)?;
                    for (out, code) in out.iter_mut().zip(codes.iter()) {
                        *out |= ((code + 1) as u8) << (2 * i);
                    }
                }
                Ok(())
            },
        )?;
        put(out)?;
    }
    Ok(())
}
