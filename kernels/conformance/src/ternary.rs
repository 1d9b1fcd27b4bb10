//! One case: a kernel, a layout, a shape, a window, and everything around the buffers guarded.

use std::ops::Range;
use std::sync::Arc;

use trit_kernel::{
    Accuracy, Activations, AlignedBuf, ByteOwner, Codes, GemmArgs, Kernel, LayoutId, Packed,
    PreparedBuf, Scales, Storage,
};

use crate::{Activation, Rng, Weight, exact_sum};

const GUARD: usize = 128;
const GUARD_BYTE: u8 = 0xC3;
const POISON_BYTE: u8 = 0xA5;
const GUARD_SUM: i32 = 0x6B_3C_5A_0F;
const POISON_SUM: i32 = 0x5A5A_5A5A;

/// A shape with everything that can vary.
#[derive(Clone, Debug)]
pub struct Case {
    /// The packed form.
    pub layout: LayoutId,
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub k: usize,
    /// Tokens that are prepared.
    pub tokens: usize,
    /// How weights are chosen.
    pub weights: Weight,
    /// How activations are chosen.
    pub activations: Activation,
    /// Rows that are computed.
    pub row_window: Range<usize>,
    /// Tokens that are computed.
    pub token_window: Range<usize>,
    /// Bytes by which the packed weights are shifted from a 64-byte boundary; `None`: owned.
    pub offset: Option<usize>,
    /// Groups that one call of `prepare` gets.
    pub groups_a_call: usize,
    /// The seed of weights and activations.
    pub seed: u64,
}

struct Shifted(AlignedBuf);

