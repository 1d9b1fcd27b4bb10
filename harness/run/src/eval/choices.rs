//! Multiple-choice questions by log-likelihood.

use std::borrow::Cow;

use serde_json::Value;
use trit_core::{Choices, EvalRow, Task};
use trit_engine::{Engine, EngineError};
use trit_stats::wilson;

use super::{EvalError, Facts, LEVEL, Subject, log_sum_exp, with_value};

/// A record that is no question of its task.
#[derive(Debug, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct QuestionError {
    /// The file of the questions.
    pub file: String,
    /// Line from 1.
    pub line: usize,
    /// What is wrong, and the remedy.
    pub message: String,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Line of its record, from 1.
    pub line: usize,
    /// For each choice what the model is given, and what it is to predict.
    pub choices: Vec<(String, String)>,
    /// Which one is right, from 0.
    pub answer: usize,
}

/// The most choices of a question.
const MOST_CHOICES: usize = 64;

/// The value at a path; a dot goes into a field.
fn at<'v>(record: &'v Value, path: &str) -> Result<&'v Value, String> {
    path.split('.')
        .try_fold(record, Value::get)
        .ok_or_else(|| format!("has no `{path}`; hint: the task names the fields of its data"))
}

/// A text at a path; numbers are written out.
fn text_at<'v>(record: &'v Value, path: &str) -> Result<Cow<'v, str>, String> {
    match at(record, path)? {
        Value::String(text) => Ok(Cow::Borrowed(text)),
        Value::Number(number) => Ok(Cow::Owned(number.to_string())),
        other => Err(format!("`{path}` is not a text: {}", short(other))),
    }
}

fn texts_at(record: &Value, path: &str) -> Result<Vec<String>, String> {
    let not = |other: &Value| format!("`{path}` is not a list of texts: {}", short(other));
    let list = at(record, path)?;
    list.as_array()
        .ok_or_else(|| not(list))?
        .iter()
        .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| not(item)))
        .collect()
}

/// The beginning of a value, for errors.
fn short(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}

/// Fills a template; `special` are the placeholders that are not paths.
fn fill(template: &str, record: &Value, special: &[(&str, &str)]) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, tail)) = rest.split_once('{') {
        out.push_str(before);
        let (name, after) = tail
            .split_once('}')
            .ok_or_else(|| format!("the template `{template}` has a {{ without a }}"))?;
        match special.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => out.push_str(text),
            None => out.push_str(&text_at(record, name)?),
        }
        rest = after;
    }
    Ok(out + rest)
}

/// Which choice an answer names.
fn answer(task: &Task, record: &Value, choices: &[String]) -> Result<usize, String> {
    let value = at(record, &task.answer)?;
    let labels = match &task.labels {
        Some(path) => texts_at(record, path)?,
        None => task.label_texts.clone(),
    };
    let index = match value {
        Value::Bool(yes) => Some(usize::from(*yes)),
        Value::Number(number) => number.as_u64().and_then(|n| usize::try_from(n).ok()),
        Value::Array(items) => items
            .iter()
            .position(|item| item.as_u64() == Some(1) || item.as_bool() == Some(true)),
        Value::String(text) => {
            let same = |list: &[String]| list.iter().position(|item| item == text);
            same(&labels).or_else(|| same(choices)).or_else(|| {
                if let Ok(index) = text.parse() {
                    return Some(index);
                }
                match text.as_bytes() {
                    [letter @ b'A'..=b'Z'] => Some(usize::from(letter - b'A')),
                    _ => None,
                }
            })
        }
        _ => None,
    };
    index.filter(|index| *index < choices.len()).ok_or_else(|| {
        format!(
            "`{}` is {}, which names none of the {} choices",
            task.answer,
            short(value),
            choices.len()
        )
    })
}

fn question(task: &Task, record: &Value, line: usize) -> Result<Question, String> {
    let choices = match &task.choices {
        Choices::At(path) => texts_at(record, path)?,
        Choices::Texts(texts) => texts.clone(),
        Choices::Fields(paths) => paths
            .iter()
            .map(|path| text_at(record, path).map(Cow::into_owned))
            .collect::<Result<_, _>>()?,
    };
    if !(2..=MOST_CHOICES).contains(&choices.len()) {
        let count = choices.len();
        return Err(format!(
            "has {count} choices, and 2 to {MOST_CHOICES} make a question"
        ));
    }
    let answer = answer(task, record, &choices)?;
    let split = task
        .split
        .as_deref()
        .map(|path| text_at(record, path))
        .transpose()?;
    let (before, after) = match &split {
        None => ("", ""),
        Some(text) => match text.split_once('_') {
            Some((before, after)) if !after.contains('_') => (before, after),
            _ => return Err(format!("`{text}` has not exactly one `_`")),
        },
    };
    let choices = choices
        .iter()
        .map(|choice| {
            let special = [
                ("choice", choice.as_str()),
                ("before", before),
                ("after", after),
            ];
            let context = fill(&task.context, record, &special)?;
            let continuation = fill(&task.continuation, record, &special)?;
            if continuation.is_empty() {
                return Err("a choice leaves nothing to predict".to_owned());
            }
            Ok((context, continuation))
        })
        .collect::<Result<_, _>>()?;
    Ok(Question {
        line,
        choices,
        answer,
    })
}

