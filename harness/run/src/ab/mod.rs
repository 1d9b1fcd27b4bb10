//! Two builds against each other: fresh pairs of processes, ABBA blocks, fixed looks, a confirmation.
//!
//! Everything random comes from the seed of the plan; everything that decides when to stop is fixed before the first
//! block: the looks depend on the budget and on how long it takes to set a pair of processes up, never on a result.

mod bench;
mod schedule;
mod taken;

use std::collections::{BTreeMap, BTreeSet};

use trit_core::{
    Appender, Cell, Comparison, Limits, Measurement, Plan, Rng, RunDir, RunDirError, Session, Side,
    Status, Workload, paired_blocks,
};
use trit_measure::Clock;
use trit_stats::judge::{
    CellBlocks, FEWEST_PAIRS, Judgements, Look, PairBlocks, Rule, by_process, judge, looks,
};

use crate::execute::verify::FirstAnswers;
use crate::execute::{RunError, Timeouts, measurement};
use crate::outcome::Outcome;
use crate::pairing::{Pairing, SideError};
use crate::process::{Worker, WorkerCommand};
use crate::progress::Progress;
use crate::protocol::{Job, Opened, Task};
use crate::reference::{References, Truth};
use crate::tasks::{has_reference, reference_task, task_of};
use bench::{Bench, SIDES, Stop, Subject, Taking};
use schedule::{FEWEST_VISITS, least_ns, schedule};

/// The cell that is the same in every build.
pub(crate) const CONTROL: &str = "control/t1";
/// Time of one slice. Blocks of a few milliseconds beat longer ones on shared machines: many of them cancel the steps of
/// the machine's speed that long ones straddle.
const SLICE_NS: u64 = 2_500_000;
/// Most visits of each cell with one pair of processes of a confirmation, where cells are few.
const MOST_VISITS: u64 = 30;
/// Pairs of processes of a confirmation.
const CONFIRM_PAIRS: u64 = 8;
/// The part of the budget that the first phase may take when a confirmation may follow.
const FIRST_PHASE: f64 = 0.6;
/// A cold working set is this many times the last-level cache: enough to be in memory, little enough to fill again for
/// every process.
const COLD_CACHES: u64 = 4;

/// How far a comparison goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Until the looks have decided or the budget is over, with a confirmation.
    Once,
    /// As a recording: this many comparisons one after another, each with the whole budget as its first phase.
    Pieces(u64),
}

/// What is compared, how and where.
pub struct AbOptions<'a> {
    /// The record; its plan has the cells, its comparison the builds.
    pub session: Session,
    /// Where the rows go. The pieces of a recording that are there already are kept.
    pub dir: RunDir,
    /// How workers of the base and of the head are started.
    pub workers: [WorkerCommand; 2],
    /// How the worker is started that says what is right.
    pub reference: WorkerCommand,
    /// How long workers may take.
    pub timeouts: Timeouts,
    /// Minimum effect and allowed slowdown.
    pub limits: Limits,
    /// How far it goes.
    pub extent: Extent,
    /// Last-level cache, as reported.
    pub l3_bytes: u64,
    /// Whether somebody wants it to end.
    pub interrupted: &'a dyn Fn() -> bool,
    /// The clock of the budget.
    pub clock: &'a dyn Clock,
}

/// Makes cold working sets as small as processes can fill again and again.
pub(crate) fn limit_cold(plan: &mut Plan, l3_bytes: u64) {
    let floor = COLD_CACHES.saturating_mul(l3_bytes.max(8 << 20));
    plan.cold_bytes = plan.cold_bytes.min(floor);
}

/// What came of a comparison.
#[derive(Debug)]
pub struct AbOutcome {
    /// Cells and how it ended.
    pub outcome: Outcome,
    /// What the looks said; none for a recording.
    pub judgements: Option<Judgements>,
}

/// What does not change meanwhile.
pub(crate) struct Settings<'a> {
    workers: [WorkerCommand; 2],
    timeouts: Timeouts,
    interrupted: &'a dyn Fn() -> bool,
}

/// A cell and what became of it.
struct Entry {
    row: Cell,
    subject: Subject,
    iterations: Option<u64>,
    alive: bool,
    measured: bool,
}

/// Why the work ends before its end.
enum End {
    Interrupted,
    Record(RunDirError),
}

