//! What a trip costs. Run by name: `cargo test --release -p insula-gofer --test gofer -- trips`.

use crate::support::{go, serve_as};
use insula_gofer::OpenFlags;
use std::fs;
use std::time::Instant;

/// Median of several passes, in microseconds an operation.
fn time(what: &str, mut operation: impl FnMut()) {
    const EACH: u32 = 2000;
    let mut passes: Vec<f64> = (0..15)
        .map(|_| {
            let start = Instant::now();
            (0..EACH).for_each(|_| operation());
            start.elapsed().as_secs_f64() * 1e6 / f64::from(EACH)
        })
        .collect();
    passes.sort_by(f64::total_cmp);
    println!("{what:40} {:6.2} µs ({:.2} to {:.2})", passes[passes.len() / 2], passes[0], passes[passes.len() - 1]);
}

pub(crate) fn measure() {
    let began = Instant::now();
    let served = serve_as(
        |dir| {
            fs::create_dir_all(dir.join("a/b/c")).unwrap();
            fs::write(dir.join("a/b/c/file"), "").unwrap();
        },
        |_| {},
    );
    println!("{:40} {:6.2} ms", "directory made, served, attached", began.elapsed().as_secs_f64() * 1e3);
    let statm = fs::read_to_string(format!("/proc/{}/smaps_rollup", served.child.pid.as_raw_pid())).unwrap();
    statm
        .lines()
        .filter(|line| ["Rss:", "Pss:", "Private_Dirty:"].iter().any(|key| line.starts_with(key)))
        .for_each(|line| println!("{line}"));
    let mut one = rustix::thread::CpuSet::new();
    one.set(0);
    let path = served.path().join("a/b/c/file");
    let (dir, file) = (go(&served.root, &["a", "b", "c"]), go(&served.root, &["a", "b", "c", "file"]));
    let (a, b) = (go(&served.root, &["a"]), go(&served.root, &["a", "b"]));
    for pinned in [true, false] {
        if pinned {
            rustix::thread::sched_setaffinity(None, &one).unwrap();
        } else {
            let all = rustix::thread::sched_getaffinity(rustix::process::Pid::from_raw(1)).unwrap();
            rustix::thread::sched_setaffinity(None, &all).unwrap();
        }
        println!("{}", if pinned { "on one processor:" } else { "wherever the kernel likes:" });
        time("  by calls: open+close of a path", || drop(fs::File::open(&path).unwrap()));
        time("  stat", || _ = served.root.stat().unwrap());
        time("  open+close", || drop(file.open(OpenFlags::empty()).unwrap()));
        time("  walk 1", || drop(dir.walk(&[(b"file", None)]).unwrap()));
        time("  walk 1 and open", || drop(dir.walk_open(&[(b"file", None)], OpenFlags::empty()).unwrap()));
        time("  walk 4 and open", || {
            let steps: [(&[u8], _); 4] = [(b"a", None), (b"b", None), (b"c", None), (b"file", None)];
            drop(served.root.walk_open(&steps, OpenFlags::empty()).unwrap());
        });
        time("  walk 4, all known, and open", || {
            let steps: [(&[u8], _); 4] = [(b"a", Some(&a)), (b"b", Some(&b)), (b"c", Some(&dir)), (b"file", Some(&file))];
            drop(served.root.walk_open(&steps, OpenFlags::empty()).unwrap());
        });
    }
}
