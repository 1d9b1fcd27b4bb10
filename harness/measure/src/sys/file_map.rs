//! A file mapped for reading.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use memmap2::{Advice, Mmap, UncheckedAdvice};

use super::page_bytes;

/// A file mapped read-only. Model files are read through it: only pages that are looked at are loaded, and they can
/// be given back.
///
/// A mapped file must not be changed or shortened while it is in use: reading beyond the new end kills the process
/// with SIGBUS, as with every program that maps its files.
#[derive(Debug)]
pub struct FileMap {
    map: Mmap,
    file: File,
}

impl FileMap {
    /// Maps the whole file at `path`.
    ///
    /// # Errors
    /// When it cannot be opened or mapped (a directory, for example).
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(&File::open(path)?)
    }

    /// Maps a whole open file; this handle of it may be closed afterwards.
    ///
    /// # Errors
    /// When it cannot be mapped, or no more files may be open.
    pub fn of(file: &File) -> io::Result<Self> {
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        // SAFETY: the map is read-only and nobody in this process writes to model files while they are mapped; what
        // other processes must not do is stated at the type.
        let map = unsafe { Mmap::map(file)? };
        let file = file.try_clone()?;
        Ok(Self { map, file })
    }

    /// The content of the file. Its first byte is at a page boundary.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Copies the bytes from `offset` on into `out` and maps no page for it, which would be up to 2 MiB of the page cache for one byte.
    ///
    /// # Panics
    /// When the range is not inside the file as it was mapped.
    pub fn copy(&self, offset: usize, out: &mut [u8]) {
        let range = self.checked(offset..offset.saturating_add(out.len()));
        #[cfg(unix)]
        if std::os::unix::fs::FileExt::read_exact_at(&self.file, out, offset as u64).is_ok() {
            return;
        }
        // Whatever a read says, the map is there.
        out.copy_from_slice(&self.map[range]);
    }

    /// Tells the system that the file will be read from front to back, which doubles its read-ahead. A hint: where
    /// it is refused nothing changes.
    pub fn advise_sequential(&self) {
        let _hint = self.map.advise(Advice::Sequential);
    }

    /// Tells the system that the file will be read here and there, which turns read-ahead off. A hint.
    pub fn advise_random(&self) {
        let _hint = self.map.advise(Advice::Random);
    }

    /// Asks the system to load `range` (bytes of the file) in the background. A hint.
    ///
    /// # Panics
    /// When the range is not inside the file.
    pub fn advise_will_need(&self, range: Range<usize>) {
        let range = self.checked(range);
        if !range.is_empty() {
            let _hint = self
                .map
                .advise_range(Advice::WillNeed, range.start, range.len());
        }
    }

    /// Loads the pages of `range` (bytes of the file) and maps them, so that reading them takes no page faults. Where the system
    /// has no such call (Linux before 5.14), or no memory, nothing happens: they are loaded when somebody looks at them.
    ///
    /// # Panics
    /// When the range is not inside the file.
    pub fn populate(&self, range: Range<usize>) {
        let range = self.checked(range);
        #[cfg(target_os = "linux")]
        if !range.is_empty() {
            let _hint = self
                .map
                .advise_range(Advice::PopulateRead, range.start, range.len());
        }
        #[cfg(not(target_os = "linux"))]
        let _ = range;
    }

    /// Takes the whole pages inside `range` (bytes of the file) out of this process' resident set; they are loaded
    /// again when somebody looks at them. Returns the number of bytes given back, 0 where the system refuses.
    ///
    /// # Panics
    /// When the range is not inside the file.
    pub fn release(&self, range: Range<usize>) -> usize {
        let range = self.checked(range);
        let page = page_bytes();
        let start = range.start.next_multiple_of(page);
        // The last page of a file belongs to it alone, so the end of the file counts as the end of a page.
        let end = if range.end == self.map.len() {
            range.end
        } else {
            range.end / page * page
        };
        if start >= end {
            return 0;
        }
        // SAFETY: MADV_DONTNEED drops pages of a shared read-only map of a file. The next access loads the same
        // bytes from the file again, so slices into the range stay valid and keep their content.
        let released = unsafe {
            self.map
                .unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start)
        };
        if released.is_ok() { end - start } else { 0 }
    }

    /// Bytes of the file that the page cache holds, whoever put them there.
    ///
    /// # Errors
    /// When the system does not tell: only Linux does here.
    pub fn resident_bytes(&self) -> io::Result<usize> {
        #[cfg(target_os = "linux")]
        {
            let page = page_bytes();
            let mut pages = vec![0u8; self.map.len().div_ceil(page)];
            if pages.is_empty() {
                return Ok(0);
            }
            // SAFETY: the range is the map's, and `pages` has a byte for each page of it.
            let result = unsafe {
                libc::mincore(
                    self.map.as_ptr().cast_mut().cast(),
                    self.map.len(),
                    pages.as_mut_ptr(),
                )
            };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
            // The lowest bit is the answer. The last page may have fewer bytes of the file.
            let starts = (0..self.map.len()).step_by(page);
            let resident = starts.zip(&pages).filter(|(_, page)| **page & 1 == 1);
            Ok(resident
                .map(|(start, _)| page.min(self.map.len() - start))
                .sum())
        }
        #[cfg(not(target_os = "linux"))]
        Err(io::ErrorKind::Unsupported.into())
    }

    fn checked(&self, range: Range<usize>) -> Range<usize> {
        assert!(
            range.start <= range.end && range.end <= self.map.len(),
            "bytes {range:?} are not inside a file of {} bytes",
            self.map.len()
        );
        range
    }
}

