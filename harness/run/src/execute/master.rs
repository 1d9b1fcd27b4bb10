//! The master of a run: sets cells up, asks for slices, verifies them, writes rows.

use std::collections::BTreeMap;
use std::time::Duration;

use trit_core::{
    Appender, Cell, EnergyFacts, Measurement, NOT_MEASURED, Plan, PlannedCell, PlannedPair, Probe,
    RunDirError, Side, Station, Status, TimelineRow, TokenRow, Workload, is_final,
};

use super::bench::{Benches, REFERENCE, bench_key, starts};
use super::energy::Energy;
use super::verify::{FirstAnswers, against_truth, check, check_program};
use super::{
    Earlier, Item, PACKED_CACHE, RunOptions, Visited, measurement, planned_row, token_rows,
    unfinished,
};
use crate::estimate::SLICE_NS;
use crate::pairing::{Contest, Pairing, SideError, iterations_for};
use crate::progress::Progress;
use crate::protocol::{Answer, Job, Opened, Reply, Request, Sample, Task, Token};
use crate::reference::{References, Truth};
use crate::tasks::{has_reference, reference_task, task_of};

/// Something may take this many times what was expected before it counts as hung.
const PATIENCE: u64 = 20;

/// What is said behind the name of a prompt's text that could not be spelled.
const SEEDED: &str = ", seeded ids";

/// What ends a visit early.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The cell is over.
    Stop {
        /// What became of it.
        status: Status,
        /// Why.
        reason: String,
        /// Whether the content of a file is at fault.
        content: bool,
    },
    /// The run is over.
    Interrupted,
    /// Rows cannot be written: the run is over, with an error.
    Record(RunDirError),
}

impl From<RunDirError> for Trouble {
    fn from(error: RunDirError) -> Self {
        Self::Record(error)
    }
}

pub(super) fn stop(status: Status, reason: impl Into<String>) -> Trouble {
    Trouble::Stop {
        status,
        reason: reason.into(),
        content: false,
    }
}

/// What the master knows about a cell.
#[derive(Debug)]
pub(super) struct State {
    pub(super) row: Cell,
    task: Task,
    pub(super) station: Station,
    pub(super) setup: Duration,
    pub(super) slice: Duration,
    truth: Option<Truth>,
    /// Calls of one slice.
    iterations: u64,
    /// Load time of a model, until the first sample has taken it.
    load_ns: Option<u64>,
    /// From the start of the worker to the first token, likewise.
    startup_ttft_ns: Option<u64>,
    /// Whether the cell has a sample.
    sampled: bool,
}

/// Carries a plan out.
pub(super) struct Master<'a> {
    pub(super) options: RunOptions<'a>,
    pub(super) progress: &'a mut dyn Progress,
    cells: Appender<Cell>,
    measurements: Appender<Measurement>,
    tokens: Appender<TokenRow>,
    timeline: Appender<TimelineRow>,
    pub(super) benches: Benches,
    references: References,
    first: FirstAnswers,
    states: BTreeMap<String, State>,
    pairings: BTreeMap<usize, Pairing>,
    probes: Vec<Probe>,
    unusable_content: bool,
    pub(super) energy: Energy<'a>,
    pub(super) seed: u64,
    threads: u64,
    start_ns: u64,
    expected_ns: u64,
}

