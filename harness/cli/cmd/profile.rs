//! `tritbench profile`: where the time and the bytes of a token go.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use serde_json::{Value, json};
use trit_engine::{
    Engine, Memory, Profile, Role, Sampler, SamplerOptions, Session, ZERO_BLOCK, Zeros,
};
use trit_measure::{Clock, Memory as Resident, MonotonicClock, memory, sys::interrupt};
use trit_report::{Heading, PartKind, Phase, PhasePart, write_phases};
use trit_run::{ReadProbe, Timeouts, WorkerError};
use trit_stats::median;

use crate::args::{ComputeArgs, FileArgs, FormatArg, ModelArg, PrecisionArgs, SeedArg, positive};
use crate::engine::{engine_failure, open};
use crate::exit::{Exit, Failure, Outcome};
use crate::out::{Out, Table, human_bytes, say};
use crate::probe;

/// Bytes that the read probe goes through: what no cache holds.
const READ_BYTES: u64 = 1 << 30;

/// Shows where the time and the bytes of a token go: linears, attention, norms, head, waiting
#[derive(Args, Debug)]
#[command(
    long_about = "Shows where the time and the bytes of a token go, apart for prefill and decode: every linear, attention, norms and \
                  quantization, the head, sampling, and what threads wait for one another. Bytes are compared with the read bandwidth \
                  that is measured between the tokens, before and after each.\n\n\
                  It also says where the bytes of the process are: weights by role, KV cache, buffers, and how much of the resident set is \
                  anonymous and how much belongs to files.\n\n\
                  With --out the rows are kept layer by layer (profile.csv), with a chart (profile.svg, profile.png), folded stacks \
                  for viewers of flame graphs (profile.folded), the bytes (memory.csv), and how many inputs of the last projection of \
                  each layer are zero (zeros.csv).",
    after_help = "Examples:
  tritbench profile --model synth:125m
  tritbench profile --model model.gguf --threads 1 --prompt-tokens 512 --gen-tokens 128
  tritbench profile --model m.gguf --out out && flamegraph.pl out/profile.folded > flame.svg"
)]
pub(crate) struct ProfileArgs {
    #[command(flatten)]
    model: ModelArg,

    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value = "128", value_parser = positive)]
    prompt_tokens: usize,

    /// Tokens that are generated behind it
    #[arg(long, value_name = "N", default_value = "64", value_parser = positive)]
    gen_tokens: usize,

    /// Do not measure the read bandwidth
    #[arg(long)]
    no_limits: bool,

    /// A new directory for profile.csv, profile.svg, profile.png, profile.folded, memory.csv and zeros.csv
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    #[command(flatten)]
    compute: ComputeArgs,

    #[command(flatten)]
    precision: PrecisionArgs,

    #[command(flatten)]
    file: FileArgs,

    #[command(flatten)]
    seed: SeedArg,

    #[command(flatten)]
    format: FormatArg,
}

/// What was timed in one go, a prompt or a token.
#[derive(Default)]
struct Piece {
    /// Wall time, sampling included.
    time_ns: u64,
    sampling_ns: u64,
    /// Empty in rounds without a clock.
    profile: Profile,
    /// Bytes a nanosecond that memory gave just before and after, the mean; `None` where that was not measured.
    read: Option<f64>,
}

/// One phase as it was measured.
struct Measured {
    name: &'static str,
    tokens: usize,
    /// Its pieces, all of as many tokens.
    pieces: Vec<Piece>,
    /// Wall time without looking at the clock in between.
    plain_ns: u64,
    /// The sum of those of the pieces.
    profile: Profile,
    /// Tokens in the cache at the middle of the phase.
    position: usize,
}

impl Measured {
    /// Wall time, sampling included.
    fn time_ns(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.time_ns).sum()
    }

    fn sampling_ns(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.sampling_ns).sum()
    }

    /// Bytes a token that memory would have given in the time that `time_ns` takes of a piece: the median of the pieces. `None` without
    /// a time, and where the bandwidth was not measured.
    fn could_read(&self, time_ns: impl Fn(&Piece) -> u64) -> Option<f64> {
        let read = |piece: &Piece| Some(piece.read? * time_ns(piece) as f64);
        let bytes: Vec<f64> = self.pieces.iter().filter_map(read).collect();
        let tokens_of_a_piece = self.tokens as f64 / self.pieces.len() as f64;
        let bytes = median(&bytes)? / tokens_of_a_piece;
        (bytes > 0.0).then_some(bytes)
    }
}

