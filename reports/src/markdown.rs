//! `report.md`: the summary first, then tables, charts, what went wrong, and how to do it again.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use trit_core::{RunDir, Session, Status, SummaryRow, UNFINISHED, Workload};

use crate::ReportError;
use crate::batches;
use crate::beside;
use crate::chart::Album;
use crate::document::{Block, Table, bounded, markdown};
use crate::energy_section::energy_section;
use crate::facts;
use crate::labels;
use crate::lookup::lookup_section;
use crate::pairs::pairs_table;
use crate::record::Record;
use crate::table::{percent, spread};
use crate::units::{show_bytes, show_ns, show_rate, three};

/// Rows as one Markdown table: all of them, whatever their status.
pub(crate) fn table_markdown<'a>(rows: impl Iterator<Item = &'a SummaryRow>) -> String {
    cells_table(rows).markdown()
}

fn cells_table<'a>(rows: impl Iterator<Item = &'a SummaryRow>) -> Table {
    let rows: Vec<Vec<String>> = rows
        .map(|row| {
            let (cell, results) = (&row.cell, &row.results);
            let status = if cell.reason.is_empty() || cell.status == Status::Ok {
                cell.status.name().to_owned()
            } else {
                format!("{}: {}", cell.status, cell.reason)
            };
            vec![
                labels::subject(cell).to_owned(),
                cell.workload.name().to_owned(),
                labels::shape(cell),
                cell.threads
                    .map_or_else(String::new, |threads| threads.to_string()),
                results.n.map_or_else(String::new, |n| n.to_string()),
                results.median_ns.map_or_else(String::new, show_ns),
                spread(row).map_or_else(String::new, percent),
                results.tokens_per_s.map_or_else(String::new, show_rate),
                results.gops.map_or_else(String::new, three),
                results.gb_per_s.map_or_else(String::new, three),
                share(results.bandwidth_share),
                share(results.peak_share),
                status,
            ]
        })
        .collect();
    Table::new(
        &[
            "kernel",
            "workload",
            "shape",
            "threads:",
            "n:",
            "median:",
            "±:",
            "tokens/s:",
            "GOPS:",
            "GB/s:",
            "bandwidth:",
            "peak:",
            "status",
        ],
        rows,
    )
}

fn share(share: Option<f64>) -> String {
    share.map_or_else(String::new, |share| format!("{:.0} %", share * 100.0))
}

/// Whether a row may be ranked: measured, verified, and nothing speaks against it.
pub(crate) fn ranked(row: &SummaryRow) -> bool {
    row.cell.status == Status::Ok
        && row.results.median_ns.is_some_and(|ns| ns > 0.0)
        && !row.cell.subject.starts_with("probe:")
}

/// The rows of one workload, shape and thread count, the fastest first; groups in the order of the rows.
pub(crate) fn races(rows: &[SummaryRow]) -> Vec<Vec<&SummaryRow>> {
    let mut order: BTreeMap<(Workload, String, Option<u64>), usize> = BTreeMap::new();
    let mut groups: Vec<Vec<&SummaryRow>> = Vec::new();
    for row in rows.iter().filter(|row| ranked(row)) {
        let next = groups.len();
        let at = *order
            .entry((
                row.cell.workload,
                labels::shape(&row.cell),
                row.cell.threads,
            ))
            .or_insert(next);
        if at == next {
            groups.push(Vec::new());
        }
        groups[at].push(row);
    }
    for group in &mut groups {
        group.sort_by(|a, b| median(a).total_cmp(&median(b)));
    }
    groups
}

fn median(row: &SummaryRow) -> f64 {
    row.results.median_ns.unwrap_or(f64::INFINITY)
}

/// How far the first of a race is ahead of the second.
fn lead(race: &[&SummaryRow]) -> String {
    let [first, second, ..] = race else {
        return String::new();
    };
    let apart = match (first.results.hi_ns, second.results.lo_ns) {
        (Some(hi), Some(lo)) => hi < lo,
        _ => false,
    };
    let name = labels::subject(&second.cell);
    if apart {
        format!("{}x {name}", three(median(second) / median(first)))
    } else {
        format!("not told apart from {name}")
    }
}

fn best_table(rows: &[SummaryRow]) -> Option<Table> {
    let lines: Vec<Vec<String>> = races(rows)
        .iter()
        .filter_map(|race| {
            let best = *race.first()?;
            Some(vec![
                best.cell.workload.name().to_owned(),
                labels::shape(&best.cell),
                best.cell
                    .threads
                    .map_or_else(String::new, |threads| threads.to_string()),
                format!("`{}`", labels::subject(&best.cell)),
                best.results.median_ns.map_or_else(String::new, show_ns),
                best.results
                    .tokens_per_s
                    .map_or_else(String::new, show_rate),
                best.results.gops.map_or_else(String::new, three),
                share(best.results.bandwidth_share),
                lead(race),
            ])
        })
        .collect();
    let header = [
        "workload",
        "shape",
        "threads:",
        "fastest",
        "median:",
        "tokens/s:",
        "GOPS:",
        "bandwidth:",
        "against the next",
    ];
    Table::unless_empty(&header, lines)
}

