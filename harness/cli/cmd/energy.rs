//! `tritbench energy`: what the energy meter shows, second by second.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use trit_core::MeterChoice;
use trit_measure::energy::{Energy, Meter, MeterOptions};
use trit_measure::{Clock, MonotonicClock, sys::interrupt};
use trit_run::energy_facts;

use crate::args::{Format, FormatArg, MeterArgs, positive};
use crate::exit::{Exit, Failure, Outcome};
use crate::meter;
use crate::out::{Out, Table, say};

/// Shows what the energy meters of this machine say: watts by domain, a line a second, and a summary
#[derive(Args, Debug)]
#[command(
    long_about = "Shows what the energy meters of this machine say: watts by domain, a line a second, and a summary.\n\n\
                  Watts are what a meter counted over the second before. Domains contain one another: a platform (psys) contains its \
                  packages, a package its cores; memory (dram) is outside of the packages. They are never added up here. Without a \
                  meter it says why and what helps, with exit code 6.",
    after_help = "Examples:
  tritbench energy
  tritbench energy --seconds 60 --format csv > watts.csv
  tritbench energy --sysfs-root /host/sys     in a container that has the host's sysfs there"
)]
pub(crate) struct EnergyArgs {
    /// How long
    #[arg(long, value_name = "N", default_value = "10", value_parser = positive)]
    seconds: usize,

    #[command(flatten)]
    meter: MeterArgs,

    #[command(flatten)]
    format: FormatArg,
}

/// Length of one line.
const STEP_NS: u64 = 1_000_000_000;
/// How often a wait looks whether it should end.
const LOOK: Duration = Duration::from_millis(100);

/// Watts, rounded to a milliwatt.
fn watts(energy: &Energy, uj: Option<u64>) -> Value {
    energy
        .watts(uj)
        .map_or(Value::Null, |watts| json!((watts * 1e3).round() / 1e3))
}

/// The watts of each domain, in the order of the meter.
fn by_domain(energy: &Energy, domains: &[String]) -> Vec<Value> {
    let of = |name: &String| {
        let found = energy.domains.iter().find(|domain| domain.name == *name);
        watts(energy, found.and_then(|domain| domain.energy_uj))
    };
    domains.iter().map(of).collect()
}

/// Prints lines as they come where the format has lines, and collects them where it has not.
struct Lines {
    format: Format,
    header: Vec<String>,
    rows: Vec<Value>,
}

impl Lines {
    /// One line, each field as wide as its heading.
    fn aligned(&self, fields: &[String]) -> String {
        let width = |at: usize| self.header[at].chars().count().max(8);
        let cells: Vec<String> = fields
            .iter()
            .enumerate()
            .map(|(at, field)| format!("{field:>width$}", width = width(at)))
            .collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    }

    fn begin(&self) -> Result<(), Failure> {
        let mut out = Out::new();
        match self.format {
            Format::Csv => out.text(&(self.header.join(",") + "\n")),
            Format::Table => out.text(&self.aligned(&self.header)),
            Format::Md => {
                let rule = vec!["--:"; self.header.len()].join(" | ");
                out.text(&format!("| {} |\n| {rule} |\n", self.header.join(" | ")))
            }
            Format::Json => Ok(()),
        }
    }

    fn put(&mut self, values: Vec<Value>) -> Result<(), Failure> {
        let texts: Vec<String> = values
            .iter()
            .map(|value| match value {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
            .collect();
        let mut out = Out::new();
        match self.format {
            Format::Csv => out.text(&(texts.join(",") + "\n")),
            Format::Table => out.text(&self.aligned(&texts)),
            Format::Md => out.text(&format!("| {} |\n", texts.join(" | "))),
            Format::Json => {
                let row = self.header.iter().cloned().zip(values);
                self.rows.push(Value::Object(row.collect()));
                Ok(())
            }
        }
    }
}

pub(crate) fn run(args: &EnergyArgs) -> Outcome {
    let roots = args.meter.sysfs.roots()?;
    let options = MeterOptions {
        source: args.meter.source(MeterChoice::Auto)?,
        // Whoever looks at the meter wants to see all that it counts.
        max_others_share: None,
        ..MeterOptions::default()
    };
    let asked = interrupt::install().map_err(Failure::failed)?;
    let mut meter =
        Meter::open(&roots, &options).map_err(|probe| meter::missing(&energy_facts(&probe)))?;
    let domains: Vec<String> = meter.domains().iter().map(|d| d.name.clone()).collect();
    say(&format!(
        "reading {}: {}",
        meter.source(),
        domains.join(" ")
    ));
    let mut lines = Lines {
        format: args.format.format,
        header: ["seconds".to_owned()]
            .into_iter()
            .chain(domains.iter().map(|name| format!("{name} W")))
            .collect(),
        rows: Vec::new(),
    };
    lines.begin()?;
    let clock = MonotonicClock;
    meter.sample();
    meter.begin();
    let start_ns = clock.now_ns();
    let mut seconds = 0;
    while seconds < args.seconds as u64 && !asked.load(Ordering::SeqCst) {
        seconds += 1;
        if !wait_until(&clock, start_ns + seconds * STEP_NS, asked) {
            break;
        }
        let energy = meter.sample();
        let mut row = vec![json!(seconds)];
        row.extend(by_domain(&energy, &domains));
        lines.put(row)?;
    }
    let whole = meter.end();
    summary(&lines, &whole, &domains)?;
    if asked.load(Ordering::SeqCst) {
        return Ok(Exit::Interrupted);
    }
    if whole.status.name() != "ok" {
        say(&format!("note: {}: {}", whole.status, whole.reason));
    }
    Ok(Exit::Done)
}

/// Waits; `false` when it was interrupted.
fn wait_until(clock: &dyn Clock, until_ns: u64, asked: &AtomicBool) -> bool {
    loop {
        if asked.load(Ordering::SeqCst) {
            return false;
        }
        let left = Duration::from_nanos(until_ns.saturating_sub(clock.now_ns()));
        if left.is_zero() {
            return true;
        }
        std::thread::park_timeout(left.min(LOOK));
    }
}

/// What all of it came to: joules and mean watts of each domain.
fn summary(lines: &Lines, whole: &Energy, domains: &[String]) -> Result<(), Failure> {
    let joules = |name: &String| {
        let found = whole.domains.iter().find(|domain| domain.name == *name);
        let uj = found.and_then(|domain| domain.energy_uj);
        uj.map_or(Value::Null, |uj| json!(uj as f64 / 1e6))
    };
    let mut table = Table::new(&["domain", "mean_w", "joules"]);
    for (name, watts) in domains.iter().zip(by_domain(whole, domains)) {
        table.row([json!(name), watts, joules(name)]);
    }
    table.row([
        json!("all packages"),
        watts(whole, whole.package_uj),
        whole
            .package_uj
            .map_or(Value::Null, |uj| json!(uj as f64 / 1e6)),
    ]);
    let mut out = Out::new();
    match lines.format {
        Format::Json => {
            let rows = table.json_rows();
            let all = json!({
                "source": whole.source,
                "status": whole.status.name(),
                "reason": whole.reason,
                "window_ns": whole.window_ns,
                "mirrored_dies": whole.mirrored_dies,
                "samples": lines.rows,
                "summary": rows,
            });
            out.text(&format!("{all:#}\n"))
        }
        // The lines are the data; one file has one table.
        Format::Csv => {
            say(table.render(Format::Table).trim_end());
            Ok(())
        }
        format => out.text(&format!("\n{}", table.render(format))),
    }
}
