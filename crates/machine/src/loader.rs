//! The thread that brings the rest of the guest's kernel while the guest starts.

use crate::bus::Bus;
use crate::confinement::{Filters, Thread};
use crate::error::Result;
use crate::ports::Wish;
use crate::threads;
use insula_vm::fill::Rest;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

pub(crate) struct Loader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<insula_vm::Result<()>>,
}

impl Loader {
    /// Starts it, confined. If it fails, the machine ends: its guest has no kernel.
    pub(crate) fn start(rest: Rest, bus: &Arc<Bus>, filters: &Arc<Filters>) -> Result<Loader> {
        let stop = Arc::new(AtomicBool::new(false));
        let (confined, is_confined) = mpsc::channel();
        let (bus, filters, stopped) = (bus.clone(), filters.clone(), stop.clone());
        let body = move || {
            let _ = confined.send(filters.confine(Thread::Loader, "loader"));
            rest.bring(&stopped).inspect_err(|_| bus.ports.wish(Wish::Off))
        };
        let thread = threads::start("loader", body)?;
        is_confined.into_iter().next().unwrap_or(Ok(()))?;
        Ok(Loader { stop, thread })
    }

    /// Ends it, done or not; how it went.
    pub(crate) fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        // One that has panicked has said so; a panic is the process's end in what we ship.
        Ok(self.thread.join().unwrap_or(Ok(()))?)
    }
}
