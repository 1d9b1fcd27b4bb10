//! `[[generate]]`: whole models, and the requests that are put to them.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use crate::prompts::{embedded_prompt, prompt_names};
use crate::shapes::{BUILTIN_MODELS, shape_names, synthetic_shape};
use crate::suite::{
    Fault, MAX_COUNT, all_threads, check_counts, check_filled, check_workloads, gen_tokens,
    prompt_tokens,
};
use crate::{Selector, ThreadCount, Workload};

/// Cells of whole models: one for each combination of what the lists hold.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    /// `prefill`, `decode`; empty where `tests` says what is done.
    #[serde(default)]
    pub workloads: Vec<Workload>,
    /// What is done, in one word each, such as `pp512`, `tg128`, `pp512+tg128 @ d4096`.
    #[serde(default)]
    pub tests: Vec<ModelTest>,
    /// `synth:<shape>`, `builtin:<name>`, or the path of a model.
    pub models: Vec<String>,
    /// Kernels, in order; a selector that starts with `!` removes.
    #[serde(default = "best")]
    pub kernels: Vec<Selector>,
    /// Thread counts.
    #[serde(default = "all_threads")]
    pub threads: Vec<ThreadCount>,
    /// Tokens of a prompt of random tokens.
    #[serde(default = "usual_prompt", deserialize_with = "one_or_more")]
    pub prompt_tokens: Vec<u64>,
    /// Texts of `suites/prompts` in place of random tokens.
    #[serde(default, deserialize_with = "one_or_more")]
    pub prompts: Vec<String>,
    /// Tokens generated in one request of a decode cell.
    #[serde(default = "usual_answer", deserialize_with = "one_or_more")]
    pub gen_tokens: Vec<u64>,
    /// Tokens already in the KV cache when timing starts.
    #[serde(default = "no_depth", deserialize_with = "one_or_more")]
    pub depth: Vec<u64>,
    /// Sequences that a decode cell decodes together.
    #[serde(default = "one_sequence", deserialize_with = "one_or_more")]
    pub batch: Vec<u64>,
    /// Types of the KV cache: some of [`Generate::KVS`].
    #[serde(default = "f16", deserialize_with = "one_or_more")]
    pub kv: Vec<String>,
    /// Types of the output head: some of [`Generate::HEADS`].
    #[serde(default = "f16", deserialize_with = "one_or_more")]
    pub head: Vec<String>,
    /// Tokens of one prefill chunk.
    #[serde(default = "usual_ubatch", deserialize_with = "one_or_more")]
    pub ubatch: Vec<u64>,
    /// What the page cache holds of the model's files before they are loaded: some of [`Generate::PAGE_CACHES`]. With it each visit is
    /// by a worker of its own, from the start of its process to the first token.
    #[serde(default = "any_pages", deserialize_with = "one_or_more")]
    pub page_cache: Vec<String>,
    /// Whether packed weights are kept on disk from one visit to the next. Where they are, each visit is by a worker of its own.
    #[serde(default = "no_cache", deserialize_with = "one_or_more")]
    pub packed_cache: Vec<bool>,
    /// Whether models with random weights are also projected from parts of their layers when they fit; those that do not fit
    /// always are.
    #[serde(default)]
    pub project: bool,
}

fn best() -> Vec<Selector> {
    vec![Selector::Best(1)]
}
fn usual_prompt() -> Vec<u64> {
    vec![prompt_tokens()]
}
fn usual_answer() -> Vec<u64> {
    vec![gen_tokens()]
}
fn no_depth() -> Vec<u64> {
    vec![0]
}
fn one_sequence() -> Vec<u64> {
    vec![1]
}
fn usual_ubatch() -> Vec<u64> {
    vec![512]
}
fn any_pages() -> Vec<String> {
    vec![String::new()]
}
fn no_cache() -> Vec<bool> {
    vec![false]
}
fn f16() -> Vec<String> {
    vec!["f16".to_owned()]
}

/// What can stand alone where a list is meant.
trait Single: Sized {
    const WANT: &'static str;
    fn number(_value: u64) -> Option<Self> {
        None
    }
    fn text(_value: &str) -> Option<Self> {
        None
    }
    fn flag(_value: bool) -> Option<Self> {
        None
    }
}

