//! From suites to plans: which cells, how much time and memory, and what the command line changes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use trit_core::{Plan, Station, Status, Suite, ThreadCount, Workload, embedded_suite};
use trit_run::protocol::KernelFacts;
use trit_run::{Overrides, PlanContext, PlanError, plan};

fn facts(id: &str, ns: f64) -> KernelFacts {
    KernelFacts {
        id: id.into(),
        dense: id.contains("-dense-"),
        isa: "scalar".into(),
        layout: id
            .split("-dense-")
            .next()
            .filter(|format| *format != id)
            .unwrap_or("i2s")
            .into(),
        weight_bits: if id.starts_with("f32") { 32.0 } else { 2.0 },
        gemv_ns_per_weight: Some(ns),
        gemm_ns_per_weight: Some(ns / 2.0),
        ..KernelFacts::default()
    }
}

/// Two cores, about as fast as they come.
fn context() -> PlanContext {
    let mut missing = facts("w2a8-tile-amx", 0.001);
    missing.unavailable = "the CPU does not report amx".into();
    PlanContext {
        threads: 2,
        kernels: vec![
            facts("w2a8-naive-scalar", 0.8),
            facts("w2a8-swar-scalar", 0.3),
            facts("w2a8-mad-avx2", 0.02),
            facts("w2a8-mad-avxvnni", 0.015),
            facts("w2a8-mad-avx512vnni", 0.01),
            facts("w1.6a8-mad-avx512vbmi", 0.012),
            missing,
            facts("f32-dense-scalar", 0.9),
            facts("f32-dense-avx2", 0.3),
            facts("f16-dense-avx2", 0.15),
        ],
        memory_bytes: 24 << 30,
        l3_bytes: 32 << 20,
        ..PlanContext::default()
    }
}

fn suite(text: &str) -> Suite {
    Suite::parse("test.toml", &format!("[suite]\nname = \"test\"\n{text}")).unwrap()
}

fn quick() -> Suite {
    Suite::parse("quick.toml", embedded_suite("quick").unwrap()).unwrap()
}

fn ids(plan: &Plan) -> Vec<&str> {
    plan.cells
        .iter()
        .map(|planned| planned.cell.cell.as_str())
        .collect()
}

#[test]
fn quick_is_what_the_first_look_promises() {
    let plan = plan(&quick(), &context()).unwrap();
    let ids = ids(&plan);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    let available = [
        "w2a8-naive-scalar",
        "w2a8-swar-scalar",
        "w2a8-mad-avx2",
        "w2a8-mad-avxvnni",
        "w2a8-mad-avx512vnni",
        "w1.6a8-mad-avx512vbmi",
        "f32-dense-scalar",
        "f32-dense-avx2",
        "f16-dense-avx2",
    ];
    for threads in [1, 2] {
        for kernel in available {
            for workload in ["gemv-cold", "gemv-warm"] {
                let id = format!("{kernel}/{workload}/2560x2560/t{threads}");
                // Two baselines of one format: the slower one has no cold cell.
                let slower = kernel == "f32-dense-scalar" && workload == "gemv-cold";
                assert_eq!(ids.contains(&id.as_str()), !slower, "{id}");
            }
            let gemm = format!("{kernel}/gemm/2560x2560/m32/t{threads}");
            assert_eq!(
                ids.contains(&gemm.as_str()),
                kernel != "w2a8-naive-scalar",
                "{gemm}"
            );
            for workload in ["prefill", "decode"] {
                let of = |model: &str| {
                    let start = format!("engine:{kernel}/{workload}/synth:{model}/");
                    let end = format!("/t{threads}");
                    ids.iter()
                        .any(|id| id.starts_with(&start) && id.ends_with(&end))
                };
                let best = kernel == "w2a8-mad-avx512vnni";
                let other = !best && kernel != "w2a8-naive-scalar" && !kernel.contains("dense");
                assert_eq!(of("2b4t"), best, "{kernel}");
                assert_eq!(of("125m"), other, "{kernel}");
            }
        }
        for kernel in [
            "w2a8-mad-avx512vnni",
            "w1.6a8-mad-avx512vbmi",
            "w2a8-mad-avxvnni",
        ] {
            for shape in ["2560x2560", "640x2560", "6912x2560", "2560x6912"] {
                let id = format!("{kernel}/gemm/{shape}/m128/t{threads}");
                assert!(ids.contains(&id.as_str()), "{id}");
            }
        }
        assert!(
            !ids.iter()
                .any(|id| id.starts_with("w2a8-mad-avx2/gemm/640x2560"))
        );
    }
    assert!(!ids.iter().any(|id| id.contains("amx")));
    // One pair for each number of threads: the best kernel and the read probe over the same bytes.
    assert_eq!(plan.pairs.len(), 2);
    for pair in &plan.pairs {
        assert!(
            pair.a
                .starts_with("w2a8-mad-avx512vnni/gemv-cold/2560x2560/t")
        );
        let probe = plan.cell(&pair.b).unwrap();
        assert_eq!(probe.cell.subject, "probe:read");
        assert_eq!(probe.cell.bytes_per_call, Some(2560 * 2560 / 4));
        assert_eq!(probe.cell.cache, "cold");
        assert_eq!(probe.station, Station::Pair);
    }
    assert!(
        plan.cells
            .iter()
            .all(|planned| planned.cell.status == Status::Skipped)
    );
    // It fits in its budget with something to spare, and nobody goes without.
    assert!(
        plan.expected_ns <= plan.budget_ns,
        "{} {}",
        plan.expected_ns,
        plan.budget_ns
    );
    assert!(plan.budget_ns <= 100_000_000_000);
    for planned in plan
        .cells
        .iter()
        .filter(|planned| planned.station != Station::Pair)
    {
        assert!(
            planned.budget_ns >= 2 * planned.visit_ns,
            "{}",
            planned.cell.cell
        );
    }
    assert!(plan.notes.is_empty(), "{:?}", plan.notes);
}

