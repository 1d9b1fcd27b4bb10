use super::*;
use crate::{Rng, binomial_upper_bound, ks_uniform};

/// How the noise of a block looks.
#[derive(Clone, Copy, Debug)]
enum Noise {
    Normal,
    /// One slice in ten is slower, by five times of what others vary.
    HeavyTails,
    /// Each slice finds the machine at one of two speeds.
    Bimodal,
    /// Slices repeat half of their neighbour.
    Repeating,
    /// The machine becomes slower steadily.
    Drifting,
}

const NOISES: [Noise; 5] = [
    Noise::Normal,
    Noise::HeavyTails,
    Noise::Bimodal,
    Noise::Repeating,
    Noise::Drifting,
];

/// Spread of one slice, and so of the mean of one block, and of the placement of pages.
const BLOCK: f64 = 0.02;
const PLACE: f64 = 0.008;

fn pairs(rng: &mut Rng, noise: Noise, effect: f64, pairs: usize, blocks: usize) -> Vec<PairBlocks> {
    (0..pairs)
        .map(|_| {
            let place = PLACE * rng.normal();
            let mut before = 0.0;
            let mut slice = |at: usize| {
                let z = rng.normal();
                BLOCK
                    * match noise {
                        Noise::HeavyTails if rng.below(10) == 0 => 5.0 * z.abs(),
                        Noise::Normal | Noise::HeavyTails => z,
                        Noise::Bimodal => 0.3 * z + if rng.below(2) == 0 { 1.0 } else { -1.0 },
                        Noise::Repeating => {
                            before = 0.5 * before + 0.75f64.sqrt() * z;
                            before
                        }
                        Noise::Drifting => z + 0.3 * at as f64,
                    }
            };
            let kept = (0..blocks)
                .map(|block| {
                    let times = [0, 1, 2, 3].map(|at| slice(4 * block + at));
                    let (a, b) = ([times[0], times[3]], [times[1], times[2]]);
                    let ratio = |at: usize| effect + place + b[at / 2] - a[at % 2];
                    // A coin decides which side is the outer one.
                    if block % 2 == 0 {
                        [0, 1, 2, 3].map(ratio)
                    } else {
                        [0, 1, 2, 3].map(|at| 2.0 * (effect + place) - ratio(at))
                    }
                })
                .collect();
            PairBlocks { kept, discarded: 0 }
        })
        .collect()
}

fn limits(min_effect: f64, allowed: f64) -> CellBlocks {
    CellBlocks {
        min_effect,
        allowed,
        ..CellBlocks::default()
    }
}

/// Six cells, the last with an effect, of 16 pairs of 10 blocks, and 8 pairs to confirm.
fn comparison(rng: &mut Rng, noise: Noise, effect: f64) -> Judgements {
    let cells: Vec<CellBlocks> = (0..6)
        .map(|cell| {
            let effect = if cell == 5 { effect } else { 0.0 };
            CellBlocks {
                first: pairs(rng, noise, effect, 16, 10),
                second: pairs(rng, noise, effect, 8, 20),
                ..limits(0.01, 0.02)
            }
        })
        .collect();
    let control = pairs(rng, noise, 0.0, 16, 10);
    judge(
        &cells,
        &limits(0.01, 0.02),
        &control,
        &looks(16),
        &Rule::default(),
    )
}

#[test]
fn unchanged_builds_raise_no_alarm_whatever_the_noise() {
    let mut rng = Rng::new(11);
    let (mut decided, mut all, mut alarms, mut suspects, mut runs) = (0, 0, 0u64, 0u64, 0u64);
    for noise in NOISES {
        for _ in 0..60 {
            let judged = comparison(&mut rng, noise, 0.0);
            let verdicts = judged.cells.iter().map(|cell| cell.verdict);
            runs += 1;
            alarms += u64::from(
                verdicts.clone().any(|v| v == Verdict::Regressed)
                    || judged.mean.verdict == Verdict::Regressed,
            );
            suspects += u64::from(judged.cells.iter().any(|cell| cell.suspect));
            all += judged.cells.len();
            decided += verdicts.filter(|v| *v != Verdict::Inconclusive).count();
        }
    }
    assert_eq!(alarms, 0);
    assert!(binomial_upper_bound(alarms, runs, 0.95).unwrap() < 0.011);
    // Before the confirmation the rate is the one that was asked for: 1 % of 300 is 3.
    assert!(suspects <= 8, "{suspects} of {runs}");
    assert!(decided * 10 >= all * 9, "{decided} of {all}");
}

