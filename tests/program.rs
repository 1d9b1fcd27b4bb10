//! Programs that are not ours as subjects: their times, their answers, and their absence.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::{run, stderr, stdout};
use trit_core::{Cell, Measurement, PairQuantity, PairRow, RunDir, Status, SummaryRow, Workload};

/// A file that tests may execute.
fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let file = dir.join(name);
    fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file
}

fn last(rows: &[Cell], subject: &str) -> Cell {
    let mut rows = rows.iter().filter(|row| row.subject == subject);
    rows.next_back().unwrap().clone()
}

#[test]
fn programs_are_measured_in_turn_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let model = "harness/engine/assets/shakespeare.gguf";
    // What ours says, by the command that a user would call.
    let ours = run([
        "generate",
        "--model",
        model,
        "--prompt",
        "ROMEO:",
        "--max-tokens",
        "12",
        "--temperature",
        "0",
        "--tune",
        "off",
    ]);
    assert_eq!(ours.status.code(), Some(0), "{}", stderr(&ours));
    fs::write(dir.path().join("ours.txt"), &ours.stdout).unwrap();
    // It says how it was called, takes memory, and prints the lines of a tool whose format is known.
    let bench = script(
        dir.path(),
        "bench",
        r#"echo "$@" >> "$0.calls"
fill=$(head -c 20000000 /dev/zero | tr '\0' x)
case "$2" in
  0) echo '{"n_prompt":0,"n_gen":16,"samples_ns":[32000000]}' ;;
  *) echo "loading ${#fill}"; echo '{"n_prompt":64,"n_gen":0,"samples_ns":[8000000]}' ;;
