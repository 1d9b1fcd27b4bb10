//! `tritbench eval`: quality, measured with the care of speed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use trit_core::{
    Cell, EvalRow, Generate, RunDir, SESSION_FILE, Session, Task, embedded_task, task_names,
};
use trit_engine::{ActivationType, Engine, HeadType, KvType, ModelName};
use trit_measure::Machine;
use trit_run::eval::{self, EvalError, Facts, Question, Subject, TextPlan};

use crate::args::{ComputeArgs, FileArgs, FormatArg, ModelArg, PrecisionArgs, positive};
use crate::cmd::file_failure;
use crate::cmd::report::{record_failure, report_failure};
use crate::cmd::run::this_program;
use crate::engine::{engine_failure, open_as};
use crate::exit::{Exit, Failure, Outcome};
use crate::files;
use crate::out::{Out, Table, say, stderr_is_terminal};
use crate::probe::{self, Verdict};

/// Measures the quality of a model: likelihood of text, multiple-choice tasks, and what lossy options cost
#[derive(Args, Debug)]
#[command(
    long_about = "Measures the quality of a model: likelihood of text, multiple-choice tasks, and what lossy options cost.\n\n\
                  The flags name one configuration; --with adds others, which are compared with it token by token: Kullback-Leibler \
                  divergence, agreement of the most likely token, difference of the loss, and whether logits are equal to the bit. \
                  Kernels never change a bit; head, KV cache and activations do. All configurations are in memory at once.\n\n\
                  Rows with 95 % intervals go to eval.csv of a run directory, with a chart of quality against speed and bytes.",
    after_help = "Examples:
  tritbench eval --text held-out.txt
  tritbench eval --text held-out.txt --sweep --out results
  tritbench eval --text held-out.txt --with head=q4_0 --with head=i8,kv=i8 --with activations=f32
  tritbench eval --text held-out.txt --kernel w2a8-naive-scalar --with kernel=w2a8-mad-avx2
  tritbench eval --model 2b4t.gguf --task arc_easy=arc-easy-test.jsonl --limit 500

Tasks: arc_challenge arc_easy boolq commonsenseqa hellaswag mmlu openbookqa piqa truthfulqa_mc1 winogrande, `choices` for
records with context, choices and answer, or the path of a TOML file like those in suites/tasks."
)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    model: ModelArg,

    /// A UTF-8 text whose likelihood is measured; may be repeated
    #[arg(long, value_name = "FILE")]
    text: Vec<PathBuf>,

    /// A multiple-choice task and its questions, one JSON record a line; may be repeated
    #[arg(long, value_name = "TASK=FILE")]
    task: Vec<String>,

    /// Another configuration, by what differs: kernel, head, kv or activations, with commas between them; may be repeated
    #[arg(long, value_name = "KEY=VALUE,...")]
    with: Vec<String>,

    /// Compare with every kernel of this machine, every head, every KV cache, and with float activations
    #[arg(long)]
    sweep: bool,

    /// Tokens of a window of text, and the longest context of a question [default: the model's context, at most 2048]
    #[arg(long, value_name = "N", value_parser = positive)]
    window: Option<usize>,

    /// Tokens that a window advances: every prediction counts once, with at least window - N tokens before it [default: half of the window]
    #[arg(long, value_name = "N", value_parser = positive)]
    stride: Option<usize>,

    /// Only the first N tokens of a text, and questions of a task
    #[arg(long, value_name = "N", value_parser = positive)]
    limit: Option<usize>,

    /// Leave out how fast each configuration decodes
    #[arg(long)]
    no_speed: bool,

    /// The run directory: an empty or new one, or one of a run, which gets eval.csv [default: runs/UTC-HOST-eval]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// What inputs of the projections are rounded to: i8, or f32 for not at all, a slow reference
    #[arg(long, value_name = "TYPE", default_value = "i8", value_parser = ["i8", "f32"])]
    activations: String,

    #[command(flatten)]
    compute: ComputeArgs,

    #[command(flatten)]
    precision: PrecisionArgs,

    #[command(flatten)]
    file: FileArgs,

    #[command(flatten)]
    format: FormatArg,
}

