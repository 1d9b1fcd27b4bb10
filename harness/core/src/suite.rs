//! Suites: what to measure, as TOML. `suites/FORMAT.md` says the same for people.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer};

use crate::energy::{EnergySettings, EnergyText, RunText};
use crate::generate::Generate;
use crate::program::Program;
use crate::shapes::{ModelShape, embedded_shape, shape_names};
use crate::{Workload, duration::parse_duration};

/// Largest dimension of a matrix that a suite may name: the kernels' own bound for K.
const MAX_DIMENSION: u64 = 262_144;
/// Largest number of tokens, positions or threads that a suite may name.
pub(crate) const MAX_COUNT: u64 = 1 << 20;

/// Why a suite, or another TOML file of its kind (shapes, limits), cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuiteError {
    /// The text is not a suite: a syntax error, an unknown key, a value of a wrong kind.
    #[error("{file}:{line}:{column}: {message}")]
    Text {
        /// The file, or the name of an embedded suite.
        file: String,
        /// Line from 1.
        line: usize,
        /// Column from 1.
        column: usize,
        /// What is wrong and what is expected.
        message: String,
    },
    /// A key has a value that makes no sense.
    #[error("{file}: {key}: {message}")]
    Value {
        /// The file, or the name of an embedded suite.
        file: String,
        /// The key, such as `micro[0].tokens`.
        key: String,
        /// What is wrong; what to do.
        message: String,
    },
}

/// Which kernels an entry takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// One kernel or baseline by its id, available or not.
    Id(String),
    /// Every ternary kernel that this machine can run.
    Available,
    /// The fastest ternary kernels of this machine, by the survey that precedes planning.
    Best(usize),
    /// Every dense baseline that this machine can run.
    Dense,
    /// The fastest dense baseline of each format.
    BestDense,
    /// The fastest dense baseline of one format: `f32 f16 i8 q4`.
    BestOf(String),
    /// Removes what the inner selector takes.
    Not(Box<Selector>),
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(inner) = text.strip_prefix('!') {
            return match inner.parse()? {
                Self::Not(_) => Err(format!("`{text}` excludes twice; hint: one `!` is enough")),
                inner => Ok(Self::Not(Box::new(inner))),
            };
        }
        match text {
            "" => Err("an empty kernel name".to_owned()),
            "available" => Ok(Self::Available),
            "dense" => Ok(Self::Dense),
            "dense:best" => Ok(Self::BestDense),
            "dense:f32" | "dense:f16" | "dense:i8" | "dense:q4" => {
                Ok(Self::BestOf(text.trim_start_matches("dense:").to_owned()))
            }
            _ if text.starts_with("dense:") => Err(format!(
                "unknown baseline `{text}`; hint: dense:best, or one of dense:f32 dense:f16 dense:i8 dense:q4"
            )),
            "best" => Ok(Self::Best(1)),
            _ => match text.strip_prefix("best:") {
                None => Ok(Self::Id(text.to_owned())),
                Some(count) => count
                    .parse()
                    .ok()
                    .filter(|count| (1..=1000).contains(count))
                    .map(Self::Best)
                    .ok_or_else(|| {
                        format!(
                            "`{text}` needs a count from 1; hint: best:3 takes the three fastest"
                        )
                    }),
            },
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => f.write_str(id),
            Self::Available => f.write_str("available"),
            Self::Best(count) => write!(f, "best:{count}"),
            Self::Dense => f.write_str("dense"),
            Self::BestDense => f.write_str("dense:best"),
            Self::BestOf(format) => write!(f, "dense:{format}"),
            Self::Not(inner) => write!(f, "!{inner}"),
        }
    }
}

/// Matrix shapes that an entry takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShapeRef {
    /// One matrix: output features x input features.
    Matrix {
        /// Output features.
        rows: u64,
        /// Input features.
        k: u64,
    },
    /// The distinct matrices of a published model.
    Model(String),
}

impl ShapeRef {
    /// The matrices, each as (rows, K), without repetition and in the order of the file.
    pub fn matrices(&self) -> Vec<(u64, u64)> {
        match self {
            Self::Matrix { rows, k } => vec![(*rows, *k)],
            Self::Model(name) => embedded_shape(name).map_or_else(Vec::new, ModelShape::distinct),
        }
    }

    /// The published model, if this is one.
    pub fn model(&self) -> Option<&'static ModelShape> {
        match self {
            Self::Matrix { .. } => None,
            Self::Model(name) => embedded_shape(name),
        }
    }
}

