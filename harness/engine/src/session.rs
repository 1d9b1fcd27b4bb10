//! One sequence of tokens on its way through a model.

use trit_measure::Team;

use crate::batch::Batch;
use crate::error::EngineError;
use crate::model::Engine;
use crate::profile::Profile;

/// A sequence with its cache and scratch memory: a [`Batch`] of one.
pub struct Session<'e>(Batch<'e>);

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Session({} of {} positions)",
            self.position(),
            self.positions()
        )
    }
}

impl<'e> Session<'e> {
    pub(crate) fn new(engine: &'e Engine, positions: usize) -> Result<Self, EngineError> {
        Batch::new(engine, 1, positions).map(Self)
    }

    /// How many tokens the cache holds.
    pub fn position(&self) -> usize {
        self.0.position(0)
    }

    /// How many tokens it has room for.
    pub fn positions(&self) -> usize {
        self.0.positions()
    }

    /// The threads that work for this session.
    pub fn team(&self) -> &'e Team {
        self.0.team()
    }

    /// As [`Batch::profile`].
    pub fn profile(&mut self, keep: bool) -> Option<Profile> {
        self.0.profile(keep)
    }

    /// Forgets all but the first `positions` tokens.
    ///
    /// # Panics
    /// When fewer are there.
    pub fn truncate(&mut self, positions: usize) {
        self.0.truncate(0, positions);
    }

    /// Appends `tokens` and returns the logits after the last of them.
    ///
    /// # Errors
    /// When there are no tokens, one is outside of the vocabulary, or they do not fit; nothing is appended then.
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<&[f32], EngineError> {
        self.0.prefill(0, tokens)
    }

    /// Appends `tokens` and hands out the logits after each of them: `each(position, logits)`.
    ///
    /// # Errors
    /// As [`Self::prefill`].
    pub fn prefill_all(
        &mut self,
        tokens: &[u32],
        each: impl FnMut(usize, &[f32]),
    ) -> Result<(), EngineError> {
        self.0.prefill_all(0, tokens, each)
    }

    /// Appends one token and returns the logits after it.
    ///
    /// # Errors
    /// As [`Self::prefill`].
    pub fn decode(&mut self, token: u32) -> Result<&[f32], EngineError> {
        self.prefill(&[token])
    }
}
