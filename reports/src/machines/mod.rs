//! Kernels and engine configurations across machines: what each takes, and what share that is of what its machine can do.
//!
//! Sessions of one machine are averaged when they agree in instruction sets, compiler and schema; what does not agree stands apart,
//! and the report says what differs. The same machine under another `TRIT_ISA` is another subject.

mod charts;
mod paper;
mod traits;

use std::collections::BTreeMap;
use std::path::Path;

use trit_core::{Cell, Columns, Probe, RunDir, SummaryRow, Workload, read_rows};
use trit_stats::geometric_mean;

pub use paper::machines_paper;

use self::traits::Traits;
use crate::chart::Heading;
use crate::compare;
use crate::compose::dense_format;
use crate::contrast::{MATCHED, cell_key};
use crate::facts;
use crate::gate::{UnpairedError, check_measured};
use crate::labels;
use crate::markdown::ranked;
use crate::record::Record;
use crate::speedup::roof::{Roof, Roofline};
use crate::summary::LEVEL;

/// One name for each.
const LETTERS: [&str; 26] = [
    "A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O", "P", "Q", "R", "S",
    "T", "U", "V", "W", "X", "Y", "Z",
];

/// Why there is no report about machines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MachinesError {
    /// Not enough, or more than letters.
    #[error("{0} sources; hint: a report about machines takes 2 to {most}", most = LETTERS.len())]
    Count(usize),
    /// One is named twice.
    #[error("`{0}` stands twice; hint: name each run once")]
    Twice(String),
}

/// One session, or the rows of a file, with the machine that they are of.
#[derive(Clone, Debug, Default)]
pub struct MachineRun {
    /// What it is called.
    pub name: String,
    /// What tells machines apart, as `tritbench machine` shows it; empty when unknown.
    pub fingerprint: String,
    /// Session and rows; of a file the rows alone, and the probes that are among them.
    pub record: Record,
}

impl MachineRun {
    /// Reads a run directory, or a file like `summary.csv`. The fingerprint is left empty.
    ///
    /// # Errors
    /// When it cannot be read, or holds no measured cell.
    pub fn read(path: &Path) -> Result<Self, UnpairedError> {
        let name = path.display().to_string().trim_end_matches('/').to_owned();
        let record = if path.is_dir() {
            Record::read(&RunDir::open(path)?)?
        } else {
            Record {
                heading: Heading {
                    session: name.clone(),
                    ..Heading::default()
                },
                rows: read_rows(path)?,
                ..Record::default()
            }
        };
        check_measured(path, &record.rows)?;
        Ok(Self {
            name,
            fingerprint: String::new(),
            record,
        })
    }

    /// The limits that were measured: those of the session, else those of the probes among the rows.
    fn roofline(&self) -> Roofline {
        if !self.record.session.probes.is_empty() {
            return Roofline::new(&self.record.session);
        }
        let probe = |row: &SummaryRow| {
            let cell = &row.cell;
            let (subject, amount) = match cell.workload {
                Workload::Read => ("probe:read", cell.bytes_per_call),
                Workload::Peak => ("probe:peak", cell.ops_per_call),
                _ => return None,
            };
            Some(Probe {
                subject: subject.to_owned(),
                // Whether the peak is of floats or of 8-bit integers stands in the name of the cell.
                variant: cell.cell.rsplit('/').nth(1).unwrap_or("").to_owned(),
                threads: cell.threads?,
                amount_per_iteration: amount?,
                time_ns: row.results.median_ns?,
                ..Probe::default()
            })
        };
        let probes = self.record.rows.iter().filter_map(probe).collect();
        Roofline::new(&trit_core::Session {
            probes,
            ..trit_core::Session::default()
        })
    }
}

/// One machine under one cap, one compiler and one schema: a subject of the report.
pub(crate) struct Subject<'a> {
    pub(crate) letter: &'static str,
    /// The machine in a line, with the cap where there is one.
    pub(crate) name: String,
    pub(crate) runs: Vec<&'a MachineRun>,
    pub(crate) traits: Traits,
    /// Limits of each run.
    pub(crate) rooflines: Vec<Roofline>,
}

/// A share of a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Share {
    pub(crate) value: f64,
    pub(crate) ends: Option<(f64, f64)>,
    /// From ABBA blocks with the probe; else from a probe of the session.
    pub(crate) paired: bool,
}

/// A cell on one machine.
#[derive(Clone, Debug)]
pub(crate) struct Spot {
    /// The row; of several runs their geometric mean, without an interval.
    pub(crate) row: SummaryRow,
    pub(crate) runs: usize,
    pub(crate) bandwidth: Option<Share>,
    pub(crate) peak: Option<Share>,
    pub(crate) roof: Option<Roof>,
}