/// Reads questions, one JSON record a line; empty lines are skipped. `file` names them in errors, `most` limits them.
///
/// # Errors
/// When a line is no question of the task, or there is none.
pub fn questions(
    task: &Task,
    file: &str,
    text: &str,
    most: usize,
) -> Result<Vec<Question>, QuestionError> {
    let wrong = |line, message| QuestionError {
        file: file.to_owned(),
        line,
        message,
    };
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let out = lines
        .take(most)
        .map(|(index, line)| {
            let record: Value = serde_json::from_str(line)
                .map_err(|error| wrong(index + 1, format!("is not a JSON record: {error}")))?;
            question(task, &record, index + 1).map_err(|message| wrong(index + 1, message))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if out.is_empty() {
        return Err(wrong(
            1,
            "has no questions; hint: one JSON record a line".to_owned(),
        ));
    }
    Ok(out)
}

/// The tokens of a choice, and how many of them, the last ones, are its continuation.
fn tokens(
    engine: &Engine,
    context: &str,
    continuation: &str,
) -> Result<(Vec<u32>, usize), EngineError> {
    let tokenizer = engine.tokenizer().ok_or(EngineError::NoTokenizer)?;
    let given = tokenizer.encode(context)?;
    let mut all = tokenizer.encode(&format!("{context}{continuation}"))?;
    // Where a token reaches across the seam, it belongs to the continuation.
    let common = given.iter().zip(&all).take_while(|(a, b)| a == b).count();
    let common = common.min(all.len().saturating_sub(1));
    if common == 0 {
        // Nothing stands in front: what begins a text does, or the first token is not predicted.
        if let Some(bos) = engine.config().bos {
            all.insert(0, bos);
        }
        let count = all.len().saturating_sub(1);
        return Ok((all, count));
    }
    let count = all.len() - common;
    Ok((all, count))
}

/// What one configuration answers: by likelihood, and by likelihood a byte.
fn answers(engine: &Engine, question: &Question, window: usize) -> Result<[usize; 2], EvalError> {
    let mut best = [(f64::NEG_INFINITY, 0usize); 2];
    for (index, (context, continuation)) in question.choices.iter().enumerate() {
        let (mut all, mut count) = tokens(engine, context, continuation)?;
        // Too long a context loses its beginning, as the model would have no place for it.
        if all.len() > window + 1 {
            all.drain(..all.len() - (window + 1));
            count = count.min(window);
        }
        let inputs = &all[..all.len() - 1];
        let mut sum = 0.0;
        if !inputs.is_empty() {
            let mut session = engine.session(inputs.len())?;
            session.prefill_all(inputs, |position, logits| {
                if position + count >= inputs.len() {
                    let target = all[position + 1] as usize;
                    sum += f64::from(logits[target]) - log_sum_exp(logits);
                }
            })?;
        }
        if !sum.is_finite() {
            return Err(EvalError::NotFinite {
                config: Subject::label_of(engine),
            });
        }
        for (best, value) in best.iter_mut().zip([sum, sum / continuation.len() as f64]) {
            if value > best.0 {
                *best = (value, index);
            }
        }
    }
    Ok(best.map(|(_, index)| index))
}

/// Scores all subjects on the questions of a task: rows of accuracy, plain and by length, with Wilson's interval, and for all but the
/// first how often they answer as the first does. `progress(done, of)` is called for every question.
///
/// # Errors
/// When a model refuses.
pub fn choice_rows(
    subjects: &[Subject<'_>],
    facts: &Facts,
    (task, data_sha256): (&Task, &str),
    questions: &[Question],
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<EvalRow>, EvalError> {
    let mut given: Vec<Vec<[usize; 2]>> = vec![Vec::with_capacity(questions.len()); subjects.len()];
    for (done, question) in questions.iter().enumerate() {
        for (subject, given) in subjects.iter().zip(&mut given) {
            given.push(answers(subject.engine, question, facts.window)?);
        }
        progress(done + 1, questions.len());
    }
    let mut out = Vec::new();
    let n = questions.len();
    let share = |hits: usize| (hits as f64 / n as f64, wilson(hits as u64, n as u64, LEVEL));
    for (index, (subject, own)) in subjects.iter().zip(&given).enumerate() {
        let row = subject.row(facts, &task.name, data_sha256);
        for (way, metric) in Task::METRICS.into_iter().enumerate() {
            let right = own
                .iter()
                .zip(questions)
                .filter(|(a, q)| a[way] == q.answer);
            let (value, interval) = share(right.count());
            let row = EvalRow {
                reported: task.reported.filter(|_| task.metric == metric),
                ..row.clone()
            };
            out.push(with_value(row, metric, n, value, interval));
        }
        if index > 0 {
            let same = own.iter().zip(&given[0]).filter(|(a, b)| a[0] == b[0]);
            let (value, interval) = share(same.count());
            let row = EvalRow {
                reference: subjects[0].label.clone(),
                ..row
            };
            out.push(with_value(row, "same_answer", n, value, interval));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use trit_core::embedded_task;

    use super::*;

    fn one(task: &str, record: &str) -> Result<Question, String> {
        let text = embedded_task(task).unwrap();
        let task = Task::parse(task, text).unwrap();
        questions(&task, "d.jsonl", record, usize::MAX)
            .map(|mut all| all.remove(0))
            .map_err(|error| error.to_string())
    }

    fn pair(a: &str, b: &str) -> (String, String) {
        (a.to_owned(), b.to_owned())
    }

    #[test]
    fn records_of_the_field_become_questions() {
        let arc = r#"{"question":"Why?","choices":{"text":["x","y","z"],"label":["1","2","3"]},"answerKey":"3"}"#;
        let arc = one("arc_easy", arc).unwrap();
        assert_eq!(arc.answer, 2);
        assert_eq!(arc.choices[1], pair("Question: Why?\nAnswer:", " y"));
        let boolq = one(
            "boolq",
            r#"{"passage":"P.","question":"is it","answer":true}"#,
        )
        .unwrap();
        assert_eq!(boolq.answer, 1);
        assert_eq!(
            boolq.choices[0],
            pair("P.\nQuestion: is it?\nAnswer:", " no")
        );
        let wino = r#"{"sentence":"The cup fell off the tray as _ was wet.","option1":"the cup","option2":"the tray","answer":"2"}"#;
        let wino = one("winogrande", wino).unwrap();
        assert_eq!(wino.answer, 1);
        assert_eq!(
            wino.choices[1],
            pair("The cup fell off the tray as the tray", " was wet.")
        );
        let piqa = one("piqa", r#"{"goal":"Sew","sol1":"a","sol2":"b","label":0}"#).unwrap();
        assert_eq!((piqa.answer, piqa.choices.len()), (0, 2));
        let swag = r#"{"activity_label":"A","ctx":"c","endings":["e","f"],"label":"1"}"#;
        assert_eq!(one("hellaswag", swag).unwrap().answer, 1);
        let truth = r#"{"question":"q","mc1_targets":{"choices":["a","b"],"labels":[0,1]}}"#;
        assert_eq!(one("truthfulqa_mc1", truth).unwrap().answer, 1);
        for answer in ["1", "\"B\"", "\"no\"", "[0,1]"] {
            let record = format!(r#"{{"context":"c","choices":["yes","no"],"answer":{answer}}}"#);
            assert_eq!(one("choices", &record).unwrap().answer, 1, "{answer}");
        }
    }

    #[test]
    fn bad_records_are_named_by_line_and_field() {
        for (task, record, want) in [
            ("choices", "{", "d.jsonl:1: is not a JSON record"),
            ("choices", "", "has no questions"),
            (
                "choices",
                "\n{\"choices\":[\"a\",\"b\"],\"answer\":0}",
                "d.jsonl:2: has no `context`",
            ),
            (
                "choices",
                r#"{"context":"c","choices":["a"],"answer":0}"#,
                "1 choices",
            ),
            (
                "choices",
                r#"{"context":"c","choices":["a",1],"answer":0}"#,
                "`choices` is not a list of texts",
            ),
            (
                "choices",
                r#"{"context":"c","choices":["a","b"],"answer":2}"#,
                "names none of the 2 choices",
            ),
            (
                "choices",
                r#"{"context":[],"choices":["a","b"],"answer":1}"#,
                "`context` is not a text",
            ),
            (
                "winogrande",
                r#"{"sentence":"no blank","option1":"a","option2":"b","answer":"1"}"#,
                "exactly one `_`",
            ),
        ] {
            let error = one(task, record).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
