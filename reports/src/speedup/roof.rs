//! Where a row stands under the roof of its machine: memory bandwidth times operations a byte, or the arithmetic peak.

use std::collections::{BTreeMap, BTreeSet};

use trit_core::{Cell, Session, SummaryRow, Workload};

use crate::compose::dense_format;
use crate::summary::{bytes_per_call, ops_per_call};

/// The limits that a session measured, by threads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roofline {
    /// Bytes a nanosecond: 10^9 bytes a second.
    read: BTreeMap<u64, f64>,
    /// Operations a nanosecond, of 8-bit integers and of floats.
    int8: BTreeMap<u64, f64>,
    float: BTreeMap<u64, f64>,
}

/// One row under the roof.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Roof {
    /// Operations a byte of weights.
    pub(crate) intensity: f64,
    pub(crate) gops: f64,
    /// The roof at that intensity.
    pub(crate) limit_gops: f64,
    /// The roof is bandwidth there.
    pub(crate) memory: bool,
    /// Share of the roof: from pairs with the probe where there are any.
    pub(crate) share: f64,
    pub(crate) paired: bool,
}

impl Roofline {
    /// The fastest of every probe of a session counts.
    pub(crate) fn new(session: &Session) -> Self {
        let mut roofline = Self::default();
        for probe in session.probes.iter().filter(|probe| probe.time_ns > 0.0) {
            let rate = probe.amount_per_iteration as f64 / probe.time_ns;
            let limits = match probe.subject.as_str() {
                "probe:read" => &mut roofline.read,
                "probe:peak" if probe.variant.starts_with("f32") => &mut roofline.float,
                "probe:peak" => &mut roofline.int8,
                _ => continue,
            };
            let entry = limits.entry(probe.threads).or_insert(rate);
            *entry = entry.max(rate);
        }
        roofline
    }

    /// Bandwidth on each number of threads, and the peak of 8-bit integers where it was measured.
    pub(crate) fn limits(&self) -> impl Iterator<Item = (u64, f64, Option<f64>)> {
        let limits = self.read.iter();
        limits.map(|(threads, read)| (*threads, *read, self.int8.get(threads).copied()))
    }

    /// Bandwidth of memory on a number of threads, in 10^9 bytes a second.
    pub(crate) fn read(&self, threads: u64) -> Option<f64> {
        self.read.get(&threads).copied()
    }

    /// The arithmetic peak that a cell is under: of floats for dense floats, else of 8-bit integers; in GOPS.
    pub(crate) fn peak(&self, cell: &Cell) -> Option<f64> {
        let floats = matches!(dense_format(&cell.kernel), Some("f32" | "f16"));
        let peaks = if floats { &self.float } else { &self.int8 };
        peaks.get(&cell.threads?).copied()
    }

    /// Every number of threads with the limits that are known of it: bandwidth, peak of 8-bit integers, peak of floats.
    pub(crate) fn all(&self) -> Vec<(u64, [Option<f64>; 3])> {
        let limits = [&self.read, &self.int8, &self.float];
        let threads: BTreeSet<u64> = limits.iter().flat_map(|by| by.keys().copied()).collect();
        let of = |threads: u64| limits.map(|by| by.get(&threads).copied());
        threads.into_iter().map(|n| (n, of(n))).collect()
    }

    /// The position of a row; nothing for weights in cache, which the bandwidth of memory does not limit, and without probes.
    pub(crate) fn of(&self, row: &SummaryRow) -> Option<Roof> {
        let cell = &row.cell;
        if cell.workload == Workload::GemvWarm {
            return None;
        }
        let gops = row.results.gops?;
        let intensity = ops_per_call(cell)? / bytes_per_call(cell).filter(|bytes| *bytes > 0.0)?;
        let from_memory = intensity * self.read(cell.threads?)?;
        let peak = self.peak(cell);
        let memory = peak.is_none_or(|peak| from_memory <= peak);
        let limit_gops = peak.map_or(from_memory, |peak| peak.min(from_memory));
        let from_pair = if memory {
            row.results.bandwidth_share
        } else {
            row.results.peak_share
        };
        Some(Roof {
            intensity,
            gops,
            limit_gops,
            memory,
            share: from_pair.unwrap_or(gops / limit_gops),
            paired: from_pair.is_some(),
        })
    }
}
