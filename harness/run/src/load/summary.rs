//! What a load amounts to: counts, rates, percentiles, goodput.

use serde::Serialize;
use trit_core::{ChunkRow, RequestRow, RequestStatus};
use trit_stats::quantile_of_sorted;

/// From so many values on a percentile of this height is told: ten values lie above it, or one for the median.
const FEWEST: [(f64, usize); 3] = [(0.5, 1), (0.9, 100), (0.99, 1000)];

/// What a request has to keep to count for goodput. Without a limit every complete answer is good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LatencyLimits {
    /// Longest time to the first token.
    pub ttft_ns: Option<u64>,
    /// Longest time a token after the first.
    pub tpot_ns: Option<u64>,
    /// Longest time to the last token.
    pub latency_ns: Option<u64>,
}

impl LatencyLimits {
    /// Whether a complete answer kept all limits. An answer of one token has no time a token after the first.
    fn keeps(&self, row: &RequestRow) -> bool {
        let within = |value: Option<f64>, limit: Option<u64>| {
            limit.is_none_or(|limit| value.is_none_or(|value| value <= limit as f64))
        };
        within(row.ttft_ns.map(|ns| ns as f64), self.ttft_ns)
            && within(row.tpot_ns, self.tpot_ns)
            && within(row.latency_ns.map(|ns| ns as f64), self.latency_ns)
    }
}

/// Mean and percentiles of a time. What too few values cannot tell is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Values.
    pub n: usize,
    /// Their mean.
    pub mean_ns: Option<f64>,
    /// Median.
    pub p50_ns: Option<f64>,
    /// 90th percentile; from 100 values on.
    pub p90_ns: Option<f64>,
    /// 99th percentile; from 1000 values on.
    pub p99_ns: Option<f64>,
    /// The largest.
    pub max_ns: Option<f64>,
}

impl Percentiles {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let n = values.len();
        let [p50_ns, p90_ns, p99_ns] =
            FEWEST.map(|(p, fewest)| quantile_of_sorted(&values, p).filter(|_| n >= fewest));
        Self {
            n,
            mean_ns: trit_stats::mean(&values),
            p50_ns,
            p90_ns,
            p99_ns,
            max_ns: values.last().copied(),
        }
    }
}

/// A load in numbers. Percentiles are of complete answers alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoadSummary {
    /// Requests that were sent, or that were due and waited for a connection.
    pub requests: usize,
    /// Complete answers.
    pub ok: usize,
    /// Failed requests.
    pub errors: usize,
    /// Requests without a complete answer in time.
    pub timeouts: usize,
    /// Requests under way when the load was stopped; they count nowhere else.
    pub interrupted: usize,
    /// Requests that were planned and never due.
    pub not_sent: usize,
    /// Errors and timeouts over all that were not interrupted.
    pub error_rate: Option<f64>,
    /// From the first request to the end of the last.
    pub wall_ns: Option<u64>,
    /// Complete answers a minute.
    pub requests_per_minute: Option<f64>,
    /// Tokens of complete answers a second, as counted by the server; pieces of text where it does not count.
    pub tokens_per_s: Option<f64>,
    /// Whether every complete answer came with the server's count of its tokens.
    pub tokens_counted_by_server: bool,
    /// What an answer has to keep.
    pub limits: LatencyLimits,
    /// Complete answers that kept the limits.
    pub good: usize,
    /// The same a minute.
    pub goodput_per_minute: Option<f64>,
    /// The same over all requests that were not interrupted.
    pub good_share: Option<f64>,
    /// Time to the first token.
    pub ttft: Percentiles,
    /// Time a token after the first, one value a request.
    pub tpot: Percentiles,
    /// Time between two pieces of text, one value a pair.
    pub itl: Percentiles,
    /// Time to the last token.
    pub latency: Percentiles,
    /// What went wrong, with how often: most frequent first.
    pub reasons: Vec<(String, usize)>,
}

/// Collects rows as they come.
#[derive(Debug, Default)]
pub(super) struct Tally {
    rows: Vec<RequestRow>,
    gaps_ns: Vec<f64>,
}

