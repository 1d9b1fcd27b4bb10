//! Samples to a row a cell.

use std::collections::BTreeMap;

use trit_core::{
    Cell, EnergyRow, Measurement, PairQuantity, PairRow, PowerRow, Results, RunDir, Side, Status,
    SummaryRow, TokenRow, Workload,
};
use trit_stats::{dependent_median_interval, median, quantile};

use crate::ReportError;
use crate::arithmetic::Arithmetic;
use crate::energy::{self, EnergyIndex};
use crate::pairs::{self, Paired, Shares};
use crate::projection;

/// A share of a probe above this shows that the probe is wrong: nothing outruns the machine's own limit by more than noise.
pub const SHARE_LIMIT: f64 = 1.05;
/// Below this many samples p50, p90 and p99 stay empty: they would rest on a sample or two.
const QUANTILES_FROM: usize = 100;
/// Confidence level of every interval.
pub(crate) const LEVEL: f64 = 0.95;
/// Bits of a ternary weight that count as read, whatever a layout spends: more would reward waste.
const COUNTED_BITS: f64 = 2.0;

/// The rows of a session.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a> {
    /// A row a cell.
    pub cells: &'a [Cell],
    /// Every timed slice.
    pub measurements: &'a [Measurement],
    /// Every generated token.
    pub tokens: &'a [TokenRow],
    /// Every energy window.
    pub energy: &'a [EnergyRow],
}

/// The rows of a session by cell, each list in the order of time.
#[derive(Debug)]
pub(crate) struct Index<'a> {
    measurements: BTreeMap<&'a str, Vec<&'a Measurement>>,
    tokens: BTreeMap<&'a str, Vec<&'a TokenRow>>,
}

impl<'a> Index<'a> {
    pub(crate) fn new(tables: &Tables<'a>) -> Self {
        let mut measurements: BTreeMap<&str, Vec<&Measurement>> = BTreeMap::new();
        for row in tables.measurements {
            measurements.entry(&row.cell).or_default().push(row);
        }
        for rows in measurements.values_mut() {
            rows.sort_by_key(|row| (row.round, row.block, row.sample));
        }
        let mut tokens: BTreeMap<&str, Vec<&TokenRow>> = BTreeMap::new();
        for row in tables.tokens {
            tokens.entry(&row.cell).or_default().push(row);
        }
        for rows in tokens.values_mut() {
            rows.sort_by_key(|row| (row.round, row.request, row.index));
        }
        Self {
            measurements,
            tokens,
        }
    }

    /// The slices that stand for a cell: those taken alone; where there are none, those taken in pairs.
    pub(crate) fn slices(&self, cell: &str) -> Vec<&'a Measurement> {
        let all = self.measurements.get(cell).map_or(&[][..], Vec::as_slice);
        let all = || all.iter().copied().filter(|row| row.iterations > 0);
        let alone: Vec<_> = all().filter(|row| row.side == Side::Alone).collect();
        if alone.is_empty() {
            all().collect()
        } else {
            alone
        }
    }

    /// Times of the tokens of a cell: the first of each request, and all others; of sequences that are decoded together the steps.
    fn tokens(&self, cell: &Cell) -> (Vec<f64>, Vec<f64>) {
        let all = self.tokens.get(cell.cell.as_str());
        let all = all.map_or(&[][..], Vec::as_slice);
        let (first, mut later): (Vec<&TokenRow>, Vec<&TokenRow>) =
            all.iter().copied().partition(|row| row.index == 0);
        if cell.batch.unwrap_or(1) > 1 {
            // All sequences of a step have its time, which is one sample.
            later.retain(|row| row.request == 0);
        }
        let times = |rows: Vec<&TokenRow>| rows.iter().map(|row| row.time_ns as f64).collect();
        (times(first), times(later))
    }

    /// The samples of a cell in the order of time: one call's (request's, token's) wall time each.
    fn samples(&self, cell: &Cell) -> Vec<f64> {
        if generates(cell) {
            let (_, later) = self.tokens(cell);
            if !later.is_empty() {
                return later;
            }
        }
        self.slices(&cell.cell)
            .iter()
            .map(|row| row.time_ns as f64 / row.iterations as f64)
            .collect()
    }
}

fn generates(cell: &Cell) -> bool {
    matches!(cell.workload, Workload::Decode | Workload::Chat)
}

fn product(cell: &Cell) -> Option<f64> {
    Some(cell.rows? as f64 * cell.k? as f64)
}

/// Bytes that one call has to read.
pub(crate) fn bytes_per_call(cell: &Cell) -> Option<f64> {
    if let Some(bytes) = cell.bytes_per_call {
        return Some(bytes as f64);
    }
    match cell.workload {
        Workload::GemvCold | Workload::GemvWarm | Workload::Gemm => {
            let bits = cell.weight_bits?;
            // Dense baselines have no smaller form of their weights: all of it counts.
            let bits = if cell.kernel.contains("-dense-") {
                bits
            } else {
                bits.min(COUNTED_BITS)
            };
            Some(product(cell)? * bits / 8.0)
        }
        Workload::Read => Some(product(cell)? * cell.weight_bits? / 8.0),
        _ => None,
    }
}