/// The read probe, asked between the pieces of a phase.
struct Reads<'a> {
    probe: Option<ReadProbe>,
    asked: &'a AtomicBool,
    last: Option<f64>,
}

impl<'a> Reads<'a> {
    fn start(engine: &Engine, args: &ProfileArgs, asked: &'a AtomicBool) -> Result<Self, Failure> {
        let probe = if args.no_limits {
            None
        } else {
            let started = ReadProbe::start(
                &probe::worker_command()?,
                engine.threads(),
                READ_BYTES,
                Timeouts::default().setup,
                &|| asked.load(Ordering::SeqCst),
            );
            unless_interrupted(started)?
        };
        Ok(Self {
            probe,
            asked,
            last: None,
        })
    }

    /// Measures now, and gives the mean of this time and the last.
    fn between(&mut self) -> Result<Option<f64>, Failure> {
        let Some(probe) = &mut self.probe else {
            return Ok(None);
        };
        let asked = self.asked;
        let now = unless_interrupted(probe.slice(&|| asked.load(Ordering::SeqCst)))?;
        let last = std::mem::replace(&mut self.last, now);
        Ok(last.zip(now).map(|(last, now)| f64::midpoint(last, now)))
    }
}

/// Nothing when interrupted, which the loops over rounds and tokens see for themselves.
fn unless_interrupted<T>(answer: Result<Option<T>, WorkerError>) -> Result<Option<T>, Failure> {
    match answer {
        Err(WorkerError::Interrupted) => Ok(None),
        answer => answer.map_err(Failure::failed),
    }
}

pub(crate) fn run(args: &ProfileArgs) -> Outcome {
    if cfg!(debug_assertions) {
        say("note: this is a debug build, whose times mean little");
    }
    if let Some(out) = &args.out {
        new_directory(out)?;
    }
    let asked = interrupt::install().map_err(Failure::failed)?;
    let engine = open(
        &args.model.model,
        &args.compute,
        &args.precision,
        &args.file,
        args.seed.seed,
    )?;
    let Some((measured, resident)) = measure(&engine, args, asked)? else {
        return Ok(Exit::Interrupted);
    };
    let rows = table(&engine, &measured);
    Out::new().text(&rows.render(args.format.format))?;
    for phase in &measured {
        say(&summary(phase));
        if let Some(line) = zeros_line(phase) {
            say(&line);
        }
    }
    let needs = engine.memory(1, args.prompt_tokens.saturating_add(args.gen_tokens));
    say(&memory_line(&needs, &resident));
    if let Some(out) = &args.out {
        let memory = memory_table(&needs, engine.mapped_linear_bytes(), &resident);
        write(&engine, &args.model.model, &measured, &memory, out)?;
    }
    Ok(Exit::Done)
}

fn new_directory(path: &Path) -> Result<(), Failure> {
    let name = path.display();
    fs::create_dir_all(path)
        .and_then(|()| fs::read_dir(path))
        .map_err(|error| {
            Failure::failed(
                anyhow::Error::new(error).context(format!("cannot make directory `{name}`")),
            )
        })?
        .next()
        .map_or(Ok(()), |_| {
            Err(Failure::usage(anyhow::anyhow!(
                "`{name}` is not empty; hint: give another --out"
            )))
        })
}

/// Where the bytes are, in one line.
fn memory_line(needs: &Memory, resident: &Resident) -> String {
    let parts: Vec<String> = needs
        .parts()
        .iter()
        .map(|(part, bytes)| format!("{part} {}", human_bytes(*bytes)))
        .collect();
    let of = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), human_bytes);
    format!(
        "memory: {} ({}); resident {}: {} anonymous, {} of files",
        human_bytes(needs.sum()),
        parts.join(", "),
        of(resident.rss_bytes),
        of(resident.rss_anon_bytes),
        of(resident.rss_file_bytes),
    )
}

