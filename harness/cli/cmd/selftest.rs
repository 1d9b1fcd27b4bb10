//! `tritbench selftest`: whether the gate can be trusted on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;
use trit_core::{Limits, RunDir, SummaryRow, paired_blocks};
use trit_measure::sys::interrupt;
use trit_report::{GateCell, GateReport};
use trit_run::Extent;
use trit_stats::{judge::Verdict, median, wilson};

use crate::args::{FormatArg, budget};
use crate::built::{Built, built, layouts};
use crate::cmd::ab::{AddedWork, Wanted, compare};
use crate::cmd::gate::{gate_failure, read_limits};
use crate::cmd::report::record_failure;
use crate::exit::{Exit, Failure, Outcome};
use crate::out::{Out, Table, say};

/// The limits of the test: finer than the defaults, so that 2 % has to be found.
const LIMITS: &str = "[limits]\nmin_effect_percent = 1\nallowed_slowdown_percent = 2\n";
/// Work that is added to the cells in turn.
const SLOWDOWNS: [f64; 3] = [10.0, 5.0, 2.0];
/// Work that is added to the base: nothing may be called slower then.
const NEGATIVE: f64 = -5.0;
/// Time of all live comparisons of one repetition.
const BUDGET: Duration = Duration::from_mins(8);

/// One part of the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The same program on both sides
    Same,
    /// The same source, built with another code layout
    Layout,
    /// Added work of 10, 5 and 2 %, each in other cells
    Slower,
    /// Added work in the base
    Faster,
    /// Baselines that are missing or broken
    Broken,
}

/// Tests the gate on this machine: false alarms, detection, broken baselines
#[derive(Args, Debug)]
#[command(
    long_about = "Tests the gate on this machine: false alarms, detection, broken baselines.\n\n\
                  It compares this program with itself, with itself built with another code layout (where the source and cargo are there), and \
                  with itself doing 2, 5 and 10 % more work in the kernels; then with a base that does more work, and with baselines that are \
                  missing or broken. The minimum effect is 1 % here, the allowed slowdown 2 %. It prints every outcome, the rates with 95 % intervals, and the \
                  effect that this machine can see. It exits with 1 when something was not as it must be: a false alarm, a slowdown that passed, a \
                  broken baseline that was judged. With --from it replays a recording instead.",
    after_help = "Examples:
  tritbench selftest                       every part: eight minutes, and building
  tritbench selftest --part same --repeat 30 --budget 2m
  tritbench selftest --from recording      a recording of scripts/record"
)]
pub(crate) struct SelftestArgs {
    /// Time of all comparisons of one repetition
    #[arg(long, value_name = "TIME", value_parser = budget)]
    budget: Option<Duration>,

    /// Only these parts; may be repeated
    #[arg(long, value_name = "PART", value_enum)]
    part: Vec<Part>,

    /// Do everything that is measured this often
    #[arg(long, value_name = "N", default_value = "1", value_parser = crate::args::positive)]
    repeat: usize,

    /// Name of an embedded suite, or path of a TOML file
    #[arg(long, value_name = "SUITE", default_value = "gate")]
    suite: String,

    /// The directory for the records: new or empty [default: one under runs/]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Replay a recording that `scripts/record aa` left, and measure nothing
    #[arg(long, value_name = "DIR", conflicts_with_all = ["budget", "part", "repeat", "suite", "out"])]
    from: Option<PathBuf>,

    /// Limits of the short comparisons of a replay [default: minimum effect 2 %, allowed slowdown 5 %]
    #[arg(long, value_name = "FILE", requires = "from")]
    limits: Option<PathBuf>,

    /// Test although this build has debug assertions
    #[arg(long)]
    allow_debug: bool,

    #[command(flatten)]
    format: FormatArg,
}

pub(crate) fn run(args: &SelftestArgs) -> Outcome {
    if let Some(dir) = &args.from {
        return replay(args, dir);
    }
    if cfg!(debug_assertions) && !args.allow_debug {
        return Err(Failure::unusable(anyhow::anyhow!(
            "this is a debug build, whose times mean nothing; hint: cargo run --release -- selftest"
        )));
    }
    let asked = interrupt::install().map_err(Failure::failed)?;
    let interrupted = || asked.load(std::sync::atomic::Ordering::SeqCst);
    let mut test = Test::new(args, &interrupted)?;
    let wanted = |part| args.part.is_empty() || args.part.contains(&part);
    let live = [Part::Same, Part::Layout, Part::Slower, Part::Faster];
    let count = live.into_iter().filter(|part| wanted(*part)).count();
    let each = args.budget.unwrap_or(BUDGET) / count.max(1) as u32;
    let mut ended = false;
    for nth in 0..args.repeat {
        for part in live.into_iter().filter(|part| wanted(*part)) {
            if !ended && !test.live(part, nth, each)? {
                ended = true;
            }
        }
    }
    if wanted(Part::Broken) && !ended {
        test.broken()?;
    }
    test.print(args)?;
    Ok(if ended {
        Exit::Interrupted
    } else if test.wrong.is_empty() {
        Exit::Done
    } else {
        for wrong in &test.wrong {
            say(&format!("error: {wrong}"));
        }
        Exit::Failed
    })
}