/// What a configuration asks for.
#[derive(Clone, Debug)]
struct Asked {
    compute: ComputeArgs,
    precision: PrecisionArgs,
    activations: ActivationType,
}

/// A text or a task that is to be done.
enum Work {
    Text(TextPlan),
    Task {
        task: Box<Task>,
        sha256: String,
        questions: Vec<Question>,
    },
}

/// The longest window unless asked otherwise.
const WINDOW: usize = 2048;
/// The longest text or file of questions.
const MAX_BYTES: u64 = 1 << 30;

pub(crate) fn run(args: &EvalArgs) -> Outcome {
    if args.text.is_empty() && args.task.is_empty() {
        return Err(Failure::usage(anyhow::anyhow!(
            "nothing to evaluate; hint: give --text FILE or --task TASK=FILE"
        )));
    }
    let name = ModelName::parse(&args.model.model).map_err(Failure::usage)?;
    let engines = engines(args)?;
    let context = engines[0].config().context;
    let window = args.window.unwrap_or(context.min(WINDOW));
    if !(2..=context).contains(&window) {
        return Err(Failure::usage(anyhow::anyhow!(
            "--window: {window} is not 2 to the context of the model, {context}"
        )));
    }
    let work = work(args, &engines[0], window)?;
    let facts = Facts {
        model: args.model.model.display().to_string(),
        model_sha256: name.sha256().map_err(file_failure)?.unwrap_or_default(),
        window,
    };
    let subjects: Vec<Subject<'_>> = engines
        .iter()
        .map(|engine| Subject {
            label: Subject::label_of(engine),
            engine,
        })
        .collect();
    let dir = run_dir(args)?;
    let mut rows = Vec::new();
    for work in &work {
        rows.extend(evaluate(&subjects, &facts, work)?);
    }
    if !args.no_speed {
        rows.extend(eval::speed_rows(&subjects, &facts).map_err(eval_failure)?);
    }
    dir.append()
        .and_then(|mut file| file.rows(&rows))
        .map_err(|error| record_failure(&error))?;
    trit_report::write_quality(&dir).map_err(|error| report_failure(&error))?;
    say(&format!("wrote eval.csv in {}", dir.path().display()));
    Out::new().text(&table(&rows).render(args.format.format))?;
    // The project's promise, checked where it is used: a kernel that changes a bit is wrong.
    let broken = rows.iter().find(|row| {
        let first = &rows[0];
        row.metric == "identical_logits"
            && row.value != Some(1.0)
            && (&row.head, &row.kv, &row.activations)
                == (&first.head, &first.kv, &first.activations)
    });
    if let Some(row) = broken {
        say(&format!(
            "error: `{}` does not give the logits of `{}`; hint: this is a bug in a kernel, please report it",
            row.config, row.reference
        ));
        return Ok(Exit::Wrong);
    }
    Ok(Exit::Done)
}

