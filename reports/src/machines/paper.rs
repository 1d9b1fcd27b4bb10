//! The report about machines.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use trit_core::Workload;
use trit_stats::{Geometric, geometric_mean};

use super::{
    Findings, Job, MachineRun, MachinesError, Place, Share, Spot, Subject, charts, fastest, find,
    is_ternary,
};
use crate::chart::Figure;
use crate::contrast::{ContrastError, Question, Source, contrast};
use crate::document::{MOST_ROWS, table};
use crate::facts;
use crate::labels;
use crate::sheet::{Paper, Sheet, number, text, whole};
use crate::summary::LEVEL;
use crate::units::{show_ns, show_rate, three};

/// Facts that are in no key of a cell and move times all the same.
const HIDDEN: [&str; 6] = [
    "CPU quota",
    "governor",
    "huge pages",
    "hypervisor",
    "system",
    "system kernel",
];

/// Sets runs side by side, machine by machine: what each kernel takes, and what share that is of what its machine can do. Runs of one
/// machine are averaged when they agree in instruction sets, compiler and schema; where they do not, the report says what differs and
/// gives no mean. The first run is what the others are compared with. The same rows give the same bytes.
///
/// # Errors
/// When there are too few or too many runs, or one stands twice.
pub fn machines_paper(runs: &[MachineRun]) -> Result<Paper, MachinesError> {
    let findings = find(runs)?;
    let told = Told {
        refusals: refusals(&findings),
        warnings: warnings(&findings),
        fastest: fastest(&findings),
        means: means(&findings),
    };
    let figures = charts::figures(&findings, &told.fastest);
    let below = findings
        .subjects
        .iter()
        .map(|subject| format!("{}: {} ({})", subject.letter, subject.name, names(subject)))
        .chain(told.refusals.iter().cloned())
        .chain(told.warnings.iter().cloned())
        .map(|line| line.replace('`', ""));
    Ok(Paper {
        name: "machines",
        markdown: markdown(&findings, &told, &figures),
        sheet: sheet(&findings),
        short: short(&findings, &told.fastest),
        below: below.collect(),
        figures,
    })
}

/// What follows from the places.
struct Told<'a> {
    refusals: Vec<String>,
    warnings: Vec<String>,
    fastest: Vec<(Job, Vec<Option<&'a Spot>>)>,
    means: Vec<Mean>,
}

/// The mean of the ratios of one instruction set, against the first machine.
struct Mean {
    workload: Workload,
    isa: String,
    letter: &'static str,
    cells: usize,
    ratio: Geometric,
}

fn names(subject: &Subject<'_>) -> String {
    let names: Vec<&str> = subject.runs.iter().map(|run| run.name.as_str()).collect();
    names.join(", ")
}

/// What two subjects do not agree in, in words.
fn differences(one: &Subject<'_>, other: &Subject<'_>) -> String {
    let differ = one.traits.against(&other.traits);
    let told = differ.iter().map(|(name, own, others)| {
        format!(
            "`{name}` is {own} in {} and {others} in {}",
            one.letter, other.letter
        )
    });
    told.collect::<Vec<_>>().join("; ")
}

/// What was not averaged, and why.
fn refusals(findings: &Findings<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let subjects = &findings.subjects;
    for (at, one) in subjects.iter().enumerate() {
        for other in &subjects[at + 1..] {
            let print = &one.runs[0].fingerprint;
            let same = !print.is_empty() && *print == other.runs[0].fingerprint;
            let (a, b) = (one.letter, other.letter);
            if same {
                lines.push(format!(
                    "{a} and {b} are one machine (fingerprint {print}) and two subjects, neither averaged nor in one mean: {}.",
                    differences(one, other)
                ));
            } else if at == 0 && !one.traits.agree(&other.traits) {
                lines.push(format!(
                    "No mean ratio of {b} to {a}: {}.",
                    differences(one, other)
                ));
            }
        }
    }
    lines
}

