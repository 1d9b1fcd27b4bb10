//! The token embedding and the output head, in the forms that they are read in.

use std::ops::Range;

use half::f16;
use rayon::prelude::*;
use trit_measure::sys::HugeBuf;
use trit_ops::{BlockType, Blocks, Digits, Floats, Ops};

use crate::error::EngineError;
use crate::file::{Checkpoint, Config, FloatMatrix, FloatType};
use crate::options::HeadType;

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
    /// Decoded to floats.
    Decoded(Vec<f32>),
    /// Codes, and the scale of each row.
    I8(Vec<i8>, Vec<f32>),
    /// Blocks of a file, or made, sixteen rows at a time.
    Blocks(BlockType, HugeBuf),
}

impl Head {
    fn load(matrix: &FloatMatrix, head: HeadType) -> Result<Self, EngineError> {
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
            HeadType::Q6K => Self::blocks(matrix, BlockType::Q6K, head)?,
            HeadType::Q4_0 => Self::blocks(matrix, BlockType::Q4_0, head)?,
        })
    }

    fn blocks(matrix: &FloatMatrix, kind: BlockType, head: HeadType) -> Result<Self, EngineError> {
        let size = block_bytes(kind, matrix.rows(), matrix.cols()).ok_or_else(|| EngineError::Option {
            option: "--head",
            value: head.name().to_owned(),
            want: "a type whose blocks (of 256 in q6_k, of 32 in q4_0) divide the hidden size of this model; hint: f16, f32 and i8 always fit",
        })?;
        let mut packed = HugeBuf::zeroed(size).map_err(|source| EngineError::Allocation {
            what: "the head",
            want_bytes: size as u64,
            source,
        })?;
        matrix.pack(kind, packed.bytes_mut());
        Ok(Self::Blocks(kind, packed))
    }

    /// Makes what [`Self::dot`] wants of its inputs beside them.
    pub(crate) fn prepare(&self, ops: &dyn Ops, k: usize, xs: &[f32], digits: &mut Digits) {
        if let Self::Blocks(kind, _) = self {
            ops.digits(*kind, k, xs, digits);
        }
    }

    /// Bytes that [`Self::prepare`] makes of an input of `k` numbers.
    pub(crate) const fn prepared_bytes(&self, k: usize) -> usize {
        match self {
            Self::Blocks(..) => Digits::bytes(k),
            _ => 0,
        }
    }

    /// The products of the rows `rows` with the inputs `xs` of `k` numbers each, from which `digits` were prepared; the outputs of an
    /// input stand together. Rows begin at a multiple of 16.
    pub(crate) fn dot(
        &self,
        ops: &dyn Ops,
        rows: Range<usize>,
        k: usize,
        xs: &[f32],
        digits: &Digits,
        out: &mut [f32],
    ) {
        let range = rows.start * k..rows.end * k;
        let count = rows.len();
        let floats = match self {
            Self::F16(matrix) => Floats::F16(matrix.f16().map_or::<&[f16], _>(&[], |m| &m[range])),
            Self::F32(matrix) => Floats::F32(matrix.f32().map_or::<&[f32], _>(&[], |m| &m[range])),
            Self::Decoded(floats) => Floats::F32(&floats[range]),
            Self::I8(codes, scales) => Floats::I8(&codes[range], &scales[rows]),
            Self::Blocks(kind, packed) => {
                let size = kind
                    .group_bytes(k)
                    .expect("the head was made of whole blocks");
                let first = rows.start / BlockType::ROWS;
                assert!(
                    count == 0 || rows.start.is_multiple_of(BlockType::ROWS),
                    "head: sixteen rows"
                );
                let bytes =
                    &packed.bytes()[first * size..][..count.div_ceil(BlockType::ROWS) * size];
                ops.rows_dot_blocks(Blocks { kind: *kind, bytes }, count, digits, out);
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
            Self::F16(matrix) | Self::F32(matrix) => matrix.bytes().len() as u64,
            Self::Decoded(floats) => size_of_val(floats.as_slice()) as u64,
            Self::I8(codes, scales) => (codes.len() + size_of_val(scales.as_slice())) as u64,
            Self::Blocks(_, packed) => packed.len() as u64,
        }
    }
}

/// The type that a head is read in, where files have it too and it needs no copy then.
pub(crate) const fn in_files(head: HeadType) -> Option<FloatType> {
    match head {
        HeadType::F16 => Some(FloatType::F16),
        HeadType::F32 => Some(FloatType::F32),
        HeadType::I8 | HeadType::Q6K | HeadType::Q4_0 => None,
    }
}

/// Bytes of a head in blocks; `None` when they do not divide its rows. What is missing to whole sixteen rows counts.
fn block_bytes(kind: BlockType, rows: usize, cols: usize) -> Option<usize> {
    kind.group_bytes(cols)?
        .checked_mul(rows.div_ceil(BlockType::ROWS))
}

