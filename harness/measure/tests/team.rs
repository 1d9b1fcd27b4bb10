//! The thread team from outside: every thread works once a region, panics come back, nothing waits for ever.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use trit_measure::{Clock, MAX_THREADS, MonotonicClock, Team, TeamError, TeamOptions, share};

fn message(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<String>() {
        return text.clone();
    }
    payload
        .downcast_ref::<&str>()
        .map_or_else(|| "no text".to_owned(), |text| (*text).to_owned())
}

#[test]
fn every_thread_runs_once_a_region() {
    for threads in 1..=4 {
        let team = Team::new(threads).unwrap();
        assert_eq!(team.threads(), threads);
        let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
        for region in 1..500 {
            team.run(|thread| {
                counts[thread].fetch_add(1, Ordering::Relaxed);
            });
            assert!(
                counts
                    .iter()
                    .all(|count| count.load(Ordering::Relaxed) == region)
            );
        }
    }
}

#[test]
fn sums_and_parts() {
    let data: Vec<u64> = (0..100_003).map(|i| i * i % 977).collect();
    let want: u64 = data.iter().sum();
    for threads in 1..=4 {
        let team = Team::new(threads).unwrap();
        let mut sums = vec![0u64; threads];
        team.run_parts(&mut sums, |thread, sum| {
            *sum = data[share(data.len(), 16, thread, threads)].iter().sum();
        });
        assert_eq!(sums.iter().sum::<u64>(), want);
        // Fewer parts than threads: the others idle.
        let mut one = [String::from("a")];
        team.run_parts(&mut one, |thread, text| text.push_str(&thread.to_string()));
        assert_eq!(one, ["a0"]);
        team.run_parts(&mut [(); 0], |_, ()| unreachable!());
    }
}

#[test]
fn columns_are_dealt_out_once() {
    for threads in 1..=6 {
        let team = Team::new(threads).unwrap();
        let mut pieces = vec![0usize; threads];
        for (rows, width) in [(9, 50), (1, 1), (1, 1000), (0, 7), (3, 64), (4, 0)] {
            for step in [1, 7, 8, 16, 100] {
                let mut out = vec![0usize; rows * width];
                team.run_columns(&mut out, width, step, &mut pieces, |pieces, part| {
                    *pieces += 1;
                    let range = part.range();
                    assert!(range.start.is_multiple_of(step) && !range.is_empty());
                    assert!(range.end.is_multiple_of(step) || range.end == width);
                    for row in 0..part.rows() {
                        let out = part.row_mut(row).iter_mut();
                        for (column, value) in range.clone().zip(out) {
                            *value += row * width + column + 1;
                        }
                    }
                });
                assert!(out.iter().enumerate().all(|(i, &value)| value == i + 1));
            }
        }
        assert!(pieces.iter().sum::<usize>() > 0);
    }
}

#[test]
fn a_thread_that_is_held_up_is_helped() {
    let (threads, width) = (3, 90);
    let mut out = [0u8; 90];
    let team = Team::new(threads).unwrap();
    for held in 0..threads {
        let done = AtomicUsize::new(0);
        let mut states: Vec<usize> = (0..threads).collect();
        team.run_columns(&mut out, width, 1, &mut states, |thread, part| {
            let mine = part.range().len();
            if *thread == held {
                // It goes on only when the others have done all but this piece of its share.
                let start = MonotonicClock.now_ns();
                while done.load(Ordering::SeqCst) + mine < width {
                    let waited = MonotonicClock.now_ns() - start;
                    assert!(waited < 60_000_000_000, "nobody helps");
                    std::thread::yield_now();
                }
            }
            done.fetch_add(mine, Ordering::SeqCst);
        });
        assert_eq!(done.load(Ordering::SeqCst), width);
    }
}

#[test]
fn a_panic_in_a_piece_leaves_a_team_that_works() {
    let team = Team::new(2).unwrap();
    let mut out = [0u8; 64];
    let fall = || team.run_columns(&mut out, 64, 1, &mut [(), ()], |(), _| panic!("fell"));
    let result = catch_unwind(AssertUnwindSafe(fall));
    assert_eq!(message(&*result.unwrap_err()), "fell");
    team.run_columns(&mut out, 64, 1, &mut [(), ()], |(), part| {
        part.row_mut(0).fill(1);
    });
    assert_eq!(out, [1; 64]);
}

#[test]
#[should_panic(expected = "a state for each thread")]
fn fewer_states_than_threads_are_refused() {
    let team = Team::new(2).unwrap();
    team.run_columns(&mut [0u8; 4], 4, 1, &mut [()], |(), _| ());
}

#[test]
fn panics_come_back_after_everybody_has_finished() {
    for threads in 1..=4 {
        let team = Team::new(threads).unwrap();
        for guilty in 0..threads {
            let finished = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                team.run(|thread| {
                    assert!(thread != guilty, "thread {thread} fell");
                    finished.fetch_add(1, Ordering::SeqCst);
                });
            }));
            assert_eq!(
                message(&*result.unwrap_err()),
                format!("thread {guilty} fell")
            );
            assert_eq!(finished.load(Ordering::SeqCst), threads - 1);
            // The team still works.
            let count = AtomicUsize::new(0);
            team.run(|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.load(Ordering::Relaxed), threads);
        }
        // All at once: one of the panics arrives, the caller's own if it has one.
        let all = catch_unwind(AssertUnwindSafe(|| team.run(|thread| panic!("{thread}"))));
        assert_eq!(message(&*all.unwrap_err()), "0");
    }
}

