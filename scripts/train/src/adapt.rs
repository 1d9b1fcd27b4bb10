//! Fine-tuning: low-rank adapters over a frozen base, on new text.

use std::path::Path;

use anyhow::Result;

use crate::checkpoint;
use crate::eval::{Likelihood, evaluate};
use crate::model::{Adapters, Model};
use crate::train::{BEST, Place, Recipe, Tokens, Training};

/// File of the merged model.
pub const MERGED: &str = "merged.safetensors";

/// Held-out likelihood of the new text before and after.
#[derive(Clone, Copy, Debug)]
pub struct Adapted {
    /// Of the base.
    pub before: Likelihood,
    /// Of the merged model.
    pub after: Likelihood,
}

/// Adapts `base` and merges the best adapters back. With `resume` it goes on from the last checkpoint. `None` when it was
/// stopped before its end.
///
/// # Errors
/// When a step fails or a file cannot be written.
pub fn adapt(
    mut base: Model,
    (rank, scale): (usize, f64),
    recipe: Recipe,
    tokens: &Tokens,
    place: &mut Place<'_>,
    resume: bool,
) -> Result<Option<Adapted>> {
    let look = |model: &Model| {
        let stride = model.config.context / 2;
        evaluate(model, &tokens.held_out, tokens.held_out_bytes, stride)
    };
    let before = look(&base)?;
    let mut training = if resume {
        Training::resume(place.out, &base.config, recipe, &tokens.sha256)?
    } else {
        base.adapters = Some(Adapters::new(&base.config, rank, scale, recipe.seed)?);
        Training::new(base, recipe)
    };
    if !training.run(tokens, place)? {
        return Ok(None);
    }
    let merged = merge(&place.out.join(BEST), &place.out.join(MERGED))?;
    let after = look(&merged)?;
    Ok(Some(Adapted { before, after }))
}

/// Merges the adapters of a checkpoint into its weights.
///
/// # Errors
/// When a file cannot be read or written.
pub fn merge(from: &Path, to: &Path) -> Result<Model> {
    let mut checkpoint = checkpoint::load(from)?;
    checkpoint.model.merge()?;
    checkpoint.header.adapter_scale = None;
    checkpoint::save(to, &checkpoint.header, &checkpoint.model, None)?;
    Ok(checkpoint.model)
}
