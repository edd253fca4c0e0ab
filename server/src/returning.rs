//! How a node comes back whose certificate counts no more: it answers a challenge with its key.
//!
//! Strangers may try, so nothing is looked up before the answer is known to be signed by the key of the
//! request, and who is not the node hears the same whether there is such a node or not.

use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use registry::decide::{node::NodeRefusal, returning::ReturnNode};
use spiffe::{
    SpiffeId,
    returning::{Challenge, NONCE_BYTES},
};
use tonic::Status;

use crate::{
    Server,
    attest::{Granted, issue, key_of, stopping, unavailable},
    callers::{Caller, turned_away},
    now,
};

/// What a node asked for, and what it must answer.
#[derive(Debug)]
pub(crate) struct Asked {
    id: String,
    csr: Vec<u8>,
    nonce: [u8; NONCE_BYTES],
}

/// No ID is longer (SPIFFE-ID standard, section 2.3), and no request either.
const MAX_ID: usize = 2048;
const MAX_CSR: usize = 16 * 1024;

impl Asked {
    /// Takes down what is asked for; nothing of it is believed or looked up.
    pub(crate) fn new(id: String, csr: Vec<u8>) -> Result<Self, Status> {
        if id.len() > MAX_ID || csr.len() > MAX_CSR {
            return Err(Status::invalid_argument("this is longer than any SPIFFE ID or certificate request"));
        }
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| Status::unavailable("the server cannot do this now; try again"))?;
        Ok(Self { id, csr, nonce })
    }

    /// What the node must sign.
    pub(crate) fn nonce(&self) -> &[u8; NONCE_BYTES] {
        &self.nonce
    }

    /// A certificate for the node, if the answer is its own.
    pub(crate) async fn answered(
        self,
        server: &Arc<Server>,
        caller: &Caller,
        signature: &[u8],
    ) -> Result<Granted, Status> {
        let granted = self.judge(server, caller, signature).await;
        match &granted {
            Ok(granted) => {
                server.figures.returned.increment();
                tracing::info!(node = %granted.id, "a node returned by its key");
            }
            // Counted, not recorded: the log must not grow by what strangers do.
            Err(_) => server.figures.refused_returns.increment(),
        }
        granted
    }

    async fn judge(self, server: &Arc<Server>, caller: &Caller, signature: &[u8]) -> Result<Granted, Status> {
        let unknown = || turned_away(NodeRefusal::NotAttested);
        let _place = server.joining.acquire().await.map_err(|_| stopping())?;
        let key = key_of(&self.csr)?;
        let id: SpiffeId = self.id.parse().map_err(|_| unknown())?;
        let challenge = Challenge { node: &id, nonce: &self.nonce, request: &self.csr };
        if !challenge.is_signed_by(&key.to_spki(), signature) {
            return Err(unknown());
        }
        let registry = server.ledger.current();
        registry.may_return(&id, &key.sha256(), now()).map_err(turned_away)?;
        let issued = issue(server, &id, &key)?; // nobody gets it before the log has it
        let (serial, not_after) = (issued.serial.clone(), issued.not_after);
        let command = ReturnNode { id: id.clone(), key_sha256: key.sha256(), serial, not_after };
        let returned = server.ledger.submit(command, caller.author()).await.map_err(unavailable)?;
        returned.map_err(turned_away)?;
        Ok(Granted { id, issued })
    }
}
