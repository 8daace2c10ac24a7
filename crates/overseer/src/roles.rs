/// The roles of DESIGN that exist today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Ingress,
    Processor,
    Store,
    Gateway,
    Agent,
}

const ALL: [(Role, &str); 5] = [
    (Role::Ingress, "ingress"),
    (Role::Processor, "processor"),
    (Role::Store, "store"),
    (Role::Gateway, "gateway"),
    (Role::Agent, "agent"),
];

/// Roles of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Roles(Vec<Role>);

impl Roles {
    /// From names; none means all. While the bus is a local log, whoever writes, keeps and reads must share a process.
    pub(crate) fn parse(names: &[String]) -> Result<Self, String> {
        if names.is_empty() || names.iter().any(|n| n == "all") {
            return Ok(Roles(ALL.iter().map(|(r, _)| *r).collect()));
        }
        let mut roles = Vec::new();
        for name in names {
            let Some((role, _)) = ALL.iter().find(|(_, n)| n == name) else {
                let known: Vec<&str> = ALL.iter().map(|(_, n)| *n).collect();
                return Err(format!(
                    "roles: there is no role {name:?}: {} is right",
                    known.join(", ")
                ));
            };
            roles.push(*role);
        }
        for needed in [Role::Ingress, Role::Store, Role::Gateway] {
            if !roles.contains(&needed) {
                return Err(format!(
                    "roles: {} is missing: ingress, store and gateway share one process while the bus is a local log",
                    needed.name()
                ));
            }
        }
        Ok(Roles(roles))
    }

    pub(crate) fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(|r| r.name().to_owned()).collect()
    }
}

impl Role {
    fn name(self) -> &'static str {
        ALL.iter().find(|(r, _)| *r == self).map_or("", |(_, n)| n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Roles, String> {
        let names: Vec<String> = text.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect();
        Roles::parse(&names)
    }

    #[test]
    fn roles_by_name() {
        assert!(parse("").unwrap().has(Role::Agent));
        assert!(!parse("ingress,processor,store,gateway").unwrap().has(Role::Agent));
        assert!(parse("ingress,frontend").unwrap_err().contains("\"frontend\""));
        assert!(parse("ingress,gateway").unwrap_err().contains("store is missing"));
    }
}
