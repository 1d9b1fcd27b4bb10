//! The vocabulary of the harness: suites, plans, cells, rows, sessions. It reads no clock and measures nothing.
//!
//! Rows are what is kept: amounts are stored, rates are derived, and a missing quantity is an empty field, never 0.
//! One table of columns for each file ([`columns`]) drives the writer, the reader and the documentation.
#![forbid(unsafe_code)]

pub mod columns;
mod field;
mod rows;

pub use columns::{Column, Columns};
pub use field::{Field, FieldError};
pub use rows::{Cell, Measurement, Results, Side, Status, SummaryRow, TokenRow, Workload};
