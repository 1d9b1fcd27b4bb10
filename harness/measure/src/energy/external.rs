//! A meter that another program reads: a plug, or a board with an INA226 in the supply. It writes a CSV file of moments and
//! watts or joules, and the file is merged with the windows of a run by time.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::{
    Domain, DomainEnergy, DomainKind, Energy, EnergyStatus, MIN_WINDOW_NS, Quantity, ReadError,
    Reading, Source,
};
use crate::Clock;

/// Samples further apart than this leave a hole, unless told otherwise.
pub const MAX_GAP_NS: u64 = 5_000_000_000;

/// Why a window of a meter whose log comes later has no amount.
pub const NOT_MERGED: &str = "the log of the meter outside of the machine is not merged yet";

/// Ten samples a second for a month are less.
const MAX_BYTES: u64 = 1 << 30;

/// Why a record is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ExternalError {
    /// It cannot be read.
    #[error("cannot read the record `{path}`: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// It is too large.
    #[error("the record `{path}` is larger than 1 GiB; hint: cut out the time of the run")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The first line is no header.
    #[error(
        "the record `{path}`, line 1: {what}; hint: a header such as `unix_ns,watts`, `unix_s,joules` or \
         `unix_ms,package_watts,dram_watts`"
    )]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A line makes no sense.
    #[error("the record `{path}`, line {line}: {what}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// A record of another program's meter.
///
/// The first line names the columns. Time is one of `unix_ns`, `unix_us`, `unix_ms` and `unix_s`: UTC, ascending, a fraction
/// allowed. `watts` is the power of the moment, `joules` a sum since any moment; both of the whole platform (`psys`), or
/// of something else when named `package_watts`, `package1_joules`, `dram_watts`, `gpu_watts`, `other_watts`, .... Other
/// columns are ignored, an empty field is a sample that is missing, and a last line without an end is being written.
///
/// Between two samples power is a straight line, and so is a sum of joules; at the edges of a window it is interpolated.
#[derive(Debug)]
pub struct External {
    path: PathBuf,
    max_gap_ns: u64,
    domains: Vec<Domain>,
    layout: Layout,
    /// For each domain.
    columns: Vec<Column>,
    lines: u64,
    offset: u64,
    /// The moment of the last live reading.
    last_unix_ns: Option<u64>,
}

/// Where in a line things are.
#[derive(Debug, Default)]
struct Layout {
    time: usize,
    time_ns: f64,
    /// For each domain: the field, and whether it is a power.
    fields: Vec<(usize, bool)>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    unix_ns: u64,
    /// Watts, or joules.
    value: f64,
    /// Joules since the first sample.
    joules: f64,
}

#[derive(Debug, Default)]
struct Column {
    power: bool,
    samples: Vec<Sample>,
    /// Where a sum of joules went back: the sample after it.
    resets: Vec<usize>,
}

impl External {
    /// Reads the record `path`, which has a header at least. Samples more than `max_gap_ns` apart ([`MAX_GAP_NS`]) leave a
    /// hole: a window that touches one has no energy.
    ///
    /// # Errors
    /// When it cannot be read or makes no sense.
    pub fn open(path: &Path, max_gap_ns: u64) -> Result<Self, ExternalError> {
        let mut external = Self {
            path: path.to_owned(),
            max_gap_ns,
            domains: Vec::new(),
            layout: Layout::default(),
            columns: Vec::new(),
            lines: 0,
            offset: 0,
            last_unix_ns: None,
        };
        external.refresh()?;
        if external.lines == 0 {
            return Err(external.header("it has no line".to_owned()));
        }
        Ok(external)
    }

