//! The rows of a run directory.

use std::fmt;
use std::str::FromStr;

use crate::columns::{Column, Columns, WriteField, row};
use crate::field::Field;

/// A closed list of words that is written as one field.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident, $want:literal { $($(#[$variant_meta:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// Every word.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word in files.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|word| word.name() == text)
                    .ok_or_else(|| format!("`{text}` is not {}", $want))
            }
        }

        impl Field for $name {
            const WANT: &'static str = $want;

            fn write(&self) -> String {
                self.name().to_owned()
            }

            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    };
}

words! {
    /// What became of a cell.
    Status, "one of ok skipped wrong failed crashed timeout over_limit invalid projected emulated" {
        /// Measured and verified.
        #[default]
        Ok = "ok",
        /// Not run, for the reason given.
        Skipped = "skipped",
        /// The answer differs from the reference: nothing is timed.
        Wrong = "wrong",
        /// An error was reported.
        Failed = "failed",
        /// The worker died.
        Crashed = "crashed",
        /// The worker did not answer in time.
        Timeout = "timeout",
        /// A stated limit was exceeded.
        OverLimit = "over_limit",
        /// Measured, but something shows that the number cannot be right.
        Invalid = "invalid",
        /// Computed from a part of the model.
        Projected = "projected",
        /// Ran under an emulator: verified, never timed.
        Emulated = "emulated",
    }
}

words! {
    /// What a subject does in a cell.
    Workload, "a workload of suites/WORKLOADS.md" {
        /// One token, weights that were not touched recently.
        #[default]
        GemvCold = "gemv-cold",
        /// One token, the same weights again and again.
        GemvWarm = "gemv-warm",
        /// Several tokens.
        Gemm = "gemm",
        /// Packing ternary codes.
        Pack = "pack",
        /// Preparing activations.
        Prepare = "prepare",
        /// An empty parallel region.
        Dispatch = "dispatch",
        /// Processing a prompt.
        Prefill = "prefill",
        /// Generating token by token.
        Decode = "decode",
        /// Prompt, then generation, from text to text.
        Chat = "chat",
        /// Reading memory as fast as possible.
        Read = "read",
        /// Arithmetic on registers as fast as possible.
        Peak = "peak",
    }
}

words! {
    /// Which side of a pair a sample belongs to.
    Side, "A or B, or empty" {
        /// Not paired.
        #[default]
        Alone = "",
        /// The first subject.
        A = "A",
        /// The second subject.
        B = "B",
    }
}

row! {
    /// The keys of a cell, as in `cells.csv`: written before anything is timed, and again when its status changes
    /// (the last row of a cell counts).
    Cell {
        cell: String = "Identity of the cell within the session.",
        status: Status = "What became of it.",
        reason: String = "Why, when the status is not ok.",
        subject: String = "What is measured: a kernel id, `engine:<kernel id>`, `program:<name>`, `probe:<name>`, `dispatch:<name>`.",
        kernel: String = "The kernel id; empty for probes and programs.",
        layout: String = "Packed form of the weights.",
        weight_bits: Option<f64> = "Stored bits a weight.",
        isa: String = "Instruction set of the kernel.",
        model: String = "Model name or path; `synth:<shape>` for seeded random weights.",
        model_sha256: String = "SHA-256 of the model file; empty for models made in memory.",
        rows: Option<u64> = "Output features of the matrix.",
        k: Option<u64> = "Input features of the matrix.",
        tokens: Option<u64> = "Tokens in one call.",
        workload: Workload = "What is done.",
        threads: Option<u64> = "Threads of the team.",
        cache: String = "cold, warm, or empty where it does not apply.",
        head: String = "Type of the output head.",
        kv: String = "Type of the KV cache.",
        prompt_tokens: Option<u64> = "Tokens of the prompt.",
        gen_tokens: Option<u64> = "Tokens generated.",
        depth: Option<u64> = "Tokens already in the KV cache when timing starts.",
        batch: Option<u64> = "Sequences decoded together.",
        ubatch: Option<u64> = "Tokens of one prefill chunk.",
        bytes_per_call: Option<u64> = "Bytes that one call of a model has to read: weights (ternary ones at most 2.0 bits each), head, KV at the mean position, an embedding row; or that one call of the read probe reads. Empty for single kernels, whose shape says it.",
        ops_per_call: Option<u64> = "Operations of one call of a model or of the peak probe, a multiply and an add being two; empty for single kernels.",
    }
}

