//! The training loop.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;
use trit_measure::{Clock, MonotonicClock};

use crate::checkpoint::{self, Checkpoint, Header};
use crate::curve::Curve;
use crate::data::{Text, Windows, encode, load_tokenizer, train_tokenizer};
use crate::eval::evaluate;
use crate::model::{DropoutPlan, Model, ModelConfig};
use crate::ops::CrossEntropy;
use crate::optim::{AdamW, Schedule};
use crate::rng::{derive, mix};

/// File of the last step, with moments: what `--resume` goes on from.
pub const LAST: &str = "last.safetensors";
/// File of the weights with the lowest held-out loss.
pub const BEST: &str = "best.safetensors";
/// File of the vocabulary.
pub const TOKENIZER: &str = "tokenizer.json";

/// What decides the result of a training, besides the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Windows of a step.
    pub batch: usize,
    /// Learning rate and weight decay.
    pub schedule: Schedule,
    /// Share of values that are dropped.
    pub dropout: f32,
    /// Seed of weights, windows and dropout.
    pub seed: u64,
    /// Steps between two looks at the held-out text.
    pub eval_every: usize,
    /// Looks without progress after which training ends.
    pub patience: usize,
}

/// Where a training takes place.
pub struct Place<'a> {
    /// Directory of checkpoints and curve.
    pub out: &'a Path,
    /// Steps between two checkpoints.
    pub save_every: usize,
    /// Called with lines of progress.
    pub say: &'a mut dyn FnMut(&str),
    /// When this becomes true, the training ends as if it were killed right after a checkpoint.
    pub stop: &'a AtomicBool,
}

/// A text in tokens.
pub struct Tokens {
    /// What is trained on.
    pub train: Vec<u32>,
    /// What is only measured.
    pub held_out: Vec<u32>,
    /// Bytes of the latter.
    pub held_out_bytes: usize,
    /// Digest of the text's file.
    pub sha256: String,
}

impl Tokens {
    /// Encodes both parts of a text.
    ///
    /// # Errors
    /// When the tokenizer refuses.
    pub fn new(text: &Text, tokenizer: &Tokenizer) -> Result<Self> {
        Ok(Self {
            train: encode(tokenizer, &text.train)?,
            held_out: encode(tokenizer, &text.held_out)?,
            held_out_bytes: text.held_out.len(),
            sha256: text.sha256.clone(),
        })
    }
}

/// Loads the vocabulary of a directory, or trains one and puts it there.
///
/// # Errors
/// When it cannot be trained, read or written.
pub fn tokenizer_in(out: &Path, text: &Text, vocab: usize) -> Result<Tokenizer> {
    let path = out.join(TOKENIZER);
    if path.exists() {
        return load_tokenizer(&path);
    }
    let tokenizer = train_tokenizer(&text.train, vocab)?;
    let json = tokenizer
        .to_string(true)
        .map_err(|error| anyhow::anyhow!("tokenizer: {error}"))?;
    checkpoint::write_atomically(&path, json.as_bytes())?;
    load_tokenizer(&path)
}

/// A training between two steps.
pub struct Training {
    /// The model.
    pub model: Model,
    optimizer: AdamW,
    recipe: Recipe,
    step: usize,
    best: Option<(f64, usize)>,
}

impl Training {
    /// A training of a model from its first step on.
    pub fn new(model: Model, recipe: Recipe) -> Self {
        Self {
            model,
            optimizer: AdamW::default(),
            recipe,
            step: 0,
            best: None,
        }
    }

    /// The training that a checkpoint in `out` belongs to.
    ///
    /// # Errors
    /// When there is none, or it belongs to another training.
    pub fn resume(out: &Path, config: &ModelConfig, recipe: Recipe, text: &str) -> Result<Self> {
        let path = out.join(LAST);
        let Checkpoint {
            header,
            model,
            optimizer,
        } = checkpoint::load(&path)
            .context("cannot resume; hint: without `--resume` training starts anew")?;
        let options: Recipe = serde_json::from_value(header.options)
            .with_context(|| format!("`{}`: options", path.display()))?;
        for (what, same) in [
            ("model", header.model == *config),
            ("options", options == recipe),
            ("text", header.text_sha256 == text),
        ] {
            ensure!(
                same,
                "`{}` belongs to a training with another {what}; hint: give the options it was started with, or another `--out`",
                path.display()
            );
        }
        Ok(Self {
            model,
            optimizer,
            recipe,
            step: header.step,
            best: header.best,
        })
    }

    /// Steps that were made.
    pub fn steps_made(&self) -> usize {
        self.step
    }

