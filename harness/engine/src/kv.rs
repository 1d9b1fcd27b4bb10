//! The key and value cache, laid out `[layer][key or value][head]`; the values of a head are `[position][feature]`, its keys
//! `[block of positions][feature][position of the block]`, as [`trit_ops::Attention`] reads them.

use half::f16;
use smallvec::SmallVec;
use trit_kernel::AlignedBuf;
use trit_measure::{Team, share};
use trit_ops::{Floats, KEY_BLOCK};

use crate::model::Engine;
use crate::options::KvType;

/// The numbers, in one of three types.
enum Numbers {
    F16(AlignedBuf),
    F32(AlignedBuf),
    /// Codes, and the scale of each position: `[layer][key or value][head][position]`.
    I8(AlignedBuf, Vec<f32>),
}

/// Keys and values of every layer.
pub(crate) struct KvCache {
    numbers: Numbers,
    heads: usize,
    dim: usize,
    /// Whole blocks of them.
    positions: usize,
}

impl KvCache {
    /// How many positions a cache has where `positions` are asked for.
    pub(crate) const fn room(positions: usize) -> usize {
        positions.next_multiple_of(KEY_BLOCK)
    }

    /// A cache for `positions` tokens. The system gives its pages when they are first written.
    pub(crate) fn new(
        kv: KvType,
        layers: usize,
        heads: usize,
        dim: usize,
        positions: usize,
    ) -> Self {
        let positions = Self::room(positions);
        let len = 2 * layers * heads * dim * positions;
        let numbers = match kv {
            KvType::F16 => Numbers::F16(AlignedBuf::zeroed(len * size_of::<f16>())),
            KvType::F32 => Numbers::F32(AlignedBuf::zeroed(len * size_of::<f32>())),
            KvType::I8 => Numbers::I8(AlignedBuf::zeroed(len), vec![0.0; len / dim]),
        };
        Self {
            numbers,
            heads,
            dim,
            positions,
        }
    }

    /// Writes to every page, so that the system gives them now. What was stored is gone.
    pub(crate) fn touch(&mut self) {
        match &mut self.numbers {
            Numbers::F16(numbers) | Numbers::F32(numbers) => numbers.bytes_mut().fill(0),
            Numbers::I8(codes, scales) => {
                codes.bytes_mut().fill(0);
                scales.fill(0.0);
            }
        }
    }

    fn start(&self, layer: usize, values: bool, head: usize) -> usize {
        ((2 * layer + usize::from(values)) * self.heads + head) * self.positions * self.dim
    }

    /// Stores the keys and values of `new` tokens, at the positions from `first` on.
    pub(crate) fn store(&mut self, engine: &Engine, layer: usize, first: usize, new: KvRows<'_>) {
        let ops = engine.ops;
        let place = Place {
            heads: self.heads,
            positions: self.positions,
            first,
            dim: self.dim,
        };
        let range = self.start(layer, false, 0)..self.start(layer + 1, false, 0);
        match &mut self.numbers {
            Numbers::F16(numbers) => {
                let convert = |row: &[f32], out: &mut [f16]| {
                    ops.to_f16(row, out);
                    1.0
                };
                store(
                    &engine.team,
                    &mut numbers.as_mut_slice()[range],
                    &mut [],
                    place,
                    new,
                    convert,
                );
            }
            Numbers::F32(numbers) => {
                let convert = |row: &[f32], out: &mut [f32]| {
                    out.copy_from_slice(row);
                    1.0
                };
                store(
                    &engine.team,
                    &mut numbers.as_mut_slice()[range],
                    &mut [],
                    place,
                    new,
                    convert,
                );
            }
            Numbers::I8(codes, scales) => {
                let scales = &mut scales[range.start / self.dim..range.end / self.dim];
                // The quantizer's scale is what numbers are multiplied with; codes are multiplied with its inverse.
                let convert = |row: &[f32], out: &mut [i8]| 1.0 / ops.quantize(row, out);
                let codes = &mut codes.as_mut_slice()[range];
                store(&engine.team, codes, scales, place, new, convert);
            }
        }
    }

