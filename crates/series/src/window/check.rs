//! Reads all of a series file that counts.

use super::{FILE_SPACE, HEADER, MAGIC, copy_name, header, window_name};
use crate::bytes::checksum;
use crate::index::Index;
use crate::verify::Finding;

/// Checks the sections of the first `len` series in a window's file, or in its copy, which is called `name`. What lies behind
/// them was never committed.
fn check_one(name: &str, bytes: &[u8], realm: u64, id: u64, len: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |offset: usize, len: usize, what: &str, lost: String| {
        findings.push(Finding {
            file: name.to_owned(),
            offset: offset as u64,
            len: len as u64,
            what: what.to_owned(),
            lost,
        });
    };
    let names = |n: u64| format!("the labels of {n} series, and with them their samples in level 0 files");
    let (mut at, mut next) = (0usize, 0u64);
    while next < len {
        let Some((first, count, payload, sum)) = header(realm, id, at as u64, bytes.get(at..).unwrap_or_default())
        else {
            let from = at + 1;
            let rest = bytes.get(from..).unwrap_or_default();
            // the next section whose header is whole
            let step = (0..rest.len().saturating_sub(HEADER))
                .find(|&i| rest[i..].starts_with(&MAGIC) && header(realm, id, (from + i) as u64, &rest[i..]).is_some());
            let Some(step) = step else { break };
            at = from + step;
            continue;
        };
        let (first, count) = (u64::from(first), u64::from(count));
        if first > next {
            found(
                at,
                0,
                "damaged: sections before this offset are missing",
                names(first.min(len) - next),
            );
        }
        if first >= len {
            next = len;
            break;
        }
        let from = at + HEADER;
        let Some(body) = bytes.get(from..from + payload) else {
            break;
        };
        let whole = checksum(realm, id | FILE_SPACE, from as u64, body) == sum
            && Index::decode(body).is_ok_and(|index| u64::from(index.len()) == count);
        if !whole {
            found(
                from,
                payload,
                "damaged section: its checksum or form is wrong",
                names(count),
            );
        }
        next = next.max(first + count);
        at = from + payload;
    }
    if next < len {
        let rest = bytes.len().saturating_sub(at);
        found(at, rest, "damaged, cut or missing from here on", names(len - next));
    }
    findings
}

/// Checks a window's file and its copy: what is damaged in one of them only costs nothing.
pub(crate) fn check(bytes: &[u8], copy: &[u8], realm: u64, id: u64, len: u64) -> Vec<Finding> {
    let mut findings = check_one(&window_name(id), bytes, realm, id, len);
    let mut of_copy = check_one(&copy_name(id), copy, realm, id, len);
    if findings.is_empty() || of_copy.is_empty() {
        for finding in findings.iter_mut().chain(&mut of_copy) {
            finding.lost = "nothing: its twin is whole".to_owned();
        }
    }
    findings.append(&mut of_copy);
    findings
}
