//! The weights of a model in the form that the kernels read.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;
use trit_kernel::{ByteOwner, Codes, LayoutId, Packed, Scales, Storage};
use trit_measure::sys::HugeBuf;

use crate::cache::{CacheUse, Keep};
use crate::error::EngineError;
use crate::file::{Checkpoint, Linear, LinearScale, LinearSource, Norm};
use crate::head::{self, Embedding, FloatBytes, Form, Head, Held};
use crate::memory::{self, Memory};
use crate::options::{ActivationType, EngineOptions};
use crate::profile::Role;

/// Bytes of codes that one packing task unpacks: they stay in L2.
const TASK_CODES: usize = 256 * 1024;

/// One ternary projection.
pub(crate) struct Projection {
    pub(crate) packed: Packed,
    scale: LinearScale,
    /// Where activations are floats: a byte for each weight, and the scale of each row.
    pub(crate) codes: Option<(Vec<i8>, Vec<f32>)>,
}

impl Projection {
    /// What the sums of a token are divided by and then multiplied with, given the token's activation scale.
    pub(crate) fn scales(&self, activation_scale: f32) -> (f32, f32) {
        match self.scale {
            LinearScale::Multiply(scale) => (activation_scale, scale),
            LinearScale::Divide(scale) => (activation_scale * scale, 1.0),
        }
    }
}

/// One transformer block.
pub(crate) struct Layer {
    pub(crate) attn_norm: Vec<f32>,
    pub(crate) attn_sub_norm: Option<Vec<f32>>,
    pub(crate) ffn_norm: Vec<f32>,
    pub(crate) ffn_sub_norm: Option<Vec<f32>>,
    pub(crate) q: Projection,
    pub(crate) k: Projection,
    pub(crate) v: Projection,
    pub(crate) o: Projection,
    pub(crate) gate: Projection,
    pub(crate) up: Projection,
    pub(crate) down: Projection,
}

/// Everything a forward pass reads.
pub(crate) struct Weights {
    pub(crate) layers: Vec<Layer>,
    pub(crate) embedding: Embedding,
    pub(crate) head: Head,
    pub(crate) final_norm: Vec<f32>,
    pub(crate) ledger: Memory,
    /// Part of the packed weights that is read from the file map in place.
    pub(crate) mapped_linear_bytes: u64,
    pub(crate) cache_use: CacheUse,
}

/// Packed weights in one anonymous buffer, on huge pages where the system gives them.
struct Arena(HugeBuf);

