//! What a chart says to those who point at it, and to those who do not see it.

use std::fmt::Write as _;

use super::canvas::Spot;
use super::figure::{Figure, Panel};

/// Text for an element of XML; characters that XML forbids are dropped.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// The figure in sentences.
fn description(figure: &Figure) -> String {
    let panels: Vec<String> = figure
        .panels
        .iter()
        .map(|panel| match panel {
            Panel::Bars(bars) => {
                format!("{}: {} bars, {}", bars.title, bars.groups.len(), bars.unit)
            }
            Panel::Lines(lines) => format!(
                "{}: {} lines, {} against {}",
                lines.title,
                lines.series.len(),
                lines.y.label,
                lines.x.label
            ),
        })
        .collect();
    [
        figure.subtitle.clone(),
        panels.join(". "),
        figure.notes.join(" "),
    ]
    .join(". ")
}

/// The picture with a title, a description, and values under the pointer. `name` makes its ids unique on a page.
pub(super) fn told(name: &str, figure: &Figure, spots: &[Spot], svg: &str) -> String {
    let Some((head, body)) = svg
        .trim_end()
        .strip_suffix("</svg>")
        .and_then(|open| open.split_once('>'))
    else {
        return svg.to_owned();
    };
    let mut out = format!(
        "{head} role=\"img\" aria-labelledby=\"chart-{name}-title chart-{name}-desc\">\n<title id=\"chart-{name}-title\">{}</title>\n<desc id=\"chart-{name}-desc\">{}</desc>{body}",
        escaped(&figure.title),
        escaped(&description(figure)),
    );
    for spot in spots {
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "<rect class=\"spot\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill-opacity=\"0\"><title>{}</title></rect>",
            spot.from.0,
            spot.from.1,
            spot.to.0 - spot.from.0,
            spot.to.1 - spot.from.1,
            escaped(&spot.text),
        );
    }
    out.push_str("</svg>\n");
    out
}
