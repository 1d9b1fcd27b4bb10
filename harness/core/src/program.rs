//! `[[program]]`: other people's programs as subjects, run in turn with ours.

use serde::{Deserialize, Serialize};

use crate::suite::{Fault, all_threads, check_counts, check_filled, gen_tokens, prompt_tokens};
use crate::{Generate, ThreadCount, Workload};

/// How a program says what it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgramOutput {
    /// JSON objects, one a line or all in one list, as `llama-bench -o jsonl` and `-o json` write them: `n_prompt`, `n_gen` and
    /// `samples_ns` count.
    #[default]
    LlamaBench,
    /// Lines of `<nanoseconds>,<tokens>`; others are ignored.
    NanosTokens,
    /// The lines `prompt eval time = <ms> ms / <n> tokens` and `eval time = <ms> ms / <n> runs` with which `llama-cli`, `llama-perplexity`
    /// and their like end, on either stream. Prompts are as many as their tokens make of the length that was asked for.
    LlamaTimings,
}

/// How the answer of a program is compared with ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramCheck {
    /// A command that continues `{prompt}` greedily by `{gen_tokens}` tokens and prints the text.
    pub command: Vec<String>,
    /// The prompt.
    pub prompt: String,
    /// Tokens that are generated.
    #[serde(default = "check_tokens")]
    pub tokens: u64,
    /// How many characters of the two texts have to be the same from the start, at least.
    #[serde(default = "same_chars")]
    pub same_chars: u64,
    /// A file that stands for the timed one: where weights are random, types that lose something change every word.
    #[serde(default)]
    pub model: String,
    /// The model of ours that holds the weights of that file.
    #[serde(default)]
    pub same_as: String,
}

/// Cells of a program that is not ours.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// What it is called in the record: `program:<name>`.
    pub name: String,
    /// `prefill` or `decode`.
    pub workload: Workload,
    /// Program and arguments, in which `{model}`, `{threads}`, `{prompt_tokens}`, `{gen_tokens}` and `{depth}` are replaced.
    pub command: Vec<String>,
    /// What it prints.
    #[serde(default)]
    pub output: ProgramOutput,
    /// Files of the model that it knows.
    pub models: Vec<String>,
    /// Models of ours that hold the same weights, one for each of `models`: the cells stand beside those of these.
    #[serde(default)]
    pub same_as: Vec<String>,
    /// Type of the output head in the files, where it is known: one of [`Generate::HEADS`].
    #[serde(default)]
    pub head: String,
    /// Thread counts.
    #[serde(default = "all_threads")]
    pub threads: Vec<ThreadCount>,
    /// Tokens of a prompt of a prefill cell.
    #[serde(default = "prompt_tokens")]
    pub prompt_tokens: u64,
    /// Tokens generated in a run of a decode cell.
    #[serde(default = "gen_tokens")]
    pub gen_tokens: u64,
    /// Tokens in the KV cache before.
    #[serde(default)]
    pub depth: u64,
    /// How its answer is compared with ours; without it the cell says that it was not.
    #[serde(default)]
    pub check: Option<ProgramCheck>,
}

/// What a worker has to know about a program: the commands, with everything filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgramTask {
    /// Program and arguments.
    pub command: Vec<String>,
    /// The file that it reads.
    pub model: String,
    /// The model of ours that its check is held against; empty: the file that it reads.
    pub like: String,
    /// What it prints.
    pub output: ProgramOutput,
    /// Whether prompts are timed; otherwise generated tokens are.
    pub prefill: bool,
    /// The check.
    pub check: Option<ProgramCheck>,
}

fn check_tokens() -> u64 {
    32
}
fn same_chars() -> u64 {
    40
}

impl Program {
    /// What the `workload` of this section may be.
    pub const WORKLOADS: [Workload; 2] = [Workload::Prefill, Workload::Decode];
    /// What is replaced in a command.
    pub const PLACES: [&'static str; 6] = [
        "{model}",
        "{threads}",
        "{prompt_tokens}",
        "{gen_tokens}",
        "{depth}",
        "{prompt}",
    ];

    pub(crate) fn check(&self) -> Result<(), Fault> {
        let name_ok = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(name_ok) {
            let message = format!(
                "`{}` is not a name; hint: 1 to 64 of letters, digits and . _ -",
                self.name
            );
            return Err(("name", message));
        }
        if !Self::WORKLOADS.contains(&self.workload) {
            let message = format!(
                "`{}` does not belong here; hint: prefill or decode",
                self.workload
            );
            return Err(("workload", message));
        }
        check_command("command", &self.command)?;
        check_filled("models", &self.models)?;
        check_filled("threads", &self.threads)?;
        check_counts("prompt_tokens", &[self.prompt_tokens])?;
        check_counts("gen_tokens", &[self.gen_tokens])?;
        if self.models.iter().any(|model| model.starts_with("synth:")) {
            return Err((
                "models",
                "other programs read files only; hint: `tritbench model synth` writes one".into(),
            ));
        }
        if !self.same_as.is_empty() && self.same_as.len() != self.models.len() {
            let message = format!(
                "has {} names for {} models; hint: one for each, in the same order",
                self.same_as.len(),
                self.models.len()
            );
            return Err(("same_as", message));
        }
        let heads = Generate::HEADS;
        if !self.head.is_empty() && !heads.contains(&self.head.as_str()) {
            let message = format!("`{}` is not one of {}", self.head, heads.join(" "));
            return Err(("head", message));
        }
        if let Some(check) = &self.check {
            check_command("check.command", &check.command)?;
            check_counts("check.tokens", &[check.tokens])?;
            check_counts("check.same_chars", &[check.same_chars])?;
            if check.model.starts_with("synth:") {
                return Err((
                    "check.model",
                    "other programs read files only; hint: `tritbench model convert` writes one"
                        .into(),
                ));
            }
            if check.model.is_empty() && !check.same_as.is_empty() {
                return Err((
                    "check.same_as",
                    "belongs to a check.model; hint: `same_as` of the program names ours for its own file".into(),
                ));
            }
        }
        Ok(())
    }

