//! Ternary kernels of the naive family.
