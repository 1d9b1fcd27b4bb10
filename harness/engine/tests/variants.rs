//! Good files of every kind that is read: types of linears, architectures, permuted rows, shards.

mod common;

use common::{
    F16, F32, FFN, Gguf, HIDDEN, Hf, IQ1_BN, IQ2_BN, IQ2_BN_R4, KV, TL1, TL2, TQ1, TQ2, VOCAB,
    Value, f32s, iq2, read_all, tl, tq2, weight,
};
use serde_json::json;
use trit_engine::file::{
    Activation, Checkpoint, FileOptions, FloatType, Linear, LinearScale, ScaleRule, TokenizerSource,
};

fn open(gguf: &Gguf) -> Checkpoint {
    Checkpoint::from_gguf_bytes("m.gguf", gguf.bytes(), &FileOptions::default())
        .expect("a good file")
}

fn open_hf(hf: &Hf) -> Checkpoint {
    Checkpoint::from_hf_bytes("m", &hf.config_text(), hf.bytes(), &FileOptions::default())
        .expect("a good folder")
}

fn codes(checkpoint: &Checkpoint, linear: Linear) -> Vec<i8> {
    let source = checkpoint.linear(0, linear).expect("it is there");
    let mut out = vec![9; source.rows() * source.k()];
    source
        .read_codes(0..source.rows(), &mut out)
        .expect("codes mean something");
    out
}

fn weights(rows: usize, k: usize) -> Vec<i8> {
    (0..rows * k).map(|i| weight(i / k, i % k)).collect()
}

fn scale(checkpoint: &Checkpoint, linear: Linear) -> LinearScale {
    checkpoint.linear(0, linear).expect("it is there").scale()
}

#[test]
fn every_linear_of_both_containers_is_the_same_pattern() {
    let (gguf, hf) = (open(&Gguf::tiny()), open_hf(&Hf::tiny()));
    for checkpoint in [&gguf, &hf] {
        read_all(checkpoint, None).unwrap();
        for linear in Linear::ALL {
            let (rows, k) = checkpoint.config().linear_shape(linear);
            assert!(codes(checkpoint, linear) == weights(rows, k), "{linear:?}");
            assert_eq!(scale(checkpoint, linear), LinearScale::Multiply(0.5));
        }
    }
    assert_eq!(hf.config().stop, [2, 4]);
    assert_eq!((gguf.config().bos, gguf.config().add_bos), (Some(3), true));
}

#[test]
fn linears_of_ik_llama_give_the_codes_and_the_scale_of_their_rows() {
    let mut gguf = Gguf::tiny();
    let tensor = gguf.tensor("ffn_down");
    tensor.type_id = IQ2_BN;
    tensor.data = iq2(HIDDEN, FFN, 0.5);
    let model = open(&gguf);
    assert!(codes(&model, Linear::Down) == weights(HIDDEN, FFN));
    assert_eq!(scale(&model, Linear::Down), LinearScale::Multiply(0.5));
    assert_eq!(
        model
            .tensors()
            .iter()
            .filter(|tensor| tensor.dtype == "IQ2_BN")
            .count(),
        1
    );
    // Bytes of 0b10_10_10_10 are ones in every place; rows of four come in one piece, with their scales first.
    let tensor = gguf.tensor("ffn_down");
    tensor.type_id = IQ2_BN_R4;
    let scales = 0.25f32.to_le_bytes().repeat(4);
    tensor.data = [scales, vec![0xaa; FFN]].concat().repeat(HIDDEN / 4);
    let model = open(&gguf);
    assert!(codes(&model, Linear::Down).iter().all(|w| *w == 1));
    assert_eq!(scale(&model, Linear::Down), LinearScale::Multiply(0.25));
    // Bytes of 0 are digits of 0.
    let tensor = gguf.tensor("ffn_down");
    tensor.type_id = IQ1_BN;
    let row = [vec![0, 0x38], vec![0; FFN / 64 * 13]].concat();
    tensor.data = row.repeat(HIDDEN);
    let model = open(&gguf);
    assert!(codes(&model, Linear::Down).iter().all(|w| *w == -1));
    assert_eq!(scale(&model, Linear::Down), LinearScale::Multiply(0.5));
}

