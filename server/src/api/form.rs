//! Entries as administrators write them: an entry's JSON, in which some things may be said shorter.
//!
//! `parent` may stand instead of `parent_id`: a node's name, a SPIFFE ID, a path, `any-node`, or the
//! selectors that nodes must have. SPIFFE IDs may be paths in the server's trust domain.

use std::collections::BTreeSet;

use attestors::selectors::{About, Vocabulary};
use registry::objects::{Entry, EntryId, EntryPatch, NodeName, well_known};
use serde_json::{Map, Value, json};
use spiffe::{IdError, Selector, SpiffeId, Timestamp, TrustDomain};

use super::apply::fresh_id;

/// An entry as it was written, with what it needs beside it.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    /// The entry; its id is new where none was written.
    pub(crate) entry: Entry,
    /// Whether its id was written.
    pub(crate) names_id: bool,
    /// The alias for nodes with some selectors, where these are its parent.
    pub(crate) alias: Option<Entry>,
    /// The fields that were written.
    written: BTreeSet<String>,
}

/// A text that is no entry, in one sentence for its writer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct FormError(String);

/// JSON beyond this is refused before it is parsed.
const MAX_BODY: usize = 256 * 1024;

impl Form {
    /// Reads an entry that shall be; what is not written has its default.
    pub(crate) fn whole(body: &[u8], trust_domain: &TrustDomain) -> Result<Self, FormError> {
        Self::over(Map::new(), body, trust_domain)
    }

    /// Reads changes of an entry: what is not written stays, what is null goes back to its default.
    pub(crate) fn changes_of(
        entry: &Entry,
        body: &[u8],
        trust_domain: &TrustDomain,
    ) -> Result<Self, FormError> {
        let current = serde_json::to_value(entry).map_err(|error| FormError(error.to_string()))?;
        let Value::Object(current) = current else {
            return Err(FormError("an entry is a JSON object".to_owned()));
        };
        Self::over(current, body, trust_domain)
    }

    /// The id that is written in a text that is an entry; for finding the one that it changes.
    pub(crate) fn id_in(body: &[u8]) -> Result<EntryId, FormError> {
        let id =
            parsed(body)?.remove("id").ok_or_else(|| FormError("id is missing: which entry?".to_owned()))?;
        serde_json::from_value(id).map_err(|error| FormError(format!("id: {error}")))
    }

    /// The id that a deletion names, as a JSON text.
    pub(crate) fn bare_id(body: &[u8]) -> Result<EntryId, FormError> {
        let short = body.get(..body.len().min(MAX_BODY)).unwrap_or_default();
        serde_json::from_slice(short)
            .map_err(|error| FormError(format!("this is not an entry's id: {error}")))
    }

    fn over(
        mut fields: Map<String, Value>,
        body: &[u8],
        trust_domain: &TrustDomain,
    ) -> Result<Self, FormError> {
        let mut written = parsed(body)?;
        let mut alias = None;
        if let Some(parent) = written.remove("parent") {
            if written.contains_key("parent_id") {
                return Err(FormError(
                    "parent and parent_id say the same thing; write one of them".to_owned(),
                ));
            }
            let named = Parent::named(&parent, trust_domain)?;
            written.insert("parent_id".to_owned(), json!(named.id));
            alias = named.alias;
        }
        for field in ["spiffe_id", "parent_id"] {
            if let Some(Value::String(text)) = written.get_mut(field) {
                *text = whole_id(text, trust_domain).map_err(|why| FormError(format!("{field} {why}")))?;
            }
        }
        for field in ["x509_svid_ttl", "jwt_svid_ttl"] {
            if let Some(ttl) = written.get_mut(field) {
                *ttl = seconds(ttl).map_err(|why| FormError(format!("{field} {why}")))?;
            }
        }
        let names: BTreeSet<String> = written.keys().cloned().collect();
        for (name, value) in written {
            match value {
                Value::Null => fields.remove(&name),
                value => fields.insert(name, value),
            };
        }
        let names_id = fields.contains_key("id");
        if !names_id {
            let id = fresh_id().map_err(|error| FormError(error.to_string()))?;
            fields.insert("id".to_owned(), json!(id));
        }
        fields.entry("created_at").or_insert_with(|| json!(Timestamp::default())); // the log says when
        let entry: Entry =
            serde_json::from_value(Value::Object(fields)).map_err(|e| FormError(e.to_string()))?;
        Ok(Self { entry, names_id, alias, written: names })
    }

    /// Refuses selectors that nothing can have. Those that the entry has `already` may stay, whoever made it:
    /// SPIRE's API takes any.
    pub(crate) fn check(&self, vocabulary: Vocabulary<'_>, already: Option<&Entry>) -> Result<(), FormError> {
        let stays = already.is_some_and(|entry| entry.selectors == self.entry.selectors);
        // What a store is told about the secret is no fact about anything.
        if self.written.contains("selectors") && !stays && !self.entry.store_svid {
            check(&self.entry, vocabulary)?;
        }
        self.alias.as_ref().map_or(Ok(()), |alias| check(alias, vocabulary))
    }

