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

/// How one policy breaks the schema, strictly; warnings (a condition that never holds, a name that looks like
/// another) count as well. The same fault may show once for each action, so only the first few are told.
pub(super) fn faults(policy: &PolicySet) -> Vec<String> {
    let result = VALIDATOR.validate(policy, ValidationMode::Strict);
    let warnings = result.validation_warnings().map(ToString::to_string);
    let all = result.validation_errors().map(ToString::to_string).chain(warnings);
    // Cedar names the policy by its place in what it was given, which is always the first.
    all.take(TOLD).map(|fault| fault.replace("for policy `policy0`, ", "")).collect()
}

/// So many faults of one policy are told.
const TOLD: usize = 3;

/// The schema itself, for tests that hold facts to it.
#[cfg(test)]
pub(crate) fn schema() -> &'static Schema {
    VALIDATOR.schema()
}
