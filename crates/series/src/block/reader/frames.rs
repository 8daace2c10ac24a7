//! Reading the frames of a section one after the other, past those that are damaged.

use super::{Block, Directory, ReadError};
use crate::block::Section;
use crate::block::frame::{FRAME_HEAD, FRAME_MARK, FrameHead, Kind};
use crate::bytes::Malformed;
use crate::index::Index;

/// Bytes read at once, when a frame is not longer.
const READ_BYTES: u64 = 64 << 10;

/// Gets the number and the contents of a frame, or that it is damaged; an error when these make no sense.
pub(super) type Each<'a> = dyn FnMut(u32, Result<Vec<u8>, Malformed>) -> Result<(), Malformed> + 'a;

/// A part of a file that is read from its beginning to its end, through a window.
pub(super) struct Stretch<'b> {
    block: &'b Block,
    what: &'static str,
    end: u64,
    window: Vec<u8>,
    from: u64,
    /// The device did not give all of the window.
    pub(super) holes: bool,
}

impl<'b> Stretch<'b> {
    pub(super) fn new(block: &'b Block, what: &'static str, end: u64) -> Self {
        Stretch {
            block,
            what,
            end: end.min(block.bytes),
            window: Vec::new(),
            from: 0,
            holes: false,
        }
    }

    /// Bytes from an offset on: so many, or fewer at the end.
    pub(super) fn see(&mut self, at: u64, len: usize) -> Result<&[u8], ReadError> {
        let len = (len as u64).min(self.end.saturating_sub(at));
        if len == 0 {
            return Ok(&[]);
        }
        let seen = self.from + self.window.len() as u64;
        if at < self.from || at + len > seen {
            let read = READ_BYTES.max(len).min(self.end.saturating_sub(at));
            let (window, holes) = self.block.read(self.what, at, read)?;
            (self.window, self.holes, self.from) = (window, holes, at);
        }
        let from = (at - self.from) as usize;
        Ok(&self.window[from..from + len as usize])
    }

    /// The next place at or behind `at` where one of the marks stands.
    pub(super) fn seek(&mut self, mut at: u64, marks: &[[u8; 4]]) -> Result<Option<u64>, ReadError> {
        loop {
            let bytes = self.see(at, READ_BYTES as usize)?;
            let found = bytes.windows(4).position(|w| marks.iter().any(|m| w == m));
            if let Some(found) = found {
                return Ok(Some(at + found as u64));
            }
            if bytes.len() < READ_BYTES as usize {
                return Ok(None);
            }
            at += bytes.len() as u64 - 3;
        }
    }

    /// The damage of some of its bytes.
    pub(super) fn damage(&self, at: u64, len: u64) -> ReadError {
        match self.holes {
            true => ReadError::Unreadable(self.what, at, len),
            false => ReadError::Damaged(self.what, at, len),
        }
    }
}

impl Block {
    /// What a block has besides groups.
    pub(super) fn sections(&self) -> [(Kind, Section); 4] {
        let f = &self.footer;
        [
            (Kind::Directory, f.directory),
            (Kind::Index, f.index),
            (Kind::Exemplars, f.exemplars),
            (Kind::Metadata, f.metadata),
        ]
    }

    /// Calls `each` with every frame of a section; what is damaged of it. An error means that it may be different the next
    /// time.
    pub(super) fn frames(&self, kind: Kind, s: Section, each: &mut Each<'_>) -> Result<Vec<ReadError>, ReadError> {
        let mut damage = Vec::new();
        let end = s.offset.saturating_add(s.len);
        let mut stretch = Stretch::new(self, kind.name(), end);
        let (mut at, mut whole) = (s.offset, 0);
        while at < end.min(self.bytes) {
            let head = FrameHead::read(stretch.see(at, FRAME_HEAD)?, self.place(at)).filter(|h| h.kind == kind);
            let Some(head) = head else {
                // the next one that is whole
                let mut next = at + 1;
                let found = loop {
                    let Some(place) = stretch.seek(next, &[FRAME_MARK])? else {
                        break None;
                    };
                    if FrameHead::read(stretch.see(place, FRAME_HEAD)?, self.place(place)).is_some() {
                        break Some(place);
                    }
                    next = place + 1;
                };
                let to = found.unwrap_or(end);
                damage.push(stretch.damage(at, to - at));
                at = to;
                continue;
            };
            let from = at + FRAME_HEAD as u64;
            let packed = stretch.see(from, head.len as usize)?;
            let raw = head.contents(packed, self.place(from));
            if each(head.first, raw).is_err() {
                damage.push(stretch.damage(at, FRAME_HEAD as u64 + u64::from(head.len)));
            }
            whole += 1;
            at = from + u64::from(head.len);
        }
        if damage.is_empty() && (at != end || whole != s.frames) {
            damage.push(stretch.damage(s.offset, s.len));
        }
        Ok(damage)
    }

    /// The directory as it was written, as far as it is whole.
    pub(super) fn stored_directory(&self) -> Result<Directory, ReadError> {
        let mut directory = Directory::default();
        let damage = self.frames(Kind::Directory, self.footer.directory, &mut |first, raw| {
            directory.add(first, &raw?)
        })?;
        directory.damage = damage;
        Ok(directory)
    }

    /// The index as it was written, as far as it is whole.
    pub(super) fn stored_index(&self) -> Result<Index, ReadError> {
        let mut index = Index::default();
        index.damage = self.frames(Kind::Index, self.footer.index, &mut |first, raw| {
            index.add(first, &raw?)
        })?;
        index.ends_with(u32::try_from(self.footer.series).unwrap_or(u32::MAX));
        Ok(index)
    }
}
