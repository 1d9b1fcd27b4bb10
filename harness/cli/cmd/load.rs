//! `tritbench load`: put a server under load.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;
use trit_core::{Appender, ChunkRow, RequestRow, RunDir, RunDirError};
use trit_measure::sys::interrupt;
use trit_run::load::{
    Api, Endpoint, LatencyLimits, LoadError, LoadOptions, LoadSummary, Pace, Percentiles, Sink,
    load,
};

use crate::args::{Format, FormatArg, SeedArg, positive};
use crate::cmd::report::record_failure;
use crate::exit::{Exit, Failure, Outcome};
use crate::files;
use crate::out::{Out, Table, human_ns, say};

/// File of the summary in the directory of `--out`.
const SUMMARY_FILE: &str = "load.json";
/// Most users of a closed load, and connections of an open one.
const MAX_CONCURRENCY: usize = 1024;
/// Connections of an open load where nothing is said: enough that arrivals seldom wait for one.
const OPEN_CONCURRENCY: usize = 256;
/// A prompt of about forty tokens.
const PROMPT: &str = "Explain in a few sentences why a weight that is only -1, 0 or 1 needs no multiplication, and what that \
                      means for how fast a processor can run a language model.";

/// Which interface of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ApiArg {
    /// /v1/chat/completions
    Chat,
    /// /v1/completions
    Completions,
}

/// Puts an OpenAI-compatible server under load: latencies, goodput, errors
#[derive(Args, Debug)]
#[command(
    long_about = "Puts an OpenAI-compatible server (llama-server, the server of bitnet.cpp, vLLM) under load and measures time to the \
                  first token (TTFT), time a token after it (TPOT), time between pieces of text (ITL), goodput under limits of \
                  latency, error rate, requests a minute.\n\n\
                  Without --rate the load is closed: --concurrency users each wait for their answer before they ask again. With \
                  --rate it is open: requests arrive at random (Poisson, seeded) however slow the server is, and times count from \
                  the arrival. Every prompt starts with its number, so that a server does not answer from what it kept of another. \
                  Connections go to this machine unless the address names another, are not redirected and use no proxy.\n\n\
                  Exit codes: 1 when there was no complete answer, 130 after Ctrl-C, which keeps what was measured.",
    after_help = "Examples:
  tritbench load
  tritbench load http://127.0.0.1:8080 --concurrency 4 --requests 200 --out loaded
  tritbench load --rate 2 --requests 600 --max-tokens 64 --format json"
)]
pub(crate) struct LoadArgs {
    /// The server
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: Endpoint,

    /// Which interface of it
    #[arg(long, value_enum, value_name = "API", default_value = "chat")]
    api: ApiArg,

    /// The name of the model, for servers that have several
    #[arg(long, value_name = "NAME")]
    served_model: Option<String>,

    /// What to ask [default: a question of about forty tokens]
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,

    /// A file with a prompt a line, asked in turn
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    prompts: Option<PathBuf>,

    /// Send prompts as they are, without a number in front: measures the server's cache of prompts
    #[arg(long)]
    same_prompt: bool,

    /// Most tokens to generate
    #[arg(long, value_name = "N", default_value = "128", value_parser = positive)]
    max_tokens: usize,

    /// Ask for --max-tokens tokens whatever the model says; llama-server and vLLM know it
    #[arg(long)]
    ignore_eos: bool,

    /// Requests that count
    #[arg(long, value_name = "N", default_value = "100", value_parser = positive)]
    requests: usize,

    /// Requests before them that do not count
    #[arg(long, value_name = "N", default_value = "1")]
    warmup: usize,

    /// Users of a closed load, or most connections of an open one [default: 1 closed, 256 open]
    #[arg(long, value_name = "N", value_parser = concurrency)]
    concurrency: Option<usize>,

    /// Arrivals a second of an open load
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,

