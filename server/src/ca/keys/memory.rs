//! Keys that end with the process.

use std::collections::HashMap;

use parking_lot::Mutex;
use registry::objects::AuthorityId;
use spiffe::PrivateKey;

use super::{AuthorityKey, KeyStore, KeyStoreError};

/// Keys in memory alone. After a restart they are gone, and a new authority takes over.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<HashMap<AuthorityId, AuthorityKey>>);

impl KeyStore for Memory {
    fn make(&self) -> Result<AuthorityKey, KeyStoreError> {
        let failed = |source| KeyStoreError::Key { what: "cannot make a key".to_owned(), source };
        let private = PrivateKey::generate().map_err(failed)?;
        let key = AuthorityKey::new(&private).map_err(failed)?;
        self.0.lock().insert(key.id().clone(), key.clone());
        Ok(key)
    }

    fn find(&self, id: &AuthorityId) -> Result<Option<AuthorityKey>, KeyStoreError> {
        Ok(self.0.lock().get(id).cloned())
    }

    fn destroy(&self, id: &AuthorityId) -> Result<(), KeyStoreError> {
        self.0.lock().remove(id);
        Ok(())
    }

    fn keep_only(&self, ids: &[AuthorityId]) -> Result<(), KeyStoreError> {
        self.0.lock().retain(|id, _| ids.contains(id));
        Ok(())
    }
}
