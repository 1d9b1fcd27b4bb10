//! The views and buffers that kernel calls take.

use std::ops::Range;

use crate::{AlignedBuf, Kernel, KernelInfo, Packed};

/// Int8 activations, row-major: `tokens` rows of `k` features.
#[derive(Clone, Copy, Debug)]
pub struct Activations<'a> {
    data: &'a [i8],
    tokens: usize,
    k: usize,
}

impl<'a> Activations<'a> {
    /// A view of `tokens` x `k` activations.
    ///
    /// # Panics
    /// When `data` has another length.
    pub fn new(data: &'a [i8], tokens: usize, k: usize) -> Self {
        assert_eq!(data.len(), tokens * k, "activations are not {tokens} x {k}");
        Self { data, tokens, k }
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Number of input features.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The features of one token.
    pub fn row(&self, token: usize) -> &'a [i8] {
        &self.data[token * self.k..(token + 1) * self.k]
    }
}

/// The buffer that holds prepared activations; it is reused from call to call and grows as needed.
#[derive(Debug, Default)]
pub struct PreparedBuf {
    buf: AlignedBuf,
    kernel: &'static str,
    k: usize,
    tokens: usize,
    group_bytes: usize,
}

impl PreparedBuf {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sizes the buffer for `tokens` of `k` features and returns its bytes: group `g` takes the bytes
    /// `g·B..(g+1)·B` with `B =` [`Kernel::prepared_group_bytes`]. The caller fills them with [`Kernel::prepare`],
    /// on one thread or several.
    pub fn begin(&mut self, kernel: &dyn Kernel, k: usize, tokens: usize) -> &mut [u8] {
        self.kernel = kernel.info().id;
        self.k = k;
        self.tokens = tokens;
        self.group_bytes = kernel.prepared_group_bytes(k);
        self.buf
            .resize(tokens.div_ceil(kernel.token_step()) * self.group_bytes);
        self.buf.bytes_mut()
    }

    /// Prepares all tokens on this thread.
    pub fn fill(&mut self, kernel: &dyn Kernel, activations: Activations<'_>) -> Prepared<'_> {
        let groups = 0..activations.tokens().div_ceil(kernel.token_step());
        let out = self.begin(kernel, activations.k(), activations.tokens());
        kernel.prepare(activations, groups, out);
        self.view()
    }

    /// The prepared activations.
    pub fn view(&self) -> Prepared<'_> {
        Prepared {
            bytes: self.buf.bytes(),
            kernel: self.kernel,
            k: self.k,
            tokens: self.tokens,
            group_bytes: self.group_bytes,
        }
    }
}

/// Activations in the form of one kernel.
#[derive(Clone, Copy, Debug)]
pub struct Prepared<'a> {
    bytes: &'a [u8],
    kernel: &'static str,
    k: usize,
    tokens: usize,
    group_bytes: usize,
}

impl<'a> Prepared<'a> {
    /// Number of input features.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// All groups, one after the other; 64-byte aligned.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes of group `group`.
    pub fn group(&self, group: usize) -> &'a [u8] {
        &self.bytes[group * self.group_bytes..(group + 1) * self.group_bytes]
    }
}

/// The arguments of [`Kernel::gemm`].
#[derive(Debug)]
pub struct GemmArgs<'a> {
    /// The weights, in a layout that the kernel accepts.
    pub weights: &'a Packed,
    /// Activations that the same kernel prepared.
    pub prepared: Prepared<'a>,
    /// Weight rows to compute.
    pub rows: Range<usize>,
    /// Tokens to compute.
    pub tokens: Range<usize>,
    /// At least [`Kernel::scratch_bytes`] bytes, 64-byte aligned, with any content.
    pub scratch: &'a mut [u8],
    /// `tokens.len()` x `rows.len()`, token-major.
    pub out: &'a mut [i32],
}

impl GemmArgs<'_> {
    /// Checks that the arguments fit each other and the kernel. Kernels call it first: their inner loops rely on it.
    ///
    /// # Panics
    /// When they do not: that is a bug of the caller, never a matter of input.
    pub fn check(&self, info: &KernelInfo, scratch_bytes: usize) {
        let id = info.id;
        assert!(
            info.accepts.contains(&self.weights.layout()),
            "{id} does not read layout {}",
            self.weights.layout().name()
        );
        assert_eq!(
            self.prepared.kernel, id,
            "activations were prepared by another kernel"
        );
        assert_eq!(
            self.prepared.k,
            self.weights.k(),
            "{id}: activations and weights differ in K"
        );
        assert!(
            self.rows.start <= self.rows.end && self.rows.end <= self.weights.rows(),
            "{id}: rows {:?} of {}",
            self.rows,
            self.weights.rows()
        );
        assert!(
            self.tokens.start <= self.tokens.end && self.tokens.end <= self.prepared.tokens,
            "{id}: tokens {:?} of {}",
            self.tokens,
            self.prepared.tokens
        );
        assert_eq!(
            self.out.len(),
            self.rows.len() * self.tokens.len(),
            "{id}: output size"
        );
        assert!(
            self.scratch.len() >= scratch_bytes,
            "{id}: scratch is too small"
        );
    }
}
