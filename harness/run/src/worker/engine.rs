//! Whole models: processing a prompt, and generating token by token.

use std::collections::BTreeMap;
use std::path::Path;

use trit_core::TimelineRow;
use trit_engine::file::FileOptions;
use trit_engine::{
    ActivationType, Engine, EngineError, EngineOptions, ExtraWork, ModelName, Sampler,
    SamplerOptions, Session,
};
use trit_kernel::Cpu;
use trit_measure::{Clock, MonotonicClock};

use super::timeline::{Phase, Timeline};
use super::{Done, Fault, Subject};
use crate::inputs;
use crate::protocol::{Answer, FailureKind, INPUT_SETS, Job, Opened, Task, Token};

/// Tokens whose logits are compared with the reference when a model is opened.
const CHECKED: usize = 4;
/// The input sets of the check and of what fills the cache before a request; the others are the requests' own.
const CHECK_SET: usize = INPUT_SETS;
const DEPTH_SET: usize = INPUT_SETS + 1;

/// Engines of this worker by their configuration. An engine lives as long as its worker: sessions borrow it, and a worker
/// that no cell needs any more ends.
#[derive(Default)]
pub(super) struct Engines {
    loaded: BTreeMap<String, Loaded>,
    timeline: Option<Timeline>,
}

#[derive(Clone)]
struct Loaded {
    engine: &'static Engine,
    load_ns: u64,
    check: String,
}

fn fault(error: &EngineError) -> Fault {
    let kind = match error {
        EngineError::File(error) if !error.is_io() => FailureKind::Content,
        EngineError::UnknownKernel(_) | EngineError::Unavailable { .. } => FailureKind::Unsupported,
        EngineError::Memory { .. } => FailureKind::OverLimit,
        _ => FailureKind::Failed,
    };
    Fault::new(kind, error)
}

fn count(value: u64) -> Result<usize, Fault> {
    usize::try_from(value)
        .ok()
        .filter(|count| *count <= 1 << 24)
        .ok_or_else(|| Fault::over_limit(format!("{value} tokens")))
}

fn load(task: &Task, cpu: Cpu) -> Result<Engine, Fault> {
    let wrong = |error: EngineError| fault(&error);
    let options = EngineOptions {
        kernel: Some(task.kernel.clone()).filter(|kernel| !kernel.is_empty()),
        tune: None,
        threads: usize::try_from(task.threads).unwrap_or(usize::MAX),
        kv: task.kv.parse().map_err(wrong)?,
        head: task.head.parse().map_err(wrong)?,
        activations: ActivationType::default(),
        ubatch: if task.ubatch == 0 {
            EngineOptions::UBATCH
        } else {
            count(task.ubatch)?
        },
        cpu,
        file: FileOptions::default(),
    };
    let model = ModelName::parse(Path::new(&task.model)).map_err(Fault::unsupported)?;
    let checkpoint = model
        .checkpoint(task.seed, &options.file)
        .map_err(|error| wrong(error.into()))?;
    Engine::load(&checkpoint, &options).map_err(wrong)
}

/// SHA-256 of the bits of the logits after each of four tokens.
fn check(engine: &Engine, seed: u64) -> Result<String, Fault> {
    let prompt = inputs::prompt(seed, CHECK_SET, CHECKED, engine.config().vocab);
    let mut session = engine.session(CHECKED).map_err(|error| fault(&error))?;
    let mut all = Vec::new();
    session
        .prefill_all(&prompt, |_, logits| all.extend_from_slice(logits))
        .map_err(|error| fault(&error))?;
    Ok(inputs::digest_floats(all))
}

/// The check as the kernel of the task answers it.
pub(super) fn reference(task: &Task, cpu: Cpu) -> Result<String, Fault> {
    check(&load(task, cpu)?, task.seed)
}

