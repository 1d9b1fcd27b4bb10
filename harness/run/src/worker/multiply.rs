//! Prepare and multiply: the micro cells of ternary kernels and of baselines.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use rayon::prelude::*;
use trit_kernel::{
    Accuracy, Activations, AlignedBuf, DenseArgs, DenseFormat, DenseKernel, DenseWeights, GemmArgs,
    Kernel, Packed, PreparedBuf,
};
use trit_measure::{Clock, MonotonicClock, Team, share};

use super::weights::sides;
use super::{Done, Fault, Shop, Subject};
use crate::inputs;
use crate::protocol::{Answer, INPUT_SETS, Job, Opened, Task};

/// Bytes of one tile of sums: the caller of a kernel scales and scatters a tile while it is in L2, so a cell hands the
/// kernel ranges of rows of that size, as an engine does.
const TILE_BYTES: usize = 256 << 10;
/// Largest number of sums of one call.
const MAX_SUMS: usize = 1 << 28;

/// What ternary kernels and baselines have in common.
trait Multiply: Sync {
    /// One output.
    type Value: Copy + Send + Sync;
    /// Prepared activations.
    type Prepared: Default + Send + Sync;
    /// What no answer is.
    const POISON: Self::Value;

    fn row_step(&self) -> usize;
    fn token_step(&self) -> usize;
    fn group_bytes(&self) -> usize;
    fn scratch_bytes(&self, rows: usize) -> usize;
    /// The bytes to prepare into.
    fn begin<'a>(&self, prepared: &'a mut Self::Prepared) -> &'a mut [u8];
    /// Prepares groups of input set `set`.
    fn prepare(&self, set: usize, groups: Range<usize>, out: &mut [u8]);
    /// All tokens times rows of weight slot `slot`.
    fn gemm(
        &self,
        slot: usize,
        prepared: &Self::Prepared,
        rows: Range<usize>,
        scratch: &mut [u8],
        out: &mut [Self::Value],
    );
    /// Weight slots.
    fn slots(&self) -> usize;
    /// Exact sums as integers; what is no integer becomes [`NO_SUM`].
    fn sum(&self, value: Self::Value) -> i32;
    /// Largest allowed distance from the exact sum of one token of a set; `None` for exact subjects.
    fn bound(&self, set: usize, token: usize) -> Option<f64>;
    /// The value as a number.
    fn number(&self, value: Self::Value) -> f64;
    fn opened(&self) -> Opened;
}

/// Stands for a value that is no integer sum. No sum reaches it: K is at most 262,144, so sums are below 2^26.
const NO_SUM: i32 = i32::MIN;

/// A ternary kernel with its weights and activations.
struct Ternary {
    kernel: Box<dyn Kernel>,
    weights: Arc<Vec<Packed>>,
    sets: Vec<Vec<i8>>,
    tokens: usize,
    k: usize,
}

impl Multiply for Ternary {
    type Value = i32;
    type Prepared = PreparedBuf;
    const POISON: i32 = 0x5a5a_5a5a;

    fn row_step(&self) -> usize {
        self.kernel.row_step()
    }
    fn token_step(&self) -> usize {
        self.kernel.token_step()
    }
    fn group_bytes(&self) -> usize {
        self.kernel.prepared_group_bytes(self.k)
    }
    fn scratch_bytes(&self, rows: usize) -> usize {
        self.kernel.scratch_bytes(self.k, rows, self.tokens)
    }
    fn begin<'a>(&self, prepared: &'a mut PreparedBuf) -> &'a mut [u8] {
        prepared.begin(&*self.kernel, self.k, self.tokens)
    }
    fn prepare(&self, set: usize, groups: Range<usize>, out: &mut [u8]) {
        let activations = Activations::new(&self.sets[set], self.tokens, self.k);
        self.kernel.prepare(activations, groups, out);
    }
    fn gemm(
        &self,
        slot: usize,
        prepared: &PreparedBuf,
        rows: Range<usize>,
        scratch: &mut [u8],
        out: &mut [i32],
    ) {
        self.kernel.gemm(GemmArgs {
            weights: &self.weights[slot],
            prepared: prepared.view(),
            rows,
            tokens: 0..self.tokens,
            scratch,
            out,
        });
    }
    fn slots(&self) -> usize {
        self.weights.len()
    }
    fn sum(&self, value: i32) -> i32 {
        value
    }
    fn bound(&self, _set: usize, _token: usize) -> Option<f64> {
        match self.kernel.info().accuracy {
            Accuracy::Exact => None,
            Accuracy::BoundedPerFeature(bound) => Some(f64::from(bound) * self.k as f64),
        }
    }
    fn number(&self, value: i32) -> f64 {
        f64::from(value)
    }
    fn opened(&self) -> Opened {
        let info = self.kernel.info();
        let spec = self.weights[0].layout().spec();
        Opened {
            layout: spec.name.to_owned(),
            weight_bits: Some(spec.weight_bits),
            isa: info.isa.name().to_owned(),
            working_set_bytes: self.weights.iter().map(|w| w.bytes().len() as u64).sum(),
            bounded: info.accuracy != Accuracy::Exact,
            ..Opened::default()
        }
    }
}

