//! Ternary codes in the bytes of each format; the inverse of the readers in `file/ternary`.

use half::f16;
use trit_kernel::{Codes, LayoutId, Packed};

use super::LinearType;
use crate::file::TQ_BLOCK;

/// Writes `rows` rows of `k` codes as `dtype`; `scale` is the f16 that goes with blocks and floats, where the type has one.
///
/// # Panics
/// When `out` has another size than [`LinearType::row_bytes`] says, or the codes are none.
pub(super) fn encode(dtype: LinearType, codes: &[i8], k: usize, scale: f16, out: &mut [u8]) {
    match dtype {
        LinearType::F16 => {
            let minus = f16::from_f32(-scale.to_f32());
            for (out, code) in out.chunks_exact_mut(2).zip(codes) {
                let value = match code {
                    0 => f16::ZERO,
                    1 => scale,
                    _ => minus,
                };
                out.copy_from_slice(&value.to_le_bytes());
            }
        }
        LinearType::I2s => {
            let codes = Codes::new(codes, codes.len() / k, k).expect("readers give codes alone");
            Packed::pack_into(codes, LayoutId::I2S, out);
        }
        LinearType::Tq1 => {
            let size = crate::file::TQ1_BYTES;
            for (block, out) in codes.chunks_exact(TQ_BLOCK).zip(out.chunks_exact_mut(size)) {
                tq1_block(block, scale, out);
            }
        }
        LinearType::Tq2 => {
            let size = crate::file::TQ2_BYTES;
            for (block, out) in codes.chunks_exact(TQ_BLOCK).zip(out.chunks_exact_mut(size)) {
                tq2_block(block, scale, out);
            }
        }
    }
}

/// 32 bytes of the digits `m + 32·n`, 16 of `160 + m + 16·n`, four of `240 + j + 4·n`, the scale. Five digits are a number `v` in
/// base 3, the first the most significant, stored as `ceil(256 · v / 243)`; the last four bytes have a fifth digit of 0.
fn tq1_block(codes: &[i8], scale: f16, out: &mut [u8]) {
    let byte = |first: usize, step: usize, digits: usize| {
        let value = (0..5).fold(0u32, |value, n| {
            let digit = if n < digits {
                (codes[first + step * n] + 1) as u32
            } else {
                0
            };
            3 * value + digit
        });
        (value * 256).div_ceil(243) as u8
    };
    for m in 0..32 {
        out[m] = byte(m, 32, 5);
    }
    for m in 0..16 {
        out[32 + m] = byte(160 + m, 16, 5);
    }
    for j in 0..4 {
        out[48 + j] = byte(240 + j, 4, 4);
    }
    out[52..].copy_from_slice(&scale.to_le_bytes());
}

/// Two halves of 32 bytes; byte `m` holds the codes `m + 32·l` of its half at bits `2·l`; the scale.
fn tq2_block(codes: &[i8], scale: f16, out: &mut [u8]) {
    for (half, codes) in codes.chunks_exact(128).enumerate() {
        for m in 0..32 {
            out[32 * half + m] = (0..4).fold(0, |byte, l| {
                byte | ((codes[m + 32 * l] + 1) as u8) << (2 * l)
            });
        }
    }
    out[64..].copy_from_slice(&scale.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(dtype: LinearType, bytes: usize) -> String {
        use std::fmt::Write;
        let codes: Vec<i8> = (0..256).map(|c| (17 * c % 3) as i8 - 1).collect();
        let mut out = vec![0; bytes];
        encode(dtype, &codes, 256, f16::from_f32(0.5), &mut out);
        out.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The first row of the pattern that the readers' vectors are made of: bytes of other implementations.
    #[test]
    fn blocks_have_the_bytes_of_other_implementations() {
        let tq1 = encoded(LinearType::Tq1, 54);
        assert!(tq1.starts_with("31bb9431bb9431bb9431bb9431bb9431"), "{tq1}");
        assert!(tq1.ends_with("cf6c45cf6c45cf6c45cf43ce6c430038"), "{tq1}");
        let tq2 = encoded(LinearType::Tq2, 66);
        assert!(tq2.starts_with("24924924924924924924924924924924"), "{tq2}");
        assert!(tq2.ends_with("49249249249249249249249249240038"), "{tq2}");
        let i2s = encoded(LinearType::I2s, 64);
        assert!(i2s.starts_with("18866118866118866118866118866118"), "{i2s}");
        let f16 = encoded(LinearType::F16, 512);
        assert!(f16.starts_with("00b800380000"), "{f16}");
    }
}
