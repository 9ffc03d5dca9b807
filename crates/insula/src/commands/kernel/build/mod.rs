//! `insula kernel build`: a kernel for small machines, out of a distribution's source.
//!
//! ```text
//! tools ─> source (package, archive or tree) ─> make allnoconfig ─> is each option in it? ─> make vmlinux ─> the library
//! ```
//!
//! The options are a fragment, `guest/kernel/micro.config`; everything it doesn't name is off. The same source, fragment and compiler
//! make the same file, byte by byte: time, user, host and directory don't get into it.

mod progress;
mod source;
mod tools;

use super::host::Host;
use super::library::Library;
use anyhow::{Context, ensure};
use insula_spec::Id;
use progress::Progress;
use source::Source;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a guest's kernel has.
const FRAGMENT: &str = include_str!("../../../../../../guest/kernel/micro.config");
/// An unpacked source, its archives, and what is built.
const SPACE: u64 = 3 << 30;

const EXAMPLES: &str = "\
Examples:
  insula kernel build --name micro
  insula kernel build --source debian:6.12 -j 8
  insula kernel build --source linux-6.12.tar.xz --config more.config --name mine
  insula vm run --kernel micro --initrd initrd.img

It takes 3 GiB of disk while it lasts, and a few minutes on 8 processors.";

/// Build a small kernel that starts fast, from a distribution's source
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Build {
    /// Where the source is: debian, or debian:VERSION for a certain linux-source-VERSION (by apt-get download); an archive; a directory
    #[arg(long, value_name = "SOURCE", default_value = "debian")]
    source: Source,
    /// Its name in the library; default: its release, as uname -r shows it
    #[arg(long, value_name = "NAME")]
    name: Option<Id>,
    /// More options, in lines as CONFIG_SQUASHFS=y; one that is named in ours, too, replaces it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How many programs may run at once; default: one a processor
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
}

/// Builds, and prints the entry's name.
pub(super) fn main(library: &Library, args: Build) -> anyhow::Result<String> {
    let more = args.config.as_deref().map(read_config).transpose()?;
    let options = options(FRAGMENT, more.as_deref().unwrap_or_default())?;
    tools::check(&args.source)?;
    let host = Host::new()?;
    library.check_name(args.name.as_ref())?;
    let draft = library.draft()?;
    ensure_space(draft.path())?;
    let progress = Progress::new();

    let work = draft.scratch("build")?;
    let source = args.source.get(&host, &work, &progress)?;
    let make = Make { host: &host, source: &source.tree, output: work.join("output"), jobs: args.jobs };
    progress.stage("configure");
    make.configure(&options)?;
    progress.stage("compile");
    make.compile(&progress)?;
    draft.take_image(&make.image()?)?;
    for (from, to) in [(".config", "config"), ("System.map", "System.map")] {
        draft.keep(&make.output.join(from), to)?;
    }
    progress.stage("clean up");
    fs::remove_dir_all(&work).with_context(|| format!("can't remove {}", work.display()))?;
    let entry = draft.finish(args.name, format!("built from {}, {}", source.origin, tools::compiler(&host)?))?;
    progress.end();
    Ok(entry.name)
}

fn read_config(path: &Path) -> anyhow::Result<String> {
    let text = crate::commands::read_limited(path, 1 << 20).with_context(|| format!("can't read --config {}", path.display()))?;
    String::from_utf8(text).with_context(|| format!("--config {}: it is no text", path.display()))
}

/// The lines that name an option, those of `more` instead of the fragment's own.
fn options(fragment: &str, more: &str) -> anyhow::Result<Vec<String>> {
    let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect::<Vec<_>>();
    let more: Vec<String> = lines(more).into_iter().filter(|line| !line.starts_with('#') || option(line).is_some()).collect();
    if let Some(line) = more.iter().find(|line| option(line).is_none()) {
        anyhow::bail!("--config: {line:?} is no option; write CONFIG_NAME=y, or # CONFIG_NAME is not set");
    }
    let replaced: HashSet<&str> = more.iter().filter_map(|line| option(line)).collect();
    let ours = lines(fragment).into_iter().filter(|line| option(line).is_some_and(|name| !replaced.contains(name)));
    Ok(ours.chain(more.iter().cloned()).collect())
}

/// The option a line is about.
fn option(line: &str) -> Option<&str> {
    let unset = line.strip_prefix("# ").and_then(|line| line.strip_suffix(" is not set"));
    let name = unset.or_else(|| Some(line.split_once('=')?.0))?;
    let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    name.strip_prefix("CONFIG_").is_some_and(plain).then_some(name)
}

