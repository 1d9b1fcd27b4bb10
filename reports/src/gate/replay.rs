//! A recording of one build against itself, judged as if live: how often this gate, and the rules of other tools, raise
//! a false alarm and find a slowdown. Slowdowns are applied to the recorded blocks, so that everything but the cause is real.

use trit_core::{Comparison, Limits, MEAN, PairedBlock};
use trit_stats::judge::{
    CellBlocks, FEWEST_PAIRS, Look, PairBlocks, Ratios, Rule, Verdict, by_process, judge, looks,
};
use trit_stats::{
    Alternative, Interval, KsTest, Rng, ks_uniform, mann_whitney, mean, median, quantile,
    standard_deviation, wilson,
};

use super::bounds;

/// Pieces of one long comparison: eight for the first phase and four for the confirmation, two minutes in all, as a gate is given.
const FIRST: u64 = 8;
/// See [`FIRST`].
const SECOND: u64 = 4;
/// Slowdowns, in percent.
const SLOWDOWNS: [f64; 4] = [10.0, 5.0, 2.0, -5.0];
/// The rule of criterion: p below this, and the interval of the change beyond this on the same side.
const CRITERION_P: f64 = 0.05;
const CRITERION_NOISE: f64 = 0.01;
/// A usual threshold of tools that compare two numbers.
const THRESHOLD: f64 = 0.05;
/// Resamples of the bootstrap within criterion's rule; criterion takes 100,000, which decides nothing else at p = 0.05.
const RESAMPLES: usize = 400;

/// How often something happened.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayRow {
    /// Who judged: `tritbench`, `criterion`, `two-run threshold`, `mann-whitney`; the last three also with the sides of our blocks as their runs.
    pub method: String,
    /// What was counted.
    pub question: String,
    /// Slowdown that was applied, in percent.
    pub applied_percent: f64,
    /// How often.
    pub hits: u64,
    /// Of how many.
    pub trials: u64,
    /// Wilson's interval at 95 %.
    pub interval: Option<Interval>,
}

/// What a recording says.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// The counts.
    pub rows: Vec<ReplayRow>,
    /// Whether the p-values of unchanged cells are uniform.
    pub uniform: Option<KsTest>,
    /// How many p-values that rests on.
    pub p_values: usize,
    /// Cells that were compared.
    pub cells: usize,
    /// Median over cells and comparisons of the minimal detectable effect of short comparisons, in percent.
    pub detectable_percent: Option<f64>,
}

/// The blocks of one cell by piece.
struct Recorded<'a> {
    id: &'a str,
    /// Pairs of processes of a piece.
    processes: usize,
    /// For each piece its blocks.
    pieces: Vec<Vec<&'a PairedBlock>>,
}

impl Recorded<'_> {
    /// The pairs of processes of consecutive pieces, as if they were one comparison; `effect` (a log ratio) is added to the head.
    fn pairs(&self, from: u64, count: u64, effect: f64) -> Vec<PairBlocks> {
        let pieces = (from..from + count).enumerate();
        by_process(pieces.flat_map(|(nth, piece)| {
            let blocks = self.pieces.get(piece as usize);
            blocks.into_iter().flatten().map(move |block| {
                let process = nth * self.processes + block.process as usize;
                let slowed = |ratios: Ratios| ratios.map(|ratio| ratio + effect);
                (process, block.ratios().map(slowed))
            })
        }))
    }

    /// Times of one call of the base or the head, in consecutive pieces: what a run of a tool that does not pair has.
    fn times(&self, from: u64, count: u64, head: bool) -> Vec<f64> {
        let pieces = self.pieces.iter().skip(from as usize).take(count as usize);
        let blocks = pieces.flatten();
        blocks
            .flat_map(|block| if head { block.head_ns } else { block.base_ns })
            .collect()
    }
}

#[derive(Default)]
struct Counter {
    rows: Vec<(String, String, f64, u64, u64)>,
}

