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
}
