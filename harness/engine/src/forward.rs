//! The forward pass: what happens to a chunk of tokens between embedding and logits.
//!
//! Each parallel region splits either tokens or output columns between the threads of the team. A thread multiplies a tile of
//! rows into its own int32 buffer and scales it into place at once, while it is in L2.

use std::ops::Range;

use smallvec::SmallVec;
use trit_kernel::{Activations, AlignedBuf, GemmArgs, Kernel, PreparedBuf};
use trit_measure::{Clock, MonotonicClock, share};
use trit_ops::{Digits, Floats};

use crate::attention;
use crate::batch::{Batch, Rope, Sequence};
use crate::file::{Activation, Config};
use crate::kv::KvRows;
use crate::model::Engine;
use crate::options::ActivationType;
use crate::profile::Role;
use crate::top::Row;
use crate::weights::Projection;

/// Outputs of one tile: 256 KiB of int32, a share of any L2 that leaves room for the weights and activations of the tile.
const TILE_OUTPUTS: usize = 64 * 1024;

/// Most tokens that go through the FFN at a time: what gates and ups became, the widest floats there are, is written and read again, and
/// stays in a last-level cache that is shared with others. The weights are read once more for each such piece.
const FFN_TOKENS: usize = 256;

/// Rows of the head that are multiplied with all tokens before the next ones are read: they stay in L2.
const HEAD_ROWS: usize = 64;

/// Shares are computed from the length of what they split.
pub(crate) const COVERED: &str = "the shares cover the buffer";

/// What the threads of a region work on, one part each. On the stack up to 16 threads, so that decoding allocates nothing.
pub(crate) type Parts<P> = SmallVec<[P; 16]>;

/// What one thread needs to itself.
pub(crate) struct Scratch {
    kernel: AlignedBuf,
    /// Sums of a tile, and those of the other projection where two become one.
    tiles: [Vec<i32>; 2],
    /// One row of a tile as floats, where it becomes part of something.
    row: Vec<f32>,
    pub(crate) scores: Vec<f32>,
    normed: AlignedBuf,
    /// A row of the embedding or the head as a file has it.
    of_file: Row,
    /// How long the thread worked in regions that were timed, until it was asked.
    worked_ns: u64,
}

impl Scratch {
    /// The thread has done its part of a region that began then, if anybody wants to know.
    pub(crate) fn worked_since(&mut self, start: Option<u64>) {
        if let Some(start) = start {
            self.worked_ns += MonotonicClock.now_ns() - start;
        }
    }
}

/// The time at which a thread begins its part of a region, where that is wanted.
pub(crate) fn begun(timed: bool) -> Option<u64> {
    timed.then(|| MonotonicClock.now_ns())
}

/// The input of the next linears.
struct Inputs {
    /// Codes, and the scale of each token.
    quantized: Vec<i8>,
    scales: Vec<f32>,
    prepared: PreparedBuf,
    /// What the codes are made from; empty unless activations stay floats.
    floats: Vec<f32>,
}

/// Room for `len` floats that starts at a cache line, so that no load of a whole vector crosses one.
fn floats(len: usize) -> AlignedBuf {
    AlignedBuf::zeroed(len * size_of::<f32>())
}

/// The buffers of a chunk of up to `tokens` tokens, and of the logits of up to `heads` of them.
pub(crate) struct Buffers {
    /// The residual stream.
    x: AlignedBuf,
    inputs: Inputs,
    /// Queries, keys and values of a token, side by side.
    qkv: AlignedBuf,
    /// What attention returns.
    attended: AlignedBuf,
    /// The last norm, before the head: a row for each sequence.
    normed: AlignedBuf,
    /// What the head makes of it, where it wants more than floats.
    digits: Digits,
    /// What gate and up became, for the tokens of a piece.
    ffn: AlignedBuf,
    scratch: Vec<Scratch>,
}

pub(crate) fn qkv_width(config: &Config) -> usize {
    config.heads * config.head_dim + 2 * config.kv_width()
}

/// How many times the weights of the FFN are read for `tokens` tokens.
pub(crate) fn ffn_pieces(tokens: usize) -> usize {
    tokens.div_ceil(FFN_TOKENS)
}

/// Tokens of a piece of the FFN, at least one: all pieces but the last have as many.
fn ffn_tokens(tokens: usize) -> usize {
    tokens.div_ceil(ffn_pieces(tokens).max(1)).max(1)
}