impl FromStr for ShapeRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((rows, k)) = text.split_once('x')
            && let (Ok(rows), Ok(k)) = (rows.parse::<u64>(), k.parse::<u64>())
        {
            return if (1..=MAX_DIMENSION).contains(&rows) && (1..=MAX_DIMENSION).contains(&k) {
                Ok(Self::Matrix { rows, k })
            } else {
                Err(format!(
                    "`{text}`: each side must be in 1..={MAX_DIMENSION}"
                ))
            };
        }
        if embedded_shape(text).is_some() {
            return Ok(Self::Model(text.to_owned()));
        }
        Err(format!(
            "unknown shape `{text}`; hint: write <rows>x<k>, or one of {}",
            shape_names().join(" ")
        ))
    }
}

/// A number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ThreadCount {
    /// This many.
    Count(usize),
    /// As many as the machine gives this process.
    All,
    /// The same, but no more than this.
    AtMost(usize),
}

impl ThreadCount {
    /// The count on a machine with `all` threads.
    pub fn on(self, all: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::All => all,
            Self::AtMost(most) => all.min(most),
        }
    }
}

impl FromStr for ThreadCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let (number, kind): (_, fn(usize) -> Self) = match text.strip_prefix("all:") {
            Some(most) => (most, Self::AtMost),
            None => (text, Self::Count),
        };
        number
            .parse()
            .ok()
            .filter(|count| (1..=4096).contains(count))
            .map(kind)
            .ok_or_else(|| {
                format!("`{text}` is not a thread count; hint: a number from 1, \"all\", or \"all:4\" for 4 at most")
            })
    }
}

impl<'de> Deserialize<'de> for ThreadCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ThreadCount;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a thread count: a number from 1, \"all\", or \"all:4\" for 4 at most")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<ThreadCount, E> {
                value.to_string().parse().map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<ThreadCount, E> {
                value.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Reads a value from its text through `FromStr`.
macro_rules! from_text {
    ($($type:ty),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
from_text!(Selector, ShapeRef);

/// What a pair's second side is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairSubject {
    /// A kernel or baseline; it must name exactly one.
    Kernel(Selector),
    /// The read probe: memory bandwidth.
    Read,
    /// The arithmetic probe: the peak of the instruction set.
    Peak,
}

impl FromStr for PairSubject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "probe:read" => Ok(Self::Read),
            "probe:peak" => Ok(Self::Peak),
            _ if text.starts_with("probe:") => Err(format!(
                "unknown probe `{text}`; hint: probe:read or probe:peak"
            )),
            _ => match text.parse()? {
                selector @ (Selector::Id(_) | Selector::Best(1) | Selector::BestOf(_)) => {
                    Ok(Self::Kernel(selector))
                }
                other => Err(format!(
                    "`{other}` may take several kernels; hint: name one id, best:1, or dense:f16"
                )),
            },
        }
    }
}

impl fmt::Display for PairSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(selector) => write!(f, "{selector}"),
            Self::Read => f.write_str("probe:read"),
            Self::Peak => f.write_str("probe:peak"),
        }
    }
}

from_text!(PairSubject);

/// Cells of single kernel calls.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Micro {
    /// `gemv-cold`, `gemv-warm`, `gemm`, `pack`, `prepare`, `dispatch`.
    pub workloads: Vec<Workload>,
    /// Kernels, in order; a selector that starts with `!` removes.
    #[serde(default = "available")]
    pub kernels: Vec<Selector>,
    /// Matrix shapes.
    #[serde(default)]
    pub shapes: Vec<ShapeRef>,
    /// Tokens of one call, for `gemm` and `prepare`; the others take one.
    #[serde(default = "one")]
    pub tokens: Vec<u64>,
    /// Thread counts.
    #[serde(default = "all_threads")]
    pub threads: Vec<ThreadCount>,
}

/// Two subjects, or a subject and its probe, measured in ABBA slices.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// `gemv-cold`, `gemv-warm` or `gemm`.
    pub workload: Workload,
    /// Side A: one pair for each kernel that it takes.
    pub subject: Selector,
    /// Side B.
    pub against: PairSubject,
    /// Matrix shapes: one pair for each matrix.
    pub shapes: Vec<ShapeRef>,
    /// Tokens of one call, for `gemm`; the others take one.
    #[serde(default = "one")]
    pub tokens: Vec<u64>,
    /// Thread counts: one pair for each.
    #[serde(default = "all_threads")]
    pub threads: Vec<ThreadCount>,
}