/// Column of the time from the start of the process to the first token.
const STARTS: &str = "start to first token:";

fn models_table(rows: &[SummaryRow]) -> Option<Table> {
    let mut lines: Vec<Vec<String>> = rows
        .iter()
        .filter(|row| ranked(row) || row.cell.status == Status::Projected)
        .filter(|row| !row.cell.model.is_empty())
        .map(|row| {
            let (cell, results) = (&row.cell, &row.results);
            let workload = if cell.status == Status::Projected {
                format!("{}, projected", cell.workload.name())
            } else {
                cell.workload.name().to_owned()
            };
            let time = |ns: Option<f64>| ns.map_or_else(String::new, show_ns);
            let bytes = |bytes: Option<u64>| {
                bytes.map_or_else(String::new, |bytes| show_bytes(bytes as f64))
            };
            vec![
                labels::shape(cell),
                workload,
                format!("`{}`", labels::subject(cell)),
                cell.threads
                    .map_or_else(String::new, |threads| threads.to_string()),
                results.tokens_per_s.map_or_else(String::new, show_rate),
                time(results.ttft_ns),
                time(results.itl_p50_ns),
                time(results.p90_ns),
                time(results.p99_ns),
                time(results.load_ns),
                time(results.startup_ttft_ns),
                bytes(results.peak_rss_bytes),
                bytes(results.rss_anon_bytes),
                bytes(results.rss_file_bytes),
            ]
        })
        .collect();
    let mut header = vec![
        "model",
        "workload",
        "kernel",
        "threads:",
        "tokens/s:",
        "TTFT:",
        "ITL p50:",
        "p90:",
        "p99:",
        "load:",
        STARTS,
        "peak RSS:",
        "anonymous:",
        "file-backed:",
    ];
    // Of most runs nobody asked for it.
    let column = header.iter().position(|name| *name == STARTS);
    let empty = |at: usize| lines.iter().all(|line| line[at].is_empty());
    if let Some(at) = column.filter(|at| empty(*at)) {
        header.remove(at);
        for line in &mut lines {
            line.remove(at);
        }
    }
    Table::unless_empty(&header, lines)
}

fn probes_table(session: &Session) -> Option<Table> {
    let lines: Vec<Vec<String>> = session
        .probes
        .iter()
        .filter(|probe| probe.time_ns > 0.0)
        .map(|probe| {
            let unit = if probe.subject == "probe:read" {
                "GB/s"
            } else {
                "GOPS"
            };
            vec![
                probe.subject.clone(),
                probe.variant.clone(),
                probe.threads.to_string(),
                if probe.working_set_bytes == 0 {
                    String::new()
                } else {
                    show_bytes(probe.working_set_bytes as f64)
                },
                format!(
                    "{} {unit}",
                    three(probe.amount_per_iteration as f64 / probe.time_ns)
                ),
            ]
        })
        .collect();
    Table::unless_empty(
        &[
            "probe",
            "fastest loop",
            "threads:",
            "working set:",
            "limit:",
        ],
        lines,
    )
}

/// The row with the highest rate of each workload that a reader asks for first, and of each model.
fn highlights(rows: &[SummaryRow]) -> Vec<&SummaryRow> {
    let mut best: BTreeMap<(Workload, String), (f64, &SummaryRow)> = BTreeMap::new();
    for row in rows.iter().filter(|row| ranked(row)) {
        let wanted = [
            Workload::GemvCold,
            Workload::Gemm,
            Workload::Prefill,
            Workload::Decode,
        ];
        let Some(rate) = row
            .results
            .tokens_per_s
            .filter(|_| wanted.contains(&row.cell.workload))
        else {
            continue;
        };
        let entry = best
            .entry((row.cell.workload, labels::model(&row.cell)))
            .or_insert((rate, row));
        if rate > entry.0 {
            *entry = (rate, row);
        }
    }
    best.into_values().map(|(_, row)| row).collect()
}

/// Cells by status, in the order of the statuses: `12 ok, 3 skipped`.
fn tally(rows: &[SummaryRow]) -> String {
    let counts: Vec<String> = Status::ALL
        .iter()
        .map(|status| {
            (
                status,
                rows.iter().filter(|row| row.cell.status == *status).count(),
            )
        })
        .filter(|(_, count)| *count > 0)
        .map(|(status, count)| format!("{count} {status}"))
        .collect();
    counts.join(", ")
}