#[test]
fn look_up_types_are_read_with_the_tiles_that_are_asked_for() {
    for (type_id, file_type, tiles, want) in [
        // Nibbles 8 and 0: 1, 1, −1, −1.
        (TL1, 38, "128x256=64/128/32", [1, 1, -1, -1].as_slice()),
        (TL1, 38, "128x256=128/64/64", &[1, 1, -1, -1]),
        // No column is in a tile of 288, all are pairs.
        (TL2, 39, "128x256=64/288", &[1, 1, -1, -1]),
    ] {
        let mut gguf = Gguf::tiny();
        gguf.set("general.file_type", Value::U32(file_type));
        let tensor = gguf.tensor("ffn_down");
        tensor.type_id = type_id;
        tensor.data = tl(type_id, 0x80, 0.5);
        let options = FileOptions {
            tl_tiles: tiles.parse().unwrap(),
            ..FileOptions::default()
        };
        let model = Checkpoint::from_gguf_bytes("m.gguf", gguf.bytes(), &options).unwrap();
        let got = codes(&model, Linear::Down);
        assert!(got.chunks(4).all(|four| four == want), "{tiles}");
        assert_eq!(scale(&model, Linear::Down), LinearScale::Multiply(0.5));
    }
}

#[test]
fn tq_linears_give_the_codes_and_the_scale() {
    let mut gguf = Gguf::tiny();
    let tensor = gguf.tensor("ffn_down");
    tensor.type_id = TQ2;
    tensor.data = tq2(HIDDEN, FFN, 0x3800);
    // The extra scale of mainline's converter multiplies the tensor's own.
    gguf.push("blk.0.ffn_down.scale", &[1], F32, f32s(1, 0.25));
    let model = open(&gguf);
    assert!(codes(&model, Linear::Down) == weights(HIDDEN, FFN));
    assert_eq!(scale(&model, Linear::Down), LinearScale::Multiply(0.125));
    assert!(
        model
            .linear(0, Linear::Down)
            .unwrap()
            .packed_i2s()
            .is_none()
    );
    // All bytes zero but the scale: all digits are 0, all weights −1.
    let tensor = gguf.tensor("ffn_down.weight");
    tensor.type_id = TQ1;
    tensor.data = [vec![0; 52], vec![0, 0x38]].concat().repeat(HIDDEN);
    let model = open(&gguf);
    assert!(codes(&model, Linear::Down).iter().all(|w| *w == -1));
}

#[test]
fn float_linears_are_taken_as_they_are_or_through_absmean() {
    let as_f16 = |scale: f32| -> Vec<u8> {
        weights(KV, HIDDEN)
            .iter()
            .flat_map(|w| half::f16::from_f32(f32::from(*w) * scale).to_le_bytes())
            .collect()
    };
    let mut gguf = Gguf::tiny();
    let tensor = gguf.tensor("attn_k");
    tensor.type_id = F16;
    tensor.data = as_f16(0.375);
    let model = open(&gguf);
    assert!(codes(&model, Linear::K) == weights(KV, HIDDEN));
    assert_eq!(scale(&model, Linear::K), LinearScale::Multiply(0.375));
    // One weight that does not fit makes it a master matrix.
    let masters: Vec<f32> = (0..KV * HIDDEN)
        .map(|i| ((i * 7919) % 2001) as f32 / 1e5 - 0.01)
        .collect();
    let want = trit_kernel::absmean_codes(&masters);
    let tensor = gguf.tensor("attn_k");
    tensor.type_id = F32;
    tensor.data = masters.iter().flat_map(|w| w.to_le_bytes()).collect();
    let model = open(&gguf);
    assert!(codes(&model, Linear::K) == want.codes);
    assert_eq!(scale(&model, Linear::K), LinearScale::Multiply(want.scale));
    // Master weights of safetensors always go through absmean, as transformers does.
    let mut hf = Hf::tiny();
    hf.remove("model.layers.0.self_attn.k_proj.weight_scale");
    let tensor = hf.tensor("model.layers.0.self_attn.k_proj.weight");
    (tensor.1, tensor.2, tensor.3) = ("F16", vec![KV, HIDDEN], as_f16(0.375));
    let model = open_hf(&hf);
    assert!(codes(&model, Linear::K) == weights(KV, HIDDEN));
    let LinearScale::Multiply(got) = scale(&model, Linear::K) else {
        panic!("absmean multiplies")
    };
    assert!(got > 0.2 && got < 0.3, "two thirds of 0.375, not {got}");
}

