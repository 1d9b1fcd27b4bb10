//! `report.html` in a real browser: tables sort and filter, nothing is fetched, nobody complains. Without Chromium the test says so
//! and passes, unless `TRIT_REQUIRE` names `browser`.
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

/// What the reader saw, and whether the browser had anything to complain about.
fn read(browser: &str, directory: &Path) -> (Value, String) {
    let reader = directory.join("reader.html");
    fs::write(&reader, READER).unwrap();
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
        ])
        .args([
            "--allow-file-access-from-files",
            "--virtual-time-budget=10000",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            directory.join("profile").display()
        ))
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

    let (seen, console) = read(browser, &out);
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
    let (seen, console) = read(browser, &broken);
    assert_eq!(seen["directions"], false, "{seen}");
    assert!(console.contains("Content Security Policy"), "{console}");
}
