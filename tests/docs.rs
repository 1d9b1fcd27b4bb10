//! What the documents say exists.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The program in a place of its own: when the tutorial installs it, cargo takes the one in the usual place away and puts it back, and
/// another test would find nothing there.
fn program() -> &'static Path {
    static PLACE: LazyLock<PathBuf> = LazyLock::new(|| {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docs");
        fs::create_dir_all(&place).unwrap();
        let place = place.join("tritbench");
        // That of an earlier build.
        let _absent = fs::remove_file(&place);
        fs::hard_link(env!("CARGO_BIN_EXE_tritbench"), &place).unwrap();
        place
    });
    &PLACE
}

fn tritbench(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).output().unwrap()
}

fn help(command: &[&str]) -> String {
    let output = tritbench(&[command, &["--help"]].concat());
    assert_eq!(output.status.code(), Some(0), "{command:?} --help");
    assert!(output.stderr.is_empty(), "{command:?}: help is data");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that the overview lists, and those within them.
fn commands() -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for line in help(&[]).lines().skip_while(|line| !line.ends_with(':')) {
        let Some(entry) = line
            .strip_prefix("  ")
            .filter(|entry| !entry.starts_with([' ', '-']))
        else {
            continue;
        };
        let name = entry.split_whitespace().next().unwrap();
        if name == "tritbench" {
            break;
        }
        all.push(vec![name.to_owned()]);
    }
    let mut inner = Vec::new();
    for command in &all {
        let text = help(&[&command[0]]);
        let listed = text.lines().skip_while(|line| *line != "Commands:").skip(1);
        for line in listed.take_while(|line| line.starts_with("  ")) {
            let name = line.split_whitespace().next().unwrap();
            if name != "help" {
                inner.push(vec![command[0].clone(), name.to_owned()]);
            }
        }
    }
    all.extend(inner);
    all
}

/// The flags of a command.
fn flags(text: &str) -> BTreeSet<String> {
    text.split(|c: char| c.is_whitespace() || "[],;:()`".contains(c))
        .filter(|word| word.starts_with("--") && word.len() > 2)
        .map(|word| {
            word.split('=')
                .next()
                .unwrap()
                .trim_end_matches('.')
                .to_owned()
        })
        .collect()
}

/// The documents, as paths from the root.
fn documents() -> Vec<String> {
    let mut all = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
        .map(str::to_owned)
        .to_vec();
    let mut docs: Vec<String> = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| format!("docs/{name}"))
        .collect();
    docs.sort();
    assert!(docs.len() >= 7, "{docs:?}");
    all.extend(docs);
    all
}

/// Checks a command line that a document shows: the command exists and has the flags.
fn check(place: &str, line: &str, known: &[Vec<String>]) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "tritbench");
    let at = at.unwrap_or_else(|| panic!("{place}: `{line}` is no command, or half of one")) + 1;
    let Some(name) = words.get(at).filter(|word| !word.starts_with('-')) else {
        return;
    };
    let mut command = vec![(*name).to_owned()];
    assert!(
        known.contains(&command),
        "{place}: `{line}`: there is no command `{name}`"
    );
    if let Some(next) = words.get(at + 1) {
        let longer = vec![command[0].clone(), (*next).to_owned()];
        if known.contains(&longer) {
            command = longer;
        }
    }
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let has = flags(&help(&command));
    for word in &words[at..] {
        if word.starts_with("--") && word.len() > 2 {
            let flag = word.split('=').next().unwrap();
            assert!(
                has.contains(flag),
                "{place}: `{line}`: {command:?} has no {flag}"
            );
        }
        // The rest is for another program, or explains.
        if ["|", ">", "#", "--"].contains(word) {
            break;
        }
    }
}

#[test]
fn every_example_of_help_names_commands_and_flags_that_exist() {
    let known = commands();
    assert!(known.len() >= 4, "{known:?}");
    for command in std::iter::once(Vec::new()).chain(known.iter().cloned()) {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let text = help(&words);
        let has_inner = text.lines().any(|line| line == "Commands:");
        let examples: Vec<&str> = text
            .lines()
            .skip_while(|line| !line.starts_with("Example"))
            .skip(1)
            .take_while(|line| !line.trim().is_empty())
            .collect();
        assert!(
            has_inner || !examples.is_empty(),
            "{command:?} shows no example"
        );
        for line in examples {
            // What follows two spaces explains the command.
            let line = line.trim().split("  ").next().unwrap();
            check(&format!("{command:?} --help"), line, &known);
        }
    }
}

