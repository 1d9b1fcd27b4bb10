//! The arrows between crates, and the habits that no compiler checks.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Who may import whom, as drawn: `a` stands left of the crates that import it. Whatever a crate may import, it may also import
/// from further down.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "trit-kernel",
        &[
            "trit-ops",
            "trit-conformance",
            "trit-kernel-naive",
            "trit-kernel-lut",
            "trit-kernel-avx2",
            "trit-kernel-avx512",
            "trit-kernel-amx",
            "trit-kernel-neon",
            "trit-kernel-dense",
        ],
    ),
    ("trit-ops", &["trit-kernels", "trit-engine", "trit-run"]),
    ("trit-kernel-naive", &["trit-kernels"]),
    ("trit-kernel-lut", &["trit-kernels"]),
    ("trit-kernel-avx2", &["trit-kernels"]),
    ("trit-kernel-avx512", &["trit-kernels"]),
    ("trit-kernel-amx", &["trit-kernels"]),
    ("trit-kernel-neon", &["trit-kernels"]),
    ("trit-kernel-dense", &["trit-kernels"]),
    ("trit-kernels", &["trit-engine", "trit-run", "trit-benches"]),
    (
        "trit-core",
        &["trit-measure", "trit-engine", "trit-run", "trit-report"],
    ),
    ("trit-stats", &["trit-run", "trit-report"]),
    ("trit-measure", &["trit-engine", "trit-run"]),
    ("trit-engine", &["trit-run", "trit-benches"]),
    ("trit-run", &["tritbench"]),
    ("trit-report", &["tritbench"]),
];

/// Crates that may contain unsafe code: kernels behind safe traits, the float operations, and the system calls of trit-measure.
const UNSAFE_PATHS: &[&str] = &[
    "kernels/lut",
    "kernels/avx2",
    "kernels/avx512",
    "kernels/amx",
    "kernels/neon",
    "kernels/dense",
    "kernels/ops",
    "harness/measure/src/sys",
];

/// The longest source file a reader should have to face.
const MAX_LINES: usize = 800;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A package of the workspace.
struct Package {
    name: String,
    dir: PathBuf,
    imports: BTreeSet<String>,
    dev_imports: BTreeSet<String>,
    /// Root files of libraries and programs.
    roots: Vec<PathBuf>,
}

fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let imports = |dev: bool| {
                package["dependencies"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|dependency| (dependency["kind"] == "dev") == dev)
                    .map(|dependency| text(&dependency["name"]))
                    .collect()
            };
            Package {
                name: text(&package["name"]),
                dir: Path::new(&text(&package["manifest_path"]))
                    .parent()
                    .unwrap()
                    .to_owned(),
                imports: imports(false),
                dev_imports: imports(true),
                roots: package["targets"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|target| {
                        let kinds = target["kind"].as_array().unwrap();
                        kinds.iter().any(|kind| kind == "lib" || kind == "bin")
                    })
                    .map(|target| text(&target["src_path"]).into())
                    .collect(),
            }
        })
        .collect()
}

/// For each crate, all crates it may import.
fn allowed() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut allowed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (below, above) in ARROWS {
        allowed.entry(below).or_default();
        for importer in *above {
            allowed.entry(importer).or_default().insert(below);
        }
    }
    // The closure: as many passes as the longest chain.
    loop {
        let before: usize = allowed.values().map(BTreeSet::len).sum();
        for importer in allowed.keys().copied().collect::<Vec<_>>() {
            let further: BTreeSet<&str> = allowed[importer]
                .iter()
                .flat_map(|below| allowed[below].clone())
                .collect();
            allowed.entry(importer).or_default().extend(further);
        }
        if allowed.values().map(BTreeSet::len).sum::<usize>() == before {
            return allowed;
        }
    }
}