impl From<RunDirError> for End {
    fn from(error: RunDirError) -> Self {
        Self::Record(error)
    }
}

struct Ab<'a, 'p> {
    settings: Settings<'a>,
    clock: &'a dyn Clock,
    progress: &'p mut dyn Progress,
    session: Session,
    comparison: Comparison,
    limits: Limits,
    dir: RunDir,
    cells: Appender<Cell>,
    measurements: Appender<Measurement>,
    entries: Vec<Entry>,
    first: FirstAnswers,
    rows: Vec<Measurement>,
    start_ns: u64,
    /// Longest set-up of a pair of processes with all cells.
    setup_ns: u64,
    /// Time of one visit to every cell.
    visit_ns: u64,
    unusable_content: bool,
}

/// Compares two builds.
///
/// # Errors
/// When rows cannot be read or written. What happens to cells is in their rows.
pub fn compare_builds(
    options: AbOptions<'_>,
    progress: &mut dyn Progress,
) -> Result<AbOutcome, RunError> {
    let extent = options.extent;
    let (first_round, mut ab) = Ab::new(options, progress)?;
    let ended = match extent {
        Extent::Once => ab.once(),
        Extent::Pieces(pieces) => ab.pieces(first_round, pieces).map(|()| None),
    };
    let (judgements, interrupted) = match ended {
        Ok(judgements) => (judgements, false),
        Err(End::Interrupted) => (None, true),
        Err(End::Record(error)) => return Err(error.into()),
    };
    if interrupted {
        "interrupted".clone_into(&mut ab.comparison.ended);
    }
    ab.finish()?;
    Ok(AbOutcome {
        outcome: Outcome {
            cells: ab.entries.iter().map(|entry| entry.row.clone()).collect(),
            dir: ab.dir.path().to_owned(),
            interrupted,
            unusable_content: ab.unusable_content,
            energy_missing: false,
        },
        judgements,
    })
}

impl<'a, 'p> Ab<'a, 'p> {
    fn new(
        options: AbOptions<'a>,
        progress: &'p mut dyn Progress,
    ) -> Result<(u64, Self), RunDirError> {
        let mut session = options.session;
        limit_cold(&mut session.plan, options.l3_bytes);
        let mut comparison = session.comparison.clone().unwrap_or_default();
        CONTROL.clone_into(&mut comparison.control);
        let first_round = if options.dir.path().join("measurements.csv").exists() {
            let rows = options.dir.measurements()?;
            rows.iter().map(|row| row.round + 1).max().unwrap_or(0)
        } else {
            0
        };
        let mut entries: Vec<Entry> = session
            .plan
            .cells
            .iter()
            .map(|planned| Entry {
                subject: Subject {
                    id: planned.cell.cell.clone(),
                    task: task_of(&session.plan, planned),
                    truth: None,
                    added: comparison
                        .added
                        .get(&planned.cell.cell)
                        .copied()
                        .unwrap_or_default(),
                },
                alive: planned.cell.reason == trit_core::NOT_MEASURED,
                row: planned.cell.clone(),
                iterations: None,
                measured: false,
            })
            .collect();
        entries.push(control(&session));
        let mut cells = options.dir.append::<Cell>()?;
        if first_round == 0 {
            let rows: Vec<Cell> = entries.iter().map(|entry| entry.row.clone()).collect();
            cells.rows(&rows)?;
        }
        let mut ab = Self {
            settings: Settings {
                workers: options.workers,
                timeouts: options.timeouts,
                interrupted: options.interrupted,
            },
            start_ns: options.clock.now_ns(),
            clock: options.clock,
            progress,
            measurements: options.dir.append()?,
            cells,
            session,
            comparison,
            limits: options.limits,
            dir: options.dir,
            entries,
            first: FirstAnswers::default(),
            rows: Vec::new(),
            setup_ns: 0,
            visit_ns: 0,
            unusable_content: false,
        };
        ab.progress.begin(&ab.session.plan, 0);
        ab.write_session()?;
        ab.references(&options.reference)?;
        Ok((first_round, ab))
    }

    fn write_session(&mut self) -> Result<(), RunDirError> {
        self.session.comparison = Some(self.comparison.clone());
        self.dir.write_session(&self.session)
    }

    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    fn seed(&self) -> u64 {
        self.session.plan.seed
    }

