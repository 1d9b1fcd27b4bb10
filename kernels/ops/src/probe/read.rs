//! Reading a byte slice as fast as the memory gives it.

use std::array::from_fn;

use trit_kernel::{Cpu, Isa};

use crate::scalar::Scalar;

/// One cache line.
pub(crate) const LINE: usize = 64;

/// Lines on one instruction set. As in `Simd`, a value is the proof that the instructions can be executed.
pub(crate) trait Lines: Copy {
    /// The bytes of a line.
    type V: Copy;

    fn zero(self) -> Self::V;
    fn load(self, from: &[u8; LINE]) -> Self::V;
    fn xor(self, a: Self::V, b: Self::V) -> Self::V;
    fn bytes(self, v: Self::V) -> [u8; LINE];
    /// Asks for the line at `at`, which may be any address.
    fn ask(self, at: *const u8);
}

impl Lines for Scalar {
    type V = [u64; 8];

    #[inline(always)]
    fn zero(self) -> Self::V {
        [0; 8]
    }

    #[inline(always)]
    fn load(self, from: &[u8; LINE]) -> Self::V {
        let (words, _) = from.as_chunks();
        from_fn(|i| u64::from_ne_bytes(words[i]))
    }

    #[inline(always)]
    fn xor(self, a: Self::V, b: Self::V) -> Self::V {
        from_fn(|i| a[i] ^ b[i])
    }

    #[inline(always)]
    fn bytes(self, v: Self::V) -> [u8; LINE] {
        let mut out = [0; LINE];
        let (words, _) = out.as_chunks_mut();
        for (to, from) in words.iter_mut().zip(v) {
            *to = from.to_ne_bytes();
        }
        out
    }

    #[inline(always)]
    fn ask(self, _: *const u8) {}
}

/// A loop that reads a whole slice in one way. It reads lines of the slice, not of memory: the slice has to start on a
/// 64-byte boundary for the loop to be as fast as it can be.
#[derive(Clone, Copy, Debug)]
pub struct ReadLoop {
    name: &'static str,
    isa: Isa,
    run: fn(&[u8]) -> u64,
}

impl ReadLoop {
    /// `read-<isa>-x<streams>`, and `-p<bytes>` where the loop asks for lines that many bytes ahead of its reads.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The instruction set it uses.
    pub const fn isa(&self) -> Isa {
        self.isa
    }

    /// Reads every byte once. The result is the exclusive or of the little-endian 64-bit words of the slice, the last one
    /// filled up with zeros: equal for all loops.
    pub fn checksum(&self, bytes: &[u8]) -> u64 {
        (self.run)(bytes)
    }
}

/// Reads with `STREAMS` streams, each through its own part of the slice.
#[inline(always)]
fn read<L: Lines, const STREAMS: usize, const AHEAD: usize>(l: L, bytes: &[u8]) -> u64 {
    let (lines, tail) = bytes.as_chunks();
    let part = lines.len() / STREAMS;
    let parts: [&[[u8; LINE]]; STREAMS] = from_fn(|s| &lines[s * part..(s + 1) * part]);
    let mut sums = [l.zero(); STREAMS];
    for i in 0..part {
        for s in 0..STREAMS {
            if AHEAD > 0 {
                l.ask(
                    parts[s]
                        .as_ptr()
                        .cast::<u8>()
                        .wrapping_add(i * LINE + AHEAD),
                );
            }
            sums[s] = l.xor(sums[s], l.load(&parts[s][i]));
        }
    }
    let mut sum = l.zero();
    for s in 0..STREAMS {
        sum = l.xor(sum, sums[s]);
    }
    for line in &lines[STREAMS * part..] {
        sum = l.xor(sum, l.load(line));
    }
    let mut last = [0; LINE];
    last[..tail.len()].copy_from_slice(tail);
    let folded = l.bytes(l.xor(sum, l.load(&last)));
    let (words, _) = folded.as_chunks();
    words
        .iter()
        .fold(0, |sum, word| sum ^ u64::from_le_bytes(*word))
}

/// The loops of one instruction set; `$lanes` is the token and `$attr` enables what it proves.
macro_rules! loops {
    ($lanes:ty, $token:expr, $attr:meta, $isa:expr, $($name:literal: $streams:literal $ahead:literal),+) => {
        [$({
            fn run(bytes: &[u8]) -> u64 {
                #[$attr]
                unsafe fn inner(l: $lanes, bytes: &[u8]) -> u64 {
                    read::<$lanes, $streams, $ahead>(l, bytes)
                }
                // SAFETY: this loop is listed, and can be called, only where `read_loops` saw the instruction set.
                unsafe { inner($token, bytes) }
            }
            ReadLoop { name: $name, isa: $isa, run }
        }),+]
    };
}

