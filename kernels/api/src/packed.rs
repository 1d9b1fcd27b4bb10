//! Packed ternary matrices: who owns the bytes, what they hold, how they are made.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use crate::{AlignedBuf, LayoutId, MAX_K};

/// Ternary weights, one i8 of −1, 0 or 1 each, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Codes<'a> {
    data: &'a [i8],
    rows: usize,
    k: usize,
}

impl<'a> Codes<'a> {
    /// A view of `rows` x `k` weights.
    ///
    /// # Errors
    /// When `data` has another length, K is 0 or above [`MAX_K`], or a value is not −1, 0 or 1.
    pub fn new(data: &'a [i8], rows: usize, k: usize) -> Result<Self, PackError> {
        if k == 0 || k > MAX_K {
            return Err(PackError::K { got: k });
        }
        if rows.checked_mul(k) != Some(data.len()) {
            return Err(PackError::Size {
                what: "codes",
                want: rows.saturating_mul(k),
                got: data.len(),
            });
        }
        // A fold without an early exit vectorises; the position is looked for only when there is one.
        let worst = data
            .iter()
            .fold(0u8, |acc, w| acc.max((w.wrapping_add(1)) as u8));
        if worst > 2 {
            let at = data.iter().position(|w| !(-1..=1).contains(w)).unwrap_or(0);
            return Err(PackError::NotTernary {
                row: at / k,
                column: at % k,
            });
        }
        Ok(Self { data, rows, k })
    }

    /// Output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The weights of one row.
    pub fn row(&self, row: usize) -> &'a [i8] {
        &self.data[row * self.k..(row + 1) * self.k]
    }
}

/// Why a matrix could not be packed or adopted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// K is 0 or too large.
    #[error("K is {got}, want 1..={MAX_K}")]
    K {
        /// The K asked for.
        got: usize,
    },
    /// A buffer has the wrong size.
    #[error("{what} take {got} bytes, want {want}")]
    Size {
        /// Which buffer.
        what: &'static str,
        /// The size it should have.
        want: usize,
        /// The size it has.
        got: usize,
    },
    /// A weight is not −1, 0 or 1.
    #[error("the weight at row {row}, column {column} is not ternary")]
    NotTernary {
        /// Row of the first such weight.
        row: usize,
        /// Column of the first such weight.
        column: usize,
    },
    /// A packed byte holds a code that means nothing.
    #[error("packed byte {at} holds an invalid code")]
    InvalidCode {
        /// Offset of the first such byte.
        at: usize,
    },
    /// The bytes do not start on a 64-byte boundary.
    #[error("packed bytes are not 64-byte aligned")]
    Alignment,
    /// The number of row scales differs from the number of rows.
    #[error("{got} row scales for {want} rows")]
    Scales {
        /// Rows of the matrix.
        want: usize,
        /// Scales given.
        got: usize,
    },
}

/// What multiplies the integer sums to give real ones.
#[derive(Clone, Debug, PartialEq)]
pub enum Scales {
    /// One scale for the whole matrix.
    Tensor(f32),
    /// One scale for each row.
    Rows(Arc<[f32]>),
}

impl Scales {
    /// The scale of one row.
    pub fn row(&self, row: usize) -> f32 {
        match self {
            Self::Tensor(scale) => *scale,
            Self::Rows(scales) => scales[row],
        }
    }
}

/// Something that owns bytes for as long as a matrix borrows them: a file map, or huge pages.
/// The bytes must not change or move while the owner lives.
pub trait ByteOwner: Send + Sync {
    /// The bytes.
    fn bytes(&self) -> &[u8];
}

/// Where packed bytes live.
#[derive(Clone)]
pub enum Storage {
    /// On the heap, 64-byte aligned.
    Owned(Arc<AlignedBuf>),
    /// Inside something shared; the range is of its bytes.
    Shared(Arc<dyn ByteOwner>, Range<usize>),
}

impl Storage {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(buf) => buf.bytes(),
            Self::Shared(owner, range) => &owner.bytes()[range.clone()],
        }
    }
}

