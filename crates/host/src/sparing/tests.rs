use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Sparing;
use crate::sim::SimFiles;
use crate::{File, Files, OpenMode};

fn with_files(count: u64) -> SimFiles {
    let disk = SimFiles::new(1);
    disk.create_dir_all(Path::new("/d")).unwrap();
    for n in 0..count {
        disk.write_atomic(&path(n), &n.to_le_bytes()).unwrap();
    }
    disk
}

fn path(n: u64) -> PathBuf {
    PathBuf::from(format!("/d/{n}"))
}

fn number(file: &Arc<dyn File>) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, 0).unwrap();
    u64::from_le_bytes(bytes)
}

#[test]
fn many_files_are_kept_and_few_are_open() {
    let disk = with_files(100);
    disk.set_handles_max(Some(6));
    let sparing = Sparing::new(Arc::new(disk.clone()), 5);
    let kept: Vec<Arc<dyn File>> = (0..100)
        .map(|n| sparing.open(&path(n), OpenMode::Read).unwrap())
        .collect();
    for round in 0..3 {
        for n in 0..100u64 {
            let n = (n * 37 + round) % 100;
            assert_eq!(number(&kept[n as usize]), n);
            assert!(sparing.open_files() <= 5);
            assert_eq!(disk.handles(), sparing.open_files());
        }
    }
    drop(kept);
    assert_eq!((sparing.open_files(), disk.handles()), (0, 0));
}

#[test]
fn idle_files_are_closed_when_there_are_no_descriptors() {
    let disk = with_files(20);
    let sparing = Sparing::new(Arc::new(disk.clone()), 100);
    let kept: Vec<Arc<dyn File>> = (0..20)
        .map(|n| sparing.open(&path(n), OpenMode::Read).unwrap())
        .collect();
    assert_eq!(sparing.open_files(), 20);
    // others took all that the process may have
    disk.set_handles_max(Some(20));
    sparing.write_atomic(&path(20), b"more").unwrap();
    assert_eq!(sparing.open_files(), 0);
    assert_eq!(number(&kept[7]), 7);
    // none at all: the error is told, and nothing is lost by it
    disk.set_handles_max(Some(0));
    let failed = kept[8].read_at(&mut [0; 8], 0).unwrap_err();
    assert!(super::is_out_of_descriptors(&failed), "{failed}");
    disk.set_handles_max(None);
    assert_eq!(number(&kept[8]), 8);
}

#[test]
fn what_cannot_be_opened_is_told_at_once() {
    let sparing = Sparing::new(Arc::new(with_files(1)), 5);
    let missing = sparing.open(&path(5), OpenMode::Read).err().map(|e| e.kind());
    assert_eq!(missing, Some(std::io::ErrorKind::NotFound));
    let file = sparing.open(&path(0), OpenMode::Read).unwrap();
    assert!(file.write_all_at(b"x", 0).is_err() && file.set_len(0).is_err() && file.allocate(0, 1).is_err());
    assert_eq!(file.len().unwrap(), 8);
}