#[test]
fn slowdowns_are_found_and_a_missed_one_never_passes() {
    let mut rng = Rng::new(12);
    for noise in NOISES {
        let (mut found, runs) = (0, 40);
        for _ in 0..runs {
            let judged = comparison(&mut rng, noise, 0.02);
            match judged.cells[5].verdict {
                Verdict::Regressed => found += 1,
                Verdict::Inconclusive => assert!(judged.cells[5].detectable.unwrap() > 0.01),
                other => panic!("{noise:?}: 2 % is {other:?}"),
            }
        }
        assert!(found >= 36, "{noise:?}: {found} of {runs}");
        // The control cell may differ by chance, and then nothing is decided.
        for effect in [0.05, 0.1] {
            let mut verdicts = (0..10)
                .map(|_| comparison(&mut rng, noise, effect))
                .filter(|judged| !judged.disturbed)
                .map(|judged| judged.cells[5].verdict);
            let found = verdicts
                .by_ref()
                .take(8)
                .filter(|v| *v == Verdict::Regressed);
            assert_eq!(found.count(), 8, "{noise:?} {effect}");
        }
        let judged = comparison(&mut rng, noise, -0.05);
        assert_eq!(judged.cells[5].verdict, Verdict::Improved, "{noise:?}");
    }
}

#[test]
fn p_values_of_unchanged_cells_are_uniform() {
    let mut rng = Rng::new(13);
    for n in [4, 8, 16] {
        let p: Vec<f64> = (0..300)
            .map(|_| {
                let pairs = pairs(&mut rng, Noise::HeavyTails, 0.0, n, 12);
                estimate(&pairs, 0.99).unwrap().p_slower
            })
            .collect();
        let ks = ks_uniform(&p).unwrap();
        assert!(ks.p > 0.01, "{n} pairs: {ks:?}");
    }
}

#[test]
fn blocks_of_one_placement_do_not_count_as_many() {
    // A thousand blocks a pair that agree to the last digit within a pair, and pairs that differ by their placement:
    // a test that counted blocks would be certain.
    let place = [0.011, -0.004, 0.009, 0.002];
    let pairs: Vec<PairBlocks> = place
        .iter()
        .map(|&place| PairBlocks {
            kept: (0..1000)
                .map(|i| [place + 1e-5 * f64::from(i % 7); 4])
                .collect(),
            discarded: 0,
        })
        .collect();
    let estimate = estimate(&pairs, 0.99).unwrap();
    assert!(estimate.p_slower > 0.05, "{estimate:?}");
    assert!(estimate.interval.lo < 0.0 && estimate.interval.hi > 0.01);
}

#[test]
fn blocks_that_repeat_each_other_are_worth_less() {
    let mut rng = Rng::new(14);
    let mut walk = 0.0;
    let mut of = |tied: f64| -> Vec<PairBlocks> {
        let mut pair = || {
            let kept = (0..60)
                .map(|_| {
                    walk = tied * walk + rng.normal();
                    [walk; 4]
                })
                .collect();
            PairBlocks { kept, discarded: 0 }
        };
        (0..6).map(|_| pair()).collect()
    };
    let (free, tied) = (
        estimate(&of(0.0), 0.99).unwrap(),
        estimate(&of(0.5), 0.99).unwrap(),
    );
    assert!(free.effective_blocks > 250.0, "{free:?}");
    assert!(tied.autocorrelation > 0.3, "{tied:?}");
    assert!(tied.effective_blocks < 200.0, "{tied:?}");
}

