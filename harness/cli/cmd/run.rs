//! `tritbench run`: measure a suite, leave a run directory.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use trit_core::{
    EnergyFacts, EnergyMode, MeterChoice, NOT_MEASURED, Plan, RunDir, RunDirError, Session, Suite,
    SuiteError, ThreadCount, show_duration,
};
use trit_engine::ModelName;
use trit_engine::file::FileOptions;
use trit_measure::{Machine, MonotonicClock, sys::interrupt};
use trit_report::Question;
use trit_run::{
    EnergyMeans, EnergyPass, MachineMeter, Overrides, PlanContext, RunOptions, SessionFacts,
    Timeouts, WorkerCommand, WorkerError,
};

use crate::args::{ExpectArg, FormatArg, PassArgs, budget, thread_count};
use crate::cmd::report::{record_failure, write_reports};
use crate::cmd::{compare, file_failure};
use crate::engine;
use crate::exit::{Exit, Failure, Outcome};
use crate::files;
use crate::meter;
use crate::out::{Out, Table, say};
use crate::probe;
use crate::progress::Bar;

/// Measures this machine with a suite and leaves tables, charts and a report
#[derive(Args, Debug)]
#[command(
    long_about = "Measures this machine with a suite and leaves tables, charts and a report.\n\n\
                  Every answer is checked against the scalar definition before its time counts. The run directory holds all samples \
                  (measurements.csv, tokens.csv), a row a cell (cells.csv, summary.csv), what ran where (session.json), charts as SVG \
                  and PNG, report.md and report.html. A run that was stopped goes on with --resume.",
    after_help = "Examples:
  tritbench run                                      the quick suite, under two minutes
  tritbench run --list                               the plan, and the time it would take
  tritbench run --model model.gguf --threads 1,2     your model instead of those of the suite
  tritbench run --kernel w2a8-mad-avx2 --budget 20s  one kernel
  tritbench run my-suite.toml --out results          a suite of your own
  tritbench run --energy true --require-energy       joules of every cell, or exit code 6
  tritbench run --compare before                     what changed since that run
  tritbench run --resume results                     go on where a run stopped"
)]
pub(crate) struct RunArgs {
    /// Name of an embedded suite, or path of a TOML file
    #[arg(value_name = "SUITE", default_value = "quick")]
    suite: String,

    /// Measure this model instead of the suite's: a GGUF file, a folder with safetensors, synth:SHAPE, or builtin:shakespeare; may be repeated
    #[arg(long, value_name = "PATH")]
    model: Vec<String>,

    #[command(flatten)]
    expect: ExpectArg,

    /// Thread counts instead of the suite's, for example 1,2 or 1,all
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = thread_count)]
    threads: Vec<ThreadCount>,

    /// Only these kernels and baselines
    #[arg(long, value_name = "ID,...", value_delimiter = ',')]
    kernel: Vec<String>,

    /// The directory for the results: new or empty [default: one under runs/, named by time, host and suite]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Time that the run may take, for example 90s or 2m [default: the suite's]
    #[arg(long, value_name = "TIME", value_parser = budget)]
    budget: Option<Duration>,

    /// Only cells whose id contains this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

    /// Seed of inputs and order [default: the suite's]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Go on with the run in this directory
    #[arg(long, value_name = "DIR", conflicts_with_all = ["suite", "model", "threads", "kernel", "out", "budget", "filter", "seed", "list", "expect_sha256"])]
    resume: Option<PathBuf>,

    /// Print the plan to stdout and measure nothing
    #[arg(long, visible_alias = "dry-run")]
    list: bool,

    /// Record although this build has debug assertions; its times mean nothing
    #[arg(long)]
    allow_debug: bool,

    /// Print a comparison with these results instead of the summary: a run directory, or a file like summary.csv
    #[arg(long, value_name = "DIR", conflicts_with = "list")]
    compare: Option<PathBuf>,

    #[command(flatten)]
    energy: PassArgs,

    #[command(flatten)]
    format: FormatArg,

    /// For commands that make something else of the run.
    #[arg(skip)]
    quiet: bool,
}

