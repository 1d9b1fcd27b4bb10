//! What a worker and its master say to each other: one JSON object a line.
//!
//! The worker speaks first ([`Hello`]); then each [`Request`] has one [`Reply`]. The protocol only grows: a field that a
//! side does not know is ignored, a field that is missing has its default, and a request that a worker does not know is
//! answered with [`FailureKind::Unsupported`]. So builds of different revisions can be paired.

use serde::{Deserialize, Serialize};
use trit_core::{ProgramTask, TimelineRow};

/// The version of the protocol. Since 2 a worker can loop a cell ([`Request::Ready`], [`Request::Loop`],
/// [`Request::EndLoop`]).
pub const PROTOCOL: u32 = 2;

/// The first line of a worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Version of the program.
    pub version: String,
    /// Threads that this process may use.
    pub threads: u64,
    /// Every kernel and baseline.
    pub kernels: Vec<KernelFacts>,
}

/// What a worker says about a kernel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelFacts {
    /// Its id.
    pub id: String,
    /// Whether it is a dense baseline.
    pub dense: bool,
    /// Instruction set.
    pub isa: String,
    /// Packed form that it prefers.
    pub layout: String,
    /// Stored bits a weight of that form.
    pub weight_bits: f64,
    /// Why this machine cannot run it; empty when it can.
    pub unavailable: String,
    /// Estimate: time of one weight of a single-token call from memory on one thread.
    pub gemv_ns_per_weight: Option<f64>,
    /// Estimate: time of one weight and token of a call of many tokens on one thread.
    pub gemm_ns_per_weight: Option<f64>,
}

/// What a subject is asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    /// Prepare and multiply.
    #[default]
    Multiply,
    /// Prepare alone.
    Prepare,
    /// Pack ternary codes.
    Pack,
    /// An empty region of the team.
    DispatchTeam,
    /// An empty region of rayon.
    DispatchRayon,
    /// Read memory.
    Read,
    /// Arithmetic on registers.
    Peak,
    /// Process a prompt.
    Prefill,
    /// Process a prompt, then generate.
    Decode,
    /// The fixed work of the control cell.
    Control,
    /// A program that is not ours.
    Program,
    /// A job that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Everything that a worker has to know about a cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Task {
    /// What to do.
    pub job: Job,
    /// The kernel or baseline; for the peak probe the one whose instruction set matters.
    pub kernel: String,
    /// Output features.
    pub rows: u64,
    /// Input features.
    pub k: u64,
    /// Tokens of one call.
    pub tokens: u64,
    /// Threads of the team.
    pub threads: u64,
    /// Bytes of weights through which the calls rotate; 0: one matrix.
    pub working_set_bytes: u64,
    /// Bytes that one call of the read probe reads.
    pub bytes_per_call: u64,
    /// Seed of weights and activations.
    pub seed: u64,
    /// Seed of the page offset of allocations.
    pub page_seed: u64,
    /// Activations in −127..=127 instead of −128..=127, each row reaching 127: what baselines hold exactly.
    pub symmetric: bool,
    /// The model: `synth:<shape>`, `builtin:<name>` or a path.
    pub model: String,
    /// Type of the KV cache.
    pub kv: String,
    /// Type of the output head.
    pub head: String,
    /// Tokens of one prefill chunk.
    pub ubatch: u64,
    /// Tokens of a prompt.
    pub prompt_tokens: u64,
    /// Tokens generated in one request.
    pub gen_tokens: u64,
    /// Tokens in the KV cache before the prompt.
    pub depth: u64,
    /// Sequences that are decoded together; 0 from masters that know of one alone.
    pub batch: u64,
    /// What the page cache has to hold of the model's files before they are loaded: `warm`, `cold`, or empty.
    pub page_cache: String,
    /// Where packed weights are kept; empty: nowhere.
    pub packed_cache: String,
    /// The text of the prompt, where it is no random tokens.
    pub prompt_text: String,
    /// Work that is added so that a gate can be tested: this share of the rows is multiplied once more.
    pub added_work: f64,
    /// The largest resident set that a program may have; 0: no limit.
    pub max_rss_bytes: u64,
    /// The program and how it is checked, for that job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<ProgramTask>,
}

/// Input sets that a subject rotates through, at least: the answer of a call cannot be that of the call before.
pub const INPUT_SETS: usize = 4;

