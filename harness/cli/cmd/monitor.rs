//! `tritbench monitor`: watch any program.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use clap::{Args, ValueEnum};
use trit_core::{Appender, Columns, RunDir, RunDirError, TimelineRow, Violation};
use trit_measure::default_threads;
use trit_run::monitor::{Live, LiveOptions, MonitorOptions, MonitorSummary, Sink, World, watch};

use crate::args::SysfsArg;
use crate::cmd::report::{record_failure, report_failure};
use crate::exit::{Exit, Failure, Outcome};
use crate::files;
use crate::out::{Out, human_bytes, human_ns, say, stdout_failure};

/// Shorter intervals measure the monitor.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);
/// File of the summary in the directory of `--out`.
const SUMMARY_FILE: &str = "monitor.json";

/// How the looks are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rows {
    /// A header, and a line a look as it is taken
    Csv,
    /// One object with `rows` and `summary`
    Json,
}

/// Watches a program: memory, CPU, energy, temperature, alerts when a limit is exceeded
#[derive(Args, Debug)]
#[command(
    long_about = "Watches a program and everything it starts: resident set by kind, CPU time, faults, switches, clock rate, temperature \
                  and energy, on a fixed schedule, into the columns of timeline.csv. The summary with peaks and means goes to stderr.\n\n\
                  What the program prints goes where it would without the monitor; with --format, stdout is the monitor's and the \
                  program's goes to stderr. Signals are passed on to the program. Limits come from the [limits] table of a TOML file. \
                  Limits on latency, rate, errors and energy a token need a program that prints lines `NANOSECONDS,TOKENS` (or \
                  `NANOSECONDS,error`) to its stdout, one for each request, call or token; other lines are left alone.\n\n\
                  Exit codes: 3 when a limit was exceeded, else 130 after Ctrl-C, else 1 when the program failed.",
    after_help = "Examples:
  tritbench monitor -- tritbench generate --model model.gguf --prompt 'Once upon a time'
  tritbench monitor --limits limits.toml --out watched -- ./server --port 8080
  tritbench monitor --interval 50ms --format json -- make > build.json"
)]
pub(crate) struct MonitorArgs {
    /// Time from one look to the next, at least 10ms
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = interval)]
    interval: Duration,

    /// CPU use, rates and errors are judged over this much time
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = interval)]
    window: Duration,

    /// A TOML file with a `[limits]` table; cell patterns match `program:NAME`
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,

    /// Read the program's stdout for lines with its progress, also when no limit needs them
    #[arg(long)]
    lines: bool,

    /// Write timeline.csv, monitor.json and a chart to this directory: new or empty
    #[arg(long, value_name = "DIR", conflicts_with = "format")]
    out: Option<PathBuf>,

    /// Print the looks to stdout
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Rows>,

    #[command(flatten)]
    sysfs: SysfsArg,

    /// The program and its arguments, after `--`
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<OsString>,
}

fn interval(text: &str) -> Result<Duration, String> {
    trit_core::parse_duration(text)
        .ok()
        .filter(|interval| *interval >= LEAST_INTERVAL)
        .ok_or_else(|| "want a time of at least 10ms, such as 100ms, 1s or 1m30s".to_owned())
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn run(args: &MonitorArgs) -> Outcome {
    let limits = files::limits(args.limits.as_deref())?;
    let roots = args.sysfs.roots()?;
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(Failure::usage(anyhow::anyhow!(
            "there is no command; hint: name it after `--`"
        )));
    };
    let shown = program.to_string_lossy().into_owned();
    let name = Path::new(program)
        .file_name()
        .map_or_else(|| shown.clone(), |name| name.to_string_lossy().into_owned());
    let options = MonitorOptions {
        limits: limits.of(&format!("program:{name}")),
        cell: format!("program:{name}"),
        interval_ns: nanoseconds(args.interval),
        window_ns: nanoseconds(args.window),
        cpus: default_threads(),
    };
    for pattern in limits.unused(&[&options.cell]) {
        say(&format!(
            "note: the limits of `{pattern}` are for other cells than `{}`",
            options.cell
        ));
    }
    let mut place = Place::new(args)?;
    let mut command = Command::new(program);
    command.args(arguments);
    let read_output = args.lines || options.needs_lines();
    if !read_output && args.format.is_some() {
        command.stdout(stderr_of_ours()?);
    }
    let mut live = Live::start(LiveOptions {
        command,
        read_output,
        roots,
    })
    .map_err(|error| {
        Failure::failed(anyhow::Error::new(error).context(format!("cannot start `{shown}`")))
    })?;
    let summary = match watch(&mut live, &options, &mut place) {
        Ok(summary) => summary,
        Err(error) => {
            // Nobody is left to see what it does.
            let _ = live.send(SIGTERM);
            return Err(place.failure(error));
        }
    };
    say(&describe(&summary));
    place.end(&summary)?;
    verdict(&summary, &shown)
}

