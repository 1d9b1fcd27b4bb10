//! Hugging Face folders as checkpoints: `config.json` and safetensors.

mod config;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use config::{Object, ParsedConfig, parse_config};
use serde::Deserialize;

use super::gguf::usable_scale;
use super::json::{self, Strict};
use super::safetensors::{self, Tensor};
use super::{
    Backend, Bytes, Checkpoint, Codes, Config, Field, FileError, FileName, FileOptions,
    FloatMatrix, FloatType, Linear, LinearScale, LinearSource, Norm, Role, ScaleRule, TensorInfo,
    TokenizerSource,
};

/// Largest `config.json`, `generation_config.json`.
const MAX_CONFIG: u64 = 256 << 10;
/// Largest `model.safetensors.index.json`, `tokenizer_config.json`.
const MAX_INDEX: u64 = 4 << 20;
const MAX_SHARDS: usize = 1024;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

struct Shard {
    file: FileName,
    bytes: Bytes,
}

struct Hf {
    /// `config.json`.
    config_file: FileName,
    /// What tensors are missing from.
    weights: FileName,
    config: Config,
    rule: Option<ScaleRule>,
    shards: Vec<Shard>,
    /// Shard and tensor.
    tensors: BTreeMap<String, (usize, Tensor)>,
    tokenizer: TokenizerSource,
}

#[derive(Deserialize)]
struct Index {
    weight_map: Strict<String>,
}

/// The files that hold the weights of a folder, in the order of their names.
pub(crate) fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let single = dir.join(SINGLE);
    if single.exists() {
        return Ok(vec![single]);
    }
    let index = dir.join(INDEX);
    if !index.exists() {
        return Err(FileName::of(dir).invalid(
            SINGLE,
            format!("is missing, and so is `{INDEX}`: this is no folder of a model in safetensors"),
        ));
    }
    Ok(shard_names(&index)?
        .1
        .iter()
        .map(|name| dir.join(name))
        .collect())
}

fn shard_names(path: &Path) -> Result<(BTreeMap<String, String>, BTreeSet<String>), FileError> {
    let file = FileName::of(path);
    let text = json::read_small(path, MAX_INDEX)?;
    let Index {
        weight_map: Strict(map),
    } = json::parse(&file, "weight_map", &text)?;
    let names: BTreeSet<String> = map.values().cloned().collect();
    if names.is_empty() || names.len() > MAX_SHARDS {
        return Err(file.invalid(
            "weight_map",
            format!("names {} files, want 1..={MAX_SHARDS}", names.len()),
        ));
    }
    for name in &names {
        // A plain name: weights are read from this folder and from nowhere else.
        if Path::new(name).file_name() != Some(name.as_ref()) || name.contains(['/', '\\', '\0']) {
            return Err(file.invalid(
                "weight_map",
                format!("names `{name}`, which is no file of this folder"),
            ));
        }
    }
    Ok((map, names))
}

/// Opens a folder.
pub(crate) fn open(dir: &Path, options: FileOptions) -> Result<Checkpoint, FileError> {
    let config_path = dir.join("config.json");
    let config_file = FileName::of(&config_path);
    let raw = parse_config(
        &config_file,
        &json::read_small(&config_path, MAX_CONFIG)?,
        options,
    )?;
    let index = dir.join(INDEX);
    let map = if dir.join(SINGLE).exists() || !index.exists() {
        None
    } else {
        Some(shard_names(&index)?.0)
    };
    let mut shards = Vec::new();
    for path in weight_files(dir)? {
        shards.push(Shard {
            file: FileName::of(&path),
            bytes: Bytes::map(&path)?,
        });
    }
    let extras = Extras::read(dir)?;
    let tokenizer = dir.join("tokenizer.json");
    let tokenizer = if tokenizer.exists() {
        TokenizerSource::Json(tokenizer)
    } else {
        TokenizerSource::None
    };
    build(config_file, raw, shards, extras, tokenizer, map.as_ref())
}

/// Builds a checkpoint from the texts of its files.
pub(crate) fn from_bytes(
    name: &str,
    config: &[u8],
    weights: Bytes,
    options: FileOptions,
) -> Result<Checkpoint, FileError> {
    let config_file = FileName::new(format!("{name}/config.json"));
    json::check_size(&config_file, config.len() as u64, MAX_CONFIG)?;
    let raw = parse_config(&config_file, config, options)?;
    let shard = Shard {
        file: FileName::new(format!("{name}/{SINGLE}")),
        bytes: weights,
    };
    build(
        config_file,
        raw,
        vec![shard],
        Extras::default(),
        TokenizerSource::None,
        None,
    )
}

