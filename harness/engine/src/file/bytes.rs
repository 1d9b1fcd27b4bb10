//! Bytes of a model file: mapped, or held in memory.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Weak};

use rayon::prelude::*;
use trit_kernel::{AlignedBuf, ByteOwner};
use trit_measure::sys::FileMap;

use super::error::{FileError, FileName};

/// Bytes that are mapped by one call: many calls, so that all threads take part.
const POPULATED: usize = 16 << 20;

/// What holds the bytes of one file.
enum Held {
    Map(FileMap),
    Heap(Vec<u8>),
    Lines(AlignedBuf),
}

impl ByteOwner for Held {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Map(map) => map.bytes(),
            Self::Heap(bytes) => bytes,
            Self::Lines(buf) => buf.bytes(),
        }
    }
}

/// Opens a file for reading. Anything but a regular file is refused first: opening a pipe would wait for its other end.
pub(crate) fn open_regular(path: &Path) -> Result<std::fs::File, FileError> {
    let file = FileName::of(path);
    let meta = std::fs::metadata(path).map_err(|e| file.io("open", e))?;
    if !meta.is_file() {
        return Err(file.invalid("file", "is not a regular file"));
    }
    std::fs::File::open(path).map_err(|e| file.io("open", e))
}

/// A range of a file's bytes. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Bytes {
    owner: Arc<Held>,
    range: Range<usize>,
}

/// A range of bytes that may be gone.
#[derive(Default)]
pub(crate) struct WeakBytes(Weak<Held>, Range<usize>);

impl WeakBytes {
    /// The bytes, if they are still there.
    pub(crate) fn get(&self) -> Option<Bytes> {
        let owner = self.0.upgrade()?;
        let range = self.1.clone();
        Some(Bytes { owner, range })
    }
}

impl Bytes {
    /// Maps a whole file.
    pub(crate) fn map(path: &Path) -> Result<Self, FileError> {
        let file = FileName::of(path);
        let handle = open_regular(path)?;
        FileMap::of(&handle)
            .map(|map| Self::new(Held::Map(map)))
            .map_err(|e| file.io("map", e))
    }

    pub(crate) fn from_vec(bytes: Vec<u8>) -> Self {
        Self::new(Held::Heap(bytes))
    }

    pub(crate) fn from_lines(buf: AlignedBuf) -> Self {
        Self::new(Held::Lines(buf))
    }

    fn new(held: Held) -> Self {
        let range = 0..held.bytes().len();
        Self {
            owner: Arc::new(held),
            range,
        }
    }

    /// The same bytes, as long as somebody else holds them.
    pub(crate) fn weak(&self) -> WeakBytes {
        WeakBytes(Arc::downgrade(&self.owner), self.range.clone())
    }

    pub(crate) fn get(&self) -> &[u8] {
        &self.owner.bytes()[self.range.clone()]
    }

    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }

    /// A range inside of this one; `None` when it is not inside.
    pub(crate) fn slice(&self, range: Range<usize>) -> Option<Self> {
        let inside = range.start <= range.end && range.end <= self.range.len();
        inside.then(|| Self {
            owner: Arc::clone(&self.owner),
            range: self.range.start + range.start..self.range.start + range.end,
        })
    }

    /// The owner and the range inside of it, to lend to a packed matrix.
    pub(crate) fn lend(&self) -> (Arc<dyn ByteOwner>, Range<usize>) {
        (Arc::clone(&self.owner) as _, self.range.clone())
    }

    /// Copies the bytes from `offset` of this range on; a map's pages stay as they are.
    pub(crate) fn copy(&self, offset: usize, out: &mut [u8]) {
        let range = self.range.clone();
        assert!(offset + out.len() <= range.len(), "bytes of a range");
        match &*self.owner {
            Held::Map(map) => map.copy(range.start + offset, out),
            held => out.copy_from_slice(&held.bytes()[range][offset..offset + out.len()]),
        }
    }

    /// Loads and maps the pages of this range, where they are a map's.
    pub(crate) fn populate(&self) {
        if let Held::Map(map) = &*self.owner {
            let Range { start, end } = self.range;
            (start..end)
                .into_par_iter()
                .step_by(POPULATED)
                .for_each(|start| map.populate(start..end.min(start + POPULATED)));
        }
    }

    /// Gives the pages of this range back to the system, where they are a map's.
    pub(crate) fn release(&self) {
        if let Held::Map(map) = &*self.owner {
            map.release(self.range.clone());
        }
    }
}
