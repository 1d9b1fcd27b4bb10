//! The answers that count: computed once a session by the naive kernel in its own worker.

use std::collections::BTreeMap;

use crate::protocol::{Answer, Reply, Request, Task};

/// What the reference says about one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Truth {
    /// Digest of each input set.
    pub(crate) answers: Vec<Answer>,
    /// Digest of the check that is made once.
    pub(crate) check: Option<String>,
    /// The sums, where a bounded subject needs them.
    pub(crate) sums: Vec<Vec<i32>>,
}

/// Truths by the task they belong to, as text: a task has no order of its own.
#[derive(Debug, Default)]
pub(crate) struct References {
    known: BTreeMap<String, Result<Truth, String>>,
}

impl References {
    /// What is known, if it suffices.
    pub(crate) fn get(&self, task: &Task, sums: bool) -> Option<Result<Truth, String>> {
        let found = self.known.get(&key(task))?;
        match found {
            Ok(truth) if sums && truth.sums.is_empty() => None,
            found => Some(found.clone()),
        }
    }

    /// The request that finds it out.
    pub(crate) fn request(task: &Task, sums: bool) -> Request {
        Request::Reference {
            task: task.clone(),
            sums,
        }
    }

    /// Keeps a reply.
    pub(crate) fn put(
        &mut self,
        task: &Task,
        reply: Result<Reply, String>,
    ) -> Result<Truth, String> {
        let truth = match reply {
            Ok(Reply::Reference {
                answers,
                sums,
                check,
            }) => Ok(Truth {
                answers,
                check,
                sums,
            }),
            Ok(Reply::Failure { message, .. }) | Err(message) => Err(message),
            Ok(other) => Err(format!("an unexpected reply: {other:?}")),
        };
        self.known.insert(key(task), truth.clone());
        truth
    }
}

fn key(task: &Task) -> String {
    // Cannot fail: plain values under text keys.
    serde_json::to_string(task).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truth_without_sums_does_not_serve_who_needs_them() {
        let mut references = References::default();
        let task = Task::default();
        assert_eq!(references.get(&task, false), None);
        let reply = |sums| Reply::Reference {
            answers: vec![Answer::default()],
            sums,
            check: None,
        };
        references.put(&task, Ok(reply(vec![]))).unwrap();
        assert!(references.get(&task, false).is_some());
        assert_eq!(references.get(&task, true), None);
        references.put(&task, Ok(reply(vec![vec![1]]))).unwrap();
        assert!(references.get(&task, true).is_some());
        // A failure is not tried again for every kernel.
        let other = Task { rows: 1, ..task };
        references.put(&other, Err("it died".into())).unwrap_err();
        assert_eq!(references.get(&other, true), Some(Err("it died".into())));
    }
}
