//! `system`: our boundary for whole systems. The workload stands in the init's place, or a system boots.

use super::{Job, Platform};
use crate::host;
use crate::scratch::Scratch;

pub(super) struct System {
    /// Our own program.
    pub(super) program: String,
}

impl Platform for System {
    fn argv(&mut self, job: &Job<'_>, scratch: &Scratch, id: &str) -> Result<Vec<String>, String> {
        let run = |root: String| {
            [&self.program, "run", "--isolation", "system", "--name", id, "--rootfs", &root].map(str::to_owned).to_vec()
        };
        if let Job::System { root } = job {
            let start = [run(host::text(root)), vec!["-d".to_owned()]].concat();
            return Ok(until_running(&start, &[self.program.clone(), "exec".to_owned(), id.to_owned()]));
        }
        let mut argv = run(host::text(scratch.rootfs()));
        argv.push(format!("--volume={}:/volume", host::text(scratch.volume())));
        if job.limits() {
            let limits = host::limits();
            argv.push(format!("--memory={}", limits.memory));
            argv.push(format!("--pids-limit={}", limits.processes));
            argv.push(format!("--cpus={}", limits.cpus));
        }
        argv.extend(job.inside());
        Ok(argv)
    }

    fn boots(&self) -> bool {
        true
    }

    fn removal(&self, id: &str) -> Option<Vec<String>> {
        Some([&self.program, "delete", "--force", id].map(str::to_owned).to_vec())
    }
}

/// Asks again and again whether what was started runs: with `--wait` systemd answers when it does, but at first it doesn't listen. The asking must not take
/// what the system needs.
const SCRIPT: &str = r#"
"$@" >/dev/null || exit
while :; do
    state=$(ask systemctl is-system-running --wait 2>/dev/null)
    code=$?
    case $state in
    running | degraded) exit 0 ;;
    '' | offline | unknown | initializing | starting) ;;
    *) echo "the system is $state instead of running" >&2; exit 1 ;;
    esac
    if [ $code = 127 ]; then echo "the system has no systemctl, by which it could be asked" >&2; exit 1; fi
    sleep 0.02
done"#;

/// The command that starts a system by one command line, and ends when systemd in it says, asked by another, that it runs.
pub(super) fn until_running(start: &[String], ask: &[String]) -> Vec<String> {
    let ask: String = ask.iter().map(|word| format!("'{}' ", word.replace('\'', r"'\''"))).collect();
    let script = format!("ask() {{ {ask} \"$@\"; }}\n{SCRIPT}");
    [&["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()], start].concat()
}