impl Counter {
    fn count(&mut self, method: &str, question: &str, applied: f64, hit: bool) {
        let known = self.rows.iter_mut().find(|row| {
            row.0 == method && row.1 == question && row.2.to_bits() == applied.to_bits()
        });
        if let Some(row) = known {
            row.3 += u64::from(hit);
            row.4 += 1;
        } else {
            let row = (
                method.to_owned(),
                question.to_owned(),
                applied,
                u64::from(hit),
                1,
            );
            self.rows.push(row);
        }
    }

    fn finish(self) -> Vec<ReplayRow> {
        self.rows
            .into_iter()
            .map(
                |(method, question, applied_percent, hits, trials)| ReplayRow {
                    method,
                    question,
                    applied_percent,
                    hits,
                    trials,
                    interval: wilson(hits, trials, 0.95),
                },
            )
            .collect()
    }
}

/// Replays a recording: its blocks, its comparison, the limits of short comparisons, and those of the search for slowdowns.
pub fn replay(
    blocks: &[PairedBlock],
    comparison: &Comparison,
    limits: &Limits,
    fine: &Limits,
    seed: u64,
) -> Replay {
    let pieces = blocks
        .iter()
        .map(|block| block.round + 1)
        .max()
        .unwrap_or(0);
    // Every piece has one look, at its end.
    let look = comparison.looks.first();
    let processes = look.map_or(FEWEST_PAIRS, |(pairs, _)| *pairs as usize);
    let mut ids: Vec<&str> = Vec::new();
    for block in blocks {
        if !ids.contains(&block.cell.as_str()) {
            ids.push(&block.cell);
        }
    }
    let recorded: Vec<Recorded<'_>> = ids
        .iter()
        .map(|&id| {
            let mut by_piece = vec![Vec::new(); pieces as usize];
            for block in blocks.iter().filter(|block| block.cell == id) {
                by_piece[block.round as usize].push(block);
            }
            Recorded {
                id,
                processes,
                pieces: by_piece,
            }
        })
        .collect();
    let (control, cells): (Vec<&Recorded<'_>>, Vec<&Recorded<'_>>) = recorded
        .iter()
        .partition(|recorded| recorded.id == comparison.control);
    let control = control.first().copied();
    let mut counter = Counter::default();
    let (p, detectable) = unchanged(&cells, control, pieces, limits, &mut counter);
    slowed(&cells, control, pieces, fine, &mut counter);
    let mut rng = Rng::new(seed);
    for given in [Given::SHORT, Given::LONG, Given::IN_TURNS] {
        others(&cells, pieces, given, &mut rng, &mut counter);
    }
    Replay {
        rows: counter.finish(),
        uniform: ks_uniform(&p),
        p_values: p.len(),
        cells: cells.len(),
        detectable_percent: median(&detectable),
    }
}

