//! What is made anew after damage: the directory from the heads of the groups, the index from the copies of its pages.

use super::frames::Stretch;
use super::{Block, Chunk, Directory, ReadError};
use crate::block::frame::{FRAME_HEAD, FRAME_MARK, FrameHead, Kind};
use crate::block::group::{GROUP_MARK, Group, GroupHead, HEAD_MAX, head_len};
use crate::bytes::{put_signed, put_varint};
use crate::index::Index;

/// Bytes that the length of a group's head is found in.
const HEAD_BEGIN: usize = 18;

impl Block {
    /// Reads all groups there are, and lists what they say is in them.
    pub(super) fn directory_of_groups(&self, mut damage: Vec<ReadError>) -> Result<Directory, ReadError> {
        let f = &self.footer;
        let mut directory = Directory::default();
        let end = f.directory.offset.min(self.bytes);
        let mut stretch = Stretch::new(self, "chunks", end);
        let (mut at, mut chunks, mut bad_from) = (f.head, 0u64, None);
        while at < end {
            if let Some((first, rows, len, pieces)) =
                self.group_at(&mut stretch, at, directory.len() as u32, &mut chunks)?
            {
                damage.extend(bad_from.take().map(|from| stretch.damage(from, at - from)));
                damage.extend(pieces);
                directory.add_group(first, at, len, &rows);
                at += u64::from(len);
            } else if let Some(head) = self.names_at(&mut stretch, at)? {
                damage.extend(bad_from.take().map(|from| stretch.damage(from, at - from)));
                at += FRAME_HEAD as u64 + u64::from(head.len);
            } else {
                bad_from.get_or_insert(at);
                at = stretch.seek(at + 1, &[GROUP_MARK, FRAME_MARK])?.unwrap_or(end);
            }
        }
        damage.extend(bad_from.map(|from| stretch.damage(from, end - from)));
        directory.lost = f.chunks.saturating_sub(chunks);
        directory.damage = damage;
        Ok(directory)
    }

    /// First number, rows, length and damaged pieces of the group that begins at an offset.
    #[allow(clippy::type_complexity, reason = "used once")]
    fn group_at(
        &self,
        stretch: &mut Stretch<'_>,
        at: u64,
        number: u32,
        count: &mut u64,
    ) -> Result<Option<(u32, Vec<u8>, u32, Vec<ReadError>)>, ReadError> {
        let Some(head) = head_len(stretch.see(at, HEAD_BEGIN)?).filter(|n| *n <= HEAD_MAX) else {
            return Ok(None);
        };
        let Ok(head) = GroupHead::read(stretch.see(at, head)?, self.place(at)) else {
            return Ok(None);
        };
        let len = head.len + head.body;
        let mut bytes = stretch.see(at, len)?.to_vec();
        // a file that was cut in it: the pieces before are whole
        bytes.resize(len, 0);
        let (Ok((head, group)), Ok(len)) = (Group::read(bytes, self.place(at)), u32::try_from(len)) else {
            return Ok(None);
        };
        let damage = group
            .damage()
            .map(|(from, len)| stretch.damage(at + from, len))
            .collect();
        let (mut rows, mut last, mut min) = (Vec::new(), head.first, 0i64);
        group.rows(&head, number, self.range(), |series, chunks| {
            *count += chunks.iter().filter(|c| c.count > 0).count() as u64;
            put_varint(&mut rows, u64::from(series.wrapping_sub(last)));
            last = series;
            put_varint(&mut rows, chunks.len() as u64);
            put_chunks(&mut rows, chunks, &mut min);
        });
        Ok(Some((head.first, rows, len, damage)))
    }

    /// The head of the copy of a page of the index that begins at an offset.
    fn names_at(&self, stretch: &mut Stretch<'_>, at: u64) -> Result<Option<FrameHead>, ReadError> {
        let head = FrameHead::read(stretch.see(at, FRAME_HEAD)?, self.place(at));
        Ok(head.filter(|h| h.kind == Kind::Names))
    }

    /// Offsets and lengths of what lies between the groups: copies of pages of the index, and what is damaged.
    pub(super) fn between_groups(&self, directory: &Directory) -> Vec<(u64, u64)> {
        let mut at = self.footer.head;
        let mut found = Vec::new();
        let places = (0..directory.len()).map(|g| directory.place(g));
        for (offset, len) in places.chain([(self.footer.directory.offset.min(self.bytes), 0)]) {
            if offset > at {
                found.push((at, offset - at));
            }
            at = at.max(offset.saturating_add(u64::from(len)));
        }
        found
    }

    /// Puts pages into an index that it lacks, as far as there are copies.
    pub(super) fn mend_index(&self, index: &mut Index, directory: &Directory) -> Result<(), ReadError> {
        for (offset, len) in self.between_groups(directory) {
            let mut stretch = Stretch::new(self, "copy of the index", offset + len);
            let Some(head) = self.names_at(&mut stretch, offset)? else {
                continue;
            };
            let from = offset + FRAME_HEAD as u64;
            let packed = stretch.see(from, head.len as usize)?;
            if let Ok(raw) = head.contents(packed, self.place(from)) {
                // what makes no sense is left out, as what is damaged
                let _ = index.mend(head.first, &raw);
            }
        }
        Ok(())
    }

    /// Holds what lies between the groups against its checksums; its bytes, and what is damaged.
    pub(crate) fn check_between(&self, directory: &Directory) -> Result<(u64, Vec<ReadError>), ReadError> {
        let (mut bytes, mut damage) = (0, Vec::new());
        for (offset, len) in self.between_groups(directory) {
            let mut stretch = Stretch::new(self, "copy of the index", offset + len);
            let from = offset + FRAME_HEAD as u64;
            let whole = match self.names_at(&mut stretch, offset)? {
                Some(head) => {
                    let fits = FRAME_HEAD as u64 + u64::from(head.len) == len;
                    let packed = stretch.see(from, head.len as usize)?;
                    fits && head.contents(packed, self.place(from)).is_ok()
                }
                None => false,
            };
            bytes += len;
            if !whole {
                damage.push(stretch.damage(offset, len));
            }
        }
        Ok((bytes, damage))
    }
}

/// Rows of chunks, as a directory has them; `min`: the first time of the chunk before in the group.
fn put_chunks(rows: &mut Vec<u8>, chunks: &[Chunk], min: &mut i64) {
    for c in chunks {
        put_varint(rows, u64::from(c.len) << 1 | u64::from(c.histograms));
        put_signed(rows, c.min_ms.wrapping_sub(*min));
        put_varint(rows, c.max_ms.wrapping_sub(c.min_ms) as u64);
        put_varint(rows, u64::from(c.count));
        *min = c.min_ms;
    }
}
