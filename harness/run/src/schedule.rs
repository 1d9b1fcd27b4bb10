//! When to look, and means over the last seconds.

use std::collections::VecDeque;

/// A fixed schedule: `start`, `start + interval`, `start + 2 interval`, ... However late one look is, the next one is not
/// moved; those that were missed are left out and counted.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    start_ns: u64,
    interval_ns: u64,
    /// The number of the next look.
    next: u64,
    missed: u64,
}

impl Schedule {
    /// The first look is due at once.
    ///
    /// # Panics
    /// When the interval is 0.
    pub(crate) fn new(start_ns: u64, interval_ns: u64) -> Self {
        assert!(interval_ns > 0, "an interval of 0 is always due");
        Self {
            start_ns,
            interval_ns,
            next: 0,
            missed: 0,
        }
    }

    /// When the next look is due.
    pub(crate) fn due_ns(&self) -> u64 {
        self.start_ns
            .saturating_add(self.next.saturating_mul(self.interval_ns))
    }

    /// A look was taken, which ended at `now_ns`: the next one is the first that is still to come.
    pub(crate) fn done(&mut self, now_ns: u64) {
        let passed = now_ns.saturating_sub(self.start_ns) / self.interval_ns;
        let next = (passed + 1).max(self.next + 1);
        self.missed += next - self.next - 1;
        self.next = next;
    }

    /// Looks that were left out.
    pub(crate) fn missed(&self) -> u64 {
        self.missed
    }
}

/// An amount that only grows, over the last stretch of time.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    span_ns: u64,
    points: VecDeque<(u64, u64)>,
}

impl Window {
    /// Over the last `span_ns`.
    pub(crate) fn new(span_ns: u64) -> Self {
        Self {
            span_ns,
            points: VecDeque::new(),
        }
    }

    /// The amount at a moment; gives what was added over the window and its length, once it is full.
    pub(crate) fn push(&mut self, at_ns: u64, amount: u64) -> Option<(u64, u64)> {
        self.points.push_back((at_ns, amount));
        let old = |point: &(u64, u64)| at_ns.saturating_sub(point.0) >= self.span_ns;
        // The youngest that is old enough begins the window.
        while self.points.get(1).is_some_and(old) {
            self.points.pop_front();
        }
        let &(since_ns, before) = self.points.front().filter(|point| old(point))?;
        let length = at_ns.saturating_sub(since_ns);
        (length > 0).then(|| (amount.saturating_sub(before), length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_do_not_drift() {
        let mut schedule = Schedule::new(1000, 100);
        let mut due = Vec::new();
        for late in [0, 30, 99, 1, 60, 0] {
            due.push(schedule.due_ns());
            schedule.done(schedule.due_ns() + late);
        }
        assert_eq!(due, [1000, 1100, 1200, 1300, 1400, 1500]);
        assert_eq!(schedule.missed(), 0);
    }

    #[test]
    fn missed_looks_are_left_out_and_counted() {
        let mut schedule = Schedule::new(0, 100);
        schedule.done(0);
        schedule.done(350);
        assert_eq!((schedule.due_ns(), schedule.missed()), (400, 2));
        // Exactly when the next one was due: that one is over.
        schedule.done(500);
        assert_eq!((schedule.due_ns(), schedule.missed()), (600, 3));
        // A look before its time does not come twice.
        schedule.done(510);
        assert_eq!((schedule.due_ns(), schedule.missed()), (700, 3));
    }

    #[test]
    fn windows_are_full_or_silent() {
        let mut window = Window::new(100);
        assert_eq!(window.push(0, 5), None);
        assert_eq!(window.push(60, 10), None);
        assert_eq!(window.push(100, 25), Some((20, 100)));
        assert_eq!(window.push(150, 30), Some((25, 150)));
        assert_eq!(window.push(160, 30), Some((20, 100)));
        assert_eq!(window.push(1000, 90), Some((60, 840)));
    }
}