fn evaluate(subjects: &[Subject<'_>], facts: &Facts, work: &Work) -> Result<Vec<EvalRow>, Failure> {
    let terminal = stderr_is_terminal();
    let mut shown = 0;
    let progress = |done: usize, of: usize| {
        let percent = 100 * done / of.max(1);
        if terminal && percent > shown {
            shown = percent;
            eprint_line(percent);
        }
    };
    match work {
        Work::Text(plan) => eval::text_rows(subjects, facts, plan, progress),
        Work::Task {
            task,
            sha256,
            questions,
        } => eval::choice_rows(subjects, facts, (task, sha256), questions, progress),
    }
    .map_err(eval_failure)
}

/// Redraws one line of progress.
fn eprint_line(percent: usize) {
    use std::io::Write as _;
    let end = if percent == 100 { "\r     \r" } else { "" };
    let _ = write!(std::io::stderr(), "\r{percent:>3} %{end}");
}

fn table(rows: &[EvalRow]) -> Table {
    let mut table = Table::new(&[
        "config", "task", "metric", "n", "value", "lo", "hi", "reported",
    ]);
    for row in rows {
        // Six digits: what an interval says is coarser.
        let number = |value: Option<f64>| {
            value.map_or(serde_json::Value::Null, |value| {
                let rounded: f64 = format!("{value:.5e}").parse().unwrap_or(value);
                rounded.into()
            })
        };
        table.row([
            row.config.as_str().into(),
            row.task.as_str().into(),
            row.metric.as_str().into(),
            row.n.into(),
            number(row.value),
            number(row.lo),
            number(row.hi),
            number(row.reported),
        ]);
    }
    table
}

fn eval_failure(error: EvalError) -> Failure {
    match error {
        EvalError::Engine(error) => engine_failure(error),
        EvalError::Stride { .. } => Failure::usage(error),
        other => Failure::unusable(other),
    }
}

/// The configurations, loaded, each once; the first is the reference.
fn engines(args: &EvalArgs) -> Result<Vec<Engine>, Failure> {
    let base = Asked {
        compute: args.compute.clone(),
        precision: args.precision.clone(),
        activations: args
            .activations
            .parse::<ActivationType>()
            .map_err(Failure::usage)?,
    };
    let mut asked = vec![base.clone()];
    for with in &args.with {
        asked.push(changed(&base, with)?);
    }
    if args.sweep {
        asked.extend(sweep(&base)?);
    }
    let mut seen = BTreeSet::new();
    let mut engines = Vec::new();
    for asked in &asked {
        let engine = open_as(
            &args.model.model,
            &asked.compute,
            &asked.precision,
            asked.activations,
            &args.file,
            0,
        )?;
        if seen.insert(Subject::label_of(&engine)) {
            engines.push(engine);
        }
    }
    Ok(engines)
}

/// `base` with some keys changed.
fn changed(base: &Asked, with: &str) -> Result<Asked, Failure> {
    let mut asked = base.clone();
    for pair in with.split(',') {
        let wrong = |message: String| Failure::usage(anyhow::anyhow!("--with: {message}"));
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            wrong(format!(
                "`{pair}` is not KEY=VALUE; hint: such as head=q4_0"
            ))
        })?;
        match key {
            "kernel" => {
                asked.compute.kernel = Some(value.to_owned());
                asked.compute.tune = None;
            }
            "head" => {
                value.parse::<HeadType>().map_err(Failure::usage)?;
                asked.precision.head = Some(value.to_owned());
            }
            "kv" => {
                value.parse::<KvType>().map_err(Failure::usage)?;
                value.clone_into(&mut asked.precision.kv);
            }
            "activations" => asked.activations = value.parse().map_err(Failure::usage)?,
            _ => {
                return Err(wrong(format!(
                    "`{key}` is not kernel, head, kv or activations"
                )));
            }
        }
    }
    Ok(asked)
}

/// Every kernel, head, KV cache and kind of activations beside the base, one change at a time.
fn sweep(base: &Asked) -> Result<Vec<Asked>, Failure> {
    let mut out = Vec::new();
    for (id, verdict) in probe::in_child(&probe::ternary())? {
        if matches!(verdict, Verdict::Available) {
            out.push(changed(base, &format!("kernel={id}"))?);
        }
    }
    let types = Generate::HEADS.map(|head| format!("head={head}"));
    let types = types
        .into_iter()
        .chain(Generate::KVS.map(|kv| format!("kv={kv}")));
    for with in types.chain(["head=q4_0,kv=i8".to_owned(), "activations=f32".to_owned()]) {
        out.push(changed(base, &with)?);
    }
    Ok(out)
}