    /// What the column `answer` says: whether there is a check, and of what when it is not of the timed file.
    pub fn answer(&self) -> String {
        match &self.check {
            None => "unchecked".to_owned(),
            Some(check) if check.model.is_empty() => "checked".to_owned(),
            Some(check) => format!("checked on {}", check.model),
        }
    }

    /// The commands for one model and thread count.
    pub fn task(&self, model: &str, threads: usize) -> ProgramTask {
        let position = self.models.iter().position(|known| known == model);
        let same_as = position.and_then(|at| self.same_as.get(at));
        // Weights that are made in memory have no vocabulary that a text could be spelled with.
        let same_as = same_as.filter(|name| !name.starts_with("synth:"));
        let stand_in = self
            .check
            .as_ref()
            .map(|check| (&check.model, &check.same_as));
        let like = match stand_in.filter(|(model, _)| !model.is_empty()) {
            Some((model, same_as)) if same_as.is_empty() => model.clone(),
            Some((_, same_as)) => same_as.clone(),
            None => same_as.cloned().unwrap_or_default(),
        };
        let filled = |command: &[String], model: &str, gen_tokens: u64, prompt: &str| {
            let values = [
                model.to_owned(),
                threads.to_string(),
                self.prompt_tokens.to_string(),
                gen_tokens.to_string(),
                self.depth.to_string(),
                prompt.to_owned(),
            ];
            command.iter().map(|word| fill(word, &values)).collect()
        };
        let check = self.check.as_ref().map(|check| ProgramCheck {
            command: filled(
                &check.command,
                if check.model.is_empty() {
                    model
                } else {
                    &check.model
                },
                check.tokens,
                &check.prompt,
            ),
            ..check.clone()
        });
        ProgramTask {
            model: model.to_owned(),
            like,
            command: filled(&self.command, model, self.gen_tokens, ""),
            output: self.output,
            prefill: self.workload == Workload::Prefill,
            check,
        }
    }
}

/// A word with its places filled, from left to right: what was filled in is not looked at again.
fn fill(word: &str, values: &[String; 6]) -> String {
    let (mut out, mut rest) = (String::new(), word);
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let place = Program::PLACES
            .iter()
            .position(|place| rest.starts_with(place));
        let taken = if let Some(place) = place {
            out.push_str(&values[place]);
            Program::PLACES[place].len()
        } else {
            out.push('{');
            1
        };
        rest = &rest[taken..];
    }
    out + rest
}

fn check_command(key: &'static str, command: &[String]) -> Result<(), Fault> {
    check_filled(key, command)?;
    if command[0].is_empty() {
        return Err((key, "has no program; hint: a name or a path first".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_same_weights_are_as_many_as_models() {
        let check = |same_as: &str| {
            let text = format!(
                "name = \"p\"\nworkload = \"decode\"\ncommand = [\"p\"]\nmodels = [\"a\", \"b\"]\nsame_as = {same_as}"
            );
            toml::from_str::<Program>(&text).unwrap().check()
        };
        assert_eq!(check("[]"), Ok(()));
        assert_eq!(check("[\"c\", \"synth:125m\"]"), Ok(()));
        let (key, message) = check("[\"c\"]").unwrap_err();
        assert_eq!(key, "same_as");
        assert!(message.contains("1 names for 2 models"), "{message}");
    }

    #[test]
    fn another_model_can_stand_for_the_timed_one_in_the_check() {
        let program = |check: &str| {
            let text = format!(
                "name = \"p\"\nworkload = \"decode\"\ncommand = [\"p\", \"{{model}}\"]\nmodels = [\"a\", \"b\"]\nsame_as = [\"synth:x\", \"ours\"]\n[check]\ncommand = [\"q\", \"{{model}}\"]\nprompt = \"\"\n{check}"
            );
            toml::from_str::<Program>(&text).unwrap()
        };
        let told = |check: &str, model: &str| {
            let program = program(check);
            let task = program.task(model, 1);
            (
                program.answer(),
                task.check.unwrap().command[1].clone(),
                task.like,
            )
        };
        let want = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(told("", "b"), want("checked", "b", "ours"));
        // Nothing in memory has a vocabulary: the file itself is read.
        assert_eq!(told("", "a"), want("checked", "a", ""));
        assert_eq!(told("model = \"c\"", "b"), want("checked on c", "c", "c"));
        assert_eq!(
            told("model = \"c\"\nsame_as = \"builtin:s\"", "b"),
            want("checked on c", "c", "builtin:s")
        );
        let refused = |check: &str| program(check).check().unwrap_err().0;
        assert_eq!(refused("model = \"synth:x\""), "check.model");
        assert_eq!(refused("same_as = \"c\""), "check.same_as");
    }

    #[test]
    fn places_are_filled_once() {
        let values = ["{threads}", "2", "512", "128", "0", "a {model}"].map(str::to_owned);
        assert_eq!(fill("{model}", &values), "{threads}");
        assert_eq!(fill("-t{threads}x{", &values), "-t2x{");
        assert_eq!(
            fill("{\"p\": {prompt_tokens}, \"q\": \"{prompt}\"}", &values),
            "{\"p\": 512, \"q\": \"a {model}\"}"
        );
        assert_eq!(fill("plain", &values), "plain");
    }
}