/// Operations of one call; a multiply and an add are two.
pub(crate) fn ops_per_call(cell: &Cell) -> Option<f64> {
    if let Some(ops) = cell.ops_per_call {
        return Some(ops as f64);
    }
    match cell.workload {
        Workload::GemvCold | Workload::GemvWarm | Workload::Peak => Some(2.0 * product(cell)?),
        Workload::Gemm => Some(2.0 * product(cell)? * cell.tokens? as f64),
        _ => None,
    }
}

/// Tokens that one call processes or makes.
pub(crate) fn tokens_per_call(cell: &Cell) -> Option<f64> {
    match cell.workload {
        Workload::GemvCold | Workload::GemvWarm => Some(1.0),
        Workload::Gemm | Workload::Bench => Some(cell.tokens? as f64),
        Workload::Prefill => Some(cell.prompt_tokens.or(cell.tokens)? as f64),
        Workload::Decode => Some(cell.batch.unwrap_or(1) as f64),
        _ => None,
    }
}

/// The samples of a cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples<'a> {
    /// The cell.
    pub cell: &'a Cell,
    /// Wall time of one call, request or token each, in the order of time.
    pub ns: Vec<f64>,
}

/// The samples of every cell that was timed and is not wrong.
pub fn samples<'a>(tables: &Tables<'a>) -> Vec<Samples<'a>> {
    let index = Index::new(tables);
    tables
        .cells
        .iter()
        .filter(|cell| timed(cell.status))
        .map(|cell| Samples {
            cell,
            ns: index.samples(cell),
        })
        .filter(|samples| !samples.ns.is_empty())
        .collect()
}

/// Whether times of a cell of this status mean anything.
pub(crate) fn timed(status: Status) -> bool {
    matches!(status, Status::Ok | Status::OverLimit | Status::Invalid)
}

/// The sum of a quantity over slices; nothing unless all slices have it.
fn sum(slices: &[&Measurement], field: impl Fn(&Measurement) -> Option<u64>) -> Option<u64> {
    if slices.is_empty() {
        return None;
    }
    slices
        .iter()
        .try_fold(0_u64, |sum, row| sum.checked_add(field(row)?))
}

/// A row a cell, in the order of the cells.
///
/// - The median is over samples in the order of time, with a 95 % interval that allows for samples repeating their neighbours.
///   A cell of which no slice was taken alone is summed up by its slices in pairs.
/// - The samples of a decode cell are its tokens after the first, where tokens were recorded; `ttft_ns` is the median of the first ones.
/// - Bytes are those of the weights, ternary ones at most 2.0 bits each; operations are `2 * rows * k * tokens`.
/// - Shares come from ABBA blocks alone, as in `pairs.csv`. A share above [`SHARE_LIMIT`] makes the row `invalid`.
/// - Joules come from the windows of `energy.csv` whose status is `ok`: Hodges-Lehmann over windows, with its 95 % interval from six on.
///   `model_*` is arithmetic and never measured.
/// - A projected cell continues the line through the two cells that it names to the layers of its model; it has no samples.
/// - A cell that is skipped, wrong, failed, crashed, timed out or emulated has no results, whatever slices it left.
pub fn summarize_rows(tables: &Tables<'_>) -> Vec<SummaryRow> {
    let index = Index::new(tables);
    let paired = Paired::all(tables.cells, tables.measurements);
    let shares = Shares::new(&paired);
    let energy = EnergyIndex::new(tables.energy);
    let mut rows: Vec<SummaryRow> = tables
        .cells
        .iter()
        .map(|cell| {
            let mut row = summarize_cell(&index, &shares, cell);
            energy.fill(cell, &mut row.results);
            row
        })
        .collect();
    energy::fill_requests(&mut rows);
    projection::fill(&mut rows);
    rows
}

