//! `report.html` in a real browser: tables sort and filter, charts tell their values, nothing is fetched, nobody complains; its text can
//! be read in light and in dark, a phone shows it without moving sideways, and it prints. Without Chromium the tests say so and pass,
//! unless `TRIT_REQUIRE` names `browser`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{run, stderr};
use serde_json::Value;

const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const SUITE: &str = r#"
[suite]
name = "page"
budget = "3s"

[[micro]]
workloads = ["gemv-warm"]
kernels = ["w2a8-naive-scalar", "w2a8-swar-scalar"]
shapes = ["64x256", "96x256", "32x128", "64x64"]
threads = [1]
"#;
/// A page that holds the report in a frame, uses it as a reader would, and writes down what it saw.
const READER: &str = r#"<!doctype html><title>reader</title><pre id="seen"></pre><iframe id="page" src="report.html"></iframe>
<script>
const page = document.getElementById("page");
page.addEventListener("load", () => {
  const seen = { tables: 0, rows: 0, sorted: true, directions: true, filtered: null, status: "", fetched: -1 };
  try {
    const doc = page.contentDocument;
    seen.fetched = page.contentWindow.performance.getEntriesByType("resource").length;
    const value = (cell) => cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
    const ordered = (table, column, down) => {
      const known = [...table.tBodies[0].rows].map((row) => row.cells[column]).filter((cell) => cell.textContent !== "").map(value);
      return known.every((v, i) => i === 0 || (down ? known[i - 1] >= v : known[i - 1] <= v));
    };
    for (const table of doc.querySelectorAll("table")) {
      seen.tables += 1;
      seen.rows += table.tBodies[0].rows.length;
      [...table.tHead.rows[0].cells].forEach((head, column) => {
        for (const [down, word] of [[false, "ascending"], [true, "descending"]]) {
          const button = head.querySelector("button");
          if (button) button.click();
          seen.sorted &&= ordered(table, column, down);
          seen.directions &&= head.getAttribute("aria-sort") === word;
        }
      });
    }
    const input = doc.querySelector("input[type=search]");
    if (input) {
      const table = input.closest(".tools").nextElementSibling.querySelector("table");
      const all = table.tBodies[0].rows.length;
      input.value = "SWAR 96x256";
      input.dispatchEvent(new page.contentWindow.Event("input"));
      const shown = [...table.tBodies[0].rows].filter((row) => page.contentWindow.getComputedStyle(row).display !== "none");
      seen.filtered = shown.length > 0 && shown.length < all && shown.every((row) => /swar/i.test(row.textContent) && row.textContent.includes("96x256"));
      seen.status = input.closest(".tools").querySelector("[role=status]").textContent;
    }
  } catch (error) {
    seen.error = String(error);
  }
  document.getElementById("seen").textContent = JSON.stringify(seen);
});
</script>"#;

