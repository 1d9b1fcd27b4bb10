//! What a suite says about its energy pass, and what a plan and a session keep of it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use crate::duration::parse_duration;

/// Whether a run has an energy pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EnergyMode {
    /// Where there is a meter: as many cells as the energy budget holds, whole models first.
    #[default]
    Auto,
    /// Where there is a meter: every cell, however long that takes.
    All,
    /// No.
    Off,
}

impl EnergyMode {
    /// The word on the command line and in suites.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::All => "true",
            Self::Off => "false",
        }
    }
}

impl fmt::Display for EnergyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for EnergyMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The last two are how plans keep it.
        match text {
            "auto" => Ok(Self::Auto),
            "true" | "all" => Ok(Self::All),
            "false" | "off" => Ok(Self::Off),
            _ => Err(format!("`{text}` is not one of auto true false")),
        }
    }
}

impl<'de> Deserialize<'de> for EnergyMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = EnergyMode;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or \"auto\"")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<EnergyMode, E> {
                Ok(if value {
                    EnergyMode::All
                } else {
                    EnergyMode::Off
                })
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<EnergyMode, E> {
                value.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Which meter is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeterChoice {
    /// The best that the machine has.
    #[default]
    Auto,
    /// The energy counters of the kernel's perf events.
    Perf,
    /// `/sys/class/powercap`.
    Powercap,
    /// `/sys/class/hwmon`.
    Hwmon,
    /// The log of a meter outside of the machine.
    External,
}

impl MeterChoice {
    /// Every choice.
    pub const ALL: [Self; 5] = [
        Self::Auto,
        Self::Perf,
        Self::Powercap,
        Self::Hwmon,
        Self::External,
    ];

    /// The word on the command line and in suites.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Perf => "perf",
            Self::Powercap => "powercap",
            Self::Hwmon => "hwmon",
            Self::External => "external",
        }
    }
}

impl fmt::Display for MeterChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for MeterChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|choice| choice.name() == text);
        found.ok_or_else(|| {
            let words: Vec<&str> = Self::ALL.iter().map(|choice| choice.name()).collect();
            format!("`{text}` is not one of {}", words.join(" "))
        })
    }
}

/// The section `[run]` of a suite.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunText {
    #[serde(default)]
    energy: EnergyMode,
    /// The largest resident set of a worker, in 10^6 bytes.
    #[serde(default)]
    max_rss_mb: Option<u64>,
    /// Visits of a cell of a whole model or program.
    #[serde(default)]
    rounds: Option<u64>,
}

impl RunText {
    /// Visits, where the suite names them.
    pub(crate) fn rounds(&self) -> Result<Option<u64>, String> {
        match self.rounds {
            Some(rounds) if !(1..=MAX_ROUNDS).contains(&rounds) => {
                Err(format!("{rounds} is not in 1..={MAX_ROUNDS}"))
            }
            rounds => Ok(rounds),
        }
    }

    /// The same in bytes.
    pub(crate) fn max_rss_bytes(&self) -> Result<Option<u64>, String> {
        match self.max_rss_mb {
            Some(mb) if !(1..=MAX_RSS_MB).contains(&mb) => {
                Err(format!("{mb} is not in 1..={MAX_RSS_MB}"))
            }
            mb => Ok(mb.map(|mb| mb * 1_000_000)),
        }
    }
}

/// Largest limit of memory that a suite may name: 100 TB.
const MAX_RSS_MB: u64 = 100_000_000;
/// Most visits that a suite may ask for.
const MAX_ROUNDS: u64 = 1000;

/// The section `[energy]` of a suite.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnergyText {
    #[serde(default)]
    source: MeterChoice,
    #[serde(default)]
    window: Option<String>,
    #[serde(default)]
    windows: Option<u64>,
    #[serde(default)]
    idle: Option<String>,
    #[serde(default)]
    budget: Option<String>,
    #[serde(default)]
    max_others: Option<f64>,
}

/// How the energy pass of a suite is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EnergySettings {
    /// Whether there is one.
    pub mode: EnergyMode,
    /// Which meter is asked.
    pub source: MeterChoice,
    /// Length of a window.
    pub window: Duration,
    /// Windows of a cell, and blocks of a pair.
    pub windows: u64,
    /// Length of an idle window.
    pub idle: Duration,
    /// Time for the windows of all cells that `auto` chooses.
    pub budget: Duration,
    /// Largest CPU time of other processes in a window that counts, as a share of one CPU.
    pub max_others: f64,
}

