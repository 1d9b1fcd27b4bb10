//! Shipped suites are tests too: every cell is verified, however little time there is. Broken ones are refused.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::{path, run, stderr};
use trit_core::{Cell, ModelShape, RunDir, Status, Suite, is_final};

/// The cells of a suite that ran. The budget is far below the need: each cell gets its fewest samples, each of them checked.
fn fewest_samples(what: &[&str]) -> Vec<Cell> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let quickly = ["--allow-debug", "--budget", "1s", "--out"];
    let output = run([&["run"], what, &quickly, &[out.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    RunDir::open(&out).unwrap().cells().unwrap()
}

#[test]
fn the_quick_suite_verifies_every_cell() {
    let cells = fewest_samples(&["quick"]);
    for cell in &cells {
        assert!(is_final(cell), "{} is not finished", cell.cell);
        assert_eq!(cell.status, Status::Ok, "{}: {}", cell.cell, cell.reason);
    }
    let subjects: BTreeSet<&str> = cells.iter().map(|cell| cell.kernel.as_str()).collect();
    let opened = trit_kernels::kernels()
        .iter()
        .filter(|entry| (entry.open)(trit_kernel::Cpu::uncapped()).is_ok());
    for entry in opened {
        assert!(
            subjects.contains(entry.info.id),
            "{} has no row",
            entry.info.id
        );
    }
}

#[test]
fn every_shipped_suite_can_be_read() {
    let mut seen = 0;
    for entry in fs::read_dir(path("suites")).unwrap() {
        let file = entry.unwrap().path();
        if file
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            // The files that are no suites; the tests of their readers take them.
            if ["limits.toml", "claims.toml"].contains(&name.as_str()) {
                continue;
            }
            let suite = Suite::parse(&name, &fs::read_to_string(&file).unwrap()).unwrap();
            assert_eq!(
                format!("{}.toml", suite.name),
                name,
                "a suite has the name of its file"
            );
            seen += 1;
        }
    }
    assert_eq!(
        seen,
        trit_core::suite_names().len(),
        "every suite is embedded, and none twice"
    );
}

#[test]
fn the_levels_run_on_the_model_of_the_program() {
    let cells = fewest_samples(&["levels", "--model", "builtin:shakespeare"]);
    let mut levels = BTreeSet::new();
    let mut prompts = BTreeSet::new();
    for cell in &cells {
        if ["library", "workshop", "harbour"].contains(&cell.prompt.as_str()) {
            // The model was made for 256 positions.
            assert_eq!(cell.status, Status::Skipped, "{}", cell.cell);
            assert!(cell.reason.contains("context"), "{}", cell.reason);
            continue;
        }
        assert_eq!(cell.status, Status::Ok, "{}: {}", cell.cell, cell.reason);
        // Its own tokenizer says how many tokens a question is.
        assert!(cell.prompt_tokens.is_some_and(|tokens| tokens > 8));
        levels.insert((cell.kernel == "w2a8-naive-scalar", cell.head.clone()));
        prompts.insert(cell.prompt.clone());
    }
    let level = |naive, head: &str| (naive, head.to_owned());
    let want = [level(true, "f16"), level(false, "f16"), level(false, "i8")];
    assert_eq!(levels, want.into_iter().collect());
    assert_eq!(prompts.len(), 4, "{prompts:?}");
}

/// Splitmix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Changes a text in one to four places: a byte, a piece that is cut out, doubled or moved, a hostile value.
fn mutate(text: &str, state: &mut u64) -> String {
    const VALUES: &[&str] = &[
        "-1",
        "0",
        "1e308",
        "nan",
        "18446744073709551616",
        "\"\"",
        "[]",
        "{}",
        "[[",
        "\u{0}",
        "=",
        "\"",
        "all",
        "🦀",
    ];
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=random(state) % 4 {
        let at = random(state) as usize % (bytes.len() + 1);
        let len = (random(state) as usize % 24).min(bytes.len() - at);
        match random(state) % 4 {
            0 if at < bytes.len() => bytes[at] = random(state) as u8,
            1 => drop(bytes.drain(at..at + len)),
            2 => {
                let piece = bytes[at..at + len].to_vec();
                let to = random(state) as usize % (bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            _ => {
                let value = VALUES[random(state) as usize % VALUES.len()];
                drop(bytes.splice(at..at + len, value.bytes()));
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `TRIT_MUTATIONS` sets how many; the seed is fixed, so that a failure repeats.
#[test]
fn mutated_suites_and_shapes_are_read_or_refused() {
    let count: u64 = std::env::var("TRIT_MUTATIONS").map_or(5_000, |text| {
        text.parse().expect("TRIT_MUTATIONS is a number")
    });
    let suite = trit_core::embedded_suite("quick").unwrap();
    let shape = fs::read_to_string(path("suites/shapes/2b4t.toml")).unwrap();
    let (mut read, mut refused) = (0u64, 0u64);
    for number in 0..count {
        let mut state = number;
        let (ok, message) = if number % 2 == 0 {
            let text = mutate(suite, &mut state);
            (Suite::parse("m.toml", &text).map(drop), text)
        } else {
            let text = mutate(&shape, &mut state);
            (ModelShape::parse("m.toml", &text).map(drop), text)
        };
        match ok {
            Ok(()) => read += 1,
            Err(error) => {
                refused += 1;
                let error = error.to_string();
                assert!(
                    error.starts_with("m.toml:") && error.len() < 2000,
                    "mutation {number}: {error}\n{message}"
                );
            }
        }
    }
    assert!(read > 0 && refused > 0, "{read} read, {refused} refused");
}
