//! A Writ server: its changes are pushed, and every step that it takes becomes an input of the spine.

use std::{convert::Infallible, sync::Arc};

use registry::{LogId, Revision};
use server_api::{
    CallError, connect, node,
    wire::{delta::Change, status::Reason},
};
use spiffe::{TrustDomain, tls};
use tonic::transport::Channel;

use super::{News, Teller, Trouble, Upstream, trust::Hand};
use crate::spine::Input;

/// Connects, follows the view from `known` on, and tells everything until the connection is over.
pub(super) async fn follow(
    upstream: &Upstream,
    known: Option<(LogId, Revision)>,
    teller: &Teller,
) -> Result<Infallible, Trouble> {
    let trust_domain = match upstream.trust.trust_domain() {
        Some(trust_domain) => trust_domain,
        None => upstream.bootstrap(teller).await?,
    };
    let channel = match upstream.connect(&trust_domain, teller).await {
        // Its authorities may have changed while this agent was away; the pin says whether it is the same.
        Err(Trouble::Unreachable(why)) => match upstream.refresh_trust(teller).await? {
            true => upstream.connect(&trust_domain, teller).await?,
            false => return Err(Trouble::Unreachable(why)),
        },
        connected => connected?,
    };
    let mut client = node::Client::new(channel.clone());
    let known = known.as_ref().map(|(log, at)| (log, *at));
    let mut view = match client.follow(known, upstream.seen.head().as_ref()).await {
        Ok(view) => view,
        Err(error) => {
            let trouble = upstream.turned_away(error);
            // In TLS 1.3 a server that does not know the authority of this agent's certificate says so only
            // after the handshake: it was restored, or has revoked it. Its bundle shows that.
            if matches!(trouble, Trouble::Unreachable(_)) {
                upstream.refresh_trust(teller).await?;
            }
            return Err(trouble);
        }
    };
    upstream.channel.send_replace(Some(channel));
    teller.tell(News::Input(Input::Connected)).await;
    loop {
        let step = view.next().await.map_err(|error| upstream.cut_off(error))?;
        let step = step.ok_or_else(|| Trouble::Unreachable("the server ended the connection".to_owned()))?;
        // A bundle comes before the SVIDs under it.
        if let Some(signed) = step.bundle
            && upstream.trust.accept(signed, Hand::Server)?
        {
            teller.tell(News::Input(Input::Bundles(upstream.bundles()))).await;
        }
        upstream.seen.hear(&step.head);
        teller.tell(News::Heard).await;
        teller
            .tell(News::Input(match step.change {
                Change::Delta(delta) => Input::Delta(delta),
                Change::Snapshot(snapshot) => Input::Snapshot(snapshot),
            }))
            .await;
    }
}

impl Upstream {
    /// The first contact: whose server is it, and who vouches for that?
    async fn bootstrap(&self, teller: &Teller) -> Result<TrustDomain, Trouble> {
        self.trust.fetch(&self.address).await?;
        teller.tell(News::Input(Input::Bundles(self.bundles()))).await;
        self.trust
            .trust_domain()
            .ok_or_else(|| Trouble::Unreachable("the trust bundle is gone again".to_owned()))
    }

    /// Whether the server has another bundle now that the pin vouches for. Another pin is no way on.
    async fn refresh_trust(&self, teller: &Teller) -> Result<bool, Trouble> {
        let changed = match self.trust.fetch(&self.address).await {
            Err(Trouble::Unreachable(error)) => {
                tracing::debug!(error, "the trust bundle cannot be refreshed");
                false
            }
            fetched => fetched?,
        };
        if changed {
            teller.tell(News::Input(Input::Bundles(self.bundles()))).await;
        }
        Ok(changed)
    }

    /// A connection that is verified on both sides.
    pub(super) async fn connect(
        &self,
        trust_domain: &TrustDomain,
        teller: &Teller,
    ) -> Result<Channel, Trouble> {
        let failed = |error: &dyn std::fmt::Display| Trouble::Unreachable(error.to_string());
        let (certificate, new) = self.certified(trust_domain).await?;
        if let Some(certified) = new {
            teller.tell(News::Input(Input::Certified(certified))).await;
        }
        let identity =
            tls::fixed_identity(certificate.chain.clone(), &self.key()).map_err(|error| failed(&error))?;
        let verifier = self.trust.verifier(trust_domain)?;
        let tls = tls::client_config(verifier, Some(identity)).map_err(|error| failed(&error))?;
        connect::connect(&self.address, Arc::new(tls)).await.map_err(|error| failed(&error))
    }

    /// What it means when the server refuses an agent that it knew.
    pub(super) fn turned_away(&self, error: CallError) -> Trouble {
        let CallError::Agent { reason, .. } = &error else { return error.into() };
        match reason {
            Reason::AgentBanned | Reason::AgentNotAttested => self.expelled(error.to_string()),
            // Two agents use this key. Whichever this one is, it joins only with another.
            Reason::AgentMustReattest => {
                self.change_key();
                self.expelled(error.to_string())
            }
            // Another certificate is the node's now, or this one has ended: the key may get a new one.
            Reason::AgentNotActive | Reason::AgentExpired => {
                self.distrust_certificate();
                Trouble::Unreachable(error.to_string())
            }
            Reason::Unknown => Trouble::Unreachable(error.to_string()),
        }
    }

    /// What it means when the server ends a view that it had begun to show.
    fn cut_off(&self, error: CallError) -> Trouble {
        match &error {
            // Somebody else has used this node's name. The certificate is shown once more, so that the
            // server can tell whether it was with this node's key.
            CallError::Agent { reason: Reason::AgentNotActive, .. } => {
                Trouble::Unreachable(error.to_string())
            }
            _ => self.turned_away(error),
        }
    }
}
