//! The operation on policies.

use authz::policy::{Bare, BareInput, authorize_bare};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::{Outcome, input};

/// Cedar's bare result, before Writ makes a decision of it: there any error denies.
pub(super) fn cedar_authorize(members: &str) -> Outcome {
    #[derive(Deserialize)]
    struct Input<'a> {
        policies: String,
        schema: Option<String>,
        #[serde(borrow)]
        entities: &'a RawValue,
        #[serde(borrow)]
        request: Request<'a>,
    }
    #[derive(Deserialize)]
    struct Request<'a> {
        principal: Uid,
        action: Uid,
        resource: Uid,
        /// As it came: its integers are read once, by Cedar.
        #[serde(borrow)]
        context: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Uid {
        #[serde(rename = "type")]
        kind: String,
        id: String,
    }
    impl Uid {
        fn parts(&self) -> (&str, &str) {
            (&self.kind, &self.id)
        }
    }
    let Input { policies, schema, entities, request } = input::parse(members)?;
    let Bare { allow, reasons, errors } = authorize_bare(&BareInput {
        policies: &policies,
        schema: schema.as_deref(),
        entities: entities.get(),
        principal: request.principal.parts(),
        action: request.action.parts(),
        resource: request.resource.parts(),
        context: request.context.map_or("{}", RawValue::get),
    })?;
    Ok(json!({ "decision": if allow { "allow" } else { "deny" }, "reasons": reasons, "errors": errors }))
}
