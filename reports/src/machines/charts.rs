//! Charts of the report about machines: rates side by side, and what share of its machine's limit each of them is.

use std::collections::BTreeMap;

use plotters::prelude::RGBColor;
use trit_core::Workload;

use super::paper::shown_kernels;
use super::{Findings, Job, Place, Spot, job};
use crate::chart::{Bar, Bars, Figure, MOST_PANELS, PALETTE, Panel, describe, rate};
use crate::labels;
use crate::units::{show_rate, three};

/// Kernels of one panel.
const MOST_KERNELS: usize = 8;

/// A bar of a kernel on one machine: its length with its interval, and its text.
type Length = (f64, Option<(f64, f64)>, String);

/// Every chart with its name: two a workload.
pub(super) fn figures(
    findings: &Findings<'_>,
    fastest: &[(Job, Vec<Option<&Spot>>)],
) -> Vec<(String, Figure)> {
    let mut workloads: Vec<Workload> = Vec::new();
    for (job, _) in fastest {
        if !workloads.contains(&job.0) {
            workloads.push(job.0);
        }
    }
    let mut by_job: BTreeMap<Job, Vec<&Place>> = BTreeMap::new();
    for place in &findings.places {
        if let Some(cell) = place.cell() {
            by_job.entry(job(cell)).or_default().push(place);
        }
    }
    let mut figures = Vec::new();
    for workload in workloads {
        let jobs: Vec<(&Job, &[&Place])> = fastest
            .iter()
            .filter(|(job, _)| job.0 == workload)
            .filter_map(|(job, _)| Some((job, by_job.get(job)?.as_slice())))
            .collect();
        let rates = figure(
            findings,
            &jobs,
            format!("Rate by machine: {}", describe(workload)),
            "Rate at the median time of a call, each kernel on its fastest number of threads (t). Whiskers are 95 % intervals of the median; the machines did not take turns.",
            &|spot| {
                let (rate, unit) = rate(&spot.row)?;
                let text = if rate.value >= 1e6 {
                    show_rate(rate.value)
                } else {
                    three(rate.value)
                };
                Some(((rate.value, rate.interval, text), unit))
            },
        );
        figures.extend(rates.map(|figure| (format!("machines-{workload}"), figure)));
        let shares = figure(
            findings,
            &jobs,
            format!("Share of what the machine can do: {}", describe(workload)),
            "Share of the lower of both roofs of the same machine on as many threads: the read probe's bandwidth at the cell's operations a byte, and the arithmetic probe's peak. From pairs with the probe where there are any, else from a probe of the session. Whiskers are 95 % intervals of paired shares.",
            &|spot| {
                let (share, memory) = spot.own_limit()?;
                let paired = if memory { spot.bandwidth } else { spot.peak };
                let ends = paired
                    .filter(|paired| paired.paired)
                    .and_then(|paired| paired.ends);
                let of = if memory { "bandwidth" } else { "peak" };
                let percent = 100.0 * share;
                let ends = ends.map(|(lo, hi)| (100.0 * lo, 100.0 * hi));
                Some((
                    (percent, ends, format!("{percent:.0} % of {of}")),
                    "percent of what limits it on its machine",
                ))
            },
        );
        figures.extend(shares.map(|figure| (format!("machines-share-{workload}"), figure)));
    }
    figures
}

fn figure(
    findings: &Findings<'_>,
    jobs: &[(&Job, &[&Place])],
    title: String,
    note: &str,
    length: &dyn Fn(&Spot) -> Option<(Length, &'static str)>,
) -> Option<Figure> {
    // As many machines as there are colours that can be told apart.
    let subjects = &findings.subjects[..findings.subjects.len().min(PALETTE.len())];
    let legend: Vec<(String, RGBColor)> = subjects
        .iter()
        .zip(PALETTE)
        .map(|(subject, color)| (subject.letter.to_owned(), color))
        .collect();
    let mut left_out = 0;
    let mut panels = Vec::new();
    for (job, places) in jobs {
        let (kernels, rest) = shown_kernels(places, MOST_KERNELS);
        left_out += rest;
        let mut unit = "";
        let mut groups = Vec::new();
        for kernel in kernels {
            let mut bars = Vec::new();
            for (at, (_, color)) in legend.iter().enumerate() {
                let Some(spot) = quickest(places, &kernel, at) else {
                    continue;
                };
                let Some(((value, interval, text), its_unit)) = length(spot) else {
                    continue;
                };
                unit = its_unit;
                let threads = spot.row.cell.threads;
                let threads = threads.map_or_else(String::new, |count| format!(", t{count}"));
                bars.push(Bar {
                    segments: vec![(value, *color)],
                    interval,
                    mark: None,
                    text: format!("{}: {text}{threads}", legend[at].0),
                });
            }
            if !bars.is_empty() {
                groups.push((kernel, bars));
            }
        }
        if !groups.is_empty() {
            panels.push(Panel::Bars(Bars {
                title: panel_title(job),
                unit: unit.to_owned(),
                legend: legend.clone(),
                groups,
            }));
        }
    }
    let mut notes = vec![note.to_owned()];
    if panels.len() > MOST_PANELS || left_out > 0 || subjects.len() < findings.subjects.len() {
        notes.push(format!(
            "Left out: {} panels, {left_out} slower kernels, {} machines; all are in machines.csv.",
            panels.len().saturating_sub(MOST_PANELS),
            findings.subjects.len() - subjects.len()
        ));
    }
    panels.truncate(MOST_PANELS);
    let subtitle: Vec<String> = subjects
        .iter()
        .map(|subject| {
            let when = subject.runs[0].record.session.started_utc.as_str();
            let when = if when.is_empty() {
                String::new()
            } else {
                format!(", {when}")
            };
            format!("{}: {}{when}", subject.letter, subject.name)
        })
        .collect();
    (!panels.is_empty()).then(|| Figure {
        title,
        subtitle: subtitle.join("  ·  "),
        panels,
        notes,
    })
}

fn panel_title((workload, shape, head, kv): &Job) -> String {
    let mut parts: Vec<&str> = vec![shape, head, kv];
    parts.retain(|part| !part.is_empty());
    if parts.is_empty() {
        workload.name().to_owned()
    } else {
        parts.join(", ")
    }
}

/// The fastest of a kernel's places on one machine.
fn quickest<'a>(places: &[&'a Place], kernel: &str, at: usize) -> Option<&'a Spot> {
    let time = |spot: &Spot| spot.row.results.median_ns.unwrap_or(f64::INFINITY);
    places
        .iter()
        .filter_map(|place| place.spots.get(at)?.as_ref())
        .filter(|spot| labels::subject(&spot.row.cell) == kernel)
        .min_by(|a, b| time(a).total_cmp(&time(b)))
}