impl RunArgs {
    /// A run of a suite whose rows are not printed.
    pub(crate) fn of_suite(
        suite: &str,
        budget: Option<Duration>,
        out: Option<PathBuf>,
        allow_debug: bool,
        format: FormatArg,
    ) -> Self {
        Self {
            suite: suite.to_owned(),
            model: Vec::new(),
            expect: ExpectArg::default(),
            threads: Vec::new(),
            kernel: Vec::new(),
            out,
            budget,
            filter: None,
            seed: None,
            resume: None,
            list: false,
            allow_debug,
            compare: None,
            energy: PassArgs::default(),
            format,
            quiet: true,
        }
    }
}

pub(crate) fn run(args: &RunArgs) -> Outcome {
    measure(args).map(|(exit, _)| exit)
}

/// How it ended, and where the rows are, if there are any.
type Measured = Result<(Exit, Option<RunDir>), Failure>;

/// Carries a run out.
pub(crate) fn measure(args: &RunArgs) -> Measured {
    if cfg!(debug_assertions) && !args.allow_debug && !args.list {
        return Err(Failure::unusable(anyhow::anyhow!(
            "this is a debug build, whose times mean nothing; hint: cargo run --release -- run, or --allow-debug to record anyway"
        )));
    }
    // What cannot be read should be told before minutes of measuring.
    if let Some(path) = &args.compare {
        compare::read(path)?;
    }
    let asked = interrupt::install().map_err(Failure::failed)?;
    let interrupted = || asked.load(std::sync::atomic::Ordering::SeqCst);
    match &args.resume {
        Some(dir) => resume(args, dir, &interrupted),
        None => fresh(args, &interrupted),
    }
}

fn fresh(args: &RunArgs, interrupted: &dyn Fn() -> bool) -> Measured {
    let suite = load_suite(&args.suite)?;
    let source = suite.energy.source;
    let mode = args.energy.energy.unwrap_or(suite.energy.mode);
    let energy = open_energy(args, mode, source, suite.energy.max_others)?;
    check_kernels(&args.kernel)?;
    args.model.iter().try_for_each(|model| check_model(model))?;
    if let Some(digest) = &args.expect.expect_sha256 {
        let [model] = args.model.as_slice() else {
            return Err(Failure::usage(anyhow::anyhow!(
                "--expect-sha256 {digest} is of one model; hint: name it with --model"
            )));
        };
        engine::expect(Path::new(model), &args.expect)?;
    }
    probe::cpu()?;
    let worker = probe::worker_command()?;
    // Made before the survey: a directory that cannot be written should not cost anybody's time.
    let machine = trit_measure::machine();
    let dir = if args.list {
        None
    } else {
        Some(make_dir(args, &suite, &machine)?)
    };

    say("looking at the kernels of this machine");
    let survey = match trit_run::survey(
        &worker,
        &args.kernel,
        Timeouts::default().start,
        interrupted,
    ) {
        Ok(survey) => survey,
        Err(WorkerError::Interrupted) => {
            remove_empty(dir.as_ref());
            return Ok((Exit::Interrupted, None));
        }
        Err(error) => return Err(Failure::failed(error)),
    };
    let overrides = Overrides {
        models: args.model.clone(),
        threads: args.threads.clone(),
        kernels: args.kernel.clone(),
        budget: args.budget,
        seed: args.seed,
        filter: args.filter.clone(),
        energy: args.energy.energy,
        energy_source: args.energy.meter.choice(),
    };
    let context = PlanContext::of_machine(&machine, &survey, &suite, overrides);
    let mut plan = trit_run::plan(&suite, &context).map_err(|error| {
        remove_empty(dir.as_ref());
        Failure::usage(error)
    })?;
    say(&describe(&plan));
    let Some(dir) = dir else {
        Out::new().text(&plan_table(&plan).render(args.format.format))?;
        return Ok((Exit::Done, None));
    };
    name_models(&mut plan)?;
    let session = trit_run::new_session(&suite, &plan, &machine, &survey, this_program());
    carry_out(args, session, &dir, worker, energy, interrupted)
}

