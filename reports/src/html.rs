//! `report.html`: what `report.md` says as one page that fetches nothing, with the charts in it. Everything can be read
//! without the script; the script sorts, filters and pages the tables. `maud` escapes every value.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};
use trit_core::RunDir;

use crate::ReportError;
use crate::chart::{self, Album};
use crate::document::{Block, Table};
use crate::markdown::report_blocks;
use crate::units::magnitude;

const STYLE: &str = include_str!("../templates/report.css");
const SCRIPT: &str = include_str!("../templates/report.js");

/// Charts as SVG by name.
type Drawings<'a> = BTreeMap<&'a str, String>;

/// What the page may load: its own style and its own script, told by their digests, and nothing else.
fn policy() -> String {
    let digest = |text: &str| base64::encode(Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        digest(STYLE),
        digest(SCRIPT)
    )
}

/// Text in which backticks enclose code.
fn inline(text: &str) -> Markup {
    html! {
        @for (i, part) in text.split('`').enumerate() {
            @if i % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// The id of the section number `n`.
fn section_id(n: usize) -> String {
    format!("section-{n}")
}

fn table(table: &Table, title: &str) -> Markup {
    let numbers: Vec<bool> = table
        .header
        .iter()
        .map(|name| name.ends_with(':'))
        .collect();
    html! {
        div.scroll tabindex="0" role="region" aria-label={ (title) ", table" } {
            table {
                caption { (title) }
                thead {
                    tr {
                        @for name in &table.header {
                            th scope="col" class=[name.ends_with(':').then_some("n")] { (name.trim_end_matches(':')) }
                        }
                    }
                }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (i, field) in row.iter().enumerate() {
                                @let number = numbers.get(i).copied().unwrap_or(false);
                                @let order = magnitude(field).filter(|_| number).map(|value| value.to_string());
                                @if i == 0 {
                                    th scope="row" { (inline(field)) }
                                } @else {
                                    td class=[number.then_some("n")] data-v=[order] { (inline(field)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn block(block: &Block, section: &str, drawings: &Drawings<'_>) -> Markup {
    match block {
        Block::Title(_) | Block::Heading(_) => html! {},
        Block::Text(text) => html! { p { (inline(text)) } },
        Block::List(points) => html! {
            ul { @for point in points { li { (inline(point)) } } }
        },
        Block::Table(rows) => table(rows, section),
        Block::Code(code) => html! { pre tabindex="0" { code { (code) } } },
        Block::Chart { name, title } => html! {
            @if let Some(drawing) = drawings.get(name.as_str()) {
                // Made by our own drawing code, which escapes what it writes.
                figure { div.scroll tabindex="0" role="region" aria-label={ (title) ", chart" } { (PreEscaped(drawing)) } }
            }
        },
    }
}

/// The blocks as a page; a heading begins a section.
fn page(blocks: &[Block], drawings: &Drawings<'_>) -> String {
    let title = blocks
        .iter()
        .find_map(|block| match block {
            Block::Title(title) => Some(title.as_str()),
            _ => None,
        })
        .unwrap_or("report");
    let mut sections: Vec<(&str, Vec<&Block>)> = vec![("Summary", Vec::new())];
    for block in blocks {
        match block {
            Block::Title(_) => {}
            Block::Heading(title) => sections.push((title, Vec::new())),
            block => sections
                .last_mut()
                .expect("the summary is always there")
                .1
                .push(block),
        }
    }
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · tritbench" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#main" { "Skip to the report" }
                header { h1 { (title) } }
                nav aria-label="Sections" {
                    ul {
                        @for (i, (name, _)) in sections.iter().enumerate() {
                            li { a href={ "#" (section_id(i)) } { (name) } }
                        }
                    }
                }
                main id="main" {
                    @for (i, (name, blocks)) in sections.iter().enumerate() {
                        section id=(section_id(i)) aria-labelledby={ (section_id(i)) "-title" } {
                            h2 id={ (section_id(i)) "-title" } { (name) }
                            @for one in blocks { (block(one, name, drawings)) }
                        }
                    }
                }
                footer { p { "Made by tritbench from the rows of the run directory; this page fetches nothing." } }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
    .into_string()
}

/// Writes `report.html` into a run directory, the charts in it; gives its path. The same rows give the same bytes.
///
/// # Errors
/// When the session or a file of rows cannot be read, a chart cannot be drawn, or the page cannot be written.
pub fn write_report_html(run: &RunDir) -> Result<PathBuf, ReportError> {
    write(run, &Album::read(run)?)
}

/// The same for what was read already.
pub(crate) fn write(run: &RunDir, album: &Album) -> Result<PathBuf, ReportError> {
    let mut drawings = BTreeMap::new();
    for (name, figure) in &album.figures {
        drawings.insert(name.as_str(), chart::svg(name, figure)?);
    }
    let blocks = report_blocks(&album.record, &album.titles(), &album.missing);
    let text = page(&blocks, &drawings);
    let path = run.path().join("report.html");
    fs::write(&path, text).map_err(|source| ReportError::Io {
        path: path.clone(),
        source,
    })?;
    Ok(path)
}
