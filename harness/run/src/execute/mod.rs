//! Carries a plan out: waves of workers, rounds of visits, rows.

mod bench;
mod energy;
mod master;
pub(crate) mod verify;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use trit_core::{
    Cell, EnergyRow, EnergyWindow, Measurement, NOT_MEASURED, Plan, PlannedPair, Rng, RunDir,
    RunDirError, SESSION_FILE, Session, Station, Status, TokenRow, UNFINISHED, is_final,
};
use trit_measure::Clock;
use trit_measure::energy::{EnergyStatus, External, MAX_GAP_NS};

use crate::merge::{MergeError, merge_log};
use crate::outcome::Outcome;
use crate::process::WorkerCommand;
use crate::progress::Progress;
pub(crate) use bench::{bench_key, starts};
pub use energy::{EnergyMeans, EnergyPass};
use master::{Master, Trouble};

/// How long a worker may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To say hello.
    pub start: Duration,
    /// To set a cell up or compute a reference, at least; more when more is expected.
    pub setup: Duration,
    /// To run a slice, at least; more when more is expected.
    pub slice: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(30),
            setup: Duration::from_mins(3),
            slice: Duration::from_mins(1),
        }
    }
}

/// What is done where.
pub struct RunOptions<'a> {
    /// The record of the session; its plan is the one that is carried out. It is written first, and again at the end
    /// with the limits that were found.
    pub session: Session,
    /// Where the rows go. Rows that are there already are kept, and their cells go on where they stopped.
    pub dir: RunDir,
    /// How workers are started.
    pub worker: WorkerCommand,
    /// How long they may take.
    pub timeouts: Timeouts,
    /// Whether somebody wants the run to end.
    pub interrupted: &'a dyn Fn() -> bool,
    /// The clock of the budget; samples are timed in the workers.
    pub clock: &'a dyn Clock,
    /// The energy pass.
    pub energy: EnergyPass<'a>,
}

/// Why a run could not be recorded. What happens to cells is in their rows.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The run directory.
    #[error(transparent)]
    Record(#[from] RunDirError),
}

/// Something that is visited.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    /// A cell by itself, by its id.
    Cell(String),
    /// A pair, by its index in the plan.
    Pair(usize),
}

/// What is known about an item while its wave runs.
#[derive(Debug)]
struct Visited {
    item: Item,
    /// Time its visits may take.
    limit_ns: u64,
    spent_ns: u64,
    visits: u64,
    fewest: u64,
    done: bool,
}

/// Where in a run directory packed weights are kept while it runs.
const PACKED_CACHE: &str = "packed-cache";

/// Fewest visits before the budget counts: of a micro cell (six are the fewest that carry a 95 % interval of their median),
/// of a cell of a whole model, blocks of a pair.
const FEWEST_CELL: u64 = 6;
const FEWEST_ENGINE: u64 = 1;
const FEWEST_PAIR: u64 = 4;

/// Carries the plan of a session out.
///
/// # Errors
/// When rows cannot be read or written. A worker that fails, dies or hangs is a row and no error.
pub fn execute(options: RunOptions<'_>, progress: &mut dyn Progress) -> Result<Outcome, RunError> {
    let dir = options.dir.clone();
    let earlier = Earlier::read(&dir)?;
    let mut session = options.session.clone();
    if earlier.is_some() {
        session.resumed += 1;
    }
    dir.write_session(&session)?;
    let earlier = earlier.unwrap_or_default();
    let plan = session.plan.clone();
    let deadline = options.clock.now_ns().saturating_add(plan.budget_ns);
    let (log, required) = (options.energy.log.clone(), options.energy.required);
    let wait = options.energy.means.as_ref().map(|means| means.wait);
    let mut master = Master::new(options, &plan, &earlier, session.resumed, progress)?;
    let interrupted = match run_waves(&mut master, &plan, &earlier, deadline) {
        // A stop became a row where it happened.
        Ok(()) | Err(Trouble::Stop { .. }) => false,
        Err(Trouble::Interrupted) => true,
        Err(Trouble::Record(error)) => return Err(error.into()),
    };
    master.close();
    session.probes.extend(master.take_probes());
    session.energy = master.energy_facts();
    let wanted = master.energy_wanted(&plan);
    let unusable_content = master.unusable_content();
    drop(master);
    // What cells with a packed cache kept: large, and of use to nobody else.
    let _ = std::fs::remove_dir_all(dir.path().join(PACKED_CACHE));
    if let (Some(log), Some(wait), false) = (log, wait, interrupted) {
        merge_at_end(&dir, &mut session, &log, wait)?;
    }
    let energy_missing = required && (wait.is_none() || energy::lacks(&dir, &wanted)?);
    dir.write_session(&session)?;
    Ok(Outcome {
        cells: dir.cells()?,
        dir: dir.path().to_owned(),
        interrupted,
        unusable_content,
        energy_missing,
    })
}