    /// Asks once what is right.
    fn references(&mut self, command: &WorkerCommand) -> Result<(), RunDirError> {
        let threads = self.entries.iter().map(|entry| entry.subject.task.threads);
        let threads = threads.max().unwrap_or(1);
        let mut known = References::default();
        let mut worker = None;
        for at in 0..self.entries.len() {
            let entry = &self.entries[at];
            if !entry.alive || !has_reference(&entry.subject.task) {
                continue;
            }
            self.progress.working("what is right", 0.0);
            // A lossy kernel or a baseline needs the sums; which one is, the workers say later.
            let sums = entry.subject.task.symmetric;
            let task = reference_task(&entry.subject.task, threads);
            let truth = match known.get(&task, sums) {
                Some(truth) => truth,
                None => known.put(&task, self.reference(&mut worker, command, &task, sums)),
            };
            match truth {
                Ok(truth) => self.entries[at].subject.truth = Some(truth),
                Err(why) => self.drop_cell(at, Status::Failed, format!("no reference: {why}"))?,
            }
        }
        if let Some(worker) = worker {
            worker.stop(self.settings.timeouts.start);
        }
        Ok(())
    }

    fn reference(
        &self,
        worker: &mut Option<Worker>,
        command: &WorkerCommand,
        task: &Task,
        sums: bool,
    ) -> Result<crate::protocol::Reply, String> {
        let settings = &self.settings;
        let mut asked = match worker.take() {
            Some(worker) => worker,
            None => Worker::start(command, settings.timeouts.start, settings.interrupted)
                .map_err(|error| error.to_string())?,
        };
        let request = References::request(task, sums);
        let reply = asked.ask(&request, settings.timeouts.setup, settings.interrupted);
        let reply = reply.map_err(|error| error.to_string())?;
        *worker = Some(asked);
        Ok(reply)
    }

    /// Takes a cell out of the comparison; its row says why.
    fn drop_cell(&mut self, at: usize, status: Status, reason: String) -> Result<(), RunDirError> {
        let entry = &mut self.entries[at];
        entry.alive = false;
        entry.row.status = status;
        entry.row.reason = reason;
        let row = entry.row.clone();
        self.progress.finished(&row);
        self.cells.rows(&[row])
    }

    /// The cells that can be measured.
    fn alive(&self) -> Vec<usize> {
        (0..self.entries.len())
            .filter(|&at| self.entries[at].alive)
            .collect()
    }

    /// A side stopped at a cell. `false` when its processes are lost.
    fn stopped(&mut self, at: usize, side: usize, stop: Stop) -> Result<bool, End> {
        match stop {
            Stop::Interrupted => Err(End::Interrupted),
            Stop::Cell {
                status,
                reason,
                content,
                process,
            } => {
                self.unusable_content |= content;
                let reason = format!("{}: {reason}", SIDES[side]);
                self.drop_cell(at, status, reason)?;
                Ok(!process)
            }
        }
    }

    /// Measures with one fresh pair of processes: `which` cells, until they had `time_ns` and the fewest visits.
    /// `time_ns` is asked for once everything is set up.
    fn pair(
        &mut self,
        round: u64,
        process: u64,
        which: &[usize],
        time_ns: &mut dyn FnMut(&mut Self) -> Result<u64, RunDirError>,
    ) -> Result<(), End> {
        let settings = Settings {
            workers: self.settings.workers.clone(),
            ..self.settings
        };
        let began = self.now_ns();
        let mut rng = Rng::named(self.seed(), &format!("processes {round} {process}"));
        let mut bench = match Bench::start(&settings, &mut rng) {
            Ok(bench) => bench,
            Err((_, Stop::Interrupted)) => return Err(End::Interrupted),
            Err((side, Stop::Cell { reason, status, .. })) => {
                for at in which {
                    let reason = format!("{}: {reason}", SIDES[side]);
                    self.drop_cell(*at, status, reason)?;
                }
                return Ok(());
            }
        };
        for (build, version) in self.comparison.builds.iter_mut().zip(bench.versions()) {
            build.version = version;
        }
        let mut which = which.to_vec();
        rng.shuffle(&mut which);
        let mut open = Vec::new();
        for at in which {
            let subject = self.entries[at].subject.clone();
            self.progress.working(&subject.id, self.fraction());
            let opened = bench.open(&subject, &mut rng).and_then(|opened| {
                let iterations = match self.entries[at].iterations {
                    Some(iterations) => iterations,
                    None => bench.calibrate(&subject, SLICE_NS, &mut self.first)?,
                };
                Ok((opened, iterations))
            });
            match opened {
                Ok((opened, iterations)) => {
                    self.entries[at].iterations = Some(iterations);
                    self.keep_facts(at, &opened);
                    open.push((at, subject, iterations));
                }
                Err((side, stop)) => {
                    if !self.stopped(at, side, stop)? {
                        return Ok(());
                    }
                }
            }
        }
        self.setup_ns = self.setup_ns.max(self.now_ns().saturating_sub(began));
        let result = self.visits(round, process, &mut open, &mut bench, &mut rng, time_ns);
        bench.stop();
        result
    }

