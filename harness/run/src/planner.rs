//! From a suite to a plan: which cells, in which order, with how much time and memory. A pure function.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trit_core::{
    Cell, EnergyMode, Generate, MeterChoice, Micro, NOT_MEASURED, Pair, PairSubject, Plan,
    PlannedCell, PlannedPair, Program, Selector, Station, Status, Suite, ThreadCount, Workload,
    synthetic_shape,
};

use crate::budget::divide;
use crate::energy_plan::choose;
use crate::engine_plan::{EngineWork, engine_cell};
use crate::estimate::Estimate;
use crate::program_plan::program_cell;
use crate::projection::{parts, projected, with_layers};
use crate::protocol::KernelFacts;
use crate::waves::put_into_waves;

/// The budget of a suite that names none.
pub const DEFAULT_BUDGET: Duration = Duration::from_mins(2);
/// Smallest working set of a cold cell, where memory permits.
const COLD_BYTES: u64 = 1 << 30;
/// A cold working set is this many times the last-level cache.
const COLD_CACHES: u64 = 4;
/// Last-level caches above this are counted as this: what a virtual machine reports may be the host's.
const MAX_COUNTED_CACHE: u64 = 512 << 20;

/// What the command line changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Models of the `[[generate]]` entries instead of the suite's.
    pub models: Vec<String>,
    /// Thread counts instead of the suite's.
    pub threads: Vec<ThreadCount>,
    /// Only these kernels and baselines.
    pub kernels: Vec<String>,
    /// Budget instead of the suite's.
    pub budget: Option<Duration>,
    /// Seed instead of the suite's.
    pub seed: Option<u64>,
    /// Only cells whose id contains this text.
    pub filter: Option<String>,
    /// Whether there is an energy pass, instead of what the suite says.
    pub energy: Option<EnergyMode>,
    /// The meter instead of the suite's.
    pub energy_source: Option<MeterChoice>,
}

/// What the planner has to know about the machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanContext {
    /// What "all" threads means.
    pub threads: usize,
    /// Kernels and baselines, with the estimates of the survey.
    pub kernels: Vec<KernelFacts>,
    /// Memory that is free for workers.
    pub memory_bytes: u64,
    /// Last-level cache, as reported.
    pub l3_bytes: u64,
    /// Size of each model file that cells may name.
    pub model_bytes: BTreeMap<String, u64>,
    /// What the command line changes.
    pub overrides: Overrides,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A kernel was asked for that does not exist.
    #[error("unknown kernel `{id}`; hint: `tritbench kernels` lists them{near}")]
    UnknownKernel {
        /// What was asked for.
        id: String,
        /// Names that look like it.
        near: String,
    },
    /// A cell would have no thread.
    #[error("0 threads cannot work; hint: give 1 or more")]
    NoThreads,
    /// Nothing is left.
    #[error("the plan has no cells; hint: {0}")]
    Empty(String),
}

impl PlanContext {
    pub(crate) fn facts(&self, id: &str) -> Option<&KernelFacts> {
        self.kernels.iter().find(|facts| facts.id == id)
    }

    fn allowed(&self, id: &str) -> bool {
        self.overrides.kernels.is_empty() || self.overrides.kernels.iter().any(|k| k == id)
    }

    /// Ternary kernels that can run, fastest first: by the geometric mean of the two estimates of the survey, so that
    /// neither one token nor many decide alone. Kernels without estimates come last, in the order of the registry.
    pub fn ranking(&self) -> Vec<&KernelFacts> {
        self.ranked(false)
    }

    fn ranked(&self, dense: bool) -> Vec<&KernelFacts> {
        let mut ranked: Vec<&KernelFacts> = self
            .kernels
            .iter()
            .filter(|facts| facts.dense == dense && facts.unavailable.is_empty())
            .filter(|facts| self.allowed(&facts.id))
            .collect();
        let score = |facts: &KernelFacts| match (facts.gemv_ns_per_weight, facts.gemm_ns_per_weight)
        {
            (Some(gemv), Some(gemm)) if gemv > 0.0 && gemm > 0.0 => gemv.ln() + gemm.ln(),
            _ => f64::INFINITY,
        };
        ranked.sort_by(|a, b| score(a).total_cmp(&score(b)));
        ranked
    }

