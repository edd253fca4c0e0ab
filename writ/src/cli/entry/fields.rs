//! An entry's fields as flags.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use spiffe::{Selector, Timestamp, TrustDomain};

use crate::cli::Usage;

/// The flags of a new entry: who and where must be said.
#[derive(Debug, clap::Args)]
pub(super) struct Needed {
    /// The identity that is given: a SPIFFE ID, or its path.
    #[arg(long, value_name = "ID")]
    spiffe_id: String,
    /// Where: a node's name (`writ up` calls its own `local`), a SPIFFE ID, any-node, or a selector that
    /// a node must have; repeat it for several selectors.
    #[arg(long = "parent", value_name = "PARENT", required = true)]
    parents: Vec<String>,
    /// A fact that must hold of the process, for example unix:uid:1000; repeat it, all must hold.
    #[arg(long = "selector", value_name = "KIND:VALUE", required = true)]
    selectors: Vec<Selector>,
    #[command(flatten)]
    others: Others,
}

/// The flags of an update: only what is named changes.
#[derive(Debug, clap::Args)]
pub(crate) struct Fields {
    /// The identity that is given: a SPIFFE ID, or its path.
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<String>,
    /// Where: a node's name, a SPIFFE ID, any-node, or selectors that a node must have.
    #[arg(long = "parent", value_name = "PARENT")]
    parents: Vec<String>,
    /// The facts that must hold of the process, in place of those before.
    #[arg(long = "selector", value_name = "KIND:VALUE")]
    selectors: Vec<Selector>,
    #[command(flatten)]
    others: Others,
}

/// The flags of an update, and what goes back to its default.
#[derive(Debug, clap::Args)]
pub(crate) struct Changes {
    #[command(flatten)]
    fields: Fields,
    /// A field to empty, or to put back to its default; repeat it.
    #[arg(long, value_enum, value_name = "FIELD")]
    clear: Vec<Clearable>,
}

/// The fields that may be empty, by their flags' names.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Clearable {
    Ttl,
    JwtTtl,
    Dns,
    Hint,
    FederatesWith,
    ExpiresAt,
    Admin,
    Downstream,
}

#[derive(Debug, clap::Args)]
struct Others {
    /// How long an X509-SVID lives, for example 1h; 0s is the server's default.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
    /// How long a JWT-SVID lives, for example 5m; 0s is the server's default.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    jwt_ttl: Option<Duration>,
    /// A DNS name of the X509-SVID; repeat it, the first one is also the common name.
    #[arg(long = "dns", value_name = "NAME")]
    dns_names: Vec<String>,
    /// Tells the workload which of several identities this one is.
    #[arg(long, value_name = "TEXT")]
    hint: Option<String>,
    /// A trust domain whose bundle the workload receives too; repeat it.
    #[arg(long = "federates-with", value_name = "TD")]
    federates_with: Vec<TrustDomain>,
    /// When the entry stops counting, as RFC 3339 (2027-01-31T12:00:00Z).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    expires_at: Option<Timestamp>,
    /// The SVID may call the server's administrative API.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    admin: Option<bool>,
    /// The SVID may ask for an intermediate CA.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    downstream: Option<bool>,
}

impl Needed {
    pub(super) fn fields(self) -> Result<Fields, Usage> {
        let Self { spiffe_id, parents, selectors, others } = self;
        Fields { spiffe_id: Some(spiffe_id), parents, selectors, others }.checked()
    }
}

impl Fields {
    pub(super) fn checked(self) -> Result<Self, Usage> {
        let too_long = |ttl: &Option<Duration>| ttl.is_some_and(|ttl| u32::try_from(ttl.as_secs()).is_err());
        let split = |ttl: &Option<Duration>| ttl.is_some_and(|ttl| ttl.subsec_nanos() > 0);
        if self.others.dns_names.iter().any(String::is_empty) {
            return Err(Usage(
                "--dns is empty; to leave an entry without names: writ entry update ID --clear dns"
                    .to_owned(),
            ));
        }
        if split(&self.others.ttl) || split(&self.others.jwt_ttl) {
            return Err(Usage(
                "--ttl and --jwt-ttl are whole numbers of seconds, for example 15m".to_owned(),
            ));
        }
        if too_long(&self.others.ttl) || too_long(&self.others.jwt_ttl) {
            return Err(Usage("--ttl and --jwt-ttl are at most 136 years".to_owned()));
        }
        Ok(self)
    }

