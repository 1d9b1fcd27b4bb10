//! Published figures that a run can be held against: `suites/claims.toml`, or a file of the same form.
//! `suites/FORMAT.md` says the same for people.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::suite::{text_error, value_error};
use crate::{SuiteError, embedded_shape};

const EMBEDDED: &str = include_str!("../../../suites/claims.toml");
/// Formats of dense baselines that a claim may be against.
const BASELINES: [&str; 4] = ["f32", "f16", "i8", "q4"];
/// How far below a published figure still counts as reached, unless a claim says otherwise: placement and clocks make that much.
const TOLERANCE_PERCENT: f64 = 5.0;

/// Where figures are published.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its short name, which claims refer to.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Where it can be read.
    pub url: String,
}

/// What a claim is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// Generated tokens a second.
    DecodeRate,
    /// Milliseconds a generated token.
    DecodeLatency,
    /// Time of a dense baseline over that of ternary weights, for the matrices of one token.
    SpeedUp,
    /// Joules a generated token, gross.
    EnergyToken,
    /// Per cent of the joules of a dense baseline that ternary weights save.
    EnergySaving,
    /// Bytes of the ternary weights in 10^9.
    WeightMemory,
    /// Joules of adders and multipliers by the published formula: an estimate.
    Arithmetic,
    /// Scores of a trained model.
    Accuracy,
}

impl Quantity {
    /// The word in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DecodeRate => "decode-rate",
            Self::DecodeLatency => "decode-latency",
            Self::SpeedUp => "speed-up",
            Self::EnergyToken => "energy-token",
            Self::EnergySaving => "energy-saving",
            Self::WeightMemory => "weight-memory",
            Self::Arithmetic => "arithmetic",
            Self::Accuracy => "accuracy",
        }
    }

    /// Its unit.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::DecodeRate => "tokens/s",
            Self::DecodeLatency => "ms/token",
            Self::SpeedUp => "x",
            Self::EnergyToken => "J/token",
            Self::EnergySaving => "%",
            Self::WeightMemory => "GB",
            Self::Arithmetic => "J",
            Self::Accuracy => "points",
        }
    }

    /// Whether a smaller amount is better.
    pub const fn less_is_better(self) -> bool {
        matches!(
            self,
            Self::DecodeLatency | Self::EnergyToken | Self::WeightMemory
        )
    }

    /// Whether it is of a model whose shape has to be known.
    const fn of_a_shape(self) -> bool {
        !matches!(self, Self::Arithmetic | Self::Accuracy)
    }

    const fn needs_baseline(self) -> bool {
        matches!(self, Self::SpeedUp | Self::EnergySaving)
    }
}

/// What a weight costs in the arithmetic formula.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArithmeticWeight {
    /// A half-precision multiply and add.
    F16,
    /// An 8-bit addition.
    Ternary,
}

/// A model as the arithmetic formula sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArithmeticShape {
    /// What a weight costs.
    pub weight: ArithmeticWeight,
    /// Layers.
    pub layers: u32,
    /// Features of the residual stream.
    pub hidden: u32,
    /// Query heads times their width.
    pub queries: u32,
    /// Key heads times their width.
    pub keys: u32,
    /// Features of the feed-forward network.
    pub ffn: u32,
}

/// The published figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Published {
    /// One value.
    Value(f64),
    /// The least and the most over models, or over machines.
    Range(f64, f64),
}

/// One published figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Unique: the id in the file, and `/<label>` for one of several values.
    pub id: String,
    /// Where it is published.
    pub source: Source,
    /// Which part of the source.
    pub place: String,
    /// The claim in words.
    pub says: String,
    /// How it was measured there.
    pub setup: String,
    /// What a reader should know about it.
    pub note: String,
    /// What it is about.
    pub quantity: Quantity,
    /// The figure.
    pub published: Published,
    /// Names of embedded shapes; of a score, what was scored.
    pub models: Vec<String>,
    /// Format of the baseline: `f32 f16 i8 q4`; empty where there is none.
    pub against: String,
    /// Threads; `None` for the best of any number.
    pub threads: Option<u64>,
    /// Part of the name of the processor: absolute figures hold for that one. Empty: for any.
    pub machine: String,
    /// Architecture of the processor, such as `x86_64`; empty for any.
    pub architecture: String,
    /// Per cent by which a figure may be missed and still count as reached.
    pub tolerance_percent: f64,
    /// The suite that measures it; empty where none does.
    pub suite: String,
    /// The model of the arithmetic formula.
    pub arithmetic: Option<ArithmeticShape>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default)]
    source: Vec<Source>,
    #[serde(default)]
    claim: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    source: String,
    place: String,
    says: String,
    setup: String,
    #[serde(default)]
    note: String,
    quantity: Quantity,
    #[serde(default)]
    against: String,
    #[serde(default)]
    machine: String,
    #[serde(default)]
    architecture: String,
    threads: Option<u64>,
    #[serde(default)]
    models: Vec<String>,
    value: Option<f64>,
    values: Option<BTreeMap<String, f64>>,
    range: Option<[f64; 2]>,
    tolerance_percent: Option<f64>,
    #[serde(default)]
    suite: String,
    arithmetic: Option<ArithmeticShape>,
}

