//! The energy pass: cells in a loop while a meter is read, apart from the slices whose latency is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use trit_core::{
    Appender, EnergyFacts, EnergyMode, EnergyPlan, EnergyRow, EnergyWindow, NOT_MEASURED, Plan,
    PowerRow, Rng, RunDir, RunDirError, Side, Status, Table, Workload,
};

use super::bench::bench_key;
use super::master::{Master, Trouble, stop, unexpected};
use crate::meter::{Counts, EnergyMeter, Reading};
use crate::pairing::{Contest, Pairing, SideError};
use crate::protocol::{Reply, Request, Sample};

/// How often a wait looks at the meter and whether somebody wants the run to end.
const LOOK: Duration = Duration::from_millis(50);
/// The meter is read at most this often within a window: ten times a second.
const TICK_NS: u64 = 100_000_000;

/// What the energy pass works with.
pub struct EnergyMeans<'a> {
    /// The meter.
    pub meter: Box<dyn EnergyMeter + 'a>,
    /// Passes some time without using the processor.
    pub wait: &'a dyn Fn(Duration),
}

/// The energy pass of a run.
#[derive(Default)]
pub struct EnergyPass<'a> {
    /// The meter, as it was found.
    pub facts: EnergyFacts,
    /// What to measure with; without it every row says why.
    pub means: Option<EnergyMeans<'a>>,
    /// The log of a meter outside of the machine, which is merged when the run is over.
    pub log: Option<PathBuf>,
    /// Whether a run without the energy of every chosen cell has failed.
    pub required: bool,
}

/// What an earlier part of the session left.
#[derive(Debug, Default)]
pub(super) struct EarlierEnergy {
    /// Windows of each cell by itself.
    windows: BTreeMap<String, u64>,
    /// Blocks of each pair (by both ids, subject first).
    blocks: BTreeMap<(String, String), u64>,
    /// Cells that have a row.
    known: BTreeSet<String>,
    /// Cells of which an amount was recorded.
    measured: BTreeSet<String>,
}

impl EarlierEnergy {
    pub(super) fn read(dir: &RunDir) -> Result<Self, RunDirError> {
        let mut earlier = Self::default();
        if !dir.path().join(EnergyRow::FILE).exists() {
            return Ok(earlier);
        }
        for row in dir.read::<EnergyRow>()? {
            if row.window == EnergyWindow::Cell {
                if row.headline().is_some() {
                    earlier.measured.insert(row.cell.clone());
                }
                if row.pair.is_empty() {
                    let count = earlier.windows.entry(row.cell.clone()).or_default();
                    *count = (row.round + 1).max(*count);
                } else {
                    let pair = (row.cell.clone(), row.pair);
                    let count = earlier.blocks.entry(pair).or_default();
                    *count = (row.block + 1).max(*count);
                }
            }
            earlier.known.insert(row.cell);
        }
        Ok(earlier)
    }
}

/// Whether one of these cells has no window with an amount.
pub(super) fn lacks(dir: &RunDir, cells: &[String]) -> Result<bool, RunDirError> {
    let measured = EarlierEnergy::read(dir)?.measured;
    Ok(cells.iter().any(|cell| !measured.contains(cell)))
}

/// Something that gets windows.
#[derive(Clone, Debug)]
enum Target {
    Cell(String),
    Pair(usize),
}

/// The energy pass while it goes on.
pub(super) struct Energy<'a> {
    pass: EnergyPass<'a>,
    plan: EnergyPlan,
    part: u64,
    rows: Appender<EnergyRow>,
    power: Option<Appender<PowerRow>>,
    earlier: EarlierEnergy,
    pairings: BTreeMap<usize, Pairing>,
    /// Whether this part of the session has an idle window before.
    rested: bool,
    /// Its power, where that is known.
    idle_w: Option<f64>,
    start_ns: u64,
    spent_ns: u64,
}

/// A window with everything that is known about it.
struct Taken {
    reading: Reading,
    start_ns: u64,
    sample: Option<Sample>,
}

impl<'a> Energy<'a> {
    pub(super) fn new(
        dir: &RunDir,
        pass: EnergyPass<'a>,
        plan: &Plan,
        part: u64,
        start_ns: u64,
    ) -> Result<Self, RunDirError> {
        let earlier = EarlierEnergy::read(dir)?;
        let power = match &pass.means {
            // A plan without windows needs no file for what lies between their edges.
            Some(_) if plan.energy.mode != EnergyMode::Off => Some(dir.append()?),
            _ => None,
        };
        let mut energy = Self {
            pass,
            plan: plan.energy.clone(),
            part,
            rows: dir.append()?,
            power,
            pairings: BTreeMap::new(),
            rested: false,
            idle_w: None,
            earlier,
            start_ns,
            spent_ns: 0,
        };
        energy.tell(plan)?;
        Ok(energy)
    }

