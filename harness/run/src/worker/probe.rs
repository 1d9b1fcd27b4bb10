//! The limits of the machine: reading memory, and arithmetic on registers. A probe tries all its loops when it is opened
//! and keeps the fastest: a limit that a better loop could pass would be none.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use trit_core::Rng;
use trit_kernel::{Cpu, Isa};
use trit_measure::sys::HugeBuf;
use trit_measure::{Clock, MonotonicClock, Team, share};
use trit_ops::probe::{Operation, PeakLoop, ReadLoop, peaks, read_loops};
use trit_stats::median;

use super::{Done, Fault, Shop, Subject};
use crate::pairing::iterations_for;
use crate::protocol::{Answer, Opened, Task};

/// One cache line: threads share a call at multiples of it.
const LINE: usize = 64;
/// Largest working set of the read probe.
const MAX_BYTES: u64 = 1 << 40;
/// How long a loop runs when it is tried, and in how many turns of all loops.
const TRY_NS: u64 = 500_000;
const TURNS: usize = 9;
/// One call of the peak probe: long against the dispatch, short against a slice.
const PEAK_CALL_NS: u64 = 100_000;

/// Tries candidates in turns and gives the fastest with its time of one call.
fn fastest(count: usize, mut call: impl FnMut(usize)) -> Option<(usize, f64)> {
    let mut time = |candidate: usize, calls: u64| {
        let start = MonotonicClock.now_ns();
        for _ in 0..calls {
            call(candidate);
        }
        (MonotonicClock.now_ns() - start) as f64 / calls as f64
    };
    let mut turns = Vec::with_capacity(TURNS);
    for _ in 0..TURNS {
        let tried = |candidate| {
            let first = time(candidate, 1);
            time(candidate, iterations_for(TRY_NS, first))
        };
        turns.push((0..count).map(tried).collect());
    }
    fastest_of(&turns)
}

/// The candidate that is fastest beside the others of a turn, in the median of the turns, and its median time. The speed of a machine
/// changes from turn to turn, and the fastest try of all is the luckiest one.
fn fastest_of(turns: &[Vec<f64>]) -> Option<(usize, f64)> {
    let beside: Vec<f64> = turns.iter().filter_map(|turn| median(turn)).collect();
    let ratio = |candidate: usize| {
        let ratios = turns
            .iter()
            .zip(&beside)
            .map(|(turn, by)| turn[candidate] / by);
        median(&ratios.collect::<Vec<_>>())
    };
    let (fastest, _) = (0..turns.first()?.len())
        .filter_map(|candidate| Some((candidate, ratio(candidate)?)))
        .min_by(|a, b| a.1.total_cmp(&b.1))?;
    let times: Vec<f64> = turns.iter().map(|turn| turn[fastest]).collect();
    Some((fastest, median(&times)?))
}

/// What read probes read. Probes of one worker that differ in threads alone share it.
struct Arena {
    buffer: HugeBuf,
    /// Bytes of one chunk, and from one to the next.
    bytes: usize,
    stride: usize,
    /// Checksum of each chunk.
    sums: Vec<u64>,
}

/// The arenas of a worker, by bytes of a call and of the working set.
#[derive(Default)]
pub(super) struct Arenas(BTreeMap<(u64, u64), Rc<Arena>>);

impl Arenas {
    fn get(&mut self, task: &Task) -> Result<Rc<Arena>, Fault> {
        let key = (task.bytes_per_call, task.working_set_bytes);
        if let Some(arena) = self.0.get(&key) {
            return Ok(Rc::clone(arena));
        }
        let arena = Rc::new(Arena::new(task)?);
        self.0.insert(key, Rc::clone(&arena));
        Ok(arena)
    }

    /// Frees what no probe uses any more.
    pub(super) fn release(&mut self) {
        self.0.retain(|_, arena| Rc::strong_count(arena) > 1);
    }
}

/// Reads memory: calls rotate through a working set, each reads one chunk of it, split between the threads of the team.
pub(super) struct Read {
    team: Rc<Team>,
    arena: Rc<Arena>,
    used: ReadLoop,
    call_ns: f64,
    cursor: usize,
    /// What the last slice read, and what it should have.
    got: u64,
    right: u64,
}

/// Exclusive or of the 64-bit words: what every loop gives, in the plainest form.
fn checksum(bytes: &[u8]) -> u64 {
    let (words, tail) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    words.iter().fold(u64::from_le_bytes(last), |sum, word| {
        sum ^ u64::from_le_bytes(*word)
    })
}

