//! What measuring itself costs on this machine: `cargo run --release -p trit-measure --example overhead`.
//!
//! Prints, in nanoseconds, quantiles of an empty parallel region (for waiting threads that spin, and that are parked),
//! of reading the evidence of a sample, and the cost of a reading of the clock.

use std::io::{self, Write};

use trit_measure::{
    Clock, Evidence, MonotonicClock, ProcessTree, Roots, Team, TeamOptions, clock_facts, cpu_ns,
    default_threads, machine, memory, pss,
};

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    let clock = MonotonicClock::new();
    writeln!(out, "{}", machine().summary())?;
    let facts = clock_facts(&clock);
    writeln!(
        out,
        "clock: {:.1} ns a reading, steps of {} ns",
        facts.overhead_ns,
        facts
            .resolution_ns
            .map_or_else(|| "?".to_owned(), |ns| ns.to_string())
    )?;
    writeln!(
        out,
        "{:<28} {:>9} {:>9} {:>9} {:>9}",
        "", "min", "p10", "median", "p99"
    )?;
    let mut line = |name: &str, mut times: Vec<u64>| {
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        writeln!(
            out,
            "{name:<28} {:>9} {:>9} {:>9} {:>9}",
            at(0.0),
            at(0.1),
            at(0.5),
            at(0.99)
        )
    };
    for threads in 1..=default_threads() {
        for (name, spin_ns) in [("spinning", TeamOptions::SPIN_NS), ("parked", 0)] {
            let options = TeamOptions {
                threads,
                pin: true,
                spin_ns,
            };
            let team = Team::with_options(options).map_err(io::Error::other)?;
            let region = || {
                let start = clock.now_ns();
                team.run(|_| ());
                clock.now_ns() - start
            };
            let times = (0..20_000).map(|_| region()).skip(1000).collect();
            line(&format!("region, {threads} threads, {name}"), times)?;
        }
    }
    let evidence = || {
        let start = clock.now_ns();
        std::hint::black_box(Evidence::after());
        clock.now_ns() - start
    };
    line("evidence", (0..1000).map(|_| evidence()).collect())?;
    let resident = || {
        let start = clock.now_ns();
        std::hint::black_box(memory());
        clock.now_ns() - start
    };
    line("resident set", (0..1000).map(|_| resident()).collect())?;
    let walk = || {
        let start = clock.now_ns();
        std::hint::black_box(pss());
        clock.now_ns() - start
    };
    line("proportional set", (0..200).map(|_| walk()).collect())?;
    let own = std::process::id();
    let mut tree = ProcessTree::new(Roots::default(), own, own);
    let mut look = || {
        let start = clock.now_ns();
        std::hint::black_box(tree.sample(&clock, &cpu_ns));
        clock.now_ns() - start
    };
    line("look at a process", (0..1000).map(|_| look()).collect())
}
