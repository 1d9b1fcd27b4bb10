//! `tritbench ab`: two builds, measured in turns.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use trit_core::{Build, Comparison, EnergyMode, Limits, RunDir, RunDirError, show_duration};
use trit_measure::{MonotonicClock, sys::interrupt};
use trit_run::{
    AbOptions, AbOutcome, Extent, Overrides, PlanContext, Timeouts, Worker, WorkerCommand,
    WorkerError, compare_builds,
};

use crate::args::{FormatArg, budget};
use crate::built::{Built, built};
use crate::cmd::gate::{gate_failure, show};
use crate::cmd::report::record_failure;
use crate::cmd::run::{describe_cells, load_suite, name_models, this_program};
use crate::exit::{Exit, Failure, Outcome};
use crate::files;
use crate::out::say;
use crate::probe;
use crate::progress::Bar;

/// Measures two builds in turns and leaves a record that `gate` judges
#[derive(Args, Debug)]
#[command(
    long_about = "Measures two builds in turns and leaves a record that `gate` judges.\n\n\
                  A build is a git revision of the repository in which this runs (it is built in a worktree of its own, with one codegen \
                  unit), or the path of a tritbench program. Fresh pairs of processes, one of each build, take turns in blocks A B B A of a few \
                  milliseconds; at fixed points it is decided whether to go on, and what looks slower is measured again with fresh processes. \
                  It exits with 0 however slow the head is: `tritbench gate` judges.",
    after_help = "Examples:
  tritbench ab --base main --out change     the suite `gate` on HEAD against main
  tritbench ab --base old/tritbench --head new/tritbench --budget 30s
  tritbench ab --base v1.0 --head HEAD my-suite.toml"
)]
pub(crate) struct AbArgs {
    /// What the head is compared with: a git revision or the path of a program
    #[arg(long, value_name = "REV|PATH")]
    base: String,

    /// What is judged: a git revision or the path of a program
    #[arg(long, value_name = "REV|PATH", default_value = "HEAD")]
    head: String,

    /// Name of an embedded suite, or path of a TOML file; its pairs are left out
    #[arg(value_name = "SUITE", default_value = "gate")]
    suite: String,

    /// Time that measuring may take, building not counted, for example 2m [default: the suite's]
    #[arg(long, value_name = "TIME", value_parser = budget)]
    budget: Option<Duration>,

    /// The directory for the record: new or empty [default: one under runs/, named by time, host and suite]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Seed of inputs and order [default: the suite's]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Only cells whose id contains this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

    /// A TOML file with `[limits]`: the minimum effect and the allowed slowdown decide when there is nothing more to find out
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,

    /// Record although this build has debug assertions; its times mean nothing
    #[arg(long)]
    allow_debug: bool,

    /// For calibration: record this many comparisons one after another, each with the whole budget for its first phase, and go on where
    /// a recording in --out stopped
    #[arg(long, value_name = "N", hide = true)]
    pieces: Option<u64>,

    /// For tests of the gate: add this percentage of work to the cells whose id contains the text, on the head, or with a negative number on
    /// the base
    #[arg(long, value_name = "TEXT=PERCENT", hide = true, value_parser = added)]
    add_work: Vec<(String, f64)>,

    #[command(flatten)]
    format: FormatArg,
}

fn added(text: &str) -> Result<(String, f64), String> {
    let want = || "want a text and a percentage from -100 to 100, such as gemm=5".to_owned();
    let (cells, percent) = text.rsplit_once('=').ok_or_else(want)?;
    let percent: f64 = percent.parse().map_err(|_| want())?;
    if percent.abs() <= 100.0 {
        Ok((cells.to_owned(), percent))
    } else {
        Err(want())
    }
}

/// What a comparison needs beside its builds.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) suite: String,
    pub(crate) budget: Option<Duration>,
    pub(crate) out: Option<PathBuf>,
    pub(crate) seed: Option<u64>,
    pub(crate) filter: Option<String>,
    pub(crate) limits: Limits,
    pub(crate) extent: Extent,
    pub(crate) added: AddedWork,
}

/// Work that is added to test the gate, in percent: of the head, or of the base where it is negative.
#[derive(Clone, Debug)]
pub(crate) enum AddedWork {
    /// To the cells whose id contains a text.
    Matching(Vec<(String, f64)>),
    /// To the cells one after another, the percentages taking turns.
    InTurns(Vec<f64>),
}

