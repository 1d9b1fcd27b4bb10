//! Limits: every threshold of the product in one TOML table. `suites/FORMAT.md` says the same for people.

use std::fmt;

use crate::SuiteError;
use crate::suite::{text_error, value_error};

/// Effects smaller than this are none, unless a file says otherwise: placement of pages alone makes 1 %.
pub const MIN_EFFECT_PERCENT: f64 = 2.0;
/// Slowdown that a gate lets pass, unless a file says otherwise.
pub const ALLOWED_SLOWDOWN_PERCENT: f64 = 5.0;

/// Which budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Budget {
    /// Time of one call, request or token.
    Latency,
    /// Tokens a second: the one budget that is a minimum.
    Rate,
    /// Largest resident set.
    Rss,
    /// Energy of one token.
    Energy,
    /// CPU time as a share of what the allowed CPUs offered.
    Cpu,
    /// Requests that failed, as a share of all.
    Errors,
}

impl Budget {
    /// Every budget, in the order in which violations are told.
    pub const ALL: [Self; 6] = [
        Self::Latency,
        Self::Rate,
        Self::Rss,
        Self::Energy,
        Self::Cpu,
        Self::Errors,
    ];

    /// The key in a file.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Latency => "max_latency_ms",
            Self::Rate => "min_tokens_per_s",
            Self::Rss => "max_rss_mb",
            Self::Energy => "max_j_per_token",
            Self::Cpu => "max_cpu_percent",
            Self::Errors => "max_error_percent",
        }
    }

    /// What is compared with it, and its unit.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Latency => ("latency", "ms"),
            Self::Rate => ("rate", "tokens/s"),
            Self::Rss => ("resident set", "MB"),
            Self::Energy => ("energy", "J/token"),
            Self::Cpu => ("CPU use", "%"),
            Self::Errors => ("error rate", "%"),
        }
    }

    /// Whether the limit is the least that is allowed.
    pub const fn is_minimum(self) -> bool {
        matches!(self, Self::Rate)
    }

    /// The largest value that makes sense.
    const fn most(self) -> f64 {
        match self {
            Self::Cpu | Self::Errors => 100.0,
            _ => f64::MAX,
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words().0)
    }
}

/// What was seen of one cell. What was not measured is missing, and no limit on it is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observed {
    /// Time of one call, request or token, in milliseconds.
    pub latency_ms: Option<f64>,
    /// Tokens a second.
    pub tokens_per_s: Option<f64>,
    /// Largest resident set.
    pub rss_bytes: Option<u64>,
    /// Joules of one token, from a meter.
    pub j_per_token: Option<f64>,
    /// CPU time, in percent of what the allowed CPUs offered.
    pub cpu_percent: Option<f64>,
    /// Failed requests, in percent of all.
    pub error_percent: Option<f64>,
}

impl Observed {
    /// The value that a budget limits, in the unit of its key.
    pub fn value(&self, budget: Budget) -> Option<f64> {
        match budget {
            Budget::Latency => self.latency_ms,
            Budget::Rate => self.tokens_per_s,
            Budget::Rss => self.rss_bytes.map(|bytes| bytes as f64 / 1e6),
            Budget::Energy => self.j_per_token,
            Budget::Cpu => self.cpu_percent,
            Budget::Errors => self.error_percent,
        }
    }
}

/// A limit that was not kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// The cell.
    pub cell: String,
    /// Which budget.
    pub budget: Budget,
    /// What was allowed, in the unit of the budget's key.
    pub limit: f64,
    /// What was seen, in the same unit.
    pub observed: f64,
    /// The pattern that set the limit; empty when it holds for every cell.
    pub pattern: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = self.budget.words();
        let side = if self.budget.is_minimum() {
            "below"
        } else {
            "above"
        };
        write!(
            f,
            "{}: {name} {} {unit} is {side} the limit of {} {unit} ({}",
            self.cell,
            rounded(self.observed),
            self.limit,
            self.budget.key(),
        )?;
        if !self.pattern.is_empty() {
            write!(f, " of `{}`", self.pattern)?;
        }
        f.write_str(")")
    }
}

/// Four decimals where they tell something: what is on the wrong side of a limit must not look like the limit.
fn rounded(value: f64) -> f64 {
    if value.abs() >= 0.01 {
        (value * 1e4).round() / 1e4
    } else {
        value
    }
}

/// The limits of one cell.
#[derive(Clone, Debug, PartialEq)]
pub struct CellLimits {
    /// Effects below this are none, in percent.
    pub min_effect_percent: f64,
    /// Slowdown that passes, in percent.
    pub allowed_slowdown_percent: f64,
    /// The limit of each budget that has one, and the pattern that set it.
    budgets: Vec<(Budget, f64, String)>,
}