/// What a reader has to know before comparing: facts that are in no key, and what `compare` warns of.
fn warnings(findings: &Findings<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let runs: Vec<(String, &MachineRun)> = findings
        .subjects
        .iter()
        .flat_map(|subject| {
            let several = subject.runs.len() > 1;
            subject.runs.iter().map(move |run| {
                let name = if several {
                    format!("{} ({})", subject.letter, run.name)
                } else {
                    subject.letter.to_owned()
                };
                (name, *run)
            })
        })
        .collect();
    for (name, run) in &runs {
        if facts::debug_build(&run.record.session) {
            lines.push(format!(
                "warning: {name} was measured by a program with debug assertions: its times mean nothing"
            ));
        }
    }
    let mut differ = |fact: &str, of: &dyn Fn(&MachineRun) -> Option<String>| {
        let values: Vec<String> = runs
            .iter()
            .map(|(_, run)| of(run).unwrap_or_else(|| "unknown".to_owned()))
            .collect();
        if values.iter().any(|value| *value != values[0]) {
            let told = runs.iter().zip(&values);
            let told: Vec<String> = told
                .map(|((name, _), value)| format!("{name} {value}"))
                .collect();
            lines.push(format!(
                "warning: `{fact}` differs and is no key: {}",
                told.join("; ")
            ));
        }
    };
    for name in HIDDEN {
        differ(name, &|run| {
            let table = facts::machine_table(&run.record.session);
            let fact = table.into_iter().find(|(fact, _)| *fact == name);
            fact.map(|(_, value)| value)
        });
    }
    differ("microcode", &|run| {
        facts::fact(&run.record.session.machine, "/cpu/microcode")
    });
    differ("revision", &|run| run.record.session.git_revision.clone());
    differ("suite", &|run| {
        let session = &run.record.session;
        let digest: String = session.suite_sha256.chars().take(12).collect();
        (!session.suite.is_empty()).then(|| format!("{} {digest}", session.suite))
    });
    lines.extend(compared(findings));
    lines
}

/// What `compare` says about the same runs with the machines as columns.
fn compared(findings: &Findings<'_>) -> Vec<String> {
    let of_subject = |subject: &Subject<'_>| -> Vec<Source> {
        let source = |run: &&MachineRun| Source {
            name: run.name.clone(),
            machine: subject.letter.to_owned(),
            host: run.record.session.host.clone(),
            rows: run.record.rows.clone(),
        };
        subject.runs.iter().map(source).collect()
    };
    let sources: Vec<Source> = findings.subjects.iter().flat_map(of_subject).collect();
    let question = Question {
        col: "machine".to_owned(),
        ..Question::default()
    };
    match contrast(&sources, &question) {
        Ok(found) => found
            .notes
            .into_iter()
            .map(|note| match note.split_once("; use --row ") {
                Some((said, _)) => format!("{said}; `tritbench compare` can show it"),
                None => note,
            })
            .collect(),
        Err(ContrastError::NothingInCommon { differ }) => vec![format!(
            "no cell is on two machines{}: only the fastest of each stand side by side",
            if differ.is_empty() {
                String::new()
            } else {
                format!(", they differ in {}", differ.join(", "))
            }
        )],
        Err(ContrastError::OneColumn { .. }) => {
            vec!["every run is of one machine, one build and one schema: they are averaged, and there is nothing to compare them with".to_owned()]
        }
        Err(error) => vec![error.to_string()],
    }
}

/// Means of ratios against the first machine, of what agrees in instruction sets, compiler and schema alone.
fn means(findings: &Findings<'_>) -> Vec<Mean> {
    let mut lines = Vec::new();
    let Some((first, others)) = findings.subjects.split_first() else {
        return lines;
    };
    for (at, subject) in others.iter().enumerate() {
        if !first.traits.agree(&subject.traits) {
            continue;
        }
        let mut groups: BTreeMap<(Workload, &str), Vec<f64>> = BTreeMap::new();
        for place in &findings.places {
            if let (Some(cell), Some(found)) = (place.cell(), place.against_first(at + 1)) {
                let group = groups
                    .entry((cell.workload, cell.isa.as_str()))
                    .or_default();
                group.push(found.ratio);
            }
        }
        lines.extend(groups.into_iter().filter_map(|((workload, isa), ratios)| {
            Some(Mean {
                workload,
                isa: isa.to_owned(),
                letter: subject.letter,
                cells: ratios.len(),
                ratio: geometric_mean(&ratios, LEVEL)?,
            })
        }));
    }
    lines
}

