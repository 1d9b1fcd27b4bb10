//! What the arithmetic of a token would take in adders and multipliers of a 7 nm process. An estimate that knows nothing of memory,
//! caches, instructions and leakage: it stands in columns named `model_*` and nowhere else.
//!
//! It is the estimate behind the energy that is published with BitNet b1.58 2B4T (arXiv 2504.12285, table 1; the constants by way of
//! arXiv 2402.17764, after Horowitz, ISSCC 2014, and Zhang et al. 2022):
//!
//! ```text
//! E = tokens * (N * e + 2 * W * position * a)
//! ```
//!
//! `N` weights of the linears, `e` the energy of one weight and token, `W` layers times query heads times their width, `position` the
//! tokens that attention looks back on, `a` one half-precision multiply and add. The published values are a pass of 512 tokens, each of
//! which looks back on 512; the head is not counted.

use trit_core::{ArithmeticShape, ArithmeticWeight, Cell, Workload};

/// Half-precision addition and multiplication, in picojoules.
const F16_ADD_PJ: f64 = 0.16;
const F16_MULTIPLY_PJ: f64 = 0.34;
/// 8-bit integer addition and multiplication, in picojoules.
const INT8_ADD_PJ: f64 = 0.007;
const INT8_MULTIPLY_PJ: f64 = 0.07;

/// One weight and token of a half-precision, an 8-bit and a ternary linear: the last needs no multiplication.
const F16_WEIGHT_PJ: f64 = F16_ADD_PJ + F16_MULTIPLY_PJ;
const INT8_WEIGHT_PJ: f64 = INT8_ADD_PJ + INT8_MULTIPLY_PJ;
const TERNARY_WEIGHT_PJ: f64 = INT8_ADD_PJ;

/// Arithmetic of one token, in microjoules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arithmetic {
    pub(crate) linear_uj: f64,
    /// Missing for single kernels.
    pub(crate) attention_uj: Option<f64>,
}

/// Linears of `weights` at `weight_pj` each.
fn linear_uj(weights: f64, weight_pj: f64) -> f64 {
    weights * weight_pj / 1e6
}

/// Scores and values of one token that looks back on `position` tokens: two products of `width`.
fn attention_uj(width: f64, position: f64) -> f64 {
    2.0 * width * position * F16_WEIGHT_PJ / 1e6
}

/// Joules of a pass as it is published: 512 tokens, each of which looks back on 512; feed-forward of three matrices.
pub(crate) fn published_pass_j(shape: &ArithmeticShape) -> f64 {
    const TOKENS: f64 = 512.0;
    let [layers, hidden, queries, keys, ffn] = [
        shape.layers,
        shape.hidden,
        shape.queries,
        shape.keys,
        shape.ffn,
    ]
    .map(f64::from);
    let weights = layers * (2.0 * hidden * queries + 2.0 * hidden * keys + 3.0 * hidden * ffn);
    let weight_pj = match shape.weight {
        ArithmeticWeight::F16 => F16_WEIGHT_PJ,
        ArithmeticWeight::Ternary => TERNARY_WEIGHT_PJ,
    };
    TOKENS * (linear_uj(weights, weight_pj) + attention_uj(layers * queries, TOKENS)) / 1e6
}

/// Energy of one weight and token for a kernel; nothing for arithmetic that the model does not know.
fn weight_pj(kernel: &str) -> Option<f64> {
    match kernel.split_once("-dense-") {
        None if kernel.is_empty() => None,
        None => Some(TERNARY_WEIGHT_PJ),
        Some(("f16", _)) => Some(F16_WEIGHT_PJ),
        Some(("i8", _)) => Some(INT8_WEIGHT_PJ),
        Some(_) => None,
    }
}

impl Arithmetic {
    /// One token of a cell; nothing for cells without tokens or of unknown shape.
    pub(crate) fn of(cell: &Cell) -> Option<Self> {
        let pj = weight_pj(&cell.kernel)?;
        let before = cell.depth.unwrap_or(0) as f64;
        let position = match cell.workload {
            Workload::GemvCold | Workload::GemvWarm | Workload::Gemm => {
                let weights = cell.rows? as f64 * cell.k? as f64;
                return Some(Self {
                    linear_uj: linear_uj(weights, pj),
                    attention_uj: None,
                });
            }
            // The mean over the tokens.
            Workload::Prefill => before + cell.prompt_tokens? as f64 / 2.0,
            Workload::Decode => before + cell.prompt_tokens? as f64 + cell.gen_tokens? as f64 / 2.0,
            _ => return None,
        };
        Some(Self {
            linear_uj: linear_uj(cell.linear_weights? as f64, pj),
            attention_uj: Some(attention_uj(cell.attention_width? as f64, position)),
        })
    }

    /// Both parts.
    pub(crate) fn uj(self) -> f64 {
        self.linear_uj + self.attention_uj.unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trit_core::Published;

    #[test]
    fn the_six_published_values() {
        let claims = trit_core::embedded_claims().unwrap();
        let mut seen = 0;
        for claim in claims {
            let (Some(shape), Published::Value(published)) = (claim.arithmetic, claim.published)
            else {
                continue;
            };
            let joules = published_pass_j(&shape);
            assert_eq!(
                format!("{joules:.3}"),
                format!("{published:.3}"),
                "{}: {joules}",
                claim.id
            );
            seen += 1;
        }
        assert_eq!(seen, 6);
    }

    #[test]
    fn the_cell_of_that_model_has_the_published_value() {
        let cell = Cell {
            kernel: "w2a8-mad-avx2".into(),
            workload: Workload::Prefill,
            prompt_tokens: Some(512),
            // The mean of a prompt after 256 tokens: the published estimate takes 512 for every token.
            depth: Some(256),
            linear_weights: Some(2_084_044_800),
            attention_width: Some(30 * 2560),
            ..Cell::default()
        };
        let one = Arithmetic::of(&cell).unwrap();
        assert!((one.uj() * 512.0 / 1e6 - 0.0276).abs() < 5e-5, "{one:?}");
        assert!((one.linear_uj - 14.588).abs() < 1e-3, "{one:?}");
        // What the model does not know stays empty.
        for kernel in ["q4-dense-avx2", "f32-dense-avx2", ""] {
            let other = Cell {
                kernel: kernel.into(),
                ..cell.clone()
            };
            assert_eq!(Arithmetic::of(&other), None, "{kernel}");
        }
        let unknown = Cell {
            linear_weights: None,
            ..cell
        };
        assert_eq!(Arithmetic::of(&unknown), None);
    }

    #[test]
    fn a_ternary_weight_is_an_addition() {
        let cell = |kernel: &str| Cell {
            kernel: kernel.into(),
            workload: Workload::GemvWarm,
            rows: Some(1000),
            k: Some(1000),
            ..Cell::default()
        };
        let uj = |kernel: &str| Arithmetic::of(&cell(kernel)).unwrap().uj();
        assert!((uj("w2a8-mad-avx2") - 0.007).abs() < 1e-12);
        assert!((uj("f16-dense-avx2") - 0.5).abs() < 1e-12);
        assert!((uj("i8-dense-avx2") - 0.077).abs() < 1e-12);
        // The published factor of 71.4 between half precision and ternary.
        assert!((uj("f16-dense-avx2") / uj("w2a8-mad-avx2") - 71.4).abs() < 0.05);
    }
}
