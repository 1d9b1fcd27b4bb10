//! A matrix of halves held in twelve bits a number, where it was bf16.

use std::ops::Range;

use half::f16;
use trit_measure::sys::HugeBuf;
use trit_ops::Ops;
use trit_ops::narrow::{GROUP, GROUP_BYTES, MAX_COLUMNS, Narrow};

use crate::error::EngineError;
use crate::file::FloatMatrix;

/// Rows that are looked at before a matrix is packed.
const LOOKS: usize = 64;
/// One number in this many may be a misfit: the four bytes that it takes beside the others are nothing then.
const RARE: usize = 256;

/// Reads a row as halves; `floats` is scratch of as many numbers.
fn read(matrix: &FloatMatrix, row: usize, ops: &dyn Ops, floats: &mut [f32], out: &mut [f16]) {
    if let Some(halves) = matrix.f16() {
        out.copy_from_slice(&halves[row * out.len()..(row + 1) * out.len()]);
    } else {
        matrix.row(row, floats);
        ops.to_f16(floats, out);
    }
}

/// A matrix, and what of it does not fit.
pub(crate) struct NarrowMatrix {
    groups: HugeBuf,
    bases: Vec<u8>,
    starts: Vec<u32>,
    misfits: Vec<(u16, f16)>,
}

impl NarrowMatrix {
    /// Bytes of a matrix of this shape without its misfits; `None` where rows are not whole groups.
    pub(crate) fn size(rows: usize, cols: usize) -> Option<usize> {
        let fits = rows > 0 && cols > 0 && cols.is_multiple_of(GROUP) && cols <= MAX_COLUMNS;
        let row = cols / GROUP * GROUP_BYTES + size_of::<u8>() + size_of::<u32>();
        fits.then(|| rows.checked_mul(row)?.checked_add(size_of::<u32>()))
            .flatten()
    }

    /// Whether some rows of `matrix` have next to no misfits, as those of all of it will have.
    pub(crate) fn fits(matrix: &FloatMatrix, ops: &dyn Ops) -> bool {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        if Self::size(rows, cols).is_none() {
            return false;
        }
        let mut groups = vec![0; cols / GROUP * GROUP_BYTES];
        let (mut floats, mut halves) = (vec![0.0; cols], vec![f16::ZERO; cols]);
        let mut misfits = Vec::new();
        let looks = rows.min(LOOKS);
        for look in 0..looks {
            read(matrix, look * rows / looks, ops, &mut floats, &mut halves);
            ops.narrow_row(&halves, &mut groups, &mut misfits);
        }
        misfits.len() <= looks * cols / RARE
    }

    /// A copy of `matrix`, which has a [`Self::size`], with numbers rounded to halves; `None` where more than a few do not fit. The pages
    /// of the matrix are given back.
    pub(crate) fn of(matrix: &FloatMatrix, ops: &dyn Ops) -> Result<Option<Self>, EngineError> {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let width = cols / GROUP * GROUP_BYTES;
        let bytes = rows * width;
        let mut groups = HugeBuf::zeroed(bytes).map_err(|source| EngineError::Allocation {
            what: "the output head",
            want_bytes: bytes as u64,
            source,
        })?;
        let made = matrix.in_pieces(
            groups.bytes_mut(),
            (1, width),
            || (vec![0.0; cols], vec![f16::ZERO; cols]),
            |(floats, halves), row, groups| {
                read(matrix, row, ops, floats, halves);
                let mut misfits = Vec::new();
                let base = ops.narrow_row(halves, groups, &mut misfits);
                (misfits.len() <= cols / 2).then_some((base, misfits))
            },
        );
        let Some(made) = made else {
            return Ok(None);
        };
        let (mut bases, mut starts) = (Vec::with_capacity(rows), Vec::with_capacity(rows + 1));
        let mut misfits = Vec::new();
        for (base, of_row) in made {
            bases.push(base);
            starts.push(misfits.len() as u32);
            misfits.extend(of_row);
        }
        starts.push(misfits.len() as u32);
        let few = misfits.len() <= rows * cols / RARE && u32::try_from(misfits.len()).is_ok();
        Ok(few.then_some(Self {
            groups,
            bases,
            starts,
            misfits,
        }))
    }

    /// The rows `rows`.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Narrow<'_> {
        let width = self.groups.bytes().len() / self.bases.len();
        Narrow {
            groups: &self.groups.bytes()[rows.start * width..rows.end * width],
            bases: &self.bases[rows.clone()],
            starts: &self.starts[rows.start..=rows.end],
            misfits: &self.misfits,
        }
    }

    /// The row of one token.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        self.rows(row..row + 1).row(0, out);
    }

    /// Bytes that one row is read from, misfits and what is kept for each row apart.
    pub(crate) fn row_bytes(&self) -> u64 {
        (self.groups.bytes().len() / self.bases.len()) as u64
    }

    /// Bytes of all of it.
    pub(crate) fn bytes(&self) -> u64 {
        let beside = self.bases.len() + size_of_val(self.starts.as_slice());
        (self.groups.bytes().len() + beside + size_of_val(self.misfits.as_slice())) as u64
    }
}