    /// The ids that one selector takes.
    fn taken(&self, selector: &Selector) -> Result<Vec<String>, PlanError> {
        let known = |dense: bool| -> Vec<String> {
            self.kernels
                .iter()
                .filter(|facts| facts.dense == dense && self.allowed(&facts.id))
                // Kernels that were asked for by name are planned, and skipped with their reason.
                .filter(|facts| facts.unavailable.is_empty() || !self.overrides.kernels.is_empty())
                .map(|facts| facts.id.clone())
                .collect()
        };
        Ok(match selector {
            Selector::Available => known(false),
            Selector::Dense => known(true),
            Selector::BestDense => {
                let mut formats = BTreeSet::new();
                let mut ranked = self.ranked(true);
                ranked.retain(|facts| formats.insert(facts.layout.as_str()));
                ranked.into_iter().map(|facts| facts.id.clone()).collect()
            }
            Selector::BestOf(format) => {
                let prefix = format!("{format}-dense-");
                let best = self.ranked(true).into_iter();
                let mut best = best.filter(|facts| facts.id.starts_with(&prefix));
                best.next()
                    .map(|facts| facts.id.clone())
                    .into_iter()
                    .collect()
            }
            Selector::Best(count) => {
                let ranked = self.ranking().into_iter();
                ranked.take(*count).map(|facts| facts.id.clone()).collect()
            }
            Selector::Not(inner) => self.taken(inner)?,
            Selector::Id(id) if self.facts(id).is_none() => {
                return Err(unknown_kernel(id, &self.kernels));
            }
            Selector::Id(id) => {
                let id = Some(id.clone()).filter(|id| self.allowed(id));
                id.into_iter().collect()
            }
        })
    }

    /// The ids that a list of selectors takes, each once, in order.
    fn select(&self, selectors: &[Selector]) -> Result<Vec<String>, PlanError> {
        let mut ids: Vec<String> = Vec::new();
        for selector in selectors {
            let taken = self.taken(selector)?;
            if matches!(selector, Selector::Not(_)) {
                ids.retain(|id| !taken.contains(id));
            } else {
                for id in taken {
                    if !ids.contains(&id) {
                        ids.push(id);
                    }
                }
            }
        }
        Ok(ids)
    }

    fn thread_counts(&self, suite: &[ThreadCount]) -> Result<Vec<usize>, PlanError> {
        let asked = if self.overrides.threads.is_empty() {
            suite
        } else {
            &self.overrides.threads
        };
        let mut counts = Vec::new();
        for count in asked {
            let count = count.on(self.threads);
            if count == 0 {
                return Err(PlanError::NoThreads);
            }
            if !counts.contains(&count) {
                counts.push(count);
            }
        }
        Ok(counts)
    }

    /// Bytes of the working set of a cold cell, and whether memory made it smaller than it should be.
    fn cold_bytes(&self) -> (u64, bool) {
        let want = COLD_BYTES.max(COLD_CACHES * self.l3_bytes.min(MAX_COUNTED_CACHE));
        let limit = self.memory_bytes / 4;
        (want.min(limit), want > limit)
    }
}

fn unknown_kernel(id: &str, kernels: &[KernelFacts]) -> PlanError {
    let near: Vec<&str> = kernels
        .iter()
        .map(|facts| facts.id.as_str())
        .filter(|known| {
            id.split('-')
                .filter(|part| part.len() > 2)
                .any(|part| known.contains(part))
        })
        .take(3)
        .collect();
    PlanError::UnknownKernel {
        id: id.to_owned(),
        near: if near.is_empty() {
            String::new()
        } else {
            format!(", for example {}", near.join(" "))
        },
    }
}

