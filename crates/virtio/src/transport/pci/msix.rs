//! The table of messages. Source: *PCI Local Bus Specification 3.0*, section 6.8.2.

use super::Route;
use crate::interrupt::Messages;
use insula_vm::window::Page;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Words of an entry: address, its upper half, data, control.
const WORDS: usize = 4;
const CONTROL: usize = 3;
const MASKED: u32 = 1;

pub(super) struct Table {
    /// What the guest reads.
    page: Page,
    entries: Vec<[u32; WORDS]>,
    /// As each was routed last.
    routed: Vec<Option<(u64, u32)>>,
    on: bool,
    messages: Arc<Messages>,
    route: Box<dyn Route>,
}

impl Table {
    pub(super) fn new(page: Page, messages: Arc<Messages>, route: Box<dyn Route>) -> Table {
        let count = usize::from(messages.count());
        let mut table = Table { page, entries: Vec::new(), routed: vec![None; count], on: false, messages, route };
        table.restore(&vec![[0, 0, 0, MASKED]; count]);
        table
    }

    /// Whole words, one or two, as the specification wants; anything else is ignored.
    pub(super) fn write(&mut self, offset: u32, data: &[u8]) {
        if !offset.is_multiple_of(4) || !matches!(data.len(), 4 | 8) {
            return;
        }
        let mut changed = None;
        for (index, word) in (offset as usize / 4..).zip(data.chunks_exact(4)) {
            let Some(entry) = self.entries.get_mut(index / WORDS) else { break };
            let value = word.try_into().map_or(0, u32::from_le_bytes);
            entry[index % WORDS] = if index % WORDS == CONTROL { value & MASKED } else { value };
            self.page.word(index as u32 * 4).store(entry[index % WORDS], Ordering::Release);
            changed = Some(index / WORDS);
        }
        if let Some(number) = changed {
            self.settle(number);
        }
    }

    /// Messages are sent, or none is.
    pub(super) fn set_on(&mut self, on: bool) {
        if std::mem::replace(&mut self.on, on) == on {
            return;
        }
        (0..self.entries.len()).for_each(|number| self.settle(number));
        self.messages.set_on(on);
    }

    /// Has a message sent as its entry says. It is routed first: what had to wait goes at once when it isn't masked any more.
    fn settle(&mut self, number: usize) {
        let [low, high, data, control] = self.entries[number];
        let masked = control & MASKED != 0;
        let way = (u64::from(high) << 32 | u64::from(low), data);
        if self.on && !masked && self.routed[number] != Some(way) {
            self.route.set(number as u16, way.0, way.1);
            self.routed[number] = Some(way);
        }
        self.messages.set_masked(number as u16, masked);
    }

    pub(super) fn save(&self) -> Vec<[u32; WORDS]> {
        self.entries.clone()
    }

    /// As many entries as there are messages.
    pub(super) fn restore(&mut self, entries: &[[u32; WORDS]]) {
        self.entries = entries.to_vec();
        for (index, word) in self.entries.iter().flatten().enumerate() {
            self.page.word(index as u32 * 4).store(*word, Ordering::Release);
        }
        (0..self.entries.len()).for_each(|number| self.settle(number));
    }
}
