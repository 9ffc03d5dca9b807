//! Where everything stands while it is measured: the root file system with the workload in it, the volume, the bundles, and what the
//! measured programs print. All of it goes when this is dropped.

use crate::Error;
use flate2::read::DeflateDecoder;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The program that is run inside, built along with this crate, deflated. By its name the linker puts it where no start maps it.
static WORKLOAD_PROGRAM: [u8; include_bytes!(env!("WORKLOAD")).len()] = *include_bytes!(env!("WORKLOAD"));

/// The directories of a run.
pub(crate) struct Scratch {
    dir: TempDir,
    volume: TempDir,
}

impl Scratch {
    /// Makes them: in `$TMPDIR` or else `/var/tmp`, which unlike `/tmp` is on a disk by custom (hier(7)); the volume in `volume` if given.
    pub(crate) fn new(volume: Option<&Path>) -> Result<Scratch, Error> {
        let parent = std::env::var_os("TMPDIR").map(PathBuf::from).unwrap_or_else(|| "/var/tmp".into());
        let dir = directory("create a scratch directory (TMPDIR says where) in", &parent)?;
        let volume = match volume {
            Some(place) => directory("create a directory for the volume rows in", place)?,
            None => directory("create a directory in", &parent)?,
        };
        let scratch = Scratch { dir, volume };
        for name in ["data", "dev", "proc", "sys", "tmp", "volume"] {
            let path = scratch.rootfs().join(name);
            fs::create_dir_all(&path).map_err(Error::file("create", path))?;
        }
        let program = scratch.workload();
        let mut file = File::create(&program).map_err(Error::file("create", &program))?;
        io::copy(&mut DeflateDecoder::new(&WORKLOAD_PROGRAM[..]), &mut file).map_err(Error::file("write", &program))?;
        drop(file);
        fs::set_permissions(&program, Permissions::from_mode(0o755)).map_err(Error::file("make executable", &program))?;
        Ok(scratch)
    }

    /// The root file system.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    /// The workload, as the host names it; inside it is `/workload`.
    pub(crate) fn workload(&self) -> PathBuf {
        self.rootfs().join("workload")
    }

    /// The directory of the root rows; inside it is `/data`.
    pub(crate) fn data(&self) -> PathBuf {
        self.rootfs().join("data")
    }

    /// The directory of the volume rows; inside it is `/volume`.
    pub(crate) fn volume(&self) -> &Path {
        self.volume.path()
    }

    /// A file or directory beside the root file system.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the last program printed.
    pub(crate) fn stdout(&self) -> PathBuf {
        self.beside("stdout")
    }

    /// What the last program complained of.
    pub(crate) fn stderr(&self) -> PathBuf {
        self.beside("stderr")
    }

    /// The last line of the last program's complaint, which is where a reason stands, and its exit code, in case that line is only a warning.
    pub(crate) fn complaint(&self, code: i32) -> String {
        let text = fs::read(self.stderr()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let hint = "For more information, try '--help'.";
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty() && *line != hint);
        // Of a structured line (logrus: time="..." level=error msg="...") only the message is for people.
        let line = line.unwrap_or("");
        let line = line.split_once(" msg=\"").map_or(line, |(_, message)| message.trim_end_matches('"'));
        let line: String = line.chars().filter(|c| !c.is_control()).take(300).collect();
        if line.is_empty() { format!("exit code {code}, and no word why") } else { format!("{line} (exit code {code})") }
    }
}

fn directory(what: &'static str, parent: &Path) -> Result<TempDir, Error> {
    if !parent.is_dir() {
        return Err(Error::file(what, parent)(std::io::Error::other("there is no such directory")));
    }
    // Others may pass through: a runtime can change user before it enters the root.
    tempfile::Builder::new()
        .prefix("insula-bench-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(parent)
        .map_err(Error::file(what, parent))
}