/// What a reader must know before believing the numbers.
fn warnings(session: &Session, rows: &[SummaryRow]) -> Vec<String> {
    let mut warnings = Vec::new();
    if facts::debug_build(session) {
        warnings.push("The program was built with debug assertions: its times mean nothing. Build with `--release`.".to_owned());
    }
    let count = |status: Status| rows.iter().filter(|row| row.cell.status == status).count();
    let wrong = count(Status::Wrong);
    if wrong > 0 {
        warnings.push(format!(
            "Cells that gave a wrong answer: {wrong} of {}.",
            rows.len()
        ));
    }
    let unfinished = rows
        .iter()
        .filter(|row| row.cell.reason == UNFINISHED)
        .count();
    if unfinished > 0 {
        warnings.push(format!(
            "The session ended early. Unfinished cells: {unfinished}. `run --resume` goes on."
        ));
    }
    let bare = rows
        .iter()
        .filter(|row| ranked(row) && row.results.lo_ns.is_none())
        .count();
    if bare > 0 {
        warnings.push(format!(
            "Cells with too few independent samples for a 95 % interval: {bare}."
        ));
    }
    warnings.extend(session.plan.notes.iter().cloned());
    warnings
}

/// The report as blocks; `charts` are names of files in `charts/` without an ending, and titles; `missing` says why there are no others.
pub(crate) fn report_blocks(
    record: &Record,
    charts: &[(String, String)],
    missing: &[String],
) -> Vec<Block> {
    let Record {
        session,
        rows,
        pairs,
        ..
    } = record;
    let or_unknown = |text: &str| {
        if text.is_empty() {
            "unknown".to_owned()
        } else {
            text.to_owned()
        }
    };
    let heading = |text: &str| Block::Heading(text.to_owned());
    let text = |text: &str| Block::Text(text.to_owned());
    let mut out = vec![Block::Title(format!(
        "{} on {}",
        or_unknown(&session.suite),
        or_unknown(&session.host)
    ))];
    let mut points = vec![
        format!("Machine: {}", facts::machine_line(session)),
        format!("When: {}", or_unknown(&session.started_utc)),
        format!(
            "Cells: {} ({})",
            rows.len(),
            if rows.is_empty() {
                "none".to_owned()
            } else {
                tally(rows)
            }
        ),
    ];
    points.extend(highlights(rows).into_iter().map(highlight));
    out.push(Block::List(points));
    let warnings = warnings(session, rows);
    if !warnings.is_empty() {
        out.extend([heading("Warnings"), Block::List(warnings)]);
    }
    if let Some(table) = best_table(rows) {
        out.extend([
            heading("Fastest kernel by workload, shape and threads"),
            Block::Table(table),
            text("Ranked by separate medians; \"not told apart\" where the 95 % intervals overlap or one is missing. A ratio that must hold comes from a pair."),
        ]);
    }
    if let Some(table) = pairs_table(pairs) {
        out.extend([
            heading("Pairs"),
            Block::Table(table),
            text("Both sides took turns in ABBA slices of one worker: Hodges-Lehmann over the blocks with its 95 % interval. A percentage is the share of a probe's bytes or operations a second, a ratio the speed-up of the subject. The rows are in `pairs.csv`."),
        ]);
    }
    if let Some((table, sentence)) = lookup_section(rows) {
        out.extend([
            heading("Look-up against multiply-add"),
            Block::Table(table),
            Block::Text(sentence),
        ]);
    }
    if let Some(table) = models_table(rows) {
        out.extend([
            heading("Whole models"),
            Block::Table(table),
            text("TTFT and ITL are medians; percentiles are empty below 100 samples. Peak RSS is the high-water mark; its parts are those at the end of a visit."),
        ]);
    }
    if let Some(table) = beside::table(rows, pairs) {
        out.extend([
            heading("Beside other programs"),
            Block::Table(table),
            text("Both were visited once a round. A ratio is the median over the rounds of the program's mean time of a token (prefill: of a prompt) over ours, with its exact 95 % interval; six rounds are the fewest that have one. Rates are those of the cells. The program that comes nearest stands first; `unchecked` ones are no peers, whatever they print. The rows are in `pairs.csv`."),
        ]);
    }
    if let Some(table) = batches::table(rows) {
        out.extend([
            heading("Sequences decoded together"),
            Block::Table(table),
            text("A step gives each sequence a token; tokens/s are of all sequences. Ratios are of separate medians."),
        ]);
    }
    out.extend(energy_section(session, rows));
    if !charts.is_empty() || !missing.is_empty() {
        out.push(heading("Charts"));
        out.extend(charts.iter().map(|(name, title)| Block::Chart {
            name: name.clone(),
            title: title.clone(),
        }));
    }
    if !missing.is_empty() {
        out.extend([text("Not drawn:"), Block::List(missing.to_vec())]);
    }
    out.extend(rows_blocks(rows));
    let machine: Vec<Vec<String>> = facts::machine_table(session)
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    if let Some(table) = Table::unless_empty(&["fact", "value"], machine) {
        out.extend([heading("Machine"), Block::Table(table)]);
    }
    if let Some(table) = probes_table(session) {
        out.extend([heading("Limits that were measured"), Block::Table(table)]);
    }
    let revision = session
        .git_revision
        .as_deref()
        .map_or_else(String::new, |revision| format!(", revision {revision}"));
    out.extend([
        heading("How to do it again"),
        Block::Code(if session.argv.is_empty() {
            "tritbench run".to_owned()
        } else {
            command_line(&session.argv)
        }),
        Block::Text(format!(
            "Version {}{revision}; suite `{}` with SHA-256 `{}`; seed {}. The rows are in `cells.csv`, `measurements.csv`, `tokens.csv`, `energy.csv` and `summary.csv`, the session in `session.json`.",
            or_unknown(&session.version),
            or_unknown(&session.suite),
            or_unknown(&session.suite_sha256),
            session.plan.seed,
        )),
    ]);
    bounded(out)
}

