//! The shapes of published models.

use serde::Serialize;

/// Vocabulary of the models of 2410.16144, and of 1bitLLM's that they follow.
const DUMMY_VOCAB: usize = 32_002;
/// Positions of all shapes: random weights were trained for none, and a prompt has to fit behind a depth of 4,096 and more.
const CONTEXT: usize = 16_384;

/// Name, hidden, ffn, layers, heads. 125m to 100b: arXiv 2410.16144, appendix A, where keys and values have as many heads as
/// queries. 2b4t: arXiv 2504.12285.
const TABLE: [(&str, usize, usize, usize, usize); 14] = [
    ("125m", 768, 3072, 11, 12),
    ("350m", 1024, 3072, 24, 16),
    ("700m", 1536, 4096, 24, 16),
    ("1b", 2048, 3584, 24, 32),
    ("1.5b", 1536, 9216, 28, 32),
    ("2.5b", 2560, 6912, 30, 20),
    ("3.8b", 3840, 8192, 24, 32),
    ("7b", 4096, 12_032, 32, 32),
    ("13b", 5120, 13_824, 40, 40),
    ("30b", 6656, 16_384, 60, 52),
    ("70b", 8192, 24_576, 80, 64),
    ("100b", 8192, 45_568, 72, 64),
    ("2b4t", 2560, 6912, 30, 20),
    ("tiny", 256, 512, 2, 4),
];

/// The size of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shape {
    /// The name it was asked for by.
    pub name: String,
    /// Width of the residual stream; a multiple of 128, which `I2_S` wants.
    pub hidden: usize,
    /// Width of the feed-forward block; a multiple of 128.
    pub ffn: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// Positions.
    pub context: usize,
    /// Base of the rotary frequencies.
    pub rope_base: f32,
}

/// A name that is no shape.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ShapeError {
    /// No shape has this name.
    #[error("there is no shape `{name}`; hint: choose one of {}", Shape::names().collect::<Vec<_>>().join(", "))]
    Unknown {
        /// The name.
        name: String,
    },
    /// The part behind the colon.
    #[error(
        "`{given}` in shape `{name}` is no option; hint: `layers=N` with N in 1..={most} makes the model shorter"
    )]
    Option {
        /// The whole name.
        name: String,
        /// The option.
        given: String,
        /// Layers of the shape.
        most: usize,
    },
}

impl Shape {
    /// The names of all shapes; `tiny` is for tests.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|row| row.0)
    }

    /// The shape of a published model: `125m`, `350m`, `700m`, `1b`, `1.5b`, `2.5b`, `3.8b`, `7b`, `13b`, `30b`, `70b`,
    /// `100b` (arXiv 2410.16144, with a vocabulary of 32,002 and as many key and value heads as query heads), `2b4t`
    /// (BitNet b1.58 2B4T: 5 key and value heads, 128,256 tokens), or `tiny` for tests. `2b4t:layers=2` has two layers
    /// of it.
    ///
    /// # Errors
    /// When there is no such shape or option.
    pub fn named(name: &str) -> Result<Self, ShapeError> {
        let (base, option) = match name.split_once(':') {
            Some((base, option)) => (base, Some(option)),
            None => (name, None),
        };
        let (_, hidden, ffn, layers, heads) = TABLE
            .into_iter()
            .find(|row| row.0.eq_ignore_ascii_case(base))
            .ok_or_else(|| ShapeError::Unknown {
                name: base.to_owned(),
            })?;
        let mut shape = Self {
            name: name.to_ascii_lowercase(),
            hidden,
            ffn,
            layers,
            heads,
            kv_heads: heads,
            vocab: DUMMY_VOCAB,
            context: CONTEXT,
            rope_base: 10_000.0,
        };
        match base.to_ascii_lowercase().as_str() {
            "2b4t" => {
                shape.kv_heads = 5;
                shape.vocab = 128_256;
                shape.rope_base = 500_000.0;
            }
            "tiny" => {
                shape.kv_heads = 2;
                shape.vocab = 512;
            }
            _ => {}
        }
        if let Some(option) = option {
            shape.layers = option
                .strip_prefix("layers=")
                .and_then(|n| n.parse().ok())
                .filter(|n| (1..=layers).contains(n))
                .ok_or_else(|| ShapeError::Option {
                    name: name.to_owned(),
                    given: option.to_owned(),
                    most: layers,
                })?;
        }
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_a_model_that_i2s_can_hold() {
        for name in Shape::names() {
            let shape = Shape::named(name).unwrap();
            assert!(
                shape.hidden.is_multiple_of(128) && shape.ffn.is_multiple_of(128),
                "{name}"
            );
            let config = crate::synth::config(&shape).unwrap();
            assert_eq!(config.hidden, config.heads * config.head_dim, "{name}");
            assert_eq!(config.stop.len(), 2, "{name}");
        }
    }

    #[test]
    fn two_billion_weights_are_counted_as_published() {
        let config = crate::synth::config(&Shape::named("2b4t").unwrap()).unwrap();
        assert_eq!(config.linear_weights(), 2_084_044_800);
        assert_eq!(
            (config.kv_heads, config.head_dim, config.vocab),
            (5, 128, 128_256)
        );
        assert_eq!((config.bos, config.eos), (Some(128_000), Some(128_001)));
        assert_eq!(config.stop, [128_001, 128_009]);
    }

    #[test]
    fn layers_can_be_limited() {
        let shape = Shape::named("2B4T:layers=2").unwrap();
        assert_eq!(
            (shape.layers, shape.kv_heads, shape.name.as_str()),
            (2, 5, "2b4t:layers=2")
        );
        for bad in ["2b4t:layers=0", "2b4t:layers=31", "2b4t:", "2b4t:depth=2"] {
            let err = Shape::named(bad).unwrap_err().to_string();
            assert!(err.contains("1..=30"), "{err}");
        }
        let err = Shape::named("8b").unwrap_err().to_string();
        assert!(err.contains("`8b`") && err.contains("2b4t"), "{err}");
    }
}
