//! `config.json`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::file::json::{self, Strict};
use crate::file::{Activation, Field, FileError, FileName, FileOptions, RawConfig, ScaleRule};

/// A JSON object whose values are asked for by name.
pub(super) struct Object {
    file: FileName,
    prefix: String,
    entries: BTreeMap<String, Value>,
}

impl Object {
    pub(super) fn parse(file: FileName, text: &[u8]) -> Result<Self, FileError> {
        let Strict(entries) = json::parse(&file, "object", text)?;
        Ok(Self {
            file,
            prefix: String::new(),
            entries,
        })
    }

    /// The value, where it is there and not null.
    fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key).filter(|value| !value.is_null())
    }

    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn wrong(&self, key: &str, value: &Value, want: &str) -> FileError {
        self.file
            .invalid(self.name(key), format!("is {value}, want {want}"))
    }

    fn missing(&self, key: &str) -> FileError {
        self.file.invalid(self.name(key), "is missing")
    }

    fn unsigned(&self, key: &str) -> Result<Option<Field<u64>>, FileError> {
        self.get(key)
            .map(|value| {
                value
                    .as_u64()
                    .map(|number| Field::new(self.name(key), number))
                    .ok_or_else(|| self.wrong(key, value, "a whole number"))
            })
            .transpose()
    }

    fn required(&self, key: &str) -> Result<Field<u64>, FileError> {
        self.unsigned(key)?.ok_or_else(|| self.missing(key))
    }

    fn float(&self, key: &str) -> Result<Option<Field<f64>>, FileError> {
        self.get(key)
            .map(|value| {
                value
                    .as_f64()
                    .map(|number| Field::new(self.name(key), number))
                    .ok_or_else(|| self.wrong(key, value, "a number"))
            })
            .transpose()
    }

    fn bool(&self, key: &str) -> Result<Option<bool>, FileError> {
        self.get(key)
            .map(|value| {
                value
                    .as_bool()
                    .ok_or_else(|| self.wrong(key, value, "true or false"))
            })
            .transpose()
    }

    fn text(&self, key: &str) -> Result<Option<&str>, FileError> {
        self.get(key)
            .map(|value| {
                value
                    .as_str()
                    .ok_or_else(|| self.wrong(key, value, "a string"))
            })
            .transpose()
    }

    fn object(&self, key: &str) -> Result<Option<Self>, FileError> {
        self.get(key)
            .map(|value| match value {
                Value::Object(map) => Ok(Self {
                    file: self.file.clone(),
                    prefix: format!("{}{key}.", self.prefix),
                    entries: map.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
                }),
                other => Err(self.wrong(key, other, "an object")),
            })
            .transpose()
    }

    /// One id or a list of them.
    pub(super) fn ids(&self, key: &str) -> Result<Vec<Field<u64>>, FileError> {
        let one = |value: &Value| {
            value
                .as_u64()
                .map(|id| Field::new(self.name(key), id))
                .ok_or_else(|| self.wrong(key, value, "a token or a list of tokens"))
        };
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(one).collect(),
            Some(value) => Ok(vec![one(value)?]),
        }
    }
}

/// What a configuration says, before numbers are checked.
pub(super) struct ParsedConfig {
    pub(super) raw: RawConfig,
    /// The rule of the scales of packed linears.
    pub(super) rule: Option<ScaleRule>,
    /// Whether float linears are master weights of a ternary model.
    pub(super) masters: bool,
}

pub(super) fn parse_config(
    file: &FileName,
    text: &[u8],
    options: FileOptions,
) -> Result<ParsedConfig, FileError> {
    let object = Object::parse(file.clone(), text)?;
    let model_type = object
        .text("model_type")?
        .ok_or_else(|| object.missing("model_type"))?;
    let (sub_norms, default_activation) = match model_type {
        "bitnet" => (true, None),
        "llama" => (false, Some(Activation::Silu)),
        other => {
            return Err(file.unsupported(
                "model_type",
                format!("is `{other}`"),
                "this engine runs bitnet and llama",
            ));
        }
    };
    let activation = match object.text("hidden_act")? {
        Some("relu2") => Activation::Relu2,
        Some("silu" | "swish") => Activation::Silu,
        Some(other) => {
            return Err(file.unsupported(
                "hidden_act",
                format!("is `{other}`"),
                "this engine runs relu2 and silu",
            ));
        }
        None => default_activation.ok_or_else(|| object.missing("hidden_act"))?,
    };
    for key in ["attention_bias", "mlp_bias"] {
        if object.bool(key)? == Some(true) {
            return Err(file.unsupported(key, "is true", "only models without biases run"));
        }
    }
    if object.get("rope_scaling").is_some() {
        return Err(file.unsupported(
            "rope_scaling",
            "is set",
            "only models without rotary scaling run",
        ));
    }
    let mut rope_base = object.float("rope_theta")?;
    if let Some(rope) = object.object("rope_parameters")? {
        if let Some(kind) = rope.text("rope_type")?
            && kind != "default"
        {
            return Err(file.unsupported(
                rope.name("rope_type"),
                format!("is `{kind}`"),
                "only models without rotary scaling run",
            ));
        }
        rope_base = rope.float("rope_theta")?.or(rope_base);
    }
    let quantization = object.object("quantization_config")?;
    let mut rule = None;
    if let Some(quantization) = &quantization {
        match quantization.text("quant_method")? {
            Some("bitnet") => {}
            Some(other) => {
                return Err(file.unsupported(
                    quantization.name("quant_method"),
                    format!("is `{other}`"),
                    "only `bitnet` is ternary",
                ));
            }
            None => return Err(quantization.missing("quant_method")),
        }
        if quantization.bool("use_rms_norm")? == Some(true) {
            return Err(file.unsupported(
                quantization.name("use_rms_norm"),
                "is true",
                "only models without norms inside of their linears run",
            ));
        }
        // Where nothing is said, transformers takes `bitlinear`.
        rule = Some(match quantization.text("linear_class")? {
            Some("autobitlinear") => ScaleRule::Multiply,
            Some("bitlinear") | None => ScaleRule::Divide,
            Some(other) => {
                return Err(file.invalid(
                    quantization.name("linear_class"),
                    format!("is `{other}`, want `bitlinear` or `autobitlinear`"),
                ));
            }
        });
    }
    let heads = object.required("num_attention_heads")?;
    let kv_heads = object
        .unsigned("num_key_value_heads")?
        .unwrap_or_else(|| heads.clone());
    let eos = object.ids("eos_token_id")?;
    let raw = RawConfig {
        architecture: model_type.to_owned(),
        hidden: object.required("hidden_size")?,
        ffn: object.required("intermediate_size")?,
        layers: object.required("num_hidden_layers")?,
        heads,
        kv_heads,
        head_dim: object.unsigned("head_dim")?,
        vocab: object.required("vocab_size")?,
        context: object.required("max_position_embeddings")?,
        rms_eps: object
            .float("rms_norm_eps")?
            .ok_or_else(|| object.missing("rms_norm_eps"))?,
        // 10,000 where it is missing, as in transformers.
        rope_base: rope_base.unwrap_or_else(|| Field::new("rope_theta", 10_000.0)),
        activation,
        sub_norms,
        tied_head: object.bool("tie_word_embeddings")?.unwrap_or(false),
        bos: object.unsigned("bos_token_id")?,
        eos: eos.first().cloned(),
        stop: eos,
        add_bos: None,
        rope_interleaved: false,
    };
    Ok(ParsedConfig {
        raw,
        rule: options.scale_rule.or(rule),
        masters: sub_norms || quantization.is_some(),
    })
}