    /// The fields that were written, as an update of them.
    pub(crate) fn patch(self) -> EntryPatch {
        let Self { entry, written, .. } = self;
        let whole = EntryPatch::whole(entry);
        let is = |name: &str| written.contains(name);
        EntryPatch {
            spiffe_id: whole.spiffe_id.filter(|_| is("spiffe_id")),
            parent_id: whole.parent_id.filter(|_| is("parent_id")),
            selectors: whole.selectors.filter(|_| is("selectors")),
            x509_svid_ttl: whole.x509_svid_ttl.filter(|_| is("x509_svid_ttl")),
            jwt_svid_ttl: whole.jwt_svid_ttl.filter(|_| is("jwt_svid_ttl")),
            federates_with: whole.federates_with.filter(|_| is("federates_with")),
            admin: whole.admin.filter(|_| is("admin")),
            downstream: whole.downstream.filter(|_| is("downstream")),
            expires_at: whole.expires_at.filter(|_| is("expires_at")),
            dns_names: whole.dns_names.filter(|_| is("dns_names")),
            store_svid: whole.store_svid.filter(|_| is("store_svid")),
            hint: whole.hint.filter(|_| is("hint")),
            disable_x509_svid_prefetch: whole
                .disable_x509_svid_prefetch
                .filter(|_| is("disable_x509_svid_prefetch")),
            jwt_svid_include_jti: whole.jwt_svid_include_jti.filter(|_| is("jwt_svid_include_jti")),
        }
    }
}

/// A SPIFFE ID as people write it: whole, or as its path in the server's own trust domain.
pub(super) fn whole_id(text: &str, trust_domain: &TrustDomain) -> Result<String, String> {
    let id = if text.starts_with('/') { trust_domain.join(text) } else { text.parse() };
    id.map(|id| id.to_string()).map_err(|error| match error {
        IdError::Scheme | IdError::Empty => format!(
            "{text:?} is not a SPIFFE ID; write a path such as /web, or the whole {}/web",
            trust_domain.id()
        ),
        error => format!("{text:?} is not a SPIFFE ID: {error}"),
    })
}

/// A lifetime as people write it: seconds, or `15m`.
pub(super) fn seconds(ttl: &Value) -> Result<Value, String> {
    let Value::String(text) = ttl else { return Ok(ttl.clone()) };
    match humantime::parse_duration(text) {
        Ok(ttl) if ttl.subsec_nanos() == 0 => Ok(json!(ttl.as_secs())),
        Ok(_) => Err(format!("{text:?} is not a whole number of seconds")),
        Err(_) => Err(format!("{text:?} is not a duration; write for example 15m, 1h or 900s")),
    }
}

fn parsed(body: &[u8]) -> Result<Map<String, Value>, FormError> {
    if body.len() > MAX_BODY {
        return Err(FormError(format!("an entry of {} bytes is longer than {MAX_BODY}", body.len())));
    }
    serde_json::from_slice(body).map_err(|error| FormError(format!("this is not an entry's JSON: {error}")))
}

fn check(entry: &Entry, vocabulary: Vocabulary<'_>) -> Result<(), FormError> {
    let is_alias = entry.parent_id == well_known::server(&entry.parent_id.trust_domain());
    let about = if is_alias { About::Nodes } else { About::Processes };
    let mut wrong = entry.selectors.iter().filter_map(|selector| vocabulary.check(selector, about).err());
    wrong.next().map_or(Ok(()), |mistake| Err(FormError(mistake.to_string())))
}

/// A parent as people name it.
struct Parent {
    id: SpiffeId,
    alias: Option<Entry>,
}

impl Parent {
    fn named(parent: &Value, trust_domain: &TrustDomain) -> Result<Self, FormError> {
        let plain = |id| Ok(Self { id, alias: None });
        match parent {
            Value::String(name) if name == "any-node" => plain(well_known::any_node(trust_domain)),
            Value::String(id) if id.starts_with('/') || id.starts_with("spiffe://") => plain(
                whole_id(id, trust_domain)
                    .and_then(|id| id.parse().map_err(|e: IdError| e.to_string()))
                    .map_err(wrong)?,
            ),
            Value::String(name) if !name.contains(':') => {
                let name: NodeName = name.parse().map_err(wrong)?;
                plain(well_known::joined_node(trust_domain, &name))
            }
            Value::String(selector) => {
                Self::selected(BTreeSet::from([selector.parse().map_err(wrong)?]), trust_domain)
            }
            Value::Array(_) => {
                let selectors: BTreeSet<Selector> = serde_json::from_value(parent.clone()).map_err(wrong)?;
                match selectors.is_empty() {
                    true => Err(FormError("parent: it names no selector".to_owned())),
                    false => Self::selected(selectors, trust_domain),
                }
            }
            _ => Err(FormError("parent: write a name, a SPIFFE ID, or a list of selectors".to_owned())),
        }
    }

