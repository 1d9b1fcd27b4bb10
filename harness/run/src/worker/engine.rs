//! Whole models.

use trit_kernel::Cpu;

use super::{Fault, Subject};
use crate::protocol::Task;

/// Opens a whole model.
pub(super) fn open(_task: &Task, _cpu: Cpu) -> Result<Box<dyn Subject>, Fault> {
    Err(Fault::unsupported("this build has no engine"))
}

/// The digest of the logits of four tokens.
pub(super) fn reference(_task: &Task, _cpu: Cpu) -> Result<String, Fault> {
    Err(Fault::unsupported("this build has no engine"))
}
