//! Operations of the model that candle lacks, or runs on one thread in several passes.
//!
//! Each has a forward and a backward pass here; candle strings them together. The two quantizers pass gradients straight
//! through, as the published recipe does. Rows are split between threads, and every sum is over one row or over rows in
//! their order, so that results do not depend on the number of threads.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Device, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// The floats of a contiguous operand.
fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((from, to)) = layout.contiguous_offsets() else {
        bail!("operand is not contiguous: {layout:?}");
    };
    Ok(&storage.as_slice::<f32>()?[from..to])
}

/// Calls `work` with the floats of a tensor.
///
/// # Errors
/// When it is not of f32, or `work` fails.
pub fn with_floats<T>(tensor: &Tensor, work: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(storage) => work(floats(storage, layout)?),
        _ => bail!("tensor is not on the CPU"),
    }
}

fn tensor(data: Vec<f32>, shape: &Shape) -> Result<Tensor> {
    Tensor::from_vec(data, shape, &Device::Cpu)
}

/// Fills rows of `width` floats from rows of `x`, in parallel.
fn map_rows(
    x: &[f32],
    width: usize,
    out_width: usize,
    work: impl Fn(usize, &[f32], &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut out = vec![0.0; x.len() / width * out_width];
    out.par_chunks_mut(out_width)
        .zip(x.par_chunks(width))
        .enumerate()
        .with_min_len(32)
        .for_each(|(row, (out, x))| work(row, x, out));
    out
}

/// Fills rows of `width` floats from the same rows of `x` and of `y`, in parallel.
fn zip_rows(
    (x, x_width): (&[f32], usize),
    (y, y_width): (&[f32], usize),
    out_width: usize,
    work: impl Fn(usize, &[f32], &[f32], &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut out = vec![0.0; x.len() / x_width * out_width];
    out.par_chunks_mut(out_width)
        .zip(x.par_chunks(x_width).zip(y.par_chunks(y_width)))
        .enumerate()
        .with_min_len(32)
        .for_each(|(row, (out, (x, y)))| work(row, x, y, out));
    out
}

/// Sum in 16 lanes: fast, and the same on every machine.
fn sum(values: impl Iterator<Item = f32>) -> f32 {
    let mut lanes = [0.0f32; 16];
    for (i, value) in values.enumerate() {
        lanes[i % 16] += value;
    }
    lanes.iter().sum()
}

fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (x16, x_rest) = x.as_chunks::<16>();
    let (y16, y_rest) = y.as_chunks::<16>();
    for (x, y) in x16.iter().zip(y16) {
        for i in 0..16 {
            lanes[i] += x[i] * y[i];
        }
    }
    lanes.iter().sum::<f32>() + sum(x_rest.iter().zip(y_rest).map(|(x, y)| x * y))
}

/// Rounds half to even, for magnitudes below 2^22: what a float cannot hold beside 1.5 · 2^23 is rounded away. A call of the
/// library's function would be slow where the target has no instruction for it.
fn round(x: f32) -> f32 {
    const LARGE: f32 = 12_582_912.0;
    (x + LARGE) - LARGE
}

/// `RMSNorm` over rows: `x / sqrt(mean(x²) + eps) · w`.
pub struct RmsNorm {
    /// What is added to the mean square.
    pub eps: f32,
}

impl RmsNorm {
    fn inverse(&self, x: &[f32]) -> f32 {
        1.0 / (dot(x, x) / x.len() as f32 + self.eps).sqrt()
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (floats(x, x_layout)?, floats(w, w_layout)?);
        let out = map_rows(x, w.len(), w.len(), |_, x, out| {
            let inverse = self.inverse(x);
            for ((out, x), w) in out.iter_mut().zip(x).zip(w) {
                *out = x * inverse * w;
            }
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        with_floats(x, |xs| {
            with_floats(w, |ws| {
                with_floats(grad, |gs| {
                    let k = ws.len();
                    // With n = x · r: dx = r (g·w − n · mean(g·w·n)), dw = Σ g·n.
                    let dx = zip_rows((xs, k), (gs, k), k, |_, x, g, out| {
                        let inverse = self.inverse(x);
                        for ((out, g), w) in out.iter_mut().zip(g).zip(ws) {
                            *out = g * w;
                        }
                        let mean = dot(out, x) * inverse * inverse / k as f32;
                        for (out, x) in out.iter_mut().zip(x) {
                            *out = inverse * (*out - x * mean);
                        }
                    });
                    // Blocks of a fixed number of rows, added in their order.
                    let block = 64 * k;
                    let parts: Vec<Vec<f32>> = xs
                        .par_chunks(block)
                        .zip(gs.par_chunks(block))
                        .map(|(x, g)| {
                            let mut part = vec![0.0; k];
                            for (x, g) in x.chunks_exact(k).zip(g.chunks_exact(k)) {
                                let inverse = self.inverse(x);
                                for ((part, x), g) in part.iter_mut().zip(x).zip(g) {
                                    *part += g * x * inverse;
                                }
                            }
                            part
                        })
                        .collect();
                    let mut dw = vec![0.0; k];
                    for part in parts {
                        for (dw, part) in dw.iter_mut().zip(part) {
                            *dw += part;
                        }
                    }
                    Ok((Some(tensor(dx, x.shape())?), Some(tensor(dw, w.shape())?)))
                })
            })
        })
    }
}

/// Absmax int8 quantization of every row, back to floats: `round(x · s) / s` with `s = 127 / max(max|x|, 1e-5)`.
/// The gradient passes straight through.
pub struct QuantizeActivations;

impl CustomOp1 for QuantizeActivations {
    fn name(&self) -> &'static str {
        "quantize-activations"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let k = layout.dims()[layout.dims().len() - 1];
        let out = map_rows(floats(x, layout)?, k, k, |_, x, out| {
            let scale = trit_kernel::activation_scale(x);
            // At most 127 in magnitude already, so that the clamp of the definition changes nothing.
            for (out, x) in out.iter_mut().zip(x) {
                *out = round(x * scale) / scale;
            }
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.clone()))
    }
}

/// Absmean ternary quantization of a matrix, back to floats. The gradient passes straight through.
pub struct QuantizeWeights;

impl CustomOp1 for QuantizeWeights {
    fn name(&self) -> &'static str {
        "quantize-weights"
    }

    fn cpu_fwd(&self, w: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let w = floats(w, layout)?;
        let total: f64 = w.iter().map(|w| f64::from(w.abs())).sum();
        let mean = (total / w.len() as f64) as f32;
        let s = 1.0 / mean.max(trit_kernel::ABSMAX_FLOOR);
        let scale = 1.0 / s;
        let out = w
            .iter()
            .map(|w| round((w * s).clamp(-1.0, 1.0)) * scale)
            .collect();
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.clone()))
    }
}

