//! The published schema, and the validator that holds every policy to it.

use std::sync::LazyLock;

use cedar_policy::{PolicySet, Schema, ValidationMode, Validator};

/// The schema that policies are written against, as it is published.
pub const SCHEMA: &str = include_str!("writ.cedarschema");

/// What the platform forbids where nobody has pushed a policy named [`DEFAULTS_NAME`].
pub const DEFAULTS: &str = include_str!("defaults.cedar");

/// The name of the policy that replaces [`DEFAULTS`].
pub const DEFAULTS_NAME: &str = "platform/defaults";

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).expect("a test reads the schema");
    Validator::new(schema)
});

/// Every way in which policies break the schema, strictly.
pub(super) fn faults(policies: &PolicySet) -> Vec<String> {
    let result = VALIDATOR.validate(policies, ValidationMode::Strict);
    let warnings = result.validation_warnings().map(ToString::to_string);
    result.validation_errors().map(ToString::to_string).chain(warnings).collect()
}

/// The schema itself, for tests that hold facts to it.
#[cfg(test)]
pub(crate) fn schema() -> &'static Schema {
    VALIDATOR.schema()
}
