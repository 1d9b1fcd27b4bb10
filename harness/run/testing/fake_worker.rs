//! A worker for tests. The name of a kernel says what happens to its cells:
//!
//! | kernel | what it does |
//! | --- | --- |
//! | `fake-ok...` | right answers, 1,000 ns a call (`fake-ok-slow`: 2,000 ns) |
//! | `fake-wrong` | a wrong answer in every slice |
//! | `fake-late` | right answers at first, wrong ones from the fifth slice on |
//! | `fake-silent` | no answers at all |
//! | `fake-crash-open`, `fake-crash` | dies when the cell is opened, or in its first slice |
//! | `fake-picky` | dies in a slice of 64 rows, is right otherwise |
//! | `fake-hang` | never answers a slice of a small matrix |
//! | `fake-garbage` | answers a slice with something that is no JSON |
//! | `fake-unsupported`, `fake-large`, `fake-broken`, `fake-content`, `fake-differs` | refuses the cell, each with another kind of failure |
//! | `fake-bounded` | wants the exact sums first, and is right once it has them |
//! | `fake-loop-wrong`, `fake-loop-crash` | right answers in slices; wrong ones after a loop, or dies in it |
//!
//! The arguments `serve` (the real worker), `mute` (says nothing), `rude` (no hello), `no-reference` (cannot answer for the
//! reference) and `absent` (ends at once) choose other workers.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{BufRead, Write, stdin, stdout};

use trit_run::protocol::{
    Answer, FailureKind, Hello, KernelFacts, Opened, PROTOCOL, Reply, Request, Sample, Task, Token,
};

const KERNELS: [&str; 21] = [
    "w2a8-naive-scalar",
    "fake-ok",
    "fake-ok-slow",
    "fake-ok-other",
    "fake-wrong",
    "fake-late",
    "fake-silent",
    "fake-crash-open",
    "fake-crash",
    "fake-picky",
    "fake-hang",
    "fake-garbage",
    "fake-unsupported",
    "fake-large",
    "fake-broken",
    "fake-content",
    "fake-differs",
    "fake-bounded",
    "fake-loop-wrong",
    "fake-loop-crash",
    "fake-missing",
];

fn put(text: &str) {
    let mut out = stdout().lock();
    // The master may be gone: then this process is of no use either.
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        std::process::abort();
    }
}

