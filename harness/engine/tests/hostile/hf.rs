//! Folders of safetensors that must be refused.

use serde_json::json;

use super::common::{FFN, HIDDEN, Hf, VOCAB, join};
use super::{Case, Cases};

pub(crate) fn weights(cases: &mut Cases) {
    let good = Hf::tiny();
    let raw = |cases: &mut Cases, what, bytes: Vec<u8>, names: &[&'static str]| {
        let names = [&["model.safetensors"], names].concat();
        cases.raw_hf(what, good.config_text(), bytes, &names);
    };
    raw(
        cases,
        "no header length",
        vec![1, 2, 3],
        &["header length", "missing"],
    );
    raw(
        cases,
        "a header longer than the file",
        [&1000u64.to_le_bytes()[..], b"{}"].concat(),
        &["header length", "is 1000"],
    );
    raw(
        cases,
        "a header of all bytes there are",
        vec![0xff; 64],
        &["header length"],
    );
    raw(
        cases,
        "a header that is no JSON",
        join(b"{\"a\": [1, }", &[]),
        &["header"],
    );
    raw(
        cases,
        "a header that is a list",
        join(b"[]", &[]),
        &["header", "object"],
    );
    raw(
        cases,
        "a header nested beyond reason",
        join("[".repeat(100_000).as_bytes(), &[]),
        &["header"],
    );
    raw(
        cases,
        "no tensors",
        join(b"{}", &[]),
        &["model.embed_tokens.weight", "missing"],
    );
    let bytes = good.bytes();
    raw(
        cases,
        "cut in the data",
        bytes[..bytes.len() - 1].to_vec(),
        &["data_offsets"],
    );
    raw(
        cases,
        "cut in the header",
        bytes[..100].to_vec(),
        &["header length"],
    );
    raw(
        cases,
        "bytes behind the data",
        [&bytes[..], &[0]].concat(),
        &["data_offsets", "cover"],
    );
    cases.hf_header("a name twice", &["model.norm.weight", "twice"], |text| {
        let entry = "\"model.norm.weight\":{\"dtype\":\"BF16\",\"shape\":[128],\"data_offsets\":[1280,1536]},";
        text.replacen('{', &format!("{{{entry}"), 1)
    });
    cases.hf_header("metadata twice", &["__metadata__", "twice"], |text| {
        text.replacen('{', "{\"__metadata__\":{},\"__metadata__\":{},", 1)
    });
    cases.hf_header(
        "an unknown field",
        &["header", "model.norm.weight"],
        |text| text.replace("[1280,1536]", "[1280,1536],\"stride\":[1]"),
    );
    cases.hf_header(
        "a negative offset",
        &["header", "model.norm.weight"],
        |text| text.replace("[1280,1536]", "[-1280,1536]"),
    );
    cases.hf_header("offsets that overlap", &["overlaps"], |text| {
        text.replace("[1280,1536]", "[1278,1534]")
    });
    cases.hf_header(
        "offsets in the wrong order",
        &["model.norm.weight", "data_offsets"],
        |text| text.replace("[1280,1536]", "[1536,1280]"),
    );
    cases.hf_header(
        "offsets out of the file",
        &["model.norm.weight", "data_offsets"],
        |text| text.replace("[1280,1536]", "[18446744073709551359,18446744073709551615]"),
    );
    cases.hf_header("three offsets", &["header", "model.norm.weight"], |text| {
        text.replace("[1280,1536]", "[1280,1400,1536]")
    });
    cases.hf_header(
        "a shape of too many dimensions",
        &["header", "input_layernorm", "dimensions"],
        |text| text.replace("\"shape\":[128]", "\"shape\":[128,1,1,1,1,1,1,1,1]"),
    );
    cases.hf_header("a shape that overflows", &["no U8 of the shape"], |text| {
        text.replace("[32,256]", "[4294967296,4294967296]")
    });
    cases.hf_header("an unknown dtype", &["model.norm.weight", "Q5"], |text| {
        let at = text.find("model.norm.weight").expect("it is there");
        let (head, tail) = text.split_at(at);
        format!("{head}{}", tail.replacen("BF16", "Q5", 1))
    });
    cases.hf(
        "a linear in another dtype",
        &["q_proj.weight", "I8"],
        |hf| {
            hf.tensor("model.layers.0.self_attn.q_proj.weight").1 = "I8";
            hf.remove("model.layers.0.self_attn.q_proj.weight_scale");
        },
    );
    cases.hf(
        "a linear in another shape",
        &["q_proj.weight", "shape [128, 32]"],
        |hf| {
            hf.tensor("model.layers.0.self_attn.q_proj.weight").2 = vec![HIDDEN, HIDDEN / 4];
        },
    );
    cases.hf("no scale", &["q_proj.weight_scale", "missing"], |hf| {
        hf.remove("model.layers.0.self_attn.q_proj.weight_scale");
    });
    cases.hf("two scales", &["q_proj.weight_scale", "shape [2]"], |hf| {
        let scale = hf.tensor("model.layers.0.self_attn.q_proj.weight_scale");
        scale.2 = vec![2];
        scale.3.extend([0x80, 0x3f]);
    });
    for (what, bytes) in [
        ("a packed scale that is no number", [0xc0, 0x7f]),
        ("a packed scale without end", [0x80, 0x7f]),
        ("a packed scale of 0", [0, 0]),
    ] {
        cases.hf(what, &["q_proj.weight_scale", "scale"], |hf| {
            hf.tensor("model.layers.0.self_attn.q_proj.weight_scale").3 = bytes.to_vec();
        });
    }
    cases.hf(
        "code 3 in a packed byte",
        &["down_proj.weight", "row 32, column 5"],
        |hf| {
            hf.tensor("model.layers.0.mlp.down_proj.weight").3[5] |= 0b1100;
        },
    );
    cases.hf(
        "a master weight without end",
        &["up_proj.weight", "finite"],
        |hf| {
            hf.remove("model.layers.0.mlp.up_proj.weight_scale");
            let tensor = hf.tensor("model.layers.0.mlp.up_proj.weight");
            (tensor.1, tensor.2, tensor.3) =
                ("BF16", vec![FFN, HIDDEN], vec![0x7f; 2 * FFN * HIDDEN]);
            tensor.3[0..2].copy_from_slice(&[0x80, 0x7f]);
        },
    );
    cases.hf(
        "as many tensors as are read",
        &["layers.0.no_such.bias"],
        |hf| {
            for i in 0..32_700 {
                let name = format!("{}{i:05}", "x".repeat(180));
                hf.tensors.push((name, "U8", vec![1], vec![0]));
            }
            let name = "model.layers.0.no_such.bias".to_owned();
            hf.tensors.push((name, "U8", vec![1], vec![0]));
        },
    );
    cases.hf("more tensors than are read", &["32768 entries"], |hf| {
        for i in 0..33_000 {
            hf.tensors.push((i.to_string(), "U8", vec![0], Vec::new()));
        }
    });
    cases.hf(
        "a norm that is missing",
        &["post_attention_layernorm", "missing"],
        |hf| {
            hf.remove("model.layers.0.post_attention_layernorm.weight");
        },
    );
    cases.hf("a bias beside a linear", &["q_proj.bias"], |hf| {
        hf.tensors.push((
            "model.layers.0.self_attn.q_proj.bias".to_owned(),
            "BF16",
            vec![1],
            vec![0, 0],
        ));
    });
    cases.hf(
        "a head that is missing",
        &["lm_head.weight", "missing"],
        |hf| hf.set("tie_word_embeddings", json!(false)),
    );
}