pub(crate) fn run(args: &AbArgs) -> Outcome {
    if cfg!(debug_assertions) && !args.allow_debug {
        return Err(Failure::unusable(anyhow::anyhow!(
            "this is a debug build, whose times mean nothing; hint: cargo run --release -- ab, or --allow-debug to record anyway"
        )));
    }
    let limits = files::limits(args.limits.as_deref())?;
    let builds = [built(&args.base)?, built(&args.head)?];
    let wanted = Wanted {
        suite: args.suite.clone(),
        budget: args.budget,
        out: args.out.clone(),
        seed: args.seed,
        filter: args.filter.clone(),
        limits: limits.clone(),
        extent: args.pieces.map_or(Extent::Once, Extent::Pieces),
        added: AddedWork::Matching(args.add_work.clone()),
    };
    let asked = interrupt::install().map_err(Failure::failed)?;
    let interrupted = || asked.load(std::sync::atomic::Ordering::SeqCst);
    let Some((dir, outcome)) = compare(&builds, wanted, &interrupted)? else {
        return Ok(Exit::Interrupted);
    };
    let path = dir.path().display();
    for cell in &outcome.outcome.cells {
        if !cell.reason.is_empty() && cell.reason != trit_core::NOT_MEASURED {
            say(&format!("{}: {}: {}", cell.status, cell.cell, cell.reason));
        }
    }
    say(&format!(
        "the record is in {path}; hint: tritbench gate {path}"
    ));
    if args.pieces.is_none() {
        let report =
            trit_report::gate_record(&dir, &limits).map_err(|error| gate_failure(&error))?;
        show(&report, args.format.format)?;
    }
    Ok(match outcome.outcome.exit_code() {
        0 => Exit::Done,
        130 => Exit::Interrupted,
        7 => Exit::Wrong,
        5 => Exit::Unusable,
        _ => Exit::Failed,
    })
}

/// A machine, and the cells of a suite on it.
pub(crate) struct Planned {
    pub(crate) machine: trit_measure::Machine,
    pub(crate) survey: trit_run::Survey,
    pub(crate) suite: trit_core::Suite,
    pub(crate) plan: trit_core::Plan,
}