/// A headline figure with its interval.
fn highlight(row: &SummaryRow) -> String {
    let results = &row.results;
    let rate = results.tokens_per_s.map_or_else(String::new, show_rate);
    let interval = spread(row).map_or_else(String::new, |spread| format!(" ± {}", percent(spread)));
    let share = results.bandwidth_share.map_or_else(String::new, |share| {
        format!(", {:.0} % of the measured read bandwidth", share * 100.0)
    });
    let threads = row.cell.threads.map_or_else(String::new, |count| {
        format!(" on {}", labels::threads(count))
    });
    format!(
        "Highest {} rate: {rate} tokens/s{interval}, `{}`{threads} ({}){share}",
        row.cell.workload,
        labels::subject(&row.cell),
        labels::shape(&row.cell),
    )
}

/// All cells that have times, and all that went wrong.
fn rows_blocks(rows: &[SummaryRow]) -> Vec<Block> {
    let mut out = Vec::new();
    let measured: Vec<&SummaryRow> = rows
        .iter()
        .filter(|row| row.results.median_ns.is_some())
        .collect();
    if !measured.is_empty() {
        out.extend([
            Block::Heading("All measured cells".to_owned()),
            Block::Table(cells_table(measured.into_iter())),
            Block::Text("Median of one call with half of its 95 % interval (±), which allows for samples that repeat their neighbours. GOPS count a multiply and an add as two; GB/s count the bytes of the weights, ternary ones at most 2.0 bits each. Bandwidth and peak are shares of the probe that ran in the same ABBA blocks.".to_owned()),
        ]);
    }
    let unmeasured: Vec<Vec<String>> = rows
        .iter()
        .filter(|row| row.cell.status != Status::Ok)
        .map(|row| {
            vec![
                row.cell.status.name().to_owned(),
                labels::full(&row.cell),
                row.cell.reason.clone(),
            ]
        })
        .collect();
    if let Some(table) = Table::unless_empty(&["status", "cell", "reason"], unmeasured) {
        out.extend([
            Block::Heading("Cells that are not ok".to_owned()),
            Block::Table(table),
        ]);
    }
    out
}

/// The command line as one would type it.
fn command_line(argv: &[String]) -> String {
    let quoted: Vec<String> = argv
        .iter()
        .map(|word| {
            let plain = !word.is_empty()
                && word
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c));
            if plain {
                word.clone()
            } else {
                format!("'{}'", word.replace('\'', "'\\''"))
            }
        })
        .collect();
    quoted.join(" ")
}

/// Writes `report.md` into a run directory, linking the charts that are there; gives its path.
///
/// # Errors
/// When the session or a file of rows cannot be read, or the report cannot be written.
pub fn write_report_md(run: &RunDir) -> Result<PathBuf, ReportError> {
    write(run, &Album::read(run)?)
}

/// The same for what was read already.
pub(crate) fn write(run: &RunDir, album: &Album) -> Result<PathBuf, ReportError> {
    let charts: Vec<(String, String)> = album
        .titles()
        .into_iter()
        .filter(|(name, _)| run.path().join(format!("charts/{name}.svg")).is_file())
        .collect();
    let path = run.path().join("report.md");
    let text = markdown(&report_blocks(&album.record, &charts, &album.missing));
    fs::write(&path, text).map_err(|source| ReportError::Io {
        path: path.clone(),
        source,
    })?;
    Ok(path)
}
