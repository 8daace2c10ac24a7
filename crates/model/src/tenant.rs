/// A tenant's number. It is part of every path and of every stored byte form; names are the catalog's matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u32);

impl TenantId {
    /// Overseer's own telemetry; never written by clients.
    pub const OVERSEER: TenantId = TenantId(0);
    /// The one tenant while there are no users.
    pub const DEFAULT: TenantId = TenantId(1);
}

impl std::fmt::Display for TenantId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