    /// Reads what was added to the file since.
    ///
    /// # Errors
    /// When it cannot be read, became shorter, or makes no sense.
    pub fn refresh(&mut self) -> Result<(), ExternalError> {
        let io = |error| ExternalError::Io {
            path: self.path.clone(),
            error,
        };
        let mut file = File::open(&self.path).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        if bytes > MAX_BYTES {
            let path = self.path.clone();
            return Err(ExternalError::TooLarge { path });
        }
        if bytes < self.offset {
            return Err(self.line("the file became shorter".to_owned()));
        }
        file.seek(SeekFrom::Start(self.offset)).map_err(io)?;
        let mut added = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut added).map_err(io)?;
        // A line without an end is being written.
        let whole = added.iter().rposition(|&byte| byte == b'\n');
        added.truncate(whole.map_or(0, |at| at + 1));
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(added.as_slice());
        for record in reader.records() {
            self.lines += 1;
            let record = record.map_err(|error| self.line(error.to_string()))?;
            if self.lines == 1 {
                self.columns_of(&record)?;
            } else {
                self.sample_of(&record)?;
            }
        }
        self.offset += added.len() as u64;
        Ok(())
    }

    /// The energy between two moments, UTC: those of [`Energy::start_unix_ns`] and [`Energy::end_unix_ns`].
    pub fn energy(&self, start_unix_ns: u64, end_unix_ns: u64) -> Energy {
        let mut energy = Energy::without(EnergyStatus::Ok, "");
        "external".clone_into(&mut energy.source);
        (energy.start_unix_ns, energy.end_unix_ns) = (start_unix_ns, end_unix_ns);
        energy.window_ns = end_unix_ns.saturating_sub(start_unix_ns);
        if energy.window_ns < MIN_WINDOW_NS {
            energy.refuse(
                EnergyStatus::WindowTooShort,
                format!(
                    "a window of {} ns is shorter than {MIN_WINDOW_NS} ns",
                    energy.window_ns
                ),
            );
            return energy;
        }
        for (domain, column) in self.domains.iter().zip(&self.columns) {
            match column.window(start_unix_ns, end_unix_ns, self.max_gap_ns) {
                Ok(joules) => energy.domains.push(DomainEnergy {
                    name: domain.name.clone(),
                    kind: domain.kind,
                    energy_uj: Some((joules * 1e6).round() as u64),
                }),
                Err((status, what)) => {
                    let reason = format!("`{}`, {}: {what}", self.path.display(), domain.name);
                    energy.refuse(status, reason);
                    return energy;
                }
            }
        }
        energy.package_uj = energy.sum_of(DomainKind::Package);
        energy.add_memory_and_platform();
        energy
    }

    fn header(&self, what: String) -> ExternalError {
        ExternalError::Header {
            path: self.path.clone(),
            what,
        }
    }

    fn line(&self, what: String) -> ExternalError {
        ExternalError::Line {
            path: self.path.clone(),
            line: self.lines,
            what,
        }
    }

    fn columns_of(&mut self, header: &csv::StringRecord) -> Result<(), ExternalError> {
        let mut time = None;
        for (field, name) in header.iter().enumerate() {
            // Some programs begin their files with a mark of the encoding.
            let name = name.trim_start_matches('\u{feff}');
            let unit_ns = match name {
                "unix_ns" => Some(1.0),
                "unix_us" => Some(1e3),
                "unix_ms" => Some(1e6),
                "unix_s" => Some(1e9),
                _ => None,
            };
            if let Some(unit_ns) = unit_ns {
                if time.replace((field, unit_ns)).is_some() {
                    return Err(self.header("there are two columns of time".to_owned()));
                }
                continue;
            }
            let (what, power) = match (name.strip_suffix("watts"), name.strip_suffix("joules")) {
                (Some(what), _) => (what, true),
                (None, Some(what)) => (what, false),
                (None, None) => continue,
            };
            let what = what.strip_suffix('_').unwrap_or(what);
            let what = if what.is_empty() { "psys" } else { what };
            let word = what.trim_end_matches(|c: char| c.is_ascii_digit());
            let Some(kind) = DomainKind::of(word) else {
                let known = "package, dram, core, uncore, gpu, psys, other";
                return Err(self.header(format!("`{name}` is none of {known}")));
            };
            if self.domains.iter().any(|domain| domain.name == what) {
                return Err(self.header(format!("there are two columns for `{what}`")));
            }
            self.domains.push(Domain {
                name: what.to_owned(),
                kind,
                package: None,
                counts: kind == DomainKind::Package,
                quantity: Quantity::Microjoules { range_uj: None },
                place: format!("{}: {name}", self.path.display()),
            });
            self.layout.fields.push((field, power));
            self.columns.push(Column {
                power,
                ..Column::default()
            });
        }
        let Some((field, unit_ns)) = time else {
            return Err(self.header("there is no column of time".to_owned()));
        };
        if self.domains.is_empty() {
            return Err(self.header("there is no column of watts or joules".to_owned()));
        }
        (self.layout.time, self.layout.time_ns) = (field, unit_ns);
        Ok(())
    }

    fn sample_of(&mut self, record: &csv::StringRecord) -> Result<(), ExternalError> {
        let time = record.get(self.layout.time).unwrap_or_default();
        let Some(unix_ns) = nanoseconds(time, self.layout.time_ns) else {
            return Err(self.line(format!("`{time}` is no time since 1970")));
        };
        for at in 0..self.columns.len() {
            let (field, power) = self.layout.fields[at];
            let value = record.get(field).unwrap_or_default();
            if value.is_empty() {
                continue;
            }
            let unit = if power { "watts" } else { "joules" };
            let value = match value.parse::<f64>() {
                Ok(value) if value.is_finite() && value >= 0.0 => value,
                _ => return Err(self.line(format!("`{value}` is no number of {unit}"))),
            };
            if !self.columns[at].push(unix_ns, value) {
                return Err(self.line(format!("`{time}` is not after the line before")));
            }
        }
        Ok(())
    }
}

