//! Where table look-up beats multiply-add, and where it does not.

use trit_core::SummaryRow;

use crate::document::Table;
use crate::labels;
use crate::markdown::races;
use crate::units::three;

/// Bits of a vector of an instruction set by its name; nothing for scalar code.
fn vector_bits(isa: &str) -> Option<u32> {
    if isa.starts_with("avx512") || isa.starts_with("amx") {
        Some(512)
    } else if isa.starts_with("avx") {
        Some(256)
    } else if ["neon", "dotprod", "i8mm"]
        .iter()
        .any(|name| isa.starts_with(name))
    {
        Some(128)
    } else {
        None
    }
}

fn is_lookup(row: &SummaryRow) -> bool {
    row.cell.kernel.contains("-lut")
}

fn is_multiply_add(row: &SummaryRow) -> bool {
    !is_lookup(row) && row.cell.kernel.starts_with('w')
}

/// One line: the best look-up kernel and the best other ternary kernel of one vector length in one race.
struct Duel<'a> {
    bits: u32,
    lookup: &'a SummaryRow,
    other: &'a SummaryRow,
}

impl Duel<'_> {
    /// How many times as fast look-up is.
    fn ratio(&self) -> Option<f64> {
        Some(self.other.results.median_ns? / self.lookup.results.median_ns?)
    }

    fn verdict(&self) -> &'static str {
        let (lookup, other) = (&self.lookup.results, &self.other.results);
        match (lookup.lo_ns, lookup.hi_ns, other.lo_ns, other.hi_ns) {
            (_, Some(hi), Some(lo), _) if hi < lo => "look-up wins",
            (Some(lo), _, _, Some(hi)) if hi < lo => "multiply-add wins",
            _ => "not told apart",
        }
    }
}

fn duels<'a>(race: &[&'a SummaryRow]) -> Vec<Duel<'a>> {
    [128, 256, 512]
        .into_iter()
        .filter_map(|bits| {
            // A race is in the order of speed: the first is the best.
            let best = |wanted: fn(&SummaryRow) -> bool| {
                race.iter()
                    .copied()
                    .find(|row| vector_bits(&row.cell.isa) == Some(bits) && wanted(row))
            };
            Some(Duel {
                bits,
                lookup: best(is_lookup)?,
                other: best(is_multiply_add)?,
            })
        })
        .collect()
}

/// The section of the report: a table, and a sentence that counts. Nothing without kernels of both kinds.
pub(crate) fn lookup_section(rows: &[SummaryRow]) -> Option<(Table, String)> {
    let races = races(rows);
    let duels: Vec<Duel<'_>> = races.iter().flat_map(|race| duels(race)).collect();
    if duels.is_empty() {
        return None;
    }
    let lines: Vec<Vec<String>> = duels
        .iter()
        .map(|duel| {
            let cell = &duel.lookup.cell;
            vec![
                cell.workload.name().to_owned(),
                labels::shape(cell),
                cell.threads
                    .map_or_else(String::new, |threads| threads.to_string()),
                duel.bits.to_string(),
                format!("`{}`", labels::subject(cell)),
                format!("`{}`", labels::subject(&duel.other.cell)),
                duel.ratio()
                    .map_or_else(String::new, |ratio| format!("{}x", three(ratio))),
                duel.verdict().to_owned(),
            ]
        })
        .collect();
    let count = |verdict| {
        duels
            .iter()
            .filter(|duel| duel.verdict() == verdict)
            .count()
    };
    let header = [
        "workload",
        "shape",
        "threads:",
        "vector bits:",
        "best look-up",
        "best multiply-add",
        "look-up is:",
        "verdict",
    ];
    let sentence = format!(
        "Of {} comparisons at equal vector length look-up wins {}, multiply-add {}, and {} are not told apart. Separate medians: a ratio that must hold comes from a pair.",
        duels.len(),
        count("look-up wins"),
        count("multiply-add wins"),
        count("not told apart"),
    );
    Some((Table::new(&header, lines), sentence))
}

#[cfg(test)]
mod tests {
    use trit_core::{Cell, Results, Status, Workload};

    use super::*;

    fn row(kernel: &str, isa: &str, ns: f64) -> SummaryRow {
        SummaryRow {
            cell: Cell {
                cell: format!("{kernel}/gemv-warm/8x8/t1"),
                status: Status::Ok,
                subject: kernel.into(),
                kernel: kernel.into(),
                isa: isa.into(),
                rows: Some(8),
                k: Some(8),
                workload: Workload::GemvWarm,
                threads: Some(1),
                ..Cell::default()
            },
            results: Results {
                median_ns: Some(ns),
                lo_ns: Some(ns - 1.0),
                hi_ns: Some(ns + 1.0),
                ..Results::default()
            },
        }
    }

    #[test]
    fn each_vector_length_has_its_own_line_and_the_better_of_each_kind() {
        let rows = [
            row("w2a8-naive-scalar", "scalar", 1.0),
            row("w2a8-lut2-avx2", "avx2", 100.0),
            row("w1.67a8-lut3-avx2", "avx2", 80.0),
            row("w2a8-mad-avx2", "avx2", 200.0),
            row("w2a8-mad-avxvnni", "avxvnni", 160.0),
            row("w2a8-lut2-avx512", "avx512bw", 50.5),
            row("w2a8-mad-avx512vnni", "avx512vnni", 50.0),
            row("f32-dense-avx2", "avx2", 2.0),
        ];
        let (table, sentence) = lookup_section(&rows).unwrap();
        let text = table.markdown() + &sentence;
        assert!(
            text.contains(
                "| 256 | `w1.67a8-lut3-avx2` | `w2a8-mad-avxvnni` | 2.00x | look-up wins |"
            ),
            "{text}"
        );
        assert!(
            text.contains(
                "| 512 | `w2a8-lut2-avx512` | `w2a8-mad-avx512vnni` | 0.990x | not told apart |"
            ),
            "{text}"
        );
        assert!(
            text.contains(
                "Of 2 comparisons at equal vector length look-up wins 1, multiply-add 0, and 1 are"
            ),
            "{text}"
        );
        assert_eq!(lookup_section(&rows[3..5]), None);
    }
}
