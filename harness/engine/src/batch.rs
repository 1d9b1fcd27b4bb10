//! Sequences of tokens that go through a model together, so that its weights are read once for all of them.
//!
//! Every result is equal to the bit for every kernel, thread count, instruction set, chunk size and number of sequences: a
//! token is quantized by itself, integer sums are exact, float operations have one order ([`trit_ops`]), and no float is summed
//! across threads, chunks or sequences.

use std::slice::ChunksExact;

use trit_measure::Team;

use crate::error::{EngineError, check_memory};
use crate::file::Config;
use crate::forward::Buffers;
use crate::kv::KvCache;
use crate::memory::{BUFFERS, KV_CACHE};
use crate::model::Engine;
use crate::profile::{Laps, Profile, Role};

/// One sequence: its keys and values, and how many tokens they are of.
pub(crate) struct Sequence {
    pub(crate) cache: KvCache,
    pub(crate) position: usize,
}

/// Independent sequences with their caches, and scratch memory for all. Decoding allocates nothing that grows with the model.
///
/// A step of [`Self::decode`] takes one token of each sequence: the linears and the head multiply as many rows at once as
/// there are sequences, attention goes over the cache of each.
pub struct Batch<'e> {
    pub(crate) engine: &'e Engine,
    pub(crate) sequences: Vec<Sequence>,
    pub(crate) buffers: Buffers,
    pub(crate) rope: Rope,
    pub(crate) laps: Laps,
    /// Positions of each sequence.
    positions: usize,
    /// A row for each sequence.
    logits: Vec<f32>,
}

impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let taken = self.sequences.iter().map(|sequence| sequence.position);
        write!(
            f,
            "Batch({:?} of {} positions)",
            taken.collect::<Vec<_>>(),
            self.positions
        )
    }
}

/// Cosines and sines of every position, `dim / 2` each.
pub(crate) struct Rope {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rope {
    /// Angles `position · base^(−2i/dim)`, computed in f64 and rounded once.
    fn new(config: &Config, positions: usize) -> Self {
        let half = config.head_dim / 2;
        let base = f64::from(config.rope_base);
        let frequencies: Vec<f64> = (0..half)
            .map(|i| base.powf(-2.0 * i as f64 / config.head_dim as f64))
            .collect();
        let angles = (0..positions)
            .flat_map(|position| frequencies.iter().map(move |f| position as f64 * f));
        let (sin, cos) = angles
            .map(|angle| {
                let (sin, cos) = angle.sin_cos();
                (sin as f32, cos as f32)
            })
            .unzip();
        Self { half, cos, sin }
    }

    /// Cosines and sines of one position.
    pub(crate) fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let range = position * self.half..(position + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }
}

impl<'e> Batch<'e> {
    pub(crate) fn new(
        engine: &'e Engine,
        sequences: usize,
        positions: usize,
    ) -> Result<Self, EngineError> {
        let config = &engine.config;
        if sequences == 0 {
            return Err(EngineError::Option {
                option: "batch",
                value: sequences.to_string(),
                want: "a number above 0",
            });
        }
        if positions > config.context {
            return Err(EngineError::Context {
                want: positions,
                context: config.context,
            });
        }
        let positions = positions.max(1);
        let tokens = engine.chunk(sequences, positions);
        let needs = engine.memory(sequences, positions);
        needs.check(engine.max_memory_bytes)?;
        let want_bytes = needs.of(KV_CACHE).saturating_add(needs.of(BUFFERS));
        check_memory("the KV cache and the scratch buffers", want_bytes)?;
        let sequence = || Sequence {
            cache: KvCache::new(
                engine.kv,
                config.layers,
                config.kv_heads,
                config.head_dim,
                positions,
            ),
            position: 0,
        };
        Ok(Self {
            engine,
            sequences: std::iter::repeat_with(sequence).take(sequences).collect(),
            buffers: Buffers::new(engine, tokens, sequences, positions),
            rope: Rope::new(config, positions),
            positions,
            logits: vec![0.0; sequences * config.vocab],
            laps: Laps::default(),
        })
    }

    /// Writes to every page of the caches and buffers, so that the system gives them now and not while something is timed: pages come
    /// as they are first written, and what is reserved for a long context costs nothing until it is used. Forgets all tokens.
    pub fn touch(&mut self) {
        for sequence in &mut self.sequences {
            sequence.cache.touch();
            sequence.position = 0;
        }
        self.buffers.touch();
        self.logits.fill(0.0);
    }

    /// How many sequences there are.
    pub fn sequences(&self) -> usize {
        self.sequences.len()
    }

