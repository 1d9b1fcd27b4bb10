//! Synthetic models as GGUF files.

use std::io::Write;
use std::path::Path;

use rayon::prelude::*;
use trit_kernel::{Codes, LayoutId, Packed};

use super::vocabulary::Vocabulary;
use super::{
    ARCHITECTURE, Part, RMS_EPS, Shape, config, embedding_row, norm_weights, row_codes, scale,
};
use crate::file::gguf_write::{HeaderWriter, type_id};
use crate::file::{Config, FileError, FileName, Linear, Norm, write_file};

/// Bytes of codes (one a weight) or of embedding that are made at a time.
const CHUNK_BYTES: usize = 8 << 20;
/// Bytes behind the codes of an `I2_S` tensor.
const I2S_TAIL: u64 = 32;

/// One tensor of the file, in its order.
pub(super) struct Tensor {
    pub(super) name: String,
    /// Fastest first.
    pub(super) dims: Vec<u64>,
    pub(super) bytes: u64,
    pub(super) part: Part,
}

impl Tensor {
    fn type_id(&self) -> u32 {
        match self.part {
            Part::Embedding => type_id::F16,
            Part::Linear(..) => type_id::I2_S,
            Part::Norm(..) => type_id::F32,
        }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self.part {
            Part::Embedding => "F16",
            Part::Linear(..) => "I2_S",
            Part::Norm(..) => "F32",
        }
    }
}

pub(super) fn linear_name(layer: usize, linear: Linear) -> String {
    format!("blk.{layer}.{}.weight", crate::file::gguf_stem(linear))
}

/// Every tensor of a model, in the order of its file.
pub(super) fn tensors(config: &Config) -> Vec<Tensor> {
    let norm = |layer: usize, norm: Norm| {
        let width = match norm {
            Norm::FfnSub => config.ffn,
            _ => config.hidden,
        } as u64;
        Tensor {
            name: crate::file::gguf_norm_name(layer, norm),
            dims: vec![width],
            bytes: 4 * width,
            part: Part::Norm(layer, norm),
        }
    };
    let (vocab, hidden) = (config.vocab as u64, config.hidden as u64);
    let mut out = vec![
        Tensor {
            name: "token_embd.weight".to_owned(),
            dims: vec![hidden, vocab],
            bytes: 2 * vocab * hidden,
            part: Part::Embedding,
        },
        norm(0, Norm::Final),
    ];
    for layer in 0..config.layers {
        for kind in [Norm::Attn, Norm::AttnSub, Norm::Ffn, Norm::FfnSub] {
            out.push(norm(layer, kind));
        }
        for linear in Linear::ALL {
            let (rows, k) = config.linear_shape(linear);
            out.push(Tensor {
                name: linear_name(layer, linear),
                dims: vec![k as u64, rows as u64],
                bytes: rows as u64 * k as u64 / 4 + I2S_TAIL,
                part: Part::Linear(layer, linear),
            });
        }
    }
    out
}

/// The header of the file and the bytes that follow it.
fn header(shape: &Shape, config: &Config, tensors: &[Tensor]) -> (Vec<u8>, u64) {
    let ids = Vocabulary::ids(config.vocab);
    let vocabulary = Vocabulary::new(config.vocab);
    let mut out = HeaderWriter::default();
    let key = |suffix: &str| format!("{ARCHITECTURE}.{suffix}");
    out.text("general.architecture", ARCHITECTURE);
    out.text("general.name", &format!("synthetic {}", shape.name));
    // I2_S, in bitnet.cpp's numbering.
    out.u32("general.file_type", 40);
    out.u32("general.quantization_version", 2);
    for (suffix, value) in [
        ("vocab_size", config.vocab),
        ("context_length", config.context),
        ("embedding_length", config.hidden),
        ("block_count", config.layers),
        ("feed_forward_length", config.ffn),
        ("rope.dimension_count", config.head_dim),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
    ] {
        out.u32(&key(suffix), value as u32);
    }
    out.f32(&key("attention.layer_norm_rms_epsilon"), RMS_EPS);
    out.f32(&key("rope.freq_base"), config.rope_base);
    out.text("tokenizer.ggml.model", "gpt2");
    out.text("tokenizer.ggml.pre", "llama-bpe");
    out.texts("tokenizer.ggml.tokens", &vocabulary.tokens);
    out.i32s("tokenizer.ggml.token_type", &vocabulary.types);
    out.texts("tokenizer.ggml.merges", &[]);
    out.u32("tokenizer.ggml.bos_token_id", ids.bos);
    out.u32("tokenizer.ggml.eos_token_id", ids.eos);
    out.u32("tokenizer.ggml.eot_token_id", ids.eot);
    out.u32("tokenizer.ggml.padding_token_id", ids.eos);
    out.bool("tokenizer.ggml.add_bos_token", true);
    for tensor in tensors {
        out.tensor(&tensor.name, &tensor.dims, tensor.type_id(), tensor.bytes);
    }
    let data = out.data_bytes();
    (out.finish(), data)
}

