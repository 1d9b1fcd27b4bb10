//! The history of many sessions: an append-only store in one file, and the trend of a cell with its change points.

mod store;
mod trend;

pub use store::{MEASURES, Point, Series, Store, StoreError, StoredSession};
pub use trend::{Change, Trend};