fn reply(reply: &Reply) {
    put(&serde_json::to_string(reply).expect("replies are plain values"));
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

fn answers(right: bool) -> Vec<Answer> {
    (0..4)
        .map(|set| Answer {
            set,
            digest: format!("{} {set}", if right { "right" } else { "wrong" }),
        })
        .collect()
}

#[derive(Default)]
struct Slot {
    task: Task,
    slices: u64,
    expected: bool,
}

fn open(task: &Task) -> Reply {
    let failure = |kind| Reply::Failure {
        kind,
        message: format!("{kind:?} on\npurpose"),
    };
    match task.kernel.as_str() {
        "fake-crash-open" => die("cannot go on"),
        "fake-unsupported" => failure(FailureKind::Unsupported),
        "fake-large" => failure(FailureKind::OverLimit),
        "fake-broken" => failure(FailureKind::Failed),
        "fake-content" => failure(FailureKind::Content),
        "fake-differs" => failure(FailureKind::Wrong),
        kernel => Reply::Opened(Opened {
            layout: "fake".into(),
            bounded: kernel == "fake-bounded",
            check: Some("check".into()),
            load_ns: Some(77),
            ..Opened::default()
        }),
    }
}

fn die(why: &str) -> ! {
    writeln!(std::io::stderr(), "{why}").ok();
    std::process::abort()
}

/// Time of one call.
fn call_ns(kernel: &str) -> u64 {
    if kernel == "fake-ok-slow" {
        2_000
    } else {
        1_000
    }
}

fn slice(slot: &mut Slot, iterations: u64) -> Option<Reply> {
    slot.slices += 1;
    // Work that was added takes its share of the time.
    let call_ns = call_ns(&slot.task.kernel);
    let added_ns = (slot.task.added_work * (call_ns * iterations) as f64) as u64;
    let right = match slot.task.kernel.as_str() {
        "fake-crash" => die("a bad instruction"),
        "fake-picky" if slot.task.rows == 64 => die("not these rows"),
        // The survey looks at larger matrices, and is not to wait.
        "fake-hang" if slot.task.rows < 100 => hang(),
        "fake-garbage" => {
            put("not json");
            return None;
        }
        "fake-wrong" => false,
        "fake-late" => slot.slices < 5,
        "fake-bounded" => slot.expected,
        _ => true,
    };
    let silent = slot.task.kernel == "fake-silent";
    let tokens = (0..slot.task.gen_tokens)
        .map(|token| Token {
            token,
            time_ns: 10 + token,
            sequence: 0,
        })
        .collect();
    Some(Reply::Sliced {
        sample: Sample {
            iterations,
            time_ns: call_ns * iterations + added_ns,
            prepare_ns: Some(10 * iterations),
            // It works all the time.
            user_ns: Some(call_ns * iterations + added_ns),
            system_ns: Some(0),
            evidence_ns: Some(call_ns * iterations + added_ns),
            ..Sample::default()
        },
        answers: if silent { vec![] } else { answers(right) },
        tokens,
    })
}

fn main() {
    let mode = std::env::args().nth(1).unwrap_or_default();
    match mode.as_str() {
        "serve" => {
            trit_run::worker::serve(stdin().lock(), stdout().lock()).expect("the master reads");
            return;
        }
        "mute" => hang(),
        "rude" => {
            put("{\"greeting\": \"none\"}");
            hang();
        }
        "absent" => return,
        _ => {}
    }
    let hello = Hello {
        protocol: PROTOCOL + 1,
        version: "fake".into(),
        threads: 2,
        kernels: KERNELS
            .iter()
            .map(|id| KernelFacts {
                id: (*id).into(),
                weight_bits: 2.0,
                unavailable: if *id == "fake-missing" {
                    "the CPU does not report fake".into()
                } else {
                    String::new()
                },
                ..KernelFacts::default()
            })
            .collect(),
    };
    put(&serde_json::to_string(&hello).expect("a plain value"));
    let mut slots: BTreeMap<u64, Slot> = BTreeMap::new();
    for line in stdin().lock().lines() {
        let Ok(line) = line else { return };
        let request: Request = serde_json::from_str(&line).expect("the master speaks the protocol");
        match request {
            Request::Open { slot, task } => {
                reply(&open(&task));
                slots.insert(
                    slot,
                    Slot {
                        task,
                        ..Slot::default()
                    },
                );
            }
            Request::Expect { slot, sums } => {
                slots.entry(slot).or_default().expected = sums == [vec![1, 2], vec![3, 4]];
                reply(&Reply::Done);
            }
            Request::Slice {
                slot,
                iterations,
                reset_peak,
                ..
            } => {
                // Each open cell takes a megabyte.
                let peak = reset_peak.then(|| 1_000_000 * slots.len().max(1) as u64);
                let mut done = slice(slots.entry(slot).or_default(), iterations);
                if let Some(Reply::Sliced { sample, .. }) = &mut done {
                    sample.peak_rss_bytes = peak;
                }
                if let Some(done) = done {
                    reply(&done);
                }
            }
            Request::Ready { .. } => reply(&Reply::Done),
            Request::Loop { slot, at_least_ns } => {
                let slot = slots.entry(slot).or_default();
                if slot.task.kernel == "fake-loop-crash" {
                    die("a loop is too long");
                }
                let call_ns = call_ns(&slot.task.kernel);
                let iterations = at_least_ns.div_ceil(call_ns);
                reply(&Reply::Looped {
                    sample: Sample {
                        iterations,
                        time_ns: call_ns * iterations,
                        user_ns: Some(call_ns * iterations),
                        system_ns: Some(0),
                        ..Sample::default()
                    },
                });
            }
            Request::EndLoop { slot } => {
                let kernel = slots.entry(slot).or_default().task.kernel.clone();
                reply(&Reply::Answers {
                    answers: answers(kernel != "fake-loop-wrong"),
                });
            }
            Request::Close { slot } => {
                slots.remove(&slot);
                reply(&Reply::Done);
            }
            Request::Reference { sums, .. } if mode == "no-reference" => {
                assert!(!sums);
                die("no reference today");
            }
            Request::Reference { task, sums } => {
                assert!(task.kernel.ends_with("-scalar"), "{}", task.kernel);
                reply(&Reply::Reference {
                    answers: answers(true),
                    sums: if sums {
                        vec![vec![1, 2], vec![3, 4]]
                    } else {
                        vec![]
                    },
                    check: Some("check".into()),
                });
            }
            Request::Exit => {
                reply(&Reply::Done);
                return;
            }
            Request::Unknown => reply(&Reply::Failure {
                kind: FailureKind::Unsupported,
                message: "unknown".into(),
            }),
        }
    }
}