/// What the small files beside `config.json` add.
#[derive(Default)]
struct Extras {
    stop: Vec<Field<u64>>,
    add_bos: Option<bool>,
}

impl Extras {
    fn read(dir: &Path) -> Result<Self, FileError> {
        #[derive(Deserialize)]
        struct TokenizerConfig {
            add_bos_token: Option<bool>,
        }
        let mut out = Self::default();
        let path = dir.join("generation_config.json");
        if path.exists() {
            let file = FileName::of(&path);
            let text = json::read_small(&path, MAX_CONFIG)?;
            let object = Object::parse(file, &text)?;
            out.stop = object.ids("eos_token_id")?;
        }
        let path = dir.join("tokenizer_config.json");
        if path.exists() {
            let file = FileName::of(&path);
            let text = json::read_small(&path, MAX_INDEX)?;
            let config: TokenizerConfig = json::parse(&file, "add_bos_token", &text)?;
            out.add_bos = config.add_bos_token;
        }
        Ok(out)
    }
}

fn build(
    config_file: FileName,
    parsed: ParsedConfig,
    shards: Vec<Shard>,
    extras: Extras,
    tokenizer: TokenizerSource,
    map: Option<&BTreeMap<String, String>>,
) -> Result<Checkpoint, FileError> {
    let mut raw = parsed.raw;
    raw.stop.extend(extras.stop);
    raw.add_bos = extras.add_bos;
    let config = raw.check(&config_file)?;
    let mut tensors: BTreeMap<String, (usize, Tensor)> = BTreeMap::new();
    for (index, shard) in shards.iter().enumerate() {
        for (name, tensor) in safetensors::parse(&shard.file, shard.bytes.get())? {
            if let Some((other, _)) = tensors.get(&name) {
                return Err(shard.file.invalid(
                    &name,
                    format!("is in `{}` as well", shards[*other].file.as_str()),
                ));
            }
            if tensors.len() >= json::MAX_ENTRIES {
                return Err(shard.file.invalid(
                    &name,
                    format!(
                        "is one tensor more than the {} that are read",
                        json::MAX_ENTRIES
                    ),
                ));
            }
            tensors.insert(name, (index, tensor));
        }
    }
    for (tensor, shard) in map.into_iter().flatten() {
        let found = tensors
            .get(tensor)
            .map(|(index, _)| shards[*index].file.as_str());
        if found.is_none_or(|found| Path::new(found).file_name() != Some(shard.as_ref())) {
            return Err(config_file.invalid(
                tensor,
                format!("is not in `{shard}`, where `{INDEX}` says it is"),
            ));
        }
    }
    let weights = match &shards[..] {
        [one] => one.file.clone(),
        _ => FileName::new(INDEX),
    };
    let hf = Hf {
        config_file,
        weights,
        config: config.clone(),
        rule: parsed.rule,
        shards,
        tensors,
        tokenizer,
    };
    hf.check_tensors(parsed.masters)?;
    Ok(Checkpoint::new(config, "safetensors", Box::new(hf)))
}

/// A linear's tensors, between `model.layers.N.` and `.weight`.
pub(crate) const fn stem(linear: Linear) -> &'static str {
    match linear {
        Linear::Q => "self_attn.q_proj",
        Linear::K => "self_attn.k_proj",
        Linear::V => "self_attn.v_proj",
        Linear::O => "self_attn.o_proj",
        Linear::Gate => "mlp.gate_proj",
        Linear::Up => "mlp.up_proj",
        Linear::Down => "mlp.down_proj",
    }
}

/// The names of a norm: transformers', and those of the first BitNet models.
const fn norm_stems(norm: Norm) -> &'static [&'static str] {
    match norm {
        Norm::Attn => &["input_layernorm"],
        Norm::AttnSub => &["self_attn.attn_sub_norm", "self_attn.inner_attn_ln"],
        Norm::Ffn => &["post_attention_layernorm"],
        Norm::FfnSub => &["mlp.ffn_sub_norm", "mlp.ffn_layernorm"],
        Norm::Final => &["model.norm"],
    }
}

/// The name under which a norm is written; the layer does not matter to the last one.
pub(crate) fn norm_name(layer: usize, norm: Norm) -> String {
    let stem = norm_stems(norm)[0];
    match norm {
        Norm::Final => format!("{stem}.weight"),
        _ => format!("model.layers.{layer}.{stem}.weight"),
    }
}

