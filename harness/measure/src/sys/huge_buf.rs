//! Large zeroed memory on huge pages.

use std::io;
use std::ops::Range;
use std::path::Path;

use memmap2::MmapMut;

use crate::roots::text;

/// Bytes of a transparent huge page on x86-64, and on arm64 with 4 KiB base pages.
const HUGE: usize = 2 << 20;

/// The page kind asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// Transparent huge pages, as far as the system has them.
    #[default]
    Huge,
    /// Base pages, even where huge pages are the default of the system.
    Small,
}

/// Zeroed anonymous memory, aligned to 2 MiB (so to every cache line and vector), by default on transparent huge
/// pages.
///
/// Only the whole huge pages inside the buffer are asked for; the rest stays on base pages, so that a buffer never
/// takes more memory than its length rounded up to a page. Memory that was never written is one shared page of
/// zeros: write to it before a read is timed, or the read is one of a single cached page ([`HugeBuf::touch`]).
#[derive(Debug)]
pub struct HugeBuf {
    map: MmapMut,
    range: Range<usize>,
}

impl HugeBuf {
    /// `len` zeros on huge pages.
    ///
    /// # Errors
    /// When the system has not that much address space for us.
    pub fn zeroed(len: usize) -> io::Result<Self> {
        Self::with_pages(len, Pages::Huge)
    }

    /// `len` zeros on the given kind of page.
    ///
    /// # Errors
    /// When the system has not that much address space for us.
    pub fn with_pages(len: usize, pages: Pages) -> io::Result<Self> {
        // The map starts at some base page; with one huge page more than asked for there is an aligned start in it.
        // The slack is address space only: nobody touches it. It also keeps the buffers apart (see `huge_bytes`).
        let mapped = len
            .checked_add(HUGE)
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::OutOfMemory,
                    format!("`{len}` bytes are more than an address space"),
                )
            })?;
        let map = MmapMut::map_anon(mapped)?;
        let start = map.as_ptr().align_offset(HUGE);
        debug_assert!(start <= HUGE);
        #[cfg(target_os = "linux")]
        {
            // Both are hints that an old or unusual kernel may refuse; `huge_bytes` tells what came of them.
            let whole = len / HUGE * HUGE;
            let _hint = match pages {
                Pages::Huge if whole == 0 => Ok(()),
                Pages::Huge => map.advise_range(memmap2::Advice::HugePage, start, whole),
                Pages::Small => map.advise(memmap2::Advice::NoHugePage),
            };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = pages;
        Ok(Self {
            map,
            range: start..start + len,
        })
    }

    /// Bytes in the buffer.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The content.
    pub fn bytes(&self) -> &[u8] {
        &self.map[self.range.clone()]
    }

    /// The content, for writing.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.range.clone()]
    }

    /// Bytes of the buffer that lie on huge pages now, from `/proc/self/smaps`; `None` where that is not told. Slow: for
    /// facts about a run, not for samples.
    pub fn huge_bytes(&self) -> Option<u64> {
        let smaps = text(Path::new("/proc/self/smaps"))?;
        let start = self.bytes().as_ptr() as u64;
        Some(huge_bytes_in(&smaps, start..start + self.len() as u64))
    }

    /// Makes every page present by writing a zero to its first byte. The content is lost where it was not zero:
    /// call it on a fresh buffer.
    pub fn touch(&mut self) {
        let page = super::page_bytes();
        for byte in self.bytes_mut().iter_mut().step_by(page) {
            *byte = 0;
        }
        std::hint::black_box(self.bytes());
    }
}

/// The sum of `AnonHugePages` over the areas of `smaps` that begin inside of `range`.
///
/// The part of a buffer that was advised is an area that begins where the buffer begins, for areas of different
/// advice are not merged, and the slack behind each buffer is not advised.
fn huge_bytes_in(smaps: &str, range: Range<u64>) -> u64 {
    let mut sum = 0;
    let mut inside = false;
    for line in smaps.lines() {
        if let Some(kib) = line.strip_prefix("AnonHugePages:") {
            let kib = kib
                .trim()
                .trim_end_matches("kB")
                .trim_end()
                .parse()
                .unwrap_or(0u64);
            sum += if inside { kib.saturating_mul(1024) } else { 0 };
        } else if let Some(start) = area_start(line) {
            inside = range.contains(&start);
        }
    }
    sum
}

/// The first address of an area, from the line that opens it: `7f12-7f34 rw-p ...`.
fn area_start(line: &str) -> Option<u64> {
    let (start, rest) = line.split_once('-')?;
    rest.split_once(' ')?;
    u64::from_str_radix(start, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_counted_inside_the_buffer_only() {
        let smaps = "1000-200000 rw-p 00000000 00:00 0\nRss: 5 kB\nAnonHugePages:   2048 kB\n\
            200000-600000 rw-p 00000000 00:00 0 [anon: a-b c]\nAnonHugePages:   4096 kB\nVmFlags: rd wr hg\n\
            600000-800000 rw-p 00000000 00:00 0\nAnonHugePages:      0 kB\n\
            800000-a00000 rw-p 00000000 00:00 0\nAnonHugePages:   6144 kB\n";
        assert_eq!(huge_bytes_in(smaps, 0x20_0000..0x70_0000), 4096 << 10);
        assert_eq!(huge_bytes_in(smaps, 0x20_0000..0x80_0001), 10_240 << 10);
        assert_eq!(huge_bytes_in("", 0..u64::MAX), 0);
    }

    #[test]
    fn is_zero_aligned_and_writable() {
        for pages in [Pages::Huge, Pages::Small] {
            for len in [0, 1, 63, 4096, 4097, HUGE - 1, HUGE, HUGE + 1, 3 * HUGE + 5] {
                let mut buf = HugeBuf::with_pages(len, pages).unwrap();
                assert_eq!((buf.len(), buf.is_empty()), (len, len == 0));
                assert_eq!(buf.bytes().as_ptr() as usize % HUGE, 0);
                assert!(buf.bytes().iter().all(|&byte| byte == 0));
                buf.bytes_mut().fill(0xa5);
                assert!(buf.bytes().iter().all(|&byte| byte == 0xa5));
            }
        }
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        for len in [usize::MAX, usize::MAX - HUGE, isize::MAX as usize] {
            assert_eq!(
                HugeBuf::zeroed(len).unwrap_err().kind(),
                io::ErrorKind::OutOfMemory
            );
        }
        assert!(HugeBuf::zeroed(1 << 60).is_err());
    }

    #[test]
    fn can_be_shared_and_sent() {
        fn check<T: Send + Sync>(_: &T) {}
        check(&HugeBuf::zeroed(1).unwrap());
    }
}
