//! GGUF files for other programs.

use std::io::Write;
use std::path::Path;

use half::f16;
use rayon::prelude::*;

use super::{
    CHUNK_BYTES, ConvertError, Converted, LinearType, Program, encode, matrices, multiplier,
    vocabulary, write_matrix, written_type,
};
use crate::file::{
    Activation, Checkpoint, FileError, FileName, FloatMatrix, FloatType, GgufHeader, Linear,
    LinearSource, Norm, TokenizerSource, gguf_norm_name, gguf_stem, gguf_type, interleaved_row,
    write_file,
};

/// Bytes behind the codes of an `I2_S` tensor.
const I2S_TAIL: usize = 32;

/// One tensor of the file, in its order.
struct Tensor {
    name: String,
    /// Fastest first.
    dims: Vec<u64>,
    type_id: u32,
    bytes: u64,
    /// Its rows are rotated: those of q and k.
    rotary: bool,
    content: Content,
}

enum Content {
    Matrix(FloatMatrix, FloatType),
    Floats(Vec<f32>),
    /// The codes, the scale inside of blocks or floats, the scale behind the codes.
    Linear(Box<LinearSource>, f16, f32),
}

/// Writes `checkpoint` to `path` with linears of type `dtype`, as `program` reads it. The file appears under its name when it is
/// complete, and replaces what was there; no more than a few megabytes are held.
///
/// # Errors
/// When the model cannot be read, does not fit the type, has no name in the program, or the system refuses (a full disk, for
/// example); then nothing is left behind.
pub fn to_gguf(
    checkpoint: &Checkpoint,
    dtype: LinearType,
    program: Program,
    with_vocabulary: bool,
    path: &Path,
) -> Result<Converted, ConvertError> {
    let (plan, report) = Plan::new(checkpoint, dtype, program, with_vocabulary)?;
    write_file(path, |file, out| plan.write(checkpoint, file, out))?;
    Ok(report)
}

struct Plan {
    dtype: LinearType,
    header: Vec<u8>,
    tensors: Vec<Tensor>,
    /// Head size, where rows of q and k are written for interleaved rotary pairs.
    interleaved: Option<usize>,
}

impl Plan {
    fn new(
        checkpoint: &Checkpoint,
        dtype: LinearType,
        program: Program,
        with_vocabulary: bool,
    ) -> Result<(Self, Converted), ConvertError> {
        let config = checkpoint.config();
        let architecture = program.architecture(config)?;
        if dtype == LinearType::I2s && program == Program::LlamaCpp {
            return Err(ConvertError::NoI2s);
        }
        let mut report = Converted {
            architecture: architecture.to_owned(),
            ..Converted::default()
        };
        // llama.cpp multiplies with a scale beside the tensor, so that the tensor itself is -1, 0 and 1.
        let beside =
            architecture == "bitnet" && program == Program::LlamaCpp && dtype != LinearType::I2s;
        let tensors = tensors(checkpoint, dtype, beside, &mut report)?;

        let mut out = GgufHeader::default();
        let key = |suffix: &str| format!("{architecture}.{suffix}");
        out.text("general.architecture", architecture);
        out.u32("general.file_type", file_type(dtype));
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
        out.f32(&key("attention.layer_norm_rms_epsilon"), config.rms_eps);
        out.f32(&key("rope.freq_base"), config.rope_base);
        if architecture == "bitnet" && config.activation == Activation::Relu2 {
            out.text(&key("hidden_activation"), "relu2");
        }
        let source = if with_vocabulary {
            checkpoint.tokenizer()?
        } else {
            TokenizerSource::None
        };
        report.vocabulary = vocabulary::to_gguf(source, config, &mut out)?;
        for tensor in &tensors {
            out.tensor(&tensor.name, &tensor.dims, tensor.type_id, tensor.bytes);
        }
        let data = out.data_bytes();
        let header = out.finish();
        report.bytes = header.len() as u64 + data;
        let interleaved = (architecture == "llama").then_some(config.head_dim);
        Ok((
            Self {
                dtype,
                header,
                tensors,
                interleaved,
            },
            report,
        ))
    }