#[test]
fn rows_of_the_llama_architecture_come_in_half_rotation_order() {
    let mut gguf = Gguf::tiny().rename("llama");
    gguf.remove("sub_norm");
    let config = open(&gguf);
    let config = config.config();
    assert_eq!(
        (config.activation, config.sub_norms, config.head_dim),
        (Activation::Silu, false, 64)
    );
    // Permute as llama.cpp's converter does: of each head (2, 32) rows become (32, 2).
    let permute = |rows: usize, k: usize| -> Vec<i8> {
        let mut out = vec![0; rows * k];
        for head in 0..rows / 64 {
            for s in 0..2 {
                for j in 0..32 {
                    for c in 0..k {
                        out[(head * 64 + 2 * j + s) * k + c] = weight(head * 64 + s * 32 + j, c);
                    }
                }
            }
        }
        out
    };
    for (stem, rows) in [("attn_q", HIDDEN), ("attn_k", KV)] {
        let tensor = gguf.tensor(stem);
        tensor.type_id = F32;
        tensor.data = permute(rows, HIDDEN)
            .iter()
            .flat_map(|w| f32::from(*w).to_le_bytes())
            .collect();
    }
    let model = open(&gguf);
    assert!(model.config().rope_interleaved);
    for (linear, rows) in [(Linear::Q, HIDDEN), (Linear::K, KV), (Linear::V, KV)] {
        assert!(codes(&model, linear) == weights(rows, HIDDEN), "{linear:?}");
    }
    // What is stored in another order cannot be lent as it is; what is not permuted can.
    let packed = open(&Gguf::tiny().rename("bitnet"));
    assert!(packed.linear(0, Linear::Q).unwrap().packed_i2s().is_some());
    let mut llama = Gguf::tiny().rename("llama");
    llama.remove("sub_norm");
    let llama = open(&llama);
    assert!(llama.linear(0, Linear::Q).unwrap().packed_i2s().is_none());
    assert!(llama.linear(0, Linear::V).unwrap().packed_i2s().is_some());
}

#[test]
fn architectures_choose_the_activation_unless_a_key_does() {
    for (name, want) in [
        ("bitnet-b1.58", Activation::Relu2),
        ("bitnet-25", Activation::Relu2),
        ("bitnet", Activation::Silu),
    ] {
        assert_eq!(
            open(&Gguf::tiny().rename(name)).config().activation,
            want,
            "{name}"
        );
    }
    let mut gguf = Gguf::tiny().rename("bitnet");
    gguf.keys
        .push(("bitnet.hidden_activation".to_owned(), Value::text("relu2")));
    assert_eq!(open(&gguf).config().activation, Activation::Relu2);
}

#[test]
fn embeddings_of_every_type_are_read() {
    for (type_id, dtype, block, bytes) in [
        (F32, FloatType::F32, 1, 4),
        (F16, FloatType::F16, 1, 2),
        (30, FloatType::Bf16, 1, 2),
        (8, FloatType::Q8_0, 32, 34),
        (2, FloatType::Q4_0, 32, 18),
    ] {
        let mut gguf = Gguf::tiny();
        let tensor = gguf.tensor("token_embd");
        tensor.type_id = type_id;
        tensor.data = vec![0; VOCAB * HIDDEN / block * bytes];
        let model = open(&gguf);
        let matrix = model.embedding().unwrap();
        assert_eq!(
            (matrix.dtype(), matrix.rows(), matrix.cols()),
            (dtype, VOCAB, HIDDEN)
        );
        let mut row = vec![9.0; HIDDEN];
        matrix.row(VOCAB - 1, &mut row);
        assert!(row.iter().all(|v| v.abs().to_bits() == 0));
    }
}

