//! Whether answers are right.

use std::collections::BTreeMap;

use trit_core::ProgramCheck;

use crate::protocol::{Answer, Job, Task};
use crate::reference::Truth;

/// First answers of whole models, by what they have to depend on, with the cell that gave them: logits are equal to the
/// bit on every kernel, thread count, chunk size and number of sequences, so later cells must agree.
#[derive(Debug, Default)]
pub(crate) struct FirstAnswers(BTreeMap<String, (String, String)>);

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// Compares answers with the reference, set by set.
///
/// # Errors
/// A sentence that says what is wrong.
pub(crate) fn against_truth(answers: &[Answer], truth: &Truth) -> Result<(), String> {
    if answers.is_empty() {
        return Err("the subject gave no answer to verify".to_owned());
    }
    for answer in answers {
        let right = truth.answers.iter().find(|right| right.set == answer.set);
        match right {
            None => return Err(format!("input set {} does not exist", answer.set)),
            Some(right) if right.digest != answer.digest => {
                return Err(format!(
                    "input set {}: the answer {} differs from the reference {}",
                    answer.set,
                    short(&answer.digest),
                    short(&right.digest)
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Compares the check that a model is opened with.
///
/// # Errors
/// A sentence that says what is wrong.
pub(crate) fn check(got: Option<&str>, truth: &Truth) -> Result<(), String> {
    match (got, truth.check.as_deref()) {
        (Some(got), Some(right)) if got == right => Ok(()),
        (Some(got), Some(right)) => Err(format!(
            "the logits of four tokens {} differ from the reference {}",
            short(got),
            short(right)
        )),
        (None, _) => Err("the subject gave no logits to verify".to_owned()),
        (_, None) => Err("the reference gave no logits to compare with".to_owned()),
    }
}

/// Compares the text of a program with ours, where there is a check.
///
/// # Errors
/// A sentence that says what is wrong.
pub(crate) fn check_program(
    check: Option<&ProgramCheck>,
    theirs: Option<&str>,
    truth: Option<&Truth>,
) -> Result<(), String> {
    let Some(check) = check else { return Ok(()) };
    let ours = truth.and_then(|truth| truth.check.as_deref());
    match (theirs, ours) {
        (Some(theirs), Some(ours)) => same_start(theirs, ours, check),
        (None, _) => Err("the program gave no text to verify".to_owned()),
        (_, None) => Err("the reference gave no text to compare with".to_owned()),
    }
}

/// Whether the text of a program begins as ours does.
fn same_start(theirs: &str, ours: &str, check: &ProgramCheck) -> Result<(), String> {
    let theirs = theirs.trim();
    let theirs = theirs.strip_prefix(check.prompt.trim()).unwrap_or(theirs);
    let (theirs, ours) = (theirs.trim(), ours.trim());
    let pairs = theirs.chars().zip(ours.chars());
    let same = pairs.take_while(|(a, b)| a == b).count();
    // Text that ends early is compared whole.
    let enough = usize::try_from(check.same_chars).unwrap_or(usize::MAX);
    let enough = enough.min(ours.chars().count());
    if same >= enough && !ours.is_empty() {
        return Ok(());
    }
    let start = |text: &str| text.chars().take(same + 20).collect::<String>();
    Err(format!(
        "its text is ours for {same} characters, {enough} were asked for: `{}` against `{}`",
        start(theirs),
        start(ours)
    ))
}

impl FirstAnswers {
    /// Compares answers of a whole model with those of the cell that was first.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(crate) fn compare(
        &mut self,
        cell: &str,
        task: &Task,
        answers: &[Answer],
    ) -> Result<(), String> {
        if answers.is_empty() {
            return Err("the subject gave no answer to verify".to_owned());
        }
        let decode = task.job == Job::Decode;
        for answer in answers {
            let key = format!(
                "{} {decode} p{}{} g{} d{} {} {} s{}",
                task.model,
                task.prompt_tokens,
                task.prompt_text,
                task.gen_tokens,
                task.depth,
                task.kv,
                task.head,
                answer.set
            );
            let (first, from) = self
                .0
                .entry(key)
                .or_insert_with(|| (answer.digest.clone(), cell.to_owned()));
            if *first != answer.digest {
                return Err(format!(
                    "input set {}: the answer {} differs from {} of {from}",
                    answer.set,
                    short(&answer.digest),
                    short(first)
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(digests: &[&str]) -> Vec<Answer> {
        (0..)
            .zip(digests)
            .map(|(set, digest)| Answer {
                set,
                digest: (*digest).to_owned(),
            })
            .collect()
    }

    #[test]
    fn texts_have_to_begin_alike() {
        let check = ProgramCheck {
            prompt: "ROMEO:".to_owned(),
            same_chars: 6,
            ..ProgramCheck::default()
        };
        same_start("ROMEO: I love thee", " I love them", &check).unwrap();
        same_start("\nI love thee", "I love", &check).unwrap();
        let error = same_start("I hate thee", "I love thee", &check).unwrap_err();
        assert!(error.contains("2 characters"), "{error}");
        // Shorter than asked for, and the same; and nothing at all, which is no answer.
        same_start("I lo", "I lo", &check).unwrap();
        same_start("", "", &check).unwrap_err();
        same_start("", "I love thee", &check).unwrap_err();
        // Without a check nothing is compared; with one, both have to be there.
        let truth = Truth::default();
        check_program(None, None, None).unwrap();
        check_program(Some(&check), Some("text"), Some(&truth)).unwrap_err();
        check_program(Some(&check), None, Some(&truth)).unwrap_err();
    }

    #[test]
    fn only_equal_answers_pass() {
        let truth = Truth {
            answers: answers(&["a", "b"]),
            check: Some("c".into()),
            sums: vec![],
        };
        against_truth(&answers(&["a", "b"]), &truth).unwrap();
        against_truth(&answers(&["a"]), &truth).unwrap();
        for wrong in [&["b"][..], &["a", "a"], &["a", "b", "b"], &[]] {
            against_truth(&answers(wrong), &truth).unwrap_err();
        }
        check(Some("c"), &truth).unwrap();
        check(Some("d"), &truth).unwrap_err();
        check(None, &truth).unwrap_err();
        check(Some("c"), &Truth::default()).unwrap_err();
    }

    #[test]
    fn models_agree_with_the_first() {
        let mut first = FirstAnswers::default();
        let task = Task {
            job: Job::Prefill,
            model: "m".into(),
            prompt_tokens: 8,
            ..Task::default()
        };
        first.compare("one", &task, &answers(&["a"])).unwrap();
        // Threads and chunks make no difference, prompts do.
        let threads = Task {
            threads: 2,
            ubatch: 3,
            kernel: "other".into(),
            ..task.clone()
        };
        first.compare("two", &threads, &answers(&["a"])).unwrap();
        let error = first
            .compare("two", &threads, &answers(&["b"]))
            .unwrap_err();
        assert!(error.contains("of one"), "{error}");
        let longer = Task {
            prompt_tokens: 9,
            ..task
        };
        first.compare("three", &longer, &answers(&["b"])).unwrap();
        first.compare("three", &longer, &[]).unwrap_err();
    }
}
