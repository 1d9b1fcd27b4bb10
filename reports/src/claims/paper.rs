//! The claims report.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use trit_core::{Claim, Quantity};

use super::judge::judge;
use super::{ClaimVerdict, Judged, published};
use crate::chart::{Bar, Bars, Figure, PALETTE, Panel, shade};
use crate::document::table;
use crate::facts;
use crate::record::Record;
use crate::sheet::{Paper, Sheet, number, text, whole};
use crate::units::three;

/// Holds claims against a run. The same claims and rows give the same bytes.
pub fn claims_paper(claims: &[Claim], run: Option<&Record>) -> Paper {
    let judged = judge(claims, run);
    let figures = figures(&judged, run);
    Paper {
        name: "claims",
        markdown: markdown(&judged, run, &figures),
        sheet: sheet(&judged),
        short: short(&judged),
        below: below(&judged),
        figures,
    }
}

fn tally(judged: &[Judged<'_>]) -> String {
    let counts: Vec<String> = ClaimVerdict::ALL
        .iter()
        .map(|verdict| {
            let count = judged.iter().filter(|j| j.verdict == *verdict).count();
            format!("{count} {}", verdict.name())
        })
        .collect();
    format!("{} figures: {}", judged.len(), counts.join(", "))
}

fn figure_text(claim: &Claim) -> String {
    match published(claim) {
        (from, Some(to)) => format!("{from} to {to}"),
        (value, None) => value.to_string(),
    }
}

fn ours_text(judged: &Judged<'_>) -> String {
    match judged.ends() {
        None => String::new(),
        Some((least, most)) => {
            let projected = if least.projected { "at best " } else { "" };
            // One digit more than published tells whether the last one agrees.
            let show = |value: f64| match judged.claim.quantity {
                Quantity::Arithmetic => format!("{value:.4}"),
                _ => three(value),
            };
            if judged.ours.len() > 1 {
                format!("{projected}{} to {}", show(least.value), show(most.value))
            } else {
                format!("{projected}{}", show(least.value))
            }
        }
    }
}

fn interval_text(judged: &Judged<'_>) -> String {
    let interval = match judged.ours.as_slice() {
        [(_, ours)] => ours.interval,
        _ => None,
    };
    interval.map_or_else(String::new, |i| {
        format!("{} to {}", three(i.lo), three(i.hi))
    })
}

fn models(claim: &Claim) -> String {
    claim.models.join(" ")
}

fn short(judged: &[Judged<'_>]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let rows = judged
        .iter()
        .map(|judged| {
            vec![
                judged.claim.id.clone(),
                figure_text(judged.claim),
                ours_text(judged),
                judged.claim.quantity.unit().to_owned(),
                judged.verdict.name().to_owned(),
            ]
        })
        .collect();
    let header = vec!["claim", "published:", "ours:", "unit", "verdict"];
    (header, rows)
}

/// How many there are of each verdict, and why.
fn below(judged: &[Judged<'_>]) -> Vec<String> {
    let mut reasons: BTreeMap<(ClaimVerdict, &str), usize> = BTreeMap::new();
    for judged in judged {
        *reasons
            .entry((judged.verdict, judged.reason.as_str()))
            .or_default() += 1;
    }
    let mut lines = vec![format!("\n{}", tally(judged))];
    for ((verdict, reason), count) in reasons {
        lines.push(format!("{count:>4} {}: {reason}", verdict.name()));
    }
    lines
}

fn sheet(judged: &[Judged<'_>]) -> Sheet {
    let rows = judged.iter().map(|judged| {
        let claim = judged.claim;
        let (from, to) = published(claim);
        let ends = judged.ends();
        let several = judged.ours.len() > 1;
        let interval = ends
            .and_then(|(least, _)| least.interval)
            .filter(|_| !several);
        let basis = ends.map_or("", |(least, _)| least.basis.as_str());
        vec![
            claim.id.as_str().into(),
            claim.source.id.as_str().into(),
            claim.place.as_str().into(),
            claim.says.as_str().into(),
            claim.setup.as_str().into(),
            text(&models(claim)),
            claim.quantity.name().into(),
            claim.quantity.unit().into(),
            text(&claim.against),
            whole(claim.threads),
            number(Some(from)),
            number(to),
            number(ends.map(|(least, _)| least.value)),
            number(ends.filter(|_| several).map(|(_, most)| most.value)),
            number(interval.map(|i| i.lo)),
            number(interval.map(|i| i.hi)),
            text(basis),
            judged.verdict.name().into(),
            judged.reason.as_str().into(),
        ]
    });
    Sheet {
        header: vec![
            "claim",
            "source",
            "place",
            "says",
            "setup",
            "models",
            "quantity",
            "unit",
            "against",
            "threads",
            "published",
            "published_to",
            "ours",
            "ours_to",
            "lo",
            "hi",
            "basis",
            "verdict",
            "reason",
        ],
        rows: rows.collect(),
    }
}

fn section(judged: &[&Judged<'_>], verdict: ClaimVerdict) -> String {
    let lines: Vec<Vec<String>> = judged
        .iter()
        .map(|judged| {
            let basis = judged.ends().map_or("", |(least, _)| least.basis.as_str());
            let mut line = vec![
                format!("`{}`", judged.claim.id),
                judged.claim.says.clone(),
                figure_text(judged.claim),
                ours_text(judged),
                judged.claim.quantity.unit().to_owned(),
            ];
            if verdict != ClaimVerdict::NotMeasurable {
                line.push(interval_text(judged));
            }
            line.push(basis.to_owned());
            line.push(judged.reason.clone());
            line
        })
        .collect();
    let mut header = vec!["claim", "says", "published:", "ours:", "unit"];
    if verdict != ClaimVerdict::NotMeasurable {
        header.push("95 %:");
    }
    header.extend(["ours is", "why"]);
    table(&header, &lines)
}

fn markdown(judged: &[Judged<'_>], run: Option<&Record>, figures: &[(String, Figure)]) -> String {
    let mut out = String::from("# Published figures about BitNet b1.58\n\n");
    match run {
        None => out.push_str("- Run: none given, so nothing can be said about any of them; `tritbench report claims RUN` takes one\n"),
        Some(run) => {
            let _ = writeln!(out, "- Machine: {}", facts::machine_line(&run.session));
            let _ = writeln!(out, "- When: {}", run.session.started_utc);
            let _ = writeln!(out, "- Session: {}", run.heading.session);
        }
    }
    let _ = writeln!(out, "- {}", tally(judged));
    for verdict in ClaimVerdict::ALL {
        let here: Vec<&Judged<'_>> = judged.iter().filter(|j| j.verdict == verdict).collect();
        if here.is_empty() {
            continue;
        }
        let title = match verdict {
            ClaimVerdict::Reproduced => "Reproduced",
            ClaimVerdict::NotReproduced => "Not reproduced",
            ClaimVerdict::NotMeasurable => "Not measurable here",
        };
        let _ = write!(out, "\n## {title}\n\n{}", section(&here, verdict));
    }
    if !figures.is_empty() {
        let _ = write!(out, "\n## Charts\n\n{}", Paper::links(figures));
    }
    out.push_str("\n## How to read this\n\n");
    out.push_str(
        "A figure is reproduced when ours reaches it within the tolerance of the claim (5 % unless it says otherwise) or is better, with all of its 95 % interval; it is not when the whole interval falls short; an interval that holds the limit decides nothing. Absolute figures hold for the processor that they were published for and are judged on no other; ratios are judged on any processor of the same architecture. A speed-up is that of the matrices of one token from memory, weighed by how often a token needs them, with the half-precision head on both sides where the run has it: attention, norms and sampling are not in it, so it bounds what a whole model can show. The joules of the arithmetic formula are those of adders and multipliers on paper.\n",
    );
    out.push_str("\n## Sources and setups\n\n");
    let mut setups: BTreeMap<(&str, &str), Vec<&Claim>> = BTreeMap::new();
    for judged in judged {
        let base = judged.claim.id.split('/').next().unwrap_or_default();
        let claims = setups
            .entry((judged.claim.source.id.as_str(), base))
            .or_default();
        claims.push(judged.claim);
    }
    let lines: Vec<Vec<String>> = setups
        .iter()
        .filter_map(|((_, base), claims)| {
            let claim = claims.first()?;
            let mut setup = claim.setup.clone();
            if !claim.note.is_empty() {
                let _ = write!(setup, ". Note: {}", claim.note);
            }
            Some(vec![
                format!("`{base}`"),
                format!("[{}]({})", claim.source.title, claim.source.url),
                claim.place.clone(),
                setup,
            ])
        })
        .collect();
    out.push_str(&table(&["claim", "source", "place", "setup there"], &lines));
    out
}

/// Published and own speed-ups side by side, where the run has any.
fn figures(judged: &[Judged<'_>], run: Option<&Record>) -> Vec<(String, Figure)> {
    let Some(run) = run else { return Vec::new() };
    let mut panels: BTreeMap<&str, Vec<(String, Vec<Bar>)>> = BTreeMap::new();
    let mut titles: BTreeMap<&str, String> = BTreeMap::new();
    let judgeable = |j: &&Judged<'_>| {
        j.claim.quantity == Quantity::SpeedUp && j.verdict != ClaimVerdict::NotMeasurable
    };
    for judged in judged.iter().filter(judgeable) {
        let ([(model, ours)], (figure, None)) = (judged.ours.as_slice(), published(judged.claim))
        else {
            continue;
        };
        let base = judged.claim.id.split('/').next().unwrap_or_default();
        titles
            .entry(base)
            .or_insert_with(|| format!("{}, {}", judged.claim.source.id, judged.claim.place));
        let bar = |value: f64, color, interval| Bar {
            segments: vec![(value, color)],
            interval,
            mark: None,
            text: format!("{}x", three(value)),
        };
        let ends = ours.interval.map(|i| (i.lo, i.hi));
        panels.entry(base).or_default().push((
            (*model).to_owned(),
            vec![
                bar(figure, shade(0, 2), None),
                bar(ours.value, PALETTE[1], ends),
            ],
        ));
    }
    let panels: Vec<Panel> = panels
        .into_iter()
        .map(|(base, groups)| {
            Panel::Bars(Bars {
                title: titles.remove(base).unwrap_or_default(),
                unit: "times as fast as the baseline".to_owned(),
                legend: vec![
                    ("published".to_owned(), shade(0, 2)),
                    ("ours".to_owned(), PALETTE[1]),
                ],
                groups,
            })
        })
        .collect();
    if panels.is_empty() {
        return Vec::new();
    }
    let figure = Figure {
        title: "Speed-ups by ternary weights: published and here".to_owned(),
        subtitle: run.heading.line(),
        panels,
        notes: vec![
            "Published: whole programs on another machine, without intervals. Ours: matrices of one token from memory, and the head where it was measured; whiskers are 95 % intervals.".to_owned(),
        ],
    };
    vec![("claims-speed-up".to_owned(), figure)]
}