row! {
    /// One timed slice, as in `measurements.csv`.
    Measurement {
        cell: String = "The cell.",
        round: u64 = "Which visit to the cell, from 0.",
        block: u64 = "Which ABBA group within the pair, from 0; samples outside of pairs have a block each.",
        side: Side = "Side of the pair, or empty.",
        sample: u64 = "Position within the block, from 0.",
        pair: String = "The other cell of the pair, or empty.",
        iterations: u64 = "Calls in the slice (decode: tokens, prefill: prompts); the times are of the whole slice.",
        time_ns: u64 = "Wall time of the slice, prepare included.",
        prepare_ns: Option<u64> = "Part of it spent preparing activations, where it is measured.",
        user_ns: Option<u64> = "User CPU time of the slice.",
        system_ns: Option<u64> = "System CPU time of the slice.",
        steal_ns: Option<u64> = "Time the hypervisor took from this machine meanwhile.",
        involuntary_switches: Option<u64> = "Involuntary context switches meanwhile.",
        frequency_khz: Option<u64> = "Clock of the first CPU after the slice, where readable.",
        voluntary_switches: Option<u64> = "Voluntary context switches meanwhile: a thread waited.",
        minor_faults: Option<u64> = "Pages that became present meanwhile without reading anything.",
        major_faults: Option<u64> = "Pages that had to be read meanwhile.",
        throttled_ns: Option<u64> = "Time for which the control group was kept from running meanwhile.",
        throttle_count: Option<u64> = "How often a core or package was slowed down for its temperature meanwhile.",
        temperature_mc: Option<i64> = "Hottest sensor of the processor after the slice, in 1/1000 degrees Celsius.",
        load_ns: Option<u64> = "Time the worker took to load the model; on the first sample of each worker.",
        peak_rss_bytes: Option<u64> = "VmHWM of the worker over the visit, where it can be reset.",
        rss_anon_bytes: Option<u64> = "Anonymous part of the resident set after the visit.",
        rss_file_bytes: Option<u64> = "File-backed part of the resident set after the visit.",
        rss_shmem_bytes: Option<u64> = "Shared-memory part of the resident set after the visit.",
    }
}

row! {
    /// One generated token, as in `tokens.csv`.
    TokenRow {
        cell: String = "The cell.",
        round: u64 = "Which visit to the cell, from 0.",
        request: u64 = "Which request of the visit, from 0.",
        index: u64 = "Position among the generated tokens, from 0.",
        token: u64 = "The token id.",
        time_ns: u64 = "From the previous token (for index 0: from the start of the request) to this one.",
    }
}