impl Default for EnergySettings {
    fn default() -> Self {
        Self {
            mode: EnergyMode::Auto,
            source: MeterChoice::Auto,
            window: Duration::from_secs(2),
            windows: 6,
            idle: Duration::from_secs(10),
            budget: Duration::from_mins(2),
            max_others: 0.02,
        }
    }
}

impl EnergySettings {
    /// The shortest window: what meters that count about a thousand times a second resolve to 0.2 %.
    pub const SHORTEST: Duration = Duration::from_secs(1);
    /// The longest window.
    pub const LONGEST: Duration = Duration::from_mins(10);
    /// The most windows of a cell.
    pub const MOST_WINDOWS: u64 = 1000;

    /// From the two sections of a suite.
    ///
    /// # Errors
    /// The key whose value makes no sense, and what is wrong with it.
    pub(crate) fn read(run: &RunText, energy: &EnergyText) -> Result<Self, (&'static str, String)> {
        let mut settings = Self {
            mode: run.energy,
            source: energy.source,
            ..Self::default()
        };
        let duration = |key, text: &Option<String>, to: &mut Duration| {
            if let Some(text) = text {
                *to = parse_duration(text).map_err(|error| (key, error.to_string()))?;
            }
            Ok(())
        };
        duration("energy.window", &energy.window, &mut settings.window)?;
        duration("energy.idle", &energy.idle, &mut settings.idle)?;
        duration("energy.budget", &energy.budget, &mut settings.budget)?;
        for (key, value) in [
            ("energy.window", settings.window),
            ("energy.idle", settings.idle),
        ] {
            if value < Self::SHORTEST || value > Self::LONGEST {
                return Err((key, "is not in 1s..=10m".to_owned()));
            }
        }
        settings.windows = energy.windows.unwrap_or(settings.windows);
        if !(1..=Self::MOST_WINDOWS).contains(&settings.windows) {
            return Err((
                "energy.windows",
                format!("{} is not in 1..={}", settings.windows, Self::MOST_WINDOWS),
            ));
        }
        settings.max_others = energy.max_others.unwrap_or(settings.max_others);
        if !(0.0..=1e6).contains(&settings.max_others) {
            return Err((
                "energy.max_others",
                format!("{} is not a share of a CPU", settings.max_others),
            ));
        }
        Ok(settings)
    }
}

/// The energy pass of a plan. It is carried out where there is a meter, and costs nothing where there is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EnergyPlan {
    /// Whether there is one.
    pub mode: EnergyMode,
    /// Which meter is asked.
    pub source: MeterChoice,
    /// Shortest length of a window.
    pub window_ns: u64,
    /// Windows of a cell, and blocks (of four windows) of a pair.
    pub windows: u64,
    /// Shortest length of the idle windows before and after.
    pub idle_ns: u64,
    /// Time for the windows that `auto` chose.
    pub budget_ns: u64,
    /// Largest CPU time of other processes in a window that counts, as a share of one CPU.
    pub max_others: f64,
    /// Cells that get windows of their own.
    pub cells: Vec<String>,
    /// Pairs that get blocks of windows, by their index in the plan.
    pub pairs: Vec<usize>,
    /// Time that windows, idle windows and setting up again take.
    pub expected_ns: u64,
}

/// The meter of a session, as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EnergyFacts {
    /// `ok`, or the word that says why there is no energy.
    pub status: String,
    /// Where the readings come from; empty without a meter.
    pub source: String,
    /// The domains that could be read.
    pub domains: Vec<String>,
    /// What was seen, in a sentence.
    pub reason: String,
    /// What to do about it; empty where nothing helps or nothing has to.
    pub remedy: String,
}

/// What the machine takes at rest, in watts of one domain: the windows before and after a part of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct IdlePower {
    /// Before; missing where it was not measured.
    pub before_w: Option<f64>,
    /// After.
    pub after_w: Option<f64>,
}

impl IdlePower {
    /// Two windows that differ by more than this share of the larger one are no baseline.
    pub const TOLERANCE: f64 = 0.05;

    /// The baseline of net values: the mean of both, or the one that there is.
    pub fn watts(&self) -> Option<f64> {
        match (self.before_w, self.after_w) {
            (Some(before), Some(after)) => Some(f64::midpoint(before, after)),
            (one, other) => one.or(other),
        }
    }

