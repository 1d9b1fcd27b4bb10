//! Every look-up kernel passes the common tests.

mod lut2_avx2 {
    trit_conformance::kernel_tests!(trit_kernel_lut::LUT2_AVX2_ENTRY);
}

mod lut3_avx2 {
    trit_conformance::kernel_tests!(trit_kernel_lut::LUT3_AVX2_ENTRY);
}

mod lut2_avx512 {
    trit_conformance::kernel_tests!(trit_kernel_lut::LUT2_AVX512_ENTRY);
}

mod lut3_avx512 {
    trit_conformance::kernel_tests!(trit_kernel_lut::LUT3_AVX512_ENTRY);
}

mod lut5_avx512 {
    trit_conformance::kernel_tests!(trit_kernel_lut::LUT5_AVX512_ENTRY);
}

mod lut4_vbmi {
    trit_conformance::kernel_tests!(trit_kernel_lut::LUT4_VBMI_ENTRY);
}

mod lut5_vbmi {
    trit_conformance::kernel_tests!(trit_kernel_lut::LUT5_VBMI_ENTRY);
}

mod lut2_neon {
    trit_conformance::kernel_tests!(trit_kernel_lut::LUT2_NEON_ENTRY);
}

mod lut3_neon {
    trit_conformance::kernel_tests!(trit_kernel_lut::LUT3_NEON_ENTRY);
}