fn count(n: Option<u64>) -> String {
    n.map_or_else(String::new, |n| n.to_string())
}

fn percent(share: Option<Share>) -> String {
    share.map_or_else(String::new, |share| {
        let mark = if share.paired { "" } else { "~" };
        format!("{mark}{:.0} %", share.value * 100.0)
    })
}

fn limit(spot: &Spot) -> String {
    spot.own_limit()
        .map_or_else(String::new, |(share, memory)| {
            let of = if memory { "bandwidth" } else { "peak" };
            format!("{:.0} % of {of}", share * 100.0)
        })
}

fn times(ratio: Option<crate::compare::Ratio>) -> (String, String) {
    let ends = ratio.and_then(|ratio| ratio.interval);
    (
        ratio.map_or_else(String::new, |ratio| format!("{}x", three(ratio.ratio))),
        ends.map_or_else(String::new, |(lo, hi)| {
            format!("{} to {}", three(lo), three(hi))
        }),
    )
}

/// The name of a job without what is the same in all.
fn job_name(job: &Job) -> String {
    let (_, shape, head, kv) = job;
    let mut parts = vec![shape.clone()];
    if !head.is_empty() {
        parts.push(format!("head {head}"));
    }
    if !kv.is_empty() {
        parts.push(format!("KV {kv}"));
    }
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}

/// The fastest ternary kernel of a machine for a job as fields: machine, kernel, instruction set, threads, time, rate, GB/s, shares, and
/// against the first.
fn best_fields(subject: &Subject<'_>, spot: &Spot, first: Option<&Spot>) -> Vec<String> {
    let (cell, results) = (&spot.row.cell, &spot.row.results);
    let ratio = first.and_then(|first| crate::compare::ratio(&spot.row, &first.row));
    let (ratio, ends) = times(ratio);
    vec![
        subject.letter.to_owned(),
        format!("`{}`", labels::subject(cell)),
        cell.isa.clone(),
        count(cell.threads),
        results.median_ns.map_or_else(String::new, show_ns),
        results.tokens_per_s.map_or_else(String::new, show_rate),
        results.gops.map_or_else(String::new, three),
        results.gb_per_s.map_or_else(String::new, three),
        percent(spot.bandwidth),
        percent(spot.peak),
        limit(spot),
        ratio,
        ends,
    ]
}

const BEST: [&str; 15] = [
    "workload",
    "shape",
    "on",
    "kernel",
    "isa",
    "threads:",
    "median:",
    "tokens/s:",
    "GOPS:",
    "GB/s:",
    "of bandwidth:",
    "of peak:",
    "of its limit:",
    "as fast as A:",
    "95 %:",
];

fn best_rows(findings: &Findings<'_>, fastest: &[(Job, Vec<Option<&Spot>>)]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (job, spots) in fastest {
        let first = spots.first().copied().flatten();
        for (at, subject) in findings.subjects.iter().enumerate() {
            let Some(spot) = spots[at] else {
                continue;
            };
            let mut row = vec![job.0.name().to_owned(), job_name(job)];
            row.extend(best_fields(subject, spot, first.filter(|_| at > 0)));
            rows.push(row);
        }
    }
    rows
}

fn short(
    findings: &Findings<'_>,
    fastest: &[(Job, Vec<Option<&Spot>>)],
) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let kept = [0, 1, 2, 3, 5, 6, 8, 12, 13];
    let header = [
        "workload", "shape", "on", "kernel", "thr:", "median:", "GOPS:", "limit:", "as A:",
    ];
    let rows = best_rows(findings, fastest).into_iter().map(|row| {
        let fields = kept.iter().map(|at| row[*at].replace('`', ""));
        fields.collect()
    });
    (header.to_vec(), rows.collect())
}