fn ensure_space(dir: &Path) -> anyhow::Result<()> {
    let space = rustix::fs::statvfs(dir).with_context(|| format!("can't learn how much space {} has", dir.display()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let place = dir.parent().unwrap_or(dir);
    ensure!(
        free >= SPACE,
        "{} has {} MiB free, and a build needs {} MiB there; say --library DIR for another place",
        place.display(),
        free >> 20,
        SPACE >> 20
    );
    Ok(())
}

/// The kernel's own build.
struct Make<'a> {
    host: &'a Host,
    source: &'a Path,
    output: PathBuf,
    jobs: Option<u16>,
}

impl Make<'_> {
    /// `make`, with an environment in which nothing of the caller's changes what comes out.
    fn command(&self, target: &str) -> Command {
        let mut command = Command::new("make");
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs([("TZ", "UTC"), ("KBUILD_BUILD_USER", "insula"), ("KBUILD_BUILD_HOST", "insula")]);
        command.envs([("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 1970"), ("KBUILD_BUILD_VERSION", "1")]);
        let mut output = OsString::from("O=");
        output.push(&self.output);
        let jobs = self.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
        // An empty local version: no mark for a tree under version control. Ours is in the fragment.
        command.arg("-C").arg(self.source).arg(output).args(["ARCH=x86_64", "LOCALVERSION=", &format!("-j{jobs}"), target]);
        command
    }

    /// Makes the configuration; each option that is asked for must be in it.
    fn configure(&self, options: &[String]) -> anyhow::Result<()> {
        fs::create_dir(&self.output).with_context(|| format!("can't make {}", self.output.display()))?;
        let wanted = self.output.join("wanted.config");
        fs::write(&wanted, options.join("\n") + "\n").with_context(|| format!("can't write {}", wanted.display()))?;
        let mut make = self.command("allnoconfig");
        self.host.follow(make.env("KCONFIG_ALLCONFIG", &wanted), &mut |_| {}).context("can't configure the kernel")?;
        let path = self.output.join(".config");
        let made = fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
        let lost = lost(options, &made);
        ensure!(
            lost.is_empty(),
            "this source can't have {}: an option is unknown to it, or needs another; use another --source, or --config with what is missing",
            lost.join(", ")
        );
        Ok(())
    }

    fn compile(&self, progress: &Progress) -> anyhow::Result<()> {
        let mut lines = progress::Lines::default();
        self.host.follow(&mut self.command("vmlinux"), &mut |piece| {
            lines.take(piece, &mut |line| progress.step(line));
        })
    }

    /// The kernel without its symbols.
    fn image(&self) -> anyhow::Result<PathBuf> {
        let (from, to) = (self.output.join("vmlinux"), self.output.join("vmlinux.stripped"));
        self.host.run("objcopy", &["-S".as_ref(), from.as_os_str(), to.as_os_str()], &self.output)?;
        Ok(to)
    }
}

/// The options that a configuration hasn't as they were asked for. One that is off isn't named where it depends on one that is off.
fn lost(options: &[String], made: &str) -> Vec<String> {
    let made: HashSet<&str> = made.lines().collect();
    let named: HashSet<&str> = made.iter().filter_map(|line| option(line)).collect();
    let has =
        |line: &str| made.contains(line) || (line.starts_with('#') && option(line).is_some_and(|name| !named.contains(name)));
    options.iter().filter(|line| !has(line)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn our_fragment_is_options_and_words() {
        let options = options(FRAGMENT, "").unwrap();
        let named: HashSet<&str> = options.iter().filter_map(|line| option(line)).collect();
        assert!(named.len() == options.len() && named.contains("CONFIG_VIRTIO_MMIO"), "an option is named twice");
        let stray = FRAGMENT.lines().find(|line| option(line).is_none() && !line.is_empty() && !line.starts_with('#'));
        assert_eq!(stray, None);
    }

    #[test]
    fn more_options_replace_ours() {
        let ours = "# words\nCONFIG_A=y\nCONFIG_B=4\n\n";
        assert_eq!(options(ours, "").unwrap(), list(&["CONFIG_A=y", "CONFIG_B=4"]));
        let more = "# mine\n# CONFIG_A is not set\nCONFIG_C=\"x\"\n";
        assert_eq!(options(ours, more).unwrap(), list(&["CONFIG_B=4", "# CONFIG_A is not set", "CONFIG_C=\"x\""]));
        assert!(options(ours, "SQUASHFS=y").unwrap_err().to_string().contains("\"SQUASHFS=y\" is no option"));
    }

    #[test]
    fn an_option_that_was_dropped_is_named() {
        let wanted = list(&["CONFIG_A=y", "CONFIG_B=4", "# CONFIG_C is not set", "# CONFIG_D is not set", "CONFIG_E=y"]);
        let made = "CONFIG_A=y\nCONFIG_B=8\nCONFIG_D=y\n# CONFIG_E is not set\n";
        assert_eq!(lost(&wanted, made), list(&["CONFIG_B=4", "# CONFIG_D is not set", "CONFIG_E=y"]));
    }
}
