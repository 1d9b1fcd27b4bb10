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
        /// Fixed work that is the same in every build.
        Control = "control",
        /// One call of a benchmark of another tool, as it was imported.
        Bench = "bench",
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

words! {
    /// What a row of `energy.csv` is about.
    EnergyWindow, "cell, idle-before, idle-after, or empty" {
        /// No window: the row says why the cell has none.
        #[default]
        None = "",
        /// The cell in a loop.
        Cell = "cell",
        /// Nothing of ours ran, before the first window of a part of the session.
        IdleBefore = "idle-before",
        /// Nothing of ours ran, after the last one.
        IdleAfter = "idle-after",
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
        model: String = "Model name or path; `synth:<shape>` for seeded random weights, `builtin:<name>` for a model of the program.",
        model_sha256: String = "SHA-256 of the model file; empty for models made in memory.",
        rows: Option<u64> = "Output features of the matrix.",
        k: Option<u64> = "Input features of the matrix.",
        tokens: Option<u64> = "Tokens in one call.",
        workload: Workload = "What is done.",
        threads: Option<u64> = "Threads of the team.",
        cache: String = "cold, warm, or empty where it does not apply.",
        head: String = "Type of the output head.",
        kv: String = "Type of the KV cache.",
        prompt: String = later "Name of the text that is the prompt, with `, seeded ids` where the model has no tokenizer to spell it with; empty for random tokens.",
        prompt_tokens: Option<u64> = "Tokens of the prompt.",
        gen_tokens: Option<u64> = "Tokens generated, by each sequence.",
        depth: Option<u64> = "Tokens already in the KV cache when timing starts.",
        batch: Option<u64> = "Sequences decoded together.",
        ubatch: Option<u64> = "Tokens of one prefill chunk.",
        page_cache: String = later "What the page cache held of the model's files before they were loaded, as was looked up: warm (99 % of them at least) or cold (nothing); empty where nobody looked.",
        packed_cache: String = later "`yes` where packed weights were read from a cache on disk; else empty.",
        bytes_per_call: Option<u64> = "Bytes that one call of a model has to read: weights (ternary ones at most 2.0 bits each), head, KV at the mean position, an embedding row; or that one call of the read probe reads. Empty for single kernels, whose shape says it.",
        ops_per_call: Option<u64> = "Operations of one call of a model or of the peak probe, a multiply and an add being two; empty for single kernels.",
        linear_weights: Option<u64> = later "Weights of the ternary linears of a model, head and embedding not counted; empty for single kernels.",
        attention_width: Option<u64> = later "Layers times query heads times their width; empty for single kernels.",
        projected_from: String = later "Of a projected cell: the two cells whose times it continues, separated by a space.",
        answer: String = later "Of a program: `checked` when what it says was compared with ours, `checked on <model>` when that was done with another file, `unchecked` when it was not; empty for our own subjects, which always are.",
    }
}