    /// What was named, as the JSON of an entry; the server writes short names out.
    pub(super) fn to_json(&self) -> Value {
        let Others { ttl, jwt_ttl, dns_names, hint, federates_with, expires_at, admin, downstream } =
            &self.others;
        let parent = match self.parents.as_slice() {
            [] => None,
            [one] => Some(json!(one)),
            selectors => Some(json!(selectors)),
        };
        let fields = [
            ("spiffe_id", self.spiffe_id.as_ref().map(|id| json!(id))),
            ("parent", parent),
            ("selectors", named(&self.selectors)),
            ("x509_svid_ttl", ttl.map(|ttl| json!(ttl.as_secs()))),
            ("jwt_svid_ttl", jwt_ttl.map(|ttl| json!(ttl.as_secs()))),
            ("dns_names", named(dns_names)),
            ("hint", hint.as_ref().map(|hint| json!(hint))),
            ("federates_with", named(federates_with)),
            ("expires_at", expires_at.map(|moment| json!(moment))),
            ("admin", admin.map(Value::from)),
            ("downstream", downstream.map(Value::from)),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

impl Changes {
    /// What was named, as the JSON of an entry in which a cleared field is null.
    pub(super) fn into_json(self) -> Result<Value, Usage> {
        let mut changes = self.fields.checked()?.to_json();
        for clear in self.clear {
            let field = clear.field();
            if !changes[field].is_null() {
                return Err(Usage(format!("{field} is set and cleared; name one of the two")));
            }
            changes[field] = Value::Null;
        }
        if changes.as_object().is_none_or(serde_json::Map::is_empty) {
            return Err(Usage(
                "nothing is to change; name a field, for example --ttl 5m or --clear dns".to_owned(),
            ));
        }
        Ok(changes)
    }
}

impl Clearable {
    fn field(self) -> &'static str {
        match self {
            Self::Ttl => "x509_svid_ttl",
            Self::JwtTtl => "jwt_svid_ttl",
            Self::Dns => "dns_names",
            Self::Hint => "hint",
            Self::FederatesWith => "federates_with",
            Self::ExpiresAt => "expires_at",
            Self::Admin => "admin",
            Self::Downstream => "downstream",
        }
    }
}

/// A list, unless it was not named at all.
fn named<T: Serialize>(values: &[T]) -> Option<Value> {
    (!values.is_empty()).then(|| json!(values))
}

fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text).ok_or_else(|| "write it like 2027-01-31T12:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Update {
        #[command(flatten)]
        fields: Changes,
    }

    fn update(flags: &[&str]) -> Result<Value, Usage> {
        Update::try_parse_from([&["x"], flags].concat()).unwrap().fields.into_json()
    }

    #[test]
    fn an_update_touches_only_what_is_named() {
        let expected = json!({ "parent": "web-1", "x509_svid_ttl": 900 });
        assert_eq!(update(&["--ttl", "15m", "--parent", "web-1"]).unwrap(), expected);
        assert!(update(&[]).is_err(), "an update of nothing is a mistake");
    }

    #[test]
    fn several_parents_are_the_selectors_of_nodes() {
        let both = update(&["--parent", "aws_iid:tag:a", "--parent", "aws_iid:zone:b"]).unwrap();
        assert_eq!(both, json!({ "parent": ["aws_iid:tag:a", "aws_iid:zone:b"] }));
    }

    #[test]
    fn a_field_is_cleared_by_its_name_and_not_both_set_and_cleared() {
        let cleared = update(&["--clear", "dns", "--clear", "expires-at", "--hint", "h"]).unwrap();
        assert_eq!(cleared, json!({ "dns_names": null, "expires_at": null, "hint": "h" }));
        assert!(update(&["--clear", "hint", "--hint", "h"]).is_err());
        assert!(update(&["--dns", ""]).unwrap_err().to_string().contains("--clear dns"));
    }
}