/// What the kernel of the task continues the prompt of a program's check with: the most likely tokens, as text.
pub(super) fn continued(task: &Task, cpu: Cpu) -> Result<String, Fault> {
    let program = task.program.as_ref();
    let check = program
        .and_then(|program| program.check.as_ref())
        .ok_or_else(|| Fault::failed("a program without a check has no reference"))?;
    let engine = load(task, cpu)?;
    let tokenizer = engine.tokenizer().ok_or_else(|| {
        Fault::new(
            FailureKind::Content,
            format!("`{}` has no tokenizer to check text with", task.model),
        )
    })?;
    let wrong = |error: EngineError| fault(&error);
    let prompt = tokenizer.encode(&check.prompt).map_err(wrong)?;
    let tokens = count(check.tokens)?;
    let mut session = engine.session(prompt.len() + tokens).map_err(wrong)?;
    let mut sampler = Sampler::new(SamplerOptions::default()).map_err(wrong)?;
    let generation = trit_engine::generate(
        &mut session,
        &mut sampler,
        &prompt,
        tokens,
        &engine.config().stop,
        &MonotonicClock,
        |_| true,
    )
    .map_err(wrong)?;
    let ids: Vec<u32> = generation
        .tokens
        .iter()
        .map(|generated| generated.token)
        .collect();
    tokenizer.decode(&ids).map_err(wrong)
}

impl Engines {
    fn get(&mut self, task: &Task, cpu: Cpu) -> Result<(Loaded, bool), Fault> {
        let key = format!(
            "{} {} t{} {} {} u{} s{}",
            task.model, task.kernel, task.threads, task.kv, task.head, task.ubatch, task.seed
        );
        if let Some(loaded) = self.loaded.get(&key) {
            return Ok((loaded.clone(), false));
        }
        let timeline = self.timeline.get_or_insert_with(Timeline::start);
        timeline.begin(Phase::Load);
        let start = MonotonicClock.now_ns();
        let engine = load(task, cpu);
        let load_ns = MonotonicClock.now_ns() - start;
        timeline.end();
        let engine = engine?;
        let engine: &'static Engine = Box::leak(Box::new(engine));
        let loaded = Loaded {
            engine,
            load_ns,
            check: check(engine, task.seed)?,
        };
        self.loaded.insert(key, loaded.clone());
        Ok((loaded, true))
    }

    /// Opens a cell of a whole model.
    pub(super) fn open(&mut self, task: &Task, cpu: Cpu) -> Result<Box<dyn Subject>, Fault> {
        let (loaded, fresh) = self.get(task, cpu)?;
        let engine = loaded.engine;
        let vocab = engine.config().vocab;
        let (depth, prompt) = (count(task.depth)?, count(task.prompt_tokens)?);
        let generated = count(task.gen_tokens)?;
        if prompt == 0 || (task.job == Job::Decode && generated < 2) {
            return Err(Fault::unsupported(
                "a request needs a prompt, and two tokens to generate",
            ));
        }
        let wrong = |error: EngineError| fault(&error);
        let mut session = engine.session(depth + prompt + generated).map_err(wrong)?;
        let tokens = if task.job == Job::Decode { 1 } else { prompt };
        let extra =
            (task.added_work > 0.0).then(|| ExtraWork::new(engine, task.added_work, tokens));
        if depth > 0 {
            let filling = inputs::prompt(task.seed, DEPTH_SET, depth, vocab);
            session.prefill(&filling).map_err(wrong)?;
        }
        let timeline = self.timeline.get_or_insert_with(Timeline::start).clone();
        Ok(Box::new(Request {
            loading: timeline.take(),
            timeline,
            engine,
            session,
            job: task.job,
            depth,
            generated,
            prompts: (0..INPUT_SETS)
                .map(|set| inputs::prompt(task.seed, set, prompt, vocab))
                .collect(),
            load_ns: fresh.then_some(loaded.load_ns),
            check: loaded.check,
            cursor: 0,
            started: None,
            answers: Vec::new(),
            extra,
        }))
    }
}