/// Merges the log of a meter outside of the machine. It may be some seconds late.
fn merge_at_end(
    dir: &RunDir,
    session: &mut Session,
    log: &Path,
    wait: &dyn Fn(Duration),
) -> Result<(), RunDirError> {
    const STEP: Duration = Duration::from_millis(100);
    let last = dir
        .read::<EnergyRow>()?
        .iter()
        .filter_map(|row| row.end_unix_ns)
        .max();
    let opened = External::open(log, MAX_GAP_NS).and_then(|mut log| {
        let mut left = Duration::from_nanos(MAX_GAP_NS);
        while log.latest() < last && !left.is_zero() {
            wait(STEP);
            left = left.saturating_sub(STEP);
            log.refresh()?;
        }
        Ok(log)
    });
    let why = match opened {
        Ok(log) => match merge_log(dir, session, &log) {
            // Windows that stayed empty say why; there is none where no cell was right.
            Ok(_) | Err(MergeError::NoWindows(_)) => return Ok(()),
            Err(MergeError::Record(error)) => return Err(error),
        },
        Err(error) => error.to_string(),
    };
    // The run is not lost for that: the log can be mended and merged again.
    session.energy.status = EnergyStatus::Absent.to_string();
    session.energy.reason = why;
    session.energy.remedy = format!(
        "tritbench report {} --energy-log FILE",
        dir.path().display()
    );
    Ok(())
}

