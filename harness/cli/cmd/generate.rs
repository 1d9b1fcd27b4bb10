//! `tritbench generate`: text from a model, and how fast it came.

use std::io::{BufRead, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{ArgGroup, Args};
use trit_engine::chat::{Message, Speaker};
use trit_engine::{Engine, Generation, Sampler, SamplerOptions, Session};
use trit_measure::{Clock, MonotonicClock, memory, sys::interrupt};

use crate::args::{ComputeArgs, FileArgs, ModelArg, PrecisionArgs, SamplingArgs, token};
use crate::engine::{self, engine_failure, open};
use crate::exit::{Exit, Failure, Outcome};
use crate::out::{Out, human_bytes, human_ns, say};

/// Generates text with a model, streams it, and ends with rates, TTFT and peak RSS
#[derive(Args, Debug)]
#[command(
    long_about = "Generates text with a model, streams it to stdout, and ends with prefill and decode rates, the time to the first \
                  token (TTFT) and the peak resident set (RSS) on stderr.\n\n\
                  With --chat the prompt is a message of the user in the chat template of the model; without --prompt each line of \
                  stdin is a message, and the conversation is kept.",
    after_help = "Examples:
  tritbench generate --prompt ROMEO: --temperature 0.8
  tritbench generate --model model.gguf --prompt 'Once upon a time' --max-tokens 64
  tritbench generate --model model.gguf --chat --prompt 'What is 1.58 bits?' --temperature 0.7
  tritbench generate --model model.gguf --chat
  tritbench generate --model synth:2b4t --tokens 1,2,3 --max-tokens 32 --threads 1",
    group = ArgGroup::new("input").args(["prompt", "chat", "tokens"]).required(true).multiple(true)
)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    model: ModelArg,

    /// The text to continue
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,

    /// Use the chat template of the model; without --prompt read messages from stdin, a line each
    #[arg(long)]
    chat: bool,

    /// Instructions that precede the conversation
    #[arg(long, value_name = "TEXT", requires = "chat")]
    system: Option<String>,

    /// The token ids to continue, with commas between them; prints ids when the model has no tokenizer
    #[arg(long, value_name = "ID,...", value_delimiter = ',', conflicts_with_all = ["prompt", "chat"], value_parser = token)]
    tokens: Option<Vec<u32>>,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    compute: ComputeArgs,

    #[command(flatten)]
    precision: PrecisionArgs,

    #[command(flatten)]
    file: FileArgs,
}

pub(crate) fn run(args: &GenerateArgs) -> Outcome {
    engine::expect(&args.model.model, &args.model.expect)?;
    let engine = open(
        &args.model.model,
        &args.compute,
        &args.precision,
        &args.file,
        args.sampling.seed.seed,
    )?;
    let sampling = &args.sampling;
    let sampler = Sampler::new(SamplerOptions {
        temperature: sampling.temperature,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        repeat_penalty: sampling.repeat_penalty,
        seed: sampling.seed.seed,
    })
    .map_err(engine_failure)?;
    let mut talk = Talk {
        engine: &engine,
        sampler,
        max_tokens: sampling.max_tokens,
        first_ns: None,
        out: Out::new(),
    };
    match &args.prompt {
        None if args.chat => talk.converse(args.system.as_deref()),
        None => talk.once(args.tokens.as_deref().unwrap_or_default(), 0),
        Some(prompt) if args.chat => {
            let prompt = engine
                .template()
                .render(&messages(args.system.as_deref(), prompt));
            let (prompt, encode_ns) = encode(&engine, &prompt)?;
            talk.once(&prompt, encode_ns)
        }
        Some(prompt) => {
            let (prompt, encode_ns) = encode(&engine, prompt)?;
            talk.once(&prompt, encode_ns)
        }
    }
}

/// The tokens of a prompt, and the time they took: the time to the first token counts from the text.
fn encode(engine: &Engine, text: &str) -> Result<(Vec<u32>, u64), Failure> {
    let start = MonotonicClock.now_ns();
    let tokens = engine
        .tokenizer()
        .ok_or(trit_engine::EngineError::NoTokenizer)
        .and_then(|tokenizer| tokenizer.encode(text))
        .map_err(engine_failure)?;
    Ok((tokens, MonotonicClock.now_ns() - start))
}

/// The start of a conversation.
fn messages(system: Option<&str>, user: &str) -> Vec<Message> {
    let message = |speaker, text: &str| Message {
        speaker,
        text: text.to_owned(),
    };
    let system = system.map(|text| message(Speaker::System, text));
    system
        .into_iter()
        .chain([message(Speaker::User, user)])
        .collect()
}

/// A model that answers.
struct Talk<'e> {
    engine: &'e Engine,
    sampler: Sampler,
    max_tokens: usize,
    /// When the first token was known, from the start of the program.
    first_ns: Option<u64>,
    out: Out,
}

