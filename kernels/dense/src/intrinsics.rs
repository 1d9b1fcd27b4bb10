//! How the vectors of an instruction set are written down.

/// Unsafe trait functions whose bodies are intrinsics.
macro_rules! intrinsics {
    ($(fn $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? = $body:expr;)*) => {
        $(
            #[inline(always)]
            #[allow(
                unused_unsafe,
                reason = "what touches no memory is safe where the target always has the instruction set"
            )]
            unsafe fn $name($($arg: $type),*) $(-> $out)? {
                // SAFETY: as the caller says; see the trait.
                unsafe { $body }
            }
        )*
    };
}
pub(crate) use intrinsics;
