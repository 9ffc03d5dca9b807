//! `config-linux.md#containerprocessstate`: who decides about notified system calls, and what they are told.

use crate::Suite;
use crate::support::{eventually, read};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Takes one connection after the other; writes what came with the descriptor as a line, and answers each call with ENOMEDIUM. Source:
/// seccomp_unotify(2).
const LISTENER: &str = r#"
import array, fcntl, socket, struct, sys, threading
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
def serve(connection):
    text, control, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(16))
    descriptors = array.array("i")
    for level, kind, data in control:
        descriptors.frombytes(data[:len(data) // 4 * 4])
    with open(sys.argv[2], "a") as told:
        told.write(text.decode().replace("\n", " ") + "\n")
    while True:
        call = bytearray(80)
        try:
            fcntl.ioctl(descriptors[0], 0xc0502100, call)
            fcntl.ioctl(descriptors[0], 0xc0182101, bytearray(struct.pack("=QqiI", struct.unpack_from("=Q", call)[0], 0, -123, 0)))
        except OSError:
            return
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
"#;

struct Listener(Child);

impl Listener {
    fn new(socket: &Path, told: &Path) -> Option<Listener> {
        let mut command = Command::new("python3");
        let child = command.args(["-c", LISTENER]).args([socket, told]).stdin(Stdio::null()).spawn().ok()?;
        let listener = Listener(child);
        eventually("the listener listens", || socket.exists());
        Some(listener)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn notified_calls() {
    let Some(mut suite) = Suite::new() else { return };
    let (socket, told) = (suite.path("listener"), suite.path("told"));
    let Some(_listener) = Listener::new(&socket, &told) else {
        eprintln!("skipped: python3 isn't installed");
        return;
    };
    const SECTION: &str = "config-linux.md#containerprocessstate";
    let notify = |config: &mut Value| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": socket,
            "listenerMetadata": "of the engine's",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]
        });
    };
    let (bundle, id) = suite.bundle("mkdir /tmp/x 2>/tmp/said; exec sleep 1000", notify);
    suite.call(&["create", "--bundle", bundle.dir(), &id]);
    suite.call(&["start", &id]);
    let said = bundle.inside("/tmp/said");
    eventually("the call is answered", || !read(&said).is_empty() || suite.status(&id) != "running");
    suite.holds("config-linux.md#seccomp", "the listener decides", read(&said).contains("No medium"));
    let state: Value = serde_json::from_slice(&suite.call(&["state", &id]).stdout).unwrap_or_default();
    let lines = || -> Vec<Value> { read(&told).lines().filter_map(|line| serde_json::from_str(line).ok()).collect() };
    let first = lines().into_iter().next().unwrap_or_default();
    let version = first["ociVersion"].as_str().is_some_and(|text| text.split('.').count() == 3);
    suite.holds(SECTION, "ociVersion is a version", version);
    suite.holds(SECTION, "fds names the descriptor that comes along", first["fds"] == json!(["seccompFd"]));
    suite.holds(SECTION, "pid is the container process", first["pid"].is_u64() && first["pid"] == state["pid"]);
    suite.holds(SECTION, "metadata is listenerMetadata", first["metadata"] == "of the engine's");
    suite.holds(SECTION, "state.id is the container's", first["state"]["id"] == id.as_str());
    suite.holds(SECTION, "state.status is creating", first["state"]["status"] == "creating");
    suite.holds(SECTION, "state.pid is the container process", first["state"]["pid"] == state["pid"]);
    suite.holds(SECTION, "state.bundle is the bundle", first["state"]["bundle"] == bundle.dir());
    let added = suite.call(&["exec", &id, "sh", "-c", "mkdir /tmp/y 2>&1 | grep -o 'No medium'"]);
    suite.holds("config-linux.md#seccomp", "the listener decides for an added process", added.stdout == b"No medium\n");
    let second = lines().into_iter().nth(1).unwrap_or_default();
    suite.holds(SECTION, "an added process is another", second["pid"].is_u64() && second["pid"] != state["pid"]);
    suite.holds(SECTION, "its container is running", second["state"]["status"] == "running");
    suite.holds(SECTION, "its state.pid is the container's", second["state"]["pid"] == state["pid"]);
    suite.call(&["delete", "--force", &id]);

    suite.refuses("config-linux.md#seccomp", "SCMP_ACT_NOTIFY without listenerPath is an error", |config| {
        notify(config);
        config["linux"]["seccomp"].as_object_mut().unwrap().remove("listenerPath");
    });
    suite.refuses("config-linux.md#seccomp", "a listener that isn't there is an error", |config| {
        notify(config);
        config["linux"]["seccomp"]["listenerPath"] = "/none/such".into();
    });
    suite.end();
}
