//! The header of a GGUF file: keys, values and tensor infos, each checked before it is believed.
//!
//! `GGUF`, u32 version, u64 tensors, u64 keys; a key is a string, a u32 type and a value; a tensor info is a string, a
//! u32 number of dimensions, u64 dimensions (fastest first), a u32 type and a u64 offset; then padding to
//! `general.alignment`, then the data. Strings have a u64 length. Everything is little-endian.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::file::error::{FileError, FileName};

/// `GGUF` as bytes.
pub(crate) const MAGIC: [u8; 4] = *b"GGUF";
/// The version that is read and written.
pub(crate) const VERSION: u32 = 3;
/// The alignment of tensors where `general.alignment` is missing.
pub(crate) const ALIGNMENT: u64 = 32;

/// Most keys and tensors that are believed: real files have dozens and a few thousand.
const MAX_KEYS: u64 = 4096;
const MAX_TENSORS: u64 = 32_768;
/// Longest name of a key or tensor (ggml itself stops at 64 for tensors).
const MAX_NAME: usize = 256;
/// Most dimensions of a tensor, as in ggml.
const MAX_DIMS: u32 = 4;
const MAX_ALIGNMENT: u64 = 1 << 16;

/// The types of values, by their number.
pub(crate) mod kind {
    pub(crate) const U8: u32 = 0;
    pub(crate) const I8: u32 = 1;
    pub(crate) const U16: u32 = 2;
    pub(crate) const I16: u32 = 3;
    pub(crate) const U32: u32 = 4;
    pub(crate) const I32: u32 = 5;
    pub(crate) const F32: u32 = 6;
    pub(crate) const BOOL: u32 = 7;
    pub(crate) const STRING: u32 = 8;
    pub(crate) const ARRAY: u32 = 9;
    pub(crate) const U64: u32 = 10;
    pub(crate) const I64: u32 = 11;
    pub(crate) const F64: u32 = 12;
}

const KINDS: [&str; 13] = [
    "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64",
];

fn fixed_size(kind: u32) -> Option<usize> {
    match kind {
        kind::U8 | kind::I8 | kind::BOOL => Some(1),
        kind::U16 | kind::I16 => Some(2),
        kind::U32 | kind::I32 | kind::F32 => Some(4),
        kind::U64 | kind::I64 | kind::F64 => Some(8),
        _ => None,
    }
}

/// A value; strings and arrays stay in the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(Range<usize>),
    Array {
        kind: u32,
        count: usize,
        /// The elements, back to back.
        range: Range<usize>,
    },
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Unsigned(_) | Self::Signed(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a boolean",
            Self::Text(_) => "a string",
            Self::Array { .. } => "an array",
        }
    }
}

/// One tensor as the header describes it.
#[derive(Clone, Debug)]
pub(crate) struct TensorHeader {
    /// Sizes, fastest first, as the file has them.
    pub(crate) dims: Vec<u64>,
    /// Elements; the product of `dims`.
    pub(crate) elements: u64,
    /// The number of its type.
    pub(crate) type_id: u32,
    /// Where its bytes may lie, as positions in the file: from its offset to the next tensor's or the end of the file.
    pub(crate) room: Range<usize>,
}

/// A parsed header over the bytes of its file.
pub(crate) struct Header<'a> {
    file: &'a FileName,
    bytes: &'a [u8],
    pub(crate) keys: BTreeMap<String, Value>,
    pub(crate) tensors: BTreeMap<String, TensorHeader>,
}

