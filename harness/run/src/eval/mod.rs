//! Quality of configurations of a model: likelihood of text, multiple-choice tasks, and what lossy configurations change.
//!
//! The first configuration is the reference of the others. All are loaded at once and see the same tokens in the same order, so that
//! differences are taken token by token.

mod choices;
mod speed;
mod text;

use std::path::PathBuf;

use trit_core::EvalRow;
use trit_engine::{ActivationType, Engine, EngineError};
use trit_stats::{Bootstrap, Interval, Resampling};

pub use self::choices::{Question, QuestionError, choice_rows, questions};
pub use self::speed::speed_rows;
pub use self::text::{TextPlan, text_rows};

/// Confidence of every interval.
const LEVEL: f64 = 0.95;
/// Resamples of a bootstrap.
const RESAMPLES: usize = 2000;

/// Why an evaluation ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The model refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A question of a task.
    #[error(transparent)]
    Question(#[from] QuestionError),
    /// Windows that advance by nothing, or further than they are long.
    #[error("--stride: `{stride}` is not 1 to the window of {window} tokens")]
    Stride {
        /// The stride.
        stride: usize,
        /// The window.
        window: usize,
    },
    /// A text of which nothing can be predicted.
    #[error("{}: has {tokens} tokens, and at least {want} are needed; hint: give a longer text", path.display())]
    Short {
        /// The file.
        path: PathBuf,
        /// Its tokens.
        tokens: usize,
        /// The least.
        want: usize,
    },
    /// Logits that are not numbers.
    #[error(
        "the logits of `{config}` are not finite; hint: the weights or scales of the model are damaged"
    )]
    NotFinite {
        /// The configuration.
        config: String,
    },
}

/// One configuration of the model.
pub struct Subject<'e> {
    /// Its name in rows.
    pub label: String,
    /// The loaded model.
    pub engine: &'e Engine,
}

impl Subject<'_> {
    /// The name of the configuration that `engine` runs.
    pub fn label_of(engine: &Engine) -> String {
        let (decode, prompt) = (engine.kernel_id(), engine.prefill_kernel_id());
        let kernel = match engine.activations() {
            ActivationType::I8 if decode == prompt => decode.to_owned(),
            ActivationType::I8 => format!("{prompt} + {decode}"),
            ActivationType::F32 => "float activations".to_owned(),
        };
        format!("{kernel}, head {}, kv {}", engine.head(), engine.kv())
    }

    /// A row with the keys of this configuration.
    fn row(&self, facts: &Facts, task: &str, data_sha256: &str) -> EvalRow {
        let engine = self.engine;
        EvalRow {
            config: self.label.clone(),
            kernel: match engine.activations() {
                ActivationType::I8 => engine.prefill_kernel_id().to_owned(),
                ActivationType::F32 => String::new(),
            },
            head: engine.head().to_owned(),
            kv: engine.kv().name().to_owned(),
            activations: engine.activations().name().to_owned(),
            threads: Some(engine.threads() as u64),
            model: facts.model.clone(),
            model_sha256: facts.model_sha256.clone(),
            task: task.to_owned(),
            data_sha256: data_sha256.to_owned(),
            model_bytes: Some(engine.ledger().sum()),
            // Without a kernel there is no layout whose bytes would be read.
            token_bytes: (engine.activations() == ActivationType::I8)
                .then(|| engine.bytes_per_token(facts.window / 2)),
            ..EvalRow::default()
        }
    }
}

/// What all rows say.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The model, as it was named.
    pub model: String,
    /// SHA-256 of its file, or empty.
    pub model_sha256: String,
    /// Tokens of a window.
    pub window: usize,
}

/// A result with its interval, as columns of a row.
fn with_value(
    mut row: EvalRow,
    metric: &str,
    n: usize,
    value: f64,
    interval: Option<Interval>,
) -> EvalRow {
    metric.clone_into(&mut row.metric);
    row.n = n as u64;
    row.value = value.is_finite().then_some(value);
    row.lo = interval.map(|interval| interval.lo);
    row.hi = interval.map(|interval| interval.hi);
    row
}

/// The interval of a mean over tokens: neighbours of a text are alike, so runs of `block` tokens are drawn. A series that does not vary, or
/// that is no longer than a few runs, has none.
fn mean_interval(values: &[f64], block: usize) -> Option<Interval> {
    let varies = values
        .iter()
        .any(|value| value.total_cmp(&values[0]).is_ne());
    if !varies || values.len() < 4 * block {
        return None;
    }
    Bootstrap {
        resamples: RESAMPLES,
        level: LEVEL,
        seed: 1,
    }
    .percentile(values, Resampling::Blocks(block), mean)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// `ln Σ exp(logit)`, summed in f64 in the order of the vocabulary.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|logit| f64::from(logit - max).exp())
        .sum();
    f64::from(max) + sum.ln()
}
