//! How long a whole system takes from its start to systemd's `running`, in a container of ours and in LXC's: the same root, by turns.

use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Measure how long a system takes to start, beside LXC (on this host, as root: package lxc).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The system's root, with systemd in it, as debootstrap makes one.
    #[arg(long, value_name = "DIR")]
    rootfs: PathBuf,
    /// Our program. [default: the release build]
    #[arg(long, value_name = "FILE")]
    insula: Option<PathBuf>,
    /// Measured runs of each, after one that isn't.
    #[arg(long, value_name = "N", default_value_t = 10)]
    runs: usize,
}

/// The users that the containers without privilege have.
const FIRST: u32 = 100_000;
const COUNT: u32 = 65_536;
/// Between two questions: the asking must not take what the system needs.
const PAUSE: Duration = Duration::from_millis(20);
/// How long one may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(60);
const NAME: &str = "xtask-systems";

pub(crate) fn run(args: &Args) -> Result<()> {
    let scratch = std::env::temp_dir().join(format!("xtask-systems-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).context("make a directory for both stores")?;
    let done = by_turns(args, &scratch);
    let _ = std::fs::remove_dir_all(&scratch);
    done
}

fn by_turns(args: &Args, scratch: &Path) -> Result<()> {
    let root = std::fs::canonicalize(&args.rootfs).with_context(|| format!("use {}", args.rootfs.display()))?;
    let program = args.insula.clone().unwrap_or_else(|| "target/x86_64-unknown-linux-gnu/release/insula".into());
    let program = std::fs::canonicalize(&program).with_context(|| format!("find {}; build it first", program.display()))?;
    println!("{:<14} {:>10} {:>10} {:>7}", "", "insula", "lxc", "ratio");
    for (label, mapped) in [("privileged", false), ("unprivileged", true)] {
        let systems = [System::ours(&program, scratch, &root, mapped), System::lxc(scratch, &root, mapped)?];
        let mut times = [Vec::new(), Vec::new()];
        let mut states = [String::new(), String::new()];
        for run in 0..=args.runs {
            // Who goes first changes.
            for which in if run % 2 == 0 { [0, 1] } else { [1, 0] } {
                let (time, state) = systems[which].start()?;
                states[which] = state;
                if run > 0 {
                    times[which].push(time);
                }
            }
        }
        let [ours, theirs] = times.map(median);
        let seconds = |time: Duration| format!("{:.3} s", time.as_secs_f64());
        println!("{label:<14} {:>10} {:>10} {:>7.2}", seconds(ours), seconds(theirs), ours.as_secs_f64() / theirs.as_secs_f64());
        for (name, state) in ["insula", "lxc"].into_iter().zip(states).filter(|(_, state)| state != "running") {
            println!("  in {name} it is {state}, as units failed");
        }
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// A system, and the commands by which it lives.
struct System {
    start: Vec<String>,
    inside: Vec<String>,
    /// One after the other; the last may fail.
    end: Vec<Vec<String>>,
}

fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(|word| (*word).to_owned()).collect()
}

impl System {
    fn ours(program: &Path, scratch: &Path, root: &Path, mapped: bool) -> System {
        let (program, store) = (program.display().to_string(), scratch.join("store").display().to_string());
        let verb = |more: &[&str]| [words(&[&program, "--root", &store]), words(more)].concat();
        let root = root.display().to_string();
        let mut start = verb(&["run", "--isolation", "system", "--rootfs", &root, "-d", "--name", NAME]);
        if mapped {
            start.extend(["--userns".to_owned(), format!("{FIRST}:{COUNT}")]);
        }
        let end = vec![verb(&["stop", "--kill", NAME]), verb(&["delete", "--force", NAME])];
        System { start, inside: verb(&["exec", NAME]), end }
    }

    fn lxc(scratch: &Path, root: &Path, mapped: bool) -> Result<System> {
        let dir = scratch.join("lxc");
        std::fs::create_dir_all(dir.join(NAME)).context("make LXC's directory")?;
        let mut config = format!(
            "lxc.include = /usr/share/lxc/config/common.conf\nlxc.rootfs.path = dir:{}\nlxc.uts.name = {NAME}\nlxc.net.0.type = empty\n\
             lxc.apparmor.profile = unconfined\n",
            root.display()
        );
        if mapped {
            config += &format!(
                "lxc.include = /usr/share/lxc/config/userns.conf\nlxc.idmap = u 0 {FIRST} {COUNT}\nlxc.idmap = g 0 {FIRST} {COUNT}\n\
                 lxc.rootfs.options = idmap=container\n"
            );
        }
        std::fs::write(dir.join(NAME).join("config"), config).context("write LXC's configuration")?;
        let dir = dir.display().to_string();
        let verb = |verb: &str, more: &[&str]| [words(&[verb, "-P", &dir, "-n", NAME]), words(more)].concat();
        Ok(System {
            start: verb("lxc-start", &["-d"]),
            inside: verb("lxc-attach", &["--"]),
            end: vec![verb("lxc-stop", &["-k"])],
        })
    }

    /// From the command that starts it until it says that it runs.
    fn start(&self) -> Result<(Duration, String)> {
        let began = Instant::now();
        let time = self.until_running(began);
        let ended = self.end.iter().try_for_each(|command| quietly(command).map(drop));
        let time = time?;
        ended?;
        Ok(time)
    }

    fn until_running(&self, began: Instant) -> Result<(Duration, String)> {
        ensure!(quietly(&self.start)?.0, "it doesn't start: {}", self.start.join(" "));
        let ask = [self.inside.clone(), words(&["systemctl", "is-system-running", "--wait"])].concat();
        loop {
            let (_, said) = quietly(&ask)?;
            match said.trim() {
                state @ ("running" | "degraded") => return Ok((began.elapsed(), state.to_owned())),
                // Nobody answers yet.
                "" | "offline" | "unknown" | "initializing" | "starting" => {}
                other => bail!("it is {other} instead of running: {}", self.start.join(" ")),
            }
            ensure!(began.elapsed() < PATIENCE, "it doesn't come up: {}", self.start.join(" "));
            std::thread::sleep(PAUSE);
        }
    }
}

/// Runs a command without its complaints; whether it ended well, and what it wrote.
fn quietly(command: &[String]) -> Result<(bool, String)> {
    let output = Command::new(&command[0]).args(&command[1..]).stdin(Stdio::null()).stderr(Stdio::null()).output();
    let output = output.with_context(|| format!("run {}", command[0]))?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
}
