//! Energy windows to joules, watts and their intervals. What no meter read stays empty.

use std::collections::BTreeMap;

use trit_core::{Cell, EnergyRow, EnergyWindow, IdlePower, Results, Side, SummaryRow, Workload};
use trit_stats::{Interval, hodges_lehmann, hodges_lehmann_interval};

use crate::summary::{LEVEL, timed};

/// Why a cell has no energy when nobody looked for any.
const NOT_MEASURED: &str = "not_measured";

/// The rows of `energy.csv` by cell, with the idle power of each part of the session.
#[derive(Debug, Default)]
pub(crate) struct EnergyIndex<'a> {
    cells: BTreeMap<&'a str, Vec<&'a EnergyRow>>,
    idle: BTreeMap<u64, Idle>,
}

/// Idle power of one part of a session, in watts of the headline domain.
#[derive(Clone, Debug, Default, PartialEq)]
struct Idle {
    domain: &'static str,
    power: IdlePower,
    /// What a window without an amount says.
    fault: String,
}

impl Idle {
    /// Why net values should not be relied on; empty when they may.
    fn doubt(&self) -> String {
        let doubt = self.power.doubt();
        if self.power == IdlePower::default() && !self.fault.is_empty() {
            format!("{doubt}: {}", self.fault)
        } else {
            doubt
        }
    }
}

/// Watts of an amount: a microjoule a nanosecond is a kilowatt.
fn watts(uj: u64, window_ns: u64) -> f64 {
    uj as f64 * 1e3 / window_ns as f64
}

/// One window that counts.
struct Window<'a> {
    row: &'a EnergyRow,
    domain: &'static str,
    gross_uj: f64,
    length_ns: u64,
    calls: f64,
}

impl<'a> Window<'a> {
    fn of(row: &'a EnergyRow) -> Option<Self> {
        let (domain, gross_uj) = row.headline()?;
        let usable = row.window == EnergyWindow::Cell && row.status == "ok";
        let length_ns = row.window_ns.filter(|ns| *ns > 0 && usable)?;
        let calls = row.iterations.filter(|calls| *calls > 0)? as f64;
        Some(Self {
            row,
            domain,
            gross_uj: gross_uj as f64,
            length_ns,
            calls,
        })
    }
}

impl<'a> EnergyIndex<'a> {
    pub(crate) fn new(rows: &'a [EnergyRow]) -> Self {
        let mut index = Self::default();
        for row in rows {
            let which = match row.window {
                EnergyWindow::IdleBefore | EnergyWindow::IdleAfter => row.window,
                _ => {
                    index.cells.entry(&row.cell).or_default().push(row);
                    continue;
                }
            };
            let idle = index.idle.entry(row.part).or_default();
            let power = row
                .headline()
                .zip(row.window_ns.filter(|ns| *ns > 0))
                .filter(|_| row.status == "ok");
            let Some(((domain, uj), window_ns)) = power else {
                idle.fault = format!("{}: {}", row.status, row.reason);
                continue;
            };
            idle.domain = domain;
            let side = if which == EnergyWindow::IdleBefore {
                &mut idle.power.before_w
            } else {
                &mut idle.power.after_w
            };
            *side = Some(watts(uj, window_ns));
        }
        index
    }

    /// The windows that stand for a cell: its own; where it has none, those that it had as a side of pairs.
    fn windows(&self, cell: &str) -> (Vec<Window<'a>>, Vec<&'a EnergyRow>) {
        let all = self.cells.get(cell).map_or(&[][..], Vec::as_slice);
        let alone = all
            .iter()
            .any(|row| row.window == EnergyWindow::Cell && row.side == Side::Alone);
        let taken = all
            .iter()
            .copied()
            .filter(|row| !alone || row.side == Side::Alone);
        let (mut windows, mut lost) = (Vec::new(), Vec::new());
        for row in taken {
            match Window::of(row) {
                Some(window) => windows.push(window),
                None => lost.push(row),
            }
        }
        windows.sort_by_key(|window| (window.row.part, window.row.start_ns));
        (windows, lost)
    }