impl Spot {
    fn new(row: &SummaryRow, roofline: &Roofline) -> Self {
        let results = &row.results;
        let paired = |value: Option<f64>, lo: Option<f64>, hi: Option<f64>| {
            Some(Share {
                value: value?,
                ends: lo.zip(hi),
                paired: true,
            })
        };
        let time = results
            .median_ns
            .zip(results.lo_ns.zip(results.hi_ns))
            .filter(|(_, (lo, _))| *lo > 0.0);
        let apart = |rate: Option<f64>, limit: Option<f64>| {
            let value = rate? / limit.filter(|limit| *limit > 0.0)?;
            Some(Share {
                value,
                // The rate is high where the time is low.
                ends: time.map(|(median, (lo, hi))| (value * median / hi, value * median / lo)),
                paired: false,
            })
        };
        let cell = &row.cell;
        // Weights in cache: the bandwidth of memory is no limit.
        let from_memory = cell.workload != Workload::GemvWarm;
        Self {
            bandwidth: paired(
                results.bandwidth_share,
                results.bandwidth_share_lo,
                results.bandwidth_share_hi,
            )
            .or_else(|| {
                let limit = cell.threads.and_then(|threads| roofline.read(threads));
                apart(results.gb_per_s, limit.filter(|_| from_memory))
            }),
            peak: paired(
                results.peak_share,
                results.peak_share_lo,
                results.peak_share_hi,
            )
            .or_else(|| apart(results.gops, roofline.peak(cell))),
            roof: roofline.of(row),
            row: row.clone(),
            runs: 1,
        }
    }

    /// The share of what limits it here, and whether that is memory: by the roof, else by arithmetic.
    pub(crate) fn own_limit(&self) -> Option<(f64, bool)> {
        let roof = self.roof.map(|roof| (roof.share, roof.memory));
        roof.or_else(|| self.peak.map(|peak| (peak.value, false)))
    }

    /// The mean of the same cell in several runs.
    fn mean(spots: &[Self]) -> Option<Self> {
        let (first, rest) = spots.split_first()?;
        if rest.is_empty() {
            return Some(first.clone());
        }
        let of = |value: fn(&Self) -> Option<f64>| -> Option<f64> {
            let values: Option<Vec<f64>> = spots.iter().map(value).collect();
            Some(geometric_mean(&values?, LEVEL)?.mean)
        };
        let share = |share: fn(&Self) -> Option<Share>, value: Option<f64>| {
            Some(Share {
                value: value?,
                ends: None,
                paired: spots
                    .iter()
                    .all(|spot| share(spot).is_some_and(|it| it.paired)),
            })
        };
        let mut mean = first.clone();
        mean.runs = spots.len();
        let results = &mut mean.row.results;
        results.median_ns = of(|spot| spot.row.results.median_ns);
        (results.lo_ns, results.hi_ns) = (None, None);
        results.n = None;
        results.tokens_per_s = of(|spot| spot.row.results.tokens_per_s);
        results.gops = of(|spot| spot.row.results.gops);
        results.gb_per_s = of(|spot| spot.row.results.gb_per_s);
        mean.bandwidth = share(
            |spot| spot.bandwidth,
            of(|spot| spot.bandwidth.map(|share| share.value)),
        );
        mean.peak = share(
            |spot| spot.peak,
            of(|spot| spot.peak.map(|share| share.value)),
        );
        mean.roof = of(|spot| spot.roof.map(|roof| roof.share))
            .zip(of(|spot| spot.roof.map(|roof| roof.limit_gops)))
            .zip(first.roof)
            .map(|((share, limit_gops), roof)| Roof {
                share,
                limit_gops,
                gops: mean.row.results.gops.unwrap_or(roof.gops),
                ..roof
            });
        Some(mean)
    }
}

/// A cell with its place on each machine.
pub(crate) struct Place {
    pub(crate) spots: Vec<Option<Spot>>,
}

impl Place {
    /// Any of the cells: all have the same keys.
    pub(crate) fn cell(&self) -> Option<&Cell> {
        self.spots
            .iter()
            .flatten()
            .map(|spot| &spot.row.cell)
            .next()
    }

    /// How many times as fast a machine is as the first one.
    pub(crate) fn against_first(&self, at: usize) -> Option<compare::Ratio> {
        let (own, first) = (self.spots.get(at)?.as_ref()?, self.spots.first()?.as_ref()?);
        (at > 0)
            .then(|| compare::ratio(&own.row, &first.row))
            .flatten()
    }

    /// Machines that have the cell.
    pub(crate) fn machines(&self) -> usize {
        self.spots.iter().flatten().count()
    }
}

