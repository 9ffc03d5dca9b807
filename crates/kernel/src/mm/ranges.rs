//! A map from ranges of numbers to values that know how to be cut.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

/// What a range maps to.
pub trait Piece: Clone {
    /// The value for the part that begins `by` further on.
    fn advanced(&self, by: u64) -> Self;

    /// Whether `next`, which begins `len` further on, only continues this one.
    fn continues(&self, len: u64, next: &Self) -> bool;
}

/// Ranges that don't overlap, each with a value.
#[derive(Clone, Debug)]
pub struct RangeMap<V> {
    entries: BTreeMap<u64, (u64, V)>,
    covered: u64,
}

impl<V> Default for RangeMap<V> {
    fn default() -> Self {
        RangeMap { entries: BTreeMap::new(), covered: 0 }
    }
}

impl<V: Piece> RangeMap<V> {
    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many numbers all ranges hold.
    pub fn covered(&self) -> u64 {
        self.covered
    }

    /// The range that holds `at`.
    pub fn get(&self, at: u64) -> Option<(Range<u64>, &V)> {
        let (start, (end, value)) = self.entries.range(..=at).next_back()?;
        (at < *end).then_some((*start..*end, value))
    }

    /// The first range that ends after `at`: the one that holds it, or the next.
    pub fn at_or_after(&self, at: u64) -> Option<(Range<u64>, &V)> {
        self.get(at).or_else(|| self.entries.range(at..).next().map(|(start, (end, value))| (*start..*end, value)))
    }

    /// The last range that begins before `at`.
    pub fn before(&self, at: u64) -> Option<(Range<u64>, &V)> {
        self.entries.range(..at).next_back().map(|(start, (end, value))| (*start..*end, value))
    }

    /// All ranges, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Range<u64>, &V)> {
        self.entries.iter().map(|(start, (end, value))| (*start..*end, value))
    }

    /// What overlaps `range`, in order, cut to it.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, V)> + '_ {
        let first = self.get(range.start).map_or(range.start, |(found, _)| found.start);
        self.entries.range(first..range.end.max(first)).filter_map(move |(start, (end, value))| {
            let cut = (*start).max(range.start)..(*end).min(range.end);
            (cut.start < cut.end).then(|| (cut.clone(), value.advanced(cut.start - start)))
        })
    }

    /// The parts of `range` that map to nothing.
    pub fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        for (found, _) in self.within(range.clone()) {
            if at < found.start {
                gaps.push(at..found.start);
            }
            at = found.end;
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// Cuts the range that holds `at` in two, there.
    fn cut(&mut self, at: u64) {
        let Some((start, (end, value))) = self.entries.range_mut(..at).next_back() else { return };
        if *end <= at {
            return;
        }
        let rest = (*end, value.advanced(at - start));
        *end = at;
        self.entries.insert(at, rest);
    }

    /// Joins the ranges on both sides of `at`, if the second only continues the first.
    fn join(&mut self, at: u64) {
        let Some((start, (end, value))) = self.entries.range(..at).next_back() else { return };
        let Some((next_end, next)) = self.entries.get(&at) else { return };
        if *end != at || !value.continues(at - start, next) {
            return;
        }
        let (start, next_end) = (*start, *next_end);
        self.entries.remove(&at);
        if let Some(entry) = self.entries.get_mut(&start) {
            entry.0 = next_end;
        }
    }

    /// Takes out what overlaps `range`, cut to it.
    pub fn remove(&mut self, range: Range<u64>) -> Vec<(Range<u64>, V)> {
        if range.is_empty() {
            return Vec::new();
        }
        self.cut(range.start);
        self.cut(range.end);
        let starts: Vec<u64> = self.entries.range(range).map(|(start, _)| *start).collect();
        let removed = starts.into_iter().filter_map(|start| {
            let (end, value) = self.entries.remove(&start)?;
            self.covered -= end - start;
            Some((start..end, value))
        });
        removed.collect()
    }

    /// Maps `range` to `value`; what was there before is answered.
    pub fn insert(&mut self, range: Range<u64>, value: V) -> Vec<(Range<u64>, V)> {
        if range.is_empty() {
            return Vec::new();
        }
        let before = self.remove(range.clone());
        self.covered += range.end - range.start;
        self.entries.insert(range.start, (range.end, value));
        self.join(range.end);
        self.join(range.start);
        before
    }

    /// Changes the values of what overlaps `range`, each of which is cut to it.
    pub fn update(&mut self, range: Range<u64>, mut change: impl FnMut(Range<u64>, &mut V)) {
        if range.is_empty() {
            return;
        }
        self.cut(range.start);
        self.cut(range.end);
        let mut starts = Vec::new();
        for (start, (end, value)) in self.entries.range_mut(range.clone()) {
            change(*start..*end, value);
            starts.push(*start);
        }
        self.join(range.end);
        for start in starts.into_iter().rev() {
            self.join(start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of numbers: the value at a place is the base and how far the place is from the start.
    #[derive(Clone, Debug, PartialEq)]
    struct Run(u64);

    impl Piece for Run {
        fn advanced(&self, by: u64) -> Self {
            Run(self.0 + by)
        }

        fn continues(&self, len: u64, next: &Self) -> bool {
            self.0 + len == next.0
        }
    }

    fn all(map: &RangeMap<Run>) -> Vec<(Range<u64>, u64)> {
        map.iter().map(|(range, run)| (range, run.0)).collect()
    }

    #[test]
    fn neighbours_that_continue_are_one() {
        let mut map = RangeMap::default();
        map.insert(0..10, Run(100));
        map.insert(20..30, Run(120));
        map.insert(10..20, Run(110));
        assert_eq!(all(&map), [(0..30, 100)]);
        map.insert(30..40, Run(0));
        assert_eq!(all(&map), [(0..30, 100), (30..40, 0)]);
    }

    #[test]
    fn what_is_taken_out_leaves_the_rest_as_it_was() {
        let mut map = RangeMap::default();
        map.insert(0..30, Run(100));
        assert_eq!(map.remove(10..20), [(10..20, Run(110))]);
        assert_eq!(map.covered(), 20);
        map.insert(15..20, Run(0));
        map.insert(12..18, Run(0));
        assert_eq!(map.covered(), 28);
        map.remove(10..20);
        assert_eq!(all(&map), [(0..10, 100), (20..30, 120)]);
        assert_eq!(map.gaps(5..25).as_slice(), core::slice::from_ref(&(10..20)));
        assert_eq!(map.within(5..25).collect::<Vec<_>>(), [(5..10, Run(105)), (20..25, Run(120))]);
        assert_eq!(map.at_or_after(12).map(|(range, _)| range), Some(20..30));
        assert!(map.get(12).is_none());
    }

    #[test]
    fn a_change_is_cut_to_the_range_and_joined_again() {
        let mut map = RangeMap::default();
        map.insert(0..30, Run(100));
        map.update(10..20, |range, run| {
            assert_eq!(range, 10..20);
            run.0 = 7;
        });
        assert_eq!(all(&map), [(0..10, 100), (10..20, 7), (20..30, 120)]);
        map.update(10..20, |_, run| run.0 = 110);
        assert_eq!(all(&map), [(0..30, 100)]);
    }
}
