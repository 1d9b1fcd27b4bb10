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
