//! Programs that are not ours: started anew for each sample, timed by what they say themselves, watched from outside.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use trit_core::{ProgramOutput, ProgramTask};
use trit_measure::sys::process::dies_with_us;
use trit_measure::{Memory, Roots, children_times};

use super::{Done, Fault, Outside, Subject};
use crate::protocol::{Answer, Opened, Task};

/// Most bytes of output that are kept of each stream.
const MAX_OUTPUT: u64 = 16 << 20;
/// How often its memory is looked at. Peaks are counted by the kernel; what ends between two looks is the last of them.
const LOOK: Duration = Duration::from_millis(10);
/// How much of what it said is told in an error.
const TOLD_CHARS: usize = 200;

/// What a program did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    calls: u64,
    time_ns: u64,
}

/// How a run of a program ended.
struct Ran {
    stdout: String,
    stderr: String,
    outside: Outside,
}

/// One program with its arguments.
pub(super) struct Program {
    task: ProgramTask,
    /// Calls that the cell asks for: prompts or tokens of a run.
    tokens: u64,
    text: Option<String>,
    model_sha256: String,
    max_rss_bytes: u64,
}

impl Program {
    pub(super) fn open(task: &Task) -> Result<Self, Fault> {
        let program = task
            .program
            .clone()
            .ok_or_else(|| Fault::failed("a program without a command"))?;
        let model_sha256 = trit_engine::file::sha256(task.model.as_ref()).map_err(Fault::failed)?;
        let text = match &program.check {
            Some(check) => Some(run(&check.command, 0)?.stdout),
            None => None,
        };
        let tokens = if program.prefill {
            task.prompt_tokens
        } else {
            task.gen_tokens
        };
        Ok(Self {
            task: program,
            tokens,
            text,
            model_sha256,
            max_rss_bytes: task.max_rss_bytes,
        })
    }
}

impl Subject for Program {
    fn opened(&self) -> Opened {
        Opened {
            model_sha256: self.model_sha256.clone(),
            check: self.text.clone(),
            ..Opened::default()
        }
    }

    /// A program warms up by itself, or does not: that is part of what it is.
    fn warm_up(&mut self, _calls: u64) -> Result<(), Fault> {
        Ok(())
    }

    fn poison(&mut self) {}

    fn slice(&mut self, iterations: u64) -> Result<Done, Fault> {
        let mut all = Done::default();
        for _ in 0..iterations {
            let ran = run(&self.task.command, self.max_rss_bytes)?;
            let said = parse(&ran, self.task.output, self.task.prefill, self.tokens)?;
            all.calls += said.calls;
            all.time_ns += said.time_ns;
            let outside = all.outside.get_or_insert_default();
            *outside = outside.and(&ran.outside);
        }
        Ok(all)
    }

    /// Its answers are compared once, when it is opened: what it prints while it is timed are times.
    fn answers(&mut self) -> Result<Vec<Answer>, Fault> {
        Ok(Vec::new())
    }
}

/// The lines of a stream, in a thread of its own, so that no full pipe stops the program.
fn collect(stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut stream = stream;
        // What was read until an error is what there is.
        let _ = stream.by_ref().take(MAX_OUTPUT).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
        let _ = io::copy(&mut stream, &mut io::sink());
    });
    receiver
}