/// What this program knows about itself.
pub(super) fn this_program() -> SessionFacts {
    SessionFacts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        git_revision: Some(env!("TRIT_REVISION"))
            .filter(|revision| !revision.is_empty())
            .map(ToOwned::to_owned),
        argv: std::env::args_os()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect(),
        isa_cap: probe::isa_cap(),
    }
}

/// The meter of a run with its facts, or why there is none.
type Opened = (EnergyFacts, Option<MachineMeter>);

/// Opens the meter before anything is timed, and says once why there is none.
fn open_energy(
    args: &RunArgs,
    mode: EnergyMode,
    source: MeterChoice,
    max_others: f64,
) -> Result<Opened, Failure> {
    if mode == EnergyMode::Off {
        if args.energy.require_energy {
            return Err(Failure::usage(anyhow::anyhow!(
                "--require-energy, and the energy pass is off; hint: add --energy true"
            )));
        }
        let facts = EnergyFacts {
            status: "off".to_owned(),
            reason: "the suite or the command line turns the energy pass off".to_owned(),
            ..EnergyFacts::default()
        };
        return Ok((facts, None));
    }
    // A list measures nothing, but a wrong flag is told all the same.
    let meter = &args.energy.meter;
    meter.source_of_run(source)?;
    meter.sysfs.roots()?;
    if args.list {
        return Ok((EnergyFacts::default(), None));
    }
    let outside = meter.choice().unwrap_or(source) == MeterChoice::External;
    if outside && meter.energy_log.is_none() && args.energy.require_energy {
        return Err(Failure::usage(anyhow::anyhow!(
            "--require-energy, and the log of the outside meter is not here; hint: name it with --energy-log FILE"
        )));
    }
    match meter.open_for_run(source, max_others)? {
        Ok((meter, facts)) => Ok((facts, Some(meter))),
        Err(facts) if args.energy.require_energy => Err(meter::missing(&facts)),
        Err(facts) => {
            say(&format!("no energy: {}", meter::told(&facts)));
            Ok((facts, None))
        }
    }
}

fn resume(args: &RunArgs, path: &Path, interrupted: &dyn Fn() -> bool) -> Measured {
    let dir = RunDir::open(path).map_err(|error| record_failure(&error))?;
    let session = dir.session().map_err(|error| record_failure(&error))?;
    let version = env!("CARGO_PKG_VERSION");
    if session.version != version {
        return Err(Failure::unusable(anyhow::anyhow!(
            "`{}` was recorded by version {} and this is {version}: rows of both would not compare; hint: start a new run",
            path.display(),
            session.version
        )));
    }
    let recorded: Option<Machine> = serde_json::from_value(session.machine.clone()).ok();
    if recorded
        .is_none_or(|recorded| recorded.fingerprint() != trit_measure::machine().fingerprint())
    {
        return Err(Failure::unusable(anyhow::anyhow!(
            "`{}` was recorded on another machine or under other limits; hint: start a new run here",
            path.display()
        )));
    }
    probe::cpu()?;
    if session.isa_cap != probe::isa_cap() {
        return Err(Failure::unusable(anyhow::anyhow!(
            "`{}` was recorded under {}: rows of both would not compare; hint: go on under the same, or start a new run",
            path.display(),
            if session.isa_cap.is_empty() {
                "no TRIT_ISA".to_owned()
            } else {
                format!("TRIT_ISA={}", session.isa_cap)
            }
        )));
    }
    let worker = probe::worker_command()?;
    let plan = &session.plan.energy;
    let energy = open_energy(args, plan.mode, plan.source, plan.max_others)?;
    say(&describe(&session.plan));
    carry_out(args, session, &dir, worker, energy, interrupted)
}

