//! The energy report: joules a token gross and net against dense baselines, watts, energy-delay product, Pareto. Without a meter: why, and
//! what is left.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use trit_core::{PairQuantity, PairRow, SummaryRow, embedded_shape, shape_names};

use crate::chart::{Bar, Bars, Figure, MOST_PANELS, PALETTE, Panel, pareto};
use crate::compose::{Linears, dense_format, joule_interval, paired};
use crate::document::{self, table};
use crate::energy_section::{arithmetic, why};
use crate::facts;
use crate::labels;
use crate::markdown::ranked;
use crate::record::Record;
use crate::sheet::{Paper, Sheet, number, text, whole};
use crate::units::{joule_unit, show_joules, three};

/// Formats that ternary kernels are held against.
const FORMATS: [&str; 4] = ["f16", "f32", "i8", "q4"];

/// The place of a row: what has to agree for joules to be comparable.
type Place = (trit_core::Workload, String);

/// A format, its joules over those of a row with their interval, and whether a pair says so.
type Against<'a> = (&'a str, f64, Option<(f64, f64)>, bool);

/// A row with joules, and how it stands among the others of its place.
struct Line<'a> {
    row: &'a SummaryRow,
    /// Every baseline that has joules in the same place.
    against: Vec<Against<'a>>,
    /// No other row of the place is both faster and cheaper.
    pareto: bool,
}

fn joules(row: &SummaryRow) -> Option<f64> {
    row.results.gross_j_per_token
}

fn place(row: &SummaryRow) -> Place {
    (row.cell.workload, labels::shape(&row.cell))
}

/// The rows with joules, by place, the cheapest first.
fn lines(record: &Record) -> Vec<Line<'_>> {
    let mut order: Vec<Place> = Vec::new();
    let mut places: BTreeMap<Place, Vec<&SummaryRow>> = BTreeMap::new();
    for row in &record.rows {
        if ranked(row) && joules(row).is_some() {
            let here = place(row);
            if !order.contains(&here) {
                order.push(here.clone());
            }
            places.entry(here).or_default().push(row);
        }
    }
    let energy = record.pairs.iter();
    let energy = energy.filter(|pair| pair.quantity == PairQuantity::Energy);
    let pairs: BTreeMap<(&str, &str), &PairRow> = energy
        .map(|pair| ((pair.a.as_str(), pair.b.as_str()), pair))
        .collect();
    let amount = |row: &SummaryRow| joules(row).unwrap_or(f64::INFINITY);
    let time = |row: &SummaryRow| row.results.median_ns.unwrap_or(f64::INFINITY);
    let mut lines = Vec::new();
    for here in order {
        let mut rows = places.remove(&here).unwrap_or_default();
        rows.sort_by(|a, b| amount(a).total_cmp(&amount(b)));
        let both: Vec<(f64, f64)> = rows.iter().map(|row| (amount(row), time(row))).collect();
        for (row, pareto) in rows.iter().zip(pareto::front(&both)) {
            let mut against = Vec::new();
            for format in FORMATS {
                // The cheapest of a format on as many threads.
                let base = rows.iter().find(|base| {
                    dense_format(&base.cell.kernel) == Some(format)
                        && base.cell.threads == row.cell.threads
                });
                let Some(base) = base.filter(|_| dense_format(&row.cell.kernel) != Some(format))
                else {
                    continue;
                };
                let value = amount(base) / amount(row);
                // Pairs hold the joules of side A over those of side B.
                let (value, ends, from_pair) = match paired(&pairs, base, row) {
                    Some((value, ends)) => (value, ends, true),
                    None => (
                        value,
                        joule_interval(&row.results, &base.results, value),
                        false,
                    ),
                };
                against.push((format, value, ends, from_pair));
            }
            lines.push(Line {
                row,
                against,
                pareto,
            });
        }
    }
    lines
}

/// What a run says about joules. The same rows give the same bytes.
pub fn energy_paper(record: &Record) -> Paper {
    let lines = lines(record);
    let figures = figures(&lines, record);
    let mut below = Vec::new();
    if lines.is_empty() {
        let why = document::markdown(&why(&record.session, &record.rows));
        below = why.lines().map(ToOwned::to_owned).collect();
        below.push(
            "What is left: the arithmetic of a model in the Markdown (`--format md`), an estimate."
                .to_owned(),
        );
    }
    Paper {
        name: "energy",
        markdown: markdown(&lines, record, &figures),
        sheet: sheet(&lines, record),
        short: short(&lines),
        below,
        figures,
    }
}

fn times(line: &Line<'_>) -> String {
    let parts: Vec<String> = line
        .against
        .iter()
        .map(|(format, value, ends, paired)| {
            let ends = ends.map_or_else(String::new, |(lo, hi)| {
                format!(" ({} to {})", three(lo), three(hi))
            });
            let from = if *paired { ", pair" } else { "" };
            format!("{format} {}x{ends}{from}", three(*value))
        })
        .collect();
    parts.join("; ")
}