/// Short comparisons of the build with itself. The piece behind each confirms what looks slower in it.
fn unchanged(
    cells: &[&Recorded<'_>],
    control: Option<&Recorded<'_>>,
    pieces: u64,
    limits: &Limits,
    counter: &mut Counter,
) -> (Vec<f64>, Vec<f64>) {
    let (mut p, mut detectable) = (Vec::new(), Vec::new());
    let look = Look {
        pairs: cells.first().map_or(FEWEST_PAIRS, |cell| cell.processes),
        share: 1.0,
    };
    for piece in 0..pieces {
        let next = (piece + 1) % pieces;
        let judged_cells: Vec<CellBlocks> = cells
            .iter()
            .map(|cell| CellBlocks {
                first: cell.pairs(piece, 1, 0.0),
                second: cell.pairs(next, 1, 0.0),
                ..bounds(limits, cell.id)
            })
            .collect();
        let control = control.map_or_else(Vec::new, |cell| cell.pairs(piece, 1, 0.0));
        let mean = bounds(limits, MEAN);
        let judged = judge(&judged_cells, &mean, &control, &[look], &Rule::default());
        let all = || judged.cells.iter().chain([&judged.mean]);
        let any = |verdict| all().any(|cell| cell.verdict == verdict);
        counter.count(OURS, ANY, 0.0, any(Verdict::Regressed));
        let suspect = all().any(|cell| cell.suspect);
        counter.count(
            OURS,
            "any cell suspect before the confirmation",
            0.0,
            suspect,
        );
        counter.count(OURS, "the control differs", 0.0, judged.disturbed);
        for cell in &judged.cells {
            let decided = !matches!(cell.verdict, Verdict::Inconclusive | Verdict::Invalid);
            counter.count(OURS, DECIDED, 0.0, decided);
            p.extend(cell.first.as_ref().map(|first| first.p_slower));
            detectable.extend(cell.detectable.map(super::percent));
        }
    }
    (p, detectable)
}

/// Long comparisons, with a slowdown of one cell at a time.
fn slowed(
    cells: &[&Recorded<'_>],
    control: Option<&Recorded<'_>>,
    pieces: u64,
    limits: &Limits,
    counter: &mut Counter,
) {
    let length = FIRST + SECOND;
    let mut from = 0;
    while from + length <= pieces {
        let pairs = |cell: &Recorded<'_>, effect: f64| CellBlocks {
            first: cell.pairs(from, FIRST, effect),
            second: cell.pairs(from + FIRST, SECOND, effect),
            ..bounds(limits, cell.id)
        };
        let control = control.map_or_else(Vec::new, |cell| cell.pairs(from, FIRST, 0.0));
        let mean = bounds(limits, MEAN);
        let processes = cells.first().map_or(FEWEST_PAIRS, |cell| cell.processes);
        let plan = looks(FIRST as usize * processes);
        let verdicts = |slow: usize, effect: f64| {
            let all: Vec<CellBlocks> = cells
                .iter()
                .enumerate()
                .map(|(at, cell)| pairs(cell, if at == slow { effect } else { 0.0 }))
                .collect();
            judge(&all, &mean, &control, &plan, &Rule::default())
        };
        let none = verdicts(usize::MAX, 0.0);
        let alarm = none
            .cells
            .iter()
            .any(|cell| cell.verdict == Verdict::Regressed);
        counter.count(OURS, ANY_LONG, 0.0, alarm);
        for (slow, cell) in cells.iter().enumerate() {
            for percent in SLOWDOWNS {
                let judged = verdicts(slow, (percent / 100.0f64).ln_1p());
                let verdict = judged.cells[slow].verdict;
                let kind = kind(cell.id);
                if percent > 0.0 {
                    let found = verdict == Verdict::Regressed;
                    counter.count(OURS, &format!("{kind}: found"), percent, found);
                    let passed = matches!(verdict, Verdict::Passed | Verdict::Improved);
                    counter.count(
                        OURS,
                        &format!("{kind}: passed though slower"),
                        percent,
                        passed,
                    );
                } else {
                    let wrong = verdict == Verdict::Regressed;
                    counter.count(
                        OURS,
                        &format!("{kind}: regressed though faster"),
                        percent,
                        wrong,
                    );
                }
            }
        }
        from += length;
    }
}

fn kind(cell: &str) -> &'static str {
    if cell.starts_with("engine:") {
        "engine cells"
    } else {
        "kernel cells"
    }
}

/// How long the runs are that other tools are given, and how they were measured.
#[derive(Clone, Copy)]
struct Given {
    /// Pieces of both runs together.
    pieces: u64,
    /// From one comparison to the next.
    step: u64,
    /// Whether both runs are the two sides of the same blocks, instead of one after the other.
    in_turns: bool,
}

impl Given {
    /// The base of one piece and the head of the next.
    const SHORT: Self = Self {
        pieces: 2,
        step: 1,
        in_turns: false,
    };
    /// As many pieces as a long comparison of ours, half for each run.
    const LONG: Self = Self {
        pieces: FIRST + SECOND,
        step: FIRST + SECOND,
        in_turns: false,
    };
    /// The very blocks of a long comparison of ours.
    const IN_TURNS: Self = Self {
        in_turns: true,
        ..Self::LONG
    };

