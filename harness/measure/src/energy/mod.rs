//! Energy: whether this machine has a meter that we may read, what it says over a window of time, and if there is none,
//! why not and what helps. An energy that no meter read is never a number here.
//!
//! # The interface in short
//!
//! ```no_run
//! use trit_measure::energy::{Meter, MeterOptions, probe};
//! use trit_measure::Roots;
//!
//! # fn work() {}
//! let roots = Roots::default(); // or `Roots::with_sysfs(dir)`: what `--sysfs-root DIR` means
//! println!("{}", probe(&roots).reason); // reads each counter once; `sources` has a line for each kind of meter
//! let mut meter = match Meter::open(&roots, &MeterOptions::default()) {
//!     Ok(meter) => meter, // its package counters were seen to move
//!     Err(probe) => {
//!         println!("{}: {}; hint: {:?}", probe.status, probe.reason, probe.remedy);
//!         return;
//!     }
//! };
//! meter.begin();
//! work(); // a second or more; `tick` or `sample` once a second meanwhile
//! let live = meter.sample(); // since the last call of `sample`: for live pictures, any length
//! let gross = meter.end(); // `Energy`: status, reason, window_ns, package_uj, dram_uj, psys_uj, domains, ...
//! # let _ = (live, gross);
//! ```
//!
//! Net energy is `trit_core::IdlePower`, from windows in which nothing of ours ran.
//!
//! Parts: [`Source`] is a kind of meter (perf, then powercap, then hwmon; a recorded external meter when asked for),
//! [`Domain`] a thing it measures, [`Meter`] the arithmetic over time, [`Energy`] the
//! result. [`fake`] is a tree for tests whose counters advance in real time. `package_uj` is the headline: the sum of the packages and of nothing else.

mod domain;
mod external;
pub mod fake;
mod hwmon;
mod load;
mod meter;
mod perf;
mod powercap;
mod probe;
mod source;
mod status;
mod window;

pub use domain::{Domain, DomainKind, Quantity};
pub use external::{External, ExternalError, MAX_GAP_NS, NOT_MERGED};
pub use hwmon::Hwmon;
pub use meter::{MAX_OTHERS_SHARE, MIN_WINDOW_NS, Meter, MeterOptions, SourceChoice};
pub use perf::Perf;
pub use powercap::Powercap;
pub use probe::{EnergyProbe, SourceProbe, probe, probe_of};
pub use source::{ReadError, Reading, Source};
pub use status::{EnergyStatus, UnknownEnergyStatus};
pub use window::{DomainEnergy, Energy};

#[cfg(test)]
mod external_tests;
#[cfg(test)]
mod meter_tests;
#[cfg(test)]
mod method_tests;
#[cfg(test)]
mod tests;
