//! Divides the time that a run may take.

use std::time::Duration;

use trit_core::{NOT_MEASURED, Plan, PlannedCell, Station, show_duration};

/// Fewest visits of a micro cell, blocks of a pair, visits of a cell of a whole model.
const FEWEST: [u64; 3] = [8, 8, 2];
/// Most of them: beyond, intervals hardly shrink.
const MOST: [u64; 3] = [300, 400, 30];
/// How time that is left is divided among the three kinds.
const SHARES: [f64; 3] = [0.35, 0.15, 0.5];

/// Divides the budget: everybody gets the fewest visits, what is left goes to the kinds by their shares, and within a
/// kind by equal numbers of visits.
pub(crate) fn divide(plan: &mut Plan) {
    let setup: u64 = plan
        .cells
        .iter()
        .filter(|planned| planned.cell.reason == NOT_MEASURED && planned.station != Station::Pair)
        .map(|planned| planned.setup_ns)
        .chain(plan.pairs.iter().map(|pair| pair.setup_ns))
        .sum();
    let kind = |planned: &PlannedCell| match planned.station {
        Station::Kernel => Some(0),
        Station::Engine | Station::Program => Some(2),
        Station::Pair => None,
    };
    let runs = |planned: &PlannedCell| planned.cell.reason == NOT_MEASURED;
    let mut round = [0u64; 3];
    for planned in plan.cells.iter().filter(|p| runs(p)) {
        if let Some(kind) = kind(planned) {
            round[kind] += planned.visit_ns;
        }
    }
    round[1] = plan.pairs.iter().map(|pair| pair.visit_ns).sum();
    let mut fewest = FEWEST;
    fewest[2] = plan.rounds.unwrap_or(fewest[2]);
    let least: u64 = (0..3).map(|kind| fewest[kind] * round[kind]).sum();
    let left = plan.budget_ns.saturating_sub(setup + least) as f64;
    let shares: f64 = (0..3)
        .filter(|kind| round[*kind] > 0 && (*kind != 2 || plan.rounds.is_none()))
        .map(|kind| SHARES[kind])
        .sum();
    let visits: Vec<u64> = (0..3)
        .map(|kind| {
            if round[kind] == 0 {
                return 0;
            }
            if let (2, Some(rounds)) = (kind, plan.rounds) {
                return rounds;
            }
            let more = left * SHARES[kind] / shares / round[kind] as f64;
            (FEWEST[kind] + more as u64).min(MOST[kind])
        })
        .collect();
    for planned in &mut plan.cells {
        if let (Some(kind), true) = (kind(planned), runs(planned)) {
            planned.budget_ns = visits[kind] * planned.visit_ns;
        }
    }
    for pair in &mut plan.pairs {
        pair.budget_ns = visits[1] * pair.visit_ns;
    }
    let spent: u64 = plan.cells.iter().map(|planned| planned.budget_ns).sum();
    let paired: u64 = plan.pairs.iter().map(|pair| pair.budget_ns).sum();
    plan.expected_ns = setup + spent + paired;
    if plan.expected_ns > plan.budget_ns {
        let show = |ns| show_duration(Duration::from_nanos(ns));
        plan.notes.push(format!(
            "the plan needs about {} and the budget is {}: cells get fewer samples than they should",
            show(plan.expected_ns),
            show(plan.budget_ns)
        ));
    }
}