row! {
    /// The results of a cell, as in the right half of `summary.csv`.
    Results {
        n: Option<u64> = "Samples that count.",
        median_ns: Option<f64> = "Median wall time of one call, request or token.",
        lo_ns: Option<f64> = "Lower end of the 95 % interval of the median.",
        hi_ns: Option<f64> = "Upper end of the 95 % interval of the median.",
        p50_ns: Option<f64> = "50th percentile; empty where n < 100.",
        p90_ns: Option<f64> = "90th percentile; empty where n < 100.",
        p99_ns: Option<f64> = "99th percentile; empty where n < 100.",
        tokens_per_s: Option<f64> = "Tokens a second at the median.",
        gops: Option<f64> = "Billion operations a second at the median; a multiply and an add are two.",
        gb_per_s: Option<f64> = "Weight bytes (and KV bytes) a second at the median, 10^9 each.",
        bandwidth_share: Option<f64> = "Share of the paired read probe's bandwidth.",
        bandwidth_share_lo: Option<f64> = "Lower end of its 95 % interval.",
        bandwidth_share_hi: Option<f64> = "Upper end of its 95 % interval.",
        peak_share: Option<f64> = "Share of the paired arithmetic probe's peak.",
        peak_share_lo: Option<f64> = "Lower end of its 95 % interval.",
        peak_share_hi: Option<f64> = "Upper end of its 95 % interval.",
        ttft_ns: Option<f64> = "Median time from prompt text in a loaded engine to the first sampled token.",
        startup_ttft_ns: Option<f64> = "The same from the start of the process.",
        itl_p50_ns: Option<f64> = "Median inter-token latency.",
        load_ns: Option<f64> = "Time to load the model.",
        peak_rss_bytes: Option<u64> = "VmHWM of the worker over the cell.",
        rss_anon_bytes: Option<u64> = "Anonymous part of the resident set at the end of the cell.",
        rss_file_bytes: Option<u64> = "File-backed part of the resident set at the end of the cell.",
        user_ns: Option<u64> = "User CPU time of all samples.",
        system_ns: Option<u64> = "System CPU time of all samples.",
        energy_status: String = "ok, or why there is no energy.",
        energy_source: String = "Which meter.",
        energy_pkg_uj: Option<u64> = "Package energy of the energy window.",
        energy_dram_uj: Option<u64> = "DRAM energy of the energy window.",
        model_uj: Option<f64> = "Energy from an arithmetic model: an estimate, never a measurement.",
    }
}

words! {
    /// What the ratio of a pair is of.
    PairQuantity, "one of speed-up bandwidth-share peak-share" {
        /// Calls a second of A over those of B.
        #[default]
        SpeedUp = "speed-up",
        /// Bytes a second of A over those of the read probe.
        BandwidthShare = "bandwidth-share",
        /// Operations a second of A over those of the arithmetic probe.
        PeakShare = "peak-share",
    }
}

row! {
    /// The result of one pair, as in `pairs.csv`.
    PairRow {
        a: String = "The cell of side A.",
        b: String = "The cell of side B.",
        subject: String = "What side A measures.",
        against: String = "What side B measures.",
        workload: Workload = "What side A does.",
        rows: Option<u64> = "Output features of the matrix.",
        k: Option<u64> = "Input features of the matrix.",
        tokens: Option<u64> = "Tokens in one call.",
        threads: Option<u64> = "Threads of the team.",
        quantity: PairQuantity = "What the ratio is of.",
        blocks: u64 = "Complete ABBA blocks.",
        ratio: Option<f64> = "Rate of A over the rate of B: Hodges-Lehmann over the blocks, on the log scale.",
        lo: Option<f64> = "Lower end of its 95 % interval.",
        hi: Option<f64> = "Upper end of its 95 % interval.",
    }
}

/// One line of `summary.csv`: keys, then results.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SummaryRow {
    /// The keys.
    pub cell: Cell,
    /// The results.
    pub results: Results,
}

impl Columns for SummaryRow {
    fn columns() -> Vec<Column<Self>> {
        let keys = Cell::columns().into_iter().map(
            |Column {
                 name,
                 doc,
                 write,
                 read,
             }| Column {
                name,
                doc,
                write: Box::new(move |row: &Self| write(&row.cell)) as WriteField<Self>,
                read: Box::new(move |row: &mut Self, text: &str| read(&mut row.cell, text)),
            },
        );
        let results = Results::columns().into_iter().map(
            |Column {
                 name,
                 doc,
                 write,
                 read,
             }| Column {
                name,
                doc,
                write: Box::new(move |row: &Self| write(&row.results)) as WriteField<Self>,
                read: Box::new(move |row: &mut Self, text: &str| read(&mut row.results, text)),
            },
        );
        keys.chain(results).collect()
    }
}