impl<'a> Master<'a> {
    /// Opens the files, and writes a row for every cell that has none.
    pub(super) fn new(
        options: RunOptions<'a>,
        plan: &Plan,
        earlier: &Earlier,
        part: u64,
        progress: &'a mut dyn Progress,
    ) -> Result<Self, RunDirError> {
        let mut options = options;
        let start_ns = options.clock.now_ns();
        let pass = std::mem::take(&mut options.energy);
        let mut cells = options.dir.append::<Cell>()?;
        let states: BTreeMap<String, State> = plan
            .cells
            .iter()
            .map(|planned| {
                let id = planned.cell.cell.clone();
                (id, State::new(plan, planned, earlier, &options))
            })
            .collect();
        let new: Vec<Cell> = plan
            .cells
            .iter()
            .filter(|planned| !earlier.rows.contains_key(&planned.cell.cell))
            .map(|planned| planned.cell.clone())
            .collect();
        cells.rows(&new)?;
        let done = states.values().filter(|state| is_final(&state.row)).count();
        progress.begin(plan, done);
        for note in &plan.notes {
            progress.note(note);
        }
        for row in new.iter().filter(|row| is_final(row)) {
            progress.finished(row);
        }
        // Of cells that can run: others may ask for more than there are.
        let runs = |planned: &&PlannedCell| planned.cell.reason == NOT_MEASURED;
        let running = plan.cells.iter().filter(runs);
        let threads = running.filter_map(|planned| planned.cell.threads);
        let energy = Energy::new(&options.dir, pass, plan, part, start_ns)?;
        Ok(Self {
            measurements: options.dir.append()?,
            tokens: options.dir.append()?,
            timeline: options.dir.append()?,
            benches: Benches::new(
                options.worker.clone(),
                options.timeouts.start,
                plan.max_rss_bytes,
            ),
            cells,
            references: References::default(),
            first: FirstAnswers::default(),
            states,
            pairings: BTreeMap::new(),
            probes: Vec::new(),
            unusable_content: false,
            seed: plan.seed,
            threads: threads.max().unwrap_or(1),
            start_ns,
            expected_ns: plan.expected_ns.saturating_add(energy.expected_ns()),
            energy,
            options,
            progress,
        })
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.options.clock.now_ns()
    }

    pub(super) fn is_final(&self, cell: &str) -> bool {
        self.states
            .get(cell)
            .is_none_or(|state| is_final(&state.row))
    }

    pub(super) fn unusable_content(&self) -> bool {
        self.unusable_content
    }

    pub(super) fn energy_facts(&self) -> EnergyFacts {
        self.energy.facts()
    }

    /// The cells that are to have energy.
    pub(super) fn energy_wanted(&self, plan: &Plan) -> Vec<String> {
        self.energy.wanted(plan, |id| self.may_count(id))
    }

    /// Time that windows and idle windows have taken.
    pub(super) fn energy_spent_ns(&self) -> u64 {
        self.energy.spent_ns()
    }

    /// Whether nothing speaks against a cell, so far.
    pub(super) fn may_count(&self, id: &str) -> bool {
        let state = self.states.get(id);
        state.is_some_and(|state| !is_final(&state.row) || state.row.status == Status::Ok)
    }

    pub(super) fn take_probes(&mut self) -> Vec<Probe> {
        std::mem::take(&mut self.probes)
    }

    /// Ends all workers.
    pub(super) fn close(&mut self) {
        self.benches.close_all();
        self.pairings.clear();
    }

    /// Ends the workers that no unfinished item needs.
    pub(super) fn release(&mut self, items: &[Visited], plan: &Plan, wave: u64) {
        let key = |item: &Item| match item {
            Item::Pair(index) => plan.cell(&plan.pairs[*index].a),
            Item::Cell(id) => plan.cell(id),
        };
        let needed: Vec<String> = items
            .iter()
            .filter(|visited| !visited.done)
            .filter_map(|visited| key(&visited.item))
            .map(|planned| bench_key(planned.station, &planned.cell))
            .chain(self.energy.needs(plan, wave))
            .collect();
        for key in self.benches.keys() {
            if key != REFERENCE && !needed.contains(&key) {
                self.benches.close(&key);
            }
        }
    }

    pub(super) fn state(&mut self, id: &str) -> Result<&mut State, Trouble> {
        self.states
            .get_mut(id)
            .ok_or_else(|| stop(Status::Failed, format!("`{id}` is not a cell of the plan")))
    }

    pub(super) fn ask(
        &mut self,
        key: &str,
        request: &Request,
        timeout: Duration,
    ) -> Result<Reply, Trouble> {
        self.benches
            .ask(key, request, timeout, self.options.interrupted, &mut || {})
    }

