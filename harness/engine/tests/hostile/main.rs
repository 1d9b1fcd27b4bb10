//! Files that must be refused: one fault each, in a model that is good otherwise. Every refusal names the file and what in
//! it is at fault, nothing panics, and no file makes the reader ask for more than 64 MB.

#[path = "../common/mod.rs"]
mod common;
mod gguf;
mod hf;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Gguf, Hf, Value, address_space, join, peak_address_space, read_all};
use serde::{Deserialize, Serialize};
use trit_engine::file::{Checkpoint, FileOptions};

const MOST_BYTES: u64 = 64 << 20;

/// One file, or folder, that must be refused.
struct Case {
    what: &'static str,
    /// Names in the folder of the case.
    files: Vec<(&'static str, Vec<u8>)>,
    /// What to open; empty for the folder.
    open: &'static str,
    /// The name of the file at fault and texts that the error must have.
    names: Vec<&'static str>,
}

#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn raw_gguf(&mut self, what: &'static str, bytes: Vec<u8>, names: &[&'static str]) {
        self.0.push(Case {
            what,
            files: vec![("model.gguf", bytes)],
            open: "model.gguf",
            names: [&["model.gguf"], names].concat(),
        });
    }

    fn gguf(&mut self, what: &'static str, names: &[&'static str], change: impl FnOnce(&mut Gguf)) {
        let mut gguf = Gguf::tiny();
        change(&mut gguf);
        self.raw_gguf(what, gguf.bytes(), names);
    }

    /// A key that is replaced.
    fn key(&mut self, what: &'static str, key: &'static str, value: Value, names: &[&'static str]) {
        let names = [&[key], names].concat();
        self.gguf(what, &names, |gguf| gguf.set(key, value));
    }

    fn raw_hf(
        &mut self,
        what: &'static str,
        config: Vec<u8>,
        weights: Vec<u8>,
        names: &[&'static str],
    ) {
        self.0.push(Case {
            what,
            files: vec![("config.json", config), ("model.safetensors", weights)],
            open: "",
            names: names.to_vec(),
        });
    }

    /// A fault of the configuration.
    fn config(&mut self, what: &'static str, key: &'static str, value: serde_json::Value) {
        let mut hf = Hf::tiny();
        hf.set(key, value);
        self.raw_hf(what, hf.config_text(), hf.bytes(), &["config.json", key]);
    }

    /// A fault of the weights.
    fn hf(&mut self, what: &'static str, names: &[&'static str], change: impl FnOnce(&mut Hf)) {
        let mut hf = Hf::tiny();
        change(&mut hf);
        let names = [&["model.safetensors"], names].concat();
        self.raw_hf(what, hf.config_text(), hf.bytes(), &names);
    }

    /// A header of any text over the data of the good model.
    fn hf_header(
        &mut self,
        what: &'static str,
        names: &[&'static str],
        header: impl FnOnce(String) -> String,
    ) {
        let hf = Hf::tiny();
        let (entries, data) = hf.entries();
        let text = serde_json::to_string(&entries).expect("JSON");
        let names = [&["model.safetensors"], names].concat();
        self.raw_hf(
            what,
            hf.config_text(),
            join(header(text).as_bytes(), &data),
            &names,
        );
    }
}

/// Opens a file and reads all of it, as an engine does.
fn refusal(path: &Path) -> Option<String> {
    let result = Checkpoint::open(path, &FileOptions::default())
        .and_then(|checkpoint| read_all(&checkpoint, None));
    result.err().map(|e| e.to_string())
}

/// Tells the reading process where the files are.
const FOLDER: &str = "TRIT_HOSTILE_FOLDER";
const PATHS: &str = "paths.json";
const ANSWERS: &str = "answers.json";

/// What the reading process finds.
#[derive(Serialize, Deserialize)]
struct Answers {
    /// `None` where a file was read without complaint, `panic` where reading panicked.
    texts: Vec<Option<String>>,
    /// Bytes of address space over all files beyond those before the first. Allocations count that are never touched.
    grown: Option<u64>,
}

#[test]
fn every_hostile_file_is_refused_by_name_and_within_bounds() {
    let mut cases = Cases::default();
    gguf::cases(&mut cases);
    hf::weights(&mut cases);
    hf::configuration(&mut cases);
    let count = cases.0.len();
    assert!(count >= 40, "{count} cases");

    let dir = tempfile::tempdir().expect("a temporary folder");
    // What the cases are made of is good: each has its one fault.
    let good = dir.path().join("good.gguf");
    fs::write(&good, Gguf::tiny().bytes()).expect("written");
    assert_eq!(refusal(&good), None);
    let folder = dir.path().join("good");
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join("config.json"), Hf::tiny().config_text()).expect("written");
    fs::write(folder.join("model.safetensors"), Hf::tiny().bytes()).expect("written");
    assert_eq!(refusal(&folder), None);

    let folders: Vec<PathBuf> = (0..count)
        .map(|i| dir.path().join(format!("case{i}")))
        .collect();
    for (case, folder) in cases.0.iter().zip(&folders) {
        for (name, bytes) in &case.files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().expect("it is in the folder")).expect("made");
            fs::write(path, bytes).expect("written");
        }
    }
    let paths: Vec<PathBuf> = cases
        .0
        .iter()
        .zip(&folders)
        .map(|(case, folder)| folder.join(case.open))
        .collect();
    let answers = read_elsewhere(dir.path(), &paths);
    assert_eq!(answers.texts.len(), count);

    let mut failures = Vec::new();
    for ((case, folder), text) in cases.0.iter().zip(&folders).zip(&answers.texts) {
        let what = case.what;
        let Some(text) = text else {
            failures.push(format!("{what}: read without complaint"));
            continue;
        };
        let folder = folder.display().to_string();
        if !text.contains(&folder) {
            failures.push(format!("{what}: does not name the file: {text}"));
        }
        // The path is left out, so that it cannot contain a name by accident.
        let rest = text.replace(&folder, "");
        for name in case.names.iter().filter(|name| !rest.contains(**name)) {
            failures.push(format!("{what}: want `{name}` in: {rest}"));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {count}:\n{}",
        failures.len(),
        failures.join("\n")
    );
    let measured = answers.grown.is_some();
    assert!(
        measured || cfg!(not(target_os = "linux")),
        "the bound was not checked"
    );
    let grown = answers.grown.unwrap_or(0);
    assert!(grown <= MOST_BYTES, "asked for {grown} bytes");
}