/// What a master asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Sets a cell up.
    Open {
        /// Number by which the cell is called from now on.
        slot: u64,
        /// The cell.
        task: Task,
    },
    /// Hands over the exact sums of every input set: for subjects that are right within a bound.
    Expect {
        /// The cell.
        slot: u64,
        /// One list for each input set, token-major.
        sums: Vec<Vec<i32>>,
    },
    /// Runs one slice.
    Slice {
        /// The cell.
        slot: u64,
        /// Timed calls.
        iterations: u64,
        /// Untimed calls before them.
        #[serde(default)]
        warm_up: u64,
        /// Whether the peak of the resident set starts anew before the slice.
        #[serde(default)]
        reset_peak: bool,
        /// Whether nothing but the time is looked at: for measuring what looking costs.
        #[serde(default)]
        bare: bool,
    },
    /// Brings a cell to where a loop can start: warmed up, and for decode with a prompt in the cache, so that the loop
    /// holds nothing but what the cell is about.
    Ready {
        /// The cell.
        slot: u64,
    },
    /// Runs calls until at least that much time is over: what an energy meter is read around.
    Loop {
        /// The cell; it is ready.
        slot: u64,
        /// How long, at least.
        at_least_ns: u64,
    },
    /// Gives the answers of the last calls of a loop.
    EndLoop {
        /// The cell.
        slot: u64,
    },
    /// Frees a cell.
    Close {
        /// The cell.
        slot: u64,
    },
    /// Computes the answers of a cell with the kernel named in the task.
    Reference {
        /// The cell.
        task: Task,
        /// Whether the sums themselves are wanted.
        #[serde(default)]
        sums: bool,
    },
    /// Ends the worker.
    Exit,
    /// A request that this version does not know.
    #[serde(other)]
    Unknown,
}

/// The times of one slice and what the system says about them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// Timed calls.
    pub iterations: u64,
    /// Wall time.
    pub time_ns: u64,
    /// Part of it spent preparing activations.
    pub prepare_ns: Option<u64>,
    /// User CPU time.
    pub user_ns: Option<u64>,
    /// System CPU time.
    pub system_ns: Option<u64>,
    /// Time that the hypervisor took.
    pub steal_ns: Option<u64>,
    /// Involuntary context switches.
    pub involuntary_switches: Option<u64>,
    /// Clock after the slice.
    pub frequency_khz: Option<u64>,
    /// Voluntary context switches.
    pub voluntary_switches: Option<u64>,
    /// Page faults that read nothing.
    pub minor_faults: Option<u64>,
    /// Page faults that had to read.
    pub major_faults: Option<u64>,
    /// Time for which the control group was kept from running.
    pub throttled_ns: Option<u64>,
    /// How often the processor was slowed down for its temperature.
    pub throttle_count: Option<u64>,
    /// Temperature after the slice, in 1/1000 degrees Celsius.
    pub temperature_mc: Option<i64>,
    /// Cycles in user mode.
    pub cycles: Option<u64>,
    /// Instructions that were retired.
    pub instructions: Option<u64>,
    /// Reads that the last level of cache did not have.
    pub llc_misses: Option<u64>,
    /// Wall time over which CPU time, switches and the other counts were taken: for decode the prompt is in it.
    pub evidence_ns: Option<u64>,
    /// Peak of the resident set since it was reset.
    pub peak_rss_bytes: Option<u64>,
    /// Anonymous part of the resident set.
    pub rss_anon_bytes: Option<u64>,
    /// File-backed part of the resident set.
    pub rss_file_bytes: Option<u64>,
    /// Shared-memory part of the resident set.
    pub rss_shmem_bytes: Option<u64>,
    /// The memory of the worker through the phases of a whole model's request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<TimelineRow>,
}

/// One generated token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Token {
    /// Its id.
    pub token: u64,
    /// Since the token before it; for the first since the start of the request.
    pub time_ns: u64,
    /// Which sequence of those that are decoded together.
    pub sequence: u64,
}

/// What a cell turned out to be when it was set up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Opened {
    /// Packed form of the weights.
    pub layout: String,
    /// Stored bits a weight.
    pub weight_bits: Option<f64>,
    /// Instruction set.
    pub isa: String,
    /// Variant that was chosen (the probe's loop).
    pub variant: String,
    /// Bytes that one call has to read, for models and the read probe.
    pub bytes_per_call: Option<u64>,
    /// Operations of one call, for models and the peak probe.
    pub ops_per_call: Option<u64>,
    /// Weights of the ternary linears of a model.
    pub linear_weights: Option<u64>,
    /// Layers times query heads times their width, of a model.
    pub attention_width: Option<u64>,
    /// Time of one call while the variant was chosen.
    pub call_ns: Option<f64>,
    /// Bytes of weights through which calls rotate.
    pub working_set_bytes: u64,
    /// SHA-256 of the model file.
    pub model_sha256: String,
    /// Type of the output head that the model has.
    pub head: String,
    /// Time to load the model.
    pub load_ns: Option<u64>,
    /// From when it began to be loaded to the first token of the first prompt, where the task says how it is loaded.
    pub first_token_ns: Option<u64>,
    /// Tokens of a prompt that is a text.
    pub prompt_tokens: Option<u64>,
    /// Whether a prompt that is a text was spelled with the model's tokenizer; otherwise it is seeded ids, about as many.
    pub spelled: bool,
    /// The memory of the worker meanwhile.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<TimelineRow>,
    /// Whether answers are right within a bound, so that [`Request::Expect`] is needed.
    pub bounded: bool,
    /// The check that is made once, where there is one: the digest of the logits of four tokens, or the text of a program.
    pub check: Option<String>,
}

