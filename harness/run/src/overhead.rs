//! What the harness itself costs: the same slices with a part of it and without, in turns.
//!
//! Of each cell there is one in a worker process and one in a thread of this process. Blocks A B B A (A with the part, B without)
//! give log ratios of the time of a call, and fresh processes and threads sample the placement of pages, as for two builds.

use std::collections::BTreeMap;

use trit_core::{Appender, Measurement, NOT_MEASURED, Plan, Rng, RunDir, RunDirError, Side};
use trit_measure::Clock;
use trit_stats::judge::{Estimate, FEWEST_PAIRS, PairBlocks, estimate};

use crate::ab::limit_cold;
use crate::execute::{Timeouts, measurement};
use crate::pairing::{Contest, Pairing, SideError, iterations_for};
use crate::process::{Worker, WorkerCommand, WorkerError};
use crate::progress::Progress;
use crate::protocol::{Answer, Job, Reply, Request, Sample, Task};
use crate::tasks::task_of;
use crate::worker::Inside;

/// Time of one slice, as in a comparison of two builds.
const SLICE_NS: u64 = 2_500_000;
/// Blocks of each part and cell with one pair of processes; one more warms up.
const VISITS: u64 = 12;
/// Pairs of processes beyond which there is no need.
const MOST_PAIRS: usize = 24;
/// Level of the intervals.
const LEVEL: f64 = 0.95;

/// A part of the harness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Reading CPU time, switches, memory and counters around a slice.
    Sampling,
    /// A process of its own for the subject, instead of a thread of this one.
    Isolation,
    /// Writing the row of a slice and flushing it before the next one.
    Recording,
    /// All three.
    All,
}

impl Part {
    /// Every part.
    pub const ALL: [Self; 4] = [Self::Sampling, Self::Isolation, Self::Recording, Self::All];

    /// The word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sampling => "sampling",
            Self::Isolation => "isolation",
            Self::Recording => "recording",
            Self::All => "all three",
        }
    }
}

/// What a part costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Overhead {
    /// The part.
    pub part: Part,
    /// The cell.
    pub cell: String,
    /// Log ratio of the time of a call with the part over that without; missing when there was not enough time.
    pub estimate: Option<Estimate>,
}

/// What is measured, and how.
pub struct OverheadOptions<'a> {
    /// The cells, and the time that it may take.
    pub plan: Plan,
    /// How a worker is started.
    pub worker: WorkerCommand,
    /// How long workers may take.
    pub timeouts: Timeouts,
    /// Where rows go when they are recorded.
    pub dir: RunDir,
    /// Last-level cache, as reported.
    pub l3_bytes: u64,
    /// Whether somebody wants it to end.
    pub interrupted: &'a dyn Fn() -> bool,
    /// The clock of the budget.
    pub clock: &'a dyn Clock,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum OverheadError {
    /// A worker.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// Rows could not be recorded.
    #[error(transparent)]
    Record(#[from] RunDirError),
    /// A cell went wrong.
    #[error("{cell}: {why}")]
    Cell {
        /// The cell.
        cell: String,
        /// What it did.
        why: String,
    },
}

/// One cell in both places.
struct Opened {
    id: String,
    slot: u64,
    engine: bool,
    iterations: u64,
}

/// Both places, and what they were seen to answer.
struct Places<'a, 'o> {
    options: &'a OverheadOptions<'o>,
    worker: Worker,
    inside: Inside,
    rows: Appender<Measurement>,
    first: BTreeMap<(String, u64), String>,
}

impl Places<'_, '_> {
    fn ask(&mut self, isolated: bool, request: Request) -> Result<Reply, OverheadError> {
        if isolated {
            let timeout = match request {
                Request::Slice { .. } => self.options.timeouts.slice,
                _ => self.options.timeouts.setup,
            };
            Ok(self
                .worker
                .ask(&request, timeout, self.options.interrupted)?)
        } else {
            self.inside.ask(request).map_err(|why| OverheadError::Cell {
                cell: String::new(),
                why,
            })
        }
    }

