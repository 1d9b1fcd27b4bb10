//! Files that must be refused: one fault each, in a model that is good otherwise. Every refusal names the file and what in
//! it is at fault, nothing panics, and no file makes the reader ask for more than 64 MB.

#[path = "../common/mod.rs"]
mod common;
mod gguf;
mod hf;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use common::{Gguf, Hf, Value, join, peak_address_space, read_all};
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

/// One test in a process of its own, because it watches the address space of the process.
#[test]
fn every_hostile_file_is_refused_by_name_and_within_bounds() {
    let mut cases = Cases::default();
    gguf::cases(&mut cases);
    hf::weights(&mut cases);
    hf::configuration(&mut cases);
    let dir = tempfile::tempdir().expect("a temporary folder");
    // What the cases are made of is good: each has its one fault.
    let good = dir.path().join("good.gguf");
    fs::write(&good, Gguf::tiny().bytes()).expect("written");
    assert_eq!(refusal(&good), None);
    let hf = dir.path().join("good");
    fs::create_dir(&hf).expect("made");
    fs::write(hf.join("config.json"), Hf::tiny().config_text()).expect("written");
    fs::write(hf.join("model.safetensors"), Hf::tiny().bytes()).expect("written");
    assert_eq!(refusal(&hf), None);

    let mut failures = Vec::new();
    let count = cases.0.len();
    assert!(count >= 40, "{count} cases");
    for (index, case) in cases.0.into_iter().enumerate() {
        let folder = dir.path().join(format!("case{index}"));
        fs::create_dir(&folder).expect("made");
        for (name, bytes) in &case.files {
            fs::write(folder.join(name), bytes).expect("written");
        }
        drop(case.files);
        let before = peak_address_space();
        let result = catch_unwind(AssertUnwindSafe(|| refusal(&folder.join(case.open))));
        let grown = peak_address_space()
            .zip(before)
            .map(|(after, before)| after - before);
        let what = case.what;
        match result {
            Err(_) => failures.push(format!("{what}: panic")),
            Ok(None) => failures.push(format!("{what}: read without complaint")),
            Ok(Some(text)) => {
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
        }
        if grown.is_some_and(|grown| grown > MOST_BYTES) {
            failures.push(format!("{what}: asked for {grown:?} bytes"));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {count}:\n{}",
        failures.len(),
        failures.join("\n")
    );
    check_meter();
}

/// The bound is worth something only if memory that is asked for and never touched moves the meter.
fn check_meter() {
    let before = peak_address_space();
    if before.is_none() && cfg!(not(target_os = "linux")) {
        return;
    }
    let before = before.expect("/proc/self/status says how large the process is");
    let asked: Vec<u8> = Vec::with_capacity(4 * MOST_BYTES as usize);
    assert!(asked.capacity() > MOST_BYTES as usize);
    let after = peak_address_space().unwrap_or(0);
    assert!(after - before > MOST_BYTES, "{before} {after}");
}
