//! `tritbench model`: look into model files, and make some.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;
use trit_engine::ModelName;
use trit_engine::convert::{self, ConvertError, LinearType, Program};
use trit_engine::file::{Activation, FileError};
use trit_engine::inspect::Inspection;
use trit_engine::synth::{self, Shape};

use crate::args::{ExpectArg, FileArgs, Format, FormatArg, SeedArg};
use crate::engine;
use crate::exit::{Exit, Failure, Outcome};
use crate::out::{Out, Table, human_bytes, say};

/// Looks into model files, converts them, and makes some with random weights
#[derive(Args, Debug)]
pub(crate) struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Subcommand, Debug)]
enum ModelCommand {
    Inspect(Box<InspectArgs>),
    Synth(SynthArgs),
    Convert(Box<ConvertArgs>),
}

/// Prints architecture, shapes, types, bytes by role, bits a weight and SHA-256 of a model
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tritbench model inspect model.gguf
  tritbench model inspect folder-with-safetensors --format json
  tritbench model inspect model.gguf --tensors
  tritbench model inspect synth:7b")]
struct InspectArgs {
    /// A GGUF file, a folder with safetensors, synth:SHAPE, or builtin:shakespeare
    #[arg(value_name = "PATH")]
    path: PathBuf,

    #[command(flatten)]
    expect: ExpectArg,

    /// List every tensor instead
    #[arg(long)]
    tensors: bool,

    #[command(flatten)]
    file: FileArgs,

    #[command(flatten)]
    format: FormatArg,
}

/// Writes a GGUF file with seeded random ternary weights in the shape of a published model
#[derive(Args, Debug)]
#[command(
    long_about = "Writes a GGUF file with seeded random ternary weights in the shape of a published model: I2_S linears, an f16 \
                  embedding and a vocabulary that can spell any text. Speed and memory do not depend on what the weights are. The \
                  same shape and seed always give the same file.\n\nShapes: 125m 350m 700m 1b 1.5b 2.5b 3.8b 7b 13b 30b 70b 100b 2b4t, and \
                  tiny for tests; SHAPE:layers=N has only N layers.",
    after_help = "Examples:
  tritbench model synth --shape 125m --out 125m.gguf
  tritbench model synth --shape 2b4t --out 2b4t.gguf --seed 7"
)]
struct SynthArgs {
    /// Name of the shape
    #[arg(long, value_name = "NAME")]
    shape: String,

    /// The file to write; it is replaced when it exists
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    #[command(flatten)]
    seed: SeedArg,
}

/// What linears become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ToArg {
    /// GGUF with halves
    F16,
    /// GGUF with bitnet.cpp's four codes a byte
    #[value(name = "i2_s")]
    I2s,
    /// GGUF with llama.cpp's five codes a byte
    #[value(name = "tq1_0")]
    Tq1,
    /// GGUF with llama.cpp's four codes a byte
    #[value(name = "tq2_0")]
    Tq2,
    /// A folder with packed safetensors, for transformers
    Packed,
}

/// Who reads a GGUF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ProgramArg {
    #[value(name = "llama.cpp")]
    Llama,
    #[value(name = "ik_llama.cpp")]
    IkLlama,
    #[value(name = "bitnet.cpp")]
    Bitnet,
}

/// Writes a model in another container or type, under the names that another program knows
#[derive(Args, Debug)]
#[command(
    long_about = "Writes a model in another container or type, under the names that another program knows: GGUF for llama.cpp, \
                  ik_llama.cpp and bitnet.cpp, packed safetensors for transformers. Codes are never changed. Where a type holds its \
                  scale as an f16, a scale that is none is rounded, and that is said. What is written appears under its name when \
                  it is complete.",
    after_help = "Examples:
  tritbench model convert folder-with-safetensors --to i2_s --out model-i2_s.gguf
  tritbench model convert model-i2_s.gguf --to tq2_0 --for llama.cpp --out model-tq2_0.gguf
  tritbench model convert synth:700m --to packed --out folder"
)]
struct ConvertArgs {
    /// A GGUF file, a folder with safetensors, synth:SHAPE, or builtin:shakespeare
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// What to write
    #[arg(long, value_enum, value_name = "TYPE")]
    to: ToArg,

    /// The program that is to read a GGUF file [default: bitnet.cpp for `i2_s`, llama.cpp for the others]
    #[arg(long = "for", value_enum, value_name = "PROGRAM")]
    program: Option<ProgramArg>,

    /// The file to write, which is replaced when it exists; for packed a new or empty folder
    #[arg(long, value_name = "PATH")]
    out: PathBuf,

    /// Leave the vocabulary out
    #[arg(long)]
    no_vocabulary: bool,

    #[command(flatten)]
    seed: SeedArg,

    #[command(flatten)]
    file: FileArgs,
}

pub(crate) fn run(args: &ModelArgs) -> Outcome {
    match &args.command {
        ModelCommand::Inspect(args) => inspect(args),
        ModelCommand::Synth(args) => synth(args),
        ModelCommand::Convert(args) => convert(args),
    }
}

/// Errors of files: what the system refused is code 1, what the file holds is code 5.
pub(crate) fn file_failure(error: FileError) -> Failure {
    if error.is_io() {
        Failure::failed(error)
    } else {
        Failure::unusable(error)
    }
}

fn inspect(args: &InspectArgs) -> Outcome {
    engine::expect(&args.path, &args.expect)?;
    let found = ModelName::parse(&args.path)
        .map_err(Failure::usage)?
        .inspect(&args.file.options())
        .map_err(file_failure)?;
    let format = args.format.format;
    let text = if args.tensors {
        tensors(&found).render(format)
    } else if format == Format::Json {
        let mut text = serde_json::to_string_pretty(&found).map_err(Failure::failed)?;
        text.push('\n');
        text
    } else {
        summary(&found).render(format)
    };
    Out::new().text(&text)?;
    Ok(Exit::Done)
}

