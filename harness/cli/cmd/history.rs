//! `tritbench history`: the results of many sessions, and where they changed.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;
use trit_core::{RunDir, Session, is_final};
use trit_measure::Machine;
use trit_report::history::{Change, MEASURES, Store, StoreError, Trend};
use trit_report::{show_bytes, show_ns, show_rate};
use trit_stats::ChangePoints;

use crate::args::{Format, FormatArg, positive};
use crate::cmd::report::{record_failure, report_failure};
use crate::exit::{Exit, Failure, Outcome};
use crate::out::{Out, Table, say};

/// More cells than this are no answer to a question.
const MOST_CELLS: usize = 24;

/// Keeps the results of many sessions and shows where a cell became slower or faster
#[derive(Args, Debug)]
#[command(
    long_about = "Keeps the results of many sessions and shows where a cell became slower or faster.\n\n\
                  The history is one SQLite file that only grows, keyed by the fingerprint of the machine: results of different machines \
                  are never one trend. Several programs may add at once, and a crash leaves all of a session or nothing of it."
)]
pub(crate) struct HistoryArgs {
    #[command(subcommand)]
    command: HistoryCommand,
}

#[derive(Subcommand, Debug)]
enum HistoryCommand {
    Add(AddArgs),
    List(ListArgs),
    Show(ShowArgs),
}

/// `--store`.
#[derive(Args, Debug)]
struct StoreArg {
    /// The file of the history [default: `history.sqlite` under `$XDG_DATA_HOME/tritbench`]
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
}

