//! The report about machines: one subject each, shares by its own probes, what is averaged and what is refused; the same bytes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{KERNELS, row, session};
use serde_json::{Value, json};
use trit_core::{Probe, SummaryRow, Workload};
use trit_report::{Format, MachineRun, MachinesError, Record, machines_paper};

const COLD: Workload = Workload::GemvCold;
const SHAPE: (u64, u64) = (1000, 1000);

fn probe(subject: &str, variant: &str, threads: u64, rate: u64) -> Probe {
    Probe {
        subject: subject.to_owned(),
        variant: variant.to_owned(),
        threads,
        amount_per_iteration: 100 * rate,
        time_ns: 100.0,
        ..Probe::default()
    }
}

/// A kernel's row with its instruction set, its rate in bytes and 1 % about its time.
fn cell(kernel: &str, isa: &str, threads: u64, ns: f64) -> SummaryRow {
    let mut row = row(kernel, COLD, SHAPE, threads, ns);
    isa.clone_into(&mut row.cell.isa);
    // A quarter of a byte a weight.
    row.results.gb_per_s = Some((SHAPE.0 * SHAPE.1) as f64 / 4.0 / ns);
    row
}

/// A run on a machine whose memory reads `read` bytes a nanosecond and which does ten thousand operations.
fn run(name: &str, fingerprint: &str, read: u64, rows: Vec<SummaryRow>) -> MachineRun {
    let mut session = session();
    session.machine["build"] = json!({
        "rustc": "rustc 1.95.0", "target": "x86_64", "opt_level": "3", "rustflags": null, "debug_assertions": false
    });
    session.survey = json!([
        {"id": "w2a8-swar-scalar", "isa": "scalar", "unavailable": ""},
        {"id": "w2a8-mad-avx2", "isa": "avx2", "unavailable": ""},
        {"id": "w2a8-mad-avx512vnni", "isa": "avx512vnni", "unavailable": ""},
    ]);
    session.probes = vec![
        probe("probe:read", "read-avx2-x4", 1, read),
        probe("probe:peak", "int8-avx2", 1, 10_000),
    ];
    let mut record = Record {
        session,
        rows,
        ..Record::default()
    };
    record.heading.machine = format!("machine {fingerprint}");
    MachineRun {
        name: name.to_owned(),
        fingerprint: fingerprint.to_owned(),
        record,
    }
}

fn lines(runs: &[MachineRun]) -> Vec<Value> {
    let paper = machines_paper(runs).unwrap();
    serde_json::from_str(&paper.render(Format::Json)).unwrap()
}

fn markdown(runs: &[MachineRun]) -> String {
    machines_paper(runs).unwrap().render(Format::Md)
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "lacks `{part}`:\n{text}");
    }
}

fn two() -> [MachineRun; 2] {
    let rows = |factor: f64| {
        vec![
            cell("w2a8-mad-avx2", "avx2", 1, 50_000.0 * factor),
            cell("w2a8-swar-scalar", "scalar", 1, 800_000.0 * factor),
        ]
    };
    [
        run("here", "aaaa", 10, rows(1.0)),
        run("there", "bbbb", 5, rows(2.0)),
    ]
}

