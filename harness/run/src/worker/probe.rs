//! The limits of the machine: reading memory, and arithmetic on registers.

use super::{Done, Fault, Shop, Subject};
use crate::protocol::{Answer, Opened, Task};

/// Reads memory.
pub(super) struct Read;

impl Read {
    pub(super) fn open(_shop: &mut Shop, _task: &Task) -> Result<Self, Fault> {
        Err(Fault::unsupported("this build has no read probe"))
    }
}

/// Arithmetic on registers.
pub(super) struct Peak;

impl Peak {
    pub(super) fn open(_shop: &mut Shop, _task: &Task) -> Result<Self, Fault> {
        Err(Fault::unsupported("this build has no peak probe"))
    }
}

macro_rules! unreachable_subject {
    ($($type:ty),*) => {$(
        impl Subject for $type {
            fn opened(&self) -> Opened {
                Opened::default()
            }
            fn warm_up(&mut self, _: u64) -> Result<(), Fault> {
                Ok(())
            }
            fn poison(&mut self) {}
            fn slice(&mut self, _: u64) -> Result<Done, Fault> {
                Ok(Done::default())
            }
            fn answers(&mut self) -> Result<Vec<Answer>, Fault> {
                Ok(Vec::new())
            }
        }
    )*};
}
unreachable_subject!(Read, Peak);
