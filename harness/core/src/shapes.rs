//! The matrix shapes of published models, embedded from `suites/shapes/`.

use std::sync::OnceLock;

use crate::SuiteError;
use crate::suite::text_error;

/// One kind of matrix in a model.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matrix {
    /// The projections that have this shape.
    pub roles: Vec<String>,
    /// Output features.
    pub rows: u64,
    /// Input features.
    pub k: u64,
}

/// The ternary matrices of one layer of a published model.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// The name in suites and after `synth:`.
    pub name: String,
    /// The published model.
    pub model: String,
    /// Where the numbers come from.
    pub source: String,
    /// Features of the residual stream.
    pub hidden: u64,
    /// Features of the feed-forward network.
    pub ffn: u64,
    /// Layers.
    pub layers: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads.
    pub kv_heads: u64,
    /// Tokens of the vocabulary.
    pub vocab: u64,
    /// The matrices of one layer.
    #[serde(rename = "matrix")]
    pub matrices: Vec<Matrix>,
}

impl ModelShape {
    /// Reads a shape file; `file` names it in errors.
    ///
    /// # Errors
    /// When the text is not TOML, or a key is unknown or missing.
    pub fn parse(file: &str, text: &str) -> Result<Self, SuiteError> {
        toml::from_str(text).map_err(|error| text_error(file, text, &error))
    }

    /// The distinct (rows, K), in the order of the file.
    pub fn distinct(&self) -> Vec<(u64, u64)> {
        let mut shapes = Vec::new();
        for matrix in &self.matrices {
            if !shapes.contains(&(matrix.rows, matrix.k)) {
                shapes.push((matrix.rows, matrix.k));
            }
        }
        shapes
    }

    /// Ternary weights of the whole model.
    pub fn linear_weights(&self) -> u64 {
        let layer: u64 = self
            .matrices
            .iter()
            .map(|m| m.roles.len() as u64 * m.rows * m.k)
            .sum();
        layer * self.layers
    }

    /// Weights of the embedding, which a tied head shares.
    pub fn embedding_weights(&self) -> u64 {
        self.vocab * self.hidden
    }
}

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        /// Name and text of every embedded shape file.
        const FILES: &[(&str, &str)] = &[$(
            ($name, include_str!(concat!("../../../suites/shapes/", $name, ".toml"))),
        )*];
    };
}
embedded!(
    "125m",
    "350m",
    "700m",
    "1b",
    "1.5b",
    "2.5b",
    "2b4t",
    "3b",
    "3.8b",
    "7b",
    "13b",
    "30b",
    "70b",
    "100b",
    "llama3-8b",
    "falcon3-1b",
    "falcon3-3b",
    "falcon3-7b",
    "falcon3-10b",
);

fn shapes() -> &'static [ModelShape] {
    static SHAPES: OnceLock<Vec<ModelShape>> = OnceLock::new();
    SHAPES.get_or_init(|| {
        FILES
            .iter()
            // Embedded text that a unit test parses; a file that did not parse would be left out.
            .filter_map(|(name, text)| ModelShape::parse(name, text).ok())
            .collect()
    })
}

/// The trained models that are part of the program.
pub const BUILTIN_MODELS: [&str; 1] = ["builtin:shakespeare"];

/// An embedded shape by its name.
pub fn embedded_shape(name: &str) -> Option<&'static ModelShape> {
    shapes().iter().find(|shape| shape.name == name)
}

/// The shape of a model with random weights: `synth:<shape>`, or `synth:<shape>:layers=N` with fewer layers. `None` for
/// other models and for shapes that are not embedded.
pub fn synthetic_shape(model: &str) -> Option<ModelShape> {
    let name = model.strip_prefix("synth:")?;
    let (base, option) = name
        .split_once(':')
        .map_or((name, None), |(a, b)| (a, Some(b)));
    let mut shape = embedded_shape(base)?.clone();
    if let Some(option) = option {
        let layers: u64 = option.strip_prefix("layers=")?.parse().ok()?;
        shape.layers = Some(layers).filter(|layers| (1..=shape.layers).contains(layers))?;
    }
    Some(shape)
}

/// The names of the embedded shapes.
pub fn shape_names() -> Vec<&'static str> {
    FILES.iter().map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_parses_and_agrees_with_its_dimensions() {
        for (name, text) in FILES {
            let shape = ModelShape::parse(name, text).unwrap();
            assert_eq!(&shape.name, name);
            assert!(embedded_shape(name).is_some());
            let find = |role: &str| {
                let found: Vec<_> = shape
                    .matrices
                    .iter()
                    .filter(|m| m.roles.iter().any(|r| r == role))
                    .collect();
                assert_eq!(found.len(), 1, "{name}: {role}");
                (found[0].rows, found[0].k)
            };
            assert_eq!(shape.hidden % shape.heads, 0, "{name}");
            assert_eq!(shape.heads % shape.kv_heads, 0, "{name}");
            assert_eq!(find("q"), (find("o").1, shape.hidden), "{name}");
            assert_eq!(find("k"), find("v"), "{name}");
            assert_eq!(find("gate"), (shape.ffn, shape.hidden), "{name}");
            assert_eq!(find("up"), (shape.ffn, shape.hidden), "{name}");
            assert_eq!(find("down"), (shape.hidden, shape.ffn), "{name}");
        }
    }

    #[test]
    fn the_counts_of_2b4t_are_the_published_ones() {
        let shape = embedded_shape("2b4t").unwrap();
        assert_eq!(shape.linear_weights(), 2_084_044_800);
        assert_eq!(shape.embedding_weights(), 328_335_360);
        assert_eq!(
            shape.distinct(),
            [(2560, 2560), (640, 2560), (6912, 2560), (2560, 6912)]
        );
    }

    #[test]
    fn synthetic_models_may_have_fewer_layers() {
        let layers = |model| synthetic_shape(model).map(|shape| shape.layers);
        assert_eq!(layers("synth:2b4t"), Some(30));
        assert_eq!(layers("synth:2b4t:layers=2"), Some(2));
        for model in [
            "2b4t",
            "synth:",
            "synth:2b4t:layers=31",
            "synth:2b4t:layers=0",
            "synth:2b4t:x",
        ] {
            assert_eq!(layers(model), None, "{model}");
        }
    }
}
