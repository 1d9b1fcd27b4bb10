//! The decision of a gate: paired blocks of several process pairs in, verdicts out. Pure; `METHODOLOGY.md` says it in words.
//!
//! A block is two builds measured in turns, twice each: four log ratios, above zero when the second build is slower. The blocks of
//! one pair of processes share the placement of their pages, which alone makes 0.6 to 1 %, so the pair of processes is the
//! unit of every test: each pair gives one estimate (the median over the ratios of its blocks), and pairs have to agree.

use crate::{
    Alternative, Interval, autocorrelation, hodges_lehmann, hodges_lehmann_interval, holm, mean,
    median, signed_rank, standard_deviation, student_t_cdf, student_t_quantile,
};

/// Pairs of processes below which nothing is decided.
pub const FEWEST_PAIRS: usize = 4;
/// Blocks below which a pair of processes says nothing about a cell.
pub const FEWEST_BLOCKS: usize = 3;
/// From this many pairs on ranks decide, which assume symmetry alone; below, so few signs cannot be rare enough for a
/// family of cells, and Student's t serves, which heavy tails make cautious.
pub const RANKS_FROM: usize = 16;
/// More pairs of processes than any comparison has.
const MOST_PROCESSES: usize = 10_000;
/// Probability of detection that the minimal detectable effect is stated for.
pub const POWER: f64 = 0.9;

/// The rates of error, and what counts as too little.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Probability of any false alarm in a family of cells, over all looks.
    pub alpha: f64,
    /// The same for the confirmation of one cell by fresh processes.
    pub confirm_alpha: f64,
    /// Level of the intervals.
    pub level: f64,
    /// Share of discarded blocks above which a cell is not judged.
    pub most_discarded: f64,
    /// Log ratio of the control cell that is too small to matter.
    pub control_effect: f64,
    /// Probability that the control cell seems to differ by chance, which leaves a whole comparison undecided.
    pub control_alpha: f64,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            alpha: 0.01,
            confirm_alpha: 0.05,
            level: 0.99,
            most_discarded: 0.3,
            control_effect: 0.005,
            control_alpha: 0.001,
        }
    }
}

/// A point at which it is decided whether to go on: fixed before the first block is seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Pairs of processes that are complete then.
    pub pairs: usize,
    /// The part of [`Rule::alpha`] that it spends; the parts sum to 1.
    pub share: f64,
}

/// The looks of a comparison of at most `most` pairs: after 4, 8 and all of them, the last spending the most.
pub fn looks(most: usize) -> Vec<Look> {
    let plan: &[(usize, f64)] = match most {
        ..8 => &[(most, 1.0)],
        8..16 => &[(4, 0.3), (most, 0.7)],
        16.. => &[(4, 0.2), (8, 0.3), (most, 0.5)],
    };
    let look = |(pairs, share): &(usize, f64)| Look {
        pairs: *pairs,
        share: *share,
    };
    plan.iter().map(look).collect()
}

/// The log ratios of each slice of the second build to each of the first within one block of two and two.
pub type Ratios = [f64; 4];

/// The log ratio of one pair of processes: the median over the ratios of all of its blocks.
///
/// On a shared machine a neighbour makes one slice in ten slower by a fifth, or by three times. Means of blocks carry that into
/// nearly every second block, which is more than a median or Hodges-Lehmann's estimator of them bears; of ratios of single slices
/// it is a fifth, half of it on either side. Within a block a steady drift cancels: two of the four ratios gain what
/// the other two lose.
pub fn centre(blocks: &[Ratios]) -> Option<f64> {
    median(&blocks.concat())
}

/// What one pair of processes measured of a cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PairBlocks {
    /// The blocks that were kept, in order of time.
    pub kept: Vec<Ratios>,
    /// Blocks that were discarded for reasons known without looking at the time.
    pub discarded: usize,
}

