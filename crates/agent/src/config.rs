use regex::Regex;

/// Shortest and longest time between two looks at the host, in ms.
const INTERVAL_MS: std::ops::RangeInclusive<u64> = 100..=60_000;
/// Shortest and longest time between two stored samples, in ms.
const STORE_INTERVAL_MS: std::ops::RangeInclusive<u64> = 1_000..=300_000;
/// Most processes that may be followed by name.
const PROCESS_TOP_MAX: usize = 200;

/// What the agent watches and how often.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Time between two looks at the host in ms; live views show every one.
    pub interval_ms: u64,
    /// Time between two stored samples in ms.
    pub store_interval_ms: u64,
    /// How many of the costliest processes are followed; 0 follows none.
    pub process_top: usize,
    /// Collectors that are switched off, by name.
    pub collectors_off: Vec<String>,
    /// Block devices left out, as a regular expression over the device name.
    pub disk_exclude: String,
    /// Mount points left out, as a regular expression.
    pub mount_exclude: String,
    /// File system types left out, as a regular expression over the whole type.
    pub filesystem_exclude: String,
    /// File systems that live on another machine and may not answer for minutes are left out, as a regular expression
    /// over the whole type.
    pub remote_filesystem_exclude: String,
    /// Network devices left out, as a regular expression over the whole name; empty leaves out none.
    pub network_exclude: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            interval_ms: 1_000,
            store_interval_ms: 10_000,
            process_top: 20,
            collectors_off: Vec::new(),
            disk_exclude: r"^(ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$".to_owned(),
            mount_exclude: r"^/(dev|proc|run|sys|mnt|media|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
                .to_owned(),
            filesystem_exclude: "autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|\
                iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tracefs"
                .to_owned(),
            remote_filesystem_exclude: "nfs4?|cifs|smb3?|smbfs|9p|ceph|glusterfs|lustre|afs|fuse\\..+".to_owned(),
            network_exclude: String::new(),
        }
    }
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("agent.{field}: {value} is refused: {right}")]
pub struct ConfigError {
    pub field: &'static str,
    /// As given, shortened.
    pub value: String,
    /// What would be right.
    pub right: String,
}

/// The exclusions of a [`Config`], compiled.
pub(crate) struct Exclusions {
    pub(crate) disk: Regex,
    pub(crate) mount: Regex,
    pub(crate) filesystem: Regex,
    pub(crate) remote_filesystem: Regex,
    pub(crate) network: Regex,
}

impl Config {
    /// Checks every setting.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.exclusions().map(drop)
    }

    pub(crate) fn exclusions(&self) -> Result<Exclusions, ConfigError> {
        let refused = |field, value: String, right: String| ConfigError {
            field,
            value: value.chars().take(80).collect(),
            right,
        };
        for (field, value, range) in [
            ("interval_ms", self.interval_ms, INTERVAL_MS),
            ("store_interval_ms", self.store_interval_ms, STORE_INTERVAL_MS),
        ] {
            if !range.contains(&value) {
                let right = format!("{} to {} ms is right", range.start(), range.end());
                return Err(refused(field, value.to_string(), right));
            }
        }
        if self.store_interval_ms < self.interval_ms {
            let right = format!("it may not be shorter than interval_ms ({})", self.interval_ms);
            return Err(refused("store_interval_ms", self.store_interval_ms.to_string(), right));
        }
        if self.process_top > PROCESS_TOP_MAX {
            let right = format!("0 to {PROCESS_TOP_MAX} is right");
            return Err(refused("process_top", self.process_top.to_string(), right));
        }
        if let Some(name) = self
            .collectors_off
            .iter()
            .find(|n| !crate::COLLECTORS.iter().any(|row| row.name == n.as_str()))
        {
            let names: Vec<&str> = crate::COLLECTORS.iter().map(|row| row.name).collect();
            return Err(refused(
                "collectors_off",
                format!("{name:?}"),
                format!("one of {} is right", names.join(", ")),
            ));
        }
        let compile = |field, text: &str, whole: bool| {
            let pattern = match (text.is_empty(), whole) {
                // nothing matches it
                (true, _) => r"[^\s\S]".to_owned(),
                (false, true) => format!("^(?:{text})$"),
                (false, false) => text.to_owned(),
            };
            Regex::new(&pattern).map_err(|e| {
                refused(
                    field,
                    format!("{text:?}"),
                    format!("a regular expression is right ({e})"),
                )
            })
        };
        Ok(Exclusions {
            disk: compile("disk_exclude", &self.disk_exclude, false)?,
            mount: compile("mount_exclude", &self.mount_exclude, false)?,
            filesystem: compile("filesystem_exclude", &self.filesystem_exclude, true)?,
            remote_filesystem: compile("remote_filesystem_exclude", &self.remote_filesystem_exclude, true)?,
            network: compile("network_exclude", &self.network_exclude, true)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_right() {
        Config::default().check().unwrap();
    }

    #[test]
    fn refusals_name_the_field() {
        let refused = |config: Config| config.check().unwrap_err().to_string();
        let text = refused(Config {
            disk_exclude: "(".into(),
            ..Config::default()
        });
        assert!(
            text.starts_with(r#"agent.disk_exclude: "(" is refused: a regular expression is right"#),
            "{text}"
        );
        let text = refused(Config {
            interval_ms: 1,
            ..Config::default()
        });
        assert_eq!(text, "agent.interval_ms: 1 is refused: 100 to 60000 ms is right");
        let text = refused(Config {
            collectors_off: vec!["cpus".into()],
            ..Config::default()
        });
        assert!(text.contains("one of cpu, "), "{text}");
        refused(Config {
            interval_ms: 20_000,
            ..Config::default()
        });
        refused(Config {
            process_top: 100_000,
            ..Config::default()
        });
    }

    #[test]
    fn an_empty_exclusion_excludes_nothing() {
        let exclusions = Config::default().exclusions().unwrap();
        assert!(!exclusions.network.is_match("") && !exclusions.network.is_match("lo"));
        assert!(exclusions.filesystem.is_match("proc") && !exclusions.filesystem.is_match("ext4"));
        assert!(!exclusions.filesystem.is_match("procession"));
    }
}
