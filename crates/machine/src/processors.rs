//! A thread for each virtual processor.
//!
//! A thread is asked to come back by a signal, which breaks into the guest; as one that comes just before the guest is entered changes
//! nothing, it is sent until the thread has seen the request.

use crate::bus::Bus;
use crate::error::{Result, host};
use crate::ports::Wish;
use insula_vm::vcpu::{Exits, Stopped, Vcpu};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

/// How a processor's thread ended.
type Ended = std::result::Result<Exits, insula_vm::Error>;

pub(crate) struct Processors {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Ended>>,
}

impl Processors {
    /// Starts them all.
    pub(crate) fn start(vcpus: Vec<Vcpu>, bus: &Arc<Bus>) -> Result<Processors> {
        register_signal_handler(SIGRTMIN(), nothing).map_err(host("handle a signal"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut processors = Processors { stop: stop.clone(), threads: Vec::new() };
        for vcpu in vcpus {
            let (stop, bus) = (stop.clone(), bus.clone());
            let name = format!("vcpu{}", vcpu.number());
            let thread = Builder::new().name(name).spawn(move || work(vcpu, &bus, &stop));
            processors.threads.push(thread.map_err(host("start a thread"))?);
        }
        Ok(processors)
    }

    /// Stops them all; what they did, or the first failure of one.
    pub(crate) fn stop(self) -> Ended {
        self.stop.store(true, Ordering::SeqCst);
        let mut sum = Exits::default();
        let mut failure = None;
        for thread in self.threads {
            while !thread.is_finished() {
                let _ = thread.kill(SIGRTMIN());
                std::thread::sleep(Duration::from_micros(200));
            }
            match thread.join() {
                Ok(Ok(exits)) => {
                    sum.ports += exits.ports;
                    sum.memory += exits.memory;
                    sum.others += exits.others;
                }
                Ok(Err(error)) => failure = failure.or(Some(error)),
                // It has panicked, and has said so; a panic is the process's end in what we ship.
                Err(_) => {}
            }
        }
        failure.map_or(Ok(sum), Err)
    }
}

fn work(mut vcpu: Vcpu, bus: &Bus, stop: &AtomicBool) -> Ended {
    while !stop.load(Ordering::SeqCst) {
        match vcpu.run(bus) {
            Ok(Stopped::Asked) => {}
            Ok(Stopped::Shutdown) => {
                bus.ports.wish(Wish::Reset);
                break;
            }
            Err(error) => {
                bus.ports.wish(Wish::Off);
                return Err(error);
            }
        }
    }
    Ok(vcpu.exits())
}

/// The signal's only purpose is to come.
extern "C" fn nothing(_: i32, _: *mut libc::siginfo_t, _: *mut std::ffi::c_void) {}
