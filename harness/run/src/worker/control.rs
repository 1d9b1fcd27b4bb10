//! The control cell: work that is the same in every build. When it differs between the sides of a comparison, something
//! else than the builds differs, and the comparison says nothing.

use std::hint::black_box;

use trit_measure::{Clock, MonotonicClock};

use super::{Done, Fault, Subject};
use crate::protocol::{Answer, Opened};

/// Version 1, never to be changed: builds of different revisions are compared by it. Another control is another variant.
const VARIANT: &str = "control-1";
/// Steps of the integer loop. Each waits for the one before, so that neither the place of the code nor the width of the
/// machine matters.
const STEPS: u64 = 20_000;
/// Bytes that are copied: within L2, from a buffer of which every byte was written.
const BYTES: usize = 256 << 10;
/// Of one step, `state * MULTIPLIER + INCREMENT`.
const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
const INCREMENT: u64 = 1_442_695_040_888_963_407;

/// An integer loop and a copy.
pub(super) struct Control {
    state: u64,
    from: Vec<u8>,
    to: Vec<u8>,
    calls: u64,
}

impl Control {
    pub(super) fn new() -> Self {
        Self {
            state: 0,
            from: (0..BYTES).map(|i| (i % 251) as u8).collect(),
            to: vec![0xff; BYTES],
            calls: 0,
        }
    }

    fn call(&mut self) {
        for _ in 0..STEPS {
            self.state = black_box(self.state.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT));
        }
        self.to.copy_from_slice(black_box(&self.from));
        black_box(&mut self.to);
        self.calls += 1;
    }
}

/// The state after `steps` steps from 0, in O(log steps): what the loop has to arrive at.
fn expected(steps: u64) -> u64 {
    // x -> a x + b, squared for each bit.
    let (mut a, mut b) = (1u64, 0u64);
    let (mut step_a, mut step_b) = (MULTIPLIER, INCREMENT);
    let mut left = steps;
    while left > 0 {
        if left & 1 == 1 {
            a = a.wrapping_mul(step_a);
            b = b.wrapping_mul(step_a).wrapping_add(step_b);
        }
        step_b = step_b.wrapping_mul(step_a).wrapping_add(step_b);
        step_a = step_a.wrapping_mul(step_a);
        left >>= 1;
    }
    b
}

impl Subject for Control {
    fn opened(&self) -> Opened {
        Opened {
            variant: VARIANT.to_owned(),
            ..Opened::default()
        }
    }

    fn warm_up(&mut self, calls: u64) -> Result<(), Fault> {
        (0..calls).for_each(|_| self.call());
        Ok(())
    }

    fn poison(&mut self) {
        self.to.fill(0xff);
    }

    fn slice(&mut self, iterations: u64) -> Result<Done, Fault> {
        let clock = MonotonicClock;
        let start = clock.now_ns();
        for _ in 0..iterations {
            self.call();
        }
        Ok(Done {
            calls: iterations,
            time_ns: clock.now_ns() - start,
            ..Done::default()
        })
    }

    fn answers(&mut self) -> Result<Vec<Answer>, Fault> {
        let right = self.state == expected(self.calls.wrapping_mul(STEPS)) && self.to == self.from;
        if right {
            Ok(Vec::new())
        } else {
            Err(Fault::failed("the control does not arrive where it must"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_does_what_it_says() {
        let mut state = 0u64;
        for steps in 0..100 {
            assert_eq!(expected(steps), state);
            state = state.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT);
        }
        // The control of version 1: these numbers must never change.
        assert_eq!(expected(STEPS), 18_052_071_085_386_485_408);
        let mut control = Control::new();
        control.warm_up(1).unwrap();
        control.poison();
        assert_eq!(control.slice(3).unwrap().calls, 3);
        control.answers().unwrap();
        control.state ^= 1;
        control.answers().unwrap_err();
    }
}
