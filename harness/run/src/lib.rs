//! Executes plans: workers, order, pairing, verification.