/// Rows of gate and up side by side become `relu(gate)² · up`.
pub struct Relu2Mul;

impl CustomOp1 for Relu2Mul {
    fn name(&self) -> &'static str {
        "relu2-mul"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        let out = map_rows(floats(x, layout)?, width, width / 2, |_, x, out| {
            let (gate, up) = x.split_at(width / 2);
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                let gate = gate.max(0.0);
                *out = gate * gate * up;
            }
        });
        Ok((CpuStorage::F32(out), Shape::from((rows, width / 2))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, width) = x.dims2()?;
        with_floats(x, |xs| {
            with_floats(grad, |gs| {
                let half = width / 2;
                let out = zip_rows((xs, width), (gs, half), width, |_, x, g, out| {
                    let (gate, up) = x.split_at(half);
                    let (d_gate, d_up) = out.split_at_mut(half);
                    for i in 0..half {
                        let gate = gate[i].max(0.0);
                        d_gate[i] = 2.0 * gate * up[i] * g[i];
                        d_up[i] = gate * gate * g[i];
                    }
                });
                Ok(Some(tensor(out, x.shape())?))
            })
        })
    }
}

/// How queries, keys and values lie in a row.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Positions of a sequence.
    pub positions: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Floats of a head; a multiple of two.
    pub dim: usize,
}

impl Heads {
    /// Floats of a row of queries, keys and values.
    pub fn width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.dim
    }

    /// Where head `head` of a row goes: its offset within the sequence's part, in heads. Queries come first, those that share
    /// a key head together, then keys, then values.
    fn part(&self, head: usize) -> Part {
        if head < self.heads {
            Part::Queries(head)
        } else if head < self.heads + self.kv_heads {
            Part::Keys(head - self.heads)
        } else {
            Part::Values(head - self.heads - self.kv_heads)
        }
    }

    /// Floats of all queries, and of all keys, of `rows` rows.
    pub fn lengths(&self, rows: usize) -> (usize, usize) {
        (
            rows * self.heads * self.dim,
            rows * self.kv_heads * self.dim,
        )
    }

    /// Where the floats of `head` at a row of the input stand in the output.
    fn offset(&self, rows: usize, row: usize, head: usize) -> usize {
        let (sequence, position) = (row / self.positions, row % self.positions);
        let (queries, keys) = self.lengths(rows);
        let (start, heads, head) = match self.part(head) {
            Part::Queries(head) => (0, self.heads, head),
            Part::Keys(head) => (queries, self.kv_heads, head),
            Part::Values(head) => (queries + keys, self.kv_heads, head),
        };
        start + ((sequence * heads + head) * self.positions + position) * self.dim
    }
}

