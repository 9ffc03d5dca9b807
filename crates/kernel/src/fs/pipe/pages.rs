//! How a pipe's bytes lie in pages: room comes and goes by whole pages, as on Linux, where each is a page of memory of its own.

use alloc::collections::VecDeque;
use insula_abi::PAGE;

const SIZE: usize = PAGE as usize;

/// The pages of a pipe that hold something.
#[derive(Default)]
pub(super) struct Pages(VecDeque<Page>);

struct Page {
    /// Bytes that were ever written to it.
    end: usize,
    /// Bytes that are left.
    left: usize,
    /// More may be written behind what is there.
    open: bool,
}

impl Pages {
    /// How many hold something.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Bytes that go into pages of which nothing is used, of `most` pages.
    pub(super) fn free(&self, most: usize) -> usize {
        most.saturating_sub(self.0.len()) * SIZE
    }

    /// Of `len` bytes, those that go behind what is in the last page.
    fn joins(&self, len: usize) -> usize {
        let rest = len % SIZE;
        if self.0.back().is_some_and(|last| last.open && last.end + rest <= SIZE) { rest } else { 0 }
    }

    /// How many of `len` bytes can be written into `most` pages; what is a packet has pages of its own.
    pub(super) fn fits(&self, len: usize, most: usize, packet: bool) -> usize {
        let joins = if packet { 0 } else { self.joins(len) };
        (joins + self.free(most)).min(len)
    }

    /// `count` bytes of `len` were written.
    pub(super) fn put(&mut self, count: usize, len: usize, packet: bool) {
        let joins = if packet { 0 } else { self.joins(len).min(count) };
        if let Some(last) = self.0.back_mut().filter(|_| joins > 0) {
            last.end += joins;
            last.left += joins;
        }
        let mut left = count - joins;
        while left > 0 {
            let part = left.min(SIZE);
            self.0.push_back(Page { end: part, left: part, open: !packet });
            left -= part;
        }
    }

    /// The first `count` bytes were read.
    pub(super) fn take(&mut self, mut count: usize) {
        while count > 0
            && let Some(first) = self.0.front_mut()
        {
            let part = count.min(first.left);
            first.left -= part;
            count -= part;
            if first.left == 0 {
                self.0.pop_front();
            }
        }
    }

    /// All were.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_comes_by_pages() {
        let mut pages = Pages::default();
        pages.put(SIZE, SIZE, false);
        pages.take(1);
        assert_eq!((pages.free(1), pages.fits(1, 1, false)), (0, 0));
        pages.take(SIZE - 1);
        assert_eq!(pages.fits(1, 1, false), 1);
        pages.put(1, 1, false);
        // What is small goes behind what is there.
        assert_eq!((pages.fits(SIZE - 1, 1, false), pages.fits(SIZE, 1, false), pages.fits(10, 1, true)), (SIZE - 1, 0, 0));
        pages.put(SIZE - 1, SIZE - 1, false);
        assert_eq!((pages.len(), pages.fits(1, 2, false), pages.fits(3 * SIZE, 2, false)), (1, 1, SIZE));
        pages.take(SIZE);
        assert_eq!(pages.len(), 0);
    }
}
