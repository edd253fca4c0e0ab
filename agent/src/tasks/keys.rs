//! The keys of tenants, for digests of arguments: known to the server, and here in memory alone.

use std::{collections::HashMap, sync::Arc};

use audit::TenantKey;
use parking_lot::Mutex;
use registry::objects::TenantName;
use server_api::CallError;

use crate::upstream::Upstream;

/// Those that have been asked for. A tenant's key never changes.
pub(crate) struct Keys {
    upstream: Arc<Upstream>,
    known: Mutex<HashMap<TenantName, Arc<TenantKey>>>,
}

impl Keys {
    pub(super) fn of(upstream: Arc<Upstream>) -> Self {
        Self { upstream, known: Mutex::default() }
    }

    /// The key of a tenant. The server is asked once; it tells those that have an actor or a gate on this node.
    pub(crate) async fn get(&self, tenant: &TenantName) -> Result<Arc<TenantKey>, CallError> {
        if let Some(key) = self.known.lock().get(tenant) {
            return Ok(key.clone());
        }
        let bytes = self.upstream.tenant_key(tenant).await?;
        let key = Arc::new(TenantKey::new(*bytes));
        Ok(self.known.lock().entry(tenant.clone()).or_insert(key).clone())
    }
}
