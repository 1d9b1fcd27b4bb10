//! A powercap tree made of ordinary files that advances in real time, for tests of whole programs on machines without a
//! meter: what a program reports is compared with what was injected here. `examples/fake_powercap.rs` is a command for it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::{Clock, MonotonicClock};

/// The range of a counter of 61 uJ, as most Intel machines have it.
pub const RANGE_UJ: u64 = 262_143_328_850;

/// The counters of real machines move about as often.
const PERIOD: Duration = Duration::from_millis(1);

/// Where such a tree is best kept: a file system in memory where there is one. On a disk, replacing a file takes up to some
/// milliseconds, by which the counters are then late.
pub fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    }
}

/// A domain with its power.
#[derive(Clone, Debug, PartialEq)]
pub struct FakeDomain {
    /// As RAPL calls it, below a `/` where it is part of another zone: `package-0`, `package-0/dram`, `psys`.
    pub name: String,
    /// Power in watts.
    pub watts: f64,
    /// What the counter shows at first, below [`RANGE_UJ`].
    pub start_uj: u64,
}

impl FakeDomain {
    /// A domain whose counter starts at a million microjoules.
    pub fn new(name: &str, watts: f64) -> Self {
        Self {
            name: name.to_owned(),
            watts,
            start_uj: 1_000_000,
        }
    }
}

/// What a domain was given until a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Injected {
    /// The domain.
    pub name: String,
    /// Microjoules since the tree was started.
    pub energy_uj: f64,
}

/// A tree whose counters advance until it is stopped or dropped.
#[derive(Debug)]
pub struct FakeTree {
    commands: Sender<Command>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Debug)]
enum Command {
    Watts(usize, f64),
    Report(Sender<Vec<Injected>>),
}

struct Zone {
    dir: PathBuf,
    domain: FakeDomain,
    energy_uj: f64,
}

impl FakeTree {
    /// Writes `dir/sys/class/powercap/...` and an empty `dir/proc`, and begins to advance the counters once a millisecond;
    /// `Roots::with_sysfs(dir)` finds it. Without a `/proc` nothing is known about other processes, so no window is refused
    /// for them.
    ///
    /// # Errors
    /// When files cannot be written, or a domain's name, power or start makes no sense.
    pub fn start(dir: &Path, domains: Vec<FakeDomain>) -> io::Result<Self> {
        fs::create_dir_all(dir.join("proc"))?;
        let class = dir.join("sys/class/powercap");
        let ids = ids(&domains)?;
        let mut zones = Vec::new();
        for (domain, id) in domains.into_iter().zip(ids) {
            let zone = Zone {
                dir: class.join(id),
                energy_uj: 0.0,
                domain,
            };
            fs::create_dir_all(&zone.dir)?;
            let own = zone.domain.name.rsplit('/').next().unwrap_or_default();
            fs::write(zone.dir.join("name"), format!("{own}\n"))?;
            fs::write(
                zone.dir.join("max_energy_range_uj"),
                format!("{RANGE_UJ}\n"),
            )?;
            zone.write()?;
            zones.push(zone);
        }
        let (commands, received) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("fake-powercap".to_owned())
            .spawn(move || advance(&mut zones, &received))?;
        Ok(Self {
            commands,
            thread: Some(thread),
        })
    }

    /// Changes the power of a domain, by its place in the list that the tree was started with.
    pub fn set_watts(&self, domain: usize, watts: f64) {
        // Where the thread ended with an error, `stop` tells.
        let _ = self.commands.send(Command::Watts(domain, watts));
    }

    /// What was injected until now; `None` when the files could not be written any more.
    pub fn injected(&self) -> Option<Vec<Injected>> {
        let (send, receive) = mpsc::channel();
        self.commands.send(Command::Report(send)).ok()?;
        receive.recv().ok()
    }

    /// Ends it: what was injected altogether. The files stay.
    ///
    /// # Errors
    /// When a file could not be written meanwhile.
    pub fn stop(mut self) -> io::Result<Vec<Injected>> {
        let injected = self.injected();
        self.end()?;
        injected.ok_or_else(|| io::Error::other("the fake meter ended early"))
    }

    fn end(&mut self) -> io::Result<()> {
        let (other, _) = mpsc::channel();
        drop(std::mem::replace(&mut self.commands, other));
        let joined = self.thread.take().map(JoinHandle::join);
        joined
            .unwrap_or(Ok(Ok(())))
            .unwrap_or_else(|_| Err(io::Error::other("the fake meter panicked")))
    }
}

