//! Which instruction sets may be used: what the CPU reports, capped by `TRIT_ISA`.

use std::fmt;
use std::str::FromStr;

/// An instruction-set level that a kernel needs. The order within one architecture is the order of
/// `TRIT_ISA`: a cap allows every level up to and including itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Portable Rust.
    Scalar,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-VNNI: `vpdpbusd` with VEX encoding, 256 bits.
    AvxVnni,
    /// AVX-512 F, BW, DQ, VL.
    Avx512,
    /// AVX-512 VNNI.
    Avx512Vnni,
    /// AVX-512 VBMI and VBMI2.
    Avx512Vbmi,
    /// AMX tile and int8, with AVX-512.
    Amx,
    /// `AArch64` Advanced SIMD.
    Neon,
    /// `AArch64` dot product (`sdot`).
    NeonDot,
    /// `AArch64` int8 matrix multiply (`smmla`).
    NeonI8mm,
}

impl Isa {
    /// Every level, in order.
    pub const ALL: [Self; 10] = [
        Self::Scalar,
        Self::Avx2,
        Self::AvxVnni,
        Self::Avx512,
        Self::Avx512Vnni,
        Self::Avx512Vbmi,
        Self::Amx,
        Self::Neon,
        Self::NeonDot,
        Self::NeonI8mm,
    ];

    /// The name used in kernel ids, in `TRIT_ISA` and in the `isa` column.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avxvnni",
            Self::Avx512 => "avx512",
            Self::Avx512Vnni => "avx512vnni",
            Self::Avx512Vbmi => "avx512vbmi",
            Self::Amx => "amx",
            Self::Neon => "neon",
            Self::NeonDot => "dot",
            Self::NeonI8mm => "mmla",
        }
    }

    /// Whether the level exists on the architecture this program was compiled for.
    pub const fn is_native(self) -> bool {
        match self {
            Self::Scalar => true,
            Self::Neon | Self::NeonDot | Self::NeonI8mm => cfg!(target_arch = "aarch64"),
            _ => cfg!(target_arch = "x86_64"),
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A value of `TRIT_ISA` that names no level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseIsaError(pub String);

impl fmt::Display for ParseIsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown instruction set `{}`; hint: use one of", self.0)?;
        Isa::ALL.iter().try_for_each(|isa| write!(f, " {isa}"))
    }
}

impl std::error::Error for ParseIsaError {}

impl FromStr for Isa {
    type Err = ParseIsaError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.name() == text)
            .ok_or_else(|| ParseIsaError(text.to_owned()))
    }
}

/// Why a kernel cannot be opened on this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The kernel is for another architecture.
    #[error("needs another architecture than {}", std::env::consts::ARCH)]
    Architecture,
    /// The CPU does not report the instruction set.
    #[error("the CPU does not report {0}")]
    Missing(Isa),
    /// `TRIT_ISA` forbids the instruction set.
    #[error("{needs} is above the cap TRIT_ISA={cap}")]
    Capped {
        /// What the kernel needs.
        needs: Isa,
        /// What `TRIT_ISA` allows.
        cap: Isa,
    },
    /// The operating system refused (AMX permission, for example).
    #[error("the operating system refused: {0}")]
    Refused(String),
    /// The CPU reports the instruction set, but an executed probe gave a wrong answer.
    #[error("{0} is reported but a probe computed a wrong answer")]
    Probe(Isa),
}

/// The instruction sets this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    cap: Option<Isa>,
}

impl Cpu {
    /// The CPU as it is, without a cap.
    pub const fn uncapped() -> Self {
        Self { cap: None }
    }

    /// The CPU with the levels above `cap` switched off.
    pub const fn capped(cap: Isa) -> Self {
        Self { cap: Some(cap) }
    }