/// Sorts blocks by their pair of processes: its number, and the ratios or nothing where the block was discarded.
pub fn by_process(blocks: impl IntoIterator<Item = (usize, Option<Ratios>)>) -> Vec<PairBlocks> {
    let mut pairs: Vec<PairBlocks> = Vec::new();
    for (process, ratios) in blocks {
        // Numbers come from files: a hole is a pair without blocks, a wild number none at all.
        if process >= MOST_PROCESSES {
            continue;
        }
        if pairs.len() <= process {
            pairs.resize(process + 1, PairBlocks::default());
        }
        match ratios.filter(|ratios| ratios.iter().all(|ratio| ratio.is_finite())) {
            Some(ratios) => pairs[process].kept.push(ratios),
            None => pairs[process].discarded += 1,
        }
    }
    pairs
}

/// What is known about a cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CellBlocks {
    /// The pairs of processes of the first phase, in order of time.
    pub first: Vec<PairBlocks>,
    /// Those of the confirmation; empty when there was none.
    pub second: Vec<PairBlocks>,
    /// Log ratio below which a difference is none.
    pub min_effect: f64,
    /// Log ratio that passes.
    pub allowed: f64,
}

/// An estimate over pairs of processes.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// The log ratio: Hodges-Lehmann over the estimates of the pairs.
    pub effect: f64,
    /// Its interval at [`Rule::level`].
    pub interval: Interval,
    /// One-sided p-value of "not slower".
    pub p_slower: f64,
    /// One-sided p-value of "not faster".
    pub p_faster: f64,
    /// Spread of the pairs' estimates.
    pub deviation: f64,
    /// Pairs that had enough blocks.
    pub pairs: usize,
    /// Blocks of these pairs.
    pub blocks: usize,
    /// Blocks that were discarded.
    pub discarded: usize,
    /// Mean autocorrelation of neighbouring blocks within a pair.
    pub autocorrelation: f64,
    /// How many independent blocks the blocks are worth.
    pub effective_blocks: f64,
}

impl Estimate {
    /// The smallest true log ratio that one look at `alpha` finds with probability [`POWER`]: it has to be significant and at least
    /// `min_effect`. This uses the spread that was seen, so it is an estimate itself.
    pub fn detectable(&self, alpha: f64, min_effect: f64) -> f64 {
        let freedom = (self.pairs - 1) as f64;
        let error = self.deviation / (self.pairs as f64).sqrt();
        let chance = student_t_quantile(POWER, freedom) * error;
        (student_t_quantile(1.0 - alpha, freedom) * error).max(min_effect) + chance
    }
}

/// Estimates a cell from its pairs; `None` below [`FEWEST_PAIRS`] pairs with [`FEWEST_BLOCKS`] blocks.
pub fn estimate(pairs: &[PairBlocks], level: f64) -> Option<Estimate> {
    let discarded = pairs.iter().map(|pair| pair.discarded).sum();
    let series: Vec<&[Ratios]> = pairs
        .iter()
        .map(|pair| pair.kept.as_slice())
        .filter(|kept| kept.len() >= FEWEST_BLOCKS)
        .collect();
    if series.len() < FEWEST_PAIRS {
        return None;
    }
    let centres: Vec<f64> = series
        .iter()
        .map(|blocks| centre(blocks))
        .collect::<Option<_>>()?;
    let mut estimate = of_centres(&centres, level)?;
    estimate.blocks = series.iter().map(|blocks| blocks.len()).sum();
    estimate.discarded = discarded;
    estimate.autocorrelation = mean_autocorrelation(&series);
    let rho = estimate.autocorrelation.clamp(0.0, 0.99);
    estimate.effective_blocks = estimate.blocks as f64 * (1.0 - rho) / (1.0 + rho);
    Some(estimate)
}

