//! Text to tokens, and tokens to windows.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use sha2::{Digest, Sha256};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use crate::rng::{Rng, mix};

/// The token in front of every window, as a model of the family expects it in front of every text. Its id is 0.
pub const BOS: &str = "<|begin_of_text|>";
/// Id of [`BOS`].
pub const BOS_ID: u32 = 0;

/// The split before merges: Llama 3's, which readers of GGUF know as `llama-bpe`.
const SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// SHA-256 in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    let mut digits = String::new();
    for byte in Sha256::digest(bytes) {
        // Writing to memory cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// A text in two parts.
pub struct Text {
    /// What is trained on: the first 90 %.
    pub train: String,
    /// What is only measured.
    pub held_out: String,
    /// Digest of the whole file.
    pub sha256: String,
}

impl Text {
    /// Reads a UTF-8 file; its last tenth is held out.
    ///
    /// # Errors
    /// When it cannot be read, is not UTF-8, or is too short.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let sha256 = sha256(&bytes);
        let text = String::from_utf8(bytes)
            .map_err(|_| anyhow!("`{}` is not UTF-8 text", path.display()))?;
        let at = text.floor_char_boundary(text.len() / 10 * 9);
        ensure!(
            at < text.len() && at > 0,
            "`{}` has {} bytes; hint: take a longer text",
            path.display(),
            text.len()
        );
        let (train, held_out) = text.split_at(at);
        Ok(Self {
            train: train.to_owned(),
            held_out: held_out.to_owned(),
            sha256,
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
fn broken(error: tokenizers::Error) -> anyhow::Error {
    anyhow!("tokenizer: {error}")
}

/// Trains byte-level BPE of `vocab` tokens on a text.
///
/// # Errors
/// When the vocabulary cannot hold all bytes, or the text is too small for it.
pub fn train_tokenizer(text: &str, vocab: usize) -> Result<Tokenizer> {
    ensure!(
        vocab >= 257,
        "`--vocab` is {vocab}; hint: 256 bytes and the token that starts a text need 257"
    );
    let special = AddedToken::from(BOS, true).normalized(false);
    let trainer = BpeTrainer::builder()
        .vocab_size(vocab)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(vec![special])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut tokenizer = Tokenizer::new(BPE::builder().build().map_err(broken)?);
    let split = Split::new(
        SplitPattern::Regex(SPLIT.to_owned()),
        SplitDelimiterBehavior::Isolated,
        false,
    )
    .map_err(broken)?;
    let bytes = ByteLevel::new(false, true, false);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![split.into(), bytes.into()])));
    tokenizer.with_decoder(Some(ByteLevel::new(false, true, false)));
    let mut trainer = TrainerWrapper::from(trainer);
    tokenizer
        .train(&mut trainer, std::iter::once(text))
        .map_err(broken)?;
    let template = TemplateProcessing::builder()
        .try_single(format!("{BOS} $A"))
        .map_err(|error| anyhow!("tokenizer: {error}"))?
        .special_tokens(vec![(BOS, BOS_ID)])
        .build()
        .map_err(|error| anyhow!("tokenizer: {error}"))?;
    tokenizer.with_post_processor(Some(template));
    let got = tokenizer.get_vocab_size(true);
    ensure!(
        got == vocab,
        "the text gives a vocabulary of {got} tokens only; hint: `--vocab {got}`"
    );
    ensure!(
        tokenizer.token_to_id(BOS) == Some(BOS_ID),
        "`{BOS}` is not token {BOS_ID}"
    );
    Ok(tokenizer)
}

/// Tokens of a text, without the one that starts it.
///
/// # Errors
/// When the tokenizer refuses.
pub fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let encoding = tokenizer.encode_fast(text, false).map_err(broken)?;
    Ok(encoding.get_ids().to_vec())
}

/// Reads a `tokenizer.json`.
///
/// # Errors
/// When it cannot be read.
pub fn load_tokenizer(path: &Path) -> Result<Tokenizer> {
    Tokenizer::from_file(path).map_err(|error| anyhow!("`{}`: {error}", path.display()))
}

