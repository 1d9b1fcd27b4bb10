//! Whole models: processing a prompt, and generating token by token.

use std::collections::BTreeMap;
use std::path::Path;

use trit_core::{TimelineRow, prompt_estimate};
use trit_engine::file::FileOptions;
use trit_engine::{
    ActivationType, Batch, Engine, EngineError, EngineOptions, ExtraWork, ModelName, PackedCache,
    Sampler, SamplerOptions, largest,
};
use trit_kernel::Cpu;
use trit_measure::{Clock, MonotonicClock};

use super::timeline::{Phase, Timeline};
use super::{Done, Fault, Subject, startup};
use crate::inputs;
use crate::protocol::{Answer, FailureKind, INPUT_SETS, Job, Opened, Task, Token};

/// Tokens whose logits are compared with the reference when a model is opened.
const CHECKED: usize = 4;
/// The input sets of the check and of what fills the cache before a request; the others are the requests' own.
const CHECK_SET: usize = INPUT_SETS;
const DEPTH_SET: usize = INPUT_SETS + 1;
/// Input sets of one sequence; those of the next one follow.
const SETS: usize = INPUT_SETS + 4;
/// Steps that sequences are decoded together for, before they are timed.
const CHECKED_STEPS: usize = 2;

/// A model's name, the kernel, and the seed of its weights.
type Model = (String, String, u64);

/// Engines of this worker by their model and the rest of their configuration: those of a model share its weights where they can. An
/// engine lives as long as its worker: sessions borrow it, and a worker that no cell needs any more ends.
#[derive(Default)]
pub(super) struct Engines {
    loaded: BTreeMap<Model, BTreeMap<String, Loaded>>,
    timeline: Option<Timeline>,
}

#[derive(Clone)]
struct Loaded {
    engine: &'static Engine,
    load_ns: u64,
    first_token_ns: Option<u64>,
    check: String,
}