impl Default for Storage {
    /// No bytes.
    fn default() -> Self {
        AlignedBuf::default().into()
    }
}

impl From<AlignedBuf> for Storage {
    fn from(buf: AlignedBuf) -> Self {
        Self::Owned(Arc::new(buf))
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Storage({} bytes)", self.bytes().len())
    }
}

/// A packed ternary matrix. Cloning shares the bytes.
#[derive(Clone)]
pub struct Packed {
    layout: LayoutId,
    rows: usize,
    k: usize,
    storage: Storage,
    scales: Scales,
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Packed({} x {}, {})",
            self.rows,
            self.k,
            self.layout.name()
        )
    }
}

impl Packed {
    /// Packs `codes` in parallel on rayon's current pool.
    ///
    /// # Errors
    /// When the number of row scales does not fit.
    pub fn pack(codes: Codes<'_>, layout: LayoutId, scales: Scales) -> Result<Self, PackError> {
        let size = layout
            .matrix_bytes(codes.rows(), codes.k())
            .ok_or(PackError::K { got: codes.k() })?;
        let mut buf = AlignedBuf::zeroed(size);
        Self::pack_into(codes, layout, buf.bytes_mut());
        Self::adopt(layout, codes.rows(), codes.k(), buf.into(), scales)
    }

    /// Packs `codes` in parallel into `out`, which has exactly [`LayoutId::matrix_bytes`] bytes.
    ///
    /// # Panics
    /// When `out` has another length.
    pub fn pack_into(codes: Codes<'_>, layout: LayoutId, out: &mut [u8]) {
        let bytes = layout.group_bytes(codes.k());
        assert_eq!(
            Some(out.len()),
            layout.matrix_bytes(codes.rows(), codes.k()),
            "packed size"
        );
        // About a quarter of a megabyte a task: enough to hide the dispatch, small enough to balance.
        let groups_a_task = (262_144 / bytes).max(1);
        out.par_chunks_mut(groups_a_task * bytes)
            .enumerate()
            .for_each(|(task, out)| {
                let first = task * groups_a_task;
                layout.pack_groups(codes, first..first + out.len() / bytes, out);
            });
    }

    /// Takes bytes that are already packed.
    ///
    /// # Errors
    /// When the size, the alignment or the number of scales is wrong, or a code means nothing.
    pub fn adopt(
        layout: LayoutId,
        rows: usize,
        k: usize,
        storage: Storage,
        scales: Scales,
    ) -> Result<Self, PackError> {
        if k == 0 || k > MAX_K {
            return Err(PackError::K { got: k });
        }
        let want = layout
            .matrix_bytes(rows, k)
            .ok_or(PackError::K { got: k })?;
        let bytes = storage.bytes();
        if bytes.len() != want {
            return Err(PackError::Size {
                what: "packed weights",
                want,
                got: bytes.len(),
            });
        }
        if let Some(at) = layout.find_invalid(bytes) {
            return Err(PackError::InvalidCode { at });
        }
        if let Scales::Rows(scales) = &scales
            && scales.len() != rows
        {
            return Err(PackError::Scales {
                want: rows,
                got: scales.len(),
            });
        }
        Ok(Self {
            layout,
            rows,
            k,
            storage,
            scales,
        })
    }

    /// The packed form.
    pub fn layout(&self) -> LayoutId {
        self.layout
    }

    /// Output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The packed bytes. Owned ones start on a 64-byte boundary; those of a file map start where the file put them
    /// (32 bytes for GGUF), so kernels load without assuming alignment.
    pub fn bytes(&self) -> &[u8] {
        self.storage.bytes()
    }

    /// The scales.
    pub fn scales(&self) -> &Scales {
        &self.scales
    }

    /// Writes the weights of `row` into `out` (K values, or the first of them).
    pub fn unpack_row(&self, row: usize, out: &mut [i8]) {
        self.layout.unpack_row(self.bytes(), self.k, row, out);
    }
}