/// Reads one chunk on the team.
fn read_chunk(team: &Team, used: ReadLoop, chunk: &[u8]) -> u64 {
    let sum = AtomicU64::new(0);
    let threads = team.threads();
    team.run(|thread| {
        // Shares start at multiples of a line, so words do not straddle them.
        let own = &chunk[share(chunk.len(), LINE, thread, threads)];
        sum.fetch_xor(used.checksum(own), Ordering::Relaxed);
    });
    sum.into_inner()
}

impl Arena {
    fn new(task: &Task) -> Result<Self, Fault> {
        let too_large = || Fault::over_limit("the working set does not fit in memory");
        let sane = 1..=MAX_BYTES;
        if !sane.contains(&task.bytes_per_call) || task.working_set_bytes > MAX_BYTES {
            return Err(too_large());
        }
        let bytes = usize::try_from(task.bytes_per_call).map_err(|_| too_large())?;
        let stride = bytes.next_multiple_of(LINE);
        let chunks = usize::try_from(task.working_set_bytes)
            .map_err(|_| too_large())?
            .div_ceil(stride)
            .max(1);
        let total = stride.checked_mul(chunks).ok_or_else(too_large)?;
        let mut buffer = HugeBuf::zeroed(total).map_err(Fault::over_limit)?;
        let mut sums = vec![0; chunks];
        buffer
            .bytes_mut()
            .par_chunks_exact_mut(stride)
            .zip(sums.par_iter_mut())
            .enumerate()
            .for_each(|(at, (chunk, sum))| {
                let mut rng = Rng::new(at as u64);
                for word in chunk.chunks_exact_mut(8) {
                    word.copy_from_slice(&rng.next_u64().to_le_bytes());
                }
                *sum = checksum(&chunk[..bytes]);
            });
        Ok(Self {
            buffer,
            bytes,
            stride,
            sums,
        })
    }

    fn chunk(&self, at: usize) -> &[u8] {
        let start = at * self.stride;
        &self.buffer.bytes()[start..start + self.bytes]
    }
}

impl Read {
    pub(super) fn open(shop: &mut Shop, task: &Task) -> Result<Self, Fault> {
        let team = shop.team(task.threads)?;
        let arena = shop.arenas.get(task)?;
        let loops = read_loops(shop.cpu);
        let mut next = 0;
        let found = fastest(loops.len(), |candidate| {
            std::hint::black_box(read_chunk(&team, loops[candidate], arena.chunk(next)));
            next = (next + 1) % arena.sums.len();
        });
        let (used, call_ns) =
            found.ok_or_else(|| Fault::unsupported("this build has no read loop"))?;
        Ok(Self {
            team,
            arena,
            used: loops[used],
            call_ns,
            cursor: next,
            got: 0,
            right: 0,
        })
    }

    fn call(&mut self) {
        let arena = &self.arena;
        self.got ^= read_chunk(&self.team, self.used, arena.chunk(self.cursor));
        self.right ^= arena.sums[self.cursor];
        self.cursor = (self.cursor + 1) % arena.sums.len();
    }
}

impl Subject for Read {
    fn opened(&self) -> Opened {
        Opened {
            variant: self.used.name().to_owned(),
            isa: self.used.isa().name().to_owned(),
            bytes_per_call: Some(self.arena.bytes as u64),
            working_set_bytes: self.arena.buffer.len() as u64,
            call_ns: Some(self.call_ns),
            ..Opened::default()
        }
    }

    fn warm_up(&mut self, calls: u64) -> Result<(), Fault> {
        for _ in 0..calls {
            self.call();
        }
        Ok(())
    }

    fn poison(&mut self) {
        (self.got, self.right) = (0, 0);
    }

    fn slice(&mut self, iterations: u64) -> Result<Done, Fault> {
        let start = MonotonicClock.now_ns();
        for _ in 0..iterations {
            self.call();
        }
        Ok(Done {
            calls: iterations,
            time_ns: MonotonicClock.now_ns() - start,
            ..Done::default()
        })
    }

    fn answers(&mut self) -> Result<Vec<Answer>, Fault> {
        if self.got == self.right {
            Ok(Vec::new())
        } else {
            Err(Fault::failed(format!(
                "{} read something else than what is there",
                self.used.name()
            )))
        }
    }
}

/// Arithmetic on registers: every thread of the team runs the same loop.
pub(super) struct Peak {
    team: Rc<Team>,
    used: PeakLoop,
    /// Turns of the loop in one call.
    turns: u64,
    call_ns: f64,
    wrong: AtomicU64,
}

