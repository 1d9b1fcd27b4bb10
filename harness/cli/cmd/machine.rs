//! `tritbench machine`: facts about this machine.

use clap::Args;
use serde_json::{Value, json};
use trit_measure::Machine;

use crate::args::{Format, FormatArg};
use crate::exit::{Exit, Failure, Outcome};
use crate::out::{Out, Table, human_bytes};

/// Describes this machine: processor, caches, instruction sets, clocks, memory, limits
#[derive(Args, Debug)]
#[command(
    long_about = "Describes this machine: processor, caches, instruction sets, clocks, memory, limits.\n\n\
                  What the machine does not tell is left empty. The fingerprint covers everything that changes how fast it is: results \
                  with equal fingerprints may be compared directly.",
    after_help = "Examples:
  tritbench machine
  tritbench machine --format json > machine.json"
)]
pub(crate) struct MachineArgs {
    #[command(flatten)]
    format: FormatArg,
}

pub(crate) fn run(args: &MachineArgs) -> Outcome {
    let machine = trit_measure::machine();
    let text = if args.format.format == Format::Json {
        let mut facts = serde_json::to_value(&machine).map_err(Failure::failed)?;
        facts["fingerprint"] = json!(machine.fingerprint());
        format!("{facts:#}\n")
    } else {
        facts(&machine).render(args.format.format)
    };
    Out::new().text(&text)?;
    Ok(Exit::Done)
}

/// One fact a row; what is not known is empty.
fn facts(machine: &Machine) -> Table {
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
    fact("fingerprint", Some(machine.fingerprint()));
    table
}