fn available() -> Vec<Selector> {
    vec![Selector::Available]
}
fn one() -> Vec<u64> {
    vec![1]
}
pub(crate) fn all_threads() -> Vec<ThreadCount> {
    vec![ThreadCount::All]
}
pub(crate) fn prompt_tokens() -> u64 {
    512
}
pub(crate) fn gen_tokens() -> u64 {
    128
}
/// The head of a suite.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default = "seed")]
    seed: u64,
    #[serde(default)]
    budget: Option<String>,
}

fn seed() -> u64 {
    1
}

/// The file as it is written.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    suite: Head,
    #[serde(default)]
    run: RunText,
    #[serde(default)]
    energy: EnergyText,
    #[serde(default)]
    micro: Vec<Micro>,
    #[serde(default)]
    generate: Vec<Generate>,
    #[serde(default)]
    pair: Vec<Pair>,
    #[serde(default)]
    program: Vec<Program>,
}

/// What to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Suite {
    /// Part of the name of the run directory.
    pub name: String,
    /// One sentence or two.
    pub description: String,
    /// Seed of the inputs and of the order of the cells.
    pub seed: u64,
    /// Time that the whole run may take; none: the default of two minutes.
    pub budget: Option<Duration>,
    /// The energy pass.
    pub energy: EnergySettings,
    /// The largest resident set of a worker.
    pub max_rss_bytes: Option<u64>,
    /// Visits of each cell of a whole model or program, whatever the budget is.
    pub rounds: Option<u64>,
    /// Cells of single kernel calls.
    pub micro: Vec<Micro>,
    /// Cells of whole models.
    pub generate: Vec<Generate>,
    /// Pairs.
    pub pair: Vec<Pair>,
    /// Cells of programs that are not ours.
    pub program: Vec<Program>,
    /// The text it was read from.
    pub text: String,
}

impl Suite {
    /// Reads a suite; `file` names it in errors.
    ///
    /// # Errors
    /// When the text is not TOML, has an unknown key, misses one, or a value makes no sense.
    pub fn parse(file: &str, text: &str) -> Result<Self, SuiteError> {
        let raw: Text = toml::from_str(text).map_err(|error| text_error(file, text, &error))?;
        let budget = raw
            .suite
            .budget
            .as_deref()
            .map(parse_duration)
            .transpose()
            .map_err(|error| value_error(file, "suite.budget", error))?;
        let energy = EnergySettings::read(&raw.run, &raw.energy)
            .map_err(|(key, message)| value_error(file, key, message))?;
        let max_rss_bytes = raw
            .run
            .max_rss_bytes()
            .map_err(|message| value_error(file, "run.max_rss_mb", message))?;
        let rounds = raw
            .run
            .rounds()
            .map_err(|message| value_error(file, "run.rounds", message))?;
        let suite = Self {
            name: raw.suite.name,
            description: raw.suite.description,
            seed: raw.suite.seed,
            budget,
            energy,
            max_rss_bytes,
            rounds,
            micro: raw.micro,
            generate: raw.generate,
            pair: raw.pair,
            program: raw.program,
            text: text.to_owned(),
        };
        suite.check(file)?;
        Ok(suite)
    }

    fn check(&self, file: &str) -> Result<(), SuiteError> {
        let wrong = |key: String, message: String| Err(value_error(file, &key, message));
        let name_ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(name_ok) {
            return wrong(
                "suite.name".into(),
                format!(
                    "`{}` is not a name; hint: 1 to 64 of a-z, 0-9 and -",
                    self.name
                ),
            );
        }
        let sections = [
            self.micro.len(),
            self.generate.len(),
            self.pair.len(),
            self.program.len(),
        ];
        if sections == [0; 4] {
            return wrong(
                "suite".into(),
                "measures nothing; hint: add a [[micro]], [[generate]], [[pair]] or [[program]]"
                    .into(),
            );
        }
        for (i, entry) in self.micro.iter().enumerate() {
            entry
                .check()
                .or_else(|(key, message)| wrong(format!("micro[{i}].{key}"), message))?;
        }
        for (i, entry) in self.generate.iter().enumerate() {
            entry
                .check()
                .or_else(|(key, message)| wrong(format!("generate[{i}].{key}"), message))?;
        }
        for (i, entry) in self.pair.iter().enumerate() {
            entry
                .check()
                .or_else(|(key, message)| wrong(format!("pair[{i}].{key}"), message))?;
        }
        for (i, entry) in self.program.iter().enumerate() {
            entry
                .check()
                .or_else(|(key, message)| wrong(format!("program[{i}].{key}"), message))?;
        }
        Ok(())
    }
}