#[test]
fn every_command_of_the_documents_exists() {
    let known = commands();
    let mut checked = 0;
    for name in documents() {
        let text = fs::read_to_string(root().join(&name)).unwrap();
        // Code: fenced lines, and spans in backticks that start with the name of the program.
        let mut fenced = false;
        for line in text.lines() {
            if line.starts_with("```") {
                fenced = !fenced;
                continue;
            }
            let spans: Vec<&str> = if fenced {
                vec![line.trim_start_matches("$ ")]
            } else {
                line.split('`').skip(1).step_by(2).collect()
            };
            for span in spans {
                let span = span
                    .replace("cargo run --release -- ", "tritbench ")
                    .replace("target/release/tritbench", "tritbench");
                if span.starts_with("tritbench ") {
                    check(&name, &span, &known);
                    checked += 1;
                }
            }
        }
    }
    assert!(checked >= 5, "only {checked} commands were found");
}

#[test]
fn every_file_that_the_documents_link_exists() {
    for name in documents() {
        let file = root().join(&name);
        let text = fs::read_to_string(&file).unwrap();
        for target in text
            .split("](")
            .skip(1)
            .map(|rest| rest.split(')').next().unwrap())
        {
            if !target.starts_with("http") && !target.starts_with('#') {
                let path = file
                    .with_file_name("")
                    .join(target.split('#').next().unwrap());
                assert!(path.exists(), "{name} links `{target}`");
            }
        }
        for span in text.split('`').skip(1).step_by(2) {
            let looks_like_a_path = span.contains('/')
                && !span.contains(' ')
                && [
                    "kernels/", "harness/", "suites/", "reports/", "tests/", "scripts/", ".ci/",
                ]
                .iter()
                .any(|top| span.starts_with(top))
                && !span.contains(['<', '*']);
            if looks_like_a_path {
                assert!(root().join(span).exists(), "{name} names `{span}`");
            }
        }
    }
}

/// Writes a program that everybody may run.
fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn every_command_of_the_tutorial_works() {
    let text = fs::read_to_string(root().join("docs/tutorial.md")).unwrap();
    let mut commands = String::new();
    let mut shell = false;
    for line in text.lines() {
        if line.starts_with("```") {
            shell = line == "```sh";
        } else if shell {
            commands.push_str(line);
            commands.push('\n');
        }
    }
    let count = commands
        .lines()
        .filter(|line| line.starts_with("tritbench ") || line.starts_with("cargo "))
        .count();
    assert!(count >= 20, "only {count} commands");

    let dir = tempfile::tempdir().unwrap();
    let (bin, home) = (dir.path().join("bin"), dir.path().join("home"));
    let work = dir.path().join("work");
    for path in [&bin, &home, &work] {
        fs::create_dir(path).unwrap();
    }
    let program = program().display();
    // The program of the tests has debug assertions, without which no reader has it: only for that is there another flag.
    script(
        &bin.join("tritbench"),
        &format!(
            "#!/bin/sh\nif [ \"$1\" = run ]; then shift; exec {program} run --allow-debug \"$@\"; fi\nexec {program} \"$@\"\n"
        ),
    );
    // Installing builds what is built already: with the profile and in the place of the tests.
    let built = Path::new(env!("CARGO_BIN_EXE_tritbench"));
    let target = built.parent().and_then(Path::parent).unwrap();
    script(
        &bin.join("cargo"),
        &format!(
            "#!/bin/sh\ncd {} && exec {} \"$@\" --profile test --locked --offline --root {} --target-dir {}\n",
            root().display(),
            std::env::var("CARGO").unwrap(),
            dir.path().join("installed").display(),
            target.display()
        ),
    );
    let path = std::env::var("PATH").unwrap();
    let output = Command::new("bash")
        .args(["-euxo", "pipefail", "-c", &commands])
        .current_dir(&work)
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("XDG_CACHE_HOME", &home)
        .env("XDG_DATA_HOME", &home)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    for file in [
        "trend.svg",
        "bmf.json",
        "first.parquet",
        "imported/report.md",
    ] {
        assert!(work.join(file).is_file(), "{file} was not made");
    }
    // What was installed runs by itself.
    let installed = Command::new(dir.path().join("installed/bin/tritbench"))
        .arg("--version")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&installed.stdout).starts_with("tritbench "));
}

#[test]
fn the_texts_of_the_licences_are_there() {
    assert!(
        fs::read_to_string(root().join("LICENSE-MIT"))
            .unwrap()
            .contains("MIT License")
    );
    let apache = fs::read_to_string(root().join("LICENSE-APACHE")).unwrap();
    assert!(apache.contains("Version 2.0, January 2004"));
    let manifest: toml::Table = fs::read_to_string(Path::new(&root()).join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(
        manifest["workspace"]["package"]["license"].as_str(),
        Some("MIT OR Apache-2.0")
    );
}
