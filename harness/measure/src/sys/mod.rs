//! System calls and shared memory behind safe interfaces: the only module of the crate with unsafe code.

pub mod affinity;
#[cfg(target_os = "linux")]
pub mod child;
pub(crate) mod columns;
mod cpuid;
mod file_map;
mod heap;
mod huge_buf;
pub mod interrupt;
mod left;
pub(crate) mod perf;
pub mod process;
pub(crate) mod team;
pub(crate) mod usage;

pub(crate) use cpuid::hypervisor_signature;
pub use file_map::{FileMap, drop_file_pages};
pub use heap::trim_heap;
pub use huge_buf::{HugeBuf, Pages};

/// Bytes of a page of memory.
pub fn page_bytes() -> usize {
    // SAFETY: `sysconf` only reads a constant of the system.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    // POSIX requires a page size of at least 1; 4096 is what every supported system falls back to.
    usize::try_from(bytes)
        .ok()
        .filter(|bytes| bytes.is_power_of_two())
        .unwrap_or(4096)
}
