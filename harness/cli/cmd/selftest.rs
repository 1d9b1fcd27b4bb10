//! `tritbench selftest`: whether the gate can be trusted on this machine.

mod method;
mod record;
mod replay;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;
use trit_core::{Limits, RunDir, SESSION_FILE, SummaryRow};
use trit_measure::sys::interrupt;
use trit_report::{Finding, GateCell, GateReport};
use trit_run::Extent;
use trit_run::overhead::Overhead;
use trit_stats::{binomial_upper_bound, judge::Verdict, median, wilson};

use crate::args::{FormatArg, budget};
use crate::built::{Built, built, layouts};
use crate::cmd::ab::{AddedWork, Wanted, compare};
use crate::cmd::gate::gate_failure;
use crate::cmd::report::record_failure;
use crate::exit::{Exit, Failure, Outcome};
use crate::out::{Out, Table, say};
use method::{Busy, drift_table, overhead, overhead_table};
use record::{Record, finding_table, rate_row, rate_table};
use replay::replay;

/// The limits of the test: finer than the defaults, so that 2 % has to be found.
const LIMITS: &str = "[limits]\nmin_effect_percent = 1\nallowed_slowdown_percent = 2\n";
/// Work that is added to the cells in turn.
const SLOWDOWNS: [f64; 3] = [10.0, 5.0, 2.0];
/// Work that is added to the base: nothing may be called slower then.
const NEGATIVE: f64 = -5.0;
/// Time of everything that is measured in one repetition.
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
    /// The same program on both sides while another CPU is kept busy; not by default
    Busy,
    /// What reading evidence, processes of their own and recording cost the cells, once; not by default
    Overhead,
    /// Drift of the machine's speed, on a fake clock
    Drift,
    /// Baselines that are missing or broken
    Broken,
}

impl Part {
    /// The parts that compare two builds.
    const LIVE: [Self; 5] = [
        Self::Same,
        Self::Layout,
        Self::Slower,
        Self::Faster,
        Self::Busy,
    ];
    /// The parts that are left out unless they are asked for.
    const ON_REQUEST: [Self; 2] = [Self::Busy, Self::Overhead];

    /// The word in records.
    const fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Layout => "layout",
            Self::Slower => "slower",
            Self::Faster => "faster",
            Self::Busy => "busy",
            Self::Overhead => "overhead",
            Self::Drift => "drift",
            Self::Broken => "broken",
        }
    }

    /// Work that is added to the cells in turn.
    const fn added(self) -> &'static [f64] {
        match self {
            Self::Slower => &SLOWDOWNS,
            Self::Faster => &[NEGATIVE],
            _ => &[],
        }
    }

    /// What the sides of an unchanged comparison are; `None` for parts that change something.
    const fn unchanged(self) -> Option<&'static str> {
        match self {
            Self::Same => Some("the same program"),
            Self::Layout => Some("another code layout"),
            Self::Busy => Some("the same program, another CPU busy"),
            _ => None,
        }
    }
}

