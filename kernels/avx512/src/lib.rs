//! Ternary kernels of the avx512 family.