#[test]
fn slices_that_a_neighbour_delays_do_not_move_the_centre() {
    // Of ten blocks four have one slice that takes three times as long, all on one side: their means would be off by half of that.
    let late = 3f64.ln();
    let blocks: Vec<Ratios> = (0..10)
        .map(|block| match block {
            0..4 => [0.02 + late, 0.02 + late, 0.02, 0.02],
            _ => [0.02; 4],
        })
        .collect();
    assert!((centre(&blocks).unwrap() - 0.02).abs() < 1e-12);
    assert_eq!(centre(&[]), None);
    // A drift of 1 % a slice: the outer slices of one side, the inner ones of the other.
    assert!(centre(&[[0.01, -0.02, 0.02, -0.01]]).unwrap().abs() < 1e-12);
}

#[test]
fn what_cannot_be_judged_is_inconclusive() {
    let mut rng = Rng::new(15);
    let rule = Rule::default();
    let slow = |rng: &mut Rng, n| CellBlocks {
        first: pairs(rng, Noise::Normal, 0.2, n, 10),
        second: pairs(rng, Noise::Normal, 0.2, 8, 10),
        ..limits(0.02, 0.05)
    };
    let whole = limits(0.02, 0.05);
    let quiet = pairs(&mut rng, Noise::Normal, 0.0, 8, 10);
    // Three pairs of processes.
    let few = judge(&[slow(&mut rng, 3)], &whole, &quiet, &looks(8), &rule);
    assert_eq!(
        (few.cells[0].verdict, few.cells[0].why),
        (Verdict::Inconclusive, Why::TooFewPairs)
    );
    assert!(few.to_confirm().is_empty());
    // Enough of them.
    let cell = slow(&mut rng, 8);
    let enough = judge(
        std::slice::from_ref(&cell),
        &whole,
        &quiet,
        &looks(8),
        &rule,
    );
    assert_eq!(enough.cells[0].verdict, Verdict::Regressed);
    assert!(enough.settled() && enough.to_confirm() == [0]);
    // Without a confirmation, or with one that says otherwise.
    let mut alone = cell.clone();
    alone.second.clear();
    let judged = judge(&[alone.clone()], &whole, &quiet, &looks(8), &rule);
    assert_eq!(judged.cells[0].why, Why::Unconfirmed);
    alone.second = quiet.clone();
    let judged = judge(&[alone], &whole, &quiet, &looks(8), &rule);
    assert_eq!(judged.cells[0].why, Why::NotConfirmed);
    // Disturbed blocks.
    let mut disturbed = cell.clone();
    for pair in &mut disturbed.first {
        pair.discarded = 5;
    }
    let judged = judge(&[disturbed], &whole, &quiet, &looks(8), &rule);
    assert_eq!(judged.cells[0].why, Why::TooManyDiscarded);
    // A control that differs.
    let moved = pairs(&mut rng, Noise::Normal, 0.05, 8, 10);
    let judged = judge(&[cell], &whole, &moved, &looks(8), &rule);
    assert!(judged.disturbed);
    assert_eq!(judged.cells[0].verdict, Verdict::Inconclusive);
}

#[test]
fn a_wide_interval_does_not_pass() {
    let mut rng = Rng::new(16);
    let cell = CellBlocks {
        first: pairs(&mut rng, Noise::Normal, 0.045, 4, 4),
        ..limits(0.02, 0.05)
    };
    let judged = judge(
        &[cell],
        &limits(0.02, 0.05),
        &[],
        &looks(4),
        &Rule::default(),
    );
    assert_eq!(judged.cells[0].verdict, Verdict::Inconclusive);
    assert!(judged.cells[0].detectable.unwrap() > 0.02);
}

#[test]
fn the_shares_of_looks_sum_to_one() {
    for most in 1..40 {
        let looks = looks(most);
        let sum: f64 = looks.iter().map(|look| look.share).sum();
        assert!((sum - 1.0).abs() < 1e-12);
        assert_eq!(looks.last().unwrap().pairs, most);
        assert!(looks.windows(2).all(|two| two[0].pairs < two[1].pairs));
    }
}
