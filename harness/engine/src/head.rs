//! The token embedding and the output head, in the forms that they are read in.

use std::ops::Range;
use std::sync::Arc;

use half::f16;
use rayon::prelude::*;
use trit_measure::sys::HugeBuf;
use trit_ops::{BlockType, Blocks, Digits, Floats, Ops};

use crate::cache::{CacheUse, Keep};
use crate::error::EngineError;
use crate::file::{Checkpoint, Config, FloatMatrix, FloatType};
use crate::narrow::NarrowMatrix;
use crate::options::HeadType;
use crate::top::Top;

/// Bytes of a head in blocks that are one section of a cache: they are read by as many threads as there are.
const PIECE: usize = 8 << 20;

/// Where the rows of an embedding are read.
enum Rows {
    Matrix(FloatMatrix),
    /// The head is tied to the embedding and holds its numbers.
    Narrow(Arc<NarrowMatrix>),
    /// Likewise, as blocks.
    Blocks(BlockType, Arc<HugeBuf>),
}

/// The token embedding.
pub(crate) struct Embedding {
    rows: Rows,
    /// Rows are rounded to halves where the head is tied to it and is not f32: with a smaller head the rest of a model is what it is
    /// with an f16 one, so that the head alone differs.
    halves: bool,
    hidden: usize,
}

impl Embedding {
    /// The row of `token`. `scratch` is overwritten.
    pub(crate) fn row(&self, token: usize, scratch: &mut Vec<u8>, out: &mut [f32]) {
        let dtype = match &self.rows {
            Rows::Matrix(matrix) => {
                matrix.lone_row(token, scratch, out);
                matrix.dtype()
            }
            Rows::Narrow(head) => {
                head.row(token, out);
                FloatType::F16
            }
            Rows::Blocks(kind, head) => {
                let bytes = head.bytes();
                Blocks { kind: *kind, bytes }.row(token, out.len(), out);
                FloatType::of_blocks(*kind)
            }
        };
        if self.halves && dtype != FloatType::F16 {
            for x in out {
                *x = f16::from_f32(*x).to_f32();
            }
        }
    }

    /// Bytes that a row is read from.
    pub(crate) fn row_bytes(&self) -> u64 {
        match &self.rows {
            Rows::Matrix(matrix) => (matrix.bytes().len() / matrix.rows().max(1)) as u64,
            Rows::Narrow(head) => head.row_bytes(),
            Rows::Blocks(kind, _) => (self.hidden / kind.numbers() * kind.bytes()) as u64,
        }
    }

    /// Its bytes in memory or in a file.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.rows {
            Rows::Matrix(matrix) => matrix.bytes().len() as u64,
            Rows::Narrow(head) => head.bytes(),
            Rows::Blocks(_, head) => head.len() as u64,
        }
    }
}

/// The output head: vocab x hidden.
pub(crate) enum Head {
    /// Read where it lies (a file map, or the one copy that was made).
    F16(FloatMatrix),
    /// The same halves in twelve bits.
    Narrow(Arc<NarrowMatrix>),
    F32(FloatMatrix),
    /// Decoded to floats.
    Decoded(Vec<f32>),
    /// Codes, and the scale of each row.
    I8(Vec<i8>, Vec<f32>),
    /// Blocks of a file, or made, sixteen rows at a time; and what makes the best of their products exact, where that is wanted.
    Blocks(BlockType, Arc<HugeBuf>, Option<Top>),
}

