//! Server-sent events, as far as streams of OpenAI-compatible servers use them, and what their data says.

use std::io::{self, BufRead, Read};

use serde::Deserialize;

/// The longest line that is read: a hundred times what a token needs.
const MAX_LINE: u64 = 1 << 20;

/// Reads the data of the next event; `None` at the end of the stream. Comments, names, ids and empty events are left out.
pub(super) fn next_event(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut data = String::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        let ended = line.last() != Some(&b'\n');
        if ended && read as u64 == MAX_LINE {
            return Err(malformed("a line of the answer is longer than 1 MiB"));
        }
        let text = std::str::from_utf8(&line)
            .map_err(|_| malformed("the answer is not UTF-8 text"))?
            .trim_end_matches(['\n', '\r']);
        if let Some(value) = text.strip_prefix("data:") {
            if !data.is_empty() {
                data.push('\n');
            }
            data.push_str(value.strip_prefix(' ').unwrap_or(value));
            if data.len() as u64 > MAX_LINE {
                return Err(malformed("an event of the answer is longer than 1 MiB"));
            }
        }
        if (text.is_empty() || ended) && !data.is_empty() {
            return Ok(Some(data));
        }
        if ended {
            return Ok(None);
        }
    }
}

fn malformed(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// What one event says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Said {
    /// It has text of the answer.
    pub(super) text: bool,
    /// The answer is complete.
    pub(super) finished: bool,
    /// Tokens of prompt and answer, as the server counts them.
    pub(super) prompt_tokens: Option<u64>,
    pub(super) tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Choice {
    /// `/v1/chat/completions`.
    delta: Option<Delta>,
    /// `/v1/completions`.
    text: Option<String>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    /// Of models that think aloud: tokens like any other.
    reasoning_content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

/// Reads the data of an event. The error is what the server reports, or what is wrong with the data.
pub(super) fn parse(data: &str) -> Result<Said, String> {
    if data.trim() == "[DONE]" {
        return Ok(Said {
            finished: true,
            ..Said::default()
        });
    }
    let event: Event = serde_json::from_str(data)
        .map_err(|error| format!("an event of the answer is no JSON of a completion: {error}"))?;
    if let Some(error) = event.error {
        let message = error["message"].as_str().map(str::to_owned);
        return Err(format!(
            "the server reports: {}",
            message.unwrap_or_else(|| error.to_string())
        ));
    }
    let some = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let mut said = Said::default();
    for choice in &event.choices {
        said.text |= some(&choice.text)
            || choice
                .delta
                .as_ref()
                .is_some_and(|delta| some(&delta.content) || some(&delta.reasoning_content));
        said.finished |= choice.finish_reason.is_some();
    }
    if let Some(usage) = event.usage {
        said.prompt_tokens = usage.prompt_tokens;
        said.tokens = usage.completion_tokens;
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str) -> Vec<String> {
        let mut input = text.as_bytes();
        std::iter::from_fn(|| next_event(&mut input).unwrap()).collect()
    }

    #[test]
    fn events_are_found_between_blank_lines() {
        let text =
            "\u{3a} hello\n\ndata: a\n\nevent: x\nid: 1\ndata:b\r\ndata:  c\r\n\r\n\n\ndata: last";
        assert_eq!(events(text), ["a", "b\n c", "last"]);
        assert_eq!(events(""), [""; 0]);
        assert_eq!(events("retry: 5\n"), [""; 0]);
    }

    #[test]
    fn lines_and_events_have_an_end() {
        let long = format!("data: {}", "x".repeat(MAX_LINE as usize));
        let error = next_event(&mut long.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("longer than 1 MiB"), "{error}");
        let many = format!("data: {}\n", "x".repeat(1000)).repeat(2000);
        assert!(next_event(&mut many.as_bytes()).is_err());
        assert!(next_event(&mut &b"data: \xff\n\n"[..]).is_err());
    }

    #[test]
    fn both_interfaces_are_understood() {
        let said = |data: &str| parse(data).unwrap();
        assert!(said(r#"{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}"#).text);
        assert!(said(r#"{"choices":[{"delta":{"reasoning_content":"a"}}]}"#).text);
        assert!(said(r#"{"choices":[{"text":"a","index":0}]}"#).text);
        // The first event of a chat has a role and no text.
        let role = said(r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#);
        assert_eq!(role, Said::default());
        let end = said(r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#);
        assert!(end.finished && !end.text);
        let usage = said(r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9}}"#);
        assert_eq!((usage.prompt_tokens, usage.tokens), (Some(7), Some(9)));
        assert!(said("[DONE]").finished);
    }

    #[test]
    fn what_a_server_reports_is_passed_on() {
        let error = parse(r#"{"error":{"message":"no slot"}}"#).unwrap_err();
        assert_eq!(error, "the server reports: no slot");
        assert!(parse(r#"{"error":"full"}"#).unwrap_err().contains("full"));
        assert!(parse("{").unwrap_err().contains("no JSON"));
        assert!(parse(r#"{"choices":3}"#).is_err());
    }
}
