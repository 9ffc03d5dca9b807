//! Kernel images: from a file somebody names to an uncompressed ELF file whose parts can be mapped into a guest.
//!
//! ```text
//! path ─> recognise ─┬─ ELF (vmlinux) ───────────────────────────────> elf ─> Kernel
//!                    └─ bzImage (vmlinuz) ─> cache ─┬─ kept ─────────> elf
//!                                                   └─ unpack ─ keep ─> elf
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`recognise`](self) | what a file is by its first bytes, and what to do with one that is no kernel |
//! | `bzimage` | the setup header: where the payload lies and how it is compressed |
//! | `unpack` | gzip, xz, zstd and lz4, never beyond the size that was announced |
//! | `cache` | unpacked kernels on disk: one file an image, and an index that spares the hashing |
//! | `elf` | program headers → segments, entries; the release |
//!
//! An image is hostile input: every offset is checked against the file, counts and sizes are bounded, and nothing is copied that can be
//! mapped. What was unpacked is trusted no more than what came unpacked.

mod bzimage;
mod cache;
mod elf;
mod recognise;
mod source;
mod unpack;

use crate::{Error, Result};
use cache::Cache;
use recognise::Kind;
use rustix::fs::OFlags;
use source::{Source, head};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest unpacked kernel, and the largest compressed image, in bytes.
pub const MAX_SIZE: u64 = 512 << 20;

/// How a bzImage's payload is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// The .xz format, with the filter for x86 code.
    Xz,
    /// RFC 8878, with a window of up to 128 MiB.
    Zstd,
    /// LZ4's legacy frame.
    Lz4,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::Gzip => "gzip",
            Compression::Xz => "xz",
            Compression::Zstd => "zstd",
            Compression::Lz4 => "lz4",
        })
    }
}

/// What the file was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An ELF file: what the build calls vmlinux.
    Elf,
    /// What distributions ship as vmlinuz.
    BzImage(Compression),
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Format::Elf => f.write_str("vmlinux"),
            Format::BzImage(compression) => write!(f, "bzImage ({compression})"),
        }
    }
}

/// A part of the kernel's file that has a place in guest memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in [`Kernel::file`], in bytes. `offset + file_size` lies in the file.
    pub offset: u64,
    /// Where it goes, as a guest physical address. `address + memory_size` doesn't overflow; whether the guest has memory there is
    /// not known here. Segments come in the order of the file and may overlap.
    pub address: u64,
    /// Bytes from the file.
    pub file_size: u64,
    /// Bytes in memory, at least `file_size` and not none; those beyond it are zero.
    pub memory_size: u64,
}

/// A kernel that is ready to be put into a guest.
#[derive(Debug)]
pub struct Kernel {
    /// The ELF file, uncompressed. It can be read at any offset, and mapped privately.
    pub file: Arc<File>,
    /// What of it goes where.
    pub segments: Vec<Segment>,
    /// Where Linux's 64-bit boot protocol enters, as a guest physical address that lies in a segment's bytes from the file. None for a
    /// kernel whose file names a virtual address, as no Linux does, and that can be entered by PVH.
    pub entry: Option<u64>,
    /// Where PVH enters, in 32-bit protected mode; such an address too.
    pub pvh_entry: Option<u32>,
    /// What the file was.
    pub format: Format,
    /// Size of [`Kernel::file`] in bytes.
    pub size: u64,
    /// The release that a bzImage's header says.
    release: Option<String>,
}

impl Kernel {
    /// Opens a kernel for x86-64: a vmlinux, or a bzImage, which is unpacked.
    ///
    /// With a `cache_dir`, which is made if it isn't there, an unpacked kernel is kept there and found again while the image has the same
    /// device, inode, size and times, or else the same content. Only a file that is owned by this user or root, that nobody else can
    /// write, and that has the size the image announces is used. Without, it is unpacked into memory, each time.
    ///
    /// # Errors
    /// The file can't be read, is no kernel, is a kernel for something else, or contradicts itself; the unpacked kernel can't be written.
    pub fn open(path: &Path, cache_dir: Option<&Path>) -> Result<Kernel> {
        open(path, cache_dir).map_err(|problem| problem.of(path, cache_dir))
    }

    /// The release, as `uname -r` shows it in the guest (at most 64 characters, printable ASCII). An image needn't say it; a vmlinux is
    /// searched for it, which takes longer than anything else here.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn release(&self) -> Result<Option<String>> {
        if self.release.is_some() {
            return Ok(self.release.clone());
        }
        let found = elf::release(&Source::File(&self.file, self.size), &self.segments);
        found.map_err(|problem| problem.of(Path::new("the kernel"), None))
    }
}

