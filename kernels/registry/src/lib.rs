//! The one list of all kernels.