/// The mean over pairs of the autocorrelation of blocks at lag 1, each corrected for its bias of about -1/n.
fn mean_autocorrelation(series: &[&[Ratios]]) -> f64 {
    let of_pair = |blocks: &&[Ratios]| {
        let means: Vec<f64> = blocks.iter().filter_map(|ratios| mean(ratios)).collect();
        Some(autocorrelation(&means, 1)? + 1.0 / means.len() as f64)
    };
    let all: Vec<f64> = series.iter().filter_map(of_pair).collect();
    mean(&all).unwrap_or(0.0)
}

/// Estimates from one value a pair of processes.
fn of_centres(centres: &[f64], level: f64) -> Option<Estimate> {
    let n = centres.len();
    if n < FEWEST_PAIRS {
        return None;
    }
    let effect = hodges_lehmann(centres)?;
    let deviation = standard_deviation(centres)?;
    let (interval, p_slower, p_faster);
    if n >= RANKS_FROM {
        interval = hodges_lehmann_interval(centres, level)?;
        p_slower = signed_rank(centres, Alternative::Greater)?;
        p_faster = signed_rank(centres, Alternative::Less)?;
    } else {
        // Values that do not differ at all are no proof of endless precision.
        let error = deviation.max(1e-9) / (n as f64).sqrt();
        let freedom = (n - 1) as f64;
        let half = student_t_quantile(0.5 + level / 2.0, freedom) * error;
        interval = Interval {
            lo: effect - half,
            hi: effect + half,
            level,
        };
        let t = mean(centres)? / error;
        p_slower = student_t_cdf(-t, freedom);
        p_faster = student_t_cdf(t, freedom);
    }
    Some(Estimate {
        effect,
        interval,
        p_slower,
        p_faster,
        deviation,
        pairs: n,
        blocks: n,
        discarded: 0,
        autocorrelation: 0.0,
        effective_blocks: n as f64,
    })
}

/// The geometric mean over cells, one value a pair of processes: what all cells share. Pairs that lack a cell are left out.
pub fn estimate_all(cells: &[&[PairBlocks]], level: f64) -> Option<Estimate> {
    let pairs = cells.iter().map(|pairs| pairs.len()).min()?;
    let centres: Vec<f64> = (0..pairs)
        .filter_map(|pair| {
            let of_cell = |cell: &&[PairBlocks]| {
                let kept = &cell[pair].kept;
                (kept.len() >= FEWEST_BLOCKS).then(|| centre(kept))?
            };
            mean(&cells.iter().map(of_cell).collect::<Option<Vec<f64>>>()?)
        })
        .collect();
    of_centres(&centres, level)
}

/// What is said about a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Slower, beyond chance, by at least the minimum effect, and fresh processes agree.
    Regressed,
    /// Faster, beyond chance, by at least the minimum effect.
    Improved,
    /// What is allowed is not exceeded: shown, not assumed.
    Passed,
    /// Neither could be shown.
    Inconclusive,
    /// There is nothing to judge.
    Invalid,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 5] = [
        Self::Regressed,
        Self::Improved,
        Self::Passed,
        Self::Inconclusive,
        Self::Invalid,
    ];

    /// The word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Regressed => "regressed",
            Self::Improved => "improved",
            Self::Passed => "passed",
            Self::Inconclusive => "inconclusive",
            Self::Invalid => "invalid",
        }
    }
}

/// Why a verdict is what it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// The interval lies below what is allowed.
    WithinAllowed,
    /// Significant and large enough, and confirmed where that is needed.
    Significant,
    /// The interval reaches from below to above what is allowed.
    TooImprecise,
    /// Fresh processes did not show it again.
    NotConfirmed,
    /// Slower in the first phase; there was no second one.
    Unconfirmed,
    /// Fewer pairs of processes than the first look needs.
    TooFewPairs,
    /// More blocks were disturbed than [`Rule::most_discarded`].
    TooManyDiscarded,
    /// The control cell differs between the sides: something else than the builds does.
    Control,
}

