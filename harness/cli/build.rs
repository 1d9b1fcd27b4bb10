//! Hands the revision of the source to the program: every session records it.

use std::path::Path;
use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn main() {
    // Not in a checkout (an unpacked archive, for example): the revision stays unknown.
    let revision = git(&["rev-parse", "--short=12", "HEAD"]).map(|revision| {
        let clean = git(&["status", "--porcelain", "--untracked-files=no"])
            .is_some_and(|changes| changes.is_empty());
        if clean { revision } else { revision + "-dirty" }
    });
    println!(
        "cargo:rustc-env=TRIT_REVISION={}",
        revision.unwrap_or_default()
    );
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists());
        if let Some(path) = path {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    for path in [
        "Cargo.toml",
        "Cargo.lock",
        "harness",
        "kernels",
        "reports",
        "suites",
    ] {
        println!("cargo:rerun-if-changed={path}");
    }
}