/// The types that numbers come in.
fn float_type(dtype: &str) -> Option<FloatType> {
    match dtype {
        "F32" => Some(FloatType::F32),
        "F16" => Some(FloatType::F16),
        "BF16" => Some(FloatType::Bf16),
        _ => None,
    }
}

impl Hf {
    fn find(&self, name: &str) -> Result<(&FileName, &Tensor, Bytes), FileError> {
        let (shard, tensor) = self
            .tensors
            .get(name)
            .ok_or_else(|| self.weights.invalid(name, "is missing"))?;
        let shard = &self.shards[*shard];
        let bytes = shard
            .bytes
            .slice(tensor.range.clone())
            .expect("ranges were checked against the file when it was opened");
        Ok((&shard.file, tensor, bytes))
    }

    fn shaped(
        &self,
        name: &str,
        shape: &[usize],
    ) -> Result<(&FileName, &Tensor, Bytes), FileError> {
        let (file, tensor, bytes) = self.find(name)?;
        if !tensor
            .shape
            .iter()
            .copied()
            .eq(shape.iter().map(|dim| *dim as u64))
        {
            return Err(file.invalid(
                name,
                format!(
                    "has the shape {:?}, and `{}` asks for {shape:?}",
                    tensor.shape,
                    self.config_file.as_str()
                ),
            ));
        }
        Ok((file, tensor, bytes))
    }

    fn floats(&self, name: &str, shape: &[usize]) -> Result<(FloatType, Bytes), FileError> {
        let (file, tensor, _) = self.find(name)?;
        let dtype = float_type(&tensor.dtype).ok_or_else(|| {
            file.unsupported(
                name,
                format!("has dtype {}", tensor.dtype),
                "F32, F16 and BF16 are read here",
            )
        })?;
        let (_, _, bytes) = self.shaped(name, shape)?;
        Ok((dtype, bytes))
    }

    fn norm_tensor(
        &self,
        layer: usize,
        norm: Norm,
    ) -> Result<(String, FloatType, Bytes), FileError> {
        let width = match norm {
            Norm::FfnSub => self.config.ffn,
            _ => self.config.hidden,
        };
        let names = norm_stems(norm).iter().map(|stem| match norm {
            Norm::Final => format!("{stem}.weight"),
            _ => format!("model.layers.{layer}.{stem}.weight"),
        });
        let mut names: Vec<String> = names.collect();
        // The first name is the one to miss.
        let at = names
            .iter()
            .position(|name| self.tensors.contains_key(name))
            .unwrap_or(0);
        let name = names.swap_remove(at);
        let (dtype, bytes) = self.floats(&name, &[width])?;
        Ok((name, dtype, bytes))
    }

    fn matrix(&self, name: &str) -> Result<FloatMatrix, FileError> {
        let (vocab, hidden) = (self.config.vocab, self.config.hidden);
        let (dtype, bytes) = self.floats(name, &[vocab, hidden])?;
        FloatMatrix::new(vocab, hidden, dtype, bytes).ok_or_else(|| {
            self.weights
                .invalid(name, "has another size than its shape")
        })
    }

