//! Models with seeded random ternary weights, in the shapes of published ones: as GGUF files, or generated on demand.
//!
//! Speed and memory do not depend on what the weights are, so these stand in for models that nobody has to download.
//! The same shape and seed give the same weights in a file and in memory, on every machine.

mod random;
mod shape;
mod vocabulary;
mod write;

use std::sync::{Mutex, PoisonError};

use half::{bf16, f16};
use rayon::prelude::*;
use trit_kernel::AlignedBuf;

use crate::file::{
    Activation, Backend, Bytes, Checkpoint, Codes, Config, Field, FileError, FileName, FloatMatrix,
    FloatType, Linear, LinearScale, LinearSource, Norm, RawConfig, Role, TensorInfo,
    TokenizerSource, WeakBytes,
};

pub(crate) use random::row_codes;
pub use shape::{Shape, ShapeError};
use vocabulary::Vocabulary;
pub use write::{file_bytes, write_gguf};

/// `general.architecture` of all synthetic models: squared `ReLU` and sub-norms, whatever the published model of the
/// shape has.
const ARCHITECTURE: &str = "bitnet-b1.58";
const RMS_EPS: f32 = 1e-5;

/// What the generator is asked for.
#[derive(Clone, Copy, Debug)]
enum Part {
    Embedding,
    Linear(usize, Linear),
    Norm(usize, Norm),
}

impl Part {
    /// The seed of this part of the model that `seed` makes.
    fn seed(self, seed: u64) -> u64 {
        let (layer, number) = match self {
            Self::Embedding => (0, 1),
            Self::Linear(layer, linear) => (layer, 16 + linear as u64),
            Self::Norm(layer, norm) => (layer, 32 + norm as u64),
        };
        random::mix(random::mix(seed) ^ (layer as u64) << 8 ^ number)
    }
}

/// The scale of a linear: inputs of variance 1 give outputs of variance 1 (two thirds of the weights are not zero), and
/// what is added to the residual stream is divided by the root of the number of additions, so that it stays near 1.
fn scale(config: &Config, linear: Linear) -> f32 {
    let (_, k) = config.linear_shape(linear);
    let unit = (1.5 / k as f32).sqrt();
    match linear {
        Linear::O | Linear::Down => unit / (2.0 * config.layers as f32).sqrt(),
        _ => unit,
    }
}

/// Norm weights: multiples of 1/64 from 3/4 to 5/4.
fn norm_weights(config: &Config, seed: u64, layer: usize, norm: Norm) -> Vec<f32> {
    let width = match norm {
        Norm::FfnSub => config.ffn,
        _ => config.hidden,
    };
    let seed = Part::Norm(layer, norm).seed(seed);
    (0..width as u64)
        .map(|i| 0.75 + (random::at(seed, i) % 33) as f32 / 64.0)
        .collect()
}

/// One row of the embedding: sums of four uniform numbers, of variance 1 / hidden, so that logits have variance 1, rounded to bf16 as
/// models are published and then to halves as GGUF files hold them.
fn embedding_row(config: &Config, seed: u64, row: usize, out: &mut [u8]) {
    let seed = random::row_seed(Part::Embedding.seed(seed), row);
    // Four uniform numbers below 65,536 have a sum of variance 65,536² / 3.
    let unit = 3.0f32.sqrt() / 65_536.0 / (config.hidden as f32).sqrt();
    for (i, out) in out.chunks_exact_mut(2).enumerate() {
        let bits = random::at(seed, i as u64);
        let sum: i32 = (0..4).map(|j| (bits >> (16 * j) & 0xffff) as i32).sum();
        let value = f16::from_f32(bf16::from_f32((sum - 131_070) as f32 * unit).to_f32());
        out.copy_from_slice(&value.to_le_bytes());
    }
}

