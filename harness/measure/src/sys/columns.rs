//! Writing disjoint columns of one row-major matrix from several threads.

use std::marker::PhantomData;
use std::ops::Range;

/// A row-major matrix whose columns are dealt out to threads.
#[derive(Debug)]
pub(super) struct Matrix<'a, T> {
    first: *mut T,
    rows: usize,
    width: usize,
    elements: PhantomData<&'a mut [T]>,
}

// SAFETY: all that a shared `Matrix` gives out are `ColumnsMut`, each with columns that no other has (`columns` demands it), which may
// be used wherever a `&mut [T]` may.
unsafe impl<T: Send> Sync for Matrix<'_, T> {}

impl<'a, T> Matrix<'a, T> {
    /// A matrix of rows of `width` elements.
    ///
    /// # Panics
    /// When the length of `data` is no multiple of `width`.
    pub(super) fn new(data: &'a mut [T], width: usize) -> Self {
        let len = data.len();
        let rows = len.checked_div(width).unwrap_or(0);
        assert_eq!(rows * width, len, "{len} elements are no rows of {width}");
        Self {
            first: data.as_mut_ptr(),
            rows,
            width,
            elements: PhantomData,
        }
    }

    /// The columns `range`.
    ///
    /// # Panics
    /// When they reach beyond the width.
    ///
    /// # Safety
    /// While the result is used, no other [`ColumnsMut`] of this matrix may have one of the columns.
    pub(super) unsafe fn columns(&self, range: Range<usize>) -> ColumnsMut<'_, T> {
        assert!(
            range.end <= self.width,
            "columns {range:?} reach beyond the width {}",
            self.width
        );
        ColumnsMut {
            matrix: self,
            range,
        }
    }
}

/// A range of columns of a row-major matrix, for writing. Nobody else has any of its columns meanwhile.
#[derive(Debug)]
pub struct ColumnsMut<'a, T> {
    matrix: &'a Matrix<'a, T>,
    range: Range<usize>,
}

impl<T> ColumnsMut<'_, T> {
    /// Rows of the matrix.
    pub fn rows(&self) -> usize {
        self.matrix.rows
    }

    /// The columns.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// The columns of one row.
    ///
    /// # Panics
    /// When the matrix has no such row.
    pub fn row_mut(&mut self, row: usize) -> &mut [T] {
        let Matrix {
            first, rows, width, ..
        } = *self.matrix;
        assert!(row < rows, "row {row} of {rows} does not exist");
        if self.range.is_empty() {
            return &mut [];
        }
        // SAFETY: `Matrix::new` checked that there are `rows * width` elements, and `Matrix::columns` that the range ends inside of
        // `0..width`; the row exists, so the elements from `row * width + range.start` on, `range.len()` of them, are inside. They are
        // borrowed for the life of the matrix and no other `ColumnsMut` has these columns; `&mut self` keeps a second slice of our own
        // away.
        unsafe {
            let start = first.add(row * width + self.range.start);
            std::slice::from_raw_parts_mut(start, self.range.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_written_where_they_are() {
        let mut data = vec![0u8; 20];
        let matrix = Matrix::new(&mut data, 10);
        for (value, range) in (1u8..).zip([7..9, 3..3, 0..2]) {
            // SAFETY: the ranges are disjoint.
            let mut part = unsafe { matrix.columns(range.clone()) };
            assert_eq!((part.rows(), part.range()), (2, range));
            for row in 0..2 {
                part.row_mut(row).fill(value);
            }
        }
        assert_eq!(
            data,
            [3, 3, 0, 0, 0, 0, 0, 1, 1, 0, 3, 3, 0, 0, 0, 0, 0, 1, 1, 0]
        );
    }

    #[test]
    #[should_panic(expected = "reach beyond the width 10")]
    fn columns_beyond_the_width_are_refused() {
        let mut data = [0u8; 20];
        let matrix = Matrix::new(&mut data, 10);
        // SAFETY: there is no other range.
        let _ = unsafe { matrix.columns(4..11) };
    }

    #[test]
    #[should_panic(expected = "20 elements are no rows of 7")]
    fn a_ragged_matrix_is_refused() {
        let _ = Matrix::new(&mut [0u8; 20], 7);
    }

    #[test]
    #[should_panic(expected = "row 2 of 2 does not exist")]
    fn a_row_outside_is_refused() {
        let mut data = [0u8; 20];
        let matrix = Matrix::new(&mut data, 10);
        // SAFETY: there is no other range.
        let _ = unsafe { matrix.columns(0..4) }.row_mut(2);
    }
}