impl Talk<'_> {
    /// Continues one prompt.
    fn once(&mut self, prompt: &[u32], encode_ns: u64) -> Outcome {
        let asked = interrupt::install().map_err(Failure::failed)?;
        let positions = prompt.len().saturating_add(self.max_tokens);
        let mut session = self.engine.session(positions).map_err(engine_failure)?;
        let (generation, _) = self.answer(&mut session, prompt, self.max_tokens, asked)?;
        let first = self.first_ns.map_or_else(String::new, |ns| {
            format!(
                "; first token {} after the start of the program",
                human_ns(ns)
            )
        });
        say(&(summary(self.engine, &generation, encode_ns) + &first));
        Ok(if asked.load(Ordering::SeqCst) {
            Exit::Interrupted
        } else {
            Exit::Done
        })
    }

    /// Answers line after line of stdin. Ctrl-C ends it as the shell expects: the wait for a line cannot be asked to stop.
    fn converse(&mut self, system: Option<&str>) -> Outcome {
        let never = AtomicBool::new(false);
        let stdin = std::io::stdin();
        let prompting = stdin.is_terminal();
        let template = self.engine.template();
        let context = self.engine.config().context;
        let mut conversation = Vec::new();
        let mut session = self.engine.session(context).map_err(engine_failure)?;
        let mut seen: Vec<u32> = Vec::new();
        if prompting {
            say("write a message and press Enter; Ctrl-D ends");
        }
        for line in stdin.lock().lines() {
            let line = line.map_err(|error| {
                Failure::failed(
                    anyhow::Error::new(error).context("cannot read messages from standard input"),
                )
            })?;
            if line.trim().is_empty() {
                continue;
            }
            let system = system.filter(|_| conversation.is_empty());
            conversation.extend(messages(system, &line));
            let (prompt, encode_ns) = encode(self.engine, &template.render(&conversation))?;
            // What the cache holds already is not computed again; the last token always is, for its logits.
            let shared = seen.iter().zip(&prompt).take_while(|(a, b)| a == b).count();
            let shared = shared
                .min(prompt.len().saturating_sub(1))
                .min(session.position());
            session.truncate(shared);
            let room = context.saturating_sub(prompt.len()).min(self.max_tokens);
            if room == 0 {
                return Err(Failure::unusable(anyhow::anyhow!(
                    "the conversation fills the context of {context} tokens; hint: start a new one"
                )));
            }
            let (generation, text) = self.answer(&mut session, &prompt[shared..], room, &never)?;
            say(&summary(self.engine, &generation, encode_ns));
            seen = prompt;
            seen.extend(generation.tokens.iter().map(|generated| generated.token));
            conversation.push(Message {
                speaker: Speaker::Assistant,
                text,
            });
        }
        Ok(Exit::Done)
    }

    /// Streams one answer; gives the text too.
    fn answer(
        &mut self,
        session: &mut Session<'_>,
        prompt: &[u32],
        max_tokens: usize,
        asked: &AtomicBool,
    ) -> Result<(Generation, String), Failure> {
        let mut detokenizer = self
            .engine
            .tokenizer()
            .map(trit_engine::Tokenizer::detokenizer);
        let mut text = String::new();
        let mut failure = None;
        let out = &mut self.out;
        let first_ns = &mut self.first_ns;
        let generation = trit_engine::generate(
            session,
            &mut self.sampler,
            prompt,
            max_tokens,
            &self.engine.config().stop,
            &MonotonicClock,
            |generated| {
                first_ns.get_or_insert_with(|| MonotonicClock.now_ns());
                let piece = match &mut detokenizer {
                    Some(detokenizer) => detokenizer.push(generated.token).map_err(engine_failure),
                    None => Ok(format!("{} ", generated.token)),
                };
                let told = piece.and_then(|piece| {
                    text.push_str(&piece);
                    out.text(&piece)
                });
                failure = told.err();
                failure.is_none() && !asked.load(Ordering::SeqCst)
            },
        );
        if let Some(failure) = failure {
            return Err(failure);
        }
        let generation = generation.map_err(engine_failure)?;
        if let Some(detokenizer) = detokenizer {
            let rest = detokenizer.finish().map_err(engine_failure)?;
            text.push_str(&rest);
            self.out.text(&rest)?;
        }
        self.out.text("\n")?;
        Ok((generation, text))
    }
}

/// How fast it was, and what it took.
fn summary(engine: &Engine, generation: &Generation, encode_ns: u64) -> String {
    let rate = |rate: Option<f64>| {
        rate.map_or_else(
            || "too few to tell".to_owned(),
            |rate| format!("{rate:.1} tokens/s"),
        )
    };
    let generated = generation.tokens.len();
    let peak = memory().peak_rss_bytes;
    format!(
        "prefill {} tokens, {}; decode {generated} tokens, {}; TTFT {}; peak RSS {}; {} on {} threads",
        generation.prompt_tokens,
        rate(generation.prefill_tokens_per_s()),
        rate(generation.decode_tokens_per_s()),
        human_ns(encode_ns + generation.ttft_ns),
        peak.map_or_else(|| "unknown".to_owned(), human_bytes),
        engine.kernel_id(),
        engine.threads(),
    )
}
