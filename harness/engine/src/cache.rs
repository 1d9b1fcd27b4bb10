//! Packed weights kept on disk, so that a model that has to be packed anew for its kernel or its head starts as fast as one that does not.
//!
//! A file holds the ternary weights of one model in one layout, or its head in one type:
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `TRITPACK` |
//! | 8 | version of this form, little-endian like all numbers here: 2 |
//! | 32 | key: SHA-256 over size and mtime of each weight file, all that their headers say, the layout or the head, and the version of the program |
//! | 8, 8 | bytes of the weights, number of sections |
//! | 16 a section | where a section (a matrix, or a piece of one) begins in the weights, and its bytes |
//! | 4 a section | CRC-32 of the section |
//! | 4 | CRC-32 of everything before |
//! | the rest | the weights |
//!
//! A file is written beside its name and renamed when it is on the disk: a crash leaves a whole file or none. One that is damaged, or
//! belongs to something else, is packed and written anew. Sizes are compared with those of the model and never trusted.

use std::fs::{File, create_dir_all};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::file::{self, Checkpoint, FileError, FileOptions, hex};

/// Bytes that are read at once: they are still in L2 when their checksum is computed.
const PIECE: usize = 256 * 1024;

const MAGIC: &[u8; 8] = b"TRITPACK";
const VERSION: u64 = 2;

/// Where packed weights of one model are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedCache {
    dir: PathBuf,
    /// Size and nanoseconds of the last change of each file.
    files: Vec<(u64, u128)>,
}

/// What became of the cache when a model was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CacheUse {
    /// None was asked for, or nothing had to be packed.
    #[default]
    Unused,
    /// The weights came from it.
    Read,
    /// It had nothing, and has the weights now.
    Written,
    /// What it had could not be used, for this reason; it has the weights now.
    Replaced(String),
    /// The weights could not be kept, for this reason.
    NotKept(String),
}

impl CacheUse {
    /// The one of two that a user has to know rather.
    pub(crate) fn or(self, other: Self) -> Self {
        let weight = |cache_use: &Self| match cache_use {
            Self::Unused => 0,
            Self::Read => 1,
            Self::Written => 2,
            Self::Replaced(_) => 3,
            Self::NotKept(_) => 4,
        };
        std::cmp::max_by_key(other, self, weight)
    }
}

/// Why a file gave nothing.
enum Miss {
    Absent,
    Unusable(String),
}

impl PackedCache {
    /// A cache in the directory `dir` for the model at `model`: a GGUF file or a Hugging Face folder.
    ///
    /// # Errors
    /// When the files of the model cannot be looked at.
    pub fn new(dir: &Path, model: &Path) -> Result<Self, FileError> {
        let files = file::weight_files(model)?.into_iter().map(|path| {
            let facts = path.metadata();
            let changed = facts.and_then(|facts| Ok((facts.len(), facts.modified()?)));
            let (size, changed) = changed.map_err(|source| FileError::Io {
                file: path.display().to_string(),
                action: "look at",
                source,
            })?;
            let since = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
            Ok((size, since.as_nanos()))
        });
        Ok(Self {
            dir: dir.to_owned(),
            files: files.collect::<Result<_, FileError>>()?,
        })
    }

    /// The file for what is kept of a model.
    fn slot(
        &self,
        checkpoint: &Checkpoint,
        options: &FileOptions,
        what: &str,
        ranges: Vec<Range<usize>>,
        bytes: usize,
    ) -> Slot {
        let program = env!("CARGO_PKG_VERSION");
        let header = (checkpoint.config(), checkpoint.tensors(), options);
        let said = format!("{VERSION} {program} {what} {:?} {header:?}", self.files);
        let key: [u8; 32] = Sha256::digest(said.as_bytes()).into();
        Slot {
            path: self.dir.join(format!("{}.tritpack", &hex(&key)[..32])),
            key,
            ranges,
            bytes,
        }
    }
}

/// A model, and its cache where there is one.
#[derive(Clone, Copy)]
pub(crate) struct Keep<'a>(pub(crate) Option<(&'a PackedCache, &'a Checkpoint, &'a FileOptions)>);

