//! Every dense kernel passes the common tests.

macro_rules! tests {
    ($($name:ident: $entry:ident;)*) => {
        $(
            mod $name {
                trit_conformance::dense_tests!(trit_kernel_dense::$entry);
            }
        )*
    };
}

tests! {
    f32_scalar: F32_SCALAR_ENTRY;
    f32_avx2: F32_AVX2_ENTRY;
    f32_avx512: F32_AVX512_ENTRY;
    f16_avx2: F16_AVX2_ENTRY;
    f16_avx512: F16_AVX512_ENTRY;
    i8_avx2: I8_AVX2_ENTRY;
    i8_avxvnni: I8_AVXVNNI_ENTRY;
    i8_avx512vnni: I8_AVX512_ENTRY;
    q4_avx2: Q4_AVX2_ENTRY;
    q4_avxvnni: Q4_AVXVNNI_ENTRY;
    q4_avx512vnni: Q4_AVX512_ENTRY;
    f32_neon: F32_NEON_ENTRY;
    f16_neon: F16_NEON_ENTRY;
    i8_neon: I8_NEON_ENTRY;
    i8_dot: I8_DOT_ENTRY;
    q4_neon: Q4_NEON_ENTRY;
    q4_dot: Q4_DOT_ENTRY;
}
