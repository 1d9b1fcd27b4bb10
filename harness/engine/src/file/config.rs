//! The hyper-parameters of a model, checked.

use std::collections::BTreeSet;

use serde::Serialize;
use trit_kernel::MAX_K;

use super::error::{FileError, FileName};

/// Most layers, heads and positions that are believed; a file that claims more is damaged or hostile.
const MAX_LAYERS: usize = 1024;
const MAX_HEADS: usize = 4096;
const MAX_HEAD_DIM: usize = 1024;
const MAX_CONTEXT: usize = 1 << 24;
/// Most entries of a vocabulary; the largest published one has 262,144.
pub(crate) const MAX_VOCAB: usize = 1 << 20;

/// What the gate of the feed-forward block passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// `max(x, 0)^2` (BitNet b1.58 2B4T).
    Relu2,
    /// `x · sigmoid(x)` (the Llama family and the first BitNet models).
    Silu,
}

/// The hyper-parameters of one model. A value that exists has passed every check.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent facts of a file, none of them a state"
)]
pub struct Config {
    /// `general.architecture` of a GGUF file, or `model_type` of a Hugging Face folder.
    pub architecture: String,
    /// Width of the residual stream, `heads · head_dim`.
    pub hidden: usize,
    /// Width of the feed-forward block.
    pub ffn: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Values a head; even.
    pub head_dim: usize,
    /// Entries of the vocabulary: rows of the embedding.
    pub vocab: usize,
    /// Positions the model was trained for.
    pub context: usize,
    /// Epsilon inside the root of every RMSNorm; positive.
    pub rms_eps: f32,
    /// Base of the rotary frequencies; positive.
    pub rope_base: f32,
    /// Activation of the feed-forward block.
    pub activation: Activation,
    /// Whether a norm stands before the output and down projections.
    pub sub_norms: bool,
    /// Whether the output head is the embedding.
    pub tied_head: bool,
    /// Token that starts a text.
    pub bos: Option<u32>,
    /// Token that ends a text.
    pub eos: Option<u32>,
    /// Every token that ends a generation, `eos` among them; ascending.
    pub stop: Vec<u32>,
    /// Whether a prompt starts with `bos`.
    pub add_bos: bool,
    /// Whether the file holds the rows of q and k permuted for rotary pairs `(2i, 2i + 1)`. Readers undo it
    /// ([`super::LinearSource::read_codes`] returns rows for the half rotation), so this is for display.
    pub rope_interleaved: bool,
}

impl Config {
    /// Rows of k and v: `kv_heads · head_dim`.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Rows and K of one linear.
    pub fn linear_shape(&self, linear: super::Linear) -> (usize, usize) {
        use super::Linear::{Down, Gate, K, O, Q, Up, V};
        match linear {
            Q | O => (self.hidden, self.hidden),
            K | V => (self.kv_width(), self.hidden),
            Gate | Up => (self.ffn, self.hidden),
            Down => (self.hidden, self.ffn),
        }
    }

    /// Ternary weights of all linears.
    pub fn linear_weights(&self) -> u64 {
        let layer: u64 = super::Linear::ALL
            .iter()
            .map(|linear| {
                let (rows, k) = self.linear_shape(*linear);
                rows as u64 * k as u64
            })
            .sum();
        layer * self.layers as u64
    }
}

/// Hyper-parameters as a file states them, with the name under which it states each.
pub(crate) struct RawConfig {
    pub(crate) architecture: String,
    pub(crate) hidden: Field<u64>,
    pub(crate) ffn: Field<u64>,
    pub(crate) layers: Field<u64>,
    pub(crate) heads: Field<u64>,
    pub(crate) kv_heads: Field<u64>,
    pub(crate) head_dim: Option<Field<u64>>,
    pub(crate) vocab: Field<u64>,
    pub(crate) context: Field<u64>,
    pub(crate) rms_eps: Field<f64>,
    pub(crate) rope_base: Field<f64>,
    pub(crate) activation: Activation,
    pub(crate) sub_norms: bool,
    pub(crate) tied_head: bool,
    pub(crate) bos: Option<Field<u64>>,
    pub(crate) eos: Option<Field<u64>>,
    pub(crate) stop: Vec<Field<u64>>,
    pub(crate) add_bos: Option<bool>,
    pub(crate) rope_interleaved: bool,
}

