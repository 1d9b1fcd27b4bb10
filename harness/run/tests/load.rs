//! Load on a server whose delays are known: what the load measures is compared with what the server did.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "../testing/stub_server.rs"]
mod stub_server;

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stub_server::{Answer, Seen, Stub, flag};
use trit_core::{ChunkRow, RequestRow, RequestStatus};
use trit_run::load::{
    Api, LatencyLimits, LoadError, LoadOptions, LoadSummary, Pace, Sink, arrivals, load,
};

/// Keeps all rows, or none.
#[derive(Default)]
struct Kept {
    rows: Vec<RequestRow>,
    chunks: Vec<ChunkRow>,
    refuse: bool,
}

impl Sink for Kept {
    fn request(&mut self, row: &RequestRow, chunks: &[ChunkRow]) -> io::Result<()> {
        if self.refuse {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.rows.push(row.clone());
        self.chunks.extend_from_slice(chunks);
        Ok(())
    }
}

fn options(stub: &Stub, requests: usize, concurrency: usize) -> LoadOptions {
    LoadOptions {
        endpoint: stub.url().parse().unwrap(),
        api: Api::Chat,
        model: None,
        prompts: vec!["hello".to_owned()],
        same_prompt: false,
        max_tokens: 8,
        ignore_eos: false,
        requests,
        warmup: 0,
        pace: Pace::Closed,
        concurrency,
        timeout: Duration::from_secs(20),
        seed: 5,
        limits: LatencyLimits::default(),
    }
}

fn run(options: &LoadOptions) -> (LoadSummary, Kept) {
    let mut kept = Kept::default();
    let summary = load(options, flag(), &mut kept).unwrap();
    (summary, kept)
}

fn median(values: impl IntoIterator<Item = u64>) -> f64 {
    let values: Vec<f64> = values.into_iter().map(|ns| ns as f64).collect();
    trit_stats::median(&values).unwrap()
}

fn close(got: f64, want: f64, what: &str) {
    let ratio = got / want;
    assert!((0.98..=1.02).contains(&ratio), "{what}: {got} for {want}");
}

/// The answers of a stub that streamed, of `count` in all, in the order in which they were asked.
fn streamed(stub: &Stub, count: usize) -> Vec<Seen> {
    let mut seen = stub.seen(count);
    seen.retain(|seen| matches!(seen.answer, Answer::Tokens { .. }));
    seen.sort_by_key(|seen| seen.asked_ns);
    seen
}

/// How many answers were under way at once: from a connection to the last token, behind which the end of the stream is still to come.
fn most_at_once(seen: &[Seen]) -> usize {
    let under_way = |at: u64| {
        let of = |seen: &&Seen| (seen.asked_ns..=*seen.tokens_ns.last().unwrap()).contains(&at);
        seen.iter().filter(of).count()
    };
    let counts = seen.iter().map(|seen| under_way(seen.asked_ns));
    counts.max().unwrap_or(0)
}

#[test]
fn times_and_goodput_are_what_the_server_did() {
    // Every third answer is slow to start and misses the limit.
    let stub = Stub::start(|n| Answer::Tokens {
        ttft_ms: if n % 3 == 2 { 2000 } else { 1000 },
        itl_ms: 100,
        tokens: 5,
    });
    let limits = LatencyLimits {
        ttft_ns: Some(1_500_000_000),
        ..LatencyLimits::default()
    };
    let options = LoadOptions {
        limits,
        ..options(&stub, 12, 6)
    };
    let (summary, kept) = run(&options);
    assert_eq!((summary.ok, summary.errors, summary.timeouts), (12, 0, 0));
    assert_eq!((summary.good, summary.error_rate), (8, Some(0.0)));
    assert_eq!(kept.rows.len(), 12);
    assert!(kept.rows.iter().all(|row| row.tokens == Some(5)
        && row.chunks == Some(5)
        && row.prompt_tokens == Some(3)
        && row.http_status == Some(200)));
    assert_eq!(kept.chunks.len(), 12 * 5);

    let seen = streamed(&stub, 12);
    assert_eq!(seen.len(), 12);
    assert_eq!(most_at_once(&seen), 6);
    let first = |seen: &Seen| seen.tokens_ns[0] - seen.asked_ns;
    close(
        summary.ttft.p50_ns.unwrap(),
        median(seen.iter().map(first)),
        "TTFT",
    );
    let gaps = seen
        .iter()
        .flat_map(|seen| seen.tokens_ns.windows(2).map(|two| two[1] - two[0]));
    close(summary.itl.p50_ns.unwrap(), median(gaps), "ITL");
    let per_token = seen
        .iter()
        .map(|seen| (seen.tokens_ns[4] - seen.tokens_ns[0]) / 4);
    close(summary.tpot.p50_ns.unwrap(), median(per_token), "TPOT");
    let whole = seen.iter().map(|seen| seen.tokens_ns[4] - seen.asked_ns);
    close(summary.latency.p50_ns.unwrap(), median(whole), "latency");
    // Goodput: what kept the limit, over the time from the first question to the last token.
    let good = seen
        .iter()
        .filter(|seen| first(seen) <= 1_500_000_000)
        .count();
    assert_eq!(good, 8);
    let start = seen.iter().map(|seen| seen.asked_ns).min().unwrap();
    let end = seen.iter().map(|seen| seen.tokens_ns[4]).max().unwrap();
    let minutes = (end - start) as f64 / 60e9;
    close(
        summary.goodput_per_minute.unwrap(),
        good as f64 / minutes,
        "goodput",
    );
    close(
        summary.requests_per_minute.unwrap(),
        12.0 / minutes,
        "requests a minute",
    );
}

#[test]
fn failures_are_counted_by_kind_and_do_not_end_the_load() {
    let stub = Stub::start(|n| match n {
        1 | 4 => Answer::Status(503),
        2 => Answer::Torn,
        3 => Answer::Silence,
        5 => Answer::Stuck,
        6 => Answer::Reports,
        _ => Answer::Tokens {
            ttft_ms: 5,
            itl_ms: 1,
            tokens: 3,
        },
    });
    let options = LoadOptions {
        timeout: Duration::from_millis(700),
        ..options(&stub, 12, 1)
    };
    let (summary, kept) = run(&options);
    assert_eq!((summary.ok, summary.errors, summary.timeouts), (6, 4, 2));
    assert_eq!(summary.error_rate, Some(0.5));
    let of = |request: u64| kept.rows.iter().find(|row| row.request == request).unwrap();
    for (request, status, words) in [
        (1, RequestStatus::Error, "status 503: {\"error\""),
        (2, RequestStatus::Error, ""),
        (3, RequestStatus::Timeout, "within 700 ms"),
        (5, RequestStatus::Timeout, "within 700 ms"),
        (6, RequestStatus::Error, "the server reports: out of memory"),
    ] {
        let row = of(request);
        assert_eq!(row.status, status, "{row:?}");
        assert!(row.reason.contains(words), "{row:?}");
    }
    // What is missing is empty: no first token where there was none, and one where the rest is missing.
    assert_eq!((of(3).ttft_ns, of(3).http_status), (None, None));
    assert!(of(5).ttft_ns.is_some() && of(5).chunks == Some(1));
    assert_eq!(of(1).http_status, Some(503));
    assert_eq!(summary.ttft.n, 6);
    assert_eq!(summary.reasons[0].1, 2);
}

#[test]
fn open_loads_time_from_the_arrival() {
    // One connection and a server that takes longer than the time between arrivals: a queue grows, and the waits count.
    let stub = Stub::start(|_| Answer::Tokens {
        ttft_ms: 100,
        itl_ms: 1,
        tokens: 2,
    });
    let options = LoadOptions {
        pace: Pace::Open { rate: 40.0 },
        ..options(&stub, 8, 1)
    };
    let (summary, mut kept) = run(&options);
    assert_eq!(summary.ok, 8);
    kept.rows.sort_by_key(|row| row.request);
    let due: Vec<u64> = kept.rows.iter().map(|row| row.due_ns).collect();
    assert_eq!(due, arrivals(8, 40.0, 5));
    // Nothing is sent before it is due, and the last has waited for seven others of at least 100 ms.
    assert!(
        kept.rows
            .iter()
            .all(|row| row.start_ns.unwrap() >= row.due_ns)
    );
    let last = &kept.rows[7];
    assert!(last.ttft_ns.unwrap() + last.due_ns >= 800_000_000 + due[0]);
    assert!(last.start_ns.unwrap() - last.due_ns >= 700_000_000 + due[0] - last.due_ns);
    assert_eq!(most_at_once(&streamed(&stub, 8)), 1);
}

#[test]
fn a_stop_keeps_what_there_is() {
    let brief = Answer::Tokens {
        ttft_ms: 1,
        itl_ms: 1,
        tokens: 2,
    };
    // Tokens for longer than any test lasts: the load sees between two of them that it is to stop.
    let endless = Answer::Tokens {
        ttft_ms: 1,
        itl_ms: 20,
        tokens: 100_000,
    };
    // And a server that says nothing any more: the load gives up waiting.
    for (pace, then) in [
        (Pace::Closed, endless),
        (Pace::Open { rate: 500.0 }, Answer::Stuck),
    ] {
        let stop = flag();
        let stub = Stub::start(move |n| {
            if n == 3 {
                stop.store(true, Ordering::SeqCst);
            }
            if n < 2 { brief } else { then }
        });
        let options = LoadOptions {
            pace,
            ..options(&stub, 100, 2)
        };
        let mut kept = Kept::default();
        let summary = load(&options, stop, &mut kept).unwrap();
        assert_eq!((summary.ok, summary.errors), (2, 0));
        // The third and the fourth were under way.
        assert!(summary.interrupted >= 2, "{summary:?}");
        assert_eq!(summary.requests + summary.not_sent, 100);
        assert_eq!(summary.requests, kept.rows.len());
        let interrupted = kept
            .rows
            .iter()
            .filter(|row| row.status == RequestStatus::Interrupted);
        assert_eq!(interrupted.count(), summary.interrupted);
    }
}

#[test]
fn requests_say_what_was_asked_for() {
    let stub = Stub::start(|_| Answer::Tokens {
        ttft_ms: 1,
        itl_ms: 1,
        tokens: 2,
    });
    let options = LoadOptions {
        model: Some("bitnet".to_owned()),
        prompts: vec!["one".to_owned(), "two".to_owned()],
        ignore_eos: true,
        warmup: 1,
        ..options(&stub, 3, 1)
    };
    let (summary, _) = run(&options);
    assert_eq!(summary.requests, 3);
    let bodies: Vec<serde_json::Value> = streamed(&stub, 4)
        .iter()
        .map(|seen| serde_json::from_str(&seen.body).unwrap())
        .collect();
    let prompts: Vec<&str> = bodies
        .iter()
        .map(|body| body["messages"][0]["content"].as_str().unwrap())
        .collect();
    // The warm-up first, with a number of its own.
    assert_eq!(
        prompts,
        ["(5-3) two", "(5-0) one", "(5-1) two", "(5-2) one"]
    );
    for body in &bodies {
        assert_eq!(
            (&body["model"], &body["max_tokens"]),
            (&"bitnet".into(), &8.into())
        );
        assert_eq!(
            (&body["stream"], &body["ignore_eos"]),
            (&true.into(), &true.into())
        );
    }
    let options = LoadOptions {
        api: Api::Completions,
        same_prompt: true,
        warmup: 0,
        ..options
    };
    run(&options);
    let body = streamed(&stub, 7).pop().unwrap().body;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["prompt"], "one");
}

#[test]
fn a_server_that_is_not_there_is_one_error_before_anything_counts() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let stub = Stub::start(|_| Answer::Status(500));
    for (url, words) in [
        (format!("http://{address}"), "refused"),
        (stub.url(), "status 500"),
    ] {
        let options = LoadOptions {
            endpoint: url.parse().unwrap(),
            warmup: 1,
            ..options(&stub, 3, 1)
        };
        let error = load(&options, flag(), &mut Kept::default()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, LoadError::NoAnswer { .. }), "{text}");
        assert!(
            text.to_lowercase().contains(words) && text.contains("hint"),
            "{text}"
        );
    }
}

#[test]
fn rows_that_cannot_be_kept_end_the_load() {
    let stub = Stub::start(|_| Answer::Tokens {
        ttft_ms: 1,
        itl_ms: 1,
        tokens: 2,
    });
    let mut kept = Kept {
        refuse: true,
        ..Kept::default()
    };
    let error = load(&options(&stub, 50, 2), flag(), &mut kept).unwrap_err();
    assert!(matches!(error, LoadError::Sink(_)), "{error}");
    assert!(stub.seen(0).len() < 50);
}