    fn visits(
        &mut self,
        round: u64,
        process: u64,
        open: &mut Vec<(usize, Subject, u64)>,
        bench: &mut Bench<'_>,
        rng: &mut Rng,
        time_ns: &mut dyn FnMut(&mut Self) -> Result<u64, RunDirError>,
    ) -> Result<(), End> {
        let mut pairings: BTreeMap<usize, Pairing> = open
            .iter()
            .map(|(at, subject, iterations)| {
                let name = format!("{} {round} {process}", subject.id);
                (*at, Pairing::new(self.seed(), &name, 0, [*iterations; 2]))
            })
            .collect();
        let mut time = None;
        let mut start = self.now_ns();
        let mut visit = 0u64;
        // The first visit is a warm-up, and shows how long a visit takes.
        loop {
            let before = self.now_ns();
            rng.shuffle(open);
            let mut lost = BTreeSet::new();
            for (at, subject, _) in open.iter() {
                if (self.settings.interrupted)() {
                    return Err(End::Interrupted);
                }
                let Some(pairing) = pairings.get_mut(at) else {
                    continue;
                };
                let mut taking = Taking {
                    bench: &mut *bench,
                    subject,
                    first: &mut self.first,
                    visit: pairing.next_index(),
                    reset_peak: false,
                };
                match pairing.block(&mut taking) {
                    Ok(_) if visit == 0 => {}
                    Ok(block) => {
                        let rows: Vec<Measurement> = (0..)
                            .zip(&block.samples)
                            .map(|(sample, (side, times))| Measurement {
                                round,
                                block: block.index,
                                side: *side,
                                sample,
                                process: Some(process),
                                ..measurement(&subject.id, times)
                            })
                            .collect();
                        self.add_cpu(&subject.id, &block.samples);
                        self.measurements.rows(&rows)?;
                        self.rows.extend(rows);
                        self.entries[*at].measured = true;
                    }
                    Err(SideError { side, error }) => {
                        lost.insert(*at);
                        let side = usize::from(side == Side::B);
                        if !self.stopped(*at, side, error)? {
                            return Ok(());
                        }
                    }
                }
            }
            open.retain(|(at, ..)| !lost.contains(at));
            if open.is_empty() {
                return Ok(());
            }
            let now = self.now_ns();
            if visit == 0 {
                self.visit_ns = self.visit_ns.max(now.saturating_sub(before));
                time = Some(time_ns(self)?);
                start = now;
            }
            visit += 1;
            let over = now.saturating_sub(start) >= time.unwrap_or(0);
            if over && visit > FEWEST_VISITS {
                return Ok(());
            }
        }
    }

    fn keep_facts(&mut self, at: usize, opened: &Opened) {
        let row = &mut self.entries[at].row;
        for (to, from) in [
            (&mut row.layout, &opened.layout),
            (&mut row.isa, &opened.isa),
            (&mut row.head, &opened.head),
        ] {
            if !from.is_empty() {
                to.clone_from(from);
            }
        }
        row.weight_bits = opened.weight_bits.or(row.weight_bits);
        row.bytes_per_call = opened.bytes_per_call.or(row.bytes_per_call);
        row.ops_per_call = opened.ops_per_call.or(row.ops_per_call);
    }

    fn fraction(&self) -> f64 {
        let over = self.now_ns().saturating_sub(self.start_ns) as f64;
        (over / self.session.plan.budget_ns.max(1) as f64).min(1.0)
    }

    fn left_ns(&self) -> u64 {
        let end = self.start_ns.saturating_add(self.session.plan.budget_ns);
        end.saturating_sub(self.now_ns())
    }

