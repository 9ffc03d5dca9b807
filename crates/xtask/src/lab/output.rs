//! The command's output, on its way from the machine to our own stdout and stderr while the machine runs.
//!
//! QEMU writes each port of the machine to a file, and a thread follows the file. A file never blocks the machine, however slow our
//! reader is, and it stays as a record when the run is kept.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const POLL: Duration = Duration::from_millis(10);

/// A thread that copies what comes into a file.
pub(super) struct Follower {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<()>>,
}

impl Follower {
    /// Starts to copy the file, which must exist.
    pub(super) fn start(path: &Path, to: impl Write + Send + 'static) -> io::Result<Self> {
        let file = File::open(path)?;
        let ended = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let ended = ended.clone();
            move || follow(file, to, &ended)
        });
        Ok(Self { ended, thread })
    }

    /// Copies the rest: nothing more will be written to the file.
    pub(super) fn finish(self) -> io::Result<()> {
        self.ended.store(true, Ordering::Release);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the copying thread panicked")))
    }
}

fn follow(mut file: File, mut to: impl Write, ended: &AtomicBool) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        // Asked before reading: what was written before the end is then read for certain.
        let last = ended.load(Ordering::Acquire);
        match file.read(&mut buffer)? {
            0 if last => return Ok(()),
            0 => std::thread::sleep(POLL),
            count => {
                to.write_all(&buffer[..count])?;
                to.flush()?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Sink(mpsc::Sender<Vec<u8>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_written_comes_out_at_once_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut file = File::create(&path).unwrap();
        let (sender, receiver) = mpsc::channel();
        let follower = Follower::start(&path, Sink(sender)).unwrap();
        file.write_all(b"first").unwrap();
        assert_eq!(receiver.recv().unwrap(), b"first");
        file.write_all(&[7; 200_000]).unwrap();
        follower.finish().unwrap();
        assert_eq!(receiver.iter().map(|part| part.len()).sum::<usize>(), 200_000);
    }
}
