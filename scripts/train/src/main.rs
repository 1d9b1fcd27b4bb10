//! `trit-train`: trains small BitNet b1.58 models from scratch, adapts them, and exports them.
#![forbid(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use tokenizers::Tokenizer;
use trit_measure::sys::interrupt;
use trit_train::adapt::adapt;
use trit_train::data::{Text, load_tokenizer};
use trit_train::eval::{Likelihood, evaluate};
use trit_train::export::round_embedding;
use trit_train::model::{Model, ModelConfig};
use trit_train::ngram::Trigram;
use trit_train::optim::Schedule;
use trit_train::sample::{Choice, continue_text};
use trit_train::train::{Place, Recipe, TOKENIZER, Tokens, Training, tokenizer_in};
use trit_train::{checkpoint, curve, export};

/// Rate of the second stage: 1e-3 after 1.5e-3 in the published recipe.
const SECOND_STAGE: f64 = 2.0 / 3.0;
/// Set when the environment is as it should be.
const STARTED: &str = "TRIT_TRAIN_STARTED";
/// Keeps glibc from giving the memory of every large tensor back to the system, and taking it again a moment later: a third of
/// the time of a step.
const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "1073741824"),
    ("MALLOC_TRIM_THRESHOLD_", "8589934592"),
    ("MALLOC_TOP_PAD_", "67108864"),
];
/// Steps between two checkpoints.
const SAVE_EVERY: usize = 100;

/// Trains small BitNet b1.58 models from scratch, adapts them, and exports them for tritbench and others.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    task: Task,
    /// Threads; results do not depend on them
    #[arg(long, global = true, default_value_t = 1)]
    threads: usize,
}

#[derive(Subcommand)]
enum Task {
    /// Train a model from scratch on a text
    Train(TrainArgs),
    /// Adapt a model to another text with low-rank adapters, and merge them
    Finetune(FinetuneArgs),
    /// Write a model as GGUF and as a Hugging Face folder
    Export(ExportArgs),
    /// Loss, perplexity and bits a byte of the held-out tenth of a text
    Eval(EvalArgs),
    /// Continue a prompt
    Sample(SampleArgs),
    /// Logits for given tokens as CSV, as `tritbench logits` prints them
    Logits(LogitsArgs),
    /// An interpolated Kneser-Ney trigram on the same tokens: what counting alone predicts
    Ngram(NgramArgs),
    /// Draw loss curves into one picture
    Curve(CurveArgs),
}

/// A trained model.
#[derive(Args)]
struct ModelArgs {
    /// Checkpoint
    #[arg(long)]
    model: PathBuf,
    /// Vocabulary [default: tokenizer.json beside the checkpoint]
    #[arg(long)]
    tokenizer: Option<PathBuf>,
}

impl ModelArgs {
    /// The model with its embedding rounded as an export does, and its vocabulary.
    fn open(&self) -> Result<(Model, Tokenizer)> {
        let model = checkpoint::load(&self.model)?.model;
        round_embedding(&model)?;
        Ok((model, self.vocabulary()?))
    }

    fn vocabulary(&self) -> Result<Tokenizer> {
        match &self.tokenizer {
            Some(path) => load_tokenizer(path),
            None => load_tokenizer(&self.model.with_file_name(TOKENIZER)),
        }
    }
}

#[derive(Args)]
struct FinetuneArgs {
    #[command(flatten)]
    base: ModelArgs,
    /// UTF-8 text; its last tenth is held out
    #[arg(long)]
    text: PathBuf,
    /// Directory of checkpoints, curve and the merged model
    #[arg(long)]
    out: PathBuf,
    /// Go on from the last checkpoint in `--out`
    #[arg(long)]
    resume: bool,
    /// Rank of the adapters
    #[arg(long, default_value_t = 8)]
    rank: usize,
    /// Factor of the adapters' product
    #[arg(long, default_value_t = 2.0)]
    scale: f64,
    /// Windows of a step
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Most steps
    #[arg(long, default_value_t = 400)]
    steps: usize,
    /// Steps in which the learning rate rises
    #[arg(long, default_value_t = 20)]
    warmup: usize,
    /// Highest learning rate
    #[arg(long, default_value_t = 2e-3)]
    rate: f64,
    /// Share of values that are dropped
    #[arg(long, default_value_t = 0.1)]
    dropout: f32,
    /// Steps between two looks at the held-out text
    #[arg(long, default_value_t = 25)]
    eval_every: usize,
    /// Looks without progress after which training ends
    #[arg(long, default_value_t = 6)]
    patience: usize,
    /// Seed of adapters, windows and dropout
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct ExportArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// GGUF file to write
    #[arg(long)]
    gguf: Option<PathBuf>,
    /// Hugging Face folder to write
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Name of the model in the GGUF file
    #[arg(long, default_value = "a small BitNet b1.58 model")]
    name: String,
}

