//! A figure: heading, panels one below the other, notes. Panels are bars or lines; what they mean is decided elsewhere.

use plotters::prelude::{DrawingBackend, RGBColor};

use super::axis::{Scale, linear_ticks, log_ticks, tick_text};
use super::canvas::{
    AXIS, Align, Canvas, Drawn, GRID, INK, LABEL, PALETTE, PANEL, SMALL, SOFT, TITLE, text_width,
    wrap,
};
use crate::units::show_ns;

const MARGIN: f64 = 28.0;
const WIDTH: f64 = 1200.0;
const LINE: f64 = 21.0;
/// The plot of a panel is never narrower.
const PLOT: f64 = 520.0;
const BAR: f64 = 15.0;
const GAP: f64 = 9.0;
/// Height of the plot of a line panel, unless its legend is taller.
const LINES_HEIGHT: f64 = 300.0;
const LEGEND_LINE: f64 = 21.0;
const SWATCH: f64 = 42.0;
/// Points of a line without marks that tell their value under the pointer.
const MOST_SPOTS: usize = 40;
/// Dash patterns; with the palette's seven colours they make 28 different lines.
const DASHES: [&[f64]; 4] = [&[], &[9.0, 4.0], &[3.0, 3.0], &[12.0, 3.0, 3.0, 3.0]];

/// A figure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    pub(crate) panels: Vec<Panel>,
    pub(crate) notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Panel {
    Bars(Bars),
    Lines(Lines),
}

/// Horizontal bars in groups.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bars {
    pub(crate) title: String,
    pub(crate) unit: String,
    pub(crate) legend: Vec<(String, RGBColor)>,
    pub(crate) groups: Vec<(String, Vec<Bar>)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bar {
    /// Lengths from left to right.
    pub(crate) segments: Vec<(f64, RGBColor)>,
    pub(crate) interval: Option<(f64, f64)>,
    /// A stroke across the bar.
    pub(crate) mark: Option<f64>,
    pub(crate) text: String,
}

impl Bar {
    fn end(&self) -> f64 {
        let length: f64 = self.segments.iter().map(|(length, _)| length).sum();
        length
            .max(self.interval.map_or(0.0, |(_, hi)| hi))
            .max(self.mark.unwrap_or(0.0))
    }
}