/// Everything that is measured, in its order: idle power, wave after wave, idle power again.
fn run_waves(
    master: &mut Master<'_>,
    plan: &Plan,
    earlier: &Earlier,
    deadline_ns: u64,
) -> Result<(), Trouble> {
    master.idle_window(plan, EnergyWindow::IdleBefore)?;
    for wave in 0..plan.waves() {
        // Time for energy is apart from the budget.
        let left_ns = deadline_ns
            .saturating_add(master.energy_spent_ns())
            .saturating_sub(master.now_ns());
        match run_wave(master, plan, earlier, wave, left_ns) {
            Ok(()) | Err(Trouble::Stop { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    master.close();
    master.idle_window(plan, EnergyWindow::IdleAfter)
}

/// What an earlier session left.
#[derive(Debug, Default)]
struct Earlier {
    /// Last rows by cell.
    rows: BTreeMap<String, Cell>,
    /// Visits of each cell by itself.
    visits: BTreeMap<String, u64>,
    /// Blocks of each pair (by both ids, subject first).
    blocks: BTreeMap<(String, String), u64>,
}

impl Earlier {
    /// `None` when the directory has no rows yet.
    fn read(dir: &RunDir) -> Result<Option<Self>, RunDirError> {
        if !dir.path().join(SESSION_FILE).exists() || !dir.path().join("cells.csv").exists() {
            return Ok(None);
        }
        let mut earlier = Self::default();
        for row in dir.cells()? {
            earlier.rows.insert(row.cell.clone(), row);
        }
        if dir.path().join("measurements.csv").exists() {
            for row in dir.measurements()? {
                let (count, next) = if row.pair.is_empty() {
                    (earlier.visits.entry(row.cell).or_default(), row.round + 1)
                } else {
                    let pair = (row.cell, row.pair);
                    (earlier.blocks.entry(pair).or_default(), row.block + 1)
                };
                *count = next.max(*count);
            }
        }
        Ok(Some(earlier))
    }

    fn is_final(&self, cell: &str) -> bool {
        self.rows.get(cell).is_some_and(is_final)
    }

    fn blocks(&self, pair: &PlannedPair) -> u64 {
        let key = (pair.a.clone(), pair.b.clone());
        self.blocks.get(&key).copied().unwrap_or(0)
    }
}

/// The part of their budgets that items of this and later waves get, so that the run ends in time.
fn factor(plan: &Plan, wave: u64, left_ns: u64) -> f64 {
    let (mut setup, mut visits) = (0u64, 0u64);
    for planned in &plan.cells {
        if planned.wave >= wave
            && planned.cell.reason == NOT_MEASURED
            && planned.station != Station::Pair
        {
            setup += planned.setup_ns;
            visits += planned.budget_ns;
        }
    }
    for pair in plan.pairs.iter().filter(|pair| pair.wave >= wave) {
        setup += pair.setup_ns;
        visits += pair.budget_ns;
    }
    if visits == 0 {
        return 1.0;
    }
    (left_ns.saturating_sub(setup) as f64 / visits as f64).clamp(0.0, 1.0)
}

/// The items of a wave that are not finished.
fn items(
    master: &Master<'_>,
    plan: &Plan,
    earlier: &Earlier,
    wave: u64,
    factor: f64,
) -> Vec<Visited> {
    let share = |budget_ns: u64| (budget_ns as f64 * factor) as u64;
    let cells = plan
        .cells
        .iter()
        .filter(|planned| planned.wave == wave && planned.station != Station::Pair)
        .filter(|planned| !master.is_final(&planned.cell.cell))
        .map(|planned| {
            let visits = earlier.visits.get(&planned.cell.cell).copied().unwrap_or(0);
            let whole = matches!(planned.station, Station::Engine | Station::Program);
            let rounds = plan.rounds.filter(|_| whole);
            Visited {
                item: Item::Cell(planned.cell.cell.clone()),
                // As many rounds as the suite asks for, not as many as the time holds.
                limit_ns: rounds.map_or(share(planned.budget_ns), |_| 0),
                spent_ns: visits.saturating_mul(planned.visit_ns),
                visits,
                fewest: match rounds {
                    Some(rounds) => rounds,
                    None if whole => FEWEST_ENGINE,
                    None => FEWEST_CELL,
                },
                done: false,
            }
        });
    let pairs = plan
        .pairs
        .iter()
        .enumerate()
        .filter(|(_, pair)| pair.wave == wave);
    let pairs = pairs.map(|(index, pair)| {
        let visits = earlier.blocks(pair);
        let ended = |id: &String| {
            let pair_alone = plan
                .cell(id)
                .is_some_and(|cell| cell.station == Station::Pair);
            pair_alone && earlier.is_final(id)
        };
        Visited {
            item: Item::Pair(index),
            limit_ns: share(pair.budget_ns),
            spent_ns: visits.saturating_mul(pair.visit_ns),
            visits,
            fewest: FEWEST_PAIR,
            done: ended(&pair.a) || ended(&pair.b),
        }
    });
    cells.chain(pairs).collect()
}

fn run_wave(
    master: &mut Master<'_>,
    plan: &Plan,
    earlier: &Earlier,
    wave: u64,
    left_ns: u64,
) -> Result<(), Trouble> {
    let mut items = items(master, plan, earlier, wave, factor(plan, wave, left_ns));
    let mut round = 0u64;
    while items.iter().any(|visited| !visited.done) {
        let mut order: Vec<usize> = (0..items.len()).collect();
        Rng::named(plan.seed, &format!("order of wave {wave}, round {round}")).shuffle(&mut order);
        for at in order {
            let visited = &mut items[at];
            if visited.done {
                continue;
            }
            let enough = visited.visits >= visited.fewest && visited.spent_ns >= visited.limit_ns;
            // A cell that went wrong as a side of a pair is not measured by itself either.
            let lost = matches!(&visited.item, Item::Cell(id) if master.is_final(id));
            if enough || lost {
                visited.done = true;
            } else {
                visited.done = !visit(master, plan, visited)?;
            }
            if visited.done {
                finish(master, plan, &items[at].item)?;
                master.release(&items, plan, wave);
            }
        }
        round += 1;
    }
    master.energy_pass(plan, wave)?;
    master.close();
    Ok(())
}

/// One visit. `false` when the item ended with a row of its own.
fn visit(master: &mut Master<'_>, plan: &Plan, visited: &mut Visited) -> Result<bool, Trouble> {
    let outcome = match &visited.item {
        Item::Cell(id) => master.visit_cell(id, visited.visits),
        Item::Pair(index) => master.visit_pair(*index, &plan.pairs[*index], visited.visits),
    };
    match outcome {
        Ok(spent_ns) => {
            visited.spent_ns += spent_ns;
            visited.visits += 1;
            Ok(true)
        }
        // The row is written.
        Err(Trouble::Stop { .. }) => Ok(false),
        Err(other) => Err(other),
    }
}

/// Writes final rows of an item that has its samples, or lost the other side of its pair.
fn finish(master: &mut Master<'_>, plan: &Plan, item: &Item) -> Result<(), Trouble> {
    match item {
        Item::Cell(id) => master.finish(id),
        Item::Pair(index) => {
            let pair = &plan.pairs[*index];
            for (id, other) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
                if plan
                    .cell(id)
                    .is_some_and(|cell| cell.station == Station::Pair)
                {
                    master.finish_side(id, other)?;
                }
            }
            Ok(())
        }
    }
}

/// The row of a cell that is planned.
fn planned_row(planned: &trit_core::PlannedCell, earlier: &Earlier) -> Cell {
    earlier
        .rows
        .get(&planned.cell.cell)
        .cloned()
        .unwrap_or_else(|| planned.cell.clone())
}

/// Marks a row as having samples while more are to come.
fn unfinished(row: &mut Cell) {
    row.status = Status::Ok;
    UNFINISHED.clone_into(&mut row.reason);
}

/// The row of one slice.
pub(crate) fn measurement(cell: &str, sample: &crate::protocol::Sample) -> Measurement {
    Measurement {
        cell: cell.to_owned(),
        iterations: sample.iterations,
        time_ns: sample.time_ns,
        prepare_ns: sample.prepare_ns,
        user_ns: sample.user_ns,
        system_ns: sample.system_ns,
        steal_ns: sample.steal_ns,
        involuntary_switches: sample.involuntary_switches,
        frequency_khz: sample.frequency_khz,
        voluntary_switches: sample.voluntary_switches,
        minor_faults: sample.minor_faults,
        major_faults: sample.major_faults,
        throttled_ns: sample.throttled_ns,
        throttle_count: sample.throttle_count,
        temperature_mc: sample.temperature_mc,
        cycles: sample.cycles,
        instructions: sample.instructions,
        llc_misses: sample.llc_misses,
        peak_rss_bytes: sample.peak_rss_bytes,
        rss_anon_bytes: sample.rss_anon_bytes,
        rss_file_bytes: sample.rss_file_bytes,
        rss_shmem_bytes: sample.rss_shmem_bytes,
        ..Measurement::default()
    }
}

/// The rows of the tokens of one visit: a request for each sequence.
fn token_rows(cell: &str, round: u64, tokens: &[crate::protocol::Token]) -> Vec<TokenRow> {
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    let row = |token: &crate::protocol::Token| {
        let count = counts.entry(token.sequence).or_default();
        let index = *count;
        *count += 1;
        TokenRow {
            cell: cell.to_owned(),
            round,
            request: token.sequence,
            index,
            token: token.token,
            time_ns: token.time_ns,
        }
    };
    tokens.iter().map(row).collect()
}
