//! Criterion benches over the registry; see `benches/`.
