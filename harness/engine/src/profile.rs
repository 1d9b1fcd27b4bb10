//! Where the time of a token goes: by role and layer, with what threads wait for one another.

use std::ops::AddAssign;

use trit_measure::{Clock, MonotonicClock};

/// What a stretch of the forward pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Rows of the token embedding.
    Embedding,
    /// Norms, activation functions, quantization, and bringing activations into the form that a kernel reads.
    Norms,
    /// Queries, keys and values.
    Qkv,
    /// Rotary positions, and storing keys and values in the cache.
    Rope,
    /// Attention over the cache.
    Attention,
    /// The projection behind attention.
    Output,
    /// Gate and up, and the activation that makes one of them.
    GateUp,
    /// The last projection of a block.
    Down,
    /// The final norm and the output head.
    Head,
}

impl Role {
    /// All of them, in the order of the forward pass.
    pub const ALL: [Self; 9] = [
        Self::Embedding,
        Self::Norms,
        Self::Qkv,
        Self::Rope,
        Self::Attention,
        Self::Output,
        Self::GateUp,
        Self::Down,
        Self::Head,
    ];

    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Norms => "norms",
            Self::Qkv => "qkv",
            Self::Rope => "rope",
            Self::Attention => "attention",
            Self::Output => "output",
            Self::GateUp => "gate-up",
            Self::Down => "down",
            Self::Head => "head",
        }
    }

    /// Whether it is a ternary linear.
    pub const fn is_linear(self) -> bool {
        matches!(self, Self::Qkv | Self::Output | Self::GateUp | Self::Down)
    }
}

/// Time of one role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Time in which threads worked, the mean of all threads.
    pub work_ns: u64,
    /// Time in which they waited for the slowest of them, the mean of all threads, and for one that worked alone.
    pub wait_ns: u64,
}

/// Columns that a line of 64 bytes holds for sixteen rows, in the layouts of interleaved rows: what has to be zero for a line to be skipped.
pub const ZERO_BLOCK: usize = 16;

impl AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.work_ns += other.work_ns;
        self.wait_ns += other.wait_ns;
    }
}

/// How many of the int8 inputs of the last projection are zero: a squared rectifier makes many of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zeros {
    /// Inputs, over all tokens.
    pub codes: u64,
    /// Those that are zero.
    pub zero_codes: u64,
    /// Blocks of [`ZERO_BLOCK`] neighbours.
    pub blocks: u64,
    /// Those in which all are zero.
    pub zero_blocks: u64,
}

impl Zeros {
    /// Counts in the `k` inputs of each token.
    fn count(&mut self, codes: &[i8], k: usize) {
        for token in codes.chunks(k) {
            for block in token.chunks(ZERO_BLOCK) {
                let zeros = block.iter().filter(|code| **code == 0).count();
                self.codes += block.len() as u64;
                self.zero_codes += zeros as u64;
                self.blocks += 1;
                self.zero_blocks += u64::from(zeros == block.len());
            }
        }
    }
}

impl AddAssign for Zeros {
    fn add_assign(&mut self, other: Self) {
        self.codes += other.codes;
        self.zero_codes += other.zero_codes;
        self.blocks += other.blocks;
        self.zero_blocks += other.zero_blocks;
    }
}

/// Times of the forward passes of a session since it was told to keep them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// By layer, the roles in the order of [`Role::ALL`]; what belongs to no layer is behind the last one.
    pub layers: Vec<[Spent; Role::ALL.len()]>,
    /// By layer, what the last projection reads; nothing is counted where activations stay floats.
    pub zeros: Vec<Zeros>,
}

impl Profile {
    /// One role over all layers.
    pub fn role(&self, role: Role) -> Spent {
        let mut sum = Spent::default();
        for layer in &self.layers {
            sum += layer[role as usize];
        }
        sum
    }

    /// Everything.
    pub fn total_ns(&self) -> u64 {
        let all = Role::ALL.into_iter().map(|role| self.role(role));
        all.map(|spent| spent.work_ns + spent.wait_ns).sum()
    }
}

