//! Which cells get energy windows. A pure function.

use trit_core::{
    EnergyMode, EnergyPlan, EnergySettings, NOT_MEASURED, Plan, PlannedCell, PlannedPair, Station,
};

/// Slices of a block.
const BLOCK: u64 = 4;

fn ns(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Chooses the cells and pairs of the energy pass.
///
/// Probes have none: they are limits and no subjects. A cell that is a side of a chosen pair has the windows of the pair. `auto` takes
/// whole models, then pairs, then single kernels, each in the order of the plan, while the energy budget holds them.
pub(crate) fn choose(plan: &Plan, settings: &EnergySettings) -> EnergyPlan {
    let mut chosen = EnergyPlan {
        mode: settings.mode,
        source: settings.source,
        window_ns: ns(settings.window),
        windows: settings.windows,
        idle_ns: ns(settings.idle),
        budget_ns: ns(settings.budget),
        max_others: settings.max_others,
        ..EnergyPlan::default()
    };
    if settings.mode == EnergyMode::Off {
        return chosen;
    }
    let may = |planned: &&PlannedCell| {
        planned.cell.reason == NOT_MEASURED && !planned.cell.subject.starts_with("probe:")
    };
    let known = |id: &str| plan.cell(id).as_ref().is_some_and(may);
    let windows = settings.windows;
    let mut spent = 0u64;
    let mut holds = |cost: u64| {
        let sum = spent.saturating_add(cost);
        let fits = settings.mode == EnergyMode::All || sum <= chosen.budget_ns;
        if fits {
            spent = sum;
        }
        fits
    };
    // A request that takes longer than a window is not cut short.
    let window = |planned: &PlannedCell| ns(settings.window).max(planned.visit_ns);
    let mut cell = |planned: &PlannedCell| holds(window(planned).saturating_mul(windows));
    let station = |wanted: Station| {
        let cells = plan.cells.iter().filter(may);
        cells.filter(move |planned| planned.station == wanted)
    };
    let mut cells: Vec<String> = station(Station::Engine)
        .filter(|planned| cell(planned))
        .map(|planned| planned.cell.cell.clone())
        .collect();
    let block = ns(settings.window).saturating_mul(BLOCK * windows);
    let mut pair =
        |(_, pair): &(usize, &PlannedPair)| known(&pair.a) && known(&pair.b) && holds(block);
    let pairs: Vec<usize> = plan
        .pairs
        .iter()
        .enumerate()
        .filter(|both| pair(both))
        .map(|(at, _)| at)
        .collect();
    let paired = |id: &str| {
        let mut sides = pairs.iter().map(|at| &plan.pairs[*at]);
        sides.any(|pair| pair.a == id || pair.b == id)
    };
    let mut cell = |planned: &PlannedCell| holds(window(planned).saturating_mul(windows));
    cells.extend(
        station(Station::Kernel)
            .filter(|planned| !paired(&planned.cell.cell) && cell(planned))
            .map(|planned| planned.cell.cell.clone()),
    );
    if !cells.is_empty() || !pairs.is_empty() {
        chosen.expected_ns = spent.saturating_add(2 * chosen.idle_ns);
    }
    chosen.cells = cells;
    chosen.pairs = pairs;
    chosen
}
