//! The part of the report about energy: figures, or why there are none and what would help.

use trit_core::{Session, SummaryRow};

use crate::document::{Block, Table};
use crate::labels;
use crate::units::{show_joules, three};

fn joules(value: Option<f64>) -> String {
    value.map_or_else(String::new, show_joules)
}

/// Half of an interval as a share of the value.
fn half(value: Option<f64>, lo: Option<f64>, hi: Option<f64>) -> String {
    let share = value
        .zip(lo)
        .zip(hi)
        .filter(|((value, _), _)| *value > 0.0)
        .map(|((value, lo), hi)| 100.0 * (hi - lo) / 2.0 / value);
    share.map_or_else(String::new, |share| format!("{} %", three(share)))
}

/// The blocks of the section; none for a session from before there was one.
pub(crate) fn energy_section(session: &Session, rows: &[SummaryRow]) -> Vec<Block> {
    let mut lines = Vec::new();
    let measured: Vec<&SummaryRow> = rows
        .iter()
        .filter(|row| row.results.energy_windows.is_some())
        .collect();
    let facts = &session.energy;
    if !facts.status.is_empty() || !measured.is_empty() {
        lines.push(Block::Heading("Energy".to_owned()));
    }
    if measured.is_empty() {
        if !facts.status.is_empty() {
            lines.extend(why(session, rows));
        }
    } else {
        lines.push(Block::Table(figures(&measured)));
        lines.extend(words(session, &measured));
    }
    if let Some(table) = arithmetic(rows) {
        lines.push(Block::Heading(
            "Arithmetic by a model: an estimate, no measurement".to_owned(),
        ));
        lines.push(Block::Table(table));
        lines.push(Block::Text(
            "What one token would take in adders and multipliers of a 7 nm process: 0.007 pJ a ternary weight, 0.077 pJ an 8-bit one, 0.5 pJ a half-precision one, and 0.5 pJ a multiply and add of attention at the mean position. Memory, caches, instructions, leakage and the head are not in it; real machines take some hundred times as much. It is the estimate behind the published 0.028 J of BitNet b1.58 2B4T, which is a pass of 512 tokens."
                .to_owned(),
        ));
    }
    lines
}

/// Why there are no figures.
pub(crate) fn why(session: &Session, rows: &[SummaryRow]) -> Vec<Block> {
    let facts = &session.energy;
    let mut lines = Vec::new();
    if facts.status == "ok" {
        lines.push(Block::Text(format!(
            "A meter was there ({}: {}), and no window counts.",
            facts.source,
            facts.domains.join(" ")
        )));
        let mut reasons: Vec<&str> = Vec::new();
        for row in rows {
            let reason = row.results.energy_reason.as_str();
            if !reason.is_empty() && !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        let reasons = reasons.iter().take(5).map(|&reason| reason.to_owned());
        lines.push(Block::List(reasons.collect()));
    } else {
        lines.push(Block::Text(format!(
            "Not measured: {} (`{}`). The columns are empty; nothing stands in for a meter.",
            facts.reason, facts.status
        )));
        if !facts.remedy.is_empty() {
            lines.push(Block::Text(format!(
                "What helps: {}.",
                facts.remedy.trim_end_matches('.')
            )));
        }
    }
    lines
}

fn figures(measured: &[&SummaryRow]) -> Table {
    let lines: Vec<Vec<String>> = measured
        .iter()
        .map(|row| {
            let (cell, results) = (&row.cell, &row.results);
            vec![
                format!("`{}`", labels::subject(cell)),
                cell.workload.name().to_owned(),
                labels::shape(cell),
                cell.threads.map_or_else(String::new, |n| n.to_string()),
                results
                    .energy_windows
                    .map_or_else(String::new, |n| n.to_string()),
                results.gross_w.map_or_else(String::new, three),
                joules(results.gross_j_per_token),
                half(
                    results.gross_j_per_token,
                    results.gross_j_per_token_lo,
                    results.gross_j_per_token_hi,
                ),
                joules(results.net_j_per_token),
                joules(results.gross_j_per_request),
                results
                    .edp_js
                    .map_or_else(String::new, |edp| format!("{edp:.3e}")),
            ]
        })
        .collect();
    let header = [
        "kernel",
        "workload",
        "shape",
        "threads:",
        "windows:",
        "W:",
        "J/token:",
        "±:",
        "net J/token:",
        "J/request:",
        "EDP (J s):",
    ];
    Table::new(&header, lines)
}

/// What the figures mean, and what to doubt.
fn words(session: &Session, measured: &[&SummaryRow]) -> Vec<Block> {
    let first = &measured[0].results;
    let domain = match first.energy_domain.as_str() {
        "package" => {
            "the processor packages, whatever ran on them; memory outside of them is not in it"
        }
        "platform" => "the whole platform",
        _ => "everything behind an outside meter",
    };
    let idle = first.energy_idle_w.map_or_else(
        || "unknown".to_owned(),
        |watts| format!("{} W", three(watts)),
    );
    let text = format!(
        "Gross energy of {domain}, by {} ({}). Net is gross less idle power ({idle}) times time. A window is a loop of one cell apart from the slices whose latency is recorded; decode is without its prompt, and a request of a decode row is a prompt and its tokens. Hodges-Lehmann over windows with 95 % intervals, from six windows on.",
        first.energy_source,
        session.energy.domains.join(" ")
    );
    let mut doubts: Vec<&str> = Vec::new();
    for row in measured {
        for doubt in [&row.results.energy_net_status, &row.results.energy_reason] {
            if doubt != "ok" && !doubt.is_empty() && !doubts.contains(&doubt.as_str()) {
                doubts.push(doubt);
            }
        }
    }
    let doubts = doubts
        .iter()
        .take(5)
        .map(|doubt| format!("Doubt: {doubt}."))
        .collect();
    vec![Block::Text(text), Block::List(doubts)]
}

/// Whole models by the arithmetic model, each once.
pub(crate) fn arithmetic(rows: &[SummaryRow]) -> Option<Table> {
    let mut lines: Vec<Vec<String>> = Vec::new();
    for row in rows.iter().filter(|row| !row.cell.model.is_empty()) {
        let results = &row.results;
        let Some(model_uj) = results.model_uj else {
            continue;
        };
        let part = |uj: Option<f64>| uj.map_or_else(String::new, three);
        let line = vec![
            labels::shape(&row.cell),
            row.cell.workload.name().to_owned(),
            three(model_uj),
            part(results.model_linear_uj),
            part(results.model_attention_uj),
        ];
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let header = ["model", "workload", "µJ/token:", "linears:", "attention:"];
    Table::unless_empty(&header, lines)
}
