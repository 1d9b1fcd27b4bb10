//! Dense baselines: what a user would have without ternary weights.
