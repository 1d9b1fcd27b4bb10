//! The peak loop of AMX tiles, on Linux: the operating system has to permit them.
//!
//! `kernels/amx` asks for the same permission in more words, because there somebody reads why it was refused; neither crate may import
//! the other, and asking twice changes nothing.

use std::arch::asm;
use std::arch::x86_64::_xgetbv;
use std::sync::OnceLock;

use trit_kernel::{Cpu, Isa};

use super::peak::{A, B, Operation, PeakLoop, i32_lane, line, sum_i32};

/// Accumulators: all registers but the two factors, more than the latency of a product over its throughput (52 / 16 cycles).
const SUMS: usize = 6;
/// Bytes of a tile: 16 rows of 64.
const TILE_BYTES: usize = 1024;
/// Sums of an accumulator: 16 x 16.
const LANES: usize = TILE_BYTES / 4;
/// Products of an instruction for each of its sums.
const DEPTH: usize = 64;

pub(super) static LOOP: PeakLoop = line(
    ("int8-amx-tdpbusd", Isa::Amx, Operation::Int8),
    tdpbusd,
    |n| i32_lane(n.wrapping_mul(DEPTH as u64 * A as u64 * B as u64)),
    SUMS,
    LANES,
    LANES * DEPTH,
);

/// Whether this process may use the tile registers of `cpu`; asks once.
pub(super) fn permitted(cpu: Cpu) -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    // AVX-512 comes with it, which needs an operating system that has enabled XGETBV.
    cpu.has(Isa::Amx) && *ANSWER.get_or_init(ask)
}

fn ask() -> bool {
    /// `ARCH_REQ_XCOMP_PERM` of `arch_prctl` for tile data, number 18 of the extended state.
    const REQUEST: (libc::c_int, libc::c_ulong) = (0x1023, 18);
    /// Tile configuration and tile data in XCR0.
    const TILES: u64 = 3 << 17;
    // SAFETY: `permitted` saw AMX, so XGETBV is enabled; the request touches no memory of ours.
    unsafe {
        enabled_state() & TILES == TILES
            && libc::syscall(libc::SYS_arch_prctl, REQUEST.0, REQUEST.1) == 0
    }
}

/// # Safety
/// The operating system must have enabled XGETBV.
#[target_feature(enable = "xsave")]
unsafe fn enabled_state() -> u64 {
    // SAFETY: promised by the caller.
    unsafe { _xgetbv(0) }
}

/// The operand of `ldtilecfg`: palette 1, every register 16 rows of 64 bytes.
#[repr(align(64))]
struct Config([u8; 64]);

static CONFIG: Config = {
    let mut config = [0; 64];
    config[0] = 1;
    let mut register = 0;
    while register < SUMS + 2 {
        config[16 + 2 * register] = 64;
        config[48 + register] = 16;
        register += 1;
    }
    Config(config)
};

fn tdpbusd(iterations: u64) -> u64 {
    let (a, b) = ([A.cast_unsigned(); TILE_BYTES], [B; TILE_BYTES]);
    let mut sums = [[0i32; LANES]; SUMS];
    // One piece of assembly: the compiler does not know of tile registers, and nothing may come between.
    // SAFETY: this loop is listed, and can be called, only where `permitted` said so. It loads and stores 16 rows of 64 bytes, 64
    // apart, of memory that is as large; it leaves the tiles released.
    unsafe {
        asm!(
            "ldtilecfg [{config}]",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "tilezero tmm4",
            "tilezero tmm5",
            "tileloadd tmm6, [{a} + {stride}*1]",
            "tileloadd tmm7, [{b} + {stride}*1]",
            "test {n}, {n}",
            "jz 3f",
            "2:",
            "tdpbusd tmm0, tmm6, tmm7",
            "tdpbusd tmm1, tmm6, tmm7",
            "tdpbusd tmm2, tmm6, tmm7",
            "tdpbusd tmm3, tmm6, tmm7",
            "tdpbusd tmm4, tmm6, tmm7",
            "tdpbusd tmm5, tmm6, tmm7",
            "dec {n}",
            "jnz 2b",
            "3:",
            "tilestored [{sums} + {stride}*1], tmm0",
            "tilestored [{sums} + {stride}*1 + 1024], tmm1",
            "tilestored [{sums} + {stride}*1 + 2048], tmm2",
            "tilestored [{sums} + {stride}*1 + 3072], tmm3",
            "tilestored [{sums} + {stride}*1 + 4096], tmm4",
            "tilestored [{sums} + {stride}*1 + 5120], tmm5",
            "tilerelease",
            config = in(reg) CONFIG.0.as_ptr(),
            a = in(reg) a.as_ptr(),
            b = in(reg) b.as_ptr(),
            sums = in(reg) sums.as_mut_ptr(),
            stride = in(reg) 64usize,
            n = inout(reg) iterations => _,
            options(nostack),
        );
    }
    sum_i32(sums.as_flattened())
}