fn carry_out(
    args: &RunArgs,
    session: Session,
    dir: &RunDir,
    worker: WorkerCommand,
    (facts, meter): Opened,
    interrupted: &dyn Fn() -> bool,
) -> Measured {
    let means = meter.map(|meter| EnergyMeans {
        meter: Box::new(meter),
        wait: &std::thread::park_timeout,
    });
    let path = dir.path().display().to_string();
    let mut bar = Bar::new();
    let outcome = trit_run::execute(
        RunOptions {
            session,
            dir: dir.clone(),
            worker,
            timeouts: Timeouts::default(),
            interrupted,
            clock: &MonotonicClock,
            energy: EnergyPass {
                facts,
                means,
                log: args.energy.meter.energy_log.clone(),
                required: args.energy.require_energy,
            },
        },
        &mut bar,
    );
    bar.clear();
    let trit_run::RunError::Record(error) = match outcome {
        Ok(outcome) => return finish(args, dir, &outcome).map(|exit| (exit, Some(dir.clone()))),
        Err(error) => error,
    };
    say(&format!("what was recorded so far is in {path}"));
    Err(record_failure(&error))
}

fn finish(args: &RunArgs, dir: &RunDir, outcome: &trit_run::Outcome) -> Outcome {
    let path = dir.path().display();
    if outcome.interrupted {
        say(&format!(
            "interrupted; the rows so far are in {path}; hint: go on with tritbench run --resume {path}"
        ));
        return Ok(Exit::Interrupted);
    }
    let (rows, charts) = write_reports(dir)?;
    for cell in outcome.cells.iter().filter(|cell| !cell.reason.is_empty()) {
        say(&format!("{}: {}: {}", cell.status, cell.cell, cell.reason));
    }
    say(&format!(
        "results in {path}: report.md, report.html, summary.csv, {} charts in charts/, all samples in measurements.csv and tokens.csv",
        charts.len()
    ));
    if let Some(before) = &args.compare {
        let sources = [compare::read(before)?, compare::read(dir.path())?];
        let found = trit_report::contrast(&sources, &Question::default());
        compare::show(&found.map_err(compare::failure)?, args.format.format)?;
    } else if !args.quiet {
        Out::new().text(&trit_report::render(&rows, args.format.format.into()))?;
    }
    Ok(match outcome.exit_code() {
        0 => Exit::Done,
        130 => Exit::Interrupted,
        7 => Exit::Wrong,
        6 => Exit::EnergyMissing,
        5 => Exit::Unusable,
        _ => Exit::Failed,
    })
}

/// An embedded suite by its name, or a file.
pub(super) fn load_suite(name: &str) -> Result<Suite, Failure> {
    let parsed = |result: Result<Suite, SuiteError>| result.map_err(Failure::unusable);
    if let Some(text) = trit_core::embedded_suite(name) {
        return parsed(Suite::parse(name, text));
    }
    let looks_like_a_path = name.contains(['/', '.']) || Path::new(name).exists();
    if !looks_like_a_path {
        return Err(Failure::usage(anyhow::anyhow!(
            "unknown suite `{name}`; hint: one of {}, or the path of a TOML file",
            trit_core::suite_names().join(" ")
        )));
    }
    let text = files::text("suite", Path::new(name))?;
    parsed(Suite::parse(name, &text))
}

/// Every id is a kernel or a baseline.
fn check_kernels(ids: &[String]) -> Result<(), Failure> {
    ids.iter().try_for_each(|id| {
        if trit_kernels::find_dense(id).is_ok() {
            return Ok(());
        }
        trit_kernels::find(id).map(drop).map_err(Failure::usage)
    })
}

/// A model that cannot be opened is told at once and not after the survey.
fn check_model(model: &str) -> Result<(), Failure> {
    let model = ModelName::parse(Path::new(model)).map_err(Failure::usage)?;
    model
        .checkpoint(0, &FileOptions::default())
        .map(drop)
        .map_err(file_failure)
}

fn make_dir(args: &RunArgs, suite: &Suite, machine: &Machine) -> Result<RunDir, Failure> {
    match &args.out {
        Some(path) => RunDir::create(path),
        None => RunDir::create_in(
            Path::new("runs"),
            &trit_run::utc_compact(),
            machine.host.hostname.as_deref().unwrap_or("unknown"),
            &suite.name,
        ),
    }
    .map_err(|error| match error {
        RunDirError::NotEmpty { .. } => Failure::usage(error),
        error => record_failure(&error),
    })
}