row! {
    /// One timed slice, as in `measurements.csv`.
    Measurement {
        cell: String = "The cell.",
        round: u64 = "Which visit to the cell, from 0; in a comparison of two builds its phase: 0, and 1 for the confirmation.",
        block: u64 = "Which ABBA group within the pair, from 0; samples outside of pairs have a block each.",
        side: Side = "Side of the pair, or empty.",
        sample: u64 = "Position within the block, from 0.",
        pair: String = "The other cell of the pair, or empty.",
        iterations: u64 = "Calls in the slice (decode: steps, each a token of every sequence; prefill: prompts); the times are of the whole slice.",
        time_ns: u64 = "Wall time of the slice, prepare included.",
        prepare_ns: Option<u64> = "Part of it spent preparing activations, where it is measured.",
        user_ns: Option<u64> = "User CPU time of the slice.",
        system_ns: Option<u64> = "System CPU time of the slice.",
        steal_ns: Option<u64> = "Time the hypervisor took from this machine meanwhile.",
        involuntary_switches: Option<u64> = "Involuntary context switches meanwhile.",
        frequency_khz: Option<u64> = "Clock of the first CPU after the slice, where readable.",
        voluntary_switches: Option<u64> = later "Voluntary context switches meanwhile: a thread waited.",
        minor_faults: Option<u64> = later "Pages that became present meanwhile without reading anything.",
        major_faults: Option<u64> = later "Pages that had to be read meanwhile.",
        throttled_ns: Option<u64> = later "Time for which the control group was kept from running meanwhile.",
        throttle_count: Option<u64> = later "How often a core or package was slowed down for its temperature meanwhile.",
        temperature_mc: Option<i64> = later "Hottest sensor of the processor after the slice, in 1/1000 degrees Celsius.",
        cycles: Option<u64> = later "Cycles of the worker's threads in user mode meanwhile, where counters are permitted.",
        instructions: Option<u64> = later "Instructions that they retired, likewise.",
        llc_misses: Option<u64> = later "Reads that the last level of cache did not have, likewise; empty where the processor has no exact event.",
        load_ns: Option<u64> = "Time the worker took to load the model; on the first sample of each worker.",
        startup_ttft_ns: Option<u64> = later "From the start of the worker's process to the first token, the time in which it waited to be asked left out; only of cells with `page_cache` or `packed_cache`.",
        peak_rss_bytes: Option<u64> = "VmHWM of the worker over the visit, where it can be reset.",
        rss_anon_bytes: Option<u64> = "Anonymous part of the resident set after the visit.",
        rss_file_bytes: Option<u64> = "File-backed part of the resident set after the visit.",
        rss_shmem_bytes: Option<u64> = later "Shared-memory part of the resident set after the visit.",
        process: Option<u64> = later "In a comparison of two builds: which pair of processes of the round, from 0.",
    }
}

row! {
    /// One energy window, or why a cell has none, as in `energy.csv`.
    EnergyRow {
        cell: String = "The cell; empty for idle windows.",
        window: EnergyWindow = "cell, idle-before or idle-after; empty in a row that says why a cell has no window.",
        part: u64 = "How often the session had been resumed when the window was taken.",
        round: u64 = "Which window of the cell, from 0; for a pair which block.",
        block: u64 = "Which ABBA group within the pair, from 0; windows outside of pairs have a block each.",
        side: Side = "Side of the pair, or empty.",
        sample: u64 = "Position within the block, from 0.",
        pair: String = "The other cell of the pair, or empty.",
        start_ns: Option<u64> = "Start of the window, since the start of this part of the session.",
        start_unix_ns: Option<u64> = "Start of the window since 1970 UTC: by it the log of a meter outside of the machine is merged.",
        end_unix_ns: Option<u64> = "End of the window since 1970 UTC.",
        window_ns: Option<u64> = "Length of the window, by the readings of the meter.",
        time_ns: Option<u64> = "Wall time of the calls within it, by the worker.",
        iterations: Option<u64> = "Calls in the window (decode: tokens, prefill: prompts).",
        tokens: Option<u64> = "Tokens in the window; empty where a call has none.",
        pkg_uj: Option<u64> = "Gross energy of the processor packages.",
        dram_uj: Option<u64> = "Gross energy of memory that has meters; not part of the packages.",
        psys_uj: Option<u64> = "Gross energy of the whole platform where it has a meter; contains the packages.",
        core_uj: Option<u64> = "Gross energy of the cores; part of the packages.",
        uncore_uj: Option<u64> = "Gross energy of graphics and the like; part of the packages.",
        wall_uj: Option<u64> = "Gross energy at the plug or on the board, by a meter outside of the machine.",
        idle_w: Option<f64> = "Power of the headline domain in the idle window before, in watts.",
        user_ns: Option<u64> = "User CPU time of the worker meanwhile.",
        system_ns: Option<u64> = "System CPU time of the worker meanwhile.",
        others_cpu_share: Option<f64> = "CPU time of other processes as a share of the time of one CPU.",
        status: String = "ok, or a word that says why there is no energy.",
        reason: String = "The same in a sentence.",
        source: String = "Which meter.",
        domains: String = "The domains that it read, separated by spaces.",
        mirrored_dies: String = "yes where dies showed one counter and one of them was counted.",
    }
}