    /// How many tokens the cache of a sequence holds.
    ///
    /// # Panics
    /// When there is no such sequence.
    pub fn position(&self, sequence: usize) -> usize {
        self.sequences[sequence].position
    }

    /// How many tokens the cache of each sequence has room for.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// The threads that work for these sequences.
    pub fn team(&self) -> &'e Team {
        &self.engine.team
    }

    /// Keeps the times of forward passes from now on, or no longer; gives those that were kept. Costs a look at the clock a
    /// role and thread: well below a thousandth of a token of a model that is worth measuring.
    pub fn profile(&mut self, keep: bool) -> Option<Profile> {
        self.laps.keep(keep.then_some(self.engine.config.layers))
    }

    /// Forgets all but the first `positions` tokens of a sequence.
    ///
    /// # Panics
    /// When fewer are there, or there is no such sequence.
    pub fn truncate(&mut self, sequence: usize, positions: usize) {
        let position = &mut self.sequences[sequence].position;
        assert!(
            positions <= *position,
            "{positions} of {position} positions"
        );
        *position = positions;
    }

    /// Appends `tokens` to one sequence and returns the logits after the last of them.
    ///
    /// # Errors
    /// When there are no tokens, one is outside of the vocabulary, or they do not fit; nothing is appended then.
    ///
    /// # Panics
    /// When there is no such sequence.
    pub fn prefill(&mut self, sequence: usize, tokens: &[u32]) -> Result<&[f32], EngineError> {
        self.check(sequence, tokens)?;
        for chunk in tokens.chunks(self.engine.ubatch) {
            self.forward(sequence..sequence + 1, chunk);
            self.sequences[sequence].position += chunk.len();
        }
        let last = (tokens.len() - 1) % self.engine.ubatch;
        Ok(self.head(last, 1))
    }

    /// Appends `tokens` to one sequence and hands out the logits after each of them: `each(position, logits)`.
    ///
    /// # Errors
    /// As [`Self::prefill`].
    ///
    /// # Panics
    /// When there is no such sequence.
    pub fn prefill_all(
        &mut self,
        sequence: usize,
        tokens: &[u32],
        mut each: impl FnMut(usize, &[f32]),
    ) -> Result<(), EngineError> {
        self.check(sequence, tokens)?;
        for chunk in tokens.chunks(self.engine.ubatch) {
            let first = self.sequences[sequence].position;
            self.forward(sequence..sequence + 1, chunk);
            self.sequences[sequence].position += chunk.len();
            for token in 0..chunk.len() {
                each(first + token, self.head(token, 1));
            }
        }
        Ok(())
    }

    /// Appends one token to each sequence, in their order, and returns the logits after each.
    ///
    /// # Errors
    /// When there are more or fewer tokens than sequences, one is outside of the vocabulary, or a sequence is full; nothing is
    /// appended then.
    pub fn decode(&mut self, tokens: &[u32]) -> Result<ChunksExact<'_, f32>, EngineError> {
        let count = self.sequences.len();
        if tokens.len() != count {
            return Err(EngineError::Batch {
                tokens: tokens.len(),
                sequences: count,
            });
        }
        for sequence in 0..count {
            self.check(sequence, &tokens[sequence..=sequence])?;
        }
        self.forward(0..count, tokens);
        for sequence in &mut self.sequences {
            sequence.position += 1;
        }
        let vocab = self.engine.config.vocab;
        Ok(self.head(0, count).chunks_exact(vocab))
    }

    /// Logits of `count` tokens, from `first` on, of the chunk that was last put through the blocks.
    fn head(&mut self, first: usize, count: usize) -> &[f32] {
        let engine = self.engine;
        let logits = &mut self.logits[..count * engine.config.vocab];
        self.laps.begin();
        self.buffers
            .head(engine, first..first + count, logits, self.laps.running());
        self.laps.end(
            engine.config.layers,
            Role::Head,
            engine.team.threads(),
            self.buffers.worked(),
        );
        logits
    }

    fn check(&self, sequence: usize, tokens: &[u32]) -> Result<(), EngineError> {
        if tokens.is_empty() {
            return Err(EngineError::NoTokens);
        }
        let vocab = self.engine.config.vocab;
        if let Some(token) = tokens.iter().find(|token| **token as usize >= vocab) {
            return Err(EngineError::Token {
                token: *token,
                vocab,
            });
        }
        let want = self.sequences[sequence]
            .position
            .saturating_add(tokens.len());
        if want > self.positions {
            return Err(EngineError::Positions {
                want,
                have: self.positions,
            });
        }
        Ok(())
    }
}
