//! How this agent comes to its own certificate: with a token at first, with the present one while that
//! counts, and by its key alone when it counts no more.

use std::sync::{Arc, atomic::Ordering};

use attestors::node::agent as node_attestor;
use rustls_pki_types::CertificateDer;
use server_api::{CallError, attest, connect, node, wire::status::Reason};
use spiffe::{PrivateKey, SpiffeId, TrustDomain, returning::Challenge, tls, x509::svid};
use tonic::transport::Channel;

use super::{Trouble, Upstream, signer};
use crate::{clock, config::Secret, state::OwnCertificate, taint::Certified};

impl Upstream {
    /// The agent's certificate, if it counts now; else a new one, for the key or for the token.
    pub(super) async fn certified(
        &self,
        trust_domain: &TrustDomain,
    ) -> Result<(Arc<OwnCertificate>, Option<Certified>), Trouble> {
        if let Some(certificate) = self.usable(trust_domain) {
            return Ok((certificate, None));
        }
        let certified = self.certify(trust_domain).await?;
        let certificate =
            self.certificate().ok_or_else(|| Trouble::Unreachable("it is gone again".to_owned()))?;
        Ok((certificate, Some(certified)))
    }

    /// The certificate, if it is valid under the bundle that is trusted now, and the server takes it.
    fn usable(&self, trust_domain: &TrustDomain) -> Option<Arc<OwnCertificate>> {
        let certificate = self.certificate().filter(|_| !self.is_refused.load(Ordering::Acquire))?;
        let id = svid::verify(&certificate.chain, &self.bundles(), clock::now()).ok()?;
        id.is_in(trust_domain).then_some(certificate)
    }

    async fn certify(&self, trust_domain: &TrustDomain) -> Result<Certified, Trouble> {
        let known_as = self.certificate().map(|certificate| certificate.id.clone());
        // A SPIRE server knows a node by its certificate alone.
        let by_key = known_as.filter(|id| id.is_in(trust_domain) && self.spire.is_none());
        let out = match by_key {
            None => self.why_out(),
            Some(id) => match self.come_back(trust_domain, &id).await {
                Err(trouble @ (Trouble::Expelled(_) | Trouble::Hopeless(_))) => trouble,
                returned => return returned,
            },
        };
        if let Some(attestor) = &self.attestor {
            return self.attest(trust_domain, attestor).await.map_err(|trouble| match &out {
                // Whatever comes next, what this node knew must go.
                Trouble::Expelled(_) => out,
                _ => trouble,
            });
        }
        let token = self.token.read().map_err(|error| Trouble::Hopeless(error.to_string()))?;
        let Some(token) = token else { return Err(out) };
        self.join(trust_domain, &token).await.map_err(|trouble| match (&trouble, &out) {
            // Whatever comes next, what this node knew must go.
            (_, Trouble::Expelled(_)) => out,
            // That a spent token does not count again is not the reason why the agent is out.
            (Trouble::Hopeless(_), _) if self.was_known() => out,
            _ => trouble,
        })
    }

    /// Whether the server has known this node since the agent started.
    fn was_known(&self) -> bool {
        self.certificate().is_some() || self.expelled.lock().is_some()
    }

    fn why_out(&self) -> Trouble {
        let no_token = || {
            format!(
                "this agent has no valid certificate and no join token; run on the server: {}, and start the \
                 agent with what it prints",
                self.token_maker()
            )
        };
        Trouble::Hopeless(self.expelled.lock().clone().unwrap_or_else(no_token))
    }

    async fn join(&self, trust_domain: &TrustDomain, token: &Secret) -> Result<Certified, Trouble> {
        let key = self.key();
        let channel = self.connect_without_certificate(trust_domain).await?;
        let chain = attest::Client::new(channel).join(token.reveal().trim(), &request(&key)?).await?;
        let certified = self.take(trust_domain, chain, &key)?;
        tracing::info!(until = %certified.validity.until, "joined the server");
        Ok(certified)
    }

    /// Proves who this node is by something else than a token.
    async fn attest(
        &self,
        trust_domain: &TrustDomain,
        attestor: &node_attestor::Config,
    ) -> Result<Certified, Trouble> {
        let key = self.key();
        let shown = attestor.show().await.map_err(|error| Trouble::Hopeless(error.to_string()))?;
        let channel = self.connect_without_certificate(trust_domain).await?;
        let answer = |challenge: &[u8]| (shown.answer)(challenge).map_err(|error| error.to_string());
        let mut client = attest::Client::new(channel);
        let chain = client.attest(attestor.name(), shown.payload, &request(&key)?, answer).await?;
        let certified = self.take(trust_domain, chain, &key)?;
        tracing::info!(until = %certified.validity.until, attestor = attestor.name(), "attested");
        Ok(certified)
    }

    /// The server knows the node by its key, whatever has become of its certificate.
    async fn come_back(&self, trust_domain: &TrustDomain, id: &SpiffeId) -> Result<Certified, Trouble> {
        let key = self.key();
        let request = request(&key)?;
        let channel = self.connect_without_certificate(trust_domain).await?;
        let sign = |nonce: &_| Challenge { node: id, nonce, request: &request }.sign(&key);
        let returned = node::Client::new(channel).come_back(id, &request, sign).await;
        let chain = returned.map_err(|error| match &error {
            // It was away for too long. Its operator may let it in all the same, so it keeps its key.
            CallError::Agent { reason: Reason::AgentExpired, .. } => Trouble::Hopeless(error.to_string()),
            _ => self.turned_away(error),
        })?;
        let certified = self.take(trust_domain, chain.into_iter().map(Vec::from).collect(), &key)?;
        tracing::info!(until = %certified.validity.until, "came back to the server by this agent's key");
        Ok(certified)
    }

    async fn connect_without_certificate(&self, trust_domain: &TrustDomain) -> Result<Channel, Trouble> {
        let verifier = self.trust.verifier(trust_domain)?;
        let tls = tls::client_config(verifier, None).map_err(unusable)?;
        connect::connect(&self.address, Arc::new(tls)).await.map_err(unusable)
    }

    /// Has the certificate renewed over the connection that it is used on.
    pub(crate) async fn renew(&self) -> Result<Certified, Trouble> {
        let channel: Option<Channel> = self.channel.borrow().clone();
        let (channel, trust_domain) = channel
            .zip(self.trust.trust_domain())
            .ok_or_else(|| Trouble::Unreachable("there is no connection to the server".to_owned()))?;
        let key = self.key();
        let chain = attest::Client::new(channel).renew(&request(&key)?).await?;
        self.take(&trust_domain, chain, &key)
    }

    /// Believes a certificate no more than a stranger's, and keeps it.
    fn take(
        &self,
        trust_domain: &TrustDomain,
        chain: attest::Chain,
        key: &PrivateKey,
    ) -> Result<Certified, Trouble> {
        let chain: Vec<_> = chain.into_iter().map(CertificateDer::from).collect();
        let id = svid::verify(&chain, &self.bundles(), clock::now()).map_err(unusable)?;
        if !id.is_in(trust_domain) || !id.path().starts_with("/spire/agent/") {
            return Err(Trouble::Unreachable(format!("the server gave this agent the certificate of {id}")));
        }
        let mut certificate = OwnCertificate::new(chain, key).map_err(unusable)?;
        certificate.validity = certificate.validity.beginning_at(clock::now());
        self.adopt(certificate)
    }
}

fn request(key: &PrivateKey) -> Result<Vec<u8>, Trouble> {
    signer::request(key).map_err(unusable)
}

fn unusable(error: impl std::fmt::Display) -> Trouble {
    Trouble::Unreachable(error.to_string())
}