struct Reader<'a> {
    file: &'a FileName,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, len: u64, field: &str) -> Result<&'a [u8], FileError> {
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len <= self.left())
            .ok_or_else(|| {
                self.file.invalid(
                    field,
                    format!(
                        "needs {len} bytes at position {}, and the file has {} more",
                        self.at,
                        self.left()
                    ),
                )
            })?;
        let out = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(out)
    }

    fn fixed<const N: usize>(&mut self, field: &str) -> Result<[u8; N], FileError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, field)?);
        Ok(out)
    }

    fn u32(&mut self, field: &str) -> Result<u32, FileError> {
        self.fixed(field).map(u32::from_le_bytes)
    }

    fn u64(&mut self, field: &str) -> Result<u64, FileError> {
        self.fixed(field).map(u64::from_le_bytes)
    }

    fn name(&mut self, field: &str) -> Result<String, FileError> {
        let len = self.u64(field)?;
        if len == 0 || len > MAX_NAME as u64 {
            return Err(self
                .file
                .invalid(field, format!("is {len} bytes long, want 1..={MAX_NAME}")));
        }
        let bytes = self.take(len, field)?;
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| self.file.invalid(field, "is not UTF-8"))
    }

    fn text(&mut self, field: &str) -> Result<Range<usize>, FileError> {
        let len = self.u64(field)?;
        let start = self.at;
        self.take(len, field)?;
        Ok(start..self.at)
    }

    fn value(&mut self, key: &str) -> Result<Value, FileError> {
        let kind = self.u32(key)?;
        Ok(match kind {
            kind::U8 => Value::Unsigned(self.fixed::<1>(key)?[0].into()),
            kind::I8 => Value::Signed(i8::from_le_bytes(self.fixed(key)?).into()),
            kind::U16 => Value::Unsigned(u16::from_le_bytes(self.fixed(key)?).into()),
            kind::I16 => Value::Signed(i16::from_le_bytes(self.fixed(key)?).into()),
            kind::U32 => Value::Unsigned(self.u32(key)?.into()),
            kind::I32 => Value::Signed(i32::from_le_bytes(self.fixed(key)?).into()),
            kind::U64 => Value::Unsigned(self.u64(key)?),
            kind::I64 => Value::Signed(i64::from_le_bytes(self.fixed(key)?)),
            kind::F32 => Value::Float(f32::from_le_bytes(self.fixed(key)?).into()),
            kind::F64 => Value::Float(f64::from_le_bytes(self.fixed(key)?)),
            kind::BOOL => match self.fixed::<1>(key)?[0] {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => {
                    return Err(self
                        .file
                        .invalid(key, format!("is a boolean of value {other}")));
                }
            },
            kind::STRING => Value::Text(self.text(key)?),
            kind::ARRAY => self.array(key)?,
            other => {
                return Err(self
                    .file
                    .invalid(key, format!("has the unknown value type {other}")));
            }
        })
    }

    fn array(&mut self, key: &str) -> Result<Value, FileError> {
        let kind = self.u32(key)?;
        let count = self.u64(key)?;
        let start = self.at;
        if let Some(size) = fixed_size(kind) {
            let bytes = count.checked_mul(size as u64).ok_or_else(|| {
                self.file
                    .invalid(key, format!("is an array of {count} elements"))
            })?;
            self.take(bytes, key)?;
        } else if kind == kind::STRING {
            // Each string takes its length at least: a count that cannot fit is refused before it is walked through.
            if count > self.left() as u64 / 8 {
                return Err(self.file.invalid(
                    key,
                    format!(
                        "is an array of {count} strings, and the file has {} more bytes",
                        self.left()
                    ),
                ));
            }
            for _ in 0..count {
                self.text(key)?;
            }
        } else if kind == kind::ARRAY {
            return Err(self.file.unsupported(
                key,
                "is an array of arrays",
                "no key of a language model needs one; remove it",
            ));
        } else {
            return Err(self
                .file
                .invalid(key, format!("is an array of the unknown type {kind}")));
        }
        Ok(Value::Array {
            kind,
            count: count as usize,
            range: start..self.at,
        })
    }
}