#[test]
fn many_regions_with_and_without_spinning() {
    // Without spinning every wait of both sides goes through parking, which is where a lost wake-up would hang.
    for (spin_ns, regions) in [(TeamOptions::SPIN_NS, 100_000), (0, 20_000), (500, 20_000)] {
        for threads in [2, 3] {
            let team = Team::with_options(TeamOptions {
                threads,
                pin: true,
                spin_ns,
            })
            .unwrap();
            let mut counts = vec![0u32; threads];
            for _ in 0..regions / threads {
                team.run_parts(&mut counts, |_, count| *count += 1);
            }
            assert_eq!(counts, vec![regions as u32 / threads as u32; threads]);
        }
    }
}

#[test]
fn a_busy_neighbour_does_not_stop_the_team() {
    let stop = Arc::new(AtomicBool::new(false));
    let neighbours: Vec<_> = (0..3)
        .map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let team = Team::new(4).unwrap();
    let mut counts = [0u32; 4];
    for _ in 0..50 {
        team.run_parts(&mut counts, |_, count| *count += 1);
    }
    stop.store(true, Ordering::Relaxed);
    for neighbour in neighbours {
        neighbour.join().unwrap();
    }
    assert_eq!(counts, [50; 4]);
}

#[test]
fn a_region_inside_a_region_is_refused() {
    for threads in 1..=3 {
        let team = Team::new(threads).unwrap();
        let result = catch_unwind(AssertUnwindSafe(|| team.run(|_| team.run(|_| ()))));
        let text = message(&*result.unwrap_err());
        assert!(
            text.contains("a job must not run a region of a team that is busy"),
            "{text}"
        );
        team.run(|_| ());
        // Another team is not busy.
        let other = Team::new(2).unwrap();
        let count = AtomicUsize::new(0);
        team.run(|thread| {
            if thread == 0 {
                other.run(|_| {
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}

#[test]
fn callers_take_turns() {
    let team = Team::new(2).unwrap();
    let inside = AtomicUsize::new(0);
    let total = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..200 {
                    team.run(|_| {
                        assert!(
                            inside.fetch_add(1, Ordering::SeqCst) < 2,
                            "two regions at once"
                        );
                        total.fetch_add(1, Ordering::Relaxed);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            });
        }
    });
    assert_eq!(total.load(Ordering::Relaxed), 3 * 200 * 2);
}

#[test]
fn dropping_a_team_ends_its_threads() {
    // The job's data is shared with the workers through an `Arc`; once the team is dropped nobody else holds it.
    let held = Arc::new(());
    for threads in 1..=4 {
        let team = Team::new(threads).unwrap();
        let held = Arc::clone(&held);
        team.run(move |_| assert!(Arc::strong_count(&held) > 0));
    }
    assert_eq!(Arc::strong_count(&held), 1);
    // A team that never worked, and one whose workers are parked.
    drop(Team::new(3).unwrap());
    drop(
        Team::with_options(TeamOptions {
            threads: 3,
            pin: false,
            spin_ns: 0,
        })
        .unwrap(),
    );
}

#[test]
fn impossible_teams_are_errors() {
    assert!(matches!(Team::new(0), Err(TeamError::NoThreads)));
    let error = Team::new(MAX_THREADS + 1).unwrap_err();
    assert!(matches!(error, TeamError::TooManyThreads { threads: 1025 }));
    assert!(error.to_string().contains("hint"));
}

#[test]
#[should_panic(expected = "2 parts are more than 1 threads")]
fn more_parts_than_threads_are_refused() {
    Team::new(1).unwrap().run_parts(&mut [1, 2], |_, _| ());
}

#[cfg(target_os = "linux")]
#[test]
fn threads_are_pinned_and_freed() {
    use trit_measure::sys::affinity::{process_cpus, thread_cpus, unpin_thread};
    std::thread::spawn(|| {
        let all = process_cpus().unwrap();
        let threads = all.len().min(2);
        let order = trit_measure::cpu_order().unwrap();
        {
            let team = Team::new(threads).unwrap();
            assert!(team.pinned());
            let mut seen = vec![Vec::new(); threads];
            team.run_parts(&mut seen, |_, cpus| *cpus = thread_cpus().unwrap());
            for (i, cpus) in seen.iter().enumerate() {
                assert_eq!(cpus, &[order[i]]);
            }
            assert_eq!(thread_cpus().unwrap(), [order[0]]);
            // A crowded team is not pinned, though it is made and called by a thread that was.
            let crowd = Team::new(all.len() + 1).unwrap();
            assert!(!crowd.pinned());
            let mut seen = vec![Vec::new(); all.len() + 1];
            crowd.run_parts(&mut seen, |_, cpus| *cpus = thread_cpus().unwrap());
            assert!(seen.iter().all(|cpus| cpus == all));
            // And the caller takes its place in the first team again.
            team.run(|_| ());
            assert_eq!(thread_cpus().unwrap(), [order[0]]);
            // Also after somebody freed it.
            unpin_thread().unwrap();
            team.run(|_| ());
            assert_eq!(thread_cpus().unwrap(), [order[0]]);
            // A second team of the same caller goes without leaving it tied.
            drop(crowd);
            let second = Team::new(1).unwrap();
            second.run(|_| assert_eq!(thread_cpus().unwrap(), [order[0]]));
            drop(second);
            assert_eq!(thread_cpus().unwrap(), all);
            team.run(|thread| assert_eq!(thread_cpus().unwrap(), [order[thread]]));
        }
        assert_eq!(thread_cpus().unwrap(), all);
    })
    .join()
    .unwrap();
}