pub(super) fn fault(error: &EngineError) -> Fault {
    let kind = match error {
        EngineError::File(error) if !error.is_io() => FailureKind::Content,
        EngineError::UnknownKernel(_)
        | EngineError::Unavailable { .. }
        | EngineError::Context { .. } => FailureKind::Unsupported,
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

fn options(task: &Task, cpu: Cpu) -> Result<EngineOptions, Fault> {
    let wrong = |error: EngineError| fault(&error);
    Ok(EngineOptions {
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
        cache: cache(task)?,
        max_memory_bytes: None,
    })
}

/// Where packed weights of the task's model are kept.
fn cache(task: &Task) -> Result<Option<PackedCache>, Fault> {
    if task.packed_cache.is_empty() {
        return Ok(None);
    }
    let (dir, model) = (Path::new(&task.packed_cache), Path::new(&task.model));
    let cache = PackedCache::new(dir, model).map_err(|error| fault(&error.into()))?;
    Ok(Some(cache))
}

pub(super) fn load(task: &Task, cpu: Cpu) -> Result<Engine, Fault> {
    let wrong = |error: EngineError| fault(&error);
    let options = options(task, cpu)?;
    let model = ModelName::parse(Path::new(&task.model)).map_err(Fault::unsupported)?;
    let checkpoint = model
        .checkpoint(task.seed, &options.file)
        .map_err(|error| wrong(error.into()))?;
    Engine::load(&checkpoint, &options).map_err(wrong)
}

/// An engine on the weights of one that is loaded, where one has those that the task needs.
fn beside<'a>(
    mut loaded: impl Iterator<Item = &'a Loaded>,
    task: &Task,
    cpu: Cpu,
) -> Result<Option<Engine>, Fault> {
    let options = options(task, cpu)?;
    loaded
        .find_map(|loaded| loaded.engine.beside(&options).transpose())
        .transpose()
        .map_err(|error| fault(&error))
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

/// Whether sequences of different lengths that are decoded together get the logits that each gets by itself, to the bit.
fn check_together(engine: &Engine, sequences: usize, seed: u64) -> Result<(), Fault> {
    let wrong = |error: EngineError| fault(&error);
    let vocab = engine.config().vocab;
    let prompt = |sequence| inputs::prompt(seed, CHECK_SET + SETS * sequence, CHECKED, vocab);
    let prompts: Vec<Vec<u32>> = (0..sequences).map(prompt).collect();
    let before = |sequence: usize| 1 + sequence % (CHECKED - CHECKED_STEPS);
    let mut batch = engine.batch(sequences, CHECKED).map_err(wrong)?;
    for (sequence, prompt) in prompts.iter().enumerate() {
        let prompt = &prompt[..before(sequence)];
        batch.prefill(sequence, prompt).map_err(wrong)?;
    }
    let mut together = Vec::with_capacity(CHECKED_STEPS);
    for step in 0..CHECKED_STEPS {
        let next = |(sequence, prompt): (usize, &Vec<u32>)| prompt[before(sequence) + step];
        let tokens: Vec<u32> = prompts.iter().enumerate().map(next).collect();
        let logits = batch.decode(&tokens).map_err(wrong)?;
        let digest = |logits: &[f32]| inputs::digest_floats(logits.iter().copied());
        together.push(logits.map(digest).collect::<Vec<_>>());
    }
    let mut alone = engine.session(CHECKED).map_err(wrong)?;
    for (sequence, prompt) in prompts.iter().enumerate() {
        alone.truncate(0);
        let (before, steps) = prompt.split_at(before(sequence));
        alone.prefill(before).map_err(wrong)?;
        for (step, together) in together.iter().enumerate() {
            let logits = alone.decode(steps[step]).map_err(wrong)?;
            if inputs::digest_floats(logits.iter().copied()) != together[sequence] {
                return Err(Fault::new(
                    FailureKind::Wrong,
                    format!(
                        "sequence {sequence} of {sequences} that are decoded together has other logits in step {step} than by itself"
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// The prompts of one sequence, one for each input set, and whether a text was spelled with the model's tokenizer.
pub(super) fn prompts(
    task: &Task,
    engine: &Engine,
    sequence: usize,
) -> Result<(Vec<Vec<u32>>, bool), Fault> {
    // The vocabulary of a model of random weights is made up: it spells every byte.
    let tokenizer = engine
        .tokenizer()
        .filter(|_| !task.prompt_text.is_empty() && engine.container() != "synthetic");
    if let Some(tokenizer) = tokenizer {
        let tokens = tokenizer
            .encode(&task.prompt_text)
            .map_err(|error| fault(&error))?;
        return Ok((vec![tokens; INPUT_SETS], true));
    }
    let tokens = if task.prompt_text.is_empty() {
        task.prompt_tokens
    } else {
        prompt_estimate(&task.prompt_text)
    };
    let tokens = count(tokens)?;
    let vocab = engine.config().vocab;
    let prompt = |set| inputs::prompt(task.seed, set + SETS * sequence, tokens, vocab);
    Ok(((0..INPUT_SETS).map(prompt).collect(), false))
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
        let model = (task.model.clone(), task.kernel.clone(), task.seed);
        let key = format!(
            "t{} {} {} u{} {} {}",
            task.threads, task.kv, task.head, task.ubatch, task.page_cache, task.packed_cache
        );
        let of_model = self.loaded.entry(model).or_default();
        if let Some(loaded) = of_model.get(&key) {
            return Ok((loaded.clone(), false));
        }
        let timeline = self.timeline.get_or_insert_with(Timeline::start);
        timeline.begin(Phase::Load);
        let (started, fresh) = if startup::counts(task) {
            (startup::start(task, cpu), true)
        } else {
            let start = MonotonicClock.now_ns();
            let shared = beside(of_model.values(), task, cpu);
            let fresh = matches!(shared, Ok(None));
            let engine = shared.and_then(|engine| engine.map_or_else(|| load(task, cpu), Ok));
            let load_ns = MonotonicClock.now_ns() - start;
            (engine.map(|engine| (engine, load_ns, None)), fresh)
        };
        timeline.end();
        let (engine, load_ns, first_token_ns) = started?;
        let engine: &'static Engine = Box::leak(Box::new(engine));
        let loaded = Loaded {
            engine,
            load_ns,
            first_token_ns,
            check: check(engine, task.seed)?,
        };
        of_model.insert(key, loaded.clone());
        Ok((loaded, fresh))
    }

    /// Opens a cell of a whole model.
    pub(super) fn open(&mut self, task: &Task, cpu: Cpu) -> Result<Box<dyn Subject>, Fault> {
        let (loaded, fresh) = self.get(task, cpu)?;
        let engine = loaded.engine;
        let (depth, generated) = (count(task.depth)?, count(task.gen_tokens)?);
        let sequences = count(task.batch)?.max(1);
        let mut all = Vec::with_capacity(sequences);
        let mut spelled = false;
        for sequence in 0..sequences {
            let (prompts, from_text) = prompts(task, engine, sequence)?;
            all.push(prompts);
            spelled = from_text;
        }
        let prompt = all[0][0].len();
        if prompt == 0 || (task.job == Job::Decode && generated < 2) {
            return Err(Fault::unsupported(
                "a request needs a prompt, and two tokens to generate",
            ));
        }
        if task.job == Job::Prefill && sequences > 1 {
            return Err(Fault::unsupported("prompts are processed one by one"));
        }
        if sequences > 1 {
            check_together(engine, sequences, task.seed)?;
        }
        let tokens = if task.job == Job::Decode {
            sequences
        } else {
            prompt
        };
        let extra =
            (task.added_work > 0.0).then(|| ExtraWork::new(engine, task.added_work, tokens));
        let timeline = self.timeline.get_or_insert_with(Timeline::start).clone();
        let mut request = Request {
            loading: timeline.take(),
            timeline,
            engine,
            batch: None,
            sequences,
            seed: task.seed,
            job: task.job,
            depth,
            generated,
            prompts: all,
            text: !task.prompt_text.is_empty(),
            spelled,
            load_ns: fresh.then_some(loaded.load_ns),
            first_token_ns: loaded.first_token_ns.filter(|_| fresh),
            check: loaded.check,
            cursor: 0,
            started: None,
            answers: Vec::new(),
            extra,
        };
        // Whether it fits is found out now.
        request.begin()?;
        request.rest();
        Ok(Box::new(request))
    }
}

/// Requests to one model, one for each sequence: a prompt, and tokens after it.
struct Request {
    engine: &'static Engine,
    /// Caches and buffers, while the cell is visited; kept between visits where a prompt stands in them that all requests follow.
    batch: Option<Batch<'static>>,
    sequences: usize,
    seed: u64,
    job: Job,
    depth: usize,
    generated: usize,
    /// Of each sequence, one for each input set.
    prompts: Vec<Vec<Vec<u32>>>,
    /// Whether they are a text, which is the same in every input set.
    text: bool,
    /// Whether it was spelled with the model's tokenizer.
    spelled: bool,
    load_ns: Option<u64>,
    first_token_ns: Option<u64>,
    check: String,
    cursor: usize,
    /// Of a decode cell that is ready to loop: the input set that is in the caches, and the token after each prompt.
    started: Option<(usize, Vec<u32>)>,
    answers: Vec<Answer>,
    extra: Option<ExtraWork<'static>>,
    timeline: Timeline,
    /// What was recorded while the model was loaded.
    loading: Vec<TimelineRow>,
}

/// The most likely token; the first of equals, and of all where one is not a number, which the check before the times would have said.
pub(super) fn greedy(logits: &[f32]) -> u32 {
    largest(logits).unwrap_or(0) as u32
}

/// The answer of a request that generated these tokens.
fn answer(set: usize, ids: &[u64]) -> Answer {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    Answer {
        set: set as u64,
        digest: inputs::digest_bytes(&bytes),
    }
}

/// The caches of a cell that is visited.
fn visited<'b>(batch: &'b mut Option<Batch<'static>>) -> Result<&'b mut Batch<'static>, Fault> {
    let none = || Fault::failed("a cell that is not visited has no cache");
    batch.as_mut().ok_or_else(none)
}

impl Request {
    /// A visit begins: caches and buffers are there, with all their pages, and in the caches what stands before every prompt.
    fn begin(&mut self) -> Result<(), Fault> {
        if self.batch.is_some() {
            return Ok(());
        }
        let wrong = |error: EngineError| fault(&error);
        let positions = self.depth + self.prompts[0][0].len() + self.generated;
        let mut batch = self
            .engine
            .batch(self.sequences, positions)
            .map_err(wrong)?;
        batch.touch();
        for sequence in (0..self.sequences).filter(|_| self.depth > 0) {
            let set = DEPTH_SET + SETS * sequence;
            let vocab = self.engine.config().vocab;
            let filling = inputs::prompt(self.seed, set, self.depth, vocab);
            batch.prefill(sequence, &filling).map_err(wrong)?;
        }
        self.batch = Some(batch);
        Ok(())
    }

    /// A visit is over: the cells that share the worker do not count this one's caches as theirs.
    fn rest(&mut self) {
        if self.depth == 0 {
            self.started = None;
            self.batch = None;
            trit_measure::sys::trim_heap();
        }
    }

    /// The caches as they are before a request.
    fn rewind(&mut self) {
        if let Some(batch) = &mut self.batch {
            for sequence in 0..self.sequences {
                batch.truncate(sequence, self.depth);
            }
        }
    }

    /// The next token of each sequence.
    fn step(&mut self, tokens: &mut [u32]) -> Result<(), Fault> {
        let batch = visited(&mut self.batch)?;
        let logits = batch.decode(tokens).map_err(|error| fault(&error))?;
        for (token, logits) in tokens.iter_mut().zip(logits) {
            *token = greedy(logits);
        }
        Ok(())
    }

    /// The answers of requests that generated `tokens`, the sequences of a step side by side.
    fn keep_answers(&mut self, set: usize, tokens: &[u64]) {
        let sequences = self.sequences;
        for sequence in 0..sequences {
            let ids: Vec<u64> = tokens
                .iter()
                .skip(sequence)
                .step_by(sequences)
                .copied()
                .collect();
            self.answers.push(answer(set + SETS * sequence, &ids));
        }
    }

    /// One request of each sequence; gives its times.
    fn call(&mut self) -> Result<Done, Fault> {
        let wrong = |error: EngineError| fault(&error);
        let set = self.cursor;
        self.cursor = (set + 1) % INPUT_SETS;
        self.rewind();
        let clock = MonotonicClock;
        self.timeline.begin(Phase::Prefill);
        let start = clock.now_ns();
        if self.job == Job::Prefill {
            let logits = visited(&mut self.batch)?.prefill(0, &self.prompts[0][set]);
            let logits = logits.map_err(wrong)?;
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
        let sequences = self.sequences;
        let mut next = Vec::with_capacity(sequences);
        let mut tokens = Vec::with_capacity(sequences * self.generated);
        for (sequence, prompts) in self.prompts.iter().enumerate() {
            let batch = visited(&mut self.batch)?;
            let logits = batch.prefill(sequence, &prompts[set]).map_err(wrong)?;
            let token = greedy(logits);
            next.push(token);
            tokens.push(Token {
                token: u64::from(token),
                time_ns: clock.now_ns() - start,
                sequence: sequence as u64,
            });
        }
        self.timeline.begin(Phase::Decode);
        let decode_at = clock.now_ns();
        let mut before = decode_at;
        for _ in 1..self.generated {
            self.step(&mut next)?;
            if let Some(extra) = &mut self.extra {
                extra.run();
            }
            let now = clock.now_ns();
            tokens.extend(next.iter().zip(0..).map(|(token, sequence)| Token {
                token: u64::from(*token),
                time_ns: now - before,
                sequence,
            }));
            before = now;
        }
        self.timeline.end();
        let ids: Vec<u64> = tokens.iter().map(|token| token.token).collect();
        self.keep_answers(set, &ids);
        Ok(Done {
            // The first token belongs to the prompt.
            calls: self.generated as u64 - 1,
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
            self.rewind();
            let prompt = &self.prompts[0][set];
            let logits = visited(&mut self.batch)?
                .prefill(0, prompt)
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

    /// The tokens after one prompt of each sequence, again and again: whole passes, so that the mean position is that of a
    /// request. The prompts are not among them. Every pass has to give the same tokens.
    fn loop_tokens(&mut self, at_least_ns: u64) -> Result<Done, Fault> {
        let (set, first) = self
            .started
            .take()
            .ok_or_else(|| Fault::failed("the cell is not ready to loop"))?;
        let sequences = first.len();
        // Behind the prompts, which are of one length.
        let after_prompt = visited(&mut self.batch)?.position(0);
        let clock = MonotonicClock;
        let start = clock.now_ns();
        let mut ids: Vec<u64> = Vec::with_capacity(sequences * self.generated);
        let mut calls = 0;
        for pass in 0.. {
            for sequence in 0..sequences {
                visited(&mut self.batch)?.truncate(sequence, after_prompt);
            }
            let mut tokens = first.clone();
            for at in 0..self.generated {
                if at > 0 {
                    self.step(&mut tokens)?;
                    calls += 1;
                }
                if pass == 0 {
                    ids.extend(tokens.iter().copied().map(u64::from));
                    continue;
                }
                let known = &ids[at * sequences..(at + 1) * sequences];
                let differs = tokens
                    .iter()
                    .zip(known)
                    .find(|(token, known)| u64::from(**token) != **known);
                if let Some((token, known)) = differs {
                    return Err(Fault::failed(format!(
                        "pass {pass} gave {token} as token {at}, and the first pass {known}"
                    )));
                }
            }
            if clock.now_ns() - start >= at_least_ns {
                break;
            }
        }
        let time_ns = clock.now_ns() - start;
        self.keep_answers(set, &ids);
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
        let prompt = self.prompts[0][0].len();
        if self.job == Job::Prefill {
            // Weights are read once a chunk and the chunks stay in a cache or not: there is no one number of bytes.
            (None, 2 * (config.linear_weights() * prompt as u64 + head))
        } else {
            let mean = self.depth + prompt + self.generated / 2;
            let sequences = self.sequences;
            let ops = 2 * sequences as u64 * (config.linear_weights() + head);
            (Some(self.engine.bytes_per_step(sequences, mean)), ops)
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
            first_token_ns: self.first_token_ns,
            timeline: self.loading.clone(),
            bytes_per_call,
            ops_per_call: Some(ops),
            linear_weights: Some(config.linear_weights()),
            prompt_tokens: self.text.then(|| self.prompts[0][0].len() as u64),
            spelled: self.spelled,
            attention_width: Some((config.layers * config.heads * config.head_dim) as u64),
            check: Some(self.check.clone()),
            ..Opened::default()
        }
    }

    fn warm_up(&mut self, calls: u64) -> Result<(), Fault> {
        self.begin()?;
        (0..calls).try_for_each(|_| self.call().map(|_| ()))
    }

    /// Logits belong to the session. Four prompts take turns, so those of the request before are no answer; where all prompts
    /// are one text, another token takes their place.
    fn poison(&mut self) {
        self.answers.clear();
        if self.text {
            let vocab = self.engine.config().vocab;
            let other = inputs::prompt(0, CHECK_SET, 1, vocab);
            self.rewind();
            if let Some(batch) = &mut self.batch {
                for sequence in 0..self.sequences {
                    // There is room for it: a prompt has a token, and nothing is behind the depth.
                    let _ = batch.prefill(sequence, &other);
                }
            }
        }
    }

    /// A prompt of each sequence, untimed: a warm-up of prefill, and where decode starts.
    fn ready(&mut self) -> Result<(), Fault> {
        self.begin()?;
        self.poison();
        let set = self.cursor;
        self.rewind();
        let mut first = Vec::with_capacity(self.sequences);
        for (sequence, prompts) in self.prompts.iter().enumerate() {
            let logits = visited(&mut self.batch)?.prefill(sequence, &prompts[set]);
            first.push(greedy(logits.map_err(|error| fault(&error))?));
        }
        if self.job == Job::Decode {
            self.started = Some((set, first));
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
        self.rest();
        Ok(std::mem::take(&mut self.answers))
    }
}
