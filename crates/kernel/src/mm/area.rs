//! A part of an address space that is of one kind, as `/proc/PID/maps` lists it.

use super::object::Object;
use super::ranges::Piece;
use crate::fs::Description;
use crate::host::HostFile;
use alloc::sync::Arc;

bitflags::bitflags! {
    /// How memory may be used, `PROT_*` of mmap(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Protection: u8 {
        /// It may be read.
        const READ = 1;
        /// It may be written.
        const WRITE = 2;
        /// It may be executed.
        const EXEC = 4;
    }
}

bitflags::bitflags! {
    /// What is special about an area.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Traits: u16 {
        /// Writes are seen by all that map the same (`MAP_SHARED`).
        const SHARED = 1;
        /// It grows towards lower addresses when touched just below (`MAP_GROWSDOWN`).
        const GROWS_DOWN = 2;
        /// Its pages stay in memory (`MAP_LOCKED`, mlock(2)).
        const LOCKED = 4;
        /// A child doesn't get it (`MADV_DONTFORK`).
        const DONT_FORK = 8;
        /// A child gets it empty (`MADV_WIPEONFORK`).
        const WIPE_ON_FORK = 16;
        /// It doesn't count as committed memory (`MAP_NORESERVE`).
        const NO_RESERVE = 32;
        /// It is left out of core dumps (`MADV_DONTDUMP`).
        const DONT_DUMP = 64;
        /// A shared mapping that `mprotect` may not make writable: its file was opened for reading only.
        const NEVER_WRITE = 128;
        /// It stays as it is, mseal(2).
        const SEALED = 256;
        /// `mprotect` may not make it executable: its file lies where nothing may be (`MS_NOEXEC`).
        const NEVER_EXEC = 512;
    }
}

/// Where the contents of an area come from.
#[derive(Clone)]
pub enum Source {
    /// Nowhere: zeros.
    Zero,
    /// Memory that several may map: a tmpfs file, a memfd, shared anonymous memory.
    Object(Arc<Object>),
    /// A file of the host's.
    Host(Arc<dyn HostFile>),
}

/// A part of an address space.
#[derive(Clone)]
pub struct Area {
    /// How it may be used.
    pub protection: Protection,
    /// What is special about it.
    pub traits: Traits,
    /// Where its contents come from.
    pub source: Source,
    /// From where on in `source`.
    pub offset: u64,
    /// The open file it was made from, which stays open with it.
    pub file: Option<Arc<Description>>,
    /// What it is called in `/proc/PID/maps`, if it has no file: `[heap]`, `[stack]`, `[vdso]`.
    pub label: &'static str,
}

impl Area {
    /// Zeros of one's own.
    pub fn anonymous(protection: Protection) -> Self {
        Area { protection, traits: Traits::empty(), source: Source::Zero, offset: 0, file: None, label: "" }
    }

    /// Whether it counts as data: its own, to be written, and no stack.
    pub fn is_data(&self) -> bool {
        self.protection.contains(Protection::WRITE) && !self.traits.intersects(Traits::SHARED | Traits::GROWS_DOWN)
    }

    /// Whether writes are seen by others.
    pub fn is_shared(&self) -> bool {
        self.traits.contains(Traits::SHARED)
    }
}

impl Piece for Area {
    fn advanced(&self, by: u64) -> Self {
        Area { offset: if matches!(self.source, Source::Zero) { 0 } else { self.offset + by }, ..self.clone() }
    }

    fn continues(&self, len: u64, next: &Self) -> bool {
        let same_file = match (&self.file, &next.file) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        let same_source = match (&self.source, &next.source) {
            (Source::Zero, Source::Zero) => true,
            (Source::Object(a), Source::Object(b)) => Arc::ptr_eq(a, b) && self.offset + len == next.offset,
            (Source::Host(a), Source::Host(b)) => Arc::ptr_eq(a, b) && self.offset + len == next.offset,
            _ => false,
        };
        same_file && same_source && self.protection == next.protection && self.traits == next.traits && self.label == next.label
    }
}

/// Private pages of an address space: where in the sandbox's memory they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Private {
    /// First byte.
    pub frame: u64,
    /// Another address space may have the same pages: copy before writing.
    pub copy_on_write: bool,
}

impl Piece for Private {
    fn advanced(&self, by: u64) -> Self {
        Private { frame: self.frame + by, ..*self }
    }

    fn continues(&self, len: u64, next: &Self) -> bool {
        self.frame + len == next.frame && self.copy_on_write == next.copy_on_write
    }
}