/// Lines with a legend beside them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lines {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
    /// A dashed reference line with its name.
    pub(crate) reference: Option<(String, Vec<(f64, f64)>)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    pub(crate) label: String,
    pub(crate) log: bool,
    /// Ticks are times in nanoseconds.
    pub(crate) time: bool,
    /// Tick values that the data dictates.
    pub(crate) ticks: Option<Vec<f64>>,
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Axis {
    fn ticks(&self, count: usize) -> Vec<f64> {
        match &self.ticks {
            Some(ticks) => ticks.clone(),
            None if self.log => log_ticks(self.from, self.to),
            None => linear_ticks(self.to, count),
        }
    }

    fn text(&self, value: f64) -> String {
        if self.time {
            let text = show_ns(value);
            return match text.split_once(' ') {
                Some((number, unit)) if number.contains('.') => {
                    format!(
                        "{} {unit}",
                        number.trim_end_matches('0').trim_end_matches('.')
                    )
                }
                _ => text,
            };
        }
        tick_text(value)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Series {
    pub(crate) label: String,
    /// A y that is no number interrupts the line.
    pub(crate) points: Vec<(f64, f64)>,
    /// Intervals of y at an x.
    pub(crate) intervals: Vec<(f64, f64, f64)>,
    /// Intervals of x at a y.
    pub(crate) across: Vec<(f64, f64, f64)>,
    /// What each point is beside the label, for those who point at it; may be empty.
    pub(crate) names: Vec<String>,
    /// Marks at the points.
    pub(crate) marks: bool,
}

fn widest<'a>(texts: impl Iterator<Item = &'a str>, kind: super::canvas::Type) -> f64 {
    texts.map(|text| text_width(text, kind)).fold(0.0, f64::max)
}

impl Bars {
    fn label_width(&self) -> f64 {
        widest(self.groups.iter().map(|(label, _)| label.as_str()), LABEL)
    }

    fn value_width(&self) -> f64 {
        widest(
            self.groups
                .iter()
                .flat_map(|(_, bars)| bars.iter().map(|bar| bar.text.as_str())),
            SMALL,
        )
    }

    fn width(&self) -> f64 {
        2.0 * MARGIN + self.label_width() + 12.0 + PLOT + 12.0 + self.value_width()
    }

    fn group_height(bars: &[Bar]) -> f64 {
        // A group with one bar still needs room for its label.
        (bars.len() as f64 * (BAR + 2.0)).max(LINE - GAP / 2.0) + GAP
    }

    fn body_height(&self) -> f64 {
        self.groups
            .iter()
            .map(|(_, bars)| Self::group_height(bars))
            .sum::<f64>()
            + GAP
    }

    fn height(&self) -> f64 {
        // Title with legend, body, ticks, axis label.
        34.0 + self.body_height() + 22.0 + 26.0
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<'_, DB>, top: f64, width: f64) -> Drawn<DB> {
        let left = MARGIN + self.label_width() + 12.0;
        let right = width - MARGIN - self.value_width() - 12.0;
        let title_y = top + 14.0;
        canvas.text(&self.title, (MARGIN, title_y), PANEL, INK, Align::Left)?;
        let mut x = width - MARGIN;
        for (name, color) in self.legend.iter().rev() {
            x -= text_width(name, SMALL);
            canvas.text(name, (x, title_y), SMALL, INK, Align::Left)?;
            x -= 20.0;
            canvas.filled((x, title_y - 6.0), (x + 14.0, title_y + 6.0), *color)?;
            x -= 18.0;
        }
        let body = top + 34.0;
        let bottom = body + self.body_height();
        let max = self
            .groups
            .iter()
            .flat_map(|(_, bars)| bars)
            .map(Bar::end)
            .fold(0.0, f64::max);
        let ticks = linear_ticks(max, 6);
        let scale = Scale {
            log: false,
            from: 0.0,
            to: ticks[ticks.len() - 1],
            pixels: (left, right),
        };
        for &tick in &ticks {
            let x = scale.at(tick);
            canvas.line(
                &[(x, body), (x, bottom)],
                if tick == 0.0 { AXIS } else { GRID },
                1.0,
            )?;
            canvas.text(
                &tick_text(tick),
                (x, bottom + 13.0),
                SMALL,
                SOFT,
                Align::Middle,
            )?;
        }
        canvas.text(
            &self.unit,
            (left.midpoint(right), bottom + 34.0),
            SMALL,
            SOFT,
            Align::Middle,
        )?;
        let mut y = body + GAP;
        for (label, bars) in &self.groups {
            let height = Self::group_height(bars) - GAP;
            canvas.text(
                label,
                (left - 12.0, y + height / 2.0),
                LABEL,
                INK,
                Align::Right,
            )?;
            let mut bar_top = y + (height - bars.len() as f64 * (BAR + 2.0)) / 2.0 + 1.0;
            for bar in bars {
                draw_bar(canvas, bar, &scale, bar_top)?;
                let end = scale.at(bar.end()).max(left + 4.0);
                let text = bar.words(label, &self.unit, &self.legend);
                canvas.spot((left, bar_top), (end, bar_top + BAR), text);
                bar_top += BAR + 2.0;
            }
            y += height + GAP;
        }
        Ok(())
    }
}

fn draw_bar<DB: DrawingBackend>(
    canvas: &Canvas<'_, DB>,
    bar: &Bar,
    scale: &Scale,
    top: f64,
) -> Drawn<DB> {
    let middle = top + BAR / 2.0;
    let mut sum = 0.0;
    for &(length, color) in &bar.segments {
        canvas.filled(
            (scale.at(sum), top),
            (scale.at(sum + length), top + BAR),
            color,
        )?;
        sum += length;
    }
    if let Some((lo, hi)) = bar.interval {
        let (lo, hi) = (scale.at(lo), scale.at(hi));
        // White below black: visible on every shade.
        for (color, stroke) in [(RGBColor(255, 255, 255), 4.0), (INK, 1.6)] {
            canvas.line(&[(lo, middle), (hi, middle)], color, stroke)?;
            for x in [lo, hi] {
                canvas.line(&[(x, middle - 4.0), (x, middle + 4.0)], color, stroke)?;
            }
        }
    }
    if let Some(mark) = bar.mark {
        let x = scale.at(mark);
        canvas.line(&[(x, top - 1.0), (x, top + BAR + 1.0)], INK, 2.4)?;
    }
    canvas.text(
        &bar.text,
        (scale.at(bar.end()) + 8.0, middle),
        SMALL,
        INK,
        Align::Left,
    )
}

impl Bar {
    /// The bar as a reader would say it; the legend names its parts by their colours.
    fn words(&self, label: &str, unit: &str, legend: &[(String, RGBColor)]) -> String {
        let named = |color: RGBColor| legend.iter().find(|(_, of)| *of == color);
        let (mut who, mut parts) = (label.to_owned(), String::new());
        if let [(_, color)] = self.segments[..] {
            if let Some((name, _)) = named(color) {
                who = format!("{label}, {name}");
            }
        } else {
            for &(length, color) in &self.segments {
                if let Some((name, _)) = named(color) {
                    parts = format!("{parts}, {name} {}", tick_text(length));
                }
            }
        }
        let interval = self.interval.map_or_else(String::new, |(lo, hi)| {
            format!(", 95 % interval {} to {}", tick_text(lo), tick_text(hi))
        });
        format!("{who}: {}{parts}{interval}; {unit}", self.text)
    }
}

/// How far a line stands aside, so that marks and whiskers at one x do not cover one another: at most 12 pixels.
fn dodge(position: usize, count: usize) -> f64 {
    let step = (24.0 / count.max(1) as f64).min(6.0);
    (position as f64 - (count as f64 - 1.0) / 2.0) * step
}

impl Lines {
    fn legend_width(&self) -> f64 {
        let reference = self.reference.iter().map(|(name, _)| name.as_str());
        SWATCH
            + widest(
                self.series
                    .iter()
                    .map(|series| series.label.as_str())
                    .chain(reference),
                LABEL,
            )
    }

    fn width(&self) -> f64 {
        2.0 * MARGIN + 66.0 + PLOT + 24.0 + self.legend_width()
    }

    fn plot_height(&self) -> f64 {
        let entries = self.series.len() + usize::from(self.reference.is_some());
        LINES_HEIGHT.max(entries as f64 * LEGEND_LINE)
    }

    fn height(&self) -> f64 {
        34.0 + self.plot_height() + 22.0 + 26.0
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<'_, DB>, top: f64, width: f64) -> Drawn<DB> {
        canvas.text(&self.title, (MARGIN, top + 14.0), PANEL, INK, Align::Left)?;
        let (left, right) = (MARGIN + 66.0, width - MARGIN - self.legend_width() - 24.0);
        let (body, bottom) = (top + 34.0, top + 34.0 + self.plot_height());
        let y_ticks = self.y.ticks(6);
        let y_to = y_ticks.iter().copied().fold(self.y.to, f64::max);
        let x = Scale {
            log: self.x.log,
            from: self.x.from,
            to: self.x.to,
            pixels: (left, right),
        };
        let y = Scale {
            log: self.y.log,
            from: self.y.from,
            to: y_to,
            pixels: (bottom, body),
        };
        for &tick in &y_ticks {
            let at = y.at(tick);
            canvas.line(&[(left, at), (right, at)], GRID, 1.0)?;
            canvas.text(
                &self.y.text(tick),
                (left - 8.0, at),
                SMALL,
                SOFT,
                Align::Right,
            )?;
        }
        let mut free_from = f64::NEG_INFINITY;
        for tick in self.x.ticks(8) {
            let at = x.at(tick);
            canvas.line(&[(at, body), (at, bottom)], GRID, 1.0)?;
            let text = self.x.text(tick);
            let half = text_width(&text, SMALL) / 2.0;
            // A label that would touch the one before is left out; its grid line stays.
            if at - half > free_from {
                canvas.text(&text, (at, bottom + 13.0), SMALL, SOFT, Align::Middle)?;
                free_from = at + half + 8.0;
            }
        }
        canvas.line(&[(left, body), (left, bottom), (right, bottom)], AXIS, 1.0)?;
        canvas.text(
            &self.x.label,
            (left.midpoint(right), bottom + 34.0),
            SMALL,
            SOFT,
            Align::Middle,
        )?;
        canvas.upright(
            &self.y.label,
            (MARGIN + 8.0, body.midpoint(bottom)),
            SMALL,
            SOFT,
        )?;
        let place = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
            points
                .iter()
                .map(|&(px, py)| (x.at(px), y.at(py)))
                .collect()
        };
        let mut legend_y = body + LEGEND_LINE / 2.0;
        let legend_x = right + 24.0;
        if let Some((name, points)) = &self.reference {
            canvas.dashed(&place(points), AXIS, 2.0, &[7.0, 5.0])?;
            canvas.dashed(
                &[(legend_x, legend_y), (legend_x + 30.0, legend_y)],
                AXIS,
                2.0,
                &[7.0, 5.0],
            )?;
            canvas.text(
                name,
                (legend_x + SWATCH, legend_y),
                LABEL,
                SOFT,
                Align::Left,
            )?;
            legend_y += LEGEND_LINE;
        }
        // Drawn from the last to the first, so that the first lies on top.
        for (i, series) in self.series.iter().enumerate().rev() {
            let color = PALETTE[i % PALETTE.len()];
            let dash = DASHES[(i / PALETTE.len()) % DASHES.len()];
            // On an axis of a few values marks would cover one another; elsewhere each stands where it belongs.
            let aside = if series.marks && self.x.ticks.is_some() {
                dodge(i, self.series.len())
            } else {
                0.0
            };
            let points: Vec<(f64, f64)> = place(&series.points)
                .into_iter()
                .map(|(x, y)| (x + aside, y))
                .collect();
            for run in points.split(|point| !point.1.is_finite()) {
                canvas.dashed(run, color, 2.0, dash)?;
            }
            for &(at, lo, hi) in &series.intervals {
                let at = x.at(at) + aside;
                canvas.line(&[(at, y.at(lo)), (at, y.at(hi))], color, 1.4)?;
                for end in [lo, hi].into_iter().filter(|end| *end <= y_to) {
                    canvas.line(&[(at - 4.0, y.at(end)), (at + 4.0, y.at(end))], color, 1.4)?;
                }
            }
            for &(at, lo, hi) in &series.across {
                let (at, lo, hi) = (y.at(at), x.at(lo), x.at(hi));
                canvas.line(&[(lo, at), (hi, at)], color, 1.4)?;
                for end in [lo, hi] {
                    canvas.line(&[(end, at - 4.0), (end, at + 4.0)], color, 1.4)?;
                }
            }
            let entry_y = legend_y + i as f64 * LEGEND_LINE;
            canvas.dashed(
                &[(legend_x, entry_y), (legend_x + 30.0, entry_y)],
                color,
                2.0,
                dash,
            )?;
            if series.marks {
                for &point in &points {
                    canvas.mark(point, i / PALETTE.len() + i, color)?;
                }
                canvas.mark((legend_x + 15.0, entry_y), i / PALETTE.len() + i, color)?;
            }
            self.note_points(canvas, series, &points);
            canvas.text(
                &series.label,
                (legend_x + SWATCH, entry_y),
                LABEL,
                INK,
                Align::Left,
            )?;
        }
        Ok(())
    }
}

