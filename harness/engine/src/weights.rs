//! The weights of a model in the form that the kernels read.

use std::ops::Range;
use std::sync::Arc;

use half::f16;
use rayon::prelude::*;
use trit_kernel::{ByteOwner, Codes, LayoutId, Packed, Scales, Storage};
use trit_measure::sys::HugeBuf;
use trit_ops::{Blocks, Floats, Ops};

use crate::cache::CacheUse;
use crate::error::EngineError;
use crate::file::{
    Checkpoint, Config, FloatMatrix, FloatType, Linear, LinearScale, LinearSource, Norm,
};
use crate::memory::{self, Memory};
use crate::options::{ActivationType, EngineOptions, HeadType};
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

/// The token embedding.
pub(crate) struct Embedding {
    matrix: FloatMatrix,
    /// Rows are rounded to halves where the head is tied to it and is not f32: with a smaller head the rest of a model is what it is
    /// with an f16 one, so that the head alone differs.
    halves: bool,
}

impl Embedding {
    /// The row of `token`.
    pub(crate) fn row(&self, token: usize, out: &mut [f32]) {
        self.matrix.row(token, out);
        if self.halves && self.matrix.dtype() != FloatType::F16 {
            for x in out {
                *x = f16::from_f32(*x).to_f32();
            }
        }
    }

    /// Its bytes in memory or in a file.
    pub(crate) fn bytes(&self) -> u64 {
        self.matrix.bytes().len() as u64
    }
}

/// The output head: vocab x hidden.
pub(crate) enum Head {
    /// Read where it lies (a file map, or the one copy that was made).
    F16(FloatMatrix),
    F32(FloatMatrix),
    Q4_0(FloatMatrix),
    Q6K(FloatMatrix),
    /// Decoded to floats.
    Decoded(Vec<f32>),
    /// Codes, and the scale of each row.
    I8(Vec<i8>, Vec<f32>),
}

impl Head {
    fn load(matrix: &FloatMatrix, head: HeadType) -> Result<Self, EngineError> {
        let blocks = |dtype| {
            if matrix.dtype() == dtype {
                return Ok(matrix.clone());
            }
            matrix.encoded(dtype).ok_or_else(|| EngineError::Option {
                option: "--head",
                value: head.name().to_owned(),
                want: "a type whose blocks (of 256 in q6_k, of 32 in q4_0) divide the hidden size of this model; hint: f16, f32 and i8 always fit",
            })
        };
        Ok(match head {
            HeadType::F16 if matrix.f16().is_some() => Self::F16(matrix.clone()),
            HeadType::F16 => Self::F16(matrix.to_f16()),
            HeadType::F32 if matrix.f32().is_some() => Self::F32(matrix.clone()),
            HeadType::F32 => {
                let mut floats = vec![0.0; matrix.rows() * matrix.cols()];
                floats
                    .par_chunks_mut(matrix.cols())
                    .enumerate()
                    .for_each(|(row, out)| matrix.row(row, out));
                Self::Decoded(floats)
            }
            HeadType::I8 => {
                let mut codes = vec![0; matrix.rows() * matrix.cols()];
                let scales = matrix.convert(&mut codes, matrix.cols(), |row, codes| {
                    Some(1.0 / trit_kernel::quantize_row(row, codes))
                });
                let scales = scales.unwrap_or_else(|| unreachable!("every row has a scale"));
                Self::I8(codes, scales)
            }
            HeadType::Q6K => Self::Q6K(blocks(FloatType::Q6K)?),
            HeadType::Q4_0 => Self::Q4_0(blocks(FloatType::Q4_0)?),
        })
    }