#[test]
fn a_plan_is_a_function_of_its_input() {
    assert_eq!(
        plan(&quick(), &context()).unwrap(),
        plan(&quick(), &context()).unwrap()
    );
}

#[test]
fn waves_fit_in_memory() {
    let mut small = context();
    small.memory_bytes = 6 << 30;
    let plan = plan(&quick(), &small).unwrap();
    assert!(plan.waves() > 2);
    for wave in 0..plan.waves() {
        let mut held = BTreeSet::new();
        let cells = plan
            .cells
            .iter()
            .filter(|p| p.wave == wave && p.station == Station::Kernel);
        let micro: u64 = cells
            .filter(|p| held.insert((&p.cell.kernel, p.cell.rows, p.cell.k, &p.cell.cache)))
            .map(|p| p.memory_bytes)
            .sum();
        let pairs: u64 = plan
            .pairs
            .iter()
            .filter(|pair| pair.wave == wave)
            .map(|pair| pair.memory_bytes)
            .sum();
        assert!(
            micro + pairs <= plan.memory_limit_bytes,
            "wave {wave}: {micro} {pairs}"
        );
    }
    // Whole models do not share a wave with micro cells: their visits are a thousand times longer.
    let of = |station| {
        let cells = plan
            .cells
            .iter()
            .filter(move |planned| planned.station == station);
        cells.map(|planned| planned.wave).collect::<BTreeSet<_>>()
    };
    assert!(of(Station::Kernel).is_disjoint(&of(Station::Engine)));
}

#[test]
fn what_does_not_fit_is_said() {
    let mut tiny = context();
    tiny.memory_bytes = 1 << 30;
    let plan = plan(&quick(), &tiny).unwrap();
    let model = plan
        .cells
        .iter()
        .find(|planned| planned.cell.model == "synth:2b4t")
        .unwrap();
    assert_eq!(model.cell.status, Status::OverLimit);
    assert!(
        model.cell.reason.contains("GB may be used"),
        "{}",
        model.cell.reason
    );
    assert!(
        plan.notes
            .iter()
            .any(|note| note.contains("memory is short")),
        "{:?}",
        plan.notes
    );
    assert_eq!(plan.cold_bytes, (1 << 30) / 4);
}