/// A number of units of `unit_ns` as nanoseconds.
fn nanoseconds(text: &str, unit_ns: f64) -> Option<u64> {
    // Whole numbers stay exact.
    if let Ok(whole) = text.parse::<u64>() {
        return whole.checked_mul(unit_ns as u64);
    }
    let ns = text.parse::<f64>().ok()? * unit_ns;
    (ns.is_finite() && ns >= 0.0 && ns < u64::MAX as f64).then_some(ns as u64)
}

impl Column {
    /// Adds a sample; whether it is later than the last one.
    fn push(&mut self, unix_ns: u64, value: f64) -> bool {
        let joules = match self.samples.last() {
            None => 0.0,
            Some(last) if last.unix_ns >= unix_ns => return false,
            Some(last) if self.power => {
                let seconds = (unix_ns - last.unix_ns) as f64 / 1e9;
                last.joules + f64::midpoint(last.value, value) * seconds
            }
            Some(last) => {
                if value < last.value {
                    self.resets.push(self.samples.len());
                }
                last.joules + (value - last.value).max(0.0)
            }
        };
        self.samples.push(Sample {
            unix_ns,
            value,
            joules,
        });
        true
    }

    /// Joules between two moments.
    fn window(&self, start: u64, end: u64, max_gap_ns: u64) -> Result<f64, (EnergyStatus, String)> {
        let absent = |what: String| Err((EnergyStatus::Absent, what));
        let ms = |ns: u64| ns / 1_000_000;
        let (Some(first), Some(last)) = (self.samples.first(), self.samples.last()) else {
            return absent("it has no sample".to_owned());
        };
        if start < first.unix_ns {
            let late = ms(first.unix_ns - start);
            return absent(format!("the record begins {late} ms after the window"));
        }
        if end > last.unix_ns {
            let early = ms(end - last.unix_ns);
            return absent(format!("the record ends {early} ms before the window does"));
        }
        // The samples around: the last one at or before the start, and the first one at or after the end.
        let from = self.samples.partition_point(|s| s.unix_ns <= start) - 1;
        let to = self.samples.partition_point(|s| s.unix_ns < end);
        let pairs = self.samples[from..=to].windows(2);
        let widest = pairs.map(|p| p[1].unix_ns - p[0].unix_ns).max();
        if let Some(gap) = widest.filter(|&gap| gap > max_gap_ns) {
            return absent(format!(
                "there is a gap of {} ms in the window, more than the {} ms allowed",
                ms(gap),
                ms(max_gap_ns)
            ));
        }
        let inside = self.samples.partition_point(|s| s.unix_ns <= end)
            - self.samples.partition_point(|s| s.unix_ns < start);
        if inside < 2 {
            let what = "the window holds fewer than 2 samples of the record".to_owned();
            return Err((EnergyStatus::WindowTooShort, what));
        }
        if self.resets.iter().any(|&at| at > from && at <= to) {
            let what = "the sum of joules went back in the window".to_owned();
            return Err((EnergyStatus::WrapUncorrectable, what));
        }
        Ok(self.joules_at(end) - self.joules_at(start))
    }

