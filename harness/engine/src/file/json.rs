//! JSON of model folders: bounded, and without doubled keys.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::bytes::open_regular;
use super::error::{FileError, FileName};

/// Most entries of one object that are believed.
pub(crate) const MAX_ENTRIES: usize = 32_768;

/// An object whose keys are all different and not too many.
pub(crate) struct Strict<V>(pub(crate) BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Strict<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Strict<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Strict<V>, A::Error> {
                let mut out = BTreeMap::new();
                while let Some(key) = access.next_key::<String>()? {
                    check_entry(&out, &key)?;
                    let value = access.next_value()?;
                    out.insert(key, value);
                }
                Ok(Strict(out))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// Refuses a key that is there already, and one too many.
pub(crate) fn check_entry<V, E: Error>(entries: &BTreeMap<String, V>, key: &str) -> Result<(), E> {
    if entries.contains_key(key) {
        return Err(E::custom(format_args!("`{key}` is there twice")));
    }
    if entries.len() >= MAX_ENTRIES {
        return Err(E::custom(format_args!("more than {MAX_ENTRIES} entries")));
    }
    Ok(())
}

/// Reads a whole small file.
pub(crate) fn read_small(path: &Path, most: u64) -> Result<Vec<u8>, FileError> {
    let file = FileName::of(path);
    let mut out = Vec::new();
    open_regular(path)?
        .take(most + 1)
        .read_to_end(&mut out)
        .map_err(|e| file.io("read", e))?;
    check_size(&file, out.len() as u64, most)?;
    Ok(out)
}

pub(crate) fn check_size(file: &FileName, bytes: u64, most: u64) -> Result<(), FileError> {
    if bytes > most {
        return Err(file.invalid(
            "size",
            format!("is more than the {most} bytes that are read"),
        ));
    }
    Ok(())
}

/// Parses JSON; `what` names it in the error.
pub(crate) fn parse<'a, T: Deserialize<'a>>(
    file: &FileName,
    what: &str,
    text: &'a [u8],
) -> Result<T, FileError> {
    serde_json::from_slice(text)
        .map_err(|e| file.invalid(what, format!("is not what it should be: {e}")))
}
