//! Every 256-bit kernel passes the common tests.

mod mad_avx2 {
    trit_conformance::kernel_tests!(trit_kernel_avx2::MAD_ENTRY);
}

mod mad_avxvnni {
    trit_conformance::kernel_tests!(trit_kernel_avx2::VNNI_ENTRY);
}