/// Tests the gate on this machine: false alarms, detection, broken baselines
#[derive(Args, Debug)]
#[command(
    long_about = "Tests the gate on this machine: false alarms, detection, broken baselines.\n\n\
                  It compares this program with itself, with itself built with another code layout (where the source and cargo are there), and \
                  with itself doing 2, 5 and 10 % more work in the kernels; then with a base that does more work, and with baselines that are \
                  missing or broken. The minimum effect is 1 % here, the allowed slowdown 2 %. It prints every outcome, the rates with 95 % intervals, and the \
                  effect that this machine can see, and leaves them as CSV and Markdown in --out; run again with the same --out it goes on. It exits with \
                  1 when something was not as it must be: a false alarm, a slowdown that passed, a broken baseline that was judged. With --from it replays a \
                  recording instead.",
    after_help = "Examples:
  tritbench selftest                       all but `busy` and `overhead`: eight minutes
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

    /// Do every comparison this often
    #[arg(long, value_name = "N", default_value = "1", value_parser = crate::args::positive)]
    repeat: usize,

    /// Name of an embedded suite, or path of a TOML file
    #[arg(long, value_name = "SUITE", default_value = "gate")]
    suite: String,

    /// The directory for the records: new, empty, or that of a test that was stopped [default: one under runs/; with --from none]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Replay a recording that `scripts/record aa` left, and measure nothing
    #[arg(long, value_name = "DIR", conflicts_with_all = ["budget", "part", "repeat", "suite"])]
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
    let wanted = |part: &Part| {
        if args.part.is_empty() {
            !Part::ON_REQUEST.contains(part)
        } else {
            args.part.contains(part)
        }
    };
    let live: Vec<Part> = Part::LIVE.into_iter().filter(wanted).collect();
    let timed = live.len() + usize::from(wanted(&Part::Overhead));
    let each = args.budget.unwrap_or(BUDGET) / timed.max(1) as u32;
    let mut ended = false;
    for nth in 0..args.repeat {
        for part in &live {
            ended = ended || !test.live(*part, nth, each)?;
        }
    }
    if wanted(&Part::Overhead) && !ended {
        ended = !test.overhead(each)?;
    }
    if wanted(&Part::Broken) && !ended {
        test.broken()?;
    }
    let findings = test.print(args, wanted(&Part::Drift))?;
    for finding in findings.iter().filter(|finding| finding.met == Some(false)) {
        say(&format!(
            "error: {}: {}; wanted: {}",
            finding.question, finding.found, finding.wanted
        ));
    }
    for wrong in &test.wrong {
        say(&format!("error: {wrong}"));
    }
    let right = test.wrong.is_empty() && findings.iter().all(|finding| finding.met != Some(false));
    Ok(match (ended, right) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Done,
        (false, false) => Exit::Failed,
    })
}

