//! The key and value cache, laid out `[layer][key or value][head][position][feature]`.

use half::f16;
use trit_ops::{Floats, Ops};

use crate::options::KvType;

/// The numbers, in one of two types.
enum Numbers {
    F16(Vec<f16>),
    F32(Vec<f32>),
}

/// Keys and values of every layer.
pub(crate) struct KvCache {
    numbers: Numbers,
    heads: usize,
    dim: usize,
    positions: usize,
}

impl KvCache {
    /// A cache for `positions` tokens. The pages of a zeroed vector are given by the system when they are first written.
    pub(crate) fn new(
        kv: KvType,
        layers: usize,
        heads: usize,
        dim: usize,
        positions: usize,
    ) -> Self {
        let len = 2 * layers * heads * dim * positions;
        let numbers = match kv {
            KvType::F16 => Numbers::F16(vec![f16::ZERO; len]),
            KvType::F32 => Numbers::F32(vec![0.0; len]),
        };
        Self {
            numbers,
            heads,
            dim,
            positions,
        }
    }

    fn start(&self, layer: usize, values: bool, head: usize) -> usize {
        ((2 * layer + usize::from(values)) * self.heads + head) * self.positions * self.dim
    }

    /// Stores the keys (or values) of one token: `heads` x `dim`.
    pub(crate) fn store(
        &mut self,
        ops: &dyn Ops,
        layer: usize,
        values: bool,
        position: usize,
        row: &[f32],
    ) {
        for (head, row) in row.chunks_exact(self.dim).enumerate() {
            let at = self.start(layer, values, head) + position * self.dim;
            match &mut self.numbers {
                Numbers::F16(numbers) => ops.to_f16(row, &mut numbers[at..at + self.dim]),
                Numbers::F32(numbers) => numbers[at..at + self.dim].copy_from_slice(row),
            }
        }
    }

    /// The first `positions` keys (or values) of one head.
    pub(crate) fn read(
        &self,
        layer: usize,
        values: bool,
        head: usize,
        positions: usize,
    ) -> Floats<'_> {
        let at = self.start(layer, values, head);
        let range = at..at + positions * self.dim;
        match &self.numbers {
            Numbers::F16(numbers) => Floats::F16(&numbers[range]),
            Numbers::F32(numbers) => Floats::F32(&numbers[range]),
        }
    }
}
