//! One request to a server, and the time of each piece of its answer.

use std::io::{BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use trit_core::{ChunkRow, RequestRow, RequestStatus};
use trit_measure::{Clock, MonotonicClock};

use super::{Api, LoadOptions, sse};

/// More pieces than any answer has.
const MAX_CHUNKS: usize = 1 << 20;
/// How much of an error page is shown.
const ERROR_BYTES: u64 = 300;

/// A request that is to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) request: u64,
    /// When it arrives, since the start of the load; without one it is due when it is sent.
    pub(super) due_ns: Option<u64>,
}

/// What the threads share.
pub(super) struct Client {
    agent: ureq::Agent,
    url: String,
    options: LoadOptions,
    /// When the load started.
    origin_ns: u64,
}

impl Client {
    pub(super) fn new(options: &LoadOptions, origin_ns: u64) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(options.timeout))
            // A status is a result here, a redirection leads to another server than the one under test, and a proxy is one more
            // server that would be measured.
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .no_delay(true)
            // A connection for each request: one that the server has closed meanwhile would look like an error of its own.
            .max_idle_connections(0)
            .build();
        Self {
            agent: config.new_agent(),
            url: options.endpoint.url(options.api),
            options: options.clone(),
            origin_ns,
        }
    }

    pub(super) fn now_ns(&self) -> u64 {
        MonotonicClock.now_ns().saturating_sub(self.origin_ns)
    }

    fn body(&self, request: u64) -> Value {
        let options = &self.options;
        let prompt = options.prompt(request);
        let mut body = json!({
            "max_tokens": options.max_tokens,
            "temperature": 0,
            "seed": options.seed,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        match options.api {
            Api::Chat => body["messages"] = json!([{"role": "user", "content": prompt}]),
            Api::Completions => body["prompt"] = prompt.into(),
        }
        if let Some(model) = &options.model {
            body["model"] = model.as_str().into();
        }
        if options.ignore_eos {
            body["ignore_eos"] = true.into();
        }
        body
    }

    /// Makes a request and reads its answer to the end, or until `halt` is set.
    pub(super) fn ask(&self, job: Job, halt: &AtomicBool) -> (RequestRow, Vec<ChunkRow>) {
        let start_ns = self.now_ns();
        let due_ns = job.due_ns.unwrap_or(start_ns);
        let mut answer = Answer::default();
        let result = self.stream(job.request, halt, &mut answer);
        let end_ns = self.now_ns();
        let (status, reason) = match result {
            Ok(()) => (RequestStatus::Ok, String::new()),
            Err(failure) => failure,
        };
        let since_due = |at: &u64| at.saturating_sub(due_ns);
        let (first, last) = (answer.chunks_ns.first(), answer.chunks_ns.last());
        let counted = answer.tokens.unwrap_or(answer.chunks_ns.len() as u64);
        let row = RequestRow {
            request: job.request,
            status,
            reason,
            http_status: answer.http_status,
            due_ns,
            start_ns: Some(start_ns),
            end_ns: Some(end_ns),
            ttft_ns: first.map(since_due),
            latency_ns: last.map(since_due),
            tpot_ns: first
                .zip(last)
                .filter(|_| counted > 1)
                .map(|(first, last)| (last - first) as f64 / (counted - 1) as f64),
            chunks: (answer.http_status.is_some()).then_some(answer.chunks_ns.len() as u64),
            tokens: answer.tokens,
            prompt_tokens: answer.prompt_tokens,
        };
        let mut before = due_ns;
        let chunks = answer
            .chunks_ns
            .iter()
            .zip(0..)
            .map(|(at, index)| ChunkRow {
                request: job.request,
                index,
                time_ns: at.saturating_sub(std::mem::replace(&mut before, *at)),
            })
            .collect();
        (row, chunks)
    }

    fn stream(
        &self,
        request: u64,
        halt: &AtomicBool,
        answer: &mut Answer,
    ) -> Result<(), (RequestStatus, String)> {
        let error = |reason: String| (RequestStatus::Error, one_line(&reason));
        let response = self
            .agent
            .post(&self.url)
            .header("Content-Type", "application/json")
            .header("Accept", "text/event-stream")
            .send(self.body(request).to_string())
            .map_err(|failure| self.failure(failure))?;
        let code = response.status();
        answer.http_status = Some(code.as_u16().into());
        let body = response.into_body().into_reader();
        if !code.is_success() {
            let mut page = Vec::new();
            // What can be read of it is enough.
            let _ = body.take(ERROR_BYTES).read_to_end(&mut page);
            let page = String::from_utf8_lossy(&page);
            return Err(error(format!("status {}: {}", code.as_u16(), page.trim())));
        }
        let mut body = BufReader::new(body);
        let mut finished = false;
        loop {
            if halt.load(Ordering::Relaxed) {
                return Err((
                    RequestStatus::Interrupted,
                    "the load was stopped".to_owned(),
                ));
            }
            let event =
                sse::next_event(&mut body).map_err(|failure| self.failure(failure.into()))?;
            let at_ns = self.now_ns();
            let Some(event) = event else { break };
            let said = sse::parse(&event).map_err(error)?;
            if said.text {
                answer.chunks_ns.push(at_ns);
                if answer.chunks_ns.len() > MAX_CHUNKS {
                    return Err(error(format!("more than {MAX_CHUNKS} pieces of text")));
                }
            }
            finished |= said.finished;
            answer.tokens = said.tokens.or(answer.tokens);
            answer.prompt_tokens = said.prompt_tokens.or(answer.prompt_tokens);
        }
        if !finished {
            return Err(error("the stream ended before the answer did".to_owned()));
        }
        if answer.chunks_ns.is_empty() {
            return Err(error("the answer has no text".to_owned()));
        }
        Ok(())
    }

    fn failure(&self, failure: ureq::Error) -> (RequestStatus, String) {
        match failure {
            ureq::Error::Timeout(_) => (
                RequestStatus::Timeout,
                format!("no complete answer within {}", show(self.options.timeout)),
            ),
            other => (RequestStatus::Error, one_line(&other.to_string())),
        }
    }
}

fn show(duration: Duration) -> String {
    trit_core::show_duration(duration)
}

/// Text from a server in one line of a table.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(ERROR_BYTES as usize)
        .collect()
}

#[derive(Default)]
struct Answer {
    http_status: Option<u64>,
    /// When each piece of text arrived, since the start of the load.
    chunks_ns: Vec<u64>,
    tokens: Option<u64>,
    prompt_tokens: Option<u64>,
}