/// Reads everything that is to be evaluated before the first of it is.
fn work(args: &EvalArgs, engine: &Engine, window: usize) -> Result<Vec<Work>, Failure> {
    let limit = args.limit.unwrap_or(usize::MAX);
    let mut out = Vec::new();
    for path in &args.text {
        let text = read(path)?;
        let tokenizer = engine
            .tokenizer()
            .ok_or_else(|| engine_failure(trit_engine::EngineError::NoTokenizer))?;
        let mut tokens = tokenizer.encode_plain(&text).map_err(engine_failure)?;
        let bytes = if tokens.len() > limit {
            tokens.truncate(limit);
            tokenizer.decode(&tokens).map_err(engine_failure)?.len()
        } else {
            text.len()
        };
        out.push(Work::Text(TextPlan {
            path: path.clone(),
            sha256: trit_run::digest_bytes(text.as_bytes()),
            tokens,
            bytes,
            window,
            stride: args.stride.unwrap_or(window.div_ceil(2)),
        }));
    }
    for asked in &args.task {
        let (name, path) = asked.split_once('=').ok_or_else(|| {
            Failure::usage(anyhow::anyhow!(
                "--task: `{asked}` is not TASK=FILE; hint: such as arc_easy=arc-easy-test.jsonl"
            ))
        })?;
        let task = task(name)?;
        let text = read(Path::new(path))?;
        let questions = eval::questions(&task, path, &text, limit).map_err(Failure::unusable)?;
        out.push(Work::Task {
            task: Box::new(task),
            sha256: trit_run::digest_bytes(text.as_bytes()),
            questions,
        });
    }
    Ok(out)
}

fn task(name: &str) -> Result<Task, Failure> {
    if let Some(text) = embedded_task(name) {
        return Task::parse(name, text).map_err(Failure::unusable);
    }
    let is_file = Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "toml");
    if !is_file {
        return Err(Failure::usage(anyhow::anyhow!(
            "--task: `{name}` is not a task; hint: one of {}, or a TOML file",
            task_names().join(" ")
        )));
    }
    let text = files::text("task", Path::new(name))?;
    Task::parse(name, &text).map_err(Failure::unusable)
}

fn read(path: &Path) -> Result<String, Failure> {
    let name = path.display();
    let io =
        |error| Failure::failed(anyhow::Error::new(error).context(format!("cannot read `{name}`")));
    let length = fs::metadata(path).map_err(io)?.len();
    if length > MAX_BYTES {
        return Err(Failure::unusable(anyhow::anyhow!(
            "`{name}` has {length} bytes, and at most {MAX_BYTES} are read; hint: cut it"
        )));
    }
    String::from_utf8(fs::read(path).map_err(io)?)
        .map_err(|_| Failure::unusable(anyhow::anyhow!("`{name}` is not UTF-8 text")))
}

/// The directory that gets the rows: one of a run as it is, or a new one.
fn run_dir(args: &EvalArgs) -> Result<RunDir, Failure> {
    let failure = |error| record_failure(&error);
    if let Some(path) = &args.out
        && path.join(SESSION_FILE).is_file()
    {
        return RunDir::open(path).map_err(failure);
    }
    let machine: Machine = trit_measure::machine();
    let program = this_program();
    let host = machine.host.hostname.clone().unwrap_or_default();
    let dir = match &args.out {
        Some(path) => RunDir::create(path),
        None => RunDir::create_in(Path::new("runs"), &trit_run::utc_compact(), &host, "eval"),
    }
    .map_err(|error| match error {
        trit_core::RunDirError::NotEmpty { .. } => Failure::usage(error),
        error => record_failure(&error),
    })?;
    dir.write_session(&Session {
        schema: trit_core::SCHEMA,
        version: program.version,
        git_revision: program.git_revision,
        argv: program.argv,
        isa_cap: program.isa_cap,
        started_utc: trit_run::utc_iso_now(),
        host,
        suite: "eval".to_owned(),
        machine: serde_json::to_value(&machine).unwrap_or_default(),
        ..Session::default()
    })
    .map_err(failure)?;
    // A run without cells: `tritbench report` reads it as any other.
    dir.write::<Cell>(&[]).map_err(failure)?;
    Ok(dir)
}