/// A value and the name that the file gives it.
#[derive(Clone, Debug)]
pub(crate) struct Field<T> {
    pub(crate) name: String,
    pub(crate) value: T,
}

impl<T> Field<T> {
    pub(crate) fn new(name: impl Into<String>, value: T) -> Self {
        Self {
            name: name.into(),
            value,
        }
    }
}

impl RawConfig {
    /// Checks every value and their relations.
    pub(crate) fn check(self, file: &FileName) -> Result<Config, FileError> {
        let hidden = bounded(file, &self.hidden, MAX_K)?;
        let ffn = bounded(file, &self.ffn, MAX_K)?;
        let layers = bounded(file, &self.layers, MAX_LAYERS)?;
        let heads = bounded(file, &self.heads, MAX_HEADS)?;
        let kv_heads = bounded(file, &self.kv_heads, MAX_HEADS)?;
        let vocab = bounded(file, &self.vocab, MAX_VOCAB)?;
        let context = bounded(file, &self.context, MAX_CONTEXT)?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(file.invalid(
                &self.kv_heads.name,
                format!("{kv_heads} does not divide the {heads} query heads"),
            ));
        }
        let (name, head_dim) = match &self.head_dim {
            Some(field) => (&field.name, bounded(file, field, MAX_HEAD_DIM)?),
            None => (&self.heads.name, hidden / heads),
        };
        if head_dim.checked_mul(heads) != Some(hidden) {
            return Err(file.invalid(
                name,
                format!("{heads} heads of {head_dim} are not the hidden size {hidden}"),
            ));
        }
        if !head_dim.is_multiple_of(2) || head_dim > MAX_HEAD_DIM {
            return Err(file.invalid(
                name,
                format!("head size {head_dim}, want an even number of at most {MAX_HEAD_DIM}"),
            ));
        }
        let bos = self.bos.map(|id| token(file, &id, vocab)).transpose()?;
        let eos = self.eos.map(|id| token(file, &id, vocab)).transpose()?;
        let mut stop: BTreeSet<u32> = eos.into_iter().collect();
        for id in &self.stop {
            stop.insert(token(file, id, vocab)?);
        }
        Ok(Config {
            architecture: self.architecture,
            hidden,
            ffn,
            layers,
            heads,
            kv_heads,
            head_dim,
            vocab,
            context,
            rms_eps: positive(file, &self.rms_eps)?,
            rope_base: positive(file, &self.rope_base)?,
            activation: self.activation,
            sub_norms: self.sub_norms,
            tied_head: self.tied_head,
            bos,
            eos,
            stop: stop.into_iter().collect(),
            add_bos: self.add_bos.unwrap_or(bos.is_some()) && bos.is_some(),
            rope_interleaved: self.rope_interleaved,
        })
    }
}

fn bounded(file: &FileName, field: &Field<u64>, most: usize) -> Result<usize, FileError> {
    usize::try_from(field.value)
        .ok()
        .filter(|value| (1..=most).contains(value))
        .ok_or_else(|| file.invalid(&field.name, format!("{} is not in 1..={most}", field.value)))
}

fn positive(file: &FileName, field: &Field<f64>) -> Result<f32, FileError> {
    let value = field.value as f32;
    if value.is_normal() && value > 0.0 {
        Ok(value)
    } else {
        Err(file.invalid(
            &field.name,
            format!("{} is not a positive finite number", field.value),
        ))
    }
}

fn token(file: &FileName, field: &Field<u64>, vocab: usize) -> Result<u32, FileError> {
    if field.value < vocab as u64 {
        Ok(field.value as u32)
    } else {
        Err(file.invalid(
            &field.name,
            format!("token {} is outside the vocabulary of {vocab}", field.value),
        ))
    }
}
