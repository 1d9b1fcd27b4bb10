//! The record of a session before its first sample.

use std::time::{SystemTime, UNIX_EPOCH};

use trit_core::{Plan, SCHEMA, Session, Suite};
use trit_measure::{Counters, Evidence, Machine};

use crate::inputs::digest_bytes;
use crate::survey::Survey;

/// What the caller knows about the session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionFacts {
    /// Version of the program.
    pub version: String,
    /// Revision of its source.
    pub git_revision: Option<String>,
    /// The command line.
    pub argv: Vec<String>,
    /// The cap on instruction sets, by its name; empty without one.
    pub isa_cap: String,
}

/// The record of a new session that starts now.
pub fn new_session(
    suite: &Suite,
    plan: &Plan,
    machine: &Machine,
    survey: &Survey,
    facts: SessionFacts,
) -> Session {
    Session {
        schema: SCHEMA,
        version: facts.version,
        git_revision: facts.git_revision,
        argv: facts.argv,
        started_utc: utc_iso(now()),
        host: host(machine),
        suite: suite.name.clone(),
        suite_text: suite.text.clone(),
        suite_sha256: digest_bytes(suite.text.as_bytes()),
        // Neither can fail: both are structures of plain values with text keys.
        machine: serde_json::to_value(machine).unwrap_or_default(),
        isa_cap: facts.isa_cap,
        survey: serde_json::to_value(&survey.kernels).unwrap_or_default(),
        evidence: Evidence::facts()
            .into_iter()
            .chain(Counters::facts())
            .map(|(column, source)| (column.to_owned(), source))
            .collect(),
        plan: plan.clone(),
        ..Session::default()
    }
}

/// Name of the machine for people and directories.
pub(crate) fn host(machine: &Machine) -> String {
    machine
        .host
        .hostname
        .clone()
        .unwrap_or_else(|| "unknown".to_owned())
}

/// Seconds since 1970; 0 on a machine whose clock stands before that.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Year, month and day of a day counted from 1970-01-01 (the proleptic Gregorian calendar; days are counted in eras of
/// 400 years that start on a first of March, so that the leap day is the last of its year).
fn civil(day: u64) -> (u64, u64, u64) {
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let date = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, date)
}

/// `YYYY-MM-DDThh:mm:ssZ` of a time in seconds since 1970.
pub fn utc_iso(seconds: u64) -> String {
    let (year, month, date) = civil(seconds / 86_400);
    let second = seconds % 86_400;
    format!(
        "{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

/// Now in UTC, `YYYY-MM-DDThh:mm:ssZ`.
pub fn utc_iso_now() -> String {
    utc_iso(now())
}

/// Now, as `YYYYMMDDThhmmssZ`: the start of the name of a run directory.
pub fn utc_compact() -> String {
    utc_iso(now()).replace(['-', ':'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc_iso(seconds), text);
        }
        assert_eq!(utc_compact().len(), 16);
    }
}