/// Has a fresh process read the files: what this one allocated to make them would hide what reading them takes.
fn read_elsewhere(dir: &Path, paths: &[PathBuf]) -> Answers {
    fs::write(dir.join(PATHS), serde_json::to_string(paths).expect("JSON")).expect("written");
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "reader", "--test-threads=1"])
        .env(FOLDER, dir)
        // glibc reserves 64 MB of address space for the heap of a second thread, and needs none of it.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .expect("a second process");
    assert!(
        output.status.success(),
        "the reading process ended early: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answers = fs::read(dir.join(ANSWERS)).expect("the reading process wrote its answers");
    serde_json::from_slice(&answers).expect("JSON")
}

/// The reading process. Alone, it only checks that its meter moves.
#[test]
fn reader() {
    let start = address_space();
    let grown = || Some(peak_address_space()? - start?);
    if let Some(dir) = std::env::var_os(FOLDER).map(PathBuf::from) {
        let paths = fs::read(dir.join(PATHS)).expect("the paths");
        let paths: Vec<PathBuf> = serde_json::from_slice(&paths).expect("JSON");
        let texts = paths
            .iter()
            .map(|path| {
                catch_unwind(AssertUnwindSafe(|| refusal(path)))
                    .unwrap_or_else(|_| Some("panic".to_owned()))
            })
            .collect();
        let answers = Answers {
            texts,
            grown: grown(),
        };
        fs::write(
            dir.join(ANSWERS),
            serde_json::to_string(&answers).expect("JSON"),
        )
        .expect("written");
    }
    // The bound is worth something only if memory that is asked for and never touched moves the meter.
    let asked: Vec<u8> = Vec::with_capacity(4 * MOST_BYTES as usize);
    assert!(asked.capacity() as u64 > MOST_BYTES);
    assert!(
        grown().is_none_or(|grown| grown > MOST_BYTES),
        "{:?}",
        grown()
    );
}