impl Tally {
    pub(super) fn push(&mut self, row: &RequestRow, chunks: &[ChunkRow]) {
        if row.status == RequestStatus::Ok {
            let gaps = chunks.iter().skip(1).map(|chunk| chunk.time_ns as f64);
            self.gaps_ns.extend(gaps);
        }
        self.rows.push(row.clone());
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn summary(self, planned: usize, limits: LatencyLimits) -> LoadSummary {
        let rows = &self.rows;
        let count = |status| rows.iter().filter(|row| row.status == status).count();
        let ok: Vec<&RequestRow> = rows
            .iter()
            .filter(|row| row.status == RequestStatus::Ok)
            .collect();
        let (errors, timeouts) = (count(RequestStatus::Error), count(RequestStatus::Timeout));
        let judged = ok.len() + errors + timeouts;
        let share = |part: usize| (judged > 0).then(|| part as f64 / judged as f64);
        let first = rows.iter().map(|row| row.due_ns).min();
        let last = rows.iter().filter_map(|row| row.end_ns).max();
        let wall_ns = last.zip(first).map(|(last, first)| last - first);
        let seconds = wall_ns.filter(|ns| *ns > 0).map(|ns| ns as f64 * 1e-9);
        let good = ok.iter().filter(|row| limits.keeps(row)).count();
        let tokens: u64 = ok.iter().filter_map(|row| row.tokens.or(row.chunks)).sum();
        let values = |value: fn(&RequestRow) -> Option<f64>| {
            Percentiles::of(ok.iter().filter_map(|row| value(row)).collect())
        };
        let mut reasons = std::collections::BTreeMap::<&str, usize>::new();
        for row in rows.iter().filter(|row| !row.reason.is_empty()) {
            *reasons.entry(&row.reason).or_default() += 1;
        }
        let mut reasons: Vec<(String, usize)> = reasons
            .into_iter()
            .map(|(reason, count)| (reason.to_owned(), count))
            .collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        LoadSummary {
            requests: rows.len(),
            ok: ok.len(),
            errors,
            timeouts,
            interrupted: count(RequestStatus::Interrupted),
            not_sent: planned.saturating_sub(rows.len()),
            error_rate: share(errors + timeouts),
            wall_ns,
            requests_per_minute: seconds.map(|seconds| 60.0 * ok.len() as f64 / seconds),
            tokens_per_s: seconds.map(|seconds| tokens as f64 / seconds),
            tokens_counted_by_server: !ok.is_empty() && ok.iter().all(|row| row.tokens.is_some()),
            limits,
            good,
            goodput_per_minute: seconds.map(|seconds| 60.0 * good as f64 / seconds),
            good_share: share(good),
            ttft: values(|row| row.ttft_ns.map(|ns| ns as f64)),
            tpot: values(|row| row.tpot_ns),
            itl: Percentiles::of(self.gaps_ns),
            latency: values(|row| row.latency_ns.map(|ns| ns as f64)),
            reasons,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(request: u64, status: RequestStatus, ttft_ms: u64, tpot_ms: f64) -> RequestRow {
        RequestRow {
            request,
            status,
            reason: match status {
                RequestStatus::Error => "status 500".to_owned(),
                _ => String::new(),
            },
            due_ns: request * 1_000_000_000,
            end_ns: Some(request * 1_000_000_000 + 2_000_000_000),
            ttft_ns: Some(ttft_ms * 1_000_000),
            latency_ns: Some(2_000_000_000),
            tpot_ns: Some(tpot_ms * 1e6),
            tokens: Some(10),
            chunks: Some(9),
            ..RequestRow::default()
        }
    }

    #[test]
    fn counts_rates_and_goodput() {
        let mut tally = Tally::default();
        let chunk = |index, ms: u64| ChunkRow {
            request: 0,
            index,
            time_ns: ms * 1_000_000,
        };
        let chunks = [chunk(0, 100), chunk(1, 7), chunk(2, 9)];
        tally.push(&row(0, RequestStatus::Ok, 100, 10.0), &chunks);
        tally.push(&row(1, RequestStatus::Ok, 300, 10.0), &[]);
        tally.push(&row(2, RequestStatus::Ok, 100, 30.0), &[]);
        tally.push(&row(3, RequestStatus::Error, 1, 1.0), &chunks);
        tally.push(&row(4, RequestStatus::Interrupted, 1, 1.0), &chunks);
        let limits = LatencyLimits {
            ttft_ns: Some(200_000_000),
            tpot_ns: Some(20_000_000),
            latency_ns: None,
        };
        let got = tally.summary(7, limits);
        assert_eq!(
            (
                got.requests,
                got.ok,
                got.errors,
                got.interrupted,
                got.not_sent
            ),
            (5, 3, 1, 1, 2)
        );
        assert_eq!(got.error_rate, Some(0.25));
        assert_eq!(got.wall_ns, Some(6_000_000_000));
        assert_eq!(got.requests_per_minute, Some(30.0));
        assert_eq!(got.tokens_per_s, Some(5.0));
        assert_eq!((got.good, got.good_share), (1, Some(0.25)));
        assert_eq!(got.goodput_per_minute, Some(10.0));
        assert_eq!(got.ttft.n, 3);
        assert_eq!((got.ttft.p50_ns, got.ttft.p90_ns), (Some(1e8), None));
        // Gaps of complete answers alone, without the wait for the first piece.
        assert_eq!((got.itl.n, got.itl.mean_ns), (2, Some(8e6)));
        assert_eq!(got.reasons, [("status 500".to_owned(), 1)]);
    }

    #[test]
    fn nothing_is_missing_and_not_zero() {
        let got = Tally::default().summary(3, LatencyLimits::default());
        assert_eq!((got.not_sent, got.wall_ns, got.error_rate), (3, None, None));
        assert_eq!((got.requests_per_minute, got.ttft.mean_ns), (None, None));
        assert!(!got.tokens_counted_by_server);
    }

    #[test]
    fn high_percentiles_want_many_values() {
        let of = |n: u32| Percentiles::of((1..=n).map(f64::from).collect());
        assert!(of(99).p90_ns.is_none() && of(100).p90_ns.is_some());
        assert!(of(999).p99_ns.is_none() && of(1000).p99_ns.is_some());
        assert_eq!(of(1001).p99_ns, Some(991.0));
    }
}
