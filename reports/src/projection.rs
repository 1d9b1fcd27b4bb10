//! Results of models that were measured on parts of their layers: a straight line through two parts, continued to all layers.
//!
//! What a token takes apart from its layers (embedding, last norm, head, sampling) is in both parts once, and so in the line.

use std::collections::{BTreeMap, BTreeSet};

use trit_core::{Cell, Results, Status, SummaryRow, synthetic_shape};

use crate::markdown::ranked;
use crate::summary::{bytes_per_call, ops_per_call, tokens_per_call};

/// Continues the line through `(few layers, a)` and `(many layers, b)`: the factors of `a` and `b`, which add up to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Line {
    of_few: f64,
    of_many: f64,
}

impl Line {
    fn through(few: u64, many: u64, whole: u64) -> Option<Self> {
        let further = (whole as f64 - many as f64) / (many as f64 - few as f64);
        (few < many).then_some(Self {
            of_few: -further,
            of_many: 1.0 + further,
        })
    }

    fn at(self, few: f64, many: f64) -> f64 {
        self.of_few * few + self.of_many * many
    }

    fn whole_number(self, few: Option<u64>, many: Option<u64>) -> Option<u64> {
        let value = self.at(few? as f64, many? as f64).round();
        (value >= 0.0).then_some(value as u64)
    }

    /// How far the end of the line may be off when each point may be off by so much, independently.
    fn spread(self, few: f64, many: f64) -> f64 {
        (self.of_few * few).hypot(self.of_many * many)
    }
}

/// Fills the rows of projected cells from those of their parts. Without both parts such a cell is skipped, and says so.
pub(crate) fn fill(rows: &mut [SummaryRow]) {
    let named: BTreeSet<String> = rows
        .iter()
        .filter(|row| row.cell.status == Status::Projected)
        .flat_map(|row| row.cell.projected_from.split(' '))
        .map(str::to_owned)
        .collect();
    let parts: BTreeMap<String, SummaryRow> = rows
        .iter()
        .filter(|row| named.contains(&row.cell.cell))
        .map(|row| (row.cell.cell.clone(), row.clone()))
        .collect();
    for row in rows
        .iter_mut()
        .filter(|row| row.cell.status == Status::Projected)
    {
        let whole = row.cell.clone();
        match project(&whole, &parts) {
            Ok((cell, results)) => {
                row.cell = cell;
                row.results = results;
            }
            Err(reason) => {
                row.cell.status = Status::Skipped;
                row.cell.reason = reason;
            }
        }
    }
}

fn project(whole: &Cell, parts: &BTreeMap<String, SummaryRow>) -> Result<(Cell, Results), String> {
    let (few, many) = whole
        .projected_from
        .split_once(' ')
        .ok_or("it does not say what it is projected from")?;
    let part = |id: &str| {
        let row = parts
            .get(id)
            .ok_or_else(|| format!("there is no row of {id}"))?;
        if ranked(row) {
            Ok(row)
        } else {
            Err(format!("its part {id} has no result: {}", row.cell.reason))
        }
    };
    let (few, many) = (part(few)?, part(many)?);
    let layers = |cell: &Cell| synthetic_shape(&cell.model).map(|shape| shape.layers);
    let line = layers(&few.cell)
        .zip(layers(&many.cell))
        .zip(layers(whole))
        .and_then(|((few, many), whole)| Line::through(few, many, whole))
        .ok_or("its models have no known numbers of layers")?;
    let key = |of: fn(&Cell) -> Option<u64>| line.whole_number(of(&few.cell), of(&many.cell));
    let cell = Cell {
        bytes_per_call: key(|cell| cell.bytes_per_call),
        ops_per_call: key(|cell| cell.ops_per_call),
        linear_weights: key(|cell| cell.linear_weights),
        attention_width: key(|cell| cell.attention_width),
        ..whole.clone()
    };
    let (a, b) = (&few.results, &many.results);
    let (Some(ns_a), Some(ns_b)) = (a.median_ns, b.median_ns) else {
        return Err("its parts have no median".to_owned());
    };
    let ns = line.at(ns_a, ns_b);
    // A part that is faster with more layers is noise, not a model.
    if ns <= 0.0 || ns_b <= ns_a {
        return Err(format!(
            "its parts took {ns_a:.0} and {ns_b:.0} ns: no line leads from them to the whole"
        ));
    }
    let number = |of: fn(&Results) -> Option<u64>| line.whole_number(of(a), of(b));
    let down = |results: &Results, ns: f64| Some(ns - results.lo_ns?);
    let up = |results: &Results, ns: f64| Some(results.hi_ns? - ns);
    // The end goes down with the larger part, and up with the smaller one.
    let lo = up(a, ns_a).zip(down(b, ns_b));
    let hi = down(a, ns_a).zip(up(b, ns_b));
    let results = Results {
        median_ns: Some(ns),
        lo_ns: lo.map(|(a, b)| (ns - line.spread(a, b)).max(0.0)),
        hi_ns: hi.map(|(a, b)| ns + line.spread(a, b)),
        tokens_per_s: tokens_per_call(&cell).map(|tokens| tokens * 1e9 / ns),
        gops: ops_per_call(&cell).map(|ops| ops / ns),
        gb_per_s: bytes_per_call(&cell).map(|bytes| bytes / ns),
        peak_rss_bytes: number(|results| results.peak_rss_bytes),
        rss_anon_bytes: number(|results| results.rss_anon_bytes),
        rss_file_bytes: number(|results| results.rss_file_bytes),
        ..Results::default()
    };
    Ok((cell, results))
}

