use std::{io, path::Path};

use host::Host;

use crate::{
    Position,
    local::{
        frame::LogId,
        open::{ID_FILE, id_line},
        positions::{Positions, Statement},
    },
};

/// Makes an empty log in `dir`, in which nothing may be yet: everything up to `position` counts as dropped, the next record
/// gets the position behind it. For copies of what consumers made of an other log's records. Durable when it returns.
pub fn create_behind(host: &Host, dir: &Path, position: Position) -> io::Result<()> {
    host.files.create_dir_all(dir)?;
    if !host.files.list(dir)?.is_empty() {
        return Err(io::ErrorKind::DirectoryNotEmpty.into());
    }
    let mut id = [0; 16];
    host.random.fill(&mut id);
    let log = LogId(id);
    host.files.write_atomic(&dir.join(ID_FILE), id_line(log).as_bytes())?;
    let (mut positions, ..) = Positions::open(&*host.files, dir)?;
    let statement = Statement {
        log,
        newest: 0,
        newest_len: 0,
        first_kept: position + 1,
        durable: position,
    };
    // both synced slots: damage to one leaves the other
    positions.state(&statement, true)?;
    positions.state(&statement, true)?;
    host.files.sync_dir(dir)
}