#[test]
fn large_caches_make_large_working_sets_up_to_a_limit() {
    let cold = |l3_bytes| {
        let context = PlanContext {
            l3_bytes,
            memory_bytes: 1 << 40,
            ..context()
        };
        plan(&quick(), &context).unwrap().cold_bytes
    };
    assert_eq!(cold(32 << 20), 1 << 30);
    assert_eq!(cold(384 << 20), 4 * (384 << 20));
    // A guest that sees all the caches of its host.
    assert_eq!(cold(4 << 30), 4 * (512 << 20));
}

#[test]
fn the_command_line_has_the_last_word() {
    let with = |overrides| {
        let context = PlanContext {
            overrides,
            ..context()
        };
        plan(&quick(), &context)
    };
    let only = with(Overrides {
        kernels: vec!["w2a8-mad-avx2".into(), "w2a8-tile-amx".into()],
        threads: vec![ThreadCount::Count(3)],
        models: vec!["some/model.gguf".into()],
        budget: Some(Duration::from_secs(7)),
        seed: Some(99),
        ..Overrides::default()
    })
    .unwrap();
    assert_eq!((only.seed, only.budget_ns), (99, 7_000_000_000));
    for planned in &only.cells {
        let cell = &planned.cell;
        assert_eq!(cell.threads, Some(3), "{}", cell.cell);
        assert!(
            ["w2a8-mad-avx2", "w2a8-tile-amx", ""].contains(&cell.kernel.as_str()),
            "{}",
            cell.cell
        );
        assert!(["some/model.gguf", ""].contains(&cell.model.as_str()));
        // Asked for by name: planned, and skipped with the reason.
        if cell.kernel == "w2a8-tile-amx" {
            assert_eq!(cell.reason, "the CPU does not report amx");
        }
    }
    assert!(ids(&only).iter().any(|id| id.starts_with("w2a8-tile-amx/")));
    assert!(ids(&only).contains(&"engine:w2a8-mad-avx2/decode/some/model.gguf/p64/g16/t3"));
    let filtered = with(Overrides {
        filter: Some("dispatch".into()),
        ..Overrides::default()
    })
    .unwrap();
    assert_eq!(
        ids(&filtered),
        [
            "dispatch:team/dispatch/t1",
            "dispatch:rayon/dispatch/t1",
            "dispatch:team/dispatch/t2",
            "dispatch:rayon/dispatch/t2"
        ]
    );
    assert!(filtered.pairs.is_empty());
    let error = with(Overrides {
        kernels: vec!["w2a8-mad-avx3".into()],
        ..Overrides::default()
    });
    let error = error.unwrap_err();
    assert!(matches!(error, PlanError::UnknownKernel { .. }));
    assert!(error.to_string().contains("w2a8-mad-avx2"), "{error}");
    let error = with(Overrides {
        threads: vec![ThreadCount::Count(0)],
        ..Overrides::default()
    });
    assert_eq!(error.unwrap_err(), PlanError::NoThreads);
    let error = with(Overrides {
        filter: Some("nothing".into()),
        ..Overrides::default()
    });
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("no cell id contains `nothing`")
    );
}

#[test]
fn entries_expand_in_order_and_once() {
    let plan_of = |text: &str| plan(&suite(text), &context()).unwrap();
    let twice = plan_of(
        r#"[[micro]]
workloads = ["gemm", "prepare", "pack"]
kernels = ["w2a8-mad-avx2", "best:2", "f16-dense-avx2", "!best:1"]
shapes = ["64x128", "64x128"]
tokens = [4, 8]
threads = [1, "all", 2]
[[micro]]
workloads = ["pack"]
kernels = ["w2a8-mad-avx2"]
shapes = ["64x128"]
"#,
    );
    assert_eq!(
        ids(&twice)[..6],
        [
            "w2a8-mad-avx2/gemm/64x128/m4/t1",
            "w2a8-mad-avx2/gemm/64x128/m4/t2",
            "w2a8-mad-avx2/gemm/64x128/m8/t1",
            "w2a8-mad-avx2/gemm/64x128/m8/t2",
            "w1.6a8-mad-avx512vbmi/gemm/64x128/m4/t1",
            "w1.6a8-mad-avx512vbmi/gemm/64x128/m4/t2",
        ]
    );
    // Three kernels, two token counts, two thread counts, two workloads; packing has no tokens, and no baseline.
    assert_eq!(twice.cells.len(), 3 * 2 * 2 * 2 + 2 * 2);
    assert!(
        twice
            .cells
            .iter()
            .all(|planned| planned.cell.workload != Workload::GemvCold)
    );
    let pair = plan_of(
        r#"[[pair]]
workload = "gemm"
subject = "best:1"
against = "probe:peak"
shapes = ["64x128"]
tokens = [16]
threads = [2]
[[pair]]
workload = "gemv-warm"
subject = "best:1"
against = "w2a8-mad-avx2"
shapes = ["64x128"]
threads = [1]
[[pair]]
workload = "gemv-warm"
subject = "best:1"
against = "w2a8-mad-avx512vnni"
shapes = ["64x128"]
threads = [1]
"#,
    );
    // A pair of a kernel with itself is none.
    assert_eq!(pair.pairs.len(), 2);
    assert_eq!(pair.pairs[0].b, "probe:peak/int8-scalar/t2");
    assert_eq!(pair.pairs[1].b, "w2a8-mad-avx2/gemv-warm/64x128/t1");
}

