//! Charts hold what they should, for one kernel and for forty, as SVG and as PNG.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{KERNELS, Rows, session, session_rows};
use trit_report::{ChartData, Heading, Record, Tables, chart, samples, summarize_rows};

/// Hands the data of charts on.
fn with_data<T>(rows: &Rows, then: impl FnOnce(&ChartData<'_>) -> T) -> T {
    let tables = Tables {
        cells: &rows.cells,
        measurements: &rows.measurements,
        tokens: &rows.tokens,
        energy: &[],
    };
    let session = session();
    let record = Record {
        heading: Heading::new(&session, Path::new("runs/20260301T093000Z-bench-1-quick")),
        session,
        rows: summarize_rows(&tables),
        ..Record::default()
    };
    then(&ChartData {
        record: &record,
        samples: &samples(&tables),
        power: &[],
    })
}

/// The charts of rows as SVG, by name.
fn drawn(rows: &Rows) -> BTreeMap<String, String> {
    with_data(rows, |data| chart::svgs(data).unwrap())
        .into_iter()
        .collect()
}

/// The texts of an SVG file, after checking that its elements are nested and closed as XML wants.
fn texts(svg: &str) -> Vec<String> {
    let mut open: Vec<String> = Vec::new();
    let mut texts = Vec::new();
    let mut rest = svg;
    while let Some(start) = rest.find('<') {
        let text = rest[..start].trim();
        assert!(!text.contains('>'), "stray bracket in `{text}`");
        if !text.is_empty() {
            texts.push(unescape(text));
        }
        let end = start + rest[start..].find('>').expect("an element ends");
        let element = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if element.starts_with(['?', '!']) {
            continue;
        }
        if let Some(name) = element.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "closes what is open");
        } else {
            assert_eq!(element.matches('"').count() % 2, 0, "quotes of `{element}`");
            if !element.ends_with('/') {
                open.push(element.split_whitespace().next().unwrap().to_owned());
            }
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
    texts
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

#[test]
fn every_chart_can_be_read_alone() {
    let rows = session_rows(&KERNELS, &[1, 2], 1);
    let charts = drawn(&rows);
    let names: Vec<&str> = charts.keys().map(String::as_str).collect();
    for kind in ["throughput", "speedup", "latency"] {
        for workload in ["gemv-cold", "gemv-warm", "gemm", "prefill", "decode"] {
            assert!(
                names.contains(&format!("{kind}-{workload}").as_str()),
                "{names:?}"
            );
        }
    }
    for name in [
        "memory",
        "roofline",
        "pareto",
        "against-f16-gemv-cold",
        "against-f16-gemm",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    // Against one format only: the report about speed-ups has the others.
    assert!(!names.iter().any(|name| name.starts_with("against-f32")));
    for (name, svg) in &charts {
        let texts = texts(svg);
        let all = texts.join("\n");
        for part in [
            "AMD EPYC 9R45",
            "2026-03-01T09:30:00Z",
            "20260301T093000Z-bench-1-quick",
        ] {
            assert!(all.contains(part), "{name} lacks {part}");
        }
        let micro = ["gemv-cold", "gemv-warm", "gemm"]
            .iter()
            .any(|workload| name.ends_with(workload));
        let kernels = match name.as_str() {
            // Its own baseline.
            "against-f16-gemv-cold" | "against-f16-gemv-warm" | "against-f16-gemm" => &[],
            _ if micro => &KERNELS[..],
            _ => &KERNELS[..5],
        };
        for (kernel, ..) in kernels {
            assert!(
                texts.iter().any(|text| text.starts_with(kernel)),
                "{name} lacks {kernel}"
            );
        }
        assert!(
            !all.contains("w2a8-tile-amx"),
            "{name} shows a cell without times"
        );
    }
    let has = |name: &str, part: &str| {
        assert!(
            texts(&charts[name]).iter().any(|text| text.contains(part)),
            "{name} lacks {part}"
        );
    };
    has("throughput-gemm", "Throughput by kernel");
    has("throughput-gemm", "GOPS (billion operations a second");
    has("throughput-gemm", "95 % intervals of the median");
    has("throughput-decode", "tokens a second");
    has("throughput-decode", "bitnet-2b4t-i2s.gguf");
    has("speedup-gemm", "ideal");
    has("speedup-gemm", "times as fast as on 1 thread");
    has("latency-decode", "share of samples at most as long");
    has("latency-decode", "(n = 128)");
    has("latency-gemm", "logarithmic");
    has("against-f16-gemm", "times as fast as the baseline");
    has("against-f16-gemm", "has the same against f32.");
    has("roofline", "roof of memory");
    has("roofline", "operations a byte of weights, logarithmic");
    has("pareto", "bits a weight, logarithmic");
    has("pareto", "front");
    has("memory", "file-backed");
    has("memory", "MiB (1024 x 1024 bytes)");
}

#[test]
fn marks_tell_their_values() {
    let charts = drawn(&session_rows(&KERNELS, &[1, 2], 1));
    // Who, the value with its interval and its unit: some mark of each chart says all of that.
    for (chart, who, unit) in [
        ("throughput-gemm", "w2a8-mad-avx2, 2 threads: ", "; GOPS"),
        ("speedup-gemm", "w2a8-mad-avx2: ", "; 2 threads"),
        (
            "against-f16-gemm",
            "w2a8-mad-avx2, 1 thread: ",
            "; times as fast as the baseline",
        ),
        (
            "roofline",
            "w2a8-mad-avx2, 32 tokens: ",
            "operations a byte of weights",
        ),
        ("pareto", "w2a8-mad-avx2, 2 threads: ", "bits a weight"),
    ] {
        let texts = texts(&charts[chart]);
        let told = |text: &&String| text.starts_with(who) && text.contains(unit);
        let mut spots = texts.iter().filter(told);
        assert!(
            spots.any(|text| text.contains(", 95 % interval ")),
            "{chart} lacks {who}{unit}"
        );
    }
    let memory = texts(&charts["memory"]);
    let parts = ", anonymous 143, file-backed 1125; MiB";
    assert!(memory.iter().any(|text| text.contains(parts)), "{memory:?}");
    let latency = texts(&charts["latency-decode"]);
    let share = "share of samples at most as long; ";
    assert!(latency.iter().any(|text| text.contains(share)));
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let rows = session_rows(&KERNELS[..3], &[1, 2, 4], 2);
    let first = drawn(&rows);
    assert_eq!(first, drawn(&rows));
    assert_ne!(first, drawn(&session_rows(&KERNELS[..3], &[1, 2, 4], 3)));
}

#[test]
fn one_kernel_and_forty_fit() {
    let one = drawn(&session_rows(&KERNELS[..1], &[1], 4));
    assert!(
        one.contains_key("throughput-gemv-cold")
            && !one.keys().any(|name| name.starts_with("speedup"))
    );
    let names: Vec<String> = (0..40)
        .map(|i| {
            format!(
                "w1.{i:02}a8-lut{}-avx512vbmi-experimental-variant-with-a-long-name",
                i % 4 + 2
            )
        })
        .collect();
    let kernels: Vec<(&str, &str, f64)> = names
        .iter()
        .map(|name| (name.as_str(), "avx2", 2.0))
        .collect();
    let forty = drawn(&session_rows(&kernels, &[1, 2], 5));
    for name in ["throughput-gemm", "speedup-gemm", "latency-gemm"] {
        let svg = &forty[name];
        let texts = texts(svg);
        for kernel in &names {
            assert!(
                texts.iter().any(|text| text.starts_with(kernel.as_str())),
                "{name} lacks {kernel}"
            );
        }
        nothing_outside(name, svg);
    }
}

/// Checks that every box, circle and text lies within the picture; a character takes at least half of the font's size on average.
fn nothing_outside(name: &str, svg: &str) {
    let (width, height) = size(svg);
    for (i, element) in svg.split('<').skip(1).enumerate() {
        let Some((tag, content)) = element.split_once('>') else {
            continue;
        };
        let number = |attribute: &str| -> Option<f64> {
            tag.split(&format!(" {attribute}=\""))
                .nth(1)?
                .split('"')
                .next()?
                .parse()
                .ok()
        };
        let (Some(x), Some(y)) = (number("x").or(number("cx")), number("y").or(number("cy")))
        else {
            continue;
        };
        let (mut from, mut to) = (x, x + number("width").unwrap_or(0.0));
        if let Some(font) = number("font-size")
            && !tag.contains("rotate")
        {
            let long = 0.5 * font * content.trim().chars().count() as f64;
            (from, to) = match tag
                .split("text-anchor=\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next())
            {
                Some("end") => (x - long, x),
                Some("middle") => (x - long / 2.0, x + long / 2.0),
                _ => (x, x + long),
            };
        }
        let inside = from >= 0.0 && to <= width && (0.0..=height).contains(&y);
        assert!(
            inside,
            "{name}, element {i}: {from}..{to}, {y} beyond {width}x{height}: {element}"
        );
    }
}

fn size(svg: &str) -> (f64, f64) {
    let number = |name: &str| -> f64 {
        let rest = svg.split(&format!("{name}=\"")).nth(1).unwrap();
        rest.split('"').next().unwrap().parse().unwrap()
    };
    (number("width"), number("height"))
}

#[test]
fn pictures_have_the_size_of_the_drawing_and_are_not_blank() {
    let rows = session_rows(&KERNELS[..4], &[1, 2], 6);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("charts");
    let svgs = drawn(&rows);
    let paths = with_data(&rows, |data| chart::draw(data, &directory).unwrap());
    assert_eq!(paths.len(), svgs.len());
    for path in paths {
        let name = path.file_stem().unwrap().to_string_lossy();
        assert_eq!(fs::read_to_string(&path).unwrap(), svgs[&*name], "{name}");
        let (width, height) = size(&fs::read_to_string(&path).unwrap());
        let bytes = fs::read(path.with_extension("png")).unwrap();
        let (pixel_width, pixel_height, colors) = decode(&bytes);
        assert_eq!(
            (f64::from(pixel_width), f64::from(pixel_height)),
            (2.0 * width, 2.0 * height)
        );
        // Paper, ink, greys of smoothed text, and at least one colour that is no grey.
        assert!(
            colors.len() > 20,
            "{}: {} colours",
            path.display(),
            colors.len()
        );
        let coloured = colors
            .iter()
            .filter(|(rgb, _)| rgb[0].abs_diff(rgb[2]) > 40)
            .map(|(_, count)| count)
            .sum::<u64>();
        let ink = colors
            .iter()
            .filter(|(rgb, _)| rgb.iter().all(|c| *c < 60))
            .map(|(_, count)| count)
            .sum::<u64>();
        assert!(
            coloured > 500 && ink > 500,
            "{}: {coloured} coloured, {ink} dark",
            path.display()
        );
    }
}

/// Size of a PNG and how often each colour occurs.
fn decode(bytes: &[u8]) -> (u32, u32, BTreeMap<[u8; 3], u64>) {
    let picture = image::load_from_memory_with_format(bytes, image::ImageFormat::Png)
        .unwrap()
        .to_rgb8();
    let mut colors = BTreeMap::new();
    for pixel in picture.pixels() {
        *colors.entry(pixel.0).or_insert(0) += 1;
    }
    (picture.width(), picture.height(), colors)
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_with_its_path() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let rows = session_rows(&KERNELS[..1], &[1], 7);
    let tables = Tables {
        cells: &rows.cells,
        measurements: &rows.measurements,
        tokens: &rows.tokens,
        energy: &[],
    };
    let record = Record {
        rows: summarize_rows(&tables),
        ..Record::default()
    };
    let data = ChartData {
        record: &record,
        samples: &[],
        power: &[],
    };
    let error = chart::draw(&data, &file.path().join("charts"))
        .unwrap_err()
        .to_string();
    assert!(error.contains(&*file.path().to_string_lossy()), "{error}");
}
