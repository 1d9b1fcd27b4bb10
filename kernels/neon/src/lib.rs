//! Ternary kernels of the neon family.