/// What is said about a cell, and on which grounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why.
    pub why: Why,
    /// The first phase, as of the last look.
    pub first: Option<Estimate>,
    /// The confirmation.
    pub second: Option<Estimate>,
    /// p-value of "not slower" after Holm, at the last look.
    pub adjusted_p: Option<f64>,
    /// Minimal detectable effect, as a log ratio.
    pub detectable: Option<f64>,
    /// Significantly slower in the first phase: to be confirmed.
    pub suspect: bool,
}

/// What is said about all cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgements {
    /// In the order of the cells.
    pub cells: Vec<Judgement>,
    /// About the geometric mean over the cells.
    pub mean: Judgement,
    /// Looks that were reached.
    pub looks: usize,
    /// The control cell at the last look.
    pub control: Option<Estimate>,
    /// Whether the control cell differs between the sides.
    pub disturbed: bool,
}

impl Judgements {
    /// Whether no further pair of the first phase can change a verdict for the better: what is not decided is suspect.
    pub fn settled(&self) -> bool {
        self.looks > 0
            && self.cells.iter().all(|cell| {
                cell.suspect || matches!(cell.verdict, Verdict::Passed | Verdict::Improved)
            })
    }

    /// The cells that need a confirmation: all of them when only their mean is suspect.
    pub fn to_confirm(&self) -> Vec<usize> {
        let suspects: Vec<usize> = (0..self.cells.len())
            .filter(|&cell| self.cells[cell].suspect && self.cells[cell].verdict != Verdict::Passed)
            .collect();
        if suspects.is_empty() && self.mean.suspect {
            (0..self.cells.len()).collect()
        } else {
            suspects
        }
    }
}

/// Evidence against both hypotheses at one look.
struct Seen {
    estimate: Option<Estimate>,
    adjusted_slower: f64,
    slower: bool,
    faster: bool,
}

/// All cells and their mean (last) as of one look.
fn look(cells: &[CellBlocks], mean: &CellBlocks, at: Look, rule: &Rule) -> Vec<Seen> {
    let until = |pairs: &[PairBlocks]| pairs[..at.pairs.min(pairs.len())].to_vec();
    let series: Vec<Vec<PairBlocks>> = cells.iter().map(|cell| until(&cell.first)).collect();
    let mut estimates: Vec<Option<Estimate>> = series
        .iter()
        .map(|pairs| estimate(pairs, rule.level))
        .collect();
    let all: Vec<&[PairBlocks]> = series.iter().map(Vec::as_slice).collect();
    estimates.push(estimate_all(&all, rule.level));
    // What cannot be tested keeps its place in the family.
    let adjusted = |p: fn(&Estimate) -> f64| {
        let p: Vec<f64> = estimates
            .iter()
            .map(|estimate| estimate.as_ref().map_or(1.0, p))
            .collect();
        holm(&p).unwrap_or_else(|| vec![1.0; p.len()])
    };
    let slower = adjusted(|estimate| estimate.p_slower);
    let faster = adjusted(|estimate| estimate.p_faster);
    let alpha = rule.alpha * at.share;
    let effects = cells.iter().chain([mean]).map(|cell| cell.min_effect);
    estimates
        .into_iter()
        .zip(effects)
        .enumerate()
        .map(|(i, (estimate, least))| {
            let effect = estimate.as_ref().map_or(0.0, |estimate| estimate.effect);
            Seen {
                estimate,
                adjusted_slower: slower[i],
                slower: slower[i] <= alpha && effect >= least,
                faster: faster[i] <= alpha && effect <= -least,
            }
        })
        .collect()
}

