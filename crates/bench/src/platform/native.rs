//! `native`: a plain process of the host, the baseline.

use super::{Job, Platform};
use crate::host;
use crate::scratch::Scratch;

pub(super) struct Native;

impl Platform for Native {
    fn argv(&mut self, job: &Job<'_>, scratch: &Scratch, _id: &str) -> Result<Vec<String>, String> {
        let mut argv = vec![host::text(scratch.workload())];
        argv.extend(job.args(&host::text(scratch.data()), &host::text(scratch.volume())));
        Ok(argv)
    }
}