/// A baseline with its weights and activations.
struct Dense {
    kernel: Box<dyn DenseKernel>,
    weights: Arc<Vec<DenseWeights>>,
    sets: Vec<Vec<f32>>,
    tokens: usize,
    k: usize,
}

impl Dense {
    fn info(&self) -> &'static trit_kernel::DenseInfo {
        self.kernel.info()
    }
}

impl Multiply for Dense {
    type Value = f32;
    type Prepared = AlignedBuf;
    const POISON: f32 = f32::NAN;

    fn row_step(&self) -> usize {
        self.kernel.row_step()
    }
    fn token_step(&self) -> usize {
        self.kernel.token_step()
    }
    fn group_bytes(&self) -> usize {
        self.kernel.prepared_group_bytes(self.k)
    }
    fn scratch_bytes(&self, rows: usize) -> usize {
        self.kernel.scratch_bytes(self.k, rows, self.tokens)
    }
    fn begin<'a>(&self, prepared: &'a mut AlignedBuf) -> &'a mut [u8] {
        prepared.resize(self.tokens.div_ceil(self.token_step()) * self.group_bytes());
        prepared.bytes_mut()
    }
    fn prepare(&self, set: usize, groups: Range<usize>, out: &mut [u8]) {
        self.kernel
            .prepare(&self.sets[set], self.tokens, self.k, groups, out);
    }
    fn gemm(
        &self,
        slot: usize,
        prepared: &AlignedBuf,
        rows: Range<usize>,
        scratch: &mut [u8],
        out: &mut [f32],
    ) {
        self.kernel.gemm(DenseArgs {
            weights: &self.weights[slot],
            prepared: prepared.bytes(),
            rows,
            tokens: 0..self.tokens,
            scratch,
            out,
        });
    }
    fn slots(&self) -> usize {
        self.weights.len()
    }
    fn sum(&self, value: f32) -> i32 {
        // Exact sums are below 2^24, so the conversion is one; -0 is 0.
        if value.fract().abs() > 0.0 || !value.is_finite() || value.abs() > 16_777_216.0 {
            NO_SUM
        } else {
            value as i32
        }
    }
    fn bound(&self, set: usize, token: usize) -> Option<f64> {
        // Stated with `DenseKernel`: q4 rounds its block scales to half precision.
        (self.info().format == DenseFormat::Q4).then(|| {
            let row = &self.sets[set][token * self.k..(token + 1) * self.k];
            let sum: f64 = row.iter().map(|v| f64::from(v.abs())).sum();
            sum / 1024.0
        })
    }
    fn number(&self, value: f32) -> f64 {
        f64::from(value)
    }
    fn opened(&self) -> Opened {
        let info = self.info();
        Opened {
            layout: info.format.name().to_owned(),
            weight_bits: Some(info.format.weight_bits()),
            isa: info.isa.name().to_owned(),
            working_set_bytes: self
                .weights
                .iter()
                .map(|w| w.data.bytes().len() as u64)
                .sum(),
            bounded: info.format == DenseFormat::Q4,
            ..Opened::default()
        }
    }
}

/// What one thread of the team owns.
struct Lane<V> {
    rows: Range<usize>,
    scratch: AlignedBuf,
    /// The sums of each input set: one tile after another, each token-major.
    outs: Vec<Vec<V>>,
    /// The sums of added work, which nobody reads.
    spare: Vec<V>,
}

/// A micro cell.
struct Micro<M: Multiply> {
    subject: M,
    team: Rc<Team>,
    job: Job,
    rows: usize,
    tokens: usize,
    /// Rows of one tile.
    tile_rows: usize,
    prepared: M::Prepared,
    lanes: Vec<Lane<M::Value>>,
    /// The next weight slot. Input sets follow it: slot `s` meets set `s mod INPUT_SETS`.
    cursor: usize,
    /// The input sets of the last slice.
    used: Vec<usize>,
    exact: Vec<Vec<i32>>,
    /// The share of the rows that is multiplied once more.
    added_work: f64,
}

