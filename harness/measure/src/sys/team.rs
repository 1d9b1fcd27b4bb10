//! The pinned thread team.
//!
//! One region is published by raising a generation number; workers that see it run the job and count down. Who
//! waits (a worker for the next generation, the caller for the count) spins for a bounded time and then parks.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};

use super::affinity;
use super::columns::{ColumnsMut, Matrix};
use super::left::Left;
use crate::{Clock, MAX_THREADS, MonotonicClock, TeamError, TeamOptions, share};

/// Among how many of the next threads one that is through looks for work: what others still have is on cache lines of theirs, and a
/// look at all of many takes as long as a region.
const NEIGHBOURS: usize = 4;

/// A value on cache lines of its own: 128 bytes, since x86 prefetches lines in pairs and some Arm cores have lines
/// of 128 bytes.
#[derive(Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// A job with its type erased. The data pointer is that of a closure on the stack of [`Team::run`].
#[derive(Clone, Copy)]
struct Job {
    data: *const (),
    call: unsafe fn(*const (), usize),
}

/// # Safety
/// `data` must be a valid `&F`.
unsafe fn call<F: Fn(usize) + Sync>(data: *const (), thread: usize) {
    // SAFETY: demanded of the caller.
    let job = unsafe { &*data.cast::<F>() };
    job(thread);
}

struct Shared {
    /// Raised once a region. Its release makes `job`, `pending` and `stop` visible.
    generation: Padded<AtomicU32>,
    /// Workers that have not finished the region.
    pending: Padded<AtomicUsize>,
    /// The job of the region. Written by the caller while `pending` is 0, read by workers while it is not.
    job: UnsafeCell<Option<Job>>,
    stop: AtomicBool,
    /// Whether worker i is parked or about to be.
    parked: Vec<Padded<AtomicBool>>,
    caller_parked: AtomicBool,
    /// Whom to wake; set before `caller_parked`.
    caller: Mutex<Option<Thread>>,
    /// The first panic of a worker in the region.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Turns of the spin loop before parking.
    spins: u32,
}

// SAFETY: all fields but `job` are Sync by themselves. `job` is written only by the caller that holds the `turn` of
// the team while no worker runs (`pending` is 0), and read by workers only after they saw the generation that was
// released after the write and before they count `pending` down. The closure behind it is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: the pointers in `job` are used as said above only, from any thread; the closure behind them is `Sync`.
unsafe impl Send for Shared {}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that can panic runs under these locks, and what they hold is valid at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Spins until `done`, at most `spins` turns, and then parks until `done`. `flag` says that we are parked; whoever
/// makes `done` true has to look at it afterwards.
fn wait(spins: u32, flag: &AtomicBool, done: impl Fn() -> bool) {
    for _ in 0..spins {
        if done() {
            return;
        }
        std::hint::spin_loop();
    }
    // The flag is raised before the condition is looked at once more, and the other side changes the condition
    // before it looks at the flag; all four are sequentially consistent, so one of the two sees the other.
    flag.store(true, Ordering::SeqCst);
    while !done() {
        thread::park();
    }
    flag.store(false, Ordering::SeqCst);
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        wait(shared.spins, &shared.parked[index - 1].0, || {
            shared.generation.0.load(Ordering::SeqCst) != seen
        });
        // The caller starts no new generation before we counted this one down, so it went up by exactly 1.
        seen = seen.wrapping_add(1);
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        // SAFETY: the generation was raised after the job was written, and it is not written again before we count
        // `pending` down below.
        let job = unsafe { *shared.job.get() };
        if let Some(job) = job {
            let share = || {
                // SAFETY: `run` keeps the closure alive until `pending` is 0, which is after this call.
                unsafe { (job.call)(job.data, index) };
            };
            let result = catch_unwind(AssertUnwindSafe(|| inside(share)));
            if let Err(payload) = result {
                let mut first = lock(&shared.panic);
                if first.is_none() {
                    *first = Some(payload);
                } else {
                    // Dropping it could panic in turn, and nobody would count this worker down.
                    std::mem::forget(payload);
                }
            }
        }
        if shared.pending.0.fetch_sub(1, Ordering::SeqCst) == 1
            && shared.caller_parked.load(Ordering::SeqCst)
            && let Some(caller) = &*lock(&shared.caller)
        {
            caller.unpark();
        }
    }
}