    /// Fixes looks and times, once it is known how long setting up takes. Nothing about the builds is known then.
    fn fix_looks(&mut self) -> Result<u64, RunDirError> {
        // The look at the memory sets every cell up once more.
        let left_ns = self.left_ns().saturating_sub(self.setup_ns);
        let first_ns = (left_ns as f64 * FIRST_PHASE) as u64;
        let (pairs, pair_ns) = schedule(first_ns, self.setup_ns, self.visit_ns);
        let least_ns = least_ns(self.setup_ns, self.visit_ns);
        if least_ns > first_ns {
            // What is over already, the look at the memory, and a first phase at its shortest with what may follow it.
            let over_ns = self.now_ns().saturating_sub(self.start_ns);
            let around_ns = over_ns.saturating_add(self.setup_ns) as f64;
            let seconds = (around_ns + least_ns as f64 / FIRST_PHASE) / 1e9;
            self.progress.note(&format!(
                "a verdict needs {FEWEST_PAIRS} pairs of processes that each visit every cell {FEWEST_VISITS} times, which takes some {:.0} s here: \
                 longer than --budget allows; hint: fewer or shorter cells, or --budget {:.0}s",
                (least_ns as f64 / 1e9).ceil(),
                seconds.ceil(),
            ));
        }
        self.comparison.pair_ns = pair_ns;
        self.comparison.looks = looks(pairs as usize)
            .iter()
            .map(|look| (look.pairs as u64, look.share))
            .collect();
        self.comparison.confirm_pairs = CONFIRM_PAIRS.min(pairs.max(FEWEST_PAIRS as u64));
        self.write_session()?;
        Ok(pair_ns)
    }

    fn once(&mut self) -> Result<Option<Judgements>, End> {
        let mut process = 0;
        let (mut judged, ended) = loop {
            let alive = self.alive();
            if !self.has_cells() {
                "no cell is left".clone_into(&mut self.comparison.ended);
                return Ok(None);
            }
            self.pair(0, process, &alive, &mut |ab| {
                if ab.comparison.looks.is_empty() {
                    ab.fix_looks()
                } else {
                    Ok(ab.comparison.pair_ns)
                }
            })?;
            process += 1;
            let looks = self.comparison.looks.clone();
            if looks.iter().any(|(pairs, _)| *pairs == process) {
                let judged = self.judge();
                if looks.last().is_some_and(|(pairs, _)| *pairs == process) {
                    break (judged, "the last look was reached");
                }
                if judged.settled() {
                    break (judged, "every cell was decided");
                }
            }
        };
        let doubtful = judged.to_confirm();
        if !doubtful.is_empty() && !judged.disturbed {
            self.confirm(&doubtful)?;
            judged = self.judge();
        }
        self.look_at_memory()?;
        // Only now: a record that does not say how it ended was cut short.
        ended.clone_into(&mut self.comparison.ended);
        Ok(Some(judged))
    }

    /// Whether a cell is left that is not the control.
    fn has_cells(&self) -> bool {
        let alive = |entry: &Entry| entry.alive && entry.subject.task.job != Job::Control;
        self.entries.iter().any(alive)
    }