/// Everything that the report tells.
pub(crate) struct Findings<'a> {
    pub(crate) subjects: Vec<Subject<'a>>,
    pub(crate) places: Vec<Place>,
}

/// Puts runs side by side: those of one machine that agree become one subject.
pub(crate) fn find(runs: &[MachineRun]) -> Result<Findings<'_>, MachinesError> {
    if runs.len() < 2 || runs.len() > LETTERS.len() {
        return Err(MachinesError::Count(runs.len()));
    }
    for (at, run) in runs.iter().enumerate() {
        if runs[..at].iter().any(|other| other.name == run.name) {
            return Err(MachinesError::Twice(run.name.clone()));
        }
    }
    let mut subjects: Vec<Subject<'_>> = Vec::new();
    for run in runs {
        let traits = Traits::of(&run.record);
        let same = subjects.iter_mut().find(|subject| {
            let one = subject.runs[0];
            let known = !run.fingerprint.is_empty();
            known && one.fingerprint == run.fingerprint && subject.traits.agree(&traits)
        });
        let roofline = run.roofline();
        if let Some(subject) = same {
            subject.runs.push(run);
            subject.rooflines.push(roofline);
        } else {
            subjects.push(Subject {
                letter: LETTERS[subjects.len()],
                name: subject_name(run, &traits),
                runs: vec![run],
                traits,
                rooflines: vec![roofline],
            });
        }
    }
    let places = places(&subjects);
    Ok(Findings { subjects, places })
}

fn subject_name(run: &MachineRun, traits: &Traits) -> String {
    let record = &run.record;
    let machine = if !record.heading.machine.is_empty() {
        record.heading.machine.clone()
    } else if record.session.machine.is_null() {
        format!("unknown machine ({})", run.name)
    } else {
        facts::machine_line(&record.session)
    };
    match traits.cap() {
        Some(cap) => format!("{machine}, TRIT_ISA={cap}"),
        None => machine,
    }
}

/// Every cell that may be ranked, with its place on each machine.
fn places(subjects: &[Subject<'_>]) -> Vec<Place> {
    let columns = Cell::columns();
    let mut index: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    let mut spots: Vec<Vec<Vec<Spot>>> = Vec::new();
    for (at, subject) in subjects.iter().enumerate() {
        for (run, roofline) in subject.runs.iter().zip(&subject.rooflines) {
            // Of several rows of one run with the same keys the last counts, as in `compare`.
            let mut of_run: BTreeMap<usize, Spot> = BTreeMap::new();
            for row in run.record.rows.iter().filter(|row| ranked(row)) {
                let key = MATCHED
                    .map(|key| cell_key(&row.cell, key, &columns))
                    .to_vec();
                let next = spots.len();
                let place = *index.entry(key).or_insert(next);
                if place == next {
                    spots.push(vec![Vec::new(); subjects.len()]);
                }
                of_run.insert(place, Spot::new(row, roofline));
            }
            for (place, spot) in of_run {
                spots[place][at].push(spot);
            }
        }
    }
    let places = spots.into_iter().map(|by_subject| Place {
        spots: by_subject.iter().map(|spots| Spot::mean(spots)).collect(),
    });
    places.collect()
}

/// Whether a row is by a ternary kernel.
pub(crate) fn is_ternary(cell: &Cell) -> bool {
    !cell.kernel.is_empty() && dense_format(&cell.kernel).is_none()
}

/// What is done where, whatever kernel and thread count does it: of these the fastest stands for its machine.
pub(crate) type Job = (Workload, String, String, String);

pub(crate) fn job(cell: &Cell) -> Job {
    (
        cell.workload,
        labels::shape(cell),
        cell.head.clone(),
        cell.kv.clone(),
    )
}

/// The fastest ternary kernel of each machine for each job, in the order of the places.
pub(crate) fn fastest<'f>(findings: &'f Findings<'_>) -> Vec<(Job, Vec<Option<&'f Spot>>)> {
    let mut index: BTreeMap<Job, usize> = BTreeMap::new();
    let mut jobs: Vec<(Job, Vec<Option<&'f Spot>>)> = Vec::new();
    for place in &findings.places {
        let Some(cell) = place.cell().filter(|cell| is_ternary(cell)) else {
            continue;
        };
        let key = job(cell);
        let next = jobs.len();
        let at = *index.entry(key.clone()).or_insert(next);
        if at == next {
            jobs.push((key, vec![None; findings.subjects.len()]));
        }
        for (best, spot) in jobs[at].1.iter_mut().zip(&place.spots) {
            let time = |spot: &Spot| spot.row.results.median_ns.unwrap_or(f64::INFINITY);
            if let Some(spot) = spot
                && best.is_none_or(|best| time(spot) < time(best))
            {
                *best = Some(spot);
            }
        }
    }
    jobs
}
