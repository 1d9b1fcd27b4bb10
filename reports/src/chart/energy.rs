//! Charts of what an energy meter read. Without a meter there are none.

use std::collections::{BTreeMap, BTreeSet};

use trit_core::{PowerRow, SummaryRow, Workload};

use super::canvas::{PALETTE, shade};
use super::figure::{Axis, Bar, Bars, Figure, Lines, Panel, Series};
use super::{ChartData, describe, in_order, limited, shape_title};
use crate::labels;
use crate::units::{joule_unit, show_joules};

/// Points of one line that are drawn: about two a pixel.
const MOST_POINTS: usize = 1500;

/// Rows with joules.
fn measured<'a>(data: &ChartData<'a>) -> Vec<&'a SummaryRow> {
    data.record
        .rows
        .iter()
        .filter(|row| {
            row.results
                .gross_j_per_request
                .or(row.results.gross_j_per_token)
                .is_some()
        })
        .collect()
}

/// Who, on how many threads.
fn who(row: &SummaryRow) -> String {
    let threads = row.cell.threads.map_or_else(String::new, labels::threads);
    let parts = [labels::subject(&row.cell).to_owned(), threads];
    parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Joules of one request of a model, by phase: a stacked bar for each decode row that has its prefill.
fn requests(rows: &[&SummaryRow]) -> Vec<Panel> {
    let decode: Vec<&SummaryRow> = rows
        .iter()
        .copied()
        .filter(|row| row.cell.workload == Workload::Decode)
        .collect();
    let title = |row: &SummaryRow| {
        let count = |n: Option<u64>| n.unwrap_or(0);
        format!(
            "{}: a prompt of {} tokens, {} generated",
            labels::model(&row.cell),
            count(row.cell.prompt_tokens),
            count(row.cell.gen_tokens)
        )
    };
    in_order(decode.iter().map(|row| title(row)))
        .into_iter()
        .filter_map(|name| {
            let mut groups: Vec<(f64, (String, Vec<Bar>))> = decode
                .iter()
                .filter(|row| title(row) == name)
                .filter_map(|row| {
                    let results = &row.results;
                    let whole = results.gross_j_per_request?;
                    let tokens = row.cell.gen_tokens?.saturating_sub(1) as f64;
                    let generated = tokens * results.gross_j_per_token?;
                    let ends = results
                        .gross_j_per_request_lo
                        .zip(results.gross_j_per_request_hi);
                    let bar = Bar {
                        segments: vec![
                            ((whole - generated).max(0.0), PALETTE[4]),
                            (generated, PALETTE[0]),
                        ],
                        interval: ends,
                        mark: None,
                        text: show_joules(whole),
                    };
                    Some((whole, (who(row), vec![bar])))
                })
                .collect();
            groups.sort_by(|a, b| a.0.total_cmp(&b.0));
            (!groups.is_empty()).then(|| {
                Panel::Bars(Bars {
                    title: name,
                    unit: "J per request".to_owned(),
                    legend: vec![
                        ("prefill".to_owned(), PALETTE[4]),
                        ("decode".to_owned(), PALETTE[0]),
                    ],
                    groups: groups.into_iter().map(|(_, group)| group).collect(),
                })
            })
        })
        .collect()
}

/// Joules of a token: a panel a workload and shape.
fn tokens(rows: &[&SummaryRow]) -> Vec<Panel> {
    let key = |row: &SummaryRow| (row.cell.workload, labels::shape(&row.cell));
    in_order(rows.iter().map(|row| key(row)))
        .into_iter()
        .filter_map(|(workload, shape)| {
            let here: Vec<&SummaryRow> = rows
                .iter()
                .copied()
                .filter(|row| key(row) == (workload, shape.clone()))
                .filter(|row| row.results.gross_j_per_token.is_some())
                .collect();
            let most = here
                .iter()
                .filter_map(|row| row.results.gross_j_per_token)
                .fold(0.0, f64::max);
            let (scale, unit) = joule_unit(most);
            let threads: Vec<u64> = here
                .iter()
                .filter_map(|row| row.cell.threads)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect();
            let mut groups: BTreeMap<&str, Vec<(u64, f64, Bar)>> = BTreeMap::new();
            for row in here {
                let results = &row.results;
                let Some(gross) = results.gross_j_per_token else {
                    continue;
                };
                let count = row.cell.threads.unwrap_or(1);
                let at = threads.iter().position(|t| *t == count).unwrap_or(0);
                let ends = results
                    .gross_j_per_token_lo
                    .zip(results.gross_j_per_token_hi);
                let bar = Bar {
                    segments: vec![(gross / scale, shade(at, threads.len()))],
                    interval: ends.map(|(lo, hi)| (lo / scale, hi / scale)),
                    mark: results
                        .net_j_per_token
                        .filter(|net| *net > 0.0)
                        .map(|net| net / scale),
                    text: show_joules(gross),
                };
                let bars = groups.entry(labels::subject(&row.cell)).or_default();
                bars.push((count, gross, bar));
            }
            let least = |bars: &[(u64, f64, Bar)]| {
                bars.iter()
                    .map(|(_, joules, _)| *joules)
                    .fold(f64::INFINITY, f64::min)
            };
            let mut groups: Vec<_> = groups.into_iter().collect();
            groups.sort_by(|a, b| least(&a.1).total_cmp(&least(&b.1)).then(a.0.cmp(b.0)));
            let groups: Vec<(String, Vec<Bar>)> = groups
                .into_iter()
                .map(|(name, mut bars)| {
                    bars.sort_by_key(|(count, ..)| *count);
                    (
                        name.to_owned(),
                        bars.into_iter().map(|(.., bar)| bar).collect(),
                    )
                })
                .collect();
            let legend = threads
                .iter()
                .enumerate()
                .map(|(at, count)| (labels::threads(*count), shade(at, threads.len())))
                .collect();
            let what = shape_title(shape, workload);
            (!groups.is_empty()).then(|| {
                Panel::Bars(Bars {
                    title: format!("{what}: {}", describe(workload)),
                    unit: format!("{unit} per token, gross"),
                    legend,
                    groups,
                })
            })
        })
        .collect()
}

/// Energy of requests by phase, and of tokens.
pub(super) fn energy(data: &ChartData<'_>) -> Option<Figure> {
    let rows = measured(data);
    let mut panels = requests(&rows);
    panels.extend(tokens(&rows));
    let domain = rows
        .first()
        .map_or("", |row| row.results.energy_domain.as_str());
    let mut notes = vec![format!(
        "Gross energy of the {domain}, measured in windows apart from the latency pass. Stroke: net of idle power. Whiskers are 95 % intervals over windows; no whisker: fewer than six windows."
    )];
    let panels = limited(panels, &mut notes);
    (!panels.is_empty()).then(|| Figure {
        title: "Energy by phase and kernel".to_owned(),
        subtitle: data.record.heading.line(),
        panels,
        notes,
    })
}

/// A line over time that is interrupted where nothing was read.
fn line(rows: &[&PowerRow], of: impl Fn(&PowerRow) -> Option<u64>) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    let mut last_ns = None;
    let step = rows.len().div_ceil(MOST_POINTS).max(1);
    for rows in rows.chunks(step) {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            continue;
        };
        let start_ns = first.at_ns.saturating_sub(first.length_ns);
        let length_ns: u64 = rows.iter().map(|row| row.length_ns).sum();
        let Some(uj) = rows.iter().map(|row| of(row)).sum::<Option<u64>>() else {
            continue;
        };
        if length_ns == 0 {
            continue;
        }
        // A microjoule a nanosecond is a kilowatt.
        let watts = uj as f64 * 1e3 / length_ns as f64;
        let gap = last_ns.is_some_and(|last: u64| start_ns > last.saturating_add(first.length_ns));
        if gap {
            points.push((start_ns as f64 / 1e9, f64::NAN));
        }
        points.push((start_ns as f64 / 1e9, watts));
        points.push((last.at_ns as f64 / 1e9, watts));
        last_ns = Some(last.at_ns);
    }
    points
}

