//! What all look-up kernels share: row groups of 64, and the window of a call on them.

use std::ops::Range;

use trit_kernel::GemmArgs;

/// Rows of a group, in every layout of this crate.
pub(crate) const LANES: usize = 64;

/// The sums of a row group.
pub(crate) type Sums = [i32; LANES];

/// What a call asks for, in groups and blocks.
pub(crate) struct View<'a> {
    bytes: &'a [u8],
    /// Bytes of a row group.
    pub(crate) group_bytes: usize,
    block_bytes: usize,
    /// Blocks of a row group.
    pub(crate) blocks: usize,
    rows: Range<usize>,
    /// The row groups, the first and last of them perhaps in part.
    pub(crate) groups: Range<usize>,
}

impl<'a> View<'a> {
    /// The window of a call whose blocks take `block_bytes`.
    pub(crate) fn new(args: &GemmArgs<'a>, block_bytes: usize) -> Self {
        let group_bytes = args.weights.layout().group_bytes(args.weights.k());
        Self {
            bytes: args.weights.bytes(),
            group_bytes,
            block_bytes,
            blocks: group_bytes / block_bytes,
            rows: args.rows.clone(),
            groups: args.rows.start / LANES..args.rows.end.div_ceil(LANES),
        }
    }

    /// The blocks `blocks` of a row group.
    pub(crate) fn weights(&self, group: usize, blocks: &Range<usize>) -> &'a [u8] {
        let start = group * self.group_bytes + blocks.start * self.block_bytes;
        &self.bytes[start..start + blocks.len() * self.block_bytes]
    }

    /// Writes the sums of a row group to line `line` of the output, or adds them: those rows that are asked for.
    pub(crate) fn add(&self, out: &mut [i32], group: usize, line: usize, sums: &Sums, first: bool) {
        let start = group * LANES;
        let rows = self.rows.start.max(start)..self.rows.end.min(start + LANES);
        let at = line * self.rows.len() + rows.start - self.rows.start;
        let out = &mut out[at..at + rows.len()];
        let sums = &sums[rows.start - start..rows.end - start];
        if first {
            out.copy_from_slice(sums);
        } else {
            for (out, sum) in out.iter_mut().zip(sums) {
                *out += sum;
            }
        }
    }
}

/// The parts of `range`, `step` long but for the last.
pub(crate) fn chunks(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(step).map(move |at| at..(at + step).min(end))
}