impl ByteOwner for Arena {
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// One linear on its way in.
enum Placed {
    /// The file's own bytes are in the kernel's layout.
    InFile(LinearSource, Arc<dyn ByteOwner>, Range<usize>),
    /// Packed into this range of the arena.
    InArena(LinearSource, Range<usize>),
}

impl Weights {
    /// Reads all weights of `checkpoint` into `layout`: in place where the file has that layout, else packed one matrix after
    /// another, giving the file's pages back, so that no two copies of the model are resident at once.
    pub(crate) fn load(
        checkpoint: &Checkpoint,
        layout: LayoutId,
        options: &EngineOptions,
    ) -> Result<Self, EngineError> {
        let (head, activations) = (options.head, options.activations);
        let config = checkpoint.config();
        let mut ledger = Memory::default();
        let mut mapped_linear_bytes = 0;

        let mut sources = Vec::new();
        let mut arena_bytes = 0usize;
        for layer in 0..config.layers {
            for linear in Linear::ALL {
                let source = checkpoint.linear(layer, linear)?;
                let in_place = source.packed_i2s().filter(|_| layout == LayoutId::I2S);
                if let Some((owner, range)) = in_place {
                    mapped_linear_bytes += range.len() as u64;
                    ledger.add(memory::linear(linear), range.len() as u64);
                    sources.push(Placed::InFile(source, owner, range));
                } else {
                    let size = matrix_bytes(&source, layout)?;
                    let end = arena_bytes
                        .checked_add(size)
                        .and_then(|end| end.checked_next_multiple_of(64))
                        .ok_or_else(|| EngineError::Memory {
                            what: "the weights",
                            want_bytes: u64::MAX,
                            available_bytes: trit_measure::available_bytes().unwrap_or(u64::MAX),
                        })?;
                    let range = arena_bytes..arena_bytes + size;
                    arena_bytes = end;
                    ledger.add(memory::linear(linear), size as u64);
                    sources.push(Placed::InArena(source, range));
                }
            }
        }
        let ops = trit_ops::best(options.cpu);
        let cache = options.cache.as_ref();
        let keep = Keep(cache.map(|cache| (cache, checkpoint, &options.file)));
        let form = Form::of(checkpoint, head, ops)?;
        let floats = FloatBytes::of_model(checkpoint, head, form)?;
        let mut copies = floats.copied;
        if activations == ActivationType::F32 {
            copies = copies.saturating_add(config.linear_weights());
        }
        if options.max_memory_bytes.is_some() {
            let mut needs = ledger.clone();
            needs.add("embedding and head", floats.held);
            needs.check(options.max_memory_bytes)?;
        }
        crate::error::check_memory("the weights", (arena_bytes as u64).saturating_add(copies))?;
        let embedding = checkpoint.embedding()?;
        let untied = checkpoint.head()?;
        // What is read where it lies is mapped meanwhile: the first token would wait for a page fault at every few pages.
        let (filled, ()) = rayon::join(
            || fill_arena(checkpoint, layout, keep, &sources, arena_bytes),
            || {
                if form == Form::InPlace {
                    untied.as_ref().unwrap_or(&embedding).populate();
                }
                for placed in &sources {
                    if let Placed::InFile(source, ..) = placed {
                        source.populate();
                    }
                }
            },
        );
        let (arena, linears_use) = filled?;

        let mut projections = sources.iter().map(|placed| {
            let (source, owner, range) = match placed {
                Placed::InFile(source, owner, range) => (source, Arc::clone(owner), range),
                Placed::InArena(source, range) => (source, Arc::clone(&arena) as _, range),
            };
            let storage = Storage::Shared(owner, range.clone());
            let scales = Scales::Tensor(1.0);
            let packed = Packed::adopt(layout, source.rows(), source.k(), storage, scales)
                .map_err(|error| pack_error(source, error))?;
            Ok::<_, EngineError>(Projection {
                packed,
                scale: source.scale(),
                codes: (activations == ActivationType::F32)
                    .then(|| codes(source))
                    .transpose()?,
            })
        });
        let mut next = || {
            projections
                .next()
                .unwrap_or_else(|| unreachable!("seven a layer"))
        };

        let mut layers = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let norm = |norm| checkpoint.norm(Some(index), norm);
            let sub = |norm| {
                config
                    .sub_norms
                    .then(|| checkpoint.norm(Some(index), norm))
                    .transpose()
            };
            layers.push(Layer {
                attn_norm: norm(Norm::Attn)?,
                attn_sub_norm: sub(Norm::AttnSub)?,
                ffn_norm: norm(Norm::Ffn)?,
                ffn_sub_norm: sub(Norm::FfnSub)?,
                q: next()?,
                k: next()?,
                v: next()?,
                o: next()?,
                gate: next()?,
                up: next()?,
                down: next()?,
            });
        }
        let final_norm = checkpoint.norm(None, Norm::Final)?;
        // A page fault maps what lies around it too, up to two megabytes: what was packed came back with its neighbours.
        for placed in &sources {
            if let Placed::InArena(source, _) = placed {
                checkpoint.release(source);
            }
        }

