//! The same kernels by criterion and by `tritbench run`, as `scripts/record agreement` recorded them once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::path::Path;

use trit_stats::median;

/// The largest distance of the medians of five rounds: two processes place the same matrix differently, which is a percent or two.
const MOST: f64 = 0.04;

/// Round, group of benches, kernel.
type Key = (u64, String, String);

/// Numbers of a file by its first three columns.
fn read(name: &str) -> BTreeMap<Key, Vec<Vec<f64>>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden/agreement")
        .join(name);
    let mut found = BTreeMap::<Key, Vec<Vec<f64>>>::new();
    for record in csv::Reader::from_path(path).unwrap().records() {
        let record = record.unwrap();
        let key = (
            record[0].parse().unwrap(),
            record[1].to_owned(),
            record[2].to_owned(),
        );
        let numbers = record.iter().skip(3).map(|field| field.parse().unwrap());
        found.entry(key).or_default().push(numbers.collect());
    }
    found
}

#[test]
fn criterion_and_our_slices_agree_about_kernels() {
    let theirs = read("criterion.csv");
    let ours = read("tritbench.csv");
    let mut logs = BTreeMap::<(String, String), Vec<f64>>::new();
    let mut places = BTreeMap::<(u64, String), Vec<(f64, f64)>>::new();
    for ((round, group, kernel), rows) in &ours {
        // Criterion's benches multiply alone: without the time of preparing activations.
        let calls: Vec<f64> = rows.iter().map(|row| (row[1] - row[2]) / row[0]).collect();
        let our_ns = median(&calls).unwrap();
        let [their_ns, lo_ns, hi_ns] = theirs[&(*round, group.clone(), kernel.clone())][0][..]
        else {
            panic!("three columns")
        };
        assert!(lo_ns <= their_ns && their_ns <= hi_ns);
        places
            .entry((*round, group.clone()))
            .or_default()
            .push((our_ns, their_ns));
        logs.entry((group.clone(), kernel.clone()))
            .or_default()
            .push((our_ns / their_ns).ln());
    }
    assert_eq!(logs.len(), 6, "three kernels, one token and 32");
    for (kernel, rounds) in &logs {
        assert_eq!(rounds.len(), 5, "{kernel:?}");
        let log = median(rounds).unwrap();
        assert!(log.abs() < MOST, "{kernel:?}: {rounds:?}");
    }
    // Kernels that criterion puts a tenth apart are in the same order by ours, in every round.
    let mut apart = 0;
    for (place, kernels) in &places {
        for (ours, theirs) in kernels {
            for (other_ours, other_theirs) in kernels {
                if *theirs * 1.1 < *other_theirs {
                    apart += 1;
                    assert!(ours < other_ours, "{place:?}: {kernels:?}");
                }
            }
        }
    }
    assert!(apart >= 20, "{apart}");
}