/// Judges cells that were measured together. `mean` has the limits of their geometric mean and no blocks; `control` is the
/// cell that is the same on both sides.
pub fn judge(
    cells: &[CellBlocks],
    mean: &CellBlocks,
    control: &[PairBlocks],
    plan: &[Look],
    rule: &Rule,
) -> Judgements {
    let pairs = cells.iter().map(|cell| cell.first.len()).max().unwrap_or(0);
    let reached: Vec<Look> = plan
        .iter()
        .copied()
        .filter(|look| look.pairs <= pairs && look.pairs >= FEWEST_PAIRS)
        .collect();
    let seen: Vec<Vec<Seen>> = reached
        .iter()
        .map(|at| look(cells, mean, *at, rule))
        .collect();
    let last = reached.last().copied();
    let control = last.and_then(|look| {
        let until = look.pairs.min(control.len());
        estimate(&control[..until], rule.level)
    });
    let disturbed = control.as_ref().is_some_and(|control| {
        let p = control.p_slower.min(control.p_faster);
        control.effect.abs() >= rule.control_effect && p <= rule.control_alpha / 2.0
    });
    let seconds: Vec<&[PairBlocks]> = cells.iter().map(|cell| cell.second.as_slice()).collect();
    let family = cells.len() + 1;
    let judgement = |at: usize, cell: &CellBlocks| {
        let second = if at == cells.len() {
            estimate_all(&seconds, rule.level)
        } else {
            estimate(&cell.second, rule.level)
        };
        let final_seen = seen.last().map(|seen| &seen[at]);
        let first = final_seen.and_then(|seen| seen.estimate.clone());
        let suspect = seen.iter().any(|seen| seen[at].slower);
        let faster = seen.iter().any(|seen| seen[at].faster);
        let (verdict, why) = decide(cell, first.as_ref(), second.as_ref(), suspect, faster, rule);
        let (verdict, why) = if disturbed {
            (Verdict::Inconclusive, Why::Control)
        } else {
            (verdict, why)
        };
        let alpha = last.map_or(rule.alpha, |look| rule.alpha * look.share) / family as f64;
        Judgement {
            verdict,
            why,
            detectable: first
                .as_ref()
                .map(|first| first.detectable(alpha, cell.min_effect)),
            adjusted_p: final_seen
                .filter(|seen| seen.estimate.is_some())
                .map(|seen| seen.adjusted_slower),
            first,
            second,
            suspect,
        }
    };
    Judgements {
        cells: cells
            .iter()
            .enumerate()
            .map(|(at, cell)| judgement(at, cell))
            .collect(),
        mean: judgement(cells.len(), mean),
        looks: reached.len(),
        control,
        disturbed,
    }
}

/// The verdict of one cell whose control is in order.
fn decide(
    cell: &CellBlocks,
    first: Option<&Estimate>,
    second: Option<&Estimate>,
    suspect: bool,
    faster: bool,
    rule: &Rule,
) -> (Verdict, Why) {
    let discarded: usize = cell.first.iter().map(|pair| pair.discarded).sum();
    let kept: usize = cell.first.iter().map(|pair| pair.kept.len()).sum();
    if discarded as f64 > rule.most_discarded * (kept + discarded) as f64 {
        return (Verdict::Inconclusive, Why::TooManyDiscarded);
    }
    let Some(first) = first else {
        return (Verdict::Inconclusive, Why::TooFewPairs);
    };
    if faster {
        return (Verdict::Improved, Why::Significant);
    }
    let allowed = |estimate: &Estimate| estimate.interval.hi < cell.allowed;
    if !suspect {
        return if allowed(first) {
            (Verdict::Passed, Why::WithinAllowed)
        } else {
            (Verdict::Inconclusive, Why::TooImprecise)
        };
    }
    // Slower by at least the minimum effect. Only two phases that agree may call that allowed: an effect as large as what
    // is allowed must not pass because one interval missed it.
    match second {
        None => (Verdict::Inconclusive, Why::Unconfirmed),
        Some(second) if allowed(first) && allowed(second) => (Verdict::Passed, Why::WithinAllowed),
        Some(second)
            if second.p_slower <= rule.confirm_alpha && second.effect >= cell.min_effect =>
        {
            (Verdict::Regressed, Why::Significant)
        }
        Some(_) => (Verdict::Inconclusive, Why::NotConfirmed),
    }
}

#[cfg(test)]
mod tests;
