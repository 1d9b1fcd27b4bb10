//! Signals and limits, in processes of their own: the test starts itself again with a role in the environment.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::Ordering;

use trit_measure::sys::{interrupt, process};

const ROLE: &str = "TRIT_TEST_ROLE";

/// Starts this test program again to run `test` in the given role, and waits until it says that it is ready.
/// Only the process that is started directly gets a standard error of its own.
fn start(test: &str, role: &str) -> (Child, BufReader<ChildStdout>) {
    let stderr = if role == "worker" {
        Stdio::inherit()
    } else {
        Stdio::piped()
    };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert!(
            output.read_line(&mut line).unwrap() > 0,
            "the child ended before it was ready"
        );
    }
    (child, output)
}

fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{text}").unwrap();
    out.flush().unwrap();
}

fn signal(child: &Child, signal: &str) {
    let status = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn the_first_interrupt_asks_and_the_second_ends() {
    if role().as_deref() == Some("asked") {
        let asked = interrupt::install().unwrap();
        assert!(!asked.load(Ordering::SeqCst));
        say("ready");
        while !asked.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        say("asked");
        // Until somebody closes the input, or a second signal comes.
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let name = "the_first_interrupt_asks_and_the_second_ends";
    // One: the program goes on and ends by itself.
    let (mut child, mut output) = start(name, "asked");
    signal(&child, "-INT");
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "asked\n");
    drop(child.stdin.take());
    std::io::copy(&mut output, &mut std::io::sink()).unwrap();
    assert!(child.wait().unwrap().success());
    // Two: it ends at once.
    let (mut child, mut output) = start(name, "asked");
    signal(&child, "-INT");
    line.clear();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "asked\n");
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(interrupt::EXIT_CODE));
}

#[test]
fn a_worker_ignores_the_interrupt() {
    if role().as_deref() == Some("worker") {
        interrupt::ignore().unwrap();
        say("ready");
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let (mut child, mut output) = start("a_worker_ignores_the_interrupt", "worker");
    signal(&child, "-INT");
    signal(&child, "-INT");
    drop(child.stdin.take());
    std::io::copy(&mut output, &mut std::io::sink()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_worker_dies_with_its_parent() {
    let name = "a_worker_dies_with_its_parent";
    match role().as_deref() {
        Some("parent") => {
            let (child, _output) = start(name, "worker");
            say(&format!("ready {}", child.id()));
            let _ = std::io::stdin().read(&mut [0]);
            return;
        }
        Some("worker") => {
            let parent = std::os::unix::process::parent_id();
            process::die_with_parent(parent).unwrap();
            assert!(process::die_with_parent(parent + 1).is_err());
            process::no_core_files().unwrap();
            say("ready");
            // The parent's end closes the input, then gives us another parent, then sends the signal.
            let _ = std::io::stdin().read(&mut [0]);
            while std::os::unix::process::parent_id() == parent {
                std::thread::yield_now();
            }
            for _ in 0..1_000_000 {
                std::thread::yield_now();
            }
            std::io::stderr().write_all(b"survived").unwrap();
            return;
        }
        _ => {}
    }
    let (mut child, mut output) = start(name, "parent");
    signal(&child, "-KILL");
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    std::io::copy(&mut output, &mut std::io::sink()).unwrap();
    // The worker has the parent's standard error: it ends when both are gone.
    let mut rest = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut rest)
        .unwrap();
    assert!(!rest.contains("survived"), "{rest}");
}
