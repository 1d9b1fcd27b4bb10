//! The page: nothing from a file becomes markup, the same rows give the same bytes, and it fetches nothing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::{KERNELS, session, session_rows};
use trit_core::{RunDir, Status};
use trit_report::write_report_html;

const HOSTILE: &str = "\"'><img src=x onerror=alert(1)></script><script>alert(2)</script><!--";

fn run(path: &Path, hostile: bool) -> RunDir {
    let run = RunDir::create(path).unwrap();
    let mut facts = session();
    let mut rows = session_rows(&KERNELS[..3], &[1, 2], 3);
    if hostile {
        facts.suite = String::from(HOSTILE);
        facts.host = String::from(HOSTILE);
        facts.argv = vec![HOSTILE.to_owned()];
        facts.machine["cpu"]["model"] = HOSTILE.into();
        facts.plan.notes.push(HOSTILE.to_owned());
        for cell in &mut rows.cells {
            if !cell.subject.starts_with("probe:") {
                cell.subject = format!("{HOSTILE}{}", cell.subject);
                cell.kernel.clone_from(&cell.subject);
            }
            if !cell.model.is_empty() {
                cell.model = String::from(HOSTILE);
            }
        }
        rows.cells[0].status = Status::Failed;
        rows.cells[0].reason = format!("`{HOSTILE}`");
    }
    run.write_session(&facts).unwrap();
    run.write(&rows.cells).unwrap();
    run.write(&rows.measurements).unwrap();
    run.write(&rows.tokens).unwrap();
    run
}

fn page(hostile: bool) -> String {
    let parent = tempfile::tempdir().unwrap();
    let run = run(&parent.path().join("session"), hostile);
    fs::read_to_string(write_report_html(&run).unwrap()).unwrap()
}

#[test]
fn names_from_files_are_text() {
    let text = page(true);
    assert!(text.contains("&lt;img src=x onerror=alert(1)&gt;"));
    assert!(!text.contains("<img") && !text.contains("<!--"));
    assert_eq!(text.matches("<script").count(), 1, "ours alone");
    assert_eq!(text.matches("</script").count(), 1);
    assert_eq!(text.matches("<html").count(), 1);
    // A quote would end an attribute: no tag has one of these values outside of quotes.
    for tag in text.split('<').skip(1) {
        let inside = tag.split('>').next().unwrap();
        assert!(!inside.contains(" onerror"), "{inside}");
    }
}

#[test]
fn the_same_rows_give_the_same_page() {
    let first = page(false);
    assert_eq!(first, page(false));
    assert_ne!(first, page(true));
}

#[test]
fn it_fetches_nothing_and_says_so() {
    let text = page(false);
    assert!(text.contains("default-src 'none'; style-src 'sha256-"));
    for word in [
        "src=",
        "@import",
        "url(",
        "<link",
        "javascript:",
        "fetch(",
        "unsafe-inline",
    ] {
        assert!(!text.contains(word), "{word}");
    }
    let addresses: Vec<&str> = text
        .match_indices("://")
        .map(|(at, _)| &text[at.saturating_sub(8)..(at + 22).min(text.len())])
        .filter(|address| !address.contains("www.w3.org"))
        .collect();
    assert!(addresses.is_empty(), "{addresses:?}");
}

#[test]
fn it_can_be_read_by_all() {
    let text = page(false);
    for part in [
        "<html lang=\"en\">",
        "<main ",
        "<nav ",
        "<caption>",
        "scope=\"col\"",
        "scope=\"row\"",
        "role=\"img\"",
        "<desc ",
        "prefers-color-scheme: dark",
        "@media print",
    ] {
        assert!(text.contains(part), "lacks {part}");
    }
    assert!(text.find("Highest decode rate").unwrap() < text.rfind("Fastest kernel by").unwrap());
    let charts = text.matches("<svg").count();
    assert!(charts > 10, "{charts}");
    // Ids are unique: labels point at one element.
    let mut ids: Vec<&str> = text
        .split(" id=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
    // Every chart says what it is to those who do not see it, and its values to those who point at it.
    for chart in text.split("<svg").skip(1) {
        let chart = chart.split("</svg>").next().unwrap();
        let (tag, inside) = chart.split_once('>').unwrap();
        assert!(
            tag.contains("role=\"img\"") && tag.contains("aria-labelledby="),
            "{tag}"
        );
        let title = inside.split("<title id=").nth(1).unwrap();
        assert!(title.contains("<desc "), "{title}");
        assert!(inside.contains("class=\"spot\""), "{title}");
    }
    assert!(text.contains("95 % interval"));
}

#[test]
fn charts_that_cannot_be_drawn_are_told_in_a_line() {
    let lines = |kernels: &[(&str, &str, f64)], threads: &[u64]| {
        let parent = tempfile::tempdir().unwrap();
        let run = RunDir::create(&parent.path().join("session")).unwrap();
        let rows = session_rows(kernels, threads, 3);
        run.write_session(&session()).unwrap();
        run.write(&rows.cells).unwrap();
        run.write(&rows.measurements).unwrap();
        let text = fs::read_to_string(write_report_html(&run).unwrap()).unwrap();
        let (_, told) = text.split_once("<p>Not drawn:</p>").unwrap();
        let list = told.split("</ul>").next().unwrap();
        let points = list.split("<li>").skip(1);
        let names = points.map(|point| point.split(':').next().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(lines(&KERNELS, &[1, 2]), ["History"]);
    assert_eq!(
        lines(&KERNELS[1..2], &[1]),
        [
            "Times as fast as a dense format",
            "Speed-up with threads",
            "Roofline",
            "Pareto",
            "History"
        ]
    );
    assert!(!page(false).contains("Roofline: no"));
}

/// The page that browsers are driven over: kept where a check of it finds it.
#[test]
fn a_page_is_left_to_be_looked_at() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    if directory.exists() {
        fs::remove_dir_all(&directory).unwrap();
    }
    let path = write_report_html(&run(&directory, false)).unwrap();
    assert!(fs::metadata(path).unwrap().len() > 100_000);
}
