//! The setup header of a bzImage.
//!
//! Source: Documentation/arch/x86/boot.rst in Linux. The payload is an ELF file (behind which the table of relocations may follow),
//! compressed; its last four bytes are its size before that.

use super::source::{Source, array, release, u16_at, u32_at};
use super::{Checked, Compression, MAX_SIZE, Problem};

const SECTOR: u64 = 512;
/// Since this version of the protocol (Linux 2.6.26) the header says where the payload is.
const OLDEST: u16 = 0x208;

/// What of the header matters to who doesn't run the code behind it.
#[derive(Debug)]
pub(super) struct Header {
    /// How the payload is compressed.
    pub(super) compression: Compression,
    /// What `uname -r` says in the guest.
    pub(super) release: Option<String>,
    /// Where the payload begins and ends in the file.
    start: u64,
    end: u64,
}

impl Header {
    /// Reads the header in an image's first bytes; `size` is that of all of it.
    pub(super) fn parse(head: &[u8], size: u64) -> Checked<Header> {
        let short = || Problem::Damaged("it ends within its header".into());
        let version = u16_at(head, 0x206).ok_or_else(short)?;
        if version < OLDEST {
            let what = format!("a kernel of boot protocol {}.{:02}, older than Linux 2.6.26", version >> 8, version & 0xff);
            return Err(Problem::Unusable(what, "give a newer one"));
        }
        // For old boot loaders' sake, 0 means 4.
        let sectors = match head.get(0x1f1).ok_or_else(short)? {
            0 => 4,
            sectors => u64::from(*sectors),
        };
        let code = (sectors + 1) * SECTOR;
        let offset = u32_at(head, 0x248).ok_or_else(short)?;
        let length = u32_at(head, 0x24c).ok_or_else(short)?;
        let start = code + u64::from(offset);
        let end = start + u64::from(length);
        if offset == 0 || length < 8 {
            return Err(Problem::Unusable("a bzImage without a payload".into(), "give the vmlinux it was made from"));
        }
        if end > size {
            return Err(Problem::Damaged(format!("it has {size} bytes where its header announces {end}")));
        }
        let text = u16_at(head, 0x20e).filter(|at| *at != 0).map(|at| usize::from(at) + 0x200);
        let text = text.and_then(|at| head.get(at..(code as usize).min(head.len())));
        let release = text.and_then(release);
        let magic = usize::try_from(start).ok().and_then(|start| array::<6>(head, start));
        let compression = compression(&magic.ok_or_else(short)?)?;
        Ok(Header { compression, release, start, end })
    }

    /// How large the payload says to be unpacked, in bytes.
    pub(super) fn size(&self, image: &Source) -> Checked<u64> {
        let mut size = [0; 4];
        image.read(self.end - 4, &mut size)?;
        let size = u64::from(u32::from_le_bytes(size));
        if size > MAX_SIZE {
            return Err(Problem::Damaged(format!(
                "it announces {} MiB unpacked, and no kernel is larger than 512 MiB",
                size >> 20
            )));
        }
        Ok(size)
    }

    /// The compressed bytes. Gzip's own trailer ends with the size; behind the others it was appended.
    pub(super) fn payload<'a>(&self, image: &'a [u8]) -> Checked<&'a [u8]> {
        let end = if self.compression == Compression::Gzip { self.end } else { self.end - 4 };
        let payload = image.get(self.start as usize..end as usize);
        payload.ok_or_else(|| Problem::Damaged("it became shorter while it was read".into()))
    }
}

/// Tells compressions apart as the kernel's own lib/decompress.c does.
fn compression(magic: &[u8; 6]) -> Checked<Compression> {
    let other = match magic {
        [0x1f, 0x8b | 0x9e, ..] => return Ok(Compression::Gzip),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => return Ok(Compression::Xz),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => return Ok(Compression::Zstd),
        [0x02, 0x21, 0x4c, 0x18, ..] => return Ok(Compression::Lz4),
        [b'B', b'Z', b'h', ..] => "bzip2",
        [0x5d, 0, ..] => "lzma",
        [0x89, b'L', b'Z', b'O', ..] => "lzo",
        _ => {
            let what = "a bzImage of which the payload is compressed in an unknown way, or not at all".into();
            return Err(Problem::Unusable(what, "give the vmlinux it was made from"));
        }
    };
    let advice = "unpack it with scripts/extract-vmlinux from Linux and give the vmlinux";
    Err(Problem::Unusable(format!("a bzImage compressed with {other}"), advice))
}
