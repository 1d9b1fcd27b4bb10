//! Multiple-choice tasks: how a record of a data set becomes a question.

use serde::Deserialize;

use crate::suite::{SuiteError, text_error, value_error};

/// Name and text of every embedded task.
const TASKS: &[(&str, &str)] = &[
    (
        "choices",
        include_str!("../../../suites/tasks/choices.toml"),
    ),
    (
        "arc_challenge",
        include_str!("../../../suites/tasks/arc_challenge.toml"),
    ),
    (
        "arc_easy",
        include_str!("../../../suites/tasks/arc_easy.toml"),
    ),
    ("boolq", include_str!("../../../suites/tasks/boolq.toml")),
    (
        "commonsenseqa",
        include_str!("../../../suites/tasks/commonsenseqa.toml"),
    ),
    (
        "hellaswag",
        include_str!("../../../suites/tasks/hellaswag.toml"),
    ),
    ("mmlu", include_str!("../../../suites/tasks/mmlu.toml")),
    (
        "openbookqa",
        include_str!("../../../suites/tasks/openbookqa.toml"),
    ),
    ("piqa", include_str!("../../../suites/tasks/piqa.toml")),
    (
        "truthfulqa_mc1",
        include_str!("../../../suites/tasks/truthfulqa_mc1.toml"),
    ),
    (
        "winogrande",
        include_str!("../../../suites/tasks/winogrande.toml"),
    ),
];

/// The text of an embedded task.
pub fn embedded_task(name: &str) -> Option<&'static str> {
    TASKS
        .iter()
        .find(|(task, _)| *task == name)
        .map(|(_, text)| *text)
}

/// The names of the embedded tasks.
pub fn task_names() -> Vec<&'static str> {
    TASKS.iter().map(|(name, _)| *name).collect()
}

/// Where the choices of a record are: exactly one of the three is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choices {
    /// A list of texts at this path.
    At(String),
    /// One text at each of these paths.
    Fields(Vec<String>),
    /// The same texts for every record.
    Texts(Vec<String>),
}

/// How a record of a data set becomes a question. A path names a field, and with dots fields within fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Name.
    pub name: String,
    /// What it asks.
    pub description: String,
    /// Where the data are.
    pub source: String,
    /// Template of what the model is given: `{path}`, `{choice}`, and `{before}` and `{after}` of a text that is split.
    pub context: String,
    /// Template of what it is asked to predict; the same placeholders.
    pub continuation: String,
    /// Path of a text that is split at its only `_`.
    pub split: Option<String>,
    /// The choices.
    pub choices: Choices,
    /// Path of the labels that an answer names, one a choice.
    pub labels: Option<String>,
    /// The labels where every record has the same.
    pub label_texts: Vec<String>,
    /// Path of the answer: an index from 0, a label, the text of a choice, false or true for the first two, a letter from A, or a list
    /// with a 1 at the right choice.
    pub answer: String,
    /// The metric that publications give: `accuracy`, or `accuracy_norm` where likelihoods are divided by lengths.
    pub metric: String,
    /// The accuracy that the report of BitNet b1.58 2B4T (arXiv 2504.12285, table 1) gives.
    pub reported: Option<f64>,
}

/// The file of a task.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    task: Raw,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    description: String,
    source: String,
    context: String,
    continuation: String,
    split: Option<String>,
    choices: Option<String>,
    #[serde(default)]
    choice_fields: Vec<String>,
    #[serde(default)]
    choice_texts: Vec<String>,
    labels: Option<String>,
    #[serde(default)]
    label_texts: Vec<String>,
    answer: String,
    #[serde(default = "accuracy")]
    metric: String,
    reported: Option<f64>,
}

fn accuracy() -> String {
    Task::METRICS[0].to_owned()
}

