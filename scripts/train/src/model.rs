//! The BitNet b1.58 transformer, as `bitnet-b1.58-2B-4T` has it, and its float twin.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::ops::{
    CausalSoftmax, Dropout, Heads, MergeHeads, QuantizeActivations, QuantizeWeights, Relu2Mul,
    RmsNorm, SplitHeads, rotation,
};
use crate::rng::{Rng, derive, mix};

/// Name of the embedding, which is the head too.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// Name of the last norm.
pub const FINAL_NORM: &str = "model.norm.weight";

/// The linears of a layer, in the order of their use.
pub const LINEARS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// The norms of a layer, in the order of their use.
pub const NORMS: [&str; 4] = [
    "input_layernorm",
    "self_attn.attn_sub_norm",
    "post_attention_layernorm",
    "mlp.ffn_sub_norm",
];

/// Name of a linear's or norm's weight.
pub fn name(layer: usize, part: &str) -> String {
    format!("model.layers.{layer}.{part}.weight")
}

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward part.
    pub ffn: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Positions of a training window, and the longest text of the exported model.
    pub context: usize,
    /// Base of the rotation's angles.
    pub rope_base: f32,
    /// What norms add to the mean square.
    pub rms_eps: f32,
    /// Whether linears are ternary with int8 inputs; otherwise everything is f32.
    pub ternary: bool,
}

impl ModelConfig {
    /// Refuses what cannot be trained or exported.
    ///
    /// # Errors
    /// When a size is 0, or sizes do not fit each other or the exported formats.
    pub fn check(&self) -> Result<()> {
        for (flag, value) in [
            ("--vocab", self.vocab),
            ("--hidden", self.hidden),
            ("--ffn", self.ffn),
            ("--layers", self.layers),
            ("--heads", self.heads),
            ("--kv-heads", self.kv_heads),
            ("--context", self.context),
        ] {
            ensure!(value > 0, "`{flag}` is 0, want a number above 0");
        }
        for (flag, value) in [("--hidden", self.hidden), ("--ffn", self.ffn)] {
            ensure!(
                value.is_multiple_of(128),
                "`{flag}` is {value}; hint: I2_S packs 128 inputs at a time, choose a multiple of 128"
            );
        }
        ensure!(
            self.hidden.is_multiple_of(2 * self.heads),
            "`--heads` is {}; hint: `--hidden` ({}) must be a multiple of twice that",
            self.heads,
            self.hidden
        );
        ensure!(
            self.heads.is_multiple_of(self.kv_heads),
            "`--kv-heads` is {}; hint: `--heads` ({}) must be a multiple of that",
            self.kv_heads,
            self.heads
        );
        ensure!(
            self.kv_width().is_multiple_of(4),
            "`--kv-heads` is {}; hint: keys of {} rows cannot be packed four rows a byte",
            self.kv_heads,
            self.kv_width()
        );
        Ok(())
    }

    /// Floats of a head.
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// Floats of all key heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim()
    }

    /// Outputs and inputs of a linear.
    ///
    /// # Panics
    /// When the name is none of [`LINEARS`].
    pub fn linear_shape(&self, linear: &str) -> (usize, usize) {
        match linear {
            "self_attn.q_proj" | "self_attn.o_proj" => (self.hidden, self.hidden),
            "self_attn.k_proj" | "self_attn.v_proj" => (self.kv_width(), self.hidden),
            "mlp.gate_proj" | "mlp.up_proj" => (self.ffn, self.hidden),
            "mlp.down_proj" => (self.hidden, self.ffn),
            other => panic!("`{other}` is no linear"),
        }
    }

    fn norm_width(&self, norm: &str) -> usize {
        if norm == "mlp.ffn_sub_norm" {
            self.ffn
        } else {
            self.hidden
        }
    }

    /// Every parameter's name and shape.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let mut out = BTreeMap::from([
            (EMBEDDING.to_owned(), vec![self.vocab, self.hidden]),
            (FINAL_NORM.to_owned(), vec![self.hidden]),
        ]);
        for layer in 0..self.layers {
            for linear in LINEARS {
                let (rows, k) = self.linear_shape(linear);
                out.insert(name(layer, linear), vec![rows, k]);
            }
            for norm in NORMS {
                out.insert(name(layer, norm), vec![self.norm_width(norm)]);
            }
        }
        out
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.shapes()
            .values()
            .map(|shape| shape.iter().product::<usize>())
            .sum()
    }
}

