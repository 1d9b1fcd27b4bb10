//! Ternary kernels of the amx family.
