//! The tile registers of the CPU.
//!
//! Intrinsics for AMX are unstable, so each instruction is a line of `asm!`. The compiler has no use for tile registers of its own (no
//! function here has an AMX target feature), so what one `asm!` leaves in them is what the next one finds; the operating system keeps them
//! across switches of threads.

#![expect(clippy::inline_always, reason = "an instruction is not worth a call")]

use std::arch::asm;
use std::arch::x86_64::{
    _MM_HINT_T0, _mm_prefetch, _mm512_and_si512, _mm512_loadu_si512, _mm512_set1_epi8,
    _mm512_srli_epi16, _mm512_storeu_si512, _xgetbv,
};
use std::io;
use std::sync::OnceLock;

use trit_kernel::{Cpu, GemmArgs, Isa, Kernel, KernelInfo, Unavailable};

use crate::gemm::{self, Machine, Tiled};
use crate::tiles::{BLOCK_BYTES, Block, Config, Planes, ROW_BYTES, Tile, Tiles};

/// `arch_prctl` request for a part of the extended state (`arch/x86/include/uapi/asm/prctl.h` of Linux).
const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
/// Number of the tile data in the extended state (Intel SDM volume 1, chapter 13).
const XFEATURE_XTILEDATA: libc::c_ulong = 18;
/// Tile configuration and tile data in XCR0.
const XCR0_TILES: u64 = 1 << 17 | 1 << 18;
/// How far ahead weights are asked for, in packed bytes: what one panel takes of a row group.
const AHEAD_BYTES: usize = 2560;

/// Proof that this process may use the tile registers and that AVX-512 is there: made by [`open`] alone.
#[derive(Clone, Copy)]
struct Amx(());

pub(crate) fn open(cpu: Cpu) -> Result<Box<dyn Kernel>, Unavailable> {
    // Permission is a matter of the process and holds for all its threads: asked for once, and tried once.
    static ANSWER: OnceLock<Result<Amx, Unavailable>> = OnceLock::new();
    // AVX-512, which unpacks, and AMX, as far as CPUID tells.
    cpu.check(Isa::Amx)?;
    let amx = ANSWER.get_or_init(|| {
        ask()?;
        let kernel = Tiled(Amx(()));
        // Two passes, the second of one ragged token group; two panels; a ragged row group.
        if trit_kernel::probe(&kernel, 35, 700, 39) {
            Ok(kernel.0)
        } else {
            Err(Unavailable::Probe(Isa::Amx))
        }
    });
    Ok(Box::new(Tiled(amx.clone()?)))
}

/// Asks the operating system for the tile registers. The CPU has AVX-512.
fn ask() -> Result<(), Unavailable> {
    // SAFETY: AVX-512 was found, and that needs an operating system that has enabled XGETBV.
    if unsafe { enabled_state() } & XCR0_TILES != XCR0_TILES {
        return Err(Unavailable::Refused(
            "the tile registers are not enabled in XCR0; hint: Linux 5.16 or newer".to_owned(),
        ));
    }
    // SAFETY: the request reads and writes no memory of ours; it changes what this process may execute and nothing else.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        )
    };
    if answer == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    let hint = match error.raw_os_error() {
        Some(libc::EINVAL) => "; hint: Linux 5.16 or newer",
        Some(libc::ENOSPC) => "; hint: a thread has a signal stack too small for tiles",
        _ => "",
    };
    Err(Unavailable::Refused(format!(
        "no permission to use tile registers: {error}{hint}"
    )))
}

/// XCR0: which parts of the extended state the operating system has enabled.
///
/// # Safety
/// The operating system must have enabled XGETBV.
#[target_feature(enable = "xsave")]
unsafe fn enabled_state() -> u64 {
    // SAFETY: promised by the caller.
    unsafe { _xgetbv(0) }
}

impl Machine for Amx {
    const INFO: &'static KernelInfo = &crate::TILE;

    fn multiply(&self, config: &Config, args: GemmArgs<'_>) {
        // SAFETY: `self` exists: `open` saw AVX-512, and the process may use the tile registers.
        unsafe { run(&mut Registers::configured(config), args) }
    }
}