/// Takes back a directory that nothing was written to. One that is not empty stays, which is all that an error can mean here.
fn remove_empty(dir: Option<&RunDir>) {
    if let Some(dir) = dir {
        let _ = fs::remove_dir(dir.path());
    }
}

/// Gives every cell of a model file the digest of the file, which is read once.
pub(super) fn name_models(plan: &mut Plan) -> Result<(), Failure> {
    let mut digests: BTreeMap<String, String> = BTreeMap::new();
    for planned in &mut plan.cells {
        let cell = &mut planned.cell;
        if cell.model.is_empty() {
            continue;
        }
        let digest = match digests.get(&cell.model) {
            Some(digest) => digest.clone(),
            None => ModelName::parse(Path::new(&cell.model))
                .map_err(Failure::usage)?
                .sha256()
                .map_err(file_failure)?
                // Random weights are in no file.
                .unwrap_or_default(),
        };
        cell.model_sha256.clone_from(&digest);
        digests.insert(cell.model.clone(), digest);
    }
    Ok(())
}

/// What is planned, for people: how much, and the cells grouped by what they do.
pub(super) fn describe(plan: &Plan) -> String {
    let time = |ns| show_duration(Duration::from_nanos(ns));
    let how_long = format!(
        " and {} pairs, about {} of the {} given",
        plan.pairs.len(),
        time(plan.expected_ns),
        time(plan.budget_ns)
    );
    describe_cells(plan, &how_long)
}

/// The cells of a plan, for people; `how_long` follows their number.
pub(super) fn describe_cells(plan: &Plan, how_long: &str) -> String {
    let measured = |planned: &&trit_core::PlannedCell| planned.cell.reason == NOT_MEASURED;
    let cells = plan.cells.iter().filter(measured).count();
    let mut text = format!("{cells} cells{how_long}");
    let others = plan.cells.len() - cells;
    if others > 0 {
        let _ = write!(text, "; {others} cells cannot run");
    }
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for planned in plan.cells.iter().filter(measured) {
        let cell = &planned.cell;
        let what = match (cell.rows, cell.k, cell.model.as_str()) {
            (Some(rows), Some(k), _) => format!("{} {rows}x{k}", cell.workload),
            (_, _, "") => cell.workload.to_string(),
            (_, _, model) => format!("{} {model}", cell.workload),
        };
        let what = match cell.tokens {
            Some(tokens) if tokens > 1 => format!("{what}, {tokens} tokens"),
            _ => what,
        };
        let at = groups.iter().position(|(group, _)| *group == what);
        let at = at.unwrap_or_else(|| {
            groups.push((what, Vec::new()));
            groups.len() - 1
        });
        let subject = cell.subject.clone();
        if !groups[at].1.contains(&subject) {
            groups[at].1.push(subject);
        }
    }
    let energy = &plan.energy;
    if energy.expected_ns > 0 {
        let _ = write!(
            text,
            "\n  where there is an energy meter: windows of {} cells and {} pairs, about {} more",
            energy.cells.len(),
            energy.pairs.len(),
            show_duration(Duration::from_nanos(energy.expected_ns))
        );
    }
    for (what, subjects) in groups {
        let _ = write!(text, "\n  {what}: {}", subjects.join(" "));
    }
    text
}

/// The plan as rows.
fn plan_table(plan: &Plan) -> Table {
    let mut table = Table::new(&["cell", "status", "reason", "visit_ns", "budget_ns"]);
    for planned in &plan.cells {
        let runs = planned.cell.reason == NOT_MEASURED;
        let known = |ns: u64| if runs { Value::from(ns) } else { Value::Null };
        table.row([
            planned.cell.cell.as_str().into(),
            if runs {
                "planned".into()
            } else {
                planned.cell.status.name().into()
            },
            if runs {
                Value::Null
            } else {
                planned.cell.reason.as_str().into()
            },
            known(planned.visit_ns),
            known(planned.budget_ns),
        ]);
    }
    table
}
