//! Loops that reach the limits of the machine: reading memory, multiplying and adding, and issuing instructions. The
//! caller times them; this crate has no clock.
//!
//! Results can be checked, and so the work cannot be left out: [`ReadLoop::checksum`] depends on every byte, and a
//! [`PeakLoop`] or an [`IssueLoop`] knows what its registers must hold.

mod issue;
#[cfg(target_arch = "x86_64")]
mod issue_x86;
mod peak;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod peak_amx;
#[cfg(target_arch = "aarch64")]
mod peak_neon;
#[cfg(target_arch = "x86_64")]
mod peak_x86;
mod read;

pub use issue::{IssueLoop, issue_loops};
pub use peak::{Operation, PeakLoop, peaks};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use read::{LINE, Lines};
pub use read::{ReadLoop, read_loops};
