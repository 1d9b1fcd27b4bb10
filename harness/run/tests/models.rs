//! Whole models with the real worker: sequences that are decoded together, sweeps, and prompts that are texts.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use trit_core::{Cell, Measurement, RunDir, SCHEMA, Session, Status, Suite, TokenRow, Workload};
use trit_measure::FakeClock;
use trit_run::{PlanContext, RunOptions, Silent, Timeouts, Worker, WorkerCommand, execute, plan};

/// What a run left behind.
struct Ran {
    cells: Vec<Cell>,
    measurements: Vec<Measurement>,
    tokens: Vec<TokenRow>,
}

fn run(dir: &Path, suite: &str) -> Ran {
    let command = WorkerCommand {
        program: env!("CARGO_BIN_EXE_trit-fake-worker").into(),
        args: vec!["serve".into()],
        env: vec![],
    };
    let worker = Worker::start(&command, Duration::from_mins(1), &|| false).unwrap();
    let context = PlanContext {
        threads: 2,
        kernels: worker.hello.kernels.clone(),
        memory_bytes: 1 << 34,
        l3_bytes: 1 << 20,
        ..PlanContext::default()
    };
    worker.stop(Duration::from_mins(1));
    let head = "[suite]\nname = \"test\"\nbudget = \"300ms\"\n";
    let suite = Suite::parse("test.toml", &format!("{head}{suite}")).unwrap();
    let run_dir = RunDir::create(dir).unwrap();
    // Every reading of the clock is a millisecond later: the budget ends after the same number of visits everywhere.
    let clock = FakeClock::stepping(0, 1_000_000);
    let options = RunOptions {
        session: Session {
            schema: SCHEMA,
            plan: plan(&suite, &context).unwrap(),
            ..Session::default()
        },
        dir: run_dir.clone(),
        worker: command,
        timeouts: Timeouts::default(),
        interrupted: &|| false,
        clock: &clock,
        energy: trit_run::EnergyPass::default(),
    };
    let cells = execute(options, &mut Silent).unwrap().cells;
    Ran {
        cells,
        measurements: run_dir.measurements().unwrap(),
        tokens: run_dir.tokens().unwrap(),
    }
}

/// The tokens of a cell's first visit by request.
fn first_visit(ran: &Ran, cell: &Cell) -> BTreeMap<u64, Vec<u64>> {
    let mut requests: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let rows = ran.tokens.iter();
    for row in rows.filter(|row| row.cell == cell.cell && row.round == 0) {
        let tokens = requests.entry(row.request).or_default();
        assert_eq!(row.index, tokens.len() as u64, "{}", cell.cell);
        tokens.push(row.token);
    }
    requests
}