/// What the model and its sequence need, and what the process has resident, in bytes; empty where the system does not tell.
fn memory_table(needs: &Memory, mapped_linear_bytes: u64, resident: &Resident) -> Table {
    let mut table = Table::new(&["kind", "part", "bytes"]);
    for (part, bytes) in needs.parts() {
        table.row(["needed".into(), (*part).into(), (*bytes).into()]);
    }
    table.row(["needed".into(), "all".into(), needs.sum().into()]);
    table.row([
        "of these".into(),
        "linears in the file".into(),
        mapped_linear_bytes.into(),
    ]);
    for (part, bytes) in [
        ("all", resident.rss_bytes),
        ("anonymous", resident.rss_anon_bytes),
        ("of files", resident.rss_file_bytes),
        ("shared", resident.rss_shmem_bytes),
        ("swapped out", resident.swap_bytes),
        ("peak", resident.peak_rss_bytes),
    ] {
        let bytes = bytes.map_or(Value::Null, Value::from);
        table.row(["resident".into(), part.into(), bytes]);
    }
    table
}

/// Prefill and decode, each once to warm up, then without and with a clock, and the memory then; `None` when interrupted.
fn measure(
    engine: &Engine,
    args: &ProfileArgs,
    asked: &AtomicBool,
) -> Result<Option<(Vec<Measured>, Resident)>, Failure> {
    let vocab = engine.config().vocab;
    let mut rng = trit_core::Rng::named(args.seed.seed, "profile");
    let prompt: Vec<u32> = (0..args.prompt_tokens)
        .map(|_| rng.below(vocab as u64) as u32)
        .collect();
    let positions = prompt.len().saturating_add(args.gen_tokens);
    let mut session = engine.session(positions).map_err(engine_failure)?;
    let mut sampler = Sampler::new(SamplerOptions::default()).map_err(engine_failure)?;
    let mut reads = Reads::start(engine, args, asked)?;
    let mut plain = (0, 0);
    let mut kept = None;
    // The first round warms up, the second is without a clock, the third with it.
    for keep in [false, false, true] {
        if asked.load(Ordering::SeqCst) {
            return Ok(None);
        }
        session.truncate(0);
        session.profile(keep);
        if keep {
            reads.between()?;
        }
        let start = MonotonicClock.now_ns();
        let logits = session.prefill(&prompt).map_err(engine_failure)?;
        let time_ns = MonotonicClock.now_ns() - start;
        let first = sampler.sample(logits, &prompt).map_err(engine_failure)?;
        let mut prefill = Piece {
            time_ns,
            ..Piece::default()
        };
        if keep {
            prefill.profile = session.profile(true).unwrap_or_default();
            prefill.read = reads.between()?;
        }
        let reads = keep.then_some(&mut reads);
        let run = generate(
            &mut session,
            &mut sampler,
            first,
            args.gen_tokens,
            asked,
            reads,
        )?;
        let Some(decode) = run else {
            return Ok(None);
        };
        if keep {
            session.profile(false);
            kept = Some((prefill, decode));
        } else {
            let decode_ns = decode.iter().map(|piece| piece.time_ns).sum();
            plain = (prefill.time_ns, decode_ns);
        }
    }
    let Some((prefill, decode)) = kept else {
        return Ok(None);
    };
    let sum = |pieces: &[Piece]| {
        let mut sum = Profile::default();
        for piece in pieces {
            sum += &piece.profile;
        }
        sum
    };
    let phases = vec![
        Measured {
            name: "prefill",
            tokens: prompt.len(),
            profile: sum(std::slice::from_ref(&prefill)),
            pieces: vec![prefill],
            plain_ns: plain.0,
            position: prompt.len() / 2,
        },
        Measured {
            name: "decode",
            tokens: args.gen_tokens,
            profile: sum(&decode),
            pieces: decode,
            plain_ns: plain.1,
            position: prompt.len() + args.gen_tokens / 2,
        },
    ];
    Ok(Some((phases, memory())))
}