/// What a browser is told to prefer: a light page, or a dark one.
const LIGHT: &[&str] = &["--blink-settings=preferredColorScheme=1"];
const DARK: &[&str] = &["--blink-settings=preferredColorScheme=0"];
/// A page that holds the report in a frame as wide as a phone, and then as a desk, and writes down what can be read of it.
const LOOKER: &str = r#"<!doctype html><title>looker</title><pre id="seen"></pre><iframe id="page" src="report.html" width="360" height="740"></iframe>
<script>
const page = document.getElementById("page");
page.addEventListener("load", () => {
  const seen = {};
  try {
    const doc = page.contentDocument;
    const view = page.contentWindow;
    seen.dark = view.matchMedia("(prefers-color-scheme: dark)").matches;
    const root = doc.documentElement;
    seen.width = root.clientWidth;
    seen.sideways = root.scrollWidth > root.clientWidth;

    // Relative luminance and contrast as WCAG 2 defines them.
    const parts = (color) => color.match(/[\d.]+/g).map(Number);
    const light = (color) => parts(color).slice(0, 3).map((c) => c / 255)
      .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
      .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const contrast = (a, b) => {
      const [high, low] = [light(a), light(b)].sort((x, y) => y - x);
      return (high + 0.05) / (low + 0.05);
    };
    const paper = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const color = view.getComputedStyle(at).backgroundColor;
        if ((parts(color)[3] ?? 1) > 0) return color;
      }
      return "rgb(255, 255, 255)";
    };
    seen.texts = 0;
    seen.least = 99;
    seen.faint = [];
    const judge = (element, ink, ground) => {
      const ratio = contrast(ink, ground);
      seen.texts += 1;
      seen.least = Math.min(seen.least, ratio);
      if (ratio < 4.5 && seen.faint.length < 5) seen.faint.push(`${element.textContent.trim().slice(0, 40)}: ${ink} on ${ground}`);
    };
    for (const element of doc.body.querySelectorAll("*:not(script)")) {
      const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim() !== "");
      if (!own || element.closest("svg") || element.getClientRects().length === 0) continue;
      judge(element, view.getComputedStyle(element).color, paper(element));
    }
    seen.charts = [];
    for (const svg of doc.querySelectorAll("figure svg")) {
      const ground = view.getComputedStyle(svg.querySelector("rect:not(.spot)")).fill;
      const texts = [...svg.querySelectorAll("text")];
      for (const text of texts) judge(text, view.getComputedStyle(text).fill, ground);
      // Letters may be up to a pixel wider than they were measured.
      const box = svg.getBoundingClientRect();
      const out = texts.filter((text) => {
        const at = text.getBoundingClientRect();
        return at.left < box.left - 1 || at.right > box.right + 1 || at.top < box.top - 1 || at.bottom > box.bottom + 1;
      });
      const spots = [...svg.querySelectorAll(".spot")];
      seen.charts.push({
        title: svg.querySelector("title").textContent,
        image: svg.getAttribute("role") === "img" && svg.getAttribute("aria-labelledby").split(" ").every((id) => doc.getElementById(id)),
        values: spots.length > 0 && spots.every((spot) => /\d/.test(spot.querySelector("title").textContent)),
        outside: out.map((text) => text.textContent),
      });
    }

    page.width = 1300;
    seen.told = 0;
    for (const figure of doc.querySelectorAll("figure")) {
      const value = figure.querySelector("[role=status]");
      const spots = figure.querySelectorAll(".spot");
      const texts = [...spots].map((spot) => spot.textContent);
      spots[0].dispatchEvent(new view.PointerEvent("pointerover", { bubbles: true }));
      const pointed = value.textContent === texts[0];
      const key = (name) => figure.querySelector(".scroll").dispatchEvent(new view.KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
      key("ArrowRight");
      const next = value.textContent === texts[1 % texts.length];
      key("ArrowLeft");
      if (pointed && next && value.textContent === texts[0] && figure.querySelectorAll(".told").length === 1) seen.told += 1;
    }
    seen.reachable = [...doc.querySelectorAll("table, figure svg")].every((one) => one.closest(".scroll").tabIndex === 0);
  } catch (error) {
    seen.error = String(error);
  }
  document.getElementById("seen").textContent = JSON.stringify(seen);
});
</script>"#;

/// The browser, or `None` with a line on stderr, or a failure where it is required.
fn browser() -> Option<&'static str> {
    let works = |name: &&&str| {
        let mut command = Command::new(name);
        command
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let found = NAMES.iter().find(works).copied();
    if found.is_none() {
        let required = std::env::var("TRIT_REQUIRE").unwrap_or_default();
        let required = required.split(',').any(|word| word == "browser");
        assert!(!required, "none of {NAMES:?} is installed");
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: no Chromium, so the page was not opened; scripts/test --all installs it"
        );
    }
    found
}

/// The browser without a window, over a directory.
fn headless(browser: &str, directory: &Path) -> Command {
    let mut command = Command::new(browser);
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
        ])
        .arg(format!(
            "--user-data-dir={}",
            directory.join("profile").display()
        ));
    command
}