impl<M: Multiply> Micro<M> {
    fn new(subject: M, team: Rc<Team>, task: &Task) -> Result<Self, Fault> {
        let (rows, _) = sides(task)?;
        let tokens = tokens(task)?;
        rows.checked_mul(tokens)
            .filter(|sums| *sums <= MAX_SUMS)
            .ok_or_else(|| Fault::over_limit(format!("{rows} rows of {tokens} tokens")))?;
        let threads = team.threads();
        let step = subject.row_step().max(1);
        let tile_rows = (TILE_BYTES / 4 / tokens / step).max(1) * step;
        let lanes = (0..threads)
            .map(|thread| {
                let rows = share(rows, step, thread, threads);
                Lane {
                    scratch: AlignedBuf::zeroed(
                        subject.scratch_bytes(tile_rows.min(rows.len().max(1))),
                    ),
                    outs: vec![vec![M::POISON; rows.len() * tokens]; INPUT_SETS],
                    spare: Vec::new(),
                    rows,
                }
            })
            .collect();
        Ok(Self {
            subject,
            team,
            job: task.job,
            rows,
            tokens,
            tile_rows,
            prepared: M::Prepared::default(),
            lanes,
            cursor: 0,
            used: Vec::new(),
            exact: Vec::new(),
            added_work: task.added_work.clamp(0.0, 1.0),
        })
    }

    /// Prepares input set `set`, on the team when there is something to share.
    fn prepare(&mut self, set: usize) {
        let subject = &self.subject;
        let groups = self.tokens.div_ceil(subject.token_step().max(1));
        let bytes = subject.begin(&mut self.prepared);
        let threads = self.team.threads();
        if groups == 1 || threads == 1 {
            subject.prepare(set, 0..groups, bytes);
            return;
        }
        let group_bytes = subject.group_bytes();
        let mut parts = Vec::with_capacity(threads);
        let mut rest = bytes;
        for thread in 0..threads {
            let range = share(groups, 1, thread, threads);
            let (part, tail) = rest.split_at_mut(range.len() * group_bytes);
            parts.push((range, part));
            rest = tail;
        }
        self.team.run_parts(&mut parts, |_, (range, part)| {
            if range.start < range.end {
                subject.prepare(set, range.clone(), part);
            }
        });
    }

    fn gemm(&mut self, slot: usize, set: usize) {
        let (subject, prepared) = (&self.subject, &self.prepared);
        let (tile_rows, tokens) = (self.tile_rows, self.tokens);
        self.team.run_parts(&mut self.lanes, |_, lane| {
            let end = lane.rows.end;
            let mut out = lane.outs[set].as_mut_slice();
            let mut row = lane.rows.start;
            while row < end {
                let rows = row..(row + tile_rows).min(end);
                let (tile, rest) = out.split_at_mut(rows.len() * tokens);
                row = rows.end;
                subject.gemm(slot, prepared, rows, lane.scratch.bytes_mut(), tile);
                out = rest;
            }
        });
    }

    /// Multiplies the first rows of each thread once more: so many of them that the call takes that share longer. With
    /// several matrices it takes one that is as far from the caches as the one of the call.
    fn add_work(&mut self, slot: usize) {
        let slots = self.subject.slots();
        let slot = (slot + slots / 2) % slots;
        let (subject, prepared) = (&self.subject, &self.prepared);
        let (tile_rows, tokens, added) = (self.tile_rows, self.tokens, self.added_work);
        self.team.run_parts(&mut self.lanes, |_, lane| {
            let rows = (lane.rows.len() as f64 * added).ceil() as usize;
            let end = lane.rows.start + rows.min(lane.rows.len());
            for row in (lane.rows.start..end).step_by(tile_rows) {
                let rows = row..(row + tile_rows).min(end);
                lane.spare.resize(rows.len() * tokens, M::POISON);
                let scratch = lane.scratch.bytes_mut();
                subject.gemm(slot, prepared, rows, scratch, &mut lane.spare);
            }
        });
    }

    /// One call; gives the time at which its activations were prepared.
    fn call(&mut self) -> u64 {
        // With one matrix the input sets rotate alone; otherwise there is a multiple of INPUT_SETS matrices.
        let slot = self.cursor;
        let (weight, set) = (slot % self.subject.slots(), slot % INPUT_SETS);
        self.cursor = (slot + 1) % self.subject.slots().max(INPUT_SETS);
        self.prepare(set);
        let prepared_at = MonotonicClock.now_ns();
        if self.job == Job::Multiply {
            self.gemm(weight, set);
            if self.added_work > 0.0 {
                self.add_work(weight);
            }
        }
        prepared_at
    }

