//! Ternary kernels of the lut family.