/// Bytes of the file that [`write_gguf`] makes.
///
/// # Errors
/// When the shape is not one of a model.
pub fn file_bytes(shape: &Shape) -> Result<u64, FileError> {
    let config = config(shape)?;
    let (header, data) = header(shape, &config, &tensors(&config));
    Ok(header.len() as u64 + data)
}

/// Writes a model to `path`: linears in `I2_S`, the embedding in F16, a vocabulary that can spell any text. The weights are
/// made a few megabytes at a time; the file appears under its name when it is complete, and replaces what was there.
///
/// # Errors
/// When the shape is not one of a model, or the system refuses (a full disk, for example); then nothing is left behind.
pub fn write_gguf(shape: &Shape, seed: u64, path: &Path) -> Result<(), FileError> {
    write_file(path, |file, out| write_model(shape, seed, file, out))
}

fn write_model(
    shape: &Shape,
    seed: u64,
    file: &FileName,
    out: &mut impl Write,
) -> Result<(), FileError> {
    let config = config(shape)?;
    let tensors = tensors(&config);
    let (header, _) = header(shape, &config, &tensors);
    let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(|e| file.io("write", e));
    put(&header)?;
    let mut buf = Vec::new();
    for tensor in &tensors {
        match tensor.part {
            Part::Norm(layer, norm) => {
                buf.clear();
                for weight in norm_weights(&config, seed, layer, norm) {
                    buf.extend(weight.to_le_bytes());
                }
                put(&buf)?;
            }
            Part::Embedding => {
                let row = 2 * config.hidden;
                let rows = (CHUNK_BYTES / row).max(1);
                for first in (0..config.vocab).step_by(rows) {
                    let rows = rows.min(config.vocab - first);
                    buf.resize(rows * row, 0);
                    buf.par_chunks_mut(row).enumerate().for_each(|(i, out)| {
                        embedding_row(&config, seed, first + i, out);
                    });
                    put(&buf)?;
                }
            }
            Part::Linear(_, linear) => {
                let (rows, k) = config.linear_shape(linear);
                let seed = tensor.part.seed(seed);
                let step = (CHUNK_BYTES / k).max(1);
                let mut codes = vec![0i8; step.min(rows) * k];
                for first in (0..rows).step_by(step) {
                    let rows = step.min(rows - first);
                    let codes = &mut codes[..rows * k];
                    codes.par_chunks_mut(k).enumerate().for_each(|(i, out)| {
                        row_codes(seed, first + i, out);
                    });
                    let codes =
                        Codes::new(codes, rows, k).map_err(|e| file.invalid(&tensor.name, e))?;
                    buf.resize(rows * k / 4, 0);
                    Packed::pack_into(codes, LayoutId::I2S, &mut buf);
                    put(&buf)?;
                }
                let mut tail = [0; I2S_TAIL as usize];
                tail[..4].copy_from_slice(&scale(&config, linear).to_le_bytes());
                put(&tail)?;
            }
        }
        let padding = tensor.bytes.next_multiple_of(32) - tensor.bytes;
        put(&[0; 32][..padding as usize])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;

    #[test]
    fn a_full_disk_is_an_error_of_the_system_wherever_it_happens() {
        let shape = Shape::named("tiny").unwrap();
        let file = FileName::new("m.gguf");
        let size = file_bytes(&shape).unwrap() as usize;
        write_model(&shape, 1, &file, &mut Disk(size)).unwrap();
        for room in [0, 100, size / 10, size / 2, size - 1] {
            let error = write_model(&shape, 1, &file, &mut Disk(room)).unwrap_err();
            assert!(error.is_io(), "{error}");
            assert!(
                error
                    .to_string()
                    .starts_with("`m.gguf`: cannot write: no storage space"),
                "{error}"
            );
        }
    }
}