pub(crate) fn configuration(cases: &mut Cases) {
    let good = Hf::tiny();
    for (what, text) in [
        ("an empty configuration", ""),
        ("a configuration that is a list", "[1, 2]"),
        ("a configuration cut short", "{\"model_type\": \"bitnet\", "),
        ("a configuration with NaN", "{\"rms_norm_eps\": NaN}"),
        (
            "a configuration with a number beyond floats",
            "{\"rms_norm_eps\": 1e999}",
        ),
        (
            "a key of the configuration twice",
            "{\"hidden_size\": 1, \"hidden_size\": 2}",
        ),
    ] {
        cases.raw_hf(what, text.into(), good.bytes(), &["config.json", "object"]);
    }
    cases.raw_hf(
        "a configuration beyond reason",
        vec![b' '; 1 << 20],
        good.bytes(),
        &["config.json", "size"],
    );
    cases.raw_hf(
        "a nested configuration",
        "[".repeat(200_000).into_bytes(),
        good.bytes(),
        &["config.json"],
    );
    for key in [
        "model_type",
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "hidden_act",
        "max_position_embeddings",
        "rms_norm_eps",
    ] {
        let mut hf = Hf::tiny();
        hf.unset(key);
        cases.raw_hf(
            "a key that is missing",
            hf.config_text(),
            hf.bytes(),
            &["config.json", key, "missing"],
        );
    }
    cases.config("a negative size", "hidden_size", json!(-128));
    cases.config("a size in floats", "hidden_size", json!(128.5));
    cases.config("a size in text", "intermediate_size", json!("256"));
    cases.config("a huge size", "intermediate_size", json!(u64::MAX));
    cases.config("a size of 0", "num_hidden_layers", json!(0));
    cases.config("a huge vocabulary", "vocab_size", json!(1u64 << 40));
    cases.config(
        "heads that do not divide the hidden size",
        "num_attention_heads",
        json!(5),
    );
    cases.config("an odd head", "head_dim", json!(63));
    cases.config("an unknown model", "model_type", json!("gemma"));
    cases.config("an unknown activation", "hidden_act", json!("gelu"));
    cases.config("an epsilon of zero", "rms_norm_eps", json!(0));
    cases.config("an epsilon below zero", "rms_norm_eps", json!(-1e-5));
    cases.config("an epsilon in text", "rms_norm_eps", json!("small"));
    cases.config("a base of zero", "rope_theta", json!(0.0));
    cases.config("a base below zero", "rope_theta", json!(-10000.0));
    cases.config("a base beyond f32", "rope_theta", json!(1e300));
    cases.config(
        "scaled rotation in a folder",
        "rope_scaling",
        json!({"type": "linear"}),
    );
    cases.config("biases", "attention_bias", json!(true));
    cases.config("a head tied to text", "tie_word_embeddings", json!("yes"));
    cases.config(
        "a first token outside of the vocabulary",
        "bos_token_id",
        json!(VOCAB),
    );
    cases.config(
        "an end outside of the vocabulary",
        "eos_token_id",
        json!([4, 99]),
    );
    cases.config("an end that is text", "eos_token_id", json!("</s>"));
    cases.config(
        "another quantization",
        "quantization_config",
        json!({"quant_method": "gptq"}),
    );
    cases.config(
        "an unknown linear class",
        "quantization_config",
        json!({"quant_method": "bitnet", "linear_class": "linear"}),
    );
    cases.config(
        "a quantization that is text",
        "quantization_config",
        json!("bitnet"),
    );
    let mut hf = Hf::tiny();
    hf.unset("quantization_config");
    cases.raw_hf(
        "packed weights without a scale rule",
        hf.config_text(),
        hf.bytes(),
        &["config.json", "quantization_config", "missing"],
    );
    // Folders in shards.
    let shards = |cases: &mut Cases, what, index: serde_json::Value, names: &[&'static str]| {
        let hf = Hf::tiny();
        cases.0.push(Case {
            what,
            files: vec![
                ("config.json", hf.config_text()),
                (
                    "model.safetensors.index.json",
                    index.to_string().into_bytes(),
                ),
                ("a.safetensors", hf.bytes()),
                ("b.safetensors", hf.bytes()),
            ],
            open: "",
            names: names.to_vec(),
        });
    };
    let index = "model.safetensors.index.json";
    shards(
        cases,
        "no map of weights",
        json!({}),
        &[index, "weight_map"],
    );
    shards(
        cases,
        "an empty map of weights",
        json!({"weight_map": {}}),
        &[index, "weight_map", "0 files"],
    );
    shards(
        cases,
        "a shard elsewhere",
        json!({"weight_map": {"x": "../a.safetensors"}}),
        &[index, "../a.safetensors"],
    );
    shards(
        cases,
        "a shard at an absolute path",
        json!({"weight_map": {"x": "/etc/passwd"}}),
        &[index, "/etc/passwd"],
    );
    shards(
        cases,
        "a shard that is missing",
        json!({"weight_map": {"x": "c.safetensors"}}),
        &["c.safetensors", "open"],
    );
    shards(
        cases,
        "a tensor in two shards",
        json!({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}),
        &["b.safetensors", "as well"],
    );
    shards(
        cases,
        "a tensor in no shard",
        json!({"weight_map": {"x": "a.safetensors"}}),
        &["`x`", "a.safetensors"],
    );
    cases.0.push(Case {
        what: "a folder without weights",
        files: vec![("config.json", good.config_text())],
        open: "",
        names: vec!["model.safetensors", "missing"],
    });
    cases.0.push(Case {
        what: "a folder without configuration",
        files: vec![("model.safetensors", good.bytes())],
        open: "",
        names: vec!["config.json", "open"],
    });
    // Nor is a pipe, a socket or a device waited for.
    cases.0.push(Case {
        what: "weights that are a folder",
        files: vec![
            ("config.json", good.config_text()),
            ("model.safetensors/inside", Vec::new()),
        ],
        open: "",
        names: vec!["model.safetensors", "regular file"],
    });
    cases.0.push(Case {
        what: "no file",
        files: Vec::new(),
        open: "nothing.gguf",
        names: vec!["nothing.gguf", "open"],
    });
}
