//! What is left of a PC's devices: a serial port, the keyboard controller's reset, and the register that switches off. Ports that
//! belong to nobody read as all ones, as on a bus where nothing answers.

use crate::console::Console;
use crate::error::Result;
use crate::marks::Course;
use insula_vm::acpi;
use insula_vm::event::Event;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vm_superio::serial::{NoEvents, SerialState};
use vm_superio::{Serial, Trigger};

const SERIAL: u16 = 0x3f8;
/// Behind it: the register that says which interrupts the driver wants, and that which says what is pending.
const INTERRUPTS: u16 = 1;
const PENDING: u16 = 2;
const NOTHING: u8 = 1;
/// The modem's lines; the second of its spare outputs is the switch between a PC's port and its interrupt.
const MODEM: u16 = 4;
const SWITCH: u8 = 1 << 3;
/// The interrupt line of the first serial port.
pub(crate) const SERIAL_LINE: u32 = 4;
/// That of the second one, which isn't there: what the machine itself has to say.
pub(crate) const EVENTS_LINE: u32 = 3;

/// What the guest wants of the machine as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Off,
    Reset,
}

/// The port's interrupt line as an event.
#[derive(Clone)]
pub(crate) struct Line {
    event: Event,
    switched_through: Arc<AtomicBool>,
}

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        if self.switched_through.load(Ordering::SeqCst) {
            self.event.signal();
        }
        Ok(())
    }
}

pub(crate) struct Ports {
    serial: Mutex<Serial<Line, NoEvents, Console>>,
    line: Line,
    console: Console,
    wish: AtomicU8,
    /// What is typed waits for the guest.
    full: AtomicBool,
    /// Signalled when there is a wish, or room again for what is typed.
    news: Event,
    pub(crate) course: Course,
}

impl Ports {
    pub(crate) fn new(line: Event, console: Console) -> Result<Ports> {
        let line = Line { event: line, switched_through: Arc::default() };
        let serial = Mutex::new(Serial::new(line.clone(), console.clone()));
        Ok(Ports {
            serial,
            line,
            console,
            wish: AtomicU8::new(0),
            full: AtomicBool::new(false),
            news: Event::new()?,
            course: Course::default(),
        })
    }

    fn serial(&self) -> MutexGuard<'_, Serial<Line, NoEvents, Console>> {
        // What another thread left half done is at worst a garbled character.
        self.serial.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        match (port, data) {
            (SERIAL..0x400, [byte]) => {
                let mut serial = self.serial();
                *byte = serial.read((port - SERIAL) as u8);
                if port == SERIAL + PENDING {
                    *byte = pending(*byte, serial.state().interrupt_enable);
                }
                self.tell_of_room(&serial);
            }
            // The keyboard controller is idle, and has nothing to tell.
            (acpi::RESET_PORT | 0x60, [byte]) => *byte = 0,
            (acpi::SLEEP_PORT, [byte]) => *byte = 0,
            _ => {}
        }
    }

    pub(crate) fn write(&self, port: u16, data: &[u8]) {
        match (port, data) {
            (SERIAL..0x400, [byte]) => {
                let mut serial = self.serial();
                let _ = serial.write((port - SERIAL) as u8, *byte);
                if port == SERIAL + MODEM {
                    self.switch(*byte, &serial.state());
                }
                if port == SERIAL + INTERRUPTS && room(&serial) > 0 {
                    self.course.init();
                }
                self.tell_of_room(&serial);
                drop(serial);
                // Without the port, which the event loop needs too.
                self.console.settle();
            }
            (acpi::RESET_PORT, [acpi::RESET]) => self.wish(Wish::Reset),
            (acpi::SLEEP_PORT, [acpi::SLEEP_OFF]) => self.wish(Wish::Off),
            _ => {}
        }
    }

    /// What is pending when the line is switched through is heard then.
    fn switch(&self, modem: u8, port: &SerialState) {
        let through = modem & SWITCH != 0;
        let was = self.line.switched_through.swap(through, Ordering::SeqCst);
        if through && !was && pending(port.interrupt_identification, port.interrupt_enable) & NOTHING == 0 {
            self.line.event.signal();
        }
    }

    /// Types into the guest's console; how many bytes it took.
    pub(crate) fn type_in(&self, bytes: &[u8]) -> usize {
        self.serial().enqueue_raw_bytes(bytes).unwrap_or(0)
    }

    /// How many bytes the console would take now. If none, [`Self::event`] will be signalled when that changes.
    pub(crate) fn room(&self) -> usize {
        let serial = self.serial();
        let room = room(&serial);
        self.full.store(room == 0, Ordering::SeqCst);
        room
    }

    fn tell_of_room(&self, serial: &Serial<Line, NoEvents, Console>) {
        if self.full.load(Ordering::SeqCst) && room(serial) > 0 {
            self.full.store(false, Ordering::SeqCst);
            self.news.signal();
        }
    }

    pub(crate) fn wish(&self, wish: Wish) {
        // The first one counts.
        let _ = self.wish.compare_exchange(0, wish as u8 + 1, Ordering::SeqCst, Ordering::SeqCst);
        self.news.signal();
    }

    pub(crate) fn wished(&self) -> Option<Wish> {
        match self.wish.load(Ordering::SeqCst) {
            1 => Some(Wish::Off),
            2 => Some(Wish::Reset),
            _ => None,
        }
    }

    /// Signalled when [`Self::wished`] or [`Self::room`] has something new to say.
    pub(crate) fn event(&self) -> &Event {
        &self.news
    }
}