row! {
    /// What the meter counted between two looks during the energy pass, as in `power.csv`: up to ten a second.
    PowerRow {
        part: u64 = "How often the session had been resumed.",
        phase: String = "idle, or the workload of the cell.",
        cell: String = "The cell; empty when idle.",
        at_ns: u64 = "End of the interval, since the start of this part of the session.",
        length_ns: u64 = "Length of the interval.",
        pkg_uj: Option<u64> = "Energy of the processor packages.",
        dram_uj: Option<u64> = "Energy of memory.",
        psys_uj: Option<u64> = "Energy of the platform.",
        core_uj: Option<u64> = "Energy of the cores.",
        uncore_uj: Option<u64> = "Energy of graphics and the like.",
        wall_uj: Option<u64> = "Energy by a meter outside of the machine.",
    }
}

row! {
    /// One generated token, as in `tokens.csv`.
    TokenRow {
        cell: String = "The cell.",
        round: u64 = "Which visit to the cell, from 0.",
        request: u64 = "Which request of the visit, from 0; sequences that are decoded together are a request each, with one time a step.",
        index: u64 = "Position among the generated tokens, from 0.",
        token: u64 = "The token id.",
        time_ns: u64 = "From the previous token (for index 0: from the start of the request) to this one.",
    }
}

row! {
    /// What a process and those it started had and used at a moment, as in `timeline.csv`. Amounts of time, faults,
    /// switches, energy and tokens are since the start of the process.
    TimelineRow {
        cell: String = "The cell; `program:<name>` for a monitored program.",
        round: Option<u64> = "Which visit to the cell; empty while a model is loaded, and for programs.",
        phase: String = "load, prefill or decode; run for a monitored program, and end for what it used in all.",
        unix_ns: u64 = "When, in nanoseconds since 1970 UTC.",
        monotonic_ns: u64 = "When, by the clock of the process that looked, since its start.",
        processes: Option<u64> = "Processes that live.",
        threads: Option<u64> = "Their threads.",
        rss_bytes: Option<u64> = "Their resident sets; shared pages are in each of them.",
        rss_anon_bytes: Option<u64> = "The anonymous part.",
        rss_file_bytes: Option<u64> = "The file-backed part.",
        rss_shmem_bytes: Option<u64> = "The shared-memory part.",
        pss_bytes: Option<u64> = "Their proportional sets, at the moments at which this was looked at.",
        anon_huge_bytes: Option<u64> = "Anonymous memory on transparent huge pages, at the same moments.",
        numa_bytes: String = "Resident bytes by NUMA node, as `<node>=<bytes>` separated by spaces; at the ends of phases.",
        peak_rss_bytes: Option<u64> = "Largest resident set of any one of them so far (VmHWM; at the end `ru_maxrss`).",
        cgroup_peak_bytes: Option<u64> = "Largest memory of the control group so far, page cache and others in it included.",
        user_ns: Option<u64> = "User CPU time.",
        system_ns: Option<u64> = "System CPU time.",
        minor_faults: Option<u64> = "Pages that became present without reading anything.",
        major_faults: Option<u64> = "Pages that had to be read.",
        voluntary_switches: Option<u64> = "Voluntary context switches of the threads that live, at the moments at which this was looked at; at the end of all.",
        involuntary_switches: Option<u64> = "Involuntary context switches, likewise.",
        steal_ns: Option<u64> = "Time that the hypervisor took from this machine.",
        throttled_ns: Option<u64> = "Time for which the control group was kept from running.",
        throttle_count: Option<u64> = "How often a core or package was slowed down for its temperature.",
        frequency_khz: Option<u64> = "Clock of the first CPU, where readable.",
        temperature_mc: Option<i64> = "Hottest sensor of the processor, in 1/1000 degrees Celsius.",
        energy_pkg_uj: Option<u64> = "Energy of the processor packages.",
        energy_dram_uj: Option<u64> = "Energy of memory.",
        tokens: Option<u64> = "Tokens that the program told of.",
        tokens_ns: Option<u64> = "Time that it told for them.",
        requests: Option<u64> = "Requests that it told of, failed ones included.",
        errors: Option<u64> = "Requests that it told had failed.",
    }
}

words! {
    /// What became of a request to a server.
    RequestStatus, "one of ok error timeout interrupted" {
        /// A complete answer.
        Ok = "ok",
        /// No connection, a status that is no success, or a broken answer.
        #[default]
        Error = "error",
        /// No complete answer in the time it was given.
        Timeout = "timeout",
        /// Under way when the load was stopped.
        Interrupted = "interrupted",
    }
}