    /// The products of the rows `rows` with the inputs `xs` of `k` numbers each; the outputs of an input stand together.
    pub(crate) fn dot(
        &self,
        ops: &dyn Ops,
        rows: Range<usize>,
        k: usize,
        xs: &[f32],
        out: &mut [f32],
    ) {
        let range = rows.start * k..rows.end * k;
        let count = rows.len();
        let floats = match self {
            Self::F16(matrix) => Floats::F16(matrix.f16().map_or::<&[f16], _>(&[], |m| &m[range])),
            Self::F32(matrix) => Floats::F32(matrix.f32().map_or::<&[f32], _>(&[], |m| &m[range])),
            Self::Decoded(floats) => Floats::F32(&floats[range]),
            Self::I8(codes, scales) => Floats::I8(&codes[range], &scales[rows]),
            Self::Q4_0(matrix) | Self::Q6K(matrix) => {
                let row = matrix.bytes().len() / matrix.rows();
                let bytes = &matrix.bytes()[rows.start * row..rows.end * row];
                let blocks = match self {
                    Self::Q4_0(_) => Blocks::Q4_0(bytes),
                    _ => Blocks::Q6K(bytes),
                };
                // Blocks are decoded anew for each input: they are in a cache.
                for (x, out) in xs.chunks_exact(k).zip(out.chunks_exact_mut(count.max(1))) {
                    ops.rows_dot_blocks(blocks, x, out);
                }
                return;
            }
        };
        // For one input, streams of rows from memory.
        if xs.len() == k {
            ops.rows_dot(floats, xs, out);
        } else {
            ops.rows_dot_all(floats, count, xs, out);
        }
    }

    /// Bytes of the head as it is read for each token.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::F16(matrix) | Self::F32(matrix) | Self::Q4_0(matrix) | Self::Q6K(matrix) => {
                matrix.bytes().len() as u64
            }
            Self::Decoded(floats) => size_of_val(floats.as_slice()) as u64,
            Self::I8(codes, scales) => (codes.len() + size_of_val(scales.as_slice())) as u64,
        }
    }
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
        let floats = FloatBytes::of_model(checkpoint, head)?;
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
        let mut embedding = checkpoint.embedding()?;
        let untied = checkpoint.head()?;
        // What is read where it lies is mapped meanwhile: the first token would wait for a page fault at every few pages.
        let (filled, ()) = rayon::join(
            || fill_arena(checkpoint, layout, options, &sources, arena_bytes),
            || {
                let read = untied.as_ref().unwrap_or(&embedding);
                if in_files(head) == Some(read.dtype()) {
                    read.populate();
                }
                for placed in &sources {
                    if let Placed::InFile(source, ..) = placed {
                        source.populate();
                    }
                }
            },
        );
        let (arena, cache_use) = filled?;

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

        let loaded = Head::load(untied.as_ref().unwrap_or(&embedding), head)?;
        match (&untied, &loaded) {
            // One copy is both.
            (None, Head::F16(matrix)) if embedding.dtype() != FloatType::F16 => {
                embedding.release();
                embedding = matrix.clone();
            }
            // What was copied is not read any more, but for the rows of tokens.
            (untied, _) => {
                let source = untied.as_ref().unwrap_or(&embedding);
                if in_files(head) != Some(source.dtype()) {
                    source.release();
                }
            }
        }
        let halves = untied.is_none() && !matches!(loaded, Head::F32(_) | Head::Decoded(_));
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
        ledger.add(Role::Embedding.name(), embedding.bytes().len() as u64);
        let shared = untied.is_none() && in_files(head) == Some(embedding.dtype());
        ledger.add(Role::Head.name(), if shared { 0 } else { loaded.bytes() });
        Ok(Self {
            layers,
            embedding: Embedding {
                matrix: embedding,
                halves,
            },
            head: loaded,
            final_norm,
            ledger,
            mapped_linear_bytes,
            cache_use,
        })
    }
}

/// The type that a head is read in, where files have it too and it needs no copy then.
const fn in_files(head: HeadType) -> Option<FloatType> {
    match head {
        HeadType::F16 => Some(FloatType::F16),
        HeadType::F32 => Some(FloatType::F32),
        HeadType::I8 => None,
        HeadType::Q6K => Some(FloatType::Q6K),
        HeadType::Q4_0 => Some(FloatType::Q4_0),
    }
}

/// Bytes of embedding and head, known before either is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct FloatBytes {
    /// Of both once they are loaded.
    held: u64,
    /// The part of it that is not read where it lies: another type than the file's, or generated.
    copied: u64,
}

