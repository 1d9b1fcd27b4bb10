//! `tritbench compare`: any results side by side, by any key.

use std::path::{Path, PathBuf};

use clap::Args;
use trit_report::history::Store;
use trit_report::{Contrast, ContrastError, Filter, Question, Source, UnpairedError};

use crate::args::{Format, FormatArg};
use crate::cmd::history::{store_failure, store_path};
use crate::exit::{Exit, Failure, Outcome};
use crate::out::{Out, say};

/// Sets results side by side: runs, machines, kernels, thread counts, or any other key
#[derive(Args, Debug)]
#[command(
    long_about = "Sets results side by side: runs, machines, kernels, thread counts, or any other key.\n\n\
                  A source is a run directory, a file like summary.csv, or machine:FINGERPRINT for the latest results of a machine in the \
                  history. Rows are cells, or the values of --row; columns are the values of --col; every other key has to be equal, \
                  and a key that is averaged away is told. Ratios are against the first column. Sources were not measured in turns, \
                  so drift between them is part of every ratio: use `ab` to judge a change.\n\n\
                  Keys: run machine host kernel workload model rows k tokens threads cache head kv prompt prompt_tokens gen_tokens \
                  depth batch ubatch page_cache packed_cache layout weight_bits isa subject shape.",
    after_help = "Examples:
  tritbench compare before after
  tritbench compare before after --filter workload=decode --measure tokens_per_s
  tritbench compare results --col kernel --base f16-dense-avx2 --filter threads=2
  tritbench compare here there --row kernel --col machine --format md
  tritbench compare machine:0a1b2c3d4e5f results/summary.csv"
)]
pub(crate) struct CompareArgs {
    /// Run directories, CSV files like summary.csv, or machine:FINGERPRINT
    #[arg(value_name = "SOURCE", required = true)]
    sources: Vec<String>,

    /// A row for each value of this key instead of a row a cell; may be repeated
    #[arg(long, value_name = "KEY")]
    row: Vec<String>,

    /// A column for each value of this key
    #[arg(long, value_name = "KEY", default_value = "run")]
    col: String,

    /// The column that the others are compared with [default: the first]
    #[arg(long, value_name = "VALUE")]
    base: Option<String>,

    /// Only cells whose key has one of these values; may be repeated
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = filter)]
    filter: Vec<Filter>,

    /// The column of summary.csv that is compared
    #[arg(long, value_name = "COLUMN", default_value = "median_ns")]
    measure: String,

    /// The history that machine:FINGERPRINT is looked up in [default: this user's]
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,

    #[command(flatten)]
    format: FormatArg,
}

/// `key=value` or `key=value,value`.
fn filter(text: &str) -> Result<Filter, String> {
    let (key, values) = text
        .split_once('=')
        .filter(|(key, values)| !key.is_empty() && !values.is_empty())
        .ok_or("want KEY=VALUE, or KEY=VALUE,VALUE")?;
    Ok(Filter {
        key: key.trim().to_owned(),
        values: values
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect(),
    })
}

pub(crate) fn run(args: &CompareArgs) -> Outcome {
    let sources: Vec<Source> = args
        .sources
        .iter()
        .map(|name| source(name, args.store.as_deref()))
        .collect::<Result<_, _>>()?;
    let question = Question {
        rows: args.row.clone(),
        col: args.col.clone(),
        base: args.base.clone(),
        filters: args.filter.clone(),
        measure: args.measure.clone(),
    };
    let contrast = trit_report::contrast(&sources, &question).map_err(failure)?;
    show(&contrast, args.format.format)?;
    Ok(Exit::Done)
}

/// Prints a comparison; what belongs to it and has no place in rows is said on stderr.
pub(super) fn show(contrast: &Contrast, format: Format) -> Result<(), Failure> {
    if matches!(format, Format::Csv | Format::Json) {
        contrast.notes.iter().for_each(|note| say(note));
    }
    Out::new().text(&trit_report::contrast_text(contrast, format.into()))
}

/// What was asked for does not exist: the command line is wrong. The sources have nothing to compare: their content is.
pub(super) fn failure(error: ContrastError) -> Failure {
    match error {
        ContrastError::UnknownKey(_)
        | ContrastError::UnknownMeasure(_)
        | ContrastError::UnknownBase { .. }
        | ContrastError::OneColumn { .. } => Failure::usage(error),
        error => Failure::unusable(error),
    }
}

/// A run directory or a CSV file.
pub(super) fn read(path: &Path) -> Result<Source, Failure> {
    Source::read(path).map_err(read_failure)
}

/// What a file holds is code 5, what the system refused is code 1.
pub(super) fn read_failure(error: UnpairedError) -> Failure {
    if error.is_content() {
        Failure::unusable(error)
    } else {
        Failure::failed(error)
    }
}

/// A run directory, a CSV file, or the latest results of a machine.
pub(super) fn source(name: &str, store: Option<&Path>) -> Result<Source, Failure> {
    let Some(machine) = name.strip_prefix("machine:") else {
        return read(Path::new(name));
    };
    let store = Store::open(&store_path(store)?).map_err(|error| store_failure(&error))?;
    let sessions = store
        .sessions(Some(machine))
        .map_err(|error| store_failure(&error))?;
    let Some(last) = sessions.last() else {
        return Err(Failure::usage(anyhow::anyhow!(
            "the history has no machine `{machine}`; hint: see tritbench history list"
        )));
    };
    Ok(Source {
        name: name.to_owned(),
        machine: last.description.clone(),
        host: last.host.clone(),
        rows: store
            .latest(machine)
            .map_err(|error| store_failure(&error))?,
    })
}