/// Inputs and targets of some windows, one behind the other.
pub struct Batch {
    /// The first token of each window is [`BOS_ID`].
    pub inputs: Vec<u32>,
    /// The token after each input.
    pub targets: Vec<u32>,
}

/// Cuts a text into windows, at another offset and in another order in every epoch.
pub struct Windows<'a> {
    tokens: &'a [u32],
    context: usize,
    batch: usize,
    seed: u64,
}

impl<'a> Windows<'a> {
    /// Windows of `context` tokens, `batch` at a time.
    ///
    /// # Errors
    /// When the text is shorter than one batch.
    pub fn new(tokens: &'a [u32], context: usize, batch: usize, seed: u64) -> Result<Self> {
        let windows = Self {
            tokens,
            context,
            batch,
            seed,
        };
        ensure!(
            batch > 0 && windows.per_epoch() > 0,
            "{} tokens are less than two batches of {batch} x {context}; hint: a longer text, or a smaller `--batch`",
            tokens.len()
        );
        Ok(windows)
    }

    /// Batches of one epoch.
    pub fn per_epoch(&self) -> usize {
        (self.tokens.len() / self.context).saturating_sub(1) / self.batch.max(1)
    }

    /// The batch of a step.
    pub fn batch(&self, step: usize) -> Batch {
        let (epoch, index) = (step / self.per_epoch(), step % self.per_epoch());
        let mut rng = Rng::new(self.seed ^ mix(epoch as u64));
        let offset = rng.below(self.context);
        let mut starts: Vec<usize> = (0..self.tokens.len() / self.context - 1)
            .map(|window| offset + window * self.context)
            .collect();
        rng.shuffle(&mut starts);
        let count = self.batch * self.context;
        let mut batch = Batch {
            inputs: Vec::with_capacity(count),
            targets: Vec::with_capacity(count),
        };
        for start in &starts[index * self.batch..(index + 1) * self.batch] {
            let window = &self.tokens[*start..start + self.context];
            batch.inputs.push(BOS_ID);
            batch.inputs.extend(&window[..self.context - 1]);
            batch.targets.extend(window);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_sees_every_token_once_but_for_its_ends() {
        let tokens: Vec<u32> = (1..=1000).collect();
        let windows = Windows::new(&tokens, 16, 4, 7).unwrap();
        for epoch in 0..3 {
            let mut seen = vec![0; 1001];
            for index in 0..windows.per_epoch() {
                let batch = windows.batch(epoch * windows.per_epoch() + index);
                assert_eq!(batch.inputs.len(), 64);
                for (i, target) in batch.targets.iter().enumerate() {
                    seen[*target as usize] += 1;
                    let input = batch.inputs[i];
                    assert_eq!(input, if i % 16 == 0 { BOS_ID } else { target - 1 });
                }
            }
            assert!(seen.iter().all(|n| *n <= 1));
            assert!(seen.iter().sum::<i32>() > 900);
        }
    }

    #[test]
    fn epochs_differ_and_repeat() {
        let tokens: Vec<u32> = (1..=1000).collect();
        let one = Windows::new(&tokens, 16, 4, 7).unwrap();
        let two = Windows::new(&tokens, 16, 4, 7).unwrap();
        assert_eq!(one.batch(20).inputs, two.batch(20).inputs);
        assert_ne!(one.batch(0).inputs, one.batch(one.per_epoch()).inputs);
    }

    #[test]
    fn the_tokenizer_spells_any_text() {
        let text = "the cat and the hat and the bat sat. ".repeat(50);
        let tokenizer = train_tokenizer(&text, 270).unwrap();
        for text in ["the cat", "Ärger 😀\n\n x\t\u{0}", ""] {
            let ids = encode(&tokenizer, text).unwrap();
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
        }
        assert!(encode(&tokenizer, "the cat").unwrap().len() < 5);
        assert!(train_tokenizer(&text, 256).is_err());
    }
}