/// Before a driver wants to hear of them, it would throw away what came: it empties the port when it takes it over. Linux asks for all
/// four interrupts only to see whether there is such a register (`autoconfig` in 8250_port.c), or while it sends.
fn room<T: Trigger>(serial: &Serial<T, NoEvents, Console>) -> usize {
    const RECEIVED: u8 = 1;
    const ALL: u8 = 0xf;
    let enabled = serial.state().interrupt_enable;
    if enabled & RECEIVED == 0 || enabled == ALL { 0 } else { serial.fifo_capacity() }
}

/// What is pending of what the driver wants. The library's port also names what has been switched off meanwhile, as a driver does with its last
/// byte; it would look at all registers once more, to find nothing. Source: 16550 data sheet, table of the interrupt identification register.
fn pending(identified: u8, enabled: u8) -> u8 {
    const ROOM_TO_SEND: u8 = 1 << 1;
    const RECEIVED: u8 = 1 << 2;
    // In the register of what is wanted, their places are the other way round.
    let wanted = ((enabled & 1) << 2) | (enabled & ROOM_TO_SEND);
    let left = identified & !((ROOM_TO_SEND | RECEIVED) & !wanted);
    if left & (ROOM_TO_SEND | RECEIVED) == 0 { left | NOTHING } else { left }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marks::Marks;

    fn ports() -> Ports {
        Ports::new(Event::new().unwrap(), Console::new(None, None).unwrap()).unwrap()
    }

    #[test]
    fn a_guest_can_switch_off_and_reset() {
        for (port, byte, wish) in [(0x600, 0x34, Wish::Off), (0x64, 0xfe, Wish::Reset)] {
            let ports = ports();
            ports.write(port, &[byte]);
            assert_eq!((ports.wished(), ports.event().take()), (Some(wish), true));
        }
    }

    #[test]
    fn what_the_driver_has_switched_off_is_not_pending() {
        let ports = ports();
        let identified = || {
            let mut byte = [0];
            ports.read(0x3fa, &mut byte);
            byte[0] & 0xf
        };
        ports.write(0x3f9, &[3]);
        ports.write(0x3f8, b"x");
        assert_eq!(identified(), 2, "there is room to send");
        ports.write(0x3f8, b"y");
        ports.write(0x3f9, &[1]);
        assert_eq!(identified(), 1, "nobody wants to know");
        ports.write(0x3f9, &[3]);
        assert_eq!((ports.type_in(b"z"), identified() & 4), (1, 4), "something was received");
    }

    #[test]
    fn the_port_interrupts_only_when_it_is_switched_through() {
        let line = Event::new().unwrap();
        let ports = Ports::new(line.clone(), Console::new(None, None).unwrap()).unwrap();
        ports.write(0x3f9, &[2]);
        assert!(!line.take(), "a driver that only looks what there is");
        ports.write(0x3fc, &[0xb]);
        assert!(line.take(), "there is room to send");
        ports.write(0x3f9, &[0]);
        ports.write(0x3fc, &[3]);
        ports.write(0x3fc, &[0xb]);
        assert!(!line.take(), "nobody wants to know");
        ports.write(0x3f9, &[1]);
        assert!(!line.take() && ports.type_in(b"z") == 1 && line.take(), "something was received");
    }

    #[test]
    fn what_is_typed_waits_for_a_driver() {
        let ports = ports();
        assert_eq!((ports.room(), ports.event().take()), (0, false));
        ports.write(0x3f9, &[0xf]);
        assert_eq!((ports.room(), ports.event().take()), (0, false), "it only looks what there is");
        let began = std::time::Instant::now();
        assert_eq!(ports.course.marks(began), Marks::default());
        ports.write(0x3f9, &[1]);
        assert!(ports.course.marks(began).init_us.is_some());
        assert!(ports.event().take() && ports.room() > 0);
        let room = ports.room();
        assert_eq!((ports.type_in(&vec![b'x'; room]), ports.room()), (room, 0));
        let mut byte = [0];
        ports.read(0x3f8, &mut byte);
        assert_eq!((byte, ports.event().take(), ports.room()), ([b'x'], true, 1));
    }

    #[test]
    fn any_access_of_any_size_is_survived() {
        let ports = ports();
        for port in 0..=u16::MAX {
            for size in 1..=4 {
                let mut data = [0x5a; 4];
                ports.write(port, &data[..size]);
                ports.read(port, &mut data[..size]);
            }
        }
        let mut nobody = [0; 4];
        ports.read(0xcf8, &mut nobody);
        assert_eq!((ports.wished(), nobody), (None, [0xff; 4]));
    }
}
