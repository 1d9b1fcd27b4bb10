//! Vocabularies from one container to the other.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::ConvertError;
use crate::file::{Config, GgufHeader, TokenizerSource, token_type};

/// The largest `tokenizer.json` that is read; Llama 3's has 9 MB.
const MAX_BYTES: u64 = 128 << 20;

/// What of a `tokenizer.json` a GGUF file can hold.
#[derive(Deserialize)]
struct TokenizerJson {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<Added>,
    pre_tokenizer: Option<Value>,
    decoder: Option<Value>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    vocab: BTreeMap<String, u32>,
    #[serde(default)]
    merges: Vec<Merge>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair(String, String),
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

fn unfit(path: &Path, problem: impl Into<String>) -> ConvertError {
    ConvertError::Vocabulary {
        file: path.display().to_string(),
        problem: problem.into(),
    }
}

/// The parts of byte-level BPE in a `tokenizer.json`.
fn byte_level(path: &Path, config: &Config) -> Result<TokenizerSource, ConvertError> {
    let size = std::fs::metadata(path).map_err(|error| unfit(path, error.to_string()))?;
    if size.len() > MAX_BYTES {
        return Err(unfit(path, format!("has more than {MAX_BYTES} bytes")));
    }
    let text = std::fs::read(path).map_err(|error| unfit(path, error.to_string()))?;
    let json: TokenizerJson =
        serde_json::from_slice(&text).map_err(|error| unfit(path, error.to_string()))?;
    let mentions = |part: &Option<Value>, word: &str| {
        part.as_ref()
            .is_some_and(|part| part.to_string().contains(word))
    };
    if json.model.kind.as_deref() != Some("BPE")
        || !(mentions(&json.pre_tokenizer, "ByteLevel") || mentions(&json.decoder, "ByteLevel"))
    {
        return Err(unfit(path, "is no byte-level BPE"));
    }
    // Llama 3 splits numbers into threes; GPT-2 does not.
    let pre = if mentions(&json.pre_tokenizer, "\\\\p{N}{1,3}") {
        "llama-bpe"
    } else {
        "gpt-2"
    };
    let mut tokens = vec![None; config.vocab];
    let mut token_types = vec![token_type::UNUSED; config.vocab];
    let added = json.added_tokens.iter().map(|token| {
        let kind = if token.special {
            token_type::CONTROL
        } else {
            token_type::USER_DEFINED
        };
        (token.content.as_str(), token.id, kind)
    });
    let plain = json
        .model
        .vocab
        .iter()
        .map(|(text, id)| (text.as_str(), *id, token_type::NORMAL));
    for (text, id, kind) in plain.chain(added) {
        let at = id as usize;
        if at >= config.vocab {
            return Err(unfit(
                path,
                format!(
                    "token {id} is outside of the {} of the embedding",
                    config.vocab
                ),
            ));
        }
        tokens[at] = Some(text.to_owned());
        token_types[at] = kind;
    }
    Ok(TokenizerSource::GgufBpe {
        tokens: tokens
            .into_iter()
            .enumerate()
            .map(|(id, text)| text.unwrap_or_else(|| format!("[PAD{id}]")))
            .collect(),
        merges: json
            .model
            .merges
            .into_iter()
            .map(|merge| match merge {
                Merge::Text(text) => text,
                Merge::Pair(left, right) => format!("{left} {right}"),
            })
            .collect(),
        token_types,
        pre: Some(pre.to_owned()),
    })
}

/// A `tokenizer.json` that begins texts as the model was trained, and the `tokenizer_config.json` beside it. Transformers adds the
/// first token only where the file has a template for it.
pub(super) fn for_transformers(text: String, config: &Config) -> (String, Value) {
    let mut facts = json!({ "add_bos_token": config.add_bos });
    let Ok(mut tokenizer) = serde_json::from_str::<Value>(&text) else {
        return (text, facts);
    };
    let word = |id: u32| {
        let added = tokenizer["added_tokens"].as_array().into_iter().flatten();
        let added = added
            .filter(|token| token["id"] == id)
            .map(|token| &token["content"]);
        let plain = tokenizer["model"]["vocab"]
            .as_object()
            .into_iter()
            .flatten();
        let plain = plain
            .filter(|(_, known)| **known == id)
            .map(|(text, _)| text.as_str());
        let mut words = added.filter_map(Value::as_str).chain(plain);
        words.next().map(ToOwned::to_owned)
    };
    let start = config.bos.and_then(|id| Some((id, word(id)?)));
    let end = config.stop.first().and_then(|id| word(*id));
    facts["tokenizer_class"] = "PreTrainedTokenizerFast".into();
    if let Some(end) = end {
        facts["eos_token"] = end.into();
    }
    let Some((id, word)) = start else {
        return (text, facts);
    };
    facts["bos_token"] = word.as_str().into();
    if !config.add_bos || !tokenizer["post_processor"].is_null() {
        return (text, facts);
    }
    let first = json!({ "SpecialToken": { "id": word, "type_id": 0 } });
    let sequence = |name: &str| json!({ "Sequence": { "id": name, "type_id": 0 } });
    tokenizer["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [first, sequence("A")],
        "pair": [first, sequence("A"), sequence("B")],
        "special_tokens": { (word.as_str()): { "id": word, "ids": [id], "tokens": [word] } },
    });
    (tokenizer.to_string(), facts)
}

/// Adds the vocabulary to a GGUF header; whether there was one.
pub(super) fn to_gguf(
    source: TokenizerSource,
    config: &Config,
    out: &mut GgufHeader,
) -> Result<bool, ConvertError> {
    let source = match source {
        TokenizerSource::Json(path) => byte_level(&path, config)?,
        other => other,
    };
    let types = |out: &mut GgufHeader, token_types: &[i32]| {
        if !token_types.is_empty() {
            out.i32s("tokenizer.ggml.token_type", token_types);
        }
    };
    let some = match source {
        TokenizerSource::GgufBpe {
            tokens,
            merges,
            token_types,
            pre,
        } => {
            out.text("tokenizer.ggml.model", "gpt2");
            out.text("tokenizer.ggml.pre", pre.as_deref().unwrap_or("llama-bpe"));
            out.texts("tokenizer.ggml.tokens", &tokens);
            types(out, &token_types);
            out.texts("tokenizer.ggml.merges", &merges);
            true
        }
        TokenizerSource::GgufSentencePiece {
            tokens,
            scores,
            token_types,
            unknown,
            add_space_prefix,
        } => {
            out.text("tokenizer.ggml.model", "llama");
            out.texts("tokenizer.ggml.tokens", &tokens);
            out.f32s("tokenizer.ggml.scores", &scores);
            types(out, &token_types);
            if let Some(unknown) = unknown {
                out.u32("tokenizer.ggml.unknown_token_id", unknown);
            }
            out.bool("tokenizer.ggml.add_space_prefix", add_space_prefix);
            true
        }
        TokenizerSource::Json(_) | TokenizerSource::None => false,
    };
    if let Some(bos) = config.bos {
        out.u32("tokenizer.ggml.bos_token_id", bos);
    }
    if let Some(eos) = config.eos {
        out.u32("tokenizer.ggml.eos_token_id", eos);
        out.u32("tokenizer.ggml.padding_token_id", eos);
    }
    if let Some(eot) = config.stop.iter().find(|id| Some(**id) != config.eos) {
        out.u32("tokenizer.ggml.eot_token_id", *eot);
    }
    out.bool("tokenizer.ggml.add_bos_token", config.add_bos);
    Ok(some)
}