    /// Time that the pass is expected to take.
    pub(super) fn expected_ns(&self) -> u64 {
        if self.active() {
            self.plan.expected_ns
        } else {
            0
        }
    }

    pub(super) fn spent_ns(&self) -> u64 {
        self.spent_ns
    }

    pub(super) fn facts(&self) -> EnergyFacts {
        self.pass.facts.clone()
    }

    /// Whether there is anything to do.
    fn active(&self) -> bool {
        self.power.is_some() && !(self.plan.cells.is_empty() && self.plan.pairs.is_empty())
    }

    /// Writes for each cell that will have no windows why. A session that goes on where there is a meter now only adds rows for
    /// those that have none still.
    fn tell(&mut self, plan: &Plan) -> Result<(), RunDirError> {
        if self.pass.means.is_none() && self.pass.facts.status.is_empty() {
            // Nobody looked for a meter, so there is nothing to tell.
            return Ok(());
        }
        let sides: Vec<&str> = plan
            .energy
            .pairs
            .iter()
            .filter_map(|at| plan.pairs.get(*at))
            .flat_map(|pair| [pair.a.as_str(), pair.b.as_str()])
            .collect();
        let facts = &self.pass.facts;
        let mut rows = Vec::new();
        for planned in &plan.cells {
            let cell = &planned.cell;
            if cell.reason != NOT_MEASURED || self.earlier.known.contains(&cell.cell) {
                continue;
            }
            let chosen =
                sides.contains(&cell.cell.as_str()) || plan.energy.cells.contains(&cell.cell);
            let (status, reason) = if plan.energy.mode == EnergyMode::Off {
                (
                    "off",
                    "the suite or the command line turns the energy pass off",
                )
            } else if self.pass.means.is_none() {
                (facts.status.as_str(), facts.reason.as_str())
            } else if cell.subject.starts_with("probe:") {
                (
                    "not_selected",
                    "limits of the machine get no energy windows",
                )
            } else if chosen {
                continue;
            } else {
                (
                    "not_selected",
                    "the energy budget holds other cells; hint: energy = true in [run], --energy true, or a larger budget in [energy]",
                )
            };
            rows.push(EnergyRow {
                cell: cell.cell.clone(),
                part: self.part,
                status: status.to_owned(),
                reason: reason.to_owned(),
                ..EnergyRow::default()
            });
        }
        self.rows.rows(&rows)
    }

    /// The cells that were chosen and are right.
    pub(super) fn wanted(&self, plan: &Plan, ok: impl Fn(&str) -> bool) -> Vec<String> {
        let sides = self
            .plan
            .pairs
            .iter()
            .filter_map(|at| plan.pairs.get(*at))
            .flat_map(|pair| [&pair.a, &pair.b]);
        let chosen = self.plan.cells.iter().chain(sides);
        chosen.filter(|cell| ok(cell)).cloned().collect()
    }

    /// The workers that the pass needs in a wave, by the keys of their benches.
    pub(super) fn needs(&self, plan: &Plan, wave: u64) -> Vec<String> {
        if !self.active() {
            return Vec::new();
        }
        let pairs = plan.energy.pairs.iter();
        let pairs = pairs.filter_map(|at| plan.pairs.get(*at));
        plan.energy
            .cells
            .iter()
            .chain(pairs.map(|pair| &pair.a))
            .filter_map(|id| plan.cell(id))
            .filter(|planned| planned.wave == wave)
            .map(|planned| bench_key(planned.station, &planned.cell))
            .collect()
    }

    /// What is left to do in a wave, with the windows or blocks that are there.
    fn targets(&self, plan: &Plan, wave: u64) -> Vec<(Target, u64)> {
        let cells = self
            .plan
            .cells
            .iter()
            .filter(|id| plan.cell(id).is_some_and(|planned| planned.wave == wave));
        let cells = cells.map(|id| {
            let done = self.earlier.windows.get(id).copied().unwrap_or(0);
            (Target::Cell(id.clone()), done)
        });
        let pairs = self.plan.pairs.iter().filter_map(|at| {
            let pair = plan.pairs.get(*at).filter(|pair| pair.wave == wave)?;
            let key = (pair.a.clone(), pair.b.clone());
            let done = self.earlier.blocks.get(&key).copied().unwrap_or(0);
            Some((Target::Pair(*at), done))
        });
        cells
            .chain(pairs)
            .filter(|(_, done)| *done < self.plan.windows)
            .collect()
    }

