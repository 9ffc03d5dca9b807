//! What a gofer serves, and with how much power.

use std::path::PathBuf;

/// A tree, or a single file, that the sentry may ask for.
#[derive(Clone, Debug)]
pub struct Export {
    /// Its root on the host. Found by its path once, before anything is asked.
    pub source: PathBuf,
    /// Nothing in it can be changed. Held by the kernel: the gofer has it mounted so.
    pub read_only: bool,
    /// What is mounted below it is part of it. Otherwise the directories underneath are seen, as with a plain bind mount.
    pub recursive: bool,
    /// Others may change it while the sandbox runs, so what was looked up must be looked up again. Only told to the sentry.
    pub shared: bool,
    /// Device nodes in it can be made and opened. Otherwise the kernel refuses to open them: it is mounted `nodev`.
    pub devices: bool,
    /// Named pipes in it are opened on the host, so that they connect with the host's processes. Opening never waits.
    pub pipes: bool,
    /// Capabilities can be given to files in it (`security.capability`). They would hold for the host's processes, too.
    pub file_capabilities: bool,
}

impl Export {
    /// A tree that can be written, with what is mounted in it, which nobody else changes.
    pub fn new(source: impl Into<PathBuf>) -> Export {
        Export {
            source: source.into(),
            read_only: false,
            recursive: true,
            shared: false,
            devices: false,
            pipes: false,
            file_capabilities: false,
        }
    }

    /// The same, but nothing in it can be changed.
    pub fn read_only(self) -> Export {
        Export { read_only: true, ..self }
    }
}

/// How a gofer is held.
#[derive(Clone, Debug)]
pub struct Confinement {
    /// Capabilities it keeps, as a bit mask; what its maker lacks is left out. Source: capabilities(7).
    pub capabilities: u64,
    /// Open places it remembers at most; the kernel's limits may be lower. One more is answered by `EMFILE`.
    pub handles: u32,
}

/// What root of a container may do to files: own, change, find and make them, whoever they belong to.
///
/// `CAP_SETUID` and `CAP_SETGID` are for making files in another's name (setfsuid(2)).
pub const FILE_CAPABILITIES: u64 = 1 << CHOWN
    | 1 << DAC_OVERRIDE
    | 1 << DAC_READ_SEARCH
    | 1 << FOWNER
    | 1 << FSETID
    | 1 << SETGID
    | 1 << SETUID
    | 1 << MKNOD
    | 1 << SETFCAP;

const CHOWN: u32 = 0;
const DAC_OVERRIDE: u32 = 1;
const DAC_READ_SEARCH: u32 = 2;
const FOWNER: u32 = 3;
const FSETID: u32 = 4;
const SETGID: u32 = 6;
const SETUID: u32 = 7;
const MKNOD: u32 = 27;
const SETFCAP: u32 = 31;

impl Default for Confinement {
    fn default() -> Confinement {
        Confinement { capabilities: FILE_CAPABILITIES, handles: 65536 }
    }
}