impl Head {
    pub(crate) fn load(
        matrix: &FloatMatrix,
        head: HeadType,
        keep: Keep<'_>,
        ops: &dyn Ops,
    ) -> Result<(Self, CacheUse), EngineError> {
        let head = match head {
            HeadType::F16 | HeadType::F16Plain if matrix.f16().is_some() => {
                Self::F16(matrix.clone())
            }
            HeadType::F16 | HeadType::F16Plain => Self::F16(matrix.to_f16()),
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
                    Some(1.0 / ops.quantize(row, codes))
                });
                let scales = scales.unwrap_or_else(|| unreachable!("every row has a scale"));
                Self::I8(codes, scales)
            }
            HeadType::Q6K | HeadType::F16Top => {
                return Self::blocks(matrix, BlockType::Q6K, head, keep);
            }
            HeadType::Q4_0 => return Self::blocks(matrix, BlockType::Q4_0, head, keep),
        };
        Ok((head, CacheUse::Unused))
    }

    fn blocks(
        matrix: &FloatMatrix,
        kind: BlockType,
        head: HeadType,
        keep: Keep<'_>,
    ) -> Result<(Self, CacheUse), EngineError> {
        let size = block_bytes(kind, matrix.rows(), matrix.cols()).ok_or_else(|| EngineError::Option {
            option: "--head",
            value: head.name().to_owned(),
            want: "a type whose blocks (of 256 in q6_k and f16-top, of 32 in q4_0) divide the hidden size of this model; hint: f16, f32 and i8 always fit",
        })?;
        // Behind the blocks, bounds.
        let bounds = match head {
            HeadType::F16Top => Top::bytes(matrix.rows()),
            _ => 0,
        };
        let bytes = size.saturating_add(bounds);
        let mut packed = HugeBuf::zeroed(bytes).map_err(|source| EngineError::Allocation {
            what: "the head",
            want_bytes: bytes as u64,
            source,
        })?;
        // Blocks that the file has are only laid out anew.
        let made = bounds > 0 || matrix.dtype() != FloatType::of_blocks(kind);
        let keep = if made { keep } else { Keep(None) };
        let pieces = (0..bytes)
            .step_by(PIECE)
            .map(|at| at..bytes.min(at + PIECE));
        let pack = |out: &mut [u8]| {
            let (blocks, bounds) = out.split_at_mut(size);
            if bounds.is_empty() {
                matrix.pack(kind, blocks, |_, _| ());
            } else {
                Top::pack(matrix, kind, blocks, bounds);
            }
            Ok::<_, EngineError>(())
        };
        let cache_use = keep.fill(head.name(), pieces.collect(), packed.bytes_mut(), pack)?;
        let packed = Arc::new(packed);
        let top = (bounds > 0).then(|| Top::new(matrix, Arc::clone(&packed), size));
        Ok((Self::Blocks(kind, packed, top), cache_use))
    }

    /// Makes what [`Self::dot`] wants of its inputs beside them.
    pub(crate) fn prepare(&self, ops: &dyn Ops, k: usize, xs: &[f32], digits: &mut Digits) {
        if let Self::Blocks(kind, ..) = self {
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
            Self::Narrow(matrix) => {
                let rows = matrix.rows(rows);
                if xs.len() == k {
                    ops.rows_dot_narrow(rows, xs, out);
                } else {
                    ops.rows_dot_all_narrow(rows, xs, out);
                }
                return;
            }
            Self::F16(matrix) => Floats::F16(matrix.f16().map_or::<&[f16], _>(&[], |m| &m[range])),
            Self::F32(matrix) => Floats::F32(matrix.f32().map_or::<&[f32], _>(&[], |m| &m[range])),
            Self::Decoded(floats) => Floats::F32(&floats[range]),
            Self::I8(codes, scales) => Floats::I8(&codes[range], &scales[rows]),
            Self::Blocks(kind, packed, _) => {
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

    /// What makes the best products exact, for a head of that kind.
    pub(crate) const fn top(&self) -> Option<&Top> {
        match self {
            Self::Blocks(.., top) => top.as_ref(),
            _ => None,
        }
    }

    /// Bytes of the head as it is read for each token.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::F16(matrix) | Self::F32(matrix) => matrix.bytes().len() as u64,
            Self::Narrow(matrix) => matrix.bytes(),
            Self::Decoded(floats) => size_of_val(floats.as_slice()) as u64,
            Self::I8(codes, scales) => (codes.len() + size_of_val(scales.as_slice())) as u64,
            Self::Blocks(_, packed, _) => packed.len() as u64,
        }
    }
}

/// The type that a head is read in, where files have it too.
const fn in_files(head: HeadType) -> Option<FloatType> {
    match head {
        HeadType::F16 | HeadType::F16Plain => Some(FloatType::F16),
        HeadType::F32 => Some(FloatType::F32),
        HeadType::F16Top | HeadType::I8 | HeadType::Q6K | HeadType::Q4_0 => None,
    }
}

/// Bytes of a head in blocks; `None` when they do not divide its rows. What is missing to whole sixteen rows counts.
fn block_bytes(kind: BlockType, rows: usize, cols: usize) -> Option<usize> {
    kind.group_bytes(cols)?
        .checked_mul(rows.div_ceil(BlockType::ROWS))
}

/// How a head is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Read where it lies.
    InPlace,
    /// Another type than the file's.
    Copied,
    /// Halves in twelve bits.
    Narrow,
}