/// [`gemm::run`], compiled for AVX-512.
///
/// # Safety
/// The CPU must have AVX-512 F and BW.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn run(tiles: &mut Registers, args: GemmArgs<'_>) {
    gemm::run(tiles, args);
}

/// The registers of this thread, configured for one call and released after it. Configuration belongs to the thread, and the threads
/// belong to the caller: kept between calls, the operating system would save 8 KiB at every switch of a thread that has long turned to
/// something else, and the core could not sleep deeply. Loading it takes the time of a few products.
struct Registers(());

impl Registers {
    /// # Safety
    /// The process must have permission to use the tile registers, and no other `Registers` may live on this thread.
    unsafe fn configured(config: &Config) -> Self {
        // SAFETY: `config` is 64 bytes that describe palette 1; permission is promised by the caller.
        unsafe {
            asm!("ldtilecfg [{config}]", config = in(reg) config.0.as_ptr(), options(nostack, preserves_flags, readonly));
        }
        Self(())
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: `self` exists, so the process may use the tile registers.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) }
    }
}

impl Tiles for Registers {
    #[inline(always)]
    fn zero<const T: usize>(&mut self) {
        // SAFETY: `self` exists, so the register is configured.
        unsafe { asm!("tilezero tmm{t}", t = const T, options(nostack, preserves_flags, nomem)) }
    }

    #[inline(always)]
    fn load<const T: usize>(&mut self, from: &Tile) {
        // SAFETY: the register is configured with at most 16 rows of 64 bytes; 64 bytes apart they lie within `from`.
        unsafe {
            asm!("tileloadd tmm{t}, [{from} + {stride}*1]", t = const T, from = in(reg) from.as_ptr(),
                stride = in(reg) ROW_BYTES, options(nostack, preserves_flags, readonly));
        }
    }

    #[inline(always)]
    fn store<const T: usize>(&self, to: &mut Tile) {
        // SAFETY: the register is configured with at most 16 rows of 64 bytes; 64 bytes apart they lie within `to`.
        unsafe {
            asm!("tilestored [{to} + {stride}*1], tmm{t}", t = const T, to = in(reg) to.as_mut_ptr(),
                stride = in(reg) ROW_BYTES, options(nostack, preserves_flags));
        }
    }

    #[inline(always)]
    fn dot<const C: usize, const A: usize, const B: usize>(&mut self) {
        // SAFETY: `self` exists, so the registers are configured; a shape that does not fit is a fault and touches no memory.
        unsafe {
            asm!("tdpbsud tmm{c}, tmm{a}, tmm{b}", c = const C, a = const A, b = const B,
                options(nostack, preserves_flags, nomem));
        }
    }

    /// A shift of words moves bits between neighbouring bytes, and the mask removes them. Not a function with a target feature of its own:
    /// the compiler would call that, and clear the registers around it.
    #[inline(always)]
    fn unpack(block: &Block, planes: &mut Planes) {
        let (planes, _) = planes.as_chunks_mut::<BLOCK_BYTES>();
        // SAFETY: only a kernel that `open` gave has registers to call this for, and it saw AVX-512; the block and each plane have 64
        // bytes; a prefetch may name any address.
        unsafe {
            let mask = _mm512_set1_epi8(3);
            _mm_prefetch::<_MM_HINT_T0>(block.as_ptr().wrapping_add(AHEAD_BYTES).cast());
            let codes = _mm512_loadu_si512(block.as_ptr().cast());
            let shifted = [
                codes,
                _mm512_srli_epi16::<2>(codes),
                _mm512_srli_epi16::<4>(codes),
                _mm512_srli_epi16::<6>(codes),
            ];
            for (plane, shifted) in planes.iter_mut().zip(shifted) {
                _mm512_storeu_si512(plane.as_mut_ptr().cast(), _mm512_and_si512(shifted, mask));
            }
        }
    }