thread_local! {
    /// How many jobs are running on this thread, one inside the other.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// The team whose region this thread ran last; 0 for none.
    static CALLED: Cell<u64> = const { Cell::new(0) };
}

/// Runs a job and remembers meanwhile that this thread is inside of one.
fn inside<R>(job: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    let _leave = Leave;
    job()
}

/// A fixed team of threads for parallel regions of a few microseconds: the caller is thread 0 and takes part, the
/// others wait, spinning first and parked later. Thread `i` is pinned to the i-th CPU of [`crate::cpu_order`].
///
/// The calling thread is pinned when it first calls [`Team::run`], and freed when the team is dropped on it. Threads
/// that it starts in between inherit its one CPU: other pools need [`affinity::unpin_thread`] in their start handler.
///
/// A team can be shared: a caller waits while another one runs a region. A job must not run a region of a team that
/// is busy, its own in particular: that panics, since waiting could never end.
///
/// ```
/// use trit_measure::{Team, share};
///
/// let data: Vec<u64> = (0..1000).collect();
/// let team = Team::new(2)?;
/// let mut sums = [0; 2];
/// team.run_parts(&mut sums, |thread, sum| {
///     *sum = data[share(data.len(), 16, thread, 2)].iter().sum();
/// });
/// assert_eq!(sums.iter().sum::<u64>(), 499_500);
/// # Ok::<(), trit_measure::TeamError>(())
/// ```
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held while a region runs.
    turn: Mutex<()>,
    /// What each thread has still to do of a region that is dealt out while it runs.
    left: Vec<Padded<Left>>,
    id: u64,
    /// The CPU of the caller, where threads are pinned.
    caller_cpu: Option<usize>,
    pinned: bool,
}

/// The elements of a slice, one each for the threads of a region.
struct Each<'a, P> {
    first: *mut P,
    len: usize,
    elements: PhantomData<&'a mut [P]>,
}

// SAFETY: threads take different elements of it (`get` demands it), and `P` may be used on any thread.
unsafe impl<P: Send> Sync for Each<'_, P> {}

impl<'a, P> Each<'a, P> {
    fn new(elements: &'a mut [P]) -> Self {
        Self {
            first: elements.as_mut_ptr(),
            len: elements.len(),
            elements: PhantomData,
        }
    }

    /// The element of a thread.
    ///
    /// # Safety
    /// While the result is used, nobody else may get the same element.
    #[expect(clippy::mut_from_ref, reason = "the caller takes each element once")]
    unsafe fn get(&self, thread: usize) -> &mut P {
        assert!(thread < self.len, "no element for thread {thread}");
        // SAFETY: the element is inside of the slice, which is borrowed for as long as `self` is; the caller promises the rest.
        unsafe { &mut *self.first.add(thread) }
    }
}

impl fmt::Debug for Team {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Team")
            .field("threads", &self.threads())
            .field("pinned", &self.pinned)
            .finish_non_exhaustive()
    }
}

impl Team {
    /// A pinned team of `threads`, the caller included.
    ///
    /// # Errors
    /// When `threads` is 0 or above [`MAX_THREADS`], or the system refuses a thread. Where threads cannot be pinned
    /// the team works unpinned ([`Team::pinned`]).
    pub fn new(threads: usize) -> Result<Self, TeamError> {
        Self::with_options(TeamOptions::new(threads))
    }

