//! Every scalar kernel passes the common tests.

mod naive {
    trit_conformance::kernel_tests!(trit_kernel_naive::NAIVE_ENTRY);
}

mod swar {
    trit_conformance::kernel_tests!(trit_kernel_naive::SWAR_ENTRY);
}