static SCALAR: [ReadLoop; 5] = loops!(
    Scalar, Scalar, inline, Isa::Scalar,
    "read-scalar-x1": 1 0, "read-scalar-x2": 2 0, "read-scalar-x4": 4 0, "read-scalar-x8": 8 0,
    "read-scalar-x16": 16 0
);

#[cfg(target_arch = "x86_64")]
static AVX2: [ReadLoop; 10] = loops!(
    crate::x86::avx2::Avx2, crate::x86::avx2::TOKEN, target_feature(enable = "avx2"), Isa::Avx2,
    "read-avx2-x1": 1 0, "read-avx2-x2": 2 0, "read-avx2-x4": 4 0, "read-avx2-x8": 8 0, "read-avx2-x16": 16 0,
    "read-avx2-x1-p2048": 1 2048, "read-avx2-x2-p2048": 2 2048, "read-avx2-x4-p2048": 4 2048,
    "read-avx2-x8-p1024": 8 1024, "read-avx2-x16-p1024": 16 1024
);

#[cfg(target_arch = "x86_64")]
static AVX512: [ReadLoop; 10] = loops!(
    crate::x86::avx512::Avx512, crate::x86::avx512::TOKEN, target_feature(enable = "avx512f"), Isa::Avx512,
    "read-avx512-x1": 1 0, "read-avx512-x2": 2 0, "read-avx512-x4": 4 0, "read-avx512-x8": 8 0,
    "read-avx512-x16": 16 0,
    "read-avx512-x1-p2048": 1 2048, "read-avx512-x2-p2048": 2 2048, "read-avx512-x4-p2048": 4 2048,
    "read-avx512-x8-p1024": 8 1024, "read-avx512-x16-p1024": 16 1024
);

#[cfg(target_arch = "aarch64")]
static NEON: [ReadLoop; 10] = loops!(
    crate::neon::Neon, crate::neon::TOKEN, target_feature(enable = "neon"), Isa::Neon,
    "read-neon-x1": 1 0, "read-neon-x2": 2 0, "read-neon-x4": 4 0, "read-neon-x8": 8 0, "read-neon-x16": 16 0,
    "read-neon-x1-p2048": 1 2048, "read-neon-x2-p2048": 2 2048, "read-neon-x4-p2048": 4 2048,
    "read-neon-x8-p1024": 8 1024, "read-neon-x16-p1024": 16 1024
);

/// Every loop that `cpu` can run.
pub fn read_loops(cpu: Cpu) -> Vec<ReadLoop> {
    #[cfg(target_arch = "x86_64")]
    let native = AVX2.iter().chain(&AVX512);
    #[cfg(target_arch = "aarch64")]
    let native = &NEON;
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let native = &[];
    let all = SCALAR.iter().chain(native);
    all.filter(|read| cpu.has(read.isa)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(bytes: &[u8]) -> u64 {
        bytes
            .iter()
            .enumerate()
            .fold(0, |sum, (i, byte)| sum ^ (u64::from(*byte) << (i % 8 * 8)))
    }

    #[test]
    fn every_loop_reads_every_byte_once() {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let all: Vec<u8> = (0..20_000).map(|_| next()).collect();
        for read in read_loops(Cpu::uncapped()) {
            for len in (0..140).chain([1000, 1024, 4096, 16_384, 19_999]) {
                for start in [0, 1] {
                    let bytes = &all[start..start + len];
                    assert_eq!(read.checksum(bytes), naive(bytes), "{} {len}", read.name());
                }
            }
            // A change of any one byte shows.
            let mut changed = all[..1500].to_vec();
            let want = read.checksum(&changed);
            for i in 0..changed.len() {
                changed[i] ^= 0x40;
                assert_ne!(read.checksum(&changed), want, "{} byte {i}", read.name());
                changed[i] ^= 0x40;
            }
        }
    }

    #[test]
    fn names_say_what_the_loops_are() {
        let loops = read_loops(Cpu::uncapped());
        for (i, read) in loops.iter().enumerate() {
            assert!(read.name().starts_with(&format!("read-{}-x", read.isa())));
            assert!(loops[..i].iter().all(|other| other.name() != read.name()));
        }
        assert!(
            read_loops(Cpu::capped(Isa::Scalar))
                .iter()
                .all(|read| read.isa() == Isa::Scalar)
        );
    }
}