impl CellLimits {
    /// The limit of a budget.
    pub fn limit(&self, budget: Budget) -> Option<f64> {
        let set = self.budgets.iter().find(|(of, ..)| *of == budget)?;
        Some(set.1)
    }

    /// The limits that `observed` does not keep. A value that is no number keeps none.
    pub fn violated(&self, cell: &str, observed: &Observed) -> Vec<Violation> {
        let violation = |(budget, limit, pattern): &(Budget, f64, String)| {
            let value = observed.value(*budget)?;
            let kept = if budget.is_minimum() {
                value >= *limit
            } else {
                value <= *limit
            };
            (!kept).then(|| Violation {
                cell: cell.to_owned(),
                budget: *budget,
                limit: *limit,
                observed: value,
                pattern: pattern.clone(),
            })
        };
        self.budgets.iter().filter_map(violation).collect()
    }

    /// The budgets that have a limit and nothing to compare with it.
    pub fn not_judged(&self, observed: &Observed) -> Vec<Budget> {
        let missing = |(budget, ..): &&(Budget, f64, String)| observed.value(*budget).is_none();
        self.budgets
            .iter()
            .filter(missing)
            .map(|(budget, ..)| *budget)
            .collect()
    }
}

/// The keys of `[limits]` and of each `[[limits.cell]]`.
#[derive(Clone, Debug, Default, PartialEq)]
struct Values {
    min_effect_percent: Option<f64>,
    allowed_slowdown_percent: Option<f64>,
    budgets: [Option<f64>; Budget::ALL.len()],
}

/// Every threshold: statistical ones, and budgets for what a cell may take.
///
/// A file without a section, and [`Limits::default`], have the statistical defaults and no budget at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    all: Values,
    cells: Vec<(String, Values)>,
}