#[derive(Args)]
struct EvalArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// UTF-8 text; its last tenth is measured
    #[arg(long)]
    text: PathBuf,
    /// Tokens that a window advances [default: half of the context]
    #[arg(long)]
    stride: Option<usize>,
}

#[derive(Args)]
struct SampleArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Text to continue
    #[arg(long, default_value = "ROMEO:")]
    prompt: String,
    /// Tokens to add
    #[arg(long, default_value_t = 200)]
    max_tokens: usize,
    /// 0 takes the most likely token
    #[arg(long, default_value_t = 0.8)]
    temperature: f32,
    /// Tokens that are considered
    #[arg(long, default_value_t = 40)]
    top_k: usize,
    /// Seed of the choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct LogitsArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Token ids with commas between them
    #[arg(long, value_delimiter = ',', required = true)]
    tokens: Vec<u32>,
}

#[derive(Args)]
struct NgramArgs {
    /// UTF-8 text; its last tenth is held out
    #[arg(long)]
    text: PathBuf,
    /// Vocabulary
    #[arg(long)]
    tokenizer: PathBuf,
}

#[derive(Args)]
struct CurveArgs {
    /// A label and the CSV file of its curve
    #[arg(long, value_name = "LABEL=FILE", required = true)]
    curve: Vec<String>,
    /// Path of the pictures without `.svg` and `.png`
    #[arg(long)]
    out: PathBuf,
}