impl Single for bool {
    const WANT: &'static str = "true, false, or a list of them";
    fn flag(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl Single for u64 {
    const WANT: &'static str = "a whole number from 0, or a list of them";
    fn number(value: u64) -> Option<Self> {
        Some(value)
    }
}

impl Single for String {
    const WANT: &'static str = "a text, or a list of texts";
    fn text(value: &str) -> Option<Self> {
        Some(value.to_owned())
    }
}

/// Reads a list, or a value alone as a list of one.
fn one_or_more<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Single + Deserialize<'de>,
{
    struct OneOrMore<T>(std::marker::PhantomData<T>);
    impl<'de, T: Single + Deserialize<'de>> Visitor<'de> for OneOrMore<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::WANT)
        }
        fn visit_u64<E: de::Error>(self, value: u64) -> Result<Vec<T>, E> {
            T::number(value)
                .map(|one| vec![one])
                .ok_or_else(|| E::invalid_type(de::Unexpected::Unsigned(value), &self))
        }
        fn visit_i64<E: de::Error>(self, value: i64) -> Result<Vec<T>, E> {
            let unexpected = de::Unexpected::Signed(value);
            u64::try_from(value)
                .ok()
                .and_then(T::number)
                .map(|one| vec![one])
                .ok_or_else(|| E::invalid_value(unexpected, &self))
        }
        fn visit_bool<E: de::Error>(self, value: bool) -> Result<Vec<T>, E> {
            T::flag(value)
                .map(|one| vec![one])
                .ok_or_else(|| E::invalid_type(de::Unexpected::Bool(value), &self))
        }
        fn visit_str<E: de::Error>(self, value: &str) -> Result<Vec<T>, E> {
            T::text(value)
                .map(|one| vec![one])
                .ok_or_else(|| E::invalid_type(de::Unexpected::Str(value), &self))
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut values = Vec::new();
            while let Some(value) = list.next_element()? {
                values.push(value);
            }
            Ok(values)
        }
    }
    deserializer.deserialize_any(OneOrMore(std::marker::PhantomData))
}

/// What is done with a model, as the field writes it: `pp512` processes a prompt of 512 tokens, `tg128` generates 128 behind one,
/// `pp512+tg128` generates behind such a prompt; ` @ d4096` puts 4,096 tokens into the cache before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelTest {
    /// Tokens of the prompt.
    pub prompt: Option<u64>,
    /// Tokens that are generated.
    pub generated: Option<u64>,
    /// Tokens in the cache before, where the test says how many.
    pub depth: Option<u64>,
}

impl FromStr for ModelTest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no test; hint: pp512, tg128, pp512+tg128, or one of them with @ d4096 behind it"
            )
        };
        let number = |word: &str, before: &str| {
            let digits = word.trim().strip_prefix(before)?;
            digits.parse::<u64>().ok()
        };
        let (what, depth) = match text.split_once('@') {
            None => (text, None),
            Some((what, depth)) => (what, Some(number(depth, "d").ok_or_else(wrong)?)),
        };
        let (prompt, generated) = match what.split_once('+') {
            Some((prompt, generated)) => (number(prompt, "pp"), number(generated, "tg")),
            None => (number(what, "pp"), number(what, "tg")),
        };
        let both = what.contains('+');
        let found = prompt.iter().chain(&generated).count();
        if found != 1 + usize::from(both) {
            return Err(wrong());
        }
        Ok(Self {
            prompt,
            generated,
            depth,
        })
    }
}

impl<'de> Deserialize<'de> for ModelTest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// One kind of request to a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRequest {
    /// `prefill` or `decode`.
    pub workload: Workload,
    /// Tokens of the prompt; 0 where it is a text.
    pub prompt_tokens: u64,
    /// Name of the prompt's text, or empty.
    pub prompt: String,
    /// Tokens that are generated; 0 for prefill.
    pub gen_tokens: u64,
    /// Tokens in the cache before.
    pub depth: u64,
    /// Sequences that are decoded together.
    pub batch: u64,
}

/// How an engine is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelOptions<'a> {
    /// Type of the KV cache.
    pub kv: &'a str,
    /// Type of the output head.
    pub head: &'a str,
    /// Tokens of one prefill chunk.
    pub ubatch: u64,
    /// What the page cache holds of the model's files before they are loaded; empty where nobody looks.
    pub page_cache: &'a str,
    /// Whether packed weights are kept on disk.
    pub packed_cache: bool,
}

impl ModelOptions<'_> {
    /// Whether the start of the process belongs to what is measured.
    pub fn starts(&self) -> bool {
        !self.page_cache.is_empty() || self.packed_cache
    }
}