/// Tokens and inputs of the widest linears of a chunk of `tokens` tokens: those around attention, and those of the FFN.
fn widest_linears(config: &Config, tokens: usize) -> [(usize, usize); 2] {
    let attention = config.hidden.max(config.heads * config.head_dim);
    [(tokens, attention), (ffn_tokens(tokens), config.ffn)]
}

/// The most inputs that a linear has for `tokens` tokens, of all of them together.
fn widest_inputs(config: &Config, tokens: usize) -> usize {
    let linears = widest_linears(config, tokens);
    let [attention, ffn] = linears.map(|(tokens, k)| tokens.saturating_mul(k));
    attention.max(ffn)
}

/// Rows of one tile of `tokens` tokens.
fn tile_rows(tokens: usize, step: usize) -> usize {
    (TILE_OUTPUTS / tokens / step).max(1) * step
}

impl Buffers {
    /// Bytes of the buffers.
    pub(crate) fn bytes(engine: &Engine, tokens: usize, heads: usize, positions: usize) -> u64 {
        let config = &engine.config;
        let widest = config.hidden.max(config.ffn);
        let floats = 2 * config.hidden + qkv_width(config) + 1;
        let inputs = widest_inputs(config, tokens);
        let unquantized = match engine.activations {
            ActivationType::I8 => 0,
            ActivationType::F32 => inputs.saturating_mul(4),
        };
        let prepared_head = engine.weights.head.prepared_bytes(config.hidden);
        let prepared = |kernel: &dyn Kernel| {
            let [attention, ffn] = widest_linears(config, tokens).map(|(tokens, k)| {
                let groups = tokens.div_ceil(kernel.token_step());
                groups.saturating_mul(kernel.prepared_group_bytes(k))
            });
            attention.max(ffn)
        };
        let scores = attention::scratch(config, tokens, positions);
        let thread = 2 * TILE_OUTPUTS + scores + widest;
        let parts = [
            tokens.saturating_mul(4 * floats),
            ffn_tokens(tokens).saturating_mul(4 * config.ffn),
            inputs,
            unquantized,
            heads.saturating_mul(4 * config.hidden + prepared_head),
            prepared(&*engine.gemv).max(prepared(&*engine.gemm)),
            engine.team.threads() * 4 * thread,
        ];
        parts.into_iter().fold(0, usize::saturating_add) as u64
    }

    pub(crate) fn new(engine: &Engine, tokens: usize, heads: usize, positions: usize) -> Self {
        let config = &engine.config;
        let widest = config.hidden.max(config.ffn);
        let scratch = || Scratch {
            kernel: AlignedBuf::default(),
            tiles: [const { Vec::new() }; 2],
            row: Vec::new(),
            scores: vec![0.0; attention::scratch(config, tokens, positions)],
            normed: floats(widest),
            of_file: Row::default(),
            worked_ns: 0,
        };
        Self {
            x: floats(tokens * config.hidden),
            inputs: Inputs {
                quantized: vec![0; widest_inputs(config, tokens)],
                scales: vec![0.0; tokens],
                prepared: PreparedBuf::new(),
                floats: match engine.activations {
                    ActivationType::I8 => Vec::new(),
                    ActivationType::F32 => vec![0.0; widest_inputs(config, tokens)],
                },
            },
            qkv: floats(tokens * qkv_width(config)),
            attended: floats(tokens * config.heads * config.head_dim),
            normed: floats(heads * config.hidden),
            digits: Digits::default(),
            ffn: floats(ffn_tokens(tokens) * config.ffn),
            scratch: std::iter::repeat_with(scratch)
                .take(engine.team.threads())
                .collect(),
        }
    }

    /// Writes to every page of the buffers of a chunk, so that the system gives them now.
    pub(crate) fn touch(&mut self) {
        for floats in [
            &mut self.x,
            &mut self.qkv,
            &mut self.attended,
            &mut self.normed,
            &mut self.ffn,
        ] {
            floats.bytes_mut().fill(0);
        }
        let inputs = &mut self.inputs;
        inputs.quantized.fill(0);
        inputs.scales.fill(0.0);
        inputs.floats.fill(0.0);
    }

    /// How long all threads together worked in timed regions since the last question.
    pub(crate) fn worked(&mut self) -> u64 {
        worked(&mut self.scratch)
    }