    fn write(
        &self,
        checkpoint: &Checkpoint,
        file: &FileName,
        out: &mut impl Write,
    ) -> Result<(), FileError> {
        let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(|e| file.io("write", e));
        put(&self.header)?;
        for tensor in &self.tensors {
            match &tensor.content {
                Content::Matrix(matrix, dtype) => write_matrix(matrix, *dtype, &mut put)?,
                Content::Floats(values) => {
                    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                    put(&bytes)?;
                }
                Content::Linear(source, inside, behind) => {
                    self.write_linear(source, tensor.rotary, *inside, &mut put)?;
                    if self.dtype == LinearType::I2s {
                        let mut tail = [0; I2S_TAIL];
                        tail[..4].copy_from_slice(&behind.to_le_bytes());
                        put(&tail)?;
                    }
                    checkpoint.release(source);
                }
            }
            let padding = tensor.bytes.next_multiple_of(32) - tensor.bytes;
            put(&[0; 32][..padding as usize])?;
        }
        Ok(())
    }

    fn write_linear(
        &self,
        source: &LinearSource,
        rotary: bool,
        scale: f16,
        put: &mut impl FnMut(&[u8]) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        let (rows, k) = (source.rows(), source.k());
        let permuted = self.interleaved.filter(|_| rotary);
        let size = self
            .dtype
            .row_bytes(k)
            .expect("rows were checked when the tensors were listed");
        let step = (CHUNK_BYTES / k).max(1);
        let mut out = vec![0; step.min(rows) * size];
        for first in (0..rows).step_by(step) {
            let rows = step.min(rows - first);
            let out = &mut out[..rows * size];
            out.par_chunks_mut(size).enumerate().try_for_each_init(
                || vec![0i8; k],
                |codes, (index, out)| {
                    let row = first + index;
                    let row = permuted.map_or(row, |head| half_row(row, head));
                    source.read_codes(row..row + 1, codes)?;
                    encode::encode(self.dtype, codes, k, scale, out);
                    Ok(())
                },
            )?;
            put(out)?;
        }
        Ok(())
    }
}

/// The row of the half rotation that stands at `row` of a file for interleaved pairs: the inverse of [`interleaved_row`].
fn half_row(row: usize, head_dim: usize) -> usize {
    let (head, at) = (row / head_dim, row % head_dim);
    let found = head * head_dim + at % 2 * (head_dim / 2) + at / 2;
    debug_assert_eq!(interleaved_row(found, head_dim), row);
    found
}

/// `general.file_type`, by llama.cpp's numbers and for `I2_S` by bitnet.cpp's.
const fn file_type(dtype: LinearType) -> u32 {
    match dtype {
        LinearType::F16 => 1,
        LinearType::Tq1 => 36,
        LinearType::Tq2 => 37,
        LinearType::I2s => 40,
    }
}

