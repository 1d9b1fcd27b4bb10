use std::path::PathBuf;

use super::*;
use crate::synth::{self, Shape};

fn config(bos: Option<u32>) -> Config {
    let mut config = synth::checkpoint(&Shape::named("125m:layers=1").unwrap(), 1)
        .unwrap()
        .config()
        .clone();
    config.bos = bos;
    config.add_bos = bos.is_some();
    config
}

/// A byte-level vocabulary: the 256 bytes, a few merges, two control tokens.
fn small(pre: Option<&str>) -> Tokenizer {
    let mut tokens: Vec<String> = ByteLevel::alphabet()
        .into_iter()
        .map(String::from)
        .collect();
    tokens.sort();
    tokens.extend(["he", "ll", "hell", "hello", "Ġw", "<|begin|>", "<|end|>"].map(str::to_owned));
    let merges = ["h e", "l l", "he ll", "hell o", "Ġ w"]
        .map(str::to_owned)
        .to_vec();
    let mut token_types = vec![token_type::NORMAL; tokens.len()];
    let last = tokens.len() - 1;
    token_types[last - 1] = token_type::CONTROL;
    token_types[last] = token_type::CONTROL;
    let source = TokenizerSource::GgufBpe {
        tokens,
        merges,
        token_types,
        pre: pre.map(str::to_owned),
    };
    Tokenizer::load(&source, &config(Some(last as u32 - 1)))
        .unwrap()
        .unwrap()
}

#[test]
fn merges_and_control_tokens() {
    for pre in [None, Some("gpt-2")] {
        let tokenizer = small(pre);
        let ids = tokenizer.encode("hello world<|end|>").unwrap();
        let spelled: Vec<String> = ids
            .iter()
            .map(|id| tokenizer.inner.id_to_token(*id).unwrap())
            .collect();
        assert_eq!(
            spelled,
            ["<|begin|>", "hello", "Ġw", "o", "r", "l", "d", "<|end|>"]
        );
        assert_eq!(tokenizer.decode(&ids).unwrap(), "hello world");
        // A text that begins with the token itself does not get it twice.
        assert_eq!(tokenizer.encode("<|begin|>hello").unwrap(), ids[..2]);
    }
}

#[test]
fn an_unknown_split_is_refused() {
    let source = TokenizerSource::GgufBpe {
        tokens: vec!["a".to_owned()],
        merges: vec![],
        token_types: vec![],
        pre: Some("nobody".to_owned()),
    };
    let error = Tokenizer::load(&source, &config(None))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("tokenizer.ggml.pre") && error.contains("nobody"),
        "{error}"
    );
}

#[test]
fn characters_come_whole() {
    let tokenizer = small(None);
    let text = "naïve 日本 🙂 end";
    let ids = tokenizer.encode_plain(text).unwrap();
    let mut stream = tokenizer.detokenizer();
    let mut streamed = String::new();
    for id in ids {
        let piece = stream.push(id).unwrap();
        assert!(!piece.contains(char::REPLACEMENT_CHARACTER));
        streamed += &piece;
    }
    streamed += &stream.finish().unwrap();
    assert_eq!(streamed, text);
}

/// Every piece in turn, and the rest.
fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut stream = tokenizer.detokenizer();
    let mut pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    pieces.push(stream.finish().unwrap());
    pieces
}

/// Characters outside of a SentencePiece vocabulary are runs of byte tokens, and a run is valid or not as a whole.
#[test]
fn runs_of_byte_tokens_come_as_characters() {
    let mut tokens = vec!["<unk>".to_owned(), "▁".to_owned(), "▁x".to_owned()];
    let mut token_types = vec![token_type::UNKNOWN, token_type::NORMAL, token_type::NORMAL];
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    token_types.resize(tokens.len(), token_type::BYTE);
    tokens.push("<|end|>".to_owned());
    token_types.push(token_type::CONTROL);
    let (first_byte, end) = (3, 3 + 256);
    let source = TokenizerSource::GgufSentencePiece {
        scores: vec![-1.0; tokens.len()],
        tokens,
        token_types,
        unknown: Some(0),
        add_space_prefix: true,
    };
    let tokenizer = Tokenizer::load(&source, &config(None)).unwrap().unwrap();
    let bytes = |text: &[u8]| -> Vec<u32> {
        text.iter()
            .map(|byte| first_byte + u32::from(*byte))
            .collect()
    };

    let text = "é日🙂日";
    let mut ids = vec![2];
    ids.extend(bytes(text.as_bytes()));
    // A token without text between two others does not take the blank of the second.
    ids.extend([2, end, 2]);
    let pieces = streamed(&tokenizer, &ids);
    assert!(
        pieces
            .iter()
            .all(|piece| !piece.contains(char::REPLACEMENT_CHARACTER)),
        "{pieces:?}"
    );
    assert_eq!(pieces.concat(), format!("x{text} x x"));
    assert_eq!(pieces.concat(), tokenizer.decode(&ids).unwrap());

    // A byte that never becomes a character: what stands around it is not lost.
    let mut ids = bytes("日".as_bytes());
    ids.extend(bytes(&[0xE6]));
    ids.push(2);
    assert_eq!(streamed(&tokenizer, &ids).concat(), "日\u{fffd} x");
    let pieces = streamed(&tokenizer, &bytes(&[0xFF; 9]));
    assert_eq!(pieces.concat(), "\u{fffd}".repeat(9));
    assert!(!pieces[3].is_empty(), "{pieces:?}");
}