impl Form {
    /// That of the head `head` of `checkpoint`, from a look at some of its rows.
    pub(crate) fn of(
        checkpoint: &Checkpoint,
        head: HeadType,
        ops: &dyn Ops,
    ) -> Result<Self, EngineError> {
        let config = checkpoint.config();
        // A generated embedding is not made for this: it is of bf16 numbers.
        if checkpoint.container() == "synthetic" {
            let size = NarrowMatrix::size(config.vocab, config.hidden);
            return Ok(match in_files(head) {
                _ if head == HeadType::F16 && size.is_some() => Self::Narrow,
                Some(FloatType::F16) => Self::InPlace,
                _ => Self::Copied,
            });
        }
        let read = match checkpoint.head()? {
            Some(untied) => untied,
            None => checkpoint.embedding()?,
        };
        Ok(if head == HeadType::F16 && NarrowMatrix::fits(&read, ops) {
            Self::Narrow
        } else if in_files(head) == Some(read.dtype()) {
            Self::InPlace
        } else {
            Self::Copied
        })
    }
}

/// How a head is to be held.
#[derive(Clone, Copy)]
pub(crate) struct Held<'a> {
    pub(crate) head: HeadType,
    pub(crate) form: Form,
    pub(crate) keep: Keep<'a>,
}

/// The embedding, the head (`untied` where a file has one of its own), whether they are one matrix in memory, and what became of the cache.
pub(crate) fn load(
    embedding: FloatMatrix,
    untied: Option<&FloatMatrix>,
    Held { head, form, keep }: Held<'_>,
    ops: &dyn Ops,
) -> Result<(Embedding, Head, bool, CacheUse), EngineError> {
    let (tied, hidden) = (untied.is_none(), embedding.cols());
    let source = untied.unwrap_or(&embedding);
    let narrow = match form {
        Form::Narrow => NarrowMatrix::of(source, ops)?,
        Form::InPlace | Form::Copied => None,
    };
    let (head, cache_use) = match narrow {
        Some(narrow) => (Head::Narrow(Arc::new(narrow)), CacheUse::Unused),
        None => Head::load(source, head, keep, ops)?,
    };
    // What was copied is not read any more, but for the rows of tokens.
    if form != Form::InPlace {
        source.release();
    }
    let rows = match &head {
        // One copy is both.
        Head::Narrow(matrix) if tied => Rows::Narrow(Arc::clone(matrix)),
        Head::Blocks(kind, packed, _) if tied && source.dtype() == FloatType::of_blocks(*kind) => {
            Rows::Blocks(*kind, Arc::clone(packed))
        }
        Head::F16(matrix) if tied => Rows::Matrix(matrix.clone()),
        _ => Rows::Matrix(embedding),
    };
    let one = matches!(rows, Rows::Narrow(_) | Rows::Blocks(..)) || matches!(head, Head::F16(_));
    let shared = tied && (form == Form::InPlace || one);
    let halves = tied && !matches!(head, Head::F32(_) | Head::Decoded(_));
    let embedding = Embedding {
        rows,
        halves,
        hidden,
    };
    Ok((embedding, head, shared, cache_use))
}

/// Bytes of embedding and head, known before either is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FloatBytes {
    /// Of both once they are loaded, but for the few numbers that narrow halves keep apart.
    pub(crate) held: u64,
    /// The part of it that is not read where it lies: another type than the file's, or generated.
    pub(crate) copied: u64,
}

impl FloatBytes {
    pub(crate) fn of_model(
        checkpoint: &Checkpoint,
        head: HeadType,
        form: Form,
    ) -> Result<Self, EngineError> {
        let config = checkpoint.config();
        // A generated embedding is not made for this.
        if checkpoint.container() == "synthetic" {
            let mut bytes = Self::of(config, head, form, FloatType::F16, true);
            let made = config.vocab.saturating_mul(config.hidden).saturating_mul(2);
            bytes.copied = bytes.copied.saturating_add(made as u64);
            return Ok(bytes);
        }
        let tied = checkpoint.head()?.is_none();
        let embedding = checkpoint.embedding()?.dtype();
        Ok(Self::of(config, head, form, embedding, tied))
    }