enum Part {
    Queries(usize),
    Keys(usize),
    Values(usize),
}

/// Rows of queries, keys and values become three blocks `[sequence][head][position][dim]`, one behind the other in one
/// vector; queries and keys are rotated to their positions (pairs `i` and `i + dim / 2`).
pub struct SplitHeads {
    /// The layout of a row.
    pub heads: Heads,
    /// Cosines, then sines, of `[position][dim / 2]`.
    pub rotation: Arc<[Vec<f32>; 2]>,
}

/// Cosines and sines of the rotation: angle `position · base^(-2 i / dim)`.
pub fn rotation(positions: usize, dim: usize, base: f32) -> [Vec<f32>; 2] {
    let angle = |position: usize, i: usize| {
        position as f64 * f64::from(base).powf(-2.0 * i as f64 / dim as f64)
    };
    let table = |f: fn(f64) -> f64| {
        (0..positions)
            .flat_map(|p| (0..dim / 2).map(move |i| f(angle(p, i)) as f32))
            .collect()
    };
    [table(f64::cos), table(f64::sin)]
}

impl SplitHeads {
    /// Rotates `from` into `to` by the angle of `position`, or back.
    fn rotate(&self, position: usize, back: bool, from: &[f32], to: &mut [f32]) {
        let half = self.heads.dim / 2;
        let cos = &self.rotation[0][position * half..][..half];
        let sin = &self.rotation[1][position * half..][..half];
        let sign = if back { -1.0 } else { 1.0 };
        for i in 0..half {
            let (a, b, sin) = (from[i], from[i + half], sign * sin[i]);
            to[i] = a * cos[i] - b * sin;
            to[i + half] = b * cos[i] + a * sin;
        }
    }

    fn rotated(&self, head: usize) -> bool {
        head < self.heads.heads + self.heads.kv_heads
    }
}

