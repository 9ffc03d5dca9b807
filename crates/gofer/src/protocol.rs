//! What the sentry asks and the gofer answers.
//!
//! A question is an [`Envelope`]: handles that aren't needed any more, and one [`Request`]. An answer is an errno (0 for success) and,
//! with success, what the request's documentation says; a descriptor travels beside it.
//!
//! Modes, flags and device numbers are Linux's on x86-64. All paths are *one name below an open directory*: there is no other way to
//! name a file, and [`Name`] has no value that would lead elsewhere.

use crate::wire::{Bytes, List, Malformed, Reader, Wire, Writer, choice, record};
use rustix::io::Errno;

/// Longest message in bytes: the largest value of an extended attribute, and room for the rest.
pub const LONGEST: usize = XATTR_MOST + 4096;
/// Largest value, or list of names, of extended attributes in bytes. Source: xattr(7).
pub const XATTR_MOST: usize = 65536;
/// Longest target of a symbolic link in bytes, without the kernel's NUL. Source: symlink(7), PATH_MAX.
pub const TARGET_MOST: usize = 4095;
/// Longest name in bytes, NAME_MAX.
pub const NAME_MOST: usize = 255;

/// What the gofer calls an open place. A number that isn't in use any more never stands for another file later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(pub u64);

impl Wire<'_> for Id {
    fn put(&self, out: &mut Writer<'_>) {
        out.put(&self.0);
    }

    fn get(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        input.get().map(Id)
    }
}

/// One component of a path: 1 to 255 bytes, neither `.` nor `..`, without `/` and NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// A name, for a list that is still to be filled.
    pub(crate) const PLACEHOLDER: Name<'static> = Name(b"-");

    /// Checks a name.
    ///
    /// # Errors
    /// `ENAMETOOLONG`, or `EINVAL` for what is no name.
    pub fn new(bytes: &'a [u8]) -> Result<Name<'a>, Errno> {
        match bytes {
            _ if bytes.len() > NAME_MOST => Err(Errno::NAMETOOLONG),
            [] | b"." | b".." => Err(Errno::INVAL),
            _ if bytes.iter().any(|byte| matches!(byte, 0 | b'/')) => Err(Errno::INVAL),
            _ => Ok(Name(bytes)),
        }
    }

    /// Its bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Wire<'a> for Name<'a> {
    fn put(&self, out: &mut Writer<'_>) {
        out.put(&(self.0.len() as u8));
        out.bytes(self.0);
    }

    fn get(input: &mut Reader<'a>) -> Result<Self, Malformed> {
        let length: u8 = input.get()?;
        Name::new(input.take(length.into())?).map_err(|_| Malformed)
    }
}

/// The name of an extended attribute: 1 to 255 bytes without NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a>(&'a [u8]);

impl<'a> Key<'a> {
    /// Checks a name.
    ///
    /// # Errors
    /// `ERANGE` for one that is empty or too long, as setxattr(2) has it, or `EINVAL` for one with a NUL.
    pub fn new(bytes: &'a [u8]) -> Result<Key<'a>, Errno> {
        match bytes.len() {
            0 => Err(Errno::RANGE),
            length if length > NAME_MOST => Err(Errno::RANGE),
            _ if bytes.contains(&0) => Err(Errno::INVAL),
            _ => Ok(Key(bytes)),
        }
    }

    /// Its bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Wire<'a> for Key<'a> {
    fn put(&self, out: &mut Writer<'_>) {
        out.put(&(self.0.len() as u8));
        out.bytes(self.0);
    }

    fn get(input: &mut Reader<'a>) -> Result<Self, Malformed> {
        let length: u8 = input.get()?;
        Key::new(input.take(length.into())?).map_err(|_| Malformed)
    }
}

bitflags::bitflags! {
    /// How a file is opened: the `O_*` flags of open(2) that are for the host. Without an access mode, it is for reading.
    ///
    /// Close-on-exec and "no controlling terminal" always hold. `O_CREAT` and `O_EXCL` are requests of their own.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        /// For writing only.
        const WRONLY = 0o1;
        /// For reading and writing.
        const RDWR = 0o2;
        /// Cut to nothing.
        const TRUNC = 0o1000;
        /// Every write goes to the end.
        const APPEND = 0o2000;
        /// Nothing waits.
        const NONBLOCK = 0o4000;
        /// Writes reach the disk, with what is needed to read them again.
        const DSYNC = 0o10000;
        /// Past the page cache.
        const DIRECT = 0o40000;
        /// Only a directory.
        const DIRECTORY = 0o200_000;
        /// Reading leaves the access time alone.
        const NOATIME = 0o1_000_000;
        /// Writes reach the disk, with all that is known of the file (together with `DSYNC`).
        const SYNC = 0o4_000_000;
    }
}

