//! Limits: what is read, what is judged, and that every mistake is named with file and key.

use proptest::prelude::*;
use trit_core::{Budget, Limits, Observed};

fn parse(text: &str) -> Result<Limits, String> {
    Limits::parse("my.toml", text).map_err(|error| error.to_string())
}

const KEYS: [&str; 8] = [
    "min_effect_percent",
    "allowed_slowdown_percent",
    "max_latency_ms",
    "min_tokens_per_s",
    "max_rss_mb",
    "max_j_per_token",
    "max_cpu_percent",
    "max_error_percent",
];

#[test]
fn the_sample_says_what_its_comments_say() {
    let limits = Limits::parse("limits.toml", include_str!("../../../suites/limits.toml")).unwrap();
    let of = limits.of("program:x");
    assert_eq!(
        (of.min_effect_percent, of.allowed_slowdown_percent),
        (2.0, 5.0)
    );
    let expected = [
        (Budget::Rss, Some(1024.0)),
        (Budget::Rate, Some(5.0)),
        (Budget::Latency, Some(5000.0)),
        (Budget::Cpu, Some(80.0)),
        (Budget::Errors, Some(5.0)),
        (Budget::Energy, None),
    ];
    for (budget, limit) in expected {
        assert_eq!(of.limit(budget), limit, "{budget}");
    }
    let prefill = limits.of("engine:best/prefill/synth:2b4t/p512/t2");
    assert_eq!(prefill.limit(Budget::Latency), Some(60_000.0));
    assert_eq!(prefill.limit(Budget::Rss), Some(1024.0));
}

#[test]
fn without_a_file_there_are_defaults_and_no_budgets() {
    for limits in [Limits::default(), parse("[limits]\n").unwrap()] {
        let of = limits.of("any");
        assert_eq!(
            (of.min_effect_percent, of.allowed_slowdown_percent),
            (2.0, 5.0)
        );
        assert!(Budget::ALL.iter().all(|budget| of.limit(*budget).is_none()));
        let worst = Observed {
            latency_ms: Some(f64::MAX),
            tokens_per_s: Some(0.0),
            rss_bytes: Some(u64::MAX),
            j_per_token: Some(f64::MAX),
            cpu_percent: Some(100.0),
            error_percent: Some(100.0),
        };
        assert_eq!(limits.violated("any", &worst), []);
    }
}

const TWO: &str = r#"
[limits]
min_effect_percent = 1.5
max_rss_mb = 100
max_latency_ms = 50
[[limits.cell]]
match = "decode/*"
max_rss_mb = 200
min_tokens_per_s = 5
allowed_slowdown_percent = 3
[[limits.cell]]
match = "*/t1"
max_rss_mb = 300
"#;

#[test]
fn the_last_section_that_matches_counts_key_by_key() {
    let limits = parse(TWO).unwrap();
    let of = |cell: &str| {
        let of = limits.of(cell);
        (
            of.limit(Budget::Rss),
            of.limit(Budget::Rate),
            of.limit(Budget::Latency),
            of.min_effect_percent,
            of.allowed_slowdown_percent,
        )
    };
    assert_eq!(of("k/gemm/t2"), (Some(100.0), None, Some(50.0), 1.5, 5.0));
    assert_eq!(
        of("e/decode/m/t2"),
        (Some(200.0), Some(5.0), Some(50.0), 1.5, 3.0)
    );
    assert_eq!(
        of("e/decode/m/t1"),
        (Some(300.0), Some(5.0), Some(50.0), 1.5, 3.0)
    );
    assert_eq!(limits.unused(&["e/decode/m/t2"]), ["*/t1"]);
    assert!(limits.unused(&["e/decode/m/t1"]).is_empty());
}

