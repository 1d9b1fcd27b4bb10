//! A meter that is read in the background.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::meter::TICK_NS;
use super::{Energy, Meter, Point};

/// Owns a [`Meter`] and reads it once a second from a thread of its own, so that no counter starts again at 0 twice
/// between two readings. Windows begin and end on the thread of the caller. The thread ends with this value.
#[derive(Debug)]
pub struct Sampler {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    meter: Mutex<Meter>,
    stop: Mutex<bool>,
    stopped: Condvar,
}

impl Sampler {
    /// Begins to read `meter` once a second.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(meter: Meter) -> std::io::Result<Self> {
        Self::every(meter, Duration::from_nanos(TICK_NS))
    }

    pub(super) fn every(meter: Meter, interval: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            meter: Mutex::new(meter),
            stop: Mutex::new(false),
            stopped: Condvar::new(),
        });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("energy".to_owned())
            .spawn(move || {
                while !of_thread.wait(interval) {
                    of_thread.meter().tick();
                }
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// See [`Meter::begin`].
    pub fn begin(&self) {
        self.shared.meter().begin();
    }

    /// See [`Meter::end`].
    pub fn end(&self) -> Energy {
        self.shared.meter().end()
    }

    /// See [`Meter::sample`].
    pub fn sample(&self) -> Energy {
        self.shared.meter().sample()
    }

    /// See [`Meter::take_points`].
    pub fn take_points(&self) -> Vec<Point> {
        self.shared.meter().take_points()
    }

    /// The meter itself; it is not read in the background meanwhile.
    pub fn meter(&self) -> MutexGuard<'_, Meter> {
        self.shared.meter()
    }

    /// A window in which this thread only waits: the machine at rest, when nothing else of ours runs. `go_on` is asked
    /// ten times a second; the window ends early when it says no.
    pub fn idle(&self, duration: Duration, go_on: &dyn Fn() -> bool) -> Energy {
        const STEP: Duration = Duration::from_millis(100);
        self.begin();
        let mut left = duration;
        while !left.is_zero() && go_on() {
            let step = left.min(STEP);
            self.shared.wait(step);
            left -= step;
        }
        self.end()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        *self.shared.stop() = true;
        self.shared.stopped.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was a panic of a reading; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) -> MutexGuard<'_, bool> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `time`, or until it is time to stop: whether it is.
    fn wait(&self, time: Duration) -> bool {
        let (stop, _) = self
            .stopped
            .wait_timeout_while(self.stop(), time, |stop| !*stop)
            .unwrap_or_else(PoisonError::into_inner);
        *stop
    }
}
