//! What all dense kernels share: panels of rows, groups of tokens, and the loops over them.
//!
//! Weights are packed in panels of [`Method::ROWS`] rows whose numbers alternate by k, so that a vector holds one k (or a
//! few) of many rows and nothing has to be summed across lanes. Activations are prepared in groups of [`GROUP`] tokens,
//! which alternate by k too. A tile is one panel times a few groups and lives in registers.

use std::array::from_fn;
use std::ops::Range;

use trit_kernel::{
    AlignedBuf, DenseArgs, DenseFormat, DenseInfo, DenseKernel, DenseWeights, Unavailable,
};

/// Tokens that are prepared together.
pub(crate) const GROUP: usize = 4;
/// Most groups of a tile.
const MAX_GROUPS: usize = 3;
/// Most rows of a panel.
const MAX_ROWS: usize = 32;
/// Most panels that a GEMV reads at once.
const MAX_STREAMS: usize = 4;

/// One panel of packed weights.
#[derive(Clone, Copy)]
pub(crate) struct Panel<'a> {
    /// As `pack_panel` filled them.
    pub(crate) bytes: &'a [u8],
    /// The row scales of the rows that exist.
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64")),
        expect(dead_code, reason = "the portable format has none")
    )]
    pub(crate) scales: &'a [f32],
    /// Input features.
    pub(crate) k: usize,
}

