//! Checkpoints: one safetensors file with weights, moments, and all that a training needs to go on.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{Device, Tensor, Var};
use safetensors::tensor::{Dtype, SafeTensors, View, serialize};
use serde::{Deserialize, Serialize};

use crate::model::{Adapters, LINEARS, Model, ModelConfig};
use crate::ops::with_floats;
use crate::optim::{AdamW, Moments};

/// A tensor to be written.
pub struct Blob {
    /// Element type.
    pub dtype: Dtype,
    /// Slowest dimension first.
    pub shape: Vec<usize>,
    /// Little endian.
    pub bytes: Vec<u8>,
}

impl View for &Blob {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        (&self.bytes).into()
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Floats as a tensor to be written.
pub fn f32_blob(shape: Vec<usize>, values: &[f32]) -> Blob {
    Blob {
        dtype: Dtype::F32,
        shape,
        bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

/// Writes a file under its name only when it is complete.
///
/// # Errors
/// When the system refuses.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_added_extension("part");
    std::fs::write(&part, bytes).with_context(|| format!("cannot write `{}`", part.display()))?;
    std::fs::rename(&part, path)
        .with_context(|| format!("cannot rename `{}` to `{}`", part.display(), path.display()))
}

/// Writes tensors with one entry of metadata.
///
/// # Errors
/// When the system refuses.
pub fn write_tensors(
    path: &Path,
    tensors: &BTreeMap<String, Blob>,
    metadata: (&str, String),
) -> Result<()> {
    let metadata = [(metadata.0.to_owned(), metadata.1)].into_iter().collect();
    let bytes = serialize(tensors, Some(metadata))
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    write_atomically(path, &bytes)
}

/// What a checkpoint says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Hyper-parameters of the model.
    pub model: ModelConfig,
    /// Steps that were made.
    pub step: usize,
    /// SHA-256 of the text.
    pub text_sha256: String,
    /// The training's options, as it stores them.
    pub options: serde_json::Value,
    /// Held-out loss of the best evaluation, and its step.
    pub best: Option<(f64, usize)>,
    /// Factor of the adapters, where there are some.
    pub adapter_scale: Option<f64>,
}

const KEY: &str = "trit-train";

/// A checkpoint in memory.
pub struct Checkpoint {
    /// What it says about itself.
    pub header: Header,
    /// The model.
    pub model: Model,
    /// Moments; empty where only weights were kept.
    pub optimizer: AdamW,
}

/// Writes a checkpoint; without an optimizer only weights.
///
/// # Errors
/// When the system refuses.
pub fn save(path: &Path, header: &Header, model: &Model, optimizer: Option<&AdamW>) -> Result<()> {
    let mut tensors = BTreeMap::new();
    for (name, var) in &model.params {
        let blob = with_floats(var, |w| Ok(f32_blob(var.dims().to_vec(), w)))?;
        tensors.insert(name.clone(), blob);
    }
    for (name, pair) in model
        .adapters
        .iter()
        .flat_map(|adapters| &adapters.matrices)
    {
        for (kind, var) in ["down", "up"].into_iter().zip(pair) {
            let blob = with_floats(var, |w| Ok(f32_blob(var.dims().to_vec(), w)))?;
            tensors.insert(format!("{kind}:{name}"), blob);
        }
    }
    for (name, moments) in optimizer.iter().flat_map(|optimizer| &optimizer.moments) {
        for (kind, values) in [("first", &moments.first), ("second", &moments.second)] {
            let blob = f32_blob(vec![values.len()], values);
            tensors.insert(format!("{kind}:{name}"), blob);
        }
    }
    let header = serde_json::to_string(header).context("checkpoint header")?;
    write_tensors(path, &tensors, (KEY, header))
}

/// Reads a checkpoint.
///
/// # Errors
/// When it cannot be read, or its parts do not fit each other.
pub fn load(path: &Path) -> Result<Checkpoint> {
    let shown = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{shown}`"))?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).with_context(|| format!("`{shown}`"))?;
    let header = metadata
        .metadata()
        .as_ref()
        .and_then(|metadata| metadata.get(KEY))
        .ok_or_else(|| anyhow!("`{shown}` is no checkpoint of this program"))?;
    let header: Header =
        serde_json::from_str(header).with_context(|| format!("`{shown}`: header"))?;
    header.model.check()?;
    let mut weights = BTreeMap::new();
    // Adapters (down, up) and moments (first, second) by the name of what they belong to.
    let mut adapters: BTreeMap<String, [Option<Tensor>; 2]> = BTreeMap::new();
    let mut moments: BTreeMap<String, [Option<Vec<f32>>; 2]> = BTreeMap::new();
    let file = SafeTensors::deserialize(&bytes).with_context(|| format!("`{shown}`"))?;
    for (name, view) in file.tensors() {
        ensure!(
            view.dtype() == Dtype::F32,
            "`{shown}`: tensor `{name}` is not F32"
        );
        let (words, _) = view.data().as_chunks::<4>();
        let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        match name.split_once(':') {
            Some((kind @ ("first" | "second"), name)) => {
                moments.entry(name.to_owned()).or_default()[usize::from(kind == "second")] =
                    Some(values);
            }
            Some((kind @ ("down" | "up"), name)) => {
                let tensor = Tensor::from_vec(values, view.shape(), &Device::Cpu)?;
                adapters.entry(name.to_owned()).or_default()[usize::from(kind == "up")] =
                    Some(tensor);
            }
            _ => {
                let tensor = Tensor::from_vec(values, view.shape(), &Device::Cpu)?;
                weights.insert(name, tensor);
            }
        }
    }
    let mut model =
        Model::new(header.model.clone(), weights).with_context(|| format!("`{shown}`"))?;
    if let Some(scale) = header.adapter_scale {
        let mut matrices = BTreeMap::new();
        for (name, pair) in adapters {
            let [Some(down), Some(up)] = pair else {
                return Err(anyhow!("`{shown}`: `{name}` has half an adapter only"));
            };
            let ((rank, k), (rows, same)) = (down.dims2()?, up.dims2()?);
            let fits = model
                .params
                .get(&name)
                .map(|weight| weight.dims() == [rows, k]);
            ensure!(
                fits == Some(true) && rank == same,
                "`{shown}`: the adapter of `{name}` does not fit it"
            );
            matrices.insert(name, [Var::from_tensor(&down)?, Var::from_tensor(&up)?]);
        }
        ensure!(
            matrices.len() == LINEARS.len() * model.config.layers,
            "`{shown}`: a linear has no adapter"
        );
        model.adapters = Some(Adapters { matrices, scale });
    }
    let trained = model.trained();
    let mut optimizer = AdamW::default();
    for (name, moments) in moments {
        let count = trained.get(&name).map(|var| var.elem_count());
        let [Some(first), Some(second)] = moments else {
            return Err(anyhow!("`{shown}`: `{name}` has one moment only"));
        };
        ensure!(
            Some(first.len()) == count && Some(second.len()) == count,
            "`{shown}`: moments of `{name}` do not fit it"
        );
        optimizer.moments.insert(name, Moments { first, second });
    }
    Ok(Checkpoint {
        header,
        model,
        optimizer,
    })
}
