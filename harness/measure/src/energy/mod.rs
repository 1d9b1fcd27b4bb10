//! Energy: whether this machine has a meter that we may read, what it says over a window of time, and if there is none,
//! why not and what helps. An energy that no meter read is never a number here.
//!
//! # The interface in short
//!
//! ```no_run
//! use trit_measure::energy::{Meter, MeterOptions, Sampler, net, probe};
//! use trit_measure::Roots;
//!
//! # fn work() {}
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let roots = Roots::default(); // or `Roots::with_sysfs(dir)`: what `--sysfs-root DIR` means
//! println!("{}", probe(&roots).reason); // reads each counter once; `sources` has a line for each kind of meter
//! let meter = match Meter::open(&roots, &MeterOptions::default()) {
//!     Ok(meter) => meter, // its package counters were seen to move
//!     Err(probe) => {
//!         println!("{}: {}; hint: {:?}", probe.status, probe.reason, probe.remedy);
//!         return Ok(());
//!     }
//! };
//! let meter = Sampler::start(meter)?; // reads it once a second in the background
//! let rest = std::time::Duration::from_secs(10);
//! let before = meter.idle(rest, &|| true);
//! meter.begin();
//! work(); // a second or more
//! let gross = meter.end(); // `Energy`: status, reason, window_ns, package_uj, dram_uj, psys_uj, domains, ...
//! let after = meter.idle(rest, &|| true);
//! let net = net(&gross, &before, &after); // gross - idle watts x time, with `reliable`
//! let live = meter.sample(); // the same type, since the last call of `sample`: for live pictures, any length
//! let line = meter.take_points(); // the time line: each reading, by domain
//! # let _ = (net, live, line);
//! # Ok(())
//! # }
//! ```
//!
//! Parts: [`Source`] is a kind of meter (perf, then powercap, then hwmon; a recorded external meter when asked for),
//! [`Domain`] a thing it measures, [`Meter`] the arithmetic over time, [`Sampler`] its background thread, [`Energy`] the
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
mod sampler;
mod source;
mod status;
mod window;

pub use domain::{Domain, DomainKind, Quantity};
pub use external::{External, ExternalError, MAX_GAP_NS, NOT_MERGED};
pub use hwmon::Hwmon;
pub use meter::{
    MAX_OTHERS_SHARE, MIN_WINDOW_NS, Meter, MeterOptions, Point, SourceChoice, TICK_NS,
};
pub use perf::Perf;
pub use powercap::Powercap;
pub use probe::{EnergyProbe, SourceProbe, probe, probe_of};
pub use sampler::Sampler;
pub use source::{ReadError, Reading, Source};
pub use status::{EnergyStatus, UnknownEnergyStatus};
pub use window::{DomainEnergy, Energy, NetEnergy, net};

#[cfg(test)]
mod external_tests;
#[cfg(test)]
mod meter_tests;
#[cfg(test)]
mod method_tests;
#[cfg(test)]
mod tests;
