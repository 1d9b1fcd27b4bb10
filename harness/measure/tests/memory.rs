//! The resident set of this process as it takes and gives back memory. A file of its own with one test, so that nothing
//! else happens in the process.
#![cfg(target_os = "linux")]

use trit_measure::sys::{FileMap, HugeBuf, Pages};
use trit_measure::{memory, pss, reset_peak_rss};

/// The kernel batches its counts; see `Memory`.
const SLACK: u64 = 4 << 20;
const BYTES: u64 = 64 << 20;

#[test]
fn the_parts_of_the_resident_set_follow_what_is_touched() {
    let start = memory();
    let (Some(peak), Some(rss), Some(anon), Some(file)) = (
        start.peak_rss_bytes,
        start.rss_bytes,
        start.rss_anon_bytes,
        start.rss_file_bytes,
    ) else {
        return;
    };
    assert!(peak + SLACK >= rss);

    // Anonymous memory, on both kinds of page: nothing before it is touched, everything afterwards.
    for pages in [Pages::Small, Pages::Huge] {
        let mut buffer = HugeBuf::with_pages(BYTES as usize, pages).unwrap();
        assert!(memory().rss_anon_bytes.unwrap() < anon + SLACK);
        buffer.touch();
        let now = memory().rss_anon_bytes.unwrap();
        assert!(
            now + SLACK > anon + BYTES && now < anon + BYTES + SLACK,
            "{pages:?} {now} {anon}"
        );
        assert!(memory().peak_rss_bytes.unwrap() + SLACK > peak + BYTES - SLACK);
        if pages == Pages::Small {
            assert_eq!(buffer.huge_bytes().unwrap_or(0), 0);
        }
        if let (Some(huge), Some(all)) = (buffer.huge_bytes(), pss().anon_huge_bytes) {
            assert!(huge <= all && huge <= BYTES, "{huge} {all}");
        }
    }
    assert!(memory().rss_anon_bytes.unwrap() < anon + SLACK);
    let high = memory().peak_rss_bytes.unwrap();
    if reset_peak_rss() {
        assert!(memory().peak_rss_bytes.unwrap() + BYTES < high + SLACK);
    }

    // File-backed memory, and giving it back.
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), vec![1u8; BYTES as usize]).unwrap();
    let before = memory().rss_file_bytes.unwrap();
    assert!(before < file + SLACK);
    let map = FileMap::open(path.path()).unwrap();
    let sum: u64 = map.bytes().iter().map(|&byte| u64::from(byte)).sum();
    assert_eq!(sum, BYTES);
    let parts = memory();
    // A temporary directory in memory shows up as shared memory.
    let mapped = parts.rss_file_bytes.unwrap() + parts.rss_shmem_bytes.unwrap();
    assert!(mapped + SLACK > before + BYTES, "{mapped} {before}");
    assert_eq!(map.release(0..BYTES as usize), BYTES as usize);
    let parts = memory();
    assert!(parts.rss_file_bytes.unwrap() + parts.rss_shmem_bytes.unwrap() < before + SLACK);
    assert!(pss().pss_bytes.unwrap() <= parts.rss_bytes.unwrap() + SLACK);
}
