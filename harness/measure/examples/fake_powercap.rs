//! A meter made of files for tests on a machine without one:
//! `cargo run -p trit-measure --example fake_powercap -- DIR package-0=30 package-0/dram=4 psys=50`.
//!
//! Writes a powercap tree below `DIR` whose counters advance by the given watts in real time; `--sysfs-root DIR` then
//! finds it. `DIR` is best below `/dev/shm`, where replacing a file is quick. Prints `ready`; a line `package-0=45` on its standard input changes a power. At the end of the input it
//! prints what it injected, a line `DOMAIN MICROJOULES` each.

use std::io::{self, BufRead, Write};
use std::path::Path;

use trit_measure::energy::fake::{FakeDomain, FakeTree};

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or_else(|| wrong("DIR is missing"))?;
    let domains: Vec<FakeDomain> = args
        .map(|arg| power(&arg).map(|(name, watts)| FakeDomain::new(name, watts)))
        .collect::<Result<_, _>>()?;
    let names: Vec<String> = domains.iter().map(|domain| domain.name.clone()).collect();
    let tree = FakeTree::start(Path::new(&dir), domains)?;
    let mut out = io::stdout().lock();
    writeln!(out, "ready")?;
    out.flush()?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (name, watts) = power(line.trim())?;
        let domain = names.iter().position(|known| known == name);
        tree.set_watts(domain.ok_or_else(|| wrong(name))?, watts);
    }
    for injected in tree.stop()? {
        writeln!(out, "{} {:.0}", injected.name, injected.energy_uj)?;
    }
    Ok(())
}

/// `package-0=30`
fn power(text: &str) -> io::Result<(&str, f64)> {
    let (name, watts) = text.split_once('=').ok_or_else(|| wrong(text))?;
    Ok((name, watts.parse().map_err(|_| wrong(text))?))
}

fn wrong(text: &str) -> io::Error {
    let text = format!("`{text}`; hint: fake_powercap DIR package-0=30 package-0/dram=4 psys=50");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