    /// The sums of a set, token-major.
    fn sums(&self, set: usize) -> Vec<M::Value> {
        let mut sums = vec![M::POISON; self.rows * self.tokens];
        for lane in &self.lanes {
            let mut tile = lane.outs[set].as_slice();
            let mut row = lane.rows.start;
            while row < lane.rows.end {
                let width = self.tile_rows.min(lane.rows.end - row);
                for token in 0..self.tokens {
                    let at = token * self.rows + row;
                    sums[at..at + width].copy_from_slice(&tile[token * width..(token + 1) * width]);
                }
                tile = &tile[width * self.tokens..];
                row += width;
            }
        }
        sums
    }

    /// The sums of a set as integers: those of the subject, or the exact ones where it is within its bound of them.
    fn integers(&self, set: usize) -> Result<Vec<i32>, Fault> {
        let values = self.sums(set);
        if self.subject.bound(set, 0).is_none() {
            return Ok(values
                .into_iter()
                .map(|value| self.subject.sum(value))
                .collect());
        }
        let exact = self
            .exact
            .get(set)
            .filter(|exact| exact.len() == values.len())
            .ok_or_else(|| Fault::failed("the exact sums were not given"))?;
        let judge = |at: usize| {
            let bound = self.subject.bound(set, at / self.rows).unwrap_or(0.0);
            let got = self.subject.number(values[at]);
            // A NaN is not within any bound.
            if (got - f64::from(exact[at])).abs() <= bound {
                exact[at]
            } else {
                NO_SUM
            }
        };
        Ok((0..values.len()).map(judge).collect())
    }
}

impl<M: Multiply> Subject for Micro<M> {
    fn opened(&self) -> Opened {
        self.subject.opened()
    }

    fn expect(&mut self, sums: Vec<Vec<i32>>) -> Result<(), Fault> {
        self.exact = sums;
        Ok(())
    }

    fn warm_up(&mut self, calls: u64) -> Result<(), Fault> {
        for _ in 0..calls {
            self.call();
        }
        Ok(())
    }

    fn poison(&mut self) {
        for lane in &mut self.lanes {
            for out in &mut lane.outs {
                out.fill(M::POISON);
            }
        }
    }

    fn slice(&mut self, iterations: u64) -> Result<Done, Fault> {
        self.used = (0..iterations.min(INPUT_SETS as u64) as usize)
            .map(|call| (self.cursor + call) % INPUT_SETS)
            .collect();
        let clock = MonotonicClock;
        let mut prepare_ns = 0;
        let start = clock.now_ns();
        let mut call_start = start;
        for _ in 0..iterations {
            let prepared_at = self.call();
            prepare_ns += prepared_at - call_start;
            call_start = clock.now_ns();
        }
        Ok(Done {
            calls: iterations,
            time_ns: call_start - start,
            prepare_ns: Some(prepare_ns),
            ..Done::default()
        })
    }

    fn answers(&mut self) -> Result<Vec<Answer>, Fault> {
        let mut used = self.used.clone();
        // The last set first: its activations are the ones that are prepared now.
        let last = (self.cursor + INPUT_SETS - 1) % INPUT_SETS;
        used.sort_by_key(|set| *set != last);
        used.into_iter()
            .map(|set| {
                if self.job == Job::Prepare {
                    // The prepared form is the kernel's own: it is right when the sums made of it are.
                    if set != last {
                        self.prepare(set);
                    }
                    self.gemm(set % self.subject.slots(), set);
                }
                Ok(Answer {
                    set: set as u64,
                    digest: inputs::digest_sums(&self.integers(set)?),
                })
            })
            .collect()
    }
}

fn tokens(task: &Task) -> Result<usize, Fault> {
    usize::try_from(task.tokens)
        .ok()
        .filter(|tokens| (1..=1 << 20).contains(tokens))
        .ok_or_else(|| Fault::unsupported(format!("{} tokens", task.tokens)))
}

fn open_ternary(shop: &mut Shop, task: &Task) -> Result<Micro<Ternary>, Fault> {
    let entry = trit_kernels::find(&task.kernel).map_err(Fault::unsupported)?;
    let kernel = (entry.open)(shop.cpu).map_err(Fault::unsupported)?;
    let (_, k) = sides(task)?;
    let tokens = tokens(task)?;
    let weights = shop.weights.ternary(task, entry.info.accepts[0])?;
    let team = shop.team(task.threads)?;
    let sets = (0..INPUT_SETS)
        .map(|set| inputs::activations(task.seed, set, tokens, k, task.symmetric))
        .collect();
    let subject = Ternary {
        kernel,
        weights,
        sets,
        tokens,
        k,
    };
    Micro::new(subject, team, task)
}

