//! Multiplying and adding as fast as the core can, from registers.

use std::hint::black_box;

use trit_kernel::{Cpu, Isa};

/// What a loop multiplies and adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Products of 8-bit integers into integer accumulators.
    Int8,
    /// Products of 32-bit floats into 32-bit floats.
    F32,
}

/// A loop of multiply-adds with 8 or more independent accumulators, on registers (the portable integer loop, whose
/// accumulators the compiler chooses, reads its factors from the first cache).
#[derive(Clone, Copy, Debug)]
pub struct PeakLoop {
    pub(super) name: &'static str,
    pub(super) isa: Isa,
    pub(super) operation: Operation,
    pub(super) ops_per_iteration: u64,
    pub(super) run: fn(u64) -> u64,
    pub(super) lane: fn(u64) -> u64,
    pub(super) lanes: u64,
}

impl PeakLoop {
    /// `<int8|f32>-<isa>-<instructions>-<bits>`.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The instruction set it uses.
    pub const fn isa(&self) -> Isa {
        self.isa
    }

    /// What it multiplies and adds.
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// Operations of one iteration; a multiplication and an addition are two.
    pub const fn ops_per_iteration(&self) -> u64 {
        self.ops_per_iteration
    }

    /// Runs `iterations` and returns the sum of all accumulators: [`PeakLoop::expected`], or the machine computes wrongly.
    pub fn run(&self, iterations: u64) -> u64 {
        (self.run)(iterations)
    }

    /// The sum of all accumulators after `iterations`.
    pub fn expected(&self, iterations: u64) -> u64 {
        (self.lane)(iterations).wrapping_mul(self.lanes)
    }
}

/// Factors of the 8-bit loops: unsigned and signed.
pub(super) const A: i8 = 3;
pub(super) const B: i8 = 5;

/// A float lane counts up by one from 0 and stays at 2^24, where adding one is rounded away.
pub(super) fn f32_lane(steps: u64) -> u64 {
    steps.min(1 << 24)
}

/// An i32 lane as it wraps.
pub(super) fn i32_lane(sum: u64) -> u64 {
    i64::from(sum as i32).cast_unsigned()
}

/// The sum of lanes, as [`PeakLoop::run`] returns it.
pub(super) fn sum_i32(lanes: &[i32]) -> u64 {
    let sum: i64 = lanes.iter().map(|lane| i64::from(*lane)).sum();
    sum.cast_unsigned()
}

/// The sum of lanes that hold whole numbers.
pub(super) fn sum_f32(lanes: &[f32]) -> u64 {
    lanes.iter().map(|lane| *lane as u64).sum()
}

/// The sum of i16 lanes.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) fn sum_i16(lanes: &[i16]) -> u64 {
    let sum: i64 = lanes.iter().map(|lane| i64::from(*lane)).sum();
    sum.cast_unsigned()
}

/// Four products of 3 and 5 a step and an i32 lane.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) fn int8_lane(n: u64) -> u64 {
    i32_lane(n.wrapping_mul(60))
}

/// A line of the list: `registers` accumulators of `lanes`, `products` a step each.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) const fn line(
    (name, isa, operation): (&'static str, Isa, Operation),
    run: fn(u64) -> u64,
    lane: fn(u64) -> u64,
    registers: usize,
    lanes: usize,
    products: usize,
) -> PeakLoop {
    PeakLoop {
        name,
        isa,
        operation,
        ops_per_iteration: 2 * (registers * products) as u64,
        run,
        lane,
        lanes: (registers * lanes) as u64,
    }
}