/// A key and what is wrong with it.
pub(crate) type Fault = (&'static str, String);

fn words(workloads: &[Workload]) -> String {
    workloads
        .iter()
        .map(|w| w.name())
        .collect::<Vec<_>>()
        .join(" ")
}

pub(crate) fn check_workloads(
    key: &'static str,
    got: &[Workload],
    allowed: &[Workload],
) -> Result<(), Fault> {
    if got.is_empty() {
        return Err((key, format!("is empty; hint: some of {}", words(allowed))));
    }
    match got.iter().find(|workload| !allowed.contains(workload)) {
        Some(other) => Err((
            key,
            format!(
                "`{other}` does not belong here; hint: some of {}",
                words(allowed)
            ),
        )),
        None => Ok(()),
    }
}

pub(crate) fn check_counts(key: &'static str, counts: &[u64]) -> Result<(), Fault> {
    if counts.is_empty() {
        return Err((
            key,
            "is empty; hint: leave the key out for its default".into(),
        ));
    }
    match counts
        .iter()
        .find(|count| !(1..=MAX_COUNT).contains(*count))
    {
        Some(other) => Err((key, format!("{other} is not in 1..={MAX_COUNT}"))),
        None => Ok(()),
    }
}

pub(crate) fn check_filled<T>(key: &'static str, list: &[T]) -> Result<(), Fault> {
    if list.is_empty() {
        return Err((key, "is empty".into()));
    }
    Ok(())
}

impl Micro {
    /// What the `workloads` of this section may be.
    pub const WORKLOADS: [Workload; 6] = [
        Workload::GemvCold,
        Workload::GemvWarm,
        Workload::Gemm,
        Workload::Pack,
        Workload::Prepare,
        Workload::Dispatch,
    ];

    fn check(&self) -> Result<(), Fault> {
        check_workloads("workloads", &self.workloads, &Self::WORKLOADS)?;
        check_counts("tokens", &self.tokens)?;
        check_filled("kernels", &self.kernels)?;
        check_filled("threads", &self.threads)?;
        if self.shapes.is_empty() && self.workloads.iter().any(|w| *w != Workload::Dispatch) {
            return Err((
                "shapes",
                "is missing; hint: shapes = [\"2560x2560\"], or a model such as \"2b4t\"".into(),
            ));
        }
        Ok(())
    }
}

impl Pair {
    /// What the `workload` of this section may be.
    pub const WORKLOADS: [Workload; 3] = [Workload::GemvCold, Workload::GemvWarm, Workload::Gemm];

    fn check(&self) -> Result<(), Fault> {
        check_workloads("workload", &[self.workload], &Self::WORKLOADS)?;
        check_filled("shapes", &self.shapes)?;
        check_counts("tokens", &self.tokens)?;
        check_filled("threads", &self.threads)?;
        match &self.subject {
            Selector::Id(id) if id.starts_with("probe:") => {
                let hint = "hint: probes stand in `against`";
                return Err(("subject", format!("`{id}` is a probe; {hint}")));
            }
            Selector::Not(_) => {
                let hint = "hint: name what is to be measured";
                return Err((
                    "subject",
                    format!("`{}` takes nothing; {hint}", self.subject),
                ));
            }
            _ => {}
        }
        if matches!(&self.against, PairSubject::Kernel(against) if *against == self.subject) {
            return Err(("against", "is the subject itself".into()));
        }
        Ok(())
    }
}

pub(crate) fn value_error(file: &str, key: &str, message: impl fmt::Display) -> SuiteError {
    SuiteError::Value {
        file: file.to_owned(),
        key: key.to_owned(),
        message: message.to_string(),
    }
}

/// One line with position, from the several that the TOML reader gives.
pub(crate) fn text_error(file: &str, text: &str, error: &toml::de::Error) -> SuiteError {
    let at = error
        .span()
        .map(|span| span.start)
        .filter(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    let (mut line, mut start) = (1, 0);
    for (newline, _) in text[..at].match_indices('\n') {
        line += 1;
        start = newline + 1;
    }
    SuiteError::Text {
        file: file.to_owned(),
        line,
        column: at - start + 1,
        message: error.message().lines().collect::<Vec<_>>().join("; "),
    }
}