/// Tokens that end one character and begin the next.
#[test]
fn tokens_across_characters_are_not_held_for_long() {
    // 日 is E6 97 A5; the byte-level alphabet writes these bytes as æ, Ĺ and ¥.
    let tokens = ["æ", "Ĺ¥æ", "Ĺ¥"].map(str::to_owned).to_vec();
    let source = TokenizerSource::GgufBpe {
        token_types: vec![token_type::NORMAL; tokens.len()],
        tokens,
        merges: vec![],
        pre: None,
    };
    let tokenizer = Tokenizer::load(&source, &config(None)).unwrap().unwrap();
    let mut ids = vec![0];
    ids.extend([1; 20]);
    ids.push(2);
    let pieces = streamed(&tokenizer, &ids);
    assert_eq!(pieces.concat(), "日".repeat(21));
    assert_eq!(pieces[1], "日");
    assert_eq!(pieces[20], "日");
}

#[test]
fn a_broken_tail_comes_at_the_end() {
    let tokenizer = small(None);
    let ids = tokenizer.encode_plain("🙂").unwrap();
    let mut stream = tokenizer.detokenizer();
    assert_eq!(stream.push(ids[0]).unwrap(), "");
    assert_eq!(stream.finish().unwrap(), "\u{fffd}");
}

/// A vocabulary in which the best score does not belong to the longest piece.
#[test]
fn sentence_piece_joins_by_score() {
    let pieces: [(&str, f32, i32); 9] = [
        ("<unk>", 0.0, token_type::UNKNOWN),
        ("▁", -10.0, token_type::NORMAL),
        ("a", -11.0, token_type::NORMAL),
        ("b", -12.0, token_type::NORMAL),
        ("c", -13.0, token_type::NORMAL),
        ("bc", -1.0, token_type::NORMAL),
        ("ab", -2.0, token_type::NORMAL),
        ("▁a", -3.0, token_type::NORMAL),
        ("<0xC3>", 0.0, token_type::BYTE),
    ];
    let source = TokenizerSource::GgufSentencePiece {
        tokens: pieces.iter().map(|p| p.0.to_owned()).collect(),
        scores: pieces.iter().map(|p| p.1).collect(),
        token_types: pieces.iter().map(|p| p.2).collect(),
        unknown: Some(0),
        add_space_prefix: true,
    };
    let tokenizer = Tokenizer::load(&source, &config(None)).unwrap().unwrap();
    // "▁abc": `bc` is better than `ab`, then `▁a`.
    let ids = tokenizer.encode("abc").unwrap();
    assert_eq!(ids, [7, 5]);
    assert_eq!(tokenizer.decode(&ids).unwrap(), "abc");
}

#[test]
fn synthetic_models_spell_any_text() {
    let checkpoint = synth::checkpoint(&Shape::named("125m:layers=1").unwrap(), 1).unwrap();
    let tokenizer = Tokenizer::load(&checkpoint.tokenizer().unwrap(), checkpoint.config())
        .unwrap()
        .unwrap();
    let ids = tokenizer.encode("What is 1.58 bit? ü").unwrap();
    assert_eq!(Some(ids[0]), checkpoint.config().bos);
    assert_eq!(tokenizer.decode(&ids).unwrap(), "What is 1.58 bit? ü");
}

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
}
#[derive(serde::Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

/// Awkward strings against what Hugging Face `tokenizers` makes of them. The vocabulary is not ours to ship: its path comes
/// in `TRIT_LLAMA3_TOKENIZER`.
#[test]
fn llama3_ids_are_those_of_the_original() {
    let Some(path) = std::env::var_os("TRIT_LLAMA3_TOKENIZER").map(PathBuf::from) else {
        eprintln!(
            "SKIPPED llama3 tokenizer: TRIT_LLAMA3_TOKENIZER is not set to the path of its tokenizer.json"
        );
        return;
    };
    let cases: Cases = serde_json::from_str(include_str!(
        "../../../tests/golden/llama3-tokenizer-expected.json"
    ))
    .unwrap();
    let json = Tokenizer::load(&TokenizerSource::Json(path.clone()), &config(None))
        .unwrap()
        .unwrap();

    // The same vocabulary in the form that GGUF files have.
    let value: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let added = value["added_tokens"].as_array().unwrap();
    let model = value["model"]["vocab"].as_object().unwrap();
    let mut tokens = vec![String::new(); model.len() + added.len()];
    let mut token_types = vec![token_type::NORMAL; tokens.len()];
    for (text, id) in model {
        tokens[id.as_u64().unwrap() as usize] = text.clone();
    }
    for token in added {
        let id = token["id"].as_u64().unwrap() as usize;
        tokens[id] = token["content"].as_str().unwrap().to_owned();
        token_types[id] = token_type::CONTROL;
    }
    let merges = value["model"]["merges"].as_array().unwrap();
    let merges = merges
        .iter()
        .map(|merge| match merge {
            serde_json::Value::String(text) => text.clone(),
            pair => format!(
                "{} {}",
                pair[0].as_str().unwrap(),
                pair[1].as_str().unwrap()
            ),
        })
        .collect();
    let source = TokenizerSource::GgufBpe {
        tokens,
        merges,
        token_types,
        pre: None,
    };
    let gguf = Tokenizer::load(&source, &config(None)).unwrap().unwrap();

    assert!(cases.cases.len() > 5);
    for case in cases.cases {
        assert_eq!(
            json.encode_plain(&case.text).unwrap(),
            case.ids,
            "{:?}",
            case.text
        );
        assert_eq!(
            gguf.encode_plain(&case.text).unwrap(),
            case.ids,
            "{:?} from GGUF",
            case.text
        );
    }
}
