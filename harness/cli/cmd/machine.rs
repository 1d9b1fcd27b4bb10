//! `tritbench machine`: facts about this machine, and its measured limits.

use std::sync::atomic::Ordering;

use clap::Args;
use serde_json::{Value, json};
use trit_core::Probe;
use trit_measure::energy::{EnergyProbe, EnergyStatus};
use trit_measure::{Machine, sys::interrupt};
use trit_run::{Timeouts, WorkerError};

use crate::advice::{Moment, advise};
use crate::args::{Format, FormatArg, SysfsArg};
use crate::exit::{Exit, Failure, Outcome};
use crate::out::{Out, Table, human_bytes, say};
use crate::probe;

/// Describes this machine: processor, caches, instruction sets, clocks, memory, bandwidth, peaks
#[derive(Args, Debug)]
#[command(
    long_about = "Describes this machine: processor, caches, instruction sets, clocks, memory, bandwidth, peaks.\n\n\
                  What the machine does not tell is left empty. The fingerprint covers everything that changes how fast it is: results \
                  with equal fingerprints may be compared directly. Read bandwidth and arithmetic peaks are measured for one and for \
                  all threads, which takes some seconds; --facts leaves them out.",
    after_help = "Examples:
  tritbench machine
  tritbench machine --facts
  tritbench machine --check
  tritbench machine --format json > machine.json"
)]
pub(crate) struct MachineArgs {
    /// Only what the system tells: measure nothing
    #[arg(long)]
    facts: bool,

    /// Only what makes measurements unsteady here, and what to do about it
    #[arg(long, conflicts_with = "facts")]
    check: bool,

    #[command(flatten)]
    sysfs: SysfsArg,

    #[command(flatten)]
    format: FormatArg,
}

pub(crate) fn run(args: &MachineArgs) -> Outcome {
    let machine = trit_measure::machine();
    if args.check {
        let mut table = Table::new(&["check", "state", "value", "advice"]);
        for advice in advise(&machine, Moment::now()) {
            let text = |text: String| Some(text).filter(|text| !text.is_empty());
            table.row([
                advice.what.into(),
                advice.state.name().into(),
                text(advice.value).into(),
                text(advice.remedy).into(),
            ]);
        }
        Out::new().text(&table.render(args.format.format))?;
        return Ok(Exit::Done);
    }
    let energy = trit_measure::energy::probe(&args.sysfs.roots()?);
    let limits = if args.facts {
        Vec::new()
    } else {
        match limits(&machine)? {
            Some(limits) => limits,
            None => return Ok(Exit::Interrupted),
        }
    };
    let text = if args.format.format == Format::Json {
        let mut facts = serde_json::to_value(&machine).map_err(Failure::failed)?;
        facts["fingerprint"] = json!(machine.fingerprint());
        facts["energy"] = serde_json::to_value(&energy).map_err(Failure::failed)?;
        facts["measured"] = limits.iter().map(limit_json).collect();
        format!("{facts:#}\n")
    } else {
        facts(&machine, &energy, &limits).render(args.format.format)
    };
    Out::new().text(&text)?;
    Ok(Exit::Done)
}

/// Read bandwidth and arithmetic peaks on one and on all threads; `None` when interrupted.
fn limits(machine: &Machine) -> Result<Option<Vec<Probe>>, Failure> {
    if cfg!(debug_assertions) {
        say("note: this is a debug build, so the measured limits are too low");
    }
    let asked = interrupt::install().map_err(Failure::failed)?;
    let all = machine.limits.default_threads.unwrap_or(1);
    let threads = if all > 1 { vec![1, all] } else { vec![1] };
    say("measuring read bandwidth and arithmetic peaks");
    let measured = trit_run::measure_limits(
        &probe::worker_command()?,
        &threads,
        working_set(machine),
        Timeouts::default().setup,
        &|| asked.load(Ordering::SeqCst),
    );
    match measured {
        Ok(limits) => Ok(Some(limits)),
        Err(WorkerError::Interrupted) => Ok(None),
        Err(error) => Err(Failure::failed(error)),
    }
}

/// Bytes to read: what no cache holds, a quarter of the free memory at most.
fn working_set(machine: &Machine) -> u64 {
    // What a virtual machine reports as its last-level cache may be all of the host's.
    let cache = machine.last_level_cache_bytes().unwrap_or(0).min(512 << 20);
    let free = machine.memory.available_bytes.unwrap_or(4 << 30);
    (4 * cache).max(1 << 30).min(free / 4)
}

/// Amount a second of a limit, in billions, and its unit.
fn rate(limit: &Probe) -> (f64, &'static str) {
    let unit = if limit.subject == "probe:read" {
        "GB/s"
    } else {
        "GOPS"
    };
    // An amount a nanosecond is a billion a second.
    (limit.amount_per_iteration as f64 / limit.time_ns, unit)
}