    /// A team with other options.
    ///
    /// # Errors
    /// As for [`Team::new`].
    pub fn with_options(options: TeamOptions) -> Result<Self, TeamError> {
        let TeamOptions {
            threads,
            pin,
            spin_ns,
        } = options;
        if threads == 0 {
            return Err(TeamError::NoThreads);
        }
        if threads > MAX_THREADS {
            return Err(TeamError::TooManyThreads { threads });
        }
        let cpus = crate::cpu_order();
        // Where the CPUs are unknown a thread a CPU is assumed, and nothing is pinned.
        let crowded = cpus.as_ref().is_some_and(|cpus| threads > cpus.len());
        let cpus = cpus.filter(|_| pin && !crowded);
        let shared = Arc::new(Shared {
            generation: Padded::default(),
            pending: Padded::default(),
            job: UnsafeCell::new(None),
            stop: AtomicBool::new(false),
            parked: (1..threads).map(|_| Padded::default()).collect(),
            caller_parked: AtomicBool::new(false),
            caller: Mutex::new(None),
            panic: Mutex::new(None),
            spins: if crowded { 0 } else { spins_of(spin_ns) },
        });
        let id = next_id();
        // From here on a failure drops the team, which ends the workers that were started.
        let mut team = Self {
            shared,
            workers: Vec::with_capacity(threads - 1),
            turn: Mutex::new(()),
            left: std::iter::repeat_with(Padded::default)
                .take(threads)
                .collect(),
            id,
            caller_cpu: cpus.as_ref().map(|cpus| cpus[0]),
            pinned: cpus.is_some(),
        };
        let (report, reports) = std::sync::mpsc::channel();
        for index in 1..threads {
            let shared = Arc::clone(&team.shared);
            let cpu = cpus.as_ref().map(|cpus| cpus[index]);
            let report = report.clone();
            let start = move || {
                let pinned = match cpu {
                    Some(cpu) => affinity::pin_thread(&[cpu]),
                    // The caller may be pinned for another team.
                    None => {
                        affinity::unpin_thread().and(Err(std::io::ErrorKind::Unsupported.into()))
                    }
                };
                // Nobody listens any more only when `with_options` has failed.
                let _ = report.send(pinned.is_ok());
                drop(report);
                work(&shared, index);
            };
            let worker = thread::Builder::new()
                .name(format!("team-{index}"))
                .spawn(start);
            team.workers.push(worker.map_err(|source| TeamError::Spawn {
                index,
                threads,
                source,
            })?);
        }
        drop(report);
        team.pinned &= reports.iter().all(|pinned| pinned);
        Ok(team)
    }

    /// Threads of the team, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Whether every worker is pinned to a CPU of its own (and the caller will be, in [`Team::run`]).
    pub fn pinned(&self) -> bool {
        self.pinned
    }

    /// Runs `job(thread)` once for each thread of the team, `0..threads`, and returns when all are done.
    ///
    /// # Panics
    /// With the panic of the job, after all threads have finished; the team stays usable. When called from inside
    /// a job while the team is busy.
    pub fn run<F: Fn(usize) + Sync>(&self, job: F) {
        let _turn = self.take_turn();
        self.region(job);
    }

