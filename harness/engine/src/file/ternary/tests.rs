//! Byte vectors for every ternary format: an encoder for each, its bytes compared with known ones, and read back.
//!
//! The weights are `w(r, c) = ((31·r + 17·c + (r·c) mod 7) mod 3) − 1`, the scale is 0.5. The expected bytes were made
//! with other implementations of the formats.

use super::*;
use crate::file::bytes::Bytes;

pub(super) fn weight(r: usize, c: usize) -> i8 {
    ((31 * r + 17 * c + (r * c) % 7) % 3) as i8 - 1
}

pub(super) fn weights(rows: usize, k: usize) -> Vec<i8> {
    (0..rows * k).map(|i| weight(i / k, i % k)).collect()
}

pub(super) fn code(weight: i8) -> u8 {
    (weight + 1) as u8
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Compares size, both ends and the hash of all bytes.
pub(super) fn check_bytes(bytes: &[u8], len: usize, first: &str, last: &str, hash: u64) {
    assert_eq!(bytes.len(), len);
    assert_eq!(hex(&bytes[..16]), first);
    assert_eq!(hex(&bytes[len - 16..]), last);
    assert_eq!(fnv1a(bytes), hash, "{:016x}", fnv1a(bytes));
}

/// Reads every row back and compares it with the weights.
pub(super) fn check_codes(codes: &Codes, rows: usize, k: usize) {
    let mut out = vec![9; k];
    for r in 0..rows {
        read_row(codes, rows, r, &mut out).unwrap();
        let want: Vec<i8> = (0..k).map(|c| weight(r, c)).collect();
        assert_eq!(out, want, "row {r}");
    }
}

fn encode_i2s(w: &[i8], lanes: usize, scale: f32) -> Vec<u8> {
    let mut out = Vec::new();
    for block in w.chunks_exact(4 * lanes) {
        for p in 0..lanes {
            out.push((0..4).fold(0, |byte, plane| byte << 2 | code(block[plane * lanes + p])));
        }
    }
    out.extend(scale.to_le_bytes());
    out.extend([0; I2S_TAIL - 4]);
    out
}

fn encode_hf(w: &[i8], rows: usize, k: usize) -> Vec<u8> {
    let quarter = rows / 4;
    (0..quarter * k)
        .map(|at| {
            (0..4).fold(0, |byte, i| {
                byte | code(w[(i * quarter) * k + at]) << (2 * i)
            })
        })
        .collect()
}

fn encode_tq1(w: &[i8], d: f32) -> Vec<u8> {
    let mut out = Vec::new();
    let pack = |digits: &[u8]| {
        let padded = digits.iter().copied().chain([0; 5]).take(5);
        let value = padded.fold(0u32, |v, digit| 3 * v + u32::from(digit));
        (value * 256).div_ceil(243) as u8
    };
    for block in w.chunks_exact(TQ_BLOCK) {
        let digits = |first: usize, step: usize, count: usize| -> Vec<u8> {
            (0..count).map(|n| code(block[first + step * n])).collect()
        };
        out.extend((0..32).map(|m| pack(&digits(m, 32, 5))));
        out.extend((0..16).map(|m| pack(&digits(160 + m, 16, 5))));
        out.extend((0..4).map(|j| pack(&digits(240 + j, 4, 4))));
        out.extend(f16::from_f32(d).to_le_bytes());
    }
    out
}

fn encode_tq2(w: &[i8], d: f32) -> Vec<u8> {
    let mut out = Vec::new();
    for block in w.chunks_exact(TQ_BLOCK) {
        for half in block.chunks_exact(128) {
            out.extend(
                (0..32).map(|m| (0..4).fold(0, |byte, l| byte | code(half[m + 32 * l]) << (2 * l))),
            );
        }
        out.extend(f16::from_f32(d).to_le_bytes());
    }
    out
}

#[test]
fn i2s_in_blocks_of_128() {
    let bytes = encode_i2s(&weights(4, 256), 32, 0.5);
    check_bytes(
        &bytes,
        288,
        "18866118866118866118866118866118",
        "00000000000000000000000000000000",
        0xec5c_daeb_8207_ef5e,
    );
    let body = Bytes::from_vec(bytes[..256].to_vec());
    check_codes(&Codes::I2s(body), 4, 256);
    // The project's own layout of the same name has the same bytes.
    let packed = trit_kernel::Packed::pack(
        trit_kernel::Codes::new(&weights(4, 256), 4, 256).unwrap(),
        trit_kernel::LayoutId::I2S,
        trit_kernel::Scales::Tensor(0.5),
    )
    .unwrap();
    assert_eq!(packed.bytes(), &bytes[..256]);
}

#[test]
fn i2s_in_blocks_of_64() {
    let bytes = encode_i2s(&weights(4, 256), 16, 0.5);
    check_bytes(
        &bytes,
        288,
        "24924924924924924924924924924924",
        "00000000000000000000000000000000",
        0x2949_2c09_534c_d7ab,
    );
    check_codes(
        &Codes::I2sArm(Bytes::from_vec(bytes[..256].to_vec())),
        4,
        256,
    );
}

#[test]
fn hugging_face_packing_of_four_rows() {
    let bytes = encode_hf(&weights(8, 16), 8, 16);
    check_bytes(
        &bytes,
        32,
        "18920548aa21548649a0265598026124",
        "6109854915995518a460248044008652",
        0x6b84_e840_a8c8_0889,
    );
    check_codes(&Codes::HfPacked(Bytes::from_vec(bytes)), 8, 16);
}

#[test]
fn tq1_0() {
    let bytes = encode_tq1(&weights(1, 256), 0.5);
    check_bytes(
        &bytes,
        54,
        "31bb9431bb9431bb9431bb9431bb9431",
        "cf6c45cf6c45cf6c45cf43ce6c430038",
        0x825c_4ed4_82a0_bab2,
    );
    assert_eq!(tq_scale(&bytes, TQ1_BYTES), Ok(0.5));
    check_codes(&Codes::Tq1(Bytes::from_vec(bytes)), 1, 256);
    let rows = encode_tq1(&weights(3, 512), 0.5);
    check_codes(&Codes::Tq1(Bytes::from_vec(rows)), 3, 512);
}

#[test]
fn tq2_0() {
    let bytes = encode_tq2(&weights(1, 256), 0.5);
    check_bytes(
        &bytes,
        66,
        "24924924924924924924924924924924",
        "49249249249249249249249249240038",
        0x434f_94f9_09af_acf2,
    );
    assert_eq!(tq_scale(&bytes, TQ2_BYTES), Ok(0.5));
    check_codes(&Codes::Tq2(Bytes::from_vec(bytes)), 1, 256);
    let rows = encode_tq2(&weights(3, 512), 0.5);
    check_codes(&Codes::Tq2(Bytes::from_vec(rows)), 3, 512);
}

#[test]
fn every_byte_of_five_digits_decodes_to_what_was_encoded() {
    for value in 0..243u32 {
        let mut block = vec![0u8; TQ1_BYTES];
        block[0] = (value * 256).div_ceil(243) as u8;
        block[TQ1_BYTES - 1] = 0x3c;
        let mut out = [0; TQ_BLOCK];
        tq1_block(&block, &mut out);
        let got = (0..5).fold(0, |v, n| 3 * v + (out[32 * n] + 1) as u32);
        assert_eq!(got, value);
    }
}

#[test]
fn blocks_of_scale_zero_are_zeros_and_other_scales_must_agree() {
    for (size, encode) in [
        (TQ1_BYTES, encode_tq1 as fn(&[i8], f32) -> Vec<u8>),
        (TQ2_BYTES, encode_tq2),
    ] {
        let mut bytes = encode(&weights(1, 768), 0.5);
        let scale = |bytes: &mut [u8], block: usize, d: f32| {
            let at = (block + 1) * size;
            bytes[at - 2..at].copy_from_slice(&f16::from_f32(d).to_le_bytes());
        };
        scale(&mut bytes, 1, 0.0);
        assert_eq!(tq_scale(&bytes, size), Ok(0.5));
        let held = Bytes::from_vec(bytes.clone());
        let codes = if size == TQ1_BYTES {
            Codes::Tq1(held)
        } else {
            Codes::Tq2(held)
        };
        let mut out = vec![9; 768];
        read_row(&codes, 1, 0, &mut out).unwrap();
        assert!(out[256..512].iter().all(|w| *w == 0));
        assert_eq!(out[512], weight(0, 512));
        scale(&mut bytes, 2, 0.25);
        let err = tq_scale(&bytes, size).unwrap_err();
        assert!(
            err.contains("0.5") && err.contains("0.25 in block 2"),
            "{err}"
        );
        scale(&mut bytes, 2, f32::NAN);
        assert!(
            tq_scale(&bytes, size)
                .unwrap_err()
                .contains("block 2 is NaN")
        );
        for block in 0..3 {
            scale(&mut bytes, block, 0.0);
        }
        assert_eq!(tq_scale(&bytes, size), Ok(1.0));
    }
}

#[test]
fn the_code_that_means_nothing_is_found() {
    let w = weights(4, 256);
    let mut i2s = encode_i2s(&w, 32, 0.5);
    i2s.truncate(256);
    // Row 2, block 1, byte 5, third plane: column 128 + 64 + 5.
    i2s[2 * 64 + 32 + 5] |= 0b1100;
    let mut out = vec![0; 256];
    let codes = Codes::I2s(Bytes::from_vec(i2s));
    assert_eq!(read_row(&codes, 4, 1, &mut out), Ok(()));
    assert_eq!(read_row(&codes, 4, 2, &mut out), Err(197));
    let mut hf = encode_hf(&weights(8, 16), 8, 16);
    // Byte row 1, bits 4: row 2·2 + 1.
    hf[16 + 3] |= 0b11_0000;
    let codes = Codes::HfPacked(Bytes::from_vec(hf));
    let mut out = vec![0; 16];
    assert_eq!(read_row(&codes, 8, 4, &mut out), Ok(()));
    assert_eq!(read_row(&codes, 8, 5, &mut out), Err(3));
    let mut tq2 = encode_tq2(&weights(1, 256), 0.5);
    tq2[33] |= 0b1100_0000;
    let mut out = vec![0; 256];
    let codes = Codes::Tq2(Bytes::from_vec(tq2));
    assert_eq!(read_row(&codes, 1, 0, &mut out), Err(128 + 96 + 1));
}

/// A matrix of floats that is not ternary, with ties and zeros.
fn masters(rows: usize, k: usize) -> Vec<f32> {
    (0..rows * k)
        .map(|i| ((i * 7919 + 13) % 2001) as f32 / 1000.0 - 1.0)
        .collect()
}

#[test]
fn floats_go_through_absmean_as_the_reference_does() {
    let (rows, k) = (5, 300);
    let w = masters(rows, k);
    let bytes: Vec<u8> = w.iter().flat_map(|w| w.to_le_bytes()).collect();
    let want = trit_kernel::absmean_codes(&w);
    let (factor, scale) = crate::file::linear::quantization(FloatType::F32, &bytes, true).unwrap();
    assert_eq!(scale.to_bits(), want.scale.to_bits());
    let codes = Codes::Float {
        dtype: FloatType::F32,
        bytes: Bytes::from_vec(bytes),
        factor,
    };
    let mut out = vec![0; k];
    for r in 0..rows {
        read_row(&codes, rows, r, &mut out).unwrap();
        assert_eq!(out, want.codes[r * k..(r + 1) * k]);
    }
    assert!(want.codes.contains(&0) && want.codes.contains(&1) && want.codes.contains(&-1));
}

#[test]
fn floats_that_are_ternary_keep_their_scale_when_asked() {
    // 0.0123 as f16: a third of the weights is zero, so that absmean would take another scale.
    let w = weights(4, 256);
    let d = f16::from_f32(0.0123);
    let bytes: Vec<u8> = w
        .iter()
        .flat_map(|w| f16::from_f32(f32::from(*w) * d.to_f32()).to_le_bytes())
        .collect();
    let (factor, scale) = crate::file::linear::quantization(FloatType::F16, &bytes, true).unwrap();
    assert_eq!(scale.to_bits(), d.to_f32().to_bits());
    let held = Bytes::from_vec(bytes.clone());
    check_codes(
        &Codes::Float {
            dtype: FloatType::F16,
            bytes: held,
            factor,
        },
        4,
        256,
    );
    let (_, absmean) = crate::file::linear::quantization(FloatType::F16, &bytes, false).unwrap();
    assert!(absmean < 0.7 * scale);
    // A NaN is refused, wherever it is.
    let mut bad = bytes;
    let len = bad.len();
    bad[len - 2..].copy_from_slice(&f16::NAN.to_le_bytes());
    assert_eq!(
        crate::file::linear::quantization(FloatType::F16, &bad, true),
        None
    );
}