/// One format on one instruction set. A value is the proof that the instructions can be executed.
pub(crate) trait Method: Copy + Send + Sync + 'static {
    /// The constant facts.
    const INFO: &'static DenseInfo;
    /// Rows of a panel.
    const ROWS: usize;
    /// Most groups of a tile.
    const GROUPS: usize;
    /// Panels that a GEMV reads at once: enough streams for the memory, and enough sums to hide the latency of an addition.
    const STREAMS: usize;
    /// Features after which a GEMM goes on to the next panel, so that the activations of that many features stay in L2.
    const K_BLOCK: usize;

    /// Bytes of a panel; a multiple of 64.
    fn panel_bytes(k: usize) -> usize;

    /// Bytes of a prepared group; a multiple of 64.
    fn group_bytes(k: usize) -> usize;

    /// Packs `weights`, `ROWS` rows or fewer of `k` features, into a zeroed panel; appends row scales if there are any.
    fn pack_panel(self, weights: &[f32], k: usize, panel: &mut [u8], scales: &mut Vec<f32>);

    /// Prepares `GROUP` tokens or fewer of `k` features; writes every byte that is read later.
    fn prepare_group(self, tokens: &[f32], k: usize, group: &mut [u8]);

    /// `out[token · ROWS + row]` of a panel and one to `GROUPS` groups, over the features `k`.
    fn tile(self, panel: Panel<'_>, groups: &[&[u8]], k: Range<usize>, out: &mut [f32]);

    /// `out[panel · ROWS + row]` of one panel or [`Method::STREAMS`] and one token of a group.
    fn gemv(self, panels: &[Panel<'_>], group: &[u8], token: usize, out: &mut [f32]);
}

/// A dense kernel made of a method.
pub(crate) struct Dense<M>(pub(crate) M);

impl<M: Method> DenseKernel for Dense<M> {
    fn info(&self) -> &'static DenseInfo {
        M::INFO
    }

    fn pack(&self, weights: &[f32], rows: usize, k: usize) -> DenseWeights {
        assert_eq!(
            Some(weights.len()),
            rows.checked_mul(k),
            "{rows} x {k} weights"
        );
        let size = M::panel_bytes(k);
        let mut data = AlignedBuf::zeroed(rows.div_ceil(M::ROWS) * size);
        let mut row_scales = Vec::new();
        if k > 0 {
            let panels = data.bytes_mut().chunks_exact_mut(size);
            for (rows, panel) in weights.chunks(M::ROWS * k).zip(panels) {
                self.0.pack_panel(rows, k, panel, &mut row_scales);
            }
        }
        DenseWeights {
            kernel: M::INFO.id,
            rows,
            k,
            data: data.into(),
            row_scales,
        }
    }

    fn row_step(&self) -> usize {
        M::ROWS
    }

    fn token_step(&self) -> usize {
        GROUP
    }

    fn prepared_group_bytes(&self, k: usize) -> usize {
        M::group_bytes(k)
    }

    fn prepare(
        &self,
        activations: &[f32],
        tokens: usize,
        k: usize,
        groups: Range<usize>,
        out: &mut [u8],
    ) {
        assert_eq!(activations.len(), tokens * k, "{tokens} x {k} activations");
        let size = M::group_bytes(k);
        assert_eq!(out.len(), groups.len() * size, "prepared size");
        for (group, out) in groups.zip(out.chunks_exact_mut(size)) {
            let first = (group * GROUP).min(tokens);
            let last = (first + GROUP).min(tokens);
            self.0
                .prepare_group(&activations[first * k..last * k], k, out);
        }
    }

    fn scratch_bytes(&self, _k: usize, _rows: usize, _tokens: usize) -> usize {
        0
    }

    fn gemm(&self, args: DenseArgs<'_>) {
        let DenseArgs {
            weights,
            prepared,
            rows,
            tokens,
            out,
            ..
        } = args;
        let k = weights.k;
        let group_bytes = M::group_bytes(k);
        assert_eq!(
            weights.kernel,
            M::INFO.id,
            "weights were packed by another kernel"
        );
        // Numbers are read where they lie.
        let aligned = |bytes: &[u8]| bytes.as_ptr().addr().is_multiple_of(align_of::<f32>());
        assert!(
            aligned(weights.data.bytes()) && aligned(prepared),
            "packed weights and prepared tokens are aligned"
        );
        assert!(rows.start <= rows.end && rows.end <= weights.rows, "rows");
        assert!(tokens.start <= tokens.end, "tokens");
        assert!(
            tokens.end.div_ceil(GROUP) * group_bytes <= prepared.len(),
            "tokens that are not prepared"
        );
        assert_eq!(out.len(), rows.len() * tokens.len(), "output size");
        if rows.is_empty() || tokens.is_empty() {
            return;
        }
        if k == 0 {
            out.fill(0.0);
            return;
        }
        let group = |g: usize| &prepared[g * group_bytes..(g + 1) * group_bytes];
        let mut tile = [0.0; MAX_ROWS * MAX_GROUPS * GROUP];
        let panels = rows.start / M::ROWS..rows.end.div_ceil(M::ROWS);

        if tokens.len() == 1 {
            let acts = group(tokens.start / GROUP);
            // Each stream runs on through its own part of the panels, so what it asks for beyond the end of a panel is the
            // next one it reads.
            let part = panels.len() / M::STREAMS;
            let mut visit = |first: usize, count: usize| {
                let set: [Panel<'_>; MAX_STREAMS] =
                    from_fn(|s| panel::<M>(weights, first + s.min(count - 1) * part));
                let tile = &mut tile[..M::ROWS * count];
                self.0.gemv(&set[..count], acts, tokens.start % GROUP, tile);
                for (s, tile) in tile.chunks_exact(M::ROWS).enumerate() {
                    let (inside, to) = overlap((first + s * part) * M::ROWS, M::ROWS, &rows);
                    out[to].copy_from_slice(&tile[inside]);
                }
            };
            (panels.start..panels.start + part).for_each(|first| visit(first, M::STREAMS));
            (panels.start + part * M::STREAMS..panels.end).for_each(|first| visit(first, 1));
            return;
        }

        let blocks = k.div_ceil(M::K_BLOCK);
        let step = k.div_ceil(blocks);
        let groups = tokens.start / GROUP..tokens.end.div_ceil(GROUP);
        for block in (0..k).step_by(step) {
            for index in panels.clone() {
                let panel = panel::<M>(weights, index);
                let (inside, to) = overlap(index * M::ROWS, M::ROWS, &rows);
                for first in groups.clone().step_by(M::GROUPS) {
                    let count = M::GROUPS.min(groups.end - first);
                    let acts: [&[u8]; MAX_GROUPS] = from_fn(|g| group(first + g.min(count - 1)));
                    let tile = &mut tile[..M::ROWS * count * GROUP];
                    self.0
                        .tile(panel, &acts[..count], block..(block + step).min(k), tile);
                    let (wanted, at) = overlap(first * GROUP, count * GROUP, &tokens);
                    for (token, at) in wanted.zip(at) {
                        let from = &tile[token * M::ROWS..][inside.clone()];
                        let to = &mut out[at * rows.len()..][to.clone()];
                        if block == 0 {
                            to.copy_from_slice(from);
                        } else {
                            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                        }
                    }
                }
            }
        }
    }
}

fn panel<M: Method>(weights: &DenseWeights, index: usize) -> Panel<'_> {
    let size = M::panel_bytes(weights.k);
    let scales = &weights.row_scales;
    let first = (index * M::ROWS).min(scales.len());
    Panel {
        bytes: &weights.data.bytes()[index * size..(index + 1) * size],
        scales: &scales[first..(first + M::ROWS).min(scales.len())],
        k: weights.k,
    }
}

/// The part of `first..first + len` that is `wanted`: where it is in the first range, and where in the second.
fn overlap(first: usize, len: usize, wanted: &Range<usize>) -> (Range<usize>, Range<usize>) {
    let start = first.max(wanted.start);
    let end = (first + len).min(wanted.end);
    (
        start - first..end - first,
        start - wanted.start..end - wanted.start,
    )
}

/// The kernel, if a small product comes out right.
pub(crate) fn open<M: Method>(method: M) -> Result<Box<dyn DenseKernel>, Unavailable> {
    let kernel = Dense(method);
    if probe(&kernel) {
        Ok(Box::new(kernel))
    } else {
        Err(Unavailable::Probe(M::INFO.isa))
    }
}

/// Runs every instruction of a kernel once: ternary weights of scale 1 times integers, one token and several.
fn probe<M: Method>(kernel: &Dense<M>) -> bool {
    let (rows, k) = (M::ROWS + 1, 67);
    let tokens = M::GROUPS * GROUP + 1;
    let weights: Vec<f32> = (0..rows * k)
        .map(|i| (i * i % 7 % 3) as f32 - 1.0)
        .collect();
    // Each token holds 127, so that a quantiser's scale is 1.
    let acts: Vec<f32> = (0..tokens * k)
        .map(|i| {
            if i % k == 5 {
                127.0
            } else {
                (i % 255) as f32 - 127.0
            }
        })
        .collect();
    let packed = kernel.pack(&weights, rows, k);
    let mut prepared = AlignedBuf::zeroed(tokens.div_ceil(GROUP) * M::group_bytes(k));
    kernel.prepare(
        &acts,
        tokens,
        k,
        0..tokens.div_ceil(GROUP),
        prepared.bytes_mut(),
    );
    let mut out = vec![f32::NAN; rows * tokens];
    for tokens in [0..tokens - 1, tokens - 1..tokens] {
        kernel.gemm(DenseArgs {
            weights: &packed,
            prepared: prepared.bytes(),
            rows: 0..rows,
            tokens: tokens.clone(),
            scratch: &mut [],
            out: &mut out[tokens.start * rows..tokens.end * rows],
        });
    }
    let bound = match M::INFO.format {
        DenseFormat::F32 | DenseFormat::F16 | DenseFormat::I8 => 0.0,
        DenseFormat::Q4 => 127.0 * k as f32 / 1024.0,
    };
    out.iter().enumerate().all(|(at, got)| {
        let (token, row) = (at / rows, at % rows);
        let (a, w) = (&acts[token * k..][..k], &weights[row * k..][..k]);
        let want: f32 = a.iter().zip(w).map(|(a, w)| a * w).sum();
        (got - want).abs() <= bound
    })
}
