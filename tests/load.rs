//! `tritbench load` against a server of the test's own: files, tables, exit codes, Ctrl-C.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "../harness/run/testing/stub_server.rs"]
#[expect(dead_code, reason = "tests of the library take more of it")]
mod stub_server;

use std::path::Path;
use std::sync::mpsc;

use common::{Talking, refused, run, stderr, stdout, tritbench};
use serde_json::Value;
use stub_server::{Answer, Stub};
use trit_core::{ChunkRow, RequestRow, RequestStatus, Table, read_rows};

const BRIEF: Answer = Answer::Tokens {
    ttft_ms: 1,
    itl_ms: 1,
    tokens: 3,
};

fn rows<R: Table>(dir: &Path) -> Vec<R> {
    read_rows(&dir.join(R::FILE)).unwrap()
}

#[test]
fn rows_and_summary_agree() {
    let stub = Stub::start(|n| if n == 3 { Answer::Status(500) } else { BRIEF });
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("loaded");
    let load = [
        "load",
        &stub.url(),
        "--requests",
        "6",
        "--format",
        "json",
        "--ttft-limit",
        "20s",
        "--out",
    ];
    let output = run([&load[..], &[out.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let summary: Value = serde_json::from_str(&stdout(&output)).unwrap();
    for (field, want) in [("requests", 6), ("ok", 5), ("errors", 1), ("good", 5)] {
        assert_eq!(summary[field], want, "{field}");
    }
    assert_eq!(summary["ttft"]["p99_ns"], Value::Null);
    let kept = std::fs::read_to_string(out.join("load.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&kept).unwrap(), summary);
    let requests: Vec<RequestRow> = rows(&out);
    let chunks: Vec<ChunkRow> = rows(&out);
    assert_eq!((requests.len(), chunks.len()), (6, 15));
    // The warm-up was the first that came; the fourth failed.
    assert_eq!(requests[2].status, RequestStatus::Error);
    assert!(stderr(&output).contains("1 x status 500"));
    // A first piece and two after it make up the latency.
    let parts: u64 = chunks
        .iter()
        .filter(|chunk| chunk.request == 0)
        .map(|chunk| chunk.time_ns)
        .sum();
    assert_eq!(requests[0].latency_ns, Some(parts));
    refused(
        [&load[..], &[out.to_str().unwrap()]].concat(),
        2,
        &["empty", "hint"],
    );
}

#[test]
fn a_stop_keeps_what_was_measured() {
    let (told, stuck) = mpsc::channel();
    let stub = Stub::start(move |n| {
        if n < 3 {
            BRIEF
        } else {
            told.send(()).unwrap();
            Answer::Stuck
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("loaded");
    let child = Talking::start(tritbench([
        "load",
        &stub.url(),
        "--requests",
        "50",
        "--out",
        out.to_str().unwrap(),
    ]));
    stuck.recv().unwrap();
    child.signal("INT");
    let (status, talk) = child.end();
    assert_eq!(status.code(), Some(130), "{talk}");
    let requests: Vec<RequestRow> = rows(&out);
    let statuses: Vec<RequestStatus> = requests.iter().map(|row| row.status).collect();
    assert_eq!(
        statuses,
        [
            RequestStatus::Ok,
            RequestStatus::Ok,
            RequestStatus::Interrupted
        ]
    );
    assert_eq!(
        rows::<ChunkRow>(&out)
            .iter()
            .filter(|row| row.request < 2)
            .count(),
        6
    );
    let summary = std::fs::read_to_string(out.join("load.json")).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(
        (&summary["ok"], &summary["not_sent"]),
        (&2.into(), &47.into())
    );
}

#[test]
fn wrong_addresses_and_servers_are_one_error() {
    refused(["load", "localhost"], 2, &["http://HOST:PORT"]);
    refused(["load", "https://127.0.0.1"], 2, &["TLS"]);
    refused(["load", "--rate", "0"], 2, &["--rate"]);
    refused(
        ["load", "--concurrency", "0"],
        2,
        &["--concurrency", "1024"],
    );
    refused(["load", "--timeout", "soon"], 2, &["--timeout"]);
    let stub = Stub::start(|_| Answer::Status(404));
    refused(
        ["load", &stub.url()],
        1,
        &["status 404", "hint: start the server"],
    );
    let all_fail = run(["load", &stub.url(), "--warmup", "0", "--requests", "3"]);
    assert_eq!(all_fail.status.code(), Some(1));
    assert!(
        stdout(&all_fail).contains("100.00 %"),
        "{}",
        stdout(&all_fail)
    );
    assert!(stderr(&all_fail).contains("none of 3 requests"));
}