/// One thing that was tried, and what came of it.
struct Tried {
    part: Part,
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
    /// Comparisons of unchanged builds, and whether there was a false alarm.
    unchanged: Vec<(Part, bool)>,
    overheads: Vec<Overhead>,
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
            unchanged: Vec::new(),
            overheads: Vec::new(),
            wrong: Vec::new(),
        })
    }

    /// What is compared, or measured, under `dir` of the records.
    fn wanted(&self, nth: usize, time: Duration, dir: &Path, added: Vec<f64>) -> Wanted {
        Wanted {
            suite: self.args.suite.clone(),
            budget: Some(time),
            out: Some(dir.to_owned()),
            seed: Some(nth as u64 + 1),
            filter: None,
            limits: self.limits.clone(),
            extent: Extent::Once,
            added: AddedWork::InTurns(added),
        }
    }

    /// The two sides of a part; `None` when they cannot be had, which is told once.
    fn builds(&mut self, part: Part, nth: usize) -> Option<&[Built; 2]> {
        if part != Part::Layout {
            return Some(&self.this);
        }
        if self.layouts.is_none() {
            match layouts(env!("TRIT_REVISION")) {
                Ok(built) => self.layouts = Some(built),
                Err(why) if nth == 0 => {
                    say(&format!("left out: another code layout: {why}"));
                    self.tried.push(Tried {
                        part,
                        cell: String::new(),
                        added: 0.0,
                        verdict: "left out".to_owned(),
                        judged: None,
                        right: "left out",
                    });
                }
                Err(_) => {}
            }
        }
        self.layouts.as_ref()
    }

    /// One comparison. `false` when it was interrupted.
    fn live(&mut self, part: Part, nth: usize, time: Duration) -> Result<bool, Failure> {
        // Which cells get how much changes with each repetition.
        let mut spread = part.added().to_vec();
        let turn = nth % spread.len().max(1);
        spread.rotate_left(turn);
        let dir = self.out.join(format!("{}-{nth}", part.name()));
        let wanted = self.wanted(nth, time, &dir, spread);
        let (interrupted, repeat) = (self.interrupted, self.args.repeat);
        let Some(builds) = self.builds(part, nth) else {
            return Ok(true);
        };
        say(&format!("{}, {} of {repeat}", part.name(), nth + 1));
        let record = if let Some(record) = left(&dir, builds, time)? {
            say("it is there already");
            record
        } else {
            let busy = (part == Part::Busy).then(Busy::start).transpose()?;
            let measured = compare(builds, wanted, interrupted)?;
            drop(busy);
            match measured {
                Some((record, outcome)) if !outcome.outcome.interrupted => record,
                _ => return Ok(false),
            }
        };
        let report = trit_report::gate_record(&record, &self.limits)
            .map_err(|error| gate_failure(&error))?;
        let session = record.session().map_err(|error| record_failure(&error))?;
        let added = session.comparison.unwrap_or_default().added;
        self.note(part, &report, &added);
        Ok(true)
    }

    fn note(&mut self, part: Part, report: &GateReport, added: &BTreeMap<String, [f64; 2]>) {
        let alarm = report
            .judged()
            .any(|cell| cell.verdict == Verdict::Regressed);
        if part.unchanged().is_some() {
            self.unchanged.push((part, alarm));
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
                    "{}: {} is {} with {percent} % of added work: {}",
                    part.name(),
                    cell.cell,
                    cell.verdict.name(),
                    cell.why
                ));
            }
            self.tried.push(Tried {
                part,
                cell: cell.cell.clone(),
                added: percent,
                verdict: cell.verdict.name().to_owned(),
                judged: Some(cell.clone()),
                right,
            });
        }
    }

    /// What the harness costs. `false` when it was interrupted.
    fn overhead(&mut self, time: Duration) -> Result<bool, Failure> {
        // Its rows are written for their cost alone: they go to a new place each time.
        let free = (0..).map(|nth| self.out.join(format!("overhead-{nth}")));
        let Some(dir) = free.into_iter().find(|dir| !dir.exists()) else {
            return Ok(true);
        };
        let wanted = self.wanted(0, time, &dir, Vec::new());
        match overhead(&wanted, &dir, self.interrupted)? {
            Some(overheads) => {
                self.overheads = overheads;
                Ok(true)
            }
            None => Ok(false),
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
                part: Part::Broken,
                cell: name.to_owned(),
                added: 0.0,
                verdict: if refused { "refused" } else { "judged" }.to_owned(),
                judged: None,
                right: if refused { "yes" } else { "no" },
            });
        }
        Ok(())
    }

    /// Every outcome as a table.
    fn outcomes(&self) -> Table {
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
                tried.part.name().into(),
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
        table
    }

    /// Counts of verdicts, and what they are to be.
    fn counts(&self) -> (Table, Vec<Finding>) {
        let (mut rates, mut findings) = (rate_table(), Vec::new());
        for part in Part::LIVE {
            let Some(sides) = part.unchanged() else {
                continue;
            };
            let of_part = self.unchanged.iter().filter(|(of, _)| *of == part);
            let (alarms, trials) = of_part.fold((0, 0), |(alarms, trials), (_, alarm)| {
                (alarms + u64::from(*alarm), trials + 1)
            });
            let Some(bound) = binomial_upper_bound(alarms, trials, 0.95) else {
                continue;
            };
            let question = format!("comparisons with a false alarm: {sides}");
            rate_row(&mut rates, "tritbench", &question, 0.0, alarms, trials);
            findings.push(Finding::new(
                &question,
                "none".to_owned(),
                format!(
                    "{alarms} of {trials}; the rate is below {:.1} % with confidence 0.95",
                    100.0 * bound
                ),
                Some(alarms == 0),
            ));
        }
        for percent in SLOWDOWNS.into_iter().chain([NEGATIVE]) {
            let all: Vec<&Tried> = self
                .tried
                .iter()
                .filter(|tried| (tried.added - percent).abs() < 1e-9 && tried.added != 0.0)
                .collect();
            let trials = all.len() as u64;
            if trials == 0 {
                continue;
            }
            let count = |verdicts: &[&str]| {
                let of = |tried: &&&Tried| verdicts.contains(&tried.verdict.as_str());
                all.iter().filter(of).count() as u64
            };
            let (word, wrong) = if percent > 0.0 {
                ("regressed", ["passed", "improved"].as_slice())
            } else {
                ("improved", ["regressed"].as_slice())
            };
            let found = count(&[word]);
            rate_row(
                &mut rates,
                "tritbench",
                &format!("cells {word}"),
                percent,
                found,
                trials,
            );
            let interval = wilson(found, trials, 0.95).map_or_else(String::new, |interval| {
                format!(
                    " ({:.0} to {:.0} %)",
                    100.0 * interval.lo,
                    100.0 * interval.hi
                )
            });
            findings.push(Finding::new(
                &format!("cells with {percent} % of added work: {word}"),
                "what this machine can see".to_owned(),
                format!("{found} of {trials}{interval}"),
                None,
            ));
            let missed = count(wrong);
            let question = format!("cells {}", wrong.join(" or "));
            rate_row(&mut rates, "tritbench", &question, percent, missed, trials);
            findings.push(Finding::new(
                &format!(
                    "cells with {percent} % of added work: {}",
                    wrong.join(" or ")
                ),
                "none".to_owned(),
                format!("{missed} of {trials}"),
                Some(missed == 0),
            ));
        }
        (rates, findings)
    }

    /// Prints and records everything; gives what it was held against.
    fn print(&self, args: &SelftestArgs, drift: bool) -> Result<Vec<Finding>, Failure> {
        let mut record = Record::new(
            "A self-test of the gate",
            &trit_measure::machine().summary(),
            &trit_run::utc_iso_now(),
        );
        let mut text = String::new();
        let mut show = |name, title: &str, table: Table| {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&table.render(args.format.format));
            record.table(name, title, table);
        };
        let (rates, mut findings) = self.counts();
        if !self.tried.is_empty() {
            show("outcomes", "Every outcome", self.outcomes());
            show("rates", "Counts, with Wilson's interval at 95 %", rates);
        }
        if drift {
            let (table, finding) = drift_table();
            findings.push(finding);
            show("drift", "Drift by a fake clock", table);
        }
        if !self.overheads.is_empty() {
            let (table, found) = overhead_table(&self.overheads);
            findings.extend(found);
            show("overhead", "What the harness costs a call", table);
        }
        show("findings", "What it shows", finding_table(&findings));
        Out::new().text(&text)?;
        let seen: Vec<f64> = self
            .tried
            .iter()
            .filter_map(|tried| tried.judged.as_ref()?.detectable_percent)
            .collect();
        if let Some(typical) = median(&seen) {
            let worst = seen.iter().copied().fold(0.0, f64::max);
            say(&format!(
                "this machine sees a slowdown of {typical:.2} % (median over cells) with probability 0.9 in the time given; {worst:.2} % in its worst cell"
            ));
        }
        record.write(&self.out)?;
        Ok(findings)
    }
}

/// The record of a comparison that an earlier test left whole. One that was cut short is removed.
fn left(dir: &Path, builds: &[Built; 2], time: Duration) -> Result<Option<RunDir>, Failure> {
    if !dir.join(SESSION_FILE).exists() {
        return Ok(None);
    }
    let record = RunDir::open(dir).map_err(|error| record_failure(&error))?;
    let session = record.session().map_err(|error| record_failure(&error))?;
    let made = session.comparison.unwrap_or_default();
    let sides = made.builds.iter().zip(builds);
    let same = sides
        .into_iter()
        .all(|(made, now)| made.sha256 == now.build.sha256);
    if !same || u128::from(session.plan.budget_ns) != time.as_nanos() {
        return Err(Failure::usage(anyhow::anyhow!(
            "`{}` is of another program, or of another budget; hint: give another --out",
            dir.display()
        )));
    }
    if made.ended.is_empty() || made.ended == "interrupted" {
        fs::remove_dir_all(dir).map_err(|error| {
            let place = dir.display().to_string();
            Failure::failed(anyhow::Error::new(error).context(format!("cannot remove `{place}`")))
        })?;
        return Ok(None);
    }
    Ok(Some(record))
}