row! {
    /// One request to a server, as in `requests.csv`. Times are counted from when the request was due: in an open load when it
    /// arrived, whether or not a connection was free; in a closed load when it was sent.
    RequestRow {
        request: u64 = "Which request, from 0.",
        status: RequestStatus = "ok, error, timeout or interrupted.",
        reason: String = "Why it is not ok.",
        http_status: Option<u64> = "The status code of the answer.",
        due_ns: u64 = "When it was due, since the start of the load.",
        start_ns: Option<u64> = "When it was sent, since the start of the load.",
        end_ns: Option<u64> = "When it was over, since the start of the load.",
        ttft_ns: Option<u64> = "From when it was due to the first piece of text.",
        latency_ns: Option<u64> = "From when it was due to the last piece of text.",
        tpot_ns: Option<f64> = "From the first to the last piece of text, over the tokens after the first.",
        chunks: Option<u64> = "Pieces of text that arrived.",
        tokens: Option<u64> = "Tokens of the answer as the server counted them; empty when it did not tell.",
        prompt_tokens: Option<u64> = "Tokens of the prompt as the server counted them.",
    }
}

row! {
    /// One piece of text of a streamed answer, as in `chunks.csv`.
    ChunkRow {
        request: u64 = "Which request, from 0.",
        index: u64 = "Position among the pieces of the answer, from 0.",
        time_ns: u64 = "From the previous piece (for index 0: from when the request was due) to this one.",
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
        bandwidth_share_lo: Option<f64> = later "Lower end of its 95 % interval.",
        bandwidth_share_hi: Option<f64> = later "Upper end of its 95 % interval.",
        peak_share: Option<f64> = "Share of the paired arithmetic probe's peak.",
        peak_share_lo: Option<f64> = later "Lower end of its 95 % interval.",
        peak_share_hi: Option<f64> = later "Upper end of its 95 % interval.",
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
        energy_reason: String = later "The same in a sentence.",
        energy_source: String = "Which meter.",
        energy_domain: String = later "What the rates below are of: package, platform or wall.",
        energy_windows: Option<u64> = later "Energy windows that count.",
        energy_window_ns: Option<u64> = later "Their length together.",
        energy_pkg_uj: Option<u64> = "Package energy of all energy windows, gross.",
        energy_dram_uj: Option<u64> = "DRAM energy of all energy windows, gross.",
        energy_psys_uj: Option<u64> = later "Platform energy of all energy windows, gross; contains the packages.",
        energy_wall_uj: Option<u64> = later "Energy of all energy windows by a meter outside of the machine, gross.",
        energy_idle_w: Option<f64> = later "Idle power of the headline domain: mean of the windows before and after the session, in watts.",
        energy_net_status: String = later "ok, or why the net values should not be relied on.",
        gross_w: Option<f64> = later "Mean power of the headline domain in the windows, in watts (Hodges-Lehmann over windows).",
        gross_w_lo: Option<f64> = later "Lower end of its 95 % interval; empty below six windows.",
        gross_w_hi: Option<f64> = later "Upper end.",
        gross_j_per_token: Option<f64> = later "Joules of one token: gross energy of a window over its tokens.",
        gross_j_per_token_lo: Option<f64> = later "Lower end of its 95 % interval; empty below six windows.",
        gross_j_per_token_hi: Option<f64> = later "Upper end.",
        net_j_per_token: Option<f64> = later "The same with idle power times the length of the window taken away.",
        net_j_per_token_lo: Option<f64> = later "Lower end of its 95 % interval; the uncertainty of the idle power is not in it.",
        net_j_per_token_hi: Option<f64> = later "Upper end.",
        gross_j_per_request: Option<f64> = later "Joules of one call or prompt; for decode of a whole request, prompt included (from the prefill cell of the same model, kernel, threads and prompt).",
        gross_j_per_request_lo: Option<f64> = later "Lower end of its 95 % interval; for decode both parts in quadrature.",
        gross_j_per_request_hi: Option<f64> = later "Upper end.",
        net_j_per_request: Option<f64> = later "The same, net.",
        edp_js: Option<f64> = later "Energy-delay product: gross joules times seconds of one token, or of one call where a call has no tokens.",
        edp_js_lo: Option<f64> = later "Lower end of its 95 % interval; empty below six windows.",
        edp_js_hi: Option<f64> = later "Upper end.",
        model_uj: Option<f64> = "Arithmetic of one token by a model of 7 nm adders and multipliers, in microjoules: an estimate, never a measurement, without memory and head.",
        model_linear_uj: Option<f64> = later "Part of it spent in the linears.",
        model_attention_uj: Option<f64> = later "Part of it spent in attention at the mean position; empty for single kernels.",
    }
}