fn open_dense(shop: &mut Shop, task: &Task) -> Result<Micro<Dense>, Fault> {
    let entry = trit_kernels::find_dense(&task.kernel).map_err(Fault::unsupported)?;
    let kernel = (entry.open)(shop.cpu).map_err(Fault::unsupported)?;
    let (_, k) = sides(task)?;
    let tokens = tokens(task)?;
    let weights = shop.weights.dense(task, &*kernel)?;
    let team = shop.team(task.threads)?;
    let sets = (0..INPUT_SETS)
        .map(|set| {
            let whole = inputs::activations(task.seed, set, tokens, k, true);
            whole.into_iter().map(f32::from).collect()
        })
        .collect();
    let subject = Dense {
        kernel,
        weights,
        sets,
        tokens,
        k,
    };
    Micro::new(subject, team, task)
}

/// Opens a micro cell.
pub(super) fn open(shop: &mut Shop, task: &Task) -> Result<Box<dyn Subject>, Fault> {
    if trit_kernels::find_dense(&task.kernel).is_ok() {
        Ok(Box::new(open_dense(shop, task)?))
    } else {
        Ok(Box::new(open_ternary(shop, task)?))
    }
}

/// Tokens of the first input set for which the naive kernel has to agree with the definition.
const ANCHORED: usize = 4;

/// `out[t · rows + r] = Σ_k act[t, k] · code[r, k]`: the definition, on codes that were never packed.
fn definition(codes: &[i8], activations: &[i8], rows: usize, k: usize) -> Vec<i32> {
    // 16-bit operands are what compilers make multiply-adds of on every target.
    let wide = |values: &[i8]| values.iter().map(|v| i16::from(*v)).collect::<Vec<i16>>();
    let activations = wide(activations);
    let tokens = activations.len() / k;
    let columns: Vec<Vec<i32>> = codes
        .par_chunks_exact(k)
        .map(|row| {
            let row = wide(row);
            let dot = |token: &[i16]| -> i32 {
                let products = row
                    .iter()
                    .zip(token)
                    .map(|(w, a)| i32::from(*w) * i32::from(*a));
                products.sum()
            };
            activations.chunks_exact(k).map(dot).collect()
        })
        .collect();
    let mut sums = Vec::with_capacity(rows * tokens);
    for token in 0..tokens {
        sums.extend(columns.iter().map(|column| column[token]));
    }
    sums
}

/// The answers of a micro cell, every input set once, and the sums when they are wanted. They come from the definition,
/// which the kernel of the task (the naive one) has to agree with on the first tokens: for a hundred tokens it would take
/// longer than all kernels together are measured.
pub(super) fn reference(
    shop: &mut Shop,
    task: &Task,
    wanted: bool,
) -> Result<(Vec<Answer>, Vec<Vec<i32>>), Fault> {
    let (rows, k) = sides(task)?;
    let tokens = tokens(task)?;
    rows.checked_mul(tokens)
        .filter(|sums| *sums <= MAX_SUMS)
        .ok_or_else(|| Fault::over_limit(format!("{rows} rows of {tokens} tokens")))?;
    let (mut answers, mut sums) = (Vec::new(), Vec::new());
    let mut codes = inputs::codes(task.seed, 0, rows, k);
    for set in 0..INPUT_SETS {
        if set > 0 && task.working_set_bytes > 0 {
            codes = inputs::codes(task.seed, set, rows, k);
        }
        let activations = inputs::activations(task.seed, set, tokens, k, task.symmetric);
        let values = definition(&codes, &activations, rows, k);
        if set == 0 {
            let mut anchor = task.clone();
            anchor.job = Job::Multiply;
            anchor.working_set_bytes = 0;
            anchor.tokens = tokens.min(ANCHORED) as u64;
            let mut naive = open_ternary(shop, &anchor)?;
            naive.call();
            let first = naive.integers(0)?;
            if values[..first.len()] != first {
                return Err(Fault::failed(format!(
                    "{} does not agree with the definition",
                    task.kernel
                )));
            }
        }
        answers.push(Answer {
            set: set as u64,
            digest: inputs::digest_sums(&values),
        });
        if wanted {
            sums.push(values);
        }
    }
    Ok((answers, sums))
}