impl Keep<'_> {
    /// Fills `out` with `what` is kept of the model, or by `pack`, and keeps what was packed. `ranges` are ascending, without overlap, within
    /// `out`, which has nothing between them.
    pub(crate) fn fill<E>(
        self,
        what: &str,
        ranges: Vec<Range<usize>>,
        out: &mut [u8],
        pack: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<CacheUse, E> {
        match self.0 {
            Some((cache, checkpoint, options)) if !out.is_empty() => cache
                .slot(checkpoint, options, what, ranges, out.len())
                .fill(out, pack),
            _ => pack(out).map(|()| CacheUse::Unused),
        }
    }
}

/// One file of the cache, and what it has to hold.
struct Slot {
    path: PathBuf,
    key: [u8; 32],
    /// Ascending, without overlap, within `bytes`.
    ranges: Vec<Range<usize>>,
    bytes: usize,
}

impl Slot {
    /// Fills `out` from the file, or by `pack`, and keeps what was packed.
    fn fill<E>(
        &self,
        out: &mut [u8],
        pack: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<CacheUse, E> {
        let missed = match self.read(out) {
            Ok(()) => return Ok(CacheUse::Read),
            Err(missed) => missed,
        };
        pack(out)?;
        Ok(match (self.write(out), missed) {
            (Err(error), _) => CacheUse::NotKept(error.to_string()),
            (Ok(()), Miss::Absent) => CacheUse::Written,
            (Ok(()), Miss::Unusable(reason)) => CacheUse::Replaced(reason),
        })
    }

    /// What stands before the checksums.
    fn start(&self) -> Vec<u8> {
        let mut start = MAGIC.to_vec();
        let mut number = |value: u64| start.extend(value.to_le_bytes());
        number(VERSION);
        start.extend(self.key);
        let mut number = |value: usize| start.extend((value as u64).to_le_bytes());
        number(self.bytes);
        number(self.ranges.len());
        for range in &self.ranges {
            number(range.start);
            number(range.len());
        }
        start
    }

    /// The header with the checksums of the sections.
    fn header(&self, sums: &[u32]) -> Vec<u8> {
        let mut header = self.start();
        for sum in sums {
            header.extend(sum.to_le_bytes());
        }
        let sum = crc32fast::hash(&header);
        header.extend(sum.to_le_bytes());
        header
    }

    fn sections<'b>(&self, mut bytes: &'b mut [u8]) -> Vec<&'b mut [u8]> {
        let (mut sections, mut at) = (Vec::new(), 0);
        for range in &self.ranges {
            let (_, rest) = bytes.split_at_mut(range.start - at);
            let (section, rest) = rest.split_at_mut(range.len());
            sections.push(section);
            (bytes, at) = (rest, range.end);
        }
        sections
    }

    fn read(&self, out: &mut [u8]) -> Result<(), Miss> {
        let unusable = |error: io::Error| Miss::Unusable(format!("cannot read: {error}"));
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Miss::Absent),
            file => file.map_err(unusable)?,
        };
        let start = self.start();
        let mut header = vec![0; start.len() + 4 * self.ranges.len() + 4];
        let size = file.metadata().map_err(unusable)?.len();
        if size != (header.len() + self.bytes) as u64 {
            let reason = format!("has {size} bytes and not {}", header.len() + self.bytes);
            return Err(Miss::Unusable(reason));
        }
        file.read_exact(&mut header).map_err(unusable)?;
        drop(file);
        let (head, sum) = header.split_at(header.len() - 4);
        if !head.starts_with(&start) || sum != crc32fast::hash(head).to_le_bytes() {
            return Err(Miss::Unusable("its header is damaged".to_owned()));
        }
        let sums = head[start.len()..].as_chunks::<4>().0;
        let read = |section: &mut [u8], from: usize| -> io::Result<u32> {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start((header.len() + from) as u64))?;
            let mut sum = crc32fast::Hasher::new();
            for piece in section.chunks_mut(PIECE) {
                file.read_exact(piece)?;
                sum.update(piece);
            }
            Ok(sum.finalize())
        };
        let work: Vec<_> = self.sections(out).into_iter().zip(&self.ranges).collect();
        let read =
            work.into_par_iter()
                .zip(sums)
                .try_for_each(|((section, range), sum)| match read(section, range.start) {
                    Ok(found) if found.to_le_bytes() == *sum => Ok(()),
                    Ok(_) => Err(Miss::Unusable(format!(
                        "the bytes from {} on are damaged",
                        range.start
                    ))),
                    Err(error) => Err(unusable(error)),
                });
        if read.is_err() {
            // Packing begins with zeros: padding is not written.
            out.fill(0);
        }
        read
    }

    fn write(&self, bytes: &[u8]) -> Result<(), FileError> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        create_dir_all(dir).map_err(|source| FileError::Io {
            file: dir.display().to_string(),
            action: "create",
            source,
        })?;
        let sums = self.ranges.par_iter();
        let sums: Vec<u32> = sums
            .map(|range| crc32fast::hash(&bytes[range.clone()]))
            .collect();
        file::write_file(&self.path, |name, out| {
            out.write_all(&self.header(&sums))
                .and_then(|()| out.write_all(bytes))
                .map_err(|error| name.io("write", error))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::fs;

    use super::*;

    fn slot(dir: &Path) -> Slot {
        Slot {
            path: dir.join("deep/model.tritpack"),
            key: [7; 32],
            ranges: vec![0..100, 128..200, 256..300],
            bytes: 320,
        }
    }

    fn packed() -> Vec<u8> {
        let mut bytes = vec![0; 320];
        let slot = slot(Path::new(""));
        for (index, section) in slot.sections(&mut bytes).into_iter().enumerate() {
            section.fill(index as u8 + 1);
        }
        bytes
    }

    /// Loads once; whether it had to be packed, and what became of the cache.
    fn load(slot: &Slot) -> (bool, CacheUse) {
        let mut out = vec![0; 320];
        let mut asked = false;
        let pack = |out: &mut [u8]| {
            asked = true;
            assert!(
                out.iter().all(|byte| *byte == 0),
                "packing begins with zeros"
            );
            out.copy_from_slice(&packed());
            Ok::<_, Infallible>(())
        };
        let Ok(used) = slot.fill(&mut out, pack);
        assert_eq!(out, packed());
        (asked, used)
    }

    #[test]
    fn what_was_kept_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let slot = slot(dir.path());
        assert_eq!(load(&slot), (true, CacheUse::Written));
        assert_eq!(load(&slot), (false, CacheUse::Read));
        // Nothing else is left beside it.
        let entries = fs::read_dir(slot.path.parent().unwrap()).unwrap();
        assert_eq!(entries.count(), 1);
    }

    #[test]
    fn damage_is_found_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let slot = slot(dir.path());
        load(&slot);
        let whole = fs::read(&slot.path).unwrap();
        let header = whole.len() - 320;
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&slot.path, &bytes).unwrap();
            let padding = at >= header && !slot.ranges.iter().any(|r| r.contains(&(at - header)));
            let (asked, used) = load(&slot);
            // Bytes between the matrices are not read.
            assert_eq!(asked, !padding, "byte {at}");
            assert_eq!(
                matches!(used, CacheUse::Replaced(_)),
                !padding,
                "byte {at}: {used:?}"
            );
        }
        for length in [0, 1, header - 1, header, whole.len() - 1] {
            fs::write(&slot.path, &whole[..length]).unwrap();
            let (asked, used) = load(&slot);
            assert!(
                asked && matches!(used, CacheUse::Replaced(_)),
                "{length}: {used:?}"
            );
        }
        let mut longer = whole.clone();
        longer.push(0);
        fs::write(&slot.path, longer).unwrap();
        assert!(load(&slot).0);
        assert_eq!(load(&slot), (false, CacheUse::Read));
    }

    #[test]
    fn a_cache_that_cannot_be_written_does_not_stop_anybody() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(
            dir.path().join("deep"),
            "a file where a directory should be",
        )
        .unwrap();
        let (asked, used) = load(&slot(dir.path()));
        assert!(asked);
        assert!(matches!(used, CacheUse::NotKept(_)), "{used:?}");
    }
}