    /// With the type that the embedding has in the file.
    fn of(config: &Config, head: HeadType, form: Form, embedding: FloatType, tied: bool) -> Self {
        let (rows, numbers) = (config.vocab, config.vocab.saturating_mul(config.hidden));
        // Blocks that do not fill a row are refused when the head is made.
        let bytes = |dtype: FloatType| {
            let (elements, size) = dtype.block();
            (numbers / elements).saturating_mul(size)
        };
        let blocks = |kind| block_bytes(kind, rows, config.hidden).unwrap_or(0);
        let of_head = match (form, head) {
            (Form::Narrow, _) => NarrowMatrix::size(rows, config.hidden).unwrap_or(usize::MAX),
            (_, HeadType::F16 | HeadType::F16Plain) => bytes(FloatType::F16),
            (_, HeadType::F32) => bytes(FloatType::F32),
            (_, HeadType::I8) => numbers.saturating_add(4 * rows),
            (_, HeadType::Q6K) => blocks(BlockType::Q6K),
            (_, HeadType::F16Top) => blocks(BlockType::Q6K).saturating_add(Top::bytes(rows)),
            (_, HeadType::Q4_0) => blocks(BlockType::Q4_0),
        };
        let head_copy = if form == Form::InPlace { 0 } else { of_head };
        // An embedding is read where it lies; one matrix is both where the head is read there too, or is a copy of the same numbers.
        let same = match head {
            HeadType::F16 | HeadType::F16Plain => true,
            HeadType::Q6K | HeadType::F16Top => embedding == FloatType::of_blocks(BlockType::Q6K),
            HeadType::Q4_0 => embedding == FloatType::of_blocks(BlockType::Q4_0),
            HeadType::F32 | HeadType::I8 => false,
        };
        let both = tied && (form == Form::InPlace || same);
        let of_embedding = if both { 0 } else { bytes(embedding) };
        Self {
            held: of_head.saturating_add(of_embedding) as u64,
            copied: head_copy as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Form::{Copied, InPlace, Narrow};
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
        let of = |head, form, embedding, tied| {
            let FloatBytes { held, copied } = FloatBytes::of(config, head, form, embedding, tied);
            (held, copied)
        };
        assert_eq!(of(HeadType::F16Plain, InPlace, F16, true), (2 * numbers, 0));
        assert_eq!(
            of(HeadType::F16, Copied, Bf16, true),
            (2 * numbers, 2 * numbers)
        );
        let narrow = numbers / 2 * 3 + 5 * config.vocab as u64 + 4;
        assert_eq!(of(HeadType::F16, Narrow, Bf16, true), (narrow, narrow));
        assert_eq!(
            of(HeadType::F16, Narrow, F16, false),
            (narrow + 2 * numbers, narrow)
        );
        assert_eq!(of(HeadType::F32, InPlace, F32, true), (4 * numbers, 0));
        assert_eq!(
            of(HeadType::F32, Copied, F16, true),
            (6 * numbers, 4 * numbers)
        );
        assert_eq!(of(HeadType::F16, InPlace, F16, false), (4 * numbers, 0));
        assert_eq!(
            of(HeadType::F16, Copied, F32, false),
            (6 * numbers, 2 * numbers)
        );
        let codes = numbers + 4 * config.vocab as u64;
        assert_eq!(
            of(HeadType::I8, Copied, F16, true),
            (2 * numbers + codes, codes)
        );
        assert_eq!(
            of(HeadType::I8, Copied, F32, true),
            (4 * numbers + codes, codes)
        );
        // Blocks are laid out anew, sixteen rows at a time.
        assert!(config.vocab.is_multiple_of(16));
        let blocks = numbers / 32 * 18;
        assert_eq!(of(HeadType::Q4_0, Copied, Q4_0, true), (blocks, blocks));
        assert_eq!(
            of(HeadType::Q4_0, Copied, F16, false),
            (2 * numbers + blocks, blocks)
        );
        let mut ragged = config.clone();
        ragged.vocab -= 3;
        let bytes = FloatBytes::of(&ragged, HeadType::Q4_0, Copied, F16, true);
        assert_eq!(bytes.copied, blocks);
        // A generated embedding is a copy, whatever is read.
        let ops = trit_ops::best(trit_kernel::Cpu::uncapped());
        for (head, form, bytes) in [
            (HeadType::F16, Narrow, (narrow, narrow + 2 * numbers)),
            (HeadType::F16Plain, InPlace, (2 * numbers, 2 * numbers)),
        ] {
            assert_eq!(Form::of(&made, head, ops).unwrap(), form);
            let FloatBytes { held, copied } = FloatBytes::of_model(&made, head, form).unwrap();
            assert_eq!((held, copied), bytes);
        }
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
            let held = Held {
                head,
                form: Copied,
                keep: Keep(None),
            };
            let (embedding, ..) = load(file.clone(), None, held, ops).unwrap();
            assert!(
                matches!(embedding.rows, Rows::Blocks(..)),
                "{head}: one copy"
            );
            let mut row = vec![0.0; k];
            for (token, decoded) in decoded.chunks_exact(k).enumerate() {
                embedding.row(token, &mut Vec::new(), &mut row);
                let halves = decoded.iter().map(|x| f16::from_f32(*x).to_f32());
                assert!(row.iter().copied().eq(halves), "{head}: row {token}");
            }
            let mut digits = Digits::default();
            for loaded in
                [&file, &matrix].map(|matrix| Head::load(matrix, head, Keep(None), ops).unwrap().0)
            {
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