esac"#,
    );
    let talker = script(
        dir.path(),
        "talker",
        r#"echo "$1"; cat "$(dirname "$0")/ours.txt""#,
    );
    let liar = script(dir.path(), "liar", "echo nothing of the kind");
    // A form that we do not read.
    let sealed = dir.path().join("sealed.bin");
    fs::write(&sealed, "no model of ours").unwrap();
    let sealed = sealed.display();
    let (bench, talker, liar) = (bench.display(), talker.display(), liar.display());
    let suite = format!(
        r#"
[suite]
name = "programs"
budget = "4s"

[run]
rounds = 7

[[generate]]
tests = ["tg16"]
models = ["{model}", "builtin:shakespeare"]
kernels = ["w2a8-swar-scalar"]
threads = [1]

[[program]]
name = "known"
workload = "decode"
command = ["{bench}", "-p", "0", "-n", "{{gen_tokens}}", "-t", "{{threads}}", "-m", "{{model}}"]
models = ["{model}"]
same_as = ["builtin:shakespeare"]
threads = [2]
gen_tokens = 16
[program.check]
command = ["{talker}", "{{prompt}}"]
prompt = "ROMEO:"
tokens = 12
same_chars = 10

[[program]]
name = "known"
workload = "prefill"
command = ["{bench}", "64", "{{prompt_tokens}}"]
models = ["{model}"]
threads = [1]
prompt_tokens = 64

[[program]]
name = "sealed"
workload = "decode"
command = ["{bench}", "-p", "0"]
models = ["{sealed}"]
same_as = ["builtin:shakespeare"]
threads = [1]
gen_tokens = 16
[program.check]
command = ["{talker}", "{{prompt}}"]
prompt = "ROMEO:"
tokens = 12
same_chars = 10

[[program]]
name = "stand-in"
workload = "decode"
command = ["{bench}", "-p", "0"]
models = ["{sealed}"]
same_as = ["synth:125m"]
threads = [1]
gen_tokens = 16
[program.check]
command = ["{talker}", "{{prompt}}", "{{model}}"]
prompt = "ROMEO:"
tokens = 12
same_chars = 10
model = "{model}"

[[program]]
name = "wrong"
workload = "decode"
command = ["{bench}", "-p", "0"]
models = ["{model}"]
threads = [1]
gen_tokens = 16
[program.check]
command = ["{liar}"]
prompt = "ROMEO:"
tokens = 12

[[program]]
name = "absent"
workload = "decode"
command = ["no-such-program-anywhere"]
models = ["{model}"]
threads = [1]

[[program]]
name = "plain"
workload = "decode"
command = ["echo", "3000000,6"]
output = "nanos-tokens"
models = ["{model}"]
threads = [1]
gen_tokens = 6

[[program]]
name = "silent"
workload = "decode"
command = ["true"]
models = ["{model}"]
threads = [1]
"#
    );
    let file = dir.path().join("programs.toml");
    fs::write(&file, suite).unwrap();
    let out = dir.path().join("out");
    let done = run([
        OsStr::new("run"),
        OsStr::new("--allow-debug"),
        file.as_ref(),
        OsStr::new("--out"),
        out.as_ref(),
    ]);
    assert_eq!(
        done.status.code(),
        Some(7),
        "{}{}",
        stdout(&done),
        stderr(&done)
    );
    let record = RunDir::open(&out).unwrap();
    let cells: Vec<Cell> = record.read().unwrap();
    let status = |subject: &str| {
        let row = last(&cells, subject);
        (row.status, row.reason)
    };
    let (wrong, why) = status("program:wrong");
    assert_eq!(wrong, Status::Wrong, "{why}");
    assert!(why.contains("characters"), "{why}");
    let (absent, why) = status("program:absent");
    assert_eq!(absent, Status::Skipped, "{why}");
    assert!(why.contains("not installed"), "{why}");
    let (silent, why) = status("program:silent");
    assert_eq!(silent, Status::Failed, "{why}");
    assert!(why.contains("no time"), "{why}");

    let summary: Vec<SummaryRow> = record.read().unwrap();
    let of = |subject: &str, workload: Workload| {
        let mut rows = summary.iter();
        let found = rows.find(|row| row.cell.subject == subject && row.cell.workload == workload);
        found.unwrap_or_else(|| panic!("no row of {subject} {workload}"))
    };
    let near = |value: Option<f64>, want: f64| {
        let value = value.unwrap();
        assert!((value / want - 1.0).abs() < 1e-9, "{value} is not {want}");
    };
    let decode = of("program:known", Workload::Decode);
    assert_eq!(
        (decode.cell.status, decode.cell.answer.as_str()),
        (Status::Ok, "checked")
    );
    near(decode.results.tokens_per_s, 500.0);
    // It stands beside the model whose weights its file holds; the id says which file that was.
    assert_eq!(decode.cell.model, "builtin:shakespeare");
    assert!(decode.cell.cell.contains(model), "{}", decode.cell.cell);
    let prefill = of("program:known", Workload::Prefill);
    assert_eq!(
        (prefill.cell.status, prefill.cell.answer.as_str()),
        (Status::Ok, "unchecked")
    );
    assert_eq!(prefill.cell.model, model);
    near(prefill.results.tokens_per_s, 8000.0);
    near(
        of("program:plain", Workload::Decode).results.tokens_per_s,
        2000.0,
    );
    assert!(
        of("engine:w2a8-swar-scalar", Workload::Decode)
            .results
            .tokens_per_s
            .unwrap()
            > 0.0
    );
    // What only the program reads is checked with our file of the same weights, or with another model.
    let sealed_row = of("program:sealed", Workload::Decode);
    assert_eq!(
        (sealed_row.cell.status, sealed_row.cell.answer.as_str()),
        (Status::Ok, "checked")
    );
    let answer = &of("program:stand-in", Workload::Decode).cell.answer;
    assert_eq!(*answer, format!("checked on {model}"));
    // Ours against it, round by round: it takes two milliseconds a token in each.
    let pairs: Vec<PairRow> = record.read().unwrap();
    let beside: Vec<&PairRow> = pairs
        .iter()
        .filter(|pair| pair.quantity == PairQuantity::Program)
        .collect();
    assert_eq!(beside.len(), 1, "{pairs:?}");
    let pair = beside[0];
    assert_eq!(pair.b, sealed_row.cell.cell);
    assert_eq!(pair.blocks, 7, "{pair:?}");
    let slices: Vec<Measurement> = record.read().unwrap();
    let ours = slices.iter().filter(|row| row.cell == pair.a);
    let each = ours.map(|row| 2e6 * row.iterations as f64 / row.time_ns as f64);
    let (least, most) = each.fold((f64::INFINITY, 0.0f64), |(least, most), ratio| {
        (least.min(ratio), most.max(ratio))
    });
    let (lo, ratio, hi) = (pair.lo.unwrap(), pair.ratio.unwrap(), pair.hi.unwrap());
    assert!(
        least * 0.999 <= lo && lo <= ratio && ratio <= hi && hi <= most * 1.001,
        "{pair:?}: {least} to {most}"
    );
    // The program was called with everything filled in.
    let calls = fs::read_to_string(dir.path().join("bench.calls")).unwrap();
    assert!(
        calls.contains(&format!("-p 0 -n 16 -t 2 -m {model}")),
        "{calls}"
    );
    // Memory and CPU time are those of the program: its 20 MB are in no process of ours that ran it.
    let rows: Vec<Measurement> = record.read().unwrap();
    let mut rows = rows.iter().filter(|row| row.cell == decode.cell.cell);
    let row = rows.next().unwrap();
    assert!(row.peak_rss_bytes.unwrap() > 15_000_000, "{row:?}");
    assert!(row.user_ns.unwrap() > 0, "{row:?}");
    // The report speaks of it.
    let report = fs::read_to_string(out.join("report.md")).unwrap();
    assert!(report.contains("program:known"), "{report}");
    assert!(report.contains("Beside other programs"), "{report}");
}

#[test]
fn sections_that_make_no_sense_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (text, words) in [
        (
            "name = \"a b\"\nworkload = \"decode\"\ncommand = [\"x\"]\nmodels = [\"m\"]",
            "program[0].name",
        ),
        (
            "name = \"a\"\nworkload = \"gemm\"\ncommand = [\"x\"]\nmodels = [\"m\"]",
            "program[0].workload",
        ),
        (
            "name = \"a\"\nworkload = \"decode\"\ncommand = []\nmodels = [\"m\"]",
            "program[0].command",
        ),
        (
            "name = \"a\"\nworkload = \"decode\"\ncommand = [\"x\"]\nmodels = [\"synth:2b4t\"]",
            "model synth",
        ),
        (
            "name = \"a\"\nworkload = \"decode\"\ncommand = [\"x\"]\nmodels = [\"m\"]\noutput = \"xml\"",
            "llama-bench",
        ),
        (
            "name = \"a\"\nworkload = \"decode\"\ncommand = [\"x\"]\nmodels = [\"m\"]\nargs = 1",
            "unknown field `args`",
        ),
    ] {
        let file = dir.path().join("suite.toml");
        fs::write(
            &file,
            format!("[suite]\nname = \"a\"\n[[program]]\n{text}\n"),
        )
        .unwrap();
        common::refused(
            [
                OsStr::new("run"),
                OsStr::new("--allow-debug"),
                file.as_ref(),
            ],
            5,
            &[words],
        );
    }
}
