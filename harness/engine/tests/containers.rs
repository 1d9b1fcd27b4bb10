//! The small golden models: both containers of one model hold the same numbers.

use std::path::{Path, PathBuf};

use trit_engine::file::{
    Activation, Checkpoint, FileOptions, FloatMatrix, I2sForm, Linear, LinearScale, Norm,
    ScaleRule, TokenizerSource, sha256,
};
use trit_engine::inspect::inspect;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(name)
}

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(&golden(name), &FileOptions::default()).expect("a golden model opens")
}

fn codes(checkpoint: &Checkpoint, layer: usize, linear: Linear) -> Vec<i8> {
    let source = checkpoint.linear(layer, linear).expect("it is there");
    let mut out = vec![9; source.rows() * source.k()];
    source
        .read_codes(0..source.rows(), &mut out)
        .expect("codes mean something");
    out
}

fn rows(matrix: &FloatMatrix) -> Vec<u32> {
    let mut row = vec![0.0; matrix.cols()];
    (0..matrix.rows())
        .flat_map(|r| {
            matrix.row(r, &mut row);
            row.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn both_containers_of_one_model_agree_to_the_bit() {
    let gguf = open("bitnet-tiny/model-i2_s.gguf");
    let hf = open("bitnet-tiny");
    let (a, b) = (gguf.config(), hf.config());
    assert_eq!(
        (a.architecture.as_str(), b.architecture.as_str()),
        ("bitnet-b1.58", "bitnet")
    );
    let numbers = |c: &trit_engine::file::Config| {
        let sizes = [
            c.hidden, c.ffn, c.layers, c.heads, c.kv_heads, c.head_dim, c.vocab, c.context,
        ];
        (
            sizes,
            c.rms_eps.to_bits(),
            c.rope_base.to_bits(),
            c.activation,
            c.sub_norms,
            c.tied_head,
        )
    };
    assert_eq!(numbers(a), numbers(b));
    assert_eq!(
        numbers(a),
        (
            [256, 768, 4, 4, 2, 64, 512, 512],
            1e-5f32.to_bits(),
            5e5f32.to_bits(),
            Activation::Relu2,
            true,
            true
        )
    );
    assert_eq!((a.bos, a.eos, &a.stop), (b.bos, b.eos, &b.stop));
    for layer in 0..a.layers {
        for linear in Linear::ALL {
            let (left, right) = (
                gguf.linear(layer, linear).unwrap(),
                hf.linear(layer, linear).unwrap(),
            );
            assert_eq!((left.rows(), left.k()), a.linear_shape(linear));
            let what = format!("layer {layer} {linear:?}");
            assert_eq!(left.scale(), right.scale(), "{what}");
            assert!(
                matches!(left.scale(), LinearScale::Multiply(scale) if scale > 0.0),
                "{what}"
            );
            let weights = codes(&gguf, layer, linear);
            assert_eq!(weights, codes(&hf, layer, linear), "{what}");
            assert!((-1..=1).all(|w| weights.contains(&w)), "{what}");
            // The mapped bytes are the project's own layout; safetensors' are not.
            let (owner, range) = left.packed_i2s().unwrap();
            let packed = trit_kernel::Packed::pack(
                trit_kernel::Codes::new(&weights, left.rows(), left.k()).unwrap(),
                trit_kernel::LayoutId::I2S,
                trit_kernel::Scales::Tensor(1.0),
            )
            .unwrap();
            assert_eq!(&owner.bytes()[range], packed.bytes(), "{what}");
            assert!(right.packed_i2s().is_none());
            // Giving pages back does not change them.
            gguf.release(&left);
            assert_eq!(weights, codes(&gguf, layer, linear), "{what}");
        }
        for norm in [Norm::Attn, Norm::AttnSub, Norm::Ffn, Norm::FfnSub] {
            assert_eq!(
                gguf.norm(Some(layer), norm).unwrap(),
                hf.norm(Some(layer), norm).unwrap()
            );
        }
    }
    let last = gguf.norm(None, Norm::Final).unwrap();
    assert_eq!(
        (last.len(), &last),
        (256, &hf.norm(None, Norm::Final).unwrap())
    );
    let (left, right) = (gguf.embedding().unwrap(), hf.embedding().unwrap());
    // BF16 reaches below the smallest halves: three of 131,072 values differ until both are halves.
    let different = rows(&left)
        .iter()
        .zip(rows(&right))
        .filter(|(a, b)| *a != b)
        .count();
    assert_eq!(different, 3);
    assert!(rows(&left) == rows(&right.to_f16()));
    assert!(rows(&left) == rows(&left.to_f16()));
    assert_eq!(left.f16().unwrap().len(), 512 * 256);
    assert_eq!(right.bf16().unwrap().len(), 512 * 256);
    assert!(left.f32().is_none() && right.f16().is_none());
    assert!(gguf.head().unwrap().is_none() && hf.head().unwrap().is_none());
}

#[test]
fn a_part_of_the_rows_is_that_part_of_all_rows() {
    let gguf = open("bitnet-tiny/model-i2_s.gguf");
    let all = codes(&gguf, 1, Linear::Down);
    let source = gguf.linear(1, Linear::Down).unwrap();
    let mut some = vec![9; 5 * source.k()];
    source.read_codes(100..105, &mut some).unwrap();
    assert_eq!(some, all[100 * source.k()..105 * source.k()]);
}

#[test]
fn the_llama_family_divides_by_its_scales() {
    let model = open("llama-bitlinear-tiny");
    let config = model.config();
    assert_eq!(
        (config.activation, config.sub_norms, config.tied_head),
        (Activation::Silu, false, false)
    );
    let LinearScale::Divide(scale) = model.linear(0, Linear::Q).unwrap().scale() else {
        panic!("a `bitlinear` scale divides");
    };
    assert!(scale.is_finite() && scale > 0.0);
    let head = model.head().unwrap().unwrap();
    assert_eq!((head.rows(), head.cols()), (640, 256));
    assert_ne!(rows(&head), rows(&model.embedding().unwrap()));
    let options = FileOptions {
        scale_rule: Some(ScaleRule::Multiply),
        ..FileOptions::default()
    };
    let forced = Checkpoint::open(&golden("llama-bitlinear-tiny"), &options).unwrap();
    assert_eq!(
        forced.linear(0, Linear::Q).unwrap().scale(),
        LinearScale::Multiply(scale)
    );
}

#[test]
fn the_other_form_of_i2s_reads_the_same_bytes_otherwise() {
    let arm = FileOptions {
        i2s: I2sForm::Arm,
        ..FileOptions::default()
    };
    let x86 = open("bitnet-tiny/model-i2_s.gguf");
    let arm = Checkpoint::open(&golden("bitnet-tiny/model-i2_s.gguf"), &arm).unwrap();
    let (left, right) = (codes(&x86, 0, Linear::Q), codes(&arm, 0, Linear::Q));
    // Byte p of the first 32 holds columns p, 32 + p, ... in one form, and of the first 16 p, 16 + p, ... in the other.
    assert_eq!(
        (right[0], right[16], right[32], right[48]),
        (left[0], left[32], left[64], left[96])
    );
    assert_ne!(left, right);
    assert!(arm.linear(0, Linear::Q).unwrap().packed_i2s().is_none());
}

#[test]
fn files_of_a_folder_stand_for_the_folder() {
    for name in ["bitnet-tiny/config.json", "bitnet-tiny/model.safetensors"] {
        assert_eq!(open(name).container(), "safetensors", "{name}");
    }
}

#[test]
fn the_vocabulary_of_a_gguf_file_is_complete() {
    let TokenizerSource::GgufSentencePiece {
        tokens,
        scores,
        token_types,
        unknown,
        ..
    } = open("bitnet-tiny/model-i2_s.gguf").tokenizer().unwrap()
    else {
        panic!("the file says `llama`");
    };
    assert_eq!(
        (tokens.len(), scores.len(), token_types.len(), unknown),
        (512, 512, 512, Some(2))
    );
    assert_eq!(
        (tokens[0].as_str(), tokens[511].as_str()),
        ("<s>", "\u{2581}t252")
    );
    assert_eq!(token_types[..4], [3, 3, 2, 6]);
    assert_eq!(
        open("bitnet-tiny").tokenizer().unwrap(),
        TokenizerSource::None
    );
}

#[test]
fn inspection_adds_up() {
    let path = golden("bitnet-tiny/model-i2_s.gguf");
    let got = inspect(&path, &FileOptions::default()).unwrap();
    assert_eq!(got.container, "gguf");
    // Four layers of 2 · 256², 2 · 128 · 256, 3 · 768 · 256.
    let weights = 4 * (2 * 65_536 + 2 * 32_768 + 3 * 196_608);
    assert_eq!(got.linear_weights, weights);
    assert_eq!(got.bytes.linears, weights / 4 + 28 * 32);
    assert_eq!(
        (got.bytes.embedding, got.bytes.head, got.bytes.unused),
        (512 * 256 * 2, 0, 0)
    );
    assert_eq!(got.bytes.norms, 4 * (256 + 4 * (3 * 256 + 768)));
    assert_eq!(
        (
            got.types["I2_S"].tensors,
            got.types["F32"].tensors,
            got.types["F16"].tensors
        ),
        (28, 17, 1)
    );
    assert!((got.bits_per_weight - 2.0).abs() < 0.01);
    assert_eq!(got.tensors.len(), 46);
    assert_eq!(got.file_bytes, Some(1_090_144));
    assert_eq!(got.sha256, Some(sha256(&path).unwrap()));
    assert_eq!(got.tokenizer, Some("gguf sentencepiece"));
    let folder = inspect(&golden("bitnet-tiny"), &FileOptions::default()).unwrap();
    assert_eq!(folder.bytes.linears, weights / 4 + 28 * 2);
    assert_eq!(folder.linear_weights, weights);
    assert_eq!(folder.bytes.unused, 0);
    let json = serde_json::to_string(&folder).unwrap();
    assert!(json.contains("\"bits_per_weight\"") && json.contains("\"relu2\""));
}

#[test]
fn the_digest_is_sha256() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"abc").unwrap();
    // FIPS 180-2, example B.1.
    assert_eq!(
        sha256(file.path()).unwrap(),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}