    fn alarm(self) -> &'static str {
        if self.pieces == Self::SHORT.pieces {
            ANY
        } else {
            ANY_LONG
        }
    }

    fn found(self, kind: &str) -> String {
        if self.pieces == Self::SHORT.pieces {
            format!("{kind}: found in a short comparison")
        } else {
            format!("{kind}: found")
        }
    }

    fn runs(self, cell: &Recorded<'_>, from: u64) -> (Vec<f64>, Vec<f64>) {
        let half = self.pieces / 2;
        if self.in_turns {
            (
                cell.times(from, self.pieces, false),
                cell.times(from, self.pieces, true),
            )
        } else {
            (
                cell.times(from, half, false),
                cell.times(from + half, half, true),
            )
        }
    }
}

/// Other tools on the same data: each has a base as its first run and a head as its second.
fn others(
    cells: &[&Recorded<'_>],
    pieces: u64,
    given: Given,
    rng: &mut Rng,
    counter: &mut Counter,
) {
    let methods = if given.in_turns {
        METHODS_IN_TURNS
    } else {
        METHODS
    };
    let mut from = 0;
    while from + given.pieces <= pieces {
        let mut alarms = [false; 3];
        for cell in cells {
            let (first, second) = given.runs(cell, from);
            for percent in [0.0, 10.0, 5.0, 2.0] {
                let slowed: Vec<f64> = second
                    .iter()
                    .map(|ns| ns * (1.0 + percent / 100.0))
                    .collect();
                let said = [
                    criterion(&first, &slowed, rng),
                    threshold(&first, &slowed),
                    rank_sum(&first, &slowed),
                ];
                for ((method, said), alarm) in methods.iter().zip(said).zip(&mut alarms) {
                    let Some(said) = said else { continue };
                    if percent > 0.0 {
                        counter.count(method, &given.found(kind(cell.id)), percent, said);
                    } else {
                        *alarm |= said;
                        counter.count(method, "cell regressed", percent, said);
                    }
                }
            }
        }
        for (method, alarm) in methods.iter().zip(alarms) {
            counter.count(method, given.alarm(), 0.0, alarm);
        }
        from += given.step;
    }
}

/// Question: a short comparison, or one of two runs of its length, with a false alarm.
pub(super) const ANY: &str = "any cell regressed";
/// Question: the same for long ones.
pub(super) const ANY_LONG: &str = "any cell of a long comparison regressed";
/// Question: cells of short comparisons that were decided.
pub(super) const DECIDED: &str = "cell decided";
/// Us.
pub(super) const OURS: &str = "tritbench";
/// Other tools with two runs one after the other.
pub(super) const METHODS: [&str; 3] = ["criterion", "two-run threshold", "mann-whitney"];
/// The same with the two sides of our blocks as runs.
pub(super) const METHODS_IN_TURNS: [&str; 3] = [
    "criterion, in turns",
    "two-run threshold, in turns",
    "mann-whitney, in turns",
];

/// What criterion calls a regression: the means of two runs differ by a bootstrapped t statistic (the pooled values as the hypothesis), and
/// the bootstrapped interval of the change lies above its noise threshold.
fn criterion(first: &[f64], second: &[f64], rng: &mut Rng) -> Option<bool> {
    let t = |a: &[f64], b: &[f64]| {
        let (va, vb) = (
            standard_deviation(a)?.powi(2),
            standard_deviation(b)?.powi(2),
        );
        Some((mean(b)? - mean(a)?) / (va / a.len() as f64 + vb / b.len() as f64).sqrt())
    };
    let draw = |from: &[f64], count: usize, rng: &mut Rng| -> Vec<f64> {
        (0..count).map(|_| from[rng.below(from.len())]).collect()
    };
    let observed = t(first, second)?;
    let pooled: Vec<f64> = first.iter().chain(second).copied().collect();
    let (mut beyond, mut changes) = (0usize, Vec::with_capacity(RESAMPLES));
    for _ in 0..RESAMPLES {
        let (a, b) = (
            draw(&pooled, first.len(), rng),
            draw(&pooled, second.len(), rng),
        );
        beyond += usize::from(t(&a, &b)?.abs() >= observed.abs());
        let (a, b) = (
            draw(first, first.len(), rng),
            draw(second, second.len(), rng),
        );
        changes.push(mean(&b)? / mean(&a)? - 1.0);
    }
    let p = beyond as f64 / RESAMPLES as f64;
    Some(p < CRITERION_P && quantile(&changes, 0.025)? > CRITERION_NOISE)
}

/// The medians of two runs differ by more than a percentage.
fn threshold(first: &[f64], second: &[f64]) -> Option<bool> {
    Some(median(second)? / median(first)? > 1.0 + THRESHOLD)
}

/// The values of two runs differ by an unpaired rank test.
fn rank_sum(first: &[f64], second: &[f64]) -> Option<bool> {
    Some(mann_whitney(second, first, Alternative::Greater)?.p < 0.05)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recording on a machine whose speed steps between pieces, and whose pages are placed anew by every process.
    fn recording(pieces: u64, blocks: u64) -> Vec<PairedBlock> {
        let mut rng = Rng::new(21);
        let mut all = Vec::new();
        for round in 0..pieces {
            let speed = if rng.below(2) == 0 { 1.0 } else { 1.2 };
            for process in 0..4 {
                for cell in ["a", "b", "c", "engine:d", "control/t1"] {
                    let place = 0.006 * rng.normal();
                    for block in 0..blocks {
                        let mut time =
                            |extra: f64| 1000.0 * speed * (0.02 * rng.normal() + extra).exp();
                        all.push(PairedBlock {
                            cell: cell.to_owned(),
                            round,
                            process,
                            block,
                            base_ns: [time(0.0), time(0.0)],
                            head_ns: [time(place), time(place)],
                            discard: None,
                        });
                    }
                }
            }
        }
        all
    }

    #[test]
    fn paired_blocks_beat_two_runs_on_the_same_data() {
        let comparison = Comparison {
            control: "control/t1".into(),
            ..Comparison::default()
        };
        let fine = Limits::parse(
            "fine",
            "[limits]\nmin_effect_percent = 1\nallowed_slowdown_percent = 2\n",
        )
        .unwrap();
        let blocks = recording(72, 12);
        let replayed = replay(&blocks, &comparison, &Limits::default(), &fine, 1);
        let row = |method: &str, question: &str, applied: f64| {
            let wanted = |row: &&ReplayRow| {
                row.method == method
                    && row.question == question
                    && (row.applied_percent - applied).abs() < 1e-9
            };
            let row = replayed.rows.iter().find(wanted);
            row.unwrap_or_else(|| panic!("{method} {question} {applied}"))
                .clone()
        };
        assert_eq!(row("tritbench", "any cell regressed", 0.0).hits, 0);
        assert_eq!(row("tritbench", "any cell regressed", 0.0).trials, 72);
        let decided = row("tritbench", "cell decided", 0.0);
        assert!(decided.hits * 10 >= decided.trials * 9, "{decided:?}");
        for percent in [10.0, 5.0] {
            let found = row("tritbench", "kernel cells: found", percent);
            assert_eq!((found.hits, found.trials), (18, 18));
        }
        let found = row("tritbench", "kernel cells: found", 2.0);
        assert!(found.hits >= 16, "{found:?}");
        assert_eq!(
            row("tritbench", "kernel cells: passed though slower", 2.0).hits,
            0
        );
        // Two runs see the step of the machine as a regression, or miss the slowdown behind it.
        for method in METHODS {
            let alarms = row(method, "any cell regressed", 0.0);
            assert!(alarms.hits * 5 > alarms.trials, "{alarms:?}");
        }
        for method in METHODS {
            let beside = crate::replay_findings(&replayed);
            let beside = beside
                .iter()
                .find(|finding| finding.question == format!("two minutes judged by {method}"));
            assert_eq!(beside.unwrap().met, Some(true), "{beside:?}");
        }
        assert!(replayed.uniform.unwrap().p > 0.001);
        assert_eq!(replayed.p_values, 72 * 4);
    }
}