#[cfg(test)]
mod tests {
    use trit_core::Workload;

    use super::*;

    fn row(id: &str, model: &str, ns: f64, off: f64) -> SummaryRow {
        SummaryRow {
            cell: Cell {
                cell: id.to_owned(),
                model: model.to_owned(),
                workload: Workload::Decode,
                linear_weights: synthetic_shape(model).map(|shape| shape.linear_weights()),
                ..Cell::default()
            },
            results: Results {
                median_ns: Some(ns),
                lo_ns: Some(ns - off),
                hi_ns: Some(ns + 2.0 * off),
                peak_rss_bytes: Some(ns as u64 / 10),
                ..Results::default()
            },
        }
    }

    fn whole() -> SummaryRow {
        let mut whole = row("whole", "synth:700m", 0.0, 0.0);
        whole.cell.status = Status::Projected;
        whole.cell.projected_from = "few many".to_owned();
        whole.cell.linear_weights = None;
        whole.results = Results::default();
        whole
    }

    #[test]
    fn a_line_is_continued() {
        // 100 ns apart from the layers, and 10 ns a layer; the model has 24.
        let few = row("few", "synth:700m:layers=4", 140.0, 3.0);
        let many = row("many", "synth:700m:layers=12", 220.0, 4.0);
        let mut rows = [whole(), few, many];
        fill(&mut rows);
        let [whole, ..] = rows;
        assert_eq!(whole.cell.status, Status::Projected);
        let results = whole.results;
        assert!((results.median_ns.unwrap() - 340.0).abs() < 1e-9);
        // Factors -1.5 and 2.5: the smaller part 6 too slow and the larger one 4 too fast, and the other way round.
        let (lo, hi) = (results.lo_ns.unwrap(), results.hi_ns.unwrap());
        assert!((lo - (340.0 - 9.0f64.hypot(10.0))).abs() < 1e-9, "{lo}");
        assert!((hi - (340.0 + 4.5f64.hypot(20.0))).abs() < 1e-9, "{hi}");
        assert!((results.tokens_per_s.unwrap() - 1e9 / 340.0).abs() < 1e-3);
        assert_eq!(results.peak_rss_bytes, Some(34));
        assert_eq!(results.n, None);
        let shape = synthetic_shape("synth:700m").unwrap();
        assert_eq!(whole.cell.linear_weights, Some(shape.linear_weights()));
    }

    #[test]
    fn without_parts_there_is_no_projection() {
        let few = || row("few", "synth:700m:layers=4", 140.0, 3.0);
        let slow = row("many", "synth:700m:layers=12", 130.0, 3.0);
        let mut failed = row("many", "synth:700m:layers=12", 220.0, 3.0);
        failed.cell.status = Status::Failed;
        failed.cell.reason = "the disk was full".to_owned();
        for (many, why) in [(slow, "no line"), (failed, "the disk was full")] {
            let mut rows = [whole(), few(), many];
            fill(&mut rows);
            assert_eq!(rows[0].cell.status, Status::Skipped);
            assert!(rows[0].cell.reason.contains(why), "{}", rows[0].cell.reason);
            assert_eq!(rows[0].results, Results::default());
        }
        let mut rows = [whole(), few()];
        fill(&mut rows);
        assert!(rows[0].cell.reason.contains("no row of many"));
    }
}