#[test]
fn a_format_stands_for_its_fastest_baseline() {
    let plan = plan(
        &suite(
            "[[pair]]\nworkload = \"gemv-cold\"\nsubject = \"best\"\nagainst = \"dense:f32\"\nshapes = [\"64x128\"]\nthreads = [1]\n",
        ),
        &context(),
    )
    .unwrap();
    assert_eq!(plan.pairs.len(), 1);
    assert!(ids(&plan).contains(&"f32-dense-avx2/gemv-cold/64x128/t1"));
}

#[test]
fn a_short_budget_is_said() {
    let context = PlanContext {
        overrides: Overrides {
            budget: Some(Duration::from_secs(1)),
            ..Overrides::default()
        },
        ..context()
    };
    let plan = plan(&quick(), &context).unwrap();
    assert!(
        plan.notes
            .iter()
            .any(|note| note.contains("the budget is 1.0 s")),
        "{:?}",
        plan.notes
    );
}

#[test]
fn shapes_are_those_of_the_engine() {
    let mut known = 0;
    for name in trit_core::shape_names() {
        let Ok(engine) = trit_engine::synth::Shape::named(name) else {
            continue;
        };
        let suite = trit_core::embedded_shape(name).unwrap();
        let counts = [
            suite.hidden,
            suite.ffn,
            suite.layers,
            suite.heads,
            suite.kv_heads,
            suite.vocab,
        ];
        let of_engine = [
            engine.hidden,
            engine.ffn,
            engine.layers,
            engine.heads,
            engine.kv_heads,
            engine.vocab,
        ];
        assert_eq!(counts, of_engine.map(|count| count as u64), "{name}");
        known += 1;
    }
    // The twelve of arXiv 2410.16144 and 2B4T.
    assert!(known >= 13, "{known}");
}

#[test]
fn every_key_of_a_model_can_be_a_list() {
    let text = r#"
[[generate]]
workloads = ["prefill", "decode"]
models = ["synth:125m"]
kernels = ["w2a8-mad-avx2", "w2a8-swar-scalar"]
threads = [1]
prompt_tokens = [16, 64]
gen_tokens = [4, 8]
depth = [0, 4096]
batch = [1, 2, 32]
kv = ["f16", "i8"]
head = ["f16", "q6_k"]
ubatch = [128, 512]
"#;
    let all = plan(&suite(text), &context()).unwrap();
    // Prompts have no answers and no sequences: 2 kernels, 2 prompts, 2 depths, 8 set-ups; decode 2 answers and 3 batches more.
    let of = |workload| {
        let cells = all.cells.iter();
        cells
            .filter(|planned| planned.cell.workload == workload)
            .count()
    };
    assert_eq!(of(Workload::Prefill), 2 * 2 * 2 * 8);
    assert_eq!(of(Workload::Decode), 2 * 2 * 2 * 8 * 2 * 3);
    let ids = ids(&all);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    for id in [
        "engine:w2a8-mad-avx2/prefill/synth:125m/p16/u128/t1",
        "engine:w2a8-mad-avx2/decode/synth:125m/p64/g8/t1",
        "engine:w2a8-swar-scalar/decode/synth:125m/p64/g8/b32/d4096/kv-i8/head-q6_k/u128/t1",
    ] {
        assert!(ids.contains(&id), "{id}");
    }
    let cell = &all.cell(ids[ids.len() - 1]).unwrap().cell;
    assert_eq!(
        (
            cell.batch,
            cell.depth,
            cell.ubatch,
            cell.kv.as_str(),
            cell.head.as_str()
        ),
        (Some(32), Some(4096), Some(512), "i8", "q6_k")
    );
    // More sequences take more time and more memory.
    let planned = |batch: &str| {
        let id = format!("engine:w2a8-mad-avx2/decode/synth:125m/p64/g8{batch}/t1");
        all.cell(&id).unwrap()
    };
    let (one, many) = (planned(""), planned("/b32"));
    assert!(many.visit_ns > one.visit_ns && many.setup_ns > one.setup_ns);
    assert!(many.memory_bytes > one.memory_bytes);
}

