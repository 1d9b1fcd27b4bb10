//! The real worker and the real kernels, on small matrices: every workload is right, and nothing else is timed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use trit_core::{RunDir, SCHEMA, Session, Status, Suite, Workload};
use trit_measure::FakeClock;
use trit_run::protocol::{Job, Reply, Request, Task};
use trit_run::{PlanContext, RunOptions, Silent, Timeouts, Worker, WorkerCommand, execute, plan};

const TIMEOUT: Duration = Duration::from_mins(1);

fn command(isa: &str) -> WorkerCommand {
    WorkerCommand {
        program: env!("CARGO_BIN_EXE_trit-fake-worker").into(),
        args: vec!["serve".into()],
        env: vec![("TRIT_ISA".into(), isa.into())],
    }
}

fn start(isa: &str) -> Worker {
    Worker::start(&command(isa), TIMEOUT, &|| false).unwrap()
}

fn ask(worker: &mut Worker, request: &Request) -> Reply {
    worker.ask(request, TIMEOUT, &|| false).unwrap()
}

#[test]
fn every_kernel_gives_the_answers_of_the_reference() {
    let mut worker = start("");
    let kernels: Vec<String> = worker
        .hello
        .kernels
        .iter()
        .filter(|facts| facts.unavailable.is_empty())
        .map(|facts| facts.id.clone())
        .collect();
    assert!(kernels.contains(&"w2a8-naive-scalar".to_owned()));
    // Odd shapes: rows and K that fill no block, tokens that fill no group.
    for (rows, k, tokens, working_set) in [(70, 200, 1, 0), (33, 257, 5, 0), (128, 256, 1, 50_000)]
    {
        for kernel in &kernels {
            let symmetric = kernel.contains("-dense-");
            for (job, threads) in [(Job::Multiply, 1), (Job::Multiply, 3), (Job::Prepare, 2)] {
                let task = Task {
                    job,
                    kernel: kernel.clone(),
                    rows,
                    k,
                    tokens,
                    threads,
                    working_set_bytes: working_set,
                    seed: 11,
                    page_seed: 5,
                    symmetric,
                    ..Task::default()
                };
                let reference = Request::Reference {
                    task: Task {
                        kernel: "w2a8-naive-scalar".into(),
                        job: Job::Multiply,
                        ..task.clone()
                    },
                    sums: true,
                };
                let Reply::Reference {
                    answers: right,
                    sums,
                    ..
                } = ask(&mut worker, &reference)
                else {
                    panic!("no reference");
                };
                let Reply::Opened(opened) = ask(&mut worker, &Request::Open { slot: 7, task })
                else {
                    panic!("{kernel} {rows}x{k} was not opened");
                };
                if opened.bounded {
                    assert_eq!(
                        ask(&mut worker, &Request::Expect { slot: 7, sums }),
                        Reply::Done
                    );
                }
                // 1 to 9 calls: slices start at every input set.
                for iterations in [1, 4, 2, 9] {
                    let slice = Request::Slice {
                        slot: 7,
                        iterations,
                        warm_up: 1,
                        reset_peak: false,
                        bare: false,
                    };
                    let Reply::Sliced {
                        sample, answers, ..
                    } = ask(&mut worker, &slice)
                    else {
                        panic!("{kernel}: no slice");
                    };
                    assert_eq!(sample.iterations, iterations);
                    assert!(sample.prepare_ns.unwrap() <= sample.time_ns);
                    assert_eq!(answers.len() as u64, iterations.min(4));
                    for answer in answers {
                        assert!(
                            right.contains(&answer),
                            "{kernel} {rows}x{k} m{tokens} t{threads} {job:?}"
                        );
                    }
                }
            }
        }
    }
    worker.stop(TIMEOUT);
}

#[test]
fn input_sets_have_different_answers() {
    let mut worker = start("");
    let answers = |worker: &mut Worker, seed| {
        let task = Task {
            kernel: "w2a8-naive-scalar".into(),
            rows: 8,
            k: 64,
            tokens: 2,
            threads: 1,
            seed,
            ..Task::default()
        };
        let Reply::Reference { answers, .. } =
            ask(worker, &Request::Reference { task, sums: false })
        else {
            panic!("no reference");
        };
        answers
            .into_iter()
            .map(|answer| answer.digest)
            .collect::<std::collections::BTreeSet<_>>()
    };
    let (one, two) = (answers(&mut worker, 1), answers(&mut worker, 2));
    assert_eq!((one.len(), two.len()), (4, 4));
    assert!(one.is_disjoint(&two));
    worker.stop(TIMEOUT);
}

