//! Likelihood of a text in windows, and how far configurations are from the first one.

use std::path::PathBuf;

use trit_core::EvalRow;
use trit_stats::Interval;

use super::{EvalError, Facts, Subject, log_sum_exp, mean, mean_interval, with_value};

/// A text and how it is cut.
#[derive(Clone, Debug)]
pub struct TextPlan {
    /// Where the text comes from.
    pub path: PathBuf,
    /// Its SHA-256.
    pub sha256: String,
    /// Its tokens, without one that begins a text.
    pub tokens: Vec<u32>,
    /// Its bytes, for bits a byte; of the tokens alone where the text was cut off.
    pub bytes: usize,
    /// Tokens of a window.
    pub window: usize,
    /// Tokens that a window advances.
    pub stride: usize,
}

/// What a configuration said about every predicted token.
#[derive(Clone, Debug, Default)]
struct Scores {
    /// Negative log-likelihood in nats.
    nll: Vec<f64>,
    /// Kullback-Leibler divergence of its distribution from the reference's, in nats.
    divergence: Vec<f64>,
    /// 1 where its most likely token is the reference's.
    agreement: Vec<f64>,
    /// Positions whose logits are the reference's to the bit.
    identical: usize,
}

/// The most likely token; the first of equals.
fn top(logits: &[f32]) -> usize {
    let better =
        |best: usize, (i, logit): (usize, &f32)| if *logit > logits[best] { i } else { best };
    logits.iter().enumerate().fold(0, better)
}

impl Scores {
    fn add(&mut self, logits: &[f32], target: usize, reference: Option<&[f32]>) {
        let sum = log_sum_exp(logits);
        self.nll.push(sum - f64::from(logits[target]));
        let Some(reference) = reference else { return };
        let reference_sum = log_sum_exp(reference);
        let divergence: f64 = reference
            .iter()
            .zip(logits)
            .map(|(a, b)| {
                let (a, b) = (f64::from(*a) - reference_sum, f64::from(*b) - sum);
                a.exp() * (a - b)
            })
            .sum();
        // A sum of roundings may be a little below the zero that it stands for.
        self.divergence.push(divergence.max(0.0));
        self.agreement
            .push(f64::from(u8::from(top(logits) == top(reference))));
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
        self.identical += usize::from(reference.iter().zip(logits).all(same));
    }
}

/// A window: its inputs, the targets behind them, and how many of them count (the last ones).
struct Window {
    inputs: Vec<u32>,
    targets: Vec<u32>,
    count: usize,
}

/// Cuts the text: every token is predicted once. Each window begins with `bos`, or without one with the token before, so that the first
/// token of such a text is not predicted. Windows are full but for the first of a short text.
fn windows(plan: &TextPlan, bos: Option<u32>) -> Vec<Window> {
    let (all, before): (&[u32], &[u32]) = match bos {
        Some(_) => (&plan.tokens, &[]),
        None => (plan.tokens.get(1..).unwrap_or_default(), &plan.tokens),
    };
    let mut out = Vec::new();
    let mut counted = 0;
    while counted < all.len() {
        let step = if counted == 0 {
            plan.window
        } else {
            plan.stride
        };
        let end = (counted + step).min(all.len());
        let start = end.saturating_sub(plan.window);
        let first = bos.unwrap_or_else(|| before[start]);
        let mut inputs = vec![first];
        inputs.extend(&all[start..end - 1]);
        out.push(Window {
            inputs,
            targets: all[start..end].to_vec(),
            count: end - counted,
        });
        counted = end;
    }
    out
}

