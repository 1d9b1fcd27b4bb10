//! Ternary codes of every container, decoded row by row.
//!
//! A stored code `u` is `weight + 1`. `u = 3` means nothing and is refused.

use half::f16;

use super::float::FloatType;
use super::linear::Codes;

pub(crate) mod iq_bn;
pub(crate) mod tl;

/// Elements of a TQ block.
pub(crate) const TQ_BLOCK: usize = 256;
/// Bytes of a `TQ1_0` block: 48 bytes of five digits, 4 of four, an f16 scale.
pub(crate) const TQ1_BYTES: usize = 54;
/// Bytes of a `TQ2_0` block: 64 bytes of four codes, an f16 scale.
pub(crate) const TQ2_BYTES: usize = 66;
/// Bytes behind the codes of an `I2_S`, `TL1` or `TL2` tensor: an f32 scale and 28 unused ones.
pub(crate) const I2S_TAIL: usize = 32;

/// Writes row `row` of a matrix of `rows` rows. The error is the first column whose code means nothing.
pub(crate) fn read_row(
    codes: &Codes,
    rows: usize,
    row: usize,
    out: &mut [i8],
) -> Result<(), usize> {
    let k = out.len();
    match codes {
        Codes::I2s(bytes) => planes(&bytes.get()[row * k / 4..(row + 1) * k / 4], 32, out),
        Codes::I2sArm(bytes) => planes(&bytes.get()[row * k / 4..(row + 1) * k / 4], 16, out),
        Codes::HfPacked(bytes) => {
            let quarter = rows / 4;
            let (shift, at) = (2 * (row / quarter), row % quarter);
            for (out, byte) in out.iter_mut().zip(&bytes.get()[at * k..(at + 1) * k]) {
                *out = (byte >> shift & 3) as i8 - 1;
            }
        }
        Codes::Tq1(bytes) => {
            let size = k / TQ_BLOCK * TQ1_BYTES;
            let blocks = bytes.get()[row * size..(row + 1) * size].chunks_exact(TQ1_BYTES);
            for (out, block) in out.chunks_exact_mut(TQ_BLOCK).zip(blocks) {
                if block_scale(block) == f16::ZERO {
                    out.fill(0);
                } else {
                    tq1_block(block, out);
                }
            }
        }
        Codes::Tq2(bytes) => {
            let size = k / TQ_BLOCK * TQ2_BYTES;
            let blocks = bytes.get()[row * size..(row + 1) * size].chunks_exact(TQ2_BYTES);
            for (out, block) in out.chunks_exact_mut(TQ_BLOCK).zip(blocks) {
                if block_scale(block) == f16::ZERO {
                    out.fill(0);
                } else {
                    tq2_block(block, out);
                }
            }
        }
        Codes::Iq1Bn(bytes) => iq_bn::iq1_row(bytes.get(), row, out),
        Codes::Iq2Bn(bytes) => iq_bn::iq2_row(bytes.get(), row, out),
        Codes::Iq2BnR4(bytes) => iq_bn::iq2_r4_row(bytes.get(), row, out),
        Codes::Tl1 { bytes, tile } => tl::tl1_row(bytes.get(), tile, row, out),
        Codes::Tl2 { bytes, tile } => tl::tl2_row(bytes.get(), tile, row, out),
        Codes::Float {
            dtype,
            bytes,
            factor,
        } => {
            let size = bytes.len() / rows;
            let mut floats = [0.0; 256];
            let step = dtype.row_bytes(floats.len()).unwrap_or(size);
            let row = &bytes.get()[row * size..(row + 1) * size];
            for (out, bytes) in out.chunks_mut(floats.len()).zip(row.chunks(step)) {
                let floats = &mut floats[..out.len()];
                dtype.decode(bytes, floats);
                for (out, w) in out.iter_mut().zip(floats) {
                    *out = (*w * factor).round_ties_even().clamp(-1.0, 1.0) as i8;
                }
            }
            return Ok(());
        }
        Codes::Synthetic(seed) => {
            crate::synth::row_codes(*seed, row, out);
            return Ok(());
        }
    }
    // The loop without an exit vectorises; the column is looked for only when there is one.
    let worst = out.iter().fold(0, |worst: i8, code| worst.max(*code));
    if worst <= 1 {
        return Ok(());
    }
    Err(out.iter().position(|code| *code > 1).unwrap_or(0))
}

