//! Random numbers by position: any row can be generated alone, on any thread.
//!
//! `SplitMix64` (Steele, Lea and Flood, OOPSLA 2014): the n-th number is a mix of `seed + n · GAMMA`.

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function.
pub(super) const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Number `index` of the stream of `seed`.
pub(super) const fn at(seed: u64, index: u64) -> u64 {
    mix(seed.wrapping_add((index + 1).wrapping_mul(GAMMA)))
}

/// The seed of one row of a matrix.
pub(super) const fn row_seed(seed: u64, row: usize) -> u64 {
    // A second mix keeps the streams of neighbouring rows apart.
    mix(at(seed, row as u64) ^ GAMMA)
}

/// The ternary weights of one row. Sixteen bits make one weight: `floor(3 · bits / 65536) − 1`; the three values differ in
/// probability by less than 2 in 100,000.
pub(crate) fn row_codes(seed: u64, row: usize, out: &mut [i8]) {
    let seed = row_seed(seed, row);
    let code = |bits: u64, i: usize| ((((bits >> (16 * i)) & 0xffff) * 3) >> 16) as i8 - 1;
    let mut quads = out.chunks_exact_mut(4);
    let mut index = 0;
    for quad in &mut quads {
        let bits = at(seed, index);
        for (i, out) in quad.iter_mut().enumerate() {
            *out = code(bits, i);
        }
        index += 1;
    }
    let bits = at(seed, index);
    for (i, out) in quads.into_remainder().iter_mut().enumerate() {
        *out = code(bits, i);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The first outputs for seed 1234567, as published with the reference implementation.
        let got: Vec<u64> = (0..3).map(|i| at(1_234_567, i)).collect();
        assert_eq!(
            got,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn weights_are_balanced_and_rows_differ() {
        let mut rows = vec![0i8; 64 * 999];
        for (row, out) in rows.chunks_exact_mut(999).enumerate() {
            row_codes(7, row, out);
        }
        for want in -1..=1 {
            let share = rows.iter().filter(|w| **w == want).count() as f64 / rows.len() as f64;
            assert!((share - 1.0 / 3.0).abs() < 0.01, "{want}: {share}");
        }
        assert_ne!(rows[..999], rows[999..2 * 999]);
        let mut again = vec![0i8; 999];
        row_codes(7, 1, &mut again);
        assert_eq!(again, rows[999..2 * 999]);
    }
}
