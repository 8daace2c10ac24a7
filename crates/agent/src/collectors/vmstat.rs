use crate::{CollectError, Collector, Context, collector::unknown};

pub(crate) static COLLECTOR: Collector = Collector {
    name: "vmstat",
    doc: "Paging, swapping, page faults and out-of-memory kills.",
    metrics: &[unknown("node_vmstat_*", "The field * of /proc/vmstat.")],
    collect,
};

fn is_kept(field: &str) -> bool {
    field.starts_with("oom_kill")
        || field.starts_with("pgpg")
        || field.starts_with("pswp")
        || field.strip_prefix("pg").is_some_and(|rest| rest.contains("fault"))
}

fn collect(context: &mut Context<'_>) -> Result<(), CollectError> {
    let text = context.proc.text("proc/vmstat")?;
    for (field, value) in super::pairs(&text).filter(|(field, _)| is_kept(field)) {
        context.out.put(&format!("node_vmstat_{field}"), &[], value);
    }
    Ok(())
}
