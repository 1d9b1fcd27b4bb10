//! The one list of all kernels.
//!
//! Every kernel is here, whether or not this machine can run it: [`KernelEntry::open`] says so, with the reason.
#![forbid(unsafe_code)]

mod tune;

use trit_kernel::{Cpu, DenseEntry, KernelEntry, LayoutId};

pub use tune::{Situation, TUNE_SCHEMA, TuneError, TuneTable, TunedTime};

/// All ternary kernels, slow to fast within a family. A new kernel is one line here.
static KERNELS: &[KernelEntry] = &[
    trit_kernel_naive::NAIVE_ENTRY,
    trit_kernel_naive::SWAR_ENTRY,
    trit_kernel_lut::LUT2_AVX2_ENTRY,
    trit_kernel_lut::LUT3_AVX2_ENTRY,
    trit_kernel_lut::LUT2_AVX512_ENTRY,
    trit_kernel_lut::LUT3_AVX512_ENTRY,
    trit_kernel_lut::LUT5_AVX512_ENTRY,
    trit_kernel_lut::LUT4_VBMI_ENTRY,
    trit_kernel_lut::LUT5_VBMI_ENTRY,
    trit_kernel_lut::LUT2_NEON_ENTRY,
    trit_kernel_lut::LUT3_NEON_ENTRY,
    trit_kernel_avx2::MAD_ENTRY,
    trit_kernel_avx2::VNNI_ENTRY,
    trit_kernel_avx512::VNNI_ENTRY,
    trit_kernel_avx512::VBMI_ENTRY,
    trit_kernel_amx::TILE_ENTRY,
    trit_kernel_neon::MAD_ENTRY,
    trit_kernel_neon::DOT_ENTRY,
    trit_kernel_neon::MMLA_ENTRY,
];

/// All dense baselines. A new one is one line here.
static DENSE: &[DenseEntry] = &[
    trit_kernel_dense::F32_SCALAR_ENTRY,
    trit_kernel_dense::F32_AVX2_ENTRY,
    trit_kernel_dense::F32_AVX512_ENTRY,
    trit_kernel_dense::F16_AVX2_ENTRY,
    trit_kernel_dense::F16_AVX512_ENTRY,
    trit_kernel_dense::I8_AVX2_ENTRY,
    trit_kernel_dense::I8_AVXVNNI_ENTRY,
    trit_kernel_dense::I8_AVX512_ENTRY,
    trit_kernel_dense::Q4_AVX2_ENTRY,
    trit_kernel_dense::Q4_AVXVNNI_ENTRY,
    trit_kernel_dense::Q4_AVX512_ENTRY,
    trit_kernel_dense::F32_NEON_ENTRY,
    trit_kernel_dense::F16_NEON_ENTRY,
    trit_kernel_dense::I8_NEON_ENTRY,
    trit_kernel_dense::I8_DOT_ENTRY,
    trit_kernel_dense::Q4_NEON_ENTRY,
    trit_kernel_dense::Q4_DOT_ENTRY,
];

/// Ids from best to worst for one token. The order is that of measurements in `kernels/README.md`; ids that are not here
/// are never chosen unasked.
const DECODE: &[&str] = &[
    "w2a8-mad-avx512vnni",
    "w2a8-mad-avxvnni",
    "w2a8-mad-avx2",
    "w2a8-dot-neon",
    "w2a8-mad-neon",
    "w2a8-swar-scalar",
    "w2a8-naive-scalar",
];

/// Ids from best to worst for several tokens. The place of AMX is that of its peak, eight times that of `vpdpbusd` on two ports: no
/// machine has measured it yet.
const PREFILL: &[&str] = &[
    "w2a8-tile-amx",
    "w2a8-mad-avx512vnni",
    "w2a8-mad-avxvnni",
    "w2a8-mad-avx2",
    "w2a8-mmla-neon",
    "w2a8-dot-neon",
    "w2a8-mad-neon",
    "w2a8-swar-scalar",
    "w2a8-naive-scalar",
];

/// A kernel id that is not in the list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kernel `{id}`; hint: use one of {}", near.join(" "))]
pub struct UnknownKernel {
    /// What was asked for.
    pub id: String,
    /// All ids of the list, nearest first.
    pub near: Vec<&'static str>,
}

/// All ternary kernels.
pub fn kernels() -> &'static [KernelEntry] {
    KERNELS
}

/// All dense baselines.
pub fn dense() -> &'static [DenseEntry] {
    DENSE
}

/// The ternary kernel `id`.
///
/// # Errors
/// When there is none; the error names all, nearest first.
pub fn find(id: &str) -> Result<&'static KernelEntry, UnknownKernel> {
    let found = KERNELS.iter().find(|entry| entry.info.id == id);
    found.ok_or_else(|| unknown(id, KERNELS.iter().map(|entry| entry.info.id)))
}

/// The dense baseline `id`.
///
/// # Errors
/// When there is none; the error names all, nearest first.
pub fn find_dense(id: &str) -> Result<&'static DenseEntry, UnknownKernel> {
    let found = DENSE.iter().find(|entry| entry.info.id == id);
    found.ok_or_else(|| unknown(id, DENSE.iter().map(|entry| entry.info.id)))
}