impl Lines {
    /// Values to point at: each mark, or some of the points of a line without marks.
    fn note_points<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<'_, DB>,
        series: &Series,
        places: &[(f64, f64)],
    ) {
        let step = if series.marks {
            1
        } else {
            series.points.len().div_ceil(MOST_SPOTS).max(1)
        };
        let along = series.points.iter().zip(places).enumerate().step_by(step);
        for (i, (&(x, y), &(left, top))) in along.filter(|(_, (_, place))| place.1.is_finite()) {
            let show = |axis: &Axis, value: f64| {
                if axis.time {
                    show_ns(value)
                } else {
                    tick_text(value)
                }
            };
            let ends = |axis: &Axis, intervals: &[(f64, f64, f64)], at: f64, value: f64| {
                // Several points of a line may share an x: each has the interval around its own value.
                let outside = |one: &(f64, f64, f64)| (one.1 - value).max(value - one.2);
                let found = intervals
                    .iter()
                    .filter(|one| one.0.total_cmp(&at).is_eq())
                    .min_by(|a, b| outside(a).total_cmp(&outside(b)));
                found.map_or_else(String::new, |(_, lo, hi)| {
                    let (lo, hi) = (show(axis, *lo), show(axis, *hi));
                    format!(", 95 % interval {lo} to {hi}")
                })
            };
            let plain = |axis: &Axis| axis.label.trim_end_matches(", logarithmic").to_owned();
            let name = series
                .names
                .get(i)
                .map_or_else(String::new, |name| format!(", {name}"));
            let text = format!(
                "{}{name}: {} {}{}; {} {}{}",
                series.label,
                show(&self.y, y),
                plain(&self.y),
                ends(&self.y, &series.intervals, x, y),
                show(&self.x, x),
                plain(&self.x),
                ends(&self.x, &series.across, y, x),
            );
            canvas.spot((left - 6.0, top - 6.0), (left + 6.0, top + 6.0), text);
        }
    }
}