fn limit_json(limit: &Probe) -> Value {
    let (rate, unit) = rate(limit);
    json!({
        "subject": limit.subject,
        "variant": limit.variant,
        "threads": limit.threads,
        "working_set_bytes": Some(limit.working_set_bytes).filter(|bytes| *bytes > 0),
        "rate": rate,
        "unit": unit,
    })
}

/// One fact a row; what is not known is empty.
fn facts(machine: &Machine, energy: &EnergyProbe, measured: &[Probe]) -> Table {
    let mut table = Table::new(&["fact", "value"]);
    let mut fact = |name: &str, value: Option<String>| {
        table.row([name.into(), value.map_or(Value::Null, Value::String)]);
    };
    let yes_no = |value: Option<bool>| value.map(|yes| if yes { "yes" } else { "no" }.to_owned());
    let text = |value: Option<u32>| value.map(|value| value.to_string());
    let mhz = |khz: Option<u64>| khz.map(|khz| format!("{} MHz", khz / 1000));

    let cpu = &machine.cpu;
    fact("host", machine.host.hostname.clone());
    fact("system", machine.host.os.clone());
    fact("kernel", machine.host.kernel.clone());
    fact("cpu", cpu.model.clone());
    fact("architecture", cpu.architecture.clone());
    fact("microcode", cpu.microcode.clone());
    fact("sockets", text(cpu.sockets));
    fact("cores", text(cpu.cores));
    fact("threads", text(cpu.threads));
    fact("smt", yes_no(cpu.smt));
    fact("isa", Some(cpu.isa.join(" ")).filter(|isa| !isa.is_empty()));
    fact("governor", cpu.governor.clone());
    fact("boost", yes_no(cpu.boost));
    fact("lowest clock", mhz(cpu.min_khz));
    fact("highest clock", mhz(cpu.max_khz));
    for cache in &machine.caches {
        let kind = match cache.kind.as_str() {
            "Data" => "d",
            "Instruction" => "i",
            _ => "",
        };
        fact(
            &format!("L{}{kind} cache", cache.level),
            Some(format!(
                "{} x {}, shared by {} threads",
                cache.instances,
                human_bytes(cache.size_bytes),
                cache.cpus
            )),
        );
    }
    let memory = &machine.memory;
    fact("memory", memory.total_bytes.map(human_bytes));
    fact("memory available", memory.available_bytes.map(human_bytes));
    fact("page", memory.page_bytes.map(human_bytes));
    fact(
        "transparent huge pages",
        memory.transparent_huge_pages.clone(),
    );
    fact("numa nodes", text(memory.numa_nodes));
    let virtualization = &machine.virtualization;
    fact("virtual machine", yes_no(virtualization.virtual_machine));
    fact("hypervisor", virtualization.hypervisor.clone());
    fact("container", virtualization.container.clone());
    let limits = &machine.limits;
    fact(
        "allowed cpus",
        limits.allowed_cpus.as_ref().map(|cpus| {
            let cpus: Vec<String> = cpus.iter().map(ToString::to_string).collect();
            cpus.join(" ")
        }),
    );
    fact(
        "cgroup cpu quota",
        limits.cpu_quota.map(|cpus| format!("{cpus} CPUs")),
    );
    fact(
        "cgroup memory limit",
        limits.memory_limit_bytes.map(human_bytes),
    );
    fact(
        "default threads",
        limits.default_threads.map(|threads| threads.to_string()),
    );
    fact(
        "energy meter",
        Some(match &energy.source {
            Some(source) if energy.status == EnergyStatus::Ok => source.clone(),
            _ => format!("none: {}", energy.reason),
        }),
    );
    fact("energy status", Some(energy.status.to_string()));
    fact(
        "energy domains",
        Some(energy.domains.join(" ")).filter(|domains| !domains.is_empty()),
    );
    fact("energy remedy", energy.remedy.clone());
    for source in &energy.sources {
        let domains = source.domains.join(" ");
        fact(
            &format!("energy by {}", source.source),
            Some(
                format!("{}: {} {domains}", source.status, source.reason)
                    .trim_end()
                    .to_owned(),
            ),
        );
    }
    for limit in measured {
        let (rate, unit) = rate(limit);
        let what = match limit.subject.as_str() {
            "probe:read" => "read bandwidth",
            "probe:peak:int8" => "int8 peak",
            "probe:peak:f32" => "f32 peak",
            other => other,
        };
        let threads = match limit.threads {
            1 => "1 thread".to_owned(),
            threads => format!("{threads} threads"),
        };
        fact(
            &format!("{what}, {threads}"),
            Some(format!("{rate:.1} {unit} ({})", limit.variant)),
        );
    }
    fact("fingerprint", Some(machine.fingerprint()));
    table
}