#[test]
fn requests_are_named_as_the_field_names_them() {
    let text = r#"
[[generate]]
models = ["synth:125m"]
kernels = ["w2a8-mad-avx2"]
threads = [1]
tests = ["pp512", "tg128", "pp512+tg128", "tg128 @ d4096"]
[[generate]]
workloads = ["decode"]
models = ["synth:125m"]
kernels = ["w2a8-mad-avx2"]
threads = [1]
prompts = ["library"]
gen_tokens = 4
"#;
    let all = plan(&suite(text), &context()).unwrap();
    assert_eq!(
        ids(&all),
        [
            "engine:w2a8-mad-avx2/prefill/synth:125m/p512/t1",
            "engine:w2a8-mad-avx2/decode/synth:125m/p1/g128/t1",
            "engine:w2a8-mad-avx2/decode/synth:125m/p512/g128/t1",
            "engine:w2a8-mad-avx2/decode/synth:125m/p1/g128/d4096/t1",
            "engine:w2a8-mad-avx2/decode/synth:125m/library/g4/t1",
        ]
    );
    let text = &all.cells[4].cell;
    // How many tokens it is, is known when the model is loaded.
    assert_eq!(
        (text.prompt.as_str(), text.prompt_tokens),
        ("library", None)
    );
}

#[test]
fn models_that_do_not_fit_are_projected_from_parts_that_do() {
    let large = Suite::parse("large.toml", embedded_suite("large").unwrap()).unwrap();
    let plan = plan(&large, &context()).unwrap();
    let of = |model: &str| {
        let cells = plan.cells.iter();
        let cells = cells.filter(move |p| {
            p.cell.model == model || p.cell.model.starts_with(&format!("{model}:"))
        });
        cells.collect::<Vec<_>>()
    };
    let statuses = |model: &str| of(model).iter().map(|p| p.cell.status).collect::<Vec<_>>();
    // The whole, its parts, and the projection; one that fits is measured besides, or alone.
    let parts = [Status::Skipped, Status::Skipped, Status::Projected];
    assert_eq!(statuses("synth:100b")[0], Status::OverLimit);
    assert_eq!(statuses("synth:100b")[1..], parts);
    assert_eq!(statuses("synth:700m")[0], Status::Skipped);
    assert_eq!(statuses("synth:700m")[1..], parts);
    assert_eq!(statuses("synth:13b"), [Status::Skipped]);
    for model in ["synth:100b", "synth:700m"] {
        let [whole, few, many, projected] = of(model)[..] else {
            panic!("{model}: not four cells")
        };
        for part in [few, many] {
            assert!(part.memory_bytes <= plan.memory_limit_bytes);
            assert!(part.budget_ns > 0, "{}", part.cell.cell);
        }
        assert_eq!(
            projected.cell.cell,
            format!("{}/projected", whole.cell.cell)
        );
        let from = format!("{} {}", few.cell.cell, many.cell.cell);
        assert_eq!(projected.cell.projected_from, from);
        assert_eq!(projected.budget_ns, 0);
        assert!(projected.cell.reason.contains(&many.cell.model));
    }
    // What cannot run is not projected either.
    let mut few_threads = context();
    few_threads.overrides.threads = vec![ThreadCount::Count(4)];
    let nothing = trit_run::plan(&large, &few_threads).unwrap();
    assert!(
        nothing
            .cells
            .iter()
            .all(|p| p.cell.projected_from.is_empty())
    );
}

