//! Models through every converter and back: the same numbers, under the names that each program knows.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod common;

use std::path::{Path, PathBuf};

use common::{Gguf, HIDDEN, Hf};
use trit_engine::convert::{ConvertError, Converted, LinearType, Program, to_folder, to_gguf};
use trit_engine::file::{
    Activation, Checkpoint, FileOptions, Linear, LinearScale, Norm, TokenizerSource,
};
use trit_engine::{Tokenizer, synth};

const TYPES: [LinearType; 4] = [
    LinearType::F16,
    LinearType::I2s,
    LinearType::Tq1,
    LinearType::Tq2,
];
const PROGRAMS: [Program; 3] = [Program::LlamaCpp, Program::IkLlamaCpp, Program::BitnetCpp];

fn golden(name: &str) -> Checkpoint {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(name);
    open(&path)
}

fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(path, &FileOptions::default()).expect("it is good")
}

fn tiny() -> Checkpoint {
    synth::checkpoint(&synth::Shape::named("tiny").unwrap(), 3).unwrap()
}

fn codes(checkpoint: &Checkpoint, layer: usize, linear: Linear) -> Vec<i8> {
    let source = checkpoint.linear(layer, linear).unwrap();
    let mut out = vec![9; source.rows() * source.k()];
    source.read_codes(0..source.rows(), &mut out).unwrap();
    out
}

fn multiplier(checkpoint: &Checkpoint, layer: usize, linear: Linear) -> f32 {
    match checkpoint.linear(layer, linear).unwrap().scale() {
        LinearScale::Multiply(scale) => scale,
        LinearScale::Divide(scale) => 1.0 / scale,
    }
}

/// Compares everything that a forward pass reads; scales to `tolerance`, which is 0 where they are to be the same bits.
fn same(was: &Checkpoint, is: &Checkpoint, tolerance: f32, what: &str) {
    let (a, b) = (was.config(), is.config());
    assert_eq!(
        (
            a.hidden, a.ffn, a.layers, a.heads, a.kv_heads, a.vocab, a.context
        ),
        (
            b.hidden, b.ffn, b.layers, b.heads, b.kv_heads, b.vocab, b.context
        ),
        "{what}"
    );
    assert_eq!(
        (a.rms_eps.to_bits(), a.rope_base.to_bits(), a.activation),
        (b.rms_eps.to_bits(), b.rope_base.to_bits(), b.activation),
        "{what}"
    );
    assert_eq!(
        (a.sub_norms, a.tied_head, a.bos, a.eos, &a.stop, a.add_bos),
        (b.sub_norms, b.tied_head, b.bos, b.eos, &b.stop, b.add_bos),
        "{what}"
    );
    for layer in 0..a.layers {
        for linear in Linear::ALL {
            let what = format!("{what}: layer {layer} {linear:?}");
            assert!(
                codes(was, layer, linear) == codes(is, layer, linear),
                "{what}"
            );
            let (x, y) = (
                multiplier(was, layer, linear),
                multiplier(is, layer, linear),
            );
            assert!((x / y - 1.0).abs() <= tolerance, "{what}: {x} {y}");
        }
        let mut norms = vec![Norm::Attn, Norm::Ffn];
        if a.sub_norms {
            norms.extend([Norm::AttnSub, Norm::FfnSub]);
        }
        for norm in norms {
            assert_eq!(
                was.norm(Some(layer), norm).unwrap(),
                is.norm(Some(layer), norm).unwrap()
            );
        }
    }
    assert_eq!(
        was.norm(None, Norm::Final).unwrap(),
        is.norm(None, Norm::Final).unwrap()
    );
    // Embeddings are one in halves: containers hold BF16 or F16 rounded from it.
    let halves = |checkpoint: &Checkpoint| {
        let embedding = checkpoint.embedding().unwrap().to_f16();
        let head = checkpoint.head().unwrap().map(|head| head.to_f16());
        (
            embedding.bytes().to_vec(),
            head.map(|head| head.bytes().to_vec()),
        )
    };
    assert!(halves(was) == halves(is), "{what}");
}

fn convert(model: &Checkpoint, dtype: LinearType, program: Program) -> (Checkpoint, Converted) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let done = to_gguf(model, dtype, program, true, &path).unwrap();
    assert_eq!(done.bytes, std::fs::metadata(&path).unwrap().len());
    // The map keeps what the directory loses.
    (open(&path), done)
}

