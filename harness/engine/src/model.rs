//! A model that is loaded and ready to run.

use std::path::Path;
use std::sync::Arc;

use trit_kernel::{Kernel, KernelEntry, LayoutId};
use trit_kernels::Situation;
use trit_measure::Team;
use trit_ops::Ops;

use crate::batch::Batch;
use crate::cache::CacheUse;
use crate::chat::Template;
use crate::error::EngineError;
use crate::file::{Checkpoint, Config, Linear};
use crate::forward::{Buffers, ffn_pieces};
use crate::kv::KvCache;
use crate::memory::{self, Memory};
use crate::options::{ActivationType, EngineOptions, KvType};
use crate::profile::Role;
use crate::session::Session;
use crate::synth::{self, Shape};
use crate::tokenizer::Tokenizer;
use crate::weights::Weights;

/// Tokens of a call that stands for prefill when a kernel is chosen.
const PREFILL_TOKENS: usize = 128;

/// A model in memory with its kernels and its threads.
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) weights: Arc<Weights>,
    pub(crate) team: Team,
    pub(crate) ops: &'static dyn Ops,
    /// For one token.
    pub(crate) gemv: Box<dyn Kernel>,
    /// For several tokens; reads the same layout.
    pub(crate) gemm: Box<dyn Kernel>,
    pub(crate) kv: KvType,
    pub(crate) activations: ActivationType,
    pub(crate) ubatch: usize,
    pub(crate) max_memory_bytes: Option<u64>,
    layout: LayoutId,
    head: &'static str,
    container: &'static str,
    tokenizer: Option<Arc<Tokenizer>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Engine({}, {} threads)",
            self.kernel_id(),
            self.team.threads()
        )
    }
}

impl Engine {
    /// Loads the model at `path`: a GGUF file or a Hugging Face folder.
    ///
    /// # Errors
    /// When the file is at fault, the kernel does not run here, or there is not enough memory.
    pub fn open(path: &Path, options: &EngineOptions) -> Result<Self, EngineError> {
        Self::load(&Checkpoint::open(path, &options.file)?, options)
    }