impl ByteOwner for Shifted {
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl Case {
    /// Random weights and activations, the whole matrix, owned weights, one call of `prepare`.
    pub fn new(layout: LayoutId, rows: usize, k: usize, tokens: usize) -> Self {
        Self {
            layout,
            rows,
            k,
            tokens,
            weights: Weight::Random,
            activations: Activation::Random,
            row_window: 0..rows,
            token_window: 0..tokens,
            offset: None,
            groups_a_call: usize::MAX,
            seed: (rows as u64) << 40 ^ (k as u64) << 16 ^ tokens as u64,
        }
    }

    /// Runs `kernel` on the case.
    ///
    /// # Errors
    /// What is wrong: a sum, or a byte outside of what the kernel may write.
    ///
    /// # Panics
    /// When the case itself is impossible, or the kernel panics.
    pub fn check(&self, kernel: &dyn Kernel) -> Result<(), String> {
        let mut rng = Rng::new(self.seed);
        let codes = self.weights.fill(self.rows, self.k, &mut rng);
        let activations = self.activations.fill(self.tokens, self.k, &mut rng);
        let packed = self.pack(&codes);
        let view = Activations::new(&activations, self.tokens, self.k);
        let prepared_bytes = self.prepare(kernel, view)?;

        let mut buf = PreparedBuf::new();
        let bytes = buf.begin(kernel, self.k, self.tokens);
        if bytes.len() != prepared_bytes.len() {
            return Err(format!(
                "{} prepared bytes, not {}",
                prepared_bytes.len(),
                bytes.len()
            ));
        }
        bytes.copy_from_slice(prepared_bytes.bytes());
        let out = self.gemm(kernel, &packed, &buf)?;
        if buf.view().bytes() != prepared_bytes.bytes() {
            return Err("gemm changed the prepared activations".to_owned());
        }
        self.compare(kernel, &codes, &activations, &out)
    }

    fn pack(&self, codes: &[i8]) -> Packed {
        let codes = Codes::new(codes, self.rows, self.k).expect("a case is a valid matrix");
        let owned =
            Packed::pack(codes, self.layout, Scales::Tensor(1.0)).expect("a case can be packed");
        let Some(offset) = self.offset else {
            return owned;
        };
        let len = owned.bytes().len();
        let mut buf = AlignedBuf::zeroed(offset + len);
        buf.bytes_mut()[offset..].copy_from_slice(owned.bytes());
        Packed::adopt(
            self.layout,
            self.rows,
            self.k,
            Storage::Shared(Arc::new(Shifted(buf)), offset..offset + len),
            Scales::Tensor(1.0),
        )
        .expect("moved bytes stay valid")
    }

    /// Prepares in calls of `groups_a_call` groups, last call first, each between guards.
    fn prepare(&self, kernel: &dyn Kernel, view: Activations<'_>) -> Result<AlignedBuf, String> {
        let bytes = kernel.prepared_group_bytes(self.k);
        if kernel.token_step() == 0 || kernel.row_step() == 0 {
            return Err("a step is 0".to_owned());
        }
        if !bytes.is_multiple_of(64) {
            return Err(format!(
                "{bytes} bytes a prepared group is no multiple of 64"
            ));
        }
        let groups = self.tokens.div_ceil(kernel.token_step());
        let mut all = AlignedBuf::zeroed(groups * bytes);
        let step = self.groups_a_call.clamp(1, groups.max(1));
        let mut end = groups;
        while end > 0 {
            let start = (end - 1) / step * step;
            let mut guarded = AlignedBuf::zeroed(GUARD * 2 + (end - start) * bytes);
            guarded.bytes_mut().fill(GUARD_BYTE);
            let inner = GUARD..GUARD + (end - start) * bytes;
            guarded.bytes_mut()[inner.clone()].fill(POISON_BYTE);
            kernel.prepare(view, start..end, &mut guarded.bytes_mut()[inner.clone()]);
            intact(guarded.bytes(), &inner, "prepare: a byte outside of out")?;
            all.bytes_mut()[start * bytes..end * bytes].copy_from_slice(&guarded.bytes()[inner]);
            end = start;
        }
        Ok(all)
    }

    fn gemm(
        &self,
        kernel: &dyn Kernel,
        packed: &Packed,
        prepared: &PreparedBuf,
    ) -> Result<Vec<i32>, String> {
        let (rows, tokens) = (self.row_window.len(), self.token_window.len());
        let scratch_bytes = kernel.scratch_bytes(self.k, rows, tokens);
        let mut scratch = AlignedBuf::zeroed(GUARD * 2 + scratch_bytes);
        scratch.bytes_mut().fill(GUARD_BYTE);
        let inner = GUARD..GUARD + scratch_bytes;
        scratch.bytes_mut()[inner.clone()].fill(POISON_BYTE);
        // One element more than a guard in front: `out` is aligned to 4 bytes only.
        let first = GUARD + 1;
        let mut out = vec![GUARD_SUM; first + rows * tokens + GUARD];
        out[first..first + rows * tokens].fill(POISON_SUM);
        kernel.gemm(GemmArgs {
            weights: packed,
            prepared: prepared.view(),
            rows: self.row_window.clone(),
            tokens: self.token_window.clone(),
            scratch: &mut scratch.bytes_mut()[inner.clone()],
            out: &mut out[first..first + rows * tokens],
        });
        intact(scratch.bytes(), &inner, "gemm: a byte outside of scratch")?;
        let outside = out[..first].iter().chain(&out[first + rows * tokens..]);
        if outside.into_iter().any(|v| *v != GUARD_SUM) {
            return Err("gemm: a sum outside of out was changed".to_owned());
        }
        out.truncate(first + rows * tokens);
        out.drain(..first);
        Ok(out)
    }

    fn compare(
        &self,
        kernel: &dyn Kernel,
        codes: &[i8],
        activations: &[i8],
        out: &[i32],
    ) -> Result<(), String> {
        let tolerance = match kernel.info().accuracy {
            Accuracy::Exact => 0,
            Accuracy::BoundedPerFeature(bound) => i64::from(bound) * self.k as i64,
        };
        let mut sums = out.iter();
        for token in self.token_window.clone() {
            let a = &activations[token * self.k..][..self.k];
            for row in self.row_window.clone() {
                let want = exact_sum(&codes[row * self.k..][..self.k], a);
                let got = i64::from(*sums.next().expect("out has the size of the window"));
                if (got - want).abs() > tolerance {
                    let poison = if got == i64::from(POISON_SUM) {
                        " (never written)"
                    } else {
                        ""
                    };
                    return Err(format!(
                        "token {token}, row {row}: {got}{poison} instead of {want}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// [`Case::check`], with the case in the message.
    ///
    /// # Panics
    /// When the check fails.
    pub fn assert(&self, kernel: &dyn Kernel) {
        if let Err(error) = self.check(kernel) {
            panic!("{}: {error}\n{self:?}", kernel.info().id);
        }
    }
}

fn intact(bytes: &[u8], inner: &Range<usize>, what: &str) -> Result<(), String> {
    let outside = bytes[..inner.start].iter().chain(&bytes[inner.end..]);
    if outside.into_iter().any(|b| *b != GUARD_BYTE) {
        return Err(format!("{what} was changed"));
    }
    Ok(())
}