fn tensors(
    checkpoint: &Checkpoint,
    dtype: LinearType,
    beside: bool,
    report: &mut Converted,
) -> Result<Vec<Tensor>, ConvertError> {
    let config = checkpoint.config();
    let matrix = |name: &str, matrix: FloatMatrix| {
        let dtype = written_type(&matrix, true);
        let (elements, bytes) = dtype.block();
        Tensor {
            name: name.to_owned(),
            dims: vec![matrix.cols() as u64, matrix.rows() as u64],
            type_id: float_id(dtype),
            bytes: (matrix.rows() * (matrix.cols() / elements * bytes)) as u64,
            rotary: false,
            content: Content::Matrix(matrix, dtype),
        }
    };
    let floats = |name: String, values: Vec<f32>| Tensor {
        name,
        dims: vec![values.len() as u64],
        type_id: gguf_type::F32,
        bytes: 4 * values.len() as u64,
        rotary: false,
        content: Content::Floats(values),
    };
    let (embedding, head) = matrices(checkpoint)?;
    let mut out = vec![matrix("token_embd.weight", embedding)];
    out.push(floats(
        gguf_norm_name(0, Norm::Final),
        checkpoint.norm(None, Norm::Final)?,
    ));
    out.extend(head.map(|head| matrix("output.weight", head)));
    for layer in 0..config.layers {
        for norm in [Norm::Attn, Norm::AttnSub, Norm::Ffn, Norm::FfnSub] {
            if config.sub_norms || !matches!(norm, Norm::AttnSub | Norm::FfnSub) {
                out.push(floats(
                    gguf_norm_name(layer, norm),
                    checkpoint.norm(Some(layer), norm)?,
                ));
            }
        }
        for linear in Linear::ALL {
            let source = checkpoint.linear(layer, linear)?;
            let stem = format!("blk.{layer}.{}", gguf_stem(linear));
            let name = format!("{stem}.weight");
            let (rows, k) = (source.rows(), source.k());
            let size = dtype.row_bytes(k).ok_or_else(|| ConvertError::Shape {
                tensor: name.clone(),
                k,
                block: dtype.block().0,
                dtype: dtype.name(),
                hint: "convert to f16 or packed, which have no blocks",
            })?;
            let scale = multiplier(&source);
            let inside = if beside {
                f16::ONE
            } else {
                rounded(&name, dtype, scale, report)?
            };
            let tail = if dtype == LinearType::I2s {
                I2S_TAIL
            } else {
                0
            };
            out.push(Tensor {
                name,
                dims: vec![k as u64, rows as u64],
                type_id: linear_id(dtype),
                bytes: (rows * size + tail) as u64,
                rotary: matches!(linear, Linear::Q | Linear::K),
                content: Content::Linear(Box::new(source), inside, scale),
            });
            if beside {
                out.push(floats(format!("{stem}.scale"), vec![scale]));
            }
        }
    }
    Ok(out)
}

/// The scale as an f16, for types that hold one.
fn rounded(
    tensor: &str,
    dtype: LinearType,
    scale: f32,
    report: &mut Converted,
) -> Result<f16, ConvertError> {
    if dtype == LinearType::I2s {
        return Ok(f16::ONE);
    }
    let half = f16::from_f32(scale);
    if !half.is_normal() {
        return Err(ConvertError::Scale {
            tensor: tensor.to_owned(),
            scale,
            dtype: dtype.name(),
        });
    }
    let error = (half.to_f32() / scale - 1.0).abs();
    if error > 0.0 {
        report.rounded_scales += 1;
        report.worst_rounding = report.worst_rounding.max(error);
    }
    Ok(half)
}

const fn linear_id(dtype: LinearType) -> u32 {
    match dtype {
        LinearType::F16 => gguf_type::F16,
        LinearType::I2s => gguf_type::I2_S,
        LinearType::Tq1 => gguf_type::TQ1_0,
        LinearType::Tq2 => gguf_type::TQ2_0,
    }
}

const fn float_id(dtype: FloatType) -> u32 {
    match dtype {
        FloatType::F32 => gguf_type::F32,
        FloatType::F16 => gguf_type::F16,
        FloatType::Bf16 => gguf_type::BF16,
        FloatType::Q8_0 => gguf_type::Q8_0,
        FloatType::Q6K => gguf_type::Q6_K,
        FloatType::Q4_0 => gguf_type::Q4_0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::synth;

    #[test]
    fn a_full_disk_is_one_error_wherever_it_happens() {
        let shape = synth::Shape::named("tiny").unwrap();
        let model = synth::checkpoint(&shape, 1).unwrap();
        let (plan, report) = Plan::new(&model, LinearType::Tq2, Program::LlamaCpp, true).unwrap();
        let file = FileName::new("m.gguf");
        let size = report.bytes as usize;
        plan.write(&model, &file, &mut Disk(size)).unwrap();
        for room in [0, 100, size / 10, size / 2, size - 1] {
            let error = plan.write(&model, &file, &mut Disk(room)).unwrap_err();
            assert!(error.is_io());
            let text = error.to_string();
            assert!(
                text.starts_with("`m.gguf`: cannot write: no storage space"),
                "{text}"
            );
        }
    }

    #[test]
    fn rows_go_to_where_readers_of_interleaved_pairs_look() {
        let mut seen: Vec<usize> = (0..32).map(|row| half_row(row, 8)).collect();
        assert_eq!(seen[..8], [0, 4, 1, 5, 2, 6, 3, 7]);
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..32));
    }
}
