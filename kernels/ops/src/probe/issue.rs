//! Instructions as fast as the core can issue them, from registers: what bounds a kernel that neither multiplies nor waits for
//! memory.

use trit_kernel::{Cpu, Isa};

/// A loop of one instruction, or of all vector instructions that a look-up kernel spends on 64 bytes of weights, without its loads
/// and without the widening of its sums.
#[derive(Clone, Copy, Debug)]
pub struct IssueLoop {
    pub(super) name: &'static str,
    pub(super) isa: Isa,
    pub(super) steps_per_iteration: u64,
    pub(super) weights_per_step: u64,
    pub(super) run: fn(u64) -> u64,
    pub(super) expected: fn(u64) -> u64,
}

impl IssueLoop {
    /// `<instruction>-<bits>`, or `<method>-step-<bits>`.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The instruction set it uses.
    pub const fn isa(&self) -> Isa {
        self.isa
    }

    /// Instructions, or steps, of one iteration.
    pub const fn steps_per_iteration(&self) -> u64 {
        self.steps_per_iteration
    }

    /// Weights that a step multiplies: 0 for single instructions.
    pub const fn weights_per_step(&self) -> u64 {
        self.weights_per_step
    }

    /// Runs `iterations` and returns a sum of all registers: [`IssueLoop::expected`], or the machine computes wrongly.
    pub fn run(&self, iterations: u64) -> u64 {
        (self.run)(iterations)
    }

    /// The sum after `iterations`.
    pub fn expected(&self, iterations: u64) -> u64 {
        (self.expected)(iterations)
    }
}

/// Every loop that `cpu` can run.
pub fn issue_loops(cpu: Cpu) -> Vec<IssueLoop> {
    #[cfg(target_arch = "x86_64")]
    let all: &[IssueLoop] = &super::issue_x86::LOOPS;
    #[cfg(not(target_arch = "x86_64"))]
    let all: &[IssueLoop] = &[];
    all.iter().filter(|one| cpu.has(one.isa)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_hold_what_arithmetic_says() {
        for one in issue_loops(Cpu::uncapped()) {
            for iterations in [1, 2, 3, 100, 12_345] {
                assert_eq!(
                    one.run(iterations),
                    one.expected(iterations),
                    "{} {iterations}",
                    one.name()
                );
            }
        }
    }
}
