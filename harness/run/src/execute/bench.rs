//! Workers by what they are for, and the cells that are open in them.

use std::collections::BTreeMap;
use std::time::Duration;

use trit_core::{Cell, Station};

use super::master::Trouble;
use crate::process::{Worker, WorkerCommand, WorkerError};
use crate::protocol::{FailureKind, Reply, Request};
use trit_core::Status;

/// The worker of the reference.
pub(super) const REFERENCE: &str = "reference";

/// One worker and its cells.
#[derive(Debug, Default)]
struct Bench {
    worker: Option<Worker>,
    /// Slots of open cells.
    open: BTreeMap<String, u64>,
    next: u64,
}

/// All workers that live.
#[derive(Debug)]
pub(super) struct Benches {
    command: WorkerCommand,
    start: Duration,
    /// The largest resident set of a worker that is measured.
    max_rss_bytes: Option<u64>,
    by_key: BTreeMap<String, Bench>,
}

/// The worker of a cell that is measured by itself.
pub(crate) fn bench_key(station: Station, cell: &Cell) -> String {
    match station {
        // Prompts and depths are matters of a request, not of the engine. Caches of many sequences would be part of the memory
        // of cells with one.
        Station::Engine if starts(cell) => cell.cell.clone(),
        Station::Engine => format!(
            "engine {} {} t{:?} {} {} u{:?} b{:?}",
            cell.kernel, cell.model, cell.threads, cell.kv, cell.head, cell.ubatch, cell.batch
        ),
        Station::Program => format!("{} {}", cell.subject, cell.model),
        Station::Kernel | Station::Pair if cell.kernel.is_empty() => cell.subject.clone(),
        Station::Kernel | Station::Pair => format!("kernel {}", cell.kernel),
    }
}

/// Whether the start of its process belongs to what a cell measures.
pub(crate) fn starts(cell: &Cell) -> bool {
    !cell.page_cache.is_empty() || !cell.packed_cache.is_empty()
}

impl Benches {
    pub(super) fn new(command: WorkerCommand, start: Duration, max_rss_bytes: Option<u64>) -> Self {
        Self {
            command,
            start,
            max_rss_bytes,
            by_key: BTreeMap::new(),
        }
    }

    /// The slot of an open cell.
    pub(super) fn slot(&self, key: &str, cell: &str) -> Option<u64> {
        let bench = self.by_key.get(key)?;
        bench.worker.as_ref()?;
        bench.open.get(cell).copied()
    }

    /// A slot for a cell that is about to be opened.
    pub(super) fn new_slot(&mut self, key: &str) -> u64 {
        let bench = self.by_key.entry(key.to_owned()).or_default();
        bench.next += 1;
        bench.next
    }

    /// The cell is open in that slot.
    pub(super) fn opened(&mut self, key: &str, cell: &str, slot: u64) {
        let bench = self.by_key.entry(key.to_owned()).or_default();
        bench.open.insert(cell.to_owned(), slot);
    }

    /// Asks the worker `key`, starting it when there is none, and calls `meanwhile` now and then while it waits. After a failure of the worker itself there is none again.
    pub(super) fn ask(
        &mut self,
        key: &str,
        request: &Request,
        timeout: Duration,
        interrupted: &dyn Fn() -> bool,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Reply, Trouble> {
        let bench = self.by_key.entry(key.to_owned()).or_default();
        let mut worker = if let Some(worker) = bench.worker.take() {
            worker
        } else {
            bench.open.clear();
            let mut worker = Worker::start(&self.command, self.start, interrupted)
                .map_err(|error| trouble(&error))?;
            // The reference may take what it needs: it is not measured.
            worker.limit_rss(self.max_rss_bytes.filter(|_| key != REFERENCE));
            worker
        };
        match worker.ask_meanwhile(request, timeout, interrupted, meanwhile) {
            Ok(Reply::Failure { kind, message }) => {
                bench.worker = Some(worker);
                Err(failure(kind, message))
            }
            Ok(reply) => {
                bench.worker = Some(worker);
                Ok(reply)
            }
            Err(error) => {
                bench.open.clear();
                Err(trouble(&error))
            }
        }
    }

    /// How long the worker took to start.
    pub(super) fn startup_ns(&self, key: &str) -> Option<u64> {
        let worker = self.by_key.get(key)?.worker.as_ref()?;
        Some(worker.startup_ns)
    }

    /// Ends one worker.
    pub(super) fn close(&mut self, key: &str) {
        if let Some(worker) = self.by_key.remove(key).and_then(|bench| bench.worker) {
            worker.stop(self.start);
        }
    }

    /// Ends all workers.
    pub(super) fn close_all(&mut self) {
        let keys: Vec<String> = self.by_key.keys().cloned().collect();
        for key in keys {
            self.close(&key);
        }
    }

    /// The workers that live.
    pub(super) fn keys(&self) -> Vec<String> {
        self.by_key.keys().cloned().collect()
    }
}

/// What the end of a worker means for the cell that it was asked about.
fn trouble(error: &WorkerError) -> Trouble {
    let status = match error {
        WorkerError::Interrupted => return Trouble::Interrupted,
        WorkerError::Died { .. } => Status::Crashed,
        WorkerError::OverLimit { .. } => Status::OverLimit,
        WorkerError::Timeout(_) => Status::Timeout,
        WorkerError::Start { .. } | WorkerError::Protocol(_) => Status::Failed,
    };
    Trouble::Stop {
        status,
        reason: error.to_string(),
        content: false,
    }
}

/// What a failure that a worker reports means for the cell.
fn failure(kind: FailureKind, message: String) -> Trouble {
    let status = match kind {
        FailureKind::Unsupported => Status::Skipped,
        FailureKind::OverLimit => Status::OverLimit,
        FailureKind::Wrong => Status::Wrong,
        FailureKind::Failed | FailureKind::Content | FailureKind::Other => Status::Failed,
    };
    Trouble::Stop {
        status,
        reason: message,
        content: kind == FailureKind::Content,
    }
}