/// A line a cell and machine.
fn sheet(findings: &Findings<'_>) -> Sheet {
    let mut rows = Vec::new();
    for place in &findings.places {
        for (at, subject) in findings.subjects.iter().enumerate() {
            let Some(spot) = &place.spots[at] else {
                continue;
            };
            let (cell, results) = (&spot.row.cell, &spot.row.results);
            let ratio = place.against_first(at);
            let ends = ratio.and_then(|ratio| ratio.interval);
            let share = |share: Option<Share>| {
                let ends = share.and_then(|share| share.ends);
                let basis = share.map_or("", |share| {
                    if share.paired {
                        "pair"
                    } else {
                        "separate probe"
                    }
                });
                [
                    number(share.map(|share| share.value)),
                    number(ends.map(|ends| ends.0)),
                    number(ends.map(|ends| ends.1)),
                    text(basis),
                ]
            };
            let mut row = vec![
                subject.letter.into(),
                subject.name.as_str().into(),
                text(&subject.runs[0].fingerprint),
                text(subject.traits.cap().unwrap_or("")),
                names(subject).into(),
                whole(Some(spot.runs as u64)),
                cell.workload.name().into(),
                text(labels::subject(cell)),
                text(&cell.isa),
                text(&cell.model),
                whole(cell.rows),
                whole(cell.k),
                whole(cell.tokens),
                whole(cell.prompt_tokens),
                whole(cell.depth),
                whole(cell.batch),
                text(&cell.head),
                text(&cell.kv),
                whole(cell.threads),
                number(results.median_ns),
                number(results.lo_ns),
                number(results.hi_ns),
                number(results.tokens_per_s),
                number(results.gops),
                number(results.gb_per_s),
            ];
            row.extend(share(spot.bandwidth));
            row.extend(share(spot.peak));
            row.extend([
                number(spot.roof.map(|roof| roof.limit_gops)),
                number(spot.own_limit().map(|limit| limit.0)),
                text(spot.own_limit().map_or(
                    "",
                    |(_, memory)| {
                        if memory { "bandwidth" } else { "peak" }
                    },
                )),
                number(ratio.map(|ratio| ratio.ratio)),
                number(ends.map(|ends| ends.0)),
                number(ends.map(|ends| ends.1)),
            ]);
            rows.push(row);
        }
    }
    Sheet {
        header: vec![
            "machine",
            "machine_name",
            "fingerprint",
            "isa_cap",
            "runs",
            "sessions",
            "workload",
            "subject",
            "isa",
            "model",
            "rows",
            "k",
            "tokens",
            "prompt_tokens",
            "depth",
            "batch",
            "head",
            "kv",
            "threads",
            "median_ns",
            "lo_ns",
            "hi_ns",
            "tokens_per_s",
            "gops",
            "gb_per_s",
            "bandwidth_share",
            "bandwidth_share_lo",
            "bandwidth_share_hi",
            "bandwidth_basis",
            "peak_share",
            "peak_share_lo",
            "peak_share_hi",
            "peak_basis",
            "roof_gops",
            "limit_share",
            "limit",
            "as_fast_as_first",
            "as_fast_lo",
            "as_fast_hi",
        ],
        rows,
    }
}

/// Facts side by side: those of the machines, then what is averaged only when it agrees.
fn facts_table(findings: &Findings<'_>) -> String {
    let subjects = &findings.subjects;
    let mut names: Vec<&str> = Vec::new();
    let mut values: BTreeMap<(&str, usize), String> = BTreeMap::new();
    let mut put = |name: &'static str, at: usize, value: String| {
        if !names.contains(&name) {
            names.push(name);
        }
        values.insert((name, at), value);
    };
    for (at, subject) in subjects.iter().enumerate() {
        let run = subject.runs[0];
        for (name, value) in facts::machine_table(&run.record.session) {
            // The compiler is told with what has to agree.
            if name != "compiler" {
                put(name, at, value);
            }
        }
        if !run.fingerprint.is_empty() {
            put("fingerprint", at, run.fingerprint.clone());
        }
    }
    for (at, subject) in subjects.iter().enumerate() {
        for (name, value) in subject.traits.shown() {
            put(name, at, value.to_owned());
        }
    }
    let mut header = vec!["fact"];
    header.extend(subjects.iter().map(|subject| subject.letter));
    let rows: Vec<Vec<String>> = names
        .iter()
        .map(|name| {
            let of = |at| values.get(&(*name, at)).cloned().unwrap_or_default();
            let mut row = vec![(*name).to_owned()];
            row.extend((0..subjects.len()).map(of));
            row
        })
        .collect();
    table(&header, &rows)
}

