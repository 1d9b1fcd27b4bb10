//! Several tests at once.

/// Holm's adjustment: the adjusted p-values, in the order given. Rejecting those at most α keeps the probability of any
/// false alarm at α, whatever the dependence. `None` when a value is not a probability.
pub fn holm(p: &[f64]) -> Option<Vec<f64>> {
    if p.iter().any(|p| !(0.0..=1.0).contains(p)) {
        return None;
    }
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut largest = 0.0_f64;
    for (position, &i) in order.iter().enumerate() {
        largest = largest.max(((p.len() - position) as f64 * p[i]).min(1.0));
        adjusted[i] = largest;
    }
    Some(adjusted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn by_hand() {
        // 4 * .01, max(.04, 3 * .02), max(.06, 2 * .03), max(.06, .04): the usual textbook case.
        let got = holm(&[0.03, 0.01, 0.04, 0.02]).unwrap();
        for (got, want) in got.iter().zip([0.06, 0.04, 0.06, 0.06]) {
            assert!((got - want).abs() < 1e-12);
        }
        assert_eq!(holm(&[]), Some(vec![]));
        assert_eq!(holm(&[0.9, 0.8]), Some(vec![1.0, 1.0]));
        assert_eq!(holm(&[f64::NAN]), None);
    }

    #[test]
    fn the_family_keeps_its_error_rate() {
        let mut rng = Rng::new(8);
        let alarms = (0..4000)
            .filter(|_| {
                let p: Vec<f64> = (0..10).map(|_| rng.uniform()).collect();
                holm(&p).unwrap().iter().any(|p| *p <= 0.05)
            })
            .count();
        // At most 200 expected; four standard errors above it are 255.
        assert!((130..=255).contains(&alarms), "{alarms}");
    }
}
