//! What a file is, by its first bytes; and a word for each that people take for a kernel.

use super::source::{array, u16_at, u32_at};
use super::{Checked, Problem};
use std::fs::Metadata;
use std::os::unix::fs::FileTypeExt;

/// What can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An ELF file of some kind.
    Elf,
    /// A file with the setup header of the x86 boot protocol.
    BzImage,
}

const OTHER: &str = "give a vmlinux or a vmlinuz (bzImage) of x86-64";
const UNPACK: &str = "unpack it";
const ANOTHER_MACHINE: &str = "a kernel built for x86-64 is needed";

/// First bytes of what is no kernel, or isn't one any more once somebody has packed it.
const FOREIGN: &[(&[u8], &str, &str)] = &[
    (b"\x1f\x8b", "a gzip file", UNPACK),
    (b"\xfd7zXZ\0", "an xz file", UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd file", UNPACK),
    (b"\x02\x21\x4c\x18", "an lz4 file", UNPACK),
    (b"\x04\x22\x4d\x18", "an lz4 file", UNPACK),
    (b"BZh", "a bzip2 file", UNPACK),
    (b"\x5d\0\0", "an lzma file", UNPACK),
    (b"\x89LZO", "an lzop file", UNPACK),
    (b"PK\x03\x04", "a zip archive", UNPACK),
    (b"!<arch>\ndebian-binary", "a Debian package", "unpack it with dpkg-deb -x and give its boot/vmlinuz-*"),
    (b"!<arch>\n", "a static library", OTHER),
    (b"\xed\xab\xee\xdb", "an RPM package", "unpack it with rpm2cpio and give its vmlinuz"),
    (b"070701", "a cpio archive, perhaps an initramfs", OTHER),
    (b"QFI\xfb", "a disk image (qcow2)", "give the kernel's file, and the disk as a disk"),
    (b"\x27\x05\x19\x56", "an image for U-Boot", OTHER),
    (b"#!", "a script", OTHER),
];

/// Refuses what has no content that stays.
pub(super) fn file_type(about: &Metadata) -> Checked<()> {
    let kind = about.file_type();
    let what = match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_file() && about.len() == 0 => "an empty file",
        () if kind.is_file() => return Ok(()),
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    let advice = if kind.is_fifo() { "write it to a file and give that" } else { OTHER };
    Err(Problem::Foreign(what.into(), advice))
}

/// What a file with these first bytes is.
pub(super) fn kind(head: &[u8]) -> Checked<Kind> {
    if head.starts_with(b"\x7fELF") {
        return Ok(Kind::Elf);
    }
    // Before the others: the first sector of a bzImage is free to look like anything.
    if array(head, 0x202) == Some(*b"HdrS") && u16_at(head, 0x1fe) == Some(0xaa55) {
        return Ok(Kind::BzImage);
    }
    if let Some(what) = other_machine(head) {
        return Err(Problem::Unusable(what.into(), ANOTHER_MACHINE));
    }
    if let Some((_, what, advice)) = FOREIGN.iter().find(|(magic, ..)| head.starts_with(magic)) {
        return Err(Problem::Foreign((*what).into(), advice));
    }
    if head.starts_with(b"MZ") {
        let advice = "take the kernel out of it: objcopy -O binary --only-section=.linux FILE vmlinuz";
        return Err(Problem::Foreign("an EFI program, perhaps a unified kernel image".into(), advice));
    }
    let what = match () {
        () if head.is_empty() => "an empty file",
        () if u16_at(head, 0x1fe) == Some(0xaa55) => "a disk image, by its boot sector",
        () if head.iter().all(|byte| *byte == 0) => "a file of zeros",
        () if head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => "a text",
        () => "neither an ELF file nor a bzImage",
    };
    Err(Problem::Foreign(what.into(), OTHER))
}

/// Images of other architectures, by the magic numbers of their boot protocols (Documentation/arch in Linux).
fn other_machine(head: &[u8]) -> Option<&'static str> {
    match () {
        () if u32_at(head, 0x38) == Some(0x644d_5241) => Some("a kernel for 64-bit ARM"),
        () if u32_at(head, 0x38) == Some(0x0543_5352) => Some("a kernel for RISC-V"),
        () if u32_at(head, 0x24) == Some(0x016f_2818) => Some("a kernel for 32-bit ARM"),
        () => None,
    }
}