/// The plan while it grows.
struct Builder<'a> {
    context: &'a PlanContext,
    cold_bytes: u64,
    limit_bytes: u64,
    cells: Vec<PlannedCell>,
    pairs: Vec<PlannedPair>,
    ids: BTreeSet<String>,
}

/// What a pair's sides or a micro entry's cells have in common.
#[derive(Clone, Copy)]
struct Place {
    workload: Workload,
    rows: u64,
    k: u64,
    tokens: u64,
    threads: usize,
}

impl Place {
    fn cache(self) -> &'static str {
        match self.workload {
            Workload::GemvCold => "cold",
            Workload::GemvWarm | Workload::Gemm => "warm",
            _ => "",
        }
    }
}

impl Builder<'_> {
    fn estimate(&self, kernel: &str) -> Estimate {
        Estimate::of(self.context.facts(kernel))
    }

    fn wanted(&self, id: &str) -> bool {
        let filter = self.context.overrides.filter.as_deref();
        filter.is_none_or(|text| id.contains(text))
    }

    /// Adds a cell unless there is one with its id already.
    fn add(&mut self, mut planned: PlannedCell) {
        if !self.ids.insert(planned.cell.cell.clone()) {
            return;
        }
        planned.cell.status = Status::Skipped;
        planned.cell.reason = self
            .obstacle(&planned.cell)
            .unwrap_or_else(|| NOT_MEASURED.to_owned());
        self.cells.push(planned);
    }

    /// Why a cell cannot run on this machine, whatever memory there is.
    fn obstacle(&self, cell: &Cell) -> Option<String> {
        let facts = self.context.facts(&cell.kernel);
        let unavailable = facts.map_or("", |facts| facts.unavailable.as_str());
        let (threads, given) = (cell.threads.unwrap_or(0), self.context.threads as u64);
        if !unavailable.is_empty() {
            return Some(unavailable.to_owned());
        }
        // Threads that take turns on a CPU measure the scheduler.
        (threads > given).then(|| format!("needs {threads} threads, this process may use {given}"))
    }

    fn kernel_cell(&self, kernel: &str, place: Place, station: Station) -> PlannedCell {
        let facts = self.context.facts(kernel);
        let estimate = self.estimate(kernel);
        let tokens = match place.workload {
            Workload::Gemm | Workload::Prepare => format!("/m{}", place.tokens),
            _ => String::new(),
        };
        let working_set = if place.workload == Workload::GemvCold {
            self.cold_bytes
        } else {
            0
        };
        let weights = place.rows * place.k;
        let matrix_bytes = (weights as f64 * estimate.weight_bits / 8.0) as u64;
        PlannedCell {
            cell: Cell {
                cell: format!(
                    "{kernel}/{}/{}x{}{tokens}/t{}",
                    place.workload, place.rows, place.k, place.threads
                ),
                subject: kernel.to_owned(),
                kernel: kernel.to_owned(),
                layout: facts.map_or_else(String::new, |facts| facts.layout.clone()),
                weight_bits: facts.map(|facts| facts.weight_bits),
                isa: facts.map_or_else(String::new, |facts| facts.isa.clone()),
                rows: Some(place.rows),
                k: Some(place.k),
                tokens: Some(place.tokens),
                workload: place.workload,
                threads: Some(place.threads as u64),
                cache: place.cache().to_owned(),
                ..Cell::default()
            },
            station,
            // Sums of each input set, and weights.
            memory_bytes: working_set.max(4 * matrix_bytes) + 16 * place.rows * place.tokens,
            setup_ns: estimate.setup_ns(place.workload, weights, place.tokens, working_set),
            visit_ns: estimate.visit_ns(place.workload, weights, place.tokens, place.threads),
            ..PlannedCell::default()
        }
    }

    fn micro(&mut self, entry: &Micro) -> Result<(), PlanError> {
        let threads = self.context.thread_counts(&entry.threads)?;
        let kernels = self.context.select(&entry.kernels)?;
        for workload in entry.workloads.iter().copied() {
            if workload == Workload::Dispatch {
                for threads in &threads {
                    self.dispatch(*threads);
                }
                continue;
            }
            let one = [1];
            let tokens = match workload {
                Workload::Gemm | Workload::Prepare => entry.tokens.as_slice(),
                _ => &one,
            };
            for (rows, k) in entry.shapes.iter().flat_map(trit_core::ShapeRef::matrices) {
                for kernel in &kernels {
                    for tokens in tokens.iter().copied() {
                        for threads in threads.iter().copied() {
                            let place = Place {
                                workload,
                                rows,
                                k,
                                tokens,
                                threads,
                            };
                            let mut planned = self.kernel_cell(kernel, place, Station::Kernel);
                            if self.wanted(&planned.cell.cell) {
                                let dense =
                                    self.context.facts(kernel).is_some_and(|facts| facts.dense);
                                if dense && workload == Workload::Pack {
                                    planned.cell.kernel.clear();
                                    continue;
                                }
                                self.add(planned);
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn dispatch(&mut self, threads: usize) {
        for name in ["team", "rayon"] {
            let id = format!("dispatch:{name}/dispatch/t{threads}");
            if self.wanted(&id) {
                self.add(PlannedCell {
                    cell: Cell {
                        cell: id,
                        subject: format!("dispatch:{name}"),
                        workload: Workload::Dispatch,
                        threads: Some(threads as u64),
                        ..Cell::default()
                    },
                    setup_ns: 20_000_000,
                    visit_ns: 5_000_000,
                    memory_bytes: 1 << 20,
                    ..PlannedCell::default()
                });
            }
        }
    }

    fn generate(&mut self, entry: &Generate) -> Result<(), PlanError> {
        let overrides = &self.context.overrides;
        let models = if overrides.models.is_empty() {
            &entry.models
        } else {
            &overrides.models
        };
        let threads = self.context.thread_counts(&entry.threads)?;
        let kernels = self.context.select(&entry.kernels)?;
        let requests = entry.requests();
        for model in models {
            for kernel in &kernels {
                if self.context.facts(kernel).is_some_and(|facts| facts.dense) {
                    continue;
                }
                for threads in threads.iter().copied() {
                    for options in entry.options() {
                        for request in &requests {
                            let work = EngineWork {
                                model,
                                kernel,
                                threads,
                                options,
                                request,
                            };
                            self.engine(&work, entry.project);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// A whole model; one that does not fit, or any that the suite says, is also projected from parts of its layers.
    fn engine(&mut self, work: &EngineWork<'_>, project: bool) {
        let planned = engine_cell(self.context, work);
        if !self.wanted(&planned.cell.cell) {
            return;
        }
        let runs = self.obstacle(&planned.cell).is_none();
        let shape = synthetic_shape(work.model)
            .filter(|_| runs && (project || planned.memory_bytes > self.limit_bytes));
        let part = |layers: u64| {
            let model = &with_layers(work.model, layers);
            engine_cell(self.context, &EngineWork { model, ..*work })
        };
        let chosen = shape.and_then(|shape| {
            let bits = self.estimate(work.kernel).weight_bits;
            let cache = self.context.l3_bytes.min(MAX_COUNTED_CACHE);
            let limit = self.limit_bytes;
            parts(&shape, bits, cache, |layers| {
                part(layers).memory_bytes <= limit
            })
        });
        let chosen = chosen.map(|(few, many)| [part(few), part(many)]);
        self.add(planned.clone());
        if let Some([few, many]) = chosen {
            let row = projected(&planned, &few.cell, &many.cell);
            self.add(few);
            self.add(many);
            if self.ids.insert(row.cell.cell.clone()) {
                self.cells.push(row);
            }
        }
    }

    fn program(&mut self, entry: &Program) -> Result<(), PlanError> {
        for (index, model) in entry.models.iter().enumerate() {
            let bytes = self.context.model_bytes.get(model).copied().unwrap_or(0);
            for threads in self.context.thread_counts(&entry.threads)? {
                let planned = program_cell(entry, index, bytes, threads);
                if self.wanted(&planned.cell.cell) {
                    self.add(planned);
                }
            }
        }
        Ok(())
    }

    fn pair(&mut self, entry: &Pair) -> Result<(), PlanError> {
        let threads = self.context.thread_counts(&entry.threads)?;
        let one = [1];
        let tokens = if entry.workload == Workload::Gemm {
            entry.tokens.as_slice()
        } else {
            &one
        };
        for (rows, k) in entry.shapes.iter().flat_map(trit_core::ShapeRef::matrices) {
            for tokens in tokens.iter().copied() {
                for threads in threads.iter().copied() {
                    let place = Place {
                        workload: entry.workload,
                        rows,
                        k,
                        tokens,
                        threads,
                    };
                    for subject in self.context.taken(&entry.subject)? {
                        let a = self.kernel_cell(&subject, place, Station::Pair);
                        if let Some(b) = self.against(&entry.against, &a, place)? {
                            self.add_pair(a, b);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn add_pair(&mut self, a: PlannedCell, b: PlannedCell) {
        let ids = format!("{} {}", a.cell.cell, b.cell.cell);
        if a.cell.cell == b.cell.cell || !self.wanted(&ids) {
            return;
        }
        self.pairs.push(PlannedPair {
            a: a.cell.cell.clone(),
            b: b.cell.cell.clone(),
            setup_ns: a.setup_ns + b.setup_ns,
            visit_ns: 2 * (a.visit_ns + b.visit_ns),
            memory_bytes: a.memory_bytes + b.memory_bytes,
            ..PlannedPair::default()
        });
        self.add(a);
        self.add(b);
    }

    /// Side B of a pair; side A says what a probe has to be like.
    fn against(
        &self,
        subject: &PairSubject,
        other: &PlannedCell,
        place: Place,
    ) -> Result<Option<PlannedCell>, PlanError> {
        let (name, workload) = match subject {
            PairSubject::Kernel(selector) => {
                let ids = self.context.taken(selector)?;
                return Ok(ids
                    .first()
                    .map(|id| self.kernel_cell(id, place, Station::Pair)));
            }
            PairSubject::Read => ("read", Workload::Read),
            PairSubject::Peak => ("peak", Workload::Peak),
        };
        let bits = other.cell.weight_bits.unwrap_or(2.0);
        let matrix_bytes = ((place.rows * place.k) as f64 * bits / 8.0) as u64;
        let cell = Cell {
            subject: format!("probe:{name}"),
            // Not the probe's own: whose limit it is. It is part of the id, because the instruction set and the bytes
            // of a call are that kernel's.
            kernel: other.cell.kernel.clone(),
            isa: other.cell.isa.clone(),
            cell: if workload == Workload::Read {
                format!(
                    "probe:read/{matrix_bytes}B-{}/t{}",
                    place.cache(),
                    place.threads
                )
            } else {
                // What counts is the arithmetic: that of a float baseline, or products of 8-bit integers.
                let floats = ["f32-", "f16-"]
                    .iter()
                    .any(|f| other.cell.kernel.starts_with(f));
                format!(
                    "probe:peak/{}-{}/t{}",
                    if floats { "f32" } else { "int8" },
                    other.cell.isa,
                    place.threads
                )
            },
            workload,
            threads: Some(place.threads as u64),
            cache: if workload == Workload::Read {
                place.cache().to_owned()
            } else {
                String::new()
            },
            bytes_per_call: (workload == Workload::Read).then_some(matrix_bytes),
            ..Cell::default()
        };
        let working_set = match (workload, place.workload) {
            (Workload::Read, Workload::GemvCold) => self.cold_bytes,
            (Workload::Read, _) => matrix_bytes,
            _ => 0,
        };
        Ok(Some(PlannedCell {
            cell,
            station: Station::Pair,
            memory_bytes: working_set,
            setup_ns: 300_000_000 + working_set / 4,
            visit_ns: other.visit_ns,
            ..PlannedCell::default()
        }))
    }
}

/// A pair of which one side does not run does not run either; a side that is in no other pair says so.
fn drop_lone_sides(plan: &mut Plan) {
    let stopped: BTreeMap<String, String> = plan
        .cells
        .iter()
        .filter(|planned| planned.cell.reason != NOT_MEASURED)
        .map(|planned| (planned.cell.cell.clone(), planned.cell.reason.clone()))
        .collect();
    let mut alone: BTreeMap<String, String> = BTreeMap::new();
    plan.pairs.retain(|pair| {
        for (side, other) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
            if let Some(reason) = stopped.get(other) {
                let reason = format!("the other side of its pair, {other}, does not run: {reason}");
                alone.insert(side.clone(), reason);
            }
        }
        !stopped.contains_key(&pair.a) && !stopped.contains_key(&pair.b)
    });
    let paired = |id: &str| plan.pairs.iter().any(|pair| pair.a == id || pair.b == id);
    for planned in &mut plan.cells {
        let cell = &mut planned.cell;
        let waits = planned.station == Station::Pair && cell.reason == NOT_MEASURED;
        if waits
            && !paired(&cell.cell)
            && let Some(reason) = alone.remove(&cell.cell)
        {
            cell.reason = reason;
        }
    }
}

/// Expands a suite on a machine.
///
/// # Errors
/// When a kernel is unknown, a thread count is 0, or nothing is left to measure.
pub fn plan(suite: &Suite, context: &PlanContext) -> Result<Plan, PlanError> {
    let overrides = &context.overrides;
    for id in &overrides.kernels {
        if context.facts(id).is_none() {
            return Err(unknown_kernel(id, &context.kernels));
        }
    }
    let (cold_bytes, shrunk) = context.cold_bytes();
    let mut builder = Builder {
        context,
        cold_bytes,
        // The rest is for the file cache, the master and everybody else.
        limit_bytes: context.memory_bytes / 10 * 6,
        cells: Vec::new(),
        pairs: Vec::new(),
        ids: BTreeSet::new(),
    };
    suite
        .micro
        .iter()
        .try_for_each(|entry| builder.micro(entry))?;
    suite
        .pair
        .iter()
        .try_for_each(|entry| builder.pair(entry))?;
    suite
        .generate
        .iter()
        .try_for_each(|entry| builder.generate(entry))?;
    suite
        .program
        .iter()
        .try_for_each(|entry| builder.program(entry))?;
    if builder.cells.is_empty() {
        return Err(PlanError::Empty(match &overrides.filter {
            Some(filter) => format!("no cell id contains `{filter}`"),
            None => "no kernel of the suite can run here; `tritbench kernels` says why".to_owned(),
        }));
    }
    let limit = builder.limit_bytes;
    put_into_waves(&mut builder.cells, &mut builder.pairs, limit);
    let budget = overrides.budget.or(suite.budget).unwrap_or(DEFAULT_BUDGET);
    let mut plan = Plan {
        seed: overrides.seed.unwrap_or(suite.seed),
        budget_ns: u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX),
        cold_bytes,
        memory_limit_bytes: limit,
        max_rss_bytes: suite.max_rss_bytes,
        rounds: suite.rounds,
        cells: builder.cells,
        pairs: builder.pairs,
        ..Plan::default()
    };
    if shrunk {
        plan.notes.push(format!(
            "memory is short: cold cells rotate through {} MB only, part of which may stay in a cache",
            cold_bytes / 1_000_000
        ));
    }
    drop_lone_sides(&mut plan);
    divide(&mut plan);
    let mut energy = suite.energy;
    energy.mode = overrides.energy.unwrap_or(energy.mode);
    energy.source = overrides.energy_source.unwrap_or(energy.source);
    plan.energy = choose(&plan, &energy);
    Ok(plan)
}