impl Task {
    /// What a task is scored by.
    pub const METRICS: [&'static str; 2] = ["accuracy", "accuracy_norm"];

    /// Reads the text of a task; `file` names it in errors.
    ///
    /// # Errors
    /// When it is not a task; the error names file, key and remedy.
    pub fn parse(file: &str, text: &str) -> Result<Self, SuiteError> {
        let Text { task: raw } =
            toml::from_str(text).map_err(|error| text_error(file, text, &error))?;
        let wrong = |key: &str, message: &str| Err(value_error(file, key, message));
        let choices = match (raw.choices, raw.choice_fields, raw.choice_texts) {
            (Some(path), fields, texts) if fields.is_empty() && texts.is_empty() => {
                Choices::At(path)
            }
            (None, fields, texts) if fields.len() > 1 && texts.is_empty() => {
                Choices::Fields(fields)
            }
            (None, fields, texts) if fields.is_empty() && texts.len() > 1 => Choices::Texts(texts),
            _ => {
                return wrong(
                    "task.choices",
                    "the choices are not told once; hint: give one of choices (the path of a list), choice_fields (two paths or more) and choice_texts (two texts or more)",
                );
            }
        };
        let fixed = match &choices {
            Choices::At(_) => None,
            Choices::Fields(all) | Choices::Texts(all) => Some(all.len()),
        };
        if !raw.label_texts.is_empty() && fixed.is_some_and(|n| n != raw.label_texts.len()) {
            return wrong("task.label_texts", "are not one for each choice");
        }
        if !Self::METRICS.contains(&raw.metric.as_str()) {
            return wrong("task.metric", "is not accuracy or accuracy_norm");
        }
        if raw
            .reported
            .is_some_and(|value| !(0.0..=1.0).contains(&value))
        {
            return wrong("task.reported", "is not a share from 0 to 1");
        }
        let both = format!("{}{}", raw.context, raw.continuation);
        if !both.contains("{choice}") {
            return wrong(
                "task.continuation",
                "no choice would be scored; hint: put {choice} into continuation or context",
            );
        }
        if raw.continuation.is_empty() {
            return wrong(
                "task.continuation",
                "is empty, so there is nothing to predict",
            );
        }
        Ok(Self {
            name: raw.name,
            description: raw.description,
            source: raw.source,
            context: raw.context,
            continuation: raw.continuation,
            split: raw.split,
            choices,
            labels: raw.labels,
            label_texts: raw.label_texts,
            answer: raw.answer,
            metric: raw.metric,
            reported: raw.reported,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_task_parses_under_its_name() {
        for (name, text) in TASKS {
            let task = Task::parse(&format!("{name}.toml"), text).unwrap();
            assert_eq!(&task.name, name);
            assert!(
                !task.description.is_empty() && !task.source.is_empty(),
                "{name}"
            );
        }
        assert_eq!(embedded_task("nothing"), None);
    }

    #[test]
    fn wrong_tasks_are_refused_with_their_key() {
        let base = "[task]\nname='t'\ndescription='d'\nsource='s'\nanswer='a'\n";
        for (rest, want) in [
            ("context='c'\ncontinuation=' {choice}'", "task.choices"),
            (
                "context='c'\ncontinuation=' {choice}'\nchoices='x'\nchoice_texts=['a','b']",
                "task.choices",
            ),
            (
                "context='c'\ncontinuation=' {choice}'\nchoice_texts=['a']",
                "task.choices",
            ),
            ("context='c'\ncontinuation=' x'\nchoices='x'", "{choice}"),
            (
                "context='{choice}'\ncontinuation=''\nchoices='x'",
                "task.continuation",
            ),
            (
                "context=''\ncontinuation='{choice}'\nchoices='x'\nmetric='f1'",
                "task.metric",
            ),
            (
                "context=''\ncontinuation='{choice}'\nchoices='x'\nreported=50.0",
                "task.reported",
            ),
            (
                "context=''\ncontinuation='{choice}'\nchoice_texts=['a','b']\nlabel_texts=['1']",
                "task.label_texts",
            ),
            (
                "context=''\ncontinuation='{choice}'\nchoices='x'\ncolour=1",
                "colour",
            ),
        ] {
            let error = Task::parse("t.toml", &format!("{base}{rest}"))
                .unwrap_err()
                .to_string();
            assert!(error.contains(want) && error.contains("t.toml"), "{error}");
        }
    }
}
