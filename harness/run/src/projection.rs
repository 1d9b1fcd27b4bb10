//! Models that do not fit: measured on two parts of their layers, from which the whole is projected.

use trit_core::{Cell, ModelShape, PlannedCell, Status};

/// The smaller part has at least this share of the layers of the larger one: a quarter of the way leaves three quarters between the
/// points of the line, and the part is still a model.
const SMALLER: u64 = 4;
/// A part reads at least so many times the last-level cache for a token, where its model has that much: it is about memory, as the
/// whole is.
const CACHES: u64 = 2;

/// Numbers of layers of the two parts: as many as `fits` allows, and fewer. When all of them fit, half of them at most, so that
/// something is projected. Nothing where not even two layers fit.
pub(crate) fn parts(
    shape: &ModelShape,
    weight_bits: f64,
    cache_bytes: u64,
    fits: impl Fn(u64) -> bool,
) -> Option<(u64, u64)> {
    let most = if fits(shape.layers) {
        shape.layers / 2
    } else {
        shape.layers - 1
    };
    let larger = (2..=most).rev().find(|layers| fits(*layers))?;
    let weights = shape.linear_weights() as f64 / shape.layers as f64;
    let layer_bytes = (weights * weight_bits / 8.0).max(1.0);
    let out_of_cache = (CACHES as f64 * cache_bytes as f64 / layer_bytes).ceil() as u64;
    let smaller = larger.div_ceil(SMALLER).max(out_of_cache).min(larger / 2);
    Some((smaller, larger))
}

/// The name of a model with random weights with that many layers.
pub(crate) fn with_layers(model: &str, layers: u64) -> String {
    let base = model.split_once(":layers=").map_or(model, |(base, _)| base);
    format!("{base}:layers={layers}")
}

/// The row of the whole: what it is projected from stands in it, and nothing runs for it.
pub(crate) fn projected(whole: &PlannedCell, smaller: &Cell, larger: &Cell) -> PlannedCell {
    let (few, many) = (&smaller.model, &larger.model);
    PlannedCell {
        cell: Cell {
            cell: format!("{}/projected", whole.cell.cell),
            status: Status::Projected,
            reason: format!("a straight line through the times of {few} and {many}"),
            projected_from: format!("{} {}", smaller.cell, larger.cell),
            ..whole.cell.clone()
        },
        station: whole.station,
        ..PlannedCell::default()
    }
}

#[cfg(test)]
mod tests {
    use trit_core::synthetic_shape;

    use super::*;

    #[test]
    fn parts_fit_and_differ() {
        let large = synthetic_shape("synth:100b").unwrap();
        assert_eq!(parts(&large, 2.0, 32 << 20, |n| n <= 40), Some((10, 40)));
        // A model that fits is projected from half of it.
        let small = synthetic_shape("synth:700m").unwrap();
        assert_eq!(small.layers, 24);
        assert_eq!(parts(&small, 2.0, 0, |_| true), Some((3, 12)));
        // Parts that a cache would hold are made larger, as far as two of them remain.
        assert_eq!(parts(&small, 2.0, 32 << 20, |_| true), Some((6, 12)));
        assert_eq!(parts(&small, 2.0, 0, |n| n < 2), None);
    }

    #[test]
    fn names_of_parts() {
        assert_eq!(with_layers("synth:100b", 7), "synth:100b:layers=7");
        assert_eq!(
            with_layers("synth:100b:layers=40", 7),
            "synth:100b:layers=7"
        );
    }
}