fn limits_table(findings: &Findings<'_>) -> Option<String> {
    let mut rows = Vec::new();
    for subject in &findings.subjects {
        for (run, roofline) in subject.runs.iter().zip(&subject.rooflines) {
            for (threads, limits) in roofline.all() {
                let mut row = vec![
                    subject.letter.to_owned(),
                    run.name.clone(),
                    threads.to_string(),
                ];
                row.extend(limits.map(|limit| limit.map_or_else(String::new, three)));
                rows.push(row);
            }
        }
    }
    let header = [
        "machine",
        "run",
        "threads:",
        "read, GB/s:",
        "8-bit, GOPS:",
        "float, GOPS:",
    ];
    (!rows.is_empty()).then(|| table(&header, &rows))
}

/// The cells that two machines have, a line for each of them.
fn common_rows(findings: &Findings<'_>, workload: Workload) -> Vec<Vec<String>> {
    let of_workload = |place: &&Place| {
        place.machines() > 1 && place.cell().is_some_and(|cell| cell.workload == workload)
    };
    let mut rows = Vec::new();
    for place in findings.places.iter().filter(of_workload) {
        for (at, subject) in findings.subjects.iter().enumerate() {
            let Some(spot) = &place.spots[at] else {
                continue;
            };
            let (cell, results) = (&spot.row.cell, &spot.row.results);
            let (ratio, ends) = times(place.against_first(at));
            rows.push(vec![
                format!("`{}`", labels::subject(cell)),
                labels::shape(cell),
                count(cell.threads),
                subject.letter.to_owned(),
                results.median_ns.map_or_else(String::new, show_ns),
                results.tokens_per_s.map_or_else(String::new, show_rate),
                results.gops.map_or_else(String::new, three),
                percent(spot.bandwidth),
                percent(spot.peak),
                limit(spot),
                ratio,
                ends,
            ]);
        }
    }
    rows
}

const COMMON: [&str; 12] = [
    "kernel",
    "shape",
    "threads:",
    "on",
    "median:",
    "tokens/s:",
    "GOPS:",
    "of bandwidth:",
    "of peak:",
    "of its limit:",
    "as fast as A:",
    "95 %:",
];

/// A table of at most [`MOST_ROWS`] lines, and a sentence about the rest.
fn bounded(header: &[&str], rows: &[Vec<String>]) -> String {
    let kept = rows.len().min(MOST_ROWS);
    let mut out = table(header, &rows[..kept]);
    if kept < rows.len() {
        let _ = writeln!(
            out,
            "\nThe first {kept} of {} lines; all are in `machines.csv`.",
            rows.len()
        );
    }
    out
}

fn list(title: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let lines: Vec<String> = lines
        .iter()
        .map(|line| format!("- {}\n", line.replace(['\n', '\r'], " ")))
        .collect();
    format!("\n## {title}\n\n{}", lines.concat())
}