/// Plans a suite without its pairs, for `worker`. `None` when it was interrupted.
pub(crate) fn planned(
    wanted: &Wanted,
    worker: &WorkerCommand,
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<Planned>, Failure> {
    let suite = load_suite(&wanted.suite)?;
    let machine = trit_measure::machine();
    say("looking at the kernels of this machine");
    let survey = match trit_run::survey(worker, &[], Timeouts::default().start, interrupted) {
        Ok(survey) => survey,
        Err(WorkerError::Interrupted) => return Ok(None),
        Err(error) => return Err(Failure::failed(error)),
    };
    let overrides = Overrides {
        budget: wanted.budget,
        seed: wanted.seed,
        filter: wanted.filter.clone(),
        // A meter covers seconds and the whole machine: it cannot tell two processes apart that take turns.
        energy: Some(EnergyMode::Off),
        ..Overrides::default()
    };
    let context = PlanContext::of_machine(&machine, &survey, &suite, overrides);
    let mut plan = trit_run::plan(&suite, &context).map_err(Failure::usage)?;
    // Pairs within one build are no matter of two.
    plan.pairs.clear();
    plan.cells
        .retain(|planned| planned.station != trit_core::Station::Pair);
    if plan.cells.is_empty() {
        return Err(Failure::usage(anyhow::anyhow!(
            "no cell is left; hint: `tritbench run --list` shows the cells of a suite"
        )));
    }
    let budget = show_duration(Duration::from_nanos(plan.budget_ns));
    say(&describe_cells(&plan, &format!(" in turns, {budget}")));
    name_models(&mut plan)?;
    Ok(Some(Planned {
        machine,
        survey,
        suite,
        plan,
    }))
}

/// Measures two builds. `None` when it was interrupted before anything was recorded.
pub(crate) fn compare(
    builds: &[Built; 2],
    wanted: Wanted,
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<(RunDir, AbOutcome)>, Failure> {
    probe::cpu()?;
    let reference = probe::worker_command()?;
    let of = |side: usize| WorkerCommand {
        program: builds[side].program.clone(),
        ..reference.clone()
    };
    let workers = [of(0), of(1)];
    for (worker, name) in workers.iter().zip(["base", "head"]) {
        match Worker::start(worker, Timeouts::default().start, interrupted) {
            Ok(worker) => worker.stop(Timeouts::default().start),
            Err(WorkerError::Interrupted) => return Ok(None),
            Err(error) => {
                return Err(Failure::unusable(
                    anyhow::Error::new(error).context(format!("the {name} is no usable tritbench")),
                ));
            }
        }
    }
    let Some(planned) = planned(&wanted, &workers[1], interrupted)? else {
        return Ok(None);
    };
    let Planned {
        machine,
        survey,
        suite,
        plan,
    } = planned;
    let added = added_work(&wanted.added, &plan)?;
    let mut session = trit_run::new_session(&suite, &plan, &machine, &survey, this_program());
    session.comparison = Some(Comparison {
        builds: [0, 1].map(|side| Build {
            ..builds[side].build.clone()
        }),
        added,
        ..Comparison::default()
    });
    let pieces = matches!(wanted.extent, Extent::Pieces(_));
    let dir = match &wanted.out {
        Some(path) if pieces && path.join(trit_core::SESSION_FILE).exists() => {
            go_on(path, &mut session)?
        }
        Some(path) => RunDir::create(path).map_err(|error| dir_failure(&error))?,
        None => RunDir::create_in(
            Path::new("runs"),
            &trit_run::utc_compact(),
            machine.host.hostname.as_deref().unwrap_or("unknown"),
            &suite.name,
        )
        .map_err(|error| dir_failure(&error))?,
    };
    let mut bar = Bar::new();
    let outcome = compare_builds(
        AbOptions {
            session,
            dir: dir.clone(),
            workers,
            reference,
            timeouts: Timeouts::default(),
            limits: wanted.limits,
            extent: wanted.extent,
            l3_bytes: machine.last_level_cache_bytes().unwrap_or(0),
            interrupted,
            clock: &MonotonicClock,
        },
        &mut bar,
    );
    bar.clear();
    let trit_run::RunError::Record(error) = match outcome {
        Ok(outcome) => return Ok(Some((dir, outcome))),
        Err(error) => error,
    };
    Err(record_failure(&error))
}

fn dir_failure(error: &RunDirError) -> Failure {
    match error {
        RunDirError::NotEmpty { .. } => Failure::usage(anyhow::anyhow!("{error}")),
        error => record_failure(error),
    }
}

/// A recording goes on with its own cells when it is of the same programs, suite and machine: which kernels are best may look otherwise this time.
fn go_on(path: &Path, session: &mut trit_core::Session) -> Result<RunDir, Failure> {
    let dir = RunDir::open(path).map_err(|error| record_failure(&error))?;
    let earlier = dir.session().map_err(|error| record_failure(&error))?;
    let place = |session: &trit_core::Session| {
        let cap = session.isa_cap.clone();
        (
            session.suite_sha256.clone(),
            session.machine["cpu"].clone(),
            cap,
        )
    };
    let programs = |session: &trit_core::Session| {
        let builds = session.comparison.as_ref().map(|made| made.builds.clone());
        builds.map(|builds| builds.map(|build| build.sha256))
    };
    if place(&earlier) != place(session) || programs(&earlier) != programs(session) {
        return Err(Failure::unusable(anyhow::anyhow!(
            "`{}` is a recording of other programs, of another suite or machine; hint: start a new one",
            path.display()
        )));
    }
    // Another piece must not repeat the order and the placements of an earlier one.
    *session = earlier;
    session.resumed += 1;
    Ok(dir)
}

/// The added work of each cell: to the base, to the head.
fn added_work(
    wanted: &AddedWork,
    plan: &trit_core::Plan,
) -> Result<BTreeMap<String, [f64; 2]>, Failure> {
    let sides = |percent: f64| {
        if percent < 0.0 {
            [-percent, 0.0]
        } else {
            [0.0, percent]
        }
    };
    let cells = || plan.cells.iter().map(|planned| planned.cell.cell.clone());
    match wanted {
        AddedWork::InTurns(percents) => {
            let turns = percents.iter().cycle();
            Ok(cells().zip(turns.map(|percent| sides(*percent))).collect())
        }
        AddedWork::Matching(all) => {
            let mut added = BTreeMap::new();
            for (text, percent) in all {
                let before = added.len();
                let matching = cells().filter(|cell| cell.contains(text.as_str()));
                added.extend(matching.map(|cell| (cell, sides(*percent))));
                if added.len() == before {
                    return Err(Failure::usage(anyhow::anyhow!(
                        "no other cell contains `{text}`"
                    )));
                }
            }
            Ok(added)
        }
    }
}
