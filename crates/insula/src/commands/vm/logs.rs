//! `insula vm logs`: what a machine in the background printed on its console.

use super::machines::{Known, Machines};
use crate::global::Global;
use crate::show::show;
use anyhow::{Context, bail};
use insula_machine::console::Log;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::fs::inotify;
use rustix::io::Errno;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::time::SystemTime;

/// Show what a machine in the background printed
#[derive(clap::Args)]
#[command(
    after_help = "At least the last 2 MiB are kept, and at most 4 MiB. What our own process complained of comes last, on standard error.\n\n\
    Examples:\n  insula vm logs web\n  insula vm logs --follow web"
)]
pub(crate) struct Args {
    /// The machine
    name: String,
    /// Go on with what it prints, until it ends
    #[arg(short, long)]
    follow: bool,
}

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let known = Machines::new(global).find(&args.name)?;
    let Some(mut reader) = Reader::new(&known)? else {
        bail!("{} keeps no log: its console is the terminal that it was started on", args.name)
    };
    reader.pass_on()?;
    if args.follow {
        follow(&known, &mut reader)?;
    }
    let mut text = String::new();
    let errors = File::open(known.slot.path("errors"));
    errors
        .and_then(|mut errors| errors.read_to_string(&mut text))
        .context("can't read what the machine's process complained of")?;
    text.lines().for_each(crate::show::warn);
    Ok(ExitCode::SUCCESS)
}

/// Reads the two files of a log in the order in which they were written.
struct Reader {
    files: [File; 2],
    /// Which is being read, and how far.
    turn: usize,
    offset: u64,
    /// It is the older one of those that were there at the start.
    older: bool,
}

impl Reader {
    /// None for a machine without a log.
    fn new(known: &Known) -> anyhow::Result<Option<Reader>> {
        let open = |name| {
            let path = known.slot.path(name);
            match File::open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                file => file.map(Some).with_context(|| format!("can't read {}", path.display())),
            }
        };
        let (Some(first), Some(second)) = (open("output")?, open("output.2")?) else { return Ok(None) };
        let files = [first, second];
        let (one, other) = (look(&files[0])?, look(&files[1])?);
        let [turn, _] = Log::order([one.0, other.0], one.1 > other.1);
        Ok(Some(Reader { files, turn, offset: 0, older: true }))
    }

    /// Shows what there is now that wasn't shown yet.
    fn pass_on(&mut self) -> anyhow::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = self.files[self.turn].read_at(&mut buffer, self.offset).context("can't read the log")?;
            show(&buffer[..length])?;
            self.offset += length as u64;
            if length == 0 && !self.turns()? {
                return Ok(());
            }
        }
    }

    /// At the end of one file: goes on to the other, if that is newer.
    fn turns(&mut self) -> anyhow::Result<bool> {
        let (this, other) = (look(&self.files[self.turn])?, look(&self.files[1 - self.turn])?);
        // This one has been begun anew, so the other was filled in between.
        let overtaken = this.0 < self.offset;
        let begun = this.0 >= Log::FILE && other.0 > 0 && (other.0 < Log::FILE || other.1 > this.1);
        let turns = std::mem::take(&mut self.older) || overtaken || begun;
        if turns {
            (self.turn, self.offset) = (1 - self.turn, 0);
        }
        Ok(turns)
    }
}

/// How long a file is, and when it was written.
fn look(file: &File) -> anyhow::Result<(u64, SystemTime)> {
    let look = || file.metadata().and_then(|metadata| Ok((metadata.len(), metadata.modified()?)));
    look().context("can't look at the log")
}

/// Shows what comes until the machine has ended.
fn follow(known: &Known, reader: &mut Reader) -> anyhow::Result<()> {
    let watch =
        inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).context("can't wait for the log")?;
    for name in ["output", "output.2"] {
        let path = known.slot.path(name);
        let added = inotify::add_watch(&watch, &path, inotify::WatchFlags::MODIFY);
        added.with_context(|| format!("can't wait for {}", path.display()))?;
    }
    let process = known.process()?;
    loop {
        // Asked first, so that what came before its end is read after it.
        let ended = process.as_ref().is_none_or(is_readable);
        forget_events(&watch);
        reader.pass_on()?;
        let Some(process) = process.as_ref().filter(|_| !ended) else { return Ok(()) };
        match poll(&mut [PollFd::new(&watch, PollFlags::IN), PollFd::new(process, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context("can't wait for the log"),
        }
    }
}

fn is_readable(file: &OwnedFd) -> bool {
    let now = rustix::event::Timespec::default();
    matches!(poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&now)), Ok(ready) if ready > 0)
}

fn forget_events(watch: &OwnedFd) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watch, &mut buffer);
    while events.next().is_ok() {}
}
