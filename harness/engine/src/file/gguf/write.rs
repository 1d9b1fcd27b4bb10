//! Writes the header of a GGUF file; the tensors' bytes follow it, each padded to the alignment.

use super::header::{ALIGNMENT, MAGIC, VERSION, kind};

pub(crate) use super::types::id as type_id;

/// A GGUF header that grows key by key and tensor by tensor. The bytes of the tensors follow it in the order in which they
/// were added, each padded to 32 bytes.
#[derive(Debug, Default)]
pub struct HeaderWriter {
    keys: Vec<u8>,
    key_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    /// Bytes of data so far, padding included.
    data: u64,
}

impl HeaderWriter {
    fn key(&mut self, key: &str, kind: u32) {
        push_text(&mut self.keys, key);
        self.keys.extend(kind.to_le_bytes());
        self.key_count += 1;
    }

    fn array(&mut self, key: &str, kind: u32, count: usize) {
        self.key(key, kind::ARRAY);
        self.keys.extend(kind.to_le_bytes());
        self.keys.extend((count as u64).to_le_bytes());
    }

    /// Adds a string.
    pub fn text(&mut self, key: &str, value: &str) {
        self.key(key, kind::STRING);
        push_text(&mut self.keys, value);
    }

    /// Adds a whole number.
    pub fn u32(&mut self, key: &str, value: u32) {
        self.key(key, kind::U32);
        self.keys.extend(value.to_le_bytes());
    }

    /// Adds a float.
    pub fn f32(&mut self, key: &str, value: f32) {
        self.key(key, kind::F32);
        self.keys.extend(value.to_le_bytes());
    }

    /// Adds a truth value.
    pub fn bool(&mut self, key: &str, value: bool) {
        self.key(key, kind::BOOL);
        self.keys.push(value.into());
    }

    /// Adds an array of strings.
    pub fn texts(&mut self, key: &str, values: &[String]) {
        self.array(key, kind::STRING, values.len());
        for value in values {
            push_text(&mut self.keys, value);
        }
    }

    /// Adds an array of floats.
    pub fn f32s(&mut self, key: &str, values: &[f32]) {
        self.array(key, kind::F32, values.len());
        for value in values {
            self.keys.extend(value.to_le_bytes());
        }
    }

    /// Adds an array of signed numbers.
    pub fn i32s(&mut self, key: &str, values: &[i32]) {
        self.array(key, kind::I32, values.len());
        for value in values {
            self.keys.extend(value.to_le_bytes());
        }
    }

    /// Adds a tensor of `bytes` bytes behind those that are there. `dims` has the fastest dimension first.
    pub fn tensor(&mut self, name: &str, dims: &[u64], type_id: u32, bytes: u64) {
        push_text(&mut self.tensors, name);
        self.tensors.extend((dims.len() as u32).to_le_bytes());
        for dim in dims {
            self.tensors.extend(dim.to_le_bytes());
        }
        self.tensors.extend(type_id.to_le_bytes());
        self.tensors.extend(self.data.to_le_bytes());
        self.tensor_count += 1;
        self.data += bytes.next_multiple_of(ALIGNMENT);
    }

    /// Bytes of all tensors with their padding: what must follow the header.
    pub fn data_bytes(&self) -> u64 {
        self.data
    }

    /// The header, padded to where the data starts.
    pub fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.keys.len() + self.tensors.len());
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend(self.tensor_count.to_le_bytes());
        out.extend(self.key_count.to_le_bytes());
        out.extend(self.keys);
        out.extend(self.tensors);
        out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
        out
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
