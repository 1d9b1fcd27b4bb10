//! What of a machine makes measurements unsteady, and what to do about it.

use trit_measure::Machine;

/// How a fact stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// As it should be.
    Good,
    /// It makes results slower or less steady.
    Look,
    /// The machine does not tell.
    Unknown,
}

impl State {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Look => "look",
            Self::Unknown => "unknown",
        }
    }
}

/// A fact with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advice {
    pub(crate) what: &'static str,
    pub(crate) state: State,
    pub(crate) value: String,
    /// Empty when there is nothing to do.
    pub(crate) remedy: String,
}

/// What only this moment tells.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Moment {
    /// Mean number of processes that wanted to run over the last minute.
    pub(crate) load: Option<f64>,
}

impl Moment {
    /// As the system tells; nothing where there is no `/proc/loadavg`.
    pub(crate) fn now() -> Self {
        let text = std::fs::read_to_string("/proc/loadavg").ok();
        Self {
            load: text.and_then(|text| text.split_whitespace().next()?.parse().ok()),
        }
    }
}

/// Looks at everything that is known to matter.
pub(crate) fn advise(machine: &Machine, moment: Moment) -> Vec<Advice> {
    let mut all = Vec::new();
    let mut put = |what, state, value: Option<String>, advice: &str| {
        let known = value.is_some();
        all.push(Advice {
            what,
            state: if known { state } else { State::Unknown },
            value: value.unwrap_or_default(),
            remedy: if state == State::Look && known {
                advice.to_owned()
            } else {
                String::new()
            },
        });
    };
    let look = |bad: bool| if bad { State::Look } else { State::Good };
    let yes_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let cpu = &machine.cpu;
    let limits = &machine.limits;

    let debug = machine.build.debug_assertions == Some(true);
    put(
        "build",
        look(debug),
        machine.build.profile.clone().map(|profile| {
            if debug {
                format!("{profile}, with debug assertions")
            } else {
                profile
            }
        }),
        "build with --release: times of this program mean nothing",
    );
    let steady = cpu
        .governor
        .as_deref()
        .is_some_and(|governor| governor == "performance");
    put(
        "governor",
        look(!steady),
        cpu.governor.clone(),
        "cpupower frequency-set -g performance, so that the clock does not follow the load",
    );
    put(
        "boost",
        look(cpu.boost == Some(true)),
        cpu.boost.map(yes_no),
        "the clock depends on temperature and on other cores; for steady results write 0 to /sys/devices/system/cpu/cpufreq/boost \
         (intel_pstate: 1 to no_turbo)",
    );
    put(
        "smt",
        look(cpu.smt == Some(true)),
        cpu.smt.map(yes_no),
        "two threads share a core: use at most one thread a core (--threads), or write off to /sys/devices/system/cpu/smt/control",
    );
    let pages = machine.memory.transparent_huge_pages.clone();
    put(
        "huge pages",
        look(pages.as_deref() == Some("never")),
        pages,
        "write madvise to /sys/kernel/mm/transparent_hugepage/enabled: weights on 4 KiB pages cost bandwidth",
    );
    let cpus = limits
        .allowed_cpus
        .as_ref()
        .map(Vec::len)
        .or(cpu.threads.map(|threads| threads as usize));
    // A tenth of a processor is what a system does by itself.
    put(
        "load",
        look(moment.load.is_some_and(|load| load > 0.1)),
        moment.load.map(|load| format!("{load:.2}")),
        &format!(
            "something else wants the {}: stop it, or wait until the load is below 0.1",
            match cpus {
                Some(1) => "CPU".to_owned(),
                Some(count) => format!("{count} CPUs"),
                None => "CPUs".to_owned(),
            }
        ),
    );
    let quota = limits.cpu_quota;
    let whole = quota.is_some_and(|cpus| cpus.fract() == 0.0);
    put(
        "cpu quota",
        look(quota.is_some()),
        Some(quota.map_or_else(|| "none".to_owned(), |cpus| format!("{cpus} CPUs"))),
        if whole {
            "a control group stops threads that used up their share: pin the container to CPUs (cpuset) instead of giving it a quota"
        } else {
            "a quota that is no whole number of CPUs stops threads within every period: use a whole number, or a cpuset"
        },
    );
    let some = limits
        .allowed_cpus
        .as_ref()
        .zip(cpu.threads)
        .map(|(allowed, all)| format!("{} of {all}", allowed.len()));
    put("allowed cpus", State::Good, some, "");
    let nodes = machine.memory.numa_nodes;
    put(
        "numa nodes",
        look(nodes.is_some_and(|nodes| nodes > 1)),
        nodes.map(|nodes| nodes.to_string()),
        "memory of another node is slower: numactl --cpunodebind=0 --membind=0 keeps threads and weights together",
    );
    let tight = machine
        .memory
        .available_bytes
        .is_some_and(|bytes| bytes < 4 << 30);
    put(
        "memory available",
        look(tight),
        machine.memory.available_bytes.map(crate::out::human_bytes),
        "cold cells want 1 GiB of weights for every worker: close what is not needed, or use --filter gemv-warm",
    );
    let vm = machine.virtualization.virtual_machine;
    put(
        "virtual machine",
        look(vm == Some(true)),
        vm.map(|yes| match &machine.virtualization.hypervisor {
            Some(name) if yes => name.clone(),
            _ => yes_no(yes),
        }),
        "other guests share caches and memory: believe ratios that were measured in turns (ab, pairs), and tritbench selftest",
    );
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady() -> Machine {
        let mut machine = Machine::default();
        machine.build.profile = Some("release".into());
        machine.build.debug_assertions = Some(false);
        machine.cpu.governor = Some("performance".into());
        machine.cpu.boost = Some(false);
        machine.cpu.smt = Some(false);
        machine.cpu.threads = Some(8);
        machine.memory.transparent_huge_pages = Some("madvise".into());
        machine.memory.numa_nodes = Some(1);
        machine.memory.available_bytes = Some(32 << 30);
        machine.virtualization.virtual_machine = Some(false);
        machine.limits.allowed_cpus = Some(vec![0, 1]);
        machine
    }

    fn states(machine: &Machine, load: Option<f64>) -> Vec<(&'static str, State)> {
        advise(machine, Moment { load })
            .into_iter()
            .map(|advice| (advice.what, advice.state))
            .collect()
    }

    #[test]
    fn a_steady_machine_needs_no_advice() {
        let all = advise(&steady(), Moment { load: Some(0.02) });
        for advice in &all {
            assert_eq!(advice.state, State::Good, "{advice:?}");
            assert!(advice.remedy.is_empty(), "{advice:?}");
        }
        assert_eq!(all.len(), 11);
    }

    #[test]
    fn every_trouble_is_told_with_a_remedy() {
        type Change = fn(&mut Machine);
        let troubles: [(&str, Change); 9] = [
            ("build", |m| m.build.debug_assertions = Some(true)),
            ("governor", |m| m.cpu.governor = Some("powersave".into())),
            ("boost", |m| m.cpu.boost = Some(true)),
            ("smt", |m| m.cpu.smt = Some(true)),
            ("huge pages", |m| {
                m.memory.transparent_huge_pages = Some("never".into());
            }),
            ("cpu quota", |m| m.limits.cpu_quota = Some(1.5)),
            ("numa nodes", |m| m.memory.numa_nodes = Some(2)),
            ("memory available", |m| {
                m.memory.available_bytes = Some(1 << 30);
            }),
            ("virtual machine", |m| {
                m.virtualization.virtual_machine = Some(true);
            }),
        ];
        for (what, change) in troubles {
            let mut machine = steady();
            change(&mut machine);
            let all = advise(&machine, Moment { load: Some(0.0) });
            let told: Vec<&Advice> = all.iter().filter(|a| a.state == State::Look).collect();
            assert_eq!(told.len(), 1, "{what}: {told:?}");
            assert_eq!(told[0].what, what);
            assert!(told[0].remedy.len() > 20, "{told:?}");
        }
        assert!(states(&steady(), Some(1.5)).contains(&("load", State::Look)));
    }

    #[test]
    fn what_is_not_told_is_unknown() {
        let all = states(&Machine::default(), None);
        let told = advise(&Machine::default(), Moment::default());
        assert!(
            told.iter().all(|advice| advice.remedy.is_empty()),
            "{told:?}"
        );
        for (what, state) in all {
            let want = if what == "cpu quota" {
                State::Good
            } else {
                State::Unknown
            };
            assert_eq!(state, want, "{what}");
        }
    }
}
