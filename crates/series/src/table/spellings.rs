//! Raw spellings of series: their hashes, a compact open-addressing table over these, and for each which came next.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use model::SeriesId;

/// Spellings of one series that are remembered; further ones are parsed each time.
pub(super) const SPELLINGS_MAX: u8 = 8;

const NONE: u32 = u32::MAX;
/// A slot whose spelling was forgotten. Spellings are counted from 1 in slots, so 0 is empty.
const GONE: u64 = u32::MAX as u64;

/// Spellings have dense numbers in order of arrival: what a sender repeats lies side by side.
#[derive(Default)]
pub(super) struct Spellings {
    /// 32 bits of the hash and the spelling's number plus one.
    slots: Vec<u64>,
    filled: usize,
    hashes: Vec<u128>,
    series: Vec<u32>,
    next: Vec<AtomicU32>,
    free: Vec<u32>,
    /// By series: how many spellings it has.
    count: Vec<u8>,
}

/// A session's place in the order of spellings.
#[derive(Clone, Copy)]
pub(super) struct Place(u32);

impl Place {
    pub(super) const START: Place = Place(NONE);
}

impl Spellings {
    #[inline]
    pub(super) fn find(&self, hash: u128, place: &mut Place) -> Option<SeriesId> {
        let guess = self.next.get(place.0 as usize).map_or(NONE, |n| n.load(Relaxed));
        if let Some(h) = self.hashes.get(guess as usize)
            && *h == hash
        {
            place.0 = guess;
            return self.series.get(guess as usize).map(|&s| SeriesId(s));
        }
        self.find_slot(hash, place)
    }

    fn find_slot(&self, hash: u128, place: &mut Place) -> Option<SeriesId> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let tag = (hash >> 96) as u32;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            if (slot >> 32) as u32 == tag && slot != GONE {
                let number = slot as u32 - 1;
                if self.hashes[number as usize] == hash {
                    if let Some(n) = self.next.get(place.0 as usize) {
                        n.store(number, Relaxed);
                    }
                    place.0 = number;
                    return Some(SeriesId(self.series[number as usize]));
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// Remembers a spelling that was not found.
    pub(super) fn insert(&mut self, hash: u128, id: SeriesId, place: &mut Place) {
        if self.count.len() <= id.index() {
            self.count.resize(id.index() + 1, 0);
        }
        let count = &mut self.count[id.index()];
        if *count >= SPELLINGS_MAX {
            return;
        }
        *count += 1;
        let number = match self.free.pop() {
            Some(n) => {
                self.hashes[n as usize] = hash;
                self.series[n as usize] = id.0;
                n
            }
            None => {
                self.hashes.push(hash);
                self.series.push(id.0);
                self.next.push(AtomicU32::new(NONE));
                self.hashes.len() as u32 - 1
            }
        };
        if (self.filled + 1) * 8 > self.slots.len() * 7 {
            self.rebuild();
        } else {
            Self::place(&mut self.slots, hash, number);
            self.filled += 1;
        }
        if let Some(n) = self.next.get(place.0 as usize) {
            n.store(number, Relaxed);
        }
        place.0 = number;
    }

    fn place(slots: &mut [u64], hash: u128, number: u32) {
        let mask = slots.len() - 1;
        let mut at = hash as usize & mask;
        while slots[at] != 0 {
            at = (at + 1) & mask;
        }
        slots[at] = ((hash >> 96) as u64) << 32 | u64::from(number + 1);
    }

    /// Room for twice the spellings there are, without what is gone.
    fn rebuild(&mut self) {
        let live = self.hashes.len() - self.free.len();
        let size = (live * 2).next_power_of_two().max(64);
        self.slots.clear();
        self.slots.resize(size, 0);
        for (number, &hash) in self.hashes.iter().enumerate() {
            if hash != 0 {
                Self::place(&mut self.slots, hash, number as u32);
            }
        }
        self.filled = live;
    }

    /// Forgets the spellings of all series for which `gone` is true.
    pub(super) fn forget(&mut self, gone: impl Fn(SeriesId) -> bool) {
        for number in (0..self.hashes.len()).rev() {
            let (hash, id) = (self.hashes[number], SeriesId(self.series[number]));
            if hash == 0 || !gone(id) {
                continue;
            }
            let mask = self.slots.len() - 1;
            let wanted = ((hash >> 96) as u64) << 32 | (number as u64 + 1);
            let mut at = hash as usize & mask;
            while self.slots[at] != 0 {
                if self.slots[at] == wanted {
                    self.slots[at] = GONE;
                    break;
                }
                at = (at + 1) & mask;
            }
            self.hashes[number] = 0;
            self.series[number] = NONE;
            self.free.push(number as u32);
            self.count[id.index()] = 0;
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * 8
            + self.hashes.capacity() * 16
            + (self.series.capacity() + self.next.capacity() + self.free.capacity()) * 4
            + self.count.capacity()
    }
}