    /// Makes one step and returns its loss.
    ///
    /// # Errors
    /// When the loss is not a number, or a tensor cannot be made.
    pub fn step(&mut self, windows: &Windows<'_>) -> Result<f32> {
        let batch = windows.batch(self.step);
        let positions = batch.inputs.len() / self.recipe.batch;
        let dropout = DropoutPlan {
            share: self.recipe.dropout,
            seed: mix(derive(self.recipe.seed, "dropout") ^ mix(self.step as u64)),
        };
        let loss = self
            .model
            .logits(&batch.inputs, positions, Some(dropout))?
            .apply_op1(CrossEntropy {
                targets: Arc::new(batch.targets),
            })?;
        let value = loss.to_scalar::<f32>()?;
        if !value.is_finite() {
            bail!(
                "the loss of step {} is {value}; hint: lower `--rate`",
                self.step
            );
        }
        let grads = loss.backward()?;
        self.optimizer.step(
            &self.model.trained(),
            &grads,
            self.step,
            self.recipe.schedule.at(self.step),
        )?;
        self.step += 1;
        Ok(value)
    }

    fn save(&self, out: &Path, text: &str) -> Result<()> {
        checkpoint::save(
            &out.join(LAST),
            &self.header(text)?,
            &self.model,
            Some(&self.optimizer),
        )
    }

    fn header(&self, text: &str) -> Result<Header> {
        Ok(Header {
            model: self.model.config.clone(),
            step: self.step,
            text_sha256: text.to_owned(),
            options: serde_json::to_value(&self.recipe)?,
            best: self.best,
            adapter_scale: self.model.adapters.as_ref().map(|adapters| adapters.scale),
        })
    }

    /// Trains to the end, or until the held-out loss has not fallen for a while; the best weights are kept in [`BEST`]. False
    /// when it was stopped before.
    ///
    /// # Errors
    /// When a step fails or a file cannot be written.
    pub fn run(&mut self, tokens: &Tokens, place: &mut Place<'_>) -> Result<bool> {
        let context = self.model.config.context;
        let seed = derive(self.recipe.seed, "windows");
        let windows = Windows::new(&tokens.train, context, self.recipe.batch, seed)?;
        let steps = self.recipe.schedule.steps;
        let clock = MonotonicClock::new();
        let (started, first) = (clock.now_ns(), self.step);
        let mut curve = Curve::open(&place.out.join("curve.csv"), self.step)?;
        let (mut sum, mut count) = (0.0, 0);
        while self.step < steps {
            let loss = self.step(&windows)?;
            sum += f64::from(loss);
            count += 1;
            let last = self.step == steps;
            let look = self.step.is_multiple_of(self.recipe.eval_every) || last;
            if look || self.step.is_multiple_of(20) {
                let seconds = (clock.now_ns() - started) as f64 / 1e9;
                let left = seconds / (self.step - first) as f64 * (steps - self.step) as f64;
                let mut line = format!(
                    "step {}/{steps}, epoch {:.2}, loss {:.4}, {} left",
                    self.step,
                    self.step as f64 / windows.per_epoch() as f64,
                    sum / f64::from(count),
                    minutes(left)
                );
                let mut stop = false;
                let mut held_out = None;
                if look {
                    let result = evaluate(
                        &self.model,
                        &tokens.held_out,
                        tokens.held_out_bytes,
                        context,
                    )?;
                    held_out = Some(result.loss());
                    let _ = write!(
                        line,
                        "; held out {:.4}, {:.4} bits a byte",
                        result.loss(),
                        result.bits_per_byte()
                    );
                    if self.best.is_none_or(|(best, _)| result.loss() < best) {
                        self.best = Some((result.loss(), self.step));
                        checkpoint::save(
                            &place.out.join(BEST),
                            &self.header(&tokens.sha256)?,
                            &self.model,
                            None,
                        )?;
                        line += ", best";
                    } else if let Some((_, at)) = self.best {
                        stop = self.step - at >= self.recipe.patience * self.recipe.eval_every;
                    }
                }
                curve.add(self.step, sum / f64::from(count), held_out)?;
                (sum, count) = (0.0, 0);
                (place.say)(&line);
                if stop {
                    (place.say)("held-out loss has stopped falling");
                    break;
                }
            }
            if place.stop.load(Ordering::SeqCst) {
                self.save(place.out, &tokens.sha256)?;
                (place.say)("stopped; hint: `--resume` goes on from here");
                return Ok(false);
            }
            if self.step.is_multiple_of(place.save_every) {
                self.save(place.out, &tokens.sha256)?;
            }
        }
        self.save(place.out, &tokens.sha256)?;
        curve.draw(place.out)?;
        Ok(true)
    }
}

fn minutes(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    if seconds < 120 {
        format!("{seconds} s")
    } else {
        format!("{} min", seconds.div_ceil(60))
    }
}
