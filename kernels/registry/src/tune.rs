//! A measured table of which kernel is fastest where, and the choice that follows from it.

use serde::{Deserialize, Serialize};
use trit_kernel::{Cpu, KernelEntry, LayoutId};

use crate::find;

/// The version of the table that this code writes and reads.
pub const TUNE_SCHEMA: u32 = 1;

/// Time of one call of one kernel in one situation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunedTime {
    /// The kernel.
    pub kernel: String,
    /// Output features.
    pub rows: u64,
    /// Input features.
    pub k: u64,
    /// Tokens in one call; one token is measured with weights that come from memory.
    pub tokens: u64,
    /// Threads.
    pub threads: u64,
    /// Median time of one call, preparing included.
    pub time_ns: f64,
}

/// What was measured on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuneTable {
    /// [`TUNE_SCHEMA`].
    pub schema: u32,
    /// Version of the program that measured: kernels change.
    pub version: String,
    /// Fingerprint of the machine: another machine's times say nothing.
    pub machine: String,
    /// The times.
    pub times: Vec<TunedTime>,
}

/// Why a table cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TuneError {
    /// Not a table.
    #[error("{0}")]
    Text(String),
    /// A table of another version.
    #[error("schema {0} is not {TUNE_SCHEMA}; hint: run `tritbench tune` again")]
    Schema(u32),
    /// A time that is none.
    #[error("times[{at}].{field}: {value} makes no sense; hint: run `tritbench tune` again")]
    Value {
        /// Which entry.
        at: usize,
        /// Its field.
        field: &'static str,
        /// What it holds.
        value: String,
    },
}

/// One situation to choose for: rows, K, tokens, threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub k: usize,
    /// Tokens in one call.
    pub tokens: usize,
    /// Threads.
    pub threads: usize,
}

impl TunedTime {
    /// How far this measurement is from a situation: thread count first, then tokens, then the size of the matrix; each on
    /// the log scale, because costs are ratios.
    fn distance(&self, place: Situation) -> [f64; 3] {
        let ratio =
            |measured: u64, asked: usize| (measured.max(1) as f64 / asked.max(1) as f64).ln().abs();
        [
            ratio(self.threads, place.threads),
            // One token is another regime than several: memory, and not arithmetic.
            ratio(self.tokens, place.tokens)
                + f64::from(u8::from((self.tokens > 1) != (place.tokens > 1))) * 100.0,
            ratio(self.rows, place.rows) + ratio(self.k, place.k),
        ]
    }

    /// Time of one weight and token.
    fn cost(&self) -> f64 {
        self.time_ns / (self.rows * self.k * self.tokens) as f64
    }
}

impl TuneTable {
    /// Reads a table from JSON and checks every value.
    ///
    /// # Errors
    /// When the text is no table, is one of another schema, or holds a size of 0 or a time that is not positive.
    pub fn parse(text: &str) -> Result<Self, TuneError> {
        let table: Self =
            serde_json::from_str(text).map_err(|error| TuneError::Text(error.to_string()))?;
        if table.schema != TUNE_SCHEMA {
            return Err(TuneError::Schema(table.schema));
        }
        for (at, time) in table.times.iter().enumerate() {
            let sizes = [
                ("rows", time.rows),
                ("k", time.k),
                ("tokens", time.tokens),
                ("threads", time.threads),
            ];
            // The product of three such sizes fits in 64 bits.
            for (field, value) in sizes {
                if !(1..=1 << 20).contains(&value) {
                    let value = value.to_string();
                    return Err(TuneError::Value { at, field, value });
                }
            }
            if !(time.time_ns.is_finite() && time.time_ns > 0.0) {
                let value = time.time_ns.to_string();
                return Err(TuneError::Value {
                    at,
                    field: "time_ns",
                    value,
                });
            }
        }
        Ok(table)
    }

    /// Expected time of one call of `kernel`, from the nearest situation in which it was measured.
    pub fn time_ns(&self, kernel: &str, place: Situation) -> Option<f64> {
        let nearest = self
            .times
            .iter()
            .filter(|time| time.kernel == kernel)
            .min_by(|a, b| {
                let (a, b) = (a.distance(place), b.distance(place));
                a.iter()
                    .zip(&b)
                    .map(|(a, b)| a.total_cmp(b))
                    .find(|order| order.is_ne())
                    .unwrap_or(std::cmp::Ordering::Equal)
            })?;
        let work = place.rows as f64 * place.k as f64 * place.tokens.max(1) as f64;
        Some(nearest.cost() * work)
    }