/// What a page about the report in a directory saw, and whether the browser had anything to complain about.
fn read(browser: &str, directory: &Path, page: &str, flags: &[&str]) -> (Value, String) {
    let reader = directory.join("reader.html");
    fs::write(&reader, page).unwrap();
    let output = headless(browser, directory)
        .args(flags)
        .args([
            "--allow-file-access-from-files",
            "--virtual-time-budget=10000",
            "--dump-dom",
        ])
        .arg(format!("file://{}", reader.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    let (_, rest) = dom.split_once("<pre id=\"seen\">").unwrap();
    let (json, _) = rest.split_once("</pre>").unwrap();
    let console = said.lines().filter(|line| line.contains("CONSOLE"));
    let seen = serde_json::from_str(json).unwrap_or(Value::Null);
    (seen, console.collect::<Vec<_>>().join("\n"))
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(browser) = browser() else { return };
    let dir = tempfile::tempdir().unwrap();
    let suite = dir.path().join("page.toml");
    fs::write(&suite, SUITE).unwrap();
    let out = dir.path().join("out");
    let arguments = [
        OsStr::new("run"),
        OsStr::new("--allow-debug"),
        suite.as_ref(),
    ];
    let done = run(arguments
        .into_iter()
        .chain([OsStr::new("--out"), out.as_ref()]));
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let page = fs::read_to_string(out.join("report.html")).unwrap();

    let (seen, console) = read(browser, &out, READER, &[]);
    assert_eq!(console, "", "{seen}");
    assert_eq!(seen["error"], Value::Null, "{seen}");
    assert!(seen["tables"].as_u64().unwrap() >= 2, "{seen}");
    assert!(seen["rows"].as_u64().unwrap() >= 8, "{seen}");
    for check in ["sorted", "directions", "filtered"] {
        assert_eq!(seen[check], true, "{check}: {seen}");
    }
    assert!(seen["status"].as_str().unwrap().contains(" of "), "{seen}");
    assert_eq!(seen["fetched"], 0, "{seen}");

    // The same reader sees what is wrong with a page whose script is not the one that its policy names, and which wants a picture
    // from elsewhere.
    let broken = dir.path().join("broken");
    fs::create_dir(&broken).unwrap();
    let changed = page
        .replacen("\"use strict\";", "\"use strict\"; void 0;", 1)
        .replacen("</body>", "<img alt=\"\" src=\"picture.png\"></body>", 1);
    assert_ne!(page, changed);
    fs::write(broken.join("report.html"), changed).unwrap();
    let (seen, console) = read(browser, &broken, READER, &[]);
    assert_eq!(seen["directions"], false, "{seen}");
    assert!(console.contains("Content Security Policy"), "{console}");
}

/// The page of a recorded session, made again by the program.
fn recorded(directory: &Path) -> String {
    for name in [
        "session.json",
        "cells.csv",
        "measurements.csv",
        "tokens.csv",
    ] {
        let from = common::path("reports/tests/fixtures/session").join(name);
        fs::copy(from, directory.join(name)).unwrap();
    }
    let done = run([OsStr::new("report"), directory.as_ref()]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    fs::read_to_string(directory.join("report.html")).unwrap()
}

#[test]
fn everybody_can_read_it() {
    let Some(browser) = browser() else { return };
    let dir = tempfile::tempdir().unwrap();
    let page = recorded(dir.path());
    for (dark, flags) in [(false, LIGHT), (true, DARK)] {
        let (seen, console) = read(browser, dir.path(), LOOKER, flags);
        assert_eq!(console, "", "{seen}");
        assert_eq!(seen["error"], Value::Null, "{seen}");
        assert_eq!(seen["dark"], dark, "{seen}");
        assert_eq!(seen["faint"], Value::Array(Vec::new()), "{seen}");
        assert!(seen["texts"].as_u64().unwrap() > 500, "{seen}");
        assert_eq!(seen["sideways"], false, "{seen}");
        let charts = seen["charts"].as_array().unwrap();
        for kind in [
            "Throughput by kernel",
            "Speed-up with threads",
            "Roofline",
            "Pareto",
            "Distribution of latency (ECDF)",
            "Resident memory",
        ] {
            let title = |chart: &Value| chart["title"].as_str().unwrap().starts_with(kind);
            assert!(charts.iter().any(title), "{kind}: {seen}");
        }
        for chart in charts {
            assert_eq!(chart["image"], true, "{chart}");
            assert_eq!(chart["values"], true, "{chart}");
            assert_eq!(chart["outside"], Value::Array(Vec::new()), "{chart}");
        }
        assert_eq!(seen["told"], charts.len(), "{seen}");
        assert_eq!(seen["reachable"], true, "{seen}");
    }

    // The same looker sees faint text, and a body that is wider than a phone.
    let broken = dir.path().join("broken");
    fs::create_dir(&broken).unwrap();
    let (before, policy) = page.split_once("<meta http-equiv=").unwrap();
    let (_, after) = policy.split_once('>').unwrap();
    let changed = after
        .replacen("--soft: #595959", "--soft: #aaaaaa", 1)
        .replacen("max-width: 84rem", "width: 84rem", 1);
    fs::write(broken.join("report.html"), format!("{before}{changed}")).unwrap();
    let (seen, _) = read(browser, &broken, LOOKER, LIGHT);
    assert_ne!(seen["faint"], Value::Array(Vec::new()), "{seen}");
    assert_eq!(seen["sideways"], true, "{seen}");
}

#[test]
fn it_prints() {
    let Some(browser) = browser() else { return };
    let dir = tempfile::tempdir().unwrap();
    recorded(dir.path());
    let pdf = dir.path().join("report.pdf");
    let printed = headless(browser, dir.path())
        .arg("--no-pdf-header-footer")
        .arg(format!("--print-to-pdf={}", pdf.display()))
        .arg(format!(
            "file://{}",
            dir.path().join("report.html").display()
        ))
        .output()
        .unwrap();
    assert!(printed.status.success(), "{}", stderr(&printed));
    let bytes = fs::read(&pdf).unwrap();
    assert!(bytes.starts_with(b"%PDF-"));
    // A page object has a `/Type /Page`, the list of them a `/Type /Pages`.
    let text = String::from_utf8_lossy(&bytes);
    let pages = text.matches("/Type /Page\n").count();
    assert!((4..40).contains(&pages), "{pages} pages");
}