/// Low-rank adapters: each linear's master weight has `up · down · scale` added before it is quantized.
pub struct Adapters {
    /// Down (`[rank, inputs]`) and up (`[outputs, rank]`) matrices by the name of their weight.
    pub matrices: BTreeMap<String, [Var; 2]>,
    /// Factor of the product.
    pub scale: f64,
}

impl Adapters {
    /// Adapters that change nothing yet: down is random, up is zero.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn new(config: &ModelConfig, rank: usize, scale: f64, seed: u64) -> Result<Self> {
        let mut matrices = BTreeMap::new();
        for layer in 0..config.layers {
            for linear in LINEARS {
                let (rows, k) = config.linear_shape(linear);
                let name = name(layer, linear);
                let mut rng = Rng::new(derive(seed, &name));
                let unit = 1.0 / (k as f64).sqrt();
                let down: Vec<f32> = (0..rank * k)
                    .map(|_| (rng.normal() * unit) as f32)
                    .collect();
                let down = Var::from_tensor(&Tensor::from_vec(down, (rank, k), &Device::Cpu)?)?;
                let up = Var::zeros((rows, rank), DType::F32, &Device::Cpu)?;
                matrices.insert(name, [down, up]);
            }
        }
        Ok(Self { matrices, scale })
    }
}

/// Where a forward pass drops values.
#[derive(Clone, Copy, Debug)]
pub struct DropoutPlan {
    /// Share of values.
    pub share: f32,
    /// Another seed for every step.
    pub seed: u64,
}

/// A model: hyper-parameters and master weights.
pub struct Model {
    /// Hyper-parameters.
    pub config: ModelConfig,
    /// Master weights by Hugging Face's names.
    pub params: BTreeMap<String, Var>,
    /// Adapters, while the model is adapted.
    pub adapters: Option<Adapters>,
    rotation: Arc<[Vec<f32>; 2]>,
}

