//! The options of `run`: those of `docker run`, as far as there is something behind them here.

use super::network::{self, Network};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  insula run -- make test                    the host's files, read-only; writes are thrown away
  insula run --keep out -- ./install.sh      writes are kept in out/; `insula diff out` lists them
  insula run --rootfs ./debian -t -- bash    a root directory of your own
  insula run --bundle ./bundle web           an OCI bundle, as `runc run` does it
  insula run -m 512m --cpus 1.5 -- ./job     at most so much memory and processor time
  insula run --isolation system --rootfs ./debian -d --name web    a whole system, with its init
  insula run -d --name web --network bridge -p 8080:80 --rootfs ./web -- /bin/httpd
  insula run --network bridge -- curl http://web/      another one on the bridge finds it by name
  insula run --network user -- git clone URL           a network that needs no right on the host

Nothing of the network is reachable unless --network says so. On a bridge, sandboxes of one store reach each other,
by their names too, and the world; from outside only published ports are reached. `user` is a network of one
sandbox's own, which reaches what the host reaches but its loopback device. Without --rootfs or --bundle the program
can read what you can read, and runs as you; what it writes goes to memory (or --keep DIR).

No root is needed: you are root then in a root directory of your own, and with -u root. Limits take a cgroup
that is delegated to you.";

