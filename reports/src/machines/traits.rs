//! What sessions have to agree in before anything of them is averaged.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::facts::fact;
use crate::record::Record;

/// What nobody wrote down.
const UNKNOWN: &str = "unknown";
/// No cap on instruction sets.
const NONE: &str = "none";

/// Names with values; what is unknown is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Traits(Vec<(&'static str, String)>);

impl Traits {
    pub(crate) fn of(record: &Record) -> Self {
        let session = &record.session;
        let machine = &session.machine;
        let build = |name: &str| fact(machine, &format!("/build/{name}")).unwrap_or_default();
        let isa = levels(&session.survey);
        let cap = if !session.isa_cap.is_empty() {
            session.isa_cap.clone()
        } else if let Some(cap) = told_cap(&session.survey) {
            cap
        } else if isa.is_empty() {
            String::new()
        } else {
            NONE.to_owned()
        };
        let schema = (session.schema > 0).then(|| session.schema.to_string());
        let flags = build("rustflags");
        Self(vec![
            ("isa", isa),
            ("TRIT_ISA", cap),
            ("compiler", build("rustc")),
            ("target", build("target")),
            ("opt_level", build("opt_level")),
            (
                "rustflags",
                if flags.is_empty() && !build("rustc").is_empty() {
                    NONE.to_owned()
                } else {
                    flags
                },
            ),
            ("debug_assertions", build("debug_assertions")),
            ("schema", schema.unwrap_or_default()),
            ("version", session.version.clone()),
        ])
    }

    /// The cap on instruction sets, where there is one.
    pub(crate) fn cap(&self) -> Option<&str> {
        let cap = self.0.iter().find(|(name, _)| *name == "TRIT_ISA");
        cap.map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty() && *value != NONE)
    }

    /// Whether both are known to be the same in everything.
    pub(crate) fn agree(&self, other: &Self) -> bool {
        self.against(other).is_empty()
    }

    /// What is not known to be the same: the name with both values.
    pub(crate) fn against(&self, other: &Self) -> Vec<(&'static str, String, String)> {
        let shown = |value: &str| if value.is_empty() { UNKNOWN } else { value }.to_owned();
        let both = self.0.iter().zip(&other.0);
        let differ = both.filter(|((_, own), (_, others))| own.is_empty() || own != others);
        differ
            .map(|((name, own), (_, others))| (*name, shown(own), shown(others)))
            .collect()
    }

    /// Every name with its value.
    pub(crate) fn shown(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| {
            let known = (!value.is_empty()).then_some(value.as_str());
            (*name, known.unwrap_or(UNKNOWN))
        })
    }
}

/// The kernels that the survey of a session looked at, with the reason why each could not run.
fn surveyed(survey: &Value) -> impl Iterator<Item = (&str, &str)> {
    let all = survey.as_array().map_or(&[][..], Vec::as_slice);
    all.iter().filter_map(|kernel| {
        let text = |name| kernel.get(name).and_then(Value::as_str);
        Some((text("isa")?, text("unavailable")?))
    })
}

/// The instruction sets whose kernels could run; empty for a session without a survey.
fn levels(survey: &Value) -> String {
    let could = surveyed(survey).filter(|(_, unavailable)| unavailable.is_empty());
    let levels: BTreeSet<&str> = could.map(|(isa, _)| isa).collect();
    levels.into_iter().collect::<Vec<_>>().join(" ")
}

/// The cap that the survey tells of, for sessions from before it was recorded by itself.
fn told_cap(survey: &Value) -> Option<String> {
    surveyed(survey).find_map(|(_, unavailable)| {
        let (_, cap) = unavailable.split_once("TRIT_ISA=")?;
        cap.split_whitespace().next().map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trit_core::Session;

    use super::*;

    fn record(survey: Value, rustc: &str, cap: &str) -> Record {
        Record {
            session: Session {
                schema: 1,
                version: "0.1.0".to_owned(),
                isa_cap: cap.to_owned(),
                survey,
                machine: json!({"build": {
                    "rustc": rustc, "target": "x", "opt_level": "3", "rustflags": null, "debug_assertions": false
                }}),
                ..Session::default()
            },
            ..Record::default()
        }
    }

    #[test]
    fn a_cap_is_told_by_the_session_or_by_its_survey() {
        let open =
            json!([{"isa": "avx2", "unavailable": ""}, {"isa": "avx512", "unavailable": ""}]);
        let capped = json!([
            {"isa": "avx2", "unavailable": ""},
            {"isa": "avx512", "unavailable": "avx512 is above the cap TRIT_ISA=avx2"}
        ]);
        let of = |survey: &Value, cap: &str| Traits::of(&record(survey.clone(), "r 1", cap));
        assert_eq!(of(&open, "").cap(), None);
        assert_eq!(of(&capped, "").cap(), Some("avx2"));
        assert_eq!(of(&capped, ""), of(&capped, "avx2"));
        assert!(of(&open, "").agree(&of(&open, "")));
        let differ = of(&open, "").against(&of(&capped, ""));
        let differ: Vec<_> = differ
            .iter()
            .map(|(n, a, b)| format!("{n}: {a} | {b}"))
            .collect();
        assert_eq!(differ, ["isa: avx2 avx512 | avx2", "TRIT_ISA: none | avx2"]);
    }

    #[test]
    fn what_is_unknown_agrees_with_nothing() {
        let unknown = Traits::of(&Record::default());
        assert!(!unknown.agree(&unknown));
        assert!(unknown.shown().all(|(_, value)| value == UNKNOWN));
        let survey = json!([{"isa": "avx2", "unavailable": ""}]);
        let one = Traits::of(&record(survey.clone(), "rustc 1.95.0", ""));
        let other = Traits::of(&record(survey, "rustc 1.90.0", ""));
        assert_eq!(
            one.against(&other),
            [(
                "compiler",
                "rustc 1.95.0".to_owned(),
                "rustc 1.90.0".to_owned()
            )]
        );
    }
}
