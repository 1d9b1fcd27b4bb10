//! The heap of the C library.

/// Gives the free pages of the heap back to the system. The allocator of glibc keeps what was freed below something that is
/// still held, tens of megabytes after a model was loaded, and they would be counted as if they were needed. Takes milliseconds:
/// never while something is timed. Other allocators are left alone.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: the call takes the locks of the allocator and gives back pages that hold no allocation.
        let _given = unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_keeps_its_content() {
        let held: Vec<Vec<u8>> = (0..64).map(|i| vec![i; 100_000]).collect();
        let freed: Vec<Vec<u8>> = (0..64).map(|i| vec![i; 100_000]).collect();
        let last = vec![7u8; 64];
        drop(freed);
        trim_heap();
        for (i, bytes) in (0..).zip(&held) {
            assert!(bytes.len() == 100_000 && bytes.iter().all(|byte| *byte == i));
        }
        assert_eq!(last, [7; 64]);
    }
}
