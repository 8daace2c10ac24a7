use crate::{CollectError, Collector, Context, collector::gauge};

pub(crate) static COLLECTOR: Collector = Collector {
    name: "filefd",
    doc: "File handles of the whole host.",
    metrics: &[
        gauge("node_filefd_allocated", "File handles in use."),
        gauge("node_filefd_maximum", "File handles there may be."),
    ],
    collect,
};

fn parse(text: &str) -> Option<(f64, f64)> {
    let mut words = text.split_ascii_whitespace();
    Some((super::number(words.next()?)?, super::number(words.nth(1)?)?))
}

fn collect(context: &mut Context<'_>) -> Result<(), CollectError> {
    let text = context.proc.text("proc/sys/fs/file-nr")?;
    let (allocated, maximum) = parse(&text).ok_or(CollectError::Parse {
        path: "proc/sys/fs/file-nr",
        missing: "three numbers",
    })?;
    context.out.put("node_filefd_allocated", &[], allocated);
    context.out.put("node_filefd_maximum", &[], maximum);
    Ok(())
}