/// Generates, a piece a token; with `reads` the session keeps a profile, and memory is asked between the tokens.
fn generate(
    session: &mut Session<'_>,
    sampler: &mut Sampler,
    first: u32,
    tokens: usize,
    asked: &AtomicBool,
    mut reads: Option<&mut Reads<'_>>,
) -> Result<Option<Vec<Piece>>, Failure> {
    let mut token = first;
    let mut pieces = Vec::with_capacity(tokens);
    for _ in 0..tokens {
        if asked.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let start = MonotonicClock.now_ns();
        let logits = session.decode(token).map_err(engine_failure)?;
        let before = MonotonicClock.now_ns();
        token = sampler.sample(logits, &[]).map_err(engine_failure)?;
        let end = MonotonicClock.now_ns();
        let mut piece = Piece {
            time_ns: end - start,
            sampling_ns: end - before,
            ..Piece::default()
        };
        if let Some(reads) = &mut reads {
            piece.profile = session.profile(true).unwrap_or_default();
            piece.read = reads.between()?;
        }
        pieces.push(piece);
    }
    Ok(Some(pieces))
}

/// A part of a phase, per token.
struct Part {
    name: &'static str,
    kind: PartKind,
    work_ns: f64,
    wait_ns: f64,
    bytes: Option<f64>,
    /// Bytes that memory would have given meanwhile.
    could_read: Option<f64>,
    /// Multiplications and additions of ternary linears.
    ops: Option<f64>,
}

impl Part {
    fn time_ns(&self) -> f64 {
        self.work_ns + self.wait_ns
    }

    /// Bytes a nanosecond.
    fn rate(&self) -> Option<f64> {
        self.bytes
            .filter(|_| self.time_ns() > 0.0)
            .map(|bytes| bytes / self.time_ns())
    }

    /// Percent of the bytes that memory would have given meanwhile.
    fn percent_of_read(&self) -> Option<f64> {
        let share = self.bytes.zip(self.could_read);
        share.map(|(bytes, could_read)| 100.0 * bytes / could_read)
    }

    /// Operations a nanosecond.
    fn gops(&self) -> Option<f64> {
        self.ops
            .filter(|_| self.time_ns() > 0.0)
            .map(|ops| ops / self.time_ns())
    }
}

/// How often the weights of a role were read in a phase.
fn passes(engine: &Engine, phase: &Measured, role: Role) -> usize {
    match phase.name {
        "prefill" => engine.passes(role, phase.tokens),
        _ => phase.tokens,
    }
}

/// What a role reads in a phase, per token of it; `None` where that is nothing worth a rate.
fn bytes(engine: &Engine, phase: &Measured, role: Role) -> Option<f64> {
    let once = engine.role_bytes(role, phase.position) as f64;
    let tokens = phase.tokens as f64;
    match role {
        Role::Embedding | Role::Norms | Role::Rope => None,
        // Every token has its own part of the cache to read, and a prompt's logits are wanted once.
        Role::Attention => Some(once),
        Role::Head if phase.name == "prefill" => Some(once / tokens),
        _ => Some(once * passes(engine, phase, role) as f64 / tokens),
    }
}

fn parts(engine: &Engine, phase: &Measured) -> Vec<Part> {
    let tokens = phase.tokens as f64;
    let linears = Role::ALL.iter().filter(|role| role.is_linear()).count();
    let (mut linear, mut other) = (0, 0);
    let mut parts: Vec<Part> = Vec::new();
    for role in Role::ALL {
        let kind = if role.is_linear() {
            linear += 1;
            PartKind::Linear(linear - 1, linears)
        } else {
            other += 1;
            PartKind::Other(other - 1)
        };
        let spent = phase.profile.role(role);
        parts.push(Part {
            name: role.name(),
            kind,
            work_ns: spent.work_ns as f64 / tokens,
            wait_ns: spent.wait_ns as f64 / tokens,
            bytes: bytes(engine, phase, role),
            could_read: phase.could_read(|piece| {
                let spent = piece.profile.role(role);
                spent.work_ns + spent.wait_ns
            }),
            ops: role
                .is_linear()
                .then(|| 2.0 * engine.role_weights(role) as f64),
        });
    }
    let sampling_ns = phase.sampling_ns();
    if sampling_ns > 0 {
        parts.push(Part {
            name: "sampling",
            kind: PartKind::Other(other),
            work_ns: sampling_ns as f64 / tokens,
            wait_ns: 0.0,
            bytes: None,
            could_read: None,
            ops: None,
        });
    }
    parts
}