impl Generate {
    /// What the `workloads` of this section may be.
    pub const WORKLOADS: [Workload; 2] = [Workload::Prefill, Workload::Decode];
    /// Types of the KV cache.
    pub const KVS: [&'static str; 3] = ["f16", "f32", "i8"];
    /// Types of the output head.
    pub const HEADS: [&'static str; 7] =
        ["f16", "f16-plain", "f16-top", "f32", "i8", "q6_k", "q4_0"];
    /// What the page cache may be asked to hold of a model's files before they are loaded: 99 % of them at least, or nothing.
    pub const PAGE_CACHES: [&'static str; 2] = ["warm", "cold"];
    /// Most sequences that are decoded together.
    pub const MOST_SEQUENCES: u64 = 32;

    /// How engines are set up, in order.
    pub fn options(&self) -> Vec<ModelOptions<'_>> {
        let mut all = Vec::new();
        for kv in &self.kv {
            for head in &self.head {
                for ubatch in self.ubatch.iter().copied() {
                    for page_cache in &self.page_cache {
                        for packed_cache in self.packed_cache.iter().copied() {
                            all.push(ModelOptions {
                                kv,
                                head,
                                ubatch,
                                page_cache,
                                packed_cache,
                            });
                        }
                    }
                }
            }
        }
        all
    }

    /// Every request, in order; some may be there twice.
    pub fn requests(&self) -> Vec<ModelRequest> {
        let mut all = Vec::new();
        for workload in self.workloads.iter().copied() {
            let texts = self.prompts.iter().map(|name| (0, name.as_str()));
            let prompts: Vec<(u64, &str)> = if self.prompts.is_empty() {
                self.prompt_tokens
                    .iter()
                    .map(|tokens| (*tokens, ""))
                    .collect()
            } else {
                texts.collect()
            };
            for (tokens, text) in prompts {
                for depth in self.depth.iter().copied() {
                    self.request(&mut all, workload, (tokens, text), &self.gen_tokens, depth);
                }
            }
        }
        for test in &self.tests {
            let workload = test
                .generated
                .map_or(Workload::Prefill, |_| Workload::Decode);
            // Something has to stand before the first token.
            let prompt = (test.prompt.unwrap_or(1), "");
            let generated: Vec<u64> = test.generated.into_iter().collect();
            let own = test.depth.map(|depth| vec![depth]);
            for depth in own.as_ref().unwrap_or(&self.depth).iter().copied() {
                self.request(&mut all, workload, prompt, &generated, depth);
            }
        }
        all
    }

    fn request(
        &self,
        all: &mut Vec<ModelRequest>,
        workload: Workload,
        (prompt_tokens, prompt): (u64, &str),
        generated: &[u64],
        depth: u64,
    ) {
        let decode = workload == Workload::Decode;
        let (generated, batch): (&[u64], &[u64]) = if decode {
            (generated, &self.batch)
        } else {
            (&[0], &[1])
        };
        for gen_tokens in generated.iter().copied() {
            for batch in batch.iter().copied() {
                all.push(ModelRequest {
                    workload,
                    prompt_tokens,
                    prompt: prompt.to_owned(),
                    gen_tokens,
                    depth,
                    batch,
                });
            }
        }
    }

    pub(crate) fn check(&self) -> Result<(), Fault> {
        if self.tests.is_empty() {
            check_workloads("workloads", &self.workloads, &Self::WORKLOADS)?;
        } else if !self.workloads.is_empty() || !self.prompts.is_empty() {
            return Err((
                "tests",
                "stand beside `workloads` or `prompts`; hint: a section of their own".into(),
            ));
        }
        check_filled("models", &self.models)?;
        check_filled("kernels", &self.kernels)?;
        check_filled("threads", &self.threads)?;
        self.check_models()?;
        let types: [(_, &[String], &[&str]); 2] = [
            ("kv", &self.kv, &Self::KVS),
            ("head", &self.head, &Self::HEADS),
        ];
        for (key, values, known) in types {
            check_filled(key, values)?;
            if let Some(value) = values.iter().find(|value| !known.contains(&value.as_str())) {
                let known = known.join(", ");
                return Err((key, format!("`{value}` is not one of {known}")));
            }
        }
        self.check_starts()?;
        for name in &self.prompts {
            if embedded_prompt(name).is_none() {
                let known = prompt_names().join(" ");
                return Err((
                    "prompts",
                    format!("no prompt `{name}`; hint: one of {known}"),
                ));
            }
        }
        check_counts("prompt_tokens", &self.prompt_tokens)?;
        check_counts("gen_tokens", &self.gen_tokens)?;
        check_counts("ubatch", &self.ubatch)?;
        check_counts("batch", &self.batch)?;
        check_filled("depth", &self.depth)?;
        if let Some(batch) = self
            .batch
            .iter()
            .find(|batch| **batch > Self::MOST_SEQUENCES)
        {
            let most = Self::MOST_SEQUENCES;
            return Err(("batch", format!("{batch} is not in 1..={most}")));
        }
        let by_tests = !self.tests.is_empty();
        for request in self.requests() {
            if request.depth > MAX_COUNT {
                let key = if by_tests { "tests" } else { "depth" };
                return Err((key, format!("{} is above {MAX_COUNT}", request.depth)));
            }
            if by_tests {
                let generated: &[u64] = match request.workload {
                    Workload::Decode => &[request.gen_tokens],
                    _ => &[],
                };
                let counts = [&[request.prompt_tokens], generated].concat();
                check_counts("tests", &counts)?;
            }
            if request.workload == Workload::Decode && request.gen_tokens < 2 {
                let key = if by_tests { "tests" } else { "gen_tokens" };
                return Err((
                    key,
                    "is 1, and the first token belongs to the prompt; hint: 2 or more".into(),
                ));
            }
        }
        Ok(())
    }

    /// How models are loaded is a matter of their files.
    fn check_starts(&self) -> Result<(), Fault> {
        check_filled("page_cache", &self.page_cache)?;
        check_filled("packed_cache", &self.packed_cache)?;
        let unusual = self.page_cache != any_pages();
        let unknown = |value: &&String| !Self::PAGE_CACHES.contains(&value.as_str());
        if let Some(value) = self
            .page_cache
            .iter()
            .find(|value| unusual && unknown(value))
        {
            let known = Self::PAGE_CACHES.join(", ");
            return Err(("page_cache", format!("`{value}` is not one of {known}")));
        }
        let made = |model: &&String| model.starts_with("synth:") || model.starts_with("builtin:");
        let packed = self.packed_cache.contains(&true);
        match self.models.iter().find(made) {
            Some(model) if unusual || packed => {
                let key = if unusual {
                    "page_cache"
                } else {
                    "packed_cache"
                };
                Err((
                    key,
                    format!(
                        "stands beside `{model}`, which is made in memory; hint: the path of a model file, such as `tritbench model synth` writes"
                    ),
                ))
            }
            _ => Ok(()),
        }
    }

    fn check_models(&self) -> Result<(), Fault> {
        for model in &self.models {
            if model.is_empty() {
                return Err(("models", "has an empty name".into()));
            }
            // The smallest shape of all is for tests, and no model was published with it.
            if model.starts_with("synth:")
                && model != "synth:tiny"
                && synthetic_shape(model).is_none()
            {
                return Err((
                    "models",
                    format!(
                        "unknown shape in `{model}`; hint: one of {}",
                        shape_names().join(" ")
                    ),
                ));
            }
            if model.starts_with("builtin:") && !BUILTIN_MODELS.contains(&model.as_str()) {
                return Err((
                    "models",
                    format!(
                        "no built-in model `{model}`; hint: one of {}",
                        BUILTIN_MODELS.join(" ")
                    ),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_written_as_the_field_writes_them() {
        let test = |text: &str| text.parse::<ModelTest>();
        let of = |prompt, generated, depth| ModelTest {
            prompt,
            generated,
            depth,
        };
        assert_eq!(test("pp512"), Ok(of(Some(512), None, None)));
        assert_eq!(test("tg128"), Ok(of(None, Some(128), None)));
        assert_eq!(test("pp512+tg128"), Ok(of(Some(512), Some(128), None)));
        for text in ["tg128 @ d4096", "tg128@d4096"] {
            assert_eq!(test(text), Ok(of(None, Some(128), Some(4096))));
        }
        for text in [
            "", "512", "pp", "tgx", "tg1+pp1", "pp1+", "pp1+pp1", "pp1 @ 5", "pp-1", "pp1@",
        ] {
            let error = test(text).unwrap_err();
            assert!(error.contains("pp512+tg128"), "{text}: {error}");
        }
    }
}
