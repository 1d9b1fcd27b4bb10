//! What the documents say exists.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn tritbench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tritbench"))
        .args(arguments)
        .output()
        .unwrap()
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
        if ["|", ">", "#"].contains(word) {
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
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = fs::read_to_string(root().join(name)).unwrap();
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
                    check(name, &span, &known);
                    checked += 1;
                }
            }
        }
    }
    assert!(checked >= 5, "only {checked} commands were found");
}

#[test]
fn every_file_that_the_documents_link_exists() {
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = fs::read_to_string(root().join(name)).unwrap();
        for target in text
            .split("](")
            .skip(1)
            .map(|rest| rest.split(')').next().unwrap())
        {
            if !target.starts_with("http") && !target.starts_with('#') {
                let path = root().join(target.split('#').next().unwrap());
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
