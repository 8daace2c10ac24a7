//! What was asked, kept beside an answer in a cache: keys are hashes, and by this two questions of one hash are told
//! apart.

use std::hash::{DefaultHasher, Hash, Hasher};

use model::{MatchOp, Matcher, TenantId};

/// Matchers, or a label's name, asked of a tenant's series.
pub(crate) struct Question {
    tenant: TenantId,
    /// The label whose values were asked for; empty where series were.
    label: Box<str>,
    matchers: Box<[(String, MatchOp, String)]>,
}

impl Question {
    pub(crate) fn new(tenant: TenantId, label: &str, matchers: &[Matcher]) -> Self {
        let parts = |m: &Matcher| (m.name.clone(), m.op, m.value.clone());
        Question {
            tenant,
            label: label.into(),
            matchers: matchers.iter().map(parts).collect(),
        }
    }

    /// Whether this is the same question.
    pub(crate) fn is(&self, tenant: TenantId, label: &str, matchers: &[Matcher]) -> bool {
        let same =
            |(kept, m): (&(String, MatchOp, String), &Matcher)| (&kept.0, kept.1, &kept.2) == (&m.name, m.op, &m.value);
        self.tenant == tenant
            && *self.label == *label
            && self.matchers.len() == matchers.len()
            && self.matchers.iter().zip(matchers).all(same)
    }

    pub(crate) fn bytes(&self) -> usize {
        let texts = self.matchers.iter().map(|m| m.0.len() + m.2.len()).sum::<usize>();
        size_of::<Self>() + self.label.len() + texts + self.matchers.len() * size_of::<(String, MatchOp, String)>()
    }
}

pub(crate) fn hash(tenant: TenantId, label: &str, matchers: &[Matcher]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (tenant, label, matchers.len()).hash(&mut hasher);
    for m in matchers {
        (&m.name, m.op, &m.value).hash(&mut hasher);
    }
    hasher.finish()
}

/// Whether finding what matches means looking at every value of a label: only then is the answer worth keeping.
pub(crate) fn is_costly(matchers: &[Matcher]) -> bool {
    matchers.iter().any(|m| m.literals().is_none())
}