impl OpenFlags {
    /// Whether the file can be changed through it, or is by the opening.
    pub fn writes(self) -> bool {
        self.intersects(OpenFlags::WRONLY | OpenFlags::RDWR | OpenFlags::TRUNC)
    }
}

impl Wire<'_> for OpenFlags {
    fn put(&self, out: &mut Writer<'_>) {
        out.put(&self.bits());
    }

    fn get(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let flags = OpenFlags::from_bits(input.get()?).ok_or(Malformed)?;
        if flags.contains(OpenFlags::WRONLY | OpenFlags::RDWR) { Err(Malformed) } else { Ok(flags) }
    }
}

record! {
    /// Where something is, or will be.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Place<'a> {
        /// An open directory.
        pub dir: Id,
        /// A name in it.
        pub name: Name<'a>,
    }
}

record! {
    /// A step of a walk.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Step<'a> {
        /// The name to look up in the directory reached so far.
        pub name: Name<'a>,
        /// What was there when the asker last looked. If it still is, the walk goes on from there and no new handle is given.
        pub known: Option<Id>,
    }
}

record! {
    /// Whom a new file belongs to.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Owner {
        /// User.
        pub uid: u32,
        /// Group; that of the directory wins if its set-group-ID bit is set, as ever.
        pub gid: u32,
    }
}

record! {
    /// Whom a file shall belong to. With neither, nothing but what chown(2) does to set-user-ID bits is done.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct NewOwner {
        /// User, if it changes.
        pub uid: Option<u32>,
        /// Group, if it changes.
        pub gid: Option<u32>,
    }
}

record! {
    /// A point in time, or in [`Request::Change`] one of `UTIME_NOW` and `UTIME_OMIT` as nanoseconds (utimensat(2)).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub struct Time {
        /// Since 1970.
        pub seconds: i64,
        /// Nanoseconds of the second.
        pub nanoseconds: u32,
    }
}

record! {
    /// The times that can be set.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Times {
        /// Last read.
        pub accessed: Time,
        /// Contents last changed.
        pub modified: Time,
    }
}

record! {
    /// The number of a device.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Device {
        /// Which driver.
        pub major: u32,
        /// Which of its devices.
        pub minor: u32,
    }
}

record! {
    /// What is known of a file. Source: statx(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Attr {
        /// The file system's device.
        pub device: Device,
        /// Number in the file system.
        pub inode: u64,
        /// Type and permissions.
        pub mode: u32,
        /// Names it has.
        pub links: u32,
        /// Owner.
        pub uid: u32,
        /// Group.
        pub gid: u32,
        /// For a device, which.
        pub special: Device,
        /// Bytes.
        pub size: u64,
        /// 512-byte units that are allocated.
        pub blocks: u64,
        /// Preferred size of an access in bytes.
        pub block_size: u32,
        /// `STATX_ATTR_*`.
        pub flags: u64,
        /// Last read.
        pub accessed: Time,
        /// Contents last changed.
        pub modified: Time,
        /// Last changed in any way.
        pub changed: Time,
        /// Made; zero where the file system doesn't know.
        pub born: Time,
    }
}

impl Attr {
    /// What kind of file it is: one of the `S_IF*`.
    pub fn kind(&self) -> u32 {
        self.mode & 0o170_000
    }
}

record! {
    /// What a step of a walk has reached.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Reached {
        /// A new handle; none if what was known is still there.
        pub new: Option<Id>,
        /// How it is now.
        pub attr: Attr,
    }
}

record! {
    /// A new handle and what it stands for.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Found {
        /// The handle.
        pub node: Id,
        /// How it is now.
        pub attr: Attr,
    }
}

record! {
    /// How a file system is. Source: statfs(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct FileSystem {
        /// Its magic number.
        pub kind: u64,
        /// Bytes a block.
        pub block_size: u64,
        /// Blocks in all.
        pub blocks: u64,
        /// Blocks free.
        pub free: u64,
        /// Blocks free for who isn't root.
        pub available: u64,
        /// Files in all.
        pub files: u64,
        /// Files that can still be made.
        pub files_free: u64,
        /// Its number, as two words.
        pub id: u64,
        /// Longest name in bytes.
        pub name_most: u64,
        /// Bytes a fragment.
        pub fragment_size: u64,
        /// `ST_*`.
        pub flags: u64,
    }
}

