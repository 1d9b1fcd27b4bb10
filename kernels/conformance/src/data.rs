//! Seeded weights and activations, ordinary and adversarial.

/// `SplitMix64` (Steele, Lea and Flood, 2014): every seed is a good one.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator; equal seeds give equal numbers.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next_u64()) * limit as u128) >> 64) as usize
    }

    /// A number in −1..1.
    pub fn unit(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// How weights are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Each of −1, 0, 1 with the same probability.
    Random,
    /// All the same.
    All(i8),
    /// One ±1 a row, at a random place; the rest 0.
    OneHot,
}

impl Weight {
    /// Every way.
    pub const ALL: [Self; 5] = [
        Self::Random,
        Self::All(1),
        Self::All(-1),
        Self::All(0),
        Self::OneHot,
    ];

    /// `rows` x `k` weights.
    pub fn fill(self, rows: usize, k: usize, rng: &mut Rng) -> Vec<i8> {
        match self {
            Self::Random => (0..rows * k).map(|_| rng.below(3) as i8 - 1).collect(),
            Self::All(value) => vec![value; rows * k],
            Self::OneHot => {
                let mut out = vec![0; rows * k];
                for row in out.chunks_exact_mut(k) {
                    row[rng.below(k)] = 1 - 2 * rng.below(2) as i8;
                }
                out
            }
        }
    }
}

/// How activations are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Each of −128..=127 with the same probability.
    Random,
    /// All the same.
    All(i8),
    /// −128, 127, −128, ... starting with either, token by token.
    Alternating,
    /// One extreme value a token, at a random place; the rest 0.
    OneHot,
    /// Token `t` is `t − 128` everywhere: with 256 tokens, every value.
    Ramp,
}

impl Activation {
    /// Every way for any number of tokens.
    pub const ALL: [Self; 6] = [
        Self::Random,
        Self::All(127),
        Self::All(-127),
        Self::All(-128),
        Self::Alternating,
        Self::OneHot,
    ];

    /// `tokens` x `k` activations.
    pub fn fill(self, tokens: usize, k: usize, rng: &mut Rng) -> Vec<i8> {
        match self {
            Self::Random => (0..tokens * k).map(|_| rng.next_u64() as i8).collect(),
            Self::All(value) => vec![value; tokens * k],
            Self::Alternating => (0..tokens)
                .flat_map(|t| (0..k).map(move |i| if (t + i) % 2 == 0 { -128 } else { 127 }))
                .collect(),
            Self::OneHot => {
                let mut out = vec![0; tokens * k];
                for token in out.chunks_exact_mut(k) {
                    token[rng.below(k)] = if rng.below(2) == 0 { -128 } else { 127 };
                }
                out
            }
            Self::Ramp => (0..tokens)
                .flat_map(|t| std::iter::repeat_n((t as i32 - 128) as i8, k))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_are_what_they_say() {
        let mut rng = Rng::new(1);
        let random = Weight::Random.fill(30, 100, &mut rng);
        for value in -1..=1 {
            let share = random.iter().filter(|w| **w == value).count();
            assert!((800..1200).contains(&share), "{value}: {share} of 3000");
        }
        let hot = Weight::OneHot.fill(9, 17, &mut rng);
        assert!(
            hot.chunks(17)
                .all(|row| row.iter().filter(|w| **w != 0).count() == 1)
        );
        let ramp = Activation::Ramp.fill(256, 2, &mut rng);
        assert!(
            ramp.chunks(2)
                .zip(-128i32..)
                .all(|(row, v)| row == [v as i8; 2])
        );
        assert_eq!(
            Activation::Alternating.fill(2, 2, &mut rng),
            [-128, 127, 127, -128]
        );
    }
}