impl<'a> Header<'a> {
    /// Parses and checks a whole header. Allocates for names and numbers only, and for no more of them than the limits
    /// at the top of this module allow.
    pub(crate) fn parse(file: &'a FileName, bytes: &'a [u8]) -> Result<Self, FileError> {
        let mut reader = Reader { file, bytes, at: 0 };
        let magic: [u8; 4] = reader.fixed("magic")?;
        if magic != MAGIC {
            return Err(file.invalid("magic", "is not `GGUF`, so this is no GGUF file"));
        }
        let version = reader.u32("version")?;
        if version != VERSION {
            let hint = if version.swap_bytes() == VERSION {
                "the file is big-endian; convert it to little-endian"
            } else {
                "convert the model with a current converter"
            };
            return Err(file.unsupported(
                "version",
                format!("is {version}, and only {VERSION} is read"),
                hint,
            ));
        }
        let tensor_count = reader.u64("tensor_count")?;
        let key_count = reader.u64("metadata_kv_count")?;
        for (field, count, most) in [
            ("tensor_count", tensor_count, MAX_TENSORS),
            ("metadata_kv_count", key_count, MAX_KEYS),
        ] {
            if count > most {
                return Err(file.invalid(field, format!("is {count}, want at most {most}")));
            }
        }
        let mut keys = BTreeMap::new();
        for index in 0..key_count {
            let key = reader.name(&format!("key {index}"))?;
            let value = reader.value(&key)?;
            if keys.contains_key(&key) {
                return Err(file.invalid(&key, "is there twice"));
            }
            keys.insert(key, value);
        }
        let mut header = Self {
            file,
            bytes,
            keys,
            tensors: BTreeMap::new(),
        };
        header.read_tensors(reader, tensor_count)?;
        Ok(header)
    }

    fn read_tensors(&mut self, mut reader: Reader<'a>, count: u64) -> Result<(), FileError> {
        let file = self.file;
        let alignment = self.unsigned("general.alignment")?.unwrap_or(ALIGNMENT);
        if !alignment.is_power_of_two() || !(8..=MAX_ALIGNMENT).contains(&alignment) {
            return Err(file.invalid(
                "general.alignment",
                format!("is {alignment}, want a power of two in 8..={MAX_ALIGNMENT}"),
            ));
        }
        // Offsets as the file has them, until the start of the data is known.
        let mut infos: Vec<(String, TensorHeader, u64)> = Vec::new();
        for index in 0..count {
            let name = reader.name(&format!("name of tensor {index}"))?;
            let dim_count = reader.u32(&name)?;
            if !(1..=MAX_DIMS).contains(&dim_count) {
                return Err(file.invalid(
                    &name,
                    format!("has {dim_count} dimensions, want 1..={MAX_DIMS}"),
                ));
            }
            let mut dims = Vec::with_capacity(dim_count as usize);
            for _ in 0..dim_count {
                dims.push(reader.u64(&name)?);
            }
            let elements = dims
                .iter()
                .try_fold(1u64, |product, dim| product.checked_mul(*dim))
                .filter(|product| *product > 0 && i64::try_from(*product).is_ok())
                .ok_or_else(|| file.invalid(&name, format!("has the dimensions {dims:?}")))?;
            let type_id = reader.u32(&name)?;
            let offset = reader.u64(&name)?;
            if !offset.is_multiple_of(alignment) {
                return Err(file.invalid(
                    &name,
                    format!("starts at offset {offset}, which is no multiple of the alignment {alignment}"),
                ));
            }
            infos.push((
                name,
                TensorHeader {
                    dims,
                    elements,
                    type_id,
                    room: 0..0,
                },
                offset,
            ));
        }
        let data = (reader.at as u64).next_multiple_of(alignment);
        let end = self.bytes.len() as u64;
        let starts: BTreeSet<u64> = infos.iter().map(|(_, _, offset)| *offset).collect();
        for (name, mut info, offset) in infos {
            let start = data
                .checked_add(offset)
                .filter(|start| *start < end)
                .ok_or_else(|| {
                    file.invalid(
                        &name,
                        format!(
                            "starts at offset {offset} of the data, beyond the end of the file"
                        ),
                    )
                })?;
            let next = offset
                .checked_add(1)
                .and_then(|above| starts.range(above..).next())
                .and_then(|next| data.checked_add(*next))
                .map_or(end, |next| next.min(end));
            info.room = start as usize..next as usize;
            if self.tensors.contains_key(&name) {
                return Err(file.invalid(&name, "is there twice"));
            }
            self.tensors.insert(name, info);
        }
        // Two tensors at one offset overlap whatever their types are.
        if starts.len() < self.tensors.len() {
            let mut seen = BTreeMap::new();
            for (name, info) in &self.tensors {
                if let Some(other) = seen.insert(info.room.start, name) {
                    return Err(file.invalid(name, format!("starts where `{other}` starts")));
                }
            }
        }
        Ok(())
    }

