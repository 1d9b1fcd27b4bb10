//! Packed weights of micro cells: made once in a worker and shared by the cells that need the same ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;
use trit_core::Rng;
use trit_kernel::{ByteOwner, Codes, DenseKernel, DenseWeights, LayoutId, Packed, Scales, Storage};
use trit_measure::sys::HugeBuf;

use super::Fault;
use crate::inputs;
use crate::protocol::{INPUT_SETS, Task};

/// Memory on huge pages that packed matrices borrow.
struct Arena(HugeBuf);

impl ByteOwner for Arena {
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// Bytes of a base page: allocations start at a random multiple of 64 within one.
const PAGE: u64 = 4096;

/// What makes two cells share their weights.
type Key = (String, u64, u64, u64, u64, u64);

/// The weights of one kernel's cells: slot `i` holds weight set `i mod` [`INPUT_SETS`], or set 0 when there is one slot.
#[derive(Default)]
pub(super) struct WeightStore {
    ternary: BTreeMap<Key, Arc<Vec<Packed>>>,
    dense: BTreeMap<Key, Arc<Vec<DenseWeights>>>,
}

fn key(task: &Task, form: &str) -> Key {
    (
        form.to_owned(),
        task.rows,
        task.k,
        task.working_set_bytes,
        task.seed,
        task.page_seed,
    )
}

/// Rows and K of a task, checked: sizes come from another process.
pub(super) fn sides(task: &Task) -> Result<(usize, usize), Fault> {
    let rows = usize::try_from(task.rows).unwrap_or(usize::MAX);
    let k = usize::try_from(task.k).unwrap_or(usize::MAX);
    if rows == 0 || k == 0 || k > trit_kernel::MAX_K {
        return Err(Fault::unsupported(format!("no kernel takes {rows}x{k}")));
    }
    rows.checked_mul(k)
        .filter(|weights| *weights <= 1 << 36)
        .ok_or_else(|| too_large(task))?;
    Ok((rows, k))
}

/// Number of matrices through which calls rotate: one, or a multiple of [`INPUT_SETS`].
fn slots(task: &Task, matrix_bytes: usize) -> usize {
    if task.working_set_bytes == 0 {
        return 1;
    }
    let bytes = usize::try_from(task.working_set_bytes).unwrap_or(usize::MAX);
    bytes
        .div_ceil(matrix_bytes.max(1))
        .next_multiple_of(INPUT_SETS)
}

impl WeightStore {
    /// Ternary weights in `layout`.
    pub(super) fn ternary(
        &mut self,
        task: &Task,
        layout: LayoutId,
    ) -> Result<Arc<Vec<Packed>>, Fault> {
        let key = key(task, layout.name());
        if let Some(weights) = self.ternary.get(&key) {
            return Ok(Arc::clone(weights));
        }
        let weights = Arc::new(pack_ternary(task, layout)?);
        self.ternary.insert(key, Arc::clone(&weights));
        Ok(weights)
    }

    /// Weights of a baseline.
    pub(super) fn dense(
        &mut self,
        task: &Task,
        kernel: &dyn DenseKernel,
    ) -> Result<Arc<Vec<DenseWeights>>, Fault> {
        let key = key(task, kernel.info().id);
        if let Some(weights) = self.dense.get(&key) {
            return Ok(Arc::clone(weights));
        }
        let weights = Arc::new(pack_dense(task, kernel)?);
        self.dense.insert(key, Arc::clone(&weights));
        Ok(weights)
    }

    /// Frees what no cell uses any more.
    pub(super) fn release(&mut self) {
        self.ternary
            .retain(|_, weights| Arc::strong_count(weights) > 1);
        self.dense
            .retain(|_, weights| Arc::strong_count(weights) > 1);
    }
}

fn pack_ternary(task: &Task, layout: LayoutId) -> Result<Vec<Packed>, Fault> {
    let (rows, k) = sides(task)?;
    let matrix_bytes = layout
        .matrix_bytes(rows, k)
        .ok_or_else(|| too_large(task))?;
    let slots = lay_out(task, matrix_bytes, |set, out| {
        let codes = inputs::codes(task.seed, set, rows, k);
        let codes = Codes::new(&codes, rows, k).map_err(Fault::failed)?;
        Packed::pack_into(codes, layout, out);
        Ok(())
    })?;
    let adopt = |storage| Packed::adopt(layout, rows, k, storage, Scales::Tensor(1.0));
    let packed: Result<_, _> = slots.into_iter().map(adopt).collect();
    packed.map_err(Fault::failed)
}

fn pack_dense(task: &Task, kernel: &dyn DenseKernel) -> Result<Vec<DenseWeights>, Fault> {
    let (rows, k) = sides(task)?;
    let pack = |set: usize| {
        let codes = inputs::codes(task.seed, set, rows, k);
        let floats: Vec<f32> = codes.iter().map(|code| f32::from(*code)).collect();
        kernel.pack(&floats, rows, k)
    };
    let mut sets = vec![pack(0)];
    let matrix_bytes = sets[0].data.bytes().len();
    // A baseline is held as what it is compared with is: on huge pages, one copy behind the other.
    let slots = lay_out(task, matrix_bytes, |set, out| {
        if set == sets.len() {
            sets.push(pack(set));
        }
        let packed = &mut sets[set].data;
        out.copy_from_slice(packed.bytes());
        *packed = Storage::default();
        Ok(())
    })?;
    let place = |(slot, data): (usize, Storage)| DenseWeights {
        data,
        ..sets[slot % INPUT_SETS].clone()
    };
    Ok(slots.into_iter().enumerate().map(place).collect())
}

fn too_large(task: &Task) -> Fault {
    Fault::over_limit(format!("{}x{} does not fit in memory", task.rows, task.k))
}

/// The slots of a task, matrices of `matrix_bytes` bytes behind one another on huge pages. `fill` is called for each weight set in turn.
fn lay_out(
    task: &Task,
    matrix_bytes: usize,
    mut fill: impl FnMut(usize, &mut [u8]) -> Result<(), Fault>,
) -> Result<Vec<Storage>, Fault> {
    let slots = slots(task, matrix_bytes);
    let stride = matrix_bytes.next_multiple_of(64).max(64);
    let offset = Rng::named(task.page_seed, "page").below(PAGE / 64) as usize * 64;
    let total = stride
        .checked_mul(slots)
        .and_then(|bytes| bytes.checked_add(offset))
        .ok_or_else(|| too_large(task))?;
    let mut buffer = HugeBuf::zeroed(total).map_err(Fault::over_limit)?;
    let (first, rest) = buffer.bytes_mut()[offset..].split_at_mut(stride * slots.min(INPUT_SETS));
    for (set, out) in first.chunks_exact_mut(stride).enumerate() {
        fill(set, &mut out[..matrix_bytes])?;
    }
    rest.par_chunks_exact_mut(stride)
        .enumerate()
        .for_each(|(at, out)| {
            let set = at % INPUT_SETS;
            out.copy_from_slice(&first[set * stride..(set + 1) * stride]);
        });
    let arena: Arc<dyn ByteOwner> = Arc::new(Arena(buffer));
    let place = |slot: usize| {
        let start = offset + slot * stride;
        Storage::Shared(Arc::clone(&arena), start..start + matrix_bytes)
    };
    Ok((0..slots).map(place).collect())
}