#[test]
fn an_untied_head_and_the_end_of_a_turn_are_found() {
    let mut gguf = Gguf::tiny();
    gguf.push(
        "output.weight",
        &[HIDDEN, VOCAB],
        F32,
        f32s(HIDDEN * VOCAB, 0.5),
    );
    let tokens = ["a", "b", "<|eot_id|>", "<s>", "</s>"]
        .map(str::to_owned)
        .to_vec();
    gguf.set("tokenizer.ggml.tokens", Value::Texts(tokens));
    let model = open(&gguf);
    assert!(!model.config().tied_head);
    assert_eq!(
        model.head().unwrap().unwrap().f32().unwrap().len(),
        HIDDEN * VOCAB
    );
    assert_eq!(model.config().stop, [2, 4]);
    let TokenizerSource::GgufBpe {
        tokens,
        merges,
        token_types,
        pre,
    } = model.tokenizer().unwrap()
    else {
        panic!("the file says `gpt2`");
    };
    assert_eq!(
        (tokens.len(), merges.as_slice(), pre),
        (5, &["a b".to_owned()][..], None)
    );
    assert_eq!(token_types, [1, 1, 1, 3, 3]);
}

#[test]
fn the_first_bitnet_models_have_other_names_for_sub_norms() {
    let mut hf = Hf::tiny();
    for (old, new) in [
        ("self_attn.attn_sub_norm", "self_attn.inner_attn_ln"),
        ("mlp.ffn_sub_norm", "mlp.ffn_layernorm"),
    ] {
        hf.tensor(&format!("model.layers.0.{old}.weight")).0 =
            format!("model.layers.0.{new}.weight");
    }
    hf.set("hidden_act", json!("silu"));
    let model = open_hf(&hf);
    read_all(&model, None).unwrap();
    assert!(
        model
            .tensors()
            .iter()
            .all(|tensor| tensor.role != trit_engine::file::Role::Unused)
    );
}

#[test]
fn the_linear_class_decides_which_way_a_scale_goes() {
    let mut hf = Hf::tiny();
    for (class, want) in [
        (json!("autobitlinear"), LinearScale::Multiply(0.5)),
        (json!("bitlinear"), LinearScale::Divide(0.5)),
        (json!(null), LinearScale::Divide(0.5)),
    ] {
        hf.set(
            "quantization_config",
            json!({"quant_method": "bitnet", "linear_class": class}),
        );
        assert_eq!(scale(&open_hf(&hf), Linear::Q), want, "{class}");
    }
    hf.unset("quantization_config");
    let options = FileOptions {
        scale_rule: Some(ScaleRule::Multiply),
        ..FileOptions::default()
    };
    let model = Checkpoint::from_hf_bytes("m", &hf.config_text(), hf.bytes(), &options).unwrap();
    assert_eq!(scale(&model, Linear::Q), LinearScale::Multiply(0.5));
}

#[test]
fn a_folder_in_shards_is_one_model() {
    let dir = tempfile::tempdir().unwrap();
    let whole = Hf::tiny();
    let (mut one, mut two) = (whole.clone(), whole.clone());
    one.tensors.truncate(7);
    two.tensors.drain(..7);
    let map: serde_json::Map<String, serde_json::Value> = whole
        .tensors
        .iter()
        .enumerate()
        .map(|(i, tensor)| {
            let file = if i < 7 {
                "model-00001-of-00002.safetensors"
            } else {
                "model-00002-of-00002.safetensors"
            };
            (tensor.0.clone(), json!(file))
        })
        .collect();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("config.json", &whole.config_text());
    write("model-00001-of-00002.safetensors", &one.bytes());
    write("model-00002-of-00002.safetensors", &two.bytes());
    write(
        "model.safetensors.index.json",
        json!({"weight_map": map}).to_string().as_bytes(),
    );
    write("generation_config.json", br#"{"eos_token_id": [1, 4]}"#);
    write(
        "tokenizer_config.json",
        br#"{"add_bos_token": false, "bos_token": {"content": "<s>"}}"#,
    );
    write("tokenizer.json", b"{}");
    let model = Checkpoint::open(dir.path(), &FileOptions::default()).unwrap();
    assert!(read_all(&model, None).unwrap() == read_all(&open_hf(&whole), None).unwrap());
    assert_eq!(
        (model.config().stop.as_slice(), model.config().add_bos),
        (&[1, 2, 4][..], false)
    );
    assert_eq!(
        model.tokenizer().unwrap(),
        TokenizerSource::Json(dir.path().join("tokenizer.json"))
    );
    let seen = trit_engine::inspect::inspect(dir.path(), &FileOptions::default()).unwrap();
    assert_eq!(
        seen.file_bytes,
        Some((one.bytes().len() + two.bytes().len()) as u64)
    );
    assert_eq!(seen.sha256.unwrap().len(), 64);
}