/// One loop: `$n` accumulators of type `$v`, and a step that takes the accumulator and the factors. The factor passes
/// through an empty piece of assembly before each step, so that the compiler neither moves a product out of the loop nor
/// merges accumulators that hold the same; it costs no instruction.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! peak {
    ($name:ident, $features:literal, $n:ident x $v:ty, $reg:ident, zero $zero:expr, factors $a:expr, $b:expr,
     |$sum:ident, $x:ident, $y:ident| $step:expr, [$lane:ty] $total:expr) => {
        fn $name(iterations: u64) -> u64 {
            #[allow(asm_sub_register, reason = "the text is a comment")]
            #[target_feature(enable = $features)]
            unsafe fn inner(iterations: u64) -> u64 {
                const LANES: usize = size_of::<$v>() / size_of::<$lane>();
                // A known factor could turn the multiplication into an addition.
                let (mut $x, $y) = (std::hint::black_box($a), std::hint::black_box($b));
                let mut sums = [$zero; $n];
                for _ in 0..iterations {
                    for i in 0..$n {
                        // SAFETY: no instruction; the register comes out as it went in.
                        unsafe {
                            std::arch::asm!("/* {0} */", inout($reg) $x, options(pure, nomem, nostack, preserves_flags));
                        }
                        let $sum = sums[i];
                        sums[i] = $step;
                    }
                }
                // SAFETY: plain numbers of the same total size.
                let lanes: [[$lane; LANES]; $n] = unsafe { std::mem::transmute(sums) };
                $total(lanes.as_flattened())
            }
            // SAFETY: this loop is listed, and can be called, only where `peaks` saw the instruction set.
            unsafe { inner(iterations) }
        }
    };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) use peak;

/// Products of an iteration of the portable integer loop; both factors stay in the first cache.
const PRODUCTS: usize = 1024;

fn int8_scalar(iterations: u64) -> u64 {
    let (a, b) = ([i16::from(A); PRODUCTS], [i16::from(B); PRODUCTS]);
    let mut sum = 0i32;
    for _ in 0..iterations {
        // Unknown in each iteration, or the products would be computed once.
        let (a, b) = (black_box(&a), black_box(&b));
        let products = a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b));
        sum = sum.wrapping_add(products.sum());
    }
    sum_i32(&[sum])
}

/// Lanes of the portable float loop.
const LANES: usize = 32;

fn f32_scalar(iterations: u64) -> u64 {
    let (a, b) = (black_box(1f32), black_box(1f32));
    let mut sums = black_box([0f32; LANES]);
    for _ in 0..iterations {
        for sum in &mut sums {
            *sum = *sum * a + b;
        }
    }
    sum_f32(&sums)
}

static SCALAR: [PeakLoop; 2] = [
    PeakLoop {
        name: "int8-scalar-portable",
        isa: Isa::Scalar,
        operation: Operation::Int8,
        ops_per_iteration: 2 * PRODUCTS as u64,
        run: int8_scalar,
        lane: |n| i32_lane(n.wrapping_mul(15 * PRODUCTS as u64)),
        lanes: 1,
    },
    PeakLoop {
        name: "f32-scalar-portable",
        isa: Isa::Scalar,
        operation: Operation::F32,
        ops_per_iteration: 2 * LANES as u64,
        run: f32_scalar,
        lane: f32_lane,
        lanes: LANES as u64,
    },
];

/// Every loop that `cpu` can run.
pub fn peaks(cpu: Cpu) -> Vec<PeakLoop> {
    #[cfg(target_arch = "x86_64")]
    let native = &super::peak_x86::LOOPS;
    #[cfg(target_arch = "aarch64")]
    let native = &super::peak_neon::LOOPS;
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let native = &[];
    let all = SCALAR.iter().chain(native);
    let found = all.filter(|peak| cpu.has(peak.isa));
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    let found = {
        use super::peak_amx::{LOOP, permitted};
        found.chain(Some(&LOOP).filter(|_| permitted(cpu)))
    };
    found.copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accumulators_hold_what_arithmetic_says() {
        for peak in peaks(Cpu::uncapped()) {
            for iterations in [0, 1, 2, 3, 7, 100, 12_345] {
                assert_eq!(
                    peak.run(iterations),
                    peak.expected(iterations),
                    "{} {iterations}",
                    peak.name()
                );
            }
            assert_ne!(peak.expected(1), peak.expected(2));
        }
    }

    #[test]
    fn both_operations_are_there_on_each_instruction_set() {
        for operation in [Operation::Int8, Operation::F32] {
            for isa in [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Neon] {
                if Cpu::uncapped().has(isa) {
                    let found = peaks(Cpu::capped(isa))
                        .iter()
                        .any(|peak| peak.operation() == operation && peak.isa() == isa);
                    // Without VNNI, AVX-512 multiplies bytes with AVX2's instructions in this list.
                    assert!(
                        found || (isa, operation) == (Isa::Avx512, Operation::Int8),
                        "{isa}"
                    );
                }
            }
        }
    }
}
