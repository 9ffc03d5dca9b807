//! What a program finds on its stack: arguments, environment, and the auxiliary vector, getauxval(3).

use super::elf::Placed;
use super::random;
use crate::mm::{Area, MapRequest, Mm, Place, Protection, Traits};
use crate::task::{Credentials, Task};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::{PAGE, auxvec as a, general as c};

/// The longest argument, with its zero byte (Linux: `MAX_ARG_STRLEN`).
pub const LONGEST: usize = 32 * PAGE as usize;

/// Arguments and environment may always have this much (`ARG_MAX`), and never more than three quarters of a usual stack.
const ALWAYS: u64 = 128 << 10;
/// See [`ALWAYS`].
const NEVER_MORE: u64 = 6 << 20;

/// Room that is there below what is written, before the stack has to grow.
const ROOM: u64 = 128 << 10;

/// Bytes that all arguments and the environment may have together, with their pointers.
pub fn room(task: &Task) -> u64 {
    (task.process.limit(c::RLIMIT_STACK) / 4).clamp(ALWAYS, NEVER_MORE)
}

/// Whether arguments and environment aren't too long.
///
/// # Errors
/// `E2BIG`.
pub fn check_size(task: &Task, arguments: &[Vec<u8>], environment: &[Vec<u8>]) -> Result<()> {
    let mut left = room(task);
    for string in arguments.iter().chain(environment) {
        if string.len() >= LONGEST {
            return Err(Errno::E2BIG);
        }
        left = left.checked_sub(string.len() as u64 + 1 + 8).ok_or(Errno::E2BIG)?;
    }
    Ok(())
}

/// All that a stack is to hold.
pub struct Contents<'a> {
    /// Arguments.
    pub arguments: &'a [Vec<u8>],
    /// Environment.
    pub environment: &'a [Vec<u8>],
    /// The program's path, as it was called.
    pub name: &'a [u8],
    /// Who it will be.
    pub credentials: &'a Credentials,
    /// It is more than its caller was (`AT_SECURE`).
    pub secure: bool,
    /// Where it lies.
    pub placed: &'a Placed,
    /// The stack may be executed.
    pub executable: bool,
}

/// Strings at the top of a stack.
struct Strings {
    bytes: Vec<u8>,
    top: u64,
}

impl Strings {
    /// Adds one below the others; answers where. They are kept upside down until all are there.
    fn push(&mut self, string: &[u8]) -> u64 {
        self.bytes.push(0);
        self.bytes.extend(string.iter().rev());
        self.top - self.bytes.len() as u64
    }

    fn push_all(&mut self, strings: &[Vec<u8>]) -> Vec<u64> {
        let mut places: Vec<_> = strings.iter().rev().map(|string| self.push(string)).collect();
        places.reverse();
        places
    }

    fn bottom(&self) -> u64 {
        self.top - self.bytes.len() as u64
    }

    fn align(&mut self, to: u64) {
        let more = self.bottom() % to;
        self.bytes.resize(self.bytes.len() + more as usize, 0);
    }
}

impl Contents<'_> {
    /// Maps a stack and writes it; answers the stack pointer.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn write(&self, task: &Arc<Task>, mm: &Arc<Mm>) -> Result<u64> {
        let top = mm.layout().high - random(task, 22);
        // At the very top stands a word of zeros.
        let mut strings = Strings { bytes: alloc::vec![0; 8], top };
        let name = strings.push(self.name);
        let environment = strings.push_all(self.environment);
        let between = environment.first().copied().unwrap_or(name);
        let arguments = strings.push_all(self.arguments);
        let first = strings.bottom();
        let platform = strings.push(b"x86_64");
        let mut seed = [0; 16];
        task.kernel().host.entropy.fill(&mut seed);
        strings.align(16);
        strings.bytes.extend(seed.iter().rev());
        let seed = strings.bottom();
        let auxiliary = self.auxiliary(task, name, platform, seed);
        let mut words = Vec::with_capacity(arguments.len() + environment.len() + 3 + auxiliary.len() * 2);
        words.push(arguments.len() as u64);
        words.extend(arguments);
        words.push(0);
        words.extend(environment);
        words.push(0);
        let vector = words.len() as u64 * 8;
        words.extend(auxiliary.iter().flat_map(|(kind, value)| [u64::from(*kind), *value]));
        let sp = (strings.bottom() - words.len() as u64 * 8) & !15;
        map(mm, sp, top, self.executable)?;
        mm.write(sp, &words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>())?;
        let bottom = strings.bottom();
        strings.bytes.reverse();
        mm.write(bottom, &strings.bytes)?;
        mm.set_image(|image| {
            image.stack = sp;
            image.arguments = (first, between);
            image.environment = (between, name);
            image.auxiliary = (sp + vector, sp + vector + auxiliary.len() as u64 * 16);
        });
        Ok(sp)
    }

    fn auxiliary(&self, task: &Task, name: u64, platform: u64, seed: u64) -> Vec<(u32, u64)> {
        let machine = &task.kernel().host.machine;
        let Credentials { uid, gid, space, .. } = self.credentials;
        let (user, group) = (|id| u64::from(space.show_user(id)), |id| u64::from(space.show_group(id)));
        let mut vector = alloc::vec![
            (a::AT_MINSIGSTKSZ, crate::signal::frame::largest(machine.extended)),
            (a::AT_HWCAP, machine.capabilities),
            (a::AT_PAGESZ, PAGE),
            (a::AT_CLKTCK, 100),
            (a::AT_PHDR, self.placed.headers),
            (a::AT_PHENT, 56),
            (a::AT_PHNUM, self.placed.count),
            (a::AT_BASE, self.placed.base),
            (a::AT_FLAGS, 0),
            (a::AT_ENTRY, self.placed.entry),
            (a::AT_UID, user(uid.real)),
            (a::AT_EUID, user(uid.effective)),
            (a::AT_GID, group(gid.real)),
            (a::AT_EGID, group(gid.effective)),
            (a::AT_SECURE, u64::from(self.secure)),
            (a::AT_RANDOM, seed),
            (a::AT_HWCAP2, machine.capabilities2),
            (a::AT_EXECFN, name),
            (a::AT_PLATFORM, platform),
            (a::AT_NULL, 0),
        ];
        if let Some(vdso) = &machine.vdso {
            vector.insert(0, (a::AT_SYSINFO_EHDR, vdso.address));
        }
        vector
    }
}

/// Maps the stack with what is to be written and some room.
fn map(mm: &Arc<Mm>, sp: u64, top: u64, executable: bool) -> Result<()> {
    let mut protection = Protection::READ | Protection::WRITE;
    if executable {
        protection |= Protection::EXEC;
    }
    let start = (sp - ROOM) & !(PAGE - 1);
    let mut area = Area { label: "[stack]", ..Area::anonymous(protection) };
    area.traits |= Traits::GROWS_DOWN;
    mm.map(MapRequest { place: Place::Vacant(start), len: top - start, area }).map(|_| ())
}
