//! What the machine is told to do: the run's part of the initramfs.
//!
//! It carries the copies of the host's files (`copy/`), the two scripts of `guest/`, the folders to mount (`lab/mounts`: tag, options, path) and the command as a shell script
//! (`lab/job`), because an argument may hold any byte but zero, and a kernel command line may not.

use super::Folders;
use super::share::Share;
use anyhow::{Context, Result, ensure};
use insula_initramfs::Archive;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::BufWriter;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const INIT: &[u8] = include_bytes!("guest/init.sh");
const LAB: &[u8] = include_bytes!("guest/lab.sh");

/// The work folder in virtual time. One path for every run: the run's own would make each run's memory another.
const ICOUNT_WORK: &str = "/var/lib/lab/work";

/// The command and where it runs.
pub(super) struct Job<'a> {
    pub(super) command: &'a [OsString],
    pub(super) env: &'a [String],
    /// The machine's own kernel, as a file of the host's: something for a machine in the machine to boot.
    pub(super) kernel: &'a Path,
    pub(super) folders: &'a Folders,
    pub(super) copies: &'a [PathBuf],
    pub(super) icount: bool,
    /// systemd is to be the first process.
    pub(super) systemd: bool,
    pub(super) shares: &'a [Share],
}

impl Job<'_> {
    /// Writes the whole initramfs of the run: the image's part, then the job's.
    pub(super) fn write_initrd(&self, base: &Path, path: &Path) -> Result<()> {
        fs::copy(base, path).with_context(|| format!("copy {}", base.display()))?;
        let mut archive = Archive::new(BufWriter::new(File::options().append(true).open(path)?));
        archive.file("init", 0o755, INIT)?;
        archive.folder("lab")?;
        archive.file("lab/lab.sh", 0o755, LAB)?;
        archive.file("lab/mounts", 0o644, &self.mounts()?)?;
        archive.file("lab/job", 0o644, &self.script()?)?;
        for (name, is_set) in [("lab/icount", self.icount), ("lab/systemd", self.systemd)] {
            if is_set {
                archive.file(name, 0o644, b"")?;
            }
        }
        archive.folder("copy")?;
        for path in self.copies.iter().chain(self.own_program().as_ref()) {
            archive.copy("copy", path)?;
        }
        archive.finish()?;
        Ok(())
    }

    fn mounts(&self) -> Result<Vec<u8>> {
        let mut lines = Vec::new();
        let mut line = |tag: &str, options: &str, path: &Path| -> Result<()> {
            let bytes = path.as_os_str().as_bytes();
            ensure!(!bytes.contains(&b'\n'), "a line break in the path {}", path.display());
            lines.extend_from_slice(format!("{tag} {options} ").as_bytes());
            lines.extend_from_slice(bytes);
            lines.push(b'\n');
            Ok(())
        };
        for share in self.shares {
            line(share.tag, if share.writable { "rw" } else { "ro" }, &share.path)?;
        }
        // Cargo gives this folder to integration tests for their files; in the machine they get one of their own.
        let scratch = self.folders.target.join("tmp");
        fs::create_dir_all(&scratch).with_context(|| format!("make {}", scratch.display()))?;
        line("tmpfs", "mode=755", &scratch)?;
        Ok(lines)
    }

    /// In virtual time, the command's program, if it is one of ours and not one of the machine's: there is no folder to find it in.
    fn own_program(&self) -> Option<PathBuf> {
        let program = Path::new(self.command.first()?);
        let named_by_path = self.icount && program.components().count() > 1;
        let path = named_by_path.then(|| self.folders.tree.join(program).canonicalize().ok())??;
        (path.starts_with(&self.folders.tree) || path.starts_with(&self.folders.target)).then_some(path)
    }

    fn script(&self) -> Result<Vec<u8>> {
        let own_work = self.shares.iter().find(|share| share.writable).map(|share| share.path.as_path());
        let work = if self.icount { Some(Path::new(ICOUNT_WORK)) } else { own_work };
        let work = work.context("a run has a work folder")?;
        let mut script = Vec::new();
        let mut export = |name: &str, value: &OsStr| {
            script.extend_from_slice(format!("export {name}=").as_bytes());
            quote(value, &mut script);
            script.push(b'\n');
        };
        export("INSULA_LAB", OsStr::new("1"));
        export("INSULA_LAB_WORK", work.as_os_str());
        export("INSULA_LAB_KERNEL", self.kernel.as_os_str());
        export("CARGO_TARGET_DIR", self.folders.target.as_os_str());
        for setting in self.env {
            let (name, value) = parse_env(setting)?;
            export(name, &value);
        }
        // In virtual time these folders are the machine's own.
        let tree = &self.folders.tree;
        for (words, path) in [("mkdir -p ", work), ("mkdir -p ", tree), ("cd ", tree)] {
            script.extend_from_slice(words.as_bytes());
            quote(path.as_os_str(), &mut script);
            script.extend_from_slice(b" || exit 126\n");
        }
        script.extend_from_slice(b"exec");
        for argument in self.command {
            script.push(b' ');
            quote(argument, &mut script);
        }
        script.push(b'\n');
        Ok(script)
    }
}

/// `NAME=VALUE`, or `NAME` for the host's value of it.
fn parse_env(setting: &str) -> Result<(&str, OsString)> {
    let (name, value) = match setting.split_once('=') {
        Some((name, value)) => (name, Some(value.into())),
        None => (setting, std::env::var_os(setting)),
    };
    let mut letters = name.bytes();
    let valid = letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == b'_');
    ensure!(valid, "{name:?} is no name of an environment variable");
    Ok((name, value.with_context(|| format!("--env {name}: the host has no such variable"))?))
}

/// A word of the shell that means these very bytes.
fn quote(word: &OsStr, out: &mut Vec<u8>) {
    out.push(b'\'');
    for &byte in word.as_bytes() {
        match byte {
            b'\'' => out.extend_from_slice(br"'\''"),
            _ => out.push(byte),
        }
    }
    out.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_shell_reads_back_every_byte() {
        let every: Vec<u8> = (1..=255).collect();
        for word in [&b""[..], b"a b", b"it's", b"$HOME `x` \\ \"y\" *\n", &every] {
            let mut script = b"printf %s ".to_vec();
            quote(OsStr::from_bytes(word), &mut script);
            let output = Command::new("sh").arg("-c").arg(OsStr::from_bytes(&script)).output().unwrap();
            assert_eq!(output.stdout, word);
        }
    }

    #[test]
    fn a_variable_is_named_and_valued() {
        assert_eq!(parse_env("A_1=b=c").unwrap(), ("A_1", "b=c".into()));
        assert_eq!(parse_env("PATH").unwrap().1, std::env::var_os("PATH").unwrap());
        for wrong in ["", "=x", "1A=x", "A B=x", "A;B", "THIS_IS_NOT_SET_ANYWHERE"] {
            assert!(parse_env(wrong).is_err(), "{wrong}");
        }
    }
}