#[test]
fn violations_have_both_numbers_and_their_pattern() {
    let limits = parse(TWO).unwrap();
    let observed = Observed {
        tokens_per_s: Some(4.5),
        rss_bytes: Some(200_000_100),
        latency_ms: Some(50.0),
        ..Observed::default()
    };
    let violated = limits.violated("e/decode/m/t2", &observed);
    let said: Vec<String> = violated.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "e/decode/m/t2: rate 4.5 tokens/s is below the limit of 5 tokens/s (min_tokens_per_s of `decode/*`)",
            "e/decode/m/t2: resident set 200.0001 MB is above the limit of 200 MB (max_rss_mb of `decode/*`)",
        ]
    );
    assert_eq!((violated[0].limit, violated[0].observed), (5.0, 4.5));
    // Equal keeps the limit, what is missing is not judged, and no number keeps nothing.
    let kept = Observed {
        tokens_per_s: Some(5.0),
        rss_bytes: Some(200_000_000),
        ..Observed::default()
    };
    assert_eq!(limits.violated("e/decode/m/t2", &kept), []);
    assert_eq!(
        limits.of("e/decode/m/t2").not_judged(&kept),
        [Budget::Latency]
    );
    let broken = Observed {
        latency_ms: Some(f64::NAN),
        tokens_per_s: Some(f64::NAN),
        ..Observed::default()
    };
    assert_eq!(limits.violated("e/decode/m/t2", &broken).len(), 2);
}

#[test]
fn mistakes_are_named_with_file_key_and_remedy() {
    for (text, words) in [
        ("", &["my.toml:", "missing field `limits`"][..]),
        ("[limits", &["my.toml:1:"]),
        (
            "[limits]\nmax_ram_mb = 5\n",
            &["my.toml:2:1", "`max_ram_mb`", "max_rss_mb"],
        ),
        (
            "[limits]\n[[limits.cell]]\nmatch = \"x\"\nmax_ram_mb = 5\n",
            &["my.toml:4:1", "`max_ram_mb`", "max_rss_mb"],
        ),
        ("[limit]\n", &["my.toml:1:", "`limit`", "`limits`"]),
        ("[limits]\n[other]\n", &["my.toml:2:", "`other`"]),
        (
            "[limits]\nmax_rss_mb = \"5\"\n",
            &["my.toml:2:14", "string"],
        ),
        (
            "[[limits.cell]]\nmax_rss_mb = 5\n",
            &["my.toml:1:", "`match`"],
        ),
        (
            "[[limits.cell]]\nmatch = \"\"\nmax_rss_mb = 5\n",
            &["my.toml: limits.cell[0].match", "hint"],
        ),
        (
            "[[limits.cell]]\nmatch = \"x\"\n",
            &["my.toml: limits.cell[0]", "hint"],
        ),
        (
            "[limits]\nmax_cpu_percent = 101\n",
            &["my.toml: limits.max_cpu_percent: 101", "100", "hint"],
        ),
        (
            "[limits]\nmin_effect_percent = 101\n",
            &["my.toml: limits.min_effect_percent: 101", "hint"],
        ),
    ] {
        let error = parse(text).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{text}: no `{word}` in {error}");
        }
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    for key in KEYS {
        for (value, word) in [
            ("nan", "no finite number"),
            ("-nan", "no finite number"),
            ("inf", "no finite number"),
            ("-0.1", "negative"),
            ("-1", "negative"),
        ] {
            for (text, place) in [
                (format!("[limits]\n{key} = {value}\n"), "limits"),
                (
                    format!("[[limits.cell]]\nmatch = \"x\"\n{key} = {value}\n"),
                    "limits.cell[0]",
                ),
            ] {
                let error = parse(&text).unwrap_err();
                assert!(
                    error.starts_with(&format!("my.toml: {place}.{key}: ")),
                    "{error}"
                );
                assert!(
                    error.contains(word) && error.contains("; hint: "),
                    "{error}"
                );
            }
        }
        assert!(parse(&format!("[limits]\n{key} = 0\n")).is_ok(), "{key}");
    }
}

proptest! {
    #[test]
    fn a_value_is_violated_exactly_when_it_is_beyond(limit in 0.0..1e6f64, seen in 0.0..1e6f64) {
        let limits = parse(&format!("[limits]\nmax_latency_ms = {limit:?}\nmin_tokens_per_s = {limit:?}\n")).unwrap();
        let observed = Observed { latency_ms: Some(seen), tokens_per_s: Some(seen), ..Observed::default() };
        let violated = limits.violated("c", &observed);
        let of = |budget| violated.iter().any(|violation| violation.budget == budget);
        prop_assert_eq!(of(Budget::Latency), seen > limit);
        prop_assert_eq!(of(Budget::Rate), seen < limit);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
        let _ = parse(&text);
        let _ = parse(&format!("[limits]\n{text}"));
    }
}