fn half(value: Option<f64>, lo: Option<f64>, hi: Option<f64>) -> String {
    let share = value.zip(lo.zip(hi)).filter(|(value, _)| *value > 0.0);
    share.map_or_else(String::new, |(value, (lo, hi))| {
        format!("{} %", three(100.0 * (hi - lo) / 2.0 / value))
    })
}

fn fields(line: &Line<'_>) -> Vec<String> {
    let (cell, results) = (&line.row.cell, &line.row.results);
    let joules = |value: Option<f64>| value.map_or_else(String::new, show_joules);
    vec![
        format!("`{}`", labels::subject(cell)),
        cell.workload.name().to_owned(),
        labels::shape(cell),
        cell.threads.map_or_else(String::new, |n| n.to_string()),
        joules(results.gross_j_per_token),
        half(
            results.gross_j_per_token,
            results.gross_j_per_token_lo,
            results.gross_j_per_token_hi,
        ),
        joules(results.net_j_per_token),
        results.gross_w.map_or_else(String::new, three),
        results
            .edp_js
            .map_or_else(String::new, |edp| format!("{edp:.3e}")),
        results.tokens_per_s.map_or_else(String::new, three),
        if line.pareto { "yes" } else { "" }.to_owned(),
        times(line),
    ]
}

fn short(lines: &[Line<'_>]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let rows = lines
        .iter()
        .map(|line| {
            let mut fields = fields(line);
            fields[0] = fields[0].replace('`', "");
            fields.truncate(8);
            fields
        })
        .collect();
    let header = vec![
        "kernel", "workload", "shape", "thr:", "J/token:", "±:", "net:", "W:",
    ];
    (header, rows)
}

fn sheet(lines: &[Line<'_>], record: &Record) -> Sheet {
    let by_row: BTreeMap<&str, &Line<'_>> = lines
        .iter()
        .map(|line| (line.row.cell.cell.as_str(), line))
        .collect();
    // Every row that has a time: those without joules say why.
    let rows = record.rows.iter().filter(|row| ranked(row)).map(|row| {
        let (cell, results) = (&row.cell, &row.results);
        let line = by_row.get(cell.cell.as_str());
        let factor = |wanted: &str| {
            let found = line.and_then(|line| line.against.iter().find(|one| one.0 == wanted));
            number(found.map(|one| one.1))
        };
        vec![
            labels::subject(cell).into(),
            cell.workload.name().into(),
            text(&labels::shape(cell)),
            text(&cell.model),
            whole(cell.threads),
            text(&results.energy_status),
            text(&results.energy_reason),
            text(&results.energy_source),
            text(&results.energy_domain),
            whole(results.energy_windows),
            number(results.gross_j_per_token),
            number(results.gross_j_per_token_lo),
            number(results.gross_j_per_token_hi),
            number(results.net_j_per_token),
            number(results.net_j_per_token_lo),
            number(results.net_j_per_token_hi),
            number(results.gross_w),
            number(results.edp_js),
            number(results.tokens_per_s),
            line.map_or(serde_json::Value::Null, |line| line.pareto.into()),
            factor("f16"),
            factor("f32"),
            factor("i8"),
            factor("q4"),
            number(results.model_uj),
        ]
    });
    Sheet {
        header: vec![
            "subject",
            "workload",
            "shape",
            "model",
            "threads",
            "energy_status",
            "energy_reason",
            "energy_source",
            "energy_domain",
            "energy_windows",
            "gross_j_per_token",
            "gross_lo",
            "gross_hi",
            "net_j_per_token",
            "net_lo",
            "net_hi",
            "gross_w",
            "edp_js",
            "tokens_per_s",
            "pareto",
            "f16_joules_ratio",
            "f32_joules_ratio",
            "i8_joules_ratio",
            "q4_joules_ratio",
            "model_uj",
        ],
        rows: rows.collect(),
    }
}

/// Model sizes by their matrices: joules of each format over those of the cheapest ternary kernel on as many threads.
fn models(record: &Record) -> Option<String> {
    let linears = Linears::new(&record.rows, &record.pairs);
    let mut rows = Vec::new();
    for shape in shape_names().into_iter().filter_map(embedded_shape) {
        let tokens = linears.tokens(shape);
        let Some(ternary) = tokens
            .iter()
            .find(|token| dense_format(token.kernel).is_none())
        else {
            continue;
        };
        for base in tokens.iter().filter(|token| {
            dense_format(token.kernel).is_some() && token.threads == ternary.threads
        }) {
            let Some(factor) = linears.joules(ternary, base) else {
                continue;
            };
            let ends = factor.interval.map_or_else(String::new, |i| {
                format!("{} to {}", three(i.lo), three(i.hi))
            });
            rows.push(vec![
                shape.name.clone(),
                format!("`{}`", ternary.kernel),
                format!("`{}`", base.kernel),
                ternary.threads.to_string(),
                format!("{}x", three(factor.value)),
                ends,
                format!("{} %", three(100.0 * (1.0 - 1.0 / factor.value))),
                if factor.paired {
                    "pairs"
                } else {
                    "separate windows"
                }
                .to_owned(),
            ]);
        }
    }
    let header = [
        "model",
        "ternary",
        "against",
        "threads:",
        "joules of it:",
        "95 %:",
        "saved:",
        "from",
    ];
    (!rows.is_empty()).then(|| table(&header, &rows))
}

fn markdown(lines: &[Line<'_>], record: &Record, figures: &[(String, Figure)]) -> String {
    let session = &record.session;
    let mut out = String::from("# Energy\n\n");
    let _ = writeln!(out, "- Machine: {}", facts::machine_line(session));
    let _ = writeln!(out, "- When: {}", session.started_utc);
    let _ = writeln!(out, "- Session: {}", record.heading.session);
    if lines.is_empty() {
        out.push_str("\n## No joules\n\n");
        out.push_str(&document::markdown(&why(session, &record.rows)));
        out.push_str("\n## What is left\n\nTime is no energy, and nothing here turns one into the other: `tritbench report speedup` has the times.");
        out.push_str(if arithmetic(&record.rows).is_some() {
            " The arithmetic below is an estimate.\n"
        } else {
            "\n"
        });
    } else {
        out.push_str("\n## Joules a token\n\n");
        let rows: Vec<Vec<String>> = lines.iter().map(fields).collect();
        out.push_str(&table(
            &[
                "kernel",
                "workload",
                "shape",
                "threads:",
                "J/token:",
                "±:",
                "net J/token:",
                "W:",
                "EDP (J s):",
                "tokens/s:",
                "Pareto",
                "joules of the baselines",
            ],
            &rows,
        ));
        out.push_str("\nGross energy of the measured domain; net is gross less idle power times time. Each baseline is the cheapest kernel of its format in the same place, and its number is how many times the joules it takes. Pareto: nothing else in the same place is both faster and cheaper. EDP is joules a token times seconds a token. Cells without joules are in the CSV with the reason.\n");
        if let Some(table) = models(record) {
            let _ = write!(
                out,
                "\n## Model sizes\n\n{table}\nThe matrices of one token from memory, weighed by how often a token needs them, and the head on both sides where it was measured.\n"
            );
        }
    }
    if let Some(table) = arithmetic(&record.rows) {
        let _ = write!(
            out,
            "\n## Arithmetic by a model: an estimate, no measurement\n\n{}",
            table.markdown()
        );
    }
    if !figures.is_empty() {
        let _ = write!(out, "\n## Charts\n\n{}", Paper::links(figures));
    }
    out
}

/// Joules as bars, those of the Pareto front in another colour, and joules against speed.
fn figures(lines: &[Line<'_>], record: &Record) -> Vec<(String, Figure)> {
    let mut order: Vec<Place> = Vec::new();
    for line in lines {
        let here = place(line.row);
        if !order.contains(&here) {
            order.push(here);
        }
    }
    let panels: Vec<Panel> = order
        .into_iter()
        .take(MOST_PANELS)
        .map(|here| {
            let rows: Vec<&Line<'_>> = lines.iter().filter(|l| place(l.row) == here).collect();
            let most = rows
                .iter()
                .filter_map(|l| joules(l.row))
                .fold(0.0, f64::max);
            let (scale, unit) = joule_unit(most);
            let color = |pareto: bool| if pareto { PALETTE[2] } else { PALETTE[5] };
            let groups = rows
                .iter()
                .filter_map(|line| {
                    let results = &line.row.results;
                    let gross = joules(line.row)?;
                    let ends = results
                        .gross_j_per_token_lo
                        .zip(results.gross_j_per_token_hi);
                    let team = line
                        .row
                        .cell
                        .threads
                        .map_or_else(String::new, |n| format!(", {}", labels::threads(n)));
                    let bar = Bar {
                        segments: vec![(gross / scale, color(line.pareto))],
                        interval: ends.map(|(lo, hi)| (lo / scale, hi / scale)),
                        mark: results
                            .net_j_per_token
                            .filter(|net| *net > 0.0)
                            .map(|net| net / scale),
                        text: show_joules(gross),
                    };
                    Some((
                        format!("{}{team}", labels::subject(&line.row.cell)),
                        vec![bar],
                    ))
                })
                .collect();
            Panel::Bars(Bars {
                title: format!("{}, {}", here.1, here.0),
                unit: format!("{unit} a token, gross"),
                legend: vec![
                    (
                        "Pareto: nothing is faster and cheaper".to_owned(),
                        color(true),
                    ),
                    ("something is both".to_owned(), color(false)),
                ],
                groups,
            })
        })
        .collect();
    if panels.is_empty() {
        return Vec::new();
    }
    let figure = Figure {
        title: "Joules a token".to_owned(),
        subtitle: record.heading.line(),
        panels,
        notes: vec![
            "Gross energy; stroke: net of idle power. Whiskers are 95 % intervals over windows; no whisker: fewer than six windows.".to_owned(),
        ],
    };
    let mut figures = vec![("energy-tokens".to_owned(), figure)];
    figures.extend(pareto::pareto(record).map(|figure| (pareto::NAME.to_owned(), figure)));
    figures
}