#[test]
fn a_side_whose_pair_cannot_run_says_why() {
    let text = r#"
[[pair]]
workload = "gemm"
subject = "w2a8-tile-amx"
against = "w2a8-mad-avx2"
shapes = ["64x256"]
tokens = [16]
threads = [1]
"#;
    let plan = plan(&suite(text), &context()).unwrap();
    assert!(plan.pairs.is_empty());
    let reason = |subject: &str| {
        let cell = plan
            .cells
            .iter()
            .find(|p| p.cell.subject == subject)
            .unwrap();
        assert_eq!(cell.cell.status, Status::Skipped);
        cell.cell.reason.clone()
    };
    assert_eq!(reason("w2a8-tile-amx"), "the CPU does not report amx");
    let other = reason("w2a8-mad-avx2");
    assert!(
        other.contains("w2a8-tile-amx/gemm") && other.contains("report amx"),
        "{other}"
    );
}

/// Two engines and a program on 1 and 2 threads; each file is said to have a gigabyte.
const BESIDE: &str = r#"
[run]
rounds = 9
[[generate]]
workloads = ["decode", "prefill"]
models = ["ours.gguf"]
kernels = ["w2a8-mad-avx2"]
head = ["f16", "q6_k"]
threads = [1, 2]
[[program]]
name = "one"
workload = "decode"
command = ["one"]
models = ["theirs.gguf"]
same_as = ["ours.gguf"]
threads = [1, 2]
[[program]]
name = "two"
workload = "prefill"
command = ["two"]
models = ["theirs.gguf"]
same_as = ["ours.gguf"]
head = "q6_k"
threads = [1, 2]
"#;

fn beside(memory_bytes: u64) -> Plan {
    let mut context = context();
    context.memory_bytes = memory_bytes;
    for file in ["ours.gguf", "theirs.gguf"] {
        context.model_bytes.insert(file.into(), 1_000_000_000);
    }
    plan(&suite(BESIDE), &context).unwrap()
}

#[test]
fn what_is_held_against_one_another_shares_a_wave() {
    let waves = |plan: &Plan| {
        let cells = plan.cells.iter();
        let waves = cells.map(|planned| (planned.cell.threads.unwrap(), planned.wave));
        waves.collect::<BTreeSet<_>>()
    };
    // Four engines of 1.57 GB and the largest program, for each program is gone when the next one starts: 7.8 GB of 60 % of all.
    let all = beside(14_000_000_000);
    assert_eq!(all.cells.len(), 12);
    assert_eq!(waves(&all), BTreeSet::from([(1, 0), (2, 0)]));
    // Two engines and a program: what has as many threads stays together.
    let halves = beside(9_000_000_000);
    assert_eq!(waves(&halves), BTreeSet::from([(1, 0), (2, 1)]));
}

#[test]
fn a_suite_can_ask_for_rounds() {
    let plan = beside(24 << 30);
    assert_eq!(plan.rounds, Some(9));
    for planned in &plan.cells {
        assert_eq!(planned.budget_ns, 9 * planned.visit_ns);
    }
    let refused = Suite::parse(
        "test.toml",
        "[suite]\nname = \"a\"\n[run]\nrounds = 0\n[[micro]]\nworkloads = [\"dispatch\"]",
    );
    let message = refused.unwrap_err().to_string();
    assert!(
        message.contains("run.rounds: 0 is not in 1..=1000"),
        "{message}"
    );
}

#[test]
fn programs_name_the_head_of_their_file() {
    let plan = beside(24 << 30);
    let heads: BTreeSet<(&str, &str)> = plan
        .cells
        .iter()
        .filter(|planned| planned.station == Station::Program)
        .map(|planned| (planned.cell.subject.as_str(), planned.cell.head.as_str()))
        .collect();
    assert_eq!(
        heads,
        BTreeSet::from([("program:one", ""), ("program:two", "q6_k")])
    );
    assert!(ids(&plan).contains(&"program:two/prefill/theirs.gguf/p512/head-q6_k/t1"));
}