    /// What the reference says about a task.
    fn truth(&mut self, task: &Task, sums: bool, setup: Duration) -> Result<Truth, Trouble> {
        let task = reference_task(task, self.threads);
        if let Some(known) = self.references.get(&task, sums) {
            return known.map_err(|why| no_reference(&why));
        }
        let request = References::request(&task, sums);
        let reply = match self.ask(REFERENCE, &request, setup) {
            Ok(reply) => Ok(reply),
            // A model that the reference cannot read is the model's fault, and no cell of it can do better.
            Err(Trouble::Stop {
                reason,
                content: true,
                status,
            }) => {
                self.references.put(&task, Err(reason.clone())).ok();
                return Err(Trouble::Stop {
                    status,
                    reason,
                    content: true,
                });
            }
            Err(Trouble::Stop { reason, .. }) => Err(reason),
            Err(other) => return Err(other),
        };
        self.references
            .put(&task, reply)
            .map_err(|why| no_reference(&why))
    }

    /// The slot of a cell in the worker `key`, set up and verified when it was not.
    pub(super) fn open(&mut self, key: &str, id: &str) -> Result<u64, Trouble> {
        if let Some(slot) = self.benches.slot(key, id) {
            return Ok(slot);
        }
        let fraction = self.fraction();
        self.progress.working(id, fraction);
        let state = self.state(id)?;
        let (task, setup) = (state.task.clone(), state.setup);
        let truth = if has_reference(&task) {
            Some(self.truth(&task, false, setup)?)
        } else {
            None
        };
        let slot = self.benches.new_slot(key);
        let request = Request::Open {
            slot,
            task: task.clone(),
        };
        let opened = match self.ask(key, &request, setup)? {
            Reply::Opened(opened) => opened,
            other => return Err(unexpected(&other)),
        };
        let mut truth = truth;
        if opened.bounded {
            let exact = self.truth(&task, true, setup)?;
            let request = Request::Expect {
                slot,
                sums: exact.sums.clone(),
            };
            self.ask(key, &request, setup)?;
            truth = Some(exact);
        }
        if let (Job::Prefill | Job::Decode, Some(truth)) = (task.job, &truth) {
            check(opened.check.as_deref(), truth).map_err(|why| stop(Status::Wrong, why))?;
        }
        if let Some(program) = &task.program {
            check_program(
                program.check.as_ref(),
                opened.check.as_deref(),
                truth.as_ref(),
            )
            .map_err(|why| stop(Status::Wrong, why))?;
        }
        self.keep_facts(id, &opened)?;
        let startup_ns = self.benches.startup_ns(key);
        self.state(id)?.startup_ttft_ns = startup_ns
            .zip(opened.first_token_ns)
            .map(|(start, first)| start.saturating_add(first));
        self.state(id)?.truth = truth;
        self.benches.opened(key, id, slot);
        if matches!(self.state(id)?.station, Station::Kernel | Station::Pair) {
            self.calibrate(key, id, slot)?;
        }
        Ok(slot)
    }

    /// What the worker found out about a cell goes into its row.
    fn keep_facts(&mut self, id: &str, opened: &Opened) -> Result<(), Trouble> {
        self.keep_timeline(id, None, opened.timeline.clone())?;
        let state = self.state(id)?;
        let row = &mut state.row;
        let text = |to: &mut String, from: &String| {
            if !from.is_empty() {
                to.clone_from(from);
            }
        };
        text(&mut row.layout, &opened.layout);
        text(&mut row.isa, &opened.isa);
        text(&mut row.model_sha256, &opened.model_sha256);
        text(&mut row.head, &opened.head);
        row.prompt_tokens = opened.prompt_tokens.or(row.prompt_tokens);
        if !row.prompt.is_empty() && !opened.spelled && !row.prompt.ends_with(SEEDED) {
            row.prompt.push_str(SEEDED);
        }
        row.weight_bits = opened.weight_bits.or(row.weight_bits);
        row.bytes_per_call = opened.bytes_per_call.or(row.bytes_per_call);
        row.ops_per_call = opened.ops_per_call.or(row.ops_per_call);
        row.linear_weights = opened.linear_weights.or(row.linear_weights);
        row.attention_width = opened.attention_width.or(row.attention_width);
        state.load_ns = opened.load_ns;
        if matches!(row.workload, Workload::Read | Workload::Peak) {
            let probe = Probe {
                subject: row.subject.clone(),
                variant: opened.variant.clone(),
                threads: row.threads.unwrap_or(0),
                working_set_bytes: opened.working_set_bytes,
                amount_per_iteration: opened.bytes_per_call.or(opened.ops_per_call).unwrap_or(0),
                time_ns: opened.call_ns.unwrap_or(0.0),
            };
            self.probes.push(probe);
        }
        Ok(())
    }