    /// Blocks of keys (or values) of one head: those that hold the first `positions`.
    pub(crate) fn read(
        &self,
        layer: usize,
        values: bool,
        head: usize,
        positions: usize,
    ) -> Floats<'_> {
        let at = self.start(layer, values, head);
        let range = at..at + Self::room(positions) * self.dim;
        match &self.numbers {
            Numbers::F16(numbers) => Floats::F16(&numbers.as_slice()[range]),
            Numbers::F32(numbers) => Floats::F32(&numbers.as_slice()[range]),
            Numbers::I8(codes, scales) => {
                let scales = &scales[range.start / self.dim..range.end / self.dim];
                Floats::I8(&codes.as_slice()[range], scales)
            }
        }
    }
}

/// Keys and values of some tokens: rows of `width` floats in which the key heads begin at `keys` and the value heads follow.
#[derive(Clone, Copy)]
pub(crate) struct KvRows<'a> {
    pub(crate) rows: &'a [f32],
    pub(crate) width: usize,
    pub(crate) keys: usize,
}

/// Where tokens go inside of each head of a layer's cache.
#[derive(Clone, Copy)]
struct Place {
    /// Heads of keys, which heads of values follow.
    heads: usize,
    /// Positions of one head.
    positions: usize,
    /// The first to write.
    first: usize,
    /// Numbers of one position.
    dim: usize,
}

/// Writes `new` into the cache of one layer, keys across their blocks: its numbers, and the scales that `convert` returns where the type has any. Heads
/// are split between the threads: they are apart in memory. One token is not worth a parallel region.
fn store<T: Copy + Default + Send>(
    team: &Team,
    layer: &mut [T],
    scales: &mut [f32],
    place: Place,
    new: KvRows<'_>,
    convert: impl Fn(&[f32], &mut [T]) -> f32 + Sync,
) {
    let Place {
        heads: key_heads,
        positions,
        first,
        dim,
    } = place;
    let work = |start: usize, heads: &mut [T], scales: &mut [f32]| {
        // One key, which does not lie in one piece in the cache.
        let mut key: SmallVec<[T; 256]> = SmallVec::from_elem(T::default(), dim);
        for (i, numbers) in heads.chunks_exact_mut(positions * dim).enumerate() {
            let column = new.keys + (start + i) * dim;
            let rows = new.rows.chunks_exact(new.width);
            for (position, row) in (first..).zip(rows) {
                let row = &row[column..column + dim];
                let scale = if start + i < key_heads {
                    let scale = convert(row, &mut key);
                    let block = &mut numbers[position / KEY_BLOCK * KEY_BLOCK * dim..];
                    let lanes = block.chunks_exact_mut(KEY_BLOCK).zip(&key);
                    lanes.for_each(|(lanes, number)| lanes[position % KEY_BLOCK] = *number);
                    scale
                } else {
                    convert(row, &mut numbers[position * dim..][..dim])
                };
                if let Some(place) = scales.get_mut(i * positions + position) {
                    *place = scale;
                }
            }
        }
    };
    if new.rows.len() == new.width {
        work(0, layer, scales);
        return;
    }
    let (heads, threads) = (layer.len() / (positions * dim), team.threads());
    let scales_of_head = scales.len() / heads;
    let (mut rest, mut scales) = (layer, scales);
    let mut parts: Vec<(usize, &mut [T], &mut [f32])> = (0..threads)
        .map(|thread| {
            let mine = share(heads, 1, thread, threads);
            let numbers = rest.split_off_mut(..mine.len() * positions * dim);
            let scales = scales.split_off_mut(..mine.len() * scales_of_head);
            (
                mine.start,
                numbers.expect("the shares cover the layer"),
                scales.expect("and its scales"),
            )
        })
        .collect();
    team.run_parts(&mut parts, |_, (start, heads, scales)| {
        work(*start, heads, scales);
    });
}
