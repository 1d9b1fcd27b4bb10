//! Writing disjoint columns of one row-major matrix from several threads.

use std::marker::PhantomData;
use std::ops::Range;

/// A range of columns of a row-major matrix, for writing. No other [`ColumnsMut`] of the same matrix has any of its
/// columns, so each can go to another thread.
#[derive(Debug)]
pub struct ColumnsMut<'a, T> {
    first: *mut T,
    rows: usize,
    width: usize,
    range: Range<usize>,
    matrix: PhantomData<&'a mut [T]>,
}

// SAFETY: a `ColumnsMut` gives access to its own columns alone, as `&mut [T]`; `columns` makes sure that they are
// disjoint from all others of the matrix. So it may be sent wherever a `&mut [T]` may.
unsafe impl<T: Send> Send for ColumnsMut<'_, T> {}

impl<T> ColumnsMut<'_, T> {
    /// Rows of the matrix.
    pub fn rows(&self) -> usize {
        self.rows
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
        assert!(row < self.rows, "row {row} of {} does not exist", self.rows);
        if self.range.is_empty() {
            return &mut [];
        }
        // SAFETY: `columns` checked that the matrix has `rows * width` elements and that the range lies inside of
        // `0..width`; the row exists, so the elements from `row * width + range.start` on, `range.len()` of them,
        // are inside the matrix. The matrix is borrowed for the life of `self` and no other `ColumnsMut` has these
        // columns; `&mut self` keeps a second slice of our own away.
        unsafe {
            let start = self.first.add(row * self.width + self.range.start);
            std::slice::from_raw_parts_mut(start, self.range.len())
        }
    }
}

/// Splits a row-major matrix of rows of `width` elements into ranges of columns, one a share, in the order of the
/// shares. Shares may be empty and need not cover the matrix.
///
/// # Panics
/// When the length of `data` is no multiple of `width`, or a share reaches beyond `width`, or two shares overlap.
pub fn columns<'a, T>(
    data: &'a mut [T],
    width: usize,
    shares: &[Range<usize>],
) -> Vec<ColumnsMut<'a, T>> {
    let rows = data.len().checked_div(width).unwrap_or(0);
    assert_eq!(
        rows * width,
        data.len(),
        "{} elements are no rows of {width}",
        data.len()
    );
    let mut sorted: Vec<&Range<usize>> = shares.iter().filter(|share| !share.is_empty()).collect();
    sorted.sort_unstable_by_key(|share| share.start);
    for share in &sorted {
        assert!(
            share.end <= width,
            "columns {share:?} reach beyond the width {width}"
        );
    }
    for pair in sorted.windows(2) {
        assert!(
            pair[0].end <= pair[1].start,
            "columns {:?} and {:?} overlap",
            pair[0],
            pair[1]
        );
    }
    let first = data.as_mut_ptr();
    let part = |share: &Range<usize>| ColumnsMut {
        first,
        rows,
        width,
        range: share.clone(),
        matrix: PhantomData,
    };
    shares.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_written_once() {
        for (rows, width) in [(1, 1), (3, 7), (5, 16), (0, 4), (4, 0)] {
            for threads in 1..6 {
                let mut data = vec![0usize; rows * width];
                let shares: Vec<_> = (0..threads)
                    .map(|t| crate::share(width, 2, t, threads))
                    .collect();
                let mut parts = columns(&mut data, width, &shares);
                std::thread::scope(|scope| {
                    for part in &mut parts {
                        scope.spawn(|| {
                            let range = part.range();
                            for row in 0..part.rows() {
                                let out = part.row_mut(row);
                                assert_eq!(out.len(), range.len());
                                for (value, column) in out.iter_mut().zip(range.clone()) {
                                    *value += row * width + column + 1;
                                }
                            }
                        });
                    }
                });
                assert!(data.iter().enumerate().all(|(i, &value)| value == i + 1));
            }
        }
    }

    #[test]
    fn shares_may_come_in_any_order_and_leave_gaps() {
        let mut data = vec![0u8; 20];
        let mut parts = columns(&mut data, 10, &[7..9, 3..3, 0..2]);
        for (value, part) in (1u8..).zip(&mut parts) {
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
    #[should_panic(expected = "overlap")]
    fn overlapping_shares_are_refused() {
        columns(&mut [0u8; 20], 10, &[4..8, 0..5]);
    }

    #[test]
    #[should_panic(expected = "reach beyond")]
    fn shares_beyond_the_width_are_refused() {
        columns(&mut [0u8; 20], 10, &[0..1, 4..11]);
    }

    #[test]
    #[should_panic(expected = "no rows of 7")]
    fn a_ragged_matrix_is_refused() {
        columns(&mut [0u8; 20], 7, &[]);
    }

    #[test]
    #[should_panic(expected = "row 2 of 2 does not exist")]
    fn a_row_outside_is_refused() {
        columns(&mut [0u8; 20], 10, &[0..4, 4..10])[0].row_mut(2);
    }
}