    /// The amounts and the circumstances of a window as a row.
    fn row(&self, taken: &Taken) -> EnergyRow {
        let reading = &taken.reading;
        let mut row = EnergyRow {
            part: self.part,
            start_ns: Some(taken.start_ns.saturating_sub(self.start_ns)),
            start_unix_ns: Some(reading.start_unix_ns),
            end_unix_ns: Some(reading.end_unix_ns),
            window_ns: Some(reading.window_ns),
            others_cpu_share: reading.others_cpu_share,
            user_ns: taken.sample.as_ref().and_then(|sample| sample.user_ns),
            system_ns: taken.sample.as_ref().and_then(|sample| sample.system_ns),
            status: reading.status.clone(),
            reason: reading.reason.clone(),
            source: self.pass.facts.source.clone(),
            domains: self.pass.facts.domains.join(" "),
            mirrored_dies: if reading.mirrored_dies { "yes" } else { "" }.to_owned(),
            ..EnergyRow::default()
        };
        reading.counts.put(&mut row);
        row
    }
}

impl Energy<'_> {
    /// Keeps what the meter counted between looks.
    fn keep_power(
        &mut self,
        phase: &str,
        cell: &str,
        seen: &[(u64, u64, Counts)],
    ) -> Result<(), RunDirError> {
        let (part, start_ns) = (self.part, self.start_ns);
        let row = |(at_ns, length_ns, counts): &(u64, u64, Counts)| PowerRow {
            part,
            phase: phase.to_owned(),
            cell: cell.to_owned(),
            at_ns: at_ns.saturating_sub(start_ns),
            length_ns: *length_ns,
            pkg_uj: counts.pkg_uj,
            dram_uj: counts.dram_uj,
            psys_uj: counts.psys_uj,
            core_uj: counts.core_uj,
            uncore_uj: counts.uncore_uj,
            wall_uj: counts.wall_uj,
        };
        let rows: Vec<PowerRow> = seen.iter().map(row).collect();
        match &mut self.power {
            Some(power) => power.rows(&rows),
            None => Ok(()),
        }
    }
}

/// Looks at the meter between the edges of a window, at most ten times a second, and keeps what it counted.
struct Watch<'w> {
    meter: &'w mut dyn EnergyMeter,
    now_ns: &'w dyn Fn() -> u64,
    next_ns: u64,
    seen: Vec<(u64, u64, Counts)>,
}

impl<'w> Watch<'w> {
    fn new(meter: &'w mut dyn EnergyMeter, now_ns: &'w dyn Fn() -> u64) -> Self {
        Self {
            meter,
            next_ns: now_ns().saturating_add(TICK_NS),
            now_ns,
            seen: Vec::new(),
        }
    }

    fn look(&mut self) {
        let now = (self.now_ns)();
        if now < self.next_ns {
            return;
        }
        self.next_ns = now.saturating_add(TICK_NS);
        if let Some((length_ns, counts)) = self.meter.tick() {
            self.seen.push((now, length_ns, counts));
        }
    }
}