    fn open(
        &mut self,
        id: &str,
        slot: u64,
        task: &Task,
        rng: &mut Rng,
    ) -> Result<(), OverheadError> {
        for isolated in [true, false] {
            let task = Task {
                page_seed: rng.next_u64(),
                ..task.clone()
            };
            match self.ask(isolated, Request::Open { slot, task })? {
                Reply::Opened(opened) if !opened.bounded => {}
                Reply::Opened(_) => {
                    return Err(wrong(id, "its answers are right within a bound only"));
                }
                other => return Err(unexpected(id, &other)),
            }
        }
        Ok(())
    }

    /// One slice, whose answers have to be those of all slices before it.
    fn slice(
        &mut self,
        cell: &Opened,
        isolated: bool,
        bare: bool,
    ) -> Result<Sample, OverheadError> {
        let request = Request::Slice {
            slot: cell.slot,
            iterations: cell.iterations,
            warm_up: u64::from(!cell.engine),
            reset_peak: false,
            bare,
        };
        let (sample, answers) = match self.ask(isolated, request)? {
            Reply::Sliced {
                sample, answers, ..
            } => (sample, answers),
            other => return Err(unexpected(&cell.id, &other)),
        };
        if answers.is_empty() {
            return Err(wrong(&cell.id, "it gave no answer to verify"));
        }
        for Answer { set, digest } in answers {
            let first = self.first.entry((cell.id.clone(), set));
            if *first.or_insert_with(|| digest.clone()) != digest {
                return Err(wrong(
                    &cell.id,
                    "its answers differ with and without a part of the harness",
                ));
            }
        }
        Ok(sample)
    }
}

fn wrong(cell: &str, why: impl Into<String>) -> OverheadError {
    OverheadError::Cell {
        cell: cell.to_owned(),
        why: why.into(),
    }
}

fn unexpected(cell: &str, reply: &Reply) -> OverheadError {
    let why = match reply {
        Reply::Failure { message, .. } => message.clone(),
        other => format!("the worker answered something else: {other:?}"),
    };
    wrong(cell, why)
}

/// Slices of one cell with a part (A) and without (B).
struct OnOff<'p, 'a, 'o> {
    places: &'p mut Places<'a, 'o>,
    cell: &'p Opened,
    part: Part,
    last: Option<Sample>,
}

impl Contest for OnOff<'_, '_, '_> {
    type Error = OverheadError;

    fn slice(&mut self, side: Side, iterations: u64) -> Result<Sample, OverheadError> {
        let on = side == Side::A;
        // What a slice costs the next one is measured with it: rows are written before the slice.
        let recorded = on && matches!(self.part, Part::Recording | Part::All);
        if recorded {
            let last = self.last.take().unwrap_or_default();
            self.places
                .rows
                .rows(&[measurement(&self.cell.id, &last)])?;
        }
        let (isolated, bare) = match self.part {
            Part::Sampling => (true, !on),
            Part::Isolation => (on, true),
            Part::Recording => (true, false),
            Part::All => (on, !on),
        };
        let cell = Opened {
            id: self.cell.id.clone(),
            iterations,
            ..*self.cell
        };
        let sample = self.places.slice(&cell, isolated, bare)?;
        self.last = Some(sample.clone());
        Ok(sample)
    }
}