/// One thing that was tried, and what came of it.
struct Tried {
    part: &'static str,
    cell: String,
    added: f64,
    verdict: String,
    judged: Option<GateCell>,
    right: &'static str,
}

struct Test<'a> {
    args: &'a SelftestArgs,
    interrupted: &'a dyn Fn() -> bool,
    limits: Limits,
    out: PathBuf,
    this: [Built; 2],
    layouts: Option<[Built; 2]>,
    tried: Vec<Tried>,
    /// Comparisons of unchanged builds, and those with a false alarm.
    unchanged: u64,
    alarms: u64,
    wrong: Vec<String>,
}

impl<'a> Test<'a> {
    fn new(args: &'a SelftestArgs, interrupted: &'a dyn Fn() -> bool) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| {
            Failure::failed(anyhow::Error::new(error).context("cannot find this program"))
        })?;
        let program = program.to_string_lossy().into_owned();
        let limits = Limits::parse("selftest", LIMITS).map_err(Failure::unusable)?;
        let out = args.out.clone().unwrap_or_else(|| {
            Path::new("runs").join(format!("{}-selftest", trit_run::utc_compact()))
        });
        Ok(Self {
            args,
            interrupted,
            limits,
            out,
            this: [built(&program)?, built(&program)?],
            layouts: None,
            tried: Vec::new(),
            unchanged: 0,
            alarms: 0,
            wrong: Vec::new(),
        })
    }

    /// One comparison. `false` when it was interrupted.
    fn live(&mut self, part: Part, nth: usize, time: Duration) -> Result<bool, Failure> {
        let (name, spread): (&str, &[f64]) = match part {
            Part::Same => ("same", &[]),
            Part::Layout => ("layout", &[]),
            Part::Slower => ("slower", &SLOWDOWNS),
            Part::Faster => ("faster", &[NEGATIVE]),
            Part::Broken => return Ok(true),
        };
        if part == Part::Layout && self.layouts.is_none() {
            match layouts(env!("TRIT_REVISION")) {
                Ok(built) => self.layouts = Some(built),
                Err(why) => {
                    if nth == 0 {
                        say(&format!("left out: another code layout: {why}"));
                        self.tried.push(Tried {
                            part: "layout",
                            cell: String::new(),
                            added: 0.0,
                            verdict: "left out".to_owned(),
                            judged: None,
                            right: "left out",
                        });
                    }
                    return Ok(true);
                }
            }
        }
        // Which cells get how much changes with each repetition.
        let shift = nth % spread.len().max(1);
        let spread: Vec<f64> = spread[shift..]
            .iter()
            .chain(&spread[..shift])
            .copied()
            .collect();
        let wanted = Wanted {
            suite: self.args.suite.clone(),
            budget: Some(time),
            out: Some(self.out.join(format!("{name}-{nth}"))),
            seed: Some(nth as u64 + 1),
            filter: None,
            limits: self.limits.clone(),
            extent: Extent::Once,
            added: AddedWork::InTurns(spread),
        };
        say(&format!("{name}, {} of {}", nth + 1, self.args.repeat));
        let builds = match (part, &self.layouts) {
            (Part::Layout, Some(layouts)) => layouts,
            _ => &self.this,
        };
        let Some((dir, outcome)) = compare(builds, wanted, self.interrupted)? else {
            return Ok(false);
        };
        let report =
            trit_report::gate_record(&dir, &self.limits).map_err(|error| gate_failure(&error))?;
        let session = dir.session().map_err(|error| record_failure(&error))?;
        let added = session.comparison.unwrap_or_default().added;
        self.note(name, part, &report, &added);
        Ok(!outcome.outcome.interrupted)
    }

    fn note(
        &mut self,
        name: &'static str,
        part: Part,
        report: &GateReport,
        added: &std::collections::BTreeMap<String, [f64; 2]>,
    ) {
        let unchanged = matches!(part, Part::Same | Part::Layout);
        let alarm = report
            .judged()
            .any(|cell| cell.verdict == Verdict::Regressed);
        if unchanged {
            self.unchanged += 1;
            self.alarms += u64::from(alarm);
        }
        for cell in &report.cells {
            let [base, head] = added.get(&cell.cell).copied().unwrap_or_default();
            let percent = head - base;
            let right = match cell.verdict {
                Verdict::Regressed if percent > 0.0 => "yes",
                Verdict::Regressed | Verdict::Invalid => "no",
                // A slowdown of what is allowed or more must not pass.
                Verdict::Passed | Verdict::Improved if percent >= cell.allowed_percent => "no",
                Verdict::Passed | Verdict::Improved => "yes",
                Verdict::Inconclusive => "undecided",
            };
            if right == "no" {
                self.wrong.push(format!(
                    "{name}: {} is {} with {percent} % of added work: {}",
                    cell.cell,
                    cell.verdict.name(),
                    cell.why
                ));
            }
            self.tried.push(Tried {
                part: name,
                cell: cell.cell.clone(),
                added: percent,
                verdict: cell.verdict.name().to_owned(),
                judged: Some(cell.clone()),
                right,
            });
        }
        if alarm
            && unchanged
            && report
                .cells
                .iter()
                .all(|cell| cell.verdict != Verdict::Regressed)
        {
            self.wrong.push(format!(
                "{name}: the geometric mean of unchanged cells regressed"
            ));
        }
    }

    /// Baselines that cannot be judged: each must be refused.
    fn broken(&mut self) -> Result<(), Failure> {
        let dir = self.out.join("broken");
        fs::create_dir_all(&dir).map_err(|error| {
            let place = dir.display().to_string();
            Failure::failed(anyhow::Error::new(error).context(format!("cannot make `{place}`")))
        })?;
        // A summary as `run` writes it, of which one thing at a time is broken.
        let mut row = SummaryRow::default();
        "a".clone_into(&mut row.cell.cell);
        "a".clone_into(&mut row.cell.subject);
        row.results.median_ns = Some(1234.0);
        let whole = RunDir::create(&dir.join("whole")).map_err(|error| record_failure(&error))?;
        whole
            .write(&[row])
            .map_err(|error| record_failure(&error))?;
        let path = whole.path().join("summary.csv");
        let good = fs::read_to_string(&path).map_err(|error| {
            let place = path.display().to_string();
            Failure::failed(anyhow::Error::new(error).context(format!("cannot read `{place}`")))
        })?;
        let cases: [(&'static str, Option<String>); 6] = [
            ("a missing baseline", None),
            ("an empty file", Some(String::new())),
            ("empty JSON", Some("{}\n".to_owned())),
            ("a time that is NaN", Some(good.replace("1234", "NaN"))),
            ("a time of 0", Some(good.replace("1234", "0"))),
            ("other cells", Some(good.replace("a,ok,,a,", "b,ok,,b,"))),
        ];
        let write = |name: &str, text: &str| -> Result<PathBuf, Failure> {
            let path = dir.join(name);
            fs::write(&path, text).map_err(|error| {
                let place = path.display().to_string();
                Failure::failed(
                    anyhow::Error::new(error).context(format!("cannot write `{place}`")),
                )
            })?;
            Ok(path)
        };
        let candidate = write("candidate.csv", &good)?;
        let judged = |base: &Path| {
            let base_rows = trit_report::read_summaries(base)?;
            let rows = trit_report::read_summaries(&candidate)?;
            trit_report::gate_unpaired((base, &base_rows), (&candidate, &rows), &self.limits)
        };
        // The good one is judged, so that the others are refused for what is wrong with them.
        let fine = write("good.csv", &good)?;
        if let Err(error) = judged(&fine) {
            self.wrong
                .push(format!("broken: a good baseline is refused: {error}"));
        }
        for (at, (name, text)) in cases.into_iter().enumerate() {
            let path = match text {
                Some(text) => write(&format!("{at}.csv"), &text)?,
                None => dir.join("nothing.csv"),
            };
            // A case that is the good baseline tests nothing.
            let refused =
                judged(&path).is_err() && fs::read_to_string(&path).ok() != Some(good.clone());
            if !refused {
                self.wrong.push(format!("broken: {name} was judged"));
            }
            self.tried.push(Tried {
                part: "broken",
                cell: name.to_owned(),
                added: 0.0,
                verdict: if refused { "refused" } else { "judged" }.to_owned(),
                judged: None,
                right: if refused { "yes" } else { "no" },
            });
        }
        Ok(())
    }

    fn print(&self, args: &SelftestArgs) -> Result<(), Failure> {
        let number = |value: Option<f64>| {
            value.map_or(Value::Null, |value| {
                ((value * 100.0).round() / 100.0).into()
            })
        };
        let mut table = Table::new(&[
            "part",
            "cell",
            "added_percent",
            "verdict",
            "right",
            "change_percent",
            "lo_percent",
            "hi_percent",
            "detectable_percent",
        ]);
        for tried in &self.tried {
            let judged = tried.judged.as_ref();
            let of = |get: fn(&GateCell) -> Option<f64>| number(judged.and_then(get));
            table.row([
                tried.part.into(),
                tried.cell.as_str().into(),
                tried.added.into(),
                tried.verdict.as_str().into(),
                tried.right.into(),
                of(|cell| cell.change_percent),
                of(|cell| cell.lo_percent),
                of(|cell| cell.hi_percent),
                of(|cell| cell.detectable_percent),
            ]);
        }
        let mut rates = rate_table();
        let mut rate = |question: &str, percent: f64, hits: u64, trials: u64| {
            if trials > 0 {
                rate_row(&mut rates, "tritbench", question, percent, hits, trials);
            }
        };
        rate(
            "comparisons of unchanged builds with a false alarm",
            0.0,
            self.alarms,
            self.unchanged,
        );
        for percent in SLOWDOWNS.into_iter().chain([NEGATIVE]) {
            let of_size =
                |tried: &&Tried| (tried.added - percent).abs() < 1e-9 && tried.added != 0.0;
            let all: Vec<&Tried> = self.tried.iter().filter(of_size).collect();
            let count = |verdicts: &[&str]| {
                let of = |tried: &&&Tried| verdicts.contains(&tried.verdict.as_str());
                all.iter().filter(of).count() as u64
            };
            let found = if percent > 0.0 {
                "regressed"
            } else {
                "improved"
            };
            rate(
                &format!("cells {found}"),
                percent,
                count(&[found]),
                all.len() as u64,
            );
            if percent > 0.0 {
                let passed = count(&["passed", "improved"]);
                rate(
                    "cells passed though slower",
                    percent,
                    passed,
                    all.len() as u64,
                );
            }
        }
        let seen: Vec<f64> = self
            .tried
            .iter()
            .filter_map(|tried| tried.judged.as_ref()?.detectable_percent)
            .collect();
        let mut text = table.render(args.format.format);
        text.push('\n');
        text.push_str(&rates.render(args.format.format));
        Out::new().text(&text)?;
        if let Some(typical) = median(&seen) {
            let worst = seen.iter().copied().fold(0.0, f64::max);
            say(&format!(
                "this machine sees a slowdown of {typical:.2} % (median over cells) with probability 0.9 in the time given; {worst:.2} % in its worst cell"
            ));
        }
        say(&format!("the records are in {}", self.out.display()));
        Ok(())
    }
}

