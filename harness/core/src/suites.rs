//! The suites that the program carries.

/// Name and text of every embedded suite.
const SUITES: &[(&str, &str)] = &[
    ("quick", include_str!("../../../suites/quick.toml")),
    ("kernels", include_str!("../../../suites/kernels.toml")),
    ("tune", include_str!("../../../suites/tune.toml")),
    (
        "claims-run",
        include_str!("../../../suites/claims-run.toml"),
    ),
    ("gate", include_str!("../../../suites/gate.toml")),
    ("batch", include_str!("../../../suites/batch.toml")),
    ("levels", include_str!("../../../suites/levels.toml")),
    ("mobile", include_str!("../../../suites/mobile.toml")),
    ("edge", include_str!("../../../suites/edge.toml")),
    ("server", include_str!("../../../suites/server.toml")),
    ("cloud", include_str!("../../../suites/cloud.toml")),
    ("large", include_str!("../../../suites/large.toml")),
    ("peers", include_str!("../../../suites/peers.toml")),
    (
        "peers-2b4t",
        include_str!("../../../suites/peers-2b4t.toml"),
    ),
    (
        "load-times",
        include_str!("../../../suites/load-times.toml"),
    ),
];

/// The text of an embedded suite.
pub fn embedded_suite(name: &str) -> Option<&'static str> {
    SUITES
        .iter()
        .find(|(suite, _)| *suite == name)
        .map(|(_, text)| *text)
}

/// The names of the embedded suites.
pub fn suite_names() -> Vec<&'static str> {
    SUITES.iter().map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Suite;

    #[test]
    fn every_embedded_suite_parses_under_its_name() {
        for (name, text) in SUITES {
            let suite = Suite::parse(&format!("{name}.toml"), text).unwrap();
            assert_eq!(&suite.name, name);
            assert!(!suite.description.is_empty());
        }
    }
}