/// Requests to one model: a prompt each, and tokens after it.
struct Request {
    engine: &'static Engine,
    session: Session<'static>,
    job: Job,
    depth: usize,
    generated: usize,
    prompts: Vec<Vec<u32>>,
    load_ns: Option<u64>,
    check: String,
    cursor: usize,
    /// Of a decode cell that is ready to loop: the input set that is in the cache, and the token after its prompt.
    started: Option<(usize, u32)>,
    answers: Vec<Answer>,
    extra: Option<ExtraWork<'static>>,
    timeline: Timeline,
    /// What was recorded while the model was loaded.
    loading: Vec<TimelineRow>,
}

/// The most likely token; the first of equals.
fn greedy(logits: &[f32]) -> u32 {
    let best = logits
        .iter()
        .enumerate()
        .fold((0, f32::NEG_INFINITY), |best, (at, logit)| {
            if *logit > best.1 { (at, *logit) } else { best }
        });
    best.0 as u32
}

/// The answer of a request that generated these tokens.
fn answer(set: usize, ids: &[u64]) -> Answer {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    Answer {
        set: set as u64,
        digest: inputs::digest_bytes(&bytes),
    }
}

impl Request {
    /// One request; gives its times.
    fn call(&mut self) -> Result<Done, Fault> {
        let wrong = |error: EngineError| fault(&error);
        let set = self.cursor;
        self.cursor = (set + 1) % INPUT_SETS;
        self.session.truncate(self.depth);
        let clock = MonotonicClock;
        self.timeline.begin(Phase::Prefill);
        let start = clock.now_ns();
        let logits = self.session.prefill(&self.prompts[set]).map_err(wrong)?;
        if self.job == Job::Prefill {
            if let Some(extra) = &mut self.extra {
                extra.run();
            }
            let time_ns = clock.now_ns() - start;
            self.timeline.end();
            let digest = inputs::digest_floats(logits.iter().copied());
            self.answers.push(Answer {
                set: set as u64,
                digest,
            });
            return Ok(Done {
                calls: 1,
                time_ns,
                ..Done::default()
            });
        }
        let mut token = greedy(logits);
        let first_at = clock.now_ns();
        let mut tokens = Vec::with_capacity(self.generated);
        tokens.push(Token {
            token: u64::from(token),
            time_ns: first_at - start,
        });
        self.timeline.begin(Phase::Decode);
        let decode_at = clock.now_ns();
        let mut before = decode_at;
        for _ in 1..self.generated {
            token = greedy(self.session.decode(token).map_err(wrong)?);
            if let Some(extra) = &mut self.extra {
                extra.run();
            }
            let now = clock.now_ns();
            tokens.push(Token {
                token: u64::from(token),
                time_ns: now - before,
            });
            before = now;
        }
        self.timeline.end();
        let ids: Vec<u64> = tokens.iter().map(|token| token.token).collect();
        self.answers.push(answer(set, &ids));
        Ok(Done {
            // The first token belongs to the prompt.
            calls: tokens.len() as u64 - 1,
            time_ns: before - decode_at,
            tokens,
            ..Done::default()
        })
    }

    /// Prompts one after the other, without looking at their logits until the last.
    fn loop_prompts(&mut self, at_least_ns: u64) -> Result<Done, Fault> {
        let clock = MonotonicClock;
        let start = clock.now_ns();
        let mut calls = 0;
        loop {
            let set = self.cursor;
            self.cursor = (set + 1) % INPUT_SETS;
            self.session.truncate(self.depth);
            let prompt = &self.prompts[set];
            let logits = self
                .session
                .prefill(prompt)
                .map_err(|error| fault(&error))?;
            calls += 1;
            let time_ns = clock.now_ns() - start;
            if time_ns >= at_least_ns {
                let digest = inputs::digest_floats(logits.iter().copied());
                self.answers.push(Answer {
                    set: set as u64,
                    digest,
                });
                return Ok(Done {
                    calls,
                    time_ns,
                    ..Done::default()
                });
            }
        }
    }