words! {
    /// What the ratio of a pair is of.
    PairQuantity, "one of speed-up bandwidth-share peak-share energy program" {
        /// Calls a second of A over those of B.
        #[default]
        SpeedUp = "speed-up",
        /// Bytes a second of A over those of the read probe.
        BandwidthShare = "bandwidth-share",
        /// Operations a second of A over those of the arithmetic probe.
        PeakShare = "peak-share",
        /// Gross joules of a call of A over those of B.
        Energy = "energy",
        /// Calls a second of A over those of B, a program that is not ours and was visited in the same rounds.
        Program = "program",
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
        blocks: u64 = "Complete ABBA blocks; of a program the rounds in which both were visited.",
        ratio: Option<f64> = "Rate (energy: joules of a call) of A over that of B: Hodges-Lehmann over the blocks, on the log scale; of a program the median of the rounds.",
        lo: Option<f64> = "Lower end of its 95 % interval.",
        hi: Option<f64> = "Upper end of its 95 % interval.",
    }
}

row! {
    /// One quality of one configuration, as in `eval.csv`; of one or more evaluations.
    EvalRow {
        config: String = "The configuration: kernel, head, KV cache, activations.",
        kernel: String = "The kernel of prompts, which evaluates text; empty where activations are floats, which no kernel multiplies.",
        head: String = "Type of the output head.",
        kv: String = "Type of the KV cache.",
        activations: String = "What inputs of the projections are rounded to: i8, or f32 for not at all.",
        threads: Option<u64> = "Threads of the team.",
        model: String = "As in cells.csv.",
        model_sha256: String = "SHA-256 of the model file; empty for models made in memory.",
        task: String = "`text:<file>`, the name of a multiple-choice task, or `speed`.",
        data_sha256: String = "SHA-256 of the text or the questions; empty for speed.",
        metric: String = "What `value` is.",
        reference: String = "The configuration it is relative to, or empty.",
        n: u64 = "Tokens, questions or timed slices.",
        value: Option<f64> = "The result.",
        lo: Option<f64> = "Lower end of its 95 % interval.",
        hi: Option<f64> = "Upper end of its 95 % interval.",
        window: Option<u64> = "Tokens of a window of text.",
        stride: Option<u64> = "Tokens that a window advances: those whose prediction counts.",
        model_bytes: Option<u64> = "Bytes of the loaded weights: linears, embedding, head and norms.",
        token_bytes: Option<u64> = "Bytes that decoding one token reads in the middle of a window.",
        reported: Option<f64> = "What the report of BitNet b1.58 2B4T gives for its model on this task.",
    }
}

impl EnergyRow {
    /// What rates are computed of, and its amount in microjoules: the packages; where they have no meter the platform; else what
    /// was measured outside of the machine.
    pub fn headline(&self) -> Option<(&'static str, u64)> {
        let of = |name, amount: Option<u64>| amount.map(|uj| (name, uj));
        of("package", self.pkg_uj)
            .or_else(|| of("platform", self.psys_uj))
            .or_else(|| of("wall", self.wall_uj))
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
                 later,
                 write,
                 read,
             }| Column {
                name,
                doc,
                later,
                write: Box::new(move |row: &Self| write(&row.cell)) as WriteField<Self>,
                read: Box::new(move |row: &mut Self, text: &str| read(&mut row.cell, text)),
            },
        );
        let results = Results::columns().into_iter().map(
            |Column {
                 name,
                 doc,
                 later,
                 write,
                 read,
             }| Column {
                name,
                doc,
                later,
                write: Box::new(move |row: &Self| write(&row.results)) as WriteField<Self>,
                read: Box::new(move |row: &mut Self, text: &str| read(&mut row.results, text)),
            },
        );
        keys.chain(results).collect()
    }
}
