//! One sequence of tokens on its way through a model.
//!
//! Every result is equal to the bit for every kernel, thread count, instruction set and chunk size: integer sums are
//! exact, float operations have one order ([`trit_ops`]), and no float is summed across threads or chunks.

use trit_measure::Team;

use crate::error::{EngineError, check_memory};
use crate::file::Config;
use crate::forward::Buffers;
use crate::kv::KvCache;
use crate::model::Engine;
use crate::profile::{Laps, Profile, Role};

/// A sequence with its cache and scratch memory. Decoding allocates nothing that grows with the model.
pub struct Session<'e> {
    pub(crate) engine: &'e Engine,
    pub(crate) cache: KvCache,
    pub(crate) buffers: Buffers,
    pub(crate) rope: Rope,
    position: usize,
    positions: usize,
    logits: Vec<f32>,
    pub(crate) laps: Laps,
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Session({} of {} positions)",
            self.position, self.positions
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

impl<'e> Session<'e> {
    pub(crate) fn new(engine: &'e Engine, positions: usize) -> Result<Self, EngineError> {
        let config = &engine.config;
        if positions > config.context {
            return Err(EngineError::Context {
                want: positions,
                context: config.context,
            });
        }
        let positions = positions.max(1);
        let tokens = engine.ubatch.min(positions);
        let want_bytes = engine
            .kv_bytes(positions)
            .saturating_add(Buffers::bytes(engine, tokens, positions))
            .saturating_add(4 * positions as u64 * config.head_dim as u64);
        check_memory("the KV cache and the scratch buffers", want_bytes)?;
        Ok(Self {
            engine,
            cache: KvCache::new(
                engine.kv,
                config.layers,
                config.kv_heads,
                config.head_dim,
                positions,
            ),
            buffers: Buffers::new(engine, tokens, positions),
            rope: Rope::new(config, positions),
            position: 0,
            positions,
            logits: vec![0.0; config.vocab],
            laps: Laps::default(),
        })
    }

    /// How many tokens the cache holds.
    pub fn position(&self) -> usize {
        self.position
    }

    /// How many tokens it has room for.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// The threads that work for this session.
    pub fn team(&self) -> &'e Team {
        &self.engine.team
    }

    /// Keeps the times of forward passes from now on, or no longer; gives those that were kept. Costs a look at the clock a
    /// role and thread: well below a thousandth of a token of a model that is worth measuring.
    pub fn profile(&mut self, keep: bool) -> Option<Profile> {
        self.laps.keep(keep.then_some(self.engine.config.layers))
    }

    /// Forgets all but the first `positions` tokens.
    ///
    /// # Panics
    /// When fewer are there.
    pub fn truncate(&mut self, positions: usize) {
        assert!(
            positions <= self.position,
            "{positions} of {} positions",
            self.position
        );
        self.position = positions;
    }

    /// Appends `tokens` and returns the logits after the last of them.
    ///
    /// # Errors
    /// When there are no tokens, one is outside of the vocabulary, or they do not fit; nothing is appended then.
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<&[f32], EngineError> {
        self.check(tokens)?;
        for chunk in tokens.chunks(self.engine.ubatch) {
            self.forward(chunk, self.position);
            self.position += chunk.len();
        }
        let last = (tokens.len() - 1) % self.engine.ubatch;
        self.head(last);
        Ok(&self.logits)
    }

    /// Appends `tokens` and hands out the logits after each of them: `each(position, logits)`.
    ///
    /// # Errors
    /// As [`Self::prefill`].
    pub fn prefill_all(
        &mut self,
        tokens: &[u32],
        mut each: impl FnMut(usize, &[f32]),
    ) -> Result<(), EngineError> {
        self.check(tokens)?;
        for chunk in tokens.chunks(self.engine.ubatch) {
            let first = self.position;
            self.forward(chunk, first);
            self.position += chunk.len();
            for token in 0..chunk.len() {
                self.head(token);
                each(first + token, &self.logits);
            }
        }
        Ok(())
    }

    /// Appends one token and returns the logits after it.
    ///
    /// # Errors
    /// As [`Self::prefill`].
    pub fn decode(&mut self, token: u32) -> Result<&[f32], EngineError> {
        self.prefill(&[token])
    }

    /// Logits of token `token` of the chunk that was last put through the blocks.
    fn head(&mut self, token: usize) {
        let engine = self.engine;
        self.laps.begin();
        self.buffers
            .head(engine, token, &mut self.logits, self.laps.running());
        let layers = engine.config.layers;
        self.laps.end(
            layers,
            Role::Head,
            engine.team.threads(),
            self.buffers.worked(),
        );
    }

    fn check(&self, tokens: &[u32]) -> Result<(), EngineError> {
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
        let want = self.position.saturating_add(tokens.len());
        if want > self.positions {
            return Err(EngineError::Positions {
                want,
                have: self.positions,
            });
        }
        Ok(())
    }
}
