//! `docs/authorization.md` says what is so: its schema is the schema, its policies can be pushed.

use authz::policy::{DEFAULTS, Owners, SCHEMA, check};
use registry::{
    objects::{Policy, TenantName},
    scope::ResourceName,
};

const PAGE: &str = include_str!("../../../docs/authorization.md");

/// Every actor and resource belongs to whoever's layer it is in.
struct Everyone;

impl Owners for Everyone {
    fn of_actor(&self, _: &str) -> Option<TenantName> {
        None
    }
    fn of_resource(&self, _: &ResourceName) -> Option<TenantName> {
        None
    }
}

fn blocks(language: &str) -> Vec<&'static str> {
    let opening = format!("```{language}\n");
    let parts = PAGE.split(opening.as_str()).skip(1);
    parts.map(|part| part.split("\n```").next().expect("a block ends")).collect()
}

#[test]
fn the_page_shows_the_schema_and_the_defaults_as_they_are() {
    assert_eq!(blocks("cedarschema"), [SCHEMA.trim()]);
    assert!(blocks("cedar").contains(&DEFAULTS.trim()));
}

#[test]
fn every_policy_on_the_page_can_be_pushed_under_the_name_that_it_is_shown_with() {
    let named = |block: &'static str| Some((block.strip_prefix("// ")?.lines().next()?.parse().ok()?, block));
    let policies: Vec<_> = blocks("cedar").into_iter().filter_map(named).collect();
    assert_eq!(policies.len(), blocks("cedar").len() - 1, "all but the defaults have a name");
    for (id, text) in policies {
        let policy = Policy {
            id,
            text: text.to_owned(),
            lowers: Default::default(),
            pushed_at: spiffe::Timestamp::default(),
        };
        assert_eq!(check(&policy, &Everyone), [], "{}", policy.id);
    }
}

#[test]
fn every_code_is_on_the_page() {
    for code in authz::Code::ALL {
        let is_elsewhere = code == authz::Code::Unreachable; // said by a gate that reaches nobody
        assert!(is_elsewhere || PAGE.contains(&format!("`{code}`")), "{code}");
    }
}