    /// Joules from the first sample until a moment within the record.
    fn joules_at(&self, unix_ns: u64) -> f64 {
        let after = self.samples.partition_point(|s| s.unix_ns <= unix_ns);
        let (Some(a), b) = (
            self.samples.get(after.wrapping_sub(1)),
            self.samples.get(after),
        ) else {
            return 0.0;
        };
        let Some(b) = b else { return a.joules };
        let passed = (unix_ns - a.unix_ns) as f64 / 1e9;
        let share = (unix_ns - a.unix_ns) as f64 / (b.unix_ns - a.unix_ns) as f64;
        if self.power {
            // The mean of the power at the sample and at the moment.
            a.joules + (a.value + (b.value - a.value) * share / 2.0) * passed
        } else {
            a.joules + (b.joules - a.joules) * share
        }
    }
}

/// For a live picture: each reading is the sum until the last sample that all domains have.
impl Source for External {
    fn name(&self) -> &'static str {
        "external"
    }

    fn domains(&self) -> &[Domain] {
        &self.domains
    }

    fn values(&mut self) -> Vec<Result<u64, ReadError>> {
        let until = self.latest();
        let values = self.columns.iter().map(|column| match until {
            Some(until) => Ok((column.joules_at(until) * 1e6).round() as u64),
            None => Err(ReadError::Failed("the record has no sample".to_owned())),
        });
        values.collect()
    }

    fn read(&mut self, clock: &dyn Clock) -> Reading {
        let (now_ns, now_unix_ns) = (clock.now_ns(), clock.unix_ns());
        let refreshed = self.refresh();
        let latest = self.latest();
        let unix_ns = latest.unwrap_or(now_unix_ns).min(now_unix_ns);
        let age_ns = now_unix_ns - unix_ns;
        let since = self.last_unix_ns.unwrap_or(unix_ns);
        let fault = match (refreshed, latest) {
            (Err(error), _) => Some(error.to_string()),
            (Ok(()), None) => Some("the record has no sample".to_owned()),
            (Ok(()), Some(_)) if age_ns > self.max_gap_ns => Some(format!(
                "the last sample of the record is {} ms old",
                age_ns / 1_000_000
            )),
            (Ok(()), Some(_)) => self.hole(since, unix_ns),
        };
        self.last_unix_ns = latest;
        let values = match fault {
            Some(what) => vec![Err(ReadError::Failed(what)); self.domains.len()],
            None => self.values(),
        };
        Reading {
            at_ns: now_ns.saturating_sub(age_ns),
            unix_ns,
            values,
        }
    }

    fn lags(&self) -> bool {
        true
    }

    fn window(&mut self, start_unix_ns: u64, end_unix_ns: u64) -> Option<Energy> {
        if let Err(error) = self.refresh() {
            return Some(Energy::without(EnergyStatus::Absent, error.to_string()));
        }
        let reached = self.latest()? >= end_unix_ns;
        reached.then(|| self.energy(start_unix_ns, end_unix_ns))
    }
}

/// A meter outside of the machine whose log is not here yet: windows have their edges, UTC, and no amounts.
#[derive(Debug)]
pub(super) struct Later;

impl Source for Later {
    fn name(&self) -> &'static str {
        "external"
    }

    fn domains(&self) -> &[Domain] {
        &[]
    }

    fn values(&mut self) -> Vec<Result<u64, ReadError>> {
        Vec::new()
    }

    fn lags(&self) -> bool {
        true
    }

    fn window(&mut self, _: u64, _: u64) -> Option<Energy> {
        Some(Energy::without(EnergyStatus::Absent, NOT_MERGED))
    }
}

impl External {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its columns are.
    pub fn domain_names(&self) -> Vec<String> {
        let names = self.domains.iter().map(|domain| domain.name.clone());
        names.collect()
    }

    /// The last moment that every domain has a sample of or after.
    pub fn latest(&self) -> Option<u64> {
        let last = self.columns.iter().map(|c| Some(c.samples.last()?.unix_ns));
        last.collect::<Option<Vec<u64>>>()?.into_iter().min()
    }

    /// A gap, or a sum that went back, between two moments.
    fn hole(&self, from: u64, to: u64) -> Option<String> {
        let holed = self.columns.iter().any(|column| {
            let first = column.samples.partition_point(|s| s.unix_ns <= from);
            let end = column.samples.partition_point(|s| s.unix_ns <= to);
            (first.max(1)..end).any(|at| {
                let gap = column.samples[at].unix_ns - column.samples[at - 1].unix_ns;
                gap > self.max_gap_ns || column.resets.contains(&at)
            })
        });
        holed.then(|| "the record has a gap, or its sum went back".to_owned())
    }
}
