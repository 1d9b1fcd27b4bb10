//! Executes plans: workers, order, pairing, verification.
//!
//! The way of a session: [`survey`] asks a worker what the machine can run and how fast it roughly is, [`plan`] expands a
//! suite into cells, [`execute`] visits them in worker processes and writes verified samples as rows. Nothing is timed
//! whose answer was not checked; nothing that a worker does ends the run.
#![forbid(unsafe_code)]

mod ab;
mod budget;
pub mod drift;
mod energy_plan;
mod engine_plan;
mod estimate;
pub mod eval;
mod execute;
mod host;
mod inputs;
mod limits;
pub mod load;
mod merge;
mod meter;
#[cfg(target_os = "linux")]
pub mod monitor;
mod outcome;
pub mod overhead;
pub mod pairing;
mod planner;
mod process;
mod program_plan;
mod progress;
mod projection;
pub mod protocol;
mod reference;
mod schedule;
mod session;
mod survey;
mod tasks;
mod waves;
pub mod worker;

pub use ab::{AbOptions, AbOutcome, Extent, compare_builds};
pub use execute::{EnergyMeans, EnergyPass, RunError, RunOptions, Timeouts, execute};
pub use inputs::digest_bytes;
pub use limits::{ReadProbe, measure_limits};
pub use merge::{MergeError, Merged, merge_log};
pub use meter::{Counts, EnergyMeter, MachineMeter, Reading, facts as energy_facts};
pub use outcome::Outcome;
pub use planner::{DEFAULT_BUDGET, Overrides, PlanContext, PlanError, plan};
pub use process::{Worker, WorkerCommand, WorkerError};
pub use progress::{Progress, Silent};
pub use session::{SessionFacts, new_session, utc_compact, utc_iso, utc_iso_now};
pub use survey::{Survey, survey};