    /// The kernel that opens on `cpu` and takes the least time for all of `places` together; only those that read `layout`, where one is
    /// given. Nothing when none was measured.
    pub fn best(
        &self,
        cpu: Cpu,
        places: &[Situation],
        layout: Option<LayoutId>,
    ) -> Option<&'static KernelEntry> {
        let mut ids: Vec<&str> = self.times.iter().map(|time| time.kernel.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        let tokens = places.iter().map(|place| place.tokens.max(1)).min()?;
        ids.into_iter()
            // A table may know kernels that this version does not have any more.
            .filter_map(|id| find(id).ok())
            .filter(|entry| entry.info.min_tokens <= tokens)
            .filter(|entry| layout.is_none_or(|layout| entry.info.accepts.contains(&layout)))
            .filter(|entry| (entry.open)(cpu).is_ok())
            .filter_map(|entry| {
                let times = places
                    .iter()
                    .map(|place| self.time_ns(entry.info.id, *place));
                Some((times.sum::<Option<f64>>()?, entry))
            })
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use trit_kernel::Isa;

    use super::*;

    fn time(kernel: &str, rows: u64, tokens: u64, threads: u64, time_ns: f64) -> TunedTime {
        TunedTime {
            kernel: kernel.into(),
            rows,
            k: 1000,
            tokens,
            threads,
            time_ns,
        }
    }

    fn table() -> TuneTable {
        TuneTable {
            schema: TUNE_SCHEMA,
            version: "0".into(),
            machine: "m".into(),
            times: vec![
                time("w2a8-naive-scalar", 1000, 1, 1, 4e6),
                time("w2a8-swar-scalar", 1000, 1, 1, 2e6),
                time("w2a8-naive-scalar", 1000, 1, 2, 1e6),
                time("w2a8-swar-scalar", 1000, 1, 2, 3e6),
                time("w2a8-naive-scalar", 1000, 16, 1, 16e6),
                time("w2a8-swar-scalar", 1000, 16, 1, 32e6),
                time("w2a8-gone-scalar", 1000, 1, 1, 1.0),
            ],
        }
    }

    fn place(tokens: usize, threads: usize) -> Situation {
        Situation {
            rows: 2000,
            k: 1000,
            tokens,
            threads,
        }
    }

    #[test]
    fn the_nearest_measurement_decides() {
        let (table, cpu) = (table(), Cpu::capped(Isa::Scalar));
        let best = |places: &[Situation]| table.best(cpu, places, None).map(|entry| entry.info.id);
        assert_eq!(best(&[place(1, 1)]), Some("w2a8-swar-scalar"));
        assert_eq!(best(&[place(1, 2)]), Some("w2a8-naive-scalar"));
        assert_eq!(best(&[place(1, 64)]), Some("w2a8-naive-scalar"));
        // Two tokens are nearer to one, and still of the regime of sixteen.
        assert_eq!(best(&[place(2, 1)]), Some("w2a8-naive-scalar"));
        // Twice the rows take twice the time; a sum decides for several places: 4 + 8 against 8 + 16, and 8 + 0.5 against 4 + 1.
        assert_eq!(table.time_ns("w2a8-swar-scalar", place(1, 1)), Some(4e6));
        assert_eq!(best(&[place(1, 1), place(1, 2)]), Some("w2a8-naive-scalar"));
        assert_eq!(best(&[]), None);
        assert_eq!(table.time_ns("w2a8-mad-avx2", place(1, 1)), None);
        let layout = table.best(cpu, &[place(1, 1)], Some(LayoutId::R16));
        assert_eq!(layout.map(|entry| entry.info.id), Some("w2a8-naive-scalar"));
    }

    #[test]
    fn tables_survive_json_and_nonsense_is_refused() {
        let text = serde_json::to_string(&table()).unwrap();
        assert_eq!(TuneTable::parse(&text), Ok(table()));
        let message = |text: &str| TuneTable::parse(text).unwrap_err().to_string();
        assert!(message("{").contains("EOF"));
        assert!(
            message(&text.replace("\"schema\":1", "\"schema\":2")).starts_with("schema 2 is not 1")
        );
        assert!(
            message(&text.replacen("\"threads\":1", "\"threads\":0", 1))
                .starts_with("times[0].threads: 0")
        );
        assert!(message(&text.replace(":2000000.0", ":-1.0")).starts_with("times[1].time_ns: -1"));
        assert!(message(&text.replace("\"rows\"", "\"row\"")).contains("row"));
    }
}
