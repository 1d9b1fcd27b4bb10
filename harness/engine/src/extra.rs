//! Work that is added on purpose, so that a gate can be tested with a model that is slower by a known share.

use std::ops::Range;

use trit_kernel::{Activations, AlignedBuf, GemmArgs, Kernel, PreparedBuf};
use trit_measure::share;
use trit_ops::Digits;

use crate::model::Engine;
use crate::weights::Projection;

/// Rows of one tile, as the forward pass cuts them for few tokens.
const TILE_ROWS: usize = 1024;

/// A share of the linears and of the head once more: the first rows of every matrix, with zeros as activations. The
/// kernels do the same for every value, so it takes that share of the time of the linears on any machine.
///
/// It runs as a pass of its own behind a token, so that it finds a model that is larger than the caches where the token
/// found it: in memory.
pub struct ExtraWork<'e> {
    engine: &'e Engine,
    share: f64,
    tokens: usize,
    /// Prepared zeros for the two widths of inputs.
    hidden: PreparedBuf,
    ffn: PreparedBuf,
    attended: PreparedBuf,
    normed: Vec<f32>,
    digits: Digits,
    threads: Vec<Thread>,
}

#[derive(Default)]
struct Thread {
    scratch: AlignedBuf,
    sums: Vec<i32>,
    logits: Vec<f32>,
}

impl std::fmt::Debug for ExtraWork<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ExtraWork({}, {} tokens)", self.share, self.tokens)
    }
}

fn prepared_zeros(kernel: &dyn Kernel, tokens: usize, k: usize) -> PreparedBuf {
    let zeros = vec![0i8; tokens * k];
    let mut prepared = PreparedBuf::new();
    let bytes = prepared.begin(kernel, k, tokens);
    let groups = tokens.div_ceil(kernel.token_step());
    kernel.prepare(Activations::new(&zeros, tokens, k), 0..groups, bytes);
    prepared
}

impl<'e> ExtraWork<'e> {
    /// `share` (0.05: five percent) of the linears for `tokens` tokens, and of the head for one.
    pub fn new(engine: &'e Engine, share: f64, tokens: usize) -> Self {
        let config = &engine.config;
        let tokens = tokens.clamp(1, engine.ubatch);
        let kernel = engine.kernel(tokens);
        let zeros = |k| prepared_zeros(kernel, tokens, k);
        let (normed, mut digits) = (vec![0.0; config.hidden], Digits::default());
        let head = &engine.weights.head;
        head.prepare(engine.ops, config.hidden, &normed, &mut digits);
        Self {
            hidden: zeros(config.hidden),
            ffn: zeros(config.ffn),
            attended: zeros(config.heads * config.head_dim),
            normed,
            digits,
            threads: std::iter::repeat_with(Thread::default)
                .take(engine.team.threads())
                .collect(),
            engine,
            share: share.clamp(0.0, 1.0),
            tokens,
        }
    }

    /// The first rows of `rows`, at least one.
    fn first(&self, rows: usize) -> usize {
        ((rows as f64 * self.share).ceil() as usize).min(rows)
    }

    /// Does it once.
    pub fn run(&mut self) {
        if self.share <= 0.0 {
            return;
        }
        let mut threads = std::mem::take(&mut self.threads);
        let count = threads.len();
        let this = &*self;
        this.engine.team.run_parts(&mut threads, |thread, own| {
            for layer in &this.engine.weights.layers {
                for projection in [&layer.q, &layer.k, &layer.v, &layer.gate, &layer.up] {
                    this.multiply(projection, &this.hidden, thread, count, own);
                }
                this.multiply(&layer.o, &this.attended, thread, count, own);
                this.multiply(&layer.down, &this.ffn, thread, count, own);
            }
            let config = &this.engine.config;
            let rows = share(this.first(config.vocab), 16, thread, count);
            own.logits.resize(rows.len(), 0.0);
            let (head, ops) = (&this.engine.weights.head, this.engine.ops);
            let (normed, digits) = (&this.normed, &this.digits);
            head.dot(ops, rows, config.hidden, normed, digits, &mut own.logits);
        });
        self.threads = threads;
    }

    fn multiply(
        &self,
        projection: &Projection,
        prepared: &PreparedBuf,
        thread: usize,
        threads: usize,
        own: &mut Thread,
    ) {
        let kernel = self.engine.kernel(self.tokens);
        let mine = share(
            self.first(projection.packed.rows()),
            kernel.row_step(),
            thread,
            threads,
        );
        for row in mine.clone().step_by(TILE_ROWS) {
            let rows: Range<usize> = row..(row + TILE_ROWS).min(mine.end);
            own.sums.resize(rows.len() * self.tokens, 0);
            let scratch = kernel.scratch_bytes(projection.packed.k(), rows.len(), self.tokens);
            own.scratch.resize(scratch);
            kernel.gemm(GemmArgs {
                weights: &projection.packed,
                prepared: prepared.view(),
                rows,
                tokens: 0..self.tokens,
                scratch: own.scratch.bytes_mut(),
                out: &mut own.sums,
            });
        }
    }
}
