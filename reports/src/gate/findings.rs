//! What a replayed recording shows, held against what a gate has to be.

use trit_stats::{binomial_cdf, binomial_upper_bound};

use super::replay::{ANY, ANY_LONG, DECIDED, METHODS, METHODS_IN_TURNS, OURS, Replay, ReplayRow};

/// Rate of false alarms of a family of cells that the gate promises.
const PROMISED: f64 = 0.01;
/// Comparisons that a recording should hold, so that no alarm in all of them bounds the rate at 1 %.
const COMPARISONS: u64 = 300;
/// Cells of a suite.
const CELLS: usize = 6;
/// Share of unchanged cells that a short comparison should decide.
const DECIDES: f64 = 0.9;
/// p below which p-values are not uniform.
const UNIFORM_P: f64 = 0.01;
/// Which slowdowns a comparison of two minutes should find, and how often.
const DETECTS: [(&str, f64, f64); 5] = [
    ("kernel cells", 10.0, 0.99),
    ("kernel cells", 5.0, 0.99),
    ("kernel cells", 2.0, 0.90),
    ("engine cells", 10.0, 0.99),
    ("engine cells", 5.0, 0.95),
];

/// One claim, what was found, and whether that is enough.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Finding {
    /// What is asked.
    pub question: String,
    /// What it should be.
    pub wanted: String,
    /// What it is, with its interval.
    pub found: String,
    /// Whether it is; missing when there was nothing to judge.
    pub met: Option<bool>,
}

impl Finding {
    /// A claim that is judged.
    pub fn new(question: &str, wanted: String, found: String, met: Option<bool>) -> Self {
        Self {
            question: question.to_owned(),
            wanted,
            found,
            met,
        }
    }
}

/// The most false alarms among `trials` comparisons that the promised rate explains with probability 0.95.
pub fn alarms_explained(trials: u64) -> u64 {
    (0..trials)
        .find(|hits| binomial_cdf(*hits, trials, PROMISED) >= 0.95)
        .unwrap_or(trials)
}

/// False alarms against the promised rate.
pub fn alarm_finding(question: &str, hits: u64, trials: u64) -> Finding {
    let explained = alarms_explained(trials);
    let bound = binomial_upper_bound(hits, trials, 0.95);
    let found = bound.map_or_else(String::new, |bound| {
        format!(
            "{hits} of {trials}; the rate is below {:.2} % with confidence 0.95",
            100.0 * bound
        )
    });
    let wanted = format!("at most {explained}, which 1 % explains with probability 0.95");
    let met = (trials > 0).then_some(hits <= explained);
    Finding::new(question, wanted, found, met)
}

fn row<'a>(
    replay: &'a Replay,
    method: &str,
    question: &str,
    applied: f64,
) -> Option<&'a ReplayRow> {
    replay.rows.iter().find(|row| {
        row.method == method
            && row.question == question
            && row.applied_percent.to_bits() == applied.to_bits()
    })
}

fn rate(row: &ReplayRow) -> f64 {
    row.hits as f64 / row.trials.max(1) as f64
}

fn show(row: Option<&ReplayRow>) -> String {
    let Some(row) = row else {
        return "not measured".to_owned();
    };
    let interval = row.interval.map_or_else(String::new, |interval| {
        format!(
            " ({:.1} to {:.1} %)",
            100.0 * interval.lo,
            100.0 * interval.hi
        )
    });
    format!(
        "{} of {}: {:.1} %{interval}",
        row.hits,
        row.trials,
        100.0 * rate(row)
    )
}

/// At least this share.
fn at_least(question: &str, row: Option<&ReplayRow>, share: f64) -> Finding {
    let wanted = format!("at least {:.0} %", 100.0 * share);
    Finding::new(
        question,
        wanted,
        show(row),
        row.map(|row| rate(row) >= share),
    )
}

