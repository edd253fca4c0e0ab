//! Bundles of other trust domains, set by hand: SPIRE's `Bundle` service.

use std::path::Path;

use proto::spire::{
    server::bundle::v1::{
        BatchDeleteFederatedBundleRequest, BatchSetFederatedBundleRequest, ListFederatedBundlesRequest,
        batch_delete_federated_bundle_request::Mode, bundle_client::BundleClient,
    },
    types::Status as ItemStatus,
};
use registry::decide::bundle::Federating;
use spiffe::{TrustDomain, bundle::Bundle};
use tonic::{Code, transport::Channel};

use super::CallError;
use crate::{
    connect::{ConnectError, connect_private},
    wire::trust_bundle,
};

/// Speaks to a server for an administrator.
#[derive(Clone)]
pub struct Client(BundleClient<Channel>);

/// Bundles are asked for in pages of so many.
const PAGE: i32 = 100;
/// What a page of large bundles has at most.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

impl Client {
    /// Connects to the server's private socket.
    pub async fn connect(socket: &Path) -> Result<Self, ConnectError> {
        Ok(Self::new(connect_private(socket).await?))
    }

    /// A client over `channel`.
    pub fn new(channel: Channel) -> Self {
        Self(BundleClient::new(channel).max_decoding_message_size(MAX_ANSWER))
    }

    /// The bundles of other trust domains, by name.
    pub async fn list(&mut self) -> Result<Vec<Bundle>, CallError> {
        let mut bundles = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListFederatedBundlesRequest { page_size: PAGE, page_token, output_mask: None };
            let page = self.0.list_federated_bundles(request).await?.into_inner();
            for bundle in page.bundles {
                bundles.push(trust_bundle::from_wire(bundle)?);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(bundles);
            }
        }
    }

    /// Stores a bundle, in the place of the one that is there.
    pub async fn set(&mut self, bundle: &Bundle) -> Result<(), CallError> {
        let bundle = vec![trust_bundle::authorities_to_wire(bundle)];
        let request = BatchSetFederatedBundleRequest { bundle, output_mask: None };
        let results = self.0.batch_set_federated_bundle(request).await?.into_inner().results;
        done(results.into_iter().next().and_then(|result| result.status))
    }

    /// Deletes a bundle.
    pub async fn delete(&mut self, trust_domain: &TrustDomain, entries: Federating) -> Result<(), CallError> {
        let mode = match entries {
            Federating::Forbid => Mode::Restrict,
            Federating::Delete => Mode::Delete,
            Federating::Dissociate => Mode::Dissociate,
        };
        let trust_domains = vec![trust_domain.to_string()];
        let request = BatchDeleteFederatedBundleRequest { trust_domains, mode: mode.into() };
        let results = self.0.batch_delete_federated_bundle(request).await?.into_inner().results;
        done(results.into_iter().next().and_then(|result| result.status))
    }
}

fn done(status: Option<ItemStatus>) -> Result<(), CallError> {
    let status = status.ok_or_else(|| CallError::Nonsense("the result is missing".to_owned()))?;
    match Code::from_i32(status.code) {
        Code::Ok => Ok(()),
        code => Err(CallError::Refused { code, message: status.message }),
    }
}