/// The claims that the program carries.
///
/// # Errors
/// Never for the embedded text, which a test reads.
pub fn embedded_claims() -> Result<Vec<Claim>, SuiteError> {
    parse_claims("claims.toml", EMBEDDED)
}

/// Reads a file of claims; `file` names it in errors. One with several values becomes a claim for each.
///
/// # Errors
/// When the text is not TOML, a key is unknown or missing, or a value makes no sense.
pub fn parse_claims(file: &str, text: &str) -> Result<Vec<Claim>, SuiteError> {
    let Text { source, claim } =
        toml::from_str(text).map_err(|error| text_error(file, text, &error))?;
    let mut sources = BTreeMap::new();
    for (i, source) in source.into_iter().enumerate() {
        let key = format!("source[{i}].id");
        if source.id.is_empty() {
            return Err(value_error(file, &key, "is empty"));
        }
        if let Some(twice) = sources.insert(source.id.clone(), source) {
            let message = format!("`{}` is there twice", twice.id);
            return Err(value_error(file, &key, message));
        }
    }
    if claim.is_empty() {
        let message = "there is none; hint: suites/FORMAT.md shows one";
        return Err(value_error(file, "claim", message));
    }
    let mut ids = BTreeSet::new();
    let mut claims = Vec::new();
    for (i, entry) in claim.into_iter().enumerate() {
        for claim in entry.claims(file, &format!("claim[{i}]"), &sources)? {
            if !ids.insert(claim.id.clone()) {
                let message = format!("`{}` is there twice", claim.id);
                return Err(value_error(file, &format!("claim[{i}].id"), message));
            }
            claims.push(claim);
        }
    }
    Ok(claims)
}