    /// The second phase: fresh processes for the cells that look slower.
    fn confirm(&mut self, doubtful: &[usize]) -> Result<(), End> {
        let compared = self.compared();
        let which: Vec<usize> = doubtful.iter().map(|at| compared[*at]).collect();
        self.progress.note(&format!(
            "confirming {} with fresh processes",
            which
                .iter()
                .map(|at| self.entries[*at].subject.id.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        ));
        let all = self.alive().len().max(1) as f64;
        let part = which.len() as f64 / all;
        let pairs = self.comparison.confirm_pairs.max(FEWEST_PAIRS as u64);
        for process in 0..pairs {
            let which: Vec<usize> = which
                .iter()
                .copied()
                .filter(|at| self.entries[*at].alive)
                .collect();
            if which.is_empty() {
                return Ok(());
            }
            // The rest of the set-ups, and that of the look at the memory.
            let later = (self.setup_ns as f64 * part) as u64 * (pairs - process - 1);
            let later = later.saturating_add(self.setup_ns);
            let visit_ns = (self.visit_ns as f64 * part) as u64;
            self.pair(1, process, &which, &mut |ab| {
                let share = ab.left_ns().saturating_sub(later) / (pairs - process);
                Ok(share.min(MOST_VISITS * visit_ns))
            })?;
        }
        Ok(())
    }

    fn pieces(&mut self, first_round: u64, pieces: u64) -> Result<(), End> {
        for round in first_round..first_round.saturating_add(pieces) {
            self.rows.clear();
            let mut process = 0;
            // One look, at the end. How many pairs that is, the first pair of all tells.
            while process < self.comparison.looks.first().map_or(1, |(pairs, _)| *pairs) {
                let alive = self.alive();
                if !self.has_cells() {
                    "no cell is left".clone_into(&mut self.comparison.ended);
                    return Ok(());
                }
                self.pair(round, process, &alive, &mut |ab| {
                    if ab.comparison.looks.is_empty() {
                        let budget_ns = ab.session.plan.budget_ns;
                        let (pairs, pair_ns) = schedule(budget_ns, ab.setup_ns, ab.visit_ns);
                        ab.comparison.pair_ns = pair_ns;
                        ab.comparison.looks = vec![(pairs, 1.0)];
                    }
                    Ok(ab.comparison.pair_ns)
                })?;
                process += 1;
            }
            self.comparison.pieces = round + 1;
            self.write_session()?;
            self.progress
                .note(&format!("piece {} of {}", round + 1 - first_round, pieces));
        }
        "the last piece was recorded".clone_into(&mut self.comparison.ended);
        Ok(())
    }

    /// The cells that are judged, in the order of the plan: those that still live, without the control.
    fn compared(&self) -> Vec<usize> {
        let alive = self.alive().into_iter();
        alive
            .filter(|at| self.entries[*at].subject.task.job != Job::Control)
            .collect()
    }

    fn judge(&self) -> Judgements {
        let blocks = paired_blocks(&self.rows);
        let pairs = |id: &str, round: u64| -> Vec<PairBlocks> {
            by_process(
                blocks
                    .iter()
                    .filter(|block| block.cell == id && block.round == round)
                    .map(|block| (block.process as usize, block.ratios())),
            )
        };
        let limits = |id: &str| {
            let limits = self.limits.of(id);
            CellBlocks {
                min_effect: (limits.min_effect_percent / 100.0).ln_1p(),
                allowed: (limits.allowed_slowdown_percent / 100.0).ln_1p(),
                ..CellBlocks::default()
            }
        };
        let cells: Vec<CellBlocks> = self
            .compared()
            .into_iter()
            .map(|at| {
                let id = &self.entries[at].subject.id;
                CellBlocks {
                    first: pairs(id, 0),
                    second: pairs(id, 1),
                    ..limits(id)
                }
            })
            .collect();
        let looks: Vec<Look> = self
            .comparison
            .looks
            .iter()
            .map(|(pairs, share)| Look {
                pairs: *pairs as usize,
                share: *share,
            })
            .collect();
        judge(
            &cells,
            &limits(trit_core::MEAN),
            &pairs(CONTROL, 0),
            &looks,
            &Rule::default(),
        )
    }

    /// Final rows.
    fn finish(&mut self) -> Result<(), RunDirError> {
        let mut rows = Vec::new();
        let done = |entry: &&mut Entry| entry.alive && entry.measured;
        for entry in self.entries.iter_mut().filter(done) {
            entry.row.status = Status::Ok;
            entry.row.reason.clear();
            rows.push(entry.row.clone());
        }
        self.cells.rows(&rows)?;
        for row in rows.iter().filter(|row| row.cell != CONTROL) {
            self.progress.finished(row);
        }
        self.write_session()
    }
}

/// The control cell.
fn control(session: &Session) -> Entry {
    Entry {
        row: Cell {
            cell: CONTROL.to_owned(),
            status: Status::Skipped,
            reason: trit_core::NOT_MEASURED.to_owned(),
            subject: "control".to_owned(),
            workload: Workload::Control,
            threads: Some(1),
            ..Cell::default()
        },
        subject: Subject {
            id: CONTROL.to_owned(),
            task: Task {
                job: Job::Control,
                threads: 1,
                seed: session.plan.seed,
                ..Task::default()
            },
            truth: None::<Truth>,
            added: [0.0; 2],
        },
        iterations: None,
        alive: true,
        measured: false,
    }
}