    /// The tokens after one prompt, again and again: whole passes, so that the mean position is that of a request. The
    /// prompt is not among them. Every pass has to give the same tokens.
    fn loop_tokens(&mut self, at_least_ns: u64) -> Result<Done, Fault> {
        let (set, first) = self
            .started
            .take()
            .ok_or_else(|| Fault::failed("the cell is not ready to loop"))?;
        let after_prompt = self.session.position();
        let clock = MonotonicClock;
        let start = clock.now_ns();
        let mut ids: Vec<u64> = Vec::with_capacity(self.generated);
        let mut calls = 0;
        for pass in 0.. {
            self.session.truncate(after_prompt);
            let mut token = first;
            for at in 0..self.generated {
                if at > 0 {
                    let logits = self.session.decode(token).map_err(|error| fault(&error))?;
                    token = greedy(logits);
                    calls += 1;
                }
                if pass == 0 {
                    ids.push(u64::from(token));
                } else if ids[at] != u64::from(token) {
                    return Err(Fault::failed(format!(
                        "pass {pass} gave {token} as token {at}, and the first pass {}",
                        ids[at]
                    )));
                }
            }
            if clock.now_ns() - start >= at_least_ns {
                break;
            }
        }
        let time_ns = clock.now_ns() - start;
        self.answers.push(answer(set, &ids));
        Ok(Done {
            calls,
            time_ns,
            ..Done::default()
        })
    }

    /// Bytes that one call has to read, and its operations.
    fn amounts(&self) -> (Option<u64>, u64) {
        let config = self.engine.config();
        let head = (config.vocab * config.hidden) as u64;
        let prompt = self.prompts[0].len();
        if self.job == Job::Prefill {
            // Weights are read once a chunk and the chunks stay in a cache or not: there is no one number of bytes.
            (None, 2 * (config.linear_weights() * prompt as u64 + head))
        } else {
            let mean = self.depth + prompt + self.generated / 2;
            let ops = 2 * (config.linear_weights() + head);
            (Some(self.engine.bytes_per_token(mean)), ops)
        }
    }
}

impl Subject for Request {
    fn opened(&self) -> Opened {
        let spec = self.engine.layout().spec();
        let (bytes_per_call, ops) = self.amounts();
        let config = self.engine.config();
        Opened {
            layout: spec.name.to_owned(),
            weight_bits: Some(spec.weight_bits),
            head: self.engine.head().to_owned(),
            load_ns: self.load_ns,
            timeline: self.loading.clone(),
            bytes_per_call,
            ops_per_call: Some(ops),
            linear_weights: Some(config.linear_weights()),
            attention_width: Some((config.layers * config.heads * config.head_dim) as u64),
            check: Some(self.check.clone()),
            ..Opened::default()
        }
    }

    fn warm_up(&mut self, calls: u64) -> Result<(), Fault> {
        (0..calls).try_for_each(|_| self.call().map(|_| ()))
    }

    /// Logits belong to the session. Four prompts take turns, so those of the request before are no answer.
    fn poison(&mut self) {
        self.answers.clear();
    }

    /// A prompt, untimed: a warm-up of prefill, and where decode starts.
    fn ready(&mut self) -> Result<(), Fault> {
        self.poison();
        let set = self.cursor;
        self.session.truncate(self.depth);
        let logits = self
            .session
            .prefill(&self.prompts[set])
            .map_err(|error| fault(&error))?;
        if self.job == Job::Decode {
            self.started = Some((set, greedy(logits)));
            self.cursor = (set + 1) % INPUT_SETS;
        }
        Ok(())
    }

    fn run_loop(&mut self, at_least_ns: u64) -> Result<Done, Fault> {
        match self.job {
            Job::Prefill => self.loop_prompts(at_least_ns),
            _ => self.loop_tokens(at_least_ns),
        }
    }

    fn slice(&mut self, iterations: u64) -> Result<Done, Fault> {
        let mut all = Done::default();
        for _ in 0..iterations {
            let one = self.call()?;
            all.calls += one.calls;
            all.time_ns += one.time_ns;
            all.tokens.extend(one.tokens);
        }
        all.timeline = self.timeline.take();
        Ok(all)
    }

    fn answers(&mut self) -> Result<Vec<Answer>, Fault> {
        Ok(std::mem::take(&mut self.answers))
    }
}
