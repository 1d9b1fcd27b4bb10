//! A drawing surface in pixels on top of any plotters backend: text that can be measured, lines, boxes, marks.

use std::cell::RefCell;
use std::sync::Once;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, FontTransform, register_font};

/// The family in files; the embedded font is registered under this name, viewers of SVG have one of their own.
const FAMILY: &str = "sans-serif";
static BOOK: &[u8] = include_bytes!("../../fonts/DejaVuSans.ttf");
static BOLD: &[u8] = include_bytes!("../../fonts/DejaVuSans-Bold.ttf");

pub(crate) const INK: RGBColor = RGBColor(0x1a, 0x1a, 0x1a);
pub(crate) const SOFT: RGBColor = RGBColor(0x59, 0x59, 0x59);
pub(crate) const GRID: RGBColor = RGBColor(0xe3, 0xe3, 0xe3);
pub(crate) const AXIS: RGBColor = RGBColor(0x8c, 0x8c, 0x8c);

/// Colours that people with any kind of colour vision tell apart (Okabe and Ito 2008), without the yellow, which a light
/// background swallows.
pub(crate) const PALETTE: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x00, 0x00, 0x00),
];

/// Shades of one blue from light to dark, told apart by lightness alone: for quantities in order, such as thread counts. The
/// darkest has a contrast above 3 with a white page and with the dark one of `report.html`.
pub(crate) fn shade(position: usize, count: usize) -> RGBColor {
    const LIGHT: [f64; 3] = [150.0, 200.0, 233.0];
    const DARK: [f64; 3] = [28.0, 108.0, 178.0];
    let part = if count < 2 {
        0.6
    } else {
        position as f64 / (count - 1) as f64
    };
    let [r, g, b] = [0, 1, 2].map(|i| (LIGHT[i] + (DARK[i] - LIGHT[i]) * part).round() as u8);
    RGBColor(r, g, b)
}

/// Makes the embedded font known to the drawing library.
pub(crate) fn register_fonts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (style, bytes) in [(FontStyle::Normal, BOOK), (FontStyle::Bold, BOLD)] {
            let registered = register_font(FAMILY, style, bytes);
            debug_assert!(registered.is_ok(), "the embedded font is a font");
        }
    });
}

/// How a text stands to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Middle,
    Right,
}

/// Size and weight of a text. The size is the height of a line in the drawing library: capitals are about 0.6 of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Type {
    pub(crate) size: f64,
    pub(crate) bold: bool,
}

pub(crate) const TITLE: Type = Type {
    size: 25.0,
    bold: true,
};
pub(crate) const PANEL: Type = Type {
    size: 18.0,
    bold: true,
};
pub(crate) const LABEL: Type = Type {
    size: 16.0,
    bold: false,
};
pub(crate) const SMALL: Type = Type {
    size: 15.0,
    bold: false,
};

/// The width of a text in pixels.
pub(crate) fn text_width(text: &str, kind: Type) -> f64 {
    // Measured large and scaled down: the library rounds to whole pixels.
    const LARGE: f64 = 16.0;
    register_fonts();
    let style = if kind.bold {
        FontStyle::Bold
    } else {
        FontStyle::Normal
    };
    let font = FontDesc::new(FontFamily::SansSerif, kind.size * LARGE, style);
    font.box_size(text)
        .map_or(0.0, |(width, _)| f64::from(width) / LARGE)
}

/// Breaks a text into lines of at most `limit` pixels, between words.
pub(crate) fn wrap(text: &str, kind: Type, limit: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), kind) <= limit => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A place of a chart that tells its value to whoever points at it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spot {
    pub(crate) from: (f64, f64),
    pub(crate) to: (f64, f64),
    pub(crate) text: String,
}

/// A drawing surface; coordinates are in pixels of the SVG, a bitmap has `scale` times as many.
pub(crate) struct Canvas<'a, DB: DrawingBackend> {
    area: &'a DrawingArea<DB, Shift>,
    scale: f64,
    /// What a text has to move down, as a share of its size, to stand in the middle of its point.
    sink: f64,
    /// What a viewer of the SVG can point at.
    spots: RefCell<Vec<Spot>>,
}

pub(crate) type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