fn rate_table() -> Table {
    Table::new(&[
        "method",
        "question",
        "applied_percent",
        "hits",
        "trials",
        "rate",
        "lo",
        "hi",
    ])
}

fn rate_row(table: &mut Table, method: &str, question: &str, percent: f64, hits: u64, trials: u64) {
    let round = |value: f64| Value::from((value * 1e4).round() / 1e4);
    let interval = wilson(hits, trials, 0.95);
    table.row([
        method.into(),
        question.into(),
        percent.into(),
        hits.into(),
        trials.into(),
        round(hits as f64 / trials.max(1) as f64),
        interval.map_or(Value::Null, |interval| round(interval.lo)),
        interval.map_or(Value::Null, |interval| round(interval.hi)),
    ]);
}

/// Judges a recording as if live.
fn replay(args: &SelftestArgs, path: &Path) -> Outcome {
    let limits = read_limits(args.limits.as_deref())?;
    let fine = Limits::parse("selftest", LIMITS).map_err(Failure::unusable)?;
    let dir = RunDir::open(path).map_err(|error| record_failure(&error))?;
    let session = dir.session().map_err(|error| record_failure(&error))?;
    let recording = session
        .comparison
        .filter(|comparison| comparison.pieces > 1);
    let Some(comparison) = recording else {
        return Err(Failure::unusable(anyhow::anyhow!(
            "`{}` is no recording of several comparisons; hint: scripts/record aa makes one",
            path.display()
        )));
    };
    let rows = dir.measurements().map_err(|error| record_failure(&error))?;
    let blocks = paired_blocks(&rows);
    drop(rows);
    let replayed = trit_report::replay(&blocks, &comparison, &limits, &fine, session.plan.seed);
    let mut table = rate_table();
    for row in &replayed.rows {
        rate_row(
            &mut table,
            &row.method,
            &row.question,
            row.applied_percent,
            row.hits,
            row.trials,
        );
    }
    Out::new().text(&table.render(args.format.format))?;
    if let Some(uniform) = replayed.uniform {
        say(&format!(
            "{} p-values of unchanged cells against uniform: D = {:.4}, p = {:.4}",
            replayed.p_values, uniform.d, uniform.p
        ));
    }
    if let Some(percent) = replayed.detectable_percent {
        say(&format!(
            "minimal detectable effect of one piece: {percent:.2} % (median over cells and pieces)"
        ));
    }
    Ok(Exit::Done)
}
