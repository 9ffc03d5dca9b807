//! What the tests of the built program share: a store of their own, bundles to run, terminals to run in, and patience with a limit.

#![allow(dead_code, reason = "each test uses a part of this")]

pub(crate) mod bundle;
pub(crate) mod client;
pub(crate) mod guest;
pub(crate) mod plain;
pub(crate) mod pty;
pub(crate) mod runtime;
pub(crate) mod system;

use std::ffi::OsStr;
use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// How long something may take before it counts as stuck: no measure of speed, only the end of patience on a busy machine. A guest in an
/// emulated machine, on a host that builds something beside, has taken a minute and a half to its init.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// The program that is tested: the one that was built for it, or another that `INSULA_PROGRAM` names.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("INSULA_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_insula").into(), PathBuf::from)
}

/// The variable that takes a defence from a program that was built for it (decision 0098), if there is one.
pub(crate) fn weakened() -> Option<(&'static str, std::ffi::OsString)> {
    let name = "INSULA_WEAKENED";
    std::env::var_os(name).map(|defence| (name, defence))
}

/// Whether this isn't behind the sentry, where something is another way: it is said why the test is left out.
pub(crate) fn of_container(otherwise: &str) -> bool {
    let so = !behind_sentry();
    if !so {
        eprintln!("skipped: behind the sentry {otherwise}");
    }
    so
}

/// Whether this is behind the sentry: the tests of `behind_sentry.rs` are the container's, run once more there.
pub(crate) fn behind_sentry() -> bool {
    env!("CARGO_CRATE_NAME") == "behind_sentry"
}

/// A directory with a store in it; whatever is still in the store at the end is removed.
pub(crate) struct World {
    dir: tempfile::TempDir,
}

impl World {
    /// None for who isn't root: containers need it on most hosts.
    pub(crate) fn new() -> Option<World> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: this test makes containers, which needs root");
            return None;
        }
        Some(World { dir: tempfile::tempdir().unwrap() })
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file in the directory.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A directory in the directory.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// Where the store is.
    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// How a command line of the program begins, with this store and the boundary.
    pub(crate) fn words(&self) -> Vec<String> {
        let store = self.store().to_str().expect("a temporary directory's name").to_owned();
        let program = program().into_os_string().into_string().expect("a program's path");
        let boundary: &[&str] = if behind_sentry() { &["--isolation", "sentry"] } else { &[] };
        [&[program.as_str(), "--root", &store], boundary].concat().into_iter().map(str::to_owned).collect()
    }

    /// The program with this store, in the directory; its input is empty.
    pub(crate) fn insula<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(program());
        command.args(&self.words()[1..]).args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn output<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        output(&mut self.insula(args))
    }

    /// Runs the program, which must end well; what it wrote.
    #[track_caller]
    pub(crate) fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "{}", told(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the program, which must end well; what it starts goes on and holds nothing of ours.
    #[track_caller]
    pub(crate) fn hands_off<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) {
        let errors = self.path("errors");
        let mut command = self.insula(args);
        command.stdout(Stdio::null()).stderr(std::fs::File::create(&errors).unwrap());
        let status = ended(&mut command.spawn().unwrap());
        assert!(status.success(), "{status}: {}", read(errors));
    }

    /// Runs the program, which must fail with this code; its one line about it.
    #[track_caller]
    pub(crate) fn fails<S: AsRef<OsStr>>(&self, code: i32, args: impl IntoIterator<Item = S>) -> String {
        let output = self.output(args);
        assert_eq!(output.status.code(), Some(code), "{}", told(&output));
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "not one line: {text:?}");
        text.trim_end().to_owned()
    }

    /// How a sandbox is.
    #[track_caller]
    pub(crate) fn state(&self, id: &str) -> serde_json::Value {
        serde_json::from_str(&self.ok(["state", id])).unwrap()
    }

    /// Waits until a sandbox is in this state.
    #[track_caller]
    pub(crate) fn until(&self, id: &str, status: &str) {
        eventually(&format!("{id} is {status}"), || self.state(id)["status"] == status);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Ok(entries) = std::fs::read_dir(self.store()) else { return };
        if self.store().join(":vm").exists() {
            let names = self.insula(["vm", "ps", "--all", "--quiet"]).output().map(|output| stdout(&output).to_owned());
            let _ = self.insula(["vm", "rm", "--force"]).args(names.unwrap_or_default().lines()).output();
        }
        for entry in entries.flatten() {
            let _ = self.insula([OsStr::new("delete"), OsStr::new("--force"), &entry.file_name()]).output();
        }
    }
}

/// What a program did, for a failed assertion.
pub(crate) fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\nstdout: {}\nstderr: {}", output.status, text(&output.stdout), text(&output.stderr))
}

/// What a program wrote.
pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// What a program complained of.
pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Runs a command to its end, within our patience.
#[track_caller]
pub(crate) fn output(command: &mut Command) -> Output {
    finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// Waits for a process's end, within our patience; what it wrote into the pipes it was given.
#[track_caller]
pub(crate) fn finish(mut child: Child) -> Output {
    fn reader(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
            bytes
        })
    }
    let (out, err) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let status = ended(&mut child);
    // Whoever still holds a pipe keeps it from ending: that too must not last for ever.
    eventually("the output's end", || out.is_finished() && err.is_finished());
    Output { status, stdout: out.join().unwrap(), stderr: err.join().unwrap() }
}

/// Waits for a process's end, within our patience.
#[track_caller]
pub(crate) fn ended(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status,
            None if Instant::now() > deadline => {
                let _ = child.kill();
                panic!("process {} doesn't end", child.id());
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Waits until something is so, within our patience.
#[track_caller]
pub(crate) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits, within our patience, until somebody connects.
#[track_caller]
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut stream = None;
    eventually("a connection", || {
        stream = listener.accept().ok().map(|(stream, _)| stream);
        stream.is_some()
    });
    let stream = stream.expect("there is one");
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A socket for datagrams that waits within our patience.
pub(crate) fn datagrams(at: &str) -> UdpSocket {
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A file's text; nothing if there is none.
pub(crate) fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Sends a signal by name to a process.
#[track_caller]
pub(crate) fn signal(name: &str, pid: impl ToString) {
    let status = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -{name}");
}