    /// Logits of the tokens `tokens` of the chunk, a row each: final norm, then the head, its rows split between the threads.
    pub(crate) fn head(
        &mut self,
        engine: &Engine,
        tokens: Range<usize>,
        logits: &mut [f32],
        timed: bool,
    ) {
        let (config, weights, ops) = (&engine.config, &engine.weights, engine.ops);
        let hidden = config.hidden;
        let count = tokens.len();
        let normed = &mut self.normed.as_mut_slice::<f32>()[..count * hidden];
        let x = &self.x.as_slice::<f32>()[tokens.start * hidden..tokens.end * hidden];
        let rows = x.chunks_exact(hidden).zip(normed.chunks_exact_mut(hidden));
        for (x, normed) in rows {
            ops.rms_norm(x, &weights.final_norm, config.rms_eps, normed);
        }
        let normed = &*normed;
        weights.head.prepare(ops, hidden, normed, &mut self.digits);
        let digits = &self.digits;
        let (team, vocab) = (&engine.team, config.vocab);
        team.run_columns(logits, vocab, 16, &mut self.scratch, |scratch, out| {
            let start = begun(timed);
            let mine = out.range();
            if count == 1 {
                weights
                    .head
                    .dot(ops, mine, hidden, normed, digits, out.row_mut(0));
            } else {
                // A piece of the head is read from memory for the first tokens, and from the cache for the others.
                for first in mine.clone().step_by(HEAD_ROWS) {
                    let rows = first..(first + HEAD_ROWS).min(mine.end);
                    let (at, len) = (first - mine.start, rows.len());
                    scratch.row.resize(count * len, 0.0);
                    let sums = &mut scratch.row[..];
                    weights.head.dot(ops, rows, hidden, normed, digits, sums);
                    for (token, sums) in sums.chunks_exact(len).enumerate() {
                        out.row_mut(token)[at..at + len].copy_from_slice(sums);
                    }
                }
            }
            scratch.worked_since(start);
        });
        let Some(top) = weights.head.top() else {
            return;
        };
        // Each thread settles whole tokens.
        let threads = team.threads();
        let (mut xs, mut rest) = (normed, logits);
        let mut parts: Parts<_> = (self.scratch.iter_mut().enumerate())
            .map(|(thread, scratch)| {
                let mine = share(count, 1, thread, threads).len();
                let xs = xs.split_off(..mine * hidden).expect(COVERED);
                (
                    xs,
                    rest.split_off_mut(..mine * vocab).expect(COVERED),
                    scratch,
                )
            })
            .collect();
        team.run_parts(&mut parts, |_, (xs, logits, scratch)| {
            let start = begun(timed);
            let tokens = xs.chunks_exact(hidden).zip(logits.chunks_exact_mut(vocab));
            for (x, logits) in tokens {
                top.settle(ops, x, &mut scratch.of_file, logits);
            }
            scratch.worked_since(start);
        });
    }
}

fn worked(scratch: &mut [Scratch]) -> u64 {
    let taken = scratch
        .iter_mut()
        .map(|one| std::mem::take(&mut one.worked_ns));
    taken.sum()
}

/// One call of the linears that share an input.
struct Input<'a> {
    engine: &'a Engine,
    kernel: &'a dyn Kernel,
    tokens: usize,
    k: usize,
    timed: bool,
}