#[derive(Args)]
struct TrainArgs {
    /// UTF-8 text; its last tenth is held out
    #[arg(long)]
    text: PathBuf,
    /// Directory of tokenizer, checkpoints and curve
    #[arg(long)]
    out: PathBuf,
    /// Go on from the last checkpoint in `--out`
    #[arg(long)]
    resume: bool,
    /// Train the float twin: the same model and schedule without quantization
    #[arg(long)]
    f32: bool,
    /// Tokens of the vocabulary
    #[arg(long, default_value_t = 512)]
    vocab: usize,
    /// Width of the residual stream
    #[arg(long, default_value_t = 256)]
    hidden: usize,
    /// Width of the feed-forward part
    #[arg(long, default_value_t = 640)]
    ffn: usize,
    /// Layers
    #[arg(long, default_value_t = 4)]
    layers: usize,
    /// Query heads
    #[arg(long, default_value_t = 4)]
    heads: usize,
    /// Key and value heads
    #[arg(long, default_value_t = 2)]
    kv_heads: usize,
    /// Tokens of a window
    #[arg(long, default_value_t = 256)]
    context: usize,
    /// Windows of a step
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Most steps
    #[arg(long, default_value_t = 2400)]
    steps: usize,
    /// Steps in which the learning rate rises
    #[arg(long, default_value_t = 100)]
    warmup: usize,
    /// Highest learning rate
    #[arg(long, default_value_t = 3e-3)]
    rate: f64,
    /// Weight decay of the first stage
    #[arg(long, default_value_t = 0.1)]
    decay: f64,
    /// Share of values that are dropped
    #[arg(long, default_value_t = 0.15)]
    dropout: f32,
    /// Steps between two looks at the held-out text
    #[arg(long, default_value_t = 100)]
    eval_every: usize,
    /// Looks without progress after which training ends
    #[arg(long, default_value_t = 8)]
    patience: usize,
    /// Seed of weights, windows and dropout
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[expect(clippy::print_stderr, reason = "progress is talk")]
fn say(line: &str) {
    eprintln!("{line}");
}

fn share(dropout: f32) -> Result<()> {
    ensure!(
        (0.0..1.0).contains(&dropout),
        "`--dropout` is {dropout}, want 0 to below 1"
    );
    Ok(())
}

fn positive(values: &[(&str, usize)]) -> Result<()> {
    for (flag, value) in values {
        ensure!(*value > 0, "`{flag}` is 0, want a number above 0");
    }
    Ok(())
}

fn train(args: &TrainArgs) -> Result<()> {
    let config = ModelConfig {
        vocab: args.vocab,
        hidden: args.hidden,
        ffn: args.ffn,
        layers: args.layers,
        heads: args.heads,
        kv_heads: args.kv_heads,
        context: args.context,
        rope_base: 10_000.0,
        rms_eps: 1e-5,
        ternary: !args.f32,
    };
    config.check()?;
    share(args.dropout)?;
    positive(&[
        ("--steps", args.steps),
        ("--batch", args.batch),
        ("--eval-every", args.eval_every),
        ("--patience", args.patience),
    ])?;
    let recipe = Recipe {
        batch: args.batch,
        schedule: Schedule {
            steps: args.steps,
            warmup: args.warmup,
            rate: args.rate,
            second: SECOND_STAGE,
            decay: args.decay,
        },
        dropout: args.dropout,
        seed: args.seed,
        eval_every: args.eval_every,
        patience: args.patience,
    };
    let text = Text::read(&args.text)?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot create `{}`", args.out.display()))?;
    let tokenizer = tokenizer_in(&args.out, &text, args.vocab)?;
    let tokens = Tokens::new(&text, &tokenizer)?;
    say(&format!(
        "{} parameters, {} and {} tokens, {:.3} bytes a held-out token, text {}",
        config.parameters(),
        tokens.train.len(),
        tokens.held_out.len(),
        tokens.held_out_bytes as f64 / tokens.held_out.len() as f64,
        tokens.sha256
    ));
    let mut training = if args.resume {
        Training::resume(&args.out, &config, recipe, &tokens.sha256)?
    } else {
        Training::new(Model::random(config, args.seed)?, recipe)
    };
    let mut place = Place {
        out: &args.out,
        save_every: SAVE_EVERY,
        say: &mut say,
        stop: interrupt::install().context("signals")?,
    };
    training.run(&tokens, &mut place).map(|_| ())
}

fn finetune(args: &FinetuneArgs) -> Result<()> {
    ensure!(args.rank > 0, "`--rank` is 0, want a number above 0");
    positive(&[
        ("--steps", args.steps),
        ("--batch", args.batch),
        ("--eval-every", args.eval_every),
        ("--patience", args.patience),
    ])?;
    share(args.dropout)?;
    let base = checkpoint::load(&args.base.model)?.model;
    ensure!(
        base.adapters.is_none(),
        "`{}` has adapters already; hint: take its merged model",
        args.base.model.display()
    );
    let tokenizer = args.base.vocabulary()?;
    let tokens = Tokens::new(&Text::read(&args.text)?, &tokenizer)?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot create `{}`", args.out.display()))?;
    let json = tokenizer
        .to_string(true)
        .map_err(|error| anyhow::anyhow!("tokenizer: {error}"))?;
    checkpoint::write_atomically(&args.out.join(TOKENIZER), json.as_bytes())?;
    let recipe = Recipe {
        batch: args.batch,
        schedule: Schedule {
            steps: args.steps,
            warmup: args.warmup,
            rate: args.rate,
            second: SECOND_STAGE,
            decay: 0.0,
        },
        dropout: args.dropout,
        seed: args.seed,
        eval_every: args.eval_every,
        patience: args.patience,
    };
    let mut place = Place {
        out: &args.out,
        save_every: SAVE_EVERY,
        say: &mut say,
        stop: interrupt::install().context("signals")?,
    };
    let adapters = (args.rank, args.scale);
    if let Some(adapted) = adapt(base, adapters, recipe, &tokens, &mut place, args.resume)? {
        tell("before", &adapted.before);
        tell("after", &adapted.after);
    }
    Ok(())
}

fn export(args: &ExportArgs) -> Result<()> {
    ensure!(
        args.gguf.is_some() || args.folder.is_some(),
        "there is nothing to write; hint: give `--gguf`, `--folder`, or both"
    );
    let (model, tokenizer) = args.model.open()?;
    if let Some(path) = &args.gguf {
        export::gguf(&model, &tokenizer, &args.name, path)?;
    }
    if let Some(dir) = &args.folder {
        export::folder(&model, &tokenizer, dir)?;
    }
    Ok(())
}

/// One line about a likelihood.
#[expect(clippy::print_stdout, reason = "this is the data")]
fn tell(label: &str, likelihood: &Likelihood) {
    println!(
        "{label}: {} tokens, {} bytes, loss {:.4} nats a token, perplexity {:.3}, {:.4} bits a byte",
        likelihood.tokens,
        likelihood.bytes,
        likelihood.loss(),
        likelihood.perplexity(),
        likelihood.bits_per_byte()
    );
}

fn eval(args: &EvalArgs) -> Result<()> {
    let (model, tokenizer) = args.model.open()?;
    let tokens = Tokens::new(&Text::read(&args.text)?, &tokenizer)?;
    let stride = args.stride.unwrap_or(model.config.context / 2);
    let likelihood = evaluate(&model, &tokens.held_out, tokens.held_out_bytes, stride)?;
    let context = model.config.context;
    let label = format!("held out, windows of {context}, stride {stride}");
    tell(&label, &likelihood);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is the data")]
fn sample(args: &SampleArgs) -> Result<()> {
    let (model, tokenizer) = args.model.open()?;
    let choice = Choice {
        temperature: args.temperature,
        top_k: args.top_k,
        seed: args.seed,
    };
    let text = continue_text(&model, &tokenizer, &args.prompt, args.max_tokens, choice)?;
    println!("{text}");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is the data")]
fn logits(args: &LogitsArgs) -> Result<()> {
    let model = checkpoint::load(&args.model.model)?.model;
    round_embedding(&model)?;
    let logits = model.logits(&args.tokens, args.tokens.len(), None)?;
    println!("position,token,logit");
    for (position, row) in logits.to_vec2::<f32>()?.iter().enumerate() {
        for (token, logit) in row.iter().enumerate() {
            println!("{position},{token},{logit}");
        }
    }
    Ok(())
}

fn ngram(args: &NgramArgs) -> Result<()> {
    let tokenizer = load_tokenizer(&args.tokenizer)?;
    let tokens = Tokens::new(&Text::read(&args.text)?, &tokenizer)?;
    let trigram = Trigram::new(&tokens.train, tokenizer.get_vocab_size(true));
    let likelihood = trigram.evaluate(&tokens.held_out, tokens.held_out_bytes);
    tell("held out, interpolated Kneser-Ney trigram", &likelihood);
    Ok(())
}

fn draw_curves(args: &CurveArgs) -> Result<()> {
    let curves = args
        .curve
        .iter()
        .map(|curve| {
            let (label, path) = curve
                .split_once('=')
                .with_context(|| format!("`--curve` is `{curve}`, want LABEL=FILE"))?;
            Ok((label.to_owned(), curve::read(path.as_ref())?))
        })
        .collect::<Result<Vec<_>>>()?;
    curve::draw(&curves, &args.out)
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    ensure!(cli.threads > 0, "`--threads` is 0, want a number above 0");
    // Candle reads its number of threads from the environment, glibc the settings of its allocator, and a program may not change
    // its environment while it runs: begin anew.
    if std::env::var_os(STARTED).is_none() {
        let error = Command::new(std::env::current_exe().context("own program")?)
            .args(std::env::args_os().skip(1))
            .envs(ALLOCATOR)
            .env("RAYON_NUM_THREADS", cli.threads.to_string())
            .env(STARTED, "1")
            .exec();
        return Err(error).context("cannot begin anew");
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(cli.threads)
        .build()
        .context("threads")?;
    // Everything runs inside of the pool: work does not pass from thread to thread and back.
    pool.install(|| match &cli.task {
        Task::Train(args) => train(args),
        Task::Finetune(args) => finetune(args),
        Task::Export(args) => export(args),
        Task::Eval(args) => eval(args),
        Task::Sample(args) => sample(args),
        Task::Logits(args) => logits(args),
        Task::Ngram(args) => ngram(args),
        Task::Curve(args) => draw_curves(args),
    })
}
