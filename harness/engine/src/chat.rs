//! Chat templates, by model family.
//!
//! The template inside the official 2B4T GGUF is not the one its model was trained with, so files are not asked.

use std::fmt::Write;

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// Instructions for the whole conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub speaker: Speaker,
    /// What is said.
    pub text: String,
}

/// How a conversation becomes a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// BitNet b1.58 2B4T: `User: hi<|eot_id|>Assistant: ` (its `tokenizer_config.json`, and arXiv 2504.12285, 3.2.2).
    BitNet,
    /// Llama 3: a header with the speaker's name before every message.
    Llama3,
}

impl Template {
    /// The template of an architecture.
    pub fn of(architecture: &str) -> Self {
        if architecture.starts_with("bitnet") {
            Self::BitNet
        } else {
            Self::Llama3
        }
    }

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BitNet => "bitnet-b1.58",
            Self::Llama3 => "llama-3",
        }
    }

    /// The prompt that lets the model answer. The begin-of-text token is the tokenizer's to add.
    pub fn render(self, messages: &[Message]) -> String {
        let mut prompt = String::new();
        for message in messages {
            let text = message.text.trim();
            // Writing to a string cannot fail.
            let _ = match self {
                Self::BitNet => {
                    write!(prompt, "{}: {text}<|eot_id|>", capitalized(message.speaker))
                }
                Self::Llama3 => write!(
                    prompt,
                    "<|start_header_id|>{}<|end_header_id|>\n\n{text}<|eot_id|>",
                    capitalized(message.speaker).to_lowercase()
                ),
            };
        }
        prompt.push_str(match self {
            Self::BitNet => "Assistant: ",
            Self::Llama3 => "<|start_header_id|>assistant<|end_header_id|>\n\n",
        });
        prompt
    }
}

fn capitalized(speaker: Speaker) -> &'static str {
    match speaker {
        Speaker::System => "System",
        Speaker::User => "User",
        Speaker::Assistant => "Assistant",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation() -> Vec<Message> {
        [(Speaker::System, "Be brief. "), (Speaker::User, " hi\n")]
            .map(|(speaker, text)| Message {
                speaker,
                text: text.to_owned(),
            })
            .into()
    }

    #[test]
    fn bitnet_names_the_speakers() {
        assert_eq!(
            Template::of("bitnet-b1.58").render(&conversation()),
            "System: Be brief.<|eot_id|>User: hi<|eot_id|>Assistant: "
        );
    }

    #[test]
    fn llama_has_headers() {
        assert_eq!(
            Template::of("llama").render(&conversation()[1..]),
            "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        );
    }
}