/// Evaluates all subjects on a text: rows of loss, perplexity and bits a byte, and for all but the first what differs from it.
/// `progress(done, of)` is called for every window.
///
/// # Errors
/// When the stride means nothing, the text is too short, or a model refuses.
pub fn text_rows(
    subjects: &[Subject<'_>],
    facts: &Facts,
    plan: &TextPlan,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<EvalRow>, EvalError> {
    if !(1..=plan.window).contains(&plan.stride) {
        return Err(EvalError::Stride {
            stride: plan.stride,
            window: plan.window,
        });
    }
    let Some(first) = subjects.first() else {
        return Ok(Vec::new());
    };
    let config = first.engine.config();
    let bos = config.bos.filter(|_| config.add_bos);
    let want = if bos.is_some() { 1 } else { 2 };
    if plan.tokens.len() < want {
        return Err(EvalError::Short {
            path: plan.path.clone(),
            tokens: plan.tokens.len(),
            want,
        });
    }
    let windows = windows(plan, bos);
    let longest = windows.iter().map(|w| w.inputs.len()).max().unwrap_or(1);
    let mut sessions = subjects
        .iter()
        .map(|subject| subject.engine.session(longest))
        .collect::<Result<Vec<_>, _>>()?;
    let mut scores = vec![Scores::default(); subjects.len()];
    let vocab = config.vocab;
    for (done, window) in windows.iter().enumerate() {
        let skip = window.inputs.len() - window.count;
        let mut reference: Vec<f32> = Vec::with_capacity(window.count * vocab);
        for (index, session) in sessions.iter_mut().enumerate() {
            session.truncate(0);
            let mut finite = true;
            session.prefill_all(&window.inputs, |position, logits| {
                let Some(at) = position.checked_sub(skip) else {
                    return;
                };
                finite &= logits.iter().all(|logit| logit.is_finite());
                let target = window.targets[position] as usize;
                if index == 0 {
                    scores[0].add(logits, target, None);
                    if subjects.len() > 1 {
                        reference.extend(logits);
                    }
                } else {
                    let of = &reference[at * vocab..(at + 1) * vocab];
                    scores[index].add(logits, target, Some(of));
                }
            })?;
            if !finite {
                return Err(EvalError::NotFinite {
                    config: subjects[index].label.clone(),
                });
            }
        }
        progress(done + 1, windows.len());
    }
    Ok(rows(subjects, facts, plan, &scores))
}

fn rows(
    subjects: &[Subject<'_>],
    facts: &Facts,
    plan: &TextPlan,
    scores: &[Scores],
) -> Vec<EvalRow> {
    let name = plan.path.file_name().unwrap_or(plan.path.as_os_str());
    let task = format!("text:{}", name.to_string_lossy());
    let mut out = Vec::new();
    for (subject, own) in subjects.iter().zip(scores) {
        let row = EvalRow {
            window: Some(plan.window as u64),
            stride: Some(plan.stride as u64),
            ..subject.row(facts, &task, &plan.sha256)
        };
        let n = own.nll.len();
        let (loss, interval) = (mean(&own.nll), mean_interval(&own.nll, plan.stride));
        let map = |f: &dyn Fn(f64) -> f64| {
            let of = |interval: Interval| Interval {
                lo: f(interval.lo),
                hi: f(interval.hi),
                ..interval
            };
            (f(loss), interval.map(of))
        };
        let bits = n as f64 / std::f64::consts::LN_2 / plan.bytes as f64;
        let metrics: [(&str, &dyn Fn(f64) -> f64); 3] = [
            ("nll", &|loss| loss),
            ("perplexity", &f64::exp),
            ("bits_per_byte", &|loss| loss * bits),
        ];
        for (metric, f) in metrics {
            let (value, interval) = map(f);
            out.push(with_value(row.clone(), metric, n, value, interval));
        }
        if own.divergence.is_empty() {
            continue;
        }
        let row = EvalRow {
            reference: subjects[0].label.clone(),
            ..row
        };
        let reference = scores[0].nll.iter();
        let more: Vec<f64> = own.nll.iter().zip(reference).map(|(a, b)| a - b).collect();
        for (metric, values) in [
            ("nll_difference", &more),
            ("kl_divergence", &own.divergence),
            ("top1_agreement", &own.agreement),
        ] {
            let interval = mean_interval(values, plan.stride);
            out.push(with_value(row.clone(), metric, n, mean(values), interval));
        }
        let identical = own.identical as f64 / n as f64;
        out.push(with_value(row, "identical_logits", n, identical, None));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(tokens: usize, window: usize, stride: usize) -> TextPlan {
        TextPlan {
            path: PathBuf::from("t.txt"),
            sha256: String::new(),
            tokens: (10..10 + tokens as u32).collect(),
            bytes: tokens,
            window,
            stride,
        }
    }

    #[test]
    fn every_token_is_predicted_once_behind_the_one_before_it() {
        for (tokens, window, stride) in [(1, 8, 4), (8, 8, 4), (9, 8, 8), (30, 8, 3), (31, 8, 1)] {
            for bos in [Some(1), None] {
                let plan = plan(tokens, window, stride);
                let mut predicted: Vec<u32> = Vec::new();
                for one in windows(&plan, bos) {
                    assert!(one.inputs.len() == one.targets.len() && one.inputs.len() <= window);
                    assert!(bos.is_none_or(|bos| one.inputs[0] == bos));
                    assert_eq!(one.inputs[1..], one.targets[..one.targets.len() - 1]);
                    assert!(bos.is_some() || one.inputs[0] + 1 == one.targets[0]);
                    predicted.extend(&one.targets[one.targets.len() - one.count..]);
                }
                let want = &plan.tokens[usize::from(bos.is_none())..];
                assert_eq!(predicted, want, "{tokens} {window} {stride} {bos:?}");
            }
        }
    }

    #[test]
    fn scores_are_those_of_arithmetic_by_hand() {
        // Probabilities 1/2, 1/4, 1/4 and 1/4, 1/2, 1/4.
        let ln = |p: f32| p.ln() + 3.0;
        let reference = [ln(0.5), ln(0.25), ln(0.25)];
        let other = [ln(0.25), ln(0.5), ln(0.25)];
        let mut scores = Scores::default();
        scores.add(&other, 2, Some(&reference));
        scores.add(&reference, 0, Some(&reference));
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        close(scores.nll[0], 4f64.ln());
        close(scores.nll[1], 2f64.ln());
        // 1/2 ln 2 - 1/4 ln 2.
        close(scores.divergence[0], 2f64.ln() / 4.0);
        close(scores.divergence[1], 0.0);
        assert_eq!(scores.agreement, [0.0, 1.0]);
        assert_eq!(scores.identical, 1);
    }
}
