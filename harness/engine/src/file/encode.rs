//! Floats into the smaller types that a head can have.
//!
//! Rounding is to the nearest code, ties to even; scales are the ones below and are not searched for, so a file that was quantized with
//! a search (ggml's) can be a little better.

use std::cmp::Ordering;

use half::f16;

use super::float::FloatType;

impl FloatType {
    /// Encodes whole blocks; `None` for the types that nothing here makes. A value that is not finite has no code: readers
    /// refuse such weights.
    ///
    /// # Panics
    /// When the lengths do not fit each other.
    pub(crate) fn encode(self, floats: &[f32], bytes: &mut [u8]) -> Option<()> {
        assert_eq!(self.row_bytes(floats.len()), Some(bytes.len()), "{self:?}");
        let (elements, size) = self.block();
        let blocks = floats
            .chunks_exact(elements)
            .zip(bytes.chunks_exact_mut(size));
        match self {
            Self::F16 => {
                blocks.for_each(|(x, out)| out.copy_from_slice(&f16::from_f32(x[0]).to_le_bytes()));
            }
            Self::Q4_0 => blocks.for_each(|(x, out)| q4_0(x, out)),
            Self::Q6K => blocks.for_each(|(x, out)| q6_k(x, out)),
            Self::F32 | Self::Bf16 | Self::Q8_0 => return None,
        }
        Some(())
    }
}

/// The value of the largest magnitude, with its sign, the first of several: it gets the lowest code, which has no positive counterpart.
fn extreme(x: &[f32]) -> f32 {
    let (mut low, mut high) = ([0.0f32; 4], [0.0f32; 4]);
    let (lanes, rest) = x.as_chunks::<4>();
    for x in lanes {
        for ((low, high), x) in low.iter_mut().zip(&mut high).zip(x) {
            *low = if x < low { *x } else { *low };
            *high = if x > high { *x } else { *high };
        }
    }
    let low = low.iter().chain(rest).copied().fold(0.0, f32::min);
    let high = high.iter().chain(rest).copied().fold(0.0, f32::max);
    match high.partial_cmp(&-low) {
        Some(Ordering::Less) => low,
        Some(Ordering::Greater) => high,
        // Both signs have it.
        _ => x.iter().copied().find(|x| x.abs() >= high).unwrap_or(0.0),
    }
}

/// Adding it leaves no bits for a fraction, and the sum is rounded to the nearest even: what `round_ties_even` gives, without a call.
const WHOLE: f32 = 12_582_912.0;

/// The code nearest to `x / d`, from `low` to `-low - 1`; 0 when there is no scale.
fn code(x: f32, d: f32, low: i8) -> i8 {
    let low = f32::from(low);
    let near = if d == 0.0 { 0.0 } else { x / d };
    // The last bits of the sum are the integer.
    (near.clamp(low, -low - 1.0) + WHOLE).to_bits() as i8
}

/// `d = extreme / −8`, rounded to half; 4-bit codes of −8 to 7, stored with 8 added.
fn q4_0(x: &[f32], out: &mut [u8]) {
    let d = f16::from_f32(extreme(x) / -8.0);
    out[..2].copy_from_slice(&d.to_le_bytes());
    let nibble = |x| (code(x, d.to_f32(), -8) + 8) as u8;
    for j in 0..16 {
        out[2 + j] = nibble(x[j]) | nibble(x[j + 16]) << 4;
    }
}

/// Each 16 numbers have a scale `extreme / −32`; the scales are int8 codes of the largest of them over −128, rounded to half; 6-bit
/// codes of −32 to 31, stored with 32 added. The layout is in `q6k_block` of the reader.
fn q6_k(x: &[f32], out: &mut [u8]) {
    let mut scales = [0.0f32; 16];
    for (scale, x) in scales.iter_mut().zip(x.chunks_exact(16)) {
        *scale = extreme(x) / -32.0;
    }
    let d = f16::from_f32(extreme(&scales) / -128.0);
    out.fill(0);
    out[208..].copy_from_slice(&d.to_le_bytes());
    for (part, (x, scale)) in x.chunks_exact(16).zip(scales).enumerate() {
        let scale = code(scale, d.to_f32(), -128);
        out[192 + part] = scale as u8;
        let (half, group, first) = (part / 8, part / 2 % 4, part % 2 * 16);
        for (l, x) in x.iter().enumerate() {
            let q = (code(*x, d.to_f32() * f32::from(scale), -32) + 32) as u8;
            out[64 * half + 32 * (group % 2) + first + l] |= (q & 15) << (4 * (group / 2));
            out[128 + 32 * half + first + l] |= (q >> 4) << (2 * group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that are not symmetric, one block of zeros among them.
    fn numbers(len: usize) -> Vec<f32> {
        (0..len)
            .map(|i| {
                let zeros = i / 32 == 1;
                let x = ((i * 7919) % 1000) as f32 / 1000.0 - 0.4;
                if zeros { 0.0 } else { x * 0.05 }
            })
            .collect()
    }

    fn round_trip(dtype: FloatType, x: &[f32]) -> Vec<f32> {
        let mut bytes = vec![0xa5; dtype.row_bytes(x.len()).unwrap()];
        dtype.encode(x, &mut bytes).unwrap();
        let mut out = vec![f32::NAN; x.len()];
        dtype.decode(&bytes, &mut out);
        out
    }

    #[test]
    fn codes_are_within_half_a_step_of_what_they_stand_for() {
        let x = numbers(1024);
        // Steps of a block: its extreme over 8 or 32, plus what the scale loses: an f16 half a part in 2,048, an int8 half a
        // step of 128 (more for small scales beside large ones).
        for (dtype, block, steps, slack) in [
            (FloatType::Q4_0, 32, 8.0, 1.1),
            (FloatType::Q6K, 16, 32.0, 1.6),
        ] {
            let back = round_trip(dtype, &x);
            for (x, back) in x.chunks(block).zip(back.chunks(block)) {
                // The code furthest on the other side of zero is cut off by one.
                let step = extreme(x).abs() / steps;
                for (x, back) in x.iter().zip(back) {
                    assert!(
                        (x - back).abs() <= slack * step,
                        "{dtype:?} {x} {back} {step}"
                    );
                }
                let error: f32 = x.iter().zip(back).map(|(x, b)| (x - b).abs()).sum();
                assert!(
                    error <= 0.4 * step * block as f32,
                    "{dtype:?} {error} {step}"
                );
            }
            assert_eq!(back[32..64], [0.0; 32], "{dtype:?}");
        }
    }

    #[test]
    fn a_decoded_block_is_encoded_to_itself() {
        let once = round_trip(FloatType::Q4_0, &numbers(256));
        assert_eq!(round_trip(FloatType::Q4_0, &once), once);
    }

    #[test]
    fn types_that_nothing_makes_are_none() {
        assert_eq!(FloatType::Q8_0.encode(&[0.0; 32], &mut [0; 34]), None);
    }
}