choice! {
    /// What can be asked. "Gives" says what an answer without an error holds.
    ///
    /// Permissions are the asker's business: by the time it asks, it has decided that its process may.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Request<'a> {
        /// Only forget handles. Not answered.
        0 => Nothing {},
        /// The root of an export. Gives [`Found`] and whether others change the tree too (a `bool`).
        1 => Attach {
            /// Which, as they were listed.
            export: u32,
        },
        /// Looks up names one below the other, and may open what the last one is. Symbolic links are reached, not followed.
        ///
        /// Gives, for each step that succeeded, `true` and a [`Reached`]; then `false`, the errno of the step that failed or 0, and the
        /// errno of opening or 0. With `open` and no error, a descriptor.
        2 => Walk {
            /// Where to start.
            from: Id,
            /// Names.
            steps: List<'a, Step<'a>>,
            /// How to open what is reached at the end. It may not be cut: who may is decided by what the answer says.
            open: Option<OpenFlags>,
        },
        /// Gives an [`Attr`].
        3 => Stat {
            /// Of what.
            node: Id,
        },
        /// Gives a descriptor. `ENXIO` for devices, pipes and sockets unless the export allows them, `ELOOP` for symbolic links.
        4 => Open {
            /// What.
            node: Id,
            /// How.
            flags: OpenFlags,
        },
        /// Makes a regular file that must not be there, and opens it. Gives [`Found`] and a descriptor.
        5 => Create {
            /// Where.
            at: Place<'a>,
            /// How it is opened.
            flags: OpenFlags,
            /// Permissions, as they will be: whose mask applies is the asker's business.
            mode: u32,
            /// Whose it will be.
            owner: Owner,
        },
        /// Makes a regular file without a name (`O_TMPFILE`). Gives [`Found`] and a descriptor.
        6 => CreateUnnamed {
            /// In the file system of this directory.
            dir: Id,
            /// How it is opened: for writing.
            flags: OpenFlags,
            /// Permissions.
            mode: u32,
            /// Whose it will be.
            owner: Owner,
            /// It can never get a name (`O_EXCL`).
            for_good: bool,
        },
        /// Makes a directory. Gives [`Found`].
        7 => MakeDir {
            /// Where.
            at: Place<'a>,
            /// Permissions.
            mode: u32,
            /// Whose it will be.
            owner: Owner,
        },
        /// Makes a pipe, a socket's place, an empty file, or, if the export allows it, a device. Gives [`Found`].
        8 => MakeNode {
            /// Where.
            at: Place<'a>,
            /// Type and permissions.
            mode: u32,
            /// Which device.
            device: Device,
            /// Whose it will be.
            owner: Owner,
        },
        /// Makes a symbolic link. Gives [`Found`].
        9 => MakeLink {
            /// Where.
            at: Place<'a>,
            /// What it says: 1 to 4095 bytes.
            target: Bytes<'a>,
            /// Whose it will be.
            owner: Owner,
        },
        /// Gives a file one more name. Gives its [`Attr`].
        10 => Link {
            /// Which.
            node: Id,
            /// The new name.
            at: Place<'a>,
        },
        /// Takes a name away. Gives nothing.
        11 => Unlink {
            /// Which.
            at: Place<'a>,
            /// An empty directory's, rather than a file's.
            directory: bool,
        },
        /// Renames. Gives nothing.
        12 => Rename {
            /// From.
            from: Place<'a>,
            /// To.
            to: Place<'a>,
            /// `RENAME_NOREPLACE` or `RENAME_EXCHANGE`, renameat2(2).
            flags: u32,
        },
        /// What a symbolic link says. Gives [`Bytes`].
        13 => ReadLink {
            /// Which.
            node: Id,
        },
        /// Changes what is asked for, in this order. Gives an [`Attr`].
        14 => Change {
            /// Of what.
            node: Id,
            /// Owner and group.
            owner: Option<NewOwner>,
            /// Permissions.
            mode: Option<u32>,
            /// Size in bytes, of a regular file.
            size: Option<u64>,
            /// Times.
            times: Option<Times>,
        },
        /// Gives a [`FileSystem`].
        15 => StatFs {
            /// That of what.
            node: Id,
        },
        /// Gives the value of an extended attribute as [`Bytes`].
        16 => GetXattr {
            /// Of what.
            node: Id,
            /// Which.
            key: Key<'a>,
        },
        /// Sets an extended attribute. Gives nothing.
        17 => SetXattr {
            /// Of what.
            node: Id,
            /// Which.
            key: Key<'a>,
            /// To what.
            value: Bytes<'a>,
            /// `XATTR_CREATE` or `XATTR_REPLACE`, setxattr(2).
            flags: u32,
        },
        /// Gives the names of all extended attributes, each with a NUL at its end, as [`Bytes`].
        18 => ListXattrs {
            /// Of what.
            node: Id,
        },
        /// Removes an extended attribute. Gives nothing.
        19 => RemoveXattr {
            /// Of what.
            node: Id,
            /// Which.
            key: Key<'a>,
        },
    }
}

record! {
    /// A question.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Envelope<'a> {
        /// Handles that are given back. Those that aren't in use are passed over.
        pub forget: List<'a, Id>,
        /// What is asked.
        pub request: Request<'a>,
    }
}
