//! Declassification: what an owner takes off the labels of data that passes through one of its tools.
//!
//! It lowers data, never who has read it: what a transformer answers about its resource, and what it leaves there.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Resource, Tenant, TenantName};
use crate::scope::{Category, Confidentiality, Label, Source};

/// What a transformer drops. What is not named here stays.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Declassification {
    /// How much less confidential it makes data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidentiality: Option<Step>,
    /// Categories of which nothing is left.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub categories: BTreeSet<Category>,
    /// Untrusted sources whose words are not in it any more.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sources: BTreeSet<Source>,
}

/// From one confidentiality to a lower one. What is more confidential than `from` stays as it is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The most that is lowered.
    pub from: Confidentiality,
    /// What it is lowered to.
    pub to: Confidentiality,
}

/// Whose the parts of a label are: a tenant may only drop what is its own alone.
#[derive(Clone, Debug)]
pub struct Owners<'a> {
    owner: &'a TenantName,
    tenants: Vec<&'a Tenant>,
    resources: Vec<&'a Resource>,
}

impl Declassification {
    /// Whether everything stays as it is.
    pub fn is_nothing(&self) -> bool {
        self.confidentiality.is_none() && self.categories.is_empty() && self.sources.is_empty()
    }

    /// A label without what is dropped.
    #[must_use]
    pub fn lower(&self, label: &Label) -> Label {
        let lowered = |step: &Step| step.to < label.confidentiality && label.confidentiality <= step.from;
        let step = self.confidentiality.filter(lowered);
        Label {
            confidentiality: step.map_or(label.confidentiality, |step| step.to),
            categories: label.categories.difference(&self.categories).cloned().collect(),
            sources: label.sources.difference(&self.sources).cloned().collect(),
        }
    }

    /// What of it is in force for data of this label: only what is there, and only what is the owner's. So whoever
    /// reads this reads exactly what was lowered.
    #[must_use]
    pub fn in_force(&self, label: &Label, owners: &Owners<'_>) -> Self {
        let is_own = |category: &Category| owners.has_category(category) && owners.others(category).is_none();
        // A level says nothing of whose secret it is; what else the label says must all be the owner's.
        let may_step = |step: &Step| {
            step.to < label.confidentiality
                && label.confidentiality <= step.from
                && label.categories.iter().all(is_own)
                && owners.others_above(step.to).is_none()
        };
        let step = self.confidentiality.filter(may_step);
        let source = |source: &&Source| owners.has_source(source) && owners.others_source(source).is_none();
        Self {
            confidentiality: step.map(|step| Step { from: label.confidentiality, to: step.to }),
            categories: self
                .categories
                .intersection(&label.categories)
                .filter(|category| is_own(category))
                .cloned()
                .collect(),
            sources: self.sources.intersection(&label.sources).filter(source).cloned().collect(),
        }
    }
}

impl<'a> Owners<'a> {
    /// Among these, as `owner` sees it.
    pub fn new(
        owner: &'a TenantName,
        tenants: impl Iterator<Item = &'a Tenant>,
        resources: impl Iterator<Item = &'a Resource>,
    ) -> Self {
        Self { owner, tenants: tenants.collect(), resources: resources.collect() }
    }

    /// Whether the owner declares a category.
    pub fn has_category(&self, category: &Category) -> bool {
        self.tenants.iter().any(|tenant| tenant.name == *self.owner && tenant.categories.contains(category))
    }

    /// Whether something of the owner's is labelled with a source.
    pub fn has_source(&self, source: &Source) -> bool {
        let own = self.resources.iter().filter(|resource| resource.tenant == *self.owner);
        own.flat_map(|resource| resource.labels()).any(|label| label.sources.contains(source))
    }

    /// Who else declares a category.
    pub fn others(&self, category: &Category) -> Option<&'a TenantName> {
        let other = |tenant: &&&Tenant| tenant.name != *self.owner && tenant.categories.contains(category);
        self.tenants.iter().find(other).map(|tenant| &tenant.name)
    }

    /// Who else has something that is labelled with a source.
    pub fn others_source(&self, source: &Source) -> Option<&'a TenantName> {
        self.others_labelled(|label| label.sources.contains(source))
    }

    /// Who else has something more confidential than this.
    pub fn others_above(&self, level: Confidentiality) -> Option<&'a TenantName> {
        self.others_labelled(|label| label.confidentiality > level)
    }

    fn others_labelled(&self, is: impl Fn(&Label) -> bool) -> Option<&'a TenantName> {
        let mut others = self.resources.iter().filter(|resource| resource.tenant != *self.owner);
        others.find(|resource| resource.labels().any(&is)).map(|resource| &resource.tenant)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn from<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn tenant(name: &str, categories: &[&str]) -> Tenant {
        from(json!({ "name": name, "categories": categories, "created_at": "2026-01-01T00:00:00Z" }))
    }

    fn resource(tenant: &str, label: serde_json::Value) -> Resource {
        from(json!({
            "name": format!("of-{tenant}"), "tenant": tenant, "enforcement_points": [], "created_at": "2026-01-01T00:00:00Z",
            "tools": { "read": { "effect": "read", "label": label } },
        }))
    }

    fn everything() -> Declassification {
        from(json!({ "confidentiality": { "from": 2, "to": 0 }, "categories": ["pay"], "sources": ["mail"] }))
    }

    #[test]
    fn what_is_not_named_stays() {
        let drop = everything();
        let label: Label =
            from(json!({ "confidentiality": 2, "categories": ["pay", "hr"], "sources": ["mail", "web"] }));
        let lowered: Label = from(json!({ "categories": ["hr"], "sources": ["web"] }));
        assert_eq!(drop.lower(&label), lowered);
        let top: Label = from(json!({ "confidentiality": 3 }));
        assert_eq!(drop.lower(&top), top, "what is more confidential than it takes is not lowered");
        assert_eq!(drop.lower(&Label::default()), Label::default(), "and nothing is raised");
    }

    #[test]
    fn only_what_is_there_and_the_owners_alone_is_in_force() {
        let label: Label = from(json!({ "confidentiality": 1, "categories": ["pay"], "sources": ["mail"] }));
        let own = resource("acme", json!({ "sources": ["mail"] }));
        let check = |tenants: &[Tenant], resources: &[&Resource], says: serde_json::Value| {
            let acme = "acme".parse().unwrap();
            let owners = Owners::new(&acme, tenants.iter(), resources.iter().copied());
            assert_eq!(everything().in_force(&label, &owners), from(says));
        };
        let alone = [tenant("acme", &["pay"]), tenant("other", &["theirs"])];
        let all =
            json!({ "confidentiality": { "from": 1, "to": 0 }, "categories": ["pay"], "sources": ["mail"] });
        check(&alone, &[&own, &resource("other", json!({}))], all);
        let (secret, mail) = (
            resource("other", json!({ "confidentiality": 1 })),
            resource("other", json!({ "sources": ["mail"] })),
        );
        check(&alone, &[&own, &secret], json!({ "categories": ["pay"], "sources": ["mail"] }));
        let less = json!({ "confidentiality": { "from": 1, "to": 0 }, "categories": ["pay"] });
        check(&alone, &[&own, &mail], less.clone());
        check(&alone, &[], less);
        let both = [tenant("acme", &["pay"]), tenant("other", &["pay"])];
        check(&both, &[&own], json!({ "sources": ["mail"] }));
        check(&[], &[], json!({}));
    }
}