/// What is wrong with an image, before it is known whose.
#[derive(Debug)]
enum Problem {
    /// It is something else (with an article); what to do.
    Foreign(String, &'static str),
    /// A kernel that can't be started (with an article); what to do.
    Unusable(String, &'static str),
    /// It contradicts itself.
    Damaged(String),
    /// It can't be read.
    Read(io::Error),
    /// What was unpacked can't be written.
    Keep(io::Error),
}

impl Problem {
    fn of(self, path: &Path, cache_dir: Option<&Path>) -> Error {
        let path = path.to_owned();
        match self {
            Problem::Foreign(what, advice) => Error::NotAKernel { path, what, advice: advice.into() },
            Problem::Unusable(what, advice) => Error::UnusableKernel { path, what, advice: advice.into() },
            Problem::Damaged(what) => Error::DamagedKernel { path, what },
            Problem::Read(cause) => Error::KernelFile { path, cause },
            Problem::Keep(cause) => {
                Error::KernelCache { dir: cache_dir.map_or_else(|| PathBuf::from("memory"), Path::to_owned), cause }
            }
        }
    }
}

type Checked<T> = std::result::Result<T, Problem>;

fn open(path: &Path, cache_dir: Option<&Path>) -> Checked<Kernel> {
    // A pipe without a writer would keep us for ever, and a terminal must not become ours.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(Problem::Read)?;
    let about = file.metadata().map_err(Problem::Read)?;
    recognise::file_type(&about)?;
    let head = head(&file)?;
    match recognise::kind(&head)? {
        Kind::Elf => kernel(file, Format::Elf, None),
        Kind::BzImage => {
            let header = bzimage::Header::parse(&head, about.size())?;
            let cache = cache_dir.map(Cache::new);
            if let Some(kernel) = cache.as_ref().and_then(|cache| kept(cache, &file, &about, &header)) {
                return Ok(kernel);
            }
            let image = read_whole(&file, about.size())?;
            // What was read may be another image than the one that was looked at.
            let header = bzimage::Header::parse(&image, image.len() as u64)?;
            match cache {
                None => kernel(in_memory(&image, &header)?, Format::BzImage(header.compression), header.release),
                Some(cache) => cached(&cache, &file, &about, &image, header),
            }
        }
    }
}

/// The kernel in an ELF file.
fn kernel(file: File, format: Format, release: Option<String>) -> Checked<Kernel> {
    let size = file.metadata().map_err(Problem::Read)?.size();
    let source = Source::File(&file, size);
    let elf::Elf { segments, entry, pvh_entry } = elf::parse(&source)?;
    Ok(Kernel { file: Arc::new(file), segments, entry, pvh_entry, format, size, release })
}

/// The kernel in the cache that the index knows by the image's inode and times.
fn kept(cache: &Cache, image: &File, about: &std::fs::Metadata, header: &bzimage::Header) -> Option<Kernel> {
    let size = header.size(&Source::File(image, about.size())).ok()?;
    let unpacked = cache.find(&cache.indexed(about)?, size)?;
    kernel(unpacked, Format::BzImage(header.compression), header.release.clone()).ok()
}

/// The kernel in the cache that goes with the image's content; it is put there if it isn't there, or isn't in order.
fn cached(cache: &Cache, file: &File, about: &std::fs::Metadata, image: &[u8], header: bzimage::Header) -> Checked<Kernel> {
    let name = cache::name(image);
    let format = Format::BzImage(header.compression);
    let size = header.size(&Source::Bytes(image))?;
    let found = cache.find(&name, size).and_then(|unpacked| kernel(unpacked, format, header.release.clone()).ok());
    let kernel = match found {
        Some(kernel) => kernel,
        None => {
            let mut draft = cache.draft().map_err(Problem::Keep)?;
            unpack_into(image, &header, draft.as_file_mut())?;
            let opened = File::open(draft.path()).map_err(Problem::Keep)?;
            // Only what can be used is kept.
            let kernel = kernel(opened, format, header.release)?;
            cache.keep(draft, &name, about.mode()).map_err(Problem::Keep)?;
            kernel
        }
    };
    // Without the index, the next start takes longer and comes to the same.
    if file.metadata().is_ok_and(|now| cache::same(about, &now)) {
        let _ = cache.index(about, &name);
    }
    Ok(kernel)
}

/// All of an image that is to be unpacked.
fn read_whole(file: &File, size: u64) -> Checked<Vec<u8>> {
    if size > MAX_SIZE {
        return Err(Problem::Unusable(
            format!("a bzImage of {} MiB", size >> 20),
            "no kernel is larger than 512 MiB; is it the right file?",
        ));
    }
    let mut image = Vec::new();
    let mut limited = file.take(MAX_SIZE);
    limited.read_to_end(&mut image).map_err(Problem::Read)?;
    Ok(image)
}

/// Unpacks into a file without a name that nobody can change any more.
fn in_memory(image: &[u8], header: &bzimage::Header) -> Checked<File> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create(c"kernel", flags).map_err(|error| Problem::Keep(error.into()))?);
    unpack_into(image, header, &mut file)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).map_err(|error| Problem::Keep(error.into()))?;
    Ok(file)
}

fn unpack_into(image: &[u8], header: &bzimage::Header, output: &mut dyn Write) -> Checked<()> {
    let size = header.size(&Source::Bytes(image))?;
    let payload = header.payload(image)?;
    unpack::unpack(payload, header.compression, size, output)
}

/// Does with bytes all that [`Kernel::open`] does with a file's, in memory: for fuzzers. Nothing may make it panic.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let _ = in_bytes(data);
}

fn in_bytes(data: &[u8]) -> Checked<()> {
    let look = |bytes: &[u8]| {
        let source = Source::Bytes(bytes);
        let elf = elf::parse(&source)?;
        elf::release(&source, &elf.segments).map(drop)
    };
    match recognise::kind(data)? {
        Kind::Elf => look(data),
        Kind::BzImage => {
            let header = bzimage::Header::parse(data, data.len() as u64)?;
            let mut unpacked = Vec::new();
            unpack_into(data, &header, &mut unpacked)?;
            look(&unpacked)
        }
    }
}