impl Input<'_> {
    /// Normalizes where there is a weight for it, quantizes and prepares the tokens of `x`, split between the threads by groups of
    /// tokens. One token is not worth a parallel region.
    fn quantize(
        &self,
        x: &[f32],
        norm: Option<&[f32]>,
        inputs: &mut Inputs,
        scratch: &mut [Scratch],
    ) {
        struct Part<'a> {
            x: &'a [f32],
            floats: &'a mut [f32],
            quantized: &'a mut [i8],
            scales: &'a mut [f32],
            prepared: &'a mut [u8],
            scratch: &'a mut Scratch,
        }
        let (tokens, k, kernel, ops) = (self.tokens, self.k, self.kernel, self.engine.ops);
        let eps = self.engine.config.rms_eps;
        let step = kernel.token_step();
        let group_bytes = kernel.prepared_group_bytes(k);
        let threads = if tokens == 1 { 1 } else { scratch.len() };

        let mut x = x;
        // The floats of a token, none where they are not kept.
        let kept = if inputs.floats.is_empty() { 0 } else { k };
        let mut floats = &mut inputs.floats[..tokens * kept];
        let mut quantized = &mut inputs.quantized[..tokens * k];
        let mut scales = &mut inputs.scales[..tokens];
        let mut prepared = inputs.prepared.begin(kernel, k, tokens);
        let mut parts: Parts<Part<'_>> = Parts::with_capacity(threads);
        for (thread, scratch) in scratch[..threads].iter_mut().enumerate() {
            let count = share(tokens, step, thread, threads).len();
            parts.push(Part {
                x: x.split_off(..count * k).expect(COVERED),
                floats: floats.split_off_mut(..count * kept).expect(COVERED),
                quantized: quantized.split_off_mut(..count * k).expect(COVERED),
                scales: scales.split_off_mut(..count).expect(COVERED),
                prepared: prepared
                    .split_off_mut(..count.div_ceil(step) * group_bytes)
                    .expect(COVERED),
                scratch,
            });
        }
        let work = |part: &mut Part<'_>| {
            let start = begun(self.timed);
            let rows = part.x.chunks_exact(k);
            let rows = rows.zip(part.quantized.chunks_exact_mut(k));
            for (token, ((x, quantized), scale)) in rows.zip(&mut *part.scales).enumerate() {
                let input = if let Some(weight) = norm {
                    let normed = &mut part.scratch.normed.as_mut_slice()[..k];
                    ops.rms_norm(x, weight, eps, normed);
                    normed
                } else {
                    x
                };
                if kept > 0 {
                    part.floats[token * k..(token + 1) * k].copy_from_slice(input);
                } else {
                    *scale = ops.quantize(input, quantized);
                }
            }
            if kept > 0 {
                return;
            }
            let count = part.scales.len();
            let view = Activations::new(part.quantized, count, k);
            kernel.prepare(view, 0..count.div_ceil(step), part.prepared);
            part.scratch.worked_since(start);
        };
        if let [part] = &mut parts[..] {
            work(part);
        } else {
            self.engine.team.run_parts(&mut parts, |_, part| work(part));
        }
    }

    /// Multiplies the prepared tokens with all `projections`; their outputs stand side by side in the rows of `out`, where
    /// they replace or add to what was there. Each thread has a range of these columns.
    fn multiply(
        &self,
        inputs: &Inputs,
        projections: &[&Projection],
        then: Then,
        out: &mut [f32],
        scratch: &mut [Scratch],
    ) {
        let (ops, tokens, step) = (self.engine.ops, self.tokens, self.kernel.row_step());
        let tile = tile_rows(tokens, step);
        let (team, width) = (&self.engine.team, out.len() / tokens);
        team.run_columns(out, width, step, scratch, |scratch, out| {
            let start = begun(self.timed);
            let mine = out.range();
            let mut first = 0;
            for projection in projections {
                // The columns first.. of the row belong to this projection; its rows among them that are mine:
                let rows = projection.packed.rows();
                let from = mine.start.max(first).min(first + rows) - first;
                let to = mine.end.max(first).min(first + rows) - first;
                for row in (from..to).step_by(tile) {
                    let rows = row..(row + tile).min(to);
                    let at = first + rows.start - mine.start;
                    let at = at..at + rows.len();
                    let Scratch {
                        kernel, tiles, row, ..
                    } = &mut *scratch;
                    row.resize(rows.len(), 0.0);
                    let products = self.products(inputs, projection, rows, kernel, &mut tiles[0]);
                    for token in 0..tokens {
                        let out = &mut out.row_mut(token)[at.clone()];
                        match then {
                            Then::Replace => products.write(token, out),
                            Then::Add => {
                                products.write(token, row);
                                ops.add(out, row);
                            }
                        }
                    }
                }
                first += rows;
            }
            scratch.worked_since(start);
        });
    }

    /// Multiplies the prepared tokens with gate and up, and writes what the two become. Each thread has a range of their rows; of the
    /// floats of both, none but those of one row of a tile are kept.
    fn gate_up(
        &self,
        inputs: &Inputs,
        [gate, up]: [&Projection; 2],
        out: &mut [f32],
        scratch: &mut [Scratch],
    ) {
        let (ops, tokens, step) = (self.engine.ops, self.tokens, self.kernel.row_step());
        let activation = self.engine.config.activation;
        let tile = tile_rows(2 * tokens, step);
        let (team, width) = (&self.engine.team, out.len() / tokens);
        team.run_columns(out, width, step, scratch, |scratch, out| {
            let start = begun(self.timed);
            let mine = out.range();
            for row in mine.clone().step_by(tile) {
                let rows = row..(row + tile).min(mine.end);
                let at = rows.start - mine.start..rows.end - mine.start;
                let Scratch {
                    kernel,
                    tiles: [gates, ups],
                    row,
                    ..
                } = &mut *scratch;
                row.resize(rows.len(), 0.0);
                let gates = self.products(inputs, gate, rows.clone(), kernel, gates);
                let ups = self.products(inputs, up, rows, kernel, ups);
                for token in 0..tokens {
                    let out = &mut out.row_mut(token)[at.clone()];
                    gates.write(token, out);
                    ups.write(token, row);
                    match activation {
                        Activation::Relu2 => ops.relu2_mul(out, row),
                        Activation::Silu => ops.silu_mul(out, row),
                    }
                }
            }
            scratch.worked_since(start);
        });
    }

    /// The products of the rows `rows` of a projection with all tokens. The buffers grow in the first calls only.
    fn products<'a>(
        &'a self,
        inputs: &'a Inputs,
        projection: &'a Projection,
        rows: Range<usize>,
        scratch: &mut AlignedBuf,
        sums: &'a mut Vec<i32>,
    ) -> Products<'a> {
        let (tokens, kernel) = (self.tokens, self.kernel);
        if projection.codes.is_none() {
            sums.resize(tokens * rows.len(), 0);
            scratch.resize(kernel.scratch_bytes(self.k, rows.len(), tokens));
            kernel.gemm(GemmArgs {
                weights: &projection.packed,
                prepared: inputs.prepared.view(),
                rows: rows.clone(),
                tokens: 0..tokens,
                scratch: scratch.bytes_mut(),
                out: sums,
            });
        }
        Products {
            call: self,
            inputs,
            projection,
            rows,
            sums,
        }
    }
}