fn tensors(found: &Inspection) -> Table {
    let mut table = Table::new(&["name", "dtype", "shape", "bytes", "role"]);
    for tensor in &found.tensors {
        let shape: Vec<String> = tensor.shape.iter().map(ToString::to_string).collect();
        table.row([
            tensor.name.as_str().into(),
            tensor.dtype.as_str().into(),
            shape.join("x").into(),
            tensor.bytes.into(),
            serde_json::to_value(tensor.role).unwrap_or(Value::Null),
        ]);
    }
    table
}

/// One fact a row.
fn summary(found: &Inspection) -> Table {
    let mut table = Table::new(&["field", "value"]);
    let mut fact = |name: &str, value: Value| {
        // Text, so that all facts stand in one column at the left.
        let value = match value {
            Value::Number(number) => Value::String(number.to_string()),
            other => other,
        };
        table.row([name.into(), value]);
    };
    fact("container", found.container.into());
    if let Ok(Value::Object(config)) = serde_json::to_value(&found.config) {
        for (name, value) in config {
            // As written in the file: a detour over f64 would add digits.
            let value = match name.as_str() {
                "rms_eps" => found.config.rms_eps.to_string().into(),
                "rope_base" => found.config.rope_base.to_string().into(),
                _ => value,
            };
            fact(&name, value);
        }
    }
    for linear in &found.linears {
        let name = serde_json::to_value(linear.linear)
            .ok()
            .and_then(|name| name.as_str().map(ToOwned::to_owned))
            .unwrap_or_default();
        fact(
            &format!("linear {name}"),
            format!("{} x {}", linear.rows, linear.k).into(),
        );
    }
    for (name, count) in &found.types {
        fact(
            &format!("type {name}"),
            format!("{} tensors, {}", count.tensors, human_bytes(count.bytes)).into(),
        );
    }
    let bytes = &found.bytes;
    for (name, bytes) in [
        ("linears", bytes.linears),
        ("embedding", bytes.embedding),
        ("head", bytes.head),
        ("norms", bytes.norms),
        ("unused", bytes.unused),
    ] {
        fact(&format!("bytes {name}"), bytes.into());
    }
    fact("linear weights", found.linear_weights.into());
    fact(
        "bits a weight",
        format!("{:.4}", found.bits_per_weight).into(),
    );
    fact("tokenizer", found.tokenizer.into());
    fact("file bytes", found.file_bytes.into());
    fact("sha256", found.sha256.as_deref().into());
    table
}

fn synth(args: &SynthArgs) -> Outcome {
    let shape = Shape::named(&args.shape).map_err(Failure::usage)?;
    let bytes = synth::file_bytes(&shape).map_err(file_failure)?;
    let path = args.out.display();
    say(&format!("writing {} to `{path}`", human_bytes(bytes)));
    synth::write_gguf(&shape, args.seed.seed, &args.out).map_err(file_failure)?;
    say(&format!(
        "done; look into it with: tritbench model inspect {path}"
    ));
    Ok(Exit::Done)
}

fn convert(args: &ConvertArgs) -> Outcome {
    let dtype = match args.to {
        ToArg::F16 => Some(LinearType::F16),
        ToArg::I2s => Some(LinearType::I2s),
        ToArg::Tq1 => Some(LinearType::Tq1),
        ToArg::Tq2 => Some(LinearType::Tq2),
        ToArg::Packed => None,
    };
    let program = match (args.program, args.to) {
        (Some(_), ToArg::Packed) => {
            return Err(Failure::usage(anyhow::anyhow!(
                "--for is of GGUF files; hint: packed safetensors are for transformers, leave it out"
            )));
        }
        (Some(ProgramArg::IkLlama), _) => Program::IkLlamaCpp,
        (Some(ProgramArg::Bitnet), _) | (None, ToArg::I2s) => Program::BitnetCpp,
        (Some(ProgramArg::Llama) | None, _) => Program::LlamaCpp,
    };
    let checkpoint = ModelName::parse(&args.path)
        .map_err(Failure::usage)?
        .checkpoint(args.seed.seed, &args.file.options())
        .map_err(file_failure)?;
    let (path, vocabulary) = (args.out.display(), !args.no_vocabulary);
    say(&format!("writing `{path}`"));
    let done = match dtype {
        Some(dtype) => convert::to_gguf(&checkpoint, dtype, program, vocabulary, &args.out),
        None => convert::to_folder(&checkpoint, vocabulary, &args.out),
    }
    .map_err(|error| match error {
        ConvertError::File(error) => file_failure(error),
        ConvertError::NoI2s => Failure::usage(error),
        other => Failure::unusable(other),
    })?;
    if done.rounded_scales > 0 {
        say(&format!(
            "note: {} scales are no f16 and were rounded, by at most {:.2e} of their value",
            done.rounded_scales, done.worst_rounding
        ));
    }
    if done.architecture == "bitnet" && checkpoint.config().activation == Activation::Relu2 {
        say(
            "note: this model has squared ReLU, and versions of llama.cpp that do not read `bitnet.hidden_activation` compute SiLU: \
             they load the file and give other answers; hint: compare an answer before you compare times",
        );
    }
    if !done.vocabulary && vocabulary {
        say("note: the model has no vocabulary; other programs may refuse the file");
    }
    say(&format!(
        "done: {} of weights, architecture {}; look into it with: tritbench model inspect {path}",
        human_bytes(done.bytes),
        done.architecture
    ));
    Ok(Exit::Done)
}
