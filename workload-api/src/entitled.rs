//! For what a caller may have tokens, and by which keys it may judge others' tokens.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use registry::objects::Entry;
use spiffe::Bundles;

use crate::{refusal::Refusal, svids::keep_first_of_each_hint, wire};

/// What callers who match the same entries may have. They share one value.
#[derive(Debug)]
pub struct Entitled {
    pub(crate) entries: Vec<Arc<Entry>>,
    pub(crate) bundles: Bundles,
    jwt_bundles_response: OnceLock<Bytes>,
}

impl Entitled {
    /// Those who match these entries, of which the first is their default identity; of several with the
    /// same hint the first one counts. `bundles` are those by which they may judge others.
    pub fn new(mut entries: Vec<Arc<Entry>>, bundles: Bundles) -> Self {
        keep_first_of_each_hint(&mut entries, |entry| &entry.hint);
        Self { entries, bundles, jwt_bundles_response: OnceLock::new() }
    }

    /// The entries, the default one first.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The bundles by which they may judge others.
    pub fn bundles(&self) -> &Bundles {
        &self.bundles
    }

    /// The answer to FetchJWTBundles.
    pub(crate) fn jwt_bundles_response(&self) -> Result<Bytes, Refusal> {
        Ok(self.jwt_bundles_response.get_or_init(|| wire::jwt_bundles_response(self)).clone())
    }
}
