//! `session.json`: what was run, where, and with what.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{EnergyFacts, Plan};

/// The schema that this version writes.
pub const SCHEMA: u32 = 1;

/// One measured limit of the machine, as the session found it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Probe {
    /// `probe:read` or `probe:peak`.
    pub subject: String,
    /// The loop that was fastest.
    pub variant: String,
    /// Threads.
    pub threads: u64,
    /// Bytes of the working set; 0 for arithmetic.
    pub working_set_bytes: u64,
    /// Amount of one iteration: bytes read, or operations done.
    pub amount_per_iteration: u64,
    /// Fastest time of one iteration while the loop was chosen.
    pub time_ns: f64,
}

/// One of two builds that are compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// What was asked for: a revision or a path.
    pub label: String,
    /// The revision that it was built from, in full; empty for a program that was given.
    pub revision: String,
    /// SHA-256 of the program.
    pub sha256: String,
    /// The version that its workers name.
    pub version: String,
}

/// What one side of a comparison takes of a cell, for absolute budgets. What was not measured is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Taken {
    /// `VmHWM` of a fresh process that has only this cell open, over one slice of it.
    pub peak_rss_bytes: Option<u64>,
    /// CPU time of all its slices, user and system.
    pub cpu_ns: Option<u64>,
    /// Wall time over which that was counted.
    pub wall_ns: Option<u64>,
}

impl Taken {
    /// CPU time in percent of what `cpus` offered.
    pub fn cpu_percent(&self, cpus: u64) -> Option<f64> {
        let wall_ns = self.wall_ns.filter(|ns| *ns > 0 && cpus > 0)?;
        Some(100.0 * self.cpu_ns? as f64 / (wall_ns as f64 * cpus as f64))
    }

    /// Adds the CPU time of a slice.
    pub fn add_cpu(&mut self, cpu_ns: u64, wall_ns: u64) {
        let sum = |to: &mut Option<u64>, ns| *to = Some(to.unwrap_or(0).saturating_add(ns));
        sum(&mut self.cpu_ns, cpu_ns);
        sum(&mut self.wall_ns, wall_ns);
    }
}

/// What a comparison of two builds decided before it looked at any time, and where it ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Comparison {
    /// The base (side A) and the head (side B).
    pub builds: [Build; 2],
    /// The cell that is the same on both sides; empty when a build lacks it.
    pub control: String,
    /// Pairs of processes at each look, and the share of the error rate that it spends.
    pub looks: Vec<(u64, f64)>,
    /// Pairs of processes of the confirmation.
    pub confirm_pairs: u64,
    /// Time of the measurement with one pair of processes.
    pub pair_ns: u64,
    /// Comparisons that follow each other in this record, one a round: 0 for a single one with its confirmation.
    pub pieces: u64,
    /// Work added for a test of the gate: cell, percent for the base, percent for the head.
    pub added: BTreeMap<String, [f64; 2]>,
    /// What the base and the head take of each cell.
    pub taken: BTreeMap<String, [Taken; 2]>,
    /// Why it ended.
    pub ended: String,
}

/// What was run, where, and with what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    /// Version of this record.
    pub schema: u32,
    /// Version of the program.
    pub version: String,
    /// Revision of its source, where known.
    pub git_revision: Option<String>,
    /// The command line.
    pub argv: Vec<String>,
    /// Start, UTC, `YYYY-MM-DDThh:mm:ssZ`.
    pub started_utc: String,
    /// Name of the machine.
    pub host: String,
    /// Name of the suite.
    pub suite: String,
    /// Text of the suite.
    pub suite_text: String,
    /// SHA-256 of the text, in hex.
    pub suite_sha256: String,
    /// Facts of the machine, as trit-measure gives them.
    pub machine: serde_json::Value,
    /// The instruction set above which none was used, by `TRIT_ISA`; empty without such a cap. The same machine under another cap is
    /// another subject.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub isa_cap: String,
    /// What the survey before planning found for each kernel.
    pub survey: serde_json::Value,
    /// Where each column of evidence comes from, or `empty: ` and why it has no values here.
    pub evidence: BTreeMap<String, String>,
    /// Limits that were measured.
    pub probes: Vec<Probe>,
    /// The meter, as the last part of the session found it.
    pub energy: EnergyFacts,
    /// The plan.
    pub plan: Plan,
    /// How often the session was resumed.
    pub resumed: u64,
    /// What was compared, where two builds were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}