    /// The memory of a worker, under the name of the cell.
    fn keep_timeline(
        &mut self,
        id: &str,
        round: Option<u64>,
        mut rows: Vec<TimelineRow>,
    ) -> Result<(), Trouble> {
        for row in &mut rows {
            id.clone_into(&mut row.cell);
            row.round = round;
        }
        Ok(self.timeline.rows(&rows)?)
    }

    /// Finds how many calls make a slice. The slices are verified like any other, and are no samples.
    fn calibrate(&mut self, key: &str, id: &str, slot: u64) -> Result<(), Trouble> {
        let mut iterations = 1;
        // The first look is at one call; the second at a tenth of a slice, where the clock and the first call matter less.
        for part in [10, 1] {
            let (sample, ..) = self.slice_of(key, id, slot, iterations, 1)?;
            let call_ns = sample.time_ns as f64 / sample.iterations.max(1) as f64;
            iterations = iterations_for(SLICE_NS / part, call_ns);
        }
        self.state(id)?.iterations = iterations;
        Ok(())
    }

    /// One verified slice of an open cell.
    fn slice_of(
        &mut self,
        key: &str,
        id: &str,
        slot: u64,
        iterations: u64,
        warm_up: u64,
    ) -> Result<(Sample, Vec<Token>), Trouble> {
        let timeout = self.state(id)?.slice;
        let request = Request::Slice {
            slot,
            iterations,
            warm_up,
            reset_peak: true,
            bare: false,
        };
        match self.ask(key, &request, timeout)? {
            Reply::Sliced {
                sample,
                answers,
                tokens,
            } => {
                self.verify(id, &answers)?;
                if sample.iterations == 0 {
                    return Err(stop(Status::Failed, "the worker timed no call"));
                }
                Ok((sample, tokens))
            }
            other => Err(unexpected(&other)),
        }
    }

    pub(super) fn verify(&mut self, id: &str, answers: &[Answer]) -> Result<(), Trouble> {
        let state = self
            .states
            .get(id)
            .ok_or_else(|| stop(Status::Failed, "unknown cell"))?;
        let result = match (state.task.job, &state.truth) {
            (Job::Prefill | Job::Decode, _) => self.first.compare(id, &state.task, answers),
            // Its answer was compared when it was opened.
            (Job::Program, _) => Ok(()),
            (_, Some(truth)) if has_reference(&state.task) => against_truth(answers, truth),
            (_, None) if has_reference(&state.task) => Err("there is no reference".to_owned()),
            // Regions and probes verify themselves.
            _ => Ok(()),
        };
        result.map_err(|why| stop(Status::Wrong, why))
    }

    pub(super) fn fraction(&self) -> f64 {
        let over = self.now_ns().saturating_sub(self.start_ns) as f64;
        (over / self.expected_ns.max(1) as f64).min(1.0)
    }

    /// One visit of a cell by itself: one sample. Gives the time that it took, set-up not counted.
    pub(super) fn visit_cell(&mut self, id: &str, round: u64) -> Result<u64, Trouble> {
        if (self.options.interrupted)() {
            return Err(Trouble::Interrupted);
        }
        let result = self.sample_cell(id, round);
        self.settle(id, result)
    }

