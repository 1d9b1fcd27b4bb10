//! What the planner has to know about this machine.

use std::collections::BTreeMap;

use trit_core::Suite;
use trit_engine::ModelName;
use trit_measure::Machine;

use crate::planner::{Overrides, PlanContext};
use crate::survey::Survey;

/// A last-level cache where none is reported.
const UNKNOWN_CACHE: u64 = 64 << 20;
/// Free memory where it is not reported.
const UNKNOWN_MEMORY: u64 = 4 << 30;

impl PlanContext {
    /// The context of this machine for one suite.
    pub fn of_machine(
        machine: &Machine,
        survey: &Survey,
        suite: &Suite,
        overrides: Overrides,
    ) -> Self {
        let free = machine.memory.available_bytes.unwrap_or(UNKNOWN_MEMORY);
        let limit = machine.limits.memory_limit_bytes.unwrap_or(u64::MAX);
        let generate = suite.generate.iter().flat_map(|entry| entry.models.iter());
        let programs = suite.program.iter().flat_map(|entry| entry.models.iter());
        let named = generate.chain(programs);
        let model_bytes: BTreeMap<String, u64> = named
            .chain(&overrides.models)
            .filter_map(|model| {
                // What cannot be read is an error of whoever opens it.
                let bytes = ModelName::parse(model.as_ref()).ok()?.file_bytes().ok()??;
                Some((model.clone(), bytes))
            })
            .collect();
        Self {
            threads: survey.threads,
            kernels: survey.kernels.clone(),
            memory_bytes: free.min(limit),
            l3_bytes: machine.last_level_cache_bytes().unwrap_or(UNKNOWN_CACHE),
            model_bytes,
            overrides,
        }
    }
}