#[test]
fn sequences_are_verified_before_they_are_timed_and_counted_by_steps() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(
        &dir.path().join("run"),
        r#"
[[generate]]
workloads = ["prefill", "decode"]
models = ["builtin:shakespeare"]
kernels = ["w2a8-swar-scalar", "best"]
threads = [1, 2]
prompt_tokens = 5
gen_tokens = 6
depth = 3
batch = [1, 3, 4]
"#,
    );
    let decode: Vec<&Cell> = ran
        .cells
        .iter()
        .filter(|cell| cell.workload == Workload::Decode)
        .collect();
    assert!(decode.len() >= 6, "{}", decode.len());
    let mut texts: BTreeMap<u64, BTreeSet<Vec<u64>>> = BTreeMap::new();
    let mut bytes: BTreeMap<u64, u64> = BTreeMap::new();
    for cell in &ran.cells {
        assert_eq!(cell.status, Status::Ok, "{}: {}", cell.cell, cell.reason);
    }
    for cell in decode {
        let batch = cell.batch.unwrap();
        let id = format!("/b{batch}/");
        assert_eq!(cell.cell.contains(&id), batch > 1, "{}", cell.cell);
        let requests = first_visit(&ran, cell);
        assert_eq!(requests.len() as u64, batch, "{}", cell.cell);
        for (sequence, tokens) in requests {
            assert_eq!(tokens.len(), 6, "{}", cell.cell);
            texts.entry(sequence).or_default().insert(tokens);
        }
        if cell.kernel == "w2a8-swar-scalar" {
            bytes.insert(batch, cell.bytes_per_call.unwrap());
        }
        let samples = ran.measurements.iter();
        for sample in samples.filter(|row| row.cell == cell.cell) {
            // Five steps behind the first tokens, whatever the number of sequences.
            assert_eq!(sample.iterations, 5, "{}", cell.cell);
        }
    }
    // Whoever decoded a sequence, and beside how many others: the same tokens. (Visits of one round take one input set.)
    assert_eq!(texts.len(), 4);
    for (sequence, texts) in &texts {
        assert_eq!(texts.len(), 1, "sequence {sequence}: {texts:?}");
    }
    let different: BTreeSet<_> = texts.values().flatten().collect();
    assert_eq!(different.len(), 4, "sequences are independent");
    // Weights are read once: three sequences add keys, values and rows of the embedding.
    assert!(
        bytes[&3] > bytes[&1] && bytes[&3] < 2 * bytes[&1],
        "{bytes:?}"
    );
    // Prompts are not processed together.
    let prefill = ran.cells.iter();
    let mut prefill = prefill.filter(|cell| cell.workload == Workload::Prefill);
    assert!(prefill.all(|cell| cell.batch == Some(1)));
}

#[test]
fn every_sweep_of_a_model_runs() {
    let dir = tempfile::tempdir().unwrap();
    let base = "workloads = [\"prefill\", \"decode\"]\nmodels = [\"builtin:shakespeare\"]\nthreads = [1]\n";
    let usual = "prompt_tokens = 4\ngen_tokens = 3\n";
    let sections = [
        "prompt_tokens = [4, 9]\ngen_tokens = [3, 5]\n".to_owned(),
        format!("{usual}depth = [0, 64]\n"),
        "prompt_tokens = 9\ngen_tokens = 3\nubatch = [1, 4, 512]\n".to_owned(),
        format!("{usual}batch = [1, 2]\n"),
        format!("{usual}head = [\"f16\", \"f32\", \"i8\", \"q6_k\", \"q4_0\"]\n"),
        format!("{usual}kv = [\"f16\", \"f32\", \"i8\"]\n"),
        format!("{usual}kernels = [\"w2a8-swar-scalar\", \"best\"]\n"),
    ];
    let mut text = String::new();
    for section in sections {
        text += &["[[generate]]\n", base, &section].concat();
    }
    text += "[[generate]]\nmodels = [\"builtin:shakespeare\"]\nthreads = [1]\ntests = [\"pp7\", \"tg4\", \"pp7+tg4\", \"tg4 @ d100\"]\n";
    let ran = run(&dir.path().join("run"), &text);
    for cell in &ran.cells {
        assert_eq!(cell.status, Status::Ok, "{}: {}", cell.cell, cell.reason);
        assert!(ran.measurements.iter().any(|row| row.cell == cell.cell));
    }
    let values = |of: &dyn Fn(&Cell) -> String| {
        let values = ran.cells.iter().map(of);
        values.collect::<BTreeSet<_>>().len()
    };
    let prompts = values(&|cell| format!("{:?}", cell.prompt_tokens));
    // 4, 9, 7 and the one token before `tg4`.
    assert_eq!(prompts, 4);
    // None, 3, 5 and 4.
    assert_eq!(values(&|cell| format!("{:?}", cell.gen_tokens)), 4);
    assert_eq!(values(&|cell| format!("{:?}", cell.depth)), 3);
    assert_eq!(values(&|cell| format!("{:?}", cell.ubatch)), 3);
    assert_eq!(values(&|cell| format!("{:?}", cell.batch)), 2);
    assert_eq!(values(&|cell| cell.head.clone()), 5);
    assert_eq!(values(&|cell| cell.kv.clone()), 3);
}