/// The kernel that opens on `cpu` and comes first in the order of measurements for this many tokens, of those that read `layout`, where
/// one is given: naive at worst. Kernels that are meant for more tokens are left out. [`TuneTable::best`] knows the machine better.
pub fn best(cpu: Cpu, tokens: usize, layout: Option<LayoutId>) -> &'static KernelEntry {
    let order = if tokens < 2 { DECODE } else { PREFILL };
    order
        .iter()
        .filter_map(|id| find(id).ok())
        .filter(|entry| entry.info.min_tokens <= tokens.max(1))
        .filter(|entry| layout.is_none_or(|layout| entry.info.accepts.contains(&layout)))
        .find(|entry| (entry.open)(cpu).is_ok())
        .unwrap_or(&KERNELS[0])
}

fn unknown(id: &str, ids: impl Iterator<Item = &'static str>) -> UnknownKernel {
    let mut near: Vec<&'static str> = ids.collect();
    near.sort_by_key(|other| distance(id, other));
    UnknownKernel {
        id: id.to_owned(),
        near,
    }
}

/// Levenshtein's distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use trit_kernel::{Family, Isa};

    use super::*;

    /// `w<bits>a8-<method>-<isa>[-variant]`: the parts.
    fn parts(id: &str) -> Option<(f64, &str, &str)> {
        let mut parts = id.splitn(4, '-');
        let bits = parts.next()?.strip_prefix('w')?.strip_suffix("a8")?;
        let (method, isa) = (parts.next()?, parts.next()?);
        let word = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        let variant = parts
            .next()
            .is_none_or(|variant| variant.split('-').all(word));
        (word(method) && word(isa) && variant).then_some(())?;
        Some((bits.parse().ok()?, method, isa))
    }

    #[test]
    fn ids_are_unique_and_say_what_the_kernel_is() {
        let mut seen = BTreeSet::new();
        for entry in kernels() {
            let info = entry.info;
            let id = info.id;
            assert!(seen.insert(id), "{id} twice");
            let (bits, method, isa) = parts(id).unwrap_or_else(|| panic!("{id} is no kernel id"));
            assert!(
                (bits - info.weight_bits()).abs() < 0.01,
                "{id}: {} bits",
                info.weight_bits()
            );
            // NEON's levels are methods: `w2a8-dot-neon`.
            if info.family == Family::Neon {
                assert_eq!(isa, "neon", "{id}");
                assert!(info.isa == Isa::Neon || method == info.isa.name(), "{id}");
            } else {
                assert_eq!(isa, info.isa.name(), "{id}");
            }
            assert!(!info.accepts.is_empty() && info.min_tokens >= 1, "{id}");
            assert!(
                !info.summary.is_empty() && !info.summary.ends_with('.'),
                "{id}"
            );
            if let Ok(kernel) = (entry.open)(Cpu::uncapped()) {
                assert!(
                    std::ptr::eq(kernel.info(), info),
                    "{id} opens another kernel"
                );
            }
        }
        for entry in dense() {
            let info = entry.info;
            let id = info.id;
            assert!(seen.insert(id), "{id} twice");
            let rest = id
                .strip_prefix(info.format.name())
                .unwrap_or_else(|| panic!("{id}"));
            assert!(rest.starts_with(&format!("-dense-{}", info.isa)), "{id}");
            if let Ok(kernel) = (entry.open)(Cpu::uncapped()) {
                assert!(
                    std::ptr::eq(kernel.info(), info),
                    "{id} opens another kernel"
                );
            }
        }
    }

    #[test]
    fn no_kernel_of_a_family_is_forgotten() {
        let families = [
            trit_kernel_naive::ENTRIES,
            trit_kernel_lut::ENTRIES,
            trit_kernel_avx2::ENTRIES,
            trit_kernel_avx512::ENTRIES,
            trit_kernel_amx::ENTRIES,
        ];
        for entry in families.into_iter().flatten() {
            assert!(
                find(entry.info.id).is_ok(),
                "{} is not registered",
                entry.info.id
            );
        }
        for entry in trit_kernel_dense::ENTRIES {
            assert!(
                find_dense(entry.info.id).is_ok(),
                "{} is not registered",
                entry.info.id
            );
        }
    }

    #[test]
    fn an_unknown_kernel_is_answered_with_near_names() {
        let Err(error) = find("w2a8-mad-avx3") else {
            panic!("there is no such kernel");
        };
        assert_eq!(error.near[0], "w2a8-mad-avx2");
        assert_eq!(error.near.len(), kernels().len());
        assert!(
            error
                .to_string()
                .starts_with("unknown kernel `w2a8-mad-avx3`; hint: use one of w2a8-mad-avx2 ")
        );
        assert!(find_dense("w2a8-mad-avx2").is_err());
    }

    #[test]
    fn the_best_kernel_opens_and_respects_the_cap() {
        for tokens in [0, 1, 2, 128] {
            for isa in Isa::ALL {
                let cpu = Cpu::capped(isa);
                let entry = best(cpu, tokens, None);
                assert!((entry.open)(cpu).is_ok());
                assert!(entry.info.isa == Isa::Scalar || entry.info.isa <= isa);
                assert!(entry.info.min_tokens <= tokens.max(1));
                // Somebody reads every layout.
                for layout in LayoutId::ALL {
                    let entry = best(cpu, tokens, Some(layout));
                    assert!(entry.info.accepts.contains(&layout), "{layout:?}");
                }
            }
            assert_eq!(
                best(Cpu::capped(Isa::Scalar), tokens, None).info.id,
                "w2a8-swar-scalar"
            );
        }
    }

    #[test]
    fn every_preferred_id_exists() {
        for id in DECODE.iter().chain(PREFILL) {
            assert!(find(id).is_ok(), "{id}");
        }
    }
}