impl Model {
    /// A model of these weights.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn new(config: ModelConfig, mut weights: BTreeMap<String, Tensor>) -> Result<Self> {
        let mut params = BTreeMap::new();
        for (name, shape) in config.shapes() {
            let weight = weights
                .remove(&name)
                .with_context(|| format!("tensor `{name}` is missing"))?;
            ensure!(
                weight.dims() == shape,
                "tensor `{name}` has shape {:?}, want {shape:?}",
                weight.dims()
            );
            params.insert(name, Var::from_tensor(&weight)?);
        }
        if let Some(name) = weights.keys().next() {
            bail!("tensor `{name}` has no place in this model");
        }
        let rotation = rotation(config.context, config.head_dim(), config.rope_base);
        Ok(Self {
            config,
            params,
            adapters: None,
            rotation: Arc::new(rotation),
        })
    }

    /// A model of seeded random weights: normal with deviation 0.02; what is added to the residual stream is divided by the
    /// root of the number of additions. Norms are 1.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn random(config: ModelConfig, seed: u64) -> Result<Self> {
        let mut weights = BTreeMap::new();
        for (name, shape) in config.shapes() {
            let count = shape.iter().product::<usize>();
            let values: Vec<f32> = if shape.len() == 1 {
                vec![1.0; count]
            } else {
                let last = name.contains("o_proj") || name.contains("down_proj");
                let unit = if last {
                    0.02 / (2.0 * config.layers as f64).sqrt()
                } else {
                    0.02
                };
                let mut rng = Rng::new(derive(seed, &name));
                (0..count).map(|_| (rng.normal() * unit) as f32).collect()
            };
            weights.insert(name, Tensor::from_vec(values, shape, &Device::Cpu)?);
        }
        Self::new(config, weights)
    }

    /// What a training changes: the adapters if there are any, otherwise everything.
    pub fn trained(&self) -> BTreeMap<String, Var> {
        match &self.adapters {
            None => self.params.clone(),
            Some(adapters) => adapters
                .matrices
                .iter()
                .flat_map(|(name, [down, up])| {
                    [
                        (format!("{name}.down"), down.clone()),
                        (format!("{name}.up"), up.clone()),
                    ]
                })
                .collect(),
        }
    }

    /// The master weight of a linear, adapters included.
    fn master(&self, name: &str) -> Result<Tensor> {
        let weight = self.params[name].as_tensor();
        match &self.adapters {
            None => Ok(weight.clone()),
            Some(adapters) => {
                let [down, up] = &adapters.matrices[name];
                let change = (up.matmul(down)? * adapters.scale)?;
                Ok((weight.detach() + change)?)
            }
        }
    }

    /// Adds the adapters to the master weights and drops them.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn merge(&mut self) -> Result<()> {
        for layer in 0..self.config.layers {
            for linear in LINEARS {
                let name = name(layer, linear);
                let merged = self.master(&name)?.detach();
                self.params[&name].set(&merged)?;
            }
        }
        self.adapters = None;
        Ok(())
    }

    /// The parameter as it is, frozen where adapters are trained instead.
    fn param(&self, name: &str) -> Tensor {
        let weight = self.params[name].as_tensor();
        if self.adapters.is_some() {
            weight.detach()
        } else {
            weight.clone()
        }
    }

    /// The weight that multiplies: of `linears` of one layer, their outputs side by side.
    fn weight(&self, layer: usize, linears: &[&str]) -> Result<Tensor> {
        let parts = linears
            .iter()
            .map(|linear| {
                let weight = self.master(&name(layer, linear))?;
                Ok(if self.config.ternary {
                    weight.apply_op1(QuantizeWeights)?
                } else {
                    weight
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(match &parts[..] {
            [one] => one.clone(),
            several => Tensor::cat(several, 0)?,
        })
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let eps = self.config.rms_eps;
        Ok(x.apply_op2(&self.param(name), RmsNorm { eps })?)
    }

    fn linear(&self, x: &Tensor, layer: usize, linears: &[&str]) -> Result<Tensor> {
        let weight = self.weight(layer, linears)?;
        let x = if self.config.ternary {
            x.apply_op1(QuantizeActivations)?
        } else {
            x.clone()
        };
        Ok(x.matmul(&weight.t()?)?)
    }

    /// Logits (`[tokens, vocab]`) of sequences of `positions` tokens, one behind the other.
    ///
    /// # Errors
    /// When there are more positions than the context has, or a token is outside of the vocabulary.
    pub fn logits(
        &self,
        tokens: &[u32],
        positions: usize,
        dropout: Option<DropoutPlan>,
    ) -> Result<Tensor> {
        let config = &self.config;
        ensure!(
            positions <= config.context && tokens.len().is_multiple_of(positions),
            "{} tokens in sequences of {positions} do not fit a context of {}",
            tokens.len(),
            config.context
        );
        let sequences = tokens.len() / positions;
        let heads = Heads {
            positions,
            heads: config.heads,
            kv_heads: config.kv_heads,
            dim: config.head_dim(),
        };
        let mut place = 0;
        let mut drop = |x: Tensor| -> Result<Tensor> {
            place += 1;
            Ok(match dropout {
                Some(DropoutPlan { share, seed }) if share > 0.0 => x.apply_op1(Dropout {
                    share,
                    seed: mix(seed ^ place),
                })?,
                _ => x,
            })
        };

        let embedding = self.param(EMBEDDING);
        let ids = Tensor::from_slice(tokens, tokens.len(), &Device::Cpu)?;
        let mut x = drop(embedding.index_select(&ids, 0)?)?;
        for layer in 0..config.layers {
            let at = |norm| name(layer, norm);
            let normed = self.norm(&x, &at(NORMS[0]))?;
            let qkv = self.linear(&normed, layer, &LINEARS[..3])?;
            let split = qkv.apply_op1(SplitHeads {
                heads,
                rotation: self.rotation.clone(),
            })?;
            let (queries, keys) = heads.lengths(tokens.len());
            let groups = sequences * config.kv_heads;
            // The queries that share a key head are rows of one product.
            let rows = config.heads / config.kv_heads * positions;
            let q = split
                .narrow(0, 0, queries)?
                .reshape((groups, rows, heads.dim))?;
            let part = |start| {
                split
                    .narrow(0, start, keys)?
                    .reshape((groups, positions, heads.dim))
            };
            let (k, v) = (part(queries)?, part(queries + keys)?);
            let scores = q.matmul(&k.t()?)?.apply_op1(CausalSoftmax {
                positions,
                scale: 1.0 / (heads.dim as f32).sqrt(),
            })?;
            let mixed = drop(scores)?.matmul(&v)?.apply_op1(MergeHeads { heads })?;
            let normed = self.norm(&mixed, &at(NORMS[1]))?;
            x = (x + drop(self.linear(&normed, layer, &LINEARS[3..4])?)?)?;

            let normed = self.norm(&x, &at(NORMS[2]))?;
            let wide = self
                .linear(&normed, layer, &LINEARS[4..6])?
                .apply_op1(Relu2Mul)?;
            let normed = self.norm(&wide, &at(NORMS[3]))?;
            x = (x + drop(self.linear(&normed, layer, &LINEARS[6..])?)?)?;
        }
        let normed = self.norm(&x, FINAL_NORM)?;
        Ok(normed.matmul(&embedding.t()?)?)
    }
}