#[test]
fn texts_are_spelled_by_the_model_or_said_to_be_seeded() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(
        &dir.path().join("run"),
        r#"
[[generate]]
workloads = ["prefill", "decode"]
models = ["builtin:shakespeare", "synth:tiny"]
kernels = ["w2a8-swar-scalar", "best"]
threads = [1]
prompts = ["renewable-energy"]
gen_tokens = 4
batch = [1, 2]
[[generate]]
workloads = ["prefill"]
models = ["builtin:shakespeare"]
kernels = ["best"]
threads = [1]
prompts = ["harbour"]
"#,
    );
    let engine = trit_engine::Engine::load(
        &trit_engine::ModelName::parse("builtin:shakespeare".as_ref())
            .unwrap()
            .checkpoint(0, &trit_engine::file::FileOptions::default())
            .unwrap(),
        &trit_engine::EngineOptions::new(1, trit_kernel::Cpu::uncapped()),
    )
    .unwrap();
    let text = trit_core::embedded_prompt("renewable-energy").unwrap();
    let spelled = engine.tokenizer().unwrap().encode(text).unwrap().len() as u64;
    for cell in &ran.cells {
        let long = cell.cell.contains("/harbour");
        if long {
            // Some four thousand tokens, and the model was made for 256.
            assert_eq!(cell.status, Status::Skipped, "{}", cell.cell);
            assert!(cell.reason.contains("context"), "{}", cell.reason);
            continue;
        }
        assert_eq!(cell.status, Status::Ok, "{}: {}", cell.cell, cell.reason);
        let (prompt, tokens) = if cell.model == "builtin:shakespeare" {
            ("renewable-energy", spelled)
        } else {
            // 42 bytes, four a token.
            ("renewable-energy, seeded ids", 11)
        };
        assert_eq!(cell.prompt, prompt, "{}", cell.cell);
        assert_eq!(cell.prompt_tokens, Some(tokens), "{}", cell.cell);
    }
}

#[test]
fn a_model_is_started_with_and_without_its_pages_and_packed_weights() {
    // On the disk of the build: a file system in memory has no pages to drop.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/bitnet-tiny");
    let folder = dir.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden.join(name), folder.join(name)).unwrap();
    }
    let file = dir.path().join("model.gguf");
    std::fs::copy(golden.join("model-i2_s.gguf"), &file).unwrap();
    let suite = format!(
        r#"
[[generate]]
workloads = ["prefill"]
models = ["{}", "{}"]
kernels = ["w2a8-swar-scalar"]
threads = [1]
prompt_tokens = 5
page_cache = ["warm", "cold"]
packed_cache = [false, true]
"#,
        folder.display(),
        file.display()
    );
    let ran = run(&dir.path().join("run"), &suite);
    let mut found = BTreeSet::new();
    for cell in &ran.cells {
        let packed = cell.packed_cache == "yes";
        if packed && Path::new(&cell.model) == file {
            // The kernel reads its bytes as they are.
            assert_eq!(cell.status, Status::Skipped, "{}", cell.cell);
            assert!(cell.reason.contains("nothing to keep"), "{}", cell.reason);
            continue;
        }
        assert_eq!(cell.status, Status::Ok, "{}: {}", cell.cell, cell.reason);
        let id = format!(
            "/page-{}{}/t1",
            cell.page_cache,
            if packed { "/packed" } else { "" }
        );
        assert!(cell.cell.ends_with(&id), "{}", cell.cell);
        found.insert((cell.model.clone(), cell.page_cache.clone(), packed));
        let samples = ran.measurements.iter().filter(|row| row.cell == cell.cell);
        let samples: Vec<&Measurement> = samples.collect();
        assert!(!samples.is_empty(), "{}", cell.cell);
        for sample in samples {
            // Every visit loads: the process starts, then the model is loaded, then the prompt goes in.
            let (load, start) = (sample.load_ns.unwrap(), sample.startup_ttft_ns.unwrap());
            assert!(0 < load && load < start, "{load} {start}");
        }
    }
    assert_eq!(found.len(), 6, "{found:?}");
    assert!(!dir.path().join("run/packed-cache").exists());
}
