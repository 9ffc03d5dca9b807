//! What is happening, on standard error: a bar at a terminal, plain lines elsewhere. Nothing is drawn while something is measured.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Instant;

/// The user's view of a run.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    begin: Instant,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{elapsed_precise} {bar:32} {percent:>3}% {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Progress { bar, begin: Instant::now() }
    }

    /// Something worth a line of its own.
    pub(crate) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("[{:>4.0} s] {text}", self.begin.elapsed().as_secs_f64()),
        }
    }

    /// So many steps are to be done.
    pub(crate) fn steps(&self, steps: u64) {
        if let Some(bar) = &self.bar {
            bar.reset_eta();
            bar.set_position(0);
            bar.set_length(steps);
        }
    }

    /// The next step begins.
    pub(crate) fn step(&self, text: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(text);
            bar.inc(1);
        }
    }

    /// The end; the bar vanishes.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
