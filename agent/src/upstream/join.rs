//! How this agent comes to its own certificate: with a token at first, with the present one later.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use server_api::{attest, connect};
use spiffe::{TrustDomain, tls, x509::svid};
use tonic::transport::Channel;

use super::{Trouble, Upstream};
use crate::{clock, rotation::Validity, state::OwnCertificate};

impl Upstream {
    /// The agent's certificate, if it is valid now; else a new one for the token.
    pub(super) async fn certified(
        &self,
        trust_domain: &TrustDomain,
    ) -> Result<(Arc<OwnCertificate>, Option<Validity>), Trouble> {
        let now = clock::now();
        if let Some(certificate) = self.certificate()
            && now < certificate.validity.until
            && certificate.id.is_in(trust_domain)
        {
            return Ok((certificate, None));
        }
        let validity = self.join(trust_domain).await?;
        let certificate =
            self.certificate().ok_or_else(|| Trouble::Unreachable("it is gone again".to_owned()))?;
        Ok((certificate, Some(validity)))
    }

    async fn join(&self, trust_domain: &TrustDomain) -> Result<Validity, Trouble> {
        let Some(token) = &self.token else {
            return Err(Trouble::Hopeless(
                "this agent has no valid certificate and no join token; run on the server: \
                 writ token create --node NAME, and start the agent with what it prints"
                    .to_owned(),
            ));
        };
        let verifier = self.trust.verifier(trust_domain)?;
        let tls = tls::client_config(verifier, None).map_err(unusable)?;
        let channel = connect::connect(&self.address, Arc::new(tls)).await.map_err(unusable)?;
        let joined = attest::Client::new(channel).join(token.reveal().trim(), &self.request()?).await;
        // That a spent token does not count again is not the reason why the agent is out.
        let chain = joined.map_err(|error| match (Trouble::from(error), self.expelled.lock().clone()) {
            (Trouble::Hopeless(_), Some(reason)) => Trouble::Hopeless(reason),
            (trouble, _) => trouble,
        })?;
        let validity = self.take(trust_domain, chain)?;
        *self.expelled.lock() = None;
        tracing::info!(until = %validity.until, "joined the server");
        Ok(validity)
    }

    /// Has the certificate renewed over the connection that it is used on.
    pub(crate) async fn renew(&self) -> Result<Validity, Trouble> {
        let channel: Option<Channel> = self.channel.lock().clone();
        let (channel, trust_domain) = channel
            .zip(self.trust.trust_domain())
            .ok_or_else(|| Trouble::Unreachable("there is no connection to the server".to_owned()))?;
        let chain = attest::Client::new(channel).renew(&self.request()?).await?;
        self.take(&trust_domain, chain)
    }

    /// A certificate for this agent's key. The server says whom it names.
    fn request(&self) -> Result<Vec<u8>, Trouble> {
        let key = KeyPair::try_from(self.key.pkcs8()).map_err(unusable)?;
        let request = CertificateParams::default().serialize_request(&key).map_err(unusable)?;
        Ok(request.der().to_vec())
    }

    /// Believes a certificate no more than a stranger's, and keeps it.
    fn take(&self, trust_domain: &TrustDomain, chain: attest::Chain) -> Result<Validity, Trouble> {
        let chain: Vec<_> = chain.into_iter().map(CertificateDer::from).collect();
        let id = svid::verify(&chain, &self.bundles(), clock::now()).map_err(unusable)?;
        if !id.is_in(trust_domain) || !id.path().starts_with("/spire/agent/") {
            return Err(Trouble::Unreachable(format!("the server gave this agent the certificate of {id}")));
        }
        let mut certificate = OwnCertificate::new(chain, &self.key).map_err(unusable)?;
        certificate.validity = certificate.validity.beginning_at(clock::now());
        self.adopt(certificate)
    }
}

fn unusable(error: impl std::fmt::Display) -> Trouble {
    Trouble::Unreachable(error.to_string())
}
