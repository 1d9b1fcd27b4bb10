//! Lanes of x86-64.

pub(crate) mod avx2;
pub(crate) mod avx512;

/// Methods of [`crate::simd::Simd`] whose bodies are intrinsics. The token is the proof that they may be executed, and
/// every memory access goes through a reference to an array of the right size.
macro_rules! intrinsics {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? = $body:expr;)*) => {
        $(
            #[inline(always)]
            fn $name(self, $($arg: $type),*) $(-> $out)? {
                // SAFETY: a token exists only where `open` saw the instruction set; arrays have the size that is read
                // or written, and the instructions ask for no alignment.
                unsafe { $body }
            }
        )*
    };
}
pub(crate) use intrinsics;
