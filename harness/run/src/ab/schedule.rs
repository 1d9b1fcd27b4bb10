//! How many pairs of processes there are, and how long each is visited: fixed before anything is known about the builds.

use trit_stats::judge::{FEWEST_PAIRS, Rule};
use trit_stats::student_t_quantile;

/// The spread of one block against that of the placement that a pair of processes has: some 2.5 against 0.6 %, as they were seen.
const BLOCK_SPREAD: f64 = 4.0;
/// Fewest visits of each cell with one pair of processes, however small the budget is.
pub(super) const FEWEST_VISITS: u64 = 4;
/// Pairs of processes beyond which there is no need.
const MOST_PAIRS: u64 = 24;

/// Pairs of processes, and the time of the visits with each. Of the numbers of pairs that the time has room for it takes the one whose
/// interval is expected to be the narrowest: every further pair costs a set-up, and so visits, but Student's t needs fewer
/// standard errors, and placements differ between pairs alone.
pub(super) fn schedule(time_ns: u64, setup_ns: u64, visit_ns: u64) -> (u64, u64) {
    let fewest = FEWEST_PAIRS as u64;
    let visit_ns = visit_ns.max(1);
    // The first visit of a pair does not count.
    let before_ns = setup_ns.saturating_add(visit_ns);
    let of_pair = |pairs: u64| time_ns.saturating_sub(before_ns.saturating_mul(pairs)) / pairs;
    let width = |pairs: u64| {
        let visits = (of_pair(pairs) / visit_ns).max(1) as f64;
        let spread = (1.0 + BLOCK_SPREAD * BLOCK_SPREAD / visits).sqrt();
        let level = Rule::default().level;
        student_t_quantile(0.5 + level / 2.0, (pairs - 1) as f64) * spread / (pairs as f64).sqrt()
    };
    let pairs = (fewest + 1..=MOST_PAIRS)
        .filter(|pairs| of_pair(*pairs) >= FEWEST_VISITS * visit_ns)
        .fold(fewest, |best, pairs| {
            if width(pairs) < width(best) {
                pairs
            } else {
                best
            }
        });
    (pairs, of_pair(pairs))
}

/// The time that the fewest pairs of processes with the fewest visits take: what a verdict costs at least.
pub(super) fn least_ns(setup_ns: u64, visit_ns: u64) -> u64 {
    let visits_ns = visit_ns.saturating_mul(1 + FEWEST_VISITS);
    setup_ns
        .saturating_add(visits_ns)
        .saturating_mul(FEWEST_PAIRS as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_has_a_price() {
        let second = 1_000_000_000;
        let least = least_ns(2 * second, 13 * second);
        assert_eq!(least, 4 * (2 + 13 + 4 * 13) * second);
        // With that time all of it is taken, and with less it is exceeded.
        assert_eq!(schedule(least, 2 * second, 13 * second), (4, 52 * second));
        assert!(schedule(least / 2, 2 * second, 13 * second).1 < 52 * second);
        assert_eq!(least_ns(u64::MAX, 1), u64::MAX);
    }

    #[test]
    fn the_budget_decides_how_many_processes_there_are() {
        let second = 1_000_000_000;
        // 72 seconds, three to set a pair up, a quarter of one for a visit.
        let (pairs, time) = schedule(72 * second, 3 * second, second / 4);
        assert_eq!(pairs, 12);
        assert!(pairs * (time + 3 * second + second / 4) <= 72 * second);
        assert!(time >= FEWEST_VISITS * second / 4);
        // Setting up for nothing: as many as there may be.
        assert_eq!(schedule(720 * second, 1, second / 4).0, MOST_PAIRS);
        // Ten seconds are too few for more than the fewest.
        assert_eq!(schedule(10 * second, 3 * second, second / 4).0, 4);
        assert_eq!(schedule(10 * second, second, second / 8).0, 6);
        assert_eq!(schedule(0, 0, 0).0, 4);
        assert_eq!(schedule(u64::MAX / 2, 1, 1).0, MOST_PAIRS);
    }
}