    /// Waits until no other caller runs a region.
    fn take_turn(&self) -> MutexGuard<'_, ()> {
        match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => {
                assert!(
                    DEPTH.get() == 0,
                    "a job must not run a region of a team that is busy; hint: split the work into two regions, one after the other"
                );
                lock(&self.turn)
            }
        }
    }

    /// Runs a job on all threads. The caller holds the turn.
    fn region<F: Fn(usize) + Sync>(&self, job: F) {
        self.pin_caller();
        let workers = self.workers.len();
        if workers == 0 {
            inside(|| job(0));
            return;
        }
        let shared = &*self.shared;
        // SAFETY: we hold the turn and `pending` is 0, so no worker reads the job.
        unsafe {
            *shared.job.get() = Some(Job {
                data: (&raw const job).cast(),
                call: call::<F>,
            });
        };
        shared.pending.0.store(workers, Ordering::Relaxed);
        self.wake();
        // From here until `pending` is 0 nothing may unwind: the workers use `job`, which lives in this frame.
        let own = catch_unwind(AssertUnwindSafe(|| inside(|| job(0))));
        self.join();
        let theirs = lock(&shared.panic).take();
        if let Some(payload) = own.err().or(theirs) {
            resume_unwind(payload);
        }
    }

    /// Runs `job(thread, part)` for each part: thread `i` works on `parts[i]`, alone. Threads without a part idle.
    ///
    /// # Panics
    /// As for [`Team::run`], and when there are more parts than threads.
    pub fn run_parts<P: Send>(&self, parts: &mut [P], job: impl Fn(usize, &mut P) + Sync) {
        let (len, threads) = (parts.len(), self.threads());
        assert!(
            len <= threads,
            "{len} parts are more than {threads} threads"
        );
        let parts = Each::new(parts);
        self.run(|thread| {
            if thread < len {
                // SAFETY: a region calls the job once for each thread, so nobody else has this element.
                job(thread, unsafe { parts.get(thread) });
            }
        });
    }

    /// Runs `job(state, columns)` until all columns of `out` were dealt out once, a row-major matrix of rows of `width` elements:
    /// thread `i` works with `states[i]`. Each thread begins with its share (that of [`crate::share`], at multiples of `step`), most
    /// of it in one piece and what is left in smaller ones; a thread that is through takes from the ends of its neighbours' shares.
    /// So a thread that the system or a slow core holds up is not waited for with all of its share.
    ///
    /// # Panics
    /// As for [`Team::run`], and when `states` are not as many as threads, `step` is 0, or `out` is no matrix of that width.
    pub fn run_columns<T: Send, S: Send>(
        &self,
        out: &mut [T],
        width: usize,
        step: usize,
        states: &mut [S],
        job: impl Fn(&mut S, &mut ColumnsMut<'_, T>) + Sync,
    ) {
        let threads = self.threads();
        assert_eq!(states.len(), threads, "a state for each thread");
        let matrix = Matrix::new(out, width);
        let states = Each::new(states);
        let _turn = self.take_turn();
        for (thread, left) in self.left.iter().enumerate() {
            left.0.set(&share(width.div_ceil(step), 1, thread, threads));
        }
        self.region(|thread| {
            // SAFETY: a region calls the job once for each thread, so nobody else has this element.
            let state = unsafe { states.get(thread) };
            let own = || self.left[thread].0.take(threads > 1);
            let of_neighbours = || {
                let mut neighbours =
                    (1..threads.min(NEIGHBOURS + 1)).map(|i| (thread + i) % threads);
                neighbours.find_map(|other| self.left[other].0.take_end())
            };
            while let Some(steps) = own().or_else(of_neighbours) {
                let range = steps.start * step..(steps.end * step).min(width);
                // SAFETY: the shares are disjoint, and a share gives each of its steps once.
                job(state, &mut unsafe { matrix.columns(range) });
            }
        });
    }

    /// Starts the region: makes it visible and wakes who is parked.
    fn wake(&self) {
        self.shared.generation.0.fetch_add(1, Ordering::SeqCst);
        for (worker, parked) in self.workers.iter().zip(&self.shared.parked) {
            if parked.0.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
    }

    /// Waits until all workers have finished the region.
    fn join(&self) {
        let shared = &*self.shared;
        let done = || shared.pending.0.load(Ordering::SeqCst) == 0;
        for _ in 0..shared.spins {
            if done() {
                return;
            }
            std::hint::spin_loop();
        }
        *lock(&shared.caller) = Some(thread::current());
        wait(0, &shared.caller_parked, done);
    }

    /// Ties the calling thread to its CPU (or frees it), where it is not there already.
    fn pin_caller(&self) {
        // Inside a job of another team this thread has its place.
        if DEPTH.get() > 0 {
            return;
        }
        CALLED.set(self.id);
        // Teams of different sizes share their first CPU: going from one to the other costs no system call.
        if affinity::tied_to() != self.caller_cpu {
            // Refused for the caller means refused for the workers, which `pinned` reports.
            let _ = match self.caller_cpu {
                Some(cpu) => affinity::pin_thread(&[cpu]),
                None => affinity::unpin_thread(),
            };
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.wake();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of jobs, so it has none of its own to report.
            let _ = worker.join();
        }
        if CALLED.get() == self.id && affinity::tied_to().is_some() {
            let _ = affinity::unpin_thread();
        }
    }
}

/// A number that no other team has, from 1.
fn next_id() -> u64 {
    static TEAMS: AtomicU64 = AtomicU64::new(0);
    TEAMS.fetch_add(1, Ordering::Relaxed) + 1
}

/// Turns of the spin loop that take about `spin_ns`. A turn's pause takes from a few to 140 cycles, so it is timed.
fn spins_of(spin_ns: u64) -> u32 {
    static TURN_PS: OnceLock<u64> = OnceLock::new();
    let turn_ps = *TURN_PS.get_or_init(|| {
        const TURNS: u64 = 1000;
        let clock = MonotonicClock::new();
        let flag = AtomicBool::new(false);
        let time = || {
            let start = clock.now_ns();
            for _ in 0..TURNS {
                if flag.load(Ordering::SeqCst) {
                    break;
                }
                std::hint::spin_loop();
            }
            clock.now_ns() - start
        };
        // The fastest of a few: the others may have been interrupted.
        (0..5).map(|_| time()).min().unwrap_or(0).max(1) * 1000 / TURNS
    });
    u32::try_from(spin_ns.saturating_mul(1000) / turn_ps.max(1)).unwrap_or(u32::MAX)
}
