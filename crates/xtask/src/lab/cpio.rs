//! Archives of the form the kernel unpacks as its first root: cpio, "new ASCII" (the kernel's driver-api/early-userspace/buffer-format).

use anyhow::{Context, Result};
use std::io::Write;

const REGULAR_FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;

/// Writes an archive; everything in it belongs to root and has no date, so equal content is an equal archive.
pub(super) struct Archive<W> {
    out: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    /// Starts an archive.
    pub(super) fn new(out: W) -> Self {
        Self { out, inode: 0 }
    }

    /// Adds a folder; the kernel makes none by itself.
    pub(super) fn folder(&mut self, path: &str) -> Result<()> {
        self.entry(path, FOLDER | 0o755, 2, &[])
    }

    /// Adds a file.
    pub(super) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entry(path, REGULAR_FILE | mode, 1, content)
    }

    /// Ends the archive. Another one may follow it in the same file.
    pub(super) fn finish(mut self) -> Result<W> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, 1, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, links: u32, content: &[u8]) -> Result<()> {
        let size = u32::try_from(content.len()).context("a file too large for cpio")?;
        let name_size = u32::try_from(path.len() + 1).context("a name too long for cpio")?;
        // magic, then inode, mode, uid, gid, links, date, size, device (2), device of the node (2), size of the name, checksum.
        let fields = [self.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.inode += 1;
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        header.push_str(path);
        header.push('\0');
        self.padded(header.as_bytes())?;
        self.padded(content)
    }

    /// Headers and contents both end on a multiple of four.
    fn padded(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes)?;
        self.out.write_all(&[0; 3][..bytes.len().next_multiple_of(4) - bytes.len()])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_laid_out_as_the_kernel_reads_it() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("d").unwrap();
        archive.file("d/f", 0o644, b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert_eq!(bytes.len() % 4, 0);
        // The folder: a header of 110, a name of 2, no content.
        assert!(text.starts_with("07070100000000000041ed"));
        assert_eq!(&bytes[110..112], b"d\0");
        let file = &text[112..];
        assert!(file.starts_with("07070100000001000081a4"));
        assert_eq!(&file[54..62], "00000005");
        assert_eq!(&file[110..114], "d/f\0");
        assert_eq!(&file[116..124], "hello\0\0\0");
        assert!(file[124..].contains("TRAILER!!!\0"));
    }
}
