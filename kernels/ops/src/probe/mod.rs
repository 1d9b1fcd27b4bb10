//! Loops that reach the limits of the machine: reading memory, and multiplying and adding. The caller times them; this
//! crate has no clock.
//!
//! Results can be checked, and so the work cannot be left out: [`ReadLoop::checksum`] depends on every byte, and a
//! [`PeakLoop`] knows what its accumulators must hold.

mod peak;
#[cfg(target_arch = "x86_64")]
mod peak_x86;
mod read;

pub use peak::{Operation, PeakLoop, peaks};
#[cfg(target_arch = "x86_64")]
pub(crate) use read::{LINE, Lines};
pub use read::{ReadLoop, read_loops};