/// Adds the results of finished runs
#[derive(Args, Debug)]
#[command(
    long_about = "Adds the results of finished runs.\n\n\
                  A session that is in the history already is left alone. The rows of the run directory stay the record: the history keeps \
                  medians with their intervals and the other headline columns of summary.csv.",
    after_help = "Examples:
  tritbench history add results
  tritbench history add runs/* --store team.sqlite
  tritbench history add imported --machine old-laptop"
)]
struct AddArgs {
    /// Run directories
    #[arg(value_name = "DIR", required = true)]
    dirs: Vec<PathBuf>,

    /// The name of the machine, for runs that do not say which it was [default: its fingerprint]
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,

    #[command(flatten)]
    store: StoreArg,
}

/// Lists the sessions of the history
#[derive(Args, Debug)]
#[command(
    long_about = "Lists the sessions of the history in the order of time.",
    after_help = "Examples:
  tritbench history list
  tritbench history list --machine 0a1b2c3d4e5f --format csv"
)]
struct ListArgs {
    /// Only this machine
    #[arg(long, value_name = "FINGERPRINT")]
    machine: Option<String>,

    #[command(flatten)]
    store: StoreArg,

    #[command(flatten)]
    format: FormatArg,
}

/// Shows a cell over time, with its change points
#[derive(Args, Debug)]
#[command(
    long_about = "Shows a cell over time, with its change points.\n\n\
                  A change is a place where the distribution of the results differs before and after: E-Divisive on logarithms, with a \
                  permutation test. It takes four sessions on each side to see one; a single outlier is none. Each machine is a trend of its own.",
    after_help = "Examples:
  tritbench history show gemv-cold/w2a8-mad-avx2/2560x2560/t1
  tritbench history show decode --measure tokens_per_s --chart trend.svg
  tritbench history show decode --last 100 --format csv"
)]
struct ShowArgs {
    /// The id of a cell, or a text that ids contain
    #[arg(value_name = "CELL")]
    cell: String,

    /// What to show
    #[arg(long, value_name = "COLUMN", default_value = "median_ns", value_parser = MEASURES)]
    measure: String,

    /// Only this machine
    #[arg(long, value_name = "FINGERPRINT")]
    machine: Option<String>,

    /// Only the last N sessions of each machine
    #[arg(long, value_name = "N", default_value = "500", value_parser = positive)]
    last: usize,

    /// Largest p-value of a change
    #[arg(long, value_name = "P", default_value = "0.01", value_parser = significance)]
    alpha: f64,

    /// Draw it into this file: .svg, or .png
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,

    #[command(flatten)]
    store: StoreArg,

    #[command(flatten)]
    format: FormatArg,
}

/// A p-value that 499 permutations can reach.
fn significance(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|p| (0.002..=0.5).contains(p))
        .ok_or_else(|| "want a number from 0.002 to 0.5".to_owned())
}

pub(crate) fn run(args: &HistoryArgs) -> Outcome {
    match &args.command {
        HistoryCommand::Add(args) => add(args),
        HistoryCommand::List(args) => list(args),
        HistoryCommand::Show(args) => show(args),
    }
}

/// The history of this user, or the file that is named.
pub(super) fn store_path(given: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/share")))
        .map(|data| data.join("tritbench/history.sqlite"))
        .ok_or_else(|| {
            Failure::usage(anyhow::anyhow!(
                "neither XDG_DATA_HOME nor HOME names a directory; hint: --store FILE"
            ))
        })
}

/// Errors of the history: what the system refused is code 1, what a file holds is code 5.
pub(super) fn store_failure(error: &StoreError) -> Failure {
    let told = anyhow::anyhow!("{error}");
    if error.is_content() {
        Failure::unusable(told)
    } else {
        Failure::failed(told)
    }
}

/// The fingerprint of the machine of a session; nothing when the record does not say which it was.
pub(super) fn fingerprint(session: &Session) -> Option<String> {
    let machine: Machine = serde_json::from_value(session.machine.clone()).ok()?;
    let known = machine.cpu.model.is_some() || machine.cpu.threads.is_some();
    known.then(|| machine.fingerprint())
}

fn add(args: &AddArgs) -> Outcome {
    let path = store_path(args.store.store.as_deref())?;
    let mut store = Store::open_or_create(&path).map_err(|error| store_failure(&error))?;
    for source in &args.dirs {
        let dir = RunDir::open(source).map_err(|error| record_failure(&error))?;
        let session = dir.session().map_err(|error| record_failure(&error))?;
        let place = source.display();
        let cells = dir.cells().map_err(|error| record_failure(&error))?;
        if !cells.iter().all(is_final) {
            return Err(Failure::unusable(anyhow::anyhow!(
                "`{place}` is not finished; hint: tritbench run --resume {place}"
            )));
        }
        let machine = args
            .machine
            .clone()
            .or_else(|| fingerprint(&session))
            .ok_or_else(|| {
                Failure::unusable(anyhow::anyhow!(
                    "`{place}` does not say on which machine it ran; hint: --machine NAME"
                ))
            })?;
        let rows = trit_report::read_summaries(source).map_err(Failure::unusable)?;
        let added = store
            .add(&session, &machine, source, &rows)
            .map_err(|error| store_failure(&error))?;
        if added {
            say(&format!("added {place} (machine {machine})"));
        } else {
            say(&format!("{place} is in the history already"));
        }
    }
    Ok(Exit::Done)
}

fn list(args: &ListArgs) -> Outcome {
    let path = store_path(args.store.store.as_deref())?;
    let store = Store::open(&path).map_err(|error| store_failure(&error))?;
    let sessions = store
        .sessions(args.machine.as_deref())
        .map_err(|error| store_failure(&error))?;
    let mut table = Table::new(&[
        "started_utc",
        "machine",
        "host",
        "suite",
        "cells",
        "version",
        "git_revision",
        "description",
        "source",
    ]);
    for session in sessions {
        table.row([
            session.started_utc.into(),
            session.machine.into(),
            session.host.into(),
            session.suite.into(),
            session.cells.into(),
            session.version.into(),
            session.revision.into(),
            session.description.into(),
            session.source.into(),
        ]);
    }
    Out::new().text(&table.render(args.format.format))?;
    Ok(Exit::Done)
}

fn show(args: &ShowArgs) -> Outcome {
    let path = store_path(args.store.store.as_deref())?;
    let store = Store::open(&path).map_err(|error| store_failure(&error))?;
    let cells = store
        .cells(&args.cell)
        .map_err(|error| store_failure(&error))?;
    if cells.is_empty() {
        return Err(Failure::usage(anyhow::anyhow!(
            "no cell of the history is named like `{}`; hint: the first column of a summary.csv",
            args.cell
        )));
    }
    if cells.len() > MOST_CELLS {
        let some: Vec<&str> = cells
            .iter()
            .take(5)
            .map(|(_, name)| name.as_str())
            .collect();
        return Err(Failure::usage(anyhow::anyhow!(
            "`{}` is in the names of {} cells; hint: name one, such as {}",
            args.cell,
            cells.len(),
            some.join(" ")
        )));
    }
    let search = ChangePoints {
        alpha: args.alpha,
        ..ChangePoints::default()
    };
    let mut trends: Vec<Trend> = Vec::new();
    for (id, name) in &cells {
        let series = store
            .series((*id, name), &args.measure, args.machine.as_deref())
            .map_err(|error| store_failure(&error))?;
        trends.extend(
            series
                .into_iter()
                .map(|series| Trend::new(series, args.last, &search)),
        );
    }
    if trends.is_empty() {
        return Err(Failure::usage(anyhow::anyhow!(
            "no session of {} has {} of `{}`; hint: tritbench history list",
            args.machine.as_deref().unwrap_or("any machine"),
            args.measure,
            args.cell
        )));
    }
    Out::new().text(&table(&trends, args.format.format).render(args.format.format))?;
    tell(&trends);
    if let Some(path) = &args.chart {
        draw(&trends, path)?;
    }
    Ok(Exit::Done)
}

/// A value with its unit, for people.
fn human(measure: &str, value: f64) -> String {
    if measure.ends_with("_ns") {
        show_ns(value)
    } else if measure.ends_with("_bytes") {
        show_bytes(value)
    } else {
        show_rate(value)
    }
}

/// A row a result. For people values have units, and a change stands as text where it begins.
fn table(trends: &[Trend], format: Format) -> Table {
    let people = matches!(format, Format::Table | Format::Md);
    if people {
        let mut table = Table::new(&["machine", "cell", "started", "revision", "value", "change"]);
        for trend in trends {
            let series = &trend.series;
            for (point, _, change) in trend.points() {
                let revision = point.revision.as_deref().unwrap_or_default();
                table.row([
                    series.machine.as_str().into(),
                    series.cell.as_str().into(),
                    point.started_utc.as_str().into(),
                    revision.chars().take(9).collect::<String>().into(),
                    human(&series.measure, point.value).into(),
                    change.map_or(Value::Null, |change| {
                        format!(
                            "{:+.1} % from here on (p {:.3})",
                            change.percent(),
                            change.p
                        )
                        .into()
                    }),
                ]);
            }
        }
        return table;
    }
    let mut table = Table::new(&[
        "machine",
        "cell",
        "measure",
        "started_utc",
        "version",
        "git_revision",
        "value",
        "lo",
        "hi",
        "level",
        "change_percent",
        "change_p",
    ]);
    for trend in trends {
        let series = &trend.series;
        for (point, level, change) in trend.points() {
            table.row([
                series.machine.as_str().into(),
                series.cell.as_str().into(),
                series.measure.as_str().into(),
                point.started_utc.as_str().into(),
                point.version.as_str().into(),
                point.revision.clone().into(),
                point.value.into(),
                point.interval.map(|interval| interval.0).into(),
                point.interval.map(|interval| interval.1).into(),
                level.into(),
                change.map(Change::percent).into(),
                change.map(|change| change.p).into(),
            ]);
        }
    }
    table
}

/// What a reader should know beside the rows.
fn tell(trends: &[Trend]) {
    for trend in trends {
        let series = &trend.series;
        let count = trend.changes.len();
        let what = match count {
            0 => "no change".to_owned(),
            1 => "1 change".to_owned(),
            count => format!("{count} changes"),
        };
        let left_out = if trend.left_out > 0 {
            format!(", {} earlier ones left out", trend.left_out)
        } else {
            String::new()
        };
        say(&format!(
            "{} on {} ({}): {what} in {} sessions{left_out}",
            series.cell,
            series.machine,
            series.description,
            series.points.len()
        ));
        if series.points.len() < 8 {
            say("a change needs four sessions on each side: there are too few to see one");
        }
    }
}

/// Draws the trends of one machine: a chart of two would set unlike things side by side.
fn draw(trends: &[Trend], path: &Path) -> Result<(), Failure> {
    let machine = trends.first().map(|trend| trend.series.machine.as_str());
    let (here, others): (Vec<Trend>, Vec<Trend>) = trends
        .iter()
        .cloned()
        .partition(|trend| Some(trend.series.machine.as_str()) == machine);
    if !others.is_empty() {
        return Err(Failure::usage(anyhow::anyhow!(
            "a chart is of one machine, and there are several; hint: --machine {}",
            machine.unwrap_or_default()
        )));
    }
    trit_report::write_history(&here, path).map_err(|error| report_failure(&error))?;
    say(&format!("wrote {}", path.display()));
    Ok(())
}
