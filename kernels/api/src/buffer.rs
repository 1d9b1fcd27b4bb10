//! Byte buffers whose start is 64-byte aligned: one cache line, one AVX-512 register.

use bytemuck::Pod;

/// Bytes of a cache line.
const LINE: usize = 64;

/// An owned, zero-initialised byte buffer that starts on a 64-byte boundary.
///
/// Its length is what was asked for; the allocation has room for whole lines, and for the boundary to be inside of it: the system
/// gives the zeroed pages of a long buffer when they are first written, but only where no alignment is asked of the allocator.
#[derive(Default)]
pub struct AlignedBuf {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuf {
    /// A buffer of `len` zero bytes. The system gives the pages of a long one when they are first written.
    pub fn zeroed(len: usize) -> Self {
        let bytes = vec![0; len.next_multiple_of(LINE) + LINE - 1];
        let start = bytes.as_ptr().addr().wrapping_neg() % LINE;
        Self { bytes, start, len }
    }

    /// Makes the buffer at least `len` bytes long (new bytes are zero) and sets its length to `len`.
    /// Does not allocate when the capacity is already there.
    pub fn resize(&mut self, len: usize) {
        let old = &self.bytes[self.start..];
        if len > old.len() / LINE * LINE {
            let mut grown = Self::zeroed(len);
            grown.bytes[grown.start..][..old.len()].copy_from_slice(old);
            *self = grown;
        }
        self.len = len;
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the buffer holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..][..self.len]
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..self.len]
    }

    /// The buffer as numbers of type `T`; a torn last element is left out.
    pub fn as_slice<T: Pod>(&self) -> &[T] {
        if self.is_empty() {
            return &[];
        }
        let whole = self.len / size_of::<T>() * size_of::<T>();
        bytemuck::cast_slice(&self.bytes()[..whole])
    }

    /// The buffer as numbers of type `T`, to write; a torn last element is left out.
    pub fn as_mut_slice<T: Pod>(&mut self) -> &mut [T] {
        if self.is_empty() {
            return &mut [];
        }
        let whole = self.len / size_of::<T>() * size_of::<T>();
        bytemuck::cast_slice_mut(&mut self.bytes_mut()[..whole])
    }
}

impl Clone for AlignedBuf {
    fn clone(&self) -> Self {
        let mut copy = Self::zeroed(self.len);
        copy.bytes_mut().copy_from_slice(self.bytes());
        copy
    }
}

impl std::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_on_a_line_and_keeps_its_length() {
        for len in [0, 1, 63, 64, 65, 1000] {
            let mut buf = AlignedBuf::zeroed(len);
            assert_eq!(buf.len(), len);
            assert_eq!(buf.bytes().as_ptr() as usize % 64, 0);
            buf.resize(len + 7);
            assert_eq!(buf.bytes_mut().len(), len + 7);
            assert_eq!(buf.as_slice::<i32>().len(), (len + 7) / 4);
        }
    }
}