impl Drop for FakeTree {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn advance(zones: &mut [Zone], commands: &mpsc::Receiver<Command>) -> io::Result<()> {
    let clock = MonotonicClock::new();
    let mut last_ns = clock.now_ns();
    loop {
        let command = match commands.recv_timeout(PERIOD) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        let now_ns = clock.now_ns();
        for zone in &mut *zones {
            // Watts times nanoseconds are nanojoules.
            zone.energy_uj += zone.domain.watts * (now_ns - last_ns) as f64 / 1000.0;
            zone.write()?;
        }
        last_ns = now_ns;
        match command {
            Some(Command::Watts(domain, watts)) => {
                if let Some(zone) = zones.get_mut(domain) {
                    zone.domain.watts = watts.max(0.0);
                }
            }
            Some(Command::Report(to)) => {
                let injected = zones.iter().map(|zone| Injected {
                    name: zone.domain.name.clone(),
                    energy_uj: zone.energy_uj,
                });
                // Whoever asked may have gone.
                let _ = to.send(injected.collect());
            }
            None => {}
        }
    }
}

impl Zone {
    /// Replaces the counter at once, so that no reader sees half of a number.
    fn write(&self) -> io::Result<()> {
        let shown = (self.domain.start_uj + self.energy_uj as u64) % RANGE_UJ;
        let new = self.dir.join("energy_uj.new");
        fs::write(&new, format!("{shown}\n"))?;
        fs::rename(new, self.dir.join("energy_uj"))
    }
}

/// The directory of each domain: top-level zones are numbered in their order, and the parts of each one again.
fn ids(domains: &[FakeDomain]) -> io::Result<Vec<String>> {
    let wrong = |domain: &FakeDomain, what: &str| {
        let text = format!("`{}`: {what}", domain.name);
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    };
    let mut tops: Vec<(&str, usize)> = Vec::new();
    let mut ids = Vec::new();
    for domain in domains {
        if !(domain.watts >= 0.0 && domain.watts.is_finite()) || domain.start_uj >= RANGE_UJ {
            return wrong(domain, "a power in watts and a start below the range");
        }
        match domain.name.split_once('/') {
            None if domain.name.is_empty() => return wrong(domain, "a name"),
            None => {
                ids.push(format!("intel-rapl:{:x}", tops.len()));
                tops.push((&domain.name, 0));
            }
            Some((above, _)) => {
                let Some(top) = tops.iter().position(|(name, _)| *name == above) else {
                    return wrong(domain, "the zone that contains it has to come before it");
                };
                ids.push(format!("intel-rapl:{top:x}:{:x}", tops[top].1));
                tops[top].1 += 1;
            }
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::super::{EnergyStatus, Meter, MeterOptions, probe};
    use super::*;
    use crate::Roots;

    #[test]
    fn a_meter_over_it_sees_what_was_injected() {
        let dir = tempfile::tempdir_in(place()).unwrap();
        let domains = vec![
            FakeDomain {
                // It starts again at 0 within the test.
                start_uj: RANGE_UJ - 1_000_000,
                ..FakeDomain::new("package-0", 400.0)
            },
            FakeDomain::new("package-0/dram", 10.0),
            FakeDomain::new("psys", 500.0),
        ];
        let tree = FakeTree::start(dir.path(), domains).unwrap();
        let roots = Roots::with_sysfs(dir.path());
        let found = probe(&roots);
        assert_eq!(found.status, EnergyStatus::Ok, "{found:?}");
        assert_eq!(found.domains, ["package-0", "package-0/dram", "psys"]);
        let mut meter = Meter::open(&roots, &MeterOptions::default()).unwrap();
        // What the meter sees between two readings lies between what was injected before and after each of them.
        let outer_start = tree.injected().unwrap();
        meter.begin();
        let inner_start = tree.injected().unwrap();
        let clock = MonotonicClock::new();
        let start_ns = clock.now_ns();
        while clock.now_ns() - start_ns < 1_050_000_000 {
            meter.tick();
            tree.injected().unwrap();
        }
        let inner_end = tree.injected().unwrap();
        let energy = meter.end();
        let outer_end = tree.stop().unwrap();
        assert_eq!(energy.status, EnergyStatus::Ok, "{energy:?}");
        let amounts = [energy.package_uj, energy.dram_uj, energy.psys_uj];
        for (i, amount) in amounts.into_iter().enumerate() {
            let amount = amount.unwrap() as f64;
            let least = inner_end[i].energy_uj - inner_start[i].energy_uj - 1.0;
            let most = outer_end[i].energy_uj - outer_start[i].energy_uj + 1.0;
            assert!(
                least <= amount && amount <= most,
                "{i}: {least} {amount} {most}"
            );
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (name, watts) in [
            ("", 1.0),
            ("package-1/core", 1.0),
            ("package-0", -1.0),
            ("package-0", f64::NAN),
        ] {
            let domains = vec![FakeDomain::new(name, watts)];
            assert!(
                FakeTree::start(dir.path(), domains).is_err(),
                "{name} {watts}"
            );
        }
    }

    #[test]
    fn zones_are_numbered_like_those_of_the_kernel() {
        let names = [
            "package-0",
            "package-0/core",
            "package-1",
            "package-0/dram",
            "psys",
        ];
        let domains: Vec<_> = names.map(|name| FakeDomain::new(name, 1.0)).into();
        let want = [
            "intel-rapl:0",
            "intel-rapl:0:0",
            "intel-rapl:1",
            "intel-rapl:0:1",
            "intel-rapl:2",
        ];
        assert_eq!(ids(&domains).unwrap(), want);
    }
}
