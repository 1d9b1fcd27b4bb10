//! `tritbench logits`: the numbers that all comparisons rest on.

use std::io::Write;

use clap::Args;

use crate::args::{ComputeArgs, FileArgs, ModelArg, PrecisionArgs, token};
use crate::engine::{self, engine_failure, open};
use crate::exit::{Exit, Outcome};
use crate::out::{Out, stdout_failure};

/// Prints the logits of a model for given tokens, exact to the last digit
#[derive(Args, Debug)]
#[command(
    long_about = "Prints the logits of a model for given tokens as CSV: position,token,logit.\n\n\
                  Numbers have the fewest digits that read back to the same f32. They are equal to the bit on every kernel, \
                  instruction set and thread count, so two outputs can be compared with cmp.",
    after_help = "Examples:
  tritbench logits --tokens 0,5,7
  tritbench logits --model model.gguf --tokens 0,5,7
  tritbench logits --model model.gguf --tokens 0,5,7 --all-positions > logits.csv
  tritbench logits --model model.gguf --tokens 0,5,7 --kernel w2a8-naive-scalar
  tritbench logits --model synth:tiny --tokens 1 --kv f32 --threads 1"
)]
pub(crate) struct LogitsArgs {
    #[command(flatten)]
    model: ModelArg,

    /// The tokens, with commas between them
    #[arg(long, value_name = "ID,...", value_delimiter = ',', required = true, value_parser = token)]
    tokens: Vec<u32>,

    /// Print the logits of every position and not only of the last
    #[arg(long)]
    all_positions: bool,

    #[command(flatten)]
    compute: ComputeArgs,

    #[command(flatten)]
    precision: PrecisionArgs,

    #[command(flatten)]
    file: FileArgs,
}

pub(crate) fn run(args: &LogitsArgs) -> Outcome {
    engine::expect(&args.model.model, &args.model.expect)?;
    let engine = open(
        &args.model.model,
        &args.compute,
        &args.precision,
        &args.file,
        0,
    )?;
    let mut session = engine.session(args.tokens.len()).map_err(engine_failure)?;
    let mut out = Out::new();
    let mut writer = out.writer();
    let last = args.tokens.len() - 1;
    let first = if args.all_positions { 0 } else { last };
    let mut written = Ok(());
    session
        .prefill_all(&args.tokens, |position, logits| {
            if written.is_ok() && position >= first {
                // Not before: when the tokens are refused there is no data.
                let header = if position == first {
                    writer.write_all(b"position,token,logit\n")
                } else {
                    Ok(())
                };
                written = header.and_then(|()| write_position(&mut writer, position, logits));
            }
        })
        .map_err(engine_failure)?;
    written
        .and_then(|()| writer.flush())
        .map_err(|error| stdout_failure(&error))?;
    Ok(Exit::Done)
}

fn write_position(out: &mut impl Write, position: usize, logits: &[f32]) -> std::io::Result<()> {
    logits
        .iter()
        .enumerate()
        // Display of f32 is the shortest text that reads back to the same value.
        .try_for_each(|(token, logit)| writeln!(out, "{position},{token},{logit}"))
}
