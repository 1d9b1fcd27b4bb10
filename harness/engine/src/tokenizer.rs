//! Text to tokens and back, on the `tokenizers` crate.
//!
//! A `tokenizer.json` is used as it is. From a GGUF file the same parts are put together: byte-level BPE with its merges, or
//! SentencePiece, whose merges are implied by the scores of its pieces.

use std::collections::BTreeMap;

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{Prepend, Replace, Sequence as NormalizerSequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizerSequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use crate::error::EngineError;
use crate::file::{Config, TokenizerSource, token_type};

/// The split of Llama 3 (`tokenizer.ggml.pre` = `llama-bpe`), as its `tokenizer.json` has it.
const LLAMA_BPE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The vocabulary of a model.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: Option<u32>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({} tokens)", self.inner.get_vocab_size(true))
    }
}

fn broken(error: impl std::fmt::Display) -> EngineError {
    EngineError::Tokenizer(error.to_string())
}

impl Tokenizer {
    /// Builds the tokenizer of a model; `None` when it has none.
    ///
    /// # Errors
    /// When the file cannot be read, or its parts do not fit each other.
    pub fn load(source: &TokenizerSource, config: &Config) -> Result<Option<Self>, EngineError> {
        let inner = match source {
            TokenizerSource::None => return Ok(None),
            TokenizerSource::Json(path) => {
                tokenizers::Tokenizer::from_file(path).map_err(|error| {
                    EngineError::Tokenizer(format!("`{}`: {error}", path.display()))
                })?
            }
            TokenizerSource::GgufBpe {
                tokens,
                merges,
                token_types,
                pre,
            } => byte_level(tokens, merges, token_types, pre.as_deref())?,
            TokenizerSource::GgufSentencePiece {
                tokens,
                scores,
                token_types,
                unknown,
                add_space_prefix,
            } => sentence_piece(tokens, scores, token_types, *unknown, *add_space_prefix)?,
        };
        Ok(Some(Self {
            inner,
            bos: config.bos.filter(|_| config.add_bos),
        }))
    }

    /// The tokens of `text`, special tokens spelled in it included, and the token that starts a text in front where the
    /// model wants one and the text does not begin with it.
    ///
    /// # Errors
    /// When the vocabulary cannot spell the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let mut ids = self.encode_plain(text)?;
        if let Some(bos) = self.bos
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The tokens of `text` alone.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        Ok(self
            .inner
            .encode_fast(text, false)
            .map_err(broken)?
            .get_ids()
            .to_vec())
    }

    /// The text of `tokens`, special tokens left out.
    ///
    /// # Errors
    /// When a decoder refuses them.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, EngineError> {
        self.inner.decode(tokens, true).map_err(broken)
    }

    /// The tokenizer as a `tokenizer.json`.
    ///
    /// # Errors
    /// When a part of it has no such form.
    pub fn to_json(&self) -> Result<String, EngineError> {
        self.inner.to_string(false).map_err(broken)
    }

    /// A stream of text for tokens that come one by one.
    pub fn detokenizer(&self) -> Detokenizer<'_> {
        Detokenizer {
            tokenizer: self,
            pending: Vec::new(),
            context: 0,
            printed: String::new(),
            held: 0,
        }
    }
}

/// Turns tokens into text one by one, holding back bytes until they are whole characters.
#[derive(Debug)]
pub struct Detokenizer<'t> {
    tokenizer: &'t Tokenizer,
    /// The context, then the tokens that came after it. Decoders treat the first token of a text in their own ways (a
    /// blank) and take the bytes of neighbouring byte tokens as one run, valid or not as a whole; so the context is the
    /// last group of tokens that spelled whole characters.
    pending: Vec<u32>,
    /// Tokens of the context.
    context: usize,
    /// What was printed of the text of `pending`.
    printed: String,
    /// Tokens since something was printed.
    held: usize,
}

/// No character has more bytes than this, so an end that is broken after as many tokens is broken for good.
const LONGEST_CHARACTER: usize = 4;

impl Detokenizer<'_> {
    /// The text that `token` adds; empty while a character is incomplete.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn push(&mut self, token: u32) -> Result<String, EngineError> {
        self.pending.push(token);
        self.held += 1;
        let text = self.tokenizer.decode(&self.pending)?;
        let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        if whole.len() < text.len() && self.held < LONGEST_CHARACTER {
            // What stands before an incomplete end does not change any more.
            let new = whole.strip_prefix(self.printed.as_str()).unwrap_or("");
            if !new.is_empty() {
                self.printed.push_str(new);
                self.held = 1;
            }
            return Ok(new.to_owned());
        }
        let new = self.not_printed(&text)?;
        if !new.is_empty() {
            self.pending.drain(..self.context);
            self.context = self.pending.len();
            self.printed = self.tokenizer.decode(&self.pending)?;
        }
        self.held = 0;
        Ok(new)
    }

    /// What was held back at the end of the tokens.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn finish(self) -> Result<String, EngineError> {
        let text = self.tokenizer.decode(&self.pending)?;
        self.not_printed(&text)
    }

    /// The part of `text`, which is that of `pending`, that was not printed.
    fn not_printed(&self, text: &str) -> Result<String, EngineError> {
        match text.strip_prefix(self.printed.as_str()) {
            Some(new) => Ok(new.to_owned()),
            // A broken byte after the context's bytes breaks their run too: then the new tokens speak for themselves.
            None => self.tokenizer.decode(&self.pending[self.context..]),
        }
    }
}

