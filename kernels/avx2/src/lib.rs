//! Ternary kernels of the avx2 family.