/// Three digits behind the point.
fn rounded(value: f64) -> Value {
    json!((value * 1000.0).round() / 1000.0)
}

fn table(engine: &Engine, measured: &[Measured]) -> Table {
    let mut table = Table::new(&[
        "phase",
        "role",
        "us_per_token",
        "wait_us_per_token",
        "percent",
        "mb_per_token",
        "gb_per_s",
        "percent_of_read",
        "gops",
    ]);
    for phase in measured {
        let parts = parts(engine, phase);
        let total_ns: f64 = parts.iter().map(Part::time_ns).sum();
        let all = Part {
            name: "all",
            kind: PartKind::Other(0),
            work_ns: parts.iter().map(|part| part.work_ns).sum(),
            wait_ns: parts.iter().map(|part| part.wait_ns).sum(),
            bytes: Some(parts.iter().filter_map(|part| part.bytes).sum()),
            could_read: phase.could_read(|piece| piece.profile.total_ns() + piece.sampling_ns),
            // The rate of the linears says more than one over everything.
            ops: None,
        };
        for part in parts.iter().chain([&all]) {
            let number = |value: Option<f64>| value.map_or(Value::Null, rounded);
            table.row([
                phase.name.into(),
                part.name.into(),
                rounded(part.time_ns() / 1e3),
                rounded(part.wait_ns / 1e3),
                rounded(100.0 * part.time_ns() / total_ns),
                number(part.bytes.map(|bytes| bytes / 1e6)),
                number(part.rate()),
                number(part.percent_of_read()),
                number(part.gops()),
            ]);
        }
    }
    table
}

fn summary(phase: &Measured) -> String {
    let rate = |time_ns: u64| phase.tokens as f64 * 1e9 / time_ns.max(1) as f64;
    format!(
        "{}: {} token{}, {:.1} tokens/s; without the clock {:.1} tokens/s",
        phase.name,
        phase.tokens,
        if phase.tokens == 1 { "" } else { "s" },
        rate(phase.time_ns()),
        rate(phase.plain_ns),
    )
}

/// How sparse the inputs of the last projection are; `None` where they stay floats.
fn zeros_line(phase: &Measured) -> Option<String> {
    let mut all = Zeros::default();
    for layer in &phase.profile.zeros {
        all += *layer;
    }
    let percent = |part: u64, of: u64| 100.0 * part as f64 / of as f64;
    (all.codes > 0).then(|| {
        format!(
            "{}: {:.1} % of the inputs of `down` are zero, and {:.2} % of the blocks of {ZERO_BLOCK} columns",
            phase.name,
            percent(all.zero_codes, all.codes),
            percent(all.zero_blocks, all.blocks),
        )
    })
}

/// The zeros layer by layer.
fn zeros_table(measured: &[Measured]) -> Table {
    let mut table = Table::new(&[
        "phase",
        "layer",
        "codes",
        "zero_codes",
        "blocks",
        "zero_blocks",
    ]);
    for phase in measured {
        for (layer, zeros) in phase.profile.zeros.iter().enumerate() {
            table.row([
                phase.name.into(),
                layer.into(),
                zeros.codes.into(),
                zeros.zero_codes.into(),
                zeros.blocks.into(),
                zeros.zero_blocks.into(),
            ]);
        }
    }
    table
}