/// Blocks of `4 · lanes` codes in `lanes` bytes, four planes, the first one in the top bits.
fn planes(bytes: &[u8], lanes: usize, out: &mut [i8]) {
    for (out, bytes) in out
        .chunks_exact_mut(4 * lanes)
        .zip(bytes.chunks_exact(lanes))
    {
        let (a, rest) = out.split_at_mut(lanes);
        let (b, rest) = rest.split_at_mut(lanes);
        let (c, d) = rest.split_at_mut(lanes);
        for (p, byte) in bytes.iter().enumerate() {
            a[p] = (byte >> 6) as i8 - 1;
            b[p] = (byte >> 4 & 3) as i8 - 1;
            c[p] = (byte >> 2 & 3) as i8 - 1;
            d[p] = (byte & 3) as i8 - 1;
        }
    }
}

/// Five digits of base 3 a byte, stored as `ceil(v · 256 / 243)`; the digit `n` is the integer part of
/// `3 · frac(q · 3^n / 256)`. Every byte decodes to digits in 0..=2.
fn tq1_block(block: &[u8], out: &mut [i8]) {
    let digit = |q: u8, n: usize| {
        const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
        ((u16::from(q.wrapping_mul(POWERS[n])) * 3) >> 8) as i8 - 1
    };
    for n in 0..5 {
        for m in 0..32 {
            out[32 * n + m] = digit(block[m], n);
        }
        for m in 0..16 {
            out[160 + 16 * n + m] = digit(block[32 + m], n);
        }
    }
    for n in 0..4 {
        for j in 0..4 {
            out[240 + 4 * n + j] = digit(block[48 + j], n);
        }
    }
}

/// Two halves of 128 weights; byte `m` of a half holds the weights `m + 32·l` at bits `2·l`.
fn tq2_block(block: &[u8], out: &mut [i8]) {
    for (half, out) in out.chunks_exact_mut(128).enumerate() {
        for (m, byte) in block[32 * half..32 * half + 32].iter().enumerate() {
            for l in 0..4 {
                out[m + 32 * l] = (byte >> (2 * l) & 3) as i8 - 1;
            }
        }
    }
}

/// The one scale of a TQ matrix, whose blocks carry one each.
pub(crate) fn tq_scale(bytes: &[u8], block_bytes: usize) -> Result<f32, String> {
    let scales = bytes.chunks_exact(block_bytes);
    one_scale(scales.map(|block| block_scale(block).to_f32()), "block")
}

/// The one scale of a matrix whose blocks or rows (`part`) carry one each: all that are not zero must agree, because integer
/// sums over a row cannot carry more than one, and kernels scale whole matrices. Parts of scale zero are weights of zero.
pub(crate) fn one_scale(scales: impl Iterator<Item = f32>, part: &str) -> Result<f32, String> {
    let mut scale: Option<f32> = None;
    for (index, d) in scales.enumerate() {
        if !d.is_finite() {
            return Err(format!("the scale of {part} {index} is {d}"));
        }
        // To the bit; zeros of both signs are zeros.
        let zero = d.abs().to_bits() == 0;
        match scale {
            None if !zero => scale = Some(d),
            Some(first) if !zero && d.to_bits() != first.to_bits() => {
                return Err(format!(
                    "its {part}s have different scales ({first}, and {d} in {part} {index}), which one scale a matrix cannot express"
                ));
            }
            _ => {}
        }
    }
    // A matrix of zeros: any scale gives the same result.
    Ok(scale.unwrap_or(1.0))
}

fn block_scale(block: &[u8]) -> f16 {
    let (_, tail) = block.split_at(block.len() - 2);
    f16::from_le_bytes([tail[0], tail[1]])
}

/// What the first pass over a matrix of floats learns.
pub(crate) struct FloatStats {
    /// Mean of |w|, summed in f64 in row-major order as [`trit_kernel::absmean_codes`] does.
    pub(crate) mean: f32,
    /// Largest |w|.
    pub(crate) max: f32,
    /// Whether every weight is 0 or ± the largest.
    pub(crate) ternary: bool,
}

/// Reads a matrix of floats once. `None` when a weight is not finite.
pub(crate) fn float_stats(dtype: FloatType, bytes: &[u8]) -> Option<FloatStats> {
    let mut floats = [0.0f32; 1024];
    let (_, size) = dtype.block();
    let mut sum = 0.0f64;
    let mut max = 0.0f32;
    let mut ternary = true;
    let mut count = 0usize;
    for part in bytes.chunks(size * floats.len()) {
        let floats = &mut floats[..part.len() / size];
        dtype.decode(part, floats);
        for w in floats.iter() {
            let w = w.abs();
            if !w.is_finite() {
                return None;
            }
            sum += f64::from(w);
            if w > max {
                // A smaller weight came before, unless all were zero.
                ternary &= max.to_bits() == 0;
                max = w;
            } else if w < max && w.to_bits() != 0 {
                ternary = false;
            }
        }
        count += floats.len();
    }
    Some(FloatStats {
        mean: (sum / count.max(1) as f64) as f32,
        max,
        ternary,
    })
}

#[cfg(test)]
mod tests;
