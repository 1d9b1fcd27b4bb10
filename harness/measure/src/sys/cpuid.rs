//! What the hypervisor says about itself.

/// The 12 characters of CPUID leaf `0x4000_0000`, without trailing zeros. `None` on other architectures and where the
/// text is not printable. Meaningful on a virtual machine only: elsewhere the leaf holds something else.
pub(crate) fn hypervisor_signature() -> Option<String> {
    #[cfg(target_arch = "x86_64")]
    {
        let leaf = std::arch::x86_64::__cpuid(0x4000_0000);
        let bytes = [leaf.ebx, leaf.ecx, leaf.edx]
            .map(u32::to_le_bytes)
            .concat();
        let text = String::from_utf8(bytes).ok()?;
        let text = text.trim_end_matches('\0');
        let printable = text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
        (printable && !text.is_empty()).then(|| text.to_owned())
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}