    fn wrong(&self, key: &str, value: &Value, want: &str) -> FileError {
        self.file
            .invalid(key, format!("is {}, want {want}", value.kind()))
    }

    /// An integer that is not negative.
    pub(crate) fn unsigned(&self, key: &str) -> Result<Option<u64>, FileError> {
        match self.keys.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(value)) => Ok(Some(*value)),
            Some(Value::Signed(value)) => u64::try_from(*value).map(Some).map_err(|_| {
                self.file
                    .invalid(key, format!("is {value}, want no negative number"))
            }),
            Some(other) => Err(self.wrong(key, other, "an integer")),
        }
    }

    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>, FileError> {
        match self.keys.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong(key, other, "a float")),
        }
    }

    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>, FileError> {
        match self.keys.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong(key, other, "a boolean")),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, FileError> {
        match self.keys.get(key) {
            None => Ok(None),
            Some(Value::Text(range)) => std::str::from_utf8(&self.bytes[range.clone()])
                .map(Some)
                .map_err(|_| self.file.invalid(key, "is not UTF-8")),
            Some(other) => Err(self.wrong(key, other, "a string")),
        }
    }

    /// The number of elements of an array of `kind`.
    pub(crate) fn array_len(&self, key: &str, kind: u32) -> Result<Option<usize>, FileError> {
        Ok(self.array(key, kind)?.map(|(count, _)| count))
    }

    fn array(&self, key: &str, want: u32) -> Result<Option<(usize, &'a [u8])>, FileError> {
        match self.keys.get(key) {
            None => Ok(None),
            Some(Value::Array { kind, count, range }) if *kind == want => {
                Ok(Some((*count, &self.bytes[range.clone()])))
            }
            Some(Value::Array { kind, .. }) => Err(self.file.invalid(
                key,
                format!(
                    "is an array of {}, want {}",
                    KINDS[*kind as usize], KINDS[want as usize]
                ),
            )),
            Some(other) => Err(self.wrong(key, other, "an array")),
        }
    }

    /// The strings of an array, one by one.
    pub(crate) fn texts(
        &self,
        key: &'a str,
    ) -> Result<Option<impl Iterator<Item = Result<&'a str, FileError>>>, FileError> {
        let Some((count, bytes)) = self.array(key, kind::STRING)? else {
            return Ok(None);
        };
        let mut reader = Reader {
            file: self.file,
            bytes,
            at: 0,
        };
        Ok(Some((0..count).map(move |index| {
            let range = reader.text(key)?;
            std::str::from_utf8(&bytes[range]).map_err(|_| {
                reader
                    .file
                    .invalid(key, format!("element {index} is not UTF-8"))
            })
        })))
    }

    pub(crate) fn floats(&self, key: &str) -> Result<Option<Vec<f32>>, FileError> {
        Ok(self.array(key, kind::F32)?.map(|(_, bytes)| {
            bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect()
        }))
    }

    /// An array of i32, or of u32 that are small enough.
    pub(crate) fn ints(&self, key: &str) -> Result<Option<Vec<i32>>, FileError> {
        let stored = match self.keys.get(key) {
            Some(Value::Array {
                kind: kind::U32, ..
            }) => kind::U32,
            _ => kind::I32,
        };
        Ok(self.array(key, stored)?.map(|(_, bytes)| {
            bytes
                .chunks_exact(4)
                .map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect()
        }))
    }
}