    fn selected(selectors: BTreeSet<Selector>, trust_domain: &TrustDomain) -> Result<Self, FormError> {
        let id = well_known::node_alias(trust_domain, &selectors);
        let server = well_known::server(trust_domain);
        let form = json!({ "spiffe_id": id, "parent_id": server, "selectors": selectors });
        let alias = Form::whole(form.to_string().as_bytes(), trust_domain)?;
        Ok(Self { id, alias: Some(alias.entry) })
    }
}

fn wrong(error: impl std::fmt::Display) -> FormError {
    FormError(format!("parent: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust_domain() -> TrustDomain {
        "acme.example".parse().unwrap()
    }

    fn read(body: &Value) -> Result<Form, FormError> {
        Form::whole(body.to_string().as_bytes(), &trust_domain())
    }

    fn with_parent(parent: Value) -> Result<Form, FormError> {
        read(&json!({ "spiffe_id": "/agent/triage", "parent": parent, "selectors": ["unix:uid:1000"] }))
    }

    #[test]
    fn a_parent_is_a_name_an_id_a_path_or_any_node() {
        for (said, meant) in [
            ("web-1", "spiffe://acme.example/spire/agent/join_token/web-1"),
            ("any-node", "spiffe://acme.example/writ/any-node"),
            ("/spire/server", "spiffe://acme.example/spire/server"),
            ("spiffe://acme.example/a", "spiffe://acme.example/a"),
        ] {
            let form = with_parent(json!(said)).unwrap();
            assert_eq!(form.entry.parent_id.as_str(), meant);
            assert_eq!(form.entry.spiffe_id.as_str(), "spiffe://acme.example/agent/triage");
            assert!(form.alias.is_none() && !form.names_id);
        }
    }

    #[test]
    fn a_lifetime_is_a_number_of_seconds_or_a_duration() {
        for (said, seconds) in [(json!(900), 900), (json!("15m"), 900), (json!("1h 30m"), 5400)] {
            let body =
                json!({ "spiffe_id": "/a", "parent": "n", "selectors": ["a:b"], "jwt_svid_ttl": said });
            assert_eq!(read(&body).unwrap().entry.jwt_svid_ttl, seconds);
        }
    }

    #[test]
    fn selectors_of_nodes_make_one_alias_in_any_order() {
        let one = with_parent(json!(["aws_iid:zone:a", "aws_iid:tag:web"])).unwrap();
        let other = with_parent(json!(["aws_iid:tag:web", "aws_iid:zone:a"])).unwrap();
        assert_eq!(one.entry.parent_id, other.entry.parent_id);
        let alias = one.alias.unwrap();
        assert_eq!(alias.spiffe_id, one.entry.parent_id);
        assert_eq!(alias.parent_id.as_str(), "spiffe://acme.example/spire/server");
        assert_eq!(alias.selectors.len(), 2);
    }

    #[test]
    fn what_is_no_entry_is_refused_in_one_sentence() {
        for (body, says) in [
            (json!([]), "not an entry's JSON"),
            (json!({ "spiffe_id": "/a" }), "parent_id"),
            (json!({ "spiffe_id": "/a", "parent": "n", "parent_id": "/b" }), "write one of them"),
            (json!({ "spiffe_id": "/a", "parent": "no name", "selectors": ["a:b"] }), "node name"),
            (json!({ "spiffe_id": "/a", "parent": [], "selectors": ["a:b"] }), "no selector"),
            (json!({ "spiffe_id": "/a", "parent": "n", "selectors": ["a:b"], "tll": 5 }), "tll"),
            (
                json!({ "spiffe_id": "web", "parent": "n", "selectors": ["a:b"] }),
                "spiffe_id \"web\" is not a SPIFFE ID",
            ),
            (json!({ "spiffe_id": "/a//b", "parent": "n", "selectors": ["a:b"] }), "spiffe_id \"/a//b\""),
            (
                json!({ "spiffe_id": "/a", "parent": "n", "selectors": ["a:b"], "x509_svid_ttl": "soon" }),
                "x509_svid_ttl \"soon\" is not a duration",
            ),
        ] {
            let error = read(&body).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(Form::whole(&vec![b' '; MAX_BODY + 1], &trust_domain()).is_err());
    }

    #[test]
    fn changes_touch_what_is_written_and_null_goes_back_to_the_default() {
        let entry = read(&json!({
            "id": "e1", "spiffe_id": "/a", "parent": "n", "selectors": ["a:b"], "hint": "h", "x509_svid_ttl": 9,
        }));
        let entry = entry.unwrap().entry;
        let body = json!({ "id": "e1", "hint": null, "admin": true }).to_string();
        let patch = Form::changes_of(&entry, body.as_bytes(), &trust_domain()).unwrap().patch();
        let expected = EntryPatch { hint: Some(String::new()), admin: Some(true), ..EntryPatch::default() };
        assert_eq!(patch, expected);
    }
}