impl CustomOp1 for SplitHeads {
    fn name(&self) -> &'static str {
        "split-heads"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let h = self.heads;
        let (rows, width) = layout.shape().dims2()?;
        let x = floats(x, layout)?;
        let mut out = vec![0.0; x.len()];
        for (row, x) in x.chunks_exact(width).enumerate() {
            for (head, x) in x.chunks_exact(h.dim).enumerate() {
                let to = &mut out[h.offset(rows, row, head)..][..h.dim];
                if self.rotated(head) {
                    self.rotate(row % h.positions, false, x, to);
                } else {
                    to.copy_from_slice(x);
                }
            }
        }
        let len = out.len();
        Ok((CpuStorage::F32(out), Shape::from(len)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let h = self.heads;
        let (rows, width) = x.dims2()?;
        with_floats(grad, |grad| {
            let mut out = vec![0.0; rows * width];
            for (row, out) in out.chunks_exact_mut(width).enumerate() {
                for (head, out) in out.chunks_exact_mut(h.dim).enumerate() {
                    let from = &grad[h.offset(rows, row, head)..][..h.dim];
                    if self.rotated(head) {
                        self.rotate(row % h.positions, true, from, out);
                    } else {
                        out.copy_from_slice(from);
                    }
                }
            }
            Ok(Some(tensor(out, x.shape())?))
        })
    }
}

/// `[sequence][head][position][dim]` becomes rows of all heads side by side.
pub struct MergeHeads {
    /// The layout of the queries.
    pub heads: Heads,
}

impl CustomOp1 for MergeHeads {
    fn name(&self) -> &'static str {
        "merge-heads"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let h = self.heads;
        let x = floats(x, layout)?;
        let width = h.heads * h.dim;
        let rows = x.len() / width;
        let mut out = vec![0.0; x.len()];
        for (row, out) in out.chunks_exact_mut(width).enumerate() {
            for (head, out) in out.chunks_exact_mut(h.dim).enumerate() {
                out.copy_from_slice(&x[h.offset(rows, row, head)..][..h.dim]);
            }
        }
        Ok((CpuStorage::F32(out), Shape::from((rows, width))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let h = self.heads;
        let (rows, width) = grad.dims2()?;
        with_floats(grad, |grad| {
            let mut out = vec![0.0; grad.len()];
            for (row, grad) in grad.chunks_exact(width).enumerate() {
                for (head, grad) in grad.chunks_exact(h.dim).enumerate() {
                    out[h.offset(rows, row, head)..][..h.dim].copy_from_slice(grad);
                }
            }
            Ok(Some(tensor(out, x.shape())?))
        })
    }
}

/// Causal softmax of rows of scores times `scale`: row `r` belongs to position `r mod positions` and sees the columns up to it.
pub struct CausalSoftmax {
    /// Positions of a sequence, and columns of a row.
    pub positions: usize,
    /// What scores are multiplied with.
    pub scale: f32,
}

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let n = self.positions;
        let out = map_rows(floats(x, layout)?, n, n, |row, x, out| {
            let seen = row % n + 1;
            softmax(&x[..seen], self.scale, &mut out[..seen]);
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let n = self.positions;
        with_floats(result, |p| {
            with_floats(grad, |g| {
                let out = zip_rows((p, n), (g, n), n, |row, p, g, out| {
                    let seen = row % n + 1;
                    let mean = dot(&p[..seen], &g[..seen]);
                    for ((out, p), g) in out[..seen].iter_mut().zip(p).zip(g) {
                        *out = self.scale * p * (g - mean);
                    }
                });
                Ok(Some(tensor(out, result.shape())?))
            })
        })
    }
}

/// `exp(scale · (x − max))`, divided by its sum. Returns the logarithm of the sum of `exp(scale · x)`.
fn softmax(x: &[f32], scale: f32, out: &mut [f32]) -> f32 {
    let max = x.iter().fold(f32::NEG_INFINITY, |max, x| max.max(*x));
    for (out, x) in out.iter_mut().zip(x) {
        *out = (scale * (x - max)).exp();
    }
    let total = sum(out.iter().copied());
    let inverse = 1.0 / total;
    for out in out {
        *out *= inverse;
    }
    scale * max + total.ln()
}

/// Negative log-likelihood (natural logarithm) of every row's target.
///
/// # Panics
/// When a target is outside of the row.
pub fn negative_log_likelihood(logits: &[f32], targets: &[u32]) -> Vec<f32> {
    let vocab = logits.len() / targets.len();
    map_rows(logits, vocab, 1, |row, x, out| {
        let mut scratch = vec![0.0; vocab];
        out[0] = softmax(x, 1.0, &mut scratch) - x[targets[row] as usize];
    })
}

/// Mean cross entropy of rows of logits.
pub struct CrossEntropy {
    /// The right token of each row.
    pub targets: Arc<Vec<u32>>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let nll = negative_log_likelihood(floats(x, layout)?, &self.targets);
        let total: f64 = nll.iter().map(|x| f64::from(*x)).sum();
        let mean = (total / nll.len() as f64) as f32;
        Ok((CpuStorage::F32(vec![mean]), Shape::from(())))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (rows, vocab) = x.dims2()?;
        let factor = grad.to_scalar::<f32>()? / rows as f32;
        with_floats(x, |xs| {
            let out = map_rows(xs, vocab, vocab, |row, x, out| {
                softmax(x, 1.0, out);
                out[self.targets[row] as usize] -= 1.0;
                for out in out {
                    *out *= factor;
                }
            });
            Ok(Some(tensor(out, x.shape())?))
        })
    }
}

/// Zeroes a share of the values and scales the others up. Which ones depends on the seed and the place alone.
pub struct Dropout {
    /// Share of zeroes.
    pub share: f32,
    /// Another seed is another choice.
    pub seed: u64,
}

impl Dropout {
    fn apply(&self, x: &[f32]) -> Vec<f32> {
        const BLOCK: usize = 4096;
        let limit = (f64::from(self.share) * 65_536.0) as u64;
        let factor = 65_536.0 / (65_536 - limit) as f32;
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(BLOCK)
            .zip(x.par_chunks(BLOCK))
            .enumerate()
            .for_each(|(block, (out, x))| {
                for (four, (out, x)) in out.chunks_mut(4).zip(x.chunks(4)).enumerate() {
                    // 16 bits of one mix for each of four neighbours.
                    let mut bits = crate::rng::mix(
                        self.seed ^ crate::rng::mix((block * BLOCK / 4 + four) as u64),
                    );
                    for (out, x) in out.iter_mut().zip(x) {
                        *out = if bits & 0xffff < limit {
                            0.0
                        } else {
                            x * factor
                        };
                        bits >>= 16;
                    }
                }
            });
        out
    }
}

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = self.apply(floats(x, layout)?);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        with_floats(grad, |g| Ok(Some(tensor(self.apply(g), grad.shape())?)))
    }
}
