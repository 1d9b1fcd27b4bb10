//! What the planner has to know about this machine.

use std::collections::BTreeMap;

use trit_core::Suite;
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
        let named = suite.generate.iter().flat_map(|entry| entry.models.iter());
        let model_bytes: BTreeMap<String, u64> = named
            .chain(&overrides.models)
            .filter(|model| !model.starts_with("synth:"))
            .filter_map(|model| Some((model.clone(), size(std::path::Path::new(model))?)))
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

/// Bytes of a file, or of the files of a folder.
fn size(path: &std::path::Path) -> Option<u64> {
    let facts = std::fs::metadata(path).ok()?;
    if !facts.is_dir() {
        return Some(facts.len());
    }
    let files = std::fs::read_dir(path).ok()?;
    Some(
        files
            .filter_map(|file| file.ok()?.metadata().ok())
            .map(|facts| facts.len())
            .sum(),
    )
}
