//! Trains small BitNet b1.58 models from scratch, adapts them, and exports them.
#![forbid(unsafe_code)]

pub mod adapt;
pub mod checkpoint;
pub mod curve;
pub mod data;
pub mod eval;
pub mod export;
pub mod model;
pub mod ngram;
pub mod ops;
pub mod optim;
pub mod rng;
pub mod sample;
pub mod train;