    /// The CPU as the environment variable `TRIT_ISA` allows it; unset or empty means no cap.
    ///
    /// # Errors
    /// When `TRIT_ISA` names no instruction set.
    pub fn from_env() -> Result<Self, ParseIsaError> {
        match std::env::var("TRIT_ISA") {
            Ok(text) if !text.is_empty() => text.parse().map(Self::capped),
            _ => Ok(Self::uncapped()),
        }
    }

    /// The cap, if there is one.
    pub const fn cap(self) -> Option<Isa> {
        self.cap
    }

    /// Whether `isa` can be used here.
    ///
    /// For [`Isa::Amx`] this is what the CPU reports; whether the operating system has enabled the tile registers
    /// and lets this process use them, the AMX crate asks itself.
    ///
    /// # Errors
    /// The first reason why it cannot be used.
    pub fn check(self, isa: Isa) -> Result<(), Unavailable> {
        if !isa.is_native() {
            return Err(Unavailable::Architecture);
        }
        if let Some(cap) = self.cap.filter(|cap| isa > *cap) {
            return Err(Unavailable::Capped { needs: isa, cap });
        }
        if reported(isa) {
            Ok(())
        } else {
            Err(Unavailable::Missing(isa))
        }
    }

    /// Whether `isa` can be used here; see [`Cpu::check`].
    pub fn has(self, isa: Isa) -> bool {
        self.check(isa).is_ok()
    }

    /// The levels that can be used here, in order.
    pub fn levels(self) -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| self.has(*isa)).collect()
    }
}

#[cfg(target_arch = "x86_64")]
fn reported(isa: Isa) -> bool {
    let avx2 = || {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
    };
    let avx512 = || {
        avx2()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
    };
    match isa {
        Isa::Scalar => true,
        Isa::Avx2 => avx2(),
        Isa::AvxVnni => avx2() && is_x86_feature_detected!("avxvnni"),
        Isa::Avx512 => avx512(),
        Isa::Avx512Vnni => avx512() && is_x86_feature_detected!("avx512vnni"),
        Isa::Avx512Vbmi => {
            avx512()
                && is_x86_feature_detected!("avx512vnni")
                && is_x86_feature_detected!("avx512vbmi")
                && is_x86_feature_detected!("avx512vbmi2")
        }
        // The standard library does not detect AMX yet. AVX-512 unpacks for the tiles, and where it is there is leaf 7.
        Isa::Amx => avx512() && std::arch::x86_64::__cpuid_count(7, 0).edx & AMX == AMX,
        Isa::Neon | Isa::NeonDot | Isa::NeonI8mm => false,
    }
}

/// AMX-TILE and AMX-INT8 in EDX of CPUID leaf 7 (Intel SDM volume 2, `CPUID`).
#[cfg(target_arch = "x86_64")]
const AMX: u32 = 1 << 24 | 1 << 25;

#[cfg(target_arch = "aarch64")]
fn reported(isa: Isa) -> bool {
    use std::arch::is_aarch64_feature_detected;
    match isa {
        Isa::Scalar => true,
        Isa::Neon => is_aarch64_feature_detected!("neon"),
        Isa::NeonDot => is_aarch64_feature_detected!("dotprod"),
        Isa::NeonI8mm => is_aarch64_feature_detected!("i8mm"),
        _ => false,
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn reported(isa: Isa) -> bool {
    isa == Isa::Scalar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for isa in Isa::ALL {
            assert_eq!(isa.name().parse(), Ok(isa));
        }
        assert!(
            "sse9"
                .parse::<Isa>()
                .unwrap_err()
                .to_string()
                .contains("avx2")
        );
    }

    #[test]
    fn a_cap_switches_off_what_is_above_it() {
        assert_eq!(Cpu::capped(Isa::Scalar).levels(), [Isa::Scalar]);
        if Isa::Avx2.is_native() {
            assert_eq!(
                Cpu::capped(Isa::Avx2).check(Isa::Avx512),
                Err(Unavailable::Capped {
                    needs: Isa::Avx512,
                    cap: Isa::Avx2
                })
            );
        }
    }
}
