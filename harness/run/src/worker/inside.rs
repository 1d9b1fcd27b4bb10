//! A worker without a process of its own: what isolation is measured against.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use trit_kernel::Cpu;
use trit_measure::default_threads;

use super::{Floor, Looks};
use crate::protocol::{Reply, Request};

/// A worker that is a thread of this process. Requests and replies are the same; what the subject does to its process, it
/// does to this one.
pub(crate) struct Inside {
    requests: Option<Sender<Request>>,
    replies: Receiver<Reply>,
    thread: Option<JoinHandle<()>>,
}

impl Inside {
    /// Starts it.
    ///
    /// # Errors
    /// A sentence, when the instruction sets cannot be told or the system refuses a thread.
    pub(crate) fn start() -> Result<Self, String> {
        let cpu = Cpu::from_env().map_err(|error| error.to_string())?;
        // Before any thread is tied to a CPU.
        let _threads = default_threads();
        let (requests, asked) = channel::<Request>();
        let (answer, replies) = channel();
        // A thread of its own: a team ties the one that calls it to a CPU.
        let thread = thread::Builder::new()
            .name("worker inside".to_owned())
            .spawn(move || {
                let mut floor = Floor::new(cpu, Looks::open());
                for request in asked {
                    if answer.send(floor.reply(request)).is_err() {
                        return;
                    }
                }
            })
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Self {
            requests: Some(requests),
            replies,
            thread: Some(thread),
        })
    }

    /// Asks, and waits for the reply.
    ///
    /// # Errors
    /// A sentence, when the thread has ended.
    pub(crate) fn ask(&self, request: Request) -> Result<Reply, String> {
        let gone = || "the worker inside of this process has ended".to_owned();
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(request).map_err(|_| gone())?;
        self.replies.recv().map_err(|_| gone())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // The end of its requests is its end; its memory is free when the thread has ended.
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}
