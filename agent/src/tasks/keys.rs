//! The keys of tenants, for digests of arguments: known to the server, and here in memory alone. They are asked for where
//! the server is spoken with anyway, when a task begins and when it is heard from; a decision waits for none.

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

    /// The key of a tenant, if it was asked for.
    pub(crate) fn known(&self, tenant: &TenantName) -> Option<Arc<TenantKey>> {
        self.known.lock().get(tenant).cloned()
    }

    /// Asks for the key of a tenant, once. The server tells those of tenants that have an actor or a gate on this node.
    pub(super) async fn learn(&self, tenant: &TenantName) -> Result<(), CallError> {
        if self.known(tenant).is_none() {
            let key = TenantKey::new(*self.upstream.tenant_key(tenant).await?);
            self.known.lock().insert(tenant.clone(), Arc::new(key));
        }
        Ok(())
    }
}