impl Master<'_> {
    /// Whether the pass has windows to take in any wave.
    fn energy_left(&self, plan: &Plan) -> bool {
        self.energy.active()
            && (0..plan.waves()).any(|wave| {
                let targets = self.energy.targets(plan, wave);
                targets
                    .iter()
                    .any(|(target, _)| self.may_loop(plan, target))
            })
    }

    /// Whether no cell of the target went wrong.
    fn may_loop(&self, plan: &Plan, target: &Target) -> bool {
        match target {
            Target::Cell(id) => self.may_count(id),
            Target::Pair(at) => plan
                .pairs
                .get(*at)
                .is_some_and(|pair| self.may_count(&pair.a) && self.may_count(&pair.b)),
        }
    }

    /// What the machine takes when nothing of ours runs.
    pub(super) fn idle_window(&mut self, plan: &Plan, which: EnergyWindow) -> Result<(), Trouble> {
        let before = which == EnergyWindow::IdleBefore;
        // The window after belongs to the one before: a part of the session has both, or none.
        if (before && !self.energy_left(plan)) || (!before && !self.energy.rested) {
            return Ok(());
        }
        self.progress.working("idle power", self.fraction());
        let idle_ns = self.energy.plan.idle_ns;
        let clock = self.options.clock;
        let now_ns = || clock.now_ns();
        let Some(means) = &mut self.energy.pass.means else {
            return Ok(());
        };
        let start_ns = now_ns();
        means.meter.start();
        let mut watch = Watch::new(&mut *means.meter, &now_ns);
        while now_ns().saturating_sub(start_ns) < idle_ns {
            if (self.options.interrupted)() {
                return Err(Trouble::Interrupted);
            }
            (means.wait)(LOOK);
            watch.look();
        }
        let seen = watch.seen;
        let reading = means.meter.stop();
        let taken = Taken {
            start_ns,
            sample: None,
            reading,
        };
        self.energy.spent_ns += self.options.clock.now_ns().saturating_sub(start_ns);
        if before {
            self.energy.rested = true;
            self.energy.idle_w = taken.reading.watts();
        }
        let mut row = self.energy.row(&taken);
        row.window = which;
        self.energy.keep_power("idle", "", &seen)?;
        self.energy.rows.rows(&[row])?;
        Ok(())
    }

    /// The windows of a wave, round-robin in an order that is shuffled for each round.
    pub(super) fn energy_pass(&mut self, plan: &Plan, wave: u64) -> Result<(), Trouble> {
        if !self.energy.active() {
            return Ok(());
        }
        let start_ns = self.now_ns();
        let mut targets = self.energy.targets(plan, wave);
        let mut round = 0u64;
        while !targets.is_empty() {
            let mut order: Vec<usize> = (0..targets.len()).collect();
            let name = format!("energy of wave {wave}, round {round}");
            Rng::named(plan.seed, &name).shuffle(&mut order);
            let mut lost = Vec::new();
            for at in order {
                let (target, done) = &mut targets[at];
                if (self.options.interrupted)() {
                    return Err(Trouble::Interrupted);
                }
                let outcome = if self.may_loop(plan, target) {
                    match target {
                        Target::Cell(id) => self.energy_cell(id, *done),
                        Target::Pair(index) => self.energy_pair(plan, *index, *done),
                    }
                } else {
                    // Its row says why.
                    Ok(false)
                };
                match outcome {
                    Ok(true) => *done += 1,
                    Ok(false) | Err(Trouble::Stop { .. }) => lost.push(at),
                    Err(other) => return Err(other),
                }
            }
            let enough = self.energy.plan.windows;
            let mut at = 0;
            targets.retain(|(_, done)| {
                at += 1;
                *done < enough && !lost.contains(&(at - 1))
            });
            round += 1;
        }
        self.energy.spent_ns += self.now_ns().saturating_sub(start_ns);
        Ok(())
    }

    /// One window of a cell by itself. `false` when its worker cannot loop.
    fn energy_cell(&mut self, id: &str, round: u64) -> Result<bool, Trouble> {
        let state = self.state(id)?;
        let key = bench_key(state.station, &state.row);
        let result = self
            .open(&key, id)
            .and_then(|slot| self.cell_window(&key, id, slot));
        let Some(taken) = self.settle(id, result)? else {
            return Ok(false);
        };
        let mut row = self.cell_row(id, &taken)?;
        row.round = round;
        row.block = round;
        self.energy.rows.rows(&[row])?;
        Ok(true)
    }

    /// One ABBA block of windows of a pair. `false` when its worker cannot loop.
    fn energy_pair(&mut self, plan: &Plan, index: usize, round: u64) -> Result<bool, Trouble> {
        let pair = &plan.pairs[index];
        let ids = [pair.a.clone(), pair.b.clone()];
        let (key, slots) = self.open_pair(&ids)?;
        let name = format!("energy of {} / {}", ids[0], ids[1]);
        let seed = self.seed;
        let mut pairing = self
            .energy
            .pairings
            .remove(&index)
            .unwrap_or_else(|| Pairing::new(seed, &name, round, [1, 1]));
        let mut both = BothWindows {
            master: self,
            key: &key,
            ids: &ids,
            slots,
            taken: Vec::new(),
        };
        let block = match pairing.block(&mut both) {
            Ok(block) => block,
            Err(SideError { side, error }) => {
                let id = &ids[usize::from(side == Side::B)];
                return match error {
                    Some(error) => self.settle(id, Err(error)),
                    None => Ok(false),
                };
            }
        };
        let taken = both.taken;
        self.energy.pairings.insert(index, pairing);
        let mut rows = Vec::new();
        for (position, (side, taken)) in (0..).zip(&taken) {
            let at = usize::from(*side == Side::B);
            rows.push(EnergyRow {
                round,
                block: block.index,
                side: *side,
                sample: position,
                pair: ids[1 - at].clone(),
                ..self.cell_row(&ids[at], taken)?
            });
        }
        self.energy.rows.rows(&rows)?;
        Ok(true)
    }

    /// One window in which a cell loops. `None` when its worker does not know how.
    fn cell_window(&mut self, key: &str, id: &str, slot: u64) -> Result<Option<Taken>, Trouble> {
        let fraction = self.fraction();
        self.progress.working(&format!("energy of {id}"), fraction);
        let at_least_ns = self.energy.plan.window_ns;
        let state = self.state(id)?;
        let (setup, slice, workload) = (state.setup, state.slice, state.row.workload);
        match self.ask(key, &Request::Ready { slot }, setup) {
            Ok(_) => {}
            Err(Trouble::Stop {
                status: Status::Skipped,
                reason,
                ..
            }) => {
                self.energy.rows.rows(&[EnergyRow {
                    cell: id.to_owned(),
                    part: self.energy.part,
                    status: "not_supported".to_owned(),
                    reason: format!("the worker cannot loop a cell: {reason}"),
                    ..EnergyRow::default()
                }])?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        let timeout = slice.saturating_add(2 * Duration::from_nanos(at_least_ns));
        let clock = self.options.clock;
        let now_ns = || clock.now_ns();
        let Some(means) = &mut self.energy.pass.means else {
            return Ok(None);
        };
        let start_ns = now_ns();
        means.meter.start();
        let mut watch = Watch::new(&mut *means.meter, &now_ns);
        let request = Request::Loop { slot, at_least_ns };
        let reply = self.benches.ask(
            key,
            &request,
            timeout,
            self.options.interrupted,
            &mut || watch.look(),
        );
        let seen = watch.seen;
        let reading = means.meter.stop();
        let sample = match reply? {
            Reply::Looped { sample } => sample,
            other => return Err(unexpected(&other)),
        };
        match self.ask(key, &Request::EndLoop { slot }, slice)? {
            Reply::Answers { answers } => self.verify(id, &answers)?,
            other => return Err(unexpected(&other)),
        }
        if sample.iterations == 0 || sample.time_ns == 0 {
            return Err(stop(Status::Failed, "the worker looped no call"));
        }
        self.energy.keep_power(workload.name(), id, &seen)?;
        Ok(Some(Taken {
            reading,
            start_ns,
            sample: Some(sample),
        }))
    }

    /// The row of a window of a cell.
    fn cell_row(&mut self, id: &str, taken: &Taken) -> Result<EnergyRow, Trouble> {
        let tokens_per_call = tokens_per_call(&self.state(id)?.row);
        let iterations = taken.sample.as_ref().map(|sample| sample.iterations);
        Ok(EnergyRow {
            cell: id.to_owned(),
            window: EnergyWindow::Cell,
            time_ns: taken.sample.as_ref().map(|sample| sample.time_ns),
            iterations,
            tokens: iterations
                .zip(tokens_per_call)
                .and_then(|(calls, tokens)| calls.checked_mul(tokens)),
            idle_w: self.energy.idle_w,
            ..self.energy.row(taken)
        })
    }
}

/// Tokens of one call.
fn tokens_per_call(cell: &trit_core::Cell) -> Option<u64> {
    match cell.workload {
        Workload::GemvCold | Workload::GemvWarm => Some(1),
        Workload::Gemm | Workload::Prepare => cell.tokens,
        Workload::Prefill => cell.prompt_tokens,
        Workload::Decode => Some(cell.batch.unwrap_or(1)),
        _ => None,
    }
}

/// The two sides of a pair, a window each time.
struct BothWindows<'m, 'a> {
    master: &'m mut Master<'a>,
    key: &'m str,
    ids: &'m [String; 2],
    slots: [u64; 2],
    taken: Vec<(Side, Taken)>,
}

impl Contest for BothWindows<'_, '_> {
    /// `None`: the worker cannot loop.
    type Error = Option<Trouble>;

    fn slice(&mut self, side: Side, _: u64) -> Result<Sample, Option<Trouble>> {
        let at = usize::from(side == Side::B);
        let (id, slot) = (&self.ids[at], self.slots[at]);
        let taken = self.master.cell_window(self.key, id, slot)?.ok_or(None)?;
        let sample = taken.sample.clone().unwrap_or_default();
        self.taken.push((side, taken));
        Ok(sample)
    }
}