    fn check_tensors(&self, masters: bool) -> Result<(), FileError> {
        for name in self.tensors.keys() {
            if name.starts_with("model.layers.")
                && name
                    .rsplit_once('.')
                    .is_some_and(|(_, last)| last == "bias")
            {
                let (file, ..) = self.find(name)?;
                return Err(file.unsupported(
                    name,
                    "this engine does not read it, and leaving it out would change the result",
                    "only models without biases run",
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
                let name = format!("model.layers.{layer}.{}.weight", stem(linear));
                let (file, tensor, _) = self.find(&name)?;
                if tensor.dtype == "U8" {
                    self.packed(layer, linear)?;
                } else if masters {
                    let (rows, k) = self.config.linear_shape(linear);
                    self.floats(&name, &[rows, k])?;
                    let scale = format!("{name}_scale");
                    if self.tensors.contains_key(&scale) {
                        return Err(file.invalid(
                            &scale,
                            format!("is there, and `{name}` is {}, want U8", tensor.dtype),
                        ));
                    }
                } else {
                    return Err(file.unsupported(
                        &name,
                        format!(
                            "is {}, and `{}` has no quantization_config: this is no ternary model",
                            tensor.dtype,
                            self.config_file.as_str()
                        ),
                        "choose a BitNet b1.58 model",
                    ));
                }
            }
        }
        Ok(())
    }

    /// A packed matrix and its scale.
    fn packed(&self, layer: usize, linear: Linear) -> Result<(Bytes, LinearScale), FileError> {
        let name = format!("model.layers.{layer}.{}.weight", stem(linear));
        let (rows, k) = self.config.linear_shape(linear);
        if !rows.is_multiple_of(4) {
            return Err(self.weights.invalid(
                &name,
                format!("is packed by four rows, and the configuration asks for {rows}"),
            ));
        }
        let (_, _, bytes) = self.shaped(&name, &[rows / 4, k])?;
        let scale_name = format!("{name}_scale");
        let (file, tensor, scale) = self.find(&scale_name)?;
        let dtype = float_type(&tensor.dtype).ok_or_else(|| {
            file.invalid(
                &scale_name,
                format!("has dtype {}, want F32, F16 or BF16", tensor.dtype),
            )
        })?;
        if tensor.shape.iter().any(|dim| *dim != 1) {
            return Err(file.invalid(
                &scale_name,
                format!("has the shape {:?}, want [1]", tensor.shape),
            ));
        }
        let mut value = [0.0];
        dtype.decode(scale.get(), &mut value);
        let value = usable_scale(file, &scale_name, value[0])?;
        let rule = self.rule.ok_or_else(|| {
            self.config_file.unsupported(
                "quantization_config",
                "is missing, so that nothing says whether scales multiply or divide",
                "give the scale rule",
            )
        })?;
        let scale = match rule {
            ScaleRule::Multiply => LinearScale::Multiply(value),
            ScaleRule::Divide => LinearScale::Divide(value),
        };
        Ok((bytes, scale))
    }
}

impl Backend for Hf {
    fn linear(&self, layer: usize, linear: Linear) -> Result<LinearSource, FileError> {
        let name = format!("model.layers.{layer}.{}.weight", stem(linear));
        let (rows, k) = self.config.linear_shape(linear);
        let (file, tensor, _) = self.find(&name)?;
        let file = file.clone();
        let (codes, scale) = if tensor.dtype == "U8" {
            let (bytes, scale) = self.packed(layer, linear)?;
            (Codes::HfPacked(bytes), scale)
        } else {
            let (dtype, bytes) = self.floats(&name, &[rows, k])?;
            let (factor, scale) = super::linear::quantization(dtype, bytes.get(), false)
                .ok_or_else(|| file.invalid(&name, "holds a weight that is not a finite number"))?;
            let scale = usable_scale(&file, &name, scale)?;
            (
                Codes::Float {
                    dtype,
                    bytes,
                    factor,
                },
                LinearScale::Multiply(scale),
            )
        };
        Ok(LinearSource {
            file,
            name,
            rows,
            k,
            scale,
            codes,
            interleaved: None,
        })
    }

    fn norm(&self, layer: usize, norm: Norm) -> Result<Vec<f32>, FileError> {
        let (name, dtype, bytes) = self.norm_tensor(layer, norm)?;
        super::float::finite_vector(&self.weights, &name, dtype, bytes.get())
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
        Ok(self.tokenizer.clone())
    }

    fn tensors(&self) -> Vec<TensorInfo> {
        self.tensors
            .iter()
            .map(|(name, (_, tensor))| TensorInfo {
                name: name.clone(),
                dtype: tensor.dtype.clone(),
                shape: tensor.shape.clone(),
                bytes: tensor.range.len() as u64,
                role: self.role(name),
            })
            .collect()
    }
}

impl Hf {
    fn role(&self, name: &str) -> Role {
        match name {
            EMBEDDING => return Role::Embedding,
            HEAD if !self.config.tied_head => return Role::Head,
            "model.norm.weight" => return Role::Norm,
            _ => {}
        }
        let Some((layer, rest)) = name
            .strip_prefix("model.layers.")
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
        let Some((what, suffix)) = rest.rsplit_once('.') else {
            return Role::Unused;
        };
        let linear = Linear::ALL.iter().any(|linear| stem(*linear) == what);
        let is = |norm: Norm| norm_stems(norm).contains(&what);
        let sub = self.config.sub_norms && (is(Norm::AttnSub) || is(Norm::FfnSub));
        match suffix {
            "weight" | "weight_scale" if linear => Role::Linear,
            "weight" if is(Norm::Attn) || is(Norm::Ffn) || sub => Role::Norm,
            _ => Role::Unused,
        }
    }
}