    /// What a window of `length_ns` used beyond the idle machine: gross less idle watts times time, in microjoules. Below 0 where
    /// it used less than the idle machine: then the baseline was none.
    pub fn net_uj(&self, gross_uj: f64, length_ns: u64) -> Option<f64> {
        // A watt is a microjoule in a thousand nanoseconds.
        Some(gross_uj - self.watts()? * length_ns as f64 / 1e3)
    }

    /// Why net values should not be relied on; empty when they may.
    pub fn doubt(&self) -> String {
        match (self.before_w, self.after_w) {
            (Some(before), Some(after))
                if (before - after).abs() > Self::TOLERANCE * before.max(after) =>
            {
                format!(
                    "idle power was {before:.2} W before and {after:.2} W after: they differ by more than 5 %"
                )
            }
            (Some(_), Some(_)) => String::new(),
            (None, None) => "there is no idle power".to_owned(),
            _ => "idle power is known before or after alone".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written() {
        for mode in [EnergyMode::Auto, EnergyMode::All, EnergyMode::Off] {
            assert_eq!(mode.name().parse(), Ok(mode));
            let json = serde_json::to_string(&mode).unwrap();
            assert_eq!(serde_json::from_str::<EnergyMode>(&json).unwrap(), mode);
        }
        assert!("yes".parse::<EnergyMode>().is_err());
        for choice in MeterChoice::ALL {
            assert_eq!(choice.name().parse(), Ok(choice));
        }
        let error = "rapl".parse::<MeterChoice>().unwrap_err();
        assert!(
            error.contains("auto perf powercap hwmon external"),
            "{error}"
        );
    }

    #[test]
    fn net_is_gross_without_the_idle_power() {
        let idle = |before_w, after_w| IdlePower { before_w, after_w };
        // 50 W for 4 s, less 10.5 W.
        let both = idle(Some(10.0), Some(11.0));
        assert_eq!(both.net_uj(200e6, 4_000_000_000), Some(158e6));
        assert_eq!(
            both.doubt(),
            "idle power was 10.00 W before and 11.00 W after: they differ by more than 5 %"
        );
        // 5 % of the larger one is the limit.
        for (before, fine) in [(9.5, true), (9.49, false), (10.5, true), (10.53, false)] {
            let doubt = idle(Some(before), Some(10.0)).doubt();
            assert_eq!(doubt.is_empty(), fine, "{before}: {doubt}");
        }
        // Less than idle.
        assert_eq!(
            idle(Some(60.0), Some(60.0)).net_uj(200e6, 4_000_000_000),
            Some(-40e6)
        );
        // One alone is used and doubted; without any there is no net.
        assert_eq!(
            idle(None, Some(10.0)).net_uj(200e6, 4_000_000_000),
            Some(160e6)
        );
        assert!(idle(None, Some(10.0)).doubt().contains("alone"));
        assert_eq!(idle(None, None).net_uj(200e6, 4_000_000_000), None);
        assert!(!idle(None, None).doubt().is_empty());
    }

    fn settings(run: &str, energy: &str) -> Result<EnergySettings, (&'static str, String)> {
        EnergySettings::read(
            &toml::from_str(run).unwrap(),
            &toml::from_str(energy).unwrap(),
        )
    }

    #[test]
    fn sections_have_defaults_and_limits() {
        assert_eq!(settings("", ""), Ok(EnergySettings::default()));
        let all = settings(
            "energy = true",
            "source = \"hwmon\"\nwindow = \"1s500ms\"\nwindows = 9\nidle = \"1s\"\nbudget = \"30s\"\nmax_others = 0.5",
        );
        assert_eq!(
            all,
            Ok(EnergySettings {
                mode: EnergyMode::All,
                source: MeterChoice::Hwmon,
                window: Duration::from_millis(1500),
                windows: 9,
                idle: Duration::from_secs(1),
                budget: Duration::from_secs(30),
                max_others: 0.5,
            })
        );
        for (text, key) in [
            ("window = \"999ms\"", "energy.window"),
            ("window = \"11m\"", "energy.window"),
            ("window = \"2\"", "energy.window"),
            ("idle = \"10ms\"", "energy.idle"),
            ("budget = \"\"", "energy.budget"),
            ("windows = 0", "energy.windows"),
            ("windows = 1001", "energy.windows"),
            ("max_others = -0.1", "energy.max_others"),
            ("max_others = nan", "energy.max_others"),
        ] {
            assert_eq!(settings("", text).unwrap_err().0, key, "{text}");
        }
    }
}
