//! What tests of this room share.

use std::sync::Arc;

use registry::objects::Entry;
use serde_json::json;
use spiffe::{PrivateKey, Timestamp};
use workload_api::X509Svid;

use crate::{
    publication::{Held, MadeFor},
    rotation::Validity,
    taint::Signers,
};

/// An entry of `acme.example`, as the server would write it.
pub(crate) fn entry(id: &str, path: &str, selectors: &[&str]) -> Arc<Entry> {
    let body = json!({
        "id": id,
        "spiffe_id": format!("spiffe://acme.example{path}"),
        "parent_id": "spiffe://acme.example/spire/agent/join_token/web-1",
        "selectors": selectors,
        "created_at": "2026-11-22T00:00:00Z",
    });
    Arc::new(serde_json::from_value(body).unwrap())
}

/// So many seconds after some moment.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(1_795_000_000 + seconds)
}

/// An SVID for `path`, valid from and until so many seconds after that moment. Nobody signed it.
pub(crate) fn held(path: &str, from: i64, until: i64) -> Held {
    let svid = X509Svid {
        id: format!("spiffe://acme.example{path}").parse().unwrap(),
        chain: Vec::new(),
        key: PrivateKey::generate().unwrap(),
    };
    let made_for = MadeFor::from(&*entry("any", path, &[]));
    Held {
        svid: Arc::new(svid),
        validity: Validity { from: at(from), until: at(until) },
        signers: Signers::default(),
        made_for,
    }
}