fn markdown(findings: &Findings<'_>, told: &Told<'_>, figures: &[(String, Figure)]) -> String {
    let mut out = String::from("# Machines side by side\n\n");
    for subject in &findings.subjects {
        let when = |run: &&MachineRun| {
            let start = &run.record.session.started_utc;
            if start.is_empty() {
                format!("`{}`", run.name)
            } else {
                format!("`{}` of {start}", run.name)
            }
        };
        let runs: Vec<String> = subject.runs.iter().map(when).collect();
        let _ = writeln!(
            out,
            "- **{}**: {}: {}",
            subject.letter,
            subject.name,
            runs.join(", ")
        );
    }
    out.push_str(&list("What is not averaged", &told.refusals));
    out.push_str(&list("Warnings", &told.warnings));
    let best = best_rows(findings, &told.fastest);
    out.push_str("\n## The fastest ternary kernel of each machine\n\n");
    if best.is_empty() {
        out.push_str("No run has a ternary kernel.\n");
    } else {
        out.push_str(&bounded(&BEST, &best));
        out.push_str("\nOf all kernels and thread counts that were measured. Different kernels of different instruction sets: one ratio each, and no mean.\n");
    }
    if !told.means.is_empty() {
        let rows: Vec<Vec<String>> = told
            .means
            .iter()
            .map(|mean| {
                let ends = mean.ratio.interval;
                vec![
                    mean.workload.name().to_owned(),
                    mean.isa.clone(),
                    mean.letter.to_owned(),
                    mean.cells.to_string(),
                    format!("{}x", three(mean.ratio.mean)),
                    ends.map_or_else(String::new, |ends| {
                        format!("{} to {}", three(ends.lo), three(ends.hi))
                    }),
                ]
            })
            .collect();
        let header = ["workload", "isa", "on", "cells:", "as fast as A:", "95 %:"];
        let _ = write!(
            out,
            "\n## Means by instruction set\n\n{}",
            table(&header, &rows)
        );
        out.push_str("\nGeometric means over the cells that both have, of one instruction set each; the interval is over cells (Student's t on the logarithms).\n");
    }
    let mut workloads: Vec<Workload> = Vec::new();
    for place in findings.places.iter().filter(|place| place.machines() > 1) {
        if let Some(cell) = place.cell()
            && !workloads.contains(&cell.workload)
        {
            workloads.push(cell.workload);
        }
    }
    for workload in workloads {
        let _ = write!(out, "\n## The same kernel: {workload}\n\n");
        out.push_str(&bounded(&COMMON, &common_rows(findings, workload)));
    }
    if let Some(limits) = limits_table(findings) {
        let _ = write!(out, "\n## Limits that were measured\n\n{limits}");
    }
    let _ = write!(out, "\n## Machines and builds\n\n{}", facts_table(findings));
    if !figures.is_empty() {
        let _ = write!(out, "\n## Charts\n\n{}", Paper::links(figures));
    }
    out.push_str("\n## How to read this\n\n");
    out.push_str("Absolute first: the median time of a call and what follows from it. Then normalised by what the same machine can do, on as many threads: `of bandwidth` is the share of the read probe's bytes a second, `of peak` that of the arithmetic probe's operations, `of its limit` the lower of both roofs at the operations a byte of the cell. Shares are from ABBA blocks with the probe; `~` marks those by a probe of the session at another time. A slow machine at 95 % has nothing left to tune; a fast one at 40 % has. Weights in cache are under no bandwidth.\n\n");
    out.push_str("`as fast as A` is the time on A over the time here: above 1 this machine is faster; its interval joins those of the two medians in quadrature. The machines did not take turns: drift is part of every ratio. Runs of one machine are averaged (geometric mean, without an interval) when they are known to agree in instruction sets, `TRIT_ISA`, compiler, flags, schema and version, and only what agrees in these has a mean ratio. The same machine under another `TRIT_ISA` is another subject.\n");
    out
}

/// Kernels that a chart shows of a job: those of the fastest on any machine.
pub(super) fn shown_kernels(places: &[&Place], most: usize) -> (Vec<String>, usize) {
    let mut best: BTreeMap<&str, f64> = BTreeMap::new();
    for spot in places.iter().flat_map(|place| place.spots.iter().flatten()) {
        if !is_ternary(&spot.row.cell) {
            continue;
        }
        let time = spot.row.results.median_ns.unwrap_or(f64::INFINITY);
        let entry = best.entry(labels::subject(&spot.row.cell)).or_insert(time);
        *entry = entry.min(time);
    }
    let mut kernels: Vec<(&str, f64)> = best.into_iter().collect();
    kernels.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(b.0)));
    let left_out = kernels.len().saturating_sub(most);
    let kept = kernels.into_iter().take(most);
    (
        kept.map(|(kernel, _)| kernel.to_owned()).collect(),
        left_out,
    )
}
