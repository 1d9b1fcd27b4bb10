//! The vocabulary of synthetic models: byte-level BPE that can spell any text.

use crate::file::{TokenizerSource, token_type};

/// Tokens with a meaning at the end of the vocabulary, as many as Llama 3 has; fewer in a small vocabulary.
const SPECIALS: usize = 256;
const FEW_SPECIALS: usize = 16;
/// From this size on there is room for all of them.
const LARGE: usize = 1024;
/// Position of the end of a turn among the specials, as in Llama 3.
const EOT: usize = 9;

/// The ids of the special tokens.
pub(super) struct Ids {
    pub(super) bos: u32,
    pub(super) eos: u32,
    pub(super) eot: u32,
    first: usize,
}

pub(super) struct Vocabulary {
    pub(super) tokens: Vec<String>,
    pub(super) types: Vec<i32>,
}

impl Vocabulary {
    /// Where the special tokens of a vocabulary of `size` are: for 128,256 exactly where Llama 3 has them.
    pub(super) fn ids(size: usize) -> Ids {
        let specials = if size >= LARGE {
            SPECIALS
        } else {
            FEW_SPECIALS
        };
        let first = size.saturating_sub(specials);
        Ids {
            bos: first as u32,
            eos: first as u32 + 1,
            eot: (first + EOT) as u32,
            first,
        }
    }

    /// 256 bytes, words that no merge leads to, special tokens. Text is spelled byte by byte.
    pub(super) fn new(size: usize) -> Self {
        let ids = Self::ids(size);
        let mut tokens: Vec<String> = byte_letters().iter().map(char::to_string).collect();
        tokens.extend((256..ids.first).map(word));
        tokens.truncate(ids.first);
        let mut types = vec![token_type::NORMAL; ids.first];
        for index in 0..size - ids.first {
            tokens.push(match index {
                0 => "<|begin_of_text|>".to_owned(),
                1 => "<|end_of_text|>".to_owned(),
                EOT => "<|eot_id|>".to_owned(),
                other => format!("<|reserved_special_token_{other}|>"),
            });
            types.push(token_type::CONTROL);
        }
        Self { tokens, types }
    }

    pub(super) fn source(self) -> TokenizerSource {
        TokenizerSource::GgufBpe {
            tokens: self.tokens,
            merges: Vec::new(),
            token_types: self.types,
            pre: Some("llama-bpe".to_owned()),
        }
    }
}

/// How byte-level BPE spells each byte: printable Latin-1 as itself, the others as U+0100 and on, in order.
fn byte_letters() -> [char; 256] {
    let mut next = 256;
    std::array::from_fn(|byte| {
        let byte = byte as u32;
        let printable = matches!(byte, 33..=126 | 161..=172 | 174..=255);
        let code = if printable {
            byte
        } else {
            next += 1;
            next - 1
        };
        char::from_u32(code).expect("below the surrogates")
    })
}

/// A blank (spelled `Ġ`) and four syllables, different for every number below 75⁴.
fn word(number: usize) -> String {
    const CONSONANTS: &[u8; 15] = b"bdfghjklmnprstv";
    const VOWELS: &[u8; 5] = b"aeiou";
    let mut out = String::from('Ġ');
    let mut rest = number;
    loop {
        let syllable = rest % 75;
        out.push(CONSONANTS[syllable / 5].into());
        out.push(VOWELS[syllable % 5].into());
        rest /= 75;
        if rest == 0 {
            return out;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn tokens_are_as_many_as_asked_for_and_all_different() {
        for size in [272, 512, 1023, 1024, 32_002, 128_256] {
            let vocabulary = Vocabulary::new(size);
            assert_eq!(vocabulary.tokens.len(), size);
            assert_eq!(vocabulary.types.len(), size);
            let different: BTreeSet<&String> = vocabulary.tokens.iter().collect();
            assert_eq!(different.len(), size);
            let ids = Vocabulary::ids(size);
            assert_eq!(vocabulary.tokens[ids.bos as usize], "<|begin_of_text|>");
            assert_eq!(vocabulary.tokens[ids.eot as usize], "<|eot_id|>");
            assert_eq!(vocabulary.types[ids.eos as usize], token_type::CONTROL);
        }
    }

    #[test]
    fn bytes_are_spelled_as_in_gpt_2() {
        let letters = byte_letters();
        assert_eq!(letters[usize::from(b'a')], 'a');
        assert_eq!(letters[usize::from(b' ')], 'Ġ');
        assert_eq!(letters[usize::from(b'\n')], 'Ċ');
        assert_eq!(letters[0xad], 'Ń');
    }
}