/// Adds the tokens that are matched before anything else.
fn add_special(
    inner: &mut tokenizers::Tokenizer,
    tokens: &[String],
    token_types: &[i32],
) -> Result<(), EngineError> {
    let special: Vec<AddedToken> = tokens
        .iter()
        .zip(token_types)
        .filter(|(_, kind)| [token_type::CONTROL, token_type::USER_DEFINED].contains(kind))
        .map(|(text, kind)| {
            AddedToken::from(text.clone(), *kind == token_type::CONTROL).normalized(false)
        })
        .collect();
    let before = inner.get_vocab_size(true);
    inner.add_special_tokens(&special);
    if inner.get_vocab_size(true) > before {
        return Err(broken("a special token is not in the vocabulary"));
    }
    Ok(())
}

fn vocab(tokens: &[String]) -> Vocab {
    (0u32..)
        .zip(tokens)
        .map(|(id, token)| (token.clone(), id))
        .collect()
}

fn byte_level(
    tokens: &[String],
    merges: &[String],
    token_types: &[i32],
    pre: Option<&str>,
) -> Result<tokenizers::Tokenizer, EngineError> {
    let pairs: Merges = merges
        .iter()
        .map(|merge| {
            // The blank that separates the two is the first after the first character: a byte-level token never holds one.
            merge
                .split_once(' ')
                .map(|(left, right)| (left.to_owned(), right.to_owned()))
                .ok_or_else(|| {
                    broken(format!(
                        "tokenizer.ggml.merges: `{merge}` is not two tokens"
                    ))
                })
        })
        .collect::<Result<_, _>>()?;
    let llama = matches!(pre, None | Some("llama-bpe" | "llama3" | "llama-v3"));
    let model = BPE::builder()
        .vocab_and_merges(vocab(tokens), pairs)
        .ignore_merges(llama)
        .build()
        .map_err(broken)?;
    let mut inner = tokenizers::Tokenizer::new(model);
    match pre {
        _ if llama => {
            let split = Split::new(
                SplitPattern::Regex(LLAMA_BPE.to_owned()),
                SplitDelimiterBehavior::Isolated,
                false,
            )
            .map_err(broken)?;
            let bytes = ByteLevel::new(false, true, false);
            inner.with_pre_tokenizer(Some(PreTokenizerSequence::new(vec![
                split.into(),
                bytes.into(),
            ])));
        }
        Some("gpt-2" | "gpt2" | "default") => {
            inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        }
        other => {
            return Err(broken(format!(
                "tokenizer.ggml.pre: `{}` is not known; hint: put the model's tokenizer.json beside its safetensors and use that folder",
                other.unwrap_or_default()
            )));
        }
    }
    inner.with_decoder(Some(ByteLevel::new(false, true, false)));
    add_special(&mut inner, tokens, token_types)?;
    Ok(inner)
}

fn sentence_piece(
    tokens: &[String],
    scores: &[f32],
    token_types: &[i32],
    unknown: Option<u32>,
    add_space_prefix: bool,
) -> Result<tokenizers::Tokenizer, EngineError> {
    let mut builder = BPE::builder()
        .vocab_and_merges(vocab(tokens), implied_merges(tokens, scores, token_types))
        .byte_fallback(true)
        .fuse_unk(true);
    if let Some(unknown) = unknown {
        let token = tokens.get(unknown as usize).ok_or_else(|| {
            broken(format!(
                "tokenizer.ggml.unknown_token_id: {unknown} is outside of the vocabulary"
            ))
        })?;
        builder = builder.unk_token(token.clone());
    }
    let mut inner = tokenizers::Tokenizer::new(builder.build().map_err(broken)?);
    let mut normalizers = Vec::new();
    if add_space_prefix {
        normalizers.push(Prepend::new("▁".to_owned()).into());
    }
    normalizers.push(Replace::new(" ", "▁").map_err(broken)?.into());
    inner.with_normalizer(Some(NormalizerSequence::new(normalizers)));
    let mut decoders = vec![
        Replace::new("▁", " ").map_err(broken)?.into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
    ];
    if add_space_prefix {
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    inner.with_decoder(Some(DecoderSequence::new(decoders)));
    add_special(&mut inner, tokens, token_types)?;
    Ok(inner)
}

/// SentencePiece joins the two neighbours whose piece has the best score. As BPE merges: every way to cut a piece into two
/// pieces, in the order of the scores of the whole.
fn implied_merges(tokens: &[String], scores: &[f32], token_types: &[i32]) -> Merges {
    let plain = |id: usize| {
        token_types.get(id).is_none_or(|kind| {
            ![token_type::CONTROL, token_type::BYTE, token_type::UNKNOWN].contains(kind)
        })
    };
    let ids: BTreeMap<&str, usize> = tokens
        .iter()
        .enumerate()
        .filter(|(id, _)| plain(*id))
        .map(|(id, text)| (text.as_str(), id))
        .collect();
    let score = |id: usize| scores.get(id).copied().unwrap_or(f32::NEG_INFINITY);
    let mut merges: Vec<(usize, usize, usize)> = Vec::new();
    for (text, whole) in &ids {
        for (cut, _) in text.char_indices().skip(1) {
            if let (Some(left), Some(right)) = (ids.get(&text[..cut]), ids.get(&text[cut..])) {
                merges.push((*whole, *left, *right));
            }
        }
    }
    merges.sort_by(|a, b| {
        score(b.0)
            .total_cmp(&score(a.0))
            .then((a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)))
    });
    merges
        .into_iter()
        .map(|(_, left, right)| (tokens[left].clone(), tokens[right].clone()))
        .collect()
}

#[cfg(test)]
#[path = "tokenizer_tests.rs"]
mod tests;