    #[inline(always)]
    fn prefetch(tile: &Tile) {
        for line in tile.as_chunks::<ROW_BYTES>().0 {
            // SAFETY: a prefetch may name any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use trit_conformance::Rng;

    use super::*;
    use crate::model;
    use crate::tiles::{REGISTERS, TILE_BYTES};

    /// The kernel, or `None` with a line on stderr, or a failure where `TRIT_REQUIRE` asks for it.
    fn opened() -> Option<Box<dyn Kernel>> {
        trit_conformance::open(&crate::TILE_ENTRY)
    }

    /// Random loads, products, clears and stores; all that was stored.
    fn exercise<T: Tiles>(tiles: &mut T, seed: u64) -> Vec<Tile> {
        let mut rng = Rng::new(seed);
        let mut random = || -> Tile { std::array::from_fn(|_| rng.next_u64() as u8) };
        let mut stored = vec![random(); 10];
        tiles.load::<0>(&random());
        tiles.load::<2>(&random());
        tiles.zero::<1>();
        tiles.zero::<3>();
        for _ in 0..3 {
            tiles.load::<4>(&random());
            tiles.load::<6>(&random());
            tiles.dot::<0, 6, 4>();
            tiles.load::<5>(&random());
            tiles.dot::<1, 6, 5>();
            tiles.load::<7>(&random());
            tiles.dot::<2, 7, 4>();
            tiles.dot::<3, 7, 5>();
        }
        tiles.store::<0>(&mut stored[0]);
        tiles.store::<1>(&mut stored[1]);
        tiles.store::<2>(&mut stored[2]);
        tiles.store::<3>(&mut stored[3]);
        tiles.store::<4>(&mut stored[4]);
        tiles.store::<5>(&mut stored[5]);
        tiles.store::<6>(&mut stored[6]);
        tiles.store::<7>(&mut stored[7]);
        tiles.zero::<2>();
        tiles.store::<2>(&mut stored[8]);
        // Extremes: the largest products there are, with signs that differ.
        tiles.load::<4>(&[255; TILE_BYTES]);
        tiles.load::<6>(&[128; TILE_BYTES]);
        tiles.dot::<0, 6, 4>();
        tiles.store::<0>(&mut stored[9]);
        stored
    }

    #[test]
    fn the_registers_do_what_the_model_does() {
        if opened().is_none() {
            return;
        }
        for last in 1..=16 {
            for ragged in [[0, 1, 6], [2, 3, 7]] {
                let mut rows = [16; REGISTERS];
                for register in ragged {
                    rows[register] = last;
                }
                let config = Config::new(rows);
                let seed = u64::from(last) << 8 | ragged[0] as u64;
                let want = exercise(&mut model::Registers::configured(&config), seed);
                // SAFETY: the kernel was opened, so the process has permission; these are the only registers of this thread.
                let mut registers = unsafe { Registers::configured(&config) };
                let got = exercise(&mut registers, seed);
                assert!(got == want, "rows {rows:?}");
            }
        }
    }

    /// The operand that `ldtilecfg` took last: zeros where the tiles are released.
    fn current_config() -> [u8; 64] {
        let mut config = Config([0xff; 64]);
        // SAFETY: the caller has opened the kernel; the instruction writes the 64 bytes of `config`.
        unsafe {
            asm!("sttilecfg [{to}]", to = in(reg) config.0.as_mut_ptr(), options(nostack, preserves_flags));
        }
        config.0
    }

    #[test]
    fn a_call_leaves_the_tiles_released() {
        let Some(kernel) = opened() else { return };
        let config = Config::new([16; REGISTERS]);
        {
            // SAFETY: the kernel was opened, so the process has permission; these are the only registers of this thread.
            let _registers = unsafe { Registers::configured(&config) };
            assert_eq!(current_config(), config.0);
        }
        assert_eq!(current_config(), [0; 64]);
        trit_conformance::Case::new(trit_kernel::LayoutId::R16, 40, 200, 40).assert(&*kernel);
        assert_eq!(current_config(), [0; 64]);
    }
}