/// The files of `--out`.
fn write(
    engine: &Engine,
    model: &Path,
    measured: &[Measured],
    memory: &Table,
    out: &Path,
) -> Result<(), Failure> {
    let io = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|error| {
            let name = path.display();
            Failure::failed(anyhow::Error::new(error).context(format!("cannot write `{name}`")))
        })
    };
    io(
        &out.join("profile.csv"),
        &layers(engine, measured).render(crate::args::Format::Csv),
    )?;
    io(&out.join("profile.folded"), &folded(measured))?;
    io(
        &out.join("memory.csv"),
        &memory.render(crate::args::Format::Csv),
    )?;
    io(
        &out.join("zeros.csv"),
        &zeros_table(measured).render(crate::args::Format::Csv),
    )?;
    let heading = Heading {
        session: format!(
            "{}, {} and {}, {} threads, head {}, KV {}",
            model.display(),
            engine.prefill_kernel_id(),
            engine.kernel_id(),
            engine.threads(),
            engine.head(),
            engine.kv(),
        ),
        machine: trit_measure::machine().cpu.model.unwrap_or_default(),
        ..Heading::default()
    };
    let phases: Vec<Phase> = measured
        .iter()
        .map(|phase| Phase {
            title: summary(phase),
            parts: parts(engine, phase)
                .into_iter()
                .filter(|part| part.time_ns() > 0.0)
                .map(|part| {
                    let mut remark = String::new();
                    // Many tokens share what is read: there arithmetic is what counts.
                    let shared = passes(engine, phase, Role::Qkv) < phase.tokens;
                    if let Some(gops) = part.gops().filter(|_| shared) {
                        let _ = write!(remark, "{gops:.0} GOPS");
                    } else if let Some(rate) = part.rate() {
                        let _ = write!(remark, "{rate:.1} GB/s");
                        if let Some(percent) = part.percent_of_read() {
                            let _ = write!(remark, " · {percent:.0} % of read");
                        }
                    }
                    PhasePart {
                        name: part.name.to_owned(),
                        kind: part.kind,
                        work_ns: part.work_ns,
                        wait_ns: part.wait_ns,
                        remark,
                    }
                })
                .collect(),
        })
        .collect();
    write_phases(&heading, &phases, out).map_err(Failure::failed)?;
    say(&format!(
        "results in {}: profile.csv, memory.csv, zeros.csv, profile.folded, profile.svg, profile.png",
        out.display()
    ));
    Ok(())
}

/// Every layer and role, not divided by anything.
fn layers(engine: &Engine, measured: &[Measured]) -> Table {
    let mut table = Table::new(&[
        "phase", "tokens", "layer", "role", "work_ns", "wait_ns", "bytes",
    ]);
    for phase in measured {
        let count = engine.config().layers;
        for (layer, spent) in phase.profile.layers.iter().enumerate() {
            for (role, spent) in Role::ALL.into_iter().zip(spent) {
                // What is within layers is not outside of them, and the other way round.
                if spent.work_ns + spent.wait_ns == 0 {
                    continue;
                }
                let inside = layer < count;
                let share = if inside { count as f64 } else { 1.0 };
                let bytes = bytes(engine, phase, role)
                    .map(|bytes| (bytes * phase.tokens as f64 / share).round() as u64);
                table.row([
                    phase.name.into(),
                    phase.tokens.into(),
                    if inside { layer.into() } else { Value::Null },
                    role.name().into(),
                    spent.work_ns.into(),
                    spent.wait_ns.into(),
                    bytes.map_or(Value::Null, Value::from),
                ]);
            }
        }
        let sampling_ns = phase.sampling_ns();
        if sampling_ns > 0 {
            table.row([
                phase.name.into(),
                phase.tokens.into(),
                Value::Null,
                "sampling".into(),
                sampling_ns.into(),
                0.into(),
                Value::Null,
            ]);
        }
    }
    table
}

/// Folded stacks, nanoseconds as counts: `decode;layer 03;down;wait 1234`.
fn folded(measured: &[Measured]) -> String {
    let mut text = String::new();
    let mut line = |stack: &str, time_ns: u64| {
        if time_ns > 0 {
            let _ = writeln!(text, "{stack} {time_ns}");
        }
    };
    for phase in measured {
        let count = phase.profile.layers.len() - 1;
        for (layer, spent) in phase.profile.layers.iter().enumerate() {
            let place = if layer < count {
                format!("{};layer {layer:02}", phase.name)
            } else {
                phase.name.to_owned()
            };
            for (role, spent) in Role::ALL.into_iter().zip(spent) {
                line(&format!("{place};{};work", role.name()), spent.work_ns);
                line(&format!("{place};{};wait", role.name()), spent.wait_ns);
            }
        }
        line(&format!("{};sampling", phase.name), phase.sampling_ns());
    }
    text
}
