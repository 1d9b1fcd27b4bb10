//! The two builds of a comparison: made from git revisions in a worktree of their own, or given as programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use trit_core::Build;
use trit_engine::file;

use crate::exit::Failure;
use crate::out::say;
use crate::tuned::cache_dir;

/// A program and where it came from.
pub(crate) struct Built {
    /// What is recorded.
    pub(crate) build: Build,
    /// The program.
    pub(crate) program: PathBuf,
}

/// Finds or makes one side. A program is copied to a place whose name is as long for every build: the length of its path
/// moves the stack, which moves times.
pub(crate) fn built(label: &str) -> Result<Built, Failure> {
    let path = Path::new(label);
    if path.is_dir() {
        return Err(Failure::usage(anyhow::anyhow!(
            "`{label}` is a folder; hint: a git revision, or the path of a tritbench program"
        )));
    }
    let (revision, program) = if path.exists() {
        (String::new(), path.to_owned())
    } else if label.contains('/') && revision(label).is_err() {
        return Err(Failure::unusable(anyhow::anyhow!(
            "`{label}` is neither a file nor a git revision; hint: a path or a revision that exists"
        )));
    } else {
        let revision = revision(label)?;
        let program = from_revision(&revision, None)?;
        (revision, program)
    };
    kept(label, revision, &program)
}

/// The revision that this program was made from, twice: as it is, and with every function at the start of a line of the cache, which
/// moves all code and changes none.
pub(crate) fn layouts(this: &str) -> Result<[Built; 2], String> {
    if this.is_empty() || this.ends_with("-dirty") {
        return Err("this program was not built from a revision without changes".to_owned());
    }
    let told = |failure: Failure| match failure {
        Failure::Error(_, error) => crate::exit::one_line(&error),
        Failure::StdoutClosed => "nobody reads".to_owned(),
    };
    let full = revision(this).map_err(told)?;
    let made = |layout, label: String| {
        let program = from_revision(&full, layout).map_err(told)?;
        kept(&label, full.clone(), &program).map_err(told)
    };
    Ok([
        made(None, this.to_owned())?,
        made(
            Some("-C llvm-args=-align-all-functions=6"),
            format!("{this} with another layout"),
        )?,
    ])
}

/// Copies a program to its place.
fn kept(label: &str, revision: String, program: &Path) -> Result<Built, Failure> {
    let sha256 = file::sha256(program).map_err(super::cmd::file_failure)?;
    let place = cache()?.join("programs").join(&sha256);
    let kept = place.join("tritbench");
    if !kept.exists() {
        fs::create_dir_all(&place).map_err(|error| io(&place, error))?;
        // First under another name: a copy that was cut short must not look like a program.
        let partial = place.join(format!("partial-{}", std::process::id()));
        fs::copy(program, &partial).map_err(|error| io(program, error))?;
        fs::rename(&partial, &kept).map_err(|error| io(&kept, error))?;
    }
    Ok(Built {
        build: Build {
            label: label.to_owned(),
            revision,
            sha256,
            version: String::new(),
        },
        program: kept,
    })
}

fn cache() -> Result<PathBuf, Failure> {
    let dir = cache_dir().ok_or_else(|| {
        Failure::unusable(anyhow::anyhow!(
            "there is no place for builds; hint: set XDG_CACHE_HOME or HOME to an absolute path"
        ))
    })?;
    Ok(dir.join("ab"))
}

fn io(path: &Path, error: std::io::Error) -> Failure {
    let place = path.display();
    Failure::failed(anyhow::Error::new(error).context(format!("cannot use `{place}`")))
}

fn git(dir: Option<&Path>, arguments: &[&str]) -> Result<Output, Failure> {
    let mut command = Command::new("git");
    if let Some(dir) = dir {
        command.current_dir(dir);
    }
    command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::unusable(anyhow::Error::new(error).context("cannot start git")))
}

/// What git said, as one line; its own error when it failed.
fn git_line(dir: Option<&Path>, arguments: &[&str]) -> Result<String, Failure> {
    let output = git(dir, arguments)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().last().unwrap_or("it said nothing").to_owned();
    Err(Failure::unusable(anyhow::anyhow!(
        "git {}: {said}; hint: run it within the repository, with a revision that it has (a shallow clone has few)",
        arguments.join(" ")
    )))
}

/// The full name of a revision.
fn revision(label: &str) -> Result<String, Failure> {
    // What starts with a dash would be an option.
    let commit = format!("{label}^{{commit}}");
    git_line(
        None,
        &["rev-parse", "--verify", "--end-of-options", &commit],
    )
}

/// The program of a revision, built unless it was built before. One worktree and one build directory serve all revisions, so that paths are
/// the same and dependencies are compiled once. `flags` are for the compiler, beside those of the environment.
fn from_revision(revision: &str, flags: Option<&str>) -> Result<PathBuf, Failure> {
    let top = git_line(None, &["rev-parse", "--show-toplevel"])?;
    let digest = trit_run::digest_bytes(top.as_bytes());
    let place = cache()?.join(&digest[..12]);
    let name = if flags.is_some() {
        "layout"
    } else {
        "tritbench"
    };
    let program = place.join(format!("{name}-{revision}"));
    if program.exists() {
        return Ok(program);
    }
    fs::create_dir_all(&place).map_err(|error| io(&place, error))?;
    let tree = place.join("tree");
    let tree_text = tree.display().to_string();
    // A worktree whose folder was removed is forgotten first.
    git_line(None, &["worktree", "prune"])?;
    if tree.join(".git").exists() {
        git_line(
            Some(&tree),
            &["checkout", "--quiet", "--force", "--detach", revision],
        )?;
    } else {
        let add = [
            "worktree", "add", "--force", "--quiet", "--detach", &tree_text, revision,
        ];
        git_line(None, &add)?;
    }
    say(&format!(
        "building {}",
        revision.get(..12).unwrap_or(revision)
    ));
    let target = place.join(if flags.is_some() { "layout" } else { "target" });
    let mut command = Command::new("cargo");
    if let Some(flags) = flags {
        let usual = std::env::var("RUSTFLAGS").unwrap_or_default();
        command.env("RUSTFLAGS", format!("{usual} {flags}"));
    }
    let status = command
        .args(["build", "--release", "--locked", "--bin", "tritbench"])
        .args(["--config", "profile.release.codegen-units=1"])
        .current_dir(&tree)
        .env("CARGO_TARGET_DIR", &target)
        .stdin(Stdio::null())
        // Talk of the compiler is talk: it belongs on stderr, where cargo puts it.
        .stdout(Stdio::null())
        .status()
        .map_err(|error| {
            Failure::unusable(anyhow::Error::new(error).context("cannot start cargo"))
        })?;
    if !status.success() {
        return Err(Failure::unusable(anyhow::anyhow!(
            "revision {revision} does not build; hint: what cargo said is above"
        )));
    }
    let made = target.join("release").join("tritbench");
    let partial = place.join(format!("partial-{}", std::process::id()));
    fs::copy(&made, &partial).map_err(|error| io(&made, error))?;
    fs::rename(&partial, &program).map_err(|error| io(&program, error))?;
    Ok(program)
}