/// Measures what each part of the harness costs each cell of a plan.
///
/// # Errors
/// When a worker fails, a cell goes wrong, or rows cannot be written.
pub fn overheads(
    mut options: OverheadOptions<'_>,
    progress: &mut dyn Progress,
) -> Result<Vec<Overhead>, OverheadError> {
    limit_cold(&mut options.plan, options.l3_bytes);
    let tasks: Vec<(String, Task)> = options
        .plan
        .cells
        .iter()
        .filter(|planned| planned.cell.reason == NOT_MEASURED)
        .map(|planned| (planned.cell.cell.clone(), task_of(&options.plan, planned)))
        .collect();
    progress.begin(&options.plan, 0);
    let end = options
        .clock
        .now_ns()
        .saturating_add(options.plan.budget_ns);
    let mut iterations: BTreeMap<String, u64> = BTreeMap::new();
    let mut found: BTreeMap<(Part, String), Vec<PairBlocks>> = BTreeMap::new();
    let mut pairs = 0;
    let mut longest_ns = 0;
    while pairs < FEWEST_PAIRS
        || (pairs < MOST_PAIRS && options.clock.now_ns().saturating_add(longest_ns) <= end)
    {
        let began = options.clock.now_ns();
        pair(
            &options,
            &tasks,
            pairs,
            &mut iterations,
            &mut found,
            progress,
        )?;
        longest_ns = longest_ns.max(options.clock.now_ns().saturating_sub(began));
        pairs += 1;
    }
    Ok(tasks
        .iter()
        .flat_map(|(id, _)| Part::ALL.map(|part| (part, id.clone())))
        .map(|key| Overhead {
            estimate: found.get(&key).and_then(|pairs| estimate(pairs, LEVEL)),
            part: key.0,
            cell: key.1,
        })
        .collect())
}

/// One fresh process and one fresh thread.
fn pair(
    options: &OverheadOptions<'_>,
    tasks: &[(String, Task)],
    nth: usize,
    iterations: &mut BTreeMap<String, u64>,
    found: &mut BTreeMap<(Part, String), Vec<PairBlocks>>,
    progress: &mut dyn Progress,
) -> Result<(), OverheadError> {
    let seed = options.plan.seed;
    let mut rng = Rng::named(seed, &format!("overhead {nth}"));
    let mut places = Places {
        options,
        worker: Worker::start(&options.worker, options.timeouts.start, options.interrupted)?,
        inside: Inside::start().map_err(|why| wrong("a worker inside of this process", why))?,
        rows: options.dir.append()?,
        first: BTreeMap::new(),
    };
    let mut cells = Vec::new();
    for (slot, (id, task)) in (1..).zip(tasks) {
        progress.working(id, nth as f64 / MOST_PAIRS as f64);
        places.open(id, slot, task, &mut rng)?;
        let engine = matches!(task.job, Job::Prefill | Job::Decode);
        let mut cell = Opened {
            id: id.clone(),
            slot,
            engine,
            iterations: iterations.get(id).copied().unwrap_or(1),
        };
        if !engine && !iterations.contains_key(id) {
            for part in [10, 1] {
                let sample = places.slice(&cell, true, true)?;
                let call_ns = sample.time_ns as f64 / sample.iterations.max(1) as f64;
                cell.iterations = iterations_for(SLICE_NS / part, call_ns);
            }
        }
        iterations.insert(id.clone(), cell.iterations);
        for part in Part::ALL {
            let blocks = found.entry((part, id.clone())).or_default();
            blocks.resize(nth + 1, PairBlocks::default());
        }
        cells.push(cell);
    }
    let mut order: Vec<(usize, Part)> = (0..cells.len())
        .flat_map(|at| Part::ALL.map(|part| (at, part)))
        .collect();
    let mut pairings: BTreeMap<(usize, Part), Pairing> = order
        .iter()
        .map(|(at, part)| {
            let name = format!("{} {} {nth}", cells[*at].id, part.name());
            let each = [cells[*at].iterations; 2];
            ((*at, *part), Pairing::new(seed, &name, 0, each))
        })
        .collect();
    for visit in 0..=VISITS {
        rng.shuffle(&mut order);
        for key in &order {
            if (options.interrupted)() {
                return Err(WorkerError::Interrupted.into());
            }
            let Some(pairing) = pairings.get_mut(key) else {
                continue;
            };
            let mut contest = OnOff {
                places: &mut places,
                cell: &cells[key.0],
                part: key.1,
                last: None,
            };
            let block = pairing
                .block(&mut contest)
                .map_err(|SideError { error, .. }| error)?;
            let blocks = found.get_mut(&(key.1, cells[key.0].id.clone()));
            if let (Some(blocks), Some(ratios), true) = (blocks, block.ratios(), visit > 0) {
                blocks[nth].kept.push(ratios);
            }
        }
    }
    places.worker.stop(options.timeouts.start);
    Ok(())
}
