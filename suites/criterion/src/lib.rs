//! What the criterion benches share: seeded matrices and a kernel ready to be called. The benches are in `benches/`.
//!
//! These are for people who change a kernel. The product measures with `trit-run`, which verifies what it times.
#![forbid(unsafe_code)]

use trit_kernel::{
    Activations, AlignedBuf, Codes, Cpu, DenseArgs, DenseEntry, DenseKernel, DenseWeights,
    GemmArgs, Kernel, KernelEntry, Packed, PreparedBuf, Scales, Unavailable,
};

/// `n` seeded bytes.
pub fn bytes(n: usize, seed: u64) -> Vec<u8> {
    // Xorshift64 (Marsaglia, 2003); the multiplier makes the high bits good.
    let mut state = seed | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 56) as u8
        })
        .collect()
}

/// `n` seeded ternary weights.
pub fn weights(n: usize, seed: u64) -> Vec<i8> {
    bytes(n, seed)
        .into_iter()
        .map(|b| (b % 3) as i8 - 1)
        .collect()
}

/// A ternary kernel with weights, activations and buffers of one shape.
pub struct Ternary {
    kernel: Box<dyn Kernel>,
    weights: Packed,
    activations: Vec<i8>,
    tokens: usize,
    prepared: PreparedBuf,
    scratch: AlignedBuf,
    out: Vec<i32>,
}

impl Ternary {
    /// Opens the kernel and prepares `tokens` tokens for `rows` x `k` weights in its preferred layout.
    ///
    /// # Errors
    /// Why the kernel cannot be opened.
    ///
    /// # Panics
    /// When the shape is empty or too large.
    pub fn open(
        entry: &KernelEntry,
        rows: usize,
        k: usize,
        tokens: usize,
    ) -> Result<Self, Unavailable> {
        let kernel = (entry.open)(Cpu::uncapped())?;
        let codes = weights(rows * k, 1);
        let codes = Codes::new(&codes, rows, k).expect("a valid shape");
        let layout = kernel.info().accepts[0];
        let weights = Packed::pack(codes, layout, Scales::Tensor(1.0)).expect("a valid matrix");
        let activations = bytes(tokens * k, 2).into_iter().map(|b| b as i8).collect();
        let mut this = Self {
            scratch: AlignedBuf::zeroed(kernel.scratch_bytes(k, rows, tokens)),
            prepared: PreparedBuf::new(),
            out: vec![0; rows * tokens],
            kernel,
            weights,
            activations,
            tokens,
        };
        this.prepare();
        Ok(this)
    }

    /// Prepares all tokens.
    pub fn prepare(&mut self) {
        let view = Activations::new(&self.activations, self.tokens, self.weights.k());
        self.prepared.fill(&*self.kernel, view);
    }

    /// Multiplies everything and returns the sums.
    pub fn gemm(&mut self) -> &[i32] {
        self.kernel.gemm(GemmArgs {
            weights: &self.weights,
            prepared: self.prepared.view(),
            rows: 0..self.weights.rows(),
            tokens: 0..self.tokens,
            scratch: self.scratch.bytes_mut(),
            out: &mut self.out,
        });
        &self.out
    }
}

/// A dense kernel with weights, activations and buffers of one shape.
pub struct Dense {
    kernel: Box<dyn DenseKernel>,
    weights: DenseWeights,
    activations: Vec<f32>,
    tokens: usize,
    prepared: AlignedBuf,
    scratch: AlignedBuf,
    out: Vec<f32>,
}

impl Dense {
    /// Opens the kernel and prepares `tokens` tokens for `rows` x `k` weights.
    ///
    /// # Errors
    /// Why the kernel cannot be opened.
    pub fn open(
        entry: &DenseEntry,
        rows: usize,
        k: usize,
        tokens: usize,
    ) -> Result<Self, Unavailable> {
        let kernel = (entry.open)(Cpu::uncapped())?;
        let weights: Vec<f32> = weights(rows * k, 1).into_iter().map(f32::from).collect();
        let groups = tokens.div_ceil(kernel.token_step());
        let mut this = Self {
            weights: kernel.pack(&weights, rows, k),
            activations: bytes(tokens * k, 2)
                .into_iter()
                .map(|b| f32::from(b as i8))
                .collect(),
            prepared: AlignedBuf::zeroed(groups * kernel.prepared_group_bytes(k)),
            scratch: AlignedBuf::zeroed(kernel.scratch_bytes(k, rows, tokens)),
            out: vec![0.0; rows * tokens],
            kernel,
            tokens,
        };
        this.prepare();
        Ok(this)
    }

    /// Prepares all tokens.
    pub fn prepare(&mut self) {
        let groups = 0..self.tokens.div_ceil(self.kernel.token_step());
        let out = self.prepared.bytes_mut();
        self.kernel
            .prepare(&self.activations, self.tokens, self.weights.k, groups, out);
    }

    /// Multiplies everything and returns the outputs.
    pub fn gemm(&mut self) -> &[f32] {
        self.kernel.gemm(DenseArgs {
            weights: &self.weights,
            prepared: self.prepared.bytes(),
            rows: 0..self.weights.rows,
            tokens: 0..self.tokens,
            scratch: self.scratch.bytes_mut(),
            out: &mut self.out,
        });
        &self.out
    }
}