fn summarize_cell(index: &Index<'_>, shares: &Shares<'_>, cell: &Cell) -> SummaryRow {
    let mut row = SummaryRow {
        cell: cell.clone(),
        results: Results::default(),
    };
    if !timed(cell.status) {
        return row;
    }
    if let Some(model) = Arithmetic::of(cell) {
        row.results.model_uj = Some(model.uj());
        row.results.model_linear_uj = Some(model.linear_uj);
        row.results.model_attention_uj = model.attention_uj;
    }
    let times = index.samples(cell);
    let slices = index.slices(&cell.cell);
    let every = index
        .measurements
        .get(cell.cell.as_str())
        .map_or(&[][..], Vec::as_slice);
    let results = &mut row.results;
    results.n = Some(times.len() as u64);
    results.median_ns = median(&times);
    if let Some(interval) = dependent_median_interval(&times, LEVEL) {
        results.lo_ns = Some(interval.lo);
        results.hi_ns = Some(interval.hi);
    }
    if times.len() >= QUANTILES_FROM {
        results.p50_ns = quantile(&times, 0.5);
        results.p90_ns = quantile(&times, 0.9);
        results.p99_ns = quantile(&times, 0.99);
    }
    if let Some(ns) = results.median_ns.filter(|ns| *ns > 0.0) {
        results.tokens_per_s = tokens_per_call(cell).map(|tokens| tokens * 1e9 / ns);
        // Operations and bytes a nanosecond are billions a second.
        results.gops = ops_per_call(cell).map(|ops| ops / ns);
        results.gb_per_s = bytes_per_call(cell).map(|bytes| bytes / ns);
    }
    let share = |quantity| {
        let ratio = shares.of(cell, quantity);
        let interval = ratio.and_then(|ratio| ratio.interval);
        (
            ratio.map(|ratio| ratio.value),
            interval.map(|interval| interval.lo),
            interval.map(|interval| interval.hi),
        )
    };
    (
        results.bandwidth_share,
        results.bandwidth_share_lo,
        results.bandwidth_share_hi,
    ) = share(PairQuantity::BandwidthShare);
    (
        results.peak_share,
        results.peak_share_lo,
        results.peak_share_hi,
    ) = share(PairQuantity::PeakShare);
    let (first, later) = index.tokens(cell);
    results.ttft_ns = median(&first);
    results.itl_p50_ns = median(&later);
    let loads: Vec<f64> = every
        .iter()
        .filter_map(|row| row.load_ns)
        .map(|ns| ns as f64)
        .collect();
    results.load_ns = median(&loads);
    let starts: Vec<f64> = every
        .iter()
        .filter_map(|row| row.startup_ttft_ns)
        .map(|ns| ns as f64)
        .collect();
    results.startup_ttft_ns = median(&starts);
    // Both parts of one visit, or neither: the largest resident set at the end of a visit.
    let parts = every
        .iter()
        .filter_map(|row| Some((row.rss_anon_bytes?, row.rss_file_bytes?)))
        .max_by_key(|(anon, file)| anon.saturating_add(*file));
    results.peak_rss_bytes = every.iter().filter_map(|row| row.peak_rss_bytes).max();
    results.rss_anon_bytes = parts.map(|(anon, _)| anon);
    results.rss_file_bytes = parts.map(|(_, file)| file);
    results.user_ns = sum(&slices, |row| row.user_ns);
    results.system_ns = sum(&slices, |row| row.system_ns);
    let too_high = [
        ("bandwidth", "read", results.bandwidth_share),
        ("peak", "peak", results.peak_share),
    ]
    .into_iter()
    .find_map(|(name, probe, share)| {
        Some((name, probe, share.filter(|share| *share > SHARE_LIMIT)?))
    });
    if let Some((name, probe, share)) = too_high {
        row.cell.status = Status::Invalid;
        row.cell.reason = format!(
            "{name} share {share:.3} is above {SHARE_LIMIT}: the {probe} probe does not reach the limit of the machine"
        );
    }
    row
}

/// Sums up a run directory and writes its `summary.csv`, and `pairs.csv` when it has pairs.
///
/// # Errors
/// When a file of the directory cannot be read, is malformed, or the summary cannot be written. A directory without
/// measurements or tokens is one without samples, not an error.
pub fn summarize(run: &RunDir) -> Result<Vec<SummaryRow>, ReportError> {
    let loaded = Loaded::read(run)?;
    let rows = summarize_rows(&loaded.tables());
    let pairs = pairs::pair_rows(&rows, &loaded.measurements, &loaded.energy);
    write(run, &rows, &pairs)?;
    Ok(rows)
}

/// Writes `summary.csv`, and `pairs.csv` where there are pairs.
pub(crate) fn write(
    run: &RunDir,
    rows: &[SummaryRow],
    pairs: &[PairRow],
) -> Result<(), ReportError> {
    run.write(rows)?;
    if !pairs.is_empty() {
        run.write(pairs)?;
    }
    Ok(())
}

/// The rows of a run directory in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) cells: Vec<Cell>,
    pub(crate) measurements: Vec<Measurement>,
    pub(crate) tokens: Vec<TokenRow>,
    pub(crate) energy: Vec<EnergyRow>,
    pub(crate) power: Vec<PowerRow>,
}

impl Loaded {
    pub(crate) fn read(run: &RunDir) -> Result<Self, ReportError> {
        Ok(Self {
            cells: run.cells()?,
            measurements: if_there(run.measurements())?,
            tokens: if_there(run.tokens())?,
            energy: if_there(run.read())?,
            power: if_there(run.read())?,
        })
    }

    pub(crate) fn tables(&self) -> Tables<'_> {
        Tables {
            cells: &self.cells,
            measurements: &self.measurements,
            tokens: &self.tokens,
            energy: &self.energy,
        }
    }
}

/// A file that a session has not come to write holds no rows.
pub(crate) fn if_there<T>(
    rows: Result<Vec<T>, trit_core::RunDirError>,
) -> Result<Vec<T>, trit_core::RunDirError> {
    match rows {
        Err(trit_core::RunDirError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(Vec::new())
        }
        rows => rows,
    }
}
