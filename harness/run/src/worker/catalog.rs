//! What this build knows: the kernels of the registry, and why one cannot run here.

use trit_kernel::Cpu;

use crate::protocol::KernelFacts;

/// Kernels that must not even be opened, with commas between them: whoever started this worker saw their instructions trap,
/// and opening one would end this process too.
pub(super) const AVOID: &str = "TRIT_AVOID";

/// Every kernel and baseline of the registry, opened once to see whether it can run.
pub(super) fn kernels(cpu: Cpu) -> Vec<KernelFacts> {
    let avoid = std::env::var(AVOID).unwrap_or_default();
    let avoided = |id: &str| {
        avoid
            .split(',')
            .any(|avoid| avoid == id)
            .then(|| "the CPU reports the instruction set, but its instructions trap".to_owned())
    };
    let ternary = trit_kernels::kernels().iter().map(|entry| KernelFacts {
        id: entry.info.id.to_owned(),
        dense: false,
        isa: entry.info.isa.name().to_owned(),
        layout: entry.info.accepts[0].name().to_owned(),
        weight_bits: entry.info.weight_bits(),
        unavailable: avoided(entry.info.id).unwrap_or_else(|| {
            let reason = (entry.open)(cpu).err();
            reason.map_or_else(String::new, |why| why.to_string())
        }),
        ..KernelFacts::default()
    });
    let dense = trit_kernels::dense().iter().map(|entry| KernelFacts {
        id: entry.info.id.to_owned(),
        dense: true,
        isa: entry.info.isa.name().to_owned(),
        layout: entry.info.format.name().to_owned(),
        weight_bits: entry.info.format.weight_bits(),
        unavailable: avoided(entry.info.id).unwrap_or_else(|| {
            let reason = (entry.open)(cpu).err();
            reason.map_or_else(String::new, |why| why.to_string())
        }),
        ..KernelFacts::default()
    });
    ternary.chain(dense).collect()
}