fn config(shape: &Shape) -> Result<Config, FileError> {
    let vocabulary = Vocabulary::ids(shape.vocab);
    let name = |key: &str| format!("shape.{key}");
    let count = |key: &str, value: usize| Field::new(name(key), value as u64);
    RawConfig {
        architecture: ARCHITECTURE.to_owned(),
        hidden: count("hidden", shape.hidden),
        ffn: count("ffn", shape.ffn),
        layers: count("layers", shape.layers),
        heads: count("heads", shape.heads),
        kv_heads: count("kv_heads", shape.kv_heads),
        head_dim: None,
        vocab: count("vocab", shape.vocab),
        context: count("context", shape.context),
        rms_eps: Field::new(name("rms_eps"), f64::from(RMS_EPS)),
        rope_base: Field::new(name("rope_base"), f64::from(shape.rope_base)),
        activation: Activation::Relu2,
        sub_norms: true,
        tied_head: true,
        bos: Some(count("vocab", vocabulary.bos as usize)),
        eos: Some(count("vocab", vocabulary.eos as usize)),
        stop: vec![count("vocab", vocabulary.eot as usize)],
        add_bos: Some(true),
        rope_interleaved: false,
    }
    .check(&FileName::new(format!("synthetic {}", shape.name)))
}

struct Synthetic {
    file: FileName,
    config: Config,
    seed: u64,
    /// Kept as long as somebody reads it.
    embedding: Mutex<WeakBytes>,
}

/// A model that generates its weights when they are asked for. Linears take no memory of their own; the embedding is
/// generated once for all who hold it at the same time.
///
/// # Errors
/// When the shape is not one of a model.
pub fn checkpoint(shape: &Shape, seed: u64) -> Result<Checkpoint, FileError> {
    let config = config(shape)?;
    let backend = Synthetic {
        file: FileName::new(format!("synthetic {}", shape.name)),
        config: config.clone(),
        seed,
        embedding: Mutex::default(),
    };
    Ok(Checkpoint::new(config, "synthetic", Box::new(backend)))
}

impl Backend for Synthetic {
    fn linear(&self, layer: usize, linear: Linear) -> Result<LinearSource, FileError> {
        let (rows, k) = self.config.linear_shape(linear);
        Ok(LinearSource {
            file: self.file.clone(),
            name: write::linear_name(layer, linear),
            rows,
            k,
            scale: LinearScale::Multiply(scale(&self.config, linear)),
            codes: Codes::Synthetic(Part::Linear(layer, linear).seed(self.seed)),
            interleaved: None,
        })
    }

    fn norm(&self, layer: usize, norm: Norm) -> Result<Vec<f32>, FileError> {
        Ok(norm_weights(&self.config, self.seed, layer, norm))
    }

    fn embedding(&self) -> Result<FloatMatrix, FileError> {
        let (vocab, hidden) = (self.config.vocab, self.config.hidden);
        // A panic while it was made leaves it as it was.
        let mut made = self
            .embedding
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let bytes = made.get().unwrap_or_else(|| {
            let mut buf = AlignedBuf::zeroed(2 * vocab * hidden);
            buf.bytes_mut()
                .par_chunks_mut(2 * hidden)
                .enumerate()
                .for_each(|(row, out)| embedding_row(&self.config, self.seed, row, out));
            Bytes::from_lines(buf)
        });
        *made = bytes.weak();
        Ok(FloatMatrix::new(vocab, hidden, FloatType::F16, bytes)
            .expect("the buffer was made for this size"))
    }

    fn head(&self) -> Result<Option<FloatMatrix>, FileError> {
        Ok(None)
    }

    fn tokenizer(&self) -> Result<TokenizerSource, FileError> {
        Ok(Vocabulary::new(self.config.vocab).source())
    }

    fn tensors(&self) -> Vec<TensorInfo> {
        write::tensors(&self.config)
            .into_iter()
            .map(|tensor| TensorInfo {
                dtype: tensor.type_name().to_owned(),
                shape: tensor.dims.iter().rev().copied().collect(),
                bytes: tensor.bytes,
                role: match tensor.part {
                    Part::Embedding => Role::Embedding,
                    Part::Linear(..) => Role::Linear,
                    Part::Norm(..) => Role::Norm,
                },
                name: tensor.name,
            })
            .collect()
    }
}