    /// Fills the energy columns of one cell.
    pub(crate) fn fill(&self, cell: &Cell, results: &mut Results) {
        if !timed(cell.status) {
            NOT_MEASURED.clone_into(&mut results.energy_status);
            results.energy_reason = format!("the cell is {}", cell.status);
            return;
        }
        let (windows, lost) = self.windows(&cell.cell);
        let Some(first) = windows.first() else {
            let why = lost.last();
            why.map_or(NOT_MEASURED, |row| &row.status)
                .clone_into(&mut results.energy_status);
            why.map_or("nobody looked for a meter", |row| &row.reason)
                .clone_into(&mut results.energy_reason);
            why.map_or("", |row| &row.source)
                .clone_into(&mut results.energy_source);
            return;
        };
        "ok".clone_into(&mut results.energy_status);
        if let Some(row) = lost.last() {
            results.energy_reason = format!(
                "{} of {} windows do not count, the last because of {}: {}",
                lost.len(),
                lost.len() + windows.len(),
                row.status,
                row.reason
            );
        }
        results.energy_source.clone_from(&first.row.source);
        first.domain.clone_into(&mut results.energy_domain);
        results.energy_windows = Some(windows.len() as u64);
        results.energy_window_ns = windows
            .iter()
            .try_fold(0u64, |sum, window| sum.checked_add(window.length_ns));
        let sum = |of: fn(&EnergyRow) -> Option<u64>| {
            windows
                .iter()
                .try_fold(0u64, |sum, window| sum.checked_add(of(window.row)?))
        };
        results.energy_pkg_uj = sum(|row| row.pkg_uj);
        results.energy_dram_uj = sum(|row| row.dram_uj);
        results.energy_psys_uj = sum(|row| row.psys_uj);
        results.energy_wall_uj = sum(|row| row.wall_uj);
        let idle = |window: &Window<'_>| {
            let idle = self.idle.get(&window.row.part)?;
            (idle.domain == window.domain).then_some(idle.power)
        };
        let net_uj = |window: &Window<'_>| idle(window)?.net_uj(window.gross_uj, window.length_ns);
        let baselines: Option<Vec<f64>> =
            windows.iter().map(|window| idle(window)?.watts()).collect();
        results.energy_idle_w = baselines.as_deref().and_then(trit_stats::mean);
        let mut doubts = windows.iter().map(|window| {
            let idle = self.idle.get(&window.row.part);
            idle.map_or("there is no idle power".to_owned(), Idle::doubt)
        });
        let doubt = doubts.rfind(|doubt| !doubt.is_empty());
        results.energy_net_status = doubt.unwrap_or_else(|| "ok".to_owned());

        let tokens = |window: &Window<'_>| Some(window.row.tokens.filter(|n| *n > 0)? as f64);
        let gross = Estimate::of(&windows, |w| Some(watts(w.gross_uj as u64, w.length_ns)));
        gross.put(
            &mut results.gross_w,
            &mut results.gross_w_lo,
            &mut results.gross_w_hi,
        );
        let gross = Estimate::of(&windows, |w| Some(w.gross_uj / tokens(w)? / 1e6));
        gross.put(
            &mut results.gross_j_per_token,
            &mut results.gross_j_per_token_lo,
            &mut results.gross_j_per_token_hi,
        );
        let net = Estimate::of(&windows, |w| Some(net_uj(w)? / tokens(w)? / 1e6));
        net.put(
            &mut results.net_j_per_token,
            &mut results.net_j_per_token_lo,
            &mut results.net_j_per_token_hi,
        );
        if cell.workload != Workload::Decode {
            let gross = Estimate::of(&windows, |w| Some(w.gross_uj / w.calls / 1e6));
            gross.put(
                &mut results.gross_j_per_request,
                &mut results.gross_j_per_request_lo,
                &mut results.gross_j_per_request_hi,
            );
            results.net_j_per_request =
                Estimate::of(&windows, |w| Some(net_uj(w)? / w.calls / 1e6)).value;
        }
        let edp = Estimate::of(&windows, |w| {
            let units = tokens(w).unwrap_or(w.calls);
            let seconds = w.row.time_ns? as f64 / 1e9 / units;
            Some(w.gross_uj / 1e6 / units * seconds)
        });
        edp.put(
            &mut results.edp_js,
            &mut results.edp_js_lo,
            &mut results.edp_js_hi,
        );
    }
}