    /// Makes a model of seeded random weights in memory.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn synth(shape: &Shape, seed: u64, options: &EngineOptions) -> Result<Self, EngineError> {
        Self::load(&synth::checkpoint(shape, seed)?, options)
    }

    /// Loads an open checkpoint.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn load(checkpoint: &Checkpoint, options: &EngineOptions) -> Result<Self, EngineError> {
        options.check()?;
        let config = checkpoint.config().clone();
        let (gemv, gemm) = kernels(&config, options)?;
        let layout = gemv.info().accepts[0];
        let team = Team::new(options.threads)?;
        // A vocabulary takes some 0.1 s: meanwhile the others read the weights.
        let (weights, tokenizer) = rayon::join(
            || Weights::load(checkpoint, layout, options),
            || Tokenizer::load(&checkpoint.tokenizer()?, &config),
        );
        let (weights, tokenizer) = (Arc::new(weights?), tokenizer?);
        trit_measure::sys::trim_heap();
        Ok(Self::on(
            config,
            weights,
            tokenizer.map(Arc::new),
            checkpoint.container(),
            (gemv, gemm),
            team,
            options,
        ))
    }

    /// An engine on weights that the options agree with.
    fn on(
        config: Config,
        weights: Arc<Weights>,
        tokenizer: Option<Arc<Tokenizer>>,
        container: &'static str,
        (gemv, gemm): Kernels,
        team: Team,
        options: &EngineOptions,
    ) -> Self {
        Self {
            config,
            weights,
            team,
            ops: trit_ops::best(options.cpu),
            layout: gemv.info().accepts[0],
            gemv,
            gemm,
            kv: options.kv,
            activations: options.activations,
            ubatch: options.ubatch,
            max_memory_bytes: options.max_memory_bytes,
            head: options.head.name(),
            container,
            tokenizer,
        }
    }

    /// Another engine of this model with its own team and options, on the weights of this one: nothing is read and packed again.
    /// `None` when the options ask for another layout, head or rounding of activations.
    ///
    /// # Errors
    /// As [`Self::open`], files apart.
    pub fn beside(&self, options: &EngineOptions) -> Result<Option<Self>, EngineError> {
        options.check()?;
        let (gemv, gemm) = kernels(&self.config, options)?;
        let same = gemv.info().accepts[0] == self.layout
            && options.head.name() == self.head
            && options.activations == self.activations;
        if !same {
            return Ok(None);
        }
        Ok(Some(Self::on(
            self.config.clone(),
            Arc::clone(&self.weights),
            self.tokenizer.clone(),
            self.container,
            (gemv, gemm),
            Team::new(options.threads)?,
            options,
        )))
    }

    /// The hyper-parameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The container the model came from: `gguf`, `safetensors` or `synthetic`.
    pub fn container(&self) -> &'static str {
        self.container
    }

    /// The vocabulary, if the model has one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_deref()
    }

    /// The chat template of the model's family.
    pub fn template(&self) -> Template {
        Template::of(&self.config.architecture)
    }

    /// The kernel that decodes.
    pub fn kernel_id(&self) -> &'static str {
        self.gemv.info().id
    }

    /// The kernel that processes prompts; it reads the same packed weights.
    pub fn prefill_kernel_id(&self) -> &'static str {
        self.gemm.info().id
    }

    /// The packed form of the linears.
    pub fn layout(&self) -> LayoutId {
        self.layout
    }

    /// Type of the output head.
    pub fn head(&self) -> &'static str {
        self.head
    }

    /// Type of the KV cache.
    pub fn kv(&self) -> KvType {
        self.kv
    }

    /// What the inputs of the projections are rounded to.
    pub fn activations(&self) -> ActivationType {
        self.activations
    }

    /// Tokens of one prefill chunk.
    pub fn ubatch(&self) -> usize {
        self.ubatch
    }

    /// How often the weights of a role are read for a prompt of `tokens` tokens: once a chunk, and those of the FFN once for each piece of
    /// a chunk that goes through it together.
    pub fn passes(&self, role: Role, tokens: usize) -> usize {
        let (chunks, rest) = (tokens / self.ubatch, tokens % self.ubatch);
        let of_chunk = |tokens| match role {
            Role::GateUp | Role::Down => ffn_pieces(tokens),
            _ => tokens.min(1),
        };
        chunks * of_chunk(self.ubatch) + of_chunk(rest)
    }

    /// Threads of the team.
    pub fn threads(&self) -> usize {
        self.team.threads()
    }

    /// Where the bytes of the weights are: the linears by role, padding included, norms, embedding, and the head, which has none where
    /// it is the embedding.
    pub fn ledger(&self) -> &Memory {
        &self.weights.ledger
    }

    /// The part of the linears that is read from the file map in place.
    pub fn mapped_linear_bytes(&self) -> u64 {
        self.weights.mapped_linear_bytes
    }

    /// [`Self::ledger`], and what `sequences` sequences of `positions` tokens need beside it.
    pub fn memory(&self, sequences: usize, positions: usize) -> Memory {
        let tokens = self.chunk(sequences, positions);
        let kv = self.kv_bytes(KvCache::room(positions));
        let kv = kv.saturating_mul(sequences as u64);
        let logits = (4 * self.config.vocab as u64).saturating_mul(sequences as u64);
        let rope = 4 * positions as u64 * self.config.head_dim as u64;
        let buffers = Buffers::bytes(self, tokens, sequences, positions);
        let mut memory = self.weights.ledger.clone();
        memory.add(memory::KV_CACHE, kv);
        memory.add(
            memory::BUFFERS,
            buffers.saturating_add(logits).saturating_add(rope),
        );
        memory
    }

    /// Tokens of the largest chunk that goes through the model at once.
    pub(crate) fn chunk(&self, sequences: usize, positions: usize) -> usize {
        self.ubatch.min(positions).max(sequences)
    }

    /// What became of the cache of packed weights.
    pub fn cache_use(&self) -> &CacheUse {
        &self.weights.cache_use
    }

    /// Bytes that decoding one token at `position` (with that many tokens in the cache before it) has to read: the linears
    /// at the layout's bits a weight, at most 2, the head, the keys and values of all positions, and one row of the
    /// embedding. Padding, prefetches and activations do not count.
    pub fn bytes_per_token(&self, position: usize) -> u64 {
        self.bytes_per_step(1, position)
    }

    /// The same of one step of `sequences` sequences, each at `position`: weights are read once for all of them, keys, values and
    /// rows of the embedding once for each.
    pub fn bytes_per_step(&self, sequences: usize, position: usize) -> u64 {
        let roles = Role::ALL.into_iter().map(|role| {
            let times = match role {
                Role::Embedding | Role::Attention => sequences as u64,
                _ => 1,
            };
            times * self.role_bytes(role, position)
        });
        roles.sum()
    }

    /// The part of [`Self::bytes_per_token`] that one role reads.
    pub fn role_bytes(&self, role: Role, position: usize) -> u64 {
        match role {
            Role::Embedding => self.weights.embedding.row_bytes(),
            Role::Norms | Role::Rope => 0,
            Role::Attention => self.kv_bytes(position + 1),
            Role::Head => self.weights.head.bytes(),
            Role::Qkv | Role::Output | Role::GateUp | Role::Down => {
                let bits = self.layout.spec().weight_bits.min(2.0);
                (self.role_weights(role) as f64 * bits / 8.0) as u64
            }
        }
    }

    /// Ternary weights of one role in all layers; 0 for what is no linear.
    pub fn role_weights(&self, role: Role) -> u64 {
        let linears: &[Linear] = match role {
            Role::Qkv => &[Linear::Q, Linear::K, Linear::V],
            Role::Output => &[Linear::O],
            Role::GateUp => &[Linear::Gate, Linear::Up],
            Role::Down => &[Linear::Down],
            Role::Embedding | Role::Norms | Role::Rope | Role::Attention | Role::Head => &[],
        };
        let layer = linears.iter().map(|linear| {
            let (rows, k) = self.config.linear_shape(*linear);
            rows * k
        });
        (layer.sum::<usize>() * self.config.layers) as u64
    }

    /// Bytes of the keys and values of `positions` positions.
    pub fn kv_bytes(&self, positions: usize) -> u64 {
        let head = self.kv.bytes(self.config.head_dim);
        let width = (self.config.kv_heads * head) as u64;
        2 * self.config.layers as u64 * width * positions as u64
    }

    /// Opens a session with room for `positions` tokens.
    ///
    /// # Errors
    /// When the model's context is shorter, or the cache does not fit in memory.
    pub fn session(&self, positions: usize) -> Result<Session<'_>, EngineError> {
        Session::new(self, positions)
    }

    /// Opens `sequences` sequences that are decoded together, each with room for `positions` tokens.
    ///
    /// # Errors
    /// As [`Self::session`], and when there would be no sequence.
    pub fn batch(&self, sequences: usize, positions: usize) -> Result<Batch<'_>, EngineError> {
        Batch::new(self, sequences, positions)
    }

    /// The kernel of a call of `tokens` tokens.
    pub(crate) fn kernel(&self, tokens: usize) -> &dyn Kernel {
        if tokens < self.gemm.info().min_tokens.max(2) {
            &*self.gemv
        } else {
            &*self.gemm
        }
    }
}

