//! The energy meter that the flags ask for.

use anyhow::anyhow;
use trit_core::{EnergyFacts, MeterChoice};
use trit_measure::Roots;
use trit_measure::energy::{
    EnergyStatus, External, MAX_GAP_NS, MeterOptions, NOT_MERGED, SourceChoice,
};
use trit_run::MachineMeter;

use crate::args::{MeterArgs, SysfsArg};
use crate::exit::{Exit, Failure};

impl SysfsArg {
    /// Where the machine describes itself.
    pub(crate) fn roots(&self) -> Result<Roots, Failure> {
        match &self.sysfs_root {
            None => Ok(Roots::default()),
            Some(dir) if dir.is_dir() => Ok(Roots::with_sysfs(dir)),
            Some(dir) => Err(Failure::usage(anyhow!(
                "--sysfs-root `{}` is no directory; hint: name the directory that holds `class/powercap`",
                dir.display()
            ))),
        }
    }
}

impl MeterArgs {
    /// The choice of the command line, where it makes one.
    pub(crate) fn choice(&self) -> Option<MeterChoice> {
        let implied = self.energy_log.as_ref().map(|_| MeterChoice::External);
        self.energy_source.or(implied)
    }

    /// The source to open; `suite` is what holds when the command line says nothing.
    pub(crate) fn source(&self, suite: MeterChoice) -> Result<SourceChoice, Failure> {
        let choice = self.choice().unwrap_or(suite);
        match (choice, &self.energy_log) {
            (MeterChoice::External, Some(path)) => Ok(SourceChoice::External(path.clone())),
            (MeterChoice::External, None) => Err(Failure::usage(anyhow!(
                "the energy source `external` needs its log; hint: name it with --energy-log FILE"
            ))),
            (other, Some(_)) => Err(Failure::usage(anyhow!(
                "--energy-log is for the source `external`, and the source is `{other}`; hint: leave one of them out"
            ))),
            (MeterChoice::Auto, None) => Ok(SourceChoice::Auto),
            (MeterChoice::Perf, None) => Ok(SourceChoice::Perf),
            (MeterChoice::Powercap, None) => Ok(SourceChoice::Powercap),
            (MeterChoice::Hwmon, None) => Ok(SourceChoice::Hwmon),
        }
    }

    /// The same for a run. It takes windows of a meter outside of the machine by their times, and reads no log meanwhile.
    pub(crate) fn source_of_run(&self, suite: MeterChoice) -> Result<SourceChoice, Failure> {
        match self.choice().unwrap_or(suite) {
            MeterChoice::External => Ok(SourceChoice::Later),
            _ => self.source(suite),
        }
    }

    /// Opens the meter of a run. A log that is no log is told before anything is timed.
    pub(crate) fn open_for_run(
        &self,
        suite: MeterChoice,
        max_others: f64,
    ) -> Result<Result<(MachineMeter, EnergyFacts), EnergyFacts>, Failure> {
        let source = self.source_of_run(suite)?;
        let outside = source == SourceChoice::Later;
        let log = self.energy_log.as_ref().filter(|_| outside);
        if let Some(Err(error)) = log.map(|log| External::open(log, MAX_GAP_NS)) {
            return Ok(Err(EnergyFacts {
                status: EnergyStatus::Absent.to_string(),
                source: MeterChoice::External.name().to_owned(),
                reason: error.to_string(),
                remedy: "let the meter's program write the log before the run begins".to_owned(),
                ..EnergyFacts::default()
            }));
        }
        let options = MeterOptions {
            source,
            max_others_share: Some(max_others),
            ..MeterOptions::default()
        };
        let mut opened = MachineMeter::open(&self.sysfs.roots()?, &options);
        if let Ok((_, facts)) = &mut opened
            && outside
        {
            // Nothing is known before the log is merged.
            EnergyStatus::Absent.name().clone_into(&mut facts.status);
            NOT_MERGED.clone_into(&mut facts.reason);
            "tritbench report DIR --energy-log FILE".clone_into(&mut facts.remedy);
        }
        Ok(opened)
    }
}

/// Why there is no energy, and what helps, in a line.
pub(crate) fn told(facts: &EnergyFacts) -> String {
    let hint = if facts.remedy.is_empty() {
        String::new()
    } else {
        format!("; hint: {}", facts.remedy)
    };
    format!("{}: {}{hint}", facts.status, facts.reason)
}

/// Energy was required and there is none.
pub(crate) fn missing(facts: &EnergyFacts) -> Failure {
    Failure::Error(
        Exit::EnergyMissing,
        anyhow!("no energy meter: {}", told(facts)),
    )
}