    fn sample_cell(&mut self, id: &str, round: u64) -> Result<u64, Trouble> {
        let state = self.state(id)?;
        let key = bench_key(state.station, &state.row);
        let starts = starts(&state.row);
        let begun = self.now_ns();
        let slot = self.open(&key, id)?;
        let state = self.state(id)?;
        let warm_up = u64::from(matches!(state.station, Station::Kernel | Station::Pair));
        let iterations = state.iterations;
        let fraction = self.fraction();
        self.progress.working(id, fraction);
        let start = if starts { begun } else { self.now_ns() };
        let (sample, tokens) = self.slice_of(&key, id, slot, iterations, warm_up)?;
        let spent = self.now_ns().saturating_sub(start);
        let mut row = measurement(id, &sample);
        row.round = round;
        row.block = round;
        row.load_ns = self.state(id)?.load_ns.take();
        row.startup_ttft_ns = self.state(id)?.startup_ttft_ns.take();
        if starts {
            // The next visit starts anew.
            self.benches.close(&key);
        }
        self.tokens.rows(&token_rows(id, round, &tokens))?;
        self.keep_timeline(id, Some(round), sample.timeline)?;
        self.measurements.rows(&[row])?;
        self.sampled(id)?;
        Ok(spent)
    }

    /// The first sample of a cell turns its row into one that has samples.
    fn sampled(&mut self, id: &str) -> Result<(), Trouble> {
        let state = self.state(id)?;
        if state.sampled {
            return Ok(());
        }
        state.sampled = true;
        if is_final(&state.row) {
            return Ok(());
        }
        unfinished(&mut state.row);
        let row = state.row.clone();
        self.cells.rows(&[row])?;
        Ok(())
    }

    /// Trouble with a cell becomes its final row.
    pub(super) fn settle<T>(&mut self, id: &str, result: Result<T, Trouble>) -> Result<T, Trouble> {
        if let Err(Trouble::Stop {
            status,
            reason,
            content,
        }) = &result
        {
            self.unusable_content |= content;
            let state = self.state(id)?;
            let told = is_final(&state.row);
            state.row.status = *status;
            // One line, however much the worker said.
            state.row.reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
            let row = state.row.clone();
            self.cells.rows(std::slice::from_ref(&row))?;
            if told {
                // It was counted as done; what it lost in the energy pass is still told.
                self.progress
                    .note(&format!("{id}: {}: {}", row.status, row.reason));
            } else {
                self.progress.finished(&row);
            }
        }
        result
    }

    /// One block of a pair. Both sides live in the worker of the first, so that they have the same threads, the same CPUs
    /// and the same kind of pages.
    pub(super) fn visit_pair(
        &mut self,
        index: usize,
        pair: &PlannedPair,
        round: u64,
    ) -> Result<u64, Trouble> {
        if (self.options.interrupted)() {
            return Err(Trouble::Interrupted);
        }
        let ids = [pair.a.clone(), pair.b.clone()];
        for id in &ids {
            let lost = self
                .states
                .get(id)
                .is_none_or(|state| is_final(&state.row) && state.row.status != Status::Ok);
            if lost {
                // Its row says why; the pair has nothing to add.
                return Err(stop(Status::Skipped, "a side of the pair is gone"));
            }
        }
        let (key, slots) = self.open_pair(&ids)?;
        let iterations = [
            self.state(&ids[0])?.iterations,
            self.state(&ids[1])?.iterations,
        ];
        let name = format!("{} / {}", ids[0], ids[1]);
        let (seed, first) = (self.seed, round);
        let mut pairing = self
            .pairings
            .remove(&index)
            .unwrap_or_else(|| Pairing::new(seed, &name, first, iterations));
        let fraction = self.fraction();
        self.progress.working(&name, fraction);
        let start = self.now_ns();
        let mut both = Both {
            master: self,
            key: &key,
            ids: &ids,
            slots,
        };
        let block = match pairing.block(&mut both) {
            Ok(block) => block,
            Err(SideError { side, error }) => {
                let id = &ids[usize::from(side == Side::B)];
                return self.settle(id, Err(error));
            }
        };
        self.pairings.insert(index, pairing);
        let spent = self.now_ns().saturating_sub(start);
        let rows: Vec<Measurement> = (0..)
            .zip(&block.samples)
            .map(|(position, (side, sample))| {
                let at = usize::from(*side == Side::B);
                Measurement {
                    round,
                    block: block.index,
                    side: *side,
                    sample: position,
                    pair: ids[1 - at].clone(),
                    ..measurement(&ids[at], sample)
                }
            })
            .collect();
        self.measurements.rows(&rows)?;
        for id in &ids {
            self.sampled(id)?;
        }
        Ok(spent)
    }

