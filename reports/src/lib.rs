//! Rows to summaries, tables, charts and reports. It reads run directories and measures nothing, so that a laptop can read
//! what a server recorded: the same rows give the same bytes.
//!
//! The way of the data: [`summarize`] turns samples into a row a cell, [`render`] and [`terminal_table`] show rows as text,
//! [`write_charts`] draws them, [`write_report_md`] tells the story, [`contrast()`] sets sources side by side,
//! [`gate_record`] judges a comparison of two builds, and [`history`] keeps the results of many sessions.
#![forbid(unsafe_code)]

mod arithmetic;
mod batches;
mod beside;
pub mod chart;
mod claims;
mod compare;
mod compose;
mod contrast;
mod document;
mod energy;
mod energy_section;
mod error;
mod exchange;
mod facts;
mod format;
mod gate;
pub mod history;
mod html;
mod joules;
mod labels;
mod lookup;
mod machines;
mod markdown;
mod pairs;
mod projection;
mod record;
mod sheet;
mod speedup;
mod summary;
mod table;
mod units;
mod whole;

pub use chart::{
    ChartData, Heading, PartKind, Phase, PhasePart, write_charts, write_history, write_phases,
    write_quality, write_timeline,
};
pub use claims::{ClaimVerdict, claims_paper};
pub use contrast::{
    Contrast, ContrastError, ContrastRow, Entry, Filter, Question, Source, contrast, contrast_keys,
    contrast_measures, contrast_text,
};
pub use error::ReportError;
pub use exchange::{ExchangeError, ExportFormat, ImportFacts, ImportFormat, export, import};
pub use facts::machine_line;
pub use format::{Format, UnknownFormat, render};
pub use gate::{
    Finding, GateCell, GateEnd, GateError, GateReport, GateViolation, Replay, ReplayRow,
    UnpairedError, alarm_finding, alarms_explained, gate_csv, gate_json, gate_junit, gate_markdown,
    gate_record, gate_table, gate_unpaired, read_summaries, replay, replay_findings,
};
pub use html::write_report_html;
pub use joules::energy_paper;
pub use machines::{MachineRun, MachinesError, machines_paper};
pub use markdown::write_report_md;
pub use pairs::pair_rows;
pub use record::Record;
pub use sheet::Paper;
pub use speedup::{UnknownBaseline, speedup_paper};
pub use summary::{SHARE_LIMIT, Samples, Tables, samples, summarize, summarize_rows};
pub use table::terminal_table;
pub use units::{show_bytes, show_ns, show_rate};
pub use whole::write_all;