impl Panel {
    fn width(&self) -> f64 {
        match self {
            Self::Bars(bars) => bars.width(),
            Self::Lines(lines) => lines.width(),
        }
    }

    fn height(&self) -> f64 {
        match self {
            Self::Bars(bars) => bars.height(),
            Self::Lines(lines) => lines.height(),
        }
    }
}

impl Figure {
    fn width(&self) -> f64 {
        self.panels
            .iter()
            .map(Panel::width)
            .chain([WIDTH, 2.0 * MARGIN + text_width(&self.title, TITLE)])
            .fold(0.0, f64::max)
            .ceil()
    }

    fn subtitle_lines(&self) -> Vec<String> {
        wrap(&self.subtitle, LABEL, self.width() - 2.0 * MARGIN)
    }

    fn note_lines(&self) -> Vec<String> {
        let limit = self.width() - 2.0 * MARGIN;
        self.notes
            .iter()
            .flat_map(|note| wrap(note, SMALL, limit))
            .collect()
    }

    fn header_height(&self) -> f64 {
        MARGIN + 26.0 + self.subtitle_lines().len() as f64 * LINE + 16.0
    }

    /// Width and height in pixels.
    pub(crate) fn size(&self) -> (u32, u32) {
        let panels: f64 = self.panels.iter().map(|panel| panel.height() + 18.0).sum();
        let notes = self.note_lines().len() as f64 * LINE;
        let height = self.header_height() + panels + notes + MARGIN;
        (self.width() as u32, height.ceil() as u32)
    }

    pub(crate) fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<'_, DB>) -> Drawn<DB> {
        let (width, height) = self.size();
        let (width, height) = (f64::from(width), f64::from(height));
        canvas.filled((0.0, 0.0), (width, height), RGBColor(255, 255, 255))?;
        let mut y = MARGIN + 8.0;
        canvas.text(&self.title, (MARGIN, y), TITLE, INK, Align::Left)?;
        y += 28.0;
        for line in self.subtitle_lines() {
            canvas.text(&line, (MARGIN, y), LABEL, SOFT, Align::Left)?;
            y += LINE;
        }
        let mut top = self.header_height();
        for panel in &self.panels {
            match panel {
                Panel::Bars(bars) => bars.draw(canvas, top, width)?,
                Panel::Lines(lines) => lines.draw(canvas, top, width)?,
            }
            top += panel.height() + 18.0;
        }
        for line in self.note_lines() {
            canvas.text(&line, (MARGIN, top + LINE / 2.0), SMALL, SOFT, Align::Left)?;
            top += LINE;
        }
        Ok(())
    }
}