/// Products of some rows of a projection with all tokens, which become floats token by token.
struct Products<'a> {
    call: &'a Input<'a>,
    inputs: &'a Inputs,
    projection: &'a Projection,
    rows: Range<usize>,
    /// A row for each token, where activations are int8.
    sums: &'a [i32],
}

impl Products<'_> {
    /// Writes those of `token`.
    fn write(&self, token: usize, out: &mut [f32]) {
        let (ops, k, rows) = (self.call.engine.ops, self.call.k, &self.rows);
        if let Some((codes, scales)) = &self.projection.codes {
            let codes = &codes[rows.start * k..rows.end * k];
            let x = &self.inputs.floats[token * k..(token + 1) * k];
            ops.rows_dot(Floats::I8(codes, &scales[rows.clone()]), x, out);
        } else {
            let sums = &self.sums[token * rows.len()..(token + 1) * rows.len()];
            let (divisor, factor) = self.projection.scales(self.inputs.scales[token]);
            ops.dequantize(sums, divisor, factor, out);
        }
    }
}

/// What a linear does with its place in the output.
#[derive(Clone, Copy)]
enum Then {
    /// Overwrites it.
    Replace,
    /// Adds to it: the residual stream.
    Add,
}

impl Batch<'_> {
    /// Puts `tokens` through all blocks: the next ones of a sequence, or one of each of several. Their residual streams stay in
    /// the buffers, and the positions are as before.
    pub(crate) fn forward(&mut self, sequences: Range<usize>, tokens: &[u32]) {
        let engine = self.engine;
        let config = &engine.config;
        let (hidden, ffn, count) = (config.hidden, config.ffn, tokens.len());
        let heads_width = config.heads * config.head_dim;
        let kernel = engine.kernel(count);
        let sequences = &mut self.sequences[sequences];
        let timed = self.laps.running();
        let input = |tokens, k| Input {
            engine,
            kernel,
            tokens,
            k,
            timed,
        };

        let Buffers {
            x,
            inputs,
            qkv,
            attended,
            normed: _,
            digits: _,
            ffn: wide,
            scratch,
        } = &mut self.buffers;
        let x = &mut x.as_mut_slice()[..count * hidden];
        let qkv = &mut qkv.as_mut_slice()[..count * qkv_width(config)];
        let attended = &mut attended.as_mut_slice()[..count * heads_width];
        let wide = wide.as_mut_slice();

        let threads = engine.team.threads();
        let laps = &mut self.laps;
        laps.begin();
        for (token, x) in tokens.iter().zip(x.chunks_exact_mut(hidden)) {
            engine
                .weights
                .embedding
                .row(*token as usize, &mut scratch[0].of_file.bytes, x);
        }
        laps.end(engine.weights.layers.len(), Role::Embedding, threads, 0);
        for (index, layer) in engine.weights.layers.iter().enumerate() {
            let call = input(count, hidden);
            call.quantize(x, Some(&layer.attn_norm), inputs, scratch);
            laps.end(index, Role::Norms, threads, worked(scratch));
            call.multiply(
                inputs,
                &[&layer.q, &layer.k, &layer.v],
                Then::Replace,
                qkv,
                scratch,
            );
            laps.end(index, Role::Qkv, threads, worked(scratch));

            rotate(engine, &self.rope, sequences, qkv);
            store(engine, index, sequences, qkv);
            laps.end(index, Role::Rope, if count == 1 { threads } else { 1 }, 0);
            let place = Place {
                layer: index,
                timed,
            };
            attention::attend(engine, sequences, place, qkv, attended, scratch);
            laps.end(index, Role::Attention, threads, worked(scratch));

            let call = input(count, heads_width);
            call.quantize(attended, layer.attn_sub_norm.as_deref(), inputs, scratch);
            laps.end(index, Role::Norms, threads, worked(scratch));
            call.multiply(inputs, &[&layer.o], Then::Add, x, scratch);
            laps.end(index, Role::Output, threads, worked(scratch));

            for x in x.chunks_mut(ffn_tokens(count) * hidden) {
                let tokens = x.len() / hidden;
                let wide = &mut wide[..tokens * ffn];
                let call = input(tokens, hidden);
                call.quantize(x, Some(&layer.ffn_norm), inputs, scratch);
                laps.end(index, Role::Norms, threads, worked(scratch));
                call.gate_up(inputs, [&layer.gate, &layer.up], wide, scratch);
                laps.end(index, Role::GateUp, threads, worked(scratch));

                let call = input(tokens, ffn);
                call.quantize(wide, layer.ffn_sub_norm.as_deref(), inputs, scratch);
                laps.end(index, Role::Norms, threads, worked(scratch));
                if engine.activations == ActivationType::I8 {
                    laps.count_zeros(index, &inputs.quantized[..tokens * ffn], ffn);
                }
                call.multiply(inputs, &[&layer.down], Then::Add, x, scratch);
                laps.end(index, Role::Down, threads, worked(scratch));
            }
        }
    }
}

