//! Servers as subjects: an OpenAI-compatible server under closed or open load.
//!
//! In a closed load a number of users each send a request, wait for its answer and send the next. In an open load requests
//! arrive on their own (Poisson, seeded) however slow the server is, and are timed from their arrival: one that had to wait for a
//! free connection has waited.

mod client;
mod sse;
mod summary;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use trit_core::{ChunkRow, RequestRow, RequestStatus};
use trit_measure::{Clock, MonotonicClock};
use trit_stats::Rng;

use client::{Client, Job};
use summary::Tally;
pub use summary::{LatencyLimits, LoadSummary, Percentiles};

/// How often the load looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// How long requests under way may take to see that the load was stopped, before they are given up.
const GRACE_NS: u64 = 2_000_000_000;

/// Which interface of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Api {
    /// `/v1/chat/completions`.
    #[default]
    Chat,
    /// `/v1/completions`.
    Completions,
}

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

/// An address that no request can be sent to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is no address.
    #[error(
        "`{0}` is no address of a server; hint: want http://HOST:PORT, such as http://127.0.0.1:8080"
    )]
    Invalid(String),
    /// It asks for TLS.
    #[error(
        "`{0}` asks for TLS, which this program does not speak; hint: use http:// on the machine itself or through a tunnel"
    )]
    Tls(String),
}

impl std::str::FromStr for Endpoint {
    type Err = EndpointError;

    /// Takes `http://HOST[:PORT][/PATH]`; a `/v1` at the end may be there or not.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let invalid = || EndpointError::Invalid(text.to_owned());
        let uri: ureq::http::Uri = text.parse().map_err(|_| invalid())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(EndpointError::Tls(text.to_owned())),
            _ => return Err(invalid()),
        }
        if uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
            return Err(invalid());
        }
        let base = text.trim_end_matches('/');
        Ok(Self(base.strip_suffix("/v1").unwrap_or(base).to_owned()))
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Endpoint {
    fn url(&self, api: Api) -> String {
        let path = match api {
            Api::Chat => "chat/completions",
            Api::Completions => "completions",
        };
        format!("{}/v1/{path}", self.0)
    }
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Whenever a user is free.
    Closed,
    /// As they arrive: Poisson, so many a second on average.
    Open {
        /// Arrivals a second; above 0.
        rate: f64,
    },
}

/// What to do to which server.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The server.
    pub endpoint: Endpoint,
    /// Its interface.
    pub api: Api,
    /// The name of the model, for servers that have several.
    pub model: Option<String>,
    /// Prompts, used in turn.
    pub prompts: Vec<String>,
    /// Send them as they are; else each starts with its number, so that no server can answer from what it kept of another.
    pub same_prompt: bool,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// Ask for that many, whatever the model says (llama-server and vLLM do it).
    pub ignore_eos: bool,
    /// Requests that count.
    pub requests: usize,
    /// Requests that are sent before, one after another, and do not count.
    pub warmup: usize,
    /// When requests are sent.
    pub pace: Pace,
    /// Most requests under way: the users of a closed load.
    pub concurrency: usize,
    /// How long one may take.
    pub timeout: Duration,
    /// Seed of the arrivals, also sent to the server.
    pub seed: u64,
    /// What an answer has to keep to be good.
    pub limits: LatencyLimits,
}

impl LoadOptions {
    fn prompt(&self, request: u64) -> String {
        let at = request as usize % self.prompts.len().max(1);
        let prompt = self.prompts.get(at).map_or("", String::as_str);
        if self.same_prompt {
            prompt.to_owned()
        } else {
            format!("({}-{request}) {prompt}", self.seed)
        }
    }
}

/// Where rows go.
pub trait Sink {
    /// A request that is over, and the pieces of its answer.
    ///
    /// # Errors
    /// When they cannot be kept; the load stops.
    fn request(&mut self, row: &RequestRow, chunks: &[ChunkRow]) -> io::Result<()>;
}