/// The answers of one input set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// Which input set.
    pub set: u64,
    /// SHA-256 of the answer, in hex.
    pub digest: String,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// An error.
    #[default]
    Failed,
    /// This machine or this version cannot do it.
    Unsupported,
    /// It does not fit in memory or exceeds a stated limit.
    OverLimit,
    /// The content of a file is not usable.
    Content,
    /// An answer is not the right one.
    Wrong,
    /// A failure of a kind that this version does not know.
    #[serde(other)]
    Other,
}

/// What a worker answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// To `Open`.
    Opened(Opened),
    /// To `Slice`.
    Sliced {
        /// Times and evidence.
        sample: Sample,
        /// The answers of the input sets that the slice used.
        #[serde(default)]
        answers: Vec<Answer>,
        /// The tokens that were generated.
        #[serde(default)]
        tokens: Vec<Token>,
    },
    /// To `Loop`.
    Looped {
        /// Times and evidence of the whole loop.
        sample: Sample,
    },
    /// To `EndLoop`.
    Answers {
        /// The answers of the input sets that the last calls used.
        #[serde(default)]
        answers: Vec<Answer>,
    },
    /// To `Reference`.
    Reference {
        /// The answers of every input set.
        #[serde(default)]
        answers: Vec<Answer>,
        /// The sums, when they were wanted.
        #[serde(default)]
        sums: Vec<Vec<i32>>,
        /// Digest of the check that is made once.
        #[serde(default)]
        check: Option<String>,
    },
    /// To `Expect`, `Ready`, `Close` and `Exit`.
    Done,
    /// To anything.
    Failure {
        /// What kind of failure.
        #[serde(default)]
        kind: FailureKind,
        /// One sentence.
        #[serde(default)]
        message: String,
    },
    /// A reply that this version does not know.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(
        value: &T,
    ) {
        let text = serde_json::to_string(value).unwrap();
        assert!(!text.contains('\n'));
        assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value);
    }

    #[test]
    fn everything_round_trips() {
        let task = Task {
            job: Job::DispatchRayon,
            kernel: "w2a8-naive-scalar".into(),
            seed: u64::MAX,
            ..Task::default()
        };
        round_trip(&Request::Open {
            slot: 3,
            task: task.clone(),
        });
        round_trip(&Request::Expect {
            slot: 1,
            sums: vec![vec![-1, 2], vec![]],
        });
        round_trip(&Request::Reference { task, sums: true });
        round_trip(&Request::Ready { slot: 1 });
        round_trip(&Request::Loop {
            slot: 1,
            at_least_ns: 2_000_000_000,
        });
        round_trip(&Request::EndLoop { slot: 1 });
        round_trip(&Reply::Looped {
            sample: Sample::default(),
        });
        round_trip(&Reply::Answers { answers: vec![] });
        round_trip(&Request::Exit);
        round_trip(&Reply::Opened(Opened {
            weight_bits: Some(1.6),
            ..Opened::default()
        }));
        round_trip(&Reply::Sliced {
            sample: Sample {
                time_ns: 5,
                steal_ns: Some(0),
                ..Sample::default()
            },
            answers: vec![Answer {
                set: 2,
                digest: "ab".into(),
            }],
            tokens: vec![Token {
                token: 1,
                time_ns: 2,
                sequence: 3,
            }],
        });
        round_trip(&Reply::Failure {
            kind: FailureKind::OverLimit,
            message: "x".into(),
        });
    }

    #[test]
    fn other_versions_are_understood() {
        // A newer master: an unknown field is ignored, an unknown request is known to be unknown.
        let open = r#"{"op":"open","slot":1,"task":{"job":"read","future":{"a":1}},"later":2}"#;
        assert!(matches!(
            serde_json::from_str(open).unwrap(),
            Request::Open {
                slot: 1,
                task: Task { job: Job::Read, .. }
            }
        ));
        assert_eq!(
            serde_json::from_str::<Request>(r#"{"op":"dance","steps":3}"#).unwrap(),
            Request::Unknown
        );
        // An older worker: missing fields have their defaults.
        assert_eq!(
            serde_json::from_str::<Reply>(r#"{"reply":"sliced","sample":{"time_ns":7}}"#).unwrap(),
            Reply::Sliced {
                sample: Sample {
                    time_ns: 7,
                    ..Sample::default()
                },
                answers: vec![],
                tokens: vec![]
            }
        );
        assert_eq!(
            serde_json::from_str::<Reply>(r#"{"reply":"failure","kind":"melted"}"#).unwrap(),
            Reply::Failure {
                kind: FailureKind::Other,
                message: String::new()
            }
        );
    }
}