/// Sequence and position of a row of a chunk, which is a piece of one sequence or a token of each of several.
pub(crate) fn place(sequences: &[Sequence], row: usize) -> (&Sequence, usize) {
    match sequences {
        [one] => (one, one.position + row),
        several => (&several[row], several[row].position),
    }
}

/// Rotates queries and keys of every token to its position.
fn rotate(engine: &Engine, rope: &Rope, sequences: &[Sequence], qkv: &mut [f32]) {
    let config = &engine.config;
    let width = qkv_width(config);
    let rotated = config.heads * config.head_dim + config.kv_width();
    let threads = engine.team.threads();
    let tokens = qkv.len() / width;
    let work = |qkv: &mut [f32], first: usize| {
        for (token, row) in qkv.chunks_exact_mut(width).enumerate() {
            let (_, position) = place(sequences, first + token);
            let (cos, sin) = rope.at(position);
            engine.ops.rope(&mut row[..rotated], cos, sin);
        }
    };
    if tokens == 1 {
        work(qkv, 0);
        return;
    }
    let mut rest = qkv;
    let mut parts: Parts<(usize, &mut [f32])> = (0..threads)
        .map(|thread| {
            let mine = share(tokens, 1, thread, threads);
            (
                mine.start,
                rest.split_off_mut(..mine.len() * width).expect(COVERED),
            )
        })
        .collect();
    engine
        .team
        .run_parts(&mut parts, |_, (first, qkv)| work(qkv, *first));
}

/// Stores keys and values of every token in the cache of its sequence.
fn store(engine: &Engine, layer: usize, sequences: &mut [Sequence], qkv: &[f32]) {
    let config = &engine.config;
    let width = qkv_width(config);
    let new = |rows| KvRows {
        rows,
        width,
        keys: config.heads * config.head_dim,
    };
    if let [one] = sequences {
        one.cache.store(engine, layer, one.position, new(qkv));
        return;
    }
    for (sequence, row) in sequences.iter_mut().zip(qkv.chunks_exact(width)) {
        let position = sequence.position;
        sequence.cache.store(engine, layer, position, new(row));
    }
}

/// Which part of a forward pass a region belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) layer: usize,
    pub(crate) timed: bool,
}
