//! A server for tests: it speaks as much HTTP and as much of the OpenAI interface as a load needs, with delays that it is told,
//! and keeps what it did and when, by the clock that the load reads too.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use trit_measure::{Clock, MonotonicClock};

/// How one request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A stream: the first token after `ttft_ms`, the others `itl_ms` after one another.
    Tokens {
        ttft_ms: u64,
        itl_ms: u64,
        tokens: usize,
    },
    /// A status that is no success, at once.
    Status(u16),
    /// One token, and then the connection is closed.
    Torn,
    /// An event that reports an error.
    Reports,
    /// Nothing, until whoever asked gives up.
    Silence,
    /// One token, and then nothing.
    Stuck,
}

/// What became of one request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The answer that was chosen.
    pub(crate) answer: Answer,
    /// The body of the request.
    pub(crate) body: String,
    /// When its connection came; delays are counted from here.
    pub(crate) asked_ns: u64,
    /// When each token was handed to the system.
    pub(crate) tokens_ns: Vec<u64>,
}

/// A running server; it ends with the process.
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    seen: Arc<(Mutex<Vec<Seen>>, Condvar)>,
}

impl Stub {
    /// Starts a server that answers request `n` (from 0, in the order in which they arrive) with `answer(n)`.
    pub(crate) fn start(answer: impl Fn(u64) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let count = AtomicU64::new(0);
        let stub = Self {
            address,
            seen: Arc::clone(&seen),
        };
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let asked_ns = MonotonicClock.now_ns();
                let number = count.fetch_add(1, Ordering::SeqCst);
                let seen = Arc::clone(&seen);
                let answer = answer(number);
                std::thread::spawn(move || {
                    let mut record = Seen {
                        answer,
                        body: String::new(),
                        asked_ns,
                        tokens_ns: Vec::new(),
                    };
                    // Whoever asked may leave at any time.
                    let _ = serve(stream.unwrap(), answer, &mut record);
                    seen.0.lock().unwrap().push(record);
                    seen.1.notify_all();
                });
            }
        });
        stub
    }

    /// What it did, once `count` requests are complete: a client has the end of an answer before the server has written it down.
    pub(crate) fn seen(&self, count: usize) -> Vec<Seen> {
        let seen = self.seen.0.lock().unwrap();
        let patience = Duration::from_mins(1);
        let (seen, _) = self
            .seen
            .1
            .wait_timeout_while(seen, patience, |seen| seen.len() < count)
            .unwrap();
        seen.clone()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Waits until the clock shows `until_ns`.
fn wait_until(until_ns: u64) {
    let (_keep, never) = mpsc::channel::<()>();
    loop {
        let left = until_ns.saturating_sub(MonotonicClock.now_ns());
        if left == 0 {
            return;
        }
        let _ = never.recv_timeout(Duration::from_nanos(left));
    }
}

fn serve(mut stream: TcpStream, answer: Answer, record: &mut Seen) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    record.body = String::from_utf8(body).map_err(io::Error::other)?;
    let tokens = match answer {
        Answer::Status(code) => {
            let page = "{\"error\":{\"message\":\"busy\"}}";
            write!(
                stream,
                "HTTP/1.1 {code} No\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
                page.len()
            )?;
            return Ok(());
        }
        Answer::Silence => return until_closed(&mut input),
        Answer::Tokens { tokens, .. } => tokens,
        Answer::Torn | Answer::Stuck => 1,
        Answer::Reports => 0,
    };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )?;
    let mut event = |data: &str| {
        let text = format!("data: {data}\n\n");
        write!(stream, "{:x}\r\n{text}\r\n", text.len())?;
        stream.flush()
    };
    event(r#"{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#)?;
    let mut at_ns = record.asked_ns;
    for index in 0..tokens {
        let pause_ms = match (answer, index) {
            (Answer::Tokens { ttft_ms, .. }, 0) => ttft_ms,
            (Answer::Tokens { itl_ms, .. }, _) => itl_ms,
            _ => 1,
        };
        at_ns += pause_ms * 1_000_000;
        wait_until(at_ns);
        event(r#"{"choices":[{"delta":{"content":" a"},"finish_reason":null}]}"#)?;
        record.tokens_ns.push(MonotonicClock.now_ns());
    }
    match answer {
        Answer::Torn => return Ok(()),
        Answer::Stuck => return until_closed(&mut input),
        Answer::Reports => return event(r#"{"error":{"message":"out of memory"}}"#),
        _ => {}
    }
    event(r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#)?;
    event(&format!(
        r#"{{"choices":[],"usage":{{"prompt_tokens":3,"completion_tokens":{tokens}}}}}"#
    ))?;
    event("[DONE]")?;
    write!(stream, "0\r\n\r\n")
}

/// Waits for the other end to go away.
fn until_closed(input: &mut impl Read) -> io::Result<()> {
    while input.read(&mut [0; 64])? > 0 {}
    Ok(())
}

/// A flag that lives as long as the process, as the one of an interrupt does.
pub(crate) fn flag() -> &'static AtomicBool {
    Box::leak(Box::new(AtomicBool::new(false)))
}
