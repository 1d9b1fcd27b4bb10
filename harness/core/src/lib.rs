//! The vocabulary of the harness: suites, plans, cells, rows, sessions. It reads no clock and measures nothing.
//!
//! Rows are what is kept: amounts are stored, rates are derived, and a missing quantity is an empty field, never 0.
//! One table of columns for each file ([`columns`]) drives the writer, the reader and the documentation.
#![forbid(unsafe_code)]

mod blocks;
mod claims;
pub mod columns;
mod duration;
mod energy;
mod field;
mod generate;
mod limits;
mod plan;
mod program;
mod prompts;
mod rows;
mod run_dir;
mod session;
mod shapes;
mod suite;
mod suites;
mod task;

pub use blocks::{Discard, MEAN, PairedBlock, log_ratios, paired_blocks};
pub use claims::{
    ArithmeticShape, ArithmeticWeight, Claim, Published, Quantity, Source, embedded_claims,
    parse_claims,
};
pub use columns::{Column, Columns};
pub use duration::{DurationError, parse_duration, show_duration};
pub use energy::{EnergyFacts, EnergyMode, EnergyPlan, EnergySettings, IdlePower, MeterChoice};
pub use field::{Field, FieldError};
pub use generate::{Generate, ModelOptions, ModelRequest, ModelTest};
pub use limits::{
    ALLOWED_SLOWDOWN_PERCENT, Budget, CellLimits, Limits, MIN_EFFECT_PERCENT, Observed, Violation,
};
pub use plan::{NOT_MEASURED, Plan, PlannedCell, PlannedPair, Rng, Station, UNFINISHED, is_final};
pub use program::{Program, ProgramCheck, ProgramOutput, ProgramTask};
pub use prompts::{BYTES_A_TOKEN, embedded_prompt, prompt_estimate, prompt_names};
pub use rows::{
    Cell, ChunkRow, EnergyRow, EnergyWindow, EvalRow, Measurement, PairQuantity, PairRow, PowerRow,
    RequestRow, RequestStatus, Results, Side, Status, SummaryRow, TimelineRow, TokenRow, Workload,
};
pub use run_dir::{Appender, RunDir, RunDirError, SESSION_FILE, Table, read_rows};
pub use session::{Build, Comparison, Probe, SCHEMA, Session, Taken};
pub use shapes::{
    BUILTIN_MODELS, Matrix, ModelShape, embedded_shape, shape_names, synthetic_shape,
};
pub use suite::{Micro, Pair, PairSubject, Selector, ShapeRef, Suite, SuiteError, ThreadCount};
pub use suites::{embedded_suite, suite_names};
pub use task::{Choices, Task, embedded_task, task_names};
