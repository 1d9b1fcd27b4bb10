//! Where the bytes of a model and of its sequences are, and how many there may be.

use std::fmt;

use crate::error::EngineError;
use crate::file::Linear;
use crate::profile::Role;

/// Part: what attention looks back at.
pub(crate) const KV_CACHE: &str = "KV cache";
/// Part: buffers of a chunk, of the threads, and logits.
pub(crate) const BUFFERS: &str = "buffers";

/// The part that a linear belongs to: linears that run together are one.
pub(crate) const fn linear(linear: Linear) -> &'static str {
    match linear {
        Linear::Q | Linear::K | Linear::V => Role::Qkv.name(),
        Linear::O => Role::Output.name(),
        Linear::Gate | Linear::Up => Role::GateUp.name(),
        Linear::Down => Role::Down.name(),
    }
}

/// Bytes by what they are for, in the order in which a token meets them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory(Vec<(&'static str, u64)>);

impl Memory {
    /// What each part is for, and its bytes. Parts that share their bytes with another have 0.
    pub fn parts(&self) -> &[(&'static str, u64)] {
        &self.0
    }

    /// Bytes of one part; 0 where there is none.
    pub fn of(&self, part: &str) -> u64 {
        let found = self.0.iter().find(|(name, _)| *name == part);
        found.map_or(0, |(_, bytes)| *bytes)
    }

    /// Bytes of everything.
    pub fn sum(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// Adds bytes to a part.
    pub(crate) fn add(&mut self, part: &'static str, bytes: u64) {
        match self.0.iter_mut().find(|(name, _)| *name == part) {
            Some((_, sum)) => *sum = sum.saturating_add(bytes),
            None => self.0.push((part, bytes)),
        }
    }

    /// Refuses what is more than `most` bytes.
    pub(crate) fn check(&self, most: Option<u64>) -> Result<(), EngineError> {
        match most {
            Some(most_bytes) if self.sum() > most_bytes => Err(EngineError::MaxMemory {
                needs: self.clone(),
                most_bytes,
            }),
            _ => Ok(()),
        }
    }
}

/// A number of bytes in megabytes of 10^6, as `--max-memory` takes them.
pub(crate) struct Mb(pub(crate) u64);

impl fmt::Display for Mb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MB", self.0 as f64 / 1e6)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (part, bytes)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{part} {}", Mb(*bytes))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_above_the_limit_is_refused_part_by_part() {
        let mut memory = Memory::default();
        memory.add("qkv", 1_500_000);
        memory.add("head", 0);
        memory.add("qkv", 500_000);
        memory.add("KV cache", 260_000);
        assert_eq!(memory.sum(), 2_260_000);
        memory.check(None).unwrap();
        memory.check(Some(2_260_000)).unwrap();
        let text = memory.check(Some(2_259_999)).unwrap_err().to_string();
        assert!(
            text.contains("needs 2.3 MB")
                && text.contains("qkv 2.0 MB, head 0.0 MB, KV cache 0.3 MB")
                && text.contains("hint"),
            "{text}"
        );
        memory.add("scratch", u64::MAX);
        assert_eq!(memory.sum(), u64::MAX);
    }
}
