//! `docker` and `podman`, with the runtime of their own choice or ours: engines that take an image. The same root file system is imported as one, and removed afterwards.

use super::{Errand, Job, Platform};
use crate::host;
use crate::scratch::Scratch;

/// An engine that answers, with the image in it.
pub(super) struct Engine {
    program: String,
    image: String,
    daemon: bool,
    /// The runtime it is told to use instead of its own choice.
    runtime: Option<String>,
}

impl Engine {
    /// Asks the engine whether it works, and imports the image. Returns its version too.
    pub(super) fn prepare(program: &str, ours: bool, errand: &mut Errand<'_>) -> Result<(Engine, String), String> {
        let version = errand.version(program)?;
        let daemon = program == "docker";
        errand.ask(&[program, "info"])?;
        let runtime = match ours {
            true if daemon => Some(known_to_daemon(errand)?),
            true => Some(super::own_program(errand.scratch)?),
            false => None,
        };
        let tar = host::text(errand.scratch.beside("image.tar"));
        errand.ask(&["tar", "-C", &host::text(errand.scratch.rootfs()), "-cf", &tar, "."])?;
        let image = format!("localhost/insula-bench{}:{}", if ours { "-ours" } else { "" }, std::process::id());
        errand.ask(&[program, "import", &tar, &image])?;
        Ok((Engine { program: program.to_owned(), image, daemon, runtime }, version))
    }
}

/// The name under which the daemon knows our program.
fn known_to_daemon(errand: &mut Errand<'_>) -> Result<String, String> {
    let names = errand.ask(&["docker", "info", "--format", "{{range $name, $_ := .Runtimes}}{{$name}} {{end}}"])?;
    if names.split_whitespace().any(|name| name == OURS) {
        return Ok(OURS.to_owned());
    }
    Err(format!("the daemon knows no runtime named {OURS}; start it with --add-runtime {OURS}=/path/to/insula"))
}

const OURS: &str = "insula";

impl Platform for Engine {
    fn argv(&mut self, job: &Job<'_>, scratch: &Scratch, id: &str) -> Result<Vec<String>, String> {
        let volume = format!("{}:/volume", host::text(scratch.volume()));
        let words = [self.program.as_str(), "run", "--rm", "--name", id, "--network", "none", "--volume", &volume];
        let mut argv: Vec<String> = words.into_iter().map(str::to_owned).collect();
        // Left alone, engines raise these, which not every host lets them.
        argv.extend(["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"].map(str::to_owned));
        argv.extend(self.runtime.iter().map(|runtime| format!("--runtime={runtime}")));
        if job.limits() {
            let limits = host::limits();
            argv.push(format!("--memory={}", limits.memory));
            argv.push(format!("--pids-limit={}", limits.processes));
            argv.push(format!("--cpus={}", limits.cpus));
        }
        argv.push(self.image.clone());
        argv.extend(job.inside());
        Ok(argv)
    }

    fn removal(&self, id: &str) -> Option<Vec<String>> {
        Some([self.program.as_str(), "rm", "--force", id].map(str::to_owned).to_vec())
    }

    fn farewell(&self) -> Option<Vec<String>> {
        Some([self.program.as_str(), "rmi", "--force", &self.image].map(str::to_owned).to_vec())
    }

    fn hidden(&self) -> Option<&'static str> {
        Some(if self.daemon {
            "the work is done by a daemon, not by children of the command"
        } else {
            "the work is done by a monitor that detaches from the command"
        })
    }
}