impl FloatBytes {
    fn of_model(checkpoint: &Checkpoint, head: HeadType) -> Result<Self, EngineError> {
        let config = checkpoint.config();
        // A generated embedding is not made for this.
        if checkpoint.container() == "synthetic" {
            let mut bytes = Self::of(config, head, FloatType::F16, None);
            let made = config.vocab.saturating_mul(config.hidden).saturating_mul(2);
            bytes.copied = bytes.copied.saturating_add(made as u64);
            return Ok(bytes);
        }
        let untied = checkpoint.head()?.map(|matrix| matrix.dtype());
        let embedding = checkpoint.embedding()?.dtype();
        Ok(Self::of(config, head, embedding, untied))
    }

    /// With the types that the file has; `untied` where the head is not the embedding.
    fn of(
        config: &Config,
        head: HeadType,
        embedding: FloatType,
        untied: Option<FloatType>,
    ) -> Self {
        let (rows, numbers) = (config.vocab, config.vocab.saturating_mul(config.hidden));
        // Blocks that do not fill a row are refused when the head is made.
        let bytes = |dtype: FloatType| {
            let (elements, size) = dtype.block();
            (numbers / elements).saturating_mul(size)
        };
        let of_head = in_files(head).map_or(numbers.saturating_add(4 * rows), bytes);
        let in_place = in_files(head) == Some(untied.unwrap_or(embedding));
        let head_copy = if in_place { 0 } else { of_head };
        // An embedding is read where it lies; one matrix is both where the head is read there too, or is its copy in halves.
        let both = untied.is_none() && (in_place || head == HeadType::F16);
        let of_embedding = if both { 0 } else { bytes(embedding) };
        Self {
            held: of_head.saturating_add(of_embedding) as u64,
            copied: head_copy as u64,
        }
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
    options: &EngineOptions,
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
    let cache_use = match &options.cache {
        Some(cache) if bytes > 0 => {
            let ranges = packed().map(|(_, range)| range.clone()).collect();
            let slot = cache.slot(checkpoint, &options.file, layout, ranges, bytes);
            slot.fill(buf.bytes_mut(), pack_all)?
        }
        _ => {
            pack_all(buf.bytes_mut())?;
            CacheUse::Unused
        }
    };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::FloatType::{Bf16, F16, F32, Q4_0};
    use crate::synth::{Shape, checkpoint};

    #[test]
    fn bytes_of_embedding_and_head_by_what_the_file_has() {
        let shape = Shape::named("tiny").unwrap();
        let made = checkpoint(&shape, 1).unwrap();
        let config = made.config();
        let numbers = (config.vocab * config.hidden) as u64;
        let of = |head, embedding, untied| {
            let FloatBytes { held, copied } = FloatBytes::of(config, head, embedding, untied);
            (held, copied)
        };
        assert_eq!(of(HeadType::F16, F16, None), (2 * numbers, 0));
        assert_eq!(of(HeadType::F16, Bf16, None), (2 * numbers, 2 * numbers));
        assert_eq!(of(HeadType::F32, F32, None), (4 * numbers, 0));
        assert_eq!(of(HeadType::F32, F16, None), (6 * numbers, 4 * numbers));
        assert_eq!(of(HeadType::F16, F16, Some(F16)), (4 * numbers, 0));
        assert_eq!(
            of(HeadType::F16, F32, Some(F32)),
            (6 * numbers, 2 * numbers)
        );
        let codes = numbers + 4 * config.vocab as u64;
        assert_eq!(of(HeadType::I8, F16, None), (2 * numbers + codes, codes));
        assert_eq!(of(HeadType::I8, F32, None), (4 * numbers + codes, codes));
        let blocks = numbers / 32 * 18;
        assert_eq!(of(HeadType::Q4_0, Q4_0, None), (blocks, 0));
        assert_eq!(
            of(HeadType::Q4_0, F16, Some(Q4_0)),
            (2 * numbers + blocks, 0)
        );
        // A generated embedding is a copy, whatever is read.
        let bytes = FloatBytes::of_model(&made, HeadType::F16).unwrap();
        assert_eq!((bytes.held, bytes.copied), (2 * numbers, 2 * numbers));
    }
}