        let held = Held { head, form, keep };
        let (embedding, head, shared, head_use) =
            head::load(embedding, untied.as_ref(), held, ops)?;
        let norms = layers
            .iter()
            .flat_map(|layer: &Layer| {
                [
                    Some(&layer.attn_norm),
                    layer.attn_sub_norm.as_ref(),
                    Some(&layer.ffn_norm),
                    layer.ffn_sub_norm.as_ref(),
                ]
            })
            .flatten()
            .chain([&final_norm])
            .map(|norm| 4 * norm.len() as u64)
            .sum();
        ledger.add(Role::Norms.name(), norms);
        ledger.add(Role::Embedding.name(), embedding.bytes());
        ledger.add(Role::Head.name(), if shared { 0 } else { head.bytes() });
        Ok(Self {
            layers,
            embedding,
            head,
            final_norm,
            ledger,
            mapped_linear_bytes,
            cache_use: linears_use.or(head_use),
        })
    }
}

/// The weights of one matrix as a byte each, and the scale of each row.
fn codes(source: &LinearSource) -> Result<(Vec<i8>, Vec<f32>), EngineError> {
    let (rows, k) = (source.rows(), source.k());
    let mut codes = vec![0i8; rows * k];
    source.read_codes(0..rows, &mut codes)?;
    let scale = match source.scale() {
        LinearScale::Multiply(scale) => scale,
        LinearScale::Divide(scale) => 1.0 / scale,
    };
    Ok((codes, vec![scale; rows]))
}

fn pack_error(source: &LinearSource, error: trit_kernel::PackError) -> EngineError {
    EngineError::Pack {
        tensor: source.name().to_owned(),
        source: error,
    }
}

fn matrix_bytes(source: &LinearSource, layout: LayoutId) -> Result<usize, EngineError> {
    layout
        .matrix_bytes(source.rows(), source.k())
        .ok_or_else(|| pack_error(source, trit_kernel::PackError::K { got: source.k() }))
}

/// Fills the arena: from the cache where there is one that has it, else by packing.
fn fill_arena(
    checkpoint: &Checkpoint,
    layout: LayoutId,
    keep: Keep<'_>,
    sources: &[Placed],
    bytes: usize,
) -> Result<(Arc<Arena>, CacheUse), EngineError> {
    let mut buf = HugeBuf::zeroed(bytes).map_err(|source| EngineError::Allocation {
        what: "the packed weights",
        want_bytes: bytes as u64,
        source,
    })?;
    let packed = || {
        sources.iter().filter_map(|placed| match placed {
            Placed::InArena(source, range) => Some((source, range)),
            Placed::InFile(..) => None,
        })
    };
    let pack_all = |out: &mut [u8]| -> Result<(), EngineError> {
        packed().try_for_each(|(source, range)| {
            pack(source, layout, &mut out[range.clone()])?;
            checkpoint.release(source);
            Ok(())
        })
    };
    let ranges = packed().map(|(_, range)| range.clone()).collect();
    let cache_use = keep.fill(&format!("{layout:?}"), ranges, buf.bytes_mut(), pack_all)?;
    Ok((Arc::new(Arena(buf)), cache_use))
}

/// Packs one matrix in parallel.
fn pack(source: &LinearSource, layout: LayoutId, out: &mut [u8]) -> Result<(), EngineError> {
    let (rows, k) = (source.rows(), source.k());
    let group_rows = layout.spec().row_group;
    let group_bytes = layout.group_bytes(k);
    let groups = (TASK_CODES / (group_rows * k)).max(1);
    out.par_chunks_mut(groups * group_bytes)
        .enumerate()
        .try_for_each_init(
            || vec![0i8; groups * group_rows * k],
            |codes, (task, out)| {
                let first = task * groups * group_rows;
                let range = first..(first + groups * group_rows).min(rows);
                let codes = &mut codes[..range.len() * k];
                source.read_codes(range.clone(), codes)?;
                let view =
                    Codes::new(codes, range.len(), k).map_err(|error| pack_error(source, error))?;
                layout.pack_groups(view, 0..out.len() / group_bytes, out);
                Ok(())
            },
        )
}
