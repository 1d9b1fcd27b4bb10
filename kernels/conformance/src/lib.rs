//! Tests that every kernel must pass, with an oracle of their own.