#[test]
fn every_machine_is_measured_by_its_own_probes() {
    let [mut here, there] = two();
    // 250,000 bytes in 50,000 ns are half of 10 bytes a nanosecond; there the machine is half as fast and so is its memory.
    let all = lines(&[here.clone(), there.clone()]);
    let of = |all: &[Value], machine: &str| {
        let found = all
            .iter()
            .find(|line| line["machine"] == machine && line["subject"] == "w2a8-mad-avx2");
        found.unwrap().clone()
    };
    for machine in ["A", "B"] {
        let line = of(&all, machine);
        assert_eq!(line["bandwidth_share"], 0.5, "{machine}");
        assert_eq!(line["bandwidth_basis"], "separate probe");
        // Eight operations a byte: bandwidth is the lower roof.
        assert_eq!(
            (&line["limit"], &line["limit_share"]),
            (&json!("bandwidth"), &json!(0.5))
        );
    }
    let b = of(&all, "B");
    assert_eq!(
        (&b["as_fast_as_first"], &b["peak_share"]),
        (&json!(0.5), &json!(0.002))
    );
    assert_eq!(of(&all, "A").get("as_fast_as_first"), None);
    let (lo, hi) = (
        b["as_fast_lo"].as_f64().unwrap(),
        b["as_fast_hi"].as_f64().unwrap(),
    );
    assert!(lo < 0.5 && hi > 0.5 && lo > 0.49 && hi < 0.51, "{lo} {hi}");
    // A pair with the probe counts before a probe at another time.
    let results = &mut here.record.rows[0].results;
    results.bandwidth_share = Some(0.47);
    (results.bandwidth_share_lo, results.bandwidth_share_hi) = (Some(0.46), Some(0.48));
    let all = lines(&[here, there.clone()]);
    let a = of(&all, "A");
    assert_eq!(
        (&a["bandwidth_share"], &a["bandwidth_basis"]),
        (&json!(0.47), &json!("pair"))
    );
    assert_eq!(
        (&a["bandwidth_share_lo"], &a["limit_share"]),
        (&json!(0.46), &json!(0.47))
    );
    // Without probes there are times and no shares.
    let mut bare = there;
    bare.record.session.probes.clear();
    let all = lines(&[bare, two()[0].clone()]);
    let line = of(&all, "A");
    assert_eq!(line["median_ns"], 100_000.0);
    for missing in [
        "bandwidth_share",
        "peak_share",
        "limit_share",
        "bandwidth_basis",
    ] {
        assert_eq!(line.get(missing), None, "{missing}");
    }
}

#[test]
fn weights_in_cache_are_under_no_bandwidth() {
    let [mut here, there] = two();
    for row in &mut here.record.rows {
        row.cell.workload = Workload::GemvWarm;
    }
    let all = lines(&[here, there]);
    let warm = all
        .iter()
        .find(|line| line["workload"] == "gemv-warm")
        .unwrap();
    assert_eq!(warm.get("bandwidth_share"), None);
    assert_eq!(
        (&warm["peak_share"], &warm["limit"]),
        (&json!(0.004), &json!("peak"))
    );
}

#[test]
fn what_agrees_is_averaged_one_instruction_set_at_a_time() {
    let text = markdown(&two());
    has(
        &text,
        &[
            "- **A**: machine aaaa: `here` of 2026-03-01T09:30:00Z",
            "## Means by instruction set",
            "| gemv-cold | avx2 | B | 1 | 0.500x |  |",
            "| gemv-cold | scalar | B | 1 | 0.500x |  |",
            "not paired: drift",
        ],
    );
    assert!(!text.contains("What is not averaged"), "{text}");
    // Two runs of one machine are one subject, and that is told.
    let [here, there] = two();
    let mut again = here.clone();
    "again".clone_into(&mut again.name);
    again.record.rows[0].results.median_ns = Some(200_000.0);
    let runs = [here, again, there];
    let all = lines(&runs);
    let first = &all[0];
    assert_eq!(
        (&first["machine"], &first["sessions"]),
        (&json!("A"), &json!(2))
    );
    let median = first["median_ns"].as_f64().unwrap();
    assert!((median - 100_000.0).abs() < 1e-6, "{median}");
    assert_eq!(
        first.get("lo_ns"),
        None,
        "a mean of two sessions has no interval of its own"
    );
    assert_eq!(first["runs"], "here, again");
    assert!(all.iter().all(|line| line["machine"] != "C"));
    has(
        &markdown(&runs),
        &["`run` is averaged away: it is again, here, there; `tritbench compare` can show it"],
    );
}

