//! OCI bundles made of the host's own programs, so that nothing needs to be fetched.

use super::World;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A bundle whose root has the host's `/usr`, read-only; change `config`, then [`Bundle::write`] it.
pub(crate) struct Bundle {
    pub(crate) path: PathBuf,
    pub(crate) config: Value,
}

impl Bundle {
    /// A bundle that runs this command without a terminal.
    pub(crate) fn new(world: &World, name: &str, args: &[&str]) -> Bundle {
        let path = world.directory(name);
        let binds = rootfs(&path.join("rootfs"));
        world.ok(["spec", "--bundle", path.to_str().unwrap()]);
        let mut config: Value = serde_json::from_slice(&std::fs::read(path.join("config.json")).unwrap()).unwrap();
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = json!(args);
        config["root"]["readonly"] = false.into();
        let mounts = config["mounts"].as_array_mut().unwrap();
        for dir in binds {
            mounts.push(json!({"destination": dir, "source": dir, "type": "bind", "options": ["rbind", "ro"]}));
        }
        let bundle = Bundle { path, config };
        bundle.write();
        bundle
    }

    /// A bundle that runs a shell script.
    pub(crate) fn script(world: &World, name: &str, script: &str) -> Bundle {
        Bundle::new(world, name, &["sh", "-c", script])
    }

    /// Writes the configuration as it is now.
    pub(crate) fn write(&self) {
        std::fs::write(self.path.join("config.json"), self.config.to_string()).unwrap();
    }

    /// Changes the configuration and writes it.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Value)) -> Bundle {
        change(&mut self.config);
        self.write();
        self
    }

    /// Its path as an argument.
    pub(crate) fn dir(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// A path in its root.
    pub(crate) fn inside(&self, path: &str) -> PathBuf {
        self.path.join("rootfs").join(path.trim_start_matches('/'))
    }
}

/// Makes a root directory for the host's programs; the directories that must be bound on it.
pub(crate) fn rootfs(root: &Path) -> Vec<String> {
    for dir in ["usr", "etc", "tmp", "root", "proc", "sys", "dev", "var"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/var:/bin/sh\n").unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\nweb:x:34:\nextra:x:99:web\n").unwrap();
    let mut binds = vec!["/usr".to_owned()];
    for name in ["bin", "sbin", "lib", "lib64"] {
        let host = Path::new("/").join(name);
        match std::fs::read_link(&host) {
            Ok(target) => std::os::unix::fs::symlink(target, root.join(name)).unwrap(),
            Err(_) if host.is_dir() => {
                std::fs::create_dir(root.join(name)).unwrap();
                binds.push(format!("/{name}"));
            }
            Err(_) => {}
        }
    }
    binds
}