    /// How long a request may take
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = trit_core::parse_duration)]
    timeout: Duration,

    /// Goodput counts answers whose first token came within this time
    #[arg(long, value_name = "TIME", value_parser = trit_core::parse_duration)]
    ttft_limit: Option<Duration>,

    /// Goodput counts answers whose tokens after the first took at most this time each
    #[arg(long, value_name = "TIME", value_parser = trit_core::parse_duration)]
    tpot_limit: Option<Duration>,

    /// Goodput counts answers whose last token came within this time
    #[arg(long, value_name = "TIME", value_parser = trit_core::parse_duration)]
    latency_limit: Option<Duration>,

    /// Write requests.csv, chunks.csv and load.json to this directory: new or empty
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    #[command(flatten)]
    seed: SeedArg,

    #[command(flatten)]
    format: FormatArg,
}

fn concurrency(text: &str) -> Result<usize, String> {
    positive(text)
        .ok()
        .filter(|n| *n <= MAX_CONCURRENCY)
        .ok_or_else(|| format!("want a whole number from 1 to {MAX_CONCURRENCY}"))
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (1e-3..=1e5).contains(rate))
        .ok_or_else(|| "want a number from 0.001 to 100000".to_owned())
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl LoadArgs {
    fn options(&self) -> Result<LoadOptions, Failure> {
        let prompts = match (&self.prompts, &self.prompt) {
            (Some(path), _) => {
                let text = files::text("prompts", path)?;
                let prompts: Vec<String> = text
                    .lines()
                    .filter(|line| !line.trim().is_empty())
                    .map(str::to_owned)
                    .collect();
                if prompts.is_empty() {
                    return Err(Failure::unusable(anyhow::anyhow!(
                        "`{}` has no prompt; hint: write one a line",
                        path.display()
                    )));
                }
                prompts
            }
            (None, Some(prompt)) => vec![prompt.clone()],
            (None, None) => vec![PROMPT.to_owned()],
        };
        Ok(LoadOptions {
            endpoint: self.url.clone(),
            api: match self.api {
                ApiArg::Chat => Api::Chat,
                ApiArg::Completions => Api::Completions,
            },
            model: self.served_model.clone(),
            prompts,
            same_prompt: self.same_prompt,
            max_tokens: self.max_tokens,
            ignore_eos: self.ignore_eos,
            requests: self.requests,
            warmup: self.warmup,
            pace: self.rate.map_or(Pace::Closed, |rate| Pace::Open { rate }),
            concurrency: self.concurrency.unwrap_or(match self.rate {
                Some(_) => OPEN_CONCURRENCY,
                None => 1,
            }),
            timeout: self.timeout,
            seed: self.seed.seed,
            limits: LatencyLimits {
                ttft_ns: self.ttft_limit.map(nanoseconds),
                tpot_ns: self.tpot_limit.map(nanoseconds),
                latency_ns: self.latency_limit.map(nanoseconds),
            },
        })
    }
}

pub(crate) fn run(args: &LoadArgs) -> Outcome {
    let options = args.options()?;
    let mut place = Place::new(args)?;
    let stop = interrupt::install().map_err(Failure::failed)?;
    say(&format!(
        "asking {} {} times, {}",
        options.endpoint,
        options.requests,
        match options.pace {
            Pace::Closed => format!("{} at a time", options.concurrency),
            Pace::Open { rate } => format!("{rate} a second"),
        }
    ));
    let summary = load(&options, stop, &mut place).map_err(|error| match error {
        LoadError::NoAnswer { .. } | LoadError::Thread { .. } => Failure::failed(error),
        // What was refused is told with the file that it belongs to.
        LoadError::Sink(error) => Failure::failed(error),
    })?;
    place.end(&summary)?;
    let text = match args.format.format {
        Format::Json => {
            let mut text = serde_json::to_string_pretty(&summary).map_err(Failure::failed)?;
            text.push('\n');
            text
        }
        format => table(&summary).render(format),
    };
    Out::new().text(&text)?;
    for (reason, count) in &summary.reasons {
        say(&format!("{count} x {reason}"));
    }
    if stop.load(std::sync::atomic::Ordering::Relaxed) {
        return Ok(Exit::Interrupted);
    }
    if summary.ok == 0 {
        return Err(Failure::failed(anyhow::anyhow!(
            "none of {} requests got a complete answer",
            summary.requests
        )));
    }
    Ok(Exit::Done)
}

/// Where rows go.
struct Place {
    files: Option<(RunDir, Appender<RequestRow>, Appender<ChunkRow>)>,
}

