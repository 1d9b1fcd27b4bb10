//! Which cells and pairs may be held in memory at the same time.

use std::collections::BTreeSet;

use trit_core::{NOT_MEASURED, PlannedCell, PlannedPair, Station, Status};

use crate::execute::bench_key;

/// Puts cells and pairs into waves that fit in memory: micro cells and pairs first, then whole models, whose visits
/// take so long that the others would wait for them.
pub(crate) fn put_into_waves(cells: &mut [PlannedCell], pairs: &mut [PlannedPair], limit: u64) {
    let (mut wave, mut used) = (0, 0);
    let mut held: BTreeSet<String> = BTreeSet::new();
    let mut place = |key: String, bytes: u64, next: bool| -> u64 {
        if next && used > 0 {
            (wave, used) = (wave + 1, 0);
            held.clear();
        }
        let more = if held.contains(&key) { 0 } else { bytes };
        if used > 0 && used + more > limit {
            (wave, used) = (wave + 1, 0);
            held.clear();
        }
        if held.insert(key) {
            used += bytes;
        }
        wave
    };
    for planned in &mut *cells {
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        if planned.memory_bytes > limit && planned.cell.reason == NOT_MEASURED {
            planned.cell.status = Status::OverLimit;
            planned.cell.reason = format!(
                "needs about {:.1} GB, {:.1} GB may be used",
                gigabytes(planned.memory_bytes),
                gigabytes(limit)
            );
        }
    }
    let runs = |planned: &PlannedCell| planned.cell.reason == NOT_MEASURED;
    // Cells of one kernel stand together, so that the weights that they share are made once.
    let mut kernels: Vec<String> = Vec::new();
    for planned in cells
        .iter()
        .filter(|p| p.station == Station::Kernel && runs(p))
    {
        if !kernels.contains(&planned.cell.kernel) {
            kernels.push(planned.cell.kernel.clone());
        }
    }
    for kernel in kernels {
        for planned in &mut *cells {
            if planned.station == Station::Kernel && runs(planned) && planned.cell.kernel == kernel
            {
                let cell = &planned.cell;
                let key = format!("{kernel} {:?} {:?} {}", cell.rows, cell.k, cell.cache);
                planned.wave = place(key, planned.memory_bytes, false);
            }
        }
    }
    for (index, pair) in pairs.iter_mut().enumerate() {
        pair.wave = place(format!("pair {index}"), pair.memory_bytes, false);
    }
    for index in 0..cells.len() {
        if cells[index].station == Station::Pair {
            let id = &cells[index].cell.cell;
            let pair = pairs.iter().find(|pair| pair.a == *id || pair.b == *id);
            cells[index].wave = pair.map_or(0, |pair| pair.wave);
        }
    }
    let mut first = true;
    for planned in &mut *cells {
        let whole = matches!(planned.station, Station::Engine | Station::Program);
        if whole && runs(planned) {
            let key = bench_key(planned.station, &planned.cell);
            planned.wave = place(key, planned.memory_bytes, first);
            first = false;
        }
    }
}