/// Asks a program to end; the number is the same on every supported system.
const SIGTERM: i32 = 15;
/// Ctrl-C.
const SIGINT: i32 = 2;

/// Standard error of this process, for a program whose output must not mix with data.
fn stderr_of_ours() -> Result<Stdio, Failure> {
    use std::os::fd::AsFd;
    let copy = io::stderr().as_fd().try_clone_to_owned();
    copy.map(Stdio::from).map_err(Failure::failed)
}

/// A limit first, then an interrupt, then the program's own failure.
fn verdict(summary: &MonitorSummary, program: &str) -> Outcome {
    if !summary.violations.is_empty() {
        return Ok(Exit::OverLimit);
    }
    if summary.signal == Some(SIGINT) {
        return Ok(Exit::Interrupted);
    }
    match (summary.exit_code, summary.exit_signal) {
        (Some(0), _) => Ok(Exit::Done),
        (Some(code), _) => Err(Failure::failed(anyhow::anyhow!(
            "`{program}` failed with exit code {code}"
        ))),
        (None, Some(signal)) => Err(Failure::failed(anyhow::anyhow!(
            "`{program}` was ended by {}",
            ExitStatus::from_raw(signal)
        ))),
        (None, None) => Err(Failure::failed(anyhow::anyhow!(
            "`{program}` ended without an exit code"
        ))),
    }
}

/// Where rows go.
enum Place {
    /// Nowhere: the summary alone.
    Stderr,
    /// A directory.
    Dir(RunDir, Appender<TimelineRow>),
    /// Lines of CSV.
    Csv(Out),
    /// One JSON object; whether a row was written.
    Json(Out, bool),
}

impl Place {
    fn new(args: &MonitorArgs) -> Result<Self, Failure> {
        if let Some(path) = &args.out {
            let dir = RunDir::create(path).map_err(|error| match error {
                RunDirError::NotEmpty { .. } => Failure::usage(anyhow::anyhow!(
                    "{}: is not empty; hint: name another directory",
                    path.display()
                )),
                error => record_failure(&error),
            })?;
            let rows = dir.append().map_err(|error| record_failure(&error))?;
            return Ok(Self::Dir(dir, rows));
        }
        Ok(match args.format {
            None => Self::Stderr,
            Some(Rows::Csv) => {
                let mut out = Out::new();
                out.text(&(TimelineRow::header().join(",") + "\n"))?;
                Self::Csv(out)
            }
            Some(Rows::Json) => {
                let mut out = Out::new();
                out.text("{\"rows\": [")?;
                Self::Json(out, false)
            }
        })
    }

    /// What an error while watching means.
    fn failure(&self, error: io::Error) -> Failure {
        match self {
            Self::Csv(_) | Self::Json(..) => stdout_failure(&error),
            Self::Stderr | Self::Dir(..) => {
                Failure::failed(anyhow::Error::new(error).context("cannot go on watching"))
            }
        }
    }

    /// The summary, where it belongs.
    fn end(self, summary: &MonitorSummary) -> Result<(), Failure> {
        let json = serde_json::to_string_pretty(summary).map_err(Failure::failed)?;
        match self {
            Self::Stderr | Self::Csv(_) => Ok(()),
            Self::Json(mut out, _) => out.text(&format!("\n],\n\"summary\": {json}}}\n")),
            Self::Dir(dir, rows) => {
                drop(rows);
                let path = dir.path().join(SUMMARY_FILE);
                std::fs::write(&path, json + "\n").map_err(|error| {
                    Failure::failed(
                        anyhow::Error::new(error)
                            .context(format!("cannot write `{}`", path.display())),
                    )
                })?;
                let chart = trit_report::write_timeline(&dir, &summary.cell);
                chart.map_err(|error| report_failure(&error))?;
                say(&format!(
                    "rows, summary and chart are in {}",
                    dir.path().display()
                ));
                Ok(())
            }
        }
    }
}

impl Sink for Place {
    fn row(&mut self, row: &TimelineRow) -> io::Result<()> {
        match self {
            Self::Stderr => Ok(()),
            Self::Dir(_, rows) => rows
                .rows(std::slice::from_ref(row))
                .map_err(io::Error::other),
            Self::Csv(out) => {
                // Names of programs may have commas.
                let fields = row.record();
                let mut line = fields.iter().fold(String::new(), |mut line, field| {
                    if !line.is_empty() {
                        line.push(',');
                    }
                    line.push_str(&crate::out::csv_field(field));
                    line
                });
                line.push('\n');
                out.raw().write_all(line.as_bytes())?;
                out.raw().flush()
            }
            Self::Json(out, any) => {
                let row = serde_json::to_string(row).map_err(io::Error::other)?;
                let before = if std::mem::replace(any, true) {
                    ","
                } else {
                    ""
                };
                out.raw().write_all(format!("{before}\n{row}").as_bytes())?;
                out.raw().flush()
            }
        }
    }

    fn alert(&mut self, violation: &Violation, at_ns: u64) {
        say(&format!("alert after {}: {violation}", human_ns(at_ns)));
    }

