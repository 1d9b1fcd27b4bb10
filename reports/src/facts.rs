//! Facts of a session for people: the machine in a line and in a table.

use serde_json::Value;
use trit_core::Session;

use crate::units::show_bytes;

fn text<'a>(machine: &'a Value, pointer: &str) -> Option<&'a str> {
    machine
        .pointer(pointer)?
        .as_str()
        .filter(|text| !text.is_empty())
}

fn number(machine: &Value, pointer: &str) -> Option<u64> {
    machine.pointer(pointer)?.as_u64()
}

/// A fact as text, whatever its type; nothing where the record does not have it.
pub(crate) fn fact(machine: &Value, pointer: &str) -> Option<String> {
    match machine.pointer(pointer)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
        _ => None,
    }
}

/// The processor with its cores, in a few words; `unknown machine` when the record does not say.
pub fn machine_line(session: &Session) -> String {
    let machine = &session.machine;
    let mut parts = Vec::new();
    parts.extend(text(machine, "/cpu/model").map(str::to_owned));
    let cores = number(machine, "/cpu/cores");
    let threads = number(machine, "/cpu/threads");
    parts.extend(match (cores, threads) {
        (Some(cores), Some(threads)) => Some(format!("{cores} cores, {threads} threads")),
        (Some(cores), None) => Some(format!("{cores} cores")),
        (None, Some(threads)) => Some(format!("{threads} threads")),
        (None, None) => None,
    });
    parts.extend(hypervisor(machine));
    if parts.is_empty() {
        return if session.host.is_empty() {
            "unknown machine".to_owned()
        } else {
            session.host.clone()
        };
    }
    parts.join(", ")
}

fn hypervisor(machine: &Value) -> Option<String> {
    let virtual_machine = machine
        .pointer("/virtualization/virtual_machine")
        .and_then(Value::as_bool)?;
    virtual_machine.then(|| {
        text(machine, "/virtualization/hypervisor").map_or_else(
            || "virtual machine".to_owned(),
            |name| format!("virtual machine ({name})"),
        )
    })
}

/// The machine as pairs of name and value; what the record lacks is left out.
pub(crate) fn machine_table(session: &Session) -> Vec<(&'static str, String)> {
    let machine = &session.machine;
    let mut rows = Vec::new();
    let mut put = |name, value: Option<String>| {
        if let Some(value) = value {
            rows.push((name, value));
        }
    };
    let owned = |pointer: &str| text(machine, pointer).map(str::to_owned);
    put("processor", owned("/cpu/model"));
    put(
        "cores",
        number(machine, "/cpu/cores").map(|count| count.to_string()),
    );
    put(
        "threads",
        number(machine, "/cpu/threads").map(|count| count.to_string()),
    );
    put(
        "threads used by default",
        number(machine, "/limits/default_threads").map(|count| count.to_string()),
    );
    put(
        "CPU quota",
        machine
            .pointer("/limits/cpu_quota")
            .and_then(Value::as_f64)
            .map(|quota| format!("{quota} CPUs")),
    );
    put("instruction sets", words(machine, "/cpu/isa"));
    put("caches", caches(machine));
    put("governor", owned("/cpu/governor"));
    put(
        "memory",
        number(machine, "/memory/total_bytes").map(|bytes| show_bytes(bytes as f64)),
    );
    put("huge pages", owned("/memory/transparent_huge_pages"));
    put("hypervisor", hypervisor(machine));
    put("system", owned("/host/os"));
    put("system kernel", owned("/host/kernel"));
    put("compiler", owned("/build/rustc"));
    rows
}

fn words(machine: &Value, pointer: &str) -> Option<String> {
    let words: Vec<&str> = machine
        .pointer(pointer)?
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn caches(machine: &Value) -> Option<String> {
    let caches = machine.pointer("/caches")?.as_array()?;
    let shown: Vec<String> = caches
        .iter()
        .filter_map(|cache| {
            let level = cache.get("level")?.as_u64()?;
            let size = cache.get("size_bytes")?.as_u64()?;
            let kind = match cache.get("kind").and_then(Value::as_str) {
                Some("Data" | "data") => "d",
                Some("Instruction" | "instruction") => "i",
                _ => "",
            };
            let instances = cache
                .get("instances")
                .and_then(Value::as_u64)
                .filter(|count| *count > 1);
            let times = instances.map_or_else(String::new, |count| format!("{count} x "));
            Some(format!("L{level}{kind} {times}{}", show_bytes(size as f64)))
        })
        .collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

/// Whether the program was built with debug assertions: its times mean nothing.
pub(crate) fn debug_build(session: &Session) -> bool {
    session
        .machine
        .pointer("/build/debug_assertions")
        .and_then(Value::as_bool)
        .unwrap_or(false)
}