#[test]
fn requests_that_make_no_sense_are_refused_and_the_worker_lives() {
    let mut worker = start("");
    let open = |task: Task| Request::Open { slot: 1, task };
    let task = Task {
        kernel: "w2a8-naive-scalar".into(),
        rows: 8,
        k: 64,
        tokens: 1,
        threads: 1,
        ..Task::default()
    };
    for (request, want) in [
        (
            open(Task {
                kernel: "w9a9-none".into(),
                ..task.clone()
            }),
            "unknown kernel",
        ),
        (
            open(Task {
                rows: 0,
                ..task.clone()
            }),
            "no kernel takes 0x64",
        ),
        (
            open(Task {
                k: u64::MAX,
                ..task.clone()
            }),
            "no kernel takes",
        ),
        (
            open(Task {
                rows: 1 << 40,
                ..task.clone()
            }),
            "does not fit",
        ),
        (
            open(Task {
                tokens: 0,
                ..task.clone()
            }),
            "0 tokens",
        ),
        (
            open(Task {
                threads: 0,
                ..task.clone()
            }),
            "threads",
        ),
        (
            open(Task {
                threads: 1 << 40,
                ..task.clone()
            }),
            "threads",
        ),
        (
            open(Task {
                working_set_bytes: u64::MAX / 2,
                ..task.clone()
            }),
            "",
        ),
        (
            Request::Slice {
                slot: 9,
                iterations: 1,
                warm_up: 0,
                reset_peak: false,
                bare: false,
            },
            "slot 9 is not open",
        ),
        (
            Request::Expect {
                slot: 9,
                sums: vec![],
            },
            "slot 9 is not open",
        ),
        (Request::Unknown, "does not know"),
    ] {
        match ask(&mut worker, &request) {
            Reply::Failure { message, .. } => assert!(message.contains(want), "{message}"),
            other => panic!("{request:?}: {other:?}"),
        }
    }
    assert!(matches!(ask(&mut worker, &open(task)), Reply::Opened(_)));
    let none = Request::Slice {
        slot: 1,
        iterations: 0,
        warm_up: 0,
        reset_peak: false,
        bare: false,
    };
    assert!(matches!(ask(&mut worker, &none), Reply::Failure { .. }));
    worker.stop(TIMEOUT);
}

#[test]
fn a_cap_reaches_the_worker() {
    let mut worker = start("scalar");
    for facts in &worker.hello.kernels {
        assert_eq!(
            facts.unavailable.is_empty(),
            facts.isa == "scalar",
            "{}: {}",
            facts.id,
            facts.unavailable
        );
    }
    let _still_there = ask(&mut worker, &Request::Close { slot: 1 });
    let error = Worker::start(&command("sse9"), TIMEOUT, &|| false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("sse9"), "{error}");
}

#[test]
fn a_small_suite_runs_from_end_to_end() {
    let suite = Suite::parse(
        "test.toml",
        r#"
[suite]
name = "test"
budget = "300ms"
[[micro]]
workloads = ["gemv-cold", "gemv-warm", "gemm", "prepare", "pack", "dispatch"]
kernels = ["available", "dense"]
shapes = ["96x192"]
tokens = [6]
threads = [1, 2]
[[pair]]
workload = "gemv-warm"
subject = "w2a8-naive-scalar"
against = "w2a8-swar-scalar"
shapes = ["96x192"]
threads = [1]
"#,
    )
    .unwrap();
    let worker = start("");
    let context = PlanContext {
        threads: 2,
        kernels: worker.hello.kernels.clone(),
        // Little memory makes small working sets: 4 MB each.
        memory_bytes: 16 << 20,
        l3_bytes: 1 << 20,
        ..PlanContext::default()
    };
    worker.stop(TIMEOUT);
    let plan = plan(&suite, &context).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let run_dir = RunDir::create(dir.path()).unwrap();
    let clock = FakeClock::stepping(0, 1_000_000);
    let options = RunOptions {
        session: Session {
            schema: SCHEMA,
            plan,
            ..Session::default()
        },
        dir: run_dir.clone(),
        worker: command(""),
        timeouts: Timeouts::default(),
        interrupted: &|| false,
        clock: &clock,
        energy: trit_run::EnergyPass::default(),
    };
    let outcome = execute(options, &mut Silent).unwrap();
    for cell in &outcome.cells {
        assert_eq!(cell.status, Status::Ok, "{}: {}", cell.cell, cell.reason);
        if cell.workload != Workload::Dispatch {
            assert!(
                !cell.layout.is_empty() && cell.weight_bits.is_some(),
                "{}",
                cell.cell
            );
        }
    }
    assert_eq!(outcome.exit_code(), 0);
    let rows = run_dir.measurements().unwrap();
    for cell in &outcome.cells {
        let own: Vec<_> = rows.iter().filter(|row| row.cell == cell.cell).collect();
        assert!(own.len() >= 3, "{}: {} samples", cell.cell, own.len());
        assert!(
            own.iter().all(|row| row.time_ns > 0 && row.iterations > 0),
            "{}",
            cell.cell
        );
        assert!(
            own.iter()
                .all(|row| row.rss_anon_bytes.is_none_or(|bytes| bytes > 0))
        );
    }
}
