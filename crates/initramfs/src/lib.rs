//! Archives of the form the kernel unpacks as its first root: cpio, "new ASCII" (the kernel's driver-api/early-userspace/buffer-format).

use std::fs;
use std::io::{Error, Result, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const REGULAR_FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

/// Writes an archive; everything in it belongs to root and has no date, so equal content is an equal archive.
#[derive(Debug)]
pub struct Archive<W> {
    out: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Self {
        Self { out, inode: 0 }
    }

    /// Adds a folder; the kernel makes none by itself.
    ///
    /// # Errors
    /// The archive can\'t be written, or what goes into it can\'t be read or is too large.
    pub fn folder(&mut self, path: &str) -> Result<()> {
        self.entry(path.as_bytes(), FOLDER | 0o755, 2, &[])
    }

    /// Adds what is at an absolute path of the host, with all below it, at the same path under the folder `top` of the archive.
    ///
    /// Folders are read in the order of names: equal content is an equal archive.
    ///
    /// # Errors
    /// The archive can\'t be written, or what goes into it can\'t be read or is too large.
    pub fn copy(&mut self, top: &str, path: &Path) -> Result<()> {
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.reverse();
        for folder in above {
            self.entry(&below(top, folder), FOLDER | 0o755, 2, &[])?;
        }
        self.copy_all(top, path).map_err(|error| Error::new(error.kind(), format!("copy {}: {error}", path.display())))
    }

    fn copy_all(&mut self, top: &str, path: &Path) -> Result<()> {
        let name = below(top, path);
        let metadata = path.symlink_metadata()?;
        let mode = metadata.permissions().mode() & 0o7777;
        let kind = metadata.file_type();
        if kind.is_symlink() {
            self.entry(&name, LINK | 0o777, 1, fs::read_link(path)?.as_os_str().as_bytes())
        } else if kind.is_file() {
            self.entry(&name, REGULAR_FILE | mode, 1, &fs::read(path)?)
        } else if kind.is_dir() {
            self.entry(&name, FOLDER | mode, 2, &[])?;
            let mut entries = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
            entries.sort();
            entries.iter().try_for_each(|entry| self.copy_all(top, entry))
        } else {
            Err(Error::other(format!("{} is no file, folder or link", path.display())))
        }
    }

    /// Adds a file.
    ///
    /// # Errors
    /// The archive can\'t be written, or what goes into it can\'t be read or is too large.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entry(path.as_bytes(), REGULAR_FILE | mode, 1, content)
    }

    /// Ends the archive. Another one may follow it in the same file.
    ///
    /// # Errors
    /// The archive can\'t be written, or what goes into it can\'t be read or is too large.
    pub fn finish(mut self) -> Result<W> {
        self.inode = 0;
        self.entry(b"TRAILER!!!", 0, 1, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &[u8], mode: u32, links: u32, content: &[u8]) -> Result<()> {
        let size = u32::try_from(content.len()).map_err(|_| Error::other("a file too large for cpio"))?;
        let name_size = u32::try_from(path.len() + 1).map_err(|_| Error::other("a name too long for cpio"))?;
        // magic, then inode, mode, uid, gid, links, date, size, device (2), device of the node (2), size of the name, checksum.
        let fields = [self.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.inode += 1;
        let mut header = b"070701".to_vec();
        for field in fields {
            write!(header, "{field:08x}")?;
        }
        header.extend_from_slice(path);
        header.push(0);
        self.padded(&header)?;
        self.padded(content)
    }

    /// Headers and contents both end on a multiple of four.
    fn padded(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes)?;
        self.out.write_all(&[0; 3][..bytes.len().next_multiple_of(4) - bytes.len()])?;
        Ok(())
    }
}

/// An absolute path under a folder of the archive.
fn below(top: &str, path: &Path) -> Vec<u8> {
    let mut name = top.as_bytes().to_vec();
    if path.parent().is_some() {
        name.extend_from_slice(path.as_os_str().as_bytes());
    }
    name
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
    #[test]
    fn a_folder_of_the_host_comes_with_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        fs::create_dir(path.join("inner")).unwrap();
        fs::write(path.join("inner/file"), "x").unwrap();
        std::os::unix::fs::symlink("inner/file", path.join("link")).unwrap();
        let mut archive = Archive::new(Vec::new());
        archive.copy("copy", &path).unwrap();
        let text = String::from_utf8(archive.finish().unwrap()).unwrap();
        let name = path.to_str().unwrap();
        let find = |what: String| text.find(&what).unwrap();
        let top = find("copy\0".into());
        let inner = find(format!("copy{name}/inner\0"));
        let file = find(format!("copy{name}/inner/file\0"));
        let link = find(format!("copy{name}/link\0"));
        assert!(top < inner && inner < file && file < link);
        assert!(archive_refuses(Path::new("/dev/null")));
    }

    fn archive_refuses(path: &Path) -> bool {
        Archive::new(Vec::new()).copy("copy", path).is_err()
    }
}