/// `[limits]` as it is written. Both tables have the same keys, and serde cannot refuse unknown ones in a flattened table.
macro_rules! table {
    ($(#[$meta:meta])* $name:ident { $($(#[$extra_meta:meta])* $extra:ident: $type:ty),* }) => {
        $(#[$meta])*
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name {
            $($(#[$extra_meta])* $extra: $type,)*
            min_effect_percent: Option<f64>,
            allowed_slowdown_percent: Option<f64>,
            max_latency_ms: Option<f64>,
            min_tokens_per_s: Option<f64>,
            max_rss_mb: Option<f64>,
            max_j_per_token: Option<f64>,
            max_cpu_percent: Option<f64>,
            max_error_percent: Option<f64>,
        }

        impl $name {
            fn values(&self) -> Values {
                Values {
                    min_effect_percent: self.min_effect_percent,
                    allowed_slowdown_percent: self.allowed_slowdown_percent,
                    budgets: Budget::ALL.map(|budget| match budget {
                        Budget::Latency => self.max_latency_ms,
                        Budget::Rate => self.min_tokens_per_s,
                        Budget::Rss => self.max_rss_mb,
                        Budget::Energy => self.max_j_per_token,
                        Budget::Cpu => self.max_cpu_percent,
                        Budget::Errors => self.max_error_percent,
                    }),
                }
            }
        }
    };
}

table!(
    /// `[limits]`.
    LimitsTable { #[serde(default)] cell: Vec<CellTable> }
);
table!(
    /// `[[limits.cell]]`.
    CellTable { r#match: String }
);

/// The file as it is written.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    limits: LimitsTable,
}

impl Limits {
    /// Reads limits; `file` names them in errors.
    ///
    /// # Errors
    /// When the text is not TOML, has no `[limits]`, an unknown key, a value that is not a finite number in its range,
    /// an empty pattern, or a section without a limit.
    pub fn parse(file: &str, text: &str) -> Result<Self, SuiteError> {
        let Text { limits } =
            toml::from_str(text).map_err(|error| text_error(file, text, &error))?;
        let all = limits.values();
        all.check(file, "limits")?;
        let mut cells = Vec::with_capacity(limits.cell.len());
        for (i, section) in limits.cell.into_iter().enumerate() {
            let key = format!("limits.cell[{i}]");
            let values = section.values();
            if section.r#match.is_empty() {
                let message = "is empty; hint: a pattern such as `decode/*`, or limits for every cell in [limits]";
                return Err(value_error(file, &format!("{key}.match"), message));
            }
            if values == Values::default() {
                let message = "sets no limit; hint: add one, or remove the section";
                return Err(value_error(file, &key, message));
            }
            values.check(file, &key)?;
            cells.push((section.r#match, values));
        }
        Ok(Self { all, cells })
    }

    /// The limits of a cell: of each key the value in the last section whose pattern matches, else that of `[limits]`,
    /// else the default.
    pub fn of(&self, cell: &str) -> CellLimits {
        let sections: Vec<(&str, &Values)> = std::iter::once(("", &self.all))
            .chain(
                self.cells
                    .iter()
                    .filter(|(pattern, _)| matches(pattern, cell))
                    .map(|(pattern, values)| (pattern.as_str(), values)),
            )
            .collect();
        let last = |get: &dyn Fn(&Values) -> Option<f64>| {
            sections
                .iter()
                .rev()
                .find_map(|(pattern, values)| Some((get(values)?, (*pattern).to_owned())))
        };
        let statistical = |get: &dyn Fn(&Values) -> Option<f64>, default| {
            last(get).map_or(default, |(value, _)| value)
        };
        CellLimits {
            min_effect_percent: statistical(
                &|values| values.min_effect_percent,
                MIN_EFFECT_PERCENT,
            ),
            allowed_slowdown_percent: statistical(
                &|values| values.allowed_slowdown_percent,
                ALLOWED_SLOWDOWN_PERCENT,
            ),
            budgets: (0..)
                .zip(Budget::ALL)
                .filter_map(|(at, budget): (usize, _)| {
                    let (limit, pattern) = last(&|values: &Values| values.budgets[at])?;
                    Some((budget, limit, pattern))
                })
                .collect(),
        }
    }

    /// The limits that a cell does not keep, each with what was allowed and what was seen.
    pub fn violated(&self, cell: &str, observed: &Observed) -> Vec<Violation> {
        self.of(cell).violated(cell, observed)
    }

    /// The patterns that match none of these cells: most likely they are misspelt.
    pub fn unused<'a>(&'a self, cells: &[&str]) -> Vec<&'a str> {
        self.cells
            .iter()
            .map(|(pattern, _)| pattern.as_str())
            .filter(|pattern| !cells.iter().any(|cell| matches(pattern, cell)))
            .collect()
    }
}

impl Values {
    fn check(&self, file: &str, section: &str) -> Result<(), SuiteError> {
        let statistical = [
            ("min_effect_percent", self.min_effect_percent, 100.0),
            (
                "allowed_slowdown_percent",
                self.allowed_slowdown_percent,
                f64::MAX,
            ),
        ];
        let budgets = Budget::ALL
            .iter()
            .zip(&self.budgets)
            .map(|(budget, value)| (budget.key(), *value, budget.most()));
        for (key, value, most) in statistical.into_iter().chain(budgets) {
            let Some(value) = value else { continue };
            let wrong = if !value.is_finite() {
                "is no finite number; hint: leave the key out for no limit".to_owned()
            } else if value < 0.0 {
                "is negative; hint: a number from 0".to_owned()
            } else if value > most {
                format!("is above {most}; hint: it is a percentage of the whole")
            } else {
                continue;
            };
            return Err(value_error(
                file,
                &format!("{section}.{key}"),
                format!("{value} {wrong}"),
            ));
        }
        Ok(())
    }
}

/// Whether a pattern matches the id of a cell: all of it, or all from behind one of its `/`. `*` stands for any text,
/// `/` included, and `?` for one character.
fn matches(pattern: &str, cell: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let behind = cell.match_indices('/').map(|(at, _)| at + 1);
    std::iter::once(0)
        .chain(behind)
        .any(|start| glob(&pattern, &cell[start..]))
}

/// Glob with one place to return to, so that its time is at most the product of both lengths.
fn glob(pattern: &[char], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Behind the last star, and where in the text it was tried last.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                p += 1;
                star = Some((p, t));
            }
            Some(&c) if c == '?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((behind, tried)) => {
                    star = Some((behind, tried + 1));
                    p = behind;
                    t = tried + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_begin_at_a_part_of_the_id() {
        let cell = "engine:w2a8-mad-avx2/decode/synth:2b4t/p512/g128/t2";
        for pattern in [
            "*",
            "decode/*",
            "*/t2",
            "engine:w2a8-*",
            "t2",
            "t?",
            cell,
            "*decode*",
            "**/p*/t2*",
        ] {
            assert!(matches(pattern, cell), "{pattern}");
        }
        for pattern in [
            "", "decode", "ecode/*", "t", "t2/", "engine", "t??", "*/t1", "DECODE/*",
        ] {
            assert!(!matches(pattern, cell), "{pattern}");
        }
        assert!(matches("é?", "a/éß"));
        // Exponential in a glob that tries every division.
        let hostile = "*a".repeat(200) + "b";
        assert!(!matches(&hostile, &"a".repeat(2000)));
    }
}