/// Every claim that a recording can show.
pub fn replay_findings(replay: &Replay) -> Vec<Finding> {
    let short = row(replay, OURS, ANY, 0.0);
    let comparisons = short.map_or(0, |row| row.trials);
    let mut all = vec![
        Finding::new(
            "disjoint comparisons of unchanged builds",
            format!("at least {COMPARISONS}, over at least {CELLS} cells"),
            format!("{comparisons}, over {} cells", replay.cells),
            Some(comparisons >= COMPARISONS && replay.cells >= CELLS),
        ),
        alarm_finding(
            "false alarms of a whole comparison",
            short.map_or(0, |row| row.hits),
            comparisons,
        ),
        Finding::new(
            "p-values of unchanged cells are uniform",
            format!("Kolmogorov-Smirnov p at least {UNIFORM_P}"),
            replay.uniform.map_or_else(
                || "not measured".to_owned(),
                |uniform| {
                    format!(
                        "D = {:.4}, p = {:.3}, {} values",
                        uniform.d, uniform.p, replay.p_values
                    )
                },
            ),
            replay.uniform.map(|uniform| uniform.p >= UNIFORM_P),
        ),
        at_least(
            "unchanged cells decided in a short comparison",
            row(replay, OURS, DECIDED, 0.0),
            DECIDES,
        ),
    ];
    for (kind, percent, share) in DETECTS {
        let found = row(replay, OURS, &format!("{kind}: found"), percent);
        all.push(at_least(
            &format!("{kind}, {percent} % slower: found"),
            found,
            share,
        ));
    }
    for kind in ["kernel cells", "engine cells"] {
        for percent in [10.0, 5.0, 2.0] {
            let question = format!("{kind}: passed though slower");
            let passed = row(replay, OURS, &question, percent);
            all.push(Finding::new(
                &format!("{kind}, {percent} % slower: passed"),
                "none".to_owned(),
                show(passed),
                passed.map(|row| row.hits == 0),
            ));
        }
    }
    all.extend(
        METHODS
            .iter()
            .chain(&METHODS_IN_TURNS)
            .map(|method| beside(replay, method)),
    );
    all
}

/// Another method on the same data: it should have more false alarms, and find no more.
fn beside(replay: &Replay, method: &str) -> Finding {
    let alarms = |method| row(replay, method, ANY_LONG, 0.0);
    // All slowdowns together: each was applied to every cell of every comparison.
    let found = |method: &str| {
        let rows = replay
            .rows
            .iter()
            .filter(|row| row.method == method && row.question.ends_with(": found"))
            .filter(|row| row.applied_percent > 0.0);
        rows.fold((0, 0), |(hits, trials), row| {
            (hits + row.hits, trials + row.trials)
        })
    };
    let share = |(hits, trials): (u64, u64)| hits as f64 / trials.max(1) as f64;
    let (ours, theirs) = (share(found(OURS)), share(found(method)));
    let judged = alarms(OURS).zip(alarms(method));
    Finding::new(
        &format!("two minutes judged by {method}"),
        "more false alarms than ours, or as many, and no more detections".to_owned(),
        format!(
            "false alarms {} (ours {}); found {:.1} % of 10, 5 and 2 % (ours {:.1} %)",
            show(alarms(method)),
            show(alarms(OURS)),
            100.0 * theirs,
            100.0 * ours
        ),
        judged.map(|(our, their)| rate(our) <= rate(their) && ours >= theirs),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_percent_explains() {
        // Binomial tables: 300 trials at 1 % are at most 6 with probability 0.967, at most 5 with 0.918.
        assert_eq!(alarms_explained(300), 6);
        assert_eq!(alarms_explained(30), 1);
        assert_eq!(alarms_explained(0), 0);
        assert_eq!(alarm_finding("x", 7, 300).met, Some(false));
        let none = alarm_finding("x", 0, 300);
        assert_eq!(none.met, Some(true));
        assert!(none.found.contains("below 0.99 %"), "{none:?}");
        assert_eq!(alarm_finding("x", 0, 0).met, None);
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let replay = Replay {
            rows: Vec::new(),
            uniform: None,
            p_values: 0,
            cells: 0,
            detectable_percent: None,
        };
        let all = replay_findings(&replay);
        assert_eq!(all[0].met, Some(false), "no recording is too short a one");
        assert!(all[1..].iter().all(|finding| finding.met.is_none()));
    }
}