#[test]
fn what_differs_in_isa_compiler_or_schema_is_refused_and_said() {
    type Change = fn(&mut MachineRun);
    let changes: [(Change, &str); 6] = [
        (
            |run| run.record.session.machine["build"]["rustc"] = "rustc 1.90.0".into(),
            "`compiler` is rustc 1.95.0 in A and rustc 1.90.0 in B",
        ),
        (
            |run| run.record.session.machine["build"]["rustflags"] = "-C target-cpu=native".into(),
            "`rustflags` is none in A and -C target-cpu=native in B",
        ),
        (
            |run| run.record.session.schema = 2,
            "`schema` is 1 in A and 2 in B",
        ),
        (
            |run| "0.2.0".clone_into(&mut run.record.session.version),
            "`version` is 0.1.0 in A and 0.2.0 in B",
        ),
        (
            |run| {
                run.record.session.survey[2]["unavailable"] =
                    "the CPU does not report avx512vnni".into();
            },
            "`isa` is avx2 avx512vnni scalar in A and avx2 scalar in B",
        ),
        (
            |run| run.record.session.survey = Value::Null,
            "`isa` is avx2 avx512vnni scalar in A and unknown in B",
        ),
    ];
    for (change, said) in changes {
        let [here, mut there] = two();
        change(&mut there);
        let text = markdown(&[here.clone(), there.clone()]);
        has(
            &text,
            &["## What is not averaged", "No mean ratio of B to A: ", said],
        );
        assert!(!text.contains("## Means"), "{text}");
        // Single ratios stand all the same.
        has(&text, &["0.500x"]);
        // Neither are two sessions of one machine averaged.
        there.fingerprint.clone_from(&here.fingerprint);
        let text = markdown(&[here, there]);
        has(
            &text,
            &[
                "A and B are one machine (fingerprint aaaa) and two subjects, neither averaged nor in one mean: ",
                said,
            ],
        );
        assert!(!text.contains("## Means"), "{text}");
    }
}

#[test]
fn another_cap_is_another_subject() {
    let [here, _] = two();
    let capped = |by_session: bool| {
        let mut run = here.clone();
        "capped".clone_into(&mut run.name);
        if by_session {
            "avx2".clone_into(&mut run.record.session.isa_cap);
        }
        run.record.session.survey[2]["unavailable"] =
            "avx512vnni is above the cap TRIT_ISA=avx2".into();
        run
    };
    for by_session in [true, false] {
        let runs = [here.clone(), capped(by_session)];
        let text = markdown(&runs);
        has(
            &text,
            &[
                "- **B**: machine aaaa, TRIT_ISA=avx2: `capped`",
                "`TRIT_ISA` is none in A and avx2 in B",
                "| TRIT_ISA | none | avx2 |",
            ],
        );
        let all = lines(&runs);
        let caps: Vec<_> = all
            .iter()
            .map(|line| line.get("isa_cap").cloned())
            .collect();
        assert_eq!(caps, [None, Some(json!("avx2")), None, Some(json!("avx2"))]);
    }
}

#[test]
fn hidden_dimensions_are_told() {
    let [mut here, mut there] = two();
    here.record.session.machine["cpu"]["governor"] = "performance".into();
    there.record.session.machine["cpu"]["governor"] = "powersave".into();
    there.record.session.git_revision = Some("89abcde".to_owned());
    there.record.session.machine["build"]["debug_assertions"] = true.into();
    for (run, digest) in [(&mut here, "aa"), (&mut there, "bb")] {
        let mut whole = cell("w2a8-mad-avx2", "avx2", 1, 4e6);
        whole.cell.workload = Workload::Decode;
        (whole.cell.rows, whole.cell.k, whole.cell.tokens) = (None, None, None);
        "m.gguf".clone_into(&mut whole.cell.model);
        digest.clone_into(&mut whole.cell.model_sha256);
        run.record.rows.push(whole);
    }
    here.record
        .rows
        .push(cell("w2a8-mad-avx2", "avx2", 4, 20_000.0));
    has(
        &markdown(&[here, there]),
        &[
            "warning: `governor` differs and is no key: A performance; B powersave",
            "warning: `revision` differs and is no key: A 0123456; B 89abcde",
            "warning: B was measured by a program with debug assertions",
            "warning: model `m.gguf` is not the same file everywhere: 2 digests",
            "only `A` has 1 further cell",
        ],
    );
}

#[test]
fn machines_without_a_kernel_in_common_stand_side_by_side() {
    let [mut here, mut there] = two();
    here.record.rows.truncate(1);
    there.record.rows = vec![
        cell("w2a8-dot-neon", "dot", 4, 25_000.0),
        cell("w2a8-mad-neon", "neon", 4, 40_000.0),
    ];
    let text = markdown(&[here, there]);
    has(
        &text,
        &[
            "no cell is on two machines, they differ in kernel, threads: only the fastest of each stand side by side",
            "| gemv-cold | 1000x1000 | A | `w2a8-mad-avx2` | avx2 | 1 |",
            "| gemv-cold | 1000x1000 | B | `w2a8-dot-neon` | dot | 4 |",
            "| 2.00x |",
        ],
    );
    assert!(!text.contains("The same kernel") && !text.contains("## Means"));
}

