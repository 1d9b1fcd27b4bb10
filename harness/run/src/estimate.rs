//! How long things will probably take and how much memory they need: good enough to divide a budget, never a result.

use trit_core::{ModelShape, Workload};

use crate::protocol::{INPUT_SETS, KernelFacts};

/// Length of a slice. Blocks of four slices of 1 to 5 ms straddle the fewest of the steps in speed that a shared machine
/// makes every few tens of milliseconds; 3 ms is the middle.
pub(crate) const SLICE_NS: u64 = 3_000_000;
/// What surrounds a slice: the request, the poisoning, the digests.
const AROUND_NS: u64 = 1_000_000;
/// Starting a worker.
const START_NS: u64 = 40_000_000;
/// One weight: making it from its seed and packing it.
const PACK_NS: f64 = 2.5;
/// One product of the definition.
const REFERENCE_NS: f64 = 0.1;
/// One byte of a working set that is filled by copying, first touch included.
const FILL_NS: f64 = 0.35;
/// One half-precision weight of an output head on one thread.
const HEAD_NS: f64 = 0.2;

/// What is known about the speed of one kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    /// One weight of a single-token call on one thread.
    pub(crate) gemv_ns: f64,
    /// One weight and token of a call of many tokens on one thread.
    pub(crate) gemm_ns: f64,
    /// Stored bits a weight.
    pub(crate) weight_bits: f64,
}

impl Estimate {
    /// From the survey; a slow scalar kernel where it has nothing.
    pub(crate) fn of(facts: Option<&KernelFacts>) -> Self {
        let sane = |value: Option<f64>| value.filter(|ns| ns.is_finite() && *ns > 0.0);
        Self {
            gemv_ns: sane(facts.and_then(|facts| facts.gemv_ns_per_weight)).unwrap_or(1.0),
            gemm_ns: sane(facts.and_then(|facts| facts.gemm_ns_per_weight)).unwrap_or(1.0),
            weight_bits: facts.map_or(2.0, |facts| facts.weight_bits).max(1.0),
        }
    }

    /// One call of a micro cell.
    fn call_ns(self, workload: Workload, weights: u64, tokens: u64, threads: usize) -> f64 {
        let (weights, tokens, threads) = (weights as f64, tokens as f64, threads.max(1) as f64);
        match workload {
            Workload::Gemm if tokens > 1.0 => weights * tokens * self.gemm_ns / threads,
            Workload::Pack => weights * PACK_NS / threads,
            // At most some nanoseconds a feature; K is not known apart from the rows.
            Workload::Prepare => weights.sqrt() * tokens * 2.0 / threads,
            _ => weights * self.gemv_ns / threads,
        }
    }

    /// One visit of a micro cell: an untimed call, the slice, and what surrounds both.
    pub(crate) fn visit_ns(
        self,
        workload: Workload,
        weights: u64,
        tokens: u64,
        threads: usize,
    ) -> u64 {
        let call = self.call_ns(workload, weights, tokens, threads);
        (call + call.max(SLICE_NS as f64)) as u64 + AROUND_NS
    }

    /// Setting a micro cell up, its share of the reference included.
    pub(crate) fn setup_ns(
        self,
        workload: Workload,
        weights: u64,
        tokens: u64,
        working_set: u64,
    ) -> u64 {
        let sets = if workload == Workload::GemvCold {
            INPUT_SETS as f64
        } else {
            1.0
        };
        let weights = weights as f64;
        // The answers are computed once and serve every kernel and thread count; a quarter is about a cell's part.
        let reference = weights * tokens as f64 * INPUT_SETS as f64 * REFERENCE_NS / 4.0;
        let own = weights * sets * PACK_NS + working_set as f64 * FILL_NS / 2.0;
        let call = self.call_ns(workload, weights as u64, tokens, 1);
        (own + reference + 6.0 * call) as u64 + START_NS / 4
    }

    /// Loading a model, the check of four tokens, and that of sequences which are decoded together.
    pub(crate) fn engine_setup_ns(self, weights: u64, head: u64, batch: u64) -> u64 {
        // Half of it: prefill and decode share the worker.
        let load = f64::midpoint(weights as f64 * 0.6, head as f64 * 2.0);
        let check = 4.0 * (weights as f64 * self.gemv_ns + head as f64 * HEAD_NS) / 2.0;
        // Each sequence by itself, and all of them together.
        let check = if batch > 1 {
            check * 3.0 * batch as f64
        } else {
            check
        };
        (load + check) as u64 + START_NS
    }

    /// One request of each sequence: a prompt, then tokens one by one, those of all sequences together.
    pub(crate) fn engine_visit_ns(
        self,
        weights: u64,
        head: u64,
        threads: usize,
        prompt_tokens: u64,
        gen_tokens: u64,
        batch: u64,
    ) -> u64 {
        let (threads, batch) = (threads.max(1) as f64, batch.max(1) as f64);
        let (weights, head) = (weights as f64, head as f64 * HEAD_NS);
        let prefill = batch * (weights * prompt_tokens as f64 * self.gemm_ns + head);
        let step = weights * self.gemv_ns.max(batch * self.gemm_ns) + batch * head;
        let decode = gen_tokens as f64 * step;
        ((prefill + decode) * 1.15 / threads) as u64 + AROUND_NS
    }
}

/// Memory of an engine over a model with random weights: packed linears, a half-precision embedding, scratch and cache.
pub(crate) fn model_memory(shape: &ModelShape, weight_bits: f64) -> u64 {
    let linears = shape.linear_weights() as f64 * weight_bits / 8.0;
    (linears * 1.1) as u64 + 2 * shape.embedding_weights() + (256 << 20)
}

/// Keys and values of `positions` positions of one sequence, in the largest type there is.
pub(crate) fn kv_memory(shape: &ModelShape, positions: u64) -> u64 {
    let width = shape.hidden / shape.heads.max(1) * shape.kv_heads;
    (2 * 4 * shape.layers * width).saturating_mul(positions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_grow_with_the_work() {
        let estimate = Estimate::of(None);
        assert_eq!(estimate.weight_bits.to_bits(), 2.0f64.to_bits());
        let visit =
            |weights, tokens, threads| estimate.visit_ns(Workload::Gemm, weights, tokens, threads);
        assert!(visit(1 << 24, 32, 1) > visit(1 << 22, 32, 1));
        assert!(visit(1 << 24, 32, 1) > visit(1 << 24, 32, 2));
        // A visit is never shorter than its slice.
        assert!(visit(16, 1, 1) > SLICE_NS);
        assert!(
            estimate.engine_visit_ns(1 << 30, 1 << 28, 2, 64, 16, 1)
                > estimate.engine_visit_ns(1 << 30, 1 << 28, 2, 64, 0, 1)
        );
    }

    #[test]
    fn odd_surveys_do_not_break_the_plan() {
        for odd in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let facts = KernelFacts {
                gemv_ns_per_weight: Some(odd),
                gemm_ns_per_weight: Some(odd),
                weight_bits: odd.min(0.0),
                ..KernelFacts::default()
            };
            assert_eq!(
                Estimate::of(Some(&facts)).gemv_ns.to_bits(),
                1.0f64.to_bits()
            );
            assert!(Estimate::of(Some(&facts)).weight_bits >= 1.0);
        }
    }
}