#[test]
fn imports_follow_the_arrows() {
    let allowed = allowed();
    let packages = packages();
    let ours: BTreeSet<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let mut wrong = Vec::new();
    for package in &packages {
        let Some(may) = allowed.get(package.name.as_str()) else {
            wrong.push(format!("`{}` has no place in ARROWS", package.name));
            continue;
        };
        for import in package
            .imports
            .iter()
            .filter(|name| ours.contains(name.as_str()))
        {
            if !may.contains(import.as_str()) {
                wrong.push(format!("`{}` must not import `{import}`", package.name));
            }
        }
        let kernels = package.dir.starts_with(root().join("kernels"));
        for import in package
            .dev_imports
            .iter()
            .filter(|name| ours.contains(name.as_str()))
        {
            let conformance = kernels && import == "trit-conformance";
            if !conformance && !may.contains(import.as_str()) && package.name != "tritbench" {
                wrong.push(format!(
                    "tests of `{}` must not import `{import}`",
                    package.name
                ));
            }
        }
    }
    for name in allowed.keys().filter(|name| !ours.contains(*name)) {
        wrong.push(format!("`{name}` is in ARROWS and not in the workspace"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_drawing_keeps_its_promises() {
    let allowed = allowed();
    // Reports are made from rows alone: another machine's rows are as good as ours.
    assert_eq!(
        allowed["trit-report"],
        BTreeSet::from(["trit-core", "trit-stats"])
    );
    assert!(allowed["trit-stats"].is_empty());
    for (name, may) in &allowed {
        if name.starts_with("trit-kernel-") || *name == "trit-conformance" {
            assert_eq!(*may, BTreeSet::from(["trit-kernel"]), "{name}");
        }
        assert!(!may.contains(name), "`{name}` imports itself");
    }
}

/// Every Rust file that belongs to the project.
fn sources() -> Vec<PathBuf> {
    fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
        let mut entries: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        for path in entries {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    collect(&path, files);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    for dir in ["kernels", "harness", "suites", "reports", "tests"] {
        collect(&root().join(dir), &mut files);
    }
    assert!(files.len() > 30, "only {} files were found", files.len());
    files
}

/// The code of a file without comments, strings and character literals.
fn code(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    let starts = |at: usize, text: &str| {
        text.chars()
            .enumerate()
            .all(|(i, c)| chars.get(at + i) == Some(&c))
    };
    while at < chars.len() {
        if starts(at, "//") {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if starts(at, "/*") {
            let mut depth = 1;
            at += 2;
            while at < chars.len() && depth > 0 {
                if starts(at, "/*") {
                    depth += 1;
                    at += 2;
                } else if starts(at, "*/") {
                    depth -= 1;
                    at += 2;
                } else {
                    at += 1;
                }
            }
        } else if chars[at] == 'r'
            && (at == 0 || !(chars[at - 1].is_alphanumeric() || chars[at - 1] == '_'))
            && {
                let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
                chars.get(at + 1 + hashes) == Some(&'"')
            }
        {
            let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
            let end = format!("\"{}", "#".repeat(hashes));
            at += 2 + hashes;
            while at < chars.len() && !starts(at, &end) {
                at += 1;
            }
            at += end.len();
        } else if chars[at] == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if chars[at] == '\''
            && (chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\''))
        {
            at += if chars[at + 1] == '\\' { 3 } else { 2 };
            while at < chars.len() && chars[at] != '\'' {
                at += 1;
            }
            at += 1;
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

/// Whether `word` stands in `code` by itself.
fn has_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .any(|token| token == word)
}

#[test]
fn comments_and_strings_are_not_code() {
    let source = r##"// unsafe
/* unsafe /* nested */ unsafe */ let a = "unsafe \" unsafe"; let b = r#"unsafe " "#; let c = '"'; let d = '\''; fn f<'a>() {}"##;
    assert!(!has_word(&code(source), "unsafe"), "{}", code(source));
    assert!(has_word(&code("let x = '\"'; unsafe { g() }"), "unsafe"));
    assert!(!has_word(&code("unsafe_code"), "unsafe"));
    assert!(has_word(&code("r(1); for r in x { unsafe {} }"), "unsafe"));
}

#[test]
fn unsafe_stays_where_it_is_allowed() {
    let root = root();
    let permitted = |path: &Path| {
        UNSAFE_PATHS
            .iter()
            .any(|allowed| path.starts_with(root.join(allowed)))
    };
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in sources() {
        if has_word(&code(&fs::read_to_string(&path).unwrap()), "unsafe") {
            seen += 1;
            if !permitted(&path) {
                wrong.push(path.display().to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "unsafe code in {wrong:?}");
    assert!(
        seen > 0,
        "the kernels have unsafe code: the search is broken"
    );
    for package in packages() {
        let allowed = UNSAFE_PATHS
            .iter()
            .any(|path| package.dir == root.join(path));
        for file in &package.roots {
            let text = code(&fs::read_to_string(file).unwrap());
            let want = if package.name == "trit-measure" {
                "#![deny(unsafe_code)]"
            } else {
                "#![forbid(unsafe_code)]"
            };
            assert!(
                allowed || text.contains(want),
                "{} lacks {want}",
                file.display()
            );
        }
    }
}

#[test]
fn files_are_short() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter_map(|path| {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            (lines > MAX_LINES).then(|| format!("{}: {lines} lines", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "split these: {}", long.join(", "));
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for package in packages() {
        let manifest = package.dir.join("Cargo.toml");
        let table: toml::Table = fs::read_to_string(&manifest).unwrap().parse().unwrap();
        assert_eq!(
            table.get("lints").and_then(|lints| lints.get("workspace")),
            Some(&toml::Value::Boolean(true)),
            "{}",
            manifest.display()
        );
    }
}