impl<'a, DB: DrawingBackend> Canvas<'a, DB> {
    /// The surface of an SVG.
    pub(crate) fn vector(area: &'a DrawingArea<DB, Shift>) -> Self {
        register_fonts();
        Self {
            area,
            scale: 1.0,
            sink: 0.0,
            spots: RefCell::default(),
        }
    }

    /// The surface of a bitmap: the library centres the line there, and not the letters, which stand above its middle.
    pub(crate) fn bitmap(area: &'a DrawingArea<DB, Shift>, scale: f64) -> Self {
        register_fonts();
        Self {
            area,
            scale,
            sink: 0.12,
            spots: RefCell::default(),
        }
    }

    /// Notes that the box between two corners stands for a value.
    pub(crate) fn spot(&self, from: (f64, f64), to: (f64, f64), text: String) {
        self.spots.borrow_mut().push(Spot { from, to, text });
    }

    /// The places that were noted, in their order.
    pub(crate) fn into_spots(self) -> Vec<Spot> {
        self.spots.into_inner()
    }

    fn point(&self, (x, y): (f64, f64)) -> (i32, i32) {
        (
            (x * self.scale).round() as i32,
            (y * self.scale).round() as i32,
        )
    }

    fn stroke(&self, color: RGBColor, width: f64) -> ShapeStyle {
        ShapeStyle {
            color: color.to_rgba(),
            filled: false,
            stroke_width: (width * self.scale).round().max(1.0) as u32,
        }
    }

    /// A text whose middle line stands at `y`.
    pub(crate) fn text(
        &self,
        text: &str,
        at: (f64, f64),
        kind: Type,
        color: RGBColor,
        align: Align,
    ) -> Drawn<DB> {
        self.turned(text, at, kind, color, align, &FontTransform::None)
    }

    /// A text that reads upwards, centred on its point.
    pub(crate) fn upright(
        &self,
        text: &str,
        at: (f64, f64),
        kind: Type,
        color: RGBColor,
    ) -> Drawn<DB> {
        self.turned(
            text,
            at,
            kind,
            color,
            Align::Middle,
            &FontTransform::Rotate270,
        )
    }

    fn turned(
        &self,
        text: &str,
        at: (f64, f64),
        kind: Type,
        color: RGBColor,
        align: Align,
        turn: &FontTransform,
    ) -> Drawn<DB> {
        let style = if kind.bold {
            FontStyle::Bold
        } else {
            FontStyle::Normal
        };
        let font = FontDesc::new(FontFamily::SansSerif, kind.size * self.scale, style)
            .transform(turn.clone());
        let h = match align {
            Align::Left => HPos::Left,
            Align::Middle => HPos::Center,
            Align::Right => HPos::Right,
        };
        let sink = kind.size * self.sink;
        let at = match turn {
            FontTransform::None => (at.0, at.1 + sink),
            _ => (at.0 + sink, at.1),
        };
        let style = TextStyle::from(font)
            .color(&color)
            .pos(Pos::new(h, VPos::Center));
        self.area.draw_text(text, &style, self.point(at))
    }

    pub(crate) fn line(&self, points: &[(f64, f64)], color: RGBColor, width: f64) -> Drawn<DB> {
        let points: Vec<(i32, i32)> = points.iter().map(|&p| self.point(p)).collect();
        self.area
            .draw(&PathElement::new(points, self.stroke(color, width)))
    }

    /// A line of dashes and gaps of the lengths given in turn; an empty pattern is solid.
    pub(crate) fn dashed(
        &self,
        points: &[(f64, f64)],
        color: RGBColor,
        width: f64,
        pattern: &[f64],
    ) -> Drawn<DB> {
        if pattern.is_empty() {
            return self.line(points, color, width);
        }
        for dash in dashes(points, pattern) {
            self.line(&dash, color, width)?;
        }
        Ok(())
    }

    pub(crate) fn filled(&self, from: (f64, f64), to: (f64, f64), color: RGBColor) -> Drawn<DB> {
        self.area.draw(&Rectangle::new(
            [self.point(from), self.point(to)],
            color.filled(),
        ))
    }

