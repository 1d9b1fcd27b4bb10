//! What each side takes of a cell besides time, for absolute budgets.

use trit_core::{Rng, Side};

use super::bench::{Bench, Stop, Subject, Taking};
use super::{Ab, End, Settings};
use crate::pairing::Contest;
use crate::protocol::Sample;

impl Ab<'_, '_> {
    /// Adds up the CPU time of slices. Builds that do not tell over which time it was counted have none.
    pub(super) fn add_cpu(&mut self, id: &str, samples: &[(Side, Sample)]) {
        let taken = self.comparison.taken.entry(id.to_owned()).or_default();
        for (side, sample) in samples {
            let cpu = sample.user_ns.zip(sample.system_ns);
            if let (Some((user, system)), Some(wall_ns)) = (cpu, sample.evidence_ns) {
                taken[usize::from(*side == Side::B)].add_cpu(user.saturating_add(system), wall_ns);
            }
        }
    }

    /// Looks at the resident set of each side of each cell, in processes that have nothing else open: those that were timed hold all
    /// cells at once. What goes wrong here leaves the value out; the verdict on the time stands.
    pub(super) fn look_at_memory(&mut self) -> Result<(), End> {
        for at in self.compared() {
            let (subject, iterations) = (
                self.entries[at].subject.clone(),
                self.entries[at].iterations,
            );
            self.progress.working(&subject.id, 1.0);
            let mut rng = Rng::named(self.seed(), &format!("memory of {}", subject.id));
            match self.peaks(&subject, iterations.unwrap_or(1), &mut rng) {
                Ok(peaks) => {
                    let taken = self.comparison.taken.entry(subject.id).or_default();
                    for (side, peak) in taken.iter_mut().zip(peaks) {
                        side.peak_rss_bytes = peak;
                    }
                }
                Err(Stop::Interrupted) => return Err(End::Interrupted),
                Err(Stop::Cell { reason, .. }) => {
                    let id = &subject.id;
                    self.progress
                        .note(&format!("no resident set of {id}: {reason}"));
                }
            }
        }
        Ok(())
    }

    fn peaks(
        &mut self,
        subject: &Subject,
        iterations: u64,
        rng: &mut Rng,
    ) -> Result<[Option<u64>; 2], Stop> {
        let settings = Settings {
            workers: self.settings.workers.clone(),
            ..self.settings
        };
        let mut bench = Bench::start(&settings, rng).map_err(|(_, stop)| stop)?;
        bench.place(subject, rng).map_err(|(_, stop)| stop)?;
        let mut peaks = [None; 2];
        for (side, peak) in [Side::A, Side::B].into_iter().zip(&mut peaks) {
            let mut taking = Taking {
                bench: &mut bench,
                subject,
                first: &mut self.first,
                visit: 0,
                reset_peak: true,
            };
            *peak = taking.slice(side, iterations)?.peak_rss_bytes;
        }
        bench.stop();
        Ok(peaks)
    }
}