/// Looks at the memory of a program until it has closed its output. One that takes more than it may is killed.
fn watch(
    child: &mut Child,
    output: &Receiver<Vec<u8>>,
    max_rss_bytes: u64,
) -> Result<(Vec<u8>, Memory), Fault> {
    let mut largest = Memory::default();
    loop {
        let answer = output.recv_timeout(LOOK);
        let now = Memory::read(&Roots::default(), Some(child.id()));
        let peak = largest.peak_rss_bytes.max(now.peak_rss_bytes);
        if now.rss_bytes >= largest.rss_bytes {
            largest = now;
        }
        largest.peak_rss_bytes = peak;
        if let Some(rss) = now
            .rss_bytes
            .filter(|rss| max_rss_bytes > 0 && *rss > max_rss_bytes)
        {
            // It fails only for a process that is gone already.
            let _gone = child.kill();
            let _status = child.wait();
            return Err(Fault::over_limit(format!(
                "its resident set grew to {} MB, {} MB are allowed; it was killed",
                rss / 1_000_000,
                max_rss_bytes / 1_000_000
            )));
        }
        match answer {
            Ok(bytes) => return Ok((bytes, largest)),
            Err(RecvTimeoutError::Disconnected) => return Ok((Vec::new(), largest)),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Runs a command to its end, which comes early when it takes more than `max_rss_bytes` (0: as much as it likes).
fn run(command: &[String], max_rss_bytes: u64) -> Result<Ran, Fault> {
    let (name, arguments) = command
        .split_first()
        .ok_or_else(|| Fault::failed("an empty command"))?;
    let mut starting = Command::new(name);
    starting
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    dies_with_us(&mut starting);
    let before = children_times();
    let mut child = starting.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Fault::unsupported(format!(
            "`{name}` is not installed; hint: put it on the PATH, or write its path in the suite"
        )),
        _ => Fault::failed(format!("cannot start `{name}`: {error}")),
    })?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let stdout = stdout.map(collect);
    let stderr = stderr.map(collect);
    let (bytes, memory) = match &stdout {
        Some(output) => watch(&mut child, output, max_rss_bytes)?,
        None => (Vec::new(), Memory::default()),
    };
    let status = child
        .wait()
        .map_err(|error| Fault::failed(format!("cannot wait for `{name}`: {error}")))?;
    let complaints = stderr.and_then(|stream| stream.recv().ok());
    let complaints = complaints.unwrap_or_default();
    let stderr = String::from_utf8_lossy(&complaints).into_owned();
    if !status.success() {
        return Err(ended(name, status, &stderr));
    }
    let cpu = children_times()
        .zip(before)
        .map(|(after, before)| after.since(&before));
    Ok(Ran {
        stdout: String::from_utf8_lossy(&bytes).into_owned(),
        stderr,
        outside: Outside { cpu, memory },
    })
}

fn ended(name: &str, status: ExitStatus, stderr: &str) -> Fault {
    let last = stderr.lines().rev().find(|line| !line.trim().is_empty());
    let said = last.map_or_else(String::new, |line| format!(": {}", start_of(line)));
    Fault::failed(format!("`{name}` ended with {status}{said}"))
}

fn start_of(text: &str) -> String {
    text.trim().chars().take(TOLD_CHARS).collect()
}

/// The part of a test of `llama-bench` that counts.
#[derive(Deserialize)]
struct BenchTest {
    n_prompt: u64,
    n_gen: u64,
    samples_ns: Vec<u64>,
}

/// The tests that `llama-bench` prints, as lines of objects (`-o jsonl`) or as one list of them (`-o json`, all that some forks know);
/// what else it says, before or in the middle of a list, is talk.
fn bench_tests(stdout: &str) -> Result<Vec<BenchTest>, Fault> {
    let wrong = |text: &str, what: &str, error: &serde_json::Error| {
        Fault::failed(format!(
            "`{}` is not {what} of llama-bench: {error}",
            start_of(text)
        ))
    };
    let mut tests = Vec::new();
    let mut at = 0;
    for line in stdout.split_inclusive('\n') {
        let rest = &stdout[at..];
        at += line.len();
        if line.trim() == "[" {
            // A list has its brackets, names and values on lines of their own.
            let of_list = |line: &&str| {
                line.trim_start()
                    .starts_with(['[', ']', '{', '}', '"', ','])
            };
            let lines: Vec<&str> = rest.lines().filter(of_list).collect();
            let text = lines.join("\n");
            let mut lists = serde_json::Deserializer::from_str(&text).into_iter();
            let list: Option<Result<Vec<BenchTest>, _>> = lists.next();
            let list = list.unwrap_or_else(|| Ok(Vec::new()));
            tests.extend(list.map_err(|error| wrong(&text, "a list", &error))?);
            break;
        }
        if line.trim_start().starts_with('{') {
            let test = serde_json::from_str(line);
            tests.push(test.map_err(|error| wrong(line, "a line", &error))?);
        }
    }
    Ok(tests)
}

/// Nanoseconds and tokens of a line of llama.cpp's timings, of prompts or of generated tokens. What stands before is the name of a function.
fn timing(line: &str, prefill: bool) -> Option<(u64, u64)> {
    let (before, rest) = line.split_once("eval time =")?;
    if before.trim_end().ends_with("prompt") != prefill {
        return None;
    }
    let (millis, rest) = rest.split_once("ms /")?;
    let millis: f64 = millis.trim().parse().ok()?;
    let tokens = rest.split_whitespace().next()?.parse().ok()?;
    let known = millis.is_finite() && millis >= 0.0;
    known.then_some(((millis * 1e6) as u64, tokens))
}

/// What the output says about prompts or generated tokens; `tokens` is how many of them a run was asked for.
fn parse(ran: &Ran, output: ProgramOutput, prefill: bool, tokens: u64) -> Result<Said, Fault> {
    let stdout = &ran.stdout;
    let mut said = Said {
        calls: 0,
        time_ns: 0,
    };
    let mut add = |calls: u64, time_ns: u64| {
        said.calls = said.calls.saturating_add(calls);
        said.time_ns = said.time_ns.saturating_add(time_ns);
    };
    match output {
        ProgramOutput::LlamaBench => {
            for test in bench_tests(stdout)? {
                // Tests that mix both say nothing about either.
                let fits = if prefill {
                    test.n_prompt == tokens && test.n_gen == 0
                } else {
                    test.n_gen == tokens && test.n_prompt == 0
                };
                if fits {
                    for time_ns in test.samples_ns {
                        add(if prefill { 1 } else { tokens }, time_ns);
                    }
                }
            }
        }
        ProgramOutput::NanosTokens => {
            let lines = stdout.lines().filter_map(|line| {
                let (nanos, tokens) = line.trim().split_once(',')?;
                Some((nanos.trim().parse().ok()?, tokens.trim().parse().ok()?))
            });
            for (time_ns, done) in lines {
                if prefill && done != tokens {
                    return Err(Fault::failed(format!(
                        "it says that it processed {done} tokens, and was asked for {tokens}"
                    )));
                }
                add(if prefill { 1 } else { done }, time_ns);
            }
        }
        ProgramOutput::LlamaTimings => {
            let lines = stdout.lines().chain(ran.stderr.lines());
            for (time_ns, done) in lines.filter_map(|line| timing(line, prefill)) {
                if prefill && !done.is_multiple_of(tokens) {
                    return Err(Fault::failed(format!(
                        "it says that it processed {done} tokens, which are no prompts of {tokens}"
                    )));
                }
                add(if prefill { done / tokens } else { done }, time_ns);
            }
        }
    }
    if said.calls == 0 || said.time_ns == 0 {
        let what = if prefill { "a prompt of" } else { "generating" };
        return Err(Fault::failed(format!(
            "it printed no time of {what} {tokens} tokens; it printed `{}`",
            start_of(if stdout.trim().is_empty() {
                &ran.stderr
            } else {
                stdout
            })
        )));
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BENCH: &str = concat!(
        "ggml: some talk\n",
        r#"{"build_commit":"1","n_prompt":512,"n_gen":0,"samples_ns":[2000,3000],"avg_ts":1.5}"#,
        "\n",
        r#"{"build_commit":"1","n_prompt":0,"n_gen":128,"samples_ns":[7000],"avg_ts":1.5}"#,
        "\n",
        r#"{"build_commit":"1","n_prompt":512,"n_gen":128,"samples_ns":[9000],"avg_ts":1.5}"#,
        "\n",
    );

    /// Reads what a program printed, on both streams.
    fn said_by(
        [stdout, stderr]: [&str; 2],
        output: ProgramOutput,
        prefill: bool,
        tokens: u64,
    ) -> Result<Said, Fault> {
        let ran = Ran {
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
            outside: Outside::default(),
        };
        parse(&ran, output, prefill, tokens)
    }

    fn parse_text(
        text: &str,
        output: ProgramOutput,
        prefill: bool,
        tokens: u64,
    ) -> Result<Said, Fault> {
        said_by([text, ""], output, prefill, tokens)
    }

    /// Ends of runs of `llama-cli` and `llama-perplexity`, of llama.cpp and a fork.
    const TIMINGS: [&str; 2] = [
        concat!(
            "main: prompt eval time =       1.53 ms /     9 tokens (    0.17 ms per token,  5867.01 tokens per second)\n",
            "main:        eval time =       4.68 ms /    16 tokens (    0.29 ms per token,  3420.27 tokens per second)\n",
            "main:       total time =       6.21 ms /    25 tokens\n",
        ),
        concat!(
            "llama_print_timings:        load time =   907.71 ms\n",
            "llama_print_timings:      sample time =   301.80 ms /   512 runs   (    0.59 ms per token)\n",
            "llama_print_timings: prompt eval time =  6294.68 ms /  1024 tokens (   23.23 ms per token)\n",
            "llama_print_timings:        eval time =     0.00 ms /     1 runs   (     inf ms per token)\n",
        ),
    ];

    #[test]
    fn timings_of_llama_cpp_are_read_from_both_streams() {
        let timings = ProgramOutput::LlamaTimings;
        let [cli, perplexity] = TIMINGS;
        let said = |calls, time_ns| Ok(Said { calls, time_ns });
        assert_eq!(
            said_by(["a text", cli], timings, true, 9),
            said(1, 1_530_000)
        );
        assert_eq!(said_by([cli, ""], timings, false, 16), said(16, 4_680_000));
        // A text is so many prompts.
        let of_text = said_by(["", perplexity], timings, true, 512);
        assert_eq!(of_text, said(2, 6_294_680_000));
        let torn = said_by(["", perplexity], timings, true, 500).unwrap_err();
        assert!(torn.message.contains("no prompts of 500"), "{torn}");
        // It generated nothing, and says nothing else.
        let nothing = said_by(["", perplexity], timings, false, 16).unwrap_err();
        assert!(nothing.message.contains("llama_print_timings"), "{nothing}");
        said_by(["eval time = NaN ms / 4 runs", ""], timings, false, 4).unwrap_err();
        said_by(["eval time = 3 ms / -4 runs", ""], timings, false, 4).unwrap_err();
    }

    #[test]
    fn what_programs_print_is_read() {
        let bench = |prefill, tokens| parse_text(BENCH, ProgramOutput::LlamaBench, prefill, tokens);
        let said = |calls, time_ns| Ok(Said { calls, time_ns });
        assert_eq!(bench(true, 512), said(2, 5000));
        assert_eq!(bench(false, 128), said(128, 7000));
        let error = bench(false, 64).unwrap_err().message;
        assert!(error.contains("64 tokens"), "{error}");
        let lines = "loading\n 1000, 16\n2000,16\n";
        let nanos =
            |text, prefill, tokens| parse_text(text, ProgramOutput::NanosTokens, prefill, tokens);
        assert_eq!(nanos(lines, false, 32), said(32, 3000));
        assert_eq!(nanos(lines, true, 16), said(2, 3000));
        nanos(lines, true, 8).unwrap_err();
        nanos("0,4\n", false, 4).unwrap_err();
        nanos("", false, 4).unwrap_err();
        parse_text("{\"n_prompt\": 1}", ProgramOutput::LlamaBench, true, 1).unwrap_err();
    }

    /// What `-o json` of a fork prints, which knows no JSON lines.
    const BENCH_LIST: &str = r#"
~ggml_backend: some talk [
[
WARNING: some talk of a library
  {
    "build_commit": "abc",
    "n_prompt": 0,
    "n_gen": 64,
    "avg_ns": 8000,
    "samples_ns": [ 7000, 9000 ],
    "samples_ts": [ 9.1, 7.1 ]
  },
  {
    "n_prompt": 32,
    "n_gen": 0,
    "samples_ns": [ 500 ],
    "samples_ts": [ 64.0 ]
  }
]
{ this is talk again
"#;

    #[test]
    fn lists_of_tests_are_read() {
        let bench =
            |text, prefill, tokens| parse_text(text, ProgramOutput::LlamaBench, prefill, tokens);
        let said = |calls, time_ns| Ok(Said { calls, time_ns });
        assert_eq!(bench(BENCH_LIST, false, 64), said(128, 16_000));
        assert_eq!(bench(BENCH_LIST, true, 32), said(1, 500));
        bench(BENCH_LIST, true, 64).unwrap_err();
        // One that was cut off, and one without anything.
        let torn = bench("[\n  {\n    \"n_prompt\": 3", true, 3).unwrap_err();
        assert!(torn.message.contains("not a list of llama-bench"), "{torn}");
        bench("[\n]\n", true, 3).unwrap_err();
    }

    #[test]
    fn programs_are_run_and_watched() {
        let shell = |script: &str| ["sh", "-c", script].map(str::to_owned).to_vec();
        let ran = run(&shell("echo 5,1; echo talk >&2"), 0).unwrap();
        assert_eq!(ran.stdout, "5,1\n");
        assert!(ran.outside.cpu.is_some());
        let fault = run(&shell("echo first >&2; echo broken >&2; exit 4"), 0)
            .map(|_| ())
            .unwrap_err();
        assert!(fault.message.contains("exit status: 4: broken"), "{fault}");
        let missing = ["no-such-program-here".to_owned()];
        let fault = run(&missing, 0).map(|_| ()).unwrap_err();
        assert_eq!(fault.kind, crate::protocol::FailureKind::Unsupported);
        assert!(fault.message.contains("not installed"), "{fault}");
        // It would go on for a minute if nobody ended it.
        let greedy = shell(
            "x=$(head -c 30000000 /dev/zero | tr '\\0' x); i=0; while [ $i -lt 20000000 ]; do i=$((i+1)); done; echo ${#x}",
        );
        let fault = run(&greedy, 10_000_000).map(|_| ()).unwrap_err();
        assert_eq!(
            fault.kind,
            crate::protocol::FailureKind::OverLimit,
            "{fault}"
        );
        assert!(fault.message.contains("10 MB"), "{fault}");
    }
}