    /// A small mark: one of four shapes.
    pub(crate) fn mark(&self, at: (f64, f64), shape: usize, color: RGBColor) -> Drawn<DB> {
        let (x, y) = at;
        let polygon = |corners: &[(f64, f64)]| {
            let corners: Vec<(i32, i32)> = corners
                .iter()
                .map(|(dx, dy)| self.point((x + dx, y + dy)))
                .collect();
            self.area.draw(&Polygon::new(corners, color.filled()))
        };
        match shape % 4 {
            0 => self.area.draw(&Circle::new(
                self.point(at),
                (4.5 * self.scale).round() as i32,
                color.filled(),
            )),
            1 => polygon(&[(-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5)]),
            2 => polygon(&[(0.0, -5.5), (5.5, 4.5), (-5.5, 4.5)]),
            _ => polygon(&[(0.0, -6.0), (6.0, 0.0), (0.0, 6.0), (-6.0, 0.0)]),
        }
    }
}

/// Cuts a line into dashes.
fn dashes(points: &[(f64, f64)], pattern: &[f64]) -> Vec<Vec<(f64, f64)>> {
    let mut out: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut turn = 0;
    let mut left = pattern[0];
    let mut current: Vec<(f64, f64)> = points.first().copied().into_iter().collect();
    for pair in points.windows(2) {
        let ((mut x, mut y), (to_x, to_y)) = (pair[0], pair[1]);
        loop {
            let length = (to_x - x).hypot(to_y - y);
            if length <= left {
                left -= length;
                current.push((to_x, to_y));
                break;
            }
            (x, y) = (
                x + (to_x - x) * left / length,
                y + (to_y - y) * left / length,
            );
            current.push((x, y));
            if turn % 2 == 0 {
                out.push(std::mem::take(&mut current));
            }
            turn += 1;
            left = pattern[turn % pattern.len()].max(0.5);
            current = vec![(x, y)];
        }
    }
    if turn % 2 == 0 && current.len() > 1 {
        out.push(current);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_cover_their_share_and_go_round_corners() {
        let line = [(0.0, 0.0), (10.0, 0.0), (10.0, 10.0)];
        let parts = dashes(&line, &[6.0, 4.0]);
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0], vec![(0.0, 0.0), (6.0, 0.0)]);
        assert_eq!(parts[1].first(), Some(&(10.0, 0.0)));
        assert_eq!(parts[1].last(), Some(&(10.0, 6.0)));
    }

    #[test]
    fn text_is_measured_with_the_embedded_font() {
        let short = text_width("w2a8", LABEL);
        assert!(short > 20.0 && short < 50.0, "{short}");
        assert!((text_width("w2a8w2a8", LABEL) / short - 2.0).abs() < 0.1);
        assert!(text_width("w2a8", TITLE) > short);
        let lines = wrap(
            "one two three four five",
            LABEL,
            text_width("three four", LABEL) + 1.0,
        );
        assert_eq!(lines, ["one two", "three four", "five"]);
    }

    #[test]
    fn the_darkest_shade_is_seen_on_light_and_dark_pages() {
        // Relative luminance and contrast as WCAG 2 defines them.
        let light = |color: RGBColor| {
            let linear = |c: u8| {
                let c = f64::from(c) / 255.0;
                if c <= 0.04045 {
                    c / 12.92
                } else {
                    ((c + 0.055) / 1.055).powf(2.4)
                }
            };
            0.2126 * linear(color.0) + 0.7152 * linear(color.1) + 0.0722 * linear(color.2)
        };
        let contrast = |a: f64, b: f64| (a.max(b) + 0.05) / (a.min(b) + 0.05);
        let shade = light(shade(3, 4));
        // The papers of `report.css`.
        for paper in [RGBColor(0xff, 0xff, 0xff), RGBColor(0x16, 0x18, 0x1b)] {
            assert!(contrast(shade, light(paper)) > 3.0, "{paper:?}");
        }
    }

    #[test]
    fn shades_darken() {
        let darkness = |c: RGBColor| u32::from(c.0) + u32::from(c.1) + u32::from(c.2);
        let shades: Vec<u32> = (0..5).map(|i| darkness(shade(i, 5))).collect();
        assert!(
            shades.windows(2).all(|pair| pair[0] > pair[1]),
            "{shades:?}"
        );
    }
}