/// A domain and its energy in a sample.
type Domain = (&'static str, fn(&PowerRow) -> Option<u64>);

/// Power over time: a panel a part of the session.
pub(super) fn power(data: &ChartData<'_>) -> Option<Figure> {
    let mut panels = Vec::new();
    let parts: BTreeSet<u64> = data.power.iter().map(|row| row.part).collect();
    let many = parts.len() > 1;
    for part in parts {
        let rows: Vec<&PowerRow> = data.power.iter().filter(|row| row.part == part).collect();
        let domains: [Domain; 4] = [
            ("packages", |row| row.pkg_uj),
            ("memory", |row| row.dram_uj),
            ("platform", |row| row.psys_uj),
            ("wall", |row| row.wall_uj),
        ];
        let mut series: Vec<Series> = Vec::new();
        let headline = domains
            .iter()
            .filter(|(name, _)| *name != "memory")
            .find(|(_, of)| rows.iter().any(|row| of(row).is_some()));
        if let Some((name, of)) = headline {
            for phase in in_order(rows.iter().map(|row| row.phase.clone())) {
                let here: Vec<&PowerRow> = rows
                    .iter()
                    .copied()
                    .filter(|row| row.phase == phase)
                    .collect();
                series.push(Series {
                    label: format!("{name}, {phase}"),
                    points: line(&here, of),
                    marks: false,
                    ..Series::default()
                });
            }
        }
        for (name, of) in domains {
            if headline.is_some_and(|(other, _)| *other == name) {
                continue;
            }
            series.push(Series {
                label: name.to_owned(),
                points: line(&rows, of),
                marks: false,
                ..Series::default()
            });
        }
        series.retain(|series| !series.points.is_empty());
        let points = || series.iter().flat_map(|series| &series.points);
        let highest = points().map(|point| point.1).fold(0.0, f64::max);
        let end = points().map(|point| point.0).fold(0.0, f64::max);
        if highest <= 0.0 || end <= 0.0 {
            continue;
        }
        panels.push(Panel::Lines(Lines {
            title: if many {
                format!("Part {} of the session", part + 1)
            } else {
                "Energy windows of the session".to_owned()
            },
            x: Axis {
                label: "seconds since the start".to_owned(),
                log: false,
                time: false,
                ticks: None,
                from: 0.0,
                to: end,
            },
            y: Axis {
                label: "W".to_owned(),
                log: false,
                time: false,
                ticks: None,
                from: 0.0,
                to: highest * 1.05,
            },
            series,
            reference: None,
        }));
    }
    let mut notes = vec![
        "What the meter counted between two looks, up to ten a second, in the windows of the energy pass; between windows nothing was read. The platform contains the packages; memory is outside of them."
            .to_owned(),
    ];
    let panels = limited(panels, &mut notes);
    (!panels.is_empty()).then(|| Figure {
        title: "Power over time".to_owned(),
        subtitle: data.record.heading.line(),
        panels,
        notes,
    })
}
