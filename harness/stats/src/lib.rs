//! Pure statistics: no dependencies, no input or output.