/// Why a load could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The server does not answer before anything counts.
    #[error(
        "`{url}` did not answer the first request: {reason}; hint: start the server, wait until it has loaded its model, and give its address"
    )]
    NoAnswer {
        /// Where it was sent.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The system gives no thread.
    #[error("cannot start thread {number} of {wanted}: {source}; hint: lower --concurrency")]
    Thread {
        /// Which.
        number: usize,
        /// Of how many.
        wanted: usize,
        /// The system's reason.
        source: io::Error,
    },
    /// Rows cannot be kept.
    #[error("cannot keep the rows of the load: {0}")]
    Sink(#[from] io::Error),
}

/// The times at which `requests` arrive, in nanoseconds since the start: exponential gaps of mean `1 / rate` seconds.
pub fn arrivals(requests: usize, rate: f64, seed: u64) -> Vec<u64> {
    let mut rng = Rng::new(seed);
    let mut at = 0.0;
    (0..requests)
        .map(|_| {
            at += -(1.0 - rng.uniform()).ln() / rate;
            (at * 1e9) as u64
        })
        .collect()
}

/// Sends requests and hands each to `sink` when it is over. Setting `stop` ends the load: requests under way become rows of what
/// there is of them, and the summary is of what was done.
///
/// # Errors
/// When the server does not answer the warm-up, a thread cannot be started, or the sink refuses rows.
pub fn load(
    options: &LoadOptions,
    stop: &AtomicBool,
    sink: &mut dyn Sink,
) -> Result<LoadSummary, LoadError> {
    for request in 0..options.warmup {
        if stop.load(Ordering::Relaxed) {
            return Ok(Tally::default().summary(options.requests, options.limits));
        }
        // Numbers that no counted request has.
        let job = Job {
            request: (options.requests + request) as u64,
            due_ns: None,
        };
        let client = Client::new(options, MonotonicClock.now_ns());
        let (row, _) = client.ask(job, stop);
        if !matches!(row.status, RequestStatus::Ok | RequestStatus::Interrupted) {
            return Err(LoadError::NoAnswer {
                url: options.endpoint.url(options.api),
                reason: row.reason,
            });
        }
    }
    let due = match options.pace {
        Pace::Closed => Vec::new(),
        Pace::Open { rate } => arrivals(options.requests, rate, options.seed),
    };
    let client = Arc::new(Client::new(options, MonotonicClock.now_ns()));
    let halt = Arc::new(AtomicBool::new(false));
    let (jobs, work) = mpsc::channel();
    let (told, events) = mpsc::channel();
    start_threads(options, &client, &halt, work, &told)?;
    drop(told);

    let mut run = Run {
        jobs: Some(jobs),
        under_way: BTreeMap::new(),
        tally: Tally::default(),
    };
    let result = run.wait(options, &due, &client, &events, stop, sink);
    halt.store(true, Ordering::Relaxed);
    run.jobs = None;
    result?;
    if run.tally.len() < options.requests {
        run.give_up(&client, &events, sink)?;
    }
    Ok(run.tally.summary(options.requests, options.limits))
}

/// What a thread tells.
enum Told {
    Started(Job, u64),
    Over(RequestRow, Vec<ChunkRow>),
}

fn start_threads(
    options: &LoadOptions,
    client: &Arc<Client>,
    halt: &Arc<AtomicBool>,
    work: mpsc::Receiver<Job>,
    told: &mpsc::Sender<Told>,
) -> Result<(), LoadError> {
    let wanted = options.concurrency.min(options.requests).max(1);
    let work = Arc::new(Mutex::new(work));
    for number in 1..=wanted {
        let (client, halt) = (Arc::clone(client), Arc::clone(halt));
        let (work, told) = (Arc::clone(&work), told.clone());
        let body = move || {
            loop {
                // Whoever waits for the lock waits for work all the same.
                let job = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(job) = job else { break };
                if halt.load(Ordering::Relaxed) {
                    break;
                }
                let _ = told.send(Told::Started(job, client.now_ns()));
                let (row, chunks) = client.ask(job, &halt);
                if told.send(Told::Over(row, chunks)).is_err() {
                    break;
                }
            }
        };
        // Not joined: one that hangs in a system call must not keep the program from ending.
        std::thread::Builder::new()
            .name(format!("load-{number}"))
            .spawn(body)
            .map_err(|source| LoadError::Thread {
                number,
                wanted,
                source,
            })?;
    }
    Ok(())
}

struct Run {
    /// Dropped when there is no more to send.
    jobs: Option<mpsc::Sender<Job>>,
    /// Requests that are due and not over, and when each was sent, if it was.
    under_way: BTreeMap<u64, (Job, Option<u64>)>,
    tally: Tally,
}

impl Run {
    /// Sends what is due and takes what is over, until all is over or `stop` is set.
    fn wait(
        &mut self,
        options: &LoadOptions,
        due: &[u64],
        client: &Client,
        events: &mpsc::Receiver<Told>,
        stop: &AtomicBool,
        sink: &mut dyn Sink,
    ) -> Result<(), LoadError> {
        let closed = options.pace == Pace::Closed;
        let mut queued = 0;
        while self.tally.len() < options.requests && !stop.load(Ordering::Relaxed) {
            let now = client.now_ns();
            let mut wait = LOOK;
            while queued < options.requests && (closed || due[queued] <= now) {
                let job = Job {
                    request: queued as u64,
                    due_ns: due.get(queued).copied(),
                };
                if let Some(jobs) = &self.jobs {
                    // The threads end when the channel does, not before.
                    let _ = jobs.send(job);
                }
                if !closed {
                    self.under_way.insert(job.request, (job, None));
                }
                queued += 1;
            }
            if let Some(next) = due.get(queued) {
                wait = wait.min(Duration::from_nanos(next.saturating_sub(now)));
            }
            match events.recv_timeout(wait) {
                Ok(told) => self.take(told, sink)?,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(())
    }

    fn take(&mut self, told: Told, sink: &mut dyn Sink) -> Result<(), LoadError> {
        match told {
            Told::Started(job, start_ns) => {
                self.under_way.insert(job.request, (job, Some(start_ns)));
            }
            Told::Over(row, chunks) => {
                self.under_way.remove(&row.request);
                sink.request(&row, &chunks)?;
                self.tally.push(&row, &chunks);
            }
        }
        Ok(())
    }

    /// After a stop: takes what still comes, and writes rows for what does not.
    fn give_up(
        &mut self,
        client: &Client,
        events: &mpsc::Receiver<Told>,
        sink: &mut dyn Sink,
    ) -> Result<(), LoadError> {
        let until = client.now_ns() + GRACE_NS;
        loop {
            let left = until.saturating_sub(client.now_ns());
            // Ends early when every thread has ended.
            match events.recv_timeout(Duration::from_nanos(left)) {
                Ok(told) => self.take(told, sink)?,
                Err(_) => break,
            }
        }
        for (job, start_ns) in std::mem::take(&mut self.under_way).into_values() {
            let row = RequestRow {
                request: job.request,
                status: RequestStatus::Interrupted,
                reason: "the load was stopped".to_owned(),
                due_ns: job.due_ns.or(start_ns).unwrap_or(0),
                start_ns,
                ..RequestRow::default()
            };
            sink.request(&row, &[])?;
            self.tally.push(&row, &[]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_poisson_and_seeded() {
        let some = arrivals(20_000, 50.0, 3);
        assert_eq!(some[..10], arrivals(10, 50.0, 3));
        assert_ne!(some[..10], arrivals(10, 50.0, 4));
        assert!(some.is_sorted());
        let gaps: Vec<f64> = some
            .windows(2)
            .map(|w| (w[1] - w[0]) as f64 * 1e-9)
            .collect();
        let mean = trit_stats::mean(&gaps).unwrap();
        let deviation = trit_stats::standard_deviation(&gaps).unwrap();
        // Mean and deviation of an exponential are the same; four standard errors of 20,000 gaps are 3 % (and 6 %).
        assert!((mean * 50.0 - 1.0).abs() < 0.03, "{mean}");
        assert!((deviation * 50.0 - 1.0).abs() < 0.06, "{deviation}");
    }

    #[test]
    fn addresses_are_checked() {
        let url = |text: &str| text.parse::<Endpoint>().map(|e| e.url(Api::Chat));
        let want = "http://127.0.0.1:8080/v1/chat/completions";
        for good in ["", "/", "/v1", "/v1/"] {
            assert_eq!(url(&format!("http://127.0.0.1:8080{good}")).unwrap(), want);
        }
        assert_eq!(
            url("http://[::1]:80/llm").unwrap(),
            "http://[::1]:80/llm/v1/chat/completions"
        );
        for bad in [
            "",
            "localhost",
            "ftp://x",
            "http://",
            "/v1",
            "http://a b",
            "http://a/?q=1",
        ] {
            let error = url(bad).unwrap_err().to_string();
            assert!(error.contains("http://HOST:PORT"), "{error}");
        }
        assert!(url("https://a").unwrap_err().to_string().contains("TLS"));
    }
}