#[test]
fn what_cannot_be_compared_is_an_error_with_a_remedy() {
    let [here, there] = two();
    let error = machines_paper(std::slice::from_ref(&here)).unwrap_err();
    assert_eq!(error, MachinesError::Count(1));
    assert!(
        error
            .to_string()
            .contains("hint: a report about machines takes 2 to 26")
    );
    let many = vec![here.clone(); 27];
    assert_eq!(machines_paper(&many).unwrap_err(), MachinesError::Count(27));
    let twice = [here.clone(), there, here];
    let error = machines_paper(&twice).unwrap_err().to_string();
    assert!(error.contains("`here` stands twice"), "{error}");
}

#[test]
fn a_file_of_rows_is_a_machine_that_is_not_known() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("summary.csv");
    let [here, _] = two();
    let mut rows = here.record.rows.clone();
    let mut read = cell("probe:read", "avx2", 1, 1000.0);
    read.cell.cell = "probe:read/250000B-cold/t1".to_owned();
    read.cell.workload = Workload::Read;
    read.cell.bytes_per_call = Some(10_000);
    rows.push(read);
    let run_dir = trit_core::RunDir::create(&dir.path().join("run")).unwrap();
    run_dir.write(&rows).unwrap();
    std::fs::rename(run_dir.path().join("summary.csv"), &path).unwrap();
    let file = MachineRun::read(&path).unwrap();
    let runs = [here, file];
    let all = lines(&runs);
    let line = all.iter().find(|line| line["machine"] == "B").unwrap();
    // The probe is among its rows.
    assert_eq!(line["bandwidth_share"], 0.5);
    assert_eq!(line.get("fingerprint"), None);
    let text = markdown(&runs);
    has(
        &text,
        &[
            "unknown machine (",
            "`compiler` is rustc 1.95.0 in A and unknown in B",
        ],
    );
    assert!(!text.contains("## Means"));
    let missing = MachineRun::read(&dir.path().join("none.csv")).unwrap_err();
    assert!(!missing.is_content());
}

#[test]
fn the_same_rows_give_the_same_bytes_and_pictures() {
    let runs = two();
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("machines");
    let written = || {
        let paths = machines_paper(&runs).unwrap().write(&directory).unwrap();
        let read = |path: &std::path::PathBuf| (path.clone(), std::fs::read(path).unwrap());
        paths.iter().map(read).collect::<Vec<_>>()
    };
    let first = written();
    let names: Vec<String> = first
        .iter()
        .map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(
        names,
        [
            "machines.md",
            "machines.csv",
            "machines-gemv-cold.svg",
            "machines-share-gemv-cold.svg"
        ]
    );
    assert!(first == written());
    let svg = String::from_utf8_lossy(&first[3].1).into_owned();
    has(
        &svg,
        &[
            "Share of what the machine can do",
            "A: machine aaaa",
            "B: 50 % of bandwidth, t1",
        ],
    );
}

#[test]
fn ten_thousand_cells_are_no_burden() {
    let rows = |factor: f64| -> Vec<SummaryRow> {
        let cells = (0..10_000_u64).map(|at| {
            let (kernel, isa, _) = KERNELS[(at % 9) as usize];
            let mut row = row(kernel, COLD, (64 + at / 18, 2560), 1 + (at / 9) % 2, factor);
            isa.clone_into(&mut row.cell.isa);
            row
        });
        cells.collect()
    };
    let runs = [
        run("here", "aaaa", 10, rows(1000.0)),
        run("there", "bbbb", 5, rows(900.0)),
    ];
    let paper = machines_paper(&runs).unwrap();
    assert_eq!(paper.render(Format::Csv).lines().count(), 20_001);
    let text = paper.render(Format::Md);
    has(
        &text,
        &["The first 2000 of 20000 lines; all are in `machines.csv`."],
    );
    assert!(text.len() < 2_000_000, "{}", text.len());
}
