//! The header of a safetensors file: u64 length, JSON, data.
//!
//! Read here rather than by the `safetensors` crate because errors must name the tensor and doubled names must be seen;
//! the rules are the crate's: ranges lie one behind the other, without holes, and fill the file.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::{FileError, FileName};
use super::json;

/// Longest header that is believed: some hundred bytes for each tensor of the largest models.
const MAX_HEADER: u64 = 8 << 20;
const MAX_DIMS: usize = 8;

/// One tensor: type, shape (slowest dimension first), and its bytes as positions in the file.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) dtype: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) range: Range<usize>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// A short list of sizes; a long one is refused before it is stored.
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sizes;
        impl<'de> Visitor<'de> for Sizes {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of sizes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Shape, A::Error> {
                let mut out = Vec::new();
                while let Some(size) = access.next_element()? {
                    if out.len() == MAX_DIMS {
                        return Err(A::Error::custom(format_args!(
                            "more than {MAX_DIMS} dimensions"
                        )));
                    }
                    out.push(size);
                }
                Ok(Shape(out))
            }
        }
        deserializer.deserialize_seq(Sizes)
    }
}

struct Entries(BTreeMap<String, Entry>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tensors;
        impl<'de> Visitor<'de> for Tensors {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Entries, A::Error> {
                let mut out = BTreeMap::new();
                let mut metadata = false;
                while let Some(key) = access.next_key::<String>()? {
                    if key == "__metadata__" {
                        if metadata {
                            return Err(A::Error::custom("`__metadata__` is there twice"));
                        }
                        metadata = true;
                        access.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    json::check_entry(&out, &key)?;
                    let entry = access
                        .next_value::<Entry>()
                        .map_err(|e| A::Error::custom(format_args!("tensor `{key}`: {e}")))?;
                    out.insert(key, entry);
                }
                Ok(Entries(out))
            }
        }
        deserializer.deserialize_map(Tensors)
    }
}

fn element_bytes(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" => 1,
        "U16" | "I16" | "F16" | "BF16" => 2,
        "U32" | "I32" | "F32" => 4,
        "U64" | "I64" | "F64" => 8,
        _ => return None,
    })
}

/// Parses and checks the header of the file `bytes`.
pub(crate) fn parse(file: &FileName, bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, FileError> {
    let field = "header length";
    let length = bytes
        .first_chunk::<8>()
        .map(|b| u64::from_le_bytes(*b))
        .ok_or_else(|| file.invalid(field, "is missing: the file is shorter than 8 bytes"))?;
    let left = bytes.len() as u64 - 8;
    if length > left.min(MAX_HEADER) {
        return Err(file.invalid(
            field,
            format!(
                "is {length}, and the file has {left} more bytes (at most {MAX_HEADER} are read)"
            ),
        ));
    }
    let data = 8 + length as usize;
    let Entries(entries) = json::parse(file, "header", &bytes[8..data])?;
    let mut tensors = BTreeMap::new();
    let mut ranges = Vec::new();
    let end = (bytes.len() - data) as u64;
    for (name, entry) in entries {
        let (from, to) = entry.data_offsets;
        if from > to || to > end {
            return Err(file.invalid(
                &name,
                format!("has the data_offsets [{from}, {to}], and the data has {end} bytes"),
            ));
        }
        let size = element_bytes(&entry.dtype).ok_or_else(|| {
            file.invalid(&name, format!("has the unknown dtype `{}`", entry.dtype))
        })?;
        let want = entry
            .shape
            .0
            .iter()
            .try_fold(size, |product, dim| product.checked_mul(*dim));
        if want != Some(to - from) {
            return Err(file.invalid(
                &name,
                format!(
                    "has {} bytes, which are no {} of the shape {:?}",
                    to - from,
                    entry.dtype,
                    entry.shape.0
                ),
            ));
        }
        ranges.push((from, to, name.clone()));
        tensors.insert(
            name,
            Tensor {
                dtype: entry.dtype,
                shape: entry.shape.0,
                range: data + from as usize..data + to as usize,
            },
        );
    }
    ranges.sort();
    let mut at = 0;
    for (from, to, name) in &ranges {
        if *from != at {
            let problem = if *from < at {
                "overlaps the tensor before it"
            } else {
                "leaves a hole before it"
            };
            return Err(file.invalid(name, format!("starts at {from} of the data and {problem}")));
        }
        at = *to;
    }
    if at != end {
        return Err(file.invalid(
            "data_offsets",
            format!("cover {at} bytes, and the data has {end}"),
        ));
    }
    Ok(tensors)
}