impl Place {
    fn new(args: &LoadArgs) -> Result<Self, Failure> {
        let Some(path) = &args.out else {
            return Ok(Self { files: None });
        };
        let dir = RunDir::create(path).map_err(|error| match error {
            RunDirError::NotEmpty { .. } => Failure::usage(anyhow::anyhow!(
                "{}: is not empty; hint: name another directory",
                path.display()
            )),
            error => record_failure(&error),
        })?;
        let requests = dir.append().map_err(|error| record_failure(&error))?;
        let chunks = dir.append().map_err(|error| record_failure(&error))?;
        Ok(Self {
            files: Some((dir, requests, chunks)),
        })
    }

    fn end(self, summary: &LoadSummary) -> Result<(), Failure> {
        let Some((dir, ..)) = self.files else {
            return Ok(());
        };
        let path = dir.path().join(SUMMARY_FILE);
        let json = serde_json::to_string_pretty(summary).map_err(Failure::failed)?;
        std::fs::write(&path, json + "\n").map_err(|error| {
            Failure::failed(
                anyhow::Error::new(error).context(format!("cannot write `{}`", path.display())),
            )
        })?;
        say(&format!("rows and summary are in {}", dir.path().display()));
        Ok(())
    }
}

impl Sink for Place {
    fn request(&mut self, row: &RequestRow, chunks: &[ChunkRow]) -> io::Result<()> {
        let Some((_, requests, pieces)) = &mut self.files else {
            return Ok(());
        };
        // The pieces first: a request that has a row has all of them.
        pieces.rows(chunks).map_err(io::Error::other)?;
        requests
            .rows(std::slice::from_ref(row))
            .map_err(io::Error::other)
    }
}

/// One fact a row.
fn table(summary: &LoadSummary) -> Table {
    let mut table = Table::new(&["field", "value"]);
    let mut fact = |name: &str, value: Option<String>| {
        table.row([name.into(), value.map_or(Value::Null, Value::String)]);
    };
    let rate = |value: Option<f64>| value.map(|value| format!("{value:.2}"));
    let percent = |value: Option<f64>| value.map(|value| format!("{:.2} %", 100.0 * value));
    for (name, count) in [
        ("requests", summary.requests),
        ("ok", summary.ok),
        ("errors", summary.errors),
        ("timeouts", summary.timeouts),
        ("interrupted", summary.interrupted),
        ("not sent", summary.not_sent),
    ] {
        fact(name, Some(count.to_string()));
    }
    fact("error rate", percent(summary.error_rate));
    fact("time", summary.wall_ns.map(human_ns));
    fact("requests a minute", rate(summary.requests_per_minute));
    let counted = if summary.tokens_counted_by_server {
        "tokens a second"
    } else {
        "pieces of text a second"
    };
    fact(counted, rate(summary.tokens_per_s));
    fact("good answers", Some(summary.good.to_string()));
    fact("good share", percent(summary.good_share));
    fact("goodput a minute", rate(summary.goodput_per_minute));
    for (name, times) in [
        ("TTFT", &summary.ttft),
        ("TPOT", &summary.tpot),
        ("ITL", &summary.itl),
        ("latency", &summary.latency),
    ] {
        let Percentiles {
            mean_ns,
            p50_ns,
            p90_ns,
            p99_ns,
            max_ns,
            ..
        } = *times;
        for (what, value) in [
            ("mean", mean_ns),
            ("p50", p50_ns),
            ("p90", p90_ns),
            ("p99", p99_ns),
            ("max", max_ns),
        ] {
            fact(
                &format!("{name} {what}"),
                value.map(|ns| human_ns(ns.round() as u64)),
            );
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_users_are_bounded() {
        assert_eq!((rate("2.5"), concurrency("4")), (Ok(2.5), Ok(4)));
        for bad in ["0", "-1", "nan", "inf", "x"] {
            assert!(rate(bad).is_err() && concurrency(bad).is_err(), "{bad}");
        }
        assert!(concurrency("1025").is_err());
    }

    #[test]
    fn what_is_missing_is_an_empty_cell() {
        let text = table(&LoadSummary::default()).render(Format::Csv);
        for line in ["TTFT p50,", "error rate,", "requests,0"] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }
}
