//! What every kind of meter has in common.

use super::{Domain, Energy, EnergyStatus};
use crate::Clock;

/// A reading of all domains that takes longer than this was interrupted, and is repeated.
pub(super) const MAX_READING_NS: u64 = 1_000_000;

/// Why a domain could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Not for this user.
    #[error("permission denied")]
    Denied,
    /// There is no such file (any more).
    #[error("no such file")]
    Missing,
    /// The driver or the kernel reports an error.
    #[error("{0}")]
    Failed(String),
    /// What it holds is no number of the expected kind.
    #[error("`{0}` is no number of {1}")]
    Malformed(String, &'static str),
    /// The counter shows more than its range.
    #[error("it shows {value} uJ, beyond its range of {range}")]
    BeyondRange {
        /// What it shows.
        value: u64,
        /// The largest value that it may show.
        range: u64,
    },
}

impl ReadError {
    /// The word for a measurement that met this error.
    pub const fn status(&self) -> EnergyStatus {
        match self {
            Self::Denied => EnergyStatus::PermissionDenied,
            Self::BeyondRange { .. } => EnergyStatus::Implausible,
            Self::Missing | Self::Failed(_) | Self::Malformed(..) => EnergyStatus::Absent,
        }
    }
}

/// All domains of a source at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The instant, by the monotonic clock: the middle between the moments before and after reading.
    pub at_ns: u64,
    /// The instant in UTC.
    pub unix_ns: u64,
    /// A value for each domain, in their order and in the unit of [`Domain::quantity`]. An error is an error: read as 0
    /// it would look like a counter that started again.
    pub values: Vec<Result<u64, ReadError>>,
}

/// A kind of meter. Reading changes nothing: no source ever writes to a file.
pub trait Source: Send {
    /// The word of the column `energy_source`: `perf`, `powercap`, `hwmon`, `external`.
    fn name(&self) -> &'static str;

    /// What it measures; always the same domains in the same order.
    fn domains(&self) -> &[Domain];

    /// The present value of every domain, one after the other.
    fn values(&mut self) -> Vec<Result<u64, ReadError>>;

    /// Reads all domains at one instant. A reading that took longer than a millisecond was interrupted and is repeated;
    /// after three attempts the last one counts.
    fn read(&mut self, clock: &dyn Clock) -> Reading {
        const ATTEMPTS: usize = 3;
        let mut attempt = 1;
        loop {
            let before = clock.now_ns();
            let values = self.values();
            let after = clock.now_ns();
            if after - before <= MAX_READING_NS || attempt == ATTEMPTS {
                return Reading {
                    at_ns: before + (after - before) / 2,
                    unix_ns: clock.unix_ns().saturating_sub((after - before) / 2),
                    values,
                };
            }
            attempt += 1;
        }
    }

    /// Whether the values lag behind the instant of reading by an unknown time, so that they make a live picture but no
    /// window with exact edges: so does a record that another program writes.
    fn lags(&self) -> bool {
        false
    }

    /// For a source that lags: the energy between two moments, UTC, by what is known now; `None` while that does not reach
    /// the second one.
    fn window(&mut self, start_unix_ns: u64, end_unix_ns: u64) -> Option<Energy> {
        let _ = (start_unix_ns, end_unix_ns);
        None
    }
}
