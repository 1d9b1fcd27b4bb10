//! Which cells and pairs may be held in memory at the same time.

use std::collections::{BTreeMap, BTreeSet};

use trit_core::{NOT_MEASURED, PlannedCell, PlannedPair, Station, Status};

use crate::execute::{bench_key, starts};

/// The wave that is being filled.
struct Filling {
    limit: u64,
    wave: u64,
    used: u64,
    /// What is in memory already, by name.
    held: BTreeSet<String>,
}

impl Filling {
    fn next(&mut self) {
        if self.used > 0 {
            (self.wave, self.used) = (self.wave + 1, 0);
            self.held.clear();
        }
    }

    /// The wave of something that has that name and needs so many bytes.
    fn place(&mut self, key: String, bytes: u64) -> u64 {
        let more = if self.held.contains(&key) { 0 } else { bytes };
        if self.used + more > self.limit {
            self.next();
        }
        if self.held.insert(key) {
            self.used += bytes;
        }
        self.wave
    }

    /// Begins a new wave unless all of these, by name, fit beside what is there. What fits in no wave begins where it is.
    fn make_room(&mut self, bytes: &BTreeMap<String, u64>) {
        let new = bytes.iter().filter(|(key, _)| !self.held.contains(*key));
        let more: u64 = new.map(|(_, bytes)| bytes).sum();
        if self.used + more > self.limit {
            self.next();
        }
    }
}

/// Puts cells and pairs into waves that fit in memory: micro cells and pairs first, then whole models, whose visits
/// take so long that the others would wait for them.
pub(crate) fn put_into_waves(cells: &mut [PlannedCell], pairs: &mut [PlannedPair], limit: u64) {
    let mut filling = Filling {
        limit,
        wave: 0,
        used: 0,
        held: BTreeSet::new(),
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
                planned.wave = filling.place(key, planned.memory_bytes);
            }
        }
    }
    for (index, pair) in pairs.iter_mut().enumerate() {
        pair.wave = filling.place(format!("pair {index}"), pair.memory_bytes);
    }
    for index in 0..cells.len() {
        if cells[index].station == Station::Pair {
            let id = &cells[index].cell.cell;
            let pair = pairs.iter().find(|pair| pair.a == *id || pair.b == *id);
            cells[index].wave = pair.map_or(0, |pair| pair.wave);
        }
    }
    filling.next();
    put_models(cells, &mut filling);
}

/// Whole models and programs. Those that are held against one another have to take turns, so where there are programs, cells on as
/// many threads go into one wave if they fit there.
fn put_models(cells: &mut [PlannedCell], filling: &mut Filling) {
    let whole: Vec<usize> = (0..cells.len())
        .filter(|&at| {
            let planned = &cells[at];
            matches!(planned.station, Station::Engine | Station::Program)
                && planned.cell.reason == NOT_MEASURED
        })
        .collect();
    let (alone, whole): (Vec<usize>, Vec<usize>) =
        whole.into_iter().partition(|&at| starts(&cells[at].cell));
    let programs = whole
        .iter()
        .map(|&at| &cells[at])
        .filter(|planned| planned.station == Station::Program);
    // A program lives only while it is visited, one at a time: together they need what the largest needs.
    let programs_bytes = programs.map(|planned| planned.memory_bytes).max();
    let need = |planned: &PlannedCell| match (planned.station, programs_bytes) {
        (Station::Program, Some(bytes)) => ("programs".to_owned(), bytes),
        (station, _) => (bench_key(station, &planned.cell), planned.memory_bytes),
    };
    let mut groups: BTreeMap<Option<u64>, Vec<usize>> = BTreeMap::new();
    for at in whole {
        let threads = cells[at].cell.threads.filter(|_| programs_bytes.is_some());
        groups.entry(threads).or_default().push(at);
    }
    for group in groups.into_values() {
        if programs_bytes.is_some() {
            // Of cells that share a worker the first is counted.
            let needs = group.iter().rev().map(|&at| need(&cells[at])).collect();
            filling.make_room(&needs);
        }
        for at in group {
            let (key, bytes) = need(&cells[at]);
            cells[at].wave = filling.place(key, bytes);
        }
    }
    // Nobody else may have the files of a model mapped when they have to leave the page cache.
    if !alone.is_empty() {
        filling.next();
    }
    for at in alone {
        let planned = &cells[at];
        let (key, bytes) = (
            bench_key(planned.station, &planned.cell),
            planned.memory_bytes,
        );
        cells[at].wave = filling.place(key, bytes);
    }
}
