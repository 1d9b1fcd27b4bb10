//! Opening a kernel for a test, skipping loudly, and failing where a skip is not acceptable.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use trit_kernel::{Cpu, DenseEntry, DenseKernel, Family, Isa, Kernel, KernelEntry, Unavailable};

/// Opens a ternary kernel, or says on stderr why not.
///
/// # Panics
/// When the kernel is unavailable and `TRIT_REQUIRE` names it, its instruction set or its family; or when `TRIT_ISA`
/// or `TRIT_REQUIRE` cannot be understood.
pub fn open(entry: &KernelEntry) -> Option<Box<dyn Kernel>> {
    let info = entry.info;
    available(info.id, info.isa, info.family, entry.open)
}

/// Opens a dense kernel, or says on stderr why not.
///
/// # Panics
/// As [`open`].
pub fn open_dense(entry: &DenseEntry) -> Option<Box<dyn DenseKernel>> {
    let info = entry.info;
    available(info.id, info.isa, info.family(), entry.open)
}

fn available<K: ?Sized>(
    id: &str,
    isa: Isa,
    family: Family,
    open: fn(Cpu) -> Result<Box<K>, Unavailable>,
) -> Option<Box<K>> {
    let cpu = Cpu::from_env().unwrap_or_else(|error| panic!("TRIT_ISA: {error}"));
    let required = std::env::var("TRIT_REQUIRE").unwrap_or_default();
    let required = requires(&required, id, isa, family).unwrap_or_else(|error| panic!("{error}"));
    outcome(id, open(cpu), required)
}

fn outcome<K: ?Sized>(
    id: &str,
    opened: Result<Box<K>, Unavailable>,
    required: bool,
) -> Option<Box<K>> {
    match opened {
        Ok(kernel) => Some(kernel),
        Err(reason) if required => {
            panic!("{id} is required by TRIT_REQUIRE but unavailable: {reason}")
        }
        Err(reason) => {
            // Once a kernel, not once a test; and not `eprintln!`: the harness would capture it, and the skip be silent.
            static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
            let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
            if said.insert(id.to_owned()) {
                let _ = writeln!(std::io::stderr(), "SKIPPED {id}: {reason}");
            }
            None
        }
    }
}

const FAMILIES: [Family; 7] = [
    Family::Naive,
    Family::Lut,
    Family::Avx2,
    Family::Avx512,
    Family::Amx,
    Family::Neon,
    Family::Dense,
];

/// Whether the list `required` names this kernel. A name that can match nothing is an error, or a typing mistake would
/// switch the check off.
fn requires(required: &str, id: &str, isa: Isa, family: Family) -> Result<bool, String> {
    let mut hit = false;
    for name in required.split(',').map(str::trim).filter(|n| !n.is_empty()) {
        let known = name.contains("a8-")
            || name.contains("-dense-")
            || name.parse::<Isa>().is_ok()
            || FAMILIES.iter().any(|f| f.to_string() == name);
        if !known {
            return Err(format!(
                "TRIT_REQUIRE: `{name}` is no kernel id, instruction set or family; hint: TRIT_REQUIRE=avx2,neon"
            ));
        }
        hit |= name == id || name == isa.name() || name == family.to_string();
    }
    Ok(hit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_required_kernel_is_named_by_id_isa_or_family() {
        let is = |list| requires(list, "w2a8-dot-neon", Isa::NeonDot, Family::Neon);
        assert_eq!(is(""), Ok(false));
        assert_eq!(is("avx2,w2a8-mad-neon"), Ok(false));
        for list in ["neon", "dot", "avx2, w2a8-dot-neon"] {
            assert_eq!(is(list), Ok(true), "{list}");
        }
        assert!(is("neno").is_err());
    }

    #[test]
    #[should_panic(expected = "is required by TRIT_REQUIRE")]
    fn a_required_skip_fails() {
        outcome::<dyn Kernel>("w2a8-tile-amx", Err(Unavailable::Architecture), true);
    }

    #[test]
    fn another_skip_does_not() {
        assert!(outcome::<dyn Kernel>("(a test)", Err(Unavailable::Architecture), false).is_none());
    }
}
