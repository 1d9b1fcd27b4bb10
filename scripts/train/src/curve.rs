//! The loss curve: rows of a CSV file, and a picture of them.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Once;

use anyhow::{Context, Result};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

const HEADER: &str = "step,train_loss,held_out_loss";

/// Step, mean training loss since the row before, and held-out loss where it was looked at.
pub type Rows = Vec<(usize, f64, Option<f64>)>;

/// A growing curve.
pub struct Curve {
    path: PathBuf,
    rows: Rows,
}

impl Curve {
    /// Opens the curve of a training that has made `step` steps: later rows of an interrupted one are dropped.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: &Path, step: usize) -> Result<Self> {
        let mut curve = Self {
            path: path.to_owned(),
            rows: Vec::new(),
        };
        if step > 0 && path.exists() {
            curve.rows = read(path)?;
            curve.rows.retain(|row| row.0 <= step);
        }
        let mut text = format!("{HEADER}\n");
        for row in &curve.rows {
            text += &line(row);
        }
        std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(curve)
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, step: usize, train: f64, held_out: Option<f64>) -> Result<()> {
        let row = (step, train, held_out);
        let mut file = OpenOptions::new()
            .append(true)
            .open(&self.path)
            .with_context(|| format!("cannot write `{}`", self.path.display()))?;
        file.write_all(line(&row).as_bytes())
            .with_context(|| format!("cannot write `{}`", self.path.display()))?;
        self.rows.push(row);
        Ok(())
    }

    /// Draws the curve so far as `curve.svg` and `curve.png` in `out`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn draw(&self, out: &Path) -> Result<()> {
        draw(
            &[("training".to_owned(), self.rows.clone())],
            &out.join("curve"),
        )
    }
}

/// Width and height in pixels.
const SIZE: (u32, u32) = (860, 520);

/// Draws curves as `STEM.svg` and `STEM.png`: training loss thin, held-out loss thick, a colour each.
///
/// # Errors
/// When there is nothing to draw, or a file cannot be written.
pub fn draw(curves: &[(String, Rows)], stem: &Path) -> Result<()> {
    static FONTS: Once = Once::new();
    FONTS.call_once(|| {
        let font = include_bytes!("../../../reports/fonts/DejaVuSans.ttf");
        let registered = register_font("sans-serif", FontStyle::Normal, font);
        debug_assert!(registered.is_ok(), "the embedded font is a font");
    });
    let svg = stem.with_added_extension("svg");
    let png = stem.with_added_extension("png");
    draw_on(curves, &SVGBackend::new(&svg, SIZE).into_drawing_area())
        .with_context(|| format!("cannot draw `{}`", svg.display()))?;
    draw_on(curves, &BitMapBackend::new(&png, SIZE).into_drawing_area())
        .with_context(|| format!("cannot draw `{}`", png.display()))
}

fn draw_on<B: DrawingBackend>(
    curves: &[(String, Rows)],
    area: &DrawingArea<B, plotters::coord::Shift>,
) -> Result<()>
where
    B::ErrorType: 'static,
{
    /// Blue and vermilion of Okabe and Ito, green, black.
    const COLOURS: [RGBColor; 4] = [
        RGBColor(0x00, 0x72, 0xb2),
        RGBColor(0xd5, 0x5e, 0x00),
        RGBColor(0x00, 0x9e, 0x73),
        BLACK,
    ];
    let rows = || curves.iter().flat_map(|(_, rows)| rows);
    let last = rows().map(|row| row.0).max().context("there are no rows")?;
    let losses = || rows().flat_map(|row| std::iter::once(row.1).chain(row.2));
    let low = losses().fold(f64::INFINITY, f64::min);
    // The first steps would squeeze the rest.
    let high = losses().fold(0.0, f64::max).min(low * 2.2);
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .caption("Loss (nats a token)", ("sans-serif", 20))
        .margin(14)
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d(0..last, (low - 0.05)..high)?;
    chart
        .configure_mesh()
        .x_desc("step")
        .label_style(("sans-serif", 14))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for ((label, rows), colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let kept = |loss: &f64| *loss <= high;
        let train = rows.iter().map(|row| (row.0, row.1)).filter(|p| kept(&p.1));
        chart.draw_series(LineSeries::new(train, colour.mix(0.45)))?;
        let held_out = rows
            .iter()
            .filter_map(|row| Some((row.0, row.2?)))
            .filter(|p| kept(&p.1));
        let key = *colour;
        chart
            .draw_series(LineSeries::new(held_out, colour.stroke_width(3)))?
            .label(format!(
                "{label}: held out (thick), training with dropout (thin)"
            ))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], key.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE)
        .label_font(("sans-serif", 14))
        .draw()?;
    area.present()?;
    Ok(())
}

fn line((step, train, held_out): &(usize, f64, Option<f64>)) -> String {
    let held_out = held_out.map_or(String::new(), |loss| format!("{loss:.5}"));
    format!("{step},{train:.5},{held_out}\n")
}

/// The rows of a curve's file; a torn last line is dropped.
///
/// # Errors
/// When the file cannot be read.
pub fn read(path: &Path) -> Result<Rows> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    let whole = text.rfind('\n').map_or("", |at| &text[..at]);
    Ok(whole
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split(',');
            let step = fields.next()?.parse().ok()?;
            let train = fields.next()?.parse().ok()?;
            Some((step, train, fields.next()?.parse().ok()))
        })
        .collect())
}
