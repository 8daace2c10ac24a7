use crate::{CollectError, Collector, Context, collector::gauge};

pub(crate) static COLLECTOR: Collector = Collector {
    name: "filesystem",
    doc: "Space and files of mounted local file systems.",
    metrics: &[
        gauge("node_filesystem_size_bytes", "Bytes in all."),
        gauge(
            "node_filesystem_free_bytes",
            "Bytes free, those kept for root included.",
        ),
        gauge("node_filesystem_avail_bytes", "Bytes free for ordinary users."),
        gauge("node_filesystem_files", "File nodes in all."),
        gauge("node_filesystem_files_free", "File nodes free."),
        gauge("node_filesystem_readonly", "1 when mounted read-only."),
        gauge(
            "node_filesystem_device_error",
            "1 when the file system does not say how full it is.",
        ),
    ],
    collect,
};

#[derive(Debug, PartialEq)]
struct Mount {
    device: String,
    mount_point: String,
    fstype: String,
    is_readonly: bool,
}

fn parse(text: &str) -> impl Iterator<Item = Mount> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        Some(Mount {
            device: unescape(words.next()?),
            mount_point: unescape(words.next()?),
            fstype: words.next()?.to_owned(),
            is_readonly: words.next()?.split(',').any(|option| option == "ro"),
        })
    })
}

/// The kernel writes blanks, tabs, line ends and backslashes in paths as `\ooo`.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let code = rest
            .get(1..4)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok())
            .filter(u8::is_ascii);
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[4..];
            }
            None => {
                out.push('\\');
                rest = &rest[1..];
            }
        }
    }
    out + rest
}

fn collect(context: &mut Context<'_>) -> Result<(), CollectError> {
    // the first process sees the mounts of the host, also when this one has its own name space
    let text = context
        .proc
        .text("proc/1/mounts")
        .or_else(|_| context.proc.text("proc/self/mounts"))?;
    for mount in parse(&text) {
        let skip = context.exclusions;
        if skip.mount.is_match(&mount.mount_point)
            || skip.filesystem.is_match(&mount.fstype)
            || skip.remote_filesystem.is_match(&mount.fstype)
        {
            continue;
        }
        let labels = [
            ("device", &*mount.device),
            ("mountpoint", &*mount.mount_point),
            ("fstype", &*mount.fstype),
        ];
        let stat = context.proc.statfs(&mount.mount_point);
        let out = &mut *context.out;
        out.put(
            "node_filesystem_device_error",
            &labels,
            f64::from(u8::from(stat.is_err())),
        );
        let Ok(stat) = stat else { continue };
        let block_bytes = stat.f_bsize as f64;
        out.put(
            "node_filesystem_size_bytes",
            &labels,
            stat.f_blocks as f64 * block_bytes,
        );
        out.put("node_filesystem_free_bytes", &labels, stat.f_bfree as f64 * block_bytes);
        out.put(
            "node_filesystem_avail_bytes",
            &labels,
            stat.f_bavail as f64 * block_bytes,
        );
        out.put("node_filesystem_files", &labels, stat.f_files as f64);
        out.put("node_filesystem_files_free", &labels, stat.f_ffree as f64);
        out.put(
            "node_filesystem_readonly",
            &labels,
            f64::from(u8::from(mount.is_readonly)),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_with_odd_paths() {
        let text = "/dev/sda1 /a\\040b\\134 ext4 ro,relatime 0 0\nshort line\n";
        let mounts: Vec<Mount> = parse(text).collect();
        let want = Mount {
            device: "/dev/sda1".into(),
            mount_point: "/a b\\".into(),
            fstype: "ext4".into(),
            is_readonly: true,
        };
        assert_eq!(mounts, [want]);
        assert_eq!(unescape("\\9\\04"), "\\9\\04");
        assert_eq!(unescape("\\é\\400"), "\\é\\400");
    }
}
