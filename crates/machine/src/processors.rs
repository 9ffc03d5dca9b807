//! A thread for each virtual processor.
//!
//! A thread is asked to come back by a signal, which breaks into the guest; as one that comes just before the guest is entered changes
//! nothing, it is sent until the thread has seen the request.

use crate::bus::Bus;
use crate::confinement::{Filters, Thread};
use crate::error::{Result, host};
use crate::ports::Wish;
use crate::stats::Task;
use crate::threads;
use insula_vm::vcpu::{Exits, Stopped, Vcpu};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

/// How a processor's thread ended.
type Ended = Result<Exits>;

pub(crate) struct Processors {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Ended>>,
    tasks: Vec<Task>,
}

impl Processors {
    /// Starts a thread for each, and runs the guest once every thread is confined, this one included: from here on it can do what
    /// [`Thread::Loop`] may, and no more.
    pub(crate) fn start(vcpus: Vec<Vcpu>, bus: &Arc<Bus>, filters: &Arc<Filters>) -> Result<Processors> {
        register_signal_handler(SIGRTMIN(), nothing).map_err(host("handle a signal"))?;
        let (count, (confined, all_confined)) = (vcpus.len(), mpsc::channel());
        let (gate, stop) = (Arc::new(Mutex::new(())), Arc::new(AtomicBool::new(true)));
        let closed = gate.lock();
        let mut processors = Processors { stop: stop.clone(), threads: Vec::new(), tasks: Vec::new() };
        for vcpu in vcpus {
            let (confined, gate, stop) = (confined.clone(), gate.clone(), stop.clone());
            let (bus, filters) = (bus.clone(), filters.clone());
            let name = format!("vcpu{}", vcpu.number());
            let known_as = name.clone();
            let body = move || {
                let result = filters.confine(Thread::Vcpu, &known_as);
                let _ = confined.send(result.map(|()| Task::this(known_as)));
                drop(gate.lock());
                work(vcpu, &bus, &stop)
            };
            processors.threads.push(threads::start(&name, body)?);
        }
        processors.tasks.push(Task::this("events".into()));
        filters.confine(Thread::Loop, "main")?;
        for result in all_confined.into_iter().take(count) {
            processors.tasks.push(result?);
        }
        processors.tasks[1..].sort_by_key(Task::number);
        stop.store(false, Ordering::SeqCst);
        // Whoever has failed above leaves the gate with nothing to be run.
        drop(closed);
        Ok(processors)
    }

    /// All threads of the machine, and this one.
    pub(crate) fn tasks(&self) -> &[Task] {
        &self.tasks
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
    bus.ports.course.entered();
    while !stop.load(Ordering::SeqCst) {
        match vcpu.run(bus) {
            Ok(Stopped::Asked) => {}
            Ok(Stopped::Off) => break,
            Ok(Stopped::Shutdown) => {
                bus.ports.wish(Wish::Reset);
                break;
            }
            Err(error) => {
                bus.ports.wish(Wish::Off);
                return Err(error.into());
            }
        }
    }
    Ok(vcpu.exits())
}

/// The signal's only purpose is to come.
extern "C" fn nothing(_: i32, _: *mut libc::siginfo_t, _: *mut std::ffi::c_void) {}