/// Writes what is not yet on the disk, and asks the system to take the file out of the page cache. Pages that anybody has mapped
/// stay: look with [`FileMap::resident_bytes`] what came of it.
///
/// # Errors
/// When the system refuses, and on systems without such a call.
pub fn drop_file_pages(file: &File) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        // Only clean pages can be dropped. A file that is open for reading alone may refuse this, and needs it not.
        let _synced = file.sync_all();
        // SAFETY: the descriptor is open, and the call changes nothing but what is cached.
        let result =
            unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        match result {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file.flush().unwrap();
        file
    }

    #[test]
    fn copies_are_of_the_map_and_end_with_it() {
        let content: Vec<u8> = (0..70_000).map(|i| (i * 31 % 251) as u8).collect();
        let file = file(&content);
        let map = FileMap::open(file.path()).unwrap();
        for (offset, len) in [(0, 70_000), (4095, 2), (69_999, 1), (70_000, 0), (17, 5000)] {
            let mut out = vec![0xee; len];
            map.copy(offset, &mut out);
            assert_eq!(out, content[offset..offset + len]);
        }
        for (offset, len) in [(69_999, 2), (70_001, 0), (usize::MAX, 3)] {
            let beyond = std::panic::AssertUnwindSafe(|| map.copy(offset, &mut vec![0; len]));
            assert!(std::panic::catch_unwind(beyond).is_err(), "{offset}");
        }
    }

    #[test]
    fn shows_the_bytes_and_keeps_them_after_a_release() {
        let page = page_bytes();
        let content: Vec<u8> = (0..3 * page + 100).map(|i| (i * 31 % 251) as u8).collect();
        let file = file(&content);
        let map = FileMap::open(file.path()).unwrap();
        map.advise_sequential();
        map.advise_will_need(10..2 * page);
        assert_eq!(map.bytes(), content);
        // Only whole pages: the first and the last one are cut.
        assert_eq!(map.release(1..3 * page - 1), page);
        assert_eq!(map.release(0..0), 0);
        assert_eq!(map.release(1..page), 0);
        assert_eq!(map.bytes(), content);
        assert_eq!(map.release(0..content.len()), content.len());
        map.advise_random();
        map.populate(page + 1..2 * page);
        map.populate(5..5);
        assert_eq!(map.bytes(), content);
    }

    #[test]
    fn an_empty_file_has_no_bytes() {
        let file = file(b"");
        let map = FileMap::open(file.path()).unwrap();
        assert_eq!(map.bytes(), b"");
        assert_eq!(map.release(0..0), 0);
    }

    #[test]
    fn a_missing_file_and_a_directory_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            FileMap::open(&dir.path().join("no")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert_eq!(
            FileMap::open(dir.path()).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    #[test]
    #[should_panic(expected = "are not inside a file of 3 bytes")]
    fn a_range_outside_of_the_file_is_refused() {
        FileMap::open(file(b"abc").path()).unwrap().release(0..4);
    }
}
