//! Seeded weights and activations, and the digests of answers. Both sides of a comparison make the same inputs from the
//! same seed, so none travel between processes.

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use trit_core::Rng;

/// A generator for row `row` of set `set` of what `purpose` names.
fn row_rng(seed: u64, purpose: &str, set: usize, row: usize) -> Rng {
    let mut rng = Rng::named(seed, purpose);
    let set_seed = rng.next_u64() ^ (set as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut rng = Rng::new(set_seed);
    let row_seed = rng.next_u64() ^ (row as u64).wrapping_mul(0xd134_2543_de82_ef95);
    Rng::new(row_seed)
}

/// Ternary weights of weight set `set`: `rows` x `k`, each of −1, 0, 1 with nearly equal chance (85 or 86 in 256).
pub(crate) fn codes(seed: u64, set: usize, rows: usize, k: usize) -> Vec<i8> {
    let mut codes = vec![0i8; rows * k];
    codes
        .par_chunks_exact_mut(k.max(1))
        .enumerate()
        .for_each(|(row, out)| {
            let mut rng = row_rng(seed, "weights", set, row);
            for chunk in out.chunks_mut(8) {
                let bytes = rng.next_u64().to_le_bytes();
                for (out, byte) in chunk.iter_mut().zip(bytes) {
                    *out = ((u16::from(byte) * 3) >> 8) as i8 - 1;
                }
            }
        });
    codes
}

/// Activations of input set `set`: `tokens` x `k` of −128..=127, each row with at least one −128. When `symmetric`,
/// −127..=127, each row with at least one 127, so that an absmax quantizer has a scale of 1.
pub(crate) fn activations(
    seed: u64,
    set: usize,
    tokens: usize,
    k: usize,
    symmetric: bool,
) -> Vec<i8> {
    let mut data = vec![0i8; tokens * k];
    for (token, out) in data.chunks_exact_mut(k.max(1)).enumerate() {
        let mut rng = row_rng(seed, "activations", set, token);
        for chunk in out.chunks_mut(8) {
            let bytes = rng.next_u64().to_le_bytes();
            for (out, byte) in chunk.iter_mut().zip(bytes) {
                *out = byte as i8;
            }
        }
        let extreme = rng.below(k as u64) as usize;
        out[extreme] = -128;
        if symmetric {
            for value in out.iter_mut() {
                *value = (*value).max(-127);
            }
            out[extreme] = 127;
        }
    }
    data
}

/// Token ids of a prompt: `set` chooses one of the input sets.
pub(crate) fn prompt(seed: u64, set: usize, tokens: usize, vocab: usize) -> Vec<u32> {
    let mut rng = row_rng(seed, "prompt", set, 0);
    (0..tokens)
        .map(|_| rng.below(vocab as u64) as u32)
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}

/// SHA-256 of a text or file content, in hex.
pub fn digest_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of 32-bit values as little-endian bytes, in hex.
fn digest_words(words: impl Iterator<Item = u32>) -> String {
    let mut hasher = Sha256::new();
    let mut buffer = [0u8; 4096];
    let mut fill = 0;
    for word in words {
        buffer[fill..fill + 4].copy_from_slice(&word.to_le_bytes());
        fill += 4;
        if fill == buffer.len() {
            hasher.update(buffer);
            fill = 0;
        }
    }
    hasher.update(&buffer[..fill]);
    hex(&hasher.finalize())
}

/// SHA-256 of sums, in hex.
pub(crate) fn digest_sums(sums: &[i32]) -> String {
    digest_words(sums.iter().map(|sum| *sum as u32))
}

/// SHA-256 of the bits of floats, in hex.
pub(crate) fn digest_floats(values: impl IntoIterator<Item = f32>) -> String {
    digest_words(values.into_iter().map(f32::to_bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_depend_on_seed_set_and_row_alone() {
        let a = codes(1, 0, 64, 250);
        assert_eq!(a, codes(1, 0, 64, 250));
        assert_ne!(a, codes(1, 1, 64, 250));
        assert_ne!(a, codes(2, 0, 64, 250));
        // A smaller matrix is the top of a larger one.
        assert_eq!(a[..32 * 250], codes(1, 0, 32, 250));
        for code in -1..=1 {
            let share = a.iter().filter(|c| **c == code).count() as f64 / a.len() as f64;
            assert!((0.31..0.36).contains(&share), "{code}: {share}");
        }
        assert_ne!(a[..250], a[250..500]);
    }

    #[test]
    fn activations_reach_the_ends_of_their_range() {
        let full = activations(1, 2, 5, 77, false);
        let symmetric = activations(1, 2, 5, 77, true);
        for row in full.chunks_exact(77) {
            assert!(row.contains(&-128));
        }
        for row in symmetric.chunks_exact(77) {
            assert!(row.contains(&127) && !row.contains(&-128));
        }
        assert_ne!(activations(1, 3, 5, 77, false), full);
    }

    #[test]
    fn prompts_stay_within_the_vocabulary() {
        let ids = prompt(1, 0, 1000, 50);
        assert!(ids.iter().all(|id| *id < 50));
        assert!(ids.contains(&0) && ids.contains(&49));
    }

    #[test]
    fn digests_are_sha_256() {
        // NIST's vector for "abc".
        assert_eq!(
            digest_bytes(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let sums: Vec<i32> = (-3000..3000).collect();
        let bytes: Vec<u8> = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        assert_eq!(digest_sums(&sums), digest_bytes(&bytes));
        assert_eq!(
            digest_floats([1.0, -0.0]),
            digest_bytes(&[0, 0, 128, 63, 0, 0, 0, 128])
        );
    }
}