/// For one token, and for several.
type Kernels = (Box<dyn Kernel>, Box<dyn Kernel>);

/// Opens the kernels for one and for several tokens, on one layout.
fn kernels(config: &Config, options: &EngineOptions) -> Result<Kernels, EngineError> {
    let open = |entry: &KernelEntry| {
        (entry.open)(options.cpu).map_err(|reason| EngineError::Unavailable {
            id: entry.info.id.to_owned(),
            reason,
        })
    };
    // All linears of a model share a layout, so that it is held once: decoding chooses it, prefill follows.
    let best = |tokens, layout| {
        let places = Linear::ALL.map(|linear| {
            let (rows, k) = config.linear_shape(linear);
            Situation {
                rows,
                k,
                tokens,
                threads: options.threads,
            }
        });
        let measured = options.tune.as_ref();
        let measured = measured.and_then(|table| table.best(options.cpu, &places, layout));
        measured.unwrap_or_else(|| trit_kernels::best(options.cpu, tokens, layout))
    };
    let (gemv, gemm) = if let Some(id) = &options.kernel {
        let entry = trit_kernels::find(id)?;
        // A kernel that is meant for many tokens leaves single ones to another that reads its weights.
        let single = if entry.info.min_tokens > 1 {
            best(1, Some(entry.info.accepts[0]))
        } else {
            entry
        };
        (single, entry)
    } else {
        let gemv = best(1, None);
        (gemv, best(PREFILL_TOKENS, Some(gemv.info.accepts[0])))
    };
    Ok((open(gemv)?, open(gemm)?))
}