impl AddAssign<&Self> for Profile {
    /// Adds the times and zeros of another profile of the same model; an empty one becomes the other.
    fn add_assign(&mut self, other: &Self) {
        self.layers.resize(other.layers.len(), Default::default());
        self.zeros.resize(other.zeros.len(), Zeros::default());
        for (mine, others) in self.layers.iter_mut().zip(&other.layers) {
            for (mine, other) in mine.iter_mut().zip(others) {
                *mine += *other;
            }
        }
        for (mine, other) in self.zeros.iter_mut().zip(&other.zeros) {
            *mine += *other;
        }
    }
}

/// A clock that is read where a role ends; without a profile it is not read at all.
#[derive(Debug, Default)]
pub(crate) struct Laps {
    profile: Option<Profile>,
    last_ns: u64,
}

impl Laps {
    /// Keeps times from now on, and gives those that were kept.
    pub(crate) fn keep(&mut self, layers: Option<usize>) -> Option<Profile> {
        let fresh = layers.map(|layers| Profile {
            layers: vec![Default::default(); layers + 1],
            zeros: vec![Zeros::default(); layers],
        });
        std::mem::replace(&mut self.profile, fresh)
    }

    /// A forward pass, or the head, begins.
    pub(crate) fn begin(&mut self) {
        if self.profile.is_some() {
            self.last_ns = MonotonicClock.now_ns();
        }
    }

    /// Counts the zeros of the inputs of the last projection, `k` a token; what that takes belongs to no role.
    pub(crate) fn count_zeros(&mut self, layer: usize, codes: &[i8], k: usize) {
        if let Some(profile) = &mut self.profile {
            profile.zeros[layer].count(codes, k);
            self.begin();
        }
    }

    /// Whether threads are to tell how long they worked.
    pub(crate) fn running(&self) -> bool {
        self.profile.is_some()
    }

    /// A role ends. `worked` are the times of the threads of its region, and are taken; a role without a region was the work of
    /// one thread, for which the other `threads - 1` waited.
    pub(crate) fn end(&mut self, layer: usize, role: Role, threads: usize, worked: u64) {
        let Some(profile) = &mut self.profile else {
            return;
        };
        let now = MonotonicClock.now_ns();
        let whole = now - self.last_ns;
        self.last_ns = now;
        let busy = if worked == 0 { whole } else { worked };
        let work_ns = (busy / threads.max(1) as u64).min(whole);
        let spent = &mut profile.layers[layer][role as usize];
        spent.work_ns += work_ns;
        spent.wait_ns += whole - work_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_counted_in_the_blocks_of_each_token() {
        let mut codes = vec![0i8; 2 * 35];
        // The first token has an input in its second block, the second in its short last one.
        (codes[16], codes[35 + 33]) = (1, -3);
        let mut laps = Laps::default();
        laps.count_zeros(0, &codes, 35);
        assert_eq!(laps.keep(Some(2)), None);
        laps.count_zeros(1, &codes, 35);
        let profile = laps.keep(None).unwrap();
        let counted = Zeros {
            codes: 70,
            zero_codes: 68,
            blocks: 6,
            zero_blocks: 4,
        };
        assert_eq!(profile.zeros, [Zeros::default(), counted]);
    }

    #[test]
    fn times_are_kept_only_when_asked_for() {
        let mut laps = Laps::default();
        laps.begin();
        laps.end(0, Role::Qkv, 2, 0);
        assert_eq!(laps.keep(Some(1)), None);
        laps.begin();
        // More work than time: a thread's clock may end behind the region's; never more than the whole.
        laps.end(0, Role::Qkv, 1, u64::MAX);
        laps.end(1, Role::Head, 4, 0);
        let profile = laps.keep(None).unwrap();
        assert_eq!(profile.role(Role::Qkv).wait_ns, 0);
        let head = profile.role(Role::Head);
        assert!(head.wait_ns >= 3 * head.work_ns, "{head:?}");
        assert_eq!(
            profile.total_ns(),
            profile.role(Role::Qkv).work_ns + head.work_ns + head.wait_ns
        );
        assert!(!laps.running());
    }
}