#[test]
fn every_type_for_every_program_holds_the_same_model() {
    let model = tiny();
    for dtype in TYPES {
        for program in PROGRAMS {
            let what = format!("{dtype:?} {program:?}");
            if dtype == LinearType::I2s && program == Program::LlamaCpp {
                continue;
            }
            let (read, done) = convert(&model, dtype, program);
            let exact = dtype == LinearType::I2s || program == Program::LlamaCpp;
            same(&model, &read, if exact { 0.0 } else { 4.9e-4 }, &what);
            assert_eq!(done.rounded_scales, if exact { 0 } else { 14 }, "{what}");
            assert!(done.worst_rounding < 4.9e-4 && done.vocabulary);
            let architecture = match program {
                Program::LlamaCpp => "bitnet",
                _ => "bitnet-b1.58",
            };
            assert_eq!(read.config().architecture, architecture);
            assert_eq!(done.architecture, architecture);
            let linears = read.tensors();
            let linears = linears.iter().filter(|t| t.dtype == dtype.name());
            assert!(linears.count() >= 14, "{what}");
            assert_eq!(read.tokenizer().unwrap(), model.tokenizer().unwrap());
        }
    }
}

#[test]
fn what_was_read_from_files_goes_both_ways() {
    for name in ["bitnet-tiny", "bitnet-tiny/model-i2_s.gguf"] {
        let model = golden(name);
        for dtype in TYPES {
            let (read, _) = convert(&model, dtype, Program::BitnetCpp);
            same(&model, &read, 4.9e-4, name);
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("packed");
        let done = to_folder(&model, true, &path).unwrap();
        assert_eq!(done.architecture, "bitnet");
        let read = open(&path);
        same(&model, &read, 0.0, name);
        assert_eq!(read.container(), "safetensors");
        // And back again from what was written; a `tokenizer.json` of SentencePiece does not go into a GGUF file.
        let back = dir.path().join("m.gguf");
        to_gguf(&read, LinearType::I2s, Program::BitnetCpp, false, &back).unwrap();
        same(&model, &open(&back), 0.0, name);
    }
}

#[test]
fn the_llama_family_keeps_its_rule_and_its_rows() {
    let model = golden("llama-bitlinear-tiny");
    let (read, done) = convert(&model, LinearType::I2s, Program::BitnetCpp);
    assert_eq!(done.architecture, "llama");
    assert!(read.config().rope_interleaved && !model.config().rope_interleaved);
    same(&model, &read, 0.0, "llama");
    // GGUF readers undo the permutation; the file itself has the rows of a head one from each half in turn.
    let unpermuted = codes(&model, 0, Linear::Q);
    let (k, half) = (model.config().hidden, model.config().head_dim / 2);
    let source = read.linear(0, Linear::Q).unwrap();
    assert!(source.packed_i2s().is_none());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    to_gguf(&model, LinearType::I2s, Program::BitnetCpp, true, &path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let row = |row: usize| {
        let codes = &unpermuted[row * k..(row + 1) * k];
        let packed = trit_kernel::Packed::pack(
            trit_kernel::Codes::new(codes, 1, k).unwrap(),
            trit_kernel::LayoutId::I2S,
            trit_kernel::Scales::Tensor(1.0),
        )
        .unwrap();
        packed.bytes()[..k / 4].to_vec()
    };
    let neighbours = [row(0), row(half), row(1), row(half + 1)].concat();
    assert!(
        bytes
            .windows(neighbours.len())
            .any(|window| window == neighbours)
    );
    // Dividing stays dividing in a folder, to the bit.
    let path = dir.path().join("packed");
    to_folder(&model, true, &path).unwrap();
    let folder = open(&path);
    assert_eq!(
        folder.linear(1, Linear::Up).unwrap().scale(),
        model.linear(1, Linear::Up).unwrap().scale()
    );
    assert!(matches!(
        folder.linear(1, Linear::Up).unwrap().scale(),
        LinearScale::Divide(_)
    ));
    same(&model, &folder, 0.0, "llama folder");
}

#[test]
fn vocabularies_spell_the_same_in_both_containers() {
    let model = tiny();
    let text = "weights of -1, 0 and 1, ünïcode\n";
    let spell = |checkpoint: &Checkpoint| {
        let source = checkpoint.tokenizer().unwrap();
        let tokenizer = Tokenizer::load(&source, checkpoint.config()).unwrap();
        tokenizer.unwrap().encode(text).unwrap()
    };
    let want = spell(&model);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("packed");
    assert!(to_folder(&model, true, &path).unwrap().vocabulary);
    let folder = open(&path);
    assert!(matches!(
        folder.tokenizer().unwrap(),
        TokenizerSource::Json(_)
    ));
    assert_eq!(spell(&folder), want);
    let (gguf, _) = convert(&folder, LinearType::Tq2, Program::LlamaCpp);
    let TokenizerSource::GgufBpe { pre, tokens, .. } = gguf.tokenizer().unwrap() else {
        panic!("it is byte-level BPE");
    };
    assert_eq!((pre.as_deref(), tokens.len()), (Some("llama-bpe"), 512));
    assert_eq!(spell(&gguf), want);
    // Another kind of vocabulary is not guessed at.
    let json = path.join("tokenizer.json");
    let text = std::fs::read_to_string(&json).unwrap();
    std::fs::write(&json, text.replace("\"BPE\"", "\"Unigram\"")).unwrap();
    let out = dir.path().join("m.gguf");
    let folder = open(&path);
    let error = to_gguf(&folder, LinearType::Tq2, Program::LlamaCpp, true, &out).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("tokenizer.json") && text.contains("--no-vocabulary"),
        "{text}"
    );
    assert!(!out.exists());
    let done = to_gguf(&folder, LinearType::Tq2, Program::LlamaCpp, false, &out).unwrap();
    assert!(!done.vocabulary);
    assert_eq!(open(&out).tokenizer().unwrap(), TokenizerSource::None);
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out: PathBuf = dir.path().join("m.gguf");
    let refused = |model: &Checkpoint, dtype, program| -> ConvertError {
        let error = to_gguf(model, dtype, program, true, &out).unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        error
    };
    let small = Checkpoint::from_gguf_bytes("m", Gguf::tiny().bytes(), &FileOptions::default());
    let small = small.unwrap();
    // 128 columns are no block of 256.
    let error = refused(&small, LinearType::Tq1, Program::LlamaCpp).to_string();
    for word in ["attn_q", "128", "256", "TQ1_0", "hint"] {
        assert!(error.contains(word), "{error}");
    }
    let error = refused(&small, LinearType::I2s, Program::LlamaCpp);
    assert!(matches!(error, ConvertError::NoI2s));
    let mut far = Gguf::tiny();
    let tensor = far.tensor("ffn_up");
    let end = tensor.data.len() - 32;
    tensor.data[end..end + 4].copy_from_slice(&1e9f32.to_le_bytes());
    let far = Checkpoint::from_gguf_bytes("m", far.bytes(), &FileOptions::default()).unwrap();
    let error = refused(&far, LinearType::F16, Program::BitnetCpp).to_string();
    assert!(
        error.contains("1000000000") && error.contains("ffn_up"),
        "{error}"
    );
    // llama.cpp's own has the scale beside it, where it is an f32.
    to_gguf(&far, LinearType::F16, Program::LlamaCpp, true, &out).unwrap();
    same(&far, &open(&out), 0.0, "a large scale");
    std::fs::remove_file(&out).unwrap();
    // Squared ReLU without sub-norms has a name nowhere.
    let mut odd = Hf::tiny();
    odd.set("model_type", "llama".into());
    odd.set("hidden_act", "relu2".into());
    odd.remove("model.layers.0.self_attn.attn_sub_norm.weight");
    odd.remove("model.layers.0.mlp.ffn_sub_norm.weight");
    let odd = Checkpoint::from_hf_bytes(
        "m",
        &odd.config_text(),
        odd.bytes(),
        &FileOptions::default(),
    );
    let odd = odd.unwrap();
    assert_eq!(odd.config().activation, Activation::Relu2);
    assert_eq!(odd.config().hidden, HIDDEN);
    let error = refused(&odd, LinearType::F16, Program::LlamaCpp);
    assert!(matches!(error, ConvertError::NoArchitecture { .. }));
    let folder = dir.path().join("packed");
    to_folder(&odd, true, &folder).unwrap();
    same(&odd, &open(&folder), 0.0, "no sub-norms");
    // A folder that holds something is somebody's.
    let error = to_folder(&odd, true, &folder).unwrap_err().to_string();
    assert!(error.contains("hint: name a new folder"), "{error}");
}

/// Transformers begins texts by what `tokenizer.json` says alone.
#[test]
fn a_folder_begins_texts_as_the_model_was_trained() {
    let dir = tempfile::tempdir().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/shakespeare.gguf");
    let (model, folder) = (open(&model), dir.path().join("model"));
    let bos = model.config().bos.unwrap();
    assert!(model.config().add_bos);
    to_folder(&model, true, &folder).unwrap();
    let theirs = tokenizers::Tokenizer::from_file(folder.join("tokenizer.json")).unwrap();
    let ours = Tokenizer::load(&open(&folder).tokenizer().unwrap(), open(&folder).config());
    let ours = ours.unwrap().unwrap();
    for text in ["ROMEO:", "", "A horse! a horse!\n"] {
        let ids = theirs.encode(text, true).unwrap().get_ids().to_vec();
        assert_eq!(ids[0], bos, "{text:?}");
        assert_eq!(ids, ours.encode(text).unwrap(), "{text:?}");
    }
    let facts = std::fs::read(folder.join("tokenizer_config.json")).unwrap();
    let facts: serde_json::Value = serde_json::from_slice(&facts).unwrap();
    assert_eq!(facts["bos_token"], theirs.id_to_token(bos).unwrap());
    assert_eq!(facts["add_bos_token"], true);
}