    fn output(&mut self, bytes: &[u8]) -> io::Result<()> {
        let passed_on = match self {
            Self::Stderr | Self::Dir(..) => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush())
            }
            Self::Csv(_) | Self::Json(..) => io::stderr().write_all(bytes),
        };
        match passed_on {
            // Nobody reads what the program prints: its own affair, and it is watched nevertheless.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}

/// The summary for people.
fn describe(summary: &MonitorSummary) -> String {
    let unknown = || "unknown".to_owned();
    let bytes = |bytes: Option<u64>| bytes.map_or_else(unknown, human_bytes);
    let count = |count: Option<u64>| count.map_or_else(unknown, |count| count.to_string());
    let percent = |value: Option<f64>| value.map_or_else(unknown, |value| format!("{value:.1} %"));
    let time = |ns: Option<u64>| ns.map_or_else(unknown, human_ns);
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    line(
        "watched",
        format!(
            "{} for {}, {} looks every {}{}",
            summary.cell,
            human_ns(summary.wall_ns),
            summary.samples,
            human_ns(summary.interval_ns),
            match summary.missed {
                0 => String::new(),
                missed => format!(", {missed} missed"),
            }
        ),
    );
    line(
        "memory",
        format!(
            "peak RSS {} of one process (kernel); all processes: peak {}, mean {}; anonymous {}, files {}, PSS {}, huge pages {}; control group {}",
            bytes(summary.peak_rss_bytes),
            bytes(summary.rss_bytes_peak),
            bytes(summary.rss_bytes_mean.map(|mean| mean as u64)),
            bytes(summary.rss_anon_bytes_peak),
            bytes(summary.rss_file_bytes_peak),
            bytes(summary.pss_bytes_peak),
            bytes(summary.anon_huge_bytes_peak),
            bytes(summary.cgroup_peak_bytes),
        ),
    );
    line(
        "cpu",
        format!(
            "mean {}, peak over {} {} of {} CPUs; user {}, system {}; processes {}, threads {}",
            percent(summary.cpu_percent_mean),
            human_ns(summary.window_ns),
            percent(summary.cpu_percent_peak),
            summary.cpus,
            time(summary.user_ns),
            time(summary.system_ns),
            count(summary.processes_peak),
            count(summary.threads_peak),
        ),
    );
    line(
        "events",
        format!(
            "faults {} minor, {} major; switches {} voluntary, {} not; steal {}; throttled {}, {} times for heat",
            count(summary.minor_faults),
            count(summary.major_faults),
            count(summary.voluntary_switches),
            count(summary.involuntary_switches),
            time(summary.steal_ns),
            time(summary.throttled_ns),
            count(summary.throttle_count),
        ),
    );
    line(
        "machine",
        format!(
            "clock mean {}, lowest {}; temperature {}",
            summary
                .frequency_khz_mean
                .map_or_else(unknown, |khz| format!("{:.0} MHz", khz / 1e3)),
            summary
                .frequency_khz_low
                .map_or_else(unknown, |khz| format!("{} MHz", khz / 1000)),
            summary
                .temperature_mc_peak
                .map_or_else(unknown, |mc| format!("{:.1} °C", mc as f64 / 1e3)),
        ),
    );
    if let Some(requests) = summary.requests {
        line(
            "progress",
            format!(
                "{requests} requests, {} failed; {} tokens, {}; latency mean {}, longest {}",
                count(summary.errors),
                count(summary.tokens),
                summary
                    .tokens_per_s_mean
                    .map_or_else(unknown, |rate| format!("{rate:.1} tokens/s")),
                time(summary.latency_ns_mean.map(|mean| mean as u64)),
                time(summary.latency_ns_peak),
            ),
        );
    }
    line(
        "energy",
        match (summary.energy_pkg_uj, summary.package_w_mean) {
            (Some(uj), Some(watts)) => format!(
                "packages {:.3} J, mean {watts:.2} W, by {}{}",
                uj as f64 / 1e6,
                summary.energy_source,
                summary
                    .j_per_token
                    .map_or_else(String::new, |joules| format!("; {joules:.4} J/token")),
            ),
            _ => format!(
                "none ({}): {}",
                summary.energy_status, summary.energy_reason
            ),
        },
    );
    line(
        "monitor",
        format!(
            "CPU time {}, monitor_cpu_share {} of one core",
            human_ns(summary.monitor_cpu_ns),
            summary
                .monitor_cpu_share
                .map_or_else(unknown, |share| format!("{:.3} %", share * 100.0)),
        ),
    );
    for overrun in &summary.violations {
        line(
            "exceeded",
            format!(
                "{}, first after {}",
                overrun.text,
                human_ns(overrun.first_at_ns)
            ),
        );
    }
    if !summary.not_judged.is_empty() {
        line(
            "not judged",
            format!("{}: nothing was seen", summary.not_judged.join(", ")),
        );
    }
    text.trim_end().to_owned()
}