/// The embedding, the head (`untied` where a file has one of its own), and whether they are one matrix in memory.
pub(crate) fn load(
    mut embedding: FloatMatrix,
    untied: Option<&FloatMatrix>,
    head: HeadType,
) -> Result<(Embedding, Head, bool), EngineError> {
    let loaded = Head::load(untied.unwrap_or(&embedding), head)?;
    match (untied, &loaded) {
        // One copy is both.
        (None, Head::F16(matrix)) if embedding.dtype() != FloatType::F16 => {
            embedding.release();
            embedding = matrix.clone();
        }
        // What was copied is not read any more, but for the rows of tokens.
        (untied, _) => {
            let source = untied.unwrap_or(&embedding);
            if in_files(head) != Some(source.dtype()) {
                source.release();
            }
        }
    }
    let halves = untied.is_none() && !matches!(loaded, Head::F32(_) | Head::Decoded(_));
    let shared = untied.is_none() && in_files(head) == Some(embedding.dtype());
    let embedding = Embedding {
        matrix: embedding,
        halves,
    };
    Ok((embedding, loaded, shared))
}

/// Bytes of embedding and head, known before either is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FloatBytes {
    /// Of both once they are loaded.
    pub(crate) held: u64,
    /// The part of it that is not read where it lies: another type than the file's, or generated.
    pub(crate) copied: u64,
}

impl FloatBytes {
    pub(crate) fn of_model(checkpoint: &Checkpoint, head: HeadType) -> Result<Self, EngineError> {
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
        let blocks = |kind| block_bytes(kind, rows, config.hidden).unwrap_or(0);
        let of_head = match head {
            HeadType::F16 => bytes(FloatType::F16),
            HeadType::F32 => bytes(FloatType::F32),
            HeadType::I8 => numbers.saturating_add(4 * rows),
            HeadType::Q6K => blocks(BlockType::Q6K),
            HeadType::Q4_0 => blocks(BlockType::Q4_0),
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::Bytes;
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
        // Blocks are laid out anew, sixteen rows at a time.
        assert!(config.vocab.is_multiple_of(16));
        let blocks = numbers / 32 * 18;
        assert_eq!(of(HeadType::Q4_0, Q4_0, None), (2 * blocks, blocks));
        assert_eq!(
            of(HeadType::Q4_0, F16, Some(Q4_0)),
            (2 * numbers + blocks, blocks)
        );
        let mut ragged = config.clone();
        ragged.vocab -= 3;
        let bytes = FloatBytes::of(&ragged, HeadType::Q4_0, F16, None);
        assert_eq!(bytes.copied, blocks);
        // A generated embedding is a copy, whatever is read.
        let bytes = FloatBytes::of_model(&made, HeadType::F16).unwrap();
        assert_eq!((bytes.held, bytes.copied), (2 * numbers, 2 * numbers));
    }

    /// The distance of `a` from `b`, relative to `b`.
    fn relative(a: &[f32], b: &[f32]) -> f64 {
        let squares = |x: f32| f64::from(x) * f64::from(x);
        let off: f64 = a.iter().zip(b).map(|(a, b)| squares(a - b)).sum();
        (off / b.iter().map(|b| squares(*b)).sum::<f64>()).sqrt()
    }

    #[test]
    fn blocks_are_those_of_the_file_or_made_and_digits_add_no_error_to_theirs() {
        let (rows, k) = (37, 512);
        let value = |i: usize| ((i * 7919 + i / 512 * 31) % 1009) as f32 / 504.0 - 1.0;
        let floats: Vec<f32> = (0..rows * k).map(value).collect();
        let bytes = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
        let matrix = FloatMatrix::new(rows, k, F32, Bytes::from_vec(bytes)).unwrap();
        // A few large inputs, as the last norm has them.
        let input = |i: usize| value(3 * i + 1) * if i % 97 == 5 { 12.0 } else { 1.0 };
        let x: Vec<f32> = (0..2 * k).map(input).collect();
        let ops = trit_ops::best(trit_kernel::Cpu::uncapped());
        let products = |weights: &[f32], rows: Range<usize>| {
            let mut out = vec![0.0; 2 * rows.len()];
            let weights = &weights[rows.start * k..rows.end * k];
            ops.rows_dot_all(Floats::F32(weights), rows.len(), &x, &mut out);
            out
        };
        for (head, dtype) in [(HeadType::Q6K, FloatType::Q6K), (HeadType::Q4_0, Q4_0)] {
            let file = matrix.encoded(dtype).unwrap();
            let mut decoded = vec![0.0; rows * k];
            for (row, out) in decoded.chunks_exact_mut(k).enumerate() {
                file.row(row, out);
            }
            let mut digits = Digits::default();
            for loaded in [&file, &matrix].map(|matrix| Head::load(matrix, head).unwrap()) {
                assert_eq!(loaded.bytes(), (48 * file.bytes().len() / rows) as u64);
                loaded.prepare(ops, k, &x, &mut digits);
                for part in [0..37, 0..16, 16..37, 32..35, 37..37] {
                    let mut got = vec![f32::NAN; 2 * part.len()];
                    loaded.dot(ops, part.clone(), k, &x, &digits, &mut got);
                    if part.is_empty() {
                        continue;
                    }
                    let want = products(&decoded, part.clone());
                    assert!(relative(&got, &want) < 2e-4, "{head} {part:?}");
                    if part == (0..rows) {
                        let exact = products(&floats, part);
                        let (ours, theirs) = (relative(&got, &exact), relative(&want, &exact));
                        // Digits are off by a thirtieth of what blocks are, and seldom in the same direction.
                        let little = ours < 1.005 * theirs;
                        assert!(theirs > 1e-3 && little, "{head} {ours} {theirs}");
                    }
                }
            }
        }
    }
}