impl Entry {
    /// The claims of a section: one for each of its values.
    fn claims(
        self,
        file: &str,
        key: &str,
        sources: &BTreeMap<String, Source>,
    ) -> Result<Vec<Claim>, SuiteError> {
        let wrong =
            |field: &str, message: &str| Err(value_error(file, &format!("{key}.{field}"), message));
        let Some(source) = sources.get(&self.source) else {
            let message = format!(
                "there is no source `{}`; hint: add a [[source]] with that id",
                self.source
            );
            return wrong("source", &message);
        };
        if self.id.is_empty() || self.id.contains('/') {
            return wrong("id", "needs to be a word without `/`");
        }
        if self.quantity.needs_baseline() != BASELINES.contains(&self.against.as_str())
            || (!self.quantity.needs_baseline() && !self.against.is_empty())
        {
            let message = "`speed-up` and `energy-saving` need one of f32 f16 i8 q4, and nothing else has a baseline";
            return wrong("against", message);
        }
        if (self.quantity == Quantity::Arithmetic) != self.arithmetic.is_some() {
            return wrong(
                "arithmetic",
                "belongs to the quantity `arithmetic`, which needs it",
            );
        }
        if self
            .threads
            .is_some_and(|threads| !(1..=4096).contains(&threads))
        {
            return wrong("threads", "is not in 1..=4096");
        }
        let tolerance_percent = self.tolerance_percent.unwrap_or(TOLERANCE_PERCENT);
        if !(0.0..=100.0).contains(&tolerance_percent) {
            return wrong("tolerance_percent", "is not in 0..=100");
        }
        let several = self.values.is_some();
        let figures: Vec<(Vec<String>, Published)> = match (self.value, self.values, self.range) {
            (Some(value), None, None) => vec![(self.models, Published::Value(value))],
            (None, Some(values), None) if self.models.is_empty() => values
                .into_iter()
                .map(|(label, value)| (vec![label], Published::Value(value)))
                .collect(),
            (None, None, Some([from, to])) => vec![(self.models, Published::Range(from, to))],
            (None, Some(_), None) => {
                return wrong(
                    "models",
                    "stands beside `values`, whose keys are the models",
                );
            }
            _ => {
                return Err(value_error(
                    file,
                    key,
                    "needs exactly one of `value`, `values`, `range`",
                ));
            }
        };
        if figures.is_empty() {
            return wrong("values", "is empty");
        }
        let mut claims = Vec::with_capacity(figures.len());
        for (models, published) in figures {
            let sensible = match published {
                Published::Value(value) => value.is_finite() && value > 0.0,
                Published::Range(from, to) => from > 0.0 && to.is_finite() && from <= to,
            };
            if !sensible {
                return Err(value_error(
                    file,
                    key,
                    "a figure is not above 0 and finite, or a range ends before it begins",
                ));
            }
            if self.quantity.of_a_shape() {
                if models.is_empty() {
                    return wrong("models", "is empty; hint: names of suites/shapes");
                }
                let unknown = models.iter().find(|name| embedded_shape(name).is_none());
                if let Some(name) = unknown {
                    let message = format!("there is no shape `{name}`; hint: see suites/shapes");
                    return wrong("models", &message);
                }
            }
            claims.push(Claim {
                id: match models.first().filter(|_| several) {
                    Some(label) => format!("{}/{label}", self.id),
                    None => self.id.clone(),
                },
                source: source.clone(),
                place: self.place.clone(),
                says: self.says.clone(),
                setup: self.setup.clone(),
                note: self.note.clone(),
                quantity: self.quantity,
                published,
                models,
                against: self.against.clone(),
                threads: self.threads,
                machine: self.machine.clone(),
                architecture: self.architecture.clone(),
                tolerance_percent,
                suite: self.suite.clone(),
                arithmetic: self.arithmetic,
            });
        }
        // Small models first, as tables have them.
        claims.sort_by_cached_key(|claim| {
            let shape = claim.models.first().and_then(|name| embedded_shape(name));
            shape.map(crate::ModelShape::linear_weights)
        });
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "[[source]]\nid = \"s\"\ntitle = \"t\"\nurl = \"u\"\n[[claim]]\nid = \"c\"\nsource = \"s\"\nplace = \"p\"\nsays = \"x\"\nsetup = \"y\"\n";

    #[test]
    fn the_embedded_claims_are_read_and_name_suites_that_exist() {
        let claims = embedded_claims().unwrap();
        assert!(claims.len() > 200, "{}", claims.len());
        for claim in &claims {
            let known = claim.suite.is_empty() || crate::embedded_suite(&claim.suite).is_some();
            assert!(known, "{}: no suite {}", claim.id, claim.suite);
        }
        let of = |id: &str| claims.iter().find(|claim| claim.id == id).unwrap();
        let figure = of("2410-table4-i7-speed-up/700m");
        assert_eq!(figure.published, Published::Value(3.88));
        assert_eq!(figure.models, ["700m"]);
        assert_eq!(
            of("headline-x86-speed-up").published,
            Published::Range(2.37, 6.17)
        );
    }

    #[test]
    fn values_become_claims_in_the_order_of_size() {
        let text = format!(
            "{HEAD}quantity = \"decode-rate\"\nvalues = {{ \"13b\" = 2, \"700m\" = 9.5, \"1.5b\" = 4 }}\n"
        );
        let ids: Vec<String> = parse_claims("m.toml", &text)
            .unwrap()
            .into_iter()
            .map(|claim| claim.id)
            .collect();
        assert_eq!(ids, ["c/700m", "c/1.5b", "c/13b"]);
    }

    #[test]
    fn broken_files_are_refused_by_key() {
        for (text, part) in [
            ("quantity = \"speed\"\nvalue = 1", "unknown variant"),
            ("quantity = \"decode-rate\"\nmodel = 1", "unknown field"),
            (
                "quantity = \"decode-rate\"\nmodels = [\"700m\"]",
                "exactly one of",
            ),
            (
                "quantity = \"decode-rate\"\nmodels = [\"9b\"]\nvalue = 1",
                "no shape `9b`",
            ),
            ("quantity = \"decode-rate\"\nvalue = 1", "models: is empty"),
            (
                "quantity = \"speed-up\"\nmodels = [\"7b\"]\nvalue = 1",
                "claim[0].against",
            ),
            (
                "quantity = \"decode-rate\"\nagainst = \"f16\"\nmodels = [\"7b\"]\nvalue = 1",
                "claim[0].against",
            ),
            (
                "quantity = \"decode-rate\"\nmodels = [\"7b\"]\nvalue = -1",
                "not above 0",
            ),
            (
                "quantity = \"decode-rate\"\nmodels = [\"7b\"]\nrange = [5, 4]",
                "ends before",
            ),
            (
                "quantity = \"decode-rate\"\nthreads = 0\nmodels = [\"7b\"]\nvalue = 1",
                "1..=4096",
            ),
            ("quantity = \"arithmetic\"\nvalue = 1", "arithmetic"),
        ] {
            let error = parse_claims("m.toml", &format!("{HEAD}{text}\n"))
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("m.toml:") && error.contains(part),
                "{error}"
            );
        }
        let stray = HEAD.replace("source = \"s\"", "source = \"z\"");
        let error = parse_claims(
            "m.toml",
            &format!("{stray}quantity = \"accuracy\"\nvalue = 1\n"),
        );
        assert!(error.unwrap_err().to_string().contains("no source `z`"));
        let none = parse_claims("m.toml", "").unwrap_err().to_string();
        assert!(none.contains("there is none"), "{none}");
    }
}