    /// Opens both sides in the worker of the first; gives that worker and their slots.
    pub(super) fn open_pair(&mut self, ids: &[String; 2]) -> Result<(String, [u64; 2]), Trouble> {
        let subject = self.state(&ids[0])?;
        let key = bench_key(subject.station, &subject.row);
        let mut slots = [0; 2];
        for (slot, id) in slots.iter_mut().zip(ids) {
            let opened = self.open(&key, id);
            *slot = self.settle(id, opened)?;
        }
        Ok((key, slots))
    }

    /// The final row of a cell that has its samples.
    pub(super) fn finish(&mut self, id: &str) -> Result<(), Trouble> {
        let state = self.state(id)?;
        if is_final(&state.row) {
            return Ok(());
        }
        state.row.status = Status::Ok;
        state.row.reason.clear();
        let row = state.row.clone();
        self.cells.rows(std::slice::from_ref(&row))?;
        self.progress.finished(&row);
        Ok(())
    }

    /// The final row of a cell that exists only as a side of a pair.
    pub(super) fn finish_side(&mut self, id: &str, other: &str) -> Result<(), Trouble> {
        let status = self.state(other)?.row.status;
        let state = self.state(id)?;
        if state.row.reason == NOT_MEASURED {
            let reason = format!("the other side of its pair, {other}, is {status}");
            let lost: Result<(), Trouble> = Err(stop(Status::Skipped, reason));
            return match self.settle(id, lost) {
                Err(Trouble::Stop { .. }) | Ok(()) => Ok(()),
                Err(other) => Err(other),
            };
        }
        self.finish(id)
    }
}

impl State {
    fn new(
        plan: &Plan,
        planned: &PlannedCell,
        earlier: &Earlier,
        options: &RunOptions<'_>,
    ) -> Self {
        let allow = |floor: Duration, expected_ns: u64| {
            floor.max(Duration::from_nanos(expected_ns.saturating_mul(PATIENCE)))
        };
        let row = planned_row(planned, earlier);
        let mut task = task_of(plan, planned);
        if !planned.cell.packed_cache.is_empty() {
            let dir = options.dir.path().join(PACKED_CACHE);
            task.packed_cache = dir.display().to_string();
        }
        Self {
            task,
            station: planned.station,
            setup: allow(options.timeouts.setup, planned.setup_ns),
            slice: allow(options.timeouts.slice, planned.visit_ns),
            truth: None,
            iterations: 1,
            load_ns: None,
            startup_ttft_ns: None,
            sampled: row.status == Status::Ok,
            row,
        }
    }
}

/// The two sides of a pair in their worker.
struct Both<'m, 'a> {
    master: &'m mut Master<'a>,
    key: &'m str,
    ids: &'m [String; 2],
    slots: [u64; 2],
}

impl Contest for Both<'_, '_> {
    type Error = Trouble;

    fn slice(&mut self, side: Side, iterations: u64) -> Result<Sample, Trouble> {
        let at = usize::from(side == Side::B);
        let (id, slot) = (&self.ids[at], self.slots[at]);
        let (sample, _) = self.master.slice_of(self.key, id, slot, iterations, 1)?;
        Ok(sample)
    }
}

fn no_reference(why: &str) -> Trouble {
    stop(
        Status::Failed,
        format!("there is no reference to verify with: {why}"),
    )
}

pub(super) fn unexpected(reply: &Reply) -> Trouble {
    stop(Status::Failed, format!("an unexpected reply: {reply:?}"))
}