/// Which loops compare with a task's kernel: those of its kind of arithmetic, up to its instruction set. `int8` and `f32`
/// stand for everything that the machine can do of that kind.
fn comparable(kernel: &str, cpu: Cpu) -> Vec<PeakLoop> {
    let (operation, isa) = match kernel {
        "int8" => (Operation::Int8, None),
        "f32" => (Operation::F32, None),
        id => {
            let ternary = trit_kernels::find(id).ok().map(|entry| entry.info.isa);
            let dense = trit_kernels::find_dense(id)
                .ok()
                .map(|entry| entry.info.isa);
            let floats = id.starts_with("f32-") || id.starts_with("f16-");
            let operation = if floats {
                Operation::F32
            } else {
                Operation::Int8
            };
            (operation, ternary.or(dense))
        }
    };
    let mut loops = peaks(cpu);
    loops.retain(|candidate| {
        let within = |isa: Isa| candidate.isa() <= isa;
        candidate.operation() == operation && isa.is_none_or(within)
    });
    loops
}

impl Peak {
    pub(super) fn open(shop: &mut Shop, task: &Task) -> Result<Self, Fault> {
        let team = shop.team(task.threads)?;
        let loops = comparable(&task.kernel, shop.cpu);
        // Each loop does as many operations in a try: their times compare.
        let turns = |candidate: &PeakLoop| (1 << 20) / candidate.ops_per_iteration().max(1) + 1;
        let found = fastest(loops.len(), |candidate| {
            let candidate = &loops[candidate];
            team.run(|_| {
                std::hint::black_box(candidate.run(turns(candidate)));
            });
        });
        let (used, call_ns) =
            found.ok_or_else(|| Fault::unsupported("this build has no loop for that kernel"))?;
        let used = loops[used];
        let times = iterations_for(PEAK_CALL_NS, call_ns);
        Ok(Self {
            team,
            used,
            turns: turns(&used) * times,
            call_ns: call_ns * times as f64,
            wrong: AtomicU64::new(0),
        })
    }

    fn call(&self) {
        let (used, turns, wrong) = (self.used, self.turns, &self.wrong);
        let right = used.expected(turns);
        self.team.run(|_| {
            if used.run(turns) != right {
                wrong.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

impl Subject for Peak {
    fn opened(&self) -> Opened {
        Opened {
            variant: self.used.name().to_owned(),
            isa: self.used.isa().name().to_owned(),
            ops_per_call: Some(
                self.turns * self.used.ops_per_iteration() * self.team.threads() as u64,
            ),
            call_ns: Some(self.call_ns),
            ..Opened::default()
        }
    }

    fn warm_up(&mut self, calls: u64) -> Result<(), Fault> {
        for _ in 0..calls {
            self.call();
        }
        Ok(())
    }

    fn poison(&mut self) {
        self.wrong.store(0, Ordering::Relaxed);
    }

    fn slice(&mut self, iterations: u64) -> Result<Done, Fault> {
        let start = MonotonicClock.now_ns();
        for _ in 0..iterations {
            self.call();
        }
        Ok(Done {
            calls: iterations,
            time_ns: MonotonicClock.now_ns() - start,
            ..Done::default()
        })
    }

    fn answers(&mut self) -> Result<Vec<Answer>, Fault> {
        match self.wrong.load(Ordering::Relaxed) {
            0 => Ok(Vec::new()),
            wrong => Err(Fault::failed(format!(
                "{} computed wrongly {wrong} times",
                self.used.name()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_is_not_the_luckiest() {
        // The second is a tenth slower but for one turn, in which others were held up.
        let mut turns = vec![vec![10.0, 11.0, 20.0]; 9];
        turns[4] = vec![10.0, 5.0, 20.0];
        assert_eq!(fastest_of(&turns), Some((0, 10.0)));
    }

    #[test]
    fn a_machine_that_changes_its_speed_changes_nothing() {
        let turns: Vec<Vec<f64>> = (0..9)
            .map(|turn| {
                let speed = f64::from(1 + turn % 4);
                vec![12.0 * speed, 11.0 * speed, 10.0 * speed]
            })
            .collect();
        assert_eq!(fastest_of(&turns), Some((2, 20.0)));
    }

    #[test]
    fn without_candidates_there_is_none() {
        assert_eq!(fastest_of(&[]), None);
        assert_eq!(fastest_of(&vec![Vec::new(); 9]), None);
        assert_eq!(fastest_of(&vec![vec![3.0]; 9]), Some((0, 3.0)));
    }
}