/// A value with its interval; nothing when a window lacks it.
#[derive(Clone, Copy, Debug, Default)]
struct Estimate {
    value: Option<f64>,
    interval: Option<Interval>,
}

impl Estimate {
    /// Hodges-Lehmann over the windows, with the interval that belongs to it.
    fn of(windows: &[Window<'_>], value: impl Fn(&Window<'_>) -> Option<f64>) -> Self {
        let Some(values) = windows.iter().map(value).collect::<Option<Vec<f64>>>() else {
            return Self::default();
        };
        Self {
            value: hodges_lehmann(&values),
            interval: hodges_lehmann_interval(&values, LEVEL),
        }
    }

    fn put(self, value: &mut Option<f64>, lo: &mut Option<f64>, hi: &mut Option<f64>) {
        *value = self.value;
        *lo = self.interval.map(|interval| interval.lo);
        *hi = self.interval.map(|interval| interval.hi);
    }
}

/// Joules of whole requests: a prompt, which is a prefill cell, and the tokens after the first, which are a decode cell.
pub(crate) fn fill_requests(rows: &mut [SummaryRow]) {
    type Key = (
        String,
        String,
        Option<u64>,
        Option<u64>,
        Option<u64>,
        String,
        String,
        Option<u64>,
        String,
    );
    let key = |cell: &Cell| -> Key {
        (
            cell.model.clone(),
            cell.kernel.clone(),
            cell.threads,
            cell.prompt_tokens,
            cell.depth,
            cell.kv.clone(),
            cell.head.clone(),
            cell.ubatch,
            cell.prompt.clone(),
        )
    };
    let prompts: BTreeMap<Key, Results> = rows
        .iter()
        .filter(|row| row.cell.workload == Workload::Prefill && !row.cell.model.is_empty())
        .map(|row| (key(&row.cell), row.results.clone()))
        .collect();
    for row in rows {
        if row.cell.workload != Workload::Decode {
            continue;
        }
        let (Some(prompt), Some(generated)) = (prompts.get(&key(&row.cell)), row.cell.gen_tokens)
        else {
            continue;
        };
        let results = &mut row.results;
        // The first token belongs to the prompt.
        let tokens = generated.saturating_sub(1) as f64;
        let sum = |prompt: Option<f64>, token: Option<f64>| Some(prompt? + tokens * token?);
        let whole = sum(prompt.gross_j_per_request, results.gross_j_per_token);
        results.gross_j_per_request = whole;
        results.net_j_per_request = sum(prompt.net_j_per_request, results.net_j_per_token);
        let side = |prompt_end: Option<f64>, token_end: Option<f64>| {
            let of_prompt = prompt_end? - prompt.gross_j_per_request?;
            let of_tokens = tokens * (token_end? - results.gross_j_per_token?);
            Some(of_prompt.hypot(of_tokens))
        };
        let down = side(prompt.gross_j_per_request_lo, results.gross_j_per_token_lo);
        let up = side(prompt.gross_j_per_request_hi, results.gross_j_per_token_hi);
        let end = |sign: f64, width: Option<f64>| Some(whole? + sign * width?);
        results.gross_j_per_request_lo = end(-1.0, down);
        results.gross_j_per_request_hi = end(1.0, up);
    }
}