/// Run a program in a new sandbox
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The program and its arguments; with --bundle, the sandbox's name
    #[arg(trailing_var_arg = true, value_name = "CMD")]
    pub(crate) words: Vec<String>,

    /// Use this directory as the program's /, and write to it
    #[arg(long, value_name = "DIR", conflicts_with_all = ["bundle", "keep"], help_heading = "What to run")]
    pub(crate) rootfs: Option<PathBuf>,
    /// Run the OCI bundle in this directory
    #[arg(short, long, value_name = "DIR", help_heading = "What to run")]
    pub(crate) bundle: Option<PathBuf>,
    /// Keep what is written in this directory
    #[arg(long, value_name = "DIR", conflicts_with = "bundle", help_heading = "What to run")]
    pub(crate) keep: Option<PathBuf>,
    /// Name the sandbox (otherwise it gets a random one)
    #[arg(long, value_name = "NAME", help_heading = "What to run")]
    pub(crate) name: Option<String>,
    /// Run this program, with CMD as its arguments
    #[arg(long, value_name = "PROGRAM", conflicts_with = "bundle", help_heading = "What to run")]
    pub(crate) entrypoint: Option<String>,
    /// Remove the sandbox when the program ends; in the foreground that is always so
    #[arg(long, help_heading = "What to run")]
    pub(crate) rm: bool,

    /// Give it a terminal of its own
    #[arg(short, long, conflicts_with = "bundle", help_heading = "Terminal and streams")]
    pub(crate) tty: bool,
    /// Keep its input open; in the foreground it has ours, as in a shell
    #[arg(short, long, help_heading = "Terminal and streams")]
    pub(crate) interactive: bool,
    /// Run in the background and print the name; `insula logs NAME` shows what it writes
    #[arg(short, long, help_heading = "Terminal and streams")]
    pub(crate) detach: bool,

    /// Set a variable, or pass ours on
    #[arg(short, long, value_name = "NAME[=VALUE]", conflicts_with = "bundle", help_heading = "The process")]
    pub(crate) env: Vec<String>,
    /// Set variables from a file, one NAME=VALUE a line
    #[arg(long, value_name = "FILE", conflicts_with = "bundle", help_heading = "The process")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Start in this directory
    #[arg(short, long, value_name = "DIR", conflicts_with = "bundle", help_heading = "The process")]
    pub(crate) workdir: Option<PathBuf>,
    /// Run as this user, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]", conflicts_with = "bundle", help_heading = "The process")]
    pub(crate) user: Option<String>,
    /// Limit a resource: nofile=1024, nofile=1024:4096, core=unlimited
    #[arg(long, value_name = "NAME=SOFT[:HARD]", conflicts_with = "bundle", help_heading = "The process")]
    pub(crate) ulimit: Vec<String>,
    /// Set the host name
    #[arg(long, value_name = "NAME", conflicts_with = "bundle", help_heading = "The process")]
    pub(crate) hostname: Option<String>,

    /// Bind a file or directory of the host
    #[arg(short, long, value_name = "SOURCE:TARGET[:ro]", conflicts_with = "bundle", help_heading = "Files and devices")]
    pub(crate) volume: Vec<String>,
    /// Mount: type=bind,source=S,target=T[,readonly] or type=tmpfs,target=T[,tmpfs-size=N][,tmpfs-mode=M]
    #[arg(long, value_name = "KEY=VALUE,…", conflicts_with = "bundle", help_heading = "Files and devices")]
    pub(crate) mount: Vec<String>,
    /// Mount a tmpfs
    #[arg(long, value_name = "TARGET[:OPTIONS]", conflicts_with = "bundle", help_heading = "Files and devices")]
    pub(crate) tmpfs: Vec<String>,
    /// Make / read-only
    #[arg(long, conflicts_with = "bundle", help_heading = "Files and devices")]
    pub(crate) read_only: bool,
    /// Let it use a device of the host
    #[arg(long, value_name = "DEVICE[:PATH][:rwm]", conflicts_with = "bundle", help_heading = "Files and devices")]
    pub(crate) device: Vec<String>,

    /// What it reaches: none, host, bridge, user, container:NAME or ns:PATH
    #[arg(long, value_parser = network::Values, default_value = "none", value_name = "NETWORK", help_heading = "Network")]
    pub(crate) network: Network,
    /// Lead a port of the host's to it (bridge, user); an IPv6 address stands in brackets
    #[arg(short, long, value_name = "[IP:]HOST:CONTAINER[/tcp|/udp]", help_heading = "Network")]
    pub(crate) publish: Vec<insula_network::Publish>,

    /// Users of its own: `auto` takes a range of /etc/subuid and /etc/subgid; its root is nobody on the host
    #[arg(
        long,
        value_name = "host|auto|FIRST:COUNT",
        default_value = "host",
        conflicts_with = "bundle",
        help_heading = "Security"
    )]
    pub(crate) userns: String,
    /// Limit memory, in bytes or with b, k, m or g
    #[arg(short, long, value_name = "SIZE", conflicts_with = "bundle", help_heading = "Limits")]
    pub(crate) memory: Option<String>,
    /// Limit processor time to so many processors' worth
    #[arg(long, value_name = "NUMBER", conflicts_with = "bundle", help_heading = "Limits")]
    pub(crate) cpus: Option<String>,
    /// Limit processes and threads; -1 is no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, conflicts_with = "bundle", help_heading = "Limits")]
    pub(crate) pids_limit: Option<i64>,

    /// Give it a capability (or ALL)
    #[arg(long, value_name = "CAP", conflicts_with = "bundle", help_heading = "Security")]
    pub(crate) cap_add: Vec<String>,
    /// Take a capability from it (or ALL)
    #[arg(long, value_name = "CAP", conflicts_with = "bundle", help_heading = "Security")]
    pub(crate) cap_drop: Vec<String>,
    /// seccomp=FILE, seccomp=unconfined, no-new-privileges[=false], apparmor=PROFILE
    #[arg(long, value_name = "OPTION", conflicts_with = "bundle", help_heading = "Security")]
    pub(crate) security_opt: Vec<String>,

    /// Write the number of its first process to this file
    #[arg(long, value_name = "FILE", help_heading = "For programs that call us")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Send the terminal to this unix socket
    #[arg(long, value_name = "SOCKET", help_heading = "For programs that call us")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Send a pidfd of its first process to this unix socket
    #[arg(long, value_name = "SOCKET", help_heading = "For programs that call us")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Move the root to its place, where the host's is in memory (an initramfs): less safe
    #[arg(long, help_heading = "For programs that call us")]
    pub(crate) no_pivot: bool,
    /// Leave the program our session keyring instead of one of its own
    #[arg(long, help_heading = "For programs that call us")]
    pub(crate) no_new_keyring: bool,
    /// Pass this many descriptors on, from number 3
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "For programs that call us")]
    pub(crate) preserve_fds: u32,
}
